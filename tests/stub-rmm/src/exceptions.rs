//! Exceptions at EL2: decoding, answers, and the injection of exceptions into EL1.

use crate::{cpu, idregs, layout, pmu, shell};
use aarch64_cpu::registers::*;
use tock_registers::interfaces::{Readable, Writeable};

/// Registers of the realm while the stub runs; `boot.rs` knows the offsets.
#[repr(C, align(16))]
#[derive(Clone, Debug)]
pub struct Frame {
    /// x0 to x30.
    pub x: [u64; 31],
    /// Where to return to.
    pub elr: u64,
    /// Processor state to return to.
    pub spsr: u64,
    fpcr: u64,
    fpsr: u64,
    _pad: u64,
    /// q0 to q31.
    pub simd: [u128; 32],
}

const _: () = assert!(core::mem::offset_of!(Frame, simd) == 288 && size_of::<Frame>() == 800);

impl Frame {
    /// A frame with every register zero but these.
    pub fn at(elr: u64, spsr: u64, x0: u64) -> Self {
        let mut frame = Self { x: [0; 31], elr, spsr, fpcr: 0, fpsr: 0, _pad: 0, simd: [0; 32] };
        frame.x[0] = x0;
        frame
    }
}

/// A stage-2 fault, decoded.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// The address, alias bit included.
    pub ipa: u64,
    /// An instruction fetch.
    pub fetch: bool,
    /// A write.
    pub write: bool,
    /// A translation table walk of stage 1.
    pub walk: bool,
    /// What to load or store, if the syndrome says so (`None`: the access cannot be emulated).
    pub access: Option<Access>,
}

/// The register access behind a data abort with a valid syndrome.
#[derive(Clone, Copy, Debug)]
pub struct Access {
    /// Bytes: 1, 2, 4, 8.
    pub width: u8,
    /// Register number; 31 is the zero register.
    pub register: usize,
    sign_extend: bool,
    wide: bool,
}

impl Access {
    /// Returns the value to store.
    pub fn stored(&self, frame: &Frame) -> u64 {
        let value = frame.x.get(self.register).copied().unwrap_or(0);
        if self.width == 8 { value } else { value & ((1 << (8 * self.width)) - 1) }
    }

    /// Completes a load with `value`.
    pub fn load(&self, frame: &mut Frame, value: u64) {
        let shift = 64 - 8 * u32::from(self.width);
        let value = if self.sign_extend {
            ((value << shift) as i64 >> shift) as u64
        } else {
            value << shift >> shift
        };
        if let Some(register) = frame.x.get_mut(self.register) {
            *register = if self.wide { value } else { value & 0xffff_ffff };
        }
    }
}

const EC_UNKNOWN: u64 = 0x00;
const EC_SMC64: u64 = 0x17;
const EC_SYSREG: u64 = 0x18;
const EC_FETCH_LOWER: u64 = 0x20;
const EC_FETCH_SAME: u64 = 0x21;
const EC_DATA_LOWER: u64 = 0x24;
const EC_DATA_SAME: u64 = 0x25;
const ESR_IL: u64 = 1 << 25;
/// External abort bit; a realm sees it on injected aborts.
const ISS_EA: u64 = 1 << 9;

/// Handles a synchronous exception of the realm.
pub extern "C" fn from_realm(frame: &mut Frame) {
    // Keeps the 32-bit counter from wrapping unseen.
    pmu::instructions();
    let esr = ESR_EL2.get();
    match (esr >> 26) & 0x3f {
        EC_SMC64 if esr & 0xffff == 0 => {
            frame.elr += 4;
            shell::smc(frame);
        }
        EC_DATA_LOWER | EC_FETCH_LOWER => match decode(esr) {
            Some(fault) => shell::fault(frame, fault, esr),
            None => inject_abort(frame, esr, false),
        },
        EC_SYSREG if identification(frame, esr) => frame.elr += 4,
        _ => {
            shell::undefined(esr, frame.elr);
            inject(frame, (EC_UNKNOWN << 26) | ESR_IL, None);
        }
    }
    let (_, limit) = layout::stack(cpu::index());
    // SAFETY: the lowest word of the stack's room: aligned RAM of the stub that holds nothing else.
    let canary = unsafe { (limit as *const u64).read_volatile() };
    assert!(canary == crate::CANARY, "the stack of the stub overflowed");
}

/// Reports a fault of the stub itself. Called by the vector table.
pub extern "C" fn own_fault(esr: u64, elr: u64, far: u64) -> ! {
    let spsr = SPSR_EL2.get();
    panic!(
        "exception at EL2: ESR {esr:#x}, ELR {elr:#x}, FAR {far:#x}, SPSR {spsr:#x}, CPU {}",
        cpu::index()
    );
}

/// Answers a read of an identification register.
fn identification(frame: &mut Frame, esr: u64) -> bool {
    let field = |shift: u32, bits: u32| ((esr >> shift) & ((1 << bits) - 1)) as u8;
    let (op0, op2, op1, crn, rt, crm, is_read) =
        (field(20, 2), field(17, 3), field(14, 3), field(10, 4), field(5, 5), field(1, 4), field(0, 1) == 1);
    if (op0, op1, crn, is_read) != (3, 0, 0, true) || !(1..=7).contains(&crm) {
        return false;
    }
    if let Some(register) = frame.x.get_mut(usize::from(rt)) {
        *register = idregs::read(crm, op2);
    }
    true
}

fn decode(esr: u64) -> Option<Fault> {
    let fetch = (esr >> 26) & 0x3f == EC_FETCH_LOWER;
    let walk = esr & (1 << 7) != 0;
    let far = FAR_EL2.get();
    let page = (HPFAR_EL2.get() & 0x0000_0fff_ffff_fff0) << 8;
    let ipa = match esr & 0x3c {
        // Translation, access flag.
        0x04 | 0x08 => page | (far & 0xfff),
        // Permission: HPFAR_EL2 is defined for table walks only.
        0x0c if walk => page | (far & 0xfff),
        0x0c => cpu::translate_stage1(far)?,
        // Address size, external aborts and the rest.
        _ => return None,
    };
    let access = (!fetch && esr & (1 << 24) != 0 && !walk).then_some(Access {
        width: 1 << ((esr >> 22) & 3),
        register: ((esr >> 16) & 0x1f) as usize,
        sign_extend: esr & (1 << 21) != 0,
        wide: esr & (1 << 15) != 0,
    });
    // Cache maintenance reports WnR = 1, and has no value.
    let cache = esr & (1 << 8) != 0;
    Some(Fault {
        ipa,
        fetch,
        write: !fetch && !cache && esr & (1 << 6) != 0,
        walk,
        access: access.filter(|_| !cache),
    })
}

/// Injects a synchronous external abort for the exception that the realm took to EL2.
pub fn inject_abort(frame: &mut Frame, esr: u64, walk: bool) {
    // 0x10: synchronous external abort; 0x14 + level: the same on a table walk.
    let status = if walk { 0x14 | (esr & 3) } else { 0x10 };
    abort(frame, esr, ISS_EA | status);
}

/// Injects an address size fault, level 0.
pub fn inject_address_size(frame: &mut Frame, esr: u64) {
    abort(frame, esr, 0);
}

fn abort(frame: &mut Frame, esr: u64, status: u64) {
    let from_el0 = frame.spsr & 0xf == 0;
    let fetch = (esr >> 26) & 0x3f == EC_FETCH_LOWER;
    let class = match (fetch, from_el0) {
        (true, true) => EC_FETCH_LOWER,
        (true, false) => EC_FETCH_SAME,
        (false, true) => EC_DATA_LOWER,
        (false, false) => EC_DATA_SAME,
    };
    // WnR and CM stay, the rest of the syndrome goes.
    let kept = if fetch { 0 } else { esr & ((1 << 6) | (1 << 8)) };
    inject(frame, (class << 26) | ESR_IL | kept | status, Some(FAR_EL2.get()));
}

/// Makes EL1 take an exception, as the hardware would.
fn inject(frame: &mut Frame, esr: u64, far: Option<u64>) {
    ESR_EL1.set(esr);
    if let Some(far) = far {
        FAR_EL1.set(far);
    }
    ELR_EL1.set(frame.elr);
    SPSR_EL1.set(frame.spsr);
    let offset = match frame.spsr & 0x1f {
        0x04 => 0x000,
        0x05 => 0x200,
        mode if mode & 0x10 == 0 => 0x400,
        _ => 0x600,
    };
    frame.elr = VBAR_EL1.get() + offset;
    let sctlr = SCTLR_EL1.get();
    // NZCV and DIT stay; DAIF set; PAN by SCTLR_EL1.SPAN, SSBS by DSSBS; EL1h.
    let mut spsr = (frame.spsr & 0xf100_0000) | 0x3c5;
    if sctlr & (1 << 23) == 0 {
        spsr |= 1 << 22;
    } else {
        spsr |= frame.spsr & (1 << 22);
    }
    spsr |= (sctlr >> 44 & 1) << 12;
    frame.spsr = spsr;
}
