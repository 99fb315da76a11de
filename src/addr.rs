//! Addresses and ids as types: an IPA, a granule count, a BDF and a VDEV id are never a bare integer.
//!
//! Trust: the values come from anybody; the constructors check what the type promises.

use core::fmt;
use thiserror::Error;

/// Size of an RSI granule in bytes, whatever the RMI granule is (DEN0137 2.0 beta, A2.3).
pub const GRANULE_SIZE: u64 = 4096;

/// Why a value is not an address or id of the wanted kind.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum AddrError {
    /// Not a multiple of the granule size.
    #[error("{0:#x} is not 4 KiB aligned")]
    Unaligned(u64),
    /// The range is empty, reversed or wraps.
    #[error("range {base:#x}+{len:#x} is empty or wraps")]
    BadRange {
        /// First address.
        base: u64,
        /// Length in bytes.
        len: u64,
    },
    /// Not inside the protected half of the IPA space.
    #[error("{0:#x} is outside the protected half")]
    NotProtected(u64),
    /// An IPA width that no realm can have.
    #[error("IPA width {0} is outside 32..=52")]
    BadWidth(u64),
    /// Device or function number out of range.
    #[error("no such PCI function: {bus:#x}:{device:#x}.{function:#x}")]
    BadBdf {
        /// Bus number.
        bus: u64,
        /// Device number.
        device: u64,
        /// Function number.
        function: u64,
    },
}

/// Width W of the realm's IPA space in bits; bit W-1 selects the half (DEN0137 2.0 beta, A5.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IpaWidth(u8);

impl IpaWidth {
    /// Checks a width as REALM_CONFIG gives it, in bits.
    ///
    /// # Errors
    /// [`AddrError::BadWidth`] outside 32..=52.
    pub fn new(bits: u64) -> Result<Self, AddrError> {
        match u8::try_from(bits) {
            Ok(w @ 32..=52) => Ok(Self(w)),
            _ => Err(AddrError::BadWidth(bits)),
        }
    }

    /// Returns W in bits.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Returns the alias bit, 1 << (W-1): set = unprotected, shared with the host.
    #[must_use]
    pub fn alias_bit(self) -> u64 {
        1u64.checked_shl(u32::from(self.0).saturating_sub(1)).unwrap_or(0)
    }
}

/// A non-empty, 4 KiB-aligned range of IPAs, `[base, top)`, alias bit clear unless the owner says otherwise.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct IpaRange {
    base: u64,
    top: u64,
}

impl IpaRange {
    /// Makes a range from its first address and length, both in bytes.
    ///
    /// # Errors
    /// [`AddrError::Unaligned`], [`AddrError::BadRange`].
    pub fn new(base: u64, len_bytes: u64) -> Result<Self, AddrError> {
        let top = base.checked_add(len_bytes).ok_or(AddrError::BadRange { base, len: len_bytes })?;
        Self::from_bounds(base, top)
    }

    /// Makes a range from `[base, top)`.
    ///
    /// # Errors
    /// As [`IpaRange::new`].
    pub fn from_bounds(base: u64, top: u64) -> Result<Self, AddrError> {
        for value in [base, top] {
            if !value.is_multiple_of(GRANULE_SIZE) {
                return Err(AddrError::Unaligned(value));
            }
        }
        if top <= base {
            return Err(AddrError::BadRange { base, len: 0 });
        }
        Ok(Self { base, top })
    }

    /// Makes the smallest granule-aligned range that covers `[base, base + len_bytes)`.
    ///
    /// # Errors
    /// [`AddrError::BadRange`] when empty or wrapping.
    pub fn covering(base: u64, len_bytes: u64) -> Result<Self, AddrError> {
        let bad = AddrError::BadRange { base, len: len_bytes };
        let end = base.checked_add(len_bytes).ok_or(bad)?;
        let top = end.checked_next_multiple_of(GRANULE_SIZE).ok_or(bad)?;
        Self::from_bounds(base & !(GRANULE_SIZE - 1), top)
    }

    /// Checks that the whole range lies in the protected half, `[0, 2^(W-1)]`.
    ///
    /// # Errors
    /// [`AddrError::NotProtected`].
    pub fn protected(self, width: IpaWidth) -> Result<Self, AddrError> {
        if self.top > width.alias_bit() { Err(AddrError::NotProtected(self.top)) } else { Ok(self) }
    }

    /// Returns the first address.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Returns the first address behind the range.
    #[must_use]
    pub const fn top(&self) -> u64 {
        self.top
    }

    /// Returns the length in bytes; never zero.
    #[must_use]
    pub const fn len_bytes(&self) -> u64 {
        self.top.saturating_sub(self.base)
    }

    /// Returns the length in granules; never zero.
    #[must_use]
    pub const fn num_granules(&self) -> u64 {
        self.len_bytes() / GRANULE_SIZE
    }

    /// Tells whether the two ranges share an address.
    #[must_use]
    pub const fn overlaps(&self, other: &Self) -> bool {
        self.base < other.top && other.base < self.top
    }

    /// Tells whether `other` lies wholly inside.
    #[must_use]
    pub const fn contains(&self, other: &Self) -> bool {
        self.base <= other.base && other.top <= self.top
    }
}

impl fmt::Debug for IpaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:#x}, {:#x})", self.base, self.top)
    }
}

impl fmt::Display for IpaRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// A PCI function as the realm numbers it: bus, device, function of segment 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bdf(u16);

impl Bdf {
    /// Checks the three numbers.
    ///
    /// # Errors
    /// [`AddrError::BadBdf`] when device > 31 or function > 7.
    pub fn new(bus: u8, device: u8, function: u8) -> Result<Self, AddrError> {
        if device > 31 || function > 7 {
            return Err(AddrError::BadBdf {
                bus: bus.into(),
                device: device.into(),
                function: function.into(),
            });
        }
        Ok(Self(u16::from(bus) << 8 | u16::from(device) << 3 | u16::from(function)))
    }

    /// Takes a routing id as it is: every 16-bit value is one.
    #[must_use]
    pub const fn from_routing_id(rid: u16) -> Self {
        Self(rid)
    }

    /// Returns the routing id: bus << 8 | device << 3 | function.
    #[must_use]
    pub const fn routing_id(self) -> u16 {
        self.0
    }

    /// Returns the bus number.
    #[must_use]
    pub const fn bus(self) -> u8 {
        self.0.to_be_bytes()[0]
    }

    /// Returns the device number, 0..=31.
    #[must_use]
    pub const fn device(self) -> u8 {
        (self.0.to_be_bytes()[1] >> 3) & 0x1f
    }

    /// Returns the function number, 0..=7.
    #[must_use]
    pub const fn function(self) -> u8 {
        self.0.to_be_bytes()[1] & 0x7
    }
}

impl fmt::Display for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}:{:02x}.{:x}", self.bus(), self.device(), self.function())
    }
}

impl fmt::Debug for Bdf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The id under which RMM and host know an assigned function: its guest-visible requester id, 64 bits wide
/// (DEN0137 2.0 beta, A9.4.1).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct VdevId(u64);

impl VdevId {
    /// Returns the id as a register value.
    #[must_use]
    pub const fn raw(self) -> u64 {
        self.0
    }
}

impl From<Bdf> for VdevId {
    fn from(bdf: Bdf) -> Self {
        Self(bdf.routing_id().into())
    }
}

impl fmt::Debug for VdevId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::Display for VdevId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}
