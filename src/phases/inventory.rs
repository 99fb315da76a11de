//! Phase 3: which functions are there, and what becomes of each.

use super::stop::OrStop;
use super::{Stop, StopReason};
use crate::addr::{Bdf, IpaRange};
use crate::codes::StopCode;
use crate::fdt::read::Machine;
use crate::pcie::{self, Ecam, Function, Windows};
use crate::platform::Platform;
use crate::policy::{self, Role};

/// Configuration space of one bus, in bytes (PCIe Base 6.0, 7.2.2).
const ECAM_BYTES_PER_BUS: u64 = 1 << 20;

/// What phase 3 knows.
#[derive(Debug)]
pub struct Inventory {
    /// Configuration space of bus 0.
    pub ecam: Ecam,
    /// The function that must pass.
    pub function: Function,
    /// Room for BARs.
    pub windows: Windows,
}

#[inline(never)]
pub(super) fn run<P: Platform>(
    platform: &mut P,
    machine: &Machine,
    required: Bdf,
) -> Result<Inventory, Stop> {
    let code = StopCode::ConfigSpace;
    let pci = &machine.pci;
    // Ids of RSI and RHI calls carry the segment above the routing id; one segment is supported.
    if pci.domain != 0 {
        return Err(Stop::new(StopCode::TreeContent, StopReason::Segment(pci.domain)));
    }
    let bus_0 = IpaRange::new(pci.ecam.base(), ECAM_BYTES_PER_BUS).or_stop(code)?;
    let ecam = Ecam::open(platform, bus_0, pci.first_bus, pci.first_bus).or_stop(code)?;
    let mut found = None;
    for function in pcie::walk_bus_0(platform, &ecam).or_stop(code)? {
        let role = policy::role(&function, required);
        log::info!(
            "pci {}: {:04x}:{:04x} class {:06x}{}: {}",
            function.bdf,
            function.vendor,
            function.device,
            function.class,
            if function.tee_io { " TEE-IO" } else { "" },
            match role {
                Role::Required => "required",
                Role::Bridge => "bridge",
                Role::Ignored => "ignored, made quiet",
            }
        );
        match role {
            Role::Required => found = Some(function),
            Role::Bridge => {}
            Role::Ignored => {
                pcie::make_quiet(platform, &ecam, function.bdf).or_stop(StopCode::NotQuiet)?;
            }
        }
    }
    let function = found.ok_or_else(|| {
        log::error!("pci {required}: missing");
        Stop::new(StopCode::RequiredMissing, StopReason::Missing(required))
    })?;
    let window = |wide| pci.windows.iter().find(|window| window.wide == wide).map(|window| window.range);
    Ok(Inventory { ecam, function, windows: Windows::new(window(false), window(true)) })
}
