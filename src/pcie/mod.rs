//! PCIe: configuration access, the walk, BARs and bridge windows, quiescing.
//!
//! Trust: none. Configuration space is emulated by the host; each header is read once and the copy is used.
//!
//! The order of the calls: [`walk`], [`size_bars`] for each function that gets addresses, [`allocate`] for all of them
//! together, [`open_bridges`], [`prepare`] for each.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

mod allocate;
mod bars;
mod bridge;
mod config;
mod function;
mod probe;
mod quiesce;
mod space;
mod topology;
mod walk;

pub use allocate::{Allocation, allocate};
pub use bars::{Bar, BarSize, Bars, size_bars};
pub use bridge::{BridgeWindows, open_bridges};
pub use config::Ecam;
pub use function::{Function, Kind, MsixPlace};
pub use probe::replay_enumeration;
pub use quiesce::{make_quiet, prepare};
pub use topology::{Bridge, Topology};
pub use walk::{MAX_DEPTH, MAX_FUNCTIONS, walk};

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
        offset: u16,
    },
    /// A bridge so deep that no slot path names what is behind it.
    #[error("{0}: more than {MAX_DEPTH} buses deep")]
    TooDeep(Bdf),
    /// More bridges and functions than a machine has.
    #[error("{0}: more than {MAX_FUNCTIONS} functions")]
    TooManyFunctions(Bdf),
    /// No bus number is left for the bus behind a bridge.
    #[error("{0}: no bus number left")]
    NoBusNumber(Bdf),
    /// The chain of ARI function numbers does not ascend.
    #[error("{bdf}: the next ARI function is {next:#x}")]
    AriOrder {
        /// The function.
        bdf: Bdf,
        /// What it names as next.
        next: u8,
    },
    /// A register of a bridge does not hold what was written.
    #[error("{bdf}: bridge register {register:#x} reads {read:#x}, {written:#x} was written")]
    BridgeReadBack {
        /// The bridge.
        bdf: Bdf,
        /// Offset of the register.
        register: u16,
        /// Written.
        written: u32,
        /// Read.
        read: u32,
    },
    /// Only an endpoint has BARs that are given addresses.
    #[error("{0} is no endpoint")]
    NotEndpoint(Bdf),
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
    /// The function does not come to D0.
    #[error("{bdf}: power state reads {read:#x}")]
    PowerState {
        /// The function.
        bdf: Bdf,
        /// Power management control and status, as read.
        read: u16,
    },
    /// The expansion ROM stays enabled.
    #[error("{0}: expansion ROM stays enabled")]
    RomEnabled(Bdf),
    /// Virtual functions stay enabled.
    #[error("{0}: virtual functions stay enabled")]
    VirtualFunctions(Bdf),
    /// MSI or MSI-X stays enabled.
    #[error("{0}: message interrupts stay enabled")]
    InterruptsEnabled(Bdf),
    /// The function does not come back from its reset.
    #[error("{0}: no answer after function level reset")]
    Reset(Bdf),
}
