//! From what the stub, the console and the harness know to the report and the exit status of a run.

use crate::Fault;
use crate::checks;
use crate::console::{Console, PHASES};
use crate::counts::Counts;
use crate::devices;
use crate::expected::{self, Assigned, Speaker};
use crate::json::{Payload, Phase, Report, ResultLine, Word};
use crate::no_console;
use crate::stublog::StubLog;
use crate::trace::word;
use crate::verdict;
use gatehouse::codes::StopCode;
use rmm_model::Scenario;
use rmm_model::final_state::Outcome;
use rmm_model::record::{Event, Record};

/// Codes of a firmware that broke: not on purpose.
const BROKEN: [StopCode; 7] = [
    StopCode::Panic,
    StopCode::Exception,
    StopCode::ExceptionEarly,
    StopCode::ReportNested,
    StopCode::StackOverflow,
    StopCode::SError,
    StopCode::Interrupt,
];

/// How the realm ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The payload ran, and powered off.
    HandedOff,
    /// The firmware stopped on purpose.
    Stopped(StopCode),
}

/// Which payload was packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// A stock Linux with our OS half.
    Linux,
    /// The demo payload.
    Demo,
}

impl PayloadKind {
    /// Returns the word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            PayloadKind::Linux => "linux",
            PayloadKind::Demo => "demo",
        }
    }
}

/// What the harness knows itself.
#[derive(Clone, Debug)]
pub struct Known {
    /// What was packed.
    pub payload: PayloadKind,
    /// Its version.
    pub payload_version: String,
    /// Who prints results.
    pub speaker: Speaker,
    /// SHA-256 over the run's nonce and the first MiB of the disk, by slot.
    pub disks: Vec<(String, String)>,
    /// Bytes of the flat firmware.
    pub image_bytes: u64,
}

/// A judged run.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// How it ended.
    pub ending: Ending,
    /// For the JSON file.
    pub report: Report,
}

impl Judgement {
    /// Returns the exit status of scripts/run: 0 handed off and confirmed, 10 stopped on purpose, 1 anything else.
    #[must_use]
    pub fn exit_status(&self) -> u8 {
        let is_bad = self.report.results.iter().any(|result| result.result == Word::Fail);
        match self.ending {
            _ if is_bad => 1,
            Ending::HandedOff => 0,
            Ending::Stopped(code) if BROKEN.contains(&code) => 1,
            Ending::Stopped(_) => 10,
        }
    }
}

/// Says how the realm ended, by the stub; `is_handed_off`: the firmware announced the jump.
///
/// # Errors
/// [`Fault::Run`] for every other end.
pub fn ending(log: &StubLog, is_handed_off: bool) -> Result<Ending, Fault> {
    let fault = |text: String| Err(Fault::Run(text));
    let code = match log.end.final_state.outcome {
        Outcome::PowerOff { code } => code,
        Outcome::Reset => return fault("the realm asked for a reset".into()),
        Outcome::Stopped => return fault("the realm can make no more progress".into()),
        Outcome::Running => return fault("the stub ended while the realm was running".into()),
    };
    let last = log.records.iter().rev().find_map(|record| match record.event {
        Event::PowerOff { code } => Some(code),
        _ => None,
    });
    if last != Some(code) {
        return fault(format!("the stub contradicts itself: power-off {code}, by its records {last:?}"));
    }
    match (code, is_handed_off) {
        (0, true) => Ok(Ending::HandedOff),
        (0, false) => fault("the realm powered off before the hand-off, without a stop code".into()),
        (code, true) => fault(format!("the payload powered off with code {code}")),
        (code, false) => match StopCode::ALL.iter().find(|known| u64::from(known.number()) == code) {
            Some(known) => Ok(Ending::Stopped(*known)),
            None => fault(format!("unknown stop code {code}")),
        },
    }
}

/// Judges a run whose log is whole.
///
/// # Errors
/// [`Fault::Run`] when it has neither of the two proper ends.
pub fn judge(
    log: &StubLog,
    console: &Console,
    scenario: &Scenario,
    known: &Known,
) -> Result<Judgement, Fault> {
    let is_mute = no_console::is_so(scenario);
    let ending = ending(log, if is_mute { no_console::is_handed_off(log) } else { console.is_handed_off() })?;
    let boundary = match ending {
        Ending::HandedOff if is_mute => no_console::handoff_ticks(log).unwrap_or(u64::MAX),
        Ending::HandedOff => console.handoff_ticks().unwrap_or(u64::MAX),
        Ending::Stopped(_) => u64::MAX,
    };
    let of_firmware = checks::until(&log.records, boundary);
    let states = &log.end.final_state.devices;
    let described = devices::describe(scenario, states, of_firmware, ending, console);
    let assigned: Vec<Assigned<'_>> = devices::assigned(scenario, states)
        .zip(&described)
        .map(|((spec, state), device)| Assigned { spec, state, device })
        .collect();

    let mut results = vec![if is_mute {
        no_console::agrees(console)
    } else {
        let mut wrong = contradictions(log, console, ending);
        if ending == Ending::HandedOff {
            wrong.extend(verdict::contradictions(&described, console));
        }
        ResultLine::unless("console-agrees", &wrong)
    }];
    let leaked;
    let mut payload = Payload { kind: "none", version: None, result: Word::Skip };
    match ending {
        Ending::HandedOff => {
            let mut said = payload_results(console, known, scenario, &assigned);
            let is_pass = said.iter().all(|result| result.result != Word::Fail);
            if is_mute {
                no_console::skip(&mut said);
            }
            payload = Payload {
                kind: known.payload.word(),
                version: Some(known.payload_version.clone()),
                result: if is_mute { Word::Skip } else { Word::of(is_pass) },
            };
            results.splice(0..0, said);
            let reach_out = expected::reach_out(known.speaker, &assigned);
            let devices = &assigned;
            let run = checks::HandedOff { log, scenario, devices, reach_out: &reach_out, boundary };
            let (checked, leaks) = checks::handed_off(&run);
            results.extend(checked);
            leaked = devices::calls(&leaks);
        }
        Ending::Stopped(_) => {
            let (checked, leaks) = checks::stopped(log, scenario);
            results.extend(checked);
            leaked = devices::calls(&leaks);
        }
    }
    results.extend(checks::never_enabled(log, scenario));
    results.extend(checks::always(log));

    let report = Report {
        outcome: if ending == Ending::HandedOff { "handed-off" } else { "stopped" },
        code: match ending {
            Ending::HandedOff => None,
            Ending::Stopped(code) => Some(code.to_string()),
        },
        image_bytes: known.image_bytes,
        dialect: word(&scenario.dialect),
        rsi_version: rsi_version(of_firmware),
        devices: described,
        phases: if is_mute { Vec::new() } else { phases(log, console, of_firmware, ending) },
        payload,
        results,
        leaked,
    };
    Ok(Judgement { ending, report })
}

/// What the console says that the stub's log or the order of a boot contradicts.
fn contradictions(log: &StubLog, console: &Console, ending: Ending) -> Vec<String> {
    let mut wrong = console.faults.clone();
    let first = log.start.ticks;
    let last = log.records.last().map_or(first, |record| record.ticks);
    if let Some((name, ticks)) = console.phases.iter().find(|phase| phase.1 < first || phase.1 > last) {
        wrong.push(format!("phase {name} ended at {ticks}, the run went from {first} to {last}"));
    }
    match (ending, &console.stop) {
        (Ending::HandedOff, Some(stop)) => wrong.push(format!("a stop line GH-{:04}", stop.code)),
        (Ending::HandedOff, None) => {}
        (Ending::Stopped(code), Some(stop)) if stop.code != code.number() => {
            wrong.push(format!("the console says GH-{:04}, x1 of SYSTEM_OFF {code}", stop.code));
        }
        // Before the console is open, and when the firmware breaks, there may be no line.
        (Ending::Stopped(code), None) if (2000..8000).contains(&code.number()) => {
            wrong.push(format!("no stop line for {code}"));
        }
        (Ending::Stopped(_), _) => {}
    }
    if ending == Ending::HandedOff && console.banner.is_none() {
        wrong.push("no version and build id".to_owned());
    }
    wrong
}

/// The payload's own results, what is missing of them, and the digests of the disks.
fn payload_results(
    console: &Console,
    known: &Known,
    scenario: &Scenario,
    devices: &[Assigned<'_>],
) -> Vec<ResultLine> {
    let mut results: Vec<ResultLine> = console
        .results
        .iter()
        .map(|result| ResultLine::new(&result.name, Word::of(result.is_pass), result.detail.clone()))
        .collect();
    let expected = expected::results(known.speaker, devices, &scenario.bundle);
    for name in &expected {
        if !console.results.iter().any(|result| result.name == *name) {
            results.push(ResultLine::new(name, Word::Fail, "no RESULT line"));
        }
    }
    let mut wrong: Vec<String> = console
        .results
        .iter()
        .filter(|result| !expected.contains(&result.name))
        .map(|result| format!("a result that nobody asked for: {}", result.name))
        .collect();
    if !console.is_complete {
        wrong.push("no RESULT-END line".to_owned());
    }
    results.push(ResultLine::unless("payload-complete", &wrong));
    let disks = expected::disks(known.speaker, devices);
    let wrong: Vec<String> = disks
        .iter()
        .filter_map(|(name, slot)| {
            let digest = known.disks.iter().find(|disk| disk.0 == *slot).map(|disk| disk.1.as_str());
            match (console.datum(name), digest) {
                (None, _) => Some(format!("{slot}: no digest of the disk")),
                (_, None) => Some(format!("{slot}: the machine has no disk there")),
                (Some(said), Some(digest)) if said != digest => {
                    Some(format!("{slot}: the payload read {said}, the disk is {digest}"))
                }
                _ => None,
            }
        })
        .collect();
    if !disks.is_empty() {
        results.push(ResultLine::unless("disk-digest", &wrong));
    }
    results
}

/// The version of the last successful RSI_VERSION of the firmware, major and minor.
fn rsi_version(records: &[Record]) -> Option<String> {
    let version = records.iter().rev().find_map(|record| match &record.event {
        Event::Rsi { call, status: 0, results, .. } if call == "RSI_VERSION" => results.first().copied(),
        _ => None,
    })?;
    Some(format!("{}.{}", version >> 16, version & 0xffff))
}

/// Counts each phase from its records: behind the end of the one before, up to its own.
fn phases(log: &StubLog, console: &Console, records: &[Record], ending: Ending) -> Vec<Phase> {
    let mut ends = console.phases.clone();
    if let (Ending::Stopped(_), Some(name), Some(last)) = (ending, PHASES.get(ends.len()), records.last()) {
        ends.push((name, last.ticks));
    }
    let mut from = log.start.ticks;
    let mut seen = 0;
    let mut phases = Vec::new();
    for (name, end) in ends {
        let upto = checks::until(records, end).len();
        let counts = Counts::of(records.get(seen..upto).unwrap_or_default(), log.start.board.alias_bit());
        phases.push(Phase {
            name,
            rsi_calls: counts.rsi_calls,
            host_exits: counts.host_exits,
            ripas_changes: counts.ripas_changes,
            ticks: end.saturating_sub(from),
        });
        from = end;
        seen = upto;
    }
    phases
}

#[cfg(test)]
#[path = "judge_mute_tests.rs"]
mod mute_tests;
#[cfg(test)]
#[path = "judge_pinned_tests.rs"]
mod pinned_tests;
#[cfg(test)]
#[path = "judge_several_tests.rs"]
mod several_tests;
#[cfg(test)]
#[path = "judge_tests.rs"]
pub(crate) mod tests;
