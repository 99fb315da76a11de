//! Addresses for everything behind bridges at once, and the bridges programmed to lead there.
mod common;

use common::config::Space;
use common::fabric::{DOWNSTREAM, Fabric, ROOT, UPSTREAM};
use gatehouse::addr::{Bdf, IpaRange};
use gatehouse::fdt::pci::Window;
use gatehouse::pcie::{
    Allocation, BarSize, Bars, BridgeWindows, Function, PcieError, Topology, allocate, open_bridges, prepare,
    size_bars, walk,
};

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const LOW: u64 = 0x1000_0000;
const HIGH: u64 = 0x80_0000_0000;

fn range(base: u64, len: u64) -> IpaRange {
    IpaRange::new(base, len).unwrap()
}

fn window(base: u64, len: u64, prefetchable: bool) -> Window {
    Window { range: range(base, len), wide: base >= 4 * GIB, prefetchable }
}

/// The windows of QEMU virt.
fn virt() -> Vec<Window> {
    vec![window(LOW, 0x2eff_0000, false), window(HIGH, 512 * GIB, false)]
}

const fn narrow(size: u64) -> BarSize {
    BarSize { index: 0, wide: false, prefetchable: false, size }
}

const fn wide(size: u64) -> BarSize {
    BarSize { index: 2, wide: true, prefetchable: false, size }
}

const fn prefetchable(size: u64) -> BarSize {
    BarSize { index: 4, wide: true, prefetchable: true, size }
}

/// Endpoints at these places: on the root bus (`None`), or behind a root port or a switch port.
#[derive(Clone, Copy)]
enum Place {
    Root(u8),
    /// Behind the root port with this device number.
    Port(u8),
    /// Behind a switch below root port 05.0, at the downstream port with this number.
    Switch(u8),
}

/// Makes the machine and walks it.
fn machine(places: &[Place]) -> (Topology, Fabric) {
    let mut fabric = Fabric::default();
    let mut up = None;
    for place in places {
        let above = match *place {
            Place::Root(device) => {
                fabric.add(None, device << 3, Space::endpoint());
                continue;
            }
            Place::Port(device) => fabric.bridge(None, device << 3, ROOT),
            Place::Switch(port) => {
                let up = *up.get_or_insert_with(|| {
                    let root = fabric.bridge(None, 5 << 3, ROOT);
                    fabric.bridge(Some(root), 0, UPSTREAM)
                });
                fabric.bridge(Some(up), port << 3, DOWNSTREAM)
            }
        };
        fabric.add(Some(above), 0, Space::endpoint());
    }
    let (mut platform, ecam) = fabric.open(255);
    (walk(&mut platform, &ecam).unwrap(), platform.machine)
}

/// Allocates for the endpoints of these places, by device number of place.
fn allocated(wanted: &[(Place, &[BarSize])], host: &[Window]) -> (Topology, Allocation) {
    let places: Vec<_> = wanted.iter().map(|(place, _)| *place).collect();
    let (topology, _) = machine(&places);
    let function = |place: Place| {
        let path = match place {
            Place::Root(device) => format!("{device:02x}.0"),
            Place::Port(device) => format!("{device:02x}.0/00.0"),
            Place::Switch(port) => format!("05.0/00.0/{port:02x}.0/00.0"),
        };
        topology.find(&path.parse().unwrap()).unwrap()
    };
    let wanted: Vec<_> = wanted.iter().map(|(place, sizes)| (function(*place), *sizes)).collect();
    let allocation = allocate(&topology, &wanted, host);
    (topology, allocation)
}

/// The addresses of each function, or what has no room.
fn addresses(wanted: &[(Place, &[BarSize])], host: &[Window]) -> Vec<Result<Vec<u64>, (u8, u64)>> {
    let short = |bars: Result<Bars, PcieError>| match bars {
        Ok(bars) => Ok(bars.iter().map(|bar| bar.address).collect()),
        Err(PcieError::NoRoom { bar, size, .. }) => Err((bar, size)),
        Err(error) => panic!("{error}"),
    };
    allocated(wanted, host).1.bars.into_iter().map(short).collect()
}

fn only(bars: &[BarSize], place: Place, host: &[Window]) -> Result<Vec<u64>, (u8, u64)> {
    addresses(&[(place, bars)], host).remove(0)
}

use Place::{Port, Root, Switch};

#[test]
fn windows_of_nested_bridges_hold_what_is_behind() {
    let (topology, Allocation { bars, windows }) = allocated(
        &[
            (Switch(0), &[narrow(0x4000), prefetchable(64 * GIB)]),
            (Switch(1), &[narrow(2 * MIB), prefetchable(0x4000)]),
            (Root(3), &[narrow(MIB)]),
        ],
        &virt(),
    );
    let address = |of: usize, bar: usize| bars[of].as_ref().unwrap()[bar].address;
    // 2 MiB for port 1 and 1 MiB for port 0, then the endpoint of the root bus.
    assert_eq!([address(1, 0), address(0, 0), address(2, 0)], [LOW, LOW + 2 * MIB, LOW + 3 * MIB]);
    assert_eq!([address(0, 1), address(1, 1)], [HIGH, HIGH + 64 * GIB]);
    let memory = |index: usize| windows[index].memory.unwrap();
    let high = |index: usize| windows[index].prefetchable.unwrap();
    // Root port, upstream port, downstream ports.
    assert_eq!([memory(0), memory(1)], [range(LOW, 3 * MIB); 2]);
    assert_eq!([memory(2), memory(3)], [range(LOW + 2 * MIB, MIB), range(LOW, 2 * MIB)]);
    assert_eq!([high(0), high(1)], [range(HIGH, 64 * GIB + MIB); 2]);
    assert_eq!([high(2), high(3)], [range(HIGH, 64 * GIB), range(HIGH + 64 * GIB, MIB)]);
    assert_eq!(topology.bridges.len(), windows.len());
}

#[test]
fn bridges_that_lead_nowhere_have_no_window() {
    let (_, Allocation { bars, windows }) =
        allocated(&[(Port(1), &[]), (Port(2), &[narrow(0x1000)])], &virt());
    assert_eq!(bars[0], Ok(vec![]));
    let memory = Some(range(LOW, MIB));
    assert_eq!(windows, [BridgeWindows::default(), BridgeWindows { memory, prefetchable: None }]);
    let (topology, _) = machine(&[Switch(0), Switch(1)]);
    assert_eq!(allocate(&topology, &[], &virt()).windows, [BridgeWindows::default(); 4]);
}

#[test]
fn each_kind_of_bar_has_its_window() {
    for place in [Root(1), Port(1)] {
        assert_eq!(only(&[narrow(0x4000)], place, &virt()), Ok(vec![LOW]));
        assert_eq!(only(&[prefetchable(0x4000)], place, &virt()), Ok(vec![HIGH]));
        assert_eq!(only(&[prefetchable(0x4000)], place, &virt()[..1]), Ok(vec![LOW]), "no window above");
        assert_eq!(only(&[wide(64 * GIB)], place, &virt()), Ok(vec![HIGH]), "no room below");
        assert_eq!(only(&[narrow(0x4000)], place, &virt()[1..]), Err((0, 0x4000)));
        assert_eq!(only(&[prefetchable(GIB)], place, &virt()[..1]), Err((4, GIB)));
    }
    assert_eq!(only(&[wide(0x4000)], Root(1), &virt()), Ok(vec![HIGH]));
    assert_eq!(only(&[wide(0x4000)], Port(1), &virt()), Ok(vec![LOW]));
    // Below 4 GiB is only what the window says, not how it is called.
    let straddling = Window { range: range(0xc000_0000, 2 * GIB), wide: true, prefetchable: false };
    assert_eq!(only(&[narrow(0x4000)], Root(1), &[straddling]), Err((0, 0x4000)));
    let called = Window { range: range(LOW, MIB), wide: true, prefetchable: false };
    assert_eq!(only(&[narrow(0x4000)], Root(1), &[called]), Ok(vec![LOW]));
}

#[test]
fn the_largest_bars_leave_the_memory_window_first() {
    let host = [window(LOW, 4 * MIB, false), window(HIGH, GIB, false)];
    let bars = [narrow(MIB), BarSize { index: 1, ..wide(4 * MIB) }, BarSize { index: 3, ..wide(2 * MIB) }];
    assert_eq!(only(&bars, Port(1), &host), Ok(vec![LOW + 2 * MIB, HIGH, LOW]));
    let (_, allocation) = allocated(&[(Port(1), &bars)], &host);
    let windows =
        BridgeWindows { memory: Some(range(LOW, 3 * MIB)), prefetchable: Some(range(HIGH, 4 * MIB)) };
    assert_eq!(allocation.windows, [windows]);
    // For the sake of a neighbour, too.
    let found = addresses(&[(Port(1), &[wide(4 * MIB)]), (Root(2), &[narrow(0x1000)])], &host);
    assert_eq!(found, [Ok(vec![HIGH]), Ok(vec![LOW])]);
}

#[test]
fn small_bars_fill_the_holes() {
    // All of the window, though it begins and ends between two multiples of the larger BAR.
    let found = addresses(
        &[
            (Root(1), &[narrow(0x8_0000)]),
            (Root(2), &[narrow(MIB)]),
            (Root(3), &[BarSize { index: 1, ..narrow(0x1000) }, narrow(0x4_0000)]),
        ],
        &[window(LOW + 0x8_0000, MIB + 0xc_1000, false)],
    );
    let expected = [vec![LOW + 0x8_0000], vec![LOW + MIB], vec![LOW + 2 * MIB + 0x4_0000, LOW + 2 * MIB]];
    assert_eq!(found, expected.map(Ok));
}

#[test]
fn prefetchable_host_windows_are_for_prefetchable_bars() {
    let host = [
        window(LOW, MIB, false),
        window(LOW + GIB, MIB, true),
        window(HIGH, GIB, false),
        window(2 * HIGH, GIB, true),
    ];
    let at = |bar: BarSize, place| only(&[bar], place, &host).unwrap()[0];
    assert_eq!(at(prefetchable(0x4000), Root(1)), 2 * HIGH);
    assert_eq!(at(prefetchable(0x4000), Port(1)), 2 * HIGH);
    assert_eq!(at(wide(0x4000), Root(1)), HIGH);
    assert_eq!(at(narrow(0x4000), Root(1)), LOW);
    assert_eq!(at(BarSize { prefetchable: true, ..narrow(0x4000) }, Root(1)), LOW + GIB);
    assert_eq!(at(BarSize { prefetchable: true, ..narrow(0x4000) }, Port(1)), LOW);
    // What is full, or not there, is replaced.
    let full = [window(LOW, MIB, false), window(HIGH, MIB, true)];
    assert_eq!(only(&[wide(2 * MIB)], Root(1), &full), Err((2, 2 * MIB)));
    assert_eq!(only(&[prefetchable(MIB), wide(MIB)], Root(1), &full), Ok(vec![HIGH, LOW]));
    assert_eq!(only(&[wide(0x1000), narrow(MIB)], Root(1), &full), Ok(vec![HIGH, LOW]));
}

#[test]
fn one_that_does_not_fit_takes_no_room() {
    let host = [window(LOW, 4 * MIB, false), window(HIGH, 64 * GIB, false)];
    let wanted: [(Place, &[BarSize]); 4] = [
        (Root(1), &[narrow(MIB)]),
        (Port(2), &[narrow(0x1000), prefetchable(128 * GIB)]),
        (Port(3), &[prefetchable(64 * GIB), narrow(4 * MIB)]),
        (Switch(0), &[narrow(2 * MIB), prefetchable(64 * GIB)]),
    ];
    let found = addresses(&wanted, &host);
    let expected = [Ok(vec![LOW + 2 * MIB]), Err((4, 128 * GIB)), Err((0, 4 * MIB)), Ok(vec![LOW, HIGH])];
    assert_eq!(found, expected);
    let windows = allocated(&wanted, &host).1.windows;
    assert!(windows.iter().filter(|windows| **windows != BridgeWindows::default()).count() == 3);
    let error = PcieError::NoRoom { bdf: Bdf::from_routing_id(0x200), bar: 0, size: 4 * MIB };
    assert_eq!(allocated(&wanted, &host).1.bars[2], Err(error));
}

#[test]
fn sizes_that_are_none_are_refused() {
    for size in [0, 3, 0x1800, u64::MAX] {
        let (_, allocation) = allocated(&[(Root(1), &[narrow(size)]), (Root(2), &[wide(0x4000)])], &virt());
        let bdf = Bdf::from_routing_id(8);
        assert_eq!(allocation.bars[0], Err(PcieError::BarSize { bdf, bar: 0, value: size }));
        assert_eq!(allocation.bars[1].as_ref().unwrap()[0].address, HIGH);
    }
    for place in [Root(1), Port(1)] {
        assert_eq!(only(&[wide(1 << 63)], place, &virt()), Err((2, 1 << 63)));
        let two = [wide(1 << 61), BarSize { index: 4, ..wide(1 << 61) }];
        assert!(matches!(only(&two, place, &virt()), Err((_, 0x2000_0000_0000_0000))));
    }
}

/// Opens the bridges of a machine with these windows; returns the result and the machine.
fn opened(fabric: Fabric, windows: &[BridgeWindows]) -> (Result<(), PcieError>, Fabric) {
    let (mut platform, ecam) = fabric.open(255);
    let topology = walk(&mut platform, &ecam).unwrap();
    platform.machine.trace.clear();
    let result = open_bridges(&mut platform, &ecam, &topology, windows);
    (result, platform.machine)
}

/// Registers of a bridge: command, BAR 0, bus numbers, I/O, memory, prefetchable, upper base, upper limit, control.
fn registers(space: &Space) -> [u64; 9] {
    [
        space.get(4, 2),
        space.get(0x10, 4),
        space.get(0x18, 4),
        space.get(0x1c, 2),
        space.get(0x20, 4),
        space.get(0x24, 4),
        space.get(0x28, 4),
        space.get(0x2c, 4),
        space.get(0x3e, 2),
    ]
}

/// A root port as a VMM may leave it: everything open, a BAR that overlaps everything; its control register can be written.
fn open_port() -> Fabric {
    let mut port = Space::bridge(Some(ROOT)).bar(0, 0, 0xffff_f000);
    port.masks[0x3e] = 0xff;
    for (at, bytes, value) in
        [(4, 2, 7), (0x10, 4, LOW), (0x1c, 2, 0xf000), (0x20, 4, 0xfff0_0000), (0x24, 4, 0xfff0_0000)]
    {
        port.store(at, bytes, value);
    }
    port.store(0x2c, 4, 0xff);
    let mut fabric = Fabric::default();
    fabric.add(None, 0x10, port);
    fabric
}

#[test]
fn a_bridge_forwards_what_its_windows_say() {
    let both =
        BridgeWindows { memory: Some(range(LOW, 3 * MIB)), prefetchable: Some(range(HIGH + GIB, 64 * GIB)) };
    let (result, fabric) = opened(open_port(), &[both]);
    assert_eq!(result, Ok(()));
    let expected = [0x406, 0, 0x01_0100, 0x00f0, 0x1020_1000, 0x3ff1_4001, 0x80, 0x90, 0];
    assert_eq!(registers(&fabric.nodes[0].space), expected);
    assert_eq!(fabric.trace.len(), 16, "each access is an exit");
    assert_eq!(fabric.stores()[0], (0x10, 4, 0x400), "decode is off while windows move");
    let memory = BridgeWindows { prefetchable: None, ..both };
    let (_, fabric) = opened(open_port(), &[memory]);
    let expected = [0x406, 0, 0x01_0100, 0x00f0, 0x1020_1000, 0x0001_fff1, 0, 0, 0];
    assert_eq!(registers(&fabric.nodes[0].space), expected);
    let low = BridgeWindows { memory: None, prefetchable: Some(range(0xc000_0000, GIB)) };
    let (_, fabric) = opened(open_port(), &[low]);
    let expected = [0x406, 0, 0x01_0100, 0x00f0, 0x0000_fff0, 0xfff1_c001, 0, 0, 0];
    assert_eq!(registers(&fabric.nodes[0].space), expected);
}

#[test]
fn a_bridge_without_windows_forwards_nothing() {
    for windows in [&[][..], &[BridgeWindows::default()]] {
        let (result, fabric) = opened(open_port(), windows);
        assert_eq!(result, Ok(()));
        let expected = [0x400, LOW, 0x01_0100, 0x00f0, 0x0000_fff0, 0x0001_fff1, 0, 0, 0];
        assert_eq!(registers(&fabric.nodes[0].space), expected);
        assert_eq!(fabric.trace.len(), 12);
        for address in [0, LOW, HIGH, 0xfff0_0000] {
            assert!(!fabric.reaches(0, address) || fabric.nodes[0].above.is_none());
        }
    }
}

#[test]
fn a_bridge_register_that_does_not_follow_is_refused() {
    let windows =
        BridgeWindows { memory: Some(range(LOW, 3 * MIB)), prefetchable: Some(range(HIGH + GIB, 64 * GIB)) };
    let bdf = Bdf::from_routing_id(0x10);
    for (register, written) in
        [(0x10, 0), (0x20, 0x1020_1000), (0x24, 0x3ff0_4000), (0x28, 0x80), (0x2c, 0x90)]
    {
        let mut fabric = open_port();
        fabric.nodes[0].space.put(register.into(), &[0xf0; 4]);
        fabric.nodes[0].space.masks[usize::from(register)..][..4].fill(0);
        let error = PcieError::BridgeReadBack { bdf, register, written, read: 0xf0f0_f0f0 };
        assert_eq!(opened(fabric, &[windows]).0, Err(error));
    }
    let mut fabric = open_port();
    fabric.nodes[0].space.masks[4] = 0;
    let error = PcieError::CommandReadBack { bdf, written: 0x406, read: 0x407 };
    assert_eq!(opened(fabric, &[windows]).0, Err(error));
    // I/O windows and BARs are optional.
    let mut fabric = open_port();
    fabric.nodes[0].space.put(0x10, &[0; 16]);
    fabric.nodes[0].space.masks[0x10..0x18].fill(0);
    fabric.nodes[0].space.masks[0x1c..0x1e].fill(0);
    assert_eq!(opened(fabric, &[windows]).0, Ok(()));
}

#[test]
fn a_prefetchable_window_that_a_bridge_does_not_have_is_closed() {
    let without = || {
        let mut fabric = open_port();
        fabric.nodes[0].space.put(0x24, &[0; 12]);
        fabric.nodes[0].space.masks[0x24..0x30].fill(0);
        fabric
    };
    let memory = BridgeWindows { memory: Some(range(LOW, MIB)), prefetchable: None };
    assert_eq!(opened(without(), &[memory]).0, Ok(()));
    let both = BridgeWindows { prefetchable: Some(range(0xc000_0000, MIB)), ..memory };
    let error = PcieError::BridgeReadBack {
        bdf: Bdf::from_routing_id(0x10),
        register: 0x24,
        written: 0xc000_c000,
        read: 0,
    };
    assert_eq!(opened(without(), &[both]).0, Err(error));
}

#[test]
fn every_bar_is_reached_through_its_bridges() {
    let nvme = || Space::endpoint().bar(0, 4, 0xffff_c000).bar(1, 0, u32::MAX);
    let mut fabric = Fabric::default();
    let root = fabric.bridge(None, 0x28, ROOT);
    let up = fabric.bridge(Some(root), 0, UPSTREAM);
    let mut ends = Vec::new();
    for port in 0..3 {
        let down = fabric.bridge(Some(up), port << 3, DOWNSTREAM);
        let space = nvme().bar(2, 0xc, 0).bar(3, 0, 0xffff_fffc).bar(4, 0, 0xffe0_0000);
        ends.push(fabric.add(Some(down), 0, space));
    }
    ends.push(fabric.add(None, 0x10, nvme()));
    let (mut platform, ecam) = fabric.open(255);
    let topology = walk(&mut platform, &ecam).unwrap();
    // The last but one is not wanted.
    let names = ["05.0/00.0/00.0/00.0", "05.0/00.0/01.0/00.0", "02.0"];
    let wanted: Vec<&Function> =
        names.iter().map(|name| topology.find(&name.parse().unwrap()).unwrap()).collect();
    let sizes: Vec<_> =
        wanted.iter().map(|function| size_bars(&mut platform, &ecam, function).unwrap()).collect();
    let requests: Vec<_> = wanted.iter().zip(&sizes).map(|(f, s)| (*f, s.as_slice())).collect();
    let Allocation { bars, windows } = allocate(&topology, &requests, &virt());
    open_bridges(&mut platform, &ecam, &topology, &windows).unwrap();
    for (function, bars) in wanted.iter().zip(&bars) {
        prepare(&mut platform, &ecam, function, bars.as_ref().unwrap()).unwrap();
    }
    let fabric = platform.machine;
    for (node, bars) in [ends[0], ends[1], ends[3]].into_iter().zip(&bars) {
        let bars = bars.as_ref().unwrap();
        assert_eq!(bars.len(), if node == ends[3] { 1 } else { 3 });
        for bar in bars {
            let register = usize::from(bar.register());
            let space = &fabric.nodes[node].space;
            let high = if bar.wide { space.get(register + 4, 4) << 32 } else { 0 };
            assert_eq!(space.get(register, 4) & !0xf | high, bar.address);
            assert!(fabric.reaches(node, bar.address) && fabric.reaches(node, bar.address + bar.size - 1));
            let others = ends.iter().filter(|other| **other != node && fabric.nodes[**other].above.is_some());
            assert!(others.into_iter().all(|other| !fabric.reaches(*other, bar.address)));
        }
    }
    assert_eq!(fabric.nodes[ends[2]].space.get(4, 2), 0, "was not touched");
    assert!(!fabric.reaches(ends[2], 0) && !fabric.reaches(ends[2], LOW));
}
