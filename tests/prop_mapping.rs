//! Properties of the mapping list: whatever report and rules, what is mapped and what is shared are the BARs' pages, each once.
mod common;

use common::report::*;
use gatehouse::abi::tdisp::RangeAttributes;
use gatehouse::evidence::ReportedRange;
use gatehouse::mapping::{MapRequest, MappingList, MappingListError};
use gatehouse::pcie::Bar;
use gatehouse::policy::types::{Quirks, ReportRules};
use proptest::collection::vec;
use proptest::prelude::*;

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

/// Any combination of what a policy can allow.
fn rules() -> impl Strategy<Value = ReportRules> {
    (any::<[bool; 7]>(), any::<[bool; 5]>()).prop_map(|(quirks, flags)| {
        let [relative, whole_bar, omitted_non_tee, high_ids, byte_addresses, doubled_ids, non_tee_shared] =
            quirks;
        let [firmware_update_allowed, pasid_allowed, no_plain_dma_allowed, ats_allowed, prs_allowed] = flags;
        ReportRules {
            firmware_update_allowed,
            pasid_allowed,
            no_plain_dma_allowed,
            ats_allowed,
            prs_allowed,
            non_tee_shared,
            quirks: Quirks { relative, whole_bar, omitted_non_tee, high_ids, byte_addresses, doubled_ids },
        }
    })
}

/// Demands that requests and shared pages are the pages of the BARs, each once.
fn each_page_once(list: &MappingList, bars: &[Bar]) -> Result<(), TestCaseError> {
    let mut pages = Vec::new();
    for request in &list.requests {
        pages.push((request.bar, request.ipa.base(), request.ipa.top()));
    }
    for shared in &list.shared_pages {
        let bar = bars.iter().find(|bar| bar.index == shared.bar).unwrap();
        let from = bar.address + u64::from(shared.first_page) * PAGE;
        pages.push((shared.bar, from, from + u64::from(shared.num_pages) * PAGE));
    }
    pages.sort_unstable();
    let mut rest = pages.into_iter().peekable();
    for bar in bars {
        let mut at = bar.address;
        while let Some((_, from, to)) = rest.next_if(|(index, ..)| *index == bar.index) {
            prop_assert_eq!(from, at);
            prop_assert!(to > from);
            at = to;
        }
        prop_assert_eq!(at, bar.address + bar.size, "BAR {}", bar.index);
    }
    prop_assert!(rest.next().is_none());
    Ok(())
}

/// Writes a report as silicon with these quirks would; ranges that may be omitted are, but for the first of a BAR where
/// that is its base.
fn written(mut ranges: Vec<ReportedRange>, rules: &ReportRules, odd: u64) -> Vec<ReportedRange> {
    let Quirks { relative, omitted_non_tee, high_ids, byte_addresses, doubled_ids, .. } = rules.quirks;
    if omitted_non_tee && rules.non_tee_shared {
        let mut last = None;
        ranges.retain(|range| {
            let is_first = last.replace(range.id) != Some(range.id);
            range.attributes.is_empty() || (relative && is_first)
        });
    }
    for range in &mut ranges {
        range.base += if relative { odd * PAGE } else { 0 };
        range.base *= if byte_addresses { PAGE } else { 1 };
        range.id *= if doubled_ids { 2 } else { 1 };
        range.id += if high_ids { 0xff00 } else { 0 };
    }
    ranges
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
        for msix in &list.shared_pages {
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

    #[test]
    fn with_any_rules_every_page_is_accounted_for_once(
        rules in rules(), layout in layouts(), near in 0u64..1 << 20,
        raw in vec((0u64..64, 1u64..16, 0u16..16, 0u16..5), 0..8), real in 0u64..1 << 30,
    ) {
        let bars: Vec<Bar> = layout.iter().map(|(bar, _)| *bar).collect();
        let near = near * PAGE;
        let noise = raw.iter().map(|(page, pages, bits, id)| {
            range(*id, near + page * PAGE, *pages, RangeAttributes::from_bits_truncate(*bits))
        });
        let noise = written(noise.collect(), &rules, 1);
        let mut changed = written(reported(&layout, real, 0), &rules, 3);
        if let Some((page, pages, bits, _)) = raw.first() {
            let at = usize::try_from(*page).unwrap() % changed.len().max(1);
            if let Some(range) = changed.get_mut(at) {
                match bits % 4 {
                    0 => range.len = pages * PAGE,
                    1 => range.attributes = RangeAttributes::NON_TEE,
                    2 => range.base = range.base.wrapping_add(PAGE),
                    _ => range.id ^= 1,
                }
            }
        }
        for ranges in [noise, changed] {
            if let Ok(list) = gatehouse::mapping::plan(&report(&ranges), &with_msix(None), &bars, &rules) {
                each_page_once(&list, &bars)?;
            }
        }
    }

    #[test]
    fn the_report_of_silicon_with_quirks_gives_the_same_plan(
        rules in rules(), layout in layouts(), real in 0u64..1 << 30, odd in 0u64..1 << 12,
    ) {
        let mut rules = rules;
        rules.quirks.whole_bar = false;
        let bars: Vec<Bar> = layout.iter().map(|(bar, _)| *bar).collect();
        let plain = reported(&layout, real, 0);
        let want = plan(&report(&plain), &with_msix(None), &bars);
        let ranges = written(plain, &rules, odd);
        let got = gatehouse::mapping::plan(&report(&ranges), &with_msix(None), &bars, &rules);
        match (want, got) {
            (Ok(want), Ok(got)) => {
                each_page_once(&got, &bars)?;
                prop_assert_eq!(&want.shared_pages, &got.shared_pages);
                let ipas = |list: &MappingList| list.requests.iter().map(|r| (r.bar, r.ipa)).collect::<Vec<_>>();
                prop_assert_eq!(ipas(&want), ipas(&got));
            }
            (want, got) => prop_assert_eq!(want, got),
        }
    }
}
