//! The interface report (PCIe TDISP; `tdisp.md` section 2).

use alloc::vec::Vec;

use super::{Bar, Device, Msix};
use crate::board::PAGE;
use crate::scenario::{Lie, RangeAddresses, RangeIds, RangeOrder, RangePart, RangeSpec};

/// Attributes.
const MSIX_TABLE: u16 = 1;
const MSIX_PBA: u16 = 2;
const NON_TEE: u16 = 4;
/// Any of them: not for VALIDATE_MAPPING.
const NO_TEE: u16 = MSIX_TABLE | MSIX_PBA | NON_TEE;

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
                _ => ranges.push(RangeSpec { bar: id, id: None, offset: pair[0], pages, attributes }),
            }
        }
    }
    ranges
}

impl Device {
    /// Writes the report of the present lock, with one device-level lie if asked.
    pub(crate) fn report(&self, msix_control: u16, lie: Option<Lie>) -> Vec<u8> {
        let form = &self.spec.report;
        let last_tee = self.ranges.iter().rposition(|range| range.attributes & NO_TEE == 0);
        let is_there = |index: usize, attributes: u16| {
            !form.omit.iter().any(|part| match part {
                RangePart::MsixTable => attributes & MSIX_TABLE != 0,
                RangePart::MsixPba => attributes & MSIX_PBA != 0,
                RangePart::NonTee => attributes & NON_TEE != 0,
                RangePart::LastTee => last_tee == Some(index),
            })
        };
        let listed = self.ranges.iter().enumerate();
        let mut entries: Vec<Entry> = listed
            .filter(|(index, range)| is_there(*index, range.attributes))
            .filter_map(|(_, range)| {
                let real = self.bar(range.bar)?.pa + range.offset;
                let first = real.wrapping_add(self.lock_mro);
                let first_page = match form.addresses {
                    RangeAddresses::Pages => first / PAGE,
                    RangeAddresses::Bytes => first,
                };
                let id = range.id.unwrap_or(match form.ids {
                    RangeIds::Bar => range.bar,
                    RangeIds::HighByte => 0xFF00 | range.bar,
                    RangeIds::Doubled => 2 * range.bar,
                });
                Some(Entry { first_page, pages: range.pages, attributes: range.attributes, id })
            })
            .collect();
        if form.order == RangeOrder::Reversed {
            entries.reverse();
        }
        entries.extend(form.extra.iter().map(|extra| Entry {
            first_page: extra.page,
            pages: extra.pages,
            attributes: extra.attributes,
            id: extra.id,
        }));
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
        let tee = entries.iter().rposition(|entry| entry.attributes & NO_TEE == 0);
        match (lie, entries.first().copied()) {
            (Some(Lie::ReportRangePastBar), _) => {
                // The report is as listed: quirks and this lie do not go together.
                if let Some((entry, range)) = tee.and_then(|at| entries.get_mut(at).zip(self.ranges.get(at)))
                {
                    let bar_len = self.bar(range.bar).map_or(0, |bar| bar.len);
                    entry.pages = (bar_len.saturating_sub(range.offset) / PAGE) as u32 + 1;
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
