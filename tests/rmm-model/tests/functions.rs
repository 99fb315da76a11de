//! Virtual functions, ordinary functions, multi-function devices, and what the simulated devices do.

mod common;

use common::*;
use rmm_model::abi::{rhi::*, rsi::*};
use rmm_model::final_state::TdiState;
use rmm_model::machine::{DmaGate, Leaf, Machine};
use rmm_model::scenario::*;
use rmm_model::sim::{SimFunction, SimMachine, SparseRam};
use rmm_model::{Board, Model, Scenario, SetupError};

const IGB: u16 = 0x20;
const VFS: [u16; 4] = [0xA0, 0xA2, 0xA4, 0xA6];

fn vf(number: u8) -> DeviceSpec {
    let devfn = 0xA0 + 2 * number;
    let slot = format!("{:02x}.{}", devfn >> 3, devfn & 7);
    DeviceSpec { model: DeviceModel::IgbVf, pf: "04.0".into(), vf: number, ..at(&slot) }
}

fn vfs(numbers: &[u8]) -> Scenario {
    devices(numbers.iter().map(|number| vf(*number)).collect())
}

fn igb() -> Vec<SimFunction> {
    vec![SimFunction::host_bridge(), SimFunction::igb(4, 0), SimFunction::edu(3, 0)]
}

fn virtio() -> (Scenario, Vec<SimFunction>) {
    let spec = DeviceSpec { model: DeviceModel::VirtioBlk, tdi: false, ..at("05.0/00.0") };
    let functions = vec![
        SimFunction::host_bridge(),
        SimFunction::root_port(5, 0),
        SimFunction::virtio_blk(0, 0).behind(1),
    ];
    (devices(vec![spec]), functions)
}

fn refused(scenario: &Scenario, functions: Vec<SimFunction>) -> Option<SetupError> {
    let mut m = SimMachine::with(&Board::sim(), Box::new(SparseRam::default()), functions);
    Model::new(scenario, &Board::sim(), &mut m).err()
}

#[test]
fn virtual_functions_are_shown_as_ordinary_ones_and_the_physical_one_is_hidden() {
    let mut rig = Rig::with(&vfs(&[0, 1, 2, 3]), igb());
    assert_eq!(rig.config_read(IGB, 0, 4), 0xFFFF_FFFF);
    rig.config_write(IGB, 4, 2, 6);
    assert_eq!((rig.m.config_read(IGB, 4, 2), rig.m.gate(IGB)), (0, DmaGate::Abort));
    for rid in VFS {
        assert_eq!(rig.m.config_read(rid, 0, 4), 0xFFFF_FFFF);
        assert_eq!(rig.config_read(rid, 0, 4), 0x10CA_8086);
        assert_eq!(rig.config_read(rid, 8, 4) >> 8, 0x02_0000);
        assert_eq!(rig.config_read(rid, 0x0E, 1), 0x80);
        assert_eq!((rig.extended(rid, 0x10), rig.config_read(rid, 4, 2)), (None, 0));
        let cap = rig.capability(rid, 0x10).unwrap();
        assert_eq!(rig.config_read(rid, cap + 4, 4) >> 30 & 1, 1);
        for (at, value) in [(0x10, 0xFFFF_C00C), (0x14, 0xFFFF_FFFF), (0x18, 0), (0x1C, 0xFFFF_C00C)] {
            rig.config_write(rid, at, 4, 0xFFFF_FFFF);
            assert_eq!(rig.config_read(rid, at, 4), value, "{at:#x}");
        }
    }
    // 14.1 is nobody, and a fifth virtual function was not started.
    assert_eq!((rig.config_read(0xA1, 0, 4), rig.m.config_read(0xA8, 8, 4)), (0xFFFF_FFFF, 0xFFFF_FFFF));
    rig.is_clean();
}

#[test]
fn each_virtual_function_has_registers_states_and_a_gate_of_its_own() {
    let mut rig = Rig::with(&vfs(&[0, 1, 2, 3]), igb());
    let address = |rid: u16| BAR + u64::from(rid) * 0x1_0000;
    for rid in VFS {
        rig.place_at(rid, 0, address(rid));
        assert_eq!(rig.config_read(rid, 4, 2), 6);
        rig.m.io_write(&mut rig.model, ALIAS | (address(rid) + 0x100), 4, rid.into()).unwrap();
    }
    for rid in VFS {
        let value = rig.m.io_read(&mut rig.model, ALIAS | (address(rid) + 0x100), 4);
        assert_eq!(value, Ok(rid.into()));
    }
    rig.start(0xA2);
    rig.start(0xA6);
    for (rid, gate) in
        VFS.into_iter().zip([DmaGate::Abort, DmaGate::PrivateOnly, DmaGate::Abort, DmaGate::PrivateOnly])
    {
        assert_eq!(rig.m.gate(rid), gate);
    }
    assert_eq!(rig.tdi_of(0xA2, TDI_CONFIG_UNLOCKED), SUCCESS);
    assert_eq!((rig.m.gate(0xA2), rig.m.gate(0xA6)), (DmaGate::Abort, DmaGate::PrivateOnly));
    rig.is_clean();
}

#[test]
fn flr_of_a_virtual_function_resets_it_alone() {
    let mut rig = Rig::with(&vfs(&[0, 1]), igb());
    for rid in [0xA0, 0xA2] {
        rig.place_at(rid, 0, BAR + u64::from(rid) * 0x1_0000);
    }
    let cap = rig.capability(0xA0, 0x10).unwrap();
    rig.config_write(0xA0, cap + 8, 2, 0x8000);
    assert_eq!((rig.config_read(0xA0, 4, 2), rig.config_read(0xA0, 0x10, 4)), (0, 0xC));
    assert_eq!((rig.config_read(0xA2, 4, 2), rig.leaf(BAR + 0xA0_0000)), (6, Leaf::None));
    assert_eq!(rig.m.config_read(0xA0, 4, 2), 4, "bus mastering of the real function stays on");
    rig.place_at(0xA0, 0, BAR);
    rig.m.io_write(&mut rig.model, ALIAS | BAR, 4, 5).unwrap();
    assert_eq!(rig.m.io_read(&mut rig.model, ALIAS | BAR, 4), Ok(5));
    assert_eq!(rig.tdi_of(0xA0, TDI_CONFIG_LOCKED), SUCCESS);
    rig.config_write(0xA0, cap + 8, 2, 0x8000);
    assert_eq!(rig.state("14.0").state, TdiState::Error);
    rig.is_clean();
}

#[test]
fn virtual_functions_that_nobody_has_are_hidden() {
    let mut rig = Rig::with(&vfs(&[0, 3]), igb());
    assert_eq!(rig.m.config_read(0xA2, 8, 4) >> 8, 0x02_0000);
    assert_eq!(rig.config_read(0xA2, 8, 4), 0xFFFF_FFFF);
    assert_eq!(rig.m.gate(0xA2), DmaGate::Abort);
    assert_eq!(rig.config_read(0xA6, 0x0E, 1), 0x80);
    let mut rig = Rig::with(&vfs(&[0]), igb());
    assert_eq!(rig.config_read(0xA0, 0x0E, 1), 0);
}

#[test]
fn virtual_functions_behind_a_port_are_reached_by_ari_and_stay_when_the_bus_moves() {
    let functions =
        vec![SimFunction::host_bridge(), SimFunction::root_port(5, 0), SimFunction::igb(0, 0).behind(1)];
    let vf = DeviceSpec { model: DeviceModel::IgbVf, pf: "05.0/00.0".into(), ..at("05.0/10.0") };
    let mut rig = Rig::with(&devices(vec![vf]), functions);
    let cap = rig.capability(0x28, 0x10).unwrap();
    rig.config_write(0x28, cap + 0x28, 2, 0x20);
    for bus in [1, 9] {
        rig.config_write(0x28, 0x18, 4, bus << 16 | bus << 8);
        let rid = (bus << 8) as u16;
        assert_eq!((rig.config_read(rid, 0, 4), rig.m.config_read(rid, 0, 4)), (0xFFFF_FFFF, 0x10C9_8086));
        assert_eq!(rig.config_read(rid | 0x80, 0, 4), 0x10CA_8086);
        assert_eq!((rig.m.gate(rid), rig.m.gate(rid | 0x80)), (DmaGate::Abort, DmaGate::Abort));
    }
    rig.place_at(0x980, 0, BAR);
    rig.start(0x980);
    assert_eq!(rig.m.gate(0x980), DmaGate::PrivateOnly);
    rig.is_clean();
}

#[test]
fn virtual_functions_that_cannot_be_are_refused() {
    let no_vf = |slot: &str, pf: &str, vf| Some(SetupError::NoVf { slot: slot.into(), pf: pf.into(), vf });
    let mut scenario = vfs(&[1]);
    scenario.device[0].slot = "14.4".into();
    assert_eq!(refused(&scenario, igb()), no_vf("14.4", "04.0", 1));
    assert_eq!(refused(&vfs(&[8]), igb()), no_vf("16.0", "04.0", 8));
    let mut scenario = vfs(&[0]);
    scenario.device[0].pf = "03.0".into();
    assert_eq!(refused(&scenario, igb()), no_vf("14.0", "03.0", 0));
    scenario.device[0].pf = "09.0".into();
    assert_eq!(refused(&scenario, igb()), Some(SetupError::NoFunction("09.0".into())));
    scenario.device[0].pf = "".into();
    assert_eq!(refused(&scenario, igb()), Some(SetupError::Slot("".into())));
    let mut scenario = vfs(&[0]);
    scenario.device.push(at("04.0"));
    assert_eq!(refused(&scenario, igb()), Some(SetupError::TwoDevices("04.0".into())));
}

#[test]
fn virtual_functions_of_one_physical_one_share_its_security_manager() {
    for (parent, status) in [("", BUSY), ("own", INCOMPLETE)] {
        let mut scenario = vfs(&[0, 1]);
        scenario.host.incomplete = 1;
        scenario.device[1].parent = parent.into();
        scenario.device.push(at("03.0"));
        let mut rig = Rig::with(&scenario, igb());
        assert_eq!(rig.tdi_of(0xA0, TDI_CONFIG_LOCKED), INCOMPLETE);
        assert_eq!(rig.tdi_of(0xA2, TDI_CONFIG_LOCKED), status);
        assert_eq!(rig.tdi_of(0x18, TDI_CONFIG_LOCKED), INCOMPLETE);
        rig.is_clean();
    }
}

#[test]
fn an_ordinary_function_is_virtual_but_no_tdi() {
    let (scenario, functions) = virtio();
    let mut rig = Rig::with(&scenario, functions);
    let rid = 0x100;
    assert_eq!(rig.m.gate(rid), DmaGate::Abort);
    assert_eq!((rig.config_read(rid, 0, 4), rig.config_read(rid, 0x14, 4)), (0x1042_1AF4, 0));
    rig.place_at(rid, 1, BAR);
    let Leaf::SharedDevice { pa } = rig.leaf(BAR) else { panic!("{:?}", rig.leaf(BAR)) };
    assert!(rig.model.board().real_bars.contains(pa));
    assert_eq!(rig.m.gate(rid), DmaGate::SharedOnly);
    assert!(rig.m.dma_reaches(rid, SHARED | ALIAS) && !rig.m.dma_reaches(rid, RAM));
    rig.config_write(rid, 4, 2, 2);
    assert_eq!(rig.m.gate(rid), DmaGate::Abort);
    rig.config_write(rid, 4, 2, 6);
    assert_eq!(rig.capability(rid, 0x10), None);
    for fid in [RSI_VDEV_GET_INFO, RSI_VDEV_VALIDATE_MAPPING, RSI_VDEV_DMA_ENABLE, RSI_VDEV_DMA_DISABLE] {
        assert_eq!(rig.call(fid, &[rid.into(), INFO])[0], RSI_ERROR_INPUT);
    }
    for fid in [RHI_DA_VDEV_SET_TDI_STATE, RHI_DA_OBJECT_SIZE, RHI_DA_VDEV_ABORT] {
        assert_eq!(rig.rhi(fid, &[rid.into(), 1])[0], INVALID_VDEV_ID);
    }
    let state = rig.state("05.0/00.0");
    assert_eq!((state.vdev_id, state.rmm_state, state.dma), (None, None, DmaGate::SharedOnly));
    // The gate follows the routing id.
    rig.config_write(0x28, 0x18, 4, 0x03_0300);
    assert_eq!((rig.m.gate(0x100), rig.m.gate(0x300)), (DmaGate::Abort, DmaGate::SharedOnly));
    rig.is_clean();
    let (mut scenario, functions) = virtio();
    scenario.device[0].tdi = true;
    assert_eq!(refused(&scenario, functions), Some(SetupError::NoTdi("05.0/00.0".into())));
}

#[test]
fn small_bars_keep_their_size_unless_the_function_is_a_tdi() {
    for (tdi, mask) in [(false, 0xFFFF_FF00), (true, 0xFFFF_F000)] {
        let functions =
            vec![SimFunction::host_bridge(), SimFunction::endpoint(2, 0).with_bar(0, 0x100, false, false)];
        let scenario = devices(vec![DeviceSpec { tdi, ..at("02.0") }]);
        let mut rig = Rig::with(&scenario, functions);
        rig.config_write(0x10, 0x10, 4, 0xFFFF_FFFF);
        assert_eq!(rig.config_read(0x10, 0x10, 4), mask);
        rig.place_at(0x10, 0, BAR);
        assert!(matches!(rig.leaf(BAR), Leaf::SharedDevice { .. }));
        rig.m.io_write(&mut rig.model, ALIAS | (BAR + 8), 4, 9).unwrap();
        assert_eq!(rig.m.io_read(&mut rig.model, ALIAS | (BAR + 8), 4), Ok(9));
        if !tdi {
            rig.place_at(0x10, 0, BAR + 0x100);
            assert_eq!(rig.leaf(BAR), Leaf::None);
        }
    }
}

#[test]
fn functions_that_share_a_number_say_so() {
    let functions = vec![
        SimFunction::host_bridge(),
        SimFunction::nvme(2, 0),
        SimFunction::nvme(2, 3),
        SimFunction::nvme(4, 0),
    ];
    let mut rig = Rig::with(&devices(vec![at("02.0"), at("02.3"), at("04.0")]), functions);
    let headers = [0x10, 0x13, 0x20].map(|rid| rig.config_read(rid, 0x0E, 1));
    assert_eq!(headers, [0x80, 0x80, 0]);
    assert_eq!(rig.m.config_read(0x10, 0x0E, 1), 0);
    let real = vec![SimFunction::host_bridge(), SimFunction::nvme(2, 0).multi_function()];
    let mut rig = Rig::with(&devices(vec![at("02.0")]), real);
    assert_eq!(rig.config_read(0x10, 0x0E, 1), 0x80);
}

#[test]
fn an_ahci_port_runs_and_stops_as_it_is_told() {
    let functions = vec![SimFunction::host_bridge(), SimFunction::ahci(2, 0)];
    let mut rig = Rig::with(&devices(vec![at("02.0")]), functions);
    rig.place_at(0x10, 5, BAR);
    let read = |rig: &mut Rig, at| rig.m.io_read(&mut rig.model, ALIAS | (BAR + at), 4).unwrap();
    let write =
        |rig: &mut Rig, at, value| rig.m.io_write(&mut rig.model, ALIAS | (BAR + at), 4, value).unwrap();
    assert_eq!((read(&mut rig, 0x0C), read(&mut rig, 0x04)), (0x3F, 1 << 31));
    for port in [0, 5] {
        let command = 0x118 + 0x80 * port;
        assert_eq!(read(&mut rig, command), 6);
        write(&mut rig, command, 0x11);
        assert_eq!(read(&mut rig, command), 0xC011);
        write(&mut rig, command, 0x10);
        assert_eq!(read(&mut rig, command), 0x4010);
        write(&mut rig, command, 0);
        assert_eq!(read(&mut rig, command), 0);
    }
    write(&mut rig, 0x118, 0x11);
    write(&mut rig, 0x04, 0x8000_0001);
    assert_eq!((read(&mut rig, 0x04), read(&mut rig, 0x118)), (1 << 31, 6));
}

#[test]
fn an_xhci_halts_when_run_is_cleared() {
    let functions = vec![SimFunction::host_bridge(), SimFunction::xhci(2, 0)];
    let mut rig = Rig::with(&devices(vec![at("02.0")]), functions);
    rig.place_at(0x10, 0, BAR);
    let read = |rig: &mut Rig, at, width| rig.m.io_read(&mut rig.model, ALIAS | (BAR + at), width).unwrap();
    assert_eq!((read(&mut rig, 0, 1), read(&mut rig, 2, 2)), (0x40, 0x100));
    assert_eq!(read(&mut rig, 0x44, 4), 1);
    for (command, status, after) in [(1, 0, 1), (0, 1, 0), (2, 1, 0)] {
        rig.m.io_write(&mut rig.model, ALIAS | (BAR + 0x40), 4, command).unwrap();
        assert_eq!((read(&mut rig, 0x44, 4), read(&mut rig, 0x40, 4)), (status, after));
    }
}

#[test]
fn edu_moves_bytes_only_through_an_open_gate() {
    let scenario = devices(vec![at("03.0")]);
    let mut rig = Rig::new(&scenario);
    rig.place_at(0x18, 0, BAR);
    let io = |rig: &mut Rig, at: u64, value: u64| {
        rig.m.io_write(&mut rig.model, ALIAS | (BAR + at), 8, value).unwrap();
    };
    let transfer = |rig: &mut Rig, source, target, command| {
        for (at, value) in [(0x80, source), (0x88, target), (0x90, 8), (0x98, command)] {
            io(rig, at, value);
        }
    };
    assert_eq!(rig.m.io_read(&mut rig.model, ALIAS | BAR, 4), Ok(0x0100_00ED));
    io(&mut rig, 4, 0x1234_5678);
    assert_eq!(rig.m.io_read(&mut rig.model, ALIAS | (BAR + 4), 4), Ok(!0x1234_5678 & 0xFFFF_FFFF));
    let (from, to) = (RAM + 0x9000, RAM + 0xA000);
    rig.m.write(from, b"gatehous");
    // Shut: nothing arrives, and what it reads is all ones.
    transfer(&mut rig, from, 0x4_0000, 1);
    assert_eq!(rig.m.io_read(&mut rig.model, ALIAS | (BAR + 0x4_0000), 8), Ok(u64::MAX));
    transfer(&mut rig, 0x4_0000, to, 3);
    let mut bytes = [0; 8];
    rig.m.read(to, &mut bytes);
    assert_eq!(bytes, [0; 8]);
    let info = rig.start(0x18);
    transfer(&mut rig, from, 0x4_0000, 1);
    transfer(&mut rig, 0x4_0000, to, 3);
    rig.m.read(to, &mut bytes);
    assert_eq!(&bytes, b"gatehous");
    // A shared page is out of its reach by either address.
    for target in [SHARED, SHARED | ALIAS] {
        transfer(&mut rig, 0x4_0000, target, 3);
        rig.m.read(SHARED, &mut bytes);
        assert_ne!(&bytes, b"gatehous");
    }
    assert_eq!(info.state, 1);
    rig.is_clean();
}
