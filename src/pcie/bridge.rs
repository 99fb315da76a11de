//! The windows of the bridges: open on the way to what is used, closed everywhere else.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::quiesce::set_command;
use super::{Bridge, Ecam, PcieError, Topology};
use crate::abi::pcie as abi;
use crate::addr::{Bdf, IpaRange};
use crate::platform::{Io, Platform};
use abi::Command;

/// What a bridge forwards to the bus behind it, in units of 1 MiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BridgeWindows {
    /// Memory window, below 4 GiB.
    pub memory: Option<IpaRange>,
    /// Prefetchable memory window.
    pub prefetchable: Option<IpaRange>,
}

/// Programs every bridge: `windows` has one entry for each, in the order of the topology; what is missing is closed.
///
/// A bridge with a window forwards memory accesses down and DMA up; every other one forwards neither. No bridge forwards
/// I/O, and none decodes a BAR of its own: those hold 0, which is in no window. What was written is read back, but for
/// windows that a bridge need not have: I/O, and a prefetchable one that is not asked for. Bridge control is left alone: no secondary bus reset.
///
/// # Errors
/// [`PcieError::BridgeReadBack`], [`PcieError::CommandReadBack`].
pub fn open_bridges<P: Platform>(
    platform: &mut P,
    ecam: &Ecam,
    topology: &Topology,
    windows: &[BridgeWindows],
) -> Result<(), PcieError> {
    for (index, Bridge { bdf, .. }) in topology.bridges.iter().enumerate() {
        let windows = windows.get(index).copied().unwrap_or_default();
        let mut command = Command::INTX_DISABLE;
        ecam.write16(platform, *bdf, abi::COMMAND, command.bits())?;
        if windows != BridgeWindows::default() {
            command |= Command::MEMORY | Command::BUS_MASTER;
            for bar in 0..abi::NUM_BRIDGE_BARS {
                let register = abi::BAR0.saturating_add(bar.saturating_mul(4));
                ecam.write_checked(platform, *bdf, register, 0, abi::BAR_ADDRESS_MASK)?;
            }
        }
        program(platform, ecam, *bdf, &windows)?;
        set_command(platform, ecam, *bdf, command)?;
    }
    Ok(())
}

fn program<I: Io>(io: &mut I, ecam: &Ecam, bdf: Bdf, windows: &BridgeWindows) -> Result<(), PcieError> {
    let (memory, _) = registers(windows.memory);
    let (prefetchable, [base, limit]) = registers(windows.prefetchable);
    ecam.write16(io, bdf, abi::IO_WINDOW, abi::IO_WINDOW_CLOSED)?;
    ecam.write_checked(io, bdf, abi::MEMORY_WINDOW, memory, abi::WINDOW_MASK)?;
    match ecam.write_checked(io, bdf, abi::PREFETCHABLE_WINDOW, prefetchable, abi::WINDOW_MASK) {
        // A bridge that does not have it.
        Err(PcieError::BridgeReadBack { read: 0, .. }) if windows.prefetchable.is_none() => return Ok(()),
        result => result?,
    }
    ecam.write_checked(io, bdf, abi::PREFETCHABLE_BASE_UPPER, base, u32::MAX)?;
    ecam.write_checked(io, bdf, abi::PREFETCHABLE_LIMIT_UPPER, limit, u32::MAX)
}

/// Returns the window register (base in the low half, limit in the high half) and the upper halves of base and limit.
fn registers(window: Option<IpaRange>) -> (u32, [u32; 2]) {
    let Some(window) = window else { return (abi::WINDOW_CLOSED, [0; 2]) };
    let [_, _, b2, b3, b4, b5, b6, b7] = window.base().to_le_bytes();
    let [_, _, l2, l3, l4, l5, l6, l7] = window.top().saturating_sub(1).to_le_bytes();
    let register = u32::from_le_bytes([b2, b3, l2, l3]) & abi::WINDOW_MASK;
    (register, [u32::from_le_bytes([b4, b5, b6, b7]), u32::from_le_bytes([l4, l5, l6, l7])])
}
