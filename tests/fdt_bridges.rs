//! Bridges in the payload's tree: nodes nest as buses do, `shared` functions have less to say, and whatever does not nest
//! or fit is refused by name.
#[path = "common/payload_tree.rs"]
mod payload_tree;

use gatehouse::addr::{Bdf, IpaRange};
use gatehouse::fdt::bridge::{BridgeNode, MAX_BRIDGES, MAX_FUNCTIONS};
use gatehouse::fdt::check::Tree;
use gatehouse::fdt::function::{AcceptedNode, BarNode, FunctionNode, Mode};
use gatehouse::fdt::write::WriteError;
use payload_tree::build;

const HOST: &str = "/pcie@4010000000";
const LOW: u64 = 0x1100_0000;
const HIGH: u64 = 0x81_0000_0000;
const MIB: u64 = 1 << 20;

fn range(base: u64, len: u64) -> IpaRange {
    IpaRange::new(base, len).unwrap()
}

fn bdf(bus: u8, device: u8) -> Bdf {
    Bdf::new(bus, device, 0).unwrap()
}

fn bridge(at: Bdf, above: Option<usize>, secondary: u8, subordinate: u8) -> BridgeNode {
    BridgeNode {
        bdf: at,
        vendor_id: 0x1b36,
        device_id: 0xc,
        revision_id: 1,
        class_code: 0x06_0400,
        above,
        secondary,
        subordinate,
        memory: None,
        prefetchable: None,
    }
}

/// A root port and a switch with two downstream ports; a root port with nothing behind it.
fn bridges() -> Vec<BridgeNode> {
    let low = |at, mib| Some(range(LOW + at * MIB, mib * MIB));
    let high = |len| Some(range(HIGH, len));
    let port = |bridge, memory, prefetchable| BridgeNode { memory, prefetchable, ..bridge };
    vec![
        port(bridge(bdf(0, 5), None, 1, 4), low(0, 3), high(0x4000_0000)),
        bridge(bdf(0, 6), None, 5, 0xff),
        port(bridge(bdf(1, 0), Some(0), 2, 4), low(0, 2), high(0x4000_0000)),
        port(bridge(bdf(2, 0), Some(2), 3, 3), low(0, 1), high(0x2000_0000)),
        port(bridge(bdf(2, 1), Some(2), 4, 4), low(1, 1), None),
    ]
}

fn bar(index: u8, address: u64, size: u64, wide: bool) -> BarNode {
    BarNode { index, address, size, wide, prefetchable: wide }
}

fn function(at: Bdf, above: Option<usize>, bars: Vec<BarNode>) -> FunctionNode<'static> {
    FunctionNode {
        bdf: at,
        above,
        vendor_id: 0x8086,
        device_id: 0x10c9,
        subsystem_vendor_id: 0x1af4,
        subsystem_id: 0x1100,
        revision_id: 1,
        class_code: 0x02_0000,
        bars,
        rule: "optional-slot",
        mode: Mode::Run(AcceptedNode {
            vdev_id: at.into(),
            msix_pages: &[],
            nonces: [1, 2, 3],
            digest_algorithm: "sha512",
            vca_digest: &[1; 64],
            certificate_digest: &[2; 64],
            measurement_digest: &[3; 64],
            report_digest: &[4; 64],
        }),
    }
}

fn shared(at: Bdf, above: Option<usize>, bars: Vec<BarNode>) -> FunctionNode<'static> {
    FunctionNode { rule: "shared-slot", mode: Mode::Shared, ..function(at, above, bars) }
}

/// One on the root bus, one behind the first downstream port, a shared one behind the second.
fn functions() -> Vec<FunctionNode<'static>> {
    vec![
        function(bdf(3, 0), Some(3), vec![bar(0, HIGH, 0x2000_0000, true), bar(2, LOW, 0x4000, false)]),
        shared(
            bdf(4, 0),
            Some(4),
            vec![bar(1, LOW + MIB, 0x80, false), bar(4, LOW + MIB + 0x1000, 16, false)],
        ),
        function(bdf(0, 2), None, vec![bar(0, 0x1000_0000, 0x1000, false)]),
    ]
}

/// What the tree has below `path`: properties as cells, and the names of the children.
struct Found {
    tree: Tree,
    path: String,
}

impl Found {
    fn at(path: &str) -> Self {
        let blob = build(&bridges(), &functions()).unwrap();
        Self { tree: Tree::check(blob).unwrap(), path: format!("{HOST}{path}") }
    }

    fn value(&self, name: &str) -> Option<Vec<u8>> {
        let reader = self.tree.reader().unwrap();
        Some(reader.find_node(&self.path).unwrap().property(name)?.value.to_vec())
    }

    fn cells(&self, name: &str) -> Vec<u32> {
        let value = self.value(name).unwrap_or_else(|| panic!("no {name}"));
        value.chunks(4).map(|c| u32::from_be_bytes(c.try_into().unwrap())).collect()
    }

    fn children(&self) -> Vec<String> {
        let reader = self.tree.reader().unwrap();
        reader.find_node(&self.path).unwrap().children().map(|n| n.name.to_owned()).collect()
    }
}

#[test]
fn nodes_nest_as_the_buses_do_and_an_idle_bridge_is_not_shown() {
    assert_eq!(Found::at("").children(), ["ethernet@2,0", "pci@5,0"]);
    assert_eq!(Found::at("/pci@5,0").children(), ["pci@0,0"]);
    assert_eq!(Found::at("/pci@5,0/pci@0,0").children(), ["pci@0,0", "pci@1,0"]);
    assert_eq!(Found::at("/pci@5,0/pci@0,0/pci@0,0").children(), ["ethernet@0,0"]);
    assert_eq!(Found::at("/pci@5,0/pci@0,0/pci@1,0").children(), ["ethernet@0,0"]);
}

#[test]
fn a_bridge_node_follows_the_contract() {
    let port = Found::at("/pci@5,0/pci@0,0/pci@0,0");
    assert_eq!(port.cells("reg"), [0x2_0000, 0, 0, 0, 0]);
    assert_eq!(port.value("device_type").unwrap(), b"pci\0");
    assert_eq!(port.cells("#address-cells"), [3]);
    assert_eq!(port.cells("#size-cells"), [2]);
    assert_eq!(port.cells("bus-range"), [3, 3]);
    assert_eq!(port.cells("vendor-id"), [0x1b36]);
    assert_eq!(port.cells("device-id"), [0xc]);
    assert_eq!(port.cells("revision-id"), [1]);
    assert_eq!(port.cells("class-code"), [0x06_0400]);
    let low = [0x0200_0000, 0, 0x1100_0000, 0x0200_0000, 0, 0x1100_0000, 0, 0x10_0000];
    let high = [0x4300_0000, 0x81, 0, 0x4300_0000, 0x81, 0, 0, 0x2000_0000];
    assert_eq!(port.cells("ranges"), [low, high].concat());
    assert!(port.value("gatehouse,mode").is_none());
}

#[test]
fn a_prefetchable_window_below_4_gib_is_a_32_bit_one_and_no_window_has_no_ranges() {
    let mut bridges = bridges();
    bridges[4].prefetchable = bridges[4].memory.take();
    let tree = Tree::check(build(&bridges, &functions()).unwrap()).unwrap();
    let port = Found { tree, path: format!("{HOST}/pci@5,0/pci@0,0/pci@1,0") };
    assert_eq!(
        port.cells("ranges"),
        [0x4200_0000, 0, 0x1110_0000, 0x4200_0000, 0, 0x1110_0000, 0, 0x10_0000]
    );
    bridges[4].prefetchable = None;
    let bare = [shared(bdf(4, 0), Some(4), vec![])];
    let tree = Tree::check(build(&bridges, &bare).unwrap()).unwrap();
    let port = Found { tree, path: format!("{HOST}/pci@5,0/pci@0,0/pci@1,0") };
    assert_eq!(port.value("ranges"), None);
    let function = Found { path: format!("{}/ethernet@0,0", port.path), ..port };
    assert_eq!(function.value("assigned-addresses"), None);
}

#[test]
fn a_shared_function_has_its_true_bar_sizes_and_nothing_that_was_not_verified() {
    let function = Found::at("/pci@5,0/pci@0,0/pci@1,0/ethernet@0,0");
    assert_eq!(function.cells("reg"), [0x4_0000, 0, 0, 0, 0]);
    assert_eq!(
        function.cells("assigned-addresses"),
        [0x8204_0014, 0, 0x1110_0000, 0, 0x80, 0x8204_0020, 0, 0x1110_1000, 0, 16]
    );
    assert_eq!(function.value("gatehouse,mode").unwrap(), b"shared\0");
    assert_eq!(function.value("gatehouse,rule").unwrap(), b"shared-slot\0");
    assert_eq!(function.value("gatehouse,msix-pages").unwrap(), b"");
    let reader = function.tree.reader().unwrap();
    let names = reader.find_node(&function.path).unwrap().properties().map(|p| p.name);
    let ours: Vec<&str> = names.filter(|name| name.starts_with("gatehouse,")).collect();
    assert_eq!(ours, ["gatehouse,mode", "gatehouse,rule", "gatehouse,msix-pages"]);
}

#[test]
fn a_function_in_mode_run_behind_bridges_has_all_that_was_verified() {
    let function = Found::at("/pci@5,0/pci@0,0/pci@0,0/ethernet@0,0");
    assert_eq!(function.value("gatehouse,mode").unwrap(), b"run\0");
    assert_eq!(function.value("gatehouse,rule").unwrap(), b"optional-slot\0");
    assert_eq!(function.cells("gatehouse,vdev-id"), [0, 0x300]);
    assert_eq!(function.cells("gatehouse,nonces"), [0, 1, 0, 2, 0, 3]);
    assert_eq!(function.value("gatehouse,digest-algorithm").unwrap(), b"sha512\0");
    for (name, byte) in [("vca", 1), ("certificate", 2), ("measurement", 3), ("report", 4)] {
        assert_eq!(function.value(&format!("gatehouse,{name}-digest")).unwrap(), [byte; 64]);
    }
    assert_eq!(
        function.cells("assigned-addresses"),
        [0xc303_0010, 0x81, 0, 0, 0x2000_0000, 0x8203_0018, 0, 0x1100_0000, 0, 0x4000]
    );
}

#[test]
fn the_summary_counts_each_mode() {
    let tree = Found::at("").tree;
    let chosen = Found { tree, path: "/chosen/gatehouse".into() };
    assert_eq!((chosen.cells("accepted"), chosen.cells("shared")), (vec![2], vec![1]));
}

/// The error after a change of the bridges.
fn with(change: impl FnOnce(&mut Vec<BridgeNode>)) -> WriteError {
    let mut bridges = bridges();
    change(&mut bridges);
    build(&bridges, &functions()).unwrap_err()
}

/// The error after a change of the functions.
fn with_functions(change: impl FnOnce(&mut Vec<FunctionNode<'_>>)) -> WriteError {
    let mut functions = functions();
    change(&mut functions);
    build(&bridges(), &functions).unwrap_err()
}

#[test]
fn buses_that_do_not_nest_are_refused() {
    let nesting = |bus, device| WriteError::Nesting(bdf(bus, device));
    // Not on the bus that the bridge above leads to, or above a bridge that is not there, or is itself.
    assert_eq!(with(|b| b[2].bdf = bdf(2, 5)), nesting(2, 5));
    assert_eq!(with(|b| b[0].bdf = bdf(1, 5)), nesting(1, 5));
    assert_eq!(with(|b| b[2].above = None), nesting(1, 0));
    assert_eq!(with(|b| b[2].above = Some(2)), nesting(1, 0));
    assert_eq!(with(|b| b[0].above = Some(2)), nesting(0, 5));
    assert_eq!(with(|b| b[4].above = Some(5)), nesting(2, 1));
    // Reversed, not below the bus it is on, not inside what the bridge above has.
    assert_eq!(with(|b| b[4].subordinate = 3), nesting(2, 1));
    assert_eq!(with(|b| (b[3].secondary, b[3].subordinate) = (2, 2)), nesting(2, 0));
    assert_eq!(with(|b| b[4].subordinate = 5), nesting(2, 1));
    assert_eq!(with(|b| b[2].subordinate = 3), nesting(2, 1));
    // Two bridges with one bus.
    assert_eq!(with(|b| (b[4].secondary, b[4].subordinate) = (3, 3)), nesting(2, 1));
    assert_eq!(with(|b| b[1].secondary = 4), nesting(0, 6));
    // Functions.
    assert_eq!(with_functions(|f| f[0].above = Some(4)), nesting(3, 0));
    assert_eq!(with_functions(|f| f[0].above = None), nesting(3, 0));
    assert_eq!(with_functions(|f| f[0].above = Some(5)), nesting(3, 0));
    assert_eq!(with_functions(|f| f[2].above = Some(0)), nesting(0, 2));
}

#[test]
fn eight_bridges_above_each_other_are_shown_and_nine_are_refused() {
    let chain = |len: u8| -> Vec<BridgeNode> {
        (0..len).map(|i| bridge(bdf(i, 0), i.checked_sub(1).map(usize::from), i + 1, 0xff)).collect()
    };
    let last = [shared(bdf(8, 0), Some(7), vec![])];
    let tree = Tree::check(build(&chain(8), &last).unwrap()).unwrap();
    let path = format!("{HOST}{}/ethernet@0,0", "/pci@0,0".repeat(8));
    assert!(tree.reader().unwrap().find_node(&path).is_some());
    assert_eq!(build(&chain(9), &last), Err(WriteError::Nesting(bdf(8, 0))));
}

#[test]
fn one_place_has_one_owner() {
    assert_eq!(with(|b| b[1].bdf = b[0].bdf), WriteError::SameFunction(bdf(0, 5)));
    assert_eq!(with_functions(|f| f[2].bdf = bdf(0, 5)), WriteError::SameFunction(bdf(0, 5)));
    assert_eq!(
        with_functions(|f| f.push(shared(bdf(3, 0), Some(3), vec![]))),
        WriteError::SameFunction(bdf(3, 0))
    );
}

#[test]
fn counts_are_bounded() {
    let many = vec![bridge(bdf(0, 5), None, 1, 1); MAX_BRIDGES + 1];
    assert_eq!(build(&many, &[]), Err(WriteError::TooMany(257)));
    let many = vec![shared(bdf(0, 5), None, vec![]); MAX_FUNCTIONS + 1];
    assert_eq!(build(&[], &many), Err(WriteError::TooMany(257)));
}

#[test]
fn a_window_that_is_not_forwarded_is_refused() {
    let (low, high) = (|at, len| Some(range(LOW + at, len)), |at, len| Some(range(HIGH + at, len)));
    let window = |bdf, window: Option<IpaRange>| WriteError::Window { bdf, window: window.unwrap() };
    // Not whole MiBs.
    for bad in [low(0x1000, MIB), low(0, MIB + 0x1000)] {
        assert_eq!(with(|b| b[3].memory = bad), window(bdf(2, 0), bad));
        assert_eq!(with(|b| b[3].prefetchable = bad), window(bdf(2, 0), bad));
    }
    // Outside what the bridge above forwards, or the host.
    let outside = low(2 * MIB, MIB);
    assert_eq!(with(|b| b[4].memory = outside), window(bdf(2, 1), outside));
    let partly = high(0x3ff0_0000, 2 * MIB);
    assert_eq!(with(|b| b[4].prefetchable = partly), window(bdf(2, 1), partly));
    let ram = Some(range(0x4000_0000, MIB));
    assert_eq!(with(|b| b[1].memory = ram), window(bdf(0, 6), ram));
    // A memory window has 32 bits.
    let above = high(0x4000_0000, MIB);
    assert_eq!(with(|b| b[1].memory = above), window(bdf(0, 6), above));
    let mut bridges = bridges();
    bridges[1].prefetchable = above;
    assert!(build(&bridges, &functions()).is_ok());
}

#[test]
fn a_bar_that_the_bridge_above_does_not_forward_is_refused() {
    let bad = |bdf, index| WriteError::Bar { bdf, index };
    assert_eq!(with_functions(|f| f[0].bars[0].address = HIGH + 0x2000_0000), bad(bdf(3, 0), 0));
    assert_eq!(with_functions(|f| f[0].bars[1].address = LOW + MIB), bad(bdf(3, 0), 2));
    assert_eq!(with_functions(|f| f[1].bars[0].address = 0x1000_1000), bad(bdf(4, 0), 1));
    assert_eq!(with(|b| b[3].memory = None), bad(bdf(3, 0), 2));
}

#[test]
fn a_shared_bar_of_a_bad_form_is_refused() {
    let bad = WriteError::Bar { bdf: bdf(4, 0), index: 1 };
    for (address, size) in
        [(LOW + MIB, 8), (LOW + MIB, 0x60), (LOW + MIB + 0x80, 0x80), (LOW + MIB + 0x1000, 0x2000)]
    {
        let got = with_functions(|f| {
            f[1].bars.truncate(1);
            (f[1].bars[0].address, f[1].bars[0].size) = (address, size);
        });
        assert_eq!(got, bad, "{address:#x} {size:#x}");
    }
}

#[test]
fn an_address_has_one_owner() {
    let same = |first, second| WriteError::SameAddress { first, second };
    // Two BARs of one function, also in one page; of two functions; two windows; a BAR and a window.
    let page = range(LOW + MIB, 0x1000);
    let got = with_functions(|f| f[1].bars[1] = bar(4, LOW + MIB, 16, false));
    assert_eq!(got, same(page, page));
    let other = shared(Bdf::new(3, 0, 1).unwrap(), Some(3), vec![bar(0, LOW + 0x2000, 0x1000, false)]);
    let got = with_functions(|f| f.push(other));
    assert_eq!(got, same(range(LOW, 0x4000), range(LOW + 0x2000, 0x1000)));
    let window = range(LOW, MIB);
    assert_eq!(with(|b| b[4].prefetchable = Some(window)), same(window, window));
    let own = range(LOW + MIB, MIB);
    assert_eq!(with(|b| b[4].prefetchable = Some(own)), same(own, own));
    let got = with_functions(|f| f[2].bars[0].address = LOW + 0x1000);
    assert_eq!(got, same(range(LOW, 3 * MIB), range(LOW + 0x1000, 0x1000)));
}

#[test]
fn a_bridges_class_has_24_bits() {
    let class_code = 0x0106_0400;
    assert_eq!(with(|b| b[1].class_code = class_code), WriteError::ClassCode { bdf: bdf(0, 6), class_code });
}
