//! Gatehouse: the first code that runs in an Arm CCA realm.
//!
//! It finds the PCIe devices that the host assigned, locks them (TDISP), checks their evidence, validates their
//! MMIO, moves them to RUN and only then starts the payload OS. `docs/architecture.md` has the map; the phases of a
//! boot are the modules of [`phases`], in order.
//!
//! The library is `no_std` and builds on the developer's machine as well: everything but [`arch`] is ordinary code
//! over four small traits ([`conduit::Conduit`], [`platform::Io`], [`platform::Clock`], [`platform::Entropy`]).
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod abi;
pub mod addr;
pub mod arch;
pub mod base64;
pub mod boot;
pub mod cbor;
pub mod codes;
pub mod conduit;
pub mod digest;
pub mod eventlog;
pub mod evidence;
pub mod fdt;
pub mod hex;
pub mod mapping;
pub mod memory;
pub mod mutation;
pub mod pcie;
pub mod phases;
pub mod platform;
pub mod policy;
pub mod rhi;
pub mod rsi;
mod say;
pub mod sort;
pub mod tdi;
