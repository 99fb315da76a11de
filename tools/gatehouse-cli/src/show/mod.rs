//! Says what a file is and what it says, and tells what was verified from what is only claimed.
//!
//! Trust: the bytes may be anybody's. The kind is found by content; a name does not count.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

mod device;
mod token;

use crate::attach::check_bundle;
use crate::eventlog::EventLog;
use crate::inspect::{Image, InspectError, describe_bundle};
use crate::replay::Replay;
use crate::table::printable;
use crate::token::Token;
use crate::{filetype, hex, policy, region};
use gatehouse::abi::image::{LINUX_MAGIC, SLOT_MAGIC, SLOT_OFFSET};
use gatehouse::boot::bundle::{Bundle, Part};
use gatehouse::digest::Digest;
use gatehouse::policy::cbor;
use gatehouse::policy::types::Policy;
use gatehouse::rsi::HashAlgorithm;
use serde_json::{Value, json};
use std::path::Path;

/// Offset of the magic number in the Linux header.
const LINUX_MAGIC_OFFSET: usize = 56;
/// What is known, for messages.
pub const KINDS: &str = "an image, a bundle, a policy, an event log, an evidence region, a token, an interface report, negotiation data, \
    measurements (with --vca) or a certificate chain";

/// What a file says.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// What it is.
    pub kind: &'static str,
    /// Tables.
    pub text: String,
    /// What was verified.
    pub verified: Vec<String>,
    /// What nothing here proves.
    pub claimed: Vec<String>,
    /// The same for programs.
    pub json: Value,
}

impl Shown {
    /// Writes kind, tables, and what is verified and claimed.
    #[must_use]
    pub fn to_text(&self) -> String {
        let line = |word: &str, text: &String| format!("{word:<10}{}\n", printable(text));
        let verified: String = self.verified.iter().map(|text| line("verified", text)).collect();
        let claimed: String = self.claimed.iter().map(|text| line("claimed", text)).collect();
        format!("{}\n\n{}\n{verified}{claimed}", self.kind, self.text.trim_end())
    }

    /// Returns the same as JSON.
    #[must_use]
    pub fn to_json(&self) -> Value {
        json!({ "kind": self.kind, "verified": self.verified, "claimed": self.claimed, "content": self.json })
    }
}

/// Other files that some kinds need.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// Negotiation data: needed to read measurements.
    pub vca: Option<&'a [u8]>,
    /// Certificate chain: needed to verify their signature.
    pub chain: Option<&'a [u8]>,
    /// Bundle that an image pins beside it.
    pub bundle: Option<&'a [u8]>,
}

/// Finds out what a file is, and reads it. `path` is for the policy files that name others beside them.
///
/// # Errors
/// In words: what it is and what is wrong with it, or that it is nothing known here.
pub fn show(path: &Path, bytes: &[u8], beside: Beside<'_>) -> Result<Shown, String> {
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if at(LINUX_MAGIC_OFFSET, &LINUX_MAGIC) && at(SLOT_OFFSET, &SLOT_MAGIC) {
        return image(bytes, beside.bundle);
    }
    if filetype::describe(bytes) == filetype::DEVICE_TREE {
        return bundle(bytes);
    }
    if EventLog::is_like(bytes) {
        return EventLog::read(bytes).map(|log| event_log(&log)).map_err(|error| error.to_string());
    }
    if Token::is_like(bytes) {
        return Token::parse(bytes).map(|token| token::token(&token)).map_err(|error| error.to_string());
    }
    if let Ok(decoded) = cbor::decode(bytes) {
        return Ok(policy_file(&decoded, "in its encoded form"));
    }
    if region::is_like(bytes) {
        return region::read(bytes).map(|region| device::region(&region)).map_err(|error| error.to_string());
    }
    if let Some(chain) = device::certificates(bytes) {
        return device::chain(&chain);
    }
    if device::is_vca(bytes) {
        return device::vca(bytes);
    }
    if device::is_measurements(bytes) {
        return device::measurements(bytes, beside);
    }
    if let Ok(text) = std::str::from_utf8(bytes)
        && text.lines().any(|line| line.trim_start().starts_with("version"))
    {
        let folder = path.parent().unwrap_or(Path::new(""));
        let parsed = policy::toml::parse(text, folder).map_err(|error| error.to_string())?;
        return Ok(policy_file(&parsed, "in TOML"));
    }
    if let Some(shown) = device::report(bytes) {
        return Ok(shown);
    }
    Err(format!("this is {}, expected {KINDS}", filetype::describe(bytes)))
}

fn image(bytes: &[u8], beside: Option<&[u8]>) -> Result<Shown, String> {
    let image = match Image::with_bundle(bytes, beside) {
        Err(InspectError::Beside { len, manifest }) => return Ok(pinning(len, &manifest)),
        image => image.map_err(|error| error.to_string())?,
    };
    image.verify().map_err(|error| format!("{}{error}", image.describe()))?;
    let kernel = image.kernel().map_err(|error| error.to_string())?;
    Ok(Shown {
        kind: "a Gatehouse image",
        text: image.describe(),
        verified: vec!["the manifest is that of the bundle, and all digests match".into()],
        claimed: vec!["who made it: a verifier of a realm knows it by its RIM".into()],
        json: json!({
            "image-size": image.header.image_size.get(),
            "manifest": format!("sha256:{}", hex(&image.slot.manifest_sha256)),
            "configuration": image.bundle.configuration,
            "os": image.bundle.os.word(),
            "kernel": json!({
                "format": format!("{:?}", kernel.format).to_lowercase(), "image-len": kernel.image_len,
                "mem-len": kernel.header.mem_len(),
            }),
            "parts": image.bundle.parts().map(part).collect::<Vec<_>>(),
        }),
    })
}

/// An image whose bundle was not given.
fn pinning(len: u64, manifest: &[u8; 32]) -> Shown {
    let manifest = format!("sha256:{}", hex(manifest));
    Shown {
        kind: "a Gatehouse image",
        text: format!("bundle         beside the image, {len:#x} bytes\nmanifest       {manifest}\n"),
        verified: vec!["it takes a bundle with this manifest and no other".into()],
        claimed: vec!["that there is such a bundle: --bundle reads it".into()],
        json: json!({ "bundle-len": len, "manifest": manifest }),
    }
}

/// A bundle alone.
fn bundle(bytes: &[u8]) -> Result<Shown, String> {
    let manifest = check_bundle(bytes).map_err(|error| error.to_string())?;
    let bundle = Bundle::parse(bytes, &manifest).map_err(|error| error.to_string())?;
    Ok(Shown {
        kind: "a bundle",
        text: describe_bundle(&bundle, &manifest),
        verified: vec!["it is well formed, and all digests match".into()],
        claimed: vec!["that an image takes it: the image has its manifest".into()],
        json: json!({
            "manifest": format!("sha256:{}", hex(&manifest)),
            "configuration": bundle.configuration,
            "os": bundle.os.word(),
            "parts": bundle.parts().map(part).collect::<Vec<_>>(),
        }),
    })
}

fn part(part: &Part<'_>) -> Value {
    json!({
        "role": format!("{:?}", part.role()).to_lowercase(), "offset": part.offset(),
        "len": part.len_bytes(), "digest": part.digest().to_string(),
    })
}

fn event_log(log: &EventLog) -> Shown {
    let replay = Replay::new(log, [const { None }; 4], None);
    Shown {
        kind: "an event log",
        text: replay.to_text(),
        verified: vec!["its form, the order of its events, and that each digest is that of its data".into()],
        claimed: vec![
            "that a realm has these measurements: gatehouse replay and gatehouse verify compare".into(),
        ],
        json: replay.to_json(),
    }
}

fn policy_file(policy: &Policy, form: &str) -> Shown {
    let id = Digest::of(HashAlgorithm::Sha256, &[&cbor::encode(policy)]);
    let rules: Vec<_> = policy.rules.iter().map(|rule| rule.name.as_str()).collect();
    Shown {
        kind: "a policy",
        text: format!("Encoded form: {id}.\n{}", policy::explain::policy(policy)),
        verified: vec![format!("it is {form}, well formed, and does not contradict itself")],
        claimed: vec!["that a realm decided by it: its digest is in the event log".into()],
        json: json!({ "id": id.to_string(), "svn": policy.svn, "audit": policy.audit, "rules": rules }),
    }
}
