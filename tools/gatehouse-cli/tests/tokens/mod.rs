//! Writes CCA tokens with an encoder of its own, signed by keys of the tests.
#![allow(dead_code, reason = "each test file uses its part")]

use crate::logs::{C, text};
use base64ct::{Base64, Encoding};
use p384::ecdsa::signature::hazmat::PrehashSigner;
use sha2::{Digest, Sha256, Sha384};

/// What signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signer {
    P256(u8),
    P384(u8),
}

impl Signer {
    /// Coordinates of the public key.
    fn point(self) -> (Vec<u8>, Vec<u8>) {
        let bytes = match self {
            Self::P256(seed) => {
                let key = p256::ecdsa::SigningKey::from_slice(&[seed; 32]).unwrap();
                key.verifying_key().to_sec1_point(false).as_bytes().to_vec()
            }
            Self::P384(seed) => {
                let key = p384::ecdsa::SigningKey::from_slice(&[seed; 48]).unwrap();
                key.verifying_key().to_sec1_point(false).as_bytes().to_vec()
            }
        };
        let (x, y) = bytes[1..].split_at(bytes.len() / 2);
        (x.to_vec(), y.to_vec())
    }

    /// COSE algorithm as -1 - n.
    fn algorithm(self) -> u64 {
        match self {
            Self::P256(_) => 6,
            Self::P384(_) => 34,
        }
    }

    pub fn cose_key(self) -> Vec<u8> {
        let (x, y) = self.point();
        let curve = if matches!(self, Self::P256(_)) { 1 } else { 2 };
        C::M(vec![
            (C::N(1), C::N(2)),
            (C::N(3), C::Minus(self.algorithm())),
            (C::Minus(0), C::N(curve)),
            (C::Minus(1), C::B(x)),
            (C::Minus(2), C::B(y)),
        ])
        .bytes()
    }

    pub fn pem(self) -> String {
        let (x, y) = self.point();
        let head: &[u8] = match self {
            Self::P256(_) => b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04",
            Self::P384(_) => b"\x30\x76\x30\x10\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x05\x2b\x81\x04\x00\x22\x03\x62\x00\x04",
        };
        let body = Base64::encode_string(&[head, &x, &y].concat());
        let lines: Vec<_> = body.as_bytes().chunks(64).map(|line| String::from_utf8_lossy(line)).collect();
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", lines.join("\n"))
    }

    fn sign(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::P256(seed) => {
                let key = p256::ecdsa::SigningKey::from_slice(&[seed; 32]).unwrap();
                let signature: p256::ecdsa::Signature = key.sign_prehash(&Sha256::digest(message)).unwrap();
                signature.to_bytes().to_vec()
            }
            Self::P384(seed) => {
                let key = p384::ecdsa::SigningKey::from_slice(&[seed; 48]).unwrap();
                let signature: p384::ecdsa::Signature = key.sign_prehash(&Sha384::digest(message)).unwrap();
                signature.to_bytes().to_vec()
            }
        }
    }

    /// A tagged COSE_Sign1.
    pub fn sign1(self, payload: Vec<u8>) -> Vec<u8> {
        let protected = C::M(vec![(C::N(1), C::Minus(self.algorithm()))]).bytes();
        let message =
            C::A(vec![text("Signature1"), C::B(protected.clone()), C::B(vec![]), C::B(payload.clone())]);
        let signature = self.sign(&message.bytes());
        let items = vec![C::B(protected), C::M(vec![]), C::B(payload), C::B(signature)];
        C::Tag(18, Box::new(C::A(items))).bytes()
    }
}

/// What goes into a token.
#[derive(Clone)]
pub struct Spec {
    pub tag: u64,
    pub platform_signer: Signer,
    pub realm_signer: Signer,
    /// Key in the realm's claims.
    pub realm_key: Signer,
    pub challenge: Vec<u8>,
    pub platform_profile: &'static str,
    pub realm_profile: &'static str,
    pub hash: &'static str,
    pub rim: Vec<u8>,
    pub rems: Vec<Vec<u8>>,
    pub lifecycle: u64,
    pub devices: Option<Vec<u8>>,
    /// Claims of the realm that are left out.
    pub without: Vec<u64>,
}

impl Spec {
    pub fn new(rems: [Vec<u8>; 4]) -> Self {
        Self {
            tag: 907,
            platform_signer: Signer::P384(0x11),
            realm_signer: Signer::P384(0x22),
            realm_key: Signer::P384(0x22),
            challenge: vec![0xc4; 64],
            platform_profile: "tag:arm.com,2024:cca_platform#2.0.0",
            realm_profile: "tag:arm.com,2024:realm#2.0.0",
            hash: match rems[0].len() {
                32 => "sha-256",
                48 => "sha-384",
                _ => "sha-512",
            },
            rim: vec![0x71; rems[0].len()],
            rems: rems.into(),
            lifecycle: 0x3003,
            devices: None,
            without: Vec::new(),
        }
    }

    fn platform(&self) -> Vec<u8> {
        let component = C::M(vec![
            (C::N(1), text("RMM")),
            (C::N(2), C::B(vec![0x31; 32])),
            (C::N(4), text("0.9")),
            (C::N(5), C::B(vec![0x32; 32])),
        ]);
        C::M(vec![
            (C::N(265), text(self.platform_profile)),
            (C::N(10), C::B(Sha256::digest(self.realm_key.cose_key()).to_vec())),
            (C::N(2396), C::B(vec![0x41; 32])),
            (C::N(256), C::B([vec![1], vec![0x42; 32]].concat())),
            (C::N(2401), C::B(vec![1, 2, 3])),
            (C::N(2395), C::N(self.lifecycle)),
            (C::N(2399), C::A(vec![component])),
            (C::N(2400), text("https://verify.example")),
            (C::N(2402), text("sha-256")),
            (C::N(2394), C::N(1)),
        ])
        .bytes()
    }

    fn realm(&self) -> Vec<u8> {
        let mut claims = vec![
            (10, C::B(self.challenge.clone())),
            (265, text(self.realm_profile)),
            (256, C::B([vec![1], vec![0x51; 32]].concat())),
            (44235, C::B(vec![0; 64])),
            (44236, text(self.hash)),
            (44240, text("sha-256")),
            (44237, C::B(self.realm_key.cose_key())),
            (44238, C::B(self.rim.clone())),
            (44239, C::A(self.rems.iter().cloned().map(C::B).collect())),
            (44243, C::N(1)),
        ];
        if let Some(devices) = &self.devices {
            claims.push((44257, C::B(Sha256::digest(devices).to_vec())));
        }
        claims.retain(|(key, _)| !self.without.contains(key));
        C::M(claims.into_iter().map(|(key, value)| (C::N(key), value)).collect()).bytes()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let part = |format: u64, bytes: Vec<u8>| match self.tag {
            399 => C::B(bytes),
            _ => C::A(vec![C::N(format), C::B(bytes)]),
        };
        let mut parts = vec![
            (C::N(44234), part(263, self.platform_signer.sign1(self.platform()))),
            (C::N(44241), part(263, self.realm_signer.sign1(self.realm()))),
        ];
        parts.extend(self.devices.clone().map(|devices| (C::N(44258), part(601, devices))));
        C::Tag(self.tag, Box::new(C::M(parts))).bytes()
    }
}

/// A device token: chain, measurements and negotiation digest of each device.
pub fn devices(digests: &[[Vec<u8>; 3]]) -> Vec<u8> {
    let device = |[chain, measurements, vca]: &[Vec<u8>; 3]| {
        C::M(vec![
            (C::N(1), C::B(chain.clone())),
            (C::N(2), C::B(measurements.clone())),
            (C::N(3), C::B(vca.clone())),
            (C::N(4), C::Bool(false)),
            (C::N(5), C::Bool(true)),
        ])
    };
    let devices = C::A(digests.iter().map(device).collect());
    C::M(vec![(C::N(265), text("tag:arm.com,2025:cca_device#2.0.0")), (C::N(44259), devices)]).bytes()
}
