//! Operations on a VDEV: they end at once, or answer INCOMPLETE and are continued with the handle of the first answer.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::{Call, Client, RhiError, Status, check};
use crate::abi::rhi as abi;
use crate::addr::VdevId;
use crate::platform::Platform;
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
        self.operate(Call::DaVdevSetTdiState, vdev, state)
    }

    /// Has the RMM fetch the interface report from the device (GET_INTERFACE_REPORT).
    ///
    /// # Errors
    /// [`RhiError`].
    pub fn get_interface_report(&mut self, vdev: VdevId) -> Result<(), RhiError> {
        self.operate(Call::DaVdevGetInterfaceReport, vdev, 0)
    }

    /// Has the RMM fetch measurements from the device (GET_MEASUREMENTS) with our 32-byte `nonce`.
    ///
    /// # Errors
    /// [`RhiError`].
    pub fn get_measurements(&mut self, vdev: VdevId, nonce: &[u8; 32]) -> Result<(), RhiError> {
        // Flag bit 0 clear: hashed blocks.
        let params = abi::MeasurementParams { flags: 0.into(), reserved_8: [0; 0xf8], nonce: *nonce };
        self.session.write_parameters(self.platform, params.as_bytes())?;
        let address = self.session.parameter_address()?;
        self.operate(Call::DaVdevGetMeasurements, vdev, address)
    }

    /// Starts an operation and continues it until it ends or its budget does; then it is aborted.
    fn operate(&mut self, call: Call, vdev: VdevId, argument: u64) -> Result<(), RhiError> {
        let limit = self.platform.ticks_per_second().saturating_mul(MAX_SECONDS);
        let start = self.platform.ticks();
        let mut handle = None;
        for _ in 0..MAX_CONTINUES {
            let [status, result, ..] = match handle {
                None => self.call(call, [vdev.raw(), argument, 0, 0, 0])?,
                Some(handle) => self.call(Call::DaVdevContinue, [vdev.raw(), handle, 0, 0, 0])?,
            };
            match check(call, status) {
                Ok(()) => return Ok(()),
                // The handle of the first answer holds for the whole operation.
                Err(RhiError::Status { status: Status::Incomplete, .. }) => handle = handle.or(Some(result)),
                Err(RhiError::Status { status: Status::Busy, .. }) => {}
                Err(error) => return Err(error),
            }
            if self.platform.ticks().wrapping_sub(start) > limit {
                break;
            }
            self.platform.relax();
        }
        // Whether the abort worked or came too late, the caller treats the device's state as unknown.
        let _late = self.call(Call::DaVdevAbort, [vdev.raw(), 0, 0, 0, 0])?;
        Err(RhiError::Exhausted { call })
    }
}
