//! REM extension and the attestation token: what goes out, what comes back in pieces, and where it ends.
mod common;

use common::script::*;
use gatehouse::abi::rsi::*;
use gatehouse::arch::host::RealmRam;
use gatehouse::rsi::*;

/// How often the RMM may bring nothing.
const WAITS: usize = 100_000;

fn extend(index: u8, value: &[u8]) -> Regs {
    let session = session();
    let mut platform = platform(|regs, _| regs[0] = 0);
    Client::new(&mut platform, &session).measurement_extend(index, value).unwrap();
    let [asked] = platform.machine.calls[..] else { panic!("one call") };
    asked
}

#[test]
fn a_rem_is_extended_by_what_was_given_and_nothing_else() {
    for len in [0, 1, 7, 8, 9, 32, 48, 63, 64] {
        let value: Vec<u8> = (1..=len).collect();
        let asked = extend(4, &value);
        assert_eq!(asked[..3], [u64::from(RSI_MEASUREMENT_EXTEND.0), 4, len.into()]);
        let sent: Vec<u8> = asked[3..].iter().flat_map(|register| register.to_le_bytes()).collect();
        let (head, tail) = sent.split_at(value.len());
        assert_eq!(head, value);
        assert!(tail.iter().all(|byte| *byte == 0), "{len}");
    }
    // Too long or no REM: the RMM refuses by size and index, which go out as they are.
    assert_eq!(extend(0, &[1; 65])[..3], [u64::from(RSI_MEASUREMENT_EXTEND.0), 0, 65]);
}

/// Reads a token from an RMM that announces `bound`, then answers CONTINUE so: status, bytes; the last for ever.
/// The bytes of the token count up.
fn token(bound: u64, pieces: &[(u64, u64)]) -> (Result<Vec<u8>, TokenError>, Vec<Regs>) {
    let challenge: Vec<u8> = (0..64).collect();
    let session = session();
    let (mut turn, mut sent) = (0, 0);
    let answer = |regs: &mut Regs, ram: &mut dyn RealmRam| {
        if regs[0] == u64::from(RSI_ATTESTATION_TOKEN_INIT.0) {
            let asked: Vec<u8> = regs[1..=8].iter().flat_map(|register| register.to_le_bytes()).collect();
            assert_eq!(asked, challenge);
            return (regs[0], regs[1]) = (0, bound);
        }
        let [fid, granule, offset, size, ..] = *regs;
        assert_eq!(fid, u64::from(RSI_ATTESTATION_TOKEN_CONTINUE.0));
        assert!(granule.is_multiple_of(4096) && offset < 4096 && offset + size == 4096, "{offset} {size}");
        let (status, len) = pieces[turn.min(pieces.len() - 1)];
        turn += 1;
        let bytes: Vec<u8> = (sent..sent + len.min(size)).map(|at| at as u8).collect();
        ram.write(granule + offset, &bytes);
        sent += len.min(size);
        (regs[0], regs[1]) = (status, len);
    };
    let mut platform = platform(answer);
    let challenge = challenge.as_slice().try_into().unwrap();
    let result = Client::new(&mut platform, &session).attestation_token(challenge);
    (result, platform.machine.calls)
}

fn counted(len: u64) -> Vec<u8> {
    (0..len).map(|at| at as u8).collect()
}

#[test]
fn a_token_comes_in_pieces_of_granules() {
    for pieces in [
        &[(0, 1)][..],
        &[(0, 4096)],
        &[(3, 0), (3, 0), (0, 100)],
        &[(3, 100), (3, 0), (3, 3996), (3, 4096), (0, 7)],
        &[(3, 4096), (3, 4096), (0, 4096)],
        // All of it is there before the RMM says so.
        &[(3, 4096), (0, 0)],
        &[(3, 50), (0, 0)],
    ] {
        let len = pieces.iter().map(|piece| piece.1).sum();
        for bound in [len, MAX_TOKEN_SIZE] {
            let (result, asked) = token(bound, pieces);
            assert_eq!(result, Ok(counted(len)), "{pieces:?}");
            assert_eq!(asked.len(), 1 + pieces.len());
        }
    }
    let whole: Vec<_> = (0..16).map(|piece| (if piece == 15 { 0 } else { 3 }, 4096)).collect();
    assert_eq!(token(MAX_TOKEN_SIZE, &whole).0, Ok(counted(MAX_TOKEN_SIZE)));
}

#[test]
fn a_token_of_impossible_size_is_not_read() {
    for bound in [0, MAX_TOKEN_SIZE + 1, u64::MAX] {
        let (result, asked) = token(bound, &[(0, 1)]);
        assert_eq!(result, Err(TokenError::Size(bound)));
        assert_eq!(asked.len(), 1);
    }
}

#[test]
fn a_token_that_breaks_its_own_bounds_is_refused() {
    let command = Command::AttestationTokenContinue;
    let bad = |value| Err(TokenError::Rsi(RsiError::BadReply { command, register: 1, value }));
    for status in [0, 3] {
        // More than the room in the granule, more than announced.
        assert_eq!(token(8192, &[(status, 4097)]).0, bad(4097));
        assert_eq!(token(8192, &[(3, 96), (status, 4001)]).0, bad(4001));
        assert_eq!(token(8192, &[(status, u64::MAX)]).0, bad(u64::MAX));
        assert_eq!(token(100, &[(3, 60), (status, 41)]).0, bad(41));
    }
    // Finished without a byte.
    assert_eq!(token(100, &[(3, 0), (0, 0)]).0, bad(0));
}

#[test]
fn a_token_without_end_is_left() {
    let (result, asked) = token(100, &[(3, 10), (3, 0)]);
    assert_eq!(result, Err(TokenError::Endless { received: 10 }));
    assert_eq!(asked.len(), 1 + 1 + WAITS + 1);
}

#[test]
fn a_token_that_fails_half_way_is_its_status() {
    for (raw, status) in [(1, Status::Input), (2, Status::State), (4, Status::Unknown), (6, Status::Other(6))]
    {
        let error = RsiError::Status { command: Command::AttestationTokenContinue, status };
        assert_eq!(token(100, &[(3, 10), (raw, 5)]).0, Err(TokenError::Rsi(error)));
    }
}
