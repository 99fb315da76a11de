//! The idle check of each class in a whole boot: a controller that the host armed before the lock is at rest when its
//! DMA is enabled.
mod common;

use common::*;
use gatehouse::arch::host::{HostPlatform, ipa_width};
use gatehouse::phases::{self, BootInfo};
use rmm_model::machine::{DmaGate, Machine};
use rmm_model::scenario::*;
use rmm_model::sim::{SimFunction, SimMachine};

/// The real address of a memory BAR of the function at 02.0.
fn real_bar(sim: &mut SimMachine, index: u16) -> u64 {
    let register = 0x10 + 4 * index;
    let low = sim.config_read(0x10, register, 4);
    let high = if low & 6 == 4 { sim.config_read(0x10, register + 4, 4) } else { 0 };
    u64::from(high) << 32 | u64::from(low & !0xf)
}

/// Boots with `function` at 02.0 after `armed` was written; returns what `registers` hold then.
fn boots_at_rest(
    function: SimFunction,
    model: DeviceModel,
    bar: u16,
    armed: &[(u64, u64)],
    registers: &[u64],
) -> Vec<u64> {
    let device = DeviceSpec { slot: SLOT.into(), model, ..DeviceSpec::default() };
    let scenario = Scenario { device: vec![device], ..Scenario::default() };
    let mut bench = Bench::new(&scenario, vec![SimFunction::host_bridge(), function]);
    let at = real_bar(&mut bench.sim, bar);
    for (register, value) in armed {
        bench.sim.device_write(at + register, 4, *value);
        assert_eq!(bench.sim.device_read(at + register, 4) & value, *value, "armed");
    }
    let mut platform = HostPlatform::new(bench, ipa_width()).with_random(7);
    let image = image::Image::of(&scenario);
    let own = gatehouse::addr::IpaRange::new(ram().base, ram().len).unwrap();
    let mut boot = BootInfo { own, tree_ipa: image.tree, bundle: image.source(), room: Default::default() };
    if let Err(stop) = phases::run(&mut platform, &mut boot) {
        panic!("{stop}");
    }
    let Bench { model, mut sim, .. } = platform.machine;
    let state = model.final_state();
    assert_eq!(state.violations, Vec::<String>::new());
    assert_eq!(state.device(SLOT).unwrap().dma, DmaGate::PrivateOnly);
    let at = real_bar(&mut sim, bar);
    registers.iter().map(|register| sim.device_read(at + register, 4)).collect()
}

#[test]
fn an_armed_ahci_controller_is_stopped() {
    let armed = [(0x118, 0x17), (0x298, 0x10)];
    let found = boots_at_rest(SimFunction::ahci(2, 0), DeviceModel::Ahci, 5, &armed, &[0x118, 0x198, 0x298]);
    assert!(found.iter().all(|command| command & 0xc011 == 0), "{found:x?}");
}

#[test]
fn an_armed_xhci_controller_is_stopped() {
    let found = boots_at_rest(SimFunction::xhci(2, 0), DeviceModel::Xhci, 0, &[(0x40, 1)], &[0x40, 0x44]);
    assert_eq!((found[0] & 1, found[1] & 1), (0, 1));
}

#[test]
fn an_armed_nvme_controller_is_stopped() {
    let found = boots_at_rest(SimFunction::nvme(2, 0), DeviceModel::Nvme, 0, &[(0x14, 1)], &[0x14, 0x1c]);
    assert_eq!(found, [0, 0]);
}
