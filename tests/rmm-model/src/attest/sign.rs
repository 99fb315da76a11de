//! The two keys, and COSE_Sign1 with ES384 (RFC 9052 4.2 to 4.4, RFC 9053 2.1).

use alloc::vec;
use alloc::vec::Vec;

use ecdsa::hazmat::sign_prehashed_rfc6979;
use p384::elliptic_curve::sec1::ToSec1Point;
use sha2::Sha384;

use super::cbor;
use crate::digest::HashAlgorithm;

/// COSE: label of the algorithm, and ES384.
const ALG: i64 = 1;
const ES384: i64 = -35;
/// COSE_Key: labels of type, algorithm, curve, coordinates; an elliptic curve key, P-384.
const KEY_TYPE: i64 = 1;
const KEY_ALG: i64 = 3;
const KEY_CURVE: i64 = -1;
const KEY_X: i64 = -2;
const KEY_Y: i64 = -3;
const EC2: u64 = 2;
const P384: u64 = 2;
/// Tag of a COSE_Sign1.
const TAG_SIGN1: u64 = 18;

/// What the private keys are made from: the number is the SHA-384 of it.
const REALM_KEY: &[u8] = b"test realm attestation key, known to everybody";
const PLATFORM_KEY: &[u8] = b"test platform attestation key, known to everybody";

/// A private key on P-384.
pub(super) struct Key(p384::NonZeroScalar);

/// A public key on P-384.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// Coordinate x, big-endian.
    pub x: [u8; 48],
    /// Coordinate y, big-endian.
    pub y: [u8; 48],
}

impl Key {
    pub(super) fn realm() -> Key {
        Key::from(REALM_KEY)
    }

    pub(super) fn platform() -> Key {
        Key::from(PLATFORM_KEY)
    }

    fn from(text: &[u8]) -> Key {
        let number = HashAlgorithm::Sha384.digest(&[text]);
        let number = p384::NonZeroScalar::try_from(&number[..]);
        Key(number.expect("SHA-384 of both texts is below the order of P-384"))
    }

    pub(super) fn public(&self) -> PublicKey {
        let point = p384::PublicKey::from_secret_scalar(&self.0).to_sec1_point(false);
        let half = |at: usize| core::array::from_fn(|i| point.as_bytes()[at + i]);
        PublicKey { x: half(1), y: half(49) }
    }

    /// Signs claims: a tagged COSE_Sign1. A damaged one has the last bit of its signature flipped.
    pub(super) fn sign1(&self, claims: &[u8], damaged: bool) -> Vec<u8> {
        let protected = cbor::map(vec![(ALG, cbor::int(ES384))]);
        let message = cbor::array(&[
            cbor::text("Signature1"),
            cbor::bytes(&protected),
            cbor::bytes(&[]),
            cbor::bytes(claims),
        ]);
        let digest = HashAlgorithm::Sha384.digest(&[&message]);
        let signature = sign_prehashed_rfc6979::<p384::NistP384, Sha384>(&self.0, &digest, &[]).0;
        let mut signature = signature.to_bytes().to_vec();
        if let Some(last) = signature.last_mut().filter(|_| damaged) {
            *last ^= 1;
        }
        let parts =
            [cbor::bytes(&protected), cbor::map(Vec::new()), cbor::bytes(claims), cbor::bytes(&signature)];
        cbor::tag(TAG_SIGN1, &cbor::array(&parts))
    }
}

impl PublicKey {
    /// Returns the uncompressed point (SEC 1, 2.3.3).
    pub fn sec1(&self) -> [u8; 97] {
        let mut point = [4; 97];
        point[1..49].copy_from_slice(&self.x);
        point[49..].copy_from_slice(&self.y);
        point
    }

    /// Returns the COSE_Key, as claim 44237 has it (RFC 9052 7, RFC 9053 7.1).
    pub fn cose_key(&self) -> Vec<u8> {
        cbor::map(vec![
            (KEY_TYPE, cbor::uint(EC2)),
            (KEY_ALG, cbor::int(ES384)),
            (KEY_CURVE, cbor::uint(P384)),
            (KEY_X, cbor::bytes(&self.x)),
            (KEY_Y, cbor::bytes(&self.y)),
        ])
    }
}
