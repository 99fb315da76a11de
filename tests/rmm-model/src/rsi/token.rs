//! RSI_ATTESTATION_TOKEN_INIT and CONTINUE (`rsi.md` 3.6, `attestation.md` 5). An operation belongs to its REC.

use alloc::vec::Vec;

use super::Reply;
use crate::abi::rsi::*;
use crate::board::PAGE;
use crate::digest::{HashAlgorithm, from_hex};
use crate::machine::Machine;
use crate::model::Model;
use crate::stage2::Stuck;

/// A token that a REC is reading.
pub(crate) struct Token {
    bytes: Vec<u8>,
    /// Bytes delivered.
    done: usize,
    /// CONTINUE calls before the signature is made.
    signing: u32,
    /// CONTINUE calls so far.
    calls: u32,
}

impl Model {
    /// RSI_ATTESTATION_TOKEN_INIT: a new operation; the one in progress is lost. A realm without token gets
    /// ERROR_UNKNOWN, which leaves no operation.
    pub(super) fn token_init(&mut self, rec: usize, args: &[u64; 10]) -> Reply {
        let realm = &self.scenario.realm;
        let challenge: Vec<u8> = args[..8].iter().flat_map(|word| word.to_le_bytes()).collect();
        let given = from_hex(&realm.token).filter(|bytes| !bytes.is_empty());
        let bytes = match (given, realm.token_len) {
            (Some(bytes), _) => bytes,
            (None, Some(len)) => generate(self.scenario.seed, &challenge, len as usize),
            (None, None) => self.cca_token(&challenge),
        };
        let signing = realm.token_stalls;
        if bytes.is_empty() {
            self.recs[rec].token = None;
            return Reply::with(RSI_ERROR_UNKNOWN, &[0]);
        }
        let most = (bytes.len() as u64).next_multiple_of(PAGE);
        self.recs[rec].token = Some(Token { bytes, done: 0, signing, calls: 0 });
        Reply::with(RSI_SUCCESS, &[most])
    }

    /// RSI_ATTESTATION_TOKEN_CONTINUE: writes what fits; the call that delivers the last byte is SUCCESS.
    pub(super) fn token_continue(
        &mut self,
        rec: usize,
        args: &[u64; 10],
        m: &mut dyn Machine,
    ) -> Result<Reply, Stuck> {
        let [ipa, offset, size, ..] = *args;
        let fits = offset < PAGE && offset.checked_add(size).is_some_and(|end| end <= PAGE);
        if ipa % PAGE != 0 || !self.buffer(ipa, PAGE)? || !fits {
            return Ok(Reply::with(RSI_ERROR_INPUT, &[0]));
        }
        let (step, every) = (self.scenario.realm.token_step, self.scenario.realm.token_interrupts);
        let slot = &mut self.recs[rec].token;
        let Some(token) = slot else {
            return Ok(Reply::with(RSI_ERROR_STATE, &[0]));
        };
        token.calls = token.calls.wrapping_add(1);
        if token.signing > 0 {
            token.signing -= 1;
            return Ok(Reply::with(RSI_INCOMPLETE, &[0]));
        }
        if every != 0 && token.calls.is_multiple_of(every) {
            return Ok(Reply::with(RSI_INCOMPLETE, &[0]));
        }
        let mut len = (token.bytes.len() - token.done).min(size as usize);
        if step != 0 {
            len = len.min(step as usize);
        }
        let end = token.done + len;
        m.write(ipa + offset, &token.bytes[token.done..end]);
        token.done = end;
        let is_over = end == token.bytes.len();
        if is_over {
            *slot = None;
        }
        Ok(Reply::with(if is_over { RSI_SUCCESS } else { RSI_INCOMPLETE }, &[len as u64]))
    }
}

/// Opaque bytes that depend on seed and challenge.
fn generate(seed: u64, challenge: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for block in 0..len.div_ceil(32) as u64 {
        let parts = [&seed.to_le_bytes()[..], challenge, &block.to_le_bytes()];
        bytes.extend(HashAlgorithm::Sha256.digest(&parts));
    }
    bytes.truncate(len);
    bytes
}
