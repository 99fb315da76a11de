//! Device operations: started, continued, aborted (`rhi.md` 4, asynchronous protocol).

use super::{Gprs, status, with};
use crate::abi::rhi::*;
use crate::board::PAGE;
use crate::device::Operation;
use crate::machine::Machine;
use crate::model::Model;
use crate::scenario::{Lie, RhiOp};

/// Nonce of the measurement parameters.
const NONCE_OFFSET: u64 = 0x100;

impl Model {
    /// GET_MEASUREMENTS: reads its parameters, then starts.
    ///
    /// Choices: an address that is not page aligned or not shared is ACCESS_FAILED; reserved flags are INPUT. The
    /// nonce is taken and, as in TF-RMM, does not change the object.
    pub(super) fn start_measurements(&mut self, index: usize, address: u64, m: &mut dyn Machine) -> Gprs {
        let ipa = address & !self.half();
        let outside = address >> self.board.ipa_width != 0;
        if address == 0 || outside || !ipa.is_multiple_of(PAGE) || !self.shared(ipa, NONCE_OFFSET + 32) {
            return status(ACCESS_FAILED);
        }
        let flags = Model::read_bytes(m, ipa, 8);
        if flags[0] > 1 || flags[1..].iter().any(|byte| *byte != 0) {
            return status(INPUT);
        }
        self.start(index, RhiOp::Measurements, m)
    }

    /// Starts an operation, and ends it at once if the host is synchronous.
    pub(super) fn start(&mut self, index: usize, op: RhiOp, m: &mut dyn Machine) -> Gprs {
        let parent = &self.devices[index].parent;
        let is_busy = self.devices.iter().any(|device| device.parent == *parent && device.op.is_some());
        if is_busy || self.lie(m, Some(index), |lie| *lie == Lie::RhiBusy { op }).is_some() {
            return status(BUSY);
        }
        if self.devices[index].busy_left > 0 {
            self.devices[index].busy_left -= 1;
            return status(BUSY);
        }
        self.devices[index].busy_left = self.scenario.host.busy;
        if let Err(refusal) = self.may(index, op) {
            return status(refusal);
        }
        let forever = self.lie(m, Some(index), |lie| *lie == Lie::RhiIncompleteForever { op }).is_some();
        let zero = self.lie(m, Some(index), |lie| *lie == Lie::HandleZero { op }).is_some();
        let times = self.devices[index].spec.incomplete.unwrap_or(self.scenario.host.incomplete);
        let left = match (forever, times) {
            (true, _) => None,
            (false, 0) if !zero => return status(self.finish(index, op, m)),
            (false, times) => Some(times.max(1)),
        };
        let handle = if zero { 0 } else { self.rng.nonzero() };
        self.devices[index].op = Some(Operation { op, handle, left: left.map(|left| left - 1) });
        with(INCOMPLETE, handle)
    }

    /// VDEV_CONTINUE. Choice: a wrong handle, or none in progress, is DEVICE.
    pub(super) fn proceed(&mut self, index: usize, handle: u64, m: &mut dyn Machine) -> Gprs {
        let Some(op) = &mut self.devices[index].op else {
            return status(DEVICE);
        };
        if op.handle != handle {
            return status(DEVICE);
        }
        match &mut op.left {
            None => status(INCOMPLETE),
            Some(0) => {
                let op = op.op;
                self.devices[index].op = None;
                status(self.finish(index, op, m))
            }
            Some(left) => {
                *left -= 1;
                status(INCOMPLETE)
            }
        }
    }

    /// VDEV_ABORT.
    pub(super) fn abort(&mut self, index: usize, m: &mut dyn Machine) -> Gprs {
        let Some(op) = self.devices[index].op.take() else {
            return status(ABORTED_OPERATION_HAD_COMPLETED);
        };
        if self.lie(m, Some(index), |lie| *lie == Lie::AbortTooLate).is_some() {
            self.finish(index, op.op, m);
            return status(ABORTED_OPERATION_HAD_COMPLETED);
        }
        status(SUCCESS)
    }
}
