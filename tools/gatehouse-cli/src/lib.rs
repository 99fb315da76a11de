//! Host tool of Gatehouse: makes the one file that a VMM loads, and reads it back.
//!
//! [`pack::Pack`] makes a bundle and appends it to the firmware, [`attach::Attach`] takes one that exists, [`elf::flatten`] makes a flat image of the firmware's ELF file,
//! [`inspect::Image`] reads an image file the way the firmware does, [`rim`] predicts what an RMM measures of it,
//! [`eventlog::EventLog`] reads the log that the firmware leaves.
pub mod attach;
pub mod cursor;
pub mod elf;
pub mod eventlog;
pub mod files;
pub mod filetype;
pub mod foresee;
pub mod inspect;
pub mod jwt;
pub mod kernel;
pub mod pack;
pub mod policy;
pub mod region;
pub mod rem;
pub mod replay;
pub mod rim;
pub mod show;
pub mod strict;
pub mod table;
pub mod token;
pub mod verify;

/// Returns bytes as lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
