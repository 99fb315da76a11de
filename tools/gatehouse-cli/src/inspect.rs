//! Reads an image file with the firmware's own code: slot, bundle, parts, and the load plan.
use crate::kernel::{KernelFile, KernelFileError};
use gatehouse::abi::image::{
    BUNDLE_ALIGN, HEAP_SIZE, LINUX_MAGIC, LinuxHeader, SLOT_MAGIC, SLOT_OFFSET, SLOT_VERSION, Slot,
};
use gatehouse::addr::{AddrError, IpaRange};
use gatehouse::boot::bundle::{Bundle, BundleError, Part, VerifiedPart};
use gatehouse::boot::place::{self, PlaceError, Room};
use gatehouse::boot::plan::{Plan, Span};
use gatehouse::eventlog::{self, BundleFacts, Event};
use gatehouse::policy::cbor::{self, PolicyError};
use gatehouse::policy::types::Policy;
use std::fmt::Write as _;
use thiserror::Error;
use zerocopy::FromBytes;

/// Address that the plan is tried at; any multiple of 2 MiB gives the same answer.
const BASE: u64 = 0x4000_0000;

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
    /// The slot says that no bundle is appended.
    #[error("no bundle")]
    NoBundle,
    /// The slot's bundle is misaligned or not in the file.
    #[error("bundle at {offset:#x}, {len:#x} bytes, is not in the file")]
    BadSlot {
        /// Offset.
        offset: u64,
        /// Length.
        len: u64,
    },
    /// The bundle is refused.
    #[error("bundle: {0}")]
    Bundle(#[from] BundleError),
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
    /// The bundle.
    pub bundle: Bundle<'a>,
}

impl<'a> Image<'a> {
    /// Reads header, slot and FIT structure.
    ///
    /// # Errors
    /// [`InspectError`].
    pub fn read(file: &'a [u8]) -> Result<Self, InspectError> {
        let not = InspectError::NotAnImage;
        let (header, _) = LinuxHeader::read_from_prefix(file).map_err(|_| not.clone())?;
        let rest = file.get(SLOT_OFFSET..).ok_or(not.clone())?;
        let (slot, _) = Slot::read_from_prefix(rest).map_err(|_| not.clone())?;
        if header.magic != LINUX_MAGIC || slot.magic != SLOT_MAGIC {
            return Err(not);
        }
        if slot.version.get() != SLOT_VERSION {
            return Err(InspectError::SlotVersion(slot.version.get()));
        }
        let (offset, len) = (slot.bundle_offset.get(), slot.bundle_len.get());
        if len == 0 {
            return Err(InspectError::NoBundle);
        }
        let cut = || {
            let start = usize::try_from(offset).ok()?;
            file.get(start..start.checked_add(usize::try_from(len).ok()?)?)
        };
        let bad = InspectError::BadSlot { offset, len };
        if !offset.is_multiple_of(BUNDLE_ALIGN) {
            return Err(bad);
        }
        let bundle = Bundle::parse(cut().ok_or(bad)?, &slot.manifest_sha256)?;
        Ok(Self { header, slot, bundle })
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
        let (offset, len) = (self.slot.bundle_offset.get(), self.slot.bundle_len.get());
        let bad = InspectError::BadSlot { offset, len };
        let area = IpaRange::covering(BASE, self.header.image_size.get())?;
        let bundle = BASE.checked_add(offset).and_then(|base| Span::new(base, len)).ok_or(bad)?;
        // The firmware's room begins at a page.
        let room_base = bundle.end().next_multiple_of(BUNDLE_ALIGN);
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
        let part = self.bundle.policy.clone()?;
        Some(part.verify().map_err(InspectError::from).and_then(|part| Ok(cbor::decode(part.bytes())?)))
    }

    /// Reads the kernel's file; its digest is compared first.
    ///
    /// # Errors
    /// [`InspectError`].
    pub fn kernel(&self) -> Result<KernelFile, InspectError> {
        Ok(KernelFile::read(self.bundle.kernel.clone().verify()?.bytes())?)
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
        let mut text = String::new();
        let bundle = &self.bundle;
        let _ = writeln!(text, "image_size     {:#x}", self.header.image_size.get());
        let _ = writeln!(text, "bundle         {:#x}+{:#x}", self.slot.bundle_offset, self.slot.bundle_len);
        let _ = writeln!(text, "manifest       sha256:{}", crate::hex(&self.slot.manifest_sha256));
        let _ = writeln!(text, "configuration  {}", bundle.configuration);
        let _ = writeln!(text, "os             {}", bundle.os.word());
        if let Some(Ok(policy)) = self.policy() {
            let _ =
                writeln!(text, "svn            {}{}", policy.svn, if policy.audit { " (audit)" } else { "" });
            for rule in &policy.rules {
                let _ = writeln!(text, "rule           {}", rule.name);
            }
        }
        for part in bundle.parts() {
            let name = format!("{:?}", part.role()).to_lowercase();
            let at = part.offset().map_or_else(|| "inline".into(), |o| format!("{o:#x}"));
            let _ = writeln!(text, "{name:<14} {at}+{:#x} {:?}", part.len_bytes(), part.digest());
        }
        if let Ok(kernel) = self.kernel() {
            let (word, len, mem) = (kernel.word(), kernel.image_len, kernel.header.mem_len());
            let _ = writeln!(text, "kernel format  {word}, Image of {len:#x} bytes, {mem:#x} of memory");
        }
        text
    }
}
