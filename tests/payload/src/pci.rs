//! Config space: where the MSI-X table is, that no interrupt is enabled, and the writes of an enumeration (PCI Express Base
//! Specification 6.2, sections 7.5.1 and 7.7).

use crate::mmio::Mmio;

const ID: u64 = 0x00;
const COMMAND_STATUS: u64 = 0x04;
/// Status: capability list.
const STATUS_LIST: u32 = 1 << (16 + 4);
const COMMAND_IO: u32 = 1 << 0;
const COMMAND_MSE: u32 = 1 << 1;
const COMMAND_BME: u32 = 1 << 2;
const COMMAND_MASK: u32 = 0xffff;
const BAR0: u64 = 0x10;
const ROM: u64 = 0x30;
/// Address bits of the ROM register; bit 0 enables it.
const ROM_ADDRESS: u32 = 0xffff_f800;
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

    /// Returns whether memory decode and bus mastering are off.
    pub fn is_quiet(&self) -> bool {
        self.0.read(COMMAND_STATUS) & (COMMAND_MSE | COMMAND_BME) == 0
    }

    /// Sizes the BARs as an operating system does: decode off, all ones into each register and back, the ROM too, and the
    /// command register as before. Returns what each BAR read with all ones in it.
    pub fn size_bars(&self) -> [u32; 6] {
        let command = self.0.read(COMMAND_STATUS) & COMMAND_MASK;
        // The status half is write-one-to-clear: zeros leave it alone.
        self.0.write(COMMAND_STATUS, command & !(COMMAND_IO | COMMAND_MSE));
        let mut sized = [0; 6];
        for (offset, sized) in (BAR0..).step_by(4).zip(&mut sized) {
            *sized = self.probe(offset, u32::MAX);
        }
        self.probe(ROM, ROM_ADDRESS);
        self.0.write(COMMAND_STATUS, command);
        sized
    }

    /// Returns what a register reads with `ones` in it; it is as before then.
    fn probe(&self, offset: u64, ones: u32) -> u32 {
        let kept = self.0.read(offset);
        self.0.write(offset, ones);
        let read = self.0.read(offset);
        self.0.write(offset, kept);
        read
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
