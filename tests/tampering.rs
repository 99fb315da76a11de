//! Nothing authorises itself: whatever is changed in slot, structure, parts or policy, the payload does not run, or it is
//! another image, which its RIM tells.
//!
//! The bytes of slot and tree ranges are in tests/bundle_source.rs, those of a bundle in tests/bundle.rs, hostile ranges in
//! tests/bundle_beside.rs. Here it is whole boots: the VMM changes what it loads, and the firmware says what is wrong.
mod common;

use common::beside::{self, put, tree_naming};
use common::image::{Image, load, pack, pack_for};
use common::*;
use gatehouse::abi::image::{FLAG_EXTERNAL, SLOT_OFFSET, Slot};
use gatehouse::boot::source::Source;
use gatehouse::codes::StopCode;
use gatehouse::policy::cbor;
use gatehouse_cli::attach::{Attach, check_bundle};
use gatehouse_cli::pack::{Pack, Packed};
use gatehouse_cli::rim::board::Board;
use gatehouse_cli::rim::layout::{self, Files};
use gatehouse_cli::rim::options::Options;
use rmm_model::scenario::Rule;
use sha2::{Digest, Sha256};
use zerocopy::FromBytes;

/// Boots the image as the machine's code hands it over: the slot is read first, and a bad one is the end.
fn boot_file(file: &[u8]) -> Result<Ran, StopCode> {
    let slot = Slot::read_from_prefix(&file[SLOT_OFFSET..]).unwrap().0;
    let heap = file.len().next_multiple_of(2 << 20) as u64;
    let mut image = Image { bundle: None, pinned: None, ..Image::packed(&pack()) };
    match Source::read(&slot, 0x1000, heap).map_err(|_| StopCode::BadSlot)? {
        Source::None => {}
        Source::External { len } => image.pinned = Some((len, slot.manifest_sha256)),
        Source::Appended { offset, len } => {
            let mut file = file.to_vec();
            file.resize(heap as usize, 0);
            let packed = pack().build().unwrap();
            image.bundle = Some(load(&Packed {
                image_bytes: file,
                bundle_offset: offset,
                bundle_len: len,
                manifest_sha256: slot.manifest_sha256,
                ..packed
            }));
        }
    }
    let scenario = plain();
    Ok(Boot { image, ..Boot::new(&scenario) }.run())
}

/// The image that others are compared with: a policy with one device.
fn packed() -> Packed {
    pack().build().unwrap()
}

/// A policy that takes whatever is there.
fn lax() -> Vec<u8> {
    let mut scenario = plain();
    scenario.device[0].rule = Rule::Optional;
    scenario.bundle.policy_head = "svn = 0\n".into();
    image::policy(&scenario).unwrap()
}

/// The policy of [`pack`], with another security version: as long, valid, and not the same.
fn other_svn() -> Vec<u8> {
    let mut policy = cbor::decode(&pack().policy.unwrap()).unwrap();
    policy.svn += 1;
    cbor::encode(&policy)
}

fn rim(image: &[u8]) -> Vec<u8> {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/boards/qemu-virt/board.toml");
    let board = Board::parse(&std::fs::read_to_string(file).unwrap()).unwrap();
    let files = Files { image: image.to_vec(), initrd: None, tree: Some(image::tree(|_| {})) };
    layout::plan(&board, &files, &Options::default()).unwrap().measure().rim.as_bytes().to_vec()
}

#[test]
fn an_untouched_image_boots() {
    boot_file(&packed().image_bytes).unwrap().boots();
}

#[test]
fn each_byte_of_the_slot_counts() {
    let good = packed().image_bytes;
    let entry = |ran: &Ran| ran.result.as_ref().ok().map(|_| ());
    for at in 0..size_of::<Slot>() {
        let mut bad = good.clone();
        bad[SLOT_OFFSET + at] ^= 0x80;
        let code = match boot_file(&bad) {
            Err(code) => Some(code),
            Ok(ran) => {
                assert!(entry(&ran).is_none() || (24..32).contains(&at), "byte {at}");
                ran.code()
            }
        };
        let wanted: &[Option<StopCode>] = match at {
            // Magic, version, flags.
            0..16 => &[Some(StopCode::BadSlot)],
            // An offset elsewhere in the file finds no tree.
            16..24 => &[Some(StopCode::BadSlot), Some(StopCode::BundleStructure)],
            // A bundle that is cut, or ends behind the file. With more bytes behind it, it is the same bundle.
            24..32 => &[Some(StopCode::BadSlot), Some(StopCode::BundleStructure), None],
            _ => &[Some(StopCode::BundleManifest)],
        };
        assert!(wanted.contains(&code), "byte {at}: {code:?}");
        assert_ne!(rim(&bad), rim(&good), "byte {at}");
    }
}

#[test]
fn the_flag_of_a_bundle_beside_the_image_does_not_open_an_appended_one() {
    let mut bad = packed().image_bytes;
    bad[SLOT_OFFSET + 12] = FLAG_EXTERNAL as u8;
    assert_eq!(boot_file(&bad).err(), Some(StopCode::BadSlot));
    // Without its offset, the slot names a range, and the host has none.
    bad[SLOT_OFFSET + 16..SLOT_OFFSET + 24].fill(0);
    boot_file(&bad).unwrap().stops(StopCode::BundleNoRange);
    // Nor does no bundle at all start a payload.
    bad[SLOT_OFFSET + 12..SLOT_OFFSET + 64].fill(0);
    boot_file(&bad).unwrap().stops(StopCode::NoBundle);
}

#[test]
fn a_byte_of_any_part_and_of_the_structure_counts() {
    let good = packed();
    let parts = [Some(good.kernel), good.ramdisk, Some(good.cmdline), good.policy];
    for part in parts.map(Option::unwrap) {
        for at in [part.offset, part.offset + part.len / 2, part.offset + part.len - 1] {
            let mut bad = good.image_bytes.clone();
            bad[at as usize] ^= 1;
            boot_file(&bad).unwrap().stops(StopCode::PartHash);
        }
    }
    for at in [4 * 2, good.structure_len / 3, good.structure_len - 1] {
        let mut bad = good.image_bytes.clone();
        bad[(good.bundle_offset + at) as usize] ^= 1;
        boot_file(&bad).unwrap().stops(StopCode::BundleManifest);
    }
}

/// Exchanges the policy for one of the same length; `fix` is how far the forger goes: 1 the digest in the structure, 2 the
/// manifest in the slot.
fn forged(policy: &[u8], fix: u8) -> Vec<u8> {
    let mut packed = packed();
    let part = packed.policy.unwrap();
    assert_eq!(policy.len() as u64, part.len);
    let file = &mut packed.image_bytes;
    file[part.offset as usize..][..policy.len()].copy_from_slice(policy);
    if fix >= 1 {
        let structure = &mut file[packed.bundle_offset as usize..][..packed.structure_len as usize];
        let at = structure.windows(32).position(|bytes| bytes == part.sha256).unwrap();
        structure[at..at + 32].copy_from_slice(&Sha256::digest(policy));
        if fix >= 2 {
            let manifest = Sha256::digest(&*structure);
            file[SLOT_OFFSET + 32..SLOT_OFFSET + 64].copy_from_slice(&manifest);
        }
    }
    packed.image_bytes
}

#[test]
fn another_valid_policy_in_the_place_of_the_policy_is_refused_until_the_image_is_another_one() {
    let policy = other_svn();
    boot_file(&forged(&policy, 0)).unwrap().stops(StopCode::PartHash);
    boot_file(&forged(&policy, 1)).unwrap().stops(StopCode::BundleManifest);
    // Who can change the slot as well makes another image: it boots, and is measured as what it is.
    let (good, bad) = (packed().image_bytes, forged(&policy, 2));
    boot_file(&bad).unwrap().boots();
    assert_ne!(rim(&bad), rim(&good));
}

#[test]
fn another_bundle_in_the_place_of_the_bundle_is_refused() {
    let (good, other) = (packed(), Pack { policy: Some(lax()), ..pack() }.build().unwrap());
    let mut bad = other.image_bytes.clone();
    bad[SLOT_OFFSET + 32..SLOT_OFFSET + 64].copy_from_slice(&good.manifest_sha256);
    boot_file(&bad).unwrap().stops(StopCode::BundleManifest);
    // It would boot as its own image.
    boot_file(&other.image_bytes).unwrap().boots();
    assert_ne!(rim(&other.image_bytes), rim(&good.image_bytes));
}

#[test]
fn a_bundle_or_a_policy_in_the_initrd_range_does_not_replace_an_appended_one() {
    let bundle = Pack { policy: Some(lax()), cmdline: "evil".into(), ..pack() }.bundle().unwrap();
    let scenario = plain();
    let own = Boot::new(&scenario).run();
    let line = |ran: &Ran| ran.log.iter().find(|line| line.starts_with("policy: ")).cloned().unwrap();
    for bytes in [bundle, lax()] {
        let start = put(&bytes, 0);
        let mut boot = Boot::new(&scenario);
        boot.image.tree = tree_naming(start, start + bytes.len() as u64);
        let ran = boot.run();
        let tree = String::from_utf8_lossy(&tree_at(ran.boots().tree)).into_owned();
        assert_eq!(line(&ran), line(&own));
        assert!(tree.contains(image::CMDLINE) && !tree.contains("evil"));
    }
}

#[test]
fn a_bundle_beside_the_image_cannot_bring_its_own_manifest() {
    let scenario = plain();
    let firmware = pack().firmware;
    let bundle = pack().bundle().unwrap();
    let image = Attach { firmware: firmware.clone(), bundle: bundle.clone(), pinned: true }.build().unwrap();
    // A laxer policy, in a bundle that is perfectly well made.
    let other = Pack { policy: Some(lax()), ..pack() }.bundle().unwrap();
    assert!(check_bundle(&other).is_ok());
    let boots = |bytes: &[u8], len: u64, manifest| {
        let start = put(bytes, 0);
        beside::boot(&scenario, tree_naming(start, start + len), (len, manifest)).run()
    };
    let (len, manifest) = (image.bundle_len, image.manifest_sha256);
    boots(&bundle, len, manifest).boots();
    // As long as the pinned one, whatever it is.
    let mut cut = other.clone();
    cut.resize(bundle.len(), 0);
    boots(&cut, len, manifest).stops(StopCode::BundleManifest);
    boots(&other, other.len() as u64, manifest).stops(StopCode::BundleManifest);
    // Each part of the pinned one counts too.
    for part in [0x4b, 0x52] {
        let mut bad = bundle.clone();
        let at = bad.windows(64).position(|bytes| bytes == [part; 64]).unwrap();
        bad[at] ^= 1;
        boots(&bad, len, manifest).stops(StopCode::PartHash);
    }
    let policy = pack_for(&scenario).policy.unwrap();
    let at = bundle.windows(policy.len()).position(|bytes| bytes == policy).unwrap();
    let mut bad = bundle.clone();
    bad[at..at + policy.len()].copy_from_slice(&other_svn());
    boots(&bad, len, manifest).stops(StopCode::PartHash);
    // The firmware with the other manifest takes the other bundle: and it has another RIM.
    let lax = Attach { firmware, bundle: other.clone(), pinned: true }.build().unwrap();
    boots(&other, lax.bundle_len, lax.manifest_sha256).boots();
    assert_ne!(rim(&lax.image_bytes), rim(&image.image_bytes));
}
