//! Phase 3: which functions are there, what becomes of each, and which addresses they get.

use super::stop::OrStop;
use super::{Stop, StopReason};
use crate::addr::IpaRange;
use crate::boot::slot::SlotPath;
use crate::codes::StopCode;
use crate::fdt::pci::ECAM_BYTES_PER_BUS;
use crate::fdt::read::Machine;
use crate::pcie::{self, BarSize, Bars, BridgeWindows, Ecam, Function, PcieError, Topology};
use crate::platform::Platform;
use crate::policy::{Role, Rules};
use crate::tdi::{Fleet, Found, Member, Tdi};
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
}

/// A function in mode `shared`: it gets addresses, and is never locked.
#[derive(Debug)]
pub struct Shared {
    /// Header fields and location.
    pub function: Function,
    /// Its BARs, or why it has none.
    pub bars: Result<Bars, PcieError>,
}

/// What becomes of the functions that are neither bridges nor extra.
#[derive(Debug)]
pub struct Chosen {
    /// For mode `run`, in inventory order.
    pub run: Fleet<Found>,
    /// For mode `shared`.
    pub shared: Vec<Shared>,
}

/// A function that a rule names.
struct Wanted<'a> {
    function: &'a Function,
    path: SlotPath,
    role: Role,
    sizes: Result<Vec<BarSize>, PcieError>,
}

#[inline(never)]
pub(super) fn run<P: Platform>(
    platform: &mut P,
    machine: &Machine,
    rules: &Rules,
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
    for bridge in &topology.bridges {
        log::info!(
            "pci {}: {:04x}:{:04x} bridge to {:02x}-{:02x}",
            bridge.bdf,
            bridge.vendor,
            bridge.device,
            bridge.secondary,
            bridge.subordinate
        );
    }
    let mut wanted = Vec::new();
    let mut found = Vec::new();
    for function in &topology.functions {
        let path = topology.path(function);
        let role = rules.role(&path, function);
        log::info!(
            "pci {}: {:04x}:{:04x} class {:06x}{} at {path}: {role}",
            function.bdf,
            function.vendor,
            function.device,
            function.class,
            if function.tee_io { " TEE-IO" } else { "" },
        );
        match role {
            Role::Bridge => {}
            Role::Extra => pcie::make_quiet(platform, &ecam, function.bdf).or_stop(StopCode::NotQuiet)?,
            Role::Required | Role::Optional | Role::Shared => {
                // Makes it quiet as well.
                let sizes = pcie::size_bars(platform, &ecam, function);
                found.push(path.clone());
                wanted.push(Wanted { function, path, role, sizes });
            }
        }
    }
    missing(rules, &found)?;
    // Addresses go to what the boot needs first; everything else keeps the order of the walk.
    let mut by_need: Vec<_> = wanted.iter().enumerate().collect();
    by_need.sort_unstable_by_key(|(index, wanted)| (wanted.role, *index));
    let sized: Vec<_> = by_need
        .iter()
        .map(|(_, wanted)| (wanted.function, wanted.sizes.as_deref().unwrap_or_default()))
        .collect();
    let allocation = pcie::allocate(&topology, &sized, &pci.windows);
    pcie::open_bridges(platform, &ecam, &topology, &allocation.windows).or_stop(code)?;
    let mut placed: Vec<_> = by_need.iter().map(|(index, _)| *index).zip(allocation.bars).collect();
    placed.sort_unstable_by_key(|(index, _)| *index);
    let mut chosen = Chosen { run: Vec::new(), shared: Vec::new() };
    for (Wanted { function, path, role, sizes }, (_, bars)) in wanted.iter().zip(placed) {
        let bars = sizes.as_ref().map_err(|error| *error).and(bars);
        let function = Function::clone(function);
        if *role == Role::Shared {
            chosen.shared.push(Shared { function, bars });
        } else {
            let tdi = Tdi::new(function, bars, rules.quiet_device(path));
            chosen.run.push(Member { required: *role == Role::Required, rule: role.rule_name(), tdi });
        }
    }
    Ok((Inventory { ecam, topology, windows: allocation.windows }, chosen))
}

/// Says which slots of the rules are empty; one that must not be stops the boot.
fn missing(rules: &Rules, found: &[SlotPath]) -> Result<(), Stop> {
    let mut needed = None;
    for (path, role) in rules.missing(found) {
        if role == Role::Required {
            log::error!("pci {path}: missing");
            needed = needed.or(Some(path));
        } else {
            log::warn!("pci {path}: missing, {role}");
        }
    }
    match needed {
        Some(path) => Err(Stop::new(StopCode::RequiredMissing, StopReason::Missing(path.clone()))),
        None => Ok(()),
    }
}
