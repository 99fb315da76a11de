//! A wrong status at one step of a boot with two devices, thirty times: the boot stops, and nothing is left behind.

use super::cases::{failures, need};
use super::{Bench, Case, done};
use crate::judge::{Ending, PayloadKind};
use crate::run::Request;
use crate::scenario;
use crate::trace::word;
use rmm_model::scenario::{Lie, Misbehaviour, RhiCall, RsiCall};

/// The scenario that each of them adds to.
pub(super) const GROUND: &str = "step-failures";

/// A call whose status is replaced.
#[derive(Clone, Copy)]
enum Call {
    Rsi(RsiCall),
    Rhi(RhiCall),
}

use Call::{Rhi, Rsi};

/// Call, which one of a boot, status: in the order of a boot.
const STEPS: [(Call, u32, u64); 30] = [
    (Rsi(RsiCall::Version), 1, 1),
    (Rsi(RsiCall::Features), 1, 1),
    (Rsi(RsiCall::RealmConfig), 1, 1),
    (Rsi(RsiCall::IpaStateGet), 1, 1),
    (Rsi(RsiCall::HostCall), 1, 1),
    (Rsi(RsiCall::IpaStateSet), 1, 1),
    (Rhi(RhiCall::HostconfGetIpaChangeAlignment), 1, 1),
    (Rhi(RhiCall::DaVersion), 1, 1),
    (Rhi(RhiCall::DaFeatures), 1, 1),
    (Rhi(RhiCall::DaVdevSetTdiState), 1, 1),
    (Rhi(RhiCall::DaVdevSetTdiState), 2, 2),
    (Rsi(RsiCall::VdevGetInfo), 2, 1),
    (Rsi(RsiCall::VdevGetInfo), 3, 2),
    (Rsi(RsiCall::HostCall), 14, 1),
    (Rhi(RhiCall::DaVdevGetInterfaceReport), 1, 1),
    (Rhi(RhiCall::DaVdevGetInterfaceReport), 2, 2),
    (Rhi(RhiCall::DaVdevGetMeasurements), 1, 1),
    (Rhi(RhiCall::DaVdevGetMeasurements), 2, 2),
    (Rhi(RhiCall::DaObjectSize), 1, 1),
    (Rhi(RhiCall::DaObjectSize), 7, 2),
    (Rhi(RhiCall::DaObjectRead), 3, 1),
    (Rhi(RhiCall::DaObjectRead), 8, 2),
    (Rsi(RsiCall::VdevGetInfo), 4, 1),
    (Rsi(RsiCall::VdevValidateMapping), 1, 1),
    (Rsi(RsiCall::VdevValidateMapping), 2, 2),
    (Rhi(RhiCall::DaVdevSetTdiState), 3, 1),
    (Rhi(RhiCall::DaVdevSetTdiState), 4, 2),
    (Rsi(RsiCall::VdevGetInfo), 10, 1),
    (Rsi(RsiCall::VdevDmaEnable), 1, 1),
    (Rsi(RsiCall::VdevDmaEnable), 2, 2),
];

impl Call {
    fn name(self) -> String {
        match self {
            Rsi(call) => format!("RSI_{}", word(&call)),
            Rhi(call) => format!("RHI_{}", word(&call)),
        }
    }

    fn lie(self, status: u64) -> Lie {
        match self {
            Rsi(call) => Lie::RsiStatus { call, status },
            Rhi(call) => Lie::RhiStatus { call, status },
        }
    }
}

pub(super) fn all() -> Vec<Case> {
    let case = |(call, nth, status): (Call, u32, u64)| {
        let sentence = format!("step failure: {} number {nth} fails: the boot stops clean", call.name());
        Case::new(sentence, PayloadKind::Demo, move |bench| stops_clean(bench, call, nth, status))
    };
    STEPS.into_iter().map(case).collect()
}

fn stops_clean(bench: &Bench<'_>, call: Call, nth: u32, status: u64) -> Result<(), String> {
    let request = Request::new(bench.tools, PayloadKind::Demo, GROUND);
    let mut scenario = scenario::load(&request.scenario).map_err(|fault| fault.to_string())?;
    scenario.misbehaviour.push(Misbehaviour::at(call.lie(status), nth));
    let ran = bench.run_scenario(&request, &scenario)?;
    let judgement = &ran.judgement;
    need(matches!(judgement.ending, Ending::Stopped(_)), || format!("ended with {:?}", judgement.ending))?;
    // One wrong answer on the way there takes nothing from the way back: nothing may be excused.
    need(judgement.exit_status() == 10 && judgement.report.leaked.is_empty(), || {
        format!("{:?}, leaked {:?}\n{}", judgement.ending, judgement.report.leaked, failures(&ran))
    })?;
    let told = &ran.log.end.final_state.lies;
    need(told.len() == 1, || format!("lies told: {told:?}"))?;
    done(&ran);
    Ok(())
}
