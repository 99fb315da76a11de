//! The token's reader: both outer formats, both curves, the key binding; a token that is changed anywhere does not verify.
mod logs;
mod tokens;

use gatehouse_cli::token::{CoseError, Key, KeyError, Outer, Token, TokenError};
use proptest::prelude::*;
use std::sync::LazyLock;
use tokens::{Signer, Spec};

fn spec() -> Spec {
    Spec::new([1, 2, 3, 4].map(|n| vec![n; 48]))
}

/// Everything that a token proves by itself.
fn holds(bytes: &[u8], platform: Signer) -> bool {
    let Ok(token) = Token::parse(bytes) else { return false };
    let key = Key::from_pem(&platform.pem()).unwrap();
    token.platform_is_signed(&key).is_ok()
        && token.binds()
        && token.realm_is_signed().is_ok()
        && token.binds_devices() != Some(false)
}

#[test]
fn both_outer_formats_and_both_curves_are_read() {
    for (tag, outer) in [(907, Outer::Cmw), (399, Outer::Collection)] {
        for signer in [Signer::P256(0x22), Signer::P384(0x22)] {
            let platform = Signer::P256(0x11);
            let spec =
                Spec { tag, realm_key: signer, realm_signer: signer, platform_signer: platform, ..spec() };
            let bytes = spec.bytes();
            assert!(holds(&bytes, platform), "{outer} {signer:?}");
            let token = Token::parse(&bytes).unwrap();
            assert_eq!(token.outer, outer);
            assert_eq!(token.realm.rim, [0x71; 48]);
            assert_eq!(token.realm.rems.map(|rem| rem[0]), [1, 2, 3, 4]);
            assert_eq!(token.realm.challenge, [0xc4; 64]);
            assert_eq!(token.platform.lifecycle, 0x3003);
            assert_eq!(token.platform.components[0].kind, Some("RMM"));
        }
    }
}

#[test]
fn a_claim_is_found_by_its_key_and_its_absence_told_by_its_name() {
    for (key, name) in [
        (10, "challenge"),
        (44235, "RPV"),
        (44236, "hash algorithm of the measurements"),
        (44237, "public key"),
        (44238, "RIM"),
        (44239, "REMs"),
        (44240, "hash algorithm of the public key"),
    ] {
        let bytes = Spec { without: vec![key], ..spec() }.bytes();
        let key = key as i64;
        assert_eq!(Token::parse(&bytes), Err(TokenError::Claim { part: "realm token", key, name }));
    }
    let bytes = Spec { without: vec![265, 256, 44243], ..spec() }.bytes();
    let token = Token::parse(&bytes).unwrap();
    assert_eq!((token.realm.profile, token.realm.private_memory_key), (None, None));
}

#[test]
fn another_signer_or_another_key_is_found() {
    let platform = Signer::P384(0x11);
    assert!(holds(&spec().bytes(), platform));
    let key = |signer: Signer| Key::from_pem(&signer.pem()).unwrap();
    let bytes = spec().bytes();
    let token = Token::parse(&bytes).unwrap();
    assert_eq!(token.platform_is_signed(&key(Signer::P384(0x12))), Err(KeyError::Signature));
    let other = key(Signer::P256(0x11));
    assert!(matches!(token.platform_is_signed(&other), Err(KeyError::Algorithm(_))));
    let bytes = Spec { realm_signer: Signer::P384(0x23), ..spec() }.bytes();
    assert_eq!(Token::parse(&bytes).unwrap().realm_is_signed(), Err(KeyError::Signature));
    // A realm token of another platform: sound, but not bound.
    let other = Spec { realm_signer: Signer::P384(0x23), realm_key: Signer::P384(0x23), ..spec() }.bytes();
    let (other, token) = (Token::parse(&other).unwrap(), Token::parse(&bytes).unwrap());
    let mixed = Token { realm_signed: other.realm_signed, realm: other.realm, ..token };
    assert_eq!(mixed.realm_is_signed(), Ok(()));
    assert!(!mixed.binds());
}

#[test]
fn every_byte_of_a_token_that_is_edited_is_found() {
    let digest = |n: u8| vec![n; 48];
    let devices = tokens::devices(&[[digest(1), digest(2), digest(3)]]);
    let platform = Signer::P256(0x11);
    let signer = Signer::P256(0x22);
    let spec = Spec { devices: Some(devices), platform_signer: platform, ..spec() };
    let bytes = Spec { realm_key: signer, realm_signer: signer, ..spec }.bytes();
    assert!(holds(&bytes, platform));
    let was = Token::parse(&bytes).unwrap();
    let key = Key::from_pem(&platform.pem()).unwrap();
    for at in 0..bytes.len() {
        let mut bytes = bytes.clone();
        bytes[at] ^= 1;
        // A signed part that is as it was verifies, as it did.
        let holds = Token::parse(&bytes).is_ok_and(|token| {
            (token.platform_signed == was.platform_signed || token.platform_is_signed(&key).is_ok())
                && token.binds()
                && (token.realm_signed == was.realm_signed || token.realm_is_signed().is_ok())
                && token.binds_devices() == Some(true)
        });
        assert!(!holds, "byte {at}");
    }
    for len in 0..bytes.len() {
        assert!(Token::parse(&bytes[..len]).is_err(), "{len} bytes");
    }
}

#[test]
fn a_device_token_is_bound_by_its_hash() {
    let devices = tokens::devices(&[[1, 2, 3].map(|n| vec![n; 48])]);
    let spec = Spec { devices: Some(devices.clone()), ..spec() };
    let bytes = spec.bytes();
    let token = Token::parse(&bytes).unwrap();
    assert_eq!(token.binds_devices(), Some(true));
    let claims = token.device_claims().unwrap().unwrap();
    assert_eq!((claims[0].identity[0], claims[0].measurements[0]), (1, 2));
    assert_eq!((claims[0].vca.map(|vca| vca[0]), claims[0].protected), (Some(3), Some(true)));
    assert_eq!(Token { devices: None, ..token.clone() }.binds_devices(), Some(false));
    let other = tokens::devices(&[]);
    assert_eq!(Token { devices: Some(&other), ..token.clone() }.binds_devices(), Some(false));
    let unbound = Spec { without: vec![44257], ..spec }.bytes();
    assert_eq!(Token::parse(&unbound).unwrap().binds_devices(), Some(false));
    assert_eq!(Token::parse(&self::spec().bytes()).unwrap().binds_devices(), None);
}

#[test]
fn what_is_no_token_is_told_by_what_is_wrong() {
    assert_eq!(Token::parse(b""), Err(TokenError::NotAToken));
    assert_eq!(Token::parse(b"\x7fELF"), Err(TokenError::NotAToken));
    assert_eq!(Token::parse(&[spec().bytes(), vec![0; 3]].concat()), Err(TokenError::Trailing(3)));
    let error = Token::parse(b"\xd9\x03\x8b\xa0");
    assert_eq!(error, Err(TokenError::Part { part: "platform token" }));
    // The old container with the new tag.
    let mut bytes = Spec { tag: 399, ..spec() }.bytes();
    bytes[1..3].copy_from_slice(&[0x03, 0x8b]);
    assert_eq!(Token::parse(&bytes), Err(TokenError::Part { part: "platform token" }));
    let mut bytes = spec().bytes();
    let at = bytes.windows(4).position(|window| window == [0xa1, 1, 0x38, 34]).unwrap();
    bytes[at + 3] = 35;
    let error = CoseError::Algorithm(-36);
    assert_eq!(Token::parse(&bytes), Err(TokenError::Cose { part: "platform token", error }));
    assert_eq!(Key::from_pem("-----BEGIN PRIVATE KEY-----"), Err(KeyError::Pem));
    assert_eq!(Key::from_pem(&Signer::P256(1).pem().replace("MFkw", "MFgw")), Err(KeyError::Key));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_are_a_token_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Token::parse(&bytes);
        let _ = Token::parse(&[b"\xd9\x03\x8b".as_slice(), &bytes].concat());
        let _ = Key::from_cose(&bytes);
    }

    #[test]
    fn a_mutated_token_is_a_token_or_an_error(
        at in any::<proptest::sample::Index>(), value in any::<u8>(), drop in any::<proptest::sample::Index>(),
    ) {
        static TOKEN: LazyLock<Vec<u8>> = LazyLock::new(|| spec().bytes());
        let mut bytes = TOKEN.clone();
        let index = at.index(bytes.len());
        bytes[index] = value;
        bytes.remove(drop.index(bytes.len()));
        if let Ok(token) = Token::parse(&bytes) {
            let _ = token.realm_is_signed();
            let _ = token.device_claims();
        }
    }
}
