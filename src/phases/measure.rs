//! Measuring is a service of all phases: a decision is extended and logged before it is acted on, an outcome after
//! (docs/event-log.md has the order).

use super::Stop;
use super::inventory::Shared;
use super::stop::OrStop;
use crate::abi::eventlog::SEPARATED;
use crate::addr::Bdf;
use crate::boot::plan::Pages;
use crate::codes::StopCode;
use crate::conduit::OutOfMemory;
use crate::digest::Digest;
use crate::eventlog::{self, Decided, Event, EventLog, EvidenceRegion, Judged, Listed, Outcome, Verdict};
use crate::fdt::write::Region;
use crate::memory::Headroom;
use crate::platform::Platform;
use crate::policy::types::{Mode, OnFailure, Policy, Rule};
use crate::rsi::{self, HashAlgorithm};
use crate::tdi::Fallen;
use alloc::string::String;
use alloc::vec::Vec;

/// A function or device of the inventory, and what became of it so far.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) listed: Listed,
    /// Where it is; `None`: not on PCI.
    pub(super) bdf: Option<Bdf>,
    /// What was decided, and what happened since.
    verdict: Option<Verdict>,
    /// The verdict was to hand it off.
    has_outcome: bool,
}

/// What was measured, and what will be.
#[derive(Debug)]
pub(super) struct Measured {
    log: EventLog,
    evidence: EvidenceRegion,
    /// In inventory order: bridges, functions, devices besides PCI.
    pub(super) entries: Vec<Entry>,
}

impl Measured {
    /// `hash`: of the realm.
    pub(super) fn new(hash: HashAlgorithm) -> Self {
        Self { log: EventLog::new(hash), evidence: EvidenceRegion::default(), entries: Vec::new() }
    }

    /// Extends the REM of the event, then adds the event to the log.
    #[inline(never)]
    pub(super) fn record<P: Platform>(
        &mut self,
        platform: &mut P,
        session: &rsi::Session,
        event: &Event,
    ) -> Result<(), Stop> {
        record(&mut self.log, platform, session, event)
    }

    /// The inventory: before the first lock.
    #[inline(never)]
    pub(super) fn inventory<P: Platform>(
        &mut self,
        platform: &mut P,
        session: &rsi::Session,
    ) -> Result<(), Stop> {
        let Self { log, entries, .. } = self;
        entries
            .iter()
            .try_for_each(|entry| record(log, platform, session, &eventlog::function(&entry.listed)))
    }

    /// The decisions, about all functions at once: before anything is unlocked or mapped. `judged`: one for each entry.
    #[inline(never)]
    pub(super) fn verdicts<P: Platform>(
        &mut self,
        platform: &mut P,
        session: &rsi::Session,
        policy: &Policy,
        judged: &[Option<Judged<'_>>],
    ) -> Result<(), Stop> {
        let Self { log, evidence, entries } = self;
        for (entry, judged) in entries.iter().zip(judged) {
            if let Some(Judged::Decided { collected, .. }) = judged
                && !evidence.add(&entry.listed.slot, collected)?
            {
                crate::say::warn!("evidence of {}: no room in its region", entry.listed.slot);
            }
        }
        let listed = entries.iter().map(|entry| &entry.listed);
        let decided =
            eventlog::verdicts(policy, listed, judged, |event| record(log, platform, session, event))?;
        for Decided { entry, verdict, .. } in decided {
            if let Some(entry) = entries.get_mut(entry) {
                entry.has_outcome = matches!(verdict.mode(), Some(Mode::Run | Mode::Pin | Mode::Shared));
                entry.verdict = Some(verdict);
            }
        }
        Ok(())
    }

    /// Notes devices that failed after they were accepted. Returns those that are to be shared.
    pub(super) fn fell(&mut self, fallen: Vec<Fallen>) -> Vec<Shared> {
        let mut shared = Vec::new();
        for fallen in fallen {
            self.refuse(fallen.bdf, fallen.code, fallen.mode());
            if fallen.is_shared {
                let Fallen { bdf, rule, .. } = fallen;
                shared.push(Shared { bdf, rule, on_failure: OnFailure::Hide });
            }
        }
        shared
    }

    /// Notes that a function failed.
    pub(super) fn refuse(&mut self, bdf: Bdf, code: StopCode, mode: Option<Mode>) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.bdf == Some(bdf)) {
            entry.verdict = Some(Verdict::Refused(code, mode));
        }
    }

    /// What became of all that was accepted, or shared after it was refused; `running`: what is in RUN.
    #[inline(never)]
    pub(super) fn outcomes<P: Platform>(
        &mut self,
        platform: &mut P,
        session: &rsi::Session,
        running: &[Bdf],
    ) -> Result<(), Stop> {
        let Self { log, entries, .. } = self;
        for entry in entries {
            if let Some(verdict) = entry.verdict.as_ref().filter(|_| entry.has_outcome) {
                let runs = entry.bdf.is_some_and(|bdf| running.contains(&bdf));
                let outcome = Outcome { verdict: verdict.clone(), runs };
                record(log, platform, session, &eventlog::outcome(&entry.listed.slot, &outcome))?;
            }
        }
        Ok(())
    }

    /// Makes room for log and evidence where the payload will find them. The log may grow by what [`Regions::finish`] adds.
    pub(super) fn regions(&mut self) -> Result<Regions, Stop> {
        let tree = eventlog::tree(&Digest::of(self.log.hash(), &[]));
        let last = SEPARATED.map(eventlog::separator);
        let rest = last.iter().chain([&tree]).map(|event| self.log.record_len(event.data.len()));
        let log_len = rest.fold(self.log.as_bytes().len(), usize::saturating_add);
        let evidence = core::mem::take(&mut self.evidence).finish()?;
        let headroom = Headroom::take()?;
        let pages = |len| Pages::new(len).ok_or(OutOfMemory);
        let mut regions = Regions { log: pages(log_len)?, evidence: pages(evidence.len())? };
        drop(headroom);
        regions.evidence.write(&evidence);
        Ok(regions)
    }

    /// The final tree, then the separators: the last events.
    #[inline(never)]
    pub(super) fn finish<P: Platform>(
        &mut self,
        platform: &mut P,
        session: &rsi::Session,
        measured_form: &[u8],
        regions: &mut Regions,
    ) -> Result<(), Stop> {
        let digest = Digest::of(self.log.hash(), &[measured_form]);
        self.record(platform, session, &eventlog::tree(&digest))?;
        for pcr in SEPARATED {
            self.record(platform, session, &eventlog::separator(pcr))?;
        }
        regions.log.write(self.log.as_bytes());
        crate::say::info!("log: {} bytes at {:#x}", self.log.as_bytes().len(), regions.log.address());
        Ok(())
    }
}

/// Extends the REM of the event, then adds the event to the log, while there is memory for what follows.
fn record<P: Platform>(
    log: &mut EventLog,
    platform: &mut P,
    session: &rsi::Session,
    event: &Event,
) -> Result<(), Stop> {
    let digest = event.digest(log.hash());
    if let Some(rem) = eventlog::rem(event.pcr) {
        let extended = rsi::Client::new(platform, session).measurement_extend(rem, digest.as_bytes());
        extended.or_stop(StopCode::Measure)?;
    }
    log.add(event, &digest)?;
    drop(Headroom::take()?);
    Ok(())
}

/// Where the payload finds log and evidence.
#[derive(Debug)]
pub(super) struct Regions {
    pub(super) log: Pages,
    pub(super) evidence: Pages,
}

impl Regions {
    /// Describes them for the tree.
    pub(super) fn nodes(&self) -> [Region<'static>; 2] {
        let region = |name, compatible, pages: &Pages| Region {
            name,
            compatible,
            base: pages.address(),
            len: pages.len_bytes(),
        };
        [
            region("log", "confidential-computing-event-log", &self.log),
            region("evidence", "gatehouse,evidence", &self.evidence),
        ]
    }
}

impl Entry {
    pub(super) fn new(listed: Listed, bdf: Option<Bdf>) -> Self {
        Self { listed, bdf, verdict: None, has_outcome: false }
    }
}

/// The name of a rule, as an entry of the inventory has it.
pub(super) fn name(rule: Option<&Rule>) -> Option<String> {
    rule.map(|rule| rule.name.clone())
}
