//! A realm that is asked for evidence while its payload runs (contrib/linux/README.md): the verifier's part of one boot.

use super::cases::{boots, failures, need};
use super::measured::tree_of;
use super::verified::convinces;
use super::{Case, done};
use crate::json::Word;
use crate::judge::PayloadKind::Linux;
use crate::run::{Ran, Request};
use crate::scenario;
use crate::verifier::{CHALLENGE_FILE, EVIDENCE_FILE, LOG_FILE, TOKEN_FILE};
use std::fs;

pub(super) const SCENARIO: &str = "evidence-out";

/// What must hold of what was sent; a token that is none would skip the second.
const CHECKS: [&str; 3] = ["evidence-complete", "evidence-fresh", "event-log-begins"];

pub(super) fn all() -> Vec<Case> {
    vec![Case::new(
        "evidence-out: what a running Linux realm sends when it is asked convinces who predicted it, and nobody else",
        Linux,
        |bench| {
            let request = Request::new(bench.tools, Linux, SCENARIO);
            let scenario = scenario::load(&request.scenario).map_err(|fault| fault.to_string())?;
            let ran = boots(bench, &request)?;
            is_whole(&ran)?;
            convinces(bench, &ran.dir, &tree_of(&ran)?, &scenario)?;
            done(&ran);
            Ok(())
        },
    )]
}

/// The parts are in the folder of the run, and hold as far as that shows without a key.
fn is_whole(ran: &Ran) -> Result<(), String> {
    let results = &ran.judgement.report.results;
    for name in CHECKS {
        let passes = results.iter().any(|result| result.name == name && result.result == Word::Pass);
        need(passes, || format!("{name} did not pass\n{}", failures(ran)))?;
    }
    for name in [CHALLENGE_FILE, TOKEN_FILE, LOG_FILE, EVIDENCE_FILE] {
        let len = fs::metadata(ran.dir.join(name)).map_err(|error| format!("{name}: {error}"))?.len();
        need(len > 0, || format!("{name} is empty"))?;
    }
    Ok(())
}
