//! The model's machine on real (QEMU's) hardware.

use crate::layout::{ALIAS_BIT, ECAM_BASE, ECAM_SIZE, PAGE};
use crate::mmio::{self, RealmRam};
use crate::smmu::Smmu;
use crate::stage2::{Kind, Stage2};
use crate::{cpu, host_dma, log, pmu, proof};
use alloc::collections::BTreeMap;
use rmm_model::FinalState;
use rmm_model::machine::{DmaGate, Leaf, Machine};
use rmm_model::record::Record;
use serde_json::json;

/// Everything that the model acts on.
#[derive(Debug)]
pub struct Hardware {
    /// The realm's memory.
    pub ram: RealmRam,
    /// Translation tables of CPU and devices.
    pub stage2: Stage2,
    /// The gatekeeper of DMA.
    pub smmu: Smmu,
    /// What the model asked for, for the proof at the end.
    pub gates: BTreeMap<u16, DmaGate>,
    /// Calls of `set_leaf`.
    pub leaf_changes: u64,
    /// What the host makes devices do.
    pub host_dma: host_dma::Plan,
}

impl Hardware {
    /// Takes the parts.
    pub fn new(ram: RealmRam, stage2: Stage2, smmu: Smmu) -> Self {
        Self {
            ram,
            stage2,
            smmu,
            gates: BTreeMap::new(),
            leaf_changes: 0,
            host_dma: host_dma::Plan::default(),
        }
    }

    /// Logs what one stream reaches by the SMMU's own tables.
    fn snapshot(&self, rid: u16, when: &str) {
        log::value(&json!({
            "stub": "stream", "rid": rid, "when": when, "ticks": cpu::ticks(), "reach": proof::reach(self, rid),
        }));
    }

    /// The same for every device, before the realm is entered.
    pub fn snapshot_all(&self, state: &FinalState) {
        for rid in state.devices.iter().filter_map(|device| proof::routing_id(&device.bdf)) {
            self.snapshot(rid, "start");
        }
    }

    fn config_address(rid: u16, offset: u16, width: u8) -> u64 {
        let width = u64::from(width);
        assert!(matches!(width, 1 | 2 | 4) && u64::from(offset) + width <= PAGE);
        let address = (u64::from(rid) << 12) + u64::from(offset);
        assert!(address < ECAM_SIZE && address.is_multiple_of(width));
        ECAM_BASE + address
    }
}

impl Machine for Hardware {
    fn read(&mut self, ipa: u64, buf: &mut [u8]) {
        self.ram.read(ipa, buf);
    }

    fn write(&mut self, ipa: u64, data: &[u8]) {
        self.ram.write(ipa, data);
    }

    fn zero(&mut self, base: u64, num_pages: u64) {
        self.ram.zero(base, (num_pages * PAGE) as usize);
    }

    fn set_leaf(&mut self, base: u64, num_pages: u64, leaf: Leaf) {
        let len = num_pages * PAGE;
        assert!(
            base.checked_add(len).is_some_and(|end| end <= ALIAS_BIT),
            "leaf {base:#x} + {num_pages:#x} pages"
        );
        let is_ram = self.ram.contains(base, len);
        let (protected, alias) = match leaf {
            Leaf::None => (None, None),
            Leaf::PrivateRam => (Some((base, Kind::Ram)), None),
            Leaf::SharedRam => (None, Some((base, Kind::RamNoExec))),
            Leaf::SharedDevice { pa } => (None, Some((pa, Kind::Device))),
            Leaf::PrivateDevice { pa } => (Some((pa, Kind::Device)), None),
        };
        // The stub's own memory, its SMMU and the configuration space are never mapped.
        match leaf {
            Leaf::None => (),
            Leaf::PrivateRam | Leaf::SharedRam => assert!(is_ram, "{base:#x} is not the realm's RAM"),
            Leaf::SharedDevice { pa } | Leaf::PrivateDevice { pa } => {
                assert!(may_map(pa, len), "device page {pa:#x}")
            }
        }
        // What goes away goes first, so that no page is ever in both halves.
        for (half, to) in [(0, protected), (ALIAS_BIT, alias)] {
            if to.is_none() {
                self.stage2.map(base + half, num_pages, None);
            }
        }
        Stage2::invalidate();
        for (half, to) in [(0, protected), (ALIAS_BIT, alias)] {
            if to.is_some() {
                self.stage2.map(base + half, num_pages, to);
            }
        }
        Stage2::invalidate();
        self.smmu.invalidate();
        self.leaf_changes += 1;
    }

    fn set_dma(&mut self, rid: u16, gate: DmaGate) {
        self.snapshot(rid, "before");
        self.smmu.set(rid, gate, &self.stage2);
        self.snapshot(rid, "after");
        self.gates.insert(rid, gate);
        self.smmu.drain();
    }

    fn config_read(&mut self, rid: u16, offset: u16, width: u8) -> u32 {
        mmio::read(Self::config_address(rid, offset, width), width) as u32
    }

    fn config_write(&mut self, rid: u16, offset: u16, width: u8, value: u32) {
        mmio::write(Self::config_address(rid, offset, width), width, value.into());
    }

    fn device_read(&mut self, pa: u64, width: u8) -> u64 {
        mmio::read(pa, width)
    }

    fn device_write(&mut self, pa: u64, width: u8, value: u64) {
        mmio::write(pa, width, value);
    }

    fn ticks(&mut self) -> u64 {
        cpu::ticks()
    }

    fn record(&mut self, record: &Record) {
        let mut json = serde_json::to_vec(record).unwrap_or_default();
        if let (Some(count), Some(b'}')) = (pmu::instructions(), json.last()) {
            json.pop();
            json.extend_from_slice(alloc::format!(",\"instructions\":{count}}}").as_bytes());
        }
        log::line(&json);
        host_dma::on(self, record);
    }
}

/// Whether device pages may be shown to the realm: below RAM or above it, but neither SMMU nor configuration space.
fn may_map(pa: u64, len: u64) -> bool {
    use crate::layout::{RAM_BASE, SMMU_BASE};
    let Some(end) = pa.checked_add(len) else { return false };
    let apart = |base: u64, size: u64| end <= base || pa >= base + size;
    end <= 1 << 40
        && apart(RAM_BASE, ECAM_BASE - RAM_BASE)
        && apart(SMMU_BASE, 0x2_0000)
        && apart(ECAM_BASE, ECAM_SIZE)
}
