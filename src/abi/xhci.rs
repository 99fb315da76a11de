//! xHCI: the registers of the idle check (eXtensible Host Controller Interface 1.2, sections 5.3 and 5.4).
//!
//! Trust: after validation the registers are the device's.

/// Class code of an xHCI controller (serial bus, USB, xHCI).
pub const CLASS: u32 = 0x0c_0330;
/// The BAR of the registers.
pub const BAR: u8 = 0;

/// CAPLENGTH in bits 7:0, HCIVERSION in bits 31:16.
pub const CAPABILITY: u64 = 0x00;
/// HCSPARAMS1.
pub const PARAMETERS: u64 = 0x04;
/// HCSPARAMS1.MaxSlots: device slots, at least 1.
pub const PARAMETERS_SLOTS: u32 = 0xff;
/// HCSPARAMS1.MaxPorts: root hub ports, at least 1.
pub const PARAMETERS_PORTS: u32 = 0xff << 24;
/// Length of the capability registers, and so the least CAPLENGTH.
pub const CAPABILITY_LEN: u64 = 0x20;
/// USB command, from the operational base.
pub const USBCMD: u64 = 0x00;
/// USBCMD.R/S: run.
pub const USBCMD_RUN: u32 = 1 << 0;
/// USB status, from the operational base.
pub const USBSTS: u64 = 0x04;
/// USBSTS.HCH: halted.
pub const USBSTS_HALTED: u32 = 1 << 0;
/// USBSTS.CNR: not ready, nothing but USBSTS may be touched.
pub const USBSTS_NOT_READY: u32 = 1 << 11;
