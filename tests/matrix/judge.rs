//! What must hold whatever was lied: TM-0, TM-1, TM-5 to TM-7 of docs/threat-model.md, by the model's own state.

use crate::bench::{End, Ran, routing_id};
use crate::common::measured;
use rmm_model::Scenario;
use rmm_model::final_state::{DeviceState, TdiState};
use rmm_model::machine::DmaGate;
use rmm_model::record::Event;
use rmm_model::scenario::{DeviceSpec, Lie, Rule};

/// Who lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Liar {
    /// The host, or a device before its evidence was accepted.
    Host,
    /// Somebody who is believed: the RMM, or a device behind its accepted evidence.
    Trusted,
}

/// What a device says of itself with a matching digest: evidence that must never be accepted.
pub const FALSE_EVIDENCE: [Lie; 11] = [
    Lie::MeasurementForeignKey,
    Lie::MeasurementTranscript,
    Lie::NoncesReused,
    Lie::ReportRangePastBar,
    Lie::ReportPagesWrap,
    Lie::ReportZeroPages,
    Lie::ReportCountTooLarge,
    Lie::ReportTruncated,
    Lie::ReportUnknownBar,
    Lie::ReportOverlap,
    Lie::MroMisaligned,
];

/// Where a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The payload starts.
    Boots,
    /// A code, nothing left behind.
    Stops,
    /// A code, and what could not be taken back is named.
    StopsLeaking,
    /// The realm never goes on (a page DESTROYED), or an abort ends it.
    Dies,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Boots, Self::Stops, Self::StopsLeaking, Self::Dies];
}

/// The judgement.
pub struct Verdict {
    pub outcome: Outcome,
    /// Rules that were broken; empty: all is well.
    pub violations: Vec<String>,
}

/// Judges a boot. Who is believed can make the firmware take a dead device for a running one, and nothing worse.
pub fn judge(scenario: &Scenario, ran: &Ran, liar: Liar) -> Verdict {
    let mut found = Vec::new();
    let leaks: Vec<&str> =
        ran.log.iter().map(String::as_str).filter(|line| line.contains("leaked: ")).collect();
    let outcome = match &ran.end {
        End::Ended(Ok(_)) => Outcome::Boots,
        End::Ended(Err(_)) if leaks.is_empty() => Outcome::Stops,
        End::Ended(Err(_)) => Outcome::StopsLeaking,
        End::Stuck | End::Aborted => Outcome::Dies,
        End::Endless => {
            found.push("TM-5: it does not end".to_owned());
            Outcome::Dies
        }
        End::Panicked(text) => {
            found.push(format!("TM-7: panic: {text}"));
            Outcome::Dies
        }
    };
    found.extend(ran.state.violations.iter().map(|text| format!("model: {text}")));
    for opening in &ran.openings {
        let spec = spec(scenario, &opening.slot);
        let is_told_so = spec.rule != Rule::None && matches!(spec.expect.as_str(), "" | "run") && spec.tdi;
        if !is_told_so || scenario.bundle.os == "unaware" {
            found.push(format!("TM-0: DMA of {} was opened, which no policy allows", opening.slot));
        }
        if !opening.is_same_lock {
            found.push(format!("TM-0: {} was locked anew between its evidence and its DMA", opening.slot));
        }
        if !opening.is_fresh {
            found.push(format!("TM-0: {} was accepted with evidence of an earlier lock", opening.slot));
        }
        if is_false(ran, &opening.slot) {
            found.push(format!("TM-0: {} was accepted with false evidence", opening.slot));
        }
        if opening.is_armed && !spec.quiet_device {
            found.push(format!("TM-1: DMA of {} was opened while its controller ran", opening.slot));
        }
    }
    match outcome {
        Outcome::Boots => booted(scenario, ran, &leaks, liar, &mut found),
        Outcome::Stops | Outcome::StopsLeaking => stopped(ran, &leaks, &mut found),
        // Nobody is left who could do anything; the RMM destroys the realm.
        Outcome::Dies => {}
    }
    Verdict { outcome, violations: found }
}

fn spec<'a>(scenario: &'a Scenario, slot: &str) -> &'a DeviceSpec {
    scenario.device.iter().find(|spec| spec.slot == slot).unwrap_or(&scenario.device[0])
}

/// The device told something false since its last lock.
fn is_false(ran: &Ran, slot: &str) -> bool {
    let rid = ran.state.device(slot).and_then(|device| routing_id(&device.bdf));
    let last = |fits: &dyn Fn(&Event) -> bool| ran.events.iter().rposition(fits);
    let lock =
        last(&|event| matches!(event, Event::Tdi { rid: of, to: TdiState::Locked, .. } if Some(*of) == rid));
    let lie = last(&|event| {
        matches!(event, Event::Lie { name, slot: Some(of) }
            if of == slot && FALSE_EVIDENCE.iter().any(|lie| lie.name() == *name))
    });
    lie.is_some() && lie > lock
}

/// The payload starts.
fn booted(scenario: &Scenario, ran: &Ran, leaks: &[&str], liar: Liar, found: &mut Vec<String>) {
    for device in &ran.state.devices {
        let (slot, spec) = (&device.slot, spec(scenario, &device.slot));
        let must_run = spec.tdi && spec.rule == Rule::Require && matches!(spec.expect.as_str(), "" | "run");
        if device.dma == DmaGate::PrivateOnly {
            accepted(ran, device, found);
        } else if must_run && liar == Liar::Host && is_seen(ran, device) && !is_dead(device) {
            // Only what the host does after our last look, or what the RMM does not see, can have taken it away.
            found.push(format!("TM-0: {slot} is required, and the payload starts without it"));
        }
        let is_idle = device.dma != DmaGate::PrivateOnly && device.state == TdiState::Run;
        if is_idle && liar == Liar::Host && is_seen(ran, device) {
            found.push(format!("TM-0: {slot} is left in RUN without its DMA"));
        }
        let is_shown =
            spec.rule == Rule::Shared || spec.expect == "shared" || device.dma == DmaGate::PrivateOnly;
        if !is_shown && !must_run && device.command != 0 && !is_ghost(ran) {
            found.push(format!("TM-6: {slot} still decodes or masters: {:#x}", device.command));
        }
        if device.operation_pending {
            found.push(format!("TM-6: an operation of {slot} is still going on"));
        }
    }
    shared(ran, leaks, found);
    replayed(scenario, ran, liar, found);
    if !leaks.is_empty() {
        found.push(format!("TM-6: the payload starts though something leaked: {leaks:?}"));
    }
}

/// The firmware has asked the RMM for the state of the device since the last lie.
fn is_seen(ran: &Ran, device: &DeviceState) -> bool {
    let rid = routing_id(&device.bdf).map(u64::from);
    let last = rid.and_then(|rid| ran.last_info.get(&rid).copied());
    ran.last_lie <= last.unwrap_or(u64::MAX)
}

/// It fell into ERROR, and no exchange has told the RMM: it has no DMA, and nobody in the realm can know.
fn is_dead(device: &DeviceState) -> bool {
    device.state == TdiState::Error && device.rmm_state == Some(TdiState::Run)
}

/// A device has private DMA when the payload starts.
fn accepted(ran: &Ran, device: &DeviceState, found: &mut Vec<String>) {
    let slot = &device.slot;
    if device.state != TdiState::Run || device.rmm_state != Some(TdiState::Run) {
        found.push(format!("TM-0: {slot} has private DMA in {:?}, {:?}", device.state, device.rmm_state));
    }
    if !device.tee_aliases.is_empty() && is_seen(ran, device) {
        found.push(format!("TM-0: the host reaches private registers of {slot}"));
    }
    let Some(opening) = ran.openings.iter().find(|opening| opening.slot == *slot) else {
        found.push(format!("runner: nobody saw the DMA of {slot} open"));
        return;
    };
    let Some(payload) = ran.payload() else { return };
    let kept = measured::region(payload.tree, "evidence");
    for (kind, object) in &opening.evidence {
        if !kept.windows(object.len()).any(|window| window == object) {
            found.push(format!("TM-0: {slot} was accepted with another {kind:?} than the RMM vouches for"));
        }
    }
}

/// The firmware stopped the boot.
fn stopped(ran: &Ran, leaks: &[&str], found: &mut Vec<String>) {
    for device in &ran.state.devices {
        let slot = &device.slot;
        let is_named = leaks.iter().any(|leak| leak.contains(&device.bdf));
        if device.dma == DmaGate::PrivateOnly && !is_named {
            found.push(format!("TM-6: {slot} keeps private DMA, and nobody says so"));
        }
        let is_back =
            device.state == TdiState::Unlocked && matches!(device.rmm_state, None | Some(TdiState::Unlocked));
        if !is_back && !is_named && is_ours(ran, device) {
            let states = (device.state, device.rmm_state);
            found.push(format!("TM-6: {slot} is left in {states:?}, and nobody says so"));
        }
        if is_ours(ran, device) && device.command != 0 && !is_named && !is_ghost(ran) {
            found.push(format!(
                "TM-6: {slot} still decodes or masters: {:#x}, and nobody says so",
                device.command
            ));
        }
        if !device.dev_ranges.is_empty() && !is_named {
            found.push(format!("TM-6: {slot} keeps private pages, and nobody says so"));
        }
        let vdev = format!("vdev {:#x}: unlock: ", routing_id(&device.bdf).unwrap_or(0));
        if device.operation_pending && !is_named && !ran.log.iter().any(|line| line.contains(&vdev)) {
            found.push(format!("TM-6: an operation of {slot} is still going on, and nobody says so"));
        }
    }
    shared(ran, leaks, found);
}

/// The firmware locked the device, and nobody came to it after the firmware unlocked it.
fn is_ours(ran: &Ran, device: &DeviceState) -> bool {
    let rid = routing_id(&device.bdf).map(u64::from);
    let last = |fits: &dyn Fn(&Event) -> bool| ran.events.iter().rposition(fits);
    let moved = |to: u64| {
        last(&|event| {
            matches!(event, Event::Rhi { call, args, status, .. }
            if call == "RHI_DA_VDEV_SET_TDI_STATE" && args.first().copied() == rid && args[1] == to && *status <= 1)
        })
    };
    let lie = last(&|event| matches!(event, Event::Lie { .. }));
    moved(1).is_some() && !(moved(0).is_some() && lie > moved(0))
}

/// A lie about configuration space hides what the command register is: the firmware cannot see that it is not as written.
fn is_ghost(ran: &Ran) -> bool {
    ran.last_lie > 0 && ran.is_config_lie
}

/// The log that the payload is handed comes to the REMs that the RMM has (TM-2).
fn replayed(scenario: &Scenario, ran: &Ran, liar: Liar, found: &mut Vec<String>) {
    let Some(payload) = ran.payload().filter(|_| liar == Liar::Host) else { return };
    let hash = scenario.realm.hash;
    let log = measured::records(&measured::region(payload.tree, "log"), hash);
    let rems = measured::rems(&log, hash, scenario.realm.rem);
    let same = |(rem, told): (&Vec<u8>, &String)| rmm_model::digest::to_hex(rem) == *told;
    if !rems.iter().zip(&ran.state.rems).all(same) {
        found.push("TM-2: the log does not come to the REMs".to_owned());
    }
}

/// The shared window is private again, or named.
fn shared(ran: &Ran, leaks: &[&str], found: &mut Vec<String>) {
    let is_named = leaks.iter().any(|leak| leak.contains("leaked: the shared window"));
    if (!ran.state.shared.is_empty() || !ran.mapped.is_empty()) && !is_named {
        found.push("TM-6: memory is still shared, and nobody says so".to_owned());
    }
}
