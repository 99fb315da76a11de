//! The VDEV commands: what the RMM vouches for, mapping validation, the DMA switch.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::config::HashAlgorithm;
use super::invoke::call_vdev;
use super::range::{Halt, advance};
use super::{Client, Command, RsiError};
use crate::abi::rsi as abi;
use crate::addr::{IpaRange, VdevId};
use crate::conduit::{CallBuf, Conduit};
use alloc::boxed::Box;
use thiserror::Error;

/// Buffer of RSI_VDEV_GET_INFO. Allocated and written (zeroed) before the first call, so stage 2 maps it.
pub type InfoBuf = CallBuf<abi::VdevInfoD>;

/// State of a VDEV in the RMM (B5.5.30, layout D).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VdevState {
    /// Not locked.
    Unlocked,
    /// CONFIG_LOCKED.
    Locked,
    /// RUN.
    Started,
    /// The RMM noticed a violation.
    Error,
}

/// The three values that tie evidence to its use. Compare for equality only; any value is legal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nonces {
    /// Of the lock.
    pub lock: u64,
    /// Of the measurement exchange.
    pub measurement: u64,
    /// Of the interface report.
    pub report: u64,
}

/// What the cached objects hash to, each in a 64-byte zero-filled field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests {
    /// Negotiation data.
    pub vca: [u8; 64],
    /// Certificate chain.
    pub certificate: [u8; 64],
    /// Public key that the session was made with; zero where the RMM does not say.
    pub public_key: [u8; 64],
    /// Measurement exchange.
    pub measurement: [u8; 64],
    /// Interface report.
    pub report: [u8; 64],
}

impl Digests {
    /// Tells whether the RMM never spoke SPDM with the device: it has no digest of what SPDM produces.
    #[must_use]
    pub fn is_without_spdm(&self) -> bool {
        let fields = [&self.vca, &self.certificate, &self.public_key, &self.measurement];
        fields.iter().all(|digest| digest.iter().all(|byte| *byte == 0))
    }

    /// Returns the digests of objects with their names.
    #[must_use]
    pub fn named(&self) -> [(&'static str, &[u8; 64]); 4] {
        [
            ("vca", &self.vca),
            ("certificate", &self.certificate),
            ("measurement", &self.measurement),
            ("report", &self.report),
        ]
    }
}

/// What the RMM recorded for a VDEV.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VdevInfo {
    /// State.
    pub state: VdevState,
    /// Algorithm of the digests.
    pub hash: HashAlgorithm,
    /// The current nonces.
    pub nonces: Nonces,
    /// The current digests.
    pub digests: Box<Digests>,
}

/// Why a mapping was not validated. Pages below `at` may already be DEV.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum MappingError {
    /// The RMM answered with an error or outside its ABI.
    #[error(transparent)]
    Rsi(#[from] RsiError),
    /// The host refused from this address on.
    #[error("the host refused the mapping at {0:#x}")]
    Rejected(u64),
    /// Accepted again and again without progress at this address.
    #[error("no progress at {0:#x}")]
    Stalled(u64),
}

impl From<Halt> for MappingError {
    fn from(halt: Halt) -> Self {
        match halt {
            Halt::Rejected(at) => Self::Rejected(at),
            Halt::Stalled(at) => Self::Stalled(at),
        }
    }
}

impl<C: Conduit> Client<'_, C> {
    /// Reads what the RMM recorded for `vdev` (RSI_VDEV_GET_INFO).
    ///
    /// `buf`: overwritten on success.
    ///
    /// # Errors
    /// [`RsiError::Status`] for any reply but success (Input: the id is not bound), [`RsiError::BadReply`] when a field
    /// is outside the specification's values or the structure is not layout D.
    pub fn vdev_get_info(&mut self, vdev: VdevId, buf: &mut InfoBuf) -> Result<VdevInfo, RsiError> {
        self.session.require_device_assignment()?;
        let args = [vdev.raw(), buf.ipa()];
        call_vdev(self.conduit, Command::VdevGetInfo, &args)?;
        decode(buf.get())
    }

    /// Asks that `range` map the device memory at report address `report_base`, under `nonces`
    /// (RSI_VDEV_VALIDATE_MAPPING); several steps where the host works in steps.
    ///
    /// # Errors
    /// [`MappingError`]: part of the range may be DEV then, the caller rolls it back.
    pub fn vdev_validate_mapping(
        &mut self,
        vdev: VdevId,
        range: IpaRange,
        report_base: u64,
        nonces: Nonces,
    ) -> Result<(), MappingError> {
        self.session.require_device_assignment()?;
        let command = Command::VdevValidateMapping;
        advance(command, range, |base| {
            let done = base.saturating_sub(range.base());
            let bad = RsiError::BadReply { command, register: 1, value: base };
            let args = [
                vdev.raw(),
                base,
                range.top(),
                report_base.checked_add(done).ok_or(bad)?,
                0, // non-coherent, no limited order: what every known RMM supports
                nonces.lock,
                nonces.measurement,
                nonces.report,
            ];
            call_vdev(self.conduit, command, &args)
        })
    }

    /// Opens the SMMU for a started VDEV, without ATS and without planes (RSI_VDEV_DMA_ENABLE, six arguments).
    ///
    /// # Errors
    /// [`RsiError::Status`]: Device for stale nonces or a VDEV that is not STARTED.
    pub fn vdev_dma_enable(&mut self, vdev: VdevId, nonces: Nonces) -> Result<(), RsiError> {
        self.session.require_device_assignment()?;
        let args = [vdev.raw(), 0, 0, nonces.lock, nonces.measurement, nonces.report];
        call_vdev(self.conduit, Command::VdevDmaEnable, &args).map(drop)
    }

    /// Closes the SMMU for `vdev`, in any state (RSI_VDEV_DMA_DISABLE).
    ///
    /// # Errors
    /// [`RsiError::Status`].
    pub fn vdev_dma_disable(&mut self, vdev: VdevId) -> Result<(), RsiError> {
        self.session.require_device_assignment()?;
        call_vdev(self.conduit, Command::VdevDmaDisable, &[vdev.raw()]).map(drop)
    }
}

/// Reads layout D. Byte offsets above 17 name the field in an error.
fn decode(raw: &abi::VdevInfoD) -> Result<VdevInfo, RsiError> {
    let bad = |register, value| RsiError::BadReply { command: Command::VdevGetInfo, register, value };
    if raw.report_format != abi::REPORT_FORMAT_TDISP {
        return Err(bad(0x30, raw.report_format.into()));
    }
    if raw.report_format_version.get() != abi::REPORT_FORMAT_VERSION_1_0 {
        return Err(bad(0x38, raw.report_format_version.get()));
    }
    let state = match raw.state {
        abi::VDEV_UNLOCKED => VdevState::Unlocked,
        abi::VDEV_LOCKED => VdevState::Locked,
        abi::VDEV_STARTED => VdevState::Started,
        abi::VDEV_ERROR => VdevState::Error,
        other => return Err(bad(0x40, other.into())),
    };
    let hash =
        HashAlgorithm::from_raw(raw.hash_algorithm).ok_or_else(|| bad(0x10, raw.hash_algorithm.into()))?;
    Ok(VdevInfo {
        state,
        hash,
        nonces: Nonces {
            lock: raw.lock_nonce.get(),
            measurement: raw.measurement_nonce.get(),
            report: raw.report_nonce.get(),
        },
        digests: Box::new(Digests {
            vca: raw.vca_digest,
            certificate: raw.certificate_digest,
            public_key: raw.public_key_digest,
            measurement: raw.measurement_digest,
            report: raw.report_digest,
        }),
    })
}
