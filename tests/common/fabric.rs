//! Bridges, and what is behind them: a configuration access goes where the bridges' bus numbers lead.
use super::config::{Access, Bus, ECAM, Space};
use gatehouse::addr::{Bdf, IpaRange};
use gatehouse::arch::host::{HostMachine, HostPlatform, RealmRam, ipa_width};
use gatehouse::pcie::Ecam;
use gatehouse::platform::AccessSize;

/// Port types of the PCI Express capability.
pub const ROOT: u8 = 4;
pub const UPSTREAM: u8 = 5;
pub const DOWNSTREAM: u8 = 6;

/// A function or bridge.
#[derive(Clone)]
pub struct Node {
    /// The bridge above.
    pub above: Option<usize>,
    pub devfn: u8,
    pub space: Space,
}

/// Answers a load instead of the registers; the number of accesses so far comes with it.
pub type Answer = Box<dyn Fn(Access, usize) -> Option<u64>>;

/// The machine.
#[derive(Default)]
pub struct Fabric {
    pub nodes: Vec<Node>,
    pub trace: Vec<Access>,
    pub answer: Option<Answer>,
}

impl Fabric {
    /// Adds a function; returns its index.
    pub fn add(&mut self, above: Option<usize>, devfn: u8, space: Space) -> usize {
        self.nodes.push(Node { above, devfn, space });
        self.nodes.len() - 1
    }

    /// Adds a bridge of this port type without bus numbers.
    pub fn bridge(&mut self, above: Option<usize>, devfn: u8, port: u8) -> usize {
        self.add(above, devfn, Space::bridge(Some(port)))
    }

    /// Tells whether an access to `bus` passes the bridges from this one up; the bus behind each of them is another.
    fn passes(&self, bridge: Option<usize>, bus: u8) -> bool {
        bridge.is_none_or(|bridge| {
            let Node { above, space, .. } = &self.nodes[bridge];
            space.bytes[0x19] < bus && bus <= space.bytes[0x1a] && self.passes(*above, bus)
        })
    }

    /// The nodes that answer.
    fn at(&self, bdf: Bdf) -> Vec<usize> {
        let (bus, devfn) = (bdf.bus(), bdf.routing_id() as u8);
        let here = |node: &Node| match node.above {
            None => bus == 0,
            Some(above) => {
                let bridge = &self.nodes[above].space;
                let port = bridge.bytes[0x40] == 0x10 && matches!(bridge.bytes[0x42] >> 4, ROOT | DOWNSTREAM);
                let ari = bridge.bytes[0x68] & 0x20 != 0;
                bus != 0
                    && bridge.bytes[0x19] == bus
                    && bus <= bridge.bytes[0x1a]
                    && self.passes(self.nodes[above].above, bus)
                    && (!port || ari || devfn < 8)
            }
        };
        (0..self.nodes.len())
            .filter(|index| self.nodes[*index].devfn == devfn && here(&self.nodes[*index]))
            .collect()
    }

    /// How often a register was read.
    pub fn reads(&self, bdf: Bdf, register: u16) -> usize {
        let same =
            |access: &&Access| access.bdf == bdf && access.register == register && access.store.is_none();
        self.trace.iter().filter(same).count()
    }

    /// All stores: routing id, register, value.
    pub fn stores(&self) -> Vec<(u16, u16, u64)> {
        let store = |access: &Access| Some((access.bdf.routing_id(), access.register, access.store?));
        self.trace.iter().filter_map(store).collect()
    }

    /// Tells whether a memory access at `address` of the root bus gets through to a BAR of `node` at it.
    pub fn reaches(&self, node: usize, address: u64) -> bool {
        let mut above = self.nodes[node].above;
        while let Some(bridge) = above {
            let space = &self.nodes[bridge].space;
            let unit = |low, high| (space.get(low, 2) & 0xfff0) << 16 | high << 32;
            let inside = |base: u64, limit: u64| base <= address && address <= limit | 0xf_ffff;
            let memory = inside(unit(0x20, 0), unit(0x22, 0));
            let prefetchable = inside(unit(0x24, space.get(0x28, 4)), unit(0x26, space.get(0x2c, 4)));
            if space.bytes[4] & 6 != 6 || !memory && !prefetchable {
                return false;
            }
            above = self.nodes[bridge].above;
        }
        true
    }

    /// A platform on the fabric, with configuration space of buses 0 to `last` open.
    pub fn open(self, last: u8) -> (HostPlatform<Self>, Ecam) {
        let mut platform = HostPlatform::new(self, ipa_width());
        let range = IpaRange::new(ECAM, (u64::from(last) + 1) << 20).unwrap();
        let ecam = Ecam::open(&mut platform, range, 0, last).unwrap();
        (platform, ecam)
    }
}

impl HostMachine for Fabric {
    fn smc(&mut self, regs: &mut [u64; 18], _: &mut dyn RealmRam) {
        panic!("SMC {regs:x?}")
    }

    fn io_read(&mut self, ipa: u64, size: AccessSize, _: &mut dyn RealmRam) -> u64 {
        let access = Bus::at(ipa, size, None);
        self.trace.push(access);
        if let Some(value) = self.answer.as_ref().and_then(|answer| answer(access, self.trace.len())) {
            return value;
        }
        let found = self.at(access.bdf);
        assert!(found.len() < 2 || self.answer.is_some(), "two answer at {}", access.bdf);
        let space = found.first().map(|index| &self.nodes[*index].space);
        space.map_or(u64::MAX, |space| space.get(access.register.into(), access.bytes as usize))
    }

    fn io_write(&mut self, ipa: u64, size: AccessSize, value: u64, _: &mut dyn RealmRam) {
        let access = Bus::at(ipa, size, Some(value));
        self.trace.push(access);
        for index in self.at(access.bdf) {
            self.nodes[index].space.store(access.register.into(), access.bytes as usize, value);
        }
    }
}
