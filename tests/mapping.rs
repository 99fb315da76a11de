//! Report + BARs -> mapping list: the modulus rule for every layout, each misfit refused by name.
mod common;

use common::config::{Space, function};
use gatehouse::abi::tdisp::{InterfaceInfo, RangeAttributes};
use gatehouse::evidence::{InterfaceReport, ReportedRange};
use gatehouse::mapping::{MapRequest, MappingList, MappingListError, plan};
use gatehouse::pcie::{Bar, Function, MsixPlace};
use proptest::collection::vec;
use proptest::prelude::*;

const PAGE: u64 = 4096;
const TEE: RangeAttributes = RangeAttributes::empty();
const TABLE: RangeAttributes = RangeAttributes::MSIX_TABLE;
const PBA: RangeAttributes = RangeAttributes::MSIX_PBA;

fn bar(index: u8, address: u64, size: u64) -> Bar {
    Bar { index, wide: true, prefetchable: false, address, size }
}

fn range(id: u16, base: u64, pages: u64, attributes: RangeAttributes) -> ReportedRange {
    ReportedRange { base, len: pages * PAGE, attributes, id }
}

fn report(ranges: &[ReportedRange]) -> InterfaceReport<'static> {
    InterfaceReport {
        info: InterfaceInfo::empty(),
        msix_control: 0,
        lnr_control: 0,
        tph_control: 0,
        ranges: ranges.to_vec(),
        vendor: &[],
    }
}

/// A function with MSI-X where configuration space says: (BAR, offset) of table and PBA.
fn with_msix(msix: Option<[(u8, u32); 2]>) -> Function {
    let place = |(bar, offset)| MsixPlace { bar, offset };
    let mut function = function(&Space::endpoint());
    function.msix_table = msix.map(|[table, _]| place(table));
    function.msix_pba = msix.map(|[_, pba]| place(pba));
    function
}

/// The NVMe of QEMU: 16 KiB at BAR 0, table in page 2, PBA in page 3, at this report address.
fn nvme(base: u64, change: impl FnOnce(&mut Vec<ReportedRange>)) -> Result<MappingList, MappingListError> {
    let mut ranges =
        vec![range(0, base, 2, TEE), range(0, base + 2 * PAGE, 1, TABLE), range(0, base + 3 * PAGE, 1, PBA)];
    change(&mut ranges);
    let function = with_msix(Some([(0, 0x2000), (0, 0x3000)]));
    plan(&report(&ranges), &function, &[bar(0, 0x80_0000_0000, 0x4000)])
}

#[test]
fn tee_pages_are_mapped_and_msix_pages_left_to_the_host() {
    for base in [0, 0x4000, 0x200_2002_0000, (1 << 52) - 0x4000] {
        let list = nvme(base, |_| {}).unwrap();
        let ipa = gatehouse::addr::IpaRange::new(0x80_0000_0000, 0x2000).unwrap();
        assert_eq!(list.requests, [MapRequest { bar: 0, ipa, report_base: base }]);
        let msix: Vec<_> = list.msix.iter().map(|m| (m.bar, m.first_page, m.num_pages)).collect();
        assert_eq!(msix, [(0, 2, 1), (0, 3, 1)]);
    }
}

#[test]
fn an_offset_that_the_bar_does_not_divide_is_refused() {
    for shift in 1..4 {
        let error = nvme(0x10_0000 + shift * PAGE, |_| {}).unwrap_err();
        let offset = matches!(error, MappingListError::ReportingOffset { bar: 0, .. });
        // The first range itself lies across the end then.
        let past = shift == 3 && error == MappingListError::PastBar { range: 0, bar: 0 };
        assert!(offset || past, "{shift}: {error:?}");
    }
    let far = nvme(0, |ranges| ranges[2].base += 1 << 30);
    assert_eq!(far, Err(MappingListError::ReportingOffset { range: 2, bar: 0 }));
    let below = nvme(0x8000, |ranges| ranges[1].base -= 0x4000);
    assert_eq!(below, Err(MappingListError::ReportingOffset { range: 1, bar: 0 }));
}

#[test]
fn ranges_outside_their_bar_are_refused() {
    let past = |index| Err(MappingListError::PastBar { range: index, bar: 0 });
    assert_eq!(nvme(0, |ranges| ranges[2].len = 2 * PAGE), past(2));
    assert_eq!(nvme(0, |ranges| ranges[0].len = 5 * PAGE), past(0));
    let top = u64::MAX - 0xfff;
    assert_eq!(nvme(0, |ranges| ranges[0].len = top), past(0));
    assert_eq!(nvme(0, |ranges| ranges[2] = range(0, top, 2, PBA)), past(2));
    for id in [1, 2, 6, 0x100, u16::MAX] {
        let error = nvme(0, |ranges| ranges[1].id = id);
        assert_eq!(error, Err(MappingListError::BadId { range: 1, id }));
    }
}

#[test]
fn every_page_is_named_once_and_in_order() {
    let order = |index| Err(MappingListError::Order { range: index });
    let uncovered = |offset| Err(MappingListError::Uncovered { bar: 0, offset });
    assert_eq!(nvme(0, |ranges| ranges.insert(0, ranges[0])), order(1));
    assert_eq!(nvme(0, |ranges| ranges[0].len += PAGE), order(1));
    assert_eq!(nvme(0, |ranges| ranges[0].len -= PAGE), uncovered(0x1000));
    assert_eq!(nvme(0, |ranges| ranges.truncate(2)), uncovered(0x3000));
    assert_eq!(nvme(0, |ranges| ranges.clear()), uncovered(0));
    assert!(nvme(0, |ranges| ranges.swap(0, 1)).is_err());
    assert!(nvme(0, |ranges| ranges.reverse()).is_err());
}

#[test]
fn a_bar_that_no_range_names_is_refused() {
    let function = with_msix(None);
    let bars = [bar(0, 0x1_0000, 0x1000), bar(2, 0x2_0000, 0x2000)];
    let first = [range(0, 0, 1, TEE)];
    let error = plan(&report(&first), &function, &bars).unwrap_err();
    assert_eq!(error, MappingListError::Uncovered { bar: 2, offset: 0 });
    let both = [first[0], range(2, 0x7_0000, 2, TEE)];
    assert_eq!(plan(&report(&both), &function, &bars).unwrap().requests.len(), 2);
    let interleaved = [range(2, 0, 1, TEE), range(0, 0, 1, TEE), range(2, 0x1000, 1, TEE)];
    assert!(plan(&report(&interleaved), &function, &bars).is_err());
    let small = [bar(0, 0x1_0000, 0x800)];
    assert_eq!(plan(&report(&first), &function, &small), Err(MappingListError::SmallBar(0)));
}

#[test]
fn pages_that_are_neither_tee_nor_msix_are_refused() {
    let error = nvme(0, |ranges| ranges[0].attributes = RangeAttributes::NON_TEE);
    assert_eq!(error, Err(MappingListError::NonTee { range: 0, bar: 0 }));
    assert!(nvme(0, |ranges| ranges[1].attributes |= RangeAttributes::NON_TEE).is_ok());
    assert!(nvme(0, |ranges| ranges[0].attributes = RangeAttributes::UPDATABLE).is_ok());
    let all = nvme(0, |ranges| ranges[0].attributes = TABLE | RangeAttributes::NON_TEE);
    assert_eq!(all, Err(MappingListError::NoTeeRange));
}

#[test]
fn report_and_configuration_space_must_agree_on_msix() {
    let ranges = [range(0, 0, 2, TEE), range(0, 0x2000, 1, TABLE), range(0, 0x3000, 1, PBA)];
    let bars = [bar(0, 0x80_0000_0000, 0x4000)];
    let check = |table, pba| plan(&report(&ranges), &with_msix(Some([table, pba])), &bars);
    assert!(check((0, 0x2000), (0, 0x3000)).is_ok());
    assert!(check((0, 0x2ff8), (0, 0x3ff8)).is_ok());
    for (bar, offset) in [(0, 0x1ff8), (0, 0x3000), (0, 0x4000), (0, 0xffff_fff8), (1, 0x2000), (7, 0)] {
        let error = MappingListError::Msix { bar, offset };
        assert_eq!(check((bar, offset), (0, 0x3000)), Err(error));
    }
    for (bar, offset) in [(0, 0x2000), (0, 0), (3, 0x3000)] {
        assert_eq!(check((0, 0x2000), (bar, offset)), Err(MappingListError::Msix { bar, offset }));
    }
    // Without the capability the report alone says what is left to the host.
    let list = plan(&report(&ranges), &with_msix(None), &bars).unwrap();
    assert_eq!((list.requests.len(), list.msix.len()), (1, 2));
}

/// BARs with their pages' attributes: 1 to 64 pages each, TEE or MSI-X by page.
fn layouts() -> impl Strategy<Value = Vec<(Bar, Vec<bool>)>> {
    let one = (0u32..7).prop_flat_map(|order| vec(any::<bool>(), 1 << order));
    vec(one, 1..4).prop_map(|all| {
        let place = |(index, pages): (usize, Vec<bool>)| {
            let index = u8::try_from(2 * index).unwrap();
            let size = pages.len() as u64 * PAGE;
            let address = 0x80_0000_0000 + u64::from(index) * 0x1000_0000 + size;
            (bar(index, address.next_multiple_of(size), size), pages)
        };
        all.into_iter().enumerate().map(place).collect()
    })
}

/// The report of the layout: runs of equal pages, each BAR's real address (a multiple of its size) plus `mro`.
fn reported(layout: &[(Bar, Vec<bool>)], real: u64, mro: u64) -> Vec<ReportedRange> {
    let mut ranges = Vec::new();
    for (bar, pages) in layout {
        let base = (real + u64::from(bar.index) * 0x100_0000).next_multiple_of(bar.size).wrapping_add(mro);
        let mut at = 0;
        for run in pages.chunk_by(|a, b| a == b) {
            let attributes = if run[0] { TEE } else { TABLE | PBA };
            let report = base.wrapping_add(at as u64 * PAGE);
            ranges.push(range(bar.index.into(), report, run.len() as u64, attributes));
            at += run.len();
        }
    }
    ranges
}

fn largest(layout: &[(Bar, Vec<bool>)]) -> u64 {
    layout.iter().map(|(bar, _)| bar.size).max().unwrap()
}

proptest! {
    #[test]
    fn requests_lie_where_the_device_means_them(
        layout in layouts(), real in 0u64..1 << 40, times in 0u64..1 << 20,
    ) {
        let mro = times * largest(&layout);
        let bars: Vec<Bar> = layout.iter().map(|(bar, _)| *bar).collect();
        let ranges = reported(&layout, real, mro);
        let list = plan(&report(&ranges), &with_msix(None), &bars);
        if !layout.iter().any(|(_, pages)| pages.contains(&true)) {
            prop_assert_eq!(list, Err(MappingListError::NoTeeRange));
            return Ok(());
        }
        let list = list.unwrap();
        let mut tee = 0;
        for MapRequest { bar, ipa, report_base } in &list.requests {
            let (bar, pages) = layout.iter().find(|(b, _)| b.index == *bar).unwrap();
            prop_assert!(bar.address <= ipa.base() && ipa.top() <= bar.address + bar.size);
            let offset = ipa.base() - bar.address;
            prop_assert_eq!(offset, report_base % bar.size);
            let base = (real + u64::from(bar.index) * 0x100_0000).next_multiple_of(bar.size);
            prop_assert_eq!(report_base - mro - base, offset, "the device's own offset");
            let span = usize::try_from(offset / PAGE).unwrap()..usize::try_from((ipa.top() - bar.address) / PAGE).unwrap();
            prop_assert!(pages[span.clone()].iter().all(|tee| *tee));
            tee += span.len();
        }
        let all: usize = layout.iter().map(|(_, pages)| pages.iter().filter(|tee| **tee).count()).sum();
        prop_assert_eq!(tee, all, "each TEE page once");
        for msix in &list.msix {
            let bar = bars.iter().find(|bar| bar.index == msix.bar).unwrap();
            let from = bar.address + u64::from(msix.first_page) * PAGE;
            let span = gatehouse::addr::IpaRange::new(from, u64::from(msix.num_pages) * PAGE).unwrap();
            prop_assert!(list.requests.iter().all(|request| !request.ipa.overlaps(&span)));
        }
    }

    #[test]
    fn any_other_offset_is_refused(
        layout in layouts(), real in 0u64..1 << 40, pages in 1u64..1 << 20,
    ) {
        let mro = pages * PAGE;
        prop_assume!(!mro.is_multiple_of(largest(&layout)));
        let bars: Vec<Bar> = layout.iter().map(|(bar, _)| *bar).collect();
        let error = plan(&report(&reported(&layout, real, mro)), &with_msix(None), &bars).unwrap_err();
        let is_named = matches!(
            error,
            MappingListError::ReportingOffset { .. } | MappingListError::PastBar { .. } | MappingListError::Uncovered { .. }
        );
        prop_assert!(is_named, "{:?}", error);
    }

    #[test]
    fn no_report_leads_outside_the_bars(
        raw in vec((any::<u64>(), 1u64..1 << 32, 0u16..16, 0u16..8), 0..8), order in 12u32..40,
    ) {
        let bars = [bar(0, 1 << 41, 1 << order), bar(2, 1 << 42, PAGE)];
        let near = |base: u64| if base & 1 == 0 { base & !0xfff } else { base & ((1 << order) - 1) & !0xfff };
        let ranges: Vec<ReportedRange> = raw
            .into_iter()
            .map(|(base, pages, bits, id)| {
                let pages = if bits & 1 == 0 { pages } else { pages % 8 + 1 };
                range(id, near(base), pages, RangeAttributes::from_bits_truncate(bits))
            })
            .collect();
        if let Ok(list) = plan(&report(&ranges), &with_msix(None), &bars) {
            for request in list.requests {
                let bar = bars.iter().find(|bar| bar.index == request.bar).unwrap();
                prop_assert!(bar.address <= request.ipa.base() && request.ipa.top() <= bar.address + bar.size);
            }
        }
    }
}
