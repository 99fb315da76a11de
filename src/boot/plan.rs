//! Where kernel, ramdisk and tree lie at the jump: all in place, nothing is copied.
//!
//! Trust: offsets come from the measured bundle, the load address from the host. Both are only compared here.
//!
//! The area of the image is `[base, base + image_size)` of the Linux header: firmware, bundle, room behind the kernel,
//! and the heap as its last part. Linux Documentation/arch/arm64/booting.rst: the kernel at a multiple of 2 MiB with
//! `image_size` bytes free, the tree at a multiple of 8 and at most 2 MiB long.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::kernel::KernelHeader;
use crate::abi::image::{HEAP_SIZE, IMAGE_ALIGN};
use crate::addr::IpaRange;
use crate::fdt::check::MAX_TREE_BYTES;
use alloc::vec::Vec;
use core::fmt;
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Alignment of the tree in bytes.
pub const TREE_ALIGN: u64 = 8;

/// A non-empty range of bytes, `[base, end)`, of any alignment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Span {
    base: u64,
    end: u64,
}

impl Span {
    /// Makes a span; `None` when empty or wrapping.
    #[must_use]
    pub fn new(base: u64, len_bytes: u64) -> Option<Self> {
        let end = base.checked_add(len_bytes)?;
        (base < end).then_some(Self { base, end })
    }

    /// Returns the first address.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Returns the first address behind the span.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.end
    }

    /// Returns the length in bytes; never zero.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.end.saturating_sub(self.base)
    }

    /// Tells whether the two share a byte.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.base < other.end && other.base < self.end
    }

    /// Tells whether `other` lies wholly inside.
    #[must_use]
    pub const fn contains(&self, other: &Self) -> bool {
        self.base <= other.base && other.end <= self.end
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:#x}, {:#x})", self.base, self.end)
    }
}

/// Why the payload cannot be started where it is.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PlanError {
    /// The area is smaller than the heap, or the firmware's part of it is empty.
    #[error("image area {0} is too small")]
    Area(IpaRange),
    /// The kernel's data are inside the FIT structure.
    #[error("kernel is inside the FIT structure")]
    KernelInline,
    /// The ramdisk's data are inside the FIT structure.
    #[error("ramdisk is inside the FIT structure")]
    RamdiskInline,
    /// A part's address wraps, or it begins inside the firmware.
    #[error("a part lies at {base:#x}, {len:#x} bytes")]
    Misplaced {
        /// First address.
        base: u64,
        /// Length in bytes.
        len: u64,
    },
    /// The kernel is not at a multiple of 2 MiB.
    #[error("kernel at {0:#x} is not 2 MiB aligned")]
    KernelUnaligned(u64),
    /// The kernel with the memory that it needs ends in the heap or behind it.
    #[error("kernel needs {0:?}, the heap begins at {1:#x}")]
    KernelNoRoom(Span, u64),
    /// The ramdisk is not between firmware and heap.
    #[error("ramdisk {0:?} outside the image")]
    RamdiskOutside(Span),
    /// The kernel would run over the ramdisk.
    #[error("kernel {kernel:?} and ramdisk {ramdisk:?} overlap")]
    KernelOverRamdisk {
        /// The kernel's memory.
        kernel: Span,
        /// The ramdisk.
        ramdisk: Span,
    },
    /// The tree is empty or longer than 2 MiB.
    #[error("tree of {0:#x} bytes")]
    TreeLen(u64),
    /// The tree is not at a multiple of 8.
    #[error("tree at {0:#x} is not 8-byte aligned")]
    TreeUnaligned(u64),
    /// The tree is not in the image's area.
    #[error("tree {0:?} outside the image")]
    TreeOutside(Span),
    /// The tree shares memory with kernel or ramdisk.
    #[error("tree {0:?} overlaps kernel or ramdisk")]
    TreeOverlaps(Span),
}

/// A part of the bundle: offset from the bundle's start ([`super::bundle::Part::offset`]) and length, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// Offset in the bundle; `None`: inside the FIT structure.
    pub offset: Option<usize>,
    /// Length in bytes.
    pub len: usize,
}

impl From<&super::bundle::Part<'_>> for Placed {
    fn from(part: &super::bundle::Part<'_>) -> Self {
        Self { offset: part.offset(), len: part.len_bytes() }
    }
}

/// What the plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// `[base, base + image_size)`; the last [`HEAP_SIZE`] bytes are the heap.
    pub area: IpaRange,
    /// Bytes from the area's start to the bundle (the slot's `bundle_offset`): the firmware lies before it.
    pub bundle_offset: u64,
    /// Kernel part.
    pub kernel: Placed,
    /// What its header says.
    pub header: KernelHeader,
    /// Ramdisk part.
    pub ramdisk: Option<Placed>,
}

/// Where the parts lie; the kernel's entry is its base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plan {
    area: Span,
    kernel: Span,
    ramdisk: Option<Span>,
}

impl Plan {
    /// Checks that kernel and ramdisk can be used where they are.
    ///
    /// # Errors
    /// [`PlanError`].
    pub fn new(inputs: &Inputs) -> Result<Self, PlanError> {
        let whole = inputs.area;
        let small = PlanError::Area(whole);
        let area = Span::new(whole.base(), whole.len_bytes()).ok_or(small)?;
        let heap = area.end.checked_sub(HEAP_SIZE).ok_or(small)?;
        let bundle = area.base.checked_add(inputs.bundle_offset).ok_or(small)?;
        let usable = heap.checked_sub(bundle).and_then(|len| Span::new(bundle, len)).ok_or(small)?;
        let place = |offset: usize, len: u64| {
            let bad = PlanError::Misplaced { base: bundle, len };
            let offset = u64::try_from(offset).map_err(|_| bad)?;
            bundle.checked_add(offset).and_then(|base| Span::new(base, len)).ok_or(bad)
        };
        let kernel = place(inputs.kernel.offset.ok_or(PlanError::KernelInline)?, inputs.header.mem_len())?;
        if !kernel.base.is_multiple_of(IMAGE_ALIGN) {
            return Err(PlanError::KernelUnaligned(kernel.base));
        }
        if !usable.contains(&kernel) {
            return Err(PlanError::KernelNoRoom(kernel, heap));
        }
        let ramdisk = match inputs.ramdisk {
            Some(Placed { offset, len }) => {
                let len = u64::try_from(len).unwrap_or(u64::MAX);
                Some(place(offset.ok_or(PlanError::RamdiskInline)?, len)?)
            }
            None => None,
        };
        if let Some(ramdisk) = ramdisk {
            if !usable.contains(&ramdisk) {
                return Err(PlanError::RamdiskOutside(ramdisk));
            }
            if kernel.overlaps(&ramdisk) {
                return Err(PlanError::KernelOverRamdisk { kernel, ramdisk });
            }
        }
        Ok(Self { area, kernel, ramdisk })
    }

    /// Returns the kernel's memory, its zeroed part included. Its base is the entry point.
    #[must_use]
    pub const fn kernel(&self) -> Span {
        self.kernel
    }

    /// Returns the ramdisk.
    #[must_use]
    pub const fn ramdisk(&self) -> Option<Span> {
        self.ramdisk
    }

    /// Checks that the tree may stay at `base` (a [`TreeBuffer`] on the heap does).
    ///
    /// # Errors
    /// [`PlanError::TreeLen`], [`PlanError::TreeUnaligned`], [`PlanError::TreeOutside`], [`PlanError::TreeOverlaps`].
    pub fn place_tree(&self, base: u64, len_bytes: u64) -> Result<Span, PlanError> {
        let bad = PlanError::TreeLen(len_bytes);
        if usize::try_from(len_bytes).map_err(|_| bad)? > MAX_TREE_BYTES {
            return Err(bad);
        }
        let tree = Span::new(base, len_bytes).ok_or(bad)?;
        if !base.is_multiple_of(TREE_ALIGN) {
            return Err(PlanError::TreeUnaligned(base));
        }
        if !self.area.contains(&tree) {
            return Err(PlanError::TreeOutside(tree));
        }
        if self.kernel.overlaps(&tree) || self.ramdisk.is_some_and(|r| r.overlaps(&tree)) {
            return Err(PlanError::TreeOverlaps(tree));
        }
        Ok(tree)
    }
}

/// One page of memory.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(4096))]
struct Page([u8; 4096]);

/// Whole pages that stay for the payload: what is left over is zero.
#[derive(Debug)]
pub struct Pages {
    pages: Vec<Page>,
    len: usize,
}

impl Pages {
    /// Reserves zeroed pages for `len` bytes, at least one; `None` without memory for them.
    #[must_use]
    pub fn new(len: usize) -> Option<Self> {
        let count = len.div_ceil(size_of::<Page>()).max(1);
        let mut pages = Vec::new();
        pages.try_reserve_exact(count).ok()?;
        pages.resize(count, Page([0; 4096]));
        Some(Self { pages, len })
    }

    /// Fills the bytes from the front; what does not fit is dropped.
    pub fn write(&mut self, bytes: &[u8]) {
        let room = self.pages.as_mut_bytes().iter_mut().take(self.len);
        room.zip(bytes).for_each(|(to, from)| *to = *from);
    }

    /// Returns the address, a multiple of 4 KiB. Leak the pages (or jump) before it is used.
    #[must_use]
    pub fn address(&self) -> u64 {
        u64::try_from(self.pages.as_ptr().expose_provenance()).unwrap_or_default()
    }

    /// Returns the length in bytes as it was asked for.
    #[must_use]
    pub fn len_bytes(&self) -> u64 {
        u64::try_from(self.len).unwrap_or_default()
    }

    /// Returns the bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.pages.as_bytes().get(..self.len).unwrap_or_default()
    }
}

/// The tree's bytes at an address that is a multiple of 8. Leak it (or jump) before its address is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeBuffer {
    words: Vec<u64>,
    len: usize,
}

impl TreeBuffer {
    /// Copies a tree; `None` without memory for it.
    #[must_use]
    pub fn new(tree: &[u8]) -> Option<Self> {
        let mut words = Vec::new();
        words.try_reserve_exact(tree.len().div_ceil(8)).ok()?;
        words.extend(tree.chunks(8).map(|chunk| {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(chunk) {
                *to = *from;
            }
            u64::from_ne_bytes(word)
        }));
        Some(Self { words, len: tree.len() })
    }

    /// Returns the tree.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.words.as_bytes().get(..self.len).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::image::{LINUX_MAGIC, LinuxHeader};
    use zerocopy::FromBytes;

    const BASE: u64 = 0x4020_0000;
    const MIB: u64 = 1 << 20;

    fn header(image_size: u64) -> KernelHeader {
        let header = LinuxHeader {
            image_size: image_size.into(),
            flags: 0xa.into(),
            magic: LINUX_MAGIC,
            ..LinuxHeader::read_from_bytes(&[0; 64]).unwrap()
        };
        KernelHeader::parse(header.as_bytes()).unwrap()
    }

    /// Firmware 1 MiB, ramdisk at 0x1000 of the bundle, kernel at 4 MiB of the image with 6 MiB of memory.
    fn inputs() -> Inputs {
        Inputs {
            area: IpaRange::new(BASE, 10 * MIB + HEAP_SIZE).unwrap(),
            bundle_offset: MIB,
            kernel: Placed { offset: Some(3 << 20), len: 5 << 20 },
            header: header(6 * MIB),
            ramdisk: Some(Placed { offset: Some(0x1000), len: 0x1001 }),
        }
    }

    fn plan(change: impl FnOnce(&mut Inputs)) -> Result<Plan, PlanError> {
        let mut inputs = inputs();
        change(&mut inputs);
        Plan::new(&inputs)
    }

    #[test]
    fn parts_are_used_in_place() {
        let plan = plan(|_| {}).unwrap();
        assert_eq!(plan.kernel(), Span::new(BASE + 4 * MIB, 6 * MIB).unwrap());
        assert_eq!(plan.ramdisk(), Span::new(BASE + MIB + 0x1000, 0x1001));
    }

    #[test]
    fn each_misplacement_is_refused_by_name() {
        let k = |offset| move |i: &mut Inputs| i.kernel.offset = offset;
        let r = |offset| move |i: &mut Inputs| i.ramdisk = Some(Placed { offset, len: 0x1001 });
        assert_eq!(plan(k(None)), Err(PlanError::KernelInline));
        assert_eq!(plan(r(None)), Err(PlanError::RamdiskInline));
        assert_eq!(plan(k(Some(0x30_1000))), Err(PlanError::KernelUnaligned(BASE + 0x40_1000)));
        let span = Span::new(BASE + 6 * MIB, 6 * MIB).unwrap();
        assert_eq!(plan(k(Some(5 << 20))), Err(PlanError::KernelNoRoom(span, BASE + 10 * MIB)));
        let huge = plan(k(Some(usize::MAX)));
        assert_eq!(huge, Err(PlanError::Misplaced { base: BASE + MIB, len: 6 * MIB }));
        let disk = Span::new(BASE + 10 * MIB - 0x1000, 0x1001).unwrap();
        assert_eq!(plan(r(Some((9 << 20) - 0x1000))), Err(PlanError::RamdiskOutside(disk)));
        let over = plan(r(Some(4 << 20)));
        assert!(matches!(over, Err(PlanError::KernelOverRamdisk { .. })), "{over:?}");
        let area = IpaRange::new(BASE, HEAP_SIZE).unwrap();
        assert_eq!(plan(|i| i.area = area), Err(PlanError::Area(area)));
    }

    #[test]
    fn a_tree_on_the_heap_is_taken_and_others_are_refused_by_name() {
        let plan = plan(|_| {}).unwrap();
        let heap = BASE + 10 * MIB;
        assert_eq!(plan.place_tree(heap + 8, 0x2000), Ok(Span::new(heap + 8, 0x2000).unwrap()));
        assert_eq!(plan.place_tree(heap, 0), Err(PlanError::TreeLen(0)));
        assert_eq!(plan.place_tree(heap, 2 * MIB + 1), Err(PlanError::TreeLen(2 * MIB + 1)));
        assert_eq!(plan.place_tree(heap + 4, 8), Err(PlanError::TreeUnaligned(heap + 4)));
        let out = Span::new(BASE - 8, 16).unwrap();
        assert_eq!(plan.place_tree(BASE - 8, 16), Err(PlanError::TreeOutside(out)));
        let over = Span::new(heap - 8, 16).unwrap();
        assert_eq!(plan.place_tree(heap - 8, 16), Err(PlanError::TreeOverlaps(over)));
    }

    #[test]
    fn the_tree_buffer_is_aligned_and_unchanged() {
        let buffer = TreeBuffer::new(&[1, 2, 3, 4, 5, 6, 7, 8, 9]).unwrap();
        assert_eq!(buffer.as_bytes(), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
        assert!(buffer.as_bytes().as_ptr().addr().is_multiple_of(8));
    }
}
