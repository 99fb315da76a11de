//! Host tool of Gatehouse: makes the one file that a VMM loads, and reads it back.
//!
//! [`pack::Pack`] appends a bundle to the firmware, [`elf::flatten`] makes a flat image of the firmware's ELF file,
//! [`inspect::Image`] reads an image file the way the firmware does, [`rim`] predicts what an RMM measures of it.
pub mod elf;
pub mod filetype;
pub mod inspect;
pub mod pack;
pub mod policy;
pub mod rim;

/// Returns bytes as lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
