//! The examples of docs/policy.md at work: each starts what it says, and refuses a device with a defect.
mod common;

use common::*;
use gatehouse::codes::StopCode;
use gatehouse::digest::Digest;
use gatehouse::evidence::Chain;
use gatehouse::rsi::HashAlgorithm;
use rmm_model::Scenario;
use rmm_model::final_state::TdiState;
use rmm_model::machine::DmaGate;
use rmm_model::scenario::{
    BlockSpec, ConfigAccess, DeviceSpec, EvidenceKind, ExtraRange, RangeIds, ReportSpec, default_blocks,
};
use rmm_model::sim::SimFunction;

const GPU_SERVER: &str = include_str!("data/policies/gpu-server.toml");
const NVME_ONLY: &str = include_str!("data/policies/nvme-only.toml");
const AUDIT: &str = include_str!("data/policies/audit.toml");
const LEGACY_NIC: &str = include_str!("data/policies/legacy-nic.toml");
const COHERENT: &str = include_str!("data/policies/coherent-device.toml");

fn device(slot: &str) -> DeviceSpec {
    DeviceSpec { slot: slot.into(), ..DeviceSpec::default() }
}

fn scenario(policy: &str, device: Vec<DeviceSpec>) -> Scenario {
    let mut scenario = Scenario { device, ..Scenario::default() };
    scenario.bundle.policy = policy.into();
    scenario
}

fn run(scenario: &Scenario, functions: Vec<SimFunction>) -> Ran {
    Boot { functions, ..Boot::new(scenario) }.run()
}

/// The functions that the payload is shown, with their modes, in the tree's order.
#[track_caller]
fn shown(ran: &Ran) -> Vec<(String, String)> {
    if let Err(stop) = &ran.result {
        panic!("{stop}\n{}", ran.log.join("\n"));
    }
    ran.is_sound();
    let blob = tree_at(ran.result.as_ref().unwrap().tree);
    let tree = fdt::Fdt::new(&blob).unwrap();
    let mode = |node: &fdt::node::FdtNode<'_, '_>| {
        let mode = node.property("gatehouse,mode")?.as_str()?.to_owned();
        Some((node.property("gatehouse,rule")?.as_str()?.to_owned(), mode))
    };
    tree.all_nodes().filter_map(|node| mode(&node)).collect()
}

/// Demands that these devices run with private DMA, and that no other does.
#[track_caller]
fn runs(ran: &Ran, slots: &[&str]) {
    for device in &ran.state.devices {
        let is_run = (device.state, device.dma) == (TdiState::Run, DmaGate::PrivateOnly);
        assert_eq!(is_run, slots.contains(&device.slot.as_str()), "{device:?}\n{}", ran.log.join("\n"));
    }
}

/// Demands a stop that gives every device back.
#[track_caller]
fn stops(ran: &Ran, code: StopCode) {
    ran.stops_with(code, &[]);
    ran.state.devices.iter().for_each(|device| ran.is_taken_back(device));
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(rule, mode)| ((*rule).into(), (*mode).into())).collect()
}

/// The default blocks with another one.
fn blocks_with(index: u8, change: impl Fn(&mut BlockSpec)) -> Vec<BlockSpec> {
    let mut blocks = default_blocks();
    blocks.iter_mut().filter(|block| block.index == index).for_each(change);
    blocks
}

/// Slots of the eight GPUs.
const GPUS: [&str; 8] = [
    "01.0/00.0/00.0/00.0",
    "01.0/00.0/01.0/00.0",
    "01.0/00.0/02.0/00.0",
    "01.0/00.0/03.0/00.0",
    "02.0/00.0/00.0/00.0",
    "02.0/00.0/01.0/00.0",
    "02.0/00.0/02.0/00.0",
    "02.0/00.0/03.0/00.0",
];

fn gpu() -> SimFunction {
    SimFunction::endpoint(0, 0).with_bar(0, 0x10_0000, true, true).with_ids(0x10de, 0x2330, 0x03_0200)
}

/// Two switches with four GPUs each.
fn gpu_machine() -> Vec<SimFunction> {
    let mut made = vec![SimFunction::host_bridge()];
    let mut put = |function| {
        made.push(function);
        made.len() - 1
    };
    for root in [1, 2] {
        let root = put(SimFunction::root_port(root, 0));
        let switch = put(SimFunction::upstream_port(0, 0).behind(root));
        for port in 0..4 {
            let port = put(SimFunction::downstream_port(port, 0).behind(switch));
            put(gpu().behind(port));
        }
    }
    made
}

#[test]
fn the_gpu_server_starts_all_eight_or_nothing() {
    let plain = scenario(GPU_SERVER, GPUS.map(device).to_vec());
    let ran = run(&plain, gpu_machine());
    assert_eq!(shown(&ran), vec![("gpus".into(), "run".into()); 8]);
    runs(&ran, &GPUS);
    // The release before is accepted too.
    let mut before = plain.clone();
    before.device[5].spdm.blocks = blocks_with(2, |block| block.text = "ACME NVME firmware 3.1".into());
    runs(&run(&before, gpu_machine()), &GPUS);

    type Change = fn(&mut DeviceSpec);
    let defects: [(Change, StopCode); 6] = [
        (
            |device| device.spdm.blocks = blocks_with(2, |block| block.text = "firmware 2".into()),
            StopCode::MeasurementMismatch,
        ),
        (|device| device.spdm.blocks = blocks_with(5, |block| block.svn = Some(6)), StopCode::SvnTooLow),
        (|device| device.spdm.blocks = default_blocks()[..6].to_vec(), StopCode::DeviceMode),
        (|device| device.spdm.unit = Some(0), StopCode::SameUnit),
        (|device| device.spdm.forwards_nonce = false, StopCode::RequesterNonce),
        (|device| device.interface_info = 0b10, StopCode::ReportFirmwareUpdate),
    ];
    for (change, code) in defects {
        let mut wrong = plain.clone();
        change(&mut wrong.device[7]);
        stops(&run(&wrong, gpu_machine()), code);
    }
    let mut missing = plain.clone();
    missing.device.pop();
    let mut functions = gpu_machine();
    functions.pop();
    stops(&run(&missing, functions), StopCode::RequiredMissing);
    let mut functions = gpu_machine();
    functions.push(SimFunction::edu(3, 0));
    stops(&run(&plain, functions), StopCode::ExtraFunction);
}

#[test]
fn the_gpu_server_pins_for_a_payload_that_locks_where_run_is_not_possible() {
    let mut native = scenario(GPU_SERVER, GPUS.map(device).to_vec());
    native.bundle.os = "native".into();
    runs(&run(&native, gpu_machine()), &GPUS);
    native.vmm.config = ConfigAccess::PassThrough;
    let ran = run(&native, gpu_machine());
    assert_eq!(shown(&ran), vec![("gpus".into(), "pin".into()); 8]);
    runs(&ran, &[]);
}

#[test]
fn the_nvme_alone_starts_and_no_other_unit_does() {
    let plain = scenario(NVME_ONLY, vec![device(SLOT)]);
    let ran = run(&plain, functions());
    assert_eq!(shown(&ran), pairs(&[("disk", "run")]));
    ran.boots();
    let mut own_nonce = plain.clone();
    own_nonce.device[0].spdm.forwards_nonce = false;
    run(&own_nonce, functions()).boots();
    let mut other = plain.clone();
    other.device[0].spdm.unit = Some(1);
    stops(&run(&other, functions()), StopCode::UnknownUnit);
    let mut firmware = plain;
    firmware.device[0].spdm.blocks = blocks_with(2, |block| block.text = "firmware 2".into());
    stops(&run(&firmware, functions()), StopCode::MeasurementMismatch);
}

#[test]
fn the_audit_takes_everything_down_and_starts_nothing() {
    let ran = run(&scenario(AUDIT, vec![device(SLOT)]), functions());
    stops(&ran, StopCode::AuditBoot);
    assert!(ran.log.iter().any(|line| line.starts_with("evidence slot=02.0 object=measurements")));
    // It is an audit without devices as well.
    let gone = run(&scenario(AUDIT, vec![]), vec![SimFunction::host_bridge()]);
    gone.stops_with(StopCode::AuditBoot, &[]);
}

#[test]
fn the_legacy_nic_is_shared_whether_the_accelerator_is_accepted_or_not() {
    let plain = scenario(LEGACY_NIC, vec![device(SLOT)]);
    let ran = run(&plain, functions());
    assert_eq!(shown(&ran), pairs(&[("accelerator", "run"), ("network", "shared"), ("clock", "shared")]));
    runs(&ran, &[SLOT]);
    let mut wrong = plain.clone();
    wrong.device[0].spdm.blocks = blocks_with(6, |block| block.text = "3.1".into());
    let ran = run(&wrong, functions());
    assert_eq!(shown(&ran), pairs(&[("network", "shared"), ("clock", "shared")]));
    runs(&ran, &[]);
    assert!(ran.log.iter().any(|line| line.contains("rule accelerator: refused, GH-4141")));
    let mut unsigned = plain;
    unsigned.device[0].spdm.signed = false;
    let ran = run(&unsigned, functions());
    assert_eq!(shown(&ran), pairs(&[("network", "shared"), ("clock", "shared")]));
    assert!(ran.log.iter().any(|line| line.contains("rule accelerator: refused, GH-4128")));
}

#[test]
fn the_coherent_device_starts_on_the_word_of_the_platform() {
    let coherent = ExtraRange { page: 0x1_0000_0000, pages: 0x1000, attributes: 0, id: 0xffff };
    let report = ReportSpec { ids: RangeIds::HighByte, extra: vec![coherent], ..ReportSpec::default() };
    let plain =
        scenario(COHERENT, vec![DeviceSpec { evidence: EvidenceKind::None, report, ..device("04.0") }]);
    let machine = || {
        let accelerator = SimFunction::endpoint(4, 0).with_bar(0, 0x10_0000, true, true);
        vec![SimFunction::host_bridge(), accelerator.with_ids(0x13b5, 0x0001, 0x12_0000)]
    };
    let ran = run(&plain, machine());
    assert_eq!(shown(&ran), pairs(&[("accelerator", "run")]));
    runs(&ran, &["04.0"]);
    // A device that speaks SPDM is another one.
    let mut speaks = plain.clone();
    speaks.device[0].evidence = EvidenceKind::Spdm;
    stops(&run(&speaks, machine()), StopCode::ChainNoAnchor);
    speaks.device[0].spdm.signed = false;
    stops(&run(&speaks, machine()), StopCode::Unsigned);
    let mut other = machine();
    other[1] = SimFunction::nvme(4, 0);
    stops(&run(&plain, other), StopCode::RequiredMissing);
}

/// After `scripts/test-pki` the digests below belong into the examples and into docs/policy.md.
#[test]
fn the_digests_of_the_examples_are_those_of_the_test_devices() {
    let sha384 = |bytes: &[u8]| Digest::of(HashAlgorithm::Sha384, &[bytes]).to_string();
    let bytes = include_bytes!("data/pki/p384/chain-00.der");
    let chain = Chain::parse(bytes, HashAlgorithm::Sha384).unwrap();
    let root = chain.certificates().next().unwrap();
    for (text, what, digest) in [
        (GPU_SERVER, "certificate of the root", sha384(root.der)),
        (LEGACY_NIC, "certificate of the root", sha384(root.der)),
        (NVME_ONLY, "key of the root", sha384(root.key.spki())),
        (NVME_ONLY, "key of the leaf", sha384(chain.leaf().key.spki())),
    ] {
        assert!(text.contains(&digest), "{what}: {digest} is not in\n{text}");
    }
}
