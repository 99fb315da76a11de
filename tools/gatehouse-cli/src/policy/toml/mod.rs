//! The TOML form of a policy.
mod date;
mod fields;
mod print;
mod rule;
pub mod words;

pub use date::print as print_time;
pub use print::{print, print_rule, serial as print_serial};

use base64ct::{Base64, Encoding};
use der::{Decode, Tag, Tagged};
use fields::{Table, Value, line_of};
use gatehouse::digest::Digest;
use gatehouse::policy::cbor;
use gatehouse::policy::types::{Anchor, AnchorKey, Denied, MAX_POLICY_BYTES, POLICY_VERSION, Policy, Serial};
use gatehouse::rsi::HashAlgorithm;
use std::fs;
use std::path::Path;
use thiserror::Error;

/// Why a text is not a policy.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {line}: {}{what}", self.prefix())]
pub struct TomlError {
    /// Line, from 1.
    pub line: usize,
    /// Field with the tables that it is in, as `rule.measurement.index`; empty where the text is not TOML.
    pub field: String,
    /// What is wrong.
    pub what: String,
}

impl TomlError {
    fn prefix(&self) -> String {
        if self.field.is_empty() { String::new() } else { format!("{}: ", self.field) }
    }
}

/// Reads and checks a policy. Files of anchors are looked for in `folder`.
///
/// # Errors
/// [`TomlError`], with the line and field.
pub fn parse(text: &str, folder: &Path) -> Result<Policy, TomlError> {
    let mut table = Table::read(text)?;
    let version = table.need("version")?;
    if version.number(u64::MAX)? != POLICY_VERSION {
        return Err(version.wrong(format!("this tool knows version {POLICY_VERSION}")));
    }
    let mut policy = Policy { forwards_nonce: true, ..Policy::default() };
    if let Some(svn) = table.take("svn") {
        policy.svn = svn.number(u64::MAX)?;
    }
    if let Some(audit) = table.take("audit") {
        policy.audit = audit.bool()?;
    }
    if let Some(floor) = table.take("floor") {
        let time = date::from_datetime(floor.datetime()?);
        policy.floor =
            Some(time.ok_or_else(|| floor.wrong("a date, or date and time to the second with Z"))?);
    }
    if let Some(rest) = table.take("rest") {
        policy.rest = rest.word(words::REST)?;
    }
    if let Some(rmm) = table.take("rmm") {
        let mut rmm = rmm.table()?;
        if let Some(forwards) = rmm.take("forwards-nonce") {
            policy.forwards_nonce = forwards.bool()?;
        }
        rmm.end()?;
    }
    for entry in table.take("anchor").map_or(Ok(Vec::new()), Value::list)? {
        policy.anchors.push(anchor(entry.table()?, folder)?);
    }
    if let Some(deny) = table.take("deny") {
        policy.denied = denied(deny.table()?)?;
    }
    for entry in table.take("rule").map_or(Ok(Vec::new()), Value::list)? {
        policy.rules.push(rule::rule(entry.table()?)?);
    }
    table.end()?;
    policy.check().map_err(|told| TomlError {
        line: line_of(text, told.rule, told.field),
        field: told.rule.map_or("", |_| "rule.").to_owned() + told.field,
        what: told.what.into(),
    })?;
    let len = cbor::encode(&policy).len();
    if len > MAX_POLICY_BYTES {
        let what = format!("{len} bytes when compiled, {MAX_POLICY_BYTES} are the most");
        return Err(TomlError { line: 1, field: String::new(), what });
    }
    Ok(policy)
}

fn anchor(mut table: Table<'_>, folder: &Path) -> Result<Anchor, TomlError> {
    let name = table.need("name")?.string()?.to_owned();
    let (certificate, public_key) = (table.take("certificate"), table.take("public-key"));
    let file = table.take("file");
    let key = match (certificate, public_key, file) {
        (Some(digest), None, None) => AnchorKey::Certificate(digest.parse()?),
        (None, Some(digest), None) => AnchorKey::PublicKey(digest.parse()?),
        (None, None, Some(file)) => AnchorKey::Certificate(file_digest(&file, folder)?),
        _ => return Err(table.wrong("certificate", "one of certificate, public-key and file is needed")),
    };
    table.end()?;
    Ok(Anchor { name, key })
}

/// Hashes the certificate in a file, PEM or DER.
fn file_digest(file: &Value<'_>, folder: &Path) -> Result<Digest, TomlError> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let name = file.string()?;
    let wrong = |what: String| file.wrong(format!("{name}: {what}"));
    let bytes = fs::read(folder.join(name)).map_err(|error| wrong(error.to_string()))?;
    let der = match std::str::from_utf8(&bytes).ok().and_then(|text| text.split_once(BEGIN)) {
        None => bytes,
        Some((_, text)) => {
            let (body, behind) =
                text.split_once(END).ok_or_else(|| wrong("no end of the certificate".into()))?;
            if behind.contains(BEGIN) {
                return Err(wrong("more than one certificate".into()));
            }
            let body: String = body.split_whitespace().collect();
            Base64::decode_vec(&body).map_err(|_| wrong("not base64".into()))?
        }
    };
    match der::asn1::AnyRef::from_der(&der) {
        Ok(any) if any.tag() == Tag::Sequence => Ok(Digest::of(HashAlgorithm::Sha384, &[&der])),
        _ => Err(wrong("not one certificate, in PEM or DER".into())),
    }
}

fn denied(mut table: Table<'_>) -> Result<Denied, TomlError> {
    let leaf_keys = table.take_both("leaf-key", "leaf-keys")?;
    let serials = table.take_both("serial", "serials")?;
    table.end()?;
    Ok(Denied {
        leaf_keys: leaf_keys.iter().map(Value::parse).collect::<Result<_, _>>()?,
        serials: serials.iter().map(serial).collect::<Result<_, _>>()?,
    })
}

/// Reads a serial number; zero bytes in front, with which some tools write it, are not part of it.
fn serial(value: &Value<'_>) -> Result<Serial, TomlError> {
    let bytes = value.hex()?;
    Ok(Serial(bytes.into_iter().skip_while(|byte| *byte == 0).collect()))
}
