//! What a device proves: SPDM session, certificates, measurements, and the form of its interface report.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::Blob;
use crate::digest::HashAlgorithm;

/// The SPDM side of a device (`tdisp.md` section 4, DSP0274).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SpdmSpec {
    /// Negotiated version.
    pub version: SpdmVersion,
    /// Negotiated signature algorithm, and the curve of the built-in certificates.
    pub asym: Asym,
    /// Negotiated base hash.
    pub hash: HashAlgorithm,
    /// Negotiated hash of measurement digests.
    pub measurement_hash: MeasurementHash,
    /// The RMM asks for a signature.
    pub signed: bool,
    /// The RMM puts the realm's nonce into the request; false: zeros, as TF-RMM does.
    pub forwards_nonce: bool,
    /// Content changed, bits 5:4 of the response's parameter: 0 not detected, 1 changed, 2 no change, 3 reserved.
    pub content_changed: u8,
    /// Certificate slot of the exchange; none = `certificate_slot` of the device.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slot: Option<u8>,
    /// The certificate object has the SPDM header: length and root hash.
    pub chain_header: bool,
    /// Opaque data of the response.
    pub opaque: Blob,
    /// Measurement blocks; empty = those of [`default_blocks`].
    pub blocks: Vec<BlockSpec>,
    /// Built-in leaf certificate, 0..15; none = by position of the device, that of its physical function for a virtual
    /// one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unit: Option<u8>,
    /// Certificates instead of the built-in ones: DER, root first, without SPDM header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chain: Option<Blob>,
    /// Private key instead of the built-in one: the number of a curve's key, big-endian, or PKCS#8 in DER.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<Blob>,
}

impl Default for SpdmSpec {
    fn default() -> SpdmSpec {
        SpdmSpec {
            version: SpdmVersion::V12,
            asym: Asym::P384,
            hash: HashAlgorithm::Sha384,
            measurement_hash: MeasurementHash::Sha384,
            signed: true,
            forwards_nonce: true,
            content_changed: 0,
            slot: None,
            chain_header: false,
            opaque: Blob::default(),
            blocks: Vec::new(),
            unit: None,
            chain: None,
            key: None,
        }
    }
}

/// SPDM versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SpdmVersion {
    /// 1.1: signatures without prefix and without the negotiation.
    #[serde(rename = "1.1")]
    V11,
    /// 1.2.
    #[serde(rename = "1.2")]
    V12,
    /// 1.3: requester context.
    #[serde(rename = "1.3")]
    V13,
}

/// Signature algorithms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Asym {
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
    /// RSASSA (PKCS #1 1.5) with 3072 bits; needs feature `rsa` of the model.
    Rsa3072,
}

/// Hashes of measurement digests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MeasurementHash {
    /// None: raw bit streams only, and blocks with `text` are raw.
    Raw,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// One measurement block. Its value is what `hex` says, else the eight bytes of `svn`, else `text`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BlockSpec {
    /// Index; 0xFD manifest, 0xFE device mode.
    pub index: u8,
    /// Type of the value, 0..10 (`tdisp.md` 4).
    pub kind: u8,
    /// The value is a raw bit stream.
    pub raw: bool,
    /// The value as hexadecimal digits: the digest itself if not `raw`.
    pub hex: String,
    /// The value is this text if `raw`, else the text's digest.
    pub text: String,
    /// Security version, little-endian; always raw.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub svn: Option<u64>,
}

impl BlockSpec {
    /// A raw value.
    pub fn raw(index: u8, kind: u8, value: &[u8]) -> BlockSpec {
        BlockSpec { index, kind, raw: true, hex: crate::digest::to_hex(value), ..BlockSpec::default() }
    }

    /// The digest of a text.
    pub fn digest_of(index: u8, kind: u8, text: &str) -> BlockSpec {
        BlockSpec { index, kind, text: text.into(), ..BlockSpec::default() }
    }
}

/// The blocks of a device that behaves: ROM, firmware, hardware and firmware configuration as digests, security version
/// 7, firmware version, and a device mode without debug.
pub fn default_blocks() -> Vec<BlockSpec> {
    alloc::vec![
        BlockSpec::digest_of(1, 0, "ACME NVME ROM 1"),
        BlockSpec::digest_of(2, 1, "ACME NVME firmware 3.2"),
        BlockSpec::digest_of(3, 2, "ACME NVME fuses"),
        BlockSpec::digest_of(4, 3, "ACME NVME settings"),
        BlockSpec { index: 5, kind: 7, raw: true, svn: Some(7), ..BlockSpec::default() },
        BlockSpec { index: 6, kind: 6, raw: true, text: "3.2".into(), ..BlockSpec::default() },
        // Operational mode capabilities and state, device mode capabilities and state (DSP0274, DeviceMode): normal
        // mode is bit 2 of the first pair; debug, bits 0 to 3 of the second, is possible but has not happened.
        BlockSpec::raw(0xFE, 5, &[4, 0, 0, 0, 4, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]),
    ]
}

/// How a device proves what it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// SPDM session: VCA, certificates, measurements.
    #[default]
    Spdm,
    /// Nothing but the interface report: a device of the platform without DOE. Its measurement fetch is DEVICE.
    None,
}

/// Public key digest of the VDEV info (layout D 0x100, layout B 0xC0).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PublicKeyDigest {
    /// Zero, as in TF-RMM.
    #[default]
    Zero,
    /// Of the leaf's SubjectPublicKeyInfo.
    Leaf,
    /// Of something else.
    Other,
}

/// Form of the interface report; quirks are those of `tdisp.md` section 3.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReportSpec {
    /// Order of the ranges.
    pub order: RangeOrder,
    /// Numbering of range ids.
    pub ids: RangeIds,
    /// Unit of the first page field.
    pub addresses: RangeAddresses,
    /// Ranges that the device leaves out.
    pub omit: Vec<RangePart>,
    /// Ranges that belong to no BAR, behind the others as they are.
    pub extra: Vec<ExtraRange>,
}

/// Orders.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RangeOrder {
    /// As listed.
    #[default]
    AsListed,
    /// The last one first.
    Reversed,
}

/// Numberings of range ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RangeIds {
    /// BAR number.
    #[default]
    Bar,
    /// 0xFF00 + BAR number.
    HighByte,
    /// Twice the BAR number.
    Doubled,
}

/// What the first page field holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RangeAddresses {
    /// Numbers of 4 KiB pages.
    #[default]
    Pages,
    /// Byte addresses.
    Bytes,
}

/// Parts of BARs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RangePart {
    /// Ranges with the MSI-X table.
    MsixTable,
    /// Ranges with the pending bits.
    MsixPba,
    /// Ranges that are not TEE memory.
    NonTee,
    /// The last TEE range.
    LastTee,
}

/// A range as reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ExtraRange {
    /// First page, reporting offset included.
    pub page: u64,
    /// Pages.
    pub pages: u32,
    /// Attributes.
    pub attributes: u16,
    /// Range id; 0xFFFF = coherent memory where an RMM makes the report.
    pub id: u16,
}
