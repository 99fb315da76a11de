//! The order of the events, and what they say of each other: docs/event-log.md, "Order".
//!
//! An event that is extended into another REM than its neighbour can change places with it and the measurements stay the same:
//! only this finds it.
//!
//! Trust: anybody's bytes.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::error::{Flaw, LogError};
use super::event::{
    Data, DeviceSecurity, Disposition, Event, Function, Judgement, Mode, Outcome, State, Verdict,
};
use gatehouse::boot::slot::SlotPath;
use gatehouse::digest::Digest;
use std::collections::BTreeSet;

/// PCRs of the separators, in their order.
const SEPARATORS: [u32; 4] = [7, 6, 8, 16];

/// Checks the order.
pub fn check(events: &[Event]) -> Result<(), LogError> {
    let mut walk = Walk { events, at: 0 };
    let Event { data: Data::Realm(_), .. } = walk.next("realm")? else { return walk.misplaced("realm") };
    let policy = walk.take(|data| match data {
        Data::Policy(policy) => Some(policy),
        _ => None,
    });
    let functions = walk.functions()?;
    let accepted = walk.judged(&functions)?;
    walk.bundle(policy)?;
    accepted.iter().try_for_each(|(slot, verdict)| walk.outcome(slot, verdict))?;
    let Event { data: Data::Tree(_), .. } = walk.next("tree")? else { return walk.misplaced("tree") };
    for pcr in SEPARATORS {
        let what = format!("the separator of PCR {pcr}");
        let event = walk.next(&what)?;
        if event.data != Data::Separator || event.pcr != pcr {
            return walk.misplaced(&what);
        }
    }
    walk.take(Some).map_or(Ok(()), |_| walk.fail(Flaw::Behind))
}

struct Walk<'e> {
    events: &'e [Event],
    at: usize,
}

impl<'e> Walk<'e> {
    /// Takes the next event.
    fn next(&mut self, wanted: &str) -> Result<&'e Event, LogError> {
        let event = self.events.get(self.at);
        self.at = self.at.saturating_add(1);
        event.ok_or_else(|| LogError { event: self.at, name: "", flaw: Flaw::Missing(wanted.to_owned()) })
    }

    /// Takes the next event if it is what `read` wants.
    fn take<T>(&mut self, read: impl FnOnce(&'e Data) -> Option<T>) -> Option<T> {
        let value = read(&self.events.get(self.at)?.data)?;
        self.at = self.at.saturating_add(1);
        Some(value)
    }

    /// Makes an error of the event taken last.
    fn fail<T>(&self, flaw: Flaw) -> Result<T, LogError> {
        let event = self.at.checked_sub(1).and_then(|at| self.events.get(at));
        Err(LogError { event: self.at, name: event.map_or("", |event| event.data.name()), flaw })
    }

    fn misplaced<T>(&self, wanted: &str) -> Result<T, LogError> {
        self.fail(Flaw::Order(wanted.to_owned()))
    }

    /// Checks a fact of the event taken last.
    fn holds(&self, fact: bool, otherwise: &'static str) -> Result<(), LogError> {
        if fact { Ok(()) } else { self.fail(Flaw::Contradiction(otherwise)) }
    }

    /// Step 3.
    fn functions(&mut self) -> Result<Vec<&'e Function>, LogError> {
        let mut functions: Vec<&Function> = Vec::new();
        let mut slots = BTreeSet::new();
        let read = |data: &'e Data| match data {
            Data::Function(function) => Some(function),
            _ => None,
        };
        while let Some(function) = self.take(read) {
            self.holds(slots.insert(&function.slot), "the slot is there already")?;
            let follows_pci = functions.last().is_none_or(|last| is_pci(&last.slot));
            if is_pci(&function.slot) {
                self.holds(follows_pci, "a PCI function behind devices besides PCI")?;
            } else {
                let bare = |ids: &super::Ids| {
                    (ids.vendor, ids.subsystem_vendor, ids.subsystem, ids.class, ids.revision)
                };
                let fine =
                    bare(&function.ids) == (0, 0, 0, 0, 0) && function.disposition != Disposition::Bridge;
                self.holds(fine, "ids or disposition that a device besides PCI cannot have")?;
            }
            let has_rule = function.rule.is_some() || function.disposition == Disposition::Extra;
            self.holds(has_rule, "a disposition without a rule")?;
            functions.push(function);
        }
        Ok(functions)
    }

    /// Step 4. Returns slot and verdict of each entry whose outcome is to come.
    fn judged(&mut self, functions: &[&'e Function]) -> Result<Vec<(&'e str, &'e Verdict)>, LogError> {
        let mut accepted = Vec::new();
        let mut position: u64 = 0;
        for function in functions.iter().filter(|function| function.disposition != Disposition::Bridge) {
            let pci = is_pci(&function.slot);
            position = position.saturating_add(1);
            let had_session = if pci { self.evidence(function, position)? } else { false };
            let what = format!("the verdict of {}", function.slot);
            let Event { data: Data::Verdict(verdict), .. } = self.next(&what)? else {
                return self.misplaced(&what);
            };
            if verdict.slot.as_ref() != Some(&function.slot) {
                return self.misplaced(&what);
            }
            self.verdict(verdict, function, had_session)?;
            if matches!(verdict.mode, Mode::Run | Mode::Pin | Mode::Shared) {
                accepted.push((function.slot.as_str(), verdict));
            }
        }
        let missing = |data: &'e Data| match data {
            Data::Verdict(verdict) if verdict.slot.is_none() => Some(verdict),
            _ => None,
        };
        while let Some(verdict) = self.take(missing) {
            let fine = verdict.judgement == Judgement::Missing && verdict.mode == Mode::None;
            self.holds(fine && verdict.rule.is_some(), "a verdict without a slot that is not of a rule")?;
        }
        Ok(accepted)
    }

    /// The events of a function in front of its verdict; tells whether there is a session.
    fn evidence(&mut self, function: &Function, position: u64) -> Result<bool, LogError> {
        let firmware = self.take(|data| match data {
            Data::Firmware(device) => Some(device),
            _ => None,
        });
        self.about(firmware, function, position)?;
        let configuration = self.take(|data| match data {
            Data::Configuration(device) => Some(device),
            _ => None,
        });
        self.about(configuration, function, position)?;
        let both = firmware.zip(configuration);
        let alike = |(a, b): (&DeviceSecurity, &DeviceSecurity)| {
            (a.authenticated, a.spdm_version, a.measurement_hash)
                == (b.authenticated, b.spdm_version, b.measurement_hash)
        };
        self.holds(
            both.is_none_or(alike),
            "firmware and configuration of one function differ in their head",
        )?;
        let authority = self.take(|data| matches!(data, Data::Authority(_)).then_some(()));
        let signed = firmware.or(configuration).is_some_and(|device| device.authenticated);
        let session = self.take(|data| match data {
            Data::Session(session) => Some(session),
            _ => None,
        });
        match session {
            Some(session) if session.slot != function.slot => {
                self.misplaced(&format!("the session or the verdict of {}", function.slot))?;
            }
            Some(_) => self.holds(!signed || authority.is_some(), "signed evidence without an authority")?,
            None if firmware.or(configuration).is_some() || authority.is_some() => {
                self.next(&format!("the session of {}", function.slot))?;
                self.misplaced(&format!("the session of {}", function.slot))?;
            }
            None => {}
        }
        Ok(session.is_some())
    }

    fn about(
        &self,
        device: Option<&DeviceSecurity>,
        function: &Function,
        position: u64,
    ) -> Result<(), LogError> {
        let Some(device) = device else { return Ok(()) };
        if device.slot != function.slot {
            return self.misplaced(&format!("the verdict of {}", function.slot));
        }
        self.holds(device.uid == position, "SubHeaderUID is not the position of the function")?;
        self.holds(device.ids == function.ids, "the PCI context has other ids than the function")
    }

    fn verdict(&self, verdict: &Verdict, function: &Function, session: bool) -> Result<(), LogError> {
        let Verdict { judgement, mode, code, .. } = verdict;
        let extra = function.disposition == Disposition::Extra;
        self.holds(
            extra == (*judgement == Judgement::Extra),
            "verdict and disposition contradict each other",
        )?;
        let fits = match judgement {
            Judgement::Accepted => *mode != Mode::None && verdict.rule.is_some(),
            Judgement::Refused => matches!(mode, Mode::Hide | Mode::Shared) && *code != 0,
            Judgement::Extra => matches!(mode, Mode::Hide | Mode::None),
            Judgement::Missing => false,
        };
        self.holds(fits, "verdict, mode, rule and code contradict each other")?;
        let needs = *judgement == Judgement::Accepted && matches!(mode, Mode::Run | Mode::Pin);
        self.holds(session || !needs, "accepted without a session")
    }

    /// Step 5.
    fn bundle(&mut self, policy: Option<&'e Vec<u8>>) -> Result<(), LogError> {
        let Event { data: Data::Bundle(bundle), .. } = self.next("bundle")? else {
            return self.misplaced("bundle");
        };
        let is_of = |part: &super::Part, bytes: &[u8]| {
            Digest::from_bytes(&part.digest).is_some_and(|digest| digest.matches(bytes))
        };
        let part = bundle.part("policy");
        let same = match (part, policy) {
            (Some(part), Some(policy)) => is_of(part, policy),
            (None, None) => true,
            _ => false,
        };
        self.holds(same, "the bundle's policy is not the one that was logged")?;
        let line = bundle.cmdline.as_deref();
        let same = match bundle.part("cmdline") {
            Some(part) => line.is_some_and(|line| is_of(part, line) || is_of(part, &[line, &[0]].concat())),
            None => line.is_none(),
        };
        self.holds(same, "the command line is not that of the bundle's part")
    }

    /// One event of step 6.
    fn outcome(&mut self, slot: &str, decided: &Verdict) -> Result<(), LogError> {
        let what = format!("the outcome of {slot}");
        let Event { data: Data::Outcome(outcome), .. } = self.next(&what)? else {
            return self.misplaced(&what);
        };
        if outcome.slot != slot {
            return self.misplaced(&what);
        }
        let Outcome { judgement, mode, state, code, .. } = outcome;
        let fits = match judgement {
            Judgement::Accepted => decided.judgement == Judgement::Accepted && *mode == decided.mode,
            Judgement::Refused => matches!(mode, Mode::Hide | Mode::Shared) && *code != 0,
            _ => false,
        };
        self.holds(
            fits && (*state == State::Run) == (*mode == Mode::Run),
            "verdict, mode, state and code contradict each other",
        )
    }
}

/// Tells whether a slot is one of a PCI function.
pub fn is_pci(slot: &str) -> bool {
    slot.parse::<SlotPath>().is_ok()
}
