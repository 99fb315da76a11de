//! Device operations: started, continued, aborted (`rhi.md` 4, asynchronous protocol).

use super::{Gprs, status, with};
use crate::abi::rhi::*;
use crate::board::PAGE;
use crate::device::Operation;
use crate::machine::Machine;
use crate::model::Model;
use crate::scenario::{BufferAddress, Lie, RhiOp, WrongHandle};
use crate::spdm::Ask;

/// Nonce of the measurement parameters.
const NONCE_OFFSET: u64 = 0x100;

impl Model {
    /// GET_MEASUREMENTS: reads its parameters, then starts.
    ///
    /// Choices: an address that is not page aligned or not shared is ACCESS_FAILED; reserved flags are INPUT.
    pub(super) fn start_measurements(&mut self, index: usize, address: u64, m: &mut dyn Machine) -> Gprs {
        let Some(ipa) = self.host_buffer(address, NONCE_OFFSET + 32).filter(|ipa| ipa.is_multiple_of(PAGE))
        else {
            return status(ACCESS_FAILED);
        };
        let flags = Model::read_bytes(m, ipa, 8);
        if flags[0] > 1 || flags[1..].iter().any(|byte| *byte != 0) {
            return status(INPUT);
        }
        let mut nonce = [0; 32];
        nonce.copy_from_slice(&Model::read_bytes(m, ipa + NONCE_OFFSET, 32));
        let earlier = self.devices[index].ask.replace(Ask { nonce, raw: flags[0] & 1 != 0 });
        let answer = self.start(index, RhiOp::Measurements, m);
        if !matches!(answer.1[0], SUCCESS | INCOMPLETE) {
            self.devices[index].ask = earlier;
        }
        answer
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

    /// The IPA of a buffer that the host can reach, in the form that it takes.
    pub(super) fn host_buffer(&self, address: u64, len: u64) -> Option<u64> {
        let is_alias = address & self.half() != 0;
        let has_form = match self.scenario.host.buffer_address {
            BufferAddress::Either => true,
            BufferAddress::WithoutAlias => !is_alias,
            BufferAddress::WithAlias => is_alias,
        };
        let is_inside = address != 0 && address >> self.board.ipa_width == 0;
        let ipa = address & !self.half();
        (has_form && is_inside && self.shared(ipa, len)).then_some(ipa)
    }

    /// P2P_UNBIND. Choices: a second id that the host does not know is INVALID_VDEV_ID; as nothing is ever bound,
    /// unbinding two known ones is an operation that succeeds.
    pub(super) fn p2p_unbind(&mut self, index: usize, other: u64, m: &mut dyn Machine) -> Gprs {
        if self.device_by_id(other).is_none() {
            return status(INVALID_VDEV_ID);
        }
        self.start(index, RhiOp::P2pUnbind, m)
    }

    /// VDEV_CONTINUE. A wrong handle, or none in progress, is DEVICE or INVALID_VDEV_ID, as the scenario says.
    pub(super) fn proceed(&mut self, index: usize, handle: u64, m: &mut dyn Machine) -> Gprs {
        let wrong = match self.scenario.host.wrong_handle {
            WrongHandle::Device => DEVICE,
            WrongHandle::InvalidVdev => INVALID_VDEV_ID,
        };
        let Some(op) = self.devices[index].op.as_mut().filter(|op| op.handle == handle) else {
            return status(wrong);
        };
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
        self.devices[index].ask = None;
        status(SUCCESS)
    }
}
