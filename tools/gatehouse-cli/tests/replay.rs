//! `gatehouse replay`: both formulas, tokens and single measurements, the exit status, and a verdict for each device.
mod logs;
mod tokens;

use logs::{Hash, Raw, log, rems, sample, spec_rems, verdict};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use tokens::Spec;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A directory of its own with these files.
fn directory(name: &str, files: &[(&str, Vec<u8>)]) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    fs::create_dir_all(&path).unwrap();
    for (name, bytes) in files {
        fs::write(path.join(name), bytes).unwrap();
    }
    path
}

fn replay(directory: &PathBuf, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
    command.current_dir(directory).arg("replay").args(args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.into()).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn the_formula_that_fits_the_token_is_found() {
    for hash in [Hash::Sha256, Hash::Sha384, Hash::Sha512] {
        let mut events = sample();
        events[24] = logs::tagged(7, 16, vec![logs::C::B(hash.of(b"tree"))]);
        for (rule, rems) in [("tf-rmm", rems(hash, &events)), ("spec", spec_rems(hash, &events))] {
            let files = [("log", log(hash, &events)), ("token", Spec::new(rems.clone()).bytes())];
            let directory = directory(&format!("fits-{hash:?}-{rule}"), &files);
            let output = replay(&directory, &["log", "--token", "token", "--json"]);
            assert!(output.status.success(), "{output:?}");
            let json = json(&output);
            assert_eq!(json["fits"], true);
            let computed = json["computed"].as_array().unwrap();
            assert_eq!(computed.len(), 1);
            // With 64-byte digests both formulas are one.
            let rule = if hash == Hash::Sha512 { "tf-rmm" } else { rule };
            assert_eq!(computed[0]["rule"], rule);
            for (shown, rem) in computed[0]["rems"].as_array().unwrap().iter().zip(&rems) {
                assert_eq!((&shown["value"], &shown["equal"]), (&hex(rem).into(), &true.into()));
            }
        }
    }
}

#[test]
fn a_log_of_another_boot_ends_with_status_one_and_names_the_measurements() {
    let events = sample();
    let mut other = sample();
    other[17] = verdict("03.0/00.0", "nic", "refused", "hide", 4125);
    let token = Spec::new(rems(Hash::Sha384, &other)).bytes();
    let directory = directory("other", &[("log", log(Hash::Sha384, &events)), ("token", token)]);
    let output = replay(&directory, &["log", "--token", "token", "--rem-rule", "tf-rmm"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        text(&output.stderr),
        "gatehouse: the log is not that of this realm: REM 2 differ under tf-rmm\n"
    );
    let out = text(&output.stdout);
    assert_eq!((out.matches("  equal\n").count(), out.matches("NOT EQUAL\n").count()), (3, 1), "{out}");
    assert!(out.contains(&hex(&rems(Hash::Sha384, &other)[1])), "{out}");
    let output = replay(&directory, &["log", "--token", "token"]);
    assert!(
        text(&output.stderr)
            .contains("REM 2 differ under tf-rmm; REM 1, REM 2, REM 3, REM 4 differ under spec")
    );
}

#[test]
fn measurements_can_be_given_one_by_one_as_rsi_returns_them() {
    let events = sample();
    let rems = rems(Hash::Sha384, &events);
    let directory = directory("single", &[("log", log(Hash::Sha384, &events))]);
    let padded = format!("{}{}", hex(&rems[0]), "0".repeat(32));
    let output = replay(&directory, &["log", "--rem1", &padded, "--rem3", &hex(&rems[2])]);
    assert!(output.status.success(), "{output:?}");
    let out = text(&output.stdout);
    assert_eq!(out.matches("  equal\n").count(), 2, "{out}");
    assert!(out.contains("the others are only claimed"), "{out}");
    for wrong in [hex(&rems[1]), hex(&rems[0][..47]), format!("{}{}", hex(&rems[0]), "01".repeat(16))] {
        let output = replay(&directory, &["log", "--rem1", &wrong]);
        assert_eq!(output.status.code(), Some(1), "{wrong}");
    }
    let output = replay(&directory, &["log", "--rem1", "abc"]);
    assert!(!output.status.success() && text(&output.stderr).contains("hexadecimal digits"), "{output:?}");
}

#[test]
fn without_a_realm_both_formulas_are_shown_and_nothing_is_claimed() {
    let events = sample();
    let directory = directory("alone", &[("log", log(Hash::Sha384, &events))]);
    let output = replay(&directory, &["log"]);
    assert!(output.status.success(), "{output:?}");
    let out = text(&output.stdout);
    assert!(out.contains("Nothing says yet whose log it is"), "{out}");
    for (number, (a, b)) in
        (1..).zip(rems(Hash::Sha384, &events).iter().zip(&spec_rems(Hash::Sha384, &events)))
    {
        assert!(out.contains(&format!("REM {number}  tf-rmm  {}\n", hex(a))), "{out}");
        assert!(out.contains(&format!("REM {number}  spec    {}\n", hex(b))), "{out}");
    }
}

#[test]
fn the_summary_tells_verdict_and_mode_of_each_device_the_missing_and_extra_ones_too() {
    let events = sample();
    let token = Spec::new(rems(Hash::Sha384, &events)).bytes();
    let directory = directory("summary", &[("log", log(Hash::Sha384, &events)), ("token", token)]);
    let output = replay(&directory, &["log", "--token", "token"]);
    let out = text(&output.stdout);
    let rows: Vec<Vec<&str>> = out
        .lines()
        .skip_while(|line| !line.starts_with("slot "))
        .skip(1)
        .take(6)
        .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
        .collect();
    assert_eq!(
        rows,
        [
            vec!["02.0", "1b36:0010 1af4:1100 010802 02", "disk", "accepted", "run", "run", "-"],
            vec!["04.0", "1af4:1041 1af4:1100 020000 01", "net", "accepted", "shared", "unlocked", "-"],
            vec!["06.0", "1234:11e8 1af4:1100 ff0000 10", "-", "extra", "hide", "-", "-"],
            vec![
                "03.0/00.0",
                "8086:10c9 8086:a03c 020000 01",
                "nic",
                "refused",
                "hide",
                "-",
                "GH-4124: the measurements are not signed by the leaf key",
            ],
            vec!["virtio_mmio@a000000", "virtio type 3", "console", "accepted", "shared", "unlocked", "-"],
            vec![
                "-",
                "-",
                "gpu",
                "missing",
                "none",
                "-",
                "GH-3002: a rule of the policy wants more functions than there are",
            ],
        ]
    );
    for code in ["GH-4124", "GH-3002"] {
        let explained = gatehouse_cli::policy::explain::code(code).unwrap();
        assert!(out.contains(&explained), "{out}");
    }
    let json = json(&replay(&directory, &["log", "--token", "token", "--json"]));
    assert_eq!(json["devices"][3]["verdict"], "refused");
    assert_eq!(json["devices"][3]["code"], "GH-4124");
    assert_eq!(json["devices"][5]["rule"], "gpu");
    assert_eq!(json["events"].as_array().unwrap().len(), events.len());
}

#[test]
fn an_outcome_overrules_the_verdict() {
    let mut events = sample();
    events[21] = logs::outcome("02.0", "refused", "hide", "unlocked", 7004);
    let directory = directory("outcome", &[("log", log(Hash::Sha384, &events))]);
    let json = json(&replay(&directory, &["log", "--json"]));
    let disk = &json["devices"][0];
    assert_eq!(
        (&disk["verdict"], &disk["mode"], &disk["code"]),
        (&"refused".into(), &"hide".into(), &"GH-7004".into())
    );
}

#[test]
fn control_characters_of_a_log_do_not_reach_the_terminal() {
    let mut events = sample();
    events[18] = verdict("virtio_mmio@a000000", "con\u{1b}[2Jsole\n", "accepted", "shared", 0);
    let directory = directory("control", &[("log", log(Hash::Sha384, &events))]);
    let output = replay(&directory, &["log"]);
    assert!(output.status.success() && !output.stdout.contains(&0x1b), "{output:?}");
}

#[test]
fn a_file_of_another_kind_is_named() {
    let events: Vec<Raw> = sample();
    let good = log(Hash::Sha384, &events);
    let mut broken = good.clone();
    *broken.last_mut().unwrap() ^= 1;
    let token = Spec::new(rems(Hash::Sha384, &events)).bytes();
    let files = [("log", good), ("gz", vec![0x1f, 0x8b, 8, 0]), ("broken", broken), ("token", token)];
    let directory = directory("kinds", &files);
    for (args, wanted) in [
        (vec!["gz"], "gz: this is a gzip-compressed file, expected an event log of the firmware"),
        (vec!["token"], "token: this is a CCA token, expected an event log of the firmware"),
        (vec!["log", "--token", "log"], "log: this is a TCG event log, expected a CCA attestation token"),
        (vec!["broken"], "broken: event 29: the digest is not the hash of the event data"),
        (vec!["absent"], "absent: No such file"),
    ] {
        let output = replay(&directory, &args);
        let err = text(&output.stderr);
        assert!(output.status.code() == Some(1) && err.contains(wanted), "{wanted}: {err}");
    }
}

#[test]
fn the_help_has_an_example() {
    let output = replay(&directory("help", &[]), &["--help"]);
    assert!(text(&output.stdout).contains("gatehouse replay event.log --token token.cbor"));
}
