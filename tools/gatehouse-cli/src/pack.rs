//! Puts firmware and bundle into one image file.
//!
//! Layout of the file: flat firmware, padded to 4 KiB; FIT structure; command line; ramdisk at 4 KiB; kernel
//! last. A plain Image lies at a multiple of 2 MiB, where it is started. A compressed kernel lies at 4 KiB, and the image
//! reserves memory behind it for what comes out. The same inputs give the same bytes. Before it is returned, the image is read back
//! with the firmware's own code: what the firmware would refuse is not made.
use crate::attach::check_bundle;
use crate::elf::{self, ElfError};
use crate::inspect::{Image, InspectError};
use crate::kernel::{KernelFile, KernelFileError};
use dtoolkit::ToPropertyValue;
use dtoolkit::error::ModelError;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use gatehouse::abi::fit::{self, OsKind};
use gatehouse::abi::image::{
    BUNDLE_ALIGN, HEAP_SIZE, IMAGE_ALIGN, LINUX_MAGIC, LinuxHeader, SLOT_MAGIC, SLOT_OFFSET, SLOT_VERSION,
    Slot,
};
use gatehouse::boot::kernel::Format;
use gatehouse::fdt::write::MAX_BOOTARGS;
use sha2::{Digest, Sha256};
use thiserror::Error;
use zerocopy::FromBytes;

/// Alignment of the ramdisk in the file, and of a compressed kernel.
const PAGE: u64 = 4096;

/// Why no image can be made.
#[derive(Debug, Error)]
pub enum PackError {
    /// The firmware's ELF file cannot be flattened.
    #[error("firmware: {0}")]
    Elf(#[from] ElfError),
    /// The firmware does not begin with a Linux header and our slot.
    #[error("firmware: no Linux header with a Gatehouse slot behind it")]
    NotFirmware,
    /// The slot's layout has a version that this tool does not know.
    #[error("firmware: slot version {0}")]
    SlotVersion(u32),
    /// The firmware has a bundle already.
    #[error("firmware: has a bundle already")]
    AlreadyPacked,
    /// The file ends before the memory that the firmware's header claims: BSS and stacks are missing.
    #[error(
        "firmware: {have:#x} bytes, its header claims {claimed:#x} with the heap: BSS or stacks are missing"
    )]
    FirmwareCut {
        /// Length of the file.
        have: u64,
        /// `image_size` of its header.
        claimed: u64,
    },
    /// The kernel has a format that the firmware cannot start.
    #[error("kernel: {0}")]
    Kernel(#[from] KernelFileError),
    /// The file is no bundle, or one that the firmware would refuse.
    #[error("bundle: {0}")]
    Bundle(InspectError),
    /// The ramdisk is empty.
    #[error("ramdisk: empty file")]
    EmptyRamdisk,
    /// The command line is too long or has a NUL.
    #[error("command line: {0} bytes, or a NUL inside")]
    CommandLine(usize),
    /// The FIT cannot be written: our bug.
    #[error("FIT: {0}")]
    Fit(#[from] ModelError),
    /// An offset that does not fit into the format's 32 bits.
    #[error("the image is too large: {0:#x}")]
    TooLarge(u64),
    /// The firmware would refuse the image: our bug.
    #[error("the image does not pass its own check: {0}")]
    Check(#[from] InspectError),
}

/// What goes into an image.
#[derive(Clone, Debug)]
pub struct Pack {
    /// Firmware: ELF or flat.
    pub firmware: Vec<u8>,
    /// Kernel: arm64 Image; plain, as gzip file, or as EFI zboot image with gzip.
    pub kernel: Vec<u8>,
    /// Ramdisk, as the kernel wants it.
    pub ramdisk: Option<Vec<u8>>,
    /// Command line.
    pub cmdline: String,
    /// What the payload can do.
    pub os: OsKind,
    /// Device policy, encoded.
    pub policy: Option<Vec<u8>>,
    /// Security version number of the bundle.
    pub svn: u32,
    /// Device-tree overlay, as `dtc` writes it.
    pub overlay: Option<Vec<u8>>,
}

/// Where a part lies in the image file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PackedPart {
    /// Bytes from the start of the file.
    pub offset: u64,
    /// Length in bytes.
    pub len: u64,
    /// SHA-256 of it.
    pub sha256: [u8; 32],
}

/// An image file and what is where in it. Offsets are in bytes from the start of the file.
#[derive(Clone, Debug)]
pub struct Packed {
    /// The file.
    pub image_bytes: Vec<u8>,
    /// `image_size` in the Linux header: memory that the VMM must leave to the image, heap included.
    pub image_size: u64,
    /// Length of the flat firmware, before padding.
    pub firmware_len: u64,
    /// The bundle, and so the FIT structure.
    pub bundle_offset: u64,
    /// Length of the bundle.
    pub bundle_len: u64,
    /// Length of the FIT structure.
    pub structure_len: u64,
    /// SHA-256 of the FIT structure, as in the slot.
    pub manifest_sha256: [u8; 32],
    /// Same as `kernel.offset`.
    pub kernel_offset: u64,
    /// Format of the kernel.
    pub kernel_format: Format,
    /// Length of the Image that comes out of it, in bytes.
    pub kernel_image_len: u64,
    /// Bytes that the Image needs where it is started, its zeroed part included.
    pub kernel_mem_len: u64,
    /// Kernel.
    pub kernel: PackedPart,
    /// Ramdisk.
    pub ramdisk: Option<PackedPart>,
    /// Command line, with its NUL.
    pub cmdline: PackedPart,
    /// Device policy.
    pub policy: Option<PackedPart>,
    /// Device-tree overlay.
    pub overlay: Option<PackedPart>,
}

struct Item<'a> {
    node: &'static str,
    kind: &'static str,
    description: &'static str,
    property: &'static str,
    data: &'a [u8],
    align: u64,
    /// Offset in the file.
    offset: u64,
}

impl Pack {
    /// Makes the image.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn build(&self) -> Result<Packed, PackError> {
        let firmware = flat_firmware(&self.firmware)?;
        let file = KernelFile::read(&self.kernel)?;
        let mem_len = file.header.mem_len();
        let cmdline = self.command_line()?;
        let mut items = self.items(&cmdline, file.format)?;
        let bundle_offset = (firmware.len() as u64).next_multiple_of(BUNDLE_ALIGN);
        let mut image = firmware.clone();
        let structure = self.lay_out(&mut items, bundle_offset, &mut image)?;
        let part = |name: &str| {
            items.iter().find(|i| i.property == name).map(|i| PackedPart {
                offset: i.offset,
                len: i.data.len() as u64,
                sha256: Sha256::digest(i.data).into(),
            })
        };
        let kernel = part(fit::KERNEL).ok_or(PackError::TooLarge(0))?;
        // An Image stays; what comes out of any other file goes to the first 2 MiB boundary behind the bundle.
        let start = match file.format {
            Format::Image => kernel.offset,
            _ => (image.len() as u64).next_multiple_of(IMAGE_ALIGN),
        };
        let top = start.checked_add(mem_len).ok_or(PackError::TooLarge(start))?;
        let packed = Packed {
            image_size: top.next_multiple_of(IMAGE_ALIGN) + HEAP_SIZE,
            firmware_len: firmware.len() as u64,
            bundle_offset,
            bundle_len: image.len() as u64 - bundle_offset,
            structure_len: structure.len() as u64,
            manifest_sha256: Sha256::digest(&structure).into(),
            kernel_offset: kernel.offset,
            kernel_format: file.format,
            kernel_image_len: file.image_len,
            kernel_mem_len: mem_len,
            kernel,
            ramdisk: part(fit::RAMDISK),
            cmdline: part(fit::CMDLINE).ok_or(PackError::TooLarge(0))?,
            policy: part(fit::POLICY),
            overlay: part(fit::FDT),
            image_bytes: image,
        }
        .patched()?;
        Image::read(&packed.image_bytes)?.verify()?;
        Ok(packed)
    }

    /// Makes the bundle alone: a FIT, for [`crate::attach::Attach`]. The firmware is not looked at.
    ///
    /// # Errors
    /// [`PackError`].
    pub fn bundle(&self) -> Result<Vec<u8>, PackError> {
        let cmdline = self.command_line()?;
        let mut items = self.items(&cmdline, KernelFile::read(&self.kernel)?.format)?;
        // Nobody knows where it will lie: the firmware writes the kernel to its room.
        items.iter_mut().for_each(|item| item.align = item.align.min(PAGE));
        let mut bundle = Vec::new();
        self.lay_out(&mut items, 0, &mut bundle)?;
        check_bundle(&bundle)?;
        Ok(bundle)
    }

    /// Writes structure and parts behind what `file` has, the structure at `bundle_offset`, and returns the structure.
    fn lay_out(
        &self,
        items: &mut [Item<'_>],
        bundle_offset: u64,
        file: &mut Vec<u8>,
    ) -> Result<Vec<u8>, PackError> {
        // The structure's length does not depend on the offsets in it: write it, place the parts, write it again.
        let mut end = bundle_offset + self.structure(items, bundle_offset)?.len() as u64;
        for item in &mut *items {
            item.offset = end.next_multiple_of(item.align);
            end = item.offset + item.data.len() as u64;
        }
        let structure = self.structure(items, bundle_offset)?;
        let mut put = |offset: u64, data: &[u8]| {
            let offset = usize::try_from(offset).map_err(|_| PackError::TooLarge(offset))?;
            file.resize(offset, 0);
            file.extend_from_slice(data);
            Ok::<(), PackError>(())
        };
        put(bundle_offset, &structure)?;
        items.iter().try_for_each(|item| put(item.offset, item.data))?;
        Ok(structure)
    }

    fn command_line(&self) -> Result<Vec<u8>, PackError> {
        let bytes = self.cmdline.as_bytes();
        if bytes.len() > MAX_BOOTARGS || bytes.contains(&0) {
            return Err(PackError::CommandLine(bytes.len()));
        }
        Ok(bytes.iter().copied().chain([0]).collect())
    }

    /// The parts in the order of the file; the kernel is last.
    fn items<'a>(&'a self, cmdline: &'a [u8], format: Format) -> Result<Vec<Item<'a>>, PackError> {
        let item = |node, kind, description, property, data, align| Item {
            node,
            kind,
            description,
            property,
            data,
            align,
            offset: 0,
        };
        let mut items = vec![item("cmdline-1", "script", "Command line", fit::CMDLINE, cmdline, 8)];
        if let Some(policy) = &self.policy {
            items.push(item("policy-1", "script", "Device policy", fit::POLICY, policy, 8));
        }
        if let Some(overlay) = &self.overlay {
            items.push(item("overlay-1", "flat_dt", "Device-tree overlay", fit::FDT, overlay, 8));
        }
        if let Some(ramdisk) = &self.ramdisk {
            if ramdisk.is_empty() {
                return Err(PackError::EmptyRamdisk);
            }
            items.push(item("ramdisk-1", "ramdisk", "Ramdisk", fit::RAMDISK, ramdisk, PAGE));
        }
        let align = if format == Format::Image { IMAGE_ALIGN } else { PAGE };
        items.push(item("kernel-1", "kernel", "Linux kernel", fit::KERNEL, &self.kernel, align));
        Ok(items)
    }

    fn structure(&self, items: &[Item<'_>], bundle_offset: u64) -> Result<Vec<u8>, PackError> {
        let mut tree = DeviceTree::new();
        set(&mut tree.root, "description", "Gatehouse bundle")?;
        set(&mut tree.root, "timestamp", fit::TIMESTAMP)?;
        set(&mut tree.root, "#address-cells", 1u32)?;
        let mut images = DeviceTreeNode::new(fit::IMAGES)?;
        let mut config = DeviceTreeNode::new("conf-1")?;
        set(&mut config, "description", "Gatehouse payload")?;
        let mut loadables = Vec::new();
        for item in items {
            images.add_child(image_node(item, bundle_offset)?);
            set(&mut config, item.property, item.node)?;
            if item.property.starts_with(fit::OURS) {
                loadables.push(item.node);
            }
        }
        set(&mut config, fit::LOADABLES, loadables)?;
        set(&mut config, fit::OS, self.os.word())?;
        if self.svn != 0 {
            set(&mut config, fit::SVN, self.svn)?;
        }
        let mut configurations = DeviceTreeNode::new(fit::CONFIGURATIONS)?;
        set(&mut configurations, fit::DEFAULT, "conf-1")?;
        configurations.add_child(config);
        tree.root.add_child(images);
        tree.root.add_child(configurations);
        Ok(tree.to_dtb())
    }
}

impl Packed {
    /// Writes slot and header.
    fn patched(mut self) -> Result<Self, PackError> {
        let (header, rest) =
            LinuxHeader::mut_from_prefix(&mut self.image_bytes).map_err(|_| PackError::NotFirmware)?;
        header.image_size = self.image_size.into();
        let (slot, _) = Slot::mut_from_prefix(rest).map_err(|_| PackError::NotFirmware)?;
        slot.bundle_offset = self.bundle_offset.into();
        slot.bundle_len = self.bundle_len.into();
        slot.manifest_sha256 = self.manifest_sha256;
        Ok(self)
    }
}

const _: () = assert!(SLOT_OFFSET == size_of::<LinuxHeader>());

/// Makes the firmware flat, and checks that no bundle belongs to it yet.
pub(crate) fn flat_firmware(file: &[u8]) -> Result<Vec<u8>, PackError> {
    let flat = if elf::is_elf(file) { elf::flatten(file)? } else { file.to_vec() };
    let header = LinuxHeader::read_from_prefix(&flat).map_err(|_| PackError::NotFirmware)?.0;
    let slot = flat.get(SLOT_OFFSET..).unwrap_or_default();
    let slot = Slot::read_from_prefix(slot).map_err(|_| PackError::NotFirmware)?.0;
    if header.magic != LINUX_MAGIC || slot.magic != SLOT_MAGIC {
        return Err(PackError::NotFirmware);
    }
    if slot.version.get() != SLOT_VERSION {
        return Err(PackError::SlotVersion(slot.version.get()));
    }
    if slot.bundle_len.get() != 0 || slot.flags.get() != 0 {
        return Err(PackError::AlreadyPacked);
    }
    let (have, claimed) = (flat.len() as u64, header.image_size.get());
    if claimed > have.next_multiple_of(IMAGE_ALIGN) + HEAP_SIZE {
        return Err(PackError::FirmwareCut { have, claimed });
    }
    Ok(flat)
}

fn image_node(item: &Item<'_>, bundle_offset: u64) -> Result<DeviceTreeNode, PackError> {
    let cell = |n: u64| u32::try_from(n).map_err(|_| PackError::TooLarge(n));
    let mut node = DeviceTreeNode::new(item.node)?;
    set(&mut node, "description", item.description)?;
    set(&mut node, "type", item.kind)?;
    set(&mut node, "arch", "arm64")?;
    set(&mut node, "os", "linux")?;
    set(&mut node, fit::COMPRESSION, fit::COMPRESSION_NONE)?;
    set(&mut node, fit::DATA_POSITION, cell(item.offset.saturating_sub(bundle_offset))?)?;
    set(&mut node, fit::DATA_SIZE, cell(item.data.len() as u64)?)?;
    let mut hash = DeviceTreeNode::new("hash-1")?;
    set(&mut hash, fit::ALGO, "sha256")?;
    let digest: [u8; 32] = Sha256::digest(item.data).into();
    set(&mut hash, fit::VALUE, digest)?;
    node.add_child(hash);
    Ok(node)
}

fn set(node: &mut DeviceTreeNode, name: &str, value: impl ToPropertyValue) -> Result<(), ModelError> {
    node.add_property(DeviceTreeProperty::new(name, value)?);
    Ok(())
}

impl Packed {
    /// Returns what is where as JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let part = |p: &PackedPart| serde_json::json!({ "offset": p.offset, "len": p.len, "sha256": crate::hex(&p.sha256) });
        serde_json::json!({
            "image_bytes": self.image_bytes.len(),
            "image_size": self.image_size,
            "firmware_len": self.firmware_len,
            "bundle_offset": self.bundle_offset,
            "bundle_len": self.bundle_len,
            "structure_len": self.structure_len,
            "manifest_sha256": crate::hex(&self.manifest_sha256),
            "kernel_format": format!("{:?}", self.kernel_format).to_lowercase(),
            "kernel_image_len": self.kernel_image_len,
            "kernel_mem_len": self.kernel_mem_len,
            "kernel": part(&self.kernel),
            "ramdisk": self.ramdisk.as_ref().map(part),
            "cmdline": part(&self.cmdline),
            "policy": self.policy.as_ref().map(part),
            "overlay": self.overlay.as_ref().map(part),
        })
    }
}
