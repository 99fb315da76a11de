//! Why a device is refused, and the way back: DMA off, ranges EMPTY, unlocked, quiet.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::{IdleError, Link};
use crate::addr::{AddrError, Bdf, IpaRange, VdevId};
use crate::codes::StopCode;
use crate::evidence::DigestError;
use crate::mutation::{Mutation, removed};
use crate::pcie::{self, PcieError};
use crate::platform::Platform;
use crate::policy::refusal::Refusal;
use crate::rhi::{Call, Object, RhiError, Status as RhiStatus, TdiTarget};
use crate::rsi::{Command, MappingError, Ripas, RsiError, Status, Surrender, VdevState};
use alloc::boxed::Box;
use alloc::vec::Vec;
use core::fmt;
use thiserror::Error;

/// The step at which it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the steps of docs/architecture.md, in order")]
pub enum Stage {
    Quiesce,
    Lock,
    Collect,
    Verify,
    Decide,
    Map,
    Start,
    Idle,
    DmaEnable,
}

/// What was wrong.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Reason {
    /// Configuration space.
    #[error(transparent)]
    Pcie(#[from] PcieError),
    /// The host.
    #[error(transparent)]
    Rhi(#[from] RhiError),
    /// The RMM.
    #[error(transparent)]
    Rsi(#[from] RsiError),
    /// An object is not what the RMM saw.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// The policy.
    #[error(transparent)]
    Refused(Box<Refusal>),
    /// Unlocking, or making it quiet, failed.
    #[error("it could not be unlocked and made quiet")]
    NotReleased,
    /// Validation of a mapping.
    #[error(transparent)]
    Mapping(#[from] MappingError),
    /// An address that cannot be.
    #[error(transparent)]
    Address(#[from] AddrError),
    /// The RMM records another state than the step leads to.
    #[error("the RMM says {found:?}, not {wanted:?}")]
    State {
        /// What must be.
        wanted: VdevState,
        /// What is.
        found: VdevState,
    },
    /// Locked again behind our back.
    #[error("the lock nonce changed")]
    LockNonceChanged,
    /// Something was fetched again after the evidence was accepted.
    #[error("a nonce changed after the evidence was accepted")]
    NoncesChanged,
    /// A granule of a validated range has another state.
    #[error("{at:#x} is {ripas:?}, not DEV")]
    NotDev {
        /// Where.
        at: u64,
        /// What it is.
        ripas: Ripas,
    },
    /// The device is not idle.
    #[error(transparent)]
    Idle(#[from] IdleError),
    /// The lock nonce is the one from before the lock.
    #[error("the interface was locked before, and not again")]
    LockNotRenewed,
    /// The measurement or report nonce is the one from before the refresh.
    #[error("measurements or report were not fetched again since the lock")]
    NotRefreshed,
}

impl From<Refusal> for Reason {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

/// A step of the way back that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leak {
    /// RSI_VDEV_DMA_DISABLE.
    DmaDisable,
    /// RSI_IPA_STATE_SET of a validated range.
    Range(IpaRange),
    /// SET_TDI_STATE(UNLOCKED), or the RMM does not confirm it.
    Unlock,
    /// Decode and bus mastering stay on.
    Quiet,
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DmaDisable => f.write_str("RSI_VDEV_DMA_DISABLE"),
            Self::Range(range) => write!(f, "RSI_IPA_STATE_SET {range}"),
            Self::Unlock => f.write_str("RHI_DA_VDEV_SET_TDI_STATE"),
            Self::Quiet => f.write_str("command register"),
        }
    }
}

/// A device that failed. There is no way on from here in this boot.
#[derive(Debug)]
pub struct Rejected {
    /// Where it is.
    pub bdf: Bdf,
    /// Its id.
    pub vdev: VdevId,
    /// The step.
    pub stage: Stage,
    /// What was wrong.
    pub reason: Reason,
    /// Steps of the way back that failed.
    pub leaks: Vec<Leak>,
}

impl Rejected {
    /// Returns the stop code of this refusal (docs/codes.md).
    #[must_use]
    pub fn code(&self) -> StopCode {
        code(self.stage, &self.reason)
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} vdev {} refused at {:?}: {}", self.bdf, self.vdev, self.stage, self.reason)
    }
}

/// How far a device had come, for the way back.
pub(super) struct Held<'a> {
    pub(super) bdf: Bdf,
    pub(super) vdev: VdevId,
    pub(super) locked: bool,
    pub(super) ranges: &'a [IpaRange],
    pub(super) started: bool,
}

/// Takes a device back as far as it goes; every step is tried, whatever the others did.
pub(super) fn refuse<P: Platform>(
    link: &mut Link<'_, P>,
    held: &Held<'_>,
    stage: Stage,
    reason: impl Into<Reason>,
) -> Rejected {
    let Held { bdf, vdev, .. } = *held;
    let reason = reason.into();
    crate::say::error!("tdi {bdf} vdev {vdev}: -> refused at {stage:?}: {reason}");
    let leaks = take_back(link, held);
    Rejected { bdf, vdev, stage, reason, leaks }
}

/// The way back by itself. Returns, and logs, the steps that failed.
pub(super) fn take_back<P: Platform>(link: &mut Link<'_, P>, held: &Held<'_>) -> Vec<Leak> {
    let mut leaks = Vec::new();
    let Held { bdf, vdev, .. } = *held;
    if held.started {
        match link.rsi().vdev_dma_disable(vdev) {
            Ok(()) => {}
            // The host took the device away itself: without a VDEV no DMA is open.
            Err(_) if record(link, vdev) == Ok(None) => {}
            Err(_) => leaks.push(Leak::DmaDisable),
        }
    }
    for range in held.ranges {
        let given_up = Surrender::new(*range, link.rsi).is_ok_and(|range| link.rsi().give_up(range).is_ok());
        if !given_up {
            leaks.push(Leak::Range(*range));
        }
    }
    if held.locked && !removed(Mutation::Unlocked) && !unlock(link, vdev) {
        leaks.push(Leak::Unlock);
    }
    if !removed(Mutation::Quiet) && pcie::make_quiet(link.platform, link.ecam, bdf).is_err() {
        leaks.push(Leak::Quiet);
    }
    for leak in &leaks {
        crate::say::error!("tdi {bdf} vdev {vdev}: leaked: {leak} failed");
    }
    leaks
}

/// Asks for UNLOCKED. Only the RMM's word counts afterwards: unlocked, or (on a Linux host) no such VDEV any more.
fn unlock<P: Platform>(link: &mut Link<'_, P>, vdev: VdevId) -> bool {
    if let Err(error) = link.rhi().set_tdi_state(vdev, TdiTarget::Unlocked) {
        crate::say::warn!("tdi vdev {vdev}: unlock: {error}");
    }
    record(link, vdev).is_ok_and(|state| matches!(state, None | Some(VdevState::Unlocked)))
}

/// Returns the state of the RMM's record of `vdev`, or `None` where it has none.
fn record<P: Platform>(link: &mut Link<'_, P>, vdev: VdevId) -> Result<Option<VdevState>, RsiError> {
    const NO_VDEV: RsiError = RsiError::Status { command: Command::VdevGetInfo, status: Status::Input };
    let Link { platform, rsi, info, .. } = link;
    match crate::rsi::Client::new(*platform, rsi).vdev_get_info(vdev, info) {
        Ok(info) => Ok(Some(info.state)),
        Err(NO_VDEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// One code for each kind of defect: what an operator acts on.
fn code(stage: Stage, reason: &Reason) -> StopCode {
    match reason {
        Reason::Pcie(error) => match error {
            PcieError::BarReadBack { .. } => StopCode::BarReadBack,
            PcieError::CommandReadBack { .. }
            | PcieError::InterruptsEnabled(_)
            | PcieError::BridgeReadBack { .. }
            | PcieError::PowerState { .. }
            | PcieError::RomEnabled(_)
            | PcieError::VirtualFunctions(_) => StopCode::ConfigReadBack,
            PcieError::Reset(_) => StopCode::DeviceReset,
            PcieError::BarSize { .. } => StopCode::BarSize,
            PcieError::NoRoom { .. } => StopCode::BarNoRoom,
            PcieError::Io(_)
            | PcieError::Bus(_)
            | PcieError::Capabilities { .. }
            | PcieError::TooDeep(_)
            | PcieError::TooManyFunctions(_)
            | PcieError::NoBusNumber(_)
            | PcieError::AriOrder { .. }
            | PcieError::NotEndpoint(_) => StopCode::ConfigSpace,
        },
        Reason::Rhi(error) => match error {
            RhiError::Memory(_) | RhiError::Rsi(RsiError::Memory(_)) => StopCode::Memory,
            RhiError::Exhausted { .. } => StopCode::HostOperationEndless,
            RhiError::ObjectSize { size: 0, .. } => StopCode::ObjectEmpty,
            RhiError::ObjectSize { .. } => StopCode::ObjectTooLarge,
            RhiError::Status { call: Call::DaObjectSize | Call::DaObjectRead, status } => match status {
                RhiStatus::DataNotAvailable | RhiStatus::InvalidObject | RhiStatus::ObjectUnsupported => {
                    StopCode::ObjectMissing
                }
                _ => StopCode::CollectFailed,
            },
            _ => match stage {
                Stage::Lock => StopCode::LockFailed,
                Stage::Start => StopCode::StartFailed,
                _ => StopCode::CollectFailed,
            },
        },
        Reason::Rsi(error) => match error {
            RsiError::Status { command: Command::VdevDmaEnable, .. } => StopCode::DmaEnableFailed,
            RsiError::Status { command: Command::VdevGetInfo, .. }
            | RsiError::BadReply { command: Command::VdevGetInfo, .. } => StopCode::VdevInfo,
            RsiError::Memory(_) => StopCode::Memory,
            _ => StopCode::RmmCall,
        },
        Reason::Digest(DigestError::NeverProduced(_)) => StopCode::DigestAbsent,
        Reason::Digest(DigestError::Mismatch(object)) => match object {
            Object::Vca => StopCode::VcaDigest,
            Object::Certificate => StopCode::CertificateDigest,
            Object::Measurements => StopCode::MeasurementDigest,
            Object::InterfaceReport => StopCode::ReportDigest,
        },
        Reason::Refused(refusal) => refusal.code(),
        Reason::NotReleased => StopCode::NotReleased,
        Reason::Mapping(error) => match error {
            MappingError::Rejected(_) => StopCode::MappingRejected,
            MappingError::Stalled(_) => StopCode::MappingStalled,
            MappingError::Rsi(RsiError::BadReply { .. }) => StopCode::MappingBadReply,
            MappingError::Rsi(RsiError::Status { status: Status::Device, .. }) => StopCode::MappingStaleNonce,
            MappingError::Rsi(_) => StopCode::MappingFailed,
        },
        Reason::Address(_) => StopCode::MappingOverlap,
        Reason::State { wanted: VdevState::Unlocked, .. } => StopCode::NotUnlockedBefore,
        Reason::State { .. } => match stage {
            Stage::Lock => StopCode::NotLocked,
            Stage::Start | Stage::Idle | Stage::DmaEnable => StopCode::NotStarted,
            _ => StopCode::StateChanged,
        },
        Reason::LockNonceChanged => StopCode::LockNonceChanged,
        Reason::NoncesChanged => StopCode::NoncesChanged,
        Reason::NotDev { .. } => StopCode::RangeNotDev,
        Reason::Idle(
            IdleError::UnknownClass(_)
            | IdleError::NotNvme { .. }
            | IdleError::NotAhci { .. }
            | IdleError::NotXhci { .. },
        ) => StopCode::NoIdleCheck,
        Reason::Idle(_) => StopCode::NotIdle,
        Reason::LockNotRenewed => StopCode::NotUnlockedBefore,
        Reason::NotRefreshed => StopCode::NotRefreshed,
    }
}
