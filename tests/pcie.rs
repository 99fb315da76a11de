//! Configuration space that the host makes up: the walk of a bus ends, headers are read as they are.
mod common;

use common::config::*;
use gatehouse::addr::{Bdf, IpaRange};
use gatehouse::arch::host::{HostPlatform, ipa_width};
use gatehouse::pcie::{self, Ecam, Kind, MsixPlace, PcieError};
use gatehouse::platform::IoError;

const NVME: Bdf = Bdf::from_routing_id(0x10);

fn range(base: u64, len: u64) -> IpaRange {
    IpaRange::new(base, len).unwrap()
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
