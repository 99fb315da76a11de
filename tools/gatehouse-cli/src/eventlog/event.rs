//! The events, as values. docs/event-log.md says what they mean.

use std::fmt;

/// Defines words of the log: variant and text.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl $name {
            /// Returns the word of the log.
            #[must_use]
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            /// Finds a word.
            #[must_use]
            pub fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

words! {
    /// What inventory makes of a function.
    Disposition {
        /// A bridge that a rule takes.
        Bridge = "bridge",
        /// Evidence is asked for.
        Attest = "attest",
        /// Never locked.
        Shared = "shared",
        /// Hidden by its first rule.
        Hide = "hide",
        /// No rule takes it, or one of the bridges above.
        Extra = "extra",
    }
}

words! {
    /// What was decided of a function or a rule.
    Judgement {
        /// Accepted.
        Accepted = "accepted",
        /// Refused.
        Refused = "refused",
        /// A rule that found too few functions.
        Missing = "missing",
        /// No rule takes it.
        Extra = "extra",
    }
}

words! {
    /// How a function is handed off.
    Mode {
        /// RUN, private BARs, DMA on.
        Run = "run",
        /// Verified and unlocked again.
        Pin = "pin",
        /// Never trusted, shared memory only.
        Shared = "shared",
        /// Not shown.
        Hide = "hide",
        /// There is nothing to hand off.
        None = "none",
    }
}

words! {
    /// State that a function is left in.
    State {
        /// TDISP RUN.
        Run = "run",
        /// TDISP CONFIG_UNLOCKED.
        Unlocked = "unlocked",
    }
}

/// Ids that the host shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ids {
    /// Vendor id; 0 of a device besides PCI.
    pub vendor: u16,
    /// Device id; the virtio type of a device besides PCI.
    pub device: u32,
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem id.
    pub subsystem: u16,
    /// Class code, 24 bits.
    pub class: u32,
    /// Revision.
    pub revision: u8,
}

/// `function`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Slot path, or name of the node.
    pub slot: String,
    /// Ids.
    pub ids: Ids,
    /// Disposition.
    pub disposition: Disposition,
    /// First rule that may take it.
    pub rule: Option<String>,
}

/// Objects of a session, in the order of their digests in `session`; there is no object for the session key.
pub const DIGESTS: [&str; 5] =
    ["negotiation data", "certificate chain", "session key", "measurements", "report"];

/// `session`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionFacts {
    /// Slot path.
    pub slot: String,
    /// Id of RSI and RHI calls.
    pub vdev: u64,
    /// Length of the digests: 32, 48 or 64 bytes.
    pub hash: &'static str,
    /// Lock, measurement and report nonce.
    pub nonces: [u64; 3],
    /// Digests, as in [`DIGESTS`].
    pub digests: [Vec<u8>; 5],
    /// Nonce of the measurement request.
    pub requester_nonce: [u8; 32],
    /// Why mode `run` is impossible.
    pub no_run: Option<String>,
}

/// `verdict`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Slot; `None`: of a rule that found too few.
    pub slot: Option<String>,
    /// Rule.
    pub rule: Option<String>,
    /// Verdict.
    pub judgement: Judgement,
    /// Mode.
    pub mode: Mode,
    /// 0, or a stop code.
    pub code: u16,
}

/// `outcome`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Slot path.
    pub slot: String,
    /// Verdict.
    pub judgement: Judgement,
    /// Mode.
    pub mode: Mode,
    /// State.
    pub state: State,
    /// 0, or a stop code.
    pub code: u16,
}

/// A part of the bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Role.
    pub role: String,
    /// Name of the hash.
    pub hash: &'static str,
    /// Digest.
    pub digest: Vec<u8>,
    /// Length in bytes.
    pub len: u64,
}

impl Part {
    /// Returns the digest as text, `sha256:` and digits.
    #[must_use]
    pub fn digest_text(&self) -> String {
        format!("{}:{}", self.hash, crate::hex(&self.digest))
    }
}

/// `bundle`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BundleFacts {
    /// Security version number.
    pub svn: u64,
    /// `gatehouse,os`.
    pub os: String,
    /// SHA-256 of the FIT structure.
    pub manifest: [u8; 32],
    /// Name of the configuration.
    pub configuration: String,
    /// Parts.
    pub parts: Vec<Part>,
    /// Command line, without a final NUL.
    pub cmdline: Option<Vec<u8>>,
}

impl BundleFacts {
    /// Returns the part with this role.
    #[must_use]
    pub fn part(&self, role: &str) -> Option<&Part> {
        self.parts.iter().find(|part| part.role == role)
    }
}

/// DEVICE_SECURITY_EVENT_DATA2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceSecurity {
    /// AuthState: true: 0, signed by a key whose chain was verified; false: 1.
    pub authenticated: bool,
    /// Position of the function among those that are judged, from 1.
    pub uid: u64,
    /// Slot path, from the device path.
    pub slot: String,
    /// SPDM version, for instance 0x12.
    pub spdm_version: u16,
    /// MeasurementHashAlgo.
    pub measurement_hash: u32,
    /// Measurement blocks: index, value type byte, value.
    pub blocks: Vec<(u8, u8, Vec<u8>)>,
    /// Ids in the PCI context.
    pub ids: Ids,
}

/// What an event says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// `realm`: dialect.
    Realm(String),
    /// EV_EFI_SPDM_DEVICE_POLICY: the encoded policy.
    Policy(Vec<u8>),
    /// `function`.
    Function(Function),
    /// EV_EFI_SPDM_FIRMWARE_BLOB.
    Firmware(DeviceSecurity),
    /// EV_EFI_SPDM_FIRMWARE_CONFIG.
    Configuration(DeviceSecurity),
    /// EV_EFI_SPDM_DEVICE_AUTHORITY: digest of the anchor.
    Authority(Vec<u8>),
    /// `session`.
    Session(SessionFacts),
    /// `verdict`.
    Verdict(Verdict),
    /// `bundle`.
    Bundle(BundleFacts),
    /// `outcome`.
    Outcome(Outcome),
    /// `tree`: digest of the measured form.
    Tree(Vec<u8>),
    /// EV_SEPARATOR.
    Separator,
}

impl Data {
    /// Returns the event's name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Realm(_) => "realm",
            Self::Policy(_) => "policy",
            Self::Function(_) => "function",
            Self::Firmware(_) => "firmware",
            Self::Configuration(_) => "configuration",
            Self::Authority(_) => "authority",
            Self::Session(_) => "session",
            Self::Verdict(_) => "verdict",
            Self::Bundle(_) => "bundle",
            Self::Outcome(_) => "outcome",
            Self::Tree(_) => "tree",
            Self::Separator => "separator",
        }
    }

    /// Returns the PCR that docs/event-log.md gives it; a separator has four.
    #[must_use]
    pub const fn pcr(&self) -> Option<u32> {
        match self {
            Self::Realm(_) => Some(1),
            Self::Policy(_) | Self::Authority(_) => Some(7),
            Self::Function(_) | Self::Verdict(_) | Self::Outcome(_) => Some(6),
            Self::Firmware(_) => Some(2),
            Self::Configuration(_) => Some(3),
            Self::Session(_) | Self::Tree(_) => Some(16),
            Self::Bundle(_) => Some(8),
            Self::Separator => None,
        }
    }
}

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Number in the log, from 1: 0 is the Spec ID event.
    pub number: usize,
    /// PCR.
    pub pcr: u32,
    /// Digest: the hash of the event data.
    pub digest: Vec<u8>,
    /// What it says.
    pub data: Data,
}

impl Event {
    /// Returns the REM that it is extended into, 1 to 4.
    #[must_use]
    pub const fn rem(&self) -> usize {
        match self.pcr {
            1 | 7 => 1,
            0..=6 => 2,
            8..=15 => 3,
            _ => 4,
        }
    }
}
