//! Measurement blocks: their form, the device mode among them, and the comparison with reference values of a policy.
//!
//! Trust: the device's bytes; what they say counts only after the signature over them. References come from the measured
//! bundle.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::vca::split;
use crate::abi::spdm as abi;
use crate::policy::types::{Reference, ReferenceValue};
use crate::rsi::HashAlgorithm;
use thiserror::Error;
use zerocopy::FromBytes;

/// Why a block is not sound.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BlockError {
    /// The record ends inside a block, or there are fewer than announced.
    #[error("measurement record ends {0} bytes into a block")]
    Short(usize),
    /// An index that no block can have.
    #[error("measurement block with index {0:#x}")]
    Index(u8),
    /// Two blocks with one index.
    #[error("measurement block {0:#x} twice")]
    Twice(u8),
    /// Not of the DMTF measurement specification.
    #[error("measurement block {index:#x}: specification {specification:#x}")]
    Specification {
        /// Index of the block.
        index: u8,
        /// What stood there.
        specification: u8,
    },
    /// The size of the value is not what the size of the block leaves.
    #[error("measurement block {index:#x}: {size} bytes for a value of {value_size}")]
    Size {
        /// Index of the block.
        index: u8,
        /// Bytes behind the common part.
        size: u16,
        /// Bytes of the value.
        value_size: u16,
    },
    /// A digest that does not have the length of the negotiated measurement hash, or where only raw values were negotiated.
    #[error("measurement block {index:#x}: digest of {len} bytes")]
    DigestLength {
        /// Index of the block.
        index: u8,
        /// Bytes of the value.
        len: usize,
    },
}

/// One measurement block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block<'a> {
    /// Index, 1..=0xFE.
    pub index: u8,
    /// Value type: DMTFSpecMeasurementValueType, bits 6:0.
    pub kind: u8,
    /// The value itself, not its digest.
    pub is_raw: bool,
    /// The value, or its digest by the negotiated measurement hash.
    pub value: &'a [u8],
}

impl<'a> Block<'a> {
    /// Takes one block off the front of `record`. `hash`: measurement hash.
    pub(super) fn take(record: &mut &'a [u8], hash: Option<HashAlgorithm>) -> Result<Self, BlockError> {
        let short = BlockError::Short(record.len());
        let (header, rest) = abi::BlockHeader::ref_from_prefix(record).map_err(|_| short)?;
        let (index, specification) = (header.index, header.specification);
        if index == 0 || index > abi::MAX_BLOCK_INDEX {
            return Err(BlockError::Index(index));
        }
        if specification != abi::MEASUREMENT_SPECIFICATION_DMTF {
            return Err(BlockError::Specification { index, specification });
        }
        let (size, value_size) = (header.size.get(), header.value_size.get());
        if value_size.checked_add(3) != Some(size) {
            return Err(BlockError::Size { index, size, value_size });
        }
        *record = rest;
        let value = split(record, value_size.into()).ok_or(short)?;
        let is_raw = header.kind & abi::VALUE_RAW != 0;
        if !is_raw && hash.map(HashAlgorithm::digest_len) != Some(value.len()) {
            return Err(BlockError::DigestLength { index, len: value.len() });
        }
        Ok(Self { index, kind: header.kind & !abi::VALUE_RAW, is_raw, value })
    }

    fn must_be(&self, wanted: u8) -> Result<(), MeasurementError> {
        let (index, found) = (self.index, self.kind);
        if found == wanted { Ok(()) } else { Err(MeasurementError::Type { index, found, wanted }) }
    }

    /// Returns the value of a raw block of `kind`.
    fn raw(&self, kind: u8) -> Result<&'a [u8], MeasurementError> {
        self.must_be(kind)?;
        if self.is_raw { Ok(self.value) } else { Err(MeasurementError::Form { index: self.index }) }
    }

    /// Reads a security version number: raw, 8 bytes.
    ///
    /// # Errors
    /// [`MeasurementError::Type`], [`MeasurementError::Form`].
    pub fn security_version(&self) -> Result<u64, MeasurementError> {
        let bytes = self.raw(abi::KIND_SECURITY_VERSION)?.try_into();
        bytes.map(u64::from_le_bytes).map_err(|_| MeasurementError::Form { index: self.index })
    }
}

/// Why measurements are not what they must be.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum MeasurementError {
    /// There is no block with this index.
    #[error("measurement {index:#x} is not there")]
    NotFound {
        /// Index of the block.
        index: u8,
    },
    /// The block is of another type.
    #[error("measurement {index:#x} is of type {found}, {wanted} is needed")]
    Type {
        /// Index of the block.
        index: u8,
        /// Value type found.
        found: u8,
        /// Value type needed.
        wanted: u8,
    },
    /// The value has another form: a digest where a number is needed, another length, or a digest by an algorithm of
    /// which the policy has none.
    #[error("measurement {index:#x} does not have the form that can be compared")]
    Form {
        /// Index of the block.
        index: u8,
    },
    /// The value is none of those that the policy takes.
    #[error("measurement {index:#x} has a value that is not in the reference")]
    Mismatch {
        /// Index of the block.
        index: u8,
    },
    /// The security version is too low.
    #[error("measurement {index:#x}: security version {found}, at least {wanted} is needed")]
    SvnTooLow {
        /// Index of the block.
        index: u8,
        /// Security version found.
        found: u64,
        /// Security version needed.
        wanted: u64,
    },
    /// A second device mode block.
    #[error("measurement {index:#x} is a second device mode")]
    SecondDeviceMode {
        /// Index of the second block.
        index: u8,
    },
}

/// Checks that each of `references` is there and fits. `measurement_hash`: of [`super::Vca`].
///
/// # Errors
/// [`MeasurementError`] of the first reference that does not fit.
pub fn check_references(
    references: &[Reference],
    blocks: &[Block<'_>],
    measurement_hash: Option<HashAlgorithm>,
) -> Result<(), MeasurementError> {
    references.iter().try_for_each(|reference| check_reference(reference, blocks, measurement_hash))
}

fn check_reference(
    reference: &Reference,
    blocks: &[Block<'_>],
    measurement_hash: Option<HashAlgorithm>,
) -> Result<(), MeasurementError> {
    let index = reference.index;
    let block =
        blocks.iter().find(|block| block.index == index).ok_or(MeasurementError::NotFound { index })?;
    if let Some(wanted) = reference.kind {
        block.must_be(wanted)?;
    }
    let fits = match &reference.value {
        ReferenceValue::Digests(digests) if block.is_raw => digests.iter().any(|d| d.matches(block.value)),
        ReferenceValue::Digests(digests) => {
            let len = measurement_hash.map(HashAlgorithm::digest_len);
            let mut comparable = digests.iter().filter(|d| Some(d.as_bytes().len()) == len).peekable();
            if comparable.peek().is_none() {
                return Err(MeasurementError::Form { index });
            }
            comparable.any(|d| d.as_bytes() == block.value)
        }
        ReferenceValue::Values(values) => values.iter().any(|value| value == block.value),
        ReferenceValue::MinSvn(wanted) => {
            let (found, wanted) = (block.security_version()?, *wanted);
            if found < wanted {
                return Err(MeasurementError::SvnTooLow { index, found, wanted });
            }
            true
        }
    };
    if fits { Ok(()) } else { Err(MeasurementError::Mismatch { index }) }
}

/// What a device says about its own state ("Device mode field of a measurement block").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceMode {
    /// Operational modes that it can report.
    pub operational_capabilities: u32,
    /// Operational mode.
    pub operational_state: u32,
    /// Device modes that it can report.
    pub device_capabilities: u32,
    /// Device modes.
    pub device_state: u32,
}

/// The bytes are not four words.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("device mode of {0} bytes, 16 are needed")]
pub struct BadDeviceMode(pub usize);

impl DeviceMode {
    /// Reads the raw value of a device mode block.
    ///
    /// # Errors
    /// [`BadDeviceMode`].
    pub fn parse(value: &[u8]) -> Result<Self, BadDeviceMode> {
        let raw = abi::DeviceMode::ref_from_bytes(value).map_err(|_| BadDeviceMode(value.len()))?;
        Ok(Self {
            operational_capabilities: raw.operational_capabilities.get(),
            operational_state: raw.operational_state.get(),
            device_capabilities: raw.device_capabilities.get(),
            device_state: raw.device_state.get(),
        })
    }

    /// Finds and reads the device mode among `blocks`: what stands at its index, or has its type.
    ///
    /// # Errors
    /// [`MeasurementError::Type`], [`MeasurementError::Form`], [`MeasurementError::SecondDeviceMode`].
    pub fn find(blocks: &[Block<'_>]) -> Result<Option<Self>, MeasurementError> {
        let mut found = None;
        for block in blocks {
            if block.index != abi::INDEX_DEVICE_MODE && block.kind != abi::KIND_DEVICE_MODE {
                continue;
            }
            let index = block.index;
            let value = block.raw(abi::KIND_DEVICE_MODE)?;
            let mode = Self::parse(value).map_err(|_| MeasurementError::Form { index })?;
            if found.replace(mode).is_some() {
                return Err(MeasurementError::SecondDeviceMode { index });
            }
        }
        Ok(found)
    }

    /// Tells whether debug is on, or was since the last reset.
    #[must_use]
    pub const fn is_debug(&self) -> bool {
        let debug = abi::DEBUG_NON_INVASIVE
            | abi::DEBUG_INVASIVE
            | abi::DEBUG_NON_INVASIVE_BEFORE
            | abi::DEBUG_INVASIVE_BEFORE;
        self.device_state & debug != 0
    }

    /// Tells whether invasive debug was ever on since the device left manufacturing.
    #[must_use]
    pub const fn was_opened(&self) -> bool {
        self.device_state & abi::DEBUG_INVASIVE_EVER != 0
    }

    /// Tells whether the device is in normal operation: not manufacturing, validation, recovery, return or decommissioned.
    #[must_use]
    pub const fn is_normal(&self) -> bool {
        self.operational_state == abi::OPERATIONAL_NORMAL
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::Digest;

    const HASH: Option<HashAlgorithm> = Some(HashAlgorithm::Sha384);

    fn digest(algorithm: HashAlgorithm, data: &[u8]) -> Digest {
        Digest::of(algorithm, &[data])
    }

    fn block(index: u8, kind: u8, is_raw: bool, value: &[u8]) -> Block<'_> {
        Block { index, kind, is_raw, value }
    }

    fn check(block: Block<'_>, kind: Option<u8>, value: ReferenceValue) -> Result<(), MeasurementError> {
        check_references(
            &[Reference { index: 3, kind, value }],
            &[self::block(1, 9, true, b"other"), block],
            HASH,
        )
    }

    #[test]
    fn a_digest_in_either_form_must_be_one_of_the_references() {
        let good = digest(HashAlgorithm::Sha384, b"firmware");
        let list = || ReferenceValue::Digests(vec![digest(HashAlgorithm::Sha384, b"older"), good]);
        assert_eq!(check(block(3, 1, false, good.as_bytes()), None, list()), Ok(()));
        assert_eq!(check(block(3, 1, true, b"firmware"), Some(1), list()), Ok(()));
        let mismatch = Err(MeasurementError::Mismatch { index: 3 });
        let other = digest(HashAlgorithm::Sha384, b"other");
        assert_eq!(check(block(3, 1, false, other.as_bytes()), None, list()), mismatch);
        assert_eq!(check(block(3, 1, true, b"firmwara"), None, list()), mismatch);
        // A raw value that looks like the digest is not what was hashed.
        assert_eq!(check(block(3, 1, true, good.as_bytes()), None, list()), mismatch);
    }

    #[test]
    fn a_raw_value_is_hashed_with_the_algorithm_of_the_reference() {
        let list = || ReferenceValue::Digests(vec![digest(HashAlgorithm::Sha256, b"firmware")]);
        assert_eq!(check(block(3, 1, true, b"firmware"), None, list()), Ok(()));
    }

    #[test]
    fn a_digest_by_another_algorithm_than_the_negotiated_one_cannot_be_compared() {
        let short = digest(HashAlgorithm::Sha256, b"firmware");
        let list = || ReferenceValue::Digests(vec![short]);
        let form = Err(MeasurementError::Form { index: 3 });
        assert_eq!(
            check(block(3, 1, false, digest(HashAlgorithm::Sha384, b"x").as_bytes()), None, list()),
            form
        );
        assert_eq!(check(block(3, 1, false, short.as_bytes()), None, list()), form);
        let references = [Reference { index: 3, kind: None, value: list() }];
        assert_eq!(check_references(&references, &[block(3, 1, false, short.as_bytes())], None), form);
    }

    #[test]
    fn values_are_compared_byte_for_byte() {
        let list = || ReferenceValue::Values(vec![b"1.2".to_vec(), b"1.3".to_vec()]);
        assert_eq!(check(block(3, 6, true, b"1.3"), Some(6), list()), Ok(()));
        assert_eq!(check(block(3, 6, false, b"1.2"), Some(6), list()), Ok(()));
        for value in [b"1.4".as_slice(), b"1.30", b"1.", b""] {
            let mismatch = Err(MeasurementError::Mismatch { index: 3 });
            assert_eq!(check(block(3, 6, true, value), None, list()), mismatch);
        }
    }

    #[test]
    fn a_security_version_must_be_high_enough() {
        let value = 0x0102_0304_0506_0708_u64;
        let bytes = value.to_le_bytes();
        let min = ReferenceValue::MinSvn;
        assert_eq!(check(block(3, 7, true, &bytes), None, min(value)), Ok(()));
        let low = MeasurementError::SvnTooLow { index: 3, found: value, wanted: value + 1 };
        assert_eq!(check(block(3, 7, true, &bytes), None, min(value + 1)), Err(low));
        let other = MeasurementError::Type { index: 3, found: 6, wanted: 7 };
        assert_eq!(check(block(3, 6, true, &bytes), None, min(0)), Err(other));
        let form = Err(MeasurementError::Form { index: 3 });
        assert_eq!(check(block(3, 7, false, &bytes), None, min(0)), form);
        assert_eq!(check(block(3, 7, true, &bytes[1..]), None, min(0)), form);
    }

    #[test]
    fn each_reference_must_be_there_and_of_its_type() {
        let value = || ReferenceValue::Values(vec![b"1".to_vec()]);
        let type_error = MeasurementError::Type { index: 3, found: 6, wanted: 1 };
        assert_eq!(check(block(3, 6, true, b"1"), Some(1), value()), Err(type_error));
        assert_eq!(
            check(block(4, 6, true, b"1"), None, value()),
            Err(MeasurementError::NotFound { index: 3 })
        );
        let both = [3, 4].map(|index| Reference { index, kind: None, value: value() });
        let got = check_references(&both, &[block(3, 6, true, b"1"), block(4, 6, true, b"2")], HASH);
        assert_eq!(got, Err(MeasurementError::Mismatch { index: 4 }));
        assert_eq!(check_references(&[], &[], HASH), Ok(()));
    }

    fn mode(operational: u32, device: u32) -> Vec<u8> {
        [0x3F, operational, 0x1F, device].map(u32::to_le_bytes).concat()
    }

    #[test]
    fn the_device_mode_tells_normal_operation_and_debug() {
        let parse = |operational, device| DeviceMode::parse(&mode(operational, device)).unwrap();
        let fields = DeviceMode {
            operational_capabilities: 0x3F,
            operational_state: 4,
            device_capabilities: 0x1F,
            device_state: 2,
        };
        assert_eq!(parse(4, 2), fields);
        for (state, normal) in
            [(0, false), (1, false), (2, false), (4, true), (5, false), (8, false), (0x10, false)]
        {
            assert_eq!(parse(state, 0).is_normal(), normal, "{state:#x}");
        }
        for (state, debug, opened) in [
            (0, false, false),
            (1, true, false),
            (2, true, false),
            (4, true, false),
            (8, true, false),
            (0x10, false, true),
        ] {
            let mode = parse(4, state);
            assert_eq!((mode.is_debug(), mode.was_opened()), (debug, opened), "{state:#x}");
        }
        for len in [0, 15, 17] {
            assert_eq!(DeviceMode::parse(&[0; 32][..len]), Err(BadDeviceMode(len)));
        }
    }

    #[test]
    fn the_device_mode_is_found_by_index_or_type_and_must_be_sound() {
        let good = mode(4, 0);
        let find = |blocks: &[Block<'_>]| DeviceMode::find(blocks);
        assert_eq!(find(&[block(1, 1, true, b"x")]), Ok(None));
        assert_eq!(find(&[block(0xFE, 5, true, &good)]), Ok(DeviceMode::parse(&good).ok()));
        assert_eq!(
            find(&[block(1, 1, true, b"x"), block(9, 5, true, &good)]),
            Ok(DeviceMode::parse(&good).ok())
        );
        let other = MeasurementError::Type { index: 0xFE, found: 4, wanted: 5 };
        assert_eq!(find(&[block(0xFE, 4, true, &good)]), Err(other));
        let form = |index| Err(MeasurementError::Form { index });
        assert_eq!(find(&[block(0xFE, 5, false, &good)]), form(0xFE));
        assert_eq!(find(&[block(9, 5, true, &good[1..])]), form(9));
        let two = [block(0xFE, 5, true, &good), block(9, 5, true, &good)];
        assert_eq!(find(&two), Err(MeasurementError::SecondDeviceMode { index: 9 }));
    }
}
