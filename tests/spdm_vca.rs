//! The negotiation: what is taken, and each refusal by its name.
#[path = "common/spdm.rs"]
mod spdm;

use gatehouse::evidence::{AsymAlgorithm, Choice, KeyKind, Scheme, SpdmVersion, Vca, VcaError, VcaMessage};
use gatehouse::rsi::HashAlgorithm;
use spdm::{VcaSpec, vca};

const MESSAGES: [VcaMessage; 6] = [
    VcaMessage::GetVersion,
    VcaMessage::Version,
    VcaMessage::GetCapabilities,
    VcaMessage::Capabilities,
    VcaMessage::NegotiateAlgorithms,
    VcaMessage::Algorithms,
];

fn parse(spec: &VcaSpec) -> Result<Vca, VcaError> {
    Vca::parse(&spec.bytes())
}

/// What becomes of the good negotiation after a change of its specification.
fn with(change: impl FnOnce(&mut VcaSpec)) -> Result<Vca, VcaError> {
    let mut spec = vca();
    change(&mut spec);
    parse(&spec)
}

/// What becomes of the good negotiation after byte `at` of message `message` is set.
fn set(message: usize, at: usize, value: u8) -> Result<Vca, VcaError> {
    let mut messages = vca().messages();
    messages[message][at] = value;
    Vca::parse(&messages.concat())
}

#[test]
fn versions_and_algorithms_are_read() {
    let want = Vca {
        version: SpdmVersion::V12,
        hash: HashAlgorithm::Sha384,
        asym: AsymAlgorithm::EcdsaP384,
        scheme: Scheme::Ecdsa(HashAlgorithm::Sha384),
        measurement_hash: Some(HashAlgorithm::Sha384),
        signs_measurements: true,
    };
    assert_eq!(parse(&vca()), Ok(want));
    let got = with(|s| (s.version, s.asym, s.hash, s.measurement_hash) = (0x13, 0x10, 1, 2)).unwrap();
    let want = Vca {
        version: SpdmVersion::V13,
        hash: HashAlgorithm::Sha256,
        asym: AsymAlgorithm::EcdsaP256,
        scheme: Scheme::Ecdsa(HashAlgorithm::Sha256),
        measurement_hash: Some(HashAlgorithm::Sha256),
        ..want
    };
    assert_eq!(got, want);
}

#[test]
fn each_algorithm_has_its_key_its_scheme_and_its_signature_length() {
    let h = HashAlgorithm::Sha512;
    for (bit, asym, kind, scheme, len) in [
        (2, AsymAlgorithm::RsaSsa(3072), KeyKind::Rsa { bits: 3072 }, Scheme::RsaPkcs1(h), 384),
        (3, AsymAlgorithm::RsaPss(3072), KeyKind::Rsa { bits: 3072 }, Scheme::RsaPss(h), 384),
        (4, AsymAlgorithm::EcdsaP256, KeyKind::P256, Scheme::Ecdsa(h), 64),
        (5, AsymAlgorithm::RsaSsa(4096), KeyKind::Rsa { bits: 4096 }, Scheme::RsaPkcs1(h), 512),
        (6, AsymAlgorithm::RsaPss(4096), KeyKind::Rsa { bits: 4096 }, Scheme::RsaPss(h), 512),
        (7, AsymAlgorithm::EcdsaP384, KeyKind::P384, Scheme::Ecdsa(h), 96),
    ] {
        let change =
            |s: &mut VcaSpec| (s.offered_asym, s.offered_hash, s.asym, s.hash) = (0xFFF, 7, 1 << bit, 4);
        let vca = with(change).unwrap();
        assert_eq!((vca.asym, vca.scheme), (asym, scheme));
        assert_eq!((asym.key_kind(), asym.signature_len()), (kind, len));
    }
}

#[test]
fn measurement_hashes_are_read() {
    for (wire, hash) in [
        (1, None),
        (2, Some(HashAlgorithm::Sha256)),
        (4, Some(HashAlgorithm::Sha384)),
        (8, Some(HashAlgorithm::Sha512)),
    ] {
        assert_eq!(with(|s| s.measurement_hash = wire).unwrap().measurement_hash, hash);
    }
}

#[test]
fn a_device_that_does_not_sign_is_told_apart() {
    assert!(!with(|s| s.flags = 1 << 1 | 1 << 3).unwrap().signs_measurements);
}

#[test]
fn extended_algorithms_of_the_request_and_in_structures_are_passed_over() {
    let change = |s: &mut VcaSpec| {
        s.offered_extended = (2, 1);
        s.tables = vec![(2, 3), (3, 0), (5, 15)];
    };
    assert_eq!(with(change), parse(&vca()));
    assert_eq!(with(|s| s.tables.clear()), parse(&vca()));
}

#[test]
fn other_versions_are_refused_by_name() {
    for version in [0x10, 0x11, 0x14, 0x20] {
        assert_eq!(
            with(|s| (s.version, s.listed) = (version, vec![version])),
            Err(VcaError::Version(version))
        );
    }
    // A real 1.1 negotiation has shorter messages; the version is what is named.
    let mut messages = vca().messages();
    messages[2] = vec![0x11, 0xE1, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0];
    assert_eq!(Vca::parse(&messages[..3].concat()), Err(VcaError::Version(0x11)));
}

#[test]
fn the_version_must_be_one_that_the_device_lists() {
    for listed in [vec![], vec![0x10, 0x11, 0x13]] {
        assert_eq!(with(|s| s.listed = listed), Err(VcaError::VersionNotListed(0x12)));
    }
}

#[test]
fn each_message_has_the_version_of_its_place() {
    for (i, message) in MESSAGES.into_iter().enumerate() {
        let wanted = if i < 2 { 0x10 } else { 0x12 };
        let want = VcaError::VersionDiffers { message, found: 0x13, wanted };
        if message == VcaMessage::GetCapabilities {
            // This one says the version; then it is the next that differs.
            let next = VcaMessage::Capabilities;
            let want = VcaError::VersionDiffers { message: next, found: 0x12, wanted: 0x13 };
            assert_eq!(set(i, 0, 0x13), Err(want));
        } else {
            assert_eq!(set(i, 0, 0x13), Err(want));
        }
    }
}

#[test]
fn each_message_stands_in_its_place() {
    for (i, message) in MESSAGES.into_iter().enumerate() {
        assert_eq!(set(i, 1, 0x7F), Err(VcaError::Code { message, found: 0x7F }));
    }
    let mut messages = vca().messages();
    messages.swap(2, 3);
    let want = VcaError::Code { message: VcaMessage::GetCapabilities, found: 0x61 };
    assert_eq!(Vca::parse(&messages.concat()), Err(want));
}

#[test]
fn every_truncation_names_the_message_that_is_cut() {
    let messages = vca().messages();
    let bytes = messages.concat();
    let mut start = 0;
    for (message, whole) in MESSAGES.into_iter().zip(&messages) {
        for len in start..start + whole.len() {
            assert_eq!(Vca::parse(&bytes[..len]), Err(VcaError::Short(message)), "{len}");
        }
        start += whole.len();
    }
}

#[test]
fn nothing_trails() {
    assert_eq!(Vca::parse(&[vca().bytes(), vec![0, 0]].concat()), Err(VcaError::Trailing(2)));
}

#[test]
fn lengths_agree_with_their_parts() {
    for (i, fixed) in [(4, 32), (5, 36)] {
        let message = MESSAGES[i];
        let len = u8::try_from(vca().messages()[i].len()).unwrap();
        assert_eq!(usize::from(len), fixed + 16);
        for said in [0, 4, len - 1] {
            assert_eq!(set(i, 4, said), Err(VcaError::Length { message, said: said.into() }));
        }
        // Fewer structures than bytes, more structures than bytes, a structure that leaves the message.
        let want = Err(VcaError::Length { message, said: len.into() });
        assert_eq!(set(i, 2, 3), want);
        assert_eq!(set(i, 2, 5), want);
        assert_eq!(set(i, fixed + 13, 0x30), want);
        assert_eq!(set(i, fixed + 13, 0x21), want);
        assert_eq!(set(i, 5, 0xFF), Err(VcaError::Short(message)));
    }
    let len = u16::try_from(vca().messages()[4].len()).unwrap();
    let want = Err(VcaError::Length { message: VcaMessage::NegotiateAlgorithms, said: len });
    // Extended algorithms that are counted but not there.
    assert_eq!(set(4, 28, 1), want);
    assert_eq!(set(4, 29, 1), want);
}

#[test]
fn extended_algorithms_are_no_selection() {
    assert_eq!(set(5, 32, 1), Err(VcaError::Extended { asym: 1, hash: 0 }));
    assert_eq!(set(5, 33, 2), Err(VcaError::Extended { asym: 0, hash: 2 }));
}

#[test]
fn a_supported_algorithms_block_is_refused() {
    assert_eq!(set(3, 2, 1), Err(VcaError::SupportedAlgorithms(1)));
    // The request may ask.
    assert_eq!(set(2, 2, 1), parse(&vca()));
}

#[test]
fn certificates_and_measurements_are_needed() {
    assert_eq!(with(|s| s.flags = 2 << 3), Err(VcaError::NoCertificates(0x10)));
    assert_eq!(with(|s| s.flags = 2), Err(VcaError::NoMeasurements(2)));
    assert_eq!(with(|s| s.flags = 2 | 3 << 3), Err(VcaError::NoMeasurements(0x1A)));
}

#[test]
fn exactly_one_known_algorithm_of_each_kind_is_selected() {
    for asym in [0, 1, 2, 0x90, 0x100, 0x200, 0x400, 0x800, 0x8000_0000] {
        let change = |s: &mut VcaSpec| (s.offered_asym, s.asym) = (u32::MAX, asym);
        assert_eq!(with(change), Err(VcaError::BaseAsym(asym)));
    }
    for hash in [0, 3, 8, 0x10, 0x20, 0x40] {
        let change = |s: &mut VcaSpec| (s.offered_hash, s.hash) = (u32::MAX, hash);
        assert_eq!(with(change), Err(VcaError::BaseHash(hash)));
    }
    for hash in [0, 3, 6, 0x10, 0x20, 0x40, 0x80] {
        assert_eq!(with(|s| s.measurement_hash = hash), Err(VcaError::MeasurementHash(hash)));
    }
    for specification in [0, 2, 3] {
        let change = |s: &mut VcaSpec| (s.offered_specification, s.specification) = (0xFF, specification);
        assert_eq!(with(change), Err(VcaError::MeasurementSpecification(specification)));
    }
}

#[test]
fn what_is_selected_was_offered() {
    assert_eq!(with(|s| s.offered_asym = !0x80), Err(VcaError::NotOffered(Choice::BaseAsym)));
    assert_eq!(with(|s| s.offered_hash = !2), Err(VcaError::NotOffered(Choice::BaseHash)));
    let want = Err(VcaError::NotOffered(Choice::MeasurementSpecification));
    assert_eq!(with(|s| s.offered_specification = !1), want);
}
