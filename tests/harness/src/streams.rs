//! Private DMA as the SMMU's own tables show it: what each device's stream reached before its gate opened, when it did,
//! and at the end.

use crate::counts::routing_id;
use crate::json::ResultLine;
use crate::stublog::{Reach, Snapshot, StubLog};
use rmm_model::Scenario;
use rmm_model::final_state::{DeviceState, TdiState};
use rmm_model::machine::DmaGate;
use rmm_model::record::{Event, Record};
use rmm_model::scenario::BusNumbers;

/// Checks the streams of all assigned devices.
///
/// Private memory is out of reach until the gate opens, the gate opens once, behind RUN, and from then on the stream
/// reaches private memory and the doorbell, and nothing through the alias and no device. Of a device whose gate is not
/// open at the end, the stream reaches no private memory then.
#[must_use]
pub fn check(log: &StubLog, scenario: &Scenario) -> ResultLine {
    let mut wrong = Vec::new();
    let mut opened = Vec::new();
    for device in &log.end.final_state.devices {
        let rid = routing_id(device);
        let own: Vec<&Snapshot> = log.snapshots.iter().filter(|snapshot| snapshot.rid == rid).collect();
        let mut found = one(log, device, rid, &own);
        if !looked_at_before(log, device, rid, &own, scenario) {
            found.push("not looked at before the start".to_owned());
        }
        if found.is_empty() && device.dma == DmaGate::PrivateOnly {
            let sampled = own.last().map_or(0, |snapshot| snapshot.reach.sampled);
            opened.push(format!("{} reaches {sampled} of {sampled} pages, 0 before", device.slot));
        }
        wrong.extend(found.into_iter().map(|text| format!("{}: {text}", device.slot)));
    }
    let mut result = ResultLine::unless("smmu-tables", &wrong);
    if wrong.is_empty() {
        result.detail = opened.join("; ");
    }
    result
}

/// Tells whether a stream was looked at before the realm ran; one that had no number then, before its device was locked.
fn looked_at_before(
    log: &StubLog,
    device: &DeviceState,
    rid: u16,
    snapshots: &[&Snapshot],
    scenario: &Scenario,
) -> bool {
    if scenario.vmm.bus_numbers == BusNumbers::Assigned || !device.slot.contains('/') {
        return snapshots.iter().any(|snapshot| snapshot.when == "start");
    }
    let is_tdi = |record: &Record| matches!(record.event, Event::Tdi { rid: at, .. } if at == rid);
    let locked = log.records.iter().position(is_tdi).unwrap_or(log.records.len());
    snapshots.iter().any(|snapshot| snapshot.at <= locked)
}

/// What is wrong with one stream.
fn one(log: &StubLog, device: &DeviceState, rid: u16, snapshots: &[&Snapshot]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut is_open = false;
    for Snapshot { when, reach, at, .. } in snapshots {
        if reach.entry == "bad" {
            wrong.push(format!("a bad stream table entry {when} a change"));
        }
        if reach.private == 0 {
            is_open = false;
            continue;
        }
        if !is_open {
            let before = log.records.get(..*at).unwrap_or_default();
            if when != "after" || !runs(before, rid) {
                wrong.push(format!("reached private memory in record {at}, before RUN"));
            }
        }
        is_open = true;
        wrong.extend(open(reach));
    }
    let hardware = log.end.hardware.devices.iter().find(|hardware| hardware.slot == device.slot);
    let Some((reach, hardware)) = hardware.and_then(|found| Some((found.reach.as_ref()?, found))) else {
        wrong.push("not looked at in the end".to_owned());
        return wrong;
    };
    if hardware.reaches_bar {
        wrong.push("its DMA reaches its own BAR".to_owned());
    }
    if device.dma == DmaGate::PrivateOnly {
        if !is_open {
            wrong.push("no snapshot shows the open gate".to_owned());
        }
        wrong.extend(open(reach));
    } else if reach.private != 0 {
        wrong.push(format!("reaches {} private pages in the end", reach.private));
    }
    wrong
}

/// What is wrong with the stream of an open gate.
fn open(reach: &Reach) -> Vec<String> {
    let mut wrong = Vec::new();
    if reach.entry != "private-only" || reach.root.is_none() {
        wrong.push(format!("open with the entry {}", reach.entry));
    }
    if reach.sampled == 0 || reach.private != reach.sampled {
        wrong.push(format!("reaches {} of {} private pages", reach.private, reach.sampled));
    }
    if reach.alias {
        wrong.push("reaches the alias half".to_owned());
    }
    if reach.device {
        wrong.push("reaches a device".to_owned());
    }
    if !reach.doorbell {
        wrong.push("does not reach the doorbell".to_owned());
    }
    wrong
}

/// Whether the last word on the TDI's state is RUN.
fn runs(records: &[Record], rid: u16) -> bool {
    let last = records.iter().rev().find_map(|record| match &record.event {
        Event::Tdi { rid: of, to, .. } if *of == rid => Some(*to),
        _ => None,
    });
    last == Some(TdiState::Run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Word;
    use crate::judge::tests::{Example, example};
    use crate::stublog::Tail;

    const RID: u16 = 0x10;

    fn reach(entry: &str) -> Reach {
        let root = Some(0x4200_1000).filter(|_| entry != "abort");
        Reach { entry: entry.into(), root, sampled: 64, doorbell: root.is_some(), ..Reach::default() }
    }

    fn private() -> Reach {
        Reach { private: 64, ..reach("private-only") }
    }

    fn read(example: &Example) -> StubLog {
        let name = format!("gatehouse-streams-{}-{:?}", std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, example.log_text()).unwrap();
        let log = Tail::new(&path).finish();
        std::fs::remove_file(&path).unwrap();
        log.unwrap()
    }

    /// A run whose gate opens behind RUN.
    fn log() -> StubLog {
        let mut log = read(&example());
        let at = log.records.iter().position(|record| matches!(record.event, Event::Dma { .. })).unwrap();
        let snapshot = |when: &str, reach, at| Snapshot { rid: RID, when: when.into(), reach, at };
        log.snapshots = vec![
            snapshot("start", reach("abort"), 0),
            snapshot("before", reach("abort"), at),
            snapshot("after", private(), at),
        ];
        log.end.hardware.devices[0].reach = Some(private());
        log
    }

    fn failure(change: &dyn Fn(&mut StubLog)) -> String {
        let mut log = log();
        change(&mut log);
        let result = check(&log, &Scenario::default());
        assert_eq!(result.result, Word::Fail);
        result.detail
    }

    #[test]
    fn a_gate_that_opens_behind_run_is_right_and_said() {
        let result = check(&log(), &Scenario::default());
        assert_eq!(
            (result.result, result.detail.as_str()),
            (Word::Pass, "02.0 reaches 64 of 64 pages, 0 before")
        );
    }

    #[test]
    fn a_stream_that_was_shared_before_is_right() {
        let mut log = log();
        log.snapshots[0].reach = Reach { alias: true, ..reach("shared-only") };
        log.snapshots[1].reach = Reach { alias: true, ..reach("shared-only") };
        assert_eq!(check(&log, &Scenario::default()).result, Word::Pass);
    }

    type Forge<'a> = &'a dyn Fn(&mut StubLog);

    #[test]
    fn each_lie_of_the_tables_is_found_by_name() {
        let cases: [(&str, Forge<'_>); 14] = [
            ("not looked at before the start", &|log| drop(log.snapshots.drain(..2))),
            ("before RUN", &|log| log.snapshots[1].reach.private = 1),
            ("before RUN", &|log| log.snapshots[0].reach = private()),
            ("before RUN", &|log| log.snapshots[2].at = 10),
            ("a bad stream table entry", &|log| log.snapshots[1].reach.entry = "bad".into()),
            ("open with the entry shared-only", &|log| log.snapshots[2].reach.entry = "shared-only".into()),
            ("reaches 63 of 64", &|log| log.snapshots[2].reach.private = 63),
            ("reaches the alias half", &|log| log.snapshots[2].reach.alias = true),
            ("reaches a device", &|log| log.snapshots[2].reach.device = true),
            ("does not reach the doorbell", &|log| log.snapshots[2].reach.doorbell = false),
            ("no snapshot shows the open gate", &|log| drop(log.snapshots.pop())),
            ("reaches the alias half", &|log| {
                log.end.hardware.devices[0].reach.as_mut().unwrap().alias = true;
            }),
            ("its DMA reaches its own BAR", &|log| log.end.hardware.devices[0].reaches_bar = true),
            ("not looked at in the end", &|log| log.end.hardware.devices[0].reach = None),
        ];
        for (text, change) in cases {
            let detail = failure(change);
            assert!(detail.contains(text), "{text:?} is not in {detail:?}");
        }
    }

    #[test]
    fn a_stream_without_number_at_the_start_is_looked_at_before_the_lock() {
        let mut scenario = Scenario::default();
        scenario.vmm.bus_numbers = BusNumbers::None;
        let mut log = log();
        log.end.final_state.devices[0].slot = "05.0/00.0".into();
        log.end.hardware.devices[0].slot = "05.0/00.0".into();
        log.snapshots.remove(0);
        assert!(check(&log, &scenario).detail.contains("not looked at before the start"));
        let when = "before".into();
        log.snapshots.insert(0, Snapshot { rid: RID, when, reach: reach("abort"), at: 3 });
        assert_eq!(check(&log, &scenario).result, Word::Pass);
        log.end.final_state.devices[0].slot = "02.0".into();
        log.end.hardware.devices[0].slot = "02.0".into();
        assert!(check(&log, &scenario).detail.contains("not looked at before the start"));
    }

    #[test]
    fn a_stopped_device_must_reach_nothing_private_in_the_end() {
        let mut log = read(&example().stopped(4034));
        log.snapshots = vec![Snapshot { rid: RID, when: "start".into(), reach: reach("abort"), at: 0 }];
        log.end.hardware.devices[0].reach = Some(reach("abort"));
        assert_eq!(check(&log, &Scenario::default()).result, Word::Pass);
        log.end.hardware.devices[0].reach = Some(private());
        assert!(check(&log, &Scenario::default()).detail.contains("reaches 64 private pages in the end"));
    }
}
