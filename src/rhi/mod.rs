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
use thiserror::Error;

/// The calls, for messages and errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are the specification's, without the RHI_ prefix")]
pub enum Call {
    DaVersion,
    DaFeatures,
    DaObjectSize,
    DaObjectRead,
    DaVdevContinue,
    DaVdevGetMeasurements,
    DaVdevGetInterfaceReport,
    DaVdevSetTdiState,
    DaVdevAbort,
    HostconfVersion,
    HostconfFeatures,
    HostconfGetIpaChangeAlignment,
}

impl Call {
    /// Returns the function id for gprs[0].
    #[must_use]
    pub const fn function_id(self) -> u64 {
        match self {
            Self::DaVersion => abi::DA_VERSION,
            Self::DaFeatures => abi::DA_FEATURES,
            Self::DaObjectSize => abi::DA_OBJECT_SIZE,
            Self::DaObjectRead => abi::DA_OBJECT_READ,
            Self::DaVdevContinue => abi::DA_VDEV_CONTINUE,
            Self::DaVdevGetMeasurements => abi::DA_VDEV_GET_MEASUREMENTS,
            Self::DaVdevGetInterfaceReport => abi::DA_VDEV_GET_INTERFACE_REPORT,
            Self::DaVdevSetTdiState => abi::DA_VDEV_SET_TDI_STATE,
            Self::DaVdevAbort => abi::DA_VDEV_ABORT,
            Self::HostconfVersion => abi::HOSTCONF_VERSION,
            Self::HostconfFeatures => abi::HOSTCONF_FEATURES,
            Self::HostconfGetIpaChangeAlignment => abi::HOSTCONF_GET_IPA_CHANGE_ALIGNMENT,
        }
    }
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
    /// INCOMPLETE or BUSY until the budget ran out; the operation was aborted.
    #[error("{call:?} did not end within its budget")]
    Exhausted {
        /// The call.
        call: Call,
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
