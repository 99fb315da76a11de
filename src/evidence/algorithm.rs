//! Signature algorithms of certificates: which are allowed, which are known to be weak.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::asn1::{Fields, NotDer};
use super::chain_error::{ChainError, Part};
use super::key::Scheme;
use crate::rsi::HashAlgorithm;
use der::asn1::{AnyRef, ObjectIdentifier};

const fn oid(text: &str) -> ObjectIdentifier {
    ObjectIdentifier::new_unwrap(text)
}

/// What is allowed: ecdsa-with-SHA2 (RFC 5758, 3.2), sha2WithRSAEncryption (RFC 8017, A.2.4).
const ALLOWED: [(ObjectIdentifier, Scheme); 6] = [
    (oid("1.2.840.10045.4.3.2"), Scheme::Ecdsa(HashAlgorithm::Sha256)),
    (oid("1.2.840.10045.4.3.3"), Scheme::Ecdsa(HashAlgorithm::Sha384)),
    (oid("1.2.840.10045.4.3.4"), Scheme::Ecdsa(HashAlgorithm::Sha512)),
    (oid("1.2.840.113549.1.1.11"), Scheme::RsaPkcs1(HashAlgorithm::Sha256)),
    (oid("1.2.840.113549.1.1.12"), Scheme::RsaPkcs1(HashAlgorithm::Sha384)),
    (oid("1.2.840.113549.1.1.13"), Scheme::RsaPkcs1(HashAlgorithm::Sha512)),
];

/// What is refused as weak, and not just as unknown: SHA-1, SHA-224 and MD5 with ECDSA and RSA.
const WEAK: [ObjectIdentifier; 5] = [
    oid("1.2.840.10045.4.1"),
    oid("1.2.840.10045.4.3.1"),
    oid("1.2.840.113549.1.1.4"),
    oid("1.2.840.113549.1.1.5"),
    oid("1.2.840.113549.1.1.14"),
];

/// id-RSASSA-PSS (RFC 8017, A.2.3).
const PSS: ObjectIdentifier = oid("1.2.840.113549.1.1.10");

/// Reads an AlgorithmIdentifier of a signature.
pub(super) fn scheme(der: &[u8], certificate: usize) -> Result<Scheme, ChainError> {
    let bad = |NotDer| ChainError::Malformed { certificate, part: Part::Algorithm };
    let (algorithm, parameters) = identifier(der).map_err(bad)?;
    if algorithm == PSS.as_bytes() {
        return pss::scheme(parameters, certificate);
    }
    if let Some((_, scheme)) = ALLOWED.iter().find(|(oid, _)| oid.as_bytes() == algorithm) {
        // ECDSA: no parameters (RFC 5758, 3.2). RSA: NULL, or none (RFC 4055, 5).
        let is_rsa = !matches!(scheme, Scheme::Ecdsa(_));
        return match parameters {
            None => Ok(*scheme),
            Some(value) if is_rsa && value.is_null() => Ok(*scheme),
            Some(_) => Err(bad(NotDer)),
        };
    }
    let oid = ObjectIdentifier::from_bytes(algorithm).map_err(|_| bad(NotDer))?;
    if WEAK.contains(&oid) {
        return Err(ChainError::WeakAlgorithm { certificate, oid });
    }
    Err(ChainError::UnknownAlgorithm { certificate, oid })
}

/// Reads SEQUENCE { algorithm, parameters OPTIONAL }.
fn identifier(der: &[u8]) -> Result<(&[u8], Option<AnyRef<'_>>), NotDer> {
    let mut fields = Fields::sequence(der)?;
    let algorithm = fields.oid()?;
    let parameters = if fields.is_empty() { None } else { Some(fields.any()?) };
    fields.end()?;
    Ok((algorithm, parameters))
}

#[cfg(not(feature = "rsa"))]
mod pss {
    use super::{AnyRef, ChainError, Scheme};

    pub(super) fn scheme(_: Option<AnyRef<'_>>, certificate: usize) -> Result<Scheme, ChainError> {
        Err(ChainError::RsaDisabled { certificate })
    }
}

/// RSASSA-PSS-params (RFC 8017, A.2.3): one hash for message and mask, a salt as long as its digest.
#[cfg(feature = "rsa")]
mod pss {
    use super::{
        AnyRef, ChainError, Fields, HashAlgorithm, NotDer, ObjectIdentifier, Part, Scheme, identifier, oid,
    };
    use crate::evidence::asn1::context;
    use der::{Decode, Tag};

    /// SHA-256, -384, -512 (RFC 8017, B.1).
    const HASHES: [(ObjectIdentifier, HashAlgorithm); 3] = [
        (oid("2.16.840.1.101.3.4.2.1"), HashAlgorithm::Sha256),
        (oid("2.16.840.1.101.3.4.2.2"), HashAlgorithm::Sha384),
        (oid("2.16.840.1.101.3.4.2.3"), HashAlgorithm::Sha512),
    ];
    /// SHA-1, which is also what parameters that are left out mean.
    const SHA1: ObjectIdentifier = oid("1.3.14.3.2.26");
    /// id-mgf1 (RFC 8017, B.2.1).
    const MGF1: ObjectIdentifier = oid("1.2.840.113549.1.1.8");

    pub(super) fn scheme(value: Option<AnyRef<'_>>, certificate: usize) -> Result<Scheme, ChainError> {
        let bad = |NotDer| ChainError::Malformed { certificate, part: Part::Algorithm };
        let (hash, mask_hash, salt) = parameters(value.ok_or(bad(NotDer))?).map_err(bad)?;
        let oid = ObjectIdentifier::from_bytes(hash).map_err(|_| bad(NotDer))?;
        let known = HASHES.iter().find(|(known, _)| *known == oid);
        let (_, algorithm) = known.ok_or(ChainError::WeakAlgorithm { certificate, oid })?;
        if mask_hash != hash || algorithm.digest_len() != usize::from(salt) {
            return Err(bad(NotDer));
        }
        Ok(Scheme::RsaPss(*algorithm))
    }

    /// Reads the three parameters: hash, hash of the mask, bytes of salt. The fourth has one value only, its default.
    fn parameters(value: AnyRef<'_>) -> Result<(&[u8], &[u8], u16), NotDer> {
        let mut fields = Fields::open(value, Tag::Sequence)?;
        let hash = match fields.optional(context(0))? {
            Some(value) => hash_of(value.value())?,
            None => SHA1.as_bytes(),
        };
        let mask_hash = match fields.optional(context(1))? {
            Some(value) => {
                let mut mask = Fields::sequence(value.value())?;
                if mask.oid()? != MGF1.as_bytes() {
                    return Err(NotDer);
                }
                let hash = hash_of(mask.raw()?)?;
                mask.end()?;
                hash
            }
            None => SHA1.as_bytes(),
        };
        let salt = match fields.optional(context(2))? {
            Some(value) => u16::from_der(value.value())?,
            None => 20,
        };
        fields.end()?;
        Ok((hash, mask_hash, salt))
    }

    /// Reads the AlgorithmIdentifier of a hash: parameters NULL or none (RFC 4055, 2.1).
    fn hash_of(der: &[u8]) -> Result<&[u8], NotDer> {
        match identifier(der)? {
            (oid, None) => Ok(oid),
            (oid, Some(value)) if value.is_null() => Ok(oid),
            _ => Err(NotDer),
        }
    }
}
