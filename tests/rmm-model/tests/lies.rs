//! Each lie, told once, seen from the realm.

mod common;

use common::*;
use rmm_model::abi::{rhi::*, rsi::*};
use rmm_model::final_state::TdiState;
use rmm_model::record::Event;
use rmm_model::scenario::*;

const REPORT: ObjectKind = ObjectKind::Report;

fn word(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[test]
fn a_flipped_byte_breaks_the_digest_once_and_is_on_record() {
    for (object, number, at) in [
        (ObjectKind::Vca, 4, 0x80),
        (ObjectKind::Certificate, 1, 0xC0),
        (ObjectKind::Measurements, 2, 0x140),
        (REPORT, 3, 0x180),
    ] {
        let (mut rig, info) = Rig::locked(&once(Lie::ObjectByte { object, offset: 17, xor: 0x80 }));
        let first = rig.object(number).unwrap();
        let second = rig.object(number).unwrap();
        assert_eq!(first[17] ^ second[17], 0x80);
        assert_ne!(info.bytes[at..at + 48], sha384(&first)[..]);
        assert_eq!(info.bytes[at..at + 48], sha384(&second)[..]);
        assert_eq!(rig.model.final_state().lies, ["object-byte"]);
        assert!(rig.m.events().any(|event| matches!(event, Event::Lie { name, slot }
            if name == "object-byte" && slot.as_deref() == Some("02.0"))));
    }
}

#[test]
fn objects_can_be_missing_empty_too_large_short_and_long() {
    let (mut rig, _) = Rig::locked(&once(Lie::ObjectMissing { object: REPORT }));
    assert_eq!(rig.object(3), Err(DATA_NOT_AVAILABLE));
    assert!(rig.object(3).is_ok());
    for (lie, size) in [
        (Lie::ObjectEmpty { object: REPORT }, 0),
        (Lie::ObjectTooLarge { object: REPORT }, (16 << 20) + 1),
        (Lie::ObjectSize { object: REPORT, size: 5 }, 5),
    ] {
        let (mut rig, _) = Rig::locked(&once(lie));
        assert_eq!(rig.rhi(RHI_DA_OBJECT_SIZE, &[VDEV, 3])[..2], [SUCCESS, size]);
    }
    let (mut rig, _) = Rig::locked(&once(Lie::ShortRead { object: REPORT, by: 8 }));
    assert_eq!(rig.object(3).unwrap().len(), 72);
    let (mut rig, _) = Rig::locked(&once(Lie::LongRead { object: REPORT }));
    assert_eq!(rig.rhi(RHI_DA_OBJECT_READ, &[VDEV, 3, SHARED, 0x100, 0])[..2], [SUCCESS, 0x101]);
    let (mut rig, _) = Rig::locked(&lying(&[Misbehaviour::at(Lie::DigestZero { object: REPORT }, 2)]));
    assert_eq!(rig.info().unwrap().bytes[0x180..0x1C0], [0; 64]);
}

#[test]
fn reports_can_be_wrong_with_a_matching_digest() {
    let check = |lie, wrong: &dyn Fn(&[u8]) -> bool| {
        let (mut rig, info) = Rig::locked(&once(lie));
        let report = rig.object(3).unwrap();
        assert_eq!(info.bytes[0x180..0x1B0], sha384(&report)[..]);
        assert!(wrong(&report), "{lie:?}");
    };
    check(Lie::ReportRangePastBar, &|report| word(report, 24, 4) == 5);
    check(Lie::ReportPagesWrap, &|report| word(report, 16, 8) + word(report, 24, 4) > 1 << 52);
    check(Lie::ReportZeroPages, &|report| word(report, 24, 4) == 0);
    check(Lie::ReportCountTooLarge, &|report| word(report, 12, 4) as u32 as u64 * 16 > 1 << 32);
    check(Lie::ReportTruncated, &|report| report.len() == 56);
    check(Lie::ReportUnknownBar, &|report| word(report, 30, 2) == 6);
    check(Lie::ReportOverlap, &|report| report[16..32] == report[32..48]);
    check(Lie::MroMisaligned, &|report| word(report, 16, 8) % 4 == 1);
}

#[test]
fn a_misaligned_mro_still_validates_at_the_report_address() {
    let (mut rig, info) = Rig::locked(&once(Lie::MroMisaligned));
    let pa = rig.real_bar() + MRO + PAGE;
    rig.validate(BAR, BAR + PAGE, pa, &info);
}

#[test]
fn nonces_go_stale_behind_the_back() {
    for lie in [
        Lie::RefreshMeasurements { before: RsiCall::VdevValidateMapping },
        Lie::RefreshReport { before: RsiCall::VdevValidateMapping },
        Lie::Relock { before: RsiCall::VdevValidateMapping },
    ] {
        let (mut rig, info) = Rig::locked(&once(lie));
        let pa = rig.real_bar() + MRO;
        assert_eq!(rig.try_validate(BAR, BAR + PAGE, pa, info.nonces()).0, RSI_ERROR_DEVICE, "{lie:?}");
    }
    for lie in [
        Lie::RefreshMeasurements { before: RsiCall::VdevDmaEnable },
        Lie::RefreshReport { before: RsiCall::VdevDmaEnable },
        Lie::Relock { before: RsiCall::VdevDmaEnable },
    ] {
        let (mut rig, info) = Rig::running(&once(lie));
        assert_eq!(rig.dma_enable(&info), RSI_ERROR_DEVICE, "{lie:?}");
        rig.is_clean();
    }
}

#[test]
fn a_relock_between_two_infos_changes_every_nonce() {
    let (mut rig, first) =
        Rig::locked(&lying(&[Misbehaviour::at(Lie::Relock { before: RsiCall::VdevGetInfo }, 2)]));
    let second = rig.info().unwrap();
    assert!(first.nonces().iter().zip(second.nonces()).all(|(one, two)| *one != two));
    assert_eq!((second.state, &second.bytes[0x180..0x1B0]), (1, &first.bytes[0x180..0x1B0]));
}

#[test]
fn a_host_unlock_takes_the_vdev_and_destroys_its_pages() {
    let (mut rig, info) = Rig::running(&once(Lie::HostUnlock { before: RsiCall::VdevDmaEnable }));
    assert_eq!(rig.dma_enable(&info), RSI_ERROR_INPUT);
    assert_eq!((rig.ripas_of(BAR), rig.device().state), (2, TdiState::Unlocked));
    rig.is_clean();
}

#[test]
fn progress_can_stop_with_reject_half_way() {
    let (mut rig, info) = Rig::locked(&once(Lie::ValidateReject { after_pages: 1 }));
    let pa = rig.real_bar() + MRO;
    let got = rig.try_validate(BAR, BAR + 2 * PAGE, pa, info.nonces());
    assert_eq!(got, (RSI_SUCCESS, BAR + PAGE, RSI_REJECT));
    assert_eq!((rig.ripas_of(BAR), rig.ripas_of(BAR + PAGE)), (3, 0));
    let mut rig = Rig::new(&once(Lie::IpaStateReject { to: RipasTarget::Ram, after_pages: 2 }));
    let regs = rig.call(RSI_IPA_STATE_SET, &[SHARED, SHARED + 4 * PAGE, 1, 0]);
    assert_eq!(regs[..3], [RSI_SUCCESS, SHARED + 2 * PAGE, RSI_REJECT]);
}

#[test]
fn next_addresses_can_be_anything() {
    let validate = RsiCall::VdevValidateMapping;
    for (lie, next) in [
        (Lie::NextBackwards { call: validate }, BAR - PAGE),
        (Lie::NextAboveTop { call: validate }, BAR + 3 * PAGE),
        (Lie::NextOversize { call: validate }, u64::MAX - 4095),
        (Lie::NextUnaligned { call: validate }, BAR + 2 * PAGE - 1),
        (Lie::NextStuck { call: validate }, BAR),
    ] {
        let (mut rig, info) = Rig::locked(&once(lie));
        let pa = rig.real_bar() + MRO;
        let got = rig.try_validate(BAR, BAR + 2 * PAGE, pa, info.nonces());
        assert_eq!(got, (RSI_SUCCESS, next, RSI_ACCEPT), "{lie:?}");
    }
    let set = RsiCall::IpaStateSet;
    let mut rig = Rig::new(&lying(&[Misbehaviour::at(Lie::NextAboveTop { call: set }, 2)]));
    let regs = rig.call(RSI_IPA_STATE_SET, &[SHARED, SHARED + PAGE, 1, 0]);
    assert_eq!(regs[..3], [RSI_SUCCESS, SHARED + 2 * PAGE, RSI_ACCEPT]);
}

#[test]
fn statuses_can_be_anything_for_every_rsi_call() {
    use RsiCall::*;
    for (call, fid) in [
        (Version, RSI_VERSION),
        (Features, RSI_FEATURES),
        (RealmConfig, RSI_REALM_CONFIG),
        (MeasurementRead, RSI_MEASUREMENT_READ),
        (MeasurementExtend, RSI_MEASUREMENT_EXTEND),
        (AttestationTokenInit, RSI_ATTESTATION_TOKEN_INIT),
        (AttestationTokenContinue, RSI_ATTESTATION_TOKEN_CONTINUE),
        (IpaStateGet, RSI_IPA_STATE_GET),
        (HostCall, RSI_HOST_CALL),
        (VdevGetInfo, RSI_VDEV_GET_INFO),
        (VdevValidateMapping, RSI_VDEV_VALIDATE_MAPPING),
        (VdevDmaEnable, RSI_VDEV_DMA_ENABLE),
        (VdevDmaDisable, RSI_VDEV_DMA_DISABLE),
    ] {
        let lies =
            [Lie::RsiStatus { call, status: 4 }, Lie::RsiGarbageStatus { call }, Lie::RsiIncomplete { call }];
        for (lie, status) in lies.into_iter().zip([4, 0x5EAD_BEEF, RSI_INCOMPLETE]) {
            let mut rig = Rig::new(&lying(&[Misbehaviour::always(lie)]));
            for _ in 0..3 {
                assert_eq!(rig.call(fid, &[VDEV])[0], status);
            }
        }
    }
    let lie = Lie::RsiStatus { call: IpaStateSet, status: 2 };
    let mut rig = Rig::new(&lying(&[Misbehaviour { count: 2, ..Misbehaviour::at(lie, 2) }]));
    let statuses: Vec<u64> =
        (0..3).map(|_| rig.call(RSI_IPA_STATE_SET, &[SHARED, SHARED + PAGE, 0, 0])[0]).collect();
    assert_eq!(statuses, [2, 2, 0]);
}

#[test]
fn conversions_can_fail() {
    let mut rig = Rig::new(&once(Lie::IpaStateFails { to: RipasTarget::Ram }));
    assert_eq!(rig.call(RSI_IPA_STATE_SET, &[SHARED, SHARED + PAGE, 1, 0])[0], RSI_ERROR_INPUT);
    assert_eq!(rig.model.final_state().shared[0].len, SHARED_LEN);
    let (mut rig, _) =
        Rig::running(&lying(&[Misbehaviour::at(Lie::IpaStateFails { to: RipasTarget::Empty }, 2)]));
    assert_eq!(rig.call(RSI_IPA_STATE_SET, &[BAR, BAR + PAGE, 0, 0])[0], RSI_ERROR_INPUT);
    assert_eq!(rig.ripas_of(BAR), 3);
}

#[test]
fn statuses_can_be_anything_for_every_rhi_call() {
    use RhiCall::*;
    for (call, fid) in [
        (DaVersion, RHI_DA_VERSION),
        (DaFeatures, RHI_DA_FEATURES),
        (DaObjectSize, RHI_DA_OBJECT_SIZE),
        (DaObjectRead, RHI_DA_OBJECT_READ),
        (HostconfVersion, RHI_HOSTCONF_VERSION),
        (HostconfFeatures, RHI_HOSTCONF_FEATURES),
        (HostconfGetIpaChangeAlignment, RHI_HOSTCONF_GET_IPA_CHANGE_ALIGNMENT),
        (DaVdevContinue, RHI_DA_VDEV_CONTINUE),
        (DaVdevGetMeasurements, RHI_DA_VDEV_GET_MEASUREMENTS),
        (DaVdevGetInterfaceReport, RHI_DA_VDEV_GET_INTERFACE_REPORT),
        (DaVdevSetTdiState, RHI_DA_VDEV_SET_TDI_STATE),
        (DaVdevP2pUnbind, RHI_DA_VDEV_P2P_UNBIND),
        (DaVdevAbort, RHI_DA_VDEV_ABORT),
    ] {
        for status in [2, 9, 0xB, u64::MAX] {
            let mut rig = Rig::new(&lying(&[Misbehaviour::always(Lie::RhiStatus { call, status })]));
            assert_eq!(rig.rhi(fid, &[VDEV, 1])[0], status);
        }
        let mut rig = Rig::new(&once(Lie::RhiGarbageStatus { call }));
        assert_eq!(rig.rhi(fid, &[VDEV, 1])[0], 0x5EAD_BEEF);
    }
}

#[test]
fn rhi_statuses_can_be_anything() {
    let mut rig = Rig::new(&once(Lie::RhiStatus { call: RhiCall::DaFeatures, status: 7 }));
    assert_eq!(rig.rhi(RHI_DA_FEATURES, &[])[0], 7);
    let mut rig = Rig::new(&once(Lie::RhiGarbageStatus { call: RhiCall::DaVdevSetTdiState }));
    assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), 0x5EAD_BEEF);
    assert_eq!(rig.info(), Err(RSI_ERROR_INPUT));
}

#[test]
fn operations_can_hang_be_busy_be_ignored_or_fail() {
    let mut rig = Rig::placed(&once(Lie::RhiIncompleteForever { op: RhiOp::Lock }));
    let handle = rig.rhi(RHI_DA_VDEV_SET_TDI_STATE, &[VDEV, 1])[1];
    for _ in 0..100 {
        assert_eq!(rig.rhi(RHI_DA_VDEV_CONTINUE, &[VDEV, handle])[0], INCOMPLETE);
    }
    assert_eq!(rig.rhi(RHI_DA_VDEV_ABORT, &[VDEV])[0], SUCCESS);
    let mut rig = Rig::placed(&lying(&[Misbehaviour::always(Lie::RhiBusy { op: RhiOp::Lock })]));
    assert_eq!((rig.tdi(TDI_CONFIG_LOCKED), rig.tdi(TDI_CONFIG_LOCKED)), (BUSY, BUSY));
    let mut rig = Rig::placed(&once(Lie::HandleZero { op: RhiOp::Lock }));
    assert_eq!(rig.rhi(RHI_DA_VDEV_SET_TDI_STATE, &[VDEV, 1])[..2], [INCOMPLETE, 0]);
    assert_eq!(rig.rhi(RHI_DA_VDEV_CONTINUE, &[VDEV, 0])[0], SUCCESS);
    let (mut rig, _) = Rig::locked(&once(Lie::OpIgnored { op: RhiOp::Run }));
    assert_eq!((rig.tdi(TDI_RUN), rig.info().unwrap().state), (SUCCESS, 1));
    let (mut rig, _) = Rig::locked(&once(Lie::OpFails { op: RhiOp::Run }));
    assert_eq!((rig.tdi(TDI_RUN), rig.info().unwrap().state), (DEVICE, 1));
    let (mut rig, _) = Rig::locked(&once(Lie::UnlockFails));
    assert_eq!((rig.tdi(TDI_CONFIG_UNLOCKED), rig.info().unwrap().state), (DEVICE, 1));
}

#[test]
fn registers_can_read_back_otherwise() {
    let mut rig = Rig::placed(&lying(&[Misbehaviour::always(Lie::BarReadback { bar: 0, xor: 0x1_0000 })]));
    assert_eq!(rig.config_read(NVME, 0x10, 4), BAR | 0x1_0004);
    rig.config_write(NVME, 0x10, 4, 0xFFFF_FFFF);
    assert_eq!(rig.config_read(NVME, 0x10, 4), 0xFFFF_C004);
    let mut rig = Rig::placed(&lying(&[Misbehaviour::always(Lie::CommandStuck { mask: 2 })]));
    assert_eq!(rig.config_read(NVME, 4, 2), 4);
    let mut rig = Rig::placed(&once(Lie::FlrIgnored));
    rig.config_write(NVME, 0x88, 2, 0x8000);
    assert_eq!((rig.m.functions[2].resets, rig.config_read(NVME, 4, 2)), (0, 6));
}

#[test]
fn lies_keep_to_their_device() {
    let lie = Misbehaviour { device: "02.0".into(), ..Misbehaviour::once(Lie::UnlockFails) };
    let mut scenario = lying(&[lie]);
    scenario.device.push(DeviceSpec { slot: "03.0".into(), ..DeviceSpec::default() });
    let mut rig = Rig::placed(&scenario);
    for (id, status) in [(0x18, SUCCESS), (0x10, DEVICE)] {
        rig.rhi(RHI_DA_VDEV_SET_TDI_STATE, &[id, 1]);
        assert_eq!(rig.rhi(RHI_DA_VDEV_SET_TDI_STATE, &[id, 0])[0], status);
    }
}

/// Routing ids: the device's and one where nothing is.
const EMPTY: u16 = 0x60;

#[test]
fn a_function_appears_once_the_operation_has_ended_where_nothing_was() {
    let mut rig = Rig::placed(&once(Lie::FunctionAppears { rid: EMPTY, after: RhiOp::Lock }));
    assert_eq!(rig.config_read(EMPTY, 0, 4), 0xFFFF_FFFF);
    assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), SUCCESS);
    assert_eq!((rig.config_read(EMPTY, 0, 4), rig.config_read(EMPTY, 2, 2)), (0x11E8_1234, 0x11E8));
    assert_eq!((rig.config_read(EMPTY, 8, 4), rig.config_read(EMPTY, 0xE, 1)), (0x00FF_0010, 0));
    rig.config_write(EMPTY, 0x10, 4, 0xFFFF_FFFF);
    assert_eq!(rig.config_read(EMPTY, 0x10, 4), 0);
    assert_eq!(rig.state("02.0").state, TdiState::Locked);

    let mut rig = Rig::placed(&once(Lie::FunctionAppears { rid: NVME, after: RhiOp::Lock }));
    let ids = rig.config_read(NVME, 0, 4);
    assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), SUCCESS);
    assert_eq!(rig.config_read(NVME, 0, 4), ids);
}

#[test]
fn a_function_vanishes_once_the_operation_has_ended() {
    let mut rig = Rig::placed(&once(Lie::FunctionVanishes { rid: NVME, after: RhiOp::Report }));
    assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), SUCCESS);
    assert_eq!(rig.config_read(NVME, 0, 2), 0x1B36);
    assert_eq!(rig.rhi(RHI_DA_VDEV_GET_INTERFACE_REPORT, &[VDEV])[0], SUCCESS);
    for (offset, width) in [(0, 2), (0, 4), (4, 2), (0x10, 4), (0x100, 4)] {
        assert_eq!(rig.config_read(NVME, offset, width), (1 << (8 * width)) - 1);
    }
    rig.config_write(NVME, 4, 2, 0);
    assert_eq!(rig.device().command, 6);
    rig.is_clean();
}
