//! SPDM: the messages of which the RMM keeps copies (DSP0274 1.2 and 1.3). Sections are named by their titles, which both
//! versions share. All numbers are little-endian.
//!
//! Trust: the device's bytes and the RMM's, after their digest matched.

use zerocopy::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Version byte of GET_VERSION and VERSION, whatever they negotiate ("GET_VERSION request and VERSION response messages").
pub const VERSION_1_0: u8 = 0x10;
/// Version byte of SPDM 1.2.
pub const VERSION_1_2: u8 = 0x12;
/// Version byte of SPDM 1.3.
pub const VERSION_1_3: u8 = 0x13;

/// Request codes ("SPDM request codes"): GET_VERSION.
pub const GET_VERSION: u8 = 0x84;
/// GET_MEASUREMENTS.
pub const GET_MEASUREMENTS: u8 = 0xE0;
/// GET_CAPABILITIES.
pub const GET_CAPABILITIES: u8 = 0xE1;
/// NEGOTIATE_ALGORITHMS.
pub const NEGOTIATE_ALGORITHMS: u8 = 0xE3;
/// Response codes ("SPDM response codes"): VERSION.
pub const VERSION: u8 = 0x04;
/// MEASUREMENTS.
pub const MEASUREMENTS: u8 = 0x60;
/// CAPABILITIES.
pub const CAPABILITIES: u8 = 0x61;
/// ALGORITHMS.
pub const ALGORITHMS: u8 = 0x63;

/// Param1 of CAPABILITIES, SPDM 1.3: a Supported Algorithms block follows ("CAPABILITIES response message").
pub const SUPPORTED_ALGORITHMS: u8 = 1 << 0;
/// Responder flag: it has certificates ("Responder flag fields definitions").
pub const CERT_CAP: u32 = 1 << 1;
/// Responder flags: place of the 2-bit field MEAS_CAP.
pub const MEAS_CAP_SHIFT: u32 = 3;
/// Responder flags: width of MEAS_CAP, as a mask. Values: 0 none, 1 without signature, 2 with signature, 3 reserved.
pub const MEAS_CAP_MASK: u32 = 0b11;
/// MEAS_CAP: measurements, never signed.
pub const MEAS_CAP_NO_SIG: u32 = 1;
/// MEAS_CAP: measurements, signed when asked.
pub const MEAS_CAP_SIG: u32 = 2;

/// Measurement specification: DMTF ("Measurement specification field format"); also in each block.
pub const MEASUREMENT_SPECIFICATION_DMTF: u8 = 1 << 0;

/// BaseAsymAlgo and BaseAsymSel ("NEGOTIATE_ALGORITHMS request message"): RSASSA 3072.
pub const RSASSA_3072: u32 = 1 << 2;
/// RSAPSS 3072.
pub const RSAPSS_3072: u32 = 1 << 3;
/// ECDSA on P-256.
pub const ECDSA_P256: u32 = 1 << 4;
/// RSASSA 4096.
pub const RSASSA_4096: u32 = 1 << 5;
/// RSAPSS 4096.
pub const RSAPSS_4096: u32 = 1 << 6;
/// ECDSA on P-384.
pub const ECDSA_P384: u32 = 1 << 7;

/// BaseHashAlgo and BaseHashSel ("NEGOTIATE_ALGORITHMS request message"): SHA-256.
pub const SHA_256: u32 = 1 << 0;
/// SHA-384.
pub const SHA_384: u32 = 1 << 1;
/// SHA-512.
pub const SHA_512: u32 = 1 << 2;

/// MeasurementHashAlgo ("ALGORITHMS response message"): raw bit streams only.
pub const MEASUREMENT_RAW_ONLY: u32 = 1 << 0;
/// Measurements are SHA-256.
pub const MEASUREMENT_SHA_256: u32 = 1 << 1;
/// Measurements are SHA-384.
pub const MEASUREMENT_SHA_384: u32 = 1 << 2;
/// Measurements are SHA-512.
pub const MEASUREMENT_SHA_512: u32 = 1 << 3;

/// Bytes of an external algorithm ("Extended Algorithm field format").
pub const EXTENDED_ALGORITHM_LEN: usize = 4;

/// Param1 of GET_MEASUREMENTS ("GET_MEASUREMENTS request attributes"): sign.
pub const ATTRIBUTE_SIGNATURE: u8 = 1 << 0;
/// Raw bit streams are asked for.
pub const ATTRIBUTE_RAW: u8 = 1 << 1;
/// New measurements are asked for; SPDM 1.3.
pub const ATTRIBUTE_NEW: u8 = 1 << 2;
/// Param2 of GET_MEASUREMENTS: all blocks.
pub const OPERATION_ALL: u8 = 0xFF;
/// Slots are 0 to 7; 0xF stands for a key without certificates.
pub const MAX_SLOT: u8 = 7;
/// Bits of the slot in its byte of GET_MEASUREMENTS and in param2 of MEASUREMENTS.
pub const SLOT_MASK: u8 = 0x0F;
/// Bytes of a nonce.
pub const NONCE_LEN: usize = 32;
/// Bytes of the requester context, SPDM 1.3.
pub const CONTEXT_LEN: usize = 8;
/// Most bytes of opaque data ("MEASUREMENTS response message").
pub const MAX_OPAQUE_LEN: u16 = 1024;

/// Largest index of a block ("Measurement block format"): 0 and 0xFF stand for requests.
pub const MAX_BLOCK_INDEX: u8 = 0xFE;
/// Index of the device mode block.
pub const INDEX_DEVICE_MODE: u8 = 0xFE;
/// DMTFSpecMeasurementValueType: raw, not a digest ("DMTF measurement specification format").
pub const VALUE_RAW: u8 = 1 << 7;
/// DMTFSpecMeasurementValueType: mutable firmware; 0 is immutable ROM.
pub const KIND_FIRMWARE: u8 = 1;
/// DMTFSpecMeasurementValueType: device mode.
pub const KIND_DEVICE_MODE: u8 = 5;
/// DMTFSpecMeasurementValueType: security version number.
pub const KIND_SECURITY_VERSION: u8 = 7;

/// OperationalModeState ("Device mode field of a measurement block"): normal.
pub const OPERATIONAL_NORMAL: u32 = 1 << 2;
/// DeviceModeState: non-invasive debug is active.
pub const DEBUG_NON_INVASIVE: u32 = 1 << 0;
/// DeviceModeState: invasive debug is active.
pub const DEBUG_INVASIVE: u32 = 1 << 1;
/// DeviceModeState: non-invasive debug was active since the last reset.
pub const DEBUG_NON_INVASIVE_BEFORE: u32 = 1 << 2;
/// DeviceModeState: invasive debug was active since the last reset.
pub const DEBUG_INVASIVE_BEFORE: u32 = 1 << 3;
/// DeviceModeState: invasive debug was active at least once since the device left manufacturing.
pub const DEBUG_INVASIVE_EVER: u32 = 1 << 4;

/// Bytes in front of the hash that is signed ("Signature generation").
pub const SIGNING_PREFIX_LEN: usize = 100;
/// Bytes of it that the version fills.
pub const SIGNING_VERSIONS_LEN: usize = 64;
/// What the prefix of SPDM 1.2 begins with, four times.
pub const SIGNING_VERSION_1_2: &[u8; 16] = b"dmtf-spdm-v1.2.*";
/// What the prefix of SPDM 1.3 begins with, four times.
pub const SIGNING_VERSION_1_3: &[u8; 16] = b"dmtf-spdm-v1.3.*";
/// What the prefix ends with in MEASUREMENTS ("MEASUREMENTS signature generation").
pub const SIGNING_MEASUREMENTS: &[u8; 30] = b"responder-measurements signing";

/// What each message begins with ("Generic SPDM message format").
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Header {
    /// Major version in bits 7:4, minor in 3:0.
    pub version: u8,
    /// Request or response code.
    pub code: u8,
    /// Meaning depends on the code.
    pub param1: u8,
    /// Meaning depends on the code.
    pub param2: u8,
}

/// Fixed part of VERSION; a `u16` for each entry follows, whose upper byte is the version.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Version {
    /// Header.
    pub header: Header,
    /// Reserved.
    pub reserved: u8,
    /// Number of entries.
    pub num_entries: u8,
}

/// GET_CAPABILITIES and CAPABILITIES.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Capabilities {
    /// Header.
    pub header: Header,
    /// Reserved.
    pub reserved: u8,
    /// Longest time of a cryptographic operation, 2 to the power of this in microseconds.
    pub ct_exponent: u8,
    /// Reserved; since 1.3 in part extended flags.
    pub reserved2: U16,
    /// Flags of the requester or of the responder.
    pub flags: U32,
    /// Largest transfer.
    pub data_transfer_size: U32,
    /// Largest message.
    pub max_message_size: U32,
}

/// Fixed part of NEGOTIATE_ALGORITHMS; extended algorithms and algorithm structures (their number is param1) follow.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct NegotiateAlgorithms {
    /// Header.
    pub header: Header,
    /// Bytes of the whole message.
    pub length: U16,
    /// Measurement specifications offered.
    pub measurement_specification: u8,
    /// Other parameters.
    pub other_params: u8,
    /// Signature algorithms offered.
    pub base_asym: U32,
    /// Hash algorithms offered.
    pub base_hash: U32,
    /// Reserved.
    pub reserved: [u8; 12],
    /// Number of extended signature algorithms.
    pub ext_asym_count: u8,
    /// Number of extended hash algorithms.
    pub ext_hash_count: u8,
    /// Reserved.
    pub reserved2: u8,
    /// Specifications of the measurement extension log; SPDM 1.3.
    pub mel_specification: u8,
}

/// Fixed part of ALGORITHMS; extended algorithms and algorithm structures (their number is param1) follow.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Algorithms {
    /// Header.
    pub header: Header,
    /// Bytes of the whole message.
    pub length: U16,
    /// Measurement specification selected.
    pub measurement_specification: u8,
    /// Other parameters.
    pub other_params: u8,
    /// Hash of measurements: the responder's choice.
    pub measurement_hash: U32,
    /// Signature algorithm selected.
    pub base_asym: U32,
    /// Hash algorithm selected.
    pub base_hash: U32,
    /// Reserved.
    pub reserved: [u8; 11],
    /// Specification of the measurement extension log; SPDM 1.3.
    pub mel_specification: u8,
    /// Number of extended signature algorithms selected.
    pub ext_asym_count: u8,
    /// Number of extended hash algorithms selected.
    pub ext_hash_count: u8,
    /// Reserved.
    pub reserved2: U16,
}

/// What an algorithm structure begins with ("Algorithm request structure").
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct AlgorithmTable {
    /// Type.
    pub kind: u8,
    /// Bytes of fixed algorithms that follow in bits 7:4, number of extended algorithms behind them in 3:0.
    pub count: u8,
}

/// What follows the header of GET_MEASUREMENTS when a signature is asked for.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct SignatureRequest {
    /// Nonce of the requester.
    pub nonce: [u8; NONCE_LEN],
    /// Slot in bits 3:0.
    pub slot: u8,
}

/// Fixed part of MEASUREMENTS. The record follows, a nonce, opaque data, requester context and signature.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct Measurements {
    /// Header; param2 holds the slot in bits 3:0 and content changed in bits 5:4.
    pub header: Header,
    /// Number of blocks.
    pub num_blocks: u8,
    /// Bytes of the record.
    pub record_len: [u8; 3],
}

/// What follows the record in MEASUREMENTS.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct MeasurementsTail {
    /// Nonce of the responder.
    pub nonce: [u8; NONCE_LEN],
    /// Bytes of opaque data.
    pub opaque_len: U16,
}

/// What a block begins with: the common part and that of the DMTF specification.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct BlockHeader {
    /// Index.
    pub index: u8,
    /// Measurement specification.
    pub specification: u8,
    /// Bytes that follow this field.
    pub size: U16,
    /// Value type; bit 7: raw.
    pub kind: u8,
    /// Bytes of the value.
    pub value_size: U16,
}

/// Value of a device mode block.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct DeviceMode {
    /// Operational modes that the device can report.
    pub operational_capabilities: U32,
    /// Operational mode.
    pub operational_state: U32,
    /// Device modes that the device can report.
    pub device_capabilities: U32,
    /// Device modes.
    pub device_state: U32,
}

const _: () = assert!(size_of::<Header>() == 4);
const _: () = assert!(size_of::<Version>() == 6);
const _: () = assert!(size_of::<Capabilities>() == 20);
const _: () = assert!(core::mem::offset_of!(Capabilities, flags) == 8);
const _: () = assert!(size_of::<NegotiateAlgorithms>() == 32);
const _: () = assert!(core::mem::offset_of!(NegotiateAlgorithms, length) == 4);
const _: () = assert!(core::mem::offset_of!(NegotiateAlgorithms, base_asym) == 8);
const _: () = assert!(core::mem::offset_of!(NegotiateAlgorithms, base_hash) == 12);
const _: () = assert!(core::mem::offset_of!(NegotiateAlgorithms, ext_asym_count) == 28);
const _: () = assert!(size_of::<Algorithms>() == 36);
const _: () = assert!(core::mem::offset_of!(Algorithms, length) == 4);
const _: () = assert!(core::mem::offset_of!(Algorithms, measurement_hash) == 8);
const _: () = assert!(core::mem::offset_of!(Algorithms, base_asym) == 12);
const _: () = assert!(core::mem::offset_of!(Algorithms, base_hash) == 16);
const _: () = assert!(core::mem::offset_of!(Algorithms, ext_asym_count) == 32);
const _: () = assert!(size_of::<AlgorithmTable>() == 2);
const _: () = assert!(size_of::<SignatureRequest>() == 33);
const _: () = assert!(size_of::<Measurements>() == 8);
const _: () = assert!(size_of::<MeasurementsTail>() == 34);
const _: () = assert!(size_of::<BlockHeader>() == 7);
const _: () = assert!(core::mem::offset_of!(BlockHeader, kind) == 4);
const _: () = assert!(size_of::<DeviceMode>() == 16);
