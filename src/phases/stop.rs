//! Why a boot stops: the code for the operator, the reason in full.

use crate::addr::{AddrError, Bdf, IpaRange};
use crate::boot::source::ExternalError;
use crate::boot::{bundle::BundleError, place::PlaceError, plan::PlanError, slot::SlotPath};
use crate::codes::StopCode;
use crate::conduit::OutOfMemory;
use crate::eventlog::LogError;
use crate::fdt::{check::FdtError, overlay::OverlayError, read::MachineError, write::WriteError};
use crate::pcie::PcieError;
use crate::platform::IoError;
use crate::policy::cbor::PolicyError;
use crate::policy::inventory::Missing;
use crate::policy::types::Policy;
use crate::rhi::RhiError;
use crate::rsi::{Ripas, RsiError};
use crate::tdi::Rejected;
use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;
use thiserror::Error;

/// The boot stops: nothing of the payload has run.
#[derive(Debug)]
pub struct Stop {
    /// Stable code.
    pub code: StopCode,
    /// What happened.
    pub reason: Box<StopReason>,
}

/// What happened.
#[derive(Debug, Error)]
pub enum StopReason {
    /// The RMM.
    #[error(transparent)]
    Rsi(#[from] RsiError),
    /// The host's interface.
    #[error(transparent)]
    Rhi(#[from] RhiError),
    /// A page that cannot be used as RAM.
    #[error("{at:#x} is {ripas:?}, not RAM")]
    NotRam {
        /// Where.
        at: u64,
        /// What it is.
        ripas: Ripas,
    },
    /// No heap.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
    /// More than one PCI segment.
    #[error("PCI segment {0}")]
    Segment(u32),
    /// The first processor of the tree is not the one that runs.
    #[error("the first processor has affinity {0:#x}")]
    FirstCpu(u64),
    /// The tree's memory does not hold the firmware.
    #[error("the tree's memory does not hold the firmware at {0}")]
    OutsideRam(IpaRange),
    /// An address that cannot be.
    #[error(transparent)]
    Address(#[from] AddrError),
    /// Memory that cannot be reached.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The structure of the host's device tree.
    #[error(transparent)]
    Fdt(#[from] FdtError),
    /// The content of the host's device tree.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// No bundle.
    #[error("the slot of the image names no bundle")]
    NoBundle,
    /// No bundle where the slot says.
    #[error("no bundle beside the image: {0}")]
    External(#[from] ExternalError),
    /// The bundle.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The policy's encoding, or what it says.
    #[error("policy: {0}")]
    Policy(#[from] PolicyError),
    /// A function, and no policy that could take it.
    #[error(
        "no policy, and a function at {0}: draft one with gatehouse policy init, add it with gatehouse pack --policy"
    )]
    NoPolicy(SlotPath),
    /// A function that no rule takes.
    #[error("no rule takes the function at {0}")]
    Extra(SlotPath),
    /// Not what the inventory found.
    #[error("{0} is not what it was at the inventory")]
    Changed(Bdf),
    /// A virtio-mmio transport.
    #[error("virtio-mmio at {at:#x}: {fault}")]
    Transport {
        /// Its first register.
        at: u64,
        /// What is wrong.
        fault: TransportFault,
    },
    /// The policy asked for it.
    #[error("audit: nothing is accepted")]
    Audit,
    /// Configuration space.
    #[error(transparent)]
    Pcie(#[from] PcieError),
    /// Too few functions for a rule.
    #[error("rule {rule} wants {wanted} functions, {found} fit")]
    Missing {
        /// Name of the rule.
        rule: String,
        /// Functions that fit.
        found: u32,
        /// Functions that it wants.
        wanted: u32,
    },
    /// The device.
    #[error("{0}")]
    Rejected(Rejected),
    /// The kernel: its format, or its place and that of the ramdisk.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// The place of the tree.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The final tree.
    #[error(transparent)]
    Tree(#[from] WriteError),
    /// The overlay.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// The event log.
    #[error(transparent)]
    Log(#[from] LogError),
}

/// What is wrong with a virtio-mmio transport.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TransportFault {
    /// MagicValue or Version.
    #[error("not virtio")]
    NotVirtio,
    /// No rule takes it.
    #[error("no rule takes it")]
    Extra,
    /// Status.
    #[error("not reset")]
    NotReset,
    /// DeviceID.
    #[error("not what it was at the inventory")]
    Changed,
}

impl Stop {
    pub(super) fn new(code: StopCode, reason: impl Into<StopReason>) -> Self {
        Self { code, reason: Box::new(reason.into()) }
    }

    /// Too few functions for a rule.
    pub(super) fn missing(policy: &Policy, missing: Missing) -> Self {
        let rule = policy.rules.get(missing.rule);
        let (rule, wanted) = rule.map_or((String::new(), 0), |rule| (rule.name.clone(), rule.count));
        Self::new(StopCode::RequiredMissing, StopReason::Missing { rule, found: missing.found, wanted })
    }
}

/// Adds the code to an error where the phase knows it.
pub(super) trait OrStop<T> {
    /// Turns the error into a stop with `code`.
    fn or_stop(self, code: StopCode) -> Result<T, Stop>;
}

impl<T, E: Into<StopReason>> OrStop<T> for Result<T, E> {
    fn or_stop(self, code: StopCode) -> Result<T, Stop> {
        self.map_err(|error| Stop::new(code, error))
    }
}

impl From<RsiError> for Stop {
    fn from(error: RsiError) -> Self {
        let code = match error {
            RsiError::NoVersion { .. } => StopCode::RsiVersion,
            RsiError::NoDeviceAssignment => StopCode::NoDeviceAssignment,
            RsiError::Memory(_) => StopCode::Memory,
            _ => StopCode::RealmConfig,
        };
        Self::new(code, error)
    }
}

impl From<RhiError> for Stop {
    fn from(error: RhiError) -> Self {
        let code = match error {
            RhiError::Memory(_) | RhiError::Rsi(RsiError::Memory(_)) => StopCode::Memory,
            RhiError::Window(_) | RhiError::Io(_) | RhiError::WindowClosed => StopCode::SharedWindow,
            _ => StopCode::HostInterface,
        };
        Self::new(code, error)
    }
}

impl From<OutOfMemory> for Stop {
    fn from(error: OutOfMemory) -> Self {
        Self::new(StopCode::Memory, error)
    }
}

impl From<LogError> for Stop {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Full(_) => Self::new(StopCode::Measure, error),
            LogError::Memory(error) => error.into(),
        }
    }
}

impl From<OverlayError> for Stop {
    fn from(error: OverlayError) -> Self {
        let code = match error {
            OverlayError::NoTarget(_) => StopCode::OverlayTarget,
            OverlayError::Stated(_) => StopCode::OverlayStated,
            OverlayError::Write(_) => StopCode::FinalTree,
            _ => StopCode::Overlay,
        };
        Self::new(code, error)
    }
}

impl From<Rejected> for Stop {
    fn from(rejected: Rejected) -> Self {
        Self::new(rejected.code(), StopReason::Rejected(rejected))
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.reason)
    }
}
