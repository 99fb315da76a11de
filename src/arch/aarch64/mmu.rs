//! Page tables: constants that `entry` shares, and the final table with its maps and unmaps.
//!
//! One identity map for both halves of the IPA space (48-bit input), 4 KiB granule, ASID 1 (the early table has
//! ASID 0; all entries are non-global, so the two never meet in the TLB). W^X everywhere, and SCTLR_EL1.WXN on top.
//!
//! Table pages come from their own area ([`super::image::Layout::tables`]), never from the heap: the heap can be
//! wiped while they are in use, and running out is an error of the one map call. The heap is mapped by pages, so
//! that a shared window can be cut out of it without break-before-make of a live block.

use super::entry::EARLY_TABLES;
use super::image::{Layout, TABLES_SIZE};
use crate::addr::{IpaRange, IpaWidth};
use aarch64_cpu::registers::{SCTLR_EL1, TCR_EL1};
use aarch64_paging::descriptor::{El1Attributes, PhysicalAddress};
use aarch64_paging::mair::{Mair, MairAttribute, NormalMemory};
use aarch64_paging::paging::{
    Constraints, El1And0, MemoryRegion, PageTable as RawTable, Translation, VaRange,
};
use aarch64_paging::{MapError, Mapping};
use core::cell::Cell;
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};

/// Page and table size in bytes.
pub(super) const PAGE: u64 = 4096;
/// Type bit of a page descriptor at level 3.
pub(super) const PAGE_BIT: usize = El1Attributes::TABLE_OR_PAGE.bits();
/// A table descriptor's type.
pub(super) const TABLE_BITS: usize = El1Attributes::TABLE_OR_PAGE.union(El1Attributes::VALID).bits();
/// The output address in a descriptor, bits 47:12.
pub(super) const ADDRESS_MASK: u64 = 0x0000_ffff_ffff_f000;

/// Memory attributes: index 0 device, index 1 normal write-back.
pub(super) const MAIR: u64 = Mair::EMPTY
    .with_attribute(0, MairAttribute::DEVICE_NGNRE)
    .with_attribute(
        1,
        MairAttribute::normal(
            NormalMemory::WriteBackNonTransientReadWriteAllocate,
            NormalMemory::WriteBackNonTransientReadWriteAllocate,
        ),
    )
    .0;

/// TCR_EL1 without IPS: 48-bit lower range, 4 KiB granule, cacheable walks, upper range off.
pub(super) const TCR: u64 = TCR_EL1::T0SZ.val(16).value
    | TCR_EL1::TG0::KiB_4.value
    | TCR_EL1::SH0::Inner.value
    | TCR_EL1::ORGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable.value
    | TCR_EL1::IRGN0::WriteBack_ReadAlloc_WriteAlloc_Cacheable.value
    | TCR_EL1::EPD1::DisableTTBR1Walks.value
    | TCR_EL1::T1SZ.val(16).value
    | TCR_EL1::TG1::KiB_4.value;
/// The largest IPS that a 4 KiB granule without LPA2 can use.
pub(super) const IPS_48: u64 = TCR_EL1::IPS::Bits_48.value >> IPS_SHIFT;
/// Place of IPS in TCR_EL1.
pub(super) const IPS_SHIFT: u32 = TCR_EL1::IPS.shift as u32;

/// SCTLR_EL1 bits that are RES1 where their feature is missing: EOS, TSCXT, EIS, SPAN, nTLSMD, LSMAOE.
const SCTLR_RES1: u64 = 1 << 11 | 1 << 20 | 1 << 22 | 1 << 23 | 1 << 28 | 1 << 29;
/// MMU and caches off, little-endian.
pub(super) const SCTLR_OFF: u64 = SCTLR_RES1;
/// MMU and data cache off, instruction cache on: for the jump's loops.
pub(super) const SCTLR_OFF_ICACHE: u64 = SCTLR_RES1 | SCTLR_EL1::I::Cacheable.value;
/// MMU and caches on, stack alignment checked, writable memory never executable.
pub(super) const SCTLR_ON: u64 = SCTLR_OFF_ICACHE
    | SCTLR_EL1::M::Enable.value
    | SCTLR_EL1::C::Cacheable.value
    | SCTLR_EL1::SA::Enable.value
    | SCTLR_EL1::WXN::Enable.value;

/// Private or shared memory: write-back, inner shareable, never executable at EL0.
const NORMAL: El1Attributes = El1Attributes::VALID
    .union(El1Attributes::ACCESSED)
    .union(El1Attributes::NON_GLOBAL)
    .union(El1Attributes::ATTRIBUTE_INDEX_1)
    .union(El1Attributes::INNER_SHAREABLE)
    .union(El1Attributes::UXN);
/// Code: readable, executable.
pub(super) const TEXT: El1Attributes = NORMAL.union(El1Attributes::READ_ONLY);
/// Constants: readable.
pub(super) const RODATA: El1Attributes = TEXT.union(El1Attributes::PXN);
/// Data: readable, writable.
pub(super) const DATA: El1Attributes = NORMAL.union(El1Attributes::PXN);
/// Device registers, nGnRE.
const DEVICE: El1Attributes = El1Attributes::VALID
    .union(El1Attributes::ACCESSED)
    .union(El1Attributes::NON_GLOBAL)
    .union(El1Attributes::ATTRIBUTE_INDEX_0)
    .union(El1Attributes::OUTER_SHAREABLE)
    .union(El1Attributes::UXN)
    .union(El1Attributes::PXN);

/// ASID of the final table.
const ASID: usize = 1;
/// 48 bits of input: the walk begins at level 0.
const ROOT_LEVEL: usize = 0;
/// Tables that one map call with blocks can need: at each end one of levels 1, 2 and 3.
const TABLES_PER_MAP: u32 = 6;
/// The longest range that [`TABLES_PER_MAP`] is right for: one entry of level 0.
const MAX_MAP: u64 = 1 << 39;
/// Below this number of free tables, empty ones are looked for and freed.
const LOW_TABLES: u32 = 32;
/// How many shared windows can be cut out of the heap.
const MAX_SHARED: usize = 4;

const _: () = assert!(TABLES_SIZE == 128 * PAGE, "the pool's bitmap has 128 bits");

/// Table pages: one bit per page of the tables area, set = free.
struct TablePool {
    base: u64,
    free: Cell<u128>,
}

impl TablePool {
    /// Bits of the pages that the early table may occupy.
    const EARLY: u128 = (1 << EARLY_TABLES) - 1;

    fn num_free(&self) -> u32 {
        self.free.get().count_ones()
    }
}

impl Translation<El1Attributes> for TablePool {
    fn allocate_table(&mut self) -> (NonNull<RawTable<El1Attributes>>, PhysicalAddress) {
        let index = self.free.get().trailing_zeros();
        assert!(index < u128::BITS, "every map call checks that there are enough tables");
        self.free.set(self.free.get() & !(1 << index));
        let address = PhysicalAddress((self.base + u64::from(index) * PAGE) as usize);
        let table = self.physical_to_virtual(address);
        // SAFETY: a page of the tables area, mapped by `entry` and by `PageTable::activate`, handed out once.
        unsafe { table.as_ptr().write_bytes(0, 1) };
        (table, address)
    }

    unsafe fn deallocate_table(&mut self, table: NonNull<RawTable<El1Attributes>>) {
        let index = (table.addr().get() as u64 - self.base) / PAGE;
        self.free.set(self.free.get() | 1 << index);
    }

    fn physical_to_virtual(&self, pa: PhysicalAddress) -> NonNull<RawTable<El1Attributes>> {
        NonNull::new(ptr::with_exposed_provenance_mut(pa.0)).expect("the tables area is not at address 0")
    }
}

/// The page table is full, or the range clashes with what is mapped there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CannotMap;

impl From<MapError> for CannotMap {
    fn from(_: MapError) -> Self {
        Self
    }
}

/// The active page table.
pub struct PageTable {
    map: ManuallyDrop<Mapping<TablePool, El1And0>>,
    shared: [Option<IpaRange>; MAX_SHARED],
}

impl PageTable {
    /// Builds the final table and switches to it; frees the early one.
    ///
    /// # Safety
    /// Called once, on the early table that `entry` built at the start of `layout.tables()`.
    pub(super) unsafe fn activate(layout: &Layout) -> Self {
        let pool = TablePool { base: layout.tables().base(), free: Cell::new(!TablePool::EARLY) };
        let map = Mapping::with_asid_and_va_range(pool, ASID, ROOT_LEVEL, El1And0, VaRange::Lower);
        let mut table = Self { map: ManuallyDrop::new(map), shared: [None; MAX_SHARED] };
        let parts = [
            (Some(layout.text()), TEXT),
            (Some(layout.rodata()), RODATA),
            (Some(layout.data()), DATA),
            (Some(layout.stack()), DATA),
            (layout.bundle_range(), RODATA),
            (layout.room(), DATA),
            (Some(layout.heap()), DATA),
            (Some(layout.tables()), DATA),
        ];
        for (range, flags) in parts {
            let Some(range) = range else { continue };
            // By pages everywhere but in bundle and room, of which nothing is ever unmapped.
            let by_blocks = [layout.bundle_range(), layout.room()].contains(&Some(range));
            let constraints = if by_blocks { Constraints::empty() } else { Constraints::NO_BLOCK_MAPPINGS };
            let mapped = table.map.map_range(&region(&range, 0), output(&range, 0), flags, constraints);
            assert!(mapped.is_ok(), "the firmware's own ranges lie below 2^48: checked by `entry`");
        }
        // SAFETY: the new table maps all that the early one does, at the same addresses; it is never dropped.
        let early = unsafe { table.map.activate() };
        debug_assert_eq!(early as u64, layout.tables().base());
        // SAFETY: nothing uses ASID 0 any more. Cache maintenance 4: its pages are reused.
        unsafe { core::arch::asm!("tlbi aside1, xzr", "dsb nsh", "isb", options(nostack, preserves_flags)) };
        let pool = table.map.translation();
        pool.free.set(pool.free.get() | TablePool::EARLY);
        table
    }

    /// Maps `range` through the half that `alias` selects (0 or the alias bit).
    fn map(&mut self, range: &IpaRange, alias: u64, flags: El1Attributes) -> Result<(), CannotMap> {
        if self.map.translation().num_free() < LOW_TABLES {
            self.map.compact_subtables();
        }
        if range.len_bytes() > MAX_MAP || self.map.translation().num_free() < TABLES_PER_MAP {
            return Err(CannotMap);
        }
        Ok(self.map.map_range(&region(range, alias), output(range, alias), flags, Constraints::empty())?)
    }

    /// Removes what [`Self::map`] mapped.
    fn unmap(&mut self, range: &IpaRange, alias: u64) {
        let unmapped = self.map.map_range(
            &region(range, alias),
            output(range, alias),
            El1Attributes::empty(),
            Constraints::empty(),
        );
        assert!(unmapped.is_ok(), "a range that was mapped can be unmapped");
    }

    /// Maps device registers; the caller has kept the firmware out of it.
    pub(super) fn map_device(&mut self, range: &IpaRange, alias: u64) -> Result<(), CannotMap> {
        self.map(range, alias, DEVICE)
    }

    /// Maps the alias of `range`; when it is part of the heap (`owned`), its private view is unmapped.
    pub(super) fn map_shared(
        &mut self,
        range: &IpaRange,
        width: IpaWidth,
        owned: bool,
    ) -> Result<(), CannotMap> {
        let slot = self.shared.iter().position(Option::is_none).ok_or(CannotMap)?;
        self.map(range, width.alias_bit(), DATA)?;
        if owned {
            self.unmap(range, 0);
        }
        self.shared[slot] = Some(*range);
        Ok(())
    }

    /// Undoes [`Self::map_shared`]; `owned` restores the private view.
    pub(super) fn unmap_shared(
        &mut self,
        range: &IpaRange,
        width: IpaWidth,
        owned: bool,
    ) -> Result<(), CannotMap> {
        let slot = self.shared.iter().position(|r| *r == Some(*range)).ok_or(CannotMap)?;
        if owned {
            self.map(range, 0, DATA)?;
        }
        self.unmap(range, width.alias_bit());
        self.shared[slot] = None;
        Ok(())
    }

    /// Tells whether a window is still shared.
    pub(super) fn has_shared(&self) -> bool {
        self.shared.iter().any(Option::is_some)
    }

    /// Maps private RAM outside the firmware read-only, for good.
    pub(super) fn map_private(&mut self, range: &IpaRange) -> Result<(), CannotMap> {
        self.map(range, 0, RODATA)
    }

    /// Runs `access` while private RAM outside the firmware is mapped read-only.
    pub(super) fn with_private(&mut self, range: &IpaRange, access: impl FnOnce()) -> Result<(), CannotMap> {
        self.map(range, 0, RODATA)?;
        access();
        self.unmap(range, 0);
        Ok(())
    }
}

/// Where a range of the protected half is seen through the half that `alias` selects.
fn region(range: &IpaRange, alias: u64) -> MemoryRegion {
    let start = output(range, alias).0;
    MemoryRegion::new(start, start + range.len_bytes() as usize)
}

/// The same, as output address: the map is the identity.
fn output(range: &IpaRange, alias: u64) -> PhysicalAddress {
    PhysicalAddress((range.base() | alias) as usize)
}
