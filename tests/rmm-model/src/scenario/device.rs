//! One assigned device.

use alloc::string::String;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{EvidenceKind, PublicKeyDigest, ReportSpec, SpdmSpec};
use crate::digest::HashAlgorithm;

/// One assigned device.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceSpec {
    /// Slot path in hexadecimal digits: `02.0`, or `03.0/00.0` behind the bridge at 03.0.
    pub slot: String,
    /// Devices with the same parent share one security manager: one operation at a time, else BUSY. Empty = alone.
    pub parent: String,
    /// Hash algorithm of the PDEV.
    pub hash: HashAlgorithm,
    /// MMIO reporting offset; report address = real address + this.
    pub mro: u64,
    /// Ranges of the interface report; empty = made from BARs and MSI-X capability.
    pub ranges: Vec<RangeSpec>,
    /// Interface info field of the report.
    pub interface_info: u16,
    /// Device-specific data of the report.
    pub vendor: Blob,
    /// How the device proves what it is.
    pub evidence: EvidenceKind,
    /// Session, certificates and measurements.
    pub spdm: SpdmSpec,
    /// Public key digest of the VDEV info.
    pub public_key_digest: PublicKeyDigest,
    /// Form of the interface report.
    pub report: ReportSpec,
    /// Certificate chain object; none = what `spdm` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Blob>,
    /// Certificate slot number (identity index).
    pub certificate_slot: u64,
    /// VCA object; none = what `spdm` says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vca: Option<Blob>,
    /// Measurement object; none = what `spdm` says. Generated ones differ at each refresh.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measurements: Option<Blob>,
    /// INCOMPLETE answers of each operation of this device; none = what the host says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub incomplete: Option<u32>,
    /// DevCap bit 30, TEE-IO supported, as the realm sees it.
    pub tee_io: bool,
    /// What DMA_ENABLE does.
    pub dma_enable: DmaEnable,
    /// What DMA reaches while the device is unlocked.
    pub unlocked_dma: UnlockedDma,
    /// What the host did with the device before the realm ran.
    pub earlier: EarlierSession,
    /// What a shell puts at the slot; the model itself only asks whether it is a virtual function.
    pub model: DeviceModel,
    /// Slot path of the physical function, for [`DeviceModel::IgbVf`].
    pub pf: String,
    /// Which virtual function of `pf`, from 0.
    pub vf: u8,
    /// For the packer: what the policy says about the slot.
    pub rule: Rule,
    /// For the packer: the policy says that the device's reset at lock makes it quiet.
    pub quiet_device: bool,
    /// For the packer: lines of the device's rule; keys that they set are not made.
    pub policy: String,
    /// For whoever judges a hand-off: the mode that the device must be in, `run`, `pin`, `shared` or `hide`; empty = what
    /// `rule` says.
    pub expect: String,
    /// False: an ordinary function that the VMM emulates; RSI and RHI do not know it.
    pub tdi: bool,
    /// For the shells: what the host tells the device's DMA engine to do behind the realm's back.
    pub host_dma: Vec<HostDma>,
    /// The lock covers MSI-X: a change of its control in LOCKED or RUN is an error (lock flag bit 2, `tdisp.md` 1).
    pub lock_msix: bool,
}

impl Default for DeviceSpec {
    fn default() -> DeviceSpec {
        DeviceSpec {
            slot: String::new(),
            parent: String::new(),
            hash: HashAlgorithm::Sha384,
            mro: 0x0200_0000_0000,
            ranges: Vec::new(),
            interface_info: 0b11,
            vendor: Blob::generated(12),
            evidence: EvidenceKind::Spdm,
            spdm: SpdmSpec::default(),
            public_key_digest: PublicKeyDigest::Zero,
            report: ReportSpec::default(),
            certificate: None,
            certificate_slot: 0,
            vca: None,
            measurements: None,
            incomplete: None,
            tee_io: true,
            dma_enable: DmaEnable::Honour,
            unlocked_dma: UnlockedDma::Abort,
            earlier: EarlierSession::None,
            model: DeviceModel::Nvme,
            pf: String::new(),
            vf: 0,
            rule: Rule::Require,
            quiet_device: false,
            policy: String::new(),
            expect: String::new(),
            tdi: true,
            host_dma: Vec::new(),
            lock_msix: false,
        }
    }
}

/// One write by DMA that the host starts, once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HostDma {
    /// When.
    pub at: DmaMoment,
    /// Where to.
    pub to: DmaTarget,
}

/// When the host starts DMA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DmaMoment {
    /// The realm has just turned bus mastering on: the unlocked device reaches shared pages.
    #[default]
    Mastering,
    /// The device was just locked.
    Locked,
    /// A range of the device was just validated.
    Mapped,
    /// DMA_ENABLE has just opened the gate.
    Enabled,
    /// The device was just unlocked.
    Unlocked,
    /// The realm powers off.
    End,
}

/// Where the host lets a device write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DmaTarget {
    /// The last page of RAM, by its private address.
    #[default]
    Private,
    /// Memory that the realm shares, through the alias.
    Shared,
}

/// What stands at a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DeviceModel {
    /// NVMe controller.
    #[default]
    Nvme,
    /// QEMU's educational device.
    Edu,
    /// Physical function of an Intel 82576.
    Igb,
    /// Virtual function of an Intel 82576: `pf` and `vf` say which.
    IgbVf,
    /// AHCI controller.
    Ahci,
    /// xHCI controller.
    Xhci,
    /// virtio-blk; never a TDI.
    VirtioBlk,
    /// virtio-net; never a TDI.
    VirtioNet,
    /// virtio-serial with one port, for a verifier; never a TDI.
    VirtioSerial,
}

impl DeviceModel {
    /// Says whether the VMM emulates all of it, so that it cannot be a TDI.
    pub const fn is_virtio(self) -> bool {
        matches!(self, DeviceModel::VirtioBlk | DeviceModel::VirtioNet | DeviceModel::VirtioSerial)
    }
}

/// What the bundle says about a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rule {
    /// Must be accepted, or the boot stops.
    #[default]
    Require,
    /// Accepted or made quiet.
    Optional,
    /// Mode `shared`: never locked.
    Shared,
    /// Not listed.
    None,
}

/// One range of an interface report (`tdisp.md` section 2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RangeSpec {
    /// BAR number.
    pub bar: u16,
    /// Range id, if it is not the BAR number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<u16>,
    /// First byte in the BAR, a multiple of 4096.
    pub offset: u64,
    /// Pages.
    pub pages: u32,
    /// Attributes: bit 0 MSI-X table, 1 PBA, 2 non-TEE, 3 updatable.
    pub attributes: u16,
}

/// Opaque bytes: given as digits, or generated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Blob {
    /// Hexadecimal digits; if not empty they are the bytes.
    pub hex: String,
    /// File whose bytes a host program puts into `hex` before the model sees the scenario.
    pub file: String,
    /// Bytes to generate.
    pub len: u32,
    /// Seed of the generated bytes, mixed with that of the scenario.
    pub seed: u64,
}

impl Blob {
    /// Asks for `len` generated bytes.
    pub fn generated(len: u32) -> Blob {
        Blob { len, ..Blob::default() }
    }

    /// Carries these bytes.
    pub fn bytes(bytes: &[u8]) -> Blob {
        Blob { hex: crate::digest::to_hex(bytes), ..Blob::default() }
    }
}

/// What RSI_VDEV_DMA_ENABLE does once all its checks pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DmaEnable {
    /// Opens the realm's protected half to the device.
    #[default]
    Honour,
    /// Answers SUCCESS and leaves DMA aborted: proves that it is this call that lets data through.
    Ignored,
}

/// A session with the device before the realm ran, of which the RMM still has the VDEV: nonces and digests of its
/// report and measurements (`rsi.md` 5.1: a new lock does not clear them).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EarlierSession {
    /// None: there is no VDEV until the realm asks for a lock.
    #[default]
    None,
    /// Locked, measured, reported and unlocked again.
    Unlocked,
    /// Locked, measured, reported and left so.
    Locked,
}

/// What DMA of an unlocked device reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UnlockedDma {
    /// Nothing.
    #[default]
    Abort,
    /// Shared pages, while the realm has bus mastering on (an ordinary assigned device with bounce buffers).
    Shared,
}
