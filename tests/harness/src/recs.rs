//! Second RECs: the firmware must turn off every REC but the first, whichever comes first.

use crate::json::ResultLine;
use crate::stublog::StubLog;
use rmm_model::Scenario;
use rmm_model::record::Event;

/// Checks that each REC but the first called CPU_OFF once and was not entered again; nothing for a single REC.
#[must_use]
pub fn check(log: &StubLog, scenario: &Scenario) -> Option<ResultLine> {
    let num_recs = u64::from(scenario.vmm.recs);
    if num_recs < 2 {
        return None;
    }
    let mut off: Vec<u64> = log.off.iter().map(|off| off.rec).collect();
    off.sort_unstable();
    let mut wrong = Vec::new();
    if off != (1..num_recs).collect::<Vec<_>>() {
        wrong.push(format!("RECs that went off: {off:?}"));
    }
    let is_call = |event: &Event| matches!(event, Event::Psci { call, .. } if call == "PSCI_CPU_OFF");
    let calls = log.records.iter().filter(|record| is_call(&record.event)).count();
    if calls != off.len() {
        wrong.push(format!("{calls} calls of CPU_OFF"));
    }
    let mut result = ResultLine::unless("second-rec-parked", &wrong);
    if wrong.is_empty() {
        // Which came first is up to QEMU's threads; either is right.
        let first_call = log.records.iter().find(|record| matches!(record.event, Event::Rsi { .. }));
        let before = |off: u64| first_call.is_none_or(|call| off < call.ticks);
        let early = log.off.iter().filter(|off| before(off.ticks)).count();
        result.detail = format!("{} off, {early} of them before the first RSI call", off.len());
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json::Word;
    use crate::judge::tests::example;
    use crate::stublog::{RecOff, Tail};
    use rmm_model::record::Record;

    fn two_recs() -> (StubLog, Scenario) {
        let name = format!("gatehouse-recs-{}-{:?}", std::process::id(), std::thread::current().id());
        let path = std::env::temp_dir().join(name);
        std::fs::write(&path, example().log_text()).unwrap();
        let mut log = Tail::new(&path).finish().unwrap();
        std::fs::remove_file(&path).unwrap();
        let event = Event::Psci { call: "PSCI_CPU_OFF".into(), args: vec![0; 3], status: 0 };
        log.records.push(Record { seq: 0, ticks: 5, event });
        log.off = vec![RecOff { rec: 1, ticks: 5 }];
        let mut scenario = Scenario::default();
        scenario.vmm.recs = 2;
        (log, scenario)
    }

    #[test]
    fn a_parked_second_rec_is_right_and_a_single_rec_is_not_asked() {
        let (log, mut scenario) = two_recs();
        let result = check(&log, &scenario).unwrap();
        assert_eq!((result.result, result.detail.contains("1 off, 1 of them")), (Word::Pass, true));
        scenario.vmm.recs = 1;
        assert!(check(&log, &scenario).is_none());
    }

    #[test]
    fn a_second_rec_that_goes_on_is_found() {
        let (log, mut scenario) = two_recs();
        let mut none = log.clone();
        none.off.clear();
        assert_eq!(check(&none, &scenario).unwrap().result, Word::Fail);
        let mut first = log.clone();
        first.off[0].rec = 0;
        assert_eq!(check(&first, &scenario).unwrap().result, Word::Fail);
        let mut calls = log.clone();
        calls.records.pop();
        assert_eq!(check(&calls, &scenario).unwrap().result, Word::Fail);
        scenario.vmm.recs = 3;
        assert_eq!(check(&log, &scenario).unwrap().result, Word::Fail);
    }
}
