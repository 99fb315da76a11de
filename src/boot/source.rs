//! Where the bundle is: what the slot of the image says, and for a bundle beside the image which range of RAM that is.
//!
//! Trust: the slot is covered by the RIM; a bad value is our bug or the packer's. The range comes from the host's tree: it
//! must be where the host cannot write, and nothing is believed of what lies in it.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use crate::abi::image::{BUNDLE_ALIGN, FLAG_EXTERNAL, SLOT_MAGIC, SLOT_VERSION, Slot};
use crate::addr::{AddrError, GRANULE_SIZE, IpaRange};
use crate::fdt::initrd::InitrdError;
use core::ops::Range;
use thiserror::Error;

/// Where the slot says that the bundle is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Nowhere.
    None,
    /// Behind the firmware.
    Appended {
        /// Bytes from the start of the image.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// In the initrd range of the host's tree.
    External {
        /// Length in bytes.
        len: u64,
    },
}

/// Why a slot is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SlotError {
    /// Another magic.
    #[error("no slot")]
    Magic,
    /// Another layout.
    #[error("slot version {0}")]
    Version(u32),
    /// A flag that this version does not know.
    #[error("slot flags {0:#x}")]
    Flags(u32),
    /// An appended bundle that is not 4 KiB aligned, overlaps the firmware's file, or reaches into the heap.
    #[error("bundle at {offset:#x}, {len:#x} bytes, is not in its place")]
    Appended {
        /// Bytes from the start of the image.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
    /// A bundle beside the image with an offset, or without a length.
    #[error("bundle beside the image: offset {offset:#x}, {len:#x} bytes")]
    External {
        /// Bytes from the start of the image.
        offset: u64,
        /// Length in bytes.
        len: u64,
    },
}

impl Source {
    /// Reads a slot. An appended bundle must lie behind `first` and end before `end`, both in bytes from the image's start.
    ///
    /// # Errors
    /// [`SlotError`].
    pub fn read(slot: &Slot, first: u64, end: u64) -> Result<Self, SlotError> {
        if slot.magic != SLOT_MAGIC {
            return Err(SlotError::Magic);
        }
        if slot.version.get() != SLOT_VERSION {
            return Err(SlotError::Version(slot.version.get()));
        }
        let (offset, len) = (slot.bundle_offset.get(), slot.bundle_len.get());
        match slot.flags.get() {
            0 if len == 0 => Ok(Self::None),
            0 => {
                let fits = offset.checked_add(len).is_some_and(|top| top <= end);
                if !offset.is_multiple_of(BUNDLE_ALIGN) || offset < first || !fits {
                    return Err(SlotError::Appended { offset, len });
                }
                Ok(Self::Appended { offset, len })
            }
            FLAG_EXTERNAL if offset == 0 && len > 0 => Ok(Self::External { len }),
            FLAG_EXTERNAL => Err(SlotError::External { offset, len }),
            flags => Err(SlotError::Flags(flags)),
        }
    }
}

/// Why a bundle beside the image is not looked at.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ExternalError {
    /// The tree names no range.
    #[error(transparent)]
    Range(#[from] InitrdError),
    /// The range is shorter than the bundle, or goes on behind the bundle's last page.
    #[error("the initrd range has {have:#x} bytes, the bundle {len:#x}")]
    Length {
        /// Length of the range.
        have: u64,
        /// Length of the bundle.
        len: u64,
    },
    /// Not an address of a page.
    #[error("the initrd range: {0}")]
    Address(#[from] AddrError),
    /// The range is not in one range of the tree's memory.
    #[error("the initrd range {0} is not in the realm's memory")]
    NotRam(IpaRange),
    /// The range shares a page with the firmware's area.
    #[error("the initrd range {0} overlaps the firmware")]
    Firmware(IpaRange),
}

/// Checks the initrd range of the tree for a bundle of `len` bytes, and returns the pages that hold it. `ram`: what the
/// RMM said is private RAM; `own`: the image's area. A VMM may round the range's end up to a page.
///
/// # Errors
/// [`ExternalError`].
pub fn pages(
    range: &Range<u64>,
    len: u64,
    ram: &[IpaRange],
    own: &IpaRange,
) -> Result<IpaRange, ExternalError> {
    let have = range.end.saturating_sub(range.start);
    let rounded = range.start.checked_add(len).and_then(|end| end.checked_next_multiple_of(GRANULE_SIZE));
    if have < len || rounded.is_none_or(|most| range.end > most) {
        return Err(ExternalError::Length { have, len });
    }
    let pages = IpaRange::covering(range.start, len)?;
    if pages.overlaps(own) {
        return Err(ExternalError::Firmware(pages));
    }
    if !ram.iter().any(|ram| ram.contains(&pages)) {
        return Err(ExternalError::NotRam(pages));
    }
    Ok(pages)
}
