//! Exception vectors. No exception of ours ever returns: each one is reported and ends in SYSTEM_OFF.
//!
//! A synchronous external abort on a device access (RIPAS EMPTY, a refused emulation) is one of them: the firmware asks
//! the RMM before it touches an address, so an abort means that the host or the device changed under it.
//! Interrupts and SError are masked from the first to the last instruction; one that comes all the same has a code of its own.
//!
//! TPIDR_EL1 says how far we are: [`STATE_EARLY`], [`STATE_RUST`], [`STATE_REPORTING`].

use super::{console, entry, image, smc};
use crate::abi::image::LinuxHeader;
use crate::codes::StopCode;
use aarch64_cpu::registers::ESR_EL1;
use core::arch::naked_asm;
use core::mem::offset_of;
use tock_registers::LocalRegisterCopy;

/// Before Rust runs, and during the jump: only power off.
pub const STATE_EARLY: u64 = 0;
/// Stack and console may be used.
pub const STATE_RUST: u64 = 1;
/// An exception or a panic is being reported; another one only powers off.
pub const STATE_REPORTING: u64 = 2;

/// The vector table: 16 entries of 128 bytes, 2 KiB aligned by the linker script. Each entry passes its number in x0.
#[unsafe(naked)]
#[unsafe(link_section = ".vectors")]
pub(super) extern "C" fn vectors() {
    naked_asm!(
        ".set .Lvector, 0",
        ".rept 16",
        ".balign 128",
        "mov x0, #.Lvector",
        "b {common}",
        ".set .Lvector, .Lvector + 1",
        ".endr",
        common = sym common,
    )
}

/// Common part of all vectors. In: x0 = vector number. The interrupted code is never resumed, so every register is
/// free and the report may reuse the stack from its top (it may be the stack that overflowed).
#[unsafe(naked)]
extern "C" fn common() {
    naked_asm!(
        "mrs x9, tpidr_el1",
        "cmp x9, #{rust}",
        "b.ne 1f",
        "mov x9, #{reporting}",
        "msr tpidr_el1, x9",
        "isb",
        // The stack's top is where the tables begin: image_size in the header says where they end.
        "adr x9, __image_start",
        "ldr x10, [x9, #{image_size}]",
        "add x9, x9, x10",
        "sub sp, x9, #{tables_size}",
        "mrs x1, esr_el1",
        "mrs x2, elr_el1",
        "mrs x3, far_el1",
        "mov x4, x30",
        "mov x29, xzr",
        "mov x30, xzr",
        "b {report}",
        "1:",
        "mrs x2, esr_el1",
        "mrs x3, elr_el1",
        "adr x4, __image_start",
        "sub x3, x3, x4",
        "mov x1, #{nested}",
        "cbnz x9, {stop}",
        "mov x1, #{early}",
        "b {stop}",
        image_size = const offset_of!(LinuxHeader, image_size),
        tables_size = const image::TABLES_SIZE,
        rust = const STATE_RUST,
        reporting = const STATE_REPORTING,
        nested = const StopCode::ReportNested.number(),
        early = const StopCode::ExceptionEarly.number(),
        report = sym report,
        stop = sym entry::stop,
    )
}

/// Prints the exception on a fresh console, if there is one, and powers off.
extern "C" fn report(vector: u64, esr: u64, elr: u64, far: u64, lr: u64) -> ! {
    let base = image::base();
    let class: LocalRegisterCopy<u64, ESR_EL1::Register> = LocalRegisterCopy::new(esr);
    // Four groups of four: synchronous, IRQ, FIQ, SError.
    let code = match vector % 4 {
        0 if image::stack_guard().contains(&far) && class.matches_all(ESR_EL1::EC::DataAbortCurrentEL) => {
            StopCode::StackOverflow
        }
        0 => StopCode::Exception,
        3 => StopCode::SError,
        _ => StopCode::Interrupt,
    };
    console::print_unlocked(format_args!(
        "EXCEPTION {code}: vector {vector} class {:#x} esr {esr:#x} at image+{:#x} from image+{:#x} far {far:#x}\n",
        class.read(ESR_EL1::EC),
        elr.wrapping_sub(base),
        lr.wrapping_sub(base),
    ));
    #[cfg(gatehouse_fault)]
    super::fault::in_report();
    smc::system_off_with(code, esr, elr.wrapping_sub(base))
}
