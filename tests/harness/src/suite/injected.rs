//! Lies by place in the real image, some hundreds of the classes of docs/assurance.md. With scripts/test --deep only;
//! tests/matrix tells all of them to the library.

use super::cases::need;
use super::{Bench, Case};
use crate::board::{self, Board};
use crate::judge::PayloadKind;
use crate::run::{Booted, Prepared, Request};
use crate::story::Story;
use crate::{disk, image, scenario};
use gatehouse::codes::StopCode;
use rmm_model::final_state::{FinalState, Outcome};
use rmm_model::machine::DmaGate;
use rmm_model::scenario::{Act, Change, Crossing, Deed, Injection, RhiCall, RsiCall};
use std::fs;

use Crossing::{ConfigRead, ConfigWrite, Rhi, Rsi};

/// Places of a boot with one NVMe, and occurrences that the firmware comes to.
const PLACES: [(Crossing, &[u32]); 22] = [
    (Rsi(RsiCall::Version), &[1]),
    (Rsi(RsiCall::Features), &[1]),
    (Rsi(RsiCall::RealmConfig), &[1]),
    (Rsi(RsiCall::MeasurementExtend), &[1, 9]),
    (Rsi(RsiCall::IpaStateGet), &[1, 3]),
    (Rsi(RsiCall::IpaStateSet), &[1, 2]),
    (Rsi(RsiCall::HostCall), &[1, 6, 13, 17]),
    (Rsi(RsiCall::VdevGetInfo), &[1, 2, 3, 4, 5, 6]),
    (Rsi(RsiCall::VdevValidateMapping), &[1]),
    (Rsi(RsiCall::VdevDmaEnable), &[1]),
    (Rhi(RhiCall::DaVersion), &[1]),
    (Rhi(RhiCall::DaFeatures), &[1]),
    (Rhi(RhiCall::HostconfVersion), &[1]),
    (Rhi(RhiCall::HostconfFeatures), &[1]),
    (Rhi(RhiCall::HostconfGetIpaChangeAlignment), &[1]),
    (Rhi(RhiCall::DaVdevSetTdiState), &[1, 2]),
    (Rhi(RhiCall::DaVdevGetInterfaceReport), &[1]),
    (Rhi(RhiCall::DaVdevGetMeasurements), &[1]),
    (Rhi(RhiCall::DaObjectSize), &[1, 4]),
    (Rhi(RhiCall::DaObjectRead), &[1, 2, 3, 4]),
    (ConfigRead, &[1, 20, 60, 120]),
    (ConfigWrite, &[1, 10, 30]),
];

const ANSWERS: [Act; 5] = [
    Act::Refuse(0),
    Act::Refuse(6),
    Act::Answer { word: 0, change: Change::Set(u64::MAX) },
    Act::Answer { word: 1, change: Change::Xor(1) },
    Act::Answer { word: 1, change: Change::Set(u64::MAX) },
];
const DEEDS: [Deed; 6] =
    [Deed::Relock, Deed::Unlock, Deed::Error, Deed::Exchange, Deed::DestroyDev, Deed::Scribble];

pub(super) fn all() -> Vec<Case> {
    let case = |(at, occurrences): (Crossing, &'static [u32])| {
        let sentence = format!("lies at {at:?}: each boot ends with a code, or as it should");
        Case::new(sentence, PayloadKind::Demo, move |bench| {
            let acts = ANSWERS.into_iter().chain(DEEDS.map(Act::Before)).chain([Act::After(Deed::Scribble)]);
            // A load cannot be refused.
            for act in acts.filter(|act| at != ConfigRead || !matches!(act, Act::Refuse(_))) {
                for nth in occurrences {
                    ends(bench, &Injection { at, nth: *nth, count: 1, act, device: String::new() })?;
                }
            }
            Ok(())
        })
    };
    PLACES.into_iter().map(case).collect()
}

fn ends(bench: &Bench<'_>, injection: &Injection) -> Result<(), String> {
    let text = |fault: crate::Fault| format!("{injection:?}: {fault}");
    let request = Request::new(bench.tools, PayloadKind::Demo, "plain");
    let mut scenario = scenario::load(&request.scenario).map_err(text)?;
    scenario.injection.push(injection.clone());
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
    let (tools, artifacts) = (bench.tools, bench.artifacts);
    let prepared =
        Prepared { tools, artifacts, board: &board, request: &request, packed: &packed, nonce: &nonce };
    let Booted { dir, log, .. } = prepared.logged(&scenario, true, &mut Story::silent()).map_err(text)?;
    let state = &log.end.final_state;
    judged(injection, state).map_err(|why| format!("{injection:?} (see {}): {why}", dir.display()))?;
    let _ = fs::remove_dir_all(&dir);
    Ok(())
}

/// What must hold of the state that the run left.
fn judged(injection: &Injection, state: &FinalState) -> Result<(), String> {
    need(!state.lies.is_empty(), || "the lie was not told".into())?;
    need(state.violations.is_empty(), || format!("{:?}", state.violations))?;
    let is_deed = matches!(injection.act, Act::Before(_) | Act::After(_));
    let code = match state.outcome {
        Outcome::PowerOff { code } => code,
        // Under a page that the host took away nothing goes on.
        Outcome::Stopped if is_deed => return Ok(()),
        other => return Err(format!("ended with {other:?}")),
    };
    let known = |code: u64| StopCode::ALL.iter().any(|known| u64::from(known.number()) == code);
    need(code == 0 || known(code), || format!("ended with {code}, which is no stop code"))?;
    for device in &state.devices {
        let runs = device.dma == DmaGate::PrivateOnly;
        need(code == 0 || !runs, || format!("a stop, and {} keeps its DMA", device.slot))?;
        // What the host does after the firmware's last look takes the device away, or the RMM's word that it opened its DMA;
        // nothing else does.
        let may_lack = is_deed || matches!(injection.at, Rsi(_));
        need(code != 0 || runs || may_lack, || format!("the payload ran without {}", device.slot))?;
    }
    Ok(())
}
