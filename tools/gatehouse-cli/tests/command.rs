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

fn pack(directory: &PathBuf, slots: &[&str]) -> Output {
    let args = ["pack", "--firmware", "firmware", "--kernel", "kernel", "--out", "image"];
    gatehouse(directory, &[&args, slots].concat())
}

#[test]
fn slots_of_all_lists_are_packed_and_inspected() {
    let directory = directory("slots");
    let slots = ["--require", "02.0", "--require", "05.0/00.0", "--optional", "03.0", "--shared", "04.0"];
    let packed = pack(&directory, &[&slots[..], &["--quiet-device", "03.0"]].concat());
    assert!(packed.status.success(), "{packed:?}");
    let inspected = gatehouse(&directory, &["inspect", "image"]);
    assert!(inspected.status.success(), "{inspected:?}");
    let text = String::from_utf8(inspected.stdout).unwrap();
    for line in [
        "require        02.0",
        "require        05.0/00.0",
        "optional       03.0",
        "shared         04.0",
        "quiet-device   03.0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line:?} is not in {text}");
    }
}

#[test]
fn slots_that_contradict_each_other_are_told_by_name() {
    let directory = directory("contradictions");
    let told = |slots: &[&str], want: &str| {
        let packed = pack(&directory, slots);
        let text = String::from_utf8(packed.stderr).unwrap();
        assert!(!packed.status.success() && text.contains(want), "{slots:?}: {text}");
    };
    told(&[], "no slot is named");
    told(&["--quiet-device", "02.0"], "no slot is named");
    told(
        &["--require", "02.0", "--shared", "02.0"],
        "02.0 stands in gatehouse,require and again in gatehouse,shared",
    );
    told(
        &["--optional", "02.0", "--optional", "02.0"],
        "02.0 stands in gatehouse,optional and again in gatehouse,optional",
    );
    told(
        &["--shared", "02.0", "--quiet-device", "02.0"],
        "02.0 stands in gatehouse,quiet-device, but is neither",
    );
    told(&["--shared", "2.0"], "hop 0 is not DD.F");
    assert!(!directory.join("image").exists());
}
