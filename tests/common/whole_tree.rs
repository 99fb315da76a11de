//! A tree all the way: the gate, the reader, the final tree.
#![allow(dead_code, reason = "each test file uses its part")]
use gatehouse::addr::IpaWidth;
use gatehouse::fdt::check::Tree;
use gatehouse::fdt::emulated::{self, EmulatedNode};
use gatehouse::fdt::read::Machine;
use gatehouse::fdt::write::{Handoff, PayloadTree};

/// Width of the tree's machine.
pub fn width() -> IpaWidth {
    IpaWidth::new(44).unwrap()
}

/// Uses all that can be read of it.
pub fn use_all(bytes: &[u8]) {
    let Ok(tree) = Tree::check(bytes) else { return };
    if let Ok(machine) = Machine::read(&tree, width()) {
        let devices =
            emulated::read(&tree, &machine, width(), &["arm,pl031", "arm,gic-v3", "a"]).unwrap_or_default();
        let node = |device| EmulatedNode { device, compatible: "arm,pl031", rule: "r" };
        let emulated: Vec<_> = devices.into_iter().map(node).collect();
        let built = PayloadTree {
            host: &tree,
            machine: &machine,
            num_cpus: 1,
            regions: &[],
            ram: &machine.ram,
            bootargs: b"",
            ramdisk: None,
            rng_seed: None,
            kaslr_seed: None,
            bridges: &[],
            functions: &[],
            emulated: &emulated,
            handoff: Handoff { verdict: "v", accepted: 0, pinned: 0, shared: 0, policy: None },
            os_half: true,
        }
        .build();
        built.iter().for_each(|blob| assert!(Tree::check(blob).is_ok()));
    }
    let reader = tree.reader().unwrap();
    for node in reader.all_nodes() {
        let _ = (node.property("reg"), node.children().count());
    }
}
