//! The bundle's device-tree overlay adds to the final tree and changes nothing; what it may not do has a code of its own.
mod common;

use common::image::{Image, load, pack};
use common::*;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use dtoolkit::{Node, Property};
use gatehouse::codes::StopCode;
use gatehouse::fdt::check::Tree;
use gatehouse::fdt::overlay::{Overlay, OverlayError};
use gatehouse_cli::inspect::{Image as Inspected, InspectError};
use gatehouse_cli::pack::{Pack, PackError};
use proptest::prelude::*;

/// overlay.dtso has the source.
const OVERLAY: &[u8] = include_bytes!("data/overlay.dtbo");

fn with(overlay: &[u8]) -> Pack {
    Pack { overlay: Some(overlay.to_vec()), ..pack() }
}

/// A final tree without overlay.
fn base() -> Vec<u8> {
    tree_at(boot(&plain()).boots().tree)
}

/// An overlay of one fragment: target, path of a node below it, property, value.
fn one(target: &str, below: &str, name: &str, value: &[u8]) -> Vec<u8> {
    let mut tree = DeviceTree::new();
    let mut fragment = DeviceTreeNode::new("fragment@0").unwrap();
    fragment.add_property(DeviceTreeProperty::new("target-path", target).unwrap());
    let mut content = DeviceTreeNode::new("__overlay__").unwrap();
    let mut node = &mut content;
    for part in below.split('/').filter(|part| !part.is_empty()) {
        node.add_child(DeviceTreeNode::new(part).unwrap());
        node = node.child_mut(part).unwrap();
    }
    if !name.is_empty() {
        node.add_property(DeviceTreeProperty::new(name, value).unwrap());
    }
    fragment.add_child(content);
    tree.root.add_child(fragment);
    tree.to_dtb()
}

fn apply(base: &[u8], overlay: &[u8]) -> Result<Vec<u8>, OverlayError> {
    Overlay::parse(overlay)?.apply(base)
}

/// Boots with a bundle that the packer may refuse: its own check is passed by.
fn booted(overlay: &[u8]) -> Ran {
    let scenario = plain();
    let mut boot = Boot::new(&scenario);
    boot.image = Image::packed(&with(overlay));
    boot.run()
}

#[test]
fn a_boot_has_all_of_its_tree_and_what_the_overlay_adds() {
    let ran = booted(OVERLAY);
    let got = tree_at(ran.boots().tree);
    assert_eq!(Tree::check(&got).unwrap().as_bytes(), got);
    let tree = DeviceTree::from_fdt(&Fdt::new(&got).unwrap());
    let cell = |path: &str, name: &str| {
        u32::from_be_bytes(tree.find_node(path).unwrap().property(name).unwrap().value().try_into().unwrap())
    };
    let pool = cell("/reserved-memory/pool", "phandle");
    assert_eq!(cell("/oem-info", "memory-region"), pool);
    assert_eq!(cell("/oem-info/child@1", "parent"), cell("/oem-info", "phandle"));
    assert!(pool > 0x8004 && cell("/oem-info", "phandle") > 0x8004, "above those of the tree");
    assert!(tree.find_node("/chosen").unwrap().property("example,hint").is_some());
    assert!(tree.find_node("/chosen/gatehouse").is_some());
    let log = common::measured::region(ran.result.as_ref().unwrap().tree, "log");
    let log = gatehouse_cli::eventlog::EventLog::read(&log).unwrap();
    let part = log.bundle().unwrap().part("overlay").unwrap();
    assert_eq!(part.len, OVERLAY.len() as u64);
}

#[test]
fn what_the_firmware_states_stays_and_has_its_code() {
    let base = base();
    for (target, below, name) in [
        ("/chosen", "", "bootargs"),
        ("/chosen", "", "linux,usable-memory-range"),
        ("/chosen", "", "stdin-path"),
        ("/chosen", "", "rng-seed"),
        ("/chosen/gatehouse", "", "more"),
        ("/chosen", "gatehouse", "more"),
        ("/chosen", "gatehouse/x", ""),
        ("/", "memory@1", "reg"),
        ("/", "memory", ""),
        ("/", "chosen/gatehouse", "verdict"),
        ("/", "cpus/cpu@1", "reg"),
        ("/cpus", "cpu@1", "reg"),
        ("/cpus/cpu@0", "", "status"),
        ("/", "", "interrupt-parent"),
        ("/", "", "model"),
        ("/", "", "dma-ranges"),
        ("/", "", "gatehouse,x"),
        ("/", "firmware/optee", ""),
        ("/", "__symbols__", "x"),
        ("/timer", "", "clock-frequency"),
        ("/psci", "", "cpu_on"),
        ("/interrupt-controller@8000000", "", "redistributor-stride"),
        ("/pcie@4010000000", "", "iommu-map"),
        ("/pcie@4010000000", "nvme@3,0", "reg"),
        ("/pcie@4010000000/nvme@2,0", "", "x"),
        ("/serial@9000000", "", "status"),
        ("/reserved-memory", "", "x"),
        ("/reserved-memory", "pool@46000000", "reg"),
        ("/reserved-memory", "pool", "compatible"),
        ("/reserved-memory", "x/log@1", "size"),
        ("/", "x", "gatehouse,mode"),
    ] {
        let got = apply(&base, &one(target, below, name, &[0; 4]));
        assert!(matches!(got, Err(OverlayError::Stated(_))), "{target} {below} {name}: {got:?}");
    }
    for (name, value) in
        [("device_type", "memory"), ("device_type", "pci"), ("compatible", "gatehouse,evidence")]
    {
        let got = apply(&base, &one("/", "soc/x@1", name, format!("{value}\0").as_bytes()));
        assert!(matches!(got, Err(OverlayError::Stated(_))), "{name} {value}: {got:?}");
    }
    for (target, below, name) in
        [("/", "x", "reg"), ("/serial@9000000", "", "label"), ("/reserved-memory", "pool", "size")]
    {
        assert!(apply(&base, &one(target, below, name, &[])).is_ok(), "{target} {below} {name}");
    }
    // What the packer cannot know stops the boot.
    booted(&one("/", "cpus/x", "", &[])).stops(StopCode::OverlayStated);
    booted(&one("/serial@1", "", "x", &[])).stops(StopCode::OverlayTarget);
}

#[test]
fn what_the_packer_can_know_is_not_packed() {
    let refused = |overlay: &[u8]| match with(overlay).build() {
        Err(PackError::Check(InspectError::Overlay(error))) => error,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(b"no tree"), OverlayError::Tree(_)));
    assert!(matches!(refused(&DeviceTree::new().to_dtb()), OverlayError::NotFragment(_)));
    assert!(matches!(refused(&vec![0; 64 * 1024 + 1]), OverlayError::TooLarge));
    assert!(matches!(refused(&one("relative", "", "x", &[])), OverlayError::NotFragment(_)));
    assert!(matches!(refused(&one("/cpus", "", "x", &[])), OverlayError::Stated(_)));
    let edit = |change: fn(&mut DeviceTree)| {
        let mut tree = DeviceTree::from_fdt(&Fdt::new(OVERLAY).unwrap());
        change(&mut tree);
        refused(&tree.to_dtb())
    };
    let label = |tree: &mut DeviceTree| {
        let mut fixups = DeviceTreeNode::new("__fixups__").unwrap();
        fixups.add_property(DeviceTreeProperty::new("uart0", "/fragment@0:target:0").unwrap());
        tree.root.add_child(fixups);
    };
    assert_eq!(edit(label), OverlayError::Label);
    let target = |tree: &mut DeviceTree| common::image::set(tree, "/fragment@0", "target", 1u32);
    assert_eq!(edit(target), OverlayError::Label);
    let outside = |tree: &mut DeviceTree| {
        common::image::set(tree, "/__local_fixups__/fragment@0/__overlay__/oem-info", "memory-region", 4u32);
    };
    assert!(matches!(edit(outside), OverlayError::Handles(_)));
    let twice = |tree: &mut DeviceTree| {
        common::image::set(tree, "/fragment@0/__overlay__/oem-info/child@1", "phandle", 1u32);
    };
    assert!(matches!(edit(twice), OverlayError::Handles(_)));
}

#[test]
fn a_flipped_byte_stops_the_boot_before_anything_of_the_overlay_is_used() {
    let packed = with(OVERLAY).build().unwrap();
    let at = packed.overlay.unwrap();
    for offset in [0, at.len / 2, at.len - 1] {
        let mut bad = packed.clone();
        bad.image_bytes[usize::try_from(at.offset + offset).unwrap()] ^= 1;
        assert!(Inspected::read(&bad.image_bytes).unwrap().verify().is_err());
        let scenario = plain();
        let mut boot = Boot::new(&scenario);
        boot.image = Image { bundle: Some(load(&bad)), ..boot.image };
        boot.run().stops(StopCode::PartHash);
    }
}

#[test]
fn a_bundle_without_overlay_is_measured_as_before() {
    let packed = pack().build().unwrap();
    let event = Inspected::read(&packed.image_bytes).unwrap().bundle_event().unwrap();
    assert!(!event.data.windows(7).any(|window| window == b"overlay"));
    let packed = with(OVERLAY).build().unwrap();
    let event = Inspected::read(&packed.image_bytes).unwrap().bundle_event().unwrap();
    assert!(event.data.windows(7).any(|window| window == b"overlay"));
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = Overlay::parse(&bytes);
    }

    #[test]
    fn no_mutant_panics_and_each_that_is_taken_leaves_the_tree_in_place(
        at in any::<prop::sample::Index>(), to in any::<u8>(), word in any::<bool>()
    ) {
        static BASE: std::sync::LazyLock<Vec<u8>> = std::sync::LazyLock::new(base);
        let mut bytes = OVERLAY.to_vec();
        let at = at.index(bytes.len());
        bytes[at] = to;
        if word {
            bytes[at & !3..(at & !3) + 3].fill(0);
        }
        if let Ok(blob) = apply(&BASE, &bytes) {
            let checked = Tree::check(&blob).unwrap();
            prop_assert_eq!(checked.as_bytes(), &blob);
            let text = |blob: &[u8]| Fdt::new(blob).unwrap().to_string();
            let result = text(&blob);
            prop_assert!(text(&BASE).lines().all(|line| result.contains(line)));
        }
    }
}
