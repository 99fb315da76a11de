//! Legal but awkward: slow hosts, other readings of RHI, other devices. The boot comes out, or stops with its code.
mod common;

use common::*;
use gatehouse::codes::StopCode;
use rmm_model::digest::HashAlgorithm;
use rmm_model::machine::DmaGate;
use rmm_model::scenario::*;
use rmm_model::sim::SimFunction;
use rmm_model::{FinalState, Scenario};

/// The plain scenario with a change.
fn plain_but(change: impl FnOnce(&mut Scenario)) -> Scenario {
    let mut scenario = plain();
    change(&mut scenario);
    scenario
}

#[track_caller]
fn boots(change: impl FnOnce(&mut Scenario)) -> FinalState {
    let ran = boot(&plain_but(change));
    ran.boots();
    assert_eq!(ran.device().dma, DmaGate::PrivateOnly);
    ran.state
}

#[track_caller]
fn stops(code: StopCode, change: impl FnOnce(&mut Scenario)) {
    boot(&plain_but(change)).stops(code);
}

#[test]
fn a_host_that_needs_many_steps_boots() {
    for incomplete in [1, 2, 17, 1000] {
        boots(|s| s.host.incomplete = incomplete);
        boots(|s| s.device[0].incomplete = Some(incomplete));
    }
    for busy in [1, 3, 100] {
        boots(|s| s.host.busy = busy);
        boots(|s| (s.host.busy, s.host.incomplete) = (busy, 2));
    }
    for (step, stalls) in [(1, 0), (1, 3), (2, 1), (64, 5), (0, 1)] {
        boots(|s| (s.host.validate_step, s.host.validate_stalls) = (step, stalls));
    }
    for (step, stalls) in [(64, 0), (200, 3), (0, 64)] {
        boots(|s| (s.host.ipa_state_step, s.host.ipa_state_stalls) = (step, stalls));
    }
    boots(|s| s.realm.ipa_state_get_step = 1 << 32);
}

#[test]
fn a_host_that_never_gets_on_is_left() {
    stops(StopCode::MappingStalled, |s| s.host.validate_stalls = 65);
    stops(StopCode::SharedWindow, |s| s.host.ipa_state_stalls = 65);
    // The unlock does not end either, but there is nothing to unlock.
    stops(StopCode::HostOperationEndless, |s| s.host.incomplete = 100_000);
}

#[test]
fn pages_are_validated_one_by_one_with_matching_report_addresses() {
    let ran = boot(&plain_but(|s| s.host.validate_step = 1));
    ran.boots();
    let calls = ran.calls();
    let args: Vec<_> =
        calls.iter().filter(|call| call.0 == "RSI_VDEV_VALIDATE_MAPPING").map(|call| &call.1[1..4]).collect();
    let report = args[0][2];
    assert_eq!(args, [[BAR, BAR + 0x2000, report], [BAR + 0x1000, BAR + 0x2000, report + 0x1000]]);
}

#[test]
fn any_sharing_unit_up_to_64_kib_is_taken() {
    for unit in [0x1000, 0x4000, 0x1_0000] {
        let ran = boot(&plain_but(|s| s.host.hostconf_granule = unit));
        ran.boots();
        let calls = ran.calls();
        let window = calls.iter().find(|call| call.0 == "RSI_IPA_STATE_SET").unwrap().1;
        assert!(window[..2].iter().all(|address| address.is_multiple_of(unit)), "{window:x?}");
        assert!(window[1] - window[0] >= 0x10_1000);
    }
    stops(StopCode::HostInterface, |s| s.host.hostconf_granule = 0x2_0000);
    boots(|s| s.host.hostconf = false);
}

#[test]
fn other_readings_of_the_object_calls_boot_or_stop_by_name() {
    boots(|s| s.host.vca_types = VcaTypes::Linux);
    boots(|s| s.host.vca_types = VcaTypes::Acs);
    boots(|s| s.host.object_read = ObjectRead::Whole);
    for spare in [SpareGprs::Unchanged, SpareGprs::Zero, SpareGprs::Garbage] {
        boots(|s| (s.host.spare_gprs, s.host.incomplete, s.host.busy) = (spare, 2, 1));
    }
}

#[test]
fn only_the_features_that_are_needed_are_asked_for() {
    for bit in 0..8 {
        let change = |s: &mut Scenario| s.host.da_features_missing = 1 << bit;
        match bit {
            // OBJECT_SIZE, OBJECT_READ, GET_MEASUREMENTS, GET_INTERFACE_REPORT, SET_TDI_STATE.
            0 | 1 | 3 | 4 | 5 => stops(StopCode::HostInterface, change),
            _ => drop(boots(change)),
        }
    }
    stops(StopCode::HostInterface, |s| s.host.da = false);
}

#[test]
fn every_hash_of_device_and_realm_boots() {
    for hash in [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512] {
        let ran = boot(&plain_but(|s| s.device[0].hash = hash));
        let bytes = tree_at(ran.boots().tree);
        let tree = gatehouse::fdt::check::Tree::check(bytes).unwrap();
        let reader = tree.reader().unwrap();
        let node = reader.find_node("/pcie@4010000000/nvme@2,0").unwrap();
        let len = node.property("gatehouse,report-digest").unwrap().value.len();
        assert_eq!(len, hash.len_bytes());
        boots(|s| s.realm.hash = hash);
    }
}

#[test]
fn a_realm_without_device_assignment_is_named() {
    stops(StopCode::NoDeviceAssignment, |s| s.realm.da = false);
    for mismatch in [VersionMismatch::Spec, VersionMismatch::TfRmm] {
        stops(StopCode::NoDeviceAssignment, |s| {
            (s.realm.rsi, s.realm.version_mismatch) = (RsiVersions::V10, mismatch);
        });
    }
}

#[test]
fn other_layouts_of_the_rmm_are_known_or_refused() {
    boots(|s| s.dialect = Dialect::A3);
    // Layout B: nothing stands where layout D has it.
    stops(StopCode::VdevInfo, |s| s.dialect = Dialect::A2);
    boots(|s| s.realm.config_page = ConfigPage::Clear);
}

#[test]
fn any_reporting_offset_that_the_bar_divides_boots() {
    for mro in [0, 0x4000, 0x8000, 1 << 51, 0x7fff_ffff_0000_0000, 0u64.wrapping_sub(0x4000)] {
        boots(|s| s.device[0].mro = mro);
    }
    for mro in [0x1000, 0x2000, 0x5000, 0x1_0000_1000] {
        stops(StopCode::ReportingOffset, |s| s.device[0].mro = mro);
    }
    // The first range itself lies across the BAR's end then.
    for mro in [0x3000, 0x7000] {
        stops(StopCode::ReportPastBar, |s| s.device[0].mro = mro);
    }
}

#[test]
fn the_manners_of_the_vmm_do_not_matter() {
    boots(|s| s.vmm.config = ConfigAccess::PassThrough);
    boots(|s| s.vmm.assign_bars = true);
    boots(|s| s.device[0].tee_io = false);
    boots(|s| s.device[0].unlocked_dma = UnlockedDma::Shared);
    boots(|s| s.config_records = false);
    let forged = Misbehaviour::always(Lie::ObjectByte { object: ObjectKind::Vca, offset: 1, xor: 1 });
    for config in [ConfigAccess::PassThrough, ConfigAccess::Virtualise] {
        stops(StopCode::VcaDigest, |s| {
            s.vmm.config = config;
            s.device[0].unlocked_dma = UnlockedDma::Shared;
            s.misbehaviour = vec![forged.clone()];
        });
    }
}

#[test]
fn objects_of_one_byte_up_to_one_mib_are_taken() {
    for len in [1, 4095, 4096, 4097, 1 << 20] {
        // They come through whole, and their digests fit; what they say is none.
        stops(StopCode::VcaMalformed, |s| s.device[0].vca = Some(Blob::generated(len)));
        stops(StopCode::ExchangeMalformed, |s| s.device[0].measurements = Some(Blob::generated(len)));
    }
    for len in [1, 4095, 4096, 4097, (1 << 20) - 0x100] {
        boots(|s| s.device[0].vendor = Blob::generated(len));
    }
    stops(StopCode::ChainLimit, |s| s.device[0].certificate = Some(Blob::generated(1 << 20)));
    stops(StopCode::ObjectTooLarge, |s| s.device[0].certificate = Some(Blob::generated((1 << 20) + 1)));
    stops(StopCode::ObjectEmpty, |s| s.device[0].vca = Some(Blob::generated(0)));
}

#[test]
fn a_report_that_does_not_fit_the_device_is_refused() {
    let range = |offset, pages, attributes| RangeSpec { offset, pages, attributes, ..RangeSpec::default() };
    let ends = [
        (StopCode::ReportNonTee, vec![range(0, 2, 4), range(0x2000, 1, 1), range(0x3000, 1, 2)]),
        (StopCode::ReportNoTeeRange, vec![range(0, 4, 3)]),
        (StopCode::ReportMsix, vec![range(0, 4, 0)]),
        (StopCode::ReportMsix, vec![range(0, 2, 0), range(0x2000, 2, 2)]),
        (StopCode::ReportPba, vec![range(0, 2, 0), range(0x2000, 2, 1)]),
        // Pages that the report does not account for, or that a payload could not map private.
        (StopCode::ReportIncomplete, vec![range(0, 1, 0), range(0x2000, 2, 3)]),
        (StopCode::ReportIncomplete, vec![range(0x1000, 1, 0), range(0x2000, 2, 3)]),
        (StopCode::ReportIncomplete, vec![range(0, 2, 0), range(0x2000, 1, 3)]),
        (StopCode::ReportNonTee, vec![range(0, 1, 4), range(0x1000, 1, 0), range(0x2000, 2, 3)]),
        // The registers of the idle check are not private.
        (StopCode::NotIdle, vec![range(0, 1, 1), range(0x1000, 1, 0), range(0x2000, 2, 3)]),
        (StopCode::ReportMalformed, vec![range(0, 2, 0x10), range(0x2000, 2, 3)]),
    ];
    for (code, ranges) in ends {
        stops(code, |s| s.device[0].ranges = ranges);
    }
    boots(|s| s.device[0].ranges = vec![range(0, 2, 8), range(0x2000, 2, 3)]);
    stops(StopCode::ReportMalformed, |s| s.device[0].interface_info = 0x20);
}

/// Boots the scenario, whose only device is required, on a bus with these functions.
fn require(scenario: &Scenario, functions: Vec<SimFunction>) -> Ran {
    Boot { functions, ..Boot::new(scenario) }.run()
}

#[test]
fn a_device_of_another_class_has_no_idle_check_and_is_refused() {
    let scenario = plain_but(|s| s.device[0].slot = "03.0".into());
    let ran = require(&scenario, functions());
    ran.stops_with(StopCode::NoIdleCheck, &[]);
    ran.is_taken_back(ran.state.device("03.0").unwrap());
}

#[test]
fn a_function_that_is_missing_or_not_assigned_stops_the_boot() {
    let scenario = plain();
    // A bridge is no device, whatever the bundle says.
    let asks_for = |slot: &str| image::Image::of(&plain_but(|s| s.device[0].slot = slot.into()));
    for slot in ["04.0", "00.0"] {
        let boot = Boot { image: asks_for(slot), ..Boot::new(&scenario) };
        boot.run().stops(StopCode::RequiredMissing);
    }
    // The host knows no VDEV there.
    let ran = Boot { image: asks_for("03.0"), ..Boot::new(&scenario) }.run();
    ran.stops_with(StopCode::LockFailed, &[]);
    assert!(ran.state.shared.is_empty());
}

#[test]
fn an_earlier_session_with_the_device_does_not_help_the_host() {
    boots(|s| s.device[0].earlier = EarlierSession::Unlocked);
    stops(StopCode::NotUnlockedBefore, |s| s.device[0].earlier = EarlierSession::Locked);
    // What the RMM still has of that session is no evidence of this lock.
    for (op, code) in [
        (RhiOp::Report, StopCode::NotRefreshed),
        (RhiOp::Measurements, StopCode::NotRefreshed),
        (RhiOp::Lock, StopCode::NotLocked),
        (RhiOp::Run, StopCode::NotStarted),
    ] {
        stops(code, |s| {
            s.device[0].earlier = EarlierSession::Unlocked;
            s.misbehaviour = vec![Misbehaviour::once(Lie::OpIgnored { op })];
        });
    }
}

#[test]
fn a_function_behind_a_missing_function_0_is_missing() {
    let scenario = plain_but(|s| s.device[0].slot = "02.3".into());
    let list = vec![SimFunction::host_bridge(), SimFunction::nvme(2, 3), SimFunction::edu(2, 7)];
    require(&scenario, list).stops_with(StopCode::RequiredMissing, &[]);
}
