//! The disk that the realm reads: sparse, with a fresh random pattern at its start in each run.

use crate::Fault;
use rmm_model::digest::to_hex;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

/// Bytes of the disk.
const SIZE: u64 = 64 << 20;
/// Bytes of the pattern.
const PATTERN: usize = 1 << 20;

/// Returns random bytes of the operating system.
///
/// # Errors
/// [`Fault::File`].
pub fn random(len: usize) -> Result<Vec<u8>, Fault> {
    let path = Path::new("/dev/urandom");
    let mut bytes = vec![0; len];
    let mut file = File::open(path).map_err(Fault::file(path))?;
    file.read_exact(&mut bytes).map_err(Fault::file(path))?;
    Ok(bytes)
}

/// Returns a fresh nonce: 32 bytes as hexadecimal digits.
///
/// # Errors
/// [`Fault::File`].
pub fn nonce() -> Result<String, Fault> {
    Ok(to_hex(&random(32)?))
}

/// Makes a disk; returns the digest that only somebody who reads it can tell: SHA-256 of the nonce's digits and the
/// pattern.
///
/// # Errors
/// [`Fault::File`].
pub fn create(path: &Path, nonce: &str) -> Result<String, Fault> {
    let pattern = random(PATTERN)?;
    let mut file = File::create(path).map_err(Fault::file(path))?;
    file.write_all(&pattern).and_then(|()| file.set_len(SIZE)).map_err(Fault::file(path))?;
    Ok(digest(nonce, &pattern))
}

fn digest(nonce: &str, pattern: &[u8]) -> String {
    let mut hash = Sha256::new();
    hash.update(nonce);
    hash.update(pattern);
    to_hex(&hash.finalize())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_is_over_digits_and_pattern() {
        // printf 'abc' | sha256sum
        let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(digest("a", b"bc"), abc);
        assert_ne!(nonce().unwrap(), nonce().unwrap());
        assert_eq!(nonce().unwrap().len(), 64);
    }
}
