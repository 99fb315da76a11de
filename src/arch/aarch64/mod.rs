//! R-EL1 on the real machine.
//!
//! Order of life: [`entry`] (assembly, MMU off, then a first page table), `start` (heap, final page table), the
//! binary's main through [`crate::entry!`], [`jump`].
//!
//! Memory, from the load address (2 MiB aligned) up; `image_size` is the header's, patched by the packer:
//!
//! ```text
//! base                text      R-X  Linux header, slot, entry, vectors, code
//!                     rodata    R--  constants and relocated constants
//!                     data      RW-  data, bss
//! base + file size    (gap)     ---
//! slot.bundle_offset  bundle    R--  when one is appended
//!                     room      RW-  from the end of the bundle (of the file without one): for a kernel that cannot stay
//! top - HEAP_SIZE     heap      RW-  allocator; shared windows are cut out of it
//!                     guard     ---
//!                     stack     RW-  32 KiB, up to the tables
//! top - TABLES_SIZE   tables    RW-  page tables: the first ones by assembly, later ones by `mmu`
//! top = base + image_size
//! ```
//!
//! Cache maintenance (none of it can fail under QEMU; rows for docs/architecture.md):
//!
//! | # | where | operation | range | why |
//! |---|---|---|---|---|
//! | 1 | entry, before the first store | DC CIVAC | image file; early tables | stale dirty lines must not be evicted over what is stored with the MMU off |
//! | 2 | entry, before MMU on | DC IVAC | the same | lines fetched in between hold the old content of relocated data, bss and tables |
//! | 3 | entry, before MMU on | IC IALLU, TLBI VMALLE1 | all | neither is defined after reset; the VMM wrote the code |
//! | 4 | mmu, TTBR0 switch | TLBI ASIDE1 (early ASID) | all | the early tables' pages are used again |
//! | 5 | jump, MMU still on | DC CIVAC | list of ranges | it is read with the MMU off |
//! | 6 | jump, MMU off | DC CIVAC | whole image area, then each range outside it | the payload reads them with the MMU off; no dirty line of ours may be evicted later |
//! | 7 | jump, after the wipe of data, stack and tables | DC CIVAC | data and bss, stack and tables | a line fetched before the wipe would hold the old content |
//! | 8 | jump, last | IC IALLU, TLBI VMALLE1 | all | the payload's code was data before; our translations end |
//!
//! In a realm IVAC acts as CIVAC (stage 2 is on) and stage 2 forces write-back memory (FEAT_S2FWB): step 2 then
//! writes our own stores back instead of losing them.

pub mod cache;
pub mod console;
pub mod cpu;
pub mod entry;
pub mod exceptions;
#[cfg(gatehouse_fault)]
pub(crate) mod fault;
pub mod heap;
pub mod image;
pub mod jump;
pub mod machine;
pub mod mmio;
pub mod mmu;
pub mod smc;

pub use jump::{Handoff, JumpError};
pub use machine::Machine;

use crate::codes::StopCode;
use aarch64_cpu::registers::TPIDR_EL1;
use tock_registers::interfaces::{Readable, Writeable};

unsafe extern "Rust" {
    /// The binary's main, provided by [`crate::entry!`].
    safe fn gatehouse_main(machine: Machine, tree_ipa: u64) -> !;
}

/// Names the binary's main: `fn(Machine, u64) -> !`, called once, on the first REC, with MMU, caches, heap and vectors
/// set up; the number is x0 at entry, the IPA of the host's device tree, unchecked but outside the image.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        // SAFETY: the only symbol of this name; `arch::aarch64` declares it with this signature.
        #[unsafe(no_mangle)]
        extern "Rust" fn gatehouse_main(machine: $crate::arch::aarch64::Machine, tree_ipa: u64) -> ! {
            let main: fn($crate::arch::aarch64::Machine, u64) -> ! = $main;
            main(machine, tree_ipa)
        }
    };
}

/// The first Rust function: heap, final page table, main.
///
/// # Safety
/// Called once, by `entry`, with the early table active, `.bss` zero, and vectors and stack set.
unsafe extern "C" fn start(tree_ipa: u64) -> ! {
    let Ok(layout) = image::Layout::read() else { smc::system_off(StopCode::BadSlot) };
    #[cfg(gatehouse_fault)]
    fault::paint(&layout);
    // SAFETY: called once; the early table maps the heap and nothing uses it yet.
    unsafe { heap::init(layout.heap()) };
    // SAFETY: the early table is active and was built by `entry` at the start of the tables area.
    let table = unsafe { mmu::PageTable::activate(&layout) };
    gatehouse_main(Machine::new(layout, table), tree_ipa)
}

/// Where the standard library's sources say that the heap is exhausted: the only panic there.
const ALLOCATION: &str = "alloc/src/alloc.rs";

/// Reports the panic on a fresh console, without taking a lock, and powers off; one while something is being reported
/// only powers off. The heap is not wiped: it holds no
/// long-lived secret, and the RMM scrubs a realm's granules before the host gets them back.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    if TPIDR_EL1.get() == exceptions::STATE_REPORTING {
        smc::system_off(StopCode::ReportNested);
    }
    TPIDR_EL1.set(exceptions::STATE_REPORTING);
    let is_memory = info.location().is_some_and(|location| location.file().ends_with(ALLOCATION));
    let code = if is_memory { StopCode::Memory } else { StopCode::Panic };
    console::print_unlocked(format_args!("PANIC {code}: {info}\n"));
    smc::system_off(code)
}
