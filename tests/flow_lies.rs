//! Every lie of the model: the boot stops with the lie's own code and leaves nothing behind, or the lie does not matter.
mod common;

use common::*;
use gatehouse::codes::StopCode;
use gatehouse::codes::StopCode::*;
use rmm_model::final_state::TdiState;
use rmm_model::machine::DmaGate;
use rmm_model::scenario::Lie::*;
use rmm_model::scenario::{Lie, Misbehaviour, ObjectKind, RhiOp, RipasTarget, RsiCall};
use std::collections::BTreeSet;

/// What the boot comes to.
#[derive(Clone, Copy, Debug)]
enum End {
    /// The payload starts.
    Boots,
    /// It stops, everything is given back.
    Stops(StopCode),
    /// The host takes the device away after the last check: the payload starts, the device is dead, DMA is off.
    Dead,
}

type Case = (Vec<Misbehaviour>, End);

const OBJECTS: [(ObjectKind, StopCode); 4] = [
    (ObjectKind::Vca, VcaDigest),
    (ObjectKind::Certificate, CertificateDigest),
    (ObjectKind::Measurements, MeasurementDigest),
    (ObjectKind::Report, ReportDigest),
];
const GET_INFO: RsiCall = RsiCall::VdevGetInfo;
const VALIDATE: RsiCall = RsiCall::VdevValidateMapping;
const ENABLE: RsiCall = RsiCall::VdevDmaEnable;

fn at(lie: Lie, nth: u32, end: End) -> Case {
    (vec![Misbehaviour::at(lie, nth)], end)
}

fn stops(lie: Lie, code: StopCode) -> Case {
    at(lie, 1, End::Stops(code))
}

fn boots(lie: Lie) -> Case {
    at(lie, 1, End::Boots)
}

fn always(lie: Lie, code: StopCode) -> Case {
    (vec![Misbehaviour::always(lie)], End::Stops(code))
}

/// Told at the first `count` events.
fn times(lie: Lie, count: u32, end: End) -> Case {
    (vec![Misbehaviour { count, ..Misbehaviour::once(lie) }], end)
}

/// What the session gives, and who else comes and goes.
fn sessions() -> Vec<Case> {
    vec![
        stops(MeasurementForeignKey, ExchangeSignature),
        stops(MeasurementTranscript, ExchangeTranscript),
        stops(NoncesReused, RequesterNonce),
        stops(FunctionAppears { rid: 0x30, after: RhiOp::Lock }, InventoryChanged),
        stops(FunctionVanishes { rid: 0x18, after: RhiOp::Lock }, InventoryChanged),
        stops(FunctionAppears { rid: 0x30, after: RhiOp::Run }, InventoryChanged),
    ]
}

/// What the host delivers.
fn objects() -> Vec<Case> {
    let mut cases = Vec::new();
    for (object, code) in OBJECTS {
        // The VCA has two numbers: what is wrong or missing under the first is read under the other.
        let has_other = object == ObjectKind::Vca;
        let stops_if_always = |lie, code| if has_other { always(lie, code) } else { stops(lie, code) };
        if has_other {
            cases.push(boots(ObjectByte { object, offset: 0, xor: 1 }));
            cases.push(boots(Lie::ObjectMissing { object }));
        }
        for (offset, xor) in [(0, 1), (20, 0x80)] {
            cases.push(stops_if_always(ObjectByte { object, offset, xor }, code));
        }
        // OBJECT_SIZE, then OBJECT_READ.
        cases.push(stops_if_always(Lie::ObjectMissing { object }, StopCode::ObjectMissing));
        cases.push(at(Lie::ObjectMissing { object }, 2, End::Stops(StopCode::ObjectMissing)));
        cases.push(stops(Lie::ObjectEmpty { object }, StopCode::ObjectEmpty));
        cases.push(stops(Lie::ObjectTooLarge { object }, StopCode::ObjectTooLarge));
        cases.push(stops(ObjectSize { object, size: (1 << 20) + 1 }, StopCode::ObjectTooLarge));
        cases.push(stops(ObjectSize { object, size: u64::MAX }, StopCode::ObjectTooLarge));
        // The size only bounds; what counts is what was copied.
        cases.push(boots(ObjectSize { object, size: 1 }));
        cases.push(boots(ObjectSize { object, size: 1 << 20 }));
        cases.push(stops_if_always(ShortRead { object, by: 1 }, code));
        cases.push(stops(ShortRead { object, by: 1 << 20 }, CollectFailed));
        cases.push(stops(LongRead { object }, CollectFailed));
        cases.push(at(DigestZero { object }, 2, End::Stops(DigestAbsent)));
    }
    cases
}

/// What the device reports.
fn reports() -> Vec<Case> {
    vec![
        stops(ReportRangePastBar, ReportPastBar),
        stops(ReportPagesWrap, ReportWraps),
        stops(ReportZeroPages, ReportMalformed),
        stops(ReportCountTooLarge, ReportMalformed),
        stops(ReportTruncated, ReportMalformed),
        stops(ReportUnknownBar, ReportId),
        stops(Lie::ReportOverlap, StopCode::ReportDuplicate),
        stops(MroMisaligned, ReportingOffset),
    ]
}

/// What the host does between two calls. GET_INFO of a VDEV that is there: 1 after lock, 2 with the evidence, 3 after
/// RUN, 4 and 5 around DMA_ENABLE.
fn behind_the_back() -> Vec<Case> {
    let stale = End::Stops(MappingStaleNonce);
    let mut cases = vec![
        at(RefreshMeasurements { before: GET_INFO }, 1, End::Boots),
        at(RefreshMeasurements { before: GET_INFO }, 2, End::Stops(MeasurementDigest)),
        // The same report under a new nonce, before nonces are taken.
        at(RefreshReport { before: GET_INFO }, 2, End::Boots),
        at(Relock { before: GET_INFO }, 1, End::Boots),
        at(Relock { before: GET_INFO }, 2, End::Stops(LockNonceChanged)),
        at(Relock { before: GET_INFO }, 3, End::Stops(NotStarted)),
        at(Relock { before: GET_INFO }, 4, End::Stops(NotStarted)),
        at(Relock { before: GET_INFO }, 5, End::Stops(NotStarted)),
        at(HostUnlock { before: GET_INFO }, 1, End::Stops(VdevInfo)),
        at(HostUnlock { before: GET_INFO }, 2, End::Stops(VdevInfo)),
        at(HostUnlock { before: VALIDATE }, 1, End::Stops(MappingFailed)),
        at(TdiError { before: GET_INFO }, 1, End::Stops(CollectFailed)),
        at(TdiError { before: GET_INFO }, 2, End::Stops(StartFailed)),
        at(TdiError { before: VALIDATE }, 1, End::Stops(StartFailed)),
        at(TdiError { before: GET_INFO }, 3, End::Stops(NotIdle)),
        at(TdiError { before: GET_INFO }, 4, End::Dead),
        at(TdiError { before: ENABLE }, 1, End::Dead),
        at(DestroyDev { before: GET_INFO }, 3, End::Stops(RangeNotDev)),
    ];
    for nth in [3, 4, 5] {
        cases.push(at(RefreshMeasurements { before: GET_INFO }, nth, End::Stops(NoncesChanged)));
        cases.push(at(RefreshReport { before: GET_INFO }, nth, End::Stops(NoncesChanged)));
    }
    for lie in [
        RefreshMeasurements { before: VALIDATE },
        RefreshReport { before: VALIDATE },
        Relock { before: VALIDATE },
    ] {
        cases.push(at(lie, 1, stale));
    }
    for lie in
        [RefreshMeasurements { before: ENABLE }, RefreshReport { before: ENABLE }, Relock { before: ENABLE }]
    {
        cases.push(stops(lie, DmaEnableFailed));
    }
    cases
}

/// Progress and status of the mapping; the window's have their own file.
fn progress() -> Vec<Case> {
    let call = VALIDATE;
    vec![
        stops(ValidateReject { after_pages: 0 }, MappingRejected),
        stops(ValidateReject { after_pages: 1 }, MappingRejected),
        stops(NextBackwards { call }, MappingBadReply),
        stops(NextAboveTop { call }, MappingBadReply),
        stops(NextOversize { call }, MappingBadReply),
        stops(NextUnaligned { call }, MappingBadReply),
        boots(NextStuck { call }),
        times(NextStuck { call }, 64, End::Boots),
        times(NextStuck { call }, 65, End::Stops(MappingStalled)),
        boots(RsiIncomplete { call }),
        always(RsiIncomplete { call }, MappingFailed),
        stops(RsiGarbageStatus { call }, MappingFailed),
        stops(RsiStatus { call, status: 5 }, MappingStaleNonce),
        boots(RsiIncomplete { call: GET_INFO }),
        times(RsiIncomplete { call: GET_INFO }, 64, End::Boots),
        times(RsiIncomplete { call: GET_INFO }, 65, End::Stops(VdevInfo)),
        boots(RsiIncomplete { call: ENABLE }),
        always(RsiIncomplete { call: ENABLE }, DmaEnableFailed),
    ]
}

/// Operations of the host.
fn operations() -> Vec<Case> {
    let mut cases = vec![
        stops(OpIgnored { op: RhiOp::Lock }, VdevInfo),
        stops(OpIgnored { op: RhiOp::Run }, NotStarted),
        stops(OpIgnored { op: RhiOp::Report }, StopCode::ObjectMissing),
        stops(OpIgnored { op: RhiOp::Measurements }, StopCode::ObjectMissing),
        stops(OpFails { op: RhiOp::Lock }, LockFailed),
        stops(OpFails { op: RhiOp::Run }, StartFailed),
        stops(OpFails { op: RhiOp::Report }, CollectFailed),
        stops(OpFails { op: RhiOp::Measurements }, CollectFailed),
        stops(Lie::ErrorAfterRun, NotStarted),
    ];
    for op in [RhiOp::Lock, RhiOp::Report, RhiOp::Measurements, RhiOp::Run] {
        cases.push(stops(RhiIncompleteForever { op }, HostOperationEndless));
        let late = vec![Misbehaviour::once(RhiIncompleteForever { op }), Misbehaviour::once(AbortTooLate)];
        // It had ended after all: what counts is what the RMM says then.
        cases.push((late, End::Boots));
        cases.push(boots(RhiBusy { op }));
        cases.push(always(RhiBusy { op }, HostOperationEndless));
        cases.push(boots(HandleZero { op }));
    }
    cases
}

/// The VMM's configuration space.
fn configuration() -> Vec<Case> {
    vec![
        stops(BarReadback { bar: 0, xor: 0x10_0000 }, BarReadBack),
        stops(BarReadback { bar: 0, xor: 0x4000 }, BarReadBack),
        stops(BarReadback { bar: 1, xor: 1 }, BarReadBack),
        always(CommandStuck { mask: 1 << 1 }, ConfigReadBack),
        always(CommandStuck { mask: 1 << 2 }, ConfigReadBack),
        // The reset is only a request: what counts is the idle check.
        boots(FlrIgnored),
    ]
}

fn all() -> Vec<Case> {
    [objects(), sessions(), reports(), behind_the_back(), progress(), operations(), configuration()].concat()
}

#[test]
fn every_lie_has_its_end() {
    for (lies, end) in all() {
        let scenario = lying(&lies);
        let result = std::panic::catch_unwind(|| {
            let ran = boot(&scenario);
            match end {
                End::Stops(code) => ran.stops(code),
                End::Boots => {
                    ran.boots();
                    assert_eq!(ran.device().dma, DmaGate::PrivateOnly);
                }
                End::Dead => {
                    assert!(ran.result.is_ok());
                    assert_eq!((ran.device().dma, ran.device().state), (DmaGate::Abort, TdiState::Error));
                }
            }
        });
        assert!(result.is_ok(), "{lies:?} should be {end:?}");
    }
}

/// Lies that are told in flow_unwinding.rs or flow_steps.rs, with the failure that leads to their event.
const ELSEWHERE: [Lie; 6] = [
    UnlockFails,
    IpaStateFails { to: RipasTarget::Ram },
    IpaStateReject { to: RipasTarget::Ram, after_pages: 0 },
    RhiStatus { call: rmm_model::scenario::RhiCall::DaVersion, status: 1 },
    RhiGarbageStatus { call: rmm_model::scenario::RhiCall::DaVersion },
    RsiStatus { call: RsiCall::Version, status: 1 },
];

fn name(lie: &Lie) -> String {
    format!("{lie:?}").split([' ', '{']).next().unwrap().to_owned()
}

#[test]
fn no_lie_of_the_model_is_left_out() {
    let source = include_str!("rmm-model/src/scenario/lie.rs");
    let (_, variants) = source.split_once("pub enum Lie {").unwrap();
    let starts = |line: &&str| line.starts_with("    ") && line.as_bytes()[4].is_ascii_uppercase();
    let word = |line: &str| line.trim().split([' ', ',']).next().unwrap().to_owned();
    let wanted: BTreeSet<String> =
        variants.lines().filter(|line| line.len() > 4).filter(starts).map(word).collect();
    let told = all().into_iter().flat_map(|(lies, _)| lies).map(|lie| name(&lie.lie));
    let told: BTreeSet<String> = told.chain(ELSEWHERE.iter().map(name)).collect();
    assert!(wanted.len() > 40, "{wanted:?}");
    assert_eq!(wanted, told);
}
