//! Stage 2: RIPAS of each page, and the leaf that follows from RIPAS, RAM, BARs and TDI state.

use alloc::vec::Vec;

use crate::board::PAGE;
use crate::final_state::TdiState;
use crate::machine::{Leaf, Machine};
use crate::model::Model;
use crate::record::Event;
use crate::ripas::Ripas;

/// A leaf with the distance PA - IPA instead of the PA, so that a run of pages has one value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Key {
    None,
    PrivateRam,
    SharedRam,
    SharedDevice(u64),
    PrivateDevice(u64),
}

impl Key {
    pub(crate) fn leaf(self, ipa: u64) -> Leaf {
        match self {
            Key::None => Leaf::None,
            Key::PrivateRam => Leaf::PrivateRam,
            Key::SharedRam => Leaf::SharedRam,
            Key::SharedDevice(delta) => Leaf::SharedDevice { pa: ipa.wrapping_add(delta) },
            Key::PrivateDevice(delta) => Leaf::PrivateDevice { pa: ipa.wrapping_add(delta) },
        }
    }

    pub(crate) fn new(leaf: Leaf, ipa: u64) -> Key {
        match leaf {
            Leaf::None => Key::None,
            Leaf::PrivateRam => Key::PrivateRam,
            Leaf::SharedRam => Key::SharedRam,
            Leaf::SharedDevice { pa } => Key::SharedDevice(pa.wrapping_sub(ipa)),
            Leaf::PrivateDevice { pa } => Key::PrivateDevice(pa.wrapping_sub(ipa)),
        }
    }
}

/// One window of a BAR as the realm placed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) base: u64,
    pub(crate) len: u64,
    /// Real address of the first byte.
    pub(crate) pa: u64,
}

impl Window {
    pub(crate) fn top(&self) -> u64 {
        self.base.saturating_add(self.len)
    }
}

impl Model {
    /// First address of the unprotected half.
    pub(crate) fn half(&self) -> u64 {
        self.board.alias_bit()
    }

    /// Windows of all functions that decode memory now, assigned devices first.
    pub(crate) fn windows(&self) -> Vec<Window> {
        let devices = self.devices.iter().flat_map(|device| device.windows());
        let bridges = self.bridges.iter().flat_map(|bridge| bridge.windows());
        let functions = self.functions.iter().flat_map(|function| function.windows());
        devices.chain(bridges).chain(functions).collect()
    }

    fn key(&self, ipa: u64, windows: &[Window]) -> Key {
        match self.ripas.get(ipa) {
            Ripas::Ram => Key::PrivateRam,
            Ripas::Destroyed => Key::None,
            // A TDI takes private accesses in RUN only (tdisp.md section 1).
            Ripas::Dev => {
                let owner = self.devices.iter().filter(|device| device.tdi == TdiState::Run);
                let range =
                    owner.flat_map(|device| &device.dev).find(|range| ipa >= range.ipa && ipa < range.top());
                range.map_or(Key::None, |range| Key::PrivateDevice(range.pa.wrapping_sub(range.ipa)))
            }
            Ripas::Empty => {
                if self.board.is_ram(ipa, ipa + PAGE) {
                    return Key::SharedRam;
                }
                if self.board.ecam.contains(ipa) {
                    return Key::None;
                }
                if self.board.mmio.iter().any(|range| range.contains(ipa)) {
                    return Key::SharedDevice(0);
                }
                let in_window = self.board.pci_windows.iter().any(|range| range.contains(ipa));
                let window = windows.iter().find(|window| ipa >= window.base && ipa < window.top());
                match window {
                    Some(window) if in_window => Key::SharedDevice(window.pa.wrapping_sub(window.base)),
                    _ => Key::None,
                }
            }
        }
    }

    /// Gives every page of `[base, top)` the leaf that the state asks for.
    pub(crate) fn relink(&mut self, m: &mut dyn Machine, base: u64, top: u64) {
        let windows = self.windows();
        let base = base & !(PAGE - 1);
        let top = top.saturating_add(PAGE - 1) & !(PAGE - 1);
        let top = top.min(self.half());
        let mut cuts: Vec<u64> = self.ripas.runs(base, top).iter().map(|run| run.0).collect();
        let ranges = self.board.ram.iter().chain(&self.board.mmio).chain(&self.board.pci_windows);
        cuts.extend(ranges.chain([&self.board.ecam]).flat_map(|range| [range.base, range.top()]));
        cuts.extend(windows.iter().flat_map(|window| [window.base, window.top()]));
        let dev = self.devices.iter().flat_map(|device| &device.dev);
        cuts.extend(dev.flat_map(|range| [range.ipa, range.top()]));
        cuts.retain(|cut| *cut > base && *cut < top);
        cuts.push(base);
        cuts.push(top);
        cuts.sort_unstable();
        cuts.dedup();
        for pair in cuts.windows(2) {
            let key = self.key(pair[0], &windows);
            for (from, to, old) in self.leaves.runs(pair[0], pair[1]) {
                if old != key {
                    m.set_leaf(from, (to - from) / PAGE, key.leaf(from));
                    self.leaves.set(from, to, key);
                }
            }
        }
    }

    /// Changes RIPAS of `[base, top)`, which has one value now; keeps leaves, contents and owners in step.
    pub(crate) fn set_ripas(&mut self, m: &mut dyn Machine, base: u64, top: u64, to: Ripas) {
        let from = self.ripas.get(base);
        if base >= top || from == to {
            return;
        }
        if from == Ripas::Dev {
            for device in &mut self.devices {
                device.forget_dev(base, top);
            }
        }
        self.ripas.set(base, top, to);
        // A page that changes halves loses its contents (rsi.md 4.1): neither side sees what the other left.
        let moves =
            matches!(to, Ripas::Ram) || matches!((from, to), (Ripas::Ram | Ripas::Destroyed, Ripas::Empty));
        if moves && self.board.is_ram(base, top) {
            m.zero(base, (top - base) / PAGE);
        }
        self.emit(m, Event::Ripas { base, top, from, to });
        self.relink(m, base, top);
    }

    /// Says whether the page-aligned `[base, top)` may be an RSI buffer: protected, and private memory.
    ///
    /// Choice: RIPAS DEV is refused, as TF-RMM does (rsi.md 4.1).
    pub(crate) fn buffer(&self, base: u64, len: u64) -> Result<bool, Stuck> {
        let Some(top) = base.checked_add(len) else { return Ok(false) };
        if top > self.half() {
            return Ok(false);
        }
        let runs = self.ripas.runs(base, top);
        if runs.iter().any(|run| run.2 == Ripas::Destroyed) {
            return Err(Stuck);
        }
        Ok(runs.iter().all(|run| run.2 == Ripas::Ram))
    }

    /// Says whether the host can reach all of `[base, base + len)` (alias bit clear): shared RAM, whole units of
    /// conversion.
    pub(crate) fn shared(&self, base: u64, len: u64) -> bool {
        let unit = self.scenario.host.hostconf_granule.max(PAGE);
        let Some(end) = base.checked_add(len.max(1)) else { return false };
        let (base, top) = (base / unit * unit, end.div_ceil(unit).saturating_mul(unit));
        top <= self.half()
            && self.board.is_ram(base, top)
            && self.ripas.runs(base, top).iter().all(|run| run.2 == Ripas::Empty)
    }
}

/// The REC cannot make progress: a page is DESTROYED.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stuck;
