//! EL2 set-up of this CPU: what traps, what passes through, and a clean EL1.

use crate::exceptions::Frame;
use crate::layout::{MAX_CPUS, stack};
use crate::{CANARY, boot};
use aarch64_cpu::{asm::barrier, registers::*};
use core::arch::asm;
use tock_registers::interfaces::{ReadWriteable, Readable, Writeable};

/// SCTLR_EL1: RES1 bits only, MMU and caches off, little-endian.
const SCTLR_EL1_RESET: u64 = 0x30d0_0800;
/// SPSR: EL1 with its own stack pointer, all interrupts masked.
const SPSR_EL1H_MASKED: u64 = 0x3c5;
/// MDCR_EL2: TPM and TPMCR trap the PMU.
const MDCR_TRAP_PMU: u64 = (1 << 6) | (1 << 5);

/// PSCI functions of QEMU, which answers SMCs of EL2 (DEN0022).
const PSCI_CPU_OFF: u64 = 0x8400_0002;
const PSCI_CPU_ON: u64 = 0xc400_0003;
/// PSCI: the CPU is on, or is going on or off.
const ALREADY_ON: i32 = -4;
const ON_PENDING: i32 = -5;
/// How often a CPU is started that is still going off.
const START_TRIES: u32 = 1_000_000;

/// Returns the number of this CPU: affinity 0, of QEMU virt's first eight CPUs all of it.
pub fn index() -> usize {
    (MPIDR_EL1.get() & 0xff) as usize
}

fn psci(function: u64, args: [u64; 3]) -> i32 {
    let result: u64;
    // SAFETY: CPU_ON and CPU_OFF touch no memory of this CPU; SMCCC keeps x18 and up, the rest is clobbered.
    unsafe {
        asm!(
            "smc #0",
            inout("x0") function => result,
            inout("x1") args[0] => _, inout("x2") args[1] => _, inout("x3") args[2] => _,
            out("x4") _, out("x5") _, out("x6") _, out("x7") _, out("x8") _, out("x9") _, out("x10") _,
            out("x11") _, out("x12") _, out("x13") _, out("x14") _, out("x15") _, out("x16") _, out("x17") _,
            options(nostack)
        );
    }
    result as i32
}

/// Starts another CPU in the stub; it goes its way at once. One that is still on its way off is waited for.
pub fn start(cpu: usize) {
    assert!(cpu < MAX_CPUS);
    let (top, limit) = stack(cpu);
    // SAFETY: the lowest word of a stack that nothing uses: its CPU is off.
    unsafe { (limit as *mut u64).write_volatile(CANARY) };
    // SAFETY: orders memory; the other CPU reads it with its caches on.
    unsafe { asm!("dsb sy", options(nostack)) };
    let entry = boot::second_entry as *const () as u64;
    for _ in 0..START_TRIES {
        match psci(PSCI_CPU_ON, [cpu as u64, entry, top]) {
            0 => return,
            ALREADY_ON | ON_PENDING => core::hint::spin_loop(),
            error => panic!("QEMU does not start CPU {cpu}: {error}"),
        }
    }
    panic!("CPU {cpu} does not go off");
}

/// Turns this CPU off.
pub fn off() -> ! {
    let error = psci(PSCI_CPU_OFF, [0; 3]);
    panic!("QEMU does not turn a CPU off: {error}");
}

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

/// Makes an SError (0), an IRQ (1) or an FIQ (2) pending for EL1, for good; anything else changes nothing.
pub fn pend(what: u64) {
    match what {
        0 => HCR_EL2.modify(HCR_EL2::AMO::SET + HCR_EL2::VSE::SET),
        1 => HCR_EL2.modify(HCR_EL2::IMO::SET + HCR_EL2::VI::SET),
        2 => HCR_EL2.modify(HCR_EL2::FMO::SET + HCR_EL2::VF::SET),
        _ => (),
    }
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
