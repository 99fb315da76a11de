//! Runs whose device is pinned, and decisions of the policy that the console says or does not say.

use super::tests::{BAR, Change, Example, example, known, one_device};
use super::*;
use rmm_model::final_state::{DevRange, TdiState};
use rmm_model::machine::DmaGate;
use serde_json::json;

/// The example's device in mode `pin`: locked, unlocked again and quiet; nothing of it was ever private.
fn pinned() -> (Example, Scenario) {
    let mut run = example();
    run.records.retain(|record| {
        !matches!(&record.event, Event::Dma { .. } | Event::Ripas { base: BAR, .. })
            && !matches!(&record.event, Event::Rsi { call, .. } if call.contains("MAPPING") || call.contains("ENABLE"))
    });
    for record in &mut run.records {
        if let Event::Tdi { to: to @ TdiState::Run, .. } = &mut record.event {
            *to = TdiState::Unlocked;
        }
    }
    for (seq, record) in run.records.iter_mut().enumerate() {
        record.seq = seq as u64;
    }
    run.totals.rsi_calls -= 2;
    run.totals.host_exits -= 1;
    run.state.totals = run.totals;
    let device = &mut run.state.devices[0];
    (device.state, device.rmm_state, device.dma) =
        (TdiState::Unlocked, Some(TdiState::Unlocked), DmaGate::Abort);
    device.command = 0;
    device.dev_ranges.clear();
    device.validated.clear();
    run.hardware["devices"][0]["stream"] = json!("abort");
    run.hardware["devices"][0]["dev"] = json!({ "pages": 0, "protected_leaves": 0, "alias_leaves": 0 });
    run.hardware["gates"][0]["stream"] = json!("abort");
    run.hardware["open_streams"] = json!(1);
    run.console.retain(|line| !line.contains("@00:02.0"));
    for line in &mut run.console {
        *line = line.replace("mode run", "mode pin");
    }
    let end = run.console.len() - 1;
    for name in ["pin-node", "pin-quiet"] {
        run.console.insert(end, format!("RESULT {name}@00:02.0 pass"));
    }
    (run, one_device("expect = \"pin\"\n[bundle]\nos = \"unaware\"\n"))
}

/// Names of failed results.
fn failed_of((run, scenario): &(Example, Scenario)) -> Vec<String> {
    let results = run.judge_with(scenario, &known()).unwrap().report.results.into_iter();
    results.filter(|result| result.result == Word::Fail).map(|result| result.name).collect()
}

#[test]
fn a_pinned_device_is_accepted_and_quiet() {
    let good = pinned();
    assert_eq!(failed_of(&good), [""; 0]);
    let report = good.0.judge_with(&good.1, &known()).unwrap().report;
    assert_eq!((report.devices[0].verdict, report.devices[0].mode), (Some("accepted"), "pin"));
    for name in ["pinned-quiet", "no-dma-enable"] {
        assert!(
            report.results.iter().any(|result| result.name == name && result.result == Word::Pass),
            "{name}"
        );
    }
}

#[test]
fn what_a_pinned_device_must_not_keep_is_found() {
    let add = |run: &mut Example, event| {
        let record =
            run.records.iter_mut().find(|record| matches!(record.event, Event::Config { offset: 0x40, .. }));
        let record = record.unwrap();
        record.event = event;
        run.totals.config_accesses -= 1;
        run.totals.host_exits -= 1;
        run.state.totals = run.totals;
    };
    let cases: [(&[&str], Change<'_>); 8] = [
        (&["pinned-quiet"], &|run| run.state.devices[0].state = TdiState::Locked),
        (&["pinned-quiet"], &|run| run.state.devices[0].rmm_state = Some(TdiState::Locked)),
        (&["pinned-quiet"], &|run| run.state.devices[0].command = 2),
        (&["pinned-quiet"], &|run| run.state.devices[0].dma = DmaGate::SharedOnly),
        (&["pinned-quiet"], &|run| {
            run.state.devices[0].validated.push(DevRange { ipa: BAR, pa: 0, len: 0x1000 });
        }),
        (&["pinned-quiet"], &|run| run.hardware["devices"][0]["stream"] = json!("private-only")),
        (&["pinned-quiet"], &|run| {
            for record in &mut run.records {
                if let Event::Tdi { to: to @ TdiState::Locked, .. } = &mut record.event {
                    *to = TdiState::Unlocked;
                }
            }
        }),
        (&["pinned-quiet", "no-dma-enable"], &|run| {
            add(run, Event::Dma { rid: 0x10, gate: DmaGate::PrivateOnly });
        }),
    ];
    for (index, (names, change)) in cases.into_iter().enumerate() {
        let mut bad = pinned();
        change(&mut bad.0);
        assert_eq!(failed_of(&bad), names, "case {index}");
    }
}

#[test]
fn a_decision_that_the_console_does_not_say_or_says_otherwise_is_found() {
    let decided = |run: &mut Example, text: Option<&str>| {
        let at = run.console.iter().position(|line| line.contains("policy")).unwrap();
        match text {
            Some(text) => run.console[at] = format!("INFO policy 00:02.0 at 02.0: rule slot-02.0: {text}"),
            None => drop(run.console.remove(at)),
        }
    };
    for text in [None, Some("accepted, mode pin"), Some("refused, GH-4128: not signed")] {
        let mut run = example();
        decided(&mut run, text);
        assert_eq!(run.failed(), (vec!["console-agrees".into()], 1), "{text:?}");
    }
}
