//! Finds the nodes of a checked tree that Gatehouse knows; everything else does not exist for it.
//!
//! Trust: host. All nodes are children of the root (of the interrupt controller for the ITS): so it is for QEMU,
//! kvmtool and cloud-hypervisor. A node that is not enabled is not there.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::cells::{cells, one_cell, one_string, strings};
use super::read::{MachineError, What};
use ::fdt::Fdt;
use ::fdt::node::FdtNode;
use alloc::vec::Vec;

pub(crate) type Node<'b, 'a> = FdtNode<'b, 'a>;

/// Most memory nodes, and most ranges of RAM.
pub(crate) const MAX_RAM: usize = 64;
/// Most processors.
pub(crate) const MAX_CPUS: usize = 512;

/// Most clocks of one node.
const MAX_CLOCKS: usize = 8;

/// The known nodes of one tree.
pub(crate) struct Nodes<'b, 'a> {
    pub root: Node<'b, 'a>,
    pub cpus: Node<'b, 'a>,
    pub cpu: Vec<Node<'b, 'a>>,
    pub memory: Vec<Node<'b, 'a>>,
    pub gic: Node<'b, 'a>,
    pub its: Option<Node<'b, 'a>>,
    pub timer: Node<'b, 'a>,
    pub psci: Node<'b, 'a>,
    pub pci: Node<'b, 'a>,
    pub console: Option<Node<'b, 'a>>,
    pub clocks: Vec<Node<'b, 'a>>,
}

impl<'b, 'a> Nodes<'b, 'a> {
    pub fn find(fdt: &'b Fdt<'a>) -> Result<Self, MachineError> {
        let root = fdt.find_node("/").ok_or(MachineError::Missing(What::Root))?;
        let cpus = exactly_one(root, What::Cpus, &|n| n.name == "cpus")?;
        let gic = exactly_one(root, What::Gic, &|n| is_compatible(n, "arm,gic-v3"))?;
        let console = console(fdt)?;
        Ok(Self {
            root,
            cpus,
            cpu: some(cpus, What::Cpu, MAX_CPUS, &|n| text(n, "device_type") == Some("cpu"))?,
            memory: some(root, What::Ram, MAX_RAM, &|n| text(n, "device_type") == Some("memory"))?,
            gic,
            its: at_most_one(gic, What::Its, &|n| is_compatible(n, "arm,gic-v3-its"))?,
            timer: exactly_one(root, What::Timer, &|n| is_compatible(n, "arm,armv8-timer"))?,
            psci: exactly_one(root, What::Psci, &|n| {
                is_compatible(n, "arm,psci-1.0") || is_compatible(n, "arm,psci-0.2")
            })?,
            pci: exactly_one(root, What::PciHost, &|n| is_compatible(n, "pci-host-ecam-generic"))?,
            console,
            clocks: {
                let mut clocks = Vec::new();
                if let Some(console) = console {
                    clocks_of(root, console, What::Console, &mut clocks)?;
                }
                clocks
            },
        })
    }

    /// The children of the root among them.
    pub fn taken(&self) -> impl Iterator<Item = &Node<'b, 'a>> {
        let single = [&self.cpus, &self.gic, &self.timer, &self.psci, &self.pci];
        single.into_iter().chain(&self.memory).chain(&self.console).chain(&self.clocks)
    }
}

fn enabled(node: Node<'_, '_>) -> bool {
    node.property("status").is_none_or(|p| matches!(one_string(p.value), Some("okay" | "ok")))
}

/// Says whether a node is one of those looked for.
type Wanted<'w> = &'w dyn Fn(Node<'_, '_>) -> bool;

/// The enabled children of `parent` that are wanted: `most` of them, or fewer.
pub(super) fn up_to<'b, 'a>(
    most: usize,
    parent: Node<'b, 'a>,
    what: What,
    wanted: Wanted<'_>,
) -> Result<Vec<Node<'b, 'a>>, MachineError> {
    let mut found = Vec::new();
    for node in parent.children() {
        if enabled(node) && wanted(node) {
            if found.len() >= most {
                return Err(MachineError::TooMany(what));
            }
            found.push(node);
        }
    }
    Ok(found)
}

fn some<'b, 'a>(
    parent: Node<'b, 'a>,
    what: What,
    most: usize,
    wanted: Wanted<'_>,
) -> Result<Vec<Node<'b, 'a>>, MachineError> {
    let found = up_to(most, parent, what, wanted)?;
    if found.is_empty() { Err(MachineError::Missing(what)) } else { Ok(found) }
}

fn at_most_one<'b, 'a>(
    parent: Node<'b, 'a>,
    what: What,
    wanted: Wanted<'_>,
) -> Result<Option<Node<'b, 'a>>, MachineError> {
    Ok(up_to(1, parent, what, wanted)?.pop())
}

fn exactly_one<'b, 'a>(
    parent: Node<'b, 'a>,
    what: What,
    wanted: Wanted<'_>,
) -> Result<Node<'b, 'a>, MachineError> {
    at_most_one(parent, what, wanted)?.ok_or(MachineError::Missing(what))
}

/// Resolves `/chosen/stdout-path`: a path, or an alias of one, up to a colon.
fn console<'b, 'a>(fdt: &'b Fdt<'a>) -> Result<Option<Node<'b, 'a>>, MachineError> {
    let bad = MachineError::StdoutPath;
    let Some(chosen) = fdt.find_node("/chosen") else { return Ok(None) };
    let Some(value) = chosen.property("stdout-path") else { return Ok(None) };
    let text = one_string(value.value).ok_or(bad)?;
    let target = text.split(':').next().ok_or(bad)?;
    let path = if target.starts_with('/') {
        target
    } else {
        let aliases = fdt.find_node("/aliases").ok_or(bad)?;
        one_string(aliases.property(target).ok_or(bad)?.value).ok_or(bad)?
    };
    // One component, so that the parent is the root. `find_node` resolves aliases of its own accord for what does
    // not begin with a slash, and an alias of itself would never end.
    match path.strip_prefix('/') {
        Some(name) if !name.is_empty() && !name.contains('/') => {}
        _ => return Err(bad),
    }
    let node = fdt.find_node(path).filter(|node| enabled(*node)).ok_or(bad)?;
    if is_compatible(node, "arm,pl011") || is_compatible(node, "ns16550a") {
        Ok(Some(node))
    } else {
        Err(MachineError::ConsoleUnknown)
    }
}

/// Adds the fixed clocks that a node names to `found`, each once.
pub(super) fn clocks_of<'b, 'a>(
    root: Node<'b, 'a>,
    node: Node<'b, 'a>,
    what: What,
    found: &mut Vec<Node<'b, 'a>>,
) -> Result<(), MachineError> {
    let bad = MachineError::Property { node: what, property: "clocks" };
    let Some(value) = node.property("clocks") else { return Ok(()) };
    if value.value.len() > MAX_CLOCKS.saturating_mul(4) {
        return Err(bad);
    }
    for handle in cells(value.value).ok_or(bad)? {
        let clock = exactly_one(root, What::ConsoleClock, &|n| word(n, "phandle") == Some(handle))?;
        if !is_compatible(clock, "fixed-clock") || word(clock, "#clock-cells") != Some(0) {
            return Err(bad);
        }
        if found.iter().all(|n| n.name != clock.name) {
            found.push(clock);
        }
    }
    Ok(())
}

/// Tells whether `name` is among the strings of `compatible`.
#[inline(never)]
pub(crate) fn is_compatible(node: Node<'_, '_>, name: &str) -> bool {
    node.property("compatible").and_then(|p| strings(p.value)?.find(|s| *s == name)).is_some()
}

/// Returns a property that is one string.
pub(crate) fn text<'a>(node: Node<'_, 'a>, name: &str) -> Option<&'a str> {
    one_string(node.property(name)?.value)
}

/// Returns a property that is one cell.
pub(crate) fn word(node: Node<'_, '_>, name: &str) -> Option<u32> {
    one_cell(node.property(name)?.value)
}

/// Returns the cells of a property, or an error that names it; at most `most`.
pub(crate) fn list(
    node: Node<'_, '_>,
    what: What,
    name: &'static str,
    most: usize,
) -> Result<Vec<u32>, MachineError> {
    let bad = MachineError::Property { node: what, property: name };
    let all: Vec<u32> =
        cells(node.property(name).ok_or(bad)?.value).ok_or(bad)?.take(most.saturating_add(1)).collect();
    if all.is_empty() || all.len() > most { Err(bad) } else { Ok(all) }
}
