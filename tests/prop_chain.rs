//! Properties of the chain reader: no bytes panic, nothing verifies that was changed, both forms say the same.

#[path = "openssl/pki.rs"]
#[allow(dead_code, reason = "a part of what tests/openssl.rs uses")]
mod pki;

use gatehouse::evidence::{Chain, MAX_CERTIFICATES, Trust};
use gatehouse::policy::types::{Denied, Time};
use gatehouse::rsi::HashAlgorithm;
use pki::{CA, LEAF, P384, Pki, Spec, spec};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use std::sync::LazyLock;

/// Genuine certificates of one chain.
static GENUINE: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let pki = Pki::new("prop");
    let leaf = format!(
        "{LEAF}extendedKeyUsage=serverAuth\nsubjectAltName=otherName:1.3.6.1.4.1.412.274.1;UTF8:a:b:c\n"
    );
    let key = P384;
    let chain = pki.chain(&[
        Spec { key, signing: &["-sha384"], ..spec("/C=DE/CN=root", CA) },
        spec("/CN=maker", CA),
        spec("/CN=device", &leaf),
    ]);
    chain.into_iter().map(|issued| issued.der).collect()
});

fn hash() -> impl Strategy<Value = HashAlgorithm> {
    prop_oneof![Just(HashAlgorithm::Sha256), Just(HashAlgorithm::Sha384), Just(HashAlgorithm::Sha512)]
}

/// Reads and verifies; returns whether an anchor was found.
fn run(object: &[u8], hash: HashAlgorithm) -> bool {
    let anchors = [pki::anchor(&GENUINE[0])];
    let trust = Trust { anchors: &anchors, denied: &Denied::default(), floor: Some(Time(0)) };
    let Ok(chain) = Chain::parse(object, hash) else { return false };
    assert!((1..=MAX_CERTIFICATES).contains(&chain.certificates().count()));
    for certificate in chain.certificates() {
        let offset = certificate.der.as_ptr().addr().checked_sub(object.as_ptr().addr()).unwrap();
        assert!(offset + certificate.der.len() <= object.len());
        let identity = certificate.device_identity.as_deref().unwrap_or_default();
        assert!(
            [&certificate.subject, identity]
                .iter()
                .all(|text| text.bytes().all(|b| (b' '..=b'~').contains(&b)))
        );
    }
    chain.verify(&trust).is_ok()
}

proptest! {
    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in vec(any::<u8>(), 0..2000), hash in hash()) {
        prop_assert!(!run(&bytes, hash));
        // Behind a header and a tag that fit, so that more than the first check is reached.
        let mut object = pki::slot(&bytes, &bytes, hash);
        prop_assert!(!run(&object, hash));
        object.splice(..4, []);
        prop_assert!(!run(&object, hash));
    }

    #[test]
    fn a_genuine_chain_with_bytes_changed_moved_or_left_out_never_verifies(
        edits in vec((any::<Index>(), 0..4_u8, any::<u8>(), 1..40_usize), 1..6),
        hash in hash(),
    ) {
        let genuine = GENUINE.concat();
        let mut object = genuine.clone();
        for (place, kind, byte, len) in edits {
            let at = place.index(object.len());
            let end = object.len().min(at + len);
            match kind {
                0 => object[at] = byte,
                1 => { object.drain(at..end); }
                2 => object.insert(at, byte),
                _ => object.copy_within(at..end, at / 2),
            }
            if object.is_empty() { break }
        }
        prop_assume!(object != genuine);
        prop_assert!(!run(&object, hash));
        prop_assert!(!run(&pki::slot(&object, &GENUINE[0], hash), hash));
    }

    #[test]
    fn certificates_in_any_order_say_the_same_in_both_forms(
        order in vec(0..3_usize, 1..13),
        hash in hash(),
        other in hash(),
    ) {
        let object: Vec<u8> = order.iter().flat_map(|index| GENUINE[*index].clone()).collect();
        let plain = Chain::parse(&object, hash);
        let slot = pki::slot(&object, &GENUINE[order[0]], hash);
        prop_assert_eq!(&plain, &Chain::parse(&slot, hash));
        prop_assert_eq!(&plain, &Chain::parse(&object, other));
        prop_assert_eq!(run(&object, hash), run(&slot, hash));
        // Verified exactly if the chain's end is the genuine one: whatever stands above the anchor does not count.
        prop_assert_eq!(run(&object, hash), plain.is_ok() && order.ends_with(&[0, 1, 2]));
    }
}
