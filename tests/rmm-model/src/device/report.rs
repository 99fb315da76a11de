//! The interface report (PCIe TDISP; `tdisp.md` section 2).

use alloc::vec::Vec;

use super::{Bar, Device, Msix};
use crate::board::PAGE;
use crate::scenario::{Lie, RangeSpec};

/// Attributes.
const MSIX_TABLE: u16 = 1;
const MSIX_PBA: u16 = 2;

/// One range as reported.
#[derive(Clone, Copy)]
struct Entry {
    first_page: u64,
    pages: u32,
    attributes: u16,
    id: u16,
}

/// Makes the ranges of all memory BARs: pages with the MSI-X table or the pending bits apart, the rest TEE.
pub(super) fn generate(bars: &[Bar], msix: Option<Msix>) -> Vec<RangeSpec> {
    let mut ranges: Vec<RangeSpec> = Vec::new();
    for bar in bars.iter().filter(|bar| bar.is_memory) {
        let id = bar.index as u16;
        let mut cuts = alloc::vec![0, bar.len];
        let mut parts = Vec::new();
        for (part, attribute) in msix.iter().flat_map(|msix| [(msix.table, MSIX_TABLE), (msix.pba, MSIX_PBA)])
        {
            if part.0 == id {
                let from = part.1 & !(PAGE - 1);
                let to = ((part.1 + part.2 + PAGE - 1) & !(PAGE - 1)).min(bar.len);
                cuts.extend([from, to]);
                parts.push((from, to, attribute));
            }
        }
        cuts.sort_unstable();
        cuts.dedup();
        for pair in cuts.windows(2) {
            let covers = |part: &&(u64, u64, u16)| pair[0] >= part.0 && pair[0] < part.1;
            let attributes = parts.iter().filter(covers).fold(0, |bits, part| bits | part.2);
            let pages = ((pair[1] - pair[0]) / PAGE) as u32;
            match ranges.last_mut() {
                Some(last) if last.bar == id && last.attributes == attributes => last.pages += pages,
                _ => ranges.push(RangeSpec { bar: id, offset: pair[0], pages, attributes }),
            }
        }
    }
    ranges
}

impl Device {
    /// Writes the report of the present lock, with one device-level lie if asked.
    pub(crate) fn report(&self, msix_control: u16, lie: Option<Lie>) -> Vec<u8> {
        let mut entries: Vec<Entry> = self
            .ranges
            .iter()
            .filter_map(|range| {
                let real = self.bar(range.bar)?.pa + range.offset;
                let first_page = real.wrapping_add(self.lock_mro) / PAGE;
                Some(Entry { first_page, pages: range.pages, attributes: range.attributes, id: range.bar })
            })
            .collect();
        self.distort(&mut entries, lie);
        let mut count = entries.len() as u32;
        if lie == Some(Lie::ReportCountTooLarge) {
            count = 0x1000_0001;
        }
        let mut bytes = Vec::new();
        bytes.extend(self.spec.interface_info.to_le_bytes());
        bytes.extend([0; 2]);
        bytes.extend(msix_control.to_le_bytes());
        bytes.extend([0; 2 + 4]);
        bytes.extend(count.to_le_bytes());
        for entry in &entries {
            bytes.extend(entry.first_page.to_le_bytes());
            bytes.extend(entry.pages.to_le_bytes());
            bytes.extend(entry.attributes.to_le_bytes());
            bytes.extend(entry.id.to_le_bytes());
        }
        if lie == Some(Lie::ReportTruncated) {
            bytes.truncate(bytes.len() - 8);
            return bytes;
        }
        bytes.extend((self.vendor.len() as u32).to_le_bytes());
        bytes.extend(&self.vendor);
        bytes
    }

    fn distort(&self, entries: &mut Vec<Entry>, lie: Option<Lie>) {
        let tee = entries.iter().rposition(|entry| entry.attributes & 0b111 == 0);
        match (lie, entries.first().copied()) {
            (Some(Lie::ReportRangePastBar), _) => {
                if let Some(index) = tee {
                    let bar_pages = self.bar(entries[index].id).map_or(0, |bar| bar.len / PAGE) as u32;
                    let offset = self.ranges[index].offset / PAGE;
                    entries[index].pages = bar_pages - offset as u32 + 1;
                }
            }
            (Some(Lie::ReportPagesWrap), Some(first)) => {
                entries[0] = Entry { first_page: (1 << 52) - 1, pages: first.pages.max(2), ..first };
            }
            (Some(Lie::ReportZeroPages), Some(_)) => entries[0].pages = 0,
            (Some(Lie::ReportUnknownBar), Some(_)) => entries[0].id = 6,
            (Some(Lie::ReportOverlap), Some(first)) => entries.insert(0, first),
            _ => {}
        }
    }
}
