//! ECAM: one 4 KiB page of configuration space per function (PCIe Base 6.0, 7.2.2).
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::PcieError;
use crate::addr::{Bdf, IpaRange};
use crate::platform::{AccessSize, Half, Io, IoWindow};

/// Configuration space of one host bridge, emulated by the host.
#[derive(Debug)]
pub struct Ecam {
    window: IoWindow,
    first_bus: u8,
    last_bus: u8,
}

impl Ecam {
    /// Maps the configuration space of buses `first_bus..=last_bus`, which begins at `range.base()`.
    ///
    /// # Errors
    /// [`PcieError::Io`].
    pub fn open<I: Io>(io: &mut I, range: IpaRange, first_bus: u8, last_bus: u8) -> Result<Self, PcieError> {
        Ok(Self { window: io.map(range, Half::Unprotected)?, first_bus, last_bus })
    }

    /// Returns the number of the root bus.
    pub(super) fn first_bus(&self) -> u8 {
        self.first_bus
    }

    /// Returns the highest bus number that can be reached.
    pub(super) fn last_bus(&self) -> u8 {
        self.last_bus
    }

    fn offset(&self, bdf: Bdf, register: u16) -> Result<u64, PcieError> {
        if bdf.bus() < self.first_bus || bdf.bus() > self.last_bus {
            return Err(PcieError::Bus(bdf));
        }
        let function = u64::from(bdf.routing_id()).wrapping_sub(u64::from(self.first_bus) << 8) << 12;
        Ok(function | u64::from(register & 0xfff))
    }

    /// Reads 8 bits.
    ///
    /// # Errors
    /// [`PcieError::Bus`], [`PcieError::Io`]; also of the other accessors.
    pub fn read8<I: Io>(&self, io: &mut I, bdf: Bdf, register: u16) -> Result<u8, PcieError> {
        let value = io.read(&self.window, self.offset(bdf, register)?, AccessSize::Byte)?;
        Ok(value.to_le_bytes()[0])
    }

    /// Reads 16 bits.
    ///
    /// # Errors
    /// As [`Ecam::read8`].
    pub fn read16<I: Io>(&self, io: &mut I, bdf: Bdf, register: u16) -> Result<u16, PcieError> {
        let value = io.read(&self.window, self.offset(bdf, register)?, AccessSize::Half)?;
        let [b0, b1, ..] = value.to_le_bytes();
        Ok(u16::from_le_bytes([b0, b1]))
    }

    /// Reads 32 bits.
    ///
    /// # Errors
    /// As [`Ecam::read8`].
    pub fn read32<I: Io>(&self, io: &mut I, bdf: Bdf, register: u16) -> Result<u32, PcieError> {
        let value = io.read(&self.window, self.offset(bdf, register)?, AccessSize::Word)?;
        let [b0, b1, b2, b3, ..] = value.to_le_bytes();
        Ok(u32::from_le_bytes([b0, b1, b2, b3]))
    }

    /// Writes 16 bits.
    ///
    /// # Errors
    /// As [`Ecam::read8`].
    pub fn write16<I: Io>(&self, io: &mut I, bdf: Bdf, register: u16, value: u16) -> Result<(), PcieError> {
        Ok(io.write(&self.window, self.offset(bdf, register)?, AccessSize::Half, value.into())?)
    }

    /// Writes 32 bits.
    ///
    /// # Errors
    /// As [`Ecam::read8`].
    pub fn write32<I: Io>(&self, io: &mut I, bdf: Bdf, register: u16, value: u32) -> Result<(), PcieError> {
        Ok(io.write(&self.window, self.offset(bdf, register)?, AccessSize::Word, value.into())?)
    }

    /// Writes 32 bits of a bridge and reads them back; the bits outside `mask` are the bridge's own.
    pub(super) fn write_checked<I: Io>(
        &self,
        io: &mut I,
        bdf: Bdf,
        register: u16,
        written: u32,
        mask: u32,
    ) -> Result<(), PcieError> {
        self.write32(io, bdf, register, written)?;
        let read = self.read32(io, bdf, register)?;
        if (read ^ written) & mask == 0 {
            return Ok(());
        }
        Err(PcieError::BridgeReadBack { bdf, register, written, read })
    }
}
