//! A digest that data must have, with the algorithm that makes it.
//!
//! Trust: digests to compare with come from the measured bundle; the data may be anybody's.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use crate::hex::Hex;
use crate::rsi::HashAlgorithm;
use core::fmt;
use core::str::FromStr;
use sha2::{Sha256, Sha384, Sha512};
use thiserror::Error;

/// Bytes that are hashed at a time where they are used for something else as well: they stay in the cache.
pub const CHUNK: usize = 64 * 1024;

/// A digest of one of the algorithms that bundle and policy may use.
///
/// Its length says the algorithm. The bytes lie aligned, zeros behind them: code for this target does not access unaligned words,
/// so bytes anywhere else would be copied one by one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Digest {
    /// 32, 48 or 64.
    len: usize,
    bytes: Bytes,
}

/// Room for the longest digest.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(align(8))]
struct Bytes([u8; 64]);

/// Why a text is not a digest.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("not sha256:, sha384: or sha512: and as many hexadecimal digits as the algorithm has")]
pub struct BadDigest;

impl Digest {
    /// Makes a digest of its bytes: 32, 48 or 64, which says the algorithm (a policy knows no other of these lengths).
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut digest = Self { len: bytes.len(), bytes: Bytes([0; 64]) };
        if !matches!(digest.len, 32 | 48 | 64) {
            return None;
        }
        digest.bytes.0.get_mut(..digest.len)?.copy_from_slice(bytes);
        Some(digest)
    }

    /// Hashes the concatenation of `parts`.
    #[must_use]
    pub fn of(algorithm: HashAlgorithm, parts: &[&[u8]]) -> Self {
        Self::of_all(algorithm, &mut parts.iter().copied())
    }

    fn of_all(algorithm: HashAlgorithm, parts: &mut dyn Iterator<Item = &[u8]>) -> Self {
        fn run<D: sha2::Digest>(parts: &mut dyn Iterator<Item = &[u8]>) -> Digest {
            let mut hash = D::new();
            parts.for_each(|part| hash.update(part));
            let output = hash.finalize();
            let mut digest = Digest { len: output.len(), bytes: Bytes([0; 64]) };
            digest.bytes.0.iter_mut().zip(output).for_each(|(to, from)| *to = from);
            digest
        }
        match algorithm {
            HashAlgorithm::Sha256 => run::<Sha256>(parts),
            HashAlgorithm::Sha384 => run::<Sha384>(parts),
            HashAlgorithm::Sha512 => run::<Sha512>(parts),
        }
    }

    /// Returns the digest's bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.0.get(..self.len).unwrap_or_default()
    }

    /// Returns the algorithm's name in a FIT and in a policy.
    #[must_use]
    pub const fn algorithm(&self) -> &'static str {
        match self.len {
            32 => "sha256",
            48 => "sha384",
            _ => "sha512",
        }
    }

    /// Hashes `data` and compares the whole digest.
    #[must_use]
    pub fn matches(&self, data: &[u8]) -> bool {
        self.matches_by(data, &mut |_| {})
    }

    /// Hashes `data` and compares the whole digest; every [`CHUNK`] goes through `each` first, so that it comes from memory
    /// once. The last one may be shorter.
    #[must_use]
    pub fn matches_by(&self, data: &[u8], each: &mut dyn FnMut(&[u8])) -> bool {
        let algorithm = match self.len {
            32 => HashAlgorithm::Sha256,
            48 => HashAlgorithm::Sha384,
            _ => HashAlgorithm::Sha512,
        };
        Self::of_all(algorithm, &mut data.chunks(CHUNK).inspect(|chunk| each(chunk))) == *self
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm(), Hex(self.as_bytes()))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = BadDigest;

    fn from_str(text: &str) -> Result<Self, BadDigest> {
        let (algorithm, digits) = text.split_once(':').ok_or(BadDigest)?;
        let mut bytes = [0; 64];
        let mut len: usize = 0;
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        if !rest.is_empty() {
            return Err(BadDigest);
        }
        for pair in pairs {
            let text = core::str::from_utf8(pair).map_err(|_| BadDigest)?;
            if text.starts_with('+') {
                return Err(BadDigest);
            }
            *bytes.get_mut(len).ok_or(BadDigest)? = u8::from_str_radix(text, 16).map_err(|_| BadDigest)?;
            len = len.saturating_add(1);
        }
        let digest = bytes.get(..len).and_then(Self::from_bytes).ok_or(BadDigest)?;
        if digest.algorithm() == algorithm { Ok(digest) } else { Err(BadDigest) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_survives_a_round_trip_and_matches_its_data() {
        for text in [
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
            "sha384:38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b",
        ] {
            let digest: Digest = text.parse().unwrap();
            assert_eq!(digest.to_string(), text);
            assert!(digest.matches(b"") && !digest.matches(b"x"));
        }
    }

    #[test]
    fn a_text_of_another_form_is_refused() {
        let good = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for text in [
            good.to_owned(),
            format!("sha384:{good}"),
            format!("sha256:{good}00"),
            format!("sha256:{}", &good[1..]),
            format!("sha256:+{}", &good[1..]),
            format!("sha1:{}", &good[..40]),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(BadDigest), "{text}");
        }
    }
}
