//! The running stub: the model, the hardware under it, and what the traps do.

use crate::exceptions::{self, Fault, Frame};
use crate::machine::Hardware;
use crate::uart::Uart;
use crate::{cpu, layout, log, pmu, proof, semihost};
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

/// PSCI CPU_ON, both forms (DEN0022).
const PSCI_CPU_ON: [u64; 2] = [0x8400_0003, 0xc400_0003];

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
    uart: Option<Uart>,
    exits: Exits,
    entered: u64,
    /// Entry point and x0 of every REC at the start.
    entry: (u64, u64),
}

static SHELL: Mutex<Option<Shell>> = Mutex::new(None);

/// Takes over everything; call right before the first entry.
pub fn install(model: Model, hw: Hardware, uart: Option<Uart>, entry: (u64, u64)) {
    let entered = cpu::ticks();
    *SHELL.lock() = Some(Shell { model, hw, uart, exits: Exits::default(), entered, entry });
}

/// Gives another CPU the realm's stage 2, and says where its REC begins and with which x0.
pub fn adopt(rec: usize) -> (u64, u64) {
    with(|shell| {
        shell.hw.stage2.activate();
        shell.model.take_entry(rec).map_or(shell.entry, |entry| (entry.pc, entry.context))
    })
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
        let accesses = self.uart.as_ref().map_or(0, |uart| uart.accesses);
        let hardware = proof::collect(&self.hw, &state, &self.exits, accesses);
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

/// What a CPU does behind the lock.
enum Then {
    Resume,
    /// The realm turned another REC on.
    Start(usize),
    /// The realm turned this REC off.
    Off,
}

/// Handles an SMC; the frame already points behind it.
pub fn smc(frame: &mut Frame) {
    if frame.x[0] == layout::SMC_PEND {
        // No call of a realm: the model need not know.
        return cpu::pend(frame.x[1]);
    }
    let rec = cpu::index();
    let then = with(|shell| {
        shell.exits.smc += 1;
        shell.count();
        let mut regs: [u64; 18] = core::array::from_fn(|i| frame.x[i]);
        let (fid, target) = (regs[0], regs[1]);
        let next = shell.model.smc_on(rec, &mut regs, &mut shell.hw);
        frame.x[..18].copy_from_slice(&regs);
        match next {
            Next::Resume if PSCI_CPU_ON.contains(&fid) && regs[0] == 0 => {
                Then::Start((target & 0xff) as usize)
            }
            Next::Resume => Then::Resume,
            Next::PowerOff { code: 0 } => shell.finish(EXIT_OFF),
            Next::PowerOff { .. } => shell.finish(EXIT_STOP_CODE),
            Next::Reset => shell.finish(EXIT_RESET),
            Next::Stop => shell.finish(EXIT_STOPPED),
            Next::RecOff => {
                log::value(&json!({ "stub": "rec-off", "rec": rec, "ticks": cpu::ticks() }));
                Then::Off
            }
        }
    });
    match then {
        Then::Resume => (),
        Then::Start(rec) => cpu::start(rec),
        Then::Off => cpu::off(),
    }
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
        // The console's is the VMM's own business: it stands in no record, as the PL011's, which does not even exit.
        let console = shell.uart.as_mut().and_then(|uart| uart.access(fault.ipa, access));
        let action = match console {
            Some(value) => FaultAction::Emulated(value),
            None => shell.model.fault(fault.ipa, access, &mut shell.hw),
        };
        match action {
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
