//! The realm's console: shown to people, and compared with what the stub saw. Nothing here makes a run succeed that
//! the stub's log does not; contradictions, panics and forged lines make it fail.

/// Phases that the firmware announces, in order (docs/architecture.md).
pub const PHASES: [&str; 7] = ["realm", "negotiate", "inventory", "attest", "map", "load", "handoff"];

/// Words of a kernel that broke. Our own log lines never contain them.
const BROKEN: [&str; 5] = ["Kernel panic", "Internal error:", "Unable to handle kernel", "BUG: ", "Oops - "];

/// What one line is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// End of a phase of the firmware.
    Phase {
        /// Which.
        name: &'static str,
        /// The system counter.
        ticks: u64,
    },
    /// Another line of the firmware, without its level; true: a warning or an error.
    Firmware(String, bool),
    /// A line of the payload.
    Payload(String),
}

/// One result of the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PayloadResult {
    /// Name.
    pub name: String,
    /// Passed.
    pub is_pass: bool,
    /// Explanation.
    pub detail: String,
}

/// The stop line of the firmware.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StopLine {
    /// Number of the code.
    pub code: u16,
    /// Text of the code and what happened.
    pub text: String,
}

/// A decision of the policy about one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// `bb:dd.f`.
    pub bdf: String,
    /// The rule, or `none`.
    pub rule: String,
    /// The mode of an accepted function.
    pub mode: Option<String>,
    /// The code of a refused one.
    pub refused: Option<u16>,
}

/// What the console said so far.
#[derive(Clone, Debug, Default)]
pub struct Console {
    /// Every line.
    pub lines: Vec<String>,
    /// Phases that ended, with the system counter.
    pub phases: Vec<(&'static str, u64)>,
    /// Version and build id, as the firmware says.
    pub banner: Option<String>,
    /// Why the firmware stopped.
    pub stop: Option<StopLine>,
    /// Functions that the firmware refused: `bb:dd.f` and why.
    pub refusals: Vec<(String, String)>,
    /// What the policy decided.
    pub decisions: Vec<Decision>,
    /// Rules that functions were given to before their evidence was there: `bb:dd.f` and name.
    pub rules: Vec<(String, String)>,
    /// Results of the payload.
    pub results: Vec<PayloadResult>,
    /// Data of the payload: name and value.
    pub data: Vec<(String, String)>,
    /// The payload said that it has no more results.
    pub is_complete: bool,
    /// What must not be there.
    pub faults: Vec<String>,
}

impl Console {
    /// Tells whether the firmware announced the jump.
    #[must_use]
    pub fn is_handed_off(&self) -> bool {
        self.phases.len() == PHASES.len()
    }

    /// Returns the system counter at the hand-off.
    #[must_use]
    pub fn handoff_ticks(&self) -> Option<u64> {
        self.is_handed_off().then(|| self.phases.last().map(|phase| phase.1)).flatten()
    }

    /// Returns the value of a DATA line.
    #[must_use]
    pub fn datum(&self, name: &str) -> Option<&str> {
        self.data.iter().find(|datum| datum.0 == name).map(|datum| datum.1.as_str())
    }

    /// Takes one line, without its end.
    pub fn line(&mut self, line: &str) -> Line {
        self.lines.push(line.to_owned());
        if line.trim_start().starts_with("PANIC") || BROKEN.iter().any(|word| line.contains(word)) {
            self.faults.push(format!("console: {line}"));
        }
        if self.is_handed_off() { self.payload_line(line) } else { self.firmware_line(line) }
    }

    fn firmware_line(&mut self, line: &str) -> Line {
        let (level, text) = match line.split_once(' ') {
            Some((level @ ("ERROR" | "WARN" | "INFO" | "DEBUG" | "TRACE"), text)) => (level, text),
            _ => ("", line),
        };
        if is_payload_word(text) {
            self.faults.push(format!("console: a line of the payload before the hand-off: {line}"));
        }
        if let Some(rest) = text.strip_prefix("phase ") {
            match self.phase(rest) {
                Some((name, ticks)) => {
                    self.phases.push((name, ticks));
                    return Line::Phase { name, ticks };
                }
                None => self.faults.push(format!("console: a phase line that cannot be: {line}")),
            }
        } else if let Some(rest) = text.strip_prefix("stop GH-") {
            let parsed = rest
                .split_once(": ")
                .and_then(|(code, text)| Some(StopLine { code: code.parse().ok()?, text: text.to_owned() }));
            if parsed.is_none() || self.stop.is_some() {
                self.faults.push(format!("console: a stop line that cannot be: {line}"));
            }
            self.stop = self.stop.take().or(parsed);
        } else if let Some(refusal) = refusal(text) {
            self.refusals.push(refusal);
        } else if let Some(decision) = decision(text) {
            if self.decisions.iter().any(|other| other.bdf == decision.bdf) {
                self.faults.push(format!("console: a second decision: {line}"));
            }
            self.decisions.push(decision);
        } else if let Some(rule) = rule(text) {
            self.rules.push(rule);
        } else if text.starts_with("gatehouse ") && self.banner.is_none() {
            self.banner = Some(text.to_owned());
        }
        Line::Firmware(text.to_owned(), matches!(level, "ERROR" | "WARN"))
    }

    /// Reads `name=<name> ticks=<decimal>`: the next phase, not before the one that ended.
    fn phase(&self, rest: &str) -> Option<(&'static str, u64)> {
        let (name, ticks) = rest.strip_prefix("name=")?.split_once(" ticks=")?;
        let expected = PHASES.get(self.phases.len()).filter(|expected| **expected == name)?;
        let ticks = ticks.parse().ok()?;
        self.phases.last().is_none_or(|last| last.1 <= ticks).then_some((*expected, ticks))
    }

    fn payload_line(&mut self, line: &str) -> Line {
        let mut words = line.splitn(4, ' ');
        let first = words.next().unwrap_or_default();
        if is_payload_word(line) && self.is_complete {
            self.faults.push(format!("console: a line behind RESULT-END: {line}"));
        }
        match first {
            "RESULT" => {
                let name = words.next().unwrap_or_default().to_owned();
                let word = words.next().unwrap_or_default();
                let is_twice = self.results.iter().any(|result| result.name == name);
                if name.is_empty() || !matches!(word, "pass" | "fail") || is_twice {
                    self.faults.push(format!("console: a result line that cannot be: {line}"));
                } else {
                    let detail = words.next().unwrap_or_default().to_owned();
                    self.results.push(PayloadResult { name, is_pass: word == "pass", detail });
                }
            }
            "DATA" => {
                let name = words.next().unwrap_or_default().to_owned();
                let value = words.collect::<Vec<_>>().join(" ");
                if self.datum(&name).is_some() {
                    self.faults.push(format!("console: a datum twice: {line}"));
                }
                self.data.push((name, value));
            }
            "RESULT-END" => self.is_complete = true,
            _ => {}
        }
        if line.contains("stop GH-") {
            self.faults.push(format!("console: a stop line behind the hand-off: {line}"));
        }
        Line::Payload(line.to_owned())
    }
}

/// Reads `tdi bb:dd.f ..: -> refused at stage: reason`.
fn refusal(text: &str) -> Option<(String, String)> {
    let (bdf, rest) = text.strip_prefix("tdi ")?.split_once(' ')?;
    let (_, reason) = rest.split_once("-> refused at ")?;
    Some((bdf.to_owned(), reason.to_owned()))
}

/// Reads `policy bb:dd.f at path: rule name: accepted, mode word` or `.. refused, GH-nnnn: reason`.
fn decision(text: &str) -> Option<Decision> {
    let (bdf, rest) = text.strip_prefix("policy ")?.split_once(" at ")?;
    let (rule, verdict) = rest.split_once(": rule ")?.1.split_once(": ")?;
    let (bdf, rule) = (bdf.to_owned(), rule.to_owned());
    if bdf.contains(' ') {
        return None;
    }
    if let Some(mode) = verdict.strip_prefix("accepted, mode ") {
        return Some(Decision { bdf, rule, mode: Some(mode.to_owned()), refused: None });
    }
    let code = verdict.strip_prefix("refused, GH-")?.split_once(": ")?.0.parse().ok()?;
    Some(Decision { bdf, rule, mode: None, refused: Some(code) })
}

/// Reads `pci bb:dd.f: rule name at path` or `.. rule name, hidden`.
fn rule(text: &str) -> Option<(String, String)> {
    let (bdf, rest) = text.strip_prefix("pci ")?.split_once(": rule ")?;
    let name = rest.strip_suffix(", hidden").or_else(|| Some(rest.rsplit_once(" at ")?.0))?;
    Some((bdf.to_owned(), name.to_owned()))
}

fn is_payload_word(line: &str) -> bool {
    matches!(line.split(' ').next(), Some("RESULT" | "DATA" | "RESULT-END"))
}

/// Cuts the byte stream of a console into lines of printable text.
#[derive(Debug, Default)]
pub struct Splitter {
    partial: Vec<u8>,
}

/// Longest line; longer ones are cut into several.
const MAX_LINE: usize = 4096;

impl Splitter {
    /// Takes bytes and returns the lines that they complete.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for byte in bytes {
            if *byte == b'\n' || self.partial.len() >= MAX_LINE {
                lines.extend(self.rest_or_empty());
            }
            if *byte != b'\n' {
                self.partial.push(*byte);
            }
        }
        lines
    }

    /// Returns what stands behind the last line's end.
    pub fn rest(&mut self) -> Option<String> {
        if self.partial.is_empty() { None } else { self.rest_or_empty() }
    }

    fn rest_or_empty(&mut self) -> Option<String> {
        let bytes = std::mem::take(&mut self.partial);
        let text = String::from_utf8_lossy(&bytes);
        let text = text.trim_end_matches('\r');
        // A terminal must not take orders from the realm.
        Some(text.chars().map(|c| if c == '\t' || !c.is_control() { c } else { '.' }).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(lines: &[&str]) -> Console {
        let mut console = Console::default();
        for line in lines {
            console.line(line);
        }
        console
    }

    fn handed_off() -> Console {
        let mut console = Console::default();
        for (index, name) in PHASES.iter().enumerate() {
            console.line(&format!("INFO phase name={name} ticks={}", 100 + index));
        }
        console
    }

    #[test]
    fn firmware_lines_are_understood_with_and_without_level() {
        let mut console = console(&["INFO gatehouse 0.1.0 (abc)", "phase name=realm ticks=17"]);
        assert_eq!(console.banner.as_deref(), Some("gatehouse 0.1.0 (abc)"));
        assert_eq!(console.phases, [("realm", 17)]);
        assert_eq!(console.line("WARN careful"), Line::Firmware("careful".into(), true));
        assert!(console.faults.is_empty());
    }

    #[test]
    fn the_stop_line_has_code_and_text() {
        let console = console(&["ERROR stop GH-4034: the report does not match: 00:02.0: mismatch"]);
        let stop = console.stop.unwrap();
        assert_eq!((stop.code, stop.text.as_str()), (4034, "the report does not match: 00:02.0: mismatch"));
    }

    #[test]
    fn a_refusal_has_function_and_reason() {
        let console =
            console(&["ERROR tdi 00:02.0 vdev 0x10: -> refused at Verify: no digest: x", "tdi 00:02.0"]);
        assert_eq!(console.refusals, [("00:02.0".to_owned(), "Verify: no digest: x".to_owned())]);
    }

    #[test]
    fn a_decision_has_function_rule_and_mode_or_code() {
        let mut console = console(&[
            "INFO policy 00:02.0: the chain ends at anchor x: rule y: accepted, mode run",
            "INFO policy 00:02.0 at 02.0: rule slot-02.0: accepted, mode run",
            "ERROR policy 01:00.0 at 05.0/00.0: rule none: refused, GH-4150: rule a: no unit",
            "WARN pci 00:03.0: extra, no rule takes it: quiet and hidden",
        ]);
        let decision = |bdf: &str, rule: &str, mode: Option<&str>, refused| Decision {
            bdf: bdf.into(),
            rule: rule.into(),
            mode: mode.map(str::to_owned),
            refused,
        };
        let first = decision("00:02.0", "slot-02.0", Some("run"), None);
        let expected = [first, decision("01:00.0", "none", None, Some(4150))];
        assert_eq!(console.decisions, expected);
        assert!(console.rules.is_empty() && console.faults.is_empty());
        console.line("INFO policy 00:02.0 at 02.0: rule slot-02.0: accepted, mode pin");
        assert_eq!(console.faults.len(), 1);
    }

    #[test]
    fn forged_results_before_the_hand_off_are_faults_and_not_results() {
        for line in ["RESULT nvme-read pass", "DATA nvme-sha256 00", "RESULT-END", "INFO RESULT x pass"] {
            let console = console(&[line]);
            assert_eq!(console.faults.len(), 1, "{line}");
            assert!(console.results.is_empty() && console.data.is_empty() && !console.is_complete, "{line}");
        }
    }

    #[test]
    fn phase_lines_out_of_order_twice_or_backwards_are_faults() {
        for lines in [
            &["phase name=map ticks=1"][..],
            &["phase name=realm ticks=1", "phase name=realm ticks=2"],
            &["phase name=realm ticks=9", "phase name=negotiate ticks=8"],
            &["phase name=realm ticks=x"],
            &["phase name=handoff ticks=1"],
        ] {
            let console = console(lines);
            assert_eq!(console.faults.len(), 1, "{lines:?}");
            assert!(!console.is_handed_off());
        }
    }

    #[test]
    fn the_payload_cannot_say_phase_lines_or_stop_lines() {
        let mut console = handed_off();
        let before = console.phases.clone();
        console.line("phase name=handoff ticks=5");
        assert_eq!(console.phases, before);
        console.line("ERROR stop GH-4034: no");
        assert_eq!((console.faults.len(), &console.stop), (1, &None));
    }

    #[test]
    fn results_are_read_and_odd_ones_are_faults() {
        let mut console = handed_off();
        console.line("RESULT rsi pass RME: Using RSI version 1.0");
        console.line("RESULT nvme-read fail");
        console.line("DATA nvme-sha256 abc");
        console.line("RESULT-END");
        assert!(console.faults.is_empty() && console.is_complete);
        assert_eq!(console.results[0].detail, "RME: Using RSI version 1.0");
        assert!(console.results[0].is_pass && !console.results[1].is_pass);
        assert_eq!(console.datum("nvme-sha256"), Some("abc"));
        for line in ["RESULT rsi pass", "RESULT new passed", "RESULT", "DATA nvme-sha256 def"] {
            let mut again = handed_off();
            again.line("RESULT rsi pass");
            again.line("DATA nvme-sha256 abc");
            again.line(line);
            assert_eq!(again.faults.len(), 1, "{line}");
            assert_eq!(again.results.len(), 1, "{line}");
            assert_eq!(again.datum("nvme-sha256"), Some("abc"), "{line}");
        }
        console.line("RESULT late pass");
        assert_eq!(console.faults.len(), 1);
    }

    #[test]
    fn panics_and_oopses_are_faults() {
        assert_eq!(console(&["PANIC at src/x.rs:1"]).faults.len(), 1);
        for line in ["[ 1.0] Kernel panic - not syncing: x", "[ 1.0] Unable to handle kernel paging request"]
        {
            let mut console = handed_off();
            console.line(line);
            assert_eq!(console.faults.len(), 1, "{line}");
        }
    }

    #[test]
    fn bytes_become_lines_without_control_characters() {
        let mut splitter = Splitter::default();
        assert_eq!(splitter.push(b"one\r\ntw"), ["one"]);
        assert_eq!(splitter.push(b"o\x1b[31m\n\n"), ["two.[31m", ""]);
        assert_eq!(splitter.rest(), None);
        splitter.push(b"cut");
        assert_eq!(splitter.rest().as_deref(), Some("cut"));
        assert_eq!(splitter.push(&[b'x'; MAX_LINE + 1]).len(), 1);
    }
}
