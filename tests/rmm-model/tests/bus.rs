//! Bridges: numbers, windows, routing ids and what follows them, ARI, large BARs.

mod common;

use common::*;
use rmm_model::abi::{rhi::*, rsi::*};
use rmm_model::final_state::TdiState;
use rmm_model::machine::{DmaGate, Leaf, Machine};
use rmm_model::scenario::*;
use rmm_model::sim::{SimFunction, SimMachine, SparseRam};
use rmm_model::{Board, Model, Scenario, SetupError};

const GIB: u64 = 1 << 30;

/// Root port 05.0, a switch of four ports with NVMe, igb, AHCI and xHCI, and another root port with an NVMe.
fn switch() -> Vec<SimFunction> {
    vec![
        SimFunction::host_bridge(),
        SimFunction::root_port(5, 0),
        SimFunction::upstream_port(0, 0).behind(1),
        SimFunction::downstream_port(0, 0).behind(2),
        SimFunction::downstream_port(1, 0).behind(2),
        SimFunction::downstream_port(2, 0).behind(2),
        SimFunction::downstream_port(3, 0).behind(2),
        SimFunction::nvme(0, 0).behind(3),
        SimFunction::igb(0, 0).behind(4),
        SimFunction::ahci(0, 0).behind(5),
        SimFunction::xhci(0, 0).behind(6),
        SimFunction::root_port(6, 0),
        SimFunction::nvme(0, 0).behind(11),
    ]
}

fn switched() -> Scenario {
    // In no order: the host sorts.
    devices(vec![
        at("06.0/00.0"),
        at("05.0/00.0/02.0/00.0"),
        at("05.0/00.0/00.0/00.0"),
        at("05.0/00.0/03.0/00.0"),
        at("05.0/00.0/01.0/00.0"),
    ])
}

fn rid(bus: u16, devfn: u16) -> u16 {
    bus << 8 | devfn
}

#[test]
fn buses_are_numbered_depth_first_and_ports_show_what_they_are() {
    let mut rig = Rig::with(&switched(), switch());
    for (port, numbers, kind) in [
        (rid(0, 0x28), 0x06_0100, 4),
        (rid(1, 0), 0x06_0201, 5),
        (rid(2, 0x00), 0x03_0302, 6),
        (rid(2, 0x08), 0x04_0402, 6),
        (rid(2, 0x10), 0x05_0502, 6),
        (rid(2, 0x18), 0x06_0602, 6),
        (rid(0, 0x30), 0x07_0700, 4),
    ] {
        assert_eq!(rig.config_read(port, 0x18, 4), numbers, "{port:#x}");
        assert_eq!((rig.config_read(port, 4, 2), rig.config_read(port, 0x20, 4)), (0, 0));
        let cap = rig.capability(port, 0x10).unwrap();
        assert_eq!(rig.config_read(port, cap + 2, 1) >> 4, kind);
    }
    for (bus, ids) in
        [(3, 0x0010_1B36), (4, 0x10C9_8086), (5, 0x2922_8086), (6, 0x000D_1B36), (7, 0x0010_1B36)]
    {
        assert_eq!(rig.config_read(rid(bus, 0), 0, 4), ids);
    }
    let bdfs: Vec<String> = rig.model.final_state().devices.into_iter().map(|device| device.bdf).collect();
    assert_eq!(bdfs, ["07:00.0", "05:00.0", "03:00.0", "06:00.0", "04:00.0"]);
}

#[test]
fn every_bridge_has_a_real_window_of_its_own_and_every_bar_is_reached() {
    let mut rig = Rig::with(&switched(), switch());
    let mut windows = Vec::new();
    for port in [rid(2, 0), rid(2, 8), rid(2, 0x10), rid(2, 0x18), rid(0, 0x30)] {
        let value = u64::from(rig.m.config_read(port, 0x20, 4));
        windows.push(((value & 0xFFF0) << 16, (value & 0xFFF0_0000) | 0xF_FFFF));
    }
    for (index, one) in windows.iter().enumerate() {
        assert!(one.0 < one.1 && rig.model.board().real_bars.covers(one.0, one.1 + 1));
        assert!(windows[..index].iter().all(|other| one.1 < other.0 || other.1 < one.0));
    }
    // NVMe, AHCI (BAR 5), xHCI and the other NVMe by a register that reads as nothing else.
    for (bus, bar, offset, value) in
        [(3, 0, 0, 0x0101_07FF), (5, 5, 0x0C, 0x3F), (6, 0, 0, 0x0100_0040), (7, 0, 0, 0x0101_07FF)]
    {
        let address = BAR + u64::from(bus) * 0x10_0000;
        rig.place_at(rid(bus, 0), bar, address);
        assert_eq!(rig.m.io_read(&mut rig.model, ALIAS | (address + offset), 4), Ok(value), "bus {bus}");
    }
}

#[test]
fn windows_of_odd_length_keep_large_bars_aligned() {
    let port = |device| SimFunction::root_port(device, 0);
    let wide = |above| {
        SimFunction::endpoint(0, 0)
            .with_bar(0, 0x100_0000, false, false)
            .with_bar(1, 0x1000, false, false)
            .behind(above)
    };
    let functions = vec![SimFunction::host_bridge(), port(5), wide(1), port(6), wide(3)];
    let mut rig = Rig::with(&devices(vec![at("05.0/00.0"), at("06.0/00.0")]), functions);
    for (rid, address) in [(rid(1, 0), BAR), (rid(2, 0), BAR + 0x200_0000)] {
        rig.place_at(rid, 0, address);
        let Leaf::SharedDevice { pa } = rig.leaf(address) else { panic!("{:?}", rig.leaf(address)) };
        assert_eq!(pa % 0x100_0000, 0);
        rig.m.io_write(&mut rig.model, ALIAS | (address + 0xFF_FFFC), 4, rid.into()).unwrap();
        assert_eq!(rig.m.io_read(&mut rig.model, ALIAS | (address + 0xFF_FFFC), 4), Ok(rid.into()));
    }
}

#[test]
fn without_numbers_the_realm_gives_them() {
    let mut scenario = switched();
    scenario.vmm.bus_numbers = BusNumbers::None;
    let mut rig = Rig::with(&scenario, switch());
    assert_eq!((rig.config_read(0x28, 0x18, 4), rig.config_read(0x30, 0x18, 4)), (0, 0));
    assert_eq!(rig.config_read(rid(1, 0), 0, 4), 0xFFFF_FFFF);
    assert_eq!((rig.config_read(0xFFFF, 0, 4), rig.config_read(0xFFFF, 0x10, 4)), (0xFFFF_FFFF, 0xFFFF_FFFF));
    assert_eq!(rig.tdi_of(0xFFFF, TDI_CONFIG_LOCKED), INVALID_VDEV_ID);
    rig.config_write(0x30, 0x18, 4, 0x09_0900);
    assert_eq!(rig.config_read(rid(9, 0), 0, 4), 0x0010_1B36);
    assert_eq!(rig.tdi_of(0x900, TDI_CONFIG_LOCKED), SUCCESS);
    assert_eq!(rig.state("06.0/00.0").vdev_id, Some(0x900));
    // From the top down, with all buses below open on the way.
    rig.config_write(0x28, 0x18, 4, 0xFF_2000);
    assert_eq!(rig.config_read(rid(0x20, 0), 0, 4), 0x8232_104C);
    assert_eq!(rig.config_read(rid(0x20, 0), 0x18, 4), 0);
    rig.config_write(rid(0x20, 0), 0x18, 4, 0xFF_2120);
    rig.config_write(rid(0x21, 8), 0x18, 4, 0x30_3021);
    assert_eq!(rig.config_read(rid(0x30, 0), 0, 4), 0x10C9_8086);
    assert_eq!(rig.state("05.0/00.0/01.0/00.0").bdf, "30:00.0");
    rig.is_clean();
    let mut scenario = switched();
    scenario.vmm.bus_numbers = BusNumbers::None;
    scenario.device[0].earlier = EarlierSession::Locked;
    let mut m = SimMachine::with(&Board::sim(), Box::new(SparseRam::default()), switch());
    let error = Model::new(&scenario, &Board::sim(), &mut m).err();
    assert_eq!(error, Some(SetupError::NoNumber("06.0/00.0".into())));
}

#[test]
fn renumbering_a_running_device_moves_its_gate_and_keeps_its_id() {
    for (config, state) in
        [(ConfigAccess::Virtualise, TdiState::Run), (ConfigAccess::PassThrough, TdiState::Error)]
    {
        let mut scenario = switched();
        scenario.vmm.config = config;
        let mut rig = Rig::with(&scenario, switch());
        rig.place_at(rid(3, 0), 0, BAR);
        rig.start(0x300);
        assert_eq!(rig.m.gate(0x300), DmaGate::PrivateOnly);
        rig.config_write(rid(2, 0), 0x18, 4, 0x0A_0A02);
        let device = rig.state("05.0/00.0/00.0/00.0");
        assert_eq!(
            (device.state, device.vdev_id, device.rmm_state),
            (state, Some(0x300), Some(TdiState::Run))
        );
        // Bus 10 is not behind the root port yet: requests do not get there, but the id is taken.
        let gate = if state == TdiState::Run { DmaGate::PrivateOnly } else { DmaGate::Abort };
        assert_eq!((rig.m.gate(0x300), rig.m.gate(0xA00)), (DmaGate::Abort, gate));
        assert!(rig.info_of(0x300).is_ok());
        assert_eq!(rig.info_of(0xA00), Err(RSI_ERROR_INPUT));
        // No bus at all: nobody has the gate.
        rig.config_write(rid(2, 0), 0x18, 4, 0);
        assert_eq!((rig.m.gate(0x300), rig.m.gate(0xA00)), (DmaGate::Abort, DmaGate::Abort));
        assert_eq!(rig.state("05.0/00.0/00.0/00.0").bdf, "ff:1f.7");
        rig.config_write(rid(2, 0), 0x18, 4, 0x03_0302);
        assert_eq!(rig.m.gate(0x300), gate);
        rig.is_clean();
    }
}

#[test]
fn renumbering_above_moves_what_is_below_and_two_of_one_id_are_shut() {
    let mut rig = Rig::with(&switched(), switch());
    rig.place_at(rid(7, 0), 0, BAR);
    rig.start(0x700);
    assert_eq!(rig.m.gate(0x700), DmaGate::PrivateOnly);
    // The upstream port's bus becomes 0x22: downstream ports move, their own buses stay.
    rig.config_write(rid(1, 0), 0x18, 4, 0xFF_2201);
    rig.config_write(0x28, 0x1A, 1, 0xFF);
    assert_eq!(rig.config_read(rid(0x22, 0), 0x18, 4), 0x03_0302);
    assert_eq!(rig.config_read(rid(2, 0), 0, 4), 0xFFFF_FFFF);
    // A downstream port gets the bus of the device that runs.
    rig.config_write(rid(0x22, 0), 0x18, 4, 0x07_0722);
    assert_eq!(rig.m.gate(0x700), DmaGate::Abort);
    rig.config_write(rid(0x22, 0), 0x18, 4, 0x03_0322);
    assert_eq!(rig.m.gate(0x700), DmaGate::PrivateOnly);
    rig.is_clean();
}

#[test]
fn functions_that_pass_through_keep_windows_and_gate_when_their_bus_changes() {
    let mut functions = switch();
    functions.push(SimFunction::root_port(7, 0));
    functions.push(SimFunction::virtio_net(0, 0).behind(13));
    let mut rig = Rig::with(&switched(), functions);
    let net = |bus| rid(bus, 0);
    rig.config_write(0x38, 0x18, 4, 0x40_4000);
    rig.config_write(0x38, 0x20, 4, 0x1800_1800);
    rig.config_write(0x38, 4, 2, 6);
    rig.place_at(net(0x40), 1, 0x1800_0000);
    assert_eq!(rig.m.gate(net(0x40)), DmaGate::SharedOnly);
    assert_eq!(rig.leaf(0x1800_0000), Leaf::SharedDevice { pa: 0x1800_0000 });
    rig.config_write(0x38, 0x18, 4, 0x41_4100);
    assert_eq!((rig.m.gate(net(0x40)), rig.m.gate(net(0x41))), (DmaGate::Abort, DmaGate::SharedOnly));
    assert_eq!(rig.leaf(0x1800_0000), Leaf::SharedDevice { pa: 0x1800_0000 });
    rig.config_write(net(0x41), 4, 2, 0);
    assert_eq!(rig.leaf(0x1800_0000), Leaf::None);
    // A running device elsewhere is not touched by any of it.
    rig.config_write(0x38, 0x18, 4, 0);
    assert_eq!(rig.m.gate(net(0x41)), DmaGate::Abort);
    assert_eq!(rig.config_read(rid(7, 0), 0, 4), 0x0010_1B36);
}

#[test]
fn a_secondary_bus_reset_is_not_passed_on() {
    let mut rig = Rig::with(&switched(), switch());
    rig.config_write(0x30, 0x3E, 2, 0x43);
    assert_eq!((rig.config_read(0x30, 0x3E, 2), rig.m.config_read(0x30, 0x3E, 2)), (3, 3));
}

#[test]
fn functions_above_seven_answer_when_the_realm_turns_ari_forwarding_on() {
    let functions = vec![
        SimFunction::host_bridge(),
        SimFunction::root_port(5, 0),
        SimFunction::nvme(0, 0).behind(1).ari(0, 1),
        SimFunction::endpoint(0, 1).with_bar(0, 0x1000, false, false).behind(1).ari(1, 9),
        SimFunction::nvme(0, 0).behind(1).ari(9, 0x20),
        SimFunction::nvme(0, 0).behind(1).ari(0x20, 0),
    ];
    let scenario = devices(vec![at("05.0/00.0"), at("05.0/01.1"), at("05.0/04.0")]);
    let mut rig = Rig::with(&scenario, functions);
    let port = 0x28;
    let cap = rig.capability(port, 0x10).unwrap();
    assert_eq!((rig.config_read(port, cap + 0x24, 4), rig.config_read(port, cap + 0x28, 2)), (0x20, 0));
    assert_eq!(rig.config_read(rid(1, 9), 0, 4), 0xFFFF_FFFF);
    rig.config_write(port, cap + 0x28, 2, 0x20);
    assert_eq!(rig.config_read(port, cap + 0x28, 2), 0x20);
    let (mut number, mut chain) = (0, Vec::new());
    loop {
        chain.push((number, rig.config_read(rid(1, number), 0, 4)));
        let ari = rig.extended(rid(1, number), 0x0E).unwrap();
        number = rig.config_read(rid(1, number), ari + 5, 1) as u16;
        if number == 0 {
            break;
        }
    }
    assert_eq!(chain, [(0, 0x0010_1B36), (1, 0x0005_1B36), (9, 0x0010_1B36), (0x20, 0x0010_1B36)]);
    assert_eq!(rig.state("05.0/01.1").bdf, "01:01.1");
    assert_eq!(rig.tdi_of(0x109, TDI_CONFIG_LOCKED), SUCCESS);
    rig.is_clean();
}

#[test]
fn bars_up_to_64_gib_are_placed_above_4_gib_and_mapped_where_the_realm_wants_them() {
    let big = |device, len| SimFunction::endpoint(device, 0).with_bar(0, len, true, true);
    let functions = vec![
        SimFunction::host_bridge(),
        big(2, 64 * GIB),
        SimFunction::root_port(5, 0),
        SimFunction::nvme(0, 0).behind(2).with_bar(2, 16 * GIB, true, true),
        SimFunction::root_port(6, 0),
        big(0, 32 * GIB).behind(4),
    ];
    let scenario = devices(vec![at("02.0"), at("05.0/00.0"), at("06.0/00.0")]);
    let board = Board::sim_wide();
    let mut rig = Rig::on_board(&scenario, &board, functions);
    let window = board.pci_windows[1].base;
    for (rid, bar, len, address) in [
        (0x10, 0, 64 * GIB, window),
        (0x100, 2, 16 * GIB, window + 64 * GIB),
        (0x200, 0, 32 * GIB, window + 96 * GIB),
    ] {
        let at = 0x10 + 4 * bar;
        rig.config_write(rid, at, 4, 0xFFFF_FFFF);
        rig.config_write(rid, at + 4, 4, 0xFFFF_FFFF);
        assert_eq!(rig.config_read(rid, at, 4), 0xC);
        assert_eq!(rig.config_read(rid, at + 4, 4), 0x1_0000_0000 - len / (1 << 32));
        rig.place_at(rid, bar, address);
        let Leaf::SharedDevice { pa } = rig.leaf(address) else { panic!("{:?}", rig.leaf(address)) };
        assert!(board.real_bars_high.covers(pa, pa + len) && pa % len == 0);
        assert_eq!(rig.leaf(address + len - PAGE), Leaf::SharedDevice { pa: pa + len - PAGE });
        rig.m.io_write(&mut rig.model, ALIAS | (address + len - 8), 4, rid.into()).unwrap();
        assert_eq!(rig.m.io_read(&mut rig.model, ALIAS | (address + len - 8), 4), Ok(rid.into()));
    }
    rig.place_at(0x100, 0, BAR);
    assert_eq!(rig.m.io_read(&mut rig.model, ALIAS | BAR, 4), Ok(0x0101_07FF));
    let mut small = board.clone();
    small.real_bars_high.len = 96 * GIB;
    let functions = vec![big(2, 64 * GIB), big(3, 64 * GIB)];
    let mut m = SimMachine::with(&small, Box::new(SparseRam::default()), functions);
    let error = Model::new(&devices(vec![at("02.0"), at("03.0")]), &small, &mut m).err();
    assert!(matches!(error, Some(SetupError::NoRoom { len, .. }) if len == 64 * GIB));
}
