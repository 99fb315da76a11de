//! Several RECs, PSCI between them, and tokens, which belong to one: `rsi.md` 3.6, 8, `attestation.md` 5.

mod common;

use common::*;
use rmm_model::abi::{psci::*, rsi::*};
use rmm_model::final_state::Outcome;
use rmm_model::machine::Machine;
use rmm_model::scenario::*;
use rmm_model::{Entry, Next, Scenario};

const TOKEN: u64 = RAM + 0x8000;

fn recs(recs: u8) -> Scenario {
    let mut scenario = plain();
    scenario.vmm.recs = recs;
    scenario
}

fn on(rig: &mut Rig, rec: usize, fid: u64, args: &[u64]) -> ([u64; 18], Next) {
    let mut regs = [0; 18];
    regs[0] = fid;
    regs[1..=args.len()].copy_from_slice(args);
    let next = rig.model.smc_on(rec, &mut regs, &mut rig.m);
    (regs, next)
}

#[test]
fn a_rec_goes_off_alone_and_the_last_one_ends_the_run() {
    let mut rig = Rig::new(&recs(3));
    assert_eq!(on(&mut rig, 1, PSCI_CPU_OFF, &[]).1, Next::RecOff);
    assert_eq!(on(&mut rig, 0, RSI_FEATURES, &[0]).0[..2], [RSI_SUCCESS, 1]);
    assert_eq!(on(&mut rig, 0, PSCI_CPU_OFF, &[]).1, Next::RecOff);
    assert_eq!(rig.model.final_state().outcome, Outcome::Running);
    assert_eq!(on(&mut rig, 2, PSCI_CPU_OFF, &[]).1, Next::Stop);
    assert_eq!(rig.model.final_state().outcome, Outcome::Stopped);
    rig.is_clean();
}

#[test]
fn only_a_rec_that_is_off_is_turned_on_and_at_a_protected_address() {
    let mut rig = Rig::new(&recs(2));
    let cpu_on = |rig: &mut Rig, target, pc| on(rig, 0, PSCI_CPU_ON | SMC64, &[target, pc, 77]).0[0];
    let affinity = |rig: &mut Rig, target, level| on(rig, 0, PSCI_AFFINITY_INFO, &[target, level]).0[0];
    assert_eq!(cpu_on(&mut rig, 1, RAM), ALREADY_ON);
    assert_eq!(cpu_on(&mut rig, 0, RAM), ALREADY_ON);
    assert_eq!(affinity(&mut rig, 1, 0), AFFINITY_ON);
    assert_eq!(on(&mut rig, 1, PSCI_CPU_OFF, &[]).1, Next::RecOff);
    assert_eq!(affinity(&mut rig, 1, 0), AFFINITY_OFF);
    assert_eq!(rig.model.take_entry(1), None);
    assert_eq!(cpu_on(&mut rig, 1, RAM | ALIAS), INVALID_ADDRESS);
    assert_eq!(rig.model.take_entry(1), None);
    assert_eq!(cpu_on(&mut rig, 1, RAM), SUCCESS);
    assert_eq!(rig.model.take_entry(1), Some(Entry { pc: RAM, context: 77 }));
    assert_eq!(rig.model.take_entry(1), None);
    assert_eq!(cpu_on(&mut rig, 1, RAM), ALREADY_ON);
    assert_eq!(on(&mut rig, 1, RSI_FEATURES, &[0]).0[0], RSI_SUCCESS);
    // A REC that nobody made, and affinity levels above.
    assert_eq!(cpu_on(&mut rig, 2, RAM), DENIED);
    assert_eq!(affinity(&mut rig, 2, 0), INVALID_PARAMETERS);
    assert_eq!(affinity(&mut rig, 1, 1), INVALID_PARAMETERS);
    rig.is_clean();
}

#[test]
fn a_host_can_deny_cpu_on() {
    let mut scenario = recs(2);
    scenario.host.cpu_on = CpuOn::Deny;
    let mut rig = Rig::new(&scenario);
    on(&mut rig, 1, PSCI_CPU_OFF, &[]);
    assert_eq!(on(&mut rig, 0, PSCI_CPU_ON, &[1, RAM, 0]).0[0], DENIED);
    assert_eq!(on(&mut rig, 0, PSCI_AFFINITY_INFO, &[1, 0]).0[0], AFFINITY_OFF);
}

#[test]
fn a_call_of_a_rec_that_does_not_run_is_a_violation() {
    for (recs_made, rec) in [(2, 1), (1, 1)] {
        let mut rig = Rig::new(&recs(recs_made));
        on(&mut rig, 1, PSCI_CPU_OFF, &[]);
        assert_eq!(on(&mut rig, rec, RSI_FEATURES, &[0]).1, Next::Stop);
        assert_eq!(rig.model.final_state().violations.len(), 1);
    }
}

#[test]
fn the_number_of_recs_is_bounded() {
    for number in [0, 9] {
        let mut m = rmm_model::sim::SimMachine::new(Box::new(rmm_model::sim::SparseRam::default()));
        assert!(rmm_model::Model::new(&recs(number), &rmm_model::Board::sim(), &mut m).is_err());
    }
}

/// Reads a token as `attestation.md` 5 says; the bytes and the number of calls.
fn read_token(rig: &mut Rig, rec: usize, challenge: u64) -> (Vec<u8>, u32) {
    let (regs, _) = on(rig, rec, RSI_ATTESTATION_TOKEN_INIT, &[challenge, 0, 0, 0, 0, 0, 0, 0]);
    assert_eq!(regs[0], RSI_SUCCESS);
    let most = regs[1];
    let (mut bytes, mut calls) = (Vec::new(), 0);
    for granule in 0..most / PAGE {
        let mut offset = 0;
        loop {
            let ipa = TOKEN + granule * PAGE;
            let args = [ipa, offset, PAGE - offset];
            let (regs, _) = on(rig, rec, RSI_ATTESTATION_TOKEN_CONTINUE, &args);
            calls += 1;
            assert!(calls < 1000 && offset + regs[1] <= PAGE);
            let mut part = vec![0; regs[1] as usize];
            rig.m.read(ipa + offset, &mut part);
            bytes.extend(part);
            offset += regs[1];
            match regs[0] {
                RSI_SUCCESS => return (bytes, calls),
                RSI_INCOMPLETE if offset == PAGE => break,
                status => assert_eq!(status, RSI_INCOMPLETE),
            }
        }
    }
    panic!("the token does not end");
}

fn token(change: impl FnOnce(&mut RealmSpec)) -> Rig {
    let mut scenario = recs(2);
    scenario.realm.token_len = Some(1500);
    change(&mut scenario.realm);
    Rig::new(&scenario)
}

#[test]
fn a_token_is_read_in_one_call_or_in_many() {
    let (whole, calls) = read_token(&mut token(|_| ()), 0, 1);
    assert_eq!((whole.len(), calls), (1500, 1));
    let (slow, calls) = read_token(
        &mut token(|realm| (realm.token_step, realm.token_stalls, realm.token_interrupts) = (100, 3, 5)),
        0,
        1,
    );
    assert_eq!(slow, whole);
    // Three while it is signed; every fifth call is interrupted; fifteen with bytes.
    assert_eq!(calls, 22);
    let (other, _) = read_token(&mut token(|_| ()), 0, 2);
    assert_ne!(other, whole);
    let (fixed, _) = read_token(&mut token(|realm| realm.token = "d28443".into()), 0, 1);
    assert_eq!(fixed, [0xD2, 0x84, 0x43]);
    let (long, calls) = read_token(&mut token(|realm| realm.token_len = Some(2 * 4096 + 1)), 0, 1);
    assert_eq!((long.len(), calls), (8193, 3));
    assert_eq!(long[..1500], whole[..]);
    let (even, calls) = read_token(&mut token(|realm| realm.token_len = Some(4096)), 0, 1);
    assert_eq!((even.len(), calls), (4096, 1));
}

#[test]
fn a_token_belongs_to_its_rec_and_init_starts_again() {
    let mut rig = token(|realm| realm.token_step = 1000);
    let next = |rig: &mut Rig, rec| on(rig, rec, RSI_ATTESTATION_TOKEN_CONTINUE, &[TOKEN, 0, PAGE]).0;
    let init = |rig: &mut Rig, rec| on(rig, rec, RSI_ATTESTATION_TOKEN_INIT, &[0; 8]).0;
    assert_eq!(next(&mut rig, 0)[0], RSI_ERROR_STATE);
    assert_eq!(init(&mut rig, 0)[..2], [RSI_SUCCESS, PAGE]);
    assert_eq!(next(&mut rig, 1)[0], RSI_ERROR_STATE);
    assert_eq!(next(&mut rig, 0)[..2], [RSI_INCOMPLETE, 1000]);
    // Arguments are checked while it runs, and do no harm; size 0 brings nothing.
    let bad = on(&mut rig, 0, RSI_ATTESTATION_TOKEN_CONTINUE, &[TOKEN, 8, PAGE]).0;
    assert_eq!(bad[0], RSI_ERROR_INPUT);
    let none = on(&mut rig, 0, RSI_ATTESTATION_TOKEN_CONTINUE, &[TOKEN, 0, 0]).0;
    assert_eq!(none[..2], [RSI_INCOMPLETE, 0]);
    assert_eq!(init(&mut rig, 1)[0], RSI_SUCCESS);
    assert_eq!(next(&mut rig, 0)[..2], [RSI_SUCCESS, 500]);
    assert_eq!(next(&mut rig, 0)[0], RSI_ERROR_STATE);
    assert_eq!(next(&mut rig, 1)[..2], [RSI_INCOMPLETE, 1000]);
    assert_eq!(init(&mut rig, 1)[0], RSI_SUCCESS);
    assert_eq!(next(&mut rig, 1)[..2], [RSI_INCOMPLETE, 1000]);
}
