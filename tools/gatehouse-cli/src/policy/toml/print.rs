//! Writes the TOML form: what [`super::parse`] makes the same policy of.
use super::date;
use super::words::{self, Words};
use crate::hex;
use gatehouse::policy::types::{
    AnchorKey, EvidenceClass, Match, Measurements, Mode, OnFailure, POLICY_VERSION, PciMatch, Policy, Quiet,
    Reference, ReferenceValue, ReportRules, Rest, Rule, Serial,
};
use std::fmt::Display;
use std::fmt::Write;

/// Lines of TOML.
#[derive(Default)]
struct Out(String);

impl Out {
    fn header(&mut self, header: &str) {
        if !self.0.is_empty() {
            self.0.push('\n');
        }
        self.0 += header;
        self.0.push('\n');
    }

    fn put(&mut self, name: &str, value: impl Display) {
        // Writing into a String cannot fail.
        let _ = writeln!(self.0, "{name} = {value}");
    }

    fn text(&mut self, name: &str, value: &str) {
        self.put(name, quoted(value));
    }

    fn flag(&mut self, name: &str, value: bool, default: bool) {
        if value != default {
            self.put(name, value);
        }
    }

    /// One value under `one`, several under `many`.
    fn both(&mut self, one: &str, many: &str, values: &[String]) {
        match values {
            [] => (),
            [value] => self.text(one, value),
            _ => self.list(many, values),
        }
    }

    /// A list, with a line for each entry unless they are short.
    fn list(&mut self, name: &str, values: &[String]) {
        let values: Vec<_> = values.iter().map(|value| quoted(value)).collect();
        if values.iter().map(|value| value.len() + 2).sum::<usize>() <= 80 {
            self.put(name, format!("[{}]", values.join(", ")));
        } else {
            let lines: String = values.iter().map(|value| format!("    {value},\n")).collect();
            self.put(name, format!("[\n{lines}]"));
        }
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.into()).to_string()
}

fn texts<T: Display>(values: &[T]) -> Vec<String> {
    values.iter().map(T::to_string).collect()
}

/// Every meaning has a word: a test prints them all.
fn word<T: PartialEq>(words: Words<T>, meaning: &T) -> &'static str {
    words::word(words, meaning).unwrap_or("")
}

/// Prints a serial number as other tools do.
pub fn serial(Serial(bytes): &Serial) -> String {
    bytes.iter().map(|byte| hex(&[*byte])).collect::<Vec<_>>().join(":")
}

fn serials(values: &[Serial]) -> Vec<String> {
    values.iter().map(serial).collect()
}

/// Prints a policy.
#[must_use]
pub fn print(policy: &Policy) -> String {
    let mut out = Out::default();
    out.put("version", POLICY_VERSION);
    out.put("svn", policy.svn);
    out.flag("audit", policy.audit, false);
    if let Some(floor) = policy.floor {
        out.put("floor", date::print(floor));
    }
    if policy.rest != Rest::default() {
        out.text("rest", word(words::REST, &policy.rest));
    }
    if !policy.forwards_nonce {
        out.header("[rmm]");
        out.put("forwards-nonce", false);
    }
    for anchor in &policy.anchors {
        out.header("[[anchor]]");
        out.text("name", &anchor.name);
        match anchor.key {
            AnchorKey::Certificate(digest) => out.text("certificate", &digest.to_string()),
            AnchorKey::PublicKey(digest) => out.text("public-key", &digest.to_string()),
        }
    }
    if policy.denied != Default::default() {
        out.header("[deny]");
        out.both("leaf-key", "leaf-keys", &texts(&policy.denied.leaf_keys));
        out.both("serial", "serials", &serials(&policy.denied.serials));
    }
    let rules: String = policy.rules.iter().map(|rule| format!("\n{}", print_rule(rule))).collect();
    out.0 + &rules
}

/// Prints a rule, its tables of measurements included.
#[must_use]
pub fn print_rule(rule: &Rule) -> String {
    let mut out = Out::default();
    out.header("[[rule]]");
    out.text("name", &rule.name);
    matches(&mut out, &rule.matches);
    if let Some(subject) = &rule.identity.subject {
        out.text("subject", subject);
    }
    out.both("leaf-key", "leaf-keys", &texts(&rule.identity.leaf_keys));
    out.both("serial", "serials", &serials(&rule.identity.serials));
    out.flag("required", rule.required, true);
    if rule.count != 1 {
        out.put("count", rule.count);
    }
    if rule.evidence != EvidenceClass::default() {
        out.text("evidence", word(words::EVIDENCE, &rule.evidence));
    }
    let locks = rule.modes.iter().any(|mode| matches!(mode, Mode::Run | Mode::Pin));
    if rule.measurements == Measurements::Any && locks && rule.evidence != EvidenceClass::Platform {
        out.text("measurements", "any");
    }
    out.flag("device-mode-required", rule.device_mode_required, false);
    out.flag("debug-allowed", rule.debug_allowed, false);
    report(&mut out, &rule.report);
    if rule.quiet != Quiet::default() {
        out.text("quiet", word(words::QUIET, &rule.quiet));
    }
    out.list("modes", &texts(&rule.modes));
    let default = if rule.required { OnFailure::Stop } else { OnFailure::Hide };
    if rule.on_failure != default {
        out.text("on-failure", word(words::ON_FAILURE, &rule.on_failure));
    }
    out.flag("same-unit", rule.same_unit, false);
    if let Measurements::Listed(references) = &rule.measurements {
        references.iter().for_each(|entry| reference(&mut out, entry));
    }
    out.0
}

fn matches(out: &mut Out, matches: &Match) {
    let kind = match matches {
        Match::Device(_) => None,
        Match::Bridge(_) => Some("bridge"),
        Match::VirtioPci(..) => Some("virtio-pci"),
        Match::VirtioMmio(_) => Some("virtio-mmio"),
        Match::Platform(_) => Some("platform"),
    };
    if let Some(kind) = kind {
        out.text("kind", kind);
    }
    match matches {
        Match::Device(at) | Match::Bridge(at) => pci(out, at),
        Match::VirtioPci(at, of) => {
            virtio(out, of.map(u32::from));
            pci(out, at);
        }
        Match::VirtioMmio(of) => virtio(out, *of),
        Match::Platform(compatible) => out.text("compatible", compatible),
    }
}

fn virtio(out: &mut Out, of: Option<u32>) {
    if let Some(of) = of {
        match words::word(words::VIRTIO, &of) {
            Some(word) => out.text("virtio", word),
            None => out.put("virtio", of),
        }
    }
}

fn pci(out: &mut Out, at: &PciMatch) {
    out.both("slot", "slots", &texts(&at.slots));
    for (name, id) in [
        ("vendor", at.vendor),
        ("device", at.device),
        ("subsystem-vendor", at.subsystem_vendor),
        ("subsystem", at.subsystem),
    ] {
        if let Some(id) = id {
            out.put(name, format!("{id:#06x}"));
        }
    }
    if let Some(class) = at.class {
        let [_, bytes @ ..] = class.value.to_be_bytes();
        let [_, mask @ ..] = class.mask.to_be_bytes();
        let named = bytes.iter().zip(mask).filter(|(_, mask)| *mask != 0).map(|(byte, _)| *byte);
        out.text("class", &hex(&named.collect::<Vec<_>>()));
    }
}

fn report(out: &mut Out, rules: &ReportRules) {
    let mut rules = *rules;
    let set: Vec<_> =
        words::REPORT.iter().filter(|(_, field)| *field(&mut rules)).map(|(word, _)| *word).collect();
    if !set.is_empty() {
        out.put("report", format!("{{ {} = true }}", set.join(" = true, ")));
    }
    let set = words::QUIRKS.iter().filter(|(_, field)| *field(&mut rules.quirks));
    let set: Vec<_> = set.map(|(word, _)| (*word).to_owned()).collect();
    if !set.is_empty() {
        out.list("quirks", &set);
    }
}

fn reference(out: &mut Out, reference: &Reference) {
    out.header("[[rule.measurement]]");
    out.put("index", reference.index);
    if let Some(kind) = reference.kind {
        match words::word(words::TYPES, &kind) {
            Some(word) => out.text("type", word),
            None => out.put("type", kind),
        }
    }
    match &reference.value {
        ReferenceValue::Digests(digests) => out.list("digests", &texts(digests)),
        ReferenceValue::Values(values) => {
            out.list("values", &values.iter().map(|value| hex(value)).collect::<Vec<_>>());
        }
        ReferenceValue::MinSvn(svn) => out.put("min-svn", svn),
    }
}
