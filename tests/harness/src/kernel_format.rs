//! The kernel of a run in another format: as a kernel's build makes it, from the plain Image.

use crate::Fault;
use clap::ValueEnum;
use flate2::{Compression, GzBuilder};
use gatehouse::boot::kernel::KernelHeader;
use std::io::Write as _;

/// What the payload is packed as.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum KernelFormat {
    /// As it is.
    #[default]
    Plain,
    /// A gzip file (`Image.gz`).
    Gzip,
    /// An EFI zboot image with gzip inside (`vmlinuz.efi`).
    Zboot,
}

/// Where the payload of a zboot image begins: behind headers and code of the EFI program.
const ZBOOT_PAYLOAD: usize = 0x4000;

impl KernelFormat {
    /// Brings an Image to this format.
    ///
    /// # Errors
    /// [`Fault::Run`] when it is no Image.
    pub fn make(self, image: Vec<u8>) -> Result<Vec<u8>, Fault> {
        match self {
            KernelFormat::Plain => Ok(image),
            KernelFormat::Gzip => gzip(&image),
            KernelFormat::Zboot => zboot(image),
        }
    }
}

fn gzip(image: &[u8]) -> Result<Vec<u8>, Fault> {
    let failed = |error: std::io::Error| Fault::Run(format!("gzip: {error}"));
    // As `gzip -n`: neither name nor time.
    let mut encoder = GzBuilder::new().write(Vec::new(), Compression::default());
    encoder.write_all(image).map_err(failed)?;
    encoder.finish().map_err(failed)
}

/// Puts an Image into a zboot image (Linux drivers/firmware/efi/libstub, Makefile.zboot and zboot-header.S): padded to the
/// memory that it needs, compressed, behind a header. The EFI program around it is only bytes here.
fn zboot(mut image: Vec<u8>) -> Result<Vec<u8>, Fault> {
    let header = KernelHeader::parse(&image).map_err(|error| Fault::Run(format!("kernel: {error}")))?;
    image.resize(usize::try_from(header.mem_len()).unwrap_or(image.len()), 0);
    let payload = gzip(&image)?;
    let number = |value: usize| u32::try_from(value).unwrap_or_default().to_le_bytes();
    let mut file = b"MZ\0\0zimg".to_vec();
    file.extend(number(ZBOOT_PAYLOAD));
    file.extend(number(payload.len()));
    file.extend([0; 8]);
    file.extend(b"gzip\0");
    // The magic number of Linux' PE files, and where the PE header is.
    file.resize(0x38, 0);
    file.extend(b"\xcd\x23\x82\x81\x40\0\0\0PE\0\0");
    file.resize(ZBOOT_PAYLOAD, 0);
    file.extend(payload);
    file.resize(file.len().next_multiple_of(0x1000), 0);
    Ok(file)
}
