//! Range commands: an RMM may do a part and say how far it came; the rest is asked for again.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::{Command, RsiError};
use crate::abi::rsi as abi;
use crate::addr::{GRANULE_SIZE, IpaRange};
use crate::mutation::{Mutation, removed};

/// How many replies without progress one range may take.
const MAX_STALLS: u32 = 64;

/// Why a range was not done although the RMM answered by its rules.
pub(super) enum Halt {
    /// The host refused from this address on.
    Rejected(u64),
    /// No progress for [`MAX_STALLS`] replies, at this address.
    Stalled(u64),
}

/// Repeats `step`, which issues `command` from an address on and returns x0.., until it reaches the top of `range`.
///
/// x1 is the next address, x2 the response (A5.4.1): ACCEPT without progress means "call again".
pub(super) fn advance<E: From<RsiError> + From<Halt>>(
    command: Command,
    range: IpaRange,
    mut step: impl FnMut(u64) -> Result<[u64; 18], RsiError>,
) -> Result<(), E> {
    let mut base = range.base();
    let mut stalls = 0u32;
    while base < range.top() {
        let [_, next, response, ..] = step(base)?;
        if next < base || next > range.top() || !next.is_multiple_of(GRANULE_SIZE) {
            return Err(RsiError::BadReply { command, register: 1, value: next }.into());
        }
        // Only bit 0 is the response; the specification reserves the others without a value.
        if response & abi::RESPONSE_REJECT != 0 {
            return Err(Halt::Rejected(next).into());
        }
        if next == base {
            if stalls >= MAX_STALLS && !removed(Mutation::Stalls) {
                return Err(Halt::Stalled(base).into());
            }
            stalls = stalls.saturating_add(1);
        }
        base = next;
    }
    Ok(())
}
