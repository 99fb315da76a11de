//! The tables of docs/handoff.md, as a list of all that a payload's tree may have.
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::{Node, Property};
use std::collections::BTreeSet;

const DOCUMENT: &str = include_str!("../../docs/handoff.md");
/// Node of the host bridge; the tables have what is below it by kind.
const HOST_BRIDGE: &str = "/pcie@ADDR";
const BRIDGE: &str = "pci@D,F";
const FUNCTION: &str = "CLASS@D,F";

/// A property of a node; the mode is that of a function, empty elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Allowed {
    pub node: String,
    pub mode: String,
    pub property: String,
}

fn words(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

/// Reads the tables of the section on the tree.
pub fn allowed() -> BTreeSet<Allowed> {
    let section = DOCUMENT.split("\n## ").find(|section| section.starts_with("The tree\n")).unwrap();
    let mut all = BTreeSet::new();
    let mut head = "";
    for line in section.lines().filter(|line| line.starts_with('|')) {
        let cells: Vec<&str> = line.split('|').skip(1).map(str::trim).collect();
        if !cells[0].starts_with('`') {
            head = if line.starts_with("|---") { head } else { line };
            continue;
        }
        let modes = ["run", "pin", "shared"].map(str::to_owned).to_vec();
        let (node, properties, modes) = match head {
            "| node | property | content |" => {
                (words(cells[0])[0].clone(), words(cells[1]), vec![String::new()])
            }
            "| property | mode | content |" if cells[1] == "all" => (FUNCTION.into(), words(cells[0]), modes),
            "| property | mode | content |" => (FUNCTION.into(), words(cells[0]), words(cells[1])),
            other => panic!("a table of another kind: {other}"),
        };
        for property in properties {
            for mode in &modes {
                let (node, mode, property) = (node.clone(), mode.clone(), property.clone());
                assert!(all.insert(Allowed { node, mode, property }), "twice: {line}");
            }
        }
    }
    all
}

/// Whether a name is that of a pattern: capitals stand for hexadecimal numbers.
fn fits(name: &str, pattern: &str) -> bool {
    let hex = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    };
    if let Some((base, "ADDR" | "MPIDR")) = pattern.split_once('@') {
        return name.split_once('@').is_some_and(|(name, unit)| name == base && hex(unit));
    }
    match pattern.strip_suffix("-N") {
        Some(base) => name.strip_prefix(base).and_then(|rest| rest.strip_prefix('-')).is_some_and(hex),
        None => name == pattern,
    }
}

/// What a tree has: each node that the document knows with its properties. Panics at the first node that it does not know.
pub fn found(blob: &[u8]) -> BTreeSet<Allowed> {
    let patterns: BTreeSet<String> = allowed().into_iter().map(|allowed| allowed.node).collect();
    let mut found = BTreeSet::new();
    visit(&Fdt::new(blob).unwrap().root(), "", &patterns, &mut found);
    found
}

fn visit(node: &FdtNode<'_>, at: &str, patterns: &BTreeSet<String>, found: &mut BTreeSet<Allowed>) {
    let mode = node
        .property("gatehouse,mode")
        .map(|mode| String::from_utf8(mode.value().strip_suffix(&[0]).unwrap().to_vec()).unwrap());
    let below_bridge = at == HOST_BRIDGE || at == BRIDGE;
    let kind = match &mode {
        _ if at.is_empty() => "/".to_owned(),
        Some(_) if below_bridge => FUNCTION.into(),
        None if below_bridge => BRIDGE.into(),
        _ => {
            let parent = if at == "/" { "" } else { at };
            let known = patterns.iter().find(|pattern| {
                pattern
                    .rsplit_once('/')
                    .is_some_and(|(above, last)| above == parent && fits(node.name(), last))
            });
            known
                .unwrap_or_else(|| panic!("a node below {at} that is not documented: {}", node.name()))
                .clone()
        }
    };
    if below_bridge {
        let (class, unit) = node.name().split_once('@').unwrap();
        assert!(kind == FUNCTION || class == "pci", "{}", node.name());
        assert!(unit.split(',').all(|part| u8::from_str_radix(part, 16).is_ok()), "{}", node.name());
    }
    let mode = mode.filter(|_| kind == FUNCTION).unwrap_or_default();
    for property in node.properties() {
        found.insert(Allowed {
            node: kind.clone(),
            mode: mode.clone(),
            property: property.name().to_owned(),
        });
    }
    node.children().for_each(|child| visit(&child, &kind, patterns, found));
}

/// Demands that every node and property of a tree is documented.
#[track_caller]
pub fn is_documented(blob: &[u8]) {
    let more: Vec<Allowed> = found(blob).difference(&allowed()).cloned().collect();
    assert_eq!(more, [], "not in docs/handoff.md");
    assert_eq!(blob[28..32], [0; 4], "the boot processor of the header");
    assert_eq!(Fdt::new(blob).unwrap().memory_reservations().count(), 0);
}
