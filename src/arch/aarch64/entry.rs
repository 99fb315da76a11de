//! From the VMM's jump to the first Rust instruction.
//!
//! Trust: x0 and the load address come from the host; the image is ours (RIM).
//!
//! Everything here runs with the MMU off, on the first REC, without a stack. The order: EL, first REC, FP, vectors,
//! checks, cache maintenance 1, relocation, `.bss`, early page table, cache maintenance 2 and 3, MMU on, stack.
//!
//! **First REC.** Exclusives and atomics are not defined on the memory type that the MMU-off state gives, so there is
//! no race for a flag: the REC whose MPIDR affinity is 0 goes on. The RMM gives affinity 0 to the REC with index 0
//! and to no other, and every VMM boots on it. Any other that comes here calls PSCI CPU_OFF. A REC that the host made
//! runnable with another PC, or enters only after the hand-over, never comes here: the RIM tells a verifier of it.
//!
//! **Early page table.** One table that can hold any load address: assembly walks a four-level tree (4 KiB granule,
//! 48-bit input) and takes zeroed pages from the start of the tables area at the top of the image area when an
//! entry is empty. It maps the image file by 4 KiB pages, W^X, the heap by 2 MiB blocks, and the last block, which has
//! the stack and the tables as well, by pages again, without the guard page. Rust builds the final table beside it.

use super::image::{STACK_SIZE, TABLES_SIZE};
use super::{cache, exceptions, mmu, start};
use crate::abi::image::{HEAP_SIZE, IMAGE_ALIGN, LINUX_MAGIC, SLOT_MAGIC, SLOT_VERSION};
use crate::codes::StopCode;
use aarch64_cpu::registers::{CPACR_EL1, CurrentEL};
use core::arch::naked_asm;
use smccc::psci::{PSCI_CPU_OFF, PSCI_SYSTEM_OFF};

/// Page tables that the entry code can need: one of level 0; levels 1, 2, 3 for the image; levels 1 and 2 for the
/// heap, twice when it crosses a 1 GiB or 512 GiB border; level 3 for the last block.
pub const EARLY_TABLES: u64 = 9;

/// Bytes of a block of level 2; the area's borders are multiples of it.
const BLOCK: u64 = IMAGE_ALIGN;
const _: () =
    assert!(STACK_SIZE + mmu::PAGE + TABLES_SIZE < BLOCK, "the last block has guard page, stack and tables");
/// Linux header flags: little-endian, 4 KiB pages (bits 2:1 = 1), placed anywhere (bit 3).
const HEADER_FLAGS: u64 = 1 << 1 | 1 << 3;
/// Aff2, Aff1 and Aff0 of MPIDR_EL1; Aff3 is bits 39:32.
const MPIDR_AFF210: u64 = 0xff_ffff;
/// Bytes covered by one entry of a RELR bitmap word: 63 words.
const RELR_BITMAP_SPAN: u64 = 63 * 8;

/// The file's first 128 bytes: Linux arm64 header and slot.
#[unsafe(naked)]
#[unsafe(no_mangle)]
#[unsafe(link_section = ".head")]
extern "C" fn _start() {
    naked_asm!(
        "b {entry}",
        ".word 0",
        ".quad 0",
        ".quad __header_image_size + {heap_size}",
        ".quad {flags}",
        ".quad 0, 0, 0",
        ".word {linux_magic}",
        ".word 0",
        // Slot: magic, version, flags, bundle offset, bundle length, manifest digest.
        ".quad {slot_magic}",
        ".word {slot_version}",
        ".word 0",
        ".quad 0, 0",
        ".quad 0, 0, 0, 0",
        entry = sym entry,
        heap_size = const HEAP_SIZE,
        flags = const HEADER_FLAGS,
        linux_magic = const u32::from_le_bytes(LINUX_MAGIC),
        slot_magic = const u64::from_le_bytes(SLOT_MAGIC),
        slot_version = const SLOT_VERSION,
    )
}

/// Entry proper. In: x0 = device tree, EL1, MMU off. Uses no stack. Calls `start(x0)` and never returns.
///
/// Registers kept: x19 image base, x20 tree, x21 image end, x22 top of the image area, x23 tables area.
#[unsafe(naked)]
#[unsafe(link_section = ".head.text")]
extern "C" fn entry() {
    naked_asm!(
        "msr daifset, #0xf",
        "mov x20, x0",
        "mrs x9, CurrentEL",
        "cmp x9, #{el1}",
        "mov x1, #{not_el1}",
        "b.ne {stop}",

        // Only affinity 0 goes on.
        "mrs x9, mpidr_el1",
        "and x10, x9, #{aff210}",
        "ubfx x9, x9, #32, #8",
        "orr x9, x9, x10",
        "cbnz x9, {cpu_off}",

        // A known state: MMU and caches off, little-endian, SP_EL1; FP and SIMD on.
        "ldr x9, ={sctlr_off}",
        "msr sctlr_el1, x9",
        "msr spsel, #1",
        "mov x9, #{fpen}",
        "msr cpacr_el1, x9",
        "isb",

        // Load address: before this check only `adr` is right.
        "adr x19, __image_start",
        "tst x19, #{image_align} - 1",
        "mov x1, #{misaligned}",
        "b.ne {stop}",

        // Vectors: with TPIDR_EL1 = 0 they only power off.
        "msr tpidr_el1, xzr",
        "adrp x9, {vectors}",
        "add x9, x9, :lo12:{vectors}",
        "msr vbar_el1, x9",
        "isb",

        // image_size: 2 MiB aligned, room for file and heap, inside 48 bits.
        "adrp x21, __image_end",
        "ldr x9, [x19, #16]",
        "mov x1, #{bad_size}",
        "tst x9, #{image_align} - 1",
        "b.ne {stop}",
        "sub x10, x21, x19",
        "mov x11, #{heap_size}",
        "add x10, x10, x11",
        "cmp x9, x10",
        "b.lo {stop}",
        "adds x22, x19, x9",
        "b.cs {stop}",
        "lsr x9, x22, #48",
        "cbnz x9, {stop}",
        "sub x23, x22, #{tables_size}",

        // The tree lies outside [base, top).
        "mov x1, #{tree_inside}",
        "cmp x20, x19",
        "b.lo 1f",
        "cmp x20, x22",
        "b.lo {stop}",
        "1:",

        // Rust is compiled with the SHA-256 instructions (ID_AA64ISAR0_EL1.SHA2, bits 15:12).
        "mrs x9, id_aa64isar0_el1",
        "ubfx x9, x9, #12, #4",
        "mov x1, #{no_sha256}",
        "cbz x9, {stop}",

        // Cache maintenance 1.
        "mov x0, x19",
        "mov x1, x21",
        "bl {civac}",
        "mov x0, x23",
        "add x1, x23, #{early_size}",
        "bl {civac}",

        // Relocate: every word that the RELR bitmap names gets the image base added.
        // An even entry is the address of a word; an odd one says which of the next 63 words to relocate.
        "adrp x9, __relr_start",
        "add x9, x9, :lo12:__relr_start",
        "adrp x10, __relr_end",
        "add x10, x10, :lo12:__relr_end",
        "2:",
        "cmp x9, x10",
        "b.hs 6f",
        "ldr x11, [x9], #8",
        "tbnz x11, #0, 3f",
        "add x12, x19, x11",
        "ldr x13, [x12]",
        "add x13, x13, x19",
        "str x13, [x12], #8",
        "b 2b",
        "3:",
        "mov x14, x12",
        "4:",
        "lsr x11, x11, #1",
        "cbz x11, 5f",
        "tbz x11, #0, 7f",
        "ldr x13, [x14]",
        "add x13, x13, x19",
        "str x13, [x14]",
        "7:",
        "add x14, x14, #8",
        "b 4b",
        "5:",
        "add x12, x12, #{relr_span}",
        "b 2b",
        "6:",

        // Zero .bss and the early tables.
        "adrp x0, __bss_start",
        "add x0, x0, :lo12:__bss_start",
        "adrp x1, __bss_end",
        "bl {zero}",
        "mov x0, x23",
        "add x1, x23, #{early_size}",
        "bl {zero}",

        // Early page table; x24 is the next free table page.
        "add x24, x23, #{page}",
        "mov x0, x19",
        "adrp x1, __text_end",
        "ldr x2, ={text_page}",
        "bl {map_pages}",
        "adrp x1, __data_start",
        "ldr x2, ={rodata_page}",
        "bl {map_pages}",
        "adrp x1, __bss_end",
        "ldr x2, ={data_page}",
        "bl {map_pages}",
        "mov x9, #{heap_size}",
        "sub x0, x22, x9",
        "sub x1, x22, #{block}",
        "ldr x2, ={data_block}",
        "bl {map_blocks}",
        // The last block by pages, because of the guard page.
        "sub x1, x23, #{stack_size} + {page}",
        "ldr x2, ={data_page}",
        "bl {map_pages}",
        "sub x0, x23, #{stack_size}",
        "mov x1, x22",
        "bl {map_pages}",

        // Cache maintenance 2 and 3.
        "mov x0, x19",
        "mov x1, x21",
        "bl {ivac}",
        "mov x0, x23",
        "add x1, x23, #{early_size}",
        "bl {ivac}",
        "tlbi vmalle1",
        "ic iallu",
        "dsb sy",
        "isb",

        // MMU on: output size from ID_AA64MMFR0_EL1.PARange, at most 48 bits.
        "ldr x9, ={mair}",
        "msr mair_el1, x9",
        "ldr x9, ={tcr}",
        "mrs x10, id_aa64mmfr0_el1",
        "and x10, x10, #0xf",
        "mov x11, #{ips48}",
        "cmp x10, x11",
        "csel x10, x10, x11, lo",
        "bfi x9, x10, #{ips_shift}, #3",
        "msr tcr_el1, x9",
        "msr ttbr0_el1, x23",
        "msr ttbr1_el1, xzr",
        "isb",
        "ldr x9, ={sctlr_on}",
        "msr sctlr_el1, x9",
        "isb",

        // From here on exceptions are reported by Rust.
        "mov sp, x23",
        "mov x9, #{state_rust}",
        "msr tpidr_el1, x9",
        "isb",
        "mov x29, xzr",
        "mov x30, xzr",
        "mov x0, x20",
        "b {start}",
        ".ltorg",
        stop = sym stop,
        cpu_off = sym cpu_off,
        vectors = sym exceptions::vectors,
        civac = sym cache::clean_invalidate,
        ivac = sym cache::invalidate,
        zero = sym zero,
        map_pages = sym map_pages,
        map_blocks = sym map_blocks,
        start = sym start,
        el1 = const CurrentEL::EL::EL1.value,
        not_el1 = const StopCode::NotEl1.number(),
        misaligned = const StopCode::MisalignedLoad.number(),
        bad_size = const StopCode::BadImageSize.number(),
        tree_inside = const StopCode::TreeInImage.number(),
        no_sha256 = const StopCode::NoSha256.number(),
        aff210 = const MPIDR_AFF210,
        fpen = const CPACR_EL1::FPEN::TrapNothing.value,
        image_align = const IMAGE_ALIGN,
        heap_size = const HEAP_SIZE,
        tables_size = const TABLES_SIZE,
        stack_size = const STACK_SIZE,
        block = const BLOCK,
        early_size = const EARLY_TABLES * mmu::PAGE,
        page = const mmu::PAGE,
        relr_span = const RELR_BITMAP_SPAN,
        text_page = const mmu::TEXT.bits() | mmu::PAGE_BIT,
        rodata_page = const mmu::RODATA.bits() | mmu::PAGE_BIT,
        data_page = const mmu::DATA.bits() | mmu::PAGE_BIT,
        data_block = const mmu::DATA.bits(),
        mair = const mmu::MAIR,
        tcr = const mmu::TCR,
        ips48 = const mmu::IPS_48,
        ips_shift = const mmu::IPS_SHIFT,
        sctlr_off = const mmu::SCTLR_OFF,
        sctlr_on = const mmu::SCTLR_ON,
        state_rust = const exceptions::STATE_RUST,
    )
}

/// Maps `[x0, x1)` to itself by 4 KiB pages. In: x2 = leaf descriptor bits, x23 = root table, x24 = next free zeroed
/// table page. Out: x0 = x1, x24 moved. Clobbers x9-x15. No stack. MMU off.
#[unsafe(naked)]
extern "C" fn map_pages() {
    naked_asm!("mov x15, #12", "b {map}", map = sym map)
}

/// As [`map_pages`], by 2 MiB blocks.
#[unsafe(naked)]
extern "C" fn map_blocks() {
    naked_asm!("mov x15, #21", "b {map}", map = sym map)
}

/// The loop of [`map_pages`] and [`map_blocks`]. In: x15 = log2 of the leaf size, else as there.
#[unsafe(naked)]
extern "C" fn map() {
    naked_asm!(
        "mov x14, #1",
        "lsl x14, x14, x15",
        "1:",
        "cmp x0, x1",
        "b.hs 4f",
        // Walk from level 0: x9 = table, x10 = shift of the level, x11 = index.
        "mov x9, x23",
        "mov x10, #39",
        "2:",
        "lsr x11, x0, x10",
        "and x11, x11, #511",
        "cmp x10, x15",
        "b.eq 3f",
        "ldr x12, [x9, x11, lsl #3]",
        "cbnz x12, 5f",
        "orr x12, x24, #{table}",
        "add x24, x24, #{page}",
        "str x12, [x9, x11, lsl #3]",
        "5:",
        "and x9, x12, #{address_mask}",
        "sub x10, x10, #9",
        "b 2b",
        "3:",
        "orr x12, x0, x2",
        "str x12, [x9, x11, lsl #3]",
        "add x0, x0, x14",
        "b 1b",
        "4:",
        "ret",
        table = const mmu::TABLE_BITS,
        page = const mmu::PAGE,
        address_mask = const mmu::ADDRESS_MASK,
    )
}

/// Zeroes `[x0, x1)`, both multiples of 16. Clobbers x0. No stack; MMU on or off.
#[unsafe(naked)]
pub(super) unsafe extern "C" fn zero(start: u64, end: u64) {
    naked_asm!("1:", "cmp x0, x1", "b.hs 2f", "stp xzr, xzr, [x0], #16", "b 1b", "2:", "ret")
}

/// Takes this REC out for ever, as far as the firmware goes. No stack; MMU off.
#[unsafe(naked)]
extern "C" fn cpu_off() {
    naked_asm!(
        "movz x0, #{fid_low}",
        "movk x0, #{fid_high}, lsl #16",
        "smc #0",
        "b {park}",
        fid_low = const PSCI_CPU_OFF & 0xffff,
        fid_high = const PSCI_CPU_OFF >> 16,
        park = sym park,
    )
}

/// Powers the realm off. In: x1 = stop code. No stack; any MMU state.
#[unsafe(naked)]
pub(super) extern "C" fn stop() {
    naked_asm!(
        "movz x0, #{fid_low}",
        "movk x0, #{fid_high}, lsl #16",
        "smc #0",
        "b {park}",
        fid_low = const PSCI_SYSTEM_OFF & 0xffff,
        fid_high = const PSCI_SYSTEM_OFF >> 16,
        park = sym park,
    )
}

/// Waits for ever.
#[unsafe(naked)]
pub(super) extern "C" fn park() {
    naked_asm!("1:", "wfi", "b 1b")
}
