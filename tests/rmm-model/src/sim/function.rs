//! Simulated PCI functions: configuration space with write masks, and a few registers.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

const COMMAND: u16 = 0x04;
const CAP_PM: u16 = 0x60;
const CAP_PCIE: u16 = 0x80;
const CAP_MSIX: u16 = 0xD0;
/// DevCtl: initiate function level reset.
const INITIATE_FLR: u8 = 0x80;

/// NVMe registers.
const NVME_CAP: u64 = 0x00;
const NVME_VS: u64 = 0x08;
const NVME_CC: u64 = 0x14;
const NVME_CSTS: u64 = 0x1C;

/// What answers behind the BARs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    HostBridge,
    RootPort,
    Nvme,
    Edu,
    VirtioNet,
}

/// One function.
pub struct SimFunction {
    /// Device and function number.
    pub devfn: u8,
    /// Index in the machine's list of the root port above it.
    pub parent: Option<usize>,
    kind: Kind,
    config: Vec<u8>,
    reset: Vec<u8>,
    masks: Vec<u8>,
    bars: Vec<(usize, u64, bool)>,
    registers: BTreeMap<(usize, u64), u8>,
    /// How many function level resets it took.
    pub resets: u32,
}

impl SimFunction {
    fn new(kind: Kind, device: u8, function: u8, ids: (u16, u16), class: u32) -> SimFunction {
        let mut made = SimFunction {
            devfn: device << 3 | function,
            parent: None,
            kind,
            config: vec![0; 0x1000],
            reset: Vec::new(),
            masks: vec![0; 0x1000],
            bars: Vec::new(),
            registers: BTreeMap::new(),
            resets: 0,
        };
        made.put(0x00, &ids.0.to_le_bytes());
        made.put(0x02, &ids.1.to_le_bytes());
        made.put(0x08, &(class << 8 | 1).to_le_bytes());
        made.mask(COMMAND, &0x0547u16.to_le_bytes());
        made.mask(0x3C, &[0xFF]);
        made
    }

    fn put(&mut self, at: u16, bytes: &[u8]) {
        self.config[usize::from(at)..usize::from(at) + bytes.len()].copy_from_slice(bytes);
    }

    fn mask(&mut self, at: u16, bytes: &[u8]) {
        self.masks[usize::from(at)..usize::from(at) + bytes.len()].copy_from_slice(bytes);
    }

    fn bar(&mut self, index: usize, len: u64, is_64: bool) {
        let at = 0x10 + 4 * index as u16;
        self.put(at, &[if is_64 { 4 } else { 0 }]);
        let mask = !(len - 1);
        if is_64 {
            self.mask(at, &mask.to_le_bytes());
        } else {
            self.mask(at, &(mask as u32).to_le_bytes());
        }
        self.bars.push((index, len, is_64));
    }

    fn capability(&mut self, at: u16, id: u8, body: &[u8]) {
        let head = self.config[0x34];
        self.put(at, &[id, head]);
        self.put(at + 2, body);
        self.put(0x34, &[at as u8]);
        self.put(0x06, &[0x10]);
    }

    fn pcie(&mut self, device_type: u8, capabilities: u32) {
        let mut body = [0; 0x3A];
        body[0] = 2 | device_type << 4;
        body[2..6].copy_from_slice(&capabilities.to_le_bytes());
        self.capability(CAP_PCIE, 0x10, &body);
        // DevCtl; Initiate FLR reads zero.
        self.mask(CAP_PCIE + 8, &0x7FFFu16.to_le_bytes());
    }

    fn msix(&mut self, entries: u16, bar: u8, table: u32, pba: u32) {
        let mut body = Vec::from((entries - 1).to_le_bytes());
        body.extend((table | u32::from(bar)).to_le_bytes());
        body.extend((pba | u32::from(bar)).to_le_bytes());
        self.capability(CAP_MSIX, 0x11, &body);
        self.mask(CAP_MSIX + 3, &[0xC0]);
    }

    fn done(mut self) -> SimFunction {
        self.reset = self.config.clone();
        self
    }

    /// Makes the host bridge at 00.0.
    pub fn host_bridge() -> SimFunction {
        SimFunction::new(Kind::HostBridge, 0, 0, (0x1B36, 0x0008), 0x06_0000).done()
    }

    /// Makes an NVMe controller: one 64-bit BAR of 16 KiB, MSI-X table in page 2, pending bits in page 3, FLR.
    pub fn nvme(device: u8, function: u8) -> SimFunction {
        let mut made = SimFunction::new(Kind::Nvme, device, function, (0x1B36, 0x0010), 0x01_0802);
        made.bar(0, 0x4000, true);
        made.capability(CAP_PM, 0x01, &[3, 0, 0, 0, 0, 0]);
        made.mask(CAP_PM + 4, &[3]);
        made.pcie(0, 1 << 15 | 1 << 28);
        made.msix(65, 0, 0x2000, 0x3000);
        made.done()
    }

    /// Makes a function like QEMU's `edu`: a 32-bit BAR of 1 MiB, no PCI Express capability, no reset.
    pub fn edu(device: u8, function: u8) -> SimFunction {
        let mut made = SimFunction::new(Kind::Edu, device, function, (0x1234, 0x11E8), 0x00_FF00);
        made.bar(0, 0x10_0000, false);
        made.capability(0x40, 0x05, &[0x80, 0, 0, 0, 0, 0]);
        made.mask(0x42, &[1]);
        made.done()
    }

    /// Makes an emulated virtio-net: BAR 1 with MSI-X, BAR 4 with the registers.
    pub fn virtio_net(device: u8, function: u8) -> SimFunction {
        let mut made = SimFunction::new(Kind::VirtioNet, device, function, (0x1AF4, 0x1041), 0x02_0000);
        made.bar(1, 0x1000, false);
        made.bar(4, 0x4000, true);
        made.msix(4, 1, 0, 0x800);
        made.done()
    }

    /// Makes a root port.
    pub fn root_port(device: u8, function: u8) -> SimFunction {
        let mut made = SimFunction::new(Kind::RootPort, device, function, (0x1B36, 0x000C), 0x06_0400);
        made.put(0x0E, &[1]);
        made.mask(0x18, &[0xFF; 3]);
        made.mask(0x20, &[0xF0, 0xFF, 0xF0, 0xFF, 0xF0, 0xFF, 0xF0, 0xFF]);
        made.put(0x24, &[1, 0, 1, 0]);
        made.mask(0x28, &[0xFF; 8]);
        made.pcie(4, 1 << 15);
        made.done()
    }

    /// Puts the function behind the root port with this index in the machine's list.
    pub fn behind(mut self, port: usize) -> SimFunction {
        self.parent = Some(port);
        self
    }

    fn word(&self, at: u16) -> u64 {
        let at = usize::from(at);
        u64::from(u32::from_le_bytes([
            self.config[at],
            self.config[at + 1],
            self.config[at + 2],
            self.config[at + 3],
        ]))
    }

    pub(super) fn secondary(&self) -> u8 {
        if self.kind == Kind::RootPort { self.config[0x19] } else { 0 }
    }

    /// A root port's memory windows.
    pub(super) fn forwards(&self, pa: u64) -> bool {
        let window = |value: u64, base: u64, limit: u64| {
            let low = (value & 0xFFF0) << 16 | base << 32;
            let high = (value >> 16 & 0xFFF0) << 16 | 0xF_FFFF | limit << 32;
            pa >= low && pa <= high
        };
        self.config[4] & 2 != 0
            && (window(self.word(0x20), 0, 0) || window(self.word(0x24), self.word(0x28), self.word(0x2C)))
    }

    /// The BAR and the offset behind a real address.
    pub(super) fn decode(&self, pa: u64) -> Option<(usize, u64)> {
        if self.config[usize::from(COMMAND)] & 2 == 0 || self.kind == Kind::RootPort {
            return None;
        }
        self.bars.iter().find_map(|(index, len, is_64)| {
            let at = 0x10 + 4 * *index as u16;
            let high = if *is_64 { self.word(at + 4) } else { 0 };
            let base = high << 32 | self.word(at) & !0xF;
            (pa >= base && pa - base < *len).then(|| (*index, pa - base))
        })
    }

    pub(super) fn config_read(&self, offset: u16, width: u8) -> u32 {
        let bytes = self.config.get(usize::from(offset)..usize::from(offset) + usize::from(width));
        bytes
            .map_or(u32::MAX, |bytes| bytes.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte)))
    }

    pub(super) fn config_write(&mut self, offset: u16, width: u8, value: u32) {
        let was_d3 = self.config[usize::from(CAP_PM) + 4] & 3 == 3;
        let has_pm = self.config[usize::from(CAP_PM)] == 0x01;
        for (at, byte) in (usize::from(offset)..).zip(&value.to_le_bytes()[..usize::from(width)]) {
            let Some(mask) = self.masks.get(at).copied() else { return };
            self.config[at] = self.config[at] & !mask | byte & mask;
            let is_control = at == usize::from(CAP_PCIE) + 9 && self.config[usize::from(CAP_PCIE)] == 0x10;
            let flr = self.word(CAP_PCIE + 4) & 1 << 28 != 0;
            if is_control && flr && byte & INITIATE_FLR != 0 {
                self.function_reset();
                return;
            }
        }
        if has_pm && was_d3 && self.config[usize::from(CAP_PM) + 4] & 3 == 0 {
            self.function_reset();
        }
    }

    fn function_reset(&mut self) {
        self.config.clone_from(&self.reset);
        self.registers.clear();
        self.resets += 1;
    }

    fn stored(&self, bar: usize, offset: u64, width: u8) -> u64 {
        let byte = |at: u64| u64::from(self.registers.get(&(bar, at)).copied().unwrap_or(0));
        (0..u64::from(width)).rev().fold(0, |value, index| value << 8 | byte(offset + index))
    }

    pub(super) fn read(&self, bar: usize, offset: u64, width: u8) -> u64 {
        // 2048 queue entries, contiguous queues, 500 ms to ready, NVM command set.
        let nvme_cap: u64 = 0x0000_0020_0101_07FF;
        match (self.kind, offset) {
            (Kind::Nvme, NVME_CAP) => nvme_cap,
            (Kind::Nvme, 4) => nvme_cap >> 32,
            (Kind::Nvme, NVME_VS) => 0x0001_0400,
            // Ready follows enable at once.
            (Kind::Nvme, NVME_CSTS) => self.stored(bar, NVME_CC, 4) & 1,
            (Kind::Edu, 0) => 0x0100_00ED,
            (Kind::Edu, 4) => !self.stored(bar, 4, 4),
            _ => self.stored(bar, offset, width),
        }
    }

    pub(super) fn write(&mut self, bar: usize, offset: u64, width: u8, value: u64) {
        let bytes = value.to_le_bytes();
        for (at, byte) in (offset..).zip(&bytes[..usize::from(width.min(8))]) {
            self.registers.insert((bar, at), *byte);
        }
    }
}
