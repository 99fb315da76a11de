//! EFI zboot images: a small EFI program with the compressed Image inside (Linux drivers/firmware/efi/libstub,
//! zboot-header.S). The program is not run: the payload is taken out.
//!
//! Trust: part of the measured bundle; every number is checked all the same. `payload_size` leaves out the length that the
//! kernel's build appends for formats other than gzip, which has it in its own trailer.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use crate::abi::image::{ZBOOT_MAGIC, ZBOOT_TYPE, ZbootHeader};
use core::fmt;
use core::ops::Range;
use thiserror::Error;
use zerocopy::FromBytes;

/// The compression that is supported.
const GZIP: &[u8] = b"gzip";

/// Name of a compression as it stands in the header, up to its NUL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Name([u8; 32]);

impl Name {
    /// Returns the bytes; all 32 when no NUL ends them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or_default()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = core::str::from_utf8(self.as_bytes()).ok();
        f.write_str(text.filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic())).unwrap_or("?"))
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a zboot image is refused.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ZbootError {
    /// No header of that kind.
    #[error("no zboot image")]
    NotZboot,
    /// Compressed by another method than gzip.
    #[error("compressed with {0}; only gzip is supported")]
    Compression(Name),
    /// The payload is empty, begins inside the header or ends behind the image.
    #[error("payload at {offset:#x}, {len:#x} bytes, of an image of {image:#x}")]
    Payload {
        /// First byte.
        offset: u32,
        /// Length in bytes.
        len: u32,
        /// Length of the image.
        image: usize,
    },
}

/// Tells whether it begins as a zboot image.
#[must_use]
pub fn is_zboot(data: &[u8]) -> bool {
    data.starts_with(&ZBOOT_MAGIC) && data.get(4..8) == Some(&ZBOOT_TYPE)
}

/// Returns where the gzip file lies in the image.
///
/// # Errors
/// [`ZbootError`].
pub fn payload(image: &[u8]) -> Result<Range<usize>, ZbootError> {
    let header = ZbootHeader::ref_from_prefix(image).ok().map(|(header, _)| header);
    let header = header.filter(|_| is_zboot(image)).ok_or(ZbootError::NotZboot)?;
    let name = Name(header.compression);
    if name.as_bytes() != GZIP {
        return Err(ZbootError::Compression(name));
    }
    let (offset, len) = (header.payload_offset.get(), header.payload_size.get());
    let bad = ZbootError::Payload { offset, len, image: image.len() };
    let start = usize::try_from(offset).map_err(|_| bad)?;
    let end = usize::try_from(len).ok().and_then(|len| start.checked_add(len)).ok_or(bad)?;
    if start < size_of::<ZbootHeader>() || start >= end || end > image.len() {
        return Err(bad);
    }
    Ok(start..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(change: impl FnOnce(&mut Vec<u8>)) -> Result<Range<usize>, ZbootError> {
        let mut image = b"MZ\0\0zimg\x80\0\0\0\x10\0\0\0\0\0\0\0\0\0\0\0gzip\0".to_vec();
        image.resize(0x90, 0);
        change(&mut image);
        payload(&image)
    }

    #[test]
    fn the_payload_is_found() {
        assert_eq!(image(|_| {}), Ok(0x80..0x90));
        assert_eq!(image(|i| i.push(0)), Ok(0x80..0x90));
        assert_eq!(image(|i| i[8] = 0x38), Ok(0x38..0x48));
    }

    #[test]
    fn each_bad_image_is_refused_by_name() {
        for at in [0, 1, 4, 7] {
            assert_eq!(image(|i| i[at] = b'x'), Err(ZbootError::NotZboot));
        }
        assert_eq!(image(|i| i.truncate(0x37)), Err(ZbootError::NotZboot));
        let bad = |offset, len, image| Err(ZbootError::Payload { offset, len, image });
        assert_eq!(image(|i| i[8] = 0x37), bad(0x37, 0x10, 0x90));
        assert_eq!(image(|i| i[8] = 0x81), bad(0x81, 0x10, 0x90));
        assert_eq!(image(|i| i[12] = 0), bad(0x80, 0, 0x90));
        assert_eq!(image(|i| i[8..16].fill(0xff)), bad(u32::MAX, u32::MAX, 0x90));
        assert_eq!(image(|i| i.truncate(0x8f)), bad(0x80, 0x10, 0x8f));
        for name in ["zstd22", "lzma", "gzi", "gzipp", "\x1b"] {
            let Err(ZbootError::Compression(found)) = image(|i| {
                i[24..56].fill(0);
                i[24..24 + name.len()].copy_from_slice(name.as_bytes());
            }) else {
                panic!("{name}")
            };
            assert_eq!(found.as_bytes(), name.as_bytes());
        }
        let endless = image(|i| i[24..56].fill(b'g')).unwrap_err().to_string();
        assert!(endless.contains(&"g".repeat(32)), "{endless}");
    }
}
