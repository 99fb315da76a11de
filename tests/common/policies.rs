//! Policies of every shape that passes the check; for the firmware's tests and the host tool's.
use gatehouse::boot::slot::SlotPath;
use gatehouse::digest::Digest;
use gatehouse::policy::types::{
    Anchor, AnchorKey, ClassMatch, Denied, EvidenceClass, Identity, Match, Measurements, Mode, OnFailure,
    PciMatch, Policy, Quiet, Quirks, Reference, ReferenceValue, ReportRules, Rest, Rule, Serial, Time,
};
use proptest::collection::{btree_set, vec};
use proptest::option::of;
use proptest::prelude::*;

/// Any policy without a contradiction.
pub fn policies() -> impl Strategy<Value = Policy> {
    let head =
        (any::<u64>(), any::<bool>(), of(-631_152_000_i64..=253_402_300_799), any::<bool>(), any::<bool>());
    let anchors = vec((any::<bool>(), digest()), 1..4);
    let denied = (btree_set(digest(), 0..3), btree_set(serial(), 0..3));
    (head, anchors, denied, vec(rule(), 0..6)).prop_filter_map(
        "a contradiction",
        |(head, anchors, denied, rules)| {
            let (svn, audit, floor, forwards_nonce, stop) = head;
            let anchor = |(i, (whole, digest)): (usize, (bool, Digest))| Anchor {
                name: format!("anchor-{i}"),
                key: if whole { AnchorKey::Certificate(digest) } else { AnchorKey::PublicKey(digest) },
            };
            let named = |(i, rule): (usize, Rule)| Rule { name: format!("{}{i}", rule.name), ..rule };
            let policy = Policy {
                svn,
                audit,
                floor: floor.map(Time),
                anchors: anchors.into_iter().enumerate().map(anchor).collect(),
                denied: Denied {
                    leaf_keys: denied.0.into_iter().collect(),
                    serials: denied.1.into_iter().collect(),
                },
                forwards_nonce,
                rules: rules.into_iter().enumerate().map(named).collect(),
                rest: if stop { Rest::Stop } else { Rest::Hide },
            };
            policy.check().is_ok().then_some(policy)
        },
    )
}

fn digest() -> impl Strategy<Value = Digest> {
    prop_oneof![
        any::<[u8; 32]>().prop_map(|bytes| Digest::from_bytes(&bytes).unwrap()),
        vec(any::<u8>(), 48).prop_map(|bytes| Digest::from_bytes(&bytes).unwrap()),
        vec(any::<u8>(), 64).prop_map(|bytes| Digest::from_bytes(&bytes).unwrap()),
    ]
}

fn serial() -> impl Strategy<Value = Serial> {
    (1..=u8::MAX, vec(any::<u8>(), 0..20)).prop_map(|(first, rest)| Serial([vec![first], rest].concat()))
}

fn slot() -> impl Strategy<Value = SlotPath> {
    vec((0..32_u8, 0..8_u8), 1..=8).prop_map(|hops| {
        let hops = hops.iter().map(|(device, function)| format!("{device:02x}.{function}"));
        hops.collect::<Vec<_>>().join("/").parse().unwrap()
    })
}

fn pci() -> impl Strategy<Value = PciMatch> {
    let class = (0..=0xff_ffff_u32, prop::sample::select(vec![0xff_0000, 0xff_ff00, 0xff_ffff]))
        .prop_map(|(value, mask)| ClassMatch { value: value & mask, mask });
    let id = of(any::<u16>());
    (btree_set(slot(), 0..3), id.clone(), id.clone(), id.clone(), id, of(class)).prop_map(
        |(slots, vendor, device, subsystem_vendor, subsystem, class)| PciMatch {
            slots: slots.into_iter().collect(),
            vendor,
            device,
            subsystem_vendor,
            subsystem,
            class,
        },
    )
}

fn matches() -> impl Strategy<Value = Match> {
    let virtio =
        |pci: PciMatch, of| Match::VirtioPci(PciMatch { vendor: pci.vendor.map(|_| 0x1af4), ..pci }, of);
    prop_oneof![
        8 => pci().prop_map(Match::Device),
        1 => pci().prop_map(Match::Bridge),
        1 => (pci(), of(1..=u16::MAX)).prop_map(move |(pci, of)| virtio(pci, of)),
        1 => of(1..=u32::MAX).prop_map(Match::VirtioMmio),
        1 => "[!-~]{1,64}".prop_map(Match::Platform),
    ]
}

fn measurements() -> impl Strategy<Value = Measurements> {
    let value = || {
        prop_oneof![
            btree_set(digest(), 1..3).prop_map(|set| ReferenceValue::Digests(set.into_iter().collect())),
            btree_set(vec(any::<u8>(), 1..40), 1..3)
                .prop_map(|set| ReferenceValue::Values(set.into_iter().collect())),
            any::<u64>().prop_map(ReferenceValue::MinSvn),
        ]
    };
    let reference = move |index| {
        (of(0..0x80_u8), value()).prop_map(move |(kind, value)| {
            let kind = if matches!(value, ReferenceValue::MinSvn(_)) { kind.map(|_| 7) } else { kind };
            Reference { index, kind, value }
        })
    };
    let listed = btree_set(1..=0xfe_u8, 1..4)
        .prop_flat_map(move |indexes| indexes.into_iter().map(reference).collect::<Vec<_>>());
    prop_oneof![Just(Measurements::Any), listed.prop_map(Measurements::Listed)]
}

fn report() -> impl Strategy<Value = ReportRules> {
    any::<[bool; 12]>().prop_map(|[a, b, c, d, e, f, relative, whole, omitted, high, bytes, doubled]| {
        ReportRules {
            firmware_update_allowed: a,
            pasid_allowed: b,
            no_plain_dma_allowed: c,
            ats_allowed: d,
            prs_allowed: e,
            non_tee_shared: f,
            quirks: Quirks {
                relative,
                whole_bar: whole && !relative,
                omitted_non_tee: omitted && !relative,
                high_ids: high,
                byte_addresses: bytes,
                doubled_ids: doubled && !high,
            },
        }
    })
}

fn rule() -> impl Strategy<Value = Rule> {
    let subject = "[ -)+-~é*]{0,20}[ -)+-~]";
    let identity = (of(subject), btree_set(digest(), 0..2), btree_set(serial(), 0..2)).prop_map(
        |(subject, leaf_keys, serials)| Identity {
            subject,
            leaf_keys: leaf_keys.into_iter().collect(),
            serials: serials.into_iter().collect(),
        },
    );
    let modes = prop::sample::subsequence(vec![Mode::Run, Mode::Pin, Mode::Shared], 0..=3).prop_shuffle();
    let evidence = prop::sample::select(vec![
        EvidenceClass::Signed,
        EvidenceClass::Signed,
        EvidenceClass::Platform,
        EvidenceClass::Unauthenticated,
    ]);
    let on_failure = prop::sample::select(vec![OnFailure::Stop, OnFailure::Hide, OnFailure::Shared]);
    let what = ("[!-~]{1,60}", matches(), identity, prop_oneof![3 => Just(1), 1 => 1..=256_u32]);
    let demands = (evidence, measurements(), report(), modes, on_failure);
    (what, demands, any::<[bool; 6]>()).prop_map(|(what, demands, flags)| {
        let (name, matches, identity, count) = what;
        let (evidence, measurements, report, modes, on_failure) = demands;
        let [required, device_mode_required, debug_allowed, device_quiet, same_unit, hide] = flags;
        let quiet = if device_quiet { Quiet::Device } else { Quiet::ResetByClass };
        fit(
            Rule {
                name,
                matches,
                identity,
                required,
                count,
                evidence,
                measurements,
                device_mode_required,
                debug_allowed,
                report,
                quiet,
                modes,
                on_failure,
                same_unit,
            },
            hide,
        )
    })
}

/// Takes out of a rule what contradicts the rest of it.
fn fit(mut rule: Rule, hide: bool) -> Rule {
    let is_device = matches!(rule.matches, Match::Device(_));
    rule.modes.retain(|mode| is_device || *mode == Mode::Shared);
    if hide && (!rule.required || !rule.modes.is_empty()) {
        rule.modes.push(Mode::Hide);
    }
    if rule.modes.is_empty() {
        rule.modes.push(if is_device { Mode::Run } else { Mode::Shared });
    }
    if rule.required {
        rule.on_failure = OnFailure::Stop;
        rule.count = 1;
    }
    if rule.evidence == EvidenceClass::Unauthenticated {
        rule.identity = Identity::default();
        rule.modes.retain(|mode| *mode != Mode::Run);
        if rule.modes.is_empty() {
            rule.modes.push(Mode::Pin);
        }
    }
    if rule.evidence == EvidenceClass::Platform {
        rule.identity = Identity::default();
        rule.measurements = Measurements::Any;
        rule.device_mode_required = false;
        if let Match::Device(pci) = &mut rule.matches
            && pci.slots.is_empty()
        {
            pci.slots.push("1f.7".parse().unwrap());
        }
    }
    if !rule.modes.iter().any(|mode| matches!(mode, Mode::Run | Mode::Pin)) {
        rule.identity = Identity::default();
        rule.evidence = EvidenceClass::Signed;
        rule.measurements = Measurements::Any;
        (rule.device_mode_required, rule.debug_allowed, rule.same_unit) = (false, false, false);
        rule.report = ReportRules::default();
        rule.quiet = Quiet::ResetByClass;
    }
    if rule.required && rule.modes.first() == Some(&Mode::Hide) {
        rule.modes.insert(0, Mode::Shared);
    }
    rule
}
