//! Which rule takes which function, by what the host shows: before the first lock, and again before the hand-off.
//!
//! Trust: ids and places are the host's word. A rule that demands an identity stays open until the evidence is there.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::types::{Match, Mode, OnFailure, PciMatch, Policy, Rest, Rule};
use crate::abi::pcie::{VENDOR_VIRTIO, VIRTIO_MODERN, VIRTIO_TRANSITIONAL};
use crate::boot::slot::SlotPath;
use crate::eventlog::Disposition;
use crate::pcie::{Bridge, Function};
use alloc::vec::Vec;

/// What the host shows of a PCI function or bridge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Subsystem vendor id; zero of a bridge.
    pub subsystem_vendor: u16,
    /// Subsystem id; zero of a bridge.
    pub subsystem: u16,
    /// Class code, 24 bits.
    pub class: u32,
}

impl From<&Function> for Shown {
    fn from(function: &Function) -> Self {
        let Function { vendor, device, subsystem_vendor, subsystem, class, .. } = *function;
        Self { vendor, device, subsystem_vendor, subsystem, class }
    }
}

impl From<&Bridge> for Shown {
    fn from(bridge: &Bridge) -> Self {
        let Bridge { vendor, device, class, .. } = *bridge;
        Self { vendor, device, subsystem_vendor: 0, subsystem: 0, class }
    }
}

impl Shown {
    /// Returns the type of a virtio device (VIRTIO 1.2, 4.1.2.1); `None`: it is not virtio.
    #[must_use]
    pub fn virtio_type(&self) -> Option<u16> {
        if self.vendor != VENDOR_VIRTIO {
            None
        } else if VIRTIO_TRANSITIONAL.contains(&self.device) {
            Some(self.subsystem)
        } else if VIRTIO_MODERN.contains(&self.device) {
            Some(self.device.wrapping_sub(*VIRTIO_MODERN.start()))
        } else {
            None
        }
    }
}

impl PciMatch {
    /// Tells whether it takes what stands at `path`.
    #[must_use]
    pub fn takes(&self, path: &SlotPath, shown: &Shown) -> bool {
        let fits = |wanted: Option<u16>, found| wanted.is_none_or(|wanted| wanted == found);
        (self.slots.is_empty() || self.slots.contains(path))
            && fits(self.vendor, shown.vendor)
            && fits(self.device, shown.device)
            && fits(self.subsystem_vendor, shown.subsystem_vendor)
            && fits(self.subsystem, shown.subsystem)
            && self.class.is_none_or(|class| shown.class & class.mask == class.value)
    }
}

impl Rule {
    /// Tells whether the rule takes the function at `path`, as far as the host's word goes.
    #[must_use]
    pub fn takes_function(&self, path: &SlotPath, shown: &Shown) -> bool {
        match (&self.matches, shown.virtio_type()) {
            (Match::Device(pci), None) => pci.takes(path, shown),
            (Match::VirtioPci(pci, wanted), Some(found)) => {
                wanted.is_none_or(|wanted| wanted == found) && pci.takes(path, shown)
            }
            _ => false,
        }
    }

    /// Tells whether the rule takes the bridge at `path`.
    #[must_use]
    pub fn takes_bridge(&self, path: &SlotPath, shown: &Shown) -> bool {
        matches!(&self.matches, Match::Bridge(pci) if pci.takes(path, shown))
    }

    /// Tells whether it takes PCI functions.
    #[must_use]
    pub fn is_for_functions(&self) -> bool {
        matches!(self.matches, Match::Device(_) | Match::VirtioPci(..))
    }
}

/// Tells what becomes of a function that fails before a rule is chosen for it. `rules`: those that may take it.
#[must_use]
pub fn on_failure(policy: &Policy, rules: &[usize]) -> OnFailure {
    let mut rules = rules.iter().filter_map(|index| policy.rules.get(*index));
    let first = rules.clone().next();
    match first {
        Some(rule) if !policy.audit => {
            if rules.any(|rule| rule.required) {
                OnFailure::Stop
            } else {
                rule.on_failure
            }
        }
        _ => OnFailure::Hide,
    }
}

/// Tells what becomes of a function that is refused. `chosen`: the rule that decided; `before`: [`on_failure`].
#[must_use]
pub fn on_refusal(policy: &Policy, chosen: Option<usize>, before: OnFailure) -> OnFailure {
    match chosen.and_then(|index| policy.rules.get(index)) {
        Some(rule) => rule.on_failure,
        // It is extra, unless a rule that must be filled waited for it.
        None if before == OnFailure::Stop || policy.rest == Rest::Stop => OnFailure::Stop,
        None => OnFailure::Hide,
    }
}

/// Tells what the inventory makes of a function. `first`: the first rule that may take it; `is_eligible`: it is an endpoint,
/// and rules take all bridges above it.
#[must_use]
pub fn disposition(policy: &Policy, first: Option<&Rule>, is_eligible: bool) -> Disposition {
    match first.and_then(|rule| rule.modes.first()) {
        _ if policy.audit && is_eligible => Disposition::Attest,
        None => Disposition::Extra,
        Some(Mode::Hide) => Disposition::Hide,
        Some(Mode::Shared) => Disposition::Shared,
        Some(Mode::Run | Mode::Pin) => Disposition::Attest,
    }
}

/// A required rule that too few functions fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Index of the rule.
    pub rule: usize,
    /// Functions that fit.
    pub found: u32,
}

/// Finds the rules that may take each function, in the policy's order; an empty list: no rule does.
///
/// Rules without an identity take the first functions that fit, as many as their count; a function that fits a rule with an
/// identity first stays open: the rest of its list is for the decision.
#[must_use]
pub fn assign(policy: &Policy, functions: &[(&SlotPath, Shown)]) -> Vec<Vec<usize>> {
    let mut room: Vec<u32> = policy.rules.iter().map(|rule| rule.count).collect();
    let place = |(path, shown): &(&SlotPath, Shown)| {
        let mut open = Vec::new();
        for (index, rule) in policy.rules.iter().enumerate() {
            let Some(room) = room.get_mut(index).filter(|_| rule.takes_function(path, shown)) else {
                continue;
            };
            if !rule.identity.is_any() {
                open.push(index);
            } else if !open.is_empty() {
                // Who proves to be none of those above falls to this one, if there is room then.
                open.push(index);
            } else if let Some(left) = room.checked_sub(1) {
                *room = left;
                return Vec::from([index]);
            }
        }
        open
    };
    functions.iter().map(place).collect()
}

/// Lists the required rules that fewer functions fit than they want.
pub fn missing<'a>(policy: &'a Policy, assigned: &'a [Vec<usize>]) -> impl Iterator<Item = Missing> + 'a {
    let rules = policy.rules.iter().enumerate().filter(|(_, rule)| rule.required && rule.is_for_functions());
    rules.filter_map(|(index, rule)| {
        let found = assigned.iter().filter(|rules| rules.contains(&index)).count();
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        (found < rule.count).then_some(Missing { rule: index, found })
    })
}

/// Finds a required rule that fewer functions were accepted for than it wants; `accepted`: the rule of each.
///
/// A function that fitted several rules by the host's word has filled one of them.
#[must_use]
pub fn unfilled(policy: &Policy, accepted: &[usize]) -> Option<Missing> {
    let rules = policy.rules.iter().enumerate().filter(|(_, rule)| rule.required && rule.is_for_functions());
    let mut short = rules.filter_map(|(index, rule)| {
        let found = accepted.iter().filter(|other| **other == index).count();
        let found = u32::try_from(found).unwrap_or(u32::MAX);
        (found < rule.count).then_some(Missing { rule: index, found })
    });
    short.next()
}
