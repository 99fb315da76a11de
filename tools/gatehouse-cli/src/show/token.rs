//! Tokens in a table.

use super::Shown;
use crate::token::{Component, DeviceClaims, Token, lifecycle_word};
use crate::{hex, table};
use serde_json::{Value, json};

pub fn token(token: &Token<'_>) -> Shown {
    let (platform, realm) = (&token.platform, &token.realm);
    let mut rows: Vec<[String; 3]> = Vec::new();
    let mut row = |part: &str, name: &str, value: String| rows.push([part.into(), name.into(), value]);
    row("platform", "profile", platform.profile.into());
    row("platform", "signature", token.platform_signed.algorithm.to_string());
    row("platform", "challenge", hex(platform.challenge));
    row("platform", "implementation", hex(platform.implementation));
    row("platform", "instance", hex(platform.instance));
    row("platform", "configuration", hex(platform.configuration));
    let lifecycle = format!("{} ({:#06x})", lifecycle_word(platform.lifecycle), platform.lifecycle);
    row("platform", "lifecycle", lifecycle);
    row("platform", "hash", platform.hash.name().into());
    row("platform", "service", platform.service.unwrap_or("-").into());
    for component in &platform.components {
        row("platform", "component", self::component(component));
    }
    row("realm", "profile", realm.profile.unwrap_or("-").into());
    row("realm", "signature", token.realm_signed.algorithm.to_string());
    row("realm", "challenge", hex(realm.challenge));
    row("realm", "rpv", hex(realm.rpv));
    row("realm", "hash", realm.hash.name().into());
    row(
        "realm",
        "memory",
        match realm.private_memory_key {
            None => "-",
            Some(true) => "encrypted with a key of the realm's own",
            Some(false) => "encrypted with a key that realms share",
        }
        .into(),
    );
    row("realm", "RIM", hex(realm.rim));
    for (number, rem) in (1..).zip(realm.rems) {
        row("realm", &format!("REM {number}"), hex(rem));
    }
    let devices = token.device_claims();
    for device in devices.iter().flatten().flatten() {
        row("devices", "device", self::device(device));
    }

    let mut verified = Vec::new();
    let mut claimed =
        vec!["the platform: gatehouse verify checks its signature with a platform key".to_owned()];
    let mut sort = |holds: bool, text: &str, otherwise: &str| {
        if holds { verified.push(text.to_owned()) } else { claimed.push(otherwise.to_owned()) }
    };
    sort(
        token.binds(),
        "the platform's challenge is the hash of the realm's key",
        "that the realm is on this platform: the platform's challenge is NOT the hash of the realm's key",
    );
    sort(
        token.realm_is_signed().is_ok(),
        "the realm's key signed the realm token",
        "the realm: its signature does NOT verify",
    );
    if let Some(bound) = token.binds_devices() {
        let otherwise = "the devices: the device token is NOT the one of the realm token";
        sort(bound && devices.is_ok(), "the device token is the one of the realm token", otherwise);
    }
    let rems: Vec<_> = realm.rems.iter().map(|rem| hex(rem)).collect();
    let json: Value = json!({
        "outer": token.outer.to_string(),
        "platform": {
            "profile": platform.profile, "lifecycle": platform.lifecycle, "challenge": hex(platform.challenge),
            "implementation": hex(platform.implementation), "instance": hex(platform.instance),
            "components": platform.components.iter().map(component).collect::<Vec<_>>(),
        },
        "realm": {
            "profile": realm.profile, "challenge": hex(realm.challenge), "rpv": hex(realm.rpv),
            "hash": realm.hash.name(), "rim": hex(realm.rim), "rems": rems,
        },
        "devices": devices.iter().flatten().flatten().map(device).collect::<Vec<_>>(),
    });
    Shown {
        kind: "a CCA attestation token",
        text: format!("{}\n{}", token.outer, table::write(&rows)),
        verified,
        claimed,
        json,
    }
}

fn component(component: &Component<'_>) -> String {
    format!(
        "{} {}: {}, signer {}",
        component.kind.unwrap_or("-"),
        component.version.unwrap_or("-"),
        hex(component.measurement),
        hex(component.signer)
    )
}

fn device(device: &DeviceClaims<'_>) -> String {
    let ide = |protected: Option<bool>| match protected {
        None => "not said",
        Some(true) => "protected",
        Some(false) => "not protected",
    };
    format!(
        "chain {}, measurements {}, negotiation {}, coherent traffic {}, other traffic {}",
        hex(device.identity),
        hex(device.measurements),
        device.vca.map_or("-".to_owned(), hex),
        ide(device.coherent_protected),
        ide(device.protected)
    )
}
