//! The machine: nearly all unsafe code and all assembly of the project.
//!
//! `aarch64` on bare metal, `host` on the developer's machine; both implement the traits of
//! [`crate::platform`] and [`crate::conduit`]. Nothing else in the crate knows which one it runs on.

#[cfg(all(target_arch = "aarch64", target_os = "none"))]
#[expect(unsafe_code, reason = "the machine itself: registers, page tables, MMIO, SMC")]
pub mod aarch64;

#[cfg(not(all(target_arch = "aarch64", target_os = "none")))]
#[expect(unsafe_code, reason = "the model reads and writes realm RAM, which is this process's memory")]
pub mod host;

pub mod ns16550;
