//! SMC64 through the `smccc` crate: seventeen arguments, x0 to x17 back; its assembly is neither `nomem` nor `pure`.

use super::entry;
use crate::codes::StopCode;
use smccc::psci::PSCI_SYSTEM_OFF;

/// Issues SMC64. In a realm only the RMM answers.
///
/// # Safety
/// As `Conduit::smc64`: memory that the callee reads, writes or takes away is borrowed by the caller.
pub(super) unsafe fn smc64(fid: u32, args: [u64; 17]) -> [u64; 18] {
    smccc::smc64(fid, args)
}

/// Powers the realm off with the stop code in x1. Never returns, even when the host ignores it.
pub(super) fn system_off(code: StopCode) -> ! {
    system_off_with(code, 0, 0)
}

/// As [`system_off`], with x2 and x3: syndrome and place of an exception.
pub(super) fn system_off_with(code: StopCode, x2: u64, x3: u64) -> ! {
    let mut args = [0; 17];
    args[0] = code.number().into();
    args[1] = x2;
    args[2] = x3;
    // SAFETY: SYSTEM_OFF takes no memory. `smccc::psci::system_off` cannot pass x1.
    let _ = unsafe { smc64(PSCI_SYSTEM_OFF, args) };
    entry::park();
    loop {
        core::hint::spin_loop();
    }
}
