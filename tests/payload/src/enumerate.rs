//! An enumeration of our own, with the configuration writes of Linux: what a `native` payload does that knows nothing of
//! locked devices. It is asked for by a word on the command line, and comes before every other check.

use crate::checks::{Context, Outcome};
use crate::console::{Failed, Note};
use crate::device::{BadNode, Function, Mode, Nodes};
use crate::function_checks::{config, same_ids};
use crate::memory::Range;

/// Bits of a memory BAR that are no address.
const FLAGS: u32 = 0xf;
/// Type of a memory BAR that takes two registers (bits 2:1).
const WIDE: u32 = 0b100;
const TYPE: u32 = 0b110;

/// The check `enumerated`: every function in mode `run` has the BARs of its node, and decodes again afterwards.
pub fn run(context: &Context<'_>, note: &mut Note) -> Outcome {
    let mut count = 0;
    let mut outcome = Ok(());
    let nodes = Nodes::find(context.tree).and_then(|nodes| {
        nodes.each(&mut |function, _| {
            if function.mode == Mode::Run && outcome.is_ok() {
                count += 1;
                outcome = one(context, function, note);
            }
        })
    });
    outcome?;
    if let Err(BadNode(what)) = nodes {
        return note.fail(format_args!("missing or bad: {what}"));
    }
    note.say(format_args!("{count} functions"));
    Ok(())
}

fn one(context: &Context<'_>, function: &Function, note: &mut Note) -> Result<(), Failed> {
    let config = config(context, function, note)?;
    same_ids(&config, function, note)?;
    let sized = config.size_bars();
    for (index, bar) in function.bars.iter().enumerate() {
        let Some(bar) = bar else { continue };
        let high = sized.get(index + 1).copied().unwrap_or(0);
        let found = sized.get(index).map_or(0, |low| len(*low, high));
        if found != bar.len() {
            let len = Range::len(bar);
            return note.fail(format_args!(
                "{:#x} BAR {index}: {found:#x} bytes, node {len:#x}",
                function.routing_id
            ));
        }
    }
    if !config.is_active() {
        return note.fail(format_args!("{:#x}: memory decode or bus mastering is off", function.routing_id));
    }
    Ok(())
}

/// Bytes of a memory BAR, from what it reads with all ones in it.
fn len(low: u32, high: u32) -> u64 {
    let high = if low & TYPE == WIDE { high } else { u32::MAX };
    (u64::from(high) << 32 | u64::from(low & !FLAGS)).wrapping_neg()
}
