//! The node of one PCI function: version 1 of the contract with the OS half (docs/handoff.md).
//!
//! Trust: the values are ours by now; they are checked once more, addresses in [`super::bridge`], because the OS half
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
use super::write::WriteError;
use crate::addr::{Bdf, GRANULE_SIZE, IpaRange, VdevId};
use crate::pcie::Bar;
use crate::policy::pins::Pins;
use alloc::vec::Vec;

/// Most BARs of a function.
pub const MAX_BARS: usize = 6;

/// Smallest memory BAR in bytes (PCI Local Bus 3.0, 6.2.5.1).
pub const MIN_BAR: u64 = 16;

const RELOCATABLE_NOT: u32 = 0x8000_0000;
pub(super) const PREFETCHABLE: u32 = 0x4000_0000;
pub(super) const SPACE_MEM32: u32 = 0x0200_0000;
pub(super) const SPACE_MEM64: u32 = 0x0300_0000;
const BAR0: u32 = 0x10;

/// One memory BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarNode {
    /// Number of the BAR, 0..=5; of its lower half if it has two.
    pub index: u8,
    /// Address (PCI address and IPA are the same): aligned to its size, and at the start of a page.
    pub address: u64,
    /// Bytes, a power of two; less than a page in mode `shared` only.
    pub size: u64,
    /// A 64-bit BAR: takes `index + 1` as well.
    pub wide: bool,
    /// Prefetchable.
    pub prefetchable: bool,
}

impl From<&Bar> for BarNode {
    fn from(bar: &Bar) -> Self {
        let Bar { index, wide, prefetchable, address, size } = *bar;
        Self { index, address, size, wide, prefetchable }
    }
}

impl BarNode {
    /// Returns the pages that it lies in: they are its own. `None` at the end of the address space.
    pub(super) fn pages(&self) -> Option<IpaRange> {
        IpaRange::covering(self.address, self.size).ok()
    }
}

/// Pages of a BAR that stay the host's: MSI-X table and pending bits, and what is not TEE memory where policy allows that.
/// The OS maps them shared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixPages {
    /// Number of the BAR.
    pub bar: u8,
    /// First 4 KiB page of the BAR.
    pub first_page: u32,
    /// Number of pages; not zero.
    pub num_pages: u32,
}

/// What was verified of an accepted function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedNode<'a> {
    /// The id under which RMM and host know it.
    pub vdev_id: VdevId,
    /// Pages that are not private.
    pub msix_pages: &'a [MsixPages],
    /// Lock, measurement and report nonce.
    pub nonces: [u64; 3],
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

/// What a payload that locks the device again compares: each is a digest as a policy writes one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinNode<'a> {
    /// The id under which RMM and host know it.
    pub vdev_id: VdevId,
    /// Pins.
    pub pins: &'a Pins,
}

/// How a function is handed off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode<'a> {
    /// RUN, private BARs, private DMA.
    Run(AcceptedNode<'a>),
    /// Verified, then unlocked and quiet.
    Pin(PinNode<'a>),
    /// Never locked: what it reaches is shared with the host.
    Shared,
}

impl Mode<'_> {
    /// Returns the word in the tree.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::Pin(_) => "pin",
            Self::Shared => "shared",
        }
    }
}

/// What the payload is told of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionNode<'a> {
    /// Where it is.
    pub bdf: Bdf,
    /// Index of the bridge above; `None`: on the root bus.
    pub above: Option<usize>,
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
    /// The rule of the policy that let it in.
    pub rule: &'a str,
    /// How it is handed off.
    pub mode: Mode<'a>,
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
    /// Writes the node.
    pub(super) fn write(&self, tree: &mut Builder) -> Result<(), WriteError> {
        let bdf = self.bdf;
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
        let addresses = self.assigned_addresses(hi)?;
        if !addresses.is_empty() {
            tree.cells("assigned-addresses", &addresses);
        }
        tree.text("gatehouse,mode", self.mode.word())?;
        tree.text("gatehouse,rule", self.rule)?;
        match &self.mode {
            Mode::Shared => tree.bytes("gatehouse,msix-pages", &[]),
            Mode::Pin(PinNode { vdev_id, pins }) => {
                tree.wide("gatehouse,vdev-id", &[vdev_id.raw()]);
                for (name, digest) in [
                    ("gatehouse,pin-leaf-key", pins.leaf_key),
                    ("gatehouse,pin-chain", pins.chain),
                    ("gatehouse,pin-measurements", pins.measurements),
                    ("gatehouse,pin-report", Some(pins.report)),
                ] {
                    if let Some(digest) = digest {
                        tree.bytes(name, digest.as_bytes());
                    }
                }
                if !pins.algorithms.is_empty() {
                    tree.text("gatehouse,pin-algorithms", &pins.algorithms)?;
                }
            }
            Mode::Run(accepted) => {
                tree.wide("gatehouse,vdev-id", &[accepted.vdev_id.raw()]);
                tree.cells("gatehouse,msix-pages", &self.msix_cells(accepted.msix_pages)?);
                tree.wide("gatehouse,nonces", &accepted.nonces);
                tree.text("gatehouse,digest-algorithm", accepted.digest_algorithm)?;
                tree.bytes("gatehouse,vca-digest", accepted.vca_digest);
                tree.bytes("gatehouse,certificate-digest", accepted.certificate_digest);
                tree.bytes("gatehouse,measurement-digest", accepted.measurement_digest);
                tree.bytes("gatehouse,report-digest", accepted.report_digest);
            }
        }
        tree.end();
        Ok(())
    }

    fn assigned_addresses(&self, hi: u32) -> Result<Vec<u32>, WriteError> {
        let bdf = self.bdf;
        let least = match self.mode {
            Mode::Run(_) => GRANULE_SIZE,
            Mode::Pin(_) | Mode::Shared => MIN_BAR,
        };
        let mut cells = Vec::new();
        let mut taken = [false; MAX_BARS];
        for bar in self.bars.iter().take(MAX_BARS.saturating_add(1)) {
            let BarNode { index, address, size, .. } = *bar;
            let bad = WriteError::Bar { bdf, index };
            let last = if bar.wide { index.saturating_add(1) } else { index };
            for slot in index..=last {
                let slot = taken.get_mut(usize::from(slot)).ok_or(bad)?;
                if core::mem::replace(slot, true) {
                    return Err(bad);
                }
            }
            let sized = size.is_power_of_two() && size >= least;
            let reachable = bar.wide || bar.pages().is_some_and(|pages| pages.top() <= 1 << 32);
            if !sized || !address.is_multiple_of(size.max(GRANULE_SIZE)) || !reachable {
                return Err(bad);
            }
            let space = if bar.wide { SPACE_MEM64 } else { SPACE_MEM32 };
            let prefetchable = if bar.prefetchable { PREFETCHABLE } else { 0 };
            let register = BAR0.saturating_add(u32::from(index).saturating_mul(4));
            cells.push(RELOCATABLE_NOT | prefetchable | space | hi | register);
            cells.extend(split(address));
            cells.extend(split(size));
        }
        Ok(cells)
    }

    fn msix_cells(&self, msix_pages: &[MsixPages]) -> Result<Vec<u32>, WriteError> {
        let mut cells = Vec::new();
        for run in msix_pages {
            let bad = WriteError::MsixPages { bdf: self.bdf, bar: run.bar };
            let bar = self.bars.iter().find(|b| b.index == run.bar).ok_or(bad)?;
            let pages = bar.size.checked_div(GRANULE_SIZE).unwrap_or(0);
            let end = u64::from(run.first_page).saturating_add(u64::from(run.num_pages));
            if run.num_pages == 0 || end > pages {
                return Err(bad);
            }
            cells.extend([u32::from(run.bar), run.first_page, run.num_pages]);
        }
        Ok(cells)
    }
}
