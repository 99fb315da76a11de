//! The way back: whatever step of it fails, the others are done, and the log names exactly that step.
mod common;

use common::*;
use gatehouse::codes::StopCode;
use rmm_model::final_state::TdiState;
use rmm_model::machine::DmaGate;
use rmm_model::scenario::{Lie, Misbehaviour, ObjectKind, RhiCall, RhiOp, RipasTarget, RsiCall};

const UNLOCK: &str = "RHI_DA_VDEV_SET_TDI_STATE failed";
const RANGE: &str = "RSI_IPA_STATE_SET [0x8000000000, 0x8000002000) failed";
const DMA: &str = "RSI_VDEV_DMA_DISABLE failed";

/// Refused after the lock: nothing is mapped.
const FORGED: Lie = Lie::ObjectByte { object: ObjectKind::Report, offset: 20, xor: 1 };
/// Refused after one page is DEV.
const HALF_MAPPED: Lie = Lie::ValidateReject { after_pages: 1 };

fn with(first: Lie, then: &[Misbehaviour]) -> Ran {
    boot(&lying(&[&[Misbehaviour::once(first)], then].concat()))
}

/// Refused once DMA is on: the last GET_INFO finds another nonce.
fn after_dma(then: &[Misbehaviour]) -> Ran {
    let late = Misbehaviour::at(Lie::RefreshReport { before: RsiCall::VdevGetInfo }, 5);
    boot(&lying(&[&[late], then].concat()))
}

/// All but what `leaks` name was given back.
#[track_caller]
fn only(ran: &Ran, code: StopCode, leaks: &[&str]) {
    ran.stops_with(code, leaks);
    let device = ran.device();
    let has = |leak: &str| leaks.contains(&leak);
    assert_eq!(device.dma, DmaGate::Abort, "the RMM drops DMA with the lock, or never opened it");
    assert_eq!(device.dev_ranges.is_empty(), !has(RANGE));
    // The RMM does not unlock while pages are mapped.
    assert_eq!(device.state == TdiState::Unlocked, !has(UNLOCK));
    assert_eq!(device.command, 0);
    assert!(ran.state.shared.is_empty() && ran.mapped.is_empty());
}

#[test]
fn a_host_that_does_not_unlock_is_named() {
    for lie in [
        Lie::UnlockFails,
        Lie::OpFails { op: RhiOp::Unlock },
        Lie::OpIgnored { op: RhiOp::Unlock },
        Lie::RhiBusy { op: RhiOp::Unlock },
        Lie::RhiIncompleteForever { op: RhiOp::Unlock },
    ] {
        only(&with(FORGED, &[Misbehaviour::always(lie)]), StopCode::ReportDigest, &[UNLOCK]);
    }
    for status in [2, 3, 4, 5, 6, 7, 8, 0xa, 0xb, u64::MAX, 0x5ead_beef] {
        let call = RhiCall::DaVdevSetTdiState;
        let unlock = Misbehaviour::at(Lie::RhiStatus { call, status }, 2);
        only(&with(FORGED, &[unlock]), StopCode::ReportDigest, &[UNLOCK]);
    }
}

#[test]
fn an_unlock_that_the_rmm_does_not_confirm_is_named() {
    for status in [2, 3, 4, 5, u64::MAX, 0x5ead_beef] {
        let call = RsiCall::VdevGetInfo;
        let last = Misbehaviour { count: 1000, ..Misbehaviour::at(Lie::RsiStatus { call, status }, 4) };
        let ran = with(FORGED, &[last]);
        // The host did unlock; without the RMM's word it does not count.
        ran.stops_with(StopCode::ReportDigest, &[UNLOCK]);
        assert_eq!(ran.device().state, TdiState::Unlocked);
    }
}

#[test]
fn a_validated_page_that_is_not_given_up_is_named() {
    for lie in [
        Lie::IpaStateFails { to: RipasTarget::Empty },
        Lie::IpaStateReject { to: RipasTarget::Empty, after_pages: 0 },
        Lie::NextStuck { call: RsiCall::IpaStateSet },
        Lie::RsiStatus { call: RsiCall::IpaStateSet, status: 4 },
    ] {
        // The first is the window's.
        let count = if matches!(lie, Lie::NextStuck { .. }) { 65 } else { 1 };
        let lie = Misbehaviour { count, ..Misbehaviour::at(lie, 2) };
        only(&with(HALF_MAPPED, &[lie]), StopCode::MappingRejected, &[RANGE, UNLOCK]);
    }
}

#[test]
fn dma_that_is_not_disabled_is_named_and_the_unlock_drops_it() {
    for status in [1, 2, 3, 4, 5, u64::MAX, 0x5ead_beef] {
        let lie = Lie::RsiStatus { call: RsiCall::VdevDmaDisable, status };
        only(&after_dma(&[Misbehaviour::always(lie)]), StopCode::NoncesChanged, &[DMA]);
    }
    let lie = Misbehaviour::once(Lie::RsiIncomplete { call: RsiCall::VdevDmaDisable });
    only(&after_dma(&[lie]), StopCode::NoncesChanged, &[]);
}

#[test]
fn dma_is_off_before_pages_and_lock_are_given_back() {
    let ran = after_dma(&[]);
    ran.stops(StopCode::NoncesChanged);
    let calls = ran.calls();
    let last = |name: &str| calls.iter().rposition(|call| call.0 == name).unwrap();
    let disable = last("RSI_VDEV_DMA_DISABLE");
    assert!(last("RSI_VDEV_DMA_ENABLE") < disable);
    assert!(disable < last("RSI_IPA_STATE_SET"));
    assert!(last("RSI_IPA_STATE_SET") < last("RHI_DA_VDEV_SET_TDI_STATE"));
}

#[test]
fn everything_that_fails_is_named_in_order() {
    let ran = after_dma(&[
        Misbehaviour::always(Lie::RsiStatus { call: RsiCall::VdevDmaDisable, status: 4 }),
        Misbehaviour::at(Lie::IpaStateFails { to: RipasTarget::Empty }, 2),
        Misbehaviour::always(Lie::UnlockFails),
    ]);
    // DMA stays on: nothing that the realm can call takes it away.
    let leaks = ["RSI_VDEV_DMA_DISABLE", "RSI_IPA_STATE_SET", "RHI_DA_VDEV_SET_TDI_STATE"];
    assert_eq!(ran.code(), Some(StopCode::NoncesChanged));
    let told = ran.leaks();
    assert!(told.len() == 3 && told.iter().zip(leaks).all(|(line, leak)| line.starts_with(leak)), "{told:?}");
    assert_eq!(ran.device().command, 0);
}

#[test]
fn a_command_register_that_stays_on_is_named() {
    let scenario = once(FORGED);
    let tamper: Tamper = |ipa, model| {
        let is_locked_once = model.final_state().devices[0].counters.rsi_calls > 0;
        (ipa == ecam(2, 4) && is_locked_once).then_some(0x406)
    };
    let ran = Boot { tamper: Some(tamper), ..Boot::new(&scenario) }.run();
    ran.stops_with(StopCode::ReportDigest, &["command register failed"]);
}

#[test]
fn a_device_is_taken_back_when_a_part_of_the_bundle_is_forged() {
    let scenario = plain();
    for image in [
        image::Image::flipped(|packed| packed.kernel.offset + 100),
        image::Image::flipped(|packed| packed.kernel.offset + packed.kernel.len - 1),
        image::Image::flipped(|packed| packed.ramdisk.unwrap().offset),
        image::Image::flipped(|packed| packed.cmdline.offset),
    ] {
        Boot { image, ..Boot::new(&scenario) }.run().stops(StopCode::PartHash);
    }
}
