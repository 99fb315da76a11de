//! The encoded form of a policy: deterministic CBOR (RFC 8949, 4.2.1) with integer keys. docs/policy.md has the table.
//!
//! One policy has one encoding: defaults are left out, keys ascend, numbers and lengths have their shortest form. Any other
//! form of the same values is refused, so that what was reviewed and hashed is what is read.
//!
//! Trust: covered by the bundle's manifest; read like anything else. CBOR is read here and not by a library, because
//! strictness is the point: of the few lines that a library would save, each head's check for the shortest form comes back.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

mod read;
mod write;

use super::types::{Contradiction, MAX_POLICY_BYTES, Policy};
use crate::cbor::{ARRAY, BYTES, MAP, NEGATIVE, TEXT, UNSIGNED};
use alloc::vec::Vec;
use thiserror::Error;

/// Keys of the policy's map.
mod key {
    pub const VERSION: u8 = 0;
    pub const SVN: u8 = 1;
    pub const FLAGS: u8 = 2;
    pub const FLOOR: u8 = 3;
    pub const ANCHORS: u8 = 4;
    pub const DENIED_LEAF_KEYS: u8 = 5;
    pub const DENIED_SERIALS: u8 = 6;
    pub const RULES: u8 = 7;
}

/// Bits of the policy's flags.
mod flag {
    pub const AUDIT: u64 = 1;
    pub const NONCE_NOT_FORWARDED: u64 = 1 << 1;
    pub const REST_STOPS: u64 = 1 << 2;
    pub const ALL: u64 = (1 << 3) - 1;
}

/// Keys of a rule's map.
mod rule_key {
    pub const NAME: u8 = 0;
    pub const KIND: u8 = 1;
    pub const SLOTS: u8 = 2;
    pub const VENDOR: u8 = 3;
    pub const DEVICE: u8 = 4;
    pub const SUBSYSTEM_VENDOR: u8 = 5;
    pub const SUBSYSTEM: u8 = 6;
    pub const CLASS: u8 = 7;
    pub const VIRTIO: u8 = 8;
    pub const COMPATIBLE: u8 = 9;
    pub const SUBJECT: u8 = 10;
    pub const LEAF_KEYS: u8 = 11;
    pub const SERIALS: u8 = 12;
    pub const FLAGS: u8 = 13;
    pub const COUNT: u8 = 14;
    pub const EVIDENCE: u8 = 15;
    pub const MEASUREMENTS: u8 = 16;
    pub const REPORT: u8 = 17;
    pub const MODES: u8 = 18;
    pub const ON_FAILURE: u8 = 19;
}

/// Values of a rule's kind; devices leave the key out.
mod kind {
    pub const DEVICE: u64 = 0;
    pub const BRIDGE: u64 = 1;
    pub const VIRTIO_PCI: u64 = 2;
    pub const VIRTIO_MMIO: u64 = 3;
    pub const PLATFORM: u64 = 4;
}

/// Bits of a rule's flags.
mod rule_flag {
    pub const OPTIONAL: u64 = 1;
    pub const DEVICE_MODE_REQUIRED: u64 = 1 << 1;
    pub const DEBUG_ALLOWED: u64 = 1 << 2;
    pub const SAME_UNIT: u64 = 1 << 3;
    pub const QUIET_DEVICE: u64 = 1 << 4;
    pub const ALL: u64 = (1 << 5) - 1;
}

/// Bits of what a report may say, and of the quirks.
mod report {
    pub const FIRMWARE_UPDATE_ALLOWED: u64 = 1;
    pub const PASID_ALLOWED: u64 = 1 << 1;
    pub const NO_PLAIN_DMA_ALLOWED: u64 = 1 << 2;
    pub const ATS_ALLOWED: u64 = 1 << 3;
    pub const PRS_ALLOWED: u64 = 1 << 4;
    pub const NON_TEE_SHARED: u64 = 1 << 5;
    pub const RELATIVE: u64 = 1 << 8;
    pub const WHOLE_BAR: u64 = 1 << 9;
    pub const OMITTED_NON_TEE: u64 = 1 << 10;
    pub const HIGH_IDS: u64 = 1 << 11;
    pub const BYTE_ADDRESSES: u64 = 1 << 12;
    pub const DOUBLED_IDS: u64 = 1 << 13;
    pub const ALL: u64 = 0x3f3f;
}

/// Keys of a measurement reference's map.
mod reference_key {
    pub const INDEX: u8 = 0;
    pub const KIND: u8 = 1;
    pub const DIGESTS: u8 = 2;
    pub const VALUES: u8 = 3;
    pub const MIN_SVN: u8 = 4;
}

/// What is wrong with the form of an encoded policy.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Flaw {
    /// Larger than [`MAX_POLICY_BYTES`].
    #[error("too large")]
    TooLarge,
    /// The bytes end inside an item.
    #[error("truncated")]
    Truncated,
    /// Bytes behind the policy.
    #[error("bytes behind the end")]
    Trailing,
    /// Another type of item than belongs there, or one of indefinite length.
    #[error("wrong type")]
    Type,
    /// A number or length that is not in its shortest form.
    #[error("not the shortest form")]
    NotShortest,
    /// A number, length or set of bits outside its limits, or a default that is not left out.
    #[error("bad value")]
    Value,
    /// A key that is not known, stands twice or is out of order.
    #[error("bad key")]
    Key,
    /// A key that must be there is not.
    #[error("key missing")]
    Missing,
    /// Text that is not UTF-8.
    #[error("not UTF-8")]
    Utf8,
    /// A version that this reader does not know.
    #[error("unknown version")]
    Version,
}

/// Why bytes are not a policy.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PolicyError {
    /// Not the encoded form.
    #[error("byte {offset}: {flaw}")]
    Form {
        /// Where the offending item starts.
        offset: usize,
        /// What is wrong with it.
        flaw: Flaw,
    },
    /// Well formed, and contradicts itself.
    #[error("{0}")]
    Contradiction(Contradiction),
}

/// Encodes a policy. The same policy gives the same bytes; [`decode`] takes those and no others.
#[must_use]
pub fn encode(policy: &Policy) -> Vec<u8> {
    write::policy(policy)
}

/// Decodes and checks a policy.
///
/// # Errors
/// [`PolicyError`]: any bytes that [`encode`] does not make of a policy that [`Policy::check`] passes.
pub fn decode(bytes: &[u8]) -> Result<Policy, PolicyError> {
    if bytes.len() > MAX_POLICY_BYTES {
        return Err(PolicyError::Form { offset: MAX_POLICY_BYTES, flaw: Flaw::TooLarge });
    }
    let policy = read::whole(bytes)?;
    policy.check().map_err(PolicyError::Contradiction)?;
    Ok(policy)
}
