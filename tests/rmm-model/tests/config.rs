//! Configuration space, BARs, resets, report: `tdisp.md`, and the fidelity rules of the design's section 8.

mod common;

use common::*;
use rmm_model::abi::{rhi::*, rsi::*};
use rmm_model::final_state::TdiState;
use rmm_model::machine::{DmaGate, Leaf, Machine};
use rmm_model::record::Event;
use rmm_model::scenario::*;
use rmm_model::sim::{IoFault, SimFunction, SimMachine, SparseRam};
use rmm_model::{Access, Board, FaultAction, Model, SetupError};

fn word(bytes: &[u8], at: usize, len: usize) -> u64 {
    bytes[at..at + len].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte))
}

#[test]
fn guest_real_and_report_addresses_all_differ_by_default() {
    let (mut rig, _) = Rig::locked(&plain());
    let report = rig.object(OBJECT_REPORT).unwrap();
    let real = rig.real_bar();
    let reported = word(&report, 16, 8) * PAGE;
    assert!(real != BAR && reported != real && reported != BAR);
    assert!(rig.model.board().real_bars.contains(real));
    assert_eq!(reported, real + MRO);
    assert_eq!(rig.config_read(NVME, 0x10, 4), BAR | 4);
    let mut scenario = plain();
    scenario.device[0].mro = 0;
    let (mut rig, _) = Rig::locked(&scenario);
    let report = rig.object(OBJECT_REPORT).unwrap();
    assert_eq!(word(&report, 16, 8) * PAGE, rig.real_bar());
}

#[test]
fn the_report_lists_tee_pages_msix_table_and_pba_apart() {
    let (mut rig, _) = Rig::locked(&plain());
    let report = rig.object(OBJECT_REPORT).unwrap();
    let first = (rig.real_bar() + MRO) / PAGE;
    assert_eq!(word(&report, 12, 4), 3);
    for (index, (page, pages, attributes)) in [(0, 2, 0), (2, 1, 1), (3, 1, 2)].into_iter().enumerate() {
        let at = 16 + 16 * index;
        assert_eq!(word(&report, at, 8), first + page);
        assert_eq!(
            (word(&report, at + 8, 4), word(&report, at + 12, 2), word(&report, at + 14, 2)),
            (pages, attributes, 0)
        );
    }
    assert_eq!(word(&report, 4, 2), 64);
    assert_eq!((word(&report, 64, 4), report.len()), (12, 80));
}

#[test]
fn explicit_ranges_replace_the_generated_ones() {
    let mut scenario = plain();
    scenario.device[0].ranges =
        vec![RangeSpec { offset: 0x1000, pages: 3, attributes: 4, ..RangeSpec::default() }];
    let (mut rig, info) = Rig::locked(&scenario);
    let report = rig.object(OBJECT_REPORT).unwrap();
    assert_eq!((word(&report, 12, 4), word(&report, 24, 4), word(&report, 28, 2)), (1, 3, 4));
    // Validating non-TEE memory is the realm's mistake.
    let real = rig.real_bar();
    rig.validate(BAR + PAGE, BAR + 2 * PAGE, real + MRO + PAGE, &info);
    assert_eq!(rig.model.final_state().violations.len(), 1);
    scenario.device[0].ranges[0].bar = 2;
    let mut m = SimMachine::new(Box::new(SparseRam::default()));
    let error = Model::new(&scenario, &Board::sim(), &mut m).err();
    assert_eq!(error, Some(SetupError::NoBar { slot: "02.0".into(), bar: 2 }));
}

#[test]
fn bars_are_shadows_with_the_real_size_mask() {
    let mut rig = Rig::new(&plain());
    assert_eq!((rig.config_read(NVME, 0x10, 4), rig.config_read(NVME, 0x04, 2)), (4, 0));
    let real = rig.real_bar();
    rig.config_write(NVME, 0x10, 4, 0xFFFF_FFFF);
    rig.config_write(NVME, 0x14, 4, 0xFFFF_FFFF);
    assert_eq!((rig.config_read(NVME, 0x10, 4), rig.config_read(NVME, 0x14, 4)), (0xFFFF_C004, 0xFFFF_FFFF));
    assert_eq!(rig.config_read(NVME, 0x30, 4), 0);
    rig.config_write(NVME, 0x12, 2, 0x1234);
    rig.config_write(NVME, 0x10, 1, 0xFF);
    assert_eq!(rig.config_read(NVME, 0x10, 4), 0x1234_C004);
    assert_eq!(rig.real_bar(), real);
    assert_eq!(rig.m.config_read(NVME, 4, 2) & 6, 6);
}

#[test]
fn an_alias_leaf_exists_only_while_decode_is_on() {
    let mut rig = Rig::placed(&plain());
    let real = rig.real_bar();
    assert_eq!(rig.leaf(BAR), Leaf::SharedDevice { pa: real });
    rig.config_write(NVME, 4, 2, 4);
    assert_eq!(rig.leaf(BAR), Leaf::None);
    assert_eq!(rig.m.io_read(&mut rig.model, BAR | ALIAS, 4), Ok(0xFFFF_FFFF));
    rig.config_write(NVME, 4, 2, 6);
    rig.config_write(NVME, 0x10, 4, BAR + 0x10_0000);
    assert_eq!((rig.leaf(BAR), rig.leaf(BAR + 0x10_0000)), (Leaf::None, Leaf::SharedDevice { pa: real }));
}

#[test]
fn validation_needs_decode() {
    let (mut rig, info) = Rig::locked(&plain());
    rig.config_write(NVME, 4, 2, 4);
    let pa = rig.real_bar() + MRO;
    assert_eq!(rig.try_validate(BAR, BAR + PAGE, pa, info.nonces()), (RSI_SUCCESS, BAR, RSI_REJECT));
}

#[test]
fn sizing_a_locked_device_is_absorbed_or_an_error() {
    for (config, state) in
        [(ConfigAccess::Virtualise, TdiState::Run), (ConfigAccess::PassThrough, TdiState::Error)]
    {
        let mut scenario = plain();
        scenario.vmm.config = config;
        // What Linux does during enumeration, two ways into trouble.
        for steps in [&[(4u64, 2u8, 4u64), (4, 2, 6)][..], &[(0x10, 4, 0xFFFF_FFFF), (0x10, 4, BAR)]] {
            let (mut rig, info) = Rig::running(&scenario);
            rig.dma_enable(&info);
            rig.config_write(NVME, 0x10, 4, BAR);
            rig.config_write(NVME, 4, 2, 6);
            assert_eq!(rig.device().state, TdiState::Run);
            steps.iter().for_each(|(at, width, value)| rig.config_write(NVME, *at, *width, *value));
            assert_eq!(rig.device().state, state);
            let gate = if state == TdiState::Run { DmaGate::PrivateOnly } else { DmaGate::Abort };
            assert_eq!(rig.m.gate(NVME), gate);
            rig.is_clean();
        }
    }
}

/// A device with everything that a lock covers, in RUN with DMA on, or only LOCKED.
fn covered(config: ConfigAccess, lock_msix: bool, is_running: bool) -> Rig {
    let functions = vec![
        SimFunction::host_bridge(),
        SimFunction::igb(2, 0).with_rom(0x1_0000).resizable(),
        SimFunction::edu(3, 0),
    ];
    let mut scenario = plain();
    scenario.vmm.config = config;
    scenario.device[0].lock_msix = lock_msix;
    let mut rig = Rig::with(&scenario, functions);
    rig.place_at(NVME, 0, BAR);
    rig.config_write(NVME, 4, 2, 6);
    if is_running {
        rig.start(VDEV);
    } else {
        assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), SUCCESS);
    }
    rig
}

#[test]
fn what_a_lock_covers_is_an_error_under_pass_through_only() {
    let (sriov, resizable) = {
        let mut rig = covered(ConfigAccess::Virtualise, false, false);
        (rig.extended(NVME, 0x10).unwrap(), rig.extended(NVME, 0x15).unwrap())
    };
    let msix = covered(ConfigAccess::Virtualise, false, false).capability(NVME, 0x11).unwrap();
    // Register, width, value; whether it is covered without and with a lock of MSI-X.
    let steps = [
        (4, 2, 4, true, true),
        (4, 2, 2, true, true),
        (4, 2, 0x406, false, false),
        (0x10, 4, BAR, false, false),
        (0x10, 4, BAR + 0x10_0000, true, true),
        (0x10, 4, 0xFFFF_FFFF, true, true),
        (0x1C, 4, BAR + 0x20_0000, true, true),
        (0x30, 4, 0xFFFF_F800, false, false),
        (0x30, 4, 1, true, true),
        (0x3C, 1, 7, false, false),
        (msix + 2, 2, 0, false, false),
        (msix + 2, 2, 0x8000, false, true),
        (msix + 2, 2, 0x4000, false, true),
        (sriov + 8, 2, 0, false, false),
        (sriov + 8, 2, 1, true, true),
        (sriov + 0x10, 2, 2, true, true),
        (sriov + 0x24, 4, BAR, true, true),
        (resizable + 8, 4, 1 << 5, false, false),
        (resizable + 8, 4, 1 << 5 | 4 << 8, true, true),
    ];
    for config in [ConfigAccess::PassThrough, ConfigAccess::Virtualise] {
        for (at, width, value, plain, with_msix) in steps {
            for (lock_msix, is_covered) in [(false, plain), (true, with_msix)] {
                for is_running in [false, true] {
                    let mut rig = covered(config, lock_msix, is_running);
                    let before = rig.device().state;
                    rig.config_write(NVME, at, width, value);
                    let is_error = is_covered && config == ConfigAccess::PassThrough;
                    let after = if is_error { TdiState::Error } else { before };
                    assert_eq!(rig.device().state, after, "{config:?} {at:#x} = {value:#x}");
                    assert_eq!(rig.m.gate(NVME) == DmaGate::PrivateOnly, is_running && !is_error);
                    rig.is_clean();
                }
            }
        }
    }
}

#[test]
fn an_unlocked_device_takes_any_configuration() {
    let mut scenario = plain();
    scenario.vmm.config = ConfigAccess::PassThrough;
    scenario.device[0].lock_msix = true;
    let mut rig = Rig::placed(&scenario);
    let cap = rig.capability(NVME, 0x11).unwrap();
    for (at, width, value) in [(4, 2, 0), (0x10, 4, 0xFFFF_FFFF), (cap + 2, 2, 0x8000), (0x30, 4, 1)] {
        rig.config_write(NVME, at, width, value);
        assert_eq!(rig.device().state, TdiState::Unlocked);
    }
    assert_eq!(rig.config_read(NVME, cap + 2, 2), 0x8040);
    // The expansion ROM that the real function has is not shown.
    let functions = vec![SimFunction::host_bridge(), SimFunction::nvme(2, 0).with_rom(0x1_0000)];
    let mut rig = Rig::with(&scenario, functions);
    rig.m.config_write(NVME, 0x30, 4, 0xFFFF_FFFF);
    rig.config_write(NVME, 0x30, 4, 0xFFFF_F800);
    assert_eq!((rig.m.config_read(NVME, 0x30, 4), rig.config_read(NVME, 0x30, 4)), (0xFFFF_0001, 0));
}

#[test]
fn the_rmm_sees_an_error_at_the_next_exchange_and_not_before() {
    let mut scenario = plain();
    scenario.vmm.config = ConfigAccess::PassThrough;
    for exchange in ["report", "measurements", "start"] {
        let (mut rig, info) = Rig::locked(&scenario);
        if exchange != "start" {
            assert_eq!(rig.tdi(TDI_RUN), SUCCESS);
        }
        let believed = rig.info().unwrap().state;
        rig.config_write(NVME, 4, 2, 2);
        assert_eq!(rig.device().state, TdiState::Error);
        let pa = rig.real_bar() + MRO;
        assert_eq!(rig.try_validate(BAR, BAR + PAGE, pa, info.nonces()).0, RSI_SUCCESS);
        if exchange != "start" {
            assert_eq!(rig.dma_enable(&info), RSI_SUCCESS);
        }
        assert_eq!(rig.m.gate(NVME), DmaGate::Abort);
        assert_eq!(rig.info().unwrap().state, believed);
        match exchange {
            "report" => assert_eq!(rig.rhi(RHI_DA_VDEV_GET_INTERFACE_REPORT, &[VDEV])[0], DEVICE),
            "measurements" => assert_eq!(rig.measure(), SUCCESS),
            _ => assert_eq!(rig.tdi(TDI_RUN), DEVICE),
        }
        assert_eq!(rig.info().unwrap().state, 3, "{exchange}");
        rig.ripas(BAR, BAR + BAR_LEN, 0, 0);
        assert_eq!((rig.tdi(TDI_CONFIG_UNLOCKED), rig.tdi(TDI_CONFIG_LOCKED)), (SUCCESS, SUCCESS));
        assert_eq!(rig.info().unwrap().state, 1);
        rig.is_clean();
    }
}

#[test]
fn flr_reaches_the_function_and_clears_what_the_realm_set() {
    let mut rig = Rig::placed(&plain());
    let real = rig.real_bar();
    let cap = rig.capability(NVME, 0x10).unwrap();
    let control = rig.config_read(NVME, cap + 8, 2);
    rig.config_write(NVME, cap + 8, 2, control | 0x8000);
    assert_eq!(rig.m.functions[2].resets, 1);
    assert_eq!((rig.config_read(NVME, 4, 2), rig.config_read(NVME, 0x10, 4)), (0, 4));
    assert_eq!(rig.leaf(BAR), Leaf::None);
    assert_eq!((rig.real_bar(), rig.m.config_read(NVME, 4, 2) & 6), (real, 6));
    rig.place();
    assert_eq!(rig.leaf(BAR), Leaf::SharedDevice { pa: real });
    let (mut rig, _) = Rig::locked(&plain());
    rig.config_write(NVME, cap + 8, 2, 0x8000);
    assert_eq!(rig.device().state, TdiState::Error);
}

#[test]
fn d3_and_back_is_a_reset_and_d3_ends_a_lock() {
    let mut rig = Rig::placed(&plain());
    let cap = rig.capability(NVME, 0x01).unwrap();
    rig.config_write(NVME, cap + 4, 2, 3);
    rig.config_write(NVME, cap + 4, 2, 0);
    assert_eq!((rig.m.functions[2].resets, rig.config_read(NVME, 4, 2)), (1, 0));
    let (mut rig, _) = Rig::locked(&plain());
    rig.config_write(NVME, cap + 4, 2, 3);
    assert_eq!(rig.device().state, TdiState::Error);
}

#[test]
fn tee_io_is_shown_for_assigned_devices_only() {
    let mut scenario = plain();
    scenario.device.push(DeviceSpec { slot: "03.0".into(), ..DeviceSpec::default() });
    let functions = || {
        vec![
            SimFunction::host_bridge(),
            SimFunction::nvme(2, 0),
            SimFunction::edu(3, 0),
            SimFunction::nvme(4, 0),
        ]
    };
    let mut rig = Rig::with(&scenario, functions());
    for (rid, tee_io) in [(0x10, 1), (0x18, 1), (0x20, 0)] {
        let cap = rig.capability(rid, 0x10).unwrap();
        assert_eq!(rig.config_read(rid, cap + 4, 4) >> 30 & 1, tee_io);
    }
    // The capability that edu lacks does not hide the one it has, and promises no FLR.
    assert_eq!(rig.capability(0x18, 0x05), Some(0x40));
    let cap = rig.capability(0x18, 0x10).unwrap();
    assert_eq!(rig.config_read(0x18, cap + 4, 4) >> 28 & 1, 0);
    scenario.device[0].tee_io = false;
    let mut rig = Rig::with(&scenario, functions());
    let cap = rig.capability(0x10, 0x10).unwrap();
    assert_eq!(rig.config_read(0x10, cap + 4, 4) >> 30 & 1, 0);
}

#[test]
fn other_functions_pass_through_with_their_bars_and_shared_dma() {
    let mut rig = Rig::new(&plain());
    let virtio = 0x08;
    assert_eq!(rig.config_read(virtio, 0, 4), 0x1041_1AF4);
    assert_eq!(rig.m.gate(virtio), DmaGate::SharedOnly);
    rig.config_write(virtio, 0x14, 4, BAR);
    assert_eq!(rig.leaf(BAR), Leaf::None);
    rig.config_write(virtio, 4, 2, 6);
    assert_eq!(rig.leaf(BAR), Leaf::SharedDevice { pa: BAR });
    assert_eq!(rig.m.config_read(virtio, 0x14, 4), BAR as u32);
    assert_eq!(rig.call(RSI_VDEV_GET_INFO, &[8, INFO])[0], RSI_ERROR_INPUT);
    assert_eq!(rig.rhi(RHI_DA_VDEV_SET_TDI_STATE, &[8, 1])[0], INVALID_VDEV_ID);
    assert_eq!(rig.config_read(0x40, 0, 4), 0xFFFF_FFFF);
    let totals = rig.model.totals();
    assert_eq!((totals.config_accesses, rig.device().counters.config_accesses), (4, 0));
}

#[test]
fn configuration_space_is_reached_through_the_alias_with_a_syndrome_only() {
    let mut rig = Rig::new(&plain());
    let ecam = rig.model.board().ecam.base;
    assert_eq!(rig.leaf(ecam), Leaf::None);
    assert_eq!(rig.m.io_read(&mut rig.model, ecam, 4), Err(IoFault::Sea));
    for access in [
        Access::NoSyndrome { write: false },
        Access::NoSyndrome { write: true },
        Access::Read { width: 8 },
        Access::Fetch,
    ] {
        assert_eq!(rig.model.fault(ALIAS | ecam, access, &mut rig.m), FaultAction::Sea);
    }
    let odd = rig.model.fault(ALIAS | (ecam + 1), Access::Read { width: 2 }, &mut rig.m);
    assert_eq!(odd, FaultAction::Sea);
}

#[test]
fn every_access_is_counted_and_records_can_be_left_out() {
    for config_records in [true, false] {
        let mut scenario = plain();
        scenario.config_records = config_records;
        let mut rig = Rig::placed(&scenario);
        rig.tdi(TDI_CONFIG_LOCKED);
        rig.info().unwrap();
        let counters = rig.device().counters;
        assert_eq!((counters.config_accesses, counters.host_exits), (3, 4));
        assert_eq!((counters.rsi_calls, counters.rhi_calls), (2, 1));
        // The driver's own set-up adds one IPA_STATE_SET.
        let totals = rig.model.totals();
        assert_eq!((totals.config_accesses, totals.host_exits, totals.rsi_calls), (3, 5, 3));
        let configs = rig.m.events().filter(|event| matches!(event, Event::Config { .. })).count();
        assert_eq!(configs, if config_records { 3 } else { 0 });
        assert!(rig.m.records.iter().enumerate().all(|(index, record)| record.seq == index as u64));
    }
}

#[test]
fn the_vdev_id_is_the_routing_id_at_the_moment_of_lock() {
    let functions =
        vec![SimFunction::host_bridge(), SimFunction::root_port(5, 0), SimFunction::nvme(0, 0).behind(1)];
    let mut scenario = plain();
    scenario.device[0].slot = "05.0/00.0".into();
    let mut rig = Rig::with(&scenario, functions);
    let (port, lock) = (0x28, |rig: &mut Rig, id| rig.rhi(RHI_DA_VDEV_SET_TDI_STATE, &[id, 1])[0]);
    assert_eq!((rig.config_read(port, 0x18, 4) & 0xFF_FFFF, rig.config_read(port, 0x20, 4)), (0x01_0100, 0));
    assert_eq!(rig.config_read(0x100, 0, 4), 0x0010_1B36);
    // The realm numbers the bus anew; its windows are its own.
    rig.config_write(port, 0x18, 4, 0x07_0700);
    rig.config_write(port, 0x20, 4, 0x1000_1000);
    assert_eq!(rig.config_read(port, 0x20, 4), 0x1000_1000);
    assert_eq!(rig.config_read(0x100, 0, 4), 0xFFFF_FFFF);
    assert_eq!(lock(&mut rig, 0x100), INVALID_VDEV_ID);
    assert_eq!(lock(&mut rig, 0x700), SUCCESS);
    rig.config_write(0x700, 0x10, 4, BAR);
    rig.config_write(0x700, 4, 2, 6);
    assert_eq!(rig.m.io_read(&mut rig.model, BAR | ALIAS, 4), Ok(0x0101_07FF));
    rig.config_write(port, 0x18, 4, 0x02_0200);
    assert_eq!(rig.call(RSI_VDEV_GET_INFO, &[0x700, INFO])[0], RSI_SUCCESS);
    assert_eq!(rig.call(RSI_VDEV_GET_INFO, &[0x200, INFO])[0], RSI_ERROR_INPUT);
    assert_eq!(rig.device().bdf, "02:00.0");
    rig.config_write(port, 0x18, 4, 0);
    assert_eq!(rig.config_read(0x200, 0, 4), 0xFFFF_FFFF);
}

#[test]
fn a_vmm_can_place_the_bars_first() {
    let mut scenario = plain();
    scenario.vmm.assign_bars = true;
    let mut rig = Rig::new(&scenario);
    assert_eq!((rig.config_read(NVME, 0x10, 4), rig.config_read(NVME, 4, 2)), (BAR | 4, 0));
}

#[test]
fn scenarios_that_do_not_fit_are_refused() {
    let setup = |change: &dyn Fn(&mut rmm_model::Scenario, &mut Board)| {
        let (mut scenario, mut board) = (plain(), Board::sim());
        change(&mut scenario, &mut board);
        Model::new(&scenario, &board, &mut SimMachine::new(Box::new(SparseRam::default()))).err().unwrap()
    };
    let slot = |text: &'static str| {
        move |scenario: &mut rmm_model::Scenario, _: &mut Board| {
            scenario.device[0].slot = text.into();
        }
    };
    assert_eq!(setup(&slot("2")), SetupError::Slot("2".into()));
    assert_eq!(setup(&slot("02.9")), SetupError::Slot("02.9".into()));
    assert_eq!(setup(&slot("09.0")), SetupError::NoFunction("09.0".into()));
    assert_eq!(setup(&slot("03.0/00.0")), SetupError::NoBridge("03.0/00.0".into()));
    assert_eq!(
        setup(&|scenario, _| scenario.device.push(scenario.device[0].clone())),
        SetupError::TwoDevices("02.0".into())
    );
    assert_eq!(
        setup(&|_, board| board.real_bars.len = 0),
        SetupError::NoRoom { slot: "02.0".into(), len: BAR_LEN }
    );
    assert_eq!(
        setup(&|scenario, _| scenario.device[0].vca = Some(Blob { hex: "0".into(), ..Blob::default() })),
        SetupError::Hex("0".into())
    );
    assert_eq!(
        setup(
            &|scenario, _| scenario.device[0].vca = Some(Blob { file: "vca.bin".into(), ..Blob::default() })
        ),
        SetupError::File("vca.bin".into())
    );
    assert!(matches!(setup(&|_, board| board.ipa_width = 60), SetupError::Board(_)));
    assert!(matches!(setup(&|_, board| board.real_bars.base = BAR), SetupError::Board(_)));
    assert_eq!(
        setup(&|scenario, _| {
            let lie = Misbehaviour { device: "01.0".into(), ..Misbehaviour::once(Lie::UnlockFails) };
            scenario.misbehaviour.push(lie);
        }),
        SetupError::UnknownSlot("01.0".into())
    );
}
