//! RSI_IPA_STATE_SET and GET (`rsi.md` 4).

use super::Reply;
use crate::abi::rsi::*;
use crate::board::PAGE;
use crate::machine::Machine;
use crate::model::Model;
use crate::ripas::Ripas;
use crate::scenario::{Lie, RipasTarget, RsiCall};

/// How far one call came.
pub(super) struct Progress {
    pub(super) next: u64,
    pub(super) reject: bool,
}

impl Model {
    /// Checks a range: aligned, not empty, all of it protected.
    pub(super) fn is_protected_range(&self, base: u64, top: u64) -> bool {
        base.is_multiple_of(PAGE) && top.is_multiple_of(PAGE) && base < top && top <= self.half()
    }

    /// RSI_IPA_STATE_SET (`rsi.md` 4.3).
    ///
    /// Choices: reserved flag bits are ERROR_INPUT for RAM; RAM where the board has none is refused by the host
    /// (REJECT); DEV to RAM makes no progress, as in TF-RMM.
    pub(super) fn ipa_state_set(&mut self, args: &[u64; 10], m: &mut dyn Machine) -> Reply {
        let [base, top, ripas, flags, ..] = *args;
        let target = match ripas {
            0 => RipasTarget::Empty,
            1 => RipasTarget::Ram,
            _ => return Reply::status(RSI_ERROR_INPUT),
        };
        if !self.is_protected_range(base, top) || (target == RipasTarget::Ram && flags > 1) {
            return Reply::status(RSI_ERROR_INPUT);
        }
        if self.lie(m, None, |lie| *lie == Lie::IpaStateFails { to: target }).is_some() {
            return Reply::status(RSI_ERROR_INPUT);
        }
        self.totals.host_exits += 1;
        self.totals.ripas_changes += 1;
        for device in &mut self.devices {
            if device.windows().any(|window| base < window.top() && top > window.base) {
                device.counters.host_exits += 1;
                device.counters.ripas_changes += 1;
                device.counters.rsi_calls += 1;
            }
        }
        if let Some(reply) = self.stuck_lie(RsiCall::IpaStateSet, base, m) {
            return reply;
        }
        self.ipa_state_calls += 1;
        let host = &self.scenario.host;
        let (step, stalls) = (host.ipa_state_step, u64::from(host.ipa_state_stalls));
        let mut limit = if step == 0 { top } else { top.min(base.saturating_add(step * PAGE)) };
        if !self.ipa_state_calls.is_multiple_of(stalls + 1) {
            limit = base;
        }
        let rejected =
            self.lie(m, None, |lie| matches!(lie, Lie::IpaStateReject { to, .. } if *to == target));
        if let Some(Lie::IpaStateReject { after_pages, .. }) = rejected {
            limit = top.min(base.saturating_add(after_pages.saturating_mul(PAGE)));
        }
        let mut progress = self.change_ripas(base, limit, target, flags & 1 == 1, m);
        progress.reject |= rejected.is_some() && progress.next < top;
        self.next_lie(RsiCall::IpaStateSet, base, top, progress, m)
    }

    fn change_ripas(
        &mut self,
        base: u64,
        limit: u64,
        to: RipasTarget,
        destroyed: bool,
        m: &mut dyn Machine,
    ) -> Progress {
        for (from, end, ripas) in self.ripas.runs(base, limit) {
            let target = match (to, ripas) {
                (RipasTarget::Empty, Ripas::Empty) | (RipasTarget::Ram, Ripas::Ram) => continue,
                (RipasTarget::Empty, _) => Ripas::Empty,
                (RipasTarget::Ram, Ripas::Dev) => return Progress { next: from, reject: false },
                (RipasTarget::Ram, Ripas::Destroyed) if !destroyed => {
                    return Progress { next: from, reject: false };
                }
                (RipasTarget::Ram, _) => Ripas::Ram,
            };
            if target == Ripas::Ram && !self.board.is_ram(from, end) {
                let ram = self.board.ram.iter().find(|range| range.contains(from));
                let next = ram.map_or(from, |range| range.top());
                self.set_ripas(m, from, next, Ripas::Ram);
                return Progress { next, reject: true };
            }
            self.set_ripas(m, from, end, target);
        }
        Progress { next: limit, reject: false }
    }

    /// RSI_IPA_STATE_GET (`rsi.md` 4.4).
    pub(super) fn ipa_state_get(&mut self, base: u64, top: u64) -> Reply {
        if !self.is_protected_range(base, top) {
            return Reply::status(RSI_ERROR_INPUT);
        }
        let (ripas, end) = self.ripas.run(base);
        let step = self.scenario.realm.ipa_state_get_step;
        let limit = if step == 0 { top } else { base.saturating_add(step * PAGE) };
        Reply::with(RSI_SUCCESS, &[end.min(top).min(limit), ripas.encoding()])
    }

    /// The lie that nothing is done.
    pub(super) fn stuck_lie(&mut self, call: RsiCall, base: u64, m: &mut dyn Machine) -> Option<Reply> {
        self.lie(m, None, |lie| *lie == Lie::NextStuck { call })?;
        Some(Reply::with(RSI_SUCCESS, &[base, RSI_ACCEPT]))
    }

    /// Turns progress into x1 and x2, or lies about it.
    pub(super) fn next_lie(
        &mut self,
        call: RsiCall,
        base: u64,
        top: u64,
        progress: Progress,
        m: &mut dyn Machine,
    ) -> Reply {
        let lie = self.lie(m, None, |lie| match lie {
            Lie::NextBackwards { call: at }
            | Lie::NextAboveTop { call: at }
            | Lie::NextOversize { call: at }
            | Lie::NextUnaligned { call: at } => *at == call,
            _ => false,
        });
        let next = match lie {
            Some(Lie::NextBackwards { .. }) => base.wrapping_sub(PAGE),
            Some(Lie::NextAboveTop { .. }) => top + PAGE,
            Some(Lie::NextOversize { .. }) => u64::MAX - (PAGE - 1),
            Some(Lie::NextUnaligned { .. }) => top - 1,
            _ => return Reply::with(RSI_SUCCESS, &[progress.next, u64::from(progress.reject)]),
        };
        Reply::with(RSI_SUCCESS, &[next, RSI_ACCEPT])
    }
}
