//! Properties of the PCIe library: what is allocated fits together, and no configuration space makes it panic or go on for
//! ever.
mod common;

use common::config::Space;
use common::fabric::{DOWNSTREAM, Fabric, ROOT, UPSTREAM};
use gatehouse::addr::{GRANULE_SIZE, IpaRange};
use gatehouse::fdt::pci::Window;
use gatehouse::pcie::{
    Allocation, BarSize, Function, Kind, PcieError, Topology, allocate, open_bridges, prepare, size_bars,
    walk,
};
use proptest::collection::vec;
use proptest::prelude::*;

const GIB: u64 = 1 << 30;
const UNIT: u64 = 1 << 20;

/// A tree of bridges with functions: each entry hangs under an earlier bridge, or on the root bus.
fn fabric(nodes: &[(u8, u8)]) -> Fabric {
    let mut fabric = Fabric::default();
    // Bridges that can hold more: index, depth, port type, devices below.
    let mut open: Vec<(Option<usize>, usize, u8, u8)> = vec![(None, 0, 0, 0)];
    for (place, kind) in nodes {
        let len = open.len();
        let (above, depth, port, used) = &mut open[usize::from(*place) % len];
        if *used >= if matches!(*port, ROOT | DOWNSTREAM) { 1 } else { 32 } {
            continue;
        }
        let (above, devfn, depth) = (*above, *used << 3, *depth);
        *used += 1;
        let port = match above {
            None => ROOT,
            _ if *port == UPSTREAM => DOWNSTREAM,
            _ => UPSTREAM,
        };
        if *kind % 2 == 0 && depth < 6 {
            open.push((Some(fabric.bridge(above, devfn, port)), depth + 1, port, 0));
        } else {
            fabric.add(above, devfn, Space::endpoint());
        }
    }
    fabric
}

fn topology(nodes: &[(u8, u8)]) -> Topology {
    let (mut platform, ecam) = fabric(nodes).open(255);
    walk(&mut platform, &ecam).unwrap()
}

fn bars(sizes: impl Strategy<Value = u32>) -> impl Strategy<Value = Vec<BarSize>> {
    vec((sizes, any::<bool>(), any::<bool>()), 0..4).prop_map(|bars| {
        let bar = |(index, (order, wide, prefetchable)): (u8, (u32, bool, bool))| {
            // 32-bit BARs are smaller.
            let order = if wide { order } else { order.min(30) };
            BarSize { index, wide, prefetchable, size: 1u64 << order }
        };
        (0..).zip(bars).map(bar).collect()
    })
}

fn host() -> impl Strategy<Value = Vec<Window>> {
    let window = (0..64u64, 1..0x4_0000u64, any::<bool>());
    vec(window, 0..6).prop_map(|windows| {
        let mut next = 0;
        let mut made = Vec::new();
        for (gap, pages, prefetchable) in windows {
            // Half of them below 4 GiB; sizes up to 1 GiB below, 256 GiB above.
            let base: u64 = next + gap * 0x40_1000;
            let (base, len) = if base + pages * GRANULE_SIZE <= 4 * GIB && made.len() % 2 == 0 {
                (base, pages * GRANULE_SIZE)
            } else {
                (base.max(4 * GIB), pages * UNIT)
            };
            next = base + len;
            let range = IpaRange::new(base, len).unwrap();
            made.push(Window { range, wide: base >= 4 * GIB, prefetchable });
        }
        made
    })
}

/// Checks everything that must hold of an allocation.
fn check(topology: &Topology, wanted: &[(&Function, &[BarSize])], host: &[Window], got: &Allocation) {
    assert_eq!((got.bars.len(), got.windows.len()), (wanted.len(), topology.bridges.len()));
    // What stands on a bus: the bridge above, the range, below 4 GiB (or: prefetchable).
    let mut on_bus: Vec<(Option<usize>, IpaRange)> = Vec::new();
    for (index, windows) in got.windows.iter().enumerate() {
        let above = topology.bridges[index].above;
        let parent = above.map(|above| got.windows[above]);
        for (window, outer) in [
            (windows.memory, parent.and_then(|parent| parent.memory)),
            (windows.prefetchable, parent.and_then(|parent| parent.prefetchable)),
        ] {
            let Some(window) = window else { continue };
            assert!(window.base().is_multiple_of(UNIT) && window.top().is_multiple_of(UNIT));
            assert!(window.base() != 0);
            assert!(above.is_none() || outer.is_some_and(|outer| outer.contains(&window)));
            assert!(host.iter().any(|host| host.range.contains(&window)), "in one window of the host");
            on_bus.push((above, window));
        }
        assert!(windows.memory.is_none_or(|memory| memory.top() <= 4 * GIB));
    }
    for ((function, sizes), result) in wanted.iter().zip(&got.bars) {
        let Ok(bars) = result else {
            let Err(PcieError::NoRoom { bdf, bar, size }) = result else { panic!("{result:?}") };
            assert_eq!(*bdf, function.bdf);
            assert!(sizes.iter().any(|wanted| (wanted.index, wanted.size) == (*bar, *size)));
            continue;
        };
        assert_eq!(bars.len(), sizes.len());
        for (bar, size) in bars.iter().zip(*sizes) {
            let same =
                BarSize { index: bar.index, wide: bar.wide, prefetchable: bar.prefetchable, size: bar.size };
            assert_eq!(same, *size);
            assert!(bar.address != 0 && bar.address.is_multiple_of(bar.size.max(GRANULE_SIZE)));
            let range = bar.range(function.bdf).unwrap();
            assert!(bar.wide || range.top() <= 4 * GIB);
            assert!(host.iter().any(|host| host.range.contains(&range)));
            if let Some(above) = function.above {
                let windows = got.windows[above];
                let inside = |window: Option<IpaRange>| window.is_some_and(|window| window.contains(&range));
                assert!(inside(windows.memory) || bar.wide && inside(windows.prefetchable));
                assert!(!(bar.wide && bar.prefetchable) || inside(windows.prefetchable));
            }
            on_bus.push((function.above, range));
        }
    }
    for (index, (above, range)) in on_bus.iter().enumerate() {
        for (other, apart) in &on_bus[..index] {
            assert!(above != other || !range.overlaps(apart), "{range} and {apart} on one bus");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn what_is_allocated_fits_together(
        nodes in vec(any::<(u8, u8)>(), 1..40),
        sizes in vec(bars(prop_oneof![4 => 4u32..24, 1 => 24u32..38]), 40),
        host in host(),
    ) {
        let topology = topology(&nodes);
        let wanted: Vec<_> = topology.functions.iter().zip(&sizes).map(|(f, s)| (f, s.as_slice())).collect();
        let got = allocate(&topology, &wanted, &host);
        check(&topology, &wanted, &host, &got);
        // Who was refused took no room.
        let fitting: Vec<_> =
            wanted.iter().zip(&got.bars).filter(|(_, bars)| bars.is_ok()).map(|(wanted, _)| *wanted).collect();
        let again = allocate(&topology, &fitting, &host);
        prop_assert_eq!(&again.windows, &got.windows);
        prop_assert!(again.bars.iter().eq(got.bars.iter().filter(|bars| bars.is_ok())));
    }

    #[test]
    fn in_large_windows_everything_has_room(
        nodes in vec(any::<(u8, u8)>(), 1..24),
        sizes in vec(bars(4u32..37), 24),
    ) {
        let window = |base, len| Window {
            range: IpaRange::new(base, len).unwrap(),
            wide: base >= 4 * GIB,
            prefetchable: false,
        };
        let host = [window(0x1000_0000, 0xf000_0000), window(1 << 40, 1 << 44)];
        let topology = topology(&nodes);
        // At most 32 MiB of each below 4 GiB.
        let sizes: Vec<Vec<_>> = sizes
            .iter()
            .map(|bars| bars.iter().map(|bar| {
                let size = if bar.wide && bar.prefetchable { bar.size } else { bar.size.min(8 << 20) };
                BarSize { size, ..*bar }
            }).collect())
            .collect();
        let wanted: Vec<_> =
            topology.functions.iter().zip(&sizes).map(|(f, s)| (f, s.as_slice())).collect();
        let got = allocate(&topology, &wanted, &host);
        check(&topology, &wanted, &host, &got);
        prop_assert!(got.bars.iter().all(Result::is_ok));
    }
}

/// Bits that depend on everything that goes in.
fn mix(seed: u64, values: [u64; 3]) -> u64 {
    values.iter().fold(seed, |state, value| {
        let state = (state ^ value).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let state = (state ^ state >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state ^ state >> 27
    })
}

/// Walks, sizes, allocates, opens and prepares whatever comes out; returns the number of accesses.
fn everything(fabric: Fabric) -> usize {
    let (mut platform, ecam) = fabric.open(255);
    let Ok(topology) = walk(&mut platform, &ecam) else { return platform.machine.trace.len() };
    let functions: Vec<_> =
        topology.functions.iter().filter(|function| function.kind == Kind::Endpoint).take(8).collect();
    let sizes: Vec<_> = functions
        .iter()
        .map(|function| size_bars(&mut platform, &ecam, function).unwrap_or_default())
        .collect();
    let wanted: Vec<_> = functions.iter().zip(&sizes).map(|(f, s)| (*f, s.as_slice())).collect();
    let window = |base, len| Window {
        range: IpaRange::new(base, len).unwrap(),
        wide: base >= 4 * GIB,
        prefetchable: false,
    };
    let host = [window(0x1000_0000, 0x2eff_0000), window(1 << 39, 1 << 39)];
    let got = allocate(&topology, &wanted, &host);
    check(&topology, &wanted, &host, &got);
    let _ = open_bridges(&mut platform, &ecam, &topology, &got.windows);
    for (function, bars) in functions.iter().zip(&got.bars) {
        assert_eq!(topology.find(&topology.path(function)).map(|found| found.kind), Some(Kind::Endpoint));
        if let Ok(bars) = bars {
            let _ = prepare(&mut platform, &ecam, function, bars);
        }
    }
    platform.machine.trace.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn no_configuration_space_makes_it_endless(
        nodes in vec(any::<(u8, u8)>(), 1..24),
        seed in any::<u64>(),
        // How many of 256 loads are answered with something else, and whether the answer stays the same.
        lies in prop_oneof![0..6u64, 0..257u64],
        fickle in any::<bool>(),
        numbered in any::<bool>(),
        registers in prop_oneof![Just(0..0x1000u16), Just(0x18..0x1c), Just(0x34..0x1000), Just(0x10..0x30)],
    ) {
        let mut fabric = fabric(&nodes);
        if numbered {
            let (mut platform, ecam) = fabric.open(255);
            walk(&mut platform, &ecam).unwrap();
            fabric = platform.machine;
            fabric.trace.clear();
        }
        fabric.answer = Some(Box::new(move |access, count| {
            let count = if fickle { count as u64 } else { 0 };
            let bits = mix(seed, [access.bdf.routing_id().into(), access.register.into(), count]);
            if bits & 0xff >= lies || !registers.contains(&access.register) {
                return None;
            }
            Some(match bits >> 8 & 7 {
                0 => 0,
                1 => u64::MAX,
                2 => bits >> 16 & 0xff,
                3 => 0x40,
                _ => bits >> 16,
            })
        }));
        let taken = everything(fabric);
        prop_assert!(taken < 1_500_000, "{taken} accesses");
    }
}
