//! Functions as the stub saw them: what they are, what became of them.

use crate::console::Console;
use crate::counts::{Counts, bdf, device_ticks, routing_id};
use crate::json::Device;
use crate::judge::Ending;
use crate::scenario::Step;
use crate::topology::required;
use crate::trace::word;
use crate::verdict::Judge;
use gatehouse::codes::StopCode;
use rmm_model::Scenario;
use rmm_model::final_state::{DeviceState, TdiState};
use rmm_model::machine::DmaGate;
use rmm_model::record::{Event, Record};
use rmm_model::ripas::Ripas;
use rmm_model::scenario::DeviceSpec;
use std::collections::BTreeMap;

/// Base class of bridges.
const CLASS_BRIDGE: u32 = 0x06;
/// Capability id of MSI-X.
const CAP_MSIX: u32 = 0x11;

/// A function that answers, as the realm read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Function {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Class code, 24 bits.
    pub class: u32,
}

impl Function {
    /// Tells whether it is a bridge.
    #[must_use]
    pub fn is_bridge(&self) -> bool {
        self.class >> 16 == CLASS_BRIDGE
    }
}

/// Returns the functions whose ids and class the realm read, by routing id.
#[must_use]
pub fn functions(records: &[Record]) -> BTreeMap<u16, Function> {
    let mut found: BTreeMap<u16, Function> = BTreeMap::new();
    for record in records {
        let Event::Config { rid, offset, width: 4, write: false, value } = record.event else { continue };
        if offset == 0 && value & 0xffff != 0xffff {
            let (vendor, device) = (value as u16, (value >> 16) as u16);
            found.entry(rid).or_insert(Function { vendor, device, class: 0 });
        } else if offset == 8
            && let Some(function) = found.get_mut(&rid)
        {
            function.class = value >> 8;
        }
    }
    found
}

/// Returns the pages (address and bytes) of MSI-X table and pending bits as the realm placed them, from what it read
/// and wrote in configuration space; none if it saw no such capability.
#[must_use]
pub fn msix_pages(records: &[Record], rid: u16) -> Vec<(u64, u64)> {
    let mut reads: BTreeMap<u16, u32> = BTreeMap::new();
    let mut bars: BTreeMap<u16, u32> = BTreeMap::new();
    let mut capability = None;
    for record in records {
        let Event::Config { rid: at, offset, width, write, value } = record.event else { continue };
        if at != rid {
            continue;
        }
        if !write && width == 4 {
            reads.entry(offset).or_insert(value);
        }
        // The list's header is read in one access; low byte id, then the next capability.
        if !write && width != 1 && offset >= 0x40 && value & 0xff == CAP_MSIX && capability.is_none() {
            capability = Some(offset);
        }
        if write && width == 4 && (0x10..0x28).contains(&offset) && value != u32::MAX {
            bars.insert(offset, value);
        }
    }
    let place = |register: u16| {
        let value = *reads.get(&(capability? + register))?;
        let at = 0x10 + 4 * (value & 7) as u16;
        let low = *bars.get(&at)?;
        // Type 10: the next register has the upper half. The bits that cannot be written read back, so ask a read too.
        let kind = low | reads.get(&at).copied().unwrap_or(0);
        let high = if kind & 6 == 4 { bars.get(&(at + 4)).copied().unwrap_or(0) } else { 0 };
        let base = u64::from(high) << 32 | u64::from(low & !0xf);
        Some(((base + u64::from(value & !7)) & !0xfff, 0x1000))
    };
    let mut pages: Vec<_> = [place(4), place(8)].into_iter().flatten().collect();
    pages.dedup();
    pages
}

/// Returns the steps of the way back that a stopped boot did not make for this device.
#[must_use]
pub fn leaked(device: &DeviceState, records: &[Record]) -> Vec<Step> {
    let mut steps = Vec::new();
    if device.dma != DmaGate::Abort {
        steps.push(Step::DmaOff);
    }
    let last_is_destroyed = |ipa: u64| {
        let mut last = None;
        for record in records {
            match record.event {
                Event::Ripas { base, top, to, .. } if (base..top).contains(&ipa) => last = Some(to),
                _ => {}
            }
        }
        last == Some(Ripas::Destroyed)
    };
    // A host that unlocks takes validated pages away: DESTROYED is what is left of one that was not given up.
    if !device.dev_ranges.is_empty() || device.validated.iter().any(|range| last_is_destroyed(range.ipa)) {
        steps.push(Step::GiveUp);
    }
    let is_unlocked = device.state == TdiState::Unlocked
        && matches!(device.rmm_state, None | Some(TdiState::Unlocked))
        && !device.operation_pending;
    if !is_unlocked {
        steps.push(Step::Unlock);
    }
    if device.command != 0 {
        steps.push(Step::Quiet);
    }
    steps
}

/// Returns the calls that should have made these steps.
#[must_use]
pub fn calls(steps: &[Step]) -> Vec<String> {
    let mut calls: Vec<String> = steps.iter().map(|step| step.call().to_owned()).collect();
    calls.dedup();
    calls
}

/// Returns where the realm placed the BARs of a function at last.
#[must_use]
pub fn bars(records: &[Record], rid: u16) -> Vec<u64> {
    let mut registers: BTreeMap<u16, u32> = BTreeMap::new();
    for record in records {
        match record.event {
            Event::Config { rid: at, offset, width: 4, write: true, value }
                if at == rid && (0x10..0x28).contains(&offset) && value != u32::MAX =>
            {
                registers.insert(offset, value);
            }
            _ => {}
        }
    }
    // An upper half alone is a small number, where no window is.
    let halves = registers.iter().map(|(offset, low)| {
        let high = registers.get(&(offset + 4)).copied().unwrap_or(0);
        [u64::from(low & !0xf), u64::from(high) << 32 | u64::from(low & !0xf)]
    });
    halves.flatten().filter(|base| *base >= 0x1000).collect()
}

/// Returns the decode and bus master bits of a function that nobody assigned, as the realm saw or wrote them last;
/// none if it never asked.
#[must_use]
pub fn last_command(records: &[Record], rid: u16) -> Option<u32> {
    records.iter().rev().find_map(|record| match record.event {
        Event::Config { rid: at, offset: 4, value, width: 2 | 4, .. } if at == rid => Some(value & 6),
        _ => None,
    })
}

/// Describes every function that is no bridge: the scenario's devices first, in its order. `records` end at the
/// hand-off.
#[must_use]
pub fn describe(
    scenario: &Scenario,
    states: &[DeviceState],
    records: &[Record],
    ending: Ending,
    console: &Console,
) -> Vec<Device> {
    let handed_off = ending == Ending::HandedOff;
    let judge = Judge::new(scenario, records, ending, console);
    let mut devices = Vec::new();
    for (spec, state) in assigned(scenario, states) {
        let rid = routing_id(state);
        let counts = Counts::of_device(records, rid, &state.validated);
        let was_locked = records.iter().any(
            |record| matches!(record.event, Event::Tdi { rid: at, to: TdiState::Locked, .. } if at == rid),
        );
        let (verdict, mode) = judge.judge(spec, state);
        let is_refused = verdict == Some("refused");
        // What a device in RUN keeps is no leak.
        let may_leak = !handed_off || is_refused;
        devices.push(Device {
            bdf: state.bdf.clone(),
            vdev_id: state.vdev_id.or(was_locked.then_some(rid.into())),
            verdict,
            mode,
            state: Some(word(&state.state)),
            rule: judge.rule(&state.bdf),
            code: if is_refused { judge.code(&state.bdf) } else { None },
            reason: is_refused.then(|| judge.reason(&state.bdf).unwrap_or_default().to_owned()),
            ranges: state.validated.clone(),
            rsi_calls: counts.rsi_calls,
            host_exits: counts.host_exits,
            config_accesses: counts.config_accesses,
            ticks: device_ticks(records, rid, &state.validated),
            leaked: if may_leak { calls(&leaked(state, records)) } else { Vec::new() },
        });
    }
    for (rid, _) in unassigned(records, states) {
        let counts = Counts::of_device(records, rid, &[]);
        let mode = if handed_off { "hide" } else { "none" };
        let is_judged = ending != Ending::Stopped(StopCode::AuditBoot);
        devices.push(Device {
            verdict: is_judged.then_some("extra"),
            state: Some("unlocked".into()),
            rsi_calls: counts.rsi_calls,
            host_exits: counts.host_exits,
            config_accesses: counts.config_accesses,
            ticks: device_ticks(records, rid, &[]),
            ..Device::nothing(bdf(rid), "extra", mode)
        });
    }
    if ending == Ending::Stopped(StopCode::RequiredMissing) {
        for slot in required(scenario).iter().filter(|slot| states.iter().all(|state| state.slot != **slot)) {
            let bdf = if slot.contains('/') { slot.clone() } else { format!("00:{slot}") };
            let reason = console.stop.as_ref().map(|stop| stop.text.clone());
            devices.push(Device { reason, ..Device::nothing(bdf, "missing", "none") });
        }
    }
    devices
}

/// Joins the scenario's devices with what is left of them.
pub fn assigned<'a>(
    scenario: &'a Scenario,
    states: &'a [DeviceState],
) -> impl Iterator<Item = (&'a DeviceSpec, &'a DeviceState)> {
    scenario
        .device
        .iter()
        .filter_map(|spec| Some((spec, states.iter().find(|state| state.slot == spec.slot)?)))
}

/// Returns the functions that answer, are no bridge and belong to no device of the scenario.
#[must_use]
pub fn unassigned(records: &[Record], states: &[DeviceState]) -> BTreeMap<u16, Function> {
    let mut found = functions(records);
    found.retain(|rid, function| {
        !function.is_bridge() && !states.iter().any(|state| routing_id(state) == *rid)
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::{example, one_device};

    fn read(rid: u16, offset: u16, width: u8, value: u32) -> Record {
        Record { seq: 0, ticks: 0, event: Event::Config { rid, offset, width, write: false, value } }
    }

    fn write(rid: u16, offset: u16, value: u32) -> Record {
        Record { seq: 0, ticks: 0, event: Event::Config { rid, offset, width: 4, write: true, value } }
    }

    #[test]
    fn functions_are_those_that_answer() {
        let records = [
            read(0, 0, 4, 0x0008_1b36),
            read(0, 8, 4, 0x0600_0000),
            read(8, 0, 4, u32::MAX),
            read(0x10, 0, 4, 0x0010_1b36),
            read(0x10, 8, 4, 0x0108_0202),
        ];
        let found = functions(&records);
        assert_eq!(found.keys().copied().collect::<Vec<_>>(), [0, 0x10]);
        assert!(found[&0].is_bridge() && !found[&0x10].is_bridge());
        assert_eq!(found[&0x10], Function { vendor: 0x1b36, device: 0x10, class: 0x01_0802 });
    }

    #[test]
    fn msix_pages_come_from_capability_and_bar() {
        let records = [
            read(0x10, 0x10, 4, 4),
            read(0x10, 0x40, 2, 0x8011),
            read(0x10, 0x44, 4, 0x2000),
            read(0x10, 0x48, 4, 0x3000),
            write(0x10, 0x10, u32::MAX),
            write(0x10, 0x10, 0x4000_0000),
            write(0x10, 0x14, 0x80),
            write(0x18, 0x10, 0x1234_0000),
        ];
        assert_eq!(msix_pages(&records, 0x10), [(0x80_4000_2000, 0x1000), (0x80_4000_3000, 0x1000)]);
        assert!(msix_pages(&records, 0x18).is_empty());
    }

    fn console(lines: &[&str]) -> Console {
        let mut console = Console::default();
        for line in lines {
            console.line(line);
        }
        console
    }

    #[test]
    fn a_refused_device_has_its_reason_and_no_mode() {
        let example = example().stopped(4034);
        let ending = Ending::Stopped(StopCode::ReportDigest);
        let console = console(&["ERROR stop GH-4034: the report"]);
        let devices = describe(&one_device(""), &example.state.devices, &example.records, ending, &console);
        assert_eq!((devices[0].verdict, devices[0].mode), (Some("refused"), "none"));
        assert_eq!(devices[0].reason.as_deref(), Some("the report"));
        assert!(devices[0].leaked.is_empty());
    }

    #[test]
    fn a_required_function_that_is_not_there_is_missing() {
        let console = console(&["ERROR stop GH-3002: no"]);
        let ending = Ending::Stopped(StopCode::RequiredMissing);
        let devices = describe(&Scenario::default(), &[], &[], ending, &console);
        assert_eq!((devices[0].bdf.as_str(), devices[0].verdict), ("00:02.0", Some("missing")));
        assert_eq!(devices[0].reason.as_deref(), Some("no"));
        assert!(devices[0].state.is_none());
    }

    #[test]
    fn the_place_of_bars_and_the_last_command_come_from_config_space() {
        let records = [
            write(0x10, 0x10, u32::MAX),
            write(0x10, 0x10, 0x4000_0004),
            write(0x10, 0x14, 0x80),
            write(0x18, 0x10, 0x1234_0000),
            read(0x10, 4, 2, 7),
            write(0x10, 4, 0x400),
        ];
        assert_eq!(bars(&records, 0x10), [0x4000_0000, 0x80_4000_0000]);
        assert_eq!((last_command(&records, 0x10), last_command(&records, 0x18)), (Some(0), None));
        assert_eq!(last_command(&records[..5], 0x10), Some(6));
    }

    #[test]
    fn what_is_left_of_a_device_names_the_call_that_should_have_ended_it() {
        let mut example = example().stopped(4034);
        let device = &mut example.state.devices[0];
        device.state = TdiState::Locked;
        device.command = 6;
        assert_eq!(leaked(device, &example.records), [Step::Unlock, Step::Quiet]);
    }
}
