//! Device trees: a structural gate, typed facts of the host's tree, and the tree that the payload gets.
//!
//! Trust: the host's tree is attack surface until [`check::Tree::check`] took it, and every value in it still is until
//! [`read::Machine::read`] did. What [`mod@write`] makes is ours.
pub mod bridge;
mod build;
mod cells;
pub mod check;
mod copied;
pub mod emulated;
pub mod function;
pub mod initrd;
mod nodes;
pub mod overlay;
pub mod pci;
pub mod read;
mod walk;
pub mod write;

pub(crate) use cells::{one_cell, one_string};
