//! Puts firmware and a bundle that exists together: the bundle is appended as it is, or stays beside the image and is pinned.
//!
//! Of the bundle no byte is changed. It is read back with the firmware's own code, in the place that it has then: what the
//! firmware would refuse is not made.
use crate::inspect::{BASE, Image, InspectError, kernel_of};
use crate::pack::{PackError, flat_firmware};
use gatehouse::abi::image::{BUNDLE_ALIGN, FLAG_EXTERNAL, HEAP_SIZE, IMAGE_ALIGN, LinuxHeader, Slot};
use gatehouse::boot::bundle::Bundle;
use gatehouse::fdt::check::{FdtError, HEADER_LEN, Tree};
use gatehouse::fdt::overlay::Overlay;
use gatehouse::policy::cbor;
use sha2::{Digest, Sha256};
use zerocopy::FromBytes;

/// Room for a kernel that is tried first, in bytes: more than any kernel needs.
const MOST_ROOM: u64 = 1 << 30;

/// Firmware and bundle.
#[derive(Clone, Debug)]
pub struct Attach {
    /// Firmware: ELF or flat.
    pub firmware: Vec<u8>,
    /// Bundle: a FIT.
    pub bundle: Vec<u8>,
    /// The bundle stays beside the image; its manifest goes into the slot.
    pub pinned: bool,
}

/// An image file. Offsets are in bytes from the start of the file.
#[derive(Clone, Debug)]
pub struct Attached {
    /// The file.
    pub image_bytes: Vec<u8>,
    /// `image_size` in the Linux header: memory that the VMM must leave to the image, room for the kernel and heap included.
    pub image_size: u64,
    /// Length of the flat firmware, before padding.
    pub firmware_len: u64,
    /// Where the bundle begins; `None`: beside the image.
    pub bundle_offset: Option<u64>,
    /// Length of the bundle.
    pub bundle_len: u64,
    /// SHA-256 of the FIT structure, as in the slot.
    pub manifest_sha256: [u8; 32],
}

impl Attach {
    /// Makes the image.
    ///
    /// # Errors
    /// [`PackError`]; [`PackError::Bundle`] for a bundle that the firmware would refuse.
    pub fn build(&self) -> Result<Attached, PackError> {
        let mut image = flat_firmware(&self.firmware)?;
        let firmware_len = image.len() as u64;
        let manifest_sha256 = check_bundle(&self.bundle)?;
        let bundle_offset = (!self.pinned).then(|| firmware_len.next_multiple_of(BUNDLE_ALIGN));
        if let Some(offset) = bundle_offset {
            image.resize(usize::try_from(offset).map_err(|_| PackError::TooLarge(offset))?, 0);
            image.extend_from_slice(&self.bundle);
        }
        let mut attached = Attached {
            image_size: 0,
            firmware_len,
            bundle_offset,
            bundle_len: self.bundle.len() as u64,
            manifest_sha256,
            image_bytes: image,
        };
        // Where the kernel goes, and what it needs there, is the firmware's decision.
        let file_len = attached.image_bytes.len() as u64;
        attached.patch((file_len + MOST_ROOM).next_multiple_of(IMAGE_ALIGN) + HEAP_SIZE)?;
        let top = self.check(&attached)?;
        attached.patch(top.max(file_len).next_multiple_of(IMAGE_ALIGN) + HEAP_SIZE)?;
        self.check(&attached)?;
        Ok(attached)
    }

    /// Reads the image back and returns where the kernel's memory ends, in bytes from the image's start.
    fn check(&self, attached: &Attached) -> Result<u64, PackError> {
        let beside = self.pinned.then_some(self.bundle.as_slice());
        let image = Image::with_bundle(&attached.image_bytes, beside).map_err(PackError::Bundle)?;
        let plan = image.verify().map_err(PackError::Bundle)?;
        Ok(plan.kernel().end().saturating_sub(BASE))
    }
}

impl Attached {
    /// Writes slot and header.
    fn patch(&mut self, image_size: u64) -> Result<(), PackError> {
        self.image_size = image_size;
        let (header, rest) =
            LinuxHeader::mut_from_prefix(&mut self.image_bytes).map_err(|_| PackError::NotFirmware)?;
        header.image_size = image_size.into();
        let (slot, _) = Slot::mut_from_prefix(rest).map_err(|_| PackError::NotFirmware)?;
        slot.flags = if self.bundle_offset.is_none() { FLAG_EXTERNAL } else { 0 }.into();
        slot.bundle_offset = self.bundle_offset.unwrap_or(0).into();
        slot.bundle_len = self.bundle_len.into();
        slot.manifest_sha256 = self.manifest_sha256;
        Ok(())
    }

    /// Returns what is where as JSON.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "image_bytes": self.image_bytes.len(),
            "image_size": self.image_size,
            "firmware_len": self.firmware_len,
            "bundle_offset": self.bundle_offset,
            "bundle_len": self.bundle_len,
            "manifest_sha256": crate::hex(&self.manifest_sha256),
        })
    }
}

/// Reads a bundle with the firmware's code, hashes all parts, and returns its manifest.
///
/// # Errors
/// [`PackError::Bundle`].
pub fn check_bundle(bytes: &[u8]) -> Result<[u8; 32], PackError> {
    let check = || -> Result<[u8; 32], InspectError> {
        let manifest = manifest(bytes).map_err(|error| InspectError::Bundle(error.into()))?;
        let bundle = Bundle::parse(bytes, &manifest)?;
        for part in bundle.parts() {
            part.clone().verify()?;
        }
        kernel_of(&bundle)?;
        if let Some(part) = bundle.overlay.clone() {
            Overlay::parse(part.verify()?.bytes())?;
        }
        if let Some(policy) = bundle.policy.clone() {
            cbor::decode(policy.verify()?.bytes())?;
        }
        Ok(manifest)
    };
    check().map_err(PackError::Bundle)
}

/// Returns the digest of the structure.
fn manifest(bytes: &[u8]) -> Result<[u8; 32], FdtError> {
    let have = bytes.len();
    let header = bytes.first_chunk().ok_or(FdtError::Truncated { have, need: HEADER_LEN })?;
    let need = Tree::needed_len(header)?;
    let structure = bytes.get(..need).ok_or(FdtError::Truncated { have, need })?;
    Ok(Sha256::digest(structure).into())
}
