//! The scenario as TOML and as CBOR; records and final state as data.

mod common;

use common::*;
use rmm_model::digest::HashAlgorithm;
use rmm_model::record::Record;
use rmm_model::scenario::*;
use rmm_model::{FinalState, Scenario};

const FULL: &str = r#"
name = "everything"
seed = 7
dialect = "a2"
config_records = false

[realm]
hash = "sha384"
rsi = "1.0"
rem = "spec"
rim_rules = "r3"
token = "d28443"
token_len = 100
token_format = "old"
token_flaw = "rems-missing"
device_token = true
token_interrupts = 2

[host]
wrong_handle = "invalid-vdev"
buffer_address = "with-alias"
cpu_on = "deny"
incomplete = 3
validate_step = 1
vca_types = "acs"
spare_gprs = "zero"

[vmm]
config = "pass-through"
bus_numbers = "none"
recs = 2
console = "none"
flip_kernel_byte = 4096
load_address = 0x4020_0000

[[vmm.tree_edit]]
node = "/chosen"
property = "bootargs"
text = "evil"

[[device]]
slot = "03.0/00.0"
hash = "sha512"
mro = 0
dma_enable = "ignored"
certificate = { hex = "30820001" }
ranges = [{ bar = 0, pages = 2 }]

[[device]]
slot = "14.2"
model = "igb-vf"
pf = "04.0"
vf = 1
rule = "optional"
quiet_device = true
lock_msix = true

[[device]]
slot = "05.0/00.0"
model = "virtio-blk"
rule = "shared"
tdi = false

[[misbehaviour]]
lie = { object-byte = { object = "report", offset = 16, xor = 1 } }
device = "03.0/00.0"

[[misbehaviour]]
lie = { relock = { before = "VDEV_GET_INFO" } }
nth = 2

[[misbehaviour]]
lie = "report-pages-wrap"

[[misbehaviour]]
lie = { rhi-incomplete-forever = { op = "measurements" } }
nth = 0
"#;

fn cbor_round_trip(scenario: &Scenario) -> Scenario {
    let bytes = minicbor_serde::to_vec(scenario).unwrap();
    minicbor_serde::from_slice(&bytes).unwrap()
}

#[test]
fn the_smallest_scenario_is_one_slot() {
    let scenario: Scenario = toml::from_str("[[device]]\nslot = \"02.0\"").unwrap();
    assert_eq!(scenario, plain());
    assert_eq!(toml::from_str::<Scenario>("").unwrap(), Scenario::default());
}

#[test]
fn every_field_survives_toml_and_cbor() {
    let scenario: Scenario = toml::from_str(FULL).unwrap();
    assert_eq!((scenario.realm.hash, scenario.realm.rsi), (HashAlgorithm::Sha384, RsiVersions::V10));
    assert_eq!(scenario.vmm.flip_kernel_byte, Some(4096));
    assert_eq!((scenario.vmm.bus_numbers, scenario.vmm.recs), (BusNumbers::None, 2));
    let devices: Vec<_> =
        scenario.device.iter().map(|device| (device.model, device.rule, device.tdi, device.vf)).collect();
    assert_eq!(
        devices,
        [
            (DeviceModel::Nvme, Rule::Require, true, 0),
            (DeviceModel::IgbVf, Rule::Optional, true, 1),
            (DeviceModel::VirtioBlk, Rule::Shared, false, 0),
        ]
    );
    assert_eq!(scenario.misbehaviour[1], Misbehaviour::at(Lie::Relock { before: RsiCall::VdevGetInfo }, 2));
    assert_eq!(scenario.misbehaviour[2], Misbehaviour::once(Lie::ReportPagesWrap));
    for scenario in [scenario, Scenario::default(), plain()] {
        assert_eq!(cbor_round_trip(&scenario), scenario);
        assert_eq!(toml::from_str::<Scenario>(&toml::to_string(&scenario).unwrap()).unwrap(), scenario);
    }
}

#[test]
fn unknown_fields_are_refused() {
    for text in [
        "nmae = 1",
        "[host]\nincomplet = 1",
        "[[device]]\nslt = 1",
        "[[device]]\nmodel = \"e1000\"",
        "[vmm]\nrecs = 300",
        "[[misbehaviour]]\nlie = \"no-such-lie\"",
        "[[misbehaviour]]\nlie = { object-missing = { object = \"vca\", nth = 2 } }",
    ] {
        assert!(toml::from_str::<Scenario>(text).is_err(), "{text}");
    }
}

#[test]
fn records_and_final_state_are_data() {
    let (mut rig, info) = Rig::running(&once(Lie::ObjectMissing { object: ObjectKind::Vca }));
    rig.dma_enable(&info);
    let records = rig.m.records.clone();
    let bytes = minicbor_serde::to_vec(&records).unwrap();
    assert_eq!(minicbor_serde::from_slice::<Vec<Record>>(&bytes).unwrap(), records);
    let state = rig.model.final_state();
    let bytes = minicbor_serde::to_vec(&state).unwrap();
    assert_eq!(minicbor_serde::from_slice::<FinalState>(&bytes).unwrap(), state);
}

#[test]
fn runs_with_the_same_seed_are_the_same() {
    let run = |seed| {
        let (rig, _) = Rig::running(&Scenario { seed, ..plain() });
        rig.m.records
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
