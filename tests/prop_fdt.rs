//! Properties of the device-tree modules: no bytes panic, what is written is read back, and ranges never overlap.
#[path = "common/whole_tree.rs"]
mod whole_tree;

use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use gatehouse::addr::Bdf;
use gatehouse::fdt::check::Tree;
use gatehouse::fdt::function::{AcceptedNode, BarNode, FunctionNode, Mode};
use gatehouse::fdt::read::Machine;
use gatehouse::fdt::write::{Handoff, PayloadTree};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

const VIRT: &[u8] = include_bytes!("data/virt.dtb");

fn node(name: String, properties: Vec<(String, Vec<u8>)>, children: Vec<DeviceTreeNode>) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new(name).unwrap();
    for (name, value) in properties {
        node.add_property(DeviceTreeProperty::new(name, value).unwrap());
    }
    children.into_iter().for_each(|c| node.add_child(c));
    node
}

/// Trees of any shape within the gate's bounds.
fn any_tree() -> impl Strategy<Value = DeviceTree> {
    let properties = || btree_map("[a-z?#,._+-]{1,31}", vec(any::<u8>(), 0..20), 0..6);
    let leaf = properties().prop_map(|p| node(String::new(), p.into_iter().collect(), vec![]));
    let tree = leaf.prop_recursive(8, 60, 6, move |inner| {
        let named = btree_map("[a-z][a-z0-9,._+-]{0,10}(@[0-9a-f,]{1,8})?", inner, 0..6);
        (properties(), named).prop_map(|(p, children)| {
            let rename = |(name, child): (String, DeviceTreeNode)| {
                let mut named = DeviceTreeNode::new(name).unwrap();
                use dtoolkit::Node;
                child.properties().for_each(|p| named.add_property(p.clone()));
                child.children().for_each(|c| named.add_child(c.clone()));
                named
            };
            node(String::new(), p.into_iter().collect(), children.into_iter().map(rename).collect())
        })
    });
    tree.prop_map(|root| {
        let mut tree = DeviceTree::new();
        tree.root = root;
        tree
    })
}

/// Tokens in any order, with plausible operands.
fn any_structure() -> impl Strategy<Value = Vec<u8>> {
    let word = prop_oneof![
        6 => Just(vec![0, 0, 0, 1, 0, 0, 0, 0]),
        4 => Just(vec![0, 0, 0, 1, b'a', b'@', b'1', 0]),
        6 => Just(vec![0, 0, 0, 2]),
        6 => (0u8..12, 0u8..8).prop_map(|(len, at)| {
            let mut prop = vec![0, 0, 0, 3, 0, 0, 0, len, 0, 0, 0, at];
            prop.resize(12 + usize::from(len).next_multiple_of(4), at);
            prop
        }),
        1 => Just(vec![0, 0, 0, 4]),
        2 => Just(vec![0, 0, 0, 9]),
        1 => vec(any::<u8>(), 4),
    ];
    vec(word, 0..24).prop_map(|words| words.concat())
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..300)) {
        whole_tree::use_all(&bytes);
    }

    #[test]
    fn no_header_panics(fields in vec(prop_oneof![0u32..400, any::<u32>()], 9), rest in vec(any::<u8>(), 0..300)) {
        let mut bytes = 0xd00d_feedu32.to_be_bytes().to_vec();
        bytes.extend(fields.iter().flat_map(|f| f.to_be_bytes()));
        bytes.extend(rest);
        whole_tree::use_all(&bytes);
    }

    #[test]
    fn no_structure_panics(structure in any_structure()) {
        let strings = b"reg\0a\0b\0";
        let total = 56 + structure.len() + strings.len();
        let fields = [total, 56, 56 + structure.len(), 40, 17, 16, 0, strings.len(), structure.len()];
        let mut bytes = 0xd00d_feedu32.to_be_bytes().to_vec();
        bytes.extend(fields.iter().flat_map(|f| u32::try_from(*f).unwrap().to_be_bytes()));
        bytes.extend([0; 16]);
        bytes.extend(&structure);
        bytes.extend(strings);
        whole_tree::use_all(&bytes);
    }

    #[test]
    fn no_mutant_panics(changes in vec((0..VIRT.len(), any::<u8>()), 1..8)) {
        let mut bytes = VIRT.to_vec();
        for (at, value) in changes {
            bytes[at] = value;
        }
        whole_tree::use_all(&bytes);
    }

    #[test]
    fn a_written_tree_passes_unchanged(tree in any_tree()) {
        let blob = tree.to_dtb();
        // Names are any, so `reg` and the like may have values that the gate refuses: only those.
        match Tree::check(&blob) {
            Ok(checked) => {
                prop_assert_eq!(checked.as_bytes(), blob);
                prop_assert_eq!(DeviceTree::from_fdt(&Fdt::new(checked.as_bytes()).unwrap()), tree);
            }
            Err(error) => prop_assert!(matches!(
                error,
                gatehouse::fdt::check::FdtError::BadCells(_) | gatehouse::fdt::check::FdtError::NotWholeCells(_)
            ), "{error}"),
        }
    }

    #[test]
    fn any_command_line_and_functions_are_read_back(
        bootargs in vec(1u8.., 0..200),
        slots in proptest::collection::btree_set((0u8..32, 0u8..8), 0..20),
        size in 12u32..20,
    ) {
        let tree = Tree::check(VIRT).unwrap();
        let machine = Machine::read(&tree, whole_tree::width()).unwrap();
        let functions: Vec<FunctionNode<'_>> = slots.iter().enumerate().map(|(i, (device, function))| {
            let bdf = Bdf::new(0, *device, *function).unwrap();
            let base = 0x80_0000_0000 + ((i as u64) << size);
            FunctionNode {
                bdf, above: None, vendor_id: 1, device_id: 2, subsystem_vendor_id: 3, subsystem_id: 4, revision_id: 5,
                class_code: 0x01_0802,
                bars: vec![BarNode {
                    index: 0, address: base, size: 1 << size, wide: true, prefetchable: false,
                }],
                rule: "r",
                mode: Mode::Run(AcceptedNode {
                    vdev_id: bdf.into(), msix_pages: &[], nonces: [0; 3], digest_algorithm: "sha256",
                    vca_digest: &[], certificate_digest: &[], measurement_digest: &[], report_digest: &[],
                }),
            }
        }).collect();
        let blob = PayloadTree {
            regions: &[],
            host: &tree, machine: &machine, num_cpus: 2, ram: &machine.ram, bootargs: &bootargs, ramdisk: None,
            rng_seed: None, kaslr_seed: None, bridges: &[], functions: &functions, emulated: &[],
            handoff: Handoff { verdict: "v", accepted: slots.len() as u32, pinned: 0, shared: 0, policy: None }, os_half: true,
        }.build().unwrap();
        let again = Tree::check(&blob).unwrap();
        let reader = again.reader().unwrap();
        let chosen = reader.find_node("/chosen").unwrap();
        prop_assert_eq!(chosen.property("bootargs").unwrap().value.strip_suffix(&[0]), Some(bootargs.as_slice()));
        let names: Vec<&str> = reader.find_node("/pcie@4010000000").unwrap().children().map(|n| n.name).collect();
        let want: Vec<String> = slots.iter().map(|(d, f)| format!("nvme@{d:x},{f:x}")).collect();
        prop_assert_eq!(names, want);
    }

    #[test]
    fn ranges_of_a_machine_never_overlap(base in 0u32..0x800, len in 1u32..0x800) {
        let mut tree = DeviceTree::from_fdt(&Fdt::new(VIRT).unwrap());
        let memory = tree.find_node_mut("/memory@40000000").unwrap();
        memory.add_property(DeviceTreeProperty::new("reg", [0, base << 20, 0, len << 20]).unwrap());
        let tree = Tree::check(tree.to_dtb()).unwrap();
        if let Ok(machine) = Machine::read(&tree, whole_tree::width()) {
            for ram in &machine.ram {
                prop_assert!(!machine.pci.windows.iter().any(|w| w.range.overlaps(ram)));
                prop_assert!(!ram.overlaps(&machine.pci.ecam));
                prop_assert!(!machine.gic.regs.iter().any(|r| r.overlaps(ram)));
            }
        }
    }
}
