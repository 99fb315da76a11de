//! Exact counts: the basis of the regression gate on calls and exits.

use serde::{Deserialize, Serialize};

/// Counts of one device, or of the whole run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// RSI calls (those with the device's vdev_id; IPA_STATE_SET on its BARs counts too; HOST_CALL for it as well).
    pub rsi_calls: u64,
    /// RHI calls, each inside one HOST_CALL.
    pub rhi_calls: u64,
    /// Exits that the host sees in 2.0-bet2 and later: HOST_CALL, RIPAS change, mapping, emulated MMIO, PSCI.
    pub host_exits: u64,
    /// Exits of reason VDEV_REQUEST that an RMM before 2.0-bet2 adds (GET_INFO, VALIDATE, DMA_ENABLE, DMA_DISABLE).
    pub vdev_request_exits: u64,
    /// Accesses to configuration space, also part of `host_exits`.
    pub config_accesses: u64,
    /// RIPAS change requests, also part of `host_exits`.
    pub ripas_changes: u64,
}
