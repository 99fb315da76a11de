//! Base address registers: sizes, writing and reading back.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::{Ecam, Function, Kind, PcieError, make_quiet};
use crate::abi::pcie as abi;
use crate::addr::{Bdf, IpaRange};
use crate::platform::{Io, Platform};
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

/// What a memory BAR asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarSize {
    /// Register number, 0..=5.
    pub index: u8,
    /// 64-bit: occupies the next register too.
    pub wide: bool,
    /// Prefetchable.
    pub prefetchable: bool,
    /// Bytes, a power of two.
    pub size: u64,
}

/// Makes `function` quiet and sizes its memory BARs. The registers hold no addresses afterwards.
///
/// # Errors
/// [`PcieError::NotEndpoint`], [`PcieError::CommandReadBack`]; [`PcieError::BarSize`] for an impossible answer.
pub fn size_bars<P: Platform>(
    io: &mut P,
    ecam: &Ecam,
    function: &Function,
) -> Result<Vec<BarSize>, PcieError> {
    let bdf = function.bdf;
    make_quiet(io, ecam, bdf)?;
    if function.kind != Kind::Endpoint {
        return Err(PcieError::NotEndpoint(bdf));
    }
    let mut bars = Vec::new();
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
            let prefetchable = low & abi::BAR_PREFETCHABLE != 0;
            bars.push(BarSize { index, wide, prefetchable, size });
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
