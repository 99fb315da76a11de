//! A run with several devices: one accepted, one optional and refused, an edu that reaches out, one shared, and a
//! function that nobody listed. Each claim about each of them is broken once.

use super::tests::{Example, device_at, example, known, said};
use super::*;
use crate::counts::Counts;
use rmm_model::final_state::{DevRange, TdiState};
use rmm_model::machine::DmaGate;
use rmm_model::ripas::Ripas;
use serde_json::json;

type Change<'a> = &'a dyn Fn(&mut Example);

const OPTIONAL: usize = 1;
const EDU: usize = 2;
const SHARED: usize = 3;

/// Scenario of [`several`].
fn scenario(more: &str) -> Scenario {
    let devices = "\
        [[device]]\nslot = \"02.0\"\n\
        [[device]]\nslot = \"04.0\"\nrule = \"optional\"\n\
        [[device]]\nslot = \"05.0\"\nmodel = \"edu\"\nquiet_device = true\n\
        [[device]]\nslot = \"06.0\"\nmodel = \"virtio-blk\"\ntdi = false\nrule = \"shared\"\n";
    toml::from_str(&format!("{devices}{more}")).unwrap()
}

fn config(rid: u16, offset: u16, write: bool, value: u32) -> Event {
    Event::Config { rid, offset, width: if offset == 4 { 2 } else { 4 }, write, value }
}

/// Adds events, in their place by time, and counts again.
fn add(run: &mut Example, events: impl IntoIterator<Item = (u64, Event)>) {
    run.records.extend(events.into_iter().map(|(ticks, event)| Record { seq: 0, ticks, event }));
    run.records.sort_by_key(|record| record.ticks);
    for (seq, record) in run.records.iter_mut().enumerate() {
        record.seq = seq as u64;
    }
    let counts = Counts::of(&run.records, 1 << 43);
    let totals = &mut run.totals;
    totals.rsi_calls = counts.rsi_calls;
    totals.rhi_calls = counts.rhi_calls;
    totals.host_exits = counts.host_exits;
    totals.config_accesses = counts.config_accesses;
    totals.ripas_changes = counts.ripas_changes;
    run.state.totals = *totals;
}

fn tdi(rid: u16, from: TdiState, to: TdiState) -> Event {
    Event::Tdi { rid, from, to, cause: "SET_TDI_STATE".into() }
}

/// A good run, handed off.
fn several() -> Example {
    let mut run = example();
    let dev = DevRange { ipa: 0x1000_0000, pa: 0x3100_0000, len: 0x10_0000 };
    let mut optional = device_at("04.0", "00:04.0");
    (optional.state, optional.rmm_state) = (TdiState::Unlocked, Some(TdiState::Unlocked));
    (optional.dma, optional.command) = (DmaGate::Abort, 0);
    let mut edu = device_at("05.0", "00:05.0");
    (edu.dev_ranges, edu.validated) = (vec![dev], vec![dev]);
    let mut shared = device_at("06.0", "00:06.0");
    (shared.state, shared.rmm_state, shared.dma) = (TdiState::Unlocked, None, DmaGate::SharedOnly);
    run.state.devices.extend([optional, edu, shared]);
    for (slot, stream, pages) in
        [("04.0", "abort", 0), ("05.0", "private-only", 256), ("06.0", "shared-only", 0)]
    {
        let dev = json!({ "pages": pages, "protected_leaves": pages, "alias_leaves": 0 });
        let device = json!({ "slot": slot, "stream": stream, "tee_alias_leaves": 0, "dev": dev });
        run.hardware["devices"].as_array_mut().unwrap().push(device);
    }
    run.hardware["gates"] = json!([
        { "rid": 0x10, "stream": "private-only" }, { "rid": 0x20, "stream": "abort" },
        { "rid": 0x28, "stream": "private-only" }, { "rid": 0x30, "stream": "shared-only" },
        { "rid": 0x18, "stream": "shared-only" },
    ]);
    run.hardware["open_streams"] = json!(4);
    run.hardware["smmu_events"]["translation"] = json!(16);
    run.hardware["smmu_events"]["first"] = json!([0x28_u64 << 32 | 0x10, 0, 0, 0]);
    let events = [
        (50, config(0x18, 0, false, 0x11e8_1234)),
        (50, config(0x18, 8, false, 0x00ff_0010)),
        (50, config(0x18, 4, true, 0)),
        (50, config(0x18, 4, false, 0)),
        (55, config(0x30, 0x20, true, 0x4000_4000)),
        (55, config(0x30, 0x24, true, 0x80)),
        (73, tdi(0x20, TdiState::Unlocked, TdiState::Locked)),
        (74, tdi(0x28, TdiState::Unlocked, TdiState::Locked)),
        (76, tdi(0x20, TdiState::Locked, TdiState::Unlocked)),
        (91, Event::Ripas { base: dev.ipa, top: dev.top(), from: Ripas::Empty, to: Ripas::Dev }),
        (120, tdi(0x28, TdiState::Locked, TdiState::Run)),
        (122, Event::Dma { rid: 0x28, gate: DmaGate::PrivateOnly }),
    ];
    add(&mut run, events);
    run.console.truncate(9);
    run.console.insert(4, "INFO policy 00:05.0 at 05.0: rule slot-05.0: accepted, mode run".into());
    run.console.insert(4, "WARN tdi 00:04.0 vdev 0x20: -> refused at Verify: the report".into());
    let mut results = said(&["00:02.0"]);
    results.pop();
    for name in ["vdev-started", "bar-ripas", "private-mmio", "msix-via-alias", "edu-dma", "dma-alias-fault"]
    {
        results.push(format!("RESULT {name}@00:05.0 pass"));
    }
    results.push("RESULT left-idle@00:05.0 pass".into());
    results.push("RESULT shared-left-alone@00:06.0 pass".into());
    results.push("RESULT-END".into());
    run.console.extend(results);
    run
}

fn judged(run: &Example, more: &str) -> Judgement {
    run.judge_with(&scenario(more), &known()).unwrap()
}

/// Failed results with their details.
fn failed(run: &Example, more: &str) -> Vec<(String, String)> {
    let results = judged(run, more).report.results.into_iter();
    let failed = results.filter(|result| result.result == Word::Fail);
    failed.map(|result| (result.name, result.detail)).collect()
}

#[test]
fn a_run_with_every_kind_of_device_is_good_and_says_what_became_of_each() {
    let judgement = judged(&several(), "");
    assert_eq!(failed(&several(), ""), []);
    assert_eq!(judgement.exit_status(), 0);
    let report = judgement.report;
    let words: Vec<_> = report
        .devices
        .iter()
        .map(|device| (device.bdf.as_str(), device.verdict.unwrap_or("-"), device.mode))
        .collect();
    assert_eq!(
        words,
        [
            ("00:02.0", "accepted", "run"),
            ("00:04.0", "refused", "hide"),
            ("00:05.0", "accepted", "run"),
            ("00:06.0", "accepted", "shared"),
            ("00:03.0", "extra", "hide"),
        ]
    );
    assert_eq!(report.devices[OPTIONAL].reason.as_deref(), Some("Verify: the report"));
    assert_eq!((report.devices[OPTIONAL].vdev_id, report.devices[SHARED].vdev_id), (Some(0x20), None));
    assert!(report.leaked.is_empty());
}

#[test]
fn every_claim_about_an_accepted_device_is_checked_for_each_and_names_it() {
    let cases: [(&str, Change<'_>); 10] = [
        ("device-run", &|run| run.state.devices[EDU].state = TdiState::Error),
        ("device-run", &|run| run.state.devices[EDU].rmm_state = Some(TdiState::Locked)),
        ("private-bar-no-alias-leaf", &|run| run.state.devices[EDU].dev_ranges.clear()),
        ("private-bar-no-alias-leaf", &|run| {
            run.hardware["devices"][EDU]["dev"]["protected_leaves"] = json!(255);
        }),
        ("private-bar-no-alias-leaf", &|run| run.hardware["devices"][EDU]["tee_alias_leaves"] = json!(1)),
        ("private-bar-no-alias-leaf", &|run| {
            run.hardware["devices"][EDU]["dev"]["alias_leaves"] = json!(1);
        }),
        ("private-bar-no-alias-leaf", &|run| {
            run.state.devices[EDU].tee_aliases.push(rmm_model::Range::new(0x1000_0000, 0x1000));
        }),
        ("dma-private-only", &|run| run.state.devices[EDU].dma = DmaGate::SharedOnly),
        ("dma-private-only", &|run| {
            run.hardware["devices"][EDU]["stream"] = json!("shared-only");
        }),
        ("dma-private-only", &|run| {
            let opened = run
                .records
                .iter_mut()
                .find(|record| matches!(record.event, Event::Dma { rid: 0x28, gate: DmaGate::PrivateOnly }));
            opened.unwrap().ticks = 190;
            add(run, []);
        }),
    ];
    for (index, (name, change)) in cases.into_iter().enumerate() {
        let mut run = several();
        change(&mut run);
        let failed = failed(&run, "");
        assert_eq!(failed.len(), 1, "case {index}: {failed:?}");
        assert_eq!(failed[0].0, name, "case {index}");
        assert!(failed[0].1.starts_with("00:05.0: "), "case {index}: {}", failed[0].1);
    }
}

#[test]
fn a_required_device_that_the_stub_does_not_know_is_found() {
    let mut run = several();
    run.state.devices[EDU].slot = "07.0".into();
    let names: Vec<_> = failed(&run, "").into_iter().map(|result| result.0).collect();
    assert!(names.contains(&"device-run".to_owned()), "{names:?}");
}

#[test]
fn an_edu_that_has_msix_pages_validated_or_an_nvme_without_any_is_found() {
    let mut run = several();
    run.records.retain(|record| !matches!(record.event, Event::Config { rid: 0x10, offset: 0x40, .. }));
    add(&mut run, []);
    assert_eq!(
        failed(&run, ""),
        [("msix-pages-empty".to_owned(), "00:02.0: the realm read no MSI-X capability".to_owned())]
    );
    let mut run = several();
    let capability = [
        (60, Event::Config { rid: 0x28, offset: 0x40, width: 2, write: false, value: 0x11 }),
        (60, config(0x28, 0x44, false, 0)),
        (60, config(0x28, 0x48, false, 0)),
        (60, config(0x28, 0x10, true, 0x1000_0000)),
    ];
    add(&mut run, capability);
    assert_eq!(failed(&run, "")[0].0, "msix-pages-empty");
    assert!(failed(&run, "")[0].1.starts_with("00:05.0: 0x10000000"));
}

#[test]
fn what_is_left_of_a_refused_or_extra_function_is_found() {
    let cases: [(&str, Change<'_>); 9] = [
        ("00:04.0", &|run| run.state.devices[OPTIONAL].state = TdiState::Locked),
        ("00:04.0", &|run| run.state.devices[OPTIONAL].rmm_state = Some(TdiState::Locked)),
        ("00:04.0", &|run| run.state.devices[OPTIONAL].dma = DmaGate::PrivateOnly),
        ("00:04.0", &|run| run.state.devices[OPTIONAL].command = 4),
        ("00:04.0", &|run| run.state.devices[OPTIONAL].operation_pending = true),
        ("00:04.0", &|run| {
            let range = DevRange { ipa: 0x2000_0000, pa: 0, len: 0x1000 };
            run.state.devices[OPTIONAL].dev_ranges.push(range);
        }),
        ("00:04.0", &|run| run.hardware["devices"][OPTIONAL]["stream"] = json!("private-only")),
        ("00:03.0", &|run| add(run, [(51, config(0x18, 4, true, 6))])),
        ("00:03.0", &|run| {
            run.records.retain(|record| !matches!(record.event, Event::Config { rid: 0x18, offset: 4, .. }));
            add(run, []);
        }),
    ];
    for (index, (bdf, change)) in cases.into_iter().enumerate() {
        let mut run = several();
        change(&mut run);
        let failed = failed(&run, "");
        assert_eq!(failed.len(), 1, "case {index}: {failed:?}");
        assert_eq!(failed[0].0, "others-clean", "case {index}");
        assert!(failed[0].1.starts_with(bdf), "case {index}: {}", failed[0].1);
    }
}

#[test]
fn a_leak_of_a_refused_device_is_named_and_excused_only_for_that_device() {
    let mut run = several();
    run.state.devices[OPTIONAL].state = TdiState::Locked;
    let lie =
        |slot: &str| format!("[[misbehaviour]]\nlie = \"unlock-fails\"\ndevice = \"{slot}\"\nnth = 0\n");
    let judgement = judged(&run, &lie("04.0"));
    assert_eq!(judgement.exit_status(), 0);
    assert_eq!(judgement.report.leaked, ["RHI_DA_VDEV_SET_TDI_STATE"]);
    assert_eq!(judgement.report.devices[OPTIONAL].leaked, ["RHI_DA_VDEV_SET_TDI_STATE"]);
    let skipped = judgement.report.results.iter().find(|result| result.result == Word::Skip).unwrap();
    assert_eq!(skipped.name, "others-clean");
    assert_eq!(judged(&run, &lie("02.0")).exit_status(), 1);
}

#[test]
fn nothing_excuses_a_page_of_a_refused_device_that_is_dev() {
    let mut run = several();
    let range = DevRange { ipa: 0x2000_0000, pa: 0, len: 0x1000 };
    run.state.devices[OPTIONAL].dev_ranges.push(range);
    let lie =
        "[[misbehaviour]]\nlie = { ipa-state-fails = { to = \"empty\" } }\ndevice = \"04.0\"\nnth = 0\n";
    let wrong = ("others-clean".to_owned(), "00:04.0: pages are DEV".to_owned());
    assert_eq!(failed(&run, lie), [wrong]);
}

#[test]
fn a_shared_function_that_was_touched_is_found() {
    let cases: [Change<'_>; 9] = [
        &|run| run.state.devices[SHARED].state = TdiState::Locked,
        &|run| run.state.devices[SHARED].rmm_state = Some(TdiState::Unlocked),
        &|run| run.state.devices[SHARED].dma = DmaGate::PrivateOnly,
        &|run| run.hardware["devices"][SHARED]["stream"] = json!("bad"),
        &|run| run.hardware["shared_root_protected"] = json!(true),
        &|run| {
            add(
                run,
                [
                    (75, tdi(0x30, TdiState::Unlocked, TdiState::Locked)),
                    (76, tdi(0x30, TdiState::Locked, TdiState::Unlocked)),
                ],
            )
        },
        &|run| add(run, [(75, Event::Dma { rid: 0x30, gate: DmaGate::PrivateOnly })]),
        &|run| {
            let (base, top) = (0x80_4000_4000, 0x80_4000_5000);
            add(run, [(92, Event::Ripas { base, top, from: Ripas::Empty, to: Ripas::Dev })]);
        },
        &|run| {
            let range = DevRange { ipa: 0x2000_0000, pa: 0, len: 0x1000 };
            run.state.devices[SHARED].validated.push(range);
        },
    ];
    for (index, change) in cases.into_iter().enumerate() {
        let mut run = several();
        change(&mut run);
        let failed = failed(&run, "");
        assert_eq!(failed.len(), 1, "case {index}: {failed:?}");
        assert_eq!(failed[0].0, "shared-untouched", "case {index}");
    }
}

#[test]
fn faults_are_demanded_of_the_device_that_reaches_out_and_of_no_other() {
    let event = |stream: u64| json!([stream << 32 | 0x10, 0, 0, 0]);
    let cases: [(&str, Change<'_>); 4] = [
        ("device-fault-seen", &|run| run.hardware["smmu_events"]["translation"] = json!(0)),
        ("device-fault-seen", &|run| run.hardware["smmu_events"]["first"] = event(0x10)),
        ("dma-private-only", &|run| run.hardware["smmu_events"]["permission"] = json!(1)),
        ("dma-private-only", &|run| run.hardware["smmu_events"]["overflows"] = json!(1)),
    ];
    for (name, change) in cases {
        let mut run = several();
        change(&mut run);
        let failed = failed(&run, "");
        assert_eq!((failed.len(), failed[0].0.as_str()), (1, name), "{failed:?}");
    }
}

#[test]
fn results_of_a_function_that_is_not_handed_over_fail() {
    let mut run = several();
    let end = run.console.len() - 1;
    run.console.insert(end, "RESULT vdev-started@00:04.0 pass".into());
    assert_eq!(failed(&run, "")[0].0, "payload-complete");
    let mut run = several();
    run.console.retain(|line| !line.contains("shared-left-alone"));
    assert_eq!(failed(&run, "")[0].0, "shared-left-alone@00:06.0");
}

/// The same, stopped because the edu was refused; everything taken back.
fn stopped() -> Example {
    let mut run = several();
    run.records.retain(|record| record.ticks < 100);
    let give_up = |base, top| Event::Ripas { base, top, from: Ripas::Dev, to: Ripas::Empty };
    let off = [
        (100, tdi(0x28, TdiState::Locked, TdiState::Unlocked)),
        (101, give_up(0x1000_0000, 0x1010_0000)),
        (102, tdi(0x10, TdiState::Locked, TdiState::Unlocked)),
        (103, give_up(0x80_0000_0000, 0x80_0000_2000)),
        (104, Event::Ripas { base: 0x5000_0000, top: 0x5000_1000, from: Ripas::Empty, to: Ripas::Ram }),
        (200, Event::Psci { call: "PSCI_SYSTEM_OFF".into(), args: vec![5003, 0, 0], status: 0 }),
        (201, Event::PowerOff { code: 5003 }),
    ];
    add(&mut run, off);
    run.exit = 10;
    run.state.outcome = Outcome::PowerOff { code: 5003 };
    for device in &mut run.state.devices {
        (device.state, device.dma, device.command) = (TdiState::Unlocked, DmaGate::Abort, 0);
        device.rmm_state = device.rmm_state.map(|_| TdiState::Unlocked);
        device.dev_ranges.clear();
    }
    for index in 0..4 {
        run.hardware["devices"][index]["stream"] = json!("abort");
        run.hardware["devices"][index]["dev"] =
            json!({ "pages": 0, "protected_leaves": 0, "alias_leaves": 0 });
    }
    for index in 0..4 {
        run.hardware["gates"][index]["stream"] = json!("abort");
    }
    run.hardware["open_streams"] = json!(1);
    run.hardware["smmu_events"]["translation"] = json!(0);
    run.console.truncate(8);
    run.console.push("ERROR stop GH-5003: rejected: 00:05.0 vdev 0x28 refused at Map: reject".into());
    run
}

#[test]
fn a_stop_names_the_device_that_was_refused_and_the_one_that_was_not() {
    let judgement = judged(&stopped(), "");
    assert_eq!(failed(&stopped(), ""), []);
    assert_eq!(judgement.exit_status(), 10);
    let devices = &judgement.report.devices;
    let words: Vec<_> = devices.iter().map(|device| (device.verdict, device.mode)).collect();
    let (accepted, refused) = ((Some("accepted"), "none"), (Some("refused"), "none"));
    assert_eq!(words, [accepted, refused, refused, (None, "none"), (Some("extra"), "none")]);
    assert_eq!(devices[EDU].reason.as_deref(), Some("rejected: 00:05.0 vdev 0x28 refused at Map: reject"));
    assert_eq!(devices[OPTIONAL].reason.as_deref(), Some("Verify: the report"));
    assert_eq!(devices[0].reason, None);
}

#[test]
fn what_a_stop_leaves_of_any_device_is_found_and_names_it() {
    let cases: [(&str, Change<'_>); 6] = [
        ("dma-off", &|run| run.hardware["devices"][EDU]["stream"] = json!("private-only")),
        ("dma-off", &|run| run.state.devices[EDU].dma = DmaGate::SharedOnly),
        ("device-unlocked", &|run| run.state.devices[EDU].state = TdiState::Locked),
        ("device-unlocked", &|run| run.state.devices[EDU].operation_pending = true),
        ("function-quiet", &|run| run.state.devices[EDU].command = 2),
        ("ranges-given-up", &|run| {
            let (base, top) = (0x1000_0000, 0x1010_0000);
            add(run, [(105, Event::Ripas { base, top, from: Ripas::Empty, to: Ripas::Destroyed })]);
        }),
    ];
    for (index, (name, change)) in cases.into_iter().enumerate() {
        let mut run = stopped();
        change(&mut run);
        let failed = failed(&run, "");
        assert_eq!(failed.len(), 1, "case {index}: {failed:?}");
        assert_eq!(failed[0].0, name, "case {index}");
        assert!(failed[0].1.starts_with("00:05.0: "), "case {index}: {}", failed[0].1);
    }
}

#[test]
fn a_leak_that_the_scenario_makes_for_one_device_does_not_hide_another() {
    let lie = "[[misbehaviour]]\nlie = \"unlock-fails\"\ndevice = \"05.0\"\nnth = 0\n";
    let mut run = stopped();
    run.state.devices[EDU].state = TdiState::Locked;
    let judgement = judged(&run, lie);
    assert_eq!(judgement.exit_status(), 10);
    assert_eq!(judgement.report.leaked, ["RHI_DA_VDEV_SET_TDI_STATE"]);
    run.state.devices[0].state = TdiState::Locked;
    assert_eq!(failed(&run, lie)[0].0, "device-unlocked");
}
