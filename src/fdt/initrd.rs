//! The initrd range of the host's tree: `/chosen`, `linux,initrd-start` and `linux,initrd-end`.
//!
//! Trust: host. Only the form is checked here; whether the range may be read is decided in [`crate::boot::source`].
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::check::{FdtError, Tree};
use core::ops::Range;
use thiserror::Error;

const START: &str = "linux,initrd-start";
const END: &str = "linux,initrd-end";

/// Why there is no range.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum InitrdError {
    /// Not a tree.
    #[error(transparent)]
    Tree(#[from] FdtError),
    /// The property, or `/chosen` itself, is missing.
    #[error("the device tree has no {0}")]
    Missing(&'static str),
    /// The property is neither one cell nor two.
    #[error("{0} is neither one cell nor two")]
    Cells(&'static str),
    /// The range ends where it begins, or before.
    #[error("the initrd range ends at {end:#x}, before {start:#x} has begun")]
    Empty {
        /// First address.
        start: u64,
        /// First address behind it.
        end: u64,
    },
}

/// Reads the range; it is not empty.
///
/// # Errors
/// [`InitrdError`].
pub fn initrd(tree: &Tree) -> Result<Range<u64>, InitrdError> {
    let reader = tree.reader()?;
    let chosen = reader.find_node("/chosen").ok_or(InitrdError::Missing("/chosen"))?;
    let number = |name| -> Result<u64, InitrdError> {
        let value = chosen.property(name).ok_or(InitrdError::Missing(name))?.value;
        if let Ok(cells) = <[u8; 8]>::try_from(value) {
            return Ok(u64::from_be_bytes(cells));
        }
        let cell = <[u8; 4]>::try_from(value).map_err(|_| InitrdError::Cells(name))?;
        Ok(u64::from(u32::from_be_bytes(cell)))
    };
    let (start, end) = (number(START)?, number(END)?);
    if start >= end {
        return Err(InitrdError::Empty { start, end });
    }
    Ok(start..end)
}
