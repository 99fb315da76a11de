//! Reads the event log that the firmware leaves (docs/event-log.md, log version 1), and takes one form of it only.
//!
//! What is read is complete and in order: each event has the digest of its data and its own PCR, arrays are deterministic, the
//! events follow each other as documented, and nothing stands behind the last. Whether it is the log of a certain realm only
//! its measurements say: [`crate::rem`].
//!
//! Trust: anybody's bytes. Written from the document alone: it shares no code with the firmware's writer.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

pub mod describe;
mod device;
mod error;
mod event;
mod frame;
mod order;
mod tagged;
mod tcg;

pub use device::Device;
pub use error::{Flaw, LogError};
pub use event::{
    BundleFacts, DIGESTS, Data, DeviceSecurity, Disposition, Event, Function, Ids, Judgement, Mode, Outcome,
    Part, SessionFacts, State, Verdict,
};
pub use order::is_pci;
pub(crate) use tagged::{hash_name, ids as read_ids};

use crate::cursor::Cursor;
use gatehouse::digest::Digest;
use gatehouse::rsi::HashAlgorithm;

/// Largest log in bytes.
pub const MAX_LOG_BYTES: usize = 64 * 1024 * 1024;
/// Most events behind the Spec ID event.
pub const MAX_EVENTS: usize = 16 * 1024;
/// Most bytes of event data.
pub const MAX_EVENT_BYTES: usize = 1024 * 1024;

/// A log that is complete, in order and in its one form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventLog {
    /// Hash algorithm of the realm.
    pub algorithm: HashAlgorithm,
    /// The events behind the Spec ID event.
    pub events: Vec<Event>,
}

impl EventLog {
    /// Reads a whole log.
    ///
    /// # Errors
    /// [`LogError`]: number and name of the event, and what is wrong with it.
    pub fn read(bytes: &[u8]) -> Result<Self, LogError> {
        if bytes.len() > MAX_LOG_BYTES {
            return Err(LogError { event: 0, name: "", flaw: Flaw::LogTooLarge(bytes.len()) });
        }
        let mut cursor = Cursor(bytes);
        let algorithm = frame::spec_id(&mut cursor)?;
        let mut events = Vec::new();
        while !cursor.0.is_empty() {
            let number = events.len().saturating_add(1);
            let record = frame::record(&mut cursor, number, algorithm)?;
            let (name, data) = tcg::data(record.kind, record.data, algorithm);
            let wrong = |flaw| LogError { event: number, name, flaw };
            let data = data.map_err(wrong)?;
            if let Some(wanted) = data.pcr().filter(|wanted| *wanted != record.pcr) {
                return Err(wrong(Flaw::Pcr { found: record.pcr, wanted }));
            }
            events.push(Event { number, pcr: record.pcr, digest: record.digest.into(), data });
        }
        order::check(&events)?;
        Ok(Self { algorithm, events })
    }

    /// Tells whether bytes begin as a log does.
    #[must_use]
    pub fn is_like(bytes: &[u8]) -> bool {
        bytes.get(32..48) == Some(b"Spec ID Event03\0")
    }

    /// Returns the encoded policy.
    #[must_use]
    pub fn policy(&self) -> Option<&[u8]> {
        self.events.iter().find_map(|event| match &event.data {
            Data::Policy(bytes) => Some(bytes.as_slice()),
            _ => None,
        })
    }

    /// Returns the SHA-256 of the encoded policy, as the hand-off tree shows it.
    #[must_use]
    pub fn policy_id(&self) -> Option<Digest> {
        self.policy().map(|bytes| Digest::of(HashAlgorithm::Sha256, &[bytes]))
    }

    /// Returns the bundle.
    #[must_use]
    pub fn bundle(&self) -> Option<&BundleFacts> {
        self.events.iter().find_map(|event| match &event.data {
            Data::Bundle(bundle) => Some(bundle),
            _ => None,
        })
    }

    /// Returns the sessions, in the order of the log.
    pub fn sessions(&self) -> impl Iterator<Item = &SessionFacts> {
        self.events.iter().filter_map(|event| match &event.data {
            Data::Session(session) => Some(session),
            _ => None,
        })
    }

    /// Says what became of each function, each device besides PCI, and each rule that found too few.
    #[must_use]
    pub fn devices(&self) -> Vec<Device> {
        device::all(&self.events)
    }
}
