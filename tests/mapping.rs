//! Report + BARs -> mapping list: the modulus rule for every layout, each misfit refused by name.
mod common;

use common::report::*;
use gatehouse::abi::tdisp::RangeAttributes;
use gatehouse::evidence::ReportedRange;
use gatehouse::mapping::{MapRequest, MappingList, MappingListError};
use gatehouse::policy::types::{Quirks, ReportRules};

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
        let msix: Vec<_> = list.shared_pages.iter().map(|m| (m.bar, m.first_page, m.num_pages)).collect();
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
    assert_eq!(nvme(0, |ranges| ranges.insert(0, ranges[0])), Err(MappingListError::Duplicate { range: 1 }));
    assert_eq!(nvme(0, |ranges| ranges[0].len += PAGE), Err(MappingListError::Overlap { range: 1 }));
    assert_eq!(nvme(0, |ranges| ranges[0].len -= PAGE), uncovered(0x1000));
    assert_eq!(nvme(0, |ranges| ranges.truncate(2)), uncovered(0x3000));
    assert_eq!(nvme(0, |ranges| ranges.clear()), uncovered(0));
    assert_eq!(nvme(0, |ranges| ranges.swap(0, 1)), order(1));
    assert_eq!(nvme(0, |ranges| ranges.reverse()), order(1));
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
    assert_eq!(plan(&report(&interleaved), &function, &bars), Err(MappingListError::Order { range: 1 }));
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
        let error = MappingListError::MsixTable { bar, offset };
        assert_eq!(check((bar, offset), (0, 0x3000)), Err(error));
    }
    for (bar, offset) in [(0, 0x2000), (0, 0), (3, 0x3000)] {
        assert_eq!(check((0, 0x2000), (bar, offset)), Err(MappingListError::MsixPba { bar, offset }));
    }
    // Without the capability the report alone says what is left to the host.
    let list = plan(&report(&ranges), &with_msix(None), &bars).unwrap();
    assert_eq!((list.requests.len(), list.shared_pages.len()), (1, 2));
}

/// The plan of [`nvme`] by other rules.
fn nvme_by(rules: ReportRules, ranges: &[ReportedRange]) -> Result<MappingList, MappingListError> {
    let function = with_msix(Some([(0, 0x2000), (0, 0x3000)]));
    gatehouse::mapping::plan(&report(ranges), &function, &[bar(0, 0x80_0000_0000, 0x4000)], &rules)
}

fn quirk(change: impl FnOnce(&mut Quirks)) -> ReportRules {
    let mut rules = ReportRules::default();
    change(&mut rules.quirks);
    rules
}

fn good(base: u64) -> [ReportedRange; 3] {
    [range(0, base, 2, TEE), range(0, base + 2 * PAGE, 1, TABLE), range(0, base + 3 * PAGE, 1, PBA)]
}

fn shared(list: &MappingList) -> Vec<(u8, u32, u32)> {
    list.shared_pages.iter().map(|m| (m.bar, m.first_page, m.num_pages)).collect()
}

#[test]
fn non_tee_ranges_stay_shared_only_by_a_rule() {
    let mut ranges = good(0);
    ranges[0].len = PAGE;
    let non_tee = range(0, PAGE, 1, RangeAttributes::NON_TEE);
    let ranges = [ranges[0], non_tee, ranges[1], ranges[2]];
    let refused = Err(MappingListError::NonTee { range: 1, bar: 0 });
    assert_eq!(nvme_by(ReportRules::default(), &ranges), refused);
    let list = nvme_by(ReportRules { non_tee_shared: true, ..ReportRules::default() }, &ranges).unwrap();
    assert_eq!(shared(&list), [(0, 1, 1), (0, 2, 1), (0, 3, 1)]);
    assert_eq!((list.requests.len(), list.requests[0].ipa.len_bytes()), (1, PAGE));
}

#[test]
fn an_odd_reporting_offset_is_right_only_relative_to_the_first_range() {
    for base in [PAGE, 0x10_0000 + 3 * PAGE, 1 << 40] {
        let list = nvme_by(quirk(|quirks| quirks.relative = true), &good(base)).unwrap();
        assert_eq!(list.requests[0].ipa.base(), 0x80_0000_0000);
        assert_eq!(list.requests[0].report_base, base, "the RMM is asked for the report address");
        assert_eq!(shared(&list), [(0, 2, 1), (0, 3, 1)]);
    }
    let relative = |change: fn(&mut [ReportedRange; 3])| {
        let mut ranges = good(0x10_1000);
        change(&mut ranges);
        nvme_by(quirk(|quirks| quirks.relative = true), &ranges)
    };
    let offset = Err(MappingListError::ReportingOffset { range: 1, bar: 0 });
    assert_eq!(relative(|ranges| ranges[1].base = 0x10_0000), offset);
    assert_eq!(
        relative(|ranges| ranges[2].len = 2 * PAGE),
        Err(MappingListError::PastBar { range: 2, bar: 0 })
    );
    assert_eq!(
        relative(|ranges| ranges[0].len = PAGE),
        Err(MappingListError::Uncovered { bar: 0, offset: 0x1000 })
    );
}

#[test]
fn one_range_is_the_whole_bar_where_a_rule_says_so() {
    let whole = quirk(|quirks| quirks.whole_bar = true);
    let function = with_msix(None);
    let bars = [bar(0, 0x80_0000_0000, 0x4000)];
    let plan = |ranges: &[ReportedRange]| gatehouse::mapping::plan(&report(ranges), &function, &bars, &whole);
    let list = plan(&[range(0, 0x10_3000, 4, TEE)]).unwrap();
    assert_eq!((list.requests[0].ipa.base(), list.requests[0].ipa.len_bytes()), (0x80_0000_0000, 0x4000));
    assert_eq!(list.requests[0].report_base, 0x10_3000);
    let short = plan(&[range(0, 0x10_3000, 3, TEE)]);
    assert_eq!(short, Err(MappingListError::Uncovered { bar: 0, offset: 0x3000 }));
    assert_eq!(plan(&[range(0, 0, 5, TEE)]), Err(MappingListError::PastBar { range: 0, bar: 0 }));
    let two = plan(&[range(0, 0, 2, TEE), range(0, 0x2000, 2, TEE)]);
    assert_eq!(two, Err(MappingListError::SecondRange { range: 1 }));
}

#[test]
fn pages_that_no_range_names_stay_shared_only_by_two_rules() {
    let both = ReportRules { non_tee_shared: true, ..quirk(|quirks| quirks.omitted_non_tee = true) };
    let ranges = [range(0, PAGE, 1, TEE), range(0, 3 * PAGE, 1, PBA)];
    let refused = Err(MappingListError::Uncovered { bar: 0, offset: 0 });
    assert_eq!(nvme_by(ReportRules::default(), &ranges), refused);
    assert_eq!(nvme_by(ReportRules { non_tee_shared: true, ..ReportRules::default() }, &ranges), refused);
    assert_eq!(nvme_by(quirk(|quirks| quirks.omitted_non_tee = true), &ranges), refused);
    let list = nvme_by(both, &ranges).unwrap();
    assert_eq!(shared(&list), [(0, 0, 1), (0, 2, 1), (0, 3, 1)]);
    // The table may lie in an omitted page, but not in one that the report calls TEE memory, nor outside the BARs.
    let tee = [range(0, 0, 3, TEE), range(0, 3 * PAGE, 1, PBA)];
    assert_eq!(nvme_by(both, &tee), Err(MappingListError::MsixTable { bar: 0, offset: 0x2000 }));
    let bars = [bar(0, 0x80_0000_0000, 0x4000), bar(2, 0x90_0000_0000, 0x2000)];
    for table in [(0, 0x4000), (1, 0), (2, 0x2000)] {
        let function = with_msix(Some([table, (0, 0x3000)]));
        let error = gatehouse::mapping::plan(&report(&ranges), &function, &bars, &both);
        assert_eq!(error, Err(MappingListError::MsixTable { bar: table.0, offset: table.1 }));
    }
    // A whole BAR may be omitted, but not one that is smaller than what can be shared.
    let function = with_msix(None);
    let list = gatehouse::mapping::plan(&report(&ranges), &function, &bars, &both).unwrap();
    assert_eq!(shared(&list).last(), Some(&(2, 0, 2)));
    let small = [bars[0], bar(2, 0x90_0000_0000, 0x800)];
    let error = gatehouse::mapping::plan(&report(&ranges), &function, &small, &both);
    assert_eq!(error, Err(MappingListError::SmallBar(2)));
}

#[test]
fn ids_are_read_as_the_rule_says() {
    let with = |ids: [u16; 2], change: fn(&mut Quirks)| {
        let ranges = [range(ids[0], 0, 1, TEE), range(ids[1], 0x7_0000, 2, TEE)];
        let bars = [bar(0, 0x1_0000, 0x1000), bar(2, 0x2_0000, 0x2000)];
        let list = gatehouse::mapping::plan(&report(&ranges), &with_msix(None), &bars, &quirk(change));
        list.map(|list| list.requests.iter().map(|request| request.bar).collect::<Vec<_>>())
    };
    let bad = |range, id| Err(MappingListError::BadId { range, id });
    assert_eq!(with([0xff00, 0xff02], |quirks| quirks.high_ids = true).unwrap(), [0, 2]);
    assert_eq!(with([0xff00, 0xff02], |_| ()), bad(0, 0xff00));
    assert_eq!(with([0xff00, 2], |quirks| quirks.high_ids = true), bad(1, 2));
    assert_eq!(with([0xff00, 0xff01], |quirks| quirks.high_ids = true), bad(1, 0xff01));
    assert_eq!(with([0, 4], |quirks| quirks.doubled_ids = true).unwrap(), [0, 2]);
    assert_eq!(with([0, 4], |_| ()), bad(1, 4));
    assert_eq!(with([0, 5], |quirks| quirks.doubled_ids = true), bad(1, 5));
    assert_eq!(with([0, 2], |quirks| quirks.doubled_ids = true), bad(1, 2));
    let both: fn(&mut Quirks) = |quirks| (quirks.high_ids, quirks.doubled_ids) = (true, true);
    assert_eq!(with([0xff00, 0xff04], both).unwrap(), [0, 2]);
}

#[test]
fn coherent_memory_is_left_out_where_ids_are_high() {
    let mut ranges = good(0).map(|range| ReportedRange { id: 0xff00, ..range }).to_vec();
    ranges.insert(1, range(0xffff, 1 << 45, 1 << 20, TEE));
    let list = nvme_by(quirk(|quirks| quirks.high_ids = true), &ranges).unwrap();
    assert_eq!((list.requests.len(), list.shared_pages.len()), (1, 2));
    let mut ranges = good(0).to_vec();
    ranges.insert(1, range(0xffff, 1 << 45, 1 << 20, TEE));
    assert_eq!(
        nvme_by(ReportRules::default(), &ranges),
        Err(MappingListError::BadId { range: 1, id: 0xffff })
    );
}

#[test]
fn addresses_are_in_bytes_only_by_a_rule() {
    let bytes = |base: u64| good(base).map(|range| ReportedRange { base: range.base * PAGE, ..range });
    let rules = quirk(|quirks| quirks.byte_addresses = true);
    let list = nvme_by(rules, &bytes(0x20_0000)).unwrap();
    assert_eq!(list, nvme_by(ReportRules::default(), &good(0x20_0000)).unwrap());
    assert!(nvme_by(ReportRules::default(), &bytes(0x20_0000)).is_err());
    let mut odd = bytes(0x20_0000);
    odd[1].base += PAGE;
    let error = MappingListError::ByteAddress { range: 1, address: 0x20_2001 };
    assert_eq!(nvme_by(rules, &odd), Err(error));
}
