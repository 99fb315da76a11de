//! Reads the evidence region (docs/event-log.md): the raw objects of each function whose evidence was collected.
//!
//! Each object is what it claims to be when it hashes to the digest in the `session` event of a log that is verified.
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

use crate::eventlog::{Ids, SessionFacts, hash_name, read_ids};
use crate::strict::{CborError, Fields};
use gatehouse::digest::Digest;

/// Largest region in bytes.
pub const MAX_REGION_BYTES: usize = 256 * 1024 * 1024;
/// Version.
const VERSION: u64 = 1;
/// Most functions.
const MAX_FUNCTIONS: u64 = 1024;
/// Most memory BARs of a function.
const MAX_BARS: u64 = 6;
/// Names of the objects, and which digest of a session is theirs.
pub const OBJECTS: [(&str, usize); 4] =
    [("negotiation data", 0), ("certificate chain", 1), ("measurements", 3), ("report", 4)];

/// A memory BAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bar {
    /// Number, 0 to 5.
    pub number: u8,
    /// 64-bit.
    pub is_64_bit: bool,
    /// Prefetchable.
    pub prefetchable: bool,
    /// Address.
    pub address: u64,
    /// Size in bytes.
    pub size: u64,
}

/// MSI-X structures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Msix {
    /// BAR and offset of the table.
    pub table: (u8, u64),
    /// BAR and offset of the pending bits.
    pub pba: (u8, u64),
}

/// What was collected of a function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Collected<'a> {
    /// Routing id.
    pub routing_id: u64,
    /// Ids.
    pub ids: Ids,
    /// Memory BARs.
    pub bars: Vec<Bar>,
    /// MSI-X.
    pub msix: Option<Msix>,
    /// The same as in the `session` event of the log; `vdev` is the routing id.
    pub session: SessionFacts,
    /// Objects, as in [`OBJECTS`].
    pub objects: [&'a [u8]; 4],
}

impl<'a> Collected<'a> {
    /// Returns the objects that do not hash to their digest; an object that is not there has a digest of zeros.
    #[must_use]
    pub fn wrong(&self) -> Vec<&'static str> {
        let is_wrong = |(object, (_, index)): &(&&[u8], (&str, usize))| {
            let digest = self.session.digests.get(*index).map_or([].as_slice(), Vec::as_slice);
            let absent = object.is_empty() && digest.iter().all(|byte| *byte == 0);
            !absent && !Digest::from_bytes(digest).is_some_and(|digest| digest.matches(object))
        };
        self.objects.iter().zip(OBJECTS).filter(is_wrong).map(|(_, (name, _))| name).collect()
    }

    fn read(fields: &mut Fields<'a>) -> Result<Self, CborError> {
        fields.array("a function", 14)?;
        let slot = fields.text("slot")?.to_owned();
        let routing_id = fields.number("routing id")?;
        fields.array("ids", 6)?;
        let ids = read_ids(fields)?;
        let wrong = fields.wrong("BARs");
        let count = fields.list("BARs")?;
        if count > MAX_BARS {
            return Err(wrong);
        }
        let bars = (0..count).map(|_| bar(fields)).collect::<Result<_, _>>()?;
        let msix = if fields.is_null() { None } else { Some(msix(fields)?) };
        let (hash, len) = fields.word("name of the hash", hash_name)?;
        fields.array("digests", 5)?;
        let mut digests = [const { Vec::new() }; 5];
        for digest in &mut digests {
            let wrong = fields.wrong("a digest");
            let bytes = fields.bytes("a digest")?;
            if bytes.len() != len {
                return Err(wrong);
            }
            *digest = bytes.to_vec();
        }
        fields.array("nonces", 3)?;
        let nonces = [fields.number("nonce")?, fields.number("nonce")?, fields.number("nonce")?];
        let requester_nonce = fields.fixed("requester nonce")?;
        let no_run = fields.text_or_null("why mode run is impossible")?;
        let session = SessionFacts { slot, vdev: routing_id, hash, nonces, digests, requester_nonce, no_run };
        let mut object = |(name, _): (&'static str, usize)| fields.bytes(name);
        let [vca, chain, measurements, report] = OBJECTS;
        let objects = [object(vca)?, object(chain)?, object(measurements)?, object(report)?];
        Ok(Self { routing_id, ids, bars, msix, session, objects })
    }
}

fn bar(fields: &mut Fields<'_>) -> Result<Bar, CborError> {
    fields.array("a BAR", 5)?;
    Ok(Bar {
        number: fields.number("number of a BAR")?,
        is_64_bit: fields.boolean("64-bit")?,
        prefetchable: fields.boolean("prefetchable")?,
        address: fields.number("address of a BAR")?,
        size: fields.number("size of a BAR")?,
    })
}

fn msix(fields: &mut Fields<'_>) -> Result<Msix, CborError> {
    fields.array("MSI-X", 4)?;
    let table = (fields.number("table BAR")?, fields.number("table offset")?);
    Ok(Msix { table, pba: (fields.number("PBA BAR")?, fields.number("PBA offset")?) })
}

/// Reads a whole region, without the zeros that fill its last page.
///
/// # Errors
/// [`CborError`].
pub fn read(bytes: &[u8]) -> Result<Vec<Collected<'_>>, CborError> {
    if bytes.len() > MAX_REGION_BYTES {
        return Err(CborError::Trailing(MAX_REGION_BYTES));
    }
    let mut fields = Fields::open(bytes, "the region", 2)?;
    let wrong = fields.wrong("version");
    if fields.number::<u64>("version")? != VERSION {
        return Err(wrong);
    }
    let wrong = fields.wrong("functions");
    let count = fields.list("functions")?;
    if count > MAX_FUNCTIONS {
        return Err(wrong);
    }
    (0..count).map(|_| Collected::read(&mut fields)).collect()
}

/// Tells whether bytes begin as a region does: version 1, and an array.
#[must_use]
pub fn is_like(bytes: &[u8]) -> bool {
    matches!(bytes, [0x82, 0x01, array, ..] if array >> 5 == 4)
}
