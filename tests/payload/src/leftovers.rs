//! Whether anything of the firmware is left: canaries that a test build of it plants in heap, stack, bss, tables and shared
//! window (src/arch/aarch64/fault.rs) must be nowhere in the memory that we were given, the reserved parts included.
//!
//! Trust: the firmware is under test. That the search finds what is there is shown with a canary of our own.

use crate::checks::{Context, Outcome};
use crate::console::Note;
use crate::cpu;
use crate::memory::{ANSWER, Range};
use crate::rsi::Ripas;
use aarch64_cpu::registers::{MAIR_EL1, Readable, TCR_EL1, TPIDR_EL0, TPIDRRO_EL0, TTBR0_EL1, TTBR1_EL1};

/// Word of the command line that asks for it.
pub const WORD: &str = "gatehouse.leftovers";
/// Half of the canary; the other half is its complement turned by [`TURN`], so that no image holds it whole.
const CANARY_HALF: u32 = 0x6761_7465;
const TURN: u32 = 7;

/// The check.
pub fn run(context: &Context<'_>, note: &mut Note) -> Outcome {
    let registers = [
        ("TPIDR_EL0", TPIDR_EL0.get()),
        ("TPIDRRO_EL0", TPIDRRO_EL0.get()),
        ("TTBR0_EL1", TTBR0_EL1.get()),
        ("TTBR1_EL1", TTBR1_EL1.get()),
        ("TCR_EL1", TCR_EL1.get()),
        ("MAIR_EL1", MAIR_EL1.get()),
    ];
    if let Some((name, value)) = registers.into_iter().find(|(_, value)| *value != 0) {
        return note.fail(format_args!("{name} = {value:#x}"));
    }
    let realm = context.realm(note)?;
    let half = core::hint::black_box(CANARY_HALF);
    let other = !half.rotate_left(TURN);
    let canary = u64::from(half) << 32 | u64::from(other);
    ANSWER.write(0, other);
    ANSWER.write(4, half);
    let (mut own, mut bytes) = (0, 0);
    for memory in context.tree.memory() {
        let mut base = memory.base;
        while base < memory.top {
            // Two MiB at a time; what is not RAM cannot be read by anybody.
            let range = Range { base, top: (base + (2 << 20)).min(memory.top) };
            base = range.top;
            if realm.expect(&range, Ripas::Ram).is_err() {
                return note.fail(format_args!("{:#x}..{:#x} is not RAM", range.base, range.top));
            }
            bytes += range.len();
            let mut from = range.base;
            while let Some(found) = cpu::find64(from, range.top, canary) {
                if found != ANSWER.address() {
                    return note.fail(format_args!("a canary of the firmware at {found:#x}"));
                }
                own += 1;
                from = found + 8;
            }
        }
    }
    ANSWER.fill(0);
    if own != 1 {
        return note.fail(format_args!("the own canary was found {own} times"));
    }
    note.say(format_args!("{} MiB, and the registers", bytes >> 20));
    Ok(())
}
