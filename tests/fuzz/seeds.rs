//! Honest inputs: what a boot of the model delivers, and what the packer writes.

use crate::common::{self, image, measured, plain};
use crate::scenario_host;
use gatehouse_cli::pack::Pack;
use rmm_model::abi::rsi::{RSI_ATTESTATION_TOKEN_CONTINUE, RSI_ATTESTATION_TOKEN_INIT, RSI_INCOMPLETE};
use rmm_model::scenario::ObjectKind;
use rmm_model::sim::{SimMachine, SparseRam};
use rmm_model::{Board, Model};
use std::fs;
use std::path::Path;

/// Returns honest inputs of a target.
pub fn of(name: &str) -> Vec<Vec<u8>> {
    match name {
        "tree" => vec![image::tree(|_| {}), include_bytes!("../data/virt.dtb").to_vec()],
        "bundle" => vec![bundle()],
        "kernel" => kernels(),
        "policy" => policies(),
        "policy-text" => texts(),
        "chain" => vec![object(ObjectKind::Certificate)],
        "exchange" => {
            let (vca, exchange) = (object(ObjectKind::Vca), object(ObjectKind::Measurements));
            let len = u16::try_from(vca.len()).unwrap_or(0).to_le_bytes();
            vec![[&len[..], &vca, &exchange].concat()]
        }
        "report" => vec![object(ObjectKind::Report)],
        "config" => configs(),
        "event-log" => vec![log()],
        "token" => vec![token()],
        "host" => vec![Vec::new(), scenario_host::example()],
        _ => Vec::new(),
    }
}

/// An object as an honest boot delivers it.
fn object(kind: ObjectKind) -> Vec<u8> {
    let ran = common::boot(&plain());
    ran.model.evidence(common::SLOT, kind).unwrap_or_default().to_vec()
}

fn log() -> Vec<u8> {
    let ran = common::boot(&plain());
    ran.result.map(|payload| measured::region(payload.tree, "log")).unwrap_or_default()
}

fn bundle() -> Vec<u8> {
    let packed = Pack { ramdisk: Some(vec![0x52; 64]), ..image::pack() }.build().expect("the common bundle");
    let from = usize::try_from(packed.bundle_offset).unwrap_or(0);
    packed.image_bytes[from..].to_vec()
}

/// An Image, and the same as gzip and as EFI zboot.
fn kernels() -> Vec<Vec<u8>> {
    use flate2::{Compression, GzBuilder};
    use std::io::Write;
    let mut plain = image::pack().kernel;
    plain.truncate(0x400);
    let mut encoder = GzBuilder::new().filename("Image").write(Vec::new(), Compression::new(6));
    encoder.write_all(&plain).expect("a vector takes it");
    let gzip = encoder.finish().expect("a vector takes it");
    let mut zboot = b"MZ\0\0zimg".to_vec();
    zboot.extend(0x1000u32.to_le_bytes());
    zboot.extend(u32::try_from(gzip.len()).unwrap_or(0).to_le_bytes());
    zboot.extend([0; 8]);
    zboot.extend(b"gzip\0");
    zboot.resize(0x1000, 0);
    zboot.extend(&gzip);
    vec![plain, gzip, zboot]
}

fn texts() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/policies");
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.path()).collect();
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|end| end == "toml"));
    paths.iter().filter_map(|path| fs::read(path).ok()).collect()
}

/// Policies as they are packed.
fn policies() -> Vec<Vec<u8>> {
    let parse = |text: Vec<u8>| {
        let text = String::from_utf8(text).ok()?;
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/policies");
        gatehouse_cli::policy::toml::parse(&text, &folder).ok()
    };
    let encoded =
        texts().into_iter().filter_map(parse).map(|policy| gatehouse::policy::cbor::encode(&policy));
    encoded.chain(image::policy(&plain())).collect()
}

/// An endpoint with BARs, power management, PCI Express, MSI-X, ARI and SR-IOV; a bridge.
fn configs() -> Vec<Vec<u8>> {
    use crate::common::config::Space;
    let endpoint = Space::endpoint()
        .bar(0, 4, 0xffff_c000)
        .bar(1, 0, u32::MAX)
        .list(0x40)
        .capability(0x40, 1, 0x50, &[3, 0, 0, 0])
        .capability(0x50, 0x10, 0x80, &[2, 0, 0, 0, 0, 0x50])
        .capability(0x80, 0x11, 0, &[3, 0, 0, 0x20, 0, 0, 0, 0x30, 0, 0])
        .extended(0x100, 0xe, 0x140, &[0, 1])
        .extended(0x140, 0x10, 0, &[0; 0x3c]);
    [endpoint, Space::bridge(Some(4))].map(|space| space.bytes[..0x200].to_vec()).to_vec()
}

/// A token of the model.
fn token() -> Vec<u8> {
    let board = Board::sim();
    let mut machine = SimMachine::new(Box::new(SparseRam::default()));
    let mut model = Model::new(&plain(), &board, &mut machine).expect("the plain scenario");
    let page = board.ram[0].base;
    let mut regs = [7; 18];
    regs[0] = RSI_ATTESTATION_TOKEN_INIT;
    model.smc(&mut regs, &mut machine);
    let mut token = Vec::new();
    for _ in 0..64 {
        let mut regs = [0; 18];
        regs[..4].copy_from_slice(&[RSI_ATTESTATION_TOKEN_CONTINUE, page, 0, 0x1000]);
        model.smc(&mut regs, &mut machine);
        let mut bytes = vec![0; usize::try_from(regs[1]).unwrap_or(0).min(0x1000)];
        machine.ram.read(page, &mut bytes);
        token.extend(bytes);
        if regs[0] != RSI_INCOMPLETE {
            break;
        }
    }
    token
}
