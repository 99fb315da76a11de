//! The events of all decisions, and what they come to: the same function in firmware and host tool.

use super::Event;
use super::device::{device_events, session};
use super::events::{Disposition, Listed, Verdict, verdict};
use super::evidence::Collected;
use crate::boot::slot::SlotPath;
use crate::codes::StopCode;
use crate::conduit::OutOfMemory;
use crate::policy::decide::Decision;
use crate::policy::types::{Match, Mode, OnFailure, Policy};
use alloc::string::String;
use alloc::vec::Vec;

/// What is known of a function that was to be attested.
#[derive(Clone, Debug)]
pub enum Judged<'a> {
    /// There is evidence, and a decision about it.
    Decided {
        /// Where it is.
        path: SlotPath,
        /// The evidence.
        collected: Collected<'a>,
        /// The decision.
        decision: &'a Decision,
        /// What becomes of it when it is refused.
        on_failure: OnFailure,
    },
    /// It failed before.
    Failed {
        /// Name of the rule.
        rule: String,
        /// Why.
        code: StopCode,
        /// What is left for it.
        mode: Option<Mode>,
    },
}

/// What was decided about one entry of the inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// Index of the entry.
    pub entry: usize,
    /// What was decided.
    pub verdict: Verdict,
    /// Name of the rule.
    pub rule: Option<String>,
}

/// Makes the events of step 4 of docs/event-log.md. `judged` has, for each entry of the inventory, what is known of it if
/// it was to be attested. `record` takes each event before the next is made.
///
/// # Errors
/// [`OutOfMemory`], and what `record` says.
pub fn verdicts<'a, E: From<OutOfMemory>>(
    policy: &Policy,
    entries: impl Iterator<Item = &'a Listed>,
    judged: &[Option<Judged<'_>>],
    mut record: impl FnMut(&Event) -> Result<(), E>,
) -> Result<Vec<Decided>, E> {
    let mut all: Vec<Decided> = Vec::new();
    for (entry, (listed, judged)) in entries.zip(judged).enumerate() {
        let mut rule = listed.rule.clone();
        let verdict = match (listed.disposition, judged) {
            (Disposition::Bridge, _) => continue,
            (Disposition::Shared, _) => Verdict::Accepted(Mode::Shared),
            (Disposition::Hide, _) => Verdict::Accepted(Mode::Hide),
            (Disposition::Extra, _) => Verdict::Extra,
            (Disposition::Attest, Some(Judged::Decided { path, collected, decision, on_failure })) => {
                let position = crate::cbor::length(all.len()).saturating_add(1);
                device_events(position, path, collected, policy, decision, &mut record)?;
                record(&session(&listed.slot, collected))?;
                rule = decision.rule.and_then(|index| policy.rules.get(index)).map(|rule| rule.name.clone());
                match &decision.verdict {
                    _ if policy.audit => Verdict::Ignored,
                    Ok(accepted) => Verdict::Accepted(accepted.mode),
                    Err(refusal) => Verdict::Refused(refusal.code(), on_failure.mode()),
                }
            }
            (Disposition::Attest, Some(Judged::Failed { rule: name, code, mode })) if !policy.audit => {
                rule = Some(name.clone());
                Verdict::Refused(*code, *mode)
            }
            (Disposition::Attest, _) => Verdict::Ignored,
        };
        record(&self::verdict(Some(&listed.slot), rule.as_deref(), &verdict))?;
        all.push(Decided { entry, verdict, rule });
    }
    for rule in &policy.rules {
        let is_it = |decided: &&Decided| decided.rule.as_ref() == Some(&rule.name);
        let is_filled = |decided: &Decided| !rule.required || matches!(decided.verdict, Verdict::Accepted(_));
        let count = all.iter().filter(is_it).filter(|decided| is_filled(decided)).count();
        let wanted = if rule.required { rule.count } else { 1 };
        let is_short = u32::try_from(count).is_ok_and(|count| count < wanted);
        if is_short && !matches!(rule.matches, Match::Bridge(_)) && !policy.audit {
            record(&self::verdict(None, Some(&rule.name), &Verdict::Missing))?;
        }
    }
    Ok(all)
}
