//! Counter, random numbers and feature checks.

use aarch64_cpu::asm::barrier;
use aarch64_cpu::registers::{CNTFRQ_EL0, CNTVCT_EL0, ID_AA64ISAR0_EL1, ID_AA64MMFR0_EL1};
use core::arch::asm;
use tock_registers::interfaces::Readable;

/// RNDR may fail for a moment when the source has no entropy left; tried this often.
const RNDR_TRIES: usize = 16;

/// Returns CNTVCT_EL0, read after everything before it has finished.
#[must_use]
pub fn ticks() -> u64 {
    barrier::isb(barrier::SY);
    CNTVCT_EL0.get()
}

/// Returns CNTFRQ_EL0, at least 1.
#[must_use]
pub fn ticks_per_second() -> u64 {
    CNTFRQ_EL0.get().max(1)
}

/// Gives another hardware thread or the host a moment; never blocks (WFE and WFI could, for as long as the host
/// likes).
pub fn relax() {
    core::hint::spin_loop();
}

/// Returns 64 bits of RNDR, or `None` where FEAT_RNG is missing or fails.
#[must_use]
pub fn random() -> Option<u64> {
    if !ID_AA64ISAR0_EL1.matches_all(ID_AA64ISAR0_EL1::RNDR::Supported) {
        return None;
    }
    (0..RNDR_TRIES).find_map(|_| {
        let value: u64;
        let ok: u64;
        // SAFETY: FEAT_RNG is there (checked above); reads RNDR (S3_3_C2_C4_0), which sets Z on failure.
        unsafe {
            asm!(
                "mrs {value}, s3_3_c2_c4_0",
                "cset {ok}, ne",
                value = out(reg) value,
                ok = out(reg) ok,
                options(nomem, nostack),
            );
        }
        (ok != 0).then_some(value)
    })
}

/// Returns the number of address bits that the final page table can put out: PARange, at most 48.
#[must_use]
pub fn output_address_bits() -> u8 {
    match ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::PARange) {
        0 => 32,
        1 => 36,
        2 => 40,
        3 => 42,
        4 => 44,
        _ => 48,
    }
}
