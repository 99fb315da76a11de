//! A bundle in the initrd range of the host's tree: taken when it is the pinned one, and where the host cannot write.
mod common;

use common::beside::{self, own, put, tree_naming, tree_with};
use common::image::{CMDLINE, RAMDISK_LEN, pack_for};
use common::*;
use dtoolkit::fdt::Fdt;
use gatehouse::codes::StopCode;
use gatehouse_cli::attach::check_bundle;
use rmm_model::Scenario;

fn bundle(scenario: &Scenario) -> (Vec<u8>, [u8; 32]) {
    let bytes = pack_for(scenario).bundle().unwrap();
    let manifest = check_bundle(&bytes).unwrap();
    (bytes, manifest)
}

fn number(tree: &[u8], name: &str) -> u64 {
    let chosen = Fdt::new(tree).unwrap().find_node("/chosen").unwrap();
    let value = dtoolkit::Node::property(&chosen, name)
        .map(|property| u64::from_be_bytes(dtoolkit::Property::value(&property).try_into().unwrap()));
    value.unwrap()
}

/// Boots with the bundle `skip` bytes behind a page's start; the tree names so many bytes more than it has.
fn boots_from(skip: usize, more: u64) {
    let scenario = plain();
    let (bytes, manifest) = bundle(&scenario);
    let len = bytes.len() as u64;
    let start = put(&bytes, skip);
    let ran = beside::boot(&scenario, tree_naming(start, start + len + more), (len, manifest)).run();
    let payload = ran.boots();
    let tree = tree_at(payload.tree);
    let (first, end) = (number(&tree, "linux,initrd-start"), number(&tree, "linux,initrd-end"));
    assert_eq!(end - first, RAMDISK_LEN as u64);
    assert!(start < first && end <= start + len, "the ramdisk is used where it lies in the bundle");
    assert!(
        payload.reads.iter().any(|read| read.base() <= first && end <= read.top()),
        "its cache lines are cleaned"
    );
    assert!(own().base() <= payload.entry, "the kernel is in the image's room");
    let at = usize::try_from(first - start).unwrap();
    assert_eq!(&bytes[at..at + 4], [0x52; 4]);
    let text = String::from_utf8_lossy(&tree).into_owned();
    assert!(text.contains(CMDLINE));
}

#[test]
fn a_pinned_bundle_boots_from_the_initrd_range_with_its_ramdisk_in_place() {
    boots_from(0, 0);
}

#[test]
fn a_vmm_may_round_the_end_up_to_a_page_and_need_not_align_the_start() {
    let (bytes, _) = bundle(&plain());
    let rest = |skip: usize| ((skip + bytes.len()).next_multiple_of(4096) - skip - bytes.len()) as u64;
    boots_from(0, rest(0));
    boots_from(0x7fc, 0);
    boots_from(0x7fc, rest(0x7fc));
}

/// Boots under a tree that is made for the place of the bundle, and demands this stop.
#[track_caller]
fn stops(code: StopCode, tree: impl FnOnce(u64, u64) -> u64) -> Ran {
    let scenario = plain();
    let (bytes, manifest) = bundle(&scenario);
    let len = bytes.len() as u64;
    let start = put(&bytes, 0);
    let ran = beside::boot(&scenario, tree(start, len), (len, manifest)).run();
    ran.stops_with(code, &[]);
    assert!(ran.device().validated.is_empty() && ran.mapped.is_empty());
    ran
}

#[test]
fn a_tree_that_names_no_range_stops_the_boot() {
    let code = StopCode::BundleNoRange;
    stops(code, |_, _| tree_with(|_| {}));
    stops(code, |start, _| tree_naming(start, start));
    stops(code, |start, len| tree_naming(start + len, start));
    stops(code, |_, _| tree_with(|tree| image::set(tree, "/chosen", "linux,initrd-start", [1u32, 2, 3])));
    stops(code, |start, _| {
        tree_with(|tree| image::set(tree, "/chosen", "linux,initrd-start", start.to_be_bytes().as_slice()))
    });
}

#[test]
fn a_range_of_another_length_stops_the_boot() {
    let code = StopCode::BundleRangeLen;
    stops(code, |start, len| tree_naming(start, start + len - 1));
    stops(code, |start, len| tree_naming(start, start + len.next_multiple_of(4096) + 1));
    stops(code, |start, _| tree_naming(start, start + 1));
    stops(code, |start, _| tree_naming(start, u64::MAX));
    stops(code, |_, _| tree_naming(0, u64::MAX));
}

#[test]
fn a_range_outside_private_ram_or_in_the_image_stops_the_boot() {
    let code = StopCode::BundleRange;
    let alias = gatehouse::arch::host::ipa_width().alias_bit();
    let at = |start: u64| move |_: u64, len: u64| tree_naming(start, start + len);
    for start in [0, 0x4000_0000, RAM_BASE - 0x1000, alias - 0x1000, alias, alias + RAM_BASE] {
        stops(code, at(start));
    }
    // The same pages, seen through the half that the host writes.
    stops(code, |start, len| tree_naming(start + alias, start + alias + len));
    for start in [own().base() - 1, own().base(), own().base() + 0x123_4567, own().top() - 0x10_0000] {
        stops(code, at(start));
    }
}

#[test]
fn other_bytes_in_the_range_stop_the_boot() {
    let scenario = plain();
    let (bytes, manifest) = bundle(&scenario);
    let len = bytes.len() as u64;
    let boots = |bytes: &[u8]| {
        let start = put(bytes, 0);
        beside::boot(&scenario, tree_naming(start, start + len), (len, manifest)).run()
    };
    let structure = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
    for at in [8, 0x40, structure / 2, structure - 1] {
        let mut bad = bytes.clone();
        bad[at] ^= 1;
        boots(&bad).stops(StopCode::BundleManifest);
    }
    boots(&vec![0; bytes.len()]).stops(StopCode::BundleStructure);
    boots(&bytes).boots();
}

#[test]
fn without_the_flag_the_hosts_ramdisk_is_neither_read_nor_shown_to_the_payload() {
    let scenario = plain();
    let range = put(&[0x41; 0x3000], 0);
    let shown = |tree: u64| {
        let mut boot = Boot::new(&scenario);
        boot.image.tree = tree;
        let ran = boot.run();
        let tree = tree_at(ran.boots().tree);
        number(&tree, "linux,initrd-start")
    };
    for (start, end) in [(range, range + 0x3000), (0, u64::MAX), (5, 3), (RAM_BASE - 8, RAM_BASE + 8)] {
        assert_ne!(shown(tree_naming(start, end)), start);
    }
}
