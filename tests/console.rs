//! The console of the host's tree, in the forms that VMMs give it, and what the payload's tree says of it.
mod common;

use common::image::{Image, tree};
use common::{Boot, plain, tree_at};
use dtoolkit::ToPropertyValue;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use gatehouse::addr::{AddrError, IpaRange};
use gatehouse::arch::host::ipa_width;
use gatehouse::fdt::check::Tree;
use gatehouse::fdt::read::{Console, ConsoleKind, Machine, MachineError, What};

const NAME: &str = "U6_16550A@1000000";
const BASE: u64 = 0x100_0000;
const PLAIN: ConsoleKind = ConsoleKind::Ns16550 { reg_shift: 0, io_width: 1 };

/// QEMU's tree with kvmtool's console instead of the PL011: a node of eight bytes, behind an alias.
fn kvmtool(change: impl FnOnce(&mut DeviceTreeNode)) -> Vec<u8> {
    tree(|tree| {
        replace(tree, NAME, |node| {
            set(node, "compatible", "ns16550a");
            set(node, "reg", [0u32, 0x100_0000, 0, 8]);
            set(node, "interrupts", [0u32, 0, 4]);
            set(node, "clock-frequency", 0x1c_2000u32);
            change(node);
        });
        let aliases = tree.find_node_mut("/aliases").unwrap();
        set(aliases, "serial0", format!("/{NAME}").as_str());
        set(tree.find_node_mut("/chosen").unwrap(), "stdout-path", "serial0");
    })
}

fn replace(tree: &mut DeviceTree, name: &str, fill: impl FnOnce(&mut DeviceTreeNode)) {
    tree.root.remove_child("pl011@9000000").unwrap();
    let mut node = DeviceTreeNode::new(name).unwrap();
    fill(&mut node);
    tree.root.add_child(node);
}

fn set(node: &mut DeviceTreeNode, name: &str, value: impl ToPropertyValue) {
    node.add_property(DeviceTreeProperty::new(name, value).unwrap());
}

fn read(blob: &[u8]) -> Result<Console, MachineError> {
    Machine::read(&Tree::check(blob).unwrap(), ipa_width()).map(|machine| machine.console.unwrap())
}

fn with(name: &'static str, value: impl ToPropertyValue) -> Result<ConsoleKind, MachineError> {
    read(&kvmtool(|node| set(node, name, value))).map(|console| console.kind)
}

fn bad<T>(property: &'static str) -> Result<T, MachineError> {
    Err(MachineError::Property { node: What::Console, property })
}

#[test]
fn the_console_of_kvmtool_is_a_16550_in_a_granule_of_its_own() {
    let console = read(&kvmtool(|_| {})).unwrap();
    let regs = IpaRange::new(BASE, 0x1000).unwrap();
    let path = format!("/{NAME}");
    assert_eq!(console, Console { path, kind: PLAIN, address: BASE, len_bytes: 8, regs });
}

#[test]
fn registers_may_begin_inside_a_granule() {
    // crosvm: COM1 at its port number.
    let console = read(&kvmtool(|node| set(node, "reg", [0u32, 0x3f8, 0, 8]))).unwrap();
    assert_eq!((console.regs, console.offset()), (IpaRange::new(0, 0x1000).unwrap(), 0x3f8));
    // And end in the next one.
    let console = read(&kvmtool(|node| set(node, "reg", [0u32, 0xffc, 0, 8]))).unwrap();
    assert_eq!(console.regs, IpaRange::new(0, 0x2000).unwrap());
}

#[test]
fn the_distance_and_width_of_the_registers_are_read() {
    let wide = |shift: u32, width: u32| {
        read(&kvmtool(|node| {
            set(node, "reg", [0u32, 0x100_0000, 0, 0x100]);
            set(node, "reg-shift", shift);
            set(node, "reg-io-width", width);
        }))
        .map(|console| console.kind)
    };
    for (reg_shift, io_width) in [(0u8, 1u8), (1, 1), (1, 2), (2, 1), (2, 4), (3, 4)] {
        let kind = ConsoleKind::Ns16550 { reg_shift, io_width };
        assert_eq!(wide(reg_shift.into(), io_width.into()), Ok(kind));
    }
    for (shift, width) in [(0, 2), (0, 4), (1, 4), (2, 0), (2, 3), (3, 8), (2, 0x101)] {
        assert_eq!(wide(shift, width), bad("reg-io-width"), "{shift}, {width}");
    }
    for shift in [4, 32, 0x102, u32::MAX] {
        assert_eq!(wide(shift, 1), bad("reg-shift"), "{shift}");
    }
}

#[test]
fn a_16550_that_cannot_be_is_refused_by_name() {
    for (reg, shift) in [([0u32, 0x100_0000, 0, 5], 0u32), ([0, 0x100_0000, 0, 20], 2)] {
        let node = kvmtool(|node| {
            set(node, "reg", reg);
            set(node, "reg-shift", shift);
        });
        assert_eq!(read(&node), bad("reg"), "the line status lies behind the end");
    }
    let unaligned = kvmtool(|node| {
        set(node, "reg", [0u32, 0x100_0002, 0, 0x100]);
        set(node, "reg-shift", 2u32);
        set(node, "reg-io-width", 4u32);
    });
    assert_eq!(read(&unaligned), bad("reg"));
    assert_eq!(with("reg", [0u32, 0x100_0000, 0, 8, 0, 0x200_0000, 0, 8]), bad("reg"));
    assert_eq!(with("reg", [0u32, 0x100_0000, 0]), bad("reg"));
    assert_eq!(with("reg-shift", [0u8; 3]), bad("reg-shift"));
    assert_eq!(with("reg-io-width", [0u32; 2]), bad("reg-io-width"));
    assert_eq!(with("clock-frequency", 0u32), bad("clock-frequency"));
    assert_eq!(with("clock-frequency", [0u32, 1]), bad("clock-frequency"));
    assert_eq!(with("reg-offset", 0x10u32), bad("reg-offset"));
    assert_eq!(with("big-endian", [0u8; 0]), bad("big-endian"));
    assert_eq!(with("interrupts", [0u32; 4]), bad("interrupts"));
    let range = |error| Err(MachineError::Range { what: What::Console, error });
    let empty = AddrError::BadRange { base: BASE, len: 0 };
    assert_eq!(with("reg", [0u32, 0x100_0000, 0, 0]), range(empty));
    let alias = ipa_width().alias_bit();
    let top = AddrError::NotProtected(alias + 0x1000);
    assert_eq!(with("reg", [(alias >> 32) as u32, 0, 0, 8]), range(top));
}

#[test]
fn the_granule_of_the_console_belongs_to_nothing_else() {
    // Inside the granule of the distributor, though no register of it.
    let got = with("reg", [0u32, 0x800_fff8, 0, 8]);
    let is_overlap = matches!(got, Err(MachineError::Overlap { other: What::Console, .. }));
    assert!(is_overlap, "{got:?}");
}

#[test]
fn a_console_that_nobody_knows_is_refused() {
    assert_eq!(with("compatible", "ns16450"), Err(MachineError::ConsoleUnknown));
    assert_eq!(with("compatible", ["snps,dw-apb-uart", "ns16550a"].as_slice()), Ok(PLAIN));
}

/// Boots with this tree and returns the properties of the payload's console: name and value.
fn handed_over(host: &[u8]) -> (String, Vec<(String, Vec<u8>)>) {
    let scenario = plain();
    let mut boot = Boot::new(&scenario);
    boot.image = Image { tree: Image::with_tree(host).tree, ..boot.image };
    let ran = boot.run();
    let tree = Tree::check(tree_at(ran.boots().tree)).unwrap();
    let reader = tree.reader().unwrap();
    let Some(path) = reader.find_node("/chosen").unwrap().property("stdout-path") else {
        let serial = reader.find_node("/").unwrap().children().any(|node| node.name.starts_with("serial"));
        assert!(!serial, "a UART that nobody named");
        return (String::new(), Vec::new());
    };
    let path = path.as_str().unwrap().to_owned();
    let node = reader.find_node(&path).unwrap();
    (path, node.properties().map(|p| (p.name.to_owned(), p.value.to_vec())).collect())
}

fn cells(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

#[test]
fn the_payload_gets_the_16550_as_the_host_described_it() {
    let host = kvmtool(|node| {
        set(node, "reg", [0u32, 0x100_0040, 0, 0x40]);
        set(node, "reg-shift", 2u32);
        set(node, "reg-io-width", 4u32);
        set(node, "linux,phandle", 7u32);
        set(node, "current-speed", 9600u32);
    });
    let (path, properties) = handed_over(&host);
    assert_eq!(path, "/serial@1000040");
    let mut names: Vec<&str> = properties.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["clock-frequency", "compatible", "interrupts", "reg", "reg-io-width", "reg-shift"]);
    for (name, value) in [
        ("compatible", b"ns16550a\0".to_vec()),
        ("reg", cells(&[0, 0x100_0040, 0, 0x40])),
        ("clock-frequency", cells(&[0x1c_2000])),
        ("reg-shift", cells(&[2])),
        ("reg-io-width", cells(&[4])),
        ("interrupts", cells(&[0, 0, 4])),
    ] {
        assert_eq!(properties.iter().find(|property| property.0 == name).unwrap().1, value, "{name}");
    }
}

#[test]
fn the_payload_gets_the_pl011_as_before() {
    let (path, properties) = handed_over(&tree(|_| {}));
    assert_eq!(path, "/serial@9000000");
    let value = |name: &str| &properties.iter().find(|property| property.0 == name).unwrap().1;
    assert_eq!(value("compatible"), b"arm,pl011\0arm,primecell\0");
    assert_eq!(value("reg"), &cells(&[0, 0x900_0000, 0, 0x1000]));
}

#[test]
fn a_realm_without_console_boots() {
    let host = tree(|tree| {
        tree.root.remove_child("pl011@9000000").unwrap();
        tree.find_node_mut("/chosen").unwrap().remove_property("stdout-path").unwrap();
    });
    assert_eq!(handed_over(&host), (String::new(), Vec::new()));
}
