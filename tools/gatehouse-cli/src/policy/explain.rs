//! Policies and stop codes in sentences.
use super::advice::{self, Advice};
use super::toml::words::{self, word};
use super::toml::{print_serial, print_time};
use crate::hex;
use gatehouse::codes::StopCode;
use gatehouse::policy::types::{
    AnchorKey, EvidenceClass, Identity, Match, Measurements, Mode, OnFailure, PciMatch, Policy, Quiet,
    Reference, ReferenceValue, ReportRules, Rest, Rule,
};

/// Explains a policy: what it says as a whole, and each rule.
#[must_use]
pub fn policy(policy: &Policy) -> String {
    let mut lines = vec![format!("Security version {}.", policy.svn)];
    if policy.audit {
        lines.push("An audit: everything is recorded, nothing is accepted, whatever the rules say.".into());
    }
    lines.push(match policy.floor {
        Some(floor) => format!("A certificate whose validity ended before {} is refused.", print_time(floor)),
        None => "The validity dates of certificates are reported and not enforced.".into(),
    });
    lines.push(if policy.forwards_nonce {
        "Our nonce has to be in every request for measurements.".into()
    } else {
        "The RMM is known not to forward our nonce: that it is absent is no reason to refuse.".into()
    });
    for anchor in &policy.anchors {
        lines.push(match anchor.key {
            AnchorKey::Certificate(digest) => {
                format!("Chains may end at {:?}: the certificate with digest {digest}.", anchor.name)
            }
            AnchorKey::PublicKey(digest) => {
                format!("Chains may end at {:?}: the public key with digest {digest}.", anchor.name)
            }
        });
    }
    lines.extend(
        policy.denied.leaf_keys.iter().map(|key| format!("A device with leaf key {key} is refused.")),
    );
    let serials = policy.denied.serials.iter().map(print_serial);
    lines.extend(
        serials.map(|serial| format!("A chain with a certificate of serial number {serial} is refused.")),
    );
    let mut text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    for rule in &policy.rules {
        text += &format!("\n{}", self::rule(rule));
    }
    text + match policy.rest {
        Rest::Hide => "\nA function that no rule takes is made quiet and hidden; the boot goes on.\n",
        Rest::Stop => "\nA function that no rule takes stops the boot.\n",
    }
}

/// Explains a rule.
#[must_use]
pub fn rule(rule: &Rule) -> String {
    let mut lines = vec![format!("takes {}", matches(&rule.matches))];
    lines.extend(identity(&rule.identity));
    lines.push(match (rule.required, rule.count) {
        (true, 1) => "one has to be accepted, or the boot stops".into(),
        (true, count) => format!("{count} have to be accepted, no more and no less, or the boot stops"),
        (false, 1) => "one at most; without it the boot goes on".into(),
        (false, count) => format!("{count} at most; without them the boot goes on"),
    });
    let locks = rule.modes.iter().any(|mode| matches!(mode, Mode::Run | Mode::Pin));
    if locks {
        lines.push(match rule.evidence {
            EvidenceClass::Signed => {
                "needs a certificate chain to an anchor, and measurements that its leaf signed".into()
            }
            EvidenceClass::Platform => {
                "needs no chain and no measurements: the platform's token answers for the device".into()
            }
            EvidenceClass::Unauthenticated => {
                "takes measurements without a signature: nothing proves whose they are".into()
            }
        });
        if rule.evidence != EvidenceClass::Platform {
            lines.extend(measurements(&rule.measurements));
            lines.push(if rule.debug_allowed { "debug may be on" } else { "debug must be off" }.into());
        }
        if rule.device_mode_required {
            lines.push("the device has to report its mode".into());
        }
        lines.extend(report(&rule.report));
        lines.push(match rule.quiet {
            Quiet::ResetByClass => "the firmware makes it idle, by its class, before DMA is opened".into(),
            Quiet::Device => {
                "that it does nothing when DMA is opened is left to the device's own reset".into()
            }
        });
    }
    let modes: Vec<_> = rule.modes.iter().map(|mode| mode_text(*mode)).collect();
    lines.push(format!("handed off {}", modes.join("; else ")));
    lines.push(match rule.on_failure {
        OnFailure::Stop => "what it takes and does not accept stops the boot".into(),
        OnFailure::Hide => "what it takes and does not accept is made quiet and hidden".into(),
        OnFailure::Shared => "what it takes and does not accept reaches shared memory only".into(),
    });
    if rule.same_unit {
        lines.push("several functions may be one physical device".into());
    }
    let lines: String = lines.iter().map(|line| format!("  - {line}\n")).collect();
    format!("Rule {:?}:\n{lines}", rule.name)
}

fn mode_text(mode: Mode) -> &'static str {
    match mode {
        Mode::Run => "started, with private registers and DMA (run)",
        Mode::Pin => "verified and stopped again, for a payload that locks it itself and compares (pin)",
        Mode::Shared => "unlocked, with DMA to shared memory only (shared)",
        Mode::Hide => "not at all (hide)",
    }
}

fn matches(matches: &Match) -> String {
    let any = "of any type".to_owned();
    let virtio = |of: Option<u32>| match of {
        None => any.clone(),
        Some(of) => {
            word(words::VIRTIO, &of).map_or_else(|| format!("of type {of}"), |word| format!("of type {word}"))
        }
    };
    match matches {
        Match::Device(at) => format!("a PCI function{}", pci(at)),
        Match::Bridge(at) => format!("a PCI bridge{}", pci(at)),
        Match::VirtioPci(at, of) => {
            format!("a virtio device {} on PCI{}", virtio(of.map(u32::from)), pci(at))
        }
        Match::VirtioMmio(of) => format!("a virtio device {} on MMIO", virtio(*of)),
        Match::Platform(compatible) => {
            format!("a node of the device tree that is compatible with {compatible:?}")
        }
    }
}

fn pci(at: &PciMatch) -> String {
    let mut text = String::new();
    if !at.slots.is_empty() {
        let slots: Vec<_> = at.slots.iter().map(ToString::to_string).collect();
        text += &format!(" at {}", slots.join(" or "));
    }
    for (name, id) in [
        ("vendor", at.vendor),
        ("device", at.device),
        ("subsystem vendor", at.subsystem_vendor),
        ("subsystem", at.subsystem),
    ] {
        if let Some(id) = id {
            text += &format!(", {name} {id:#06x}");
        }
    }
    if let Some(class) = at.class {
        let bytes = class.value.to_be_bytes().into_iter().zip(class.mask.to_be_bytes());
        let named: Vec<_> = bytes.filter(|(_, mask)| *mask != 0).map(|(byte, _)| byte).collect();
        text += &format!(", class {}", hex(&named));
    }
    text
}

fn identity(identity: &Identity) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(subject) = &identity.subject {
        lines.push(format!("whose certificate has a subject like {subject:?}"));
    }
    lines.extend(identity.leaf_keys.iter().map(|key| format!("pinned to the unit with leaf key {key}")));
    let serials = identity.serials.iter().map(print_serial);
    lines.extend(serials.map(|serial| format!("pinned to the unit with serial number {serial}")));
    lines
}

fn measurements(measurements: &Measurements) -> Vec<String> {
    match measurements {
        Measurements::Any => vec!["whatever firmware runs on it is taken".into()],
        Measurements::Listed(references) => references.iter().map(reference).collect(),
    }
}

fn reference(reference: &Reference) -> String {
    let kind = match reference.kind {
        None => String::new(),
        Some(kind) => match word(words::TYPES, &kind) {
            Some(word) => format!(" ({word})"),
            None => format!(" (type {kind})"),
        },
    };
    let value = match &reference.value {
        ReferenceValue::Digests(digests) => {
            format!("one of {}", digests.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        }
        ReferenceValue::Values(values) => {
            format!("one of {}", values.iter().map(|value| hex(value)).collect::<Vec<_>>().join(", "))
        }
        ReferenceValue::MinSvn(svn) => format!("a version of at least {svn}"),
    };
    format!("measurement {}{kind} has to be {value}", reference.index)
}

fn report(rules: &ReportRules) -> Vec<String> {
    let mut rules = *rules;
    let set = words::REPORT.iter().filter(|(_, field)| *field(&mut rules));
    let mut lines: Vec<_> = set.map(|(word, _)| format!("its report: {word}")).collect();
    let set = words::QUIRKS.iter().filter(|(_, field)| *field(&mut rules.quirks));
    lines.extend(set.map(|(word, _)| format!("its report differs from TDISP: {word}")));
    lines
}

/// What to look at for codes of the same thousand that [`advice`] says nothing about; docs/codes.md has the table.
const AREAS: [(&str, &str); 9] = [
    (
        "what the RMM and the VMM gave the realm at its start",
        "Look at the VMM's version, memory and device tree.",
    ),
    (
        "the interface for devices, or the bundle",
        "Look at how the realm was created, and at the image with `gatehouse inspect`.",
    ),
    ("finding PCI functions", "Compare what the VMM assigns with the slots that are required."),
    (
        "locking a device, or its evidence",
        "The line of the log before it names the function, what was found and what was wanted. An audit boot records all.",
    ),
    (
        "mapping a device's registers",
        "Look at the interface report and the BARs in the log; host and RMM have to agree on both.",
    ),
    ("loading the payload", "Pack the image again, and compare it with `gatehouse inspect`."),
    (
        "starting a device, or handing it off",
        "Start again; if it comes back, host or device do not do what they were asked.",
    ),
    ("a limit of the firmware", "The realm has more devices or evidence than the firmware has memory for."),
    (
        "how the image was entered, or a fault of the firmware",
        "Look at the VMM's boot protocol; report it with the log.",
    ),
];

/// Explains a stop code, `GH-4012` or `4012`. `None`: there is no such code.
#[must_use]
pub fn code(text: &str) -> Option<String> {
    let digits = text.strip_prefix("GH-").unwrap_or(text);
    let number: u16 = digits.parse().ok().filter(|_| digits.len() == 4)?;
    let code = StopCode::ALL.iter().find(|code| code.number() == number)?;
    if let Some(Advice { checked, means, act, .. }) = advice::of(*code) {
        return Some(format!("{code}: {}.\n{checked}\n{means}\n{act}\n", code.text()));
    }
    let (area, advice) = AREAS.get(usize::from(number / 1000).checked_sub(1)?)?;
    Some(format!("{code}: {}.\nIt is about {area}.\n{advice}\n", code.text()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_an_explanation() {
        for known in StopCode::ALL {
            let text = code(&known.to_string()).unwrap();
            assert!(text.starts_with(&format!("{known}: {}.\n", known.text())), "{text}");
            assert_eq!(text.lines().count(), if advice::of(*known).is_some() { 4 } else { 3 });
        }
        assert!(code("GH-4012").unwrap().contains("locking a device"));
        assert_eq!(code("4012"), code("GH-4012"));
        for text in ["GH-0000", "GH-4999", "GH-", "policy.toml", "401"] {
            assert_eq!(code(text), None, "{text}");
        }
    }
}
