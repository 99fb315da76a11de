//! The bundle's container: a flattened image tree (FIT, U-Boot doc/usage/fit/source_file_format.rst) with a few
//! strings of ours in its configuration (docs/bundle.md).
//!
//! Trust: the structure is covered by the manifest digest in the image's slot, the parts by the structure.

/// Node of all images, a child of the root.
pub const IMAGES: &str = "images";
/// Node of all configurations, a child of the root.
pub const CONFIGURATIONS: &str = "configurations";
/// Name of the configuration that counts.
pub const DEFAULT: &str = "default";
/// Configuration: name of the kernel's image node.
pub const KERNEL: &str = "kernel";
/// Configuration: name of the ramdisk's image node.
pub const RAMDISK: &str = "ramdisk";
/// Configuration: name of the device-tree overlay's image node.
pub const FDT: &str = "fdt";
/// Configuration: image nodes that other tools must keep.
pub const LOADABLES: &str = "loadables";
/// Configuration: name of the command line's image node.
pub const CMDLINE: &str = "gatehouse,cmdline";
/// Configuration: [`OsKind`].
pub const OS: &str = "gatehouse,os";
/// Configuration: name of the device policy's image node.
pub const POLICY: &str = "gatehouse,policy";
/// Configuration: security version number of the bundle, one cell; 0 when it is not there.
pub const SVN: &str = "gatehouse,svn";
/// What all properties of ours begin with: one that is not known is refused.
pub const OURS: &str = "gatehouse,";
/// Image: inline data.
pub const DATA: &str = "data";
/// Image: offset of the data behind the structure, which is padded to four bytes.
pub const DATA_OFFSET: &str = "data-offset";
/// Image: offset of the data from the start of the structure.
pub const DATA_POSITION: &str = "data-position";
/// Image: length of external data in bytes.
pub const DATA_SIZE: &str = "data-size";
/// Image: compression; [`COMPRESSION_NONE`], for a kernel [`COMPRESSION_GZIP`] as well.
pub const COMPRESSION: &str = "compression";
/// Not compressed, as far as the FIT knows.
pub const COMPRESSION_NONE: &str = "none";
/// The data is a gzip file.
pub const COMPRESSION_GZIP: &str = "gzip";
/// What the names of hash nodes begin with.
pub const HASH: &str = "hash";
/// Hash node: algorithm.
pub const ALGO: &str = "algo";
/// Hash node: digest.
pub const VALUE: &str = "value";
/// External data of `data-offset` begins at a multiple of this behind the structure.
pub const DATA_ALIGN: usize = 4;
/// Timestamp of a reproducible FIT, seconds since 1970.
pub const TIMESTAMP: u32 = 0;

/// What the payload can do with attested devices.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OsKind {
    /// A stock Linux with our OS half.
    Half,
    /// Device-assignment support of its own.
    Native,
    /// Neither: its drivers bounce through shared memory.
    #[default]
    Unaware,
}

impl OsKind {
    /// Returns the word in the FIT.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Half => "half",
            Self::Native => "native",
            Self::Unaware => "unaware",
        }
    }

    /// Finds the kind for a word.
    #[must_use]
    pub fn from_word(word: &str) -> Option<Self> {
        [Self::Half, Self::Native, Self::Unaware].into_iter().find(|kind| kind.word() == word)
    }
}
