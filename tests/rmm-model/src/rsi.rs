//! The RMM: RSI and PSCI (DEN0137).

mod basic;
mod host_call;
mod ipa_state;
mod psci;
mod token;
mod vdev;

use alloc::borrow::Cow;

use crate::abi::{ALL_ONES, rsi::*};
use crate::access::Next;
use crate::machine::Machine;
use crate::model::Model;
use crate::record::Event;
use crate::scenario::{Crossing, Dialect, Lie, RsiCall, RsiVersions};
use crate::stage2::Stuck;

pub(crate) use host_call::NUM_GPRS;
pub(crate) use token::Token;

/// x0 and the results from x1 on.
pub(crate) struct Reply {
    status: u64,
    out: [u64; 8],
    /// How many of `out` the command defines.
    len: usize,
}

impl Reply {
    pub(crate) fn status(status: u64) -> Reply {
        Reply { status, out: [0; 8], len: 0 }
    }

    pub(crate) fn with(status: u64, results: &[u64]) -> Reply {
        let mut reply = Reply::status(status);
        reply.out[..results.len()].copy_from_slice(results);
        reply.len = results.len();
        reply
    }

    /// x0 (0) or a result; one more than the command defines counts as one.
    pub(crate) fn word(&mut self, word: usize) -> &mut u64 {
        let Some(index) = word.min(self.out.len()).checked_sub(1) else { return &mut self.status };
        self.len = self.len.max(index + 1);
        &mut self.out[index]
    }
}

/// A command: name, call, number of arguments, whether x1 is a vdev_id.
struct Command(&'static str, RsiCall, usize, bool);

fn command(fid: u64) -> Option<Command> {
    Some(match fid {
        RSI_VERSION => Command("RSI_VERSION", RsiCall::Version, 1, false),
        RSI_FEATURES => Command("RSI_FEATURES", RsiCall::Features, 1, false),
        RSI_MEASUREMENT_READ => Command("RSI_MEASUREMENT_READ", RsiCall::MeasurementRead, 1, false),
        RSI_MEASUREMENT_EXTEND => Command("RSI_MEASUREMENT_EXTEND", RsiCall::MeasurementExtend, 10, false),
        RSI_ATTESTATION_TOKEN_INIT => {
            Command("RSI_ATTESTATION_TOKEN_INIT", RsiCall::AttestationTokenInit, 8, false)
        }
        RSI_ATTESTATION_TOKEN_CONTINUE => {
            Command("RSI_ATTESTATION_TOKEN_CONTINUE", RsiCall::AttestationTokenContinue, 3, false)
        }
        RSI_REALM_CONFIG => Command("RSI_REALM_CONFIG", RsiCall::RealmConfig, 1, false),
        RSI_IPA_STATE_SET => Command("RSI_IPA_STATE_SET", RsiCall::IpaStateSet, 4, false),
        RSI_IPA_STATE_GET => Command("RSI_IPA_STATE_GET", RsiCall::IpaStateGet, 2, false),
        RSI_HOST_CALL => Command("RSI_HOST_CALL", RsiCall::HostCall, 1, false),
        RSI_VDEV_DMA_ENABLE => Command("RSI_VDEV_DMA_ENABLE", RsiCall::VdevDmaEnable, 6, true),
        RSI_VDEV_GET_INFO => Command("RSI_VDEV_GET_INFO", RsiCall::VdevGetInfo, 2, true),
        RSI_VDEV_VALIDATE_MAPPING => {
            Command("RSI_VDEV_VALIDATE_MAPPING", RsiCall::VdevValidateMapping, 8, true)
        }
        RSI_VDEV_DMA_DISABLE => Command("RSI_VDEV_DMA_DISABLE", RsiCall::VdevDmaDisable, 1, true),
        _ => return None,
    })
}

impl Model {
    /// Answers one SMC in the range of RSI.
    pub(crate) fn rsi(&mut self, rec: usize, fid: u64, regs: &mut [u64; 18], m: &mut dyn Machine) -> Next {
        let known =
            command(fid).filter(|command| !(command.3 && self.scenario.realm.rsi == RsiVersions::V10));
        let Some(Command(name, call, num_args, is_vdev)) = known else {
            self.emit(m, Event::UnknownSmc { fid: regs[0] });
            regs[0] = ALL_ONES;
            return Next::Resume;
        };
        let mut args = [0; 10];
        args.copy_from_slice(&regs[1..=10]);
        let device = is_vdev.then(|| self.device_by_id(args[0])).flatten();
        self.totals.rsi_calls += 1;
        if let Some(index) = device {
            self.devices[index].counters.rsi_calls += 1;
        }
        if is_vdev && self.scenario.dialect != Dialect::A {
            self.totals.vdev_request_exits += 1;
            device.into_iter().for_each(|index| self.devices[index].counters.vdev_request_exits += 1);
        }
        let due = self.arrive(Crossing::Rsi(call), m);
        if let Some(index) = device {
            self.behind_the_back(call, index, m);
        }
        let told = self.refused(&due, m).or_else(|| self.status_lie(call, device, m));
        let reply = match told {
            Some(status) => Ok(Reply::status(status)),
            None => self.rsi_command(rec, call, &args, m),
        };
        let Ok(mut reply) = reply else {
            let ipa = if call == RsiCall::VdevGetInfo { args[1] } else { args[0] };
            let (access, action) = (Cow::Borrowed("rsi-buffer"), Cow::Borrowed("stop"));
            self.emit(m, Event::Fault { ipa, access, action });
            return Next::Stop;
        };
        let filled = match call {
            RsiCall::RealmConfig => Some(args[0]),
            RsiCall::VdevGetInfo => Some(args[1]),
            _ => None,
        };
        self.alter_reply(&due, &mut reply, filled.filter(|_| told.is_none()), m);
        self.leave(&due, m);
        regs[0] = reply.status;
        regs[1..4].fill(0);
        regs[1..=reply.len].copy_from_slice(&reply.out[..reply.len]);
        let event = Event::Rsi {
            call: Cow::Borrowed(name),
            args: args[..num_args].to_vec(),
            status: reply.status,
            results: reply.out[..reply.len].to_vec(),
            vdev: device.map(|_| args[0]),
        };
        self.emit(m, event);
        Next::Resume
    }

    fn rsi_command(
        &mut self,
        rec: usize,
        call: RsiCall,
        args: &[u64; 10],
        m: &mut dyn Machine,
    ) -> Result<Reply, Stuck> {
        match call {
            RsiCall::Version => Ok(self.version(args[0])),
            RsiCall::Features => Ok(self.features(args[0])),
            RsiCall::RealmConfig => self.realm_config(args[0], m),
            RsiCall::MeasurementRead => Ok(self.measurement_read(args[0])),
            RsiCall::MeasurementExtend => Ok(self.measurement_extend(args)),
            RsiCall::AttestationTokenInit => Ok(self.token_init(rec, args)),
            RsiCall::AttestationTokenContinue => self.token_continue(rec, args, m),
            RsiCall::IpaStateSet => Ok(self.ipa_state_set(args, m)),
            RsiCall::IpaStateGet => Ok(self.ipa_state_get(args[0], args[1])),
            RsiCall::HostCall => self.host_call(args[0], m),
            RsiCall::VdevGetInfo => self.vdev_get_info(args[0], args[1], m),
            RsiCall::VdevValidateMapping => Ok(self.vdev_validate_mapping(args, m)),
            RsiCall::VdevDmaEnable => Ok(self.vdev_dma_enable(args, m)),
            RsiCall::VdevDmaDisable => Ok(self.vdev_dma_disable(args[0], m)),
        }
    }

    /// A status that is told instead of an answer.
    fn status_lie(&mut self, call: RsiCall, device: Option<usize>, m: &mut dyn Machine) -> Option<u64> {
        let lie = self.lie(m, device, |lie| match lie {
            Lie::RsiStatus { call: at, .. }
            | Lie::RsiGarbageStatus { call: at }
            | Lie::RsiIncomplete { call: at } => *at == call,
            _ => false,
        })?;
        Some(match lie {
            Lie::RsiStatus { status, .. } => status,
            Lie::RsiIncomplete { .. } => RSI_INCOMPLETE,
            _ => GARBAGE_STATUS,
        })
    }
}

/// What garbage-status lies answer.
pub(crate) const GARBAGE_STATUS: u64 = 0x5EAD_BEEF;
