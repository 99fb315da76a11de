//! What a boot would decide: the firmware's own functions over inventory and evidence of a recorded boot, under any policy.
//!
//! What cannot be known stays unknown: how a step of the RMM or the host would have ended that the recorded boot did not
//! come to, and evidence that it did not collect.
//!
//! Trust: log and evidence are what they are; whoever wants to rely on them compares them with a token first.
use crate::eventlog::{self as read, Data, EventLog, Judgement, is_pci};
use crate::rem::RemRule;
use crate::{hex, region, table};
use gatehouse::addr::Bdf;
use gatehouse::boot::slot::SlotPath;
use gatehouse::codes::StopCode;
use gatehouse::conduit::OutOfMemory;
use gatehouse::eventlog::{
    Collected, Disposition, Event, Judged, Listed, Outcome, Verdict, function, outcome, policy, realm, rem,
    separator, verdicts,
};
use gatehouse::evidence::Objects;
use gatehouse::pcie::{Bar, Function, MsixPlace};
use gatehouse::policy::cbor;
use gatehouse::policy::decide::{Candidate, decide};
use gatehouse::policy::inventory::{Shown, assign, disposition, missing, on_failure, on_refusal, unfilled};
use gatehouse::policy::types::{Match, Mode, OnFailure, Policy, Rest};
use gatehouse::rsi::{Digests, HashAlgorithm, Nonces};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use thiserror::Error;

/// Base class and subclass of a PCI-to-PCI bridge.
const BRIDGE_CLASS: u32 = 0x0604;
/// PCRs of the separators of REM 1 to 3.
const SEPARATED: [u32; 3] = [7, 6, 8];

/// Why nothing can be foreseen.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum ForeseeError {
    /// The evidence region has something that is no evidence.
    #[error("evidence of {slot}: {what}")]
    Evidence {
        /// Slot path.
        slot: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A slot of the log is no slot path, or a number of the log is too large.
    #[error("{0} of the log cannot be one of the firmware")]
    Log(String),
    /// No memory for an event.
    #[error(transparent)]
    Memory(#[from] OutOfMemory),
}

/// A boot that did not take place.
#[derive(Clone, Debug)]
pub struct Foreseen {
    /// Events for REM 1 and 2, and with a bundle for REM 3, in order. Those of REM 4 cannot be foreseen.
    pub events: Vec<Event>,
    /// What is decided: slot, or `None` of a rule that found too few; rule; verdict.
    pub decided: Vec<(Option<String>, Option<String>, Verdict)>,
    /// It stops, and why.
    pub stop: Option<StopCode>,
    /// Slots that would be attested, without evidence in the region.
    pub unknown: Vec<String>,
    hash: HashAlgorithm,
}

struct Entry {
    listed: Listed,
    path: Option<SlotPath>,
    rules: Vec<usize>,
}

/// The evidence of a function in the firmware's types.
struct Recorded {
    function: Function,
    bars: Vec<Bar>,
    hash: HashAlgorithm,
    digests: Digests,
    nonces: Nonces,
    requester_nonce: [u8; 32],
    no_run: Option<String>,
    objects: Objects,
}

impl Recorded {
    fn new(collected: &region::Collected<'_>) -> Result<Self, ForeseeError> {
        let session = &collected.session;
        let wrong = |what| ForeseeError::Evidence { slot: session.slot.clone(), what };
        let ids = &collected.ids;
        let rid = u16::try_from(collected.routing_id).map_err(|_| wrong("its routing id"))?;
        let place = |(bar, offset): (u8, u64)| {
            let offset = u32::try_from(offset).map_err(|_| wrong("an MSI-X offset"))?;
            Ok::<_, ForeseeError>(MsixPlace { bar, offset })
        };
        let (table, pba) = match collected.msix {
            Some(msix) => (Some(place(msix.table)?), Some(place(msix.pba)?)),
            None => (None, None),
        };
        let shown = shown(ids).ok_or(wrong("its device id"))?;
        let function = Function::recorded(Bdf::from_routing_id(rid), shown, ids.revision, table, pba);
        let bar = |bar: &region::Bar| Bar {
            index: bar.number,
            wide: bar.is_64_bit,
            prefetchable: bar.prefetchable,
            address: bar.address,
            size: bar.size,
        };
        let hash = [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512];
        let hash = hash.into_iter().find(|hash| hash.name() == session.hash).ok_or(wrong("its hash"))?;
        let field = |bytes: &Vec<u8>| {
            let mut field = [0; 64];
            field.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
            field
        };
        let [vca, certificate, public_key, measurement, report] = &session.digests;
        let digests = Digests {
            vca: field(vca),
            certificate: field(certificate),
            public_key: field(public_key),
            measurement: field(measurement),
            report: field(report),
        };
        let [lock, measurement, report] = session.nonces;
        let [vca, certificate, measurements, report_object] = collected.objects.map(<[u8]>::to_vec);
        Ok(Self {
            function,
            bars: collected.bars.iter().map(bar).collect(),
            hash,
            digests,
            nonces: Nonces { lock, measurement, report },
            requester_nonce: session.requester_nonce,
            no_run: session.no_run.clone(),
            objects: Objects { vca, certificate, measurements, report: report_object },
        })
    }
}

fn shown(ids: &read::Ids) -> Option<Shown> {
    Some(Shown {
        vendor: ids.vendor,
        device: u16::try_from(ids.device).ok()?,
        subsystem_vendor: ids.subsystem_vendor,
        subsystem: ids.subsystem,
        class: ids.class,
    })
}

/// Foresees a boot on the recorded machine. `bundle`: the event of what is booted, for REM 3.
///
/// # Errors
/// [`ForeseeError`].
pub fn foresee(
    log: &EventLog,
    evidence: &[region::Collected<'_>],
    rules: &Policy,
    bundle: Option<Event>,
) -> Result<Foreseen, ForeseeError> {
    let mut boot = Foreseen {
        events: vec![realm(), policy(&cbor::encode(rules))],
        decided: Vec::new(),
        stop: None,
        unknown: Vec::new(),
        hash: log.algorithm,
    };
    let entries = match inventory(log, rules)? {
        Ok(entries) => entries,
        Err(code) => return Ok(boot.stops(code)),
    };
    boot.events.extend(entries.iter().map(|entry| function(&entry.listed)));
    let recorded: BTreeMap<&str, Recorded> = evidence
        .iter()
        .map(|collected| Ok((collected.session.slot.as_str(), Recorded::new(collected)?)))
        .collect::<Result<_, ForeseeError>>()?;
    let early = early(log);
    for entry in &entries {
        let slot = entry.listed.slot.as_str();
        if entry.listed.disposition != Disposition::Attest || recorded.contains_key(slot) {
            continue;
        }
        match early.get(slot) {
            None => boot.unknown.push(slot.to_owned()),
            Some(code) if on_failure(rules, &entry.rules) == OnFailure::Stop => return Ok(boot.stops(*code)),
            Some(_) => {}
        }
    }
    let of = |entry: &Entry| {
        let is_attested = entry.listed.disposition == Disposition::Attest;
        recorded.get(entry.listed.slot.as_str()).filter(|_| is_attested)
    };
    let no_run: Vec<Option<&'static str>> = entries
        .iter()
        // Few reasons, one run of the tool: they live as long as it does.
        .map(|entry| of(entry).and_then(|one| one.no_run.clone()).map(|text| &*text.leak()))
        .collect();
    let candidates: Vec<(usize, Candidate<'_>)> = (entries.iter().zip(&no_run).enumerate())
        .filter_map(|(index, (entry, no_run))| Some((index, candidate(entry, of(entry)?, *no_run))))
        .collect();
    let all: Vec<Candidate<'_>> = candidates.iter().map(|(_, candidate)| *candidate).collect();
    let decisions = decide(rules, &all);
    let mut judged = Vec::new();
    for (index, entry) in entries.iter().enumerate() {
        let before = on_failure(rules, &entry.rules);
        let decided = candidates.iter().zip(&decisions).find(|((at, _), _)| *at == index);
        judged.push(match (decided, of(entry), entry.path.clone()) {
            (Some(((_, candidate), decision)), Some(one), Some(path)) => Some(Judged::Decided {
                path,
                collected: Collected::new(one.function.bdf.routing_id().into(), one.nonces, candidate),
                decision,
                on_failure: on_refusal(rules, decision.rule, before),
            }),
            _ => early.get(entry.listed.slot.as_str()).map(|code| Judged::Failed {
                rule: entry.listed.rule.clone().unwrap_or_else(|| "none".into()),
                code: *code,
                mode: before.mode(),
            }),
        });
    }
    let listed = entries.iter().map(|entry| &entry.listed);
    let decided = verdicts(rules, listed, &judged, |event| {
        // REM 4 differs from boot to boot.
        if rem(event.pcr) != Some(4) {
            boot.events.push(event.clone());
        }
        Ok::<_, ForeseeError>(())
    })?;
    boot.stop = stop(rules, &entries, &decided);
    for decided in decided {
        let slot = entries.get(decided.entry).map(|entry| entry.listed.slot.clone());
        boot.decided.push((slot, decided.rule, decided.verdict));
    }
    boot.finish(bundle);
    Ok(boot)
}

fn candidate<'a>(entry: &'a Entry, one: &'a Recorded, no_run: Option<&'static str>) -> Candidate<'a> {
    Candidate {
        function: &one.function,
        bars: &one.bars,
        rules: &entry.rules,
        hash: one.hash,
        digests: &one.digests,
        objects: &one.objects,
        nonce: &one.requester_nonce,
        no_run,
    }
}

/// Devices that the recorded boot refused before there was evidence.
fn early(log: &EventLog) -> BTreeMap<&str, StopCode> {
    let sessions: Vec<&str> = log.sessions().map(|session| session.slot.as_str()).collect();
    let of = |data: &'_ Data| match data {
        Data::Verdict(verdict) if verdict.judgement == Judgement::Refused => {
            Some((verdict.slot.clone()?, verdict.code))
        }
        _ => None,
    };
    let mut early = BTreeMap::new();
    for event in &log.events {
        if let (Data::Verdict(verdict), Some((slot, number))) = (&event.data, of(&event.data))
            && !sessions.contains(&slot.as_str())
            && let Some(code) = StopCode::ALL.iter().find(|code| code.number() == number)
            && let Some(slot) = verdict.slot.as_deref()
        {
            early.insert(slot, *code);
        }
    }
    early
}

/// Phase 3, over what the recorded boot found.
fn inventory(log: &EventLog, policy: &Policy) -> Result<Result<Vec<Entry>, StopCode>, ForeseeError> {
    let mut entries = Vec::new();
    let mut open: BTreeMap<String, bool> = BTreeMap::new();
    let mut found = Vec::new();
    let mut room: Vec<u32> = policy.rules.iter().map(|rule| rule.count).collect();
    for event in &log.events {
        let Data::Function(read::Function { slot, ids, disposition: before, .. }) = &event.data else {
            continue;
        };
        let odd = || ForeseeError::Log(slot.clone());
        let shown = shown(ids).ok_or_else(odd)?;
        let listed = |disposition, rule| Listed {
            slot: slot.clone(),
            shown,
            revision: ids.revision,
            disposition,
            rule,
        };
        if !is_pci(slot) {
            found.push((listed(Disposition::Extra, None), None, false));
            continue;
        }
        let path: SlotPath = slot.parse().map_err(|_| odd())?;
        let above = slot.rsplit_once('/').is_none_or(|(above, _)| open.get(above) == Some(&true));
        if *before == read::Disposition::Bridge || ids.class >> 8 == BRIDGE_CLASS {
            let rule = policy.rules.iter().find(|rule| rule.takes_bridge(&path, &shown));
            let is_open = above && (rule.is_some() || policy.audit);
            open.insert(slot.clone(), is_open);
            let disposition = if is_open { Disposition::Bridge } else { Disposition::Extra };
            let listed = listed(disposition, rule.map(|rule| rule.name.clone()));
            entries.push(Entry { listed, path: Some(path), rules: Vec::new() });
        } else {
            found.push((listed(Disposition::Extra, None), Some(path), above));
        }
    }
    let eligible: Vec<(&SlotPath, Shown)> = found
        .iter()
        .filter_map(|(listed, path, above)| Some((path.as_ref().filter(|_| *above)?, listed.shown)))
        .collect();
    let assigned = assign(policy, &eligible);
    if !policy.audit && missing(policy, &assigned).next().is_some() {
        return Ok(Err(StopCode::RequiredMissing));
    }
    let mut assigned = assigned.into_iter();
    for (mut listed, path, above) in found {
        let is_eligible = above && path.is_some();
        let rules = if is_eligible { assigned.next().unwrap_or_default() } else { Vec::new() };
        let first = match &path {
            Some(_) => rules.first().and_then(|index| policy.rules.get(*index)),
            None => transport(policy, &mut room, listed.shown.device),
        };
        listed.disposition = match (&path, first.and_then(|rule| rule.modes.first())) {
            (Some(_), _) => disposition(policy, first, is_eligible),
            (None, Some(Mode::Shared)) => Disposition::Shared,
            (None, Some(_)) => Disposition::Hide,
            (None, None) => Disposition::Extra,
        };
        if listed.disposition == Disposition::Extra && policy.rest == Rest::Stop && !policy.audit {
            return Ok(Err(StopCode::ExtraFunction));
        }
        listed.rule = first.map(|rule| rule.name.clone());
        entries.push(Entry { listed, path, rules });
    }
    let is_short = |(rule, room): (&gatehouse::policy::types::Rule, &u32)| {
        matches!(rule.matches, Match::VirtioMmio(_) | Match::Platform(_)) && rule.required && *room > 0
    };
    if !policy.audit && policy.rules.iter().zip(&room).any(is_short) {
        return Ok(Err(StopCode::RequiredMissing));
    }
    Ok(Ok(entries))
}

/// Finds the first rule for a virtio-mmio transport that has room.
fn transport<'p>(
    policy: &'p Policy,
    room: &mut [u32],
    id: u16,
) -> Option<&'p gatehouse::policy::types::Rule> {
    let rules = policy.rules.iter().filter(|_| !policy.audit).zip(room);
    for (rule, room) in rules {
        let fits = matches!(rule.matches, Match::VirtioMmio(wanted) if wanted.is_none_or(|wanted| wanted == u32::from(id)));
        if let Some(left) = room.checked_sub(1).filter(|_| fits) {
            *room = left;
            return Some(rule);
        }
    }
    None
}

/// Why the boot stops behind the verdicts.
fn stop(policy: &Policy, entries: &[Entry], decided: &[gatehouse::eventlog::Decided]) -> Option<StopCode> {
    if policy.audit {
        return Some(StopCode::AuditBoot);
    }
    let refused = decided.iter().find_map(|decided| match decided.verdict {
        Verdict::Refused(code, None) => Some(code),
        _ => None,
    });
    let index = |name: &Option<String>| {
        let name = name.as_ref()?;
        policy.rules.iter().position(|rule| rule.name == *name)
    };
    let is_pci = |entry: usize| entries.get(entry).is_some_and(|entry| entry.path.is_some());
    let accepted: Vec<usize> = decided
        .iter()
        .filter(|decided| matches!(decided.verdict, Verdict::Accepted(_)) && is_pci(decided.entry))
        .filter_map(|decided| index(&decided.rule))
        .collect();
    refused.or_else(|| unfilled(policy, &accepted).map(|_| StopCode::RequiredMissing))
}

impl Foreseen {
    fn stops(mut self, code: StopCode) -> Self {
        self.stop = Some(code);
        self
    }

    /// Adds what a boot that goes on ends with.
    fn finish(&mut self, bundle: Option<Event>) {
        if self.stop.is_some() {
            return;
        }
        self.events.extend(bundle);
        for (slot, _, verdict) in &self.decided {
            if let (Some(slot), Some(mode @ (Mode::Run | Mode::Pin | Mode::Shared))) = (slot, verdict.mode())
            {
                let outcome_of = Outcome { verdict: verdict.clone(), runs: mode == Mode::Run };
                self.events.push(outcome(slot, &outcome_of));
            }
        }
        self.events.extend(SEPARATED.map(separator));
    }

    /// Returns REM 1 to 3 of a boot in which every step goes well; `None`: it stops, or evidence is missing.
    #[must_use]
    pub fn rems(&self, rule: RemRule) -> Option<[Vec<u8>; 3]> {
        if self.stop.is_some() || !self.unknown.is_empty() {
            return None;
        }
        let mut rems = [const { Vec::new() }; 3].map(|_: Vec<u8>| vec![0; self.hash.digest_len()]);
        for event in &self.events {
            let at = rem(event.pcr).and_then(|rem| usize::from(rem).checked_sub(1));
            if let Some(value) = at.and_then(|at| rems.get_mut(at)) {
                *value = rule.extend(self.hash, value, event.digest(self.hash).as_bytes());
            }
        }
        Some(rems)
    }

    /// Writes a table of what is decided, and the measurements that such a boot ends with.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut rows = vec![["slot", "rule", "verdict", "mode", "code"].map(String::from)];
        for (slot, rule, verdict) in &self.decided {
            let dash = || "-".to_owned();
            let code = if verdict.code() == 0 { dash() } else { format!("GH-{:04}", verdict.code()) };
            rows.push([
                slot.clone().unwrap_or_else(dash),
                rule.clone().unwrap_or_else(dash),
                verdict.word().to_owned(),
                verdict.mode().map_or_else(|| "none".into(), |mode| mode.word().to_owned()),
                code,
            ]);
        }
        let mut text = table::write(&rows);
        for slot in &self.unknown {
            let _ = writeln!(
                text,
                "{}: would be attested, and the recorded boot has no evidence of it",
                table::printable(slot)
            );
        }
        if let Some(code) = self.stop {
            let _ = writeln!(text, "The boot would stop with {code}: {}.", code.text());
        }
        for rule in RemRule::ALL {
            for (number, rem) in (1..).zip(self.rems(rule).iter().flatten()) {
                let _ = writeln!(text, "REM {number}  {:<6}  {}", rule.name(), hex(rem));
            }
        }
        text
    }

    /// Returns the same as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let decided = |(slot, rule, verdict): &(Option<String>, Option<String>, Verdict)| {
            json!({
                "slot": slot, "rule": rule, "verdict": verdict.word(),
                "mode": verdict.mode().map_or("none", Mode::word), "code": verdict.code(),
            })
        };
        let rems = |rule: RemRule| {
            let rems = self.rems(rule)?;
            Some(json!({ "rule": rule.name(), "rems": rems.map(|rem| hex(&rem)) }))
        };
        json!({
            "hash": self.hash.name(),
            "devices": self.decided.iter().map(decided).collect::<Vec<_>>(),
            "unknown": self.unknown,
            "stop": self.stop.map(|code| code.to_string()),
            "computed": RemRule::ALL.into_iter().filter_map(rems).collect::<Vec<_>>(),
        })
    }
}
