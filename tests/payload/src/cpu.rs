//! Instructions: SMC, single loads and stores, cache maintenance, time.

use aarch64_cpu::registers::{CNTFRQ_EL0, CNTVCT_EL0, Readable, TPIDR_EL1, Writeable};
use core::arch::{asm, naked_asm};

/// TPIDR_EL1: [`probe32`] reads where it may abort.
pub const STATE_PROBING: u64 = 3;

/// One SMC64: x0 is `fid`, x1 to x8 are `args`; returns x0 to x8.
///
/// # Safety
/// Memory that the callee may write for this call is a buffer of ours that no reference exists to.
pub unsafe fn smc64(fid: u64, args: [u64; 8]) -> [u64; 9] {
    let [mut x1, mut x2, mut x3, mut x4, mut x5, mut x6, mut x7, mut x8] = args;
    let mut x0 = fid;
    // SAFETY: SMCCC keeps x19 to x30 and SP; all others are outputs or clobbers. It may touch memory: no `nomem`.
    unsafe {
        asm!(
            "smc #0",
            inlateout("x0") x0, inlateout("x1") x1, inlateout("x2") x2, inlateout("x3") x3,
            inlateout("x4") x4, inlateout("x5") x5, inlateout("x6") x6, inlateout("x7") x7,
            inlateout("x8") x8,
            out("x9") _, out("x10") _, out("x11") _, out("x12") _, out("x13") _,
            out("x14") _, out("x15") _, out("x16") _, out("x17") _,
            options(nostack),
        );
    }
    [x0, x1, x2, x3, x4, x5, x6, x7, x8]
}

/// Reads 32 bits by one load without write-back, which a trapping host can emulate.
///
/// A bad address is an exception and ends the program with a report, so this is safe to call for device addresses.
pub fn load32(address: u64) -> u32 {
    let value: u32;
    // SAFETY: a load changes nothing of ours; a fault goes to the vectors, which do not return.
    unsafe { asm!("ldr {v:w}, [{a}]", v = out(reg) value, a = in(reg) address, options(nostack)) };
    value
}

/// Writes 32 bits by one store without write-back.
///
/// # Safety
/// `address` is a device register, or memory that no reference exists to.
pub unsafe fn store32(address: u64, value: u32) {
    // SAFETY: the caller's contract.
    unsafe { asm!("str {v:w}, [{a}]", v = in(reg) value, a = in(reg) address, options(nostack)) };
}

/// Writes 64 bits by one store without write-back.
///
/// # Safety
/// As [`store32`].
pub unsafe fn store64(address: u64, value: u64) {
    // SAFETY: the caller's contract.
    unsafe { asm!("str {v}, [{a}]", v = in(reg) value, a = in(reg) address, options(nostack)) };
}

/// What [`probe32`] found, in x0 and x1.
#[repr(C)]
struct Probe {
    value: u64,
    aborted: u64,
}

/// Reads 32 bits where a host may refuse; none if that is an abort.
pub fn probe32(address: u64) -> Option<u32> {
    let probe = probe(address);
    (probe.aborted == 0).then_some(probe.value as u32)
}

/// Reads 32 bits at x0; an exception on the way comes back at [`probe_aborted`]. Keeps TPIDR_EL1, no stack.
#[unsafe(naked)]
extern "C" fn probe(address: u64) -> Probe {
    naked_asm!(
        "mrs x2, tpidr_el1",
        "mov x3, #{probing}",
        "msr tpidr_el1, x3",
        "isb",
        "ldr w0, [x0]",
        // An asynchronous abort comes before this ends.
        "dsb sy",
        "isb",
        "mov x1, xzr",
        "msr tpidr_el1, x2",
        "ret",
        probing = const STATE_PROBING,
    )
}

/// Where an exception of [`probe`] goes on. In: x2 and x30 as `probe` left them.
#[unsafe(naked)]
pub extern "C" fn probe_aborted() {
    naked_asm!("mov x0, xzr", "mov x1, #1", "msr tpidr_el1, x2", "isb", "ret")
}

/// Completes all accesses before those that follow, for every observer.
pub fn barrier() {
    // SAFETY: a barrier.
    unsafe { asm!("dsb sy", options(nostack)) };
}

/// Returns the first aligned address in `[start, end)` that holds `value`. Both are multiples of 8.
pub fn find64(start: u64, end: u64, value: u64) -> Option<u64> {
    let found: u64;
    // SAFETY: loads change nothing of ours; a fault goes to the vectors, which do not return.
    unsafe {
        asm!(
            "1:", "cmp {a}, {e}", "b.hs 2f", "ldr {v}, [{a}]", "cmp {v}, {c}", "b.eq 2f", "add {a}, {a}, #8", "b 1b", "2:",
            a = inout(reg) start => found, e = in(reg) end, c = in(reg) value, v = out(reg) _, options(nostack),
        );
    };
    (found < end).then_some(found)
}

/// Cleans and invalidates the data cache for `[start, end)`, to the point of coherency, and waits for it.
///
/// In: x0, x1. Clobbers x0-x3, flags. No stack, any MMU state.
#[unsafe(naked)]
pub extern "C" fn clean_invalidate(start: u64, end: u64) {
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

/// Sets TPIDR_EL1, the state that the exception vectors look at.
pub fn set_thread_register(value: u64) {
    TPIDR_EL1.set(value);
}

/// A wait that ends: after a time by CNTVCT, and after a number of turns, for the counter may stand still.
pub struct Wait {
    start: u64,
    ticks: u64,
    turns: u32,
}

impl Wait {
    /// Most turns of one wait; a turn is a device or counter access, tenths of a microsecond or more.
    const MAX_TURNS: u32 = 8_000_000;

    /// Starts a wait of at most `milliseconds`.
    pub fn new(milliseconds: u64) -> Self {
        let ticks = CNTFRQ_EL0.get().saturating_mul(milliseconds) / 1000;
        Self { start: CNTVCT_EL0.get(), ticks, turns: Self::MAX_TURNS }
    }

    /// Counts a turn; returns whether there is to be another one.
    pub fn again(&mut self) -> bool {
        self.turns = self.turns.saturating_sub(1);
        // SAFETY: a barrier; the counter is not read ahead of the access before it.
        unsafe { asm!("isb", options(nostack)) };
        self.turns != 0 && CNTVCT_EL0.get().wrapping_sub(self.start) < self.ticks
    }

    /// Number of turns so far.
    pub fn turns(&self) -> u32 {
        Self::MAX_TURNS - self.turns
    }
}
