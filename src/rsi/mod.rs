//! RSI: what the realm asks of the RMM (DEN0137 2.0 beta, dialect `a`).
//!
//! Trust: the RMM. A reply outside its ABI is a typed error and stops the boot or refuses the device.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

mod config;
mod host_call;
mod invoke;
mod measure;
mod range;
mod ripas;
mod token;
mod vdev;

pub use config::{HashAlgorithm, RealmFacts, Session};
pub use host_call::{HostCallBuf, HostRegs};
pub use ripas::{Ripas, SharedPages, StateSetError, Surrender};
pub use token::{MAX_TOKEN_SIZE, TokenError};
pub use vdev::{Digests, InfoBuf, MappingError, Nonces, VdevInfo, VdevState};

use crate::abi::rsi as abi;
use crate::conduit::{Conduit, FunctionId, OutOfMemory};
use thiserror::Error;

/// Defines the commands once: variant, function id.
macro_rules! commands {
    ($($name:ident = $fid:ident;)*) => {
        /// The commands, for calls, messages and errors.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the names are the specification's, without the RSI_ prefix")]
        pub enum Command {
            $($name,)*
        }

        impl Command {
            /// Every command, by function id.
            pub const ALL: &[Command] = &[$(Command::$name,)*];

            /// Returns the function id for x0.
            #[must_use]
            pub const fn function_id(self) -> FunctionId {
                match self { $(Command::$name => abi::$fid,)* }
            }

            /// Returns the name that the specification has for it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Command::$name => stringify!($fid),)* }
            }
        }
    };
}

commands! {
    Version = RSI_VERSION;
    Features = RSI_FEATURES;
    MeasurementRead = RSI_MEASUREMENT_READ;
    MeasurementExtend = RSI_MEASUREMENT_EXTEND;
    AttestationTokenInit = RSI_ATTESTATION_TOKEN_INIT;
    AttestationTokenContinue = RSI_ATTESTATION_TOKEN_CONTINUE;
    RealmConfig = RSI_REALM_CONFIG;
    IpaStateSet = RSI_IPA_STATE_SET;
    IpaStateGet = RSI_IPA_STATE_GET;
    HostCall = RSI_HOST_CALL;
    VdevDmaEnable = RSI_VDEV_DMA_ENABLE;
    VdevGetInfo = RSI_VDEV_GET_INFO;
    VdevValidateMapping = RSI_VDEV_VALIDATE_MAPPING;
    VdevDmaDisable = RSI_VDEV_DMA_DISABLE;
}

/// A status other than success (B5.5.3).
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum Status {
    /// RSI_ERROR_INPUT.
    #[error("RSI_ERROR_INPUT")]
    Input,
    /// RSI_ERROR_STATE.
    #[error("RSI_ERROR_STATE")]
    State,
    /// RSI_INCOMPLETE, still after the last retry.
    #[error("RSI_INCOMPLETE")]
    Incomplete,
    /// RSI_ERROR_UNKNOWN.
    #[error("RSI_ERROR_UNKNOWN")]
    Unknown,
    /// RSI_ERROR_DEVICE.
    #[error("RSI_ERROR_DEVICE")]
    Device,
    /// All ones: the RMM does not have the call.
    #[error("not supported")]
    NotSupported,
    /// A number that the specification does not have.
    #[error("unknown status {0:#x}")]
    Other(u64),
}

/// Why a command failed.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RsiError {
    /// The RMM answered with an error.
    #[error("{command:?}: {status}")]
    Status {
        /// The command.
        command: Command,
        /// What it answered.
        status: Status,
    },
    /// Success, but a result is outside the specification's values.
    #[error("{command:?}: bad reply, x{register} = {value:#x}")]
    BadReply {
        /// The command.
        command: Command,
        /// Register, or byte offset in the structure when above 17.
        register: u16,
        /// What stood there.
        value: u64,
    },
    /// No interface version in common.
    #[error("RSI version {lower:#x}..{higher:#x} is not one of ours")]
    NoVersion {
        /// Lowest version offered.
        lower: u64,
        /// Highest version offered.
        higher: u64,
    },
    /// The state of a range comes in too many pieces; asked up to this address.
    #[error("IpaStateGet: too many steps, at {0:#x}")]
    TooManySteps(u64),
    /// The realm was created without device assignment.
    #[error("the realm has no device assignment")]
    NoDeviceAssignment,
    /// No heap for a call buffer.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

/// Calls of RSI on one conduit, after [`Session::negotiate`].
pub struct Client<'a, C> {
    conduit: &'a mut C,
    session: &'a Session,
}

impl<'a, C: Conduit> Client<'a, C> {
    /// Makes calls possible; the session proves that versions and features were negotiated.
    #[must_use]
    pub fn new(conduit: &'a mut C, session: &'a Session) -> Self {
        Self { conduit, session }
    }
}
