//! What is left behind is named, and nothing else is: the shared window, and a device that the host took away itself.
mod common;

use common::*;
use gatehouse::codes::StopCode;
use rmm_model::scenario::{Lie, Misbehaviour, ObjectKind, RipasTarget, RsiCall};

const WINDOW: &str = "the shared window";
/// Refused after the lock: nothing is mapped.
const FORGED: Lie = Lie::ObjectByte { object: ObjectKind::Report, offset: 20, xor: 1 };

fn with(first: Lie, then: &[Misbehaviour]) -> Ran {
    boot(&lying(&[&[Misbehaviour::once(first)], then].concat()))
}

#[test]
fn a_device_that_the_host_unlocked_leaks_nothing() {
    let calls = [
        (RsiCall::VdevGetInfo, 3, StopCode::VdevInfo),
        (RsiCall::VdevDmaEnable, 1, StopCode::DmaEnableFailed),
    ];
    for (before, nth, code) in calls {
        boot(&lying(&[Misbehaviour::at(Lie::HostUnlock { before }, nth)])).stops(code);
    }
}

#[test]
fn a_window_that_does_not_come_back_is_named() {
    for lie in [
        Lie::IpaStateFails { to: RipasTarget::Ram },
        Lie::IpaStateReject { to: RipasTarget::Ram, after_pages: 0 },
    ] {
        let ran = boot(&once(lie));
        ran.stops_with(StopCode::SharedWindow, &[WINDOW]);
        ran.is_taken_back(ran.device());
        assert_eq!(ran.state.shared.len(), 1);
        let ran = with(FORGED, &[Misbehaviour::once(lie)]);
        ran.stops_with(StopCode::ReportDigest, &[WINDOW]);
        ran.is_taken_back(ran.device());
    }
}

#[test]
fn a_window_that_is_shared_only_in_part_is_given_back() {
    let call = RsiCall::IpaStateSet;
    for lie in [
        Lie::IpaStateFails { to: RipasTarget::Empty },
        Lie::IpaStateReject { to: RipasTarget::Empty, after_pages: 5 },
        Lie::NextBackwards { call },
        Lie::NextAboveTop { call },
        Lie::NextOversize { call },
        Lie::NextUnaligned { call },
    ] {
        boot(&once(lie)).stops(StopCode::SharedWindow);
    }
    let stuck = Misbehaviour { count: 65, ..Misbehaviour::once(Lie::NextStuck { call }) };
    boot(&lying(&[stuck])).stops(StopCode::SharedWindow);
}
