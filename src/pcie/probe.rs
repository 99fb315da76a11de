//! What an operating system that enumerates by itself writes to a function: played to a locked one, to learn whether it
//! stays locked on this machine.
//!
//! Trust: the answers are the host's; what counts is what the RMM says of the device afterwards.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::bars::{Bars, program};
use super::quiesce::set_command;
use super::{Ecam, Function, PcieError};
use crate::abi::pcie::{self as abi, Command};
use crate::platform::Platform;

/// Makes the writes of an enumeration as Linux does one: decode off, every BAR and the ROM sized and put back, message
/// interrupts off, decode on. Afterwards the registers are those of [`prepare`](super::prepare) again.
///
/// # Errors
/// [`PcieError`] when they are not.
pub fn replay_enumeration<P: Platform>(
    platform: &mut P,
    ecam: &Ecam,
    function: &Function,
    bars: &Bars,
) -> Result<(), PcieError> {
    let bdf = function.bdf;
    set_command(platform, ecam, bdf, Command::BUS_MASTER | Command::INTX_DISABLE)?;
    for index in 0..abi::NUM_BARS {
        let register = abi::BAR0.saturating_add(u16::from(index).saturating_mul(4));
        let kept = ecam.read32(platform, bdf, register)?;
        ecam.write32(platform, bdf, register, u32::MAX)?;
        ecam.read32(platform, bdf, register)?;
        ecam.write32(platform, bdf, register, kept)?;
    }
    let rom = ecam.read32(platform, bdf, abi::ROM)?;
    ecam.write32(platform, bdf, abi::ROM, !abi::ROM_ENABLE)?;
    ecam.write32(platform, bdf, abi::ROM, rom & !abi::ROM_ENABLE)?;
    let known = &function.capabilities;
    for (capability, enable) in [(known.msi, abi::MSI_ENABLE), (known.msix, abi::MSIX_ENABLE)] {
        if let Some(register) = capability.map(|at| at.saturating_add(2)) {
            let control = ecam.read16(platform, bdf, register)?;
            ecam.write16(platform, bdf, register, control & !enable)?;
        }
    }
    program(platform, ecam, bdf, bars)?;
    set_command(platform, ecam, bdf, Command::MEMORY | Command::BUS_MASTER | Command::INTX_DISABLE)
}
