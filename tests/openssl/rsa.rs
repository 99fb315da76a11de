//! RSA chains and signatures.

use crate::pki::{self, CA, LEAF, P384, PSS, Pki, Spec, spec};
use der::asn1::ObjectIdentifier;
use gatehouse::evidence::{
    Chain, ChainError, Encoding, KeyError, KeyKind, Part, Scheme, SignatureError, Trust,
};
use gatehouse::policy::types::Denied;
use gatehouse::rsi::HashAlgorithm;

const RSA: &[&str] = &["-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:3072"];
const HASHES: [(&str, HashAlgorithm); 3] = [
    ("-sha256", HashAlgorithm::Sha256),
    ("-sha384", HashAlgorithm::Sha384),
    ("-sha512", HashAlgorithm::Sha512),
];

fn verdict(root: &[u8], object: &[u8]) -> Result<usize, ChainError> {
    let trust = Trust { anchors: &[pki::anchor(root)], denied: &Denied::default(), floor: None };
    Chain::parse(object, HashAlgorithm::Sha384)?.verify(&trust)
}

#[test]
fn rsa_chains_verify_in_both_paddings_with_all_hashes() {
    let pki = Pki::new("rsa");
    let root = pki.issue(&Spec { key: RSA, signing: &["-sha384"], ..spec("/CN=root", CA) }, None);
    let other = pki.issue(&Spec { key: RSA, ..spec("/CN=root", CA) }, None);
    for (option, _) in HASHES {
        for signing in [vec![option], [&[option], PSS].concat()] {
            let maker =
                pki.issue(&Spec { signing: &signing, key: RSA, ..spec("/CN=maker", CA) }, Some(&root));
            let leaf =
                pki.issue(&Spec { signing: &signing, key: P384, ..spec("/CN=device", LEAF) }, Some(&maker));
            let object = [&root.der[..], &maker.der, &leaf.der].concat();
            assert_eq!(verdict(&root.der, &object), Ok(0), "{signing:?}");
            let wrong = [&other.der[..], &maker.der, &leaf.der].concat();
            assert_eq!(verdict(&other.der, &wrong), Err(ChainError::BadSignature { certificate: 1 }));
            let mut broken = object.clone();
            *broken.last_mut().unwrap() ^= 1;
            assert_eq!(verdict(&root.der, &broken), Err(ChainError::BadSignature { certificate: 2 }));
        }
    }
}

#[test]
fn a_curve_key_may_certify_an_rsa_key_of_4096_bits_and_no_larger_one() {
    let pki = Pki::new("rsa-sizes");
    let root = pki.issue(&spec("/CN=root", CA), None);
    for (bits, expected) in
        [(3072, None), (4096, None), (2048, Some(2048)), (3064, Some(3064)), (4104, Some(4104))]
    {
        let option = format!("rsa_keygen_bits:{bits}");
        let key = &["-algorithm", "RSA", "-pkeyopt", &option][..];
        let leaf = pki.issue(&Spec { key, ..spec("/CN=device", LEAF) }, Some(&root));
        let object = [&root.der[..], &leaf.der].concat();
        match expected {
            None => {
                assert_eq!(verdict(&root.der, &object), Ok(0));
                let chain = Chain::parse(&object, HashAlgorithm::Sha384).unwrap();
                assert_eq!(chain.leaf().key.kind(), KeyKind::Rsa { bits });
            }
            Some(bits) => assert_eq!(
                verdict(&root.der, &object),
                Err(ChainError::WeakKey { certificate: 1, error: KeyError::RsaBits(bits) })
            ),
        }
    }
}

#[test]
fn rsa_signatures_of_openssl_verify_as_the_scheme_that_made_them_and_as_no_other() {
    let pki = Pki::new("rsa-signatures");
    let signer = pki.issue(&Spec { key: RSA, ..spec("/CN=signer", LEAF) }, None);
    let chain = Chain::parse(&signer.der, HashAlgorithm::Sha384).unwrap();
    let key = chain.leaf().key;
    for (option, hash) in HASHES {
        let plain = pki.sign(&signer.key, &[option], b"message");
        let pss = pki.sign(&signer.key, &[&[option], PSS].concat(), b"message");
        for (signature, good, bad) in [
            (&plain, Scheme::RsaPkcs1(hash), Scheme::RsaPss(hash)),
            (&pss, Scheme::RsaPss(hash), Scheme::RsaPkcs1(hash)),
        ] {
            for encoding in [Encoding::Der, Encoding::Fixed] {
                assert_eq!(key.verify(good, encoding, &[b"mess", b"age"], signature), Ok(()));
                let mismatch = Err(SignatureError::Mismatch);
                assert_eq!(key.verify(bad, encoding, &[b"message"], signature), mismatch);
                assert_eq!(key.verify(good, encoding, &[b"massage"], signature), mismatch);
                let short = key.verify(good, encoding, &[b"message"], &signature[1..]);
                assert_eq!(short, Err(SignatureError::Form));
                let ecdsa = key.verify(Scheme::Ecdsa(hash), encoding, &[b"message"], signature);
                assert_eq!(ecdsa, Err(SignatureError::Scheme));
            }
        }
    }
}

#[test]
fn pss_with_sha_1_or_another_salt_is_refused() {
    let pki = Pki::new("pss");
    let root = pki.issue(&Spec { key: RSA, ..spec("/CN=root", CA) }, None);
    let leaf = |options: &[&str]| {
        let signing = [&["-sigopt", "rsa_padding_mode:pss"], options].concat();
        let leaf = pki.issue(&Spec { signing: &signing, ..spec("/CN=device", LEAF) }, Some(&root));
        verdict(&root.der, &[&root.der[..], &leaf.der].concat())
    };
    let sha1 = ObjectIdentifier::new("1.3.14.3.2.26").unwrap();
    assert_eq!(leaf(&["-sha1"]), Err(ChainError::WeakAlgorithm { certificate: 1, oid: sha1 }));
    let malformed = Err(ChainError::Malformed { certificate: 1, part: Part::Algorithm });
    assert_eq!(leaf(&["-sha256", "-sigopt", "rsa_pss_saltlen:20"]), malformed);
    assert_eq!(leaf(&["-sha256", "-sigopt", "rsa_pss_saltlen:-1", "-sigopt", "rsa_mgf1_md:sha1"]), malformed);
    assert_eq!(leaf(&["-sha256", "-sigopt", "rsa_pss_saltlen:-1"]), Ok(0));
}
