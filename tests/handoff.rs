//! docs/handoff.md has all that a payload's tree can have, and nothing else: its tables against trees with everything in them.
mod common;

use common::contract::{Allowed, allowed, found};
use common::image::{set, tree};
use dtoolkit::Node;
use dtoolkit::model::{DeviceTree, DeviceTreeNode};
use gatehouse::addr::{Bdf, IpaRange};
use gatehouse::arch::host::ipa_width;
use gatehouse::digest::Digest;
use gatehouse::fdt::bridge::BridgeNode;
use gatehouse::fdt::check::Tree;
use gatehouse::fdt::emulated::{self, EmulatedNode, VIRTIO_MMIO};
use gatehouse::fdt::function::{AcceptedNode, BarNode, FunctionNode, Mode, MsixPages, PinNode};
use gatehouse::fdt::read::Machine;
use gatehouse::fdt::write::{Handoff, PayloadTree, Ramdisk, Region};
use gatehouse::policy::pins::Pins;
use gatehouse::rsi::HashAlgorithm;
use std::collections::BTreeSet;

/// The payload's tree on this host, with a function in each mode, one of them behind a bridge, and a device of each kind.
fn payload(host: &[u8]) -> Vec<u8> {
    let host: &'static Tree = Box::leak(Box::new(Tree::check(host).unwrap()));
    let machine = Machine::read(host, ipa_width()).unwrap();
    let digest = Digest::of(HashAlgorithm::Sha384, &[]);
    let pins = Pins {
        leaf_key: Some(digest),
        chain: Some(digest),
        measurements: Some(digest),
        report: digest,
        algorithms: "spdm-1.2".into(),
    };
    let bdf = |bus, device| Bdf::new(bus, device, 0).unwrap();
    let run = AcceptedNode {
        vdev_id: bdf(0, 1).into(),
        msix_pages: &[MsixPages { bar: 0, first_page: 1, num_pages: 1 }],
        nonces: [1, 2, 3],
        digest_algorithm: "sha384",
        vca_digest: &[1; 48],
        certificate_digest: &[2; 48],
        measurement_digest: &[3; 48],
        report_digest: &[4; 48],
    };
    let low = machine.pci.windows[0].range.base();
    let window = IpaRange::new(low.next_multiple_of(1 << 20), 1 << 20).unwrap();
    let bar = |address| BarNode { index: 0, address, size: 0x4000, wide: false, prefetchable: false };
    let function = |bdf, above, address, mode| FunctionNode {
        bdf,
        above,
        vendor_id: 1,
        device_id: 2,
        subsystem_vendor_id: 3,
        subsystem_id: 4,
        revision_id: 5,
        class_code: 0x01_0802,
        bars: vec![bar(address)],
        rule: "r",
        mode,
    };
    let functions = [
        function(bdf(1, 0), Some(0), window.base(), Mode::Run(run)),
        function(
            bdf(0, 2),
            None,
            window.top(),
            Mode::Pin(PinNode { vdev_id: bdf(0, 2).into(), pins: &pins }),
        ),
        function(bdf(0, 3), None, window.top() + 0x4000, Mode::Shared),
    ];
    let bridges = [BridgeNode {
        bdf: bdf(0, 1),
        vendor_id: 1,
        device_id: 2,
        revision_id: 3,
        class_code: 0x06_0400,
        above: None,
        secondary: 1,
        subordinate: 1,
        memory: Some(window),
        prefetchable: None,
    }];
    let shown = |device: emulated::Device<'static>| {
        let compatible = if device.is_transport { VIRTIO_MMIO } else { "arm,pl031" };
        EmulatedNode { device, compatible, rule: "r" }
    };
    let devices = emulated::read(host, &machine, ipa_width(), &["arm,pl031"]).unwrap();
    let emulated: Vec<_> = devices.into_iter().map(shown).collect();
    let base = machine.ram[0].base();
    PayloadTree {
        host,
        machine: &machine,
        num_cpus: 1,
        regions: &[
            Region { name: "log", compatible: "confidential-computing-event-log", base, len: 1 },
            Region { name: "evidence", compatible: "gatehouse,evidence", base: base + 0x1000, len: 1 },
        ],
        ram: &machine.ram,
        bootargs: b"quiet",
        ramdisk: Some(Ramdisk { start: base, end: base + 1 }),
        rng_seed: Some(&[1; 32]),
        kaslr_seed: Some(1),
        bridges: &bridges,
        functions: &functions,
        emulated: &emulated,
        handoff: Handoff {
            verdict: "accepted",
            accepted: 1,
            pinned: 1,
            shared: 1,
            policy: Some((digest, 1)),
        },
        os_half: true,
    }
    .build()
    .unwrap()
}

/// QEMU's tree with all that may be taken over and is not there.
fn full(tree: &mut DeviceTree) {
    set(tree, "/intc@8000000", "redistributor-stride", [0u32, 0x2_0000]);
    set(tree, "/intc@8000000/its@8080000", "dma-noncoherent", Vec::<u32>::new());
    set(tree, "/pcie@10000000", "msi-parent", 0x8004u32);
    for (name, value) in [("clock-frequency", 1u32), ("reg-shift", 2), ("reg-io-width", 4)] {
        set(tree, "/pl031@9010000", name, value);
    }
    set(tree, "/pl031@9010000", "interrupt-names", "alarm");
    set(tree, "/pl031@9010000", "dma-coherent", Vec::<u32>::new());
}

/// The same with kvmtool's console.
fn kvmtool(tree: &mut DeviceTree) {
    full(tree);
    let mut uart = DeviceTreeNode::new("U6_16550A@1000000").unwrap();
    uart.add_property(dtoolkit::model::DeviceTreeProperty::new("compatible", "ns16550a").unwrap());
    tree.root.add_child(uart);
    let path = "/U6_16550A@1000000";
    set(tree, path, "reg", [0u32, 0x100_0000, 0, 0x100]);
    set(tree, path, "interrupts", [0u32, 0, 4]);
    for (name, value) in [("clock-frequency", 0x1c_2000u32), ("reg-shift", 2), ("reg-io-width", 4)] {
        set(tree, path, name, value);
    }
    set(tree, "/chosen", "stdout-path", path);
    assert!(tree.root.child("U6_16550A@1000000").is_some());
}

#[test]
fn the_tables_have_what_a_tree_can_have_and_nothing_else() {
    let mut all: BTreeSet<Allowed> = found(&payload(&tree(full)));
    all.extend(found(&payload(&tree(kvmtool))));
    let documented = allowed();
    let missing: Vec<_> = all.difference(&documented).collect();
    assert!(missing.is_empty(), "not in the tables: {missing:#?}");
    let more: Vec<_> = documented.difference(&all).collect();
    assert!(more.is_empty(), "in the tables only: {more:#?}");
}
