//! Phase 5: the accepted device's MMIO becomes private.

use super::Stop;
use crate::platform::Platform;
use crate::tdi::{Link, Mapped, Tdi, Verified};

#[inline(never)]
pub(super) fn run<P: Platform>(link: &mut Link<'_, P>, tdi: Tdi<Verified>) -> Result<Tdi<Mapped>, Stop> {
    Ok(tdi.map(link)?)
}
