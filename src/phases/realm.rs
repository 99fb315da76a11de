//! Phase 1: the RMM's word, our own memory, the host's device tree, the console.

use super::stop::OrStop;
use super::{BootInfo, Stop, StopReason};
use crate::addr::IpaRange;
use crate::codes::StopCode;
use crate::conduit::OutOfMemory;
use crate::fdt::check::{HEADER_LEN, Tree};
use crate::fdt::read::Machine;
use crate::platform::{Half, Platform};
use crate::rsi::{self, Ripas};
use alloc::vec::Vec;

/// What phase 1 knows.
#[derive(Debug)]
pub struct Realm {
    /// Negotiated RSI.
    pub rsi: rsi::Session,
    /// The host's tree, a private copy that passed the gate.
    pub tree: Tree,
    /// What the tree says, each value checked.
    pub machine: Machine,
}

#[inline(never)]
pub(super) fn run<P: Platform>(platform: &mut P, boot: &BootInfo<'_>) -> Result<Realm, Stop> {
    let rsi = rsi::Session::negotiate(platform, boot.own)?;
    platform.set_ipa_width(rsi.width()).or_stop(StopCode::RealmConfig)?;
    require_ram(platform, &rsi, boot.own, StopCode::OwnMemory)?;
    let tree = copy_tree(platform, &rsi, boot)?;
    let machine = Machine::read(&tree, rsi.width()).or_stop(StopCode::TreeContent)?;
    if let Some(console) = &machine.console {
        let window = platform.map(console.regs, Half::Unprotected).or_stop(StopCode::Console)?;
        platform.set_console(console.kind, window, console.offset()).or_stop(StopCode::Console)?;
    }
    let facts = rsi.facts();
    crate::say::info!("gatehouse {} ({})", env!("CARGO_PKG_VERSION"), env!("GATEHOUSE_BUILD_ID"));
    crate::say::info!(
        "realm: RSI version {}.{}, IPA width {}, hash {}, features {:#x}",
        facts.version >> 16,
        facts.version & 0xffff,
        facts.width.bits(),
        facts.hash.name(),
        facts.features.bits()
    );
    crate::say::info!("realm: firmware at {}, device tree at {:#x}", boot.own, boot.tree_ipa);
    // The payload gets the first processor of the tree; entry lets only affinity 0 go on.
    match machine.cpus.first() {
        Some(0) => {}
        other => {
            let reason = StopReason::FirstCpu(other.copied().unwrap_or(u64::MAX));
            return Err(Stop::new(StopCode::TreeContent, reason));
        }
    }
    if !machine.ram.iter().any(|range| range.contains(&boot.own)) {
        return Err(Stop::new(StopCode::TreeContent, StopReason::OutsideRam(boot.own)));
    }
    for range in &machine.ram {
        require_ram(platform, &rsi, *range, StopCode::PayloadMemory)?;
    }
    Ok(Realm { rsi, tree, machine })
}

/// Copies the tree in: the header first, then as much as it announces, all of it from pages that the RMM calls RAM.
fn copy_tree<P: Platform>(platform: &mut P, rsi: &rsi::Session, boot: &BootInfo<'_>) -> Result<Tree, Stop> {
    let mut header = [0; HEADER_LEN];
    copy_in(platform, rsi, boot, &mut header)?;
    let len = Tree::needed_len(&header).or_stop(StopCode::TreeStructure)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| OutOfMemory).or_stop(StopCode::Memory)?;
    bytes.resize(len, 0);
    copy_in(platform, rsi, boot, &mut bytes)?;
    Tree::check(bytes).or_stop(StopCode::TreeStructure)
}

fn copy_in<P: Platform>(
    platform: &mut P,
    rsi: &rsi::Session,
    boot: &BootInfo<'_>,
    to: &mut [u8],
) -> Result<(), Stop> {
    let len = u64::try_from(to.len()).unwrap_or(u64::MAX);
    let code = StopCode::TreeAddress;
    let range = IpaRange::covering(boot.tree_ipa, len).or_stop(code)?.protected(rsi.width()).or_stop(code)?;
    require_ram(platform, rsi, range, code)?;
    platform.copy_private(boot.tree_ipa, to).or_stop(code)
}

fn require_ram<P: Platform>(
    platform: &mut P,
    rsi: &rsi::Session,
    range: IpaRange,
    code: StopCode,
) -> Result<(), Stop> {
    match rsi::Client::new(platform, rsi).ipa_state_is(range, Ripas::Ram).or_stop(code)? {
        Ok(()) => Ok(()),
        Err((at, ripas)) => Err(Stop::new(code, StopReason::NotRam { at, ripas })),
    }
}
