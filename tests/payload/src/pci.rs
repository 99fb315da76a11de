//! Config space: where the MSI-X table is, and that no interrupt is enabled (PCI Express Base Specification 6.2,
//! sections 7.5.1 and 7.7).

use crate::mmio::Mmio;

const ID: u64 = 0x00;
const COMMAND_STATUS: u64 = 0x04;
/// Status: capability list.
const STATUS_LIST: u32 = 1 << (16 + 4);
const COMMAND_MSE: u32 = 1 << 1;
const COMMAND_BME: u32 = 1 << 2;
const CAPABILITIES: u64 = 0x34;
const CAP_MSI: u32 = 0x05;
const CAP_MSIX: u32 = 0x11;
/// MSI message control: enable.
const MSI_ENABLE: u32 = 1 << 16;
/// MSI-X message control: enable.
const MSIX_ENABLE: u32 = 1 << 31;
/// Most capabilities that fit a config space.
const MAX_CAPS: u32 = 48;

/// What config space says of interrupts.
#[derive(Clone, Copy)]
pub struct Interrupts {
    /// MSI or MSI-X is enabled.
    pub enabled: bool,
    /// BAR, byte offset and number of entries of the MSI-X table.
    pub table: Option<(usize, u64, u32)>,
}

/// Config space of one function.
pub struct Config(pub Mmio);

impl Config {
    /// Vendor and device id.
    pub fn ids(&self) -> (u32, u32) {
        let id = self.0.read(ID);
        (id & 0xffff, id >> 16)
    }

    /// Returns whether memory decode and bus mastering are on.
    pub fn is_active(&self) -> bool {
        let on = COMMAND_MSE | COMMAND_BME;
        self.0.read(COMMAND_STATUS) & on == on
    }

    /// Walks the capabilities.
    pub fn interrupts(&self) -> Interrupts {
        let mut found = Interrupts { enabled: false, table: None };
        if self.0.read(COMMAND_STATUS) & STATUS_LIST == 0 {
            return found;
        }
        let mut at = self.0.read(CAPABILITIES) & 0xfc;
        for _ in 0..MAX_CAPS {
            if at < 0x40 {
                break;
            }
            let offset = u64::from(at);
            let head = self.0.read(offset);
            match head & 0xff {
                CAP_MSI => found.enabled |= head & MSI_ENABLE != 0,
                CAP_MSIX => {
                    found.enabled |= head & MSIX_ENABLE != 0;
                    let table = self.0.read(offset + 4);
                    let entries = (head >> 16 & 0x7ff) + 1;
                    found.table = Some(((table & 7) as usize, u64::from(table & !7), entries));
                }
                _ => {}
            }
            at = head >> 8 & 0xfc;
        }
        found
    }
}
