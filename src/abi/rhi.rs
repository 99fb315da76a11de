//! RHI: function ids, status codes and structures of device assignment and host configuration (DEN0148 1.0 beta).
//!
//! Trust: every value that comes back is the host's.

use bitflags::bitflags;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// DA_VERSION.
pub const DA_VERSION: u64 = 0xC500_004A;
/// DA_FEATURES.
pub const DA_FEATURES: u64 = 0xC500_004B;
/// DA_OBJECT_SIZE.
pub const DA_OBJECT_SIZE: u64 = 0xC500_004C;
/// DA_OBJECT_READ.
pub const DA_OBJECT_READ: u64 = 0xC500_004D;
/// HOSTCONF_VERSION.
pub const HOSTCONF_VERSION: u64 = 0xC500_004E;
/// HOSTCONF_FEATURES.
pub const HOSTCONF_FEATURES: u64 = 0xC500_004F;
/// HOSTCONF_GET_IPA_CHANGE_ALIGNMENT.
pub const HOSTCONF_GET_IPA_CHANGE_ALIGNMENT: u64 = 0xC500_0050;
/// DA_VDEV_CONTINUE.
pub const DA_VDEV_CONTINUE: u64 = 0xC500_0051;
/// DA_VDEV_GET_MEASUREMENTS.
pub const DA_VDEV_GET_MEASUREMENTS: u64 = 0xC500_0052;
/// DA_VDEV_GET_INTERFACE_REPORT.
pub const DA_VDEV_GET_INTERFACE_REPORT: u64 = 0xC500_0053;
/// DA_VDEV_SET_TDI_STATE.
pub const DA_VDEV_SET_TDI_STATE: u64 = 0xC500_0054;
/// DA_VDEV_ABORT.
pub const DA_VDEV_ABORT: u64 = 0xC500_0056;

/// Version 1.0 of every RHI interface.
pub const VERSION_1_0: u64 = 0x1_0000;
/// gprs[0] of a call that the host does not know.
pub const NOT_SUPPORTED: u64 = u64::MAX;

bitflags! {
    /// Feature mask of the device-assignment interface.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct DaFeatures: u64 {
        /// OBJECT_SIZE.
        const OBJECT_SIZE = 1 << 0;
        /// OBJECT_READ.
        const OBJECT_READ = 1 << 1;
        /// VDEV_CONTINUE.
        const CONTINUE = 1 << 2;
        /// GET_MEASUREMENTS.
        const GET_MEASUREMENTS = 1 << 3;
        /// GET_INTERFACE_REPORT.
        const GET_INTERFACE_REPORT = 1 << 4;
        /// SET_TDI_STATE.
        const SET_TDI_STATE = 1 << 5;
        /// P2P_UNBIND.
        const P2P_UNBIND = 1 << 6;
        /// ABORT.
        const ABORT = 1 << 7;
    }
}

/// Feature bit 0 of HOSTCONF: the alignment call is there.
pub const HOSTCONF_FEATURE_ALIGNMENT: u64 = 1;

/// Status codes of the DA calls, gprs[0].
pub const DA_SUCCESS: u64 = 0;
/// Started; continue with the handle in gprs[1].
pub const DA_INCOMPLETE: u64 = 1;
/// The object is not cached.
pub const DA_DATA_NOT_AVAILABLE: u64 = 2;
/// Unknown VDEV.
pub const DA_INVALID_VDEV_ID: u64 = 3;
/// Unknown object type, or bad TDI state.
pub const DA_INVALID_OBJECT: u64 = 4;
/// Bad argument.
pub const DA_INPUT: u64 = 5;
/// Device or RMM refused.
pub const DA_DEVICE: u64 = 6;
/// Bad offset.
pub const DA_INVALID_OFFSET: u64 = 7;
/// The buffer cannot be used.
pub const DA_ACCESS_FAILED: u64 = 8;
/// Try the original call later.
pub const DA_BUSY: u64 = 9;
/// An abort came too late.
pub const DA_ABORTED_OPERATION_HAD_COMPLETED: u64 = 0xA;
/// The object type is known but not offered.
pub const DA_OBJECT_UNSUPPORTED: u64 = 0xB;

/// Object type of the VCA as Linux hosts number it.
pub const OBJECT_VCA: u64 = 4;
/// Object type of the VCA as the ACS and the RMM side number it.
pub const OBJECT_VCA_ACS: u64 = 0;
/// Certificate chain.
pub const OBJECT_CERTIFICATE: u64 = 1;
/// Measurement exchange.
pub const OBJECT_MEASUREMENTS: u64 = 2;
/// Interface report.
pub const OBJECT_INTERFACE_REPORT: u64 = 3;

/// SET_TDI_STATE: CONFIG_UNLOCKED.
pub const TDI_UNLOCKED: u64 = 0;
/// SET_TDI_STATE: CONFIG_LOCKED.
pub const TDI_LOCKED: u64 = 1;
/// SET_TDI_STATE: RUN.
pub const TDI_RUN: u64 = 2;

/// Parameters of GET_MEASUREMENTS in shared memory (the current layout).
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct MeasurementParams {
    /// Bit 0: raw blocks instead of hashes.
    pub flags: U64,
    /// Zero.
    pub reserved_8: [u8; 0xf8],
    /// Requester nonce for the SPDM exchange.
    pub nonce: [u8; 32],
}

const _: () = assert!(size_of::<MeasurementParams>() == 0x120);
const _: () = assert!(core::mem::offset_of!(MeasurementParams, nonce) == 0x100);
