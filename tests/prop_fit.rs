//! Properties of the bundle reader: no bytes panic, parts are read back as written, a flip is always caught.
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use gatehouse::boot::bundle::Bundle;
use gatehouse::boot::kernel::KernelHeader;
use proptest::collection::vec;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

fn digest(algo: &str, data: &[u8]) -> Vec<u8> {
    match algo {
        "sha256" => Sha256::digest(data).to_vec(),
        "sha384" => Sha384::digest(data).to_vec(),
        _ => Sha512::digest(data).to_vec(),
    }
}

fn with(mut node: DeviceTreeNode, name: &str, value: impl dtoolkit::ToPropertyValue) -> DeviceTreeNode {
    node.add_property(DeviceTreeProperty::new(name, value).unwrap());
    node
}

/// A bundle of parts with any gap between them.
fn bundle(parts: &[(&'static str, Vec<u8>, &'static str, u16)]) -> Vec<u8> {
    let write = |starts: &[usize]| {
        let new = |name: &str| DeviceTreeNode::new(name).unwrap();
        let (mut images, mut config) = (new("images"), new("c"));
        for ((role, data, algo, _), start) in parts.iter().zip(starts) {
            let hash = with(with(new("hash-1"), "algo", *algo), "value", digest(algo, data));
            let image = with(new(role), "data-position", *start as u32);
            let mut image = with(image, "data-size", data.len() as u32);
            image.add_child(hash);
            images.add_child(image);
            config = with(config, role, *role);
        }
        let mut configs = with(new("configurations"), "default", "c");
        configs.add_child(config);
        let mut tree = DeviceTree::new();
        tree.root.add_child(images);
        tree.root.add_child(configs);
        tree.to_dtb()
    };
    let mut end = write(&vec![0; parts.len()]).len();
    let starts: Vec<usize> = parts
        .iter()
        .map(|(_, data, _, gap)| {
            let start = end + usize::from(*gap);
            end = start + data.len();
            start
        })
        .collect();
    let mut bytes = write(&starts);
    for ((_, data, ..), start) in parts.iter().zip(starts) {
        bytes.resize(start, 0xee);
        bytes.extend(data);
    }
    bytes
}

fn manifest(bytes: &[u8]) -> [u8; 32] {
    let len = bytes.get(4..8).map_or(0, |b| u32::from_be_bytes(b.try_into().unwrap()) as usize);
    Sha256::digest(bytes.get(..len).unwrap_or_default()).into()
}

fn any_parts() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>, &'static str, u16)>> {
    let algo = || prop_oneof![Just("sha256"), Just("sha384"), Just("sha512")];
    let data = || vec(any::<u8>(), 1..200);
    let part = || (data(), algo(), 0u16..100);
    let roles = ["kernel", "ramdisk", "gatehouse,policy"];
    [part(), part(), part()].prop_map(move |parts| {
        roles.into_iter().zip(parts).map(|(role, (data, algo, gap))| (role, data, algo, gap)).collect()
    })
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..400)) {
        let _ = Bundle::parse(&bytes, &manifest(&bytes));
        let _ = KernelHeader::parse(&bytes);
    }

    #[test]
    fn parts_are_read_back_as_written(parts in any_parts()) {
        let bytes = bundle(&parts);
        let bundle = Bundle::parse(&bytes, &manifest(&bytes)).unwrap();
        let got: Vec<Vec<u8>> =
            bundle.parts().map(|p| p.clone().verify().unwrap().bytes().to_vec()).collect();
        let want: Vec<Vec<u8>> = parts.into_iter().map(|p| p.1).collect();
        prop_assert_eq!(got, want);
    }

    #[test]
    fn a_flip_is_caught_or_lies_in_a_gap(parts in any_parts(), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let bytes = bundle(&parts);
        let good = manifest(&bytes);
        let mut bad = bytes.clone();
        let at = at.index(bad.len());
        bad[at] ^= 1 << bit;
        let used = |b: &Bundle<'_>| {
            at < b.structure_len || b.parts().any(|p| {
                let start = p.offset().unwrap();
                (start..start + p.len_bytes()).contains(&at)
            })
        };
        let good_bundle = Bundle::parse(&bytes, &good).unwrap();
        let all = |b: Bundle<'_>| b.parts().all(|p| p.clone().verify().is_ok());
        let caught = Bundle::parse(&bad, &good).map_or(true, |b| !all(b));
        prop_assert_eq!(caught, used(&good_bundle));
    }

    #[test]
    fn no_change_of_the_structure_panics_even_when_the_manifest_fits(
        parts in any_parts(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let mut bytes = bundle(&parts);
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Ok(bundle) = Bundle::parse(&bytes, &manifest(&bytes)) {
            for part in bundle.parts() {
                let _ = part.clone().verify();
            }
        }
    }
}
