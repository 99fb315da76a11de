//! The CCA token: both signatures, what binds them, every claim, both forms, and each flaw: `attestation.md` 1 to 6.

mod common;

use common::token::*;
use common::*;
use rmm_model::abi::{rhi::*, rsi::*};
use rmm_model::attest;
use rmm_model::digest::{HashAlgorithm, from_hex, to_hex};
use rmm_model::machine::Machine;
use rmm_model::scenario::*;
use rmm_model::sim::SimFunction;

/// What a relying party checks first.
fn verdict(token: &Token) -> [bool; 4] {
    [
        token.platform.is_signed_by(&attest::platform_key().sec1()),
        token.is_bound(),
        token.realm.is_signed_by(&token.realm_key()),
        token.realm.claims.at(10).bytes() == challenge(),
    ]
}

#[test]
fn a_token_is_signed_twice_and_bound_to_the_challenge() {
    let token = token(|_| ());
    assert_eq!(verdict(&token), [true; 4]);
    assert_eq!(token.realm_key(), attest::realm_key().sec1());
    assert_eq!(token.realm.claims.at(44237).bytes(), attest::realm_key().cose_key());
    // Neither key signs for the other.
    assert!(!token.platform.is_signed_by(&token.realm_key()));
    assert!(!token.realm.is_signed_by(&attest::platform_key().sec1()));
    assert!(token.devices.is_none());
}

#[test]
fn the_realm_token_has_the_claims_of_2_0() {
    for (hash, name) in [
        (HashAlgorithm::Sha256, "sha-256"),
        (HashAlgorithm::Sha384, "sha-384"),
        (HashAlgorithm::Sha512, "sha-512"),
    ] {
        let rim = "5a".repeat(hash.len_bytes());
        let claims = token(|realm| {
            (realm.hash, realm.rim, realm.rpv) = (hash, rim.clone(), "abcd".into());
        })
        .realm
        .claims;
        assert_eq!(claims.keys(), [10, 256, 265, 44235, 44236, 44237, 44238, 44239, 44240, 44243]);
        assert_eq!(claims.at(265).text(), "tag:arm.com,2024:realm#2.0.0");
        assert_eq!((claims.at(256).bytes().len(), claims.at(256).bytes()[0]), (33, 1));
        let mut rpv = [0; 64];
        rpv[..2].copy_from_slice(&[0xAB, 0xCD]);
        assert_eq!(claims.at(44235).bytes(), rpv);
        assert_eq!((claims.at(44236).text(), claims.at(44240).text()), (name, "sha-256"));
        assert_eq!(to_hex(claims.at(44238).bytes()), rim);
        assert_eq!(claims.at(44239).items(), vec![Item::Bytes(vec![0; hash.len_bytes()]); 4]);
        assert_eq!(claims.at(44243), &Item::Int(0));
    }
}

#[test]
fn the_platform_token_has_the_claims_of_2_0() {
    let claims = token(|_| ()).platform.claims;
    assert_eq!(claims.keys(), [10, 256, 265, 2394, 2395, 2396, 2399, 2401, 2402]);
    assert_eq!(claims.at(265).text(), "tag:arm.com,2024:cca_platform#2.0.0");
    assert_eq!(claims.at(256).bytes(), attest::INSTANCE_ID);
    assert_eq!(attest::INSTANCE_ID[0], 1);
    assert_eq!(claims.at(2394), &Item::Int(1));
    assert_eq!(claims.at(2395), &Item::Int(0x3003));
    assert_eq!(claims.at(2396).bytes(), attest::IMPLEMENTATION_ID);
    assert_eq!(claims.at(2401).bytes().len(), 32);
    assert_eq!(claims.at(2402).text(), "sha-256");
    let [component] = claims.at(2399).items() else { panic!("one component") };
    assert_eq!(component.keys(), [1, 2, 4, 5, 6, 7, 8]);
    assert_eq!(component.at(5).bytes(), attest::SIGNER_ID);
}

#[test]
fn the_old_form_has_the_claims_of_1_0() {
    let old = |realm: &mut RealmSpec| (realm.token_format, realm.device_token) = (TokenFormat::Old, true);
    let mut rig = Rig::placed(&realm(old));
    // Assigned devices have no place in it.
    assert_eq!(rig.tdi(TDI_CONFIG_LOCKED), SUCCESS);
    let token = Token::decode_old(&read(&mut rig, PAGE));
    assert_eq!(verdict(&token), [true; 4]);
    assert_eq!(token.realm.claims.keys(), [10, 265, 44235, 44236, 44237, 44238, 44239, 44240]);
    assert_eq!(token.realm.claims.at(265).text(), "tag:arm.com,2023:realm#1.0.0");
    let platform = &token.platform.claims;
    assert_eq!(platform.keys(), [10, 256, 265, 2395, 2396, 2399, 2401, 2402]);
    assert_eq!(platform.at(265).text(), "tag:arm.com,2023:cca_platform#1.0.0");
    assert_eq!(platform.at(2399).items()[0].keys(), [1, 2, 4, 5, 6]);
}

#[test]
fn the_token_shows_rems_as_they_are_at_init() {
    for (rule, old, padding) in [(RemRule::TfRmm, 32, 0), (RemRule::Spec, 64, 59)] {
        let mut rig = Rig::new(&realm(|realm| realm.rem = rule));
        let word = u64::from_le_bytes(*b"abcde\0\0\0");
        assert_eq!(rig.call(RSI_MEASUREMENT_EXTEND, &[3, 5, word, 0, 0, 0, 0, 0, 0, 0])[0], RSI_SUCCESS);
        let expected = HashAlgorithm::Sha256.digest(&[&vec![0; old], b"abcde", &vec![0; padding]]);
        let zero = Item::Bytes(vec![0; 32]);
        let bytes = read(&mut rig, PAGE);
        let token = Token::decode(&bytes);
        let rems = [zero.clone(), zero.clone(), Item::Bytes(expected), zero];
        assert_eq!(token.realm.claims.at(44239).items(), rems);
        let state = rig.model.final_state();
        assert_eq!(to_hex(token.realm.claims.at(44238).bytes()), state.rim);

        // Extended while a token is read: that one stays, the next one shows it.
        let room = init(&mut rig);
        assert_eq!(rig.call(RSI_ATTESTATION_TOKEN_CONTINUE, &[TOKEN, 0, 100])[..2], [RSI_INCOMPLETE, 100]);
        assert_eq!(rig.call(RSI_MEASUREMENT_EXTEND, &[3, 0])[0], RSI_SUCCESS);
        let rest = rig.call(RSI_ATTESTATION_TOKEN_CONTINUE, &[TOKEN, 100, room - 100]);
        assert_eq!((rest[0], rest[1] as usize), (RSI_SUCCESS, bytes.len() - 100));
        let mut again = vec![0; bytes.len()];
        rig.m.read(TOKEN, &mut again);
        assert_eq!(again, bytes);
        let later = Token::decode(&read(&mut rig, PAGE));
        let rem = from_hex(&rig.model.final_state().rems[2]).unwrap();
        assert_eq!(later.realm.claims.at(44239).items()[2].bytes(), rem);
        assert_ne!(later.realm.claims.at(44239).items(), rems);
    }
}

#[test]
fn a_token_is_the_same_however_it_is_read() {
    let whole = read(&mut Rig::new(&plain()), PAGE);
    assert!(whole.len() < 2048, "{}", whole.len());
    for most in [1000, 64, 7] {
        assert_eq!(read(&mut Rig::new(&plain()), most), whole);
    }
    let slow = realm(|realm| (realm.token_step, realm.token_stalls, realm.token_interrupts) = (100, 3, 4));
    assert_eq!(read(&mut Rig::new(&slow), PAGE), whole);
    // The same realm makes the same token for the same challenge.
    let mut rig = Rig::new(&plain());
    assert_eq!((read(&mut rig, PAGE), read(&mut rig, PAGE)), (whole.clone(), whole));
}

#[test]
fn a_token_of_several_granules_is_asked_for_by_its_configuration_claim() {
    let large = realm(|realm| realm.token_config_len = 9000);
    let bytes = read(&mut Rig::new(&large), PAGE);
    assert!(bytes.len() > 2 * PAGE as usize, "{}", bytes.len());
    assert_eq!(read(&mut Rig::new(&large), 1000), bytes);
    let token = Token::decode(&bytes);
    assert_eq!(verdict(&token), [true; 4]);
    assert_eq!(token.platform.claims.at(2401).bytes().len(), 9000);
}

#[test]
fn lengths_take_the_shortest_form() {
    // `Item::decode` refuses any other.
    for len in [0, 23, 24, 255, 256, 65535, 65536] {
        let token = token(|realm| realm.token_config_len = len);
        assert_eq!(token.platform.claims.at(2401).bytes().len(), len as usize);
    }
}

#[test]
fn each_flaw_breaks_its_check_and_no_other() {
    for (flaw, expected) in [
        (TokenFlaw::PlatformSignature, [false, true, true, true]),
        (TokenFlaw::RakBinding, [true, false, true, true]),
        (TokenFlaw::RealmSignature, [true, true, false, true]),
        (TokenFlaw::Challenge, [true, true, true, false]),
        (TokenFlaw::Debug, [true; 4]),
        (TokenFlaw::RemsMissing, [true; 4]),
    ] {
        let token = token(|realm| realm.token_flaw = flaw);
        assert_eq!(verdict(&token), expected, "{flaw:?}");
        let is_debug = *token.platform.claims.at(2395) != Item::Int(attest::LIFECYCLE as i64);
        assert_eq!(is_debug, flaw == TokenFlaw::Debug);
        assert!(!is_debug || *token.platform.claims.at(2395) == Item::Int(0x4000));
        assert_eq!(token.realm.claims.get(44239).is_none(), flaw == TokenFlaw::RemsMissing);
    }
}

#[test]
fn the_device_token_lists_devices_in_the_order_of_their_locks() {
    let mut scenario = devices(vec![at("02.0"), at("04.0"), at("05.0")]);
    scenario.realm.device_token = true;
    scenario.realm.hash = HashAlgorithm::Sha512;
    scenario.device[2].evidence = EvidenceKind::None;
    let functions = vec![
        SimFunction::host_bridge(),
        SimFunction::nvme(2, 0),
        SimFunction::nvme(4, 0),
        SimFunction::nvme(5, 0),
    ];
    let mut rig = Rig::with(&scenario, functions);
    let current = |rig: &mut Rig| Token::decode(&read(rig, PAGE));
    // No device is assigned.
    let none = current(&mut rig);
    assert_eq!((none.devices, none.realm.claims.get(44257)), (None, None));

    for (number, id) in [0x28, 0x10, 0x20].into_iter().enumerate() {
        rig.place_at(id, 0, BAR + 0x10_0000 * number as u64);
        assert_eq!(rig.tdi_of(id.into(), TDI_CONFIG_LOCKED), SUCCESS);
    }
    rig.m.write(SHARED, &[0; 0x200]);
    assert_eq!(rig.rhi(RHI_DA_VDEV_GET_MEASUREMENTS, &[0x10, SHARED])[0], SUCCESS);

    let token = current(&mut rig);
    assert_eq!(verdict(&token), [true; 4]);
    let bytes = token.devices.unwrap();
    assert_eq!(token.realm.claims.at(44257).bytes(), HashAlgorithm::Sha512.digest(&[&bytes]));
    let item = Item::decode(&bytes);
    assert_eq!(item.keys(), [265, 44259]);
    assert_eq!(item.at(265).text(), "tag:arm.com,2025:cca_device#2.0.0");
    let [platform, first, second] = item.at(44259).items() else { panic!("three devices") };
    // Without session: zeros, and no negotiation. Not measured: zeros.
    assert_eq!(platform.keys(), [1, 2, 4, 5]);
    assert_eq!((platform.at(1).bytes(), platform.at(2).bytes()), (&[0; 48][..], &[0; 48][..]));
    assert_eq!(second.at(2).bytes(), [0; 48]);
    for (id, device) in [(0x10, first), (0x20, second)] {
        assert_eq!(device.keys(), [1, 2, 3, 4, 5]);
        let info = rig.info_of(id).unwrap().bytes;
        assert_eq!(device.at(1).bytes(), &info[0xC0..0xF0]);
        assert_eq!(device.at(2).bytes(), &info[0x140..0x170]);
        assert_eq!(device.at(3).bytes(), &info[0x80..0xB0]);
    }
    assert_ne!(first.at(2).bytes(), [0; 48]);

    // A VDEV that is made again comes last; one that is gone does not come at all.
    assert_eq!(rig.tdi_of(0x28, TDI_CONFIG_UNLOCKED), SUCCESS);
    let devices = |rig: &mut Rig| Item::decode(&current(rig).devices.unwrap()).at(44259).items().to_vec();
    assert_eq!(devices(&mut rig).len(), 2);
    assert_eq!(rig.tdi_of(0x28, TDI_CONFIG_LOCKED), SUCCESS);
    assert_eq!(devices(&mut rig).last(), Some(platform));
    rig.is_clean();
}
