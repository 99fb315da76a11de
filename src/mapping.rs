//! Interface report + BARs -> what to validate: report addresses become IPA ranges by the modulus rule
//! (DEN0137 2.0 beta, A9.6.2: the MMIO reporting offset is a multiple of the BAR size).
//!
//! The account must be complete: every page of every memory BAR is TEE memory or named as MSI-X, so that a wrong offset or a
//! BAR that the host sized wrongly cannot hide, and the payload may map all the rest private.
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

/// The plan for one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MappingList {
    /// What to validate, in the report's order; never empty.
    pub requests: Vec<MapRequest>,
    /// What to leave to the host.
    pub msix: Vec<MsixPages>,
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
    /// Two ranges share a page, or are not in ascending order.
    #[error("range {range} overlaps or precedes an earlier range")]
    Order {
        /// Index of the range.
        range: usize,
    },
    /// The MSI-X structures are not where configuration space says.
    #[error("the report does not name the MSI-X structure at BAR {bar}, {offset:#x}")]
    Msix {
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

/// Works out which IPA ranges to validate for `function` with `bars`.
///
/// # Errors
/// [`MappingListError`].
pub fn plan(
    report: &InterfaceReport<'_>,
    function: &Function,
    bars: &[Bar],
) -> Result<MappingList, MappingListError> {
    let placed: Vec<Placed> =
        report.ranges.iter().enumerate().map(|(i, range)| place(i, range, bars)).collect::<Result<_, _>>()?;
    same_multiple(&placed)?;
    account(&placed, bars)?;
    check_msix(function.msix_table, RangeAttributes::MSIX_TABLE, &placed)?;
    check_msix(function.msix_pba, RangeAttributes::MSIX_PBA, &placed)?;
    let mut list = MappingList { requests: Vec::new(), msix: Vec::new() };
    for here in &placed {
        let Placed { index, bar, range, .. } = *here;
        if range.attributes.intersects(RangeAttributes::MSIX_TABLE | RangeAttributes::MSIX_PBA) {
            list.msix.push(MsixPages {
                bar: bar.index,
                first_page: pages(here.offset, index, bar)?,
                num_pages: pages(range.len, index, bar)?,
            });
        } else if range.attributes.contains(RangeAttributes::NON_TEE) {
            return Err(MappingListError::NonTee { range: index, bar: bar.index });
        } else {
            let ipa = IpaRange::new(bar.address.saturating_add(here.offset), range.len)?;
            list.requests.push(MapRequest { bar: bar.index, ipa, report_base: range.base });
        }
    }
    if list.requests.is_empty() {
        return Err(MappingListError::NoTeeRange);
    }
    Ok(list)
}

/// Demands that the ranges of one BAR lie in one multiple of its size: otherwise the modulus rule does not hold.
fn same_multiple(placed: &[Placed]) -> Result<(), MappingListError> {
    for (before, here) in placed.iter().zip(placed.iter().skip(1)) {
        if before.bar.index == here.bar.index && before.window != here.window {
            return Err(MappingListError::ReportingOffset { range: here.index, bar: here.bar.index });
        }
    }
    Ok(())
}

/// Demands that the ranges, in their order, name every page of every BAR once.
fn account(placed: &[Placed], bars: &[Bar]) -> Result<(), MappingListError> {
    let mut rest = placed.iter().peekable();
    for bar in bars {
        let mut named = 0;
        while let Some(here) = rest.next_if(|here| here.bar.index == bar.index) {
            if here.offset < named {
                return Err(MappingListError::Order { range: here.index });
            }
            if here.offset > named {
                return Err(MappingListError::Uncovered { bar: bar.index, offset: named });
            }
            named = here.end;
        }
        if named != bar.size {
            // A range of this BAR may come later: then the order is what is wrong.
            return Err(match rest.find(|here| here.bar.index == bar.index) {
                Some(late) => MappingListError::Order { range: late.index },
                None => MappingListError::Uncovered { bar: bar.index, offset: named },
            });
        }
    }
    match rest.next() {
        Some(left) => Err(MappingListError::Order { range: left.index }),
        None => Ok(()),
    }
}

/// Bytes as 4 KiB pages; a BAR of more than 2^32 pages does not exist.
fn pages(bytes: u64, range: usize, bar: Bar) -> Result<u32, MappingListError> {
    u32::try_from(bytes / GRANULE_SIZE).map_err(|_| MappingListError::PastBar { range, bar: bar.index })
}

/// Where a range lies in its BAR.
#[derive(Clone, Copy)]
struct Placed {
    /// Index in the report.
    index: usize,
    range: ReportedRange,
    bar: Bar,
    offset: u64,
    end: u64,
    /// Which multiple of the BAR's size the report address lies in.
    window: u64,
}

fn place(index: usize, range: &ReportedRange, bars: &[Bar]) -> Result<Placed, MappingListError> {
    let bar = bars.iter().find(|bar| u16::from(bar.index) == range.id).copied();
    let bar = bar.ok_or(MappingListError::BadId { range: index, id: range.id })?;
    if bar.size < GRANULE_SIZE {
        return Err(MappingListError::SmallBar(bar.index));
    }
    // Sizes are powers of two above zero: bars::size_and_choose.
    let mask = bar.size.wrapping_sub(1);
    let (offset, window) = (range.base & mask, range.base & !mask);
    let past = MappingListError::PastBar { range: index, bar: bar.index };
    let end = offset.checked_add(range.len).ok_or(past)?;
    if end > bar.size {
        return Err(past);
    }
    Ok(Placed { index, range: *range, bar, offset, end, window })
}

/// Configuration space and report must agree on the MSI-X structures; the first is the host's, so a difference refuses.
fn check_msix(
    place: Option<MsixPlace>,
    attribute: RangeAttributes,
    placed: &[Placed],
) -> Result<(), MappingListError> {
    let Some(place) = place else { return Ok(()) };
    let named = placed.iter().any(|here| {
        here.range.attributes.contains(attribute)
            && here.bar.index == place.bar
            && (here.offset..here.end).contains(&u64::from(place.offset))
    });
    if named { Ok(()) } else { Err(MappingListError::Msix { bar: place.bar, offset: place.offset }) }
}
