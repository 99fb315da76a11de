//! Kernel formats, and the header of an arm64 Image.
//!
//! Trust: part of the measured bundle. What counts is read after its hash matched. Linux Documentation/arch/arm64/booting.rst,
//! section 4 "Call the kernel image".
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::{gzip, zboot};
use crate::abi::image::{LINUX_MAGIC, LinuxHeader};
use thiserror::Error;
use zerocopy::FromBytes;

/// Formats that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Plain arm64 Image.
    Image,
    /// gzip file.
    Gzip,
    /// EFI zboot image.
    Zboot,
    /// Zstandard frame; not supported.
    Zstd,
    /// ELF file; not supported.
    Elf,
}

/// Why a kernel cannot be started.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum KernelError {
    /// Shorter than the header.
    #[error("{0} bytes are no kernel")]
    TooShort(usize),
    /// A known format, and not that of an Image.
    #[error("{0:?} where an arm64 Image must be")]
    UnsupportedFormat(Format),
    /// No format that we know.
    #[error("not an arm64 Image")]
    NotAnImage,
    /// `image_size` is zero (Linux before 3.17), or does not fit.
    #[error("image_size {0:#x}")]
    ImageSize(u64),
    /// `text_offset` is not zero (Linux before 5.10).
    #[error("text_offset {0:#x}")]
    TextOffset(u64),
    /// A big-endian kernel.
    #[error("big-endian kernel")]
    BigEndian,
    /// A kernel whose pages are not 4 KiB; the value of the flags field, bits 2:1.
    #[error("page size code {0}")]
    PageSize(u64),
}

/// What the header of an arm64 Image says, checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelHeader {
    mem_len: u64,
}

impl KernelHeader {
    /// Reads the header from the kernel's data.
    ///
    /// # Errors
    /// [`KernelError`].
    pub fn parse(data: &[u8]) -> Result<Self, KernelError> {
        if let Some(format) = Format::of(data).filter(|format| *format != Format::Image) {
            return Err(KernelError::UnsupportedFormat(format));
        }
        let Ok((header, _)) = LinuxHeader::read_from_prefix(data) else {
            return Err(KernelError::TooShort(data.len()));
        };
        if header.magic != LINUX_MAGIC {
            return Err(KernelError::NotAnImage);
        }
        let flags = header.flags.get();
        if flags & 1 != 0 {
            return Err(KernelError::BigEndian);
        }
        let page_size = flags >> 1 & 3;
        if page_size != 1 {
            return Err(KernelError::PageSize(page_size));
        }
        if header.text_offset.get() != 0 {
            return Err(KernelError::TextOffset(header.text_offset.get()));
        }
        let image_size = header.image_size.get();
        let file = u64::try_from(data.len()).map_err(|_| KernelError::ImageSize(image_size))?;
        if image_size == 0 || image_size > 1 << 40 {
            return Err(KernelError::ImageSize(image_size));
        }
        Ok(Self { mem_len: image_size.max(file) })
    }

    /// Returns how many bytes from its start must be the kernel's: `image_size`, or the file where that is longer.
    #[must_use]
    pub const fn mem_len(&self) -> u64 {
        self.mem_len
    }
}

impl Format {
    /// Tells the format from the first bytes; `None`: none that is known.
    #[must_use]
    pub fn of(data: &[u8]) -> Option<Self> {
        if data.starts_with(&gzip::MAGIC) {
            Some(Self::Gzip)
        } else if data.starts_with(b"\x28\xb5\x2f\xfd") {
            Some(Self::Zstd)
        } else if data.starts_with(b"\x7fELF") {
            Some(Self::Elf)
        } else if zboot::is_zboot(data) {
            Some(Self::Zboot)
        } else if LinuxHeader::ref_from_prefix(data).is_ok_and(|(header, _)| header.magic == LINUX_MAGIC) {
            Some(Self::Image)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::IntoBytes;

    fn header() -> LinuxHeader {
        LinuxHeader {
            image_size: 0x20_0000.into(),
            flags: 0xa.into(),
            magic: LINUX_MAGIC,
            ..LinuxHeader::read_from_bytes(&[0; 64]).unwrap()
        }
    }

    fn parse(change: impl FnOnce(&mut LinuxHeader)) -> Result<KernelHeader, KernelError> {
        let mut header = header();
        change(&mut header);
        KernelHeader::parse(header.as_bytes())
    }

    #[test]
    fn an_image_is_accepted() {
        assert_eq!(parse(|_| {}).unwrap().mem_len(), 0x20_0000);
    }

    #[test]
    fn a_file_longer_than_image_size_counts_in_full() {
        let mut file = header().as_bytes().to_vec();
        file.resize(0x20_1000, 0);
        assert_eq!(KernelHeader::parse(&file).unwrap().mem_len(), 0x20_1000);
    }

    #[test]
    fn each_bad_field_is_refused_by_name() {
        assert_eq!(parse(|h| h.magic = [0; 4]), Err(KernelError::NotAnImage));
        assert_eq!(parse(|h| h.flags = 0xb.into()), Err(KernelError::BigEndian));
        assert_eq!(parse(|h| h.flags = 0x8.into()), Err(KernelError::PageSize(0)));
        assert_eq!(parse(|h| h.flags = 0xe.into()), Err(KernelError::PageSize(3)));
        assert_eq!(parse(|h| h.text_offset = 0x8_0000.into()), Err(KernelError::TextOffset(0x8_0000)));
        assert_eq!(parse(|h| h.image_size = 0.into()), Err(KernelError::ImageSize(0)));
        assert_eq!(parse(|h| h.image_size = u64::MAX.into()), Err(KernelError::ImageSize(u64::MAX)));
        assert_eq!(KernelHeader::parse(&[0; 63]), Err(KernelError::TooShort(63)));
    }

    #[test]
    fn another_format_in_the_place_of_an_image_is_refused_by_name() {
        for (start, format) in [
            (&b"\x1f\x8b\x08\0"[..], Format::Gzip),
            (b"\x28\xb5\x2f\xfd", Format::Zstd),
            (b"\x7fELF", Format::Elf),
            (b"MZ\0\0zimg", Format::Zboot),
        ] {
            assert_eq!(KernelHeader::parse(start), Err(KernelError::UnsupportedFormat(format)));
        }
    }
}
