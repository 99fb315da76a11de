//! What the log proves, once its events are those that were extended: policy, bundle, devices.

use super::{Inputs, Report};
use crate::eventlog::{BundleFacts, Data, Device, Judgement};
use crate::hex;
use crate::rem::same;
use crate::replay::Replay;
use gatehouse::digest::Digest;
use gatehouse::policy::cbor;
use gatehouse::policy::types::{Match, Policy};

pub fn run(inputs: &Inputs<'_>, replay: &Replay<'_>, report: &mut Report) {
    let log = inputs.log;
    if let Some(hash) = &inputs.reference.hash {
        let found = log.algorithm.name();
        let text = format!("the log is in {found}, the reference in {hash}");
        report.judge("hash", if found == hash { Ok(found.to_owned()) } else { Err(text) });
    }
    report.judge(
        "log",
        match (replay.misfit(), replay.computed.first()) {
            (None, Some(computed)) => Ok(format!(
                "{} events give REM 1 to 4 of the token, rule {}",
                log.events.len(),
                computed.rule
            )),
            (misfit, _) => Err(format!("{}; its events are only claimed", misfit.unwrap_or_default())),
        },
    );
    report.ok("separators", "the log is complete up to the hand-off, and nothing stands behind it");
    for (index, name) in ["rem1", "rem2", "rem3"].into_iter().enumerate() {
        rem(inputs, index, name, report);
    }
    let policy = policy(inputs, report);
    bundle(inputs, report);
    devices(inputs, report);
    rules(inputs, policy.as_ref(), report);
}

fn rem(inputs: &Inputs<'_>, index: usize, name: &'static str, report: &mut Report) {
    let (Some(wanted), Some(found)) = (inputs.reference.rems.get(index), inputs.token.realm.rems.get(index))
    else {
        return;
    };
    if wanted.is_empty() {
        return report.skip(name, "no reference value");
    }
    let text = hex(found);
    if wanted.iter().any(|wanted| same(wanted, found)) {
        return report.ok(name, text);
    }
    let (what, says) = match index {
        0 => {
            ("the policy, or what authorised the devices, is not that of the reference", authorities(inputs))
        }
        1 => {
            ("the devices, their firmware or what became of them are not those of the reference", all(inputs))
        }
        _ => (booted(inputs), parts(inputs.log.bundle())),
    };
    report.fail(name, format!("{what}: {} is {text}; the log says {says}", name.replace("rem", "REM ")));
}

/// Says what of the bundle is not that of the reference.
fn booted(inputs: &Inputs<'_>) -> &'static str {
    let is_wrong = |role: &str| wrong_part(inputs, role);
    if is_wrong("kernel") {
        "the kernel is not the one of the reference"
    } else if is_wrong("ramdisk") {
        "the ramdisk is not the one of the reference"
    } else if is_wrong("cmdline") {
        "the command line is not the one of the reference"
    } else {
        "what was booted is not what the reference has"
    }
}

/// Tells whether the log has another part than the reference.
fn wrong_part(inputs: &Inputs<'_>, role: &str) -> bool {
    let Some(wanted) = inputs.reference.parts.get(role) else { return false };
    let part = inputs.log.bundle().and_then(|bundle| bundle.part(role));
    let found = part.and_then(|part| Digest::from_bytes(&part.digest));
    !found.is_some_and(|found| wanted.contains(&found))
}

fn authorities(inputs: &Inputs<'_>) -> String {
    let policy = inputs.log.policy_id().map_or("no policy".to_owned(), |id| format!("policy {id}"));
    let anchor = |data: &Data| match data {
        Data::Authority(digest) => Some(format!(", anchor {}", hex(digest))),
        _ => None,
    };
    let anchors: String = inputs.log.events.iter().filter_map(|event| anchor(&event.data)).collect();
    policy + &anchors
}

fn all(inputs: &Inputs<'_>) -> String {
    let devices = inputs.log.devices();
    if devices.is_empty() {
        return "there is none".to_owned();
    }
    devices.iter().map(brief).collect::<Vec<_>>().join(", ")
}

fn brief(device: &Device) -> String {
    let rule = device.rule.as_deref().unwrap_or("none");
    let what = device.slot.clone().unwrap_or_else(|| format!("rule {rule}"));
    let code = device.code_text().map_or(String::new(), |(code, _)| format!(" {code}"));
    format!("{what} {} {}{code}", device.judgement, device.mode)
}

fn parts(bundle: Option<&BundleFacts>) -> String {
    let Some(bundle) = bundle else { return "no bundle".to_owned() };
    let parts: Vec<_> =
        bundle.parts.iter().map(|part| format!("{} {}", part.role, part.digest_text())).collect();
    format!("svn {}, {}", bundle.svn, parts.join(", "))
}

/// Checks the policy, and returns it.
fn policy(inputs: &Inputs<'_>, report: &mut Report) -> Option<Policy> {
    let found = inputs.log.policy_id();
    let shown = found.map_or("no policy".to_owned(), |id| id.to_string());
    let wanted: Vec<Digest> = match inputs.policy {
        Some(policy) => vec![Digest::of(gatehouse::rsi::HashAlgorithm::Sha256, &[&cbor::encode(policy)])],
        None => inputs.reference.policy.clone(),
    };
    let is_of = |wanted: &&Digest| inputs.log.policy().is_some_and(|bytes| wanted.matches(bytes));
    if wanted.is_empty() {
        report.skip("policy", format!("no reference value; the log has {shown}"));
    } else if wanted.iter().any(|wanted| is_of(&wanted)) {
        report.ok("policy", shown);
    } else {
        report.fail("policy", format!("the policy is not the one of the reference: the log has {shown}"));
    }
    let policy = inputs.log.policy().map(cbor::decode);
    let least = inputs.reference.min_policy_svn.max(inputs.min_svn);
    match (&policy, least) {
        (Some(Err(error)), _) => {
            report.fail("policy-svn", format!("the policy in the log cannot be read: {error}"));
        }
        (_, None) => report.skip("policy-svn", "no least value"),
        (None, Some(_)) => report.fail("policy-svn", "the log has no policy"),
        (Some(Ok(policy)), Some(least)) => report.judge("policy-svn", svn("policy", policy.svn, least)),
    }
    policy.and_then(Result::ok)
}

fn svn(what: &str, found: u64, least: u64) -> Result<String, String> {
    if found >= least {
        Ok(format!("{found}, at least {least} is needed"))
    } else {
        Err(format!("the {what} is too old: svn {found}, at least {least} is needed"))
    }
}

fn bundle(inputs: &Inputs<'_>, report: &mut Report) {
    let Some(bundle) = inputs.log.bundle() else { return };
    let manifest = Digest::from_bytes(&bundle.manifest);
    let shown = format!("sha256:{}", hex(&bundle.manifest));
    let reference = inputs.reference;
    if reference.bundle.is_empty() {
        report.skip("bundle", format!("no reference value; the log has {shown}"));
    } else if manifest.is_some_and(|manifest| reference.bundle.contains(&manifest)) {
        report.ok("bundle", shown);
    } else {
        report.fail("bundle", format!("the bundle is not the one of the reference: its manifest is {shown}"));
    }
    for role in reference.parts.keys() {
        let found = bundle.part(role).map_or("none".to_owned(), crate::eventlog::Part::digest_text);
        if wrong_part(inputs, role) {
            let text = format!("the {role} is not the one of the reference: the bundle event says {found}");
            report.fail("part", text);
        } else {
            report.ok("part", format!("{role} {found}"));
        }
    }
    match reference.min_bundle_svn.max(inputs.min_svn) {
        None => report.skip("bundle-svn", "no least value"),
        Some(least) => report.judge("bundle-svn", svn("bundle", bundle.svn, least)),
    }
}

fn devices(inputs: &Inputs<'_>, report: &mut Report) {
    let reference = inputs.reference;
    if reference.forbid_verdicts.is_empty() && reference.forbid_modes.is_empty() {
        return report.skip("devices", format!("nothing is forbidden; the log says {}", all(inputs)));
    }
    let devices = inputs.log.devices();
    let is_forbidden = |device: &&Device| {
        reference.forbid_verdicts.contains(&device.judgement) || reference.forbid_modes.contains(&device.mode)
    };
    let forbidden: Vec<_> = devices.iter().filter(is_forbidden).map(brief).collect();
    report.judge(
        "devices",
        if forbidden.is_empty() {
            Ok(all(inputs))
        } else {
            Err(format!("the reference forbids: {}", forbidden.join(", ")))
        },
    );
}

/// Checks that the policy's rules were kept: what is required was accepted, in a mode of its rule.
fn rules(inputs: &Inputs<'_>, policy: Option<&Policy>, report: &mut Report) {
    let devices = inputs.log.devices();
    let accepted = |device: &&Device| device.judgement == Judgement::Accepted;
    let Some(policy) = policy else {
        let text = "the log has no policy that can be read, and accepted devices";
        return match devices.iter().any(|device| accepted(&device)) {
            true => report.fail("required-rules", text),
            false => report.skip("required-rules", "no policy"),
        };
    };
    let mut wrong = Vec::new();
    for rule in &policy.rules {
        let taken = devices.iter().filter(accepted).filter(|device| device.rule.as_ref() == Some(&rule.name));
        let count = taken.count();
        let needed = usize::try_from(rule.count).unwrap_or(usize::MAX);
        let is_bridge = matches!(rule.matches, Match::Bridge(_));
        if rule.required && !is_bridge && count < needed {
            wrong.push(format!("rule {} requires {needed}, {count} were accepted", rule.name));
        }
        if count > needed {
            wrong.push(format!("rule {} takes {needed} at most, {count} were accepted", rule.name));
        }
    }
    for device in devices.iter().filter(accepted) {
        let rule = policy.rules.iter().find(|rule| Some(&rule.name) == device.rule.as_ref());
        let allows =
            rule.is_some_and(|rule| rule.modes.iter().any(|mode| mode_word(*mode) == device.mode.word()));
        if !allows {
            wrong.push(format!("{}: no rule of the policy allows this", brief(device)));
        }
    }
    if policy.audit && devices.iter().any(|device| accepted(&device)) {
        wrong.push("the policy asks for an audit, which accepts nothing".to_owned());
    }
    report.judge(
        "required-rules",
        if wrong.is_empty() {
            Ok(format!("{} rules, those that are required are filled", policy.rules.len()))
        } else {
            Err(format!("the log contradicts the policy in it: {}", wrong.join("; ")))
        },
    );
}

fn mode_word(mode: gatehouse::policy::types::Mode) -> &'static str {
    use gatehouse::policy::types::Mode;
    match mode {
        Mode::Run => "run",
        Mode::Pin => "pin",
        Mode::Shared => "shared",
        Mode::Hide => "hide",
    }
}
