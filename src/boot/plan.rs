//! Where kernel, ramdisk and tree lie at the jump, and whether they may lie there.
//!
//! Trust: offsets come from the measured bundle, addresses from the host. Both are only compared here.
//!
//! The area of the image is `[base, base + image_size)` of the Linux header: firmware, appended bundle if there is one,
//! room, and the heap as its last part. Room is free memory, from the end of the appended bundle (of the firmware's file
//! without one) to the heap. Linux Documentation/arch/arm64/booting.rst: the kernel at a multiple of 2 MiB with
//! `image_size` bytes free, the tree at a multiple of 8 and at most 2 MiB long.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::bundle::Part;
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

    /// Returns where the data of a part of the bundle lie when this span is the bundle; `None`: inside the FIT structure.
    ///
    /// # Errors
    /// [`PlanError::Misplaced`] when they do not end inside the bundle.
    pub fn of_part(&self, part: &Part<'_>) -> Result<Option<Self>, PlanError> {
        let Some(offset) = part.offset() else { return Ok(None) };
        let len = u64::try_from(part.len_bytes()).unwrap_or(u64::MAX);
        let base = u64::try_from(offset).ok().and_then(|offset| self.base.checked_add(offset));
        let span = base.and_then(|base| Self::new(base, len)).filter(|span| self.contains(span));
        span.map(Some).ok_or(PlanError::Misplaced { base: self.base, len })
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
    /// The area is smaller than the heap.
    #[error("image area {0} is too small")]
    Area(IpaRange),
    /// The bundle lies partly in the area, or in its heap.
    #[error("the bundle {0:?} is neither inside the image nor outside")]
    Bundle(Span),
    /// The room is not in the area in front of the heap, or has bytes of the bundle.
    #[error("the room {0:?} is not free memory of the image")]
    Room(Span),
    /// The ramdisk's data are inside the FIT structure.
    #[error("ramdisk is inside the FIT structure")]
    RamdiskInline,
    /// A part does not end inside the bundle.
    #[error("a part of {len:#x} bytes of the bundle at {base:#x}")]
    Misplaced {
        /// First address of the bundle.
        base: u64,
        /// Length in bytes.
        len: u64,
    },
    /// The kernel is not at a multiple of 2 MiB.
    #[error("kernel at {0:#x} is not 2 MiB aligned")]
    KernelUnaligned(u64),
    /// The memory that the kernel needs is not all free.
    #[error("kernel needs {0:?}, the heap begins at {1:#x}")]
    KernelNoRoom(Span, u64),
    /// The ramdisk is not in the bundle.
    #[error("ramdisk {0:?} outside the bundle")]
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

/// Memory that a plan is made for. All addresses are IPAs of the protected half.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// `[base, base + image_size)`; the last [`HEAP_SIZE`] bytes are the heap.
    pub area: IpaRange,
    /// The bundle: in the area, the firmware before it, or wholly outside.
    pub bundle: Span,
    /// The room; `None`: no byte is left between bundle and heap.
    pub room: Option<Span>,
    /// The ramdisk, where it lies in the bundle.
    pub ramdisk: Option<Span>,
}

/// What the plan is made from.
#[derive(Clone, Copy, Debug)]
pub struct Inputs {
    /// Everything but the kernel.
    pub memory: Memory,
    /// First byte of the kernel's Image: in the bundle, or in the room where it was written to.
    pub kernel: u64,
    /// What its header says.
    pub header: KernelHeader,
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
        let Memory { area: whole, bundle, room, ramdisk } = inputs.memory;
        let small = PlanError::Area(whole);
        let area = Span::new(whole.base(), whole.len_bytes()).ok_or(small)?;
        let heap = area.end.checked_sub(HEAP_SIZE).ok_or(small)?;
        let below = heap.checked_sub(area.base).and_then(|len| Span::new(area.base, len)).ok_or(small)?;
        let appended = below.contains(&bundle);
        if !appended && area.overlaps(&bundle) {
            return Err(PlanError::Bundle(bundle));
        }
        if let Some(room) = room.filter(|room| !below.contains(room) || room.overlaps(&bundle)) {
            return Err(PlanError::Room(room));
        }
        let len = inputs.header.mem_len();
        let wraps = PlanError::Misplaced { base: inputs.kernel, len };
        let kernel = Span::new(inputs.kernel, len).ok_or(wraps)?;
        if !kernel.base.is_multiple_of(IMAGE_ALIGN) {
            return Err(PlanError::KernelUnaligned(kernel.base));
        }
        // Behind an appended bundle everything up to the heap is free; the firmware lies before it.
        let behind = heap.checked_sub(bundle.base).filter(|_| appended);
        let behind = behind.and_then(|len| Span::new(bundle.base, len));
        if ![behind, room].into_iter().flatten().any(|free| free.contains(&kernel)) {
            return Err(PlanError::KernelNoRoom(kernel, heap));
        }
        if let Some(ramdisk) = ramdisk {
            if !bundle.contains(&ramdisk) {
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

    fn span(base: u64, len: u64) -> Span {
        Span::new(base, len).unwrap()
    }

    /// Firmware 1 MiB; bundle of 5 MiB with the ramdisk in its front and a kernel at 4 MiB of the image with 6 MiB of
    /// memory; 4 MiB room.
    fn inputs() -> Inputs {
        Inputs {
            memory: Memory {
                area: IpaRange::new(BASE, 10 * MIB + HEAP_SIZE).unwrap(),
                bundle: span(BASE + MIB, 5 * MIB),
                room: Some(span(BASE + 6 * MIB, 4 * MIB)),
                ramdisk: Some(span(BASE + MIB + 0x1000, 0x1001)),
            },
            kernel: BASE + 4 * MIB,
            header: header(6 * MIB),
        }
    }

    fn plan(change: impl FnOnce(&mut Inputs)) -> Result<Plan, PlanError> {
        let mut inputs = inputs();
        change(&mut inputs);
        Plan::new(&inputs)
    }

    /// The bundle outside the area; the kernel was written to the room.
    fn apart(inputs: &mut Inputs) {
        inputs.memory.bundle = span(BASE + 64 * MIB, 5 * MIB);
        inputs.memory.room = Some(span(BASE + MIB, 9 * MIB));
        inputs.memory.ramdisk = Some(span(BASE + 64 * MIB + 0x1001, 0x1001));
    }

    #[test]
    fn parts_are_used_in_place() {
        let plan = plan(|_| {}).unwrap();
        assert_eq!(plan.kernel(), span(BASE + 4 * MIB, 6 * MIB));
        assert_eq!(plan.ramdisk(), Some(span(BASE + MIB + 0x1000, 0x1001)));
    }

    #[test]
    fn a_kernel_in_the_room_and_a_ramdisk_outside_the_image_are_used() {
        let plan = plan(apart).unwrap();
        assert_eq!(plan.kernel(), span(BASE + 4 * MIB, 6 * MIB));
        assert_eq!(plan.ramdisk(), Some(span(BASE + 64 * MIB + 0x1001, 0x1001)));
    }

    #[test]
    fn a_kernel_in_a_bundle_outside_the_image_may_not_stay_there() {
        let at = BASE + 64 * MIB;
        let error = plan(|i| {
            apart(i);
            i.kernel = at;
        });
        assert_eq!(error, Err(PlanError::KernelNoRoom(span(at, 6 * MIB), BASE + 10 * MIB)));
    }

    #[test]
    fn each_misplacement_is_refused_by_name() {
        let k = |at| move |i: &mut Inputs| i.kernel = at;
        let r = |base, len| move |i: &mut Inputs| i.memory.ramdisk = Some(span(base, len));
        assert_eq!(plan(k(BASE + 0x40_1000)), Err(PlanError::KernelUnaligned(BASE + 0x40_1000)));
        let heap = BASE + 10 * MIB;
        assert_eq!(
            plan(k(BASE + 6 * MIB)),
            Err(PlanError::KernelNoRoom(span(BASE + 6 * MIB, 6 * MIB), heap))
        );
        assert_eq!(plan(k(BASE)), Err(PlanError::KernelNoRoom(span(BASE, 6 * MIB), heap)));
        let top = u64::MAX - (2 * MIB - 1);
        assert_eq!(plan(k(top)), Err(PlanError::Misplaced { base: top, len: 6 * MIB }));
        let disk = span(BASE + 6 * MIB - 0x1000, 0x1001);
        assert_eq!(plan(r(disk.base(), disk.len_bytes())), Err(PlanError::RamdiskOutside(disk)));
        let over = plan(r(BASE + 5 * MIB, 0x1000));
        assert!(matches!(over, Err(PlanError::KernelOverRamdisk { .. })), "{over:?}");
        let area = IpaRange::new(BASE, HEAP_SIZE).unwrap();
        assert_eq!(plan(|i| i.memory.area = area), Err(PlanError::Area(area)));
        let bundle = |bundle| plan(|i| i.memory.bundle = bundle);
        for bad in [span(heap - 0x1000, 0x1001), span(BASE - 0x1000, 0x1001), span(heap + HEAP_SIZE - 1, 2)] {
            assert_eq!(bundle(bad), Err(PlanError::Bundle(bad)));
        }
        let room = |room| plan(|i| i.memory.room = Some(room));
        for bad in [span(heap - 0x1000, 0x1001), span(BASE - 1, 2), span(BASE + 6 * MIB - 1, 1)] {
            assert_eq!(room(bad), Err(PlanError::Room(bad)));
        }
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
