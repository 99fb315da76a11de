//! Forms of the interface report (`tdisp.md` 2 and 3).

mod common;

use common::*;
use rmm_model::abi::rhi::*;
use rmm_model::scenario::*;
use rmm_model::sim::SimFunction;

/// First page, pages, attributes, id.
type Entry = (u64, u32, u16, u16);

/// The ranges of the NVMe's report, pages counted from its real BAR.
fn ranges(form: ReportSpec, listed: Vec<RangeSpec>) -> Vec<Entry> {
    let mut scenario = plain();
    scenario.device[0].report = form;
    scenario.device[0].ranges = listed;
    let mut rig = Rig::placed(&scenario);
    assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), SUCCESS);
    assert_eq!(rig.rhi(RHI_DA_VDEV_GET_INTERFACE_REPORT, &[VDEV])[0], SUCCESS);
    let report = rig.object(3).unwrap();
    assert_eq!(report[..2], [3, 0]);
    let base = rig.real_bar() + MRO;
    let word =
        |at: usize, len: usize| report[at..at + len].iter().rev().fold(0, |v, b| v << 8 | u64::from(*b));
    let entry = |at: usize| {
        let page = word(at, 8);
        let from = if page >= base { page - base } else { page.wrapping_sub(base / PAGE) };
        (from, word(at + 8, 4) as u32, word(at + 12, 2) as u16, word(at + 14, 2) as u16)
    };
    (0..word(12, 4) as usize).map(|number| entry(16 + 16 * number)).collect()
}

#[test]
fn a_report_lists_all_pages_in_order() {
    assert_eq!(ranges(ReportSpec::default(), vec![]), [(0, 2, 0, 0), (2, 1, 1, 0), (3, 1, 2, 0)]);
}

#[test]
fn order_and_parts_are_what_the_scenario_says() {
    let reversed = ReportSpec { order: RangeOrder::Reversed, ..ReportSpec::default() };
    assert_eq!(ranges(reversed, vec![]), [(3, 1, 2, 0), (2, 1, 1, 0), (0, 2, 0, 0)]);
    let without = |part| ranges(ReportSpec { omit: vec![part], ..ReportSpec::default() }, vec![]);
    assert_eq!(without(RangePart::MsixTable), [(0, 2, 0, 0), (3, 1, 2, 0)]);
    assert_eq!(without(RangePart::MsixPba), [(0, 2, 0, 0), (2, 1, 1, 0)]);
    assert_eq!(without(RangePart::LastTee), [(2, 1, 1, 0), (3, 1, 2, 0)]);
    let listed = vec![
        RangeSpec { pages: 1, attributes: 4, ..RangeSpec::default() },
        RangeSpec { offset: 0x1000, pages: 1, id: Some(9), ..RangeSpec::default() },
    ];
    let form = ReportSpec { omit: vec![RangePart::NonTee], ..ReportSpec::default() };
    assert_eq!(ranges(form, listed), [(1, 1, 0, 9)]);
}

#[test]
fn quirks_number_ids_and_addresses_in_their_own_way() {
    let listed = || vec![RangeSpec { offset: 0x1000, pages: 1, ..RangeSpec::default() }];
    let high = ReportSpec { ids: RangeIds::HighByte, ..ReportSpec::default() };
    assert_eq!(ranges(high, listed()), [(1, 1, 0, 0xFF00)]);
    let bytes =
        ReportSpec { ids: RangeIds::Doubled, addresses: RangeAddresses::Bytes, ..ReportSpec::default() };
    assert_eq!(ranges(bytes, listed()), [(0x1000, 1, 0, 0)]);
    let coherent = ExtraRange { page: u64::MAX >> 12, pages: 5, attributes: 8, id: 0xFFFF };
    let form = ReportSpec { extra: vec![coherent], ..ReportSpec::default() };
    assert_eq!(ranges(form, listed())[1].1, 5);
}

#[test]
fn ids_of_another_bar_are_doubled_or_in_the_low_byte() {
    for (ids, id) in [(RangeIds::Bar, 5), (RangeIds::HighByte, 0xFF05), (RangeIds::Doubled, 10)] {
        let mut device = at("02.0");
        device.report.ids = ids;
        let functions = vec![SimFunction::host_bridge(), SimFunction::ahci(2, 0)];
        let mut rig = Rig::with(&devices(vec![device]), functions);
        rig.place_at(NVME, 5, BAR);
        assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), SUCCESS);
        assert_eq!(rig.rhi(RHI_DA_VDEV_GET_INTERFACE_REPORT, &[VDEV])[0], SUCCESS);
        let report = rig.object(3).unwrap();
        assert_eq!((report[12], u16::from_le_bytes([report[30], report[31]])), (1, id));
    }
}
