//! Bridges and the functions that pass through: bus numbers, routing ids, and the DMA gates that follow them.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use super::config::Part;
use super::registers::{self, BAR0, COMMAND};
use super::{Bridge, Function, UNREACHABLE};
use crate::final_state::TdiState;
use crate::machine::{DmaGate, Machine};
use crate::model::Model;
use crate::record::Event;
use crate::scenario::ConfigAccess;

/// Bus numbers of a bridge.
pub(super) const BUS_NUMBERS: u16 = 0x18;
/// Secondary Bus Reset, bit 6 of Bridge Control, in the dword at 0x3C.
const BRIDGE_CONTROL: u16 = 0x3C;
const SECONDARY_BUS_RESET: u32 = 1 << 22;

impl Bridge {
    /// A dword as the realm sees it: bus numbers and capabilities are the real ones, windows and command are not.
    pub(super) fn dword(&self, offset: u16, m: &mut dyn Machine) -> u32 {
        let real = m.config_read(self.rid, offset, 4);
        match offset {
            COMMAND => real & 0xFFFF_0000 | u32::from(self.command),
            0x20..0x30 => self.windows[usize::from((offset - 0x20) / 4)],
            _ => real,
        }
    }
}

impl Model {
    /// Path, routing id and secondary bus of every bridge that the model knows.
    fn bridging(&self) -> impl Iterator<Item = (&[u8], u16, u8)> + '_ {
        let ours = self.bridges.iter().map(|bridge| (&bridge.path[..], bridge.rid, bridge.secondary));
        let others = self.functions.iter().filter(|function| function.is_bridge);
        ours.chain(others.map(|function| (&function.path[..], function.rid, function.secondary)))
    }

    /// The routing id of the function at `path` under the present bus numbers.
    pub(super) fn rid(&self, path: &[u8]) -> u16 {
        let Some((devfn, above)) = path.split_last() else { return UNREACHABLE };
        let bus = match self.bridging().find(|bridge| bridge.0 == above) {
            _ if above.is_empty() => self.board.first_bus,
            Some((_, rid, secondary)) if rid != UNREACHABLE && secondary != 0 => secondary,
            _ => return UNREACHABLE,
        };
        u16::from(bus) << 8 | u16::from(*devfn)
    }

    /// The path of the function that has a routing id now.
    fn path(&self, rid: u16) -> Option<Vec<u8>> {
        let bus = (rid >> 8) as u8;
        let mut path = if bus == self.board.first_bus {
            Vec::new()
        } else {
            let above =
                self.bridging().find(|bridge| bridge.2 == bus && bus != 0 && bridge.1 != UNREACHABLE)?;
            above.0.to_vec()
        };
        path.push(rid as u8);
        Some(path)
    }

    /// The host keeps the function to itself: it does not answer.
    pub(super) fn is_hidden(&self, rid: u16) -> bool {
        self.hidden.iter().any(|hidden| hidden.1 == rid)
    }

    /// Learns a function that passes through; its DMA reaches shared pages.
    pub(super) fn probe(&mut self, rid: u16, m: &mut dyn Machine) {
        let is_known = self.devices.iter().any(|device| device.rid == rid)
            || self.bridges.iter().any(|bridge| bridge.rid == rid)
            || self.functions.iter().any(|function| function.rid == rid)
            || self.is_hidden(rid);
        if rid == UNREACHABLE || is_known || !registers::is_there(m, rid) {
            return;
        }
        let Some(path) = self.path(rid) else { return };
        let is_bridge = registers::is_bridge(m, rid);
        let bars = if is_bridge { Vec::new() } else { registers::bars(m, rid, 6) };
        let command = m.config_read(rid, COMMAND, 2) as u16;
        let secondary = if is_bridge { m.config_read(rid, BUS_NUMBERS + 1, 1) as u8 } else { 0 };
        if !is_bridge {
            self.set_gate(m, rid, DmaGate::SharedOnly);
        }
        self.functions.push(Function { path, rid, is_bridge, secondary, bars, command });
    }

    fn set_gate(&mut self, m: &mut dyn Machine, rid: u16, gate: DmaGate) {
        m.set_dma(rid, gate);
        self.emit(m, Event::Dma { rid, gate });
    }

    /// Follows BARs and decode of a function that passes through, and bus numbers of such a bridge.
    pub(super) fn refresh_function(&mut self, rid: u16, part: Part, m: &mut dyn Machine) {
        let Some(function) = self.functions.iter_mut().find(|function| function.rid == rid) else { return };
        match part.dword() {
            COMMAND => function.command = m.config_read(rid, COMMAND, 2) as u16,
            BUS_NUMBERS if function.is_bridge => {
                function.secondary = m.config_read(rid, BUS_NUMBERS + 1, 1) as u8;
                return self.renumber(m);
            }
            BAR0..0x28 if !function.is_bridge => registers::reread(m, rid, &mut function.bars),
            _ => return,
        }
        self.relink_pci(m);
    }

    pub(super) fn relink_pci(&mut self, m: &mut dyn Machine) {
        for range in self.board.pci_windows.clone() {
            self.relink(m, range.base, range.top());
        }
    }

    /// Writes a bridge on the way to a device: bus numbers, BARs and capabilities reach it, windows and command are the
    /// realm's own.
    ///
    /// Choice: Secondary Bus Reset is not passed on.
    pub(super) fn bridge_write(&mut self, at: usize, part: Part, m: &mut dyn Machine) {
        let bridge = &mut self.bridges[at];
        let rid = bridge.rid;
        match part.dword() {
            COMMAND if part.offset < COMMAND + 2 => {
                bridge.command = part.merge(u32::from(bridge.command)) as u16 & 0x0547;
                self.relink_pci(m);
            }
            dword @ 0x20..0x30 => {
                let index = usize::from((dword - 0x20) / 4);
                let fixed = if index < 2 { 0x000F_000F } else { 0 };
                let old = bridge.windows[index];
                bridge.windows[index] = part.merge(old) & !fixed | old & fixed;
            }
            BUS_NUMBERS => {
                m.config_write(rid, part.offset, part.width, part.value);
                bridge.secondary = m.config_read(rid, BUS_NUMBERS + 1, 1) as u8;
                self.renumber(m);
            }
            BAR0..BUS_NUMBERS => {
                m.config_write(rid, part.offset, part.width, part.value);
                registers::reread(m, rid, &mut bridge.bars);
                self.relink_pci(m);
            }
            BRIDGE_CONTROL => {
                let merged = part.merge(m.config_read(rid, BRIDGE_CONTROL, 4)) & !SECONDARY_BUS_RESET;
                m.config_write(rid, BRIDGE_CONTROL, 4, merged);
            }
            _ => m.config_write(rid, part.offset, part.width, part.value),
        }
    }

    /// Routing ids after bus numbers changed. DMA gates follow them: an id that nobody has any more, or two have, is
    /// shut. Under `pass-through` a TDI that is LOCKED or in RUN and gets another routing id is in ERROR.
    pub(super) fn renumber(&mut self, m: &mut dyn Machine) {
        let before = self.gates();
        // Each list has bridges above first, and what is on the way to a device has nothing else above it.
        for at in 0..self.bridges.len() {
            self.bridges[at].rid = self.rid(&self.bridges[at].path);
        }
        for at in 0..self.functions.len() {
            self.functions[at].rid = self.rid(&self.functions[at].path);
        }
        for at in 0..self.hidden.len() {
            self.hidden[at].1 = self.rid(&self.hidden[at].0);
        }
        let passes = self.scenario.vmm.config == ConfigAccess::PassThrough;
        for index in 0..self.devices.len() {
            let rid = self.rid(&self.devices[index].path);
            let old = core::mem::replace(&mut self.devices[index].rid, rid);
            if old != rid && passes && self.devices[index].is_locked() {
                self.set_tdi(m, index, TdiState::Error, "the routing id changed");
            }
        }
        let after = self.gates();
        for rid in before.keys().filter(|rid| !after.contains_key(rid)) {
            self.set_gate(m, *rid, DmaGate::Abort);
        }
        for (rid, gate) in after.iter().filter(|(rid, gate)| before.get(rid) != Some(gate)) {
            self.set_gate(m, *rid, *gate);
        }
        self.relink_pci(m);
    }

    /// The gate of each routing id that a function has.
    pub(crate) fn gates(&self) -> BTreeMap<u16, DmaGate> {
        let functions = self.functions.iter().filter(|function| !function.is_bridge);
        let functions = functions.map(|function| (function.rid, DmaGate::SharedOnly));
        let devices = self.devices.iter().map(|device| (device.rid, device.gate));
        let hidden = self.hidden.iter().map(|hidden| (hidden.1, DmaGate::Abort));
        let mut gates = BTreeMap::new();
        for (rid, gate) in functions.chain(devices).chain(hidden).filter(|entry| entry.0 != UNREACHABLE) {
            gates.entry(rid).and_modify(|gate| *gate = DmaGate::Abort).or_insert(gate);
        }
        gates
    }
}
