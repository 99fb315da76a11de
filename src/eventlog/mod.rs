//! The event log: what was measured, in the order in which it was extended (docs/event-log.md).
//!
//! [`Event`]s are made from what was decided by pure functions, the same in firmware and host tool. [`EventLog`] writes the
//! crypto-agile form of TCG. Extending is not done here: who holds the log extends first, then adds.
//!
//! Trust: nothing is read here. Names and numbers that the host chose go into events as they are, bounded where they were
//! read.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

mod device;
mod events;
mod evidence;
mod verdicts;

pub use device::{device_events, session};
pub use events::{
    BundleFacts, Disposition, Listed, Outcome, Verdict, bundle, function, outcome, policy, realm, separator,
    tree, verdict,
};
pub use evidence::{Collected, EvidenceRegion};
pub use verdicts::{Decided, Judged, verdicts};

use crate::abi::eventlog as abi;
use crate::conduit::OutOfMemory;
use crate::digest::Digest;
use crate::memory;
use crate::rsi::HashAlgorithm;
use alloc::vec::Vec;
use thiserror::Error;

/// Version of the events.
pub const LOG_VERSION: u64 = 1;
/// Largest log in bytes: the largest policy, and room for the events of as many functions as are taken.
pub const MAX_LOG_BYTES: usize = 1024 * 1024;

/// One event: where it is extended, what it is, what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// PCR; [`rem`] has the REM.
    pub pcr: u32,
    /// Event type.
    pub kind: u32,
    /// Event data.
    pub data: Vec<u8>,
}

impl Event {
    /// Hashes the event data: what is extended.
    #[must_use]
    pub fn digest(&self, hash: HashAlgorithm) -> Digest {
        Digest::of(hash, &[&self.data])
    }
}

/// Returns the index of RSI_MEASUREMENT_EXTEND for a PCR; `None`: nothing is extended (PCR 0 is the RIM).
#[must_use]
pub const fn rem(pcr: u32) -> Option<u8> {
    match pcr {
        0 => None,
        1 | 7 => Some(1),
        2..=6 => Some(2),
        8..=15 => Some(3),
        _ => Some(4),
    }
}

/// Why an event is not in the log.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LogError {
    /// [`MAX_LOG_BYTES`] are reached.
    #[error("the event log has no room for {0} bytes")]
    Full(usize),
    /// The heap.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

/// The log in its TCG form.
#[derive(Clone, Debug)]
pub struct EventLog {
    hash: HashAlgorithm,
    bytes: Vec<u8>,
}

impl EventLog {
    /// Begins a log with the Spec ID event. `hash`: of the realm.
    #[must_use]
    pub fn new(hash: HashAlgorithm) -> Self {
        let mut log = Self { hash, bytes: Vec::new() };
        let len = u16::try_from(hash.digest_len()).unwrap_or_default();
        let mut data = Vec::from(*abi::SPEC_ID);
        put32(&mut data, 1);
        put16(&mut data, algorithm(hash));
        put16(&mut data, len);
        // No vendor information.
        data.push(0);
        put32(&mut log.bytes, abi::PCR_RIM);
        put32(&mut log.bytes, abi::EV_NO_ACTION);
        log.bytes.extend_from_slice(&[0; abi::OLD_DIGEST_LEN]);
        put_sized(&mut log.bytes, &data);
        log
    }

    /// Returns the hash algorithm of the digests.
    #[must_use]
    pub fn hash(&self) -> HashAlgorithm {
        self.hash
    }

    /// Returns how many bytes the record of an event with `data_len` bytes has.
    #[must_use]
    pub fn record_len(&self, data_len: usize) -> usize {
        // PCR, type, number of digests, algorithm, digest, size.
        data_len.saturating_add(18).saturating_add(self.hash.digest_len())
    }

    /// Adds the record of an event that was extended.
    ///
    /// # Errors
    /// [`LogError`], with the log as it was.
    pub fn add(&mut self, event: &Event, digest: &Digest) -> Result<(), LogError> {
        let len = self.record_len(event.data.len());
        if self.bytes.len().saturating_add(len) > MAX_LOG_BYTES {
            return Err(LogError::Full(len));
        }
        memory::grow(&mut self.bytes, len)?;
        put32(&mut self.bytes, event.pcr);
        put32(&mut self.bytes, event.kind);
        put32(&mut self.bytes, 1);
        put16(&mut self.bytes, algorithm(self.hash));
        self.bytes.extend_from_slice(digest.as_bytes());
        put_sized(&mut self.bytes, &event.data);
        Ok(())
    }

    /// Returns the log so far.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

const fn algorithm(hash: HashAlgorithm) -> u16 {
    match hash {
        HashAlgorithm::Sha256 => abi::ALG_SHA256,
        HashAlgorithm::Sha384 => abi::ALG_SHA384,
        HashAlgorithm::Sha512 => abi::ALG_SHA512,
    }
}

#[inline(never)]
fn put16(out: &mut Vec<u8>, n: u16) {
    out.extend_from_slice(&n.to_le_bytes());
}

#[inline(never)]
fn put32(out: &mut Vec<u8>, n: u32) {
    out.extend_from_slice(&n.to_le_bytes());
}

#[inline(never)]
fn put64(out: &mut Vec<u8>, n: u64) {
    out.extend_from_slice(&n.to_le_bytes());
}

/// Adds the length (u32) and the bytes.
#[inline(never)]
fn put_sized(out: &mut Vec<u8>, bytes: &[u8]) {
    put32(out, u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.extend_from_slice(bytes);
}
