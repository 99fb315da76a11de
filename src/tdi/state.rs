//! The states. A transition takes the device; a failure consumes it and returns [`Rejected`].
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::idle::make_idle;
use super::reject::{Held, refuse, take_back};
use super::{Link, Reason, Rejected, Stage};
use crate::addr::{IpaRange, VdevId};
use crate::evidence::{Evidence, InterfaceReport, Objects, vouched};
use crate::fdt::function::MsixPages;
use crate::mapping::{MapRequest, MappingList, plan};
use crate::pcie::{self, Bar, Bars, Function, PcieError};
use crate::platform::Platform;
use crate::rhi::{Object, TdiTarget};
use crate::rsi::{Digests, HashAlgorithm, Nonces, Ripas, RsiError, Status, Surrender, VdevInfo, VdevState};
use alloc::boxed::Box;
use alloc::vec::Vec;
use sha2::{Digest, Sha256};

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
/// # use gatehouse::{tdi::*, platform::Platform};
/// fn good<P: Platform>(tdi: Tdi<Found>, link: &mut Link<'_, P>) -> Result<Tdi<Released>, Rejected> {
///     tdi.prepare(link)?.lock(link)?.attest(link)?.map(link)?.start(link)?.enable_dma(link)
/// }
/// ```
#[derive(Debug)]
pub struct Tdi<S> {
    function: Function,
    bars: Bars,
    vdev: VdevId,
    /// The rule vouches that the device's reset at lock leaves it idle.
    quiet_device: bool,
    state: S,
}

/// How far a device has come, for the way back.
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
    Verified: "verified", true, false;
}

/// Quiet; addresses are chosen for its BARs, or there is none to be had.
#[derive(Debug)]
pub struct Found(Result<Bars, PcieError>);

/// Reset, BARs programmed, MSE and BME on, no message interrupts.
#[derive(Debug)]
pub struct Unlocked(());

/// CONFIG_LOCKED by the RMM's word, and not before we asked for it.
#[derive(Debug)]
pub struct Locked {
    /// The nonces right after the lock: evidence that was there already has the measurement and report nonce of these.
    at_lock: Nonces,
}

/// Digests matched; the report fits the BARs.
#[derive(Debug)]
pub struct Verified {
    nonces: Nonces,
    evidence: Evidence,
    list: MappingList,
}

/// Every TEE range is RIPAS DEV.
#[derive(Debug)]
pub struct Mapped {
    nonces: Nonces,
    hash: HashAlgorithm,
    digests: Box<Digests>,
    list: MappingList,
}

/// Started and idle; what is left is one look at the state and DMA_ENABLE.
#[derive(Debug)]
pub struct Run(Mapped);

/// DMA is on: the payload's.
#[derive(Debug)]
pub struct Released(Mapped);

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

    /// Returns the id in RSI and RHI calls.
    #[must_use]
    pub fn vdev(&self) -> VdevId {
        self.vdev
    }

    /// Takes the state out.
    fn split(self) -> (Tdi<()>, S) {
        let Self { function, bars, vdev, quiet_device, state } = self;
        (Tdi { function, bars, vdev, quiet_device, state: () }, state)
    }

    fn to<T: State>(self, state: T, from: &str) -> Tdi<T> {
        log::info!("tdi {} vdev {}: {from} -> {}", self.function.bdf, self.vdev, T::NAME);
        let Self { function, bars, vdev, quiet_device, .. } = self;
        Tdi { function, bars, vdev, quiet_device, state }
    }

    fn held<'a>(&self, locked: bool, ranges: &'a [IpaRange], started: bool) -> Held<'a> {
        Held { bdf: self.function.bdf, vdev: self.vdev, locked, ranges, started }
    }

    /// Reads the RMM's record and demands `wanted`.
    fn info<P: Platform>(&self, link: &mut Link<'_, P>, wanted: VdevState) -> Result<VdevInfo, Reason> {
        let Link { platform, rsi, info, .. } = link;
        let info = crate::rsi::Client::new(*platform, rsi).vdev_get_info(self.vdev, info)?;
        if info.state != wanted {
            return Err(Reason::State { wanted, found: info.state });
        }
        Ok(info)
    }

    /// As [`Tdi::info`], and demands the nonces under which the evidence was accepted.
    fn unchanged<P: Platform>(
        &self,
        link: &mut Link<'_, P>,
        wanted: VdevState,
        nonces: Nonces,
    ) -> Result<(), Reason> {
        let info = self.info(link, wanted)?;
        if info.nonces == nonces { Ok(()) } else { Err(Reason::NoncesChanged) }
    }
}

impl<S: State> Tdi<S> {
    /// Takes the device back because the boot stops for another reason.
    pub fn abandon<P: Platform>(self, link: &mut Link<'_, P>) {
        if S::LOCKED {
            log::info!(
                "tdi {} vdev {}: {} -> unlocked, the boot stops",
                self.function.bdf,
                self.vdev,
                S::NAME
            );
        }
        take_back(link, &self.held(S::LOCKED, &self.state.ranges(), S::STARTED));
    }
}

impl Tdi<Found> {
    /// Takes `function`, which is quiet, with the addresses that were chosen for its BARs.
    ///
    /// `quiet_device`: there is no idle check, the rule vouches for the device's own reset.
    #[must_use]
    pub fn new(function: Function, bars: Result<Bars, PcieError>, quiet_device: bool) -> Self {
        let vdev = VdevId::from(function.bdf);
        Tdi { function, bars: Bars::new(), vdev, quiet_device, state: Found(bars) }
    }

    /// Resets the function, writes its BARs and makes it ready to lock.
    ///
    /// # Errors
    /// [`Rejected`]; the function is quiet then.
    pub fn prepare<P: Platform>(self, link: &mut Link<'_, P>) -> Result<Tdi<Unlocked>, Rejected> {
        let (tdi, Found(bars)) = self.split();
        let prepared = bars.and_then(|bars| {
            pcie::prepare(link.platform, link.ecam, &tdi.function, &bars)?;
            Ok(bars)
        });
        match prepared {
            Ok(bars) => Ok(Tdi { bars, ..tdi }.with(Unlocked(()))),
            Err(error) => Err(refuse(link, &tdi.held(false, &[], false), Stage::Quiesce, error)),
        }
    }
}

impl Tdi<()> {
    fn with<S>(self, state: S) -> Tdi<S> {
        let Self { function, bars, vdev, quiet_device, state: () } = self;
        Tdi { function, bars, vdev, quiet_device, state }
    }
}

impl Tdi<Unlocked> {
    /// Locks the interface; the RMM must say so, and that it is a lock of now: what was prepared before the last reset is
    /// what gets locked.
    ///
    /// # Errors
    /// [`Rejected`], after an attempt to unlock: the host's refusal proves nothing.
    pub fn lock<P: Platform>(self, link: &mut Link<'_, P>) -> Result<Tdi<Locked>, Rejected> {
        let result = (|| {
            let before = self.record_before_lock(link)?;
            link.rhi().set_tdi_state(self.vdev, TdiTarget::Locked)?;
            let info = self.info(link, VdevState::Locked)?;
            if before.is_some_and(|before| before.lock == info.nonces.lock) {
                return Err(Reason::LockNotRenewed);
            }
            Ok(info.nonces)
        })();
        match result {
            Ok(at_lock) => Ok(self.to(Locked { at_lock }, Unlocked::NAME)),
            Err(reason) => Err(refuse(link, &self.held(true, &[], false), Stage::Lock, reason)),
        }
    }

    /// Returns the nonces of the RMM's record, if there is one yet (a Linux host makes the VDEV when it locks).
    fn record_before_lock<P: Platform>(&self, link: &mut Link<'_, P>) -> Result<Option<Nonces>, Reason> {
        match self.info(link, VdevState::Unlocked) {
            Ok(info) => Ok(Some(info.nonces)),
            Err(Reason::Rsi(RsiError::Status { status: Status::Input, .. })) => Ok(None),
            Err(reason) => Err(reason),
        }
    }
}

impl Tdi<Locked> {
    /// Collects the evidence and verifies it against one reading of the RMM's record, taken after the last refresh.
    ///
    /// # Errors
    /// [`Rejected`].
    pub fn attest<P: Platform>(self, link: &mut Link<'_, P>) -> Result<Tdi<Verified>, Rejected> {
        let objects = match self.collect(link) {
            Ok(objects) => objects,
            Err(reason) => return Err(refuse(link, &self.held(true, &[], false), Stage::Collect, reason)),
        };
        match self.verify(link, objects) {
            Ok(verified) => Ok(self.to(verified, Locked::NAME)),
            Err(reason) => Err(refuse(link, &self.held(true, &[], false), Stage::Verify, reason)),
        }
    }

    fn collect<P: Platform>(&self, link: &mut Link<'_, P>) -> Result<Objects, Reason> {
        link.rhi().get_interface_report(self.vdev)?;
        let nonce = self.requester_nonce(link)?;
        link.rhi().get_measurements(self.vdev, &nonce)?;
        let mut read = |object| link.rhi().read_object(self.vdev, object);
        Ok(Objects {
            certificate: read(Object::Certificate)?,
            vca: read(Object::Vca)?,
            report: read(Object::InterfaceReport)?,
            measurements: read(Object::Measurements)?,
        })
    }

    fn verify<P: Platform>(&self, link: &mut Link<'_, P>, mut objects: Objects) -> Result<Verified, Reason> {
        let info = self.info(link, VdevState::Locked)?;
        let Nonces { lock, measurement, report } = self.state.at_lock;
        if info.nonces.lock != lock {
            return Err(Reason::LockNonceChanged);
        }
        // An RMM may keep objects and nonces of an earlier lock: only a nonce made since then proves the refresh.
        if info.nonces.measurement == measurement || info.nonces.report == report {
            return Err(Reason::NotRefreshed);
        }
        // The host may have another object under the number that was tried first: the digest decides.
        let is_vca = |bytes: &[u8]| vouched(&info, Object::Vca, bytes).is_ok();
        if !is_vca(&objects.vca)
            && let Some(vca) = link.rhi().read_other_vca(self.vdev, is_vca)
        {
            objects.vca = vca;
        }
        let evidence = Evidence::check(objects, &info)?;
        let report = InterfaceReport::parse(evidence.report())?;
        let list = plan(&report, &self.function, &self.bars)?;
        Ok(Verified { nonces: info.nonces, evidence, list })
    }

    /// Returns 32 bytes for the SPDM request: RNDR, or derived from values that the host cannot choose together.
    fn requester_nonce<P: Platform>(&self, link: &mut Link<'_, P>) -> Result<[u8; 32], Reason> {
        let mut nonce = [0; 32];
        let mut random = true;
        for bytes in nonce.chunks_exact_mut(8) {
            match link.platform.random() {
                Some(value) => bytes.copy_from_slice(&value.to_le_bytes()),
                None => random = false,
            }
        }
        if random {
            return Ok(nonce);
        }
        let rim = link.rsi().measurement_read(0)?;
        let mut hash = Sha256::new();
        hash.update(self.state.at_lock.lock.to_le_bytes());
        hash.update(link.rsi.facts().rpv);
        hash.update(rim);
        hash.update(self.function.bdf.routing_id().to_le_bytes());
        hash.update(link.platform.ticks().to_le_bytes());
        log::warn!("tdi {} vdev {}: requester nonce is derived, no RNDR", self.function.bdf, self.vdev);
        Ok(hash.finalize().into())
    }
}

impl Tdi<Verified> {
    /// Returns what was accepted.
    #[must_use]
    pub fn evidence(&self) -> &Evidence {
        &self.state.evidence
    }

    /// Validates every TEE range under the nonces of the evidence; each must be DEV afterwards.
    ///
    /// # Errors
    /// [`Rejected`]; every range that was begun is EMPTY again unless it is named as a leak.
    pub fn map<P: Platform>(self, link: &mut Link<'_, P>) -> Result<Tdi<Mapped>, Rejected> {
        let mut begun = Vec::new();
        for request in &self.state.list.requests {
            if let Err(reason) = self.map_one(link, request, &mut begun) {
                return Err(refuse(link, &self.held(true, &begun, false), Stage::Map, reason));
            }
        }
        let (tdi, Verified { nonces, evidence, list }) = self.split();
        let (hash, digests) = (evidence.hash(), evidence.into_digests());
        Ok(tdi.to(Mapped { nonces, hash, digests, list }, Verified::NAME))
    }

    fn map_one<P: Platform>(
        &self,
        link: &mut Link<'_, P>,
        request: &MapRequest,
        begun: &mut Vec<IpaRange>,
    ) -> Result<(), Reason> {
        // Never over our own memory, whatever the host's windows say.
        Surrender::new(request.ipa, link.rsi)?;
        begun.push(request.ipa);
        link.rsi().vdev_validate_mapping(self.vdev, request.ipa, request.report_base, self.state.nonces)?;
        require_dev(link, request.ipa)?;
        log::info!(
            "tdi {} vdev {}: BAR {} {} is DEV, report address {:#x}",
            self.function.bdf,
            self.vdev,
            request.bar,
            request.ipa,
            request.report_base
        );
        Ok(())
    }
}

impl Tdi<Mapped> {
    /// Moves the interface to RUN and makes the device idle through its private BARs.
    ///
    /// # Errors
    /// [`Rejected`].
    pub fn start<P: Platform>(self, link: &mut Link<'_, P>) -> Result<Tdi<Run>, Rejected> {
        let ranges = self.state.ranges();
        let started = (|| {
            link.rhi().set_tdi_state(self.vdev, TdiTarget::Run)?;
            self.unchanged(link, VdevState::Started, self.state.nonces)?;
            ranges.iter().try_for_each(|range| require_dev(link, *range))
        })();
        if let Err(reason) = started {
            return Err(refuse(link, &self.held(true, &ranges, true), Stage::Start, reason));
        }
        // Control registers lie at the start of a BAR.
        let at_start = |request: &&MapRequest| {
            self.bars.iter().any(|bar| bar.index == request.bar && bar.address == request.ipa.base())
        };
        let requests = self.state.list.requests.iter().filter(at_start);
        let registers: Vec<_> = requests.map(|request| (request.bar, request.ipa)).collect();
        if let Err(error) = make_idle(link, self.function.class, self.quiet_device, &registers) {
            return Err(refuse(link, &self.held(true, &ranges, true), Stage::Idle, error));
        }
        let (tdi, mapped) = self.split();
        Ok(tdi.to(Run(mapped), Mapped::NAME))
    }
}

impl Tdi<Run> {
    /// Returns what the final tree says.
    #[must_use]
    pub fn facts(&self) -> HandoffFacts<'_> {
        let Mapped { nonces, hash, digests, list } = &self.state.0;
        HandoffFacts {
            function: &self.function,
            bars: &self.bars,
            vdev: self.vdev,
            nonces: *nonces,
            hash: *hash,
            digests,
            msix: &list.msix,
        }
    }

    /// Asks for the state and the nonces once more, then opens the SMMU under the same nonces.
    ///
    /// # Errors
    /// [`Rejected`].
    pub fn enable_dma<P: Platform>(self, link: &mut Link<'_, P>) -> Result<Tdi<Released>, Rejected> {
        let nonces = self.state.0.nonces;
        let result = (|| {
            self.unchanged(link, VdevState::Started, nonces)?;
            link.rsi().vdev_dma_enable(self.vdev, nonces)?;
            self.unchanged(link, VdevState::Started, nonces)
        })();
        if let Err(reason) = result {
            return Err(refuse(link, &self.held(true, &self.state.ranges(), true), Stage::DmaEnable, reason));
        }
        log::info!("tdi {} vdev {}: DMA enabled", self.function.bdf, self.vdev);
        let (tdi, Run(mapped)) = self.split();
        Ok(tdi.with(Released(mapped)))
    }
}

fn require_dev<P: Platform>(link: &mut Link<'_, P>, range: IpaRange) -> Result<(), Reason> {
    match link.rsi().ipa_state_is(range, Ripas::Dev)? {
        Ok(()) => Ok(()),
        Err((at, ripas)) => Err(Reason::NotDev { at, ripas }),
    }
}
