//! Pins: what does not change from one exchange with a device to the next. A payload that locks the device again compares
//! them; the measurement object itself has nonces and a signature, and its digest can never be one.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use crate::digest::Digest;
use crate::evidence::{Block, InterfaceReport};
use crate::rsi::HashAlgorithm;
use crate::sort;
use alloc::string::String;
use alloc::vec::Vec;

/// Pins of one device; the forms that are hashed are in docs/handoff.md.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins {
    /// SHA-384 of the leaf's SubjectPublicKeyInfo; `None` without a verified chain.
    pub leaf_key: Option<Digest>,
    /// SHA-384 of the certificate chain object; `None` without a verified chain.
    pub chain: Option<Digest>,
    /// SHA-384 of the measurement blocks, sorted by index: index, type with the raw bit, length (u16), value of each.
    pub measurements: Option<Digest>,
    /// SHA-384 of the normalised report: no MSI-X control, and addresses relative to the first range of the same id, so that
    /// neither the reporting offset nor the place of the BARs counts.
    pub report: Digest,
    /// Negotiated SPDM version and algorithms; empty without SPDM.
    pub algorithms: String,
}

const RAW: u8 = 0x80;

impl Pins {
    /// Makes the pins of accepted evidence.
    #[must_use]
    pub fn new(
        leaf_key: &[u8],
        chain: &[u8],
        blocks: &[Block<'_>],
        algorithms: &str,
        report: &InterfaceReport<'_>,
    ) -> Self {
        let sha384 = |bytes: &[u8]| Digest::of(HashAlgorithm::Sha384, &[bytes]);
        let is_verified = !leaf_key.is_empty();
        Self {
            leaf_key: is_verified.then(|| sha384(leaf_key)),
            chain: is_verified.then(|| sha384(chain)),
            measurements: (!blocks.is_empty()).then(|| sha384(&sorted(blocks))),
            report: sha384(&normalised(report)),
            algorithms: algorithms.into(),
        }
    }
}

/// Returns the blocks in the form that is hashed.
fn sorted(blocks: &[Block<'_>]) -> Vec<u8> {
    let mut order: Vec<&Block<'_>> = blocks.iter().collect();
    sort::by_key(&mut order, |block| block.index);
    let mut bytes = Vec::new();
    for block in order {
        let kind = if block.is_raw { block.kind | RAW } else { block.kind };
        let len = u16::try_from(block.value.len()).unwrap_or(u16::MAX);
        bytes.extend([block.index, kind]);
        bytes.extend(len.to_le_bytes());
        bytes.extend(block.value);
    }
    bytes
}

/// Returns the report in the form that is hashed; all numbers little-endian.
fn normalised(report: &InterfaceReport<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(report.info.bits().to_le_bytes());
    bytes.extend(report.lnr_control.to_le_bytes());
    bytes.extend(report.tph_control.to_le_bytes());
    bytes.extend(u32::try_from(report.ranges.len()).unwrap_or(u32::MAX).to_le_bytes());
    for range in &report.ranges {
        let first = report.ranges.iter().find(|first| first.id == range.id).map_or(0, |first| first.base);
        bytes.extend(range.base.wrapping_sub(first).to_le_bytes());
        bytes.extend(range.len.to_le_bytes());
        bytes.extend(range.attributes.bits().to_le_bytes());
        bytes.extend(range.id.to_le_bytes());
    }
    bytes.extend(report.vendor);
    bytes
}
