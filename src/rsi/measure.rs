//! RIM and REMs (read only in this release).
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::invoke::{check, invoke};
use super::{Client, Command, RsiError};
use crate::abi::rsi as abi;
use crate::conduit::Conduit;

impl<C: Conduit> Client<'_, C> {
    /// Reads a measurement (RSI_MEASUREMENT_READ): `index` 0 = RIM, 1..=4 = REM.
    ///
    /// Returns 64 bytes, zero behind the digest of the realm's hash algorithm.
    ///
    /// # Errors
    /// [`RsiError::Status`]: Input for an index above 4.
    pub fn measurement_read(&mut self, index: u8) -> Result<[u8; 64], RsiError> {
        let result = invoke(self.conduit, abi::RSI_MEASUREMENT_READ, &[index.into()]);
        check(Command::MeasurementRead, result[0])?;
        let mut value = [0; 64];
        for (bytes, register) in value.chunks_exact_mut(8).zip(result.iter().skip(1)) {
            bytes.copy_from_slice(&register.to_le_bytes());
        }
        Ok(value)
    }
}
