//! The nodes below the PCI host bridge: bridges, and under each the functions behind it (docs/handoff.md).
//!
//! Trust: numbers and windows are ours by now, what they stand for is the host's. All of it is checked against the host
//! bridge once more: buses nest, and no address has two owners. PCI-to-PCI Bridge Architecture 1.2, chapters 3 and 4.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::build::Builder;
use super::cells::split;
use super::function::{FunctionNode, PREFETCHABLE, SPACE_MEM32, SPACE_MEM64};
use super::pci::PciHost;
use super::write::WriteError;
use crate::addr::{Bdf, IpaRange};
use crate::boot::slot::MAX_HOPS;
use alloc::vec;
use alloc::vec::Vec;

/// Most bridges: one for each bus.
pub const MAX_BRIDGES: usize = 256;
/// Most function nodes.
pub const MAX_FUNCTIONS: usize = 256;
/// Granularity of a bridge's windows in bytes.
const WINDOW_ALIGN: u64 = 1 << 20;

/// What the payload is told of one bridge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BridgeNode {
    /// Where it is.
    pub bdf: Bdf,
    /// Vendor id.
    pub vendor_id: u16,
    /// Device id.
    pub device_id: u16,
    /// Revision.
    pub revision_id: u8,
    /// Class, subclass and interface, 24 bits.
    pub class_code: u32,
    /// Index of the bridge above, smaller than its own; `None`: on the root bus.
    pub above: Option<usize>,
    /// The bus behind it.
    pub secondary: u8,
    /// Last bus behind it.
    pub subordinate: u8,
    /// Memory window, below 4 GiB.
    pub memory: Option<IpaRange>,
    /// Prefetchable window.
    pub prefetchable: Option<IpaRange>,
}

impl BridgeNode {
    fn windows(&self) -> impl Iterator<Item = IpaRange> {
        self.memory.into_iter().chain(self.prefetchable)
    }

    fn begin(&self, tree: &mut Builder) -> Result<(), WriteError> {
        let bdf = self.bdf;
        tree.begin(format_args!("pci@{:x},{:x}", bdf.device(), bdf.function()));
        tree.cells("reg", &[u32::from(bdf.routing_id()) << 8, 0, 0, 0, 0]);
        tree.text("device_type", "pci")?;
        tree.cells("#address-cells", &[3]);
        tree.cells("#size-cells", &[2]);
        tree.cells("bus-range", &[u32::from(self.secondary), u32::from(self.subordinate)]);
        tree.cells("vendor-id", &[u32::from(self.vendor_id)]);
        tree.cells("device-id", &[u32::from(self.device_id)]);
        tree.cells("revision-id", &[u32::from(self.revision_id)]);
        tree.cells("class-code", &[self.class_code]);
        let mut ranges = Vec::new();
        let memory = self.memory.map(|window| (SPACE_MEM32, window));
        let prefetchable = self.prefetchable.map(|window| {
            let space = if window.top() <= 1 << 32 { SPACE_MEM32 } else { SPACE_MEM64 };
            (PREFETCHABLE | space, window)
        });
        for (hi, window) in memory.into_iter().chain(prefetchable) {
            for _ in 0..2 {
                ranges.push(hi);
                ranges.extend(split(window.base()));
            }
            ranges.extend(split(window.len_bytes()));
        }
        if !ranges.is_empty() {
            tree.cells("ranges", &ranges);
        }
        Ok(())
    }
}

/// All that is below the host bridge.
pub(super) struct Fabric<'a> {
    pub(super) host: &'a PciHost,
    pub(super) bridges: &'a [BridgeNode],
    pub(super) functions: &'a [FunctionNode<'a>],
}

impl Fabric<'_> {
    /// Writes the functions, and the bridges on the way to them; the host bridge's node is open.
    pub(super) fn write(&self, tree: &mut Builder) -> Result<(), WriteError> {
        for (count, most) in [(self.bridges.len(), MAX_BRIDGES), (self.functions.len(), MAX_FUNCTIONS)] {
            if count > most {
                return Err(WriteError::TooMany(count));
            }
        }
        self.check_places()?;
        self.check_addresses()?;
        let mut shown = vec![false; self.bridges.len()];
        for function in self.functions {
            let mut next = function.above;
            while let Some(index) = next {
                next = self.bridges.get(index).and_then(|bridge| bridge.above);
                if let Some(shown) = shown.get_mut(index) {
                    *shown = true;
                }
            }
        }
        self.write_below(tree, None, &shown)
    }

    /// Writes what hangs on one bus: the functions, then the bridges with what is behind them. `check_places` bounds the
    /// depth.
    fn write_below(
        &self,
        tree: &mut Builder,
        above: Option<usize>,
        shown: &[bool],
    ) -> Result<(), WriteError> {
        for function in self.functions.iter().filter(|function| function.above == above) {
            function.write(tree)?;
        }
        for (index, (bridge, shown_here)) in self.bridges.iter().zip(shown).enumerate() {
            if *shown_here && bridge.above == above {
                bridge.begin(tree)?;
                self.write_below(tree, Some(index), shown)?;
                tree.end();
            }
        }
        Ok(())
    }

    /// Returns the first bus behind a bridge and the last one, or those of the host bridge.
    fn buses(&self, above: Option<usize>) -> Option<(u8, u8)> {
        match above {
            None => Some((self.host.first_bus, self.host.last_bus)),
            Some(index) => self.bridges.get(index).map(|bridge| (bridge.secondary, bridge.subordinate)),
        }
    }

    /// Every function is on the bus that its bridge leads to; buses nest and have one bridge each.
    fn check_places(&self) -> Result<(), WriteError> {
        let mut depths: Vec<usize> = Vec::new();
        for (index, bridge) in self.bridges.iter().enumerate() {
            let wrong = Err(WriteError::Nesting(bridge.bdf));
            if bridge.class_code > 0x00ff_ffff {
                return Err(WriteError::ClassCode { bdf: bridge.bdf, class_code: bridge.class_code });
            }
            // A bridge above has a smaller index: its depth is known, and there is no circle.
            let depth = match bridge.above {
                None => 1,
                Some(above) => match depths.get(above) {
                    Some(depth) => depth.saturating_add(1),
                    None => return wrong,
                },
            };
            let Some((bus, last)) = self.buses(bridge.above) else { return wrong };
            let nested = bridge.bdf.bus() == bus
                && bus < bridge.secondary
                && bridge.secondary <= bridge.subordinate
                && bridge.subordinate <= last;
            let shared = self.bridges.iter().take(index).any(|other| {
                other.above == bridge.above
                    && other.secondary <= bridge.subordinate
                    && bridge.secondary <= other.subordinate
            });
            if !nested || shared || depth > MAX_HOPS {
                return wrong;
            }
            depths.push(depth);
        }
        for function in self.functions {
            if self.buses(function.above).map(|(bus, _)| bus) != Some(function.bdf.bus()) {
                return Err(WriteError::Nesting(function.bdf));
            }
        }
        let all = || self.bridges.iter().map(|b| b.bdf).chain(self.functions.iter().map(|f| f.bdf));
        for (index, bdf) in all().enumerate() {
            if all().take(index).any(|other| other == bdf) {
                return Err(WriteError::SameFunction(bdf));
            }
        }
        Ok(())
    }

    /// Every window and every BAR is inside what the bridge above forwards, and no two on one bus share an address. So no
    /// two anywhere do.
    fn check_addresses(&self) -> Result<(), WriteError> {
        let mut owned: Vec<(Option<usize>, IpaRange)> = Vec::new();
        for bridge in self.bridges {
            for window in bridge.windows() {
                let aligned = window.base() | window.len_bytes();
                let low = bridge.memory != Some(window) || window.top() <= 1 << 32;
                if !aligned.is_multiple_of(WINDOW_ALIGN) || !low || !self.forwards(bridge.above, window) {
                    return Err(WriteError::Window { bdf: bridge.bdf, window });
                }
                owned.push((bridge.above, window));
            }
        }
        for function in self.functions {
            for bar in &function.bars {
                let bad = WriteError::Bar { bdf: function.bdf, index: bar.index };
                let range = bar.pages().filter(|range| self.forwards(function.above, *range)).ok_or(bad)?;
                owned.push((function.above, range));
            }
        }
        for (index, (above, range)) in owned.iter().enumerate() {
            let mut before = owned.iter().take(index);
            if let Some((_, first)) = before.find(|(other, first)| other == above && first.overlaps(range)) {
                return Err(WriteError::SameAddress { first: *first, second: *range });
            }
        }
        Ok(())
    }

    fn forwards(&self, above: Option<usize>, range: IpaRange) -> bool {
        match above {
            None => self.host.windows.iter().any(|window| window.range.contains(&range)),
            Some(index) => self
                .bridges
                .get(index)
                .is_some_and(|bridge| bridge.windows().any(|window| window.contains(&range))),
        }
    }
}
