//! The node of one PCI function: version 1 of the contract with the OS half (docs/handoff.md).
//!
//! Trust: the values are ours by now; they are checked once more against the machine's windows, because the OS half
//! believes this node and nothing else. PCI Bus Binding to Open Firmware (IEEE 1275) revision 2.1, section 2.2.1.1.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::build::Builder;
use super::cells::split;
use super::pci::Window;
use super::write::WriteError;
use crate::addr::{Bdf, GRANULE_SIZE, IpaRange, VdevId};
use alloc::vec::Vec;

/// Most BARs of a function.
pub const MAX_BARS: usize = 6;

const RELOCATABLE_NOT: u32 = 0x8000_0000;
const PREFETCHABLE: u32 = 0x4000_0000;
const SPACE_MEM32: u32 = 0x0200_0000;
const SPACE_MEM64: u32 = 0x0300_0000;
const BAR0: u32 = 0x10;

/// One memory BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarNode {
    /// Number of the BAR, 0..=5; of its lower half if it has two.
    pub index: u8,
    /// Address (PCI address and IPA are the same) and size; a power of two, naturally aligned.
    pub range: IpaRange,
    /// A 64-bit BAR: takes `index + 1` as well.
    pub wide: bool,
    /// Prefetchable.
    pub prefetchable: bool,
}

/// Pages of a BAR that hold the MSI-X table or its pending bits; the OS maps them shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixPages {
    /// Number of the BAR.
    pub bar: u8,
    /// First 4 KiB page of the BAR.
    pub first_page: u32,
    /// Number of pages; not zero.
    pub num_pages: u32,
}

/// What the payload is told of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionNode<'a> {
    /// Where it is.
    pub bdf: Bdf,
    /// Vendor id.
    pub vendor_id: u16,
    /// Device id.
    pub device_id: u16,
    /// Subsystem vendor id.
    pub subsystem_vendor_id: u16,
    /// Subsystem id.
    pub subsystem_id: u16,
    /// Revision.
    pub revision_id: u8,
    /// Class, subclass and interface, 24 bits.
    pub class_code: u32,
    /// Memory BARs.
    pub bars: Vec<BarNode>,
    /// `run`, `pin`, `shared`.
    pub mode: &'a str,
    /// The id under which RMM and host know it.
    pub vdev_id: VdevId,
    /// The rule of the policy that let it in.
    pub rule: &'a str,
    /// Pages that are not private.
    pub msix_pages: Vec<MsixPages>,
    /// Lock, measurement and report nonce.
    pub nonces: Option<[u64; 3]>,
    /// Hash of the digests: `sha256`, `sha384` or `sha512`.
    pub digest_algorithm: &'a str,
    /// Digest of the VCA.
    pub vca_digest: &'a [u8],
    /// Digest of the certificate chain.
    pub certificate_digest: &'a [u8],
    /// Digest of the measurements.
    pub measurement_digest: &'a [u8],
    /// Digest of the interface report.
    pub report_digest: &'a [u8],
}

/// Returns the generic node name for a class code.
#[must_use]
pub const fn class_name(class_code: u32) -> &'static str {
    match class_code >> 8 & 0xffff {
        0x0108 => "nvme",
        0x0106 => "sata",
        0x0100..=0x01ff => "storage",
        0x0200 => "ethernet",
        0x0201..=0x02ff => "network",
        0x0300..=0x03ff => "display",
        0x0c03 => "usb",
        0x1200..=0x12ff => "accelerator",
        _ => "device",
    }
}

impl FunctionNode<'_> {
    /// Writes the node, a child of the bridge whose first bus is `bus`.
    pub(super) fn write(&self, tree: &mut Builder, bus: u8, windows: &[Window]) -> Result<(), WriteError> {
        let bdf = self.bdf;
        if bdf.bus() != bus {
            return Err(WriteError::BehindBridge(bdf));
        }
        if self.class_code > 0x00ff_ffff {
            return Err(WriteError::ClassCode { bdf, class_code: self.class_code });
        }
        tree.begin(format_args!("{}@{:x},{:x}", class_name(self.class_code), bdf.device(), bdf.function()));
        let hi = u32::from(bdf.routing_id()) << 8;
        tree.cells("reg", &[hi, 0, 0, 0, 0]);
        tree.cells("vendor-id", &[u32::from(self.vendor_id)]);
        tree.cells("device-id", &[u32::from(self.device_id)]);
        tree.cells("subsystem-vendor-id", &[u32::from(self.subsystem_vendor_id)]);
        tree.cells("subsystem-id", &[u32::from(self.subsystem_id)]);
        tree.cells("revision-id", &[u32::from(self.revision_id)]);
        tree.cells("class-code", &[self.class_code]);
        tree.cells("assigned-addresses", &self.assigned_addresses(hi, windows)?);
        tree.text("gatehouse,mode", self.mode)?;
        tree.wide("gatehouse,vdev-id", &[self.vdev_id.raw()]);
        tree.text("gatehouse,rule", self.rule)?;
        tree.cells("gatehouse,msix-pages", &self.msix_cells()?);
        if let Some(nonces) = &self.nonces {
            tree.wide("gatehouse,nonces", nonces);
        }
        if !self.digest_algorithm.is_empty() {
            tree.text("gatehouse,digest-algorithm", self.digest_algorithm)?;
        }
        for (name, digest) in [
            ("gatehouse,vca-digest", self.vca_digest),
            ("gatehouse,certificate-digest", self.certificate_digest),
            ("gatehouse,measurement-digest", self.measurement_digest),
            ("gatehouse,report-digest", self.report_digest),
        ] {
            if !digest.is_empty() {
                tree.bytes(name, digest);
            }
        }
        tree.end();
        Ok(())
    }

    fn assigned_addresses(&self, hi: u32, windows: &[Window]) -> Result<Vec<u32>, WriteError> {
        let bdf = self.bdf;
        let mut cells = Vec::new();
        let mut taken = [false; MAX_BARS];
        for bar in self.bars.iter().take(MAX_BARS.saturating_add(1)) {
            let index = bar.index;
            let bad = WriteError::Bar { bdf, index };
            let last = if bar.wide { index.saturating_add(1) } else { index };
            for slot in index..=last {
                let slot = taken.get_mut(usize::from(slot)).ok_or(bad)?;
                if core::mem::replace(slot, true) {
                    return Err(bad);
                }
            }
            let (base, size) = (bar.range.base(), bar.range.len_bytes());
            let inside = windows.iter().any(|w| w.range.contains(&bar.range));
            let reachable = bar.wide || bar.range.top() <= 1 << 32;
            if !size.is_power_of_two() || !base.is_multiple_of(size) || !inside || !reachable {
                return Err(bad);
            }
            let space = if bar.wide { SPACE_MEM64 } else { SPACE_MEM32 };
            let prefetchable = if bar.prefetchable { PREFETCHABLE } else { 0 };
            let register = BAR0.saturating_add(u32::from(index).saturating_mul(4));
            cells.push(RELOCATABLE_NOT | prefetchable | space | hi | register);
            cells.extend(split(base));
            cells.extend(split(size));
        }
        Ok(cells)
    }

    fn msix_cells(&self) -> Result<Vec<u32>, WriteError> {
        let mut cells = Vec::new();
        for run in &self.msix_pages {
            let bad = WriteError::MsixPages { bdf: self.bdf, bar: run.bar };
            let bar = self.bars.iter().find(|b| b.index == run.bar).ok_or(bad)?;
            let pages = bar.range.len_bytes().checked_div(GRANULE_SIZE).unwrap_or(0);
            let end = u64::from(run.first_page).saturating_add(u64::from(run.num_pages));
            if run.num_pages == 0 || end > pages {
                return Err(bad);
            }
            cells.extend([u32::from(run.bar), run.first_page, run.num_pages]);
        }
        Ok(cells)
    }
}
