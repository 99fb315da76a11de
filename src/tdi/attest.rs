//! From found to verified: reset, lock, evidence, and the RMM's word on it.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::reject::refuse;
use super::state::State;
use super::{Found, Link, Locked, Reason, Rejected, Stage, Tdi, Unlocked, Verified};
use crate::addr::VdevId;
use crate::evidence::{Evidence, InterfaceReport, Objects, vouched};
use crate::mapping::plan;
use crate::pcie::{self, Bars, Function, PcieError};
use crate::platform::Platform;
use crate::rhi::{Object, TdiTarget};
use crate::rsi::{Nonces, RsiError, Status, VdevState};
use sha2::{Digest, Sha256};

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
            Ok(info.nonces)
        })();
        match result {
            Ok(at_lock) => Ok(self.to(Locked { at_lock }, Unlocked::NAME)),
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
    /// Collects the evidence and verifies it against one reading of the RMM's record, taken after the last refresh.
    ///
    /// # Errors
    /// [`Rejected`].
    pub fn attest<P: Platform>(self, link: &mut Link<'_, P>) -> Result<Tdi<Verified>, Rejected> {
        let objects = match self.collect(link) {
            Ok(objects) => objects,
            Err(reason) => return Err(refuse(link, &self.held::<Locked>(&[]), Stage::Collect, reason)),
        };
        match self.verify(link, objects) {
            Ok(verified) => Ok(self.to(verified, Locked::NAME)),
            Err(reason) => Err(refuse(link, &self.held::<Locked>(&[]), Stage::Verify, reason)),
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
