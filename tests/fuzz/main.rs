//! Fuzzing: mutants of honest inputs, and of what earlier runs found, for every reader of foreign bytes and for a whole boot.
//!
//! Without options, as a test: each target replays its corpus and runs some mutants by a fixed seed. `scripts/fuzz` builds it
//! with counters of edges and keeps what reaches something new.

#[path = "../common/mod.rs"]
mod common;

#[path = "../matrix/bench.rs"]
#[allow(dead_code, reason = "the table uses more of it")]
mod bench;
#[path = "../matrix/judge.rs"]
#[allow(dead_code, reason = "the table uses more of it")]
mod judge;

mod coverage;
mod engine;
mod scenario_host;
mod seeds;
mod targets;

use engine::{Limit, corpus, fuzz};
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

/// Mutants of a target in the test, and of the whole boot.
const INPUTS: u64 = 2_000;
const BOOTS: u64 = 100;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|_| {}));
    let words: Vec<String> = std::env::args().skip(1).collect();
    let mut words = words.iter().map(String::as_str);
    match words.next() {
        Some("--run") => {
            let [name, seconds, seed, keep] = [(); 4].map(|()| words.next().unwrap_or_default());
            one(name, seconds.parse().unwrap_or(60), seed.parse().unwrap_or(1), Path::new(keep))
        }
        Some("--list") => {
            targets::ALL.iter().for_each(|(name, _)| println!("{name}"));
            ExitCode::SUCCESS
        }
        _ => replay(),
    }
}

/// Replays every corpus.
fn replay() -> ExitCode {
    let mut failed = 0;
    for (name, target) in targets::ALL {
        let pool = [seeds::of(name), corpus(name)].concat();
        let num = pool.len();
        let report = fuzz(target, pool, 1, Limit::Inputs(if name == "host" { BOOTS } else { INPUTS }));
        println!("{name}: {num} inputs and {} mutants", report.inputs);
        if let Some((bytes, text)) = report.finding {
            println!("{name}: {text}\n{}", gatehouse_cli::hex(&bytes));
            failed += 1;
        }
    }
    let (word, passed) =
        if failed == 0 { ("ok", targets::ALL.len()) } else { ("FAILED", targets::ALL.len() - failed) };
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs one target for a time; keeps what is new in a folder.
fn one(name: &str, seconds: u64, seed: u64, keep: &Path) -> ExitCode {
    let Some((_, target)) = targets::ALL.into_iter().find(|target| target.0 == name) else {
        eprintln!("fuzz: no target {name}");
        return ExitCode::from(2);
    };
    let pool = [seeds::of(name), corpus(name)].concat();
    let report = fuzz(target, pool, seed, Limit::Time(Duration::from_secs(seconds)));
    let write = |bytes: &[u8], kind: &str, number: usize| {
        let _made = fs::create_dir_all(keep);
        let path = keep.join(format!("{kind}-{number:04}"));
        fs::write(&path, bytes).map(|()| path)
    };
    for (number, bytes) in report.kept.iter().enumerate() {
        let _written = write(bytes, "new", number);
    }
    let findings = u32::from(report.finding.is_some());
    println!(
        "| {name} | {seed} | {seconds} | {} | {} | {} | {findings} |",
        report.inputs,
        report.edges,
        report.kept.len()
    );
    if let Some((bytes, text)) = report.finding {
        let path = write(&bytes, "finding", 0);
        eprintln!("{name}: {text} ({path:?})");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
