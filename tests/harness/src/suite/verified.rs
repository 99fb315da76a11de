//! The relying party: what a realm sent is verified against values that were predicted, and against values of something else.
//!
//! Nobody on the way is trusted: only the key of the platform, the challenge and files of the repository count.

use super::Bench;
use super::cases::need;
use super::measured::image_of;
use crate::image;
use crate::reference::Premises;
use crate::verifier::{CHALLENGE_FILE, EVIDENCE_FILE, LOG_FILE, TOKEN_FILE, platform_key_pem};
use gatehouse::abi::eventlog::EV_EFI_SPDM_FIRMWARE_BLOB;
use gatehouse::eventlog::Event;
use gatehouse::policy::cbor;
use gatehouse::policy::types::Policy;
use gatehouse_cli::eventlog::{Data, EventLog, Ids};
use gatehouse_cli::pack::Pack;
use gatehouse_cli::region::{self, Collected};
use gatehouse_cli::token::{Key, Token};
use gatehouse_cli::verify::{Inputs, Reference, Report, Verdict, verify};
use rmm_model::Scenario;
use std::fs;
use std::path::Path;

/// Checks that must have had something to compare with.
const MUST_HOLD: [&str; 16] = [
    "platform-signature",
    "platform-profile",
    "platform-lifecycle",
    "key-binding",
    "realm-signature",
    "challenge",
    "rim",
    "hash",
    "log",
    "rem1",
    "rem2",
    "rem3",
    "policy",
    "bundle",
    "part",
    "evidence",
];

/// Words of lines that fail.
const OTHER_IMAGE: (&str, &str) = ("rim", "the image, its board or its place in memory are not");
const OTHER_BUNDLE: (&str, &str) = ("bundle", "the bundle is not the one of the reference");
const OTHER_DEVICES: (&str, &str) = ("rem2", "the devices, their firmware or what became of them are not");

/// What a realm sent, and to what.
struct Sent {
    challenge: Vec<u8>,
    token: Vec<u8>,
    log: EventLog,
    evidence: Vec<u8>,
}

/// One verifier with values of something else: what it is, and the lines that must fail, in their order.
struct Other {
    what: &'static str,
    reference: Reference,
    challenge: Vec<u8>,
    fails: Vec<(&'static str, &'static str)>,
}

/// The predicted values convince; those of another policy, kernel, command line, device or firmware of a device, or another
/// challenge, do not.
///
/// `dir`: folder of the run. `tree`: device tree as the realm found it.
pub(super) fn convinces(
    bench: &Bench<'_>,
    dir: &Path,
    tree: &[u8],
    scenario: &Scenario,
) -> Result<(), String> {
    let image = image_of(dir)?;
    let sent = Sent::read(dir)?;
    let predict = |image: &[u8], log: &EventLog, evidence: &[Collected<'_>]| {
        let (root, board) = (&bench.tools.root, crate::board::DEFAULT);
        let premises = Premises { root, board, scenario, image, tree };
        premises.reference(log, evidence).map_err(|fault| fault.to_string())
    };
    let evidence = region::read(&sent.evidence).map_err(|error| error.to_string())?;
    let expected = predict(&image, &sent.log, &evidence)?;
    holds(&sent.verified(&expected, &sent.challenge)?)?;

    let pack = image::unpack(bench.artifacts, &image).map_err(|fault| fault.to_string())?;
    let built =
        |pack: &Pack| pack.build().map(|packed| packed.image_bytes).map_err(|error| error.to_string());
    need(built(&pack)? == image, || "the image cannot be packed again".to_owned())?;
    let with_pack = |pack: &Pack| predict(&built(pack)?, &sent.log, &evidence);
    let challenge = || sent.challenge.clone();
    let mut others = vec![
        Other {
            what: "a later policy",
            reference: with_pack(&with_policy(&pack, |policy| policy.svn += 1)?)?,
            challenge: challenge(),
            fails: other_policy(),
        },
        Other {
            what: "a policy of the same version with another rule",
            reference: with_pack(&with_policy(&pack, |policy| {
                policy.rules.iter_mut().for_each(|rule| rule.required = false);
            })?)?,
            challenge: challenge(),
            fails: other_policy(),
        },
        Other {
            what: "a kernel with another byte",
            reference: with_pack(&with_other_kernel(&pack))?,
            challenge: challenge(),
            fails: vec![
                OTHER_IMAGE,
                ("rem3", "the kernel is not the one of the reference"),
                OTHER_BUNDLE,
                ("part", "the kernel is not the one of the reference"),
            ],
        },
        Other {
            what: "a longer command line",
            reference: with_pack(&Pack { cmdline: format!("{} quiet", pack.cmdline), ..pack.clone() })?,
            challenge: challenge(),
            fails: vec![
                OTHER_IMAGE,
                ("rem3", "the command line is not the one of the reference"),
                OTHER_BUNDLE,
                ("part", "the cmdline is not the one of the reference"),
            ],
        },
        Other {
            what: "another challenge",
            reference: expected.clone(),
            challenge: sent.challenge.iter().map(|byte| !byte).collect(),
            fails: vec![("challenge", "the token was made for another challenge")],
        },
    ];
    let mut revised = (sent.log.clone(), evidence.clone());
    revise(&mut revised.0, &mut revised.1, &scenario.device[0].slot);
    let mut fewer = sent.log.clone();
    let shared = &scenario.device.last().ok_or("a scenario without devices")?.slot;
    fewer.events.retain(|event| !matches!(&event.data, Data::Function(function) if function.slot == *shared));
    for (what, log, evidence) in [
        ("a device of another revision", &revised.0, &*revised.1),
        ("a machine without the shared function", &fewer, &*evidence),
    ] {
        let reference = predict(&image, log, evidence)?;
        others.push(Other { what, reference, challenge: challenge(), fails: vec![OTHER_DEVICES] });
    }
    // The same device, its identity as it was: one byte of what its firmware measures to.
    let mut flashed = 0;
    let (root, board) = (&bench.tools.root, crate::board::DEFAULT);
    let premises = Premises { root, board, scenario, image: &image, tree };
    let reference = premises.altered_reference(&sent.log, &evidence, |events| flashed = flash(events));
    let reference = reference.map_err(|fault| fault.to_string())?;
    need(flashed == 1, || format!("{flashed} devices with firmware measurements"))?;
    let what = "a device with other firmware";
    others.push(Other { what, reference, challenge: challenge(), fails: vec![OTHER_DEVICES] });
    for other in &others {
        let report = sent.verified(&other.reference, &other.challenge)?;
        fails(&report, other)?;
    }
    Ok(())
}

impl Sent {
    fn read(dir: &Path) -> Result<Sent, String> {
        let read = |name: &str| fs::read(dir.join(name)).map_err(|error| format!("{name}: {error}"));
        let log = EventLog::read(&read(LOG_FILE)?).map_err(|error| error.to_string())?;
        let (challenge, token, evidence) = (read(CHALLENGE_FILE)?, read(TOKEN_FILE)?, read(EVIDENCE_FILE)?);
        Ok(Sent { challenge, token, log, evidence })
    }

    /// As `gatehouse verify` does.
    fn verified(&self, reference: &Reference, challenge: &[u8]) -> Result<Report, String> {
        let token = Token::parse(&self.token).map_err(|error| error.to_string())?;
        let evidence = region::read(&self.evidence).map_err(|error| error.to_string())?;
        let key = Key::from_pem(&platform_key_pem()).map_err(|error| error.to_string())?;
        Ok(verify(&Inputs {
            token: &token,
            log: &self.log,
            evidence: Some(&evidence),
            challenge,
            platform_keys: &[key],
            reference,
            policy: None,
            min_svn: None,
            lifecycles: &["secured".to_owned()],
            rem_rule: None,
        }))
    }
}

/// Nothing fails, and what counts was compared.
fn holds(report: &Report) -> Result<(), String> {
    let is_ok = |name: &str| {
        let mut checks = report.checks.iter().filter(|check| check.name == name).peekable();
        checks.peek().is_some() && checks.all(|check| check.verdict == Verdict::Ok)
    };
    let missing: Vec<_> = MUST_HOLD.iter().filter(|name| !is_ok(name)).collect();
    need(report.holds() && missing.is_empty(), || format!("not held: {missing:?}\n{}", report.to_text()))
}

/// Exactly the lines fail that say what differs.
fn fails(report: &Report, other: &Other) -> Result<(), String> {
    let failed: Vec<_> = report.checks.iter().filter(|check| check.verdict == Verdict::Fail).collect();
    let is_named = failed.len() == other.fails.len()
        && failed
            .iter()
            .zip(&other.fails)
            .all(|(check, (name, words))| check.name == *name && check.text.starts_with(words));
    need(!report.holds() && is_named, || {
        format!("{}: must fail: {:?}\n{}", other.what, other.fails, report.to_text())
    })
}

/// Lines that fail for another policy.
fn other_policy() -> Vec<(&'static str, &'static str)> {
    vec![
        OTHER_IMAGE,
        ("rem1", "the policy, or what authorised the devices, is not that of the reference"),
        ("rem3", "what was booted is not what the reference has"),
        ("policy", "the policy is not the one of the reference"),
        OTHER_BUNDLE,
        ("part", "the policy is not the one of the reference"),
    ]
}

fn with_policy(pack: &Pack, change: impl FnOnce(&mut Policy)) -> Result<Pack, String> {
    let mut policy =
        cbor::decode(pack.policy.as_deref().unwrap_or_default()).map_err(|error| error.to_string())?;
    change(&mut policy);
    Ok(Pack { policy: Some(cbor::encode(&policy)), ..pack.clone() })
}

fn with_other_kernel(pack: &Pack) -> Pack {
    let mut pack = pack.clone();
    if let Some(last) = pack.kernel.last_mut() {
        *last ^= 1;
    }
    pack
}

/// Changes the last byte of the firmware blocks of the first device that has some. Returns how many devices that were: one, or none.
fn flash(events: &mut [Event]) -> usize {
    /// Behind the blocks: version, length and ids of the PCI context.
    const PCI_CONTEXT_LEN: usize = 20;
    let is_blob = |event: &&mut Event| event.kind == EV_EFI_SPDM_FIRMWARE_BLOB;
    let last =
        events.iter_mut().find(is_blob).and_then(|event| event.data.iter_mut().nth_back(PCI_CONTEXT_LEN));
    last.map(|byte| *byte ^= 1).iter().count()
}

/// Gives the device at `slot` another revision, in inventory and evidence.
fn revise(log: &mut EventLog, evidence: &mut [Collected<'_>], slot: &str) {
    let revise = |ids: &mut Ids| ids.revision ^= 1;
    for event in &mut log.events {
        match &mut event.data {
            Data::Function(function) if function.slot == slot => revise(&mut function.ids),
            _ => {}
        }
    }
    evidence.iter_mut().filter(|one| one.session.slot == slot).for_each(|one| revise(&mut one.ids));
}
