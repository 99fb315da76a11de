//! From found to verified: reset, lock, evidence, and the RMM's word on it.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::reject::{refuse, take_back};
use super::state::State;
use super::{Attested, Found, Link, Locked, Reason, Rejected, Stage, Tdi, Unlocked, Verified};
use crate::addr::VdevId;
use crate::evidence::{Evidence, Objects, vouched};
use crate::mapping::MappingList;
use crate::mutation::{Mutation, removed};
use crate::pcie::{self, Bars, Function, PcieError};
use crate::platform::Platform;
use crate::policy::refusal::Refusal;
use crate::policy::types::Quiet;
use crate::rhi::{Object, TdiTarget};
use crate::rsi::{Nonces, RsiError, Status, VdevState};
use sha2::{Digest, Sha256};

impl Tdi<Found> {
    /// Takes `function`, which is quiet, with the addresses that were chosen for its BARs.
    #[must_use]
    pub fn new(function: Function, bars: Result<Bars, PcieError>) -> Self {
        let vdev = VdevId::from(function.bdf);
        Tdi { function, bars: Bars::new(), vdev, state: Found(bars) }
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
            Err(error) => Err(refuse(link, &tdi.held::<Unlocked>(&[]), Stage::Quiesce, error)),
        }
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
            Ok(Locked { at_lock: info.nonces, without_spdm: info.digests.is_without_spdm() })
        })();
        match result {
            Ok(locked) => Ok(self.to(locked, Unlocked::NAME)),
            Err(reason) => Err(refuse(link, &self.held::<Locked>(&[]), Stage::Lock, reason)),
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
    /// Tries whether the lock survives an operating system that enumerates by itself: its configuration writes, then an
    /// interface report, with which the RMM learns of a violation. False: it did not; the device is locked anew then.
    ///
    /// The answer says nothing about a host that behaves otherwise later.
    ///
    /// # Errors
    /// [`Rejected`].
    pub fn probe<P: Platform>(self, link: &mut Link<'_, P>) -> Result<(Self, bool), Rejected> {
        let after = (|| {
            pcie::replay_enumeration(link.platform, link.ecam, &self.function, &self.bars)?;
            link.rhi().get_interface_report(self.vdev)?;
            self.info(link, VdevState::Locked)
        })();
        let same = |nonces: &Nonces| nonces.lock == self.state.at_lock.lock;
        let survives = after.map(|info| info.nonces).ok().filter(same);
        crate::say::info!(
            "tdi {} vdev {}: {} an enumeration by the payload",
            self.function.bdf,
            self.vdev,
            if survives.is_some() { "survives" } else { "does not survive" }
        );
        if let Some(at_lock) = survives {
            // The report of the evidence must be a later one than this.
            let (tdi, Locked { without_spdm, .. }) = self.split();
            return Ok((tdi.with(Locked { at_lock, without_spdm }), true));
        }
        let held = self.held::<Locked>(&[]);
        let leaks = take_back(link, &held);
        if !leaks.is_empty() {
            let (bdf, vdev) = (self.function.bdf, self.vdev);
            return Err(Rejected { bdf, vdev, stage: Stage::Lock, reason: Reason::NotReleased, leaks });
        }
        let (tdi, _) = self.split();
        let bars = tdi.bars.clone();
        let again = tdi.with(Found(Ok(bars))).prepare(link)?.lock(link)?;
        Ok((again, false))
    }

    /// Collects the evidence and compares it with one reading of the RMM's record, taken after the last refresh.
    ///
    /// # Errors
    /// [`Rejected`].
    pub fn attest<P: Platform>(self, link: &mut Link<'_, P>) -> Result<Tdi<Attested>, Rejected> {
        let (objects, nonce) = match self.collect(link) {
            Ok(collected) => collected,
            Err(reason) => return Err(refuse(link, &self.held::<Locked>(&[]), Stage::Collect, reason)),
        };
        match self.verify(link, objects) {
            Ok((nonces, evidence)) => {
                Ok(self.to(Attested { nonces, evidence, requester_nonce: nonce }, Locked::NAME))
            }
            Err(reason) => Err(refuse(link, &self.held::<Locked>(&[]), Stage::Verify, reason)),
        }
    }

    /// Fetches what there is. Of a device that the RMM never spoke SPDM with there is nothing but the report.
    fn collect<P: Platform>(&self, link: &mut Link<'_, P>) -> Result<(Objects, [u8; 32]), Reason> {
        link.rhi().get_interface_report(self.vdev)?;
        if self.state.without_spdm {
            let report = link.rhi().read_object(self.vdev, Object::InterfaceReport)?;
            let (vca, certificate, measurements) = Default::default();
            return Ok((Objects { vca, certificate, measurements, report }, [0; 32]));
        }
        let nonce = self.requester_nonce(link)?;
        link.rhi().get_measurements(self.vdev, &nonce)?;
        let mut read = |object| link.rhi().read_object(self.vdev, object);
        let objects = Objects {
            certificate: read(Object::Certificate)?,
            vca: read(Object::Vca)?,
            report: read(Object::InterfaceReport)?,
            measurements: read(Object::Measurements)?,
        };
        Ok((objects, nonce))
    }

    fn verify<P: Platform>(
        &self,
        link: &mut Link<'_, P>,
        mut objects: Objects,
    ) -> Result<(Nonces, Evidence), Reason> {
        let info = self.info(link, VdevState::Locked)?;
        let Nonces { lock, measurement, report } = self.state.at_lock;
        if info.nonces.lock != lock && !removed(Mutation::LockNonce) {
            return Err(Reason::LockNonceChanged);
        }
        // An RMM may keep objects and nonces of an earlier lock: only a nonce made since then proves the refresh.
        let is_measured = self.state.without_spdm || info.nonces.measurement != measurement;
        if (!is_measured || info.nonces.report == report) && !removed(Mutation::Refreshed) {
            return Err(Reason::NotRefreshed);
        }
        // The host may have another object under the number that was tried first: the digest decides.
        let is_vca = |bytes: &[u8]| vouched(&info, Object::Vca, bytes).is_ok();
        if !self.state.without_spdm
            && !is_vca(&objects.vca)
            && let Some(vca) = link.rhi().read_other_vca(self.vdev, is_vca)
        {
            objects.vca = vca;
        }
        Ok((info.nonces, Evidence::check(objects, &info)?))
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
        crate::say::warn!(
            "tdi {} vdev {}: requester nonce is derived, no RNDR",
            self.function.bdf,
            self.vdev
        );
        Ok(hash.finalize().into())
    }
}

impl Tdi<Attested> {
    /// Returns the evidence that the RMM vouches for.
    #[must_use]
    pub fn evidence(&self) -> &Evidence {
        &self.state.evidence
    }

    /// Returns the nonce that the SPDM request was to hold.
    #[must_use]
    pub fn requester_nonce(&self) -> &[u8; 32] {
        &self.state.requester_nonce
    }

    /// Returns the nonces of the evidence.
    #[must_use]
    pub fn nonces(&self) -> Nonces {
        self.state.nonces
    }

    /// Takes the policy's yes, with what is to be validated.
    #[must_use]
    pub fn accept(self, list: MappingList, quiet: Quiet) -> Tdi<Verified> {
        let (tdi, Attested { nonces, evidence, .. }) = self.split();
        let (hash, digests) = (evidence.hash(), evidence.into_digests());
        tdi.to(Verified { nonces, hash, digests, list, quiet }, Attested::NAME)
    }

    /// Takes the policy's no.
    #[must_use]
    pub fn refuse<P: Platform>(self, link: &mut Link<'_, P>, refusal: Refusal) -> Rejected {
        refuse(link, &self.held::<Attested>(&[]), Stage::Decide, refusal)
    }

    /// Takes the device back, unlocked and quiet: its mode is not `run`.
    ///
    /// # Errors
    /// [`Rejected`] with the steps that failed.
    pub fn release<P: Platform>(self, link: &mut Link<'_, P>) -> Result<Tdi<Found>, Rejected> {
        let held = self.held::<Attested>(&[]);
        let leaks = take_back(link, &held);
        if !leaks.is_empty() {
            let (bdf, vdev) = (self.function.bdf, self.vdev);
            return Err(Rejected { bdf, vdev, stage: Stage::Decide, reason: Reason::NotReleased, leaks });
        }
        let bars = self.bars.clone();
        Ok(self.to(Found(Ok(bars)), Attested::NAME))
    }
}
