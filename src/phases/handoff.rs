//! Phase 7: RUN and idle for every device, the final tree, then DMA: the last calls before the jump.

use super::attest::Pinned;
use super::emulated::Emulated;
use super::inventory::{Inventory, Shared, unchanged};
use super::load::Loaded;
use super::measure::Measured;
use super::negotiate::BundlePolicy;
use super::realm::Realm;
use super::stop::OrStop;
use super::tree::{Open, Shown};
use super::{Payload, Stop, tree};
use crate::addr::Bdf;
use crate::codes::StopCode;
use crate::pcie;
use crate::platform::Platform;
use crate::policy::types::{Mode, OnFailure};
use crate::sort;
use crate::tdi::{self, Fleet, Link, Mapped};
use alloc::vec::Vec;

/// What is handed off besides the devices that run.
#[derive(Debug)]
pub(super) struct Rest<'a> {
    /// Mode `pin`.
    pub(super) pinned: Vec<Pinned>,
    /// Mode `shared`.
    pub(super) shared: Vec<Shared>,
    /// Besides PCI.
    pub(super) emulated: Emulated<'a>,
    /// The policy.
    pub(super) policy: Option<&'a BundlePolicy>,
}

#[inline(never)]
pub(super) fn run<P: Platform>(
    link: &mut Link<'_, P>,
    realm: &Realm,
    inventory: &Inventory,
    fleet: Fleet<Mapped>,
    rest: Rest<'_>,
    loaded: &Loaded<'_>,
    mut measured: Measured,
) -> Result<Payload, Stop> {
    let mut fallen = Vec::new();
    let Rest { pinned, mut shared, emulated, policy } = rest;
    let mut fleet = tdi::each(link, fleet, &mut fallen, |tdi, link| tdi.start(link))?;
    shared.extend(measured.fell(core::mem::take(&mut fallen)));
    let mut open = Vec::new();
    let built = open_shared(link, inventory, shared, &mut open, &mut measured)
        .and_then(|()| unchanged(link.platform, inventory))
        .and_then(|()| emulated.unchanged(link.platform))
        .and_then(|()| {
            let shown = Shown { run: &fleet, pinned: &pinned, shared: &open, emulated: &emulated, policy };
            let running: Vec<Bdf> = fleet.iter().map(|member| member.tdi.function().bdf).collect();
            measured.outcomes(link.platform, link.rsi, &running)?;
            tree::build(link.platform, realm, inventory, &shown, loaded, &mut measured)
        });
    let payload = match built {
        Ok(payload) => payload,
        Err(stop) => {
            tdi::abandon(link, fleet);
            close_shared(link, &open);
            return Err(stop);
        }
    };
    // The tree names them all: from here on a refusal of any of them stops the boot.
    fleet.iter_mut().for_each(|member| member.on_failure = OnFailure::Stop);
    if let Err(rejected) = tdi::each(link, fleet, &mut fallen, |tdi, link| tdi.enable_dma(link)) {
        close_shared(link, &open);
        return Err(rejected.into());
    }
    crate::say::info!("handoff: payload at {:#x}, device tree at {:#x}", payload.entry, payload.tree);
    Ok(payload)
}

/// Gives the functions of mode `shared` their addresses. One that cannot be used is quiet and not shown, unless its rule
/// stops the boot then.
fn open_shared<P: Platform>(
    link: &mut Link<'_, P>,
    inventory: &Inventory,
    mut shared: Vec<Shared>,
    open: &mut Vec<Open>,
    measured: &mut Measured,
) -> Result<(), Stop> {
    sort::by_key(&mut shared, |shared| shared.bdf);
    for Shared { bdf, rule, on_failure } in shared {
        let Some(placed) = inventory.placed.iter().find(|placed| placed.function.bdf == bdf) else {
            continue;
        };
        let prepared = placed.bars.clone().and_then(|bars| {
            pcie::prepare(link.platform, link.ecam, &placed.function, &bars)?;
            Ok(bars)
        });
        match prepared {
            Ok(bars) => open.push(Open { function: placed.function.clone(), bars, rule }),
            Err(error) => {
                crate::say::error!("pci {bdf}: rule {rule}: cannot be shared, hidden: {error}");
                measured.refuse(bdf, StopCode::SharedFailed, Some(Mode::Hide));
                pcie::make_quiet(link.platform, link.ecam, bdf).or_stop(StopCode::NotQuiet)?;
                if on_failure == OnFailure::Stop {
                    return Err(Stop::new(StopCode::SharedFailed, error));
                }
            }
        }
    }
    Ok(())
}

fn close_shared<P: Platform>(link: &mut Link<'_, P>, open: &[Open]) {
    for Open { function, .. } in open {
        if let Err(error) = pcie::make_quiet(link.platform, link.ecam, function.bdf) {
            crate::say::error!("pci {}: leaked: {error}", function.bdf);
        }
    }
}
