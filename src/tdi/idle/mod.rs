//! The idle check: whatever the host armed before the lock, the device must be at rest before its DMA is enabled.
//!
//! Trust: the registers are reached through the validated, private BAR: they are the accepted device's. Its class is
//! the host's word, so each check looks first whether the registers are of that kind.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

mod ahci;
mod nvme;
mod xhci;

#[cfg(test)]
mod tests;

use super::Link;
use crate::abi;
use crate::addr::{GRANULE_SIZE, IpaRange};
use crate::platform::{AccessSize, Half, IoError, IoWindow, Platform};
use thiserror::Error;

/// How often a check looks again, all waits together; the clock bounds them as well.
const MAX_POLLS: u32 = 1_000_000;
/// Longest wait of a check, all waits together, in seconds.
const MAX_SECONDS: u64 = 5;

/// Why a device is not known to be idle.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum IdleError {
    /// No idle check for this class, and no rule that vouches for the device.
    #[error("no idle check for class {0:#08x}")]
    UnknownClass(u32),
    /// The registers are not those of an NVMe controller, whatever configuration space says.
    #[error("not an NVMe controller: CAP {cap:#x}, VS {version:#x}")]
    NotNvme {
        /// Low half of the capabilities.
        cap: u32,
        /// Version.
        version: u32,
    },
    /// The registers are not those of an AHCI controller.
    #[error("not an AHCI controller: CAP {cap:#x}, PI {ports:#x}, VS {version:#x}")]
    NotAhci {
        /// Capabilities.
        cap: u32,
        /// Ports implemented.
        ports: u32,
        /// Version.
        version: u32,
    },
    /// The registers are not those of an xHCI controller.
    #[error("not an xHCI controller: capability {capability:#x}, HCSPARAMS1 {parameters:#x}")]
    NotXhci {
        /// CAPLENGTH and HCIVERSION.
        capability: u32,
        /// HCSPARAMS1.
        parameters: u32,
    },
    /// The registers of the check are not in a private range.
    #[error("the control registers are not in a TEE range")]
    NotPrivate,
    /// The private range cannot be reached.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Reads return all ones.
    #[error("the device does not answer")]
    NoAnswer,
    /// The controller does not stop.
    #[error("the controller does not stop: control {control:#x}, status {status:#x}")]
    Running {
        /// NVMe: CC; AHCI: GHC; xHCI: USBCMD.
        control: u32,
        /// NVMe: CSTS; xHCI: USBSTS.
        status: u32,
    },
    /// A port of an AHCI controller does not stop.
    #[error("port {port} does not stop: PxCMD {command:#x}")]
    PortRunning {
        /// Number of the port.
        port: u8,
        /// Its command register.
        command: u32,
    },
}

/// How a device is known to be at rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quiet {
    /// The registers of an NVMe controller say so.
    Nvme,
    /// The registers of an AHCI controller say so.
    Ahci,
    /// The registers of an xHCI controller say so.
    Xhci,
    /// The bundle says that the device's reset at the lock is part of what its measurements vouch for.
    Device,
}

impl Quiet {
    /// Chooses the check for a class; the bundle's word goes before it.
    ///
    /// # Errors
    /// [`IdleError::UnknownClass`].
    pub fn choose(class: u32, quiet_device: bool) -> Result<Self, IdleError> {
        match class {
            _ if quiet_device => Ok(Self::Device),
            abi::pcie::CLASS_NVME => Ok(Self::Nvme),
            abi::ahci::CLASS => Ok(Self::Ahci),
            abi::xhci::CLASS => Ok(Self::Xhci),
            _ => Err(IdleError::UnknownClass(class)),
        }
    }
}

/// Stops the device of `class`, unless `quiet_device`. `bars`: number and place of each validated range that begins where
/// its BAR begins.
///
/// # Errors
/// [`IdleError`].
pub(super) fn make_idle<P: Platform>(
    link: &mut Link<'_, P>,
    class: u32,
    quiet_device: bool,
    bars: &[(u8, IpaRange)],
) -> Result<Quiet, IdleError> {
    stop(link.platform, class, quiet_device, bars)
}

fn stop<P: Platform>(
    platform: &mut P,
    class: u32,
    quiet_device: bool,
    bars: &[(u8, IpaRange)],
) -> Result<Quiet, IdleError> {
    let quiet = Quiet::choose(class, quiet_device)?;
    let (bar, len) = match quiet {
        Quiet::Device => return Ok(quiet),
        Quiet::Nvme => (0, GRANULE_SIZE),
        Quiet::Ahci => (abi::ahci::BAR, abi::ahci::REGISTERS_LEN),
        Quiet::Xhci => (abi::xhci::BAR, GRANULE_SIZE),
    };
    let mut registers = Registers::map(platform, bar, len, bars)?;
    match quiet {
        Quiet::Nvme => nvme::stop(&mut registers)?,
        Quiet::Ahci => ahci::stop(&mut registers)?,
        Quiet::Xhci | Quiet::Device => xhci::stop(&mut registers)?,
    }
    Ok(quiet)
}

/// The control registers of a device, 32 bits each, and what is left of the time to wait for them.
struct Registers<'a, P> {
    platform: &'a mut P,
    window: IoWindow,
    start: u64,
    polls: u32,
}

impl<'a, P: Platform> Registers<'a, P> {
    /// Maps the first `len` bytes of a BAR, or as many as are private.
    fn map(platform: &'a mut P, bar: u8, len: u64, bars: &[(u8, IpaRange)]) -> Result<Self, IdleError> {
        let private = bars.iter().find(|(index, _)| *index == bar).ok_or(IdleError::NotPrivate)?.1;
        let first = IpaRange::covering(private.base(), len).map_err(IoError::from)?;
        let range = if private.contains(&first) { first } else { private };
        let window = platform.map(range, Half::Protected)?;
        let start = platform.ticks();
        Ok(Self { platform, window, start, polls: MAX_POLLS })
    }

    /// Reads a register of which not all bits can be set.
    fn read(&mut self, register: u64) -> Result<u32, IdleError> {
        match self.read_any(register)? {
            abi::pcie::ALL_ONES_32 => Err(IdleError::NoAnswer),
            value => Ok(value),
        }
    }

    fn read_any(&mut self, register: u64) -> Result<u32, IdleError> {
        self.check(register)?;
        let value = self.platform.read(&self.window, register, AccessSize::Word)?;
        let [b0, b1, b2, b3, ..] = value.to_le_bytes();
        Ok(u32::from_le_bytes([b0, b1, b2, b3]))
    }

    fn write(&mut self, register: u64, value: u32) -> Result<(), IdleError> {
        self.check(register)?;
        Ok(self.platform.write(&self.window, register, AccessSize::Word, value.into())?)
    }

    fn check(&self, register: u64) -> Result<(), IdleError> {
        let end = register.saturating_add(AccessSize::Word.bytes());
        if end > self.window.range().len_bytes() { Err(IdleError::NotPrivate) } else { Ok(()) }
    }

    /// Reads a register, at least once, until the bits of `mask` have the value `wanted` or the time is over. Returns what
    /// was read last.
    fn wait(&mut self, register: u64, mask: u32, wanted: u32) -> Result<u32, IdleError> {
        let limit = self.platform.ticks_per_second().saturating_mul(MAX_SECONDS);
        loop {
            let value = self.read(register)?;
            let waited = self.platform.ticks().wrapping_sub(self.start);
            if value & mask == wanted || self.polls == 0 || waited > limit {
                return Ok(value);
            }
            self.polls = self.polls.saturating_sub(1);
            self.platform.relax();
        }
    }
}
