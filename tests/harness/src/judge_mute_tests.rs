//! Runs of a realm without console.

use super::tests::{example, known, one_device};
use super::*;
use serde_json::json;

fn mute() -> Scenario {
    one_device("[vmm]\nconsole = \"none\"\n")
}

#[test]
fn without_console_the_stub_alone_confirms_the_hand_off() {
    let mut run = example();
    let with = run.judge().unwrap().report.devices.remove(0);
    run.console.clear();
    let judgement = run.judge_with(&mute(), &known()).unwrap();
    assert_eq!((judgement.ending, judgement.exit_status()), (Ending::HandedOff, 0));
    let report = judgement.report;
    assert!(report.phases.is_empty());
    assert_eq!(report.payload.result, Word::Skip);
    let skipped: Vec<_> =
        report.results.iter().filter(|r| r.result == Word::Skip).map(|r| &*r.name).collect();
    assert_eq!(skipped.len(), 14);
    for name in ["tree", "nvme-identify@00:02.0", "payload-complete", "console-agrees"] {
        assert!(skipped.contains(&name), "{name}: {skipped:?}");
    }
    let device = &report.devices[0];
    assert_eq!((device.verdict, device.config_accesses), (with.verdict, with.config_accesses));
    // What fails, fails.
    run.hardware["devices"][0]["stream"] = json!("abort");
    assert_eq!(run.judge_with(&mute(), &known()).unwrap().exit_status(), 1);
}

#[test]
fn without_console_a_stop_has_code_and_reason() {
    let mut run = example().stopped(4034);
    run.console.clear();
    let judgement = run.judge_with(&mute(), &known()).unwrap();
    assert_eq!(judgement.exit_status(), 10);
    assert_eq!(judgement.report.code.as_deref(), Some("GH-4034"));
    assert_eq!(judgement.report.devices[0].reason.as_deref(), Some(StopCode::ReportDigest.text()));
}

#[test]
fn a_line_on_no_console_is_found() {
    let mut run = example();
    run.console.truncate(1);
    assert_eq!(run.judge_with(&mute(), &known()).unwrap().exit_status(), 1);
}
