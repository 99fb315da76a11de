//! What the firmware needs from the machine besides SMC: device and shared memory, a clock, random bits.
//!
//! Two implementations: `arch::aarch64` on the machine and `arch::host` for tests.

use crate::addr::{AddrError, IpaRange, IpaWidth};
use crate::conduit::Conduit;
use crate::fdt::read::ConsoleKind;
use thiserror::Error;

/// Which half of the IPA space a window is reached through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// Alias bit clear: private to the realm (validated MMIO).
    Protected,
    /// Alias bit set: shared with, or emulated by, the host.
    Unprotected,
}

/// A piece of address space that [`Io::map`] or [`Io::map_shared`] made reachable. Offsets are checked against its length.
#[derive(Debug, PartialEq, Eq)]
pub struct IoWindow {
    range: IpaRange,
    half: Half,
}

impl IoWindow {
    /// For implementations of [`Io`] only: states that `range` is now mapped through `half`.
    #[must_use]
    pub fn mapped(range: IpaRange, half: Half) -> Self {
        Self { range, half }
    }

    /// Returns the IPA range with the alias bit clear.
    #[must_use]
    pub fn range(&self) -> IpaRange {
        self.range
    }

    /// Returns the half that accesses go through.
    #[must_use]
    pub fn half(&self) -> Half {
        self.half
    }

    /// Returns the address, alias bit included, of `len` bytes at `offset`, or `None` outside the window.
    #[must_use]
    pub fn address(&self, width: IpaWidth, offset: u64, len: u64) -> Option<u64> {
        let end = offset.checked_add(len)?;
        if end > self.range.len_bytes() {
            return None;
        }
        let ipa = self.range.base().checked_add(offset)?;
        Some(match self.half {
            Half::Protected => ipa,
            Half::Unprotected => ipa | width.alias_bit(),
        })
    }
}

/// Why a window cannot be made or used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum IoError {
    /// The range overlaps the firmware's own memory.
    #[error("{0} overlaps the firmware")]
    OverlapsFirmware(IpaRange),
    /// The address is not one that can be mapped.
    #[error(transparent)]
    Address(#[from] AddrError),
    /// The page table has no room or refuses the range.
    #[error("cannot map {0}")]
    Map(IpaRange),
    /// Access outside the window, or not aligned to its size.
    #[error("access at offset {offset:#x} outside {range}")]
    Outside {
        /// Offset in bytes.
        offset: u64,
        /// The window.
        range: IpaRange,
    },
}

/// Device and host-shared memory. Each access is one plain load or store (a trapped access needs a valid syndrome).
pub trait Io {
    /// Tells the IPA width, once it is known; before that nothing can be mapped.
    ///
    /// # Errors
    /// [`AddrError::BadWidth`] when this CPU cannot address it.
    fn set_ipa_width(&mut self, width: IpaWidth) -> Result<(), AddrError>;

    /// Takes the UART whose registers begin at `offset` bytes of `window` as console; called at most once.
    ///
    /// # Errors
    /// [`IoError::Outside`] when the window ends before the registers, or they are not aligned to an access.
    fn set_console(&mut self, kind: ConsoleKind, window: IoWindow, offset: u64) -> Result<(), IoError>;

    /// Maps `range` as device memory (nGnRE, never executable) through `half`.
    ///
    /// # Errors
    /// [`IoError`]; nothing is mapped then.
    fn map(&mut self, range: IpaRange, half: Half) -> Result<IoWindow, IoError>;

    /// Maps `range`, which the firmware owns and has made EMPTY, as normal memory through the unprotected alias; the
    /// private view of it is unmapped.
    ///
    /// # Errors
    /// [`IoError`].
    fn map_shared(&mut self, range: IpaRange) -> Result<IoWindow, IoError>;

    /// Takes the private view of a shared window back; the RMM has made it RAM again. The content is lost.
    ///
    /// # Errors
    /// [`IoError::Map`] when the window is not a shared one.
    fn unmap_shared(&mut self, window: IoWindow) -> Result<(), IoError>;

    /// Reads `size` bytes, little-endian, at `offset` of a device window.
    ///
    /// # Errors
    /// [`IoError::Outside`].
    fn read(&mut self, window: &IoWindow, offset: u64, size: AccessSize) -> Result<u64, IoError>;

    /// Writes the low bytes of `value` at `offset` of a device window.
    ///
    /// # Errors
    /// [`IoError::Outside`].
    fn write(&mut self, window: &IoWindow, offset: u64, size: AccessSize, value: u64) -> Result<(), IoError>;

    /// Copies from a shared window into private memory, each byte read once.
    ///
    /// # Errors
    /// [`IoError::Outside`].
    fn copy_in(&mut self, window: &IoWindow, offset: u64, to: &mut [u8]) -> Result<(), IoError>;

    /// Copies private RAM outside the firmware (the device tree that the VMM placed). The caller has asked the RMM
    /// that every granule of it is RIPAS RAM.
    ///
    /// # Errors
    /// [`IoError`] when the range touches the firmware or cannot be mapped.
    fn copy_private(&mut self, ipa: u64, to: &mut [u8]) -> Result<(), IoError>;

    /// Maps private RAM outside the firmware read-only, for good: the pages of a bundle beside the image. The caller has
    /// asked the RMM that every granule of it is RIPAS RAM, so that nobody can change it. Nothing else is mapped there
    /// afterwards. Called at most once.
    ///
    /// # Errors
    /// [`IoError`] when the range touches the firmware or cannot be mapped, or one is mapped already.
    fn map_private(&mut self, range: IpaRange) -> Result<&'static [u8], IoError>;

    /// Copies private bytes into a shared window.
    ///
    /// # Errors
    /// [`IoError::Outside`].
    fn copy_out(&mut self, window: &IoWindow, offset: u64, from: &[u8]) -> Result<(), IoError>;
}

/// Width of one device access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessSize {
    /// One byte.
    Byte,
    /// Two bytes.
    Half,
    /// Four bytes.
    Word,
    /// Eight bytes.
    Double,
}

impl AccessSize {
    /// Returns the width in bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::Byte => 1,
            Self::Half => 2,
            Self::Word => 4,
            Self::Double => 8,
        }
    }
}

/// The system counter. The host may stop it: every wait is bounded by a count as well.
pub trait Clock {
    /// Returns CNTVCT in ticks.
    fn ticks(&mut self) -> u64;
    /// Returns CNTFRQ in ticks per second; at least 1.
    fn ticks_per_second(&self) -> u64;
    /// Gives the host a moment.
    fn relax(&mut self);
}

/// The hardware random source.
pub trait Entropy {
    /// Returns 64 random bits (RNDR), or `None` where the CPU has none or it fails.
    fn random(&mut self) -> Option<u64>;
}

/// All of it: what a phase may ask for.
pub trait Platform: Conduit + Io + Clock + Entropy {}

impl<T: Conduit + Io + Clock + Entropy> Platform for T {}
