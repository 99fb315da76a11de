//! RIM and REMs: reading them, extending a REM.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::invoke::call;
use super::{Client, Command, RsiError};
use crate::conduit::Conduit;

/// As [`Client::measurement_read`], before there is a client.
pub(super) fn measurement<C: Conduit>(conduit: &mut C, index: u8) -> Result<[u8; 64], RsiError> {
    let result = call(conduit, Command::MeasurementRead, &[index.into()])?;
    let mut value = [0; 64];
    for (bytes, register) in value.chunks_exact_mut(8).zip(result.iter().skip(1)) {
        bytes.copy_from_slice(&register.to_le_bytes());
    }
    Ok(value)
}

impl<C: Conduit> Client<'_, C> {
    /// Reads a measurement (RSI_MEASUREMENT_READ): `index` 0 = RIM, 1..=4 = REM.
    ///
    /// Returns 64 bytes, zero behind the digest of the realm's hash algorithm.
    ///
    /// # Errors
    /// [`RsiError::Status`]: Input for an index above 4.
    pub fn measurement_read(&mut self, index: u8) -> Result<[u8; 64], RsiError> {
        measurement(self.conduit, index)
    }

    /// Extends the REM `index` (1..=4) by `value`, at most 64 bytes (RSI_MEASUREMENT_EXTEND, B5.4.8).
    ///
    /// What the new value is made of differs between specification and TF-RMM (docs/spec-map.md).
    ///
    /// # Errors
    /// [`RsiError::Status`]: Input for another index or a longer value; nothing is extended then.
    pub fn measurement_extend(&mut self, index: u8, value: &[u8]) -> Result<(), RsiError> {
        let size = u64::try_from(value.len()).unwrap_or(u64::MAX);
        let mut args = [index.into(), size, 0, 0, 0, 0, 0, 0, 0, 0];
        for (register, bytes) in args.iter_mut().skip(2).zip(value.chunks(8)) {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(bytes) {
                *to = *from;
            }
            *register = u64::from_le_bytes(word);
        }
        call(self.conduit, Command::MeasurementExtend, &args).map(drop)
    }
}
