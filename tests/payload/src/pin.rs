//! Functions in mode `pin`: what their nodes say, and that nothing is left of the lock under which they were verified.

use crate::checks::{Context, Outcome};
use crate::console::Note;
use crate::device::Function;
use crate::function_checks::{config, same_ids};
use crate::rsi::{RSI_ERROR_INPUT, Ripas, RsiError, STATE_UNLOCKED};
use crate::tree::{self, Node};

/// Bytes of a pin: SHA-384.
const PIN_LEN: usize = 48;

/// What a device that spoke SPDM has besides the pin of its report.
const SPDM: [&str; 3] = ["gatehouse,pin-leaf-key", "gatehouse,pin-chain", "gatehouse,pin-measurements"];

/// Every pin is there, is a digest, and no two are the same.
pub fn node(_: &Context<'_>, function: &Function, node: Node<'_>, note: &mut Note) -> Outcome {
    if function.vdev_id != Some(function.routing_id.into()) {
        return note.fail(format_args!("gatehouse,vdev-id is not the routing id"));
    }
    let algorithms = tree::text(node, "gatehouse,pin-algorithms");
    let has_any = SPDM.iter().any(|name| node.property(name).is_some());
    if has_any != algorithms.is_some_and(|text| !text.is_empty()) {
        return note.fail(format_args!("gatehouse,pin-algorithms"));
    }
    let spdm = if has_any { &SPDM[..] } else { &[] };
    let mut seen: [&[u8]; 4] = [&[]; 4];
    for (index, name) in spdm.iter().chain(&["gatehouse,pin-report"]).enumerate() {
        let value = node.property(name).map_or(&[][..], |property| property.value);
        let is_digest = value.len() == PIN_LEN && value.iter().any(|byte| *byte != 0);
        if !is_digest || seen.contains(&value) {
            return note.fail(format_args!("{name}: {} bytes, or not a digest of its own", value.len()));
        }
        if let Some(slot) = seen.get_mut(index) {
            *slot = value;
        }
    }
    note.say(format_args!("{} pins, {}", spdm.len() + 1, algorithms.unwrap_or("no SPDM")));
    Ok(())
}

/// The function neither decodes nor masters, the RMM has no lock of it, and no page of it is private.
pub fn quiet(context: &Context<'_>, function: &Function, _: Node<'_>, note: &mut Note) -> Outcome {
    let realm = context.realm(note)?;
    let config = config(context, function, note)?;
    same_ids(&config, function, note)?;
    if !config.is_quiet() || config.interrupts().enabled {
        return note.fail(format_args!("memory decode, bus mastering or an interrupt is on"));
    }
    let state = match realm.vdev_info(function.vdev_id.unwrap_or_default()) {
        Ok(info) if info.state == STATE_UNLOCKED => "unlocked",
        Ok(info) => return note.fail(format_args!("the RMM says state {}", info.state)),
        Err(RsiError::Status(RSI_ERROR_INPUT)) => "unknown",
        Err(error) => return note.fail(format_args!("RSI_VDEV_GET_INFO: {error}")),
    };
    for (index, bar) in function.bars.iter().enumerate() {
        let Some(bar) = bar else { continue };
        if let Err(error) = realm.expect(bar, Ripas::Empty) {
            return note.fail(format_args!("BAR {index}: {error}"));
        }
    }
    note.say(format_args!("{state} to the RMM"));
    Ok(())
}
