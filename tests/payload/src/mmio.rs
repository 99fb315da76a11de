//! Device registers: 32-bit accesses inside a range that is no memory.

use crate::cpu;
use crate::entry;
use crate::memory::Range;
use crate::tree::Tree;

/// Registers at an address, alias bit included.
#[derive(Clone, Copy)]
pub struct Mmio(Range);

impl Mmio {
    /// Registers in `range`; none if it is misaligned or touches memory of the tree or this program.
    pub fn new(range: Range, tree: &Tree) -> Option<Self> {
        let is_free = |other: Range| range.top <= other.base || other.top <= range.base;
        let aligned = range.base.is_multiple_of(8) && range.len().is_multiple_of(8);
        let free = tree.memory().all(is_free) && is_free(entry::image()) && is_free(tree.range());
        (aligned && free).then_some(Self(range))
    }

    /// Address of the first register.
    pub fn base(&self) -> u64 {
        self.0.base
    }

    fn register(&self, offset: u64) -> u64 {
        assert!(offset.is_multiple_of(4) && offset < self.0.len());
        self.0.base + offset
    }

    /// Reads the register at `offset`.
    pub fn read(&self, offset: u64) -> u32 {
        cpu::load32(self.register(offset))
    }

    /// Reads a 64-bit register, low half first.
    pub fn read64(&self, offset: u64) -> u64 {
        u64::from(self.read(offset)) | u64::from(self.read(offset + 4)) << 32
    }

    /// Writes the register at `offset`.
    pub fn write(&self, offset: u64, value: u32) {
        // SAFETY: inside the range, which `new` found outside all memory that Rust knows of.
        unsafe { cpu::store32(self.register(offset), value) };
    }

    /// Writes a 64-bit register in one access.
    pub fn write_whole(&self, offset: u64, value: u64) {
        assert!(offset.is_multiple_of(8) && offset < self.0.len());
        // SAFETY: as in `write`.
        unsafe { cpu::store64(self.0.base + offset, value) };
    }

    /// Writes a 64-bit register, low half first.
    pub fn write64(&self, offset: u64, value: u64) {
        self.write(offset, value as u32);
        self.write(offset + 4, (value >> 32) as u32);
    }
}
