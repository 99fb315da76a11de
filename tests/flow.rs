//! The way of a boot, whole, under a host that keeps its word: order, final tree, what stays quiet.
mod common;

use common::*;
use gatehouse::addr::IpaRange;
use gatehouse::fdt::check::Tree;
use rmm_model::final_state::TdiState;
use rmm_model::machine::{DmaGate, Machine};
use rmm_model::record::Event;
use rmm_model::ripas::Ripas;
use rmm_model::scenario::{Lie, Misbehaviour};

/// Index of the events that fit.
fn at(ran: &Ran, fits: impl Fn(&Event) -> bool) -> Vec<usize> {
    ran.sim.events().enumerate().filter(|(_, event)| fits(event)).map(|(index, _)| index).collect()
}

/// Index of the events of one call, RSI or RHI, with these first arguments.
fn calls(ran: &Ran, name: &str, with: &[u64]) -> Vec<usize> {
    at(ran, |event| match event {
        Event::Rsi { call, args, .. } | Event::Rhi { call, args, .. } => {
            call == name && args.starts_with(with)
        }
        _ => false,
    })
}

fn log_line(ran: &Ran, text: &str) -> usize {
    ran.log.iter().position(|line| line.contains(text)).unwrap_or_else(|| panic!("no line {text:?}"))
}

#[test]
fn one_nvme_is_locked_checked_mapped_and_started() {
    let ran = boot(&plain());
    let payload = ran.boots();
    assert_eq!(ran.device().dma, DmaGate::PrivateOnly);
    let ranges: Vec<_> = ran.device().dev_ranges.iter().map(|range| (range.ipa, range.len)).collect();
    assert_eq!(ranges, [(BAR, 0x2000)], "the MSI-X pages stay EMPTY");
    assert_eq!(ran.device().validated, ran.device().dev_ranges);
    assert!(ran.sim.dma_reaches(0x10, payload.entry));
    assert!(!ran.sim.dma_reaches(0x10, payload.entry | board().alias_bit()));
    assert_eq!(payload.entry % (2 << 20), 0);
    assert_eq!(payload.reads.len(), 5, "kernel, ramdisk, tree, log, evidence");
    let holds = |address| payload.reads.iter().any(|range| (range.base()..range.top()).contains(&address));
    assert!(holds(payload.entry) && holds(payload.entry + 0x7fff) && holds(payload.tree));
}

#[test]
fn evidence_is_read_between_two_readings_of_the_record() {
    let ran = boot(&plain());
    let info = calls(&ran, "RSI_VDEV_GET_INFO", &[VDEV]);
    assert_eq!(info.len(), 6, "before and after lock, evidence, RUN, before and after DMA_ENABLE");
    let lock = calls(&ran, "RHI_DA_VDEV_SET_TDI_STATE", &[VDEV, 1]);
    let report = calls(&ran, "RHI_DA_VDEV_GET_INTERFACE_REPORT", &[VDEV]);
    let measurements = calls(&ran, "RHI_DA_VDEV_GET_MEASUREMENTS", &[VDEV]);
    let reads = calls(&ran, "RHI_DA_OBJECT_READ", &[VDEV]);
    let sizes = calls(&ran, "RHI_DA_OBJECT_SIZE", &[VDEV]);
    assert_eq!((lock.len(), report.len(), measurements.len()), (1, 1, 1));
    assert_eq!((reads.len(), sizes.len()), (4, 4), "each object is fetched once");
    assert!(info[0] < lock[0] && lock[0] < info[1] && info[1] < report[0] && info[1] < measurements[0]);
    let refreshed = report[0].max(measurements[0]);
    assert!(sizes.iter().chain(&reads).all(|read| *read > refreshed && *read < info[2]));
}

#[test]
fn nothing_is_mapped_before_the_evidence_and_dma_is_the_last_step() {
    let ran = boot(&plain());
    let info = calls(&ran, "RSI_VDEV_GET_INFO", &[VDEV]);
    let validate = calls(&ran, "RSI_VDEV_VALIDATE_MAPPING", &[VDEV]);
    let run = calls(&ran, "RHI_DA_VDEV_SET_TDI_STATE", &[VDEV, 2]);
    let enable = calls(&ran, "RSI_VDEV_DMA_ENABLE", &[VDEV]);
    assert!(info[2] < validate[0], "VALIDATE_MAPPING after the evidence");
    assert!(validate[0] < run[0] && run[0] < info[3] && info[4] < enable[0] && enable[0] < info[5]);
    assert_eq!((validate.len(), run.len(), enable.len()), (1, 1, 1));
    // Behind DMA_ENABLE only its confirmation, which the HOST_CALLs are not part of.
    assert_eq!(ran.sim.records.len() - 1, info[5]);
    assert_eq!(calls(&ran, "RSI_VDEV_DMA_DISABLE", &[]), [0usize; 0]);
    let gates = at(&ran, |event| matches!(event, Event::Dma { rid: 0x10, gate: DmaGate::PrivateOnly }));
    assert_eq!(gates.len(), 1);
    assert!(info[4] < gates[0] && gates[0] <= enable[0]);
    let is_dev = |event: &Event| matches!(event, Event::Ripas { to: Ripas::Dev, .. });
    assert!(at(&ran, is_dev).iter().all(|event| *event > info[2]));
}

#[test]
fn the_payload_is_hashed_and_the_window_given_back_before_the_device_runs() {
    let ran = boot(&plain());
    let run = calls(&ran, "RHI_DA_VDEV_SET_TDI_STATE", &[VDEV, 2]);
    let window = at(&ran, |event| matches!(event, Event::Ripas { from: Ripas::Empty, to: Ripas::Ram, .. }));
    assert_eq!(window.len(), 1);
    assert!(window[0] < run[0]);
    for part in ["load: kernel", "load: ramdisk", "load: cmdline"] {
        assert!(log_line(&ran, part) < log_line(&ran, "mapped -> run"), "{part}");
    }
    // The tree names only what runs, and is there before any device has DMA.
    assert!(log_line(&ran, "mapped -> run") < log_line(&ran, "tree: "));
    assert!(log_line(&ran, "tree: ") < log_line(&ran, "DMA enabled"));
    assert!(log_line(&ran, "verified -> mapped") < log_line(&ran, "load: kernel"));
    assert!(log_line(&ran, "mapped -> run") < log_line(&ran, "DMA enabled"));
    let names = ["realm", "negotiate", "inventory", "attest", "map", "load", "handoff"];
    let phases: Vec<&str> =
        ran.log.iter().filter_map(|line| line.strip_prefix("phase name=")?.split(' ').next()).collect();
    assert_eq!(phases, names);
}

#[test]
fn the_three_nonces_of_the_evidence_go_into_mapping_and_dma() {
    let mut ran = boot(&plain());
    let info = ran.info();
    let nonces: Vec<u64> =
        info[0x18..0x30].chunks(8).map(|word| u64::from_le_bytes(word.try_into().unwrap())).collect();
    let calls = ran.calls();
    let args = |name: &str| calls.iter().find(|call| call.0 == name).unwrap().1.to_vec();
    assert_eq!(args("RSI_VDEV_VALIDATE_MAPPING")[5..], nonces);
    assert_eq!(args("RSI_VDEV_DMA_ENABLE")[..3], [VDEV, 0, 0], "no ATS, no plane");
    assert_eq!(args("RSI_VDEV_DMA_ENABLE")[3..], nonces);
}

#[test]
fn configuration_space_is_left_alone_from_the_lock_on() {
    let ran = boot(&plain());
    let lock = calls(&ran, "RHI_DA_VDEV_SET_TDI_STATE", &[VDEV, 1])[0];
    let writes = at(&ran, |event| matches!(event, Event::Config { write: true, .. }));
    assert!(!writes.is_empty() && writes.iter().all(|access| *access < lock));
    // It is only read again, whole, to see that nothing appeared or vanished; the device is in RUN then.
    let reads = at(&ran, |event| matches!(event, Event::Config { write: false, .. }));
    let run = calls(&ran, "RHI_DA_VDEV_SET_TDI_STATE", &[VDEV, 2])[0];
    assert!(reads.iter().all(|access| *access < lock || *access > run) && reads.last() > Some(&run));
}

#[test]
fn the_function_is_ready_when_it_is_locked() {
    let ran = boot(&plain());
    assert_eq!(ran.sim.functions[2].resets, 1, "FLR");
    let writes = |register: u16| -> Vec<u32> {
        let value = |event: &Event| match event {
            Event::Config { rid: 0x10, offset, write: true, value, .. } if *offset == register => {
                Some(*value)
            }
            _ => None,
        };
        ran.sim.events().filter_map(value).collect()
    };
    assert_eq!(writes(0x10), [u32::MAX, 0]);
    assert_eq!(writes(0x14), [u32::MAX, 0x80]);
    assert_eq!(writes(0x04), [0x400, 0x406], "decode is off while BARs are sized");
}

#[test]
fn every_function_that_is_not_accepted_is_quiet() {
    let mut ran = boot(&plain());
    ran.boots();
    for rid in [0x08, 0x18] {
        assert_eq!(ran.sim.config_read(rid, 4, 2) & 0b111, 0, "{rid:#x}");
    }
    for state in &ran.state.devices {
        assert_eq!(state.state, TdiState::Run);
    }
}

#[test]
fn an_armed_controller_is_stopped_through_the_private_bar() {
    // The host does not pass the reset on: only the check through the private BAR counts.
    let scenario = lying(&[Misbehaviour::always(Lie::FlrIgnored)]);
    let mut ran = Boot { armed: true, ..Boot::new(&scenario) }.run();
    ran.boots();
    assert_eq!((ran.nvme_register(0x14), ran.nvme_register(0x1c)), (0, 0));
}

#[test]
fn the_final_tree_says_what_was_accepted() {
    let mut ran = boot(&plain());
    let bytes = tree_at(ran.boots().tree);
    let info = ran.info();
    let tree = Tree::check(bytes).unwrap();
    let reader = tree.reader().unwrap();
    let bridge = reader.find_node("/pcie@4010000000").unwrap();
    assert_eq!(bridge.property("compatible").unwrap().value, b"gatehouse,pci-host-ecam\0");
    assert_eq!(bridge.children().count(), 1, "nothing but the accepted function");
    let node = reader.find_node("/pcie@4010000000/nvme@2,0").unwrap();
    let raw = |name: &str| node.property(name).unwrap().value;
    let cells = |name: &str| -> Vec<u32> {
        raw(name).chunks(4).map(|cell| u32::from_be_bytes(cell.try_into().unwrap())).collect()
    };
    // Relocatable, 64-bit, 00:02.0 BAR 0; 0x80_0000_0000; 16 KiB.
    assert_eq!(cells("assigned-addresses"), [0x8300_1010, 0x80, 0, 0, 0x4000]);
    assert_eq!(cells("gatehouse,msix-pages"), [0, 2, 1, 0, 3, 1]);
    assert_eq!(cells("gatehouse,vdev-id"), [0, 0x10]);
    assert_eq!((cells("vendor-id"), cells("device-id")), (vec![0x1b36], vec![0x10]));
    assert_eq!(raw("gatehouse,mode"), b"run\0");
    assert_eq!(raw("gatehouse,digest-algorithm"), b"sha384\0");
    let nonces: Vec<u8> = info[0x18..0x30].chunks(8).flat_map(|word| word.iter().rev().copied()).collect();
    assert_eq!(raw("gatehouse,nonces"), nonces, "lock, measurement, report of the RMM");
    for (name, at) in [
        ("gatehouse,vca-digest", 0x80),
        ("gatehouse,certificate-digest", 0xc0),
        ("gatehouse,measurement-digest", 0x140),
        ("gatehouse,report-digest", 0x180),
    ] {
        assert_eq!(raw(name), &info[at..at + 48], "{name}");
    }
}

#[test]
fn the_final_tree_names_command_line_and_ramdisk_in_place() {
    let ran = boot(&plain());
    let payload = ran.boots();
    let tree = Tree::check(tree_at(payload.tree)).unwrap();
    let reader = tree.reader().unwrap();
    let chosen = reader.find_node("/chosen").unwrap();
    let raw = |name: &str| chosen.property(name).unwrap().value;
    let address = |name: &str| u64::from_be_bytes(raw(name).try_into().unwrap());
    assert_eq!(raw("bootargs"), [image::CMDLINE.as_bytes(), b"\0"].concat());
    let (start, end) = (address("linux,initrd-start"), address("linux,initrd-end"));
    assert_eq!(end - start, image::RAMDISK_LEN as u64);
    let ramdisk = IpaRange::covering(start, end - start).unwrap();
    assert!(payload.reads.contains(&ramdisk));
    assert_eq!(raw("rng-seed").len(), 32);
    assert!(reader.find_node("/chosen/gatehouse").is_some());
    assert_eq!(reader.find_node("/cpus").unwrap().children().count(), 1);
}

#[test]
fn without_rndr_the_nonce_is_derived_and_no_seed_is_given() {
    let scenario = plain();
    let ran = Boot { rndr: false, ..Boot::new(&scenario) }.run();
    let payload = ran.boots();
    assert!(ran.log.iter().any(|line| line.contains("requester nonce is derived")));
    assert_eq!(calls(&ran, "RSI_MEASUREMENT_READ", &[0]).len(), 1);
    let tree = Tree::check(tree_at(payload.tree)).unwrap();
    let reader = tree.reader().unwrap();
    let chosen = reader.find_node("/chosen").unwrap();
    assert!(chosen.property("rng-seed").is_none() && chosen.property("kaslr-seed").is_none());
}
