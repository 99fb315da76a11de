//! The TDISP interface report: structure only; what the ranges mean for the BARs is [`crate::mapping`].
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use crate::abi::tdisp::{InterfaceInfo, RangeAttributes, ReportHeader, ReportRange};
use crate::addr::GRANULE_SIZE;
use crate::policy::types::ReportRules;
use alloc::vec::Vec;
use thiserror::Error;
use zerocopy::FromBytes;

/// Most ranges that a report may have.
const MAX_RANGES: u32 = 256;
/// Numbers of 4 KiB pages have 52 bits.
const PAGE_NUMBER_LIMIT: u64 = 1 << 52;

/// Why bytes are not an interface report.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ReportError {
    /// Shorter than the fixed part, the ranges or the device-specific data that it announces.
    #[error("report of {len} bytes, {needed} are needed")]
    Short {
        /// Bytes there.
        len: usize,
        /// Bytes announced.
        needed: u64,
    },
    /// Bytes behind the announced end.
    #[error("{0} bytes behind the end of the report")]
    Trailing(usize),
    /// More ranges than we take.
    #[error("{0} ranges")]
    TooManyRanges(u32),
    /// Interface info bits that TDISP does not have.
    #[error("interface info {0:#x}")]
    InterfaceInfo(u16),
    /// Range attributes that TDISP does not have.
    #[error("range {range}: attributes {bits:#x}")]
    Attributes {
        /// Index of the range.
        range: usize,
        /// What stood there.
        bits: u16,
    },
    /// A range without pages.
    #[error("range {0} is empty")]
    EmptyRange(usize),
    /// The page numbers of a range leave 52 bits.
    #[error("range {0} wraps")]
    Wraps(usize),
}

/// One MMIO range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReportedRange {
    /// Report address in bytes: the device's address plus the MMIO reporting offset.
    pub base: u64,
    /// Bytes, a multiple of 4096.
    pub len: u64,
    /// Attributes.
    pub attributes: RangeAttributes,
    /// Device-defined; the BAR number in practice.
    pub id: u16,
}

/// A report that is structurally sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceReport<'a> {
    /// Interface flags.
    pub info: InterfaceInfo,
    /// MSI-X message control.
    pub msix_control: u16,
    /// LNR control.
    pub lnr_control: u16,
    /// TPH control.
    pub tph_control: u32,
    /// The ranges, in the report's order.
    pub ranges: Vec<ReportedRange>,
    /// Device-specific data.
    pub vendor: &'a [u8],
}

impl<'a> InterfaceReport<'a> {
    /// Reads a whole report. The trailing length word may be absent (Linux does not require it).
    ///
    /// # Errors
    /// [`ReportError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, ReportError> {
        let short = |needed: u64| ReportError::Short { len: bytes.len(), needed };
        let (header, rest) = ReportHeader::ref_from_prefix(bytes).map_err(|_| short(16))?;
        let count = header.num_ranges.get();
        if count > MAX_RANGES {
            return Err(ReportError::TooManyRanges(count));
        }
        let needed = u64::from(count).saturating_mul(16).saturating_add(16);
        let elements = usize::try_from(count).map_err(|_| short(needed))?;
        let (raw, rest) =
            <[ReportRange]>::ref_from_prefix_with_elems(rest, elements).map_err(|_| short(needed))?;
        let vendor = match rest.split_first_chunk::<4>() {
            None if rest.is_empty() => rest,
            None => return Err(short(needed.saturating_add(4))),
            Some((word, data)) => {
                let len = u32::from_le_bytes(*word);
                let end = needed.saturating_add(4).saturating_add(len.into());
                let len = usize::try_from(len).map_err(|_| short(end))?;
                let (vendor, trailing) = data.split_at_checked(len).ok_or_else(|| short(end))?;
                if !trailing.is_empty() {
                    return Err(ReportError::Trailing(trailing.len()));
                }
                vendor
            }
        };
        let info = header.interface_info.get();
        let info = InterfaceInfo::from_bits(info).ok_or(ReportError::InterfaceInfo(info))?;
        let ranges = raw.iter().enumerate().map(|(i, range)| decode(i, range)).collect::<Result<_, _>>()?;
        Ok(Self {
            info,
            msix_control: header.msix_control.get(),
            lnr_control: header.lnr_control.get(),
            tph_control: header.tph_control.get(),
            ranges,
            vendor,
        })
    }
}

/// A flag of the report that policy does not allow.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FlagError {
    /// The device's firmware may be updated while the interface is locked.
    #[error("firmware updates are not off while locked")]
    FirmwareUpdate,
    /// DMA without PASID is not possible: the only kind that the firmware opens.
    #[error("DMA without PASID is not possible")]
    NoPlainDma,
    /// DMA with PASID is possible.
    #[error("DMA with PASID is possible")]
    Pasid,
    /// ATS is on: the device may use addresses that it translated itself.
    #[error("ATS is on")]
    Ats,
    /// PRS is on.
    #[error("PRS is on")]
    Prs,
}

/// Holds the report's flags against what policy allows.
///
/// # Errors
/// [`FlagError`]: the first one that it does not allow.
pub fn check_flags(report: &InterfaceReport<'_>, rules: &ReportRules) -> Result<(), FlagError> {
    // Each: the flag, what it has to be, whether anything goes, the error.
    let table = [
        (InterfaceInfo::NO_FIRMWARE_UPDATE, true, rules.firmware_update_allowed, FlagError::FirmwareUpdate),
        (InterfaceInfo::DMA_WITHOUT_PASID, true, rules.no_plain_dma_allowed, FlagError::NoPlainDma),
        (InterfaceInfo::DMA_WITH_PASID, false, rules.pasid_allowed, FlagError::Pasid),
        (InterfaceInfo::ATS, false, rules.ats_allowed, FlagError::Ats),
        (InterfaceInfo::PRS, false, rules.prs_allowed, FlagError::Prs),
    ];
    for (flag, wanted, anything, error) in table {
        if !anything && report.info.contains(flag) != wanted {
            return Err(error);
        }
    }
    Ok(())
}

fn decode(index: usize, raw: &ReportRange) -> Result<ReportedRange, ReportError> {
    let bits = raw.attributes.get();
    let attributes =
        RangeAttributes::from_bits(bits).ok_or(ReportError::Attributes { range: index, bits })?;
    let pages = u64::from(raw.num_pages.get());
    if pages == 0 {
        return Err(ReportError::EmptyRange(index));
    }
    let first = raw.first_page.get();
    match first.checked_add(pages) {
        Some(end) if end <= PAGE_NUMBER_LIMIT => {}
        _ => return Err(ReportError::Wraps(index)),
    }
    let bytes = |pages: u64| pages.checked_mul(GRANULE_SIZE).ok_or(ReportError::Wraps(index));
    // The end may be 2^64 exactly; whoever adds base and len checks it.
    Ok(ReportedRange { base: bytes(first)?, len: bytes(pages)?, attributes, id: raw.id.get() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, pages: u32, attributes: u16, id: u16) -> Vec<u8> {
        let mut bytes = first.to_le_bytes().to_vec();
        bytes.extend(pages.to_le_bytes());
        bytes.extend(attributes.to_le_bytes());
        bytes.extend(id.to_le_bytes());
        bytes
    }

    fn report(info: u16, ranges: &[Vec<u8>], tail: &[u8]) -> Vec<u8> {
        let mut bytes = info.to_le_bytes().to_vec();
        bytes.extend([0; 10]);
        bytes.extend(u32::try_from(ranges.len()).unwrap().to_le_bytes());
        bytes.extend(ranges.concat());
        bytes.extend(tail);
        bytes
    }

    #[test]
    fn a_report_with_ranges_and_vendor_data_is_read_whole() {
        let bytes = report(3, &[range(0x12345, 2, 0, 0), range(0x12347, 1, 1, 0)], &[2, 0, 0, 0, 7, 8]);
        let report = InterfaceReport::parse(&bytes).unwrap();
        assert_eq!(report.info, InterfaceInfo::NO_FIRMWARE_UPDATE | InterfaceInfo::DMA_WITHOUT_PASID);
        assert_eq!(report.vendor, [7, 8]);
        let msix =
            ReportedRange { base: 0x1234_7000, len: 0x1000, attributes: RangeAttributes::MSIX_TABLE, id: 0 };
        assert_eq!(report.ranges.get(1), Some(&msix));
    }

    #[test]
    fn a_report_without_the_trailing_word_is_accepted() {
        assert!(InterfaceReport::parse(&report(0, &[], &[])).is_ok());
    }

    #[test]
    fn every_truncation_is_refused_but_the_one_without_trailing_word() {
        let bytes = report(0, &[range(1, 1, 0, 0)], &[1, 0, 0, 0, 9]);
        for len in 0..bytes.len() {
            let result = InterfaceReport::parse(bytes.get(..len).unwrap());
            assert_eq!(result.is_ok(), len == 32, "{len}: {result:?}");
        }
    }

    #[test]
    fn defects_are_named() {
        let parse = |bytes: Vec<u8>| InterfaceReport::parse(&bytes).map(|_| ()).unwrap_err();
        assert_eq!(parse(report(0x20, &[], &[])), ReportError::InterfaceInfo(0x20));
        assert_eq!(parse(report(0, &[range(1, 0, 0, 0)], &[])), ReportError::EmptyRange(0));
        assert_eq!(parse(report(0, &[range((1 << 52) - 1, 2, 0, 0)], &[])), ReportError::Wraps(0));
        assert_eq!(parse(report(0, &[range(u64::MAX, 2, 0, 0)], &[])), ReportError::Wraps(0));
        let attributes = parse(report(0, &[range(1, 1, 0x10, 0)], &[]));
        assert_eq!(attributes, ReportError::Attributes { range: 0, bits: 0x10 });
        assert_eq!(parse(report(0, &[], &[0, 0, 0, 0, 1])), ReportError::Trailing(1));
        let mut many = report(0, &[], &[]);
        many.splice(12..16, 257u32.to_le_bytes());
        assert_eq!(parse(many), ReportError::TooManyRanges(257));
    }

    #[test]
    fn each_flag_is_refused_by_name_unless_its_rule_allows_it() {
        const GOOD: u16 = 0b00011;
        type Allow = fn(&mut ReportRules);
        let cases: [(u16, FlagError, Allow); 5] = [
            (GOOD & !1, FlagError::FirmwareUpdate, |rules| rules.firmware_update_allowed = true),
            (GOOD & !2, FlagError::NoPlainDma, |rules| rules.no_plain_dma_allowed = true),
            (GOOD | 4, FlagError::Pasid, |rules| rules.pasid_allowed = true),
            (GOOD | 8, FlagError::Ats, |rules| rules.ats_allowed = true),
            (GOOD | 16, FlagError::Prs, |rules| rules.prs_allowed = true),
        ];
        let check = |info: u16, rules: &ReportRules| {
            let bytes = report(info, &[], &[]);
            check_flags(&InterfaceReport::parse(&bytes).unwrap(), rules)
        };
        assert_eq!(check(GOOD, &ReportRules::default()), Ok(()));
        for (index, (info, error, allow)) in cases.iter().enumerate() {
            let mut rules = ReportRules::default();
            assert_eq!(check(*info, &rules), Err(*error));
            allow(&mut rules);
            assert_eq!(check(*info, &rules), Ok(()));
            for (other, (info, error, _)) in cases.iter().enumerate().filter(|(other, _)| *other != index) {
                assert_eq!(check(*info, &rules), Err(*error), "{other}");
            }
        }
    }
}
