//! One simulated PCI function: configuration space with write masks, routing registers, resets.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

const COMMAND: u16 = 0x04;
pub(super) const CAP_PM: u16 = 0x60;
pub(super) const CAP_PCIE: u16 = 0x80;
pub(super) const CAP_MSIX: u16 = 0xD0;
/// DevCtl: initiate function level reset.
const INITIATE_FLR: u8 = 0x80;
/// DevCap: function level reset.
pub(super) const FLR: u32 = 1 << 28;
/// DevCap2 and DevCtl2: ARI forwarding.
const ARI_FORWARDING: u8 = 1 << 5;
/// Registers of the SR-IOV capability.
const SRIOV_CONTROL: usize = 0x08;
const SRIOV_NUM_VFS: usize = 0x10;
const SRIOV_FIRST: u16 = 0x14;
const SRIOV_STRIDE: u16 = 0x16;
const SRIOV_BARS: u16 = 0x24;

/// What answers behind the BARs, and how requests are routed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    HostBridge,
    RootPort,
    UpstreamPort,
    DownstreamPort,
    Nvme,
    Edu,
    Ahci,
    Xhci,
    Plain,
}

/// One BAR.
#[derive(Clone, Copy, Debug)]
pub(super) struct SimBar {
    pub(super) index: usize,
    pub(super) len: u64,
    pub(super) is_64: bool,
}

/// SR-IOV of a physical function.
#[derive(Clone, Debug)]
pub(super) struct Virtual {
    /// Offset of the capability.
    pub(super) cap: u16,
    /// BARs of each virtual function.
    pub(super) bars: Vec<SimBar>,
    /// Virtual functions that it can have.
    pub(super) total: u16,
}

/// One function.
pub struct SimFunction {
    /// Device and function number, or the function number of an ARI device. Of a virtual function it means nothing.
    pub devfn: u8,
    /// Index in the machine's list of the bridge above it.
    pub parent: Option<usize>,
    /// How many function level resets it took.
    pub resets: u32,
    pub(super) kind: Kind,
    /// Of a virtual function: index of the physical one, and number.
    pub(super) vf: Option<(usize, u16)>,
    pub(super) sriov: Option<Virtual>,
    pub(super) registers: BTreeMap<(usize, u64), u8>,
    config: Vec<u8>,
    reset: Vec<u8>,
    masks: Vec<u8>,
    bars: Vec<SimBar>,
    next_extended: u16,
}

impl SimFunction {
    pub(super) fn new(kind: Kind, device: u8, function: u8, ids: (u16, u16), class: u32) -> SimFunction {
        let mut made = SimFunction {
            devfn: device << 3 | function,
            parent: None,
            resets: 0,
            kind,
            vf: None,
            sriov: None,
            registers: BTreeMap::new(),
            config: vec![0; 0x1000],
            reset: Vec::new(),
            masks: vec![0; 0x1000],
            bars: Vec::new(),
            next_extended: 0x100,
        };
        made.put(0x00, &ids.0.to_le_bytes());
        made.put(0x02, &ids.1.to_le_bytes());
        made.put(0x08, &(class << 8 | 1).to_le_bytes());
        made.mask(COMMAND, &0x0547u16.to_le_bytes());
        made.mask(0x3C, &[0xFF]);
        made
    }

    pub(super) fn put(&mut self, at: u16, bytes: &[u8]) {
        self.config[usize::from(at)..usize::from(at) + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn mask(&mut self, at: u16, bytes: &[u8]) {
        self.masks[usize::from(at)..usize::from(at) + bytes.len()].copy_from_slice(bytes);
    }

    /// Gives a register its flags and its write mask.
    fn bar_register(&mut self, at: u16, len: u64, is_64: bool, is_prefetchable: bool) {
        self.put(at, &[(u8::from(is_64) << 2) | (u8::from(is_prefetchable) << 3)]);
        let mask = !(len - 1);
        if is_64 {
            self.mask(at, &mask.to_le_bytes());
        } else {
            self.mask(at, &(mask as u32).to_le_bytes());
        }
    }

    pub(super) fn bar(&mut self, index: usize, len: u64, is_64: bool, is_prefetchable: bool) {
        self.bar_register(0x10 + 4 * index as u16, len, is_64, is_prefetchable);
        self.bars.push(SimBar { index, len, is_64 });
    }

    pub(super) fn io_bar(&mut self, index: usize, len: u32) {
        let at = 0x10 + 4 * index as u16;
        self.put(at, &[1]);
        self.mask(at, &(!(len - 1)).to_le_bytes());
    }

    pub(super) fn capability(&mut self, at: u16, id: u8, body: &[u8]) {
        let head = self.config[0x34];
        self.put(at, &[id, head]);
        self.put(at + 2, body);
        self.put(0x34, &[at as u8]);
        self.put(0x06, &[0x10]);
    }

    /// Adds an extended capability behind the last one; returns where.
    pub(super) fn extended(&mut self, id: u16, body: &[u8]) -> u16 {
        let at = self.next_extended;
        let mut last = 0x100;
        while at != 0x100 && self.word(last) >> 20 != 0 {
            last = (self.word(last) >> 20) as u16;
        }
        if at != 0x100 {
            let header = self.word(last) as u32 | u32::from(at) << 20;
            self.put(last, &header.to_le_bytes());
        }
        self.put(at, &(u32::from(id) | 1 << 16).to_le_bytes());
        self.put(at + 4, body);
        self.next_extended = (at + 4 + body.len() as u16).next_multiple_of(16);
        at
    }

    pub(super) fn pcie(&mut self, device_type: u8, capabilities: u32) {
        let mut body = [0; 0x3A];
        body[0] = 2 | device_type << 4;
        body[2..6].copy_from_slice(&capabilities.to_le_bytes());
        let is_port = matches!(self.kind, Kind::RootPort | Kind::DownstreamPort);
        body[0x22] = if is_port { ARI_FORWARDING } else { 0 };
        self.capability(CAP_PCIE, 0x10, &body);
        // DevCtl; Initiate FLR reads zero.
        self.mask(CAP_PCIE + 8, &0x7FFFu16.to_le_bytes());
        self.mask(CAP_PCIE + 0x28, &[if is_port { ARI_FORWARDING } else { 0 }]);
    }

    pub(super) fn msix(&mut self, entries: u16, bar: u8, table: u32, pba: u32) {
        let mut body = Vec::from((entries - 1).to_le_bytes());
        body.extend((table | u32::from(bar)).to_le_bytes());
        body.extend((pba | u32::from(bar)).to_le_bytes());
        self.capability(CAP_MSIX, 0x11, &body);
        self.mask(CAP_MSIX + 3, &[0xC0]);
    }

    /// Adds SR-IOV: `total` virtual functions of device id `device`, first offset 0x80, stride 2.
    pub(super) fn virtual_functions(&mut self, total: u16, device: u16, bars: &[SimBar]) {
        let mut body = [0; 0x3C];
        body[0x08..0x0A].copy_from_slice(&total.to_le_bytes());
        body[0x0A..0x0C].copy_from_slice(&total.to_le_bytes());
        body[0x10..0x12].copy_from_slice(&0x80u16.to_le_bytes());
        body[0x12..0x14].copy_from_slice(&2u16.to_le_bytes());
        body[0x16..0x18].copy_from_slice(&device.to_le_bytes());
        // Supported and system page size: 4 KiB.
        body[0x18..0x1C].copy_from_slice(&0x553u32.to_le_bytes());
        body[0x1C..0x20].copy_from_slice(&1u32.to_le_bytes());
        let cap = self.extended(0x10, &body);
        self.mask(cap + SRIOV_CONTROL as u16, &[0x1F, 0]);
        self.mask(cap + SRIOV_NUM_VFS as u16, &[0xFF, 0xFF]);
        self.mask(cap + 0x20, &0x553u32.to_le_bytes());
        for bar in bars {
            self.bar_register(cap + SRIOV_BARS + 4 * bar.index as u16, bar.len, bar.is_64, true);
        }
        self.sriov = Some(Virtual { cap, bars: bars.to_vec(), total });
    }

    /// Takes the present configuration as that after a reset.
    pub(super) fn done(mut self) -> SimFunction {
        self.reset = self.config.clone();
        self
    }

    pub(super) fn word(&self, at: u16) -> u64 {
        let at = usize::from(at);
        u64::from(u32::from_le_bytes([
            self.config[at],
            self.config[at + 1],
            self.config[at + 2],
            self.config[at + 3],
        ]))
    }

    pub(super) fn is_bridge(&self) -> bool {
        matches!(self.kind, Kind::RootPort | Kind::UpstreamPort | Kind::DownstreamPort)
    }

    /// Secondary and subordinate bus.
    pub(super) fn buses(&self) -> (u8, u8) {
        if self.is_bridge() { (self.config[0x19], self.config[0x1A]) } else { (0, 0) }
    }

    /// Whether the port passes requests to this function number of the bus behind it: device 0, others by ARI.
    pub(super) fn reaches(&self, devfn: u8) -> bool {
        let is_link = matches!(self.kind, Kind::RootPort | Kind::DownstreamPort);
        !is_link || devfn < 8 || self.config[usize::from(CAP_PCIE) + 0x28] & ARI_FORWARDING != 0
    }

    /// Bus master enable.
    pub(super) fn is_master(&self) -> bool {
        self.config[usize::from(COMMAND)] & 4 != 0
    }

    /// A bridge's memory windows.
    pub(super) fn forwards(&self, pa: u64) -> bool {
        let window = |value: u64, base: u64, limit: u64| {
            let low = (value & 0xFFF0) << 16 | base << 32;
            let high = (value >> 16 & 0xFFF0) << 16 | 0xF_FFFF | limit << 32;
            pa >= low && pa <= high
        };
        self.is_bridge()
            && self.config[4] & 2 != 0
            && (window(self.word(0x20), 0, 0) || window(self.word(0x24), self.word(0x28), self.word(0x2C)))
    }

    fn bar_base(&self, at: u16, bar: &SimBar) -> u64 {
        let high = if bar.is_64 { self.word(at + 4) } else { 0 };
        high << 32 | self.word(at) & !0xF
    }

    /// The BAR and the offset behind a real address.
    pub(super) fn decode(&self, pa: u64) -> Option<(usize, u64)> {
        if self.config[usize::from(COMMAND)] & 2 == 0 || self.is_bridge() {
            return None;
        }
        self.bars.iter().find_map(|bar| {
            let base = self.bar_base(0x10 + 4 * bar.index as u16, bar);
            (pa >= base && pa - base < bar.len).then(|| (bar.index, pa - base))
        })
    }

    /// The device and function number of a virtual function, if it is started.
    pub(super) fn virtual_devfn(&self, number: u16) -> Option<u8> {
        let sriov = self.sriov.as_ref()?;
        let cap = usize::from(sriov.cap);
        let half = |at: u16| self.word(sriov.cap + (at & !3)) as u32 >> (8 * u32::from(at & 3)) & 0xFFFF;
        let count = half(SRIOV_NUM_VFS as u16);
        let offset = half(SRIOV_FIRST) + half(SRIOV_STRIDE) * u32::from(number);
        let is_on = self.config[cap + SRIOV_CONTROL] & 1 != 0 && u32::from(number) < count;
        u8::try_from(u32::from(self.devfn) + offset).ok().filter(|_| is_on)
    }

    /// The BAR and the offset of a virtual function behind a real address.
    pub(super) fn decode_virtual(&self, number: u16, pa: u64) -> Option<(usize, u64)> {
        self.virtual_devfn(number)?;
        let sriov = self.sriov.as_ref()?;
        if self.config[usize::from(sriov.cap) + SRIOV_CONTROL] & 8 == 0 {
            return None;
        }
        sriov.bars.iter().find_map(|bar| {
            let first = self.bar_base(sriov.cap + SRIOV_BARS + 4 * bar.index as u16, bar);
            let base = first + u64::from(number) * bar.len;
            (pa >= base && pa - base < bar.len).then(|| (bar.index, pa - base))
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
            // The number of virtual functions stays while they run.
            let is_fixed = self.sriov.as_ref().is_some_and(|sriov| {
                let cap = usize::from(sriov.cap);
                self.config[cap + SRIOV_CONTROL] & 1 != 0 && (at & !1) == cap + SRIOV_NUM_VFS
            });
            if !is_fixed {
                self.config[at] = self.config[at] & !mask | byte & mask;
            }
            let is_control = at == usize::from(CAP_PCIE) + 9 && self.config[usize::from(CAP_PCIE)] == 0x10;
            if is_control && self.word(CAP_PCIE + 4) & u64::from(FLR) != 0 && byte & INITIATE_FLR != 0 {
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
}
