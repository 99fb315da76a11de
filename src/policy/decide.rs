//! The decision: from evidence, inventory and policy to a verdict for each function. The same code in the firmware and in
//! the host tool.
//!
//! A rule is chosen first: among those that may take the function, the first whose identity is the one that the chain
//! proves. That rule alone decides then. Pure functions of bytes and numbers.
//!
//! Trust: the objects are what the RMM vouches for; what they say is the device's word until chain and signature fit.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::pattern;
use super::pins::Pins;
use super::refusal::Refusal;
use super::types::{
    EvidenceClass, Identity, Measurements, Mode, Policy, Quiet, Reference, ReferenceValue, Rule, Serial,
};
use crate::addr::Bdf;
use crate::digest::Digest;
use crate::evidence::{
    Block, Chain, ContentChanged, DeviceMode, Exchange, InterfaceReport, MeasurementError, Objects, Trust,
    Vca, check_flags, check_references,
};
use crate::hex::Hex;
use crate::mapping::{MappingList, plan};
use crate::mutation::{Mutation, removed};
use crate::pcie::{Bar, Function};
use crate::rsi::{Digests, HashAlgorithm};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;

/// A function with its evidence, whose digests matched the RMM's.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    /// Its header.
    pub function: &'a Function,
    /// Its BARs with their addresses.
    pub bars: &'a [Bar],
    /// Rules that may take it, indexes in the policy's order.
    pub rules: &'a [usize],
    /// Algorithm of the digests.
    pub hash: HashAlgorithm,
    /// What the RMM recorded.
    pub digests: &'a Digests,
    /// The objects; for a device without SPDM all but the report are empty.
    pub objects: &'a Objects,
    /// The nonce that the firmware asked to have in the SPDM request.
    pub nonce: &'a [u8; 32],
    /// Why mode `run` is impossible with this payload on this machine; `None`: it is possible.
    pub no_run: Option<&'static str>,
}

/// What became of a candidate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The rule that decided, an index in the policy; `None`: no rule takes the function.
    pub rule: Option<usize>,
    /// Accepted, or why not.
    pub verdict: Result<Accepted, Refusal>,
    /// What the verdict rests on, in the order in which it was looked at.
    pub used: Vec<Used>,
}

/// Something of the policy that was used and held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Used {
    /// The chain ends at this anchor, by name.
    Anchor(String),
    /// The identity of the rule is that of the unit.
    Identity,
    /// The measurements are signed by the leaf key; true: and hold our nonce.
    Signature {
        /// The SPDM request holds the firmware's nonce.
        fresh: bool,
    },
    /// The reference of this index fits.
    Reference(u8),
    /// The device is in its normal mode, without debug.
    DeviceMode,
    /// The report's flags, and its account of every page.
    Report,
}

impl fmt::Display for Used {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anchor(name) => write!(f, "the chain ends at anchor {name}"),
            Self::Identity => f.write_str("the unit is one that the rule takes"),
            Self::Signature { fresh: true } => f.write_str("signed by the leaf key, with our nonce"),
            Self::Signature { fresh: false } => f.write_str("signed by the leaf key, without our nonce"),
            Self::Reference(index) => write!(f, "measurement {index:#x} fits its reference"),
            Self::DeviceMode => f.write_str("normal device mode"),
            Self::Report => f.write_str("the interface report accounts for every page"),
        }
    }
}

/// An accepted function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// How it is handed off.
    pub mode: Mode,
    /// What to validate.
    pub list: MappingList,
    /// How it is known that the device does nothing when DMA is opened.
    pub quiet: Quiet,
    /// What does not change from one exchange to the next.
    pub pins: Pins,
}

/// What chain and measurements prove, before any rule is looked at.
struct Proof<'a> {
    class: EvidenceClass,
    subject: String,
    leaf_key: &'a [u8],
    serial: Option<Serial>,
    anchor: Option<usize>,
    fresh: bool,
    measurement_hash: Option<HashAlgorithm>,
    changed: bool,
    blocks: Vec<Block<'a>>,
    algorithms: String,
}

/// Decides about all candidates, in inventory order.
#[must_use]
pub fn decide(policy: &Policy, candidates: &[Candidate<'_>]) -> Vec<Decision> {
    let mut taken: Vec<Taken<'_>> = Vec::new();
    let mut decisions = Vec::new();
    for candidate in candidates {
        decisions.push(one(policy, candidate, &mut taken));
    }
    decisions
}

/// A function that a rule has taken, accepted or not.
struct Taken<'a> {
    bdf: Bdf,
    rule: usize,
    leaf_key: &'a [u8],
}

fn one<'a>(policy: &Policy, candidate: &Candidate<'a>, taken: &mut Vec<Taken<'a>>) -> Decision {
    let mut used = Vec::new();
    let wanted = candidate.rules.iter().filter_map(|index| Some((*index, policy.rules.get(*index)?)));
    let wanted: Vec<(usize, &Rule)> = wanted.collect();
    let proof = match prove(policy, candidate) {
        Ok(proof) => proof,
        // Who it is stays unknown: the first rule that may take it is the one that it fails.
        Err(refusal) => {
            return Decision { rule: wanted.first().map(|(index, _)| *index), verdict: Err(refusal), used };
        }
    };
    if let Some(anchor) = proof.anchor.and_then(|index| policy.anchors.get(index)) {
        used.push(Used::Anchor(anchor.name.clone()));
    }
    if proof.class == EvidenceClass::Signed {
        used.push(Used::Signature { fresh: proof.fresh });
    }
    let count = |taken: &[Taken<'_>], rule| taken.iter().filter(|taken| taken.rule == rule).count();
    let is_it = |rule: &Rule| is_identity(&rule.identity, &proof);
    let has_room =
        |index, rule: &Rule| u32::try_from(count(taken, index)).is_ok_and(|count| count < rule.count);
    let fits = |(index, rule): &&(usize, &Rule)| is_it(rule) && has_room(*index, rule);
    let Some((index, rule)) = wanted.iter().find(fits).copied() else {
        let refusal = match wanted.iter().any(|(_, rule)| is_it(rule)) {
            true => Refusal::NoRoom,
            false => no_identity(policy, &proof),
        };
        return Decision { rule: None, verdict: Err(refusal), used };
    };
    let decision = |verdict, used| Decision { rule: Some(index), verdict, used };
    let twin = |taken: &&Taken<'_>| {
        let both = rule.same_unit && policy.rules.get(taken.rule).is_some_and(|rule| rule.same_unit);
        !proof.leaf_key.is_empty() && taken.leaf_key == proof.leaf_key && !both
    };
    let twin = taken.iter().find(twin).map(|taken| taken.bdf);
    taken.push(Taken { bdf: candidate.function.bdf, rule: index, leaf_key: proof.leaf_key });
    if !rule.identity.is_any() {
        used.push(Used::Identity);
    }
    if let Some(other) = twin {
        return decision(Err(Refusal::SameUnit(other)), used);
    }
    let verdict = judge(rule, candidate, &proof, policy.forwards_nonce, &mut used);
    decision(verdict, used)
}

/// Verifies chain, session and measurements.
fn prove<'a>(policy: &Policy, candidate: &Candidate<'a>) -> Result<Proof<'a>, Refusal> {
    let Objects { vca: vca_bytes, certificate, measurements, .. } = candidate.objects;
    let mut proof = Proof {
        class: EvidenceClass::Platform,
        subject: String::new(),
        leaf_key: &[],
        serial: None,
        anchor: None,
        fresh: false,
        measurement_hash: None,
        changed: false,
        blocks: Vec::new(),
        algorithms: String::new(),
    };
    if vca_bytes.is_empty() && certificate.is_empty() && measurements.is_empty() {
        return Ok(proof);
    }
    let vca = Vca::parse(vca_bytes)?;
    let exchange = Exchange::parse(measurements, &vca)?;
    proof.measurement_hash = vca.measurement_hash;
    proof.changed = exchange.content_changed == ContentChanged::Changed;
    proof.algorithms = vca.to_string();
    proof.fresh = exchange.requester_nonce.as_ref() == Some(candidate.nonce);
    if exchange.signature.is_none() {
        // Nothing ties the chain to this exchange: it proves nothing.
        proof.class = EvidenceClass::Unauthenticated;
        proof.blocks = exchange.blocks;
        return Ok(proof);
    }
    let chain = Chain::parse(certificate, vca.hash)?;
    let trust = Trust { anchors: &policy.anchors, denied: &policy.denied, floor: policy.floor };
    proof.anchor = Some(chain.verify(&trust)?);
    let leaf = chain.leaf();
    let session_key = &candidate.digests.public_key;
    if session_key.iter().any(|byte| *byte != 0) {
        let digest = Digest::of(candidate.hash, &[leaf.key.spki()]);
        let (found, rest) = session_key.split_at_checked(digest.as_bytes().len()).unwrap_or_default();
        if found != digest.as_bytes() || rest.iter().any(|byte| *byte != 0) {
            return Err(Refusal::SessionKey);
        }
    }
    if !removed(Mutation::Signature) {
        exchange.verify(vca_bytes, &vca, &leaf.key)?;
    }
    proof.class = EvidenceClass::Signed;
    proof.subject = leaf.subject.clone();
    proof.leaf_key = leaf.key.spki();
    proof.serial = Some(leaf.serial.clone());
    proof.blocks = exchange.blocks;
    Ok(proof)
}

/// Tells whether the unit is one that the rule takes.
fn is_identity(identity: &Identity, proof: &Proof<'_>) -> bool {
    let is_signed = proof.class == EvidenceClass::Signed;
    let subject = identity.subject.as_ref();
    let is_key = |digest: &Digest| digest.matches(proof.leaf_key);
    let is_serial = || proof.serial.as_ref().is_some_and(|serial| identity.serials.contains(serial));
    let is_unit = || !identity.is_pinned() || identity.leaf_keys.iter().any(is_key) || is_serial();
    identity.is_any()
        || is_signed && subject.is_none_or(|subject| pattern::matches(subject, &proof.subject)) && is_unit()
}

/// Says why no rule for this place takes the unit.
fn no_identity(policy: &Policy, proof: &Proof<'_>) -> Refusal {
    let elsewhere = |rule: &&Rule| rule.identity.is_pinned() && is_identity(&rule.identity, proof);
    let subject = proof.subject.clone();
    match policy.rules.iter().find(elsewhere) {
        Some(rule) => Refusal::UnitElsewhere { subject, rule: rule.name.clone() },
        None => {
            let leaf_key = Digest::of(HashAlgorithm::Sha384, &[proof.leaf_key]).to_string();
            Refusal::UnknownUnit { subject, leaf_key }
        }
    }
}

/// Holds the evidence against one rule.
fn judge(
    rule: &Rule,
    candidate: &Candidate<'_>,
    proof: &Proof<'_>,
    forwards_nonce: bool,
    used: &mut Vec<Used>,
) -> Result<Accepted, Refusal> {
    let is_enough = match rule.evidence {
        EvidenceClass::Unauthenticated => proof.class != EvidenceClass::Platform,
        class => proof.class == class,
    };
    if !is_enough {
        return Err(Refusal::Class { found: proof.class, wanted: rule.evidence });
    }
    // A request without a signature has no room for a nonce (DSP0274, GET_MEASUREMENTS).
    if proof.class == EvidenceClass::Signed
        && forwards_nonce
        && !proof.fresh
        && !removed(Mutation::RequesterNonce)
    {
        return Err(Refusal::Nonce);
    }
    if proof.changed {
        return Err(Refusal::ContentChanged);
    }
    device_mode(rule, &proof.blocks, used)?;
    if let Measurements::Listed(references) = &rule.measurements {
        check_references(references, &proof.blocks, proof.measurement_hash)
            .map_err(|error| with_values(error, references, &proof.blocks))?;
        used.extend(references.iter().map(|reference| Used::Reference(reference.index)));
    }
    let report = InterfaceReport::parse(&candidate.objects.report)?;
    check_flags(&report, &rule.report)?;
    let list = plan(&report, candidate.function, candidate.bars, &rule.report)?;
    used.push(Used::Report);
    let mode = mode(rule, proof.class, candidate.no_run)?;
    let Proof { leaf_key, blocks, algorithms, .. } = proof;
    let pins = Pins::new(leaf_key, &candidate.objects.certificate, blocks, algorithms, &report);
    Ok(Accepted { mode, list, quiet: rule.quiet, pins })
}

/// Most bytes of a measurement that a refusal shows: any digest, and the start of what is longer.
const SHOWN: usize = 64;

/// Says what was found and what was wanted, where a value is the wrong one.
fn with_values(error: MeasurementError, references: &[Reference], blocks: &[Block<'_>]) -> Refusal {
    let MeasurementError::Mismatch { index } = error else { return error.into() };
    let block = blocks.iter().find(|block| block.index == index);
    let found = block
        .map(|block| format!("{}", Hex(block.value.get(..SHOWN).unwrap_or(block.value))))
        .unwrap_or_default();
    let wanted = references.iter().find(|reference| reference.index == index);
    let wanted = match wanted.map(|reference| &reference.value) {
        Some(ReferenceValue::Digests(digests)) => {
            digests.iter().map(|digest| format!("{digest}")).collect::<Vec<_>>().join(" or ")
        }
        Some(ReferenceValue::Values(values)) => {
            values.iter().map(|value| format!("{}", Hex(value))).collect::<Vec<_>>().join(" or ")
        }
        Some(ReferenceValue::MinSvn(_)) | None => String::new(),
    };
    Refusal::Value { index, found, wanted }
}

/// The device mode, where it is told, must be a normal one.
fn device_mode(rule: &Rule, blocks: &[Block<'_>], used: &mut Vec<Used>) -> Result<(), Refusal> {
    match DeviceMode::find(blocks)? {
        Some(mode) if !mode.is_normal() => Err(Refusal::DeviceMode("not the normal operational mode")),
        Some(mode) if (mode.is_debug() || mode.was_opened()) && !rule.debug_allowed => {
            Err(Refusal::DeviceMode("debug, or has been open to it"))
        }
        None if rule.device_mode_required => {
            Err(Refusal::DeviceMode("not reported, and the rule demands it"))
        }
        Some(_) => {
            used.push(Used::DeviceMode);
            Ok(())
        }
        None => Ok(()),
    }
}

/// Chooses the first mode of the rule that is possible.
fn mode(rule: &Rule, class: EvidenceClass, no_run: Option<&'static str>) -> Result<Mode, Refusal> {
    // A second look at what Policy::check says already: nobody's signature, no mode run.
    let no_run = match class {
        EvidenceClass::Unauthenticated => Some("the measurements are not signed"),
        _ => no_run,
    };
    let is_possible = |mode: &&Mode| **mode != Mode::Run || no_run.is_none();
    rule.modes.iter().find(is_possible).copied().ok_or(Refusal::NoMode(no_run.unwrap_or("the rule has none")))
}
