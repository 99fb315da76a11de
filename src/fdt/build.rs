//! Puts a tree together with `dtoolkit`, node by node, every value as bytes: one instance of its generic code.
//!
//! Trust: what is written is ours by now. Only text is checked here; the gate checks the finished tree like anybody's.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::cells::split;
use super::write::WriteError;
use crate::addr::IpaRange;
use alloc::vec::Vec;
use core::fmt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};

/// A tree in the making: one [`Builder::begin`] and one [`Builder::end`] for each node, the root's first and last.
pub(super) struct Builder {
    tree: DeviceTree,
    /// The nodes that are open below the root, outermost first.
    open: Vec<DeviceTreeNode>,
    /// The first thing that went wrong; nothing is added behind it.
    error: Option<WriteError>,
}

impl Builder {
    /// Begins with a root node that has nothing.
    pub(super) fn new() -> Self {
        Self { tree: DeviceTree::new(), open: Vec::new(), error: None }
    }

    /// Opens a node below the one that is open.
    pub(super) fn begin(&mut self, name: fmt::Arguments<'_>) {
        match DeviceTreeNode::new(alloc::fmt::format(name)) {
            Ok(node) => self.open.push(node),
            Err(_) => self.fail(),
        }
    }

    /// Closes the node that was opened last.
    pub(super) fn end(&mut self) {
        match self.open.pop() {
            Some(node) => self.current().add_child(node),
            None => self.fail(),
        }
    }

    /// Writes a property of bytes.
    pub(super) fn bytes(&mut self, name: &str, value: &[u8]) {
        match DeviceTreeProperty::new(name, value) {
            Ok(property) => self.current().add_property(property),
            Err(_) => self.fail(),
        }
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
    pub(super) fn finish(self) -> Result<Vec<u8>, WriteError> {
        match self.error {
            Some(error) => Err(error),
            None if !self.open.is_empty() => Err(WriteError::Name),
            None => Ok(self.tree.to_dtb()),
        }
    }

    fn current(&mut self) -> &mut DeviceTreeNode {
        self.open.last_mut().unwrap_or(&mut self.tree.root)
    }

    fn fail(&mut self) {
        self.error.get_or_insert(WriteError::Name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_not_printable_is_refused() {
        let mut tree = Builder::new();
        assert_eq!(tree.texts("compatible", &["a", "b\n"]), Err(WriteError::Text("compatible")));
        assert_eq!(tree.text("model", ""), Err(WriteError::Text("model")));
    }

    #[test]
    fn bad_names_and_unbalanced_nodes_are_refused() {
        let cases: [fn(&mut Builder); 4] = [
            |tree| tree.bytes("a b", &[]),
            |tree| tree.end(),
            |tree| tree.begin(format_args!("a")),
            |tree| tree.begin(format_args!("a/b")),
        ];
        for case in cases {
            let mut tree = Builder::new();
            case(&mut tree);
            assert_eq!(tree.finish(), Err(WriteError::Name));
        }
    }
}
