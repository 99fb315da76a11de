//! Operations on a VDEV: they end at once, or answer INCOMPLETE and are continued with the handle of the first answer.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::buffer::Area;
use super::{Call, Client, RhiError, Status, check};
use crate::abi::rhi as abi;
use crate::addr::VdevId;
use crate::mutation::{Mutation, removed};
use crate::platform::Platform;
use crate::rsi::HostRegs;
use zerocopy::IntoBytes;

/// How often one operation may answer INCOMPLETE or BUSY.
const MAX_CONTINUES: u32 = 100_000;
/// How long one operation may take, in seconds of CNTVCT (which the host may stop: the count holds always).
const MAX_SECONDS: u64 = 3;

/// The state that SET_TDI_STATE asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TdiTarget {
    /// CONFIG_UNLOCKED.
    Unlocked,
    /// CONFIG_LOCKED.
    Locked,
    /// RUN.
    Run,
}

/// What an operation is started with.
#[derive(Clone, Copy)]
enum Argument {
    /// A value.
    Value(u64),
    /// The address of the parameters in shared memory.
    Parameters,
}

/// Operations: that one ended proves nothing, and an abort that came too late counts as an end. Ask the RMM.
impl<P: Platform> Client<'_, P> {
    /// Asks for a TDI state (SET_TDI_STATE). The answer proves nothing: read the RMM's view afterwards.
    ///
    /// # Errors
    /// [`RhiError`].
    pub fn set_tdi_state(&mut self, vdev: VdevId, target: TdiTarget) -> Result<(), RhiError> {
        let state = match target {
            TdiTarget::Unlocked => abi::TDI_UNLOCKED,
            TdiTarget::Locked => abi::TDI_LOCKED,
            TdiTarget::Run => abi::TDI_RUN,
        };
        self.operate(Call::DaVdevSetTdiState, vdev, Argument::Value(state))
    }

    /// Has the RMM fetch the interface report from the device (GET_INTERFACE_REPORT).
    ///
    /// # Errors
    /// [`RhiError`].
    pub fn get_interface_report(&mut self, vdev: VdevId) -> Result<(), RhiError> {
        self.operate(Call::DaVdevGetInterfaceReport, vdev, Argument::Value(0))
    }

    /// Has the RMM fetch measurements from the device (GET_MEASUREMENTS) with our 32-byte `nonce`.
    ///
    /// # Errors
    /// [`RhiError`].
    pub fn get_measurements(&mut self, vdev: VdevId, nonce: &[u8; 32]) -> Result<(), RhiError> {
        // Flag bit 0: raw values where the device has them. Security version and device mode mean nothing as digests, and a
        // digest can be made of every other value.
        let params = abi::MeasurementParams { flags: 1.into(), reserved_8: [0; 0xf8], nonce: *nonce };
        self.session.write_parameters(self.platform, params.as_bytes())?;
        self.operate(Call::DaVdevGetMeasurements, vdev, Argument::Parameters)
    }

    /// Starts an operation and continues it until it ends or its budget does; then it is aborted.
    fn operate(&mut self, call: Call, vdev: VdevId, argument: Argument) -> Result<(), RhiError> {
        let limit = self.platform.ticks_per_second().saturating_mul(MAX_SECONDS);
        let start = self.platform.ticks();
        let (mut handle, mut last) = (None, Status::Busy);
        let most = if removed(Mutation::Polls) { u32::MAX } else { MAX_CONTINUES };
        for _ in 0..most {
            let [status, result, ..] = match handle {
                None => self.start(call, vdev, argument)?,
                Some(handle) => self.call(Call::DaVdevContinue, [vdev.raw(), handle, 0, 0, 0])?,
            };
            match check(call, status) {
                Ok(()) => return Ok(()),
                Err(RhiError::Status { status: Status::Incomplete, .. }) => {
                    // The handle of the first answer holds for the whole operation; any value is one.
                    (handle, last) = (handle.or(Some(result)), Status::Incomplete);
                }
                Err(RhiError::Status { status: Status::Busy, .. }) => last = Status::Busy,
                Err(RhiError::Status { status, .. }) if handle.is_some() => {
                    // It may still run, if only the handle or the call was not taken. Either way it is over then.
                    let _answer = self.call(Call::DaVdevAbort, [vdev.raw(), 0, 0, 0, 0]);
                    return Err(RhiError::Lost { call, status });
                }
                Err(error) => return Err(error),
            }
            if self.platform.ticks().wrapping_sub(start) > limit && !removed(Mutation::Polls) {
                break;
            }
            self.platform.relax();
        }
        let [status, ..] = self.call(Call::DaVdevAbort, [vdev.raw(), 0, 0, 0, 0])?;
        let abort = match check(Call::DaVdevAbort, status) {
            Ok(()) => None,
            // It had ended, nobody says how: the same as an end in time. There is none if it never began.
            Err(RhiError::Status { status: Status::AbortedOperationHadCompleted, .. })
                if handle.is_some() =>
            {
                crate::say::warn!("rhi: {call:?} of vdev {vdev} ended while it was aborted");
                return Ok(());
            }
            Err(RhiError::Status { status, .. }) => Some(status),
            Err(error) => return Err(error),
        };
        Err(RhiError::Exhausted { call, last, abort })
    }

    fn start(&mut self, call: Call, vdev: VdevId, argument: Argument) -> Result<HostRegs, RhiError> {
        let args = |argument| [vdev.raw(), argument, 0, 0, 0];
        match argument {
            Argument::Value(value) => self.call(call, args(value)),
            Argument::Parameters => self.call_with(call, Area::Parameters, args),
        }
    }
}
