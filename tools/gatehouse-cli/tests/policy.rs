//! Policies from text to encoding and back; the examples of docs/policy.md; messages.
#[path = "../../../tests/common/policies.rs"]
mod policies;

use gatehouse::policy::cbor::{decode, encode};
use gatehouse::policy::types::{AnchorKey, EvidenceClass, Mode, Policy, Rest};
use gatehouse_cli::policy::explain;
use gatehouse_cli::policy::toml::{TomlError, parse, print};
use policies::policies;
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Names and texts of the examples.
fn examples() -> Vec<(String, String)> {
    let entries = fs::read_dir(root().join("tests/data/policies")).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
    files.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

fn example(name: &str) -> Policy {
    let (_, text) = examples().into_iter().find(|(file, _)| file == name).unwrap();
    parse(&text, Path::new("")).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_is_printed_reads_as_the_same_policy(policy in policies()) {
        let text = print(&policy);
        prop_assert_eq!(parse(&text, Path::new("")), Ok(policy), "{}", text);
    }

    #[test]
    fn every_policy_and_rule_is_explained(policy in policies()) {
        let text = explain::policy(&policy);
        for rule in &policy.rules {
            prop_assert!(text.contains(&explain::rule(rule)));
        }
    }

    #[test]
    fn any_text_is_a_policy_or_an_error(text in "\\PC{0,80}") {
        let _ = parse(&text, Path::new(""));
    }
}

#[test]
fn the_examples_survive_every_form() {
    let examples = examples();
    assert_eq!(examples.len(), 5);
    for (name, text) in examples {
        let policy = parse(&text, Path::new("")).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(decode(&encode(&policy)).as_ref(), Ok(&policy), "{name}");
        assert_eq!(parse(&print(&policy), Path::new("")).as_ref(), Ok(&policy), "{name}");
    }
}

#[test]
fn the_examples_say_what_their_titles_promise() {
    let gpus = example("gpu-server.toml");
    let rule = &gpus.rules[1];
    assert_eq!((rule.count, rule.required, gpus.rest), (8, true, Rest::Stop));
    assert_eq!(rule.modes, [Mode::Run, Mode::Pin]);
    assert!(!example("nvme-only.toml").forwards_nonce);
    assert!(example("audit.toml").audit);
    let legacy = example("legacy-nic.toml");
    assert!(legacy.rules[1..].iter().all(|rule| rule.modes == [Mode::Shared] && !rule.required));
    let coherent = example("coherent-device.toml");
    assert_eq!(coherent.rules[0].evidence, EvidenceClass::Platform);
    assert!(coherent.rules[0].report.quirks.high_ids);
}

#[test]
fn the_document_shows_the_examples_as_they_are() {
    let document = fs::read_to_string(root().join("docs/policy.md")).unwrap();
    let blocks: Vec<_> =
        document.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    assert_eq!(blocks.len(), 5);
    for (name, text) in examples() {
        assert!(document.contains(&format!("`{name}`\n\n```toml\n{text}```\n")), "{name}");
    }
}

#[test]
fn the_document_names_every_word() {
    use gatehouse_cli::policy::toml::words;
    let document = fs::read_to_string(root().join("docs/policy.md")).unwrap();
    let mut all: Vec<&str> = Vec::new();
    all.extend(words::KINDS.iter().map(|(word, _)| word));
    all.extend(words::MODES.iter().map(|(word, _)| word));
    all.extend(words::ON_FAILURE.iter().map(|(word, _)| word));
    all.extend(words::EVIDENCE.iter().map(|(word, _)| word));
    all.extend(words::VIRTIO.iter().map(|(word, _)| word));
    all.extend(words::TYPES.iter().map(|(word, _)| word));
    all.extend(words::REPORT.iter().map(|(word, _)| word));
    all.extend(words::QUIRKS.iter().map(|(word, _)| word));
    for word in all {
        assert!(document.contains(&format!("`{word}`")), "{word}");
    }
}

/// The least that a policy with an anchor says; a rule follows in line 7.
const HEAD: &str = "version = 1\n[[anchor]]\nname = \"root\"\n\
    certificate = \"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\"\n\n\n";

fn error(text: &str) -> (usize, String, String) {
    let TomlError { line, field, what } = parse(text, Path::new("")).unwrap_err();
    (line, field, what)
}

/// Checks line, field and the start of the message for a rule in line 7 with these lines.
#[track_caller]
fn refused(rule: &str, line: usize, field: &str, what: &str) {
    let found = error(&format!("{HEAD}[[rule]]\n{rule}\n"));
    assert!((found.0, &*found.1) == (line, field) && found.2.starts_with(what), "{found:?}");
}

#[test]
fn messages_about_the_text_name_line_and_field() {
    let refused = |text: &str, line, field: &str, what: &str| {
        let found = error(text);
        assert!((found.0, &*found.1) == (line, field) && found.2.starts_with(what), "{found:?}");
    };
    refused("", 1, "version", "is missing");
    refused("version = 2", 1, "version", "this tool knows version 1");
    refused("version = 1\n\nsvn = ", 3, "", "");
    refused("version = 1\nsvn = -1", 2, "svn", "a number from 0");
    refused("version = 1\n\nsv = 1", 3, "sv", "no such field; there are version, svn,");
    refused("version = 1\nfloor = \"2026-01-01\"", 2, "floor", "a date is needed, without quotes");
    refused("version = 1\nfloor = 2026-01-01T00:00:00", 2, "floor", "a date, or date and time");
    refused("version = 1\nfloor = 1949-12-31", 2, "floor", "not between the years");
    refused("version = 1\nrest = \"shared\"", 2, "rest", "\"shared\" is none of \"hide\", \"stop\"");
    refused("version = 1\n[rmm]\nforwards-nonce = 1", 3, "rmm.forwards-nonce", "true or false");
    refused("version = 1\n[rmm]\nnonce = true", 3, "rmm.nonce", "no such field");
    refused("version = 1\n[deny]\nserials = [\n\"01\",\n\"x1\"]", 5, "deny.serials", "\"x1\" is not pairs");
    refused("version = 1\n[deny]\nserials = [\"01\", \"00:01\"]", 3, "serials", "an entry stands twice");
    refused(
        "version = 1\n[[anchor]]\nname = \"a\"",
        2,
        "anchor.certificate",
        "one of certificate, public-key",
    );
    refused(
        "version = 1\n[[anchor]]\nname = \"a\"\npublic-key = \"sha1:00\"",
        4,
        "anchor.public-key",
        "\"sha1:00\": not sha256:",
    );
    refused("version = 1\nrule = 3", 2, "rule", "a list is needed, not integer");
}

#[test]
fn messages_about_a_rule_name_line_and_field() {
    refused("slot = \"02.0\"", 7, "rule.name", "is missing");
    refused("name = \"a\"", 7, "rule.measurement", "say what may run on the device");
    refused("name = \"a\"\nslot = \"2.0\"", 9, "rule.slot", "\"2.0\": hop 0 is not DD.F");
    refused(
        "name = \"a\"\nslot = \"02.0\"\nslots = [\"03.0\"]",
        10,
        "rule.slots",
        "slot stands there already",
    );
    refused("name = \"a\"\nvendor = 0x10000", 9, "rule.vendor", "a number from 0 to 65535 (0xffff)");
    refused("name = \"a\"\nclass = \"1\"", 9, "rule.class", "\"1\" is not pairs");
    refused("name = \"a\"\nclass = \"01020304\"", 9, "rule.class", "two, four or six");
    refused("name = \"a\"\nkind = \"gpu\"", 9, "rule.kind", "\"gpu\" is none of \"device\", \"bridge\"");
    refused("name = \"a\"\nvirtio = \"block\"\nmodes = [\"shared\"]", 9, "rule.virtio", "no such field");
    refused("name = \"a\"\nkind = \"platform\"", 7, "rule.compatible", "is missing");
    refused(
        "name = \"a\"\nkind = \"virtio-pci\"\nvirtio = \"disk\"",
        10,
        "rule.virtio",
        "\"disk\" is none of",
    );
    refused(
        "name = \"a\"\nmeasurements = \"any\"\nmodes = [\n\"run\",\n\"walk\"]",
        12,
        "rule.modes",
        "\"walk\" is none of",
    );
    refused("name = \"a\"\nmeasurements = \"some\"", 9, "rule.measurements", "\"some\" is none of \"any\"");
    refused(
        "name = \"a\"\nmeasurements = \"any\"\nquirks = [\"odd\"]",
        10,
        "rule.quirks",
        "\"odd\" is none of",
    );
    refused(
        "name = \"a\"\nmeasurements = \"any\"\nquirks = [\"high-ids\", \"high-ids\"]",
        10,
        "rule.quirks",
        "\"high-ids\" stands twice",
    );
    refused(
        "name = \"a\"\nmeasurements = \"any\"\nreport = { ats = true }",
        10,
        "rule.report.ats",
        "no such field",
    );
    let block = "name = \"a\"\n[[rule.measurement]]\nindex = 1";
    refused(block, 9, "rule.measurement.digests", "one of digests, values and min-svn");
    refused(&format!("{block}\ntype = \"firmware\""), 11, "rule.measurement.type", "\"firmware\" is none of");
    refused(&format!("{block}\nvalues = [\"0\"]"), 11, "rule.measurement.values", "\"0\" is not pairs");
    let any = "measurements = \"any\"\n";
    refused(&format!("{any}{block}\nmin-svn = 1"), 8, "rule.measurements", "there are tables");
}

#[test]
fn contradictions_have_the_line_of_the_field_or_of_the_rule() {
    let any = "name = \"a\"\nmeasurements = \"any\"";
    refused(&format!("{any}\ncount = 0"), 10, "rule.count", "not between 1 and 256");
    refused(&format!("{any}\non-failure = \"hide\""), 10, "rule.on-failure", "what is required");
    refused(&format!("{any}\nevidence = \"platform\""), 7, "rule.slots", "evidence of the platform");
    refused(
        &format!("{any}\nevidence = \"unauthenticated\""),
        10,
        "rule.evidence",
        "unauthenticated is never run",
    );
    refused(&format!("{any}\n[[rule]]\n\n{any}"), 12, "rule.name", "two rules have this name");
    let block = "[[rule.measurement]]\nmin-svn = 1";
    refused(&format!("name = \"a\"\n{block}\nindex = 0"), 11, "rule.index", "not between 1 and 254");
}

/// A folder of this test's own, empty.
fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn an_anchor_from_a_file_is_the_digest_of_the_certificate() {
    let folder = folder("anchor-files");
    // SEQUENCE { OCTET STRING abc }: what a certificate is, the firmware looks at.
    let der = b"\x30\x05\x04\x03abc";
    let pem = "text\n-----BEGIN CERTIFICATE-----\nMAUE\nA2FiYw==\n-----END CERTIFICATE-----\n";
    fs::write(folder.join("a.der"), der).unwrap();
    fs::write(folder.join("a.pem"), pem).unwrap();
    fs::write(folder.join("two.pem"), pem.repeat(2)).unwrap();
    fs::write(folder.join("cut.der"), &der[..6]).unwrap();
    let read = |file: &str| {
        let text = format!("version = 1\n[[anchor]]\nname = \"a\"\nfile = \"{file}\"\n");
        parse(&text, &folder).map(|policy| policy.anchors[0].key).map_err(|error| (error.line, error.what))
    };
    let digest = gatehouse::digest::Digest::of(gatehouse::rsi::HashAlgorithm::Sha384, &[der]);
    assert_eq!(read("a.der"), Ok(AnchorKey::Certificate(digest)));
    assert_eq!(read("a.pem"), Ok(AnchorKey::Certificate(digest)));
    assert_eq!(read("two.pem"), Err((4, "two.pem: more than one certificate".into())));
    assert_eq!(read("cut.der"), Err((4, "cut.der: not one certificate, in PEM or DER".into())));
    assert!(read("none.der").unwrap_err().1.starts_with("none.der: "));
}

fn gatehouse(arguments: &[&str]) -> (bool, String) {
    let Output { status, stdout, stderr } =
        Command::new(env!("CARGO_BIN_EXE_gatehouse")).arg("policy").args(arguments).output().unwrap();
    (status.success(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}

#[test]
fn the_command_checks_compiles_and_explains_both_forms() {
    let folder = folder("commands");
    let toml = root().join("tests/data/policies/legacy-nic.toml").display().to_string();
    let cbor = folder.join("policy.cbor").display().to_string();
    assert_eq!(gatehouse(&["check", &toml]), (true, format!("{toml}: svn 2, anchors: 1, rules: 4\n")));
    assert_eq!(gatehouse(&["compile", &toml, "-o", &cbor]), (true, String::new()));
    assert_eq!(fs::read(&cbor).unwrap(), encode(&example("legacy-nic.toml")));
    assert_eq!(gatehouse(&["check", &cbor]), (true, format!("{cbor}: svn 2, anchors: 1, rules: 4\n")));
    let (fine, text) = gatehouse(&["explain", &toml]);
    assert!(
        fine && text.contains("Rule \"network\":\n  - takes a virtio device of type network on PCI\n"),
        "{text}"
    );
    assert_eq!(gatehouse(&["explain", &cbor]), (true, text));
    let (fine, text) = gatehouse(&["explain", &toml, "clock"]);
    assert!(fine && text.starts_with("Rule \"clock\":\n  - takes a node"), "{text}");
    assert_eq!(gatehouse(&["explain", &toml, "x"]), (false, format!("gatehouse: {toml}: no rule \"x\"\n")));
    assert!(gatehouse(&["explain", "GH-4012"]).1.starts_with("GH-4012: "));
    assert_eq!(gatehouse(&["explain", "GH-0001"]), (false, "gatehouse: GH-0001: no such code\n".into()));
    let wrong = folder.join("wrong.toml");
    fs::write(&wrong, "version = 1\nsvn = true\n").unwrap();
    let wrong = wrong.display().to_string();
    let (fine, text) = gatehouse(&["check", &wrong]);
    assert!(!fine && text.starts_with(&format!("gatehouse: {wrong}: line 2: svn: a number")), "{text}");
}

#[test]
fn the_command_explains_the_refusals_of_a_log() {
    let folder = folder("explain-log");
    let log = folder.join("console.log");
    fs::write(&log, "gatehouse: policy 00:02.0 at 02.0: rule network: refused, GH-4152: the same unit\r\n")
        .unwrap();
    let log = log.display().to_string();
    let (fine, text) = gatehouse(&["explain", "--log", &log]);
    assert!(
        fine && text
            .starts_with("The function at 02.0 (00:02.0), rule \"network\": the same unit.\nGH-4152: "),
        "{text}"
    );
    let toml = root().join("tests/data/policies/legacy-nic.toml").display().to_string();
    let (fine, text) = gatehouse(&["explain", "--log", &log, "--policy", &toml]);
    assert!(fine && text.contains("Rule \"network\":\n"), "{text}");
    assert!(!gatehouse(&["explain", "--log", &toml]).0);
    assert!(!gatehouse(&["explain"]).0);
}

#[test]
fn the_command_captures_a_log_into_a_new_folder() {
    let folder = folder("capture");
    let log = folder.join("console.log");
    let line = "gatehouse: evidence slot=05.0/00.0";
    let text = format!(
        "{line} vendor=1b36 device=0010 subsystem-vendor=1af4 subsystem=1100 class=010802 hash=sha384\r\n\
         {line} object=report offset=0 total=3 base64=YWJj\r\n"
    );
    fs::write(&log, text).unwrap();
    let (log, out) = (log.display().to_string(), folder.join("out"));
    let (fine, text) = gatehouse(&["capture", &log, &out.display().to_string()]);
    assert!(fine, "{text}");
    assert_eq!(fs::read(out.join("05.0_00.0/report.bin")).unwrap(), b"abc");
    assert!(
        fs::read_to_string(out.join("05.0_00.0/function.toml"))
            .unwrap()
            .starts_with("slot = \"05.0/00.0\"\n")
    );
    assert!(!gatehouse(&["capture", &log, &out.display().to_string()]).0);
}

#[test]
fn the_command_drafts_a_policy_from_evidence() {
    let folder = folder("init");
    let (evidence, out) = (folder.join("evidence"), folder.join("policy.toml"));
    let function = evidence.join("04.0");
    fs::create_dir_all(&function).unwrap();
    let ids = "slot = \"04.0\"\nvendor = 0x13b5\ndevice = 0x0001\nsubsystem-vendor = 0x0000\nsubsystem = 0x0000\n\
        class = \"120000\"\nhash = \"sha384\"\n";
    fs::write(function.join("function.toml"), ids).unwrap();
    // A report with updates off, DMA without PASID, and one page of BAR 0.
    let mut report = vec![3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0];
    report.extend([0x45, 0x23, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
    fs::write(function.join("report.bin"), report).unwrap();
    let (evidence, toml) = (evidence.display().to_string(), out.display().to_string());
    let (fine, text) = gatehouse(&["init", "--from-evidence", &evidence]);
    assert!(fine && text.contains("name = \"slot-04.0\"\n"), "{text}");
    assert_eq!(gatehouse(&["init", "--from-evidence", &evidence, "-o", &toml]), (true, String::new()));
    assert_eq!(fs::read_to_string(&out).unwrap(), text);
    assert_eq!(gatehouse(&["check", &toml]), (true, format!("{toml}: svn 1, anchors: 0, rules: 1\n")));
    fs::remove_file(function.join("report.bin")).unwrap();
    let (fine, text) = gatehouse(&["init", "--from-evidence", &evidence]);
    assert!(!fine && text.contains("report.bin: "), "{text}");
}
