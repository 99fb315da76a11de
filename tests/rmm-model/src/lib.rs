//! The RMM, the host and the devices as one state machine, written from the specifications.
//!
//! [`Model`] owns all state; the machine under it is a [`machine::Machine`]: the EL2 shell `tests/stub-rmm` on QEMU, or
//! [`sim::SimMachine`] on the developer's machine. A [`Scenario`] says which functions are assigned devices, how the
//! host behaves and where it lies. Nothing here is shared with the firmware: no encoder, no wire type, no constant.
//!
//! Sources: `spec/*.md` of the project, which restate RSI (DEN0137 1.1, dialect a of the table there, with a2 and a3
//! where only layouts differ), RHI (DEN0148 1.0 beta) and PCIe TDISP 1.0. Where they are silent the item says what
//! was chosen, on a line that begins with "Choice:".
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod abi;
pub mod access;
pub mod attest;
pub mod board;
pub mod counters;
mod device;
pub mod digest;
pub mod final_state;
mod inject;
mod intervals;
mod lies;
pub mod machine;
mod model;
pub mod record;
mod rhi;
pub mod rim;
pub mod ripas;
mod rng;
mod rsi;
pub mod scenario;
pub mod setup;
pub mod sim;
mod spdm;
mod stage2;

pub use access::{Access, Entry, FaultAction, Next};
pub use board::{Board, Range};
pub use final_state::FinalState;
pub use model::{Lock, Model};
pub use scenario::Scenario;
pub use setup::SetupError;
