//! A map from addresses to values that knows runs, not pages.

use alloc::vec;
use alloc::vec::Vec;

/// Total map over `[0, 2^64 - 1)`.
#[derive(Clone, Debug)]
pub(crate) struct Intervals<T> {
    /// Start of each run and its value, ascending, the first at 0; neighbours differ.
    runs: Vec<(u64, T)>,
}

impl<T: Copy + PartialEq> Intervals<T> {
    pub(crate) fn new(value: T) -> Intervals<T> {
        Intervals { runs: vec![(0, value)] }
    }

    fn index(&self, at: u64) -> usize {
        self.runs.partition_point(|run| run.0 <= at) - 1
    }

    /// Value at an address and the end of the run with that value.
    pub(crate) fn run(&self, at: u64) -> (T, u64) {
        let index = self.index(at);
        (self.runs[index].1, self.runs.get(index + 1).map_or(u64::MAX, |next| next.0))
    }

    pub(crate) fn get(&self, at: u64) -> T {
        self.run(at).0
    }

    /// Sets `[base, top)`.
    pub(crate) fn set(&mut self, base: u64, top: u64, value: T) {
        if base >= top {
            return;
        }
        let after = self.get(top);
        let first = self.runs.partition_point(|run| run.0 < base);
        let last = self.runs.partition_point(|run| run.0 <= top);
        self.runs.splice(first..last, [(base, value), (top, after)]);
        self.runs.dedup_by(|second, first| second.1 == first.1);
    }

    /// Runs inside `[base, top)`, cut to it.
    pub(crate) fn runs(&self, base: u64, top: u64) -> Vec<(u64, u64, T)> {
        let mut found = Vec::new();
        let mut at = base;
        while at < top {
            let (value, end) = self.run(at);
            let end = end.min(top);
            found.push((at, end, value));
            at = end;
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_split_and_joined() {
        let mut map = Intervals::new(0);
        map.set(10, 20, 1);
        map.set(15, 25, 2);
        assert_eq!(map.runs(0, 30), [(0, 10, 0), (10, 15, 1), (15, 25, 2), (25, 30, 0)]);
        map.set(10, 25, 0);
        assert_eq!(map.runs(0, 30), [(0, 30, 0)]);
        map.set(0, 5, 3);
        assert_eq!(map.get(4), 3);
        assert_eq!(map.run(5), (0, u64::MAX));
    }
}
