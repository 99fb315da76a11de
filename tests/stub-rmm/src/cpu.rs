//! EL2 set-up of this CPU: what traps, what passes through, and a clean EL1.

use crate::exceptions::Frame;
use aarch64_cpu::{asm::barrier, registers::*};
use core::arch::asm;
use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};

/// SCTLR_EL1: RES1 bits only, MMU and caches off, little-endian.
const SCTLR_EL1_RESET: u64 = 0x30d0_0800;
/// SPSR: EL1 with its own stack pointer, all interrupts masked.
const SPSR_EL1H_MASKED: u64 = 0x3c5;
/// MDCR_EL2: TPM and TPMCR trap the PMU.
const MDCR_TRAP_PMU: u64 = (1 << 6) | (1 << 5);

/// Whether the CPU can translate to IPAs as wide as the realm's (PARange 44 bits or more; Cortex-A710 has 40).
pub fn is_wide_enough() -> bool {
    ID_AA64MMFR0_EL1.read(ID_AA64MMFR0_EL1::PARange) >= 4
}

/// Sets the traps and passes GIC and timer through; interrupts go to EL1 without a stop at EL2.
pub fn prepare_el2() {
    // TSC: SMC. TID3: identification registers. HCD: HVC is undefined, as in a realm. API, APK: pointer authentication
    // does not trap. IMO, FMO, AMO stay 0.
    HCR_EL2.write(
        HCR_EL2::RW::EL1IsAarch64
            + HCR_EL2::TSC::EnableTrapEl1SmcToEl2
            + HCR_EL2::TID3::SET
            + HCR_EL2::HCD::SET
            + HCR_EL2::TLOR::SET
            + HCR_EL2::TACR::SET
            + HCR_EL2::API::DisableTrapPointerAuthInstToEl2
            + HCR_EL2::APK::DisableTrapPointerAuthKeyRegsToEl2
            + HCR_EL2::VM::Enable,
    );
    MDCR_EL2.set(MDCR_EL2.get() | MDCR_TRAP_PMU);
    CNTHCTL_EL2.write(CNTHCTL_EL2::EL1PCEN::SET + CNTHCTL_EL2::EL1PCTEN::SET);
    CNTVOFF_EL2.set(0);
    VMPIDR_EL2.set(MPIDR_EL1.get());
    // SAFETY: VPIDR_EL2 is what EL1 reads as MIDR_EL1; HSTR_EL2 traps AArch32 accesses only.
    unsafe {
        asm!("msr VPIDR_EL2, {}", "msr HSTR_EL2, xzr", in(reg) MIDR_EL1.get(), options(nomem, nostack))
    };
    ICC_SRE_EL2.modify(ICC_SRE_EL2::SRE::SET + ICC_SRE_EL2::ENABLE::SET);
    barrier::isb(barrier::SY);
    ICH_HCR_EL2.set(0);
    barrier::isb(barrier::SY);
}

/// Resets what EL1 can see, and returns the registers at the realm's entry point.
pub fn reset_el1(entry: u64, x0: u64) -> Frame {
    SCTLR_EL1.set(SCTLR_EL1_RESET);
    // SAFETY: EL1 state; the stub runs at EL2 with E2H = 0 and uses none of it.
    unsafe {
        asm!(
            "msr CPACR_EL1, xzr",
            "msr VBAR_EL1, xzr",
            "msr TCR_EL1, xzr",
            "msr MAIR_EL1, xzr",
            "msr AMAIR_EL1, xzr",
            "msr TTBR0_EL1, xzr",
            "msr TTBR1_EL1, xzr",
            "msr SP_EL0, xzr",
            "msr SP_EL1, xzr",
            "msr ESR_EL1, xzr",
            "msr FAR_EL1, xzr",
            "msr AFSR0_EL1, xzr",
            "msr AFSR1_EL1, xzr",
            "msr ELR_EL1, xzr",
            "msr SPSR_EL1, xzr",
            "msr TPIDR_EL0, xzr",
            "msr TPIDRRO_EL0, xzr",
            "msr TPIDR_EL1, xzr",
            "msr CONTEXTIDR_EL1, xzr",
            "msr CNTKCTL_EL1, xzr",
            "msr CNTV_CTL_EL0, xzr",
            "msr CNTP_CTL_EL0, xzr",
            "msr MDSCR_EL1, xzr",
            "msr PAR_EL1, xzr",
            "msr CSSELR_EL1, xzr",
            options(nomem, nostack)
        );
    }
    barrier::isb(barrier::SY);
    Frame::at(entry, SPSR_EL1H_MASKED, x0)
}

/// Returns the stage-1 translation of a realm address, for faults that leave HPFAR_EL2 undefined.
pub fn translate_stage1(va: u64) -> Option<u64> {
    let saved = PAR_EL1.get();
    // SAFETY: a stage-1 translation of the realm's address; its only effect is on PAR_EL1, which is put back.
    unsafe { asm!("at s1e1r, {}", "isb", in(reg) va, options(nostack)) };
    let par = PAR_EL1.get();
    // SAFETY: the realm's own value.
    unsafe { asm!("msr PAR_EL1, {}", in(reg) saved, options(nomem, nostack)) };
    (par & 1 == 0).then_some((par & 0x000f_ffff_ffff_f000) | (va & 0xfff))
}

/// Reads the system counter.
pub fn ticks() -> u64 {
    CNTVCT_EL0.get()
}

/// Returns the frequency of the system counter.
pub fn counter_hz() -> u64 {
    CNTFRQ_EL0.get()
}
