//! The `gatehouse` command as a user types it: each option reaches the bundle, each contradiction is told by name.
use gatehouse::abi::image::{HEAP_SIZE, LINUX_MAGIC, LinuxHeader, SLOT_MAGIC, Slot};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use zerocopy::{FromBytes, IntoBytes};

fn header(image_size: u64) -> Vec<u8> {
    LinuxHeader {
        image_size: image_size.into(),
        flags: 0xa.into(),
        magic: LINUX_MAGIC,
        ..LinuxHeader::read_from_bytes(&[0; 64]).unwrap()
    }
    .as_bytes()
    .to_vec()
}

/// A directory of its own with a firmware and a kernel.
fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&path).unwrap();
    let slot = Slot {
        magic: SLOT_MAGIC,
        version: 1.into(),
        ..Slot::read_from_bytes(&[0; size_of::<Slot>()]).unwrap()
    };
    let mut firmware = header(0x1000 + HEAP_SIZE);
    firmware.extend(slot.as_bytes());
    firmware.resize(0x1000, 0xf0);
    fs::write(path.join("firmware"), firmware).unwrap();
    let mut kernel = header(0x8000);
    kernel.resize(0x5000, 0x4b);
    fs::write(path.join("kernel"), kernel).unwrap();
    path
}

fn gatehouse(directory: &PathBuf, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gatehouse")).current_dir(directory).args(args).output().unwrap()
}

fn pack(directory: &PathBuf, policy: &[&str]) -> Output {
    let args = ["pack", "--firmware", "firmware", "--kernel", "kernel", "--out", "image"];
    gatehouse(directory, &[&args, policy].concat())
}

const POLICY: &str =
    "version = 1\nsvn = 4\n[[rule]]\nname = \"nic\"\nkind = \"virtio-pci\"\nvirtio = \"network\"\n";

#[test]
fn a_policy_is_packed_as_text_or_compiled_and_inspected() {
    let directory = directory("policy");
    fs::write(directory.join("policy.toml"), POLICY).unwrap();
    let compiled = gatehouse(&directory, &["policy", "compile", "policy.toml", "-o", "policy.cbor"]);
    assert!(compiled.status.success(), "{compiled:?}");
    let mut images = Vec::new();
    for file in ["policy.toml", "policy.cbor"] {
        let packed = pack(&directory, &["--policy", file]);
        assert!(packed.status.success(), "{packed:?}");
        let inspected = gatehouse(&directory, &["inspect", "image"]);
        assert!(inspected.status.success(), "{inspected:?}");
        let text = String::from_utf8(inspected.stdout).unwrap();
        for part in ["policy         0x", "svn            4", "rule           nic"] {
            assert!(text.lines().any(|line| line.starts_with(part)), "{part:?} is not in {text}");
        }
        images.push(fs::read(directory.join("image")).unwrap());
    }
    assert_eq!(images[0], images[1], "both forms give the same image");
}

#[test]
fn a_policy_that_is_none_is_told_with_line_and_field() {
    let directory = directory("bad-policy");
    fs::write(directory.join("policy.toml"), POLICY.replace("virtio =", "virtual =")).unwrap();
    let packed = pack(&directory, &["--policy", "policy.toml"]);
    let text = String::from_utf8(packed.stderr).unwrap();
    assert!(!packed.status.success() && text.contains("line 6") && text.contains("virtual"), "{text}");
    assert!(!directory.join("image").exists());
}
