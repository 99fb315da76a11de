//! The way of two devices, from found to handed over, against a host that may act at every call: all sequences of up to
//! so many acts, exhaustively.

use crate::bench::{self, Ran, Setting};
use crate::judge::{Liar, judge};
use crate::runner::{Block, Line, Told};
use rmm_model::Scenario;
use rmm_model::abi::rhi;
use rmm_model::record::Event;
use rmm_model::scenario::{Act, Asym, Crossing, Deed, DeviceSpec, Injection, RhiCall, RsiCall};
use std::collections::{BTreeMap, BTreeSet};

/// Most acts of the host in one boot.
const DEPTH: usize = 2;
/// The two devices.
const SLOTS: [&str; 2] = ["02.0", "04.0"];

/// The calls of the way of a device.
const CALLS: [(&str, Crossing); 9] = [
    ("RSI_VDEV_GET_INFO", Crossing::Rsi(RsiCall::VdevGetInfo)),
    ("RSI_VDEV_VALIDATE_MAPPING", Crossing::Rsi(RsiCall::VdevValidateMapping)),
    ("RSI_VDEV_DMA_ENABLE", Crossing::Rsi(RsiCall::VdevDmaEnable)),
    ("RSI_VDEV_DMA_DISABLE", Crossing::Rsi(RsiCall::VdevDmaDisable)),
    ("RHI_DA_VDEV_SET_TDI_STATE", Crossing::Rhi(RhiCall::DaVdevSetTdiState)),
    ("RHI_DA_VDEV_GET_INTERFACE_REPORT", Crossing::Rhi(RhiCall::DaVdevGetInterfaceReport)),
    ("RHI_DA_VDEV_GET_MEASUREMENTS", Crossing::Rhi(RhiCall::DaVdevGetMeasurements)),
    ("RHI_DA_OBJECT_READ", Crossing::Rhi(RhiCall::DaObjectRead)),
    ("RHI_DA_VDEV_ABORT", Crossing::Rhi(RhiCall::DaVdevAbort)),
];

/// What the host may do to each device before a call.
const DEEDS: [Deed; 6] = [
    Deed::Relock,
    Deed::Unlock,
    Deed::Error,
    Deed::RefreshMeasurements,
    Deed::RefreshReport,
    Deed::DestroyDev,
];

/// Two NVMes, both required.
fn scenario() -> Scenario {
    let device = |slot: &str| {
        let mut spec = DeviceSpec { slot: slot.into(), ..DeviceSpec::default() };
        spec.spdm.asym = Asym::P256;
        spec
    };
    Scenario { device: SLOTS.map(device).to_vec(), config_records: false, ..Scenario::default() }
}

fn run(plan: &[Injection]) -> (Scenario, Ran) {
    let scenario = Scenario { injection: plan.to_vec(), ..scenario() };
    let ran = bench::run(&scenario, false, Setting { states: true, ..Setting::default() });
    (scenario, ran)
}

/// What the host can do next: at each call behind its last act.
fn next(plan: &[Injection], ran: &Ran) -> Vec<Injection> {
    let mut seen: BTreeMap<Crossing, u32> = BTreeMap::new();
    let last = plan.last().map(|last| (last.at, last.nth));
    let mut is_behind = last.is_none();
    let mut found = Vec::new();
    for event in &ran.events {
        let (Event::Rsi { call, .. } | Event::Rhi { call, .. }) = event else { continue };
        let Some((_, at)) = CALLS.iter().find(|(name, _)| name == call) else { continue };
        let nth = seen.entry(*at).or_insert(0);
        *nth += 1;
        if !is_behind {
            is_behind = last == Some((*at, *nth));
            continue;
        }
        let act = |act, device: &str| Injection { at: *at, nth: *nth, count: 1, act, device: device.into() };
        if let Crossing::Rhi(_) = at {
            found.extend([rhi::SUCCESS, rhi::DEVICE].map(|status| act(Act::Refuse(status), "")));
        }
        for slot in SLOTS {
            found.extend(DEEDS.map(|deed| act(Act::Before(deed), slot)));
        }
    }
    found
}

/// All that follows from one first act.
struct Found {
    boots: usize,
    states: BTreeSet<u64>,
    violations: Vec<String>,
}

fn explore(plan: &mut Vec<Injection>, found: &mut Found) {
    let (scenario, ran) = run(plan);
    found.boots += 1;
    found.states.extend(&ran.states);
    let verdict = judge(&scenario, &ran, Liar::Host);
    found.violations.extend(verdict.violations.iter().map(|text| format!("{plan:?}: {text}")));
    if plan.len() < DEPTH {
        for act in next(plan, &ran) {
            plan.push(act);
            explore(plan, found);
            plan.pop();
        }
    }
}

/// Explores behind the first acts with these numbers; a line for each, with the states as violations `#`.
pub fn block(numbers: &[usize]) -> Result<(), String> {
    let (_, honest) = run(&[]);
    let first = next(&[], &honest);
    for number in numbers {
        let mut found = Found { boots: 0, states: BTreeSet::new(), violations: Vec::new() };
        explore(&mut vec![first[*number].clone()], &mut found);
        let mut lines = vec![format!("#{}", found.boots)];
        lines.extend(found.states.iter().map(|state| format!("#{state:x}")));
        lines.extend(found.violations);
        let outcome = crate::judge::Outcome::Boots;
        Line { told: Told::Yes, outcome, violations: lines }.print(*number);
    }
    Ok(())
}

/// Explores everything and says how much it was.
pub fn all() -> Result<bool, String> {
    let (scenario, honest) = run(&[]);
    let verdict = judge(&scenario, &honest, Liar::Host);
    if !verdict.violations.is_empty() {
        return Err(format!("the honest boot is wrong: {:?}", verdict.violations));
    }
    let first = next(&[], &honest);
    let numbers: Vec<usize> = (0..first.len()).collect();
    let (mut boots, mut states, mut violations) = (1, honest.states.clone(), 0);
    for (_, line) in Block::Explore.run(&numbers) {
        let (counts, wrong): (Vec<_>, Vec<_>) =
            line.violations.iter().partition(|text| text.starts_with('#'));
        boots += counts.first().and_then(|text| text[1..].parse::<usize>().ok()).unwrap_or(0);
        states.extend(counts.iter().skip(1).filter_map(|text| u64::from_str_radix(&text[1..], 16).ok()));
        for text in wrong {
            violations += 1;
            if violations <= 40 {
                println!("{text}");
            }
        }
    }
    println!(
        "two devices, up to {DEPTH} acts of the host: {boots} boots, {} states, {violations} violations",
        states.len()
    );
    let (word, passed, failed) = if violations == 0 { ("ok", 1, 0) } else { ("FAILED", 0, 1) };
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored");
    Ok(violations == 0)
}
