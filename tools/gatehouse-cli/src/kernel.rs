//! The kernel's file before it is packed, and after: its format, and what comes out of it with its CRC compared.
//!
//! What the firmware can do is tried with the firmware's own code ([`crate::inspect::Image::verify`]). Here another reader
//! inflates, and computes the CRC-32 that the firmware leaves out.
use flate2::read::GzDecoder;
use gatehouse::boot::kernel::{Format, KernelError, KernelHeader};
use gatehouse::boot::zboot::{self, ZbootError};
use std::io::Read as _;
use thiserror::Error;

/// Most bytes that a kernel may inflate to.
const MAX_IMAGE: u64 = 1 << 30;

/// Why a file is not a kernel that can be started.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum KernelFileError {
    /// The format or the header.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The zboot image.
    #[error("zboot: {0}")]
    Zboot(#[from] ZbootError),
    /// The gzip file is broken, or its CRC-32 or length is not that of its content.
    #[error("gzip: {0}")]
    Gzip(String),
    /// More than 1 GiB.
    #[error("inflates to more than {MAX_IMAGE:#x} bytes")]
    TooLong,
}

/// A kernel's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelFile {
    /// Its format.
    pub format: Format,
    /// Length of the Image in it, in bytes.
    pub image_len: u64,
    /// What the Image's header says.
    pub header: KernelHeader,
}

impl KernelFile {
    /// Reads a file, all of it.
    ///
    /// # Errors
    /// [`KernelFileError`].
    pub fn read(file: &[u8]) -> Result<Self, KernelFileError> {
        let format = Format::of(file).unwrap_or(Format::Image);
        let read = |image: &[u8]| {
            let header = KernelHeader::parse(image)?;
            Ok(Self { format, image_len: image.len() as u64, header })
        };
        match format {
            Format::Gzip => read(&inflate(file)?),
            Format::Zboot => read(&inflate(file.get(zboot::payload(file)?).unwrap_or_default())?),
            Format::Image | Format::Zstd | Format::Elf => read(file),
        }
    }

    /// Returns the word for people.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self.format {
            Format::Gzip => "gzip",
            Format::Zboot => "zboot with gzip",
            _ => "plain arm64 Image",
        }
    }
}

fn inflate(file: &[u8]) -> Result<Vec<u8>, KernelFileError> {
    let mut image = Vec::new();
    let read = GzDecoder::new(file).take(MAX_IMAGE + 1).read_to_end(&mut image);
    read.map_err(|error| KernelFileError::Gzip(error.to_string()))?;
    if image.len() as u64 > MAX_IMAGE { Err(KernelFileError::TooLong) } else { Ok(image) }
}
