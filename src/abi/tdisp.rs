//! TDISP: the device interface report (PCIe TDISP 1.0, TDISP_REPORT).
//!
//! Trust: the device's bytes, after their digest matched the RMM's.

use bitflags::bitflags;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

bitflags! {
    /// Interface info flags.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct InterfaceInfo: u16 {
        /// Firmware updates are disabled while locked.
        const NO_FIRMWARE_UPDATE = 1 << 0;
        /// DMA without PASID is possible.
        const DMA_WITHOUT_PASID = 1 << 1;
        /// DMA with PASID is possible.
        const DMA_WITH_PASID = 1 << 2;
        /// ATS is supported and enabled.
        const ATS = 1 << 3;
        /// PRS is supported and enabled.
        const PRS = 1 << 4;
    }

    /// Attributes of one MMIO range.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct RangeAttributes: u16 {
        /// Holds the MSI-X table.
        const MSIX_TABLE = 1 << 0;
        /// Holds the MSI-X pending bit array.
        const MSIX_PBA = 1 << 1;
        /// Not TEE memory: no private access.
        const NON_TEE = 1 << 2;
        /// The memory attribute can be updated.
        const UPDATABLE = 1 << 3;
    }
}

/// Fixed part of the report, 16 bytes.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ReportHeader {
    /// [`InterfaceInfo`].
    pub interface_info: U16,
    /// Reserved.
    pub reserved: U16,
    /// MSI-X message control as in configuration space.
    pub msix_control: U16,
    /// LNR control.
    pub lnr_control: U16,
    /// TPH control.
    pub tph_control: U32,
    /// Number of [`ReportRange`]s that follow.
    pub num_ranges: U32,
}

/// One MMIO range of the report, 16 bytes.
#[derive(Debug, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct ReportRange {
    /// Number of the first 4 KiB page, MMIO reporting offset added.
    pub first_page: U64,
    /// Number of 4 KiB pages.
    pub num_pages: U32,
    /// [`RangeAttributes`].
    pub attributes: U16,
    /// Device-defined; the BAR number in practice.
    pub id: U16,
}

const _: () = assert!(size_of::<ReportHeader>() == 16);
const _: () = assert!(size_of::<ReportRange>() == 16);
