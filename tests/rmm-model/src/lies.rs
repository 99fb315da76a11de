//! Which lie is told now.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::machine::Machine;
use crate::model::Model;
use crate::record::Event;
use crate::scenario::{Lie, Misbehaviour};

/// The lies of a run and how many of their events went by.
pub(crate) struct Lies {
    list: Vec<(Misbehaviour, u32)>,
    /// Names of those told.
    pub(crate) told: Vec<String>,
}

impl Lies {
    pub(crate) fn new(list: &[Misbehaviour]) -> Lies {
        Lies { list: list.iter().map(|lie| (lie.clone(), 0)).collect(), told: Vec::new() }
    }

    /// Counts the event for each lie that fits; returns the first that is told at it.
    fn fire(&mut self, slot: Option<&str>, fits: &dyn Fn(&Lie) -> bool) -> Option<Lie> {
        let mut told = None;
        for (entry, seen) in &mut self.list {
            let device = entry.device.is_empty() || slot == Some(entry.device.as_str());
            if !device || !fits(&entry.lie) {
                continue;
            }
            *seen = seen.saturating_add(1);
            let now = entry.nth == 0 || (*seen >= entry.nth && *seen - entry.nth < entry.count);
            if now && told.is_none() {
                told = Some(entry.lie);
            }
        }
        told
    }
}

impl Lie {
    /// Returns its name, as in the scenario.
    pub fn name(&self) -> String {
        let text = format!("{self:?}");
        let name = text.split([' ', '{']).next().unwrap_or_default();
        let mut kebab = String::new();
        for (index, c) in name.chars().enumerate() {
            if c.is_ascii_uppercase() && index > 0 {
                kebab.push('-');
            }
            kebab.push(c.to_ascii_lowercase());
        }
        kebab
    }
}

impl Model {
    /// Asks whether a lie is told at this event; records it if so.
    pub(crate) fn lie(
        &mut self,
        m: &mut dyn Machine,
        device: Option<usize>,
        fits: impl Fn(&Lie) -> bool,
    ) -> Option<Lie> {
        let slot = device.map(|index| self.devices[index].spec.slot.as_str());
        let lie = self.lies.fire(slot, &fits)?;
        let slot = slot.map(ToString::to_string);
        let kebab = lie.name();
        self.lies.told.push(kebab.clone());
        self.emit(m, Event::Lie { name: kebab, slot });
        Some(lie)
    }
}
