//! Phase 6: the bundle's parts are hashed, and measured, and the shared window is given back. The kernel goes to the room
//! in the same pass when it cannot stay.

use super::measure::Measured;
use super::stop::OrStop;
use super::{BootInfo, BundleBytes, Stop, StopReason};
use crate::abi::fit::OsKind;
use crate::boot::bundle::{Bundle, Part, VerifiedPart};
use crate::boot::gzip::GzipError;
use crate::boot::place::{self, PlaceError, Placed};
use crate::boot::plan::{Plan, Span};
use crate::boot::zboot::ZbootError;
use crate::codes::StopCode;
use crate::eventlog::{self, BundleFacts};
use crate::fdt::overlay::Overlay;
use crate::hex::Hex;
use crate::platform::Platform;
use crate::tdi::Link;
use alloc::vec::Vec;

/// What phase 6 leaves: kernel and ramdisk can be used where the plan says.
#[derive(Debug)]
pub(super) struct Loaded<'a> {
    /// Where they lie.
    pub(super) plan: Plan,
    /// Command line.
    pub(super) cmdline: Option<VerifiedPart<'a>>,
    /// What the bundle adds to the final tree.
    pub(super) overlay: Option<Overlay>,
    /// What the payload says of itself.
    pub(super) os: OsKind,
}

#[inline(never)]
pub(super) fn run<'a, P: Platform>(
    link: &mut Link<'_, P>,
    bundle: Bundle<'a>,
    place: &BundleBytes<'_>,
    boot: &mut BootInfo<'_>,
    measured: &mut Measured,
) -> Result<Loaded<'a>, Stop> {
    let os = bundle.os;
    let (svn, configuration, policy) = (bundle.svn, bundle.configuration, bundle.policy);
    let bundle_address = place.address;
    let whole = u64::try_from(place.bytes.len()).ok().and_then(|len| Span::new(bundle_address, len));
    let whole = whole.ok_or(StopReason::NoBundle).or_stop(StopCode::NoBundle)?;
    let room = core::mem::take(&mut boot.room);
    let placed = place::kernel(bundle.kernel, bundle.ramdisk.as_ref(), boot.own, whole, room);
    let Placed { part: kernel, plan, written, format } =
        placed.map_err(|error| Stop::new(code(&error), error))?;
    say(&kernel, "kernel", bundle_address);
    if written != 0 {
        crate::say::info!("load: kernel, {format:?}: {written} bytes written to {:#x}", plan.kernel().base());
    }
    let ramdisk = bundle.ramdisk.map(|part| verify(part, "ramdisk", bundle_address)).transpose()?;
    let cmdline = bundle.cmdline.map(|part| verify(part, "cmdline", bundle_address)).transpose()?;
    let overlay = bundle.overlay.map(|part| verify(part, "overlay", bundle_address)).transpose()?;
    let parts = [Some(&kernel), ramdisk.as_ref(), cmdline.as_ref()].map(|part| part.map(VerifiedPart::part));
    let last = [policy.as_ref(), overlay.as_ref().map(VerifiedPart::part)];
    let parts: Vec<&Part<'_>> = parts.into_iter().chain(last).flatten().collect();
    let manifest = &place.manifest_sha256;
    let words = cmdline.as_ref().map(VerifiedPart::command_line);
    let facts =
        BundleFacts { svn, os, manifest, configuration: &configuration, parts: &parts, cmdline: words };
    measured.record(link.platform, link.rsi, &eventlog::bundle(&facts))?;
    let overlay = overlay.map(|part| Overlay::parse(part.bytes())).transpose()?;
    link.rhi.close_window(link.platform, link.rsi)?;
    Ok(Loaded { plan, cmdline, overlay, os })
}

/// Hashes a part where it lies and says so.
fn verify<'a>(part: Part<'a>, name: &str, bundle_address: u64) -> Result<VerifiedPart<'a>, Stop> {
    let part = part.verify().or_stop(StopCode::PartHash)?;
    say(&part, name, bundle_address);
    Ok(part)
}

/// Tells the step that failed from what failed.
fn code(error: &PlaceError) -> StopCode {
    match error {
        PlaceError::Bundle(_) => StopCode::PartHash,
        PlaceError::Kernel(_) | PlaceError::Plan(_) => StopCode::Kernel,
        PlaceError::NoRoom { .. } | PlaceError::Gzip(GzipError::TooLong(_)) => StopCode::KernelRoom,
        PlaceError::Gzip(GzipError::NoMemory) => StopCode::Memory,
        PlaceError::Zboot(ZbootError::Compression(_)) => StopCode::Kernel,
        PlaceError::Gzip(_) | PlaceError::Zboot(_) => StopCode::KernelUnpack,
    }
}

fn say(part: &VerifiedPart<'_>, name: &str, bundle_address: u64) {
    let offset = part.part().offset().and_then(|offset| u64::try_from(offset).ok()).unwrap_or_default();
    crate::say::info!(
        "load: {name} {} bytes at {:#x}, {} {}",
        part.bytes().len(),
        bundle_address.saturating_add(offset),
        part.part().digest().algorithm(),
        Hex(part.part().digest().as_bytes())
    );
}
