//! The PCI host bridge as the host's tree describes it.
//!
//! Trust: host. PCI Bus Binding to Open Firmware (IEEE 1275) revision 2.1, section 2.2.1; Linux
//! Documentation/devicetree/bindings/pci/host-generic-pci.yaml.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::cells::join;
use super::nodes::{Node, Nodes, list, text, word};
use super::read::{MachineError, What, range};
use crate::addr::{IpaRange, IpaWidth};
use alloc::string::String;
use alloc::vec::Vec;

/// Most entries of `ranges`.
pub const MAX_WINDOWS: usize = 16;
/// Bytes of ECAM for one bus.
pub const ECAM_BYTES_PER_BUS: u64 = 1 << 20;

const SPACE_MASK: u32 = 0x0300_0000;
const SPACE_IO: u32 = 0x0100_0000;
const SPACE_MEM32: u32 = 0x0200_0000;
const SPACE_MEM64: u32 = 0x0300_0000;
const PREFETCHABLE: u32 = 0x4000_0000;
/// Bits of phys.hi that a window may have.
const WINDOW_BITS: u32 = SPACE_MASK | PREFETCHABLE;

/// A memory window of the bridge. PCI address and IPA are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Where.
    pub range: IpaRange,
    /// In the 64-bit memory space; otherwise 32-bit, and below 4 GiB.
    pub wide: bool,
    /// For prefetchable BARs.
    pub prefetchable: bool,
}

/// The bridge. All ranges are page-aligned and share no address with each other, RAM or the other devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PciHost {
    /// Name of the node, a child of the root.
    pub node: String,
    /// Configuration space; [`ECAM_BYTES_PER_BUS`] for each bus, the first belongs to `first_bus`.
    pub ecam: IpaRange,
    /// First bus.
    pub first_bus: u8,
    /// Last bus.
    pub last_bus: u8,
    /// Memory windows, in the tree's order.
    pub windows: Vec<Window>,
    /// Where the CPU sees I/O ports.
    pub io: Option<IpaRange>,
    /// The tree calls DMA coherent.
    pub dma_coherent: bool,
    /// Segment number; 0 when the tree gives none.
    pub domain: u32,
}

impl PciHost {
    pub(super) fn read(nodes: &Nodes<'_, '_>, width: IpaWidth) -> Result<Self, MachineError> {
        let node = nodes.pci;
        let bad = |property| MachineError::Property { node: What::PciHost, property };
        if text(node, "device_type") != Some("pci") {
            return Err(bad("device_type"));
        }
        if word(node, "#address-cells") != Some(3) {
            return Err(bad("#address-cells"));
        }
        if word(node, "#size-cells") != Some(2) {
            return Err(bad("#size-cells"));
        }
        let (first_bus, last_bus) = bus_range(node)?;
        let ecam = match *list(node, What::Ecam, "reg", 4)? {
            [bh, bl, sh, sl] => range(What::Ecam, join(bh, bl), join(sh, sl), width)?,
            _ => return Err(MachineError::Property { node: What::Ecam, property: "reg" }),
        };
        let buses = u64::from(last_bus.saturating_sub(first_bus)).saturating_add(1);
        if ecam.len_bytes() < buses.saturating_mul(ECAM_BYTES_PER_BUS) {
            return Err(MachineError::EcamTooSmall { ecam, buses });
        }
        let (windows, io) = windows(node, width)?;
        check_msi_targets(nodes)?;
        check_interrupt_map(nodes)?;
        let coherent = |n: Node<'_, '_>| n.property("dma-coherent").is_some();
        Ok(Self {
            node: node.name.into(),
            ecam,
            first_bus,
            last_bus,
            windows,
            io,
            dma_coherent: coherent(node) || coherent(nodes.root),
            domain: match node.property("linux,pci-domain") {
                Some(_) => word(node, "linux,pci-domain").ok_or(bad("linux,pci-domain"))?,
                None => 0,
            },
        })
    }
}

fn bus_range(node: Node<'_, '_>) -> Result<(u8, u8), MachineError> {
    let name = "bus-range";
    if node.property(name).is_none() {
        return Ok((0, 255));
    }
    let cells = list(node, What::PciHost, name, 2)?;
    let [first, last] = *cells.as_slice() else {
        return Err(MachineError::Property { node: What::PciHost, property: name });
    };
    match (u8::try_from(first), u8::try_from(last)) {
        (Ok(f), Ok(l)) if f <= l => Ok((f, l)),
        _ => Err(MachineError::BusRange { first, last }),
    }
}

fn windows(node: Node<'_, '_>, width: IpaWidth) -> Result<(Vec<Window>, Option<IpaRange>), MachineError> {
    let bad = MachineError::Property { node: What::PciHost, property: "ranges" };
    let all = list(node, What::PciHost, "ranges", MAX_WINDOWS.saturating_mul(7))?;
    let (entries, rest) = all.as_chunks::<7>();
    if !rest.is_empty() {
        return Err(bad);
    }
    let mut windows = Vec::new();
    let mut io = None;
    for &[hi, pci_hi, pci_lo, cpu_hi, cpu_lo, size_hi, size_lo] in entries {
        let (pci, cpu) = (join(pci_hi, pci_lo), join(cpu_hi, cpu_lo));
        let found = range(What::Window, cpu, join(size_hi, size_lo), width)?;
        let wide = match hi & SPACE_MASK {
            _ if hi & !WINDOW_BITS != 0 => return Err(MachineError::WindowSpace(hi)),
            SPACE_IO if io.is_none() => {
                io = Some(found);
                continue;
            }
            SPACE_MEM32 => false,
            SPACE_MEM64 => true,
            _ => return Err(MachineError::WindowSpace(hi)),
        };
        if pci != cpu {
            return Err(MachineError::NotIdentity { pci, cpu });
        }
        if !wide && found.top() > 1 << 32 {
            return Err(MachineError::WindowAbove4G(found));
        }
        windows.push(Window { range: found, wide, prefetchable: hi & PREFETCHABLE != 0 });
    }
    if windows.is_empty() { Err(MachineError::Missing(What::Window)) } else { Ok((windows, io)) }
}

/// Checks that every controller in `msi-map` or `msi-parent` is the ITS.
fn check_msi_targets(nodes: &Nodes<'_, '_>) -> Result<(), MachineError> {
    let node = nodes.pci;
    let its = nodes.its.and_then(|its| word(its, "phandle"));
    let check = |handle: u32| if its == Some(handle) { Ok(()) } else { Err(MachineError::MsiTarget(handle)) };
    if node.property("msi-map").is_some() {
        let all = list(node, What::PciHost, "msi-map", 64)?;
        let (entries, rest) = all.as_chunks::<4>();
        if !rest.is_empty() {
            return Err(MachineError::Property { node: What::PciHost, property: "msi-map" });
        }
        for &[_, handle, _, _] in entries {
            check(handle)?;
        }
    }
    if node.property("msi-parent").is_some() {
        let bad = MachineError::Property { node: What::PciHost, property: "msi-parent" };
        check(word(node, "msi-parent").ok_or(bad)?)?;
    }
    Ok(())
}

/// Checks that `interrupt-map`, if there, is whole and names only the interrupt controller.
fn check_interrupt_map(nodes: &Nodes<'_, '_>) -> Result<(), MachineError> {
    let node = nodes.pci;
    let bad = |property| MachineError::Property { node: What::PciHost, property };
    if node.property("interrupt-map").is_none() {
        return Ok(());
    }
    if word(node, "#interrupt-cells") != Some(1) {
        return Err(bad("#interrupt-cells"));
    }
    if list(node, What::PciHost, "interrupt-map-mask", 4)?.len() != 4 {
        return Err(bad("interrupt-map-mask"));
    }
    let count = |name| usize::try_from(word(nodes.gic, name).unwrap_or(0)).unwrap_or(0);
    let entry = count("#address-cells").saturating_add(count("#interrupt-cells")).saturating_add(5);
    let all = list(node, What::PciHost, "interrupt-map", 8192)?;
    let gic = word(nodes.gic, "phandle");
    if !all.len().is_multiple_of(entry) {
        return Err(bad("interrupt-map"));
    }
    match all.chunks(entry).filter_map(|e| e.get(4)).find(|h| Some(**h) != gic) {
        Some(handle) => Err(MachineError::InterruptParent(*handle)),
        None => Ok(()),
    }
}
