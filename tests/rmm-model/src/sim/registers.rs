//! What the registers behind the BARs do: as much of each device as an idle check, or a demo of DMA, asks for.

use super::function::{Kind, SimFunction};

/// NVMe registers.
const NVME_CAP: u64 = 0x00;
const NVME_VS: u64 = 0x08;
const NVME_CC: u64 = 0x14;
const NVME_CSTS: u64 = 0x1C;
/// 2048 queue entries, contiguous queues, 500 ms to ready, NVM command set.
const NVME_CAP_VALUE: u64 = 0x0000_0020_0101_07FF;

/// edu registers.
const EDU_ID: u64 = 0x00;
const EDU_LIVENESS: u64 = 0x04;
const EDU_FACTORIAL: u64 = 0x08;
const EDU_DMA_SOURCE: u64 = 0x80;
const EDU_DMA_TARGET: u64 = 0x88;
const EDU_DMA_COUNT: u64 = 0x90;
const EDU_DMA_COMMAND: u64 = 0x98;
const EDU_BUFFER: u64 = 0x4_0000;
const EDU_BUFFER_LEN: u64 = 0x1000;

/// AHCI registers: capabilities, global control, ports implemented, command of port 0.
const AHCI_CAP: u64 = 0x00;
const AHCI_GHC: u64 = 0x04;
const AHCI_PI: u64 = 0x0C;
const AHCI_VS: u64 = 0x10;
const AHCI_PORTS: u64 = 6;
const AHCI_PORT0: u64 = 0x100;
const AHCI_PORT_LEN: u64 = 0x80;
const AHCI_PXCMD: u64 = 0x18;
/// GHC: HBA reset, AHCI enable.
const GHC_HR: u32 = 1;
const GHC_AE: u32 = 1 << 31;
/// PxCMD: start, FIS receive enable, FIS receive running, command list running; spin-up and power on at reset.
const PXCMD_ST: u32 = 1;
const PXCMD_FRE: u32 = 1 << 4;
const PXCMD_FR: u32 = 1 << 14;
const PXCMD_CR: u32 = 1 << 15;
const PXCMD_RESET: u32 = 0b110;

/// xHCI registers: length of the capability registers and version, then the operational ones.
const XHCI_CAPLENGTH: u64 = 0x00;
const XHCI_OPERATIONAL: u64 = 0x40;
/// USBCMD: run, host controller reset.
const USBCMD_RS: u32 = 1;
const USBCMD_HCRST: u32 = 1 << 1;
/// USBSTS: halted.
const USBSTS_HCH: u32 = 1;

/// One transfer that a device asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Transfer {
    /// Device to RAM.
    pub(super) to_ram: bool,
    /// Address that the device puts on the bus.
    pub(super) address: u64,
    pub(super) len: u64,
    /// Offset in the device's BAR 0.
    pub(super) buffer: u64,
}

impl SimFunction {
    fn stored(&self, bar: usize, offset: u64, width: u64) -> u64 {
        let byte = |at: u64| u64::from(self.registers.get(&(bar, at)).copied().unwrap_or(0));
        (0..width).rev().fold(0, |value, index| value << 8 | byte(offset + index))
    }

    fn store(&mut self, bar: usize, offset: u64, value: &[u8]) {
        for (at, byte) in (offset..).zip(value) {
            self.registers.insert((bar, at), *byte);
        }
    }

    /// The command register of an AHCI port at an aligned offset.
    fn is_pxcmd(offset: u64) -> bool {
        (AHCI_PORT0..AHCI_PORT0 + AHCI_PORTS * AHCI_PORT_LEN).contains(&offset)
            && offset % AHCI_PORT_LEN == AHCI_PXCMD
    }

    /// One aligned dword.
    fn dword(&self, bar: usize, offset: u64) -> u32 {
        let stored = self.stored(bar, offset, 4) as u32;
        match (self.kind, offset) {
            (Kind::Nvme, NVME_CAP) => NVME_CAP_VALUE as u32,
            (Kind::Nvme, 4) => (NVME_CAP_VALUE >> 32) as u32,
            (Kind::Nvme, NVME_VS) => 0x0001_0400,
            // Ready follows enable at once.
            (Kind::Nvme, NVME_CSTS) => self.stored(bar, NVME_CC, 4) as u32 & 1,
            (Kind::Edu, EDU_ID) => 0x0100_00ED,
            (Kind::Edu, EDU_LIVENESS) => !stored,
            (Kind::Edu, EDU_FACTORIAL) => (1..=stored).fold(1, u32::wrapping_mul),
            (Kind::Ahci, AHCI_CAP) => 0xC014_1F05,
            (Kind::Ahci, AHCI_GHC) => stored & !GHC_HR | GHC_AE,
            (Kind::Ahci, AHCI_PI) => (1 << AHCI_PORTS) - 1,
            (Kind::Ahci, AHCI_VS) => 0x0001_0000,
            (Kind::Ahci, at) if SimFunction::is_pxcmd(at) => {
                let command = if self.registers.contains_key(&(bar, at)) { stored } else { PXCMD_RESET };
                let running = if command & PXCMD_ST != 0 { PXCMD_CR } else { 0 };
                let receiving = if command & PXCMD_FRE != 0 { PXCMD_FR } else { 0 };
                command & !(PXCMD_CR | PXCMD_FR) | running | receiving
            }
            (Kind::Xhci, XHCI_CAPLENGTH) => 0x0100_0000 | XHCI_OPERATIONAL as u32,
            (Kind::Xhci, 0x04) => 0x0800_1040,
            (Kind::Xhci, XHCI_OPERATIONAL) => stored & !USBCMD_HCRST,
            (Kind::Xhci, 0x44) if self.stored(bar, XHCI_OPERATIONAL, 4) as u32 & USBCMD_RS == 0 => USBSTS_HCH,
            (Kind::Xhci, 0x44) => 0,
            _ => stored,
        }
    }

    pub(super) fn read(&self, bar: usize, offset: u64, width: u8) -> u64 {
        let byte = |at: u64| u64::from(self.dword(bar, at & !3)) >> (8 * (at & 3)) & 0xFF;
        (0..u64::from(width.min(8))).rev().fold(0, |value, index| value << 8 | byte(offset + index))
    }

    /// Writes registers; returns the transfer that this starts.
    pub(super) fn write(&mut self, bar: usize, offset: u64, width: u8, value: u64) -> Option<Transfer> {
        self.store(bar, offset, &value.to_le_bytes()[..usize::from(width.min(8))]);
        match (self.kind, offset) {
            (Kind::Ahci, AHCI_GHC) if value as u32 & GHC_HR != 0 => self.registers.clear(),
            (Kind::Xhci, XHCI_OPERATIONAL) if value as u32 & USBCMD_HCRST != 0 => self.registers.clear(),
            (Kind::Edu, EDU_DMA_COMMAND) if value & 1 != 0 => return self.edu_transfer(bar, value & 2 != 0),
            _ => {}
        }
        None
    }

    /// The transfer that edu's registers describe; none if it misses the buffer. It is over when this returns.
    fn edu_transfer(&mut self, bar: usize, to_ram: bool) -> Option<Transfer> {
        let command = self.stored(bar, EDU_DMA_COMMAND, 8) & !1;
        self.store(bar, EDU_DMA_COMMAND, &command.to_le_bytes());
        let (source, target) = (self.stored(bar, EDU_DMA_SOURCE, 8), self.stored(bar, EDU_DMA_TARGET, 8));
        let len = self.stored(bar, EDU_DMA_COUNT, 8);
        let (buffer, address) = if to_ram { (source, target) } else { (target, source) };
        let end = buffer.checked_add(len)?;
        (buffer >= EDU_BUFFER && end <= EDU_BUFFER + EDU_BUFFER_LEN).then_some(Transfer {
            to_ram,
            address,
            len,
            buffer,
        })
    }
}
