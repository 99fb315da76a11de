//! Image, bundle and device tree as a VMM would have loaded them: leaked, because the firmware uses them in place.
use super::{board, ram};
use dtoolkit::ToPropertyValue;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeProperty};
use gatehouse::abi::fit::OsKind;
use gatehouse::abi::image::{HEAP_SIZE, IMAGE_ALIGN, LINUX_MAGIC, LinuxHeader, SLOT_MAGIC, Slot};
use gatehouse::arch::host::{HostRam, RealmRam as _, ipa_width};
use gatehouse::boot::place::Room;
use gatehouse::phases::{BundleBytes, BundleSource};
use gatehouse_cli::pack::{Pack, Packed};
use rmm_model::Scenario;
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};
use zerocopy::{FromBytes, IntoBytes};

const VIRT: &[u8] = include_bytes!("../data/virt.dtb");
/// The command line of the common bundle.
pub const CMDLINE: &str = "console=ttyAMA0 quiet";
/// Bytes of its ramdisk.
pub const RAMDISK_LEN: usize = 0x1234;

/// What a boot is given.
#[derive(Clone, Copy)]
pub struct Image {
    pub tree: u64,
    /// The appended bundle.
    pub bundle: Option<BundleBytes<'static>>,
    /// A bundle is pinned: its length, and SHA-256 of its structure.
    pub pinned: Option<(u64, [u8; 32])>,
}

impl Image {
    /// Returns the common image with the scenario's policy, and what its VMM does to it.
    pub fn of(scenario: &Scenario) -> Self {
        let vmm = &scenario.vmm;
        let bundle = match vmm.flip_kernel_byte {
            None => packed_for(scenario),
            Some(at) => {
                let mut packed = pack_for(scenario).build().unwrap();
                // The offset counts from the image's start; the kernel is the last part.
                let at = packed.kernel_offset + at;
                packed.image_bytes[usize::try_from(at).unwrap()] ^= 0xff;
                load(&packed)
            }
        };
        let tree = match vmm.truncate_tree {
            None => common_tree(),
            Some(len) => {
                // The rest of the page is the VMM's, zero.
                let mut bytes = tree(|_| {});
                let whole = bytes.len();
                bytes.truncate(usize::try_from(len).unwrap());
                bytes.resize(whole, 0);
                place(&bytes, 4096)
            }
        };
        Self { tree, bundle: Some(bundle), pinned: None }
    }

    /// Returns the common image with the bundle of `pack`.
    pub fn packed(pack: &Pack) -> Self {
        Self { tree: common_tree(), bundle: Some(load(&pack.build().unwrap())), pinned: None }
    }

    /// Returns the common image with a byte flipped behind the manifest, at this offset of the file.
    pub fn flipped(at: impl FnOnce(&Packed) -> u64) -> Self {
        let mut packed = pack().build().unwrap();
        let at = usize::try_from(at(&packed)).unwrap();
        packed.image_bytes[at] ^= 0x10;
        Self { tree: common_tree(), bundle: Some(load(&packed)), pinned: None }
    }

    /// Returns the common image with another tree.
    pub fn with_tree(bytes: &[u8]) -> Self {
        Self { tree: place(bytes, 4096), bundle: Some(packed_for(&super::plain())), pinned: None }
    }

    /// Returns what the slot of the image says.
    pub fn source(&self) -> BundleSource<'static> {
        match (self.pinned, self.bundle) {
            (Some((len, manifest_sha256)), _) => BundleSource::External { len, manifest_sha256 },
            (None, Some(bundle)) => BundleSource::Appended(bundle),
            (None, None) => BundleSource::None,
        }
    }
}

/// Copies bytes to a leaked place of this alignment.
pub fn place(bytes: &[u8], align: usize) -> u64 {
    let room = vec![0u8; bytes.len() + align].leak();
    let skip = room.as_ptr().addr().next_multiple_of(align) - room.as_ptr().addr();
    let to = &mut room[skip..skip + bytes.len()];
    to.copy_from_slice(bytes);
    u64::try_from(to.as_mut_ptr().expose_provenance()).unwrap()
}

/// Puts an image, after a change, so many bytes behind a multiple of 2 MiB; returns its bundle and the room behind.
pub fn load_with_room(
    packed: &Packed,
    skip: usize,
    change: impl FnOnce(&mut Vec<u8>),
) -> (BundleBytes<'static>, Room<'static>) {
    let mut file = packed.image_bytes.clone();
    change(&mut file);
    let start = usize::try_from(packed.bundle_offset).unwrap();
    // The header's image_size would hold for a multiple of 2 MiB.
    let room = packed.image_size - HEAP_SIZE - file.len() as u64 + IMAGE_ALIGN;
    place_with_room(&file, skip, start, room, packed.manifest_sha256)
}

/// Puts a bundle somewhere, with so many bytes of room behind.
pub fn loose(bundle: &[u8], room: u64, manifest: [u8; 32]) -> (BundleBytes<'static>, Room<'static>) {
    place_with_room(bundle, 0x3000, 0, room, manifest)
}

fn place_with_room(
    file: &[u8],
    skip: usize,
    bundle: usize,
    room: u64,
    manifest_sha256: [u8; 32],
) -> (BundleBytes<'static>, Room<'static>) {
    let align = usize::try_from(IMAGE_ALIGN).unwrap();
    let end = (skip + file.len()).next_multiple_of(4096);
    let all = vec![0u8; align + end + usize::try_from(room).unwrap()].leak();
    let front = all.as_ptr().addr().next_multiple_of(align) - all.as_ptr().addr();
    let base = u64::try_from(all.as_mut_ptr().expose_provenance() + front).unwrap();
    let (image, free) = all[front..].split_at_mut(end);
    image[skip..skip + file.len()].copy_from_slice(file);
    let bytes = &image[skip + bundle..skip + file.len()];
    let address = base + u64::try_from(skip + bundle).unwrap();
    let room = &mut free[..usize::try_from(room).unwrap()];
    let room = Room::new(base + u64::try_from(end).unwrap(), room);
    (BundleBytes { address, bytes, manifest_sha256 }, room)
}

/// Reads memory that the payload is handed.
pub fn read(address: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    HostRam::new(ipa_width()).read(address, &mut bytes);
    bytes
}

/// Puts an image at a multiple of 2 MiB and returns its bundle.
pub fn load(packed: &Packed) -> BundleBytes<'static> {
    let align = usize::try_from(IMAGE_ALIGN).unwrap();
    let file = &packed.image_bytes;
    let room = vec![0u8; file.len() + align].leak();
    let skip = room.as_ptr().addr().next_multiple_of(align) - room.as_ptr().addr();
    room[skip..skip + file.len()].copy_from_slice(file);
    let start = skip + usize::try_from(packed.bundle_offset).unwrap();
    let bytes = &room[start..start + usize::try_from(packed.bundle_len).unwrap()];
    let address = u64::try_from(bytes.as_ptr().expose_provenance()).unwrap();
    BundleBytes { address, bytes, manifest_sha256: packed.manifest_sha256 }
}

fn linux_header(image_size: u64) -> LinuxHeader {
    LinuxHeader {
        image_size: image_size.into(),
        flags: 0xa.into(),
        magic: LINUX_MAGIC,
        ..LinuxHeader::read_from_bytes(&[0; 64]).unwrap()
    }
}

/// The common bundle: a small kernel, a ramdisk, a command line; the policy requires 02.0.
pub fn pack() -> Pack {
    pack_for(&super::plain())
}

/// The common bundle with the policy that the scenario asks for.
pub fn pack_for(scenario: &Scenario) -> Pack {
    let slot = Slot {
        magic: SLOT_MAGIC,
        version: 1.into(),
        ..Slot::read_from_bytes(&[0; size_of::<Slot>()]).unwrap()
    };
    let mut firmware = linux_header(0x1000 + HEAP_SIZE).as_bytes().to_vec();
    firmware.extend(slot.as_bytes());
    firmware.resize(0x1000, 0xf0);
    let mut kernel = linux_header(0x8000).as_bytes().to_vec();
    kernel.resize(0x5000, 0x4b);
    Pack {
        svn: 0,
        overlay: None,
        firmware,
        kernel,
        ramdisk: Some(vec![0x52; RAMDISK_LEN]),
        cmdline: CMDLINE.into(),
        os: OsKind::from_word(&scenario.bundle.os).unwrap_or(OsKind::Half),
        policy: policy(scenario),
    }
}

/// Returns the encoded policy that the scenario asks for.
pub fn policy(scenario: &Scenario) -> Option<Vec<u8>> {
    let text = scenario.policy_toml()?;
    let policy = gatehouse_cli::policy::toml::parse(&text, std::path::Path::new("tests/data/scenarios"));
    Some(gatehouse::policy::cbor::encode(&policy.unwrap_or_else(|error| panic!("{error}\n{text}"))))
}

/// The bundle for a scenario; one for all scenarios with the same policy and the same OS.
fn packed_for(scenario: &Scenario) -> BundleBytes<'static> {
    type Known = BTreeMap<(Option<String>, String), BundleBytes<'static>>;
    static KNOWN: Mutex<Known> = Mutex::new(BTreeMap::new());
    let key = (scenario.policy_toml(), scenario.bundle.os.clone());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    *known.entry(key).or_insert_with(|| load(&pack_for(scenario).build().unwrap()))
}

fn common_tree() -> u64 {
    static TREE: OnceLock<u64> = OnceLock::new();
    *TREE.get_or_init(|| place(&tree(|_| {}), 4096))
}

/// QEMU's tree with the RAM and the windows of the board, and a change.
pub fn tree(change: impl FnOnce(&mut DeviceTree)) -> Vec<u8> {
    let split = |value: u64| [u32::try_from(value >> 32).unwrap(), value as u32];
    let mut tree = DeviceTree::from_fdt(&Fdt::new(VIRT).unwrap());
    let reg: Vec<u32> = [split(ram().base), split(ram().len)].concat();
    set(&mut tree, "/memory@40000000", "reg", reg);
    let mut ranges = Vec::new();
    for (window, space) in board().pci_windows.iter().zip([0x0200_0000, 0x0300_0000]) {
        ranges.push(space);
        ranges.extend([split(window.base), split(window.base), split(window.len)].concat());
    }
    set(&mut tree, "/pcie@10000000", "ranges", ranges);
    change(&mut tree);
    tree.to_dtb()
}

/// Sets a property.
pub fn set(tree: &mut DeviceTree, path: &str, name: &str, value: impl ToPropertyValue) {
    let node = tree.find_node_mut(path).unwrap();
    node.add_property(DeviceTreeProperty::new(name, value).unwrap());
}
