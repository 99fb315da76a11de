//! Writes reference values for a verifier: an unsigned CoRIM with one CoMID (draft-ietf-rats-corim-10) by the profile for realms
//! (draft-ydb-rats-cca-endorsements-04, section 3.2).
//!
//! The environment is the RIM itself, the measurements are `cca.rim` and the given `cca.rem0` to `cca.rem3`. Keys ascend and
//! lengths have their shortest form, so the same values give the same bytes.
use gatehouse::rsi::HashAlgorithm;
use minicbor::Encoder;
use minicbor::data::Tag;
use minicbor::encode::{Error, Write};
use std::convert::Infallible;

/// Number of REMs of a realm.
pub const NUM_REMS: usize = 4;

/// Profile of reference values for realms.
const PROFILE: &str = "tag:arm.com,2025:endorsements/cca_realm#1.0.0";
/// Prefix of the ids of our CoRIMs and CoMIDs; the RIM follows.
const ID: &str = "gatehouse-rim:";

/// Tag of an unsigned CoRIM.
const TAG_CORIM: u64 = 501;
/// Tag of a CoMID in a CoRIM.
const TAG_COMID: u64 = 506;
/// Tag of bytes that name something.
const TAG_BYTES: u64 = 560;
/// Tag of a URI (RFC 8949, 3.4.5.3).
const TAG_URI: u64 = 32;

/// Keys of the maps, by the names that the drafts give them.
mod key {
    pub const CORIM_ID: u8 = 0;
    pub const CORIM_TAGS: u8 = 1;
    pub const CORIM_PROFILE: u8 = 3;
    pub const COMID_TAG_IDENTITY: u8 = 1;
    pub const COMID_TRIPLES: u8 = 4;
    pub const TAG_ID: u8 = 0;
    pub const REFERENCE_TRIPLES: u8 = 0;
    pub const CLASS: u8 = 0;
    pub const CLASS_ID: u8 = 0;
    pub const MKEY: u8 = 0;
    pub const MVAL: u8 = 1;
    pub const DIGESTS: u8 = 2;
}

/// Encodes the reference values of a realm: `rim`, and those of REM 0 to 3 that are known. All of them are digests of `hash`,
/// and so long.
#[must_use]
pub fn reference_values(rim: &[u8], rems: &[Option<Vec<u8>>; NUM_REMS], hash: HashAlgorithm) -> Vec<u8> {
    let id = format!("{ID}{}", crate::hex(rim));
    let comid = encode(|e| comid(e, &id, rim, rems, hash));
    encode(|e| {
        e.tag(Tag::new(TAG_CORIM))?.map(3)?;
        e.u8(key::CORIM_ID)?.str(&id)?;
        e.u8(key::CORIM_TAGS)?.array(1)?.tag(Tag::new(TAG_COMID))?.bytes(&comid)?;
        e.u8(key::CORIM_PROFILE)?.tag(Tag::new(TAG_URI))?.str(PROFILE)?;
        Ok(())
    })
}

fn comid(
    e: &mut Encoder<Vec<u8>>,
    id: &str,
    rim: &[u8],
    rems: &[Option<Vec<u8>>; NUM_REMS],
    hash: HashAlgorithm,
) -> Result<(), Error<Infallible>> {
    let rems =
        rems.iter().enumerate().filter_map(|(index, rem)| Some((format!("cca.rem{index}"), rem.as_deref()?)));
    let values: Vec<(String, &[u8])> = std::iter::once(("cca.rim".to_owned(), rim)).chain(rems).collect();
    e.map(2)?;
    e.u8(key::COMID_TAG_IDENTITY)?.map(1)?.u8(key::TAG_ID)?.str(id)?;
    // One triple: the environment, and its measurements.
    e.u8(key::COMID_TRIPLES)?.map(1)?.u8(key::REFERENCE_TRIPLES)?.array(1)?.array(2)?;
    e.map(1)?.u8(key::CLASS)?.map(1)?.u8(key::CLASS_ID)?.tag(Tag::new(TAG_BYTES))?.bytes(rim)?;
    e.array(values.len() as u64)?;
    for (name, value) in values {
        e.map(2)?.u8(key::MKEY)?.str(&name)?;
        e.u8(key::MVAL)?.map(1)?.u8(key::DIGESTS)?;
        e.array(1)?.array(2)?.str(algorithm(hash))?.bytes(value)?;
    }
    Ok(())
}

/// The algorithm's name in the Named Information registry (IANA). The profile has names, not the registry's numbers: the token
/// names its algorithm, and a verifier compares the two.
const fn algorithm(hash: HashAlgorithm) -> &'static str {
    match hash {
        HashAlgorithm::Sha256 => "sha-256",
        HashAlgorithm::Sha384 => "sha-384",
        HashAlgorithm::Sha512 => "sha-512",
    }
}

/// Runs an encoder into memory, where nothing can fail.
fn encode(
    write: impl FnOnce(&mut Encoder<Vec<u8>>) -> Result<(), Error<<Vec<u8> as Write>::Error>>,
) -> Vec<u8> {
    let mut encoder = Encoder::new(Vec::new());
    match write(&mut encoder) {
        Ok(()) => encoder.into_writer(),
        Err(error) => unreachable!("{error}"),
    }
}
