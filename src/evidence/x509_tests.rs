//! Certificates that no tool makes: put together byte by byte. Nothing here looks at signatures; tests/openssl.rs does.

use super::*;
use crate::evidence::key::KeyError;
use der::asn1::ObjectIdentifier;

/// Writes one value in DER.
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    let len = u16::try_from(body.len()).unwrap().to_be_bytes();
    let header = match body.len() {
        0..0x80 => vec![tag, len[1]],
        0x80..0x100 => vec![tag, 0x81, len[1]],
        _ => vec![tag, 0x82, len[0], len[1]],
    };
    [header, body].concat()
}

fn seq(parts: &[&[u8]]) -> Vec<u8> {
    tlv(0x30, parts)
}

fn oid(text: &str) -> Vec<u8> {
    tlv(6, &[ObjectIdentifier::new(text).unwrap().as_bytes()])
}

fn extension(id: &str, is_critical: Option<u8>, value: &[u8]) -> Vec<u8> {
    let critical = is_critical.map_or(Vec::new(), |byte| tlv(1, &[&[byte]]));
    seq(&[&oid(id), &critical, &tlv(4, &[value])])
}

fn name(text: &[u8]) -> Vec<u8> {
    seq(&[&tlv(0x31, &[&seq(&[&oid("2.5.4.3"), &tlv(0x0C, &[text])])])])
}

/// The generator of P-256 (FIPS 186-5, SP 800-186): a point that everybody has.
fn generator() -> Vec<u8> {
    let x = 0x6b17d1f2_e12c4247_f8bce6e5_63a440f2_u128.to_be_bytes();
    let x_low = 0x77037d81_2deb33a0_f4a13945_d898c296_u128.to_be_bytes();
    let y = 0x4fe342e2_fe1a7f9b_8ee7eb4a_7c0f9e16_u128.to_be_bytes();
    let y_low = 0x2bce3357_6b315ece_cbb64068_37bf51f5_u128.to_be_bytes();
    [&[4][..], &x, &x_low, &y, &y_low].concat()
}

fn spki(point: &[u8]) -> Vec<u8> {
    let algorithm = seq(&[&oid("1.2.840.10045.2.1"), &oid("1.2.840.10045.3.1.7")]);
    seq(&[&algorithm, &tlv(3, &[&[0], point])])
}

/// The fields of a certificate, in DER; a test changes one.
#[derive(Clone)]
struct Draft {
    version: Vec<u8>,
    serial: Vec<u8>,
    algorithm: Vec<u8>,
    outer: Option<Vec<u8>>,
    issuer: Vec<u8>,
    validity: Vec<u8>,
    subject: Vec<u8>,
    key: Vec<u8>,
    extensions: Vec<Vec<u8>>,
    signature: Vec<u8>,
    more: Vec<u8>,
}

impl Draft {
    fn good() -> Self {
        Self {
            version: tlv(0xA0, &[&tlv(2, &[&[2]])]),
            serial: tlv(2, &[&[0x12, 0x34]]),
            algorithm: seq(&[&oid("1.2.840.10045.4.3.2")]),
            outer: None,
            issuer: name(b"maker"),
            validity: seq(&[&tlv(0x17, &[b"700101000001Z"]), &tlv(0x18, &[b"99991231235959Z"])]),
            subject: name(b"device"),
            key: spki(&generator()),
            extensions: Vec::new(),
            signature: tlv(3, &[&[0, 1, 2]]),
            more: Vec::new(),
        }
    }

    fn der(&self) -> Vec<u8> {
        let list = match &self.extensions[..] {
            [] => Vec::new(),
            list => tlv(0xA3, &[&seq(&[&list.concat()])]),
        };
        let tbs = seq(&[
            &self.version,
            &self.serial,
            &self.algorithm,
            &self.issuer,
            &self.validity,
            &self.subject,
            &self.key,
            &list,
        ]);
        seq(&[&tbs, self.outer.as_ref().unwrap_or(&self.algorithm), &self.signature, &self.more])
    }

    fn refused(&self) -> ChainError {
        Certificate::parse(&self.der(), 3).unwrap_err()
    }
}

/// The error of a good draft with one field changed.
fn with(change: impl Fn(&mut Draft)) -> ChainError {
    let mut draft = Draft::good();
    change(&mut draft);
    draft.refused()
}

fn malformed(part: Part) -> ChainError {
    ChainError::Malformed { certificate: 3, part }
}

#[test]
fn a_certificate_is_read() {
    let draft = Draft {
        extensions: vec![
            extension("2.5.29.19", Some(0xFF), &seq(&[&tlv(1, &[&[0xFF]]), &tlv(2, &[&[1, 0]])])),
            extension("2.5.29.15", Some(0), &tlv(3, &[&[2, 0b1000_0100]])),
        ],
        ..Draft::good()
    };
    let der = draft.der();
    let certificate = Certificate::parse(&der, 0).unwrap();
    assert_eq!(certificate.serial, Serial(vec![0x12, 0x34]));
    assert_eq!(certificate.subject, "CN=device");
    assert_eq!((certificate.not_before, certificate.not_after), (Time(1), Time(253_402_300_799)));
    assert!(certificate.is_ca && certificate.path_len == Some(255) && !certificate.is_self_issued());
    assert_eq!(certificate.key_usage, Some(KeyUsage { digital_signature: true, cert_sign: true }));
    assert_eq!(certificate.key.spki(), draft.key);
    assert!(!certificate.is_signed_by(&certificate.key));
}

#[test]
fn a_ca_bit_that_spells_false_is_false() {
    let spelled = extension("2.5.29.19", None, &seq(&[&tlv(1, &[&[0]])]));
    let der = Draft { extensions: vec![spelled], ..Draft::good() }.der();
    assert!(!Certificate::parse(&der, 0).unwrap().is_ca);
}

#[test]
fn another_version_is_refused() {
    let version = ChainError::Version { certificate: 3 };
    for number in [0, 1, 3] {
        assert_eq!(with(|draft| draft.version = tlv(0xA0, &[&tlv(2, &[&[number]])])), version);
    }
    assert_eq!(with(|draft| draft.version.clear()), version);
}

#[test]
fn serial_numbers_are_positive_canonical_and_of_20_bytes_at_most() {
    for bad in [&[0][..], &[0x80], &[0, 0x12], &[], &[0x12; 21]] {
        assert_eq!(with(|draft| draft.serial = tlv(2, &[bad])), malformed(Part::Serial), "{bad:x?}");
    }
    for (bytes, number) in [(&[0, 0xFF][..], &[0xFF][..]), (&[0x7F; 20], &[0x7F; 20])] {
        let der = Draft { serial: tlv(2, &[bytes]), ..Draft::good() }.der();
        assert_eq!(Certificate::parse(&der, 0).unwrap().serial, Serial(number.into()));
    }
}

#[test]
fn the_two_signature_algorithms_are_the_same_and_ecdsa_has_no_parameters() {
    let null = tlv(5, &[]);
    let with_null = seq(&[&oid("1.2.840.10045.4.3.2"), &null]);
    assert_eq!(
        with(|draft| draft.outer = Some(with_null.clone())),
        ChainError::AlgorithmMismatch { certificate: 3 }
    );
    assert_eq!(with(|draft| draft.algorithm = with_null.clone()), malformed(Part::Algorithm));
    let other = seq(&[&oid("1.2.840.10045.4.3.3")]);
    assert_eq!(
        with(|draft| draft.outer = Some(other.clone())),
        ChainError::AlgorithmMismatch { certificate: 3 }
    );
}

#[test]
fn times_that_are_none_are_refused() {
    for bad in
        [&b"691231235959Z"[..], b"260230000000Z", b"2601010000Z", b"260101000000+0100", b"260101250000Z"]
    {
        let validity = seq(&[&tlv(0x17, &[bad]), &tlv(0x17, &[b"300101000000Z"])]);
        assert_eq!(with(|draft| draft.validity = validity.clone()), malformed(Part::Validity), "{bad:x?}");
    }
}

#[test]
fn an_issuer_has_a_name_and_a_subject_may_have_none() {
    assert_eq!(with(|draft| draft.issuer = seq(&[])), malformed(Part::Issuer));
    let der = Draft { subject: seq(&[]), ..Draft::good() }.der();
    assert_eq!(Certificate::parse(&der, 0).unwrap().subject, "");
    assert_eq!(with(|draft| draft.subject = tlv(0x31, &[])), malformed(Part::Subject));
}

#[test]
fn a_key_that_is_none_is_refused_by_what_it_is() {
    let key = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut point = generator();
        change(&mut point);
        with(|draft| draft.key = spki(&point))
    };
    let error = |error| ChainError::Key { certificate: 3, error };
    assert_eq!(key(&|point| point[64] ^= 1), error(KeyError::NotOnCurve));
    assert_eq!(key(&|point| point[1..33].fill(0xFF)), error(KeyError::NotOnCurve));
    assert_eq!(key(&|point| point.push(0)), error(KeyError::Malformed));
    assert_eq!(key(&|point| point.truncate(64)), error(KeyError::Malformed));
    assert_eq!(key(&|point| point.clear()), error(KeyError::Malformed));
    assert_eq!(key(&|point| *point = vec![0]), error(KeyError::PointForm(0)));
    let bare = seq(&[&seq(&[&oid("1.2.840.10045.2.1")]), &tlv(3, &[&[0], &generator()])]);
    assert_eq!(with(|draft| draft.key = bare.clone()), error(KeyError::Malformed));
    let bits =
        seq(&[&seq(&[&oid("1.2.840.10045.2.1"), &oid("1.2.840.10045.3.1.7")]), &tlv(3, &[&[1], &[4, 0]])]);
    assert_eq!(with(|draft| draft.key = bits.clone()), error(KeyError::Malformed));
}

#[test]
fn rsa_numbers_that_no_key_has_are_refused() {
    let rsa = |modulus: &[u8], exponent: &[u8]| {
        let numbers = seq(&[&tlv(2, &[&[0], modulus]), &tlv(2, &[exponent])]);
        let key = seq(&[&seq(&[&oid("1.2.840.113549.1.1.1"), &tlv(5, &[])]), &tlv(3, &[&[0], &numbers])]);
        with(|draft| draft.key = key.clone())
    };
    let error = ChainError::WeakKey { certificate: 3, error: KeyError::RsaNumbers };
    let odd = [0xFF; 384];
    let mut even = odd;
    even[383] = 0xFE;
    assert_eq!(rsa(&even, &[3]), error);
    for exponent in [&[1][..], &[4], &[0x10, 0, 0, 0, 1]] {
        assert_eq!(rsa(&odd, exponent), error, "{exponent:x?}");
    }
    let short = ChainError::WeakKey { certificate: 3, error: KeyError::RsaBits(3064) };
    assert_eq!(rsa(&odd[1..], &[1, 0, 1]), short);
}

#[test]
fn an_extension_may_appear_once() {
    for id in ["2.5.29.19", "1.2.3.4"] {
        let twice = vec![extension(id, None, &seq(&[])); 2];
        let duplicate =
            ChainError::DuplicateExtension { certificate: 3, oid: ObjectIdentifier::new(id).unwrap() };
        assert_eq!(with(|draft| draft.extensions = twice.clone()), duplicate);
    }
}

#[test]
fn extensions_that_are_malformed_are_refused_by_their_name() {
    let identity = seq(&[&oid("1.3.6.1.4.1.412.274.1"), &tlv(0xA0, &[&tlv(0x0C, &[b"a:b:c"])])]);
    let other_name = tlv(0xA0, &[&identity[2..]]);
    let not_utf8 = {
        let value = tlv(0xA0, &[&tlv(0x0C, &[&[0xFF]])]);
        tlv(0xA0, &[&oid("1.3.6.1.4.1.412.274.1"), &value])
    };
    let not_text = {
        let value = tlv(0xA0, &[&tlv(0x16, &[b"a:b:c"])]);
        tlv(0xA0, &[&oid("1.3.6.1.4.1.412.274.1"), &value])
    };
    for (id, part, value) in [
        ("2.5.29.19", Part::BasicConstraints, seq(&[&tlv(1, &[&[1]])])),
        ("2.5.29.19", Part::BasicConstraints, seq(&[&tlv(1, &[&[0xFF]]), &tlv(2, &[&[0xFF]])])),
        ("2.5.29.19", Part::BasicConstraints, seq(&[&tlv(1, &[&[0xFF]]), &tlv(2, &[&[0]]), &tlv(5, &[])])),
        ("2.5.29.19", Part::BasicConstraints, seq(&[&tlv(2, &[&[0]])])),
        ("2.5.29.19", Part::BasicConstraints, [seq(&[]), vec![0]].concat()),
        ("2.5.29.15", Part::KeyUsage, tlv(4, &[&[0, 0x80]])),
        ("2.5.29.37", Part::ExtendedKeyUsage, seq(&[])),
        ("2.5.29.17", Part::SubjectAltName, seq(&[])),
        ("2.5.29.17", Part::SubjectAltName, seq(&[&other_name, &other_name])),
        ("2.5.29.17", Part::SubjectAltName, seq(&[&not_utf8])),
        ("2.5.29.17", Part::SubjectAltName, seq(&[&not_text])),
        ("1.3.6.1.4.1.412.274.6", Part::SpdmExtension, seq(&[&oid("1.2.3")])),
    ] {
        let list = vec![extension(id, None, &value)];
        assert_eq!(with(|draft| draft.extensions = list.clone()), malformed(part), "{value:x?}");
    }
    let odd_bool = vec![extension("1.2.3.4", Some(1), &[])];
    assert_eq!(with(|draft| draft.extensions = odd_bool.clone()), malformed(Part::Extensions));
    let fine =
        Draft { extensions: vec![extension("2.5.29.17", None, &seq(&[&other_name]))], ..Draft::good() };
    let der = fine.der();
    assert_eq!(Certificate::parse(&der, 0).unwrap().device_identity.as_deref(), Some("a:b:c"));
}

#[test]
fn nothing_stands_behind_the_fields() {
    assert_eq!(with(|draft| draft.more = tlv(5, &[])), malformed(Part::Structure));
    assert_eq!(with(|draft| draft.key.extend(tlv(5, &[]))), malformed(Part::Structure));
    assert_eq!(with(|draft| draft.signature = tlv(3, &[&[3, 8]])), malformed(Part::Signature));
    let mut der = Draft::good().der();
    der.push(0);
    assert_eq!(Certificate::parse(&der, 3).unwrap_err(), malformed(Part::Structure));
}

#[test]
fn lengths_in_more_bytes_than_they_need_are_refused() {
    let good = Draft::good().der();
    assert_eq!(good[1], 0x81);
    let longer = [&[0x30, 0x82, 0][..], &good[2..]].concat();
    assert_eq!(Certificate::parse(&longer, 3).unwrap_err(), malformed(Part::Structure));
    let large = vec![0x30; MAX_CERTIFICATE_BYTES + 1];
    assert_eq!(
        Certificate::parse(&large, 3).unwrap_err(),
        ChainError::CertificateTooLong { certificate: 3, len: MAX_CERTIFICATE_BYTES + 1 }
    );
}
