//! What became of each assigned device: verdict, mode, rule, and why it was refused.
//!
//! The stub says what was done with a device, the scenario what had to be done. The console is asked for words only
//! (rule, code, reason), and where the scenario allows either end; [`contradictions`] holds its words against the rest.

use crate::console::Console;
use crate::counts::routing_id;
use crate::json::Device;
use crate::judge::Ending;
use gatehouse::codes::StopCode;
use rmm_model::Scenario;
use rmm_model::final_state::{DeviceState, TdiState};
use rmm_model::record::{Event, Record};
use rmm_model::scenario::{DeviceSpec, Rule};

/// Verdict and mode of one device.
type Words = (Option<&'static str>, &'static str);

/// Tells whether a code is the refusal of a device that was to be locked.
fn is_refusal(code: StopCode) -> bool {
    let is_other = matches!(code, StopCode::AuditBoot | StopCode::SharedFailed);
    matches!(code.number(), 4000..=5999 | 7001..=7009) && !is_other
}

/// Tells whether the last change of the TDI brought it to RUN.
fn came_to_run(records: &[Record], rid: u16) -> bool {
    let last = records.iter().rev().find_map(|record| match record.event {
        Event::Tdi { rid: at, to, .. } if at == rid => Some(to),
        _ => None,
    });
    last == Some(TdiState::Run)
}

/// What decides about one device.
pub(crate) struct Judge<'a> {
    /// Up to the hand-off.
    records: &'a [Record],
    ending: Ending,
    console: &'a Console,
    /// Devices that may be locked.
    candidates: usize,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(
        scenario: &Scenario,
        records: &'a [Record],
        ending: Ending,
        console: &'a Console,
    ) -> Judge<'a> {
        let is_tdi = |spec: &&DeviceSpec| {
            matches!(spec.rule, Rule::Require | Rule::Optional) && spec.expect != "shared"
        };
        let candidates = scenario.device.iter().filter(is_tdi).count();
        Judge { records, ending, console, candidates }
    }

    /// Why the device was refused.
    pub(crate) fn reason(&self, bdf: &str) -> Option<&str> {
        let stop = self.console.stop.as_ref().map(|stop| stop.text.as_str());
        let named = stop.filter(|text| text.contains(bdf) || self.candidates == 1);
        let refusal = self.console.refusals.iter().find(|refusal| refusal.0 == bdf);
        // A realm without console says nothing.
        let code = match self.ending {
            Ending::Stopped(code) if is_refusal(code) => Some(code.text()),
            _ => None,
        };
        named.or(refusal.map(|refusal| refusal.1.as_str())).or(code)
    }

    /// The code of the refusal: that of the policy's decision, else that of the stop; none of a device that failed at
    /// another step while the boot went on.
    pub(crate) fn code(&self, bdf: &str) -> Option<String> {
        let decision = self.console.decisions.iter().find(|decision| decision.bdf == bdf);
        if let Some(code) = decision.and_then(|decision| decision.refused) {
            return Some(format!("GH-{code:04}"));
        }
        let stop = self.console.stop.as_ref().is_none_or(|stop| stop.text.contains(bdf));
        match self.ending {
            Ending::Stopped(code) if stop || self.candidates == 1 => Some(code.to_string()),
            _ => None,
        }
    }

    /// The rule that took the device, as the console says.
    pub(crate) fn rule(&self, bdf: &str) -> Option<String> {
        let decided = self.console.decisions.iter().find(|decision| decision.bdf == bdf);
        let decided = decided.map(|decision| decision.rule.as_str()).filter(|rule| *rule != "none");
        let chosen = self.console.rules.iter().find(|rule| rule.0 == bdf).map(|rule| rule.1.as_str());
        decided.or(chosen.filter(|rule| *rule != "none")).map(str::to_owned)
    }

    /// The console says that it was refused.
    fn is_line(&self, bdf: &str) -> bool {
        let decision = self.console.decisions.iter().find(|decision| decision.bdf == bdf);
        decision.is_some_and(|decision| decision.refused.is_some())
            || self.console.refusals.iter().any(|refusal| refusal.0 == bdf)
    }

    fn is_refused(&self, code: StopCode, bdf: &str) -> bool {
        let by_stop = self.console.stop.as_ref().is_some_and(|stop| stop.text.contains(bdf));
        self.is_line(bdf) || is_refusal(code) && (by_stop || self.candidates == 1)
    }

    /// Returns verdict and mode.
    pub(crate) fn judge(&self, spec: &DeviceSpec, state: &DeviceState) -> Words {
        match self.ending {
            Ending::HandedOff => self.handed_off(spec, state),
            // Nothing is judged: everything is recorded.
            Ending::Stopped(StopCode::AuditBoot) => (None, "none"),
            Ending::Stopped(code) => (self.stopped(code, spec, state), "none"),
        }
    }

    fn handed_off(&self, spec: &DeviceSpec, state: &DeviceState) -> Words {
        let verdict = if self.is_line(&state.bdf) { "refused" } else { "accepted" };
        match (spec.expect.as_str(), spec.rule) {
            ("run", _) => (Some("accepted"), "run"),
            ("pin", _) => (Some("accepted"), "pin"),
            ("shared", _) => (Some(verdict), "shared"),
            ("hide", Rule::None) | ("", Rule::None) => (Some("extra"), "hide"),
            ("hide", _) => (Some(verdict), "hide"),
            (_, Rule::Shared) => (Some("accepted"), "shared"),
            (_, Rule::Optional) if !came_to_run(self.records, routing_id(state)) => (Some("refused"), "hide"),
            _ => (Some("accepted"), "run"),
        }
    }

    fn stopped(&self, code: StopCode, spec: &DeviceSpec, state: &DeviceState) -> Option<&'static str> {
        let decision = self.console.decisions.iter().find(|decision| decision.bdf == state.bdf);
        let stop = self.console.stop.as_ref().is_some_and(|stop| stop.text.contains(&state.bdf));
        match spec.rule {
            Rule::None => Some("extra"),
            Rule::Shared if code == StopCode::SharedFailed && stop => Some("refused"),
            Rule::Shared => None,
            _ if self.is_refused(code, &state.bdf) => Some("refused"),
            _ if !state.validated.is_empty() => Some("accepted"),
            _ if decision.is_some_and(|decision| decision.refused.is_none()) => Some("accepted"),
            _ => None,
        }
    }
}

/// What the console says of a run that was handed off and the verdicts contradict: without a decision of the policy no
/// device is in mode `run` or `pin`, an accepted device has the mode that was decided, and a refused one was refused.
pub(crate) fn contradictions(devices: &[Device], console: &Console) -> Vec<String> {
    let mut wrong = Vec::new();
    for device in devices {
        let Device { bdf, verdict, mode, .. } = device;
        let decision = console.decisions.iter().find(|decision| decision.bdf == *bdf);
        let is_refused = console.refusals.iter().any(|refusal| refusal.0 == *bdf);
        match (verdict, decision) {
            (Some("accepted"), None) if matches!(*mode, "run" | "pin") => {
                wrong.push(format!("{bdf}: mode {mode} without a decision of the policy"));
            }
            (Some("accepted"), Some(decision)) if decision.mode.as_deref() != Some(mode) => {
                let said = decision.mode.as_deref().unwrap_or("none, it was refused");
                wrong.push(format!("{bdf}: mode {mode}, the policy's is {said}"));
            }
            (Some("accepted" | "extra"), _) if is_refused => {
                wrong.push(format!("{bdf}: refused by the firmware, but {mode}"));
            }
            (Some("extra"), Some(decision)) if decision.refused.is_none() => {
                wrong.push(format!("{bdf}: no rule takes it, but the policy accepted it"));
            }
            _ => {}
        }
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::device_at;

    fn console(lines: &[&str]) -> Console {
        let mut console = Console::default();
        for line in lines {
            console.line(line);
        }
        console
    }

    fn spec(text: &str) -> DeviceSpec {
        let scenario: Scenario = toml::from_str(&format!("[[device]]\nslot = \"02.0\"\n{text}")).unwrap();
        scenario.device[0].clone()
    }

    fn words(text: &str, ending: Ending, lines: &[&str]) -> Words {
        let scenario = Scenario { device: vec![spec(text)], ..Scenario::default() };
        let console = console(lines);
        Judge::new(&scenario, &[], ending, &console).judge(&scenario.device[0], &device_at("02.0", "00:02.0"))
    }

    #[test]
    fn the_mode_that_the_scenario_expects_is_the_one_that_is_judged() {
        let handed_off = |text: &str| words(text, Ending::HandedOff, &[]);
        for mode in ["run", "pin", "shared", "hide"] {
            assert_eq!(handed_off(&format!("expect = \"{mode}\"")), (Some("accepted"), mode));
        }
        assert_eq!(handed_off("rule = \"none\"\nexpect = \"hide\""), (Some("extra"), "hide"));
        assert_eq!(handed_off("rule = \"shared\""), (Some("accepted"), "shared"));
        let refused = ["ERROR tdi 00:02.0 vdev 0x10: -> refused at Decide: no"];
        for mode in ["shared", "hide"] {
            let text = format!("expect = \"{mode}\"");
            assert_eq!(words(&text, Ending::HandedOff, &refused), (Some("refused"), mode));
        }
    }

    #[test]
    fn an_audit_boot_judges_nothing() {
        let line = "INFO policy 00:02.0 at 02.0: rule a: refused, GH-4128: unsigned";
        for rule in ["require", "optional", "shared", "none"] {
            let text = format!("rule = \"{rule}\"");
            assert_eq!(words(&text, Ending::Stopped(StopCode::AuditBoot), &[line]), (None, "none"));
        }
    }

    #[test]
    fn a_stop_about_a_shared_function_refuses_no_other() {
        let ending = Ending::Stopped(StopCode::SharedFailed);
        let line = "ERROR stop GH-4156: cannot be shared: 00:02.0: BAR 0";
        assert_eq!(words("rule = \"shared\"", ending, &[line]), (Some("refused"), "none"));
        let line = "ERROR stop GH-4156: cannot be shared: 00:04.0: BAR 0";
        assert_eq!(words("", ending, &[line]), (None, "none"));
        assert_eq!(words("", Ending::Stopped(StopCode::NotReleased), &[]), (Some("refused"), "none"));
    }

    #[test]
    fn rule_and_code_come_from_the_decision() {
        let console = console(&[
            "INFO pci 00:02.0: rule slot-02.0 at 02.0",
            "ERROR policy 00:02.0 at 02.0: rule disks: refused, GH-4124: not signed",
            "INFO pci 00:04.0: rule legacy, hidden",
        ]);
        let scenario = Scenario::default();
        let judge = Judge::new(&scenario, &[], Ending::HandedOff, &console);
        assert_eq!(
            (judge.rule("00:02.0").as_deref(), judge.rule("00:04.0").as_deref()),
            (Some("disks"), Some("legacy"))
        );
        assert_eq!(judge.rule("00:05.0"), None);
        assert_eq!((judge.code("00:02.0").as_deref(), judge.code("00:04.0")), (Some("GH-4124"), None));
    }

    #[test]
    fn a_console_that_decided_otherwise_contradicts_the_verdict() {
        let device = |verdict, mode| Device::nothing("00:02.0".into(), verdict, mode);
        let decided = |text: &str| console(&[&format!("INFO policy 00:02.0 at 02.0: rule a: {text}")]);
        let wrong =
            |verdict, mode, console: &Console| contradictions(&[device(verdict, mode)], console).len();
        let run = decided("accepted, mode run");
        assert_eq!(wrong("accepted", "run", &run), 0);
        assert_eq!(wrong("refused", "hide", &run), 0);
        assert_eq!(wrong("accepted", "pin", &run), 1);
        assert_eq!(wrong("extra", "hide", &run), 1);
        for mode in ["run", "pin"] {
            assert_eq!(wrong("accepted", mode, &Console::default()), 1);
        }
        assert_eq!(wrong("accepted", "shared", &Console::default()), 0);
        let refused = decided("refused, GH-4124: no");
        assert_eq!(wrong("accepted", "run", &refused), 1);
        assert_eq!(wrong("refused", "hide", &refused), 0);
        let line = console(&["ERROR tdi 00:02.0 vdev 0x10: -> refused at Lock: no"]);
        assert_eq!(wrong("extra", "hide", &line), 1);
        assert_eq!(wrong("refused", "shared", &line), 0);
    }
}
