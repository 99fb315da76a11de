//! The JSON of a run (`scripts/run --json`). The words are those of docs/scenarios.md.

use rmm_model::final_state::DevRange;
use serde::Serialize;

/// One run.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `handed-off` or `stopped`.
    pub outcome: &'static str,
    /// `GH-` and four digits, if stopped.
    pub code: Option<String>,
    /// Bytes of the flat firmware without a bundle.
    pub image_bytes: u64,
    /// Dialect of the RMM.
    pub dialect: String,
    /// RSI version that the firmware and the RMM agreed on.
    pub rsi_version: Option<String>,
    /// The scenario's devices in its order, then the other functions that are no bridge.
    pub devices: Vec<Device>,
    /// Phases of the firmware; the last one of a stopped boot is the one that it stopped in.
    pub phases: Vec<Phase>,
    /// The payload.
    pub payload: Payload,
    /// What was checked.
    pub results: Vec<ResultLine>,
    /// Steps of the way back that failed, as the calls that should have made them.
    pub leaked: Vec<String>,
}

/// One function. Counts end at the hand-off.
#[derive(Clone, Debug, Serialize)]
pub struct Device {
    /// `bb:dd.f`.
    pub bdf: String,
    /// Id in RSI calls: the routing id at the moment of LOCK; null if it was never locked.
    pub vdev_id: Option<u64>,
    /// `accepted`, `refused`, `missing`, `extra`; null if the boot stopped before it was judged.
    pub verdict: Option<&'static str>,
    /// `run`, `pin`, `shared`, `hide`, `none`.
    pub mode: &'static str,
    /// `unlocked`, `locked`, `run`, `error`; null for a function that is not there.
    pub state: Option<String>,
    /// The rule of the policy that took it; null if none did.
    pub rule: Option<String>,
    /// `GH-` and four digits, if it was refused and the boot had a code for that.
    pub code: Option<String>,
    /// Why it was refused.
    pub reason: Option<String>,
    /// What VALIDATE_MAPPING made private, in order.
    pub ranges: Vec<DevRange>,
    /// RSI calls.
    pub rsi_calls: u64,
    /// Exits that the host sees.
    pub host_exits: u64,
    /// Accesses to configuration space.
    pub config_accesses: u64,
    /// From the first call or access to the last.
    pub ticks: u64,
    /// Steps of the way back that failed for this device.
    pub leaked: Vec<String>,
}

impl Device {
    /// A function that cost nothing and has no state.
    #[must_use]
    pub fn nothing(bdf: String, verdict: &'static str, mode: &'static str) -> Device {
        Device {
            bdf,
            vdev_id: None,
            verdict: Some(verdict),
            mode,
            state: None,
            rule: None,
            code: None,
            reason: None,
            ranges: Vec::new(),
            rsi_calls: 0,
            host_exits: 0,
            config_accesses: 0,
            ticks: 0,
            leaked: Vec::new(),
        }
    }
}

/// One phase.
#[derive(Clone, Debug, Serialize)]
pub struct Phase {
    /// Name.
    pub name: &'static str,
    /// RSI calls.
    pub rsi_calls: u64,
    /// Exits that the host sees.
    pub host_exits: u64,
    /// Requests to change RIPAS.
    pub ripas_changes: u64,
    /// Ticks of the system counter.
    pub ticks: u64,
}

/// The payload.
#[derive(Clone, Debug, Serialize)]
pub struct Payload {
    /// `linux`, `demo` or `none`.
    pub kind: &'static str,
    /// Version of what was packed; null for none.
    pub version: Option<String>,
    /// `pass`, `fail` or `skip`.
    pub result: Word,
}

/// One result.
#[derive(Clone, Debug, Serialize)]
pub struct ResultLine {
    /// Name.
    pub name: String,
    /// `pass`, `fail` or `skip`.
    pub result: Word,
    /// For people; not part of the JSON.
    #[serde(skip)]
    pub detail: String,
}

/// How a check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Word {
    /// As it must be.
    Pass,
    /// Not as it must be.
    Fail,
    /// Could not be: the scenario, or a fallback, takes the ground away.
    Skip,
}

impl Word {
    /// Returns pass or fail.
    #[must_use]
    pub fn of(is_pass: bool) -> Word {
        if is_pass { Word::Pass } else { Word::Fail }
    }

    /// Returns the word.
    #[must_use]
    pub fn text(self) -> &'static str {
        match self {
            Word::Pass => "pass",
            Word::Fail => "fail",
            Word::Skip => "skip",
        }
    }
}

impl ResultLine {
    /// Makes a result.
    #[must_use]
    pub fn new(name: &str, result: Word, detail: impl Into<String>) -> ResultLine {
        ResultLine { name: name.to_owned(), result, detail: detail.into() }
    }

    /// Passes if nothing is wrong; else the details say what.
    #[must_use]
    pub fn unless(name: &str, wrong: &[String]) -> ResultLine {
        ResultLine::new(name, Word::of(wrong.is_empty()), wrong.join("; "))
    }
}
