//! Replays a log: which measurements it makes, and whether a realm has them.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use crate::eventlog::{EventLog, describe};
use crate::hex;
use crate::rem::{RemRule, same};
use serde_json::{Value, json};
use std::fmt::Write as _;

/// The measurements of a log under one formula, beside those of a realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Computed {
    /// Formula.
    pub rule: RemRule,
    /// REM 1 to 4.
    pub rems: [Vec<u8>; 4],
    /// Whether the realm has them; `None`: what the realm has is not known.
    pub equal: [Option<bool>; 4],
}

impl Computed {
    /// Replays `log` and compares with what is known of the realm.
    #[must_use]
    pub fn new(log: &EventLog, rule: RemRule, known: &[Option<Vec<u8>>; 4]) -> Self {
        let rems = rule.replay(log);
        let mut equal = [None; 4];
        for ((equal, rem), known) in equal.iter_mut().zip(&rems).zip(known) {
            *equal = known.as_ref().map(|known| same(known, rem));
        }
        Self { rule, rems, equal }
    }

    /// Tells whether nothing that is known differs.
    #[must_use]
    pub fn fits(&self) -> bool {
        !self.equal.contains(&Some(false))
    }

    /// Returns the numbers of the measurements that differ.
    #[must_use]
    pub fn different(&self) -> Vec<usize> {
        (1..).zip(&self.equal).filter(|(_, equal)| **equal == Some(false)).map(|(number, _)| number).collect()
    }
}

/// A log, replayed.
#[derive(Clone, Debug)]
pub struct Replay<'l> {
    /// The log.
    pub log: &'l EventLog,
    /// What is known of the realm: REM 1 to 4.
    pub known: [Option<Vec<u8>>; 4],
    /// Under the formulas that are of interest.
    pub computed: Vec<Computed>,
}

impl<'l> Replay<'l> {
    /// Replays under `rule`; without one under the formula that fits, or under both if nothing is known or none fits.
    #[must_use]
    pub fn new(log: &'l EventLog, known: [Option<Vec<u8>>; 4], rule: Option<RemRule>) -> Self {
        let rules = rule.map_or(RemRule::ALL.to_vec(), |rule| vec![rule]);
        let mut computed: Vec<_> = rules.iter().map(|rule| Computed::new(log, *rule, &known)).collect();
        if known.iter().any(Option::is_some)
            && let Some(fitting) = computed.iter().find(|computed| computed.fits()).cloned()
        {
            computed = vec![fitting];
        }
        Self { log, known, computed }
    }

    /// Tells whether a formula gives everything that is known.
    #[must_use]
    pub fn fits(&self) -> bool {
        self.computed.iter().any(Computed::fits)
    }

    /// Says in words what does not fit.
    #[must_use]
    pub fn misfit(&self) -> Option<String> {
        if self.fits() {
            return None;
        }
        let of = |computed: &Computed| {
            let numbers: Vec<_> = computed.different().iter().map(|number| format!("REM {number}")).collect();
            format!("{} differ under {}", numbers.join(", "), computed.rule)
        };
        let all: Vec<_> = self.computed.iter().map(of).collect();
        Some(format!("the log is not that of this realm: {}", all.join("; ")))
    }

    /// Writes tables of events, measurements and devices.
    #[must_use]
    pub fn to_text(&self) -> String {
        let log = self.log;
        let mut text = describe::events(log);
        text.push('\n');
        for computed in &self.computed {
            let rows = computed.rems.iter().zip(computed.equal).zip(&self.known);
            for (number, ((rem, equal), known)) in (1..).zip(rows) {
                let verdict = match equal {
                    Some(true) => "  equal",
                    Some(false) => "  NOT EQUAL",
                    None => "",
                };
                let _ = writeln!(text, "REM {number}  {:<6}  {}{verdict}", computed.rule, hex(rem));
                if let (Some(false), Some(known)) = (equal, known) {
                    let _ = writeln!(text, "       {:<6}  {}", "realm", hex(known));
                }
            }
        }
        text += if self.known.iter().all(Option::is_none) {
            "The log is in order. Nothing says yet whose log it is: compare with a token (--token) or with REMs (--rem1 ..).\n"
        } else if self.fits() && self.known.iter().all(Option::is_some) {
            "The log is the one that was extended into these measurements.\n"
        } else if self.fits() {
            "The events of the measurements that were given are those that were extended; the others are only claimed.\n"
        } else {
            "The log is NOT the one that was extended into these measurements.\n"
        };
        let devices = log.devices();
        text += &format!("\n{}{}", describe::devices(&devices), describe::explanations(&devices));
        text
    }

    /// Returns the same as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let rems = |computed: &Computed| {
            let rems: Vec<Value> = (1..)
                .zip(computed.rems.iter().zip(computed.equal))
                .map(|(number, (rem, equal))| json!({ "rem": number, "value": hex(rem), "equal": equal }))
                .collect();
            json!({ "rule": computed.rule.name(), "rems": rems })
        };
        let known: Vec<_> = self.known.iter().map(|known| known.as_deref().map(hex)).collect();
        json!({
            "hash": self.log.algorithm.name(),
            "events": describe::events_json(self.log),
            "known": known,
            "computed": self.computed.iter().map(rems).collect::<Vec<_>>(),
            "fits": self.known.iter().any(Option::is_some).then(|| self.fits()),
            "devices": self.log.devices().iter().map(crate::eventlog::Device::to_json).collect::<Vec<_>>(),
        })
    }
}
