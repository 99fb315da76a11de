//! PCI configuration space: the offsets and bits that the firmware uses (PCI Local Bus 3.0 chapter 6, PCIe Base 6.0
//! chapter 7) and the NVMe controller registers of the idle check (NVMe Base 2.0, 3.1.3).
//!
//! Trust: every value read is the host's; after validation the NVMe registers are the device's.

use bitflags::bitflags;

/// Vendor and device id.
pub const ID: u16 = 0x00;
/// Command (16 bits).
pub const COMMAND: u16 = 0x04;
/// Status (16 bits).
pub const STATUS: u16 = 0x06;
/// Revision id and class code (32 bits).
pub const CLASS_REVISION: u16 = 0x08;
/// Header type (8 bits).
pub const HEADER_TYPE: u16 = 0x0e;
/// First base address register.
pub const BAR0: u16 = 0x10;
/// Subsystem vendor and device id.
pub const SUBSYSTEM: u16 = 0x2c;
/// Expansion ROM base address.
pub const ROM: u16 = 0x30;
/// First capability (8 bits).
pub const CAPABILITIES: u16 = 0x34;
/// Number of base address registers of an endpoint.
pub const NUM_BARS: u8 = 6;
/// Bridge: primary, secondary and subordinate bus number, latency timer.
pub const BUS_NUMBERS: u16 = 0x18;
/// Bridge: I/O base and limit (16 bits).
pub const IO_WINDOW: u16 = 0x1c;
/// Bridge: memory base and limit.
pub const MEMORY_WINDOW: u16 = 0x20;
/// Bridge: prefetchable memory base and limit, the low halves.
pub const PREFETCHABLE_WINDOW: u16 = 0x24;
/// Bridge: upper 32 bits of the prefetchable base.
pub const PREFETCHABLE_BASE_UPPER: u16 = 0x28;
/// Bridge: upper 32 bits of the prefetchable limit.
pub const PREFETCHABLE_LIMIT_UPPER: u16 = 0x2c;
/// Number of base address registers of a bridge.
pub const NUM_BRIDGE_BARS: u16 = 2;
/// Bus numbers: the bits that can be written on every bridge; the latency timer is fixed on PCI Express.
pub const BUS_NUMBERS_MASK: u32 = 0x00ff_ffff;
/// Memory and prefetchable window: address bits 31:20 of base and limit; the low nibbles tell the type.
pub const WINDOW_MASK: u32 = 0xfff0_fff0;
/// Memory and prefetchable window: base above limit, nothing is forwarded.
pub const WINDOW_CLOSED: u32 = 0x0000_fff0;
/// I/O window: base above limit.
pub const IO_WINDOW_CLOSED: u16 = 0x00f0;
/// Granularity of a bridge's memory windows, in bytes.
pub const WINDOW_UNIT: u64 = 1 << 20;

bitflags! {
    /// Command register.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Command: u16 {
        /// Decode I/O.
        const IO = 1 << 0;
        /// Decode memory (MSE).
        const MEMORY = 1 << 1;
        /// Bus master (BME).
        const BUS_MASTER = 1 << 2;
        /// INTx off.
        const INTX_DISABLE = 1 << 10;
    }
}

/// Status: the capability list is there.
pub const STATUS_CAPABILITIES: u16 = 1 << 4;
/// Header type: more than function 0.
pub const HEADER_MULTI_FUNCTION: u8 = 1 << 7;
/// Header layout of an endpoint.
pub const HEADER_ENDPOINT: u8 = 0;
/// Header layout of a PCI-to-PCI bridge.
pub const HEADER_BRIDGE: u8 = 1;
/// Vendor id where no function answers.
pub const NO_VENDOR: u16 = 0xffff;
/// Vendor id of virtio devices (VIRTIO 1.2, 4.1.2).
pub const VENDOR_VIRTIO: u16 = 0x1af4;
/// Device ids of transitional virtio devices: the subsystem id is the type (VIRTIO 1.2, 4.1.2.3).
pub const VIRTIO_TRANSITIONAL: core::ops::RangeInclusive<u16> = 0x1000..=0x103f;
/// Device ids of other virtio devices: 0x1040 plus the type (VIRTIO 1.2, 4.1.2.1).
pub const VIRTIO_MODERN: core::ops::RangeInclusive<u16> = 0x1040..=0x107f;

/// BAR: I/O space.
pub const BAR_IO: u32 = 1 << 0;
/// BAR: type field, 32-bit or 64-bit.
pub const BAR_TYPE_MASK: u32 = 0x6;
/// BAR: 64-bit.
pub const BAR_TYPE_64: u32 = 0x4;
/// BAR: prefetchable.
pub const BAR_PREFETCHABLE: u32 = 1 << 3;
/// BAR: the address bits of a memory BAR.
pub const BAR_ADDRESS_MASK: u32 = !0xf;

/// ROM base address: decode.
pub const ROM_ENABLE: u32 = 1 << 0;

/// Capability id: power management.
pub const CAP_POWER: u8 = 0x01;
/// Capability id: MSI.
pub const CAP_MSI: u8 = 0x05;
/// Capability id: PCI Express.
pub const CAP_EXPRESS: u8 = 0x10;
/// Capability id: MSI-X.
pub const CAP_MSIX: u8 = 0x11;
/// Device capabilities, from the PCI Express capability.
pub const EXP_DEVICE_CAPABILITIES: u16 = 0x04;
/// Device control, from the PCI Express capability.
pub const EXP_DEVICE_CONTROL: u16 = 0x08;
/// Device capabilities: function level reset.
pub const DEVCAP_FLR: u32 = 1 << 28;
/// Device capabilities: TEE-IO supported. A hint of the host, never a criterion.
pub const DEVCAP_TEE_IO: u32 = 1 << 30;
/// Device control: initiate function level reset.
pub const DEVCTL_INITIATE_FLR: u16 = 1 << 15;
/// Device capabilities 2, from the PCI Express capability.
pub const EXP_DEVICE_CAPABILITIES_2: u16 = 0x24;
/// Device control 2, from the PCI Express capability.
pub const EXP_DEVICE_CONTROL_2: u16 = 0x28;
/// Device capabilities 2: ARI forwarding.
pub const DEVCAP2_ARI_FORWARDING: u32 = 1 << 5;
/// Device control 2: ARI forwarding.
pub const DEVCTL2_ARI_FORWARDING: u16 = 1 << 5;
/// PCI Express capabilities register: root port, in the type field (bits 7:4).
pub const PORT_ROOT: u8 = 4;
/// PCI Express capabilities register: downstream port of a switch.
pub const PORT_DOWNSTREAM: u8 = 6;
/// Power management control and status, from the power management capability.
pub const POWER_CONTROL: u16 = 0x04;
/// Power management control and status: the state, 0 is D0.
pub const POWER_STATE: u16 = 3;
/// Message control of MSI: enable.
pub const MSI_ENABLE: u16 = 1 << 0;
/// Message control of MSI-X: enable.
pub const MSIX_ENABLE: u16 = 1 << 15;

/// First extended capability.
pub const EXTENDED_CAPABILITIES: u16 = 0x100;
/// Extended capability id: alternative routing-id interpretation.
pub const EXT_CAP_ARI: u16 = 0x0e;
/// Extended capability id: single root I/O virtualisation.
pub const EXT_CAP_SRIOV: u16 = 0x10;
/// ARI capability register (16 bits), from its capability: next function number in the upper byte.
pub const ARI_CAPABILITY: u16 = 0x04;
/// SR-IOV control, from its capability.
pub const SRIOV_CONTROL: u16 = 0x08;
/// SR-IOV control: VF Enable.
pub const SRIOV_VF_ENABLE: u16 = 1 << 0;
/// SR-IOV control: VF MSE.
pub const SRIOV_VF_MEMORY: u16 = 1 << 3;

/// Class code of an NVMe controller (mass storage, NVM, NVMe).
pub const CLASS_NVME: u32 = 0x01_0802;

/// NVMe controller capabilities, low half of 64 bits.
pub const NVME_CAP: u64 = 0x00;
/// CAP.MQES: maximum queue entries, zero-based, at least 1.
pub const NVME_CAP_MQES: u32 = 0xffff;
/// NVMe version, 32 bits: major in the upper half.
pub const NVME_VS: u64 = 0x08;
/// NVMe controller configuration register, 32 bits.
pub const NVME_CC: u64 = 0x14;
/// NVMe controller status register, 32 bits.
pub const NVME_CSTS: u64 = 0x1c;
/// CC.EN.
pub const NVME_CC_EN: u32 = 1 << 0;
/// CSTS.RDY.
pub const NVME_CSTS_RDY: u32 = 1 << 0;
/// What a read returns when the device does not answer.
pub const ALL_ONES_32: u32 = u32::MAX;
