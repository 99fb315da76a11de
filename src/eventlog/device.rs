//! The events about one device: what it measured, who vouches for that, and the exchange.

use super::events::{authority, session_event};
use super::evidence::Collected;
use super::{Event, put16, put32, put64};
use crate::abi::eventlog as abi;
use crate::abi::spdm;
use crate::boot::slot::SlotPath;
use crate::cbor::{Items, length};
use crate::conduit::OutOfMemory;
use crate::evidence::{Block, Exchange, Vca};
use crate::memory;
use crate::pcie::Function;
use crate::policy::decide::{Decision, Used};
use crate::policy::types::Policy;
use crate::rsi::HashAlgorithm;
use crate::sort;
use alloc::vec::Vec;

/// Index, specification, size, type and size again, in front of a block's value.
const BLOCK_HEADER_LEN: usize = 7;

/// Makes the events of what a device measured and of the anchor that its chain ends at, in the order of the log, one after
/// the other: `record` takes each before the next is made.
///
/// `position`: of the function among those that are judged, from 1.
///
/// # Errors
/// [`OutOfMemory`], and what `record` says.
pub fn device_events<E: From<OutOfMemory>>(
    position: u64,
    path: &SlotPath,
    collected: &Collected<'_>,
    policy: &Policy,
    decision: &Decision,
    record: &mut impl FnMut(&Event) -> Result<(), E>,
) -> Result<(), E> {
    let is_signed = decision.used.iter().any(|used| matches!(used, Used::Signature { .. }));
    let vca = Vca::parse(&collected.objects.vca);
    let exchange =
        vca.as_ref().ok().and_then(|vca| Exchange::parse(&collected.objects.measurements, vca).ok());
    if let (Ok(vca), Some(mut exchange)) = (&vca, exchange) {
        sort::by_key(&mut exchange.blocks, |block| block.index);
        let auth = if is_signed { abi::AUTH_SUCCESS } else { abi::AUTH_NONE };
        for (pcr, kind, is_firmware) in [
            (abi::PCR_FIRMWARE, abi::EV_EFI_SPDM_FIRMWARE_BLOB, true),
            (abi::PCR_FIRMWARE_CONFIG, abi::EV_EFI_SPDM_FIRMWARE_CONFIG, false),
        ] {
            let (count, blocks) = blocks(&exchange.blocks, is_firmware)?;
            if count > 0 {
                let data = measured(auth, position, path, collected.function, vca, count, &blocks)?;
                drop(blocks);
                record(&Event { pcr, kind, data })?;
            }
        }
    }
    let anchor = decision.used.iter().find_map(|used| match used {
        Used::Anchor(name) => policy.anchors.iter().find(|anchor| anchor.name == *name),
        _ => None,
    });
    anchor.filter(|_| is_signed).map_or(Ok(()), |anchor| record(&authority(anchor)))
}

/// Writes the blocks of the firmware, or all others, as the device sent them, and counts them.
fn blocks(blocks: &[Block<'_>], is_firmware: bool) -> Result<(u8, Vec<u8>), OutOfMemory> {
    let those = || blocks.iter().filter(|block| (block.kind <= spdm::KIND_FIRMWARE) == is_firmware);
    let len = those().map(|block| block.value.len().saturating_add(BLOCK_HEADER_LEN));
    let (mut count, mut record) = (0u8, memory::reserve(len.fold(0, usize::saturating_add))?);
    for block in those() {
        count = count.saturating_add(1);
        let len = u16::try_from(block.value.len()).unwrap_or(u16::MAX);
        let raw = if block.is_raw { spdm::VALUE_RAW } else { 0 };
        record.extend_from_slice(&[block.index, spdm::MEASUREMENT_SPECIFICATION_DMTF]);
        put16(&mut record, len.saturating_add(3));
        record.push(block.kind | raw);
        put16(&mut record, len);
        record.extend_from_slice(block.value);
    }
    Ok((count, record))
}

/// Writes DEVICE_SECURITY_EVENT_DATA2 with measurement blocks.
fn measured(
    auth: u8,
    position: u64,
    path: &SlotPath,
    function: &Function,
    vca: &Vca,
    count: u8,
    record: &[u8],
) -> Result<Vec<u8>, OutOfMemory> {
    let mut device_path = Vec::from(abi::PATH_ROOT);
    for hop in path.hops() {
        device_path.extend_from_slice(&abi::PATH_PCI);
        device_path.extend_from_slice(&[hop.function(), hop.device()]);
    }
    device_path.extend_from_slice(&abi::PATH_END);
    let sub_len = record.len().saturating_add(abi::SUB_HEADER_LEN);
    let whole = [abi::DEVICE_HEADER_LEN, device_path.len(), sub_len, abi::PCI_CONTEXT_LEN.into()];
    let number = |len: usize| u32::try_from(len).unwrap_or(u32::MAX);

    let mut data = memory::reserve(whole.iter().sum())?;
    data.extend_from_slice(abi::DEVICE_SIGNATURE);
    put16(&mut data, abi::DEVICE_VERSION);
    data.extend_from_slice(&[auth, 0]);
    put32(&mut data, number(whole.iter().sum()));
    put32(&mut data, abi::DEVICE_TYPE_PCI);
    put32(&mut data, abi::SUB_HEADER_MEASUREMENTS);
    put32(&mut data, number(sub_len));
    put64(&mut data, position);
    put64(&mut data, length(device_path.len()));
    data.extend_from_slice(&device_path);
    put16(&mut data, vca.version.wire().into());
    data.extend_from_slice(&[count, 0]);
    put32(&mut data, measurement_hash(vca));
    data.extend_from_slice(record);
    put16(&mut data, 0);
    put16(&mut data, abi::PCI_CONTEXT_LEN);
    put16(&mut data, function.vendor);
    put16(&mut data, function.device);
    let [class @ .., _] = function.class.to_le_bytes();
    data.push(function.revision);
    data.extend_from_slice(&class);
    put16(&mut data, function.subsystem_vendor);
    put16(&mut data, function.subsystem);
    Ok(data)
}

/// Returns MeasurementHashAlgo as it stood in ALGORITHMS.
fn measurement_hash(vca: &Vca) -> u32 {
    match vca.measurement_hash {
        None => spdm::MEASUREMENT_RAW_ONLY,
        Some(HashAlgorithm::Sha256) => spdm::MEASUREMENT_SHA_256,
        Some(HashAlgorithm::Sha384) => spdm::MEASUREMENT_SHA_384,
        Some(HashAlgorithm::Sha512) => spdm::MEASUREMENT_SHA_512,
    }
}

/// Makes the event of an exchange: what differs from boot to boot.
#[must_use]
pub fn session(slot: &str, collected: &Collected<'_>) -> Event {
    let mut items = Items::default();
    items.array(13).text(slot).number(collected.vdev).text(collected.hash.name());
    items.numbers(&collected.nonce_numbers());
    for digest in collected.digest_list() {
        items.bytes(digest);
    }
    items.bytes(collected.requester_nonce).text_or_null(collected.no_run);
    session_event(&items)
}
