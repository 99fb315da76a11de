//! A bundle beside the image: in memory that is RAM of the realm and that no allocator of this process has.
//!
//! The heap of the firmware is this process's, so what a boot calls its own memory must hold every address that an
//! allocator gives out. Static memory lies below all of them (the program is loaded first, and at its lowest address): the
//! image's area begins behind it.
use super::image::{Image, tree};
use super::{Boot, ram};
use dtoolkit::model::{DeviceTree, DeviceTreeProperty};
use gatehouse::addr::IpaRange;
use gatehouse::boot::place::Room;
use rmm_model::Scenario;
use std::sync::{Mutex, PoisonError};

const ARENA_LEN: usize = 64 << 20;
const PAGE: usize = 4096;

#[repr(C, align(4096))]
struct Arena {
    bytes: [u8; ARENA_LEN],
    used: usize,
}

static ARENA: Mutex<Arena> = Mutex::new(Arena { bytes: [0; ARENA_LEN], used: 0 });

/// Copies bytes to whole pages of their own, `skip` bytes behind the first page's start, and returns the address.
pub fn put(bytes: &[u8], skip: usize) -> u64 {
    let mut arena = ARENA.lock().unwrap_or_else(PoisonError::into_inner);
    let start = arena.used;
    arena.used = (start + skip + bytes.len()).next_multiple_of(PAGE);
    let to = &mut arena.bytes[start + skip..start + skip + bytes.len()];
    to.copy_from_slice(bytes);
    u64::try_from(to.as_mut_ptr().expose_provenance()).unwrap()
}

/// Returns the first address behind all of [`put`]: the image's area begins at the next multiple of 2 MiB.
pub fn arena_end() -> u64 {
    let mut arena = ARENA.lock().unwrap_or_else(PoisonError::into_inner);
    u64::try_from(arena.bytes.as_mut_ptr().expose_provenance() + ARENA_LEN).unwrap()
}

/// What the image calls its own memory: all RAM above the static memory of the program.
pub fn own() -> IpaRange {
    let used = arena_end() + 2 * u64::try_from(PAGE).unwrap();
    assert!(used > ram().base, "the program is not loaded into the realm's RAM");
    IpaRange::from_bounds(used.next_multiple_of(PAGE as u64), ram().top()).unwrap()
}

/// A tree that names this range, in pages outside the image's area.
pub fn tree_naming(start: u64, end: u64) -> u64 {
    tree_with(|tree| {
        let chosen = tree.find_node_mut("/chosen").unwrap();
        for (name, value) in [("linux,initrd-start", start), ("linux,initrd-end", end)] {
            chosen.add_property(DeviceTreeProperty::new(name, value.to_be_bytes().as_slice()).unwrap());
        }
    })
}

/// A tree with a change, in pages outside the image's area.
pub fn tree_with(change: impl FnOnce(&mut DeviceTree)) -> u64 {
    put(&tree(change), 0)
}

/// A boot of an image that pins a bundle with this manifest and length, under this tree.
pub fn boot(scenario: &Scenario, tree: u64, pinned: (u64, [u8; 32])) -> Boot<'_> {
    let image = Image { tree, bundle: None, pinned: Some(pinned) };
    let room = vec![0; 6 << 20].leak();
    let base = u64::try_from(room.as_mut_ptr().expose_provenance()).unwrap();
    let own = own();
    Boot { image, own, firmware: Some(own), room: Room::new(base, room), ..Boot::new(scenario) }
}
