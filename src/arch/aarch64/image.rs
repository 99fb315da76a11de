//! Where the firmware lies: from linker symbols, the image's own header and the slot.
//!
//! Trust: our image (RIM); the header's `image_size` was checked by `entry` before it was used.

use super::mmu::PAGE;
use crate::abi::image::{HEAP_SIZE, LinuxHeader, SLOT_OFFSET, Slot};
use crate::addr::{AddrError, IpaRange};
use crate::boot::source::{SlotError, Source};
use core::ops::Range;
use core::ptr;
use thiserror::Error;

/// Bytes of stack, between its guard page and the page tables. Taken out of [`HEAP_SIZE`], not out of the file: there it
/// would be zeros to load and to measure. Measured peak, with signatures to verify: 22864; boot tests hold it below three
/// quarters.
pub const STACK_SIZE: u64 = 32 * 1024;
/// Bytes for page tables at the top of the image area: 128 tables. Taken out of [`HEAP_SIZE`].
pub const TABLES_SIZE: u64 = 512 * 1024;

// Linker symbols (linker/realm.ld): only their addresses mean something.
unsafe extern "C" {
    safe static __image_start: [u8; 0];
    safe static __text_end: [u8; 0];
    safe static __data_start: [u8; 0];
    safe static __bss_end: [u8; 0];
    safe static __image_end: [u8; 0];
}

/// Returns the address of a linker symbol.
fn address(symbol: &'static [u8; 0]) -> u64 {
    symbol.as_ptr().expose_provenance() as u64
}

/// Returns the load address.
pub(super) fn base() -> u64 {
    address(&__image_start)
}

/// Returns the addresses of the page below the stack: what the header says, read anew, since everything else may be broken.
pub(super) fn stack_guard() -> Range<u64> {
    // SAFETY: the image begins with the header (linker/realm.ld), mapped readable by `entry`.
    let header = unsafe { ptr::with_exposed_provenance::<LinuxHeader>(base() as usize).read_unaligned() };
    let stack = base().wrapping_add(header.image_size.get()).wrapping_sub(TABLES_SIZE + STACK_SIZE);
    stack.wrapping_sub(PAGE)..stack
}

/// The image is not what the packer may leave.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ImageError {
    /// The slot.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// A border is not one.
    #[error(transparent)]
    Address(#[from] AddrError),
}

/// Where everything of the firmware lies. All ranges are IPAs of the protected half.
#[derive(Clone, Debug)]
pub struct Layout {
    area: IpaRange,
    file: IpaRange,
    text: IpaRange,
    rodata: IpaRange,
    data: IpaRange,
    stack: IpaRange,
    heap: IpaRange,
    tables: IpaRange,
    slot: Slot,
    source: Source,
    bundle: Option<IpaRange>,
    room: Option<IpaRange>,
}

impl Layout {
    /// Reads linker symbols, header and slot.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn read() -> Result<Self, ImageError> {
        let base = base();
        // SAFETY: the image begins with the header (linker/realm.ld), mapped readable by `entry`.
        let header = unsafe { ptr::with_exposed_provenance::<LinuxHeader>(base as usize).read_unaligned() };
        // SAFETY: the slot lies behind it.
        let slot =
            unsafe { ptr::with_exposed_provenance::<Slot>(base as usize + SLOT_OFFSET).read_unaligned() };
        let area = IpaRange::new(base, header.image_size.get())?;
        let heap_base = area.top() - HEAP_SIZE;
        let tables_base = area.top() - TABLES_SIZE;
        let stack_base = tables_base - STACK_SIZE;
        let file = IpaRange::from_bounds(base, address(&__image_end))?;
        let source = Source::read(&slot, file.len_bytes(), heap_base - base)?;
        let bundle = match source {
            Source::Appended { offset, len } => Some(IpaRange::covering(base + offset, len)?),
            Source::None | Source::External { .. } => None,
        };
        let room_base = bundle.unwrap_or(file).top();
        Ok(Self {
            area,
            file,
            text: IpaRange::from_bounds(base, address(&__text_end))?,
            rodata: IpaRange::from_bounds(address(&__text_end), address(&__data_start))?,
            data: IpaRange::from_bounds(address(&__data_start), address(&__bss_end))?,
            stack: IpaRange::from_bounds(stack_base, tables_base)?,
            heap: IpaRange::from_bounds(heap_base, stack_base - PAGE)?,
            tables: IpaRange::from_bounds(tables_base, area.top())?,
            slot,
            source,
            bundle,
            // No byte left: no room.
            room: IpaRange::from_bounds(room_base, heap_base).ok(),
        })
    }

    /// Returns all that the header's `image_size` reserves: image, bundle, room, heap, stack, page tables.
    #[must_use]
    pub fn area(&self) -> IpaRange {
        self.area
    }

    /// Returns the flat file without bundle: text to bss.
    #[must_use]
    pub fn file(&self) -> IpaRange {
        self.file
    }

    /// Returns header and code.
    #[must_use]
    pub fn text(&self) -> IpaRange {
        self.text
    }

    /// Returns constants and relocated constants.
    #[must_use]
    pub fn rodata(&self) -> IpaRange {
        self.rodata
    }

    /// Returns data and bss.
    #[must_use]
    pub fn data(&self) -> IpaRange {
        self.data
    }

    /// Returns the stack; the page below it is the guard.
    #[must_use]
    pub fn stack(&self) -> IpaRange {
        self.stack
    }

    /// Returns the allocator's range.
    #[must_use]
    pub fn heap(&self) -> IpaRange {
        self.heap
    }

    /// Returns the page-table area.
    #[must_use]
    pub fn tables(&self) -> IpaRange {
        self.tables
    }

    /// Returns a copy of the slot.
    #[must_use]
    pub fn slot(&self) -> &Slot {
        &self.slot
    }

    /// Returns where the slot says that the bundle is.
    #[must_use]
    pub fn source(&self) -> Source {
        self.source
    }

    /// Returns the free pages between bundle and heap, if there are any.
    #[must_use]
    pub fn room(&self) -> Option<IpaRange> {
        self.room
    }

    /// Returns the pages that hold the appended bundle.
    #[must_use]
    pub fn bundle_range(&self) -> Option<IpaRange> {
        self.bundle
    }
}
