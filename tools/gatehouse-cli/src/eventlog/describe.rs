//! Events and devices in words.

use super::event::{Data, DeviceSecurity, Event};
use super::{Device, EventLog};
use crate::{hex, table};
use gatehouse::digest::Digest;
use gatehouse::rsi::HashAlgorithm;
use serde_json::{Value, json};

/// Characters of a digest in a table.
const SHORT: usize = 16;

/// Says what an event says, in one line.
#[must_use]
pub fn words(data: &Data) -> String {
    match data {
        Data::Realm(dialect) => format!("log version 1, dialect {dialect}"),
        Data::Policy(bytes) => {
            let id = Digest::of(HashAlgorithm::Sha256, &[bytes]);
            match gatehouse::policy::cbor::decode(bytes) {
                Ok(policy) => {
                    let audit = if policy.audit { ", audit" } else { "" };
                    format!("svn {}{audit}, {} rules, {id}", policy.svn, policy.rules.len())
                }
                Err(error) => format!("{id}, not a policy: {error}"),
            }
        }
        Data::Function(function) => {
            let rule = function.rule.as_deref().map_or(String::new(), |rule| format!(", rule {rule}"));
            let ids = &function.ids;
            format!(
                "{}: {:04x}:{:04x} class {:06x}, {}{rule}",
                function.slot, ids.vendor, ids.device, ids.class, function.disposition
            )
        }
        Data::Firmware(device) | Data::Configuration(device) => blocks(device),
        Data::Authority(digest) => format!("anchor {}", hex(digest)),
        Data::Session(session) => {
            let [lock, measurement, report] = session.nonces;
            let no_run = session.no_run.as_deref().map_or(String::new(), |why| format!(", no run: {why}"));
            format!(
                "{}: vdev {:#x}, nonces {lock:#x} {measurement:#x} {report:#x}, {}{no_run}",
                session.slot, session.vdev, session.hash
            )
        }
        Data::Verdict(verdict) => {
            let what = verdict.slot.as_deref().unwrap_or("nothing found");
            let rule = verdict.rule.as_deref().unwrap_or("none");
            let code = code(verdict.code);
            format!("{what}: rule {rule}, {}, mode {}{code}", verdict.judgement, verdict.mode)
        }
        Data::Bundle(bundle) => {
            let parts: Vec<_> =
                bundle.parts.iter().map(|part| format!(", {} {}", part.role, part.digest_text())).collect();
            let line = bundle.cmdline.as_ref().map(|line| format!(", {:?}", String::from_utf8_lossy(line)));
            format!(
                "svn {}, os {}, manifest sha256:{}, {}{}{}",
                bundle.svn,
                bundle.os,
                hex(&bundle.manifest),
                bundle.configuration,
                parts.concat(),
                line.unwrap_or_default()
            )
        }
        Data::Outcome(outcome) => format!(
            "{}: {}, mode {}, state {}{}",
            outcome.slot,
            outcome.judgement,
            outcome.mode,
            outcome.state,
            code(outcome.code)
        ),
        Data::Tree(digest) => hex(digest),
        Data::Separator => String::new(),
    }
}

fn code(code: u16) -> String {
    if code == 0 { String::new() } else { format!(", GH-{code:04}") }
}

fn blocks(device: &DeviceSecurity) -> String {
    let signed = if device.authenticated { "signed" } else { "not signed" };
    let block = |(index, kind, value): &(u8, u8, Vec<u8>)| {
        format!(", {index}: type {} {}", kind & 0x7f, shortened(&hex(value)))
    };
    let blocks: String = device.blocks.iter().map(block).collect();
    format!("{}: {signed}{blocks}", device.slot)
}

/// Cuts a long text.
fn shortened(text: &str) -> String {
    match text.get(..SHORT) {
        Some(head) if text.len() > SHORT => format!("{head}.."),
        _ => text.to_owned(),
    }
}

/// Writes a table with a line for each event.
#[must_use]
pub fn events(log: &EventLog) -> String {
    let head = ["event", "pcr", "rem", "name", "digest", "what"].map(str::to_owned);
    let row = |event: &Event| {
        [
            event.number.to_string(),
            event.pcr.to_string(),
            event.rem().to_string(),
            event.data.name().to_owned(),
            shortened(&hex(&event.digest)),
            words(&event.data),
        ]
    };
    table::write(&[head].into_iter().chain(log.events.iter().map(row)).collect::<Vec<_>>())
}

/// Returns the events as JSON.
#[must_use]
pub fn events_json(log: &EventLog) -> Value {
    let event = |event: &Event| {
        json!({
            "event": event.number, "pcr": event.pcr, "rem": event.rem(), "name": event.data.name(),
            "digest": hex(&event.digest), "what": words(&event.data),
        })
    };
    log.events.iter().map(event).collect()
}

/// Writes a table with a line for each device, and the meaning of each code once.
#[must_use]
pub fn devices(devices: &[Device]) -> String {
    let head = ["slot", "ids", "rule", "verdict", "mode", "state", "code"].map(str::to_owned);
    let row = |device: &Device| {
        let or = |text: Option<&str>| text.unwrap_or("-").to_owned();
        [
            or(device.slot.as_deref()),
            device.ids_text(),
            or(device.rule.as_deref()),
            device.judgement.word().to_owned(),
            device.mode.word().to_owned(),
            or(device.state.map(super::State::word)),
            device.code_text().map_or("-".to_owned(), |(code, text)| format!("{code}: {text}")),
        ]
    };
    table::write(&[head].into_iter().chain(devices.iter().map(row)).collect::<Vec<_>>())
}

/// Explains each code of the devices once, as `gatehouse policy explain` does.
#[must_use]
pub fn explanations(devices: &[Device]) -> String {
    let mut codes: Vec<u16> = devices.iter().map(|device| device.code).filter(|code| *code != 0).collect();
    codes.sort_unstable();
    codes.dedup();
    let explain = |code: &u16| crate::policy::explain::code(&format!("GH-{code:04}"));
    codes.iter().filter_map(explain).map(|text| format!("\n{text}")).collect()
}
