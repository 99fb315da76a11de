//! The measurement exchange: GET_MEASUREMENTS and MEASUREMENTS as they crossed the wire, in plaintext (DSP0274 1.2 and 1.3).
//!
//! Trust: the device's and the RMM's bytes through the host; they count only after their digest matched. What the device
//! says counts only after [`Exchange::verify`].
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::key::{Encoding, KeyKind, PublicKey, SignatureError};
use super::measurement::{Block, BlockError};
use super::vca::{AsymAlgorithm, SpdmVersion, Vca, split};
use crate::abi::spdm as abi;
use crate::digest::Digest;
use alloc::vec::Vec;
use thiserror::Error;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// Most bytes of a measurement record (the field has 24 bits).
pub const MAX_RECORD_BYTES: u32 = 256 * 1024;

/// Whether the device saw its measurements change after its certificate or an earlier measurement told of them
/// ("MEASUREMENTS response message", content changed).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentChanged {
    /// It does not look.
    NotDetected,
    /// They changed.
    Changed,
    /// They did not.
    Unchanged,
}

/// A message of the exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExchangeMessage {
    /// GET_MEASUREMENTS.
    Request,
    /// MEASUREMENTS.
    Response,
}

/// Why bytes are no exchange that we can rely on.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ExchangeError {
    /// The object ends inside this message.
    #[error("exchange ends inside its {0:?}")]
    Short(ExchangeMessage),
    /// Bytes behind the end.
    #[error("{0} bytes behind the exchange")]
    Trailing(usize),
    /// Another message stands where this one belongs.
    #[error("code {found:#x} where the {message:?} belongs")]
    Code {
        /// Message that belongs there.
        message: ExchangeMessage,
        /// Code found.
        found: u8,
    },
    /// Another version than the negotiation's.
    #[error("{message:?} has version {found:#x}, {wanted:#x} was negotiated")]
    Version {
        /// Message.
        message: ExchangeMessage,
        /// Version found.
        found: u8,
        /// Version of the negotiation.
        wanted: u8,
    },
    /// Request attributes that this version does not have.
    #[error("request attributes {0:#x}")]
    Attributes(u8),
    /// A signature was asked for, and the negotiation says that the device has none.
    #[error("signature from a device that said it does not sign")]
    CannotSign,
    /// Not all blocks were asked for.
    #[error("measurement operation {0:#x}, not all blocks")]
    Operation(u8),
    /// The request names a slot that cannot have a certificate chain.
    #[error("slot {0:#x} in the request")]
    Slot(u8),
    /// The response is about another slot.
    #[error("slot {found} in the response, {wanted} in the request")]
    SlotDiffers {
        /// Slot of the response.
        found: u8,
        /// Slot of the request.
        wanted: u8,
    },
    /// Param1 of the response is not zero.
    #[error("param1 {0:#x} in the response")]
    Param1(u8),
    /// Param2 of the response has reserved bits, or the reserved value of content changed.
    #[error("param2 {0:#x} in the response")]
    Param2(u8),
    /// More bytes of blocks than we take.
    #[error("measurement record of {0} bytes")]
    RecordTooLong(u32),
    /// A block that is not sound.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// No block.
    #[error("no measurement blocks")]
    NoBlocks,
    /// The record is longer than its blocks.
    #[error("{0} bytes behind the last measurement block")]
    RecordTrailing(usize),
    /// More opaque data than SPDM allows.
    #[error("{0} bytes of opaque data")]
    OpaqueTooLong(u16),
    /// The response does not echo the context of the request.
    #[error("requester context not echoed")]
    Context,
    /// The leaf key signed without the negotiation, or with the prefix of another version.
    #[error("the leaf key signed another transcript")]
    Transcript,
    /// No signature was asked for.
    #[error("measurements without signature")]
    Unsigned,
    /// The key of the leaf is not of the kind that was negotiated.
    #[error("the leaf key is not of the negotiated kind")]
    Key {
        /// Kind of the leaf's key.
        found: KeyKind,
        /// What was negotiated.
        wanted: AsymAlgorithm,
    },
    /// The leaf key did not sign this.
    #[error(transparent)]
    Signature(#[from] SignatureError),
}

/// One request for all measurements and the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exchange<'a> {
    /// A signature was asked for.
    pub signed: bool,
    /// Raw values were asked for.
    pub raw_requested: bool,
    /// New measurements were asked for (SPDM 1.3).
    pub new_requested: bool,
    /// Nonce of the request; only with a signature.
    pub requester_nonce: Option<[u8; abi::NONCE_LEN]>,
    /// Slot of the key that signs; 0 without a signature.
    pub slot: u8,
    /// What the device says about changes.
    pub content_changed: ContentChanged,
    /// The blocks, in the record's order; no index twice.
    pub blocks: Vec<Block<'a>>,
    /// Nonce of the response.
    pub responder_nonce: [u8; abi::NONCE_LEN],
    /// Opaque data.
    pub opaque: &'a [u8],
    /// Requester context (SPDM 1.3).
    pub context: Option<[u8; abi::CONTEXT_LEN]>,
    /// The signature, as long as the algorithm makes it.
    pub signature: Option<&'a [u8]>,
    /// Request and response without the signature: what is signed, behind the negotiation.
    transcript: &'a [u8],
}

impl<'a> Exchange<'a> {
    /// Reads an exchange that followed `vca`.
    ///
    /// # Errors
    /// [`ExchangeError`], but for those of [`Exchange::verify`].
    pub fn parse(bytes: &'a [u8], vca: &Vca) -> Result<Self, ExchangeError> {
        let mut rest = bytes;
        let message = ExchangeMessage::Request;
        let header: &abi::Header = head(&mut rest, message, vca)?;
        let attributes = header.param1;
        let has_context = vca.version == SpdmVersion::V13;
        let new = if has_context { abi::ATTRIBUTE_NEW } else { 0 };
        if attributes & !(abi::ATTRIBUTE_SIGNATURE | abi::ATTRIBUTE_RAW | new) != 0 {
            return Err(ExchangeError::Attributes(attributes));
        }
        if header.param2 != abi::OPERATION_ALL {
            return Err(ExchangeError::Operation(header.param2));
        }
        let signed = attributes & abi::ATTRIBUTE_SIGNATURE != 0;
        if signed && !vca.signs_measurements {
            return Err(ExchangeError::CannotSign);
        }
        let mut requester_nonce = None;
        let mut slot = 0;
        if signed {
            let request: &abi::SignatureRequest = take(&mut rest, message)?;
            requester_nonce = Some(request.nonce);
            slot = request.slot;
            if slot > abi::MAX_SLOT {
                return Err(ExchangeError::Slot(slot));
            }
        }
        let context = if has_context { Some(*take(&mut rest, message)?) } else { None };

        let message = ExchangeMessage::Response;
        let short = ExchangeError::Short(message);
        let response: &abi::Measurements = head(&mut rest, message, vca)?;
        let content_changed = check_params(&response.header, slot)?;
        let [low, middle, high] = response.record_len;
        let record_len = u32::from_le_bytes([low, middle, high, 0]);
        if record_len > MAX_RECORD_BYTES {
            return Err(ExchangeError::RecordTooLong(record_len));
        }
        let record = usize::try_from(record_len).ok().and_then(|len| split(&mut rest, len)).ok_or(short)?;
        let blocks = blocks(record, response.num_blocks, vca)?;
        let tail: &abi::MeasurementsTail = take(&mut rest, message)?;
        let opaque_len = tail.opaque_len.get();
        if opaque_len > abi::MAX_OPAQUE_LEN {
            return Err(ExchangeError::OpaqueTooLong(opaque_len));
        }
        let opaque = split(&mut rest, opaque_len.into()).ok_or(short)?;
        if let Some(context) = &context {
            let echo: &[u8; abi::CONTEXT_LEN] = take(&mut rest, message)?;
            if echo != context {
                return Err(ExchangeError::Context);
            }
        }
        let len = bytes.len().saturating_sub(rest.len());
        let transcript = bytes.get(..len).ok_or(short)?;
        let signature =
            if signed { Some(split(&mut rest, vca.asym.signature_len()).ok_or(short)?) } else { None };
        if !rest.is_empty() {
            return Err(ExchangeError::Trailing(rest.len()));
        }
        Ok(Self {
            signed,
            raw_requested: attributes & abi::ATTRIBUTE_RAW != 0,
            new_requested: attributes & abi::ATTRIBUTE_NEW != 0,
            requester_nonce,
            slot,
            content_changed,
            blocks,
            responder_nonce: tail.nonce,
            opaque,
            context,
            signature,
            transcript,
        })
    }

    /// Verifies that the leaf key signed negotiation, request and response ("Signature generation" and "MEASUREMENTS
    /// signature generation"). `vca_bytes` is what `vca` was parsed from.
    ///
    /// # Errors
    /// [`ExchangeError::Unsigned`], [`ExchangeError::Key`], [`ExchangeError::Signature`]; [`ExchangeError::Transcript`] where
    /// the key is right and what it signed is not.
    pub fn verify(&self, vca_bytes: &[u8], vca: &Vca, leaf: &PublicKey<'_>) -> Result<(), ExchangeError> {
        let signature = self.signature.ok_or(ExchangeError::Unsigned)?;
        let found = leaf.kind();
        if found != vca.asym.key_kind() {
            return Err(ExchangeError::Key { found, wanted: vca.asym });
        }
        let is_over = |version, parts: &[&[u8]]| {
            let hash = Digest::of(vca.hash, parts);
            let prefix = signing_prefix(version);
            leaf.verify(vca.scheme, Encoding::Fixed, &[&prefix, hash.as_bytes()], signature)
        };
        let result = is_over(vca.version, &[vca_bytes, self.transcript]);
        // What implementers get wrong: worth telling apart from another key, and no less refused.
        let mistakes: [(SpdmVersion, &[&[u8]]); 3] = [
            (vca.version, &[self.transcript]),
            (SpdmVersion::V12, &[vca_bytes, self.transcript]),
            (SpdmVersion::V13, &[vca_bytes, self.transcript]),
        ];
        if result == Err(SignatureError::Mismatch)
            && mistakes.iter().any(|(version, parts)| is_over(*version, parts).is_ok())
        {
            return Err(ExchangeError::Transcript);
        }
        Ok(result?)
    }
}

fn check_params(header: &abi::Header, wanted: u8) -> Result<ContentChanged, ExchangeError> {
    if header.param1 != 0 {
        return Err(ExchangeError::Param1(header.param1));
    }
    let found = header.param2 & abi::SLOT_MASK;
    if found != wanted {
        return Err(ExchangeError::SlotDiffers { found, wanted });
    }
    match header.param2 >> 4 {
        0 => Ok(ContentChanged::NotDetected),
        1 => Ok(ContentChanged::Changed),
        2 => Ok(ContentChanged::Unchanged),
        _ => Err(ExchangeError::Param2(header.param2)),
    }
}

fn blocks<'a>(record: &'a [u8], count: u8, vca: &Vca) -> Result<Vec<Block<'a>>, ExchangeError> {
    let mut blocks: Vec<Block<'a>> = Vec::new();
    let mut rest = record;
    for _ in 0..count {
        let block = Block::take(&mut rest, vca.measurement_hash)?;
        if blocks.iter().any(|other| other.index == block.index) {
            return Err(BlockError::Twice(block.index).into());
        }
        blocks.push(block);
    }
    if !rest.is_empty() {
        return Err(ExchangeError::RecordTrailing(rest.len()));
    }
    if blocks.is_empty() { Err(ExchangeError::NoBlocks) } else { Ok(blocks) }
}

/// What stands in front of the hash: four times the version's text, zeros, and the context at the end.
fn signing_prefix(version: SpdmVersion) -> [u8; abi::SIGNING_PREFIX_LEN] {
    let text = match version {
        SpdmVersion::V12 => abi::SIGNING_VERSION_1_2,
        SpdmVersion::V13 => abi::SIGNING_VERSION_1_3,
    };
    let mut prefix = [0; abi::SIGNING_PREFIX_LEN];
    prefix
        .iter_mut()
        .zip(text.iter().cycle().take(abi::SIGNING_VERSIONS_LEN))
        .for_each(|(to, from)| *to = *from);
    prefix.iter_mut().rev().zip(abi::SIGNING_MEASUREMENTS.iter().rev()).for_each(|(to, from)| *to = *from);
    prefix
}

/// Takes the fixed part of `message`, after a look at its header.
fn head<'a, T: FromBytes + KnownLayout + Immutable + Unaligned>(
    rest: &mut &'a [u8],
    message: ExchangeMessage,
    vca: &Vca,
) -> Result<&'a T, ExchangeError> {
    let mut ahead = *rest;
    let header: &abi::Header = take(&mut ahead, message)?;
    let (found, wanted) = (header.version, vca.version.wire());
    if found != wanted {
        return Err(ExchangeError::Version { message, found, wanted });
    }
    let code = match message {
        ExchangeMessage::Request => abi::GET_MEASUREMENTS,
        ExchangeMessage::Response => abi::MEASUREMENTS,
    };
    if header.code != code {
        return Err(ExchangeError::Code { message, found: header.code });
    }
    take(rest, message)
}

fn take<'a, T: FromBytes + KnownLayout + Immutable + Unaligned>(
    rest: &mut &'a [u8],
    message: ExchangeMessage,
) -> Result<&'a T, ExchangeError> {
    let (value, behind) = T::ref_from_prefix(rest).map_err(|_| ExchangeError::Short(message))?;
    *rest = behind;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_is_four_times_the_version_then_zeros_then_the_context() {
        for (version, digit) in [(SpdmVersion::V12, '2'), (SpdmVersion::V13, '3')] {
            let mut want = format!("dmtf-spdm-v1.{digit}.*").repeat(4).into_bytes();
            want.extend([0; 6]);
            want.extend(b"responder-measurements signing");
            assert_eq!(signing_prefix(version).as_slice(), want);
        }
    }
}
