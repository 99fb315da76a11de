//! What the walk found: bridges, and the functions behind them.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::{Function, Kind};
use crate::addr::Bdf;
use crate::boot::slot::{Hop, MAX_HOPS, SlotPath};
use alloc::vec::Vec;

/// A PCI-to-PCI bridge: root port, port of a switch (header layout 1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bridge {
    /// Where it is.
    pub bdf: Bdf,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Revision id.
    pub revision: u8,
    /// Class code, 24 bits.
    pub class: u32,
    /// The bridge above, an index into [`Topology::bridges`]; `None`: on the root bus.
    pub above: Option<usize>,
    /// The bus behind it.
    pub secondary: u8,
    /// The highest bus behind it.
    pub subordinate: u8,
    /// The bus that it stands on, as it says itself.
    pub(super) primary: u8,
    /// PCI Express capability of a root port or downstream port: behind it is one device.
    pub(super) port: Option<u16>,
}

impl Bridge {
    /// Tells whether `later` is the same bridge with the same buses; what it said of its primary bus before it got its
    /// numbers does not count.
    #[must_use]
    pub fn is_still(&self, later: &Self) -> bool {
        *later == Self { primary: later.primary, ..self.clone() }
    }
}

/// All bridges and functions. A bridge comes after the one above it; functions stand bus by bus, depth first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// Header layout 1.
    pub bridges: Vec<Bridge>,
    /// Everything else.
    pub functions: Vec<Function>,
}

impl Topology {
    /// Returns the function at `path`, if it is an endpoint: nothing else can be a device.
    #[must_use]
    pub fn find(&self, path: &SlotPath) -> Option<&Function> {
        let (last, bridges) = path.hops().split_last()?;
        let mut above = None;
        for hop in bridges {
            let here = |bridge: &Bridge| bridge.above == above && Hop::from(bridge.bdf) == *hop;
            above = Some(self.bridges.iter().position(here)?);
        }
        self.functions.iter().find(|function| {
            function.above == above && Hop::from(function.bdf) == *last && function.kind == Kind::Endpoint
        })
    }

    /// Returns the path of `function`.
    #[must_use]
    pub fn path(&self, function: &Function) -> SlotPath {
        self.path_of(function.bdf, function.above)
    }

    /// Returns the path of `bridge`.
    #[must_use]
    pub fn bridge_path(&self, bridge: &Bridge) -> SlotPath {
        self.path_of(bridge.bdf, bridge.above)
    }

    fn path_of(&self, bdf: Bdf, mut above: Option<usize>) -> SlotPath {
        let mut hops = Vec::from([Hop::from(bdf)]);
        while let Some(bridge) = above.and_then(|index| self.bridges.get(index)) {
            // The walk goes no deeper.
            if hops.len() >= MAX_HOPS {
                break;
            }
            hops.push(Hop::from(bridge.bdf));
            above = bridge.above;
        }
        hops.reverse();
        SlotPath::from_hops(hops)
    }
}
