//! What is fed: each reader of bytes that host, device or a stranger wrote.

use crate::common::config::{Bus, Space, open};
use crate::common::{self, whole_tree};
use crate::scenario_host;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use gatehouse::boot::bundle::Bundle;
use gatehouse::boot::kernel::{Format, KernelHeader};
use gatehouse::boot::place::{self, Room};
use gatehouse::boot::plan::Span;
use gatehouse::evidence::{Chain, DeviceMode, Exchange, InterfaceReport, Trust, Vca};
use gatehouse::pcie::{self, Bar, Function};
use gatehouse::policy::cbor::{decode, encode};
use gatehouse::policy::types::{Denied, ReportRules, Time};
use gatehouse::rsi::HashAlgorithm;
use gatehouse_cli::eventlog::EventLog;
use gatehouse_cli::token::Token;
use sha2::{Digest, Sha256};
use std::path::Path;

/// Reads an input; panics on a finding.
pub type Target = fn(&[u8]);

/// Name and function of each target.
pub const ALL: [(&str, Target); 12] = [
    ("tree", whole_tree::use_all),
    ("bundle", bundle),
    ("kernel", kernel),
    ("policy", policy),
    ("policy-text", policy_text),
    ("chain", chain),
    ("exchange", exchange),
    ("report", report),
    ("config", config),
    ("event-log", event_log),
    ("token", token),
    ("host", scenario_host::target),
];

/// The digest of the FIT structure, as long as it says.
fn manifest(bytes: &[u8]) -> [u8; 32] {
    let len = bytes.get(4..8).map_or(0, |b| b.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)));
    Sha256::digest(bytes.get(..len).unwrap_or_default()).into()
}

/// A bundle of this kernel alone, in the structure.
fn with_kernel(kernel: &[u8]) -> Vec<u8> {
    let node = |name: &str| DeviceTreeNode::new(name).expect("a name");
    let property = |name: &str, value: &[u8]| DeviceTreeProperty::new(name, value).expect("a name");
    let mut hash = node("hash-1");
    hash.add_property(property("algo", b"sha256\0"));
    hash.add_property(property("value", &Sha256::digest(kernel)));
    let mut image = node("k");
    image.add_property(property("data", kernel));
    image.add_child(hash);
    let mut config = node("c");
    config.add_property(property("kernel", b"k\0"));
    let (mut images, mut configs) = (node("images"), node("configurations"));
    images.add_child(image);
    configs.add_child(config);
    configs.add_property(property("default", b"c\0"));
    let mut tree = DeviceTree::new();
    tree.root.add_child(images);
    tree.root.add_child(configs);
    tree.to_dtb()
}

/// The FIT structure, by the digest that it has.
fn bundle(bytes: &[u8]) {
    let manifest = manifest(bytes);
    let Ok(bundle) = Bundle::parse(bytes, &manifest) else { return };
    assert!(bundle.structure_len <= bytes.len());
    for part in bundle.parts() {
        assert!(part.offset().is_none_or(|at| at + part.len_bytes() <= bytes.len()));
        if let Ok(part) = part.clone().verify() {
            let _ = (part.bytes().len(), part.command_line());
        }
    }
}

/// A kernel file in a bundle, placed in 1 MiB.
fn kernel(bytes: &[u8]) {
    let (_, _) = (Format::of(bytes), KernelHeader::parse(bytes));
    let whole = with_kernel(bytes);
    let Ok(bundle) = Bundle::parse(&whole, &manifest(&whole)) else { return };
    const BASE: u64 = 0x4000_0000;
    let Some(span) = Span::new(BASE + (2 << 20), whole.len() as u64) else { return };
    let room = span.end().next_multiple_of(4096);
    let mut memory = vec![0; 1 << 20];
    let area =
        gatehouse::addr::IpaRange::covering(BASE, room + (1 << 20) + gatehouse::abi::image::HEAP_SIZE - BASE);
    let Ok(area) = area else { return };
    let _ = place::kernel(bundle.kernel, None, area, span, Room::new(room, &mut memory));
}

/// One policy, one encoding.
fn policy(bytes: &[u8]) {
    if let Ok(policy) = decode(bytes) {
        assert_eq!(encode(&policy), bytes);
        let _ = policy.check();
    }
}

fn policy_text(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    // Files that it names are looked for where there are none.
    if let Ok(policy) = gatehouse_cli::policy::toml::parse(text, Path::new("/nonexistent")) {
        assert_eq!(decode(&encode(&policy)), Ok(policy));
    }
}

fn chain(bytes: &[u8]) {
    for hash in [HashAlgorithm::Sha256, HashAlgorithm::Sha384] {
        let Ok(chain) = Chain::parse(bytes, hash) else { continue };
        let trust = Trust { anchors: &[], denied: &Denied::default(), floor: Some(Time(0)) };
        assert!(chain.verify(&trust).is_err(), "no anchor, no trust");
        let leaf = chain.leaf();
        let _ = (leaf.key.spki().len(), leaf.subject.len());
    }
}

/// Two bytes of length, the negotiation, the exchange.
fn exchange(bytes: &[u8]) {
    let Some((len, rest)) = bytes.split_first_chunk::<2>() else { return };
    let (first, second) = rest.split_at(usize::from(u16::from_le_bytes(*len)).min(rest.len()));
    let Ok(vca) = Vca::parse(first) else { return };
    let _ = vca.to_string();
    let Ok(exchange) = Exchange::parse(second, &vca) else { return };
    let _ = DeviceMode::find(&exchange.blocks);
}

/// The report, and the plan that a function with one BAR makes of it.
fn report(bytes: &[u8]) {
    let Ok(report) = InterfaceReport::parse(bytes) else { return };
    let function: Function = common::config::function(&Space::endpoint());
    let bars = [Bar { index: 0, wide: true, prefetchable: false, address: common::BAR, size: 0x4000 }];
    if let Ok(list) = gatehouse::mapping::plan(&report, &function, &bars, &ReportRules::default()) {
        for request in &list.requests {
            let ipa = request.ipa;
            assert!(ipa.base() >= common::BAR && ipa.top() <= common::BAR + 0x4000, "{ipa}");
        }
    }
}

/// Bytes are the configuration space of 00:02.0; what cannot be written of them is as a real device has it.
fn config(bytes: &[u8]) {
    let mut space = Space::endpoint().bar(0, 0, u32::MAX).bar(1, 0, u32::MAX);
    let len = bytes.len().min(space.bytes.len());
    space.bytes[..len].copy_from_slice(&bytes[..len]);
    let (mut platform, ecam) = open(Bus::with(space));
    let Ok(topology) = pcie::walk(&mut platform, &ecam) else { return };
    for function in &topology.functions {
        let _ = pcie::size_bars(&mut platform, &ecam, function);
    }
    assert!(platform.machine.trace.len() < 100_000, "{} accesses", platform.machine.trace.len());
}

fn event_log(bytes: &[u8]) {
    if let Ok(log) = EventLog::read(bytes) {
        let _ = (log.devices().len(), log.policy_id());
    }
}

fn token(bytes: &[u8]) {
    if let Ok(token) = Token::parse(bytes) {
        let _ =
            (token.binds(), token.realm_is_signed(), token.binds_devices(), token.device_claims().is_ok());
    }
}
