//! What `board.toml` says about the RIM: table `[rim]`, and the addresses that it shares with other readers.
//!
//! Trust: a file of the caller; a bad one is an error with its line.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::{Rules, chain, hash_from_word};
use gatehouse::rsi::HashAlgorithm;
use serde::{Deserialize, Deserializer, de};
use thiserror::Error;

/// Why a text is not a board that a RIM can be predicted for.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{0}")]
pub struct BoardError(#[from] toml::de::Error);

/// A board, as far as the RIM needs it. Other readers have other parts of the file.
#[derive(Clone, Debug, Deserialize)]
pub struct Board {
    /// Name of its folder.
    pub name: String,
    /// Width of the IPA space in bits; without one the layout's rule counts.
    pub ipa_width: Option<u8>,
    /// First byte of RAM.
    pub ram_base: u64,
    /// First byte of the realm's RAM, where that is another.
    pub realm_ram_base: Option<u64>,
    /// Where the image lies; [`Layout::Fixed`] needs it.
    pub image_address: Option<u64>,
    /// What is measured.
    pub rim: Rim,
}

/// The table `[rim]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rim {
    /// Where the VMM puts files.
    pub layout: Layout,
    /// Rule set of the RMM.
    #[serde(default = "default_rules")]
    pub rules: Rules,
    /// Hash that the VMM asks for.
    #[serde(deserialize_with = "hash")]
    pub hash: HashAlgorithm,
    /// Flags of the parameters page.
    #[serde(default)]
    pub flags: Vec<Flag>,
    /// As in the parameters page: breakpoints minus one.
    pub num_bps: u8,
    /// As in the parameters page: watchpoints minus one.
    pub num_wps: u8,
    /// As in the parameters page: vector length in bits / 128 - 1.
    #[serde(default)]
    pub sve_vl: u8,
    /// PMU counters.
    #[serde(default)]
    pub pmu_ctrs: u8,
    /// Bytes of RAM unless the caller says another number.
    pub ram_size: Option<u64>,
    /// What is populated, in this order; what the caller does not have is left out.
    pub populated: Vec<Part>,
    /// Which of them are populated without being measured.
    #[serde(default)]
    pub unmeasured: Vec<Part>,
    /// Least length of the device tree in memory, in bytes: a shorter file has zeros behind it.
    #[serde(default)]
    pub device_tree_len: u64,
    /// Entry registers of the runnable RECs.
    pub entry: Entry,
    /// Number of runnable RECs.
    #[serde(default = "one")]
    pub recs: u64,
}

/// Entry registers; those that are not named are zero.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// First instruction.
    pub pc: Place,
    /// First argument.
    pub x0: Place,
}

/// What an entry register has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Place {
    /// Address of the image.
    #[serde(rename = "image")]
    Image,
    /// First byte of RAM.
    #[serde(rename = "ram")]
    Ram,
    /// Address of the device tree.
    #[serde(rename = "device tree")]
    DeviceTree,
    /// Zero.
    #[serde(rename = "zero")]
    Zero,
}

/// How a VMM finds the places of image, ramdisk and device tree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// The image where the board says, the tree at the next 2 MiB boundary above its memory.
    Fixed,
    /// kvmtool with realms.
    Kvmtool,
    /// QEMU's `virt` machine with realms.
    Qemu,
}

/// Something that a VMM populates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub enum Part {
    /// The image, or the firmware.
    #[serde(rename = "image")]
    Image,
    /// The ramdisk.
    #[serde(rename = "initrd")]
    Initrd,
    /// The device tree.
    #[serde(rename = "device tree")]
    DeviceTree,
}

impl Part {
    /// Returns the name, as in the board file.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Initrd => "initrd",
            Self::DeviceTree => "device tree",
        }
    }
}

/// A flag of the parameters page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flag {
    /// 52-bit addresses.
    Lpa2,
    /// SVE.
    Sve,
    /// PMU.
    Pmu,
    /// Device assignment.
    Da,
    /// A memory encryption context of its own.
    MecPrivate,
}

impl Flag {
    /// Returns the bit.
    #[must_use]
    pub const fn bit(self) -> u64 {
        match self {
            Self::Lpa2 => chain::flag::LPA2,
            Self::Sve => chain::flag::SVE,
            Self::Pmu => chain::flag::PMU,
            Self::Da => chain::flag::DA,
            Self::MecPrivate => chain::flag::MEC_PRIVATE,
        }
    }
}

impl Board {
    /// Reads a board file.
    ///
    /// # Errors
    /// [`BoardError`] with the line.
    pub fn parse(text: &str) -> Result<Self, BoardError> {
        Ok(toml::from_str(text)?)
    }
}

fn default_rules() -> Rules {
    Rules::R2
}

fn one() -> u64 {
    1
}

fn hash<'de, D: Deserializer<'de>>(deserializer: D) -> Result<HashAlgorithm, D::Error> {
    let word = String::deserialize(deserializer)?;
    hash_from_word(&word).ok_or_else(|| de::Error::custom("sha256, sha384 or sha512"))
}
