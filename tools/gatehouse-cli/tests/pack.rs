//! The packer: what it makes is read back by the firmware's code, and each bad input is refused by name.
use gatehouse::abi::fit::OsKind;
use gatehouse::abi::image::{HEAP_SIZE, IMAGE_ALIGN, LINUX_MAGIC, LinuxHeader, SLOT_MAGIC, Slot};
use gatehouse::boot::bundle::{BundleError, PartError, Role};
use gatehouse::boot::kernel::{Format, KernelError};
use gatehouse::boot::place::PlaceError;
use gatehouse_cli::elf::{ElfError, flatten};
use gatehouse_cli::inspect::{Image, InspectError};
use gatehouse_cli::kernel::KernelFileError;
use gatehouse_cli::pack::{Pack, PackError, Packed};
use zerocopy::{FromBytes, IntoBytes};

fn linux_header(image_size: u64) -> LinuxHeader {
    LinuxHeader {
        image_size: image_size.into(),
        flags: 0xa.into(),
        magic: LINUX_MAGIC,
        ..LinuxHeader::read_from_bytes(&[0; 64]).unwrap()
    }
}

fn firmware() -> Vec<u8> {
    let slot = Slot {
        magic: SLOT_MAGIC,
        version: 1.into(),
        ..Slot::read_from_bytes(&[0; size_of::<Slot>()]).unwrap()
    };
    let mut flat = linux_header(0x1_0000 + HEAP_SIZE).as_bytes().to_vec();
    flat.extend(slot.as_bytes());
    flat.resize(0x1_0000, 0xf0);
    flat
}

fn kernel() -> Vec<u8> {
    let mut kernel = linux_header(0x28_0000).as_bytes().to_vec();
    kernel.resize(0x23_4567, 0x4b);
    kernel
}

/// A policy as the compiler writes it; the packer only carries the bytes.
fn policy() -> Vec<u8> {
    gatehouse::policy::cbor::encode(&gatehouse::policy::types::Policy::default())
}

fn pack() -> Pack {
    Pack {
        svn: 0,
        overlay: None,
        firmware: firmware(),
        kernel: kernel(),
        ramdisk: Some(vec![0x52; 0x1_2345]),
        cmdline: "console=ttyAMA0".into(),
        os: OsKind::Half,
        policy: Some(policy()),
    }
}

fn packed() -> Packed {
    pack().build().unwrap()
}

#[test]
fn the_image_is_laid_out_as_the_firmware_wants_it() {
    let packed = packed();
    let file = &packed.image_bytes;
    assert_eq!(packed.bundle_offset, 0x1_0000);
    assert_eq!(packed.kernel_offset % IMAGE_ALIGN, 0);
    assert_eq!(packed.kernel_offset + packed.kernel.len, file.len() as u64, "the kernel is last");
    assert_eq!(packed.kernel_mem_len, 0x28_0000);
    assert_eq!(packed.image_size, 0x60_0000 + HEAP_SIZE);
    let at = packed.kernel_offset as usize;
    assert_eq!(file[at..], kernel());
    let ramdisk = packed.ramdisk.unwrap();
    assert_eq!(ramdisk.offset % 4096, 0);
    assert_eq!(file[ramdisk.offset as usize..][..ramdisk.len as usize], [0x52; 0x1_2345]);
    assert_eq!(file[128..0x1_0000], firmware()[128..], "the firmware is as it was");

    let image = Image::read(file).unwrap();
    assert_eq!(image.header.image_size.get(), packed.image_size);
    assert_eq!(image.slot.manifest_sha256, packed.manifest_sha256);
    assert_eq!(image.bundle.os, OsKind::Half);
    assert_eq!(image.bundle.policy.clone().unwrap().verify().unwrap().bytes(), policy());
    let cmdline = image.bundle.cmdline.clone().unwrap().verify().unwrap();
    assert_eq!(cmdline.command_line(), b"console=ttyAMA0");
    let plan = image.verify().unwrap();
    assert_eq!(plan.kernel().base() % IMAGE_ALIGN, 0);
    assert_eq!(plan.kernel().len_bytes(), 0x28_0000);
}

#[test]
fn the_same_inputs_give_the_same_bytes() {
    assert_eq!(packed().image_bytes, packed().image_bytes);
}

#[test]
fn only_firmware_and_kernel_are_needed() {
    let packed = Pack { ramdisk: None, cmdline: String::new(), ..pack() }.build().unwrap();
    let image = Image::read(&packed.image_bytes).unwrap();
    assert!(image.bundle.ramdisk.is_none());
    assert_eq!(image.bundle.cmdline.unwrap().verify().unwrap().command_line(), b"");
}

#[test]
fn the_svn_of_a_bundle_is_read_back() {
    for svn in [0, 1, u32::MAX] {
        let packed = Pack { svn, ..pack() }.build().unwrap();
        assert_eq!(Image::read(&packed.image_bytes).unwrap().bundle.svn, svn);
    }
}

#[test]
fn an_image_without_a_policy_has_no_such_part() {
    let packed = Pack { policy: None, ..pack() }.build().unwrap();
    assert_eq!(packed.policy, None);
    assert_eq!(Image::read(&packed.image_bytes).unwrap().bundle.policy, None);
}

#[test]
fn a_kernel_longer_than_its_image_size_still_fits() {
    let mut kernel = linux_header(0x1000).as_bytes().to_vec();
    kernel.resize(0x20_0001, 1);
    let packed = Pack { kernel, ..pack() }.build().unwrap();
    assert_eq!(packed.image_size, packed.kernel_offset + 0x40_0000 + HEAP_SIZE);
}

#[test]
fn a_flipped_bit_of_any_part_is_found() {
    let packed = packed();
    let structure = packed.bundle_offset + 64;
    let mut bad = packed.image_bytes.clone();
    bad[structure as usize] ^= 1;
    assert_eq!(Image::read(&bad).unwrap_err(), InspectError::Bundle(BundleError::ManifestMismatch));
    for (role, part) in [
        (Role::Kernel, packed.kernel),
        (Role::Ramdisk, packed.ramdisk.unwrap()),
        (Role::Cmdline, packed.cmdline),
    ] {
        for at in [part.offset, part.offset + part.len - 1] {
            let mut bad = packed.image_bytes.clone();
            bad[at as usize] ^= 1;
            let want = BundleError::Part { role, error: PartError::DigestMismatch };
            let got = Image::read(&bad).unwrap().verify().unwrap_err();
            let kernel = InspectError::Place(PlaceError::Bundle(want.clone()));
            assert_eq!(got, if role == Role::Kernel { kernel } else { InspectError::Bundle(want) });
        }
    }
}

#[test]
fn an_image_that_leaves_the_kernel_no_room_is_found() {
    let mut bad = packed().image_bytes;
    let size = (0x60_0000 + HEAP_SIZE - 0x20_0000).to_le_bytes();
    bad[16..24].copy_from_slice(&size);
    assert!(matches!(
        Image::read(&bad).unwrap().verify(),
        Err(InspectError::Place(PlaceError::NoRoom { .. }))
    ));
}

macro_rules! refused {
    ($change:expr, $error:pat) => {
        let got = $change.build().unwrap_err();
        assert!(matches!(got, $error), "{got:?}");
    };
}

#[test]
fn each_bad_input_is_refused_by_name() {
    refused!(Pack { firmware: vec![], ..pack() }, PackError::NotFirmware);
    refused!(Pack { firmware: kernel(), ..pack() }, PackError::NotFirmware);
    let mut version = firmware();
    version[72] = 2;
    refused!(Pack { firmware: version, ..pack() }, PackError::SlotVersion(2));
    refused!(Pack { firmware: packed().image_bytes, ..pack() }, PackError::AlreadyPacked);
    let mut cut = firmware();
    cut[16..24].copy_from_slice(&(0x20_1000 + HEAP_SIZE).to_le_bytes());
    refused!(Pack { firmware: cut, ..pack() }, PackError::FirmwareCut { have: 0x1_0000, .. });
    refused!(Pack { firmware: b"\x7fELF".to_vec(), ..pack() }, PackError::Elf(ElfError::NotElf));
    for (start, format) in [(&b"\x28\xb5\x2f\xfd"[..], Format::Zstd), (b"\x7fELF", Format::Elf)] {
        let got = Pack { kernel: start.to_vec(), ..pack() }.build().unwrap_err();
        let want = KernelFileError::Kernel(KernelError::UnsupportedFormat(format));
        assert!(matches!(&got, PackError::Kernel(error) if *error == want), "{got:?}");
    }
    refused!(Pack { ramdisk: Some(vec![]), ..pack() }, PackError::EmptyRamdisk);
    refused!(Pack { cmdline: "a\0b".into(), ..pack() }, PackError::CommandLine(3));
    refused!(Pack { cmdline: "a".repeat(2048), ..pack() }, PackError::CommandLine(2048));
}

/// An ELF file with these (type, vaddr, file bytes, memory bytes) segments.
fn elf(segments: &[(u32, u64, &[u8], u64)]) -> Vec<u8> {
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(3u16.to_le_bytes());
    file.extend(183u16.to_le_bytes());
    file.extend(1u32.to_le_bytes());
    for value in [0u64, 64, 0] {
        file.extend(value.to_le_bytes());
    }
    file.extend(0u32.to_le_bytes());
    for value in [64u16, 56, segments.len() as u16, 64, 0, 0] {
        file.extend(value.to_le_bytes());
    }
    let mut at = 64 + 56 * segments.len();
    for (kind, vaddr, data, memsz) in segments {
        file.extend(kind.to_le_bytes());
        file.extend(0u32.to_le_bytes());
        for value in [at as u64, *vaddr, *vaddr, data.len() as u64, *memsz, 0x1000] {
            file.extend(value.to_le_bytes());
        }
        at += data.len();
    }
    segments.iter().for_each(|(_, _, data, _)| file.extend(*data));
    file
}

#[test]
fn an_elf_file_is_flattened_with_bss_as_zeros() {
    let flat =
        flatten(&elf(&[(1, 0x1_0000, b"text", 4), (2, 0, b"dynamic", 7), (1, 0x1_2000, b"data", 0x3001)]))
            .unwrap();
    assert_eq!(flat.len(), 0x6000);
    assert_eq!(&flat[..4], b"text");
    assert_eq!(&flat[0x2000..0x2004], b"data");
    assert!(flat[4..0x2000].iter().chain(&flat[0x2004..]).all(|b| *b == 0));
}

#[test]
fn the_firmware_may_be_elf_or_flat() {
    let flat = firmware();
    let elf = elf(&[(1, 0, &flat[..0x8000], 0x8000), (1, 0x8000, &flat[0x8000..], 0x8000)]);
    let packed = Pack { firmware: elf, ..pack() }.build().unwrap();
    assert_eq!(packed.image_bytes, self::packed().image_bytes);
}

#[test]
fn each_bad_elf_file_is_refused_by_name() {
    let good: &[(u32, u64, &[u8], u64)] = &[(1, 0, b"text", 4)];
    let with = |at: usize, value: u8| {
        let mut file = elf(good);
        file[at] = value;
        flatten(&file).unwrap_err()
    };
    assert_eq!(with(4, 1), ElfError::NotElf);
    assert_eq!(with(18, 62), ElfError::Machine(62));
    assert_eq!(with(54, 32), ElfError::ProgramHeaders);
    assert_eq!(with(33, 1), ElfError::ProgramHeaders);
    assert_eq!(with(64 + 8, 0xff), ElfError::Segment(0));
    assert_eq!(flatten(&elf(&[(1, 0, b"text", 3)])), Err(ElfError::Segment(0)));
    assert_eq!(flatten(&elf(&[(1, 0, b"a", 9), (1, 8, b"b", 1)])), Err(ElfError::Overlap(1)));
    assert_eq!(flatten(&elf(&[(2, 0, b"a", 1)])), Err(ElfError::Empty));
    assert_eq!(flatten(&elf(&[(1, 0, b"a", 1 << 40)])), Err(ElfError::TooLarge(1 << 40)));
}
