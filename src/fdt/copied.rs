//! What the payload's tree takes over from nodes of the host's: properties by name, each of a form and a length that was
//! checked.
//!
//! Trust: host. [`super::read`] has looked at what has a meaning for the firmware; what has none is bounded here, so that no
//! property carries more than the cells that its binding gives it (docs/handoff.md).
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::build::Builder;
use super::cells::strings;
use super::nodes::{Node, Nodes, word};
use super::read::{Console, ConsoleKind};
use super::write::WriteError;
use ::fdt::node::NodeProperty;

/// Longest property that is taken over from the host's tree, in bytes: an interrupt map of 32 slots with room to spare.
const MAX_COPIED_BYTES: usize = 16 * 1024;
/// Longest list of names that is taken over, in bytes.
const MAX_NAMES_BYTES: usize = 256;
/// What the clocks of a PL011 can be called (Linux serial/pl011.yaml).
const UART_CLOCKS: [&str; 2] = ["uartclk", "apb_pclk"];

/// Writes the timer's node.
pub(super) fn timer(tree: &mut Builder, nodes: &Nodes<'_, '_>) -> Result<(), WriteError> {
    tree.begin(format_args!("timer"));
    tree.text("compatible", "arm,armv8-timer")?;
    copy(tree, nodes.timer, &["interrupts"])?;
    flags(tree, nodes.timer, &["always-on"]);
    tree.end();
    Ok(())
}

/// Writes the node of a clock.
pub(super) fn fixed_clock(tree: &mut Builder, index: usize, from: Node<'_, '_>) -> Result<(), WriteError> {
    tree.begin(format_args!("clock-{index}"));
    tree.text("compatible", "fixed-clock")?;
    tree.cells("#clock-cells", &[0]);
    for name in ["clock-frequency", "phandle"] {
        tree.cells(name, &[word(from, name).ok_or(WriteError::NotCells(name))?]);
    }
    tree.end();
    Ok(())
}

/// Writes the console's node.
pub(super) fn uart(tree: &mut Builder, console: &Console, from: Node<'_, '_>) -> Result<(), WriteError> {
    tree.begin(format_args!("serial@{:x}", console.address));
    match console.kind {
        ConsoleKind::Pl011 => tree.texts("compatible", &["arm,pl011", "arm,primecell"])?,
        ConsoleKind::Ns16550 { .. } => {
            tree.text("compatible", "ns16550a")?;
            copy(tree, from, &["clock-frequency", "reg-shift", "reg-io-width"])?;
        }
    }
    tree.wide("reg", &[console.address, console.len_bytes]);
    copy(tree, from, &["interrupts", "clocks"])?;
    let ours =
        |p: &NodeProperty<'_>| strings(p.value).is_some_and(|mut all| all.all(|s| UART_CLOCKS.contains(&s)));
    if from.property("clock-names").as_ref().is_some_and(ours) {
        copy_names(tree, from, &["clock-names"]);
    }
    tree.end();
    Ok(())
}

/// Takes over which of the flags a node has.
pub(super) fn flags(tree: &mut Builder, from: Node<'_, '_>, names: &[&'static str]) {
    names.iter().filter(|name| from.property(name).is_some()).for_each(|name| tree.bytes(name, &[]));
}

/// Takes over the properties of the list that are lists of strings, and not longer than names need.
pub(super) fn copy_names(tree: &mut Builder, from: Node<'_, '_>, names: &[&'static str]) {
    for name in names {
        let fine = |p: &NodeProperty<'_>| p.value.len() <= MAX_NAMES_BYTES && strings(p.value).is_some();
        if let Some(list) = from.property(name).filter(fine) {
            tree.bytes(name, list.value);
        }
    }
}

/// Takes over the properties of the list that are there; each is whole cells, and at most [`MAX_COPIED_BYTES`] long.
pub(super) fn copy(tree: &mut Builder, from: Node<'_, '_>, names: &[&'static str]) -> Result<(), WriteError> {
    for name in names {
        let Some(property) = from.property(name) else { continue };
        if !property.value.len().is_multiple_of(4) || property.value.len() > MAX_COPIED_BYTES {
            return Err(WriteError::NotCells(name));
        }
        tree.bytes(name, property.value);
    }
    Ok(())
}
