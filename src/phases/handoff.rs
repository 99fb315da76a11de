//! Phase 7: RUN and idle for every device, the final tree, then DMA: the last calls before the jump.

use super::inventory::{Inventory, Shared};
use super::load::Loaded;
use super::realm::Realm;
use super::stop::OrStop;
use super::{Payload, Stop, tree};
use crate::codes::StopCode;
use crate::pcie;
use crate::platform::Platform;
use crate::tdi::{self, Fleet, Link, Mapped};
use alloc::vec::Vec;

#[inline(never)]
pub(super) fn run<P: Platform>(
    link: &mut Link<'_, P>,
    realm: &Realm,
    inventory: &Inventory,
    fleet: Fleet<Mapped>,
    shared: Vec<Shared>,
    loaded: &Loaded<'_>,
) -> Result<Payload, Stop> {
    let mut fleet = tdi::each(link, fleet, |tdi, link| tdi.start(link))?;
    let mut open = Vec::new();
    let built = open_shared(link, shared, &mut open)
        .and_then(|()| tree::build(link.platform, realm, inventory, &fleet, &open, loaded));
    let payload = match built {
        Ok(payload) => payload,
        Err(stop) => {
            tdi::abandon(link, fleet);
            close_shared(link, &open);
            return Err(stop);
        }
    };
    // The tree names them all: from here on a refusal of any of them stops the boot.
    fleet.iter_mut().for_each(|member| member.required = true);
    if let Err(rejected) = tdi::each(link, fleet, |tdi, link| tdi.enable_dma(link)) {
        close_shared(link, &open);
        return Err(rejected.into());
    }
    log::info!("handoff: payload at {:#x}, device tree at {:#x}", payload.entry, payload.tree);
    Ok(payload)
}

/// Gives the functions of mode `shared` their addresses. One that cannot be used is quiet and not shown.
fn open_shared<P: Platform>(
    link: &mut Link<'_, P>,
    shared: Vec<Shared>,
    open: &mut Vec<tree::Open>,
) -> Result<(), Stop> {
    for Shared { function, bars } in shared {
        let prepared = bars.and_then(|bars| {
            pcie::prepare(link.platform, link.ecam, &function, &bars)?;
            Ok(bars)
        });
        match prepared {
            Ok(bars) => open.push(tree::Open { function, bars }),
            Err(error) => {
                log::error!("pci {}: cannot be shared, hidden: {error}", function.bdf);
                pcie::make_quiet(link.platform, link.ecam, function.bdf).or_stop(StopCode::NotQuiet)?;
            }
        }
    }
    Ok(())
}

fn close_shared<P: Platform>(link: &mut Link<'_, P>, open: &[tree::Open]) {
    for tree::Open { function, .. } in open {
        if let Err(error) = pcie::make_quiet(link.platform, link.ecam, function.bdf) {
            log::error!("pci {}: leaked: {error}", function.bdf);
        }
    }
}
