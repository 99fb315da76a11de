//! SMMUv3 with stage 2 only: what really keeps a device's DMA out of memory. Polled, linear stream table.

use crate::layout::{IPA_WIDTH, SMMU_BASE, SMMU_QUEUES, SMMU_STREAMS};
use crate::mmio::{read32, write32, write64};
use crate::stage2::{Stage2, VTCR};
use core::arch::asm;
use rmm_model::machine::DmaGate;

const IDR0: u64 = SMMU_BASE;
const CR0: u64 = SMMU_BASE + 0x20;
const CR0ACK: u64 = SMMU_BASE + 0x24;
const CR1: u64 = SMMU_BASE + 0x28;
const CR2: u64 = SMMU_BASE + 0x2c;
const GBPA: u64 = SMMU_BASE + 0x44;
const GERROR: u64 = SMMU_BASE + 0x60;
const GERRORN: u64 = SMMU_BASE + 0x64;
const STRTAB_BASE: u64 = SMMU_BASE + 0x80;
const STRTAB_BASE_CFG: u64 = SMMU_BASE + 0x88;
const CMDQ_BASE: u64 = SMMU_BASE + 0x90;
const CMDQ_PROD: u64 = SMMU_BASE + 0x98;
const CMDQ_CONS: u64 = SMMU_BASE + 0x9c;
const EVENTQ_BASE: u64 = SMMU_BASE + 0xa0;
const EVENTQ_PROD: u64 = SMMU_BASE + 0x1_00a8;
const EVENTQ_CONS: u64 = SMMU_BASE + 0x1_00ac;

/// GBPA: UPDATE and ABORT, incoming attributes.
const GBPA_ABORT: u32 = 0x8010_0000;
/// GERROR: an event was lost.
const GERROR_EVENTQ: u32 = 1 << 2;
/// Tables and queues: inner shareable, write-back.
const CR1_VALUE: u32 = 0xd75;
/// RECINVSID and PTM: record bad stream ids, no broadcast TLB maintenance.
const CR2_VALUE: u32 = 6;
/// Read-allocate hint in the base registers.
const ALLOCATE: u64 = 1 << 62;
const LOG2_STREAMS: u32 = 16;
const LOG2_COMMANDS: u32 = 8;
const LOG2_EVENTS: u32 = 10;
const COMMANDS: u64 = SMMU_QUEUES;
const EVENTS: u64 = SMMU_QUEUES + 0x8000;

const CMD_CFGI_ALL: [u64; 2] = [0x04, 31];
const CMD_TLBI_NSNH_ALL: [u64; 2] = [0x30, 0];
const CMD_SYNC: [u64; 2] = [0x46, 0];

const STE_ABORT: u64 = 1;
const STE_STAGE2: u64 = 0xd;
/// Word 1: SHCFG, incoming shareability.
const STE_SHARE_INCOMING: u64 = 1 << 44;
/// Word 2: S2AA64 and S2R (record faults).
const STE_S2AA64: u64 = 1 << 51;
const STE_S2R: u64 = 1 << 58;
const VMID_PRIVATE: u64 = 2;
const VMID_SHARED: u64 = 3;

/// Events that the SMMU reported, by kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Events {
    /// Translation faults: the function reached for a page that its root does not have.
    pub translation: u64,
    /// Permission faults.
    pub permission: u64,
    /// Anything else.
    pub other: u64,
    /// Times that the queue was found to have overflowed: then the counts are too low.
    pub overflows: u64,
    /// The first event, whole.
    pub first: Option<[u64; 4]>,
}

/// What a stream table entry says, read back from memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Valid, abort.
    Abort,
    /// Valid, stage 2, root at this address.
    Stage2(u64),
    /// Anything else.
    Bad(u64),
}

/// The SMMU.
#[derive(Debug)]
pub struct Smmu {
    is_there: bool,
    prod: u32,
    /// Counted events.
    pub events: Events,
}

/// Writes a word of the stream table or a queue.
fn put(pa: u64, value: u64) {
    assert!(pa.is_multiple_of(8) && (COMMANDS..SMMU_STREAMS + (64 << LOG2_STREAMS)).contains(&pa));
    // SAFETY: an aligned word of memory that only this module and the SMMU use (layout.rs).
    unsafe { (pa as *mut u64).write_volatile(value) }
}

fn get(pa: u64) -> u64 {
    assert!(pa.is_multiple_of(8) && (COMMANDS..SMMU_STREAMS + (64 << LOG2_STREAMS)).contains(&pa));
    // SAFETY: as in `put`.
    unsafe { (pa as *const u64).read_volatile() }
}

fn barrier() {
    // SAFETY: orders memory, nothing else.
    unsafe { asm!("dsb sy", options(nostack)) }
}

impl Smmu {
    /// Starts the SMMU with every stream aborted; `None` without stage 2 (QEMU before 8.1, or an old machine version).
    pub fn start() -> Option<Self> {
        write32(GBPA, GBPA_ABORT);
        if read32(IDR0) & 1 == 0 {
            return None;
        }
        write32(CR0, 0);
        let mut smmu = Self::cleared();
        write32(CR1, CR1_VALUE);
        write32(CR2, CR2_VALUE);
        write64(STRTAB_BASE, SMMU_STREAMS | ALLOCATE);
        write32(STRTAB_BASE_CFG, LOG2_STREAMS);
        write64(CMDQ_BASE, COMMANDS | ALLOCATE | u64::from(LOG2_COMMANDS));
        write32(CMDQ_PROD, 0);
        write32(CMDQ_CONS, 0);
        write64(EVENTQ_BASE, EVENTS | ALLOCATE | u64::from(LOG2_EVENTS));
        write32(EVENTQ_PROD, 0);
        write32(EVENTQ_CONS, 0);
        smmu.is_there = true;
        enable(0x8);
        smmu.invalidate();
        enable(0xc);
        enable(0xd);
        Some(smmu)
    }

    /// Stands in where there is none (option `no-smmu`): the stream table is kept, and nothing obeys it.
    pub fn absent() -> Self {
        Self::cleared()
    }

    /// Clears the queues and aborts every stream.
    fn cleared() -> Self {
        for pa in (COMMANDS..EVENTS + (32 << LOG2_EVENTS)).step_by(8) {
            put(pa, 0);
        }
        for pa in (SMMU_STREAMS..SMMU_STREAMS + (64 << LOG2_STREAMS)).step_by(64) {
            put(pa, STE_ABORT);
        }
        barrier();
        Self { is_there: false, prod: 0, events: Events::default() }
    }

    fn command(&mut self, words: [u64; 2]) {
        let slot = COMMANDS + u64::from(self.prod % (1 << LOG2_COMMANDS)) * 16;
        put(slot, words[0]);
        put(slot + 8, words[1]);
        self.prod = (self.prod + 1) % (2 << LOG2_COMMANDS);
    }

    /// Drops every cached entry and translation, and waits for it.
    pub fn invalidate(&mut self) {
        if !self.is_there {
            return;
        }
        // CFGI_STE can be ignored without an error while a root port has unprogrammed bus numbers: always all.
        self.command(CMD_CFGI_ALL);
        self.command(CMD_TLBI_NSNH_ALL);
        self.command(CMD_SYNC);
        barrier();
        write32(CMDQ_PROD, self.prod);
        for _ in 0..1_000_000 {
            if read32(CMDQ_CONS) & ((2 << LOG2_COMMANDS) - 1) == self.prod {
                return;
            }
        }
        panic!("SMMU: commands not consumed, CONS {:#x}, GERROR {:#x}", read32(CMDQ_CONS), read32(GERROR));
    }

    /// Sets the entry of one stream; in force when this returns.
    pub fn set(&mut self, stream: u16, gate: DmaGate, tables: &Stage2) {
        let entry = SMMU_STREAMS + u64::from(stream) * 64;
        let (word0, root, vmid) = match gate {
            DmaGate::Abort => (STE_ABORT, 0, 0),
            DmaGate::SharedOnly => (STE_STAGE2, tables.shared, VMID_SHARED),
            DmaGate::PrivateOnly => (STE_STAGE2, tables.private, VMID_PRIVATE),
        };
        // Abort first, so that no mixture is ever valid.
        put(entry, STE_ABORT);
        barrier();
        self.invalidate();
        if word0 == STE_STAGE2 {
            put(entry + 8, STE_SHARE_INCOMING);
            put(entry + 16, vmid | ((VTCR & 0x7_ffff) << 32) | STE_S2AA64 | STE_S2R);
            put(entry + 24, root);
            barrier();
            put(entry, word0);
            barrier();
            self.invalidate();
        }
    }

    /// Reads the entry of one stream back.
    pub fn entry(&self, stream: u16) -> Entry {
        let entry = SMMU_STREAMS + u64::from(stream) * 64;
        match get(entry) {
            STE_ABORT => Entry::Abort,
            STE_STAGE2 => Entry::Stage2(get(entry + 24)),
            other => Entry::Bad(other),
        }
    }

    /// Number of streams whose entry is not abort.
    pub fn open_streams(&self) -> usize {
        (0..=u16::MAX).filter(|stream| self.entry(*stream) != Entry::Abort).count()
    }

    /// Takes what the SMMU reported.
    pub fn drain(&mut self) {
        if !self.is_there {
            return;
        }
        const WRAP: u32 = (2 << LOG2_EVENTS) - 1;
        let prod = read32(EVENTQ_PROD);
        let mut cons = read32(EVENTQ_CONS) & WRAP;
        while cons != prod & WRAP {
            let slot = EVENTS + u64::from(cons % (1 << LOG2_EVENTS)) * 32;
            let event = core::array::from_fn(|i| get(slot + 8 * i as u64));
            match event[0] & 0xff {
                0x10 => self.events.translation += 1,
                0x13 => self.events.permission += 1,
                _ => self.events.other += 1,
            }
            self.events.first.get_or_insert(event);
            cons = (cons + 1) & WRAP;
        }
        // OVFLG of PROD is acknowledged in CONS. QEMU reports the loss as a global error instead.
        self.events.overflows += u64::from((prod ^ read32(EVENTQ_CONS)) >> 31);
        write32(EVENTQ_CONS, cons | (prod & 1 << 31));
        let errors = read32(GERROR);
        let new = errors ^ read32(GERRORN);
        if new != 0 {
            self.events.overflows += u64::from(new & GERROR_EVENTQ != 0);
            write32(GERRORN, errors);
        }
    }
}

fn enable(bits: u32) {
    write32(CR0, bits);
    for _ in 0..1000 {
        if read32(CR0ACK) == bits {
            return;
        }
    }
    panic!("SMMU: CR0 {bits:#x} is not acknowledged");
}

// The layout of a stream entry follows the CPU's: one table format for both.
const _: () =
    assert!(IPA_WIDTH == 44 && (VTCR & 0x7_ffff) << 32 | STE_S2AA64 | STE_S2R | 1 == 0x040c_3594_0000_0001);
