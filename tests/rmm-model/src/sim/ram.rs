//! RAM of the simulated machine.

use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

use crate::board::PAGE;

/// RAM of the realm, by IPA (alias bit clear). The test's glue says where it is.
pub trait Ram {
    /// Reads; bytes that do not exist read as zero.
    fn read(&mut self, ipa: u64, buf: &mut [u8]);
    /// Writes; bytes that do not exist are dropped.
    fn write(&mut self, ipa: u64, data: &[u8]);
}

/// RAM that exists where it was written.
#[derive(Default)]
pub struct SparseRam {
    pages: BTreeMap<u64, Vec<u8>>,
}

impl Ram for SparseRam {
    fn read(&mut self, ipa: u64, buf: &mut [u8]) {
        for (at, byte) in (ipa..).zip(buf) {
            let page = self.pages.get(&(at & !(PAGE - 1)));
            *byte = page.map_or(0, |page| page[(at & (PAGE - 1)) as usize]);
        }
    }

    fn write(&mut self, ipa: u64, data: &[u8]) {
        for (at, byte) in (ipa..).zip(data) {
            if *byte == 0 && !self.pages.contains_key(&(at & !(PAGE - 1))) {
                continue;
            }
            let page = self.pages.entry(at & !(PAGE - 1)).or_insert_with(|| vec![0; PAGE as usize]);
            page[(at & (PAGE - 1)) as usize] = *byte;
        }
    }
}
