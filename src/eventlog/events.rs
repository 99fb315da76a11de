//! The events that are about policy, inventory, decisions and payload. Each function here is one row of docs/event-log.md.

use super::{Event, LOG_VERSION, put_sized, put32, put64};
use crate::abi::eventlog::{self as abi, tag};
use crate::abi::fit::OsKind;
use crate::boot::bundle::Part;
use crate::cbor::Items;
use crate::codes::StopCode;
use crate::digest::Digest;
use crate::policy::inventory::Shown;
use crate::policy::types::{Anchor, AnchorKey, Mode};
use alloc::string::String;
use alloc::vec::Vec;

/// Dialect of the RMM's interface (docs/spec-map.md).
const DIALECT: &str = "a";

/// What the inventory makes of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    /// A bridge that a rule takes.
    Bridge,
    /// To be locked and judged.
    Attest,
    /// Never locked, by its first rule.
    Shared,
    /// Quiet and not shown, by its first rule.
    Hide,
    /// No rule takes it.
    Extra,
}

impl Disposition {
    const fn word(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Attest => "attest",
            Self::Shared => "shared",
            Self::Hide => "hide",
            Self::Extra => "extra",
        }
    }
}

/// An entry of the inventory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Slot path, or name of the node of a device besides PCI.
    pub slot: String,
    /// Ids, as the host showed them.
    pub shown: Shown,
    /// Revision id.
    pub revision: u8,
    /// What becomes of it.
    pub disposition: Disposition,
    /// Name of the first rule that may take it.
    pub rule: Option<String>,
}

/// What was decided about a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// For this mode.
    Accepted(Mode),
    /// Refused for this reason; what its rule has for a failure: `hide` or `shared`, or nothing where the boot stops.
    Refused(StopCode, Option<Mode>),
    /// Too few functions for a rule.
    Missing,
    /// No rule takes it.
    Extra,
    /// An audit boot: nothing is decided.
    Ignored,
}

impl Verdict {
    /// Returns the word of the log.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Accepted(_) => "accepted",
            Self::Refused(..) => "refused",
            Self::Missing => "missing",
            Self::Extra => "extra",
            Self::Ignored => "ignored",
        }
    }

    /// Returns the mode in which the function is handed off; `None`: it is not there, or the boot stops.
    #[must_use]
    pub const fn mode(&self) -> Option<Mode> {
        match self {
            Self::Accepted(mode) => Some(*mode),
            Self::Refused(_, mode) => *mode,
            Self::Extra => Some(Mode::Hide),
            Self::Missing | Self::Ignored => None,
        }
    }

    /// Returns the number of the stop code that says why; 0: there is no reason to be told.
    #[must_use]
    pub const fn code(&self) -> u16 {
        match self {
            Self::Refused(code, _) => code.number(),
            Self::Missing => StopCode::RequiredMissing.number(),
            _ => 0,
        }
    }

    /// Adds verdict and mode.
    fn write(&self, items: &mut Items) {
        items.text(self.word()).text(self.mode().map_or("none", Mode::word));
    }
}

/// What became of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Verdict, with all that happened since.
    pub verdict: Verdict,
    /// It is in RUN.
    pub runs: bool,
}

/// What is booted.
#[derive(Clone, Debug)]
pub struct BundleFacts<'a> {
    /// Security version number.
    pub svn: u32,
    /// What the payload can do.
    pub os: OsKind,
    /// SHA-256 of the FIT structure.
    pub manifest: &'a [u8; 32],
    /// Name of the configuration.
    pub configuration: &'a str,
    /// Its parts, in order.
    pub parts: &'a [&'a Part<'a>],
    /// Command line, without a final NUL.
    pub cmdline: Option<&'a [u8]>,
}

/// Makes a tagged event.
fn tagged(pcr: u32, tag: u32, items: &Items) -> Event {
    let mut data = Vec::new();
    put32(&mut data, tag);
    put_sized(&mut data, &items.0);
    Event { pcr, kind: abi::EV_EVENT_TAG, data }
}

/// Makes an event with UEFI_VARIABLE_DATA. `name` is ASCII.
fn variable(kind: u32, name: &str, value: &[&[u8]]) -> Event {
    let mut data = Vec::from(abi::GUID);
    put64(&mut data, crate::cbor::length(name.len()));
    put64(&mut data, crate::cbor::length(value.iter().map(|part| part.len()).sum()));
    name.bytes().for_each(|byte| data.extend_from_slice(&[byte, 0]));
    value.iter().for_each(|part| data.extend_from_slice(part));
    Event { pcr: abi::PCR_POLICY, kind, data }
}

/// What the firmware speaks.
#[must_use]
pub fn realm() -> Event {
    let mut items = Items::default();
    items.array(2).number(LOG_VERSION).text(DIALECT);
    tagged(abi::PCR_CONFIG, tag::REALM, &items)
}

/// The encoded policy, whole.
#[must_use]
pub fn policy(encoded: &[u8]) -> Event {
    variable(abi::EV_EFI_SPDM_DEVICE_POLICY, "policy", &[encoded])
}

/// The trust anchor that a verified chain ends at.
pub(super) fn authority(anchor: &Anchor) -> Event {
    let (AnchorKey::Certificate(digest) | AnchorKey::PublicKey(digest)) = &anchor.key;
    variable(abi::EV_EFI_SPDM_DEVICE_AUTHORITY, "authority", &[&abi::GUID, digest.as_bytes()])
}

/// An entry of the inventory.
#[must_use]
pub fn function(listed: &Listed) -> Event {
    let Shown { vendor, device, subsystem_vendor, subsystem, class } = listed.shown;
    let mut items = Items::default();
    items.array(9).text(&listed.slot);
    for id in [vendor, device, subsystem_vendor, subsystem] {
        items.number(id);
    }
    items.number(class).number(listed.revision);
    items.text(listed.disposition.word()).text_or_null(listed.rule.as_deref());
    tagged(abi::PCR_DEVICES, tag::FUNCTION, &items)
}

/// What is decided about a function, or of a rule without one (`slot` is `None`).
#[must_use]
pub fn verdict(slot: Option<&str>, rule: Option<&str>, verdict: &Verdict) -> Event {
    let mut items = Items::default();
    items.array(5).text_or_null(slot).text_or_null(rule);
    verdict.write(&mut items);
    items.number(verdict.code());
    tagged(abi::PCR_DEVICES, tag::VERDICT, &items)
}

/// What became of a function.
#[must_use]
pub fn outcome(slot: &str, outcome: &Outcome) -> Event {
    let mut items = Items::default();
    items.array(5).text(slot);
    outcome.verdict.write(&mut items);
    items.text(if outcome.runs { "run" } else { "unlocked" }).number(outcome.verdict.code());
    tagged(abi::PCR_DEVICES, tag::OUTCOME, &items)
}

/// What is booted.
#[must_use]
pub fn bundle(facts: &BundleFacts<'_>) -> Event {
    let mut items = Items::default();
    items.array(6).number(facts.svn).text(facts.os.word()).bytes(facts.manifest).text(facts.configuration);
    items.array(facts.parts.len());
    for part in facts.parts {
        let digest = part.digest();
        items.array(4).text(part.role().word()).text(digest.algorithm()).bytes(digest.as_bytes());
        items.number(crate::cbor::length(part.len_bytes()));
    }
    match facts.cmdline {
        Some(bytes) => items.bytes(bytes),
        None => items.null(),
    };
    tagged(abi::PCR_BUNDLE, tag::BUNDLE, &items)
}

/// The final tree: the digest of its measured form.
#[must_use]
pub fn tree(digest: &Digest) -> Event {
    let mut items = Items::default();
    items.array(1).bytes(digest.as_bytes());
    tagged(abi::PCR_SESSION, tag::TREE, &items)
}

/// The end of what the firmware extends into a REM.
#[must_use]
pub fn separator(pcr: u32) -> Event {
    Event { pcr, kind: abi::EV_SEPARATOR, data: [0; 4].into() }
}

pub(super) fn session_event(items: &Items) -> Event {
    tagged(abi::PCR_SESSION, tag::SESSION, items)
}
