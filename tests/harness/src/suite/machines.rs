//! Boots on other machines: the 16550 board, no console, a debugger, a second processor.

use super::cases::{accepted, boots, failures, is_refused, json_of, need};
use super::{Bench, Case, done};
use crate::json::Word;
use crate::judge::{Ending, PayloadKind};
use crate::run::{Ran, Request};

const OTHER_BOARD: &str = "qemu-virt-16550";

pub(super) fn all() -> Vec<Case> {
    use PayloadKind::{Demo, Linux};
    vec![
        Case::new("the demo payload boots with a 16550 console", Demo, |bench| on_other_board(bench, Demo)),
        Case::new("Linux boots with a 16550 console", Linux, |bench| on_other_board(bench, Linux)),
        Case::new("no-console: boots, and the stub's log alone confirms it", Demo, without_console),
        Case::new("no-console-stop: the JSON has the code that no console says", Demo, stops_without_console),
        Case::new("two-recs: the first REC boots, the second parks", Demo, |bench| {
            let ran = boots(bench, &Request::new(bench.tools, Demo, "two-recs"))?;
            accepted(&ran)?;
            let word = word_of(&ran, "second-rec-parked");
            need(word == Some(Word::Pass), || format!("second-rec-parked is {word:?}"))?;
            done(&ran);
            Ok(())
        }),
        Case::new(
            "--gdb: a debugger stops the firmware at its first instruction",
            Demo,
            super::debugger::stops_at_the_entry,
        ),
    ]
}

fn on_other_board(bench: &Bench<'_>, payload: PayloadKind) -> Result<(), String> {
    let plain = Request::new(bench.tools, payload, "plain");
    let ran = boots(bench, &Request { board: OTHER_BOARD.to_owned(), ..plain })?;
    accepted(&ran)?;
    let exits = ran.log.end.hardware.exits.console;
    need(exits > 1000, || format!("the 16550 was accessed {exits} times"))?;
    done(&ran);
    Ok(())
}

fn word_of(ran: &Ran, name: &str) -> Option<Word> {
    ran.judgement.report.results.iter().find(|result| result.name == name).map(|result| result.result)
}

fn without_console(bench: &Bench<'_>) -> Result<(), String> {
    let ran = boots(bench, &Request::new(bench.tools, PayloadKind::Demo, "no-console"))?;
    let report = &ran.judgement.report;
    need(ran.judgement.ending == Ending::HandedOff && report.phases.is_empty(), || failures(&ran))?;
    for (name, word) in [
        ("console-agrees", Word::Skip),
        ("payload-complete", Word::Skip),
        ("device-run", Word::Pass),
        ("dma-private-only", Word::Pass),
        ("smmu-tables", Word::Pass),
    ] {
        need(word_of(&ran, name) == Some(word), || format!("{name} is {:?}", word_of(&ran, name)))?;
    }
    // The counts of the device are those of a run with console.
    let plain = boots(bench, &Request::new(bench.tools, PayloadKind::Demo, "plain"))?;
    let counts = |ran: &Ran| {
        let devices = ran.judgement.report.devices.iter();
        devices.map(|d| (d.bdf.clone(), d.rsi_calls, d.host_exits, d.config_accesses)).collect::<Vec<_>>()
    };
    need(counts(&ran) == counts(&plain), || format!("{:?}\n{:?}", counts(&ran), counts(&plain)))?;
    done(&ran);
    done(&plain);
    Ok(())
}

fn stops_without_console(bench: &Bench<'_>) -> Result<(), String> {
    let json = json_of(bench, "no-console-stop")?;
    let is_mute = json["phases"].as_array().is_some_and(Vec::is_empty);
    need(is_refused(&json) && is_mute, || json.to_string())
}
