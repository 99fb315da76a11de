//! The evidence region: the raw objects of every device, for those who want to judge by themselves (docs/event-log.md).

use crate::cbor::Items;
use crate::conduit::OutOfMemory;
use crate::evidence::Objects;
use crate::memory;
use crate::pcie::{Bar, Function};
use crate::policy::decide::Candidate;
use crate::rsi::{Digests, HashAlgorithm, Nonces};
use alloc::vec::Vec;

/// Version of the region.
const VERSION: u64 = 1;
/// Largest region in bytes. Evidence that does not fit is left out: it is a convenience, and not measured.
const MAX_REGION_BYTES: usize = 1024 * 1024;

/// The evidence of one function, as it was collected.
#[derive(Clone, Copy, Debug)]
pub struct Collected<'a> {
    /// Id in RSI and RHI calls.
    pub vdev: u64,
    /// Its header.
    pub function: &'a Function,
    /// Its BARs.
    pub bars: &'a [Bar],
    /// Algorithm of the digests.
    pub hash: HashAlgorithm,
    /// What the RMM recorded.
    pub digests: &'a Digests,
    /// Under which nonces.
    pub nonces: Nonces,
    /// What the firmware asked to have in the SPDM request.
    pub requester_nonce: &'a [u8; 32],
    /// Why mode `run` is impossible with this payload on this machine.
    pub no_run: Option<&'a str>,
    /// The objects.
    pub objects: &'a Objects,
}

impl<'a> Collected<'a> {
    /// Takes what was judged.
    #[must_use]
    pub fn new(vdev: u64, nonces: Nonces, candidate: &Candidate<'a>) -> Self {
        let Candidate { function, bars, hash, digests, objects, nonce, no_run, .. } = *candidate;
        Self { vdev, function, bars, hash, digests, nonces, requester_nonce: nonce, no_run, objects }
    }

    pub(super) fn nonce_numbers(&self) -> [u64; 3] {
        [self.nonces.lock, self.nonces.measurement, self.nonces.report]
    }

    /// Digests of negotiation data, certificate chain, session key, measurements, report.
    pub(super) fn digest_list(&self) -> [&'a [u8]; 5] {
        let Digests { vca, certificate, public_key, measurement, report } = self.digests;
        let cut = |whole: &'a [u8; 64]| whole.get(..self.hash.digest_len()).unwrap_or_default();
        [cut(vca), cut(certificate), cut(public_key), cut(measurement), cut(report)]
    }
}

/// The region under construction.
#[derive(Clone, Debug, Default)]
pub struct EvidenceRegion {
    items: Items,
    count: usize,
}

impl EvidenceRegion {
    /// Adds the evidence of a function. False: there is no room for it.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn add(&mut self, slot: &str, collected: &Collected<'_>) -> Result<bool, OutOfMemory> {
        let Objects { vca, certificate, measurements, report } = collected.objects;
        let objects = [vca, certificate, measurements, report];
        let len = objects.iter().map(|object| object.len()).fold(1024, usize::saturating_add);
        let end = self.items.0.len().saturating_add(len);
        if end > MAX_REGION_BYTES {
            return Ok(false);
        }
        memory::grow(&mut self.items.0, len)?;
        self.count = self.count.saturating_add(1);
        let function = collected.function;
        let items = &mut self.items;
        items.array(14).text(slot).number(function.bdf.routing_id());
        items.array(6);
        for id in [function.vendor, function.device, function.subsystem_vendor, function.subsystem] {
            items.number(id);
        }
        items.number(function.class).number(function.revision);
        items.array(collected.bars.len());
        for bar in collected.bars {
            items.array(5).number(bar.index).bool(bar.wide).bool(bar.prefetchable);
            items.number(bar.address).number(bar.size);
        }
        match (function.msix_table, function.msix_pba) {
            (Some(table), Some(pba)) => {
                items.array(4).number(table.bar).number(table.offset).number(pba.bar).number(pba.offset);
            }
            _ => {
                items.null();
            }
        }
        items.text(collected.hash.name()).array(5);
        for digest in collected.digest_list() {
            items.bytes(digest);
        }
        items.array(3).numbers(&collected.nonce_numbers());
        items.bytes(collected.requester_nonce).text_or_null(collected.no_run);
        for object in objects {
            items.bytes(object);
        }
        Ok(true)
    }

    /// Returns the whole region.
    ///
    /// # Errors
    /// [`OutOfMemory`].
    pub fn finish(self) -> Result<Vec<u8>, OutOfMemory> {
        let mut head = Items::default();
        head.array(2).number(VERSION).array(self.count);
        let mut bytes = self.items.0;
        // In place: there may be no room for the region twice.
        memory::grow(&mut bytes, head.0.len())?;
        bytes.extend_from_slice(&head.0);
        bytes.rotate_right(head.0.len());
        Ok(bytes)
    }
}
