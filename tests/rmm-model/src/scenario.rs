//! What happens in a run: which functions are devices, how the host behaves, who lies when.
//!
//! Written as TOML on the host and carried as CBOR to the stub. Every field has a default, so that the smallest
//! scenario is one `[[device]]` with a `slot`. Numbers stay below 2^63 (TOML's limit). Enumerations are written as
//! words in kebab-case; a choice with parameters is a table with one key: `lie = { object-missing = { object = "vca" } }`.

mod bundle;
mod device;
mod evidence;
mod injection;
mod lie;
mod vmm;

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

pub use bundle::BundleSpec;
pub use device::{
    Blob, DeviceModel, DeviceSpec, DmaEnable, DmaMoment, DmaTarget, EarlierSession, HostDma, RangeSpec, Rule,
    UnlockedDma,
};
pub use evidence::{
    Asym, BlockSpec, EvidenceKind, ExtraRange, MeasurementHash, PublicKeyDigest, RangeAddresses, RangeIds,
    RangeOrder, RangePart, ReportSpec, SpdmSpec, SpdmVersion, default_blocks,
};
pub use injection::{Act, Change, Crossing, Deed, Injection};
pub use lie::{Lie, Misbehaviour, ObjectKind, RhiCall, RhiOp, RipasTarget, RsiCall};
pub use vmm::{BundleBeside, BusNumbers, ConfigAccess, Console, TreeEdit, TreeNoise, Vmm};

pub use crate::rim::RimRules;

use crate::digest::HashAlgorithm;

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Scenario {
    /// Name for logs.
    pub name: String,
    /// Seed of nonces, handles, generated blobs and garbage.
    pub seed: u64,
    /// Which form of the RSI device commands the RMM speaks.
    pub dialect: Dialect,
    /// Whether each access to configuration space is recorded (counters are kept in any case).
    pub config_records: bool,
    /// The realm and its RMM.
    pub realm: RealmSpec,
    /// The host's answers.
    pub host: Host,
    /// The VMM: virtual configuration space, image and tree.
    pub vmm: Vmm,
    /// Assigned devices.
    pub device: Vec<DeviceSpec>,
    /// Lies.
    pub misbehaviour: Vec<Misbehaviour>,
    /// Lies by place.
    pub injection: Vec<Injection>,
    /// What goes into the bundle.
    pub bundle: BundleSpec,
}

impl Default for Scenario {
    fn default() -> Scenario {
        Scenario {
            name: String::new(),
            seed: 1,
            dialect: Dialect::A,
            config_records: true,
            realm: RealmSpec::default(),
            host: Host::default(),
            vmm: Vmm::default(),
            device: Vec::new(),
            misbehaviour: Vec::new(),
            injection: Vec::new(),
            bundle: BundleSpec::default(),
        }
    }
}

/// Dialects of `spec/README.md` that share the function ids of dialect a.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Dialect {
    /// 2.0-bet2 and later: info layout D, no VDEV_REQUEST exit.
    #[default]
    A,
    /// 1.1-alp16, alp17: info layout B and the older state numbers.
    A2,
    /// 2.0-bet0, bet1: info layout D.
    A3,
}

/// The realm and what its RMM does where implementations differ.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RealmSpec {
    /// Hash algorithm of RIM and REMs.
    pub hash: HashAlgorithm,
    /// RSI versions that the RMM implements.
    pub rsi: RsiVersions,
    /// What RSI_VERSION answers to a version that is not implemented.
    pub version_mismatch: VersionMismatch,
    /// Device assignment is enabled for the realm (RSI_FEATURES bit 0).
    pub da: bool,
    /// How REMs are extended.
    pub rem: RemRule,
    /// Whether REALM_CONFIG clears the page.
    pub config_page: ConfigPage,
    /// Realm Personalization Value, up to 64 bytes as hexadecimal digits.
    pub rpv: String,
    /// RIM as hexadecimal digits; a value made from the seed if empty (the stub sets the computed one).
    pub rim: String,
    /// What a computed RIM measures.
    pub rim_rules: RimRules,
    /// Most pages that one IPA_STATE_GET reports; 0 = no limit.
    pub ipa_state_get_step: u64,
    /// Attestation token as hexadecimal digits; a real one if empty.
    pub token: String,
    /// So many opaque bytes instead, made from seed and challenge; 0 = the RMM cannot make a token.
    pub token_len: Option<u32>,
    /// Form of a real token.
    pub token_format: TokenFormat,
    /// What is wrong with it.
    pub token_flaw: TokenFlaw,
    /// Bytes of its platform configuration claim.
    pub token_config_len: u32,
    /// It has a device token, once a device is assigned; only in the new form.
    pub device_token: bool,
    /// Most bytes that one ATTESTATION_TOKEN_CONTINUE delivers; 0 = no limit.
    pub token_step: u32,
    /// ATTESTATION_TOKEN_CONTINUE calls without a byte before the first one with: signing.
    pub token_stalls: u32,
    /// Every so many-th ATTESTATION_TOKEN_CONTINUE is interrupted before it delivers a byte; 0 = none.
    pub token_interrupts: u32,
}

impl Default for RealmSpec {
    fn default() -> RealmSpec {
        RealmSpec {
            hash: HashAlgorithm::Sha256,
            rsi: RsiVersions::V11,
            version_mismatch: VersionMismatch::Spec,
            da: true,
            rem: RemRule::TfRmm,
            config_page: ConfigPage::Fields,
            rpv: String::new(),
            rim: String::new(),
            rim_rules: RimRules::default(),
            ipa_state_get_step: 0,
            token: String::new(),
            token_len: None,
            token_format: TokenFormat::TfRmm,
            token_flaw: TokenFlaw::None,
            token_config_len: 32,
            device_token: false,
            token_step: 0,
            token_stalls: 0,
            token_interrupts: 0,
        }
    }
}

/// Implemented RSI versions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RsiVersions {
    /// Only 1.0: no device commands, FEATURES is 0.
    #[serde(rename = "1.0")]
    V10,
    /// 1.0 and 1.1.
    #[serde(rename = "1.1")]
    V11,
}

/// Answers of RSI_VERSION to a version that is not implemented (`rsi.md` 3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VersionMismatch {
    /// Lower = the highest one below the request.
    Spec,
    /// Lower = higher = the highest one.
    TfRmm,
}

/// How a REM is extended (`attestation.md` 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RemRule {
    /// H(old value of hash length, then `size` bytes).
    TfRmm,
    /// H(old value padded to 64 bytes, then the value padded to 64 bytes).
    Spec,
}

/// Forms of the attestation token (`attestation.md` 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenFormat {
    /// Tag 907, claims of 2.0 beta.
    TfRmm,
    /// Tag 399, claims of 1.0.
    Old,
}

/// What is wrong with an attestation token. But for the damaged ones, it is signed as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenFlaw {
    /// Nothing.
    None,
    /// Another challenge: the first byte differs.
    Challenge,
    /// The platform token names another realm attestation key.
    RakBinding,
    /// One bit of the realm token's signature is flipped.
    RealmSignature,
    /// One bit of the platform token's signature is flipped.
    PlatformSignature,
    /// The platform's lifecycle is debug.
    Debug,
    /// The realm token has no REMs.
    RemsMissing,
}

/// What RSI_REALM_CONFIG does with the rest of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConfigPage {
    /// Only fields are written, as TF-RMM does.
    Fields,
    /// Everything else becomes zero, as the specification says.
    Clear,
}

/// The host's manners. All of them are legal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Host {
    /// How often a device operation answers INCOMPLETE before it is done; 0 = done at once.
    pub incomplete: u32,
    /// How often each device operation answers BUSY before it starts.
    pub busy: u32,
    /// Most pages that one IPA_STATE_SET changes; 0 = no limit.
    pub ipa_state_step: u64,
    /// How many IPA_STATE_SET calls make no progress before each one that does.
    pub ipa_state_stalls: u32,
    /// Most pages that one VALIDATE_MAPPING validates; 0 = no limit.
    pub validate_step: u64,
    /// How many VALIDATE_MAPPING calls make no progress before each one that does.
    pub validate_stalls: u32,
    /// The DA ABI is there.
    pub da: bool,
    /// Bits of DA_FEATURES that are left out.
    pub da_features_missing: u64,
    /// The HOSTCONF ABI is there.
    pub hostconf: bool,
    /// Unit of conversion between private and shared, in bytes; a power of two, at least 4096.
    pub hostconf_granule: u64,
    /// Numbers that name the VCA object.
    pub vca_types: VcaTypes,
    /// How OBJECT_READ treats offset and length.
    pub object_read: ObjectRead,
    /// What the host leaves in gprs that a call does not define.
    pub spare_gprs: SpareGprs,
    /// What VDEV_CONTINUE answers to a handle that is not the one in progress.
    pub wrong_handle: WrongHandle,
    /// Forms of buffer addresses that the host takes.
    pub buffer_address: BufferAddress,
    /// What the host does with PSCI_CPU_ON of a REC below `vmm.recs`; others are always denied.
    pub cpu_on: CpuOn,
}

impl Default for Host {
    fn default() -> Host {
        Host {
            incomplete: 0,
            busy: 0,
            ipa_state_step: 0,
            ipa_state_stalls: 0,
            validate_step: 0,
            validate_stalls: 0,
            da: true,
            da_features_missing: 0,
            hostconf: true,
            hostconf_granule: crate::board::PAGE,
            vca_types: VcaTypes::Both,
            object_read: ObjectRead::Chunked,
            spare_gprs: SpareGprs::Garbage,
            wrong_handle: WrongHandle::Device,
            buffer_address: BufferAddress::Either,
            cpu_on: CpuOn::Allow,
        }
    }
}

/// Object types under which the VCA is found (`rhi.md` 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VcaTypes {
    /// 0 and 4.
    Both,
    /// 4, and 0 is INVALID_OBJECT.
    Linux,
    /// 0, and 4 is OBJECT_UNSUPPORTED.
    Acs,
}

/// Readings of OBJECT_READ (`rhi.md` 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectRead {
    /// Copies min(max length, size - offset) bytes of the object from the offset on.
    Chunked,
    /// Only whole objects: offset 0 (else INVALID_OFFSET) and max length at least the size (else INVALID_OFFSET).
    Whole,
}

/// Contents of gprs that a call does not define (`rhi.md` 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpareGprs {
    /// What the realm wrote.
    Unchanged,
    /// Zero.
    Zero,
    /// Pseudo-random values; gprs[1] is zero when the call fails.
    Garbage,
}

/// Answers of VDEV_CONTINUE to a wrong handle (`rhi.md` 4: the ACS plan and the ACS host differ).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WrongHandle {
    /// DEVICE (6).
    Device,
    /// INVALID_VDEV_ID (3).
    InvalidVdev,
}

/// Forms in which the host takes buffer addresses (`rhi.md` 1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BufferAddress {
    /// Both.
    Either,
    /// Bit W-1 clear, as Linux guests pass them; the other form is ACCESS_FAILED.
    WithoutAlias,
    /// Bit W-1 set, as ACS passes them; the other form is ACCESS_FAILED.
    WithAlias,
}

/// The host's decision about PSCI_CPU_ON (`rsi.md` 8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CpuOn {
    /// The REC runs.
    Allow,
    /// DENIED.
    Deny,
}
