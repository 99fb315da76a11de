//! Properties of the nodes below the host bridge: any tree of bridges is read back as it is, and after any change what is
//! written still nests and gives each address one owner, or nothing is written.
#[path = "common/payload_tree.rs"]
mod payload_tree;

use fdt::node::FdtNode;
use gatehouse::addr::{Bdf, IpaRange};
use gatehouse::fdt::bridge::BridgeNode;
use gatehouse::fdt::check::Tree;
use gatehouse::fdt::function::{AcceptedNode, BarNode, FunctionNode, Mode};
use gatehouse::fdt::write::WriteError;
use proptest::collection::vec;
use proptest::prelude::*;
use std::ops::Range;

const HOST: &str = "/pcie@4010000000";
const LOW: u64 = 0x1100_0000;
const MIB: u64 = 1 << 20;

#[derive(Clone, Debug)]
struct Topology {
    bridges: Vec<BridgeNode>,
    functions: Vec<FunctionNode<'static>>,
}

fn function(bdf: Bdf, above: Option<usize>, bars: Vec<BarNode>, shared: bool) -> FunctionNode<'static> {
    let accepted = AcceptedNode {
        vdev_id: bdf.into(),
        msix_pages: &[],
        nonces: [1, 2, 3],
        digest_algorithm: "sha256",
        vca_digest: &[],
        certificate_digest: &[],
        measurement_digest: &[],
        report_digest: &[],
    };
    FunctionNode {
        bdf,
        above,
        vendor_id: 1,
        device_id: 2,
        subsystem_vendor_id: 3,
        subsystem_id: 4,
        revision_id: 5,
        class_code: 0x01_0802,
        bars,
        rule: "rule",
        mode: if shared { Mode::Shared } else { Mode::Run(accepted) },
    }
}

/// What is behind a bridge: nothing, a function in mode `run`, a shared one.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Behind {
    Nothing,
    Run,
    Shared,
}

/// Bridges depth first: each begins at most one deeper than the last one. Bridge `i` leads to bus `i + 1` and has the MiB
/// `i` for what is on it, and those of all bridges behind it.
fn topology(shape: &[(usize, Behind, u32)]) -> Topology {
    let mut depths: Vec<usize> = Vec::new();
    for (wanted, ..) in shape {
        let most = depths.last().map_or(0, |depth| depth + 1).min(7);
        depths.push((*wanted).min(most));
    }
    let mut topology = Topology { bridges: Vec::new(), functions: Vec::new() };
    for (i, (_, behind, size)) in shape.iter().enumerate() {
        let depth = depths[i];
        let last = (i + 1..depths.len()).take_while(|j| depths[*j] > depth).last().unwrap_or(i);
        let above = (0..i).rev().find(|j| depths[*j] < depth);
        let sibling = topology.bridges.iter().filter(|b| b.above == above).count();
        let bus = above.map_or(0, |above| above as u8 + 1);
        let base = LOW + i as u64 * MIB;
        topology.bridges.push(BridgeNode {
            bdf: Bdf::new(bus, sibling as u8, 0).unwrap(),
            vendor_id: 1,
            device_id: 2,
            revision_id: 3,
            class_code: 0x06_0400,
            above,
            secondary: i as u8 + 1,
            subordinate: last as u8 + 1,
            memory: Some(IpaRange::new(base, (last - i + 1) as u64 * MIB).unwrap()),
            prefetchable: None,
        });
        let shared = *behind == Behind::Shared;
        let size = if shared { 1 << size } else { 0x1000 << (size % 9) };
        let bar = BarNode { index: 0, address: base, size, wide: false, prefetchable: false };
        if *behind != Behind::Nothing {
            let bdf = Bdf::new(i as u8 + 1, 31, 0).unwrap();
            topology.functions.push(function(bdf, Some(i), vec![bar], shared));
        }
    }
    topology
}

fn any_topology() -> impl Strategy<Value = Topology> {
    let behind = prop_oneof![Just(Behind::Nothing), Just(Behind::Run), Just(Behind::Shared)];
    vec((0usize..8, behind, 4u32..20), 1..16).prop_map(|shape| topology(&shape))
}

fn build(topology: &Topology) -> Result<Tree, WriteError> {
    let blob = payload_tree::build(&topology.bridges, &topology.functions)?;
    Ok(Tree::check(blob).unwrap())
}

fn cells(node: FdtNode<'_, '_>, name: &str) -> Vec<u32> {
    let value = node.property(name).map(|p| p.value).unwrap_or_default();
    value.chunks(4).map(|c| u32::from_be_bytes(c.try_into().unwrap())).collect()
}

/// Base and length of each entry, whose address has three cells and begins `skip` cells in.
fn spans(node: FdtNode<'_, '_>, name: &str, len: usize) -> Vec<Range<u64>> {
    let join = |c: &[u32]| u64::from(c[0]) << 32 | u64::from(c[1]);
    let span = |c: &[u32]| join(&c[1..]).checked_add(join(&c[len - 2..])).map(|end| join(&c[1..])..end);
    cells(node, name).chunks(len).map(|c| span(c).unwrap()).collect()
}

/// Checks what is on one bus, and below it. Returns the number of functions.
fn nests(node: FdtNode<'_, '_>, buses: Range<u32>, windows: &[Range<u64>]) -> usize {
    let mut owned: Vec<Range<u64>> = Vec::new();
    let (mut functions, mut places, mut behind) = (0, Vec::new(), Vec::new());
    for child in node.children() {
        let reg = cells(child, "reg")[0];
        assert_eq!(reg >> 16, buses.start, "on the bus that the bridge leads to");
        assert!(!places.contains(&reg));
        places.push(reg);
        let is_bridge = child.property("bus-range").is_some();
        assert_ne!(is_bridge, child.property("gatehouse,mode").is_some());
        let mut mine =
            if is_bridge { spans(child, "ranges", 8) } else { spans(child, "assigned-addresses", 5) };
        for span in &mine {
            assert!(
                windows.iter().any(|w| w.start <= span.start && span.end <= w.end),
                "{span:x?} {windows:x?}"
            );
        }
        if is_bridge {
            let [first, last] = cells(child, "bus-range").try_into().unwrap();
            assert!(buses.start < first && first <= last && last < buses.end);
            assert!(behind.iter().all(|(f, l)| last < *f || *l < first));
            behind.push((first, last));
            let below = nests(child, first..last + 1, &mine);
            assert!(below > 0, "a bridge that leads nowhere is not shown");
            functions += below;
        } else {
            functions += 1;
            // A BAR has its pages for itself.
            mine.iter_mut().for_each(|span| span.end = span.end.next_multiple_of(0x1000));
        }
        owned.extend(mine);
    }
    for (i, one) in owned.iter().enumerate() {
        assert!(owned[..i].iter().all(|other| one.end <= other.start || other.end <= one.start));
    }
    functions
}

fn check(tree: &Tree, topology: &Topology) {
    let reader = tree.reader().unwrap();
    let windows = [0x1000_0000..0x3eff_0000, 0x80_0000_0000..0x100_0000_0000];
    let found = nests(reader.find_node(HOST).unwrap(), 0..256, &windows);
    assert_eq!(found, topology.functions.len());
}

/// A change of one number of a bridge or a function.
#[derive(Clone, Debug)]
enum Change {
    Bdf(u16),
    Above(Option<usize>),
    Buses(u8, u8),
    Memory(u64, u64),
    Prefetchable(u64, u64),
}

fn any_change() -> impl Strategy<Value = Change> {
    let mib = || prop_oneof![0x10fu64..0x124, Just(0x3ee), Just(0x400), Just(0x8_0000)];
    prop_oneof![
        prop_oneof![0u16..0x1100, any::<u16>()].prop_map(Change::Bdf),
        prop::option::of(0usize..18).prop_map(Change::Above),
        (0u8..20, prop_oneof![0u8..20, Just(255)]).prop_map(|(a, b)| Change::Buses(a, b)),
        (mib(), 1u64..18).prop_map(|(a, b)| Change::Memory(a, b)),
        (mib(), 1u64..18).prop_map(|(a, b)| Change::Prefetchable(a, b)),
    ]
}

impl Change {
    fn apply(&self, topology: &mut Topology, at: usize) {
        let bridges = topology.bridges.len();
        let window = |base: u64, len: u64| IpaRange::new(base * MIB, len * MIB).unwrap();
        if let Some(function) = at.checked_sub(bridges).and_then(|at| topology.functions.get_mut(at)) {
            let bar = &mut function.bars[0];
            match *self {
                Self::Bdf(rid) => function.bdf = Bdf::from_routing_id(rid),
                Self::Above(above) => function.above = above,
                Self::Buses(shift, index) => (bar.size, bar.index) = (1 << (shift % 64), index),
                Self::Memory(base, len) => (bar.address, bar.size) = (base * MIB, len << 12),
                Self::Prefetchable(base, page) => bar.address = base * MIB + page * 0x800,
            }
            return;
        }
        let bridge = &mut topology.bridges[at % bridges];
        match *self {
            Self::Bdf(rid) => bridge.bdf = Bdf::from_routing_id(rid),
            Self::Above(above) => bridge.above = above,
            Self::Buses(first, last) => (bridge.secondary, bridge.subordinate) = (first, last),
            Self::Memory(base, len) => bridge.memory = Some(window(base, len)),
            Self::Prefetchable(base, len) => bridge.prefetchable = Some(window(base, len)),
        }
    }
}

proptest! {
    #[test]
    fn any_tree_of_bridges_is_read_back(topology in any_topology()) {
        let tree = build(&topology).unwrap();
        check(&tree, &topology);
        let reader = tree.reader().unwrap();
        for function in &topology.functions {
            let (mut path, mut above) = (String::from("/nvme@1f,0"), function.above);
            while let Some(index) = above {
                let bridge = &topology.bridges[index];
                path = format!("/pci@{:x},0{path}", bridge.bdf.device());
                above = bridge.above;
            }
            let node = reader.find_node(&format!("{HOST}{path}")).unwrap();
            prop_assert_eq!(cells(node, "reg")[0], u32::from(function.bdf.routing_id()) << 8);
            let mode = node.property("gatehouse,mode").unwrap().value;
            prop_assert_eq!(mode.strip_suffix(&[0]), Some(function.mode.word().as_bytes()));
            let size = cells(node, "assigned-addresses")[4];
            prop_assert_eq!(u64::from(size), function.bars[0].size);
        }
    }

    #[test]
    fn after_any_change_the_tree_nests_or_is_refused(
        topology in any_topology(),
        changes in vec((0usize..32, any_change()), 1..4),
    ) {
        let mut topology = topology;
        for (at, change) in changes {
            change.apply(&mut topology, at);
        }
        if let Ok(tree) = build(&topology) {
            check(&tree, &topology);
        }
    }
}
