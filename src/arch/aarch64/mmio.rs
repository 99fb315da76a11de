//! Device and shared memory: one plain load or store per access, base register only.
//!
//! A trapped access with write-back or pair addressing has no valid syndrome, and the emulation of a realm's MMIO
//! then fails; compilers may produce such addressing for volatile accesses, so the instruction is written here.

use crate::platform::AccessSize;
use core::arch::asm;

/// Reads `size` bytes at `address`, zero-extended.
///
/// # Safety
/// `address` is mapped (device or shared memory), aligned to `size`, and not Rust memory.
pub(super) unsafe fn read(address: u64, size: AccessSize) -> u64 {
    let value: u64;
    // SAFETY: the caller's contract; the instruction touches nothing else.
    unsafe {
        match size {
            AccessSize::Byte => {
                asm!("ldrb {v:w}, [{a}]", v = out(reg) value, a = in(reg) address, options(nostack))
            }
            AccessSize::Half => {
                asm!("ldrh {v:w}, [{a}]", v = out(reg) value, a = in(reg) address, options(nostack))
            }
            AccessSize::Word => {
                asm!("ldr {v:w}, [{a}]", v = out(reg) value, a = in(reg) address, options(nostack))
            }
            AccessSize::Double => {
                asm!("ldr {v}, [{a}]", v = out(reg) value, a = in(reg) address, options(nostack))
            }
        }
    }
    value
}

/// Writes the low `size` bytes of `value` at `address`.
///
/// # Safety
/// As [`read`].
pub(super) unsafe fn write(address: u64, size: AccessSize, value: u64) {
    // SAFETY: the caller's contract; the instruction touches nothing else.
    unsafe {
        match size {
            AccessSize::Byte => {
                asm!("strb {v:w}, [{a}]", v = in(reg) value, a = in(reg) address, options(nostack))
            }
            AccessSize::Half => {
                asm!("strh {v:w}, [{a}]", v = in(reg) value, a = in(reg) address, options(nostack))
            }
            AccessSize::Word => {
                asm!("str {v:w}, [{a}]", v = in(reg) value, a = in(reg) address, options(nostack))
            }
            AccessSize::Double => {
                asm!("str {v}, [{a}]", v = in(reg) value, a = in(reg) address, options(nostack))
            }
        }
    }
}

/// Returns the widest access that is aligned at `address` and not longer than `left` bytes: eight or one.
fn step(address: u64, left: usize) -> AccessSize {
    if address.is_multiple_of(8) && left >= 8 { AccessSize::Double } else { AccessSize::Byte }
}

/// Copies `to.len()` bytes from shared memory, each read once.
///
/// # Safety
/// `[address, address + to.len())` is mapped and not Rust memory.
pub(super) unsafe fn copy_in(mut address: u64, mut to: &mut [u8]) {
    while !to.is_empty() {
        let size = step(address, to.len());
        // SAFETY: inside the caller's range, aligned by `step`.
        let bytes = unsafe { read(address, size) }.to_le_bytes();
        let len = size.bytes() as usize;
        let (now, later) = to.split_at_mut(len);
        now.copy_from_slice(&bytes[..len]);
        to = later;
        address += size.bytes();
    }
}

/// Copies `from` to shared memory, each byte written once.
///
/// # Safety
/// As [`copy_in`].
pub(super) unsafe fn copy_out(mut address: u64, mut from: &[u8]) {
    while !from.is_empty() {
        let size = step(address, from.len());
        let len = size.bytes() as usize;
        let (now, later) = from.split_at(len);
        let mut bytes = [0; 8];
        bytes[..len].copy_from_slice(now);
        // SAFETY: inside the caller's range, aligned by `step`.
        unsafe { write(address, size, u64::from_le_bytes(bytes)) };
        from = later;
        address += size.bytes();
    }
}
