//! What the token proves by itself, in the order of DEN0137's relying party: platform, binding, realm, challenge, RIM.

use super::{Inputs, Report};
use crate::hex;
use crate::rem::same;
use crate::token::{KeyError, lifecycle_word};

/// Profiles of platform tokens.
const PLATFORM_PROFILES: [&str; 2] =
    ["tag:arm.com,2023:cca_platform#1.0.0", "tag:arm.com,2024:cca_platform#2.0.0"];
/// Profiles of realm tokens; it may be absent.
const REALM_PROFILES: [&str; 2] = ["tag:arm.com,2023:realm#1.0.0", "tag:arm.com,2024:realm#2.0.0"];

pub fn run(inputs: &Inputs<'_>, report: &mut Report) {
    let token = inputs.token;
    report.judge("platform-signature", platform_signature(inputs));
    let profile = token.platform.profile;
    report.judge(
        "platform-profile",
        if PLATFORM_PROFILES.contains(&profile) {
            Ok(profile.to_owned())
        } else {
            Err(format!("the platform token has a profile that is not known: {profile}"))
        },
    );
    let word = lifecycle_word(token.platform.lifecycle);
    let lifecycle = format!("{word} ({:#06x})", token.platform.lifecycle);
    report.judge(
        "platform-lifecycle",
        if inputs.lifecycles.iter().any(|allowed| allowed == word) {
            Ok(lifecycle)
        } else {
            Err(format!(
                "the platform is in lifecycle {lifecycle}; allowed: {}",
                inputs.lifecycles.join(", ")
            ))
        },
    );
    report.judge(
        "key-binding",
        if token.binds() {
            Ok("the platform speaks of the realm's key".to_owned())
        } else {
            Err("the realm token is not of this platform: the hash of its key is not the platform's challenge"
                .to_owned())
        },
    );
    report.judge(
        "realm-signature",
        match token.realm_is_signed() {
            Ok(()) => Ok(format!("{} by the realm's key", token.realm_signed.algorithm)),
            Err(error) => Err(format!("the realm token: {error}")),
        },
    );
    let profile = token.realm.profile;
    report.judge(
        "realm-profile",
        match profile {
            Some(profile) if !REALM_PROFILES.contains(&profile) => {
                Err(format!("the realm token has a profile that is not known: {profile}"))
            }
            _ => Ok(profile.unwrap_or("none, as RMM 1.0 allows").to_owned()),
        },
    );
    report.judge("challenge", challenge(inputs));
    report.judge("rim", rim(inputs));
    if inputs.reference.rpv.is_empty() {
        report.skip("rpv", "no reference value");
    } else {
        let fits = inputs.reference.rpv.iter().any(|rpv| same(rpv, token.realm.rpv));
        let found = hex(token.realm.rpv);
        report.judge("rpv", if fits { Ok(found) } else { Err(format!("no reference value is {found}")) });
    }
    match token.binds_devices() {
        None => report.skip("device-token", "the token has none"),
        Some(true) => report.ok("device-token", "its hash is claim 44257"),
        Some(false) => report.fail(
            "device-token",
            "the device token (44258) and its hash in the realm token (44257) do not belong together",
        ),
    }
}

fn platform_signature(inputs: &Inputs<'_>) -> Result<String, String> {
    let token = inputs.token;
    if inputs.platform_keys.is_empty() {
        return Err("no platform key was given: --platform-key, or platform-keys of the reference".to_owned());
    }
    let mut last = KeyError::Signature;
    for key in inputs.platform_keys {
        match token.platform_is_signed(key) {
            Ok(()) => return Ok(format!("{} by an endorsed key", token.platform_signed.algorithm)),
            Err(error) => last = error,
        }
    }
    Err(match inputs.platform_keys {
        [_] => format!("the platform token is not of the platform key: {last}"),
        keys => format!("the platform token is of none of the {} platform keys", keys.len()),
    })
}

fn challenge(inputs: &Inputs<'_>) -> Result<String, String> {
    let found = inputs.token.realm.challenge;
    let (head, rest) = found.split_at_checked(inputs.challenge.len()).unwrap_or((&[], found));
    if !inputs.challenge.is_empty() && head == inputs.challenge && rest.iter().all(|byte| *byte == 0) {
        return Ok("the token was made for it".to_owned());
    }
    Err(format!("the token was made for another challenge, {}: it may be an old one", hex(found)))
}

fn rim(inputs: &Inputs<'_>) -> Result<String, String> {
    let found = inputs.token.realm.rim;
    let text = hex(found);
    if inputs.reference.rim.iter().any(|rim| same(rim, found)) {
        Ok(text)
    } else {
        Err(format!(
            "the image, its board or its place in memory are not those of the reference: RIM is {text}, no reference value is"
        ))
    }
}
