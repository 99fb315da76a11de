//! What the host tool foresees is what the firmware does: the same events, byte for byte, over all scenarios of the suite.
mod common;

use common::image::pack_for;
use common::measured::region;
use common::*;
use gatehouse::abi::eventlog::tag;
use gatehouse::eventlog::{Event, rem};
use gatehouse::policy::cbor;
use gatehouse::policy::types::{Mode, OnFailure, Policy, Rest};
use gatehouse::rsi::HashAlgorithm;
use gatehouse_cli::eventlog::EventLog;
use gatehouse_cli::foresee::{Foreseen, foresee};
use gatehouse_cli::inspect::Image;
use gatehouse_cli::rem::RemRule;
use rmm_model::Scenario;
use rmm_model::digest::{HashAlgorithm as ModelHash, to_hex};
use rmm_model::scenario::RemRule as ModelRule;
use std::path::Path;

fn policy_of(scenario: &Scenario) -> Option<Policy> {
    let text = scenario.policy_toml()?;
    Some(gatehouse_cli::policy::toml::parse(&text, Path::new("")).unwrap_or_else(|error| panic!("{error}")))
}

/// The same policy, under which no boot stops for what a device is.
fn tolerant(policy: &Policy) -> Policy {
    let mut policy = policy.clone();
    policy.rest = Rest::Hide;
    for rule in &mut policy.rules {
        rule.required = false;
        if rule.on_failure == OnFailure::Stop {
            rule.on_failure = OnFailure::Hide;
        }
    }
    policy
}

fn run(scenario: &Scenario) -> Ran {
    Boot { functions: machine::functions(scenario), ..Boot::new(scenario) }.run()
}

/// What a boot extended into REM 1 and 2: index and value.
fn extended(ran: &Ran) -> Vec<(u64, Vec<u8>)> {
    let value = |args: &[u64]| -> Vec<u8> {
        let bytes: Vec<u8> = args[2..].iter().flat_map(|word| word.to_le_bytes()).collect();
        bytes[..args[1] as usize].to_vec()
    };
    let calls = ran.calls();
    let extends = calls.iter().filter(|call| call.0 == "RSI_MEASUREMENT_EXTEND" && call.1[0] <= 2);
    extends.map(|call| (call.1[0], value(call.1))).collect()
}

/// A device failed behind its verdict.
fn is_late(ran: &Ran) -> bool {
    let late = ["Map", "Start", "Idle"].map(|stage| format!("-> refused at {stage}"));
    ran.log.iter().any(|line| late.iter().any(|late| line.contains(late)))
}

fn hash(of: ModelHash) -> HashAlgorithm {
    match of {
        ModelHash::Sha256 => HashAlgorithm::Sha256,
        ModelHash::Sha384 => HashAlgorithm::Sha384,
        ModelHash::Sha512 => HashAlgorithm::Sha512,
    }
}

/// The events of REM 1 and 2, as [`extended`] has them.
fn values(foreseen: &Foreseen, hash: HashAlgorithm) -> Vec<(u64, Vec<u8>)> {
    let index = |event: &Event| rem(event.pcr).filter(|rem| *rem <= 2).map(u64::from);
    let value = |event: &Event| Some((index(event)?, event.digest(hash).as_bytes().to_vec()));
    foreseen.events.iter().filter_map(value).collect()
}

/// The event of the scenario's bundle.
fn bundle_event(scenario: &Scenario) -> Event {
    Image::read(&pack_for(scenario).build().unwrap().image_bytes).unwrap().bundle_event().unwrap()
}

fn recorded(scenario: &Scenario, ran: &Ran, policy: &Policy, with_bundle: bool) -> Foreseen {
    let tree = ran.result.as_ref().unwrap().tree;
    let (log, evidence) = (region(tree, "log"), region(tree, "evidence"));
    let log = EventLog::read(&log).unwrap_or_else(|error| panic!("{error}"));
    let evidence = gatehouse_cli::region::read(&evidence).unwrap();
    let event = with_bundle.then(|| bundle_event(scenario));
    foresee(&log, &evidence, policy, event).unwrap()
}

/// Scenarios whose steps go well until the devices are judged, in both boots alike.
fn all() -> Vec<(String, Scenario, Policy)> {
    let scenarios = machine::scenarios("").into_iter().chain(machine::scenarios("evidence"));
    scenarios
        .filter_map(|(name, scenario)| {
            Some((name, policy_of(&scenario)?)).map(|(name, policy)| (name, scenario, policy))
        })
        .collect()
}

#[test]
fn the_rems_of_a_good_boot_are_predicted() {
    let mut count = 0;
    for (name, scenario, policy) in all() {
        let ran = run(&scenario);
        // A device that fails behind its verdict makes no good boot.
        if ran.result.is_err() || is_late(&ran) {
            continue;
        }
        let foreseen = recorded(&scenario, &ran, &policy, true);
        let rule = match scenario.realm.rem {
            ModelRule::TfRmm => RemRule::TfRmm,
            ModelRule::Spec => RemRule::Spec,
        };
        let rems = foreseen
            .rems(rule)
            .unwrap_or_else(|| panic!("{name}: {:?} {:?}", foreseen.stop, foreseen.unknown));
        assert_eq!(ran.state.rems[..3], rems.map(|rem| to_hex(&rem)), "{name}");
        count += 1;
    }
    assert!(count > 20, "{count}");
}

#[test]
fn another_policy_over_recorded_evidence_gives_the_events_of_a_boot_under_it() {
    let (mut handed_off, mut stopped) = (0, 0);
    for (name, scenario, policy) in all() {
        let mut lenient = scenario.clone();
        lenient.bundle.policy = gatehouse_cli::policy::toml::print(&tolerant(&policy));
        let captured = run(&lenient);
        let real = run(&scenario);
        // A lie that one boot meets and the other does not, or that ends both, says nothing about policies.
        let Ok(_) = &captured.result else { continue };
        if real.code().is_some_and(|code| !matches!(code.number(), 3002 | 3004 | 4020..=4999)) {
            continue;
        }
        let foreseen = recorded(&scenario, &captured, &policy, false);
        let (found, wanted) = (values(&foreseen, hash(scenario.realm.hash)), extended(&real));
        assert_eq!(foreseen.stop, real.code(), "{name}\n{}", real.log.join("\n"));
        assert!(!wanted.is_empty());
        let is_outcome =
            |event: &Event| event.kind == 6 && event.data.starts_with(&tag::OUTCOME.to_le_bytes());
        let decided = foreseen.events.iter().position(is_outcome).unwrap_or(found.len());
        let len = if is_late(&real) { decided } else { found.len().max(wanted.len()) };
        assert_eq!(found[..len.min(found.len())], wanted[..len.min(wanted.len())], "{name}");
        if real.result.is_ok() { handed_off += 1 } else { stopped += 1 }
    }
    assert!(handed_off > 15 && stopped > 30, "{handed_off} {stopped}");
}

#[test]
fn a_policy_that_hides_a_device_or_wants_another_is_foreseen() {
    let scenario = plain();
    let policy = policy_of(&scenario).unwrap();
    let ran = boot(&scenario);
    let mut hides = policy.clone();
    hides.rules.iter_mut().filter(|rule| rule.is_for_functions()).for_each(|rule| {
        (rule.required, rule.on_failure) = (false, OnFailure::Hide);
        rule.modes = vec![Mode::Hide];
    });
    let foreseen = recorded(&scenario, &ran, &hides, true);
    assert_eq!((foreseen.stop, foreseen.rems(RemRule::TfRmm).is_some()), (None, true));
    assert_ne!(
        foreseen.rems(RemRule::TfRmm).unwrap()[1],
        recorded(&scenario, &ran, &policy, true).rems(RemRule::TfRmm).unwrap()[1]
    );
    assert!(cbor::encode(&hides) != cbor::encode(&policy));
}

#[test]
fn what_is_foreseen_is_told_in_text_and_json() {
    let scenario = plain();
    let ran = boot(&scenario);
    let policy = tolerant(&policy_of(&scenario).unwrap());
    let text = recorded(&scenario, &ran, &policy, true).to_text();
    assert!(text.contains("REM 3  tf-rmm"), "{text}");
    let row = |slot: &str| {
        text.lines().find(|line| line.starts_with(slot)).unwrap().split_whitespace().collect::<Vec<_>>()
    };
    assert_eq!(row("02.0")[2..], ["accepted", "run", "-"]);
    let json = recorded(&scenario, &ran, &policy, false).to_json();
    let device = |slot: &str| {
        json["devices"].as_array().unwrap().iter().find(|device| device["slot"] == slot).unwrap().clone()
    };
    assert_eq!(
        (&device("02.0")["verdict"], &device("03.0")["verdict"]),
        (&"accepted".into(), &"extra".into())
    );
    let mut unsigned = policy;
    unsigned.anchors.clear();
    unsigned.rules.iter_mut().for_each(|rule| rule.on_failure = OnFailure::Stop);
    let text = recorded(&scenario, &ran, &unsigned, true).to_text();
    assert!(text.contains("The boot would stop with GH-4101"), "{text}");
}
