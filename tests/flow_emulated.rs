//! Devices besides PCI, the whole way: the tree of the tests has two virtio-mmio transports in one page, a clock, GPIOs.
mod common;

use common::image::{Image, pack_for, set, tree};
use common::*;
use gatehouse::addr::IpaRange;
use gatehouse::arch::host::ipa_width;
use gatehouse::codes::StopCode;
use gatehouse::fdt::check::Tree;
use gatehouse::phases::{StopReason, TransportFault};
use rmm_model::final_state::TdiState;
use rmm_model::sim::{SimFunction, Transport};
use rmm_model::{Model, Scenario};

const BLOCK: u32 = 2;
const NETWORK: u32 = 1;

/// The plain scenario, with rules besides and lines at the top of the policy.
fn with_rules(head: &str, rules: &str) -> Scenario {
    let mut scenario = plain();
    scenario.bundle.policy_head = head.into();
    scenario.bundle.policy_tail = rules.into();
    scenario
}

fn rule(name: &str, kind: &str, lines: &str) -> String {
    format!("[[rule]]\nname = \"{name}\"\nkind = \"{kind}\"\n{lines}\n")
}

fn block() -> String {
    rule("disk", "virtio-mmio", "virtio = \"block\"\nrequired = false")
}

/// Boots with these device types behind the two transports; no PCI function is extra.
fn boot_with(scenario: &Scenario, types: [u32; 2], change: impl FnOnce(&mut Boot<'_>)) -> Ran {
    let mut boot = Boot::new(scenario);
    boot.functions = vec![SimFunction::host_bridge(), SimFunction::nvme(0x02, 0)];
    boot.transports =
        (TRANSPORTS.iter().zip(types)).map(|(base, device)| Transport::new(*base, device)).collect();
    change(&mut boot);
    boot.run()
}

fn run(head: &str, rules: &str, types: [u32; 2]) -> Ran {
    boot_with(&with_rules(head, rules), types, |_| {})
}

/// The children of the payload's root that a rule besides PCI let in, with the rule.
fn shown(ran: &Ran) -> Vec<(String, String)> {
    let tree = Tree::check(tree_at(ran.boots().tree)).unwrap();
    let reader = tree.reader().unwrap();
    let root = reader.find_node("/").unwrap();
    let text = |value: &[u8]| String::from_utf8(value.strip_suffix(&[0]).unwrap().to_vec()).unwrap();
    let nodes = root.children().filter(|node| node.property("gatehouse,rule").is_some());
    let found: Vec<_> = nodes
        .map(|node| (node.name.to_owned(), text(node.property("gatehouse,rule").unwrap().value)))
        .collect();
    let count = reader.find_node("/chosen/gatehouse").unwrap().property("emulated").unwrap().value;
    assert_eq!(count, (found.len() as u32).to_be_bytes());
    found
}

fn pair(node: &str, rule: &str) -> (String, String) {
    (node.to_owned(), rule.to_owned())
}

fn reset(transport: &Transport) -> bool {
    transport.writes == [(0x70, 0)] && transport.status == 0
}

fn fault(ran: &Ran) -> (u64, TransportFault) {
    match &*ran.result.as_ref().unwrap_err().reason {
        StopReason::Transport { at, fault } => (*at, *fault),
        other => panic!("{other}"),
    }
}

#[test]
fn an_allowed_device_is_shown_and_left_alone_and_its_neighbour_is_reset_and_hidden() {
    let ran = run("", &block(), [NETWORK, BLOCK]);
    assert_eq!(shown(&ran), [pair("virtio_mmio@a000200", "disk")]);
    assert!(reset(&ran.sim.transports[0]));
    assert_eq!(ran.sim.transports[1].writes, []);
    assert!(ran.device().state == TdiState::Run, "the others are none the worse for it");
}

#[test]
fn an_empty_transport_is_neither_touched_nor_shown() {
    let any = rule("any", "virtio-mmio", "required = false\ncount = 2");
    let ran = run("rest = \"stop\"", &any, [0, BLOCK]);
    assert_eq!(shown(&ran), [pair("virtio_mmio@a000200", "any")]);
    assert_eq!(ran.sim.transports[0].writes, []);
}

#[test]
fn rules_take_devices_in_their_order_up_to_their_count() {
    let any = rule("any", "virtio-mmio", "required = false");
    let ran = run("", &(block() + &any), [BLOCK, BLOCK]);
    assert_eq!(shown(&ran), [pair("virtio_mmio@a000000", "disk"), pair("virtio_mmio@a000200", "any")]);
    let ran = run("", &block(), [BLOCK, BLOCK]);
    assert_eq!(shown(&ran), [pair("virtio_mmio@a000000", "disk")]);
    assert!(reset(&ran.sim.transports[1]));
    let two = rule("two", "virtio-mmio", "virtio = \"block\"\ncount = 2");
    let ran = run("", &two, [BLOCK, BLOCK]);
    assert_eq!(shown(&ran).len(), 2);
}

#[test]
fn a_rule_that_hides_takes_its_device_and_resets_it() {
    let hide = rule("off", "virtio-mmio", "required = false\nmodes = [\"hide\"]");
    let clock = rule("clock", "platform", "compatible = \"arm,pl031\"\nrequired = false\nmodes = [\"hide\"]");
    let ran = run("rest = \"stop\"", &(hide + &clock), [BLOCK, 0]);
    assert_eq!(shown(&ran), []);
    assert!(reset(&ran.sim.transports[0]));
}

#[test]
fn an_extra_device_stops_the_boot_where_the_policy_says_so() {
    let ran = run("rest = \"stop\"", &block(), [BLOCK, NETWORK]);
    ran.stops(StopCode::ExtraFunction);
    assert_eq!(fault(&ran), (TRANSPORTS[1], TransportFault::Extra));
    assert!(reset(&ran.sim.transports[1]));
}

#[test]
fn a_required_device_that_is_not_there_stops_the_boot() {
    let needed = rule("disks", "virtio-mmio", "virtio = \"block\"\ncount = 2");
    let ran = run("", &needed, [BLOCK, NETWORK]);
    ran.stops(StopCode::RequiredMissing);
    let reason = ran.result.unwrap_err().reason.to_string();
    assert_eq!(reason, "rule disks wants 2 functions, 1 fit");
    let clock = rule("clock", "platform", "compatible = \"arm,pl030\"");
    run("", &clock, [0, 0]).stops(StopCode::RequiredMissing);
}

#[test]
fn a_platform_device_is_shown_with_its_clock() {
    let clock = rule("clock", "platform", "compatible = \"arm,pl031\"");
    // A rule for any transport does not take it.
    let any = rule("any", "virtio-mmio", "required = false");
    let ran = run("rest = \"stop\"", &(any + &clock), [0, 0]);
    assert_eq!(shown(&ran), [pair("platform@9010000", "clock")]);
    let tree = Tree::check(tree_at(ran.boots().tree)).unwrap();
    let reader = tree.reader().unwrap();
    let node = reader.find_node("/platform@9010000").unwrap();
    assert_eq!(node.property("compatible").unwrap().value, b"arm,pl031\0arm,primecell\0");
    assert_eq!(node.property("clocks").unwrap().value, [0, 0, 0x80, 0]);
    assert!(reader.find_node("/clock-0").is_some() && reader.find_node("/clock-1").is_none());
}

#[test]
fn platform_rules_take_nodes_in_their_order_too() {
    let first = rule("gpio", "platform", "compatible = \"arm,pl061\"\nrequired = false");
    let all = rule("cells", "platform", "compatible = \"arm,primecell\"\nrequired = false");
    let ran = run("", &(first + &all), [0, 0]);
    assert_eq!(shown(&ran), [pair("platform@9030000", "gpio"), pair("platform@9010000", "cells")]);
}

#[test]
fn a_rule_that_names_a_part_of_the_machine_takes_nothing() {
    for name in ["arm,gic-v3", "arm,pl011", "pci-host-ecam-generic", "virtio,mmio"] {
        let lines = format!("compatible = \"{name}\"");
        run("", &rule("gic", "platform", &lines), [BLOCK, 0]).stops(StopCode::RequiredMissing);
        let ran = run("", &rule("gic", "platform", &(lines + "\nrequired = false")), [BLOCK, 0]);
        assert_eq!(shown(&ran), []);
    }
}

#[test]
fn what_is_no_virtio_or_does_not_reset_stops_the_boot() {
    let changes: [fn(&mut Transport); 3] = [|t| t.magic = !0, |t| t.version = 3, |t| t.version = 0];
    for change in changes {
        let ran = boot_with(&with_rules("", ""), [0, 0], |boot| change(&mut boot.transports[1]));
        ran.stops(StopCode::TreeContent);
        assert_eq!(fault(&ran), (TRANSPORTS[1], TransportFault::NotVirtio));
    }
    let ran = boot_with(&with_rules("", ""), [BLOCK, 0], |boot| boot.transports[0].slow = u32::MAX);
    ran.stops(StopCode::NotQuiet);
    assert_eq!(fault(&ran), (TRANSPORTS[0], TransportFault::NotReset));
    let ran = boot_with(&with_rules("", ""), [BLOCK, 0], |boot| boot.transports[0].slow = 5);
    assert_eq!(shown(&ran), []);
    // The legacy interface is virtio too.
    let ran = boot_with(&with_rules("", &block()), [BLOCK, 0], |boot| boot.transports[0].version = 1);
    assert_eq!(shown(&ran).len(), 1);
}

/// Says whether the type of a transport is read when the device runs.
fn is_second_look(ipa: u64, model: &Model, base: u64) -> bool {
    let state = model.final_state();
    let is_running = state.device(SLOT).is_some_and(|device| device.state == TdiState::Run);
    is_running && ipa == ipa_width().alias_bit() | (base + 8)
}

#[test]
fn a_device_that_changes_vanishes_or_appears_before_the_handoff_is_seen() {
    let cases: [(u64, Tamper); 3] = [
        (TRANSPORTS[0], |ipa, model| is_second_look(ipa, model, TRANSPORTS[0]).then_some(NETWORK.into())),
        (TRANSPORTS[0], |ipa, model| is_second_look(ipa, model, TRANSPORTS[0]).then_some(0)),
        (TRANSPORTS[1], |ipa, model| is_second_look(ipa, model, TRANSPORTS[1]).then_some(BLOCK.into())),
    ];
    for (at, tamper) in cases {
        let scenario = with_rules("", &block());
        let ran = boot_with(&scenario, [BLOCK, 0], |boot| boot.tamper = Some(tamper));
        ran.stops(StopCode::InventoryChanged);
        assert_eq!(fault(&ran), (at, TransportFault::Changed));
    }
}

#[test]
fn without_a_policy_they_are_reset_and_hidden_and_stop_nothing() {
    let mut scenario = plain();
    scenario.bundle.no_policy = true;
    scenario.device.clear();
    let ran =
        boot_with(&scenario, [BLOCK, NETWORK], |boot| boot.functions = vec![SimFunction::host_bridge()]);
    assert!(ran.result.is_ok(), "{}", ran.log.join("\n"));
    assert!(ran.sim.transports.iter().all(reset));
}

#[test]
fn an_audit_shows_nothing_and_names_them() {
    let needed = rule("disks", "virtio-mmio", "virtio = \"console\"");
    let ran = run("audit = true\nrest = \"stop\"", &(needed + &block()), [BLOCK, 0]);
    ran.stops(StopCode::AuditBoot);
    assert!(reset(&ran.sim.transports[0]));
    let line = "emulated virtio_mmio@a000000: type 2, rule none";
    assert!(ran.log.iter().any(|said| said.contains(line)), "{}", ran.log.join("\n"));
}

#[test]
fn a_malformed_node_stops_the_boot_and_so_does_a_page_that_cannot_be_mapped() {
    let scenario = with_rules("", "");
    let bytes = tree(|tree| set(tree, "/virtio_mmio@a000000", "interrupts", vec![0u32, 1]));
    boot_with(&scenario, [0, 0], |boot| boot.image = with_tree(&scenario, &bytes))
        .stops(StopCode::TreeContent);
    let page = IpaRange::new(TRANSPORTS[0], 0x1000).unwrap();
    let ran = boot_with(&scenario, [0, 0], |boot| boot.firmware = Some(page));
    ran.stops(StopCode::TreeContent);
}

fn with_tree(scenario: &Scenario, bytes: &[u8]) -> Image {
    Image { tree: Image::with_tree(bytes).tree, ..Image::packed(&pack_for(scenario)) }
}
