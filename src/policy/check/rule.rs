//! Contradictions within one rule.

use super::{Checked, MAX_INDEX, MAX_VALUE_BYTES, list, name, need, pci, serials, unique};
use crate::policy::types::{
    ClassMatch, EvidenceClass, Identity, MAX_COUNT, MAX_ENTRIES, MAX_NAME, Match, Measurements, Mode,
    OnFailure, PciMatch, Policy, Quiet, Reference, ReferenceValue, ReportRules, Rule,
};

/// Vendor id of virtio devices (VIRTIO 1.2, 4.1.2).
const VIRTIO_VENDOR: u16 = 0x1af4;
/// Value type of a security version number (DSP0274, DMTFSpecMeasurementValueType).
const KIND_SVN: u8 = 7;

pub(super) fn check(policy: &Policy, index: usize, rule: &Rule) -> Checked {
    let at = Some(index);
    name(&rule.name, at, "name")?;
    matches(at, rule)?;
    modes(at, rule)?;
    count(at, rule)?;
    identity(at, &rule.identity)?;
    references(at, &rule.measurements)?;
    quirks(at, &rule.report)?;
    let locks = rule.modes.iter().any(|mode| matches!(mode, Mode::Run | Mode::Pin));
    let is_device = matches!(rule.matches, Match::Device(_));
    need(is_device || !locks, at, "modes", words!("only kind device can have run or pin"))?;
    if locks { evidence(at, policy, rule) } else { no_evidence(at, rule) }
}

fn matches(at: Option<usize>, rule: &Rule) -> Checked {
    if let Some(PciMatch { slots, class, vendor, .. }) = pci(rule) {
        list(slots, at, "slots")?;
        let fine = class.is_none_or(|ClassMatch { value, mask }| {
            matches!(mask, 0xff_0000 | 0xff_ff00 | 0xff_ffff) && value & !mask == 0
        });
        need(fine, at, "class", words!("not two, four or six digits"))?;
        if matches!(rule.matches, Match::VirtioPci(..)) {
            let fine = vendor.is_none_or(|vendor| vendor == VIRTIO_VENDOR);
            need(fine, at, "vendor", words!("virtio devices have vendor 0x1af4"))?;
        }
    }
    match &rule.matches {
        Match::VirtioPci(_, Some(0)) | Match::VirtioMmio(Some(0)) => {
            need(false, at, "virtio", words!("0 is no type of device"))
        }
        Match::Platform(compatible) => name(compatible, at, "compatible"),
        _ => Ok(()),
    }
}

fn modes(at: Option<usize>, rule: &Rule) -> Checked {
    let Rule { modes, required, on_failure, .. } = rule;
    need(!modes.is_empty(), at, "modes", words!("is empty"))?;
    need(unique(modes), at, "modes", words!("a mode stands twice"))?;
    let hide = modes.iter().position(|mode| *mode == Mode::Hide);
    let last = hide.is_none_or(|hide| hide.saturating_add(1) == modes.len());
    need(last, at, "modes", words!("what stands behind hide is never used"))?;
    need(!required || modes.first() != Some(&Mode::Hide), at, "modes", words!("hides what is required"))?;
    need(
        !required || *on_failure == OnFailure::Stop,
        at,
        "on-failure",
        words!("what is required stops the boot"),
    )
}

fn count(at: Option<usize>, rule: &Rule) -> Checked {
    let Rule { count, required, identity, same_unit, .. } = rule;
    need((1..=MAX_COUNT).contains(count), at, "count", words!("not between 1 and 256"))?;
    let enough = |entries: usize| u32::try_from(entries).is_ok_and(|entries| entries >= *count);
    let slots = pci(rule).map_or(0, |pci| pci.slots.len());
    need(
        !required || slots == 0 || enough(slots),
        at,
        "count",
        words!("requires more functions than slots are named"),
    )?;
    let units = identity.leaf_keys.len().saturating_add(identity.serials.len());
    let fine = !required || *same_unit || !identity.is_pinned() || enough(units);
    need(fine, at, "count", words!("requires more functions than units are pinned, without same-unit"))
}

fn identity(at: Option<usize>, identity: &Identity) -> Checked {
    if let Some(subject) = &identity.subject {
        need(!subject.is_empty(), at, "subject", words!("is empty"))?;
        need(subject.len() <= MAX_NAME, at, "subject", words!("longer than 64 bytes"))?;
        need(!subject.chars().any(char::is_control), at, "subject", words!("has a control character"))?;
        need(
            subject.bytes().any(|byte| byte != b'*'),
            at,
            "subject",
            words!("takes every subject: leave it out"),
        )?;
    }
    list(&identity.leaf_keys, at, "leaf-keys")?;
    serials(&identity.serials, at)
}

fn references(at: Option<usize>, measurements: &Measurements) -> Checked {
    const FIELD: &str = "measurement";
    let Measurements::Listed(references) = measurements else { return Ok(()) };
    need(!references.is_empty(), at, FIELD, "is empty")?;
    need(references.len() <= MAX_ENTRIES, at, FIELD, "more than 64 entries")?;
    for (i, Reference { index, kind, value }) in references.iter().enumerate() {
        need((1..=MAX_INDEX).contains(index), at, "index", words!("not between 1 and 254"))?;
        let mut before = references.iter().take(i);
        need(!before.any(|other| other.index == *index), at, "index", words!("two references to one block"))?;
        need(kind.is_none_or(|kind| kind <= 0x7f), at, "type", words!("not below 128"))?;
        match value {
            ReferenceValue::Digests(digests) => {
                need(!digests.is_empty(), at, "digests", words!("is empty"))?;
                list(digests, at, "digests")?;
            }
            ReferenceValue::Values(values) => {
                need(!values.is_empty(), at, "values", words!("is empty"))?;
                list(values, at, "values")?;
                let fine = values.iter().all(|value| (1..=MAX_VALUE_BYTES).contains(&value.len()));
                need(fine, at, "values", words!("a value has 1 to 1024 bytes"))?;
            }
            ReferenceValue::MinSvn(_) => {
                let fine = kind.is_none_or(|kind| kind == KIND_SVN);
                need(fine, at, "min-svn", words!("only a block of type firmware-svn has one"))?;
            }
        }
    }
    Ok(())
}

fn quirks(at: Option<usize>, report: &ReportRules) -> Checked {
    const FIELD: &str = "quirks";
    let quirks = &report.quirks;
    let fine = !(quirks.relative && quirks.whole_bar);
    need(fine, at, FIELD, "relative and whole-bar: the one range is the whole BAR already")?;
    let fine = !(quirks.relative && quirks.omitted_non_tee);
    need(fine, at, FIELD, "relative and omitted-non-tee: what is left out first would move all others")?;
    let fine = !(quirks.high_ids && quirks.doubled_ids);
    need(fine, at, FIELD, "high-ids and doubled-ids: two meanings of one id")
}

/// A rule in whose modes evidence is collected.
fn evidence(at: Option<usize>, policy: &Policy, rule: &Rule) -> Checked {
    const FIELD: &str = "evidence";
    let no_chain = |what| need(rule.identity.is_any(), at, identity_field(&rule.identity), what);
    match rule.evidence {
        // In an audit nobody knows the anchors yet.
        EvidenceClass::Signed => need(
            policy.audit || !policy.anchors.is_empty(),
            at,
            FIELD,
            "signed, and the policy has no anchor",
        ),
        EvidenceClass::Unauthenticated => {
            need(!rule.modes.contains(&Mode::Run), at, FIELD, "unauthenticated is never run")?;
            no_chain("without a signature no chain proves it")
        }
        EvidenceClass::Platform => {
            let slots = pci(rule).is_some_and(|pci| !pci.slots.is_empty());
            need(slots, at, "slots", words!("evidence of the platform is for named slots only"))?;
            no_chain("a device of the platform has no certificate chain")?;
            let any = rule.measurements == Measurements::Any;
            need(any, at, "measurement", words!("a device of the platform has no measurements"))?;
            need(
                !rule.device_mode_required,
                at,
                "device-mode-required",
                words!("a device of the platform has none"),
            )
        }
    }
}

/// A rule in whose modes none is.
fn no_evidence(at: Option<usize>, rule: &Rule) -> Checked {
    const WHAT: &str = "no evidence is collected in modes shared and hide";
    let Rule { identity, .. } = rule;
    need(identity.is_any(), at, identity_field(identity), WHAT)?;
    need(rule.evidence == EvidenceClass::default(), at, "evidence", WHAT)?;
    need(rule.measurements == Measurements::Any, at, "measurement", WHAT)?;
    need(!rule.device_mode_required, at, "device-mode-required", WHAT)?;
    need(!rule.debug_allowed, at, "debug-allowed", WHAT)?;
    need(rule.report.quirks == Default::default(), at, "quirks", WHAT)?;
    need(rule.report == ReportRules::default(), at, "report", WHAT)?;
    need(rule.quiet == Quiet::default(), at, "quiet", words!("DMA is not opened in modes shared and hide"))?;
    need(!rule.same_unit, at, "same-unit", WHAT)
}

/// Names the first field of an identity that is there.
fn identity_field(identity: &Identity) -> &'static str {
    if identity.subject.is_some() {
        "subject"
    } else if identity.serials.is_empty() {
        "leaf-keys"
    } else {
        "serials"
    }
}
