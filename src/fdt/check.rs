//! The structural gate: bytes of a flattened device tree become a [`Tree`] or a typed error.
//!
//! Trust: host (the machine's tree) or a packer (a FIT); nothing is believed. The gate reads a private copy in one
//! pass, bounded by the constants below, and writes its own blob from what it accepted: header, reservation block,
//! structure block without NOPs, strings block. Readers only ever see that blob, so a header field that the gate did
//! not look at cannot reach them. `fdt` 0.1.5 asserts or unwraps on NOPs between properties and children, on
//! properties behind children, on short cell counts, on unterminated or unknown names, on a missing FDT_END and on
//! deep nesting; each of these is refused, or normalised (NOPs).
//!
//! Devicetree Specification 0.4, chapter 5.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::cells::be32;
use super::walk::Walk;
use crate::mutation::{Mutation, removed};
use alloc::vec::Vec;
use thiserror::Error;

/// Largest tree that is looked at, in bytes: what arm64 Linux allows (booting.rst).
pub const MAX_TREE_BYTES: usize = 2 * 1024 * 1024;
/// Length of the header in bytes.
pub const HEADER_LEN: usize = 40;
/// Deepest nesting; the root has depth 1.
pub const MAX_DEPTH: usize = 16;
/// Most nodes of a tree.
pub const MAX_NODES: usize = 4096;
/// Most children of one node.
pub const MAX_CHILDREN: usize = 1024;
/// Most properties of one node.
pub const MAX_PROPERTIES: usize = 128;
/// Most entries of the memory reservation block.
pub const MAX_RESERVATIONS: usize = 64;
/// Longest name of a node (unit address included) or property, in bytes.
pub const MAX_NAME: usize = 64;
/// Largest `#address-cells` and `#size-cells`.
pub const MAX_CELLS: u32 = 4;

const MAGIC: u32 = 0xd00d_feed;
const VERSION: u32 = 17;
const LAST_COMP_VERSION: u32 = 16;

/// A block of the blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// The 40-byte header.
    Header,
    /// Memory reservations.
    Reservations,
    /// Structure.
    Structure,
    /// Property names.
    Strings,
}

/// Why bytes are not a tree. Offsets are in bytes from the start of the blob, unless the variant says otherwise.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum FdtError {
    /// Fewer bytes than the header, or than `totalsize`, says.
    #[error("{have} bytes, {need} needed")]
    Truncated {
        /// Bytes there.
        have: usize,
        /// Bytes needed.
        need: usize,
    },
    /// Not a device tree.
    #[error("magic {0:#x}")]
    BadMagic(u32),
    /// Not version 17, or not compatible with it.
    #[error("version {version}, last compatible {last_comp}")]
    BadVersion {
        /// Field `version`.
        version: u32,
        /// Field `last_comp_version`.
        last_comp: u32,
    },
    /// `totalsize` is beyond [`MAX_TREE_BYTES`] or smaller than a header.
    #[error("totalsize {0:#x} out of bounds")]
    BadTotalSize(u32),
    /// A block is misaligned or does not lie inside `totalsize`.
    #[error("{block:?} block at {offset:#x}, {len:#x} bytes: misplaced")]
    BadBlock {
        /// Which.
        block: Block,
        /// Its offset.
        offset: u32,
        /// Its length in bytes, as far as known.
        len: u32,
    },
    /// Two blocks share bytes.
    #[error("{0:?} and {1:?} blocks overlap")]
    BlocksOverlap(Block, Block),
    /// The reservation block has no end inside the blob, or too many entries.
    #[error("memory reservation block not terminated")]
    ReservationsNotTerminated,
    /// A reservation wraps.
    #[error("reservation {base:#x}+{len:#x} wraps")]
    BadReservation {
        /// First address.
        base: u64,
        /// Length in bytes.
        len: u64,
    },
    /// The structure block ends inside a token.
    #[error("structure ends at {0:#x}")]
    StructureEnds(usize),
    /// Unknown token, or one in a place where it may not be.
    #[error("token {token:#x} at {offset:#x}")]
    BadToken {
        /// The token.
        token: u32,
        /// Its offset in the structure block.
        offset: usize,
    },
    /// Bytes behind FDT_END in the structure block.
    #[error("structure goes on at {0:#x}, behind its end")]
    TrailingStructure(usize),
    /// Node name invalid, too long or not terminated.
    #[error("node name at {0:#x}")]
    BadNodeName(usize),
    /// Property name invalid, too long, not terminated or outside the strings block.
    #[error("property name for {0:#x}")]
    BadPropertyName(usize),
    /// The value's length goes beyond the block.
    #[error("property at {offset:#x} has {len:#x} bytes")]
    BadPropertyLen {
        /// Offset in the structure block.
        offset: usize,
        /// Length in bytes.
        len: u32,
    },
    /// A property behind a child node.
    #[error("property at {0:#x} behind a child node")]
    PropertyAfterChild(usize),
    /// Two properties of a node have one name.
    #[error("second property of one name at {0:#x}")]
    DuplicateProperty(usize),
    /// Two children of a node have one name.
    #[error("second child of one name at {0:#x}")]
    DuplicateNode(usize),
    /// `#address-cells`, `#size-cells`, `#interrupt-cells` or `phandle` is not one cell, or is out of bounds.
    #[error("cell count at {0:#x}")]
    BadCells(usize),
    /// `reg`, `ranges` or another property of cells is not a multiple of four bytes.
    #[error("property of cells at {0:#x} is not whole cells")]
    NotWholeCells(usize),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("nesting too deep at {0:#x}")]
    TooDeep(usize),
    /// More nodes, children or properties than the bounds allow.
    #[error("too many nodes or properties at {0:#x}")]
    TooMany(usize),
    /// No memory for the copy.
    #[error("no memory for {0:#x} bytes")]
    NoMemory(usize),
    /// The reader refuses a tree that the gate accepted: our bug.
    #[error("the reader refuses a checked tree")]
    Reader,
}

/// A checked tree: its own blob, normalised, at most a little larger than [`MAX_TREE_BYTES`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    blob: Vec<u8>,
}

impl Tree {
    /// Tells how many bytes to copy in, from the first [`HEADER_LEN`] bytes of a tree.
    ///
    /// # Errors
    /// [`FdtError::BadMagic`], [`FdtError::BadTotalSize`].
    pub fn needed_len(header: &[u8; HEADER_LEN]) -> Result<usize, FdtError> {
        let have = HEADER_LEN;
        let short = FdtError::Truncated { have, need: have };
        let magic = be32(header, 0).ok_or(short)?;
        if magic != MAGIC {
            return Err(FdtError::BadMagic(magic));
        }
        let total = be32(header, 4).ok_or(short)?;
        match usize::try_from(total) {
            Ok(len @ HEADER_LEN..=MAX_TREE_BYTES) => Ok(len),
            _ => Err(FdtError::BadTotalSize(total)),
        }
    }

    /// Checks a private copy of a tree; bytes behind `totalsize` are ignored.
    ///
    /// # Errors
    /// [`FdtError`]: the first thing that is wrong.
    pub fn check(bytes: impl AsRef<[u8]>) -> Result<Self, FdtError> {
        let bytes = bytes.as_ref();
        let short = FdtError::Truncated { have: bytes.len(), need: HEADER_LEN };
        let header = bytes.first_chunk::<HEADER_LEN>().ok_or(short)?;
        let total = Self::needed_len(header)?;
        let bytes = bytes.get(..total).ok_or(FdtError::Truncated { have: bytes.len(), need: total })?;
        if removed(Mutation::TreeGate) {
            return Ok(Self { blob: bytes.to_vec() });
        }
        let blocks = Blocks::find(header, bytes)?;

        let mut out = Writer::with_capacity(total)?;
        out.push(&[0; HEADER_LEN]);
        out.push(blocks.reservations);
        let off_struct = out.len();
        let mut walk = Walk::new(&blocks);
        walk.run(&mut out)?;
        let off_strings = out.len();
        out.push(blocks.strings);
        let blob = finish_header(out.blob, off_struct, off_strings, be32(header, 28).ok_or(short)?)?;

        let tree = Self { blob };
        tree.reader()?;
        Ok(tree)
    }

    /// Returns the normalised blob.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.blob
    }

    /// Returns the `fdt` crate's reader. Use `find_node` with paths that begin with `/`, `children` and `property`.
    ///
    /// # Errors
    /// [`FdtError::Reader`], never for a checked tree.
    pub fn reader(&self) -> Result<::fdt::Fdt<'_>, FdtError> {
        ::fdt::Fdt::new(&self.blob).map_err(|_| FdtError::Reader)
    }
}

pub(super) struct Blocks<'a> {
    reservations: &'a [u8],
    pub(super) structure: &'a [u8],
    pub(super) strings: &'a [u8],
}

impl<'a> Blocks<'a> {
    fn find(header: &[u8; HEADER_LEN], bytes: &'a [u8]) -> Result<Self, FdtError> {
        let field = |offset| be32(header, offset).ok_or(FdtError::Truncated { have: 0, need: HEADER_LEN });
        let (version, last_comp) = (field(20)?, field(24)?);
        if version < VERSION || last_comp > VERSION {
            return Err(FdtError::BadVersion { version, last_comp });
        }
        let cut = |block, offset: u32, len: u32, align: u32| {
            let bad = FdtError::BadBlock { block, offset, len };
            let start = usize::try_from(offset).map_err(|_| bad)?;
            let end = usize::try_from(len).ok().and_then(|l| start.checked_add(l)).ok_or(bad)?;
            if !offset.is_multiple_of(align) || start < HEADER_LEN {
                return Err(bad);
            }
            Ok((start, end, bytes.get(start..end).ok_or(bad)?))
        };
        let (s_start, s_end, structure) = cut(Block::Structure, field(8)?, field(36)?, 4)?;
        let (n_start, n_end, strings) = cut(Block::Strings, field(12)?, field(32)?, 1)?;
        let (r_start, _, _) = cut(Block::Reservations, field(16)?, 0, 8)?;
        let reservations = Self::reservations(bytes.get(r_start..).unwrap_or_default())?;
        let r_end = r_start.saturating_add(reservations.len());

        let overlap = |a: (usize, usize), b: (usize, usize)| a.0 < b.1 && b.0 < a.1;
        for (one, other, yes) in [
            (Block::Structure, Block::Strings, overlap((s_start, s_end), (n_start, n_end))),
            (Block::Structure, Block::Reservations, overlap((s_start, s_end), (r_start, r_end))),
            (Block::Strings, Block::Reservations, overlap((n_start, n_end), (r_start, r_end))),
        ] {
            if yes {
                return Err(FdtError::BlocksOverlap(one, other));
            }
        }
        Ok(Self { reservations, structure, strings })
    }

    /// Returns the entries with their terminator.
    fn reservations(bytes: &[u8]) -> Result<&[u8], FdtError> {
        let (entries, _) = bytes.as_chunks::<16>();
        for (i, entry) in entries.iter().enumerate().take(MAX_RESERVATIONS.saturating_add(1)) {
            let value = u128::from_be_bytes(*entry);
            if value == 0 {
                let len = i.saturating_add(1).saturating_mul(16);
                return bytes.get(..len).ok_or(FdtError::ReservationsNotTerminated);
            }
            let base = u64::try_from(value >> 64).unwrap_or(u64::MAX);
            let len = u64::try_from(value & u128::from(u64::MAX)).unwrap_or(u64::MAX);
            if base.checked_add(len).is_none() {
                return Err(FdtError::BadReservation { base, len });
            }
        }
        Err(FdtError::ReservationsNotTerminated)
    }
}

/// Collects the blob; grows only inside what was reserved at the start.
pub(super) struct Writer {
    blob: Vec<u8>,
}

impl Writer {
    fn with_capacity(total: usize) -> Result<Self, FdtError> {
        let mut blob = Vec::new();
        blob.try_reserve_exact(total).map_err(|_| FdtError::NoMemory(total))?;
        Ok(Self { blob })
    }

    fn len(&self) -> usize {
        self.blob.len()
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.blob.extend_from_slice(bytes);
    }
}

/// Writes the header over the first [`HEADER_LEN`] bytes of a blob: the reservation block follows it, then the structure
/// block, then the strings block, up to the end.
pub(super) fn finish_header(
    mut blob: Vec<u8>,
    off_struct: usize,
    off_strings: usize,
    boot_cpu: u32,
) -> Result<Vec<u8>, FdtError> {
    let total = blob.len();
    let u32_of = |n: usize| u32::try_from(n).map_err(|_| FdtError::NoMemory(n));
    let fields = [
        MAGIC,
        u32_of(total)?,
        u32_of(off_struct)?,
        u32_of(off_strings)?,
        u32_of(HEADER_LEN)?,
        VERSION,
        LAST_COMP_VERSION,
        boot_cpu,
        u32_of(total.saturating_sub(off_strings))?,
        u32_of(off_strings.saturating_sub(off_struct))?,
    ];
    let (cells, _) = blob.as_chunks_mut::<4>();
    for (cell, field) in cells.iter_mut().zip(fields) {
        *cell = field.to_be_bytes();
    }
    Ok(blob)
}
