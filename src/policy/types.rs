//! What a policy says: rules that match functions by what the host shows and by who they prove to be, what their evidence
//! must be, and what becomes of them. docs/policy.md is the reader's side.
//!
//! Trust: covered by the bundle's manifest. These are values only: [`super::cbor`] reads them, [`super::decide`] uses them.

use crate::boot::slot::SlotPath;
use crate::digest::Digest;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// Version of the encoded form.
pub const POLICY_VERSION: u64 = 1;
/// Most rules of a policy.
pub const MAX_RULES: usize = 64;
/// Most trust anchors of a policy.
pub const MAX_ANCHORS: usize = 32;
/// Most entries of any other list of a policy: slots, units, denied keys, references, digests of a reference.
pub const MAX_ENTRIES: usize = 64;
/// Most bytes of a name or pattern.
pub const MAX_NAME: usize = 64;
/// Most functions that one rule may take.
pub const MAX_COUNT: u32 = 256;
/// Largest encoded policy in bytes.
pub const MAX_POLICY_BYTES: usize = 256 * 1024;

/// A whole policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Security version number: a later policy that takes something back has a higher one.
    pub svn: u64,
    /// Everything is recorded, nothing is accepted.
    pub audit: bool,
    /// No certificate of a chain may have ended before this time. There is no trusted clock: nothing else is compared.
    pub floor: Option<Time>,
    /// Whom certificate chains may end at.
    pub anchors: Vec<Anchor>,
    /// Keys and certificates that are refused wherever they appear.
    pub denied: Denied,
    /// The RMM puts the requester's nonce into the SPDM request. False: it is known not to (TF-RMM), and its absence is no
    /// reason to refuse.
    pub forwards_nonce: bool,
    /// The rules, in the order in which they are tried.
    pub rules: Vec<Rule>,
    /// What to do with a function that no rule takes.
    pub rest: Rest,
}

/// Seconds since 1970-01-01 00:00 UTC; negative before. What a certificate's validity is compared in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time(pub i64);

/// Where a certificate chain may end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// Name for people; unique.
    pub name: String,
    /// What identifies it.
    pub key: AnchorKey,
}

/// What identifies a trust anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnchorKey {
    /// Digest of the whole certificate (DER).
    Certificate(Digest),
    /// Digest of the SubjectPublicKeyInfo (DER).
    PublicKey(Digest),
}

/// What is refused wherever it appears.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Denied {
    /// Digests of SubjectPublicKeyInfo (DER) of leaf certificates.
    pub leaf_keys: Vec<Digest>,
    /// Serial numbers of certificates anywhere in the chain.
    pub serials: Vec<Serial>,
}

/// Serial number of a certificate: big-endian, without leading zero bytes, 1 to 20 bytes (RFC 5280, 4.1.2.2).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Serial(pub Vec<u8>);

/// What to do with functions that no rule takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rest {
    /// Made quiet and hidden from the payload; the boot goes on.
    #[default]
    Hide,
    /// The boot stops.
    Stop,
}

/// One rule: what it takes, what it demands, what it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Name for people, logs and the hand-off tree; unique.
    pub name: String,
    /// What it takes by what the host shows.
    pub matches: Match,
    /// What it takes by what the evidence proves.
    pub identity: Identity,
    /// It must be filled: `count` functions accepted, or the boot stops.
    pub required: bool,
    /// How many functions it takes: exactly so many if required, else at most.
    pub count: u32,
    /// How strong the evidence must be.
    pub evidence: EvidenceClass,
    /// Reference values.
    pub measurements: Measurements,
    /// The device mode block must be there (it is checked wherever it is).
    pub device_mode_required: bool,
    /// Debug is allowed to be on, or to have been since the last reset, or invasively since manufacturing.
    pub debug_allowed: bool,
    /// What the interface report may say.
    pub report: ReportRules,
    /// How it is known that the device does nothing when DMA is opened.
    pub quiet: Quiet,
    /// Hand-off modes, best first; never empty.
    pub modes: Vec<Mode>,
    /// What becomes of a function that it takes and does not accept.
    pub on_failure: OnFailure,
    /// Several functions may show one leaf key: functions of one physical device.
    pub same_unit: bool,
}

impl Rule {
    /// Makes a rule that says nothing but this: one function, required, and the strict side of everything else.
    #[must_use]
    pub fn new(name: String, matches: Match, modes: Vec<Mode>) -> Self {
        Self {
            name,
            matches,
            identity: Identity::default(),
            required: true,
            count: 1,
            evidence: EvidenceClass::Signed,
            measurements: Measurements::Any,
            device_mode_required: false,
            debug_allowed: false,
            report: ReportRules::default(),
            quiet: Quiet::ResetByClass,
            modes,
            on_failure: OnFailure::Stop,
            same_unit: false,
        }
    }
}

/// What a rule takes by what the host shows. Nothing of it is proven.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    /// A PCI function with a type 0 header that is not virtio.
    Device(PciMatch),
    /// A PCI-to-PCI bridge. What is behind a bridge that no rule takes is never looked at by any rule.
    Bridge(PciMatch),
    /// A virtio device on PCI; `None`: of any type.
    VirtioPci(PciMatch, Option<u16>),
    /// A virtio device on MMIO of this type (VIRTIO 1.2, section 5); `None`: of any.
    VirtioMmio(Option<u32>),
    /// A node of the device tree with this `compatible` string.
    Platform(String),
}

/// Where and what a PCI function is; what is empty or `None` matches any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PciMatch {
    /// Slot paths.
    pub slots: Vec<SlotPath>,
    /// Vendor id.
    pub vendor: Option<u16>,
    /// Device id.
    pub device: Option<u16>,
    /// Subsystem vendor id.
    pub subsystem_vendor: Option<u16>,
    /// Subsystem id.
    pub subsystem: Option<u16>,
    /// Class code.
    pub class: Option<ClassMatch>,
}

/// Class code to compare: base class, subclass and programming interface in bits 23:0, and which bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassMatch {
    /// Class code.
    pub value: u32,
    /// 0xff0000, 0xffff00 or 0xffffff.
    pub mask: u32,
}

/// What a rule takes by what the certificate chain proves; what is empty or `None` matches any.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Pattern of the leaf's subject as text (RFC 4514); `*` stands for any characters.
    pub subject: Option<String>,
    /// Digests of SubjectPublicKeyInfo (DER) of the units.
    pub leaf_keys: Vec<Digest>,
    /// Serial numbers of the leaf certificates of the units.
    pub serials: Vec<Serial>,
}

impl Identity {
    /// Tells whether it names single units.
    #[must_use]
    pub fn is_pinned(&self) -> bool {
        !self.leaf_keys.is_empty() || !self.serials.is_empty()
    }

    /// Tells whether it takes anything.
    #[must_use]
    pub fn is_any(&self) -> bool {
        self.subject.is_none() && !self.is_pinned()
    }
}

/// How strong evidence is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EvidenceClass {
    /// A certificate chain to an anchor, and measurements that its leaf key signed.
    #[default]
    Signed,
    /// A device on the platform that never speaks SPDM: the RMM vouches for its interface report and has no digest of
    /// anything else. The platform's own token answers for it.
    Platform,
    /// Measurements without a signature. Never mode `run`.
    Unauthenticated,
}

impl EvidenceClass {
    /// Returns the word of policies and logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Signed => "signed",
            Self::Platform => "platform",
            Self::Unauthenticated => "unauthenticated",
        }
    }
}

impl fmt::Display for EvidenceClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// Reference values for measurement blocks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measurements {
    /// Whatever runs on the device is taken.
    Any,
    /// Each of these must be there and fit; other blocks do not matter. Never empty.
    Listed(Vec<Reference>),
}

/// One reference value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reference {
    /// Index of the block, 1..=0xFE.
    pub index: u8,
    /// Value type that the block must have (DSP0274, DMTFSpecMeasurementValueType bits 6:0); `None`: any.
    pub kind: Option<u8>,
    /// What the value must be.
    pub value: ReferenceValue,
}

/// What a measurement must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReferenceValue {
    /// One of these digests; of a raw block the digest is made.
    Digests(Vec<Digest>),
    /// One of these values, byte for byte, in either form.
    Values(Vec<Vec<u8>>),
    /// A security version number (raw, 8 bytes, little-endian) of at least this.
    MinSvn(u64),
}

/// What an interface report may say; the defaults are the strict ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReportRules {
    /// Firmware updates may be possible while locked.
    pub firmware_update_allowed: bool,
    /// DMA with PASID may be possible.
    pub pasid_allowed: bool,
    /// DMA without PASID need not be possible.
    pub no_plain_dma_allowed: bool,
    /// ATS may be on (the firmware opens DMA without ATS).
    pub ats_allowed: bool,
    /// PRS may be on.
    pub prs_allowed: bool,
    /// Non-TEE ranges are left to the host like MSI-X pages; otherwise they refuse the device.
    pub non_tee_shared: bool,
    /// Ways in which known silicon differs.
    pub quirks: Quirks,
}

/// Ways in which the reports of known silicon differ from TDISP (docs/policy.md). Each only by an explicit rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quirks {
    /// The reporting offset is not a multiple of the BARs: the first range of a BAR is its base.
    pub relative: bool,
    /// The report names one range: the whole of its BAR.
    pub whole_bar: bool,
    /// Pages that no range names are non-TEE.
    pub omitted_non_tee: bool,
    /// Range id 0xFF00 + n is BAR n; 0xFFFF is coherent memory, which is left out.
    pub high_ids: bool,
    /// Addresses are in bytes, not in pages.
    pub byte_addresses: bool,
    /// Range ids are twice the BAR number.
    pub doubled_ids: bool,
}

/// How it is known that a device does nothing when DMA is opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Quiet {
    /// The firmware makes it idle through its private BAR, by its class.
    #[default]
    ResetByClass,
    /// The reset at the lock leaves it idle: part of what its measurements vouch for.
    Device,
}

/// How a function is handed off, or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// RUN, private BARs, DMA on.
    Run,
    /// Verified, then unlocked and quiet; the payload locks it again and compares pins.
    Pin,
    /// Never locked (or unlocked again): DMA reaches shared memory only.
    Shared,
    /// Quiet, and not shown.
    Hide,
}

impl Mode {
    /// Returns the word of policies, logs and trees.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Pin => "pin",
            Self::Shared => "shared",
            Self::Hide => "hide",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// What becomes of a function that a rule takes and does not accept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnFailure {
    /// The boot stops.
    #[default]
    Stop,
    /// Quiet, and not shown.
    Hide,
    /// As in mode `shared`.
    Shared,
}

impl OnFailure {
    /// Returns the mode that is left for the function; `None`: the boot stops.
    #[must_use]
    pub const fn mode(self) -> Option<Mode> {
        match self {
            Self::Stop => None,
            Self::Hide => Some(Mode::Hide),
            Self::Shared => Some(Mode::Shared),
        }
    }
}

/// Why a policy contradicts itself: what no reader of its form can see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// Index of the rule; `None`: the policy as a whole.
    pub rule: Option<usize>,
    /// Name of the field, as in the TOML form.
    pub field: &'static str,
    /// What is wrong.
    pub what: &'static str,
}
