//! What must hold at the end of a run, each a named result. All of it from the stub's side.

use crate::counts::{Counts, bdf, routing_id};
use crate::devices::{bars, last_command, leaked, msix_pages, unassigned};
use crate::expected::Assigned;
use crate::json::{ResultLine, Word};
use crate::scenario::{Step, breaks_way_back};
use crate::stublog::{HardwareDevice, StubLog};
use crate::topology::{has_msix, required};
use crate::trace::word;
use rmm_model::Scenario;
use rmm_model::final_state::{DeviceState, TdiState};
use rmm_model::machine::DmaGate;
use rmm_model::record::{Event, Record};
use rmm_model::ripas::Ripas;
use rmm_model::scenario::Rule;
use std::fmt::Display;

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

/// A payload that knows nothing of device assignment: no device's DMA was opened, or asked to be (TM-1).
#[must_use]
pub fn never_enabled(log: &StubLog, scenario: &Scenario) -> Option<ResultLine> {
    let is_enable = |record: &&Record| match &record.event {
        Event::Rsi { call, .. } => call == "RSI_VDEV_DMA_ENABLE",
        Event::Dma { gate, .. } => *gate == DmaGate::PrivateOnly,
        _ => false,
    };
    let wrong: Vec<String> =
        log.records.iter().filter(is_enable).map(|record| format!("record {}", record.seq)).collect();
    (scenario.bundle.os == "unaware").then(|| ResultLine::unless("no-dma-enable", &wrong))
}

/// What was wrong, by result and device: names the device in front.
#[derive(Default)]
struct Wrong(Vec<String>);

impl Wrong {
    fn of(&mut self, device: &DeviceState, text: impl Display) {
        self.0.push(format!("{}: {text}", device.bdf));
    }

    fn any(&mut self, text: impl Display) {
        self.0.push(text.to_string());
    }

    fn result(&self, name: &str) -> ResultLine {
        ResultLine::unless(name, &self.0)
    }
}

/// What a run that was handed off is judged by.
#[derive(Clone, Copy, Debug)]
pub struct HandedOff<'a> {
    /// The stub's log.
    pub log: &'a StubLog,
    /// What was asked for.
    pub scenario: &'a Scenario,
    /// The scenario's devices.
    pub devices: &'a [Assigned<'a>],
    /// Devices that the payload made reach for what they must not have.
    pub reach_out: &'a [&'a DeviceState],
    /// System counter at the hand-off.
    pub boundary: u64,
}

/// Checks after a hand-off: accepted devices are in RUN, private to the realm, and so is their DMA; all others are as
/// if they had never been touched. Returns the results and the steps of the way back that were not made.
#[must_use]
pub fn handed_off(run: &HandedOff<'_>) -> (Vec<ResultLine>, Vec<Step>) {
    let HandedOff { log, boundary, .. } = *run;
    let shared = shared_ram(log, boundary);
    let window: Vec<String> =
        shared.iter().map(|(base, top)| format!("{base:#x}..{top:#x} is shared at the hand-off")).collect();
    let (others, leaks) = run.others_clean();
    let mut results = vec![
        run.device_run(),
        run.private_bars(),
        run.private_dma(),
        run.msix_pages(),
        others,
        ResultLine::unless("window-returned", &window),
    ];
    if run.with("pin").next().is_some() {
        results.push(run.pinned_quiet());
    }
    if run.with("shared").next().is_some() {
        results.push(run.shared_untouched());
    }
    if !run.reach_out.is_empty() {
        results.push(run.fault_seen());
    }
    (results, leaks)
}

impl<'a> HandedOff<'a> {
    /// The devices in one of these modes, with what the tables say about them.
    fn with(&self, mode: &'static str) -> impl Iterator<Item = (&'a Assigned<'a>, &'a HardwareDevice)> {
        let hardware = &self.log.end.hardware.devices;
        let found = move |device: &'a Assigned<'a>| {
            Some((device, hardware.iter().find(|found| found.slot == device.state.slot)?))
        };
        self.devices.iter().filter(move |device| device.device.mode == mode).filter_map(found)
    }

    fn device_run(&self) -> ResultLine {
        let mut wrong = Wrong::default();
        for slot in &required(self.scenario) {
            if !self.devices.iter().any(|device| device.state.slot == *slot) {
                wrong.any(format_args!("no assigned device at {slot}"));
            }
        }
        for (Assigned { state, .. }, _) in self.with("run") {
            if state.state != TdiState::Run {
                wrong.of(state, format_args!("the device is {}", word(&state.state)));
            }
            if state.rmm_state != Some(TdiState::Run) {
                wrong.of(state, "the RMM does not say RUN");
            }
        }
        wrong.result("device-run")
    }

    fn private_bars(&self) -> ResultLine {
        let mut wrong = Wrong::default();
        for (Assigned { state, .. }, hardware) in self.with("run") {
            if state.dev_ranges.is_empty() {
                wrong.of(state, "no page is RIPAS DEV");
            }
            let dev = hardware.dev;
            if dev.protected_leaves != dev.pages {
                let (right, pages) = (dev.protected_leaves, dev.pages);
                wrong.of(state, format_args!("{right} of {pages} pages lead to the device"));
            }
            let (tables, model) = (dev.alias_leaves + hardware.tee_alias_leaves, state.tee_aliases.len());
            if tables != 0 || model != 0 {
                wrong.of(state, format_args!("alias leaves: {tables} in the tables, {model} by the model"));
            }
        }
        let tables = &self.log.end.hardware;
        if tables.pages_in_both_halves != 0 {
            wrong.any(format_args!("{} pages are mapped in both halves", tables.pages_in_both_halves));
        }
        if tables.cpu_protected_doorbell {
            wrong.any("the interrupt doorbell is in the protected half");
        }
        wrong.result("private-bar-no-alias-leaf")
    }

    fn private_dma(&self) -> ResultLine {
        let mut wrong = Wrong::default();
        for (Assigned { state, .. }, hardware) in self.with("run") {
            if state.dma != DmaGate::PrivateOnly || hardware.stream != "private-only" {
                let (gate, stream) = (word(&state.dma), &hardware.stream);
                wrong.of(state, format_args!("gate {gate}, stream table entry {stream}"));
            }
            let rid = routing_id(state);
            let opened = self.log.records.iter().find(|record| {
                matches!(record.event, Event::Dma { rid: at, gate: DmaGate::PrivateOnly } if at == rid)
            });
            if opened.is_some_and(|record| record.ticks > self.boundary) {
                wrong.of(state, "the gate opened behind the hand-off");
            }
        }
        let tables = &self.log.end.hardware;
        if tables.private_root_alias {
            wrong.any("the devices' tables have entries in the alias half");
        }
        strangers(self.log).into_iter().for_each(|text| wrong.any(text));
        let events = &tables.smmu_events;
        // What a payload provokes on purpose is judged by `device-fault-seen`, what the host does by its test.
        let is_host_quiet = self.scenario.device.iter().all(|device| device.host_dma.is_empty());
        let provoked = if self.reach_out.is_empty() && is_host_quiet { 0 } else { events.translation };
        if events.total() != provoked {
            wrong.any(format_args!("the SMMU stopped {} accesses", events.total() - provoked));
        }
        wrong.result("dma-private-only")
    }

    /// MSI-X pages must never have been validated.
    fn msix_pages(&self) -> ResultLine {
        let records = &self.log.records;
        let (mut wrong, mut place) = (Wrong::default(), Vec::new());
        for (Assigned { spec, state, .. }, _) in self.with("run") {
            let pages = msix_pages(records, routing_id(state));
            if pages.is_empty() && has_msix(spec.model) {
                wrong.of(state, "the realm read no MSI-X capability");
            }
            for (page, len) in &pages {
                let covers = |base: u64, top: u64| base < page + len && *page < top;
                let changed = records.iter().any(
                    |record| matches!(record.event, Event::Ripas { base, top, to, .. } if to != Ripas::Empty && covers(base, top)),
                );
                let is_dev = state.dev_ranges.iter().any(|range| covers(range.ipa, range.top()));
                if changed || is_dev {
                    wrong.of(state, format_args!("{page:#x} was not EMPTY all the time"));
                }
                place.push(format!("{page:#x}"));
            }
        }
        let mut result = wrong.result("msix-pages-empty");
        if result.result == Word::Pass {
            result.detail = place.join(", ");
        }
        result
    }

    /// Refused devices and functions that the bundle does not list: unlocked, DMA aborted, quiet, no page DEV.
    fn others_clean(&self) -> (ResultLine, Vec<Step>) {
        let (mut wrong, mut excused, mut steps) = (Wrong::default(), Wrong::default(), Vec::new());
        for (Assigned { state, .. }, hardware) in self.with("hide") {
            let broken = breaks_way_back(self.scenario, &state.slot);
            for step in leaked(state, &self.log.records) {
                let list = if broken.contains(&step) { &mut excused } else { &mut wrong };
                list.of(state, format_args!("{} is missing", step.call()));
                steps.push(step);
            }
            if hardware.stream != "abort" && !broken.contains(&Step::DmaOff) {
                wrong.of(state, format_args!("stream table entry {}", hardware.stream));
            }
            if !state.dev_ranges.is_empty() {
                wrong.of(state, "pages are DEV");
            }
        }
        let of_firmware = until(&self.log.records, self.boundary);
        for (rid, _) in unassigned(of_firmware, &self.log.end.final_state.devices) {
            match last_command(of_firmware, rid) {
                Some(0) => {}
                Some(bits) => wrong.any(format_args!("{}: command bits {bits:#x} are on", bdf(rid))),
                None => {
                    wrong.any(format_args!("{}: the realm did not look at its command register", bdf(rid)))
                }
            }
        }
        let mut result = wrong.result("others-clean");
        if result.result == Word::Pass && !excused.0.is_empty() {
            result = ResultLine::new("others-clean", Word::Skip, format!("leaked: {}", excused.0.join("; ")));
        }
        (result, steps)
    }

    /// Pinned functions: they were locked, for their evidence, and are unlocked and quiet now; nothing of them was ever
    /// private, and their DMA is off.
    fn pinned_quiet(&self) -> ResultLine {
        let records = &self.log.records;
        let mut wrong = Wrong::default();
        for (Assigned { state, .. }, hardware) in self.with("pin") {
            let rid = routing_id(state);
            let was = |wanted: &dyn Fn(&Event) -> bool| records.iter().any(|record| wanted(&record.event));
            if !was(&|event| matches!(event, Event::Tdi { rid: at, to: TdiState::Locked, .. } if *at == rid))
            {
                wrong.of(state, "it was never locked: nobody looked at its evidence");
            }
            for step in leaked(state, records) {
                wrong.of(state, format_args!("{} is missing", step.call()));
            }
            if hardware.stream != "abort" {
                wrong.of(state, format_args!("stream table entry {}", hardware.stream));
            }
            if !state.dev_ranges.is_empty() || !state.validated.is_empty() {
                wrong.of(state, "a page of it was DEV");
            }
            if was(&|event| matches!(event, Event::Dma { rid: at, gate: DmaGate::PrivateOnly } if *at == rid))
            {
                wrong.of(state, "its DMA reached private memory");
            }
        }
        wrong.result("pinned-quiet")
    }

    /// Shared functions: never private, at no time; never locked either, unless another mode of the rule came first.
    fn shared_untouched(&self) -> ResultLine {
        let records = &self.log.records;
        let mut wrong = Wrong::default();
        for (device, hardware) in self.with("shared") {
            let state = device.state;
            let rid = routing_id(state);
            let was_tdi = |record: &&Record| matches!(record.event, Event::Tdi { rid: at, .. } if at == rid);
            // A rule that has no other mode never locks; others fall back to this one.
            let is_never = device.spec.rule == Rule::Shared;
            if state.state != TdiState::Unlocked || is_never && records.iter().any(|record| was_tdi(&record))
            {
                wrong.of(state, "it was locked");
            }
            if !matches!(state.rmm_state, None | Some(TdiState::Unlocked))
                || is_never && state.rmm_state.is_some()
            {
                wrong.of(state, "the RMM knows it");
            }
            let was_private = records.iter().any(
                |record| matches!(record.event, Event::Dma { rid: at, gate: DmaGate::PrivateOnly } if at == rid),
            );
            if was_private || !matches!(state.dma, DmaGate::SharedOnly | DmaGate::Abort) {
                wrong.of(state, format_args!("its DMA reached private memory, gate {}", word(&state.dma)));
            }
            if !matches!(hardware.stream.as_str(), "shared-only" | "abort") {
                wrong.of(state, format_args!("stream table entry {}", hardware.stream));
            }
            let bars = bars(records, rid);
            let is_dev = records.iter().any(|record| match record.event {
                Event::Ripas { base, top, to: Ripas::Dev, .. } => {
                    bars.iter().any(|bar| (base..top).contains(bar))
                }
                _ => false,
            });
            if is_dev || !state.dev_ranges.is_empty() || !state.validated.is_empty() {
                wrong.of(state, "a page of it was DEV");
            }
        }
        if self.log.end.hardware.shared_root_protected {
            wrong.any("the shared devices' tables have entries in the protected half");
        }
        wrong.result("shared-untouched")
    }

    /// The payload made a device reach for a page that it must not have: the SMMU saw that, and nothing else.
    fn fault_seen(&self) -> ResultLine {
        let events = &self.log.end.hardware.smmu_events;
        let mut wrong = Wrong::default();
        if events.translation == 0 {
            wrong.any("the SMMU saw no translation fault");
        }
        let streams: Vec<u64> = self.reach_out.iter().map(|state| routing_id(state).into()).collect();
        if events.first_stream().is_some_and(|stream| !streams.contains(&stream)) {
            wrong.any(format_args!("the first fault is of stream {:#x}", events.first_stream().unwrap_or(0)));
        }
        wrong.result("device-fault-seen")
    }
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

/// Functions that are no devices of the scenario reach shared pages, as any function of a realm may, and no more; no
/// stream is open that nobody opened.
fn strangers(log: &StubLog) -> Vec<String> {
    let tables = &log.end.hardware;
    let is_ours = |rid| log.end.final_state.devices.iter().any(|state| routing_id(state) == rid);
    let mut wrong: Vec<String> = tables
        .gates
        .iter()
        .filter(|gate| !is_ours(gate.rid) && !matches!(gate.stream.as_str(), "abort" | "shared-only"))
        .map(|gate| format!("{}: stream table entry {}", bdf(gate.rid), gate.stream))
        .collect();
    let open = tables.gates.iter().filter(|gate| gate.stream != "abort").count() as u64;
    if tables.open_streams != open {
        wrong.push(format!("{} streams are open, {open} by the gates", tables.open_streams));
    }
    wrong
}

/// Checks after a stop: nothing is left behind but what the scenario itself makes impossible. Returns the results and
/// the steps that were not made.
#[must_use]
pub fn stopped(log: &StubLog, scenario: &Scenario) -> (Vec<ResultLine>, Vec<Step>) {
    let state = &log.end.final_state;
    let mut way_back = WayBack { log, scenario, leaks: Vec::new() };
    let stream = |device: &DeviceState| {
        let found = log.end.hardware.devices.iter().find(|found| found.slot == device.slot);
        found.map_or("unknown", |found| found.stream.as_str())
    };
    let mut dma = way_back.step("dma-off", Step::DmaOff, &|device| {
        let is_off = device.dma == DmaGate::Abort && stream(device) == "abort";
        (!is_off).then(|| format!("gate {}, stream table entry {}", word(&device.dma), stream(device)))
    });
    let strangers = strangers(log);
    if !strangers.is_empty() {
        dma = ResultLine::unless("dma-off", &strangers);
    }
    let mut ranges = Wrong::default();
    for device in &state.devices {
        for range in &device.dev_ranges {
            ranges.of(device, format_args!("{:#x} is DEV", range.ipa));
        }
    }
    let leaks = |step: Step, device: &DeviceState| leaked(device, &log.records).contains(&step);
    let given_up = way_back.step("ranges-given-up", Step::GiveUp, &|device| {
        leaks(Step::GiveUp, device).then(|| "validated pages were not made EMPTY".to_owned())
    });
    let unlocked = way_back.step("device-unlocked", Step::Unlock, &|device| {
        leaks(Step::Unlock, device).then(|| format!("the device is {}", word(&device.state)))
    });
    let quiet = way_back.step("function-quiet", Step::Quiet, &|device| {
        leaks(Step::Quiet, device).then(|| format!("command register {:#06x}", device.command))
    });
    let window: Vec<String> =
        state.shared.iter().map(|range| format!("{:#x}..{:#x} is shared", range.base, range.top())).collect();
    let window = way_back.judge("window-returned", Step::Window, &[(String::new(), window)]);
    let results = vec![dma, ranges.result("no-range-dev"), given_up, unlocked, quiet, window];
    (results, way_back.leaks)
}

/// Tells what the scenario makes impossible from what went wrong.
struct WayBack<'a> {
    log: &'a StubLog,
    scenario: &'a Scenario,
    leaks: Vec<Step>,
}

impl WayBack<'_> {
    /// Judges one step of every device; `wrong` says what is left of it.
    fn step(&mut self, name: &str, step: Step, wrong: &dyn Fn(&DeviceState) -> Option<String>) -> ResultLine {
        let of = |device: &DeviceState| {
            let text = wrong(device).map(|text| format!("{}: {text}", device.bdf));
            (device.slot.clone(), text.into_iter().collect())
        };
        let list: Vec<(String, Vec<String>)> = self.log.end.final_state.devices.iter().map(of).collect();
        self.judge(name, step, &list)
    }

    /// Judges what is wrong at each slot.
    fn judge(&mut self, name: &str, step: Step, list: &[(String, Vec<String>)]) -> ResultLine {
        let (mut wrong, mut excused) = (Vec::new(), Vec::new());
        for (slot, texts) in list.iter().filter(|(_, texts)| !texts.is_empty()) {
            let is_broken = breaks_way_back(self.scenario, slot).contains(&step);
            if is_broken { &mut excused } else { &mut wrong }.extend_from_slice(texts);
            self.leaks.push(step);
        }
        if wrong.is_empty() && !excused.is_empty() {
            let detail = format!("leaked: {} ({})", step.call(), excused.join("; "));
            return ResultLine::new(name, Word::Skip, detail);
        }
        ResultLine::unless(name, &[wrong, excused].concat())
    }
}

/// Returns the records up to and with `boundary`.
#[must_use]
pub fn until(records: &[Record], boundary: u64) -> &[Record] {
    let end = records.partition_point(|record| record.ticks <= boundary);
    records.get(..end).unwrap_or(records)
}
