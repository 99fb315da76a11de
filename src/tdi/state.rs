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
use crate::fdt::pci::Window;
use crate::mapping::{MapRequest, MappingList, plan};
use crate::pcie::{self, Bars, Function, PcieError, Topology};
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
/// fn good<P: Platform>(tdi: Tdi<Unlocked>, link: &mut Link<'_, P>) -> Result<(), Rejected> {
///     tdi.lock(link)?.attest(link)?.map(link)?.start(link)?.enable_dma(link)
/// }
/// ```
#[derive(Debug)]
pub struct Tdi<S> {
    function: Function,
    bars: Bars,
    vdev: VdevId,
    state: S,
}

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

/// What the final tree says of an accepted device.
#[derive(Clone, Debug)]
pub struct HandoffFacts {
    /// Header fields and location.
    pub function: Function,
    /// BARs with their addresses.
    pub bars: Bars,
    /// Id in RSI and RHI calls.
    pub vdev: VdevId,
    /// Approved nonces.
    pub nonces: Nonces,
    /// Algorithm of the digests.
    pub hash: HashAlgorithm,
    /// Digests that matched.
    pub digests: Box<Digests>,
    /// Pages that stay on the shared alias.
    pub msix: Vec<MsixPages>,
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

    fn to<T>(self, state: T, from: &str, to: &str) -> Tdi<T> {
        log::info!("tdi {} vdev {}: {from} -> {to}", self.function.bdf, self.vdev);
        Tdi { function: self.function, bars: self.bars, vdev: self.vdev, state }
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

impl Tdi<Unlocked> {
    /// Resets `function`, gives it addresses and makes it ready to lock.
    ///
    /// # Errors
    /// [`Rejected`]; the function is quiet then.
    pub fn prepare<P: Platform>(
        link: &mut Link<'_, P>,
        function: Function,
        windows: &[Window],
    ) -> Result<Self, Rejected> {
        let vdev = VdevId::from(function.bdf);
        let prepared = (|| {
            let sizes = pcie::size_bars(link.platform, link.ecam, &function)?;
            let found = pcie::allocate(&Topology::default(), &[(&function, &sizes)], windows).bars.pop();
            let bars = found.unwrap_or(Err(PcieError::NotEndpoint(function.bdf)))?;
            pcie::prepare(link.platform, link.ecam, &function, &bars)?;
            Ok::<_, PcieError>(bars)
        })();
        match prepared {
            Ok(bars) => Ok(Tdi { function, bars, vdev, state: Unlocked(()) }),
            Err(error) => {
                let held = Held { bdf: function.bdf, vdev, locked: false, ranges: &[], started: false };
                Err(refuse(link, &held, Stage::Quiesce, error))
            }
        }
    }

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
            Ok(at_lock) => Ok(self.to(Locked { at_lock }, "unlocked", "locked")),
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
            Ok(verified) => Ok(self.to(verified, "locked", "verified")),
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
        let Self { function, bars, vdev, state } = self;
        let Verified { nonces, evidence, list } = state;
        let (hash, digests) = (evidence.hash(), evidence.into_digests());
        let tdi = Tdi { function, bars, vdev, state: () };
        Ok(tdi.to(Mapped { nonces, hash, digests, list }, "verified", "mapped"))
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
    /// Returns what the final tree says.
    #[must_use]
    pub fn facts(&self) -> HandoffFacts {
        let Mapped { nonces, hash, digests, list } = &self.state;
        HandoffFacts {
            function: self.function.clone(),
            bars: self.bars.clone(),
            vdev: self.vdev,
            nonces: *nonces,
            hash: *hash,
            digests: digests.clone(),
            msix: list.msix.clone(),
        }
    }

    /// Moves the interface to RUN and makes the device idle through its private BAR.
    ///
    /// # Errors
    /// [`Rejected`].
    pub fn start<P: Platform>(self, link: &mut Link<'_, P>) -> Result<Tdi<Run>, Rejected> {
        let ranges = self.ranges();
        let started = (|| {
            link.rhi().set_tdi_state(self.vdev, TdiTarget::Run)?;
            self.unchanged(link, VdevState::Started, self.state.nonces)?;
            ranges.iter().try_for_each(|range| require_dev(link, *range))
        })();
        if let Err(reason) = started {
            return Err(refuse(link, &self.held(true, &ranges, true), Stage::Start, reason));
        }
        // The control registers lie at the start of BAR 0.
        let bar0 = self.bars.iter().find(|bar| bar.index == 0).map(|bar| bar.address);
        let first = ranges.iter().find(|range| Some(range.base()) == bar0).copied();
        if let Err(error) = make_idle(link, self.function.class, first) {
            return Err(refuse(link, &self.held(true, &ranges, true), Stage::Idle, error));
        }
        let Self { function, bars, vdev, state } = self;
        Ok(Tdi { function, bars, vdev, state: () }.to(Run(state), "mapped", "run"))
    }

    /// Takes the device back because the boot stops for another reason.
    pub fn abandon<P: Platform>(self, link: &mut Link<'_, P>) {
        log::info!("tdi {} vdev {}: mapped -> unlocked, the boot stops", self.function.bdf, self.vdev);
        take_back(link, &self.held(true, &self.ranges(), false));
    }

    fn ranges(&self) -> Vec<IpaRange> {
        self.state.list.requests.iter().map(|request| request.ipa).collect()
    }
}

impl Tdi<Run> {
    /// Asks for the state and the nonces once more, then opens the SMMU under the same nonces. The device is handed off.
    ///
    /// # Errors
    /// [`Rejected`].
    pub fn enable_dma<P: Platform>(self, link: &mut Link<'_, P>) -> Result<(), Rejected> {
        let nonces = self.state.0.nonces;
        let result = (|| {
            self.unchanged(link, VdevState::Started, nonces)?;
            link.rsi().vdev_dma_enable(self.vdev, nonces)?;
            self.unchanged(link, VdevState::Started, nonces)
        })();
        if let Err(reason) = result {
            let ranges: Vec<_> = self.state.0.list.requests.iter().map(|request| request.ipa).collect();
            return Err(refuse(link, &self.held(true, &ranges, true), Stage::DmaEnable, reason));
        }
        log::info!("tdi {} vdev {}: DMA enabled", self.function.bdf, self.vdev);
        Ok(())
    }
}

fn require_dev<P: Platform>(link: &mut Link<'_, P>, range: IpaRange) -> Result<(), Reason> {
    match link.rsi().ipa_state_is(range, Ripas::Dev)? {
        Ok(()) => Ok(()),
        Err((at, ripas)) => Err(Reason::NotDev { at, ripas }),
    }
}
