//! What a person reads: the firmware's lines, between them what the stub saw, then the payload, then tables.

use crate::checks::until;
use crate::console::{Console, Line};
use crate::counts::{Counts, bdf};
use crate::json::Word;
use crate::judge::{Ending, Judgement};
use crate::stublog::{StubLog, Tail};
use crate::trace;
use gatehouse_cli::pack::Packed;
use rmm_model::digest::to_hex;
use rmm_model::record::{Event, Record};
use rmm_model::ripas::Ripas;
use std::io::Write;

/// Prints a run while it goes on.
pub struct Story {
    out: Box<dyn Write + Send>,
    quiet: bool,
    trace: bool,
    /// The scenario wants accesses to configuration space in the trace.
    config: bool,
    /// Records shown.
    seen: usize,
    /// Records of the phases that ended.
    counted: usize,
}

impl Story {
    /// Prints to `out`; `quiet`: only what [`Story::end`] says in one line.
    #[must_use]
    pub fn new(out: Box<dyn Write + Send>, quiet: bool, trace: bool) -> Story {
        Story { out, quiet, trace, config: true, seen: 0, counted: 0 }
    }

    /// A story for nobody.
    #[must_use]
    pub fn silent() -> Story {
        Story::new(Box::new(std::io::sink()), true, false)
    }

    fn say(&mut self, text: &str) {
        if !self.quiet {
            // A closed pipe ends the reading, not the run.
            let _ = writeln!(self.out, "{text}");
        }
    }

    /// Says what will be run.
    pub fn begin(&mut self, scenario: &str, payload: &str, packed: &Packed, config: bool) {
        self.config = config;
        self.say(&format!("scenario {scenario}, payload {payload}"));
        self.say(&format!(
            "image {} bytes: firmware {}, bundle {} at offset {:#x}, manifest sha256 {}",
            packed.image_bytes.len(),
            packed.firmware_len,
            packed.bundle_len,
            packed.bundle_offset,
            to_hex(&packed.manifest_sha256)
        ));
        self.say("");
    }

    /// Takes one line of the console; what the stub logged before it comes first.
    pub fn line(&mut self, line: &Line, console: &Console, tail: &mut Tail) {
        if !console.is_handed_off() || matches!(line, Line::Phase { .. }) {
            tail.poll();
            self.records(&tail.records, origin(tail));
        }
        match line {
            Line::Phase { name, ticks } => {
                self.phase(name, *ticks, tail);
                if console.is_handed_off() {
                    self.say("");
                }
            }
            Line::Firmware(text, true) => self.say(&format!("! {text}")),
            Line::Firmware(text, false) | Line::Payload(text) => self.say(text),
        }
    }

    /// Says what a phase cost, if the log is that far.
    fn phase(&mut self, name: &str, ticks: u64, tail: &Tail) {
        let Some(start) = &tail.start else { return };
        let upto = until(&tail.records, ticks).len();
        let Some(records) = tail.records.get(self.counted..upto) else { return };
        let counts = Counts::of(records, start.board.alias_bit());
        self.counted = upto;
        self.say(&format!(
            "-- {name}: {} RSI calls, {} host exits, {} configuration accesses, {} RIPAS changes",
            counts.rsi_calls, counts.host_exits, counts.config_accesses, counts.ripas_changes
        ));
    }

    /// Shows records that were not shown: all of them in a trace, else those that change something.
    fn records(&mut self, records: &[Record], (origin, hz): (u64, u64)) {
        for index in self.seen..records.len() {
            let (Some(record), Some(before)) = (records.get(index), records.get(..index)) else { break };
            let is_config = matches!(record.event, Event::Config { .. });
            if self.trace && (self.config || !is_config) {
                self.say(&trace::line(record, origin, hz));
            }
            // What was set up before the realm ran is no part of its story.
            let is_late = record.ticks >= origin;
            if let Some(text) = change(record, before).filter(|_| is_late) {
                self.say(&format!("   [RMM] {text}"));
            }
        }
        self.seen = records.len();
    }

    /// Says how it ended: tables, then one line.
    pub fn end(&mut self, judgement: &Judgement, log: &StubLog, seconds: f64) {
        self.records(&log.records, (log.start.ticks, log.start.counter_hz));
        let hz = log.start.counter_hz;
        let report = &judgement.report;
        let millis = |ticks: u64| ticks as f64 * 1000.0 / hz.max(1) as f64;
        self.say("");
        self.say(&format!(
            "{:<12}{:>10}{:>12}{:>15}{:>12}",
            "phase", "RSI calls", "host exits", "RIPAS changes", "ms"
        ));
        for phase in &report.phases {
            let Counted { rsi_calls, host_exits, ripas_changes } = Counted::from(phase);
            let ms = millis(phase.ticks);
            let name = phase.name;
            self.say(&format!("{name:<12}{rsi_calls:>10}{host_exits:>12}{ripas_changes:>15}{ms:>12.2}"));
        }
        self.say("");
        let head = ("device", "verdict", "mode", "state", "RSI calls", "host exits", "config", "ms");
        let (a, b, c, d, e, f, g, h) = head;
        self.say(&format!("{a:<10}{b:<10}{c:<6}{d:<10}{e:>10}{f:>12}{g:>8}{h:>12}"));
        for device in &report.devices {
            self.say(&format!(
                "{:<10}{:<10}{:<6}{:<10}{:>10}{:>12}{:>8}{:>12.2}",
                device.bdf,
                device.verdict.unwrap_or("-"),
                device.mode,
                device.state.as_deref().unwrap_or("-"),
                device.rsi_calls,
                device.host_exits,
                device.config_accesses,
                millis(device.ticks)
            ));
            for range in &device.ranges {
                self.say(&format!(
                    "    validated {:#x}..{:#x}, real {:#x}",
                    range.ipa,
                    range.top(),
                    range.pa
                ));
            }
            for call in &device.leaked {
                self.say(&format!("    leaked: {call}"));
            }
        }
        self.say("");
        self.say("result  check");
        for result in &report.results {
            let detail =
                if result.detail.is_empty() { String::new() } else { format!(": {}", result.detail) };
            self.say(&format!("{:<8}{}{detail}", result.result.text(), result.name));
        }
        let failed = report.results.iter().filter(|result| result.result == Word::Fail).count();
        let passed = report.results.iter().filter(|result| result.result == Word::Pass).count();
        let what = match judgement.ending {
            Ending::HandedOff => format!("handed off to {}", report.payload.kind),
            Ending::Stopped(code) => format!("stopped: {code}: {}", code.text()),
        };
        self.say("");
        // What failed, and the last line, appear even if quiet.
        if self.quiet {
            for result in report.results.iter().filter(|result| result.result == Word::Fail) {
                let _ = writeln!(self.out, "fail    {}: {}", result.name, result.detail);
            }
        }
        let _ = writeln!(self.out, "{what}; {passed} checks passed, {failed} failed; {seconds:.1} s");
    }
}

struct Counted {
    rsi_calls: u64,
    host_exits: u64,
    ripas_changes: u64,
}

impl From<&crate::json::Phase> for Counted {
    fn from(phase: &crate::json::Phase) -> Counted {
        let crate::json::Phase { rsi_calls, host_exits, ripas_changes, .. } = *phase;
        Counted { rsi_calls, host_exits, ripas_changes }
    }
}

fn origin(tail: &Tail) -> (u64, u64) {
    tail.start.as_ref().map_or((0, 1), |start| (start.ticks, start.counter_hz))
}

/// Describes a change that the reader should see, with what the device had cost by then.
fn change(record: &Record, before: &[Record]) -> Option<String> {
    let cost = |rid: u16| {
        let counts = Counts::of_device(before, rid, &[]);
        format!(
            "after {} RSI calls, {} host exits, {} configuration accesses of the device",
            counts.rsi_calls, counts.host_exits, counts.config_accesses
        )
    };
    match &record.event {
        Event::Tdi { rid, from, to, cause } => Some(format!(
            "{} {} -> {} by {cause}, {}",
            bdf(*rid),
            trace::word(from),
            trace::word(to),
            cost(*rid)
        )),
        Event::Dma { rid, gate } => {
            Some(format!("{} DMA gate {}, {}", bdf(*rid), trace::word(gate), cost(*rid)))
        }
        Event::Ripas { base, top, to: Ripas::Dev, .. } => {
            Some(format!("{base:#x}..{top:#x} validated: {} pages DEV", (top - base) >> 12))
        }
        Event::Ripas { base, top, from: Ripas::Dev, to } => {
            Some(format!("{base:#x}..{top:#x} DEV -> {}", format!("{to:?}").to_uppercase()))
        }
        Event::Lie { name, .. } => Some(format!("the scenario lies: {name}")),
        Event::Violation { text } => Some(format!("VIOLATION: {text}")),
        _ => None,
    }
}
