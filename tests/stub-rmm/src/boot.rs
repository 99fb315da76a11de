//! From reset to Rust: stack, .bss, vectors, the stub's own identity map at EL2; and the way into the realm and back.
//!
//! No Rust runs before MMU and caches are on (atomics and unaligned accesses need Normal memory). Other CPUs stay off in
//! QEMU's PSCI until [`crate::cpu::start`] starts them.

use crate::exceptions::Frame;
use crate::layout::STACK_TOP;
use core::arch::{global_asm, naked_asm};
use core::mem::offset_of;

/// SCTLR_EL2: RES1 bits, I, C and M.
const SCTLR: u64 = 0x30c5_0830 | (1 << 12) | (1 << 2) | 1;
/// TCR_EL2: RES1 bits, T0SZ = 16, 4 KiB granule, inner shareable, write-back, 44-bit PA.
const TCR: u64 = 0x8080_0000 | (4 << 16) | (3 << 12) | (1 << 10) | (1 << 8) | 16;
/// MAIR_EL2: attribute 0 Device-nGnRE, attribute 1 Normal write-back.
const MAIR: u64 = 0xff04;
/// Level-1 block descriptor: device, never executable.
const BLOCK_DEVICE: u64 = 0x0040_0000_0000_0401;
/// Level-1 block descriptor: Normal, inner shareable.
const BLOCK_NORMAL: u64 = 0x0000_0000_0000_0705;
/// CPTR_EL2: RES1 bits; SVE and SME trap, floating point does not.
const CPTR: u64 = 0x33ff;

// Identity map: 0-1 GiB device, 1-256 GiB RAM, the rest up to 1 TiB (ECAM and the high PCI window) device.
global_asm!(
    ".section .data.tables, \"aw\"",
    ".balign 4096",
    "stub_l0: .quad stub_l1_low + 3",
    ".quad stub_l1_high + 3",
    ".fill 510, 8, 0",
    "stub_l1_low: .quad {device}",
    ".set gb, 1",
    ".rept 255",
    ".quad (gb << 30) + {normal}",
    ".set gb, gb + 1",
    ".endr",
    ".rept 256",
    ".quad (gb << 30) + {device}",
    ".set gb, gb + 1",
    ".endr",
    "stub_l1_high:",
    ".rept 512",
    ".quad (gb << 30) + {device}",
    ".set gb, gb + 1",
    ".endr",
    ".text",
    device = const BLOCK_DEVICE,
    normal = const BLOCK_NORMAL,
);

/// The entry point of the ELF: EL2, MMU off.
///
/// In: nothing. Out: jumps to `rust` with the MMU on. Uses the stack from its top.
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".text.boot")]
extern "C" fn stub_entry() -> ! {
    naked_asm!(
        "mrs x0, CurrentEL",
        "cmp x0, #8",
        "b.ne 9f",
        "adrp x0, stub_bss_start",
        "add x0, x0, :lo12:stub_bss_start",
        "adrp x1, stub_bss_end",
        "add x1, x1, :lo12:stub_bss_end",
        "1: cmp x0, x1",
        "b.hs 2f",
        "stp xzr, xzr, [x0], #16",
        "b 1b",
        "2: ldr x19, ={stack}",
        "adrp x20, {rust}",
        "add x20, x20, :lo12:{rust}",
        "b {mmu_on}",
        // Not at EL2 (`virtualization=on` is missing): leave with QEMU exit status 20.
        "9: adr x1, 8f",
        "mov w0, #0x20",
        "hlt #0xf000",
        "b .",
        ".balign 8",
        "8: .quad 0x20026, 20",
        stack = const STACK_TOP,
        rust = sym crate::stub_main,
        mmu_on = sym mmu_on,
    )
}

/// Where PSCI CPU_ON starts another CPU: EL2, MMU off. In: x0 = top of its stack.
#[unsafe(naked)]
#[unsafe(link_section = ".text.boot")]
pub extern "C" fn second_entry() -> ! {
    naked_asm!(
        "mov x19, x0",
        "adrp x20, {rust}",
        "add x20, x20, :lo12:{rust}",
        "b {mmu_on}",
        rust = sym crate::second_main,
        mmu_on = sym mmu_on,
    )
}

/// Sets this CPU's EL2 up and jumps. In: x19 = stack pointer, x20 = Rust function. No stack.
#[unsafe(naked)]
#[unsafe(link_section = ".text.boot")]
extern "C" fn mmu_on() -> ! {
    naked_asm!(
        "msr SPSel, #1",
        "msr DAIFSet, #15",
        "ldr x0, ={cptr}",
        "msr CPTR_EL2, x0",
        "adrp x0, stub_vectors",
        "add x0, x0, :lo12:stub_vectors",
        "msr VBAR_EL2, x0",
        "isb",
        "ldr x0, ={mair}",
        "msr MAIR_EL2, x0",
        "ldr x0, ={tcr}",
        "msr TCR_EL2, x0",
        "adrp x0, stub_l0",
        "msr TTBR0_EL2, x0",
        "dsb ish",
        "tlbi alle2",
        "dsb ish",
        "isb",
        "ldr x0, ={sctlr}",
        "msr SCTLR_EL2, x0",
        "isb",
        "mov sp, x19",
        "mov x29, xzr",
        "mov x30, xzr",
        "br x20",
        cptr = const CPTR,
        mair = const MAIR,
        tcr = const TCR,
        sctlr = const SCTLR,
    )
}

/// The vector table at EL2, behind padding: `stub_vectors` is its address. Everything from the realm goes to
/// `from_realm`, everything else is a fault of the stub.
#[unsafe(naked)]
#[unsafe(link_section = ".text.boot")]
#[unsafe(no_mangle)]
extern "C" fn stub_vector_table() {
    naked_asm!(
        ".balign 2048",
        ".global stub_vectors",
        ".hidden stub_vectors",
        "stub_vectors:",
        ".rept 8",
        "b {own}",
        ".balign 128",
        ".endr",
        "b {realm}",
        ".balign 128",
        ".rept 7",
        "b {own}",
        ".balign 128",
        ".endr",
        own = sym own_fault,
        realm = sym from_realm,
    )
}

/// An exception that must not happen: a fault of the stub itself, or an interrupt routed to EL2.
#[unsafe(naked)]
extern "C" fn own_fault() {
    naked_asm!(
        "mrs x0, ESR_EL2",
        "mrs x1, ELR_EL2",
        "mrs x2, FAR_EL2",
        "b {report}",
        report = sym crate::exceptions::own_fault,
    )
}

/// A synchronous exception of the realm.
///
/// Saves every general and SIMD register into a [`Frame`] on the stack, calls the handler, restores, returns.
#[unsafe(naked)]
extern "C" fn from_realm() {
    naked_asm!(
        "sub sp, sp, #{size}",
        "stp x0, x1, [sp, #0]",
        "stp x2, x3, [sp, #16]",
        "stp x4, x5, [sp, #32]",
        "stp x6, x7, [sp, #48]",
        "stp x8, x9, [sp, #64]",
        "stp x10, x11, [sp, #80]",
        "stp x12, x13, [sp, #96]",
        "stp x14, x15, [sp, #112]",
        "stp x16, x17, [sp, #128]",
        "stp x18, x19, [sp, #144]",
        "stp x20, x21, [sp, #160]",
        "stp x22, x23, [sp, #176]",
        "stp x24, x25, [sp, #192]",
        "stp x26, x27, [sp, #208]",
        "stp x28, x29, [sp, #224]",
        "mrs x1, ELR_EL2",
        "mrs x2, SPSR_EL2",
        "stp x30, x1, [sp, #240]",
        "mrs x3, FPCR",
        "stp x2, x3, [sp, #256]",
        "mrs x4, FPSR",
        "str x4, [sp, #272]",
        "add x5, sp, #{simd}",
        "stp q0, q1, [x5, #0]",
        "stp q2, q3, [x5, #32]",
        "stp q4, q5, [x5, #64]",
        "stp q6, q7, [x5, #96]",
        "stp q8, q9, [x5, #128]",
        "stp q10, q11, [x5, #160]",
        "stp q12, q13, [x5, #192]",
        "stp q14, q15, [x5, #224]",
        "stp q16, q17, [x5, #256]",
        "stp q18, q19, [x5, #288]",
        "stp q20, q21, [x5, #320]",
        "stp q22, q23, [x5, #352]",
        "stp q24, q25, [x5, #384]",
        "stp q26, q27, [x5, #416]",
        "stp q28, q29, [x5, #448]",
        "stp q30, q31, [x5, #480]",
        "msr FPCR, xzr",
        "mov x0, sp",
        "mov x29, xzr",
        "bl {handler}",
        "mov x0, sp",
        "add x1, sp, #{size}",
        "b {resume}",
        size = const size_of::<Frame>(),
        simd = const offset_of!(Frame, simd),
        handler = sym crate::exceptions::from_realm,
        resume = sym resume,
    )
}

/// Loads every register from the frame at x0, puts the stack pointer to the stack's top (x1), and returns to the realm.
///
/// # Safety
///
/// Stage 2 and all EL1 state must be set up; nothing on the stack is used again.
#[unsafe(naked)]
pub unsafe extern "C" fn resume(frame: *const Frame, top: u64) -> ! {
    naked_asm!(
        "mov sp, x1",
        "add x5, x0, #{simd}",
        "ldp q0, q1, [x5, #0]",
        "ldp q2, q3, [x5, #32]",
        "ldp q4, q5, [x5, #64]",
        "ldp q6, q7, [x5, #96]",
        "ldp q8, q9, [x5, #128]",
        "ldp q10, q11, [x5, #160]",
        "ldp q12, q13, [x5, #192]",
        "ldp q14, q15, [x5, #224]",
        "ldp q16, q17, [x5, #256]",
        "ldp q18, q19, [x5, #288]",
        "ldp q20, q21, [x5, #320]",
        "ldp q22, q23, [x5, #352]",
        "ldp q24, q25, [x5, #384]",
        "ldp q26, q27, [x5, #416]",
        "ldp q28, q29, [x5, #448]",
        "ldp q30, q31, [x5, #480]",
        "ldr x4, [x0, #272]",
        "msr FPSR, x4",
        "ldp x2, x3, [x0, #256]",
        "msr FPCR, x3",
        "msr SPSR_EL2, x2",
        "ldp x30, x1, [x0, #240]",
        "msr ELR_EL2, x1",
        "ldp x2, x3, [x0, #16]",
        "ldp x4, x5, [x0, #32]",
        "ldp x6, x7, [x0, #48]",
        "ldp x8, x9, [x0, #64]",
        "ldp x10, x11, [x0, #80]",
        "ldp x12, x13, [x0, #96]",
        "ldp x14, x15, [x0, #112]",
        "ldp x16, x17, [x0, #128]",
        "ldp x18, x19, [x0, #144]",
        "ldp x20, x21, [x0, #160]",
        "ldp x22, x23, [x0, #176]",
        "ldp x24, x25, [x0, #192]",
        "ldp x26, x27, [x0, #208]",
        "ldp x28, x29, [x0, #224]",
        "ldp x0, x1, [x0, #0]",
        "eret",
        simd = const offset_of!(Frame, simd),
    )
}
