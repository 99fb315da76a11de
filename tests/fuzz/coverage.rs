//! Which edges ran: LLVM's inline 8-bit counters, in a build that scripts/fuzz makes. Other builds count nothing.

#[cfg(gatehouse_coverage)]
pub use counters::{reset, seen};

/// Forgets what ran.
#[cfg(not(gatehouse_coverage))]
pub fn reset() {}

/// Returns edge and size of its count (as a bucket) of all that ran.
#[cfg(not(gatehouse_coverage))]
pub fn seen() -> Vec<(usize, u8)> {
    Vec::new()
}

#[cfg(gatehouse_coverage)]
mod counters {
    use std::sync::Mutex;

    /// First byte and length of each module's counters.
    static RANGES: Mutex<Vec<(usize, usize)>> = Mutex::new(Vec::new());

    /// Called by each module's constructor with its section of counters.
    // SAFETY: no other function of this program has the name, which the instrumentation calls.
    #[unsafe(no_mangle)]
    extern "C" fn __sanitizer_cov_8bit_counters_init(start: *mut u8, stop: *mut u8) {
        let range = (start.expose_provenance(), stop.addr() - start.addr());
        if let Ok(mut ranges) = RANGES.lock()
            && !ranges.contains(&range)
        {
            ranges.push(range);
        }
    }

    fn each(mut with: impl FnMut(usize, &mut u8)) {
        let Ok(ranges) = RANGES.lock() else { return };
        let mut number = 0;
        for (start, len) in ranges.iter() {
            for at in 0..*len {
                let counter = std::ptr::with_exposed_provenance_mut::<u8>(start + at);
                // SAFETY: a counter of the section; one thread runs instrumented code, and it runs this.
                with(number, unsafe { &mut *counter });
                number += 1;
            }
        }
    }

    /// Forgets what ran.
    pub fn reset() {
        each(|_, counter| *counter = 0);
    }

    /// Returns edge and size of its count (as a bucket) of all that ran.
    pub fn seen() -> Vec<(usize, u8)> {
        let mut found = Vec::new();
        each(|number, counter| {
            let bucket = match *counter {
                0 => return,
                1..=3 => *counter,
                4..=7 => 4,
                8..=15 => 5,
                16..=31 => 6,
                32..=127 => 7,
                _ => 8,
            };
            found.push((number, bucket));
        });
        found
    }
}
