//! RSI_HOST_CALL: the carrier of RHI.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::invoke::call;
use super::{Client, Command, RsiError};
use crate::abi::rsi as abi;
use crate::conduit::{CallBuf, Conduit};

/// Buffer of a host call.
pub type HostCallBuf = CallBuf<abi::HostCall>;

/// The registers of a host call that RHI uses: function id or status, then arguments or results.
pub type HostRegs = [u64; 6];

impl<C: Conduit> Client<'_, C> {
    /// Sends `gprs` to the host with immediate 0 and returns what it answered (RSI_HOST_CALL).
    ///
    /// Every register of the buffer is written anew: the host overwrites them all. The results are the host's.
    ///
    /// # Errors
    /// [`RsiError::Status`].
    pub fn host_call(&mut self, buf: &mut HostCallBuf, gprs: HostRegs) -> Result<HostRegs, RsiError> {
        let args = buf.get_mut();
        args.immediate = 0.into();
        args.gprs = [0.into(); abi::HOST_CALL_NUM_GPRS];
        for (register, value) in args.gprs.iter_mut().zip(gprs) {
            *register = value.into();
        }
        call(self.conduit, Command::HostCall, &[buf.ipa()])?;
        let mut reply = HostRegs::default();
        for (value, register) in reply.iter_mut().zip(&buf.get().gprs) {
            *value = register.get();
        }
        Ok(reply)
    }
}
