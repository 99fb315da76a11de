//! The decision. In this release one built-in rule: the function at the slot that the bundle names must pass, every
//! other function that is not a bridge is made quiet and hidden.
//!
//! Trust: the slot path is covered by the bundle's manifest. Pure functions.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use crate::addr::{AddrError, Bdf};
use crate::boot::slot::SlotPath;
use crate::pcie::{Function, Kind};
use thiserror::Error;

/// Name of the built-in rule, as it stands in the hand-off tree.
pub const RULE_REQUIRED_SLOT: &str = "required-slot";

/// Why the bundle's demand cannot be met in this release.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum RequireError {
    /// Not exactly one slot.
    #[error("{0} slots, exactly one is supported in this release")]
    Count(usize),
    /// A path with more than one hop leads behind a bridge.
    #[error("slots behind bridges are not supported in this release")]
    BehindBridge,
    /// A hop that is no function.
    #[error(transparent)]
    Address(#[from] AddrError),
}

/// Returns the function of bus 0 that the bundle requires.
///
/// # Errors
/// [`RequireError`].
pub fn required(slots: &[SlotPath]) -> Result<Bdf, RequireError> {
    let [slot] = slots else { return Err(RequireError::Count(slots.len())) };
    let [hop] = slot.hops() else { return Err(RequireError::BehindBridge) };
    Ok(Bdf::new(0, hop.device(), hop.function())?)
}

/// What happens to a function that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Must pass, or the boot stops.
    Required,
    /// A bridge: left as it is, has no node in the final tree.
    Bridge,
    /// Made quiet, hidden from the payload.
    Ignored,
}

/// Decides what happens to `function` when the one at `required` must pass. Only an endpoint can be what is required: a
/// header that calls itself anything else leaves it missing.
#[must_use]
pub fn role(function: &Function, required: Bdf) -> Role {
    match function.kind {
        Kind::Endpoint if function.bdf == required => Role::Required,
        Kind::Bridge => Role::Bridge,
        Kind::Endpoint | Kind::Unknown(_) => Role::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(paths: &[&str]) -> Result<Bdf, RequireError> {
        required(&paths.iter().map(|path| path.parse().unwrap()).collect::<Vec<_>>())
    }

    #[test]
    fn one_slot_of_bus_0_is_the_required_function() {
        assert_eq!(slots(&["02.0"]), Ok(Bdf::new(0, 2, 0).unwrap()));
    }

    #[test]
    fn other_demands_are_refused_by_name() {
        assert_eq!(slots(&[]), Err(RequireError::Count(0)));
        assert_eq!(slots(&["02.0", "03.0"]), Err(RequireError::Count(2)));
        assert_eq!(slots(&["03.0/00.0"]), Err(RequireError::BehindBridge));
    }
}
