//! Phase 5: the accepted devices' MMIO becomes private.

use super::Stop;
use crate::platform::Platform;
use crate::tdi::{self, Fleet, Link, Mapped, Verified};

#[inline(never)]
pub(super) fn run<P: Platform>(
    link: &mut Link<'_, P>,
    fleet: Fleet<Verified>,
) -> Result<Fleet<Mapped>, Stop> {
    Ok(tdi::each(link, fleet, |tdi, link| tdi.map(link))?)
}
