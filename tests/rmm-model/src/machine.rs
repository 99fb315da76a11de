//! What the model needs from the machine under it. Two of them exist: the EL2 shell on QEMU and [`crate::sim`].
//!
//! Addresses are realm IPAs with the alias bit clear unless a line says otherwise; pages are 4 KiB.

use serde::{Deserialize, Serialize};

use crate::record::Record;

/// What the two halves of one IPA page lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaf {
    /// Neither half is mapped.
    None,
    /// Protected half: the RAM page at PA = IPA, read-write-execute. Alias: unmapped.
    PrivateRam,
    /// Protected half: unmapped. Alias: the same RAM page, read-write, never executable.
    SharedRam,
    /// Protected half: unmapped. Alias: the device page at `pa`.
    SharedDevice {
        /// Address of the real device page.
        pa: u64,
    },
    /// Protected half: the device page at `pa`, never executable. Alias: unmapped.
    PrivateDevice {
        /// Address of the real device page.
        pa: u64,
    },
}

/// What memory the DMA of a function can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DmaGate {
    /// Nothing: every transaction is aborted.
    Abort,
    /// Pages that the realm shares (alias half only).
    SharedOnly,
    /// The realm's protected half (and the interrupt doorbell page), but no alias address.
    PrivateOnly,
}

/// The machine: memory, stage 2, DMA switches, the real configuration space.
pub trait Machine {
    /// Reads RAM.
    fn read(&mut self, ipa: u64, buf: &mut [u8]);
    /// Writes RAM.
    fn write(&mut self, ipa: u64, data: &[u8]);
    /// Fills whole pages of RAM with zeros.
    fn zero(&mut self, base: u64, num_pages: u64);
    /// Maps `num_pages` pages from `base` on; for device leaves `pa` is that of the first page and advances with it.
    /// CPU and SMMU translations are invalidated before this returns.
    fn set_leaf(&mut self, base: u64, num_pages: u64, leaf: Leaf);
    /// Sets the gate of the function with the (real) routing id `rid`; in force when this returns.
    fn set_dma(&mut self, rid: u16, gate: DmaGate);
    /// Reads the real configuration space; `width` is 1, 2 or 4 bytes. All ones where no function answers.
    fn config_read(&mut self, rid: u16, offset: u16, width: u8) -> u32;
    /// Writes the real configuration space.
    fn config_write(&mut self, rid: u16, offset: u16, width: u8, value: u32);
    /// Reads a real device register (used by checks of the model itself, never for the realm); `width` 1, 2, 4, 8.
    fn device_read(&mut self, pa: u64, width: u8) -> u64;
    /// Writes a real device register.
    fn device_write(&mut self, pa: u64, width: u8, value: u64);
    /// Returns the system counter.
    fn ticks(&mut self) -> u64;
    /// Takes one line of the trace.
    fn record(&mut self, record: &Record);
}
