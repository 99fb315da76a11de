//! Device trees with random bytes, many of them: each boot ends by itself, with a code of the phases or as it should. With
//! scripts/test --deep only; tests/random_trees.rs does the same on the host, with more seeds.

use super::cases::need;
use super::{Bench, Case};
use crate::board::{self, Board};
use crate::judge::PayloadKind;
use crate::run::{Booted, Prepared, Request};
use crate::story::Story;
use crate::{disk, image, scenario};
use gatehouse::codes::StopCode;
use rmm_model::final_state::{Outcome, TdiState};
use rmm_model::machine::DmaGate;
use rmm_model::scenario::TreeNoise;
use std::fs;

/// Seeds in all, and of one test: several tests run at a time.
const SEEDS: u64 = 300;
const PER_TEST: u64 = 25;
/// So many of them have 4 KiB of noise; the others have a few bytes, which get further.
const WHOLE: u64 = 200;
/// Codes of the phases; what is above is a firmware that broke.
const CODES: std::ops::RangeInclusive<u16> = 1000..=8001;

pub(super) fn all() -> Vec<Case> {
    let case = |first: u64| {
        let last = first + PER_TEST - 1;
        let sentence = format!("random trees {first} to {last}: each boot ends with a code, or as it should");
        Case::new(sentence, PayloadKind::Demo, move |bench| {
            let mut handed_off = 0;
            for seed in first..=last {
                handed_off += u64::from(ends(bench, seed)?);
            }
            // Or the noise is not in the tree.
            need(last >= WHOLE || handed_off * 5 < PER_TEST, || format!("{handed_off} trees were not harmed"))
        })
    };
    (0..SEEDS).step_by(PER_TEST as usize).map(case).collect()
}

/// Boots with the noise of a seed; tells whether the payload started.
fn ends(bench: &Bench<'_>, seed: u64) -> Result<bool, String> {
    let text = |fault: crate::Fault| format!("seed {seed}: {fault}");
    let request = Request::new(bench.tools, PayloadKind::Demo, "plain");
    let mut scenario = scenario::load(&request.scenario).map_err(text)?;
    let nonce = disk::nonce().map_err(text)?;
    let board = Board::load(&bench.tools.root, board::DEFAULT).map_err(text)?;
    let contents = image::Contents {
        payload: PayloadKind::Demo,
        format: crate::kernel_format::KernelFormat::Plain,
        scenario: &scenario,
        folder: &bench.tools.root,
        nonce: &nonce,
        console: "",
        append: "",
    };
    let packed = image::pack(bench.tools, bench.artifacts, &contents).map_err(text)?;
    let len = if seed < WHOLE { 4096 } else { 1 + seed % 16 };
    scenario.vmm.tree_noise = Some(TreeNoise::somewhere(seed, len));
    let (tools, artifacts) = (bench.tools, bench.artifacts);
    let prepared =
        Prepared { tools, artifacts, board: &board, request: &request, packed: &packed, nonce: &nonce };
    let Booted { dir, log, .. } = prepared.logged(&scenario, true, &mut Story::silent()).map_err(text)?;
    let state = &log.end.final_state;
    let at = || format!("seed {seed} (see {}): {:?}", dir.display(), state.outcome);
    let Outcome::PowerOff { code } = state.outcome else { return Err(at()) };
    let known = |code: u64| StopCode::ALL.iter().any(|known| u64::from(known.number()) == code);
    let is_code = u16::try_from(code).is_ok_and(|code| CODES.contains(&code)) && known(code);
    need(code == 0 || is_code, at)?;
    need(state.violations.is_empty() && state.shared.is_empty(), || {
        format!("{}: {:?}", at(), state.violations)
    })?;
    let expected =
        if code == 0 { (TdiState::Run, DmaGate::PrivateOnly) } else { (TdiState::Unlocked, DmaGate::Abort) };
    for device in state.devices.iter().filter(|device| device.slot == "02.0") {
        need((device.state, device.dma) == expected, || format!("{}: {device:?}", at()))?;
    }
    let _ = fs::remove_dir_all(&dir);
    Ok(code == 0)
}
