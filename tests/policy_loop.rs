//! The way to a policy, whole: an audit boot, capture, draft, and a boot under the draft.
mod common;

use common::machine::functions;
use common::*;
use gatehouse::codes::StopCode;
use gatehouse::policy::types::Mode;
use gatehouse_cli::policy::{capture, draft, evidence, toml};
use rmm_model::Scenario;
use rmm_model::abi::rhi::TDI_RUN;
use rmm_model::final_state::TdiState;
use rmm_model::scenario::{DeviceModel, DeviceSpec, EvidenceKind, RangeIds, ReportSpec, Rule};
use std::fs;
use std::path::{Path, PathBuf};

const AUDIT: &str = "version = 1\naudit = true\n";

fn run(scenario: &Scenario) -> Ran {
    Boot { functions: functions(scenario), ..Boot::new(scenario) }.run()
}

/// The scenario with this policy.
fn under(scenario: &Scenario, policy: &str) -> Scenario {
    let mut scenario = scenario.clone();
    scenario.bundle.policy = policy.into();
    scenario
}

/// Boots under audit: everything is recorded, nothing is accepted.
#[track_caller]
fn audit(scenario: &Scenario) -> Ran {
    let ran = run(&under(scenario, AUDIT));
    ran.stops_with(StopCode::AuditBoot, &[]);
    for device in &ran.state.devices {
        ran.is_taken_back(device);
        assert!(device.validated.is_empty(), "{}: {:x?}", device.slot, device.validated);
    }
    assert!(ran.state.shared.is_empty() && ran.mapped.is_empty());
    let calls = ran.calls();
    let made = |name: &str| calls.iter().filter(|call| call.0 == name).count();
    assert_eq!((made("RSI_VDEV_VALIDATE_MAPPING"), made("RSI_VDEV_DMA_ENABLE")), (0, 0));
    let states = calls.iter().filter(|call| call.0 == "RHI_DA_VDEV_SET_TDI_STATE").map(|call| call.1[1]);
    assert!(states.clone().all(|state| state != TDI_RUN), "{:?}", states.collect::<Vec<_>>());
    ran
}

/// Takes the evidence out of the log of a run, and writes it to a folder of this name.
fn captured(ran: &Ran, name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("policy-loop-{name}"));
    let _ = fs::remove_dir_all(&folder);
    let log: String = ran.log.iter().map(|line| format!("[gatehouse] INFO {line}\r\n")).collect();
    capture::store(&capture::collect(&log).unwrap(), &folder).unwrap();
    folder
}

/// Goes from an audit boot to the draft.
#[track_caller]
fn drafted(scenario: &Scenario, name: &str) -> String {
    let folder = captured(&audit(scenario), name);
    let text = draft::draft(&evidence::read(&folder).unwrap());
    if let Err(error) = toml::parse(&text, Path::new("")) {
        panic!("{error}\n{text}");
    }
    text
}

/// What a person does after the comment about idle checks.
fn quiet(text: &str) -> String {
    let mut asked = false;
    let mut line = |line: &str| {
        asked |= line.contains("no idle check");
        let answered = asked && line == "[[rule]]";
        asked &= !answered;
        if answered { format!("{line}\nquiet = \"device\"\n") } else { format!("{line}\n") }
    };
    text.lines().map(&mut line).collect()
}

/// Demands that these devices run, and no other.
#[track_caller]
fn runs(ran: &Ran, slots: &[&str]) {
    if let Err(stop) = &ran.result {
        panic!("{stop}\n{}", ran.log.join("\n"));
    }
    ran.is_sound();
    for device in &ran.state.devices {
        let state = if slots.contains(&device.slot.as_str()) { TdiState::Run } else { TdiState::Unlocked };
        assert_eq!(device.state, state, "{}\n{}", device.slot, ran.log.join("\n"));
    }
}

fn device(slot: &str) -> DeviceSpec {
    DeviceSpec { slot: slot.into(), ..DeviceSpec::default() }
}

#[test]
fn an_nvme_starts_under_the_draft_of_its_audit() {
    let scenario = plain();
    let text = drafted(&scenario, "nvme");
    assert!(!text.contains("# Review: the firmware would"), "{text}");
    let ran = run(&under(&scenario, &text));
    ran.boots();
    // Other firmware does not.
    let mut changed = under(&scenario, &text);
    let mut blocks = rmm_model::scenario::default_blocks();
    blocks[1].text = "ACME NVME firmware 3.3".into();
    changed.device[0].spdm.blocks = blocks;
    run(&changed).stops(StopCode::MeasurementMismatch);
}

#[test]
fn an_rmm_with_a_nonce_of_its_own_is_drafted_so() {
    let mut scenario = plain();
    scenario.device[0].spdm.forwards_nonce = false;
    let text = drafted(&scenario, "nonce");
    assert!(text.contains("[rmm]\nforwards-nonce = false\n"), "{text}");
    run(&under(&scenario, &text)).boots();
}

#[test]
fn devices_behind_bridges_and_functions_of_one_unit_start_under_the_draft() {
    let mut scenario: Scenario = ::toml::from_str(include_str!("data/scenarios/topology.toml")).unwrap();
    // Two disks behind one switch.
    scenario.device.push(device("05.0/00.0/01.0/00.0"));
    let text = drafted(&scenario, "topology");
    let policy = toml::parse(&text, Path::new("")).unwrap();
    let same: Vec<_> = policy.rules.iter().filter(|rule| rule.same_unit).map(|rule| &*rule.name).collect();
    assert_eq!(same, ["slot-14.0", "slot-14.2", "slot-14.4", "slot-14.6"]);
    assert_eq!(text.matches("# Several functions show this leaf key").count(), 4);
    assert_eq!(policy.rules[0].count, 4, "a root port, and the ports of a switch");
    // The draft asks about what has no idle check, and stops at it until somebody answers.
    assert_eq!(text.matches("no idle check").count(), 5);
    let slots: Vec<_> = scenario.device.iter().map(|device| device.slot.as_str()).collect();
    let text = quiet(&text);
    runs(&run(&under(&scenario, &text)), &slots);
    // Without what it says of equal keys the second function is refused.
    let text = text.replace("same-unit = true\n", "");
    run(&under(&scenario, &text)).stops_with(StopCode::SameUnit, &[]);
}

#[test]
fn a_device_without_doe_starts_under_the_draft() {
    let mut scenario = plain();
    scenario.device[0].evidence = EvidenceKind::None;
    let folder = captured(&audit(&scenario), "no-doe");
    let function = folder.join(SLOT);
    assert!(function.join("report.bin").exists() && !function.join("vca.bin").exists());
    let text = drafted(&scenario, "no-doe");
    assert!(text.contains("evidence = \"platform\""), "{text}");
    run(&under(&scenario, &text)).boots();
    // An RMM that writes reports numbers ranges in its own way.
    scenario.device[0].report = ReportSpec { ids: RangeIds::HighByte, ..ReportSpec::default() };
    let text = drafted(&scenario, "high-ids");
    assert!(text.contains("quirks = [\"high-ids\"]"), "{text}");
    run(&under(&scenario, &text)).boots();
}

#[test]
fn an_unsigned_device_is_drafted_as_one_that_nobody_vouches_for() {
    let mut scenario = plain();
    scenario.device[0].spdm.signed = false;
    scenario.bundle.os = "native".into();
    let text = drafted(&scenario, "unsigned");
    let policy = toml::parse(&text, Path::new("")).unwrap();
    assert_eq!((policy.anchors.len(), &*policy.rules[0].modes), (0, &[Mode::Pin][..]));
    assert!(text.contains("evidence = \"unauthenticated\""), "{text}");
    runs(&run(&under(&scenario, &text)), &[]);
}

#[test]
fn what_the_firmware_would_refuse_is_said_in_the_draft() {
    let mut scenario = plain();
    scenario.device[0].spdm.content_changed = 1;
    // ATS on.
    scenario.device[0].interface_info = 0b1011;
    let text = drafted(&scenario, "objections");
    for objection in ["content changed", "report.ats-allowed = true"] {
        let line = text.lines().find(|line| line.contains(objection)).unwrap();
        assert!(line.starts_with("# Review: the firmware would refuse it: "), "{line}");
    }
    run(&under(&scenario, &text)).stops(StopCode::ContentChanged);
}

#[test]
fn an_audit_takes_no_device_whatever_its_policy_says() {
    let mut scenario = plain();
    scenario.device.push(DeviceSpec { model: DeviceModel::Ahci, rule: Rule::Optional, ..device("06.0") });
    scenario.device.push(DeviceSpec { rule: Rule::None, ..device("07.0") });
    scenario.bundle.policy_head = "audit = true".into();
    let ran = run(&scenario);
    ran.stops_with(StopCode::AuditBoot, &[]);
    ran.state.devices.iter().for_each(|device| ran.is_taken_back(device));
    assert!(ran.state.devices.iter().all(|device| device.validated.is_empty()));
    // What no rule takes is recorded as well.
    let functions = capture::collect(&ran.log.join("\n")).unwrap();
    let slots: Vec<_> = functions.keys().map(ToString::to_string).collect();
    assert_eq!(slots, ["02.0", "06.0", "07.0"]);
}

#[test]
fn a_folder_that_is_no_evidence_is_named_with_its_file() {
    let folder = captured(&audit(&plain()), "broken");
    let function = folder.join(SLOT);
    let error = || evidence::read(&folder).unwrap_err();
    let broken = |file: &str, bytes: &[u8]| {
        let path = function.join(file);
        let whole = fs::read(&path).unwrap();
        fs::write(&path, bytes).unwrap();
        let error = error();
        fs::write(&path, whole).unwrap();
        assert_eq!(error.file, path, "{error}");
        error.what
    };
    for object in ["certificate.bin", "vca.bin", "measurements.bin", "report.bin"] {
        broken(object, b"no such thing");
        broken(object, b"");
    }
    assert_eq!(broken("function.toml", b"slot = 2"), "slot is missing or no text");
    assert_eq!(
        broken("function.toml", b"slot = \"02.0\"\nvendor = 0x10000"),
        "vendor is missing or no number of 16 bits"
    );
    fs::remove_dir_all(&function).unwrap();
    assert!(error().what.starts_with("no folder of a function"));
}
