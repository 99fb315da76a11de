//! Phase 3: which functions are there, which rules may take each, and which addresses they get.

use super::measure::{self, Entry};
use super::stop::OrStop;
use super::{Stop, StopReason};
use crate::addr::{Bdf, IpaRange};
use crate::boot::slot::SlotPath;
use crate::codes::StopCode;
use crate::eventlog::{Disposition, Listed};
use crate::fdt::pci::ECAM_BYTES_PER_BUS;
use crate::fdt::read::Machine;
use crate::pcie::{self, BarSize, Bars, Bridge, BridgeWindows, Ecam, Function, Kind, PcieError, Topology};
use crate::platform::Platform;
use crate::policy::inventory::{Shown, assign, disposition, missing, on_failure};
use crate::policy::types::{Mode, OnFailure, Policy, Rest};
use crate::sort;
use crate::tdi::{Fleet, Found, Member, Tdi};
use alloc::borrow::ToOwned;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

/// What phase 3 knows.
#[derive(Debug)]
pub struct Inventory {
    /// Configuration space of all buses.
    pub ecam: Ecam,
    /// Bridges and functions.
    pub topology: Topology,
    /// What each bridge of the topology forwards.
    pub windows: Vec<BridgeWindows>,
    /// Functions with addresses, in inventory order.
    pub placed: Vec<Placed>,
}

/// A function with the addresses that were chosen for its BARs.
#[derive(Debug)]
pub struct Placed {
    /// Header fields and location.
    pub function: Function,
    /// Its BARs, or why it has none.
    pub bars: Result<Bars, PcieError>,
}

/// A function that is never locked.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Where it is.
    pub bdf: Bdf,
    /// Name of the rule.
    pub rule: String,
    /// What happens when it cannot be used.
    pub on_failure: OnFailure,
}

/// What becomes of the functions that rules take.
#[derive(Debug)]
pub struct Chosen {
    /// To be attested, in inventory order.
    pub attest: Fleet<Found>,
    /// For mode `shared`.
    pub shared: Vec<Shared>,
}

/// In which order functions get addresses: what the boot needs comes first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    Required,
    Optional,
    Unlisted,
}

/// A function that gets addresses.
struct Wanted<'a> {
    function: &'a Function,
    path: SlotPath,
    rules: Vec<usize>,
    need: Need,
    sizes: Result<Vec<BarSize>, PcieError>,
}

#[inline(never)]
pub(super) fn run<P: Platform>(
    platform: &mut P,
    machine: &Machine,
    policy: Option<&Policy>,
    entries: &mut Vec<Entry>,
) -> Result<(Inventory, Chosen), Stop> {
    let code = StopCode::ConfigSpace;
    let pci = &machine.pci;
    // Ids of RSI and RHI calls carry the segment above the routing id; one segment is supported.
    if pci.domain != 0 {
        return Err(Stop::new(StopCode::TreeContent, StopReason::Segment(pci.domain)));
    }
    let buses = u64::from(pci.last_bus.saturating_sub(pci.first_bus)).saturating_add(1);
    let space = IpaRange::new(pci.ecam.base(), buses.saturating_mul(ECAM_BYTES_PER_BUS)).or_stop(code)?;
    let ecam = Ecam::open(platform, space, pci.first_bus, pci.last_bus).or_stop(code)?;
    let topology = pcie::walk(platform, &ecam).or_stop(code)?;
    let nothing = Policy::default();
    let rules = policy.unwrap_or(&nothing);
    let open = bridges(&topology, rules, entries);
    let mut eligible = Vec::new();
    for function in topology.functions.iter().filter(|function| function.kind != Kind::Bridge) {
        let path = topology.path(function);
        crate::say::info!(
            "pci {}: {:04x}:{:04x} class {:06x}{} at {path}",
            function.bdf,
            function.vendor,
            function.device,
            function.class,
            if function.tee_io { " TEE-IO" } else { "" },
        );
        if policy.is_none() {
            return Err(Stop::new(StopCode::NoPolicy, StopReason::NoPolicy(path)));
        }
        let is_open = function.above.is_none_or(|above| open.get(above) == Some(&true));
        eligible.push((function, path, is_open && function.kind == Kind::Endpoint));
    }
    let shown: Vec<_> = eligible
        .iter()
        .filter(|(.., is_eligible)| *is_eligible)
        .map(|(function, path, _)| (path, Shown::from(*function)))
        .collect();
    let assigned = assign(rules, &shown);
    drop(shown);
    if let Some(missing) = missing(rules, &assigned).next().filter(|_| !rules.audit) {
        return Err(Stop::missing(rules, missing));
    }
    let mut assigned = assigned.into_iter();
    let mut wanted = Vec::new();
    for (function, path, is_eligible) in eligible {
        let taken_by = if is_eligible { assigned.next().unwrap_or_default() } else { Vec::new() };
        let first = taken_by.first().and_then(|index| rules.rules.get(*index));
        let bdf = function.bdf;
        let disposition = disposition(rules, first, is_eligible);
        let listed = Listed {
            slot: path.to_string(),
            shown: function.into(),
            revision: function.revision,
            disposition,
            rule: measure::name(first),
        };
        entries.push(Entry::new(listed, Some(bdf)));
        if matches!(disposition, Disposition::Extra | Disposition::Hide) {
            pcie::make_quiet(platform, &ecam, bdf).or_stop(StopCode::NotQuiet)?;
            match first {
                Some(rule) => crate::say::info!("pci {bdf}: rule {}, hidden", rule.name),
                None if rules.rest == Rest::Stop => {
                    return Err(Stop::new(StopCode::ExtraFunction, StopReason::Extra(path)));
                }
                None => crate::say::warn!("pci {bdf}: extra, no rule takes it: quiet and hidden"),
            }
            continue;
        }
        let is_required =
            taken_by.iter().any(|index| rules.rules.get(*index).is_some_and(|rule| rule.required));
        let need = match first {
            None => Need::Unlisted,
            Some(_) if is_required => Need::Required,
            Some(_) => Need::Optional,
        };
        // Makes it quiet as well.
        let sizes = pcie::size_bars(platform, &ecam, function);
        wanted.push(Wanted { function, path, rules: taken_by, need, sizes });
    }
    say_missing(rules, &wanted);
    // Addresses go to what the boot needs first; everything else keeps the order of the walk.
    let mut by_need: Vec<_> = wanted.iter().enumerate().collect();
    sort::by_key(&mut by_need, |(index, wanted)| (wanted.need, *index));
    let sized: Vec<_> = by_need
        .iter()
        .map(|(_, wanted)| (wanted.function, wanted.sizes.as_deref().unwrap_or_default()))
        .collect();
    let allocation = pcie::allocate(&topology, &sized, &pci.windows);
    pcie::open_bridges(platform, &ecam, &topology, &allocation.windows).or_stop(code)?;
    let mut given: Vec<_> = by_need.iter().map(|(index, _)| *index).zip(allocation.bars).collect();
    sort::by_key(&mut given, |(index, _)| *index);
    let mut chosen = Chosen { attest: Vec::new(), shared: Vec::new() };
    let mut placed = Vec::new();
    for (wanted, (_, bars)) in wanted.into_iter().zip(given) {
        let bars = wanted.sizes.as_ref().map_err(|error| *error).and(bars);
        placed.push(Placed { function: wanted.function.clone(), bars: bars.clone() });
        choose(rules, wanted, bars, &mut chosen);
    }
    Ok((Inventory { ecam, topology, windows: allocation.windows, placed }, chosen))
}

/// Says of each bridge whether rules take it and all those above it.
fn bridges(topology: &Topology, policy: &Policy, entries: &mut Vec<Entry>) -> Vec<bool> {
    let mut open: Vec<bool> = Vec::new();
    for bridge in &topology.bridges {
        let path = topology.bridge_path(bridge);
        let rule = policy.rules.iter().find(|rule| rule.takes_bridge(&path, &bridge.into()));
        // Bridges stand behind the one above them.
        let is_open = (rule.is_some() || policy.audit)
            && bridge.above.is_none_or(|above| open.get(above) == Some(&true));
        crate::say::info!(
            "pci {}: {:04x}:{:04x} bridge at {path} to {:02x}-{:02x}{}",
            bridge.bdf,
            bridge.vendor,
            bridge.device,
            bridge.secondary,
            bridge.subordinate,
            if is_open { "" } else { ": no rule takes it, nor what is behind it" }
        );
        open.push(is_open);
        let listed = Listed {
            slot: path.to_string(),
            shown: bridge.into(),
            revision: bridge.revision,
            disposition: if is_open { Disposition::Bridge } else { Disposition::Extra },
            rule: measure::name(rule),
        };
        entries.push(Entry::new(listed, None));
    }
    open
}

/// Files a function under what its first rule has for it.
fn choose(policy: &Policy, wanted: Wanted<'_>, bars: Result<Bars, PcieError>, chosen: &mut Chosen) {
    let Wanted { function, path, rules, .. } = wanted;
    let first = rules.first().and_then(|index| policy.rules.get(*index));
    let rule = first.map_or("none", |rule| &rule.name).to_owned();
    let on_failure = on_failure(policy, &rules);
    crate::say::info!("pci {}: rule {rule} at {path}", function.bdf);
    if !policy.audit && first.is_some_and(|rule| rule.modes.first() == Some(&Mode::Shared)) {
        chosen.shared.push(Shared { bdf: function.bdf, rule, on_failure });
        return;
    }
    chosen.attest.push(Member { rule, rules, on_failure, tdi: Tdi::new(function.clone(), bars) });
}

/// Says which optional rules have no function.
fn say_missing(policy: &Policy, wanted: &[Wanted<'_>]) {
    for (index, rule) in policy.rules.iter().enumerate().filter(|(_, rule)| rule.is_for_functions()) {
        let found = wanted.iter().filter(|wanted| wanted.rules.contains(&index)).count();
        if found == 0 && !rule.required {
            crate::say::warn!("rule {}: missing, optional", rule.name);
        }
    }
}

/// Walks once more: what was there at the inventory must be there, and nothing else.
///
/// # Errors
/// [`StopCode::InventoryChanged`].
#[inline(never)]
pub(super) fn unchanged<P: Platform>(platform: &mut P, inventory: &Inventory) -> Result<(), Stop> {
    let code = StopCode::InventoryChanged;
    let again = pcie::walk(platform, &inventory.ecam).or_stop(code)?;
    let before = &inventory.topology;
    let changed = |bdf| Err(Stop::new(code, StopReason::Changed(bdf)));
    for bridge in &again.bridges {
        if !before.bridges.iter().any(|known| known.is_still(bridge)) {
            return changed(bridge.bdf);
        }
    }
    for function in &again.functions {
        if !before.functions.contains(function) {
            return changed(function.bdf);
        }
    }
    let is_gone = |bridge: &&Bridge| !again.bridges.iter().any(|now| bridge.is_still(now));
    let bridge = before.bridges.iter().find(is_gone).map(|bridge| bridge.bdf);
    let function = before.functions.iter().find(|function| !again.functions.contains(function));
    match bridge.or(function.map(|function| function.bdf)) {
        Some(bdf) => changed(bdf),
        None => Ok(()),
    }
}
