//! The event log of the TCG PC Client Platform Firmware Profile, version 1.06: record types and layouts (sections 10.2 to
//! 10.5), EFI device paths (UEFI 2.10, section 10.3), and the numbers of our own tagged events (docs/event-log.md).

/// Event type: not extended.
pub const EV_NO_ACTION: u32 = 0x03;
/// Event type: end of what a boot stage measures.
pub const EV_SEPARATOR: u32 = 0x04;
/// Event type: `TCG_PCClientTaggedEvent`.
pub const EV_EVENT_TAG: u32 = 0x06;
/// Event type: measurement blocks of device firmware.
pub const EV_EFI_SPDM_FIRMWARE_BLOB: u32 = 0x8000_00e1;
/// Event type: measurement blocks of device configuration.
pub const EV_EFI_SPDM_FIRMWARE_CONFIG: u32 = 0x8000_00e2;
/// Event type: what devices are verified against.
pub const EV_EFI_SPDM_DEVICE_POLICY: u32 = 0x8000_00e3;
/// Event type: what a device was verified by.
pub const EV_EFI_SPDM_DEVICE_AUTHORITY: u32 = 0x8000_00e4;

/// `TCG_EfiSpecIDEvent` up to the number of algorithms: signature, platform class 0, version 2.0, errata 105, 64-bit.
pub const SPEC_ID: &[u8; 24] = b"Spec ID Event03\0\0\0\0\0\x00\x02\x69\x02";
/// Algorithm number of SHA-256 (TPM_ALG_ID).
pub const ALG_SHA256: u16 = 0x000b;
/// Algorithm number of SHA-384.
pub const ALG_SHA384: u16 = 0x000c;
/// Algorithm number of SHA-512.
pub const ALG_SHA512: u16 = 0x000d;
/// Bytes of the digest in a record of the old form: SHA-1.
pub const OLD_DIGEST_LEN: usize = 20;

/// PCR of the Spec ID event.
pub const PCR_RIM: u32 = 0;
/// PCR of the firmware's own configuration.
pub const PCR_CONFIG: u32 = 1;
/// PCR of device firmware.
pub const PCR_FIRMWARE: u32 = 2;
/// PCR of device configuration.
pub const PCR_FIRMWARE_CONFIG: u32 = 3;
/// PCR of inventory, verdicts and outcomes.
pub const PCR_DEVICES: u32 = 6;
/// PCR of the policy and of what authorised devices.
pub const PCR_POLICY: u32 = 7;
/// PCR of the bundle.
pub const PCR_BUNDLE: u32 = 8;
/// PCR of what differs from boot to boot.
pub const PCR_SESSION: u32 = 16;
/// PCRs that get a separator, one for each REM, in this order.
pub const SEPARATED: [u32; 4] = [PCR_POLICY, PCR_DEVICES, PCR_BUNDLE, PCR_SESSION];

/// ed4807a1-ccf5-4bb6-b51a-e76c6d08f390 in UEFI's byte order: vendor GUID of our variables.
pub const GUID: [u8; 16] =
    [0xa1, 0x07, 0x48, 0xed, 0xf5, 0xcc, 0xb6, 0x4b, 0xb5, 0x1a, 0xe7, 0x6c, 0x6d, 0x08, 0xf3, 0x90];

/// Signature of `DEVICE_SECURITY_EVENT_DATA2`.
pub const DEVICE_SIGNATURE: &[u8; 16] = b"SPDM Device Sec2";
/// Its version.
pub const DEVICE_VERSION: u16 = 2;
/// AuthState: signed by a key whose chain was verified.
pub const AUTH_SUCCESS: u8 = 0;
/// AuthState: not authenticated.
pub const AUTH_NONE: u8 = 1;
/// DeviceType: PCI.
pub const DEVICE_TYPE_PCI: u32 = 1;
/// SubHeaderType: measurement blocks.
pub const SUB_HEADER_MEASUREMENTS: u32 = 0;
/// Bytes in front of the device path.
pub const DEVICE_HEADER_LEN: usize = 52;
/// Bytes of a sub-header in front of its blocks.
pub const SUB_HEADER_LEN: usize = 8;
/// Bytes of the PCI context.
pub const PCI_CONTEXT_LEN: u16 = 16;

/// Device path node of the PCI Express root bridge with UID 0: ACPI, PNP0A08.
pub const PATH_ROOT: [u8; 12] = [0x02, 0x01, 0x0c, 0x00, 0xd0, 0x41, 0x08, 0x0a, 0, 0, 0, 0];
/// Device path node of a PCI function, in front of function and device number.
pub const PATH_PCI: [u8; 4] = [0x01, 0x01, 0x06, 0x00];
/// End of a device path.
pub const PATH_END: [u8; 4] = [0x7f, 0xff, 0x04, 0x00];

/// Numbers of our tagged events.
pub mod tag {
    /// What the firmware speaks.
    pub const REALM: u32 = 0x4748_0001;
    /// One function or device of the inventory.
    pub const FUNCTION: u32 = 0x4748_0002;
    /// One exchange of evidence.
    pub const SESSION: u32 = 0x4748_0003;
    /// What was decided about a function or rule.
    pub const VERDICT: u32 = 0x4748_0004;
    /// What is booted.
    pub const BUNDLE: u32 = 0x4748_0005;
    /// What became of a function.
    pub const OUTCOME: u32 = 0x4748_0006;
    /// The final tree.
    pub const TREE: u32 = 0x4748_0007;
}
