//! What is wrong before the device: memory, tree, bundle. And what no lie of the model does: registers that stay.
mod common;

use common::image::{Image, load, pack, set, tree};
use common::*;
use gatehouse::abi::fit::OsKind;
use gatehouse::addr::IpaRange;
use gatehouse::arch::host::ipa_width;
use gatehouse::codes::StopCode;
use gatehouse::phases::StopReason;
use gatehouse::tdi::{IdleError, Reason};
use gatehouse_cli::pack::Pack;
use rmm_model::machine::Machine;
use rmm_model::sim::SimFunction;
use rmm_model::{Range, Scenario};
use sha2::{Digest, Sha256};
use std::fs;

/// Scenarios of QEMU that the host can run, with their end; `None` boots.
const SCENARIOS: &[(&str, Option<StopCode>, &[&str])] = &[
    ("plain", None, &[]),
    ("mro-zero", None, &[]),
    ("slow-host", None, &[]),
    ("report-byte-flipped", Some(StopCode::ReportDigest), &[]),
    ("measurements-byte-flipped", Some(StopCode::MeasurementDigest), &[]),
    ("chain-byte-flipped", Some(StopCode::CertificateDigest), &[]),
    ("vca-byte-flipped", Some(StopCode::VcaDigest), &[]),
    ("object-missing", Some(StopCode::ObjectMissing), &[]),
    ("object-size-zero", Some(StopCode::ObjectEmpty), &[]),
    ("object-size-16mib-plus-1", Some(StopCode::ObjectTooLarge), &[]),
    ("kernel-byte-flipped", Some(StopCode::PartHash), &[]),
    ("tree-truncated", Some(StopCode::TreeStructure), &[]),
    ("bar-reads-back-other", Some(StopCode::BarReadBack), &[]),
    ("report-range-past-bar", Some(StopCode::ReportPastBar), &[]),
    ("report-pages-wrap", Some(StopCode::ReportWraps), &[]),
    ("stale-nonce", Some(StopCode::MappingStaleNonce), &[]),
    ("relock-between-get-info", Some(StopCode::LockNonceChanged), &[]),
    ("mapping-reject-half-way", Some(StopCode::MappingRejected), &[]),
    ("mapping-next-backwards", Some(StopCode::MappingBadReply), &[]),
    ("incomplete-for-ever", Some(StopCode::HostOperationEndless), &[]),
    ("error-after-run", Some(StopCode::NotStarted), &[]),
    ("mro-not-bar-multiple", Some(StopCode::ReportingOffset), &[]),
    ("unlock-fails", Some(StopCode::ReportDigest), &["RHI_DA_VDEV_SET_TDI_STATE failed"]),
];

#[test]
fn the_scenarios_of_qemu_end_the_same_way_on_the_host() {
    for (name, code, leaks) in SCENARIOS {
        let path = format!("{}/tests/data/scenarios/{name}.toml", env!("CARGO_MANIFEST_DIR"));
        let scenario: Scenario = toml::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        let ran = boot(&scenario);
        match code {
            None => drop(ran.boots()),
            Some(code) if leaks.is_empty() => ran.stops(*code),
            Some(code) => ran.stops_with(*code, leaks),
        }
    }
}

#[test]
fn dma_that_the_rmm_does_not_open_stays_closed() {
    let mut scenario = plain();
    scenario.device[0].dma_enable = rmm_model::scenario::DmaEnable::Ignored;
    let ran = boot(&scenario);
    let entry = ran.boots().entry;
    assert!(!ran.sim.dma_reaches(0x10, entry));
}

/// Boots with a change, and demands this stop.
#[track_caller]
fn stops(code: StopCode, change: impl FnOnce(&mut Boot<'_>)) -> Ran {
    let scenario = plain();
    let mut boot = Boot::new(&scenario);
    change(&mut boot);
    let ran = boot.run();
    ran.stops_with(code, &[]);
    assert!(ran.state.shared.is_empty() && ran.mapped.is_empty());
    assert!(ran.device().validated.is_empty(), "{:?}", ran.device());
    ran
}

fn range(base: u64, top: u64) -> IpaRange {
    IpaRange::from_bounds(base, top).unwrap()
}

#[test]
fn memory_that_is_not_ram_stops_the_boot() {
    let alias = ipa_width().alias_bit();
    stops(StopCode::OwnMemory, |boot| boot.own = range(RAM_BASE - 0x1000, alias));
    stops(StopCode::RealmConfig, |boot| boot.own = range(RAM_BASE, alias + 0x1000));
    let more = |top: u64| {
        let cells = [RAM_BASE - 0x1000, top - RAM_BASE + 0x1000];
        tree(|tree| set(tree, "/memory@40000000", "reg", cells.map(u64::to_be_bytes).concat()))
    };
    stops(StopCode::PayloadMemory, |boot| boot.image = Image::with_tree(&more(alias)));
    stops(StopCode::TreeContent, |boot| boot.image = Image::with_tree(&more(alias + 0x1000)));
    stops(StopCode::TreeContent, |boot| boot.image = Image::with_tree(&more(alias - 0x1000)));
}

#[test]
fn a_tree_outside_private_ram_is_not_read() {
    let alias = ipa_width().alias_bit();
    let whole = range(RAM_BASE, alias);
    for tree in [0, 0x4000_0000, RAM_BASE - 4, alias - 8, alias, alias + 0x4000_0000, u64::MAX, u64::MAX - 39]
    {
        stops(StopCode::TreeAddress, |boot| boot.image.tree = tree);
    }
    stops(StopCode::TreeAddress, |boot| boot.firmware = Some(whole));
}

#[test]
fn a_tree_that_is_damaged_is_refused() {
    let whole = tree(|_| {});
    let cut = |len: usize| {
        let mut bytes = whole.clone();
        bytes[len..].fill(0);
        bytes
    };
    for len in [0, 4, 39, 40, 1024, whole.len() / 2] {
        stops(StopCode::TreeStructure, |boot| boot.image = Image::with_tree(&cut(len)));
    }
    let mut large = whole.clone();
    large[4..8].copy_from_slice(&u32::MAX.to_be_bytes());
    stops(StopCode::TreeStructure, |boot| boot.image = Image::with_tree(&large));
    let no_pci = tree(|tree| set(tree, "/pcie@10000000", "status", "disabled"));
    stops(StopCode::TreeContent, |boot| boot.image = Image::with_tree(&no_pci));
}

#[test]
fn a_bridge_whose_window_has_no_room_stops_the_boot() {
    let cells = [0x0200_0000u32, 0, 0x1000_0000, 0, 0x1000_0000, 0, 0x2000];
    let small = tree(|tree| set(tree, "/pcie@10000000", "ranges", cells));
    let ran = stops(StopCode::BarNoRoom, |boot| boot.image = Image::with_tree(&small));
    ran.stops(StopCode::BarNoRoom);
}

#[test]
fn a_window_over_ram_is_refused_with_the_tree() {
    let at = RAM_BASE - 0x1_0000_0000;
    let cells = [0x0300_0000, (at >> 32) as u32, at as u32, (at >> 32) as u32, at as u32, 2, 0];
    let over = tree(|tree| set(tree, "/pcie@10000000", "ranges", cells));
    stops(StopCode::TreeContent, |boot| boot.image = Image::with_tree(&over));
}

#[test]
fn a_bundle_that_is_not_the_manifests_is_refused() {
    stops(StopCode::NoBundle, |boot| boot.image.bundle = None);
    stops(StopCode::BundleManifest, |boot| boot.image.bundle.as_mut().unwrap().manifest_sha256[31] ^= 1);
    stops(StopCode::BundleManifest, |boot| {
        boot.image = Image::flipped(|packed| packed.bundle_offset + packed.structure_len / 2);
    });
    stops(StopCode::BundleStructure, |boot| {
        let bundle = boot.image.bundle.as_mut().unwrap();
        bundle.bytes = &bundle.bytes[..bundle.bytes.len() - 1];
    });
    stops(StopCode::BundleStructure, |boot| boot.image.bundle.as_mut().unwrap().bytes = &[]);
}

#[test]
fn an_unaware_payload_gets_no_device_in_mode_run() {
    stops(StopCode::NoMode, |boot| boot.image = Image::packed(&Pack { os: OsKind::Unaware, ..pack() }));
    let scenario = plain();
    let native = Image::packed(&Pack { os: OsKind::Native, ramdisk: None, ..pack() });
    let ran = Boot { image: native, ..Boot::new(&scenario) }.run();
    assert_eq!(ran.boots().reads.len(), 4, "kernel, tree, log, evidence");
}

#[test]
fn a_policy_that_is_none_or_contradicts_itself_is_refused() {
    // No packer makes these: the bytes are changed, the hash of the part and the manifest with them.
    type Change<'a> = &'a dyn Fn(&mut [u8]);
    let forged = |change: Change<'_>| {
        let mut policy = gatehouse::policy::cbor::decode(&pack().policy.unwrap()).unwrap();
        let mut other = policy.rules[0].clone();
        other.name = "bridgez".into();
        policy.rules.push(other);
        let policy = gatehouse::policy::cbor::encode(&policy);
        let mut packed = Pack { policy: Some(policy), ..pack() }.build().unwrap();
        let part = packed.policy.unwrap();
        let at = usize::try_from(part.offset).unwrap();
        let bytes = &mut packed.image_bytes[at..][..usize::try_from(part.len).unwrap()];
        change(bytes);
        let digest: [u8; 32] = Sha256::digest(&*bytes).into();
        let start = usize::try_from(packed.bundle_offset).unwrap();
        let structure = &mut packed.image_bytes[start..][..usize::try_from(packed.structure_len).unwrap()];
        let hash = structure.windows(32).position(|bytes| bytes == part.sha256).unwrap();
        structure[hash..hash + 32].copy_from_slice(&digest);
        packed.manifest_sha256 = Sha256::digest(&*structure).into();
        load(&packed)
    };
    let changes: [Change<'_>; 4] = [
        &|bytes| bytes[0] = 0xf6,
        &|bytes| *bytes.last_mut().unwrap() = 0xff,
        &|bytes| bytes[2] ^= 2,
        // Two rules with one name.
        &|bytes| {
            let at = bytes.windows(7).position(|name| name == b"bridgez").unwrap();
            bytes[at..at + 7].copy_from_slice(b"bridges");
        },
    ];
    for change in changes {
        stops(StopCode::BundlePolicy, |boot| boot.image.bundle = Some(forged(change)));
    }
    let same = forged(&|_| {});
    let scenario = plain();
    let mut boot = Boot::new(&scenario);
    boot.image.bundle = Some(same);
    boot.run().boots();
}

#[test]
fn without_a_policy_the_boot_stops_at_the_first_function_and_says_how_to_make_one() {
    stops(StopCode::NoPolicy, |boot| boot.image = Image::packed(&Pack { policy: None, ..pack() }));
    assert!(StopCode::NoPolicy.text().contains("gatehouse policy init"));
    // A bridge is none: without a function behind it the payload starts.
    let scenario = Scenario::default();
    let image = Image::packed(&Pack { policy: None, ..pack() });
    let ran = Boot { image, functions: vec![SimFunction::host_bridge()], ..Boot::new(&scenario) }.run();
    assert!(ran.result.is_ok(), "{}", ran.log.join("\n"));
}

#[test]
fn a_kernel_without_room_stops_the_boot_and_the_device_is_taken_back() {
    let scenario = plain();
    let boot = Boot::new(&scenario);
    let bundle = boot.image.bundle.unwrap();
    // The heap would begin inside the kernel.
    let top = (bundle.address + bundle.bytes.len() as u64 + (16 << 20)).next_multiple_of(0x1000);
    let ran = Boot { own: range(RAM_BASE, top - 0x1000), ..boot }.run();
    ran.stops(StopCode::KernelRoom);
    assert_eq!(ran.device().validated.len(), 1);
}

#[test]
fn a_function_that_cannot_be_made_quiet_stops_the_boot() {
    let tamper: Tamper = |ipa, _| (ipa == ecam(3, 4)).then_some(0x0406);
    stops(StopCode::NotQuiet, |boot| boot.tamper = Some(tamper));
    let io: Tamper = |ipa, _| (ipa == ecam(1, 4)).then_some(0x0401);
    stops(StopCode::NotQuiet, |boot| boot.tamper = Some(io));
}

#[test]
fn a_function_that_does_not_come_back_from_its_reset_stops_the_boot() {
    // The walk reads each header once: the next look at the id is the wait after the reset.
    let tamper: Tamper = |ipa, model| {
        let accesses = model.final_state().devices[0].counters.config_accesses;
        (ipa == ecam(2, 0) && accesses > 1).then_some(0xffff_ffff)
    };
    let scenario = plain();
    Boot { tamper: Some(tamper), ..Boot::new(&scenario) }.run().stops(StopCode::DeviceReset);
}

#[test]
fn a_capability_list_without_end_stops_the_boot() {
    let tamper: Tamper = |ipa, _| (ipa == ecam(1, 0xd0)).then_some(0xd009);
    stops(StopCode::ConfigSpace, |boot| boot.tamper = Some(tamper));
}

/// Boots on a machine that answers some loads so; the idle check must fail in this way.
#[track_caller]
fn not_idle(code: StopCode, reason: IdleError, tamper: Tamper) {
    let scenario = plain();
    let ran = Boot { tamper: Some(tamper), ..Boot::new(&scenario) }.run();
    ran.stops(code);
    assert_eq!(ran.rejected().unwrap().reason, Reason::Idle(reason));
}

#[test]
fn a_controller_that_does_not_stop_is_refused() {
    let code = StopCode::NotIdle;
    let running = |control, status| IdleError::Running { control, status };
    not_idle(code, running(0, 1), |ipa, _| (ipa == BAR + 0x1c).then_some(1));
    not_idle(code, running(0x46_0001, 0), |ipa, _| match ipa - BAR {
        0x14 => Some(0x46_0001),
        0x1c => Some(0),
        _ => None,
    });
    not_idle(code, IdleError::NoAnswer, |ipa, _| (ipa == BAR + 0x1c).then_some(0xffff_ffff));
    not_idle(code, IdleError::NoAnswer, |ipa, _| (ipa == BAR + 0x14).then_some(0xffff_ffff));
}

#[test]
fn a_function_that_only_says_that_it_is_an_nvme_is_refused() {
    let not_nvme = |cap, version| IdleError::NotNvme { cap, version };
    let (cap, version) = (0x0101_07ff, 0x1_0400);
    let code = StopCode::NoIdleCheck;
    not_idle(code, not_nvme(0x0101_0000, version), |ipa, _| (ipa == BAR).then_some(0x0101_0000));
    not_idle(code, not_nvme(cap, 0xffff), |ipa, _| (ipa == BAR + 8).then_some(0xffff));
    not_idle(code, not_nvme(cap, 0x3_0000), |ipa, _| (ipa == BAR + 8).then_some(0x3_0000));
}

#[test]
fn another_segment_or_another_first_processor_is_refused() {
    let segment = tree(|tree| set(tree, "/pcie@10000000", "linux,pci-domain", 1u32));
    let ran = stops(StopCode::TreeContent, |boot| boot.image = Image::with_tree(&segment));
    assert!(matches!(*ran.result.unwrap_err().reason, StopReason::Segment(1)));
    let cpu = tree(|tree| {
        set(tree, "/cpus/cpu@0", "reg", 2u32);
    });
    let ran = stops(StopCode::TreeContent, |boot| boot.image = Image::with_tree(&cpu));
    assert!(matches!(*ran.result.unwrap_err().reason, StopReason::FirstCpu(2)));
}

#[test]
fn a_record_that_the_rmm_cannot_have_stops_the_boot() {
    // The lock nonce of before the lock; then states that the step before does not lead to.
    let forged: [(StopCode, Forge); 4] = [
        (StopCode::NotUnlockedBefore, |info, _| info[0x18..0x20].fill(5)),
        (StopCode::NotLocked, |info, nth| info[0x40] = if nth == 2 { 2 } else { info[0x40] }),
        (StopCode::StateChanged, |info, nth| info[0x40] = if nth == 3 { 3 } else { info[0x40] }),
        (StopCode::NotStarted, |info, nth| info[0x40] = if nth == 5 { 3 } else { info[0x40] }),
    ];
    let mut scenario = plain();
    scenario.device[0].earlier = rmm_model::scenario::EarlierSession::Unlocked;
    for (code, forge) in forged {
        Boot { forge: Some(forge), ..Boot::new(&scenario) }.run().stops(code);
    }
}

#[test]
fn an_interrupt_that_stays_enabled_is_refused() {
    let tamper: Tamper = |ipa, _| (ipa == ecam(2, 0xd2)).then_some(0x8040);
    let scenario = plain();
    Boot { tamper: Some(tamper), ..Boot::new(&scenario) }.run().stops(StopCode::ConfigReadBack);
}

#[test]
fn a_stop_leaves_the_other_functions_quiet() {
    let scenario = once(rmm_model::scenario::Lie::ErrorAfterRun);
    let mut ran = boot(&scenario);
    ran.stops(StopCode::NotStarted);
    for rid in [0x08, 0x18] {
        assert_eq!(ran.sim.config_read(rid, 4, 2) & 0b111, 0, "{rid:#x}");
    }
    assert_eq!(ran.state.shared, Vec::<Range>::new());
}
