//! Counts from the stub's records: of the run, of a phase, of a device.

use rmm_model::final_state::{DevRange, DeviceState};
use rmm_model::record::{Event, Record};

/// RSI_SUCCESS.
const SUCCESS: u64 = 0;
/// PSCI calls that the RMM answers without the host.
const PSCI_WITHOUT_EXIT: [&str; 3] = ["SMCCC_VERSION", "PSCI_VERSION", "PSCI_FEATURES"];

/// Exact counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// RSI calls.
    pub rsi_calls: u64,
    /// RHI calls, each in an RSI_HOST_CALL.
    pub rhi_calls: u64,
    /// Exits that the host sees.
    pub host_exits: u64,
    /// Accesses to configuration space, also part of `host_exits`.
    pub config_accesses: u64,
    /// Requests to change RIPAS, also part of `host_exits`.
    pub ripas_changes: u64,
}

impl Counts {
    /// Counts all records; `alias_bit`: the bit of an IPA that makes it unprotected.
    pub fn of<'a>(records: impl IntoIterator<Item = &'a Record>, alias_bit: u64) -> Counts {
        let mut counts = Counts::default();
        for record in records {
            counts.add(&record.event);
            // The host emulates, or refuses, what the realm does in its own half.
            if let Event::Fault { ipa, action, .. } = &record.event
                && ipa & alias_bit != 0
                && action != "address-size"
            {
                counts.host_exits += 1;
            }
        }
        counts
    }

    /// Counts the records that concern one device.
    pub fn of_device<'a>(
        records: impl IntoIterator<Item = &'a Record>,
        rid: u16,
        validated: &[DevRange],
    ) -> Counts {
        let mut counts = Counts::default();
        for record in records {
            match &record.event {
                // The carrier of an RHI call names no device.
                Event::Rhi { vdev: Some(id), .. } if *id == u64::from(rid) => {
                    counts.rhi_calls += 1;
                    counts.rsi_calls += 1;
                    counts.host_exits += 1;
                }
                event if concerns(event, rid, validated) => counts.add(event),
                _ => {}
            }
        }
        counts
    }

    fn add(&mut self, event: &Event) {
        match event {
            Event::Rsi { call, status, .. } => {
                self.rsi_calls += 1;
                let done = *status == SUCCESS;
                match call.as_ref() {
                    "RSI_IPA_STATE_SET" if done => {
                        self.host_exits += 1;
                        self.ripas_changes += 1;
                    }
                    "RSI_HOST_CALL" | "RSI_VDEV_VALIDATE_MAPPING" if done => self.host_exits += 1,
                    _ => {}
                }
            }
            Event::Rhi { .. } => self.rhi_calls += 1,
            Event::Config { .. } => {
                self.config_accesses += 1;
                self.host_exits += 1;
            }
            Event::Psci { call, .. } if !PSCI_WITHOUT_EXIT.contains(&call.as_ref()) => self.host_exits += 1,
            _ => {}
        }
    }
}

/// Tells whether an event other than an RHI call is about the device.
fn concerns(event: &Event, rid: u16, validated: &[DevRange]) -> bool {
    match event {
        Event::Rsi { vdev: Some(id), .. } => *id == u64::from(rid),
        Event::Rsi { call, args, .. } if call == "RSI_IPA_STATE_SET" => match args[..] {
            [base, top, ..] => validated.iter().any(|range| base < range.top() && range.ipa < top),
            _ => false,
        },
        Event::Config { rid: at, .. } => *at == rid,
        _ => false,
    }
}

/// Returns the ticks between the first and the last record that concern the device.
#[must_use]
pub fn device_ticks(records: &[Record], rid: u16, validated: &[DevRange]) -> u64 {
    let is_rhi = |event: &Event| matches!(event, Event::Rhi { vdev: Some(id), .. } if *id == u64::from(rid));
    let mut ticks = records
        .iter()
        .filter(|record| is_rhi(&record.event) || concerns(&record.event, rid, validated))
        .map(|record| record.ticks);
    let first = ticks.next().unwrap_or(0);
    ticks.next_back().map_or(0, |last| last.saturating_sub(first))
}

/// Returns the routing id of a device's `bb:dd.f`.
#[must_use]
pub fn routing_id(device: &DeviceState) -> u16 {
    let part = |text: &str| u16::from_str_radix(text, 16).unwrap_or(0);
    let (bus, rest) = device.bdf.split_once(':').unwrap_or_default();
    let (slot, function) = rest.split_once('.').unwrap_or_default();
    part(bus) << 8 | part(slot) << 3 | part(function)
}

/// Writes a routing id as `bb:dd.f`.
#[must_use]
pub fn bdf(rid: u16) -> String {
    format!("{:02x}:{:02x}.{}", rid >> 8, rid >> 3 & 0x1f, rid & 7)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::example;

    #[test]
    fn every_kind_of_exit_is_counted_once() {
        let example = example();
        let counts = Counts::of(&example.records, 1 << 43);
        assert_eq!(counts.rsi_calls, example.totals.rsi_calls);
        assert_eq!(counts.rhi_calls, example.totals.rhi_calls);
        assert_eq!(counts.host_exits, example.totals.host_exits);
        assert_eq!(counts.config_accesses, example.totals.config_accesses);
        assert_eq!(counts.ripas_changes, example.totals.ripas_changes);
    }

    #[test]
    fn routing_ids_have_two_spellings() {
        assert_eq!(bdf(0x10), "00:02.0");
        assert_eq!(bdf(0x1ff), "01:1f.7");
    }
}
