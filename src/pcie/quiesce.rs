//! Bringing a function into a state that is safe to lock, and making one quiet for good.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::bars::{Bars, program};
use super::{Ecam, Function, Kind, PcieError};
use crate::abi::pcie as abi;
use crate::addr::Bdf;
use crate::mutation::{Mutation, removed};
use crate::platform::Platform;
use abi::Command;

/// The bits of the command register that matter; others may be fixed by the function.
const DECODE_AND_MASTER: Command = Command::IO.union(Command::MEMORY).union(Command::BUS_MASTER);
/// A function may take 100 ms after its reset (PCIe Base 6.0, 6.6.2); given in parts of a second.
const RESET_WAIT_DIVISOR: u64 = 10;
/// A function may take 10 ms from D3hot to D0 (PCI Power Management 1.2, table 5-6); given in parts of a second.
const WAKE_WAIT_DIVISOR: u64 = 100;
/// How often the wait looks at a clock that the host may have stopped.
const MAX_WAIT_TURNS: u32 = 2_000_000;
/// How often the function is asked for its id after the wait.
const MAX_RESET_POLLS: u32 = 1_000;

/// Turns decode and bus mastering of `bdf` off and reads it back.
///
/// # Errors
/// [`PcieError::CommandReadBack`].
pub fn make_quiet<P: Platform>(platform: &mut P, ecam: &Ecam, bdf: Bdf) -> Result<(), PcieError> {
    set_command(platform, ecam, bdf, Command::INTX_DISABLE)
}

/// Resets `function` (FLR, where it has that), writes its BARs, and leaves it with MSE and BME on, with ROM, virtual
/// functions and message interrupts off: ready to be locked. The reset is a request to the host, not a fact.
///
/// # Errors
/// [`PcieError`]; the function is left as it is, [`make_quiet`] follows.
pub fn prepare<P: Platform>(
    platform: &mut P,
    ecam: &Ecam,
    function: &Function,
    bars: &Bars,
) -> Result<(), PcieError> {
    let bdf = function.bdf;
    if function.kind != Kind::Endpoint {
        return Err(PcieError::NotEndpoint(bdf));
    }
    wake(platform, ecam, function)?;
    // `size_bars` left it so, but a reset or the host may have come between.
    if ecam.read16(platform, bdf, abi::COMMAND)? & DECODE_AND_MASTER.bits() != 0 {
        make_quiet(platform, ecam, bdf)?;
    }
    reset(platform, ecam, function)?;
    ecam.write32(platform, bdf, abi::ROM, 0)?;
    if ecam.read32(platform, bdf, abi::ROM)? & abi::ROM_ENABLE != 0 {
        return Err(PcieError::RomEnabled(bdf));
    }
    let known = &function.capabilities;
    let off = abi::SRIOV_VF_ENABLE | abi::SRIOV_VF_MEMORY;
    clear(platform, ecam, bdf, known.sriov, abi::SRIOV_CONTROL, off, PcieError::VirtualFunctions)?;
    program(platform, ecam, bdf, bars)?;
    clear(platform, ecam, bdf, known.msi, 2, abi::MSI_ENABLE, PcieError::InterruptsEnabled)?;
    clear(platform, ecam, bdf, known.msix, 2, abi::MSIX_ENABLE, PcieError::InterruptsEnabled)?;
    set_command(platform, ecam, bdf, Command::MEMORY | Command::BUS_MASTER | Command::INTX_DISABLE)
}

/// Clears bits of a 16-bit register at `offset` of a capability, if there is the capability, and reads them back.
fn clear<P: Platform>(
    platform: &mut P,
    ecam: &Ecam,
    bdf: Bdf,
    capability: Option<u16>,
    offset: u16,
    bits: u16,
    error: fn(Bdf) -> PcieError,
) -> Result<(), PcieError> {
    let Some(register) = capability.map(|at| at.saturating_add(offset)) else { return Ok(()) };
    let control = ecam.read16(platform, bdf, register)?;
    if control & bits != 0 {
        ecam.write16(platform, bdf, register, control & !bits)?;
        if ecam.read16(platform, bdf, register)? & bits != 0 {
            return Err(error(bdf));
        }
    }
    Ok(())
}

/// Brings a function that sleeps to D0 (PCI Power Management 1.2, 3.2.4 and 5.6.1).
fn wake<P: Platform>(platform: &mut P, ecam: &Ecam, function: &Function) -> Result<(), PcieError> {
    let bdf = function.bdf;
    let Some(at) = function.capabilities.power else { return Ok(()) };
    let register = at.saturating_add(abi::POWER_CONTROL);
    if ecam.read16(platform, bdf, register)? & abi::POWER_STATE == 0 {
        return Ok(());
    }
    ecam.write16(platform, bdf, register, 0)?;
    wait(platform, WAKE_WAIT_DIVISOR);
    let read = ecam.read16(platform, bdf, register)?;
    if read & abi::POWER_STATE == 0 { Ok(()) } else { Err(PcieError::PowerState { bdf, read }) }
}

/// Waits for a part of a second.
fn wait<P: Platform>(platform: &mut P, divisor: u64) {
    let ticks = platform.ticks_per_second().checked_div(divisor).unwrap_or(0);
    let start = platform.ticks();
    for _ in 0..MAX_WAIT_TURNS {
        if platform.ticks().wrapping_sub(start) >= ticks {
            break;
        }
        platform.relax();
    }
}

/// Writes the command register and reads it back.
pub(super) fn set_command<P: Platform>(
    platform: &mut P,
    ecam: &Ecam,
    bdf: Bdf,
    command: Command,
) -> Result<(), PcieError> {
    let written = command.bits();
    ecam.write16(platform, bdf, abi::COMMAND, written)?;
    let read = ecam.read16(platform, bdf, abi::COMMAND)?;
    if (read ^ written) & DECODE_AND_MASTER.bits() != 0 && !removed(Mutation::CommandReadBack) {
        return Err(PcieError::CommandReadBack { bdf, written, read });
    }
    Ok(())
}

fn reset<P: Platform>(platform: &mut P, ecam: &Ecam, function: &Function) -> Result<(), PcieError> {
    let bdf = function.bdf;
    let Some(express) = function.capabilities.express.filter(|_| function.flr) else {
        return Ok(()); // nothing to ask for; the idle check through the private BAR is what counts
    };
    let control = express.saturating_add(abi::EXP_DEVICE_CONTROL);
    let value = ecam.read16(platform, bdf, control)?;
    ecam.write16(platform, bdf, control, value | abi::DEVCTL_INITIATE_FLR)?;
    wait(platform, RESET_WAIT_DIVISOR);
    let wanted = u32::from(function.device) << 16 | u32::from(function.vendor);
    for _ in 0..MAX_RESET_POLLS {
        if ecam.read32(platform, bdf, abi::ID)? == wanted {
            return Ok(());
        }
        platform.relax();
    }
    Err(PcieError::Reset(bdf))
}
