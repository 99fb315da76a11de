//! Private keys and signatures: ECDSA with nonces of RFC 6979, RSASSA of PKCS #1 1.5; both give the same bytes again.

use alloc::vec::Vec;

use ecdsa::hazmat::sign_prehashed_rfc6979;
use sha2::{Sha256, Sha384};

use super::certificate::{INTEGER, OCTETS, SEQUENCE, take};
use crate::digest::HashAlgorithm;
use crate::scenario::Asym;

/// A private key.
pub(super) enum Key {
    P256(p256::NonZeroScalar),
    P384(p384::NonZeroScalar),
    #[cfg(feature = "rsa")]
    Rsa(alloc::boxed::Box<rsa::PrivateKey>),
}

impl Key {
    /// Reads the number of a curve's key or PKCS#8.
    pub(super) fn read(asym: Asym, bytes: &[u8]) -> Option<Key> {
        let number = scalar(bytes).unwrap_or(bytes);
        match asym {
            Asym::P256 => p256::NonZeroScalar::try_from(number).ok().map(Key::P256),
            Asym::P384 => p384::NonZeroScalar::try_from(number).ok().map(Key::P384),
            #[cfg(feature = "rsa")]
            Asym::Rsa3072 => {
                use rsa::pkcs8::DecodePrivateKey;
                Some(Key::Rsa(alloc::boxed::Box::new(rsa::PrivateKey::from_pkcs8_der(bytes).ok()?)))
            }
            #[cfg(not(feature = "rsa"))]
            Asym::Rsa3072 => None,
        }
    }

    /// Signs a digest: r and s of equal length, or the number of RSA.
    #[cfg_attr(not(feature = "rsa"), expect(unused_variables, reason = "only RSA names the hash"))]
    pub(super) fn sign(&self, digest: &[u8], hash: HashAlgorithm) -> Vec<u8> {
        match self {
            Key::P256(key) => {
                sign_prehashed_rfc6979::<p256::NistP256, Sha256>(key, digest, &[]).0.to_bytes().to_vec()
            }
            Key::P384(key) => {
                sign_prehashed_rfc6979::<p384::NistP384, Sha384>(key, digest, &[]).0.to_bytes().to_vec()
            }
            #[cfg(feature = "rsa")]
            Key::Rsa(key) => {
                let padding =
                    rsa::Pkcs1v15Sign { hash_len: Some(hash.len_bytes()), prefix: prefix(hash).into() };
                key.sign(padding, digest).unwrap_or_default()
            }
        }
    }
}

/// DigestInfo up to the digest (RFC 8017, 9.2 note 1).
#[cfg(feature = "rsa")]
fn prefix(hash: HashAlgorithm) -> [u8; 19] {
    let (number, len) = match hash {
        HashAlgorithm::Sha256 => (1, 32),
        HashAlgorithm::Sha384 => (2, 48),
        HashAlgorithm::Sha512 => (3, 64),
    };
    let oid = [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, number];
    let mut prefix = [0; 19];
    prefix[..6].copy_from_slice(&[0x30, 17 + len, 0x30, 0x0D, 0x06, 0x09]);
    prefix[6..15].copy_from_slice(&oid);
    prefix[15..].copy_from_slice(&[0x05, 0x00, 0x04, len]);
    prefix
}

/// The number inside PKCS#8 (RFC 5208) around an ECPrivateKey (RFC 5915).
fn scalar(bytes: &[u8]) -> Option<&[u8]> {
    let algorithm = take(take(bytes, SEQUENCE)?.content, INTEGER)?.rest;
    let key = take(take(algorithm, SEQUENCE)?.rest, OCTETS)?.content;
    let number = take(take(key, SEQUENCE)?.content, INTEGER)?.rest;
    Some(take(number, OCTETS)?.content)
}
