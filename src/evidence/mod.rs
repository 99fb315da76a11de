//! Evidence: the four objects of a device, compared with what the RMM vouches for, and the interface report.
//!
//! Trust: the objects come from the host; they count only after their digest matched. Pure functions of bytes.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

mod digest;
mod report;

pub use digest::{DigestError, Evidence, Objects, vouched};
pub use report::{InterfaceReport, ReportError, ReportedRange};
