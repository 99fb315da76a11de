//! What the hardware's own tables say at the end, read back by walking them: not what the model believes.

use crate::layout::{ALIAS_BIT, ITS_DOORBELL, PAGE};
use crate::machine::Hardware;
use crate::shell::Exits;
use crate::smmu::Entry;
use alloc::vec::Vec;
use rmm_model::FinalState;
use rmm_model::final_state::DevRange;
use serde_json::{Value, json};

/// How many pages of RAM are looked up.
const SAMPLES: u64 = 64;

/// Walks stage 2 and the stream table.
pub fn collect(hw: &Hardware, state: &FinalState, exits: &Exits, console: u64) -> Value {
    let devices: Value = state
        .devices
        .iter()
        .map(|device| {
            let stream = routing_id(&device.bdf);
            json!({
                "slot": device.slot,
                "bdf": device.bdf,
                "stream": stream.map_or("unknown", |rid| entry_name(hw, rid)),
                "reach": stream.map(|rid| reach(hw, rid)),
                "reaches_bar": stream.is_some_and(|rid| reaches_any(hw, rid, &device.validated)),
                "dev": ranges(hw, &device.dev_ranges),
                "validated": ranges(hw, &device.validated),
                "tee_alias_leaves": device.tee_aliases.iter().map(|r| alias_leaves(hw, r.base, r.len)).sum::<u64>(),
            })
        })
        .collect();
    let gates: Value = hw
        .gates
        .iter()
        .map(|(rid, gate)| json!({ "rid": rid, "asked": gate, "stream": entry_name(hw, *rid) }))
        .collect();
    let events = hw.smmu.events;
    let s2 = &hw.stage2;
    json!({
        "devices": devices,
        "gates": gates,
        "open_streams": hw.smmu.open_streams(),
        "pages_in_both_halves": s2.pages_in_both_halves(),
        "cpu_protected_doorbell": s2.find(s2.cpu, ITS_DOORBELL).is_some(),
        "private_root_alias": s2.half_has_entries(s2.private, true),
        "shared_root_protected": s2.half_has_entries(s2.shared, false),
        "smmu_events": {
            "translation": events.translation, "permission": events.permission, "other": events.other,
            "overflows": events.overflows, "first": events.first,
        },
        "exits": {
            "smc": exits.smc, "fault": exits.fault, "injected": exits.injected, "undefined": exits.undefined,
            "console": console,
        },
        "leaf_changes": hw.leaf_changes,
        "table_pages": s2.tables_used(),
    })
}

/// The root that a stream's entry leads to, if it is one of ours.
fn root(hw: &Hardware, rid: u16) -> Option<u64> {
    match hw.smmu.entry(rid) {
        Entry::Stage2(root) if root == hw.stage2.private || root == hw.stage2.shared => Some(root),
        _ => None,
    }
}

/// What the DMA of one stream reaches: its entry in the stream table, and walks of the root that is there.
///
/// `sampled`: pages of RAM, spread over all of it, that the CPU has in the protected half; `private`: how many of them
/// the stream reaches at the same address. `alias`: any leaf in the alias half. `device`: any leaf to a device but the
/// interrupt doorbell, which is `doorbell`.
pub fn reach(hw: &Hardware, rid: u16) -> Value {
    let s2 = &hw.stage2;
    let step = ((hw.ram.end() - hw.ram.base()) / SAMPLES / PAGE).max(1) * PAGE;
    let pages = (hw.ram.base()..hw.ram.end()).step_by(step as usize);
    let is_private = |page: &u64| s2.find(s2.cpu, *page).is_some_and(|leaf| leaf.pa == *page && !leaf.device);
    let private: Vec<u64> = pages.filter(is_private).collect();
    let root = root(hw, rid);
    let reached =
        root.map_or(0, |root| private.iter().filter(|page| s2.find(root, **page).is_some()).count());
    json!({
        "entry": entry_name(hw, rid),
        "root": root,
        "sampled": private.len(),
        "private": reached,
        "alias": root.is_some_and(|root| s2.half_has_entries(root, true)),
        "device": root.is_some_and(|root| s2.reaches_device(root)),
        "doorbell": root.is_some_and(|root| s2.find(root, ITS_DOORBELL).is_some()),
    })
}

/// Whether the DMA of one stream reaches a page of these ranges, in either half.
fn reaches_any(hw: &Hardware, rid: u16, ranges: &[DevRange]) -> bool {
    let Some(root) = root(hw, rid) else { return false };
    let pages = ranges.iter().flat_map(|range| (range.ipa..range.top()).step_by(PAGE as usize));
    pages.flat_map(|ipa| [ipa, ipa | ALIAS_BIT]).any(|ipa| hw.stage2.find(root, ipa).is_some())
}

/// Parses `bb:dd.f`.
pub fn routing_id(bdf: &str) -> Option<u16> {
    let (bus, rest) = bdf.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let part = |text: &str| u16::from_str_radix(text, 16).ok();
    Some((part(bus)? << 8) | (part(device)? << 3) | part(function)?)
}

fn entry_name(hw: &Hardware, rid: u16) -> &'static str {
    match hw.smmu.entry(rid) {
        Entry::Abort => "abort",
        Entry::Stage2(root) if root == hw.stage2.private => "private-only",
        Entry::Stage2(root) if root == hw.stage2.shared => "shared-only",
        Entry::Stage2(_) | Entry::Bad(_) => "bad",
    }
}

fn alias_leaves(hw: &Hardware, base: u64, len: u64) -> u64 {
    let pages = (base..base.saturating_add(len)).step_by(PAGE as usize);
    pages.filter(|ipa| hw.stage2.find(hw.stage2.cpu, ipa | ALIAS_BIT).is_some()).count() as u64
}

/// Counts of pages: all, with the protected leaf that they must have, with an alias leaf.
fn ranges(hw: &Hardware, ranges: &[DevRange]) -> Value {
    let mut right = 0;
    let mut aliased = 0;
    for range in ranges {
        for offset in (0..range.len).step_by(PAGE as usize) {
            let leaf = hw.stage2.find(hw.stage2.cpu, range.ipa + offset);
            right +=
                u64::from(leaf.is_some_and(|leaf| leaf.pa == range.pa + offset && leaf.device && !leaf.exec));
        }
        aliased += alias_leaves(hw, range.ipa, range.len);
    }
    let pages: u64 = ranges.iter().map(|range| range.len / PAGE).sum();
    json!({ "pages": pages, "protected_leaves": right, "alias_leaves": aliased })
}
