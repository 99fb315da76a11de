//! `gatehouse verify --ear-key`: what an attestation result says for each outcome, and that OpenSSL verifies its signature.
mod cases;
mod logs;
mod tokens;

use base64ct::{Base64UrlUnpadded, Encoding};
use cases::{Case, text};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tokens::Signer;

/// Private keys as `openssl ecparam -genkey` and `openssl pkcs8` write them.
fn key(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/ear").join(name)
}

/// Verifies, and returns the signed result.
fn result(case: &mut Case, name: &str, key_name: &str) -> String {
    let key = key(key_name).display().to_string();
    let args = ["--ear-key", &key, "--ear", "result.jwt", "--ear-time", "1700000000"];
    case.args.extend(args.map(String::from));
    let output = case.run(name);
    let err = text(&output.stderr);
    assert!(output.status.success() || err.starts_with("gatehouse: not verified: "), "{err}");
    assert!(text(&output.stdout).contains("platform-signature"), "the report is printed all the same");
    fs::read_to_string(folder(name).join("result.jwt")).unwrap()
}

fn folder(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("verify-{name}"))
}

/// A part of a JWT as JSON: 0 is the header, 1 the claims.
fn part(jwt: &str, at: usize) -> Value {
    let part = jwt.split('.').nth(at).unwrap();
    serde_json::from_slice(&Base64UrlUnpadded::decode_vec(part).unwrap()).unwrap()
}

/// DER of one number of a signature.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap();
    let sign: &[u8] = if bytes[start] < 0x80 { &[] } else { &[0] };
    let number = [sign, &bytes[start..]].concat();
    [&[0x02, number.len() as u8], number.as_slice()].concat()
}

/// Asks OpenSSL whether a JWT is signed by the key.
fn openssl_verifies(jwt: &str, key_name: &str, name: &str) -> bool {
    let folder = folder(name);
    let (message, signature) = jwt.rsplit_once('.').unwrap();
    let signature = Base64UrlUnpadded::decode_vec(signature).unwrap();
    let (r, s) = signature.split_at(signature.len() / 2);
    let numbers = [integer(r), integer(s)].concat();
    fs::write(folder.join("message"), message).unwrap();
    fs::write(folder.join("signature"), [&[0x30, numbers.len() as u8], numbers.as_slice()].concat()).unwrap();
    let public = Command::new("openssl").args(["ec", "-pubout", "-in"]).arg(key(key_name)).output().unwrap();
    fs::write(folder.join("public.pem"), public.stdout).unwrap();
    let hash = if signature.len() == 64 { "-sha256" } else { "-sha384" };
    let mut command = Command::new("openssl");
    command.current_dir(&folder).args([
        "dgst",
        hash,
        "-verify",
        "public.pem",
        "-signature",
        "signature",
        "message",
    ]);
    command.output().unwrap().status.success()
}

#[test]
fn openssl_verifies_what_either_curve_signed_and_nothing_that_was_changed() {
    for (key, algorithm, len) in
        [("p256.pem", "ES256", 64), ("p384.pem", "ES384", 96), ("p256-sec1.pem", "ES256", 64)]
    {
        let name = format!("ear-{key}");
        let jwt = result(&mut Case::new(), &name, key);
        assert_eq!(part(&jwt, 0), json!({ "alg": algorithm, "typ": "eat+jwt" }));
        assert_eq!(Base64UrlUnpadded::decode_vec(jwt.rsplit('.').next().unwrap()).unwrap().len(), len);
        assert!(openssl_verifies(&jwt, key, &name), "{key}");
        assert!(!openssl_verifies(&jwt, if key == "p384.pem" { "p256.pem" } else { "p384.pem" }, &name));
        // A claim that is changed, in its place.
        let claims = part(&jwt, 1).to_string();
        let forged = claims.replacen("affirming", "affirmed_", 1);
        assert_ne!(claims, forged);
        let parts: Vec<_> = jwt.split('.').collect();
        let forged = Base64UrlUnpadded::encode_string(forged.as_bytes());
        assert!(!openssl_verifies(&format!("{}.{forged}.{}", parts[0], parts[2]), key, &name));
        // The same input, the same bytes.
        assert_eq!(jwt, result(&mut Case::new(), &format!("again-{name}"), key));
    }
}

#[test]
fn a_sound_realm_is_affirmed_and_each_device_is_told() {
    let jwt = result(&mut Case::new(), "ear-sound", "p256.pem");
    let ear = part(&jwt, 1);
    assert_eq!(ear["eat_profile"], "tag:ietf.org,2026:rats/ear#04");
    assert_eq!((&ear["ear_status"], &ear["iat"]), (&"affirming".into(), &1_700_000_000.into()));
    // 32 bytes of 0x5a.
    assert_eq!(ear["eat_nonce"], "WlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlpaWlo=");
    assert_eq!(ear["ear_verifier_id"]["developer"], "Gatehouse");
    let submods = ear["submods"].as_object().unwrap();
    let names: Vec<_> = submods.keys().collect();
    let devices =
        ["02.0", "03.0/00.0", "04.0", "06.0", "virtio_mmio@a000000"].map(|slot| format!("device/{slot}"));
    let mut wanted: Vec<_> = devices.iter().map(String::as_str).chain(["realm", "rule/gpu"]).collect();
    wanted.sort_unstable();
    assert_eq!(names, wanted);
    let realm = &submods["realm"];
    assert_eq!(realm["ear_status"], "affirming");
    // The components of the platform are not compared: nothing is said of the hardware.
    let vector = json!({ "instance-identity": 2, "executables": 3, "configuration": 2 });
    assert_eq!(realm["ear_trustworthiness_vector"], vector);
    assert_eq!(realm["ear_verifier_claims"]["gatehouse.failed"], json!([]));
    assert_eq!(realm["ear_verifier_claims"]["gatehouse.skipped"], json!(["rpv"]));
    let policy_id = realm["ear_appraisal_policy_ids"][0].as_str().unwrap();
    let reference = fs::read(folder("ear-sound").join("reference.json")).unwrap();
    assert_eq!(policy_id, cases::sha256(&reference));
    let disk = &submods["device/02.0"];
    assert_eq!(disk["ear_status"], "affirming");
    assert_eq!(disk["ear_trustworthiness_vector"], json!({ "hardware": 2, "configuration": 2 }));
    let claim =
        |name: &str, field: &str| submods[name]["ear_attester_claims"][format!("gatehouse.{field}")].clone();
    assert_eq!((claim("device/02.0", "rule"), claim("device/02.0", "mode")), ("disk".into(), "run".into()));
    for (name, verdict, mode) in [
        ("device/03.0/00.0", "refused", "hide"),
        ("device/04.0", "accepted", "shared"),
        ("device/06.0", "extra", "hide"),
        ("rule/gpu", "missing", "none"),
    ] {
        assert_eq!((claim(name, "verdict"), claim(name, "mode")), (verdict.into(), mode.into()), "{name}");
        assert_eq!(submods[name]["ear_status"], "none", "{name}");
        assert_eq!(submods[name]["ear_trustworthiness_vector"], json!({ "hardware": 0 }), "{name}");
    }
}

#[test]
fn what_was_not_judged_is_not_claimed() {
    let mut case = Case::new();
    case.reference = json!({ "rim": [cases::hex(&[0x71; 48])] });
    let ear = part(&result(&mut case, "ear-least", "p256.pem"), 1);
    let vector = |name: &str| ear["submods"][name]["ear_trustworthiness_vector"].clone();
    assert_eq!(vector("realm"), json!({ "instance-identity": 2, "executables": 3 }));
    assert_eq!(vector("device/02.0"), json!({ "hardware": 2 }));
}

/// Changes a realm or its reference.
type Change = dyn Fn(&mut Case);

#[test]
fn no_failed_check_leaves_anything_affirmed_that_depends_on_it() {
    let cases: [(&str, &Change, &str, i64, i64); 16] = [
        ("platform-signature", &|case| case.key = Signer::P384(0x12).pem(), "instance-identity", 99, 99),
        ("platform-lifecycle", &|case| case.spec.lifecycle = 0x4001, "hardware", 96, 0),
        ("platform-profile", &|case| case.spec.platform_profile = "tag:example", "hardware", 97, 0),
        ("realm-signature", &|case| case.spec.realm_signer = Signer::P384(0x23), "instance-identity", 99, 99),
        ("challenge", &|case| case.spec.challenge = vec![0x5b; 64], "instance-identity", 99, 99),
        ("rim", &|case| case.spec.rim[0] ^= 1, "executables", 33, 0),
        ("rpv", &|case| case.reference["rpv"] = json!(["11".repeat(64)]), "instance-identity", 97, 0),
        ("device-token", &|case| case.spec.without = vec![44257], "executables", 3, 99),
        ("log", &|case| case.spec.rems[3][0] ^= 1, "executables", 99, 99),
        ("rem1", &|case| case.reference["rem1"] = json!(["00".repeat(48)]), "configuration", 96, 0),
        ("rem2", &|case| case.reference["rem2"] = json!(["00".repeat(48)]), "executables", 3, 97),
        (
            "policy",
            &|case| case.reference["policy"] = json!([cases::sha256(b"other")]),
            "configuration",
            96,
            0,
        ),
        (
            "part",
            &|case| case.reference["parts"] = json!({ "kernel": [cases::sha256(b"other")] }),
            "executables",
            33,
            0,
        ),
        ("bundle-svn", &|case| case.reference["min-bundle-svn"] = json!(4), "executables", 96, 0),
        ("devices", &|case| case.reference["forbid-modes"] = json!(["run"]), "configuration", 96, 96),
        ("evidence", &|case| case.evidence[1].nonces[0] += 1, "executables", 3, 99),
    ];
    for (check, change, claim, realm, device) in cases {
        let mut case = Case::new();
        change(&mut case);
        let ear = part(&result(&mut case, &format!("ear-failed-{check}"), "p256.pem"), 1);
        let submods = &ear["submods"];
        assert_eq!(ear["ear_status"], "contraindicated", "{check}");
        assert_eq!(submods["realm"]["ear_status"], "contraindicated", "{check}");
        let failed = submods["realm"]["ear_verifier_claims"]["gatehouse.failed"][0].as_str().unwrap();
        assert!(failed.starts_with(&format!("{check}: ")), "{check}: {failed}");
        assert_eq!(submods["realm"]["ear_trustworthiness_vector"][claim], realm, "{check}");
        let disk = &submods["device/02.0"];
        assert_eq!(disk["ear_trustworthiness_vector"], json!({ "hardware": device }), "{check}");
        assert_ne!(disk["ear_status"], "affirming", "{check}");
    }
}

#[test]
fn every_check_of_the_report_has_its_row_in_the_document() {
    let document = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/verify.md")).unwrap();
    let (_, table) =
        document.split_once("| failed check | realm | attested device |\n|---|---|---|\n").unwrap();
    let rows: String = table.lines().take_while(|line| line.starts_with('|')).collect();
    for line in text(&Case::new().run("ear-document").stdout).lines() {
        let check = line.split_whitespace().nth(1).unwrap();
        assert!(rows.contains(&format!("`{check}`")), "{check}");
    }
}

#[test]
fn without_a_file_the_result_is_all_of_standard_output() {
    let mut case = Case::new();
    case.args.extend(["--ear-key".into(), key("p256.pem").to_str().unwrap().into()]);
    let output = case.run("ear-stdout");
    assert!(output.status.success());
    assert!(text(&output.stderr).contains("ok    rim "));
    let jwt = text(&output.stdout);
    assert!(openssl_verifies(jwt.trim_end(), "p256.pem", "ear-stdout"));
    assert!(part(&jwt, 1)["iat"].as_u64().unwrap() > 1_700_000_000, "the time of now");
}

#[test]
fn a_file_that_is_no_signing_key_is_told_and_nothing_is_written() {
    for (file, why) in [
        ("key.pem".to_owned(), "key.pem: this is a public key, which signs nothing"),
        ("token".to_owned(), "token: this is a CCA token, expected a private key in PEM"),
        ("missing".to_owned(), "missing: No such file"),
        (key("encrypted.pem").display().to_string(), "the key is encrypted"),
        (key("p521.pem").display().to_string(), "not a private key on P-256 or P-384"),
    ] {
        let mut case = Case::new();
        case.args.extend(["--ear-key", &file, "--ear", "result.jwt"].map(String::from));
        let output = case.run("ear-key");
        let err = text(&output.stderr);
        assert!(output.status.code() == Some(1) && err.contains(why), "{why}: {err}");
        assert!(!folder("ear-key").join("result.jwt").exists());
    }
    let mut case = Case::new();
    case.args =
        ["--challenge", "5a5a5a", "--ear-key", key("p256.pem").to_str().unwrap()].map(String::from).into();
    assert!(
        text(&case.run("ear-nonce").stderr)
            .contains("--challenge: the nonce of an attestation result has 8 bytes")
    );
}

proptest! {
    #[test]
    fn a_damaged_key_is_refused_or_read_and_never_more(at in 0usize..400, byte: u8, cut in 0usize..400) {
        use gatehouse_cli::jwt::SigningKey;
        for name in ["p256.pem", "p384.pem", "p256-sec1.pem"] {
            let mut bytes = fs::read(key(name)).unwrap();
            let _ = SigningKey::from_pem(&String::from_utf8_lossy(&bytes[..cut.min(bytes.len())]));
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = SigningKey::from_pem(&String::from_utf8_lossy(&bytes));
        }
    }
}
