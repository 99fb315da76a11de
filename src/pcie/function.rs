//! The functions of bus 0 and their capabilities, each header read once.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::{Ecam, PcieError};
use crate::abi::pcie as abi;
use crate::addr::Bdf;
use crate::platform::Io;
use alloc::vec::Vec;

/// A capability is at least 4 bytes and lies behind the 64-byte header: no list is longer than this.
const MAX_CAPABILITIES: usize = 48;

/// What a function is, by header layout and base class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Header layout 0 and a class other than bridge.
    Endpoint,
    /// Base class 06 or header layout 1: host bridges, root ports, switches.
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

/// Reads every function of bus 0: at most 256, function 0 first, the others where it says multi-function.
///
/// # Errors
/// [`PcieError::Io`], [`PcieError::Capabilities`].
pub fn walk_bus_0<I: Io>(io: &mut I, ecam: &Ecam) -> Result<Vec<Function>, PcieError> {
    let mut found = Vec::new();
    for device in 0..32u16 {
        let mut functions = 1u16;
        let mut function = 0u16;
        while function < functions {
            let bdf = Bdf::from_routing_id(device << 3 | function);
            if let Some((entry, multi)) = read(io, ecam, bdf)? {
                if function == 0 && multi {
                    functions = 8;
                }
                found.push(entry);
            }
            function = function.saturating_add(1);
        }
    }
    Ok(found)
}

fn read<I: Io>(io: &mut I, ecam: &Ecam, bdf: Bdf) -> Result<Option<(Function, bool)>, PcieError> {
    let [v0, v1, d0, d1] = ecam.read32(io, bdf, abi::ID)?.to_le_bytes();
    let (vendor, device) = (u16::from_le_bytes([v0, v1]), u16::from_le_bytes([d0, d1]));
    if vendor == abi::NO_VENDOR {
        return Ok(None);
    }
    let [revision, c0, c1, c2] = ecam.read32(io, bdf, abi::CLASS_REVISION)?.to_le_bytes();
    let class = u32::from_le_bytes([c0, c1, c2, 0]);
    let header = ecam.read8(io, bdf, abi::HEADER_TYPE)?;
    let layout = header & !abi::HEADER_MULTI_FUNCTION;
    let kind = match (layout, c2) {
        (abi::HEADER_BRIDGE, _) | (_, 0x06) => Kind::Bridge,
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
        flr: false,
        tee_io: false,
        msix_table: None,
        msix_pba: None,
        capabilities: Capabilities::default(),
    };
    if kind == Kind::Endpoint && ecam.read16(io, bdf, abi::STATUS)? & abi::STATUS_CAPABILITIES != 0 {
        read_capabilities(io, ecam, &mut entry)?;
    }
    Ok(Some((entry, header & abi::HEADER_MULTI_FUNCTION != 0)))
}

fn read_capabilities<I: Io>(io: &mut I, ecam: &Ecam, entry: &mut Function) -> Result<(), PcieError> {
    let bdf = entry.bdf;
    let mut next = ecam.read8(io, bdf, abi::CAPABILITIES)? & !3;
    for _ in 0..MAX_CAPABILITIES {
        if next == 0 {
            return Ok(());
        }
        if next < 0x40 {
            break;
        }
        let at = u16::from(next);
        let [id, following] = ecam.read16(io, bdf, at)?.to_le_bytes();
        let register = |offset: u16| at.saturating_add(offset);
        match id {
            abi::CAP_EXPRESS if entry.capabilities.express.is_none() => {
                let bits = ecam.read32(io, bdf, register(abi::EXP_DEVICE_CAPABILITIES))?;
                entry.flr = bits & abi::DEVCAP_FLR != 0;
                entry.tee_io = bits & abi::DEVCAP_TEE_IO != 0;
                entry.capabilities.express = Some(at);
            }
            abi::CAP_MSI if entry.capabilities.msi.is_none() => entry.capabilities.msi = Some(at),
            abi::CAP_MSIX if entry.capabilities.msix.is_none() => {
                entry.msix_table = Some(msix_place(ecam.read32(io, bdf, register(4))?));
                entry.msix_pba = Some(msix_place(ecam.read32(io, bdf, register(8))?));
                entry.capabilities.msix = Some(at);
            }
            _ => {}
        }
        next = following & !3;
    }
    if next == 0 {
        return Ok(());
    }
    Err(PcieError::Capabilities { bdf, offset: next })
}

/// Splits a table or PBA register: BAR number in bits 2:0, offset above.
fn msix_place(register: u32) -> MsixPlace {
    MsixPlace { bar: register.to_le_bytes()[0] & 7, offset: register & !7 }
}
