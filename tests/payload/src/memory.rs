//! Address ranges, and the private pages that the RMM or the device writes.

use crate::cpu;
use core::cell::UnsafeCell;

/// Bytes of an RSI granule and of an NVMe page as we set it.
pub const PAGE_SIZE: u64 = 4096;

/// Addresses `[base, top)`.
#[derive(Clone, Copy)]
pub struct Range {
    /// First byte.
    pub base: u64,
    /// Behind the last byte.
    pub top: u64,
}

impl Range {
    /// `len` bytes from `base`; none if they do not fit 64 bits or are no byte at all.
    pub fn new(base: u64, len: u64) -> Option<Self> {
        let top = base.checked_add(len)?;
        (base < top).then_some(Self { base, top })
    }

    /// Returns whether all of `other` lies inside.
    pub fn contains(&self, other: &Self) -> bool {
        self.base <= other.base && other.top <= self.top
    }

    /// Number of bytes.
    pub fn len(&self) -> u64 {
        self.top - self.base
    }
}

/// One page of private memory that is accessed word by word only, never through a reference to its bytes.
#[repr(C, align(4096))]
pub struct Page(UnsafeCell<[u32; 1024]>);

// SAFETY: there is one processor with interrupts masked, and every access is a single load or store.
unsafe impl Sync for Page {}

/// What the RMM or the device returns: buffer of RSI calls and of Identify, one after the other.
#[unsafe(link_section = ".bss.page")]
pub static ANSWER: Page = Page::new();
/// NVMe admin submission queue.
#[unsafe(link_section = ".bss.page")]
pub static SUBMISSION: Page = Page::new();
/// NVMe admin completion queue.
#[unsafe(link_section = ".bss.page")]
pub static COMPLETION: Page = Page::new();

/// Memory that is shared with the host for a while: one unit of conversion of a host with 64 KiB pages, which is also
/// one of every smaller unit. While it is private, nobody uses it.
#[repr(C, align(65536))]
pub struct Unit(UnsafeCell<[u32; 16384]>);

// SAFETY: as for `Page`.
unsafe impl Sync for Unit {}

/// The unit.
#[unsafe(link_section = ".bss.unit")]
pub static UNIT: Unit = Unit(UnsafeCell::new([0; 16384]));

impl Unit {
    /// The unit's protected addresses.
    pub fn range(&'static self) -> Range {
        let base = self.0.get() as u64;
        Range { base, top: base + size_of::<Self>() as u64 }
    }

    /// Reads the word at `offset` through the half that `border` (0 or the first unprotected address) chooses.
    pub fn read(&'static self, border: u64, offset: u64) -> u32 {
        assert!(offset.is_multiple_of(4) && offset < size_of::<Self>() as u64);
        cpu::load32((self.0.get() as u64 | border) + offset)
    }

    /// Writes the word at `offset`, as [`Unit::read`].
    pub fn write(&'static self, border: u64, offset: u64, value: u32) {
        assert!(offset.is_multiple_of(4) && offset < size_of::<Self>() as u64);
        // SAFETY: inside the unit, which no reference exists to; its alias is the same memory.
        unsafe { cpu::store32((self.0.get() as u64 | border) + offset, value) };
    }
}

impl Page {
    const fn new() -> Self {
        Self(UnsafeCell::new([0; 1024]))
    }

    /// The page's address; with the MMU off, its IPA and so the address for RMM and device.
    pub fn address(&'static self) -> u64 {
        self.0.get() as u64
    }

    fn word(&'static self, offset: u64) -> u64 {
        assert!(offset.is_multiple_of(4) && offset < PAGE_SIZE);
        self.address() + offset
    }

    /// Reads the word at `offset`, a multiple of 4.
    pub fn read(&'static self, offset: u64) -> u32 {
        cpu::load32(self.word(offset))
    }

    /// Reads the little-endian double word at `offset`, a multiple of 4.
    pub fn read64(&'static self, offset: u64) -> u64 {
        u64::from(self.read(offset)) | u64::from(self.read(offset + 4)) << 32
    }

    /// Reads the word at `offset` while the device may write it: past any line that a cache holds of it.
    pub fn read_fresh(&'static self, offset: u64) -> u32 {
        cpu::clean_invalidate(self.word(offset), self.word(offset) + 4);
        self.read(offset)
    }

    /// Reads one byte.
    pub fn byte(&'static self, offset: u64) -> u8 {
        let [byte, ..] = (self.read(offset & !3) >> (offset % 4 * 8)).to_le_bytes();
        byte
    }

    /// Writes the word at `offset`, a multiple of 4.
    pub fn write(&'static self, offset: u64, value: u32) {
        // SAFETY: inside this page, which no reference exists to.
        unsafe { cpu::store32(self.word(offset), value) };
    }

    /// Writes `value` to each word.
    pub fn fill(&'static self, value: u32) {
        for offset in (0..PAGE_SIZE).step_by(4) {
            self.write(offset, value);
        }
    }

    /// After our writes, before RMM or device look: our writes went past the caches; a line that another agent left
    /// there would hide them, or be written back over them later.
    pub fn hand_over(&'static self) {
        cpu::barrier();
        cpu::clean_invalidate(self.address(), self.address() + PAGE_SIZE);
    }

    /// After RMM or device wrote, before we read: what they wrote may still be in a cache only.
    pub fn take_back(&'static self) {
        self.hand_over();
    }
}
