//! `gatehouse verify`: a sound realm holds; for each check one realm in which it fails, alone where it can, with its reason.
mod cases;
mod logs;
mod tokens;

use cases::{Case, hex, sha256, text};
use logs::{C, Hash, Session, rems, sample, sessions, spec_rems};
use serde_json::{Value, json};
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tokens::Signer;

#[test]
fn a_sound_realm_holds_and_every_check_is_listed_in_its_order() {
    let output = Case::new().run("sound");
    let out = text(&output.stdout);
    assert!(output.status.success(), "{out}{}", text(&output.stderr));
    let lines: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().take(2).collect()).collect();
    let ok = |name| vec!["ok", name];
    assert_eq!(
        lines,
        [
            ok("platform-signature"),
            ok("platform-profile"),
            ok("platform-lifecycle"),
            ok("key-binding"),
            ok("realm-signature"),
            ok("realm-profile"),
            ok("challenge"),
            ok("rim"),
            vec!["skip", "rpv"],
            ok("device-token"),
            ok("hash"),
            ok("log"),
            ok("separators"),
            ok("rem1"),
            ok("rem2"),
            ok("rem3"),
            ok("policy"),
            ok("policy-svn"),
            ok("bundle"),
            ok("part"),
            ok("bundle-svn"),
            ok("devices"),
            ok("required-rules"),
            ok("evidence"),
            ok("device-digests"),
        ]
    );
    let mut case = Case::new();
    case.args.push("--json".into());
    let json: Value = serde_json::from_slice(&case.run("sound-json").stdout).unwrap();
    assert_eq!((&json["holds"], &json["checks"][7]["check"]), (&true.into(), &"rim".into()));
    assert_eq!(json["devices"][3]["verdict"], "refused");
}

#[test]
fn either_formula_of_the_rmm_is_found() {
    let mut case = Case::new();
    let rems = spec_rems(Hash::Sha384, &case.events);
    for (name, rem) in ["rem1", "rem2", "rem3"].iter().zip(&rems) {
        case.reference[*name] = json!([hex(rem)]);
    }
    case.spec.rems = rems.into();
    let out = text(&case.run("spec").stdout);
    assert!(out.contains("rule spec") && !out.contains("FAIL"), "{out}");
    case.args.extend(["--rem-rule".into(), "tf-rmm".into()]);
    case.fails(&["log"], "REM 1, REM 2, REM 3, REM 4 differ under tf-rmm");
}

#[test]
fn what_is_wrong_with_the_token_is_told() {
    let with = |change: &dyn Fn(&mut Case)| {
        let mut case = Case::new();
        change(&mut case);
        case
    };
    with(&|case| case.key = Signer::P384(0x12).pem())
        .fails(&["platform-signature"], "the platform token is not of the platform key");
    with(&|case| case.key = Signer::P256(0x12).pem())
        .fails(&["platform-signature"], "the signature is ES384, the key is on another curve");
    with(&|case| case.spec.platform_profile = "tag:example")
        .fails(&["platform-profile"], "not known: tag:example");
    with(&|case| case.spec.lifecycle = 0x4001)
        .fails(&["platform-lifecycle"], "the platform is in lifecycle debug (0x4001); allowed: secured");
    with(&|case| case.spec.realm_signer = Signer::P384(0x23))
        .fails(&["realm-signature"], "the realm token: ");
    with(&|case| case.spec.realm_profile = "tag:example").fails(&["realm-profile"], "not known: tag:example");
    with(&|case| case.spec.challenge = vec![0x5a; 64])
        .fails(&["challenge"], "made for another challenge, 5a5a");
    with(&|case| case.spec.challenge = vec![0; 64]).fails(&["challenge"], "made for another challenge, 0000");
    with(&|case| case.spec.rim[0] ^= 1).fails(&["rim"], "RIM is 7071");
    with(&|case| case.reference["rpv"] = json!(["11".repeat(64)]))
        .fails(&["rpv"], "no reference value is 0000");
    with(&|case| case.spec.without = vec![44257]).fails(&["device-token"], "do not belong together");
    with(&|case| case.reference["hash"] = json!("sha256")).fails(&["hash"], "the log is in sha384");
    let allowed = with(&|case| {
        case.spec.lifecycle = 0x4001;
        case.args.extend(["--allow-lifecycle".into(), "secured,debug".into()]);
    });
    assert!(allowed.run("allowed").status.success());
}

#[test]
fn a_realm_token_of_another_platform_is_found() {
    let mut case = Case::new();
    case.spec.realm_key = Signer::P384(0x23);
    // The platform of `realm_key`, the realm token of another key.
    let other = case.spec.bytes();
    case.spec.realm_key = Signer::P384(0x22);
    let own = case.spec.bytes();
    let realm = |bytes: &[u8]| {
        let start = bytes.windows(3).position(|w| w == [0x19, 0xac, 0xd1]).unwrap();
        let end = bytes.windows(3).position(|w| w == [0x19, 0xac, 0xe2]).unwrap();
        start..end
    };
    let mixed = [&other[..realm(&other).start], &own[realm(&own)], &other[realm(&other).end..]].concat();
    let output = case.run("mixed");
    assert!(output.status.success());
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("verify-mixed");
    fs::write(path.join("mixed"), mixed).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    command.current_dir(path).args([
        "verify",
        "--token",
        "mixed",
        "--log",
        "log",
        "--platform-key",
        "key.pem",
    ]);
    let output = command.args(["--reference", "reference.json"]).args(&case.args).output().unwrap();
    let out = text(&output.stdout);
    assert_eq!(out.matches("FAIL").count(), 1, "{out}");
    assert!(out.contains("FAIL  key-binding           the realm token is not of this platform"), "{out}");
}

#[test]
fn a_log_of_another_boot_is_found() {
    let mut case = Case::new();
    case.spec.rems = rems(Hash::Sha384, &[]).into();
    case.fails(&["log", "rem1", "rem2", "rem3"], "its events are only claimed");
    let mut case = Case::new();
    case.spec.rems[3][0] ^= 1;
    case.fails(&["log"], "REM 4 differ under tf-rmm");
}

#[test]
fn another_kernel_is_told_as_the_kernel() {
    let mut events = sample();
    events[20] = logs::bundle(3, b"another kernel");
    let why = format!("cmdline {}", sha256(&[logs::COMMAND_LINE, &[0]].concat()));
    let case = Case::with_events(events);
    case.fails(&["rem3", "part"], "the kernel is not the one of the reference: REM 3 is ");
    case.fails(&["rem3", "part"], &why);
    let why = format!("the bundle event says {}", sha256(b"another kernel"));
    case.fails(&["rem3", "part"], &why);
}

#[test]
fn another_policy_and_an_older_one_are_told() {
    let mut case = Case::new();
    case.reference["policy"] = json!([sha256(b"other")]);
    case.fails(&["policy"], "the policy is not the one of the reference: the log has sha256:");
    let mut case = Case::new();
    case.args.extend(["--policy".into(), "other.toml".into()]);
    case.fails(&["policy"], "the policy is not the one of the reference");
    case.args[3] = "policy.toml".into();
    assert!(case.run("policy").status.success());
    let mut case = Case::new();
    case.args.extend(["--min-svn".into(), "8".into()]);
    case.fails(&["policy-svn", "bundle-svn"], "the policy is too old: svn 7, at least 8 is needed");
    let mut case = Case::new();
    case.reference["min-bundle-svn"] = json!(4);
    case.fails(&["bundle-svn"], "the bundle is too old: svn 3, at least 4 is needed");
    let mut case = Case::new();
    case.reference["bundle"] = json!([sha256(b"other")]);
    case.fails(&["bundle"], "the bundle is not the one of the reference: its manifest is sha256:");
}

#[test]
fn a_device_that_the_reference_forbids_is_named() {
    let mut case = Case::new();
    case.reference["forbid-verdicts"] = json!(["refused", "missing"]);
    case.fails(
        &["devices"],
        "the reference forbids: 03.0/00.0 refused hide GH-4124, rule gpu missing none GH-3002",
    );
    let mut case = Case::new();
    case.reference["forbid-modes"] = json!(["shared"]);
    case.fails(
        &["devices"],
        "the reference forbids: 04.0 accepted shared, virtio_mmio@a000000 accepted shared",
    );
}

#[test]
fn a_log_that_breaks_its_own_policy_is_found() {
    let refused = logs::outcome("02.0", "refused", "hide", "unlocked", 7004);
    let mut events = sample();
    events[21] = refused;
    let case = Case::with_events(events);
    case.fails(&["rem2", "required-rules"], "rule disk requires 1, 0 were accepted");
    let mut events = sample();
    events[13] = logs::verdict("04.0", "net", "accepted", "pin", 0);
    events[22] = logs::outcome("04.0", "accepted", "pin", "unlocked", 0);
    // The order wants a session of what is pinned.
    let session = Session { slot: "04.0", ..Session::new("04.0", 0x20, logs::NET, 0x70) };
    events.insert(13, session.event());
    let mut case = Case::with_events(events);
    case.reference["forbid-modes"] = json!([]);
    case.evidence.insert(1, session);
    // It was unlocked again: the device token need not have it.
    case.fails(&["rem2", "required-rules"], "04.0 accepted pin: no rule of the policy allows this");
}

#[test]
fn evidence_of_another_boot_or_changed_evidence_is_found() {
    let mut case = Case::new();
    case.evidence.pop();
    case.fails(
        &["evidence"],
        "the evidence region is not that of the log: it has 02.0, the log 02.0, 03.0/00.0",
    );
    let mut case = Case::new();
    case.evidence[1].nonces[0] += 1;
    case.fails(&["evidence"], "other digests or nonces for 03.0/00.0 than the log");
    let mut case = Case::new();
    case.evidence[1].ids[0] += 1;
    case.fails(&["evidence"], "the evidence region has other ids for 03.0/00.0 than the log");
    // An object that is edited in the file, its digest left as it was.
    let case = Case::new();
    case.run("edited");
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("verify-edited");
    let mut bytes = fs::read(path.join("evidence")).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(path.join("edited"), bytes).unwrap();
    let out = text(&case.verify(&path, "edited").stdout);
    assert!(out.contains("the report of 03.0/00.0 does not hash to the digest of its session"), "{out}");
}

#[test]
fn a_device_token_with_other_devices_than_the_log_is_found() {
    let mut case = Case::new();
    let digest = vec![7; 48];
    case.spec.devices = Some(tokens::devices(&[[digest.clone(), digest.clone(), digest]]));
    case.fails(&["device-digests"], "the device token has no device with the digests of 02.0");
    let digests = sessions().map(|session| {
        let [vca, chain, _, measurements, _] = session.digests();
        [chain, measurements, vca]
    });
    for at in 0..3 {
        let mut digests = digests.clone();
        digests[0][at][0] ^= 1;
        case.spec.devices = Some(tokens::devices(&digests));
        case.fails(&["device-digests"], "the device token has no device with the digests of 02.0");
        digests[0][at][0] ^= 1;
        digests[1][at][0] ^= 1;
        case.spec.devices = Some(tokens::devices(&digests));
        case.fails(&["device-digests"], "the device token has 1 devices that the log has no session of");
    }
    let more = [digests[0].clone(), digests[1].clone(), digests[0].clone()];
    case.spec.devices = Some(tokens::devices(&more));
    case.fails(&["device-digests"], "the device token has 1 devices that the log has no session of");
    case.spec.devices = Some(C::M(vec![]).bytes());
    case.fails(&["device-digests"], "device token: claim 44259 (devices) is missing or malformed");
}

#[test]
fn only_the_rim_has_to_be_in_the_reference_and_what_is_not_is_skipped() {
    let mut case = Case::new();
    case.reference = json!({ "rim": [hex(&[0x71; 48])], "platform-keys": [case.key] });
    case.key = Signer::P384(0x99).pem();
    let output = case.run("least");
    let out = text(&output.stdout);
    assert!(output.status.success(), "{out}");
    assert_eq!(out.matches("skip  ").count(), 9, "{out}");
}

#[test]
fn a_reference_that_is_none_is_told_with_its_field() {
    for (reference, why) in [
        (json!({}), "field \"rim\": at least one measurement"),
        (json!({ "rim": "ab" }), "field \"rim\": an array of measurements"),
        (json!({ "rim": ["abcd"] }), "field \"rim\": an array of measurements"),
        (json!({ "rims": [] }), "field \"rims\" is not known"),
        (json!({ "policy": ["sha256:00"] }), "field \"policy\": an array of digests"),
        (json!({ "platform-keys": ["x"] }), "field \"platform-keys\": an array of public keys in PEM"),
        (json!({ "min-policy-svn": -1 }), "field \"min-policy-svn\": a number"),
        (json!({ "forbid-modes": ["none of these"] }), "field \"forbid-modes\": an array of run, pin"),
        (json!([]), "this is unknown data, expected reference values in JSON"),
    ] {
        let case = Case { reference, ..Case::new() };
        let output = case.run("reference");
        let err = text(&output.stderr);
        assert!(output.status.code() == Some(1) && err.contains(why), "{why}: {err}");
    }
}

#[test]
fn every_field_of_the_document_is_known_and_the_other_way_round() {
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/verify.md")).unwrap();
    let (_, table) = document.split_once("| field | content |\n|---|---|\n").unwrap();
    let fields: Vec<_> = table
        .lines()
        .take_while(|line| line.starts_with("| `"))
        .map(|line| line.split('`').nth(1).unwrap())
        .collect();
    assert_eq!(fields.len(), 14);
    for field in fields {
        let error = gatehouse_cli::verify::Reference::parse(format!("{{\"{field}\": null}}").as_bytes());
        assert!(!error.unwrap_err().to_string().contains("not known"), "{field}");
    }
    let case = Case::new();
    for line in text(&case.run("document").stdout).lines() {
        let check = line.split_whitespace().nth(1).unwrap();
        assert!(document.contains(&format!("| `{check}` |")), "{check}");
    }
}
