//! The walk: every bus, every function, each header read once; bus numbers are kept, or all assigned anew.
//!
//! PCIe Base 6.0, 7.3.1 (device numbers), 6.13 (ARI), 7.5.1.3 (bus numbers).
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::function::{Header, read};
use super::{Bridge, Ecam, PcieError, Topology};
use crate::abi::pcie as abi;
use crate::addr::Bdf;
use crate::boot::slot::MAX_HOPS;
use crate::platform::Io;
use core::ops::Range;

/// Most bridges and functions together.
pub const MAX_FUNCTIONS: usize = 1024;
/// Most buses on the way to a function, the root bus included: what a slot path can name.
pub const MAX_DEPTH: usize = MAX_HOPS;

/// Finds every bridge and every function from the first bus of `ecam` on.
///
/// The bus numbers of the bridges are kept when each of them has its own bus as primary and a range of later buses inside
/// the range of the bridge above and apart from its siblings: the host may know functions by them (vdev ids). Otherwise
/// all of them are assigned anew and read back; what was read behind bridges is dropped then and read again.
///
/// # Errors
/// [`PcieError::Io`], [`PcieError::Capabilities`], [`PcieError::TooDeep`], [`PcieError::TooManyFunctions`],
/// [`PcieError::NoBusNumber`], [`PcieError::AriOrder`], [`PcieError::BridgeReadBack`].
pub fn walk<I: Io>(io: &mut I, ecam: &Ecam) -> Result<Topology, PcieError> {
    let mut walk = Walk { io, ecam, topology: Topology::default(), next: None };
    walk.scan(ecam.first_bus(), None)?;
    let root = 0..walk.topology.bridges.len();
    let functions = walk.topology.functions.len();
    if !walk.below(ecam.first_bus(), root.clone(), ecam.last_bus(), 1)? {
        walk.topology.bridges.truncate(root.end);
        walk.topology.functions.truncate(functions);
        walk.next = Some(u16::from(ecam.first_bus()).saturating_add(1));
        walk.below(ecam.first_bus(), root, ecam.last_bus(), 1)?;
    }
    Ok(walk.topology)
}

struct Walk<'a, I> {
    io: &'a mut I,
    ecam: &'a Ecam,
    topology: Topology,
    /// The next bus number to give out; `None` as long as numbers are kept.
    next: Option<u16>,
}

impl<I: Io> Walk<'_, I> {
    /// Goes behind `bridges`, which are those of `bus`; `last` is the highest number that a bus behind them may have.
    /// Returns false when their numbers cannot be kept.
    fn below(&mut self, bus: u8, bridges: Range<usize>, last: u8, depth: usize) -> Result<bool, PcieError> {
        let here = self.topology.bridges.get(bridges.clone()).unwrap_or_default();
        let Some(first) = here.first() else { return Ok(true) };
        if depth >= MAX_DEPTH {
            return Err(PcieError::TooDeep(first.bdf));
        }
        if self.next.is_some() {
            // Old numbers would answer for buses that are given to others.
            for bdf in here.iter().map(|bridge| bridge.bdf) {
                self.ecam.write32(self.io, bdf, abi::BUS_NUMBERS, 0)?;
            }
        } else if !consistent(here, bus, last) {
            return Ok(false);
        }
        for index in bridges {
            if !self.behind(index, bus, depth)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Goes behind one bridge of `bus`.
    fn behind(&mut self, index: usize, bus: u8, depth: usize) -> Result<bool, PcieError> {
        let Some(bridge) = self.topology.bridges.get(index) else { return Ok(true) };
        let (bdf, mut secondary, mut subordinate) = (bridge.bdf, bridge.secondary, bridge.subordinate);
        if let Some(next) = self.next {
            subordinate = self.ecam.last_bus();
            secondary = u8::try_from(next)
                .ok()
                .filter(|number| *number <= subordinate)
                .ok_or(PcieError::NoBusNumber(bdf))?;
            self.next = Some(next.saturating_add(1));
            self.set_numbers(bdf, [bus, secondary, subordinate])?;
        }
        let first = self.topology.bridges.len();
        self.scan(secondary, Some(index))?;
        let found = first..self.topology.bridges.len();
        if !self.below(secondary, found, subordinate, depth.saturating_add(1))? {
            return Ok(false);
        }
        if let Some(next) = self.next {
            subordinate = u8::try_from(next.saturating_sub(1)).unwrap_or(subordinate);
            self.set_numbers(bdf, [bus, secondary, subordinate])?;
            if let Some(bridge) = self.topology.bridges.get_mut(index) {
                (bridge.secondary, bridge.subordinate) = (secondary, subordinate);
            }
        }
        Ok(true)
    }

    fn set_numbers(&mut self, bdf: Bdf, [primary, secondary, subordinate]: [u8; 3]) -> Result<(), PcieError> {
        let written = u32::from_le_bytes([primary, secondary, subordinate, 0]);
        self.ecam.write_checked(self.io, bdf, abi::BUS_NUMBERS, written, abi::BUS_NUMBERS_MASK)
    }

    /// Reads what is on `bus`, behind the bridge `above`. Behind a port is one device only.
    fn scan(&mut self, bus: u8, above: Option<usize>) -> Result<(), PcieError> {
        let bridge = above.and_then(|index| self.topology.bridges.get(index));
        let port = bridge.and_then(|bridge| Some((bridge.bdf, bridge.port?)));
        let base = u16::from(bus) << 8;
        for device in 0..if port.is_some() { 1 } else { 32u16 } {
            let first = base | device << 3;
            let Some((multi, ari)) = self.function(first, above)? else { continue };
            if let (Some((bdf, express)), Some(ari)) = (port, ari)
                && self.chain(first, ari, above, || (bdf, express))?
            {
                continue;
            }
            if multi {
                for function in 1..8 {
                    self.function(first | function, above)?;
                }
            }
        }
        Ok(())
    }

    /// Follows the chain of function numbers from `first`, if it has one and the port above can forward by it.
    fn chain(
        &mut self,
        first: u16,
        ari: u16,
        above: Option<usize>,
        port: impl Fn() -> (Bdf, u16),
    ) -> Result<bool, PcieError> {
        let mut current = Bdf::from_routing_id(first);
        let mut capability = ari;
        let mut forwards = false;
        loop {
            let at = capability.saturating_add(abi::ARI_CAPABILITY);
            let [_, next] = self.ecam.read16(self.io, current, at)?.to_le_bytes();
            if next == 0 {
                return Ok(forwards);
            }
            let [here, _] = current.routing_id().to_le_bytes();
            if next <= here {
                return Err(PcieError::AriOrder { bdf: current, next });
            }
            let (bdf, express) = port();
            if !forwards && !self.forward(bdf, express)? {
                return Ok(false);
            }
            forwards = true;
            let rid = first | u16::from(next);
            // A gap ends the chain: who should come next is not known.
            let Some((_, Some(ari))) = self.function(rid, above)? else { return Ok(true) };
            (current, capability) = (Bdf::from_routing_id(rid), ari);
        }
    }

    /// Turns ARI forwarding of a port on. Returns whether it can.
    fn forward(&mut self, bdf: Bdf, express: u16) -> Result<bool, PcieError> {
        let (ecam, io) = (self.ecam, &mut *self.io);
        let capabilities = express.saturating_add(abi::EXP_DEVICE_CAPABILITIES_2);
        if ecam.read32(io, bdf, capabilities)? & abi::DEVCAP2_ARI_FORWARDING == 0 {
            return Ok(false);
        }
        let register = express.saturating_add(abi::EXP_DEVICE_CONTROL_2);
        let control = ecam.read16(io, bdf, register)?;
        let written = control | abi::DEVCTL2_ARI_FORWARDING;
        if control != written {
            ecam.write16(io, bdf, register, written)?;
            let read = ecam.read16(io, bdf, register)?;
            if read & abi::DEVCTL2_ARI_FORWARDING == 0 {
                let (written, read) = (written.into(), read.into());
                return Err(PcieError::BridgeReadBack { bdf, register, written, read });
            }
        }
        Ok(true)
    }

    /// Reads one function, if it is there. Returns its multi-function bit and its ARI capability.
    fn function(&mut self, rid: u16, above: Option<usize>) -> Result<Option<(bool, Option<u16>)>, PcieError> {
        let bdf = Bdf::from_routing_id(rid);
        let Some((header, multi)) = read(self.io, self.ecam, bdf, above)? else { return Ok(None) };
        let Topology { bridges, functions } = &mut self.topology;
        if bridges.len().saturating_add(functions.len()) >= MAX_FUNCTIONS {
            return Err(PcieError::TooManyFunctions(bdf));
        }
        Ok(Some((
            multi,
            match header {
                Header::Bridge(bridge) => {
                    bridges.push(bridge);
                    None
                }
                Header::Function(function) => {
                    let ari = function.capabilities.ari;
                    functions.push(function);
                    ari
                }
            },
        )))
    }
}

/// Tells whether the numbers of the bridges of `bus` can be kept.
fn consistent(bridges: &[Bridge], bus: u8, last: u8) -> bool {
    bridges.iter().enumerate().all(|(index, bridge)| {
        let apart =
            |other: &Bridge| other.subordinate < bridge.secondary || bridge.subordinate < other.secondary;
        bridge.primary == bus
            && bridge.secondary > bus
            && bridge.secondary <= bridge.subordinate
            && bridge.subordinate <= last
            && bridges.iter().take(index).all(apart)
    })
}
