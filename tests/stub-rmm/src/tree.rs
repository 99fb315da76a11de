//! The realm's device tree: built from QEMU's by an allow-list, then changed as the scenario says.

use crate::layout::{ECAM_BASE, ECAM_SIZE, SMMU_BASE, UART_16550, UART_16550_SPI};
use crate::mmio::RealmRam;
use crate::uart;
use crate::vmm::Direct;
use alloc::{borrow::ToOwned, format, string::String, vec::Vec};
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node, Property};
use rmm_model::Range;
use rmm_model::scenario::{TreeEdit, Vmm};

/// Nodes below the root that a realm gets, by the part of their name before `@`.
const NODES: [&str; 5] = ["cpus", "intc", "pcie", "psci", "timer"];
/// Those of a PL011.
const NODES_PL011: [&str; 2] = ["apb-pclk", "pl011"];
/// Name of the 16550, as kvmtool spells it.
const NAME_16550: &str = "U6_16550A";
/// Its clock in Hz, as in a PC.
const CLOCK_16550: u32 = 1_843_200;
/// Space codes of PCI `ranges`, bits 25:24 of the first cell.
const SPACE_MEM32: u32 = 2;
const SPACE_MEM64: u32 = 3;

/// Why QEMU's tree cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// It does not parse.
    #[error("it does not parse: {0}")]
    Parse(String),
    /// A node is missing.
    #[error("node {0} is missing")]
    Node(&'static str),
    /// A property is missing or has an unexpected shape.
    #[error("node {0} has no {1} of the expected kind")]
    Property(&'static str, &'static str),
    /// The machine was started without its SMMU.
    #[error("no SMMU (-M virt,virtualization=on,gic-version=3,iommu=smmuv3)")]
    NoSmmu,
    /// A change of the scenario is not possible.
    #[error("vmm.tree_edit {0:?} is not possible")]
    Edit(String),
}

/// What the realm's tree says about a console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Console {
    /// QEMU's PL011, passed through.
    Pl011,
    /// The stub's 16550.
    Ns16550,
    /// Nothing.
    None,
}

/// What the stub needs to know about QEMU's machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// CPUs.
    pub num_cpus: usize,
    /// All RAM.
    pub memory: Range,
    /// Distributor, redistributors, ITS.
    pub gic: Vec<Range>,
    /// The console.
    pub uart: Range,
    /// Configuration space.
    pub ecam: Range,
    /// 32-bit window of the host bridge.
    pub mmio32: Range,
    /// 64-bit window of the host bridge.
    pub mmio64: Range,
}

fn child<'a>(parent: &FdtNode<'a>, name: &'static str) -> Result<FdtNode<'a>, TreeError> {
    parent.children().find(|node| node.name_without_address() == name).ok_or(TreeError::Node(name))
}

fn cells(node: &FdtNode<'_>, in_node: &'static str, name: &'static str) -> Result<Vec<u32>, TreeError> {
    let property = node.property(name).ok_or(TreeError::Property(in_node, name))?;
    let (words, rest) = property.value().as_chunks::<4>();
    if !rest.is_empty() {
        return Err(TreeError::Property(in_node, name));
    }
    Ok(words.iter().map(|word| u32::from_be_bytes(*word)).collect())
}

fn pair(cells: &[u32]) -> u64 {
    cells.iter().fold(0, |value, cell| value << 32 | u64::from(*cell))
}

/// Splits a `reg` with two address and two size cells.
fn regs(node: &FdtNode<'_>, name: &'static str) -> Result<Vec<Range>, TreeError> {
    Ok(cells(node, name, "reg")?.chunks_exact(4).map(|c| Range::new(pair(&c[..2]), pair(&c[2..]))).collect())
}

fn first(ranges: Vec<Range>, name: &'static str) -> Result<Range, TreeError> {
    ranges.first().copied().ok_or(TreeError::Property(name, "reg"))
}

/// Reads QEMU's tree, which must have an SMMU if `need_smmu`.
pub fn read(blob: &[u8], need_smmu: bool) -> Result<Machine, TreeError> {
    let fdt = Fdt::new(blob).map_err(|error| TreeError::Parse(format!("{error}")))?;
    let root = fdt.root();
    let intc = child(&root, "intc")?;
    let mut gic = regs(&intc, "intc")?;
    gic.extend(regs(&child(&intc, "its")?, "its")?);
    let smmu = child(&root, "smmuv3").and_then(|node| first(regs(&node, "smmuv3")?, "smmuv3"));
    if need_smmu && smmu.ok().map(|range| range.base) != Some(SMMU_BASE) {
        return Err(TreeError::NoSmmu);
    }
    let pcie = child(&root, "pcie")?;
    let ecam = first(regs(&pcie, "pcie")?, "pcie")?;
    if ecam != Range::new(ECAM_BASE, ECAM_SIZE) {
        return Err(TreeError::Property("pcie", "reg"));
    }
    let ranges = cells(&pcie, "pcie", "ranges")?;
    let window = |space| {
        let mut entries = ranges.chunks_exact(7).filter(|entry| (entry[0] >> 24) & 3 == space);
        let entry = entries.next().ok_or(TreeError::Property("pcie", "ranges"))?;
        Ok(Range::new(pair(&entry[3..5]), pair(&entry[5..7])))
    };
    let cpus = child(&root, "cpus")?;
    let num_cpus = cpus.children().filter(|node| node.name_without_address() == "cpu").count();
    Ok(Machine {
        num_cpus,
        memory: first(regs(&child(&root, "memory")?, "memory")?, "memory")?,
        gic,
        uart: first(regs(&child(&root, "pl011")?, "pl011")?, "pl011")?,
        ecam,
        mmio32: window(SPACE_MEM32)?,
        mmio64: window(SPACE_MEM64)?,
    })
}

fn set(node: &mut DeviceTreeNode, name: &str, value: &[u8]) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, value));
}

fn set_text(node: &mut DeviceTreeNode, name: &str, text: &str) {
    node.add_property(DeviceTreeProperty::new_unchecked(name, text));
}

/// Builds the realm's tree.
pub fn build(
    blob: &[u8],
    machine: &Machine,
    ram: &RealmRam,
    mmio32: Range,
    vmm: &Vmm,
    direct: &Direct<'_>,
    console: Console,
) -> Result<Vec<u8>, TreeError> {
    let fdt = Fdt::new(blob).map_err(|error| TreeError::Parse(format!("{error}")))?;
    let host = fdt.root();
    let mut tree = DeviceTree::new();
    for property in host.properties() {
        set(&mut tree.root, property.name(), property.value());
    }
    for node in host.children() {
        let name = node.name_without_address();
        let is_console = console == Console::Pl011 && NODES_PL011.contains(&name);
        if !NODES.contains(&name) && !is_console {
            continue;
        }
        let mut copy = DeviceTreeNode::from_node(&node);
        match name {
            "cpus" => only_first_cpus(&mut copy, vmm.recs),
            // A realm has no EL2: no maintenance interrupt.
            "intc" => drop(copy.remove_property("interrupts")),
            "psci" => set_text(&mut copy, "method", "smc"),
            "pcie" => host_bridge(&mut copy, machine, mmio32),
            _ => (),
        }
        tree.root.add_child(copy);
    }

    let mut memory = DeviceTreeNode::new_unchecked(format!("memory@{:x}", ram.base()));
    set_text(&mut memory, "device_type", "memory");
    set(
        &mut memory,
        "reg",
        [ram.base().to_be_bytes(), (ram.end() - ram.base()).to_be_bytes()].as_flattened(),
    );
    tree.root.add_child(memory);

    let mut chosen = DeviceTreeNode::new_unchecked("chosen");
    match console {
        Console::Pl011 => set_text(&mut chosen, "stdout-path", &format!("/pl011@{:x}", machine.uart.base)),
        // As kvmtool: behind an alias.
        Console::Ns16550 => {
            set_text(&mut chosen, "stdout-path", "serial0");
            let mut aliases = DeviceTreeNode::new_unchecked("aliases");
            set_text(&mut aliases, "serial0", &format!("/{NAME_16550}@{UART_16550:x}"));
            tree.root.add_child(aliases);
            tree.root.add_child(uart_16550());
        }
        Console::None => (),
    }
    if let Some(bootargs) = direct.bootargs {
        set_text(&mut chosen, "bootargs", bootargs);
    }
    if let Some((base, len)) = direct.initrd {
        set(&mut chosen, "linux,initrd-start", &base.to_be_bytes());
        set(&mut chosen, "linux,initrd-end", &(base + len).to_be_bytes());
    }
    tree.root.add_child(chosen);

    for change in &vmm.tree_edit {
        edit(&mut tree.root, change)?;
    }
    Ok(tree.to_dtb())
}

/// Leaves one processor for each REC.
fn only_first_cpus(cpus: &mut DeviceTreeNode, recs: u8) {
    let names: Vec<String> = cpus.children().map(|node| node.name().to_owned()).collect();
    let is_rec = |name: &str| (0..recs.max(1)).any(|rec| name == format!("cpu@{rec:x}"));
    for name in names.iter().filter(|name| !is_rec(name)) {
        cpus.remove_child(name);
    }
}

fn uart_16550() -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new_unchecked(format!("{NAME_16550}@{UART_16550:x}"));
    set_text(&mut node, "compatible", "ns16550a");
    set(&mut node, "reg", [UART_16550.to_be_bytes(), uart::LEN.to_be_bytes()].as_flattened());
    set(&mut node, "clock-frequency", &CLOCK_16550.to_be_bytes());
    // SPI, number, rising edge.
    let interrupts = [0, UART_16550_SPI, 1].map(u32::to_be_bytes);
    set(&mut node, "interrupts", interrupts.as_flattened());
    node
}

/// No SMMU; the 32-bit window ends where the real BARs begin.
fn host_bridge(pcie: &mut DeviceTreeNode, machine: &Machine, mmio32: Range) {
    pcie.remove_property("iommu-map");
    let Some(ranges) = pcie.property_mut("ranges") else { return };
    let old = &*ranges;
    let (words, _) = old.value().as_chunks::<4>();
    let mut words: Vec<u32> = words.iter().map(|word| u32::from_be_bytes(*word)).collect();
    for entry in words.chunks_exact_mut(7) {
        if pair(&entry[3..5]) == machine.mmio32.base {
            entry[5] = (mmio32.len >> 32) as u32;
            entry[6] = mmio32.len as u32;
        }
    }
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_be_bytes()).collect();
    ranges.set_value(bytes);
}

/// Applies one change of the scenario.
fn edit(root: &mut DeviceTreeNode, change: &TreeEdit) -> Result<(), TreeError> {
    let path: Vec<&str> = change.node.split('/').filter(|part| !part.is_empty()).collect();
    let (parents, last) = if change.remove && change.property.is_empty() {
        let (last, parents) = path.split_last().ok_or_else(|| TreeError::Edit(change.node.clone()))?;
        (parents, Some(*last))
    } else {
        (path.as_slice(), None)
    };
    let mut node = root;
    for part in parents {
        if node.child(part).is_none() {
            node.add_child(DeviceTreeNode::new(*part).map_err(|error| TreeError::Edit(format!("{error}")))?);
        }
        node = node.child_mut(part).ok_or_else(|| TreeError::Edit(change.node.clone()))?;
    }
    if let Some(last) = last {
        node.remove_child(last);
    } else if change.remove {
        node.remove_property(&change.property);
    } else if change.property.is_empty() {
        // The node alone was asked for, and is there now.
    } else if change.hex.is_empty() && !change.text.is_empty() {
        set_text(node, &change.property, &change.text);
    } else {
        let value = bytes(&change.hex).ok_or_else(|| TreeError::Edit(change.hex.clone()))?;
        set(node, &change.property, &value);
    }
    Ok(())
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> = hex.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    if !rest.is_empty() {
        return None;
    }
    pairs.iter().map(|pair| u8::from_str_radix(core::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
