//! Interface reports, BARs and functions to plan mappings with.
use super::config::{Space, function};
use gatehouse::abi::tdisp::{InterfaceInfo, RangeAttributes};
use gatehouse::evidence::{InterfaceReport, ReportedRange};
use gatehouse::mapping::{MappingList, MappingListError};
use gatehouse::pcie::{Bar, Function, MsixPlace};
use gatehouse::policy::types::ReportRules;

pub const PAGE: u64 = 4096;
pub const TEE: RangeAttributes = RangeAttributes::empty();
pub const TABLE: RangeAttributes = RangeAttributes::MSIX_TABLE;
pub const PBA: RangeAttributes = RangeAttributes::MSIX_PBA;

pub fn bar(index: u8, address: u64, size: u64) -> Bar {
    Bar { index, wide: true, prefetchable: false, address, size }
}

pub fn range(id: u16, base: u64, pages: u64, attributes: RangeAttributes) -> ReportedRange {
    ReportedRange { base, len: pages * PAGE, attributes, id }
}

pub fn report(ranges: &[ReportedRange]) -> InterfaceReport<'static> {
    InterfaceReport {
        info: InterfaceInfo::empty(),
        msix_control: 0,
        lnr_control: 0,
        tph_control: 0,
        ranges: ranges.to_vec(),
        vendor: &[],
    }
}

/// The plan by the strict rules.
pub fn plan(
    report: &InterfaceReport<'_>,
    function: &Function,
    bars: &[Bar],
) -> Result<MappingList, MappingListError> {
    gatehouse::mapping::plan(report, function, bars, &ReportRules::default())
}

/// A function with MSI-X where configuration space says: (BAR, offset) of table and PBA.
pub fn with_msix(msix: Option<[(u8, u32); 2]>) -> Function {
    let place = |(bar, offset)| MsixPlace { bar, offset };
    let mut function = function(&Space::endpoint());
    function.msix_table = msix.map(|[table, _]| place(table));
    function.msix_pba = msix.map(|[_, pba]| place(pba));
    function
}
