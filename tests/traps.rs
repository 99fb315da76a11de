//! A host's tree full of traps: none reaches the payload. Each trap goes through a whole boot, and the tree that is handed
//! over is walked: nothing is in it that docs/handoff.md does not have, and nothing of what was planted. What was dropped is
//! written down in tests/data/traps.txt.
mod common;
#[path = "traps/table.rs"]
mod table;

use common::contract::is_documented;
use common::image::{Image, set, tree};
use common::*;
use dtoolkit::Node;
use dtoolkit::fdt::Fdt;
use dtoolkit::memreserve::MemoryReservation;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use gatehouse::codes::StopCode;
use gatehouse::fdt::check::Tree;
use rmm_model::Scenario;
use rmm_model::sim::Transport;
use std::fmt::Write as _;
use table::{Edit, MARK, TRAPS, Trap};

/// Finds a node, and makes it if it is not there.
fn node<'t>(tree: &'t mut DeviceTree, path: &str) -> &'t mut DeviceTreeNode {
    let mut node = &mut tree.root;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if node.child(part).is_none() {
            node.add_child(DeviceTreeNode::new(part).unwrap());
        }
        node = node.child_mut(part).unwrap();
    }
    node
}

fn plant(tree: &mut DeviceTree, edits: &[Edit]) {
    for edit in edits {
        match edit {
            Edit::Text(path, name, text) => {
                let value = [text.as_bytes(), b"\0"].concat();
                node(tree, path).add_property(DeviceTreeProperty::new_unchecked(*name, value));
            }
            Edit::Cells(path, name, cells) => {
                let value: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
                node(tree, path).add_property(DeviceTreeProperty::new_unchecked(*name, value));
            }
            Edit::Remove(path) => {
                let (path, name) = path.split_once(':').unwrap();
                node(tree, path).remove_property(name).unwrap();
            }
            Edit::Reserve(base, len) => tree.memory_reservations.push(MemoryReservation::new(*base, *len)),
            Edit::Rename(..) | Edit::BootCpu(_) | Edit::Unused(_) => {}
        }
    }
}

/// What the model of a tree cannot hold.
fn patch(blob: &mut Vec<u8>, edits: &[Edit]) {
    for edit in edits {
        match edit {
            Edit::Rename(from, to) => {
                let at = blob.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
                blob[at..at + to.len()].copy_from_slice(to.as_bytes());
            }
            Edit::BootCpu(cpu) => blob[28..32].copy_from_slice(&cpu.to_be_bytes()),
            Edit::Unused(name) => {
                let field = |at: usize| u32::from_be_bytes(blob[at..at + 4].try_into().unwrap()) as usize;
                let (total, strings, len) = (field(4), field(12), field(32));
                assert_eq!(strings + len, total, "the strings are last");
                blob.extend(name.as_bytes());
                for (at, value) in [(4, total), (32, len)] {
                    let longer = u32::try_from(value + name.len()).unwrap();
                    blob[at..at + 4].copy_from_slice(&longer.to_be_bytes());
                }
            }
            _ => {}
        }
    }
}

/// The host's tree with traps.
fn trapped(change: fn(&mut DeviceTree), traps: &[&Trap]) -> Vec<u8> {
    let mut blob = tree(|tree| {
        change(tree);
        traps.iter().for_each(|trap| plant(tree, trap.1));
    });
    traps.iter().for_each(|trap| patch(&mut blob, trap.1));
    blob
}

/// Boots on a tree; a third transport is there for a trap.
fn boot_on(scenario: &Scenario, blob: &[u8]) -> Ran {
    let mut boot = Boot::new(scenario);
    boot.image = Image { tree: Image::with_tree(blob).tree, ..boot.image };
    boot.transports.push(Transport::new(0x0a00_0400, 1));
    boot.run()
}

/// Demands that a tree has nothing that was planted.
#[track_caller]
fn is_clean(blob: &[u8], what: &str) {
    is_documented(blob);
    let has = |bytes: &[u8]| blob.windows(bytes.len()).any(|window| window.eq_ignore_ascii_case(bytes));
    for marks in [&b"TRAP"[..], &MARK.to_be_bytes()[..3], &MARK.to_le_bytes()[1..]] {
        assert!(!has(marks), "{what}: {marks:x?} reaches the payload");
    }
    for word in ["status", "disabled", "spin-table", "reserved-memory-pool", "external-facing"] {
        assert!(!has(word.as_bytes()), "{what}: {word} reaches the payload");
    }
}

fn nothing(_: &mut DeviceTree) {}

/// kvmtool's console instead of QEMU's: a 16550 behind an alias, with its own clock.
fn kvmtool(tree: &mut DeviceTree) {
    tree.root.remove_child("pl011@9000000").unwrap();
    let uart = node(tree, "/U6_16550A@1000000");
    let text = |name: &str, value: &str| DeviceTreeProperty::new(name, value).unwrap();
    uart.add_property(text("compatible", "ns16550a"));
    set(tree, "/U6_16550A@1000000", "reg", [0u32, 0x100_0000, 0, 8]);
    set(tree, "/U6_16550A@1000000", "interrupts", [0u32, 0, 4]);
    set(tree, "/U6_16550A@1000000", "clock-frequency", 0x1c_2000u32);
    set(tree, "/aliases", "serial0", "/U6_16550A@1000000");
    set(tree, "/chosen", "stdout-path", "serial0");
}

#[test]
fn each_trap_is_dropped_or_stops_the_boot_under_its_code() {
    let scenario = plain();
    let clean = boot_on(&scenario, &tree(|_| {}));
    let clean = shape(&tree_at(clean.boots().tree));
    let mut wrong = String::new();
    for trap @ (name, _, end) in TRAPS {
        let ran = boot_on(&scenario, &trapped(nothing, &[trap]));
        if ran.code() != *end {
            let got = ran.result.err().map(|stop| stop.to_string());
            writeln!(wrong, "{name}: ends with {got:?}, not {end:?}").unwrap();
            continue;
        }
        let Some(_) = end else {
            let blob = tree_at(ran.boots().tree);
            is_clean(&blob, name);
            let got = shape(&blob);
            // A flag is the host's to set, a value in it is not.
            let flag = "/interrupt-controller@8000000/msi-controller@8080000:dma-noncoherent = []";
            let more: Vec<_> = got.iter().filter(|line| !clean.contains(line) && *line != flag).collect();
            assert!(more.is_empty(), "{name}: {more:?}");
            continue;
        };
        ran.stops(end.unwrap());
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// Paths and properties with their values, but for addresses of this process and seeds.
fn shape(blob: &[u8]) -> Vec<String> {
    let mut lines = Vec::new();
    each(blob, &mut |path, property| {
        let moves = ["/memory", "/reserved-memory/"].iter().any(|moving| path.starts_with(moving))
            || property.is_some_and(|(name, _)| name.ends_with("-seed") || name.contains("initrd"));
        match property {
            _ if moves => {}
            None => lines.push(path.to_owned()),
            Some((name, value)) => lines.push(format!("{path}:{name} = {value:x?}")),
        }
    });
    lines
}

/// Is told a path, and a property with its value or nothing for the node itself.
type See<'s> = &'s mut dyn FnMut(&str, Option<(&str, &[u8])>);

/// Goes through all nodes and properties.
fn each(blob: &[u8], see: See<'_>) {
    fn visit(node: fdt::node::FdtNode<'_, '_>, path: &str, see: See<'_>) {
        let shown = if path.is_empty() { "/" } else { path };
        see(shown, None);
        node.properties().for_each(|property| see(shown, Some((property.name, property.value))));
        node.children().for_each(|child| visit(child, &format!("{path}/{}", child.name), see));
    }
    let tree = Tree::check(blob).unwrap();
    visit(tree.reader().unwrap().find_node("/").unwrap(), "", see);
}

/// Where the payload finds what a node of the host's stands for.
fn counterpart(path: &str) -> String {
    let mut path = path.to_owned();
    for (host, ours) in [
        ("/intc@", "/interrupt-controller@"),
        ("/its@", "/msi-controller@"),
        ("/apb-pclk", "/clock-0"),
        ("/pl011@", "/serial@"),
        ("/U6_16550A@", "/serial@"),
        ("/pcie@10000000", "/pcie@4010000000"),
        // The tests' RAM lies elsewhere than the node's name says.
        ("/memory@40000000", "/memory@100000000000"),
    ] {
        path = path.replace(host, ours);
    }
    path
}

/// What the host's tree has and the payload's has not, line by line.
fn dropped(host: &[u8], payload: &[u8]) -> String {
    let mut handed = std::collections::BTreeMap::new();
    each(payload, &mut |path, property| {
        let (name, value) = property.unwrap_or_default();
        handed.insert(format!("{path}:{name}"), value.to_vec());
    });
    let mut lines = String::new();
    each(host, &mut |path, property| {
        let ours = counterpart(path);
        match property {
            None if !handed.contains_key(&format!("{ours}:")) => writeln!(lines, "node      {path}").unwrap(),
            Some((name, value)) if handed.contains_key(&format!("{ours}:")) => {
                match handed.get(&format!("{ours}:{name}")) {
                    None => writeln!(lines, "property  {path}: {name}").unwrap(),
                    Some(other) if other != value => writeln!(lines, "value     {path}: {name}").unwrap(),
                    Some(_) => {}
                }
            }
            _ => {}
        }
    });
    lines
}

/// Write it down anew with `GH_BLESS=1 cargo test --test traps`.
#[test]
fn all_traps_at_once_are_dropped_and_what_was_dropped_is_written_down() {
    let traps: Vec<&Trap> = TRAPS.iter().filter(|trap| trap.2.is_none()).collect();
    let mut got = String::from(
        "# What a payload does not get of host trees full of traps: nodes, properties, and values (tests/traps.rs).\n",
    );
    for (name, change) in [("QEMU", nothing as fn(&mut DeviceTree)), ("kvmtool", kvmtool)] {
        let of_qemu = |trap: &&&Trap| {
            name == "QEMU"
                || !trap
                    .1
                    .iter()
                    .any(|edit| matches!(edit, Edit::Text(_, _, text) if text.contains("pl011@")))
        };
        let traps: Vec<&Trap> = traps.iter().filter(of_qemu).copied().collect();
        let host = trapped(change, &traps);
        let ran = boot_on(&plain(), &host);
        let payload = tree_at(ran.boots().tree);
        is_clean(&payload, name);
        writeln!(got, "\n[{name}]\n{}", dropped(&host, &payload).trim_end()).unwrap();
    }
    println!("{got}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/traps.txt");
    if std::env::var_os("GH_BLESS").is_some() {
        std::fs::write(path, &got).unwrap();
    }
    assert_eq!(got, std::fs::read_to_string(path).unwrap_or_default());
}

/// A device that a rule takes brings what the document has, and nothing more.
#[test]
fn a_device_that_a_rule_takes_brings_no_trap() {
    let mut scenario = plain();
    scenario.bundle.policy_tail =
        "[[rule]]\nname = \"clock\"\nkind = \"platform\"\ncompatible = \"arm,pl031\"\n\
        [[rule]]\nname = \"any\"\nkind = \"virtio-mmio\"\nrequired = false\n"
            .into();
    const RTC: &str = "/pl031@9010000";
    const M: &[u32] = &[MARK];
    const EDITS: &[Edit] = &[
        Edit::Text(RTC, "compatible", "TRAP\0arm,pl031\0TRAP\0arm,primecell"),
        Edit::Text(RTC, "label", "TRAP"),
        Edit::Text(RTC, "clock-names", "apb_pclk\0TRAP\x01"),
        Edit::Cells(RTC, "memory-region", M),
        Edit::Cells(RTC, "iommus", M),
        Edit::Cells(RTC, "dmas", M),
        Edit::Cells(RTC, "dma-ranges", M),
        Edit::Text(RTC, "dma-coherent", "TRAP"),
        Edit::Text("/pl031@9010000/child@1", "compatible", "TRAP"),
        Edit::Text("/virtio_mmio@a000000", "label", "TRAP"),
        Edit::Cells("/virtio_mmio@a000000", "iommus", M),
        Edit::Cells("/virtio_mmio@a000000", "memory-region", M),
        Edit::Cells("/virtio_mmio@a000000", "clock-frequency", M),
    ];
    /// Values that the payload would get: refused.
    const STOPS: &[Edit] = &[
        Edit::Cells(RTC, "clock-frequency", &[1, MARK]),
        Edit::Cells(RTC, "reg-shift", &[1, MARK]),
        Edit::Cells(RTC, "interrupts", &[MARK; 3 * 33]),
        Edit::Cells(RTC, "clocks", &[0x8000, 0x8000, 0x8000, 0x8000, 0x8000, 0x8000, 0x8000, 0x8000, MARK]),
        Edit::Cells(RTC, "interrupt-parent", M),
        Edit::Cells("/virtio_mmio@a000000", "interrupt-parent", M),
        Edit::Cells("/virtio_mmio@a000000", "interrupts", &[0, 1, 4, 0, MARK, 4]),
    ];
    let on = |edits: &'static [Edit]| {
        let mut boot = Boot::new(&scenario);
        boot.image.tree = Image::with_tree(&trapped(nothing, &[&("", edits, None)])).tree;
        boot.transports[0] = Transport::new(TRANSPORTS[0], 2);
        boot.run()
    };
    let ran = on(EDITS);
    let blob = tree_at(ran.boots().tree);
    is_clean(&blob, "devices of rules");
    let text = Fdt::new(&blob).unwrap().to_string();
    assert!(text.contains("platform@9010000") && text.contains("virtio_mmio@a000000"), "{text}");
    for edit in STOPS {
        assert_eq!(on(std::slice::from_ref(edit)).code(), Some(StopCode::TreeContent));
    }
}
