//! The bundle: a FIT is read as it was written, by hand here; every flipped bit is caught, each bad form by name.
use dtoolkit::ToPropertyValue;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use gatehouse::abi::fit::OsKind;
use gatehouse::boot::bundle::{Bundle, BundleError, FitNode, PartError, Role};
use gatehouse::digest::Digest;
use gatehouse::fdt::check::FdtError;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

/// A FIT with its data behind it.
struct Fit {
    tree: DeviceTree,
    data: Vec<(&'static str, Vec<u8>)>,
}

fn set(node: &mut DeviceTreeNode, name: &str, value: impl ToPropertyValue) {
    node.add_property(DeviceTreeProperty::new(name, value).unwrap());
}

fn child<'a>(parent: &'a mut DeviceTreeNode, name: &str) -> &'a mut DeviceTreeNode {
    if parent.child_mut(name).is_none() {
        parent.add_child(DeviceTreeNode::new(name).unwrap());
    }
    parent.child_mut(name).unwrap()
}

impl Fit {
    fn new() -> Self {
        let mut fit = Self { tree: DeviceTree::new(), data: Vec::new() };
        set(child(&mut fit.tree.root, "configurations"), "default", "conf-1");
        child(&mut fit.tree.root, "images");
        fit.part("kernel", "kernel-1", vec![0x55; 5000])
            .part("ramdisk", "ramdisk-1", b"ramdisk".to_vec())
            .part("gatehouse,cmdline", "cmdline-1", b"quiet\0".to_vec())
    }

    fn config(&mut self) -> &mut DeviceTreeNode {
        child(child(&mut self.tree.root, "configurations"), "conf-1")
    }

    fn image(&mut self, name: &str) -> &mut DeviceTreeNode {
        child(child(&mut self.tree.root, "images"), name)
    }

    fn part(mut self, role: &str, name: &'static str, data: Vec<u8>) -> Self {
        set(self.config(), role, name);
        let image = self.image(name);
        set(image, "compression", "none");
        set(image, "data-size", data.len() as u32);
        set(image, "data-position", 0u32);
        let digest: [u8; 32] = Sha256::digest(&data).into();
        let hash = child(image, "hash-1");
        set(hash, "algo", "sha256");
        set(hash, "value", digest);
        self.data.push((name, data));
        self
    }

    /// Lays the data out behind the structure, with room for it to grow, in the order they were given.
    fn bytes(&mut self) -> Vec<u8> {
        let mut at = (self.tree.to_dtb().len() + 1024).next_multiple_of(16);
        let mut places = Vec::new();
        for (name, data) in &self.data {
            places.push((*name, at));
            at = (at + data.len()).next_multiple_of(16);
        }
        for (name, at) in &places {
            set(self.image(name), "data-position", *at as u32);
        }
        self.with_data(&places)
    }

    fn with_data(&self, places: &[(&str, usize)]) -> Vec<u8> {
        let mut bytes = self.tree.to_dtb();
        for ((_, data), (_, at)) in self.data.iter().zip(places) {
            bytes.resize(*at, 0);
            bytes.extend(data);
        }
        bytes
    }
}

fn manifest(bytes: &[u8]) -> [u8; 32] {
    let len = u32::from_be_bytes(bytes[4..8].try_into().unwrap()) as usize;
    Sha256::digest(&bytes[..len]).into()
}

fn parse(bytes: &[u8]) -> Result<Bundle<'_>, BundleError> {
    Bundle::parse(bytes, &manifest(bytes))
}

/// The error for the FIT after a change; data stay where they were.
fn after(change: impl FnOnce(&mut Fit)) -> BundleError {
    let mut fit = Fit::new();
    fit.bytes();
    change(&mut fit);
    let mut bytes = fit.tree.to_dtb();
    bytes.resize(16384, 0);
    parse(&bytes).unwrap_err()
}

fn part(role: Role, error: PartError) -> BundleError {
    BundleError::Part { role, error }
}

#[test]
fn a_bundle_is_read_as_it_was_written() {
    let mut fit = Fit::new();
    set(fit.config(), "gatehouse,os", "half");
    let mut fit = fit.part("gatehouse,policy", "policy-1", b"any bytes".to_vec());
    let bytes = fit.bytes();
    let bundle = parse(&bytes).unwrap();
    assert_eq!(bundle.configuration, "conf-1");
    assert_eq!(bundle.os, OsKind::Half);
    assert_eq!(
        bundle.parts().map(|p| p.role()).collect::<Vec<_>>(),
        [Role::Kernel, Role::Ramdisk, Role::Cmdline, Role::Policy]
    );
    let offset = bundle.kernel.offset().unwrap();
    let kernel = bundle.kernel.verify().unwrap();
    assert_eq!(kernel.bytes(), [0x55; 5000]);
    assert_eq!(kernel.bytes().as_ptr(), bytes[offset..].as_ptr(), "in place, not a copy");
    assert_eq!(bundle.cmdline.unwrap().verify().unwrap().command_line(), b"quiet");
}

#[test]
fn only_the_kernel_must_be_there() {
    let mut fit = Fit::new();
    for role in ["ramdisk", "gatehouse,cmdline"] {
        fit.config().remove_property(role);
    }
    let bytes = fit.bytes();
    let bundle = parse(&bytes).unwrap();
    assert_eq!(bundle.parts().count(), 1);
    assert_eq!(bundle.os, OsKind::Unaware);
    assert_eq!(after(|f| drop(f.config().remove_property("kernel"))), BundleError::NoKernel);
}

#[test]
fn data_may_be_inline() {
    let mut fit = Fit::new();
    let image = fit.image("cmdline-1");
    image.remove_property("data-position");
    image.remove_property("data-size");
    set(image, "data", b"quiet\0".as_slice());
    fit.data.remove(2);
    let bytes = fit.bytes();
    let bundle = parse(&bytes).unwrap();
    let cmdline = bundle.cmdline.unwrap();
    assert_eq!(cmdline.offset(), None);
    assert_eq!(cmdline.verify().unwrap().command_line(), b"quiet");
}

#[test]
fn data_offset_counts_from_the_end_of_the_structure_rounded_up_to_four() {
    let mut fit = Fit::new();
    for role in ["ramdisk", "gatehouse,cmdline"] {
        fit.config().remove_property(role);
    }
    fit.data.truncate(1);
    let image = fit.image("kernel-1");
    image.remove_property("data-position");
    set(image, "data-offset", 8u32);
    let base = fit.tree.to_dtb().len().next_multiple_of(4);
    let bytes = fit.with_data(&[("kernel-1", base + 8)]);
    let kernel = parse(&bytes).unwrap().kernel;
    assert_eq!(kernel.offset(), Some(base + 8));
    assert!(kernel.verify().is_ok());
}

#[test]
fn sha384_and_sha512_count_as_well() {
    let kernel = vec![0x55; 5000];
    let d384: [u8; 48] = Sha384::digest(&kernel).into();
    let d512: [u8; 64] = Sha512::digest(&kernel).into();
    for (algo, digest) in [("sha384", d384.as_slice()), ("sha512", d512.as_slice())] {
        let mut fit = Fit::new();
        let hash = child(fit.image("kernel-1"), "hash-1");
        set(hash, "algo", algo);
        set(hash, "value", digest);
        let mut bytes = fit.bytes();
        let part = parse(&bytes).unwrap().kernel;
        assert_eq!(part.digest(), &Digest::from_bytes(digest).unwrap());
        assert_eq!(part.digest().algorithm(), algo);
        let at = part.offset().unwrap();
        assert!(part.verify().is_ok());
        bytes[at] ^= 1;
        let got = parse(&bytes).unwrap().kernel.verify();
        assert_eq!(got, Err(self::part(Role::Kernel, PartError::DigestMismatch)));
    }
}

#[test]
fn unknown_hashes_are_skipped_when_a_known_one_follows() {
    let mut fit = Fit::new();
    let image = fit.image("kernel-1");
    let good = image.remove_child("hash-1").unwrap();
    let crc = child(image, "hash-0");
    set(crc, "algo", "crc32");
    set(crc, "value", 0u32);
    image.add_child(good);
    assert!(parse(&fit.bytes()).unwrap().kernel.verify().is_ok());
}

#[test]
fn every_flipped_byte_of_the_structure_is_caught_by_the_manifest() {
    let bytes = Fit::new().bytes();
    let good = manifest(&bytes);
    let len = parse(&bytes).unwrap().structure_len;
    for i in 0..len {
        for mask in [1, 0x80, 0xff] {
            let mut bad = bytes.clone();
            bad[i] ^= mask;
            let got = Bundle::parse(&bad, &good);
            let caught = match &got {
                Err(BundleError::ManifestMismatch) => true,
                // Magic and totalsize are looked at before the hash: they say how much to hash.
                Err(BundleError::Structure(_)) => i < 8,
                _ => false,
            };
            assert!(caught, "byte {i:#x}: {got:?}");
        }
    }
}

#[test]
fn every_flipped_byte_of_the_data_is_caught_by_its_digest() {
    let bytes = Fit::new().bytes();
    let bundle = parse(&bytes).unwrap();
    for part in bundle.parts() {
        let at = part.offset().unwrap();
        for i in at..at + part.len_bytes() {
            let mut bad = bytes.clone();
            bad[i] ^= 1;
            let again = parse(&bad).unwrap();
            for other in again.parts() {
                let want = if other.role() == part.role() { Err(()) } else { Ok(()) };
                assert_eq!(other.clone().verify().map(drop).map_err(drop), want);
            }
        }
    }
}

#[test]
fn a_wrong_manifest_is_refused() {
    let bytes = Fit::new().bytes();
    assert_eq!(Bundle::parse(&bytes, &[0; 32]), Err(BundleError::ManifestMismatch));
}

#[test]
fn a_short_bundle_is_refused_by_name() {
    let bytes = Fit::new().bytes();
    let short = |len: usize| Bundle::parse(&bytes[..len], &manifest(&bytes)).unwrap_err();
    let cut = |have, need| BundleError::Structure(FdtError::Truncated { have, need });
    assert_eq!(short(0), cut(0, 40));
    assert_eq!(short(39), cut(39, 40));
    let need = parse(&bytes).unwrap().structure_len;
    assert_eq!(short(need - 1), cut(need - 1, need));
    let have = bytes.len() - 1;
    let got = short(have);
    assert_eq!(got, part(Role::Cmdline, PartError::Outside { end: have + 1, bundle_len: have }));
}

#[test]
fn each_bad_configuration_is_refused_by_name() {
    let root = |f: &mut Fit, n: &str| drop(f.tree.root.remove_child(n));
    assert_eq!(after(|f| root(f, "images")), BundleError::MissingNode(FitNode::Images));
    assert_eq!(after(|f| root(f, "configurations")), BundleError::MissingNode(FitNode::Configurations));
    let configs = |f: &mut Fit, name: &str| {
        set(child(&mut f.tree.root, "configurations"), "default", name);
    };
    assert_eq!(after(|f| configs(f, "conf-2")), BundleError::MissingNode(FitNode::Default));
    assert_eq!(after(|f| configs(f, "conf")), BundleError::MissingNode(FitNode::Default));
    let none = |f: &mut Fit| drop(child(&mut f.tree.root, "configurations").remove_property("default"));
    assert_eq!(after(none), BundleError::NoDefault);

    let with = |name: &'static str, value: &'static str| after(move |f| set(f.config(), name, value));
    assert_eq!(with("kernel", "kernel-2"), BundleError::MissingNode(FitNode::Image(Role::Kernel)));
    assert_eq!(with("ramdisk", ""), BundleError::NotOneString("ramdisk"));
    let two = after(|f| set(f.config(), "kernel", ["kernel-1", "ramdisk-1"].as_slice()));
    assert_eq!(two, BundleError::NotOneString("kernel"));
    assert_eq!(with("fdt", "fdt-1"), BundleError::MissingNode(FitNode::Image(Role::Overlay)));
    assert_eq!(with("fdt", "fdt-1\0fdt-2"), BundleError::NotOneString("fdt"));
    assert_eq!(with("gatehouse,os", "windows"), BundleError::BadOs);
    assert_eq!(with("gatehouse,new", "x"), BundleError::UnknownProperty("gatehouse,new".into()));
}

#[test]
fn a_list_of_slots_of_an_earlier_release_is_refused_and_not_ignored() {
    for list in ["gatehouse,require", "gatehouse,optional", "gatehouse,shared", "gatehouse,quiet-device"] {
        let error = after(|f| set(f.config(), list, "02.0"));
        assert_eq!(error, BundleError::UnknownProperty(list.into()));
    }
}

#[test]
fn each_bad_image_is_refused_by_name() {
    let kernel = |change: fn(&mut DeviceTreeNode)| match after(|f| change(f.image("kernel-1"))) {
        BundleError::Part { role: Role::Kernel, error } => error,
        other => panic!("{other:?}"),
    };
    assert_eq!(kernel(|k| set(k, "compression", "gzip")), PartError::Compression);
    let ramdisk = after(|f| set(f.image("ramdisk-1"), "compression", "gzip"));
    assert_eq!(ramdisk, part(Role::Ramdisk, PartError::Compression));
    assert_eq!(kernel(|k| set(k, "data-offset", 0u32)), PartError::Location);
    assert_eq!(kernel(|k| set(k, "data", 0u32)), PartError::Location);
    assert_eq!(kernel(|k| set(k, "data-position", 0u64)), PartError::Location);
    assert_eq!(kernel(|k| drop(k.remove_property("data-position"))), PartError::Location);
    assert_eq!(kernel(|k| drop(k.remove_property("data-size"))), PartError::Location);
    assert_eq!(kernel(|k| set(k, "data-size", 0u32)), PartError::Empty);
    assert_eq!(kernel(|k| set(k, "data-position", 64u32)), PartError::InStructure { start: 64 });
    let far = u32::MAX as usize + 5000;
    let outside = PartError::Outside { end: far, bundle_len: 16384 };
    assert_eq!(kernel(|k| set(k, "data-position", u32::MAX)), outside);
    assert_eq!(kernel(|k| drop(k.remove_child("hash-1"))), PartError::HashMissing);
    assert_eq!(kernel(|k| set(child(k, "hash-1"), "algo", "md5")), PartError::HashUnknown);
    assert_eq!(kernel(|k| set(child(k, "hash-1"), "algo", "sha384")), PartError::HashLength(32));
    assert_eq!(kernel(|k| drop(child(k, "hash-1").remove_property("value"))), PartError::HashLength(0));
}

#[test]
fn parts_that_share_bytes_are_refused() {
    let same = after(|f| set(f.config(), "ramdisk", "kernel-1"));
    assert_eq!(same, BundleError::PartsOverlap(Role::Kernel, Role::Ramdisk));
    let over = after(|f| {
        let end = {
            let bytes = f.bytes();
            let kernel = parse(&bytes).unwrap().kernel;
            kernel.offset().unwrap() + kernel.len_bytes()
        };
        set(f.image("cmdline-1"), "data-position", end as u32 - 1);
    });
    assert_eq!(over, BundleError::PartsOverlap(Role::Kernel, Role::Cmdline));
}
