//! The end of the heap: a boot that runs out of memory stops with a code, wherever that happens, and never in the allocator. A
//! failed allocation that cannot be told would end this whole test program.
mod common;

use common::*;
use gatehouse::codes::StopCode;
use gatehouse::memory::HEADROOM;
use rmm_model::Scenario;
use rmm_model::scenario::{Blob, DeviceSpec, Rule};
use rmm_model::sim::SimFunction;
use std::alloc::{GlobalAlloc, Layout, System};

/// The system's allocator with the limit of [`heap`].
struct Counted;

#[global_allocator]
static HEAP: Counted = Counted;

// SAFETY: every call goes to the system's allocator or answers that there is no memory.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !heap::take(layout.size()) {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        heap::give(layout.size());
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(block, layout) }
    }
}

/// Devices with a certificate chain of this length each, which their rules do not need.
fn devices(num: u8, chain_len: u32) -> Scenario {
    let mut scenario = plain();
    let device = |slot: u8| DeviceSpec {
        slot: format!("{slot:02x}.0"),
        rule: Rule::Optional,
        certificate: Some(Blob::generated(chain_len)),
        ..DeviceSpec::default()
    };
    scenario.device = (2..2 + num).map(device).collect();
    scenario
}

fn nvmes(num: u8) -> Vec<SimFunction> {
    let functions = (2..2 + num).map(|slot| SimFunction::nvme(slot, 0));
    [SimFunction::host_bridge()].into_iter().chain(functions).collect()
}

fn run(scenario: &Scenario, functions: fn() -> Vec<SimFunction>, heap: usize) -> Ran {
    Boot { functions: functions(), heap, ..Boot::new(scenario) }.run()
}

/// Boots with less heap each time. Returns how often it booted.
fn sweep(scenario: &Scenario, functions: fn() -> Vec<SimFunction>, step: usize) -> usize {
    let whole = run(scenario, functions, usize::MAX);
    assert!(whole.result.is_ok(), "{:?}", whole.result.err().map(|stop| stop.to_string()));
    let enough = whole.peak;
    let mut booted = 0;
    // Below that not even the reason of a stop has room.
    for heap in (4096..enough + step).step_by(step) {
        let ran = run(scenario, functions, heap);
        match &ran.result {
            Ok(_) => booted += 1,
            Err(stop) => {
                assert_eq!(
                    stop.code,
                    StopCode::Memory,
                    "{heap} of {enough} bytes: {stop}\n{}",
                    ran.log.join("\n")
                );
                ran.is_sound();
                assert!(
                    ran.state.shared.is_empty() && ran.mapped.is_empty(),
                    "{heap}: a window is left open"
                );
                assert!(ran.state.devices.iter().all(|device| device.dev_ranges.is_empty()), "{heap}");
            }
        }
    }
    booted
}

#[test]
fn a_boot_stops_for_memory_wherever_it_ends() {
    let booted = sweep(&plain(), functions, 64 * 1024);
    assert!((1..20).contains(&booted), "{booted}");
}

#[test]
fn a_boot_with_much_evidence_stops_for_memory_wherever_it_ends() {
    let booted = sweep(&devices(4, 200 * 1024), || nvmes(4), 256 * 1024);
    assert!((1..20).contains(&booted), "{booted}");
}

#[test]
fn a_host_that_makes_devices_present_a_mebibyte_each_ends_in_the_code_for_memory() {
    // As much as the firmware has, without stack and page tables.
    let ran = run(&devices(16, 1024 * 1024), || nvmes(16), 15 * 1024 * 1024);
    let stop = ran.result.as_ref().map(|_| ()).unwrap_err();
    assert_eq!(stop.code, StopCode::Memory, "{stop}");
    assert!(ran.peak > 15 * 1024 * 1024 - 2 * HEADROOM, "{}", ran.peak);
    assert!(ran.state.devices.iter().all(|device| device.rmm_state.is_none()), "all were taken back");
    let refused = ran.log.iter().filter(|line| line.contains("-> refused at Collect: out of memory"));
    assert_eq!(
        refused.count(),
        1,
        "one device met the end, and it was not passed over\n{}",
        ran.log.join("\n")
    );
}
