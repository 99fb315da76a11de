//! The idle check: whatever the host armed before the lock, the device must be at rest before its DMA is enabled.
//!
//! Trust: the registers are reached through the validated, private BAR: they are the accepted device's.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::Link;
use crate::abi::pcie as abi;
use crate::addr::IpaRange;
use crate::platform::{AccessSize, Half, IoError, Platform};
use thiserror::Error;

/// How often CSTS is read; the clock bounds it as well.
const MAX_POLLS: u32 = 1_000_000;
/// Longest wait for CSTS.RDY = 0, in seconds.
const MAX_SECONDS: u64 = 5;

/// Why a device is not known to be idle.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum IdleError {
    /// No idle check for this class.
    #[error("no idle check for class {0:#08x}")]
    UnknownClass(u32),
    /// The registers are not those of an NVMe controller, whatever configuration space says.
    #[error("not an NVMe controller: CAP {cap:#x}, VS {version:#x}")]
    NotNvme {
        /// Low half of the capabilities.
        cap: u32,
        /// Version.
        version: u32,
    },
    /// The registers of the check are not in a private range.
    #[error("the control registers are not in a TEE range")]
    NotPrivate,
    /// The private range cannot be reached.
    #[error(transparent)]
    Io(#[from] IoError),
    /// Reads return all ones.
    #[error("the device does not answer")]
    NoAnswer,
    /// CC.EN stays set or CSTS.RDY does not clear.
    #[error("the controller does not stop: CC {cc:#x}, CSTS {csts:#x}")]
    Running {
        /// Controller configuration.
        cc: u32,
        /// Controller status.
        csts: u32,
    },
}

/// Stops the device of `class` through the private pages at the start of its first BAR.
///
/// NVMe: CC.EN = 0, then CSTS.RDY must become 0 (NVMe Base 2.0, 3.5.4).
///
/// # Errors
/// [`IdleError`].
pub(super) fn make_idle<P: Platform>(
    link: &mut Link<'_, P>,
    class: u32,
    first_page: Option<IpaRange>,
) -> Result<(), IdleError> {
    if class != abi::CLASS_NVME {
        return Err(IdleError::UnknownClass(class));
    }
    let window = link.platform.map(first_page.ok_or(IdleError::NotPrivate)?, Half::Protected)?;
    let read = |platform: &mut P, register: u64| -> Result<u32, IdleError> {
        let [b0, b1, b2, b3, ..] = platform.read(&window, register, AccessSize::Word)?.to_le_bytes();
        Ok(u32::from_le_bytes([b0, b1, b2, b3]))
    };
    let platform = &mut *link.platform;
    let cc = read(platform, abi::NVME_CC)?;
    if cc == abi::ALL_ONES_32 {
        return Err(IdleError::NoAnswer);
    }
    // The class is the host's word. CAP.MQES is at least 1 and VS is 1.0 to 2.x on every NVMe controller.
    let (cap, version) = (read(platform, abi::NVME_CAP)?, read(platform, abi::NVME_VS)?);
    if cap & abi::NVME_CAP_MQES == 0 || !(1..=2).contains(&(version >> 16)) {
        return Err(IdleError::NotNvme { cap, version });
    }
    let stopped = u64::from(cc & !abi::NVME_CC_EN);
    platform.write(&window, abi::NVME_CC, AccessSize::Word, stopped)?;
    let limit = platform.ticks_per_second().saturating_mul(MAX_SECONDS);
    let start = platform.ticks();
    let (mut cc, mut csts) = (cc, abi::ALL_ONES_32);
    for _ in 0..MAX_POLLS {
        cc = read(platform, abi::NVME_CC)?;
        csts = read(platform, abi::NVME_CSTS)?;
        if csts == abi::ALL_ONES_32 {
            return Err(IdleError::NoAnswer);
        }
        if cc & abi::NVME_CC_EN == 0 && csts & abi::NVME_CSTS_RDY == 0 {
            return Ok(());
        }
        if platform.ticks().wrapping_sub(start) > limit {
            break;
        }
        platform.relax();
    }
    Err(IdleError::Running { cc, csts })
}
