//! Properties of the SPDM decoders: no bytes make them panic, what is built is read back, no truncation and no changed byte
//! of a signed object passes.
#[path = "common/spdm.rs"]
mod spdm;

use gatehouse::evidence::{ContentChanged, DeviceMode, Exchange, PublicKey, Vca, check_references};
use gatehouse::policy::types::{Reference, ReferenceValue};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::{Index, select};
use spdm::{BlockSpec, ExchangeSpec, VcaSpec, spki, vca};

const MEASUREMENT_HASH_LEN: [(u32, Option<usize>); 4] =
    [(1, None), (2, Some(32)), (4, Some(48)), (8, Some(64))];

fn any_vca() -> impl Strategy<Value = VcaSpec> {
    let wire = (select(vec![0x12u8, 0x13]), 2u32..8, 0u32..3, 0u32..4, any::<(u32, u32, u8)>());
    let rest =
        (vec(any::<u8>(), 0..6), any::<u32>(), (0u8..4, 0u8..4), vec((2u8..6, 0u8..16), 0..5), any::<bool>());
    (wire, rest).prop_map(
        |((version, asym, hash, measured, offered), (mut listed, flags, extended, tables, signs))| {
            listed.push(version);
            VcaSpec {
                version,
                listed,
                flags: flags & !(3 << 3) | 1 << 1 | if signs { 2 << 3 } else { 1 << 3 },
                offered_asym: offered.0 | 1 << asym,
                offered_hash: offered.1 | 1 << hash,
                offered_specification: offered.2 | 1,
                offered_extended: extended,
                asym: 1 << asym,
                hash: 1 << hash,
                measurement_hash: 1 << measured,
                specification: 1,
                tables,
            }
        },
    )
}

/// An exchange for `vca`.
fn any_exchange(vca: VcaSpec) -> impl Strategy<Value = (VcaSpec, ExchangeSpec)> {
    let digest = MEASUREMENT_HASH_LEN.into_iter().find(|(wire, _)| *wire == vca.measurement_hash).unwrap().1;
    let attributes = if vca.version == 0x13 { 0u8..8 } else { 0u8..4 };
    let blocks = btree_map(1u8..=0xFE, (any::<u8>(), vec(any::<u8>(), 0..80)), 1..8);
    let words = (any::<[u8; 32]>(), any::<[u8; 8]>(), any::<[u8; 32]>(), vec(any::<u8>(), 0..40));
    (attributes, 0u8..8, 0u8..3, blocks, words).prop_map(move |(attributes, slot, changed, blocks, words)| {
        let blocks = blocks.into_iter().map(|(index, (kind, mut value))| {
            let kind = if digest.is_none() { kind | 0x80 } else { kind };
            if kind & 0x80 == 0 {
                value.resize(digest.unwrap(), 0xDD);
            }
            BlockSpec { index, kind, value }
        });
        let signs = vca.flags >> 3 & 3 == 2;
        let exchange = ExchangeSpec {
            version: vca.version,
            attributes: if signs { attributes } else { attributes & !1 },
            nonce: words.0,
            slot,
            context: words.1,
            changed,
            blocks: blocks.collect(),
            responder_nonce: words.2,
            opaque: words.3,
        };
        (vca.clone(), exchange)
    })
}

fn any_pair() -> impl Strategy<Value = (VcaSpec, ExchangeSpec)> {
    any_vca().prop_flat_map(any_exchange)
}

/// As long a signature as the algorithm makes it, or none.
fn dummy(vca: &VcaSpec, exchange: &ExchangeSpec) -> Vec<u8> {
    let len = match vca.asym {
        0x10 => 64,
        0x80 => 96,
        0x20 | 0x40 => 512,
        _ => 384,
    };
    if exchange.attributes & 1 != 0 { vec![0xCC; len] } else { Vec::new() }
}

/// Uses all that was parsed, so that a panic anywhere shows.
fn use_all(vca_bytes: &[u8], bytes: &[u8]) {
    let Ok(vca) = Vca::parse(vca_bytes) else { return };
    let Ok(exchange) = Exchange::parse(bytes, &vca) else { return };
    let _ = DeviceMode::find(&exchange.blocks);
    let values =
        [ReferenceValue::MinSvn(1), ReferenceValue::Values(vec![vec![1]]), ReferenceValue::Digests(vec![])];
    for value in values {
        for block in &exchange.blocks {
            let reference = Reference { index: block.index, kind: None, value: value.clone() };
            let _ = check_references(&[reference], &exchange.blocks, vca.measurement_hash);
        }
    }
}

/// A few bytes changed, a piece cut out, or a piece put in.
fn mutate(bytes: &mut Vec<u8>, edits: &[(Index, u8, u8)]) {
    for (at, value, how) in edits {
        let at = at.index(bytes.len().max(1));
        match how {
            0 if at < bytes.len() => drop(bytes.drain(at..(at + usize::from(*value)).min(bytes.len()))),
            1 => drop(bytes.splice(at..at, vec![*value; usize::from(*value % 9)])),
            _ => bytes.get_mut(at).into_iter().for_each(|byte| *byte = *value),
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(one in vec(any::<u8>(), 0..300), two in vec(any::<u8>(), 0..300)) {
        use_all(&one, &two);
        use_all(&vca().bytes(), &two);
        let _ = DeviceMode::parse(&one);
    }

    #[test]
    fn changed_objects_are_read_or_refused(
        (vca, exchange) in any_pair(),
        edits in vec((any::<Index>(), any::<u8>(), 0u8..8), 0..4),
        in_vca in any::<bool>(),
    ) {
        let mut one = vca.bytes();
        let mut two = exchange.bytes(&dummy(&vca, &exchange));
        mutate(if in_vca { &mut one } else { &mut two }, &edits);
        use_all(&one, &two);
    }

    #[test]
    fn what_is_built_is_read_back((vca, spec) in any_pair()) {
        let parsed = Vca::parse(&vca.bytes()).unwrap();
        prop_assert_eq!(parsed.version.wire(), vca.version);
        prop_assert_eq!(parsed.signs_measurements, vca.flags >> 3 & 3 == 2);
        let len = MEASUREMENT_HASH_LEN.into_iter().find(|(wire, _)| *wire == vca.measurement_hash).unwrap().1;
        prop_assert_eq!(parsed.measurement_hash.map(|hash| hash.digest_len()), len);
        let signature = dummy(&vca, &spec);
        let bytes = spec.bytes(&signature);
        let got = Exchange::parse(&bytes, &parsed).unwrap();
        // Print it again.
        let printed = ExchangeSpec {
            version: parsed.version.wire(),
            attributes: u8::from(got.signed) | u8::from(got.raw_requested) << 1 | u8::from(got.new_requested) << 2,
            nonce: got.requester_nonce.unwrap_or_default(),
            slot: got.slot,
            context: got.context.unwrap_or_default(),
            changed: match got.content_changed {
                ContentChanged::NotDetected => 0,
                ContentChanged::Changed => 1,
                ContentChanged::Unchanged => 2,
            },
            blocks: got
                .blocks
                .iter()
                .map(|b| BlockSpec {
                    index: b.index,
                    kind: b.kind | u8::from(b.is_raw) << 7,
                    value: b.value.to_vec(),
                })
                .collect(),
            responder_nonce: got.responder_nonce,
            opaque: got.opaque.to_vec(),
        };
        prop_assert_eq!(printed.bytes(got.signature.unwrap_or_default()), bytes);
    }

    #[test]
    fn no_truncation_and_no_trailing_byte_passes((vca, spec) in any_pair()) {
        let one = vca.bytes();
        for len in 0..one.len() {
            prop_assert!(Vca::parse(&one[..len]).is_err(), "{len} of {}", one.len());
        }
        prop_assert!(Vca::parse(&[&one[..], &[0]].concat()).is_err());
        let parsed = Vca::parse(&one).unwrap();
        let two = spec.bytes(&dummy(&vca, &spec));
        for len in 0..two.len() {
            prop_assert!(Exchange::parse(&two[..len], &parsed).is_err(), "{len} of {}", two.len());
        }
        prop_assert!(Exchange::parse(&[&two[..], &[0]].concat(), &parsed).is_err());
    }

    #[test]
    fn a_changed_byte_of_a_signed_object_never_passes(
        (mut vca, mut spec) in any_pair(),
        p256 in any::<bool>(),
        at in any::<Index>(),
        flip in 1u8..,
    ) {
        vca.asym = if p256 { 0x10 } else { 0x80 };
        vca.offered_asym |= 0x90;
        vca.flags = vca.flags & !(3 << 3) | 2 << 3;
        spec.attributes |= 1;
        let passes = |one: &[u8], two: &[u8]| {
            let Ok(parsed) = Vca::parse(one) else { return false };
            let Ok(exchange) = Exchange::parse(two, &parsed) else { return false };
            exchange.verify(one, &parsed, &PublicKey::from_spki(&spki(&vca, 7)).unwrap()).is_ok()
        };
        let (mut one, mut two) = (vca.bytes(), spec.signed(&vca, 7));
        prop_assert!(passes(&one, &two));
        let at = at.index(one.len() + two.len());
        if let Some(byte) = one.get_mut(at) {
            *byte ^= flip;
        } else {
            two[at - vca.bytes().len()] ^= flip;
        }
        prop_assert!(!passes(&one, &two), "byte {at} ^ {flip:#x}");
    }
}

#[test]
fn every_flipped_byte_of_a_signed_pair_is_refused() {
    let (vca, spec) = (VcaSpec { asym: 0x10, hash: 1, ..vca() }, spdm::exchange());
    let (one, two) = (vca.bytes(), spec.signed(&vca, 7));
    let spki = spki(&vca, 7);
    let key = PublicKey::from_spki(&spki).unwrap();
    for at in 0..one.len() + two.len() {
        let (mut one, mut two) = (one.clone(), two.clone());
        match one.get_mut(at) {
            Some(byte) => *byte ^= 0x01,
            None => two[at - vca.bytes().len()] ^= 0x01,
        }
        let Ok(parsed) = Vca::parse(&one) else { continue };
        let Ok(exchange) = Exchange::parse(&two, &parsed) else { continue };
        assert!(exchange.verify(&one, &parsed, &key).is_err(), "byte {at}");
    }
}
