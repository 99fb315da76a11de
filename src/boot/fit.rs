//! Image nodes of a FIT: where the data lies and which digest it must have.
//!
//! Trust: as the bundle; every number is checked all the same.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::bundle::{BundleError, PartError, Role};
use crate::abi::fit;
use crate::digest::Digest;
use crate::fdt::{one_cell, one_string};
use ::fdt::node::FdtNode;
use core::ops::Range;

/// Where an image's data lies.
pub(super) enum Place<'a> {
    /// In the structure.
    Inline(&'a [u8]),
    /// In the bundle, bytes from its start.
    External(Range<usize>),
}

/// What an image node says of a part.
pub(super) struct Image<'a> {
    /// Where its data lies.
    pub(super) place: Place<'a>,
    /// Digest of the data as it lies there.
    pub(super) digest: Digest,
    /// The node says gzip.
    pub(super) gzip: bool,
}

/// Reads a part's image node.
pub(super) fn image<'a>(
    node: FdtNode<'_, 'a>,
    role: Role,
    structure_len: usize,
    bundle_len: usize,
) -> Result<Image<'a>, BundleError> {
    let fail = |error| BundleError::Part { role, error };
    let compression = node.property(fit::COMPRESSION);
    let gzip = match compression.map_or(Some(fit::COMPRESSION_NONE), |value| one_string(value.value)) {
        Some(fit::COMPRESSION_NONE) => false,
        Some(fit::COMPRESSION_GZIP) if role == Role::Kernel => true,
        _ => return Err(fail(PartError::Compression)),
    };
    let place = place(node, structure_len, bundle_len).map_err(fail)?;
    Ok(Image { place, digest: digest(node).map_err(fail)?, gzip })
}

fn place<'a>(node: FdtNode<'_, 'a>, structure_len: usize, bundle_len: usize) -> Result<Place<'a>, PartError> {
    let number = |name| match node.property(name) {
        Some(p) => match one_cell(p.value).and_then(|n| usize::try_from(n).ok()) {
            Some(n) => Ok(Some(n)),
            None => Err(PartError::Location),
        },
        None => Ok(None),
    };
    let (offset, position) = (number(fit::DATA_OFFSET)?, number(fit::DATA_POSITION)?);
    let start = match (node.property(fit::DATA), offset, position) {
        (Some(data), None, None) if data.value.is_empty() => return Err(PartError::Empty),
        (Some(data), None, None) => return Ok(Place::Inline(data.value)),
        (None, Some(offset), None) => structure_len
            .checked_next_multiple_of(fit::DATA_ALIGN)
            .and_then(|base| base.checked_add(offset))
            .ok_or(PartError::Location)?,
        (None, None, Some(position)) => position,
        _ => return Err(PartError::Location),
    };
    let len = number(fit::DATA_SIZE)?.ok_or(PartError::Location)?;
    let end = start.checked_add(len).ok_or(PartError::Location)?;
    match len {
        0 => Err(PartError::Empty),
        _ if end > bundle_len => Err(PartError::Outside { end, bundle_len }),
        _ if start < structure_len => Err(PartError::InStructure { start }),
        _ => Ok(Place::External(start..end)),
    }
}

/// The first hash node with an algorithm that we know. The manifest covers all of them: which one does not matter.
fn digest(node: FdtNode<'_, '_>) -> Result<Digest, PartError> {
    let mut seen = false;
    for hash in node.children().filter(|n| n.name.starts_with(fit::HASH)) {
        seen = true;
        let algo = hash.property(fit::ALGO).and_then(|p| one_string(p.value));
        let value = hash.property(fit::VALUE).map(|p| p.value).unwrap_or_default();
        let Some(algo @ ("sha256" | "sha384" | "sha512")) = algo else { continue };
        let digest = Digest::from_bytes(value).filter(|digest| digest.algorithm() == algo);
        return digest.ok_or(PartError::HashLength(value.len()));
    }
    Err(if seen { PartError::HashUnknown } else { PartError::HashMissing })
}
