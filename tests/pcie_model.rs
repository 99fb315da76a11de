//! The PCIe library against the model's machine: what it programs is what its host and its bridges understand.
mod common;

use common::*;
use gatehouse::addr::IpaRange;
use gatehouse::arch::host::{HostPlatform, ipa_width};
use gatehouse::fdt::pci::Window;
use gatehouse::pcie::{Allocation, Ecam, Topology, allocate, open_bridges, prepare, size_bars, walk};
use gatehouse::platform::{AccessSize, Half, Io};
use rmm_model::scenario::{DeviceSpec, Scenario};
use rmm_model::sim::SimFunction;

/// What a load returns when nobody decodes it.
const NOBODY: u64 = 0xffff_ffff;
/// NVMe version register.
const VS: u64 = 8;

fn slot(slot: &str) -> DeviceSpec {
    DeviceSpec { slot: slot.into(), ..DeviceSpec::default() }
}

/// Walks, places and opens everything for these slots; returns what there is, and the version register of each NVMe as it is
/// read through the bridges.
fn placed(functions: Vec<SimFunction>, slots: &[&str]) -> (Topology, Vec<u64>) {
    let device = slots.iter().map(|name| slot(name)).collect();
    let bench = Bench::new(&Scenario { device, ..Scenario::default() }, functions);
    let mut platform = HostPlatform::new(bench, ipa_width());
    let board = board();
    let range = |range: &rmm_model::Range| IpaRange::new(range.base, range.len).unwrap();
    let ecam = Ecam::open(&mut platform, range(&board.ecam), 0, 255).unwrap();
    let host: Vec<_> = board
        .pci_windows
        .iter()
        .map(|window| Window { range: range(window), wide: window.base >= 1 << 32, prefetchable: false })
        .collect();
    let topology = walk(&mut platform, &ecam).unwrap();
    let wanted: Vec<_> = slots.iter().map(|name| topology.find(&name.parse().unwrap()).unwrap()).collect();
    let sizes: Vec<_> =
        wanted.iter().map(|function| size_bars(&mut platform, &ecam, function).unwrap()).collect();
    let wanted: Vec<_> = wanted.into_iter().zip(&sizes).map(|(f, sizes)| (f, sizes.as_slice())).collect();
    let Allocation { bars, windows } = allocate(&topology, &wanted, &host);
    open_bridges(&mut platform, &ecam, &topology, &windows).unwrap();
    let mut versions = Vec::new();
    for ((function, _), bars) in wanted.iter().zip(bars) {
        let bars = bars.unwrap();
        prepare(&mut platform, &ecam, function, &bars).unwrap();
        if function.class == 0x01_0802 {
            let registers = platform.map(bars[0].range(function.bdf).unwrap(), Half::Unprotected).unwrap();
            versions.push(platform.read(&registers, VS, AccessSize::Word).unwrap());
        }
    }
    let state = platform.machine.model.final_state();
    for name in slots {
        assert_eq!(state.device(name).unwrap().command, 0b110, "{name}: MSE and BME");
    }
    assert_eq!(state.violations, Vec::<String>::new());
    (topology, versions)
}

#[test]
fn an_nvme_behind_a_root_port_answers_through_its_bar() {
    let functions = vec![
        SimFunction::host_bridge(),
        SimFunction::root_port(5, 0),
        SimFunction::nvme(0, 0).behind(1),
        SimFunction::edu(3, 0),
        SimFunction::nvme(4, 0),
    ];
    let (topology, versions) = placed(functions, &["05.0/00.0", "03.0", "04.0"]);
    assert_eq!((topology.bridges[0].secondary, topology.bridges[0].subordinate), (1, 1));
    assert_eq!(versions.len(), 2);
    assert!(versions.iter().all(|version| *version != 0 && *version != NOBODY), "{versions:x?}");
}

#[test]
fn a_port_that_the_host_left_without_numbers_gets_some() {
    let functions = vec![
        SimFunction::root_port(4, 0),
        SimFunction::virtio_net(0, 0).behind(0),
        SimFunction::root_port(5, 0),
        SimFunction::nvme(0, 0).behind(2),
    ];
    let (topology, versions) = placed(functions, &["05.0/00.0"]);
    let numbers: Vec<_> = topology.bridges.iter().map(|bridge| bridge.secondary).collect();
    assert_eq!(numbers, [1, 2], "the one of the device changed");
    assert_eq!(topology.functions.len(), 2);
    assert!(versions[0] != 0 && versions[0] != NOBODY);
}
