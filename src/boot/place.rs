//! Brings the kernel to where it is started: it stays, or it is written to the room in the pass that hashes it.
//!
//! Trust: the kernel's bytes are nobody's until their digest matched. What is read before (format and header) only decides
//! where the pass writes: to the room, which is dead memory until then. Whatever goes wrong on the way is told after the
//! digest matched; that it does not match comes first.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::bundle::{BundleError, Part, VerifiedPart};
use super::gzip::{GzipError, Inflate};
use super::kernel::{Format, KernelError, KernelHeader};
use super::plan::{Inputs, Memory, Plan, PlanError, Span};
use super::zboot::{self, ZbootError};
use crate::abi::image::IMAGE_ALIGN;
use crate::addr::IpaRange;
use core::fmt;
use core::ops::Range;
use thiserror::Error;

/// Free memory of the image area between bundle and heap; nothing of it is used before the kernel is written there.
#[derive(Default)]
pub struct Room<'a> {
    base: u64,
    bytes: &'a mut [u8],
}

impl<'a> Room<'a> {
    /// Makes a room of all `bytes`, the first of which has the address `base`.
    #[must_use]
    pub const fn new(base: u64, bytes: &'a mut [u8]) -> Self {
        Self { base, bytes }
    }

    /// Returns where it lies; `None`: it is empty.
    #[must_use]
    pub fn span(&self) -> Option<Span> {
        Span::new(self.base, u64::try_from(self.bytes.len()).ok()?)
    }

    /// Returns the part that a kernel can be in: from the first multiple of 2 MiB on, maybe empty.
    fn for_kernel(self) -> Self {
        let base = self.base.checked_next_multiple_of(IMAGE_ALIGN);
        let skip = base.and_then(|base| usize::try_from(base.checked_sub(self.base)?).ok());
        let bytes = skip.and_then(|skip| self.bytes.get_mut(skip..)).unwrap_or_default();
        Self { base: base.unwrap_or_default(), bytes }
    }
}

impl fmt::Debug for Room<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Room({:?})", self.span())
    }
}

/// Why a kernel cannot be brought to a place where it can be started.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum PlaceError {
    /// The bytes do not have the digest.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// The format or the header.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The gzip file, alone or inside a zboot image.
    #[error("gzip: {0}")]
    Gzip(#[from] GzipError),
    /// The zboot image.
    #[error("zboot: {0}")]
    Zboot(#[from] ZbootError),
    /// Kernel or ramdisk do not lie where they can be used.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The kernel cannot stay, and the room is too small for it.
    #[error("the kernel cannot stay where it is and needs {need:#x} bytes, the image has room for {have:#x}")]
    NoRoom {
        /// Bytes that it needs from a multiple of 2 MiB on.
        need: u64,
        /// Bytes that are there.
        have: u64,
    },
}

/// A kernel that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed<'a> {
    /// The part as it lies in the bundle.
    pub part: VerifiedPart<'a>,
    /// Its format.
    pub format: Format,
    /// Where kernel and ramdisk are used.
    pub plan: Plan,
    /// How many bytes were written to the room; 0: the kernel stayed.
    pub written: usize,
}

/// Hashes the kernel, writes or inflates it to the room where it cannot stay, and checks where it and the ramdisk lie.
///
/// `area` is the image's memory with the heap at its end, `bundle` all bytes of the bundle that the parts are of. A
/// kernel that stays is read once, by the hash. One that is written or inflated is read once as well.
///
/// # Errors
/// [`PlaceError`].
pub fn kernel<'a>(
    kernel: Part<'a>,
    ramdisk: Option<&Part<'_>>,
    area: IpaRange,
    bundle: Span,
    room: Room<'_>,
) -> Result<Placed<'a>, PlaceError> {
    let at = bundle.of_part(&kernel)?;
    let inline = Err(PlanError::RamdiskInline);
    let ramdisk = ramdisk.map(|part| bundle.of_part(part)?.map_or(inline, Ok)).transpose()?;
    let memory = Memory { area, bundle, room: room.span(), ramdisk };
    let plan = |kernel: u64, header| Plan::new(&Inputs { memory, kernel, header });

    let guess = KernelHeader::parse(kernel.unverified());
    if let (Some(at), Ok(guess)) = (at, guess)
        && plan(at.base(), guess).is_ok()
    {
        let part = kernel.verify()?;
        let plan = plan(at.base(), KernelHeader::parse(part.bytes())?)?;
        return Ok(Placed { part, format: Format::Image, plan, written: 0 });
    }
    let Room { base, bytes: to } = room.for_kernel();
    let have = u64::try_from(to.len()).unwrap_or(u64::MAX);
    let whole = 0..kernel.len_bytes();
    let format = Format::of(kernel.unverified()).unwrap_or(Format::Image);
    let (part, written, header) = match format {
        Format::Gzip => inflate(kernel, Ok(whole), to)?,
        Format::Zboot => {
            let place = zboot::payload(kernel.unverified());
            inflate(kernel, place.map_err(PlaceError::from), to)?
        }
        // Anything else is refused by the header that it does not have.
        Format::Image | Format::Zstd | Format::Elf => copy(kernel, to)?,
    };
    if header.mem_len() > have {
        return Err(PlaceError::NoRoom { need: header.mem_len(), have });
    }
    Ok(Placed { part, format, plan: plan(base, header)?, written })
}

/// What a pass leaves: the part, bytes written, what the header of the written kernel says.
type Written<'a> = (VerifiedPart<'a>, usize, KernelHeader);

/// Writes an Image to the front of `to`, as much as there is room for.
fn copy<'a>(kernel: Part<'a>, to: &mut [u8]) -> Result<Written<'a>, PlaceError> {
    let mut rest = &mut *to;
    let part = kernel.verify_by(&mut |chunk| {
        if let Some((front, back)) = core::mem::take(&mut rest).split_at_mut_checked(chunk.len()) {
            front.copy_from_slice(chunk);
            rest = back;
        }
    })?;
    let header = KernelHeader::parse(part.bytes())?;
    let written = part.bytes().len();
    Ok((part, written, header))
}

/// Inflates the gzip file that lies at `place` of the kernel to the front of `to`.
fn inflate<'a>(
    kernel: Part<'a>,
    place: Result<Range<usize>, PlaceError>,
    to: &mut [u8],
) -> Result<Written<'a>, PlaceError> {
    // Nothing but the digest ends this before every byte was hashed.
    let mut inflate =
        place.and_then(|place| Ok((Inflate::new(kernel.unverified(), &place, &mut *to)?, place)));
    let part = kernel.verify_by(&mut |piece| {
        if let Ok((inflate, _)) = &mut inflate {
            inflate.take(piece);
        }
    })?;
    let (inflate, place) = inflate?;
    let written = inflate.finish(part.bytes().get(place).unwrap_or_default())?;
    let header = KernelHeader::parse(to.get(..written).unwrap_or_default())?;
    Ok((part, written, header))
}
