//! Phase 6: the bundle's parts are hashed where they lie, and measured, and the shared window is given back.

use super::measure::Measured;
use super::stop::OrStop;
use super::{BootInfo, Stop};
use crate::abi::fit::OsKind;
use crate::boot::bundle::{Bundle, Part, VerifiedPart};
use crate::boot::kernel::KernelHeader;
use crate::boot::plan::{Inputs, Plan};
use crate::codes::StopCode;
use crate::eventlog::{self, BundleFacts};
use crate::hex::Hex;
use crate::platform::Platform;
use crate::tdi::Link;
use alloc::vec::Vec;

/// What phase 6 leaves: kernel and ramdisk can be used where they are.
#[derive(Debug)]
pub(super) struct Loaded<'a> {
    /// Where they lie.
    pub(super) plan: Plan,
    /// Command line.
    pub(super) cmdline: Option<VerifiedPart<'a>>,
    /// What the payload says of itself.
    pub(super) os: OsKind,
}

#[inline(never)]
pub(super) fn run<'a, P: Platform>(
    link: &mut Link<'_, P>,
    bundle: Bundle<'a>,
    boot: &BootInfo<'_>,
    measured: &mut Measured,
) -> Result<Loaded<'a>, Stop> {
    let os = bundle.os;
    let (svn, configuration, policy) = (bundle.svn, bundle.configuration, bundle.policy);
    let bundle_address = boot.bundle.map_or(0, |place| place.address);
    let kernel = verify(bundle.kernel, "kernel", bundle_address)?;
    let ramdisk = bundle.ramdisk.map(|part| verify(part, "ramdisk", bundle_address)).transpose()?;
    let cmdline = bundle.cmdline.map(|part| verify(part, "cmdline", bundle_address)).transpose()?;
    let parts = [Some(&kernel), ramdisk.as_ref(), cmdline.as_ref()].map(|part| part.map(VerifiedPart::part));
    let parts: Vec<&Part<'_>> = parts.into_iter().chain([policy.as_ref()]).flatten().collect();
    let manifest = &boot.bundle.map_or([0; 32], |place| place.manifest_sha256);
    let words = cmdline.as_ref().map(VerifiedPart::command_line);
    let facts =
        BundleFacts { svn, os, manifest, configuration: &configuration, parts: &parts, cmdline: words };
    measured.record(link.platform, link.rsi, &eventlog::bundle(&facts))?;
    let header = KernelHeader::parse(kernel.bytes()).or_stop(StopCode::Kernel)?;
    let plan = Plan::new(&Inputs {
        area: boot.own,
        bundle_offset: bundle_address.saturating_sub(boot.own.base()),
        kernel: kernel.part().into(),
        header,
        ramdisk: ramdisk.as_ref().map(|part| part.part().into()),
    })
    .or_stop(StopCode::Kernel)?;
    link.rhi.close_window(link.platform, link.rsi)?;
    Ok(Loaded { plan, cmdline, os })
}

/// Hashes a part where it lies and says so.
fn verify<'a>(part: Part<'a>, name: &str, bundle_address: u64) -> Result<VerifiedPart<'a>, Stop> {
    let part = part.verify().or_stop(StopCode::PartHash)?;
    let offset = part.part().offset().and_then(|offset| u64::try_from(offset).ok()).unwrap_or_default();
    crate::say::info!(
        "load: {name} {} bytes at {:#x}, {} {}",
        part.bytes().len(),
        bundle_address.saturating_add(offset),
        part.part().digest().algorithm(),
        Hex(part.part().digest().as_bytes())
    );
    Ok(part)
}
