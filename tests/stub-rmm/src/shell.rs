//! The running stub: the model, the hardware under it, and what the traps do.

use crate::exceptions::{self, Fault, Frame};
use crate::machine::Hardware;
use crate::{cpu, log, pmu, proof, semihost};
use rmm_model::{Access, FaultAction, Model, Next};
use serde_json::json;
use spin::{Mutex, MutexGuard};

/// QEMU's exit status: power-off with code 0.
const EXIT_OFF: u8 = 0;
/// Power-off with a stop code of the firmware.
const EXIT_STOP_CODE: u8 = 10;
/// PSCI SYSTEM_RESET.
const EXIT_RESET: u8 = 11;
/// The only REC can never run again.
const EXIT_STOPPED: u8 = 12;
/// The event queue of the SMMU is emptied every so many exits.
const DRAIN_EVERY: u64 = 64;

/// Exits to EL2 by class.
#[derive(Clone, Copy, Debug, Default)]
pub struct Exits {
    /// SMCs.
    pub smc: u64,
    /// Stage-2 faults.
    pub fault: u64,
    /// Aborts injected into EL1.
    pub injected: u64,
    /// Undefined instructions injected into EL1.
    pub undefined: u64,
}

/// Model and hardware.
struct Shell {
    model: Model,
    hw: Hardware,
    exits: Exits,
    entered: u64,
}

static SHELL: Mutex<Option<Shell>> = Mutex::new(None);

/// Takes over everything; call right before the first entry.
pub fn install(model: Model, hw: Hardware) {
    *SHELL.lock() = Some(Shell { model, hw, exits: Exits::default(), entered: cpu::ticks() });
}

fn with<R>(act: impl FnOnce(&mut Shell) -> R) -> R {
    let mut guard: MutexGuard<'_, Option<Shell>> = SHELL.lock();
    let Some(shell) = guard.as_mut() else { panic!("exit from the realm before it was entered") };
    act(shell)
}

impl Shell {
    fn count(&mut self) {
        if (self.exits.smc + self.exits.fault).is_multiple_of(DRAIN_EVERY) {
            self.hw.smmu.drain();
        }
    }

    fn finish(&mut self, status: u8) -> ! {
        self.hw.smmu.drain();
        let state = self.model.final_state();
        let hardware = proof::collect(&self.hw, &state, &self.exits);
        log::value(&json!({
            "stub": "final",
            "exit": status,
            "ticks": cpu::ticks() - self.entered,
            "instructions": pmu::instructions(),
            "final_state": state,
            "hardware": hardware,
        }));
        log::flush();
        semihost::exit(status)
    }
}

/// Handles an SMC; the frame already points behind it.
pub fn smc(frame: &mut Frame) {
    with(|shell| {
        shell.exits.smc += 1;
        shell.count();
        let mut regs: [u64; 18] = core::array::from_fn(|i| frame.x[i]);
        let next = shell.model.smc(&mut regs, &mut shell.hw);
        frame.x[..18].copy_from_slice(&regs);
        match next {
            Next::Resume => (),
            Next::PowerOff { code: 0 } => shell.finish(EXIT_OFF),
            Next::PowerOff { .. } => shell.finish(EXIT_STOP_CODE),
            Next::Reset => shell.finish(EXIT_RESET),
            Next::Stop | Next::RecOff => shell.finish(EXIT_STOPPED),
        }
    });
}

/// Handles a stage-2 fault.
pub fn fault(frame: &mut Frame, fault: Fault, esr: u64) {
    with(|shell| {
        shell.exits.fault += 1;
        shell.count();
        let access = match fault.access {
            Some(a) if fault.write => Access::Write { width: a.width, value: a.stored(frame) },
            Some(a) => Access::Read { width: a.width },
            None if fault.fetch => Access::Fetch,
            None => Access::NoSyndrome { write: fault.write },
        };
        match shell.model.fault(fault.ipa, access, &mut shell.hw) {
            FaultAction::Emulated(value) => {
                match fault.access {
                    Some(access) if !fault.write => access.load(frame, value),
                    Some(_) => (),
                    None => panic!("the model emulated an access without a syndrome: {fault:x?}"),
                }
                frame.elr += 4;
            }
            FaultAction::Sea => {
                shell.exits.injected += 1;
                exceptions::inject_abort(frame, esr, fault.walk);
            }
            FaultAction::AddressSize => {
                shell.exits.injected += 1;
                exceptions::inject_address_size(frame, esr);
            }
            FaultAction::Stop => shell.finish(EXIT_STOPPED),
        }
    });
}

/// Notes an instruction that the realm must not use; EL1 takes it as undefined.
pub fn undefined(esr: u64, elr: u64) {
    with(|shell| {
        shell.exits.undefined += 1;
        log::value(&json!({ "stub": "undefined", "ticks": cpu::ticks(), "esr": esr, "elr": elr }));
    });
}
