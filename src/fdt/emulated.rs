//! Devices besides PCI that the host emulates: virtio-mmio transports, and nodes that a rule of the policy names.
//!
//! Trust: host. Linux Documentation/devicetree/bindings/virtio/mmio.yaml. Only enabled children of the root are looked
//! at, and none that the firmware takes over in another way or that holds no device.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::build::Builder;
use super::cells::join;
use super::check::Tree;
use super::copied::{copy, copy_names, flags};
use super::nodes::{Node, Nodes, clocks_of, is_compatible, list, up_to, word};
use super::read::{Machine, MachineError, What, pages};
use super::write::WriteError;
use crate::addr::{IpaRange, IpaWidth};
use alloc::vec::Vec;

/// Most of these devices. QEMU virt has 32 transports.
pub const MAX_EMULATED: usize = 64;
/// `compatible` of a transport.
pub const VIRTIO_MMIO: &str = "virtio,mmio";
/// Bytes of a transport's registers in front of what its type defines (VIRTIO 1.2, 4.2.2); its address is a multiple.
pub const TRANSPORT_BYTES: u64 = 0x100;
/// Registers with an identification of their own, which makes Linux look for the driver on another bus
/// (Documentation/devicetree/bindings/arm/primecell.yaml). The one string besides the rule's that is taken over.
const PRIMECELL: &str = "arm,primecell";
/// Longest `interrupts` in bytes: 32 of the GIC.
const MAX_INTERRUPT_BYTES: usize = 32 * 12;
/// Properties of a platform device that are one cell.
const ONE_CELL: [&str; 3] = ["clock-frequency", "reg-shift", "reg-io-width"];
/// Children of the root without a device: how their names begin.
const NO_DEVICES: [&str; 5] = ["chosen", "aliases", "firmware", "hypervisor", "reserved-memory"];

/// A device as its node describes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device<'t> {
    /// Name of the node, a child of the root.
    pub node: &'t str,
    /// IPA of the first register.
    pub address: u64,
    /// Length of the registers in bytes.
    pub len_bytes: u64,
    /// It is a virtio-mmio transport.
    pub is_transport: bool,
    /// Which of the strings that were asked for its `compatible` has, bit 0 the first; none of a transport.
    pub named: u64,
}

impl<'t> Device<'t> {
    /// Reads `reg` (one range) and `interrupts` of the GIC.
    fn read(node: Node<'_, 't>, named: u64, nodes: &Nodes<'_, '_>) -> Result<Self, MachineError> {
        let bad = |property| MachineError::Property { node: What::Emulated, property };
        let (address, len_bytes) = match *list(node, What::Emulated, "reg", 4)? {
            [bh, bl, sh, sl] => (join(bh, bl), join(sh, sl)),
            _ => return Err(bad("reg")),
        };
        let is_transport = named == 0;
        if is_transport && (!address.is_multiple_of(TRANSPORT_BYTES) || len_bytes < TRANSPORT_BYTES) {
            return Err(bad("reg"));
        }
        // The root's is the GIC, with three cells for each.
        match word(node, "interrupt-parent") {
            Some(parent) if word(nodes.gic, "phandle") != Some(parent) => {
                return Err(MachineError::InterruptParent(parent));
            }
            _ => {}
        }
        let len = node.property("interrupts").map_or(0, |property| property.value.len());
        if !len.is_multiple_of(12) || len > MAX_INTERRUPT_BYTES || (is_transport && len != 12) {
            return Err(bad("interrupts"));
        }
        if !is_transport {
            for name in ONE_CELL {
                if node.property(name).is_some() && word(node, name).is_none() {
                    return Err(bad(name));
                }
            }
            let mut clocks = Vec::new();
            clocks_of(nodes.root, node, What::Emulated, &mut clocks)?;
            for handle in clocks.iter().filter_map(|clock| word(*clock, "phandle")) {
                let its = nodes.its.and_then(|its| word(its, "phandle"));
                if word(nodes.gic, "phandle") == Some(handle) || its == Some(handle) {
                    return Err(MachineError::SamePhandle(handle));
                }
            }
        }
        Ok(Self { node: node.name, address, len_bytes, is_transport, named })
    }

    fn top(&self) -> u64 {
        self.address.saturating_add(self.len_bytes)
    }
}

/// Finds the transports, and the nodes with one of the `compatible` strings `named` (at most 64), in the tree's order.
///
/// # Errors
/// [`MachineError`]: a node of these that is malformed, or whose registers share a page with RAM or another part of the
/// machine or a byte with one another.
#[inline(never)]
pub fn read<'t>(
    tree: &'t Tree,
    machine: &Machine,
    width: IpaWidth,
    named: &[&str],
) -> Result<Vec<Device<'t>>, MachineError> {
    let reader = tree.reader()?;
    let nodes = Nodes::find(&reader)?;
    let mask = |node: Node<'_, '_>| {
        let bit = |name: &&str| u64::from(is_compatible(node, name));
        named.iter().rev().fold(0, |mask, name| mask << 1 | bit(name))
    };
    let is_transport = |node: Node<'_, '_>| is_compatible(node, VIRTIO_MMIO);
    let found = up_to(MAX_EMULATED, nodes.root, What::Emulated, &|node| {
        (is_transport(node) || mask(node) != 0)
            && !NO_DEVICES.iter().any(|name| node.name.starts_with(name))
            && !nodes.taken().any(|taken| taken.name == node.name)
    })?;
    let mut known = machine.ranges();
    let mut devices: Vec<Device<'t>> = Vec::new();
    for node in found {
        let device = Device::read(node, if is_transport(node) { 0 } else { mask(node) }, &nodes)?;
        let first = pages(What::Emulated, device.address, device.len_bytes, width)?;
        // Devices of the host may share a page.
        let clash = |(other, second): &&(What, IpaRange)| *other != What::Emulated && second.overlaps(&first);
        let same =
            devices.iter().position(|other| device.address < other.top() && other.address < device.top());
        let beside =
            same.and_then(|index| known.iter().filter(|(what, _)| *what == What::Emulated).nth(index));
        if let Some((other, second)) = known.iter().find(clash).or(beside) {
            return Err(MachineError::Overlap { one: What::Emulated, first, other: *other, second: *second });
        }
        known.push((What::Emulated, first));
        devices.push(device);
    }
    Ok(devices)
}

/// A device that the payload is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmulatedNode<'a> {
    /// The device.
    pub device: Device<'a>,
    /// Which of its `compatible` strings the payload gets.
    pub compatible: &'a str,
    /// Name of the rule that took it.
    pub rule: &'a str,
}

impl EmulatedNode<'_> {
    /// Adds the clocks that its node will name to those of `nodes`.
    pub(super) fn add_clocks(&self, nodes: &mut Nodes<'_, '_>) -> Result<(), MachineError> {
        if self.device.is_transport {
            return Ok(());
        }
        let from = self.host(nodes)?;
        clocks_of(nodes.root, from, What::Emulated, &mut nodes.clocks)
    }

    /// Returns its node in the host's tree.
    fn host<'b, 'a>(&self, nodes: &Nodes<'b, 'a>) -> Result<Node<'b, 'a>, MachineError> {
        let missing = MachineError::Missing(What::Emulated);
        nodes.root.children().find(|node| node.name == self.device.node).ok_or(missing)
    }

    #[inline(never)]
    pub(super) fn write(&self, tree: &mut Builder, nodes: &Nodes<'_, '_>) -> Result<(), WriteError> {
        let from = self.host(nodes)?;
        let Self { device, compatible, rule } = *self;
        let names = [compatible, PRIMECELL];
        let is_transport = device.is_transport;
        let num_names = if !is_transport && is_compatible(from, PRIMECELL) { 2 } else { 1 };
        let cells = ["interrupts", "clock-frequency", "reg-shift", "reg-io-width", "clocks"];
        let num_cells = if is_transport { 1 } else { cells.len() };
        let name = if is_transport { "virtio_mmio" } else { "platform" };
        tree.begin(format_args!("{name}@{:x}", device.address));
        tree.texts("compatible", names.get(..num_names).unwrap_or_default())?;
        tree.wide("reg", &[device.address, device.len_bytes]);
        copy(tree, from, cells.get(..num_cells).unwrap_or_default())?;
        if !is_transport {
            copy_names(tree, from, &["interrupt-names", "clock-names"]);
        }
        flags(tree, from, &["dma-coherent"]);
        tree.text("gatehouse,mode", "shared")?;
        tree.text("gatehouse,rule", rule)?;
        tree.end();
        Ok(())
    }
}
