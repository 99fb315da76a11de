//! Function ids and status codes (`rsi.md` 1, 2, 8; `rhi.md` 2, 3).
//!
//! Names are those of the specifications.
#![expect(missing_docs, reason = "the names are those of the specifications")]

/// "Not supported" of SMCCC, PSCI, RSI and RHI.
pub const ALL_ONES: u64 = u64::MAX;

/// Status of RSI calls (DEN0137 B5.5.3).
pub mod rsi {
    pub const RSI_SUCCESS: u64 = 0;
    pub const RSI_ERROR_INPUT: u64 = 1;
    pub const RSI_ERROR_STATE: u64 = 2;
    pub const RSI_INCOMPLETE: u64 = 3;
    pub const RSI_ERROR_UNKNOWN: u64 = 4;
    pub const RSI_ERROR_DEVICE: u64 = 5;

    pub const RSI_ACCEPT: u64 = 0;
    pub const RSI_REJECT: u64 = 1;

    pub const RSI_VERSION: u64 = 0xC400_0190;
    pub const RSI_FEATURES: u64 = 0xC400_0191;
    pub const RSI_MEASUREMENT_READ: u64 = 0xC400_0192;
    pub const RSI_MEASUREMENT_EXTEND: u64 = 0xC400_0193;
    pub const RSI_ATTESTATION_TOKEN_INIT: u64 = 0xC400_0194;
    pub const RSI_ATTESTATION_TOKEN_CONTINUE: u64 = 0xC400_0195;
    pub const RSI_REALM_CONFIG: u64 = 0xC400_0196;
    pub const RSI_IPA_STATE_SET: u64 = 0xC400_0197;
    pub const RSI_IPA_STATE_GET: u64 = 0xC400_0198;
    pub const RSI_HOST_CALL: u64 = 0xC400_0199;
    pub const RSI_VDEV_DMA_ENABLE: u64 = 0xC400_019C;
    pub const RSI_VDEV_GET_INFO: u64 = 0xC400_019D;
    pub const RSI_VDEV_VALIDATE_MAPPING: u64 = 0xC400_019F;
    pub const RSI_VDEV_DMA_DISABLE: u64 = 0xC400_01A4;

    pub const VERSION_1_0: u64 = 0x1_0000;
    pub const VERSION_1_1: u64 = 0x1_0001;
}

/// RHI ids and DA status (DEN0148).
pub mod rhi {
    pub const RHI_DA_VERSION: u64 = 0xC500_004A;
    pub const RHI_DA_FEATURES: u64 = 0xC500_004B;
    pub const RHI_DA_OBJECT_SIZE: u64 = 0xC500_004C;
    pub const RHI_DA_OBJECT_READ: u64 = 0xC500_004D;
    pub const RHI_HOSTCONF_VERSION: u64 = 0xC500_004E;
    pub const RHI_HOSTCONF_FEATURES: u64 = 0xC500_004F;
    pub const RHI_HOSTCONF_GET_IPA_CHANGE_ALIGNMENT: u64 = 0xC500_0050;
    pub const RHI_DA_VDEV_CONTINUE: u64 = 0xC500_0051;
    pub const RHI_DA_VDEV_GET_MEASUREMENTS: u64 = 0xC500_0052;
    pub const RHI_DA_VDEV_GET_INTERFACE_REPORT: u64 = 0xC500_0053;
    pub const RHI_DA_VDEV_SET_TDI_STATE: u64 = 0xC500_0054;
    pub const RHI_DA_VDEV_P2P_UNBIND: u64 = 0xC500_0055;
    pub const RHI_DA_VDEV_ABORT: u64 = 0xC500_0056;

    pub const VERSION_1_0: u64 = 0x1_0000;
    pub const DA_FEATURES_ALL: u64 = 0xFF;

    pub const SUCCESS: u64 = 0;
    pub const INCOMPLETE: u64 = 1;
    pub const DATA_NOT_AVAILABLE: u64 = 2;
    pub const INVALID_VDEV_ID: u64 = 3;
    pub const INVALID_OBJECT: u64 = 4;
    pub const INPUT: u64 = 5;
    pub const DEVICE: u64 = 6;
    pub const INVALID_OFFSET: u64 = 7;
    pub const ACCESS_FAILED: u64 = 8;
    pub const BUSY: u64 = 9;
    pub const ABORTED_OPERATION_HAD_COMPLETED: u64 = 0xA;
    pub const OBJECT_UNSUPPORTED: u64 = 0xB;

    pub const OBJECT_VCA: u64 = 0;
    pub const OBJECT_CERTIFICATE: u64 = 1;
    pub const OBJECT_MEASUREMENTS: u64 = 2;
    pub const OBJECT_REPORT: u64 = 3;
    pub const OBJECT_VCA_LINUX: u64 = 4;

    pub const TDI_CONFIG_UNLOCKED: u64 = 0;
    pub const TDI_CONFIG_LOCKED: u64 = 1;
    pub const TDI_RUN: u64 = 2;
}

/// PSCI (DEN0022) and SMCCC.
pub mod psci {
    pub const SMCCC_VERSION: u64 = 0x8000_0000;
    pub const PSCI_VERSION: u64 = 0x8400_0000;
    pub const PSCI_CPU_SUSPEND: u64 = 0x8400_0001;
    pub const PSCI_CPU_OFF: u64 = 0x8400_0002;
    pub const PSCI_CPU_ON: u64 = 0x8400_0003;
    pub const PSCI_AFFINITY_INFO: u64 = 0x8400_0004;
    pub const PSCI_SYSTEM_OFF: u64 = 0x8400_0008;
    pub const PSCI_SYSTEM_RESET: u64 = 0x8400_0009;
    pub const PSCI_FEATURES: u64 = 0x8400_000A;
    /// Bit that makes the 64-bit form of a PSCI function.
    pub const SMC64: u64 = 0x4000_0000;

    pub const SUCCESS: u64 = 0;
    pub const INVALID_PARAMETERS: u64 = -2i64 as u64;
    pub const DENIED: u64 = -3i64 as u64;
    pub const ALREADY_ON: u64 = -4i64 as u64;
    pub const INVALID_ADDRESS: u64 = -9i64 as u64;

    /// AFFINITY_INFO.
    pub const AFFINITY_ON: u64 = 0;
    pub const AFFINITY_OFF: u64 = 1;
}
