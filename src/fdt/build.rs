//! Our writer of flattened device trees: one pass, node by node, every value as bytes.
//!
//! The structure block grows behind header and reservation block, the names of properties in a block of their own, each
//! once; [`Builder::finish`] joins them and fills the header in. At most [`MAX_TREE_BYTES`], and memory that is not there
//! is an error. Devicetree Specification 0.4, chapter 5 (docs/adr/0009).
//!
//! Trust: what is written is ours by now. Only text and names are checked here, so that nothing can end a string or a
//! node early; the gate checks the finished tree like anybody's.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::cells::split;
use super::check::{FdtError, HEADER_LEN, MAX_TREE_BYTES, finish_header};
use super::walk::{BEGIN_NODE, END, END_NODE, PROP, is_node_name, is_property_name};
use super::write::WriteError;
use crate::addr::IpaRange;
use alloc::vec::Vec;
use core::fmt;

/// Header, and a reservation block that is only its terminator: where the structure block begins.
const OFF_STRUCT: usize = HEADER_LEN.saturating_add(16);

/// A tree in the making: one [`Builder::begin`] and one [`Builder::end`] for each node below the root.
pub(super) struct Builder {
    /// Room for header and reservations, and the structure block so far.
    blob: Vec<u8>,
    /// The strings block: names of properties, each with its NUL and each once.
    strings: Vec<u8>,
    /// How many nodes are open below the root.
    open: usize,
    /// The first thing that went wrong; nothing is added behind it.
    error: Option<WriteError>,
}

impl Builder {
    /// Begins with a root node that has nothing.
    pub(super) fn new() -> Self {
        let mut tree = Self { blob: Vec::new(), strings: Vec::new(), open: 0, error: None };
        tree.append(&[0; OFF_STRUCT]);
        tree.word(BEGIN_NODE);
        tree.padded(&[0]);
        tree
    }

    /// Opens a node below the one that is open.
    pub(super) fn begin(&mut self, name: fmt::Arguments<'_>) {
        let mut name = alloc::fmt::format(name);
        if !is_node_name(name.as_bytes()) {
            return self.fail(WriteError::Name);
        }
        name.push('\0');
        self.word(BEGIN_NODE);
        self.padded(name.as_bytes());
        self.open = self.open.saturating_add(1);
    }

    /// Closes the node that was opened last.
    pub(super) fn end(&mut self) {
        match self.open.checked_sub(1) {
            Some(open) => self.open = open,
            None => self.fail(WriteError::Name),
        }
        self.word(END_NODE);
    }

    /// Writes a property of bytes, before any child of its node.
    pub(super) fn bytes(&mut self, name: &str, value: &[u8]) {
        let name_at = self.name(name.as_bytes());
        self.word(PROP);
        self.length(value.len());
        self.length(name_at);
        self.padded(value);
    }

    /// Writes a property of cells.
    pub(super) fn cells(&mut self, name: &str, cells: &[u32]) {
        let bytes: Vec<u8> = cells.iter().flat_map(|cell| cell.to_be_bytes()).collect();
        self.bytes(name, &bytes);
    }

    /// Writes a property of numbers of two cells each.
    pub(super) fn wide(&mut self, name: &str, numbers: &[u64]) {
        let cells: Vec<u32> = numbers.iter().flat_map(|number| split(*number)).collect();
        self.cells(name, &cells);
    }

    /// Writes `reg` with two cells for each address and size.
    pub(super) fn ranges(&mut self, ranges: &[IpaRange]) {
        let numbers: Vec<u64> = ranges.iter().flat_map(|r| [r.base(), r.len_bytes()]).collect();
        self.wide("reg", &numbers);
    }

    /// Writes a property that is one printable string.
    pub(super) fn text(&mut self, name: &'static str, value: &str) -> Result<(), WriteError> {
        self.texts(name, &[value])
    }

    /// Writes a property that is a list of printable strings.
    pub(super) fn texts(&mut self, name: &'static str, values: &[&str]) -> Result<(), WriteError> {
        let mut bytes = Vec::new();
        for value in values {
            if value.is_empty() || !value.bytes().all(|b| b == b' ' || b.is_ascii_graphic()) {
                return Err(WriteError::Text(name));
            }
            bytes.extend_from_slice(value.as_bytes());
            bytes.push(0);
        }
        self.bytes(name, &bytes);
        Ok(())
    }

    /// Returns the blob.
    ///
    /// # Errors
    /// [`WriteError::Name`]: a name that the format does not allow, or a node that is not closed: our bug.
    /// [`WriteError::Gate`]: more than [`MAX_TREE_BYTES`], or than there is memory for.
    pub(super) fn finish(mut self) -> Result<Vec<u8>, WriteError> {
        self.word(END_NODE);
        self.word(END);
        let off_strings = self.blob.len();
        let strings = core::mem::take(&mut self.strings);
        self.append(&strings);
        match self.error {
            Some(error) => Err(error),
            None if self.open != 0 => Err(WriteError::Name),
            None => Ok(finish_header(self.blob, OFF_STRUCT, off_strings, 0)?),
        }
    }

    /// Returns the offset of a property's name in the strings block, where it is put if it is new.
    fn name(&mut self, name: &[u8]) -> usize {
        if !is_property_name(name) {
            self.fail(WriteError::Name);
            return 0;
        }
        let mut at: usize = 0;
        for known in self.strings.split(|byte| *byte == 0) {
            if known == name {
                return at;
            }
            at = at.saturating_add(known.len()).saturating_add(1);
        }
        // Behind the last NUL the split gives one empty piece.
        let at = self.strings.len();
        for part in [name, &[0]] {
            if let Err(error) = extend(&mut self.strings, part) {
                self.fail(error.into());
            }
        }
        at
    }

    fn word(&mut self, word: u32) {
        self.append(&word.to_be_bytes());
    }

    /// Writes a length or offset of our own buffers.
    fn length(&mut self, length: usize) {
        match u32::try_from(length) {
            Ok(length) => self.word(length),
            Err(_) => self.fail(FdtError::NoMemory(length).into()),
        }
    }

    /// Appends bytes and zeros up to the next word.
    fn padded(&mut self, bytes: &[u8]) {
        self.append(bytes);
        let rest = bytes.len().next_multiple_of(4).saturating_sub(bytes.len());
        self.append([0; 4].get(..rest).unwrap_or_default());
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.error.is_none()
            && let Err(error) = extend(&mut self.blob, bytes)
        {
            self.fail(error.into());
        }
    }

    fn fail(&mut self, error: WriteError) {
        self.error.get_or_insert(error);
    }
}

/// Appends within the bound and the memory that there is.
fn extend(to: &mut Vec<u8>, bytes: &[u8]) -> Result<(), FdtError> {
    let len = to.len().saturating_add(bytes.len());
    if len > MAX_TREE_BYTES || to.try_reserve(bytes.len()).is_err() {
        return Err(FdtError::NoMemory(len));
    }
    to.extend_from_slice(bytes);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fdt::check::Tree;

    #[test]
    fn text_that_is_not_printable_is_refused() {
        let mut tree = Builder::new();
        assert_eq!(tree.texts("compatible", &["a", "b\n"]), Err(WriteError::Text("compatible")));
        assert_eq!(tree.text("model", ""), Err(WriteError::Text("model")));
    }

    #[test]
    fn bad_names_and_unbalanced_nodes_are_refused() {
        let cases: [fn(&mut Builder); 7] = [
            |tree| tree.bytes("a b", &[]),
            |tree| tree.bytes("a\0", &[]),
            |tree| tree.bytes("", &[]),
            |tree| tree.end(),
            |tree| tree.begin(format_args!("a")),
            |tree| {
                tree.begin(format_args!("a/b"));
                tree.end();
            },
            |tree| {
                tree.begin(format_args!("a\0"));
                tree.end();
            },
        ];
        for case in cases {
            let mut tree = Builder::new();
            case(&mut tree);
            assert_eq!(tree.finish(), Err(WriteError::Name));
        }
    }

    #[test]
    fn a_name_is_in_the_strings_block_once_and_is_read_back() {
        let mut tree = Builder::new();
        tree.bytes("reg-names", b"x");
        tree.bytes("msi-map", &[]);
        for (name, value) in [("a", 1), ("b", 2)] {
            tree.begin(format_args!("{name}"));
            tree.cells("reg", &[value]);
            tree.cells("map", &[value, 9]);
            tree.bytes("msi-map", &[0xff; 8]);
            tree.end();
        }
        let blob = tree.finish().unwrap();
        assert!(blob.ends_with(b"\0\0\0\x09reg-names\0msi-map\0reg\0map\0"));
        let checked = Tree::check(&blob).unwrap();
        assert_eq!(checked.as_bytes(), blob);
        let reader = checked.reader().unwrap();
        for (path, value) in [("/a", 1), ("/b", 2)] {
            let node = reader.find_node(path).unwrap();
            let read: Vec<_> = node.properties().map(|p| (p.name, p.value)).collect();
            let want: [(&str, &[u8]); 3] =
                [("reg", &[0, 0, 0, value]), ("map", &[0, 0, 0, value, 0, 0, 0, 9]), ("msi-map", &[0xff; 8])];
            assert_eq!(read, want);
        }
    }

    #[test]
    fn a_value_is_padded_with_zeros_to_whole_words() {
        for len in 0..9 {
            let mut tree = Builder::new();
            tree.bytes("a", &[0xff; 8][..len.min(8)]);
            tree.begin(format_args!("{}", &"nnnnnnnnn"[..=len.min(8)]));
            tree.end();
            let blob = tree.finish().unwrap();
            assert_eq!(Tree::check(&blob).unwrap().as_bytes(), blob);
            // Header and reservations, token of the root and its name, token, length and offset of the property.
            let value = blob.get(56 + 8 + 12..).unwrap();
            assert_eq!(value.iter().position(|byte| *byte != 0xff), Some(len.min(8)));
            assert_eq!(
                value.iter().skip(len.min(8)).position(|byte| *byte != 0),
                Some((4 - len.min(8) % 4) % 4 + 3)
            );
        }
    }

    #[test]
    fn a_tree_beyond_the_bound_is_an_error_and_stays_in_it() {
        let mut tree = Builder::new();
        for _ in 0..5 {
            tree.bytes("a", &[0; MAX_TREE_BYTES / 4]);
        }
        assert!(tree.blob.len() <= MAX_TREE_BYTES);
        assert!(matches!(tree.finish(), Err(WriteError::Gate(FdtError::NoMemory(_)))));
    }

    #[test]
    fn a_property_behind_a_child_does_not_pass_the_gate() {
        let mut tree = Builder::new();
        tree.begin(format_args!("a"));
        tree.end();
        tree.bytes("b", &[]);
        assert!(matches!(Tree::check(tree.finish().unwrap()), Err(FdtError::PropertyAfterChild(_))));
    }
}
