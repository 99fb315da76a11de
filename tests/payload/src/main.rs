//! The demo payload: checks, from inside the realm, what Gatehouse handed it.
//!
//! It is packed as `kernel` of a bundle with `gatehouse,os = "native"`, an arm64 Image that is entered by the Linux boot
//! protocol. It prints one `RESULT <name> pass|fail [detail]` line for each check of [`checks`], then one
//! `RESULT <name>@<bb:dd.f> ..` line for each check of each function in [`function_checks`], then `RESULT-END`, and
//! powers off. Any exception prints `RESULT exception fail ..` and powers off. It shares no code with the firmware:
//! a mistake must not cancel itself.
//!
//! Trust: tree, registers and memory come from the firmware, which is what is under test; the console, config space
//! and device registers are only ever values to compare.
//!
//! **MMU and caches stay off.** Accesses are device accesses then: aligned ones only (the target has strict
//! alignment), no exclusives. On hardware the RMM and a coherent device work on memory through the caches while we
//! bypass them, so every buffer that they read or write is cleaned and invalidated by address before and after
//! ([`memory::Page::hand_over`], [`memory::Page::take_back`]), and the image before its first use (`entry`). QEMU has
//! no caches: these rows cannot fail there.
#![cfg_attr(target_os = "none", no_std, no_main)]
#![deny(unsafe_code)]

#[cfg(all(target_arch = "aarch64", target_os = "none"))]
mod checks;
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
#[expect(unsafe_code, reason = "the UART's data register")]
mod console;
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
#[expect(unsafe_code, reason = "instructions that Rust cannot express")]
mod cpu;
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
mod device;
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
mod edu;
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
#[expect(unsafe_code, reason = "entry, vectors and the image's borders")]
mod entry;
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
mod enumerate;
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
mod function_checks;
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
mod idle;
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
mod leftovers;
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
#[expect(unsafe_code, reason = "pages that others write")]
mod memory;
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
#[expect(unsafe_code, reason = "stores to device registers")]
mod mmio;
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
mod nvme;
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
mod pci;
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
mod pin;
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
#[expect(unsafe_code, reason = "calls that write memory")]
mod rsi;
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
#[expect(unsafe_code, reason = "the tree lies where x0 says")]
mod tree;
#[cfg(all(target_arch = "aarch64", target_os = "none"))]
mod tree_check;

#[cfg(not(target_os = "none"))]
fn main() {}
