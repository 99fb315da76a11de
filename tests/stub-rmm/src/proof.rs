//! What the hardware's own tables say at the end, read back by walking them: not what the model believes.

use crate::layout::{ALIAS_BIT, ITS_DOORBELL, PAGE};
use crate::machine::Hardware;
use crate::shell::Exits;
use crate::smmu::Entry;
use rmm_model::FinalState;
use rmm_model::final_state::DevRange;
use serde_json::{Value, json};

/// Walks stage 2 and the stream table.
pub fn collect(hw: &Hardware, state: &FinalState, exits: &Exits) -> Value {
    let devices: Value = state
        .devices
        .iter()
        .map(|device| {
            let stream = routing_id(&device.bdf);
            json!({
                "slot": device.slot,
                "bdf": device.bdf,
                "stream": stream.map_or("unknown", |rid| entry_name(hw, rid)),
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
        },
        "leaf_changes": hw.leaf_changes,
        "table_pages": s2.tables_used(),
    })
}

/// Parses `bb:dd.f`.
fn routing_id(bdf: &str) -> Option<u16> {
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
