//! Stage 2: the realm's two halves, each with lower tables of its own, and the roots of its devices.
//!
//! | root | protected half | alias half |
//! |---|---|---|
//! | CPU | RAM that is private, private device pages | shared RAM, device pages |
//! | device, private | private RAM, the ITS doorbell page | nothing |
//! | device, shared | the ITS doorbell page | shared RAM |
//!
//! The device roots share the CPU's tables from level 2 down; only levels 0 and 1 are copies, which [`Stage2::map`]
//! keeps equal. The first GiB (devices) and the high PCI window are never in a device's root.

use crate::layout::{ALIAS_BIT, IPA_WIDTH, ITS_DOORBELL, PAGE, POOL_BASE, POOL_END};
use aarch64_cpu::{
    asm::barrier,
    registers::{VTCR_EL2, VTTBR_EL2},
};
use core::arch::asm;
use tock_registers::interfaces::Writeable;

/// VTCR_EL2: W = 44, start at level 0, 4 KiB, write-back, inner shareable, 44-bit PA. Bits 18:0 are also the SMMU's.
pub const VTCR: u64 =
    0x8000_0000 | (4 << 16) | (3 << 12) | (1 << 10) | (1 << 8) | (2 << 6) | (64 - IPA_WIDTH as u64);
/// VMID of the CPU's tables.
const VMID_CPU: u64 = 1;

const VALID: u64 = 1;
const TABLE: u64 = 2;
const AF: u64 = 1 << 10;
const INNER: u64 = 3 << 8;
const S2_RW: u64 = 3 << 6;
const NORMAL: u64 = 0xf << 2;
const DEVICE: u64 = 1 << 2;
const XN: u64 = 2 << 53;
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// What a mapping is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RAM, read-write-execute.
    Ram,
    /// RAM, read-write.
    RamNoExec,
    /// Device-nGnRE, read-write.
    Device,
}

impl Kind {
    fn bits(self) -> u64 {
        AF | S2_RW
            | match self {
                Self::Ram => NORMAL | INNER,
                Self::RamNoExec => NORMAL | INNER | XN,
                Self::Device => DEVICE | XN,
            }
    }
}

/// A leaf found by a walk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Output address of the page that was looked up.
    pub pa: u64,
    /// Whether it is mapped as a device.
    pub device: bool,
    /// Whether EL1 may execute it.
    pub exec: bool,
}

/// Pages for tables; a freed page goes on a list that is threaded through the pages themselves.
#[derive(Debug)]
struct Pool {
    next: u64,
    free: u64,
    used: u64,
}

impl Pool {
    fn check(table: u64, index: usize) {
        assert!(table.is_multiple_of(PAGE) && (POOL_BASE..POOL_END).contains(&table) && index < 512);
    }

    fn get(&self, table: u64, index: usize) -> u64 {
        Self::check(table, index);
        // SAFETY: an aligned word of the page pool (`check`), which belongs to `self` alone; the walkers that read it
        // behind the compiler's back do not write (no hardware AF or DBM).
        unsafe { (table as *const u64).add(index).read_volatile() }
    }

    fn put(&mut self, table: u64, index: usize, value: u64) {
        Self::check(table, index);
        // SAFETY: as above, `self` is borrowed mutably.
        unsafe { (table as *mut u64).add(index).write_volatile(value) }
    }

    fn alloc(&mut self) -> u64 {
        let page = if self.free != 0 {
            let page = self.free;
            self.free = self.get(page, 0);
            page
        } else {
            assert!(self.next < POOL_END, "out of pages for translation tables");
            self.next += PAGE;
            self.next - PAGE
        };
        self.used += 1;
        for index in 0..512 {
            self.put(page, index, 0);
        }
        page
    }

    fn release(&mut self, page: u64) {
        let head = self.free;
        self.put(page, 0, head);
        self.free = page;
        self.used -= 1;
    }
}

/// All tables.
#[derive(Debug)]
pub struct Stage2 {
    pool: Pool,
    /// Level-0 table of the CPU.
    pub cpu: u64,
    /// Level-0 table of devices with private DMA.
    pub private: u64,
    /// Level-0 table of devices that reach shared pages only.
    pub shared: u64,
    private_l1: u64,
    shared_l1: u64,
}

fn size_of_entry(level: u32) -> u64 {
    PAGE << (9 * (3 - level))
}

fn index_of(ipa: u64, level: u32) -> usize {
    ((ipa / size_of_entry(level)) % 512) as usize
}

impl Stage2 {
    /// Makes empty tables; the device roots already have the doorbell page.
    pub fn new() -> Self {
        let mut pool = Pool { next: POOL_BASE, free: 0, used: 0 };
        let [cpu, private, shared, private_l1, shared_l1, bell_l1] = core::array::from_fn(|_| pool.alloc());
        let (bell_l2, bell_l3) = (pool.alloc(), pool.alloc());
        pool.put(bell_l3, index_of(ITS_DOORBELL, 3), ITS_DOORBELL | Kind::Device.bits() | TABLE | VALID);
        pool.put(bell_l2, index_of(ITS_DOORBELL, 2), bell_l3 | TABLE | VALID);
        pool.put(private_l1, 0, bell_l2 | TABLE | VALID);
        pool.put(bell_l1, 0, bell_l2 | TABLE | VALID);
        pool.put(private, 0, private_l1 | TABLE | VALID);
        pool.put(shared, 0, bell_l1 | TABLE | VALID);
        pool.put(shared, index_of(ALIAS_BIT, 0), shared_l1 | TABLE | VALID);
        // The CPU's level-1 tables of the RAM regions exist from the start, so that the copies have a source.
        for ipa in [0, ALIAS_BIT] {
            let l1 = pool.alloc();
            pool.put(cpu, index_of(ipa, 0), l1 | TABLE | VALID);
        }
        Self { pool, cpu, private, shared, private_l1, shared_l1 }
    }

    /// Switches stage 2 to these tables.
    pub fn activate(&self) {
        VTCR_EL2.set(VTCR);
        VTTBR_EL2.set(self.cpu | (VMID_CPU << 48));
        barrier::isb(barrier::SY);
        Self::invalidate();
    }

    /// Invalidates every EL1 and stage-2 translation of the CPU.
    pub fn invalidate() {
        // SAFETY: only drops cached translations of the realm; the stub runs in the EL2 regime. No `nomem`: the table
        // writes before it must not move behind it.
        unsafe { asm!("dsb ishst", "tlbi vmalls12e1is", "dsb ish", "isb", options(nostack)) }
    }

    /// Number of table pages in use.
    pub fn tables_used(&self) -> u64 {
        self.pool.used
    }

    /// Maps `pages` pages from `ipa` (alias bit included) to `to` (PA of the first page, kind), or unmaps them.
    /// The caller invalidates.
    pub fn map(&mut self, ipa: u64, pages: u64, to: Option<(u64, Kind)>) {
        let end = pages.checked_mul(PAGE).and_then(|len| ipa.checked_add(len));
        let end = end.filter(|end| *end <= 1 << IPA_WIDTH && ipa.is_multiple_of(PAGE));
        let Some(end) = end else { panic!("stage-2 range {ipa:#x} + {pages:#x} pages") };
        if let Some((pa, _)) = to {
            assert!(pa.is_multiple_of(PAGE));
        }
        self.set(self.cpu, 0, ipa, end, to);
        for (half, copy) in [(0, self.private_l1), (ALIAS_BIT, self.shared_l1)] {
            let source = self.pool.get(self.cpu, index_of(half, 0)) & ADDRESS;
            // Entry 0, the first GiB, holds devices: it stays out.
            let low = half + size_of_entry(1);
            let high = half + size_of_entry(0);
            if ipa.max(low) < end.min(high) {
                for index in index_of(ipa.max(low), 1)..=index_of(end.min(high) - 1, 1) {
                    let entry = self.pool.get(source, index);
                    self.pool.put(copy, index, entry);
                }
            }
        }
    }

    fn set(&mut self, table: u64, level: u32, from: u64, end: u64, to: Option<(u64, Kind)>) {
        let size = size_of_entry(level);
        let mut ipa = from;
        while ipa < end {
            let next = (ipa - ipa % size + size).min(end);
            let index = index_of(ipa, level);
            let old = self.pool.get(table, index);
            let part = to.map(|(pa, kind)| (pa + (ipa - from), kind));
            let whole =
                next - ipa == size && level >= 1 && part.is_none_or(|(pa, _)| pa.is_multiple_of(size));
            if whole {
                let leaf = if level == 3 { TABLE | VALID } else { VALID };
                self.pool.put(table, index, part.map_or(0, |(pa, kind)| pa | kind.bits() | leaf));
                self.release(old, level);
            } else if part.is_some() || old & VALID != 0 {
                let lower = self.lower(table, index, level);
                self.set(lower, level + 1, ipa, next, part);
            }
            ipa = next;
        }
    }

    /// Returns the table below an entry; makes an empty one, or splits a block.
    fn lower(&mut self, table: u64, index: usize, level: u32) -> u64 {
        let old = self.pool.get(table, index);
        if level < 3 && old & (TABLE | VALID) == TABLE | VALID {
            return old & ADDRESS;
        }
        let lower = self.pool.alloc();
        if old & VALID != 0 {
            let leaf = if level == 2 { TABLE } else { 0 };
            for part in 0..512 {
                self.pool.put(lower, part, (old + part as u64 * size_of_entry(level + 1)) | leaf);
            }
            // Break before make.
            self.pool.put(table, index, 0);
            Self::invalidate();
        }
        self.pool.put(table, index, lower | TABLE | VALID);
        lower
    }

    /// Gives back the tables below an entry that was replaced.
    fn release(&mut self, entry: u64, level: u32) {
        if level < 3 && entry & (TABLE | VALID) == TABLE | VALID {
            let table = entry & ADDRESS;
            for index in 0..512 {
                let lower = self.pool.get(table, index);
                self.release(lower, level + 1);
            }
            self.pool.release(table);
        }
    }

    /// Walks from `root` (one of the three level-0 tables) and returns the leaf of one page.
    pub fn find(&self, root: u64, ipa: u64) -> Option<Found> {
        let (entry, level) = self.walk(root, ipa);
        (entry & VALID != 0).then(|| Found {
            pa: (entry & ADDRESS) + (ipa % size_of_entry(level)) / PAGE * PAGE,
            device: entry & NORMAL == DEVICE,
            exec: entry & XN == 0,
        })
    }

    /// Returns the entry that ends the walk, and its level.
    fn walk(&self, root: u64, ipa: u64) -> (u64, u32) {
        let mut table = root;
        let mut level = 0;
        loop {
            let entry = self.pool.get(table, index_of(ipa, level));
            if level == 3 || entry & (TABLE | VALID) != TABLE | VALID {
                return (entry, level);
            }
            table = entry & ADDRESS;
            level += 1;
        }
    }

    /// Number of pages that the CPU reaches through both halves: must be 0.
    pub fn pages_in_both_halves(&self) -> u64 {
        let mut pages = 0;
        let mut ipa = 0;
        while ipa < ALIAS_BIT {
            let (low, low_level) = self.walk(self.cpu, ipa);
            let (high, high_level) = self.walk(self.cpu, ipa | ALIAS_BIT);
            let step = size_of_entry(low_level.max(high_level));
            if low & high & VALID != 0 {
                pages += step / PAGE;
            }
            ipa += step;
        }
        pages
    }

    /// Whether any entry of a root lies in one half (`alias` or protected), the doorbell page aside.
    pub fn half_has_entries(&self, root: u64, alias: bool) -> bool {
        let half = index_of(ALIAS_BIT, 0);
        let range = if alias { half..2 * half } else { 0..half };
        range.into_iter().any(|index| {
            let entry = self.pool.get(root, index);
            entry & VALID != 0 && self.any_leaf(entry & ADDRESS, 1)
        })
    }

    fn any_leaf(&self, table: u64, level: u32) -> bool {
        self.has_leaf(table, level, &|entry| entry & ADDRESS != ITS_DOORBELL)
    }

    /// Whether a root has a leaf to a device, the doorbell page aside.
    pub fn reaches_device(&self, root: u64) -> bool {
        self.has_leaf(root, 0, &|entry| entry & NORMAL == DEVICE && entry & ADDRESS != ITS_DOORBELL)
    }

    fn has_leaf(&self, table: u64, level: u32, wanted: &dyn Fn(u64) -> bool) -> bool {
        (0..512).any(|index| {
            let entry = self.pool.get(table, index);
            match entry & (TABLE | VALID) {
                0 | TABLE => false,
                VALID => wanted(entry),
                _ if level == 3 => wanted(entry),
                _ => self.has_leaf(entry & ADDRESS, level + 1, wanted),
            }
        })
    }
}
