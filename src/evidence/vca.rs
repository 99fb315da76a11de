//! The negotiation (VCA): which SPDM version and algorithms the requester and the device agreed on. Every signature covers
//! these bytes, so a host that weakened them shows.
//!
//! Trust: the device's and the RMM's bytes through the host; they count only after their digest matched.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::key::{KeyKind, Scheme};
use crate::abi::spdm as abi;
use crate::rsi::HashAlgorithm;
use core::fmt;
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// A version of SPDM whose signatures we verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpdmVersion {
    /// 1.2.
    V12,
    /// 1.3.
    V13,
}

impl SpdmVersion {
    const fn from_wire(version: u8) -> Option<Self> {
        match version {
            abi::VERSION_1_2 => Some(Self::V12),
            abi::VERSION_1_3 => Some(Self::V13),
            _ => None,
        }
    }

    /// Returns the version byte of messages.
    #[must_use]
    pub const fn wire(self) -> u8 {
        match self {
            Self::V12 => abi::VERSION_1_2,
            Self::V13 => abi::VERSION_1_3,
        }
    }
}

/// What the device signs with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsymAlgorithm {
    /// ECDSA on P-256.
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// RSASSA-PKCS1-v1_5 with 3072 or 4096 bits.
    RsaSsa(u32),
    /// RSASSA-PSS with 3072 or 4096 bits.
    RsaPss(u32),
}

impl AsymAlgorithm {
    const fn from_wire(selection: u32) -> Option<Self> {
        match selection {
            abi::ECDSA_P256 => Some(Self::EcdsaP256),
            abi::ECDSA_P384 => Some(Self::EcdsaP384),
            abi::RSASSA_3072 => Some(Self::RsaSsa(3072)),
            abi::RSASSA_4096 => Some(Self::RsaSsa(4096)),
            abi::RSAPSS_3072 => Some(Self::RsaPss(3072)),
            abi::RSAPSS_4096 => Some(Self::RsaPss(4096)),
            _ => None,
        }
    }

    /// Returns the bytes of a signature.
    #[must_use]
    pub const fn signature_len(self) -> usize {
        match self {
            Self::EcdsaP256 => 64,
            Self::EcdsaP384 => 96,
            Self::RsaSsa(4096) | Self::RsaPss(4096) => 512,
            Self::RsaSsa(_) | Self::RsaPss(_) => 384,
        }
    }

    /// Returns the key that the leaf certificate must hold.
    #[must_use]
    pub const fn key_kind(self) -> KeyKind {
        match self {
            Self::EcdsaP256 => KeyKind::P256,
            Self::EcdsaP384 => KeyKind::P384,
            Self::RsaSsa(bits) | Self::RsaPss(bits) => KeyKind::Rsa { bits },
        }
    }

    const fn scheme(self, hash: HashAlgorithm) -> Scheme {
        match self {
            Self::EcdsaP256 | Self::EcdsaP384 => Scheme::Ecdsa(hash),
            Self::RsaSsa(_) => Scheme::RsaPkcs1(hash),
            Self::RsaPss(_) => Scheme::RsaPss(hash),
        }
    }
}

/// A message of the negotiation, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VcaMessage {
    /// GET_VERSION.
    GetVersion,
    /// VERSION.
    Version,
    /// GET_CAPABILITIES.
    GetCapabilities,
    /// CAPABILITIES.
    Capabilities,
    /// NEGOTIATE_ALGORITHMS.
    NegotiateAlgorithms,
    /// ALGORITHMS.
    Algorithms,
}

impl VcaMessage {
    const fn code(self) -> u8 {
        match self {
            Self::GetVersion => abi::GET_VERSION,
            Self::Version => abi::VERSION,
            Self::GetCapabilities => abi::GET_CAPABILITIES,
            Self::Capabilities => abi::CAPABILITIES,
            Self::NegotiateAlgorithms => abi::NEGOTIATE_ALGORITHMS,
            Self::Algorithms => abi::ALGORITHMS,
        }
    }
}

/// A choice that the device made among what the requester offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// Measurement specification.
    MeasurementSpecification,
    /// Signature algorithm.
    BaseAsym,
    /// Hash algorithm.
    BaseHash,
}

/// Why bytes are not a negotiation that we can rely on.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum VcaError {
    /// The object ends inside this message.
    #[error("negotiation ends inside {0:?}")]
    Short(VcaMessage),
    /// Bytes behind ALGORITHMS.
    #[error("{0} bytes behind the negotiation")]
    Trailing(usize),
    /// Another message stands where this one belongs.
    #[error("code {found:#x} where {message:?} belongs")]
    Code {
        /// Message that belongs there.
        message: VcaMessage,
        /// Code found.
        found: u8,
    },
    /// An SPDM version that we do not verify: everything but 1.2 and 1.3.
    #[error("SPDM version {0:#x}, 0x12 or 0x13 is needed")]
    Version(u8),
    /// A message does not have the version that it must have.
    #[error("{message:?} has version {found:#x}, not {wanted:#x}")]
    VersionDiffers {
        /// Message.
        message: VcaMessage,
        /// Version found.
        found: u8,
        /// Version of the negotiation, or 1.0 for the first two messages.
        wanted: u8,
    },
    /// The version is none that VERSION lists.
    #[error("SPDM version {0:#x} is not among those of the device")]
    VersionNotListed(u8),
    /// CAPABILITIES with a Supported Algorithms block, for which no requester of ours asks.
    #[error("CAPABILITIES with param1 {0:#x}")]
    SupportedAlgorithms(u8),
    /// The device has no certificates.
    #[error("responder flags {0:#x}: no certificates")]
    NoCertificates(u32),
    /// The device has no measurements.
    #[error("responder flags {0:#x}: no measurements")]
    NoMeasurements(u32),
    /// The length of a message is not that of its parts.
    #[error("{message:?} says {said} bytes, its parts have another length")]
    Length {
        /// Message.
        message: VcaMessage,
        /// Bytes that it says it has.
        said: u16,
    },
    /// The device selected extended algorithms.
    #[error("{asym} extended signature and {hash} extended hash algorithms selected")]
    Extended {
        /// Number of signature algorithms.
        asym: u8,
        /// Number of hash algorithms.
        hash: u8,
    },
    /// Not the DMTF measurement specification.
    #[error("measurement specification {0:#x}, 0x1 is needed")]
    MeasurementSpecification(u8),
    /// Not exactly one signature algorithm that we verify.
    #[error("signature algorithm {0:#x}")]
    BaseAsym(u32),
    /// Not exactly one hash algorithm that we have.
    #[error("hash algorithm {0:#x}")]
    BaseHash(u32),
    /// Not exactly one measurement hash algorithm that we have.
    #[error("measurement hash algorithm {0:#x}")]
    MeasurementHash(u32),
    /// The device chose what was not offered.
    #[error("{0:?} selected that was not offered")]
    NotOffered(Choice),
}

/// What was agreed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vca {
    /// Version of all messages that follow.
    pub version: SpdmVersion,
    /// Hash of transcripts.
    pub hash: HashAlgorithm,
    /// What the device signs with.
    pub asym: AsymAlgorithm,
    /// The same with the hash, as verification wants it.
    pub scheme: Scheme,
    /// Hash of measurements; `None`: raw values only.
    pub measurement_hash: Option<HashAlgorithm>,
    /// The device signs measurements when asked.
    pub signs_measurements: bool,
}

impl fmt::Display for Vca {
    /// Writes the negotiated version and algorithms, one form for each choice: what pins compare.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let version = match self.version {
            SpdmVersion::V12 => "1.2",
            SpdmVersion::V13 => "1.3",
        };
        write!(f, "spdm-{version} ")?;
        match self.asym {
            AsymAlgorithm::EcdsaP256 => f.write_str("ecdsa-p256")?,
            AsymAlgorithm::EcdsaP384 => f.write_str("ecdsa-p384")?,
            AsymAlgorithm::RsaSsa(bits) => write!(f, "rsassa-{bits}")?,
            AsymAlgorithm::RsaPss(bits) => write!(f, "rsapss-{bits}")?,
        }
        let measurements = self.measurement_hash.map_or("raw", HashAlgorithm::name);
        write!(f, " {} measurements-{measurements}", self.hash.name())
    }
}

impl Vca {
    /// Reads the six messages.
    ///
    /// # Errors
    /// [`VcaError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, VcaError> {
        let mut rest = bytes;
        let _: &abi::Header = take(&mut rest, VcaMessage::GetVersion, abi::VERSION_1_0)?;
        let listed: &abi::Version = take(&mut rest, VcaMessage::Version, abi::VERSION_1_0)?;
        let entries = split(&mut rest, usize::from(listed.num_entries).saturating_mul(2))
            .ok_or(VcaError::Short(VcaMessage::Version))?;

        // The requester chose the version; a message of another one may have another length.
        let message = VcaMessage::GetCapabilities;
        let wire = peek(rest, message)?.version;
        let version = SpdmVersion::from_wire(wire).ok_or(VcaError::Version(wire))?;
        if !entries.as_chunks::<2>().0.iter().any(|[_, listed]| *listed == wire) {
            return Err(VcaError::VersionNotListed(wire));
        }
        let _: &abi::Capabilities = take(&mut rest, message, wire)?;
        let capabilities: &abi::Capabilities = take(&mut rest, VcaMessage::Capabilities, wire)?;
        let signs_measurements = check_capabilities(capabilities)?;

        let message = VcaMessage::NegotiateAlgorithms;
        let start = rest;
        let offer: &abi::NegotiateAlgorithms = take(&mut rest, message, wire)?;
        let extended = u16::from(offer.ext_asym_count).saturating_add(offer.ext_hash_count.into());
        rest = variable(start, rest, message, offer.length.get(), extended, offer.header.param1)?;

        let message = VcaMessage::Algorithms;
        let start = rest;
        let chosen: &abi::Algorithms = take(&mut rest, message, wire)?;
        let (asym, hash) = (chosen.ext_asym_count, chosen.ext_hash_count);
        if asym != 0 || hash != 0 {
            return Err(VcaError::Extended { asym, hash });
        }
        rest = variable(start, rest, message, chosen.length.get(), 0, chosen.header.param1)?;
        if !rest.is_empty() {
            return Err(VcaError::Trailing(rest.len()));
        }
        let (asym, hash) = algorithms(offer, chosen)?;
        Ok(Self {
            version,
            hash,
            asym,
            scheme: asym.scheme(hash),
            measurement_hash: measurement_hash(chosen.measurement_hash.get())?,
            signs_measurements,
        })
    }
}

/// Tells whether measurements can be signed.
fn check_capabilities(capabilities: &abi::Capabilities) -> Result<bool, VcaError> {
    let param1 = capabilities.header.param1;
    if param1 & abi::SUPPORTED_ALGORITHMS != 0 {
        return Err(VcaError::SupportedAlgorithms(param1));
    }
    let flags = capabilities.flags.get();
    if flags & abi::CERT_CAP == 0 {
        return Err(VcaError::NoCertificates(flags));
    }
    match flags >> abi::MEAS_CAP_SHIFT & abi::MEAS_CAP_MASK {
        abi::MEAS_CAP_SIG => Ok(true),
        abi::MEAS_CAP_NO_SIG => Ok(false),
        _ => Err(VcaError::NoMeasurements(flags)),
    }
}

fn algorithms(
    offer: &abi::NegotiateAlgorithms,
    chosen: &abi::Algorithms,
) -> Result<(AsymAlgorithm, HashAlgorithm), VcaError> {
    let specification = chosen.measurement_specification;
    if specification != abi::MEASUREMENT_SPECIFICATION_DMTF {
        return Err(VcaError::MeasurementSpecification(specification));
    }
    let base_asym = chosen.base_asym.get();
    let asym = AsymAlgorithm::from_wire(base_asym).ok_or(VcaError::BaseAsym(base_asym))?;
    let base_hash = chosen.base_hash.get();
    let hash = match base_hash {
        abi::SHA_256 => HashAlgorithm::Sha256,
        abi::SHA_384 => HashAlgorithm::Sha384,
        abi::SHA_512 => HashAlgorithm::Sha512,
        _ => return Err(VcaError::BaseHash(base_hash)),
    };
    let choice = if specification & offer.measurement_specification == 0 {
        Choice::MeasurementSpecification
    } else if base_asym & offer.base_asym.get() == 0 {
        Choice::BaseAsym
    } else if base_hash & offer.base_hash.get() == 0 {
        Choice::BaseHash
    } else {
        return Ok((asym, hash));
    };
    Err(VcaError::NotOffered(choice))
}

fn measurement_hash(selection: u32) -> Result<Option<HashAlgorithm>, VcaError> {
    match selection {
        abi::MEASUREMENT_RAW_ONLY => Ok(None),
        abi::MEASUREMENT_SHA_256 => Ok(Some(HashAlgorithm::Sha256)),
        abi::MEASUREMENT_SHA_384 => Ok(Some(HashAlgorithm::Sha384)),
        abi::MEASUREMENT_SHA_512 => Ok(Some(HashAlgorithm::Sha512)),
        _ => Err(VcaError::MeasurementHash(selection)),
    }
}

/// Checks what follows the fixed part of a message that says its own length. `start`: from its first byte; `rest`: from
/// the end of the fixed part; `extended`: number of extended algorithms; `tables`: number of algorithm structures. Returns
/// what is behind the message.
fn variable<'a>(
    start: &'a [u8],
    rest: &'a [u8],
    message: VcaMessage,
    said: u16,
    extended: u16,
    tables: u8,
) -> Result<&'a [u8], VcaError> {
    let (whole, behind) = start.split_at_checked(said.into()).ok_or(VcaError::Short(message))?;
    let fixed = start.len().saturating_sub(rest.len());
    let parts = || {
        let mut parts = whole.get(fixed..)?;
        split(&mut parts, usize::from(extended).saturating_mul(abi::EXTENDED_ALGORITHM_LEN))?;
        for _ in 0..tables {
            let (table, behind) = abi::AlgorithmTable::ref_from_prefix(parts).ok()?;
            parts = behind;
            split(&mut parts, usize::from(table.count >> 4))?;
            split(&mut parts, usize::from(table.count & 0xF).saturating_mul(abi::EXTENDED_ALGORITHM_LEN))?;
        }
        parts.is_empty().then_some(behind)
    };
    parts().ok_or(VcaError::Length { message, said })
}

fn peek(bytes: &[u8], message: VcaMessage) -> Result<&abi::Header, VcaError> {
    let (header, _) = abi::Header::ref_from_prefix(bytes).map_err(|_| VcaError::Short(message))?;
    if header.code != message.code() {
        return Err(VcaError::Code { message, found: header.code });
    }
    Ok(header)
}

/// Takes the fixed part of `message`, which begins with a header of version `wanted`.
fn take<'a, T: FromBytes + KnownLayout + Immutable + Unaligned>(
    rest: &mut &'a [u8],
    message: VcaMessage,
    wanted: u8,
) -> Result<&'a T, VcaError> {
    let found = peek(rest, message)?.version;
    if found != wanted {
        return Err(VcaError::VersionDiffers { message, found, wanted });
    }
    let (fixed, behind) = T::ref_from_prefix(rest).map_err(|_| VcaError::Short(message))?;
    *rest = behind;
    Ok(fixed)
}

/// Takes `len` bytes.
pub(super) fn split<'a>(rest: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, behind) = rest.split_at_checked(len)?;
    *rest = behind;
    Some(taken)
}
