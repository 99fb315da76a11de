//! The machine as the realm sees it, and where the real BARs are kept.

use alloc::vec;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

/// Bytes of one granule of RSI (DEN0137 A2.3).
pub const PAGE: u64 = 0x1000;

/// A range of addresses, `base` up to `base + len`, both multiples of 4 KiB.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Range {
    /// First address.
    pub base: u64,
    /// Bytes.
    pub len: u64,
}

impl Range {
    /// Makes a range.
    pub const fn new(base: u64, len: u64) -> Range {
        Range { base, len }
    }

    /// Returns the address behind the last byte.
    pub const fn top(&self) -> u64 {
        self.base.saturating_add(self.len)
    }

    /// Says whether `address` lies inside.
    pub const fn contains(&self, address: u64) -> bool {
        address >= self.base && address < self.top()
    }

    /// Says whether all of `[base, top)` lies inside.
    pub const fn covers(&self, base: u64, top: u64) -> bool {
        base >= self.base && top <= self.top()
    }
}

/// The board: what the shell knows about the machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Board {
    /// IPA width W in bits; bit W-1 is the alias (unprotected) bit.
    pub ipa_width: u8,
    /// Realm RAM, IPA = PA.
    pub ram: Vec<Range>,
    /// The whole ECAM (1 MiB for each bus), never mapped: each access faults and is emulated.
    pub ecam: Range,
    /// Bus number of the first bus in `ecam`.
    pub first_bus: u8,
    /// Platform devices that pass through at IPA = PA (console, interrupt controller), through the alias only.
    pub mmio: Vec<Range>,
    /// Windows of the PCI host bridge in which the realm places memory BARs.
    pub pci_windows: Vec<Range>,
    /// PA window for the real BARs of assigned devices below 4 GiB, outside everything the realm sees.
    pub real_bars: Range,
    /// The same above 4 GiB, for 64-bit BARs of [`HIGH_BAR`] and more; empty if the machine has none.
    #[serde(default)]
    pub real_bars_high: Range,
}

/// Least bytes of a 64-bit BAR that goes above 4 GiB.
pub const HIGH_BAR: u64 = 1 << 26;

impl Board {
    /// Returns the board of [`crate::sim`]: the addresses of QEMU virt, W = 44, 256 MiB of RAM.
    pub fn sim() -> Board {
        Board {
            ipa_width: 44,
            ram: vec![Range::new(0x4000_0000, 0x1000_0000)],
            ecam: Range::new(0x40_1000_0000, 0x1000_0000),
            first_bus: 0,
            mmio: vec![Range::new(0x0900_0000, PAGE)],
            pci_windows: vec![
                Range::new(0x1000_0000, 0x1000_0000),
                Range::new(0x80_0000_0000, 0x10_0000_0000),
            ],
            real_bars: Range::new(0x2000_0000, 0x1000_0000),
            real_bars_high: Range::new(0x300_0000_0000, 0x100_0000_0000),
        }
    }

    /// Returns [`Board::sim`] with a high PCI window of 256 GiB instead of 64.
    pub fn sim_wide() -> Board {
        let mut board = Board::sim();
        board.pci_windows[1].len = 0x40_0000_0000;
        board
    }

    /// Returns the alias bit, 2^(W-1).
    pub const fn alias_bit(&self) -> u64 {
        1 << (self.ipa_width - 1)
    }

    /// Says whether all of `[base, top)` is realm RAM.
    pub fn is_ram(&self, base: u64, top: u64) -> bool {
        self.ram.iter().any(|range| range.covers(base, top))
    }
}
