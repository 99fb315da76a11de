//! The walk behind bridges: everything is found and named, bus numbers are kept or made, no answer makes it endless.
mod common;

use common::config::{Access, Space};
use common::fabric::{Answer, DOWNSTREAM, Fabric, ROOT, UPSTREAM};
use gatehouse::addr::Bdf;
use gatehouse::boot::slot::SlotPath;
use gatehouse::pcie::{Kind, MAX_DEPTH, MAX_FUNCTIONS, PcieError, Topology, walk};

fn bdf(bus: u8, device: u8, function: u8) -> Bdf {
    Bdf::new(bus, device, function).unwrap()
}

fn path(text: &str) -> SlotPath {
    text.parse().unwrap()
}

fn byte(mut space: Space, at: usize, value: u8) -> Space {
    space.put(at, &[value]);
    space
}

fn multi(space: Space) -> Space {
    let header = space.bytes[0x0e] | 0x80;
    byte(space, 0x0e, header)
}

/// Walks buses 0 to `last`.
fn walked(fabric: Fabric, last: u8) -> (Result<Topology, PcieError>, Fabric) {
    let (mut platform, ecam) = fabric.open(last);
    let result = walk(&mut platform, &ecam);
    (result, platform.machine)
}

fn found(fabric: Fabric) -> (Topology, Fabric) {
    let (result, fabric) = walked(fabric, 255);
    (result.unwrap(), fabric)
}

/// The paths of all functions, in order.
fn paths(topology: &Topology) -> Vec<String> {
    topology.functions.iter().map(|function| topology.path(function).to_string()).collect()
}

fn numbers(topology: &Topology) -> Vec<(u8, u8, u8)> {
    topology.bridges.iter().map(|bridge| (bridge.bdf.bus(), bridge.secondary, bridge.subordinate)).collect()
}

/// An NVMe behind a switch, four virtual functions and an endpoint on bus 0; the bridges have these numbers.
fn machine(ports: [[u8; 3]; 3]) -> Fabric {
    let mut fabric = Fabric::default();
    let [root, upstream, downstream] = ports;
    fabric.add(None, 0x00, byte(Space::endpoint(), 0x0b, 6));
    fabric.add(None, 0x18, Space::endpoint());
    let port = fabric.add(None, 0x28, Space::bridge(Some(ROOT)).numbers(root));
    for devfn in [0xa0, 0xa2, 0xa4, 0xa6] {
        fabric.add(None, devfn, multi(Space::endpoint()));
    }
    let up = fabric.add(Some(port), 0, Space::bridge(Some(UPSTREAM)).numbers(upstream));
    let down = fabric.add(Some(up), 0, Space::bridge(Some(DOWNSTREAM)).numbers(downstream));
    fabric.add(Some(down), 0, Space::endpoint());
    fabric
}

const ASSIGNED: [[u8; 3]; 3] = [[0, 1, 3], [1, 2, 3], [2, 3, 3]];
const PATHS: [&str; 7] = ["00.0", "03.0", "14.0", "14.2", "14.4", "14.6", "05.0/00.0/00.0/00.0"];

#[test]
fn consistent_bus_numbers_are_kept() {
    let sparse = [[0, 0x10, 0xff], [0x10, 0x20, 0x80], [0x20, 0x21, 0x21]];
    for ports in [ASSIGNED, sparse] {
        let (topology, fabric) = found(machine(ports));
        assert_eq!(paths(&topology), PATHS);
        assert_eq!(numbers(&topology), ports.map(|[primary, from, to]| (primary, from, to)));
        assert_eq!(fabric.stores(), [], "nothing is written");
        let nvme = topology.find(&path("05.0/00.0/00.0/00.0")).unwrap();
        assert_eq!((nvme.bdf, nvme.above), (bdf(ports[2][1], 0, 0), Some(2)));
        let above: Vec<_> = topology.bridges.iter().map(|bridge| bridge.above).collect();
        assert_eq!(above, [None, Some(0), Some(1)]);
        for bdf in topology.functions.iter().map(|function| function.bdf) {
            assert_eq!(fabric.reads(bdf, 0), 1, "each header is read once");
        }
        for bridge in &topology.bridges {
            assert_eq!((fabric.reads(bridge.bdf, 0), fabric.reads(bridge.bdf, 0x18)), (1, 1));
            let ids = (bridge.vendor, bridge.device, bridge.class, bridge.revision);
            assert_eq!(ids, (0x1b36, 0x0c, 0x06_0400, 3));
        }
    }
}

#[test]
fn bus_numbers_that_no_one_gave_are_assigned_depth_first() {
    let (topology, fabric) = found(machine([[0; 3]; 3]));
    assert_eq!(paths(&topology), PATHS);
    assert_eq!(numbers(&topology), [(0, 1, 3), (1, 2, 3), (2, 3, 3)]);
    let registers: Vec<_> = [2, 7, 8].map(|node: usize| fabric.nodes[node].space.get(0x18, 4)).into();
    assert_eq!(registers, [0x03_0100, 0x03_0201, 0x03_0302]);
    assert_eq!(fabric.reads(bdf(0, 5, 0), 0), 1, "the root bus is not read again");
    assert!(fabric.stores().iter().all(|store| store.1 == 0x18));
}

#[test]
fn one_bridge_with_bad_numbers_and_all_are_assigned_anew() {
    let bad = [
        ("primary", [[1, 1, 3], [1, 2, 3], [2, 3, 3]]),
        ("the bus that it stands on", [[0, 0, 3], [1, 2, 3], [2, 3, 3]]),
        ("reversed", [[0, 4, 3], [4, 5, 3], [5, 3, 3]]),
        ("leads back to bus 1", [[0, 1, 3], [1, 1, 3], [1, 1, 3]]),
        ("leads back to bus 1 from below", [[0, 1, 3], [1, 2, 3], [2, 1, 3]]),
        ("outside the bridge above", [[0, 1, 2], [1, 2, 3], [2, 3, 3]]),
        ("the last one has none", [[0, 1, 3], [1, 2, 3], [0, 0, 0]]),
    ];
    for (name, ports) in bad {
        let (topology, fabric) = found(machine(ports));
        assert_eq!(paths(&topology), PATHS, "{name}");
        assert_eq!(numbers(&topology), [(0, 1, 3), (1, 2, 3), (2, 3, 3)], "{name}");
        assert_eq!(fabric.reads(bdf(0, 5, 0), 0), 1, "{name}");
        let primary = [2, 7, 8].map(|node: usize| fabric.nodes[node].space.get(0x18, 1));
        assert_eq!(primary, [0, 1, 2], "{name}");
    }
    let (result, _) = walked(machine([[0, 0x10, 0x20], [0x10, 0x11, 0x12], [0x11, 0x12, 0x12]]), 0x1f);
    assert_eq!(numbers(&result.unwrap())[0], (0, 1, 3), "a bus outside the ECAM");
}

#[test]
fn what_was_read_under_old_numbers_is_dropped() {
    let mut fabric = Fabric::default();
    let first = fabric.add(None, 0x10, Space::bridge(Some(ROOT)).numbers([0, 5, 5]));
    fabric.add(Some(first), 0, Space::endpoint());
    let second = fabric.add(None, 0x18, Space::bridge(Some(ROOT)).numbers([0, 6, 8]));
    let up = fabric.add(Some(second), 0, Space::bridge(Some(UPSTREAM)).numbers([6, 9, 9]));
    fabric.add(Some(up), 0, Space::endpoint());
    fabric.add(None, 0x20, Space::endpoint());
    let (topology, fabric) = found(fabric);
    assert_eq!(paths(&topology), ["04.0", "02.0/00.0", "03.0/00.0/00.0"]);
    assert_eq!(numbers(&topology), [(0, 1, 1), (0, 2, 3), (2, 3, 3)]);
    let places: Vec<_> = topology.functions.iter().map(|function| function.bdf).collect();
    assert_eq!(places, [bdf(0, 4, 0), bdf(1, 0, 0), bdf(3, 0, 0)]);
    assert_eq!(fabric.reads(bdf(0, 4, 0), 0), 1);
}

/// Two root ports with an endpoint behind each.
fn siblings(first: [u8; 3], second: [u8; 3]) -> Fabric {
    let mut fabric = Fabric::default();
    for (devfn, ports) in [(0x10, first), (0x18, second)] {
        let port = fabric.add(None, devfn, Space::bridge(Some(ROOT)).numbers(ports));
        fabric.add(Some(port), 0, Space::endpoint());
    }
    fabric
}

#[test]
fn siblings_share_no_bus() {
    let kept = |first, second| numbers(&found(siblings(first, second)).0);
    assert_eq!(kept([0, 8, 9], [0, 2, 7]), [(0, 8, 9), (0, 2, 7)], "any order will do");
    let assigned = [(0, 1, 1), (0, 2, 2)];
    assert_eq!(kept([0, 2, 5], [0, 5, 6]), assigned);
    assert_eq!(kept([0, 2, 9], [0, 3, 4]), assigned);
    assert_eq!(kept([0, 3, 4], [0, 2, 9]), assigned);
    assert_eq!(kept([0, 1, 1], [0, 1, 1]), assigned, "old numbers do not answer for new ones");
    let (topology, _) = found(siblings([0, 0, 0], [0, 1, 1]));
    assert_eq!(paths(&topology), ["02.0/00.0", "03.0/00.0"]);
}

#[test]
fn bus_numbers_that_do_not_stay_are_refused() {
    let mut fabric = siblings([0; 3], [0; 3]);
    fabric.nodes[2].space.masks[0x19] = 0;
    let (result, _) = walked(fabric, 255);
    let error =
        PcieError::BridgeReadBack { bdf: bdf(0, 3, 0), register: 0x18, written: 0xff_0200, read: 0xff_0000 };
    assert_eq!(result, Err(error));
    // The latency timer is the bridge's own.
    let mut fabric = siblings([0; 3], [0; 3]);
    fabric.nodes[0].space.put(0x1b, &[0x40]);
    assert!(walked(fabric, 255).0.is_ok());
}

#[test]
fn buses_end_with_the_configuration_space() {
    let none = |device| Err(PcieError::NoBusNumber(bdf(0, device, 0)));
    assert_eq!(walked(siblings([0; 3], [0; 3]), 0).0, none(2));
    assert_eq!(walked(siblings([0; 3], [0; 3]), 1).0, none(3));
    assert!(walked(siblings([0; 3], [0; 3]), 2).0.is_ok());
    // All 256 buses: no number wraps.
    let mut fabric = Fabric::default();
    for devfn in 0..=255u8 {
        let space = Space::bridge(Some(ROOT));
        fabric.add(None, devfn, if devfn % 8 == 0 { multi(space) } else { space });
    }
    assert_eq!(walked(fabric, 255).0, Err(PcieError::NoBusNumber(bdf(0, 31, 7))));
}

#[test]
fn a_tree_deeper_than_a_path_is_refused() {
    let chain = |depth: usize, numbered: bool| {
        let mut fabric = Fabric::default();
        let mut above = None;
        for bus in 0..u8::try_from(depth).unwrap() {
            let numbers = if numbered { [bus, bus + 1, 0x40] } else { [0; 3] };
            above = Some(fabric.add(above, 0x10, Space::bridge(None).numbers(numbers)));
        }
        fabric.add(above, 0x10, Space::endpoint());
        walked(fabric, 255).0
    };
    for numbered in [true, false] {
        let topology = chain(MAX_DEPTH - 1, numbered).unwrap();
        assert_eq!(paths(&topology), [["02.0"; MAX_DEPTH].join("/")]);
        assert!(topology.find(&path(&paths(&topology)[0])).is_some());
        let deepest = bdf(u8::try_from(MAX_DEPTH - 1).unwrap(), 2, 0);
        assert_eq!(chain(MAX_DEPTH, numbered), Err(PcieError::TooDeep(deepest)));
    }
}

/// A load of the header of a bridge that is everywhere.
fn bridge_everywhere(access: Access, _: usize) -> Option<u64> {
    let space = Space::bridge(None);
    Some(if access.register == 0x18 { 0 } else { space.get(access.register.into(), access.bytes as usize) })
}

#[test]
fn a_host_that_answers_everywhere_is_refused() {
    // Bus numbers that do not stay; then some that do.
    let answer: Answer = Box::new(bridge_everywhere);
    let (result, fabric) = walked(Fabric { answer: Some(answer), ..Fabric::default() }, 255);
    assert!(matches!(result, Err(PcieError::BridgeReadBack { .. })), "{result:?}");
    assert!(fabric.trace.len() < 1000, "bounded");
    // The same bus behind every bridge: the numbers fit those of the bus that was asked for.
    let answer: Answer = Box::new(|access, count| match access.register {
        0x18 => Some((u64::from(access.bdf.bus()) + 1) << 8 | 0xff_0000 | u64::from(access.bdf.bus())),
        0x00 if access.bdf.device() != 0 => None,
        _ => bridge_everywhere(access, count),
    });
    let (result, fabric) = walked(Fabric { answer: Some(answer), ..Fabric::default() }, 255);
    assert_eq!(result, Err(PcieError::TooDeep(bdf(7, 0, 0))));
    assert!(fabric.trace.len() < 1000, "bounded");
    // Endpoints on every place of every bus.
    let mut fabric = Fabric::default();
    for number in 1..=4 {
        fabric.add(None, number << 3, Space::bridge(None).numbers([0, number, number]));
    }
    fabric.answer = Some(Box::new(|access, _| {
        let space = multi(Space::endpoint());
        (access.bdf.bus() != 0).then(|| space.get(access.register.into(), access.bytes as usize))
    }));
    let (result, fabric) = walked(fabric, 255);
    let last = u16::try_from(0x100 + MAX_FUNCTIONS - 4).unwrap();
    assert_eq!(result, Err(PcieError::TooManyFunctions(Bdf::from_routing_id(last))));
    assert!(fabric.trace.len() < 10 * MAX_FUNCTIONS, "bounded");
}

#[test]
fn behind_a_port_is_one_device() {
    for (port, expected) in [
        (Some(ROOT), vec!["02.0/00.0", "02.0/00.3"]),
        (Some(DOWNSTREAM), vec!["02.0/00.0", "02.0/00.3"]),
        (Some(UPSTREAM), vec!["02.0/00.0", "02.0/00.3", "02.0/01.0", "02.0/1f.0"]),
        (None, vec!["02.0/00.0", "02.0/00.3", "02.0/01.0", "02.0/1f.0"]),
    ] {
        let mut fabric = Fabric::default();
        let above = fabric.add(None, 0x10, Space::bridge(port).numbers([0, 1, 1]));
        // A port that shows the device under every number.
        fabric.nodes[above].space.put(0x68, &[0x20]);
        fabric.add(Some(above), 0, multi(Space::endpoint()));
        for devfn in [3, 8, 0xf8] {
            fabric.add(Some(above), devfn, Space::endpoint());
        }
        let (topology, fabric) = found(fabric);
        assert_eq!(paths(&topology), expected, "{port:?}");
        let asked = (0..32).filter(|device| fabric.reads(bdf(1, *device, 0), 0) == 1).count();
        assert_eq!(asked, if expected.len() == 2 { 1 } else { 32 });
    }
}

/// An endpoint with an ARI capability behind AER; `next` is the next function number.
fn ari(next: u8) -> Space {
    Space::endpoint().list(0x40).capability(0x40, 0x10, 0, &[2, 0]).extended(0x100, 1, 0x148, &[]).extended(
        0x148,
        0x0e,
        0,
        &[0, next],
    )
}

/// Functions behind a root port at 02.0.
fn behind_port(functions: &[(u8, Space)]) -> Fabric {
    let mut fabric = Fabric::default();
    let port = fabric.add(None, 0x10, Space::bridge(Some(ROOT)).numbers([0, 1, 1]));
    for (devfn, space) in functions {
        fabric.add(Some(port), *devfn, space.clone());
    }
    fabric
}

#[test]
fn functions_of_an_ari_device_are_found_along_their_chain() {
    let chain = [(0, ari(2)), (1, ari(0)), (2, ari(0x80)), (0x80, ari(0xff)), (0xff, ari(0))];
    let (topology, fabric) = found(behind_port(&chain));
    assert_eq!(paths(&topology), ["02.0/00.0", "02.0/00.2", "02.0/10.0", "02.0/1f.7"], "1 is not in it");
    assert_eq!(fabric.stores(), [(0x10, 0x68, 0x20)], "ARI forwarding of the port");
    assert_eq!(topology.find(&path("02.0/10.0")).unwrap().bdf, Bdf::from_routing_id(0x180));
    // It was on already.
    let mut fabric = behind_port(&chain);
    fabric.nodes[0].space.put(0x68, &[0x20]);
    let (topology, fabric) = found(fabric);
    assert_eq!((topology.functions.len(), fabric.stores()), (4, vec![]));
}

#[test]
fn without_ari_forwarding_the_usual_eight_are_asked() {
    let functions = [(0, multi(ari(0x80))), (5, ari(0)), (0x80, ari(0))];
    let mut fabric = behind_port(&functions);
    fabric.nodes[0].space.put(0x64, &[0]);
    let (topology, fabric) = found(fabric);
    assert_eq!((paths(&topology), fabric.stores()), (vec!["02.0/00.0".into(), "02.0/00.5".into()], vec![]));
    // The bit does not stay.
    let mut fabric = behind_port(&functions);
    fabric.nodes[0].space.masks[0x68] = 0;
    let error = PcieError::BridgeReadBack { bdf: bdf(0, 2, 0), register: 0x68, written: 0x20, read: 0 };
    assert_eq!(walked(fabric, 255).0, Err(error));
    // A chain of one says nothing about the others.
    let (topology, fabric) = found(behind_port(&[(0, multi(ari(0))), (5, ari(0))]));
    assert_eq!((topology.functions.len(), fabric.stores().len()), (2, 0));
    // On the root bus there is no port.
    let mut fabric = Fabric::default();
    fabric.add(None, 0x10, ari(0x80));
    fabric.add(None, 0x80, ari(0));
    assert_eq!(paths(&found(fabric).0), ["02.0", "10.0"]);
}

#[test]
fn a_chain_that_does_not_ascend_is_refused() {
    let refused = |functions: &[(u8, Space)], rid: u16, next| {
        let error = PcieError::AriOrder { bdf: Bdf::from_routing_id(rid), next };
        assert_eq!(walked(behind_port(functions), 255).0, Err(error));
    };
    refused(&[(0, ari(2)), (2, ari(2))], 0x102, 2);
    refused(&[(0, ari(2)), (2, ari(0x40)), (0x40, ari(2))], 0x140, 2);
    refused(&[(0, ari(2)), (1, ari(0)), (2, ari(1))], 0x102, 1);
    // One that is missing, or without the capability, ends it.
    let (topology, _) = found(behind_port(&[(0, ari(2)), (2, ari(3)), (4, ari(0))]));
    assert_eq!(paths(&topology), ["02.0/00.0", "02.0/00.2"]);
    let (topology, _) = found(behind_port(&[(0, ari(2)), (2, Space::endpoint()), (4, ari(0))]));
    assert_eq!(paths(&topology), ["02.0/00.0", "02.0/00.2"]);
}

#[test]
fn an_extended_list_that_does_not_end_is_refused() {
    let express = || Space::endpoint().list(0x40).capability(0x40, 0x10, 0, &[2, 0]);
    let broken = |space: Space, offset| {
        let mut fabric = Fabric::default();
        fabric.add(None, 0x10, space);
        let (result, fabric) = walked(fabric, 0);
        assert_eq!(result, Err(PcieError::Capabilities { bdf: bdf(0, 2, 0), offset }));
        assert!(fabric.trace.len() < 600, "bounded");
    };
    broken(express().extended(0x100, 1, 0x100, &[]), 0x100);
    broken(
        express().extended(0x100, 1, 0x200, &[]).extended(0x200, 2, 0x180, &[]).extended(
            0x180,
            3,
            0x200,
            &[],
        ),
        0x180,
    );
    broken(express().extended(0x100, 1, 0xfc, &[]), 0xfc);
    broken(express().extended(0x100, 1, 0x200, &[]).extended(0x200, 2, 4, &[]), 4);
    // No list, a long one, one that goes down, and none at all without PCI Express.
    let walks = |space: Space| {
        let mut fabric = Fabric::default();
        fabric.add(None, 0x10, space);
        found(fabric).1.trace.len()
    };
    let none = walks(express());
    let mut ones = express();
    ones.put(0x100, &[0xff; 4]);
    assert_eq!(walks(ones), none);
    let mut long = express();
    for at in (0x100..0x1000).step_by(8) {
        let next = if at + 8 == 0x1000 { 0 } else { u16::try_from(at).unwrap() + 8 };
        long = long.extended(at, 7, next, &[]);
    }
    assert_eq!(walks(long), none + 479);
    assert_eq!(walks(express().extended(0x100, 1, 0x200, &[]).extended(0x200, 2, 0x140, &[])), none + 2);
    let conventional = Space::endpoint().extended(0x100, 1, 0x100, &[]);
    assert!(walks(conventional) < none);
}

#[test]
fn only_an_endpoint_is_found_by_its_path() {
    let mut fabric = machine(ASSIGNED);
    fabric.add(None, 0x30, byte(Space::endpoint(), 0x0e, 2));
    let (topology, _) = found(fabric);
    assert!(topology.find(&path("03.0")).is_some());
    let kind = |bdf: Bdf| topology.functions.iter().find(|function| function.bdf == bdf).unwrap().kind;
    assert_eq!(kind(bdf(0, 0, 0)), Kind::Bridge);
    assert_eq!(kind(bdf(0, 6, 0)), Kind::Unknown(2));
    for other in ["00.0", "05.0", "06.0", "05.0/00.0", "05.0/00.0/00.0", "03.0/00.0", "07.0/00.0", "14.1"] {
        assert_eq!(topology.find(&path(other)), None, "{other}");
    }
}

#[test]
fn the_layout_makes_a_bridge_whatever_its_class_says() {
    let mut fabric = Fabric::default();
    let nvme = Space::bridge(None).numbers([0, 1, 1]);
    let mut disguised = nvme;
    disguised.put(8, &[2, 2, 8, 1]);
    let port = fabric.add(None, 0x10, multi(disguised));
    fabric.add(None, 0x11, Space::endpoint());
    fabric.add(Some(port), 0xf8, Space::endpoint());
    let (topology, _) = found(fabric);
    assert_eq!(topology.bridges.len(), 1);
    assert_eq!(paths(&topology), ["02.1", "02.0/1f.0"]);
    assert_eq!(topology.find(&path("02.0")), None);
}
