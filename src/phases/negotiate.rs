//! Phase 2: the bundle and what it asks for, the host's interface, the shared window.

use super::realm::Realm;
use super::stop::OrStop;
use super::{BootInfo, Stop, StopReason};
use crate::abi::fit::OsKind;
use crate::boot::bundle::{Bundle, BundleError};
use crate::codes::StopCode;
use crate::platform::Platform;
use crate::rhi;

/// Reads the appended bundle: the manifest in the slot vouches for its structure.
#[inline(never)]
pub(super) fn bundle<'a>(boot: &BootInfo<'a>) -> Result<Bundle<'a>, Stop> {
    let place = boot.bundle.ok_or(StopReason::NoBundle).or_stop(StopCode::NoBundle)?;
    let bundle = Bundle::parse(place.bytes, &place.manifest_sha256).map_err(|error| {
        let code = match error {
            BundleError::ManifestMismatch => StopCode::BundleManifest,
            BundleError::BadSlot { .. } | BundleError::BadList(_) | BundleError::Rules(_) => {
                StopCode::BundleSlot
            }
            BundleError::BadOs => StopCode::BundleOs,
            _ => StopCode::BundleStructure,
        };
        Stop::new(code, error)
    })?;
    // TM-1: without a half or native OS the device's queues would lie in memory that the host writes.
    if bundle.os == OsKind::Unaware {
        return Err(Stop::new(StopCode::BundleOs, StopReason::UnawareOs));
    }
    log::info!("bundle: {} bytes at {:#x}, payload is {:?}", place.bytes.len(), place.address, bundle.os);
    for (list, slots) in bundle.rules.lists().named() {
        slots.iter().for_each(|slot| log::info!("bundle: {list} {slot}"));
    }
    Ok(bundle)
}

/// Negotiates with the host; the shared window is open from here on.
#[inline(never)]
pub(super) fn host<P: Platform>(platform: &mut P, realm: &Realm) -> Result<rhi::Session, Stop> {
    realm.rsi.require_device_assignment()?;
    let rhi = rhi::Session::negotiate(platform, &realm.rsi)?;
    log::info!("host: DA features {:?}, sharing unit {:#x}", rhi.features(), rhi.sharing_unit());
    Ok(rhi)
}
