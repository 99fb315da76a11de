//! The global allocator: a buddy system on the heap range of [`super::image::Layout`].
//!
//! A range of almost 15.5 MiB that begins on a 2 MiB border holds at least one block of 8 MiB: that is the largest single
//! allocation one can count on. Sizes are rounded up to a power of two.

use crate::addr::IpaRange;
use buddy_system_allocator::LockedHeap;

#[cfg(gatehouse_fault)]
use super::fault::Counted;

/// log2 of the largest block plus one: 16 MiB.
const ORDER: usize = 25;

#[cfg(not(gatehouse_fault))]
#[global_allocator]
static HEAP: LockedHeap<ORDER> = LockedHeap::new();

#[cfg(gatehouse_fault)]
#[global_allocator]
static COUNTED: Counted<ORDER> = Counted(LockedHeap::new());

/// Gives the range to the allocator.
///
/// # Safety
/// Called once; `range` is mapped read-write and nothing else uses it.
pub(super) unsafe fn init(range: IpaRange) {
    #[cfg(gatehouse_fault)]
    let heap = &COUNTED.0;
    #[cfg(not(gatehouse_fault))]
    let heap = &HEAP;
    // Widening: usize is 64 bits here.
    // SAFETY: the caller's contract.
    unsafe { heap.lock().init(range.base() as usize, range.len_bytes() as usize) };
}
