//! Functions on the bus: assigned devices with their TDI, bridges on the way to them, and the rest.

mod config;
mod ecam;
mod enumerate;
mod hotplug;
mod place;
mod registers;
mod report;
mod shadow;
mod sriov;
mod tree;

use alloc::string::String;
use alloc::vec::Vec;

pub(crate) use enumerate::blob;

use crate::board::{PAGE, Range};
use crate::counters::Counters;
use crate::final_state::{DevRange, TdiState};
use crate::machine::{DmaGate, Machine};
use crate::rng::Rng;
use crate::scenario::{DeviceSpec, PublicKeyDigest, RangeSpec, RhiOp, UnlockedDma};
use crate::spdm::{Ask, Fault, Session};
use crate::stage2::Window;

/// Memory space enable, bit 1 of the command register.
pub(crate) const MSE: u16 = 1 << 1;
/// Bus master enable, bit 2.
pub(crate) const BME: u16 = 1 << 2;
/// Routing id of a function behind a bridge without bus number.
pub(crate) const UNREACHABLE: u16 = 0xFFFF;

/// What the RMM holds for a bound device (VDEV); nonces and digests live as long as it.
pub(crate) struct Vdev {
    pub(crate) id: u64,
    /// Number of its creation.
    pub(crate) number: u64,
    /// What the RMM believes.
    pub(crate) state: TdiState,
    pub(crate) lock_nonce: u64,
    pub(crate) measurement_nonce: u64,
    pub(crate) report_nonce: u64,
    /// Objects as cached, of which the RMM took the digests.
    pub(crate) measurements: Option<Vec<u8>>,
    pub(crate) report: Option<Vec<u8>>,
    /// These were made since the last lock.
    pub(crate) is_measured: bool,
    pub(crate) is_reported: bool,
}

impl Vdev {
    pub(crate) fn new(id: u64, number: u64) -> Vdev {
        Vdev {
            id,
            number,
            state: TdiState::Unlocked,
            lock_nonce: 0,
            measurement_nonce: 0,
            report_nonce: 0,
            measurements: None,
            report: None,
            is_measured: false,
            is_reported: false,
        }
    }
}

/// A device operation between its start and its end.
pub(crate) struct Operation {
    pub(crate) op: RhiOp,
    pub(crate) handle: u64,
    /// INCOMPLETE answers left; none = for ever.
    pub(crate) left: Option<u32>,
}

/// Where bytes come from.
pub(crate) enum BlobSource {
    Fixed(Vec<u8>),
    Generated { seed: u64, len: usize },
}

impl BlobSource {
    pub(crate) fn bytes(&self, generation: u64) -> Vec<u8> {
        match self {
            BlobSource::Fixed(bytes) => bytes.clone(),
            BlobSource::Generated { seed, len } => Rng::new(seed.wrapping_add(generation << 32)).bytes(*len),
        }
    }
}

/// One BAR of a function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bar {
    /// Register 0..5.
    pub(crate) index: usize,
    /// Bytes, a power of two, at least a page for TDIs.
    pub(crate) len: u64,
    pub(crate) is_64: bool,
    pub(crate) is_memory: bool,
    /// Low four bits of the register (two for I/O).
    pub(crate) flags: u32,
    /// Real address.
    pub(crate) pa: u64,
}

/// Where the MSI-X tables are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Msix {
    /// Offset of the capability.
    pub(crate) cap: u16,
    /// BAR, offset and bytes of the table.
    pub(crate) table: (u16, u64, u64),
    /// The same of the pending bits.
    pub(crate) pba: (u16, u64, u64),
}

/// One assigned device.
pub(crate) struct Device {
    pub(crate) spec: DeviceSpec,
    pub(crate) parent: String,
    /// Device and function numbers from bus 0 on; the last is its own.
    pub(crate) path: Vec<u8>,
    pub(crate) rid: u16,
    /// First dword of a virtual function, which its own registers do not have.
    pub(crate) vf_ids: Option<u32>,
    pub(crate) bars: Vec<Bar>,
    pub(crate) shadow: shadow::Shadow,
    pub(crate) msix: Option<Msix>,
    /// Ranges of the interface report.
    pub(crate) ranges: Vec<RangeSpec>,
    pub(crate) vendor: Vec<u8>,
    /// The SPDM session; none without such evidence.
    pub(crate) session: Option<Session>,
    pub(crate) vca: Option<Vec<u8>>,
    pub(crate) certificate: Option<Vec<u8>>,
    /// Measurement object that the scenario gives.
    pub(crate) measurements: Option<BlobSource>,
    /// Counts measurement exchanges.
    pub(crate) generation: u64,
    /// The device's own state.
    pub(crate) tdi: TdiState,
    pub(crate) vdev: Option<Vdev>,
    /// Reporting offset of the present lock.
    pub(crate) lock_mro: u64,
    pub(crate) dma_enabled: bool,
    pub(crate) gate: DmaGate,
    /// Pages with RIPAS DEV.
    pub(crate) dev: Vec<DevRange>,
    pub(crate) validated: Vec<DevRange>,
    pub(crate) op: Option<Operation>,
    /// What the realm asked the measurements in progress for.
    pub(crate) ask: Option<Ask>,
    pub(crate) busy_left: u32,
    pub(crate) counters: Counters,
}

impl Device {
    pub(crate) fn command(&self) -> u16 {
        self.shadow.command
    }

    /// Where the realm placed its memory BARs, if it decodes: whole pages. A BAR that is smaller than a page and does
    /// not lie at the start of one is not mapped.
    pub(crate) fn windows(&self) -> impl Iterator<Item = Window> + '_ {
        let decodes = self.shadow.command & MSE != 0;
        let windows = self.bars.iter().filter(move |bar| bar.is_memory && decodes).map(|bar| Window {
            base: self.shadow.base(bar),
            len: bar.len.max(PAGE),
            pa: bar.pa,
        });
        windows.filter(|window| window.base.is_multiple_of(PAGE))
    }

    /// Puts real BARs, decode and bus mastering where they must be; other bits of the command register are zero. BARs
    /// of a virtual function are its physical function's.
    pub(crate) fn place(&self, m: &mut dyn Machine) {
        m.config_write(self.rid, registers::COMMAND, 2, 0);
        if self.vf_ids.is_none() {
            registers::write_bars(m, self.rid, registers::BAR0, &self.bars);
        }
        m.config_write(self.rid, registers::COMMAND, 2, u32::from(MSE | BME));
    }

    /// The gate that state and switches ask for.
    pub(crate) fn wanted_gate(&self) -> DmaGate {
        let may_share = !self.spec.tdi || self.spec.unlocked_dma == UnlockedDma::Shared;
        let shares = may_share && self.shadow.command & BME != 0;
        match self.tdi {
            TdiState::Run if self.dma_enabled => DmaGate::PrivateOnly,
            TdiState::Unlocked if shares => DmaGate::SharedOnly,
            _ => DmaGate::Abort,
        }
    }

    /// The measurement object of an exchange that the realm asked for, or the host by itself; none without SPDM.
    pub(crate) fn measure(&mut self, fault: Option<Fault>) -> Option<Vec<u8>> {
        self.generation += 1;
        let ask = self.ask.take().unwrap_or(Ask { nonce: [0x48; 32], raw: false });
        let session = self.session.as_ref()?;
        Some(match &self.measurements {
            Some(given) => given.bytes(self.generation),
            None => session.exchange(self.vca.as_deref().unwrap_or_default(), ask, self.generation, fault),
        })
    }

    /// Attributes of all report ranges that meet these real addresses.
    pub(crate) fn attributes(&self, pa: u64, len: u64) -> u16 {
        let mut attributes = 0;
        for (range, base) in self.ranges.iter().filter_map(|range| Some((range, self.bar(range.bar)?.pa))) {
            let (from, bytes) = (base + range.offset, u64::from(range.pages) * PAGE);
            if pa < from + bytes && pa + len > from {
                attributes |= range.attributes;
            }
        }
        attributes
    }

    /// IPA ranges of the TEE ranges, where the realm placed the BARs.
    pub(crate) fn tee_ranges(&self) -> Vec<Range> {
        let tee = self.ranges.iter().filter(|range| range.attributes & 0b111 == 0);
        tee.filter_map(|range| {
            let base = self.shadow.base(self.bar(range.bar)?);
            Some(Range::new(base.checked_add(range.offset)?, u64::from(range.pages) * PAGE))
        })
        .collect()
    }

    /// Public key digest of the VDEV info; none = zero.
    pub(crate) fn public_key_digest(&self) -> Option<Vec<u8>> {
        let key = crate::spdm::public_key(self.session.as_ref()?.chain())?;
        match self.spec.public_key_digest {
            PublicKeyDigest::Zero => None,
            PublicKeyDigest::Leaf => Some(self.spec.hash.digest(&[key])),
            PublicKeyDigest::Other => Some(self.spec.hash.digest(&[key, b"other"])),
        }
    }

    pub(crate) fn bar(&self, index: u16) -> Option<&Bar> {
        self.bars.iter().find(|bar| bar.index == usize::from(index))
    }

    /// Takes `[base, top)` out of the pages with RIPAS DEV.
    pub(crate) fn forget_dev(&mut self, base: u64, top: u64) {
        let mut left = Vec::new();
        for range in &self.dev {
            if range.ipa < base {
                left.push(DevRange { len: range.len.min(base - range.ipa), ..*range });
            }
            if range.top() > top {
                let cut = top.saturating_sub(range.ipa);
                left.push(DevRange { ipa: range.ipa + cut, pa: range.pa + cut, len: range.len - cut });
            }
        }
        self.dev = left;
    }

    /// MSI-X message control, now.
    pub(crate) fn msix_control(&self, m: &mut dyn Machine) -> u16 {
        self.msix.map_or(0, |msix| m.config_read(self.rid, msix.cap + 2, 2) as u16)
    }
}

/// A bridge on the way to an assigned device: bus numbers and BARs pass through, windows and command are shadows.
pub(crate) struct Bridge {
    pub(crate) path: Vec<u8>,
    pub(crate) rid: u16,
    /// 0 = no bus number.
    pub(crate) secondary: u8,
    pub(crate) command: u16,
    /// Registers 0x20 to 0x2C.
    pub(crate) windows: [u32; 4],
    /// Its own two BARs.
    pub(crate) bars: Vec<Bar>,
}

impl Bridge {
    /// Windows of its own BARs.
    pub(crate) fn windows(&self) -> impl Iterator<Item = Window> + '_ {
        identity(&self.bars, self.command)
    }
}

/// A function that passes through.
pub(crate) struct Function {
    pub(crate) path: Vec<u8>,
    pub(crate) rid: u16,
    pub(crate) is_bridge: bool,
    /// Bus behind such a bridge; 0 = none.
    pub(crate) secondary: u8,
    pub(crate) bars: Vec<Bar>,
    pub(crate) command: u16,
}

impl Function {
    /// Windows that it decodes.
    pub(crate) fn windows(&self) -> impl Iterator<Item = Window> + '_ {
        identity(&self.bars, self.command)
    }
}

/// Windows of BARs that pass through, IPA = PA, whole pages.
fn identity(bars: &[Bar], command: u16) -> impl Iterator<Item = Window> + '_ {
    let decodes = command & MSE != 0;
    bars.iter().filter(move |bar| bar.is_memory && decodes && bar.pa != 0).map(|bar| {
        let base = bar.pa & !(PAGE - 1);
        Window { base, len: bar.len.max(PAGE), pa: base }
    })
}
