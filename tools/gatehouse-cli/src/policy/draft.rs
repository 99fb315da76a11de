//! A first policy from what was captured: what to expect, and comments that say what a person has to look at.
use super::toml::{print, print_rule};
use gatehouse::boot::slot::SlotPath;
use gatehouse::digest::Digest;
use gatehouse::policy::check::MAX_VALUE_BYTES;
use gatehouse::policy::types::{
    Anchor, AnchorKey, ClassMatch, EvidenceClass, Identity, MAX_COUNT, MAX_ENTRIES, MAX_NAME, Match,
    Measurements, Mode, OnFailure, PciMatch, Policy, Quiet, Reference, ReferenceValue, ReportRules, Rule,
};
use gatehouse::rsi::HashAlgorithm;
use std::collections::BTreeSet;

/// Value types of measurement blocks (DSP0274, DMTFSpecMeasurementValueType).
mod kind {
    /// The last of immutable ROM, mutable firmware, hardware and firmware configuration.
    pub const LAST_COMPARED: u8 = 3;
    /// Device mode.
    pub const DEVICE_MODE: u8 = 5;
    /// Security version number of mutable firmware.
    pub const SVN: u8 = 7;
}

/// Classes that the firmware knows how to make idle: AHCI, NVMe, xHCI.
const IDLE_CLASSES: [u32; 3] = [0x01_0601, 0x01_0802, 0x0c_0330];

/// What an audit boot showed of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    /// Where it was.
    pub slot: SlotPath,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem id.
    pub subsystem: u16,
    /// Class code, 24 bits.
    pub class: u32,
    /// How strong its evidence is.
    pub evidence: EvidenceClass,
    /// The certificate chain that its measurements are signed under.
    pub chain: Option<CapturedChain>,
    /// Its measurement blocks.
    pub blocks: Vec<CapturedBlock>,
    /// The nonce of the request is zero: it is none that the realm has chosen.
    pub zero_nonce: bool,
    /// What its report needs.
    pub report: ReportRules,
    /// Why the firmware would refuse it, whatever the references are.
    pub objections: Vec<String>,
}

/// A certificate chain, as far as a policy speaks of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedChain {
    /// Digest of the root-most certificate.
    pub root: Digest,
    /// Subject of the leaf as text (RFC 4514).
    pub subject: String,
    /// Digest of the leaf's SubjectPublicKeyInfo.
    pub leaf_key: Digest,
}

/// A measurement block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CapturedBlock {
    /// Index.
    pub index: u8,
    /// Value type, 7 bits.
    pub kind: u8,
    /// Not a digest.
    pub is_raw: bool,
    /// The value.
    pub value: Vec<u8>,
}

/// Writes a policy that takes exactly what was captured. It is well formed; whether it is right, the comments ask.
#[must_use]
pub fn draft(functions: &[Captured]) -> String {
    let forwards_nonce = !functions.iter().any(|function| function.zero_nonce);
    let mut policy = Policy { svn: 1, forwards_nonce, ..Policy::default() };
    for chain in functions.iter().filter_map(|function| function.chain.as_ref()) {
        let key = AnchorKey::Certificate(chain.root);
        if !policy.anchors.iter().any(|anchor| anchor.key == key) {
            let name = format!("root-{}", policy.anchors.len() + 1);
            policy.anchors.push(Anchor { name, key });
        }
    }
    let mut text = String::from(
        "# A draft from what one boot showed. Nothing of it is known to be good: compare digests and versions with what\n\
         # the makers publish, and the anchors with certificates that you have from the makers themselves.\n",
    );
    text += if forwards_nonce {
        "# An RMM that does not put the nonce of the realm into the request (TF-RMM) needs: [rmm] forwards-nonce = false\n"
    } else {
        "# The nonce of a request is zero: this RMM does not forward the realm's.\n"
    };
    text += &print(&policy);
    text += &bridges(functions);
    for function in functions {
        let leaf = |function: &Captured| function.chain.as_ref().map(|chain| chain.leaf_key);
        let same =
            functions.iter().filter(|other| leaf(other).is_some() && leaf(other) == leaf(function)).count();
        let (rule, comments) = rule(function, same > 1);
        text.push('\n');
        comments.iter().for_each(|comment| text += &format!("# {comment}\n"));
        text += &print_rule(&rule);
    }
    text
}

/// Writes rules for the bridges above the functions: what is behind a bridge that no rule takes is never looked at.
fn bridges(functions: &[Captured]) -> String {
    let above = |function: &Captured| {
        let text = function.slot.to_string();
        let ends: Vec<usize> = text.match_indices('/').map(|(end, _)| end).collect();
        ends.into_iter().filter_map(move |end| text.get(..end)?.parse().ok()).collect::<Vec<SlotPath>>()
    };
    let slots: BTreeSet<SlotPath> = functions.iter().flat_map(above).collect();
    let slots: Vec<SlotPath> = slots.into_iter().collect();
    let rule = |(index, slots): (usize, &[SlotPath])| Rule {
        name: if index == 0 { "bridges".into() } else { format!("bridges-{}", index + 1) },
        matches: Match::Bridge(PciMatch { slots: slots.into(), ..PciMatch::default() }),
        identity: Identity::default(),
        required: false,
        count: slots.len().try_into().unwrap_or(MAX_COUNT),
        evidence: EvidenceClass::default(),
        measurements: Measurements::Any,
        device_mode_required: false,
        debug_allowed: false,
        report: ReportRules::default(),
        quiet: Quiet::default(),
        modes: vec![Mode::Shared],
        on_failure: OnFailure::Hide,
        same_unit: false,
    };
    slots.chunks(MAX_ENTRIES).enumerate().map(|chunk| format!("\n{}", print_rule(&rule(chunk)))).collect()
}

fn rule(function: &Captured, same_unit: bool) -> (Rule, Vec<String>) {
    let mut comments = Vec::new();
    let name = format!("slot-{}", function.slot);
    comments
        .extend(function.objections.iter().map(|why| format!("Review: the firmware would refuse it: {why}")));
    let evidence = function.evidence;
    match evidence {
        EvidenceClass::Signed => (),
        EvidenceClass::Platform => comments.push(
            "Review: no certificates and no measurements. The platform's token has to answer for this device.".into(),
        ),
        EvidenceClass::Unauthenticated => comments.push(
            "Review: the measurements are not signed. Nothing proves who made this device; never mode run."
                .into(),
        ),
    }
    let mut subject = None;
    if let Some(chain) = &function.chain {
        let written: String = chain.subject.chars().filter(|c| !c.is_control()).collect();
        if written == chain.subject
            && (1..=MAX_NAME).contains(&written.len())
            && written.bytes().any(|c| c != b'*')
        {
            comments.push("Review: the subject; * stands for what differs from unit to unit.".into());
            subject = Some(written);
        } else {
            comments.push(format!("The subject does not fit into a pattern; shorten it with *: {written}"));
        }
        comments.push(format!("To take this unit and no other: leaf-key = \"{}\"", chain.leaf_key));
    }
    if same_unit {
        comments.push("Several functions show this leaf key: one device with several functions?".into());
    }
    if !IDLE_CLASSES.contains(&function.class) {
        comments.push(
            "Review: the firmware has no idle check for this class; quiet = \"device\" if its measurements vouch for it."
                .into(),
        );
    }
    let (references, left_out) = references(&function.blocks);
    if !left_out.is_empty() {
        let list: Vec<_> = left_out.iter().map(u8::to_string).collect();
        comments.push(format!("Blocks without a reference here: {}", list.join(", ")));
    }
    let platform = evidence == EvidenceClass::Platform;
    if references.is_empty() && !platform {
        comments.push("Review: no block says what runs on the device.".into());
    }
    let rule = Rule {
        name,
        matches: Match::Device(PciMatch {
            slots: vec![function.slot.clone()],
            vendor: Some(function.vendor),
            device: Some(function.device),
            subsystem_vendor: Some(function.subsystem_vendor),
            subsystem: Some(function.subsystem),
            class: Some(ClassMatch { value: function.class & 0xff_ffff, mask: 0xff_ffff }),
        }),
        identity: Identity { subject, ..Identity::default() },
        required: true,
        count: 1,
        evidence,
        measurements: if references.is_empty() || platform {
            Measurements::Any
        } else {
            Measurements::Listed(references)
        },
        device_mode_required: !platform
            && function.blocks.iter().any(|block| block.kind == kind::DEVICE_MODE),
        debug_allowed: false,
        report: function.report,
        quiet: Quiet::default(),
        modes: if evidence == EvidenceClass::Unauthenticated {
            vec![Mode::Pin]
        } else {
            vec![Mode::Run, Mode::Pin]
        },
        on_failure: OnFailure::Stop,
        same_unit,
    };
    (rule, comments)
}

/// Makes references of the blocks that say what runs and how it is set up; returns the indexes of the others as well.
fn references(blocks: &[CapturedBlock]) -> (Vec<Reference>, Vec<u8>) {
    let (mut references, mut left_out) = (Vec::<Reference>::new(), Vec::new());
    for block in blocks {
        match reference(block) {
            Some(reference) if !references.iter().any(|other| other.index == block.index) => {
                references.push(reference);
            }
            None if block.kind == kind::DEVICE_MODE => (),
            _ => left_out.push(block.index),
        }
    }
    (references, left_out)
}

fn reference(block: &CapturedBlock) -> Option<Reference> {
    let value = if block.kind == kind::SVN {
        ReferenceValue::MinSvn(u64::from_le_bytes(block.value.as_slice().try_into().ok()?))
    } else if block.kind > kind::LAST_COMPARED || block.value.is_empty() {
        return None;
    } else if let (false, Some(digest)) = (block.is_raw, Digest::from_bytes(&block.value)) {
        ReferenceValue::Digests(vec![digest])
    } else if block.value.len() <= MAX_VALUE_BYTES {
        ReferenceValue::Values(vec![block.value.clone()])
    } else {
        ReferenceValue::Digests(vec![Digest::of(HashAlgorithm::Sha384, &[&block.value])])
    };
    Some(Reference { index: block.index, kind: Some(block.kind), value })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::toml::parse;
    use std::path::Path;

    fn block(index: u8, kind: u8, is_raw: bool, value: &[u8]) -> CapturedBlock {
        CapturedBlock { index, kind, is_raw, value: value.into() }
    }

    fn captured(slot: &str, leaf: u8) -> Captured {
        let digest = |n| Digest::from_bytes(&[n; 48]).unwrap();
        Captured {
            slot: slot.parse().unwrap(),
            vendor: 0x1b36,
            device: 0x10,
            subsystem_vendor: 0x1af4,
            subsystem: 0x1100,
            class: 0x01_0802,
            chain: Some(CapturedChain {
                root: digest(1),
                subject: "CN=NVMe 7,O=ACME".into(),
                leaf_key: digest(leaf),
            }),
            evidence: EvidenceClass::Signed,
            zero_nonce: false,
            report: ReportRules::default(),
            objections: vec![],
            blocks: vec![
                block(1, 0, false, &[0x11; 48]),
                block(2, 1, true, &[0x22; 2000]),
                block(3, 3, true, &[0x33; 5]),
                block(4, 7, true, &[7, 0, 0, 0, 0, 0, 0, 0]),
                block(5, 9, true, b"words"),
                block(0xfe, 5, true, &[0; 8]),
            ],
        }
    }

    #[test]
    fn a_draft_is_a_policy_for_what_was_captured() {
        let text = draft(&[captured("02.0", 2), captured("03.0", 3)]);
        let policy = parse(&text, Path::new("")).unwrap();
        assert_eq!(policy.anchors.len(), 1);
        let [rule, other] = &policy.rules[..] else { panic!() };
        assert_eq!((&*rule.name, &*other.name), ("slot-02.0", "slot-03.0"));
        assert_eq!(rule.modes, [Mode::Run, Mode::Pin]);
        assert_eq!(rule.identity.subject.as_deref(), Some("CN=NVMe 7,O=ACME"));
        assert!(rule.device_mode_required && rule.required && !rule.same_unit);
        let Measurements::Listed(references) = &rule.measurements else { panic!() };
        let values: Vec<_> = references.iter().map(|r| (r.index, r.kind.unwrap(), &r.value)).collect();
        let want = [
            (1, 0, ReferenceValue::Digests(vec![Digest::from_bytes(&[0x11; 48]).unwrap()])),
            (2, 1, ReferenceValue::Digests(vec![Digest::of(HashAlgorithm::Sha384, &[&[0x22; 2000]])])),
            (3, 3, ReferenceValue::Values(vec![vec![0x33; 5]])),
            (4, 7, ReferenceValue::MinSvn(7)),
        ];
        assert_eq!(values, want.each_ref().map(|(index, kind, value)| (*index, *kind, value)));
        assert!(text.contains("# Blocks without a reference here: 5\n"));
        assert!(!text.contains("no idle check"));
    }

    #[test]
    fn what_is_weak_is_drafted_as_weak_and_said() {
        let unsigned =
            Captured { evidence: EvidenceClass::Unauthenticated, chain: None, ..captured("02.0", 2) };
        let mut bare = Captured { evidence: EvidenceClass::Platform, class: 0x12_0000, ..unsigned.clone() };
        (bare.slot, bare.blocks) = ("03.0".parse().unwrap(), vec![]);
        bare.report.quirks.high_ids = true;
        let text = draft(&[unsigned, bare]);
        let policy = parse(&text, Path::new("")).unwrap();
        assert_eq!(policy.rules[0].evidence, EvidenceClass::Unauthenticated);
        assert_eq!(policy.rules[0].modes, [Mode::Pin]);
        assert_eq!(policy.rules[1].evidence, EvidenceClass::Platform);
        assert!(policy.rules[1].report.quirks.high_ids);
        for comment in ["are not signed", "The platform's token", "no idle check"] {
            assert!(text.contains(comment), "{comment}");
        }
    }

    #[test]
    fn one_leaf_under_two_functions_is_one_unit() {
        let text = draft(&[captured("02.0", 2), captured("02.1", 2)]);
        let policy = parse(&text, Path::new("")).unwrap();
        assert!(policy.rules.iter().all(|rule| rule.same_unit));
    }

    #[test]
    fn bridges_above_the_functions_get_a_rule_of_their_slots() {
        let text =
            draft(&[captured("05.0/00.0/01.0", 2), captured("05.0/00.0/02.0", 3), captured("06.0", 4)]);
        let policy = parse(&text, Path::new("")).unwrap();
        let Match::Bridge(bridges) = &policy.rules[0].matches else { panic!() };
        let slots: Vec<_> = bridges.slots.iter().map(ToString::to_string).collect();
        assert_eq!(slots, ["05.0", "05.0/00.0"]);
        assert_eq!((policy.rules.len(), policy.rules[0].count), (4, 2));
    }

    #[test]
    fn what_the_firmware_would_refuse_is_said() {
        let mut function = captured("02.0", 2);
        function.objections.push("it is yellow".into());
        function.zero_nonce = true;
        let text = draft(&[function]);
        assert!(text.contains("# Review: the firmware would refuse it: it is yellow\n"), "{text}");
        assert!(!parse(&text, Path::new("")).unwrap().forwards_nonce);
    }

    #[test]
    fn a_subject_of_any_characters_and_length_makes_a_policy() {
        for subject in ["", "*", "CN=\u{7}x\ny", &"long ".repeat(30)] {
            let mut function = captured("02.0", 2);
            function.chain.as_mut().unwrap().subject = subject.into();
            let text = draft(&[function]);
            assert_eq!(
                parse(&text, Path::new("")).unwrap().rules[0].identity,
                Identity::default(),
                "{subject:?}"
            );
        }
    }
}
