//! The report as an EAT Attestation Result (draft-ietf-rats-ear-04), with the trustworthiness claims of
//! draft-ietf-rats-ar4si-09. docs/verify.md says which claim follows from which check.
//!
//! A claim is there only where something was judged. Status is `affirming` only where no check failed.

use super::{Check, Inputs, Report, Verdict};
use crate::eventlog::{Device, Judgement, Mode};
use base64ct::{Base64, Encoding as _};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Media type of a signed EAR, without `application/` (RFC 9782).
pub const EAR_TYPE: &str = "eat+jwt";
/// Least length of a nonce in bytes (RFC 9711, 4.1).
pub const MIN_NONCE: usize = 8;
/// eat_profile.
const PROFILE: &str = "tag:ietf.org,2026:rats/ear#04";

/// Trustworthiness claims: values of AR4SI.
const NO_CLAIM: i8 = 0;
const APPROVED: i8 = 2;
/// Of `executables`: at boot.
const APPROVED_BOOT: i8 = 3;
/// Of `executables`: a warning.
const NOT_RECOGNIZED: i8 = 33;
const CONTRAINDICATED: i8 = 96;
/// Of `hardware` and `instance-identity`.
const UNKNOWN: i8 = 97;
const CRYPTO_FAILED: i8 = 99;

/// What the failure of a check says of the realm, and of devices that depend on it.
struct Rule {
    check: &'static str,
    /// Claim of the realm, and its value where the check fails.
    realm: Option<(&'static str, i8)>,
    /// The same of what was handed to the payload as attested.
    device: i8,
}

const fn rule(check: &'static str, claim: &'static str, value: i8) -> Rule {
    let device = if value == CRYPTO_FAILED { CRYPTO_FAILED } else { NO_CLAIM };
    Rule { check, realm: Some((claim, value)), device }
}

const fn device_rule(check: &'static str, device: i8) -> Rule {
    Rule { check, realm: None, device }
}

/// For each check that can fail.
const RULES: [Rule; 25] = [
    rule("platform-signature", "instance-identity", CRYPTO_FAILED),
    rule("platform-profile", "hardware", UNKNOWN),
    rule("platform-lifecycle", "hardware", CONTRAINDICATED),
    rule("key-binding", "instance-identity", CRYPTO_FAILED),
    rule("realm-signature", "instance-identity", CRYPTO_FAILED),
    rule("realm-profile", "instance-identity", UNKNOWN),
    rule("challenge", "instance-identity", CRYPTO_FAILED),
    rule("rim", "executables", NOT_RECOGNIZED),
    rule("rpv", "instance-identity", UNKNOWN),
    device_rule("device-token", CRYPTO_FAILED),
    rule("hash", "configuration", CONTRAINDICATED),
    rule("log", "executables", CRYPTO_FAILED),
    rule("separators", "executables", NOT_RECOGNIZED),
    rule("rem1", "configuration", CONTRAINDICATED),
    device_rule("rem2", UNKNOWN),
    rule("rem3", "executables", NOT_RECOGNIZED),
    rule("policy", "configuration", CONTRAINDICATED),
    rule("policy-svn", "configuration", CONTRAINDICATED),
    rule("bundle", "executables", NOT_RECOGNIZED),
    rule("part", "executables", NOT_RECOGNIZED),
    rule("bundle-svn", "executables", CONTRAINDICATED),
    device_rule("devices", NO_CLAIM),
    rule("required-rules", "configuration", CONTRAINDICATED),
    device_rule("evidence", CRYPTO_FAILED),
    device_rule("device-digests", CRYPTO_FAILED),
];

/// What an EAR says besides the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EarFacts {
    /// When it was made, in seconds since 1970.
    pub issued_at: u64,
    /// What the reference values are known by: ear_appraisal_policy_ids.
    pub policy_id: String,
}

/// The tier of a claim's value, in AR4SI's order. Values of our own are not used.
const fn tier(value: i8) -> &'static str {
    match value {
        ..=1 => "none",
        2..=31 => "affirming",
        32..=95 => "warning",
        96.. => "contraindicated",
    }
}

type Vector = BTreeMap<&'static str, i8>;

impl Report {
    /// Returns the claims of an EAR (JSON).
    #[must_use]
    pub fn to_ear(&self, inputs: &Inputs<'_>, facts: &EarFacts) -> Value {
        let mut submods = Map::new();
        let status = if self.holds() { "affirming" } else { "contraindicated" };
        let realm = json!({
            "ear_status": status,
            "ear_trustworthiness_vector": self.realm_vector(),
            "ear_appraisal_policy_ids": [facts.policy_id],
            "eat_nonce": Base64::encode_string(inputs.token.realm.challenge),
            "ear_verifier_claims": {
                "gatehouse.failed": self.checks.iter().filter(|check| check.verdict == Verdict::Fail).map(said).collect::<Vec<_>>(),
                "gatehouse.held": self.names(Verdict::Ok),
                "gatehouse.skipped": self.names(Verdict::Skip),
            },
        });
        submods.insert("realm".to_owned(), realm);
        for device in &self.devices {
            let vector = self.device_vector(inputs, device);
            let worst = vector.values().copied().max().unwrap_or(NO_CLAIM);
            let appraisal = json!({
                "ear_status": tier(worst),
                "ear_trustworthiness_vector": vector,
                "ear_appraisal_policy_ids": [facts.policy_id],
                "ear_attester_claims": attester_claims(device),
            });
            submods.insert(label(device), appraisal);
        }
        json!({
            "eat_profile": PROFILE,
            "ear_status": status,
            "iat": facts.issued_at,
            "ear_verifier_id": { "developer": "Gatehouse", "build": concat!("gatehouse ", env!("CARGO_PKG_VERSION")) },
            "eat_nonce": Base64::encode_string(inputs.challenge),
            "submods": submods,
        })
    }

    fn failed(&self, name: &str) -> bool {
        self.checks.iter().any(|check| check.name == name && check.verdict == Verdict::Fail)
    }

    /// Tells whether all these checks were made, and hold.
    fn hold(&self, names: &[&str]) -> bool {
        let holds = |name: &&str| {
            let mut found = self.checks.iter().filter(|check| check.name == *name).peekable();
            found.peek().is_some() && found.all(|check| check.verdict == Verdict::Ok)
        };
        names.iter().all(holds)
    }

    fn names(&self, verdict: Verdict) -> Vec<&'static str> {
        self.checks.iter().filter(|check| check.verdict == verdict).map(|check| check.name).collect()
    }

    /// Claims about the realm. That the hardware is sound is not claimed: the platform's components are not compared.
    fn realm_vector(&self) -> Vector {
        let mut vector = Vector::new();
        if self.hold(&["platform-signature", "key-binding", "realm-signature", "challenge"]) {
            vector.insert("instance-identity", APPROVED);
        }
        if self.hold(&["rim", "log"]) {
            vector.insert("executables", APPROVED_BOOT);
        }
        if self.hold(&["policy", "required-rules"]) || self.hold(&["rem1", "required-rules"]) {
            vector.insert("configuration", APPROVED);
        }
        for Rule { check, realm, .. } in &RULES {
            if let Some((claim, value)) = realm.filter(|_| self.failed(check)) {
                vector.entry(claim).and_modify(|old| *old = value.max(*old)).or_insert(value);
            }
        }
        if self.failed("devices") {
            vector.insert("configuration", CONTRAINDICATED);
        }
        vector
    }

    /// Claims about a device: what was handed to the payload as attested is affirmed, if no check fails; what was not, and what
    /// the payload has to mistrust anyway, has no claim.
    fn device_vector(&self, inputs: &Inputs<'_>, device: &Device) -> Vector {
        let reference = inputs.reference;
        let is_forbidden = reference.forbid_verdicts.contains(&device.judgement)
            || reference.forbid_modes.contains(&device.mode);
        if is_forbidden {
            return Vector::from([("hardware", CONTRAINDICATED)]);
        }
        if device.judgement != Judgement::Accepted || !matches!(device.mode, Mode::Run | Mode::Pin) {
            return Vector::from([("hardware", NO_CLAIM)]);
        }
        if !self.holds() {
            let failed = RULES.iter().filter(|rule| self.failed(rule.check));
            let worst = failed.map(|rule| rule.device).max().unwrap_or(NO_CLAIM);
            return Vector::from([("hardware", worst)]);
        }
        let mut vector = Vector::from([("hardware", APPROVED)]);
        if self.hold(&["rem2"]) {
            vector.insert("configuration", APPROVED);
        }
        vector
    }
}

fn said(check: &Check) -> String {
    format!("{}: {}", check.name, check.text)
}

/// Returns the name of a device's submodule: `device/SLOT`, or `rule/NAME` of a rule that found too few.
fn label(device: &Device) -> String {
    match (&device.slot, &device.rule) {
        (Some(slot), _) => format!("device/{slot}"),
        (None, rule) => format!("rule/{}", rule.as_deref().unwrap_or_default()),
    }
}

fn attester_claims(device: &Device) -> Value {
    let Value::Object(claims) = device.to_json() else { return Value::Null };
    claims.into_iter().map(|(name, value)| (format!("gatehouse.{name}"), value)).collect::<Map<_, _>>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_claim_has_the_tier_of_its_value() {
        let tiers =
            [NO_CLAIM, APPROVED, APPROVED_BOOT, NOT_RECOGNIZED, CONTRAINDICATED, UNKNOWN, CRYPTO_FAILED]
                .map(tier);
        let no = "contraindicated";
        assert_eq!(tiers, ["none", "affirming", "affirming", "warning", no, no, no]);
    }
}
