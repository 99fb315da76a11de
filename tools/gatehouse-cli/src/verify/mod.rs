//! Verifies a realm: token, event log, evidence and reference values, one line for each check. docs/verify.md says what each
//! line proves, and what it does not.
//!
//! Trust: the verifier's keys, reference values and challenge; everything else is checked against them.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

mod ear;
mod evidence_checks;
mod log_checks;
mod reference;
mod token_checks;

pub use ear::{EAR_TYPE, EarFacts, MIN_NONCE};
pub use reference::{Reference, ReferenceError};

use crate::eventlog::{Device, EventLog};
use crate::region::Collected;
use crate::rem::RemRule;
use crate::replay::Replay;
use crate::table::printable;
use crate::token::{Key, Token};
use gatehouse::policy::types::Policy;
use serde_json::{Value, json};

/// What is verified, and against what.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    /// Token.
    pub token: &'a Token<'a>,
    /// Log.
    pub log: &'a EventLog,
    /// Evidence region.
    pub evidence: Option<&'a [Collected<'a>]>,
    /// Challenge that was sent, without the zeros behind it.
    pub challenge: &'a [u8],
    /// Keys of platforms; one of them has to fit.
    pub platform_keys: &'a [Key],
    /// Reference values.
    pub reference: &'a Reference,
    /// Policy that the log has to name.
    pub policy: Option<&'a Policy>,
    /// Least svn of policy and bundle.
    pub min_svn: Option<u64>,
    /// Classes of lifecycle that the platform may be in.
    pub lifecycles: &'a [String],
    /// Formula of the RMM; `None`: the one that fits.
    pub rem_rule: Option<RemRule>,
}

/// What became of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Ok,
    /// It does not.
    Fail,
    /// Nothing was given to compare with.
    Skip,
}

impl Verdict {
    /// Returns the word of the report.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Fail => "FAIL",
            Self::Skip => "skip",
        }
    }
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// Name.
    pub name: &'static str,
    /// What became of it.
    pub verdict: Verdict,
    /// What was found, or why it fails.
    pub text: String,
}

/// All checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// In their order.
    pub checks: Vec<Check>,
    /// What the log says of each device.
    pub devices: Vec<Device>,
}

impl Report {
    fn ok(&mut self, name: &'static str, text: impl Into<String>) {
        self.checks.push(Check { name, verdict: Verdict::Ok, text: text.into() });
    }

    fn fail(&mut self, name: &'static str, text: impl Into<String>) {
        self.checks.push(Check { name, verdict: Verdict::Fail, text: text.into() });
    }

    fn skip(&mut self, name: &'static str, text: impl Into<String>) {
        self.checks.push(Check { name, verdict: Verdict::Skip, text: text.into() });
    }

    fn judge(&mut self, name: &'static str, result: Result<String, String>) {
        match result {
            Ok(text) => self.ok(name, text),
            Err(text) => self.fail(name, text),
        }
    }

    /// Tells whether everything that was checked holds.
    #[must_use]
    pub fn holds(&self) -> bool {
        self.checks.iter().all(|check| check.verdict != Verdict::Fail)
    }

    /// Returns the names of the checks that fail.
    #[must_use]
    pub fn failures(&self) -> Vec<&'static str> {
        self.checks.iter().filter(|check| check.verdict == Verdict::Fail).map(|check| check.name).collect()
    }

    /// Writes a line for each check.
    #[must_use]
    pub fn to_text(&self) -> String {
        let line = |check: &Check| {
            format!("{:<4}  {:<20}  {}\n", check.verdict.word(), check.name, printable(&check.text))
        };
        self.checks.iter().map(line).collect()
    }

    /// Returns the same as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let check = |check: &Check| json!({ "check": check.name, "result": check.verdict.word().to_lowercase(), "text": check.text });
        json!({
            "holds": self.holds(),
            "checks": self.checks.iter().map(check).collect::<Vec<_>>(),
            "devices": self.devices.iter().map(Device::to_json).collect::<Vec<_>>(),
        })
    }
}

/// Makes every check, also behind one that fails.
#[must_use]
pub fn verify(inputs: &Inputs<'_>) -> Report {
    let mut report = Report { checks: Vec::new(), devices: inputs.log.devices() };
    token_checks::run(inputs, &mut report);
    let known = inputs.token.realm.rems.map(|rem| Some(rem.to_vec()));
    let replay = Replay::new(inputs.log, known, inputs.rem_rule);
    log_checks::run(inputs, &replay, &mut report);
    evidence_checks::run(inputs, &mut report);
    report
}
