//! The device's SPDM responder, as far as the realm sees it: objects that the host cached of a session between RMM and
//! device (DSP0274; `tdisp.md` section 4).
//!
//! Choices: a device ignores the wish for raw bit streams; nonces of requester context and responder come from the
//! scenario's seed, so that a run can be repeated byte by byte.

mod certificate;
mod exchange;
mod sign;
mod units;
mod vca;

use alloc::vec::Vec;

pub(crate) use certificate::public_key;
pub(crate) use exchange::{Ask, Fault};

use crate::scenario::{BlockSpec, DeviceSpec, SpdmSpec, SpdmVersion, default_blocks};
use crate::setup::SetupError;
use sign::Key;

/// The session of one device.
pub(crate) struct Session {
    spec: SpdmSpec,
    /// Certificate slot.
    slot: u8,
    blocks: Vec<(BlockSpec, Vec<u8>)>,
    opaque: Vec<u8>,
    /// DER certificates, root first.
    chain: Vec<u8>,
    key: Key,
    seed: u64,
}

impl Session {
    /// Reads what the scenario says; `unit` is the built-in leaf for which it says none.
    pub(crate) fn new(device: &DeviceSpec, unit: usize, seed: u64) -> Result<Session, SetupError> {
        let spec = &device.spdm;
        let slot = || device.slot.clone();
        let unit = spec.unit.map_or(unit, usize::from);
        let (chain, key) = units::of(spec.asym, unit).ok_or_else(|| SetupError::Unit(slot()))?;
        let bytes = |blob: &crate::scenario::Blob| Ok(crate::device::blob(blob, seed)?.bytes(0));
        let chain = spec.chain.as_ref().map_or_else(|| Ok(chain.to_vec()), bytes)?;
        let key = spec.key.as_ref().map_or_else(|| Ok(key.to_vec()), bytes)?;
        let key = Key::read(spec.asym, &key).ok_or_else(|| SetupError::Key(slot()))?;
        let blocks = if spec.blocks.is_empty() { default_blocks() } else { spec.blocks.clone() };
        let blocks = blocks.into_iter().map(|block| {
            let hex =
                crate::digest::from_hex(&block.hex).ok_or_else(|| SetupError::Hex(block.hex.clone()))?;
            Ok((block, hex))
        });
        Ok(Session {
            slot: spec.slot.unwrap_or(device.certificate_slot as u8),
            blocks: blocks.collect::<Result<_, SetupError>>()?,
            opaque: bytes(&spec.opaque)?,
            chain,
            key,
            seed,
            spec: spec.clone(),
        })
    }

    /// Version byte of the messages.
    fn version(&self) -> u8 {
        match self.spec.version {
            SpdmVersion::V11 => 0x11,
            SpdmVersion::V12 => 0x12,
            SpdmVersion::V13 => 0x13,
        }
    }
}
