//! Several devices in one boot: one after the other, each on its own; a refused one leaves the others as they are.
mod common;

use common::image::Image;
use common::machine;
use common::*;
use gatehouse::codes::StopCode;
use rmm_model::Scenario;
use rmm_model::final_state::TdiState;
use rmm_model::machine::DmaGate;
use rmm_model::record::Event;
use rmm_model::scenario::{DeviceModel, DeviceSpec, Lie, Misbehaviour, ObjectKind, RhiCall, RsiCall, Rule};
use rmm_model::sim::SimFunction;

/// On bus 0, behind a root port, on bus 0 again.
const FIRST: &str = "02.0";
const SECOND: &str = "04.0/00.0";
const THIRD: &str = "05.0";
const SLOTS: [&str; 3] = [FIRST, SECOND, THIRD];

fn machine() -> Vec<SimFunction> {
    vec![
        SimFunction::host_bridge(),
        SimFunction::virtio_net(0x01, 0),
        SimFunction::nvme(0x02, 0),
        SimFunction::edu(0x03, 0),
        SimFunction::root_port(0x04, 0),
        SimFunction::nvme(0x00, 0).behind(4),
        SimFunction::nvme(0x05, 0),
    ]
}

fn scenario(second: Second, lies: &[Misbehaviour]) -> Scenario {
    let rule = |slot| match second {
        Second::Optional if slot == SECOND => Rule::Optional,
        _ => Rule::Require,
    };
    let device =
        SLOTS.map(|slot| DeviceSpec { slot: slot.into(), rule: rule(slot), ..DeviceSpec::default() });
    Scenario { device: device.to_vec(), misbehaviour: lies.to_vec(), ..Scenario::default() }
}

/// Boots the three with the second one optional, or all required.
fn run(second: Second, lies: &[Misbehaviour]) -> Ran {
    let scenario = scenario(second, lies);
    Boot { functions: machine(), rndr: false, ..Boot::new(&scenario) }.run()
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Second {
    Required,
    Optional,
}

fn of(lie: Lie, slot: &str) -> Misbehaviour {
    Misbehaviour { device: slot.into(), ..Misbehaviour::once(lie) }
}

/// Demands that these run with private DMA and all others were taken back.
#[track_caller]
fn runs(ran: &Ran, slots: &[&str]) {
    let log = ran.log.join("\n");
    if let Err(stop) = &ran.result {
        panic!("{stop}\n{log}");
    }
    ran.is_sound();
    assert!(ran.state.shared.is_empty() && ran.mapped.is_empty());
    for device in &ran.state.devices {
        if slots.contains(&device.slot.as_str()) {
            assert_eq!(
                (device.state, device.dma),
                (TdiState::Run, DmaGate::PrivateOnly),
                "{}\n{log}",
                device.slot
            );
            assert_eq!(device.command, 0b110);
            assert!(!device.dev_ranges.is_empty() && device.tee_aliases.is_empty());
        } else {
            ran.is_taken_back(device);
        }
    }
}

/// Demands a stop with this code, nothing leaked, every device taken back.
#[track_caller]
fn stops(ran: &Ran, code: StopCode) {
    ran.stops_with(code, &[]);
    assert!(ran.state.shared.is_empty() && ran.mapped.is_empty());
    ran.state.devices.iter().for_each(|device| ran.is_taken_back(device));
}

fn order(ran: &Ran, name: &str) -> Vec<u64> {
    ran.calls().iter().filter(|call| call.0 == name).map(|call| call.1[0]).collect()
}

#[test]
fn all_are_attested_one_after_the_other_in_inventory_order() {
    let ran = run(Second::Required, &[]);
    runs(&ran, &SLOTS);
    // Bus by bus.
    let ids = [0x10, 0x28, 0x100];
    assert_eq!(order(&ran, "RSI_VDEV_DMA_ENABLE"), ids);
    assert_eq!(order(&ran, "RHI_DA_VDEV_GET_INTERFACE_REPORT"), ids);
    let enables: Vec<usize> = ran
        .sim
        .events()
        .enumerate()
        .filter(|(_, event)| matches!(event, Event::Rsi { call, .. } if call == "RSI_VDEV_DMA_ENABLE"))
        .map(|(at, _)| at)
        .collect();
    // No device has DMA before every device is in RUN and idle.
    let last_config_or_rhi = ran
        .sim
        .events()
        .enumerate()
        .filter(|(_, event)| matches!(event, Event::Rhi { .. } | Event::Config { .. }))
        .map(|(at, _)| at)
        .max()
        .unwrap();
    assert!(enables.iter().all(|at| *at > last_config_or_rhi));
    let bars: Vec<_> = ran.state.devices.iter().flat_map(|device| &device.dev_ranges).collect();
    for (i, one) in bars.iter().enumerate() {
        assert!(bars[i + 1..].iter().all(|other| one.top() <= other.ipa || other.top() <= one.ipa));
    }
}

#[test]
fn the_tree_shows_the_bridge_and_behind_it_its_function() {
    let ran = run(Second::Required, &[]);
    runs(&ran, &SLOTS);
    let blob = tree_at(ran.result.as_ref().unwrap().tree);
    let tree = fdt::Fdt::new(&blob).unwrap();
    let bridge = tree.find_compatible(&["gatehouse,pci-host-ecam"]).unwrap();
    let names: Vec<_> = bridge.children().map(|node| node.name).collect();
    assert_eq!(names, ["nvme@2,0", "nvme@5,0", "pci@4,0"]);
    let port = bridge.children().nth(2).unwrap();
    assert_eq!(port.property("bus-range").unwrap().value, [0, 0, 0, 1, 0, 0, 0, 1]);
    assert_eq!(port.children().map(|node| node.name).collect::<Vec<_>>(), ["nvme@0,0"]);
    let chosen = tree.find_node("/chosen/gatehouse").unwrap();
    assert_eq!(chosen.property("accepted").unwrap().value, [0, 0, 0, 3]);
}

/// A lie for each step of the way, told of the second device, and the code of its refusal.
fn lies_of_the_way() -> Vec<(Lie, StopCode)> {
    use gatehouse::codes::StopCode::*;
    let rsi = |call, status| Lie::RsiStatus { call, status };
    let rhi = |call| Lie::RhiStatus { call, status: 6 };
    vec![
        (Lie::BarReadback { bar: 0, xor: 0x10_0000 }, BarReadBack),
        (rhi(RhiCall::DaVdevSetTdiState), LockFailed),
        (rsi(RsiCall::VdevGetInfo, 4), VdevInfo),
        (rhi(RhiCall::DaVdevGetInterfaceReport), CollectFailed),
        (rhi(RhiCall::DaVdevGetMeasurements), CollectFailed),
        (Lie::ObjectMissing { object: ObjectKind::Certificate }, ObjectMissing),
        (Lie::ObjectByte { object: ObjectKind::Report, offset: 20, xor: 1 }, ReportDigest),
        (Lie::ReportRangePastBar, ReportPastBar),
        (rsi(RsiCall::VdevValidateMapping, 5), MappingStaleNonce),
        (Lie::ValidateReject { after_pages: 1 }, MappingRejected),
        (Lie::ErrorAfterRun, NotStarted),
    ]
}

#[test]
fn a_refused_optional_device_leaves_the_others_untouched() {
    for (lie, code) in lies_of_the_way() {
        let ran = run(Second::Optional, &[of(lie, SECOND)]);
        runs(&ran, &[FIRST, THIRD]);
        let said = format!("the boot goes on: {code}");
        assert!(ran.log.iter().any(|line| line.contains(&said)), "{lie:?}: {}", ran.log.join("\n"));
        let blob = tree_at(ran.result.as_ref().unwrap().tree);
        let tree = fdt::Fdt::new(&blob).unwrap();
        assert!(!blob.windows(6).any(|name| name == b"pci@4,"), "{lie:?}: the bridge leads to nothing");
        let chosen = tree.find_node("/chosen/gatehouse").unwrap();
        assert_eq!(chosen.property("accepted").unwrap().value, [0, 0, 0, 2], "{lie:?}");
        // What the others were asked is the same as without the second one's refusal.
        let calls = |ran: &Ran, id: u64| -> Vec<String> {
            let of = ran.calls().into_iter().filter(|(name, args, _)| {
                args.first() == Some(&id) && (name.starts_with("RSI_VDEV") || name.starts_with("RHI_DA_VDEV"))
            });
            of.map(|call| call.0.to_owned()).collect()
        };
        let plain = run(Second::Optional, &[]);
        for id in [0x10, 0x28] {
            assert_eq!(calls(&ran, id), calls(&plain, id), "{lie:?}");
        }
    }
}

#[test]
fn a_refused_required_device_takes_every_other_back() {
    for slot in SLOTS {
        for (lie, code) in lies_of_the_way() {
            stops(&run(Second::Required, &[of(lie, slot)]), code);
        }
    }
}

#[test]
fn dma_that_is_not_enabled_stops_the_boot_even_for_an_optional_device() {
    let lie = Lie::RsiStatus { call: RsiCall::VdevDmaEnable, status: 5 };
    for slot in SLOTS {
        stops(&run(Second::Optional, &[of(lie, slot)]), StopCode::DmaEnableFailed);
    }
}

#[test]
fn an_optional_device_that_cannot_be_taken_back_stops_the_boot() {
    let forged = Lie::ObjectByte { object: ObjectKind::Report, offset: 20, xor: 1 };
    let ran = run(Second::Optional, &[of(forged, SECOND), of(Lie::UnlockFails, SECOND)]);
    ran.stops_with(StopCode::ReportDigest, &["RHI_DA_VDEV_SET_TDI_STATE failed"]);
    for slot in [FIRST, THIRD] {
        ran.is_taken_back(ran.state.device(slot).unwrap());
    }
}

#[test]
fn a_missing_optional_device_is_not_waited_for_and_a_missing_required_one_stops() {
    let run = |second: Second| {
        let mut without = scenario(second, &[]);
        let image = Image::of(&without);
        without.device.remove(1);
        let mut functions = machine();
        functions.remove(5);
        Boot { image, functions, rndr: false, ..Boot::new(&without) }.run()
    };
    runs(&run(Second::Optional), &[FIRST, THIRD]);
    let ran = run(Second::Required);
    stops(&ran, StopCode::RequiredMissing);
}

#[test]
fn each_call_of_three_devices_fails_once_and_leaves_nothing_behind() {
    // The way of this boot, as (call, how often).
    let plain = run(Second::Optional, &[]);
    runs(&plain, &SLOTS);
    let count = |name: &str| u32::try_from(order(&plain, name).len()).unwrap();
    let mut cases = Vec::new();
    for (name, call) in [
        ("RSI_IPA_STATE_SET", RsiCall::IpaStateSet),
        ("RSI_IPA_STATE_GET", RsiCall::IpaStateGet),
        ("RSI_HOST_CALL", RsiCall::HostCall),
        ("RSI_VDEV_GET_INFO", RsiCall::VdevGetInfo),
        ("RSI_VDEV_VALIDATE_MAPPING", RsiCall::VdevValidateMapping),
        ("RSI_VDEV_DMA_ENABLE", RsiCall::VdevDmaEnable),
    ] {
        cases.extend((1..=count(name)).map(|nth| (Lie::RsiStatus { call, status: 4 }, nth)));
    }
    for (name, call) in [
        ("RHI_DA_VDEV_SET_TDI_STATE", RhiCall::DaVdevSetTdiState),
        ("RHI_DA_VDEV_GET_INTERFACE_REPORT", RhiCall::DaVdevGetInterfaceReport),
        ("RHI_DA_VDEV_GET_MEASUREMENTS", RhiCall::DaVdevGetMeasurements),
        ("RHI_DA_OBJECT_SIZE", RhiCall::DaObjectSize),
        ("RHI_DA_OBJECT_READ", RhiCall::DaObjectRead),
    ] {
        cases.extend((1..=count(name)).map(|nth| (Lie::RhiStatus { call, status: 6 }, nth)));
    }
    assert!(cases.len() > 80, "{}", cases.len());
    let (mut went_on, mut stopped) = (0, 0);
    for (lie, nth) in cases {
        let ran = run(Second::Optional, &[Misbehaviour::at(lie, nth)]);
        if ran.result.is_ok() {
            went_on += 1;
            runs(&ran, &[FIRST, THIRD]);
        } else {
            stopped += 1;
            let is_unshare = ran.leaks().iter().any(|leak| leak.starts_with("the shared window"));
            assert!(is_unshare || ran.leaks().is_empty(), "{lie:?} {nth}: {:?}", ran.leaks());
            ran.state.devices.iter().for_each(|device| ran.is_taken_back(device));
            assert!(is_unshare || ran.state.shared.is_empty());
            ran.is_sound();
        }
    }
    assert!(went_on > 10 && stopped > 40, "{went_on} went on, {stopped} stopped");
}

#[test]
fn a_device_that_the_boot_can_do_without_takes_no_address_from_one_that_it_needs() {
    let edu = DeviceSpec {
        slot: "03.0".into(),
        model: DeviceModel::Edu,
        quiet_device: true,
        ..DeviceSpec::default()
    };
    for rule in [Rule::Optional, Rule::Shared] {
        // It comes first on the bus, and asks for all that there is below 4 GiB.
        let greedy = SimFunction::endpoint(1, 0).with_bar(0, 0x1000_0000, false, false);
        let first = DeviceSpec { slot: "01.0".into(), rule, tdi: false, ..DeviceSpec::default() };
        // The model gives no real address to it: the realm never comes so far.
        let asked = Scenario { device: vec![first, edu.clone()], ..Scenario::default() };
        let scenario = Scenario { device: vec![edu.clone()], ..Scenario::default() };
        let image = Image::of(&asked);
        let functions = vec![SimFunction::host_bridge(), greedy, SimFunction::edu(3, 0)];
        let ran = Boot { image, functions, ..Boot::new(&scenario) }.run();
        runs(&ran, &["03.0"]);
        assert!(ran.log.iter().any(|line| line.contains("00:01.0") && line.contains("no room")));
    }
}

#[test]
fn the_payload_starts_without_a_device_when_none_is_required() {
    let forged = Lie::ObjectByte { object: ObjectKind::Report, offset: 20, xor: 1 };
    let mut scenario = once(forged);
    scenario.device[0].rule = Rule::Optional;
    let ran = Boot::new(&scenario).run();
    runs(&ran, &[]);
    let blob = tree_at(ran.result.as_ref().unwrap().tree);
    let tree = fdt::Fdt::new(&blob).unwrap();
    let chosen = tree.find_node("/chosen/gatehouse").unwrap();
    assert_eq!(chosen.property("accepted").unwrap().value, [0; 4]);
    let bridge = tree.find_compatible(&["gatehouse,pci-host-ecam"]).unwrap();
    assert_eq!(bridge.children().count(), 0);
}

/// The plain NVMe and, at 04.0, a virtio-blk that is shared: scenario and functions.
fn beside_shared(lies: &[Misbehaviour]) -> (Scenario, Vec<SimFunction>) {
    let shared = DeviceSpec {
        slot: "04.0".into(),
        model: DeviceModel::VirtioBlk,
        rule: Rule::Shared,
        tdi: false,
        ..DeviceSpec::default()
    };
    let mut scenario = lying(lies);
    scenario.device.push(shared);
    let mut functions = functions();
    functions.push(SimFunction::virtio_blk(4, 0));
    (scenario, functions)
}

#[test]
fn a_tree_that_cannot_be_built_takes_started_devices_back_and_quiets_shared_ones() {
    let (scenario, functions) = beside_shared(&[]);
    let mut image = Image::of(&scenario);
    // More interrupts than are taken over: found when the tree is written, with every device in RUN.
    let blob = image::tree(|_| {});
    let host = fdt::Fdt::new(&blob).unwrap();
    let map = host.find_node("/pcie@10000000").unwrap().property("interrupt-map").unwrap().value;
    let cells = map.as_chunks().0.iter().map(|cell| u32::from_be_bytes(*cell)).collect::<Vec<_>>().repeat(30);
    let bytes = image::tree(|tree| image::set(tree, "/pcie@10000000", "interrupt-map", cells));
    image.tree = image::place(&bytes, 4096);
    let ran = Boot { image, functions, ..Boot::new(&scenario) }.run();
    ran.stops_with(StopCode::FinalTree, &[]);
    assert!(ran.log.iter().any(|line| line.contains("mapped -> run")), "{}", ran.log.join("\n"));
    ran.state.devices.iter().for_each(|device| ran.is_taken_back(device));
}

#[test]
fn a_shared_function_that_cannot_be_placed_is_hidden_and_quiet() {
    // The second is found when it decodes already.
    for lie in [Lie::BarReadback { bar: 1, xor: 0x10_0000 }, Lie::CommandStuck { mask: 4 }] {
        let lie = Misbehaviour { device: "04.0".into(), ..Misbehaviour::always(lie) };
        let (scenario, functions) = beside_shared(&[lie]);
        let ran = Boot { functions, ..Boot::new(&scenario) }.run();
        runs(&ran, &[SLOT]);
        assert!(
            ran.log.iter().any(|line| line.contains("00:04.0: rule slot-04.0: cannot be shared, hidden"))
        );
        let blob = tree_at(ran.result.as_ref().unwrap().tree);
        let tree = fdt::Fdt::new(&blob).unwrap();
        let chosen = tree.find_node("/chosen/gatehouse").unwrap();
        assert_eq!(chosen.property("shared").unwrap().value, [0; 4]);
    }
}

#[test]
fn buses_that_the_firmware_numbered_itself_are_found_again_before_the_hand_off() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/scenarios/bus-numbers-none.toml");
    let scenario = machine::read(path.as_ref());
    let ran = Boot { functions: machine::functions(&scenario), ..Boot::new(&scenario) }.run();
    assert!(ran.result.is_ok(), "{}", ran.log.join("\n"));
}
