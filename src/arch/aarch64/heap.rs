//! The global allocator: a buddy system on the heap range of [`super::image::Layout`].
//!
//! A range of 15.5 MiB that begins on a 2 MiB border holds at least one block of 8 MiB: that is the largest single
//! allocation one can count on. Sizes are rounded up to a power of two.

use crate::addr::IpaRange;
use buddy_system_allocator::LockedHeap;
use core::alloc::{GlobalAlloc, Layout};
use core::sync::atomic::{AtomicUsize, Ordering};

/// log2 of the largest block plus one: 16 MiB.
const ORDER: usize = 25;

#[global_allocator]
static HEAP: Heap = Heap { inner: LockedHeap::new(), peak: AtomicUsize::new(0) };

struct Heap {
    inner: LockedHeap<ORDER>,
    peak: AtomicUsize,
}

// SAFETY: every request goes to `LockedHeap`, which upholds the contract; only a statistic is added.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's contract is `LockedHeap`'s.
        let block = unsafe { self.inner.alloc(layout) };
        self.peak.fetch_max(self.inner.lock().stats_alloc_actual(), Ordering::Relaxed);
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract is `LockedHeap`'s.
        unsafe { self.inner.dealloc(block, layout) }
    }
}

/// Gives the range to the allocator.
///
/// # Safety
/// Called once; `range` is mapped read-write and nothing else uses it.
pub(super) unsafe fn init(range: IpaRange) {
    // Widening and back: usize is 64 bits here.
    // SAFETY: the caller's contract.
    unsafe { HEAP.inner.lock().init(range.base() as usize, range.len_bytes() as usize) };
}

/// Returns the largest number of bytes that was ever allocated at once, rounding of the allocator included.
#[must_use]
pub fn peak_bytes() -> usize {
    HEAP.peak.load(Ordering::Relaxed)
}
