//! A heap with an end, for a test whose global allocator asks here: what the firmware allocates on this thread counts, what the
//! model and the log of the test allocate does not.
use std::cell::Cell;

thread_local! {
    /// Bytes that the firmware may hold; 0 with `IS_ON` off: no limit.
    static LIMIT: Cell<usize> = const { Cell::new(usize::MAX) };
    static IS_ON: Cell<bool> = const { Cell::new(false) };
    static HELD: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// Runs the firmware with at most `limit` bytes of heap. Returns the most bytes that it held, too.
pub fn limited<T>(limit: usize, run: impl FnOnce() -> T) -> (T, usize) {
    LIMIT.set(limit);
    HELD.set(0);
    PEAK.set(0);
    IS_ON.set(true);
    let result = run();
    IS_ON.set(false);
    (result, PEAK.get())
}

/// Runs what is not the firmware.
pub fn outside<T>(run: impl FnOnce() -> T) -> T {
    let was_on = IS_ON.replace(false);
    let result = run();
    IS_ON.set(was_on);
    result
}

/// Takes bytes; false: there is no room for them.
pub fn take(len: usize) -> bool {
    if !IS_ON.get() {
        return true;
    }
    let held = HELD.get().saturating_add(len);
    if held > LIMIT.get() {
        return false;
    }
    HELD.set(held);
    PEAK.set(PEAK.get().max(held));
    true
}

/// Gives bytes back.
pub fn give(len: usize) {
    if IS_ON.get() {
        HELD.set(HELD.get().saturating_sub(len));
    }
}
