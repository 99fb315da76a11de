//! RIPAS: asking for the state of memory, giving pages to the host and taking them back.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::invoke::{check, invoke};
use super::{Client, Command, RsiError, Session};
use crate::abi::rsi as abi;
use crate::addr::{AddrError, GRANULE_SIZE, IpaRange};
use crate::conduit::{Conduit, OutOfMemory};
use alloc::boxed::Box;
use thiserror::Error;
use zerocopy::FromZeros;

/// How many replies without progress one range may take.
const MAX_STALLS: u32 = 64;

/// How many replies a question about one range may take: an RMM may answer in steps of one table.
pub const MAX_STATE_STEPS: u32 = 1 << 18;

/// State of an IPA in the protected half (B5.5.18).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ripas {
    /// Nothing there; an access is an external abort.
    Empty,
    /// Private memory.
    Ram,
    /// Content lost by host action.
    Destroyed,
    /// Validated device memory.
    Dev,
}

/// Why a range did not change its state.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum StateSetError {
    /// The RMM answered with an error or outside its ABI.
    #[error(transparent)]
    Rsi(#[from] RsiError),
    /// The host refused from this address on.
    #[error("the host refused the change at {0:#x}")]
    Rejected(u64),
    /// No progress for [`MAX_STALLS`] replies, at this address.
    #[error("no progress at {0:#x}")]
    Stalled(u64),
}

/// A range that may be given up: protected, and outside the firmware.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Surrender(IpaRange);

impl Surrender {
    /// Checks that `range` is protected and touches nothing of the firmware.
    ///
    /// # Errors
    /// [`AddrError::NotProtected`] outside the protected half, [`AddrError::BadRange`] when it touches the firmware.
    pub fn new(range: IpaRange, session: &Session) -> Result<Self, AddrError> {
        range.protected(session.width())?;
        if range.overlaps(&session.own()) {
            return Err(AddrError::BadRange { base: range.base(), len: range.len_bytes() });
        }
        Ok(Self(range))
    }

    /// Returns the range.
    #[must_use]
    pub fn range(&self) -> IpaRange {
        self.0
    }
}

/// One granule of heap.
#[derive(FromZeros)]
#[repr(C, align(4096))]
struct Granule([u8; 4096]);

/// Heap pages taken out of Rust's sight for ever: they can be shared with the host. Never freed.
#[derive(Debug)]
pub struct SharedPages(IpaRange);

impl SharedPages {
    /// Takes `num_granules` (above 0) zeroed granules off the heap, the first on a multiple of `align` (a power of two of
    /// at least 4096 bytes).
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn take(num_granules: u64, align: u64) -> Result<Self, OutOfMemory> {
        // What lies before the aligned start is lost: less than one sharing unit, once per boot.
        let spare = (align / GRANULE_SIZE).saturating_sub(1);
        let total =
            num_granules.checked_add(spare).and_then(|n| usize::try_from(n).ok()).ok_or(OutOfMemory)?;
        let pages = <[Granule]>::new_box_zeroed_with_elems(total).map_err(|_| OutOfMemory)?;
        let pages = Box::leak(pages);
        let start = u64::try_from(pages.as_mut_ptr().expose_provenance()).map_err(|_| OutOfMemory)?;
        let base = start.checked_next_multiple_of(align).ok_or(OutOfMemory)?;
        let len = num_granules.checked_mul(GRANULE_SIZE).ok_or(OutOfMemory)?;
        IpaRange::new(base, len).map(Self).map_err(|_| OutOfMemory)
    }

    /// Returns the range, alias bit clear.
    #[must_use]
    pub fn range(&self) -> IpaRange {
        self.0
    }
}

impl<C: Conduit> Client<'_, C> {
    /// Returns the state of the granules from `range.base()` on and how far it is uniform (RSI_IPA_STATE_GET).
    ///
    /// # Errors
    /// [`RsiError::Status`]; [`RsiError::BadReply`] for an end outside (base, top] or an unknown state.
    pub fn ipa_state_get(&mut self, range: IpaRange) -> Result<(u64, Ripas), RsiError> {
        let [status, top, ripas, ..] =
            invoke(self.conduit, abi::RSI_IPA_STATE_GET, &[range.base(), range.top()]);
        check(Command::IpaStateGet, status)?;
        let bad = |register, value| RsiError::BadReply { command: Command::IpaStateGet, register, value };
        if top <= range.base() || top > range.top() || !top.is_multiple_of(GRANULE_SIZE) {
            return Err(bad(1, top));
        }
        let ripas = match ripas {
            abi::RIPAS_EMPTY => Ripas::Empty,
            abi::RIPAS_RAM => Ripas::Ram,
            abi::RIPAS_DESTROYED => Ripas::Destroyed,
            abi::RIPAS_DEV => Ripas::Dev,
            other => return Err(bad(2, other)),
        };
        Ok((top, ripas))
    }

    /// Tells whether every granule of `range` has state `wanted`; otherwise returns the first that has not, with its
    /// state. At most [`MAX_STATE_STEPS`] replies.
    ///
    /// # Errors
    /// As [`Client::ipa_state_get`]; [`RsiError::TooManySteps`].
    pub fn ipa_state_is(
        &mut self,
        range: IpaRange,
        wanted: Ripas,
    ) -> Result<Result<(), (u64, Ripas)>, RsiError> {
        let mut rest = range;
        for _ in 0..MAX_STATE_STEPS {
            let (top, state) = self.ipa_state_get(rest)?;
            if state != wanted {
                return Ok(Err((rest.base(), state)));
            }
            match IpaRange::from_bounds(top, range.top()) {
                Ok(next) => rest = next,
                Err(_) => return Ok(Ok(())),
            }
        }
        Err(RsiError::TooManySteps(rest.base()))
    }

    /// Makes device or foreign pages EMPTY.
    ///
    /// # Errors
    /// [`StateSetError`]: some of the range may have changed.
    pub fn give_up(&mut self, range: Surrender) -> Result<(), StateSetError> {
        self.ipa_state_set(range.0, abi::RIPAS_EMPTY, abi::CHANGE_DESTROYED)
    }

    /// Makes own heap pages EMPTY, so that their alias can be shared with the host.
    ///
    /// # Errors
    /// [`StateSetError`].
    pub fn share(&mut self, pages: &SharedPages) -> Result<(), StateSetError> {
        self.ipa_state_set(pages.0, abi::RIPAS_EMPTY, 0)
    }

    /// Makes shared heap pages private again; their content is lost.
    ///
    /// # Errors
    /// [`StateSetError`].
    pub fn unshare(&mut self, pages: &SharedPages) -> Result<(), StateSetError> {
        self.ipa_state_set(pages.0, abi::RIPAS_RAM, abi::CHANGE_DESTROYED)
    }

    fn ipa_state_set(&mut self, range: IpaRange, ripas: u64, flags: u64) -> Result<(), StateSetError> {
        let mut base = range.base();
        let mut stalls = 0u32;
        while base < range.top() {
            let [status, next, response, ..] =
                invoke(self.conduit, abi::RSI_IPA_STATE_SET, &[base, range.top(), ripas, flags]);
            check(Command::IpaStateSet, status)?;
            base = match progress(Command::IpaStateSet, base, range.top(), next, response)? {
                Progress::Advanced => next,
                Progress::Rejected => return Err(StateSetError::Rejected(next)),
                Progress::None if stalls >= MAX_STALLS => return Err(StateSetError::Stalled(base)),
                Progress::None => {
                    stalls = stalls.saturating_add(1);
                    base
                }
            };
        }
        Ok(())
    }
}

/// What one reply of a range command means (A5.4.1).
pub(super) enum Progress {
    /// Go on from the returned address.
    Advanced,
    /// Accepted, nothing done yet: call again.
    None,
    /// The host refused from the returned address on.
    Rejected,
}

/// Checks the next address (x1) and the response (x2) of a range command.
pub(super) fn progress(
    command: Command,
    base: u64,
    top: u64,
    next: u64,
    response: u64,
) -> Result<Progress, RsiError> {
    if next < base || next > top || !next.is_multiple_of(GRANULE_SIZE) {
        return Err(RsiError::BadReply { command, register: 1, value: next });
    }
    // Only bit 0 is the response; the specification reserves the others without a value.
    if response & abi::RESPONSE_REJECT != 0 {
        return Ok(Progress::Rejected);
    }
    Ok(if next == base { Progress::None } else { Progress::Advanced })
}

/// Returns how many stalls a range command may take.
pub(super) const fn max_stalls() -> u32 {
    MAX_STALLS
}

/// Checks at compile time that a granule of heap is one granule of IPA space.
const _: () = assert!(size_of::<Granule>() == 4096 && align_of::<Granule>() == 4096);
