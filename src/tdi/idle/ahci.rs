//! AHCI: in each port the command list is stopped, then the reception of FISes (Serial ATA AHCI 1.3.1, 10.1.2 and 10.3).
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::{IdleError, Registers};
use crate::abi::ahci as abi;
use crate::platform::Platform;

pub(super) fn stop<P: Platform>(registers: &mut Registers<'_, P>) -> Result<(), IdleError> {
    // Before AE is set no other register may be used (3.1.2).
    let control = registers.read(abi::GHC)?;
    if control & abi::GHC_AE == 0 {
        registers.write(abi::GHC, control | abi::GHC_AE)?;
    }
    let (cap, version) = (registers.read(abi::CAP)?, registers.read(abi::VS)?);
    let ports = registers.read_any(abi::PI)?;
    // VS is 0.95 or 1.x; PI names at least one port and not more than CAP.NP (3.1.1, 3.1.4).
    let known = version >> 16 == 1 || version == abi::VS_0_95;
    if !known || ports == 0 || ports.count_ones() > (cap & abi::CAP_NP).saturating_add(1) {
        return Err(IdleError::NotAhci { cap, ports, version });
    }
    let control = registers.read(abi::GHC)?;
    if control & abi::GHC_AE == 0 {
        return Err(IdleError::Running { control, status: 0 });
    }
    clear(registers, ports, abi::CMD_ST, abi::CMD_CR)?;
    clear(registers, ports, abi::CMD_FRE, abi::CMD_FR)
}

/// Clears the bit `enable` in every port and waits until `running` follows it.
fn clear<P: Platform>(
    registers: &mut Registers<'_, P>,
    ports: u32,
    enable: u32,
    running: u32,
) -> Result<(), IdleError> {
    let port_list = || (0u8..32).filter(|port| ports >> port & 1 == 1);
    let register =
        |port| abi::PORTS.saturating_add(abi::PORT_LEN.saturating_mul(u64::from(port))) | abi::PORT_CMD;
    for port in port_list() {
        let command = registers.read(register(port))?;
        if command & enable != 0 {
            registers.write(register(port), command & !enable)?;
        }
    }
    for port in port_list() {
        let command = registers.wait(register(port), enable | running, 0)?;
        if command & (enable | running) != 0 {
            return Err(IdleError::PortRunning { port, command });
        }
    }
    Ok(())
}
