//! Chains that verify.

use crate::pki::{self, CA, LEAF, P256, P384, Pki, Spec, spec};
use gatehouse::digest::Digest;
use gatehouse::evidence::{Chain, ChainError, KeyKind, Trust};
use gatehouse::policy::types::{Anchor, AnchorKey, Denied};
use gatehouse::rsi::HashAlgorithm;

const NOBODY: &Denied = &Denied { leaf_keys: Vec::new(), serials: Vec::new() };

fn verify(object: &[u8], anchors: &[Anchor]) -> Result<usize, ChainError> {
    let trust = Trust { anchors, denied: NOBODY, floor: None };
    Chain::parse(object, HashAlgorithm::Sha384)?.verify(&trust)
}

#[test]
fn chains_of_one_to_four_certificates_verify_on_both_curves_and_with_all_hashes() {
    let pki = Pki::new("lengths");
    for (key, hash) in [
        (P256, "-sha256"),
        (P384, "-sha384"),
        (P256, "-sha384"),
        (P384, "-sha256"),
        (P384, "-sha512"),
        (P256, "-sha512"),
    ] {
        let signing = &[hash][..];
        let with = |subject, extensions| Spec { key, signing, ..spec(subject, extensions) };
        let chain = pki.chain(&[
            with("/CN=root", CA),
            with("/CN=maker", CA),
            with("/CN=model", CA),
            with("/CN=device", LEAF),
        ]);
        let leaf = pki.issue(&with("/CN=from root", LEAF), Some(&chain[0]));
        let second = pki.issue(&with("/CN=from maker", LEAF), Some(&chain[1]));
        let alone = pki.issue(&with("/CN=alone", LEAF), None);
        let objects = [
            pki::object(&chain),
            [&chain[0].der[..], &leaf.der].concat(),
            [&chain[0].der[..], &chain[1].der, &second.der].concat(),
        ];
        for object in &objects {
            let anchors = [pki::anchor(&alone.der), pki::anchor(&chain[0].der)];
            assert_eq!(verify(object, &anchors), Ok(1), "{hash}");
            let slot = pki::slot(object, &chain[0].der, HashAlgorithm::Sha384);
            assert_eq!(verify(&slot, &anchors), Ok(1), "{hash}");
        }
        assert_eq!(verify(&alone.der, &[pki::anchor(&alone.der)]), Ok(0));
    }
}

#[test]
fn curves_and_hashes_may_change_along_a_chain() {
    let pki = Pki::new("mixed");
    let chain = pki.chain(&[
        Spec { key: P384, signing: &["-sha384"], ..spec("/CN=root", CA) },
        Spec { key: P256, signing: &["-sha384"], ..spec("/CN=maker", CA) },
        Spec { key: P384, signing: &["-sha256"], ..spec("/CN=device", LEAF) },
    ]);
    let object = pki::object(&chain);
    assert_eq!(verify(&object, &[pki::anchor(&chain[0].der)]), Ok(0));
    let chain = Chain::parse(&object, HashAlgorithm::Sha256).unwrap();
    let kinds: Vec<_> = chain.certificates().map(|certificate| certificate.key.kind()).collect();
    assert_eq!(kinds, [KeyKind::P384, KeyKind::P256, KeyKind::P384]);
}

#[test]
fn a_chain_ends_at_the_first_certificate_that_an_anchor_names_by_digest_or_by_key() {
    let pki = Pki::new("anchors");
    let issued = pki.chain(&[spec("/CN=root", CA), spec("/CN=maker", CA), spec("/CN=device", LEAF)]);
    let object = pki::object(&issued);
    let chain = Chain::parse(&object, HashAlgorithm::Sha384).unwrap();
    let certificates: Vec<_> = chain.certificates().collect();
    let by_key = |index: usize| Anchor {
        name: "key".into(),
        key: AnchorKey::PublicKey(Digest::of(HashAlgorithm::Sha256, &[certificates[index].key.spki()])),
    };
    let whole = |index: usize| pki::anchor(&issued[index].der);
    assert_eq!(verify(&object, &[by_key(0)]), Ok(0));
    assert_eq!(verify(&object, &[by_key(1)]), Ok(0));
    assert_eq!(verify(&object, &[whole(0), whole(1)]), Ok(1));
    assert_eq!(verify(&object, &[by_key(0), whole(2)]), Ok(1));
    // Above the anchor nothing has to fit.
    let other = pki.issue(&spec("/CN=stranger", CA), None);
    let strange = [&other.der[..], &issued[1].der, &issued[2].der].concat();
    assert_eq!(verify(&strange, &[whole(1)]), Ok(0));
    assert_eq!(
        verify(&strange, &[pki::anchor(&other.der)]),
        Err(ChainError::NameMismatch { certificate: 1 })
    );
    // And a chain may leave its root out.
    let rootless = [&issued[1].der[..], &issued[2].der].concat();
    assert_eq!(verify(&rootless, &[whole(1)]), Ok(0));
    assert_eq!(verify(&pki::slot(&rootless, &issued[0].der, HashAlgorithm::Sha384), &[whole(1)]), Ok(0));
    // A leaf is named by its whole certificate, or signs itself: its key alone does not vouch for its names.
    assert_eq!(verify(&object, &[by_key(2)]), Err(ChainError::NoAnchor));
    assert_eq!(verify(&object, &[whole(2)]), Ok(0));
    let alone = pki.issue(&spec("/CN=alone", LEAF), None);
    let alone_chain = Chain::parse(&alone.der, HashAlgorithm::Sha384).unwrap();
    let key = AnchorKey::PublicKey(Digest::of(HashAlgorithm::Sha512, &[alone_chain.leaf().key.spki()]));
    assert_eq!(verify(&alone.der, &[Anchor { name: "key".into(), key }]), Ok(0));
}

#[test]
fn the_device_identity_the_spdm_extension_and_the_names_are_read() {
    let pki = Pki::new("identity");
    let leaf = format!(
        "{LEAF}extendedKeyUsage=critical,1.3.6.1.4.1.412.274.3,serverAuth\ncertificatePolicies=critical,1.2.3.4\n\
         subjectAltName=DNS:device.example,otherName:1.3.6.1.4.1.412.274.1;UTF8:ACME:WIDGET:0123,email:a@b.example\n\
         1.3.6.1.4.1.412.274.6=ASN1:SEQUENCE:spdm\n[spdm]\nfirst=SEQUENCE:hardware\nsecond=SEQUENCE:mutable\n\
         [hardware]\noid=OID:1.3.6.1.4.1.412.274.2\n[mutable]\noid=OID:1.3.6.1.4.1.412.274.5\nmore=OCT:x\n"
    );
    let issued =
        pki.chain(&[spec("/C=DE/O=ACME, Inc./CN=root", CA), spec("/O=ACME/serialNumber=7+CN=déjà", &leaf)]);
    let object = pki::object(&issued);
    assert_eq!(verify(&object, &[pki::anchor(&issued[0].der)]), Ok(0));
    let chain = Chain::parse(&object, HashAlgorithm::Sha384).unwrap();
    let leaf = chain.leaf();
    assert_eq!(leaf.device_identity.as_deref(), Some("ACME:WIDGET:0123"));
    assert!(leaf.is_hardware_identity && leaf.is_mutable && !leaf.is_requester_only && !leaf.is_ca);
    assert!(leaf.key_usage.is_some_and(|usage| usage.digital_signature && !usage.cert_sign));
    assert_eq!(leaf.not_after.0 - leaf.not_before.0, 3650 * 24 * 3600);
    assert!((1..=20).contains(&leaf.serial.0.len()));
    let root = chain.certificates().next().unwrap();
    assert_eq!(root.subject, "CN=root,O=ACME\\, Inc.,C=DE");
    assert_eq!(root.device_identity, None);
    assert!(root.is_ca && root.path_len.is_none() && !root.is_hardware_identity);
    // OpenSSL's own RFC 4514 form has the same types and values.
    assert!(
        ["serialNumber=7", "CN=d\\c3\\a9j\\c3\\a0"].iter().all(|part| leaf.subject.contains(part)),
        "{}",
        leaf.subject
    );
    assert!(leaf.subject.ends_with(",O=ACME"), "{}", leaf.subject);
}

#[test]
fn path_lengths_count_cas_that_are_not_self_issued() {
    let pki = Pki::new("path");
    let limited =
        |most: u8| format!("basicConstraints=critical,CA:TRUE,pathlen:{most}\nkeyUsage=keyCertSign\n");
    let (one, zero) = (limited(1), limited(0));
    let chain = pki.chain(&[spec("/CN=root", &one), spec("/CN=maker", &zero), spec("/CN=device", LEAF)]);
    assert_eq!(verify(&pki::object(&chain), &[pki::anchor(&chain[0].der)]), Ok(0));
    // A new key of the same CA, certified by its old one: does not count (RFC 5280, 6.1.4 (l)).
    let chain = pki.chain(&[spec("/CN=root", &zero), spec("/CN=root", CA), spec("/CN=device", LEAF)]);
    assert_eq!(verify(&pki::object(&chain), &[pki::anchor(&chain[0].der)]), Ok(0));
}
