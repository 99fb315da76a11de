//! One kernel in every format, in whole boots and alone: the same bytes at the entry, and each broken file by name.
mod common;

use common::*;
use dtoolkit::ToPropertyValue;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use flate2::{Compression, GzBuilder};
use gatehouse::abi::image::{HEAP_SIZE, IMAGE_ALIGN, LINUX_MAGIC, LinuxHeader};
use gatehouse::addr::IpaRange;
use gatehouse::boot::bundle::{Bundle, BundleError, PartError, Role};
use gatehouse::boot::gzip::GzipError;
use gatehouse::boot::kernel::{Format, KernelError};
use gatehouse::boot::place::{self, PlaceError, Room};
use gatehouse::boot::plan::{PlanError, Span};
use gatehouse::boot::zboot::ZbootError;
use gatehouse::rsi::HashAlgorithm;
use gatehouse_cli::inspect;
use gatehouse_cli::kernel::KernelFileError;
use gatehouse_cli::pack::{Pack, PackError};
use proptest::prelude::*;
use rmm_model::Scenario;
use sha2::{Digest as _, Sha256};
use std::io::Write as _;
use zerocopy::{FromBytes, IntoBytes};

/// Memory of the kernel: more than its file.
const MEM: u64 = 0x28_0000;
const MIB: u64 = 1 << 20;

/// An Image of some chunks of 64 KiB, of which half can be compressed.
fn kernel() -> Vec<u8> {
    let header = LinuxHeader {
        image_size: MEM.into(),
        flags: 0xa.into(),
        magic: LINUX_MAGIC,
        ..LinuxHeader::read_from_bytes(&[0; 64]).unwrap()
    };
    let mut kernel = header.as_bytes().to_vec();
    let mut x = 1u32;
    while kernel.len() < 0x4_2345 {
        x ^= x << 13;
        x ^= x >> 17;
        x ^= x << 5;
        kernel.extend(x.to_le_bytes());
        kernel.extend([x as u8; 4]);
    }
    kernel
}

fn gzip(image: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new().filename("Image").write(Vec::new(), Compression::new(6));
    encoder.write_all(image).unwrap();
    encoder.finish().unwrap()
}

/// An EFI zboot image around a payload: header, some program, payload, more program.
fn zboot(payload: &[u8], compression: &str) -> Vec<u8> {
    let mut file = b"MZ\0\0zimg".to_vec();
    file.extend(0x1000u32.to_le_bytes());
    file.extend(u32::try_from(payload.len()).unwrap().to_le_bytes());
    file.resize(24, 0);
    file.extend(compression.as_bytes());
    file.resize(0x38, 0);
    file.extend([0xcd, 0x23, 0x82, 0x81, 0x40, 0, 0, 0]);
    file.resize(0x1000, 0x90);
    file.extend(payload);
    file.extend([0xcc; 0x1234]);
    file
}

fn packed(kernel: Vec<u8>) -> Pack {
    Pack { kernel, ..image::pack() }
}

/// Boots an image that lies so far behind a multiple of 2 MiB.
fn boot_at(pack: &Pack, skip: usize) -> Ran {
    let (bundle, room) = image::load_with_room(&pack.build().unwrap(), skip, |_| {});
    let scenario = plain();
    let image = image::Image { bundle: Some(bundle), ..image::Image::of(&scenario) };
    Boot { image, room, ..Boot::new(&scenario) }.run()
}

fn entry_holds(ran: &Ran, image: &[u8]) {
    let payload = ran.boots();
    assert_eq!(payload.entry % IMAGE_ALIGN, 0);
    assert!(image::read(payload.entry, image.len()) == image, "other bytes at the entry");
    assert_eq!(payload.reads[0], IpaRange::covering(payload.entry, MEM).unwrap());
}

#[test]
fn a_kernel_of_every_format_is_the_same_at_the_entry() {
    let plain = kernel();
    for (name, file, skip, written) in [
        ("Image", plain.clone(), 0, false),
        ("Image that lies badly", plain.clone(), 0x1000, true),
        ("gzip", gzip(&plain), 0, true),
        ("gzip that lies anywhere", gzip(&plain), 0x7000, true),
        ("zboot", zboot(&gzip(&plain), "gzip"), 0, true),
    ] {
        let ran = boot_at(&packed(file), skip);
        entry_holds(&ran, &plain);
        let line = format!("{} bytes written to", plain.len());
        assert_eq!(ran.log.iter().any(|log| log.contains(&line)), written, "{name}: {:?}", ran.log);
    }
}

#[test]
fn what_is_measured_is_the_part_as_it_lies_in_the_bundle() {
    for file in [gzip(&kernel()), zboot(&gzip(&kernel()), "gzip")] {
        let pack = packed(file);
        let file = pack.build().unwrap().image_bytes;
        let event = inspect::Image::read(&file).unwrap().bundle_event().unwrap();
        let ran = boot_at(&pack, 0);
        let hashes = [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];
        let digests = hashes.map(|hash| event.digest(hash));
        let calls = ran.calls();
        let extends = calls.iter().filter(|call| call.0 == "RSI_MEASUREMENT_EXTEND");
        let found = extends.into_iter().any(|call| {
            let value: Vec<u8> = call.1[2..].iter().flat_map(|word| word.to_le_bytes()).collect();
            digests.iter().any(|digest| value[..call.1[1] as usize] == *digest.as_bytes())
        });
        assert!(found, "the event that the tool predicts is extended");
    }
}

#[test]
fn a_byte_flipped_anywhere_in_a_compressed_kernel_is_a_wrong_hash() {
    let file = zboot(&gzip(&kernel()), "gzip");
    let packed = packed(file).build().unwrap();
    // Header, gzip header, stream, trailer, behind it: whatever else would be wrong with it.
    let end = packed.kernel.len as usize;
    for at in [0, 4, 8, 25, 0x1000, 0x1002, 0x1003, 0x1100, 0x8000, end - 0x1234 - 3, end - 1] {
        let flip = |file: &mut Vec<u8>| file[packed.kernel_offset as usize + at] ^= 1;
        let (bundle, room) = image::load_with_room(&packed, 0, flip);
        let scenario = plain();
        let image = image::Image { bundle: Some(bundle), ..image::Image::of(&scenario) };
        let ran = Boot { image, room, ..Boot::new(&scenario) }.run();
        assert_eq!(ran.code().map(|code| code.number()), Some(6001), "{at:#x}");
    }
}

/// A FIT of one kernel: inline, or at this offset.
fn fit(kernel: &[u8], at: Option<usize>, compression: Option<&str>) -> Vec<u8> {
    fn with(mut node: DeviceTreeNode, name: &str, value: impl ToPropertyValue) -> DeviceTreeNode {
        node.add_property(DeviceTreeProperty::new(name, value).unwrap());
        node
    }
    fn parent(name: &str, child: DeviceTreeNode) -> DeviceTreeNode {
        let mut node = DeviceTreeNode::new(name).unwrap();
        node.add_child(child);
        node
    }
    let new = |name: &str| DeviceTreeNode::new(name).unwrap();
    let digest: [u8; 32] = Sha256::digest(kernel).into();
    let hash = with(with(new("hash-1"), "algo", "sha256"), "value", digest);
    let mut image = match at {
        None => with(new("k"), "data", kernel),
        Some(at) => with(with(new("k"), "data-position", at as u32), "data-size", kernel.len() as u32),
    };
    if let Some(compression) = compression {
        image = with(image, "compression", compression);
    }
    image.add_child(hash);
    let mut tree = DeviceTree::new();
    tree.root.add_child(parent("images", image));
    let config = with(new("c"), "kernel", "k");
    tree.root.add_child(with(parent("configurations", config), "default", "c"));
    let mut bytes = tree.to_dtb();
    if let Some(at) = at {
        bytes.resize(at, 0);
        bytes.extend(kernel);
    }
    bytes
}

const BASE: u64 = 0x4000_0000;

/// What becomes of a kernel in a bundle at 2 MiB of an image that has this much room: where it is, and what the room holds.
fn place_in(bundle: &[u8], room_len: u64) -> Result<(u64, Format, Vec<u8>), PlaceError> {
    let parsed = Bundle::parse(bundle, &manifest(bundle))?;
    let span = Span::new(BASE + 2 * MIB, bundle.len() as u64).unwrap();
    let room_base = span.end().next_multiple_of(4096);
    let heap = room_base + room_len;
    let area = IpaRange::covering(BASE, heap + HEAP_SIZE - BASE).unwrap();
    let mut bytes = vec![0; room_len as usize];
    let placed = place::kernel(parsed.kernel, None, area, span, Room::new(room_base, &mut bytes))?;
    let at = placed.plan.kernel().base();
    let written = match placed.written {
        0 => Vec::new(),
        len => bytes[(at - room_base) as usize..][..len].to_vec(),
    };
    Ok((at, placed.format, written))
}

fn manifest(bundle: &[u8]) -> [u8; 32] {
    let len = u32::from_be_bytes(bundle[4..8].try_into().unwrap()) as usize;
    Sha256::digest(&bundle[..len]).into()
}

/// In a bundle, anywhere, with 8 MiB room.
fn place_it(file: &[u8]) -> Result<(u64, Format, Vec<u8>), PlaceError> {
    place_in(&fit(file, Some(0x1000), None), 8 * MIB)
}

fn refused(file: &[u8]) -> PlaceError {
    place_it(file).unwrap_err()
}

#[test]
fn a_kernel_stays_where_it_can_and_goes_to_the_first_boundary_of_the_room_else() {
    let image = kernel();
    let place = |bundle: &[u8]| place_in(bundle, 8 * MIB).unwrap();
    let stays = place(&fit(&image, Some(2 << 20), Some("none")));
    assert_eq!(stays, (BASE + 4 * MIB, Format::Image, Vec::new()));
    let moved = BASE + 4 * MIB;
    for (bundle, format) in [
        (fit(&image, Some(0x1008), None), Format::Image),
        (fit(&image, None, None), Format::Image),
        (fit(&gzip(&image), Some(0x1003), None), Format::Gzip),
        (fit(&gzip(&image), Some(0x1000), Some("none")), Format::Gzip),
        (fit(&gzip(&image), Some(0x1000), Some("gzip")), Format::Gzip),
        (fit(&gzip(&image), None, Some("gzip")), Format::Gzip),
        (fit(&zboot(&gzip(&image), "gzip"), Some(0x1000), Some("none")), Format::Zboot),
    ] {
        assert!(place(&bundle) == (moved, format, image.clone()), "{format:?}");
    }
}

#[test]
fn the_room_must_hold_the_memory_of_the_kernel_and_not_only_its_file() {
    for (file, at) in [(kernel(), 0x1000), (gzip(&kernel()), 0x1000)] {
        let bundle = fit(&file, Some(at), None);
        let skip = {
            let end = BASE + 2 * MIB + bundle.len() as u64;
            end.next_multiple_of(IMAGE_ALIGN) - end.next_multiple_of(4096)
        };
        assert!(place_in(&bundle, skip + MEM).is_ok());
        let have = MEM - 0x1000;
        let got = place_in(&bundle, skip + have).unwrap_err();
        assert_eq!(got, PlaceError::NoRoom { need: MEM, have });
        assert!(matches!(
            place_in(&bundle, 0x1000).unwrap_err(),
            PlaceError::NoRoom { .. } | PlaceError::Gzip(GzipError::TooLong(0))
        ));
    }
}

#[test]
fn each_broken_kernel_is_refused_by_name() {
    let image = kernel();
    let good = gzip(&image);
    let change = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut file = good.clone();
        change(&mut file);
        (refused(&file), refused(&zboot(&file, "gzip")))
    };
    let trailer = good.len() - 4;
    let length = GzipError::Length { found: image.len() as u32, said: image.len() as u32 ^ 1 };
    for (got, want) in [
        (change(&|f| f.truncate(trailer)), GzipError::Truncated),
        (change(&|f| f.truncate(9)), GzipError::Truncated),
        (change(&|f| f.truncate(0x1000)), GzipError::Truncated),
        (change(&|f| f[2] = 9), GzipError::Method(9)),
        (change(&|f| f[3] |= 0x80), GzipError::Flags(0x88)),
        (change(&|f| f[16] |= 6), GzipError::Broken),
        (change(&|f| f[trailer] ^= 1), length),
        (change(&|f| f.push(7)), GzipError::Trailing(good.len())),
    ] {
        assert_eq!(got, (PlaceError::Gzip(want), PlaceError::Gzip(want)));
    }
    let padded = [good.as_slice(), &[0; 4096]].concat();
    assert!(place_it(&padded).is_ok());
    let twice = refused(&gzip(&good));
    assert_eq!(twice, KernelError::UnsupportedFormat(Format::Gzip).into());
    assert_eq!(refused(&gzip(b"no kernel")), KernelError::TooShort(9).into());
    assert_eq!(refused(&gzip(&[1; 64])), KernelError::NotAnImage.into());
    assert_eq!(refused(&[1; 64]), KernelError::NotAnImage.into());
    assert_eq!(refused(b"\x28\xb5\x2f\xfd"), KernelError::UnsupportedFormat(Format::Zstd).into());
    for name in ["zstd22", "lzma", ""] {
        let got = refused(&zboot(&good, name));
        assert!(
            matches!(got, PlaceError::Zboot(ZbootError::Compression(found)) if found.as_bytes() == name.as_bytes()),
            "{got:?}"
        );
    }
    let raw = refused(&zboot(&image, "gzip"));
    assert_eq!(raw, GzipError::NotGzip.into());
    let mut far = zboot(&good, "gzip");
    far[10] = 0xff;
    assert!(matches!(refused(&far), PlaceError::Zboot(ZbootError::Payload { offset: 0xff_1000, .. })));
}

#[test]
fn the_compression_of_the_fit_is_that_of_the_data() {
    let compression = BundleError::Part { role: Role::Kernel, error: PartError::Compression };
    for (file, word) in [
        (kernel(), "gzip"),
        (zboot(&gzip(&kernel()), "gzip"), "gzip"),
        (gzip(&kernel()), "lzma"),
        (gzip(&kernel()), ""),
    ] {
        let got = place_in(&fit(&file, Some(0x1000), Some(word)), 8 * MIB);
        assert_eq!(got.unwrap_err(), PlaceError::Bundle(compression.clone()), "{word}");
    }
}

#[test]
fn a_broken_kernel_stops_the_boot_with_its_code() {
    // The packer would not make these: the bundle is made by hand.
    let code = |file: &[u8], room: u64| {
        let bundle = fit(file, Some(0x1000), None);
        let (bundle, room) = image::loose(&bundle, room, manifest(&bundle));
        let scenario = Scenario { device: Vec::new(), ..plain() };
        let image = image::Image { bundle: Some(bundle), ..image::Image::of(&scenario) };
        let functions = vec![rmm_model::sim::SimFunction::host_bridge()];
        let ran = Boot { image, room, functions, ..Boot::new(&scenario) }.run();
        ran.code().map(|code| code.number())
    };
    let good = gzip(&kernel());
    assert_eq!(code(&good, 8 * MIB), None);
    assert_eq!(code(&good[..good.len() - 1], 8 * MIB), Some(6005));
    assert_eq!(code(&zboot(&kernel(), "gzip"), 8 * MIB), Some(6005));
    assert_eq!(code(&zboot(&good, "zstd22"), 8 * MIB), Some(6002));
    assert_eq!(code(&gzip(&good), 8 * MIB), Some(6002));
    assert_eq!(code(&good, 0x1000), Some(6004));
    assert_eq!(code(&kernel(), 0x1000), Some(6004));
}

#[test]
fn the_packer_reserves_room_for_what_comes_out_and_compares_its_crc() {
    let image = kernel();
    let plain = packed(image.clone()).build().unwrap();
    for (file, format) in [(gzip(&image), Format::Gzip), (zboot(&gzip(&image), "gzip"), Format::Zboot)] {
        let packed = packed(file.clone()).build().unwrap();
        assert_eq!((packed.kernel_format, packed.kernel_image_len), (format, image.len() as u64));
        assert_eq!((packed.kernel_mem_len, packed.kernel.len), (MEM, file.len() as u64));
        assert_eq!(packed.kernel_offset % 4096, 0);
        assert!(packed.image_bytes.len() < plain.image_bytes.len(), "no gap in front of the kernel");
        let end = (packed.bundle_offset + packed.bundle_len).next_multiple_of(IMAGE_ALIGN);
        assert_eq!(packed.image_size, (end + MEM).next_multiple_of(IMAGE_ALIGN) + HEAP_SIZE);
        let read = inspect::Image::read(&packed.image_bytes).unwrap();
        assert_eq!(read.verify().unwrap().kernel().len_bytes(), MEM);
        let text = read.describe();
        assert!(text.contains(&format!("Image of {:#x} bytes, {MEM:#x} of memory", image.len())), "{text}");
    }
    assert_eq!((plain.kernel_format, plain.kernel_image_len), (Format::Image, image.len() as u64));
    let mut crc = gzip(&image);
    let at = crc.len() - 8;
    crc[at] ^= 1;
    for file in [crc.clone(), zboot(&crc, "gzip")] {
        let got = packed(file).build().unwrap_err();
        assert!(matches!(got, PackError::Kernel(KernelFileError::Gzip(_))), "{got:?}");
    }
    let got = packed(zboot(&gzip(&image), "lzma")).build().unwrap_err();
    assert!(matches!(got, PackError::Kernel(KernelFileError::Zboot(ZbootError::Compression(_)))), "{got:?}");
}

#[test]
fn a_ramdisk_in_the_memory_behind_the_kernel_makes_it_move() {
    // A kernel at a multiple of 2 MiB, and right behind its file a ramdisk: it may not stay.
    let span = Span::new(BASE + 2 * MIB, 6 * MIB).unwrap();
    let image = kernel();
    let bundle = fit(&image, Some(2 << 20), None);
    let kernel = Bundle::parse(&bundle, &manifest(&bundle)).unwrap().kernel;
    let end = 0x1000 + image.len();
    let other = fit(&[7; 64], Some((2 << 20) - 0x1000 + end), None);
    let ramdisk = Bundle::parse(&other, &manifest(&other)).unwrap().kernel;
    let mut bytes = vec![0; 8 << 20];
    let area = IpaRange::new(BASE, 16 * MIB + HEAP_SIZE).unwrap();
    let room = Room::new(BASE + 8 * MIB, &mut bytes);
    let placed = place::kernel(kernel.clone(), Some(&ramdisk), area, span, room).unwrap();
    assert_eq!((placed.plan.kernel().base(), placed.written), (BASE + 8 * MIB, image.len()));
    let inline = fit(&[7; 64], None, None);
    let ramdisk = Bundle::parse(&inline, &manifest(&inline)).unwrap().kernel;
    let got = place::kernel(kernel, Some(&ramdisk), area, span, Room::default());
    assert_eq!(got.unwrap_err(), PlanError::RamdiskInline.into());
}

#[test]
fn a_small_compressed_kernel_that_was_cut_anywhere_is_refused() {
    let image = &kernel()[..300];
    let good = zboot(&gzip(image), "gzip");
    assert_eq!(place_it(&good).unwrap().2, image);
    for len in 1..good.len() - 0x1234 {
        assert!(place_it(&good[..len]).is_err(), "{len}");
    }
    let good = gzip(image);
    for len in 1..good.len() {
        assert!(place_it(&good[..len]).is_err(), "{len}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_bytes_behind_a_magic_number_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), kind in 0..3u8) {
        let file = match kind {
            0 => [b"\x1f\x8b\x08\0\0\0\0\0\0\0", bytes.as_slice()].concat(),
            1 => [b"\x1f\x8b\x08", bytes.as_slice()].concat(),
            _ => zboot(&bytes, "gzip"),
        };
        let _ = place_in(&fit(&file, Some(0x1000), None), 4 * MIB);
    }

    #[test]
    fn a_changed_gzip_file_panics_nowhere_and_gives_the_kernel_or_an_error(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let image = &kernel()[..2000];
        let mut file = gzip(image);
        for (at, value) in changes {
            let at = at.index(file.len());
            file[at] = value;
        }
        // Without the CRC other bytes may come out: of the length that the trailer says.
        if let Ok((_, Format::Gzip, written)) = place_in(&fit(&file, Some(0x1000), None), 8 * MIB) {
            prop_assert_eq!(written.len(), image.len());
        }
    }
}
