//! The firmware image file: Linux arm64 header, then the slot that the packer patches (docs/architecture.md).
//!
//! Trust: covered by the RIM; a bad value is our bug or the packer's.

use zerocopy::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Offset of the slot in the image file, right behind the Linux header.
pub const SLOT_OFFSET: usize = 64;
/// First eight bytes of the slot.
pub const SLOT_MAGIC: [u8; 8] = *b"GATEHSLT";
/// Version of the slot's layout.
pub const SLOT_VERSION: u32 = 1;
/// Flag of the slot: the manifest is that of a bundle in the initrd range of the host's tree, not of an appended one.
pub const FLAG_EXTERNAL: u32 = 1;
/// The load address of the image, and the size in its header, are multiples of this.
pub const IMAGE_ALIGN: u64 = 2 * 1024 * 1024;
/// An appended bundle begins on a multiple of this.
pub const BUNDLE_ALIGN: u64 = 4096;
/// The heap is the last part of the area that the header's `image_size` reserves, in bytes.
pub const HEAP_SIZE: u64 = 16 * 1024 * 1024;
/// Magic number of the Linux header, "ARM\x64", at offset 56 (Linux Documentation/arch/arm64/booting.rst).
pub const LINUX_MAGIC: [u8; 4] = *b"ARM\x64";

/// Header of a flat arm64 kernel image (Linux Documentation/arch/arm64/booting.rst, "Call the kernel image").
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct LinuxHeader {
    /// Executable code.
    pub code0: U32,
    /// Executable code.
    pub code1: U32,
    /// Offset of the image from a 2 MiB boundary, in bytes.
    pub text_offset: U64,
    /// Bytes of memory from the image's start that it uses, file and beyond.
    pub image_size: U64,
    /// Bit 0 big-endian, bits 2:1 page size, bit 3 may lie anywhere.
    pub flags: U64,
    /// Zero.
    pub res2: U64,
    /// Zero.
    pub res3: U64,
    /// Zero.
    pub res4: U64,
    /// [`LINUX_MAGIC`].
    pub magic: [u8; 4],
    /// Offset of the PE header, or zero.
    pub res5: U32,
}

/// First bytes of an EFI zboot image.
pub const ZBOOT_MAGIC: [u8; 2] = *b"MZ";
/// Bytes 4 to 7 of an EFI zboot image.
pub const ZBOOT_TYPE: [u8; 4] = *b"zimg";

/// What a loader that does not run the EFI program reads of an EFI zboot image
/// (Linux drivers/firmware/efi/libstub/zboot-header.S).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct ZbootHeader {
    /// [`ZBOOT_MAGIC`] and two zeros.
    pub magic: [u8; 4],
    /// [`ZBOOT_TYPE`].
    pub image_type: [u8; 4],
    /// First byte of the compressed Image, from the start of the file.
    pub payload_offset: U32,
    /// Length of the compressed Image in bytes.
    pub payload_size: U32,
    /// Zero.
    pub reserved: [U32; 2],
    /// Name of the compression, NUL-terminated.
    pub compression: [u8; 32],
}

/// The packer's slot: where the bundle lies and what its FIT structure hashes to ([`crate::boot::source`] reads it).
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, KnownLayout, Immutable)]
#[repr(C)]
pub struct Slot {
    /// [`SLOT_MAGIC`].
    pub magic: [u8; 8],
    /// [`SLOT_VERSION`].
    pub version: U32,
    /// [`FLAG_EXTERNAL`] or zero.
    pub flags: U32,
    /// Bytes from the start of the image to the bundle; a multiple of [`BUNDLE_ALIGN`]. 0 with [`FLAG_EXTERNAL`].
    pub bundle_offset: U64,
    /// Length of the bundle in bytes; 0: there is none.
    pub bundle_len: U64,
    /// SHA-256 of the FIT structure of the bundle (its first `totalsize` bytes): the manifest.
    pub manifest_sha256: [u8; 32],
}

const _: () = assert!(size_of::<LinuxHeader>() == 64);
const _: () = assert!(core::mem::offset_of!(LinuxHeader, magic) == 56);
const _: () = assert!(size_of::<ZbootHeader>() == 56);
const _: () = assert!(core::mem::offset_of!(ZbootHeader, compression) == 24);
const _: () = assert!(size_of::<Slot>() == 64);
const _: () = assert!(core::mem::offset_of!(Slot, manifest_sha256) == 32);
