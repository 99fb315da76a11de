//! The claims of platform, realm and devices (DEN0137 A7.2.3; its generations differ in which are there).
//!
//! Trust: anybody's bytes until the signatures over them are verified.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::TokenError;
use super::map::Map;
use gatehouse::rsi::HashAlgorithm;

/// Most software components.
const MAX_COMPONENTS: u64 = 64;
/// Most devices.
const MAX_DEVICES: u64 = 1024;

/// Reads the name of a hash as tokens have it.
fn hash(name: &str) -> Option<HashAlgorithm> {
    match name {
        "sha-256" => Some(HashAlgorithm::Sha256),
        "sha-384" => Some(HashAlgorithm::Sha384),
        "sha-512" => Some(HashAlgorithm::Sha512),
        _ => None,
    }
}

/// Claims of one part of the token.
struct Claims<'a> {
    part: &'static str,
    map: Map<'a>,
}

impl<'a> Claims<'a> {
    fn read(part: &'static str, bytes: &'a [u8]) -> Result<Self, TokenError> {
        Ok(Self { part, map: Map::read(bytes).ok_or(TokenError::Claims { part })? })
    }

    fn need<T>(&self, key: i64, name: &'static str, value: Option<T>) -> Result<T, TokenError> {
        value.ok_or(TokenError::Claim { part: self.part, key, name })
    }

    /// A claim that may be absent, but not malformed.
    fn may<T>(&self, key: i64, name: &'static str, value: Option<T>) -> Result<Option<T>, TokenError> {
        if self.map.has(key) { self.need(key, name, value).map(Some) } else { Ok(None) }
    }

    fn bytes(&self, key: i64, name: &'static str, lens: &[usize]) -> Result<&'a [u8], TokenError> {
        self.need(
            key,
            name,
            self.map.bytes(key).filter(|bytes| lens.is_empty() || lens.contains(&bytes.len())),
        )
    }

    fn hash(&self, key: i64, name: &'static str) -> Result<HashAlgorithm, TokenError> {
        self.need(key, name, self.map.text(key).and_then(hash))
    }
}

/// What the platform says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Platform<'a> {
    /// Profile.
    pub profile: &'a str,
    /// Hash of the realm's public key, if it is the platform of this realm.
    pub challenge: &'a [u8],
    /// Implementation id.
    pub implementation: &'a [u8],
    /// Instance id.
    pub instance: &'a [u8],
    /// Configuration.
    pub configuration: &'a [u8],
    /// Lifecycle.
    pub lifecycle: u16,
    /// Hash algorithm of the components.
    pub hash: HashAlgorithm,
    /// Software components.
    pub components: Vec<Component<'a>>,
    /// Verification service.
    pub service: Option<&'a str>,
}

/// A software component of the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Component<'a> {
    /// Type.
    pub kind: Option<&'a str>,
    /// Measurement.
    pub measurement: &'a [u8],
    /// Version.
    pub version: Option<&'a str>,
    /// Signer id.
    pub signer: &'a [u8],
}

/// Lifecycle classes: bits 15:8 of their first value, and the word on the command line.
const LIFECYCLES: [(u16, &str); 7] = [
    (0x00, "unknown"),
    (0x10, "assembly"),
    (0x20, "provisioning"),
    (0x30, "secured"),
    (0x40, "debug"),
    (0x50, "recoverable"),
    (0x60, "decommissioned"),
];

/// Returns the word of a lifecycle's class.
#[must_use]
pub fn lifecycle_word(lifecycle: u16) -> &'static str {
    let found = LIFECYCLES.iter().find(|(class, _)| *class == lifecycle >> 8);
    found.map_or("undefined", |(_, word)| word)
}

/// Finds a class word.
#[must_use]
pub fn is_lifecycle_word(word: &str) -> bool {
    LIFECYCLES.iter().any(|(_, known)| *known == word)
}

impl<'a> Platform<'a> {
    /// Reads the payload of the platform token.
    ///
    /// # Errors
    /// [`TokenError::Claims`], [`TokenError::Claim`].
    pub fn read(payload: &'a [u8]) -> Result<Self, TokenError> {
        let claims = Claims::read("platform token", payload)?;
        let component = |decoder: &mut minicbor::Decoder<'a>| {
            let map = Map::take(decoder)?;
            Some(Component {
                kind: map.text(1),
                measurement: map.bytes(2)?,
                version: map.text(4),
                signer: map.bytes(5)?,
            })
        };
        let map = &claims.map;
        let components = map.list(2399, MAX_COMPONENTS, component);
        Ok(Self {
            profile: claims.need(265, "profile", map.text(265))?,
            challenge: claims.bytes(10, "challenge", &[32, 48, 64])?,
            implementation: claims.bytes(2396, "implementation id", &[32])?,
            instance: claims.bytes(256, "instance id", &[33])?,
            configuration: claims.bytes(2401, "configuration", &[])?,
            lifecycle: claims.need(
                2395,
                "lifecycle",
                map.number(2395).and_then(|n| u16::try_from(n).ok()),
            )?,
            hash: claims.hash(2402, "hash algorithm")?,
            components: claims.need(2399, "software components", components)?,
            service: claims.may(2400, "verification service", map.text(2400))?,
        })
    }
}

/// What the RMM says of the realm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Realm<'a> {
    /// Profile.
    pub profile: Option<&'a str>,
    /// Challenge, 64 bytes.
    pub challenge: &'a [u8],
    /// Realm personalization value.
    pub rpv: &'a [u8],
    /// Hash algorithm of the measurements.
    pub hash: HashAlgorithm,
    /// The realm attestation key: a COSE_Key, encoded.
    pub key: &'a [u8],
    /// Hash algorithm of the key's digest in the platform token.
    pub key_hash: HashAlgorithm,
    /// Realm initial measurement.
    pub rim: &'a [u8],
    /// REM 1 to 4.
    pub rems: [&'a [u8]; 4],
    /// Memory is encrypted with a key of the realm's own; `None`: an older profile.
    pub private_memory_key: Option<bool>,
    /// Hash of the device token.
    pub devices_hash: Option<&'a [u8]>,
}

impl<'a> Realm<'a> {
    /// Reads the payload of the realm token.
    ///
    /// # Errors
    /// [`TokenError::Claims`], [`TokenError::Claim`].
    pub fn read(payload: &'a [u8]) -> Result<Self, TokenError> {
        let claims = Claims::read("realm token", payload)?;
        let map = &claims.map;
        let rim = claims.bytes(44238, "RIM", &[32, 48, 64])?;
        let rem = |decoder: &mut minicbor::Decoder<'a>| {
            decoder.bytes().ok().filter(|bytes| bytes.len() == rim.len())
        };
        let rems = map.list(44239, 4, rem).and_then(|rems| rems.try_into().ok());
        let policy = map.number(44243).and_then(|policy| match policy {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        });
        let devices = map.bytes(44257).filter(|bytes| matches!(bytes.len(), 32 | 48 | 64));
        Ok(Self {
            profile: claims.may(265, "profile", map.text(265))?,
            challenge: claims.bytes(10, "challenge", &[64])?,
            rpv: claims.bytes(44235, "RPV", &[64])?,
            hash: claims.hash(44236, "hash algorithm of the measurements")?,
            key: claims.bytes(44237, "public key", &[])?,
            key_hash: claims.hash(44240, "hash algorithm of the public key")?,
            rim,
            rems: claims.need(44239, "REMs", rems)?,
            private_memory_key: claims.may(44243, "memory encryption policy", policy)?,
            devices_hash: claims.may(44257, "hash of the device token", devices)?,
        })
    }
}

/// A device of the device token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceClaims<'a> {
    /// Digest of the certificate chain.
    pub identity: &'a [u8],
    /// Digest of the measurement exchange.
    pub measurements: &'a [u8],
    /// Digest of the negotiation data.
    pub vca: Option<&'a [u8]>,
    /// IDE protects its coherent traffic.
    pub coherent_protected: Option<bool>,
    /// IDE protects its other traffic.
    pub protected: Option<bool>,
}

/// Reads the device token.
///
/// # Errors
/// [`TokenError::Claims`], [`TokenError::Claim`].
pub fn devices<'a>(bytes: &'a [u8]) -> Result<Vec<DeviceClaims<'a>>, TokenError> {
    let claims = Claims::read("device token", bytes)?;
    let device = |decoder: &mut minicbor::Decoder<'a>| {
        let map = Map::take(decoder)?;
        if map.has(3) && map.bytes(3).is_none() {
            return None;
        }
        Some(DeviceClaims {
            identity: map.bytes(1)?,
            measurements: map.bytes(2)?,
            vca: map.bytes(3),
            coherent_protected: map.boolean(4),
            protected: map.boolean(5),
        })
    };
    claims.need(44259, "devices", claims.map.list(44259, MAX_DEVICES, device))
}
