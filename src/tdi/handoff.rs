//! From verified to the payload's: private MMIO, RUN, idle, DMA.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::idle::make_idle;
use super::reject::refuse;
use super::state::State;
use super::{HandoffFacts, Link, Mapped, Reason, Rejected, Released, Run, Stage, Tdi, Verified};
use crate::addr::IpaRange;
use crate::mapping::MapRequest;
use crate::mutation::{Mutation, removed};
use crate::platform::Platform;
use crate::policy::types::Quiet;
use crate::rhi::TdiTarget;
use crate::rsi::{Ripas, Surrender, VdevState};
use alloc::vec::Vec;

impl Tdi<Verified> {
    /// Validates every TEE range under the nonces of the evidence; each must be DEV afterwards.
    ///
    /// # Errors
    /// [`Rejected`]; every range that was begun is EMPTY again unless it is named as a leak.
    pub fn map<P: Platform>(self, link: &mut Link<'_, P>) -> Result<Tdi<Mapped>, Rejected> {
        let mut begun = Vec::new();
        for request in &self.state.list.requests {
            if let Err(reason) = self.map_one(link, request, &mut begun) {
                return Err(refuse(link, &self.held::<Mapped>(&begun), Stage::Map, reason));
            }
        }
        let (tdi, Verified { nonces, hash, digests, list, quiet }) = self.split();
        Ok(tdi.to(Mapped { nonces, hash, digests, list, quiet }, Verified::NAME))
    }

    fn map_one<P: Platform>(
        &self,
        link: &mut Link<'_, P>,
        request: &MapRequest,
        begun: &mut Vec<IpaRange>,
    ) -> Result<(), Reason> {
        // Never over our own memory, whatever the host's windows say.
        Surrender::new(request.ipa, link.rsi)?;
        begun.push(request.ipa);
        link.rsi().vdev_validate_mapping(self.vdev, request.ipa, request.report_base, self.state.nonces)?;
        require_dev(link, request.ipa)?;
        crate::say::info!(
            "tdi {} vdev {}: BAR {} {} is DEV, report address {:#x}",
            self.function.bdf,
            self.vdev,
            request.bar,
            request.ipa,
            request.report_base
        );
        Ok(())
    }
}

impl Tdi<Mapped> {
    /// Moves the interface to RUN and makes the device idle through its private BARs.
    ///
    /// # Errors
    /// [`Rejected`].
    pub fn start<P: Platform>(self, link: &mut Link<'_, P>) -> Result<Tdi<Run>, Rejected> {
        let ranges = self.state.ranges();
        let started = (|| {
            link.rhi().set_tdi_state(self.vdev, TdiTarget::Run)?;
            self.unchanged(link, VdevState::Started, self.state.nonces)?;
            ranges.iter().try_for_each(|range| require_dev(link, *range))
        })();
        if let Err(reason) = started {
            return Err(refuse(link, &self.held::<Run>(&ranges), Stage::Start, reason));
        }
        // Control registers lie at the start of a BAR.
        let at_start = |request: &&MapRequest| {
            self.bars.iter().any(|bar| bar.index == request.bar && bar.address == request.ipa.base())
        };
        let requests = self.state.list.requests.iter().filter(at_start);
        let registers: Vec<_> = requests.map(|request| (request.bar, request.ipa)).collect();
        if !removed(Mutation::Idle)
            && let Err(error) =
                make_idle(link, self.function.class, self.state.quiet == Quiet::Device, &registers)
        {
            return Err(refuse(link, &self.held::<Run>(&ranges), Stage::Idle, error));
        }
        let (tdi, mapped) = self.split();
        Ok(tdi.to(Run(mapped), Mapped::NAME))
    }
}

impl Tdi<Run> {
    /// Returns what the final tree says.
    #[must_use]
    pub fn facts(&self) -> HandoffFacts<'_> {
        let Mapped { nonces, hash, digests, list, .. } = &self.state.0;
        HandoffFacts {
            function: &self.function,
            bars: &self.bars,
            vdev: self.vdev,
            nonces: *nonces,
            hash: *hash,
            digests,
            msix: &list.shared_pages,
        }
    }

    /// Asks for the state and the nonces once more, then opens the SMMU under the same nonces.
    ///
    /// # Errors
    /// [`Rejected`].
    pub fn enable_dma<P: Platform>(self, link: &mut Link<'_, P>) -> Result<Tdi<Released>, Rejected> {
        let nonces = self.state.0.nonces;
        let result = (|| {
            self.unchanged(link, VdevState::Started, nonces)?;
            link.rsi().vdev_dma_enable(self.vdev, nonces)?;
            self.unchanged(link, VdevState::Started, nonces)
        })();
        if let Err(reason) = result {
            return Err(refuse(link, &self.held::<Released>(&self.state.ranges()), Stage::DmaEnable, reason));
        }
        crate::say::info!("tdi {} vdev {}: DMA enabled", self.function.bdf, self.vdev);
        let (tdi, Run(mapped)) = self.split();
        Ok(tdi.with(Released(mapped)))
    }
}

fn require_dev<P: Platform>(link: &mut Link<'_, P>, range: IpaRange) -> Result<(), Reason> {
    match link.rsi().ipa_state_is(range, Ripas::Dev)? {
        Ok(()) => Ok(()),
        Err((at, ripas)) => Err(Reason::NotDev { at, ripas }),
    }
}
