//! Phase 4: the device is made ready, locked, and its evidence verified.

use super::Stop;
use crate::fdt::pci::Window;
use crate::hex::Hex;
use crate::pcie::Function;
use crate::platform::Platform;
use crate::tdi::{Link, Tdi, Verified};

#[inline(never)]
pub(super) fn run<P: Platform>(
    link: &mut Link<'_, P>,
    function: Function,
    windows: &[Window],
) -> Result<Tdi<Verified>, Stop> {
    let tdi = Tdi::prepare(link, function, windows)?.lock(link)?.attest(link)?;
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
