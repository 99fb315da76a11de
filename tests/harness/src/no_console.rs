//! A realm without console (`vmm.console = "none"`): the stub alone says what happened.

use crate::console::Console;
use crate::json::{ResultLine, Word};
use crate::stublog::StubLog;
use rmm_model::Scenario;
use rmm_model::final_state::Outcome;
use rmm_model::record::Event;
use rmm_model::scenario;

/// Why a result is skipped.
const WHY: &str = "no console";

/// Tells whether the scenario leaves the realm without console.
#[must_use]
pub fn is_so(scenario: &Scenario) -> bool {
    scenario.vmm.console == scenario::Console::None
}

/// Tells whether the payload ran: code 0 is its own, every other one the firmware's.
#[must_use]
pub fn is_handed_off(log: &StubLog) -> bool {
    log.end.final_state.outcome == Outcome::PowerOff { code: 0 }
}

/// Judges what must not be there at all.
#[must_use]
pub fn agrees(console: &Console) -> ResultLine {
    match console.lines.first() {
        None => ResultLine::new("console-agrees", Word::Skip, WHY),
        Some(line) => ResultLine::new("console-agrees", Word::Fail, format!("a line on no console: {line}")),
    }
}

/// Returns the system counter at the hand-off: the firmware's last call is the one that confirms the last DMA_ENABLE.
/// Without such a call the whole run counts as the firmware's.
#[must_use]
pub fn handoff_ticks(log: &StubLog) -> Option<u64> {
    let is_call = |event: &Event, name: &str| matches!(event, Event::Rsi { call, .. } if call == name);
    let enable = log.records.iter().rposition(|record| is_call(&record.event, "RSI_VDEV_DMA_ENABLE"));
    let behind = log.records.get(enable?..).unwrap_or_default();
    behind.iter().find(|record| is_call(&record.event, "RSI_VDEV_GET_INFO")).map(|record| record.ticks)
}

/// Makes results that only the console could give say so.
pub fn skip(results: &mut [ResultLine]) {
    for result in results {
        *result = ResultLine::new(&result.name, Word::Skip, WHY);
    }
}
