//! The events of Gatehouse: TCG_PCClientTaggedEvent with one CBOR array.
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
use super::event::{
    BundleFacts, Data, Disposition, Function, Ids, Judgement, Mode, Outcome, Part, SessionFacts, State,
    Verdict,
};
use crate::cursor::Cursor;
use crate::strict::{CborError, Fields};
use gatehouse::rsi::HashAlgorithm;

/// Log version.
const VERSION: u64 = 1;
/// Dialects of log version 1.
const DIALECTS: [&str; 1] = ["a"];
/// Most parts of a bundle.
const MAX_PARTS: u64 = 16;
/// Largest stop code: four digits.
const MAX_CODE: u16 = 9999;

/// Reads a tagged event, and says what it is called.
pub fn data(bytes: &[u8], algorithm: HashAlgorithm) -> (&'static str, Result<Data, Flaw>) {
    let mut cursor = Cursor(bytes);
    let head = cursor.u32().zip(cursor.u32());
    let Some((id, len)) = head else { return ("", Err(Flaw::Field("the tagged event's head"))) };
    if usize::try_from(len).ok() != Some(cursor.0.len()) {
        return ("", Err(Flaw::Field("taggedEventDataSize")));
    }
    let array = cursor.0;
    let (name, data) = match id {
        0x4748_0001 => ("realm", realm(array)),
        0x4748_0002 => ("function", function(array)),
        0x4748_0003 => ("session", session(array)),
        0x4748_0004 => ("verdict", verdict(array)),
        0x4748_0005 => ("bundle", bundle(array)),
        0x4748_0006 => ("outcome", outcome(array)),
        0x4748_0007 => ("tree", tree(array, algorithm)),
        _ => return ("", Err(Flaw::Tag(id))),
    };
    (name, data.map_err(Flaw::Cbor))
}

/// Returns the name and the length of a hash.
pub fn hash_name(word: &str) -> Option<(&'static str, usize)> {
    [("sha256", 32), ("sha384", 48), ("sha512", 64)].into_iter().find(|(name, _)| *name == word)
}

/// Reads bytes of a certain length.
fn digest(fields: &mut Fields<'_>, name: &'static str, len: usize) -> Result<Vec<u8>, CborError> {
    let wrong = fields.wrong(name);
    let bytes = fields.bytes(name)?;
    if bytes.len() == len { Ok(bytes.into()) } else { Err(wrong) }
}

fn code(fields: &mut Fields<'_>) -> Result<u16, CborError> {
    let wrong = fields.wrong("code");
    let code = fields.number("code")?;
    if code > MAX_CODE { Err(wrong) } else { Ok(code) }
}

fn slot(fields: &mut Fields<'_>) -> Result<String, CborError> {
    fields.word("slot", |text| (!text.is_empty()).then(|| text.to_owned()))
}

fn realm(bytes: &[u8]) -> Result<Data, CborError> {
    let mut fields = Fields::open(bytes, "the array of realm", 2)?;
    let wrong = fields.wrong("version");
    if fields.number::<u64>("version")? != VERSION {
        return Err(wrong);
    }
    let dialect = fields.word("dialect", |word| DIALECTS.into_iter().find(|dialect| *dialect == word))?;
    Ok(Data::Realm(dialect.to_owned()))
}

fn function(bytes: &[u8]) -> Result<Data, CborError> {
    let mut fields = Fields::open(bytes, "the array of function", 9)?;
    let slot = slot(&mut fields)?;
    let ids = ids(&mut fields)?;
    let disposition = fields.word("disposition", Disposition::from_word)?;
    let rule = fields.text_or_null("rule")?;
    Ok(Data::Function(Function { slot, ids, disposition, rule }))
}

/// Reads vendor, device, subsystem vendor, subsystem, class and revision.
pub fn ids(fields: &mut Fields<'_>) -> Result<Ids, CborError> {
    let vendor = fields.number("vendor id")?;
    let device = fields.number("device id")?;
    let subsystem_vendor = fields.number("subsystem vendor id")?;
    let subsystem = fields.number("subsystem id")?;
    let wrong = fields.wrong("class code");
    let class = fields.number("class code")?;
    if class > 0xff_ffff {
        return Err(wrong);
    }
    let revision = fields.number("revision")?;
    Ok(Ids { vendor, device, subsystem_vendor, subsystem, class, revision })
}

fn session(bytes: &[u8]) -> Result<Data, CborError> {
    let mut fields = Fields::open(bytes, "the array of session", 13)?;
    let slot = slot(&mut fields)?;
    let vdev = fields.number("vdev id")?;
    let (hash, len) = fields.word("name of the hash", hash_name)?;
    let nonces =
        [fields.number("lock nonce")?, fields.number("measurement nonce")?, fields.number("report nonce")?];
    let digests = [
        digest(&mut fields, "digest of negotiation data", len)?,
        digest(&mut fields, "digest of the certificate chain", len)?,
        digest(&mut fields, "digest of the session key", len)?,
        digest(&mut fields, "digest of the measurements", len)?,
        digest(&mut fields, "digest of the report", len)?,
    ];
    let requester_nonce = fields.fixed("requester nonce")?;
    let no_run = fields.text_or_null("why mode run is impossible")?;
    Ok(Data::Session(SessionFacts { slot, vdev, hash, nonces, digests, requester_nonce, no_run }))
}

fn verdict(bytes: &[u8]) -> Result<Data, CborError> {
    let mut fields = Fields::open(bytes, "the array of verdict", 5)?;
    let slot = if fields.is_null() { None } else { Some(slot(&mut fields)?) };
    let rule = fields.text_or_null("rule")?;
    let judgement = fields.word("verdict", Judgement::from_word)?;
    let mode = fields.word("mode", Mode::from_word)?;
    let code = code(&mut fields)?;
    Ok(Data::Verdict(Verdict { slot, rule, judgement, mode, code }))
}

fn bundle(bytes: &[u8]) -> Result<Data, CborError> {
    let mut fields = Fields::open(bytes, "the array of bundle", 6)?;
    let svn = fields.number("svn")?;
    let os = fields.text("gatehouse,os")?.to_owned();
    let manifest = fields.fixed("SHA-256 of the FIT structure")?;
    let configuration = fields.text("name of the configuration")?.to_owned();
    let wrong = fields.wrong("parts");
    let count = fields.list("parts")?;
    if count > MAX_PARTS {
        return Err(wrong);
    }
    let mut parts: Vec<Part> = Vec::new();
    for _ in 0..count {
        fields.array("a part", 4)?;
        let wrong = fields.wrong("role");
        let role = fields.text("role")?.to_owned();
        if parts.iter().any(|other| other.role == role) {
            return Err(wrong);
        }
        let (hash, len) = fields.word("name of the hash", hash_name)?;
        let digest = digest(&mut fields, "digest of a part", len)?;
        parts.push(Part { role, hash, digest, len: fields.number("length of a part")? });
    }
    let wrong = fields.wrong("command line");
    let cmdline = if fields.is_null() { None } else { Some(fields.bytes("command line")?.to_vec()) };
    if cmdline.as_ref().is_some_and(|line| line.contains(&0)) {
        return Err(wrong);
    }
    Ok(Data::Bundle(BundleFacts { svn, os, manifest, configuration, parts, cmdline }))
}

fn outcome(bytes: &[u8]) -> Result<Data, CborError> {
    let mut fields = Fields::open(bytes, "the array of outcome", 5)?;
    let slot = slot(&mut fields)?;
    let judgement = fields.word("verdict", Judgement::from_word)?;
    let mode = fields.word("mode", Mode::from_word)?;
    let state = fields.word("state", State::from_word)?;
    let code = code(&mut fields)?;
    Ok(Data::Outcome(Outcome { slot, judgement, mode, state, code }))
}

fn tree(bytes: &[u8], algorithm: HashAlgorithm) -> Result<Data, CborError> {
    let mut fields = Fields::open(bytes, "the array of tree", 1)?;
    Ok(Data::Tree(digest(&mut fields, "digest of the measured form", algorithm.digest_len())?))
}
