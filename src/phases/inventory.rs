//! Phase 3: which functions are there, and what becomes of each.

use super::stop::OrStop;
use super::{Stop, StopReason};
use crate::addr::Bdf;
use crate::codes::StopCode;
use crate::fdt::pci::Window;
use crate::fdt::read::Machine;
use crate::pcie::{self, Ecam, Function};
use crate::platform::Platform;
use crate::policy::{self, Role};
use alloc::vec::Vec;

/// What phase 3 knows.
#[derive(Debug)]
pub struct Inventory {
    /// Configuration space.
    pub ecam: Ecam,
    /// The function that must pass.
    pub function: Function,
    /// Room for BARs.
    pub windows: Vec<Window>,
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
    let ecam = Ecam::open(platform, pci.ecam, pci.first_bus, pci.last_bus).or_stop(code)?;
    let mut found = None;
    for function in pcie::walk(platform, &ecam).or_stop(code)?.functions {
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
    Ok(Inventory { ecam, function, windows: pci.windows.clone() })
}
