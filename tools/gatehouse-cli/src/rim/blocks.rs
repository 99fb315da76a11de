//! The blocks in which a host makes RAM known before [`Rules::R1`](super::Rules) realms start: one RIPAS descriptor each.
//!
//! The RMM extends once for each entry of the translation tables that the host built before. Which those are is the host's
//! choice; the rule here, greedy largest aligned block, is that of Linux hosts as `cca-realm-measurements` describes it.
//!
//! Trust: none needed; every range and width gives an answer.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use gatehouse::addr::{GRANULE_SIZE, IpaRange};

/// Bits of an address that one level of tables translates.
const LEVEL_BITS: u32 = 9;
/// A start level with up to this many bits more is made of concatenated tables instead of one more level.
const CONCATENATED_BITS: u32 = 4;

/// Blocks of a range, ascending: `[base, top)`.
#[derive(Clone, Debug)]
pub struct Blocks {
    next: u64,
    top: u64,
    largest: u64,
}

impl Blocks {
    /// Splits `range` for tables of an IPA space of `s2sz` bits.
    #[must_use]
    pub fn new(range: IpaRange, s2sz: u8) -> Self {
        Self { next: range.base(), top: range.top(), largest: largest(s2sz) }
    }
}

impl Iterator for Blocks {
    type Item = (u64, u64);

    fn next(&mut self) -> Option<(u64, u64)> {
        if self.next >= self.top {
            return None;
        }
        let base = self.next;
        let mut size = self.largest;
        while size > GRANULE_SIZE
            && !(base.is_multiple_of(size) && base.checked_add(size).is_some_and(|end| end <= self.top))
        {
            size >>= LEVEL_BITS;
        }
        self.next = base.saturating_add(size.max(GRANULE_SIZE));
        Some((base, self.next))
    }
}

/// Bytes that an entry of the start level covers: 2 MiB, 1 GiB or 512 GiB for widths that realms have.
fn largest(s2sz: u8) -> u64 {
    let bits = u32::from(s2sz).saturating_sub(GRANULE_SIZE.trailing_zeros());
    let below = bits.div_ceil(LEVEL_BITS).saturating_sub(1);
    let rest = bits.saturating_sub(below.saturating_mul(LEVEL_BITS));
    let below = if rest <= CONCATENATED_BITS { below.saturating_sub(1) } else { below };
    GRANULE_SIZE.checked_shl(below.saturating_mul(LEVEL_BITS)).unwrap_or(GRANULE_SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_block_follows_from_the_width() {
        for (widths, bytes) in [(31..=34, 2u64 << 20), (35..=43, 1 << 30), (44..=52, 512 << 30)] {
            for width in widths {
                assert_eq!(largest(width), bytes, "{width}");
            }
        }
    }

    #[test]
    fn blocks_are_the_largest_that_are_aligned_and_fit() {
        let range = IpaRange::new(0x8000_0000, 0x20_2000).unwrap();
        let blocks: Vec<_> = Blocks::new(range, 40).collect();
        let (first, second) = ((0x8000_0000, 0x8020_0000), (0x8020_0000, 0x8020_1000));
        assert_eq!(blocks, [first, second, (0x8020_1000, 0x8020_2000)]);
        let range = IpaRange::new(0x3fe0_1000, 0x8020_0000).unwrap();
        let blocks: Vec<_> = Blocks::new(range, 41).collect();
        assert_eq!(blocks.len(), 511 + 2 + 1);
        assert!(blocks.contains(&(0x4000_0000, 0x8000_0000)) && blocks.contains(&(0x8000_0000, 0xc000_0000)));
        assert_eq!(blocks.last(), Some(&(0xc000_0000, 0xc000_1000)));
    }
}
