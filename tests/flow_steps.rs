//! Each call of a plain boot fails once, with each status: the boot never goes on, but where the call may fail by
//! design, and leaves nothing behind. RNDR is missing, so that MEASUREMENT_READ is part of the way.
mod common;

use common::*;
use gatehouse::codes::StopCode;
use gatehouse::codes::StopCode::*;
use rmm_model::scenario::{Lie, Misbehaviour, RhiCall, RsiCall};
use std::collections::BTreeMap;

const NOT_SUPPORTED: u64 = u64::MAX;
const GARBAGE: u64 = 0x5ead_beef;
/// All that is not RSI_SUCCESS.
const RSI: [u64; 7] = [1, 2, 3, 4, 5, NOT_SUPPORTED, GARBAGE];
const RSI_INCOMPLETE: u64 = 3;
const RSI_DEVICE: u64 = 5;
const RHI_MISSING: u64 = 2;
const RHI_UNKNOWN_OBJECT: u64 = 4;
const RHI_ACCESS_FAILED: u64 = 8;
const RHI_BUSY: u64 = 9;
const RHI_UNSUPPORTED: u64 = 0xb;

/// The RSI commands of the way, under their names in the trace.
const COMMANDS: [(&str, RsiCall); 11] = [
    ("RSI_VERSION", RsiCall::Version),
    ("RSI_FEATURES", RsiCall::Features),
    ("RSI_REALM_CONFIG", RsiCall::RealmConfig),
    ("RSI_MEASUREMENT_READ", RsiCall::MeasurementRead),
    ("RSI_MEASUREMENT_EXTEND", RsiCall::MeasurementExtend),
    ("RSI_IPA_STATE_SET", RsiCall::IpaStateSet),
    ("RSI_IPA_STATE_GET", RsiCall::IpaStateGet),
    ("RSI_HOST_CALL", RsiCall::HostCall),
    ("RSI_VDEV_GET_INFO", RsiCall::VdevGetInfo),
    ("RSI_VDEV_VALIDATE_MAPPING", RsiCall::VdevValidateMapping),
    ("RSI_VDEV_DMA_ENABLE", RsiCall::VdevDmaEnable),
];

/// The RHI calls of the way.
const CALLS: [(&str, RhiCall); 10] = [
    ("RHI_DA_VERSION", RhiCall::DaVersion),
    ("RHI_DA_FEATURES", RhiCall::DaFeatures),
    ("RHI_HOSTCONF_VERSION", RhiCall::HostconfVersion),
    ("RHI_HOSTCONF_FEATURES", RhiCall::HostconfFeatures),
    ("RHI_HOSTCONF_GET_IPA_CHANGE_ALIGNMENT", RhiCall::HostconfGetIpaChangeAlignment),
    ("RHI_DA_VDEV_SET_TDI_STATE", RhiCall::DaVdevSetTdiState),
    ("RHI_DA_VDEV_GET_INTERFACE_REPORT", RhiCall::DaVdevGetInterfaceReport),
    ("RHI_DA_VDEV_GET_MEASUREMENTS", RhiCall::DaVdevGetMeasurements),
    ("RHI_DA_OBJECT_SIZE", RhiCall::DaObjectSize),
    ("RHI_DA_OBJECT_READ", RhiCall::DaObjectRead),
];

/// Runs the plain boot with one lie, on a machine without RNDR.
fn run(lies: &[Misbehaviour]) -> Ran {
    let scenario = lying(lies);
    Boot { rndr: false, ..Boot::new(&scenario) }.run()
}

/// How often the plain boot makes each call of this prefix.
fn counts(prefix: &str) -> BTreeMap<String, u32> {
    let ran = run(&[]);
    ran.boots();
    let mut counts = BTreeMap::new();
    for (call, ..) in ran.calls().iter().filter(|call| call.0.starts_with(prefix)) {
        *counts.entry((*call).to_owned()).or_insert(0) += 1;
    }
    counts
}

/// The stage of the nth RSI_HOST_CALL: the RHI calls of the way in order.
fn host_call(nth: u32) -> StopCode {
    match nth {
        1..=5 => HostInterface,
        6 => LockFailed,
        7..=16 => CollectFailed,
        _ => StartFailed,
    }
}

/// What an RSI command's failure comes to; `None`: the boot goes on.
fn rsi_end(call: RsiCall, nth: u32, status: u64) -> Option<StopCode> {
    let is_vdev =
        matches!(call, RsiCall::VdevGetInfo | RsiCall::VdevValidateMapping | RsiCall::VdevDmaEnable);
    Some(match (call, nth, status) {
        // "Call again" is no failure.
        (.., RSI_INCOMPLETE) if is_vdev => return None,
        // The RMM offers version 0: not one of ours.
        (RsiCall::Version, _, 1) => RsiVersion,
        (RsiCall::Version | RsiCall::Features | RsiCall::RealmConfig, ..) => RealmConfig,
        // Own memory, tree twice, described memory; then the mapped range, after VALIDATE and after RUN.
        (RsiCall::IpaStateGet, 1, _) => OwnMemory,
        (RsiCall::IpaStateGet, 2 | 3, _) => TreeAddress,
        (RsiCall::IpaStateGet, 4, _) => PayloadMemory,
        (RsiCall::IpaStateGet | RsiCall::MeasurementRead, ..) => RmmCall,
        (RsiCall::MeasurementExtend, ..) => Measure,
        (RsiCall::IpaStateSet, ..) => SharedWindow,
        (RsiCall::HostCall, ..) => host_call(nth),
        // Before the lock there is no VDEV.
        (RsiCall::VdevGetInfo, 1, 1) => return None,
        (RsiCall::VdevGetInfo, ..) => VdevInfo,
        (RsiCall::VdevValidateMapping, _, RSI_DEVICE) => MappingStaleNonce,
        (RsiCall::VdevValidateMapping, ..) => MappingFailed,
        _ => DmaEnableFailed,
    })
}

/// What an RHI call's failure comes to; `None`: the boot goes on.
fn rhi_end(call: RhiCall, nth: u32, status: u64) -> Option<StopCode> {
    use RhiCall::*;
    Some(match call {
        DaVersion | DaFeatures => HostInterface,
        // Without HOSTCONF 1.0, or without its bit 0, memory is converted in units of 4 KiB.
        HostconfVersion | HostconfFeatures => return None,
        HostconfGetIpaChangeAlignment => HostInterface,
        DaVdevSetTdiState | DaVdevGetInterfaceReport | DaVdevGetMeasurements if status == RHI_BUSY => {
            return None;
        }
        // The first call that passes a buffer: the address is tried in its other form.
        DaVdevGetMeasurements if status == RHI_ACCESS_FAILED => return None,
        // The ACS has the VCA, the second object of the way, under another number.
        DaObjectSize if nth == 2 && matches!(status, RHI_MISSING | RHI_UNKNOWN_OBJECT | RHI_UNSUPPORTED) => {
            return None;
        }
        DaObjectSize | DaObjectRead
            if matches!(status, RHI_MISSING | RHI_UNKNOWN_OBJECT | RHI_UNSUPPORTED) =>
        {
            StopCode::ObjectMissing
        }
        DaVdevSetTdiState if nth == 1 => LockFailed,
        DaVdevSetTdiState => StartFailed,
        _ => CollectFailed,
    })
}

#[track_caller]
fn check(lie: Lie, nth: u32, end: Option<StopCode>, is_unshare: bool) {
    let what = format!("{lie:?}, call {nth}");
    let result = std::panic::catch_unwind(|| {
        let ran = run(&[Misbehaviour::at(lie, nth)]);
        match end {
            None => drop(ran.boots()),
            Some(code) if is_unshare => {
                ran.stops_with(code, &["the shared window"]);
                assert_eq!(ran.state.shared.len(), 1);
                ran.is_taken_back(ran.device());
            }
            Some(code) => ran.stops(code),
        }
    });
    assert!(result.is_ok(), "{what} should come to {end:?}");
}

#[test]
fn every_rsi_call_that_fails_ends_the_boot_cleanly() {
    let counts = counts("RSI_");
    assert!(counts.keys().all(|name| COMMANDS.iter().any(|command| command.0 == name)), "{counts:?}");
    for (name, call) in COMMANDS {
        for nth in 1..=counts[name] {
            for status in RSI {
                let is_unshare = call == RsiCall::IpaStateSet && nth == 2;
                check(Lie::RsiStatus { call, status }, nth, rsi_end(call, nth, status), is_unshare);
            }
        }
    }
}

#[test]
fn every_rhi_call_that_fails_ends_the_boot_cleanly() {
    let counts = counts("RHI_");
    assert!(counts.keys().all(|name| CALLS.iter().any(|call| call.0 == name)), "{counts:?}");
    for (name, call) in CALLS {
        for nth in 1..=counts[name] {
            for status in (1..=0xc).chain([NOT_SUPPORTED, GARBAGE]) {
                check(Lie::RhiStatus { call, status }, nth, rhi_end(call, nth, status), false);
            }
            check(Lie::RhiGarbageStatus { call }, nth, rhi_end(call, nth, GARBAGE), false);
        }
    }
}

#[test]
fn a_call_that_only_says_that_it_succeeded_does_not_help() {
    let ends = [
        (RhiCall::DaVersion, 1, Some(HostInterface)),
        (RhiCall::DaFeatures, 1, Some(HostInterface)),
        (RhiCall::DaVdevSetTdiState, 1, Some(VdevInfo)),
        (RhiCall::DaVdevSetTdiState, 2, Some(NotStarted)),
        (RhiCall::DaVdevGetInterfaceReport, 1, Some(StopCode::ObjectMissing)),
        (RhiCall::DaVdevGetMeasurements, 1, Some(StopCode::ObjectMissing)),
        (RhiCall::DaObjectSize, 1, Some(StopCode::ObjectTooLarge)),
        (RhiCall::DaObjectRead, 1, Some(CollectFailed)),
    ];
    for (call, nth, end) in ends {
        check(Lie::RhiStatus { call, status: 0 }, nth, end, false);
    }
    // The RMM says that it carried the call, the buffer is as it was: the function id is no status.
    for nth in 6..=17 {
        check(Lie::RsiStatus { call: RsiCall::HostCall, status: 0 }, nth, Some(host_call(nth)), false);
    }
}

#[test]
fn a_continue_that_fails_ends_the_boot_cleanly() {
    // Two INCOMPLETE each: lock, report, measurements, run.
    let ends = [LockFailed, CollectFailed, CollectFailed, StartFailed];
    for (nth, end) in (1u32..).step_by(2).zip(ends) {
        for status in (2..=0xc).filter(|status| *status != RHI_BUSY).chain([NOT_SUPPORTED, GARBAGE]) {
            let lie = Lie::RhiStatus { call: RhiCall::DaVdevContinue, status };
            let mut scenario = lying(&[Misbehaviour::at(lie, nth)]);
            scenario.host.incomplete = 2;
            boot(&scenario).stops(end);
        }
    }
}
