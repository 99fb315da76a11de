//! PSCI and SMCCC_VERSION (`rsi.md` 8).

use alloc::borrow::Cow;

use crate::abi::{ALL_ONES, psci::*};
use crate::access::{Entry, Next};
use crate::machine::Machine;
use crate::model::Model;
use crate::record::Event;
use crate::scenario::CpuOn;

/// Affinity fields of an MPIDR.
const AFFINITY: u64 = 0xFF_00FF_FFFF;
/// SMCCC 1.2.
const SMCCC_1_2: u64 = 0x1_0002;
/// PSCI 1.1.
const PSCI_1_1: u64 = 0x1_0001;

fn name(fid: u64) -> Option<&'static str> {
    let forms = [PSCI_CPU_SUSPEND, PSCI_CPU_ON, PSCI_AFFINITY_INFO];
    let base = if forms.iter().any(|form| form | SMC64 == fid) { fid & !SMC64 } else { fid };
    Some(match base {
        SMCCC_VERSION => "SMCCC_VERSION",
        PSCI_VERSION => "PSCI_VERSION",
        PSCI_CPU_SUSPEND => "PSCI_CPU_SUSPEND",
        PSCI_CPU_OFF => "PSCI_CPU_OFF",
        PSCI_CPU_ON => "PSCI_CPU_ON",
        PSCI_AFFINITY_INFO => "PSCI_AFFINITY_INFO",
        PSCI_SYSTEM_OFF => "PSCI_SYSTEM_OFF",
        PSCI_SYSTEM_RESET => "PSCI_SYSTEM_RESET",
        PSCI_FEATURES => "PSCI_FEATURES",
        _ => return None,
    })
}

impl Model {
    /// Answers one PSCI call of a REC.
    pub(crate) fn psci(&mut self, rec: usize, fid: u64, regs: &mut [u64; 18], m: &mut dyn Machine) -> Next {
        let Some(name) = name(fid) else {
            self.emit(m, Event::UnknownSmc { fid: regs[0] });
            regs[0] = ALL_ONES;
            return Next::Resume;
        };
        let args = [regs[1], regs[2], regs[3]];
        let is_exit = !matches!(fid, SMCCC_VERSION | PSCI_VERSION | PSCI_FEATURES);
        if is_exit {
            self.totals.host_exits += 1;
        }
        let (status, next) = match name {
            "SMCCC_VERSION" => (SMCCC_1_2, Next::Resume),
            "PSCI_VERSION" => (PSCI_1_1, Next::Resume),
            "PSCI_FEATURES" => {
                (self::name(args[0] & 0xFFFF_FFFF).map_or(ALL_ONES, |_| SUCCESS), Next::Resume)
            }
            "PSCI_CPU_SUSPEND" => (SUCCESS, Next::Resume),
            "PSCI_CPU_ON" => (self.cpu_on(args), Next::Resume),
            "PSCI_AFFINITY_INFO" => (self.affinity_info(args), Next::Resume),
            "PSCI_CPU_OFF" => {
                self.recs[rec].is_on = false;
                self.recs[rec].token = None;
                let is_last = self.recs.iter().all(|rec| !rec.is_on);
                (SUCCESS, if is_last { Next::Stop } else { Next::RecOff })
            }
            "PSCI_SYSTEM_OFF" => (SUCCESS, Next::PowerOff { code: args[0] }),
            "PSCI_SYSTEM_RESET" => (SUCCESS, Next::Reset),
            _ => (SUCCESS, Next::Stop),
        };
        self.emit(m, Event::Psci { call: Cow::Borrowed(name), args: args.to_vec(), status });
        match next {
            Next::PowerOff { code } => self.emit(m, Event::PowerOff { code }),
            Next::Reset => self.emit(m, Event::Reset),
            _ => {}
        }
        regs[0] = status;
        next
    }

    /// The REC that an MPIDR names: the host gave them 0, 1 and so on.
    fn rec(&self, mpidr: u64) -> Option<usize> {
        let number = usize::try_from(mpidr & AFFINITY).ok()?;
        (number < self.recs.len()).then_some(number)
    }

    /// CPU_ON. Choice: the host denies what no REC was made for.
    fn cpu_on(&mut self, args: [u64; 3]) -> u64 {
        let [target, pc, context] = args;
        if pc >= self.half() {
            return INVALID_ADDRESS;
        }
        match self.rec(target) {
            Some(rec) if self.recs[rec].is_on => ALREADY_ON,
            Some(rec) if self.scenario.host.cpu_on == CpuOn::Allow => {
                self.recs[rec].is_on = true;
                self.recs[rec].entry = Some(Entry { pc, context });
                SUCCESS
            }
            _ => DENIED,
        }
    }

    /// AFFINITY_INFO of one REC, level 0.
    fn affinity_info(&self, args: [u64; 3]) -> u64 {
        match self.rec(args[0]) {
            Some(rec) if args[1] == 0 && self.recs[rec].is_on => AFFINITY_ON,
            Some(_) if args[1] == 0 => AFFINITY_OFF,
            _ => INVALID_PARAMETERS,
        }
    }
}
