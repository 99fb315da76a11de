//! What the realm sees of the CPU: identification registers with everything removed that an EL2 would have to manage
//! (SVE, SME, PMU, MTE, AMU, MPAM, RAS, trace, memory tagging, nested virtualisation, 52-bit addresses, EL2 and EL3).
//!
//! The masks list what stays, so that a feature of a newer CPU is hidden until somebody looked at it.

use core::arch::asm;

macro_rules! id_registers {
    ($crm:expr, $op2:expr, { $($m:literal $p:literal $name:literal,)* }) => {
        match ($crm, $op2) {
            $(($m, $p) => {
                let value: u64;
                // SAFETY: reads an identification register, which exists or is zero on every CPU with AArch64.
                unsafe { asm!(concat!("mrs {}, ", $name), out(reg) value, options(nomem, nostack)) };
                value
            })*
            _ => 0,
        }
    };
}

/// Largest PA size that the realm sees: 44 bits, the IPA width.
const PARANGE_44: u64 = 4;

/// Value of the identification register with op0 = 3, op1 = 0, CRn = 0 as the realm sees it.
pub fn read(crm: u8, op2: u8) -> u64 {
    let real = id_registers!(crm, op2, {
        1 0 "S3_0_C0_C1_0", 1 1 "S3_0_C0_C1_1", 1 2 "S3_0_C0_C1_2", 1 4 "S3_0_C0_C1_4", 1 5 "S3_0_C0_C1_5",
        1 6 "S3_0_C0_C1_6", 1 7 "S3_0_C0_C1_7",
        2 0 "S3_0_C0_C2_0", 2 1 "S3_0_C0_C2_1", 2 2 "S3_0_C0_C2_2", 2 3 "S3_0_C0_C2_3", 2 4 "S3_0_C0_C2_4",
        2 5 "S3_0_C0_C2_5", 2 6 "S3_0_C0_C2_6", 2 7 "S3_0_C0_C2_7",
        3 0 "S3_0_C0_C3_0", 3 1 "S3_0_C0_C3_1", 3 2 "S3_0_C0_C3_2", 3 4 "S3_0_C0_C3_4", 3 6 "S3_0_C0_C3_6",
        4 0 "S3_0_C0_C4_0", 4 1 "S3_0_C0_C4_1",
        5 0 "S3_0_C0_C5_0",
        6 0 "S3_0_C0_C6_0", 6 1 "S3_0_C0_C6_1", 6 2 "S3_0_C0_C6_2",
        7 0 "S3_0_C0_C7_0", 7 1 "S3_0_C0_C7_1", 7 2 "S3_0_C0_C7_2",
    });
    filter(crm, op2, real)
}

fn filter(crm: u8, op2: u8, real: u64) -> u64 {
    match (crm, op2) {
        // ID_DFR0_EL1: no PerfMon, no trace.
        (1, 2) => real & 0x0000_0fff,
        (1..=3, _) => real,
        // ID_AA64PFR0_EL1: EL0, EL1, FP, AdvSIMD, GIC, DIT, CSV2 (1 at most: no SCXTNUM), CSV3.
        (4, 0) => limit(real & 0xff0f_0000_0fff_00ff, 56, 1),
        // ID_AA64PFR1_EL1: BT, SSBS.
        (4, 1) => real & 0xff,
        // ID_AA64DFR0_EL1: DebugVer, BRPs, WRPs, CTX_CMPs, DoubleLock.
        (5, 0) => real & 0x0000_00f0_f0f0_f00f,
        // ID_AA64ISAR0_EL1: all but TME.
        (6, 0) => real & 0xffff_ffff_f0ff_ffff,
        // ID_AA64ISAR1_EL1: all but LS64 and XS.
        (6, 1) => real & 0x00ff_ffff_ffff_ffff,
        // ID_AA64ISAR2_EL1: WFxT, RPRES, GPA3, APA3, BC, PAC_frac, CLRBHB, CSSC.
        (6, 2) => real & 0x00f0_0000_fff0_ffff,
        // ID_AA64MMFR0_EL1: PARange, ASIDBits, BigEnd, BigEndEL0, TGran16, TGran64, TGran4 (no 52-bit forms).
        (7, 0) => no_lpa2(limit(real & 0x0000_0000_ffff_0fff, 0, PARANGE_44)),
        // ID_AA64MMFR1_EL1: HAFDBS, VMIDBits, HPDS, PAN, ETS, AFP, nTLBPA.
        (7, 1) => limit(real & 0x000f_f0f0_00f0_f0ff, 0, 2),
        // ID_AA64MMFR2_EL1: CnP, UAO, LSM, IESB, CCIDX, ST, AT, IDS, TTL, BBM, E0PD (no NV, FWB, EVT, 52-bit VA).
        (7, 2) => real & 0xf0ff_00ff_f0f0_ffff,
        _ => 0,
    }
}

/// Limits the unsigned four-bit field at `shift`.
fn limit(value: u64, shift: u32, most: u64) -> u64 {
    let field = (value >> shift) & 0xf;
    (value & !(0xf << shift)) | (field.min(most) << shift)
}

fn no_lpa2(value: u64) -> u64 {
    // TGran4: 0 yes, 1 with 52 bits, 15 no. TGran16: 0 no, 1 yes, 2 with 52 bits.
    let value = if (value >> 28) & 0xf == 1 { value & !(0xf << 28) } else { value };
    limit(value, 20, 1)
}
