//! What must hold at the end of a run, each a named result. All of it from the stub's side.

use crate::counts::{Counts, routing_id};
use crate::devices::{leaked, msix_pages};
use crate::json::{ResultLine, Word};
use crate::scenario::Step;
use crate::stublog::StubLog;
use crate::trace::word;
use rmm_model::final_state::{DeviceState, TdiState};
use rmm_model::machine::DmaGate;
use rmm_model::record::{Event, Record};
use rmm_model::ripas::Ripas;

/// Checks that hold however the run ended.
#[must_use]
pub fn always(log: &StubLog) -> Vec<ResultLine> {
    let violations = &log.end.final_state.violations;
    let mut adds_up = Vec::new();
    let counts = Counts::of(&log.records, log.start.board.alias_bit());
    let totals = log.end.final_state.totals;
    let mut compare = |what: &str, records: u64, total: u64| {
        if records != total {
            adds_up.push(format!("{what}: {records} by records, {total} in total"));
        }
    };
    compare("RSI calls", counts.rsi_calls, totals.rsi_calls);
    compare("RHI calls", counts.rhi_calls, totals.rhi_calls);
    compare("configuration accesses", counts.config_accesses, totals.config_accesses);
    // A lie about a status hides whether the host was asked.
    if log.end.final_state.lies.is_empty() {
        compare("host exits", counts.host_exits, totals.host_exits);
        compare("RIPAS changes", counts.ripas_changes, totals.ripas_changes);
    }
    vec![ResultLine::unless("no-violations", violations), ResultLine::unless("counts-add-up", &adds_up)]
}

/// Checks after a hand-off: the device is in RUN, private to the realm, and so is its DMA.
#[must_use]
pub fn handed_off(log: &StubLog, required: &str, boundary: u64) -> Vec<ResultLine> {
    let state = &log.end.final_state;
    let found = state.device(required).zip(log.end.hardware.devices.iter().find(|d| d.slot == required));
    let Some((device, hardware)) = found else {
        let wrong = [format!("no assigned device at {required}")];
        return vec![ResultLine::unless("device-run", &wrong)];
    };

    let mut run = Vec::new();
    if device.state != TdiState::Run {
        run.push(format!("the device is {}", word(&device.state)));
    }
    if device.rmm_state != Some(TdiState::Run) {
        run.push("the RMM does not say RUN".to_owned());
    }

    let tables = &log.end.hardware;
    let mut bar = Vec::new();
    if device.dev_ranges.is_empty() {
        bar.push("no page is RIPAS DEV".to_owned());
    }
    if hardware.dev.protected_leaves != hardware.dev.pages {
        bar.push(format!(
            "{} of {} pages lead to the device",
            hardware.dev.protected_leaves, hardware.dev.pages
        ));
    }
    let aliases = hardware.dev.alias_leaves + hardware.tee_alias_leaves;
    if aliases != 0 || !device.tee_aliases.is_empty() {
        bar.push(format!("alias leaves: {aliases} in the tables, {} by the model", device.tee_aliases.len()));
    }
    if tables.pages_in_both_halves != 0 {
        bar.push(format!("{} pages are mapped in both halves", tables.pages_in_both_halves));
    }
    if tables.cpu_protected_doorbell {
        bar.push("the interrupt doorbell is in the protected half".to_owned());
    }

    let mut dma = Vec::new();
    if device.dma != DmaGate::PrivateOnly || hardware.stream != "private-only" {
        dma.push(format!("gate {}, stream table entry {}", word(&device.dma), hardware.stream));
    }
    if tables.private_root_alias {
        dma.push("the device's tables have entries in the alias half".to_owned());
    }
    if tables.smmu_events.total() != 0 {
        dma.push(format!("the SMMU stopped {} accesses", tables.smmu_events.total()));
    }
    let opened = log.records.iter().find(|record| {
        matches!(record.event, Event::Dma { rid, gate: DmaGate::PrivateOnly } if rid == routing_id(device))
    });
    if opened.is_some_and(|record| record.ticks > boundary) {
        dma.push("the gate opened behind the hand-off".to_owned());
    }

    let shared = shared_ram(log, boundary);
    let window: Vec<String> =
        shared.iter().map(|(base, top)| format!("{base:#x}..{top:#x} is shared at the hand-off")).collect();
    vec![
        ResultLine::unless("device-run", &run),
        ResultLine::unless("private-bar-no-alias-leaf", &bar),
        ResultLine::unless("dma-private-only", &dma),
        msix(log, device),
        ResultLine::unless("window-returned", &window),
    ]
}

/// MSI-X pages must never have been validated.
fn msix(log: &StubLog, device: &DeviceState) -> ResultLine {
    let pages = msix_pages(&log.records, routing_id(device));
    let mut wrong = Vec::new();
    if pages.is_empty() {
        wrong.push("the realm read no MSI-X capability".to_owned());
    }
    for (page, len) in &pages {
        let covers = |base: u64, top: u64| base < page + len && *page < top;
        let changed = log.records.iter().any(
            |record| matches!(record.event, Event::Ripas { base, top, to, .. } if to != Ripas::Empty && covers(base, top)),
        );
        let is_dev = device.dev_ranges.iter().any(|range| covers(range.ipa, range.top()));
        if changed || is_dev {
            wrong.push(format!("{page:#x} was not EMPTY all the time"));
        }
    }
    let place: Vec<String> = pages.iter().map(|(page, _)| format!("{page:#x}")).collect();
    let mut result = ResultLine::unless("msix-pages-empty", &wrong);
    if wrong.is_empty() {
        result.detail = place.join(", ");
    }
    result
}

/// Returns the RAM that the realm shares with the host at `boundary`.
#[must_use]
pub fn shared_ram(log: &StubLog, boundary: u64) -> Vec<(u64, u64)> {
    let mut shared: Vec<(u64, u64)> = Vec::new();
    for record in log.records.iter().filter(|record| record.ticks <= boundary) {
        let Event::Ripas { base, top, to, .. } = record.event else { continue };
        if !log.start.board.is_ram(base, top) {
            continue;
        }
        shared = shared
            .iter()
            .flat_map(|(from, end)| [(*from, (*end).min(base)), ((*from).max(top), *end)])
            .filter(|(from, end)| from < end)
            .collect();
        if to == Ripas::Empty {
            shared.push((base, top));
        }
    }
    shared
}

/// Checks after a stop: nothing is left behind but what the scenario itself makes impossible.
///
/// `broken`: the steps that it makes fail. Returns the results and the steps that were not made.
#[must_use]
pub fn stopped(log: &StubLog, broken: &[Step]) -> (Vec<ResultLine>, Vec<Step>) {
    let state = &log.end.final_state;
    let mut leaks: Vec<Step> = state.devices.iter().flat_map(|device| leaked(device, &log.records)).collect();
    if !state.shared.is_empty() {
        leaks.push(Step::Window);
    }
    let judge = |name: &str, step: Step, wrong: &[String]| {
        if !wrong.is_empty() && broken.contains(&step) {
            let detail = format!("leaked: {} ({})", step.call(), wrong.join("; "));
            return ResultLine::new(name, Word::Skip, detail);
        }
        ResultLine::unless(name, wrong)
    };
    let each = |wrong: &dyn Fn(&DeviceState) -> Option<String>| -> Vec<String> {
        state
            .devices
            .iter()
            .filter_map(|device| Some(format!("{}: {}", device.bdf, wrong(device)?)))
            .collect()
    };
    let left = |step: Step, text: &dyn Fn(&DeviceState) -> String| {
        each(&|device| leaked(device, &log.records).contains(&step).then(|| text(device)))
    };
    let streams = log.end.hardware.devices.iter().filter(|device| device.stream != "abort");
    let streams: Vec<String> =
        streams.map(|device| format!("{}: stream table entry {}", device.slot, device.stream)).collect();
    let gates = left(Step::DmaOff, &|device| format!("gate {}", word(&device.dma)));
    let ranges = each(&|device| {
        let ranges: Vec<String> = device.dev_ranges.iter().map(|r| format!("{:#x} is DEV", r.ipa)).collect();
        (!ranges.is_empty()).then(|| ranges.join(", "))
    });
    let given_up = left(Step::GiveUp, &|_| "validated pages were not made EMPTY".to_owned());
    let unlocked = left(Step::Unlock, &|device| format!("the device is {}", word(&device.state)));
    let quiet = left(Step::Quiet, &|device| format!("command register {:#06x}", device.command));
    let window = state.shared.iter();
    let window: Vec<String> =
        window.map(|range| format!("{:#x}..{:#x} is shared", range.base, range.top())).collect();
    let results = vec![
        judge("dma-off", Step::DmaOff, &[gates, streams].concat()),
        ResultLine::unless("no-range-dev", &ranges),
        judge("ranges-given-up", Step::GiveUp, &given_up),
        judge("device-unlocked", Step::Unlock, &unlocked),
        judge("function-quiet", Step::Quiet, &quiet),
        judge("window-returned", Step::Window, &window),
    ];
    (results, leaks)
}

/// Returns the records up to and with `boundary`.
#[must_use]
pub fn until(records: &[Record], boundary: u64) -> &[Record] {
    let end = records.partition_point(|record| record.ticks <= boundary);
    records.get(..end).unwrap_or(records)
}
