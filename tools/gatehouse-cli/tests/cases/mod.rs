//! A realm with token, log and evidence, and what it is verified against.
#![allow(dead_code, reason = "each test file uses its part")]

use crate::logs::{self, Hash, Raw, Session, log, rems, sample, sessions};
use crate::tokens::{self, Signer, Spec};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// A realm and what it is verified against.
pub struct Case {
    pub events: Vec<Raw>,
    pub spec: Spec,
    pub evidence: Vec<Session>,
    pub key: String,
    pub reference: Value,
    pub args: Vec<String>,
}

impl Case {
    /// A realm that holds.
    pub fn new() -> Self {
        let events = sample();
        let rems = rems(Hash::Sha384, &events);
        let nonce = [vec![0x5a; 32], vec![0; 32]].concat();
        let reference = json!({
            "hash": "sha384",
            "rim": ["00".repeat(48), hex(&[0x71; 48])],
            "rem1": [hex(&rems[0])],
            "rem2": [hex(&rems[1])],
            "rem3": [hex(&rems[2])],
            "policy": [sha256(&logs::encoded_policy())],
            "bundle": [sha256(b"fit")],
            "parts": { "kernel": [sha256(b"an older kernel"), sha256(logs::KERNEL)] },
            "min-policy-svn": 7,
            "min-bundle-svn": 3,
            "forbid-verdicts": [],
            "forbid-modes": ["pin"],
        });
        let digests = sessions().map(|session| {
            let [vca, chain, _, measurements, _] = session.digests();
            [chain, measurements, vca]
        });
        let devices = Some(tokens::devices(&digests));
        Self {
            events,
            spec: Spec { challenge: nonce, devices, ..Spec::new(rems) },
            evidence: sessions().into(),
            key: Signer::P384(0x11).pem(),
            reference,
            args: vec!["--challenge".into(), "5a".repeat(32)],
        }
    }

    /// Other events; the token has their measurements, the reference those that were.
    pub fn with_events(events: Vec<Raw>) -> Self {
        let mut case = Self::new();
        case.spec.rems = rems(Hash::Sha384, &events).into();
        case.events = events;
        case
    }

    pub fn run(&self, name: &str) -> Output {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("verify-{name}"));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join("log"), log(Hash::Sha384, &self.events)).unwrap();
        fs::write(path.join("token"), self.spec.bytes()).unwrap();
        fs::write(path.join("evidence"), logs::evidence(&self.evidence)).unwrap();
        fs::write(path.join("key.pem"), &self.key).unwrap();
        fs::write(path.join("reference.json"), self.reference.to_string()).unwrap();
        fs::write(path.join("policy.toml"), logs::POLICY).unwrap();
        fs::write(path.join("other.toml"), logs::POLICY.replace("svn = 7", "svn = 8")).unwrap();
        self.verify(&path, "evidence")
    }

    /// Runs the command in a folder that has all files.
    pub fn verify(&self, folder: &Path, evidence: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gatehouse"));
        command.current_dir(folder).args(["verify", "--token", "token", "--log", "log"]);
        command.args(["--platform-key", "key.pem", "--reference", "reference.json"]);
        command.args(["--evidence", evidence]).args(&self.args).output().unwrap()
    }

    /// Checks which checks fail, and that the report says why.
    pub fn fails(&self, checks: &[&str], why: &str) {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let output = self.run(&format!("fails-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{checks:?}: {out}{err}");
        let failed: Vec<_> = out
            .lines()
            .filter_map(|line| line.strip_prefix("FAIL  "))
            .filter_map(|line| line.split_whitespace().next())
            .collect();
        assert_eq!(failed, checks, "{out}");
        assert_eq!(err, format!("gatehouse: not verified: {}\n", checks.join(", ")));
        assert!(out.contains(why), "{why}: {out}");
    }
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.into()).unwrap()
}
