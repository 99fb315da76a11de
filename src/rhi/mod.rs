//! RHI: what the realm asks of the host, over RSI_HOST_CALL (DEN0148 1.0 beta).
//!
//! Trust: none. Every value that comes back is checked, every repetition is bounded, objects count only after their
//! digest matched the RMM's.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

mod buffer;
mod negotiate;
mod object;
mod operation;

pub use negotiate::Session;
pub use object::Object;
pub use operation::TdiTarget;

use crate::abi::rhi as abi;
use crate::conduit::OutOfMemory;
use crate::platform::{IoError, Platform};
use crate::rsi::{self, HostRegs, RsiError, StateSetError};
use buffer::Area;
use thiserror::Error;

/// Defines the calls once: variant, function id.
macro_rules! calls {
    ($($name:ident = $fid:ident;)*) => {
        /// The calls, for messages and errors.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the names are the specification's, without the RHI_ prefix")]
        pub enum Call {
            $($name,)*
        }

        impl Call {
            /// Every call, by function id.
            pub const ALL: &[Call] = &[$(Call::$name,)*];

            /// Returns the function id for gprs[0].
            #[must_use]
            pub const fn function_id(self) -> u64 {
                match self { $(Call::$name => abi::$fid,)* }
            }

            /// Returns the name that the specification has for it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Call::$name => concat!("RHI_", stringify!($fid)),)* }
            }
        }
    };
}

calls! {
    DaVersion = DA_VERSION;
    DaFeatures = DA_FEATURES;
    DaObjectSize = DA_OBJECT_SIZE;
    DaObjectRead = DA_OBJECT_READ;
    HostconfVersion = HOSTCONF_VERSION;
    HostconfFeatures = HOSTCONF_FEATURES;
    HostconfGetIpaChangeAlignment = HOSTCONF_GET_IPA_CHANGE_ALIGNMENT;
    DaVdevContinue = DA_VDEV_CONTINUE;
    DaVdevGetMeasurements = DA_VDEV_GET_MEASUREMENTS;
    DaVdevGetInterfaceReport = DA_VDEV_GET_INTERFACE_REPORT;
    DaVdevSetTdiState = DA_VDEV_SET_TDI_STATE;
    DaVdevAbort = DA_VDEV_ABORT;
}

/// A DA status other than success.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Status {
    /// INCOMPLETE where no operation can be.
    #[error("INCOMPLETE")]
    Incomplete,
    /// DATA_NOT_AVAILABLE.
    #[error("DATA_NOT_AVAILABLE")]
    DataNotAvailable,
    /// INVALID_VDEV_ID.
    #[error("INVALID_VDEV_ID")]
    InvalidVdevId,
    /// INVALID_OBJECT.
    #[error("INVALID_OBJECT")]
    InvalidObject,
    /// INPUT.
    #[error("INPUT")]
    Input,
    /// DEVICE.
    #[error("DEVICE")]
    Device,
    /// INVALID_OFFSET.
    #[error("INVALID_OFFSET")]
    InvalidOffset,
    /// ACCESS_FAILED.
    #[error("ACCESS_FAILED")]
    AccessFailed,
    /// BUSY.
    #[error("BUSY")]
    Busy,
    /// ABORTED_OPERATION_HAD_COMPLETED.
    #[error("ABORTED_OPERATION_HAD_COMPLETED")]
    AbortedOperationHadCompleted,
    /// OBJECT_UNSUPPORTED.
    #[error("OBJECT_UNSUPPORTED")]
    ObjectUnsupported,
    /// The host does not have the call.
    #[error("not supported")]
    NotSupported,
    /// A number that the specification does not have.
    #[error("unknown status {0:#x}")]
    Other(u64),
}

/// Why an exchange with the host failed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RhiError {
    /// The carrier failed.
    #[error(transparent)]
    Rsi(#[from] RsiError),
    /// The shared window could not be used.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The shared window could not be made or given back.
    #[error("shared window: {0}")]
    Window(#[from] StateSetError),
    /// A call that moves data, after the window was given back.
    #[error("the shared window is closed")]
    WindowClosed,
    /// No heap.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// The host answered with an error.
    #[error("{call:?}: {status}")]
    Status {
        /// The call.
        call: Call,
        /// What it answered.
        status: Status,
    },
    /// Success, but a value is out of bounds.
    #[error("{call:?}: bad reply, gprs[{register}] = {value:#x}")]
    BadReply {
        /// The call.
        call: Call,
        /// Which register.
        register: u8,
        /// What stood there.
        value: u64,
    },
    /// The interface is there but lacks calls that the flow needs.
    #[error("device-assignment features {0:#x} lack a call that is needed")]
    MissingFeatures(u64),
    /// CONTINUE failed: nothing more comes of the operation, and it was aborted. InvalidVdevId and Device may both be
    /// about the handle (docs/spec-map.md).
    #[error("{call:?}: lost, CONTINUE answered {status}")]
    Lost {
        /// The call that started the operation.
        call: Call,
        /// What CONTINUE answered.
        status: Status,
    },
    /// INCOMPLETE or BUSY until the budget ran out; the operation was aborted.
    #[error("{call:?}: {last} until its budget ran out{}", if .abort.is_none() { "" } else { ", and it was not aborted" })]
    Exhausted {
        /// The call that started the operation.
        call: Call,
        /// What it answered last: Incomplete or Busy.
        last: Status,
        /// What ABORT answered; `None`: success.
        abort: Option<Status>,
    },
    /// The host says that an object has this size: nothing, or more than we take.
    #[error("{object:?} has size {size:#x}")]
    ObjectSize {
        /// The object.
        object: Object,
        /// Bytes, as the host says.
        size: u64,
    },
}

/// Calls of RHI on one platform.
pub struct Client<'a, P> {
    platform: &'a mut P,
    rsi: &'a rsi::Session,
    session: &'a mut Session,
}

impl<'a, P: Platform> Client<'a, P> {
    /// Makes calls possible; the sessions prove that both interfaces were negotiated.
    #[must_use]
    pub fn new(platform: &'a mut P, rsi: &'a rsi::Session, session: &'a mut Session) -> Self {
        Self { platform, rsi, session }
    }

    fn call(&mut self, call: Call, args: [u64; 5]) -> Result<HostRegs, RhiError> {
        let [a1, a2, a3, a4, a5] = args;
        let gprs = [call.function_id(), a1, a2, a3, a4, a5];
        Ok(rsi::Client::new(self.platform, self.rsi).host_call(self.session.call_buf(), gprs)?)
    }

    /// As [`Client::call`], for a call that passes the address of `area`: made a second time in the other form of the
    /// address where the host refuses the first one and has not taken either before.
    fn call_with(
        &mut self,
        call: Call,
        area: Area,
        args: impl Fn(u64) -> [u64; 5],
    ) -> Result<HostRegs, RhiError> {
        let alias_bit = self.rsi.width().alias_bit();
        let address = self.session.address(area, alias_bit)?;
        let reply = self.call(call, args(address))?;
        if !self.session.learn(reply[0]) {
            return Ok(reply);
        }
        let address = self.session.address(area, alias_bit)?;
        let reply = self.call(call, args(address))?;
        self.session.learn(reply[0]);
        Ok(reply)
    }
}

/// Turns gprs[0] of a DA call into a result.
fn check(call: Call, status: u64) -> Result<(), RhiError> {
    let status = match status {
        abi::DA_SUCCESS => return Ok(()),
        abi::DA_INCOMPLETE => Status::Incomplete,
        abi::DA_DATA_NOT_AVAILABLE => Status::DataNotAvailable,
        abi::DA_INVALID_VDEV_ID => Status::InvalidVdevId,
        abi::DA_INVALID_OBJECT => Status::InvalidObject,
        abi::DA_INPUT => Status::Input,
        abi::DA_DEVICE => Status::Device,
        abi::DA_INVALID_OFFSET => Status::InvalidOffset,
        abi::DA_ACCESS_FAILED => Status::AccessFailed,
        abi::DA_BUSY => Status::Busy,
        abi::DA_ABORTED_OPERATION_HAD_COMPLETED => Status::AbortedOperationHadCompleted,
        abi::DA_OBJECT_UNSUPPORTED => Status::ObjectUnsupported,
        abi::NOT_SUPPORTED => Status::NotSupported,
        other => Status::Other(other),
    };
    Err(RhiError::Status { call, status })
}
