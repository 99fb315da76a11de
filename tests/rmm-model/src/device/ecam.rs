//! Stage-2 faults, and the emulated configuration space behind most of them.

use alloc::borrow::Cow;
use alloc::format;

use super::registers::{self, BAR0, CAP_PCIE, CAP_PM, CAPABILITIES, COMMAND, STATUS_CAPABILITIES};
use super::{BME, Bridge, MSE, UNREACHABLE};
use crate::access::{Access, FaultAction};
use crate::final_state::TdiState;
use crate::machine::Machine;
use crate::model::Model;
use crate::record::Event;
use crate::ripas::Ripas;
use crate::scenario::{ConfigAccess, Lie};

/// Where the VMM puts a PCI Express capability for functions that have none.
const SYNTHETIC: u16 = 0xC0;
/// DevCap: function level reset, TEE-IO supported.
const FLR: u32 = 1 << 28;
const TEE_IO: u32 = 1 << 30;
/// DevCtl: initiate function level reset.
const INITIATE_FLR: u32 = 1 << 15;
/// PMCSR: power state, no soft reset.
const POWER_STATE: u32 = 0b11;
const NO_SOFT_RESET: u32 = 1 << 3;

fn mask(width: u8) -> u32 {
    match width {
        1 => 0xFF,
        2 => 0xFFFF,
        _ => u32::MAX,
    }
}

fn ones(width: u8) -> u64 {
    if width >= 8 { u64::MAX } else { (1 << (8 * width)) - 1 }
}

/// A write of part of a dword.
#[derive(Clone, Copy)]
struct Part {
    offset: u16,
    width: u8,
    value: u32,
}

impl Part {
    fn dword(self) -> u16 {
        self.offset & !3
    }

    fn shift(self) -> u32 {
        u32::from(self.offset & 3) * 8
    }

    fn merge(self, old: u32) -> u32 {
        let bits = mask(self.width) << self.shift();
        old & !bits | self.value << self.shift() & bits
    }

    /// Bits written, at their place in the dword.
    fn written(self) -> u32 {
        self.merge(0)
    }
}

impl Model {
    /// Answers a stage-2 fault of the realm; `ipa` carries the alias bit.
    ///
    /// Choices: the host answers all ones in its PCI windows where nothing decodes, and injects an SEA elsewhere; an
    /// access to a DEV page of a TDI that is not in RUN reads all ones; an access without syndrome, or one to
    /// configuration space that is not 1, 2 or 4 aligned bytes, is an SEA.
    pub fn fault(&mut self, ipa: u64, access: Access, machine: &mut dyn Machine) -> FaultAction {
        let page = ipa & !self.half();
        let is_alias = ipa & self.half() != 0;
        let is_config = is_alias && ipa >> self.board.ipa_width == 0 && self.board.ecam.contains(page);
        let emulated = match access {
            Access::Read { width } if is_config => self.config_access(page, width, None, machine),
            Access::Write { width, value } if is_config => {
                self.config_access(page, width, Some(value), machine)
            }
            _ => None,
        };
        if let Some(value) = emulated {
            return FaultAction::Emulated(value);
        }
        let action = if ipa >> self.board.ipa_width != 0 {
            FaultAction::AddressSize
        } else if is_alias {
            self.fault_alias(page, access)
        } else {
            self.fault_protected(page, access, machine)
        };
        let (access, action_name) = (access_name(access), action_name(action));
        let event = Event::Fault { ipa, access: Cow::Borrowed(access), action: Cow::Borrowed(action_name) };
        self.emit(machine, event);
        if action == FaultAction::Stop {
            self.outcome = crate::final_state::Outcome::Stopped;
        }
        action
    }

    fn fault_alias(&mut self, page: u64, access: Access) -> FaultAction {
        let in_window = self.board.pci_windows.iter().any(|range| range.contains(page));
        match access {
            Access::Read { width } if in_window => {
                self.count_exit(None);
                FaultAction::Emulated(ones(width))
            }
            Access::Write { .. } if in_window => {
                self.count_exit(None);
                FaultAction::Emulated(0)
            }
            _ => {
                self.count_exit(None);
                FaultAction::Sea
            }
        }
    }

    fn fault_protected(&mut self, page: u64, access: Access, m: &mut dyn Machine) -> FaultAction {
        match self.ripas.get(page) {
            Ripas::Empty => FaultAction::Sea,
            Ripas::Destroyed => FaultAction::Stop,
            Ripas::Dev => match access {
                Access::Fetch => FaultAction::Sea,
                Access::Read { width } => FaultAction::Emulated(ones(width)),
                _ => FaultAction::Emulated(0),
            },
            Ripas::Ram => {
                self.violate(m, format!("stage-2 fault on a mapped RAM page {page:#x}"));
                FaultAction::Stop
            }
        }
    }

    /// One access to the ECAM; none if no host would emulate it.
    fn config_access(
        &mut self,
        page: u64,
        width: u8,
        write: Option<u64>,
        m: &mut dyn Machine,
    ) -> Option<u64> {
        let at = page - self.board.ecam.base;
        if !matches!(width, 1 | 2 | 4) || !at.is_multiple_of(u64::from(width)) {
            return None;
        }
        let rid = (u64::from(self.board.first_bus) << 8).wrapping_add(at >> 12) as u16;
        let offset = (at & 0xFFF) as u16;
        let device = self.devices.iter().position(|device| device.rid == rid);
        self.count_exit(device);
        self.totals.config_accesses += 1;
        if let Some(index) = device {
            self.devices[index].counters.config_accesses += 1;
        }
        let value = match write {
            None => self.config_read(device, rid, offset, width, m),
            Some(value) => {
                let value = value as u32 & mask(width);
                self.config_write(device, rid, Part { offset, width, value }, m);
                value
            }
        };
        if self.scenario.config_records {
            self.emit(m, Event::Config { rid, offset, width, write: write.is_some(), value });
        }
        Some(if write.is_some() { 0 } else { u64::from(value) })
    }

    fn config_read(
        &mut self,
        device: Option<usize>,
        rid: u16,
        offset: u16,
        width: u8,
        m: &mut dyn Machine,
    ) -> u32 {
        let dword = match device {
            Some(index) => self.device_dword(index, offset & !3, m),
            None => {
                self.probe(rid, m);
                match self.bridges.iter().find(|bridge| bridge.rid == rid) {
                    Some(bridge) => bridge_dword(bridge, offset & !3, m),
                    None => return m.config_read(rid, offset, width) & mask(width),
                }
            }
        };
        dword >> (u32::from(offset & 3) * 8) & mask(width)
    }

    /// A dword of an assigned device as the realm sees it.
    fn device_dword(&mut self, index: usize, offset: u16, m: &mut dyn Machine) -> u32 {
        let device = &self.devices[index];
        let rid = device.rid;
        let cap = registers::capability(m, rid, CAP_PCIE);
        let real = m.config_read(rid, offset, 4);
        match offset {
            COMMAND => {
                let mut command = device.shadow.command;
                let lie = self.lie(m, Some(index), |lie| matches!(lie, Lie::CommandStuck { .. }));
                if let Some(Lie::CommandStuck { mask }) = lie {
                    command &= !mask;
                }
                let status = if cap.is_none() { real | STATUS_CAPABILITIES } else { real };
                status & 0xFFFF_0000 | u32::from(command)
            }
            BAR0..0x28 => {
                let bar = usize::from((offset - BAR0) / 4);
                let value = device.shadow.read(bar);
                if device.shadow.is_sizing(bar) {
                    return value;
                }
                let fits =
                    |lie: &Lie| matches!(lie, Lie::BarReadback { bar: at, .. } if usize::from(*at) == bar);
                match self.lie(m, Some(index), fits) {
                    Some(Lie::BarReadback { xor, .. }) => value ^ xor,
                    _ => value,
                }
            }
            // No expansion ROM for assigned devices.
            0x30 => 0,
            CAPABILITIES if cap.is_none() => real & !0xFF | u32::from(SYNTHETIC),
            SYNTHETIC..0xFC if cap.is_none() => {
                let old = if m.config_read(rid, COMMAND, 4) & STATUS_CAPABILITIES == 0 {
                    0
                } else {
                    m.config_read(rid, CAPABILITIES, 1)
                };
                match offset - SYNTHETIC {
                    0 => 0x0002_0000 | old << 8 | u32::from(CAP_PCIE),
                    4 => 1 << 15 | if device.spec.tee_io { TEE_IO } else { 0 },
                    _ => 0,
                }
            }
            _ if cap.is_some_and(|cap| offset == cap + 4) => {
                real & !TEE_IO | if device.spec.tee_io { TEE_IO } else { 0 }
            }
            _ => real,
        }
    }

    fn config_write(&mut self, device: Option<usize>, rid: u16, part: Part, m: &mut dyn Machine) {
        if let Some(index) = device {
            self.device_write(index, part, m);
        } else if let Some(at) = self.bridges.iter().position(|bridge| bridge.rid == rid) {
            self.bridge_write(at, part, m);
        } else {
            self.probe(rid, m);
            m.config_write(rid, part.offset, part.width, part.value);
            self.refresh_function(rid, part, m);
        }
    }

    /// Follows BARs and decode of a function that passes through, and bus numbers of such a bridge.
    fn refresh_function(&mut self, rid: u16, part: Part, m: &mut dyn Machine) {
        let Some(function) = self.functions.get_mut(&rid) else { return };
        match part.dword() {
            COMMAND => function.command = m.config_read(rid, COMMAND, 2) as u16,
            BAR0..0x28 => {
                for bar in function.bars.iter_mut().filter(|bar| bar.is_memory) {
                    let at = BAR0 + 4 * bar.index as u16;
                    let high = if bar.is_64 { m.config_read(rid, at + 4, 4) } else { 0 };
                    bar.pa = u64::from(high) << 32 | u64::from(m.config_read(rid, at, 4) & !0xF);
                }
            }
            _ => return,
        }
        self.relink_pci(m);
    }

    fn relink_pci(&mut self, m: &mut dyn Machine) {
        for range in self.board.pci_windows.clone() {
            self.relink(m, range.base, range.top());
        }
    }

    fn device_write(&mut self, index: usize, part: Part, m: &mut dyn Machine) {
        let passes = self.scenario.vmm.config == ConfigAccess::PassThrough;
        let device = &mut self.devices[index];
        let rid = device.rid;
        let is_locked = matches!(device.tdi, TdiState::Locked | TdiState::Run);
        let cap = registers::capability(m, rid, CAP_PCIE);
        let pm = registers::capability(m, rid, CAP_PM);
        match part.dword() {
            COMMAND => {
                if part.offset < COMMAND + 2 {
                    let merged = part.merge(u32::from(device.shadow.command)) as u16;
                    let old = device.shadow.write_command(merged);
                    let command = device.shadow.command;
                    m.config_write(rid, COMMAND, 2, u32::from(command & !1 | MSE | BME));
                    if passes && is_locked && old & MSE != 0 && command & MSE == 0 {
                        self.set_tdi(m, index, TdiState::Error, "memory decode went off");
                    }
                }
                let status = part.written() >> 16;
                if status != 0 {
                    m.config_write(rid, COMMAND + 2, 2, status);
                }
                self.update_gate(m, index);
                self.relink_pci(m);
            }
            dword @ BAR0..0x28 => {
                let bar = usize::from((dword - BAR0) / 4);
                let value = part.merge(device.shadow.read(bar));
                let changed = device.shadow.write(bar, value);
                if changed && passes && is_locked {
                    self.set_tdi(m, index, TdiState::Error, "a BAR changed");
                }
                self.relink_pci(m);
            }
            0x30 => {}
            SYNTHETIC..0xFC if cap.is_none() => {}
            dword if cap.is_some_and(|cap| dword == cap + 8) && part.written() & INITIATE_FLR != 0 => {
                self.function_level_reset(index, part, m);
            }
            dword if pm.is_some_and(|pm| dword == pm + 4) => self.power(index, part, m),
            _ => m.config_write(rid, part.offset, part.width, part.value),
        }
    }

    /// FLR goes to the real function; what it clears there is put back, and the realm's registers are as after it.
    fn function_level_reset(&mut self, index: usize, part: Part, m: &mut dyn Machine) {
        let rid = self.devices[index].rid;
        let cap = registers::capability(m, rid, CAP_PCIE);
        let is_capable = cap.is_some_and(|cap| m.config_read(rid, cap + 4, 4) & FLR != 0);
        if !is_capable || self.lie(m, Some(index), |lie| *lie == Lie::FlrIgnored).is_some() {
            return;
        }
        m.config_write(rid, part.offset, part.width, part.value);
        self.after_reset(index, "FLR", m);
    }

    /// PMCSR: D3 ends a lock; D3 to D0 without No_Soft_Reset is a reset.
    fn power(&mut self, index: usize, part: Part, m: &mut dyn Machine) {
        let device = &self.devices[index];
        let rid = device.rid;
        let before = m.config_read(rid, part.dword(), 4);
        m.config_write(rid, part.offset, part.width, part.value);
        let after = m.config_read(rid, part.dword(), 4);
        let (from, to) = (before & POWER_STATE, after & POWER_STATE);
        if from != to && to == POWER_STATE && matches!(device.tdi, TdiState::Locked | TdiState::Run) {
            self.set_tdi(m, index, TdiState::Error, "power state D3");
        }
        if from == POWER_STATE && to == 0 && before & NO_SOFT_RESET == 0 {
            self.after_reset(index, "D3 to D0", m);
        }
    }

    fn after_reset(&mut self, index: usize, cause: &'static str, m: &mut dyn Machine) {
        let device = &mut self.devices[index];
        device.shadow.clear();
        registers::place(m, device.rid, &device.bars, 0);
        if matches!(device.tdi, TdiState::Locked | TdiState::Run) {
            self.set_tdi(m, index, TdiState::Error, cause);
        }
        self.update_gate(m, index);
        self.relink_pci(m);
    }

    fn bridge_write(&mut self, at: usize, part: Part, m: &mut dyn Machine) {
        let bridge = &mut self.bridges[at];
        let rid = bridge.rid;
        match part.dword() {
            COMMAND if part.offset < COMMAND + 2 => {
                bridge.command = part.merge(u32::from(bridge.command)) as u16 & 0x0547;
            }
            dword @ 0x20..0x30 => {
                let index = usize::from((dword - 0x20) / 4);
                let fixed = if index < 2 { 0x000F_000F } else { 0 };
                let old = bridge.windows[index];
                bridge.windows[index] = part.merge(old) & !fixed | old & fixed;
            }
            0x18 => {
                m.config_write(rid, part.offset, part.width, part.value);
                bridge.secondary = m.config_read(rid, 0x19, 1) as u8;
                self.renumber(m);
            }
            _ => m.config_write(rid, part.offset, part.width, part.value),
        }
    }

    /// Routing ids after bus numbers changed; DMA gates follow them.
    fn renumber(&mut self, m: &mut dyn Machine) {
        let first = self.board.first_bus;
        self.functions.retain(|rid, _| (rid >> 8) as u8 == first);
        for at in 0..self.bridges.len() {
            let path = self.bridges[at].path.clone();
            self.bridges[at].rid = self.rid(&path);
        }
        for index in 0..self.devices.len() {
            let rid = self.rid(&self.devices[index].path);
            let device = &mut self.devices[index];
            if core::mem::replace(&mut device.rid, rid) != rid && rid != UNREACHABLE {
                m.set_dma(rid, device.gate);
            }
        }
        self.relink_pci(m);
    }

    fn rid(&self, path: &[u8]) -> u16 {
        let (devfn, above) = (path[path.len() - 1], &path[..path.len() - 1]);
        let bus = match self.bridges.iter().find(|bridge| bridge.path == above) {
            Some(bridge) if bridge.rid == UNREACHABLE || bridge.secondary == 0 => return UNREACHABLE,
            Some(bridge) => bridge.secondary,
            None => self.board.first_bus,
        };
        u16::from(bus) << 8 | u16::from(devfn)
    }
}

fn bridge_dword(bridge: &Bridge, offset: u16, m: &mut dyn Machine) -> u32 {
    let real = m.config_read(bridge.rid, offset, 4);
    match offset {
        COMMAND => real & 0xFFFF_0000 | u32::from(bridge.command),
        0x20..0x30 => bridge.windows[usize::from((offset - 0x20) / 4)],
        _ => real,
    }
}

fn access_name(access: Access) -> &'static str {
    match access {
        Access::Read { .. } => "read",
        Access::Write { .. } => "write",
        Access::Fetch => "fetch",
        Access::NoSyndrome { write: false } => "read-no-syndrome",
        Access::NoSyndrome { write: true } => "write-no-syndrome",
    }
}

fn action_name(action: FaultAction) -> &'static str {
    match action {
        FaultAction::Emulated(_) => "emulated",
        FaultAction::Sea => "sea",
        FaultAction::AddressSize => "address-size",
        FaultAction::Stop => "stop",
    }
}
