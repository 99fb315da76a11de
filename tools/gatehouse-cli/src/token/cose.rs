//! COSE_Sign1 (RFC 9052, 4.2) with ES256 or ES384, and the keys that verify it.
//!
//! Trust: anybody's bytes; what is signed counts after [`Key::verify`] with a key that is trusted.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::map::{Map, is_done};
use base64ct::{Base64, Encoding as _};
use gatehouse::evidence::{Encoding, KeyKind, PublicKey, Scheme};
use gatehouse::rsi::HashAlgorithm;
use minicbor::Decoder;
use std::fmt;
use thiserror::Error;

/// Tag of COSE_Sign1.
const SIGN1: u64 = 18;
/// SubjectPublicKeyInfo up to the coordinates: curve P-256.
const SPKI_P256: [u8; 27] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86,
    0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00, 0x04,
];
/// The same: curve P-384.
const SPKI_P384: [u8; 24] = [
    0x30, 0x76, 0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81,
    0x04, 0x00, 0x22, 0x03, 0x62, 0x00, 0x04,
];

/// A signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// ECDSA on P-384 with SHA-384.
    Es384,
}

impl Algorithm {
    fn from_id(id: i64) -> Option<Self> {
        match id {
            -7 => Some(Self::Es256),
            -35 => Some(Self::Es384),
            _ => None,
        }
    }

    const fn hash(self) -> HashAlgorithm {
        match self {
            Self::Es256 => HashAlgorithm::Sha256,
            Self::Es384 => HashAlgorithm::Sha384,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
        })
    }
}

/// Why bytes are no COSE_Sign1 that can be verified.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum CoseError {
    /// Not the form of a tagged COSE_Sign1.
    #[error("not a tagged COSE_Sign1")]
    Malformed,
    /// A protected header that says something must be understood.
    #[error("a critical header")]
    Critical,
    /// Neither ES256 nor ES384.
    #[error("signature algorithm {0}; ES256 (-7) and ES384 (-35) are known")]
    Algorithm(i64),
}

/// A COSE_Sign1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<'a> {
    /// Algorithm of the protected header.
    pub algorithm: Algorithm,
    protected: &'a [u8],
    /// What is signed.
    pub payload: &'a [u8],
    signature: &'a [u8],
}

impl<'a> Signed<'a> {
    /// Reads a tagged COSE_Sign1 that is all of `bytes`.
    ///
    /// # Errors
    /// [`CoseError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, CoseError> {
        let bad = CoseError::Malformed;
        let mut decoder = Decoder::new(bytes);
        if decoder.tag().map_err(|_| bad)?.as_u64() != SIGN1 || decoder.array().map_err(|_| bad)? != Some(4) {
            return Err(bad);
        }
        let protected = decoder.bytes().map_err(|_| bad)?;
        Map::take(&mut decoder).ok_or(bad)?;
        let payload = decoder.bytes().map_err(|_| bad)?;
        let signature = decoder.bytes().map_err(|_| bad)?;
        let header = Map::read(protected).ok_or(bad)?;
        if !is_done(&decoder) {
            return Err(bad);
        }
        if header.has(2) {
            return Err(CoseError::Critical);
        }
        let id = header.number(1).ok_or(bad)?;
        let algorithm = Algorithm::from_id(id).ok_or(CoseError::Algorithm(id))?;
        Ok(Self { algorithm, protected, payload, signature })
    }
}

/// Why a key cannot be used, or does not verify.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KeyError {
    /// Not a PEM file with `PUBLIC KEY`.
    #[error("not a PEM file with a PUBLIC KEY")]
    Pem,
    /// Neither P-256 nor P-384, or not a point on it.
    #[error("not a key on P-256 or P-384")]
    Key,
    /// The signature is by an algorithm that is not of this key.
    #[error("the signature is {0}, the key is on another curve")]
    Algorithm(Algorithm),
    /// Made by another key, or over something else.
    #[error("the signature does not verify under this key")]
    Signature,
}

/// A public key on P-256 or P-384.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    spki: Vec<u8>,
    algorithm: Algorithm,
}

impl Key {
    /// Reads a SubjectPublicKeyInfo in DER.
    ///
    /// # Errors
    /// [`KeyError::Key`].
    pub fn from_spki(spki: Vec<u8>) -> Result<Self, KeyError> {
        let algorithm = match PublicKey::from_spki(&spki).map_err(|_| KeyError::Key)?.kind() {
            KeyKind::P256 => Algorithm::Es256,
            KeyKind::P384 => Algorithm::Es384,
            KeyKind::Rsa { .. } => return Err(KeyError::Key),
        };
        Ok(Self { spki, algorithm })
    }

    /// Reads a COSE_Key (RFC 9053, 7.1.1) with both coordinates.
    ///
    /// # Errors
    /// [`KeyError::Key`].
    pub fn from_cose(bytes: &[u8]) -> Result<Self, KeyError> {
        let map = Map::read(bytes).ok_or(KeyError::Key)?;
        let (prefix, len) = match (map.number(1), map.number(-1)) {
            (Some(2), Some(1)) => (SPKI_P256.as_slice(), 32),
            (Some(2), Some(2)) => (SPKI_P384.as_slice(), 48),
            _ => return Err(KeyError::Key),
        };
        let number = |key| map.bytes(key).filter(|bytes| bytes.len() == len).ok_or(KeyError::Key);
        Self::from_spki([prefix, number(-2)?, number(-3)?].concat())
    }

    /// Reads a PEM file, `-----BEGIN PUBLIC KEY-----`.
    ///
    /// # Errors
    /// [`KeyError::Pem`], [`KeyError::Key`].
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let (_, rest) = text.split_once("-----BEGIN PUBLIC KEY-----").ok_or(KeyError::Pem)?;
        let (body, _) = rest.split_once("-----END PUBLIC KEY-----").ok_or(KeyError::Pem)?;
        let body: String = body.split_whitespace().collect();
        Self::from_spki(Base64::decode_vec(&body).map_err(|_| KeyError::Pem)?)
    }

    /// Verifies a signature (RFC 9052, 4.4: Sig_structure without external data).
    ///
    /// # Errors
    /// [`KeyError::Algorithm`], [`KeyError::Signature`].
    pub fn verify(&self, signed: &Signed<'_>) -> Result<(), KeyError> {
        if signed.algorithm != self.algorithm {
            return Err(KeyError::Algorithm(signed.algorithm));
        }
        let key = PublicKey::from_spki(&self.spki).map_err(|_| KeyError::Key)?;
        let (protected, payload) = (head(signed.protected.len()), head(signed.payload.len()));
        let message: [&[u8]; 6] =
            [b"\x84\x6aSignature1", &protected, signed.protected, b"\x40", &payload, signed.payload];
        let scheme = Scheme::Ecdsa(signed.algorithm.hash());
        key.verify(scheme, Encoding::Fixed, &message, signed.signature).map_err(|_| KeyError::Signature)
    }
}

/// Returns the head of a byte string.
fn head(len: usize) -> Vec<u8> {
    let mut encoder = minicbor::Encoder::new(Vec::new());
    let len = u64::try_from(len).unwrap_or(u64::MAX);
    let _ = encoder.bytes_len(len);
    encoder.into_writer()
}
