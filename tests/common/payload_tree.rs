//! The payload's tree with these bridges and functions, on QEMU's machine.
use gatehouse::addr::IpaWidth;
use gatehouse::fdt::bridge::BridgeNode;
use gatehouse::fdt::check::Tree;
use gatehouse::fdt::function::{FunctionNode, Mode};
use gatehouse::fdt::read::Machine;
use gatehouse::fdt::write::{Handoff, PayloadTree, WriteError};

const VIRT: &[u8] = include_bytes!("../data/virt.dtb");

/// Builds the tree.
pub fn build(bridges: &[BridgeNode], functions: &[FunctionNode<'_>]) -> Result<Vec<u8>, WriteError> {
    let host = Tree::check(VIRT).unwrap();
    let machine = Machine::read(&host, IpaWidth::new(44).unwrap()).unwrap();
    let run = functions.iter().filter(|f| f.mode != Mode::Shared).count();
    let (accepted, shared) = (run as u32, (functions.len() - run) as u32);
    PayloadTree {
        host: &host,
        machine: &machine,
        num_cpus: 1,
        regions: &[],
        ram: &machine.ram,
        bootargs: b"",
        ramdisk: None,
        rng_seed: None,
        kaslr_seed: None,
        bridges,
        functions,
        emulated: &[],
        handoff: Handoff { verdict: "accepted", accepted, pinned: 0, shared, policy: None },
        os_half: true,
    }
    .build()
}
