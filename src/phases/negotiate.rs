//! Phase 2: the bundle and what it asks for, the host's interface, the shared window.

use super::measure::Measured;
use super::realm::Realm;
use super::stop::OrStop;
use super::{BootInfo, Stop, StopReason};
use crate::boot::bundle::{Bundle, BundleError};
use crate::codes::StopCode;
use crate::digest::Digest;
use crate::platform::Platform;
use crate::policy::{cbor, types::Policy};
use crate::rsi::HashAlgorithm;
use crate::{eventlog, rhi, rsi};

/// The policy of the bundle.
#[derive(Debug)]
pub(super) struct BundlePolicy {
    /// What it says.
    pub(super) policy: Policy,
    /// SHA-256 of its encoded form: what people and logs call it.
    pub(super) id: Digest,
}

/// Reads the appended bundle: the manifest in the slot vouches for its structure.
#[inline(never)]
pub(super) fn bundle<'a>(boot: &BootInfo<'a>) -> Result<Bundle<'a>, Stop> {
    let place = boot.bundle.ok_or(StopReason::NoBundle).or_stop(StopCode::NoBundle)?;
    let bundle = Bundle::parse(place.bytes, &place.manifest_sha256).map_err(|error| {
        let code = match error {
            BundleError::ManifestMismatch => StopCode::BundleManifest,
            BundleError::BadOs => StopCode::BundleOs,
            _ => StopCode::BundleStructure,
        };
        Stop::new(code, error)
    })?;
    crate::say::info!(
        "bundle: {} bytes at {:#x}, payload is {}",
        place.bytes.len(),
        place.address,
        bundle.os.word()
    );
    Ok(bundle)
}

/// Hashes and reads the policy, if the bundle has one, and measures it.
#[inline(never)]
pub(super) fn policy<P: Platform>(
    platform: &mut P,
    session: &rsi::Session,
    bundle: &Bundle<'_>,
    measured: &mut Measured,
) -> Result<Option<BundlePolicy>, Stop> {
    let Some(part) = bundle.policy.clone() else {
        crate::say::warn!("policy: none in the bundle");
        return Ok(None);
    };
    let part = part.verify().or_stop(StopCode::PartHash)?;
    let policy = cbor::decode(part.bytes()).or_stop(StopCode::BundlePolicy)?;
    let id = Digest::of(HashAlgorithm::Sha256, &[part.bytes()]);
    crate::say::info!(
        "policy: {id}, svn {}, {} rules{}",
        policy.svn,
        policy.rules.len(),
        if policy.audit { ", AUDIT" } else { "" }
    );
    measured.record(platform, session, &eventlog::policy(part.bytes()))?;
    Ok(Some(BundlePolicy { policy, id }))
}

/// Negotiates with the host; the shared window is open from here on.
#[inline(never)]
pub(super) fn host<P: Platform>(platform: &mut P, realm: &Realm) -> Result<rhi::Session, Stop> {
    realm.rsi.require_device_assignment()?;
    let rhi = rhi::Session::negotiate(platform, &realm.rsi)?;
    crate::say::info!(
        "host: DA features {:#x}, sharing unit {:#x}",
        rhi.features().bits(),
        rhi.sharing_unit()
    );
    Ok(rhi)
}
