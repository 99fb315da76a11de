//! Addresses for all BARs at once, and the windows of the bridges that lead there. Pure.
//!
//! A bridge forwards one range below 4 GiB and one prefetchable range (PCI-to-PCI Bridge 1.2, 3.2.5): so what is behind it
//! is packed first, and the bridge asks for the sum, as one item, on the bus above. Larger alignments go first and small
//! things fill the holes. Each address is a multiple of the BAR's size: IPA and report address then agree modulo every
//! block size up to that of the BAR, because the reporting offset is a multiple of it too (DEN0137 2.0 beta, A9.6.2).
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::space::Space;
use super::{Bar, BarSize, Bars, Bridge, BridgeWindows, Function, PcieError, Topology};
use crate::abi::pcie as abi;
use crate::addr::{GRANULE_SIZE, IpaRange};
use crate::fdt::pci::Window;
use alloc::vec::Vec;

/// What [`allocate`] found room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allocation {
    /// One for each wanted function, in its order.
    pub bars: Vec<Result<Bars, PcieError>>,
    /// One for each bridge of the topology.
    pub windows: Vec<BridgeWindows>,
}

/// First address above what a 32-bit BAR or a memory window reaches.
const LOW_TOP: u64 = 1 << 32;
/// More than any bus can ask for, and every sum of such fits 64 bits.
const MOST: u64 = 1 << 62;

/// The two ranges of a bridge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pool {
    /// Below 4 GiB.
    Memory,
    /// Anywhere.
    Prefetchable,
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    /// A BAR of the wanted function with this index.
    Bar(usize, BarSize),
    /// The bridge with this index.
    Bridge(usize),
}

/// One request to a bus: a BAR, or a window of a bridge.
#[derive(Clone, Copy, Debug)]
struct Item {
    owner: Owner,
    above: Option<usize>,
    pool: Pool,
    size: u64,
    align: u64,
    /// Where, once it is known: relative to the window above.
    place: u64,
}

/// Chooses addresses for the BARs of `wanted` in the windows of the host bridge, and windows for the bridges above them.
///
/// Functions are served in their order: one that does not fit gets an error and takes no room. On the root bus 64-bit BARs
/// go above 4 GiB where there is room; behind a bridge the prefetchable ones do, and others only when there is no room below
/// (all bridges are PCI Express ports). Prefetchable host windows are for prefetchable BARs first.
/// Address 0 is never given; BARs smaller than a page sit alone in theirs.
#[must_use]
pub fn allocate(topology: &Topology, wanted: &[(&Function, &[BarSize])], host: &[Window]) -> Allocation {
    let mut admitted: Vec<Item> = Vec::new();
    let mut placed = Vec::new();
    let mut refused = Vec::new();
    for (index, (function, sizes)) in wanted.iter().enumerate() {
        let before = admitted.clone();
        let result = request(index, function, sizes, &mut admitted)
            .and_then(|()| fit(topology, &mut admitted, host, index, function));
        match result {
            Ok(items) => placed = items,
            Err(error) => {
                admitted = before;
                refused.push((index, error));
            }
        }
    }
    let mut bars: Vec<Result<Bars, PcieError>> = wanted.iter().map(|_| Ok(Bars::new())).collect();
    let mut windows: Vec<_> = topology.bridges.iter().map(|_| BridgeWindows::default()).collect();
    for item in &placed {
        match item.owner {
            Owner::Bar(of, BarSize { index, wide, prefetchable, size }) => {
                if let Some(Ok(bars)) = bars.get_mut(of) {
                    bars.push(Bar { index, wide, prefetchable, address: item.place, size });
                }
            }
            Owner::Bridge(of) => {
                let range = IpaRange::new(item.place, item.size).ok();
                match (windows.get_mut(of), item.pool) {
                    (Some(windows), Pool::Memory) => windows.memory = range,
                    (Some(windows), Pool::Prefetchable) => windows.prefetchable = range,
                    (None, _) => {}
                }
            }
        }
    }
    for (index, error) in refused {
        if let Some(entry) = bars.get_mut(index) {
            *entry = Err(error);
        }
    }
    Allocation { bars, windows }
}

/// Adds the requests of one function.
fn request(
    of: usize,
    function: &Function,
    sizes: &[BarSize],
    items: &mut Vec<Item>,
) -> Result<(), PcieError> {
    for bar in sizes {
        if !bar.size.is_power_of_two() {
            return Err(PcieError::BarSize { bdf: function.bdf, bar: bar.index, value: bar.size });
        }
        let room = bar.size.max(GRANULE_SIZE);
        let high = bar.wide && (bar.prefetchable || function.above.is_none());
        items.push(Item {
            owner: Owner::Bar(of, *bar),
            above: function.above,
            pool: if high { Pool::Prefetchable } else { Pool::Memory },
            size: room,
            align: room,
            place: 0,
        });
    }
    Ok(())
}

/// Finds places for all of `items`; the function `of` came last, and it is what does not fit. 64-bit BARs that are not
/// prefetchable move out of the bridges' memory windows, the largest first, until the rest fits.
fn fit(
    topology: &Topology,
    items: &mut [Item],
    host: &[Window],
    of: usize,
    function: &Function,
) -> Result<Vec<Item>, PcieError> {
    loop {
        let failed = match layout(&topology.bridges, items, host) {
            Ok(items) => return Ok(items),
            Err(failed) => failed,
        };
        let movable = |item: &&mut Item| {
            matches!(item.owner, Owner::Bar(_, bar) if bar.wide) && item.pool == Pool::Memory
        };
        let largest = items.iter_mut().filter(movable).max_by_key(|item| item.size);
        if let (Pool::Memory, Some(item)) = (failed.pool, largest) {
            item.pool = Pool::Prefetchable;
            continue;
        }
        // The one that failed, or the largest BAR of the newcomer in that window.
        let of_newcomer = |item: &&Item| matches!(item.owner, Owner::Bar(k, _) if k == of);
        let culprit = Some(&failed).filter(of_newcomer).or_else(|| {
            let key = |item: &&Item| (item.pool == failed.pool, item.size);
            items.iter().filter(of_newcomer).max_by_key(key)
        });
        let (bar, size) = match culprit.map(|item| item.owner) {
            Some(Owner::Bar(_, bar)) => (bar.index, bar.size),
            _ => (0, 0),
        };
        return Err(PcieError::NoRoom { bdf: function.bdf, bar, size });
    }
}

/// Places `items` and the windows that they need, or returns what does not fit.
fn layout(bridges: &[Bridge], items: &[Item], host: &[Window]) -> Result<Vec<Item>, Item> {
    let mut items = items.to_vec();
    // Bottom up: a bridge comes after the one above it.
    for (index, bridge) in bridges.iter().enumerate().rev() {
        for pool in [Pool::Memory, Pool::Prefetchable] {
            let mut space = Space::new(0, MOST);
            let (mut end, mut align) = (0, abi::WINDOW_UNIT);
            in_order(&mut items, &|item| item.above == Some(index) && item.pool == pool, &mut |item| {
                let place = space.take(item.size, item.align)?;
                align = align.max(item.align);
                end = end.max(place.checked_add(item.size)?);
                Some(place)
            })?;
            if end > 0 {
                let size = end.next_multiple_of(abi::WINDOW_UNIT);
                let owner = Owner::Bridge(index);
                items.push(Item { owner, above: bridge.above, pool, size, align, place: 0 });
            }
        }
    }
    let mut spaces: Vec<_> = host
        .iter()
        .map(|window| (window, Space::new(window.range.base().max(GRANULE_SIZE), window.range.top())))
        .collect();
    in_order(&mut items, &|item| item.above.is_none(), &mut |item| {
        preferences(item).iter().find_map(|(low, prefetchable)| {
            let fits = |window: &Window| {
                (window.range.top() <= LOW_TOP) == *low && window.prefetchable == *prefetchable
            };
            let mut fitting = spaces.iter_mut().filter(|(window, _)| fits(window));
            fitting.find_map(|(_, space)| space.take(item.size, item.align))
        })
    })?;
    // Top down: a window was added after everything in it.
    let mut bases: Vec<_> = bridges.iter().map(|_| [0u64; 2]).collect();
    for item in items.iter_mut().rev() {
        let pool = |bases: &[u64; 2]| if item.pool == Pool::Memory { bases[0] } else { bases[1] };
        let base = item.above.and_then(|above| bases.get(above)).map_or(0, pool);
        item.place = item.place.saturating_add(base);
        if let Owner::Bridge(index) = item.owner
            && let Some([memory, prefetchable]) = bases.get_mut(index)
        {
            *(if item.pool == Pool::Memory { memory } else { prefetchable }) = item.place;
        }
    }
    Ok(items)
}

/// Host windows for an item of the root bus, best first: below 4 GiB, prefetchable.
fn preferences(item: &Item) -> &'static [(bool, bool)] {
    let prefetchable = match item.owner {
        Owner::Bar(_, bar) => bar.prefetchable,
        Owner::Bridge(_) => item.pool == Pool::Prefetchable,
    };
    match (item.pool, prefetchable) {
        (Pool::Memory, false) => &[(true, false), (true, true)],
        (Pool::Memory, true) => &[(true, true), (true, false)],
        (Pool::Prefetchable, false) => &[(false, false), (true, false), (false, true), (true, true)],
        (Pool::Prefetchable, true) => &[(false, true), (false, false), (true, true), (true, false)],
    }
}

/// Gives each of the items that `which` names a place, the largest alignment first; the first without is the error.
fn in_order(
    items: &mut [Item],
    which: &dyn Fn(&Item) -> bool,
    place: &mut dyn FnMut(&Item) -> Option<u64>,
) -> Result<(), Item> {
    // Alignments are powers of two.
    let all = items.iter().filter(|item| which(item)).fold(0, |all, item| all | item.align);
    for align in (0..u64::BITS).rev().map(|order| 1u64.rotate_left(order)).filter(|align| all & align != 0) {
        for item in items.iter_mut().filter(|item| item.align == align && which(item)) {
            item.place = place(item).ok_or(*item)?;
        }
    }
    Ok(())
}
