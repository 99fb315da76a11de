//! One header and its capabilities, read once.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::{Bridge, Ecam, PcieError};
use crate::abi::pcie as abi;
use crate::addr::Bdf;
use crate::mutation::{Mutation, removed};
use crate::platform::Io;
use crate::policy::inventory::Shown;

/// A capability is at least 4 bytes and lies behind the 64-byte header: no list is longer than this.
const MAX_CAPABILITIES: usize = 48;
/// An extended capability is at least 8 bytes and lies in the 3840 bytes behind the first 256.
const MAX_EXTENDED: usize = 480;

/// What a function is, by header layout and base class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Header layout 0 and a class other than bridge.
    Endpoint,
    /// Header layout 0 and base class 06: host bridges. Those with layout 1 are no functions but a [`Bridge`].
    Bridge,
    /// A header layout that PCI does not have.
    Unknown(u8),
}

/// Where the MSI-X capability says that a structure lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsixPlace {
    /// BAR number, 0..=7 as read; only 0..=5 exist.
    pub bar: u8,
    /// Offset in the BAR, in bytes.
    pub offset: u32,
}

/// Offsets of the capabilities that the flow uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Capabilities {
    pub(super) express: Option<u16>,
    pub(super) msi: Option<u16>,
    pub(super) msix: Option<u16>,
    pub(super) power: Option<u16>,
    pub(super) ari: Option<u16>,
    pub(super) sriov: Option<u16>,
}

/// One function as its header described it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Where it is.
    pub bdf: Bdf,
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem id.
    pub subsystem: u16,
    /// Class code, 24 bits.
    pub class: u32,
    /// Revision id.
    pub revision: u8,
    /// What it is.
    pub kind: Kind,
    /// The bridge above, an index into [`Topology::bridges`](super::Topology); `None`: on the root bus.
    pub above: Option<usize>,
    /// Function level reset is offered.
    pub flr: bool,
    /// TEE-IO bit of the device capabilities: a hint of the host.
    pub tee_io: bool,
    /// MSI-X table, where there is the capability.
    pub msix_table: Option<MsixPlace>,
    /// MSI-X pending bit array.
    pub msix_pba: Option<MsixPlace>,
    pub(super) capabilities: Capabilities,
}

impl Function {
    /// Makes an endpoint of what was recorded of it, to be judged again: what only the way to the device needs is not there.
    #[must_use]
    pub fn recorded(
        bdf: Bdf,
        shown: Shown,
        revision: u8,
        msix_table: Option<MsixPlace>,
        msix_pba: Option<MsixPlace>,
    ) -> Self {
        let Shown { vendor, device, subsystem_vendor, subsystem, class } = shown;
        Self {
            bdf,
            vendor,
            device,
            subsystem_vendor,
            subsystem,
            class,
            revision,
            kind: Kind::Endpoint,
            above: None,
            flr: false,
            tee_io: false,
            msix_table,
            msix_pba,
            capabilities: Capabilities::default(),
        }
    }
}

/// One header, by its layout.
pub(super) enum Header {
    Bridge(Bridge),
    Function(Function),
}

/// Reads the header and the capabilities of `bdf`, if somebody answers; with them goes the multi-function bit.
pub(super) fn read<I: Io>(
    io: &mut I,
    ecam: &Ecam,
    bdf: Bdf,
    above: Option<usize>,
) -> Result<Option<(Header, bool)>, PcieError> {
    let [v0, v1, d0, d1] = ecam.read32(io, bdf, abi::ID)?.to_le_bytes();
    let (vendor, device) = (u16::from_le_bytes([v0, v1]), u16::from_le_bytes([d0, d1]));
    if vendor == abi::NO_VENDOR {
        return Ok(None);
    }
    let [revision, c0, c1, c2] = ecam.read32(io, bdf, abi::CLASS_REVISION)?.to_le_bytes();
    let class = u32::from_le_bytes([c0, c1, c2, 0]);
    let header = ecam.read8(io, bdf, abi::HEADER_TYPE)?;
    let layout = header & !abi::HEADER_MULTI_FUNCTION;
    let multi = header & abi::HEADER_MULTI_FUNCTION != 0;
    if layout == abi::HEADER_BRIDGE {
        let [primary, secondary, subordinate, _] = ecam.read32(io, bdf, abi::BUS_NUMBERS)?.to_le_bytes();
        let port = port(io, ecam, bdf)?;
        let numbers =
            Bridge { bdf, vendor, device, revision, class, above, secondary, subordinate, primary, port };
        return Ok(Some((Header::Bridge(numbers), multi)));
    }
    let kind = match (layout, c2) {
        (abi::HEADER_ENDPOINT, 0x06) => Kind::Bridge,
        (abi::HEADER_ENDPOINT, _) => Kind::Endpoint,
        (other, _) => Kind::Unknown(other),
    };
    let [s0, s1, s2, s3] = ecam.read32(io, bdf, abi::SUBSYSTEM)?.to_le_bytes();
    let mut entry = Function {
        bdf,
        vendor,
        device,
        subsystem_vendor: u16::from_le_bytes([s0, s1]),
        subsystem: u16::from_le_bytes([s2, s3]),
        class,
        revision,
        kind,
        above,
        flr: false,
        tee_io: false,
        msix_table: None,
        msix_pba: None,
        capabilities: Capabilities::default(),
    };
    if kind == Kind::Endpoint {
        for_each(io, ecam, bdf, |io, at, id, _| entry.note(io, ecam, at, id).map(|()| true))?;
        if entry.capabilities.express.is_some() {
            read_extended(io, ecam, &mut entry)?;
        }
    }
    Ok(Some((Header::Function(entry), multi)))
}

/// Returns the PCI Express capability of a bridge that has one device behind it: a root port or a downstream port.
fn port<I: Io>(io: &mut I, ecam: &Ecam, bdf: Bdf) -> Result<Option<u16>, PcieError> {
    let mut port = None;
    for_each(io, ecam, bdf, |_, at, id, [body, _]| {
        if id == abi::CAP_EXPRESS && matches!(body >> 4, abi::PORT_ROOT | abi::PORT_DOWNSTREAM) {
            port = Some(at);
        }
        Ok(id != abi::CAP_EXPRESS)
    })?;
    Ok(port)
}

/// Calls `note` with offset, id and the two bytes behind the next pointer of each capability until it returns false.
fn for_each<I: Io>(
    io: &mut I,
    ecam: &Ecam,
    bdf: Bdf,
    mut note: impl FnMut(&mut I, u16, u8, [u8; 2]) -> Result<bool, PcieError>,
) -> Result<(), PcieError> {
    if ecam.read16(io, bdf, abi::STATUS)? & abi::STATUS_CAPABILITIES == 0 {
        return Ok(());
    }
    let mut next = ecam.read8(io, bdf, abi::CAPABILITIES)? & !3;
    let most = if removed(Mutation::Capabilities) { usize::MAX } else { MAX_CAPABILITIES };
    for _ in 0..most {
        if next == 0 {
            return Ok(());
        }
        if next < 0x40 {
            break;
        }
        let [id, following, b0, b1] = ecam.read32(io, bdf, next.into())?.to_le_bytes();
        if !note(io, next.into(), id, [b0, b1])? {
            return Ok(());
        }
        next = following & !3;
    }
    if next == 0 {
        return Ok(());
    }
    Err(PcieError::Capabilities { bdf, offset: next.into() })
}

impl Function {
    /// Takes down what the flow needs of the capability `id` at `at`. Of two with one id the first counts.
    fn note<I: Io>(&mut self, io: &mut I, ecam: &Ecam, at: u16, id: u8) -> Result<(), PcieError> {
        let (bdf, known) = (self.bdf, &mut self.capabilities);
        let register = |offset: u16| at.saturating_add(offset);
        match id {
            abi::CAP_EXPRESS if known.express.is_none() => {
                let bits = ecam.read32(io, bdf, register(abi::EXP_DEVICE_CAPABILITIES))?;
                self.flr = bits & abi::DEVCAP_FLR != 0;
                self.tee_io = bits & abi::DEVCAP_TEE_IO != 0;
                known.express = Some(at);
            }
            abi::CAP_POWER if known.power.is_none() => known.power = Some(at),
            abi::CAP_MSI if known.msi.is_none() => known.msi = Some(at),
            abi::CAP_MSIX if known.msix.is_none() => {
                self.msix_table = Some(msix_place(ecam.read32(io, bdf, register(4))?));
                self.msix_pba = Some(msix_place(ecam.read32(io, bdf, register(8))?));
                known.msix = Some(at);
            }
            _ => {}
        }
        Ok(())
    }
}

/// Reads the list of extended capabilities (PCIe Base 6.0, 7.6.3). An empty one has a null header.
fn read_extended<I: Io>(io: &mut I, ecam: &Ecam, entry: &mut Function) -> Result<(), PcieError> {
    let bdf = entry.bdf;
    let known = &mut entry.capabilities;
    let mut next = abi::EXTENDED_CAPABILITIES;
    for _ in 0..MAX_EXTENDED {
        let header = ecam.read32(io, bdf, next)?;
        let [id0, id1, n0, n1] = header.to_le_bytes();
        if next == abi::EXTENDED_CAPABILITIES && matches!(header, 0 | u32::MAX) {
            return Ok(());
        }
        match u16::from_le_bytes([id0, id1]) {
            abi::EXT_CAP_ARI if known.ari.is_none() => known.ari = Some(next),
            abi::EXT_CAP_SRIOV if known.sriov.is_none() => known.sriov = Some(next),
            _ => {}
        }
        // Bits 3:0 are the version, the two lowest bits of the offset are reserved.
        next = (u16::from_le_bytes([n0, n1]) >> 4) & !3;
        if next == 0 {
            return Ok(());
        }
        if next < abi::EXTENDED_CAPABILITIES {
            break;
        }
    }
    Err(PcieError::Capabilities { bdf, offset: next })
}

/// Splits a table or PBA register: BAR number in bits 2:0, offset above.
fn msix_place(register: u32) -> MsixPlace {
    MsixPlace { bar: register.to_le_bytes()[0] & 7, offset: register & !7 }
}
