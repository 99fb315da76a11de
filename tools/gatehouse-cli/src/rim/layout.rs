//! Puts files where a VMM would: addresses, order, and who enters where.
//!
//! The rules for kvmtool and QEMU are those of `veraison/cca-realm-measurements` (0.3); the VMMs may change theirs.
//!
//! Trust: files and options of the caller.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::Rules;
use super::board::{Board, Layout, Part, Place};
use super::chain::Rec;
use super::options::Options;
use super::plan::{Blob, Plan, Step};
use gatehouse::abi::image::{IMAGE_ALIGN, LINUX_MAGIC, LinuxHeader};
use gatehouse::addr::{AddrError, GRANULE_SIZE, IpaRange, IpaWidth};
use gatehouse::rsi::HashAlgorithm;
use thiserror::Error;
use zerocopy::FromBytes;

/// Log of what was loaded, in bytes; it is populated and not measured.
const LOG_LEN: u64 = 0x1_0000;
/// Room that a fixed layout keeps for the tree: what a kernel allows.
const TREE_ROOM: u64 = 2 << 20;
/// kvmtool keeps the tree below this, so that 32-bit guests reach it.
const KVMTOOL_TREE_TOP: u64 = 0x9000_0000;
/// Room for tree and alignment below that.
const KVMTOOL_TREE_ROOM: u64 = 0x21_0000;
/// Least IPA width of kvmtool, less the bit of the unprotected half.
const KVMTOOL_WIDTH: u32 = 32;
/// QEMU places the ramdisk at most this far into RAM.
const QEMU_INITRD_AT: u64 = 128 << 20;
/// QEMU's log lies this far behind the tree.
const QEMU_LOG_AT: u64 = 1 << 20;
/// Most RECs of a realm that anybody would measure.
const MAX_RECS: u64 = 512;
/// IPA width under QEMU while the high PCI window ends below 1 TiB, and the most RAM with which it does.
const QEMU_WIDTH: (u8, u64) = (41, 255 << 30);

/// Why files cannot be placed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum LayoutError {
    /// The image has no arm64 Image header, which says where it goes.
    #[error("the image is not an arm64 kernel Image")]
    NotAnImage,
    /// The board populates a tree and none is given.
    #[error("this board populates a device tree, and none is given")]
    NoTree,
    /// The board populates no such part.
    #[error("this board does not populate: {0}")]
    NotPopulated(&'static str),
    /// A layout that has no such thing.
    #[error("this board's layout has no {0}")]
    NoSuch(&'static str),
    /// The layout follows from the size of RAM.
    #[error("the size of RAM is needed")]
    NoRamSize,
    /// RAM that the VMM would not make.
    #[error("{0:#x} bytes of RAM: not a multiple of 2 MiB")]
    RamSize(u64),
    /// The layout's rule does not reach that far.
    #[error("{0:#x} bytes of RAM: no rule for the IPA width, it must be given")]
    WidthUnknown(u64),
    /// No place for a part.
    #[error("{0}: no room, RAM is too small")]
    NoRoom(&'static str),
    /// A part that is empty or wraps.
    #[error("{part}: {error}")]
    Part {
        /// Which one.
        part: &'static str,
        /// What is wrong.
        error: AddrError,
    },
    /// Two parts share a granule, which no RMM populates twice, or a part lies in memory that the image claims.
    #[error("{0} and {1} overlap")]
    Overlap(&'static str, &'static str),
    /// A part, or RAM, that the realm's protected half does not reach.
    #[error("{part} ends at {top:#x}, above the protected half of {width} bits")]
    NotProtected {
        /// Which one.
        part: &'static str,
        /// Its end.
        top: u64,
        /// IPA width.
        width: u8,
    },
    /// An IPA width that no realm has.
    #[error("{0}")]
    Width(AddrError),
    /// RMM 1.0 has no such algorithm.
    #[error("rule set r1 has no sha384")]
    NoSha384,
    /// A realm that nobody enters, or more RECs than any realm has.
    #[error("{0} runnable RECs: 1 to 512")]
    Recs(u64),
}

/// The files of a realm.
#[derive(Clone, Debug, Default)]
pub struct Files {
    /// Kernel, packed image or firmware.
    pub image: Vec<u8>,
    /// Ramdisk.
    pub initrd: Option<Vec<u8>>,
    /// Device tree, as the realm finds it.
    pub tree: Option<Vec<u8>>,
}

/// Where things lie.
#[derive(Clone, Copy, Debug)]
struct Places {
    image: u64,
    initrd: Option<u64>,
    tree: u64,
    log: Option<u64>,
    s2sz: u8,
}

/// What an image says about its place.
#[derive(Clone, Copy, Debug)]
struct Image {
    text_offset: u64,
    /// Bytes of memory that it uses; at least those of the file.
    memory: u64,
}

struct Placer<'a> {
    board: &'a Board,
    options: &'a Options,
    ram_base: u64,
    ram_size: Option<u64>,
    image: Image,
    initrd_len: Option<u64>,
}

/// Places `files` as the board's VMM would.
///
/// # Errors
/// [`LayoutError`].
pub fn plan(board: &Board, files: &Files, options: &Options) -> Result<Plan, LayoutError> {
    let rim = &board.rim;
    let (rules, hash) = (options.rules.unwrap_or(rim.rules), options.hash.unwrap_or(rim.hash));
    if rules == Rules::R1 && hash == HashAlgorithm::Sha384 {
        return Err(LayoutError::NoSha384);
    }
    let populates = |part: Part| rim.populated.contains(&part);
    if files.initrd.is_some() && !populates(Part::Initrd) {
        return Err(LayoutError::NotPopulated(Part::Initrd.word()));
    }
    let mut tree = files.tree.clone().unwrap_or_default();
    match (populates(Part::DeviceTree), &files.tree) {
        (true, None) => return Err(LayoutError::NoTree),
        (false, Some(_)) => return Err(LayoutError::NotPopulated(Part::DeviceTree.word())),
        _ => {}
    }
    // Bounded: a mistake in a board must not fill our memory.
    let least = usize::try_from(rim.device_tree_len.min(TREE_ROOM)).unwrap_or(0);
    tree.resize(tree.len().max(least), 0);

    let placer = Placer {
        board,
        options,
        ram_base: board.realm_ram_base.unwrap_or(board.ram_base),
        ram_size: options.ram_size.or(rim.ram_size),
        image: Image::read(&files.image, options.firmware)?,
        initrd_len: files.initrd.as_ref().map(|initrd| len(initrd)),
    };
    let places = placer.places()?;
    let mut steps = Vec::new();
    if rules == Rules::R1 {
        steps.push(Step::Ripas(placer.ram()?));
    }
    for part in &rim.populated {
        let (address, bytes) = match part {
            Part::Image => (places.image, files.image.clone()),
            Part::Initrd => match (places.initrd, &files.initrd) {
                (Some(address), Some(initrd)) => (address, initrd.clone()),
                _ => continue,
            },
            Part::DeviceTree => (places.tree, tree.clone()),
        };
        let measured = !rim.unmeasured.contains(part);
        steps.push(Step::Populate(Blob { name: part.word(), address, bytes, measured }));
    }
    let rec = placer.rec(&places);
    let recs = options.recs.unwrap_or(rim.recs);
    if !(1..=MAX_RECS).contains(&recs) {
        return Err(LayoutError::Recs(recs));
    }
    steps.extend((0..recs).map(|_| Step::Rec(rec)));
    if let Some(address) = places.log {
        let bytes = vec![0; usize::try_from(LOG_LEN).unwrap_or(0)];
        steps.push(Step::Populate(Blob { name: "log", address, bytes, measured: false }));
    }
    placer.check(&steps, &places)?;
    Ok(Plan { rules, hash, parameters: options.parameters(board, places.s2sz), steps })
}

impl Placer<'_> {
    fn places(&self) -> Result<Places, LayoutError> {
        let mut places = match self.board.rim.layout {
            Layout::Fixed => self.fixed()?,
            Layout::Kvmtool => self.kvmtool()?,
            Layout::Qemu => self.qemu()?,
        };
        let options = self.options;
        places.image = options.image_address.unwrap_or(places.image);
        places.initrd = places.initrd.map(|address| options.initrd_address.unwrap_or(address));
        places.tree = options.tree_address.unwrap_or(places.tree);
        Ok(places)
    }

    fn rec(&self, places: &Places) -> Rec {
        let value = |place: Place| match place {
            Place::Image => places.image,
            Place::Ram => self.ram_base,
            Place::DeviceTree => places.tree,
            Place::Zero => 0,
        };
        let entry = self.board.rim.entry;
        let mut rec = Rec { pc: value(entry.pc), x: [0; 8] };
        // QEMU's firmware begins at 0 and finds the tree where RAM begins.
        let x0 = if self.is_bios() { 0 } else { value(entry.x0) };
        if self.is_bios() {
            rec.pc = 0;
        }
        if let Some(first) = rec.x.first_mut() {
            *first = x0;
        }
        rec
    }

    fn is_bios(&self) -> bool {
        self.options.firmware && self.board.rim.layout == Layout::Qemu
    }

    fn ram(&self) -> Result<IpaRange, LayoutError> {
        let size = self.ram_size.ok_or(LayoutError::NoRamSize)?;
        IpaRange::new(self.ram_base, size).map_err(|error| LayoutError::Part { part: "RAM", error })
    }

    /// RAM of a VMM that makes it of 2 MiB blocks.
    fn large_ram(&self) -> Result<IpaRange, LayoutError> {
        match self.ram()? {
            ram if ram.len_bytes().is_multiple_of(IMAGE_ALIGN) => Ok(ram),
            ram => Err(LayoutError::RamSize(ram.len_bytes())),
        }
    }

    fn width(&self) -> Option<u8> {
        self.options.s2sz.or(self.board.ipa_width)
    }

    fn fixed(&self) -> Result<Places, LayoutError> {
        let at = self.options.image_address.or(self.board.image_address);
        let image = at.ok_or(LayoutError::NoSuch("address for the image"))?;
        let s2sz = self.width().ok_or(LayoutError::NoSuch("IPA width"))?;
        if self.options.log {
            return Err(LayoutError::NoSuch("log"));
        }
        if self.initrd_len.is_some() && self.options.initrd_address.is_none() {
            return Err(LayoutError::NoSuch("address for a ramdisk"));
        }
        let end = self.ram_size.and_then(|size| self.ram_base.checked_add(size)).unwrap_or(u64::MAX);
        let fits = |tree: &u64| tree.checked_add(TREE_ROOM).is_some_and(|top| top <= end);
        let above = image.checked_add(self.image.memory).and_then(|top| up(top, IMAGE_ALIGN)).filter(fits);
        let below = down(image, IMAGE_ALIGN).checked_sub(IMAGE_ALIGN).filter(|tree| *tree >= self.ram_base);
        let tree = above.or(below).ok_or(LayoutError::NoRoom("device tree"))?;
        Ok(Places { image, initrd: self.options.initrd_address, tree, log: None, s2sz })
    }

    fn kvmtool(&self) -> Result<Places, LayoutError> {
        let ram = self.large_ram()?;
        let last = ram.top().saturating_sub(1);
        let rule = last.checked_ilog2().unwrap_or(0).max(KVMTOOL_WIDTH).saturating_add(1);
        let s2sz =
            self.width().or(u8::try_from(rule).ok()).ok_or(LayoutError::WidthUnknown(ram.len_bytes()))?;
        let top = ram.top().min(KVMTOOL_TREE_TOP);
        let no_room = LayoutError::NoRoom("device tree");
        let log = if self.options.log { Some(top.checked_sub(LOG_LEN).ok_or(no_room)?) } else { None };
        let tree = log.unwrap_or(top).checked_sub(KVMTOOL_TREE_ROOM).and_then(|at| up(at, IMAGE_ALIGN));
        let tree = tree.filter(|tree| *tree >= ram.base()).ok_or(no_room)?;
        let initrd = match self.initrd_len {
            None => None,
            Some(len) => Some(
                self.options
                    .tree_address
                    .unwrap_or(tree)
                    .checked_sub(len)
                    .and_then(|at| up(at.checked_sub(4)?, 4))
                    .filter(|initrd| *initrd >= ram.base())
                    .ok_or(LayoutError::NoRoom("initrd"))?,
            ),
        };
        Ok(Places { image: self.kernel(ram)?, initrd, tree, log, s2sz })
    }

    fn qemu(&self) -> Result<Places, LayoutError> {
        let ram = self.ram()?;
        let rule = (ram.len_bytes() <= QEMU_WIDTH.1).then_some(QEMU_WIDTH.0);
        let s2sz = self.width().or(rule).ok_or(LayoutError::WidthUnknown(ram.len_bytes()))?;
        let log = |tree: u64| self.options.log.then(|| tree.saturating_add(QEMU_LOG_AT));
        if self.options.firmware {
            if self.initrd_len.is_some() {
                return Err(LayoutError::NoSuch("ramdisk beside firmware: it is handed over, not populated"));
            }
            let tree = ram.base();
            return Ok(Places { image: 0, initrd: None, tree, log: log(tree), s2sz });
        }
        let image = self.kernel(ram)?;
        let half = (ram.len_bytes() / 2).min(QEMU_INITRD_AT);
        let initrd = || {
            let behind = image.checked_add(self.image.memory)?;
            up(ram.base().checked_add(half)?.max(behind), GRANULE_SIZE)
        };
        let initrd = initrd().ok_or(LayoutError::NoRoom("initrd"))?;
        let tree = initrd.checked_add(self.initrd_len.unwrap_or(0)).and_then(|at| up(at, IMAGE_ALIGN));
        let tree = tree.ok_or(LayoutError::NoRoom("device tree"))?;
        Ok(Places { image, initrd: self.initrd_len.map(|_| initrd), tree, log: log(tree), s2sz })
    }

    /// Where a kernel goes: the start of RAM and what its header adds.
    fn kernel(&self, ram: IpaRange) -> Result<u64, LayoutError> {
        ram.base().checked_add(self.image.text_offset).ok_or(LayoutError::NoRoom("image"))
    }
    /// Holds that nothing overlaps, or lies outside RAM or the protected half.
    fn check(&self, steps: &[Step], places: &Places) -> Result<(), LayoutError> {
        let width = IpaWidth::new(places.s2sz.into()).map_err(LayoutError::Width)?;
        let protected = |part, range: IpaRange| {
            let not = LayoutError::NotProtected { part, top: range.top(), width: places.s2sz };
            range.protected(width).map_err(|_| not)
        };
        let ram = if self.ram_size.is_some() { Some(protected("RAM", self.ram()?)?) } else { None };
        let mut seen: Vec<(&'static str, IpaRange)> = Vec::new();
        for step in steps {
            let Step::Populate(blob) = step else { continue };
            let part = blob.name;
            let is_image = part == Part::Image.word();
            let memory = if is_image { self.image.memory } else { 0 };
            let range = IpaRange::covering(blob.address, len(&blob.bytes).max(memory));
            let range = protected(part, range.map_err(|error| LayoutError::Part { part, error })?)?;
            if ram.is_some_and(|ram| !ram.contains(&range)) && !(is_image && self.is_bios()) {
                return Err(LayoutError::NoRoom(part));
            }
            if let Some((other, _)) = seen.iter().find(|(_, other)| other.overlaps(&range)) {
                return Err(LayoutError::Overlap(other, part));
            }
            seen.push((part, range));
        }
        Ok(())
    }
}

impl Image {
    /// Reads the header; firmware has none that counts.
    fn read(file: &[u8], firmware: bool) -> Result<Self, LayoutError> {
        if firmware {
            return Ok(Self { text_offset: 0, memory: len(file) });
        }
        let (header, _) = LinuxHeader::read_from_prefix(file).map_err(|_| LayoutError::NotAnImage)?;
        if header.magic != LINUX_MAGIC {
            return Err(LayoutError::NotAnImage);
        }
        let memory = header.image_size.get().max(len(file));
        Ok(Self { text_offset: header.text_offset.get(), memory })
    }
}

fn up(value: u64, align: u64) -> Option<u64> {
    value.checked_next_multiple_of(align)
}

fn down(value: u64, align: u64) -> u64 {
    value.saturating_sub(value.checked_rem(align).unwrap_or(0))
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
