//! The stub's records as people read traces: one call a line, arguments and results.

use crate::counts::bdf;
use rmm_model::record::{Event, Record};

/// Writes one record; `origin` and `hz`: the counter at the start, and its ticks in a second.
#[must_use]
pub fn line(record: &Record, origin: u64, hz: u64) -> String {
    let micros = u128::from(record.ticks.saturating_sub(origin)) * 1_000_000 / u128::from(hz.max(1));
    format!("{:3}.{:06} {}", micros / 1_000_000, micros % 1_000_000, event(&record.event))
}

fn numbers(values: &[u64]) -> String {
    values.iter().map(|value| format!("{value:#x}")).collect::<Vec<_>>().join(", ")
}

fn call(name: &str, args: &[u64], status: u64, results: &[u64]) -> String {
    let results = if results.is_empty() { String::new() } else { format!(" [{}]", numbers(results)) };
    format!("{name}({}) = {status:#x}{results}", numbers(args))
}

fn event(event: &Event) -> String {
    match event {
        Event::Rsi { call: name, args, status, results, .. } => call(name, args, *status, results),
        // What the host was asked inside the HOST_CALL on the next line.
        Event::Rhi { call: name, args, status, results, .. } => {
            format!("  {}", call(name, args, *status, results))
        }
        Event::Psci { call: name, args, status } => call(name, args, *status, &[]),
        Event::UnknownSmc { fid } => format!("SMC {fid:#x} = unknown"),
        Event::Config { rid, offset, width, write, value } => {
            let digits = usize::from(*width) * 2;
            let act = if *write { "write" } else { "read" };
            format!("config {} {act} {offset:#05x}/{width} = {value:#0w$x}", bdf(*rid), w = digits + 2)
        }
        Event::Ripas { base, top, from, to } => {
            let word = |ripas| format!("{ripas:?}").to_uppercase();
            format!("  ripas {base:#x}..{top:#x} {} -> {}", word(from), word(to))
        }
        Event::Tdi { rid, from, to, cause } => {
            format!("  tdi {} {} -> {} by {cause}", bdf(*rid), state(from), state(to))
        }
        Event::Dma { rid, gate } => format!("  dma {} {}", bdf(*rid), word(gate)),
        Event::Fault { ipa, access, action } => format!("fault {ipa:#x} {access} -> {action}"),
        Event::Lie { name, slot } => {
            format!("  lie {name}{}", slot.as_ref().map(|slot| format!(" of {slot}")).unwrap_or_default())
        }
        Event::Violation { text } => format!("VIOLATION {text}"),
        Event::PowerOff { code } => format!("power-off, code {code}"),
        Event::Reset => "reset".into(),
    }
}

fn state(state: &rmm_model::final_state::TdiState) -> String {
    word(state)
}

/// Writes an enumeration of the model as its word.
#[must_use]
pub fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => "?".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rmm_model::final_state::TdiState;
    use rmm_model::machine::DmaGate;

    fn text(event: Event) -> String {
        line(&Record { seq: 0, ticks: 62_500, event }, 0, 62_500_000)
    }

    #[test]
    fn a_call_has_arguments_status_and_results() {
        let event = Event::Rsi {
            call: "RSI_IPA_STATE_GET".into(),
            args: vec![0x1000, 0x2000],
            status: 0,
            results: vec![0x2000, 3],
            vdev: None,
        };
        assert_eq!(text(event), "  0.001000 RSI_IPA_STATE_GET(0x1000, 0x2000) = 0x0 [0x2000, 0x3]");
    }

    #[test]
    fn an_access_to_configuration_space_has_place_width_and_value() {
        let event = Event::Config { rid: 0x10, offset: 4, width: 2, write: true, value: 6 };
        assert_eq!(text(event), "  0.001000 config 00:02.0 write 0x004/2 = 0x0006");
    }

    #[test]
    fn states_and_gates_are_words() {
        let event = Event::Tdi { rid: 0x10, from: TdiState::Locked, to: TdiState::Run, cause: "SET".into() };
        assert_eq!(text(event), "  0.001000   tdi 00:02.0 locked -> run by SET");
        let event = Event::Dma { rid: 0x10, gate: DmaGate::PrivateOnly };
        assert_eq!(text(event), "  0.001000   dma 00:02.0 private-only");
    }
}
