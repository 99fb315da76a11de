//! The tree as a whole: what an OS needs is there, and nothing of the host's is left.

use crate::checks::Context;
use crate::console::{Failed, Note};
use crate::memory::Range;
use crate::tree::{self, Node, Tree};

/// Word of the bundle's command line that says who wrote it.
const BOOTARG: &str = "gatehouse.demo";
/// Word of a bundle that has a ramdisk.
const RAMDISK_BOOTARG: &str = "gatehouse.ramdisk";
/// All words of the bundle's command line begin so; the host's do not.
const BOOTARG_PREFIX: &str = "gatehouse.";

/// Children of the root, without unit address.
const TOP: [&str; 9] = [
    "chosen",
    "memory",
    "cpus",
    "interrupt-controller",
    "timer",
    "psci",
    "serial",
    "pcie",
    "reserved-memory",
];
/// Properties of /chosen.
const CHOSEN: [&str; 7] = [
    "bootargs",
    "stdout-path",
    "linux,initrd-start",
    "linux,initrd-end",
    "linux,pci-probe-only",
    "rng-seed",
    "kaslr-seed",
];
/// `compatible` of reserved-memory nodes that a host gives and that would take our memory for its own use.
const POOLS: [&str; 2] = ["shared-dma-pool", "restricted-dma-pool"];

// Header of a flattened tree (Devicetree Specification 0.4, section 5.2): offsets of the words.
const TOTAL_SIZE: u32 = 0x04;
const OFF_STRUCT: u32 = 0x08;
const OFF_STRINGS: u32 = 0x0c;
const VERSION: u32 = 0x14;
const SIZE_STRINGS: u32 = 0x20;
const SIZE_STRUCT: u32 = 0x24;
/// Last word of the structure block.
const FDT_END: u32 = 9;

/// The check `tree`.
pub fn run(context: &Context<'_>, note: &mut Note) -> Result<(), Failed> {
    let tree = context.tree;
    if !header_ok(tree).unwrap_or(false) {
        return note.fail(format_args!("header or structure block"));
    }
    for (what, check) in NEEDED {
        if !check(tree).unwrap_or(false) {
            return note.fail(format_args!("missing or bad: {what}"));
        }
    }
    leftovers(tree, note)?;
    note.say(format_args!("{} bytes", tree.blob.len()));
    Ok(())
}

type Need = fn(&Tree) -> Option<bool>;

/// What an OS needs, and how to see that it is there.
const NEEDED: [(&str, Need); 9] = [
    ("root", |tree| {
        let root = tree.node("/")?;
        Some(tree::number(root, "#address-cells")? == 2 && tree::number(root, "#size-cells")? == 2)
    }),
    ("memory", |tree| Some(tree.memory().next().is_some())),
    ("cpus", |tree| {
        let cpus = tree.node("/cpus")?;
        let is_cpu = |node: &Node<'_>| tree::text(*node, "device_type") == Some("cpu");
        let by_psci = |node: Node<'_>| tree::text(node, "enable-method") == Some("psci");
        Some(cpus.children().any(|node| is_cpu(&node)) && cpus.children().filter(is_cpu).all(by_psci))
    }),
    ("psci", |tree| {
        let psci = tree.node("/psci")?;
        Some(tree::is_compatible(psci, "arm,psci-1.0") && tree::text(psci, "method")? == "smc")
    }),
    ("timer", |tree| {
        let interrupts = tree.compatible("arm,armv8-timer")?.property("interrupts")?;
        Some(interrupts.value.len() >= 4 * 12)
    }),
    ("interrupt controller", |tree| {
        let gic = tree.compatible("arm,gic-v3")?;
        let parent = tree::number(tree.node("/")?, "interrupt-parent")?;
        let own = tree::number(gic, "phandle")? == parent;
        Some(own && gic.property("interrupt-controller").is_some() && tree::ranges(gic).count() >= 2)
    }),
    ("stdout-path", |tree| tree.console().map(|_| true)),
    ("bootargs", |tree| {
        let mut words = tree::text(tree.node("/chosen")?, "bootargs")?.split_ascii_whitespace();
        let ours = words.clone().all(|word| word.starts_with(BOOTARG_PREFIX));
        Some(ours && words.any(|word| word.split('=').next() == Some(BOOTARG)))
    }),
    ("ramdisk", |tree| {
        let chosen = tree.node("/chosen")?;
        let mut words = tree::text(chosen, "bootargs")?.split_ascii_whitespace();
        let wanted = words.any(|word| word == RAMDISK_BOOTARG);
        let ends = ["linux,initrd-start", "linux,initrd-end"].map(|name| tree::array(chosen, name));
        Some(match ends {
            [None, None] => !wanted && chosen.properties().all(|p| !p.name.starts_with("linux,initrd")),
            [Some(start), Some(end)] => {
                let range = Range { base: tree::double(start), top: tree::double(end) };
                wanted && range.base < range.top && tree.memory().any(|ram| ram.contains(&range))
            }
            _ => false,
        })
    }),
];

/// Checks that version, sizes and the end marker fit.
fn header_ok(tree: &Tree) -> Option<bool> {
    let total = tree.word(TOTAL_SIZE)?;
    let end = |offset, size| Some(tree.word(offset)?.checked_add(tree.word(size)?)? <= total);
    let last = tree.word(OFF_STRUCT)?.checked_add(tree.word(SIZE_STRUCT)?)?.checked_sub(4)?;
    Some(
        tree.word(VERSION)? == 17
            && end(OFF_STRUCT, SIZE_STRUCT)?
            && end(OFF_STRINGS, SIZE_STRINGS)?
            && tree.word(last)? == FDT_END,
    )
}

/// Looks for what the host had in its tree and the allow-list has not.
fn leftovers(tree: &Tree, note: &mut Note) -> Result<(), Failed> {
    for node in tree.top() {
        let name = node.name.split('@').next().unwrap_or(node.name);
        let known =
            TOP.contains(&name) || name.strip_prefix("clock-").is_some_and(|n| n.parse::<u8>().is_ok());
        if !known {
            return note.fail(format_args!("node {} at the root", node.name));
        }
    }
    if let Some(chosen) = tree.node("/chosen") {
        if let Some(bad) = chosen.properties().find(|property| !CHOSEN.contains(&property.name)) {
            return note.fail(format_args!("/chosen has {}", bad.name));
        }
        if let Some(bad) = chosen.children().find(|node| node.name != "gatehouse") {
            return note.fail(format_args!("/chosen has node {}", bad.name));
        }
    }
    for node in tree.node("/reserved-memory").into_iter().flat_map(Node::children) {
        let pool = POOLS.iter().any(|name| tree::is_compatible(node, name));
        if pool || node.property("reusable").is_some() || node.property("no-map").is_none() {
            return note.fail(format_args!("reserved-memory node {}", node.name));
        }
    }
    let in_ram = |range: &Range| tree.memory().any(|ram| ram.contains(range));
    if let Some(bad) = tree.reservations().find(|range| !in_ram(range)) {
        return note.fail(format_args!("reservation {:#x}..{:#x} outside RAM", bad.base, bad.top));
    }
    for node in tree.top() {
        for name in ["iommu-map", "linux,usable-memory", "memory-region"] {
            if node.property(name).is_some() {
                return note.fail(format_args!("{} has {name}", node.name));
            }
        }
    }
    Ok(())
}
