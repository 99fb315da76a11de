//! Every scenario of the repository on the host, and every step of each failing once: whatever happens, what does not run is taken
//! back, and what could not be taken back is named.
mod common;

use common::{machine, *};
use rmm_model::Scenario;
use rmm_model::final_state::TdiState;
use rmm_model::machine::DmaGate;
use rmm_model::scenario::{EarlierSession, Lie, Misbehaviour, RhiCall, RsiCall, Rule};

/// Scenarios about what only a whole machine has: the bundle's bytes at a place, or a tree that does not arrive.
const MACHINE_ONLY: &[&str] = &["kernel-byte-flipped", "tree-truncated"];
/// Scenarios whose lie is a step of the way back: what it breaks is named.
const BREAK_THE_WAY_BACK: &[&str] = &["unlock-fails", "vf-unlock-fails", "window-not-returned"];
/// A call that one scenario makes more often is a host that is polled: of its occurrences so many fail, evenly spread.
const POLLED: usize = 400;
const POLLED_STEPS: usize = 40;

/// The steps that can fail, by their names in the trace.
const STEPS: [(&str, Step); 17] = [
    ("RSI_IPA_STATE_SET", Step::Rsi(RsiCall::IpaStateSet)),
    ("RSI_IPA_STATE_GET", Step::Rsi(RsiCall::IpaStateGet)),
    ("RSI_HOST_CALL", Step::Rsi(RsiCall::HostCall)),
    ("RSI_MEASUREMENT_READ", Step::Rsi(RsiCall::MeasurementRead)),
    ("RSI_VDEV_GET_INFO", Step::Rsi(RsiCall::VdevGetInfo)),
    ("RSI_VDEV_VALIDATE_MAPPING", Step::Rsi(RsiCall::VdevValidateMapping)),
    ("RSI_VDEV_DMA_ENABLE", Step::Rsi(RsiCall::VdevDmaEnable)),
    ("RHI_DA_VERSION", Step::Rhi(RhiCall::DaVersion)),
    ("RHI_DA_FEATURES", Step::Rhi(RhiCall::DaFeatures)),
    ("RHI_HOSTCONF_VERSION", Step::Rhi(RhiCall::HostconfVersion)),
    ("RHI_HOSTCONF_GET_IPA_CHANGE_ALIGNMENT", Step::Rhi(RhiCall::HostconfGetIpaChangeAlignment)),
    ("RHI_DA_VDEV_SET_TDI_STATE", Step::Rhi(RhiCall::DaVdevSetTdiState)),
    ("RHI_DA_VDEV_GET_INTERFACE_REPORT", Step::Rhi(RhiCall::DaVdevGetInterfaceReport)),
    ("RHI_DA_VDEV_GET_MEASUREMENTS", Step::Rhi(RhiCall::DaVdevGetMeasurements)),
    ("RHI_DA_VDEV_CONTINUE", Step::Rhi(RhiCall::DaVdevContinue)),
    ("RHI_DA_OBJECT_SIZE", Step::Rhi(RhiCall::DaObjectSize)),
    ("RHI_DA_OBJECT_READ", Step::Rhi(RhiCall::DaObjectRead)),
];

#[derive(Clone, Copy)]
enum Step {
    Rsi(RsiCall),
    Rhi(RhiCall),
}

impl Step {
    fn fails(self) -> Lie {
        match self {
            Self::Rsi(call) => Lie::RsiStatus { call, status: 4 },
            Self::Rhi(call) => Lie::RhiStatus { call, status: 6 },
        }
    }
}

fn scenarios() -> Vec<(String, Scenario)> {
    let mut found = machine::scenarios("");
    found.retain(|(name, scenario)| !MACHINE_ONLY.contains(&name.as_str()) && scenario.vmm.bundle.is_none());
    found
}

fn run(scenario: &Scenario) -> Ran {
    Boot { functions: machine::functions(scenario), rndr: false, ..Boot::new(scenario) }.run()
}

/// What must hold whatever happened. `may_leak`: the scenario breaks a step of the way back.
fn holds(name: &str, scenario: &Scenario, ran: &Ran, may_leak: bool) {
    let log = ran.log.join("\n");
    assert_eq!(ran.state.violations, Vec::<String>::new(), "{name}\n{log}");
    let leaks = ran.leaks();
    assert!(may_leak || leaks.is_empty(), "{name}: {leaks:?}\n{log}");
    for device in &ran.state.devices {
        let spec = scenario.device.iter().find(|spec| spec.slot == device.slot).unwrap();
        let runs = ran.result.is_ok() && device.state == TdiState::Run;
        if runs {
            assert!(device.tee_aliases.is_empty(), "{name} {}", device.slot);
            assert_ne!(device.dma, DmaGate::SharedOnly, "{name} {}", device.slot);
            continue;
        }
        let is_run = matches!(spec.expect.as_str(), "" | "run");
        let required = spec.tdi && spec.rule == Rule::Require && is_run;
        assert!(
            ran.result.is_err() || !required,
            "{name}: {} is required and does not run\n{log}",
            device.slot
        );
        assert_ne!(device.dma, DmaGate::PrivateOnly, "{name} {}", device.slot);
        if leaks.is_empty() {
            // A boot that stops before it comes to a device leaves it as the host had it.
            let as_found = spec.earlier != EarlierSession::None && ran.result.is_err();
            let unlocked = device.state == TdiState::Unlocked && device.rmm_state.is_none();
            let untouched = device.counters.rsi_calls == 0 || device.state == TdiState::Unlocked;
            assert!(unlocked || as_found && untouched, "{name} {}: {device:?}\n{log}", device.slot);
            assert!(device.dev_ranges.is_empty() && !device.operation_pending, "{name} {}", device.slot);
            let is_shared = spec.rule == Rule::Shared || spec.expect == "shared";
            let shown = ran.result.is_ok() && is_shared;
            assert_eq!(device.command == 0, !shown, "{name} {}\n{log}", device.slot);
        }
    }
    let is_window = |leak: &&str| leak.starts_with("the shared window");
    assert!(ran.state.shared.is_empty() || leaks.iter().any(is_window), "{name}");
}

#[test]
fn every_scenario_ends_clean_on_the_host_too() {
    let mut booted = 0;
    for (name, scenario) in scenarios() {
        let ran = run(&scenario);
        booted += usize::from(ran.result.is_ok());
        holds(&name, &scenario, &ran, BREAK_THE_WAY_BACK.contains(&name.as_str()));
        assert!(ran.state.lies.len() >= scenario.misbehaviour.len(), "{name}: a lie was not told");
    }
    assert!(booted >= 15, "{booted} scenarios boot");
}

#[test]
fn every_step_of_every_scenario_fails_once_and_leaves_nothing_behind() {
    let (mut boots, mut went_on) = (0u32, 0u32);
    for (name, scenario) in scenarios() {
        let plain = run(&scenario);
        for (call, step) in STEPS {
            let count = plain.calls().iter().filter(|made| made.0 == call).count();
            let step_by = if count > POLLED { count.div_ceil(POLLED_STEPS) } else { 1 };
            for at in (0..count).step_by(step_by) {
                let nth = u32::try_from(at + 1).unwrap();
                let mut broken = scenario.clone();
                broken.misbehaviour.push(Misbehaviour::at(step.fails(), nth));
                let ran = run(&broken);
                let what = format!("{name}, {call} number {nth}");
                // A failing IPA_STATE_SET or GET_INFO may be one of the way back: then it is named.
                let way_back = matches!(
                    step,
                    Step::Rsi(RsiCall::IpaStateSet | RsiCall::VdevGetInfo | RsiCall::HostCall)
                        | Step::Rhi(RhiCall::DaVdevSetTdiState | RhiCall::DaVdevContinue)
                );
                holds(&what, &broken, &ran, way_back || BREAK_THE_WAY_BACK.contains(&name.as_str()));
                (boots, went_on) = (boots + 1, went_on + u32::from(ran.result.is_ok()));
            }
        }
    }
    println!("{boots} boots, {went_on} went on to the payload");
    assert!(boots > 1500 && went_on < boots / 3, "{boots} boots, {went_on} went on");
}
