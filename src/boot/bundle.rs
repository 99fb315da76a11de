//! The bundle: a FIT whose structure hashes to the manifest digest in the image's slot, and the parts it names.
//!
//! Trust: covered by the RIM through the slot where the VMM populates measured; a bundle that does not match its
//! manifest is refused before anything in it is read. Parts are hashed once each, by [`Part::verify`].
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::fit::{Image, Place, image};
use super::gzip::MAGIC;
use crate::abi::fit::{self, OsKind};
use crate::digest::Digest;
use crate::fdt::check::{FdtError, HEADER_LEN, Tree};
use crate::fdt::one_string;
use ::fdt::node::FdtNode;
use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::ops::Range;
use sha2::{Digest as _, Sha256};
use thiserror::Error;

/// What a part is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Kernel image.
    Kernel,
    /// Initial ramdisk.
    Ramdisk,
    /// Command line.
    Cmdline,
    /// Device policy, encoded (docs/policy.md).
    Policy,
    /// Device-tree overlay (docs/bundle.md).
    Overlay,
}

impl Role {
    /// Returns the word of logs.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Kernel => "kernel",
            Self::Ramdisk => "ramdisk",
            Self::Cmdline => "cmdline",
            Self::Policy => "policy",
            Self::Overlay => "overlay",
        }
    }

    /// Returns the configuration's property that names the image.
    #[must_use]
    pub const fn property(self) -> &'static str {
        match self {
            Self::Kernel => fit::KERNEL,
            Self::Ramdisk => fit::RAMDISK,
            Self::Cmdline => fit::CMDLINE,
            Self::Policy => fit::POLICY,
            Self::Overlay => fit::FDT,
        }
    }
}

/// A node of the FIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FitNode {
    /// `/configurations`.
    Configurations,
    /// The configuration that `default` names.
    Default,
    /// `/images`.
    Images,
    /// The image of a role.
    Image(Role),
}

/// What is wrong with one part.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PartError {
    /// Not exactly one of `data`, `data-offset`, `data-position`, or a number of a bad form.
    #[error("no single place of its data")]
    Location,
    /// No data.
    #[error("empty")]
    Empty,
    /// Ends behind the bundle.
    #[error("ends at {end:#x}, the bundle at {bundle_len:#x}")]
    Outside {
        /// First byte behind the data.
        end: usize,
        /// Length of the bundle.
        bundle_len: usize,
    },
    /// Begins inside the structure.
    #[error("begins at {start:#x}, in the structure")]
    InStructure {
        /// First byte.
        start: usize,
    },
    /// The FIT says that it is compressed: not gzip, not a kernel, or the data are no gzip file.
    #[error("a compression that is not supported, or not that of the data")]
    Compression,
    /// No hash node.
    #[error("no hash node")]
    HashMissing,
    /// No hash node of sha256, sha384 or sha512.
    #[error("no hash node of a known algorithm")]
    HashUnknown,
    /// The digest has a length that does not fit its algorithm.
    #[error("digest of {0} bytes")]
    HashLength(usize),
    /// The data do not have the digest.
    #[error("digest differs")]
    DigestMismatch,
}

/// Why a bundle is refused.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum BundleError {
    /// The structure is not a tree.
    #[error("structure: {0}")]
    Structure(#[from] FdtError),
    /// No memory for a copy.
    #[error("no memory for {0:#x} bytes")]
    NoMemory(usize),
    /// The structure does not have the manifest's digest.
    #[error("the structure does not match the manifest")]
    ManifestMismatch,
    /// A node is missing.
    #[error("no {0:?} node")]
    MissingNode(FitNode),
    /// No default configuration, or a bad name of it.
    #[error("no default configuration")]
    NoDefault,
    /// The configuration names no kernel.
    #[error("no kernel")]
    NoKernel,
    /// A string of the configuration is not exactly one string.
    #[error("{0} is not one string")]
    NotOneString(&'static str),
    /// A property of ours that this version does not know.
    #[error("unknown property {0}")]
    UnknownProperty(String),
    /// `gatehouse,svn` is not one number of 32 bits.
    #[error("gatehouse,svn is not one number")]
    BadSvn,
    /// `gatehouse,os` is not half, native or unaware.
    #[error("gatehouse,os is not half, native or unaware")]
    BadOs,
    /// Something about one part.
    #[error("{role:?}: {error}")]
    Part {
        /// Which part.
        role: Role,
        /// What.
        error: PartError,
    },
    /// Two parts share bytes, or are one image.
    #[error("{0:?} and {1:?} overlap")]
    PartsOverlap(Role, Role),
}

/// A part of the bundle, not hashed yet: its bytes cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    role: Role,
    data: Cow<'a, [u8]>,
    offset: Option<usize>,
    digest: Digest,
}

/// A part whose bytes have the digest that the structure names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifiedPart<'a> {
    part: Part<'a>,
}

impl<'a> Part<'a> {
    /// Hashes every byte once and compares the whole digest.
    ///
    /// # Errors
    /// [`PartError::DigestMismatch`] in [`BundleError::Part`].
    pub fn verify(self) -> Result<VerifiedPart<'a>, BundleError> {
        self.verify_by(&mut |_| {})
    }

    /// As [`Self::verify`]; every chunk goes through `each` before it is hashed, all of them in any case. What `each` makes
    /// of them may be used only after this succeeded.
    ///
    /// # Errors
    /// As [`Self::verify`].
    pub(super) fn verify_by(self, each: &mut dyn FnMut(&[u8])) -> Result<VerifiedPart<'a>, BundleError> {
        if self.digest.matches_by(&self.data, each) {
            Ok(VerifiedPart { part: self })
        } else {
            Err(BundleError::Part { role: self.role, error: PartError::DigestMismatch })
        }
    }

    /// Returns the bytes before they are hashed: to choose how, and for nothing else.
    pub(super) fn unverified(&self) -> &[u8] {
        &self.data
    }

    /// Returns what the part is for.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Returns the offset of the data from the bundle's start in bytes; `None` for data inside the structure.
    #[must_use]
    pub fn offset(&self) -> Option<usize> {
        self.offset
    }

    /// Returns the length in bytes; never zero.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.data.len()
    }

    /// Returns the digest that the structure names.
    #[must_use]
    pub fn digest(&self) -> &Digest {
        &self.digest
    }
}

impl VerifiedPart<'_> {
    /// Returns the bytes that were hashed.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.part.data
    }

    /// Returns what is known besides the bytes.
    #[must_use]
    pub fn part(&self) -> &Part<'_> {
        &self.part
    }

    /// Returns a command line: the bytes without one final NUL.
    #[must_use]
    pub fn command_line(&self) -> &[u8] {
        self.bytes().strip_suffix(&[0]).unwrap_or(self.bytes())
    }
}

/// A bundle whose structure matched the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bundle<'a> {
    /// Name of the default configuration.
    pub configuration: String,
    /// Length of the structure in bytes.
    pub structure_len: usize,
    /// Kernel.
    pub kernel: Part<'a>,
    /// Ramdisk.
    pub ramdisk: Option<Part<'a>>,
    /// Command line.
    pub cmdline: Option<Part<'a>>,
    /// Security version number: a later bundle that takes something back has a higher one.
    pub svn: u32,
    /// What the payload can do.
    pub os: OsKind,
    /// Device policy; without one no function but bridges may be there.
    pub policy: Option<Part<'a>>,
    /// Device-tree overlay.
    pub overlay: Option<Part<'a>>,
}

impl<'a> Bundle<'a> {
    /// Parses a bundle in private memory: hashes a copy of the structure, compares it with the manifest, then reads it.
    ///
    /// # Errors
    /// [`BundleError`].
    pub fn parse(bytes: &'a [u8], manifest_sha256: &[u8; 32]) -> Result<Self, BundleError> {
        let header = bytes.first_chunk::<HEADER_LEN>();
        let header = header.ok_or(FdtError::Truncated { have: bytes.len(), need: HEADER_LEN })?;
        let len = Tree::needed_len(header)?;
        let structure = bytes.get(..len).ok_or(FdtError::Truncated { have: bytes.len(), need: len })?;
        let mut copy = Vec::new();
        copy.try_reserve_exact(len).map_err(|_| BundleError::NoMemory(len))?;
        copy.extend_from_slice(structure);
        if Sha256::digest(&copy).as_slice() != manifest_sha256.as_slice() {
            return Err(BundleError::ManifestMismatch);
        }
        Self::read(&Tree::check(copy)?, bytes, len)
    }

    /// Parts in the order kernel, ramdisk, command line, policy, overlay.
    pub fn parts(&self) -> impl Iterator<Item = &Part<'a>> {
        let optional = [&self.ramdisk, &self.cmdline, &self.policy, &self.overlay];
        core::iter::once(&self.kernel).chain(optional.into_iter().flatten())
    }

    fn read(tree: &Tree, bytes: &'a [u8], structure_len: usize) -> Result<Self, BundleError> {
        let reader = tree.reader()?;
        let root = reader.find_node("/").ok_or(FdtError::Reader)?;
        let missing = BundleError::MissingNode;
        let all = child(root, fit::CONFIGURATIONS).ok_or(missing(FitNode::Configurations))?;
        let default = all.property(fit::DEFAULT).and_then(|p| one_string(p.value));
        let default = default.ok_or(BundleError::NoDefault)?;
        let config = child(all, default).ok_or(missing(FitNode::Default))?;
        let images = child(root, fit::IMAGES).ok_or(missing(FitNode::Images))?;
        check_properties(config)?;

        let take = |role: Role| -> Result<Option<Part<'a>>, BundleError> {
            let Some(value) = config.property(role.property()) else { return Ok(None) };
            let name = one_string(value.value).ok_or(BundleError::NotOneString(role.property()))?;
            let node = child(images, name).ok_or(missing(FitNode::Image(role)))?;
            let Image { place, digest, gzip } = image(node, role, structure_len, bytes.len())?;
            let outside = |r: &Range<usize>| {
                let error = PartError::Outside { end: r.end, bundle_len: bytes.len() };
                BundleError::Part { role, error }
            };
            let (data, offset) = match place {
                Place::Inline(data) => (Cow::Owned(data.into()), None),
                Place::External(range) => {
                    let data = bytes.get(range.clone()).ok_or_else(|| outside(&range))?;
                    (Cow::Borrowed(data), Some(range.start))
                }
            };
            if gzip && !data.starts_with(&MAGIC) {
                return Err(BundleError::Part { role, error: PartError::Compression });
            }
            Ok(Some(Part { role, data, offset, digest }))
        };
        let bundle = Self {
            configuration: default.into(),
            structure_len,
            kernel: take(Role::Kernel)?.ok_or(BundleError::NoKernel)?,
            ramdisk: take(Role::Ramdisk)?,
            cmdline: take(Role::Cmdline)?,
            svn: svn(config)?,
            os: os(config)?,
            policy: take(Role::Policy)?,
            overlay: take(Role::Overlay)?,
        };
        bundle.check_overlaps()?;
        Ok(bundle)
    }

    fn check_overlaps(&self) -> Result<(), BundleError> {
        let span = |p: &Part<'_>| {
            let start = p.offset?;
            Some(start..start.checked_add(p.data.len())?)
        };
        let all: Vec<(Role, Range<usize>)> = self.parts().filter_map(|p| Some((p.role, span(p)?))).collect();
        for (i, (one, first)) in all.iter().enumerate() {
            for (other, second) in all.iter().skip(i.saturating_add(1)) {
                if first.start < second.end && second.start < first.end {
                    return Err(BundleError::PartsOverlap(*one, *other));
                }
            }
        }
        Ok(())
    }
}

/// Finds a child by its exact name.
fn child<'b, 'a>(parent: FdtNode<'b, 'a>, name: &str) -> Option<FdtNode<'b, 'a>> {
    parent.children().find(|n| n.name == name)
}

/// Refuses what this version cannot honour.
fn check_properties(config: FdtNode<'_, '_>) -> Result<(), BundleError> {
    let known = [fit::CMDLINE, fit::OS, fit::POLICY, fit::SVN];
    let mut names = config.properties().map(|p| p.name).filter(|n| n.starts_with(fit::OURS));
    match names.find(|n| !known.contains(n)) {
        Some(name) => Err(BundleError::UnknownProperty(name.into())),
        None => Ok(()),
    }
}

fn svn(config: FdtNode<'_, '_>) -> Result<u32, BundleError> {
    let Some(value) = config.property(fit::SVN) else { return Ok(0) };
    value.value.try_into().map(u32::from_be_bytes).map_err(|_| BundleError::BadSvn)
}

fn os(config: FdtNode<'_, '_>) -> Result<OsKind, BundleError> {
    let Some(value) = config.property(fit::OS) else { return Ok(OsKind::default()) };
    one_string(value.value).and_then(OsKind::from_word).ok_or(BundleError::BadOs)
}
