//! What makes a device idle: it fetches nothing from memory by itself.

use crate::device::Kind;
use crate::edu::Edu;
use crate::mmio::Mmio;
use crate::nvme::Controller;
use core::fmt;

/// AHCI: ports that are there (Serial ATA AHCI 1.3.1, section 3.1.4).
const AHCI_PORTS: u64 = 0x0c;
/// Command and status of port 0, and distance to the next port (3.3.7).
const AHCI_PORT_COMMAND: u64 = 0x118;
const AHCI_PORT_LEN: u64 = 0x80;
/// ST, FRE, FR, CR.
const AHCI_RUNNING: u32 = 1 << 0 | 1 << 4 | 1 << 14 | 1 << 15;
/// xHCI: command and status behind the capability registers (xHCI 1.2, sections 5.4.1 and 5.4.2).
const XHCI_COMMAND: u64 = 0;
const XHCI_STATUS: u64 = 4;
const XHCI_RUN: u32 = 1 << 0;
const XHCI_HALTED: u32 = 1 << 0;

/// A register that says that the device works.
pub struct Busy {
    name: &'static str,
    value: u32,
}

impl fmt::Display for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:#x}", self.name, self.value)
    }
}

/// Looks at the registers that say so; nothing to see in devices that are not known.
pub fn check(kind: Kind, mmio: Mmio) -> Result<(), Busy> {
    let must = |is_idle: bool, name, value| if is_idle { Ok(()) } else { Err(Busy { name, value }) };
    match kind {
        Kind::Nvme => {
            let controller = Controller(mmio);
            let (settings, status) = controller.state();
            must(controller.is_idle(), if settings & 1 != 0 { "CC" } else { "CSTS" }, settings | status)
        }
        Kind::Edu => must(Edu(mmio).is_idle(), "DMA command", 1),
        Kind::Ahci => {
            let ports = mmio.read(AHCI_PORTS);
            for port in (0..32).filter(|port| ports >> port & 1 != 0) {
                let command = mmio.read(AHCI_PORT_COMMAND + port * AHCI_PORT_LEN);
                must(command & AHCI_RUNNING == 0, "PxCMD", command)?;
            }
            Ok(())
        }
        Kind::Xhci => {
            let operational = u64::from(mmio.read(0) & 0xff) & !3;
            let (command, status) =
                (mmio.read(operational + XHCI_COMMAND), mmio.read(operational + XHCI_STATUS));
            must(command & XHCI_RUN == 0, "USBCMD", command)?;
            must(status & XHCI_HALTED != 0, "USBSTS", status)
        }
        Kind::Igb | Kind::Other => Ok(()),
    }
}
