//! Wire facts: constants and layouts of the specifications, nothing else. `docs/spec-map.md` says which versions.

pub mod ahci;
pub mod eventlog;
pub mod fit;
pub mod image;
pub mod pcie;
pub mod rhi;
pub mod rsi;
pub mod spdm;
pub mod tdisp;
pub mod xhci;
