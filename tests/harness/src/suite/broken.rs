//! A firmware that is broken on purpose: each fault ends in SYSTEM_OFF with its documented code, nothing of the firmware is
//! left for the payload, and stack and heap have room to spare.
//!
//! The firmware is a build of its own (src/arch/aarch64/fault.rs); the command line of the bundle picks the fault.

use super::cases::{boots_scenario, failures, need};
use super::{Bench, Case, done};
use crate::json::Word;
use crate::judge::{Ending, PayloadKind};
use crate::run::{Ran, Request};
use crate::{scenario, sizes};
use gatehouse::codes::StopCode;
use std::fs;

/// ESR_EL1.EC of exceptions that EL1 takes from itself.
const FETCH: u64 = 0x21;
const DATA: u64 = 0x25;
const SERROR: u64 = 0x2f;
/// Fault status of ESR_EL1: alignment; the high bits of translation and of permission faults.
const ALIGNMENT: u64 = 0x21;
const TRANSLATION: u64 = 0x04;
const PERMISSION: u64 = 0x0c;
/// The level in the status of translation and permission faults.
const LEVEL: u64 = 0b11;

/// What the console says of it.
#[derive(Clone, Copy)]
enum Said {
    /// Class and status of an exception; bits of the status that do not matter.
    Exception(u64, u64, u64),
    /// An interrupt or another exception whose syndrome says nothing.
    Any,
    /// A panic with this text.
    Panic(&'static str),
}

use Said::{Any, Exception, Panic};

/// Fault, code, console.
const FAULTS: [(&str, StopCode, Said); 20] = [
    ("stack-guard", StopCode::StackOverflow, Exception(DATA, TRANSLATION, LEVEL)),
    ("null", StopCode::Exception, Exception(DATA, TRANSLATION, LEVEL)),
    ("unaligned-exclusive", StopCode::Exception, Exception(DATA, ALIGNMENT, 0)),
    ("execute-heap", StopCode::Exception, Exception(FETCH, PERMISSION, LEVEL)),
    ("execute-stack", StopCode::Exception, Exception(FETCH, PERMISSION, LEVEL)),
    ("execute-constants", StopCode::Exception, Exception(FETCH, PERMISSION, LEVEL)),
    ("execute-bundle", StopCode::Exception, Exception(FETCH, PERMISSION, LEVEL)),
    ("write-text", StopCode::Exception, Exception(DATA, PERMISSION, LEVEL)),
    ("write-constants", StopCode::Exception, Exception(DATA, PERMISSION, LEVEL)),
    ("write-bundle", StopCode::Exception, Exception(DATA, PERMISSION, LEVEL)),
    ("exception-in-exception", StopCode::ReportNested, Exception(DATA, TRANSLATION, LEVEL)),
    ("panic-in-exception", StopCode::ReportNested, Exception(DATA, TRANSLATION, LEVEL)),
    ("panic", StopCode::Panic, Panic("on purpose")),
    ("panic-in-panic", StopCode::ReportNested, Any),
    ("exception-in-panic", StopCode::ReportNested, Any),
    ("heap", StopCode::Memory, Panic("memory allocation of")),
    ("serror", StopCode::SError, Exception(SERROR, 0, 0x3f)),
    ("irq", StopCode::Interrupt, Any),
    ("fiq", StopCode::Interrupt, Any),
    ("overflow", StopCode::Panic, Panic("attempt to add with overflow")),
];

/// Most of the stack that a boot may need, of 4 parts.
const STACK_PARTS: u64 = 3;
/// Most of the heap, of 4 parts.
const HEAP_PARTS: u64 = 2;
/// Boots that need the most of either: many devices, the longest evidence.
const DEEP: [&str; 2] = ["topology", "slow-host"];

pub(super) fn all() -> Vec<Case> {
    let mut cases: Vec<Case> = FAULTS
        .into_iter()
        .map(|(word, code, said)| {
            let sentence = format!("broken: {word}: ends with {code}, {}", code.text());
            Case::new(sentence, PayloadKind::Demo, move |bench| ends_with(bench, word, code, said))
        })
        .collect();
    for word in ["serror", "irq"] {
        let sentence = format!("broken: a pending {word} changes nothing: it is masked");
        cases.push(Case::new(sentence, PayloadKind::Demo, move |bench| {
            let ran = boots_with(bench, "plain", &format!("gatehouse.fault={word}-masked"))?;
            need(console(&ran)?.contains(&format!("fault: {word}-masked")), || "not asked for".into())?;
            done(&ran);
            Ok(())
        }));
    }
    cases.push(Case::new(
        "broken: canaries in heap, stack, bss, tables, registers and shared window do not reach the payload",
        PayloadKind::Demo,
        |bench| {
            let ran = boots_with(bench, "plain", "gatehouse.fault=canaries gatehouse.leftovers")?;
            let results = &ran.judgement.report.results;
            let found = results.iter().find(|result| result.name == "nothing-left");
            need(found.is_some_and(|result| result.result == Word::Pass), || format!("{results:?}"))?;
            done(&ran);
            Ok(())
        },
    ));
    for name in DEEP {
        let sentence = format!("broken: {name} leaves a quarter of the stack and half of the heap");
        cases.push(Case::new(sentence, PayloadKind::Demo, move |bench| has_room(bench, name)));
    }
    cases.push(Case::new(
        "broken: scripts/check tells a test build from the image",
        PayloadKind::Demo,
        |bench| {
            let is_test_build = |bench: &Bench<'_>| {
                fs::read(&bench.artifacts.firmware)
                    .map(|file| sizes::is_test_build(&file))
                    .map_err(|e| e.to_string())
            };
            need(!is_test_build(bench)? && is_test_build(&bench.breakable()?)?, || "it does not".into())
        },
    ));
    cases
}

fn console(ran: &Ran) -> Result<String, String> {
    fs::read(ran.dir.join("console.txt"))
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .map_err(|error| error.to_string())
}

fn boots_with(bench: &Bench<'_>, name: &str, words: &str) -> Result<Ran, String> {
    let bench = bench.breakable()?;
    let request = Request::new(bench.tools, PayloadKind::Demo, name);
    let mut scenario = scenario::load(&request.scenario).map_err(|fault| fault.to_string())?;
    scenario.bundle.cmdline = format!("{} {words}", scenario.bundle.cmdline);
    boots_scenario(&bench, &request, &scenario)
}

fn ends_with(bench: &Bench<'_>, word: &str, code: StopCode, said: Said) -> Result<(), String> {
    let bench = bench.breakable()?;
    let plain = Request::new(bench.tools, PayloadKind::Demo, "plain");
    let ran = bench.run(&Request { append: format!("gatehouse.fault={word}"), ..plain })?;
    let console = console(&ran)?;
    need(ran.judgement.ending == Ending::Stopped(code), || {
        format!("ended with {:?}\n{console}{}", ran.judgement.ending, failures(&ran))
    })?;
    need(console.contains("TEST BUILD"), || "a test build that does not say so".into())?;
    // The console of a panic is a fault of the run for the judge; everything else must hold.
    let results = &ran.judgement.report.results;
    let failed =
        results.iter().filter(|result| result.result == Word::Fail && result.name != "console-agrees");
    need(failed.count() == 0, || failures(&ran))?;
    let is_said = match said {
        Any => true,
        Panic(text) => console.contains(&format!("PANIC {code}")) && console.contains(text),
        Exception(class, status, any) => {
            syndrome(&console).is_some_and(|esr| esr >> 26 == class && esr & 0x3f & !any == status & !any)
        }
    };
    need(is_said, || format!("the console says:\n{console}"))?;
    done(&ran);
    Ok(())
}

/// ESR_EL1 of the first exception on the console.
fn syndrome(console: &str) -> Option<u64> {
    let (_, rest) = console.split_once("EXCEPTION ")?.1.split_once(" esr 0x")?;
    u64::from_str_radix(rest.split_whitespace().next()?, 16).ok()
}

fn has_room(bench: &Bench<'_>, name: &str) -> Result<(), String> {
    let ran = boots_with(bench, name, "")?;
    let console = console(&ran)?;
    let of = |what: &str| -> Option<(u64, u64)> {
        let rest = console.split_once(&format!(" {what}="))?.1;
        let (peak, size) = rest.split_whitespace().next()?.split_once('/')?;
        Some((peak.parse().ok()?, size.parse().ok()?))
    };
    for (what, parts) in [("stack", STACK_PARTS), ("heap", HEAP_PARTS)] {
        let (peak, size) = of(what).ok_or_else(|| format!("no peak of the {what}:\n{console}"))?;
        need(peak > 1024 && peak <= size / 4 * parts, || format!("{what}: {peak} of {size} bytes"))?;
    }
    done(&ran);
    Ok(())
}
