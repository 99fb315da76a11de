//! Version, features and realm configuration: asked once, kept in [`Session`].
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::invoke::{call, check, invoke};
use super::measure::measurement;
use super::{Command, RsiError};
use crate::abi::rsi as abi;
use crate::addr::{IpaRange, IpaWidth};
use crate::conduit::{CallBuf, Conduit};
use abi::{Features0, RealmConfig};

/// A hash algorithm as RSI numbers it (B5.5.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashAlgorithm {
    /// 32-byte digests.
    Sha256,
    /// 48-byte digests.
    Sha384,
    /// 64-byte digests.
    Sha512,
}

impl HashAlgorithm {
    /// Returns the digest length in bytes.
    #[must_use]
    pub const fn digest_len(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// Returns the name as it stands in the hand-off tree.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
        }
    }

    pub(super) fn from_raw(raw: u8) -> Option<Self> {
        match raw {
            abi::HASH_SHA_256 => Some(Self::Sha256),
            abi::HASH_SHA_384 => Some(Self::Sha384),
            abi::HASH_SHA_512 => Some(Self::Sha512),
            _ => None,
        }
    }
}

/// What the RMM says about this realm.
#[derive(Clone, Debug)]
pub struct RealmFacts {
    /// Negotiated interface version, major << 16 | minor.
    pub version: u64,
    /// Feature register 0; bits that we do not know are dropped, the specification reserves them.
    pub features: Features0,
    /// IPA width.
    pub width: IpaWidth,
    /// Realm hash algorithm.
    pub hash: HashAlgorithm,
    /// Realm Personalization Value.
    pub rpv: [u8; 64],
}

/// The negotiated session. No other call can be made without one.
#[derive(Debug)]
pub struct Session {
    facts: RealmFacts,
    own: IpaRange,
}

impl Session {
    /// Negotiates: RSI_VERSION (1.1, or 1.0 where the RMM is older), RSI_FEATURES, RSI_REALM_CONFIG.
    ///
    /// `own`: the memory of the firmware; no call will ever give a page of it away.
    ///
    /// # Errors
    /// [`RsiError::NoVersion`], [`RsiError::Status`] with the call that failed, [`RsiError::BadReply`] for a width, a
    /// hash or own memory outside the protected half.
    pub fn negotiate<C: Conduit>(conduit: &mut C, own: IpaRange) -> Result<Self, RsiError> {
        let version = version(conduit)?;
        let result = call(conduit, Command::Features, &[0])?;
        // Reserved feature bits are to be ignored (B5.5.8).
        let features = Features0::from_bits_truncate(result[1]);
        let mut buffer = CallBuf::<RealmConfig>::new()?;
        call(conduit, Command::RealmConfig, &[buffer.ipa()])?;
        let config = buffer.get();
        let bad = |register, value| RsiError::BadReply { command: Command::RealmConfig, register, value };
        let width = config.ipa_width.get();
        let width = IpaWidth::new(width).map_err(|_| bad(0x100, width))?;
        let hash = HashAlgorithm::from_raw(config.hash_algorithm)
            .ok_or_else(|| bad(0x108, config.hash_algorithm.into()))?;
        own.protected(width).map_err(|_| bad(0x100, width.bits().into()))?;
        let hash = actual(conduit, hash)?;
        Ok(Self { facts: RealmFacts { version, features, width, hash, rpv: config.rpv }, own })
    }

    /// Returns what the RMM said.
    #[must_use]
    pub fn facts(&self) -> &RealmFacts {
        &self.facts
    }

    /// Returns the IPA width.
    #[must_use]
    pub fn width(&self) -> IpaWidth {
        self.facts.width
    }

    /// Returns the memory of the firmware.
    #[must_use]
    pub fn own(&self) -> IpaRange {
        self.own
    }

    /// Demands device assignment.
    ///
    /// # Errors
    /// [`RsiError::NoDeviceAssignment`] when the feature bit is clear.
    pub fn require_device_assignment(&self) -> Result<(), RsiError> {
        if self.facts.features.contains(Features0::DA) { Ok(()) } else { Err(RsiError::NoDeviceAssignment) }
    }
}

/// Finds out what a realm with SHA-512 has: TF-RMM says so for SHA-384 as well. Then nothing is behind byte 48 of the RIM.
fn actual<C: Conduit>(conduit: &mut C, said: HashAlgorithm) -> Result<HashAlgorithm, RsiError> {
    if said != HashAlgorithm::Sha512 {
        return Ok(said);
    }
    let rim = measurement(conduit, 0)?;
    let is_longer = rim.iter().skip(HashAlgorithm::Sha384.digest_len()).any(|byte| *byte != 0);
    Ok(if is_longer { said } else { HashAlgorithm::Sha384 })
}

/// Asks for 1.1, and for what the RMM offers instead if that is 1.0.
fn version<C: Conduit>(conduit: &mut C) -> Result<u64, RsiError> {
    let [status, lower, higher, ..] = invoke(conduit, Command::Version, &[abi::VERSION_1_1]);
    match (status, lower) {
        (abi::RSI_SUCCESS, abi::VERSION_1_1) => return Ok(abi::VERSION_1_1),
        (abi::RSI_ERROR_INPUT, abi::VERSION_1_0) => {}
        (abi::RSI_SUCCESS | abi::RSI_ERROR_INPUT, _) => return Err(RsiError::NoVersion { lower, higher }),
        (status, _) => check(Command::Version, status)?,
    }
    let [status, lower, higher, ..] = invoke(conduit, Command::Version, &[abi::VERSION_1_0]);
    match (status, lower) {
        (abi::RSI_SUCCESS, abi::VERSION_1_0) => Ok(abi::VERSION_1_0),
        (abi::RSI_SUCCESS | abi::RSI_ERROR_INPUT, _) => Err(RsiError::NoVersion { lower, higher }),
        (status, _) => check(Command::Version, status).map(|()| lower),
    }
}
