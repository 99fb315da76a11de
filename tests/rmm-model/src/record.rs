//! The trace: what the model saw and did, one record a line.

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::final_state::TdiState;
use crate::machine::DmaGate;
use crate::ripas::Ripas;

/// A name spelled as in the specification.
pub type Name = Cow<'static, str>;

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Number of the record, from 0, without gaps (records that a flag suppresses take no number).
    pub seq: u64,
    /// The system counter.
    pub ticks: u64,
    /// What happened.
    pub event: Event,
}

/// What happened. Calls are recorded when they return, after everything that they caused.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Event {
    /// One RSI call.
    Rsi {
        /// `RSI_VDEV_GET_INFO` and so on.
        call: Name,
        /// x1 and up, as many as the command defines.
        args: Vec<u64>,
        /// x0 at the end.
        status: u64,
        /// x1 and up at the end, as many as the command defines.
        results: Vec<u64>,
        /// Device that the call names, if it exists.
        vdev: Option<u64>,
    },
    /// One RHI call inside a HOST_CALL.
    Rhi {
        /// `RHI_DA_OBJECT_READ` and so on.
        call: Name,
        /// gprs[1] and up.
        args: Vec<u64>,
        /// gprs[0] at the end.
        status: u64,
        /// gprs[1] and up at the end, as many as the call defines.
        results: Vec<u64>,
        /// Device that the call names, if the host knows it.
        vdev: Option<u64>,
    },
    /// One PSCI call or SMCCC_VERSION.
    Psci {
        /// `PSCI_SYSTEM_OFF` and so on.
        call: Name,
        /// x1..x3.
        args: Vec<u64>,
        /// x0 at the end.
        status: u64,
    },
    /// An SMC with an unknown function id; the answer was all ones.
    UnknownSmc {
        /// x0.
        fid: u64,
    },
    /// One access to configuration space, as the realm sees it.
    Config {
        /// Routing id.
        rid: u16,
        /// Register.
        offset: u16,
        /// 1, 2 or 4.
        width: u8,
        /// True for a write.
        write: bool,
        /// Value read or written.
        value: u32,
    },
    /// RIPAS of a range changed.
    Ripas {
        /// First IPA.
        base: u64,
        /// IPA behind the last page.
        top: u64,
        /// Before.
        from: Ripas,
        /// After.
        to: Ripas,
    },
    /// A TDI changed its state.
    Tdi {
        /// Routing id.
        rid: u16,
        /// Before.
        from: TdiState,
        /// After.
        to: TdiState,
        /// Call or act that caused it.
        cause: Name,
    },
    /// The DMA gate of a function moved.
    Dma {
        /// Routing id.
        rid: u16,
        /// Now.
        gate: DmaGate,
    },
    /// A stage-2 fault that was not an access to configuration space.
    Fault {
        /// IPA with the alias bit.
        ipa: u64,
        /// `read`, `write`, `fetch`, `read-no-syndrome`, `write-no-syndrome`, or `rsi-buffer`.
        access: Name,
        /// `emulated`, `sea`, `address-size` or `stop`.
        action: Name,
    },
    /// The scenario made somebody lie.
    Lie {
        /// Name of the lie, as in the scenario.
        name: String,
        /// Slot of the device, if one is concerned.
        slot: Option<String>,
    },
    /// An invariant broke, or the realm did what a real device would refuse.
    Violation {
        /// What.
        text: String,
    },
    /// PSCI SYSTEM_OFF.
    PowerOff {
        /// x1 of the call.
        code: u64,
    },
    /// PSCI SYSTEM_RESET.
    Reset,
}
