//! NVMe: CC.EN = 0, then CSTS.RDY must become 0 (NVMe Base 2.0, 3.5.4).
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::{IdleError, Registers};
use crate::abi::pcie as abi;
use crate::platform::Platform;

pub(super) fn stop<P: Platform>(registers: &mut Registers<'_, P>) -> Result<(), IdleError> {
    let cc = registers.read(abi::NVME_CC)?;
    // CAP.MQES is at least 1 and VS is 1.0 to 2.x on every NVMe controller.
    let (cap, version) = (registers.read(abi::NVME_CAP)?, registers.read(abi::NVME_VS)?);
    if cap & abi::NVME_CAP_MQES == 0 || !(1..=2).contains(&(version >> 16)) {
        return Err(IdleError::NotNvme { cap, version });
    }
    registers.write(abi::NVME_CC, cc & !abi::NVME_CC_EN)?;
    let control = registers.wait(abi::NVME_CC, abi::NVME_CC_EN, 0)?;
    let status = registers.wait(abi::NVME_CSTS, abi::NVME_CSTS_RDY, 0)?;
    if control & abi::NVME_CC_EN == 0 && status & abi::NVME_CSTS_RDY == 0 {
        Ok(())
    } else {
        Err(IdleError::Running { control, status })
    }
}
