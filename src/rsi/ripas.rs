//! RIPAS: asking for the state of memory, giving pages to the host and taking them back.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::invoke::call;
use super::range::{Halt, advance};
use super::{Client, Command, RsiError, Session};
use crate::abi::rsi as abi;
use crate::addr::{AddrError, GRANULE_SIZE, IpaRange};
use crate::conduit::{Conduit, OutOfMemory};
use alloc::boxed::Box;
use thiserror::Error;
use zerocopy::FromZeros;

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
    /// Accepted again and again without progress at this address.
    #[error("no progress at {0:#x}")]
    Stalled(u64),
}

impl From<Halt> for StateSetError {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Rejected(at) => Self::Rejected(at),
            Halt::Stalled(at) => Self::Stalled(at),
        }
    }
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
        let [_, top, ripas, ..] = call(self.conduit, Command::IpaStateGet, &[range.base(), range.top()])?;
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
        let command = Command::IpaStateSet;
        advance(command, range, |base| call(self.conduit, command, &[base, range.top(), ripas, flags]))
    }
}

/// Checks at compile time that a granule of heap is one granule of IPA space.
const _: () = assert!(size_of::<Granule>() == 4096 && align_of::<Granule>() == 4096);
