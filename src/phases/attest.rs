//! Phase 4: each device is made ready and locked, and its evidence collected; then one decision about all of them.

use super::inventory::{Chosen, Shared};
use super::measure::Measured;
use super::{Stop, StopReason, audit};
use crate::abi::fit::OsKind;
use crate::boot::slot::SlotPath;
use crate::codes::StopCode;
use crate::eventlog::{self, Collected};
use crate::hex::Hex;
use crate::mutation::{Mutation, removed};
use crate::pcie::Topology;
use crate::platform::Platform;
use crate::policy::decide::{Candidate, Decision, decide};
use crate::policy::inventory::{on_refusal, unfilled};
use crate::policy::pins::Pins;
use crate::policy::types::{Mode, OnFailure, Policy};
use crate::tdi::{self, Attested, Fallen, Fleet, Found, Link, Member, Rejected, Tdi, Verified};
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;

/// What phase 4 leaves.
#[derive(Debug)]
pub(super) struct Judged {
    /// To run.
    pub(super) run: Fleet<Verified>,
    /// To be locked again by the payload.
    pub(super) pinned: Vec<Pinned>,
    /// Never locked, or unlocked again.
    pub(super) shared: Vec<Shared>,
}

/// A device in mode `pin`: unlocked and quiet.
#[derive(Debug)]
pub(super) struct Pinned {
    /// Name of the rule.
    pub(super) rule: String,
    /// What the payload compares.
    pub(super) pins: Pins,
    /// The device.
    pub(super) tdi: Tdi<Found>,
}

/// Why a device cannot get mode `run`, learnt while it was locked.
type NoRun = Option<&'static str>;

#[inline(never)]
pub(super) fn run<P: Platform>(
    link: &mut Link<'_, P>,
    policy: &Policy,
    topology: &Topology,
    os: OsKind,
    chosen: Chosen,
    measured: &mut Measured,
) -> Result<Judged, Stop> {
    let mut fallen = Vec::new();
    let mut limits = Vec::new();
    let mut fleet = Vec::new();
    let mut rest = chosen.attest.into_iter();
    while let Some(Member { rule, rules, on_failure, tdi }) = rest.next() {
        let may_run = rules.iter().any(|index| modes(policy, *index).contains(&Mode::Run));
        let result = attest(tdi, link, os, may_run && !policy.audit);
        match tdi::drop_out(result, &rule, on_failure, &mut fallen) {
            Ok(Some((tdi, no_run))) => {
                limits.push(no_run);
                fleet.push(Member { rule, rules, on_failure, tdi });
            }
            Ok(None) => {}
            Err(rejected) => {
                tdi::abandon(link, fleet);
                tdi::abandon(link, rest);
                return Err(rejected.into());
            }
        }
    }
    let decisions = judge(policy, topology, &fleet, &limits);
    if let Err(stop) = measure(link, policy, topology, &fleet, &limits, &decisions, &fallen, measured) {
        tdi::abandon(link, fleet);
        return Err(stop);
    }
    if policy.audit {
        fleet.iter().for_each(|member| audit::record(topology, &member.tdi));
        tdi::abandon(link, fleet);
        return Err(Stop::new(StopCode::AuditBoot, StopReason::Audit));
    }
    let accepted = accepted(policy, &decisions, &chosen.shared);
    let mut later = Vec::new();
    let mut judged = act(link, policy, fleet, decisions, &mut later)?;
    if let Some(missing) = unfilled(policy, &accepted) {
        tdi::abandon(link, judged.run);
        return Err(Stop::missing(policy, missing));
    }
    judged.shared.extend(chosen.shared);
    fallen.append(&mut later);
    judged.shared.extend(measured.fell(fallen));
    Ok(judged)
}

/// Lists the rules of the functions that are accepted, or shared without a decision.
fn accepted(policy: &Policy, decisions: &[Decision], shared: &[Shared]) -> Vec<usize> {
    let decided =
        decisions.iter().filter(|decision| decision.verdict.is_ok()).filter_map(|decision| decision.rule);
    let named =
        shared.iter().filter_map(|shared| policy.rules.iter().position(|rule| rule.name == shared.rule));
    decided.chain(named).collect()
}

fn modes(policy: &Policy, rule: usize) -> &[Mode] {
    policy.rules.get(rule).map_or(&[], |rule| &rule.modes)
}

/// Takes one device from found to attested.
fn attest<P: Platform>(
    tdi: Tdi<Found>,
    link: &mut Link<'_, P>,
    os: OsKind,
    may_run: bool,
) -> Result<(Tdi<Attested>, NoRun), Rejected> {
    let mut tdi = tdi.prepare(link)?.lock(link)?;
    let no_run = match os {
        OsKind::Half => None,
        // TM-1: its queues would lie in memory that the host writes.
        OsKind::Unaware if removed(Mutation::UnawarePayload) => None,
        OsKind::Unaware => Some("gatehouse,os is unaware"),
        // It enumerates by itself: only some machines leave a locked device alone then.
        OsKind::Native if may_run => {
            let (again, survives) = tdi.probe(link)?;
            tdi = again;
            (!survives).then_some("the device does not stay locked when the payload enumerates")
        }
        OsKind::Native => None,
    };
    let tdi = tdi.attest(link)?;
    let evidence = tdi.evidence();
    let len = evidence.hash().digest_len();
    for (name, digest) in evidence.digests().named() {
        crate::say::info!(
            "tdi {}: {name} {} {}",
            tdi.function().bdf,
            evidence.hash().name(),
            Hex(digest.get(..len).unwrap_or_default())
        );
    }
    Ok((tdi, no_run))
}

fn candidate(member: &Member<Attested>, no_run: NoRun) -> Candidate<'_> {
    let Member { rules, tdi, .. } = member;
    let evidence = tdi.evidence();
    Candidate {
        function: tdi.function(),
        bars: tdi.bars(),
        rules,
        hash: evidence.hash(),
        digests: evidence.digests(),
        objects: evidence.objects(),
        nonce: tdi.requester_nonce(),
        no_run,
    }
}

/// Asks the policy about all of them, and says what it answers.
fn judge(policy: &Policy, topology: &Topology, fleet: &Fleet<Attested>, limits: &[NoRun]) -> Vec<Decision> {
    let candidates: Vec<Candidate<'_>> =
        fleet.iter().zip(limits).map(|(member, no_run)| candidate(member, *no_run)).collect();
    let decisions = decide(policy, &candidates);
    for (candidate, decision) in candidates.iter().zip(&decisions) {
        let bdf = candidate.function.bdf;
        let path: SlotPath = topology.path(candidate.function);
        let rule = decision.rule.and_then(|index| policy.rules.get(index)).map_or("none", |rule| &rule.name);
        decision.used.iter().for_each(|used| crate::say::info!("policy {bdf}: {used}"));
        match &decision.verdict {
            Ok(accepted) => {
                crate::say::info!("policy {bdf} at {path}: rule {rule}: accepted, mode {}", accepted.mode)
            }
            Err(refusal) => {
                crate::say::error!(
                    "policy {bdf} at {path}: rule {rule}: refused, {}: {refusal}",
                    refusal.code()
                );
            }
        }
    }
    decisions
}

/// Measures evidence and decisions.
#[expect(clippy::too_many_arguments, reason = "all that phase 4 knows")]
fn measure<P: Platform>(
    link: &mut Link<'_, P>,
    policy: &Policy,
    topology: &Topology,
    fleet: &Fleet<Attested>,
    limits: &[NoRun],
    decisions: &[Decision],
    fallen: &[Fallen],
    measured: &mut Measured,
) -> Result<(), Stop> {
    let mut judged = Vec::new();
    for bdf in measured.entries.iter().map(|entry| entry.bdf) {
        let index = fleet.iter().position(|member| Some(member.tdi.function().bdf) == bdf);
        let found =
            index.and_then(|index| Some((fleet.get(index)?, limits.get(index)?, decisions.get(index)?)));
        let failed = fallen.iter().find(|fallen| Some(fallen.bdf) == bdf);
        judged.push(match (found, failed) {
            (Some((member, no_run, decision)), _) => Some(eventlog::Judged::Decided {
                path: topology.path(member.tdi.function()),
                collected: Collected::new(
                    member.tdi.vdev().raw(),
                    member.tdi.nonces(),
                    &candidate(member, *no_run),
                ),
                decision,
                on_failure: chosen(policy, member, decision).1,
            }),
            (None, Some(fallen)) => Some(eventlog::Judged::Failed {
                rule: fallen.rule.clone(),
                code: fallen.code,
                mode: fallen.mode(),
            }),
            (None, None) => None,
        });
    }
    measured.verdicts(link.platform, link.rsi, policy, &judged)
}

/// Returns the name of the rule that a decided device stands under, and what becomes of it when it fails.
fn chosen<'a>(policy: &'a Policy, member: &'a Member<Attested>, decision: &Decision) -> (&'a str, OnFailure) {
    let name =
        decision.rule.and_then(|index| policy.rules.get(index)).map_or(&member.rule, |rule| &rule.name);
    (name, on_refusal(policy, decision.rule, member.on_failure))
}

/// Does what the decisions say.
fn act<P: Platform>(
    link: &mut Link<'_, P>,
    policy: &Policy,
    fleet: Fleet<Attested>,
    decisions: Vec<Decision>,
    fallen: &mut Vec<Fallen>,
) -> Result<Judged, Rejected> {
    let mut judged = Judged { run: Vec::new(), pinned: Vec::new(), shared: Vec::new() };
    let mut rest = fleet.into_iter().zip(decisions);
    while let Some((member, decision)) = rest.next() {
        let (name, on_failure) = chosen(policy, &member, &decision);
        let name = name.to_owned();
        let Member { rules, tdi, .. } = member;
        let result = match decision.verdict {
            Err(refusal) => Err(tdi.refuse(link, refusal)),
            Ok(accepted) if accepted.mode == Mode::Run => {
                let tdi = tdi.accept(accepted.list, accepted.quiet);
                judged.run.push(Member { rule: name, rules, on_failure, tdi });
                continue;
            }
            Ok(accepted) => tdi.release(link).map(|tdi| (accepted, tdi)),
        };
        match tdi::drop_out(result, &name, on_failure, fallen) {
            Ok(None) => {}
            Ok(Some((accepted, tdi))) => match accepted.mode {
                Mode::Pin => judged.pinned.push(Pinned { rule: name, pins: accepted.pins, tdi }),
                Mode::Shared => {
                    judged.shared.push(Shared { bdf: tdi.function().bdf, rule: name, on_failure })
                }
                Mode::Run | Mode::Hide => {}
            },
            Err(rejected) => {
                tdi::abandon(link, judged.run);
                tdi::abandon(link, rest.map(|(member, _)| member));
                return Err(rejected);
            }
        }
    }
    Ok(judged)
}
