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
use crate::platform::Platform;
use alloc::vec::Vec;

/// One device and the rule that it came in by.
#[derive(Debug)]
pub struct Member<S> {
    /// Its refusal stops the boot.
    pub required: bool,
    /// Name of the rule.
    pub rule: &'static str,
    /// The device.
    pub tdi: Tdi<S>,
}

/// The devices that have come as far as `S`, in inventory order.
pub type Fleet<S> = Vec<Member<S>>;

/// Takes every device of `fleet` through `step`. A refused device drops out if the boot may go on without it.
///
/// # Errors
/// [`Rejected`] of a required device, or of one that could not be taken back whole (TM-0). All others are taken back then.
pub fn each<P: Platform, A: State, B: State>(
    link: &mut Link<'_, P>,
    fleet: Fleet<A>,
    step: impl Fn(Tdi<A>, &mut Link<'_, P>) -> Result<Tdi<B>, Rejected>,
) -> Result<Fleet<B>, Rejected> {
    let mut done = Vec::new();
    let mut rest = fleet.into_iter();
    while let Some(Member { required, rule, tdi }) = rest.next() {
        match step(tdi, link) {
            Ok(tdi) => done.push(Member { required, rule, tdi }),
            Err(rejected) if !required && rejected.leaks.is_empty() => {
                log::warn!(
                    "tdi {} vdev {}: {rule}, the boot goes on: {}",
                    rejected.bdf,
                    rejected.vdev,
                    rejected.code()
                );
            }
            Err(rejected) => {
                abandon(link, done);
                abandon(link, rest);
                return Err(rejected);
            }
        }
    }
    Ok(done)
}

/// Takes devices back because the boot stops for another reason.
pub fn abandon<P: Platform, S: State>(link: &mut Link<'_, P>, fleet: impl IntoIterator<Item = Member<S>>) {
    fleet.into_iter().for_each(|member| member.tdi.abandon(link));
}
