//! Says what a file is, for messages about a file that is something else than was wanted.
//!
//! Trust: the bytes may be anybody's. Only the first bytes are looked at, and nothing follows from the answer but words.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use gatehouse::abi::image::{LINUX_MAGIC, SLOT_MAGIC, SLOT_OFFSET};
use gatehouse::policy::cbor;

/// A bundle's packed image, or the firmware alone.
pub const GATEHOUSE_IMAGE: &str = "a Gatehouse image";
/// A kernel as it is entered.
pub const ARM64_IMAGE: &str = "an arm64 kernel Image";
/// The two share a magic number.
pub const DEVICE_TREE: &str = "a device tree or FIT";
/// A kernel or a ramdisk, compressed.
pub const GZIP: &str = "a gzip-compressed file";
/// What no magic number fits.
pub const UNKNOWN: &str = "unknown data";

/// Offset of the magic number in the Linux header.
const LINUX_MAGIC_OFFSET: usize = 56;
/// Offset of the signature in the first event of a TCG log: behind number, type, SHA-1 digest and length.
const EVENT_SIGNATURE_OFFSET: usize = 32;
/// Heads of CBOR tag 399 (RMM 1.0) and 907 (CMW collection, RMM 2.0).
const TOKEN_TAGS: [&[u8]; 2] = [&[0xd9, 0x01, 0x8f], &[0xd9, 0x03, 0x8b]];

/// Says in words what the file with these `bytes` is: article and noun, as "an ELF file".
#[must_use]
pub fn describe(bytes: &[u8]) -> &'static str {
    let at = |offset: usize, magic: &[u8]| bytes.get(offset..).is_some_and(|rest| rest.starts_with(magic));
    if bytes.is_empty() {
        "an empty file"
    } else if at(LINUX_MAGIC_OFFSET, &LINUX_MAGIC) {
        if at(SLOT_OFFSET, &SLOT_MAGIC) { GATEHOUSE_IMAGE } else { ARM64_IMAGE }
    } else if at(0, b"MZ") && at(4, b"zimg") {
        "an EFI zboot kernel"
    } else if at(0, b"\x7fELF") {
        "an ELF file"
    } else if at(0, &[0x1f, 0x8b]) {
        GZIP
    } else if at(0, &[0xd0, 0x0d, 0xfe, 0xed]) {
        DEVICE_TREE
    } else if at(EVENT_SIGNATURE_OFFSET, b"Spec ID Event03\0") {
        "a TCG event log"
    } else if TOKEN_TAGS.iter().any(|tag| at(0, tag)) {
        "a CCA token"
    } else if at(0, b"-----BEGIN ") {
        "PEM text"
    } else if cbor::decode(bytes).is_ok() {
        "a Gatehouse policy"
    } else if is_certificate(bytes) {
        "a DER certificate"
    } else if std::str::from_utf8(bytes).is_ok_and(is_policy_text) {
        "a policy in TOML"
    } else {
        UNKNOWN
    }
}

/// A sequence whose first item is a sequence that begins with the version or a number; or several of them, a chain. They end
/// with the file.
fn is_certificate(bytes: &[u8]) -> bool {
    let mut left = bytes;
    while let Some((len, content)) = sequence(left) {
        let tbs = sequence(content).and_then(|(_, tbs)| tbs.first());
        let Some((_, rest)) = content.split_at_checked(len) else { return false };
        if !matches!(tbs, Some(&(0xa0 | 0x02))) {
            return false;
        }
        left = rest;
    }
    left.is_empty() && !bytes.is_empty()
}

/// Returns the length of a DER sequence and what stands behind its head.
fn sequence(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (&0x30, rest) = bytes.split_first()? else { return None };
    let (&head, rest) = rest.split_first()?;
    if head < 0x80 {
        return Some((head.into(), rest));
    }
    let (digits, rest) = rest.split_at_checked((head & 0x7f).into())?;
    if digits.len() > 4 {
        return None;
    }
    let len = digits.iter().fold(0usize, |len, &digit| len.wrapping_shl(8) | usize::from(digit));
    Some((len, rest))
}

/// TOML with the two numbers that every policy begins with.
fn is_policy_text(text: &str) -> bool {
    text.parse::<toml::Table>().is_ok_and(|table| {
        ["version", "svn"].into_iter().all(|key| table.get(key).is_some_and(toml::Value::is_integer))
    })
}
