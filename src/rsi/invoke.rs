//! The one place that issues an RSI call.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::{Command, RsiError, Status};
use crate::abi::rsi as abi;
use crate::conduit::Conduit;
use crate::mutation::{Mutation, removed};

/// How often a VDEV call that answers RSI_INCOMPLETE is repeated (spec/rsi: newest TF-RMM, object claim).
const MAX_INCOMPLETE: u32 = 64;

/// Issues `command` with `args` in x1.. and returns x0..x17.
///
/// Every address in `args` belongs to a buffer that the caller borrows mutably across this call, or to a range that
/// [`super::ripas`] proved to lie outside the firmware.
#[expect(unsafe_code, reason = "the only caller of the conduit")]
pub(super) fn invoke<C: Conduit>(conduit: &mut C, command: Command, args: &[u64]) -> [u64; 18] {
    let mut all = [0; 17];
    for (slot, value) in all.iter_mut().zip(args) {
        *slot = *value;
    }
    // SAFETY: the private callers in `rsi` pass addresses only of borrowed `CallBuf`s, of `SharedPages` and of
    // `Surrender` ranges, whose constructors keep them apart from any memory that Rust sees.
    unsafe { conduit.smc64(command.function_id(), all) }
}

/// Turns x0 into a result.
pub(super) fn check(command: Command, x0: u64) -> Result<(), RsiError> {
    let status = match x0 {
        abi::RSI_SUCCESS => return Ok(()),
        abi::RSI_ERROR_INPUT => Status::Input,
        abi::RSI_ERROR_STATE => Status::State,
        abi::RSI_INCOMPLETE => Status::Incomplete,
        abi::RSI_ERROR_UNKNOWN => Status::Unknown,
        abi::RSI_ERROR_DEVICE => Status::Device,
        abi::NOT_SUPPORTED => Status::NotSupported,
        other => Status::Other(other),
    };
    Err(RsiError::Status { command, status })
}

/// As [`invoke`]; any status but success is an error.
pub(super) fn call<C: Conduit>(
    conduit: &mut C,
    command: Command,
    args: &[u64],
) -> Result<[u64; 18], RsiError> {
    let result = invoke(conduit, command, args);
    check(command, result[0])?;
    Ok(result)
}

/// As [`call`], repeated while it answers RSI_INCOMPLETE, at most [`MAX_INCOMPLETE`] times.
pub(super) fn call_vdev<C: Conduit>(
    conduit: &mut C,
    command: Command,
    args: &[u64],
) -> Result<[u64; 18], RsiError> {
    let mut result = invoke(conduit, command, args);
    let most = if removed(Mutation::Incomplete) { u32::MAX } else { MAX_INCOMPLETE };
    for _ in 0..most {
        if result[0] != abi::RSI_INCOMPLETE {
            break;
        }
        result = invoke(conduit, command, args);
    }
    check(command, result[0])?;
    Ok(result)
}
