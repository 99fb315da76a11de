//! The attestation token of the realm, read granule by granule (A7.2.2).
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::invoke::{call, check, invoke};
use super::{Client, Command, RsiError};
use crate::abi::rsi as abi;
use crate::addr::GRANULE_SIZE;
use crate::conduit::{CallBuf, Conduit, OutOfMemory};
use crate::platform::Clock;
use alloc::vec::Vec;
use thiserror::Error;

/// Largest token that is taken, in bytes.
pub const MAX_TOKEN_SIZE: u64 = 64 * 1024;
/// How often RSI_ATTESTATION_TOKEN_CONTINUE may bring no byte: the RMM signs, or an interrupt takes it out.
const MAX_WAITS: u32 = 100_000;
/// How long one token may take, in seconds of CNTVCT (which the host may stop: the count holds always).
const MAX_SECONDS: u64 = 10;

/// Why there is no token.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    /// The RMM answered with an error or outside its ABI.
    #[error(transparent)]
    Rsi(#[from] RsiError),
    /// The RMM says that the token may have this size: nothing, or more than [`MAX_TOKEN_SIZE`].
    #[error("the token has up to {0:#x} bytes")]
    Size(u64),
    /// RSI_INCOMPLETE until the budget ran out.
    #[error("the token did not end within its budget, after {received:#x} bytes")]
    Endless {
        /// What had come, in bytes.
        received: u64,
    },
}

impl From<OutOfMemory> for TokenError {
    fn from(error: OutOfMemory) -> Self {
        Self::Rsi(error.into())
    }
}

impl<C: Conduit + Clock> Client<'_, C> {
    /// Has a token made for `challenge` and returns it (RSI_ATTESTATION_TOKEN_INIT, RSI_ATTESTATION_TOKEN_CONTINUE).
    ///
    /// The operation belongs to this REC. After an error the next call starts from the beginning.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn attestation_token(&mut self, challenge: &[u8; 64]) -> Result<Vec<u8>, TokenError> {
        let mut args = [0; 8];
        for (register, bytes) in args.iter_mut().zip(challenge.as_chunks().0) {
            *register = u64::from_le_bytes(*bytes);
        }
        let [_, bound, ..] = call(self.conduit, Command::AttestationTokenInit, &args)?;
        if bound == 0 || bound > MAX_TOKEN_SIZE {
            return Err(TokenError::Size(bound));
        }
        let mut token = Vec::new();
        token.try_reserve_exact(usize::try_from(bound).map_err(|_| OutOfMemory)?).map_err(|_| OutOfMemory)?;
        let mut granule = CallBuf::<abi::TokenGranule>::new()?;
        let limit = self.conduit.ticks_per_second().saturating_mul(MAX_SECONDS);
        let start = self.conduit.ticks();
        let (mut received, mut offset, mut waits) = (0u64, 0u64, 0u32);
        loop {
            let command = Command::AttestationTokenContinue;
            let room = GRANULE_SIZE.saturating_sub(offset);
            let [status, len, ..] = invoke(self.conduit, command, &[granule.ipa(), offset, room]);
            if status != abi::RSI_INCOMPLETE {
                check(command, status)?;
            }
            // The bytes count in either case.
            received = received.saturating_add(len);
            let end = offset.saturating_add(len);
            let bad = RsiError::BadReply { command, register: 1, value: len };
            if len > room || received > bound || (received == 0 && status == abi::RSI_SUCCESS) {
                return Err(bad.into());
            }
            let piece = usize::try_from(offset).ok().zip(usize::try_from(end).ok());
            let piece = piece.and_then(|(from, to)| granule.get().bytes.get(from..to)).ok_or(bad)?;
            token.extend_from_slice(piece);
            if status == abi::RSI_SUCCESS {
                return Ok(token);
            }
            offset = if end == GRANULE_SIZE { 0 } else { end };
            if len == 0 {
                waits = waits.saturating_add(1);
                self.conduit.relax();
            }
            if waits > MAX_WAITS || self.conduit.ticks().wrapping_sub(start) > limit {
                return Err(TokenError::Endless { received });
            }
        }
    }
}
