//! What device operations do to VDEV and TDI, and what the host does behind the realm's back.

use crate::abi::rhi::*;
use crate::device::Vdev;
use crate::final_state::TdiState;
use crate::machine::Machine;
use crate::model::Model;
use crate::ripas::Ripas;
use crate::scenario::{EarlierSession, Lie, RhiOp, RsiCall};
use crate::spdm::Fault;

impl Model {
    /// Says whether an operation can start (`tdisp.md` 1, `rhi.md` SET_TDI_STATE).
    ///
    /// Choice: CONFIG_UNLOCKED for a device that is not bound is SUCCESS, as STOP is allowed in every TDI state.
    pub(super) fn may(&self, index: usize, op: RhiOp) -> Result<(), u64> {
        let device = &self.devices[index];
        let Some(vdev) = &device.vdev else {
            let is_allowed = matches!(op, RhiOp::Lock | RhiOp::Unlock | RhiOp::P2pUnbind);
            return if is_allowed { Ok(()) } else { Err(DEVICE) };
        };
        match op {
            // The VDEV of an earlier session may be locked anew.
            RhiOp::Lock if vdev.state != TdiState::Unlocked => Err(DEVICE),
            RhiOp::Measurements if device.session.is_none() => Err(DEVICE),
            RhiOp::Run if vdev.state != TdiState::Locked => Err(DEVICE),
            // The RMM does not unlock while device pages are mapped.
            RhiOp::Unlock if !device.dev.is_empty() => Err(DEVICE),
            RhiOp::Report if !matches!(vdev.state, TdiState::Locked | TdiState::Run) => Err(DEVICE),
            _ => Ok(()),
        }
    }

    /// Ends an operation; returns its status.
    pub(super) fn finish(&mut self, index: usize, op: RhiOp, m: &mut dyn Machine) -> u64 {
        if let Err(refusal) = self.may(index, op) {
            return refusal;
        }
        if op == RhiOp::Unlock && self.lie(m, Some(index), |lie| *lie == Lie::UnlockFails).is_some() {
            return DEVICE;
        }
        if self.lie(m, Some(index), |lie| *lie == Lie::OpIgnored { op }).is_some() {
            return SUCCESS;
        }
        if self.lie(m, Some(index), |lie| *lie == Lie::OpFails { op }).is_some() {
            return DEVICE;
        }
        self.change_bus(index, op, m);
        let is_done = match op {
            RhiOp::Lock => self.lock(index, m),
            RhiOp::Unlock => self.unlock(index, "SET_TDI_STATE(CONFIG_UNLOCKED)", m),
            RhiOp::Run => self.run(index, m),
            RhiOp::Report => self.fetch_report(index, m),
            RhiOp::Measurements => self.fetch_measurements(index, m),
            RhiOp::P2pUnbind => true,
        };
        if is_done { SUCCESS } else { DEVICE }
    }

    /// Leaves behind what an earlier session with the device did: a lock, a report and measurements.
    pub(crate) fn earlier_session(&mut self, index: usize, m: &mut dyn Machine) {
        let earlier = self.devices[index].spec.earlier;
        if earlier == EarlierSession::None || !self.devices[index].spec.tdi {
            return;
        }
        self.lock(index, m);
        self.fetch_report(index, m);
        self.fetch_measurements(index, m);
        if earlier == EarlierSession::Unlocked {
            self.set_rmm_state(index, TdiState::Unlocked);
            self.set_tdi(m, index, TdiState::Unlocked, "earlier session");
        }
    }

    /// VDEV_CREATE (unless there is one) and VDEV_LOCK: the vdev_id is the routing id now. Objects, digests and nonces of
    /// an earlier lock of the same VDEV stay (`rsi.md` 5.1, TF-RMM).
    pub(crate) fn lock(&mut self, index: usize, m: &mut dyn Machine) -> bool {
        if self.notice(index) {
            return false;
        }
        let lock_nonce = self.rng.next();
        let number = self.vdevs_created;
        let device = &mut self.devices[index];
        let mut vdev = device.vdev.take().unwrap_or_else(|| Vdev::new(u64::from(device.rid), number));
        self.vdevs_created += u64::from(vdev.number == number);
        vdev.lock_nonce = lock_nonce;
        vdev.state = TdiState::Locked;
        (vdev.is_measured, vdev.is_reported) = (false, false);
        device.vdev = Some(vdev);
        device.lock_mro = device.spec.mro;
        self.set_tdi(m, index, TdiState::Locked, "SET_TDI_STATE(CONFIG_LOCKED)");
        true
    }

    /// VDEV_UNLOCK and VDEV_DESTROY: DMA is off, nonces and objects of the VDEV are gone.
    pub(crate) fn unlock(&mut self, index: usize, cause: &'static str, m: &mut dyn Machine) -> bool {
        let device = &mut self.devices[index];
        device.vdev = None;
        device.dma_enabled = false;
        self.set_tdi(m, index, TdiState::Unlocked, cause);
        true
    }

    pub(crate) fn run(&mut self, index: usize, m: &mut dyn Machine) -> bool {
        if self.notice(index) {
            return false;
        }
        self.set_rmm_state(index, TdiState::Run);
        self.set_tdi(m, index, TdiState::Run, "SET_TDI_STATE(RUN)");
        if self.lie(m, Some(index), |lie| *lie == Lie::ErrorAfterRun).is_some() {
            self.set_tdi(m, index, TdiState::Error, "lie");
            self.notice(index);
        }
        true
    }

    fn set_rmm_state(&mut self, index: usize, state: TdiState) {
        if let Some(vdev) = &mut self.devices[index].vdev {
            vdev.state = state;
        }
    }

    /// An exchange tells the RMM that the TDI is in ERROR, if it is.
    fn notice(&mut self, index: usize) -> bool {
        let is_error = self.devices[index].tdi == TdiState::Error;
        if is_error {
            self.set_rmm_state(index, TdiState::Error);
        }
        is_error
    }

    /// GET_INTERFACE_REPORT and its exchange: new object, new nonce.
    pub(crate) fn fetch_report(&mut self, index: usize, m: &mut dyn Machine) -> bool {
        if self.notice(index) {
            return false;
        }
        let lie = self.lie(m, Some(index), |lie| {
            matches!(
                lie,
                Lie::ReportRangePastBar
                    | Lie::ReportPagesWrap
                    | Lie::ReportZeroPages
                    | Lie::ReportCountTooLarge
                    | Lie::ReportTruncated
                    | Lie::ReportUnknownBar
                    | Lie::ReportOverlap
                    | Lie::MroMisaligned
            )
        });
        let nonce = self.rng.next();
        let device = &mut self.devices[index];
        if lie == Some(Lie::MroMisaligned) {
            device.lock_mro = device.spec.mro + crate::board::PAGE;
        }
        let msix = device.msix_control(m);
        let report = device.report(msix, lie);
        if let Some(vdev) = &mut device.vdev {
            vdev.report = Some(report);
            vdev.report_nonce = nonce;
            vdev.is_reported = true;
        }
        true
    }

    /// GET_MEASUREMENTS and its exchange: new object, new nonce. Allowed in any state; a TDI in ERROR is noticed.
    pub(crate) fn fetch_measurements(&mut self, index: usize, m: &mut dyn Machine) -> bool {
        self.notice(index);
        let lie = self.lie(m, Some(index), |lie| {
            matches!(lie, Lie::MeasurementForeignKey | Lie::MeasurementTranscript | Lie::NoncesReused)
        });
        let fault = match lie {
            Some(Lie::MeasurementForeignKey) => Some(Fault::ForeignKey),
            Some(Lie::MeasurementTranscript) => Some(Fault::Transcript),
            Some(Lie::NoncesReused) => Some(Fault::OldNonce),
            _ => None,
        };
        let nonce = self.rng.next();
        let device = &mut self.devices[index];
        let Some(measurements) = device.measure(fault) else { return false };
        if let Some(vdev) = &mut device.vdev {
            vdev.measurements = Some(measurements);
            vdev.measurement_nonce = nonce;
            vdev.is_measured = true;
        }
        true
    }

    /// The host unmaps the device's pages: RIPAS DESTROYED.
    pub(crate) fn destroy_dev(&mut self, index: usize, m: &mut dyn Machine) {
        for range in self.devices[index].dev.clone() {
            self.set_ripas(m, range.ipa, range.top(), Ripas::Destroyed);
        }
    }

    /// Lies that the host acts out just before an RSI call for the device.
    pub(crate) fn behind_the_back(&mut self, call: RsiCall, index: usize, m: &mut dyn Machine) {
        if self.devices[index].vdev.is_none() {
            return;
        }
        let lie = self.lie(m, Some(index), |lie| match lie {
            Lie::RefreshMeasurements { before }
            | Lie::RefreshReport { before }
            | Lie::Relock { before }
            | Lie::HostUnlock { before }
            | Lie::TdiError { before }
            | Lie::DestroyDev { before } => *before == call,
            _ => false,
        });
        match lie {
            Some(Lie::RefreshMeasurements { .. }) => {
                self.fetch_measurements(index, m);
            }
            Some(Lie::RefreshReport { .. }) => {
                self.fetch_report(index, m);
            }
            Some(Lie::Relock { .. }) => {
                self.destroy_dev(index, m);
                self.unlock(index, "lie", m);
                self.lock(index, m);
                self.fetch_report(index, m);
                self.fetch_measurements(index, m);
            }
            Some(Lie::HostUnlock { .. }) => {
                self.destroy_dev(index, m);
                self.unlock(index, "lie", m);
            }
            Some(Lie::TdiError { .. }) if self.devices[index].is_locked() => {
                self.set_tdi(m, index, TdiState::Error, "lie");
            }
            Some(Lie::DestroyDev { .. }) => self.destroy_dev(index, m),
            _ => {}
        }
    }
}
