//! Free address space: first fit, naturally aligned.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use alloc::vec::Vec;

/// What is left of a range, in ascending order.
#[derive(Clone, Debug)]
pub(super) struct Space {
    /// Base and top of each hole.
    free: Vec<(u64, u64)>,
}

impl Space {
    /// Takes `[base, top)` as free.
    pub(super) fn new(base: u64, top: u64) -> Self {
        Self { free: Vec::from([(base, top)]) }
    }

    /// Gives out the lowest `size` bytes at a multiple of `align`, or none.
    pub(super) fn take(&mut self, size: u64, align: u64) -> Option<u64> {
        let fit = |(base, top): (u64, u64)| {
            let start = base.checked_next_multiple_of(align)?;
            let end = start.checked_add(size)?;
            (end <= top).then_some((start, end))
        };
        let (index, (start, end)) =
            self.free.iter().enumerate().find_map(|(index, hole)| Some((index, fit(*hole)?)))?;
        let (base, top) = self.free.remove(index);
        if end < top {
            self.free.insert(index, (end, top));
        }
        if base < start {
            self.free.insert(index, (base, start));
        }
        Some(start)
    }
}
