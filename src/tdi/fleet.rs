//! Several devices, one after the other: each takes the same step, and one that is refused leaves the others as they are,
//! unless the boot needs it.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::state::State;
use super::{Link, Rejected, Tdi};
use crate::addr::Bdf;
use crate::codes::StopCode;
use crate::mutation::{Mutation, removed};
use crate::platform::Platform;
use crate::policy::types::{Mode, OnFailure};
use alloc::string::String;
use alloc::vec::Vec;

/// One device, and what the policy has for it.
#[derive(Debug)]
pub struct Member<S> {
    /// Name of the rule, for people.
    pub rule: String,
    /// Rules that may take it, in the policy's order.
    pub rules: Vec<usize>,
    /// What becomes of it when it is refused.
    pub on_failure: OnFailure,
    /// The device.
    pub tdi: Tdi<S>,
}

/// A device that was refused while the boot goes on.
#[derive(Debug)]
pub struct Fallen {
    /// Where it is.
    pub bdf: Bdf,
    /// Name of the rule.
    pub rule: String,
    /// Why.
    pub code: StopCode,
    /// Its rule has it shared then; otherwise it is hidden.
    pub is_shared: bool,
}

impl Fallen {
    /// Returns the mode that is left for it.
    #[must_use]
    pub const fn mode(&self) -> Option<Mode> {
        Some(if self.is_shared { Mode::Shared } else { Mode::Hide })
    }
}

/// The devices that have come as far as `S`, in inventory order.
pub type Fleet<S> = Vec<Member<S>>;

/// Takes every device of `fleet` through `step`. A refused device drops out if the boot may go on without it, and is added
/// to `fallen`.
///
/// # Errors
/// [`Rejected`] of a device that the boot stops for, or of one that could not be taken back whole (TM-0). All others are
/// taken back then.
pub fn each<P: Platform, A: State, B: State>(
    link: &mut Link<'_, P>,
    fleet: Fleet<A>,
    fallen: &mut Vec<Fallen>,
    step: impl Fn(Tdi<A>, &mut Link<'_, P>) -> Result<Tdi<B>, Rejected>,
) -> Result<Fleet<B>, Rejected> {
    let mut done = Vec::new();
    let mut rest = fleet.into_iter();
    while let Some(Member { rule, rules, on_failure, tdi }) = rest.next() {
        let result = step(tdi, link);
        if let Err(rejected) = drop_out(result, &rule, on_failure, fallen)
            .map(|tdi| done.extend(tdi.map(|tdi| Member { rule, rules, on_failure, tdi })))
        {
            abandon(link, done);
            abandon(link, rest);
            return Err(rejected);
        }
    }
    Ok(done)
}

/// Applies `on_failure` to a refused device: `None` if the boot goes on without it.
///
/// # Errors
/// [`Rejected`] as it is, if the boot stops.
pub fn drop_out<T>(
    result: Result<T, Rejected>,
    rule: &str,
    on_failure: OnFailure,
    fallen: &mut Vec<Fallen>,
) -> Result<Option<T>, Rejected> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(rejected) => fall(rejected, rule, on_failure, fallen).map(|()| None),
    }
}

/// What [`drop_out`] does with a refused device: once in the image, for devices of all states.
#[inline(never)]
fn fall(
    rejected: Rejected,
    rule: &str,
    on_failure: OnFailure,
    fallen: &mut Vec<Fallen>,
) -> Result<(), Rejected> {
    // Without memory the boot cannot go on, whichever device met the end of it.
    let is_for_all = rejected.code() == StopCode::Memory;
    let stops = on_failure == OnFailure::Stop && !removed(Mutation::Required);
    if stops || is_for_all || !rejected.leaks.is_empty() {
        return Err(rejected);
    }
    let Rejected { bdf, vdev, .. } = rejected;
    let code = rejected.code();
    crate::say::warn!("tdi {bdf} vdev {vdev}: rule {rule}, the boot goes on: {code}");
    fallen.push(Fallen { bdf, rule: rule.into(), code, is_shared: on_failure == OnFailure::Shared });
    Ok(())
}

/// Takes devices back because the boot stops for another reason.
pub fn abandon<P: Platform, S: State>(link: &mut Link<'_, P>, fleet: impl IntoIterator<Item = Member<S>>) {
    fleet.into_iter().for_each(|member| member.tdi.abandon(link));
}
