//! Signed JSON: a JWT (RFC 7519) in compact form, with ES256 or ES384 by the curve of the key, and private keys in PEM.
//!
//! Signatures are deterministic (RFC 6979): the same claims under the same key give the same bytes.
//!
//! Trust: the key file is the verifier's own, and may still be any file.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use base64ct::{Base64, Base64UrlUnpadded, Encoding as _};
use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Reader, SliceReader};
use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256, Sha384};
use std::fmt;
use thiserror::Error;

/// id-ecPublicKey (RFC 5480).
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
/// secp256r1.
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
/// secp384r1.
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");

/// Why a file holds no key to sign with.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum SigningKeyError {
    /// Not a PEM file with a private key.
    #[error("not a PEM file with a PRIVATE KEY or EC PRIVATE KEY")]
    Pem,
    /// The half of a key that verifies.
    #[error("this is a public key, which signs nothing; the private key is needed")]
    Public,
    /// Encrypted by a passphrase.
    #[error("the key is encrypted: decrypt it first")]
    Encrypted,
    /// Neither P-256 nor P-384, or damaged.
    #[error("not a private key on P-256 or P-384")]
    Key,
}

/// A private key on P-256 or P-384.
#[derive(Clone)]
pub enum SigningKey {
    /// ES256.
    P256(p256::ecdsa::SigningKey),
    /// ES384.
    P384(p384::ecdsa::SigningKey),
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.algorithm())
    }
}

impl SigningKey {
    /// Reads a PEM file: `PRIVATE KEY` (PKCS #8, RFC 5958) or `EC PRIVATE KEY` (RFC 5915).
    ///
    /// # Errors
    /// [`SigningKeyError`].
    pub fn from_pem(text: &str) -> Result<Self, SigningKeyError> {
        if let Some(der) = body(text, "PRIVATE KEY")? {
            return pkcs8(&der).ok_or(SigningKeyError::Key);
        }
        if let Some(der) = body(text, "EC PRIVATE KEY")? {
            return sec1(&der, None).ok_or(SigningKeyError::Key);
        }
        Err(if text.contains("-----BEGIN PUBLIC KEY-----") {
            SigningKeyError::Public
        } else if text.contains("-----BEGIN ENCRYPTED PRIVATE KEY-----") {
            SigningKeyError::Encrypted
        } else {
            SigningKeyError::Pem
        })
    }

    /// Returns the name of the algorithm (RFC 7518, 3.1).
    #[must_use]
    pub const fn algorithm(&self) -> &'static str {
        match self {
            Self::P256(_) => "ES256",
            Self::P384(_) => "ES384",
        }
    }

    /// Signs: r and s with the length of the curve's order each (RFC 7518, 3.4). `None`: the key cannot sign.
    fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        Some(match self {
            Self::P256(key) => {
                let signature: p256::ecdsa::Signature = key.sign_prehash(&Sha256::digest(message)).ok()?;
                signature.to_bytes().to_vec()
            }
            Self::P384(key) => {
                let signature: p384::ecdsa::Signature = key.sign_prehash(&Sha384::digest(message)).ok()?;
                signature.to_bytes().to_vec()
            }
        })
    }

    /// Makes a signed JWT of claims. `kind`: media type without `application/`, for the header's `typ`.
    ///
    /// # Errors
    /// [`SigningKeyError::Key`].
    pub fn jwt(&self, kind: &str, claims: &Value) -> Result<String, SigningKeyError> {
        let header = json!({ "alg": self.algorithm(), "typ": kind });
        let part = |value: &Value| Base64UrlUnpadded::encode_string(value.to_string().as_bytes());
        let signed = format!("{}.{}", part(&header), part(claims));
        let signature = self.sign(signed.as_bytes()).ok_or(SigningKeyError::Key)?;
        Ok(format!("{signed}.{}", Base64UrlUnpadded::encode_string(&signature)))
    }
}

/// Returns what stands between the lines of a PEM block; `None`: there is no such block.
fn body(text: &str, label: &str) -> Result<Option<Vec<u8>>, SigningKeyError> {
    let Some((_, rest)) = text.split_once(&format!("-----BEGIN {label}-----")) else { return Ok(None) };
    let (body, _) = rest.split_once(&format!("-----END {label}-----")).ok_or(SigningKeyError::Pem)?;
    let body: String = body.split_whitespace().collect();
    Base64::decode_vec(&body).map(Some).map_err(|_| SigningKeyError::Pem)
}

/// Takes what is left of a sequence.
fn rest<'a>(reader: &mut impl Reader<'a>) -> der::Result<()> {
    while !reader.is_finished() {
        AnyRef::decode(reader)?;
    }
    Ok(())
}

/// Reads PrivateKeyInfo.
fn pkcs8(bytes: &[u8]) -> Option<SigningKey> {
    let mut reader = SliceReader::new(bytes).ok()?;
    let read = reader.sequence(|reader| {
        u8::decode(reader)?;
        let (kind, curve) = reader.sequence(|reader| {
            Ok::<_, der::Error>((ObjectIdentifier::decode(reader)?, ObjectIdentifier::decode(reader)?))
        })?;
        let key = <&OctetStringRef>::decode(reader)?;
        rest(reader)?;
        Ok::<_, der::Error>((kind, curve, key))
    });
    let (kind, curve, key) = read.ok().filter(|_| reader.is_finished())?;
    if kind == EC_PUBLIC_KEY { sec1(key.as_bytes(), Some(curve)) } else { None }
}

/// Reads ECPrivateKey. `curve`: where it stands outside.
fn sec1(bytes: &[u8], curve: Option<ObjectIdentifier>) -> Option<SigningKey> {
    let mut reader = SliceReader::new(bytes).ok()?;
    let read = reader.sequence(|reader| {
        u8::decode(reader)?;
        let key = <&OctetStringRef>::decode(reader)?;
        let mut named = None;
        while !reader.is_finished() {
            let field = AnyRef::decode(reader)?;
            // parameters [0]; the public key [1] follows from the private one.
            named = named.or_else(|| ObjectIdentifier::from_der(field.value()).ok());
        }
        Ok::<_, der::Error>((key, named))
    });
    let (key, named) = read.ok().filter(|_| reader.is_finished())?;
    match curve.or(named)? {
        P256 => p256::ecdsa::SigningKey::from_slice(key.as_bytes()).ok().map(SigningKey::P256),
        P384 => p384::ecdsa::SigningKey::from_slice(key.as_bytes()).ok().map(SigningKey::P384),
        _ => None,
    }
}
