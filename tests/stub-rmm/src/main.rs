//! The stub RMM: an EL2 program for QEMU virt around `rmm-model`.
//!
//! It is RMM, host and VMM in one: stage 2 with a protected and an alias half, SMCs and the configuration space
//! trapped, an SMMUv3 that blocks DMA, the image and the device tree placed. Decisions are the model's; what is here
//! moves registers and tables. How to run it: README.md beside this crate's manifest.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
extern crate alloc;

#[cfg(target_os = "none")]
mod boot;
#[cfg(target_os = "none")]
mod cpu;
#[cfg(target_os = "none")]
mod exceptions;
#[cfg(target_os = "none")]
mod host_dma;
#[cfg(target_os = "none")]
mod idregs;
#[cfg(target_os = "none")]
mod layout;
#[cfg(target_os = "none")]
mod log;
#[cfg(target_os = "none")]
mod machine;
#[cfg(target_os = "none")]
mod mmio;
#[cfg(target_os = "none")]
mod pmu;
#[cfg(target_os = "none")]
mod proof;
#[cfg(target_os = "none")]
#[cfg(target_os = "none")]
mod semihost;
#[cfg(target_os = "none")]
mod shell;
#[cfg(target_os = "none")]
mod smmu;
#[cfg(target_os = "none")]
mod stage2;
#[cfg(target_os = "none")]
mod start;
#[cfg(target_os = "none")]
mod tree;
#[cfg(target_os = "none")]
mod uart;
#[cfg(target_os = "none")]
mod vmm;

#[cfg(target_os = "none")]
use start::{CANARY, second_main, stub_main};

#[cfg(not(target_os = "none"))]
fn main() {}
