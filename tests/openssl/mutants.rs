//! Genuine chains, truncated at every byte and with every byte changed.

use crate::pki::{self, CA, LEAF, Pki, spec};
use gatehouse::evidence::{Chain, Trust};
use gatehouse::policy::types::{Anchor, Denied};
use gatehouse::rsi::HashAlgorithm;

/// Returns the leaf's key if the chain ends at the anchor.
fn accepted(object: &[u8], anchors: &[Anchor]) -> Option<Vec<u8>> {
    let trust = Trust { anchors, denied: &Denied::default(), floor: None };
    let chain = Chain::parse(object, HashAlgorithm::Sha256).ok()?;
    chain.verify(&trust).ok()?;
    Some(chain.leaf().key.spki().to_vec())
}

#[test]
fn a_chain_with_any_byte_changed_or_cut_off_never_verifies() {
    let pki = Pki::new("mutants");
    let chain = pki.chain(&[spec("/CN=root", CA), spec("/CN=maker", CA), spec("/CN=device", LEAF)]);
    let object = pki::object(&chain);
    let anchors = [pki::anchor(&chain[0].der)];
    let slot = pki::slot(&object, &chain[0].der, HashAlgorithm::Sha256);
    for genuine in [&object, &slot] {
        let leaf = accepted(genuine, &anchors).unwrap();
        assert_eq!(leaf, Chain::parse(&object, HashAlgorithm::Sha256).unwrap().leaf().key.spki());
        for len in 0..genuine.len() {
            assert_eq!(accepted(&genuine[..len], &anchors), None, "cut at {len}");
        }
        // The header has no signature: changing it is seen by its own checks. No need to do the certificates twice.
        let end = if genuine.len() == slot.len() { slot.len() - object.len() } else { object.len() };
        let mut mutant = genuine.clone();
        for offset in 0..end {
            for pattern in [0x01, 0x80, 0xFF] {
                mutant[offset] ^= pattern;
                assert_eq!(accepted(&mutant, &anchors), None, "byte {offset} ^ {pattern:#x}");
                mutant[offset] ^= pattern;
            }
        }
        assert_eq!(accepted(&mutant, &anchors), Some(leaf));
        mutant.push(0);
        assert_eq!(accepted(&mutant, &anchors), None);
    }
}
