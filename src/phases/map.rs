//! Phase 5: the accepted devices' MMIO becomes private.

use super::Stop;
use super::inventory::Shared;
use super::measure::Measured;
use crate::platform::Platform;
use crate::tdi::{self, Fleet, Link, Mapped, Verified};
use alloc::vec::Vec;

#[inline(never)]
pub(super) fn run<P: Platform>(
    link: &mut Link<'_, P>,
    fleet: Fleet<Verified>,
    shared: &mut Vec<Shared>,
    measured: &mut Measured,
) -> Result<Fleet<Mapped>, Stop> {
    let mut fallen = Vec::new();
    let mapped = tdi::each(link, fleet, &mut fallen, |tdi, link| tdi.map(link))?;
    shared.extend(measured.fell(fallen));
    Ok(mapped)
}
