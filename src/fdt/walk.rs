//! The one pass of the gate over a structure block: tokens, nesting, names, lengths.
//!
//! Trust: as [`super::check`], which this is a part of. Devicetree Specification 0.4, section 5.4.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::cells::{be32, one_cell};
use super::check::{
    Blocks, FdtError, MAX_CELLS, MAX_CHILDREN, MAX_DEPTH, MAX_NAME, MAX_NODES, MAX_PROPERTIES, Writer,
};
use alloc::vec::Vec;

pub(super) const BEGIN_NODE: u32 = 1;
pub(super) const END_NODE: u32 = 2;
pub(super) const PROP: u32 = 3;
const NOP: u32 = 4;
pub(super) const END: u32 = 9;

/// What is known of a node that is still open.
#[derive(Default)]
struct Level<'a> {
    properties: Vec<&'a [u8]>,
    children: Vec<&'a [u8]>,
}

pub(super) struct Walk<'a> {
    structure: &'a [u8],
    strings: &'a [u8],
    at: usize,
    open: Vec<Level<'a>>,
    nodes: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(blocks: &Blocks<'a>) -> Self {
        Self { structure: blocks.structure, strings: blocks.strings, at: 0, open: Vec::new(), nodes: 0 }
    }

    fn word(&mut self) -> Result<u32, FdtError> {
        let word = be32(self.structure, self.at).ok_or(FdtError::StructureEnds(self.at))?;
        self.at = self.at.saturating_add(4);
        Ok(word)
    }

    /// Steps over `len` bytes and the padding behind them.
    fn skip(&mut self, len: usize) -> Result<(), FdtError> {
        let next = self.at.checked_add(len).and_then(|n| n.checked_next_multiple_of(4));
        match next {
            Some(next) if next <= self.structure.len() => {
                self.at = next;
                Ok(())
            }
            _ => Err(FdtError::StructureEnds(self.at)),
        }
    }

    /// Goes through the structure block once; every turn takes at least one word.
    pub(super) fn run(&mut self, out: &mut Writer) -> Result<(), FdtError> {
        loop {
            let start = self.at;
            let token = self.word()?;
            match token {
                NOP => continue,
                BEGIN_NODE => self.begin(start)?,
                PROP => self.property(start)?,
                END_NODE if self.open.pop().is_some() => {}
                END if self.nodes > 0 && self.open.is_empty() => {}
                _ => return Err(FdtError::BadToken { token, offset: start }),
            }
            out.push(self.structure.get(start..self.at).ok_or(FdtError::StructureEnds(start))?);
            if token == END {
                break;
            }
        }
        if self.at != self.structure.len() {
            return Err(FdtError::TrailingStructure(self.at));
        }
        Ok(())
    }

    fn begin(&mut self, start: usize) -> Result<(), FdtError> {
        let bad = FdtError::BadNodeName(start);
        let name = terminated(self.structure, self.at).ok_or(bad)?;
        match self.open.last_mut() {
            None if self.nodes > 0 => return Err(FdtError::BadToken { token: BEGIN_NODE, offset: start }),
            None if name.is_empty() => {}
            Some(parent) if is_node_name(name) => {
                if parent.children.contains(&name) {
                    return Err(FdtError::DuplicateNode(start));
                }
                if parent.children.len() >= MAX_CHILDREN {
                    return Err(FdtError::TooMany(start));
                }
                parent.children.push(name);
            }
            _ => return Err(bad),
        }
        if self.open.len() >= MAX_DEPTH {
            return Err(FdtError::TooDeep(start));
        }
        if self.nodes >= MAX_NODES {
            return Err(FdtError::TooMany(start));
        }
        self.nodes = self.nodes.saturating_add(1);
        self.open.push(Level::default());
        self.skip(name.len().saturating_add(1))
    }

    fn property(&mut self, start: usize) -> Result<(), FdtError> {
        let len = self.word()?;
        let name_at = self.word()?;
        let bad_len = FdtError::BadPropertyLen { offset: start, len };
        let len = usize::try_from(len).map_err(|_| bad_len)?;
        let end = self.at.checked_add(len).ok_or(bad_len)?;
        let value = self.structure.get(self.at..end).ok_or(bad_len)?;

        let bad_name = FdtError::BadPropertyName(start);
        let name_at = usize::try_from(name_at).map_err(|_| bad_name)?;
        let name = terminated(self.strings, name_at).filter(|n| is_property_name(n)).ok_or(bad_name)?;

        let misplaced = FdtError::BadToken { token: PROP, offset: start };
        let node = self.open.last_mut().ok_or(misplaced)?;
        if !node.children.is_empty() {
            return Err(FdtError::PropertyAfterChild(start));
        }
        if node.properties.contains(&name) {
            return Err(FdtError::DuplicateProperty(start));
        }
        if node.properties.len() >= MAX_PROPERTIES {
            return Err(FdtError::TooMany(start));
        }
        node.properties.push(name);
        check_cells(name, value, start)?;
        self.skip(len)
    }
}

/// Properties of one cell that counts cells.
const CELL_COUNTS: [&[u8]; 3] = [b"#address-cells", b"#size-cells", b"#interrupt-cells"];
/// Properties of one cell that names a node.
const HANDLES: [&[u8]; 2] = [b"phandle", b"interrupt-parent"];
/// Properties of whole cells.
const CELL_LISTS: [&[u8]; 8] = [
    b"reg",
    b"ranges",
    b"dma-ranges",
    b"interrupts",
    b"interrupt-map",
    b"interrupt-map-mask",
    b"msi-map",
    b"bus-range",
];

/// Checks the values whose form every reader relies on.
fn check_cells(name: &[u8], value: &[u8], start: usize) -> Result<(), FdtError> {
    let cell = one_cell(value);
    if CELL_COUNTS.contains(&name) && cell.is_none_or(|count| count > MAX_CELLS) {
        return Err(FdtError::BadCells(start));
    }
    if HANDLES.contains(&name) && cell.is_none() {
        return Err(FdtError::BadCells(start));
    }
    if CELL_LISTS.contains(&name) && !value.len().is_multiple_of(4) {
        return Err(FdtError::NotWholeCells(start));
    }
    Ok(())
}

/// Returns the string at `offset`, without its NUL; at most [`MAX_NAME`] bytes.
fn terminated(bytes: &[u8], offset: usize) -> Option<&[u8]> {
    let rest = bytes.get(offset..)?;
    let len = rest.iter().take(MAX_NAME.saturating_add(1)).position(|b| *b == 0)?;
    rest.get(..len)
}

fn is_node_char(b: u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b',' | b'.' | b'_' | b'+' | b'-')
}

pub(super) fn is_node_name(name: &[u8]) -> bool {
    let mut parts = name.split(|b| *b == b'@');
    let fine = |part: Option<&[u8]>| part.is_none_or(|p| !p.is_empty() && p.iter().all(|b| is_node_char(*b)));
    let (base, unit) = (parts.next(), parts.next());
    fine(base) && fine(unit) && parts.next().is_none()
}

pub(super) fn is_property_name(name: &[u8]) -> bool {
    !name.is_empty() && name.iter().all(|b| is_node_char(*b) || matches!(b, b'?' | b'#'))
}
