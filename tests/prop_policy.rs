//! Properties of the encoded policy: one policy, one encoding; any other bytes are refused.
#[path = "common/policies.rs"]
mod policies;

use gatehouse::policy::cbor::{Flaw, PolicyError, decode, encode};
use gatehouse::policy::types::{MAX_POLICY_BYTES, Match, Mode, Policy, Rule, Time};
use minicbor::Decoder;
use minicbor::data::Type;
use policies::policies;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

/// Reads one item with a reader that is not ours; returns how many keys its maps have.
fn walk(decoder: &mut Decoder<'_>) -> u64 {
    match decoder.datatype().unwrap() {
        Type::Map => {
            let len = decoder.map().unwrap().unwrap();
            let mut last = None;
            let inner = (0..len).map(|_| {
                let key = Some(decoder.u8().unwrap());
                assert!(key > last, "keys ascend");
                last = key;
                walk(decoder)
            });
            len + inner.sum::<u64>()
        }
        Type::Array => {
            let len = decoder.array().unwrap().unwrap();
            (0..len).map(|_| walk(decoder)).sum()
        }
        Type::Bytes | Type::String | Type::U8 | Type::U16 | Type::U32 | Type::U64 => {
            decoder.skip().unwrap();
            0
        }
        Type::I8 | Type::I16 | Type::I32 | Type::I64 => {
            decoder.i64().unwrap();
            0
        }
        other => panic!("{other}"),
    }
}

proptest! {
    #[test]
    fn what_is_encoded_decodes_to_the_same(policy in policies()) {
        let bytes = encode(&policy);
        prop_assert_eq!(decode(&bytes), Ok(policy));
    }

    #[test]
    fn another_reader_finds_well_formed_cbor(policy in policies()) {
        let bytes = encode(&policy);
        let mut decoder = Decoder::new(&bytes);
        prop_assert!(walk(&mut decoder) >= 1);
        prop_assert_eq!(decoder.position(), bytes.len());
    }

    #[test]
    fn bytes_are_a_policy_only_in_its_own_encoding(bytes in vec(any::<u8>(), 0..200)) {
        if let Ok(policy) = decode(&bytes) {
            prop_assert_eq!(encode(&policy), bytes);
        }
    }

    #[test]
    fn a_changed_byte_is_refused_or_another_policy(policy in policies(), at: Index, change in 1..=u8::MAX) {
        let mut bytes = encode(&policy);
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        if let Ok(other) = decode(&bytes) {
            prop_assert_eq!(encode(&other), bytes);
            prop_assert_ne!(other, policy);
        }
    }

    #[test]
    fn cut_or_longer_bytes_are_refused(policy in policies(), at: Index, more: u8) {
        let mut bytes = encode(&policy);
        let cut = at.index(bytes.len());
        prop_assert_eq!(decode(&bytes[..cut]), form(cut, Flaw::Truncated));
        let end = bytes.len();
        bytes.push(more);
        prop_assert_eq!(decode(&bytes), form(end, Flaw::Trailing));
    }
}

fn form(offset: usize, flaw: Flaw) -> Result<Policy, PolicyError> {
    Err(PolicyError::Form { offset, flaw })
}

/// Bytes of hexadecimal digits; spaces do not count.
fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|i| u8::from_str_radix(&digits[i..i + 2], 16).unwrap()).collect()
}

/// The least that a policy with a rule says, written by hand: a bridge rule `b` in mode `shared`.
const BRIDGE: &str = "a2 00 01 07 81 a3 00 61 62 01 01 12 41 02";

#[test]
fn a_policy_by_hand_is_what_the_table_says() {
    let rule = Rule::new("b".into(), Match::Bridge(Default::default()), vec![Mode::Shared]);
    let policy = Policy { forwards_nonce: true, rules: vec![rule], ..Policy::default() };
    assert_eq!(encode(&policy), hex(BRIDGE));
    assert_eq!(decode(&hex(BRIDGE)), Ok(policy));
}

#[test]
fn only_the_deterministic_form_is_taken() {
    let refused = |text: &str, offset, flaw| assert_eq!(decode(&hex(text)), form(offset, flaw), "{text}");
    let empty = Policy { forwards_nonce: true, ..Policy::default() };
    assert_eq!(decode(&hex("a1 00 01")), Ok(empty.clone()));
    assert_eq!(decode(&hex("a2 00 01 03 20")), Ok(Policy { floor: Some(Time(-1)), ..empty }));
    refused("", 0, Flaw::Truncated);
    refused("a0", 0, Flaw::Missing);
    refused("a1 01 05", 0, Flaw::Missing);
    refused("80", 0, Flaw::Type);
    refused("bf 00 01 ff", 0, Flaw::Type);
    refused("a1 00 02", 2, Flaw::Version);
    refused("a1 00 01 00", 3, Flaw::Trailing);
    refused("a1 00 18 01", 2, Flaw::NotShortest);
    refused("b8 01 00 01", 0, Flaw::NotShortest);
    refused("a2 00 01 01 19 00 ff", 4, Flaw::NotShortest);
    refused("a2 00 01 01 1a 00 00 ff ff", 4, Flaw::NotShortest);
    refused("a2 00 01 01 1b 00 00 00 00 ff ff ff ff", 4, Flaw::NotShortest);
    refused("a2 00 01 01 00", 4, Flaw::Value);
    refused("a2 00 01 02 00", 4, Flaw::Value);
    refused("a2 00 01 02 08", 4, Flaw::Value);
    refused("a2 00 01 00 01", 3, Flaw::Key);
    refused("a2 01 05 00 01", 3, Flaw::Key);
    refused("a2 00 01 08 01", 3, Flaw::Key);
    refused("a2 00 01 20 01", 3, Flaw::Key);
    refused("a2 00 01 07 80", 4, Flaw::Value);
    refused("a2 00 01 07 98 41", 4, Flaw::Value);
    refused("a2 00 01 03 40", 4, Flaw::Type);
    refused("a2 00 01 03 3b ff ff ff ff ff ff ff ff", 4, Flaw::Value);
}

#[test]
fn a_rule_has_the_keys_of_its_kind() {
    let refused = |rule: &str, offset, flaw| {
        assert_eq!(decode(&hex(&format!("a2 00 01 07 81 {rule}"))), form(offset, flaw), "{rule}");
    };
    // No name; no modes; a default that is not left out; a mode that is none.
    refused("a2 01 01 12 41 02", 5, Flaw::Missing);
    refused("a2 00 61 62 01 01", 5, Flaw::Missing);
    refused("a3 00 61 62 01 00 12 41 02", 10, Flaw::Value);
    refused("a4 00 61 62 01 01 0e 01 12 41 02", 12, Flaw::Value);
    refused("a3 00 61 62 01 01 12 41 04", 12, Flaw::Value);
    refused("a3 00 61 ff 01 01 12 41 02", 7, Flaw::Utf8);
    // A bridge with a virtio type; virtio on MMIO with a vendor; a platform device without a name; a PCI type too large.
    refused("a4 00 61 62 01 01 08 02 12 41 02", 5, Flaw::Key);
    refused("a4 00 61 62 01 03 03 02 12 41 02", 5, Flaw::Key);
    refused("a3 00 61 62 01 04 12 41 02", 5, Flaw::Missing);
    refused("a4 00 61 62 01 02 08 1a 00 01 00 00 12 41 02", 5, Flaw::Value);
    // Bits of a report that have no meaning; a reference with two values; one without an index.
    refused("a3 00 61 62 11 18 40 12 41 00", 10, Flaw::Value);
    refused("a3 00 61 62 10 81 a3 00 01 03 81 41 00 04 01 12 41 00", 18, Flaw::Key);
    refused("a3 00 61 62 10 81 a1 04 01 12 41 00", 11, Flaw::Missing);
}

#[test]
fn a_contradiction_is_refused_in_this_form_too() {
    let twice = BRIDGE.replace("07 81 a3", "07 82 a3 00 61 62 01 01 12 41 02 a3");
    let Err(PolicyError::Contradiction(told)) = decode(&hex(&twice)) else { panic!("taken") };
    assert_eq!((told.rule, told.field), (Some(1), "name"));
}

#[test]
fn more_bytes_than_a_policy_may_have_are_refused_unread() {
    let bytes = vec![0; MAX_POLICY_BYTES + 1];
    assert_eq!(decode(&bytes), form(MAX_POLICY_BYTES, Flaw::TooLarge));
}
