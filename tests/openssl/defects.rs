//! Chains that OpenSSL makes as we ask, and that must be refused: each by its own variant.

use crate::pki::{self, CA, Issued, LEAF, P256, P384, Pki, Spec, spec};
use der::asn1::ObjectIdentifier;
use gatehouse::digest::Digest;
use gatehouse::evidence::{Chain, ChainError, KeyError, Part, Trust};
use gatehouse::policy::types::{Anchor, AnchorKey, Denied, Time};
use gatehouse::rsi::HashAlgorithm;

const ROOT: Spec<'_> = spec("/CN=root", CA);
const MAKER: Spec<'_> = spec("/CN=maker", CA);
const DEVICE: Spec<'_> = spec("/CN=device", LEAF);

fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new(text).unwrap()
}

fn verify(object: &[u8], trust: &Trust<'_>) -> Result<usize, ChainError> {
    Chain::parse(object, HashAlgorithm::Sha384)?.verify(trust)
}

/// Verifies against the first certificate.
fn verdict(chain: &[Issued]) -> Result<usize, ChainError> {
    let trust = Trust { anchors: &[pki::anchor(&chain[0].der)], denied: &Denied::default(), floor: None };
    verify(&pki::object(chain), &trust)
}

/// Makes a chain and says why it is refused.
fn refused(pki: &Pki, specs: &[Spec<'_>]) -> ChainError {
    verdict(&pki.chain(specs)).unwrap_err()
}

#[test]
fn another_root_of_the_same_name_is_no_anchor() {
    let pki = Pki::new("root");
    let chain = pki.chain(&[ROOT, MAKER, DEVICE]);
    let other = pki.issue(&ROOT, None);
    let anchors = [pki::anchor(&other.der)];
    let trust = Trust { anchors: &anchors, denied: &Denied::default(), floor: None };
    assert_eq!(verify(&pki::object(&chain), &trust), Err(ChainError::NoAnchor));
    let nobody = Trust { anchors: &[], ..trust };
    assert_eq!(verify(&pki::object(&chain), &nobody), Err(ChainError::NoAnchor));
    // The genuine root in front of another's chain: the name fits, the signature does not.
    let mixed = [&other.der[..], &chain[1].der, &chain[2].der].concat();
    assert_eq!(verify(&mixed, &trust), Err(ChainError::BadSignature { certificate: 1 }));
    let gap = [&other.der[..], &chain[2].der].concat();
    assert_eq!(verify(&gap, &trust), Err(ChainError::NameMismatch { certificate: 1 }));
}

#[test]
fn a_leaf_that_another_key_signed_is_refused_although_every_name_fits() {
    let pki = Pki::new("forged");
    let chain = pki.chain(&[ROOT, MAKER]);
    let liar = pki.issue(&MAKER, None);
    let forged = pki.issue(&DEVICE, Some(&liar));
    let object = [pki::object(&chain), forged.der].concat();
    let anchors = [pki::anchor(&chain[0].der)];
    let trust = Trust { anchors: &anchors, denied: &Denied::default(), floor: None };
    assert_eq!(verify(&object, &trust), Err(ChainError::BadSignature { certificate: 2 }));
}

#[test]
fn an_anchor_that_is_named_by_its_key_and_signs_itself_must_have_done_so() {
    let pki = Pki::new("own");
    let mut chain = pki.chain(&[ROOT, DEVICE]);
    let object = pki::object(&chain);
    let spki =
        Chain::parse(&object, HashAlgorithm::Sha384).unwrap().certificates().next().unwrap().key.spki();
    let key = AnchorKey::PublicKey(Digest::of(HashAlgorithm::Sha256, &[spki]));
    let anchors = [Anchor { name: "key".into(), key }];
    let trust = Trust { anchors: &anchors, denied: &Denied::default(), floor: None };
    assert_eq!(verify(&object, &trust), Ok(0));
    *chain[0].der.last_mut().unwrap() ^= 1;
    assert_eq!(verify(&pki::object(&chain), &trust), Err(ChainError::BadSignature { certificate: 0 }));
}

#[test]
fn an_issuer_without_the_ca_bit_is_refused_and_so_is_a_leaf_with_it() {
    let pki = Pki::new("ca");
    for not_ca in
        ["keyUsage=keyCertSign\n", "basicConstraints=critical,CA:FALSE\n", "basicConstraints=CA:FALSE\n"]
    {
        let maker = spec("/CN=maker", not_ca);
        assert_eq!(refused(&pki, &[ROOT, maker, DEVICE]), ChainError::NotCa { certificate: 1 });
    }
    assert_eq!(refused(&pki, &[spec("/CN=root", LEAF), DEVICE]), ChainError::NotCa { certificate: 0 });
    let ca = spec("/CN=device", "basicConstraints=CA:TRUE\n");
    assert_eq!(refused(&pki, &[ROOT, MAKER, ca]), ChainError::LeafIsCa { certificate: 2 });
    // What a chain that is cut off before its leaf looks like.
    assert_eq!(refused(&pki, &[ROOT, MAKER]), ChainError::LeafIsCa { certificate: 1 });
    assert_eq!(refused(&pki, &[ROOT]), ChainError::KeyUsage { certificate: 0 });
    assert_eq!(verdict(&pki.chain(&[spec("/CN=alone", "basicConstraints=CA:TRUE\n")])), Ok(0));
}

#[test]
fn a_path_longer_than_a_ca_allows_is_refused() {
    let pki = Pki::new("length");
    let zero = "basicConstraints=critical,CA:TRUE,pathlen:0\n";
    let one = "basicConstraints=critical,CA:TRUE,pathlen:1\n";
    let (root_0, root_1, maker_0) = (spec("/CN=root", zero), spec("/CN=root", one), spec("/CN=maker", zero));
    let model = spec("/CN=model", CA);
    assert_eq!(refused(&pki, &[root_0, MAKER, DEVICE]), ChainError::PathLength { certificate: 0 });
    assert_eq!(refused(&pki, &[root_1, MAKER, model, DEVICE]), ChainError::PathLength { certificate: 0 });
    assert_eq!(refused(&pki, &[ROOT, maker_0, model, DEVICE]), ChainError::PathLength { certificate: 1 });
    assert_eq!(verdict(&pki.chain(&[root_1, maker_0, DEVICE])), Ok(0));
    let pointless = spec("/CN=device", "basicConstraints=CA:FALSE,pathlen:0\n");
    assert_eq!(
        refused(&pki, &[ROOT, pointless]),
        ChainError::Malformed { certificate: 1, part: Part::BasicConstraints }
    );
}

#[test]
fn key_usage_must_allow_what_the_key_is_used_for() {
    let pki = Pki::new("usage");
    let ca = |usage: &str| format!("basicConstraints=critical,CA:TRUE\nkeyUsage={usage}\n");
    let (no_sign, sign) = (ca("digitalSignature"), ca("keyCertSign"));
    let chain = [ROOT, spec("/CN=maker", &no_sign), DEVICE];
    assert_eq!(refused(&pki, &chain), ChainError::KeyUsage { certificate: 1 });
    let chain = [ROOT, spec("/CN=maker", &sign), spec("/CN=device", "keyUsage=critical,keyAgreement\n")];
    assert_eq!(refused(&pki, &chain), ChainError::KeyUsage { certificate: 2 });
    let requester = "extendedKeyUsage=serverAuth,1.3.6.1.4.1.412.274.4\n";
    let chain = [ROOT, spec("/CN=device", requester)];
    assert_eq!(refused(&pki, &chain), ChainError::ExtendedKeyUsage { certificate: 1 });
    let both = "extendedKeyUsage=1.3.6.1.4.1.412.274.4,1.3.6.1.4.1.412.274.3\n";
    // Without keyUsage every use is allowed.
    let bare = spec("/CN=maker", "basicConstraints=CA:TRUE\n");
    assert_eq!(verdict(&pki.chain(&[ROOT, bare, spec("/CN=device", both)])), Ok(0));
}

#[test]
fn a_critical_extension_that_nobody_evaluates_is_refused_by_its_name() {
    let pki = Pki::new("critical");
    for (line, name) in [
        ("1.2.3.4=critical,ASN1:NULL\n", "1.2.3.4"),
        ("nameConstraints=critical,permitted;DNS:example\n", "2.5.29.30"),
        ("policyConstraints=critical,requireExplicitPolicy:0\n", "2.5.29.36"),
        ("inhibitAnyPolicy=critical,0\n", "2.5.29.54"),
    ] {
        let known = oid(name);
        let (maker, leaf) = (format!("{CA}{line}"), format!("{LEAF}{line}"));
        let chain = [ROOT, spec("/CN=maker", &maker), DEVICE];
        assert_eq!(refused(&pki, &chain), ChainError::UnknownCritical { certificate: 1, oid: known });
        let chain = [ROOT, spec("/CN=device", &leaf)];
        assert_eq!(refused(&pki, &chain), ChainError::UnknownCritical { certificate: 1, oid: known });
        let harmless =
            leaf.replace(&line[..line.len() - 1], &line[..line.len() - 1].replace("critical,", ""));
        assert_eq!(verdict(&pki.chain(&[ROOT, spec("/CN=device", &harmless)])), Ok(0), "{name}");
    }
}

#[test]
fn weak_digests_and_unknown_algorithms_are_refused_by_their_name() {
    let pki = Pki::new("digests");
    for (option, name) in [("-sha1", "1.2.840.10045.4.1"), ("-sha224", "1.2.840.10045.4.3.1")] {
        let signing = &[option][..];
        let weak = |spec| Spec { signing, ..spec };
        let error = |certificate| ChainError::WeakAlgorithm { certificate, oid: oid(name) };
        assert_eq!(refused(&pki, &[ROOT, MAKER, weak(DEVICE)]), error(2));
        assert_eq!(refused(&pki, &[ROOT, weak(MAKER), DEVICE]), error(1));
        assert_eq!(refused(&pki, &[weak(ROOT), DEVICE]), error(0));
    }
    let rsa = Spec { key: &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"], ..ROOT };
    let rsa_root = pki.issue(&rsa, None);
    for (option, name) in [
        ("-md5", "1.2.840.113549.1.1.4"),
        ("-sha1", "1.2.840.113549.1.1.5"),
        ("-sha224", "1.2.840.113549.1.1.14"),
    ] {
        let leaf = pki.issue(&Spec { signing: &[option], ..DEVICE }, Some(&rsa_root));
        let error = ChainError::WeakAlgorithm { certificate: 0, oid: oid(name) };
        assert_eq!(Chain::parse(&leaf.der, HashAlgorithm::Sha256).unwrap_err(), error);
    }
    let error = ChainError::UnknownAlgorithm { certificate: 0, oid: oid("1.3.101.112") };
    let edwards = Spec { key: &["-algorithm", "ED25519"], signing: &[], ..ROOT };
    assert_eq!(refused(&pki, &[edwards]), error);
    let sha3 = Spec { signing: &["-sha3-256"], ..DEVICE };
    let error = ChainError::UnknownAlgorithm { certificate: 1, oid: oid("2.16.840.1.101.3.4.3.10") };
    assert_eq!(refused(&pki, &[ROOT, sha3]), error);
}

#[test]
fn weak_keys_are_refused_by_what_they_are() {
    let pki = Pki::new("keys");
    let curve = |name| format!("ec_paramgen_curve:{name}");
    for (name, oid_text) in
        [("P-224", "1.3.132.0.33"), ("secp256k1", "1.3.132.0.10"), ("P-521", "1.3.132.0.35")]
    {
        let option = curve(name);
        let key = &["-algorithm", "EC", "-pkeyopt", &option][..];
        let error = KeyError::Curve(oid(oid_text));
        let leaf = Spec { key, ..DEVICE };
        assert_eq!(refused(&pki, &[ROOT, leaf]), ChainError::WeakKey { certificate: 1, error });
        let root = Spec { key, ..ROOT };
        assert_eq!(refused(&pki, &[root, DEVICE]), ChainError::WeakKey { certificate: 0, error });
    }
    let explicit = [P256, &["-pkeyopt", "ec_param_enc:explicit"]].concat();
    let leaf = Spec { key: &explicit, ..DEVICE };
    let error = KeyError::ExplicitCurve;
    assert_eq!(refused(&pki, &[ROOT, leaf]), ChainError::WeakKey { certificate: 1, error });
    for bits in [1024, 2048] {
        let option = format!("rsa_keygen_bits:{bits}");
        let leaf = Spec { key: &["-algorithm", "RSA", "-pkeyopt", &option], ..DEVICE };
        let error = KeyError::RsaBits(bits);
        assert_eq!(refused(&pki, &[ROOT, leaf]), ChainError::WeakKey { certificate: 1, error });
    }
    let leaf = Spec { key: &["-algorithm", "ED25519"], ..DEVICE };
    let error = KeyError::Algorithm(oid("1.3.101.112"));
    assert_eq!(refused(&pki, &[ROOT, leaf]), ChainError::Key { certificate: 1, error });
    let leaf = pki.certify(&DEVICE, pki.compressed_key(P384), None);
    let error = Chain::parse(&leaf.der, HashAlgorithm::Sha384).unwrap_err();
    let ChainError::Key { certificate: 0, error: KeyError::PointForm(2 | 3) } = error else {
        panic!("a compressed point is refused, not {error}")
    };
}

#[cfg(not(feature = "rsa"))]
#[test]
fn without_the_feature_sound_rsa_is_refused_as_disabled() {
    let pki = Pki::new("disabled");
    let rsa = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"][..];
    let error = |certificate| ChainError::RsaDisabled { certificate };
    assert_eq!(refused(&pki, &[Spec { key: rsa, ..ROOT }, DEVICE]), error(0));
    assert_eq!(refused(&pki, &[ROOT, Spec { key: rsa, ..DEVICE }]), error(1));
    let root = pki.issue(&Spec { key: rsa, ..ROOT }, None);
    for options in [&["-sha256"][..], &[&["-sha256"], pki::PSS].concat()] {
        let leaf = pki.issue(&Spec { signing: options, ..DEVICE }, Some(&root));
        assert_eq!(Chain::parse(&leaf.der, HashAlgorithm::Sha256).unwrap_err(), error(0));
    }
}

#[test]
fn only_the_floor_of_the_policy_makes_a_certificate_expire() {
    let pki = Pki::new("floor");
    let chain = pki.chain(&[ROOT, MAKER, DEVICE]);
    let object = pki::object(&chain);
    let parsed = Chain::parse(&object, HashAlgorithm::Sha384).unwrap();
    let ends: Vec<_> = parsed.certificates().map(|certificate| certificate.not_after).collect();
    let anchors: [Anchor; 1] = [pki::anchor(&chain[0].der)];
    let denied = Denied::default();
    let with = |floor| parsed.verify(&Trust { anchors: &anchors, denied: &denied, floor });
    assert_eq!(with(None), Ok(0));
    assert_eq!(with(ends.iter().min().copied()), Ok(0));
    let late = Time(ends[2].0 + 1);
    assert_eq!(with(Some(late)), Err(ChainError::Expired { certificate: 2, not_after: ends[2] }));
}

#[test]
fn an_expired_anchor_or_ca_is_refused_as_well() {
    let pki = Pki::new("early");
    // `openssl req` takes the last -days.
    let short: &[&str] = &["-sha256", "-days", "10"];
    let denied = Denied::default();
    for (index, specs) in
        [[Spec { signing: short, ..ROOT }, MAKER, DEVICE], [ROOT, Spec { signing: short, ..MAKER }, DEVICE]]
            .iter()
            .enumerate()
    {
        let chain = pki.chain(specs);
        let object = pki::object(&chain);
        let parsed = Chain::parse(&object, HashAlgorithm::Sha384).unwrap();
        let not_after = parsed.certificates().nth(index).unwrap().not_after;
        let floor = Some(Time(not_after.0 + 1));
        let anchors = [pki::anchor(&chain[0].der)];
        let verdict = parsed.verify(&Trust { anchors: &anchors, denied: &denied, floor });
        assert_eq!(verdict, Err(ChainError::Expired { certificate: index, not_after }));
    }
}

#[test]
fn denied_leaf_keys_and_serial_numbers_are_refused() {
    let pki = Pki::new("denied");
    let chain = pki.chain(&[ROOT, MAKER, DEVICE]);
    let object = pki::object(&chain);
    let parsed = Chain::parse(&object, HashAlgorithm::Sha384).unwrap();
    let anchors = [pki::anchor(&chain[0].der)];
    let spki = |index: usize| parsed.certificates().nth(index).unwrap().key.spki();
    let verdict = |denied: &Denied| parsed.verify(&Trust { anchors: &anchors, denied, floor: None });
    for (certificate, this) in parsed.certificates().enumerate() {
        let denied = Denied { serials: vec![this.serial.clone()], ..Denied::default() };
        assert_eq!(verdict(&denied), Err(ChainError::DeniedSerial { certificate }));
    }
    for hash in [HashAlgorithm::Sha256, HashAlgorithm::Sha384, HashAlgorithm::Sha512] {
        let leaf_keys = vec![Digest::of(hash, &[b"other"]), Digest::of(hash, &[spki(2)])];
        assert_eq!(verdict(&Denied { leaf_keys, ..Denied::default() }), Err(ChainError::DeniedLeaf));
    }
    // The list is of leaf keys.
    let leaf_keys = vec![Digest::of(HashAlgorithm::Sha256, &[spki(1)])];
    assert_eq!(verdict(&Denied { leaf_keys, ..Denied::default() }), Ok(0));
}

#[test]
fn lengths_and_the_slot_header_are_checked() {
    let pki = Pki::new("slot");
    let chain = pki.chain(&[ROOT, DEVICE]);
    let object = pki::object(&chain);
    let parse = |bytes: &[u8]| Chain::parse(bytes, HashAlgorithm::Sha384).map(|_| ());
    let slot = pki::slot(&object, &chain[0].der, HashAlgorithm::Sha384);
    assert_eq!(parse(&slot), Ok(()));
    let changed = |offset: usize, byte: u8| {
        let mut bytes = slot.clone();
        bytes[offset] = byte;
        bytes
    };
    let len = slot.len();
    let announced = u16::try_from(len).unwrap();
    let wrong = ChainError::SlotLength { announced: announced ^ 1, len };
    assert_eq!(parse(&changed(0, slot[0] ^ 1)), Err(wrong));
    assert_eq!(parse(&changed(2, 7)), Err(ChainError::SlotReserved(7)));
    assert_eq!(parse(&changed(4, slot[4] ^ 1)), Err(ChainError::RootHash));
    let other_hash = pki::slot(&object, &chain[0].der, HashAlgorithm::Sha256);
    assert_eq!(
        parse(&other_hash),
        Err(ChainError::Malformed { certificate: 0, part: Part::Structure }),
        "the header's digest is by the negotiated hash"
    );
    let longer = [&slot[..], &[0]].concat();
    assert_eq!(parse(&longer), Err(ChainError::SlotLength { announced, len: len + 1 }));
    assert_eq!(parse(&[&object[..], &[0]].concat()), Err(ChainError::Trailing(1)));
    let half = ChainError::Malformed { certificate: 2, part: Part::Structure };
    assert_eq!(parse(&[&object[..], &object[..9]].concat()), Err(half));
    assert_eq!(parse(&[]), Err(ChainError::Empty));
    assert_eq!(parse(&pki::slot(&[], &[], HashAlgorithm::Sha384)), Err(ChainError::Empty));
    assert_eq!(parse(&[4, 0, 0, 0]), Err(ChainError::Empty));
    assert_eq!(parse(&vec![0x30; 0x1_0000]), Err(ChainError::TooLong(0x1_0000)));
    assert_eq!(parse(&chain[0].der.repeat(10)), Ok(()));
    assert_eq!(parse(&chain[0].der.repeat(11)), Err(ChainError::TooMany));
}

#[test]
fn large_certificates_names_and_numbers_of_extensions_are_refused() {
    let pki = Pki::new("large");
    let filler = "DNS:a.very.long.name.example,".repeat(400);
    let many_names = format!("{LEAF}subjectAltName={filler}DNS:b\n");
    let ChainError::CertificateTooLong { certificate: 1, len: 8193.. } =
        refused(&pki, &[ROOT, spec("/CN=device", &many_names)])
    else {
        panic!("a large certificate is refused")
    };
    let many = |number: u32| {
        // OpenSSL adds two identifiers of keys.
        (0..number - 2).map(|n| format!("1.2.3.{n}=ASN1:NULL\n")).collect::<String>()
    };
    let (most, too_many) = (many(32), many(33));
    assert_eq!(verdict(&pki.chain(&[ROOT, spec("/CN=device", &most)])), Ok(0));
    assert_eq!(
        refused(&pki, &[ROOT, spec("/CN=device", &too_many)]),
        ChainError::TooManyExtensions { certificate: 1 }
    );
    let name =
        format!("/CN=device{}", "/OU=a unit of sixty-four characters or so, none of them of use".repeat(16));
    let ChainError::NameTooLong { certificate: 1, len: 1025.. } = refused(&pki, &[ROOT, spec(&name, LEAF)])
    else {
        panic!("a long name is refused")
    };
}
