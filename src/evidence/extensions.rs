//! Extensions of certificates (RFC 5280, 4.2; DSP0274, X.509 leaf certificate requirements).
//!
//! Known: basicConstraints, keyUsage, extendedKeyUsage, subjectAltName, certificatePolicies and the SPDM extension.
//! certificatePolicies may be critical, because we demand no policy (RFC 5280, 6.1.1 (c) to (f): any policy, none
//! explicit) and so every set of policies passes. Everything else that is critical is refused, nameConstraints too.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::asn1::{self, Fields, NotDer, context};
use super::chain_error::{ChainError, Part};
use super::name;
use alloc::string::String;
use alloc::vec::Vec;
use der::asn1::{AnyRef, ObjectIdentifier};
use der::{Decode, Tag};

/// Most extensions of one certificate.
pub const MAX_EXTENSIONS: usize = 32;

/// What keyUsage allows, of what a chain needs (RFC 5280, 4.2.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUsage {
    /// digitalSignature.
    pub digital_signature: bool,
    /// keyCertSign.
    pub cert_sign: bool,
}

/// What the extensions say; the fields are those of [`super::Certificate`].
#[derive(Debug, Default)]
pub(super) struct Extensions {
    pub(super) is_ca: bool,
    pub(super) path_len: Option<u8>,
    pub(super) key_usage: Option<KeyUsage>,
    pub(super) is_requester_only: bool,
    pub(super) device_identity: Option<String>,
    pub(super) is_hardware_identity: bool,
    pub(super) is_mutable: bool,
}

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// id-DMTF-device-info: type of the OtherName in subjectAltName.
const DEVICE_INFO: ObjectIdentifier = oid("1.3.6.1.4.1.412.274.1");
/// id-DMTF-hardware-identity.
const HARDWARE_IDENTITY: ObjectIdentifier = oid("1.3.6.1.4.1.412.274.2");
/// id-DMTF-eku-responder-auth.
const RESPONDER: ObjectIdentifier = oid("1.3.6.1.4.1.412.274.3");
/// id-DMTF-eku-requester-auth.
const REQUESTER: ObjectIdentifier = oid("1.3.6.1.4.1.412.274.4");
/// id-DMTF-mutable-certificate.
const MUTABLE: ObjectIdentifier = oid("1.3.6.1.4.1.412.274.5");

/// Reads what one extension says.
type Read = fn(&[u8], &mut Extensions) -> Result<(), NotDer>;

/// The extensions that we evaluate.
const KNOWN: [(ObjectIdentifier, Part, Read); 6] = [
    (oid("2.5.29.19"), Part::BasicConstraints, basic_constraints),
    (oid("2.5.29.15"), Part::KeyUsage, key_usage),
    (oid("2.5.29.37"), Part::ExtendedKeyUsage, extended_key_usage),
    (oid("2.5.29.17"), Part::SubjectAltName, subject_alt_name),
    (oid("1.3.6.1.4.1.412.274.6"), Part::SpdmExtension, spdm_extension),
    (oid("2.5.29.32"), Part::Extensions, |_, _| Ok(())),
];

/// Reads the list of extensions, the contents of `[3]`.
pub(super) fn read(list: AnyRef<'_>, certificate: usize) -> Result<Extensions, ChainError> {
    let bad = |part| move |NotDer| ChainError::Malformed { certificate, part };
    let mut found = Extensions::default();
    let mut seen = Vec::new();
    let mut list = Fields::sequence(list.value()).map_err(bad(Part::Extensions))?;
    // At least one (RFC 5280, 4.1).
    loop {
        let (id, is_critical, value) = one(&mut list).map_err(bad(Part::Extensions))?;
        let is_again = seen.contains(&id);
        let known = KNOWN.iter().find(|(oid, ..)| oid.as_bytes() == id);
        if is_again || (is_critical && known.is_none()) {
            let oid = ObjectIdentifier::from_bytes(id).map_err(|_| bad(Part::Extensions)(NotDer))?;
            return if is_again {
                Err(ChainError::DuplicateExtension { certificate, oid })
            } else {
                Err(ChainError::UnknownCritical { certificate, oid })
            };
        }
        if seen.len() >= MAX_EXTENSIONS {
            return Err(ChainError::TooManyExtensions { certificate });
        }
        seen.push(id);
        if let Some((_, part, read)) = known {
            read(value, &mut found).map_err(bad(*part))?;
        }
        if list.is_empty() {
            return Ok(found);
        }
    }
}

/// Reads one extension: which, whether critical, and what.
fn one<'a>(list: &mut Fields<'a>) -> Result<(&'a [u8], bool, &'a [u8]), NotDer> {
    let mut fields = Fields::open(list.any()?, Tag::Sequence)?;
    let oid = fields.oid()?;
    let is_critical = fields.boolean()?;
    let value = fields.take(Tag::OctetString)?.value();
    fields.end()?;
    Ok((oid, is_critical, value))
}

/// RFC 5280, 4.2.1.9.
fn basic_constraints(value: &[u8], found: &mut Extensions) -> Result<(), NotDer> {
    let mut fields = Fields::sequence(value)?;
    found.is_ca = fields.boolean()?;
    if !fields.is_empty() {
        // A path length without the CA bit has no meaning.
        if !found.is_ca {
            return Err(NotDer);
        }
        found.path_len = match asn1::unsigned(fields.any()?)? {
            [len] => Some(*len),
            _ => Some(u8::MAX),
        };
    }
    fields.end()
}

/// RFC 5280, 4.2.1.3: bit 0 digitalSignature, bit 5 keyCertSign.
fn key_usage(value: &[u8], found: &mut Extensions) -> Result<(), NotDer> {
    let bits = asn1::bits(AnyRef::from_der(value)?)?;
    let first = bits.first().copied().unwrap_or_default();
    found.key_usage = Some(KeyUsage { digital_signature: first & 0x80 != 0, cert_sign: first & 0x04 != 0 });
    Ok(())
}

/// RFC 5280, 4.2.1.12. Other purposes than SPDM's say nothing about SPDM: a certificate may list them, or none.
fn extended_key_usage(value: &[u8], found: &mut Extensions) -> Result<(), NotDer> {
    let mut purposes = Fields::sequence(value)?;
    let (mut is_requester, mut is_responder) = (false, false);
    loop {
        let purpose = purposes.oid()?;
        is_requester |= purpose == REQUESTER.as_bytes();
        is_responder |= purpose == RESPONDER.as_bytes();
        if purposes.is_empty() {
            break;
        }
    }
    found.is_requester_only = is_requester && !is_responder;
    Ok(())
}

/// RFC 5280, 4.2.1.6: GeneralNames, of which we read the DMTF OtherName.
fn subject_alt_name(value: &[u8], found: &mut Extensions) -> Result<(), NotDer> {
    let mut names = Fields::sequence(value)?;
    loop {
        let is_other_name = names.optional(context(0))?;
        match is_other_name {
            Some(other) => other_name(Fields::of(other.value())?, found)?,
            None => {
                names.any()?;
            }
        }
        if names.is_empty() {
            return Ok(());
        }
    }
}

/// OtherName: type-id, `[0] EXPLICIT` value. More than one device identity is none that a policy could pin.
fn other_name(mut fields: Fields<'_>, found: &mut Extensions) -> Result<(), NotDer> {
    let kind = fields.oid()?;
    let value = fields.take(context(0))?;
    fields.end()?;
    if kind == DEVICE_INFO.as_bytes() {
        let text = Fields::of(value.value())?.take(Tag::Utf8String)?;
        if found.device_identity.is_some() || AnyRef::from_der(value.value())? != text {
            return Err(NotDer);
        }
        core::str::from_utf8(text.value()).map_err(|_| NotDer)?;
        found.device_identity = Some(name::printable(text.value()));
    }
    Ok(())
}

/// id-DMTF-spdm-extension: SEQUENCE OF SEQUENCE { OID, OCTET STRING OPTIONAL }.
fn spdm_extension(value: &[u8], found: &mut Extensions) -> Result<(), NotDer> {
    let mut list = Fields::sequence(value)?;
    while !list.is_empty() {
        let mut fields = Fields::open(list.any()?, Tag::Sequence)?;
        let kind = fields.oid()?;
        fields.optional(Tag::OctetString)?;
        fields.end()?;
        found.is_hardware_identity |= kind == HARDWARE_IDENTITY.as_bytes();
        found.is_mutable |= kind == MUTABLE.as_bytes();
    }
    Ok(())
}
