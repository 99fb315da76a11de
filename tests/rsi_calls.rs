//! The RSI client alone: each status is its own error, replies outside the ABI are refused, repetitions end.
mod common;

use common::script::*;
use gatehouse::abi::rsi::*;
use gatehouse::addr::{AddrError, IpaRange};
use gatehouse::arch::host::{RealmRam, ipa_width};
use gatehouse::rsi::*;

const STATUSES: [(u64, Status); 8] = [
    (1, Status::Input),
    (2, Status::State),
    (3, Status::Incomplete),
    (4, Status::Unknown),
    (5, Status::Device),
    (u64::MAX, Status::NotSupported),
    (6, Status::Other(6)),
    (0x5ead_beef, Status::Other(0x5ead_beef)),
];
const NONCES: Nonces = Nonces { lock: 11, measurement: 22, report: 33 };
/// What an RMM-side loop is allowed: one call, and 64 that get nowhere.
const BOUND: usize = 65;

/// A BAR of four pages.
fn bar() -> IpaRange {
    IpaRange::new(0x8000_0000, 0x4000).unwrap()
}

/// Makes calls on a machine that answers so; returns what came out and what was asked.
fn client<R>(
    answer: impl FnMut(&mut Regs, &mut dyn RealmRam),
    calls: impl FnOnce(&mut Client<'_, Scripted<'_>>) -> R,
) -> (R, Vec<Regs>) {
    let session = session();
    let mut platform = platform(answer);
    let result = calls(&mut Client::new(&mut platform, &session));
    (result, platform.machine.calls)
}

/// Answers each call with the next of these: x0, x1, x2; the last for ever.
fn replies(list: &[[u64; 3]]) -> impl FnMut(&mut Regs, &mut dyn RealmRam) + '_ {
    let mut next = 0;
    move |regs, _| {
        regs[..3].copy_from_slice(&list[next.min(list.len() - 1)]);
        next += 1;
    }
}

fn status(command: Command, status: Status) -> RsiError {
    RsiError::Status { command, status }
}

fn bad(command: Command, register: u16, value: u64) -> RsiError {
    RsiError::BadReply { command, register, value }
}

fn surrender() -> Surrender {
    Surrender::new(bar(), &session()).unwrap()
}

/// Validates the BAR on an RMM that answers so.
fn map(list: &[[u64; 3]]) -> (Result<(), MappingError>, Vec<Regs>) {
    client(replies(list), |c| c.vdev_validate_mapping(vdev(), bar(), 0x4000, NONCES))
}

type Call<'a> = &'a dyn Fn(&mut Client<'_, Scripted<'_>>) -> Option<RsiError>;

#[test]
fn each_status_of_each_call_is_its_own_error() {
    let rsi = |error: StateSetError| match error {
        StateSetError::Rsi(error) => error,
        other => panic!("{other}"),
    };
    let get_info: Call<'_> = &|c| c.vdev_get_info(vdev(), &mut InfoBuf::new().unwrap()).err();
    let validate: Call<'_> = &|c| match c.vdev_validate_mapping(vdev(), bar(), 0x4000, NONCES) {
        Err(MappingError::Rsi(error)) => Some(error),
        other => panic!("{other:?}"),
    };
    let calls: [(Command, Call<'_>, bool); 10] = [
        (Command::MeasurementRead, &|c| c.measurement_read(0).err(), false),
        (Command::MeasurementExtend, &|c| c.measurement_extend(1, &[1; 32]).err(), false),
        (Command::IpaStateGet, &|c| c.ipa_state_get(bar()).err(), false),
        (Command::IpaStateGet, &|c| c.ipa_state_is(bar(), Ripas::Dev).err(), false),
        (Command::IpaStateSet, &|c| c.give_up(surrender()).err().map(rsi), false),
        (Command::HostCall, &|c| c.host_call(&mut HostCallBuf::new().unwrap(), [0; 6]).err(), false),
        (Command::VdevGetInfo, get_info, true),
        (Command::VdevValidateMapping, validate, true),
        (Command::VdevDmaEnable, &|c| c.vdev_dma_enable(vdev(), NONCES).err(), true),
        (Command::VdevDmaDisable, &|c| c.vdev_dma_disable(vdev()).err(), true),
    ];
    for (command, call, repeats) in calls {
        for (raw, meaning) in STATUSES {
            let (error, asked) = client(replies(&[[raw, 0, 0]]), |c| call(c));
            assert_eq!(error, Some(status(command, meaning)), "{command:?} {raw:#x}");
            // "Call again" is repeated where the command can answer it, and not for ever.
            let times = if repeats && raw == RSI_INCOMPLETE { BOUND } else { 1 };
            assert_eq!(asked.len(), times, "{command:?} {raw:#x}");
            assert!(asked.iter().all(|regs| *regs == asked[0]), "the same call again");
        }
    }
}

#[test]
fn each_status_of_the_negotiation_is_its_own_error() {
    for (fid, command) in [
        (RSI_VERSION, Command::Version),
        (RSI_FEATURES, Command::Features),
        (RSI_REALM_CONFIG, Command::RealmConfig),
    ] {
        for (raw, meaning) in STATUSES {
            let mut platform = platform(|regs, ram| {
                if regs[0] == u64::from(fid.0) {
                    regs[..3].copy_from_slice(&[raw, 0x2_0000, 0x2_0003]);
                } else {
                    honest(regs, ram);
                }
            });
            let error = Session::negotiate(&mut platform, own()).unwrap_err();
            let wanted = match (command, meaning) {
                (Command::Version, Status::Input) => {
                    RsiError::NoVersion { lower: 0x2_0000, higher: 0x2_0003 }
                }
                _ => status(command, meaning),
            };
            assert_eq!(error, wanted);
        }
    }
}

/// Negotiates with an RMM that answers RSI_VERSION so: (status, lower, higher) for each version asked.
fn versions(answer: fn(u64) -> [u64; 3]) -> Result<u64, RsiError> {
    let mut platform = platform(|regs, ram| {
        if regs[0] == u64::from(RSI_VERSION.0) {
            let reply = answer(regs[1]);
            regs[..3].copy_from_slice(&reply);
        } else {
            honest(regs, ram);
        }
    });
    Session::negotiate(&mut platform, own()).map(|session| session.facts().version)
}

#[test]
fn version_1_1_is_taken_and_1_0_where_there_is_no_other() {
    assert_eq!(versions(|asked| [0, asked, 0x1_0001]), Ok(0x1_0001));
    let old = |asked| if asked == 0x1_0000 { [0, 0x1_0000, 0x1_0000] } else { [1, 0x1_0000, 0x1_0000] };
    assert_eq!(versions(old), Ok(0x1_0000));
    let none = |lower, higher| Err(RsiError::NoVersion { lower, higher });
    assert_eq!(versions(|_| [1, 0x1_0002, 0x2_0000]), none(0x1_0002, 0x2_0000));
    assert_eq!(versions(|_| [0, 0x1_0002, 0x1_0002]), none(0x1_0002, 0x1_0002));
    // Offered, then not kept.
    assert_eq!(versions(|_| [1, 0x1_0000, 0x1_0000]), none(0x1_0000, 0x1_0000));
    let other = |asked| if asked == 0x1_0000 { [0, 0x1_0001, 0] } else { [1, 0x1_0000, 0] };
    assert_eq!(versions(other), none(0x1_0001, 0));
}

fn config(own: IpaRange, width: u64, hash: u8) -> Result<Session, RsiError> {
    let mut platform = platform(|regs, ram| {
        let config = regs[1];
        let is_config = regs[0] == u64::from(RSI_REALM_CONFIG.0);
        honest(regs, ram);
        if is_config {
            put(ram, config, width);
            ram.write(config + 8, &[hash, 0xff, 0xff]);
        }
    });
    Session::negotiate(&mut platform, own)
}

#[test]
fn a_width_or_hash_that_no_realm_has_is_refused() {
    let (width, small) = (u64::from(ipa_width().bits()), IpaRange::new(0x4000_0000, 0x1000).unwrap());
    for bits in [0, 31, 53, 64, 256 + 48, u64::MAX] {
        assert_eq!(config(small, bits, 0).unwrap_err(), bad(Command::RealmConfig, 0x100, bits));
    }
    for bits in [32, 52] {
        assert_eq!(config(small, bits, 0).unwrap().width().bits(), u8::try_from(bits).unwrap());
    }
    for (raw, hash) in [(0, HashAlgorithm::Sha256), (1, HashAlgorithm::Sha512), (2, HashAlgorithm::Sha384)] {
        assert_eq!(config(own(), width, raw).unwrap().facts().hash, hash);
    }
    for raw in [3, 0xff] {
        assert_eq!(config(own(), width, raw).unwrap_err(), bad(Command::RealmConfig, 0x108, raw.into()));
    }
    // Own memory in the unprotected half.
    assert_eq!(config(own(), 44, 0).unwrap_err(), bad(Command::RealmConfig, 0x100, 44));
}

#[test]
fn a_realm_that_says_sha_512_and_has_a_shorter_rim_has_sha_384() {
    // Bytes 40 to 47, then those behind a SHA-384 digest.
    for (words, hash) in [
        ([7, 0, 0], HashAlgorithm::Sha384),
        ([0, 0, 1 << 63], HashAlgorithm::Sha512),
        ([7, 1, 0], HashAlgorithm::Sha512),
    ] {
        let mut platform = platform(|regs, ram| match regs[0] {
            fid if fid == u64::from(RSI_MEASUREMENT_READ.0) => {
                regs[..9].copy_from_slice(&[0, 1, 2, 3, 4, 5, words[0], words[1], words[2]]);
            }
            fid => {
                let config = regs[1];
                honest(regs, ram);
                if fid == u64::from(RSI_REALM_CONFIG.0) {
                    ram.write(config + 8, &[1]);
                }
            }
        });
        assert_eq!(Session::negotiate(&mut platform, own()).unwrap().facts().hash, hash, "{words:?}");
    }
}

#[test]
fn device_calls_are_not_made_without_device_assignment() {
    let mut platform = platform(|regs, ram| {
        let is_features = regs[0] == u64::from(RSI_FEATURES.0);
        honest(regs, ram);
        if is_features {
            regs[1] = !1;
        }
    });
    let session = Session::negotiate(&mut platform, own()).unwrap();
    platform.machine.calls.clear();
    let mut client = Client::new(&mut platform, &session);
    let none = RsiError::NoDeviceAssignment;
    assert_eq!(client.vdev_get_info(vdev(), &mut InfoBuf::new().unwrap()).unwrap_err(), none);
    let mapping = client.vdev_validate_mapping(vdev(), bar(), 0, NONCES);
    assert_eq!(mapping, Err(MappingError::Rsi(none)));
    assert_eq!(client.vdev_dma_enable(vdev(), NONCES), Err(none));
    assert_eq!(client.vdev_dma_disable(vdev()), Err(none));
    assert_eq!(session.require_device_assignment(), Err(none));
    assert!(platform.machine.calls.is_empty());
}

#[test]
fn ipa_state_get_must_move_on_inside_the_range() {
    let range = bar();
    let get = |top, ripas| client(replies(&[[0, top, ripas]]), |c| c.ipa_state_get(range)).0;
    let states = [Ripas::Empty, Ripas::Ram, Ripas::Destroyed, Ripas::Dev];
    for (raw, state) in (0..).zip(states) {
        assert_eq!(get(range.top(), raw), Ok((range.top(), state)));
    }
    for top in [0, range.base() - 0x1000, range.base(), range.base() + 1, range.top() + 0x1000, u64::MAX] {
        assert_eq!(get(top, 1), Err(bad(Command::IpaStateGet, 1, top)), "{top:#x}");
    }
    for ripas in [4, 0x100, u64::MAX] {
        assert_eq!(get(range.top(), ripas), Err(bad(Command::IpaStateGet, 2, ripas)));
    }
}

#[test]
fn a_state_counts_only_over_the_whole_range() {
    let base = bar().base();
    let page = |n: u64, ripas| [0, base + n * 0x1000, ripas];
    let is = |list: &[[u64; 3]]| client(replies(list), |c| c.ipa_state_is(bar(), Ripas::Dev));
    let (all, asked) = is(&[page(1, 3), page(2, 3), page(4, 3)]);
    assert_eq!(all, Ok(Ok(())));
    let asked: Vec<_> = asked.iter().map(|regs| [regs[1], regs[2]]).collect();
    assert_eq!(asked, [0, 0x1000, 0x2000].map(|at| [base + at, base + 0x4000]));
    assert_eq!(is(&[page(1, 3), page(4, 0)]).0, Ok(Err((base + 0x1000, Ripas::Empty))));
    assert_eq!(is(&[page(3, 3), page(4, 1)]).0, Ok(Err((base + 0x3000, Ripas::Ram))));
    // The second reply goes back.
    assert_eq!(is(&[page(2, 3), page(2, 3)]).0, Err(bad(Command::IpaStateGet, 1, base + 0x2000)));
}

#[test]
fn a_range_in_too_many_pieces_is_not_asked_for_ever() {
    let steps = 1 << 18;
    let is = |pages: u64| {
        let range = IpaRange::new(0x8000_0000, pages * 0x1000).unwrap();
        let page = |regs: &mut Regs, _: &mut dyn RealmRam| {
            (regs[0], regs[1], regs[2]) = (0, regs[1] + 0x1000, 3);
        };
        client(page, |c| c.ipa_state_is(range, Ripas::Dev)).0
    };
    assert_eq!(is(steps), Ok(Ok(())));
    assert_eq!(is(steps + 1), Err(RsiError::TooManySteps(0x8000_0000 + steps * 0x1000)));
}

#[test]
fn ipa_state_set_goes_on_from_where_the_rmm_stopped() {
    let base = bar().base();
    let list = [[0, base, 0], [0, base + 0x1000, 0], [0, base + 0x1000, 0], [0, base + 0x4000, 0]];
    let (result, asked) = client(replies(&list), |c| c.give_up(surrender()));
    assert_eq!(result, Ok(()));
    let args: Vec<_> = asked.iter().map(|regs| regs[1]).collect();
    assert_eq!(args, [base, base, base + 0x1000, base + 0x1000]);
    // EMPTY, and DESTROYED pages may change.
    assert!(asked.iter().all(|regs| regs[2..=4] == [base + 0x4000, 0, 1]));
}

#[test]
fn range_commands_refuse_an_impossible_next_address() {
    let range = bar();
    for next in [
        range.base() - 0x1000,
        0,
        range.base() + 0x800,
        range.top() - 1,
        range.top() + 0x1000,
        u64::MAX - 0xfff,
        u64::MAX,
    ] {
        // Rejected or not: the address comes first.
        for response in [0, 1] {
            let (result, asked) = client(replies(&[[0, next, response]]), |c| c.give_up(surrender()));
            assert_eq!(result, Err(StateSetError::Rsi(bad(Command::IpaStateSet, 1, next))), "{next:#x}");
            assert_eq!(asked.len(), 1);
            let (result, _) = map(&[[0, next, response]]);
            assert_eq!(result, Err(MappingError::Rsi(bad(Command::VdevValidateMapping, 1, next))));
        }
    }
}

#[test]
fn range_commands_end_when_rejected_or_stalled() {
    let range = bar();
    let (half, base) = (range.base() + 0x2000, range.base());
    for response in [1, 3, u64::MAX] {
        let reply = [[0, half, response]];
        assert_eq!(map(&reply).0, Err(MappingError::Rejected(half)));
        let (result, _) = client(replies(&reply), |c| c.give_up(surrender()));
        assert_eq!(result, Err(StateSetError::Rejected(half)));
    }
    // At the very end too.
    assert_eq!(map(&[[0, range.top(), 1]]).0, Err(MappingError::Rejected(range.top())));

    let (result, asked) = map(&[[0, base, 0]]);
    assert_eq!((result, asked.len()), (Err(MappingError::Stalled(base)), BOUND));
    let (result, asked) = client(replies(&[[0, base, 0]]), |c| c.give_up(surrender()));
    assert_eq!((result, asked.len()), (Err(StateSetError::Stalled(base)), BOUND));
    // One page is done first: the bound is that of the whole range.
    let (result, asked) = map(&[[0, half, 0]]);
    assert_eq!((result, asked.len()), (Err(MappingError::Stalled(half)), BOUND + 1));
}

#[test]
fn mapping_goes_on_with_matching_report_addresses_and_the_same_nonces() {
    let base = bar().base();
    let list = [[3, 0, 0], [0, base + 0x1000, 0], [0, base + 0x1000, 2], [0, base + 0x4000, 0]];
    let (result, asked) =
        client(replies(&list), |c| c.vdev_validate_mapping(vdev(), bar(), 0x7_0000, NONCES));
    assert_eq!(result, Ok(()));
    let args: Vec<_> = asked.iter().map(|regs| (regs[2], regs[4])).collect();
    let second = (base + 0x1000, 0x7_1000);
    assert_eq!(args, [(base, 0x7_0000), (base, 0x7_0000), second, second]);
    assert!(
        asked
            .iter()
            .all(|regs| regs[1] == 0x10 && regs[3] == base + 0x4000 && regs[5..=8] == [0, 11, 22, 33])
    );
    // A report address that would wrap on the way.
    let wraps = MappingError::Rsi(bad(Command::VdevValidateMapping, 1, base + 0x1000));
    let map =
        client(replies(&list[1..]), |c| c.vdev_validate_mapping(vdev(), bar(), u64::MAX - 0xfff, NONCES));
    assert_eq!(map.0, Err(wraps));
}

/// Layout D of a locked VDEV, with bytes changed.
fn info(change: &[(u64, u8)]) -> Result<VdevInfo, RsiError> {
    let answer = |regs: &mut Regs, ram: &mut dyn RealmRam| {
        let at = regs[2];
        assert!(at.is_multiple_of(0x200));
        ram.write(at, &[0; 0x200]);
        ram.write(at + 0x10, &[2]);
        for (offset, value) in [(0x18, 11), (0x20, 22), (0x28, 33), (0x38, 0x1_0000)] {
            put(ram, at + offset, value);
        }
        ram.write(at + 0x30, &[1]);
        ram.write(at + 0x40, &[1]);
        for (offset, byte) in [(0x80, 0xa0), (0xc0, 0xa1), (0x140, 0xa3), (0x180, 0xa4)] {
            ram.write(at + offset, &[byte; 64]);
        }
        for (offset, byte) in change {
            ram.write(at + offset, &[*byte]);
        }
        regs[0] = 0;
    };
    client(answer, |c| c.vdev_get_info(vdev(), &mut InfoBuf::new().unwrap())).0
}

#[test]
fn the_record_of_a_vdev_is_read_by_layout_d() {
    let found = info(&[]).unwrap();
    assert_eq!((found.state, found.hash, found.nonces), (VdevState::Locked, HashAlgorithm::Sha384, NONCES));
    let of = &found.digests;
    assert_eq!(
        [of.vca, of.certificate, of.measurement, of.report],
        [[0xa0; 64], [0xa1; 64], [0xa3; 64], [0xa4; 64]]
    );
    let states = [VdevState::Unlocked, VdevState::Locked, VdevState::Started, VdevState::Error];
    for (raw, state) in (0..).zip(states) {
        assert_eq!(info(&[(0x40, raw)]).unwrap().state, state);
    }
    for (raw, hash) in [(0, HashAlgorithm::Sha256), (1, HashAlgorithm::Sha512), (2, HashAlgorithm::Sha384)] {
        assert_eq!(info(&[(0x10, raw)]).unwrap().hash, hash);
    }
}

#[test]
fn a_record_outside_layout_d_is_refused_by_offset() {
    for (offset, byte, value) in [
        (0x30, 0, 0),
        (0x30, 2, 2),
        (0x38, 1, 0x1_0001),
        (0x3a, 2, 0x2_0000),
        (0x3f, 1, 0x100_0000_0001_0000),
        (0x40, 4, 4),
        (0x40, 0xff, 0xff),
        (0x10, 3, 3),
        (0x10, 0xff, 0xff),
    ] {
        let field = if offset == 0x3a || offset == 0x3f { 0x38 } else { offset };
        let register = u16::try_from(field).unwrap();
        assert_eq!(info(&[(offset, byte)]), Err(bad(Command::VdevGetInfo, register, value)), "{offset:#x}");
    }
}

#[test]
fn a_host_call_clears_what_was_there_and_returns_six_registers() {
    let mut buf = HostCallBuf::new().unwrap();
    let mut seen = Vec::new();
    let answer = |regs: &mut Regs, ram: &mut dyn RealmRam| {
        let at = regs[1];
        assert!(at.is_multiple_of(0x100));
        seen.push((0..32).map(|word| get(ram, at + 8 * word)).collect::<Vec<_>>());
        (0..32).for_each(|word| put(ram, at + 8 * word, 0x77 + word));
        regs[0] = 0;
    };
    let ((), _) = client(answer, |c| {
        for round in 0..2 {
            let reply = c.host_call(&mut buf, [1, 2, 3, 4, 5, round]).unwrap();
            assert_eq!(reply, [0x78, 0x79, 0x7a, 0x7b, 0x7c, 0x7d]);
        }
    });
    for (round, words) in (0..).zip(seen) {
        assert_eq!(words[..7], [0, 1, 2, 3, 4, 5, round]);
        assert_eq!(words[7..], [0; 25], "nothing of the last answer goes out again");
    }
}

#[test]
fn a_measurement_is_64_bytes_in_register_order() {
    let answer = |regs: &mut Regs, _: &mut dyn RealmRam| {
        assert_eq!(regs[1], 4);
        regs[0] = 0;
        (1..).zip(&mut regs[1..=8]).for_each(|(n, reg)| *reg = n << 56 | n);
    };
    let value = client(answer, |c| c.measurement_read(4)).0.unwrap();
    let wanted: Vec<u8> = (1..=8).flat_map(|n| [n, 0, 0, 0, 0, 0, 0, n]).collect();
    assert_eq!(value.as_slice(), wanted);
}

#[test]
fn memory_of_the_firmware_is_never_given_up() {
    let session = session();
    let (base, alias) = (own().base(), ipa_width().alias_bit());
    let range = |base, top| IpaRange::from_bounds(base, top).unwrap();
    let touches = range(base - 0x1000, base + 0x1000);
    let error = AddrError::BadRange { base: base - 0x1000, len: 0x2000 };
    assert_eq!(Surrender::new(touches, &session), Err(error));
    assert!(Surrender::new(range(base, base + 0x1000), &session).is_err());
    assert!(Surrender::new(range(base - 0x1000, base), &session).is_ok());
    let shared = range(alias, alias + 0x1000);
    assert_eq!(Surrender::new(shared, &session), Err(AddrError::NotProtected(alias + 0x1000)));
}

#[test]
fn own_pages_are_shared_and_taken_back_whole() {
    for align in [0x1000, 0x4000, 0x1_0000] {
        let pages = SharedPages::take(16, align).unwrap();
        assert!(pages.range().base().is_multiple_of(align) && pages.range().num_granules() == 16);
        let top = pages.range().top();
        let (result, asked) =
            client(replies(&[[0, top, 0]]), |c| c.share(&pages).and_then(|()| c.unshare(&pages)));
        assert_eq!(result, Ok(()));
        let args: Vec<_> = asked.iter().map(|regs| [regs[1], regs[2], regs[3], regs[4]]).collect();
        // To the host: only what is RAM. Back: whatever the host made of it.
        assert_eq!(args, [[pages.range().base(), top, 0, 0], [pages.range().base(), top, 1, 1]]);
    }
    assert!(SharedPages::take(u64::MAX, 0x1_0000).is_err());
}
