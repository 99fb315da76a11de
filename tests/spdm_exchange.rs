//! The measurement exchange: what is taken, each refusal by its name, and the signature over it.
#[path = "common/spdm.rs"]
mod spdm;

use gatehouse::evidence::{
    AsymAlgorithm, Block, BlockError, ContentChanged, DeviceMode, Exchange, ExchangeError, ExchangeMessage,
    KeyKind, MAX_RECORD_BYTES, PublicKey, SignatureError, Vca,
};
use spdm::{BlockSpec, ExchangeSpec, VcaSpec, exchange, spki, vca};

const SIGNATURE: [u8; 96] = [0xCC; 96];
/// Bytes of the signed request of SPDM 1.2.
const REQUEST: usize = 37;

fn negotiated(version: u8) -> Vca {
    Vca::parse(&VcaSpec { version, ..vca() }.bytes()).unwrap()
}

fn refusal(bytes: &[u8]) -> ExchangeError {
    Exchange::parse(bytes, &negotiated(0x12)).unwrap_err()
}

/// What becomes of the good exchange after a change of its specification.
fn with(change: impl FnOnce(&mut ExchangeSpec)) -> Result<(), ExchangeError> {
    let mut spec = exchange();
    change(&mut spec);
    let signature: &[u8] = if spec.attributes & 1 != 0 { &SIGNATURE } else { &[] };
    Exchange::parse(&spec.bytes(signature), &negotiated(spec.version)).map(|_| ())
}

/// The refusal after byte `at` of the good exchange is set.
fn set(at: usize, value: u8) -> ExchangeError {
    let mut bytes = exchange().bytes(&SIGNATURE);
    bytes[at] = value;
    refusal(&bytes)
}

fn block(index: u8, kind: u8, value: &[u8]) -> BlockSpec {
    BlockSpec { index, kind, value: value.to_vec() }
}

#[test]
fn all_fields_are_read() {
    for version in [0x12, 0x13] {
        let spec = ExchangeSpec { version, attributes: 3, ..exchange() };
        let bytes = spec.bytes(&SIGNATURE);
        let got = Exchange::parse(&bytes, &negotiated(version)).unwrap();
        assert!(got.signed && got.raw_requested && !got.new_requested);
        assert_eq!(got.requester_nonce, Some([0xA5; 32]));
        assert_eq!(got.responder_nonce, [0x5A; 32]);
        assert_eq!((got.slot, got.content_changed), (1, ContentChanged::Unchanged));
        assert_eq!(got.opaque, b"opaque");
        assert_eq!(got.context, (version == 0x13).then_some(*b"context!"));
        assert_eq!(got.signature, Some(SIGNATURE.as_slice()));
        let svn = 7u64.to_le_bytes();
        let want = [
            Block { index: 1, kind: 1, is_raw: false, value: &[0x11; 48] },
            Block { index: 2, kind: 7, is_raw: true, value: &svn },
            Block { index: 0xFE, kind: 5, is_raw: true, value: &spec.blocks[2].value },
        ];
        assert_eq!(got.blocks, want);
        let mode = DeviceMode::find(&got.blocks).unwrap().unwrap();
        assert!(mode.is_normal() && !mode.is_debug());
    }
}

#[test]
fn an_exchange_without_signature_has_neither_nonce_nor_slot() {
    for (version, len) in [(0x12, 4), (0x13, 12)] {
        let spec = ExchangeSpec { version, attributes: 0, ..exchange() };
        assert_eq!(spec.request().len(), len);
        let vca_bytes = VcaSpec { version, ..vca() }.bytes();
        let vca_parsed = Vca::parse(&vca_bytes).unwrap();
        let bytes = spec.bytes(&[]);
        let got = Exchange::parse(&bytes, &vca_parsed).unwrap();
        assert!(!got.signed && got.requester_nonce.is_none() && got.signature.is_none());
        assert_eq!(got.slot, 0);
        let key = spki(&vca(), 7);
        let key = PublicKey::from_spki(&key).unwrap();
        assert_eq!(got.verify(&vca_bytes, &vca_parsed, &key), Err(ExchangeError::Unsigned));
    }
}

#[test]
fn every_truncation_is_refused() {
    for (version, attributes) in [(0x12, 1), (0x13, 1), (0x12, 0), (0x13, 0)] {
        let spec = ExchangeSpec { version, attributes, ..exchange() };
        let bytes = spec.bytes(if attributes == 1 { &SIGNATURE } else { &[] });
        for len in 0..bytes.len() {
            let message =
                if len < spec.request().len() { ExchangeMessage::Request } else { ExchangeMessage::Response };
            let got = Exchange::parse(&bytes[..len], &negotiated(version)).unwrap_err();
            assert_eq!(got, ExchangeError::Short(message), "{len}");
        }
    }
}

#[test]
fn nothing_trails() {
    assert_eq!(refusal(&exchange().bytes(&[0; 97])), ExchangeError::Trailing(1));
    let unsigned = ExchangeSpec { attributes: 0, ..exchange() };
    assert_eq!(refusal(&unsigned.bytes(&SIGNATURE)), ExchangeError::Trailing(96));
}

#[test]
fn both_messages_have_their_code_and_the_negotiated_version() {
    for (at, message) in [(0, ExchangeMessage::Request), (REQUEST, ExchangeMessage::Response)] {
        let want = ExchangeError::Version { message, found: 0x11, wanted: 0x12 };
        assert_eq!(set(at, 0x11), want);
        let want = ExchangeError::Version { message, found: 0x13, wanted: 0x12 };
        assert_eq!(set(at, 0x13), want);
        assert_eq!(set(at + 1, 0x7F), ExchangeError::Code { message, found: 0x7F });
    }
}

#[test]
fn request_attributes_are_those_of_the_version() {
    assert_eq!(set(2, 5), ExchangeError::Attributes(5));
    assert_eq!(with(|s| (s.version, s.attributes) = (0x13, 7)), Ok(()));
    assert_eq!(with(|s| (s.version, s.attributes) = (0x13, 9)), Err(ExchangeError::Attributes(9)));
}

#[test]
fn a_device_that_said_it_does_not_sign_has_no_signature() {
    let vca = Vca::parse(&VcaSpec { flags: 1 << 1 | 1 << 3, ..vca() }.bytes()).unwrap();
    let bytes = exchange().bytes(&SIGNATURE);
    assert_eq!(Exchange::parse(&bytes, &vca), Err(ExchangeError::CannotSign));
}

#[test]
fn only_all_measurements_are_complete() {
    for operation in [0, 1, 0xFE] {
        assert_eq!(set(3, operation), ExchangeError::Operation(operation));
    }
}

#[test]
fn the_response_is_about_the_slot_of_the_request() {
    for slot in [8, 0xF, 0x11] {
        assert_eq!(set(36, slot), ExchangeError::Slot(slot));
    }
    assert_eq!(set(36, 2), ExchangeError::SlotDiffers { found: 1, wanted: 2 });
    assert_eq!(with(|s| s.slot = 7), Ok(()));
}

#[test]
fn params_of_the_response_have_no_other_bits() {
    assert_eq!(set(REQUEST + 2, 1), ExchangeError::Param1(1));
    for param2 in [0x31, 0x41, 0x81, 0xA1] {
        assert_eq!(set(REQUEST + 3, param2), ExchangeError::Param2(param2));
    }
    let all = [ContentChanged::NotDetected, ContentChanged::Changed, ContentChanged::Unchanged];
    for (changed, want) in (0..).zip(all) {
        let bytes = ExchangeSpec { changed, ..exchange() }.bytes(&SIGNATURE);
        assert_eq!(Exchange::parse(&bytes, &negotiated(0x12)).unwrap().content_changed, want);
    }
}

#[test]
fn the_record_holds_as_many_blocks_as_announced_and_nothing_else() {
    assert_eq!(set(REQUEST + 4, 2), ExchangeError::RecordTrailing(23));
    assert_eq!(set(REQUEST + 4, 4), ExchangeError::Block(BlockError::Short(0)));
    assert_eq!(with(|s| s.blocks.clear()), Err(ExchangeError::NoBlocks));
    let len = exchange().blocks.iter().map(|b| b.value.len() + 7).sum::<usize>();
    let len = u8::try_from(len).unwrap();
    assert_eq!(set(REQUEST + 5, len - 1), ExchangeError::Block(BlockError::Short(23 - 1)));
    assert_eq!(set(REQUEST + 5, len + 1), ExchangeError::RecordTrailing(1));
    let mut bytes = exchange().bytes(&SIGNATURE);
    bytes[REQUEST + 5..REQUEST + 8].copy_from_slice(&(MAX_RECORD_BYTES + 1).to_le_bytes()[..3]);
    assert_eq!(refusal(&bytes), ExchangeError::RecordTooLong(MAX_RECORD_BYTES + 1));
    bytes[REQUEST + 5..REQUEST + 8].copy_from_slice(&MAX_RECORD_BYTES.to_le_bytes()[..3]);
    assert_eq!(refusal(&bytes), ExchangeError::Short(ExchangeMessage::Response));
}

#[test]
fn blocks_are_sound() {
    let at = REQUEST + 8;
    for index in [0, 0xFF] {
        assert_eq!(set(at, index), ExchangeError::Block(BlockError::Index(index)));
    }
    assert_eq!(set(at, 2), ExchangeError::Block(BlockError::Twice(2)));
    for specification in [0, 2, 3] {
        let want = BlockError::Specification { index: 1, specification };
        assert_eq!(set(at + 1, specification), ExchangeError::Block(want));
    }
    let want = BlockError::Size { index: 1, size: 52, value_size: 48 };
    assert_eq!(set(at + 2, 52), ExchangeError::Block(want));
    let want = BlockError::Size { index: 1, size: 51, value_size: 47 };
    assert_eq!(set(at + 5, 47), ExchangeError::Block(want));
    // 65535 bytes of value and a size that wrapped around.
    let mut bytes = exchange().bytes(&SIGNATURE);
    bytes[at + 2..at + 4].copy_from_slice(&[2, 0]);
    bytes[at + 5..at + 7].copy_from_slice(&[0xFF, 0xFF]);
    let want = BlockError::Size { index: 1, size: 2, value_size: 0xFFFF };
    assert_eq!(refusal(&bytes), ExchangeError::Block(want));
}

#[test]
fn a_digest_has_the_length_of_the_negotiated_measurement_hash() {
    for len in [0, 32, 47, 49, 64] {
        let want = ExchangeError::Block(BlockError::DigestLength { index: 9, len });
        assert_eq!(with(|s| s.blocks.push(block(9, 1, &vec![1; len]))), Err(want));
        assert_eq!(with(|s| s.blocks.push(block(9, 0x81, &vec![1; len]))), Ok(()));
    }
    let raw_only = Vca::parse(&VcaSpec { measurement_hash: 1, ..vca() }.bytes()).unwrap();
    let bytes = exchange().bytes(&SIGNATURE);
    let want = ExchangeError::Block(BlockError::DigestLength { index: 1, len: 48 });
    assert_eq!(Exchange::parse(&bytes, &raw_only), Err(want));
}

#[test]
fn all_indexes_at_once_are_taken() {
    let all =
        |s: &mut ExchangeSpec| s.blocks = (1..=0xFE).map(|index| block(index, 0x89, &[index])).collect();
    assert_eq!(with(all), Ok(()));
}

#[test]
fn opaque_data_is_bounded() {
    assert_eq!(with(|s| s.opaque = vec![0; 1024]), Ok(()));
    assert_eq!(with(|s| s.opaque = vec![0; 1025]), Err(ExchangeError::OpaqueTooLong(1025)));
    assert_eq!(with(|s| s.opaque.clear()), Ok(()));
}

#[test]
fn the_context_is_echoed() {
    let spec = ExchangeSpec { version: 0x13, ..exchange() };
    let mut bytes = spec.bytes(&SIGNATURE);
    bytes[44] ^= 1;
    assert_eq!(Exchange::parse(&bytes, &negotiated(0x13)), Err(ExchangeError::Context));
}

/// Parses both objects and verifies with key number `key`.
fn verify(vca_bytes: &[u8], bytes: &[u8], spki: &[u8]) -> Result<(), ExchangeError> {
    let vca = Vca::parse(vca_bytes).unwrap();
    let exchange = Exchange::parse(bytes, &vca)?;
    exchange.verify(vca_bytes, &vca, &PublicKey::from_spki(spki).unwrap())
}

/// Each curve with each hash, in both versions.
fn all() -> impl Iterator<Item = (VcaSpec, ExchangeSpec)> {
    let of = |version: u8, asym: u32, hash: u32| {
        (VcaSpec { version, asym, hash, offered_hash: 7, ..vca() }, ExchangeSpec { version, ..exchange() })
    };
    let hashes = move |(version, asym)| [1, 2, 4].map(move |hash| of(version, asym, hash));
    [(0x12, 0x10), (0x12, 0x80), (0x13, 0x10), (0x13, 0x80)].into_iter().flat_map(hashes)
}

#[test]
fn what_the_leaf_key_signed_verifies() {
    for (vca, exchange) in all() {
        let bytes = exchange.signed(&vca, 7);
        assert_eq!(verify(&vca.bytes(), &bytes, &spki(&vca, 7)), Ok(()), "{vca:?}");
        // Another key.
        let mismatch = Err(ExchangeError::Signature(SignatureError::Mismatch));
        assert_eq!(verify(&vca.bytes(), &bytes, &spki(&vca, 8)), mismatch);
    }
}

#[test]
fn a_signature_over_another_transcript_does_not_count() {
    let mismatch = Err(ExchangeError::Signature(SignatureError::Mismatch));
    let (good_vca, good) = (vca(), exchange());
    let key = spki(&good_vca, 7);
    let bytes = good.signed(&good_vca, 7);
    let signature = &bytes[bytes.len() - 96..];
    for change in [
        |s: &mut ExchangeSpec| s.nonce[0] ^= 1,
        |s: &mut ExchangeSpec| s.attributes = 3,
        |s: &mut ExchangeSpec| s.slot = 2,
        |s: &mut ExchangeSpec| s.changed = 0,
        |s: &mut ExchangeSpec| s.blocks[1].value[0] += 1,
        |s: &mut ExchangeSpec| s.responder_nonce[31] ^= 1,
        |s: &mut ExchangeSpec| s.opaque.clear(),
    ] {
        let mut other = good.clone();
        change(&mut other);
        assert_eq!(verify(&good_vca.bytes(), &other.bytes(signature), &key), mismatch, "{other:?}");
    }
    // The negotiation is covered too: what was listed and offered, not only what was chosen.
    for change in [
        |s: &mut VcaSpec| s.listed.retain(|v| *v != 0x13),
        |s: &mut VcaSpec| s.offered_asym = 0x80,
        |s: &mut VcaSpec| s.flags ^= 1 << 6,
        |s: &mut VcaSpec| s.tables.clear(),
        |s: &mut VcaSpec| s.hash = 1,
    ] {
        let mut other = good_vca.clone();
        change(&mut other);
        assert_eq!(verify(&other.bytes(), &bytes, &key), mismatch, "{other:?}");
    }
}

#[test]
fn the_prefix_of_the_other_version_does_not_count() {
    let vca = vca();
    // The same bytes, signed as if they were of SPDM 1.3.
    let other = |spec: &ExchangeSpec| {
        let mut message = spec.to_be_signed(&vca);
        (0..4).for_each(|i| message[16 * i + 13] = b'3');
        message
    };
    let mut scalar = [0; 48];
    scalar[47] = 7;
    let key = p384::ecdsa::SigningKey::from_slice(&scalar).unwrap();
    let sign = |message: &[u8]| -> Vec<u8> {
        use p384::ecdsa::signature::hazmat::PrehashSigner;
        let signature: p384::ecdsa::Signature = key.sign_prehash(&vca.hash(message)).unwrap();
        signature.to_bytes().to_vec()
    };
    let spec = exchange();
    let (vca_bytes, leaf) = (vca.bytes(), spki(&vca, 7));
    let mistake = Err(ExchangeError::Transcript);
    assert_eq!(verify(&vca_bytes, &spec.bytes(&sign(&other(&spec))), &leaf), mistake);
    assert_eq!(verify(&vca_bytes, &spec.bytes(&sign(&spec.to_be_signed(&vca))), &leaf), Ok(()));
}

#[test]
fn the_leaf_key_is_of_the_negotiated_kind() {
    let p256 = VcaSpec { asym: 0x10, ..vca() };
    let bytes = exchange().signed(&vca(), 7);
    let want = ExchangeError::Key { found: KeyKind::P256, wanted: AsymAlgorithm::EcdsaP384 };
    assert_eq!(verify(&vca().bytes(), &bytes, &spki(&p256, 7)), Err(want));
}
