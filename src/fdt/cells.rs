//! Big-endian cells of property values, decoded with bounds.
//!
//! Trust: host; every function is total.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

/// Returns the big-endian word at byte `offset`.
pub(crate) fn be32(bytes: &[u8], offset: usize) -> Option<u32> {
    let end = offset.checked_add(4)?;
    Some(u32::from_be_bytes(bytes.get(offset..end)?.try_into().ok()?))
}

/// Returns a value that is exactly one cell.
pub(crate) fn one_cell(bytes: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.try_into().ok()?))
}

/// Returns all cells, or `None` when the length is not a multiple of four.
pub(crate) fn cells(bytes: &[u8]) -> Option<impl Iterator<Item = u32> + '_> {
    let (chunks, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| chunks.iter().map(|c| u32::from_be_bytes(*c)))
}

/// Joins two cells to one number.
pub(crate) fn join(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// Splits a number into two cells, high first.
pub(crate) fn split(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])]
}

/// Returns the one string of a value: NUL-terminated, no other NUL, printable ASCII.
pub(crate) fn one_string(bytes: &[u8]) -> Option<&str> {
    let mut all = strings(bytes)?;
    let first = all.next()?;
    all.next().is_none().then_some(first)
}

/// Returns the strings of a string list; `None` unless each is printable ASCII, not empty and terminated.
pub(crate) fn strings(bytes: &[u8]) -> Option<impl Iterator<Item = &str>> {
    let body = bytes.strip_suffix(&[0])?;
    let text = core::str::from_utf8(body).ok()?;
    let fine = |s: &str| !s.is_empty() && s.bytes().all(|b| b == b' ' || b.is_ascii_graphic());
    text.split('\0').all(fine).then(|| text.split('\0'))
}
