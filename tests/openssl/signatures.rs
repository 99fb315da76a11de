//! Signatures over arbitrary bytes, in both encodings.

use crate::pki::{self, LEAF, P256, P384, Pki, Spec, spec};
use gatehouse::evidence::{Chain, Encoding, Scheme, SignatureError};
use gatehouse::rsi::HashAlgorithm;

#[test]
fn ecdsa_signatures_of_openssl_verify_in_both_encodings_and_with_every_hash() {
    let pki = Pki::new("signatures");
    for (curve, len) in [(P256, 32), (P384, 48)] {
        let signer = pki.issue(&Spec { key: curve, ..spec("/CN=signer", LEAF) }, None);
        let chain = Chain::parse(&signer.der, HashAlgorithm::Sha384).unwrap();
        let key = chain.leaf().key;
        for (option, hash) in [
            ("-sha256", HashAlgorithm::Sha256),
            ("-sha384", HashAlgorithm::Sha384),
            ("-sha512", HashAlgorithm::Sha512),
        ] {
            // Several each: numbers with leading zero bytes, or that need one, come by chance.
            for round in 0..4_u8 {
                let message = vec![round; 1000 + usize::from(round)];
                let der = pki.sign(&signer.key, &[option], &message);
                let fixed = pki::fixed(&der, len);
                let (head, tail) = message.split_at(usize::from(round));
                let scheme = Scheme::Ecdsa(hash);
                assert_eq!(key.verify(scheme, Encoding::Der, &[&message], &der), Ok(()));
                assert_eq!(key.verify(scheme, Encoding::Fixed, &[head, tail], &fixed), Ok(()));
                let other = [&message[1..]];
                assert_eq!(
                    key.verify(scheme, Encoding::Fixed, &other, &fixed),
                    Err(SignatureError::Mismatch)
                );
                // The encodings are not tried one after the other.
                let form = Err(SignatureError::Form);
                assert_eq!(key.verify(scheme, Encoding::Der, &[&message], &fixed), form);
                assert_eq!(key.verify(scheme, Encoding::Fixed, &[&message], &der), form);
                assert_eq!(
                    key.verify(scheme, Encoding::Fixed, &[&message], &[&fixed[..], &[0]].concat()),
                    form
                );
                assert_eq!(key.verify(scheme, Encoding::Der, &[&message], &[&der[..], &[0]].concat()), form);
                let wrong_scheme = key.verify(Scheme::RsaPss(hash), Encoding::Der, &[&message], &der);
                assert_eq!(wrong_scheme, Err(SignatureError::Scheme));
            }
        }
    }
}

#[test]
fn a_signature_of_zeros_is_refused() {
    let pki = Pki::new("zeros");
    let signer = pki.issue(&spec("/CN=signer", LEAF), None);
    let chain = Chain::parse(&signer.der, HashAlgorithm::Sha384).unwrap();
    let scheme = Scheme::Ecdsa(HashAlgorithm::Sha256);
    let refused = chain.leaf().key.verify(scheme, Encoding::Fixed, &[b"x"], &[0; 64]);
    assert_eq!(refused, Err(SignatureError::Form));
}
