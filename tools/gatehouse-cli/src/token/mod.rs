//! Reads a CCA attestation token: both outer formats, both signatures, the claims by key (DEN0137 A7.2.3).
//!
//! Reading proves nothing: [`Token::platform_is_signed`], [`Token::binds`] and [`Token::realm_is_signed`] do, in this order.
//!
//! Trust: anybody's bytes.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

mod claims;
mod cose;
mod map;

pub use claims::{Component, DeviceClaims, Platform, Realm, is_lifecycle_word, lifecycle_word};
pub use cose::{Algorithm, CoseError, Key, KeyError, Signed};

use gatehouse::digest::Digest;
use map::{Map, is_array, is_done};
use minicbor::Decoder;
use std::fmt;
use thiserror::Error;

/// Largest token in bytes.
pub const MAX_TOKEN_BYTES: usize = 1024 * 1024;
const PLATFORM: i64 = 44234;
const REALM: i64 = 44241;
const DEVICES: i64 = 44258;
/// CoAP content format: EAT as CWT.
const FORMAT_CWT: u64 = 263;
/// CoAP content format: unprotected CWT claim set.
const FORMAT_CLAIMS: u64 = 601;

/// Why bytes are no token.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TokenError {
    /// Larger than [`MAX_TOKEN_BYTES`].
    #[error("{0} bytes, more than is taken")]
    TooLarge(usize),
    /// No CBOR tag 907 or 399 with a map behind it.
    #[error("not a CCA token: no CBOR tag 907 or 399 with a map")]
    NotAToken,
    /// Bytes behind the token.
    #[error("{0} bytes behind the token")]
    Trailing(usize),
    /// A part that is missing or not in the form of its container.
    #[error("{part} is missing or malformed")]
    Part {
        /// Which.
        part: &'static str,
    },
    /// A part whose COSE_Sign1 cannot be read.
    #[error("{part}: {error}")]
    Cose {
        /// Which.
        part: &'static str,
        /// Why.
        error: CoseError,
    },
    /// A payload that is no map.
    #[error("{part}: its claims are not a CBOR map, or one stands twice")]
    Claims {
        /// Which.
        part: &'static str,
    },
    /// A claim that is missing or malformed.
    #[error("{part}: claim {key} ({name}) is missing or malformed")]
    Claim {
        /// Which part.
        part: &'static str,
        /// Key.
        key: i64,
        /// Name.
        name: &'static str,
    },
}

/// The outer format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outer {
    /// Tag 907, parts in arrays with a content format: RMM 1.1-alp14 and later.
    Cmw,
    /// Tag 399, parts as byte strings: RMM 1.0.
    Collection,
}

impl fmt::Display for Outer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cmw => "tag 907",
            Self::Collection => "tag 399",
        })
    }
}

/// A token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token<'a> {
    /// Outer format.
    pub outer: Outer,
    /// Platform token, signed.
    pub platform_signed: Signed<'a>,
    /// Its claims.
    pub platform: Platform<'a>,
    /// Realm token, signed.
    pub realm_signed: Signed<'a>,
    /// Its claims.
    pub realm: Realm<'a>,
    /// Device token, encoded.
    pub devices: Option<&'a [u8]>,
}

impl<'a> Token<'a> {
    /// Reads a whole token.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TokenError> {
        if bytes.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::TooLarge(bytes.len()));
        }
        let mut decoder = Decoder::new(bytes);
        let outer = match decoder.tag().map(|tag| tag.as_u64()) {
            Ok(907) => Outer::Cmw,
            Ok(399) => Outer::Collection,
            _ => return Err(TokenError::NotAToken),
        };
        let parts = Map::take(&mut decoder).ok_or(TokenError::NotAToken)?;
        if !is_done(&decoder) {
            return Err(TokenError::Trailing(bytes.len().saturating_sub(decoder.position())));
        }
        let signed = |key, part| {
            let bytes = content(&parts, key, outer, FORMAT_CWT).ok_or(TokenError::Part { part })?;
            Signed::parse(bytes).map_err(|error| TokenError::Cose { part, error })
        };
        let platform_signed = signed(PLATFORM, "platform token")?;
        let realm_signed = signed(REALM, "realm token")?;
        let part = "device token";
        let devices = if parts.has(DEVICES) {
            Some(content(&parts, DEVICES, outer, FORMAT_CLAIMS).ok_or(TokenError::Part { part })?)
        } else {
            None
        };
        Ok(Self {
            outer,
            platform: Platform::read(platform_signed.payload)?,
            realm: Realm::read(realm_signed.payload)?,
            platform_signed,
            realm_signed,
            devices,
        })
    }

    /// Tells whether bytes begin as a token does.
    #[must_use]
    pub fn is_like(bytes: &[u8]) -> bool {
        bytes.starts_with(&[0xd9, 0x03, 0x8b]) || bytes.starts_with(&[0xd9, 0x01, 0x8f])
    }

    /// Verifies the platform's signature.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn platform_is_signed(&self, key: &Key) -> Result<(), KeyError> {
        key.verify(&self.platform_signed)
    }

    /// Tells whether the platform speaks of this realm's key: its challenge is the hash of claim 44237.
    #[must_use]
    pub fn binds(&self) -> bool {
        Digest::of(self.realm.key_hash, &[self.realm.key]).as_bytes() == self.platform.challenge
    }

    /// Verifies the realm's signature with the key in its own claims: to be trusted only if [`Token::binds`].
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn realm_is_signed(&self) -> Result<(), KeyError> {
        Key::from_cose(self.realm.key)?.verify(&self.realm_signed)
    }

    /// Reads the device token. `None`: there is none.
    ///
    /// # Errors
    /// [`TokenError`].
    pub fn device_claims(&self) -> Result<Option<Vec<DeviceClaims<'a>>>, TokenError> {
        self.devices.map(claims::devices).transpose()
    }

    /// Tells whether the realm token speaks of this device token; `None`: there is neither claim nor token.
    #[must_use]
    pub fn binds_devices(&self) -> Option<bool> {
        match (self.devices, self.realm.devices_hash) {
            (None, None) => None,
            (Some(token), Some(hash)) => {
                Some(Digest::from_bytes(hash).is_some_and(|digest| digest.matches(token)))
            }
            _ => Some(false),
        }
    }
}

/// Returns what a part holds, in the form of its container.
fn content<'a>(parts: &Map<'a>, key: i64, outer: Outer, format: u64) -> Option<&'a [u8]> {
    let mut decoder = parts.value(key)?;
    if outer == Outer::Cmw {
        let fine = is_array(&decoder) && decoder.array().ok()? == Some(2) && decoder.u64().ok()? == format;
        if !fine {
            return None;
        }
    }
    decoder.bytes().ok()
}
