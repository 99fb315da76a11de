//! Chains, keys and signatures of the SPDM responder, seen by the openssl command line.

mod common;

use common::plain;
use common::session::*;
use rmm_model::digest::HashAlgorithm;
use rmm_model::scenario::*;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder of this test, removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Folder {
        let path = std::env::temp_dir().join(format!("rmm-model-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Folder(path)
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).ok();
    }
}

/// Takes a chain apart: a PEM file for each certificate, root first.
fn certificates(folder: &Folder, chain: &[u8]) -> Vec<PathBuf> {
    let mut rest = chain;
    let mut found = Vec::new();
    while !rest.is_empty() {
        let len = 4 + usize::from(u16::from_be_bytes([rest[2], rest[3]]));
        let der = folder.write("certificate.der", &rest[..len]);
        let pem = folder.0.join(format!("{}.pem", found.len()));
        openssl(&["x509", "-inform", "DER", "-in", &text(&der), "-out", &text(&pem)]);
        found.push(pem);
        rest = &rest[len..];
    }
    found
}

/// Lets openssl check a chain, and the signature of its leaf over a message with SHA-384.
fn openssl_accepts(name: &str, chain: &[u8], message: &[u8], signature: &[u8]) {
    let folder = Folder::new(name);
    let files = certificates(&folder, chain);
    let [root, issuer, leaf] = &files[..] else { panic!("{files:?}") };
    let (root, issuer, leaf) = (text(root), text(issuer), text(leaf));
    openssl(&["verify", "-x509_strict", "-CAfile", &root, "-untrusted", &issuer, &leaf]);
    let key = text(&folder.0.join("key.pem"));
    openssl(&["x509", "-in", &leaf, "-pubkey", "-noout", "-out", &key]);
    let message = text(&folder.write("message", message));
    let signature = text(&folder.write("signature", signature));
    let said = openssl(&["dgst", "-sha384", "-verify", &key, "-signature", &signature, &message]);
    assert_eq!(said.trim(), "Verified OK");
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

fn openssl(args: &[&str]) -> String {
    let output = Command::new("openssl").args(args).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
    text
}

/// An unsigned number in DER.
fn integer(bytes: &[u8]) -> Vec<u8> {
    let first = bytes.iter().position(|byte| *byte != 0).unwrap();
    let mut value = bytes[first..].to_vec();
    if value[0] >= 0x80 {
        value.insert(0, 0);
    }
    [&[2, value.len() as u8][..], &value].concat()
}

#[test]
fn the_openssl_command_line_accepts_chain_and_signature() {
    let objects = objects(&plain());
    let (messages, signature) = objects.measurements.split_at(parts(&objects.measurements, 37, 0).signature);
    let message = signed("1.2", HashAlgorithm::Sha384, &[&objects.vca, messages]);
    let numbers = [integer(&signature[..48]), integer(&signature[48..])].concat();
    let der = [&[0x30, numbers.len() as u8][..], &numbers].concat();
    openssl_accepts("p384", &objects.certificate, &message, &der);
}

#[cfg(feature = "rsa")]
#[test]
fn the_openssl_command_line_accepts_rsa() {
    let objects = objects(&device(|device| device.spdm.asym = Asym::Rsa3072));
    assert_eq!(u32_at(&objects.vca, 112), 4);
    let exchange = &objects.measurements;
    let (messages, signature) = exchange.split_at(parts(exchange, 37, 0).signature);
    assert_eq!(signature.len(), 384);
    let message = signed("1.2", HashAlgorithm::Sha384, &[&objects.vca, messages]);
    openssl_accepts("rsa", &objects.certificate, &message, signature);
}

#[cfg(not(feature = "rsa"))]
#[test]
fn a_device_with_rsa_needs_the_feature() {
    let scenario = device(|device| device.spdm.asym = Asym::Rsa3072);
    let mut m = rmm_model::sim::SimMachine::new(Box::new(rmm_model::sim::SparseRam::default()));
    let error = rmm_model::Model::new(&scenario, &rmm_model::Board::sim(), &mut m).err();
    assert_eq!(error, Some(rmm_model::SetupError::Key("02.0".into())));
}

#[test]
fn keys_may_be_pkcs_8() {
    let folder = Folder::new("pkcs8");
    let chain = std::fs::read(pki("p384/chain-00.der")).unwrap();
    let number = std::fs::read(pki("p384/unit-00.key")).unwrap();
    // ECPrivateKey (RFC 5915) with the curve and without the public key.
    let curve = [0xA0, 7, 6, 5, 0x2B, 0x81, 4, 0, 0x22];
    let ec = [&[0x30, 62, 2, 1, 1, 4, 48][..], &number, &curve].concat();
    let (ec, der) = (text(&folder.write("ec.der", &ec)), text(&folder.0.join("pkcs8.der")));
    openssl(&["pkcs8", "-topk8", "-nocrypt", "-inform", "DER", "-in", &ec, "-outform", "DER", "-out", &der]);
    let same = objects(&device(|device| {
        device.spdm.chain = Some(Blob::bytes(&chain));
        device.spdm.key = Some(Blob::bytes(&std::fs::read(&der).unwrap()));
    }));
    assert_eq!(same.measurements, objects(&plain()).measurements);
}
