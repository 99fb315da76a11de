//! Writes the encoded form. The firmware never does.

use super::{
    ARRAY, BYTES, MAP, NEGATIVE, TEXT, UNSIGNED, flag, key, kind, reference_key, report, rule_flag, rule_key,
};
use crate::cbor::{head, length};
use crate::digest::Digest;
use crate::policy::types::{
    Anchor, AnchorKey, EvidenceClass, Match, Measurements, Mode, OnFailure, POLICY_VERSION, PciMatch, Policy,
    Quiet, Reference, ReferenceValue, ReportRules, Rest, Rule, Serial, Time,
};
use alloc::vec::Vec;

fn number(n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    head(&mut out, UNSIGNED, n);
    out
}

fn string(major: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    head(&mut out, major, length(bytes.len()));
    out.extend(bytes);
    out
}

fn bytes(value: &[u8]) -> Vec<u8> {
    string(BYTES, value)
}

fn text(value: &str) -> Vec<u8> {
    string(TEXT, value.as_bytes())
}

fn array(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let items: Vec<_> = items.into_iter().collect();
    let mut out = Vec::new();
    head(&mut out, ARRAY, length(items.len()));
    items.iter().for_each(|item| out.extend(item));
    out
}

/// A map under construction; keys are added in ascending order.
#[derive(Default)]
struct Map(Vec<u8>, u64);

impl Map {
    fn put(&mut self, key: u8, value: Vec<u8>) {
        head(&mut self.0, UNSIGNED, key.into());
        self.0.extend(value);
        self.1 = self.1.saturating_add(1);
    }

    /// Adds what is not the default.
    fn put_unless(&mut self, default: u64, key: u8, value: u64) {
        if value != default {
            self.put(key, number(value));
        }
    }

    fn put_some<T: Into<u64>>(&mut self, key: u8, value: Option<T>) {
        if let Some(value) = value {
            self.put(key, number(value.into()));
        }
    }

    /// Adds a list that is not empty.
    fn put_list<T>(&mut self, key: u8, items: &[T], item: impl Fn(&T) -> Vec<u8>) {
        if !items.is_empty() {
            self.put(key, array(items.iter().map(item)));
        }
    }

    fn end(self) -> Vec<u8> {
        let mut out = Vec::new();
        head(&mut out, MAP, self.1);
        out.extend(self.0);
        out
    }
}

/// Bits of those flags that are set.
fn bits(flags: &[(bool, u64)]) -> u64 {
    flags.iter().filter(|(set, _)| *set).fold(0, |all, (_, bit)| all | bit)
}

pub(super) fn policy(policy: &Policy) -> Vec<u8> {
    let mut map = Map::default();
    map.put(key::VERSION, number(POLICY_VERSION));
    map.put_unless(0, key::SVN, policy.svn);
    let flags = bits(&[
        (policy.audit, flag::AUDIT),
        (!policy.forwards_nonce, flag::NONCE_NOT_FORWARDED),
        (policy.rest == Rest::Stop, flag::REST_STOPS),
    ]);
    map.put_unless(0, key::FLAGS, flags);
    if let Some(floor) = policy.floor {
        map.put(key::FLOOR, time(floor));
    }
    map.put_list(key::ANCHORS, &policy.anchors, anchor);
    map.put_list(key::DENIED_LEAF_KEYS, &policy.denied.leaf_keys, digest);
    map.put_list(key::DENIED_SERIALS, &policy.denied.serials, serial);
    map.put_list(key::RULES, &policy.rules, rule);
    map.end()
}

fn time(Time(seconds): Time) -> Vec<u8> {
    let mut out = Vec::new();
    match u64::try_from(seconds) {
        Ok(n) => head(&mut out, UNSIGNED, n),
        // -1 - n, and so the complement: never negative.
        Err(_) => head(&mut out, NEGATIVE, u64::try_from(!seconds).unwrap_or(0)),
    }
    out
}

fn digest(digest: &Digest) -> Vec<u8> {
    bytes(digest.as_bytes())
}

fn serial(Serial(serial): &Serial) -> Vec<u8> {
    bytes(serial)
}

fn anchor(anchor: &Anchor) -> Vec<u8> {
    let (form, value) = match &anchor.key {
        AnchorKey::Certificate(value) => (0, value),
        AnchorKey::PublicKey(value) => (1, value),
    };
    array([text(&anchor.name), number(form), digest(value)])
}

fn rule(rule: &Rule) -> Vec<u8> {
    let mut map = Map::default();
    map.put(rule_key::NAME, text(&rule.name));
    let (kind, pci, virtio, compatible) = match &rule.matches {
        Match::Device(pci) => (kind::DEVICE, Some(pci), None, None),
        Match::Bridge(pci) => (kind::BRIDGE, Some(pci), None, None),
        Match::VirtioPci(pci, of) => (kind::VIRTIO_PCI, Some(pci), of.map(u32::from), None),
        Match::VirtioMmio(of) => (kind::VIRTIO_MMIO, None, *of, None),
        Match::Platform(compatible) => (kind::PLATFORM, None, None, Some(compatible)),
    };
    map.put_unless(0, rule_key::KIND, kind);
    if let Some(pci) = pci {
        put_pci(&mut map, pci);
    }
    map.put_some(rule_key::VIRTIO, virtio);
    for (key, value) in
        [(rule_key::COMPATIBLE, compatible), (rule_key::SUBJECT, rule.identity.subject.as_ref())]
    {
        if let Some(value) = value {
            map.put(key, text(value));
        }
    }
    map.put_list(rule_key::LEAF_KEYS, &rule.identity.leaf_keys, digest);
    map.put_list(rule_key::SERIALS, &rule.identity.serials, serial);
    let flags = bits(&[
        (!rule.required, rule_flag::OPTIONAL),
        (rule.device_mode_required, rule_flag::DEVICE_MODE_REQUIRED),
        (rule.debug_allowed, rule_flag::DEBUG_ALLOWED),
        (rule.same_unit, rule_flag::SAME_UNIT),
        (rule.quiet == Quiet::Device, rule_flag::QUIET_DEVICE),
    ]);
    map.put_unless(0, rule_key::FLAGS, flags);
    map.put_unless(1, rule_key::COUNT, rule.count.into());
    let evidence = match rule.evidence {
        EvidenceClass::Signed => 0,
        EvidenceClass::Platform => 1,
        EvidenceClass::Unauthenticated => 2,
    };
    map.put_unless(0, rule_key::EVIDENCE, evidence);
    if let Measurements::Listed(references) = &rule.measurements {
        map.put(rule_key::MEASUREMENTS, array(references.iter().map(reference)));
    }
    map.put_unless(0, rule_key::REPORT, report_bits(&rule.report));
    let modes = rule.modes.iter().map(|mode| match mode {
        Mode::Run => 0,
        Mode::Pin => 1,
        Mode::Shared => 2,
        Mode::Hide => 3,
    });
    map.put(rule_key::MODES, bytes(&modes.collect::<Vec<u8>>()));
    let on_failure = match rule.on_failure {
        OnFailure::Stop => 0,
        OnFailure::Hide => 1,
        OnFailure::Shared => 2,
    };
    map.put_unless(0, rule_key::ON_FAILURE, on_failure);
    map.end()
}

fn put_pci(map: &mut Map, pci: &PciMatch) {
    map.put_list(rule_key::SLOTS, &pci.slots, |slot| {
        let hop = |hop: &crate::boot::slot::Hop| (hop.device() << 3) | hop.function();
        bytes(&slot.hops().iter().map(hop).collect::<Vec<u8>>())
    });
    map.put_some(rule_key::VENDOR, pci.vendor);
    map.put_some(rule_key::DEVICE, pci.device);
    map.put_some(rule_key::SUBSYSTEM_VENDOR, pci.subsystem_vendor);
    map.put_some(rule_key::SUBSYSTEM, pci.subsystem);
    if let Some(class) = pci.class {
        let [_, value @ ..] = class.value.to_be_bytes();
        let [_, mask @ ..] = class.mask.to_be_bytes();
        let named = value.iter().zip(mask).filter(|(_, mask)| *mask != 0).map(|(value, _)| *value);
        map.put(rule_key::CLASS, bytes(&named.collect::<Vec<u8>>()));
    }
}

fn reference(reference: &Reference) -> Vec<u8> {
    let mut map = Map::default();
    map.put(reference_key::INDEX, number(reference.index.into()));
    map.put_some(reference_key::KIND, reference.kind);
    match &reference.value {
        ReferenceValue::Digests(digests) => {
            map.put(reference_key::DIGESTS, array(digests.iter().map(digest)));
        }
        ReferenceValue::Values(values) => {
            map.put(reference_key::VALUES, array(values.iter().map(|value| bytes(value))));
        }
        ReferenceValue::MinSvn(svn) => map.put(reference_key::MIN_SVN, number(*svn)),
    }
    map.end()
}

fn report_bits(rules: &ReportRules) -> u64 {
    let quirks = &rules.quirks;
    bits(&[
        (rules.firmware_update_allowed, report::FIRMWARE_UPDATE_ALLOWED),
        (rules.pasid_allowed, report::PASID_ALLOWED),
        (rules.no_plain_dma_allowed, report::NO_PLAIN_DMA_ALLOWED),
        (rules.ats_allowed, report::ATS_ALLOWED),
        (rules.prs_allowed, report::PRS_ALLOWED),
        (rules.non_tee_shared, report::NON_TEE_SHARED),
        (quirks.relative, report::RELATIVE),
        (quirks.whole_bar, report::WHOLE_BAR),
        (quirks.omitted_non_tee, report::OMITTED_NON_TEE),
        (quirks.high_ids, report::HIGH_IDS),
        (quirks.byte_addresses, report::BYTE_ADDRESSES),
        (quirks.doubled_ids, report::DOUBLED_IDS),
    ])
}
