//! Basic RSI commands, memory and PSCI: each rule of `rsi.md` 1 to 4, 8.

mod common;

use common::*;
use rmm_model::abi::{psci::*, rsi::*};
use rmm_model::digest::HashAlgorithm;
use rmm_model::machine::{Leaf, Machine};
use rmm_model::scenario::*;
use rmm_model::sim::IoFault;
use rmm_model::{Next, Scenario};

const ONES: u64 = u64::MAX;

fn realm(change: impl FnOnce(&mut RealmSpec)) -> Scenario {
    let mut scenario = plain();
    change(&mut scenario.realm);
    scenario
}

#[test]
fn version_negotiates_by_the_three_rules() {
    let mut rig = Rig::new(&plain());
    assert_eq!(rig.call(RSI_VERSION, &[0x1_0000])[..3], [RSI_SUCCESS, 0x1_0000, 0x1_0001]);
    assert_eq!(rig.call(RSI_VERSION, &[0x1_0001])[..3], [RSI_SUCCESS, 0x1_0001, 0x1_0001]);
    assert_eq!(rig.call(RSI_VERSION, &[0x2_0000])[..3], [RSI_ERROR_INPUT, 0x1_0001, 0x1_0001]);
    assert_eq!(rig.call(RSI_VERSION, &[0x0_0001])[..3], [RSI_ERROR_INPUT, 0x1_0001, 0x1_0001]);
    let mut old = Rig::new(&realm(|realm| realm.rsi = RsiVersions::V10));
    assert_eq!(old.call(RSI_VERSION, &[0x1_0001])[..3], [RSI_ERROR_INPUT, 0x1_0000, 0x1_0000]);
}

#[test]
fn features_show_da_per_realm_and_zero_elsewhere() {
    let mut rig = Rig::new(&plain());
    assert_eq!(rig.call(RSI_FEATURES, &[0])[..2], [RSI_SUCCESS, 1]);
    assert_eq!(rig.call(RSI_FEATURES, &[1])[..2], [RSI_SUCCESS, 0]);
    let mut none = Rig::new(&realm(|realm| realm.da = false));
    assert_eq!(none.call(RSI_FEATURES, &[0])[..2], [RSI_SUCCESS, 0]);
}

#[test]
fn registers_that_are_no_results_are_kept_from_x4_on_and_zero_before() {
    let mut rig = Rig::new(&plain());
    let regs = rig.call(RSI_FEATURES, &[0]);
    assert_eq!(regs[2..4], [0, 0]);
    assert!(regs[4..].iter().all(|reg| *reg == 0x5A5A));
    let regs = rig.call(RSI_MEASUREMENT_READ, &[1]);
    assert_eq!(regs[1..9], [0; 8]);
    assert!(regs[9..].iter().all(|reg| *reg == 0x5A5A));
}

#[test]
fn unknown_smcs_are_all_ones_and_the_sve_hint_is_ignored() {
    let mut rig = Rig::new(&plain());
    // VSMMU_GET_INFO, P2P_BIND, PLANE_ENTER, an RDEV command, an RHI id as an SMC, nonsense.
    for fid in [0xC400_019A, 0xC400_019E, 0xC400_01A3, 0xC400_01A5, 0xC500_004A, 0x1234] {
        assert_eq!(rig.call(fid, &[])[0], ONES, "{fid:#x}");
    }
    assert_eq!(rig.call(RSI_FEATURES | 1 << 16, &[0])[..2], [RSI_SUCCESS, 1]);
    assert_eq!(rig.call(RSI_FEATURES | 0xABCD << 32, &[0])[..2], [RSI_SUCCESS, 1]);
}

#[test]
fn rsi_1_0_has_no_device_commands() {
    let mut rig = Rig::new(&realm(|realm| realm.rsi = RsiVersions::V10));
    for fid in [RSI_VDEV_GET_INFO, RSI_VDEV_VALIDATE_MAPPING, RSI_VDEV_DMA_ENABLE, RSI_VDEV_DMA_DISABLE] {
        assert_eq!(rig.call(fid, &[VDEV, INFO])[0], ONES);
    }
    assert_eq!(rig.call(RSI_FEATURES, &[0])[..2], [RSI_SUCCESS, 0]);
}

#[test]
fn realm_config_writes_its_fields_and_leaves_or_clears_the_rest() {
    for (page, rest) in [(ConfigPage::Fields, 0xEE), (ConfigPage::Clear, 0)] {
        let mut rig = Rig::new(&realm(|realm| {
            realm.config_page = page;
            realm.rpv = "0102".into();
            realm.hash = HashAlgorithm::Sha512;
        }));
        rig.m.write(CONFIG, &[0xEE; 4096]);
        assert_eq!(rig.call(RSI_REALM_CONFIG, &[CONFIG])[0], RSI_SUCCESS);
        let mut bytes = [0; 4096];
        rig.m.read(CONFIG, &mut bytes);
        assert_eq!(bytes[..9], [44, 0, 0, 0, 0, 0, 0, 0, 1]);
        assert_eq!(bytes[9], rest);
        assert_eq!(bytes[0x10..0x28], [0; 0x18]);
        assert_eq!(bytes[0x200..0x203], [1, 2, 0]);
        assert_eq!(bytes[0x1000 - 1], rest);
    }
}

#[test]
fn buffers_must_be_aligned_protected_private_memory() {
    let mut rig = Rig::new(&plain());
    for bad in [CONFIG + 8, CONFIG | ALIAS, SHARED, BAR, 1 << 60, ONES & !0xFFF] {
        assert_eq!(rig.call(RSI_REALM_CONFIG, &[bad])[0], RSI_ERROR_INPUT, "{bad:#x}");
        assert_eq!(rig.call(RSI_HOST_CALL, &[bad])[0], RSI_ERROR_INPUT, "{bad:#x}");
    }
    assert_eq!(rig.call(RSI_HOST_CALL, &[HOST_CALL + 0x100])[0], RSI_SUCCESS);
    assert_eq!(rig.call(RSI_HOST_CALL, &[HOST_CALL + 0x80])[0], RSI_ERROR_INPUT);
}

#[test]
fn measurements_are_read_in_register_order_and_extended_by_either_rule() {
    for rule in [RemRule::TfRmm, RemRule::Spec] {
        let mut rig = Rig::new(&realm(|realm| {
            realm.rem = rule;
            realm.rim = "11".repeat(32);
        }));
        assert_eq!(rig.call(RSI_MEASUREMENT_READ, &[0])[1..9], [[0x1111_1111_1111_1111; 4], [0; 4]].concat());
        let value = *b"abcdefgh";
        let word = u64::from_le_bytes(value);
        assert_eq!(rig.call(RSI_MEASUREMENT_EXTEND, &[2, 5, word, 7, 7, 7, 7, 7, 7, 7])[0], RSI_SUCCESS);
        let expected = match rule {
            RemRule::TfRmm => HashAlgorithm::Sha256.digest(&[&[0; 32], b"abcde"]),
            RemRule::Spec => HashAlgorithm::Sha256.digest(&[&[0; 64], b"abcde", &[0; 59]]),
        };
        let regs = rig.call(RSI_MEASUREMENT_READ, &[2]);
        let bytes: Vec<u8> = regs[1..9].iter().flat_map(|reg| reg.to_le_bytes()).collect();
        assert_eq!((&bytes[..32], &bytes[32..]), (&expected[..], &[0; 32][..]));
        assert_eq!(rig.model.final_state().rems[1], rmm_model::digest::to_hex(&expected));
    }
}

#[test]
fn measurement_arguments_are_checked() {
    let mut rig = Rig::new(&plain());
    assert_eq!(rig.call(RSI_MEASUREMENT_READ, &[5])[0], RSI_ERROR_INPUT);
    for (index, size) in [(0, 1), (5, 1), (1, 65)] {
        assert_eq!(rig.call(RSI_MEASUREMENT_EXTEND, &[index, size])[0], RSI_ERROR_INPUT);
    }
    let before = rig.model.final_state().rems;
    assert_eq!(rig.call(RSI_MEASUREMENT_EXTEND, &[1, 0])[0], RSI_SUCCESS);
    assert_ne!(rig.model.final_state().rems, before);
}

#[test]
fn tokens_are_refused_as_the_specification_allows() {
    let mut rig = Rig::new(&realm(|realm| realm.token_len = Some(0)));
    assert_eq!(rig.call(RSI_ATTESTATION_TOKEN_INIT, &[0; 8])[..2], [RSI_ERROR_UNKNOWN, 0]);
    assert_eq!(rig.call(RSI_ATTESTATION_TOKEN_CONTINUE, &[CONFIG, 0, 4096])[0], RSI_ERROR_STATE);
    for args in [[CONFIG + 8, 0, 8], [CONFIG, 4096, 0], [CONFIG, 8, 4096], [CONFIG, 8, ONES], [SHARED, 0, 8]]
    {
        assert_eq!(rig.call(RSI_ATTESTATION_TOKEN_CONTINUE, &args)[0], RSI_ERROR_INPUT);
    }
}

#[test]
fn ipa_state_arguments_are_checked() {
    let mut rig = Rig::new(&plain());
    let page = RAM + 0x8000;
    for args in [
        [page + 1, page + PAGE, 0, 0],
        [page, page + 1, 0, 0],
        [page, page, 0, 0],
        [page + PAGE, page, 0, 0],
        [page, page + PAGE, 2, 0],
        [page, page + PAGE, 3, 0],
        [page, page + PAGE, 1, 2],
        [page | ALIAS, (page + PAGE) | ALIAS, 0, 0],
        [page, ALIAS + PAGE, 0, 0],
    ] {
        assert_eq!(rig.call(RSI_IPA_STATE_SET, &args)[0], RSI_ERROR_INPUT, "{args:x?}");
        if args[2] == 0 && args[3] == 0 {
            assert_eq!(rig.call(RSI_IPA_STATE_GET, &args[..2])[0], RSI_ERROR_INPUT);
        }
    }
    // Flags are ignored for EMPTY; the whole protected half is a legal range.
    assert_eq!(rig.call(RSI_IPA_STATE_SET, &[page, page + PAGE, 0, 0xFF])[0], RSI_SUCCESS);
    assert_eq!(rig.call(RSI_IPA_STATE_GET, &[0, ALIAS])[..3], [RSI_SUCCESS, RAM, 0]);
}

#[test]
fn sharing_moves_a_page_to_the_alias_and_back_without_its_contents() {
    let mut rig = Rig::new(&plain());
    let page = RAM + 0x8000;
    rig.m.io_write(&mut rig.model, page, 8, 0x1234).unwrap();
    assert_eq!(rig.m.io_read(&mut rig.model, page | ALIAS, 8), Err(IoFault::Sea));
    rig.ripas(page, page + PAGE, 0, 0);
    assert_eq!(rig.leaf(page), Leaf::SharedRam);
    assert_eq!(rig.m.io_read(&mut rig.model, page, 8), Err(IoFault::Sea));
    assert_eq!(rig.m.io_read(&mut rig.model, page | ALIAS, 8), Ok(0));
    assert_eq!(rig.m.fetch(&mut rig.model, page | ALIAS), Err(IoFault::Permission));
    rig.m.io_write(&mut rig.model, page | ALIAS, 8, 0x5678).unwrap();
    rig.ripas(page, page + PAGE, 1, 0);
    assert_eq!(rig.leaf(page), Leaf::PrivateRam);
    assert_eq!(rig.m.io_read(&mut rig.model, page, 8), Ok(0));
    assert_eq!(rig.m.fetch(&mut rig.model, page), Ok(()));
    rig.is_clean();
}

#[test]
fn ram_can_only_be_made_where_the_board_has_it() {
    let mut rig = Rig::new(&plain());
    let top = RAM + 0x1000_0000;
    assert_eq!(rig.call(RSI_IPA_STATE_SET, &[top, top + PAGE, 1, 0])[..3], [RSI_SUCCESS, top, RSI_REJECT]);
    rig.ripas(top - PAGE, top, 0, 0);
    let regs = rig.call(RSI_IPA_STATE_SET, &[top - PAGE, top + PAGE, 1, 0]);
    assert_eq!(regs[..3], [RSI_SUCCESS, top, RSI_REJECT]);
}

#[test]
fn progress_comes_in_steps_and_may_stall() {
    let mut scenario = plain();
    scenario.host.ipa_state_step = 3;
    scenario.host.ipa_state_stalls = 1;
    let mut rig = Rig::new(&scenario);
    assert_eq!(rig.ripas(SHARED, SHARED + SHARED_LEN, 1, 0), 12);
    let mut scenario = realm(|realm| realm.ipa_state_get_step = 2);
    scenario.host.ipa_state_step = 0;
    let mut rig = Rig::new(&scenario);
    assert_eq!(rig.call(RSI_IPA_STATE_GET, &[RAM, RAM + 8 * PAGE])[..3], [RSI_SUCCESS, RAM + 2 * PAGE, 1]);
}

#[test]
fn destroyed_pages_need_the_flag_and_hang_whoever_touches_them() {
    let scenario = once(Lie::DestroyDev { before: RsiCall::VdevDmaDisable });
    let (mut rig, _) = Rig::running(&scenario);
    rig.call(RSI_VDEV_DMA_DISABLE, &[VDEV]);
    assert_eq!(rig.ripas_of(BAR), 2);
    assert_eq!(rig.call(RSI_IPA_STATE_SET, &[BAR, BAR + PAGE, 1, 0])[..3], [RSI_SUCCESS, BAR, RSI_ACCEPT]);
    assert_eq!(rig.call(RSI_IPA_STATE_SET, &[BAR, BAR + PAGE, 1, 1])[..3], [RSI_SUCCESS, BAR, RSI_REJECT]);
    let mut regs = [0; 18];
    (regs[0], regs[1]) = (RSI_REALM_CONFIG, BAR);
    assert_eq!(rig.smc(&mut regs), Next::Stop);
    assert_eq!(rig.m.io_read(&mut rig.model, BAR, 4), Err(IoFault::Stop));
    rig.ripas(BAR, BAR + PAGE, 0, 0);
    assert_eq!(rig.ripas_of(BAR), 0);
}

#[test]
fn addresses_beyond_the_width_are_address_size_faults() {
    let mut rig = Rig::new(&plain());
    assert_eq!(rig.m.io_read(&mut rig.model, 1 << 44, 4), Err(IoFault::AddressSize));
    assert_eq!(rig.m.fetch(&mut rig.model, 0), Err(IoFault::Sea));
}

#[test]
fn psci_answers_and_ends_the_run() {
    let mut rig = Rig::new(&plain());
    assert!(rig.call(SMCCC_VERSION, &[])[0] >= 0x1_0001);
    assert_eq!(rig.call(PSCI_VERSION, &[])[0], 0x1_0001);
    for fid in
        [PSCI_CPU_ON, PSCI_CPU_ON | SMC64, PSCI_SYSTEM_OFF, PSCI_SYSTEM_RESET, SMCCC_VERSION, PSCI_FEATURES]
    {
        assert_eq!(rig.call(PSCI_FEATURES, &[fid])[0], 0);
    }
    for fid in [0x8400_0005, RSI_VERSION, PSCI_SYSTEM_OFF | SMC64] {
        assert_eq!(rig.call(PSCI_FEATURES, &[fid])[0], ONES);
    }
    assert_eq!(rig.call(PSCI_CPU_ON | SMC64, &[1, RAM, 0])[0], DENIED);
    assert_eq!(rig.call(PSCI_CPU_ON | SMC64, &[1, RAM | ALIAS, 0])[0], INVALID_ADDRESS);
    assert_eq!(rig.call(0x8400_0014, &[])[0], ONES);
    let mut regs = [0; 18];
    (regs[0], regs[1]) = (PSCI_SYSTEM_OFF, 1042);
    assert_eq!(rig.smc(&mut regs), Next::PowerOff { code: 1042 });
    assert_eq!(rig.model.final_state().outcome, rmm_model::final_state::Outcome::PowerOff { code: 1042 });
    regs[0] = PSCI_SYSTEM_RESET;
    assert_eq!(rig.smc(&mut regs), Next::Reset);
}
