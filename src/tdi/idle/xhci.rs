//! xHCI: USBCMD.R/S = 0, then USBSTS.HCH must become 1 (eXtensible Host Controller Interface 1.2, 5.4.1 and 5.4.2).
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::{IdleError, Registers};
use crate::abi::xhci as abi;
use crate::platform::Platform;

pub(super) fn stop<P: Platform>(registers: &mut Registers<'_, P>) -> Result<(), IdleError> {
    let (capability, parameters) = (registers.read(abi::CAPABILITY)?, registers.read(abi::PARAMETERS)?);
    let base = u64::from(capability & 0xff);
    let known = base >= abi::CAPABILITY_LEN
        && base.is_multiple_of(4)
        && (0x0090..0x0200).contains(&(capability >> 16))
        && parameters & abi::PARAMETERS_SLOTS != 0
        && parameters & abi::PARAMETERS_PORTS != 0;
    if !known {
        return Err(IdleError::NotXhci { capability, parameters });
    }
    let [command, status] = [abi::USBCMD, abi::USBSTS].map(|register| base.saturating_add(register));
    let ready = registers.wait(status, abi::USBSTS_NOT_READY, 0)?;
    if ready & abi::USBSTS_NOT_READY == 0 {
        let running = registers.read(command)?;
        registers.write(command, running & !abi::USBCMD_RUN)?;
    }
    let status = registers.wait(status, abi::USBSTS_NOT_READY | abi::USBSTS_HALTED, abi::USBSTS_HALTED)?;
    let control = registers.read(command)?;
    if control & abi::USBCMD_RUN == 0
        && status & (abi::USBSTS_NOT_READY | abi::USBSTS_HALTED) == abi::USBSTS_HALTED
    {
        Ok(())
    } else {
        Err(IdleError::Running { control, status })
    }
}
