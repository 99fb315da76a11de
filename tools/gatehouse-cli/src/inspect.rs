//! Reads an image file with the firmware's own code: slot, bundle, parts, and the load plan.
use crate::kernel::{KernelFile, KernelFileError};
use gatehouse::abi::image::{BUNDLE_ALIGN, HEAP_SIZE, LINUX_MAGIC, LinuxHeader, SLOT_OFFSET, Slot};
use gatehouse::addr::{AddrError, IpaRange};
use gatehouse::boot::bundle::{Bundle, BundleError, Part, VerifiedPart};
use gatehouse::boot::place::{self, PlaceError, Room};
use gatehouse::boot::plan::{Plan, Span};
use gatehouse::boot::source::{SlotError, Source};
use gatehouse::eventlog::{self, BundleFacts, Event};
use gatehouse::fdt::overlay::{Overlay, OverlayError};
use gatehouse::policy::cbor::{self, PolicyError};
use gatehouse::policy::types::Policy;
use std::fmt::Write as _;
use thiserror::Error;
use zerocopy::FromBytes;

/// Address that the plan is tried at; any multiple of 2 MiB gives the same answer.
pub(crate) const BASE: u64 = 0x4000_0000;

/// Most bytes of room that are tried: an image may claim any length.
const MAX_ROOM: u64 = 1 << 30;

/// Why a file is not an image that the firmware would start.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InspectError {
    /// No Linux header, or no slot behind it.
    #[error("not a Gatehouse image")]
    NotAnImage,
    /// Unknown layout of the slot.
    #[error("slot version {0}")]
    SlotVersion(u32),
    /// The slot says that there is no bundle.
    #[error("no bundle")]
    NoBundle,
    /// The slot contradicts itself or the file, or has a flag that is not known.
    #[error("{0}")]
    BadSlot(SlotError),
    /// The slot pins a bundle beside the image, and none was given.
    #[error("the image pins a bundle of {len:#x} bytes beside it, manifest sha256:{}: --bundle", crate::hex(.manifest))]
    Beside {
        /// Its length.
        len: u64,
        /// SHA-256 of its structure.
        manifest: [u8; 32],
    },
    /// A bundle was given for an image that has its own.
    #[error("the image pins no bundle beside it: it has its own")]
    NotPinned,
    /// The bundle that was given does not have the length that the slot pins.
    #[error("the bundle has {have:#x} bytes, the image pins one of {len:#x}")]
    Length {
        /// Length of the file.
        have: u64,
        /// Length that the slot has.
        len: u64,
    },
    /// The bundle is refused.
    #[error("bundle: {0}")]
    Bundle(#[from] BundleError),
    /// The overlay is refused.
    #[error(transparent)]
    Overlay(#[from] OverlayError),
    /// The policy is refused.
    #[error("policy: {0}")]
    Policy(#[from] PolicyError),
    /// The kernel is refused, or kernel and ramdisk do not lie where they can be used.
    #[error("kernel: {0}")]
    Place(#[from] PlaceError),
    /// The kernel is not what its CRC says.
    #[error("kernel: {0}")]
    Kernel(#[from] KernelFileError),
    /// The header's `image_size` is no range.
    #[error("image_size: {0}")]
    ImageSize(#[from] AddrError),
}

/// An image file whose bundle matched its manifest.
#[derive(Clone, Debug)]
pub struct Image<'a> {
    /// The Linux header.
    pub header: LinuxHeader,
    /// The slot.
    pub slot: Slot,
    /// Where the bundle is.
    pub source: Source,
    /// The bundle.
    pub bundle: Bundle<'a>,
    /// Length of the image file.
    file_len: u64,
}

impl<'a> Image<'a> {
    /// Reads header, slot and FIT structure of an image with its bundle.
    ///
    /// # Errors
    /// [`InspectError`].
    pub fn read(file: &'a [u8]) -> Result<Self, InspectError> {
        Self::with_bundle(file, None)
    }

    /// As [`Self::read`], for an image whose bundle may be beside it. As in the firmware, the manifest vouches for it.
    ///
    /// # Errors
    /// [`InspectError`].
    pub fn with_bundle(file: &'a [u8], beside: Option<&'a [u8]>) -> Result<Self, InspectError> {
        let not = InspectError::NotAnImage;
        let (header, _) = LinuxHeader::read_from_prefix(file).map_err(|_| not.clone())?;
        let rest = file.get(SLOT_OFFSET..).ok_or(not.clone())?;
        let (slot, _) = Slot::read_from_prefix(rest).map_err(|_| not.clone())?;
        if header.magic != LINUX_MAGIC {
            return Err(not);
        }
        let file_len = u64::try_from(file.len()).unwrap_or(u64::MAX);
        let first = u64::try_from(SLOT_OFFSET.saturating_add(size_of::<Slot>())).unwrap_or(u64::MAX);
        let source = Source::read(&slot, first, file_len).map_err(|error| match error {
            SlotError::Magic => not,
            SlotError::Version(version) => InspectError::SlotVersion(version),
            error => InspectError::BadSlot(error),
        })?;
        let bytes = match (source, beside) {
            (Source::None, _) => return Err(InspectError::NoBundle),
            (Source::Appended { .. }, Some(_)) => return Err(InspectError::NotPinned),
            (Source::Appended { offset, len }, None) => {
                let cut = || {
                    let start = usize::try_from(offset).ok()?;
                    file.get(start..start.checked_add(usize::try_from(len).ok()?)?)
                };
                cut().ok_or(InspectError::BadSlot(SlotError::Appended { offset, len }))?
            }
            (Source::External { len }, None) => {
                return Err(InspectError::Beside { len, manifest: slot.manifest_sha256 });
            }
            (Source::External { len }, Some(bytes)) => {
                let have = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                if have != len {
                    return Err(InspectError::Length { have, len });
                }
                bytes
            }
        };
        let bundle = Bundle::parse(bytes, &slot.manifest_sha256)?;
        Ok(Self { header, slot, source, bundle, file_len })
    }

    /// Hashes all parts and brings the kernel to its place, as the firmware does, for one load address.
    ///
    /// # Errors
    /// [`InspectError`].
    pub fn verify(&self) -> Result<Plan, InspectError> {
        for part in self.bundle.parts().skip(1) {
            part.clone().verify()?;
        }
        self.policy().transpose()?;
        if let Some(part) = self.bundle.overlay.clone() {
            Overlay::parse(part.verify()?.bytes())?;
        }
        let area = IpaRange::covering(BASE, self.header.image_size.get())?;
        let (offset, len) = (self.slot.bundle_offset.get(), self.slot.bundle_len.get());
        // One beside the image may lie anywhere else.
        let base = match self.source {
            Source::External { .. } => Some(area.top()),
            _ => BASE.checked_add(offset),
        };
        let bad = InspectError::BadSlot(SlotError::Appended { offset, len });
        let bundle = base.and_then(|base| Span::new(base, len)).ok_or(bad)?;
        // The firmware's room begins at a page, behind the bundle or, without one, behind the firmware.
        let room_base = BASE.saturating_add(self.file_len).next_multiple_of(BUNDLE_ALIGN);
        let room_len = area.top().saturating_sub(HEAP_SIZE).saturating_sub(room_base).min(MAX_ROOM);
        let mut room = vec![0; usize::try_from(room_len).unwrap_or_default()];
        let Bundle { kernel, ramdisk, .. } = &self.bundle;
        let room = Room::new(room_base, &mut room);
        let placed = place::kernel(kernel.clone(), ramdisk.as_ref(), area, bundle, room)?;
        KernelFile::read(placed.part.bytes())?;
        Ok(placed.plan)
    }

    /// Reads the policy; `None`: there is none.
    #[must_use]
    pub fn policy(&self) -> Option<Result<Policy, InspectError>> {
        policy_of(&self.bundle)
    }

    /// Reads the kernel's file; its digest is compared first.
    ///
    /// # Errors
    /// [`InspectError`].
    pub fn kernel(&self) -> Result<KernelFile, InspectError> {
        kernel_of(&self.bundle)
    }

    /// Makes the event with which the firmware measures the bundle.
    ///
    /// # Errors
    /// [`InspectError`]: the command line is not the one of its digest.
    pub fn bundle_event(&self) -> Result<Event, InspectError> {
        let bundle = &self.bundle;
        let cmdline = bundle.cmdline.clone().map(Part::verify).transpose()?;
        Ok(eventlog::bundle(&BundleFacts {
            svn: bundle.svn,
            os: bundle.os,
            manifest: &self.slot.manifest_sha256,
            configuration: &bundle.configuration,
            parts: &bundle.parts().collect::<Vec<_>>(),
            cmdline: cmdline.as_ref().map(VerifiedPart::command_line),
        }))
    }

    /// Describes the image in lines of text.
    #[must_use]
    pub fn describe(&self) -> String {
        let mut text = format!("image_size     {:#x}\n", self.header.image_size.get());
        let (offset, len) = (self.slot.bundle_offset, self.slot.bundle_len);
        let _ = match self.source {
            Source::External { len } => writeln!(text, "bundle         beside the image, {len:#x} bytes"),
            _ => writeln!(text, "bundle         {offset:#x}+{len:#x}"),
        };
        text + &describe_bundle(&self.bundle, &self.slot.manifest_sha256)
    }
}

/// Reads the policy of a bundle; `None`: there is none.
#[must_use]
pub fn policy_of(bundle: &Bundle<'_>) -> Option<Result<Policy, InspectError>> {
    let part = bundle.policy.clone()?;
    Some(part.verify().map_err(InspectError::from).and_then(|part| Ok(cbor::decode(part.bytes())?)))
}

/// Reads the kernel's file; its digest is compared first.
///
/// # Errors
/// [`InspectError`].
pub fn kernel_of(bundle: &Bundle<'_>) -> Result<KernelFile, InspectError> {
    Ok(KernelFile::read(bundle.kernel.clone().verify()?.bytes())?)
}

/// Describes a bundle in lines of text.
#[must_use]
pub fn describe_bundle(bundle: &Bundle<'_>, manifest: &[u8; 32]) -> String {
    let mut text = format!("manifest       sha256:{}\n", crate::hex(manifest));
    let _ = writeln!(text, "configuration  {}", bundle.configuration);
    let _ = writeln!(text, "os             {}", bundle.os.word());
    if let Some(Ok(policy)) = policy_of(bundle) {
        let _ = writeln!(text, "svn            {}{}", policy.svn, if policy.audit { " (audit)" } else { "" });
        for rule in &policy.rules {
            let _ = writeln!(text, "rule           {}", rule.name);
        }
    }
    for part in bundle.parts() {
        let name = format!("{:?}", part.role()).to_lowercase();
        let at = part.offset().map_or_else(|| "inline".into(), |o| format!("{o:#x}"));
        let _ = writeln!(text, "{name:<14} {at}+{:#x} {:?}", part.len_bytes(), part.digest());
    }
    if let Ok(kernel) = kernel_of(bundle) {
        let (word, len, mem) = (kernel.word(), kernel.image_len, kernel.header.mem_len());
        let _ = writeln!(text, "kernel format  {word}, Image of {len:#x} bytes, {mem:#x} of memory");
    }
    text
}
