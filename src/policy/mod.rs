//! The decision. In this release one built-in policy: the bundle's lists of slots. What a list names is accepted, or is
//! shared; every other function that is not a bridge is made quiet and hidden.
//!
//! Trust: the slot paths are covered by the bundle's manifest. Pure functions.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

pub mod cbor;
pub mod check;
pub mod pattern;
pub mod types;

use crate::abi::fit;
use crate::boot::slot::SlotPath;
use crate::pcie::{Function, Kind};
use alloc::vec::Vec;
use core::fmt;
use thiserror::Error;

/// Most slots that the lists name together.
pub const MAX_SLOTS: usize = 64;

/// Why lists of slots are no rules.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum RuleError {
    /// No list names a slot.
    #[error("no slot is named")]
    Empty,
    /// More than [`MAX_SLOTS`] slots.
    #[error("more than {MAX_SLOTS} slots")]
    TooMany,
    /// A slot stands twice, in one list or in two.
    #[error("{slot} stands in {first} and again in {second}")]
    Twice {
        /// The slot.
        slot: SlotPath,
        /// Property that names it first.
        first: &'static str,
        /// Property that names it again.
        second: &'static str,
    },
    /// A slot of `gatehouse,quiet-device` that no rule accepts in mode `run`.
    #[error("{0} stands in gatehouse,quiet-device, but is neither required nor optional")]
    NotForRun(SlotPath),
}

/// The lists as they stand in a bundle, or on a packer's command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotLists {
    /// Must be accepted in mode `run`, or the boot stops.
    pub require: Vec<SlotPath>,
    /// Mode `run` when accepted; otherwise made quiet, and the boot goes on.
    pub optional: Vec<SlotPath>,
    /// Mode `shared`: never locked.
    pub shared: Vec<SlotPath>,
    /// Required or optional, and no idle check: the integrator states that the device's reset at the lock is part of
    /// what its measurements vouch for.
    pub quiet_device: Vec<SlotPath>,
}

impl SlotLists {
    /// Returns each list with the property that holds it in a bundle.
    #[must_use]
    pub fn named(&self) -> [(&'static str, &[SlotPath]); 4] {
        [
            (fit::REQUIRE, &self.require),
            (fit::OPTIONAL, &self.optional),
            (fit::SHARED, &self.shared),
            (fit::QUIET_DEVICE, &self.quiet_device),
        ]
    }
}

/// Lists without a contradiction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules(SlotLists);

impl Rules {
    /// Checks the lists.
    ///
    /// # Errors
    /// [`RuleError`].
    pub fn new(lists: SlotLists) -> Result<Self, RuleError> {
        let count = |list: &Vec<SlotPath>| list.len().min(MAX_SLOTS.saturating_add(1));
        let SlotLists { require, optional, shared, quiet_device } = &lists;
        let named = count(require).saturating_add(count(optional)).saturating_add(count(shared));
        if named == 0 {
            return Err(RuleError::Empty);
        }
        if named > MAX_SLOTS || quiet_device.len() > MAX_SLOTS {
            return Err(RuleError::TooMany);
        }
        let of = |list: &'_ Vec<SlotPath>, name| list.clone().into_iter().map(move |slot| (slot, name));
        let modes =
            of(require, fit::REQUIRE).chain(of(optional, fit::OPTIONAL)).chain(of(shared, fit::SHARED));
        no_slot_twice(&modes.collect::<Vec<_>>())?;
        no_slot_twice(&of(quiet_device, fit::QUIET_DEVICE).collect::<Vec<_>>())?;
        match quiet_device.iter().find(|slot| !require.contains(slot) && !optional.contains(slot)) {
            Some(slot) => Err(RuleError::NotForRun(slot.clone())),
            None => Ok(Self(lists)),
        }
    }

    /// Returns the lists.
    #[must_use]
    pub fn lists(&self) -> &SlotLists {
        &self.0
    }

    /// Decides what happens to `function`, found at `path`. Only an endpoint can be required, optional or shared: a
    /// header that calls itself anything else leaves the slot missing.
    #[must_use]
    pub fn role(&self, path: &SlotPath, function: &Function) -> Role {
        self.role_of(path, function.kind)
    }

    fn role_of(&self, path: &SlotPath, kind: Kind) -> Role {
        match kind {
            Kind::Bridge => Role::Bridge,
            Kind::Unknown(_) => Role::Extra,
            Kind::Endpoint => {
                self.slots().find(|(slot, _)| *slot == path).map_or(Role::Extra, |(_, role)| role)
            }
        }
    }

    /// Lists the slots at which no function was found, with the role that it would have had. `found`: the slots of the
    /// functions for which [`Rules::role`] answered with one of these roles.
    pub fn missing<'a>(&'a self, found: &'a [SlotPath]) -> impl Iterator<Item = (&'a SlotPath, Role)> {
        self.slots().filter(|(slot, _)| !found.contains(slot))
    }

    /// Tells whether the function at `path` needs no idle check of ours.
    #[must_use]
    pub fn quiet_device(&self, path: &SlotPath) -> bool {
        self.0.quiet_device.contains(path)
    }

    fn slots(&self) -> impl Iterator<Item = (&SlotPath, Role)> {
        let SlotLists { require, optional, shared, .. } = &self.0;
        let of = |list, role| <[SlotPath]>::iter(list).map(move |slot| (slot, role));
        of(require, Role::Required).chain(of(optional, Role::Optional)).chain(of(shared, Role::Shared))
    }
}

fn no_slot_twice(slots: &[(SlotPath, &'static str)]) -> Result<(), RuleError> {
    for (i, (slot, first)) in slots.iter().enumerate() {
        let mut rest = slots.iter().skip(i.saturating_add(1));
        if let Some((slot, second)) = rest.find(|(other, _)| other == slot) {
            return Err(RuleError::Twice { slot: slot.clone(), first, second });
        }
    }
    Ok(())
}

/// What happens to a function that was found; in the order in which it gets addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Must be accepted, or the boot stops.
    Required,
    /// Mode `run` when accepted; otherwise made quiet.
    Optional,
    /// Mode `shared`.
    Shared,
    /// A bridge: forwards to others, is no device itself.
    Bridge,
    /// Made quiet, hidden from the payload.
    Extra,
}

impl Role {
    /// Returns the name of the rule as it stands in the hand-off tree.
    #[must_use]
    pub const fn rule_name(self) -> &'static str {
        match self {
            Self::Required => "required-slot",
            Self::Optional => "optional-slot",
            Self::Shared => "shared-slot",
            Self::Bridge | Self::Extra => "none",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Required => "required",
            Self::Optional => "optional",
            Self::Shared => "shared",
            Self::Bridge => "bridge",
            Self::Extra => "extra, made quiet",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::addr::Bdf;

    fn slots(paths: &[&str]) -> Vec<SlotPath> {
        paths.iter().map(|path| path.parse().unwrap()).collect()
    }

    fn lists() -> SlotLists {
        SlotLists {
            require: slots(&["02.0", "05.0/00.0/00.0"]),
            optional: slots(&["03.0"]),
            shared: slots(&["04.0", "05.0/00.0/01.0"]),
            quiet_device: slots(&["03.0", "02.0"]),
        }
    }

    /// The error after a change of the lists.
    fn with(change: impl FnOnce(&mut SlotLists)) -> RuleError {
        let mut lists = lists();
        change(&mut lists);
        Rules::new(lists).unwrap_err()
    }

    #[test]
    fn each_slot_has_the_role_of_its_list_and_every_other_is_extra() {
        let rules = Rules::new(lists()).unwrap();
        let role = |path: &str, kind| rules.role_of(&path.parse().unwrap(), kind);
        for (path, want, name) in [
            ("02.0", Role::Required, "required-slot"),
            ("05.0/00.0/00.0", Role::Required, "required-slot"),
            ("03.0", Role::Optional, "optional-slot"),
            ("04.0", Role::Shared, "shared-slot"),
            ("05.0/00.0/01.0", Role::Shared, "shared-slot"),
            ("05.0", Role::Extra, "none"),
            ("02.1", Role::Extra, "none"),
            ("00.0", Role::Extra, "none"),
        ] {
            assert_eq!(role(path, Kind::Endpoint), want, "{path}");
            assert_eq!(want.rule_name(), name);
            // A header that calls itself anything else is no device.
            assert_eq!(role(path, Kind::Bridge), Role::Bridge);
            assert_eq!(role(path, Kind::Unknown(2)), Role::Extra);
        }
    }

    #[test]
    fn what_was_not_found_is_listed_with_its_role() {
        let rules = Rules::new(lists()).unwrap();
        let found = slots(&["05.0/00.0/00.0", "04.0", "05.0/00.0"]);
        let missing: Vec<_> = rules.missing(&found).map(|(slot, role)| (slot.to_string(), role)).collect();
        let want = [("02.0", Role::Required), ("03.0", Role::Optional), ("05.0/00.0/01.0", Role::Shared)];
        assert_eq!(missing, want.map(|(slot, role)| (slot.to_string(), role)));
        assert_eq!(rules.missing(&[lists().require, lists().optional, lists().shared].concat()).count(), 0);
    }

    #[test]
    fn quiet_device_is_said_of_a_slot() {
        let rules = Rules::new(lists()).unwrap();
        for (path, want) in [("02.0", true), ("03.0", true), ("04.0", false), ("05.0/00.0/00.0", false)] {
            assert_eq!(rules.quiet_device(&path.parse().unwrap()), want, "{path}");
        }
    }

    #[test]
    fn any_one_of_the_three_lists_is_enough() {
        for list in [
            SlotLists { require: slots(&["02.0"]), ..SlotLists::default() },
            SlotLists { optional: slots(&["02.0"]), ..SlotLists::default() },
            SlotLists { shared: slots(&["02.0"]), ..SlotLists::default() },
        ] {
            assert_eq!(Rules::new(list.clone()).unwrap().lists(), &list);
        }
        assert_eq!(Rules::new(SlotLists::default()), Err(RuleError::Empty));
        let only_quiet = SlotLists { quiet_device: slots(&["02.0"]), ..SlotLists::default() };
        assert_eq!(Rules::new(only_quiet), Err(RuleError::Empty));
    }

    #[test]
    fn a_slot_stands_once_in_one_list() {
        let twice =
            |slot: &str, first, second| RuleError::Twice { slot: slot.parse().unwrap(), first, second };
        let (require, optional, shared, quiet) =
            (fit::REQUIRE, fit::OPTIONAL, fit::SHARED, fit::QUIET_DEVICE);
        assert_eq!(with(|l| l.require.extend(slots(&["02.0"]))), twice("02.0", require, require));
        assert_eq!(with(|l| l.optional.extend(slots(&["02.0"]))), twice("02.0", require, optional));
        assert_eq!(with(|l| l.shared.extend(slots(&["02.0"]))), twice("02.0", require, shared));
        assert_eq!(with(|l| l.shared.extend(slots(&["03.0"]))), twice("03.0", optional, shared));
        assert_eq!(with(|l| l.shared.extend(slots(&["04.0"]))), twice("04.0", shared, shared));
        assert_eq!(with(|l| l.quiet_device.extend(slots(&["03.0"]))), twice("03.0", quiet, quiet));
    }

    #[test]
    fn only_what_may_run_can_be_quiet_by_itself() {
        for path in ["04.0", "05.0", "05.0/00.0/01.0"] {
            let got = with(|l| l.quiet_device.extend(slots(&[path])));
            assert_eq!(got, RuleError::NotForRun(path.parse().unwrap()));
        }
    }

    #[test]
    fn sixty_four_slots_are_the_most() {
        let many = |count: u16| -> Vec<SlotPath> {
            let slot = |rid| SlotPath::from_hops(vec![Bdf::from_routing_id(rid).into()]);
            (0..count).map(slot).collect()
        };
        let rest = |from: usize| many(65).split_off(from);
        let full = SlotLists { require: many(64), quiet_device: many(64), ..SlotLists::default() };
        assert!(Rules::new(full.clone()).is_ok());
        let together = SlotLists { require: many(64), shared: rest(64), ..SlotLists::default() };
        assert_eq!(Rules::new(together), Err(RuleError::TooMany));
        let together = SlotLists { optional: many(32), shared: rest(32), ..SlotLists::default() };
        assert_eq!(Rules::new(together), Err(RuleError::TooMany));
        let quiet = SlotLists { quiet_device: many(65), ..full };
        assert_eq!(Rules::new(quiet), Err(RuleError::TooMany));
    }

    #[test]
    fn the_words_of_the_log_are_the_roles() {
        let words =
            [Role::Required, Role::Optional, Role::Shared, Role::Bridge, Role::Extra].map(|r| r.to_string());
        assert_eq!(words, ["required", "optional", "shared", "bridge", "extra, made quiet"]);
    }
}
