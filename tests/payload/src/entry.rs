//! Image header, first instructions, exception vectors, panics: everything up to [`start`], and every way out.

use crate::memory::Range;
use crate::mmio::Mmio;
use crate::{checks, console, cpu, rsi, tree};
use aarch64_cpu::registers::CPACR_EL1;
use core::arch::naked_asm;
use core::mem::offset_of;

/// Magic number of the Linux header, "ARM\x64".
const LINUX_MAGIC: u32 = u32::from_le_bytes(*b"ARM\x64");
/// Header flags: little-endian, 4 KiB pages (bits 2:1 = 1), placed anywhere (bit 3).
const HEADER_FLAGS: u64 = 1 << 1 | 1 << 3;
/// Bytes covered by one entry of a RELR bitmap word: 63 words (System V ABI, "Relocation", SHT_RELR).
const RELR_BITMAP_SPAN: u64 = 63 * 8;
/// PSCI SYSTEM_OFF (DEN0022).
const PSCI_SYSTEM_OFF: u32 = 0x8400_0008;

/// TPIDR_EL1: no console yet; an exception only powers off.
const STATE_EARLY: u64 = 0;
/// TPIDR_EL1: console and stack may be used.
const STATE_CONSOLE: u64 = 1;
/// TPIDR_EL1: an exception is being reported.
const STATE_REPORTING: u64 = 2;

/// The general registers as they were at the first instruction.
#[repr(C)]
pub struct BootRegisters {
    /// x0 to x30.
    pub x: [u64; 31],
    /// Stack pointer.
    pub sp: u64,
    /// All bits that any of v0 to v31 has.
    pub v: [u64; 2],
}

const _: () = assert!(size_of::<BootRegisters>() == 272 && offset_of!(BootRegisters, sp) == 248);
const _: () = assert!(offset_of!(BootRegisters, v) == 256);

/// The Linux arm64 header (Linux Documentation/arch/arm64/booting.rst).
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".head")]
extern "C" fn _start() {
    naked_asm!(
        "b {entry}",
        ".word 0",
        ".quad 0",
        ".quad __header_image_size",
        ".quad {flags}",
        ".quad 0, 0, 0",
        ".word {magic}",
        ".word 0",
        entry = sym entry,
        flags = const HEADER_FLAGS,
        magic = const LINUX_MAGIC,
    )
}

/// Entry proper. In: by the Linux boot protocol, EL1, MMU off, no stack. Keeps all general registers, and what the vector
/// registers have, at the top of the stack, relocates the image, zeroes .bss, switches FP on and calls `start(registers)`. DAIF and SCTLR_EL1 stay.
#[unsafe(naked)]
extern "C" fn entry() {
    naked_asm!(
        // TPIDR_EL1 is the only scratch that is no general register.
        "msr tpidr_el1, x30",
        "adrp x30, __stack_top",
        "add x30, x30, :lo12:__stack_top",
        "sub x30, x30, #{registers}",
        // No stale line may be written back over what is stored next: 16 bytes is the smallest line.
        ".rept {registers} / 16",
        "dc civac, x30",
        "add x30, x30, #16",
        ".endr",
        "dsb sy",
        "sub x30, x30, #{registers}",
        "stp x0, x1, [x30, #0]",
        "stp x2, x3, [x30, #16]",
        "stp x4, x5, [x30, #32]",
        "stp x6, x7, [x30, #48]",
        "stp x8, x9, [x30, #64]",
        "stp x10, x11, [x30, #80]",
        "stp x12, x13, [x30, #96]",
        "stp x14, x15, [x30, #112]",
        "stp x16, x17, [x30, #128]",
        "stp x18, x19, [x30, #144]",
        "stp x20, x21, [x30, #160]",
        "stp x22, x23, [x30, #176]",
        "stp x24, x25, [x30, #192]",
        "stp x26, x27, [x30, #208]",
        "stp x28, x29, [x30, #224]",
        "mrs x0, tpidr_el1",
        "mov x1, sp",
        "stp x0, x1, [x30, #240]",
        "mov x20, x30",

        "msr tpidr_el1, xzr",
        "adrp x9, {vectors}",
        "add x9, x9, :lo12:{vectors}",
        "msr vbar_el1, x9",
        "mov x9, #{fpen}",
        "msr cpacr_el1, x9",
        "isb",
        ".irp n, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        "orr v0.16b, v0.16b, v\\n\\().16b",
        ".endr",
        "str q0, [x20, #256]",

        // The image with .bss and stack: nothing of it stays in a cache.
        "adrp x19, __image_start",
        "mov x0, x19",
        "adrp x1, __image_end",
        "add x1, x1, :lo12:__image_end",
        "bl {civac}",

        // Relocate: every word that the RELR bitmap names gets the image base added.
        // An even entry is the address of a word; an odd one says which of the next 63 words to relocate.
        "adrp x9, __relr_start",
        "add x9, x9, :lo12:__relr_start",
        "adrp x10, __relr_end",
        "add x10, x10, :lo12:__relr_end",
        "1:",
        "cmp x9, x10",
        "b.hs 2f",
        "ldr x11, [x9], #8",
        "tbnz x11, #0, 5f",
        "add x12, x11, x19",
        "ldr x13, [x12]",
        "add x13, x13, x19",
        "str x13, [x12], #8",
        "b 1b",
        "5:",
        "mov x14, x12",
        "6:",
        "lsr x11, x11, #1",
        "cbz x11, 8f",
        "tbz x11, #0, 7f",
        "ldr x13, [x14]",
        "add x13, x13, x19",
        "str x13, [x14]",
        "7:",
        "add x14, x14, #8",
        "b 6b",
        "8:",
        "add x12, x12, #{relr_span}",
        "b 1b",
        "2:",

        "adrp x9, __bss_start",
        "add x9, x9, :lo12:__bss_start",
        "adrp x10, __bss_end",
        "add x10, x10, :lo12:__bss_end",
        "3:",
        "cmp x9, x10",
        "b.hs 4f",
        "stp xzr, xzr, [x9], #16",
        "b 3b",
        "4:",
        "ic iallu",
        "dsb sy",
        "isb",

        "mov sp, x20",
        "mov x0, x20",
        "mov x29, xzr",
        "mov x30, xzr",
        "b {start}",
        registers = const size_of::<BootRegisters>(),
        vectors = sym vectors,
        fpen = const CPACR_EL1::FPEN::TrapNothing.value,
        civac = sym cpu::clean_invalidate,
        relr_span = const RELR_BITMAP_SPAN,
        start = sym start,
    )
}

/// The vector table: 16 entries of 128 bytes, 2 KiB aligned by the linker script.
#[unsafe(naked)]
#[unsafe(link_section = ".vectors")]
extern "C" fn vectors() {
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

/// Common part of all vectors. In: x0 = vector number. Returns for a probe only, and then touches x0 and x9 alone; else
/// it may take the stack from its top, which may be what overflowed.
#[unsafe(naked)]
extern "C" fn common() {
    naked_asm!(
        "mrs x9, tpidr_el1",
        "cmp x9, #{probing}",
        "b.ne 1f",
        "adrp x9, {aborted}",
        "add x9, x9, :lo12:{aborted}",
        "msr elr_el1, x9",
        "eret",
        "1:",
        "cmp x9, #{console}",
        "b.ne {off}",
        "mov x9, #{reporting}",
        "msr tpidr_el1, x9",
        "isb",
        "adrp x9, __stack_top",
        "add x9, x9, :lo12:__stack_top",
        "mov sp, x9",
        "mrs x1, esr_el1",
        "mrs x2, elr_el1",
        "mrs x3, far_el1",
        "mov x29, xzr",
        "mov x30, xzr",
        "b {report}",
        probing = const cpu::STATE_PROBING,
        aborted = sym cpu::probe_aborted,
        console = const STATE_CONSOLE,
        reporting = const STATE_REPORTING,
        off = sym power_off,
        report = sym report,
    )
}

/// PSCI SYSTEM_OFF with x1 = 0 (stop codes in x1 are the firmware's), then waits for ever. Uses no stack.
#[unsafe(naked)]
pub extern "C" fn power_off() -> ! {
    naked_asm!(
        "movz x0, #{low}",
        "movk x0, #{high}, lsl #16",
        "mov x1, xzr",
        "mov x2, xzr",
        "mov x3, xzr",
        "smc #0",
        "1:",
        "wfi",
        "b 1b",
        low = const PSCI_SYSTEM_OFF & 0xffff,
        high = const PSCI_SYSTEM_OFF >> 16,
    )
}

/// Prints an exception and powers off.
extern "C" fn report(vector: u64, esr: u64, elr: u64, far: u64) -> ! {
    console::print(format_args!(
        "RESULT exception fail esr={esr:#x} elr=image+{:#x} far={far:#x} vector={vector}\n",
        elr.wrapping_sub(image().base),
    ));
    power_off()
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    console::print(format_args!("RESULT panic fail\nPANIC {info}\n"));
    power_off()
}

/// The image with .bss and stack.
pub fn image() -> Range {
    unsafe extern "C" {
        safe static __image_start: [u8; 0];
        safe static __image_end: [u8; 0];
    }
    Range { base: (&raw const __image_start) as u64, top: (&raw const __image_end) as u64 }
}

/// First Rust code. A tree without a usable console leaves nothing to say: power off; the missing lines tell.
extern "C" fn start(registers: &BootRegisters) -> ! {
    let realm = rsi::Realm::open();
    let Some(tree) = tree::Tree::at(registers.x[0]) else { power_off() };
    let Some(uart) = tree.console() else { power_off() };
    let window = realm.as_ref().map_or(uart.range, |realm| realm.alias(uart.range));
    let Some(window) = Mmio::new(window, &tree) else { power_off() };
    console::init(window, uart.is_16550);
    cpu::set_thread_register(STATE_CONSOLE);
    checks::run(&checks::Context::new(registers, realm, &tree));
    console::print(format_args!("RESULT-END\n"));
    power_off()
}

const _: () = assert!(STATE_EARLY == 0, "entry clears TPIDR_EL1");
