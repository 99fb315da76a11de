//! The negotiation: GET_VERSION to ALGORITHMS, six messages one after the other.

use alloc::vec::Vec;

use super::Session;
use crate::digest::HashAlgorithm;
use crate::scenario::{Asym, MeasurementHash, SpdmVersion};

/// Codes.
const GET_VERSION: u8 = 0x84;
const VERSION: u8 = 0x04;
const GET_CAPABILITIES: u8 = 0xE1;
const CAPABILITIES: u8 = 0x61;
const NEGOTIATE_ALGORITHMS: u8 = 0xE3;
const ALGORITHMS: u8 = 0x63;

/// Capabilities of both sides: encryption, MAC, key exchange.
const SESSION_FLAGS: u32 = 1 << 6 | 1 << 7 | 1 << 9;
/// Of the responder: certificates, fresh measurements; with signature, or without.
const CERT: u32 = 1 << 1;
const MEAS_FRESH: u32 = 1 << 5;
const MEAS_SIGNED: u32 = 0b10 << 3;
const MEAS_UNSIGNED: u32 = 0b01 << 3;
/// Longest message.
const MESSAGE_LEN: u32 = 0x1200;

/// DMTF measurements, opaque data of general form.
const DMTF: u8 = 1;
const OPAQUE_FORMAT: u8 = 0b10;
/// Algorithm structures: type, and what is selected: secp384r1, AES-256-GCM, no requester signature, SPDM key schedule.
const STRUCTURES: [(u8, u16); 4] = [(2, 0x10), (3, 0x02), (4, 0), (5, 0x01)];
/// What the requester offers: RSASSA-3072, P-256, P-384; SHA-256, SHA-384, SHA-512.
const OFFERED_ASYM: u32 = 0x94;
const OFFERED_HASH: u32 = 0b111;

impl Session {
    /// The VCA object.
    pub(crate) fn vca(&self) -> Vec<u8> {
        let mut vca = Vec::new();
        vca.extend([0x10, GET_VERSION, 0, 0]);
        vca.extend([0x10, VERSION, 0, 0, 0, 1]);
        vca.extend((u16::from(self.version()) << 8).to_le_bytes());
        let measures = if self.spec.signed { MEAS_SIGNED } else { MEAS_UNSIGNED };
        vca.extend(self.capabilities(GET_CAPABILITIES, SESSION_FLAGS));
        vca.extend(self.capabilities(CAPABILITIES, SESSION_FLAGS | CERT | MEAS_FRESH | measures));
        vca.extend(self.algorithms(NEGOTIATE_ALGORITHMS));
        vca.extend(self.algorithms(ALGORITHMS));
        vca
    }

    fn capabilities(&self, code: u8, flags: u32) -> Vec<u8> {
        let mut message = Vec::from([self.version(), code, 0, 0, 0, 0, 0, 0]);
        message.extend(flags.to_le_bytes());
        if self.spec.version != SpdmVersion::V11 {
            message.extend(MESSAGE_LEN.to_le_bytes());
            message.extend(MESSAGE_LEN.to_le_bytes());
        }
        message
    }

    fn algorithms(&self, code: u8) -> Vec<u8> {
        let is_request = code == NEGOTIATE_ALGORITHMS;
        let parameters = if self.spec.version == SpdmVersion::V11 { 0 } else { OPAQUE_FORMAT };
        let mut body = Vec::from([DMTF, parameters]);
        if is_request {
            body.extend(OFFERED_ASYM.to_le_bytes());
            body.extend(OFFERED_HASH.to_le_bytes());
        } else {
            body.extend(self.measurement_hash().to_le_bytes());
            body.extend(self.asym().to_le_bytes());
            body.extend(self.base_hash().to_le_bytes());
        }
        // Reserved, no extended algorithms, reserved.
        body.extend([0; 12 + 2 + 2]);
        for (number, selected) in STRUCTURES {
            body.extend([number, 0x20]);
            body.extend(selected.to_le_bytes());
        }
        let mut message = Vec::from([self.version(), code, STRUCTURES.len() as u8, 0]);
        message.extend((body.len() as u16 + 6).to_le_bytes());
        message.extend(body);
        message
    }

    fn measurement_hash(&self) -> u32 {
        match self.spec.measurement_hash {
            MeasurementHash::Raw => 1 << 0,
            MeasurementHash::Sha256 => 1 << 1,
            MeasurementHash::Sha384 => 1 << 2,
            MeasurementHash::Sha512 => 1 << 3,
        }
    }

    fn asym(&self) -> u32 {
        match self.spec.asym {
            Asym::Rsa3072 => 1 << 2,
            Asym::P256 => 1 << 4,
            Asym::P384 => 1 << 7,
        }
    }

    fn base_hash(&self) -> u32 {
        match self.spec.hash {
            HashAlgorithm::Sha256 => 1 << 0,
            HashAlgorithm::Sha384 => 1 << 1,
            HashAlgorithm::Sha512 => 1 << 2,
        }
    }
}
