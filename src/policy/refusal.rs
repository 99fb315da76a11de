//! Why the policy does not accept a function: the rule, what was found, what was wanted.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::types::EvidenceClass;
use crate::addr::Bdf;
use crate::codes::StopCode;
use crate::evidence::{ChainError, ExchangeError, FlagError, MeasurementError, ReportError, VcaError};
use crate::mapping::MappingListError;
use alloc::string::String;
use thiserror::Error;

/// What was wrong.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Refusal {
    /// The evidence is of a weaker kind than the rule demands, or of another.
    #[error("evidence is {found}, the rule wants {wanted}")]
    Class {
        /// What it is.
        found: EvidenceClass,
        /// What the rule demands.
        wanted: EvidenceClass,
    },
    /// The certificate chain.
    #[error("certificate chain: {0}")]
    Chain(#[from] ChainError),
    /// The negotiation data.
    #[error("negotiation data: {0}")]
    Vca(#[from] VcaError),
    /// The measurement exchange.
    #[error("measurements: {0}")]
    Exchange(#[from] ExchangeError),
    /// The public key that the RMM's session was made with is not that of the leaf certificate.
    #[error(
        "the RMM's session is under another key than the leaf certificate's: the host gave it a key of its own"
    )]
    SessionKey,
    /// The request does not hold our nonce.
    #[error(
        "the SPDM request does not hold the firmware's nonce; an RMM that is known not to forward it needs rmm.forwards-nonce = false"
    )]
    Nonce,
    /// A measurement changed while it was taken.
    #[error("the device says that its content changed while it was measured")]
    ContentChanged,
    /// A reference value.
    #[error("{0}")]
    Measurement(#[from] MeasurementError),
    /// A measurement is none of the reference values.
    #[error("measurement {index:#x}: found {found}, wanted {wanted}")]
    Value {
        /// Index of the block.
        index: u8,
        /// What the device reports.
        found: String,
        /// What the rule names.
        wanted: String,
    },
    /// The device is not in its normal mode, or debug is or was on.
    #[error("the device mode is {0}")]
    DeviceMode(&'static str),
    /// The interface report is no report.
    #[error("interface report: {0}")]
    Report(#[from] ReportError),
    /// The interface report's flags.
    #[error("interface report: {0}")]
    Flags(#[from] FlagError),
    /// The interface report does not fit the BARs.
    #[error("interface report: {0}")]
    Mapping(#[from] MappingListError),
    /// The unit that it proves to be is none that a rule for this place names.
    #[error("unit \"{subject}\" with leaf key {leaf_key} is none of those that the rule names")]
    UnknownUnit {
        /// Subject of its leaf certificate.
        subject: String,
        /// Digest of its leaf key, as a policy names it.
        leaf_key: String,
    },
    /// The unit is pinned to another place.
    #[error("unit \"{subject}\" belongs to rule {rule}, which does not take this place")]
    UnitElsewhere {
        /// Subject of its leaf certificate.
        subject: String,
        /// Name of the rule that names it.
        rule: String,
    },
    /// Another function shows the same leaf key.
    #[error("the same unit as {0}: one physical device, and the rule has no same-unit = true")]
    SameUnit(Bdf),
    /// More functions prove to be what the rule takes than it wants.
    #[error("the rule has its count already")]
    NoRoom,
    /// None of the rule's modes is possible with this payload on this machine.
    #[error("none of the rule's modes is possible: {0}")]
    NoMode(&'static str),
}

impl Refusal {
    /// Returns the code of the refusal (docs/codes.md).
    #[must_use]
    pub fn code(&self) -> StopCode {
        match self {
            Self::Class { found: EvidenceClass::Unauthenticated, .. } => StopCode::Unsigned,
            Self::Class { .. } => StopCode::EvidenceKind,
            Self::Chain(error) => chain(error),
            Self::Vca(error) => vca(error),
            Self::Exchange(error) => exchange(error),
            Self::SessionKey => StopCode::SessionKey,
            Self::Nonce => StopCode::RequesterNonce,
            Self::ContentChanged => StopCode::ContentChanged,
            Self::Measurement(error) => measurement(error),
            Self::Value { .. } => StopCode::MeasurementMismatch,
            Self::DeviceMode(_) => StopCode::DeviceMode,
            Self::Report(error) => report(error),
            Self::Flags(error) => flags(error),
            Self::Mapping(error) => mapping(error),
            Self::UnknownUnit { .. } => StopCode::UnknownUnit,
            Self::UnitElsewhere { .. } => StopCode::UnitElsewhere,
            Self::SameUnit(_) => StopCode::SameUnit,
            Self::NoRoom => StopCode::NoRoomInRule,
            Self::NoMode(_) => StopCode::NoMode,
        }
    }
}

fn chain(error: &ChainError) -> StopCode {
    match error {
        ChainError::NoAnchor => StopCode::ChainNoAnchor,
        ChainError::Expired { .. } => StopCode::ChainExpired,
        ChainError::BadSignature { .. } => StopCode::ChainSignature,
        ChainError::NotCa { .. } => StopCode::ChainNotCa,
        ChainError::PathLength { .. } => StopCode::ChainPathLength,
        ChainError::UnknownCritical { .. } => StopCode::ChainCritical,
        ChainError::WeakAlgorithm { .. } | ChainError::UnknownAlgorithm { .. } => StopCode::ChainAlgorithm,
        ChainError::WeakKey { .. } | ChainError::RsaDisabled { .. } => StopCode::ChainKey,
        ChainError::DeniedLeaf => StopCode::ChainDeniedLeaf,
        ChainError::DeniedSerial { .. } => StopCode::ChainDeniedSerial,
        ChainError::KeyUsage { .. } | ChainError::ExtendedKeyUsage { .. } | ChainError::LeafIsCa { .. } => {
            StopCode::ChainKeyUsage
        }
        ChainError::TooLong(_)
        | ChainError::TooMany
        | ChainError::CertificateTooLong { .. }
        | ChainError::NameTooLong { .. }
        | ChainError::TooManyExtensions { .. } => StopCode::ChainLimit,
        ChainError::RootHash => StopCode::ChainRootHash,
        _ => StopCode::ChainMalformed,
    }
}

fn vca(error: &VcaError) -> StopCode {
    match error {
        VcaError::Version(_) => StopCode::SpdmVersion,
        VcaError::BaseAsym(_) | VcaError::BaseHash(_) | VcaError::MeasurementHash(_) => {
            StopCode::SpdmAlgorithm
        }
        _ => StopCode::VcaMalformed,
    }
}

fn exchange(error: &ExchangeError) -> StopCode {
    match error {
        ExchangeError::Signature(_) | ExchangeError::Key { .. } => StopCode::ExchangeSignature,
        ExchangeError::Transcript => StopCode::ExchangeTranscript,
        ExchangeError::Unsigned => StopCode::Unsigned,
        _ => StopCode::ExchangeMalformed,
    }
}

fn measurement(error: &MeasurementError) -> StopCode {
    match error {
        MeasurementError::NotFound { .. } => StopCode::MeasurementAbsent,
        MeasurementError::Mismatch { .. } => StopCode::MeasurementMismatch,
        MeasurementError::SvnTooLow { .. } => StopCode::SvnTooLow,
        _ => StopCode::MeasurementForm,
    }
}

fn report(error: &ReportError) -> StopCode {
    match error {
        ReportError::Wraps(_) => StopCode::ReportWraps,
        _ => StopCode::ReportMalformed,
    }
}

fn flags(error: &FlagError) -> StopCode {
    match error {
        FlagError::FirmwareUpdate => StopCode::ReportFirmwareUpdate,
        FlagError::NoPlainDma => StopCode::ReportPlainDma,
        FlagError::Pasid => StopCode::ReportPasid,
        FlagError::Ats => StopCode::ReportAts,
        FlagError::Prs => StopCode::ReportPrs,
    }
}

fn mapping(error: &MappingListError) -> StopCode {
    match error {
        MappingListError::BadId { .. } | MappingListError::SmallBar(_) => StopCode::ReportId,
        MappingListError::PastBar { .. } | MappingListError::Address(_) => StopCode::ReportPastBar,
        MappingListError::ReportingOffset { .. } | MappingListError::ByteAddress { .. } => {
            StopCode::ReportingOffset
        }
        MappingListError::SecondRange { .. } | MappingListError::Order { .. } => StopCode::ReportOrder,
        MappingListError::Overlap { .. } => StopCode::ReportOverlap,
        MappingListError::Duplicate { .. } => StopCode::ReportDuplicate,
        MappingListError::MsixTable { .. } => StopCode::ReportMsix,
        MappingListError::MsixPba { .. } => StopCode::ReportPba,
        MappingListError::Uncovered { .. } => StopCode::ReportIncomplete,
        MappingListError::NonTee { .. } => StopCode::ReportNonTee,
        MappingListError::NoTeeRange => StopCode::ReportNoTeeRange,
    }
}
