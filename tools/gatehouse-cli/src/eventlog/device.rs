//! What became of each device: `function`, `verdict` and `outcome` put together.

use super::event::{Data, Disposition, Event, Ids, Judgement, Mode, State, Verdict};
use super::order::is_pci;
use gatehouse::codes::StopCode;
use serde_json::{Value, json};

/// A function, a device besides PCI, or a rule that found too few.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Slot; `None`: a rule that found too few.
    pub slot: Option<String>,
    /// What the host shows.
    pub ids: Option<Ids>,
    /// Rule that decided, or the first that may take it.
    pub rule: Option<String>,
    /// Last verdict.
    pub judgement: Judgement,
    /// Last mode.
    pub mode: Mode,
    /// State at the hand-off; `None`: nothing was asked of it after the verdict.
    pub state: Option<State>,
    /// Last code other than 0, or 0.
    pub code: u16,
}

impl Device {
    /// Returns the code as people write it, and what it means. `None`: there is none.
    #[must_use]
    pub fn code_text(&self) -> Option<(String, &'static str)> {
        let known = StopCode::ALL.iter().find(|code| code.number() == self.code);
        let text = known.map_or("a code that this version does not know", |code| code.text());
        (self.code != 0).then(|| (format!("GH-{:04}", self.code), text))
    }

    /// Returns the ids as `vendor:device subsystem-vendor:subsystem class revision`.
    #[must_use]
    pub fn ids_text(&self) -> String {
        match (&self.ids, self.slot.as_deref()) {
            (Some(ids), Some(slot)) if is_pci(slot) => format!(
                "{:04x}:{:04x} {:04x}:{:04x} {:06x} {:02x}",
                ids.vendor, ids.device, ids.subsystem_vendor, ids.subsystem, ids.class, ids.revision
            ),
            (Some(ids), _) if ids.device != 0 => format!("virtio type {}", ids.device),
            (Some(_), _) => "platform device".to_owned(),
            (None, _) => "-".to_owned(),
        }
    }

    /// Returns it as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let ids = self.ids.map(|ids| {
            json!({
                "vendor": ids.vendor, "device": ids.device, "subsystem-vendor": ids.subsystem_vendor,
                "subsystem": ids.subsystem, "class": ids.class, "revision": ids.revision,
            })
        });
        json!({
            "slot": self.slot, "ids": ids, "rule": self.rule, "verdict": self.judgement.word(),
            "mode": self.mode.word(), "state": self.state.map(State::word),
            "code": self.code_text().map(|(code, _)| code), "reason": self.code_text().map(|(_, text)| text),
        })
    }
}

/// Puts the events together, in the order of the functions; rules that found too few come last.
pub fn all(events: &[Event]) -> Vec<Device> {
    let mut devices: Vec<Device> = Vec::new();
    let index = |devices: &[Device], slot: &str| devices.iter().position(|d| d.slot.as_deref() == Some(slot));
    for event in events {
        match &event.data {
            Data::Function(function) if function.disposition != Disposition::Bridge => devices.push(Device {
                slot: Some(function.slot.clone()),
                ids: Some(function.ids),
                rule: function.rule.clone(),
                judgement: Judgement::Extra,
                mode: Mode::Hide,
                state: None,
                code: 0,
            }),
            Data::Verdict(Verdict { slot: Some(slot), rule, judgement, mode, code }) => {
                if let Some(device) = index(&devices, slot).and_then(|at| devices.get_mut(at)) {
                    device.rule.clone_from(rule);
                    (device.judgement, device.mode, device.code) = (*judgement, *mode, *code);
                }
            }
            Data::Verdict(Verdict { slot: None, rule, judgement, mode, code }) => devices.push(Device {
                slot: None,
                ids: None,
                rule: rule.clone(),
                judgement: *judgement,
                mode: *mode,
                state: None,
                code: *code,
            }),
            Data::Outcome(outcome) => {
                if let Some(device) = index(&devices, &outcome.slot).and_then(|at| devices.get_mut(at)) {
                    (device.judgement, device.mode) = (outcome.judgement, outcome.mode);
                    device.state = Some(outcome.state);
                    if outcome.code != 0 {
                        device.code = outcome.code;
                    }
                }
            }
            _ => {}
        }
    }
    devices
}
