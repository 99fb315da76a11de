//! Digests: H(object) must equal what the RMM recorded, over the whole length (spec-map: digest coverage).
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use crate::digest::Digest;
use crate::mutation::{Mutation, removed};
use crate::rhi::Object;
use crate::rsi::{Digests, HashAlgorithm, VdevInfo};
use alloc::boxed::Box;
use alloc::vec::Vec;
use thiserror::Error;

/// The private copies of the four objects.
#[derive(Clone, Debug)]
pub struct Objects {
    /// Negotiation data.
    pub vca: Vec<u8>,
    /// Certificate chain.
    pub certificate: Vec<u8>,
    /// Measurement exchange.
    pub measurements: Vec<u8>,
    /// Interface report.
    pub report: Vec<u8>,
}

/// Objects whose digests all matched one reading of the RMM's record.
#[derive(Debug)]
pub struct Evidence {
    objects: Objects,
    hash: HashAlgorithm,
    digests: Box<Digests>,
}

/// Why the objects are not what the RMM saw.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum DigestError {
    /// The RMM has no digest: the exchange never took place.
    #[error("the RMM has no digest of {0:?}")]
    NeverProduced(Object),
    /// The bytes hash to something else.
    #[error("{0:?} does not match the RMM's digest")]
    Mismatch(Object),
}

impl Evidence {
    /// Hashes each object and compares it with `info`. Where the RMM has digests of nothing but the report, nothing but the
    /// report may be there.
    ///
    /// # Errors
    /// [`DigestError`] with the first object that does not match.
    pub fn check(objects: Objects, info: &VdevInfo) -> Result<Self, DigestError> {
        let is_without_spdm = info.digests.is_without_spdm();
        for (object, bytes) in [
            (Object::Vca, &objects.vca),
            (Object::Certificate, &objects.certificate),
            (Object::Measurements, &objects.measurements),
            (Object::InterfaceReport, &objects.report),
        ] {
            if object != Object::InterfaceReport && is_without_spdm && bytes.is_empty() {
                continue;
            }
            vouched(info, object, bytes)?;
        }
        Ok(Self { objects, hash: info.hash, digests: info.digests.clone() })
    }

    /// Returns the objects.
    #[must_use]
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Returns the algorithm of the digests.
    #[must_use]
    pub fn hash(&self) -> HashAlgorithm {
        self.hash
    }

    /// Returns the digests that matched.
    #[must_use]
    pub fn digests(&self) -> &Digests {
        &self.digests
    }

    /// Keeps the digests only.
    #[must_use]
    pub fn into_digests(self) -> Box<Digests> {
        self.digests
    }
}

/// Hashes `bytes` and compares with the digest that `info` has of `object`.
///
/// # Errors
/// [`DigestError`].
pub fn vouched(info: &VdevInfo, object: Object, bytes: &[u8]) -> Result<(), DigestError> {
    let digest = match object {
        Object::Vca => &info.digests.vca,
        Object::Certificate => &info.digests.certificate,
        Object::Measurements => &info.digests.measurement,
        Object::InterfaceReport => &info.digests.report,
    };
    // The others are signed: what the host changes there is refused a second time.
    if object == Object::InterfaceReport && removed(Mutation::ReportDigest) {
        return Ok(());
    }
    if digest.iter().all(|byte| *byte == 0) {
        return Err(DigestError::NeverProduced(object));
    }
    if hash(info.hash, bytes) == *digest { Ok(()) } else { Err(DigestError::Mismatch(object)) }
}

/// Hashes `bytes` into a 64-byte zero-filled field, the form of VDEV info.
fn hash(algorithm: HashAlgorithm, bytes: &[u8]) -> [u8; 64] {
    let mut field = [0; 64];
    for (to, from) in field.iter_mut().zip(Digest::of(algorithm, &[bytes]).as_bytes()) {
        *to = *from;
    }
    field
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rsi::{Nonces, VdevState};

    type Field = fn(&mut Objects) -> &mut Vec<u8>;

    fn good() -> (Objects, VdevInfo) {
        let objects = Objects {
            vca: b"vca".into(),
            certificate: b"certificate".into(),
            measurements: b"measurements".into(),
            report: b"report".into(),
        };
        let digests = Box::new(Digests {
            vca: hash(HashAlgorithm::Sha384, &objects.vca),
            certificate: hash(HashAlgorithm::Sha384, &objects.certificate),
            public_key: [0; 64],
            measurement: hash(HashAlgorithm::Sha384, &objects.measurements),
            report: hash(HashAlgorithm::Sha384, &objects.report),
        });
        let nonces = Nonces { lock: 0, measurement: 1, report: 2 };
        (objects, VdevInfo { state: VdevState::Locked, hash: HashAlgorithm::Sha384, nonces, digests })
    }

    #[test]
    fn objects_that_hash_to_the_recorded_digests_are_evidence() {
        let (objects, info) = good();
        assert_eq!(Evidence::check(objects, &info).unwrap().objects().report, b"report");
    }

    #[test]
    fn a_flipped_bit_in_any_object_is_a_mismatch_of_that_object() {
        let cases: [(Object, Field); 4] = [
            (Object::Vca, |o| &mut o.vca),
            (Object::Certificate, |o| &mut o.certificate),
            (Object::Measurements, |o| &mut o.measurements),
            (Object::InterfaceReport, |o| &mut o.report),
        ];
        for (object, field) in cases {
            let (mut objects, info) = good();
            *field(&mut objects).last_mut().unwrap() ^= 0x80;
            assert_eq!(Evidence::check(objects, &info).unwrap_err(), DigestError::Mismatch(object));
        }
    }

    #[test]
    fn the_last_byte_of_the_digest_field_counts() {
        let (objects, mut info) = good();
        info.digests.report[63] = 1;
        let error = Evidence::check(objects, &info).unwrap_err();
        assert_eq!(error, DigestError::Mismatch(Object::InterfaceReport));
    }

    #[test]
    fn an_all_zero_digest_means_never_produced() {
        let (objects, mut info) = good();
        info.digests.measurement = [0; 64];
        let error = Evidence::check(objects, &info).unwrap_err();
        assert_eq!(error, DigestError::NeverProduced(Object::Measurements));
    }
}
