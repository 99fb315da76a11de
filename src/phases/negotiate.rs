//! Phase 2: the bundle and what it asks for, the host's interface, the shared window.

use super::measure::Measured;
use super::realm::Realm;
use super::stop::OrStop;
use super::{BootInfo, BundleBytes, BundleSource, Stop, StopReason};
use crate::boot::bundle::{Bundle, BundleError};
use crate::boot::source::{self, ExternalError};
use crate::codes::StopCode;
use crate::digest::Digest;
use crate::fdt::initrd;
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

/// Finds and reads the bundle: wherever it lies, the manifest in the slot vouches for its structure.
#[inline(never)]
pub(super) fn bundle<'a, P: Platform>(
    platform: &mut P,
    realm: &Realm,
    boot: &BootInfo<'a>,
) -> Result<(BundleBytes<'a>, Bundle<'a>), Stop> {
    let place = match boot.bundle {
        BundleSource::None => Err(StopReason::NoBundle).or_stop(StopCode::NoBundle)?,
        BundleSource::Appended(place) => place,
        BundleSource::External { len, manifest_sha256 } => external(platform, realm, len, manifest_sha256)?,
    };
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
    Ok((place, bundle))
}

/// Makes the bundle in the initrd range readable where it lies. Phase 1 has asked the RMM about all RAM of the tree: it is
/// private, so what is hashed there stays as it is.
fn external<P: Platform>(
    platform: &mut P,
    realm: &Realm,
    len: u64,
    manifest_sha256: [u8; 32],
) -> Result<BundleBytes<'static>, Stop> {
    let refused = |error: ExternalError| {
        let code = match error {
            ExternalError::Range(_) => StopCode::BundleNoRange,
            ExternalError::Length { .. } => StopCode::BundleRangeLen,
            _ => StopCode::BundleRange,
        };
        Stop::new(code, error)
    };
    let range = initrd::initrd(&realm.tree).map_err(|error| refused(error.into()))?;
    let pages = source::pages(&range, len, &realm.machine.ram, &realm.rsi.own()).map_err(refused)?;
    let mapped = platform.map_private(pages).or_stop(StopCode::BundleRange)?;
    let bytes = usize::try_from(range.start.saturating_sub(pages.base())).ok().and_then(|skip| {
        let len = usize::try_from(len).ok()?;
        mapped.get(skip..)?.get(..len)
    });
    let bytes = bytes.ok_or(ExternalError::NotRam(pages)).or_stop(StopCode::BundleRange)?;
    Ok(BundleBytes { address: range.start, bytes, manifest_sha256 })
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
