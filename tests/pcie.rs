//! Configuration space that the host makes up: the walk ends, BARs are what they say or refused, writes are read back.
mod common;

use common::config::*;
use gatehouse::addr::{Bdf, IpaRange};
use gatehouse::arch::host::{HostPlatform, ipa_width};
use gatehouse::fdt::pci::Window;
use gatehouse::pcie::{
    self, Bars, Ecam, Kind, MsixPlace, PcieError, Topology, allocate, make_quiet, size_bars,
};
use gatehouse::platform::IoError;

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

/// Walks a bus with these functions.
fn walk(functions: &[(u16, Space)]) -> Result<Vec<u16>, PcieError> {
    let bus = Bus { functions: functions.iter().cloned().collect(), ..Bus::default() };
    let (mut platform, ecam) = open(bus);
    let found = pcie::walk(&mut platform, &ecam)?.functions;
    for entry in &found {
        let reads = |access: &&Access| access.bdf == entry.bdf && access.register == 0;
        assert_eq!(platform.machine.trace.iter().filter(reads).count(), 1, "each header is read once");
    }
    assert!(platform.machine.trace.iter().all(|access| access.store.is_none()), "a walk writes nothing");
    Ok(found.iter().map(|entry| entry.bdf.routing_id()).collect())
}

fn with_byte(at: usize, value: u8) -> Space {
    let mut space = Space::endpoint();
    space.put(at, &[value]);
    space
}

#[test]
fn the_walk_finds_what_is_there() {
    assert_eq!(walk(&[]), Ok(vec![]));
    let multi = with_byte(0x0e, 0x80);
    let plain = Space::endpoint;
    assert_eq!(walk(&[(0, plain()), (0xf8, plain())]), Ok(vec![0, 0xf8]));
    assert_eq!(walk(&[(0x10, plain()), (0x11, plain())]), Ok(vec![0x10]), "function 0 says that it is alone");
    assert_eq!(walk(&[(0x10, multi.clone()), (0x13, plain()), (0x17, plain())]), Ok(vec![0x10, 0x13, 0x17]));
    assert_eq!(walk(&[(0x11, multi)]), Ok(vec![]), "without function 0 there is no other");
    let all: Vec<_> = (0..256).map(|rid| (rid, with_byte(0x0e, 0x80))).collect();
    assert_eq!(walk(&all).unwrap().len(), 256);
}

#[test]
fn a_header_is_read_field_by_field() {
    let express = [2, 0, 0, 0, 0, 0x50];
    let msix = [0x40, 0, 0x02, 0x20, 0, 0, 0x0b, 0x30, 0, 0];
    let space =
        Space::endpoint().list(0x43).capability(0x40, 0x10, 0x61, &express).capability(0x60, 0x11, 0, &msix);
    let found = function(&space);
    assert_eq!((found.vendor, found.device, found.class, found.revision), (0x1b36, 0x10, 0x01_0802, 2));
    assert_eq!((found.subsystem_vendor, found.subsystem, found.kind), (0x1af4, 0x1100, Kind::Endpoint));
    assert!(found.flr && found.tee_io);
    assert_eq!(found.msix_table, Some(MsixPlace { bar: 2, offset: 0x2000 }));
    assert_eq!(found.msix_pba, Some(MsixPlace { bar: 3, offset: 0x3008 }));
    // Without the status bit there is no list, whatever the pointer says.
    let mut without = space.clone();
    without.put(0x06, &[0]);
    let found = function(&without);
    assert!(!found.flr && found.msix_table.is_none());
}

#[test]
fn kinds_follow_layout_and_class() {
    let kind = |space: Space| function(&space).kind;
    assert_eq!(kind(with_byte(0x0b, 6)), Kind::Bridge);
    for layout in [2, 3, 0x7f] {
        assert_eq!(kind(with_byte(0x0e, layout)), Kind::Unknown(layout));
    }
}

#[test]
fn a_capability_list_that_does_not_end_is_refused() {
    let broken = |space: Space, offset| {
        let (mut platform, ecam) = open(Bus::with(space));
        let error = pcie::walk(&mut platform, &ecam).unwrap_err();
        assert_eq!(error, PcieError::Capabilities { bdf: NVME, offset });
        assert!(platform.machine.trace.len() < 400, "bounded");
    };
    broken(Space::endpoint().list(0x40).capability(0x40, 9, 0x40, &[]), 0x40);
    broken(Space::endpoint().list(0x40).capability(0x40, 9, 0x80, &[]).capability(0x80, 9, 0x40, &[]), 0x40);
    for outside in [0x04, 0x10, 0x3c] {
        broken(Space::endpoint().list(outside), outside.into());
        broken(Space::endpoint().list(0x40).capability(0x40, 9, outside, &[]), outside.into());
    }
    let mut ones = Space::endpoint().list(0xff);
    ones.put(0xfc, &[0xff, 0xff]);
    broken(ones, 0xfc);
}

/// A list of this many capabilities of four bytes, from 0x40 on.
fn long_list(len: usize) -> Space {
    let mut space = Space::endpoint().list(0x40);
    for index in 0..len {
        let next = if index + 1 == len { 0 } else { u8::try_from(0x44 + 4 * index).unwrap() };
        space.put(0x40 + 4 * index, &[9, next]);
    }
    space
}

#[test]
fn a_long_capability_list_is_read() {
    for len in [1, 2, 47] {
        assert_eq!(function(&long_list(len)).bdf, NVME);
    }
}

#[test]
fn a_list_that_fills_all_of_configuration_space_is_read() {
    assert_eq!(walk(&[(0x10, long_list(48))]), Ok(vec![0x10]));
}

#[test]
fn of_two_capabilities_with_one_id_the_first_counts() {
    let msix = |page| [0, 0, 0, page, 0, 0, 0, page, 0, 0];
    let space = Space::endpoint().list(0x80).capability(0x80, 0x11, 0x40, &msix(0x20)).capability(
        0x40,
        0x11,
        0,
        &msix(0x50),
    );
    assert_eq!(function(&space).msix_table, Some(MsixPlace { bar: 0, offset: 0x2000 }));
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

#[test]
fn accesses_stay_on_the_bus_that_was_opened() {
    let mut platform = HostPlatform::new(Bus::default(), ipa_width());
    let ecam = Ecam::open(&mut platform, range(ECAM, 1 << 20), 0, 0).unwrap();
    let far = Bdf::new(1, 0, 0).unwrap();
    assert_eq!(ecam.read32(&mut platform, far, 0), Err(PcieError::Bus(far)));
    assert_eq!(ecam.write16(&mut platform, far, 4, 0), Err(PcieError::Bus(far)));
    // The window is smaller than the bus.
    let window = range(ECAM, 0x8000);
    let ecam = Ecam::open(&mut platform, window, 0, 0).unwrap();
    let outside = PcieError::Io(IoError::Outside { offset: 0x1_0000, range: window });
    assert_eq!(ecam.read8(&mut platform, NVME, 0), Err(outside));
    assert!(platform.machine.trace.is_empty());
}
