//! The standard events: UEFI_VARIABLE_DATA, DEVICE_SECURITY_EVENT_DATA2, tags and separators.
//!
//! Trust: anybody's bytes.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::error::Flaw;
use super::event::{Data, DeviceSecurity, Ids};
use super::tagged;
use crate::cursor::Cursor;
use gatehouse::rsi::HashAlgorithm;
use std::fmt::Write as _;

const SEPARATOR: u32 = 0x04;
const EVENT_TAG: u32 = 0x06;
const FIRMWARE_BLOB: u32 = 0x8000_00e1;
const FIRMWARE_CONFIG: u32 = 0x8000_00e2;
const DEVICE_POLICY: u32 = 0x8000_00e3;
const DEVICE_AUTHORITY: u32 = 0x8000_00e4;

/// ed4807a1-ccf5-4bb6-b51a-e76c6d08f390: the first three groups little-endian.
const GUID: [u8; 16] =
    [0xa1, 0x07, 0x48, 0xed, 0xf5, 0xcc, 0xb6, 0x4b, 0xb5, 0x1a, 0xe7, 0x6c, 0x6d, 0x08, 0xf3, 0x90];
/// ACPI PNP0A08, UID 0 (UEFI 2.10, 10.3.3): type 2, subtype 1, 12 bytes.
const ROOT_NODE: [u8; 12] = [2, 1, 12, 0, 0xd0, 0x41, 0x08, 0x0a, 0, 0, 0, 0];
/// Head of a PCI node (UEFI 2.10, 10.3.2.1): function and device follow.
const PCI_NODE: [u8; 4] = [1, 1, 6, 0];
/// End of the whole path (UEFI 2.10, 10.3.1).
const END_NODE: [u8; 4] = [0x7f, 0xff, 4, 0];
/// Longest device path in bytes: eight hops.
const MAX_PATH: u64 = 12 + 8 * 6 + 4;

/// Reads the data of an event, and says what it is called.
pub fn data(kind: u32, bytes: &[u8], algorithm: HashAlgorithm) -> (&'static str, Result<Data, Flaw>) {
    match kind {
        SEPARATOR => ("separator", separator(bytes)),
        EVENT_TAG => tagged::data(bytes, algorithm),
        FIRMWARE_BLOB => ("firmware", device_security(bytes, true).map(Data::Firmware)),
        FIRMWARE_CONFIG => ("configuration", device_security(bytes, false).map(Data::Configuration)),
        DEVICE_POLICY => ("policy", variable(bytes, "policy").map(|policy| Data::Policy(policy.into()))),
        DEVICE_AUTHORITY => ("authority", authority(bytes)),
        _ => ("", Err(Flaw::Type(kind))),
    }
}

fn separator(bytes: &[u8]) -> Result<Data, Flaw> {
    if bytes == [0; 4] { Ok(Data::Separator) } else { Err(Flaw::Field("the separator")) }
}

/// UEFI_VARIABLE_DATA: GUID, length of the name in characters, length of the data, name in UTF-16, data.
fn variable<'a>(bytes: &'a [u8], wanted: &str) -> Result<&'a [u8], Flaw> {
    let mut cursor = Cursor(bytes);
    cursor.expect(&GUID).ok_or(Flaw::Field("the variable's GUID"))?;
    let chars = cursor.u64().ok_or(Flaw::Field("the length of the variable's name"))?;
    let len = cursor.u64().ok_or(Flaw::Field("the length of the variable's data"))?;
    let name: Vec<u8> = wanted.encode_utf16().flat_map(u16::to_le_bytes).collect();
    if usize::try_from(chars).ok() != Some(wanted.len()) {
        return Err(Flaw::Field("the length of the variable's name"));
    }
    cursor.expect(&name).ok_or(Flaw::Field("the variable's name"))?;
    if usize::try_from(len).ok() != Some(cursor.0.len()) {
        return Err(Flaw::Field("the length of the variable's data"));
    }
    Ok(cursor.0)
}

/// EFI_SIGNATURE_DATA: owner, then the digest.
fn authority(bytes: &[u8]) -> Result<Data, Flaw> {
    let mut cursor = Cursor(variable(bytes, "authority")?);
    cursor.expect(&GUID).ok_or(Flaw::Field("the owner of the signature data"))?;
    if !matches!(cursor.0.len(), 32 | 48 | 64) {
        return Err(Flaw::Field("the digest of the anchor"));
    }
    Ok(Data::Authority(cursor.0.into()))
}

fn device_security(bytes: &[u8], firmware: bool) -> Result<DeviceSecurity, Flaw> {
    let mut cursor = Cursor(bytes);
    let wrong = |field| move || Flaw::Field(field);
    cursor.expect(b"SPDM Device Sec2").ok_or_else(wrong("the signature"))?;
    cursor.expect(&[2, 0]).ok_or_else(wrong("the version"))?;
    let state = cursor.u8().filter(|state| *state <= 1).ok_or_else(wrong("AuthState"))?;
    cursor.expect(&[0]).ok_or_else(wrong("the reserved byte"))?;
    let len = cursor.u32().and_then(|len| usize::try_from(len).ok());
    len.filter(|len| *len == bytes.len()).ok_or_else(wrong("Length"))?;
    cursor.expect(&[1, 0, 0, 0]).ok_or_else(wrong("DeviceType"))?;
    cursor.expect(&[0; 4]).ok_or_else(wrong("SubHeaderType"))?;
    let sub = cursor.u32().and_then(|len| usize::try_from(len).ok()).ok_or_else(wrong("SubHeaderLength"))?;
    let uid = cursor.u64().ok_or_else(wrong("SubHeaderUID"))?;
    let len = cursor.u64().filter(|len| *len <= MAX_PATH).and_then(|len| usize::try_from(len).ok());
    let path = len.and_then(|len| cursor.take(len)).and_then(slot_of).ok_or_else(wrong("the device path"))?;
    let mut header = Cursor(cursor.take(sub).ok_or_else(wrong("SubHeaderLength"))?);
    let spdm_version = header.u16().ok_or_else(wrong("SpdmVersion"))?;
    let count = header.u8().ok_or_else(wrong("the number of blocks"))?;
    header.expect(&[0]).ok_or_else(wrong("the reserved byte of the sub-header"))?;
    let measurement_hash = header.u32().ok_or_else(wrong("MeasurementHashAlgo"))?;
    let blocks = blocks(header, count, firmware)?;
    let ids = context(cursor).ok_or_else(wrong("the PCI context"))?;
    Ok(DeviceSecurity {
        authenticated: state == 0,
        uid,
        slot: path,
        spdm_version,
        measurement_hash,
        blocks,
        ids,
    })
}

/// Makes a slot path of a device path.
fn slot_of(path: &[u8]) -> Option<String> {
    let mut cursor = Cursor(path);
    cursor.expect(&ROOT_NODE)?;
    let mut slot = String::new();
    while cursor.0 != END_NODE {
        cursor.expect(&PCI_NODE)?;
        let [function, device] = cursor.array()?;
        if function > 7 || device > 31 {
            return None;
        }
        let slash = if slot.is_empty() { "" } else { "/" };
        let _ = write!(slot, "{slash}{device:02x}.{function:x}");
    }
    (!slot.is_empty()).then_some(slot)
}

/// Reads the blocks: ascending, each whole, and of the types that the event is for.
fn blocks(mut cursor: Cursor<'_>, count: u8, firmware: bool) -> Result<Vec<(u8, u8, Vec<u8>)>, Flaw> {
    let mut blocks = Vec::new();
    let mut last = 0;
    for _ in 0..count {
        let mut block = || {
            let [index, _specification] = cursor.array()?;
            let size = cursor.u16()?;
            let kind = cursor.u8()?;
            let value_size = cursor.u16()?;
            let value = cursor.take(value_size.into())?;
            (value_size.checked_add(3) == Some(size)).then_some((index, kind, value))
        };
        let (index, kind, value) = block().ok_or(Flaw::Field("a measurement block"))?;
        if index <= last {
            return Err(Flaw::Field("the order of the measurement blocks"));
        }
        if matches!(kind & 0x7f, 0 | 1) != firmware {
            return Err(Flaw::Field("the type of a measurement block"));
        }
        last = index;
        blocks.push((index, kind, value.into()));
    }
    if count == 0 || !cursor.0.is_empty() {
        return Err(Flaw::Field("the number of blocks"));
    }
    Ok(blocks)
}

/// Reads DEVICE_SECURITY_EVENT_DATA_PCI_CONTEXT, which ends the event.
fn context(mut cursor: Cursor<'_>) -> Option<Ids> {
    cursor.expect(&[0, 0, 16, 0])?;
    let (vendor, device) = (cursor.u16()?, cursor.u16()?.into());
    let revision = cursor.u8()?;
    let [interface, subclass, base] = cursor.array()?;
    let class = u32::from_le_bytes([interface, subclass, base, 0]);
    let (subsystem_vendor, subsystem) = (cursor.u16()?, cursor.u16()?);
    cursor.0.is_empty().then_some(Ids { vendor, device, subsystem_vendor, subsystem, class, revision })
}
