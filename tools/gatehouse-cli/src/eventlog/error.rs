//! What can be wrong with a log.

use crate::strict::CborError;
use thiserror::Error;

/// What is wrong, and with which event.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("event {event}{}: {flaw}", if name.is_empty() { String::new() } else { format!(" ({name})") })]
pub struct LogError {
    /// Number of the event; 0 is the Spec ID event.
    pub event: usize,
    /// Its name, as far as it is known.
    pub name: &'static str,
    /// What is wrong.
    pub flaw: Flaw,
}

/// What is wrong with an event.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Flaw {
    /// The log is larger than is taken.
    #[error("the log has {0} bytes, more than is taken")]
    LogTooLarge(usize),
    /// More events than are taken.
    #[error("more events than are taken")]
    TooMany,
    /// The log ends inside an event.
    #[error("the log ends inside it")]
    Truncated,
    /// A field of the Spec ID event is not as documented.
    #[error("{0} is not as documented")]
    SpecId(&'static str),
    /// A digest count other than one.
    #[error("{0} digests, one is documented")]
    Digests(u32),
    /// A digest of another algorithm than the log's.
    #[error("a digest of algorithm {0:#x}, which is not that of the log")]
    Algorithm(u16),
    /// More event data than is taken.
    #[error("{0} bytes of event data, more than is taken")]
    TooLarge(u32),
    /// An event type that has no place in this log.
    #[error("event type {0:#x} is not one of this log")]
    Type(u32),
    /// An id of a tagged event that is not known.
    #[error("tagged event {0:#x} is not one of this log")]
    Tag(u32),
    /// An event in another PCR than its own.
    #[error("PCR {found}, {wanted} is documented")]
    Pcr {
        /// PCR found.
        found: u32,
        /// PCR documented.
        wanted: u32,
    },
    /// The digest is not that of the event data.
    #[error("the digest is not the hash of the event data")]
    Digest,
    /// A field of a standard event is not as documented.
    #[error("{0} is not as documented")]
    Field(&'static str),
    /// An array that is not deterministic, or not as documented.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// Fields that contradict each other.
    #[error("{0}")]
    Contradiction(&'static str),
    /// It belongs elsewhere.
    #[error("it stands where {0} belongs")]
    Order(String),
    /// The log ends too early.
    #[error("the log ends where {0} belongs")]
    Missing(String),
    /// Something behind the last separator.
    #[error("it stands behind the last separator")]
    Behind,
}
