//! Virtio-mmio transports: identification and status, no queues.

use alloc::vec::Vec;

/// Bytes of one transport.
const LEN: u64 = 0x200;

/// One transport (VIRTIO 1.2, 4.2.2).
#[derive(Clone, Debug)]
pub struct Transport {
    /// Address of its first register.
    pub base: u64,
    /// MagicValue.
    pub magic: u32,
    /// Version.
    pub version: u32,
    /// DeviceID; 0 is an empty transport.
    pub device: u32,
    /// Status.
    pub status: u32,
    /// How many reads of the status a reset takes.
    pub slow: u32,
    /// Registers written, with their values.
    pub writes: Vec<(u64, u64)>,
}

impl Transport {
    /// Makes a transport whose driver was running.
    pub fn new(base: u64, device: u32) -> Transport {
        let status = if device == 0 { 0 } else { 0xf };
        Transport { base, magic: 0x7472_6976, version: 2, device, status, slow: 0, writes: Vec::new() }
    }

    /// Returns the offset of a register.
    pub(super) fn offset(&self, pa: u64) -> Option<u64> {
        pa.checked_sub(self.base).filter(|offset| *offset < LEN)
    }

    pub(super) fn read(&mut self, offset: u64) -> u64 {
        let value = match offset {
            0x00 => self.magic,
            0x04 => self.version,
            0x08 => self.device,
            0x70 if self.slow > 0 => {
                self.slow -= 1;
                0x40
            }
            0x70 => self.status,
            _ => 0,
        };
        value.into()
    }

    pub(super) fn write(&mut self, offset: u64, value: u64) {
        self.writes.push((offset, value));
        if offset == 0x70 {
            self.status = value as u32;
        }
    }
}
