//! Device registers and RAM by physical address. The stub's identity map covers the first TiB.

use crate::layout::PAGE;
use core::arch::asm;

macro_rules! access {
    ($read:ident, $write:ident, $type:ty, $ldr:literal, $str:literal, $reg:literal) => {
        /// Reads a device register with one plain load.
        pub fn $read(pa: u64) -> $type {
            check(pa, size_of::<$type>() as u64);
            let value: $type;
            // SAFETY: one aligned load from a device page (`check`: below 1 TiB, where the identity map ends, and
            // never the stub's own memory); no Rust object lives there.
            unsafe { asm!(concat!($ldr, " {v:", $reg, "}, [{a}]"), v = out(reg) value, a = in(reg) pa, options(nostack)) };
            value
        }

        /// Writes a device register with one plain store.
        pub fn $write(pa: u64, value: $type) {
            check(pa, size_of::<$type>() as u64);
            // SAFETY: as above, one aligned store.
            unsafe { asm!(concat!($str, " {v:", $reg, "}, [{a}]"), v = in(reg) value, a = in(reg) pa, options(nostack)) };
        }
    };
}

access!(read8, write8, u8, "ldrb", "strb", "w");
access!(read16, write16, u16, "ldrh", "strh", "w");
access!(read32, write32, u32, "ldr", "str", "w");
access!(read64, write64, u64, "ldr", "str", "x");

fn check(pa: u64, width: u64) {
    assert!(pa.is_multiple_of(width), "unaligned device access at {pa:#x}");
    let ram = 0x4000_0000..0x40_0000_0000;
    assert!(pa < 1 << 40 && !ram.contains(&pa), "{pa:#x} is no device");
}

/// Reads `width` (1, 2, 4 or 8) bytes.
pub fn read(pa: u64, width: u8) -> u64 {
    match width {
        1 => read8(pa).into(),
        2 => read16(pa).into(),
        4 => read32(pa).into(),
        8 => read64(pa),
        _ => panic!("device access of width {width}"),
    }
}

/// Writes `width` (1, 2, 4 or 8) bytes.
pub fn write(pa: u64, width: u8, value: u64) {
    match width {
        1 => write8(pa, value as u8),
        2 => write16(pa, value as u16),
        4 => write32(pa, value as u32),
        8 => write64(pa, value),
        _ => panic!("device access of width {width}"),
    }
}

/// The realm's RAM, which no Rust object of the stub lies in. Every access is checked against its bounds.
#[derive(Clone, Copy, Debug)]
pub struct RealmRam {
    base: u64,
    end: u64,
}

impl RealmRam {
    /// Takes `base..end`.
    ///
    /// # Safety
    ///
    /// The range must be RAM that the stub's map covers, and outside everything that the stub uses.
    pub unsafe fn new(base: u64, end: u64) -> Self {
        assert!(base < end && base.is_multiple_of(PAGE) && end.is_multiple_of(PAGE));
        Self { base, end }
    }

    /// First byte.
    pub fn base(&self) -> u64 {
        self.base
    }

    /// One past the last byte.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// Whether `len` bytes from `pa` on are inside.
    pub fn contains(&self, pa: u64, len: u64) -> bool {
        pa >= self.base && pa.checked_add(len).is_some_and(|end| end <= self.end)
    }

    fn check(&self, pa: u64, len: usize) {
        assert!(self.contains(pa, len as u64), "{pa:#x} + {len:#x} is outside the realm's RAM");
    }

    /// Copies bytes out.
    pub fn read(&self, pa: u64, buf: &mut [u8]) {
        self.check(pa, buf.len());
        // SAFETY: inside the realm's RAM (`check`), mapped, and disjoint from every Rust object (`new`).
        unsafe { core::ptr::copy_nonoverlapping(pa as *const u8, buf.as_mut_ptr(), buf.len()) }
    }

    /// Copies bytes in.
    pub fn write(&self, pa: u64, data: &[u8]) {
        self.check(pa, data.len());
        // SAFETY: as in `read`.
        unsafe { core::ptr::copy_nonoverlapping(data.as_ptr(), pa as *mut u8, data.len()) }
    }

    /// Fills with zeros.
    pub fn zero(&self, pa: u64, len: usize) {
        self.check(pa, len);
        // SAFETY: as in `read`.
        unsafe { core::ptr::write_bytes(pa as *mut u8, 0, len) }
    }

    /// Moves bytes inside the realm's RAM; the ranges may overlap.
    pub fn copy(&self, from: u64, to: u64, len: usize) {
        self.check(from, len);
        self.check(to, len);
        // SAFETY: as in `read`; `copy` allows overlap.
        unsafe { core::ptr::copy(from as *const u8, to as *mut u8, len) }
    }
}
