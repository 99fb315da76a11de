//! Why a certificate chain is refused: one variant for each defect. A `certificate` is an index, 0 the root-most.

use super::key::KeyError;
use super::name::Dotted;
use crate::policy::types::Time;
use der::asn1::ObjectIdentifier;
use thiserror::Error;

/// A part of a certificate (RFC 5280, 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The outer SEQUENCE, or the order of the fields in it.
    Structure,
    /// serialNumber.
    Serial,
    /// signature, signatureAlgorithm.
    Algorithm,
    /// issuer.
    Issuer,
    /// validity.
    Validity,
    /// subject.
    Subject,
    /// The list of extensions.
    Extensions,
    /// basicConstraints.
    BasicConstraints,
    /// keyUsage.
    KeyUsage,
    /// extendedKeyUsage.
    ExtendedKeyUsage,
    /// subjectAltName.
    SubjectAltName,
    /// id-DMTF-spdm-extension (DSP0274, X.509 leaf certificate requirements).
    SpdmExtension,
    /// signatureValue.
    Signature,
}

/// Why a chain is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ChainError {
    /// No certificate in the object.
    #[error("no certificate")]
    Empty,
    /// More bytes than [`super::MAX_CHAIN_BYTES`].
    #[error("{0} bytes, too many for a chain")]
    TooLong(usize),
    /// More certificates than [`super::MAX_CERTIFICATES`].
    #[error("too many certificates")]
    TooMany,
    /// The slot header says another length than the object has.
    #[error("the slot header says {announced} bytes, there are {len}")]
    SlotLength {
        /// What stood there.
        announced: u16,
        /// Bytes there.
        len: usize,
    },
    /// A reserved field of the slot header is not zero.
    #[error("reserved field of the slot header: {0:#x}")]
    SlotReserved(u16),
    /// The slot header's root hash is not the digest of the root certificate that follows it.
    #[error("root hash of the slot header is not that of the first certificate")]
    RootHash,
    /// Bytes behind the last certificate.
    #[error("{0} bytes that are no certificate behind the last one")]
    Trailing(usize),
    /// No certificate of the chain is a trust anchor.
    #[error("no trust anchor of the policy in the chain")]
    NoAnchor,
    /// The policy denies the leaf's key.
    #[error("the policy denies the leaf's key")]
    DeniedLeaf,
    /// The policy denies the serial number.
    #[error("certificate {certificate}: the policy denies its serial number")]
    DeniedSerial {
        /// Which.
        certificate: usize,
    },
    /// Not DER, or not a certificate.
    #[error("certificate {certificate}: malformed {part:?}")]
    Malformed {
        /// Which.
        certificate: usize,
        /// Where in it.
        part: Part,
    },
    /// Larger than [`super::MAX_CERTIFICATE_BYTES`].
    #[error("certificate {certificate}: {len} bytes")]
    CertificateTooLong {
        /// Which.
        certificate: usize,
        /// Its bytes.
        len: usize,
    },
    /// Not X.509 version 3.
    #[error("certificate {certificate}: not of version 3")]
    Version {
        /// Which.
        certificate: usize,
    },
    /// The name has more bytes than [`super::MAX_NAME_BYTES`].
    #[error("certificate {certificate}: name of {len} bytes")]
    NameTooLong {
        /// Which.
        certificate: usize,
        /// Bytes of the name.
        len: usize,
    },
    /// More extensions than [`super::MAX_EXTENSIONS`].
    #[error("certificate {certificate}: too many extensions")]
    TooManyExtensions {
        /// Which.
        certificate: usize,
    },
    /// An extension appears twice.
    #[error("certificate {certificate}: extension {} twice", Dotted(oid.as_bytes()))]
    DuplicateExtension {
        /// Which.
        certificate: usize,
        /// The extension.
        oid: ObjectIdentifier,
    },
    /// A critical extension that we do not evaluate.
    #[error("certificate {certificate}: unknown critical extension {}", Dotted(oid.as_bytes()))]
    UnknownCritical {
        /// Which.
        certificate: usize,
        /// The extension.
        oid: ObjectIdentifier,
    },
    /// Signed with SHA-1, MD5 or SHA-224.
    #[error("certificate {certificate}: weak signature algorithm {}", Dotted(oid.as_bytes()))]
    WeakAlgorithm {
        /// Which.
        certificate: usize,
        /// The signature algorithm, or the hash of RSASSA-PSS.
        oid: ObjectIdentifier,
    },
    /// Signed with an algorithm that we do not have.
    #[error("certificate {certificate}: unknown signature algorithm {}", Dotted(oid.as_bytes()))]
    UnknownAlgorithm {
        /// Which.
        certificate: usize,
        /// The signature algorithm.
        oid: ObjectIdentifier,
    },
    /// The signed and the outer algorithm identifier differ.
    #[error("certificate {certificate}: two different signature algorithms")]
    AlgorithmMismatch {
        /// Which.
        certificate: usize,
    },
    /// RSA, and the firmware is built without cargo feature `rsa`.
    #[error("certificate {certificate}: RSA, and this firmware is built without it")]
    RsaDisabled {
        /// Which.
        certificate: usize,
    },
    /// A key that is too short, or on a curve that we do not take.
    #[error("certificate {certificate}: weak key: {error}")]
    WeakKey {
        /// Which.
        certificate: usize,
        /// Why.
        error: KeyError,
    },
    /// Not a key that we can use.
    #[error("certificate {certificate}: key: {error}")]
    Key {
        /// Which.
        certificate: usize,
        /// Why.
        error: KeyError,
    },
    /// The issuer is not the subject of the certificate above.
    #[error("certificate {certificate}: its issuer is not the certificate above")]
    NameMismatch {
        /// Which.
        certificate: usize,
    },
    /// The key above did not sign this.
    #[error("certificate {certificate}: bad signature")]
    BadSignature {
        /// Which.
        certificate: usize,
    },
    /// It issued a certificate without being a CA.
    #[error("certificate {certificate}: issues certificates, but is no CA")]
    NotCa {
        /// Which.
        certificate: usize,
    },
    /// The leaf of a chain is a CA.
    #[error("certificate {certificate}: the leaf is a CA")]
    LeafIsCa {
        /// Which.
        certificate: usize,
    },
    /// More CAs below it than it allows.
    #[error("certificate {certificate}: path length exceeded")]
    PathLength {
        /// Which.
        certificate: usize,
    },
    /// keyUsage does not allow what the key is used for.
    #[error("certificate {certificate}: key usage")]
    KeyUsage {
        /// Which.
        certificate: usize,
    },
    /// extendedKeyUsage of the leaf: an SPDM requester, and no responder.
    #[error("certificate {certificate}: extended key usage")]
    ExtendedKeyUsage {
        /// Which.
        certificate: usize,
    },
    /// Ended before the floor of the policy.
    #[error("certificate {certificate}: expired at {} s, before the floor of the policy", not_after.0)]
    Expired {
        /// Which.
        certificate: usize,
        /// End of its validity.
        not_after: Time,
    },
}
