//! Phase 7: RUN, idle, DMA: the last calls before the jump.

use super::{Payload, Stop};
use crate::platform::Platform;
use crate::tdi::{Link, Mapped, Tdi};

#[inline(never)]
pub(super) fn run<P: Platform>(
    link: &mut Link<'_, P>,
    tdi: Tdi<Mapped>,
    payload: Payload,
) -> Result<Payload, Stop> {
    tdi.start(link)?.enable_dma(link)?;
    log::info!("handoff: payload at {:#x}, device tree at {:#x}", payload.entry, payload.tree);
    Ok(payload)
}
