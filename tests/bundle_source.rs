//! Where the bundle is: every byte of the slot counts, and the initrd range of a hostile tree is taken only as it must be.
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use gatehouse::abi::image::{FLAG_EXTERNAL, SLOT_MAGIC, Slot};
use gatehouse::addr::{AddrError, IpaRange};
use gatehouse::boot::source::{ExternalError, SlotError, Source, pages};
use gatehouse::fdt::check::Tree;
use gatehouse::fdt::initrd::{InitrdError, initrd};
use zerocopy::{FromBytes, IntoBytes};

/// The firmware's file ends here, and the heap begins there.
const FIRST: u64 = 0x5_0000;
const END: u64 = 0x100_0000;
const LEN: u64 = 0x2345;

fn slot(flags: u32, offset: u64, len: u64) -> Slot {
    Slot {
        magic: SLOT_MAGIC,
        version: 1.into(),
        flags: flags.into(),
        bundle_offset: offset.into(),
        bundle_len: len.into(),
        manifest_sha256: [0x5a; 32],
    }
}

fn read(slot: &Slot) -> Result<Source, SlotError> {
    Source::read(slot, FIRST, END)
}

#[test]
fn a_slot_names_no_bundle_or_one_behind_the_firmware_or_one_beside_the_image() {
    assert_eq!(read(&slot(0, 0, 0)), Ok(Source::None));
    let appended = Source::Appended { offset: FIRST, len: LEN };
    assert_eq!(read(&slot(0, FIRST, LEN)), Ok(appended));
    assert_eq!(
        read(&slot(0, END - 0x3000, 0x3000)),
        Ok(Source::Appended { offset: END - 0x3000, len: 0x3000 })
    );
    assert_eq!(read(&slot(FLAG_EXTERNAL, 0, LEN)), Ok(Source::External { len: LEN }));
}

#[test]
fn a_slot_that_contradicts_itself_or_the_image_is_refused_by_name() {
    let bad = |offset, len| assert_eq!(read(&slot(0, offset, len)), Err(SlotError::Appended { offset, len }));
    bad(FIRST + 1, LEN);
    bad(FIRST - 0x1000, LEN);
    bad(0, LEN);
    bad(END - 0x3000, 0x3001);
    bad(END, 1);
    bad(FIRST, u64::MAX);
    bad(!0xfff, 0x1000);
    for (offset, len) in [(0, 0), (FIRST, LEN), (1, LEN)] {
        assert_eq!(read(&slot(FLAG_EXTERNAL, offset, len)), Err(SlotError::External { offset, len }));
    }
    for flags in [2, 3, 0x8000_0000, u32::MAX] {
        for (offset, len) in [(0, 0), (0, LEN), (FIRST, LEN)] {
            assert_eq!(read(&slot(flags, offset, len)), Err(SlotError::Flags(flags)));
        }
    }
    assert_eq!(read(&Slot { version: 2.into(), ..slot(0, FIRST, LEN) }), Err(SlotError::Version(2)));
}

#[test]
fn every_flipped_bit_of_a_slot_is_another_bundle_or_none() {
    for good in [slot(0, FIRST, LEN), slot(FLAG_EXTERNAL, 0, LEN), slot(0, 0, 0)] {
        let source = read(&good).unwrap();
        let mut refused = 0;
        for bit in 0..size_of::<Slot>() * 8 {
            let mut bytes = [0; size_of::<Slot>()];
            bytes.copy_from_slice(good.as_bytes());
            bytes[bit / 8] ^= 1 << (bit % 8);
            let flipped = Slot::read_from_bytes(&bytes).unwrap();
            match read(&flipped) {
                Err(_) => refused += 1,
                // The offset of a bundle that is not there is never used.
                Ok(Source::None) => assert!(source == Source::None && flipped.bundle_len == 0),
                Ok(other) => {
                    assert!(other != source || flipped.manifest_sha256 != good.manifest_sha256, "bit {bit}");
                    // Magic, version and unknown flags are never taken.
                    assert!(bit >= 16 * 8 || bit == 12 * 8, "bit {bit}");
                }
            }
        }
        assert!(refused >= 12 * 8, "{refused}");
    }
}

/// A tree with these values of the two properties.
fn tree(start: Option<&[u8]>, end: Option<&[u8]>) -> Tree {
    let mut tree = DeviceTree::new();
    let mut chosen = DeviceTreeNode::new("chosen").unwrap();
    for (name, value) in [("linux,initrd-start", start), ("linux,initrd-end", end)] {
        if let Some(value) = value {
            chosen.add_property(DeviceTreeProperty::new(name, value).unwrap());
        }
    }
    tree.root.add_child(chosen);
    Tree::check(tree.to_dtb()).unwrap()
}

#[test]
fn the_range_is_read_in_one_cell_or_two() {
    let (one, two) = (0x8000_1000u32.to_be_bytes(), 0x1_8000_2345u64.to_be_bytes());
    let whole = 0x8000_1000u64.to_be_bytes();
    assert_eq!(initrd(&tree(Some(&one), Some(&two))), Ok(0x8000_1000..0x1_8000_2345));
    assert_eq!(
        initrd(&tree(Some(&whole), Some(&0x8000_1001u32.to_be_bytes()))),
        Ok(0x8000_1000..0x8000_1001)
    );
}

#[test]
fn a_range_that_is_none_is_refused_by_name() {
    let (start, end) = (0x8000_0000u64.to_be_bytes(), 0x8000_1000u64.to_be_bytes());
    let (no_start, no_end) = ("linux,initrd-start", "linux,initrd-end");
    assert_eq!(initrd(&tree(None, Some(&end))), Err(InitrdError::Missing(no_start)));
    assert_eq!(initrd(&tree(Some(&start), None)), Err(InitrdError::Missing(no_end)));
    let bare = Tree::check(DeviceTree::new().to_dtb()).unwrap();
    assert_eq!(initrd(&bare), Err(InitrdError::Missing("/chosen")));
    for len in [0, 1, 3, 5, 7, 9, 12, 16] {
        let value = vec![0x40; len];
        assert_eq!(initrd(&tree(Some(&value), Some(&end))), Err(InitrdError::Cells(no_start)));
        assert_eq!(initrd(&tree(Some(&start), Some(&value))), Err(InitrdError::Cells(no_end)));
    }
    let empty = |start, end| Err(InitrdError::Empty { start, end });
    assert_eq!(initrd(&tree(Some(&start), Some(&start))), empty(0x8000_0000, 0x8000_0000));
    assert_eq!(initrd(&tree(Some(&end), Some(&start))), empty(0x8000_1000, 0x8000_0000));
}

fn span(base: u64, top: u64) -> IpaRange {
    IpaRange::from_bounds(base, top).unwrap()
}

/// Asks for a bundle of [`LEN`] bytes: two ranges of RAM that touch, and the image in the first.
fn asked(start: u64, end: u64) -> Result<IpaRange, ExternalError> {
    let ram = [span(0x8000_0000, 0x9000_0000), span(0x9000_0000, 0xa000_0000)];
    pages(&(start..end), LEN, &ram, &span(0x8020_0000, 0x8400_0000))
}

#[test]
fn the_range_has_the_length_of_the_bundle_up_to_the_end_of_its_page() {
    let length = |have| Err(ExternalError::Length { have, len: LEN });
    let two = |start| Ok(span(start, start + 0x3000));
    let start = 0x9000_1000;
    assert_eq!(asked(start, start + LEN), two(start));
    assert_eq!(asked(start, start + 0x3000), two(start), "rounded up by the VMM");
    assert_eq!(asked(start, start + LEN - 1), length(LEN - 1));
    assert_eq!(asked(start, start + 0x3001), length(0x3001));
    assert_eq!(asked(start, start + 0x4000), length(0x4000));
    // Not at a page: kvmtool aligns to four bytes.
    let odd = 0x9000_1ffc;
    assert_eq!(asked(odd, odd + LEN), Ok(span(0x9000_1000, 0x9000_5000)));
    assert_eq!(asked(odd, 0x9000_5001), length(0x3005));
    assert_eq!(asked(u64::MAX - 0x10, u64::MAX), length(0x10));
    assert_eq!(asked(u64::MAX - LEN, u64::MAX), length(LEN));
    assert_eq!(asked(0, u64::MAX), length(u64::MAX));
}

#[test]
fn the_range_lies_in_ram_and_touches_no_page_of_the_image() {
    let at = |start: u64| asked(start, start + LEN);
    for (start, pages) in [
        (0x7fff_f000, 0x7fff_f000..0x8000_2000),
        (0x7fff_fffc, 0x7fff_f000..0x8000_3000),
        (0x9fff_e000, 0x9fff_e000..0xa000_1000),
        (0xa000_0000, 0xa000_0000..0xa000_3000),
        (0, 0..0x3000),
        (1 << 47, 1 << 47..(1 << 47) + 0x3000),
        // No node of the tree has all of it.
        (0x8fff_f000, 0x8fff_f000..0x9000_2000),
    ] {
        assert_eq!(at(start), Err(ExternalError::NotRam(span(pages.start, pages.end))));
    }
    for start in [0x801f_e000, 0x8020_0000, 0x8300_0000, 0x83ff_fffc, 0x801f_dffc] {
        assert!(matches!(at(start), Err(ExternalError::Firmware(_))), "{start:#x}");
    }
    assert_eq!(at(0x801f_d000), Ok(span(0x801f_d000, 0x8020_0000)));
    assert_eq!(at(0x8400_0000), Ok(span(0x8400_0000, 0x8400_3000)));
    let whole = pages(&(0..u64::MAX), u64::MAX, &[], &span(0, 0x1000));
    assert!(matches!(
        whole,
        Err(ExternalError::Length { .. } | ExternalError::Address(AddrError::BadRange { .. }))
    ));
}
