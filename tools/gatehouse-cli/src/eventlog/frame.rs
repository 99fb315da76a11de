//! The frame: the Spec ID event and TCG_PCR_EVENT2 records (TCG PC Client Platform Firmware Profile 1.06, section 10).
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

use super::error::{Flaw, LogError};
use super::{MAX_EVENT_BYTES, MAX_EVENTS};
use crate::cursor::Cursor;
use gatehouse::digest::Digest;
use gatehouse::rsi::HashAlgorithm;

/// EV_NO_ACTION.
const NO_ACTION: u32 = 3;
/// Signature, platform class (client), version 2.0 (minor first), errata 105, size of UINTN (2: 64-bit), number of algorithms.
const SPEC_ID: [(&str, &[u8]); 5] = [
    ("its signature", b"Spec ID Event03\0"),
    ("the platform class", &[0; 4]),
    ("the version", &[0, 2, 105]),
    ("the size of UINTN", &[2]),
    ("the number of algorithms", &[1, 0, 0, 0]),
];
/// TPM_ALG_ID of each algorithm.
const ALGORITHMS: [(u16, HashAlgorithm); 3] =
    [(0x000b, HashAlgorithm::Sha256), (0x000c, HashAlgorithm::Sha384), (0x000d, HashAlgorithm::Sha512)];

/// A record whose digest is that of its data.
pub struct Record<'a> {
    pub pcr: u32,
    pub kind: u32,
    pub digest: &'a [u8],
    pub data: &'a [u8],
}

/// Reads the Spec ID event.
pub fn spec_id(cursor: &mut Cursor<'_>) -> Result<HashAlgorithm, LogError> {
    read_spec_id(cursor).map_err(|flaw| LogError { event: 0, name: "Spec ID", flaw })
}

fn read_spec_id(cursor: &mut Cursor<'_>) -> Result<HashAlgorithm, Flaw> {
    let wrong = Flaw::SpecId;
    for (name, wanted) in [
        ("its PCR", [0; 4].as_slice()),
        ("its type", &NO_ACTION.to_le_bytes()),
        ("its digest", &[0; 20]),
        ("its size", &33u32.to_le_bytes()),
    ]
    .iter()
    .chain(SPEC_ID.iter())
    {
        let found = cursor.take(wanted.len()).ok_or(Flaw::Truncated)?;
        if found != *wanted {
            return Err(wrong(name));
        }
    }
    let id = cursor.u16().ok_or(Flaw::Truncated)?;
    let known = ALGORITHMS.iter().find(|(known, _)| *known == id);
    let (_, algorithm) = known.ok_or(wrong("the algorithm"))?;
    let size = cursor.u16().ok_or(Flaw::Truncated)?;
    if usize::from(size) != algorithm.digest_len() {
        return Err(wrong("the size of a digest"));
    }
    match cursor.u8().ok_or(Flaw::Truncated)? {
        0 => Ok(*algorithm),
        _ => Err(wrong("the vendor's information")),
    }
}

/// Reads a record, and checks its digest.
pub fn record<'a>(
    cursor: &mut Cursor<'a>,
    number: usize,
    algorithm: HashAlgorithm,
) -> Result<Record<'a>, LogError> {
    read_record(cursor, number, algorithm).map_err(|flaw| LogError { event: number, name: "", flaw })
}

fn read_record<'a>(
    cursor: &mut Cursor<'a>,
    number: usize,
    algorithm: HashAlgorithm,
) -> Result<Record<'a>, Flaw> {
    if number > MAX_EVENTS {
        return Err(Flaw::TooMany);
    }
    let mut number = || cursor.u32().ok_or(Flaw::Truncated);
    let (pcr, kind, digests) = (number()?, number()?, number()?);
    if digests != 1 {
        return Err(Flaw::Digests(digests));
    }
    let id = cursor.u16().ok_or(Flaw::Truncated)?;
    if !ALGORITHMS.contains(&(id, algorithm)) {
        return Err(Flaw::Algorithm(id));
    }
    let digest = cursor.take(algorithm.digest_len()).ok_or(Flaw::Truncated)?;
    let len = cursor.u32().ok_or(Flaw::Truncated)?;
    let size = usize::try_from(len).ok().filter(|len| *len <= MAX_EVENT_BYTES).ok_or(Flaw::TooLarge(len))?;
    let data = cursor.take(size).ok_or(Flaw::Truncated)?;
    if Digest::of(algorithm, &[data]).as_bytes() != digest {
        return Err(Flaw::Digest);
    }
    Ok(Record { pcr, kind, digest, data })
}
