//! RHI: each rule of `rhi.md`.

mod common;

use common::*;
use rmm_model::abi::{rhi::*, rsi::*};
use rmm_model::machine::Machine;
use rmm_model::scenario::*;

const ONES: u64 = u64::MAX;

#[test]
fn versions_and_features_are_answered_and_the_rest_is_all_ones() {
    let mut rig = Rig::new(&plain());
    assert_eq!(rig.rhi(RHI_DA_VERSION, &[])[0], 0x1_0000);
    assert_eq!(rig.rhi(RHI_DA_FEATURES, &[])[0] & 0x3B, 0x3B);
    assert_eq!(rig.rhi(RHI_HOSTCONF_VERSION, &[])[0], 0x1_0000);
    assert_eq!(rig.rhi(RHI_HOSTCONF_FEATURES, &[])[0], 1);
    assert_eq!(rig.rhi(RHI_HOSTCONF_GET_IPA_CHANGE_ALIGNMENT, &[])[0], 4096);
    for fid in (0xC500_0040..=0xC500_0049).chain([0xC500_0057, 0]) {
        assert_eq!(rig.rhi(fid, &[])[0], ONES);
    }
    let mut scenario = plain();
    (scenario.host.da, scenario.host.hostconf) = (false, false);
    let mut rig = Rig::new(&scenario);
    assert_eq!(rig.rhi(RHI_DA_VERSION, &[])[0], ONES);
    assert_eq!(rig.rhi(RHI_HOSTCONF_VERSION, &[])[0], ONES);
}

#[test]
fn all_gprs_come_from_the_host() {
    let mut rig = Rig::new(&plain());
    let gprs = rig.rhi(RHI_DA_VERSION, &[]);
    assert!(gprs[2..].iter().all(|gpr| *gpr != 0));
    let failed = rig.rhi(RHI_DA_OBJECT_SIZE, &[0x999, 1]);
    assert_eq!(failed[..2], [INVALID_VDEV_ID, 0]);
    let mut scenario = plain();
    scenario.host.spare_gprs = SpareGprs::Unchanged;
    let mut rig = Rig::new(&scenario);
    assert_eq!(rig.rhi(RHI_DA_VERSION, &[1, 2, 3])[..4], [0x1_0000, 1, 2, 3]);
}

#[test]
fn other_immediates_are_not_rhi() {
    let mut rig = Rig::new(&plain());
    rig.m.write(HOST_CALL, &4u64.to_le_bytes());
    rig.m.write(HOST_CALL + 8, &RHI_DA_VERSION.to_le_bytes());
    assert_eq!(rig.call(RSI_HOST_CALL, &[HOST_CALL])[0], RSI_SUCCESS);
    let mut word = [0; 8];
    rig.m.read(HOST_CALL + 8, &mut word);
    assert_eq!(u64::from_le_bytes(word), ONES);
}

#[test]
fn the_vdev_exists_between_locked_and_unlocked() {
    let mut rig = Rig::placed(&plain());
    assert_eq!(rig.info(), Err(RSI_ERROR_INPUT));
    assert_eq!(rig.tdi(TDI_RUN), DEVICE);
    assert_eq!(rig.rhi(RHI_DA_VDEV_GET_INTERFACE_REPORT, &[VDEV])[0], DEVICE);
    assert_eq!(rig.measure(), DEVICE);
    assert_eq!(rig.tdi(TDI_CONFIG_UNLOCKED), SUCCESS);
    assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), SUCCESS);
    assert_eq!(rig.info().unwrap().state, 1);
    assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), DEVICE);
    assert_eq!(rig.tdi(3), INVALID_OBJECT);
    assert_eq!(rig.tdi(TDI_RUN), SUCCESS);
    assert_eq!(rig.info().unwrap().state, 2);
    assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), DEVICE);
    assert_eq!(rig.tdi(TDI_RUN), DEVICE);
    assert_eq!(rig.tdi(TDI_CONFIG_UNLOCKED), SUCCESS);
    assert_eq!(rig.info(), Err(RSI_ERROR_INPUT));
    for id in [0x18, VDEV | 1 << 16, VDEV | 1 << 32] {
        assert_eq!(rig.rhi(RHI_DA_VDEV_SET_TDI_STATE, &[id, 1])[0], INVALID_VDEV_ID);
    }
    rig.is_clean();
}

#[test]
fn objects_appear_when_their_exchange_ran_and_match_their_digests() {
    let mut rig = Rig::placed(&plain());
    assert!(rig.object(OBJECT_VCA).is_ok() && rig.object(OBJECT_CERTIFICATE).is_ok());
    assert_eq!(rig.object(OBJECT_REPORT), Err(DATA_NOT_AVAILABLE));
    assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), SUCCESS);
    assert_eq!(rig.object(OBJECT_MEASUREMENTS), Err(DATA_NOT_AVAILABLE));
    let info = rig.info().unwrap();
    assert_eq!(info.bytes[0x140..0x1C0], [0; 0x80]);
    let (mut rig, info) = Rig::locked(&plain());
    assert_eq!(info.hash, 2);
    for (kind, at) in [(0, 0x80), (4, 0x80), (1, 0xC0), (2, 0x140), (3, 0x180)] {
        let digest = sha384(&rig.object(kind).unwrap());
        assert_eq!(info.bytes[at..at + 48], digest[..], "object {kind}");
        assert_eq!(info.bytes[at + 48..at + 64], [0; 16]);
    }
    assert_eq!((info.bytes[0x30], info.bytes[0x3A]), (1, 1));
    assert_eq!(info.bytes[0x100..0x140], [0; 64]);
    assert_eq!(rig.object(5), Err(INVALID_OBJECT));
}

#[test]
fn each_exchange_makes_a_new_nonce() {
    let (mut rig, first) = Rig::locked(&plain());
    rig.measure();
    let second = rig.info().unwrap();
    assert_ne!(first.measurement, second.measurement);
    assert_eq!((first.lock, first.report), (second.lock, second.report));
    assert_ne!(first.bytes[0x140..0x170], second.bytes[0x140..0x170]);
    rig.rhi(RHI_DA_VDEV_GET_INTERFACE_REPORT, &[VDEV]);
    let third = rig.info().unwrap();
    assert_ne!(third.report, second.report);
    assert_eq!(third.bytes[0x180..0x1B0], second.bytes[0x180..0x1B0]);
    rig.tdi(TDI_CONFIG_UNLOCKED);
    rig.tdi(TDI_CONFIG_LOCKED);
    let fourth = rig.info().unwrap();
    assert_ne!(fourth.lock, first.lock);
    assert_eq!((fourth.measurement, fourth.report), (0, 0));
}

#[test]
fn vca_numbers_follow_linux_or_acs() {
    for (types, zero, four) in
        [(VcaTypes::Linux, INVALID_OBJECT, SUCCESS), (VcaTypes::Acs, SUCCESS, OBJECT_UNSUPPORTED)]
    {
        let mut scenario = plain();
        scenario.host.vca_types = types;
        let mut rig = Rig::placed(&scenario);
        assert_eq!(rig.rhi(RHI_DA_OBJECT_SIZE, &[VDEV, 0])[0], zero);
        assert_eq!(rig.rhi(RHI_DA_OBJECT_SIZE, &[VDEV, 4])[0], four);
    }
}

#[test]
fn object_buffers_must_be_shared_and_may_carry_the_alias_bit() {
    let mut scenario = plain();
    scenario.device[0].certificate = Some(Blob::generated(1500));
    let mut rig = Rig::placed(&scenario);
    let mut read = |buffer, len, offset| {
        let gprs = rig.rhi(RHI_DA_OBJECT_READ, &[VDEV, OBJECT_CERTIFICATE, buffer, len, offset]);
        (gprs[0], gprs[1])
    };
    assert_eq!(read(SHARED | ALIAS, 0x1000, 0), (SUCCESS, 1500));
    assert_eq!(read(SHARED + 0x10, 0x1000, 1400), (SUCCESS, 100));
    assert_eq!(read(SHARED, 7, 3), (SUCCESS, 7));
    for bad in [0, RAM, SHARED - 8, SHARED + SHARED_LEN - 8, BAR, 1 << 44 | SHARED] {
        assert_eq!(read(bad, 0x1000, 0), (ACCESS_FAILED, 0), "{bad:#x}");
    }
    assert_eq!(read(SHARED, 0x1000, 1500), (INVALID_OFFSET, 0));
    scenario.host.object_read = ObjectRead::Whole;
    let mut rig = Rig::placed(&scenario);
    for (len, offset, status) in
        [(0x1000, 0, SUCCESS), (1499, 0, INVALID_OFFSET), (0x1000, 1, INVALID_OFFSET)]
    {
        assert_eq!(rig.rhi(RHI_DA_OBJECT_READ, &[VDEV, 1, SHARED, len, offset])[0], status);
    }
}

#[test]
fn a_coarse_host_needs_whole_units_shared() {
    let mut scenario = plain();
    scenario.host.hostconf_granule = 0x1_0000;
    let mut rig = Rig::placed(&scenario);
    assert_eq!(rig.rhi(RHI_HOSTCONF_GET_IPA_CHANGE_ALIGNMENT, &[])[0], 0x1_0000);
    assert_eq!(rig.rhi(RHI_DA_OBJECT_READ, &[VDEV, 1, SHARED, 0x1000, 0])[0], SUCCESS);
    rig.ripas(SHARED + 15 * PAGE, SHARED + 16 * PAGE, 1, 0);
    assert_eq!(rig.rhi(RHI_DA_OBJECT_READ, &[VDEV, 1, SHARED, 0x1000, 0])[0], ACCESS_FAILED);
}

#[test]
fn measurement_parameters_are_checked() {
    let (mut rig, _) = Rig::locked(&plain());
    for (address, flags, status) in [
        (0, 0, ACCESS_FAILED),
        (RAM, 0, ACCESS_FAILED),
        (SHARED + 8, 0, ACCESS_FAILED),
        (SHARED, 2, INPUT),
        (SHARED, 1 << 32, INPUT),
        (SHARED | ALIAS, 1, SUCCESS),
    ] {
        rig.m.write(SHARED, &u64::to_le_bytes(flags));
        assert_eq!(
            rig.rhi(RHI_DA_VDEV_GET_MEASUREMENTS, &[VDEV, address])[0],
            status,
            "{address:#x} {flags:#x}"
        );
    }
}

#[test]
fn operations_continue_with_their_handle_until_done() {
    let mut scenario = plain();
    scenario.host.incomplete = 3;
    let mut rig = Rig::placed(&scenario);
    let started = rig.rhi(RHI_DA_VDEV_SET_TDI_STATE, &[VDEV, 1]);
    assert_eq!(started[0], INCOMPLETE);
    assert_ne!(started[1], 0);
    assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), BUSY);
    assert_eq!(rig.rhi(RHI_DA_VDEV_CONTINUE, &[VDEV, started[1] ^ 2])[0], DEVICE);
    assert_eq!(rig.info(), Err(RSI_ERROR_INPUT));
    let statuses: Vec<u64> = (0..4).map(|_| rig.rhi(RHI_DA_VDEV_CONTINUE, &[VDEV, started[1]])[0]).collect();
    assert_eq!(statuses, [INCOMPLETE, INCOMPLETE, SUCCESS, DEVICE]);
    assert_eq!(rig.info().unwrap().state, 1);
}

#[test]
fn abort_stops_an_operation_or_comes_too_late() {
    let mut scenario = plain();
    scenario.host.incomplete = 1;
    let mut rig = Rig::placed(&scenario);
    assert_eq!(rig.rhi(RHI_DA_VDEV_ABORT, &[VDEV])[0], ABORTED_OPERATION_HAD_COMPLETED);
    assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), INCOMPLETE);
    assert!(rig.device().operation_pending);
    assert_eq!(rig.rhi(RHI_DA_VDEV_ABORT, &[VDEV])[0], SUCCESS);
    assert_eq!(rig.info(), Err(RSI_ERROR_INPUT));
    scenario.misbehaviour = vec![Misbehaviour::once(Lie::AbortTooLate)];
    let mut rig = Rig::placed(&scenario);
    rig.tdi(TDI_CONFIG_LOCKED);
    assert_eq!(rig.rhi(RHI_DA_VDEV_ABORT, &[VDEV])[0], ABORTED_OPERATION_HAD_COMPLETED);
    assert_eq!(rig.info().unwrap().state, 1);
}

#[test]
fn a_wrong_handle_has_either_answer() {
    for (wrong_handle, status) in [(WrongHandle::Device, DEVICE), (WrongHandle::InvalidVdev, INVALID_VDEV_ID)]
    {
        let mut scenario = plain();
        scenario.host.incomplete = 1;
        scenario.host.wrong_handle = wrong_handle;
        let mut rig = Rig::placed(&scenario);
        assert_eq!(rig.rhi(RHI_DA_VDEV_CONTINUE, &[VDEV, 1])[0], status);
        let started = rig.rhi(RHI_DA_VDEV_SET_TDI_STATE, &[VDEV, 1]);
        assert_eq!(rig.rhi(RHI_DA_VDEV_CONTINUE, &[VDEV, started[1] ^ 2])[0], status);
        assert_eq!(rig.rhi(RHI_DA_VDEV_CONTINUE, &[VDEV, started[1]])[0], SUCCESS);
        assert_eq!(rig.rhi(RHI_DA_VDEV_CONTINUE, &[VDEV, started[1]])[0], status);
    }
}

#[test]
fn a_host_may_take_one_form_of_buffer_address_only() {
    for (buffer_address, plain_form, alias_form) in [
        (BufferAddress::Either, SUCCESS, SUCCESS),
        (BufferAddress::WithoutAlias, SUCCESS, ACCESS_FAILED),
        (BufferAddress::WithAlias, ACCESS_FAILED, SUCCESS),
    ] {
        let mut scenario = plain();
        scenario.host.buffer_address = buffer_address;
        let mut rig = Rig::placed(&scenario);
        assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), SUCCESS);
        rig.m.write(SHARED, &[0; 0x200]);
        for (address, status) in [(SHARED, plain_form), (SHARED | ALIAS, alias_form)] {
            assert_eq!(rig.rhi(RHI_DA_OBJECT_READ, &[VDEV, 1, address, 0x1000, 0])[0], status);
            rig.m.write(SHARED, &[0; 0x200]);
            assert_eq!(rig.rhi(RHI_DA_VDEV_GET_MEASUREMENTS, &[VDEV, address])[0], status);
        }
    }
}

#[test]
fn p2p_unbind_is_an_operation_on_two_known_devices() {
    let mut scenario = plain();
    scenario.host.incomplete = 1;
    scenario.device.push(at("03.0"));
    let mut rig = Rig::placed(&scenario);
    for (one, two) in [(0x99, 0x18), (VDEV, 0x99)] {
        assert_eq!(rig.rhi(RHI_DA_VDEV_P2P_UNBIND, &[one, two])[0], INVALID_VDEV_ID);
    }
    let started = rig.rhi(RHI_DA_VDEV_P2P_UNBIND, &[VDEV, 0x18]);
    assert_eq!(started[0], INCOMPLETE);
    assert_eq!(rig.rhi(RHI_DA_VDEV_CONTINUE, &[VDEV, started[1]])[0], SUCCESS);
    assert_eq!(rig.device().state, rmm_model::final_state::TdiState::Unlocked);
}

#[test]
fn a_parent_does_one_operation_at_a_time() {
    use rmm_model::sim::SimFunction;
    let functions = || vec![SimFunction::host_bridge(), SimFunction::nvme(2, 0), SimFunction::nvme(4, 0)];
    for (parents, second) in [(["p", "p"], BUSY), (["p", "q"], INCOMPLETE)] {
        let mut scenario = plain();
        scenario.host.incomplete = 1;
        scenario.device.push(DeviceSpec { slot: "04.0".into(), ..DeviceSpec::default() });
        for (device, parent) in scenario.device.iter_mut().zip(parents) {
            device.parent = parent.into();
        }
        let mut rig = Rig::with(&scenario, functions());
        assert_eq!(rig.rhi(RHI_DA_VDEV_SET_TDI_STATE, &[0x10, 1])[0], INCOMPLETE);
        assert_eq!(rig.rhi(RHI_DA_VDEV_SET_TDI_STATE, &[0x20, 1])[0], second);
    }
}

#[test]
fn a_busy_host_is_busy_before_each_operation() {
    let mut scenario = plain();
    scenario.host.busy = 2;
    let mut rig = Rig::placed(&scenario);
    let mut three = || (0..3).map(|_| rig.tdi(TDI_CONFIG_LOCKED)).collect::<Vec<_>>();
    assert_eq!(three(), [BUSY, BUSY, SUCCESS]);
    let mut run = || (0..3).map(|_| rig.tdi(TDI_RUN)).collect::<Vec<_>>();
    assert_eq!(run(), [BUSY, BUSY, SUCCESS]);
}

#[test]
fn unlock_is_refused_while_device_pages_are_mapped() {
    let (mut rig, _) = Rig::running(&plain());
    assert_eq!(rig.tdi(TDI_CONFIG_UNLOCKED), DEVICE);
    rig.ripas(BAR, BAR + PAGE, 0, 0);
    assert_eq!(rig.tdi(TDI_CONFIG_UNLOCKED), DEVICE);
    rig.ripas(BAR + PAGE, BAR + 2 * PAGE, 0, 0);
    assert_eq!(rig.tdi(TDI_CONFIG_UNLOCKED), SUCCESS);
    rig.is_clean();
}
