//! The last thing the firmware does: leave nothing behind and start the payload at EL1, MMU off, x0 = device tree.
//!
//! State handed over (Linux Documentation/arch/arm64/booting.rst): MMU and caches off, DAIF masked, SP_EL1 selected;
//! x0 = tree; every other general and vector register, SP, VBAR, TTBR, TCR, MAIR, TPIDR zero; FP access trapped as
//! after reset. Wiped: heap (but what the payload reads), data, bss, stack, page tables. What remains in the area: text
//! and constants, the bundle.

use super::image::Layout;
use super::mmu::{self, PAGE};
use super::{cache, console, entry, exceptions};
use crate::addr::IpaRange;
use core::arch::naked_asm;
use core::mem::offset_of;
use thiserror::Error;

/// How many ranges a payload may read.
pub const MAX_RANGES: usize = 16;
/// SPSR_EL1 of the payload: EL1h, DAIF masked.
const PAYLOAD_SPSR: u64 = 0b1111 << 6 | 0b0101;

/// Why a payload cannot be started.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum JumpError {
    /// More than [`MAX_RANGES`] ranges.
    #[error("{0} ranges are too many to hand over")]
    TooManyRanges(usize),
    /// The range overlaps memory that is wiped in the end, or the firmware's code.
    #[error("{0} overlaps the firmware")]
    Overlap(IpaRange),
    /// Entry point or tree is misaligned or in none of the ranges.
    #[error("{0:#x} is not in a range of the payload")]
    Outside(u64),
}

/// A checked hand-over.
#[derive(Clone, Debug)]
pub struct Handoff {
    entry: u64,
    tree: u64,
    count: usize,
    ranges: [[u64; 2]; MAX_RANGES],
}

impl Handoff {
    /// Checks where the payload begins (`entry`), its device tree (`tree`), and what it reads: kernel, ramdisk, tree,
    /// event log, evidence. Those ranges are neither wiped nor left in a cache. They may lie in the bundle, the heap, a gap
    /// of the area, or outside.
    ///
    /// # Errors
    /// [`JumpError`].
    pub fn new(layout: &Layout, entry: u64, tree: u64, reads: &[IpaRange]) -> Result<Self, JumpError> {
        let mut ranges = [[0; 2]; MAX_RANGES];
        if reads.len() > MAX_RANGES {
            return Err(JumpError::TooManyRanges(reads.len()));
        }
        for (slot, range) in ranges.iter_mut().zip(reads) {
            let own = [layout.file(), layout.stack(), layout.tables()];
            if own.iter().any(|part| range.overlaps(part)) {
                return Err(JumpError::Overlap(*range));
            }
            *slot = [range.base(), range.top()];
        }
        for (address, align) in [(entry, 4), (tree, 8)] {
            let inside = reads.iter().any(|r| r.base() <= address && address < r.top());
            if !inside || !address.is_multiple_of(align) {
                return Err(JumpError::Outside(address));
            }
        }
        Ok(Self { entry, tree, count: reads.len(), ranges })
    }
}

/// What the assembly reads: partly with the MMU off, so it is cleaned first.
#[repr(C, align(64))]
struct JumpArgs {
    entry: u64,
    tree: u64,
    data: [u64; 2],
    tables: [u64; 2],
    count: u64,
    /// The whole image area, then the payload's ranges that are not inside it.
    ranges: [[u64; 2]; MAX_RANGES + 1],
}

const _: () = assert!(offset_of!(JumpArgs, entry) == 0 && offset_of!(JumpArgs, tree) == 8);
const _: () = assert!(offset_of!(JumpArgs, data) == 16 && offset_of!(JumpArgs, tables) == 32);

/// Wipes the heap, then leaves.
pub(super) fn jump(layout: &Layout, handoff: &Handoff) -> ! {
    log::set_max_level(log::LevelFilter::Off);
    console::drain();
    let keep = &handoff.ranges[..handoff.count];
    let area = layout.area();
    let mut args = JumpArgs {
        entry: handoff.entry,
        tree: handoff.tree,
        // Data and bss: one piece, up to the end of the file. Stack and tables: one piece as well.
        data: [layout.data().base(), layout.file().top()],
        tables: [layout.stack().base(), layout.tables().top()],
        count: 1,
        ranges: [[0; 2]; MAX_RANGES + 1],
    };
    args.ranges[0] = [area.base(), area.top()];
    let outside = keep.iter().filter(|[base, top]| *base < area.base() || area.top() < *top);
    for (slot, range) in args.ranges[1..].iter_mut().zip(outside) {
        *slot = *range;
        args.count += 1;
    }

    let mut page = layout.heap().base();
    while page < layout.heap().top() {
        let end = page + PAGE;
        let kept = keep.iter().any(|[base, top]| *base < end && page < *top);
        if !kept {
            // SAFETY: a mapped page of the heap. Nothing from the heap is used any more: this function and `leave` touch
            // only stack, text and the tables area, and never return.
            unsafe { entry::zero(page, end) };
        }
        page = end;
    }
    // SAFETY: the ranges are the layout's; `Handoff::new` kept the payload out of what is wiped.
    unsafe { leave(&raw const args) }
}

/// Cleans, turns the MMU off, wipes the rest, clears every register and goes to the payload by ERET.
///
/// In: x0 = arguments, MMU on, any stack. Identity-mapped text, so turning the MMU off changes no address. No store
/// between the first cache maintenance and MMU off. TPIDR_EL1 = 0: an exception from here on only powers off.
///
/// # Safety
/// `args` says what to destroy; nothing of it is used afterwards.
#[unsafe(naked)]
#[unsafe(link_section = ".head.text")]
unsafe extern "C" fn leave(args: *const JumpArgs) -> ! {
    naked_asm!(
        "msr daifset, #0xf",
        "mov x9, #{state_early}",
        "msr tpidr_el1, x9",
        "mov x19, x0",
        // Cache maintenance 5.
        "add x1, x19, #{args_size}",
        "bl {civac}",
        "ldr x9, ={sctlr_off_icache}",
        "msr sctlr_el1, x9",
        "isb",
        "ldp x20, x21, [x19]",
        "ldp x22, x23, [x19, #{data}]",
        "ldp x24, x25, [x19, #{tables}]",
        "ldr x27, [x19, #{count}]",
        "add x26, x19, #{ranges}",
        // Cache maintenance 6.
        "1:",
        "ldp x0, x1, [x26], #16",
        "bl {civac}",
        "subs x27, x27, #1",
        "b.ne 1b",
        // Wipe, and cache maintenance 7.
        "mov x0, x22",
        "mov x1, x23",
        "bl {zero}",
        "mov x0, x24",
        "mov x1, x25",
        "bl {zero}",
        "dsb sy",
        "mov x0, x22",
        "mov x1, x23",
        "bl {civac}",
        "mov x0, x24",
        "mov x1, x25",
        "bl {civac}",
        // Cache maintenance 8.
        "ldr x9, ={sctlr_off}",
        "msr sctlr_el1, x9",
        "isb",
        "ic iallu",
        "tlbi vmalle1",
        "dsb sy",
        "isb",
        // System registers.
        "clrex",
        "msr vbar_el1, xzr",
        "msr ttbr0_el1, xzr",
        "msr ttbr1_el1, xzr",
        "msr tcr_el1, xzr",
        "msr mair_el1, xzr",
        "msr far_el1, xzr",
        "msr esr_el1, xzr",
        "msr tpidr_el0, xzr",
        "msr tpidrro_el0, xzr",
        "msr elr_el1, x20",
        "mov x9, #{spsr}",
        "msr spsr_el1, x9",
        // Vector registers, then FP off.
        "msr fpcr, xzr",
        "msr fpsr, xzr",
        ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        "movi v\\n\\().2d, #0",
        ".endr",
        "msr cpacr_el1, xzr",
        // General registers.
        "mov x0, x21",
        ".irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30",
        "mov x\\n, xzr",
        ".endr",
        "mov sp, x1",
        "isb",
        "eret",
        ".ltorg",
        state_early = const exceptions::STATE_EARLY,
        civac = sym cache::clean_invalidate,
        zero = sym entry::zero,
        args_size = const size_of::<JumpArgs>(),
        data = const offset_of!(JumpArgs, data),
        tables = const offset_of!(JumpArgs, tables),
        count = const offset_of!(JumpArgs, count),
        ranges = const offset_of!(JumpArgs, ranges),
        sctlr_off_icache = const mmu::SCTLR_OFF_ICACHE,
        sctlr_off = const mmu::SCTLR_OFF,
        spsr = const PAYLOAD_SPSR,
    )
}
