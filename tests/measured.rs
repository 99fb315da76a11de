//! Event log and REMs: what was extended is in the log, in the order that docs/event-log.md has, and nothing else.
mod common;

use common::image::Image;
use common::measured::{Record, records, region, rems};
use common::*;
use gatehouse::fdt::check::Tree;
use gatehouse_cli::eventlog::{Device, EventLog};
use rmm_model::Scenario;
use rmm_model::digest::{HashAlgorithm, to_hex};
use rmm_model::scenario::{DeviceSpec, Lie, Misbehaviour, RemRule, RhiCall, RsiCall, Rule};
use rmm_model::sim::SimFunction;
use std::process::Command;

const TAG: u32 = 6;

/// The tag of a tagged event.
fn tag(record: &Record) -> Option<u32> {
    let number = u32::from_le_bytes(record.data.first_chunk().copied()?);
    (record.kind == TAG).then(|| number - 0x4748_0000)
}

fn recorded(ran: &Ran, scenario: &Scenario) -> Vec<Record> {
    let payload = ran.result.as_ref().unwrap_or_else(|stop| panic!("{stop}\n{}", ran.log.join("\n")));
    records(&region(payload.tree, "log"), scenario.realm.hash)
}

/// Four NVMes on bus 0.
fn four(latencies: [u32; 4]) -> (Scenario, Vec<SimFunction>) {
    let mut scenario = plain();
    let device = |(slot, steps): (u8, u32)| DeviceSpec {
        slot: format!("{slot:02x}.0"),
        rule: Rule::Require,
        incomplete: Some(steps),
        ..DeviceSpec::default()
    };
    scenario.device = (2..).zip(latencies).map(device).collect();
    let nvmes = (2..6).map(|slot| SimFunction::nvme(slot, 0));
    (scenario, [SimFunction::host_bridge()].into_iter().chain(nvmes).collect())
}

#[test]
fn the_log_comes_to_the_rems_under_both_formulas_and_all_hashes() {
    for hash in [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512] {
        for rule in [RemRule::TfRmm, RemRule::Spec] {
            let mut scenario = plain();
            (scenario.realm.hash, scenario.realm.rem) = (hash, rule);
            let ran = boot(&scenario);
            let records = recorded(&ran, &scenario);
            let wanted = rems(&records, hash, rule).map(|rem| to_hex(&rem));
            assert_eq!(ran.state.rems, wanted, "{hash:?} {rule:?}");
            assert!(wanted.iter().all(|rem| rem.bytes().any(|digit| digit != b'0')));
        }
    }
}

#[test]
fn each_decision_is_extended_before_it_is_acted_on_and_each_outcome_after() {
    let scenario = plain();
    let ran = boot(&scenario);
    let records = recorded(&ran, &scenario);
    let calls = ran.calls();
    let extended: Vec<usize> =
        (0..calls.len()).filter(|at| calls[*at].0 == "RSI_MEASUREMENT_EXTEND").collect();
    assert_eq!(extended.len(), records.len());
    for (at, record) in extended.iter().zip(&records) {
        let value: Vec<u8> = calls[*at].1[2..].iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(calls[*at].1[1] as usize, record.digest.len());
        assert_eq!(value[..record.digest.len()], record.digest);
    }
    let first = |name: &str| calls.iter().position(|call| call.0 == name).unwrap();
    let last = |name: &str| calls.iter().rposition(|call| call.0 == name).unwrap();
    let of = |wanted: u32| -> Vec<usize> {
        let is_it = |(at, record): (&usize, &Record)| (tag(record) == Some(wanted)).then_some(*at);
        extended.iter().zip(&records).filter_map(is_it).collect()
    };
    let policy = extended[records.iter().position(|record| record.kind == 0x8000_00e3).unwrap()];
    assert!(policy < first("RSI_HOST_CALL").min(first("RHI_DA_VERSION")), "policy before the host is asked");
    assert!(
        of(2).iter().all(|at| *at < first("RHI_DA_VDEV_SET_TDI_STATE")),
        "inventory before the first lock"
    );
    let mapped = first("RSI_VDEV_VALIDATE_MAPPING");
    assert!(of(3).iter().chain(&of(4)).all(|at| last("RHI_DA_OBJECT_READ") < *at && *at < mapped));
    assert!(of(5).iter().all(|at| *at > mapped));
    let started = last("RHI_DA_VDEV_SET_TDI_STATE");
    assert!(of(6).iter().all(|at| *at > started), "outcome after RUN");
    let ends: Vec<usize> = (0..records.len()).filter(|at| records[*at].kind == 4).collect();
    assert_eq!(
        ends,
        (records.len() - 4..records.len()).collect::<Vec<_>>(),
        "separators are the last events"
    );
    assert!(*extended.last().unwrap() < first("RSI_VDEV_DMA_ENABLE"));
    // The NVMe, and two functions that no rule takes.
    assert_eq!((of(1).len(), of(2).len(), of(3).len(), of(4).len()), (1, 3, 1, 3));
    assert_eq!((of(5).len(), of(6).len(), of(7).len()), (1, 1, 1));
}

#[test]
fn the_first_three_rems_do_not_depend_on_how_long_each_device_takes() {
    let run = |latencies| {
        let (scenario, functions) = four(latencies);
        let ran = Boot { functions, ..Boot::new(&scenario) }.run();
        assert_eq!(recorded(&ran, &scenario).iter().filter(|record| tag(record) == Some(6)).count(), 4);
        ran.state.rems
    };
    let (one, other) = (run([0, 9, 3, 1]), run([7, 0, 2, 30]));
    assert_eq!(one[..3], other[..3]);
}

#[test]
fn another_policy_command_line_or_device_is_in_the_rems() {
    let first = boot(&plain()).state.rems;
    let mut scenario = plain();
    scenario.bundle.policy_head = "svn = 7\n".into();
    let policy = boot(&scenario).state.rems;
    assert!(policy[0] != first[0] && policy[1] == first[1]);
    let scenario = plain();
    let mut pack = image::pack_for(&scenario);
    pack.cmdline = "other".into();
    let ran = Boot { image: Image::packed(&pack), ..Boot::new(&scenario) }.run();
    assert!(ran.state.rems[..2] == first[..2] && ran.state.rems[2] != first[2]);
    let mut scenario = plain();
    scenario.device[0].slot = "04.0".into();
    let functions = vec![SimFunction::host_bridge(), SimFunction::edu(3, 0), SimFunction::nvme(4, 0)];
    let ran = Boot { functions, ..Boot::new(&scenario) }.run();
    assert_ne!(ran.state.rems[1], first[1]);
}

#[test]
fn the_tree_is_measured_with_zeros_for_its_seeds() {
    let scenario = plain();
    let ran = boot(&scenario);
    let mut blob = tree_at(ran.boots().tree);
    let seeds: Vec<Vec<u8>> = {
        let tree = Tree::check(blob.clone()).unwrap();
        let reader = tree.reader().unwrap();
        let chosen = reader.find_node("/chosen").unwrap();
        ["rng-seed", "kaslr-seed"].map(|name| chosen.property(name).unwrap().value.to_vec()).into()
    };
    for seed in seeds {
        let at = blob.windows(seed.len()).position(|bytes| bytes == seed).unwrap();
        blob[at..at + seed.len()].fill(0);
    }
    let digest = scenario.realm.hash.digest(&[&blob]);
    let records = recorded(&ran, &scenario);
    let tree = records.iter().find(|record| tag(record) == Some(7)).unwrap();
    assert!(tree.data.ends_with(&digest));
}

#[test]
fn tpm2_eventlog_reads_the_log_without_a_complaint() {
    if Command::new("tpm2_eventlog").arg("--version").output().is_err() {
        println!("skipped: no tpm2_eventlog here");
        return;
    }
    for hash in [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512] {
        let mut scenario = plain();
        scenario.realm.hash = hash;
        let ran = boot(&scenario);
        let file = std::env::temp_dir().join(format!("gatehouse-log-{}-{hash:?}", std::process::id()));
        std::fs::write(&file, region(ran.boots().tree, "log")).unwrap();
        let output = Command::new("tpm2_eventlog").arg(&file).output().unwrap();
        std::fs::remove_file(&file).unwrap();
        let (text, complaint) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && complaint.is_empty(), "{complaint}\n{text}");
        let events = text.lines().filter(|line| line.contains("EventNum:")).count();
        assert_eq!(events, recorded(&ran, &scenario).len() + 1);
    }
}

/// Slot, or rule of what is missing; verdict, mode, state and code, as somebody reads them who has token and log only.
fn told(ran: &Ran, scenario: &Scenario) -> Vec<String> {
    let bytes = region(ran.result.as_ref().unwrap().tree, "log");
    let log = EventLog::read(&bytes)
        .unwrap_or_else(|error| panic!("{}: {error} {:02x?}", scenario.name, &bytes[..80]));
    let wanted = rems(&records(&bytes, scenario.realm.hash), scenario.realm.hash, scenario.realm.rem);
    assert_eq!(ran.state.rems, wanted.map(|rem| to_hex(&rem)));
    let line = |device: Device| {
        let name = device.slot.or(device.rule).unwrap_or_default();
        let state = device.state.map_or("-", |state| state.word());
        format!("{name} {} {} {state} {}", device.judgement, device.mode, device.code)
    };
    log.devices().into_iter().map(line).collect()
}

#[test]
fn a_verifier_with_token_and_log_tells_each_verdict_and_mode() {
    let mut scenario = plain();
    let device = |slot: &str| DeviceSpec { slot: slot.into(), ..DeviceSpec::default() };
    scenario.device = vec![device("02.0"), device("04.0"), device("05.0")];
    let rule = |name: &str, slot: &str, rest: &str| {
        format!("[[rule]]\nname = \"{name}\"\nslot = \"{slot}\"\nmeasurements = \"any\"\n{rest}\n")
    };
    let rules = [
        rule("disk", "02.0", "modes = [\"run\"]"),
        rule("late", "04.0", "modes = [\"run\"]\nrequired = false\non-failure = \"hide\""),
        rule("fallen", "05.0", "modes = [\"run\"]\nrequired = false\non-failure = \"shared\""),
        rule("hidden", "03.0", "modes = [\"hide\"]\nrequired = false"),
        rule("gone", "1f.0", "modes = [\"run\"]\nrequired = false\non-failure = \"hide\""),
    ];
    let anchors: String =
        scenario.policy_toml().unwrap().split("[[rule]]").next().unwrap_or_default().to_owned();
    scenario.bundle.policy = anchors + &rules.concat();
    let refused = |lie, slot: &str| Misbehaviour { device: slot.into(), ..Misbehaviour::once(lie) };
    scenario.misbehaviour = vec![
        refused(Lie::RhiStatus { call: RhiCall::DaVdevGetMeasurements, status: 6 }, "05.0"),
        refused(Lie::RsiStatus { call: RsiCall::VdevValidateMapping, status: 1 }, "04.0"),
    ];
    let functions = vec![
        SimFunction::host_bridge(),
        SimFunction::virtio_net(1, 0),
        SimFunction::nvme(2, 0),
        SimFunction::edu(3, 0),
        SimFunction::nvme(4, 0),
        SimFunction::nvme(5, 0),
    ];
    let ran = Boot { functions, ..Boot::new(&scenario) }.run();
    assert_eq!(
        told(&ran, &scenario),
        [
            "01.0 extra hide - 0",
            "02.0 accepted run run 0",
            "03.0 accepted hide - 0",
            "04.0 refused hide unlocked 5001",
            "05.0 refused shared unlocked 4020",
            "gone missing none - 3002",
        ]
    );
}

#[test]
fn every_scenario_that_hands_off_leaves_a_log_in_the_documented_form() {
    let mut count = 0;
    for (name, scenario) in machine::scenarios("").into_iter().chain(machine::scenarios("evidence")) {
        let ran = Boot { functions: machine::functions(&scenario), ..Boot::new(&scenario) }.run();
        if ran.result.is_ok() {
            assert!(!told(&ran, &scenario).is_empty(), "{name}");
            count += 1;
        }
    }
    assert!(count > 20, "{count}");
}
