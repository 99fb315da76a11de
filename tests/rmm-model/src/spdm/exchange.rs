//! GET_MEASUREMENTS and MEASUREMENTS, one after the other.

use alloc::vec::Vec;

use super::sign::Key;
use super::{Session, units};
use crate::digest::HashAlgorithm;
use crate::rng::Rng;
use crate::scenario::{BlockSpec, MeasurementHash, SpdmVersion};

/// Codes.
const GET_MEASUREMENTS: u8 = 0xE0;
const MEASUREMENTS: u8 = 0x60;
/// Attributes of the request.
const SIGNATURE: u8 = 1 << 0;
const RAW: u8 = 1 << 1;
/// All blocks.
const ALL: u8 = 0xFF;
/// Specification of a block, and its raw bit.
const DMTF: u8 = 1;
const RAW_VALUE: u8 = 1 << 7;
/// Block that is signed instead of the bare hash, from SPDM 1.2 on: prefix four times, zeros, context at its end.
const BLOCK_LEN: usize = 100;
const PREFIX_12: &[u8; 16] = b"dmtf-spdm-v1.2.*";
const PREFIX_13: &[u8; 16] = b"dmtf-spdm-v1.3.*";
const CONTEXT: &[u8; 30] = b"responder-measurements signing";

/// What the realm asks for, as the RMM gets it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    /// Nonce of the parameters.
    pub(crate) nonce: [u8; 32],
    /// Raw bit streams.
    pub(crate) raw: bool,
}

/// What is wrong with an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Signed by a key that the certificate does not name.
    ForeignKey,
    /// Signed without the negotiation.
    Transcript,
    /// The request carries another nonce than it should.
    OldNonce,
}

impl Session {
    /// Makes exchange number `generation`; the signature is over `vca` as the host cached it.
    pub(crate) fn exchange(&self, vca: &[u8], ask: Ask, generation: u64, fault: Option<Fault>) -> Vec<u8> {
        let mut random = Rng::new(self.seed.wrapping_add(generation << 32));
        let (old, responder_nonce, context) = (random.bytes(32), random.bytes(32), random.bytes(8));
        let nonce = match fault {
            _ if !self.spec.forwards_nonce => Vec::from([0; 32]),
            Some(Fault::OldNonce) => old,
            _ => ask.nonce.to_vec(),
        };
        let has_context = self.spec.version == SpdmVersion::V13;
        let is_signed = self.spec.signed;

        let attributes = if is_signed { SIGNATURE } else { 0 } | if ask.raw { RAW } else { 0 };
        let mut bytes = Vec::from([self.version(), GET_MEASUREMENTS, attributes, ALL]);
        if is_signed {
            bytes.extend(nonce);
            bytes.push(self.slot & 0xF);
        }
        if has_context {
            bytes.extend(&context);
        }

        let changed = self.spec.content_changed & 0b11;
        let parameter = if is_signed { changed << 4 | self.slot & 0xF } else { changed << 4 };
        let record = self.record();
        bytes.extend([self.version(), MEASUREMENTS, 0, parameter, self.blocks.len() as u8]);
        bytes.extend(&(record.len() as u32).to_le_bytes()[..3]);
        bytes.extend(record);
        bytes.extend(responder_nonce);
        bytes.extend((self.opaque.len() as u16).to_le_bytes());
        bytes.extend(&self.opaque);
        if has_context {
            bytes.extend(&context);
        }
        if is_signed {
            let signature = self.sign(vca, &bytes, fault);
            bytes.extend(signature);
        }
        bytes
    }

    fn record(&self) -> Vec<u8> {
        let mut record = Vec::new();
        for (block, hex) in &self.blocks {
            let (is_raw, value) = self.value(block, hex);
            let kind = block.kind & 0x7F | if is_raw { RAW_VALUE } else { 0 };
            record.extend([block.index, DMTF]);
            record.extend((value.len() as u16 + 3).to_le_bytes());
            record.push(kind);
            record.extend((value.len() as u16).to_le_bytes());
            record.extend(value);
        }
        record
    }

    /// Whether the value of a block is raw, and the value.
    fn value(&self, block: &BlockSpec, hex: &[u8]) -> (bool, Vec<u8>) {
        let text = block.text.as_bytes();
        let digest = |hash: HashAlgorithm| (false, hash.digest(&[text]));
        match (block.svn, self.spec.measurement_hash) {
            _ if !hex.is_empty() => (block.raw, hex.to_vec()),
            (Some(svn), _) => (true, svn.to_le_bytes().to_vec()),
            _ if block.raw => (true, text.to_vec()),
            (None, MeasurementHash::Raw) => (true, text.to_vec()),
            (None, MeasurementHash::Sha256) => digest(HashAlgorithm::Sha256),
            (None, MeasurementHash::Sha384) => digest(HashAlgorithm::Sha384),
            (None, MeasurementHash::Sha512) => digest(HashAlgorithm::Sha512),
        }
    }

    /// Signs the messages with what comes before them.
    fn sign(&self, vca: &[u8], messages: &[u8], fault: Option<Fault>) -> Vec<u8> {
        let vca = if fault == Some(Fault::Transcript) { &[][..] } else { vca };
        let hash = self.spec.hash;
        let digest = match self.spec.version {
            SpdmVersion::V11 => hash.digest(&[messages]),
            SpdmVersion::V12 => hash.digest(&[&signed_block(PREFIX_12), &hash.digest(&[vca, messages])]),
            SpdmVersion::V13 => hash.digest(&[&signed_block(PREFIX_13), &hash.digest(&[vca, messages])]),
        };
        if fault != Some(Fault::ForeignKey) {
            return self.key.sign(&digest, hash);
        }
        let foreign = units::foreign(self.spec.asym).and_then(|key| Key::read(self.spec.asym, key));
        match foreign {
            Some(key) => key.sign(&digest, hash),
            // No second RSA key: another number of the right length, below any modulus.
            None => {
                let mut other = Rng::new(self.seed).bytes(384);
                other[0] = 0;
                other
            }
        }
    }
}

fn signed_block(prefix: &[u8; 16]) -> [u8; BLOCK_LEN] {
    let mut block = [0; BLOCK_LEN];
    for part in block.chunks_mut(16).take(4) {
        part.copy_from_slice(prefix);
    }
    block[BLOCK_LEN - CONTEXT.len()..].copy_from_slice(CONTEXT);
    block
}
