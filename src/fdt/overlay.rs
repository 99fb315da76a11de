//! The bundle's device-tree overlay: it adds to the final tree what the bundle's maker wants there, and changes nothing.
//!
//! The result is built anew from both trees and passes the gate again. docs/bundle.md has the rules; the format is that of
//! `dtc` (`/plugin/`).
//!
//! Trust: the bundle's maker, covered by the manifest. What the tree says of devices and memory is the firmware's statement
//! all the same, measured and read by the OS half: no overlay gets near it, so that a mistake in one cannot undo a check.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::build::Builder;
use super::cells::{be32, cells, one_cell, one_string, strings};
use super::check::{FdtError, Tree};
use super::nodes::Node;
use super::write::WriteError;
use alloc::string::String;
use alloc::vec::Vec;
use thiserror::Error;

/// Largest overlay in bytes.
pub const MAX_OVERLAY_BYTES: usize = 64 * 1024;
/// Most nodes of an overlay, its own frame included.
pub const MAX_OVERLAY_NODES: usize = 512;

/// What frames an overlay besides its fragments.
const FIXUPS: &str = "__fixups__";
const LOCAL_FIXUPS: &str = "__local_fixups__";
const SYMBOLS: &str = "__symbols__";
const CONTENT: &str = "__overlay__";
/// Names of the properties that number a node.
const HANDLES: [&str; 2] = ["phandle", "linux,phandle"];

/// Children of the root that may get properties and children; their names up to the address.
const OPEN: [&str; 6] = ["chosen", "reserved-memory", "clock-", "platform", "serial", "virtio_mmio"];
/// Children of the root that nobody may add: Linux looks for them by name.
const TAKEN: [&str; 7] = ["chosen", "cpus", "firmware", "memory", "psci", "reserved-memory", "timer"];
/// What a node that the firmware wrote says by not having it.
const STATED: [&str; 16] = [
    "#address-cells",
    "#size-cells",
    "bootargs",
    "clock-frequency",
    "clocks",
    "compatible",
    "device_type",
    "dma-coherent",
    "dma-ranges",
    "interrupt-parent",
    "interrupts",
    "kaslr-seed",
    "ranges",
    "reg",
    "rng-seed",
    "status",
];
/// Kinds of nodes that only the firmware writes.
const KINDS: [&str; 3] = ["cpu", "memory", "pci"];

/// Why an overlay is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum OverlayError {
    /// Not a tree.
    #[error("overlay: {0}")]
    Tree(#[from] FdtError),
    /// More bytes or nodes than are taken.
    #[error("overlay: more than {MAX_OVERLAY_BYTES} bytes or {MAX_OVERLAY_NODES} nodes")]
    TooLarge,
    /// A child of the root that is no fragment with `target-path` and `__overlay__`.
    #[error("overlay: {0} is no fragment with a target-path")]
    NotFragment(String),
    /// A reference to a label of the tree below: the final tree has none.
    #[error("overlay: refers to labels of the tree below, which has none: use target-path (&{{/path}})")]
    Label,
    /// A number of a node is missing, twice, or too large, or `__local_fixups__` names what is not there.
    #[error("overlay: its phandles do not fit together at {0}")]
    Handles(String),
    /// The final tree has no such node.
    #[error("overlay: no {0} in the final tree")]
    NoTarget(String),
    /// The firmware states this, or its place is the firmware's.
    #[error("overlay: {0} is the firmware's to say")]
    Stated(String),
    /// The result cannot be written, or does not pass the gate.
    #[error("overlay: {0}")]
    Write(#[from] WriteError),
}

/// A checked overlay; whether it fits a tree is said by [`Overlay::apply`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    tree: Tree,
}

/// A part of a fragment: content, and which of its cells are numbers of nodes.
#[derive(Clone, Copy)]
struct Piece<'b, 'a> {
    node: Node<'b, 'a>,
    fixups: Option<Node<'b, 'a>>,
}

impl<'b, 'a> Piece<'b, 'a> {
    fn children(self) -> impl Iterator<Item = Self> {
        let fixups = self.fixups;
        self.node.children().map(move |node| Self { node, fixups: fixups.and_then(|f| child(f, node.name)) })
    }

    /// Demands that what is to be renumbered is there. Collects the numbers of its nodes.
    fn check(self, handles: &mut Vec<u32>) -> Result<(), OverlayError> {
        let bad = || OverlayError::Handles(self.node.name.into());
        for name in HANDLES {
            if let Some(value) = self.node.property(name) {
                let handle = one_cell(value.value).filter(|handle| *handle != 0).ok_or_else(bad)?;
                if name == "phandle" && handles.contains(&handle) {
                    return Err(bad());
                }
                handles.push(handle);
            }
        }
        if let Some(fixups) = self.fixups {
            for places in fixups.properties() {
                let value = self.node.property(places.name).ok_or_else(bad)?.value;
                for at in cells(places.value).ok_or_else(bad)? {
                    usize::try_from(at).ok().and_then(|at| be32(value, at)).ok_or_else(bad)?;
                }
            }
            if fixups.children().any(|fixup| child(self.node, fixup.name).is_none()) {
                return Err(bad());
            }
        }
        self.children().try_for_each(|piece| piece.check(handles))
    }

    /// Writes the properties, numbers of nodes raised by `raise`.
    fn properties(self, tree: &mut Builder, raise: u32) -> Result<(), OverlayError> {
        for property in self.node.properties() {
            let mut value = Vec::from(property.value);
            let places = self.fixups.and_then(|fixups| fixups.property(property.name));
            let own = HANDLES.contains(&property.name).then_some(0);
            let places = places.and_then(|places| cells(places.value)).into_iter().flatten().chain(own);
            for at in places {
                let at = usize::try_from(at).unwrap_or(usize::MAX);
                let handle = be32(&value, at).and_then(|handle| handle.checked_add(raise));
                let handle = handle.filter(|handle| *handle != u32::MAX);
                let cell = value.get_mut(at..).and_then(|rest| rest.first_chunk_mut());
                match (cell, handle) {
                    (Some(cell), Some(handle)) => *cell = handle.to_be_bytes(),
                    _ => return Err(OverlayError::Handles(property.name.into())),
                }
            }
            tree.bytes(property.name, &value);
        }
        Ok(())
    }

    /// Writes a node that the final tree does not have.
    fn add(self, tree: &mut Builder, raise: u32) -> Result<(), OverlayError> {
        let stated = || Err(OverlayError::Stated(self.node.name.into()));
        let ours = |text: &str| text.starts_with("gatehouse,") || text == "confidential-computing-event-log";
        for property in self.node.properties() {
            let mut texts = strings(property.value).into_iter().flatten();
            let kind = match property.name {
                "device_type" => texts.any(|text| KINDS.contains(&text)),
                "compatible" => texts.any(ours),
                name => ours(name),
            };
            if kind {
                return stated();
            }
        }
        tree.begin(format_args!("{}", self.node.name));
        self.properties(tree, raise)?;
        self.children().try_for_each(|piece| piece.add(tree, raise))?;
        tree.end();
        Ok(())
    }
}

impl Overlay {
    /// Checks an overlay's form; `bytes` is one that was hashed.
    ///
    /// # Errors
    /// [`OverlayError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, OverlayError> {
        if bytes.len() > MAX_OVERLAY_BYTES {
            return Err(OverlayError::TooLarge);
        }
        let overlay = Self { tree: Tree::check(bytes)? };
        let reader = overlay.tree.reader()?;
        if reader.all_nodes().take(MAX_OVERLAY_NODES.saturating_add(1)).count() > MAX_OVERLAY_NODES {
            return Err(OverlayError::TooLarge);
        }
        let root = reader.find_node("/").ok_or(FdtError::Reader)?;
        if child(root, FIXUPS).is_some_and(|fixups| fixups.properties().count() > 0) {
            return Err(OverlayError::Label);
        }
        let mut handles = Vec::new();
        let mut some = false;
        for piece in fragments(root) {
            let (path, piece) = piece?;
            piece.check(&mut handles)?;
            is_open(piece.node, &parts(path).map(String::from).collect::<Vec<_>>())?;
            some = true;
        }
        if some { Ok(overlay) } else { Err(OverlayError::NotFragment("the root".into())) }
    }

    /// Builds the tree that has all of `base`, a tree of ours, and what the overlay adds.
    ///
    /// # Errors
    /// [`OverlayError`].
    pub fn apply(&self, base: &[u8]) -> Result<Vec<u8>, OverlayError> {
        let base = Tree::check(base)?;
        let (below, above) = (base.reader()?, self.tree.reader()?);
        let root = below.find_node("/").ok_or(FdtError::Reader)?;
        let mut targets = Vec::new();
        for piece in fragments(above.find_node("/").ok_or(FdtError::Reader)?) {
            let (path, piece) = piece?;
            if parts(path).try_fold(root, child).is_none() {
                return Err(OverlayError::NoTarget(path.into()));
            }
            targets.push((parts(path).collect::<Vec<_>>(), piece));
        }
        let highest = below.all_nodes().filter_map(|node| one_cell(node.property("phandle")?.value)).max();
        let mut tree = Builder::new();
        let merge = Merge { targets: &targets, raise: highest.unwrap_or(0) };
        merge.node(&mut tree, root, &mut Vec::new(), &[])?;
        let blob = tree.finish()?;
        Tree::check(&blob)?;
        Ok(blob)
    }
}

/// What is done while the final tree is written anew.
struct Merge<'t, 'b, 'a> {
    /// Where, and what.
    targets: &'t [(Vec<&'a str>, Piece<'b, 'a>)],
    /// What numbers of nodes are raised by.
    raise: u32,
}

impl<'a> Merge<'_, '_, 'a> {
    /// Writes what a node of the final tree has, then what is added to it: `inherited` by fragments for nodes above, and by
    /// those that name it. The node itself was begun, but for its first turn, which is the root's.
    fn node(
        &self,
        tree: &mut Builder,
        node: Node<'_, '_>,
        path: &mut Vec<String>,
        inherited: &[Piece<'_, '_>],
    ) -> Result<(), OverlayError> {
        let named = self.targets.iter().filter(|(target, _)| target.iter().eq(path.iter()));
        let added: Vec<Piece<'_, '_>> =
            inherited.iter().copied().chain(named.map(|(_, piece)| *piece)).collect();
        node.properties().for_each(|property| tree.bytes(property.name, property.value));
        for (index, piece) in added.iter().enumerate() {
            is_open(piece.node, path)?;
            let before = added.iter().take(index);
            for property in piece.node.properties() {
                let twice = before.clone().any(|other| other.node.property(property.name).is_some());
                if twice || node.property(property.name).is_some() {
                    return Err(stated(path, property.name));
                }
            }
            piece.properties(tree, self.raise)?;
        }
        for below in node.children() {
            let pieces: Vec<Piece<'_, '_>> = (added.iter().flat_map(|piece| piece.children()))
                .filter(|piece| piece.node.name == below.name)
                .collect();
            tree.begin(format_args!("{}", below.name));
            path.push(below.name.into());
            self.node(tree, below, path, &pieces)?;
            path.pop();
            tree.end();
        }
        let new = added.iter().flat_map(|piece| piece.children());
        for piece in new.filter(|piece| child(node, piece.node.name).is_none()) {
            self.may_add(piece.node, path)?;
            piece.add(tree, self.raise)?;
        }
        Ok(())
    }

    /// Demands that a new child of a node of the final tree may be there.
    fn may_add(&self, new: Node<'_, '_>, path: &[String]) -> Result<(), OverlayError> {
        let base = new.name.split('@').next().unwrap_or_default();
        let fine = match path {
            [] => !TAKEN.contains(&base) && !base.starts_with("__"),
            // A pool has no place of its own: the kernel finds one in memory that nobody has.
            [top] if top == "reserved-memory" => {
                new.property("size").is_some() && new.property("reg").is_none()
            }
            _ => true,
        };
        if fine { Ok(()) } else { Err(stated(path, new.name)) }
    }
}

/// Demands that a node of the final tree may be added to, and by these properties.
fn is_open(added: Node<'_, '_>, path: &[String]) -> Result<(), OverlayError> {
    let open = match path {
        [] => true,
        [top] if top == "reserved-memory" => added.properties().count() == 0,
        [top] => OPEN.iter().any(|open| top.starts_with(open)),
        _ => false,
    };
    if !open {
        return Err(stated(path, added.name));
    }
    let is_stated = |name: &str| {
        STATED.contains(&name)
            || name.starts_with("gatehouse,")
            || (name.starts_with("linux,") || name.ends_with("-path")) && !path.is_empty()
    };
    match added.properties().find(|property| is_stated(property.name)) {
        Some(property) => Err(stated(path, property.name)),
        None => Ok(()),
    }
}

fn stated(path: &[String], last: &str) -> OverlayError {
    let mut at = String::new();
    for part in path.iter().map(String::as_str).chain([last]) {
        at.push('/');
        at.push_str(part);
    }
    OverlayError::Stated(at)
}

/// The names on a path.
fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|part| !part.is_empty())
}

/// Finds a child by its whole name.
fn child<'b, 'a>(node: Node<'b, 'a>, name: &str) -> Option<Node<'b, 'a>> {
    node.children().find(|child| child.name == name)
}

/// The fragments of an overlay, each with its target.
fn fragments<'b, 'a>(
    root: Node<'b, 'a>,
) -> impl Iterator<Item = Result<(&'a str, Piece<'b, 'a>), OverlayError>> {
    let frame = [FIXUPS, LOCAL_FIXUPS, SYMBOLS];
    root.children().filter(move |node| !frame.contains(&node.name)).map(move |fragment| {
        let wrong = || OverlayError::NotFragment(fragment.name.into());
        if fragment.property("target").is_some() {
            return Err(OverlayError::Label);
        }
        let path = fragment.property("target-path").and_then(|path| one_string(path.value));
        let path = path.filter(|path| path.starts_with('/')).ok_or_else(wrong)?;
        let node = child(fragment, CONTENT).ok_or_else(wrong)?;
        let local = child(root, LOCAL_FIXUPS).and_then(|all| child(child(all, fragment.name)?, CONTENT));
        Ok((path, Piece { node, fixups: local }))
    })
}
