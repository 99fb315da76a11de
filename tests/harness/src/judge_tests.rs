//! A small run as the stub and the console tell it, and what becomes of it when somebody lies.

use super::*;
use crate::json::Device;
use crate::stublog::Tail;
use rmm_model::counters::Counters;
use rmm_model::final_state::{DevRange, DeviceState, FinalState, TdiState};
use rmm_model::machine::DmaGate;
use rmm_model::ripas::Ripas;
use rmm_model::scenario::{BundleSpec, DeviceSpec};
use rmm_model::{Board, Range};
use serde_json::{Value, json};

/// A run in memory.
#[derive(Clone)]
pub(crate) struct Example {
    pub(crate) records: Vec<Record>,
    pub(crate) totals: Counters,
    pub(crate) state: FinalState,
    pub(crate) hardware: Value,
    pub(crate) exit: u8,
    pub(crate) console: Vec<String>,
}

/// Something that goes wrong in a run.
pub(crate) type Change<'a> = &'a dyn Fn(&mut Example);

pub(crate) const BAR: u64 = 0x80_0000_0000;
const RAM: u64 = 0x5000_0000;

fn rsi(call: &'static str, args: &[u64], results: &[u64], vdev: Option<u64>) -> Event {
    Event::Rsi { call: call.into(), args: args.to_vec(), status: 0, results: results.to_vec(), vdev }
}

fn config(offset: u16, width: u8, write: bool, value: u32) -> Event {
    Event::Config { rid: 0x10, offset, width, write, value }
}

/// A device in RUN, without pages.
pub(crate) fn device_at(slot: &str, bdf: &str) -> DeviceState {
    DeviceState {
        slot: slot.into(),
        bdf: bdf.into(),
        vdev_id: None,
        state: TdiState::Run,
        rmm_state: Some(TdiState::Run),
        dma: DmaGate::PrivateOnly,
        dev_ranges: vec![],
        validated: vec![],
        tee_aliases: vec![],
        command: 6,
        counters: Counters::default(),
        operation_pending: false,
    }
}

/// A plain run of the demo payload, handed off.
pub(crate) fn example() -> Example {
    let dev = DevRange { ipa: BAR, pa: 0x3000_0000, len: 0x2000 };
    let tdi = |from, to| Event::Tdi { rid: 0x10, from, to, cause: "SET_TDI_STATE".into() };
    let rhi = || Event::Rhi {
        call: "RHI_DA_VDEV_SET_TDI_STATE".into(),
        args: vec![0x10, 1],
        status: 0,
        results: vec![],
        vdev: Some(0x10),
    };
    let ripas = |base, top, from, to| Event::Ripas { base, top, from, to };
    let events = [
        (10, rsi("RSI_VERSION", &[0x10001], &[0x10001, 0x10001], None)),
        (30, ripas(RAM, RAM + 0x1000, Ripas::Ram, Ripas::Empty)),
        (31, rsi("RSI_IPA_STATE_SET", &[RAM, RAM + 0x1000, 0, 0], &[RAM + 0x1000, 0], None)),
        (50, config(0, 4, false, 0x0010_1b36)),
        (51, config(8, 4, false, 0x0108_0202)),
        (52, config(0x10, 4, false, 4)),
        (53, config(0x40, 2, false, 0x8011)),
        (54, config(0x44, 4, false, 0x2000)),
        (55, config(0x48, 4, false, 0x3000)),
        (70, config(0x10, 4, true, 0)),
        (71, config(0x14, 4, true, 0x80)),
        (72, tdi(TdiState::Unlocked, TdiState::Locked)),
        (73, rhi()),
        (74, rsi("RSI_HOST_CALL", &[RAM], &[], None)),
        (75, rsi("RSI_VDEV_GET_INFO", &[0x10, RAM], &[], Some(0x10))),
        (90, ripas(BAR, BAR + 0x2000, Ripas::Empty, Ripas::Dev)),
        (91, rsi("RSI_VDEV_VALIDATE_MAPPING", &[0x10, BAR, BAR + 0x2000], &[BAR + 0x2000, 0], Some(0x10))),
        (110, ripas(RAM, RAM + 0x1000, Ripas::Empty, Ripas::Ram)),
        (111, rsi("RSI_IPA_STATE_SET", &[RAM, RAM + 0x1000, 1, 1], &[RAM + 0x1000, 0], None)),
        (120, tdi(TdiState::Locked, TdiState::Run)),
        (121, Event::Dma { rid: 0x10, gate: DmaGate::PrivateOnly }),
        (122, rsi("RSI_VDEV_DMA_ENABLE", &[0x10], &[], Some(0x10))),
        (200, Event::Psci { call: "PSCI_SYSTEM_OFF".into(), args: vec![0, 0, 0], status: 0 }),
        (201, Event::PowerOff { code: 0 }),
    ];
    let records = events
        .into_iter()
        .enumerate()
        .map(|(seq, (ticks, event))| Record { seq: seq as u64, ticks, event })
        .collect();
    let totals = Counters {
        rsi_calls: 7,
        rhi_calls: 1,
        host_exits: 13,
        vdev_request_exits: 0,
        config_accesses: 8,
        ripas_changes: 2,
    };
    let device = DeviceState { dev_ranges: vec![dev], validated: vec![dev], ..device_at("02.0", "00:02.0") };
    let state = FinalState {
        outcome: Outcome::PowerOff { code: 0 },
        devices: vec![device],
        shared: vec![],
        rim: String::new(),
        rems: vec![],
        totals,
        lies: vec![],
        violations: vec![],
    };
    let hardware = json!({
        "devices": [{
            "slot": "02.0", "bdf": "00:02.0", "stream": "private-only", "tee_alias_leaves": 0,
            "dev": { "pages": 2, "protected_leaves": 2, "alias_leaves": 0 },
        }],
        "pages_in_both_halves": 0,
        "cpu_protected_doorbell": false,
        "private_root_alias": false,
        "shared_root_protected": false,
        "gates": [{ "rid": 16, "stream": "private-only" }, { "rid": 24, "stream": "shared-only" }],
        "open_streams": 2,
        "smmu_events": { "translation": 0, "permission": 0, "other": 0, "overflows": 0, "first": null },
    });
    let mut console = vec!["INFO gatehouse 0.1.0 (abc)".to_owned()];
    for (name, ticks) in PHASES.iter().zip([20, 40, 60, 80, 100, 115, 130]) {
        if ticks == 80 {
            console.push("INFO policy 00:02.0 at 02.0: rule slot-02.0: accepted, mode run".to_owned());
        }
        console.push(format!("INFO phase name={name} ticks={ticks}"));
    }
    console.extend(said(&["00:02.0"]));
    Example { records, totals, state, hardware, exit: 0, console }
}

/// What the demo payload prints about NVMe functions.
pub(crate) fn said(functions: &[&str]) -> Vec<String> {
    let spec = DeviceSpec::default();
    let states: Vec<_> = functions.iter().map(|bdf| device_at("", bdf)).collect();
    let device = Device::nothing(String::new(), "accepted", "run");
    let list: Vec<_> = states.iter().map(|state| Assigned { spec: &spec, state, device: &device }).collect();
    let names = expected::results(Speaker::Demo, &list, &BundleSpec::default());
    names.iter().map(|name| format!("RESULT {name} pass")).chain(["RESULT-END".to_owned()]).collect()
}

impl Example {
    /// The same, stopped with a code after attestation, everything taken back.
    pub(crate) fn stopped(mut self, code: u64) -> Example {
        self.records.truncate(15);
        let add = |records: &mut Vec<Record>, event| {
            let seq = records.len() as u64;
            records.push(Record { seq, ticks: 80 + seq, event });
        };
        let unlock =
            Event::Tdi { rid: 0x10, from: TdiState::Locked, to: TdiState::Unlocked, cause: "SET".into() };
        add(&mut self.records, unlock);
        add(
            &mut self.records,
            Event::Psci { call: "PSCI_SYSTEM_OFF".into(), args: vec![code, 0, 0], status: 0 },
        );
        add(&mut self.records, Event::PowerOff { code });
        self.totals.rsi_calls = 4;
        self.totals.host_exits = 11;
        self.totals.ripas_changes = 1;
        self.state.totals = self.totals;
        self.state.outcome = Outcome::PowerOff { code };
        let device = &mut self.state.devices[0];
        device.rmm_state = None;
        device.state = TdiState::Unlocked;
        device.dma = DmaGate::Abort;
        device.command = 0;
        device.dev_ranges.clear();
        device.validated.clear();
        self.hardware["gates"][0]["stream"] = json!("abort");
        self.hardware["open_streams"] = json!(1);
        self.hardware["devices"][0]["stream"] = json!("abort");
        self.hardware["devices"][0]["dev"] = json!({ "pages": 0, "protected_leaves": 0, "alias_leaves": 0 });
        self.exit = 10;
        self.console.truncate(4);
        self.console.push(format!("ERROR stop GH-{code:04}: text: detail"));
        self
    }

    /// The stub's log file.
    pub(crate) fn log_text(&self) -> String {
        let board = Board { ram: vec![Range::new(0x4400_0000, 0x2000_0000)], ..Board::sim() };
        let start = json!({
            "stub": "start", "board": board, "image": 0, "tree": 0, "tree_len": 0, "counter_hz": 1, "ticks": 0,
        });
        let end = json!({
            "stub": "final", "exit": self.exit, "final_state": self.state, "hardware": self.hardware,
        });
        let mut text = format!("{start}\n");
        for record in &self.records {
            text += &format!("{}\n", serde_json::to_string(record).unwrap());
        }
        text + &format!("{end}\n")
    }

    pub(crate) fn judge_with(&self, scenario: &Scenario, known: &Known) -> Result<Judgement, Fault> {
        let path = std::env::temp_dir().join(format!(
            "gatehouse-judge-{}-{:?}.jsonl",
            std::process::id(),
            std::thread::current().id()
        ));
        std::fs::write(&path, self.log_text()).unwrap();
        let log = Tail::new(&path).finish();
        std::fs::remove_file(&path).unwrap();
        let mut console = Console::default();
        for line in &self.console {
            console.line(line);
        }
        judge(&log?, &console, scenario, known)
    }

    pub(crate) fn judge(&self) -> Result<Judgement, Fault> {
        self.judge_with(&one_device(""), &known())
    }

    /// Names of failed results, and the exit status.
    pub(crate) fn failed(&self) -> (Vec<String>, u8) {
        let judgement = self.judge().unwrap();
        let status = judgement.exit_status();
        let results = judgement.report.results.into_iter().filter(|result| result.result == Word::Fail);
        (results.map(|result| result.name).collect(), status)
    }
}

/// One NVMe at 02.0.
pub(crate) fn one_device(lies: &str) -> Scenario {
    toml::from_str(&format!("[[device]]\nslot = \"02.0\"\n{lies}")).unwrap()
}

pub(crate) fn known() -> Known {
    Known {
        payload: PayloadKind::Demo,
        payload_version: "0.1.0".into(),
        speaker: Speaker::Demo,
        disks: vec![],
        image_bytes: 4096,
    }
}

#[test]
fn a_good_run_is_handed_off_and_confirmed() {
    let judgement = example().judge().unwrap();
    let failed = example().failed();
    assert_eq!(failed, (vec![], 0));
    let report = judgement.report;
    assert_eq!((report.outcome, report.code), ("handed-off", None));
    assert_eq!((report.dialect.as_str(), report.rsi_version.as_deref()), ("a", Some("1.1")));
    assert_eq!((report.devices[0].verdict, report.devices[0].mode), (Some("accepted"), "run"));
    assert_eq!((report.devices[0].rule.as_deref(), &report.devices[0].code), (Some("slot-02.0"), &None));
    assert_eq!(report.devices[0].config_accesses, 8);
    assert_eq!(report.devices[0].rsi_calls, 4);
    let names: Vec<_> = report.phases.iter().map(|phase| phase.name).collect();
    assert_eq!(names, PHASES);
    assert_eq!(report.phases.iter().map(|phase| phase.rsi_calls).sum::<u64>(), 7);
    assert_eq!(report.phases[1].ripas_changes, 1);
    assert_eq!(report.phases[2].host_exits, 6);
    assert_eq!(report.phases[2].ticks, 20);
}

#[test]
fn the_json_has_the_words_and_fields_of_the_reference() {
    let json = serde_json::to_value(example().judge().unwrap().report).unwrap();
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let all = "code devices dialect image_bytes leaked outcome payload phases results rsi_version";
    assert_eq!(keys(&json), all);
    let device = "bdf code config_accesses host_exits leaked mode ranges reason rsi_calls rule state ticks vdev_id verdict";
    assert_eq!(keys(&json["devices"][0]), device);
    assert_eq!(keys(&json["phases"][0]), "host_exits name ripas_changes rsi_calls ticks");
    assert_eq!(keys(&json["payload"]), "kind result version");
    assert_eq!(keys(&json["results"][0]), "name result");
    assert_eq!(json["devices"][0]["state"], "run");
    assert_eq!(json["payload"]["result"], "pass");
}

#[test]
fn a_stop_on_purpose_is_10_with_its_code() {
    let example = example().stopped(4034);
    assert_eq!(example.failed(), (vec![], 10));
    let report = example.judge().unwrap().report;
    assert_eq!((report.outcome, report.code.as_deref()), ("stopped", Some("GH-4034")));
    assert_eq!(report.devices[0].reason.as_deref(), Some("text: detail"));
    assert_eq!(report.devices[0].code.as_deref(), Some("GH-4034"));
    assert_eq!(report.devices[0].vdev_id, Some(0x10));
    assert_eq!(report.payload.kind, "none");
    assert_eq!(report.phases.last().unwrap().name, "attest");
}

#[test]
fn a_panic_of_the_firmware_is_a_fault_and_not_a_stop_on_purpose() {
    assert_eq!(example().stopped(StopCode::Panic.number().into()).failed().1, 1);
    assert_eq!(example().stopped(StopCode::Exception.number().into()).failed().1, 1);
}

#[test]
fn an_unknown_code_is_a_fault() {
    assert!(example().stopped(4999).judge().is_err());
}

#[test]
fn power_off_without_hand_off_is_a_fault() {
    let mut run = example();
    run.console.retain(|line| !line.contains("name=handoff"));
    assert!(run.judge().is_err());
}

#[test]
fn a_reset_is_a_fault() {
    let mut run = example();
    run.state.outcome = Outcome::Reset;
    assert!(run.judge().is_err());
}

#[test]
fn a_payload_that_powers_off_with_a_code_is_a_fault() {
    let mut run = example();
    run.state.outcome = Outcome::PowerOff { code: 4034 };
    run.records.last_mut().unwrap().event = Event::PowerOff { code: 4034 };
    assert!(run.judge().is_err());
}

#[test]
fn a_console_that_forges_another_stop_code_is_found() {
    let mut run = example().stopped(4034);
    *run.console.last_mut().unwrap() = "ERROR stop GH-4033: forged: text".into();
    assert_eq!(run.failed(), (vec!["console-agrees".into()], 1));
    run.console.pop();
    assert_eq!(run.failed(), (vec!["console-agrees".into()], 1));
}

#[test]
fn a_console_that_claims_a_hand_off_does_not_hide_a_stop() {
    let mut run = example().stopped(4034);
    run.console = example().console;
    assert!(run.judge().is_err());
}

#[test]
fn phases_outside_the_run_are_found() {
    let mut run = example();
    run.console[8] = "INFO phase name=handoff ticks=9999".into();
    assert_eq!(run.failed().0, ["console-agrees"]);
}

#[test]
fn a_missing_result_line_fails() {
    let mut run = example();
    run.console.retain(|line| !line.contains("RESULT tree"));
    assert_eq!(run.failed(), (vec!["tree".into()], 1));
    let mut run = example();
    run.console.retain(|line| line != "RESULT-END");
    assert_eq!(run.failed(), (vec!["payload-complete".into()], 1));
}

#[test]
fn a_failed_result_fails_the_payload_and_the_run() {
    let mut run = example();
    let line = run.console.iter_mut().find(|line| *line == "RESULT tree pass").unwrap();
    *line = "RESULT tree fail x".into();
    assert_eq!(run.failed(), (vec!["tree".into()], 1));
    assert_eq!(run.judge().unwrap().report.payload.result, Word::Fail);
}

#[test]
fn a_result_that_nobody_asked_for_fails() {
    let mut run = example();
    let end = run.console.len() - 1;
    run.console.insert(end, "RESULT nvme-identify@00:07.0 pass".into());
    assert_eq!(run.failed(), (vec!["payload-complete".into()], 1));
}

#[test]
fn a_wrong_or_missing_digest_of_a_disk_fails() {
    let known = Known {
        payload: PayloadKind::Linux,
        speaker: Speaker::Linux,
        disks: vec![("02.0".into(), "aa".into())],
        ..known()
    };
    let mut run = example();
    let spec = DeviceSpec::default();
    let state = device_at("02.0", "00:02.0");
    let device = Device::nothing(String::new(), "accepted", "run");
    let names = expected::results(
        Speaker::Linux,
        &[Assigned { spec: &spec, state: &state, device: &device }],
        &BundleSpec::default(),
    );
    run.console.truncate(9);
    run.console.extend(names.iter().map(|name| format!("RESULT {name} pass")));
    run.console.push("RESULT-END".into());
    let good = run.console.clone();
    for (line, status) in [(None, 1), (Some("DATA nvme-sha256 bb"), 1), (Some("DATA nvme-sha256 aa"), 0)] {
        run.console = good.clone();
        if let Some(line) = line {
            run.console.insert(9, line.into());
        }
        let judgement = run.judge_with(&one_device(""), &known).unwrap();
        assert_eq!(judgement.exit_status(), status, "{line:?} {:?}", judgement.report.results);
    }
}

#[test]
fn private_claims_are_checked_in_the_tables() {
    let cases: [(&str, Change<'_>); 13] = [
        ("private-bar-no-alias-leaf", &|run| run.hardware["devices"][0]["tee_alias_leaves"] = json!(1)),
        ("private-bar-no-alias-leaf", &|run| {
            run.hardware["devices"][0]["dev"]["protected_leaves"] = json!(1)
        }),
        ("private-bar-no-alias-leaf", &|run| run.hardware["cpu_protected_doorbell"] = json!(true)),
        ("dma-private-only", &|run| run.hardware["devices"][0]["stream"] = json!("abort")),
        ("dma-private-only", &|run| run.hardware["private_root_alias"] = json!(true)),
        ("dma-private-only", &|run| run.hardware["smmu_events"]["translation"] = json!(16)),
        ("dma-private-only", &|run| run.hardware["open_streams"] = json!(3)),
        ("dma-private-only", &|run| run.hardware["gates"][1]["stream"] = json!("private-only")),
        ("device-run", &|run| run.state.devices[0].rmm_state = Some(TdiState::Error)),
        ("device-run", &|run| run.state.devices[0].state = TdiState::Error),
        ("private-bar-no-alias-leaf", &|run| run.hardware["pages_in_both_halves"] = json!(1)),
        ("no-violations", &|run| run.state.violations.push("x".into())),
        ("counts-add-up", &|run| run.state.totals.rsi_calls += 1),
    ];
    for (name, change) in cases {
        let mut run = example();
        change(&mut run);
        assert_eq!(run.failed(), (vec![name.to_owned()], 1));
    }
}

#[test]
fn validated_msix_pages_are_found() {
    let mut run = example();
    for record in &mut run.records {
        if let Event::Ripas { base: BAR, top, .. } = &mut record.event {
            *top += 0x1000;
        }
    }
    assert_eq!(run.failed().0, ["msix-pages-empty"]);
}

#[test]
fn a_window_that_is_open_at_the_hand_off_is_found() {
    let mut run = example();
    for record in &mut run.records {
        if let Event::Ripas { to: to @ Ripas::Ram, .. } = &mut record.event {
            *to = Ripas::Empty;
        }
    }
    assert_eq!(run.failed().0, ["window-returned"]);
}

#[test]
fn what_a_stop_leaves_behind_is_found() {
    let cases: [(&[&str], Change<'_>); 7] = [
        (&["dma-off"], &|run| run.hardware["devices"][0]["stream"] = json!("private-only")),
        (&["dma-off"], &|run| run.hardware["open_streams"] = json!(2)),
        (&["dma-off"], &|run| run.hardware["gates"][1]["stream"] = json!("private-only")),
        (&["device-unlocked"], &|run| run.state.devices[0].state = TdiState::Locked),
        (&["function-quiet"], &|run| run.state.devices[0].command = 4),
        (&["window-returned"], &|run| run.state.shared.push(Range::new(RAM, 0x1000))),
        (&["no-range-dev", "ranges-given-up"], &|run| {
            run.state.devices[0].dev_ranges.push(DevRange { ipa: BAR, pa: 0, len: 0x1000 });
        }),
    ];
    for (names, change) in cases {
        let mut run = example().stopped(4034);
        change(&mut run);
        assert_eq!(run.failed(), (names.iter().map(|name| (*name).to_owned()).collect(), 1));
    }
}

#[test]
fn a_leak_that_the_scenario_makes_is_named_and_no_failure() {
    let mut run = example().stopped(4034);
    run.state.devices[0].state = TdiState::Locked;
    let scenario = one_device("[[misbehaviour]]\nlie = \"unlock-fails\"\nnth = 0\n");
    let judgement = run.judge_with(&scenario, &known()).unwrap();
    assert_eq!(judgement.exit_status(), 10);
    assert_eq!(judgement.report.leaked, ["RHI_DA_VDEV_SET_TDI_STATE"]);
    assert_eq!(judgement.report.devices[0].leaked, ["RHI_DA_VDEV_SET_TDI_STATE"]);
    let skipped = judgement.report.results.iter().find(|result| result.result == Word::Skip).unwrap();
    assert_eq!(skipped.name, "device-unlocked");
}
