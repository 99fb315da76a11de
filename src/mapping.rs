//! Interface report + BARs -> what to validate: report addresses become IPA ranges by the modulus rule
//! (DEN0137 2.0 beta, A9.6.2: the MMIO reporting offset is a multiple of the BAR size).
//!
//! The account must be complete: every page of every memory BAR is TEE memory, or named as MSI-X or non-TEE, so that a wrong
//! offset or a BAR that the host sized wrongly cannot hide, and the payload may map all the rest private. What policy
//! allows beyond that ([`ReportRules`]) changes how addresses and ids are read, or what may stay shared; the account does not
//! change.
//!
//! Trust: the report is the device's, the BARs are what we wrote and read back; their sizes are the host's.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use crate::abi::tdisp::RangeAttributes;
use crate::addr::{AddrError, GRANULE_SIZE, IpaRange};
use crate::evidence::{InterfaceReport, ReportedRange};
use crate::fdt::function::MsixPages;
use crate::pcie::{Bar, Function, MsixPlace};
use crate::policy::types::{Quirks, ReportRules};
use alloc::vec::Vec;
use thiserror::Error;

/// One VALIDATE_MAPPING request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MapRequest {
    /// Which BAR.
    pub bar: u8,
    /// IPA range inside the BAR.
    pub ipa: IpaRange,
    /// Report address of its first byte.
    pub report_base: u64,
}

/// The plan for one device: the pages of its BARs, each once, in requests or in `shared_pages`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingList {
    /// What to validate, in the report's order; never empty.
    pub requests: Vec<MapRequest>,
    /// What to leave to the host: MSI-X structures, and non-TEE memory where policy allows it.
    pub shared_pages: Vec<MsixPages>,
}

/// Why the report does not fit the BARs. `range` is the index in the report.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum MappingListError {
    /// The range's id is not a memory BAR of the function.
    #[error("range {range}: id {id:#x} is no memory BAR")]
    BadId {
        /// Index of the range.
        range: usize,
        /// Its id.
        id: u16,
    },
    /// The range does not fit into its BAR.
    #[error("range {range} ends past BAR {bar}")]
    PastBar {
        /// Index of the range.
        range: usize,
        /// Which BAR.
        bar: u8,
    },
    /// The ranges of one BAR do not lie in one multiple of its size: the reporting offset is not BAR-aligned.
    #[error("range {range}: the reporting offset is not a multiple of BAR {bar}")]
    ReportingOffset {
        /// Index of the range.
        range: usize,
        /// Which BAR.
        bar: u8,
    },
    /// An address in bytes that is not that of a page.
    #[error("range {range}: byte address {address:#x} is not a page's")]
    ByteAddress {
        /// Index of the range.
        range: usize,
        /// Its address.
        address: u64,
    },
    /// Where policy says that the report names one whole BAR, it names more.
    #[error("range {range} is one more than the one that the rule expects")]
    SecondRange {
        /// Index of the range.
        range: usize,
    },
    /// Not in ascending order of BARs and addresses.
    #[error("range {range} precedes an earlier range")]
    Order {
        /// Index of the range.
        range: usize,
    },
    /// Two ranges share pages.
    #[error("range {range} overlaps an earlier range")]
    Overlap {
        /// Index of the later range.
        range: usize,
    },
    /// Two ranges name the same pages.
    #[error("range {range} names the pages of an earlier range again")]
    Duplicate {
        /// Index of the later range.
        range: usize,
    },
    /// The MSI-X table is not where configuration space says.
    #[error("the report does not name the MSI-X table at BAR {bar}, {offset:#x}")]
    MsixTable {
        /// BAR by configuration space.
        bar: u8,
        /// Offset by configuration space, in bytes.
        offset: u32,
    },
    /// The MSI-X pending bits are not where configuration space says.
    #[error("the report does not name the MSI-X pending bits at BAR {bar}, {offset:#x}")]
    MsixPba {
        /// BAR by configuration space.
        bar: u8,
        /// Offset by configuration space, in bytes.
        offset: u32,
    },
    /// Pages of a BAR that no range of the report names.
    #[error("BAR {bar}: no range names the page at {offset:#x}")]
    Uncovered {
        /// Which BAR.
        bar: u8,
        /// First such byte of the BAR.
        offset: u64,
    },
    /// Pages that are neither TEE memory nor MSI-X: a payload could not map the BAR private.
    #[error("range {range} of BAR {bar} is not TEE memory")]
    NonTee {
        /// Index of the range.
        range: usize,
        /// Which BAR.
        bar: u8,
    },
    /// Nothing to validate.
    #[error("no TEE range")]
    NoTeeRange,
    /// A BAR smaller than a page cannot be private.
    #[error("BAR {0} is smaller than a page")]
    SmallBar(u8),
    /// Internal arithmetic left the address space.
    #[error(transparent)]
    Address(#[from] AddrError),
}

/// Works out which IPA ranges to validate for `function` with `bars`, which are in ascending order.
///
/// # Errors
/// [`MappingListError`].
pub fn plan(
    report: &InterfaceReport<'_>,
    function: &Function,
    bars: &[Bar],
    rules: &ReportRules,
) -> Result<MappingList, MappingListError> {
    let mut placed: Vec<Placed> = Vec::new();
    for (index, range) in report.ranges.iter().enumerate() {
        if let Some(here) = place(index, range, bars, &placed, rules.quirks)? {
            in_order(&here, &placed)?;
            placed.push(here);
        }
    }
    let mut list = MappingList { requests: Vec::new(), shared_pages: Vec::new() };
    // Unnamed pages are non-TEE by one rule, and may be shared by the other.
    let may_omit = rules.quirks.omitted_non_tee && rules.non_tee_shared;
    for bar in bars {
        let mut named = 0;
        for here in placed.iter().filter(|here| here.bar.index == bar.index) {
            list.omit(bar, named, here.offset, may_omit)?;
            list.take(here, rules.non_tee_shared)?;
            named = here.end;
        }
        list.omit(bar, named, bar.size, may_omit)?;
    }
    check_msix(function, &placed, bars)?;
    if list.requests.is_empty() {
        return Err(MappingListError::NoTeeRange);
    }
    Ok(list)
}

impl MappingList {
    /// Takes a range up: to validate, or to leave to the host.
    fn take(&mut self, here: &Placed, non_tee_shared: bool) -> Result<(), MappingListError> {
        let Placed { index, bar, offset, end, .. } = *here;
        let is_msix = here.attributes.intersects(RangeAttributes::MSIX_TABLE | RangeAttributes::MSIX_PBA);
        let is_non_tee = here.attributes.contains(RangeAttributes::NON_TEE);
        if is_msix || (is_non_tee && non_tee_shared) {
            return self.share(&bar, offset, end);
        }
        if is_non_tee {
            return Err(MappingListError::NonTee { range: index, bar: bar.index });
        }
        let ipa = IpaRange::new(bar.address.saturating_add(offset), end.saturating_sub(offset))?;
        self.requests.push(MapRequest { bar: bar.index, ipa, report_base: here.base });
        Ok(())
    }

    /// Takes the bytes of a BAR up that no range names, if there are any.
    fn omit(&mut self, bar: &Bar, from: u64, to: u64, may_omit: bool) -> Result<(), MappingListError> {
        if from == to {
            return Ok(());
        }
        if !may_omit {
            return Err(MappingListError::Uncovered { bar: bar.index, offset: from });
        }
        self.share(bar, from, to)
    }

    /// Leaves pages to the host.
    fn share(&mut self, bar: &Bar, from: u64, to: u64) -> Result<(), MappingListError> {
        let small = MappingListError::SmallBar(bar.index);
        // A BAR of more than 2^32 pages does not exist.
        let pages = |bytes: u64| u32::try_from(bytes / GRANULE_SIZE).map_err(|_| small);
        let (first_page, num_pages) = (pages(from)?, pages(to.saturating_sub(from))?);
        if num_pages == 0 {
            return Err(small);
        }
        self.shared_pages.push(MsixPages { bar: bar.index, first_page, num_pages });
        Ok(())
    }
}

/// Where a range lies in its BAR.
#[derive(Clone, Copy)]
struct Placed {
    /// Index in the report.
    index: usize,
    attributes: RangeAttributes,
    bar: Bar,
    /// Report address in bytes.
    base: u64,
    offset: u64,
    end: u64,
}

/// Finds the range's place; `None` for memory that is in no BAR.
fn place(
    index: usize,
    range: &ReportedRange,
    bars: &[Bar],
    before: &[Placed],
    quirks: Quirks,
) -> Result<Option<Placed>, MappingListError> {
    if quirks.high_ids && range.id == COHERENT_ID {
        return Ok(None);
    }
    let bad_id = MappingListError::BadId { range: index, id: range.id };
    let number = bar_number(range.id, quirks).ok_or(bad_id)?;
    let bar = *bars.iter().find(|bar| u16::from(bar.index) == number).ok_or(bad_id)?;
    if bar.size < GRANULE_SIZE {
        return Err(MappingListError::SmallBar(bar.index));
    }
    let base = if quirks.byte_addresses { byte_address(index, range)? } else { range.base };
    let misplaced = MappingListError::ReportingOffset { range: index, bar: bar.index };
    let first = before.iter().find(|placed| placed.bar.index == bar.index).map_or(base, |placed| placed.base);
    // Sizes are powers of two above zero: bars::size_and_choose.
    let mask = bar.size.wrapping_sub(1);
    let offset = if quirks.whole_bar {
        if !before.is_empty() {
            return Err(MappingListError::SecondRange { range: index });
        }
        0
    } else if quirks.relative {
        base.checked_sub(first).ok_or(misplaced)?
    } else {
        base & mask
    };
    let past = MappingListError::PastBar { range: index, bar: bar.index };
    let end = offset.checked_add(range.len).filter(|end| *end <= bar.size).ok_or(past)?;
    // The modulus rule holds only if the ranges of a BAR lie in one multiple of its size.
    if !quirks.whole_bar && !quirks.relative && base & !mask != first & !mask {
        return Err(misplaced);
    }
    Ok(Some(Placed { index, attributes: range.attributes, bar, base, offset, end }))
}

/// First id of BARs, where policy says that ids are high.
const HIGH_IDS: u16 = 0xff00;
/// Id of coherent memory there.
const COHERENT_ID: u16 = 0xffff;

/// Returns the BAR that an id names.
fn bar_number(id: u16, quirks: Quirks) -> Option<u16> {
    let id = if quirks.high_ids { id.checked_sub(HIGH_IDS)? } else { id };
    match quirks.doubled_ids {
        true if id.is_multiple_of(2) => Some(id >> 1),
        true => None,
        false => Some(id),
    }
}

/// Returns the address that stands in bytes where a page number should: what was read is 4096 times as much.
fn byte_address(index: usize, range: &ReportedRange) -> Result<u64, MappingListError> {
    let address = range.base / GRANULE_SIZE;
    if address.is_multiple_of(GRANULE_SIZE) {
        Ok(address)
    } else {
        Err(MappingListError::ByteAddress { range: index, address })
    }
}

/// Demands that a range lies behind all before it: BARs in ascending order, and addresses in each.
fn in_order(here: &Placed, before: &[Placed]) -> Result<(), MappingListError> {
    let range = here.index;
    for other in before.iter().filter(|other| other.bar.index == here.bar.index) {
        if (other.offset, other.end) == (here.offset, here.end) {
            return Err(MappingListError::Duplicate { range });
        }
        if other.offset < here.end && here.offset < other.end {
            return Err(MappingListError::Overlap { range });
        }
    }
    match before.last() {
        Some(last) if (here.bar.index, here.offset) < (last.bar.index, last.offset) => {
            Err(MappingListError::Order { range })
        }
        _ => Ok(()),
    }
}

/// Configuration space and report must agree on the MSI-X structures; the first is the host's, so a difference refuses.
/// In pages that no range names they are where they have to be: those are shared, or the account has failed.
fn check_msix(function: &Function, placed: &[Placed], bars: &[Bar]) -> Result<(), MappingListError> {
    let structures =
        [(function.msix_table, RangeAttributes::MSIX_TABLE), (function.msix_pba, RangeAttributes::MSIX_PBA)];
    for (place, attribute) in structures {
        let Some(MsixPlace { bar, offset }) = place else { continue };
        let at = u64::from(offset);
        let here = placed.iter().find(|here| here.bar.index == bar && (here.offset..here.end).contains(&at));
        let fits = match here {
            Some(here) => here.attributes.contains(attribute),
            None => bars.iter().any(|b| b.index == bar && at < b.size),
        };
        if !fits {
            return Err(if attribute == RangeAttributes::MSIX_TABLE {
                MappingListError::MsixTable { bar, offset }
            } else {
                MappingListError::MsixPba { bar, offset }
            });
        }
    }
    Ok(())
}
