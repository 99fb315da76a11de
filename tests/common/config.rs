//! A bus 0 whose functions are bytes with write masks: what a VMM emulates, and whatever else a test wants to answer.
use gatehouse::addr::{Bdf, IpaRange};
use gatehouse::arch::host::{HostMachine, HostPlatform, RealmRam, ipa_width};
use gatehouse::pcie::{Ecam, Function, walk};
use gatehouse::platform::AccessSize;
use std::collections::BTreeMap;

/// Configuration space of bus 0.
pub const ECAM: u64 = 0x40_1000_0000;

/// One function: bytes, and which bits can be written.
#[derive(Clone)]
pub struct Space {
    pub bytes: Vec<u8>,
    pub masks: Vec<u8>,
}

impl Space {
    /// An endpoint 1b36:0010 of the NVMe class: command register, nothing else can be written.
    pub fn endpoint() -> Self {
        let mut space = Self { bytes: vec![0; 4096], masks: vec![0; 4096] };
        space.put(0, &[0x36, 0x1b, 0x10, 0]);
        space.put(8, &[2, 2, 8, 1]);
        space.put(0x2c, &[0xf4, 0x1a, 0, 0x11]);
        space.masks[4..6].copy_from_slice(&[0x47, 0x05]);
        space
    }

    /// A bridge 1b36:000c whose windows and bus numbers can be written; both windows are there, the prefetchable one has 64
    /// bits. `port` is the type in its PCI Express capability at 0x40, if it has one; it can forward by ARI.
    pub fn bridge(port: Option<u8>) -> Self {
        let mut space = Self { bytes: vec![0; 4096], masks: vec![0; 4096] };
        space.put(0, &[0x36, 0x1b, 0x0c, 0]);
        space.put(8, &[3, 0, 4, 6]);
        space.put(0x0e, &[1]);
        space.put(0x24, &[1, 0, 1, 0]);
        space.masks[4..6].copy_from_slice(&[0x47, 0x05]);
        space.masks[0x18..0x1b].fill(0xff);
        space.masks[0x1c..0x1e].fill(0xf0);
        space.masks[0x20..0x28].copy_from_slice(&[0xf0, 0xff, 0xf0, 0xff, 0xf0, 0xff, 0xf0, 0xff]);
        space.masks[0x28..0x30].fill(0xff);
        let Some(port) = port else { return space };
        space = space.list(0x40).capability(0x40, 0x10, 0, &[port << 4 | 2, 0]);
        space.put(0x64, &[0x20]);
        space.masks[0x68] = 0x20;
        space
    }

    /// The same with these bus numbers: primary, secondary, subordinate.
    pub fn numbers(mut self, numbers: [u8; 3]) -> Self {
        self.put(0x18, &numbers);
        self
    }

    /// An extended capability: offset, id, next, body.
    pub fn extended(mut self, at: usize, id: u16, next: u16, body: &[u8]) -> Self {
        self.put(at, &(u32::from(next) << 20 | 1 << 16 | u32::from(id)).to_le_bytes());
        self.put(at + 4, body);
        self
    }

    /// Returns `bytes` bytes, little-endian.
    pub fn get(&self, at: usize, bytes: usize) -> u64 {
        (at..at + bytes).rev().fold(0, |value, at| value << 8 | u64::from(self.bytes[at]))
    }

    /// Writes what can be written.
    pub fn store(&mut self, at: usize, bytes: usize, value: u64) {
        for (at, byte) in (at..at + bytes).zip(value.to_le_bytes()) {
            let mask = self.masks[at];
            self.bytes[at] = self.bytes[at] & !mask | byte & mask;
        }
    }

    pub fn put(&mut self, at: usize, bytes: &[u8]) {
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
    }

    /// The head of the capability list is at `at`.
    pub fn list(mut self, at: u8) -> Self {
        self.put(0x06, &[0x10]);
        self.put(0x34, &[at]);
        self
    }

    /// A capability with its next pointer and body.
    pub fn capability(mut self, at: usize, id: u8, next: u8, body: &[u8]) -> Self {
        self.put(at, &[id, next]);
        self.put(at + 2, body);
        self
    }

    /// BAR registers: what is fixed, and what sizing reads as writable.
    pub fn bar(mut self, index: usize, fixed: u32, mask: u32) -> Self {
        let at = 0x10 + 4 * index;
        self.put(at, &fixed.to_le_bytes());
        self.masks[at..at + 4].copy_from_slice(&mask.to_le_bytes());
        self
    }
}

/// One access: function, register, bytes, value; a store or a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub bdf: Bdf,
    pub register: u16,
    pub bytes: u64,
    pub store: Option<u64>,
}

/// Answers a load instead of the bytes; the number of accesses so far comes with it.
pub type Answer = fn(access: Access, count: usize) -> Option<u64>;

/// The bus.
#[derive(Default)]
pub struct Bus {
    pub functions: BTreeMap<u16, Space>,
    pub trace: Vec<Access>,
    pub answer: Option<Answer>,
}

impl Bus {
    /// Makes a bus with one function at 00:02.0.
    pub fn with(space: Space) -> Self {
        Self { functions: [(0x10, space)].into(), ..Self::default() }
    }

    /// Decodes an address of configuration space.
    pub fn at(ipa: u64, size: AccessSize, store: Option<u64>) -> Access {
        let at = (ipa & !ipa_width().alias_bit()) - ECAM;
        let bdf = Bdf::from_routing_id(u16::try_from(at >> 12).unwrap());
        assert_ne!(ipa & ipa_width().alias_bit(), 0, "configuration space is the host's");
        Access { bdf, register: (at & 0xfff) as u16, bytes: size.bytes(), store }
    }
}

impl HostMachine for Bus {
    fn smc(&mut self, regs: &mut [u64; 18], _: &mut dyn RealmRam) {
        panic!("SMC {regs:x?}")
    }

    fn io_read(&mut self, ipa: u64, size: AccessSize, _: &mut dyn RealmRam) -> u64 {
        let access = Self::at(ipa, size, None);
        self.trace.push(access);
        if let Some(value) = self.answer.and_then(|answer| answer(access, self.trace.len())) {
            return value;
        }
        let function = self.functions.get(&access.bdf.routing_id());
        function.map_or(u64::MAX, |function| function.get(access.register.into(), access.bytes as usize))
    }

    fn io_write(&mut self, ipa: u64, size: AccessSize, value: u64, _: &mut dyn RealmRam) {
        let access = Self::at(ipa, size, Some(value));
        self.trace.push(access);
        let Some(function) = self.functions.get_mut(&access.bdf.routing_id()) else { return };
        function.store(access.register.into(), access.bytes as usize, value);
    }
}

/// A platform on the bus, with its configuration space open.
pub fn open(bus: Bus) -> (HostPlatform<Bus>, Ecam) {
    let mut platform = HostPlatform::new(bus, ipa_width());
    let range = IpaRange::new(ECAM, 1 << 20).unwrap();
    let ecam = Ecam::open(&mut platform, range, 0, 0).unwrap();
    (platform, ecam)
}

/// The one function of a bus, as the walk describes it.
pub fn function(space: &Space) -> Function {
    let (mut platform, ecam) = open(Bus::with(space.clone()));
    let mut found = walk(&mut platform, &ecam).unwrap().functions;
    assert_eq!(found.len(), 1);
    found.remove(0)
}
