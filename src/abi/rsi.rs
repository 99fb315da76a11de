//! RSI: function ids, status codes and structures (DEN0137 2.0 beta, B5; dialect `a`, info layout D).
//!
//! Trust: the RMM's ABI.

use crate::conduit::FunctionId;
use bitflags::bitflags;
use zerocopy::little_endian::U64;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// RSI_VERSION (B5.4.23).
pub const RSI_VERSION: FunctionId = FunctionId(0xC400_0190);
/// RSI_FEATURES.
pub const RSI_FEATURES: FunctionId = FunctionId(0xC400_0191);
/// RSI_MEASUREMENT_READ.
pub const RSI_MEASUREMENT_READ: FunctionId = FunctionId(0xC400_0192);
/// RSI_MEASUREMENT_EXTEND (B5.4.8).
pub const RSI_MEASUREMENT_EXTEND: FunctionId = FunctionId(0xC400_0193);
/// RSI_ATTESTATION_TOKEN_INIT.
pub const RSI_ATTESTATION_TOKEN_INIT: FunctionId = FunctionId(0xC400_0194);
/// RSI_ATTESTATION_TOKEN_CONTINUE.
pub const RSI_ATTESTATION_TOKEN_CONTINUE: FunctionId = FunctionId(0xC400_0195);
/// RSI_REALM_CONFIG.
pub const RSI_REALM_CONFIG: FunctionId = FunctionId(0xC400_0196);
/// RSI_IPA_STATE_SET (B5.4.7).
pub const RSI_IPA_STATE_SET: FunctionId = FunctionId(0xC400_0197);
/// RSI_IPA_STATE_GET (B5.4.6).
pub const RSI_IPA_STATE_GET: FunctionId = FunctionId(0xC400_0198);
/// RSI_HOST_CALL (B5.4.5).
pub const RSI_HOST_CALL: FunctionId = FunctionId(0xC400_0199);
/// RSI_VDEV_DMA_ENABLE (B5.4.18).
pub const RSI_VDEV_DMA_ENABLE: FunctionId = FunctionId(0xC400_019C);
/// RSI_VDEV_GET_INFO (B5.4.19).
pub const RSI_VDEV_GET_INFO: FunctionId = FunctionId(0xC400_019D);
/// RSI_VDEV_VALIDATE_MAPPING (B5.4.21).
pub const RSI_VDEV_VALIDATE_MAPPING: FunctionId = FunctionId(0xC400_019F);
/// RSI_VDEV_DMA_DISABLE (B5.4.17). In the older RDEV dialect the same number continues an operation.
pub const RSI_VDEV_DMA_DISABLE: FunctionId = FunctionId(0xC400_01A4);

/// x0 of an SMC that is not implemented.
pub const NOT_SUPPORTED: u64 = u64::MAX;

/// Return codes (B5.5.3).
pub const RSI_SUCCESS: u64 = 0;
/// Bad argument.
pub const RSI_ERROR_INPUT: u64 = 1;
/// Wrong state of realm or REC, or no device assignment for this realm.
pub const RSI_ERROR_STATE: u64 = 2;
/// Call again.
pub const RSI_INCOMPLETE: u64 = 3;
/// Failed without a reason.
pub const RSI_ERROR_UNKNOWN: u64 = 4;
/// Device state or nonce mismatch.
pub const RSI_ERROR_DEVICE: u64 = 5;

/// RSI version 1.0, as register value: major << 16 | minor.
pub const VERSION_1_0: u64 = 0x1_0000;
/// RSI version 1.1: the first with device assignment.
pub const VERSION_1_1: u64 = 0x1_0001;

bitflags! {
    /// Feature register 0 (B5.5.8).
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Features0: u64 {
        /// Device assignment, set per realm by the host.
        const DA = 1 << 0;
        /// Mostly-read-only permissions.
        const MRO = 1 << 1;
        /// Address translation services.
        const ATS = 1 << 2;
    }
}

/// Host's answer to a RIPAS or mapping request, bit 0 of x2.
pub const RESPONSE_REJECT: u64 = 1;
/// RIPAS change flag: DESTROYED pages may become RAM.
pub const CHANGE_DESTROYED: u64 = 1;

/// RIPAS values (B5.5.18).
pub const RIPAS_EMPTY: u64 = 0;
/// Private memory.
pub const RIPAS_RAM: u64 = 1;
/// Content lost by host action.
pub const RIPAS_DESTROYED: u64 = 2;
/// Validated device memory.
pub const RIPAS_DEV: u64 = 3;

/// Hash algorithms (B5.5.10).
pub const HASH_SHA_256: u8 = 0;
/// SHA-512.
pub const HASH_SHA_512: u8 = 1;
/// SHA-384.
pub const HASH_SHA_384: u8 = 2;

/// Structure of RSI_REALM_CONFIG (B5.5.19).
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(4096))]
pub struct RealmConfig {
    /// IPA width in bits.
    pub ipa_width: U64,
    /// Realm hash algorithm.
    pub hash_algorithm: u8,
    /// Reserved; TF-RMM does not clear it.
    pub reserved_9: [u8; 7],
    /// Number of auxiliary planes (RSI 1.1).
    pub num_aux_planes: U64,
    /// GICv3 ICH_VTR value (RSI 1.1).
    pub gicv3_vtr: U64,
    /// Plane that owns ATS (RSI 1.1).
    pub ats_plane: U64,
    /// Reserved.
    pub reserved_28: [u8; 0x1d8],
    /// Realm Personalization Value.
    pub rpv: [u8; 64],
    /// Reserved.
    pub reserved_240: [u8; 0xdc0],
}

const _: () = assert!(size_of::<RealmConfig>() == 4096);
const _: () = assert!(core::mem::offset_of!(RealmConfig, num_aux_planes) == 0x10);
const _: () = assert!(core::mem::offset_of!(RealmConfig, ats_plane) == 0x20);
const _: () = assert!(core::mem::offset_of!(RealmConfig, rpv) == 0x200);

/// Granule that RSI_ATTESTATION_TOKEN_CONTINUE writes a piece of the token to.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(4096))]
pub struct TokenGranule {
    /// The bytes of the token.
    pub bytes: [u8; 4096],
}

const _: () = assert!(size_of::<TokenGranule>() == 4096);

/// Number of general registers that a host call carries.
pub const HOST_CALL_NUM_GPRS: usize = 31;

/// Structure of RSI_HOST_CALL (B5.5.9): the host overwrites all registers.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(256))]
pub struct HostCall {
    /// Immediate: 0 carries RHI. 16 bits by specification, 32 in TF-RMM.
    pub immediate: U64,
    /// gprs[0] = function id or status, then arguments or results.
    pub gprs: [U64; HOST_CALL_NUM_GPRS],
}

const _: () = assert!(size_of::<HostCall>() == 0x100);
const _: () = assert!(core::mem::offset_of!(HostCall, gprs) == 8);

/// VDEV states of layout D (B5.5.30).
pub const VDEV_UNLOCKED: u8 = 0;
/// Locked, evidence can be fetched, mappings validated.
pub const VDEV_LOCKED: u8 = 1;
/// Running; DMA can be enabled.
pub const VDEV_STARTED: u8 = 2;
/// The RMM noticed a violation.
pub const VDEV_ERROR: u8 = 3;

/// Byte at 0x30 of layout D: the report has the TDISP format.
pub const REPORT_FORMAT_TDISP: u8 = 1;
/// Value at 0x38 of layout D: major << 16 | minor of the report format.
pub const REPORT_FORMAT_VERSION_1_0: u64 = 0x1_0000;

/// RsiVdevInfo, layout D: 2.0-bet0 and later (B5.5.28).
#[derive(Clone, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C, align(512))]
pub struct VdevInfoD {
    /// Bit 0 vSMMU, bit 1 P2P enabled, bit 2 P2P bound.
    pub flags: U64,
    /// Certificate slot.
    pub identity_index: U64,
    /// Digest algorithm of the PDEV, not of the realm.
    pub hash_algorithm: u8,
    /// Zero.
    pub reserved_11: [u8; 7],
    /// Made when LOCK completes.
    pub lock_nonce: U64,
    /// Made when a measurement fetch completes.
    pub measurement_nonce: U64,
    /// Made when an interface report fetch completes.
    pub report_nonce: U64,
    /// 0 implementation defined, 1 TDISP.
    pub report_format: u8,
    /// Zero.
    pub reserved_31: [u8; 7],
    /// Version of the report format.
    pub report_format_version: U64,
    /// VDEV state.
    pub state: u8,
    /// Zero.
    pub reserved_41: [u8; 0x3f],
    /// Digest of the negotiation data (VCA).
    pub vca_digest: [u8; 64],
    /// Digest of the certificate chain.
    pub certificate_digest: [u8; 64],
    /// Digest of the public key; zero where the RMM does not fill it.
    pub public_key_digest: [u8; 64],
    /// Digest of the last measurement exchange.
    pub measurement_digest: [u8; 64],
    /// Digest of the last interface report.
    pub report_digest: [u8; 64],
    /// vSMMU base IPA.
    pub vsmmu_base: U64,
    /// vSMMU stream id.
    pub vsmmu_stream: U64,
    /// Zero.
    pub reserved_1d0: [u8; 0x30],
}

const _: () = assert!(size_of::<VdevInfoD>() == 0x200);
const _: () = assert!(core::mem::offset_of!(VdevInfoD, lock_nonce) == 0x18);
const _: () = assert!(core::mem::offset_of!(VdevInfoD, report_format) == 0x30);
const _: () = assert!(core::mem::offset_of!(VdevInfoD, state) == 0x40);
const _: () = assert!(core::mem::offset_of!(VdevInfoD, vca_digest) == 0x80);
const _: () = assert!(core::mem::offset_of!(VdevInfoD, report_digest) == 0x180);
const _: () = assert!(core::mem::offset_of!(VdevInfoD, vsmmu_base) == 0x1c0);
