//! A bundle that exists, behind the firmware or beside it: what is made is read back, is the same each time, and says what it is.
use gatehouse::abi::image::{FLAG_EXTERNAL, HEAP_SIZE, LINUX_MAGIC, LinuxHeader, SLOT_MAGIC, Slot};
use gatehouse::boot::bundle::BundleError;
use gatehouse::boot::source::Source;
use gatehouse_cli::attach::{Attach, Attached};
use gatehouse_cli::inspect::{Image, InspectError};
use gatehouse_cli::pack::PackError;
use std::fs;
use std::path::{Path, PathBuf};
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

fn firmware() -> Vec<u8> {
    let slot = Slot {
        magic: SLOT_MAGIC,
        version: 1.into(),
        ..Slot::read_from_bytes(&[0; size_of::<Slot>()]).unwrap()
    };
    let mut firmware = header(0x1000 + HEAP_SIZE);
    firmware.extend(slot.as_bytes());
    firmware.resize(0x1000, 0xf0);
    firmware
}

/// A directory of its own with firmware, kernel and ramdisk.
fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("attach-{name}"));
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    let mut kernel = header(0x23_0000);
    kernel.resize(0x5000, 0x4b);
    fs::write(path.join("firmware"), firmware()).unwrap();
    fs::write(path.join("kernel"), kernel).unwrap();
    fs::write(path.join("ramdisk"), [0x52; 0x1234]).unwrap();
    path
}

fn gatehouse(directory: &Path, line: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    command.current_dir(directory).args(line.split_whitespace()).output().unwrap()
}

#[track_caller]
fn succeeds(directory: &Path, line: &str) -> String {
    let output = gatehouse(directory, line);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[track_caller]
fn fails(directory: &Path, line: &str, why: &str) {
    let output = gatehouse(directory, line);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains(why), "{line}: {said}");
}

const ALONE: &str = "pack --kernel kernel --ramdisk ramdisk --cmdline quiet --os half --out bundle.itb";
const PIN: &str = "pack --firmware firmware --pin bundle.itb --out image";
const APPEND: &str = "pack --firmware firmware --bundle bundle.itb --out appended";

/// Makes all three files in a directory.
fn make(name: &str) -> (PathBuf, [Vec<u8>; 3]) {
    let directory = directory(name);
    [ALONE, PIN, APPEND].iter().for_each(|line| drop(succeeds(&directory, line)));
    let files = ["bundle.itb", "image", "appended"].map(|file| fs::read(directory.join(file)).unwrap());
    (directory, files)
}

#[test]
fn a_bundle_alone_is_pinned_or_appended_and_read_back() {
    let (_, [bundle, image, appended]) = make("made");
    let pinned = Image::with_bundle(&image, Some(&bundle)).unwrap();
    let len = bundle.len() as u64;
    assert_eq!(pinned.source, Source::External { len });
    assert_eq!((pinned.slot.flags.get(), pinned.slot.bundle_offset.get()), (FLAG_EXTERNAL, 0));
    assert_eq!(image.len(), 0x1000, "the bundle is not in the file");
    // The kernel goes to the first 2 MiB of the room, with all that its header asks for.
    assert_eq!(pinned.header.image_size.get(), 0x60_0000 + HEAP_SIZE);
    assert_eq!(pinned.verify().unwrap().kernel().base() % 0x20_0000, 0);
    let whole = Image::read(&appended).unwrap();
    assert_eq!(whole.source, Source::Appended { offset: 0x1000, len });
    assert_eq!(&appended[0x1000..], bundle, "no byte is changed");
    whole.verify().unwrap();
    assert_eq!(whole.slot.manifest_sha256, pinned.slot.manifest_sha256);
}

#[test]
fn the_same_inputs_give_the_same_bytes_elsewhere_and_later() {
    let (_, first) = make("first");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let (other, second) = make("a/second/folder");
    assert_eq!(first, second);
    let new = "pack --firmware firmware --kernel kernel --os half --out new";
    let bytes = |directory: &Path| {
        succeeds(directory, new);
        fs::read(directory.join("new")).unwrap()
    };
    assert_eq!(bytes(&other), bytes(&directory("third")));
}

#[test]
fn an_image_that_pins_takes_no_other_bundle() {
    let (_, [bundle, image, appended]) = make("other");
    let read = |bytes: &[u8]| Image::with_bundle(&image, Some(bytes)).map(|_| ());
    let (have, len) = (bundle.len() as u64 - 1, bundle.len() as u64);
    assert_eq!(read(&bundle[1..]), Err(InspectError::Length { have, len }));
    let mut bad = bundle.clone();
    bad[0x40] ^= 1;
    assert_eq!(read(&bad), Err(InspectError::Bundle(BundleError::ManifestMismatch)));
    assert!(matches!(Image::read(&image), Err(InspectError::Beside { .. })));
    assert_eq!(Image::with_bundle(&appended, Some(&bundle)).err(), Some(InspectError::NotPinned));
}

#[test]
fn what_the_firmware_would_refuse_is_not_attached() {
    let (_, [bundle, image, appended]) = make("refused");
    let build = |firmware: &[u8], bundle: &[u8], pinned| -> Result<Attached, PackError> {
        Attach { firmware: firmware.into(), bundle: bundle.into(), pinned }.build()
    };
    for pinned in [false, true] {
        let mut bad = bundle.clone();
        *bad.last_mut().unwrap() ^= 1;
        assert!(matches!(build(&firmware(), &bad, pinned), Err(PackError::Bundle(_))), "a part");
        let cut = &bundle[..bundle.len() - 1];
        assert!(matches!(build(&firmware(), cut, pinned), Err(PackError::Bundle(_))), "cut");
        assert!(matches!(build(&firmware(), b"no tree", pinned), Err(PackError::Bundle(_))));
        for packed in [&image, &appended] {
            assert!(matches!(build(packed, &bundle, pinned), Err(PackError::AlreadyPacked)));
        }
    }
}

#[test]
fn inspect_says_what_is_pinned_and_reads_the_bundle_beside_it() {
    let (directory, [bundle, ..]) = make("inspect");
    let text = succeeds(&directory, "inspect image");
    assert!(text.contains(&format!("beside the image, {:#x} bytes", bundle.len())), "{text}");
    assert!(text.contains("verified  it takes a bundle with this manifest and no other"), "{text}");
    let text = succeeds(&directory, "inspect image --bundle bundle.itb");
    assert!(text.contains("kernel         0x") && text.contains("os             half"), "{text}");
    let text = succeeds(&directory, "inspect bundle.itb");
    assert!(text.starts_with("a bundle\n") && text.contains("ramdisk        0x"), "{text}");
    fails(&directory, "inspect image --bundle kernel", "the image pins one of");
    fails(&directory, "inspect appended --bundle bundle.itb", "pins no bundle beside it");
}

#[test]
fn contradictions_on_the_command_line_are_told() {
    let (directory, _) = make("told");
    fails(&directory, "pack --out x", "--kernel");
    fails(&directory, "pack --pin bundle.itb --out x", "--firmware");
    fails(&directory, "pack --bundle bundle.itb --out x", "--firmware");
    fails(
        &directory,
        "pack --firmware firmware --pin bundle.itb --bundle bundle.itb --out x",
        "cannot be used with",
    );
    for part in ["--kernel kernel", "--ramdisk ramdisk", "--cmdline a", "--os half", "--svn 1"] {
        fails(&directory, &format!("{PIN} {part}"), "cannot be used with");
    }
    fails(
        &directory,
        "pack --firmware firmware --pin kernel --out x",
        "kernel: this is an arm64 kernel Image",
    );
    assert!(!directory.join("x").exists());
}

#[test]
fn rim_takes_the_pinned_bundle_as_ramdisk_and_no_other() {
    let (directory, [bundle, ..]) = make("rim");
    fs::write(directory.join("host.dtb"), [0xd0, 0x0d, 0xfe, 0xed, 0, 0, 0, 8]).unwrap();
    let board = concat!(env!("CARGO_MANIFEST_DIR"), "/../../boards/fvp-kvmtool/board.toml");
    let line = format!("rim --board {board} --image image --dtb host.dtb --ram-size 512M --initrd");
    succeeds(&directory, &format!("{line} bundle.itb"));
    let mut other = bundle;
    other[0x40] ^= 1;
    fs::write(directory.join("other.itb"), other).unwrap();
    fails(&directory, &format!("{line} other.itb"), "does not match the manifest");
    fails(&directory, &format!("{line} ramdisk"), "the image pins one of");
    // The firmware alone, of a VMM that loads no ramdisk into the measured part.
    let fixed = concat!(env!("CARGO_MANIFEST_DIR"), "/../../boards/qemu-virt/board.toml");
    succeeds(&directory, &format!("rim --board {fixed} --image image --dtb host.dtb"));
}
