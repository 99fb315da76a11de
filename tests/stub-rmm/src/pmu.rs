//! Instructions of the realm alone, for runs with `-icount`: PMU event counter 0, stopped at EL2.
//!
//! QEMU has the event only under `-icount`, and the realm has no PMU, so the counter is the stub's.

use crate::cpu;
use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

/// INST_RETIRED; the filter bits stay 0: EL0 and EL1 count, EL2 does not.
const INST_RETIRED: u64 = 8;
/// PMCR_EL0: E, P (reset event counters).
const PMCR_START: u64 = 0b11;

/// Sum so far; all ones = the event is not there.
static TOTAL: AtomicU64 = AtomicU64::new(u64::MAX);
/// Counter at the last sample.
static LAST: AtomicU64 = AtomicU64::new(0);

/// Starts counting, if QEMU can.
pub fn start() {
    let (dfr0, events): (u64, u64);
    // SAFETY: reads a feature register.
    unsafe { asm!("mrs {}, ID_AA64DFR0_EL1", out(reg) dfr0, options(nomem, nostack)) };
    if !matches!((dfr0 >> 8) & 0xf, 1..=14) {
        return;
    }
    // SAFETY: the PMU is there (PMUVer).
    unsafe { asm!("mrs {}, PMCEID0_EL0", out(reg) events, options(nomem, nostack)) };
    if events & (1 << INST_RETIRED) == 0 {
        return;
    }
    // SAFETY: programs event counter 0, which nothing else uses (the realm's accesses trap).
    unsafe {
        asm!(
            "msr PMEVTYPER0_EL0, {event}", "msr PMCR_EL0, {start}", "msr PMCNTENSET_EL0, {one}", "isb",
            event = in(reg) INST_RETIRED, start = in(reg) PMCR_START, one = in(reg) 1_u64,
            options(nomem, nostack)
        );
    }
    TOTAL.store(0, Ordering::Relaxed);
}

/// Returns the instructions of the realm's first REC so far; `None` without `-icount`. Call at least every 2^32 of them.
pub fn instructions() -> Option<u64> {
    let total = TOTAL.load(Ordering::Relaxed);
    if total == u64::MAX {
        return None;
    }
    // Each CPU has a counter of its own; the first one's counts.
    if cpu::index() != 0 {
        return Some(total);
    }
    let now: u64;
    // SAFETY: reads the counter that `start` set up.
    unsafe { asm!("isb", "mrs {}, PMEVCNTR0_EL0", out(reg) now, options(nomem, nostack)) };
    let now = now & 0xffff_ffff;
    let total = total + (now.wrapping_sub(LAST.swap(now, Ordering::Relaxed)) & 0xffff_ffff);
    TOTAL.store(total, Ordering::Relaxed);
    Some(total)
}
