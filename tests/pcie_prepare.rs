//! One function made ready: BARs are what they say or refused, everything that is written is read back.
mod common;

use common::config::*;
use gatehouse::addr::{Bdf, IpaRange};
use gatehouse::fdt::pci::Window;
use gatehouse::pcie::{self, Bars, Kind, PcieError, Topology, allocate, make_quiet, size_bars, walk};

const NVME: Bdf = Bdf::from_routing_id(0x10);
const LOW: u64 = 0x1000_0000;
const HIGH: u64 = 0x80_0000_0000;

fn range(base: u64, len: u64) -> IpaRange {
    IpaRange::new(base, len).unwrap()
}

fn windows() -> Vec<Window> {
    of(Some(range(LOW, 0x100_0000)), Some(range(HIGH, 1 << 36)))
}

/// Windows of the host bridge, below and above 4 GiB.
fn of(low: Option<IpaRange>, high: Option<IpaRange>) -> Vec<Window> {
    let window = |wide| move |range| Window { range, wide, prefetchable: false };
    low.map(window(false)).into_iter().chain(high.map(window(true))).collect()
}

/// Prepares the function at 00:02.0; returns what came out and the bus.
fn prepared(space: &Space, answer: Option<Answer>, windows: &[Window]) -> (Result<Bars, PcieError>, Bus) {
    let function = function(space);
    let (mut platform, ecam) = open(Bus { answer, ..Bus::with(space.clone()) });
    let result = (|| {
        let sizes = size_bars(&mut platform, &ecam, &function)?;
        let bars = allocate(&Topology::default(), &[(&function, &sizes)], windows).bars.remove(0)?;
        pcie::prepare(&mut platform, &ecam, &function, &bars)?;
        Ok(bars)
    })();
    (result, platform.machine)
}

fn bars(space: &Space) -> Result<Vec<(u8, u64, u64)>, PcieError> {
    let bars = prepared(space, None, &windows()).0?;
    Ok(bars.iter().map(|bar| (bar.index, bar.address, bar.size)).collect())
}

fn size_error(bar: u8, value: u64) -> Result<Vec<(u8, u64, u64)>, PcieError> {
    Err(PcieError::BarSize { bdf: NVME, bar, value })
}

#[test]
fn bars_of_all_kinds_are_sized_and_placed() {
    let space = Space::endpoint()
        .bar(0, 0xc, 0xffff_c000) // 64-bit, prefetchable, 16 KiB
        .bar(1, 0, 0xffff_ffff)
        .bar(2, 1, 0xffff_ff00) // I/O
        .bar(3, 0, 0xfff0_0000) // 32-bit, 1 MiB
        .bar(4, 4, 0) // 64-bit, 8 GiB
        .bar(5, 0, 0xffff_fffe);
    let (result, bus) = prepared(&space, None, &windows());
    let result = result.unwrap();
    let found: Vec<_> = result.iter().map(|bar| (bar.index, bar.address, bar.size)).collect();
    assert_eq!(found, [(0, HIGH + (8 << 30), 0x4000), (3, LOW, 0x10_0000), (4, HIGH, 8 << 30)]);
    assert_eq!(
        result.iter().map(|bar| (bar.wide, bar.prefetchable)).collect::<Vec<_>>(),
        [(true, true), (false, false), (true, false)]
    );
    let at = |register: usize| {
        u32::from_le_bytes(bus.functions[&0x10].bytes[register..register + 4].try_into().unwrap())
    };
    assert_eq!([at(0x10), at(0x14), at(0x1c), at(0x20), at(0x24)], [0xc, 0x82, 0x1000_0000, 4, 0x80]);
}

#[test]
fn a_function_without_bars_needs_no_window() {
    let (result, _) = prepared(&Space::endpoint(), None, &of(None, None));
    assert_eq!(result, Ok(vec![]));
}

#[test]
fn small_bars_sit_alone_in_their_page() {
    let space = Space::endpoint().bar(0, 0, 0xffff_fff0).bar(1, 0, 0xffff_ff00).bar(2, 0, 0xffff_e000);
    assert_eq!(bars(&space), Ok(vec![(0, LOW + 0x2000, 0x10), (1, LOW + 0x3000, 0x100), (2, LOW, 0x2000)]));
}

#[test]
fn bars_that_cannot_be_are_refused() {
    // Reserved types; a 64-bit BAR without a second register.
    assert_eq!(bars(&Space::endpoint().bar(0, 2, 0xffff_f000)), size_error(0, 0xffff_f002));
    assert_eq!(bars(&Space::endpoint().bar(1, 6, 0xffff_f000)), size_error(1, 0xffff_f006));
    assert_eq!(bars(&Space::endpoint().bar(5, 4, 0xffff_f000)), size_error(5, 0xffff_f004));
    // Holes in the mask; no address bit at all.
    assert_eq!(bars(&Space::endpoint().bar(0, 0, 0xffff_a000)), size_error(0, 0xffff_ffff_ffff_a000));
    assert_eq!(bars(&Space::endpoint().bar(0, 0, 0x0fff_f000)), size_error(0, 0xffff_ffff_0fff_f000));
    let holes = Space::endpoint().bar(0, 4, 0xffff_f000).bar(1, 0, 0xff);
    assert_eq!(bars(&holes), size_error(0, 0xff_ffff_f000));
    assert_eq!(bars(&Space::endpoint().bar(0, 4, 0)), size_error(0, 0));
}

#[test]
fn addresses_come_from_the_bridges_windows_or_not_at_all() {
    let narrow = Space::endpoint().bar(0, 0, 0xffff_c000);
    let wide = Space::endpoint().bar(0, 4, 0xffff_c000).bar(1, 0, u32::MAX);
    let no_room = |size| Err(PcieError::NoRoom { bdf: NVME, bar: 0, size });
    let at = |space: &Space, low, high| {
        let found = prepared(space, None, &of(low, high)).0;
        found.map(|bars| bars[0].address)
    };
    let (low, high) = (Some(range(LOW, 0x4000)), Some(range(HIGH, 0x4000)));
    assert_eq!(at(&narrow, low, high), Ok(LOW));
    assert_eq!(at(&narrow, None, high), no_room(0x4000));
    assert_eq!(at(&wide, low, high), Ok(HIGH));
    assert_eq!(at(&wide, low, None), Ok(LOW));
    assert_eq!(at(&wide, low, Some(range(HIGH, 0x3000))), Ok(LOW), "the low window has room");
    assert_eq!(at(&wide, Some(range(LOW + 0x1000, 0x6000)), None), no_room(0x4000), "not aligned");
    assert_eq!(at(&wide, Some(range(LOW + 0x1000, 0x7000)), None), Ok(LOW + 0x4000));
    assert_eq!(at(&narrow, Some(range(0, 0x4000)), None), no_room(0x4000), "0 is no address");
    assert_eq!(at(&wide, None, Some(range(0xffff_ffff_ffff_c000, 0x3000))), no_room(0x4000), "would wrap");
}

#[test]
fn bars_of_one_function_never_overlap() {
    let mut space = Space::endpoint();
    for index in 0..6 {
        space = space.bar(index, 0, 0xffff_0000_u32 << (index % 3));
    }
    let found = bars(&space).unwrap();
    assert_eq!(found.len(), 6);
    for (index, (_, a, len)) in found.iter().enumerate() {
        assert!(a.is_multiple_of(*len));
        assert!(found[index + 1..].iter().all(|(_, b, other)| a + len <= *b || b + other <= *a));
    }
}

#[test]
fn a_bar_that_reads_back_other_than_written_is_refused() {
    let space = Space::endpoint().bar(0, 4, 0xffff_c000).bar(1, 0, u32::MAX);
    let readback = |read| Err(PcieError::BarReadBack { bdf: NVME, bar: 0, written: HIGH, read });
    // Sizing reads all ones; what comes later is the address.
    let low: Answer = |access, _| (access.register == 0x10 && access.store.is_none()).then_some(0xffff_c004);
    assert_eq!(prepared(&space, Some(low), &windows()).0, readback(HIGH | 0xffff_c000));
    let high: Answer = |access, _| (access.register == 0x14 && access.store.is_none()).then_some(0xffff_ffff);
    assert_eq!(prepared(&space, Some(high), &windows()).0, readback(0xffff_ffff_0000_0000));
}

#[test]
fn decode_is_off_while_bars_move_and_on_afterwards() {
    let space = Space::endpoint().bar(0, 0, 0xffff_c000);
    let (result, bus) = prepared(&space, None, &windows());
    result.unwrap();
    let stores: Vec<_> =
        bus.trace.iter().filter_map(|access| Some((access.register, access.bytes, access.store?))).collect();
    assert_eq!(stores.first(), Some(&(4, 2, 0x400)));
    assert_eq!(stores.last(), Some(&(4, 2, 0x406)));
    assert!(stores.contains(&(0x30, 4, 0)), "no expansion ROM");
    let touched = stores.iter().map(|store| store.0);
    assert!(
        touched.clone().all(|register| (0x10..0x28).contains(&register) || [4, 0x30].contains(&register))
    );
    assert_eq!(touched.filter(|register| *register == 4).count(), 2);
}

#[test]
fn a_command_register_that_does_not_follow_is_refused() {
    let (mut platform, ecam) = open(Bus::with(Space::endpoint()));
    make_quiet(&mut platform, &ecam, NVME).unwrap();
    let stuck: [(u16, Answer); 4] = [
        (0x401, |access, _| (access.register == 4).then_some(0x401)),
        (0x402, |access, _| (access.register == 4).then_some(0x402)),
        (0x404, |access, _| (access.register == 4).then_some(0x404)),
        (0x007, |access, _| (access.register == 4).then_some(0x007)),
    ];
    for (read, answer) in stuck {
        let (mut platform, ecam) = open(Bus { answer: Some(answer), ..Bus::with(Space::endpoint()) });
        let error = PcieError::CommandReadBack { bdf: NVME, written: 0x400, read };
        assert_eq!(make_quiet(&mut platform, &ecam, NVME), Err(error));
    }
    // Bits that the function fixes are its own.
    let fixed: Answer = |access, _| (access.register == 4).then_some(0x0158);
    let (mut platform, ecam) = open(Bus { answer: Some(fixed), ..Bus::with(Space::endpoint()) });
    assert_eq!(make_quiet(&mut platform, &ecam, NVME), Ok(()));
}

#[test]
fn message_interrupts_are_off_when_the_function_is_locked() {
    for (id, enable, at) in [(0x05, 1u8, 0x42), (0x11, 0x80, 0x43)] {
        let mut space = Space::endpoint().list(0x40).capability(0x40, id, 0, &[]);
        space.put(at, &[enable]);
        let (result, _) = prepared(&space, None, &windows());
        assert_eq!(result, Err(PcieError::InterruptsEnabled(NVME)), "the bit cannot be written");
        space.masks[at] = enable;
        let (result, bus) = prepared(&space, None, &windows());
        result.unwrap();
        assert_eq!(bus.functions[&0x10].bytes[at] & enable, 0);
    }
}

#[test]
fn a_reset_is_asked_for_where_it_is_offered_and_waited_for() {
    let express = |capabilities: u32| {
        let body = [&[2, 0][..], &capabilities.to_le_bytes()].concat();
        let mut space = Space::endpoint().list(0x40).capability(0x40, 0x10, 0, &body);
        space.put(0x48, &[0x10, 0x28]);
        space
    };
    let resets = |bus: &Bus| -> Vec<u64> {
        bus.trace.iter().filter(|access| access.register == 0x48).filter_map(|access| access.store).collect()
    };
    let (result, bus) = prepared(&express(1 << 28), None, &windows());
    assert!(result.is_ok());
    assert_eq!(resets(&bus), [0xa810], "device control as it was, and the reset");
    let (result, bus) = prepared(&express(0), None, &windows());
    assert!(result.is_ok() && resets(&bus).is_empty());
    // Not ready for a while, then back; never back; back as something else.
    let late: Answer = |access, count| (access.register == 0 && count < 500).then_some(0xffff_ffff);
    assert!(prepared(&express(1 << 28), Some(late), &windows()).0.is_ok());
    let never: Answer = |access, _| (access.register == 0).then_some(0xffff_ffff);
    let (result, bus) = prepared(&express(1 << 28), Some(never), &windows());
    assert_eq!(result, Err(PcieError::Reset(NVME)));
    assert!(bus.trace.len() < 1100, "bounded");
    let other: Answer = |access, _| (access.register == 0).then_some(0x0011_1b36);
    assert_eq!(prepared(&express(1 << 28), Some(other), &windows()).0, Err(PcieError::Reset(NVME)));
}

/// The stores of a run: register and value.
fn stores(bus: &Bus) -> Vec<(u16, u64)> {
    bus.trace.iter().filter_map(|access| Some((access.register, access.store?))).collect()
}

#[test]
fn a_sleeping_function_is_woken_first() {
    let sleeping = |state: u8| {
        let mut space = Space::endpoint().list(0x40).capability(0x40, 1, 0, &[3, 0, state, 1]);
        space.masks[0x44..0x46].copy_from_slice(&[3, 1]);
        space
    };
    for state in 1..=3 {
        let (result, bus) = prepared(&sleeping(state | 8), None, &windows());
        assert_eq!(result, Ok(vec![]));
        assert_eq!(bus.functions[&0x10].get(0x44, 2), 8, "D0, no power management events");
        let stores = stores(&bus);
        let at = |store| stores.iter().position(|found| *found == store);
        assert!(at((0x44, 0)) < at((0x30, 0)) && at((0x44, 0)).is_some(), "{stores:x?}");
        let mut stuck = sleeping(state);
        stuck.masks[0x44] = 0;
        let read = u16::from(state);
        let error = PcieError::PowerState { bdf: NVME, read };
        assert_eq!(prepared(&stuck, None, &windows()).0, Err(error));
    }
    let (result, bus) = prepared(&sleeping(0), None, &windows());
    assert!(result.is_ok() && stores(&bus).iter().all(|(register, _)| *register != 0x44));
}

#[test]
fn the_expansion_rom_is_off() {
    let mut space = Space::endpoint();
    space.put(0x30, &[1, 0, 0, 0x10]);
    assert_eq!(prepared(&space, None, &windows()).0, Err(PcieError::RomEnabled(NVME)));
    space.masks[0x30..0x34].copy_from_slice(&[1, 0xf8, 0xff, 0xff]);
    let (result, bus) = prepared(&space, None, &windows());
    assert_eq!((result, bus.functions[&0x10].get(0x30, 4)), (Ok(vec![]), 0));
}

/// A physical function whose SR-IOV control register is `control`; `mask` can be written.
fn physical(control: u8, mask: u8) -> Space {
    let mut space = Space::endpoint()
        .list(0x40)
        .capability(0x40, 0x10, 0, &[2, 0])
        .extended(0x100, 1, 0x140, &[])
        .extended(0x140, 0x15, 0x200, &[])
        .extended(0x200, 0x10, 0, &[0, 0, 0, 0, control]);
    space.masks[0x208] = mask;
    space.masks[0x140..0x180].fill(0xff);
    space
}

#[test]
fn virtual_functions_are_off_when_the_function_is_locked() {
    for on in [1, 8, 9] {
        let (result, bus) = prepared(&physical(on | 0x10, 0x1f), None, &windows());
        assert_eq!(result, Ok(vec![]));
        assert_eq!(bus.functions[&0x10].get(0x208, 1), 0x10, "ARI capable hierarchy is no matter");
        assert!(stores(&bus).iter().all(|(register, _)| !(0x140..0x180).contains(register)), "resizable BAR");
        let refused = Err(PcieError::VirtualFunctions(NVME));
        assert_eq!(prepared(&physical(on, 0x1f & !on), None, &windows()).0, refused);
    }
    assert_eq!(prepared(&physical(9, 8), None, &windows()).0, Err(PcieError::VirtualFunctions(NVME)));
    let (result, bus) = prepared(&physical(0x10, 0x1f), None, &windows());
    assert!(result.is_ok() && stores(&bus).iter().all(|(register, _)| *register != 0x208));
}

#[test]
fn a_function_that_decodes_again_is_made_quiet_again() {
    let function = function(&Space::endpoint());
    let (mut platform, ecam) = open(Bus::with(Space::endpoint()));
    assert_eq!(size_bars(&mut platform, &ecam, &function), Ok(vec![]));
    platform.machine.functions.get_mut(&0x10).unwrap().store(4, 2, 6);
    platform.machine.trace.clear();
    pcie::prepare(&mut platform, &ecam, &function, &vec![]).unwrap();
    assert_eq!(stores(&platform.machine), [(4, 0x400), (0x30, 0), (4, 0x406)]);
}

#[test]
fn what_is_no_endpoint_gets_no_addresses() {
    for (at, value) in [(0x0b, 6), (0x0e, 2)] {
        let mut space = Space::endpoint().bar(0, 0, 0xffff_f000);
        space.put(at, &[value]);
        space.put(4, &[7]);
        let function = function(&space);
        assert_ne!(function.kind, Kind::Endpoint);
        let (mut platform, ecam) = open(Bus::with(space));
        assert_eq!(size_bars(&mut platform, &ecam, &function), Err(PcieError::NotEndpoint(NVME)));
        assert_eq!(platform.machine.functions[&0x10].get(4, 2), 0x400, "but it is quiet");
        platform.machine.trace.clear();
        let result = pcie::prepare(&mut platform, &ecam, &function, &vec![]);
        assert_eq!((result, platform.machine.trace.len()), (Err(PcieError::NotEndpoint(NVME)), 0));
    }
}

#[test]
fn one_nvme_takes_few_accesses() {
    // As QEMU has it: power management, PCI Express with FLR, MSI-X, one 64-bit BAR.
    let space = Space::endpoint()
        .list(0x40)
        .capability(0x40, 0x11, 0x80, &[0x40, 0, 0, 0x20, 0, 0, 0, 0x30, 0, 0])
        .capability(0x80, 0x10, 0x60, &[2, 0, 0, 0, 0, 0x10])
        .capability(0x60, 1, 0, &[3, 0, 8, 0])
        .bar(0, 4, 0xffff_c000)
        .bar(1, 0, u32::MAX);
    let (mut platform, ecam) = open(Bus::with(space));
    let topology = walk(&mut platform, &ecam).unwrap();
    let mut taken = vec![platform.machine.trace.len()];
    let function = &topology.functions[0];
    let sizes = size_bars(&mut platform, &ecam, function).unwrap();
    taken.push(platform.machine.trace.len());
    let bars = allocate(&topology, &[(function, &sizes)], &windows()).bars.remove(0).unwrap();
    pcie::prepare(&mut platform, &ecam, function, &bars).unwrap();
    taken.push(platform.machine.trace.len());
    // Each is an exit: 31 empty places and 13 for the function; decode off and six BARs; the rest.
    assert_eq!(taken, [44, 44 + 14, 44 + 14 + 14]);
}
