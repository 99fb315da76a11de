//! Contradictions of a policy: what its form allows and nobody can mean.
//!
//! Trust: covered by the bundle's manifest; values that a reader of either form made.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

/// Names a contradiction for people; the firmware names rule and field only, its image has no room for the rest.
macro_rules! words {
    ($text:literal) => {
        if cfg!(target_os = "none") { "contradicts itself" } else { $text }
    };
}

mod rule;

use super::types::{
    AnchorKey, Contradiction, MAX_ANCHORS, MAX_ENTRIES, MAX_NAME, MAX_RULES, Match, PciMatch, Policy, Rule,
    Serial, Time,
};
use core::fmt;

/// Most bytes of a serial number (RFC 5280, 4.1.2.2).
pub const MAX_SERIAL_BYTES: usize = 20;
/// Most bytes of a measurement's reference value; of longer blocks a policy has the digest.
pub const MAX_VALUE_BYTES: usize = 1024;
/// Index of the last measurement block that a device may have (DSP0274, GET_MEASUREMENTS).
pub const MAX_INDEX: u8 = 0xfe;
/// 1950-01-01 00:00:00: the first time that a certificate writes as UTCTime (RFC 5280, 4.1.2.5.1).
pub const FIRST_FLOOR: Time = Time(-631_152_000);
/// 9999-12-31 23:59:59: the last time that a certificate can say (RFC 5280, 4.1.2.5).
pub const LAST_FLOOR: Time = Time(253_402_300_799);

/// Where in a policy, and the check's result.
type Checked = Result<(), Contradiction>;

impl fmt::Display for Contradiction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rule) = self.rule {
            write!(f, "rule {}: ", rule.saturating_add(1))?;
        }
        write!(f, "{}: {}", self.field, self.what)
    }
}

/// Fails unless `fine`.
fn need(fine: bool, rule: Option<usize>, field: &'static str, what: &'static str) -> Checked {
    if fine { Ok(()) } else { Err(Contradiction { rule, field, what }) }
}

/// Tells whether no entry stands twice.
fn unique<T: PartialEq>(entries: &[T]) -> bool {
    let mut rest = entries;
    while let Some((first, behind)) = rest.split_first() {
        if behind.contains(first) {
            return false;
        }
        rest = behind;
    }
    true
}

/// Fails on a list that is too long or has an entry twice.
fn list<T: PartialEq>(entries: &[T], rule: Option<usize>, field: &'static str) -> Checked {
    need(entries.len() <= MAX_ENTRIES, rule, field, words!("more than 64 entries"))?;
    need(unique(entries), rule, field, words!("an entry stands twice"))
}

/// Fails on what cannot stand in logs and trees as one word.
fn name(name: &str, rule: Option<usize>, field: &'static str) -> Checked {
    need(!name.is_empty(), rule, field, words!("is empty"))?;
    need(name.len() <= MAX_NAME, rule, field, words!("longer than 64 bytes"))?;
    let word = name.bytes().all(|byte| byte.is_ascii_graphic());
    need(word, rule, field, words!("has a space, or a character that is not printable ASCII"))
}

fn serials(serials: &[Serial], rule: Option<usize>) -> Checked {
    list(serials, rule, "serials")?;
    let fine =
        |Serial(bytes): &Serial| bytes.len() <= MAX_SERIAL_BYTES && !matches!(bytes.first(), None | Some(0));
    need(
        serials.iter().all(fine),
        rule,
        "serials",
        words!("a serial number has 1 to 20 bytes and is not zero"),
    )
}

/// Returns what a rule takes on PCI.
fn pci(rule: &Rule) -> Option<&PciMatch> {
    match &rule.matches {
        Match::Device(pci) | Match::Bridge(pci) | Match::VirtioPci(pci, _) => Some(pci),
        Match::VirtioMmio(_) | Match::Platform(_) => None,
    }
}

impl Policy {
    /// Looks for contradictions.
    ///
    /// # Errors
    /// The first [`Contradiction`] found.
    pub fn check(&self) -> Checked {
        let Self { anchors, denied, floor, rules, .. } = self;
        let fine = floor.is_none_or(|floor| (FIRST_FLOOR..=LAST_FLOOR).contains(&floor));
        need(fine, None, "floor", words!("not between the years 1950 and 9999"))?;
        need(anchors.len() <= MAX_ANCHORS, None, "anchor", words!("more than 32 anchors"))?;
        anchors.iter().try_for_each(|anchor| name(&anchor.name, None, "anchor"))?;
        for (i, anchor) in anchors.iter().enumerate() {
            let mut before = anchors.iter().take(i);
            need(
                !before.any(|other| other.name == anchor.name),
                None,
                "anchor",
                words!("two have this name"),
            )?;
            let mut before = anchors.iter().take(i);
            need(
                !before.any(|other| other.key == anchor.key),
                None,
                "anchor",
                words!("two are the same key"),
            )?;
        }
        list(&denied.leaf_keys, None, "leaf-keys")?;
        serials(&denied.serials, None)?;
        need(rules.len() <= MAX_RULES, None, "rule", words!("more than 64 rules"))?;
        rules.iter().enumerate().try_for_each(|(index, rule)| rule::check(self, index, rule))?;
        rules.iter().enumerate().try_for_each(|(index, rule)| self.against_others(index, rule))
    }

    /// Compares a rule with those before it, and with what is denied.
    fn against_others(&self, index: usize, rule: &Rule) -> Checked {
        let at = Some(index);
        let Self { denied, anchors, .. } = self;
        let is_anchor = |key: &_| anchors.iter().any(|anchor| anchor.key == AnchorKey::PublicKey(*key));
        need(
            !rule.identity.leaf_keys.iter().any(is_anchor),
            at,
            "leaf-keys",
            words!("the key of an anchor is no leaf's"),
        )?;
        let refused = rule.identity.leaf_keys.iter().any(|key| denied.leaf_keys.contains(key));
        need(!refused, at, "leaf-keys", words!("the policy denies this key"))?;
        let refused = rule.identity.serials.iter().any(|serial| denied.serials.contains(serial));
        need(!refused, at, "serials", words!("the policy denies this serial number"))?;
        for other in self.rules.iter().take(index) {
            need(other.name != rule.name, at, "name", words!("two rules have this name"))?;
            let twice = rule.identity.leaf_keys.iter().any(|key| other.identity.leaf_keys.contains(key));
            need(!twice, at, "leaf-keys", words!("two rules pin this unit"))?;
            let twice = rule.identity.serials.iter().any(|serial| other.identity.serials.contains(serial));
            need(!twice, at, "serials", words!("two rules pin this unit"))?;
            if let (true, true, Some(ours), Some(theirs)) =
                (rule.required, other.required, pci(rule), pci(other))
            {
                let twice = ours.slots.iter().any(|slot| theirs.slots.contains(slot));
                need(!twice, at, "slots", words!("two rules require this slot"))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
