//! The host programs a device's DMA engine behind the realm's back: what arrives is what the realm shares, and nothing of
//! its private memory, before DMA_ENABLE, after a refusal, in mode `shared`. That private memory can be reached at all is
//! shown by the same write once DMA_ENABLE has opened the gate: it arrives.

use super::cases::{failures, need};
use super::{Bench, Case, done};
use crate::judge::{Ending, PayloadKind};
use crate::run::Request;
use gatehouse::codes::StopCode;
use rmm_model::scenario::DmaMoment::{self, Enabled, End, Locked, Mapped, Mastering, Unlocked};
use rmm_model::scenario::DmaTarget::{self, Private, Shared};

type Attempts = &'static [(DmaMoment, DmaTarget, bool)];

/// Scenario, sentence, code if it stops, what arrives.
const RUNS: [(&str, &str, Option<StopCode>, Attempts); 3] = [
    (
        "host-dma-edu",
        "what the host lets a device write reaches private memory after DMA_ENABLE only",
        None,
        &[
            (Mastering, Private, false),
            (Mastering, Shared, true),
            (Locked, Private, false),
            (Mapped, Private, false),
            (Enabled, Private, true),
        ],
    ),
    (
        "host-dma-refused",
        "what the host lets a refused device write does not reach private memory",
        Some(StopCode::ReportDigest),
        &[(Locked, Private, false), (Unlocked, Private, false), (End, Private, false)],
    ),
    (
        "host-dma-shared",
        "a device in mode shared reaches what the payload shares, and no private memory",
        None,
        &[(Mastering, Private, false), (End, Private, false), (End, Shared, true)],
    ),
];

#[cfg(test)]
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    RUNS.iter().map(|run| run.0)
}

pub(super) fn all() -> Vec<Case> {
    let case = |(name, sentence, code, attempts)| {
        Case::new(format!("{name}: {sentence}"), PayloadKind::Demo, move |bench| {
            run(bench, name, code, attempts)
        })
    };
    RUNS.into_iter().map(case).collect()
}

fn run(bench: &Bench<'_>, name: &str, code: Option<StopCode>, attempts: Attempts) -> Result<(), String> {
    let request = Request::new(bench.tools, PayloadKind::Demo, name);
    let ran = bench.run(&request)?;
    // What arrived comes first: it is what the test is about, and what the tables allow is judged beside it.
    let found: Vec<_> =
        ran.log.host_dma.iter().map(|result| (result.at, result.to, result.arrived)).collect();
    let expected: Vec<_> = attempts.iter().map(|(at, to, arrived)| (*at, *to, Some(*arrived))).collect();
    need(found == expected, || format!("host DMA: {found:?}, not {expected:?} (see {})", ran.dir.display()))?;
    let (ending, status) = code.map_or((Ending::HandedOff, 0), |code| (Ending::Stopped(code), 10));
    let judgement = &ran.judgement;
    need(judgement.ending == ending && judgement.exit_status() == status, || failures(&ran))?;
    done(&ran);
    Ok(())
}
