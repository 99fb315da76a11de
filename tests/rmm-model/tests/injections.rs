//! Lies by place, seen from the realm.

mod common;

use common::*;
use rmm_model::abi::{rhi::*, rsi::*};
use rmm_model::final_state::TdiState;
use rmm_model::scenario::*;

fn injecting(at: Crossing, nth: u32, act: Act) -> Scenario {
    let injection = Injection { at, nth, count: 1, act, device: String::new() };
    Scenario { injection: vec![injection], ..plain() }
}

fn on(call: RsiCall, nth: u32, act: Act) -> Scenario {
    injecting(Crossing::Rsi(call), nth, act)
}

#[test]
fn a_refused_call_is_not_carried_out() {
    let lock = Crossing::Rhi(RhiCall::DaVdevSetTdiState);
    let mut rig = Rig::placed(&injecting(lock, 1, Act::Refuse(SUCCESS)));
    assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), SUCCESS);
    assert_eq!(rig.model.final_state().devices[0].state, TdiState::Unlocked);
    assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), SUCCESS);
    assert_eq!(rig.model.final_state().devices[0].state, TdiState::Locked);
    assert_eq!(rig.model.final_state().lies, ["injection"]);
}

#[test]
fn one_result_differs_and_the_call_is_carried_out() {
    let act = Act::Answer { word: 1, change: Change::Add(PAGE) };
    let mut rig = Rig::new(&on(RsiCall::IpaStateGet, 2, act));
    let truth = rig.call(RSI_IPA_STATE_GET, &[RAM, RAM + PAGE]);
    let told = rig.call(RSI_IPA_STATE_GET, &[RAM, RAM + PAGE]);
    assert_eq!((told[0], told[1], told[2]), (RSI_SUCCESS, truth[1] + PAGE, truth[2]));
    assert_eq!(rig.model.final_state().lies, ["injection"]);
}

#[test]
fn what_is_told_anyway_is_no_lie() {
    let act = Act::Answer { word: 0, change: Change::Set(RSI_SUCCESS) };
    let mut rig = Rig::new(&on(RsiCall::IpaStateGet, 1, act));
    rig.call(RSI_IPA_STATE_GET, &[RAM, RAM + PAGE]);
    assert_eq!(rig.model.final_state().lies, ["without-effect"]);
}

#[test]
fn one_word_of_the_record_differs() {
    let act = Act::Memory { offset: 0x18, change: Change::Xor(4) };
    let (mut rig, first) = Rig::locked(&on(RsiCall::VdevGetInfo, 1, act));
    let second = rig.info().unwrap();
    assert_eq!(first.lock ^ second.lock, 4);
    assert_eq!((first.measurement, first.report), (second.measurement, second.report));
}

#[test]
fn what_is_read_can_be_written_over_before_the_realm_looks() {
    let (mut rig, _) =
        Rig::locked(&injecting(Crossing::Rhi(RhiCall::DaObjectRead), 2, Act::After(Deed::Scribble)));
    let first = rig.object(3).unwrap();
    assert_ne!(rig.object(3).unwrap(), first);
    assert_eq!(rig.object(3).unwrap(), first);
}

#[test]
fn deeds_change_what_the_rmm_knows() {
    type Differs = fn(&Info, &Info) -> bool;
    let deeds: [(Deed, Differs); 3] = [
        (Deed::RefreshMeasurements, |a, b| a.measurement != b.measurement && a.lock == b.lock),
        (Deed::RefreshReport, |a, b| a.report != b.report && a.lock == b.lock),
        (Deed::Relock, |a, b| a.lock != b.lock && a.report != b.report),
    ];
    for (deed, differs) in deeds {
        let (mut rig, first) = Rig::locked(&on(RsiCall::VdevGetInfo, 2, Act::Before(deed)));
        let second = rig.info().unwrap();
        assert!(differs(&first, &second), "{deed:?}");
        assert_eq!(rig.model.final_state().lies, ["injection"], "{deed:?}");
    }
}

#[test]
fn another_device_has_another_chain_under_the_same_id() {
    let (mut rig, first) = Rig::locked(&on(RsiCall::VdevGetInfo, 2, Act::Before(Deed::Exchange)));
    let chain = rig.model.evidence("02.0", ObjectKind::Certificate).unwrap().to_vec();
    let second = rig.info().unwrap();
    assert_ne!(first.lock, second.lock);
    assert_ne!(rig.model.evidence("02.0", ObjectKind::Certificate).unwrap(), chain);
}

#[test]
fn configuration_space_lies_once_and_loses_a_store() {
    let act = Act::Answer { word: 0, change: Change::Set(0) };
    let mut rig = Rig::new(&injecting(Crossing::ConfigRead, 1, act));
    assert_eq!(rig.config_read(NVME, 0, 4), 0);
    assert_ne!(rig.config_read(NVME, 0, 4), 0);
    let mut rig = Rig::new(&injecting(Crossing::ConfigWrite, 1, Act::Refuse(0)));
    rig.config_write(NVME, 4, 2, 0b110);
    assert_eq!(rig.config_read(NVME, 4, 2), 0);
    rig.config_write(NVME, 4, 2, 0b110);
    assert_eq!(rig.config_read(NVME, 4, 2), 0b110);
}

#[test]
fn a_scenario_file_can_hold_injections() {
    let text = r#"
        [[device]]
        slot = "02.0"
        [[injection]]
        at = { rsi = "VDEV_GET_INFO" }
        nth = 3
        act = { before = "relock" }
        [[injection]]
        at = "config-read"
        count = 4
        act = { answer = { word = 0, change = { set = 0 } } }
    "#;
    let scenario: Scenario = toml::from_str(text).unwrap();
    assert_eq!(
        scenario.injection[0],
        Injection {
            at: Crossing::Rsi(RsiCall::VdevGetInfo),
            nth: 3,
            count: 1,
            act: Act::Before(Deed::Relock),
            device: String::new(),
        }
    );
    assert_eq!((scenario.injection[1].nth, scenario.injection[1].count), (1, 4));
}
