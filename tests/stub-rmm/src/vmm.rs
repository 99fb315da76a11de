//! The VMM's part: where the image goes, and the device tree that the realm is shown.

use crate::layout::{ITS_DOORBELL, PAGE, REALM_BASE};
use crate::mmio::RealmRam;
use crate::tree::{self, Console, Machine};
use alloc::format;
use alloc::string::String;
use rmm_model::rim::{Loaded, Parameters, RecEntry};
use rmm_model::scenario::{RealmSpec, Vmm};
use rmm_model::{Board, Range};

/// Image, tree and kernel are placed on multiples of this.
const ALIGN: u64 = 0x20_0000;
/// Least RAM of a realm.
const LEAST_RAM: u64 = 0x200_0000;
/// `image_size` of something without an arm64 Image header.
const UNKNOWN_IMAGE_SIZE: u64 = 0x100_0000;
/// Most bytes of the tree that is built.
const TREE_ROOM: u64 = ALIGN;
/// Offset and value of the magic number in an arm64 Image header.
const MAGIC_OFFSET: u64 = 56;
const MAGIC: [u8; 4] = *b"ARM\x64";
/// Part of the 32-bit window that is kept for the real BARs: a device with 32-bit BARs can be assigned too.
const REAL_BARS: u64 = 0x3000_0000;
/// Granularity of bridge windows.
const BRIDGE_UNIT: u64 = 0x10_0000;
/// Realm flags: DA.
const FLAG_DA: u64 = 1 << 3;
/// Breakpoints and watchpoints minus one, as on the CPU that the stub is run with.
const NUM_BPS: u8 = 5;
const NUM_WPS: u8 = 3;

/// Extras for booting a kernel without the firmware (command line options of the stub).
#[derive(Clone, Copy, Debug, Default)]
pub struct Direct<'a> {
    /// Command line of the kernel.
    pub bootargs: Option<&'a str>,
    /// Address and bytes of the ramdisk, which QEMU loaded.
    pub initrd: Option<(u64, u64)>,
}

/// What was loaded where.
#[derive(Clone, Copy, Debug)]
pub struct Placed {
    /// Entry point.
    pub image: u64,
    /// Bytes of the image file.
    pub image_len: u64,
    /// Bytes that the image reserves.
    pub image_size: u64,
    /// The tree.
    pub tree: u64,
    /// Bytes of the tree.
    pub tree_len: u64,
}

impl Placed {
    /// Says what is measured: all RAM (where RIPAS is), image file, tree, and each REC with the same registers.
    pub fn loaded(&self, ram: &RealmRam, realm: &RealmSpec, vmm: &Vmm) -> Loaded {
        let rec = RecEntry { pc: self.image, gprs: [self.tree, 0, 0, 0, 0, 0, 0, 0] };
        Loaded {
            rules: realm.rim_rules,
            hash: realm.hash,
            parameters: Parameters {
                flags: if realm.da { FLAG_DA } else { 0 },
                s2sz: crate::layout::IPA_WIDTH as u8,
                num_bps: NUM_BPS,
                num_wps: NUM_WPS,
                ..Parameters::default()
            },
            ram: alloc::vec![Range::new(ram.base(), ram.end() - ram.base())],
            data: alloc::vec![Range::new(self.image, self.image_len), Range::new(self.tree, self.tree_len)],
            recs: alloc::vec![rec; usize::from(vmm.recs.max(1))],
        }
    }
}

/// Describes the machine to the model.
pub fn board(machine: &Machine, ram: &RealmRam, console: Console) -> Board {
    let mut mmio = machine.gic.clone();
    if console == Console::Pl011 {
        mmio.push(Range::new(machine.uart.base, machine.uart.len.max(PAGE)));
    }
    debug_assert!(mmio.iter().any(|range| range.contains(ITS_DOORBELL)));
    Board {
        ipa_width: crate::layout::IPA_WIDTH as u8,
        ram: alloc::vec![Range::new(ram.base(), ram.end() - ram.base())],
        ecam: machine.ecam,
        first_bus: 0,
        mmio,
        pci_windows: alloc::vec![realm_mmio32(machine), machine.mmio64],
        real_bars: Range::new(REAL_BARS, (machine.mmio32.top() & !(BRIDGE_UNIT - 1)) - REAL_BARS),
        real_bars_high: Range::default(),
    }
}

/// The part of the 32-bit window that the realm is told about.
fn realm_mmio32(machine: &Machine) -> Range {
    assert!(machine.mmio32.contains(REAL_BARS));
    Range::new(machine.mmio32.base, REAL_BARS - machine.mmio32.base)
}

/// Bounds the realm's RAM, or says why it is too small.
pub fn ram(machine: &Machine, vmm: &Vmm) -> Result<RealmRam, String> {
    let most = machine.memory.top().saturating_sub(REALM_BASE);
    let size = vmm.ram_size.unwrap_or(most).min(most) / ALIGN * ALIGN;
    if size < LEAST_RAM {
        return Err(format!("{size:#x} bytes of RAM for the realm are too few: raise -m or vmm.ram_size"));
    }
    // SAFETY: RAM by QEMU's tree, above everything of the stub (layout.rs), below the end of the identity map's RAM.
    Ok(unsafe { RealmRam::new(REALM_BASE, REALM_BASE + size) })
}

/// Puts the image where the scenario wants it, and the tree above it.
///
/// `image_len`: bytes of the image file, 0 if unknown (then `image_size` of its header counts).
pub fn place(
    ram: &RealmRam,
    machine: &Machine,
    qemu_tree: &[u8],
    vmm: &Vmm,
    image_len: u64,
    direct: &Direct<'_>,
    console: Console,
) -> Result<Placed, String> {
    let image = vmm.load_address.unwrap_or(REALM_BASE);
    if !image.is_multiple_of(ALIGN) || !ram.contains(image, PAGE) {
        return Err(format!("vmm.load_address {image:#x} is no multiple of 2 MiB in the realm's RAM"));
    }
    if image != REALM_BASE && !has_magic(ram, image) && has_magic(ram, REALM_BASE) {
        move_image(ram, image, image_len)?;
    }
    let image_size = image_size(ram, image);
    let image_len = if image_len == 0 { image_size } else { image_len };
    if !ram.contains(image, image_size.max(image_len)) {
        return Err(format!("the image at {image:#x} needs more RAM: {image_size:#x} bytes"));
    }
    if let Some(offset) = vmm.flip_kernel_byte {
        if offset >= image_len {
            return Err(format!("vmm.flip_kernel_byte {offset:#x} is behind the image"));
        }
        let mut byte = [0];
        ram.read(image + offset, &mut byte);
        ram.write(image + offset, &[byte[0] ^ 0xff]);
    }

    let mut blob = tree::build(qemu_tree, machine, ram, realm_mmio32(machine), vmm, direct, console)
        .map_err(|error| format!("the realm's device tree: {error}"))?;
    if let Some(len) = vmm.truncate_tree {
        blob.truncate(len.try_into().unwrap_or(usize::MAX));
    }
    if let Some(noise) = vmm.tree_noise {
        noise.apply(&mut blob);
    }
    let tree = tree_address(ram, image, image_size.max(image_len))
        .ok_or_else(|| format!("no room for the tree beside the image at {image:#x}"))?;
    ram.write(tree, &blob);
    Ok(Placed { image, image_len, image_size, tree, tree_len: blob.len() as u64 })
}

/// The first 2 MiB boundary above the image, or the last one below it when there is no room above.
fn tree_address(ram: &RealmRam, image: u64, image_size: u64) -> Option<u64> {
    let above = (image + image_size).next_multiple_of(ALIGN);
    if ram.contains(above, TREE_ROOM) {
        return Some(above);
    }
    let below = (image / ALIGN).saturating_sub(1) * ALIGN;
    ram.contains(below, TREE_ROOM).then_some(below)
}

fn has_magic(ram: &RealmRam, image: u64) -> bool {
    let mut magic = [0; 4];
    if !ram.contains(image, 4096) {
        return false;
    }
    ram.read(image + MAGIC_OFFSET, &mut magic);
    magic == MAGIC
}

fn image_size(ram: &RealmRam, image: u64) -> u64 {
    let mut size = [0; 8];
    if !has_magic(ram, image) {
        return UNKNOWN_IMAGE_SIZE;
    }
    ram.read(image + 16, &mut size);
    u64::from_le_bytes(size)
}

/// Moves the image from where the harness loads it by default.
fn move_image(ram: &RealmRam, to: u64, image_len: u64) -> Result<(), String> {
    let len = image_size(ram, REALM_BASE).max(image_len);
    if !ram.contains(to, len) {
        return Err(format!("the image does not fit at {to:#x}"));
    }
    ram.copy(REALM_BASE, to, len as usize);
    let left = len.min(to - REALM_BASE);
    ram.zero(REALM_BASE, left as usize);
    Ok(())
}
