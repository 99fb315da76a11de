//! PSCI and SMCCC_VERSION (`rsi.md` 8).

use alloc::borrow::Cow;

use crate::abi::{ALL_ONES, psci::*};
use crate::access::Next;
use crate::machine::Machine;
use crate::model::Model;
use crate::record::Event;

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
    /// Answers one PSCI call. There is one REC; the host denies every other.
    pub(crate) fn psci(&mut self, fid: u64, regs: &mut [u64; 18], m: &mut dyn Machine) -> Next {
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
            "PSCI_CPU_ON" if args[1] >= self.half() => (INVALID_ADDRESS, Next::Resume),
            "PSCI_CPU_ON" => (DENIED, Next::Resume),
            // 0 = on: the caller itself, the only REC.
            "PSCI_AFFINITY_INFO" if args[0] & 0xFF_00FF_FFFF == 0 => (SUCCESS, Next::Resume),
            "PSCI_AFFINITY_INFO" => (INVALID_PARAMETERS, Next::Resume),
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
}
