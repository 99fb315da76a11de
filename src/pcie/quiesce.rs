//! Bringing a function into a state that is safe to lock, and making one quiet for good.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::bars::{Bars, Windows, program, size_and_choose};
use super::{Ecam, Function, PcieError};
use crate::abi::pcie as abi;
use crate::addr::Bdf;
use crate::platform::Platform;
use abi::Command;

/// A function may take 100 ms after its reset (PCIe Base 6.0, 6.6.2); given in parts of a second.
const RESET_WAIT_DIVISOR: u64 = 10;
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

/// Resets `function` (FLR, where it has that), gives its BARs addresses, restores them, and leaves it with MSE and BME on, message
/// interrupts off: ready to be locked. The reset is a request to the host, not a fact.
///
/// # Errors
/// [`PcieError`]; the function is left as it is, [`make_quiet`] follows.
pub fn prepare<P: Platform>(
    platform: &mut P,
    ecam: &Ecam,
    function: &Function,
    windows: &mut Windows,
) -> Result<Bars, PcieError> {
    let bdf = function.bdf;
    make_quiet(platform, ecam, bdf)?;
    reset(platform, ecam, function)?;
    let bars = size_and_choose(platform, ecam, function, windows)?;
    ecam.write32(platform, bdf, abi::ROM, 0)?;
    program(platform, ecam, bdf, &bars)?;
    for (offset, enable) in
        [(function.capabilities.msi, abi::MSI_ENABLE), (function.capabilities.msix, abi::MSIX_ENABLE)]
    {
        let Some(register) = offset.map(|o| o.saturating_add(2)) else { continue };
        let control = ecam.read16(platform, bdf, register)?;
        if control & enable != 0 {
            ecam.write16(platform, bdf, register, control & !enable)?;
            if ecam.read16(platform, bdf, register)? & enable != 0 {
                return Err(PcieError::InterruptsEnabled(bdf));
            }
        }
    }
    set_command(platform, ecam, bdf, Command::MEMORY | Command::BUS_MASTER | Command::INTX_DISABLE)?;
    Ok(bars)
}

fn set_command<P: Platform>(
    platform: &mut P,
    ecam: &Ecam,
    bdf: Bdf,
    command: Command,
) -> Result<(), PcieError> {
    let written = command.bits();
    ecam.write16(platform, bdf, abi::COMMAND, written)?;
    let read = ecam.read16(platform, bdf, abi::COMMAND)?;
    // Other bits may be fixed by the function.
    let of_interest = (Command::IO | Command::MEMORY | Command::BUS_MASTER).bits();
    if (read ^ written) & of_interest != 0 {
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
    let wait = platform.ticks_per_second() / RESET_WAIT_DIVISOR;
    let start = platform.ticks();
    for _ in 0..MAX_WAIT_TURNS {
        if platform.ticks().wrapping_sub(start) >= wait {
            break;
        }
        platform.relax();
    }
    let wanted = u32::from(function.device) << 16 | u32::from(function.vendor);
    for _ in 0..MAX_RESET_POLLS {
        if ecam.read32(platform, bdf, abi::ID)? == wanted {
            return Ok(());
        }
        platform.relax();
    }
    Err(PcieError::Reset(bdf))
}
