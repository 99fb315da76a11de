//! Phase 4: each device is made ready, locked, and its evidence verified.

use super::Stop;
use crate::hex::Hex;
use crate::platform::Platform;
use crate::tdi::{self, Fleet, Found, Link, Rejected, Tdi, Verified};

#[inline(never)]
pub(super) fn run<P: Platform>(link: &mut Link<'_, P>, fleet: Fleet<Found>) -> Result<Fleet<Verified>, Stop> {
    Ok(tdi::each(link, fleet, attest)?)
}

fn attest<P: Platform>(tdi: Tdi<Found>, link: &mut Link<'_, P>) -> Result<Tdi<Verified>, Rejected> {
    let tdi = tdi.prepare(link)?.lock(link)?.attest(link)?;
    let evidence = tdi.evidence();
    let len = evidence.hash().digest_len();
    for (name, digest) in evidence.digests().named() {
        log::info!(
            "tdi {}: {name} {} {}",
            tdi.function().bdf,
            evidence.hash().name(),
            Hex(digest.get(..len).unwrap_or_default())
        );
    }
    Ok(tdi)
}
