//! The refusals in the console log of a boot, explained.
use super::explain;
use gatehouse::policy::types::Policy;
use std::collections::BTreeSet;

/// A line in which the firmware refuses a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused<'t> {
    /// Bus, device, function.
    pub bdf: &'t str,
    /// Slot path.
    pub slot: &'t str,
    /// Name of the rule; `none`: no rule takes it.
    pub rule: &'t str,
    /// Code, as `GH-4141`.
    pub code: &'t str,
    /// What was found, and what was wanted.
    pub found: &'t str,
}

/// Reads a line `policy BDF at SLOT: rule NAME: refused, CODE: WHAT`, whatever stands in front of it.
#[must_use]
pub fn line(line: &str) -> Option<Refused<'_>> {
    let (_, rest) = line.split_once("policy ")?;
    let (bdf, rest) = rest.split_once(" at ")?;
    let (slot, rest) = rest.split_once(": rule ")?;
    let (rule, rest) = rest.split_once(": refused, ")?;
    let (code, found) = rest.split_once(": ")?;
    Some(Refused { bdf, slot, rule, code, found: found.trim_end() })
}

/// Returns code and reason of a line `stop CODE: WHAT`, or `tdi WHICH: rule NAME, the boot goes on: CODE`.
fn outcome(line: &str) -> Option<(String, String)> {
    let (head, rest) = match line.split_once("stop GH-") {
        Some((_, rest)) => ("The boot stops", rest),
        None => line.split_once("tdi ")?.1.split_once(", the boot goes on: GH-")?,
    };
    let (number, found) = rest.split_at_checked(4)?;
    let head =
        if head.contains(": rule ") { format!("Without {head} the boot goes on") } else { head.into() };
    let found = found.trim_start_matches(':').trim();
    let what = if found.is_empty() { head } else { format!("{head}: {found}") };
    number.bytes().all(|digit| digit.is_ascii_digit()).then(|| (format!("GH-{number}"), what))
}

/// Explains each refusal of a log once, and the stop; rules in sentences where the policy is known. `None`: there is none.
#[must_use]
pub fn log(log: &str, policy: Option<&Policy>) -> Option<String> {
    let mut text = String::new();
    let mut known = BTreeSet::new();
    for refused in log.lines().filter_map(line) {
        let Refused { bdf, slot, rule, code, found } = refused;
        if !known.insert((slot, code, found)) {
            continue;
        }
        text += &format!("The function at {slot} ({bdf}), rule {rule:?}: {found}.\n");
        text += &explain::code(code).unwrap_or_else(|| format!("{code}: no such code in this version.\n"));
        let rule = policy.and_then(|policy| policy.rules.iter().find(|other| other.name == rule));
        text += &rule.map(explain::rule).unwrap_or_default();
        text.push('\n');
    }
    let mut told: BTreeSet<String> = known.into_iter().map(|(_, code, _)| code.to_owned()).collect();
    for (code, what) in log.lines().filter_map(outcome) {
        text += &match explain::code(&code).filter(|_| told.insert(code.clone())) {
            Some(explained) => format!("{what}.\n{explained}\n"),
            None => format!("{what}.\n{code}, see above.\n\n"),
        };
    }
    text.pop();
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::toml::parse;
    use std::path::Path;

    const LINE: &str = "[ 1.25] ERROR policy 00:02.0 at 02.0: rule disk: refused, GH-4141: measurement 2 is abc: not a reference\r";

    #[test]
    fn a_line_of_a_refusal_is_read_whatever_stands_around_it() {
        let refused = line(LINE).unwrap();
        let want = ("00:02.0", "02.0", "disk", "GH-4141", "measurement 2 is abc: not a reference");
        assert_eq!((refused.bdf, refused.slot, refused.rule, refused.code, refused.found), want);
        for other in
            ["policy 00:02.0 at 02.0: rule disk: accepted, mode run", "", "policy", "refused, GH-4141: x"]
        {
            assert_eq!(line(other), None, "{other}");
        }
    }

    #[test]
    fn each_refusal_is_explained_once_with_its_rule() {
        let policy = "version = 1\n[[rule]]\nname = \"disk\"\nslot = \"02.0\"\nevidence = \"platform\"\n";
        let policy = parse(policy, Path::new("")).unwrap();
        let other = LINE.replace("rule disk", "rule none").replace("02.0", "03.0").replace("4141", "4150");
        let console = format!("boot\n{LINE}\n{LINE}\n{other}\nstop GH-4141: refused\n");
        let text = log(&console, Some(&policy)).unwrap();
        assert_eq!(text.matches("GH-4141: a measurement is none of").count(), 1, "{text}");
        assert_eq!(text.matches("Rule \"disk\":\n").count(), 1, "{text}");
        assert!(text.contains("The function at 03.0 (00:03.0), rule \"none\": "), "{text}");
        assert!(
            text.contains("GH-4150: ") && text.ends_with("The boot stops: refused.\nGH-4141, see above.\n"),
            "{text}"
        );
        assert!(!log(&console, None).unwrap().contains("Rule \"disk\":"));
    }

    #[test]
    fn a_stop_without_a_refusal_is_explained_as_well() {
        let text = log("gatehouse: stop GH-3002: rule disk wants 1 functions, 0 fit\n", None).unwrap();
        assert!(text.starts_with("The boot stops: rule disk wants 1 functions, 0 fit.\nGH-3002: "), "{text}");
        let goes_on = "warn: tdi 00:05.0 vdev 28: rule slot-05.0, the boot goes on: GH-4034\r\n";
        let text = log(goes_on, None).unwrap();
        assert!(
            text.starts_with("Without 00:05.0 vdev 28: rule slot-05.0 the boot goes on.\nGH-4034: "),
            "{text}"
        );
        assert_eq!(log("all is well\nnon-stop GH-x\n", None), None);
    }
}
