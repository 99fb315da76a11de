//! The states, and what holds in each. A transition takes the device; a failure consumes it and returns
//! [`Rejected`](super::Rejected).
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::reject::{Held, take_back};
use super::{Link, Reason};
use crate::addr::{IpaRange, VdevId};
use crate::evidence::Evidence;
use crate::fdt::function::MsixPages;
use crate::mapping::MappingList;
use crate::mutation::{Mutation, removed};
use crate::pcie::{Bar, Bars, Function, PcieError};
use crate::platform::Platform;
use crate::policy::types::Quiet;
use crate::rsi::{Digests, HashAlgorithm, Nonces, VdevInfo, VdevState};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// A device in state `S`.
///
/// The order of the transitions is in the types. Nothing starts before its evidence was verified and mapped:
///
/// ```compile_fail
/// # use gatehouse::{tdi::*, platform::Platform};
/// fn start_unverified<P: Platform>(tdi: Tdi<Locked>, link: &mut Link<'_, P>) {
///     let _ = tdi.start(link);
/// }
/// ```
///
/// ```compile_fail
/// # use gatehouse::{tdi::*, platform::Platform};
/// fn map_without_decision<P: Platform>(tdi: Tdi<Attested>, link: &mut Link<'_, P>) {
///     let _ = tdi.map(link);
/// }
/// ```
///
/// A state cannot be copied, and a device that failed is gone:
///
/// ```compile_fail
/// # use gatehouse::{tdi::*, platform::Platform};
/// fn twice<P: Platform>(tdi: Tdi<Verified>, link: &mut Link<'_, P>) {
///     let other = tdi.clone();
/// }
/// ```
///
/// ```compile_fail
/// # use gatehouse::{tdi::*, platform::Platform};
/// fn after_failure<P: Platform>(tdi: Tdi<Unlocked>, link: &mut Link<'_, P>) {
///     if tdi.lock(link).is_err() {
///         let _ = tdi.lock(link);
///     }
/// }
/// ```
///
/// The legal order, for comparison:
///
/// ```
/// # use gatehouse::{mapping::MappingList, platform::Platform, policy::types::Quiet, tdi::*};
/// # type End = Result<Tdi<Released>, Rejected>;
/// fn good<P: Platform>(tdi: Tdi<Found>, yes: (MappingList, Quiet), link: &mut Link<'_, P>) -> End {
///     tdi.prepare(link)?.lock(link)?.attest(link)?.accept(yes.0, yes.1).map(link)?.start(link)?.enable_dma(link)
/// }
/// ```
#[derive(Debug)]
pub struct Tdi<S> {
    pub(super) function: Function,
    pub(super) bars: Bars,
    pub(super) vdev: VdevId,
    pub(super) state: S,
}

/// How far a device has come, or was asked to go, for the way back.
pub trait State {
    /// Name in the log.
    const NAME: &str;
    /// A lock was asked for.
    const LOCKED: bool;
    /// RUN was asked for.
    const STARTED: bool;

    /// Returns what VALIDATE_MAPPING made DEV.
    fn ranges(&self) -> Vec<IpaRange> {
        Vec::new()
    }
}

macro_rules! states {
    ($($state:ident: $name:literal, $locked:literal, $started:literal;)*) => {
        $(impl State for $state {
            const NAME: &str = $name;
            const LOCKED: bool = $locked;
            const STARTED: bool = $started;
        })*
    };
}

states! {
    Found: "found", false, false;
    Unlocked: "unlocked", false, false;
    Locked: "locked", true, false;
    Attested: "attested", true, false;
    Verified: "verified", true, false;
}

/// Quiet; addresses are chosen for its BARs, or there is none to be had.
#[derive(Debug)]
pub struct Found(pub(super) Result<Bars, PcieError>);

/// Reset, BARs programmed, MSE and BME on, no message interrupts.
#[derive(Debug)]
pub struct Unlocked(pub(super) ());

/// CONFIG_LOCKED by the RMM's word, and not before we asked for it.
#[derive(Debug)]
pub struct Locked {
    /// The nonces right after the lock: evidence that was there already has the measurement and report nonce of these.
    pub(super) at_lock: Nonces,
    /// The RMM has no digest of anything that SPDM produces.
    pub(super) without_spdm: bool,
}

/// The RMM vouches for the evidence: the digests matched. Nobody has judged it yet.
#[derive(Debug)]
pub struct Attested {
    pub(super) nonces: Nonces,
    pub(super) evidence: Evidence,
    pub(super) requester_nonce: [u8; 32],
}

/// The policy accepted the evidence; the report fits the BARs.
#[derive(Debug)]
pub struct Verified {
    pub(super) nonces: Nonces,
    pub(super) hash: HashAlgorithm,
    pub(super) digests: Box<Digests>,
    pub(super) list: MappingList,
    /// How it is known that the device does nothing when DMA is opened.
    pub(super) quiet: Quiet,
}

/// Every TEE range is RIPAS DEV.
#[derive(Debug)]
pub struct Mapped {
    pub(super) nonces: Nonces,
    pub(super) hash: HashAlgorithm,
    pub(super) digests: Box<Digests>,
    pub(super) list: MappingList,
    /// How it is known that the device does nothing when DMA is opened.
    pub(super) quiet: Quiet,
}

/// Started and idle; what is left is one look at the state and DMA_ENABLE.
#[derive(Debug)]
pub struct Run(pub(super) Mapped);

/// DMA is on: the payload's.
#[derive(Debug)]
pub struct Released(pub(super) Mapped);

impl State for Mapped {
    const NAME: &str = "mapped";
    const LOCKED: bool = true;
    const STARTED: bool = false;

    fn ranges(&self) -> Vec<IpaRange> {
        self.list.requests.iter().map(|request| request.ipa).collect()
    }
}

impl State for Run {
    const NAME: &str = "run";
    const LOCKED: bool = true;
    const STARTED: bool = true;

    fn ranges(&self) -> Vec<IpaRange> {
        self.0.ranges()
    }
}

impl State for Released {
    const NAME: &str = "released";
    const LOCKED: bool = true;
    const STARTED: bool = true;

    fn ranges(&self) -> Vec<IpaRange> {
        self.0.ranges()
    }
}

/// What the final tree says of an accepted device.
#[derive(Clone, Copy, Debug)]
pub struct HandoffFacts<'a> {
    /// Header fields and location.
    pub function: &'a Function,
    /// BARs with their addresses.
    pub bars: &'a [Bar],
    /// Id in RSI and RHI calls.
    pub vdev: VdevId,
    /// Approved nonces.
    pub nonces: Nonces,
    /// Algorithm of the digests.
    pub hash: HashAlgorithm,
    /// Digests that matched.
    pub digests: &'a Digests,
    /// Pages that stay on the shared alias.
    pub msix: &'a [MsixPages],
}

impl<S> Tdi<S> {
    /// Returns the function as its header described it.
    #[must_use]
    pub fn function(&self) -> &Function {
        &self.function
    }

    /// Returns the BARs with their addresses; none before they are programmed.
    #[must_use]
    pub fn bars(&self) -> &Bars {
        &self.bars
    }

    /// Returns the id in RSI and RHI calls.
    #[must_use]
    pub fn vdev(&self) -> VdevId {
        self.vdev
    }

    /// Takes the state out.
    pub(super) fn split(self) -> (Tdi<()>, S) {
        let Self { function, bars, vdev, state } = self;
        (Tdi { function, bars, vdev, state: () }, state)
    }

    pub(super) fn to<T: State>(self, state: T, from: &str) -> Tdi<T> {
        crate::say::info!("tdi {} vdev {}: {from} -> {}", self.function.bdf, self.vdev, T::NAME);
        let Self { function, bars, vdev, .. } = self;
        Tdi { function, bars, vdev, state }
    }

    /// Returns what to take back of a device on its way to `T`, with these ranges begun.
    pub(super) fn held<'a, T: State>(&self, ranges: &'a [IpaRange]) -> Held<'a> {
        Held { bdf: self.function.bdf, vdev: self.vdev, locked: T::LOCKED, ranges, started: T::STARTED }
    }

    /// Reads the RMM's record and demands `wanted`.
    pub(super) fn info<P: Platform>(
        &self,
        link: &mut Link<'_, P>,
        wanted: VdevState,
    ) -> Result<VdevInfo, Reason> {
        let Link { platform, rsi, info, .. } = link;
        let info = crate::rsi::Client::new(*platform, rsi).vdev_get_info(self.vdev, info)?;
        if info.state != wanted {
            return Err(Reason::State { wanted, found: info.state });
        }
        Ok(info)
    }

    /// As [`Tdi::info`], and demands the nonces under which the evidence was accepted.
    pub(super) fn unchanged<P: Platform>(
        &self,
        link: &mut Link<'_, P>,
        wanted: VdevState,
        nonces: Nonces,
    ) -> Result<(), Reason> {
        let info = match self.info(link, wanted) {
            Err(_) if removed(Mutation::RecordUnchanged) => return Ok(()),
            info => info?,
        };
        if info.nonces == nonces || removed(Mutation::RecordUnchanged) {
            Ok(())
        } else {
            Err(Reason::NoncesChanged)
        }
    }
}

impl<S: State> Tdi<S> {
    /// Takes the device back because the boot stops for another reason.
    pub fn abandon<P: Platform>(self, link: &mut Link<'_, P>) {
        if S::LOCKED {
            crate::say::info!(
                "tdi {} vdev {}: {} -> unlocked, the boot stops",
                self.function.bdf,
                self.vdev,
                S::NAME
            );
        }
        take_back(link, &self.held::<S>(&self.state.ranges()));
    }
}

impl Tdi<Found> {
    /// Returns the addresses that were chosen for its BARs; none where there are none to be had.
    #[must_use]
    pub fn placed(&self) -> &[Bar] {
        self.state.0.as_deref().unwrap_or_default()
    }
}

impl Tdi<()> {
    pub(super) fn with<S>(self, state: S) -> Tdi<S> {
        let Self { function, bars, vdev, state: () } = self;
        Tdi { function, bars, vdev, state }
    }
}
