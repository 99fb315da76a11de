//! Every RSI and RHI call by every answer that it can get, through the public clients: docs/calls.md is what comes out.
mod common;
#[path = "call_table/rhi.rs"]
mod rhi;
#[path = "call_table/rsi.rs"]
mod rsi;

use gatehouse::addr::Bdf;
use gatehouse::codes::StopCode;
use gatehouse::rhi::Call;
use gatehouse::rsi::Command;
use gatehouse::tdi::{Reason, Rejected, Stage};
use std::collections::BTreeMap;
use std::fmt::{Debug, Write as _};
use std::io::Write as _;
use std::sync::LazyLock;

/// What one answer to one call comes to.
struct Row {
    call: &'static str,
    /// Status or value, and the other results where they matter.
    answer: String,
    /// The specification, or an implementation that spec-map names, has this answer for this call.
    in_spec: bool,
    /// The error as it is called in the code; `Err`: there is none, in words.
    error: Result<String, &'static str>,
    codes: Vec<StopCode>,
}

impl Row {
    fn new<E: Debug>(
        call: &'static str,
        answer: &str,
        in_spec: bool,
        result: Result<&'static str, E>,
        codes: impl FnOnce(E) -> Vec<StopCode>,
    ) -> Self {
        let error = match &result {
            Ok(words) => Err(*words),
            Err(error) => Ok(in_hex(&format!("{error:?}"))),
        };
        let mut codes = result.err().map(codes).unwrap_or_default();
        codes.dedup();
        Self { call, answer: answer.into(), in_spec, error, codes }
    }
}

/// Writes the numbers above 9 as the specifications do.
fn in_hex(text: &str) -> String {
    let words = text.split_inclusive(|c: char| !c.is_ascii_alphanumeric());
    let words = words.map(|word| {
        let number = word.trim_end_matches(|c: char| !c.is_ascii_alphanumeric());
        match number.parse::<u64>() {
            Ok(value @ 10..) => format!("{value:#x}{}", &word[number.len()..]),
            _ => word.to_owned(),
        }
    });
    words.collect()
}

/// The code with which a device is refused.
fn refused(stage: Stage, reason: impl Into<Reason>) -> StopCode {
    let bdf = Bdf::from_routing_id(0x10);
    Rejected { bdf, vdev: bdf.into(), stage, reason: reason.into(), leaks: Vec::new() }.code()
}

/// Errors that several answers of one call share, and why.
const SHARED: [(&str, &str, &str); 1] =
    [("RSI_VERSION", "NoVersion", "what is offered counts, not the status that it is offered with")];

const HEAD: &str = "\
# Calls, their answers, and what comes of them

Generated from the clients by `tests/call_table.rs`. *spec*: whether the specification, or an implementation that
[spec-map.md](spec-map.md) names, has this answer for this call; an RMM or a host can give any other as well. *stop code*: the codes of
[codes.md](codes.md) with which a boot may end there, in the order of the steps that make the call; none where no step makes it, or only the
way back does.

";

const NOTES: &str = "
## Before it comes to that

- RSI_INCOMPLETE of a VDEV command: the same call again, 64 times. RSI_IPA_STATE_SET and RSI_VDEV_VALIDATE_MAPPING without progress: 64 times.
- RSI_ERROR_INPUT of RSI_VDEV_GET_INFO before the lock and after the unlock means that there is no such VDEV: no error there.
- What fails on the way back (RSI_VDEV_DMA_DISABLE, RSI_IPA_STATE_SET, RHI_DA_VDEV_SET_TDI_STATE to unlock) is logged as leaked; the stop
  code is that of what went wrong first.
- ACCESS_FAILED: the first calls that pass a buffer are made a second time with the other form of its address.
- DATA_NOT_AVAILABLE, INVALID_OBJECT and OBJECT_UNSUPPORTED of RHI_DA_OBJECT_SIZE for the VCA: its other number is tried.
- INCOMPLETE and BUSY of an operation: it is continued or asked for again within its budget, then aborted; so is one that CONTINUE lost.
- A status that this table calls reserved stands for all of its kind. One half of a register is no status.
";

fn rendered(rows: &[Row]) -> String {
    let mut text = String::from(HEAD);
    let mut before = "";
    for row in rows {
        if row.call != before {
            let line = if before.is_empty() { "" } else { "\n" };
            write!(
                text,
                "{line}## {}\n\n| answer | spec | error | stop code |\n|---|---|---|---|\n",
                row.call
            )
            .unwrap();
            before = row.call;
        }
        let error = match &row.error {
            Ok(error) => format!("`{error}`"),
            Err(words) => (*words).to_owned(),
        };
        let codes: Vec<_> = row.codes.iter().map(StopCode::to_string).collect();
        let in_spec = if row.in_spec { "yes" } else { "no" };
        writeln!(text, "| {} | {in_spec} | {error} | {} |", row.answer, codes.join(", ")).unwrap();
    }
    text.push_str(NOTES);
    for (call, error, why) in SHARED {
        writeln!(text, "- {call}: answers that come to `{error}` share it: {why}.").unwrap();
    }
    text
}

/// All rows, in the order of the function ids.
static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| {
    let commands = Command::ALL.iter().flat_map(|command| rsi::rows(*command));
    commands.chain(Call::ALL.iter().flat_map(|call| rhi::rows(*call))).collect()
});

/// Run with `GATEHOUSE_BLESS=1` to write the file after a change of a client.
#[test]
fn the_documented_calls_are_the_ones_of_the_code() {
    let text = rendered(&ROWS);
    // Past the capture of the test harness: whoever runs the tests sees the table.
    std::io::stdout().write_all(text.as_bytes()).unwrap();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/calls.md");
    if std::env::var_os("GATEHOUSE_BLESS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert!(std::fs::read_to_string(path).unwrap() == text, "docs/calls.md is not what the code says");
}

#[test]
fn each_call_has_its_statuses_in_the_table() {
    let mut counts = BTreeMap::<&str, usize>::new();
    for row in &*ROWS {
        *counts.entry(row.call).or_default() += 1;
    }
    let commands = Command::ALL.iter().map(|command| (command.name(), rsi::STATUSES.len()));
    for (name, least) in commands.chain(Call::ALL.iter().map(|call| (call.name(), rhi::num_statuses(*call))))
    {
        let count = counts.remove(name).unwrap_or(0);
        assert!(count >= least && least > 0, "{name}: {count} rows");
    }
    assert!(counts.is_empty(), "{counts:?}");
}

#[test]
fn each_status_of_a_call_is_an_error_of_its_own() {
    let mut seen = BTreeMap::new();
    for Row { call, answer, error, .. } in &*ROWS {
        let Ok(error) = error else { continue };
        if SHARED.iter().any(|(name, prefix, _)| name == call && error.starts_with(prefix)) {
            continue;
        }
        if let Some(other) = seen.insert((call, error), answer) {
            panic!("{call}: {other} and {answer} both are {error}");
        }
    }
}

#[test]
fn no_status_of_the_specification_goes_without_a_name() {
    for Row { call, answer, in_spec, error, .. } in &*ROWS {
        let is_unnamed = error.as_ref().is_ok_and(|error| error.contains("Other("));
        assert!(!(is_unnamed && *in_spec), "{call}: {answer}");
        assert_eq!(is_unnamed, answer.contains("reserved"), "{call}: {answer}");
    }
}
