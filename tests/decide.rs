//! The decision: which rule takes a function by what its evidence proves, and what that rule makes of it. Each case is a boot
//! in the model; what it decided is read from the log, what it did from the machine.
mod common;

use common::*;
use gatehouse::codes::StopCode;
use gatehouse::digest::Digest;
use gatehouse::evidence::Chain;
use gatehouse::rsi::HashAlgorithm;
use rmm_model::Scenario;
use rmm_model::final_state::TdiState;
use rmm_model::scenario::{BlockSpec, ConfigAccess, DeviceSpec, EvidenceKind, SpdmSpec, default_blocks};
use rmm_model::sim::SimFunction;
use std::slice;

const CHAINS: [&[u8]; 3] = [
    include_bytes!("data/pki/p384/chain-00.der"),
    include_bytes!("data/pki/p384/chain-01.der"),
    include_bytes!("data/pki/p384/chain-02.der"),
];

fn sha384(bytes: &[u8]) -> String {
    Digest::of(HashAlgorithm::Sha384, &[bytes]).to_string()
}

/// The digest of a unit's leaf key, as a policy names it.
fn leaf_key(unit: usize) -> String {
    sha384(Chain::parse(CHAINS[unit], HashAlgorithm::Sha384).unwrap().leaf().key.spki())
}

/// An NVMe with this leaf, at its place.
fn unit(slot: &str, unit: u8) -> DeviceSpec {
    let spdm = SpdmSpec { unit: Some(unit), ..SpdmSpec::default() };
    DeviceSpec { slot: slot.into(), spdm, ..DeviceSpec::default() }
}

/// One rule: its name, and lines with `;` between.
fn rule(name: &str, lines: &str) -> String {
    let measured = lines.contains("measurement") || lines.contains("platform");
    let any = if measured { "" } else { "measurements = \"any\"\n" };
    format!("[[rule]]\nname = \"{name}\"\nclass = \"010802\"\n{any}{}\n", lines.replace("; ", "\n"))
}

/// The scenario with these devices on the root bus, and a policy with the test root.
fn scenario(devices: &[DeviceSpec], head: &str, rules: &[String]) -> Scenario {
    let chain = Chain::parse(CHAINS[0], HashAlgorithm::Sha384).unwrap();
    let root = sha384(chain.certificates().next().unwrap().der);
    let mut scenario = Scenario { device: devices.to_vec(), ..Scenario::default() };
    scenario.bundle.policy = format!(
        "version = 1\n{head}\n[[anchor]]\nname = \"root\"\ncertificate = \"{root}\"\n{}",
        rules.concat()
    );
    scenario
}

fn run(scenario: &Scenario) -> Ran {
    let mut functions = vec![SimFunction::host_bridge()];
    for device in &scenario.device {
        let number = u8::from_str_radix(&device.slot[..2], 16).unwrap();
        functions.push(SimFunction::nvme(number, 0));
    }
    let ran = Boot { functions, ..Boot::new(scenario) }.run();
    ran.is_sound();
    for device in &ran.state.devices {
        let accepted = format!("at {}: rule ", device.slot);
        let is_run = |line: &String| line.contains(&accepted) && line.ends_with(": accepted, mode run");
        let runs = ran.result.is_ok() && ran.log.iter().any(is_run);
        assert_eq!(device.state == TdiState::Run, runs, "{device:?}\n{}", ran.log.join("\n"));
    }
    ran
}

/// What was decided: slot, rule, and the mode or the code, in the order of the inventory.
fn decided(ran: &Ran) -> Vec<String> {
    let decision = |line: &String| {
        let (_, rest) = line.strip_prefix("policy ")?.split_once(" at ")?;
        let (slot, rest) = rest.split_once(": rule ")?;
        let (rule, rest) = rest.split_once(": ")?;
        let end = match rest.strip_prefix("accepted, mode ") {
            Some(mode) => mode,
            None => rest.strip_prefix("refused, ")?.get(..7)?,
        };
        Some(format!("{slot} {rule} {end}"))
    };
    ran.log.iter().filter_map(decision).collect()
}

/// Boots, and demands these decisions.
#[track_caller]
fn decides(devices: &[DeviceSpec], rules: &[String], want: &[&str]) -> Ran {
    let ran = run(&scenario(devices, "", rules));
    assert_eq!(decided(&ran), want, "{}", ran.log.join("\n"));
    ran
}

#[test]
fn the_leaf_key_chooses_the_rule_wherever_the_unit_stands() {
    let rules = |key: &dyn Fn(usize) -> String| {
        [
            rule("first", &format!("leaf-key = \"{}\"", key(0))),
            rule("second", &format!("leaf-key = \"{}\"", key(1))),
        ]
    };
    let rules = rules(&leaf_key);
    decides(&[unit("02.0", 0), unit("04.0", 1)], &rules, &["02.0 first run", "04.0 second run"]);
    decides(&[unit("02.0", 1), unit("04.0", 0)], &rules, &["02.0 second run", "04.0 first run"]);
}

#[test]
fn serial_and_subject_choose_the_rule_too() {
    let rules =
        [rule("serial", "serial = \"47:48:03:84:01\""), rule("subject", "subject = \"CN=ACME NVME 0001,*\"")];
    decides(&[unit("02.0", 0), unit("04.0", 1)], &rules, &["02.0 subject run", "04.0 serial run"]);
    // Both fields of one rule have to fit.
    let both = [
        rule("both", "subject = \"*0002,*\"; serial = \"47:48:03:84:00\"; required = false"),
        rule("any", "required = false"),
    ];
    decides(&[unit("02.0", 0)], &both, &["02.0 any run"]);
    // A rule takes a unit by any of its keys and serial numbers.
    let either = format!("serial = \"47:48:03:84:01\"; leaf-key = \"{}\"; count = 2", leaf_key(0));
    decides(
        &[unit("02.0", 0), unit("04.0", 1)],
        &[rule("either", &either)],
        &["02.0 either run", "04.0 either run"],
    );
}

#[test]
fn the_first_rule_with_room_takes_the_function() {
    let rules = [rule("one", "subject = \"CN=ACME*\""), rule("two", "subject = \"CN=ACME*\"; count = 2")];
    let devices = [unit("02.0", 0), unit("04.0", 1), unit("05.0", 2)];
    decides(&devices, &rules, &["02.0 one run", "04.0 two run", "05.0 two run"]);
}

#[test]
fn no_later_rule_is_asked_about_what_fails_the_first() {
    let mut old = unit("02.0", 0);
    old.spdm.blocks = vec![BlockSpec { index: 5, kind: 7, raw: true, svn: Some(6), ..BlockSpec::default() }];
    let rules = [
        rule(
            "strict",
            "subject = \"CN=ACME*\"; required = false; [[rule.measurement]]; index = 5; min-svn = 7",
        ),
        rule("lax", "required = false"),
    ];
    decides(&[old.clone(), unit("04.0", 1)], &rules, &["02.0 strict GH-4142", "04.0 lax run"]);
    decides(&[unit("02.0", 0)], &rules, &["02.0 strict run"]);
    // What proves to be nobody fails the first rule as well.
    old.spdm.chain =
        Some(rmm_model::scenario::Blob::bytes(include_bytes!("data/pki/defects/other-root.der")));
    old.spdm.key = Some(rmm_model::scenario::Blob::bytes(include_bytes!("data/pki/defects/other-root.key")));
    decides(&[old], &rules, &["02.0 strict GH-4101"]);
}

#[test]
fn more_than_the_count_is_refused_as_the_policy_says_of_the_rest() {
    let rules = [rule("one", "subject = \"CN=ACME*\"; required = false")];
    let devices = [unit("02.0", 0), unit("04.0", 1)];
    let ran = decides(&devices, &rules, &["02.0 one run", "04.0 none GH-4153"]);
    assert!(ran.result.is_ok());
    let ran = run(&scenario(&devices, "rest = \"stop\"", &rules));
    ran.stops_with(StopCode::NoRoomInRule, &[]);
}

#[test]
fn a_unit_of_another_place_is_told_from_an_unknown_one() {
    let pinned = |slot: &str, unit| {
        rule(&format!("at-{slot}"), &format!("slot = \"{slot}\"; leaf-key = \"{}\"", leaf_key(unit)))
    };
    let rules = [pinned("02.0", 0), pinned("04.0", 1)];
    let ran =
        decides(&[unit("02.0", 1), unit("04.0", 0)], &rules, &["02.0 none GH-4151", "04.0 none GH-4151"]);
    assert_eq!(ran.code(), Some(StopCode::UnitElsewhere));
    assert!(ran.log.iter().any(|line| line.contains("belongs to rule at-04.0")), "{}", ran.log.join("\n"));
    let ran =
        decides(&[unit("02.0", 0), unit("04.0", 2)], &rules, &["02.0 at-02.0 run", "04.0 none GH-4150"]);
    assert_eq!(ran.code(), Some(StopCode::UnknownUnit));
    // The key that it has is told, as a policy would name it.
    assert!(ran.log.iter().any(|line| line.contains(&leaf_key(2))), "{}", ran.log.join("\n"));
}

#[test]
fn one_leaf_under_two_functions_needs_the_word_of_both_rules() {
    let devices = [unit("02.0", 0), unit("04.0", 0)];
    let rules = |first: &str, second: &str| {
        [rule("a", &format!("slot = \"02.0\"{first}")), rule("b", &format!("slot = \"04.0\"{second}"))]
    };
    const SAME: &str = "; same-unit = true";
    decides(&devices, &rules(SAME, SAME), &["02.0 a run", "04.0 b run"]);
    for (first, second) in [("", ""), (SAME, ""), ("", SAME)] {
        let ran = decides(&devices, &rules(first, second), &["02.0 a run", "04.0 b GH-4152"]);
        assert_eq!(ran.code(), Some(StopCode::SameUnit));
    }
    // Also when the first of them was refused: it has been seen.
    let mut changed = devices.clone();
    changed[0].spdm.content_changed = 1;
    let optional = rules("; required = false", "; required = false");
    decides(&changed, &optional, &["02.0 a GH-4130", "04.0 b GH-4152"]);
}

/// A bug once: a function that fits two required rules by the host's word was counted for both.
#[test]
fn a_required_rule_that_nobody_has_filled_stops_the_boot() {
    let wanted = format!("leaf-key = \"{}\"", leaf_key(2));
    let rules = [rule("wanted", &wanted), rule("spare", "required = false; count = 2")];
    let devices = [unit("02.0", 0), unit("04.0", 1)];
    let ran = decides(&devices, &rules, &["02.0 spare run", "04.0 spare run"]);
    ran.stops_with(StopCode::RequiredMissing, &[]);
    ran.state.devices.iter().for_each(|device| ran.is_taken_back(device));
    // One function for two rules that are required.
    let rules = [rule("unit", &format!("leaf-key = \"{}\"", leaf_key(0))), rule("another", "")];
    decides(&devices[..1], &rules, &["02.0 unit run"]).stops_with(StopCode::RequiredMissing, &[]);
    let ran = decides(&devices, &rules, &["02.0 unit run", "04.0 another run"]);
    assert!(ran.result.is_ok());
    // A lax rule in front does not hide that a required one behind it has nobody.
    let mut strange = unit("02.0", 0);
    strange.spdm.version = rmm_model::scenario::SpdmVersion::V11;
    let rules = [rule("lax", "subject = \"CN=B*\"; required = false"), rule("must", "")];
    let ran = decides(&[strange], &rules, &["02.0 lax GH-4121"]);
    ran.stops_with(StopCode::RequiredMissing, &[]);
}

#[test]
fn evidence_has_to_be_of_the_class_that_the_rule_names() {
    let plain = unit("02.0", 0);
    let mut unsigned = plain.clone();
    unsigned.spdm.signed = false;
    let bare = DeviceSpec { evidence: EvidenceKind::None, ..plain.clone() };
    let signed = [rule("r", "")];
    let platform = [rule("r", "slot = \"02.0\"; evidence = \"platform\"")];
    let nobody = [rule("r", "evidence = \"unauthenticated\"; modes = [\"pin\"]")];
    for (device, rules, end) in [
        (&plain, &signed, "run"),
        (&unsigned, &signed, "GH-4128"),
        (&bare, &signed, "GH-4129"),
        (&bare, &platform, "run"),
        (&plain, &platform, "GH-4129"),
        (&unsigned, &platform, "GH-4128"),
        (&plain, &nobody, "pin"),
        (&unsigned, &nobody, "pin"),
        (&bare, &nobody, "GH-4129"),
    ] {
        decides(slice::from_ref(device), rules, &[&format!("02.0 r {end}")]);
    }
    // Who signs nothing proves no identity.
    let pinned = [rule("r", &format!("leaf-key = \"{}\"", leaf_key(0)))];
    decides(&[unsigned], &pinned, &["02.0 none GH-4150"]);
}

#[test]
fn our_nonce_may_be_absent_only_where_the_policy_says_so_of_the_rmm() {
    let mut own = unit("02.0", 0);
    own.spdm.forwards_nonce = false;
    let rules = [rule("r", "")];
    decides(slice::from_ref(&own), &rules, &["02.0 r GH-4127"]);
    let ran = run(&scenario(&[own], "[rmm]\nforwards-nonce = false", &rules));
    assert_eq!(decided(&ran), ["02.0 r run"]);
    assert!(ran.log.iter().any(|line| line.ends_with("signed by the leaf key, without our nonce")));
    // Where it is forwarded nobody is worse off.
    let ran = run(&scenario(&[unit("02.0", 0)], "[rmm]\nforwards-nonce = false", &rules));
    assert!(ran.log.iter().any(|line| line.ends_with("signed by the leaf key, with our nonce")));
}

#[test]
fn a_device_that_changed_or_is_open_to_debug_is_refused() {
    let rules = [rule("r", "")];
    for (changed, end) in [(0, "run"), (1, "GH-4130"), (2, "run"), (3, "GH-4123")] {
        let mut device = unit("02.0", 0);
        device.spdm.content_changed = changed;
        decides(&[device], &rules, &[&format!("02.0 r {end}")]);
    }
    // Operational mode capabilities and state, device mode capabilities and state.
    let with_mode = |mode: Option<[u8; 4]>| {
        let mut device = unit("02.0", 0);
        device.spdm.blocks = default_blocks().into_iter().filter(|block| block.index != 0xfe).collect();
        let value =
            mode.map(|[a, b, c, d]| [[a, 0, 0, 0], [b, 0, 0, 0], [c, 0, 0, 0], [d, 0, 0, 0]].concat());
        device.spdm.blocks.extend(value.map(|value| BlockSpec::raw(0xfe, 5, &value)));
        device
    };
    let open = [rule("r", "debug-allowed = true")];
    let told = [rule("r", "device-mode-required = true")];
    decides(&[with_mode(Some([4, 4, 1, 0]))], &told, &["02.0 r run"]);
    decides(&[with_mode(Some([4, 4, 1, 1]))], &rules, &["02.0 r GH-4143"]);
    decides(&[with_mode(Some([4, 4, 1, 1]))], &open, &["02.0 r run"]);
    // Manufacturing mode is no normal one, whatever is allowed.
    decides(&[with_mode(Some([5, 1, 1, 0]))], &open, &["02.0 r GH-4143"]);
    decides(&[with_mode(None)], &rules, &["02.0 r run"]);
    decides(&[with_mode(None)], &told, &["02.0 r GH-4143"]);
}

#[test]
fn the_first_mode_that_payload_and_machine_allow_is_taken() {
    let modes = |os: &str, config, modes: &str| {
        let mut scenario = scenario(&[unit("02.0", 0)], "", &[rule("r", &format!("modes = {modes}"))]);
        scenario.bundle.os = os.into();
        scenario.vmm.config = config;
        let ran = run(&scenario);
        (decided(&ran).concat(), ran.code())
    };
    let took = |mode: &str| (format!("02.0 r {mode}"), None);
    let none = ("02.0 r GH-4154".to_owned(), Some(StopCode::NoMode));
    const RUN: &str = "[\"run\"]";
    const ANY: &str = "[\"run\", \"pin\", \"shared\"]";
    for config in [ConfigAccess::Virtualise, ConfigAccess::PassThrough] {
        assert_eq!(modes("half", config, ANY), took("run"));
        // TM-1: never with DMA into memory of an OS that shares it with the host.
        assert_eq!(modes("unaware", config, RUN), none);
        assert_eq!(modes("unaware", config, "[\"run\", \"shared\"]"), took("shared"));
    }
    assert_eq!(modes("native", ConfigAccess::Virtualise, ANY), took("run"));
    assert_eq!(modes("native", ConfigAccess::PassThrough, ANY), took("pin"));
    assert_eq!(modes("native", ConfigAccess::PassThrough, RUN), none);
    assert_eq!(modes("native", ConfigAccess::Virtualise, "[\"pin\", \"run\"]"), took("pin"));
}
