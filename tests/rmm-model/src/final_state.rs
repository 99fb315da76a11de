//! What is left when the run ends, for the checks of TM-0 and TM-1.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::board::Range;
use crate::counters::Counters;
use crate::machine::DmaGate;

/// State of a TDI (PCIe TDISP; `tdisp.md` section 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TdiState {
    /// CONFIG_UNLOCKED.
    Unlocked,
    /// CONFIG_LOCKED.
    Locked,
    /// RUN.
    Run,
    /// ERROR.
    Error,
}

/// How the run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Still running when the state was taken.
    Running,
    /// PSCI SYSTEM_OFF.
    PowerOff {
        /// x1 of the call.
        code: u64,
    },
    /// PSCI SYSTEM_RESET.
    Reset,
    /// The only REC never makes progress again.
    Stopped,
}

/// One range of pages with RIPAS DEV.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevRange {
    /// First protected IPA.
    pub ipa: u64,
    /// Real address behind it.
    pub pa: u64,
    /// Bytes.
    pub len: u64,
}

impl DevRange {
    /// Returns the IPA behind the last byte.
    pub const fn top(&self) -> u64 {
        self.ipa.saturating_add(self.len)
    }
}

/// One assigned device at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeviceState {
    /// Slot path of the scenario.
    pub slot: String,
    /// Guest routing id, as `bb:dd.f`.
    pub bdf: String,
    /// The vdev_id while a VDEV exists.
    pub vdev_id: Option<u64>,
    /// The device's own state.
    pub state: TdiState,
    /// What the RMM believes; none without a VDEV.
    pub rmm_state: Option<TdiState>,
    /// Memory that its DMA reaches.
    pub dma: DmaGate,
    /// Pages with RIPAS DEV now.
    pub dev_ranges: Vec<DevRange>,
    /// Every range that VALIDATE_MAPPING ever made DEV, in order.
    pub validated: Vec<DevRange>,
    /// Pages of TEE ranges of its last report that the host's half still reaches. Must be empty for a device in RUN.
    pub tee_aliases: Vec<Range>,
    /// Guest's memory decode and bus master bits (bits 1 and 2 of the command register as the realm sees it).
    pub command: u16,
    /// Its counts.
    pub counters: Counters,
    /// True when an operation was started and never finished or aborted.
    pub operation_pending: bool,
}

/// Everything a test asks at the end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinalState {
    /// How the run ended.
    pub outcome: Outcome,
    /// Assigned devices in scenario order.
    pub devices: Vec<DeviceState>,
    /// RAM that the realm shares with the host (RIPAS EMPTY).
    pub shared: Vec<Range>,
    /// RIM as hexadecimal digits.
    pub rim: String,
    /// REM 1..4 as hexadecimal digits.
    pub rems: Vec<String>,
    /// Counts of the whole run.
    pub totals: Counters,
    /// Names of lies that were told, in order.
    pub lies: Vec<String>,
    /// Broken invariants of the model, and steps of the realm that a real device would refuse. Must be empty.
    pub violations: Vec<String>,
}

impl FinalState {
    /// Returns the device with this slot path.
    pub fn device(&self, slot: &str) -> Option<&DeviceState> {
        self.devices.iter().find(|device| device.slot == slot)
    }
}
