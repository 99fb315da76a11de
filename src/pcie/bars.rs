//! Base address registers: sizes, addresses from the windows of the host bridge, writing and reading back.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::{Ecam, Function, PcieError};
use crate::abi::pcie as abi;
use crate::addr::{Bdf, GRANULE_SIZE, IpaRange};
use crate::platform::Io;
use alloc::vec::Vec;

/// One memory BAR with the address that the firmware gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Register number, 0..=5.
    pub index: u8,
    /// 64-bit: occupies the next register too.
    pub wide: bool,
    /// Prefetchable.
    pub prefetchable: bool,
    /// Address (IPA = PCI bus address, alias bit clear), naturally aligned.
    pub address: u64,
    /// Bytes, a power of two; smaller than 4 KiB BARs sit alone in their page.
    pub size: u64,
}

impl Bar {
    /// Returns the offset of the register in configuration space.
    #[must_use]
    pub fn register(&self) -> u16 {
        abi::BAR0.saturating_add(u16::from(self.index).saturating_mul(4))
    }

    /// Returns the address range in whole granules.
    ///
    /// # Errors
    /// [`PcieError::BarSize`] when the address space ends inside.
    pub fn range(&self, bdf: Bdf) -> Result<IpaRange, PcieError> {
        IpaRange::covering(self.address, self.size).map_err(|_| PcieError::BarSize {
            bdf,
            bar: self.index,
            value: self.size,
        })
    }
}

/// The memory BARs of one function.
pub type Bars = Vec<Bar>;

/// The MMIO windows of the host bridge, and how much of them is given out.
#[derive(Debug)]
pub struct Windows {
    low: Option<Window>,
    high: Option<Window>,
}

#[derive(Debug)]
struct Window {
    range: IpaRange,
    next: u64,
}

impl Windows {
    /// Takes the 32-bit window and the 64-bit window of the device tree. BARs of 64 bits go to the high one.
    #[must_use]
    pub fn new(low: Option<IpaRange>, high: Option<IpaRange>) -> Self {
        let window = |range: IpaRange| Window { range, next: range.base() };
        Self { low: low.map(window), high: high.map(window) }
    }

    fn allocate(&mut self, wide: bool, size: u64) -> Option<u64> {
        let order = if wide { [self.high.as_mut(), self.low.as_mut()] } else { [None, self.low.as_mut()] };
        for window in order.into_iter().flatten() {
            let room = size.max(GRANULE_SIZE);
            let base = window.next.checked_next_multiple_of(room);
            let found = base.and_then(|base| Some((base, base.checked_add(room)?)));
            if let Some((base, top)) = found
                && top <= window.range.top()
                && base != 0
            {
                window.next = top;
                return Some(base);
            }
        }
        None
    }
}

/// Sizes the memory BARs of `function` (decode must be off) and chooses addresses for them.
///
/// # Errors
/// [`PcieError::BarSize`] for an impossible answer, [`PcieError::NoRoom`].
pub(super) fn size_and_choose<I: Io>(
    io: &mut I,
    ecam: &Ecam,
    function: &Function,
    windows: &mut Windows,
) -> Result<Bars, PcieError> {
    let bdf = function.bdf;
    let mut bars = Bars::new();
    let mut index = 0u8;
    while index < abi::NUM_BARS {
        let register = abi::BAR0.saturating_add(u16::from(index).saturating_mul(4));
        let low = size_register(io, ecam, bdf, register)?;
        let mut step = 1u8;
        if low & abi::BAR_IO == 0 && low != 0 {
            let wide = match low & abi::BAR_TYPE_MASK {
                0 => false,
                abi::BAR_TYPE_64 if index < abi::NUM_BARS.saturating_sub(1) => true,
                _ => return Err(PcieError::BarSize { bdf, bar: index, value: low.into() }),
            };
            let mut mask = u64::from(low & abi::BAR_ADDRESS_MASK);
            if wide {
                step = 2;
                mask |= u64::from(size_register(io, ecam, bdf, register.saturating_add(4))?) << 32;
            } else {
                mask |= 0xffff_ffff_0000_0000;
            }
            // The writable bits must be one run up to the top: then -mask is the size.
            let size = mask.wrapping_neg();
            if mask == 0 || !size.is_power_of_two() {
                return Err(PcieError::BarSize { bdf, bar: index, value: mask });
            }
            let address = windows.allocate(wide, size).ok_or(PcieError::NoRoom { bdf, bar: index, size })?;
            let prefetchable = low & abi::BAR_PREFETCHABLE != 0;
            bars.push(Bar { index, wide, prefetchable, address, size });
        }
        index = index.saturating_add(step);
    }
    Ok(bars)
}

fn size_register<I: Io>(io: &mut I, ecam: &Ecam, bdf: Bdf, register: u16) -> Result<u32, PcieError> {
    ecam.write32(io, bdf, register, u32::MAX)?;
    ecam.read32(io, bdf, register)
}

/// Writes the chosen addresses and reads each register back.
///
/// # Errors
/// [`PcieError::BarReadBack`].
pub(super) fn program<I: Io>(io: &mut I, ecam: &Ecam, bdf: Bdf, bars: &Bars) -> Result<(), PcieError> {
    for bar in bars {
        let register = bar.register();
        let [l0, l1, l2, l3, h0, h1, h2, h3] = bar.address.to_le_bytes();
        let (low, high) = (u32::from_le_bytes([l0, l1, l2, l3]), u32::from_le_bytes([h0, h1, h2, h3]));
        ecam.write32(io, bdf, register, low)?;
        let mut read = u64::from(ecam.read32(io, bdf, register)? & abi::BAR_ADDRESS_MASK);
        if bar.wide {
            ecam.write32(io, bdf, register.saturating_add(4), high)?;
            read |= u64::from(ecam.read32(io, bdf, register.saturating_add(4))?) << 32;
        }
        if read != bar.address {
            return Err(PcieError::BarReadBack { bdf, bar: bar.index, written: bar.address, read });
        }
    }
    Ok(())
}
