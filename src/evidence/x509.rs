//! One X.509 certificate (RFC 5280): read, with every limit that does not depend on its place in a chain.
//!
//! Trust: the bytes are the host's until [`super::Chain::verify`] has found a trust anchor above them.
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
use super::extensions::{self, Extensions, KeyUsage};
use super::key::{Encoding, KeyError, PublicKey, Scheme};
use super::{algorithm, name, validity};
use crate::policy::types::{Serial, Time};
use alloc::string::String;
use der::Decode;
use der::asn1::AnyRef;

/// Most bytes of one certificate.
pub const MAX_CERTIFICATE_BYTES: usize = 8 * 1024;
/// Most bytes of a name in DER.
pub const MAX_NAME_BYTES: usize = 1024;
/// Most bytes of a serial number (RFC 5280, 4.1.2.2).
const MAX_SERIAL_BYTES: usize = 20;
/// X.509 version 3 (RFC 5280, 4.1.2.1).
const V3: &[u8] = &[2];

/// A certificate that is well formed and strong enough. Who signed it is [`super::Chain::verify`]'s.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate<'a> {
    /// The whole certificate.
    pub der: &'a [u8],
    /// Serial number.
    pub serial: Serial,
    /// Issuer, in DER.
    pub issuer: &'a [u8],
    /// Subject, in DER.
    pub subject_der: &'a [u8],
    /// Subject as text (RFC 4514); printable ASCII, every other byte as `\xx`.
    pub subject: String,
    /// Start of the validity. Reported only: there is no trusted clock.
    pub not_before: Time,
    /// End of the validity.
    pub not_after: Time,
    /// Public key.
    pub key: PublicKey<'a>,
    /// basicConstraints: cA.
    pub is_ca: bool,
    /// basicConstraints: pathLenConstraint. 255 stands for every longer one.
    pub path_len: Option<u8>,
    /// keyUsage, if it is there.
    pub key_usage: Option<KeyUsage>,
    /// extendedKeyUsage says SPDM requester and not SPDM responder.
    pub is_requester_only: bool,
    /// The DMTF OtherName of subjectAltName, "vendor:product:serial" (DSP0274, X.509 leaf certificate requirements).
    /// Printable ASCII, every other byte as `\xx`.
    pub device_identity: Option<String>,
    /// The SPDM extension has id-DMTF-hardware-identity.
    pub is_hardware_identity: bool,
    /// The SPDM extension has id-DMTF-mutable-certificate.
    pub is_mutable: bool,
    /// The signed bytes.
    tbs: &'a [u8],
    scheme: Scheme,
    signature: &'a [u8],
}

impl<'a> Certificate<'a> {
    /// Reads the certificate that is all of `der`; `certificate` is the index that errors name.
    ///
    /// # Errors
    /// Every [`ChainError`] that says what is wrong with one certificate by itself.
    pub fn parse(der: &'a [u8], certificate: usize) -> Result<Self, ChainError> {
        let bad = |part| move |NotDer| ChainError::Malformed { certificate, part };
        let structure = bad(Part::Structure);
        if der.len() > MAX_CERTIFICATE_BYTES {
            return Err(ChainError::CertificateTooLong { certificate, len: der.len() });
        }
        let mut outer = Fields::sequence(der).map_err(structure)?;
        let tbs = outer.raw().map_err(structure)?;
        let outer_algorithm = outer.raw().map_err(bad(Part::Algorithm))?;
        let signature = outer.any().and_then(asn1::octets).map_err(bad(Part::Signature))?;
        outer.end().map_err(structure)?;

        let mut fields = Fields::sequence(tbs).map_err(structure)?;
        if version(&mut fields).map_err(structure)? != Some(V3) {
            return Err(ChainError::Version { certificate });
        }
        let serial = serial(fields.any()).map_err(bad(Part::Serial))?;
        let inner_algorithm = fields.raw().map_err(bad(Part::Algorithm))?;
        if inner_algorithm != outer_algorithm {
            return Err(ChainError::AlgorithmMismatch { certificate });
        }
        let scheme = algorithm::scheme(inner_algorithm, certificate)?;
        let issuer = fields.raw().map_err(bad(Part::Issuer))?;
        let (not_before, not_after) = fields.any().and_then(validity::read).map_err(bad(Part::Validity))?;
        let subject_der = fields.raw().map_err(bad(Part::Subject))?;
        if let Some(len) = [issuer.len(), subject_der.len()].into_iter().find(|len| *len > MAX_NAME_BYTES) {
            return Err(ChainError::NameTooLong { certificate, len });
        }
        // An issuer has a name (RFC 5280, 4.1.2.4); that of a subject may be in subjectAltName.
        if name::text(issuer).map_err(bad(Part::Issuer))?.is_empty() {
            return Err(ChainError::Malformed { certificate, part: Part::Issuer });
        }
        let subject = name::text(subject_der).map_err(bad(Part::Subject))?;
        let key = PublicKey::from_spki(fields.raw().map_err(structure)?).map_err(|error| match error {
            KeyError::RsaDisabled(_) => ChainError::RsaDisabled { certificate },
            error if error.is_weak() => ChainError::WeakKey { certificate, error },
            error => ChainError::Key { certificate, error },
        })?;
        if !cfg!(feature = "rsa") && !matches!(scheme, Scheme::Ecdsa(_)) {
            return Err(ChainError::RsaDisabled { certificate });
        }
        let list = fields.optional(context(3)).map_err(bad(Part::Extensions))?;
        fields.end().map_err(structure)?;
        let found = match list {
            Some(list) => extensions::read(list, certificate)?,
            None => Extensions::default(),
        };
        Ok(Self {
            der,
            serial,
            issuer,
            subject_der,
            subject,
            not_before,
            not_after,
            key,
            is_ca: found.is_ca,
            path_len: found.path_len,
            key_usage: found.key_usage,
            is_requester_only: found.is_requester_only,
            device_identity: found.device_identity,
            is_hardware_identity: found.is_hardware_identity,
            is_mutable: found.is_mutable,
            tbs,
            scheme,
            signature,
        })
    }

    /// Returns whether issuer and subject are the same (RFC 5280, 3.2): if it signs itself is another question.
    #[must_use]
    pub fn is_self_issued(&self) -> bool {
        self.issuer == self.subject_der
    }

    /// Returns whether `key` signed this certificate.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey<'_>) -> bool {
        key.verify(self.scheme, Encoding::Der, &[self.tbs], self.signature).is_ok()
    }
}

/// Reads `[0] EXPLICIT Version`; version 1 is left out.
fn version<'a>(fields: &mut Fields<'a>) -> Result<Option<&'a [u8]>, NotDer> {
    let Some(value) = fields.optional(context(0))? else { return Ok(None) };
    Ok(Some(asn1::unsigned(AnyRef::from_der(value.value())?)?))
}

/// Reads a serial number: positive, 1 to 20 bytes.
fn serial(value: Result<AnyRef<'_>, NotDer>) -> Result<Serial, NotDer> {
    // Refuses negative numbers; leaves out the leading zero byte.
    let bytes = asn1::unsigned(value?)?;
    if bytes == [0] || bytes.len() > MAX_SERIAL_BYTES {
        return Err(NotDer);
    }
    Ok(Serial(bytes.into()))
}

#[cfg(test)]
#[path = "x509_tests.rs"]
mod tests;
