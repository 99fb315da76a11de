//! PCIe: configuration access, the walk of bus 0, BARs, quiescing.
//!
//! Trust: none. Configuration space is emulated by the host; each header is read once and the copy is used.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

mod bars;
mod config;
mod function;
mod quiesce;

pub use bars::{Bar, Bars, Windows};
pub use config::Ecam;
pub use function::{Function, Kind, MsixPlace, walk_bus_0};
pub use quiesce::{make_quiet, prepare};

use crate::addr::Bdf;
use crate::platform::IoError;
use thiserror::Error;

/// Why a function cannot be used.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum PcieError {
    /// Access outside the ECAM window.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The bus is outside the range of the host bridge.
    #[error("{0} is outside the bus range")]
    Bus(Bdf),
    /// The capability list is longer than configuration space, or points outside.
    #[error("{bdf}: capability list broken at {offset:#x}")]
    Capabilities {
        /// The function.
        bdf: Bdf,
        /// Where.
        offset: u8,
    },
    /// A BAR whose size is not a power of two, or whose type is reserved.
    #[error("{bdf}: BAR {bar} sizes to {value:#x}")]
    BarSize {
        /// The function.
        bdf: Bdf,
        /// Which BAR.
        bar: u8,
        /// What it answered.
        value: u64,
    },
    /// No window of the host bridge has room.
    #[error("{bdf}: no room for BAR {bar} of {size:#x} bytes")]
    NoRoom {
        /// The function.
        bdf: Bdf,
        /// Which BAR.
        bar: u8,
        /// Bytes.
        size: u64,
    },
    /// A BAR does not hold what was written.
    #[error("{bdf}: BAR {bar} reads {read:#x}, {written:#x} was written")]
    BarReadBack {
        /// The function.
        bdf: Bdf,
        /// Which BAR.
        bar: u8,
        /// Written.
        written: u64,
        /// Read.
        read: u64,
    },
    /// The command register does not hold what was written.
    #[error("{bdf}: command reads {read:#x}, {written:#x} was written")]
    CommandReadBack {
        /// The function.
        bdf: Bdf,
        /// Written.
        written: u16,
        /// Read.
        read: u16,
    },
    /// MSI or MSI-X stays enabled.
    #[error("{0}: message interrupts stay enabled")]
    InterruptsEnabled(Bdf),
    /// The function does not come back from its reset.
    #[error("{0}: no answer after function level reset")]
    Reset(Bdf),
}
