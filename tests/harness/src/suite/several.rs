//! Boots with several devices, behind bridges, virtual, shared, refused: what each report must say.

use super::cases::{boots, failures, need};
use super::{Bench, Case, done};
use crate::json::Word;
use crate::judge::{Ending, PayloadKind};
use crate::run::{Ran, Request};
use crate::scenario;
use gatehouse::codes::StopCode;
use rmm_model::final_state::TdiState;
use rmm_model::record::Event;
use rmm_model::scenario::ConfigAccess;
use std::collections::BTreeSet;

/// A function's verdict and mode.
type Words = (&'static str, &'static str);

const RUN: Words = ("accepted", "run");
const PIN: Words = ("accepted", "pin");
const SHARED: Words = ("accepted", "shared");
/// As its rule says.
const HIDDEN: Words = ("accepted", "hide");
const REFUSED: Words = ("refused", "hide");
const EXTRA: Words = ("extra", "hide");

/// Scenarios that boot with the demo payload: file, what they show, verdict and mode of each function.
const BOOTS: &[(&str, &str, &[Words])] = &[
    (
        "topology",
        "a root port, a switch, an NVMe behind it, four virtual functions and an edu are all attested and work",
        &[RUN, RUN, RUN, RUN, RUN, RUN],
    ),
    ("optional-accepted", "a required and an optional NVMe both work", &[RUN, RUN, EXTRA]),
    (
        "optional-refused",
        "an optional NVMe with a forged report is hidden, the other works",
        &[RUN, REFUSED, EXTRA],
    ),
    (
        "optional-refused-late",
        "an optional NVMe that fails once it runs gives everything back, the other works",
        &[RUN, REFUSED, EXTRA],
    ),
    (
        "vf-beside-unlisted",
        "two virtual functions work, and one that is not listed is hidden",
        &[RUN, RUN, EXTRA, EXTRA],
    ),
    ("shared-beside", "an NVMe works beside a shared virtio-blk on the same switch", &[RUN, SHARED, EXTRA]),
    ("evidence/units-pinned", "two units, each pinned to its slot by its leaf key", &[RUN, RUN, EXTRA]),
    ("classes", "NVMe, AHCI and xHCI are left idle and private", &[RUN, RUN, RUN, EXTRA]),
    ("hostconf-64k", "a host with units of 64 KiB", &[RUN, EXTRA]),
    (
        "bus-numbers-none",
        "the firmware numbers the buses of a switch and a second root port",
        &[RUN, RUN, RUN, EXTRA],
    ),
    (
        "pass-through",
        "no write of the firmware or the payload ends RUN under a VMM that passes writes through",
        &[RUN, RUN, EXTRA],
    ),
    ("mode-pin", "a pinned NVMe is verified, unlocked and quiet, beside one that runs", &[RUN, PIN, EXTRA]),
    ("mode-shared", "an NVMe that could be locked is shared, beside one that runs", &[RUN, SHARED, EXTRA]),
    ("mode-hide", "an NVMe that the policy hides is quiet, beside one that runs", &[RUN, HIDDEN, EXTRA]),
    ("probe-virtualised", "a payload that enumerates gets `run` under a VMM that virtualises", &[RUN, EXTRA]),
    (
        "probe-pass-through",
        "the same payload gets `pin` under a VMM that passes writes through",
        &[PIN, EXTRA],
    ),
    ("os-unaware", "a payload that knows nothing of device assignment gets `pin`", &[PIN, EXTRA]),
];

/// Scenarios whose DMA_ENABLE opens nothing: file, and the results that then fail.
const BLOCKED: &[(&str, &str, &[&str])] = &[
    (
        "dma-enable-ignored",
        "no answer of an NVMe arrives when DMA_ENABLE opens nothing",
        &["nvme-identify@00:02.0", "dma-private-only"],
    ),
    (
        "dma-ignored-edu",
        "no byte of an edu arrives when DMA_ENABLE opens nothing",
        // What an aborted stream tries is no event: no fault is seen.
        &["edu-dma@00:03.0", "dma-alias-fault@00:03.0", "dma-private-only", "device-fault-seen"],
    ),
];

/// Verdict and mode of the functions of the Linux scenario.
const LINUX: &[Words] = &[RUN, RUN, RUN, SHARED, EXTRA];

/// Scenarios that are named here.
#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let blocked = BLOCKED.iter().map(|entry| entry.0);
    BOOTS.iter().map(|entry| entry.0).chain(blocked).chain(["linux-topology"])
}

pub(super) fn all() -> Vec<Case> {
    use PayloadKind::{Demo, Linux};
    let mut cases = Vec::new();
    for (name, text, words) in BOOTS {
        cases.push(Case::new(format!("{name}: {text}"), Demo, move |bench| {
            let ran = boots(bench, &Request::new(bench.tools, Demo, name))?;
            functions_are(&ran, words)?;
            no_error(&ran)?;
            done(&ran);
            Ok(())
        }));
    }
    for (name, text, failing) in BLOCKED {
        cases.push(Case::new(format!("{name}: {text}"), Demo, move |bench| blocked(bench, name, failing)));
    }
    cases.push(Case::new(
        "linux-topology: Linux drives NVMe, igb and AHCI behind a switch privately, and a virtio-blk that is shared",
        Linux,
        |bench| linux(bench, ConfigAccess::Virtualise),
    ));
    cases.push(Case::new(
        "linux-topology: no configuration write of a whole Linux run ends RUN under a VMM that passes writes through",
        Linux,
        |bench| linux(bench, ConfigAccess::PassThrough),
    ));
    cases.push(Case::new(
        "probe-pass-through: the probe is what ends the first lock, and nothing else",
        Demo,
        probed,
    ));
    for name in ["probe-pass-through", "probe-virtualised"] {
        let sentence =
            format!("{name}: Linux with the OS half gets `run`, whatever the VMM does with writes");
        cases.push(Case::new(sentence, Linux, move |bench| half_runs(bench, name)));
    }
    cases.push(Case::new(
        "mode-pin: Linux with the OS half runs one NVMe and does not show the pinned one",
        Linux,
        |bench| {
            let ran = boots(bench, &Request::new(bench.tools, Linux, "mode-pin"))?;
            functions_are(&ran, &[RUN, PIN, EXTRA])?;
            no_error(&ran)?;
            done(&ran);
            Ok(())
        },
    ));
    cases
}

/// The report has these functions, those that the firmware refused with a reason.
fn functions_are(ran: &Ran, words: &[Words]) -> Result<(), String> {
    let devices = &ran.judgement.report.devices;
    let said: Vec<_> = devices.iter().map(|device| (device.verdict.unwrap_or("-"), device.mode)).collect();
    need(said == words, || format!("functions: {said:?}"))?;
    for device in devices {
        let is_refused = device.verdict == Some("refused");
        need(is_refused == device.reason.as_ref().is_some_and(|reason| !reason.is_empty()), || {
            format!("{}: reason {:?}", device.bdf, device.reason)
        })?;
        let is_run = device.mode == "run";
        need(is_run != device.ranges.is_empty() || is_refused, || {
            format!("{}: {} ranges", device.bdf, device.ranges.len())
        })?;
    }
    need(ran.judgement.report.leaked.is_empty(), || format!("leaked: {:?}", ran.judgement.report.leaked))?;
    // A scenario whose lie was never told proves nothing.
    let told = &ran.log.end.final_state.lies;
    let scenario = scenario::load(&ran.scenario).map_err(|fault| fault.to_string())?;
    need(told.len() >= scenario.misbehaviour.len(), || format!("lies told: {told:?}"))
}

/// No device that was accepted fell into ERROR; but one that is pinned because the probe put it there.
fn no_error(ran: &Ran) -> Result<(), String> {
    let scenario = scenario::load(&ran.scenario).map_err(|fault| fault.to_string())?;
    let passes = scenario.vmm.config == ConfigAccess::PassThrough;
    let refused: Vec<u64> = ran
        .judgement
        .report
        .devices
        .iter()
        .filter(|device| device.verdict == Some("refused") || passes && device.mode == "pin")
        .filter_map(|device| device.vdev_id)
        .collect();
    let fell = ran.log.records.iter().find(|record| match record.event {
        Event::Tdi { rid, to: TdiState::Error, .. } => !refused.contains(&rid.into()),
        _ => false,
    });
    need(fell.is_none(), || format!("{fell:?}"))
}

/// The lock of the probe ends in ERROR, once; the one behind it does not, and its evidence is what is pinned.
fn probed(bench: &Bench<'_>) -> Result<(), String> {
    let ran = boots(bench, &Request::new(bench.tools, PayloadKind::Demo, "probe-pass-through"))?;
    let states: Vec<TdiState> = ran
        .log
        .records
        .iter()
        .filter_map(|record| match record.event {
            Event::Tdi { to, .. } => Some(to),
            _ => None,
        })
        .collect();
    let expected =
        [TdiState::Locked, TdiState::Error, TdiState::Unlocked, TdiState::Locked, TdiState::Unlocked];
    need(states == expected, || format!("states: {states:?}"))?;
    done(&ran);
    Ok(())
}

/// A payload that does not enumerate is in no need of the probe.
fn half_runs(bench: &Bench<'_>, name: &str) -> Result<(), String> {
    let request = Request::new(bench.tools, PayloadKind::Linux, name);
    let mut scenario = scenario::load(&request.scenario).map_err(|fault| fault.to_string())?;
    scenario.device.iter_mut().for_each(|device| "run".clone_into(&mut device.expect));
    let ran = bench.run_scenario(&request, &scenario)?;
    need(ran.judgement.exit_status() == 0, || {
        format!("ended with {:?}\n{}", ran.judgement.ending, failures(&ran))
    })?;
    functions_are(&ran, &[RUN, EXTRA])?;
    no_error(&ran)?;
    done(&ran);
    Ok(())
}

/// Handed off, and exactly these results fail.
fn blocked(bench: &Bench<'_>, name: &str, failing: &[&str]) -> Result<(), String> {
    let ran = bench.run(&Request::new(bench.tools, PayloadKind::Demo, name))?;
    let judgement = &ran.judgement;
    need(judgement.ending == Ending::HandedOff && judgement.exit_status() == 1, || {
        format!("ended with {:?}, {}", judgement.ending, judgement.exit_status())
    })?;
    let failed: BTreeSet<&str> = judgement
        .report
        .results
        .iter()
        .filter(|result| result.result == Word::Fail)
        .map(|result| result.name.as_str())
        .collect();
    need(failed == failing.iter().copied().collect(), || failures(&ran))?;
    let streams: Vec<&str> =
        ran.log.end.hardware.devices.iter().map(|device| device.stream.as_str()).collect();
    need(streams == ["abort"], || format!("stream table entries {streams:?}"))?;
    done(&ran);
    Ok(())
}

fn linux(bench: &Bench<'_>, config: ConfigAccess) -> Result<(), String> {
    let request = Request::new(bench.tools, PayloadKind::Linux, "linux-topology");
    let mut scenario = scenario::load(&request.scenario).map_err(|fault| fault.to_string())?;
    scenario.vmm.config = config;
    let ran = bench.run_scenario(&request, &scenario)?;
    need(ran.judgement.exit_status() == 0, || {
        format!("ended with {:?}\n{}", ran.judgement.ending, failures(&ran))
    })?;
    functions_are(&ran, LINUX)?;
    no_error(&ran)?;
    done(&ran);
    Ok(())
}

/// Scenarios that stop: file, code, steps of the way back that the scenario makes fail.
pub(super) const STOPS: &[(&str, StopCode, &[scenario::Step])] = &[
    ("required-refused-of-several", StopCode::MappingRejected, &[]),
    ("vf-unlock-fails", StopCode::ReportDigest, &[scenario::Step::Unlock]),
    ("no-idle-check", StopCode::NoIdleCheck, &[]),
    ("shared-beside-stop", StopCode::DmaEnableFailed, &[]),
];

#[cfg(test)]
mod tests {
    use crate::scenario::tests::all;

    #[test]
    fn the_probe_is_shown_with_one_policy() {
        let policy = |name: &str| {
            let scenario =
                all().into_iter().map(|(_, scenario)| scenario).find(|scenario| scenario.name == name);
            scenario.unwrap().policy_toml().unwrap()
        };
        assert_eq!(policy("probe-pass-through"), policy("probe-virtualised"));
    }
}
