//! A build with `--cfg gatehouse_fault` only: the firmware breaks in the way that `gatehouse.fault=WORD` of the bundle's
//! command line names, so that a boot test sees how it ends. It also measures what stack and heap need, and plants
//! canaries that the payload must not find.
//!
//! Trust: none. Whoever packs the bundle chooses the fault; `scripts/check` refuses an image with [`BANNER`] in it.

use super::image::Layout;
use super::{exceptions, smc};
use crate::addr::IpaRange;
use crate::boot::bundle::Bundle;
use aarch64_cpu::registers::{DAIF, TPIDR_EL1};
use alloc::vec::Vec;
use buddy_system_allocator::LockedHeap;
use core::alloc::{GlobalAlloc, Layout as Allocation};
use core::arch::asm;
use core::fmt;
use core::hint::black_box;
use core::mem;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tock_registers::interfaces::{Readable, Writeable};

/// What such an image says of itself; the harness looks for it (tests/harness/src/sizes.rs).
const BANNER: &str = "TEST BUILD (gatehouse_fault): its command line can break it, never use it";
/// The word of the command line.
const WORD: &str = "gatehouse.fault=";
/// An SMC that only the stub RMM takes: x1 = 0: SError, 1: IRQ, 2: FIQ become pending (tests/stub-rmm/src/shell.rs).
const SMC_PEND: u32 = 0xc600_fa00;
/// What the stack is filled with before it is used.
const PAINT: u64 = 0x5041_494e_5453_5441;
/// Half of the canary; the other half is its complement turned by [`TURN`]. Only memory that one is planted in holds it whole
/// (tests/payload/src/leftovers.rs).
const CANARY_HALF: u32 = 0x6761_7465;
const TURN: u32 = 7;

/// The report of an exception breaks too: 1 by an exception, 2 by a panic.
static IN_REPORT: AtomicUsize = AtomicUsize::new(0);
/// Canaries are planted.
static PLANT: AtomicBool = AtomicBool::new(false);
static HEAP_PEAK: AtomicUsize = AtomicUsize::new(0);
/// One for the wipe of data and bss.
static mut IN_BSS: [u64; 4] = [0; 4];

/// The allocator, and the most that was ever taken of it.
pub(super) struct Counted<const ORDER: usize>(pub(super) LockedHeap<ORDER>);

// SAFETY: the inner allocator's answers, unchanged.
unsafe impl<const ORDER: usize> GlobalAlloc for Counted<ORDER> {
    unsafe fn alloc(&self, layout: Allocation) -> *mut u8 {
        // SAFETY: the caller's contract.
        let address = unsafe { self.0.alloc(layout) };
        HEAP_PEAK.fetch_max(self.0.lock().stats_alloc_actual(), Ordering::Relaxed);
        address
    }

    unsafe fn dealloc(&self, address: *mut u8, layout: Allocation) {
        // SAFETY: the caller's contract.
        unsafe { self.0.dealloc(address, layout) }
    }
}

/// Writes a word where no Rust object is, or one that nothing reads.
fn poke(address: u64, value: u64) {
    // SAFETY: each caller names mapped memory that no reference exists to. This file breaks things on purpose.
    unsafe { ptr::with_exposed_provenance_mut::<u64>(address as usize).write_volatile(value) }
}

fn peek(address: u64) -> u64 {
    // SAFETY: as for `poke`.
    unsafe { ptr::with_exposed_provenance::<u64>(address as usize).read_volatile() }
}

/// Fills the part of the stack that nothing has used yet.
pub(super) fn paint(layout: &Layout) {
    let here = (&raw const *layout).addr() as u64;
    // Two KiB for this function and what it calls.
    for address in (layout.stack().base()..here - 2048).step_by(8) {
        poke(address, PAINT);
    }
}

/// Says what the boot needed of stack and heap, in bytes; nothing once canaries lie there.
pub(super) fn usage(layout: &Layout) {
    if PLANT.load(Ordering::Relaxed) {
        return;
    }
    let stack = layout.stack();
    let deepest = (stack.base()..stack.top()).step_by(8).find(|address| peek(*address) != PAINT);
    log::info!(
        "usage stack={}/{} heap={}/{}",
        stack.top() - deepest.unwrap_or(stack.top()),
        stack.len_bytes(),
        HEAP_PEAK.load(Ordering::Relaxed),
        layout.heap().len_bytes(),
    );
}

fn canary() -> u64 {
    let half = black_box(CANARY_HALF);
    u64::from(half) << 32 | u64::from(!half.rotate_left(TURN))
}

/// Plants canaries at `address`, when that is the fault.
fn plant(address: u64) {
    if PLANT.load(Ordering::Relaxed) {
        (0..4).for_each(|word| poke(address + 8 * word, canary()));
    }
}

/// Plants some in a shared window, at both ends: before the host has it, and when it came back.
pub(super) fn plant_in(range: &IpaRange, alias: u64) {
    plant(range.base() | alias);
    plant((range.top() - 32) | alias);
}

/// Plants them wherever the firmware writes, and from now on in shared windows.
fn plant_everywhere(layout: &Layout) {
    PLANT.store(true, Ordering::Relaxed);
    for len in [4usize, 64, 512, 100_000] {
        // Kept for good, as a copy of something that is never freed would be.
        mem::forget(core::iter::repeat_n(canary(), len).collect::<Vec<u64>>());
        // And freed.
        drop(black_box(core::iter::repeat_n(canary(), len).collect::<Vec<u64>>()));
    }
    // The last pages of heap and tables, the deepest of the stack, and bss.
    plant(layout.heap().top() - 64);
    plant(layout.tables().top() - 64);
    plant(layout.stack().base() + 64);
    plant((&raw mut IN_BSS).expose_provenance() as u64);
    // Registers that the payload could read.
    // SAFETY: nothing uses them.
    unsafe { asm!("msr tpidr_el0, {0}", "msr tpidrro_el0, {0}", in(reg) canary(), options(nostack)) };
}

/// Uses up the stack, with frames smaller than a page.
#[expect(unconditional_recursion, reason = "the fault")]
#[inline(never)]
fn dig(depth: u64) -> u64 {
    let frame = black_box([depth; 16]);
    dig(depth + 1) + frame[(depth % 16) as usize]
}

/// Cannot be printed: panics or reads address 0.
struct Breaks(bool);

impl fmt::Display for Breaks {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        assert!(!self.0, "while a panic is printed");
        peek(0);
        Ok(())
    }
}

/// What the report of an exception does.
pub(super) fn in_report() {
    match IN_REPORT.load(Ordering::Relaxed) {
        0 => (),
        1 => drop(peek(0)),
        _ => panic!("while an exception is printed"),
    }
}

fn jump_to(address: u64) {
    // SAFETY: none: it is what must fault.
    unsafe { asm!("blr {}", in(reg) address, clobber_abi("C")) }
}

/// Makes an SError or an interrupt pending, and takes it if `unmask`.
fn pend(what: u64, unmask: bool) {
    let mut args = [0; 17];
    args[0] = what;
    // SAFETY: takes no memory.
    let _ = unsafe { smc::smc64(SMC_PEND, args) };
    if unmask {
        DAIF.set(0);
        // SAFETY: waits for what is pending.
        unsafe { asm!("isb", "dsb sy", "isb", options(nostack)) };
    }
}

/// Breaks what the command line names. Called when the bundle has been read, with the console open.
pub(crate) fn at_bundle(bundle: &Bundle<'_>) {
    log::warn!("{BANNER}");
    let part = bundle.cmdline.clone().and_then(|part| part.verify().ok());
    let words =
        part.as_ref().and_then(|part| core::str::from_utf8(part.command_line()).ok()).unwrap_or_default();
    let Some(fault) = words.split_whitespace().find_map(|word| word.strip_prefix(WORD)) else { return };
    let Ok(layout) = Layout::read() else { return };
    log::warn!("fault: {fault}");
    assert!(TPIDR_EL1.get() == exceptions::STATE_RUST, "no state for a fault");
    let ret = 0xd65f_03c0_u32;
    match fault {
        "canaries" => return plant_everywhere(&layout),
        "serror-masked" => return pend(0, false),
        "irq-masked" => return pend(1, false),
        "stack-guard" => drop(black_box(dig(0))),
        "null" => drop(peek(0)),
        "unaligned-exclusive" => {
            // A pair: single registers may be unaligned inside 16 bytes on some CPUs.
            let words = black_box([0u64; 4]);
            let address = (words.as_ptr().addr() & !15) + 8;
            // SAFETY: an exclusive load inside `words`; that it is not aligned is the fault.
            unsafe {
                asm!("ldxp {0}, {1}, [{2}]", "clrex", out(reg) _, out(reg) _, in(reg) address, options(nostack));
            }
        }
        "execute-heap" => {
            let code = alloc::vec![u64::from(ret); 8];
            jump_to(code.as_ptr().expose_provenance() as u64);
        }
        "execute-stack" => {
            let code = black_box([u64::from(ret); 8]);
            jump_to(code.as_ptr().expose_provenance() as u64);
        }
        "execute-constants" => jump_to(layout.rodata().base()),
        "execute-bundle" => jump_to(layout.bundle_range().map_or(0, |range| range.base())),
        "write-text" => poke(layout.text().base() + 64, 0),
        "write-constants" => poke(layout.rodata().base(), 0),
        "write-bundle" => poke(layout.bundle_range().map_or(0, |range| range.base()), 0),
        "exception-in-exception" | "panic-in-exception" => {
            IN_REPORT.store(if fault.starts_with('e') { 1 } else { 2 }, Ordering::Relaxed);
            drop(peek(0));
        }
        "panic" => panic!("on purpose"),
        "panic-in-panic" => panic!("{}", Breaks(true)),
        "exception-in-panic" => panic!("{}", Breaks(false)),
        "overflow" => drop(black_box(black_box(usize::MAX) + 1)),
        "heap" => {
            let mut all = Vec::new();
            loop {
                all.push(alloc::vec![0u8; 1 << 16]);
            }
        }
        "serror" => pend(0, true),
        "irq" => pend(1, true),
        "fiq" => pend(2, true),
        _ => log::error!("no such fault"),
    }
    log::error!("fault: {fault} had no effect");
}
