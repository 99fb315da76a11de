//! AHCI: the registers of the idle check (Serial ATA AHCI 1.3.1, sections 3.1 and 3.3).
//!
//! Trust: after validation the registers are the device's.

/// Class code of an AHCI controller (mass storage, SATA, AHCI).
pub const CLASS: u32 = 0x01_0601;
/// The BAR of the registers.
pub const BAR: u8 = 5;
/// First byte behind the last port's registers.
pub const REGISTERS_LEN: u64 = PORTS + 32 * PORT_LEN;

/// Capabilities, 32 bits.
pub const CAP: u64 = 0x00;
/// CAP.NP: number of ports, zero-based.
pub const CAP_NP: u32 = 0x1f;
/// Global control, 32 bits.
pub const GHC: u64 = 0x04;
/// GHC.AE: AHCI enable.
pub const GHC_AE: u32 = 1 << 31;
/// Ports implemented, one bit for each.
pub const PI: u64 = 0x0c;
/// Version, 32 bits: major in the upper half.
pub const VS: u64 = 0x10;
/// The one version whose upper half is zero: 0.95.
pub const VS_0_95: u32 = 0x0905;
/// Registers of port 0.
pub const PORTS: u64 = 0x100;
/// Length of a port's registers.
pub const PORT_LEN: u64 = 0x80;
/// Command and status of a port, from its first register.
pub const PORT_CMD: u64 = 0x18;
/// PxCMD.ST: start.
pub const CMD_ST: u32 = 1 << 0;
/// PxCMD.FRE: FIS receive enable.
pub const CMD_FRE: u32 = 1 << 4;
/// PxCMD.FR: FIS receive running.
pub const CMD_FR: u32 = 1 << 14;
/// PxCMD.CR: command list running.
pub const CMD_CR: u32 = 1 << 15;
