use crate::boot::slot::SlotPath;
use crate::digest::Digest;
use crate::policy::types::{
    Anchor, AnchorKey, ClassMatch, Contradiction, Denied, EvidenceClass, Identity, Match, Measurements, Mode,
    OnFailure, PciMatch, Policy, Quiet, Quirks, Reference, ReferenceValue, Rule, Serial, Time,
};

fn digest(n: u8) -> Digest {
    Digest::from_bytes(&[n; 48]).unwrap()
}

fn serial(n: u8) -> Serial {
    Serial(vec![n, 0])
}

fn slots(paths: &[&str]) -> Vec<SlotPath> {
    paths.iter().map(|path| path.parse().unwrap()).collect()
}

/// A rule that says as little as it can.
fn rule(name: &str, slot: &str) -> Rule {
    let matches = Match::Device(PciMatch { slots: slots(&[slot]), ..PciMatch::default() });
    Rule::new(name.into(), matches, vec![Mode::Run])
}

/// One anchor, two rules.
fn policy() -> Policy {
    Policy {
        anchors: vec![Anchor { name: "root".into(), key: AnchorKey::Certificate(digest(1)) }],
        rules: vec![rule("a", "02.0"), rule("b", "03.0")],
        ..Policy::default()
    }
}

/// The contradiction after a change of the policy.
fn with(change: impl FnOnce(&mut Policy)) -> Option<(Option<usize>, &'static str, &'static str)> {
    let mut policy = policy();
    change(&mut policy);
    policy.check().err().map(|Contradiction { rule, field, what }| (rule, field, what))
}

/// The contradiction after a change of the second rule.
fn with_rule(change: impl FnOnce(&mut Rule)) -> Option<(&'static str, &'static str)> {
    with(|policy| change(&mut policy.rules[1])).map(|(rule, field, what)| {
        assert_eq!(rule, Some(1));
        (field, what)
    })
}

fn with_reference(
    index: u8,
    kind: Option<u8>,
    value: ReferenceValue,
) -> Option<(&'static str, &'static str)> {
    with_rule(|rule| rule.measurements = Measurements::Listed(vec![Reference { index, kind, value }]))
}

#[test]
fn a_policy_that_says_little_is_fine() {
    assert_eq!(with(|_| ()), None);
    assert_eq!(Policy::default().check(), Ok(()));
}

#[test]
fn the_floor_is_a_time_that_certificates_can_say() {
    for (seconds, fine) in [
        (-631_152_001, false),
        (-631_152_000, true),
        (0, true),
        (253_402_300_799, true),
        (253_402_300_800, false),
    ] {
        let want = (!fine).then_some((None, "floor", "not between the years 1950 and 9999"));
        assert_eq!(with(|p| p.floor = Some(Time(seconds))), want, "{seconds}");
    }
}

#[test]
fn anchors_have_different_names_and_keys() {
    let anchor = |name: &str, n| Anchor { name: name.into(), key: AnchorKey::PublicKey(digest(n)) };
    assert_eq!(with(|p| p.anchors.push(anchor("other", 1))), None);
    assert_eq!(with(|p| p.anchors.push(anchor("root", 2))), Some((None, "anchor", "two have this name")));
    let same = Anchor { name: "other".into(), key: AnchorKey::Certificate(digest(1)) };
    assert_eq!(with(|p| p.anchors.push(same)), Some((None, "anchor", "two are the same key")));
    let many = |n: u8| (0..n).map(|i| anchor(&format!("n{i}"), i)).collect();
    assert_eq!(with(|p| p.anchors = many(32)), None);
    assert_eq!(with(|p| p.anchors = many(33)), Some((None, "anchor", "more than 32 anchors")));
    assert_eq!(with(|p| p.anchors[0].name = String::new()), Some((None, "anchor", "is empty")));
}

#[test]
fn what_is_denied_stands_once_and_is_well_formed() {
    let keys = |list: &[u8]| list.iter().copied().map(digest).collect();
    let denied = |leaf_keys| Denied { leaf_keys, serials: vec![] };
    assert_eq!(with(|p| p.denied = denied(keys(&[1, 2]))), None);
    let twice = Some((None, "leaf-keys", "an entry stands twice"));
    assert_eq!(with(|p| p.denied = denied(keys(&[1, 2, 1]))), twice);
    let many: Vec<u8> = (0..65).collect();
    let too_many = Some((None, "leaf-keys", "more than 64 entries"));
    assert_eq!(with(|p| p.denied = denied(keys(&many))), too_many);
    for (bytes, fine) in
        [(vec![], false), (vec![0], false), (vec![0, 1], false), (vec![1; 20], true), (vec![1; 21], false)]
    {
        let want = (!fine).then_some((None, "serials", "a serial number has 1 to 20 bytes and is not zero"));
        assert_eq!(with(|p| p.denied.serials = vec![Serial(bytes.clone())]), want, "{bytes:?}");
    }
    let twice = Some((None, "serials", "an entry stands twice"));
    assert_eq!(with(|p| p.denied.serials = vec![serial(1), serial(1)]), twice);
}

#[test]
fn what_is_denied_cannot_be_pinned() {
    let pin = |p: &mut Policy| {
        p.rules[1].identity =
            Identity { subject: None, leaf_keys: vec![digest(7)], serials: vec![serial(7)] };
    };
    assert_eq!(with(pin), None);
    let change = |p: &mut Policy| {
        pin(p);
        p.denied.leaf_keys = vec![digest(7)];
    };
    assert_eq!(with(change), Some((Some(1), "leaf-keys", "the policy denies this key")));
    let change = |p: &mut Policy| {
        pin(p);
        p.denied.serials = vec![serial(7)];
    };
    assert_eq!(with(change), Some((Some(1), "serials", "the policy denies this serial number")));
    let change = |p: &mut Policy| {
        pin(p);
        p.anchors[0].key = AnchorKey::PublicKey(digest(7));
    };
    assert_eq!(with(change), Some((Some(1), "leaf-keys", "the key of an anchor is no leaf's")));
}

#[test]
fn names_are_short_words_that_stand_once() {
    let long = "n".repeat(65);
    let space = "has a space, or a character that is not printable ASCII";
    for (name, what) in
        [("", "is empty"), (&*long, "longer than 64 bytes"), ("a b", space), ("é", space), ("a\n", space)]
    {
        assert_eq!(with_rule(|r| r.name = name.into()), Some(("name", what)), "{name}");
    }
    assert_eq!(with_rule(|r| r.name = "n".repeat(64)), None);
    assert_eq!(with_rule(|r| r.name = "a".into()), Some(("name", "two rules have this name")));
}

#[test]
fn sixty_four_rules_are_the_most() {
    let many = |n| {
        (0..n).map(|i| Rule { matches: Match::Device(PciMatch::default()), ..rule(&format!("r{i}"), "00.0") })
    };
    assert_eq!(with(|p| p.rules = many(64).collect()), None);
    assert_eq!(with(|p| p.rules = many(65).collect()), Some((None, "rule", "more than 64 rules")));
}

#[test]
fn modes_are_in_an_order_that_can_be_used() {
    use Mode::{Hide, Pin, Run, Shared};
    let set = |modes: &[Mode]| with_rule(|r| r.modes = modes.to_vec());
    assert_eq!(set(&[Run, Pin, Shared, Hide]), None);
    assert_eq!(set(&[Pin]), None);
    assert_eq!(set(&[]), Some(("modes", "is empty")));
    assert_eq!(set(&[Run, Pin, Run]), Some(("modes", "a mode stands twice")));
    assert_eq!(set(&[Run, Hide, Shared]), Some(("modes", "what stands behind hide is never used")));
    assert_eq!(set(&[Hide]), Some(("modes", "hides what is required")));
    let optional = |r: &mut Rule| (r.modes, r.required) = (vec![Hide], false);
    assert_eq!(with_rule(optional), None);
}

#[test]
fn what_is_required_stops_the_boot() {
    let what = Some(("on-failure", "what is required stops the boot"));
    for on_failure in [OnFailure::Hide, OnFailure::Shared] {
        assert_eq!(with_rule(|r| r.on_failure = on_failure), what);
        assert_eq!(with_rule(|r| (r.on_failure, r.required) = (on_failure, false)), None);
    }
}

#[test]
fn a_count_can_be_reached() {
    let range = Some(("count", "not between 1 and 256"));
    let any = |r: &mut Rule| r.matches = Match::Device(PciMatch::default());
    for (count, want) in [(0, range), (1, None), (256, None), (257, range)] {
        let change = |r: &mut Rule| {
            any(r);
            r.count = count;
        };
        assert_eq!(with_rule(change), want, "{count}");
    }
    let what = Some(("count", "requires more functions than slots are named"));
    assert_eq!(with_rule(|r| r.count = 2), what);
    assert_eq!(with_rule(|r| (r.count, r.required, r.on_failure) = (2, false, OnFailure::Hide)), None);
    let pinned = |r: &mut Rule| {
        any(r);
        r.identity.leaf_keys = vec![digest(5)];
        r.count = 2;
    };
    let what = Some(("count", "requires more functions than units are pinned, without same-unit"));
    assert_eq!(with_rule(pinned), what);
    let same = |r: &mut Rule| {
        pinned(r);
        r.same_unit = true;
    };
    assert_eq!(with_rule(same), None);
    let optional = |r: &mut Rule| {
        pinned(r);
        r.required = false;
    };
    assert_eq!(with_rule(optional), None);
}

#[test]
fn what_a_rule_takes_can_exist() {
    let class = |value, mask| {
        with_rule(|r| {
            r.matches =
                Match::Device(PciMatch { class: Some(ClassMatch { value, mask }), ..PciMatch::default() })
        })
    };
    for (value, mask) in [(0x01_0802, 0xff_ffff), (0x03_0200, 0xff_ff00), (0x06_0000, 0xff_0000)] {
        assert_eq!(class(value, mask), None);
    }
    for (value, mask) in
        [(0, 0), (0x01_0802, 0xff_ff00), (0x0100_0000, 0xff_ffff), (0, 0xff), (0, 0xffff_ffff)]
    {
        assert_eq!(
            class(value, mask),
            Some(("class", "not two, four or six digits")),
            "{value:#x} {mask:#x}"
        );
    }
    let twice = Match::Device(PciMatch { slots: slots(&["02.0", "02.0"]), ..PciMatch::default() });
    assert_eq!(with_rule(|r| r.matches = twice), Some(("slots", "an entry stands twice")));
    let shared = |matches| with_rule(|r| (r.matches, r.modes) = (matches, vec![Mode::Shared]));
    let vendor = |id| PciMatch { vendor: Some(id), ..PciMatch::default() };
    assert_eq!(shared(Match::VirtioPci(vendor(0x1af4), Some(2))), None);
    let wrong = Some(("vendor", "virtio devices have vendor 0x1af4"));
    assert_eq!(shared(Match::VirtioPci(vendor(0x1b36), None)), wrong);
    let zero = Some(("virtio", "0 is no type of device"));
    assert_eq!(shared(Match::VirtioPci(PciMatch::default(), Some(0))), zero);
    assert_eq!(shared(Match::VirtioMmio(Some(0))), zero);
    assert_eq!(shared(Match::Platform("arm,pl031".into())), None);
    assert_eq!(shared(Match::Platform(String::new())), Some(("compatible", "is empty")));
}

#[test]
fn a_slot_is_required_once() {
    let other = |required| {
        let mut other = Rule { required, ..rule("b", "02.0") };
        if !required {
            other.on_failure = OnFailure::Hide;
        }
        with(|p| p.rules[1] = other)
    };
    assert_eq!(other(true), Some((Some(1), "slots", "two rules require this slot")));
    assert_eq!(other(false), None);
}

#[test]
fn a_unit_is_pinned_once() {
    let pin = |p: &mut Policy, leaf_keys: &[u8], serials: &[u8]| {
        for rule in &mut p.rules {
            rule.identity.leaf_keys = leaf_keys.iter().copied().map(digest).collect();
            rule.identity.serials = serials.iter().copied().map(serial).collect();
        }
    };
    assert_eq!(with(|p| pin(p, &[3], &[])), Some((Some(1), "leaf-keys", "two rules pin this unit")));
    assert_eq!(with(|p| pin(p, &[], &[3])), Some((Some(1), "serials", "two rules pin this unit")));
}

#[test]
fn a_subject_pattern_says_something() {
    let set = |subject: &str| with_rule(|r| r.identity.subject = Some(subject.into()));
    assert_eq!(set("CN=ACME é *"), None);
    assert_eq!(set(""), Some(("subject", "is empty")));
    assert_eq!(set("**"), Some(("subject", "takes every subject: leave it out")));
    assert_eq!(set("CN=a\u{7f}"), Some(("subject", "has a control character")));
    assert_eq!(set(&"x".repeat(65)), Some(("subject", "longer than 64 bytes")));
}

#[test]
fn references_name_one_block_each_and_something_to_compare() {
    let digests = |list: &[u8]| ReferenceValue::Digests(list.iter().copied().map(digest).collect());
    assert_eq!(with_reference(1, Some(1), digests(&[1, 2])), None);
    assert_eq!(with_reference(0xfe, None, digests(&[1])), None);
    for index in [0, 0xff] {
        assert_eq!(with_reference(index, None, digests(&[1])), Some(("index", "not between 1 and 254")));
    }
    assert_eq!(with_reference(1, Some(0x80), digests(&[1])), Some(("type", "not below 128")));
    assert_eq!(with_reference(1, None, digests(&[])), Some(("digests", "is empty")));
    assert_eq!(with_reference(1, None, digests(&[1, 1])), Some(("digests", "an entry stands twice")));
    let values = |len| with_reference(1, None, ReferenceValue::Values(vec![vec![0; len]]));
    assert_eq!(values(1024), None);
    for len in [0, 1025] {
        assert_eq!(values(len), Some(("values", "a value has 1 to 1024 bytes")));
    }
    assert_eq!(with_reference(1, None, ReferenceValue::Values(vec![])), Some(("values", "is empty")));
    let two = ReferenceValue::Values(vec![vec![1], vec![1]]);
    assert_eq!(with_reference(1, None, two), Some(("values", "an entry stands twice")));
    assert_eq!(with_reference(1, Some(7), ReferenceValue::MinSvn(0)), None);
    assert_eq!(with_reference(1, None, ReferenceValue::MinSvn(0)), None);
    let wrong = Some(("min-svn", "only a block of type firmware-svn has one"));
    assert_eq!(with_reference(1, Some(6), ReferenceValue::MinSvn(0)), wrong);
    let many = |range: core::ops::Range<u8>| {
        let one = |index| Reference { index, kind: None, value: digests(&[1]) };
        with_rule(|r| r.measurements = Measurements::Listed(range.map(one).collect()))
    };
    assert_eq!(many(1..65), None);
    assert_eq!(many(1..66), Some(("measurement", "more than 64 entries")));
    assert_eq!(many(1..1), Some(("measurement", "is empty")));
    let two = vec![Reference { index: 1, kind: None, value: digests(&[1]) }; 2];
    let change = |r: &mut Rule| r.measurements = Measurements::Listed(two);
    assert_eq!(with_rule(change), Some(("index", "two references to one block")));
}

#[test]
fn quirks_that_exclude_each_other_do_not_stand_together() {
    let set = |quirks| with_rule(|r| r.report.quirks = quirks).map(|(field, _)| field);
    let none = Quirks::default();
    let wrong = Some("quirks");
    assert_eq!(set(Quirks { relative: true, whole_bar: true, ..none }), wrong);
    assert_eq!(set(Quirks { relative: true, omitted_non_tee: true, ..none }), wrong);
    assert_eq!(set(Quirks { high_ids: true, doubled_ids: true, ..none }), wrong);
    assert_eq!(set(Quirks { relative: true, high_ids: true, byte_addresses: true, ..none }), None);
    assert_eq!(set(Quirks { whole_bar: true, omitted_non_tee: true, doubled_ids: true, ..none }), None);
}

#[test]
fn signed_evidence_needs_an_anchor_but_in_an_audit() {
    let none = |p: &mut Policy| p.anchors.clear();
    assert_eq!(with(none), Some((Some(0), "evidence", "signed, and the policy has no anchor")));
    let audit = |p: &mut Policy| {
        p.anchors.clear();
        p.audit = true;
    };
    assert_eq!(with(audit), None);
}

#[test]
fn what_is_not_signed_is_never_run_and_proves_no_identity() {
    let weak = |r: &mut Rule| (r.evidence, r.modes) = (EvidenceClass::Unauthenticated, vec![Mode::Pin]);
    assert_eq!(with_rule(weak), None);
    let run = |r: &mut Rule| {
        weak(r);
        r.modes.push(Mode::Run);
    };
    assert_eq!(with_rule(run), Some(("evidence", "unauthenticated is never run")));
    let named = |r: &mut Rule| {
        weak(r);
        r.identity.subject = Some("CN=a".into());
    };
    assert_eq!(with_rule(named), Some(("subject", "without a signature no chain proves it")));
}

#[test]
fn a_device_of_the_platform_is_named_by_its_slot_and_measures_nothing() {
    let set = |change: fn(&mut Rule)| {
        with_rule(|r| {
            r.evidence = EvidenceClass::Platform;
            change(r);
        })
    };
    assert_eq!(set(|_| ()), None);
    let any = |r: &mut Rule| r.matches = Match::Device(PciMatch::default());
    assert_eq!(set(any), Some(("slots", "evidence of the platform is for named slots only")));
    let chain = "a device of the platform has no certificate chain";
    assert_eq!(set(|r| r.identity.serials = vec![serial(1)]), Some(("serials", chain)));
    assert_eq!(set(|r| r.identity.leaf_keys = vec![digest(1)]), Some(("leaf-keys", chain)));
    let listed = |r: &mut Rule| {
        let value = ReferenceValue::MinSvn(1);
        r.measurements = Measurements::Listed(vec![Reference { index: 1, kind: None, value }]);
    };
    assert_eq!(set(listed), Some(("measurement", "a device of the platform has no measurements")));
    let mode = Some(("device-mode-required", "a device of the platform has none"));
    assert_eq!(set(|r| r.device_mode_required = true), mode);
}

#[test]
fn only_devices_are_locked() {
    for matches in [
        Match::Bridge(PciMatch::default()),
        Match::VirtioPci(PciMatch::default(), None),
        Match::VirtioMmio(None),
        Match::Platform("a,b".into()),
    ] {
        for (mode, fine) in [(Mode::Run, false), (Mode::Pin, false), (Mode::Shared, true)] {
            let want = (!fine).then_some(("modes", "only kind device can have run or pin"));
            assert_eq!(with_rule(|r| (r.matches, r.modes) = (matches.clone(), vec![mode])), want);
        }
    }
}

#[test]
fn a_rule_for_shared_memory_demands_no_evidence() {
    let set = |change: fn(&mut Rule)| {
        with_rule(|r| {
            r.modes = vec![Mode::Shared];
            change(r);
        })
        .map(|(field, _)| field)
    };
    let cases: [(fn(&mut Rule), _); 11] = [
        (|_| (), None),
        (|r| r.identity.subject = Some("CN=a".into()), Some("subject")),
        (|r| r.identity.leaf_keys = vec![digest(1)], Some("leaf-keys")),
        (|r| r.identity.serials = vec![serial(1)], Some("serials")),
        (|r| r.evidence = EvidenceClass::Platform, Some("evidence")),
        (|r| r.device_mode_required = true, Some("device-mode-required")),
        (|r| r.debug_allowed = true, Some("debug-allowed")),
        (|r| r.report.quirks.high_ids = true, Some("quirks")),
        (|r| r.report.ats_allowed = true, Some("report")),
        (|r| r.quiet = Quiet::Device, Some("quiet")),
        (|r| r.same_unit = true, Some("same-unit")),
    ];
    for (change, want) in cases {
        assert_eq!(set(change), want);
    }
    let listed = |r: &mut Rule| {
        let value = ReferenceValue::MinSvn(1);
        r.measurements = Measurements::Listed(vec![Reference { index: 1, kind: None, value }]);
    };
    assert_eq!(set(listed), Some("measurement"));
}

#[test]
fn a_contradiction_names_rule_field_and_fault() {
    let told = Contradiction { rule: Some(1), field: "count", what: "is odd" }.to_string();
    assert_eq!(told, "rule 2: count: is odd");
    assert_eq!(Contradiction { rule: None, field: "floor", what: "is odd" }.to_string(), "floor: is odd");
}
