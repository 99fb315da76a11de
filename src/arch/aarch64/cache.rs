//! Cache maintenance by address, to the point of coherency. Who calls what for which range: table in [`super`].

use core::arch::naked_asm;

/// Cleans and invalidates the data cache for `[start, end)`, to the point of coherency, and waits for it.
///
/// In: x0, x1. Clobbers x0-x3, flags. No stack; MMU on (the range is mapped readable) or off. Never changes what
/// memory holds for a coherent reader.
#[unsafe(naked)]
pub(super) extern "C" fn clean_invalidate(start: u64, end: u64) {
    naked_asm!(
        // Smallest line: 4 << CTR_EL0.DminLine (bits 19:16).
        "mrs x2, ctr_el0",
        "ubfx x2, x2, #16, #4",
        "mov x3, #4",
        "lsl x2, x3, x2",
        "sub x3, x2, #1",
        "bic x0, x0, x3",
        "1:",
        "cmp x0, x1",
        "b.hs 2f",
        "dc civac, x0",
        "add x0, x0, x2",
        "b 1b",
        "2:",
        "dsb sy",
        "ret",
    )
}

/// Invalidates the data cache for `[start, end)`: only for `entry`, whose ranges are clean or, in a realm, written
/// back by the upgrade to clean and invalidate. Registers as [`clean_invalidate`].
#[unsafe(naked)]
pub(super) unsafe extern "C" fn invalidate(start: u64, end: u64) {
    naked_asm!(
        "mrs x2, ctr_el0",
        "ubfx x2, x2, #16, #4",
        "mov x3, #4",
        "lsl x2, x3, x2",
        "sub x3, x2, #1",
        "bic x0, x0, x3",
        "1:",
        "cmp x0, x1",
        "b.hs 2f",
        "dc ivac, x0",
        "add x0, x0, x2",
        "b 1b",
        "2:",
        "dsb sy",
        "ret",
    )
}
