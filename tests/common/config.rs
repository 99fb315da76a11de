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

    fn at(ipa: u64, size: AccessSize, store: Option<u64>) -> Access {
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
        let at = usize::from(access.register);
        let len = usize::try_from(access.bytes).unwrap();
        let function = self.functions.get(&access.bdf.routing_id());
        let byte = |at: usize| function.map_or(0xff, |function| function.bytes[at]);
        (at..at + len).rev().fold(0, |value, at| value << 8 | u64::from(byte(at)))
    }

    fn io_write(&mut self, ipa: u64, size: AccessSize, value: u64, _: &mut dyn RealmRam) {
        let access = Self::at(ipa, size, Some(value));
        self.trace.push(access);
        let Some(function) = self.functions.get_mut(&access.bdf.routing_id()) else { return };
        let at = usize::from(access.register);
        for (at, byte) in (at..at + usize::try_from(access.bytes).unwrap()).zip(value.to_le_bytes()) {
            let mask = function.masks[at];
            function.bytes[at] = function.bytes[at] & !mask | byte & mask;
        }
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
