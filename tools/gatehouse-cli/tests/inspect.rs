//! `gatehouse inspect`: each kind of file is found by its content, and what is verified is told from what is claimed.
mod logs;
#[path = "../../../tests/common/spdm.rs"]
mod spdm;
mod tokens;

use base64ct::{Base64, Encoding};
use gatehouse_cli::region;
use logs::{Hash, log, rems, sample, sessions};
use p384::ecdsa::signature::hazmat::PrehashSigner;
use proptest::prelude::*;
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use tokens::{Signer, Spec};

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.into()).unwrap()
}

fn directory(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("inspect-{name}"));
    fs::create_dir_all(&path).unwrap();
    path
}

fn gatehouse(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gatehouse")).current_dir(directory).args(args).output().unwrap()
}

/// What is said of a file, after its JSON was found to name the same kind.
fn inspect(name: &str, file: &[u8], args: &[&str]) -> String {
    let directory = directory(name);
    fs::write(directory.join("file"), file).unwrap();
    let args = [&["inspect", "file"], args].concat();
    let output = gatehouse(&directory, &args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json = gatehouse(&directory, &[args.as_slice(), &["--json"]].concat());
    let json: Value = serde_json::from_slice(&json.stdout).unwrap();
    let out = text(&output.stdout);
    assert_eq!(json["kind"].as_str(), out.lines().next());
    out
}

fn pki(file: &str) -> Vec<u8> {
    fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/pki").join(file)).unwrap()
}

#[test]
fn logs_tokens_and_policies_are_known_by_their_content() {
    let events = sample();
    let out = inspect("log", &log(Hash::Sha384, &events), &[]);
    assert!(out.starts_with("an event log\n") && out.contains("claimed   that a realm has these"), "{out}");
    let out = inspect("policy", &logs::encoded_policy(), &[]);
    assert!(
        out.starts_with("a policy\n") && out.contains("Rule \"disk\":") && out.contains("encoded form"),
        "{out}"
    );
    let out = inspect("toml", logs::POLICY.as_bytes(), &[]);
    assert!(out.starts_with("a policy\n") && out.contains("verified  it is in TOML"), "{out}");
    let spec = Spec::new(rems(Hash::Sha384, &events));
    let out = inspect("token", &spec.bytes(), &[]);
    assert!(out.starts_with("a CCA attestation token\n"), "{out}");
    assert!(out.contains("verified  the realm's key signed the realm token\n"), "{out}");
    assert!(out.contains("claimed   the platform: "), "{out}");
    let forged = Spec { realm_signer: Signer::P384(0x23), ..spec };
    let out = inspect("forged", &forged.bytes(), &[]);
    assert!(out.contains("claimed   the realm: its signature does NOT verify\n"), "{out}");
}

#[test]
fn an_evidence_region_says_which_objects_are_of_their_digest() {
    let mut region = logs::evidence(&sessions());
    let out = inspect("region", &region, &[]);
    assert!(out.starts_with("an evidence region\n"), "{out}");
    assert_eq!(out.matches("verified  ").count(), 2, "{out}");
    assert!(out.contains("0x10000000+0x4000, 64-bit\n"), "{out}");
    *region.last_mut().unwrap() ^= 1;
    let out = inspect("region-edited", &region, &[]);
    assert!(out.contains("claimed   03.0/00.0: report NOT of their digests\n"), "{out}");
}

#[test]
fn a_chain_is_read_in_each_of_its_forms() {
    let der = pki("p384/chain-00.der");
    let out = inspect("chain-der", &der, &[]);
    assert!(out.starts_with("a certificate chain\n") && out.contains("CN=ACME NVME 0001"), "{out}");
    assert!(out.contains("verified  each certificate is signed by the one above it"), "{out}");
    let mut rest = der.as_slice();
    let mut pem = String::new();
    while !rest.is_empty() {
        let len = 4 + usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        let body = Base64::encode_string(&rest[..len]);
        pem += &format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n");
        rest = &rest[len..];
    }
    assert!(inspect("chain-pem", pem.as_bytes(), &[]).contains("verified  each certificate is signed"));
    let root = pki("p384/root.der");
    let len = u16::try_from(der.len() + 52).unwrap().to_le_bytes();
    let slot = [len.as_slice(), &[0, 0], &Hash::Sha384.of(&root), &der].concat();
    assert!(inspect("chain-slot", &slot, &[]).contains("verified  each certificate is signed"));
    let out = inspect("chain-bad", &pki("defects/path-length.der"), &[]);
    assert!(out.contains("claimed   the chain does NOT verify: "), "{out}");
}

#[test]
fn measurements_need_their_negotiation_and_are_verified_by_their_chain() {
    let vca = spdm::vca();
    let exchange = spdm::exchange();
    let key = p384::ecdsa::SigningKey::from_slice(&pki("p384/unit-00.key")).unwrap();
    let signature: p384::ecdsa::Signature =
        key.sign_prehash(&vca.hash(&exchange.to_be_signed(&vca))).unwrap();
    let bytes = exchange.bytes(&signature.to_bytes());
    let directory = directory("exchange");
    fs::write(directory.join("vca"), vca.bytes()).unwrap();
    fs::write(directory.join("chain"), pki("p384/chain-00.der")).unwrap();
    fs::write(directory.join("other"), pki("p384/chain-01.der")).unwrap();
    fs::write(directory.join("file"), &bytes).unwrap();
    let alone = gatehouse(&directory, &["inspect", "file"]);
    assert!(
        text(&alone.stderr).contains("its negotiation data is needed to read it, --vca FILE"),
        "{alone:?}"
    );
    let out = inspect("exchange", &bytes, &["--vca", "vca"]);
    assert!(out.starts_with("a measurement exchange\n") && out.contains("--chain FILE verifies"), "{out}");
    assert!(out.contains(&"11".repeat(48)), "{out}");
    let out = inspect("exchange", &bytes, &["--vca", "vca", "--chain", "chain"]);
    assert!(out.contains("verified  the leaf key of the chain signed"), "{out}");
    let out = inspect("exchange", &bytes, &["--vca", "vca", "--chain", "other"]);
    assert!(
        out.contains("claimed   who measured this: ") && !out.contains("the leaf key of the chain signed"),
        "{out}"
    );
    let out = inspect("vca", &vca.bytes(), &[]);
    assert!(out.starts_with("negotiation data\n") && out.contains("spdm-1.2 ecdsa-p384 sha384"), "{out}");
}

#[test]
fn an_interface_report_is_read() {
    let mut report = vec![0; 32];
    report[0] = 1 | 2;
    report[12] = 1;
    report[16] = 0x40;
    report[24] = 4;
    let out = inspect("report", &report, &[]);
    assert!(
        out.starts_with("an interface report\n") && out.contains("NO_FIRMWARE_UPDATE, DMA_WITHOUT_PASID"),
        "{out}"
    );
    assert!(out.contains("0x40000  0x4000  -"), "{out}");
}

#[test]
fn a_file_of_another_kind_is_named_wherever_it_is_given() {
    let directory = directory("kinds");
    fs::write(directory.join("gz"), [0x1f, 0x8b, 8, 0]).unwrap();
    fs::write(directory.join("policy.toml"), logs::POLICY).unwrap();
    fs::write(directory.join("noise"), [0xff; 40]).unwrap();
    let is = "gz: this is a gzip-compressed file, expected ";
    for (args, wanted) in [
        (vec!["inspect", "gz"], format!("{is}an image, a bundle, a policy")),
        (vec!["inspect", "noise"], "noise: this is unknown data, expected an image".into()),
        (vec!["policy", "check", "gz"], format!("{is}a policy\n")),
        (vec!["policy", "compile", "gz", "-o", "out"], format!("{is}a policy\n")),
        (vec!["policy", "explain", "gz"], format!("{is}a policy\n")),
        (vec!["flatten", "gz", "out"], format!("{is}the firmware's ELF file\n")),
        (
            vec!["pack", "--firmware", "gz", "--kernel", "gz", "--out", "o"],
            format!("{is}the firmware, ELF or flat\n"),
        ),
        (
            vec!["pack", "--firmware", "gz", "--kernel", "gz", "--policy", "gz", "--out", "o"],
            format!("{is}a policy\n"),
        ),
        (vec!["replay", "gz"], format!("{is}an event log of the firmware\n")),
    ] {
        let output = gatehouse(&directory, &args);
        let err = text(&output.stderr);
        assert!(output.status.code() == Some(1) && err.contains(&wanted), "{args:?}: {err}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_are_a_region_or_an_error(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        at in any::<proptest::sample::Index>(), value in any::<u8>(),
    ) {
        let _ = region::read(&bytes);
        let _ = region::read(&[b"\x82\x01".as_slice(), &bytes].concat());
        let mut region = logs::evidence(&sessions());
        let at = at.index(region.len());
        region[at] = value;
        let _ = region::read(&region);
    }

    #[test]
    fn any_bytes_are_something_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        use gatehouse_cli::show::{Beside, show};
        for head in [&[], [0xd9, 3, 0x8b].as_slice(), &[0x82, 1, 0x81], &[0x30, 0x82], &[0x10, 0x84], &[0x12, 0xe0]] {
            let bytes = [head, &bytes].concat();
            let vca = spdm::vca().bytes();
            let _ = show(Path::new(""), &bytes, Beside { vca: Some(&vca), chain: Some(&bytes), bundle: Some(&bytes) });
        }
    }
}
