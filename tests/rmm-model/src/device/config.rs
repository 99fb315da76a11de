//! The emulated configuration space: what the realm reads, and what its writes do (PCIe base, TDISP; `tdisp.md` 1).

use super::registers::{self, BAR0, CAP_PCIE, CAP_PM, CAPABILITIES, COMMAND, STATUS_CAPABILITIES};
use super::{BME, Device, MSE};
use crate::final_state::TdiState;
use crate::machine::Machine;
use crate::model::Model;
use crate::scenario::{ConfigAccess, Lie};

/// Where the VMM puts a PCI Express capability for TDIs that have none.
const SYNTHETIC: u16 = 0xC0;
/// Cache line size, latency timer, header type, BIST.
const HEADER: u16 = 0x0C;
/// Multi-function bit in that dword.
const MULTI_FUNCTION: u32 = 1 << 23;
/// DevCap: function level reset, TEE-IO supported.
const FLR: u32 = 1 << 28;
const TEE_IO: u32 = 1 << 30;
/// DevCtl: initiate function level reset.
const INITIATE_FLR: u32 = 1 << 15;
/// PMCSR: power state, no soft reset.
const POWER_STATE: u32 = 0b11;
const NO_SOFT_RESET: u32 = 1 << 3;
/// Expansion ROM base address: enable.
const ROM: u16 = 0x30;
const ROM_ENABLE: u32 = 1;
/// Extended capabilities and their registers that can be written.
const EXTENDED: u16 = 0x100;
const EXT_RESIZABLE_BAR: u16 = 0x15;

/// Bits of an access of this width.
pub(super) fn mask(width: u8) -> u32 {
    match width {
        1 => 0xFF,
        2 => 0xFFFF,
        _ => u32::MAX,
    }
}

/// A write of part of a dword.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) offset: u16,
    pub(super) width: u8,
    pub(super) value: u32,
}

impl Part {
    pub(super) fn dword(self) -> u16 {
        self.offset & !3
    }

    fn shift(self) -> u32 {
        u32::from(self.offset & 3) * 8
    }

    pub(super) fn merge(self, old: u32) -> u32 {
        let bits = mask(self.width) << self.shift();
        old & !bits | self.value << self.shift() & bits
    }

    /// Bits written, at their place in the dword.
    fn written(self) -> u32 {
        self.merge(0)
    }
}

impl Device {
    /// The TDI is LOCKED or in RUN: its configuration must stay as it is.
    pub(crate) fn is_locked(&self) -> bool {
        matches!(self.tdi, TdiState::Locked | TdiState::Run)
    }
}

impl Model {
    pub(super) fn config_read(
        &mut self,
        device: Option<usize>,
        rid: u16,
        offset: u16,
        width: u8,
        m: &mut dyn Machine,
    ) -> u32 {
        let changed = self.changed_dword(rid, offset);
        let dword = match device {
            _ if changed.is_some() => changed.unwrap_or_default(),
            Some(index) => self.device_dword(index, offset & !3, m),
            None if self.is_hidden(rid) => u32::MAX,
            None => {
                self.probe(rid, m);
                match self.bridges.iter().find(|bridge| bridge.rid == rid) {
                    Some(bridge) => bridge.dword(offset & !3, m),
                    None => return m.config_read(rid, offset, width) & mask(width),
                }
            }
        };
        dword >> (u32::from(offset & 3) * 8) & mask(width)
    }

    /// Another assigned function has the same device number.
    fn shares_number(&self, index: usize) -> bool {
        let number =
            |path: &[u8]| (path.len(), path.split_last().map(|(last, above)| (last >> 3, above.to_vec())));
        let own = number(&self.devices[index].path);
        self.devices.iter().enumerate().any(|(at, other)| at != index && number(&other.path) == own)
    }

    /// A dword of an assigned device as the realm sees it.
    fn device_dword(&mut self, index: usize, offset: u16, m: &mut dyn Machine) -> u32 {
        let device = &self.devices[index];
        let rid = device.rid;
        let is_tdi = device.spec.tdi;
        let cap = registers::capability(m, rid, CAP_PCIE);
        let real = m.config_read(rid, offset, 4);
        let is_synthetic = cap.is_none() && is_tdi;
        match offset {
            0 => device.vf_ids.unwrap_or(real),
            COMMAND => {
                let mut command = device.shadow.command;
                let lie = self.lie(m, Some(index), |lie| matches!(lie, Lie::CommandStuck { .. }));
                if let Some(Lie::CommandStuck { mask }) = lie {
                    command &= !mask;
                }
                let status = if is_synthetic { real | STATUS_CAPABILITIES } else { real };
                status & 0xFFFF_0000 | u32::from(command)
            }
            HEADER => real | if self.shares_number(index) { MULTI_FUNCTION } else { 0 },
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
            ROM => 0,
            CAPABILITIES if is_synthetic => real & !0xFF | u32::from(SYNTHETIC),
            SYNTHETIC..0xFC if is_synthetic => {
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
            _ if is_tdi && cap.is_some_and(|cap| offset == cap + 4) => {
                real & !TEE_IO | if device.spec.tee_io { TEE_IO } else { 0 }
            }
            _ => real,
        }
    }

    pub(super) fn config_write(&mut self, device: Option<usize>, rid: u16, part: Part, m: &mut dyn Machine) {
        if self.changed_dword(rid, part.offset).is_some() {
            return;
        }
        if let Some(index) = device {
            self.device_write(index, part, m);
        } else if let Some(at) = self.bridges.iter().position(|bridge| bridge.rid == rid) {
            self.bridge_write(at, part, m);
        } else if !self.is_hidden(rid) {
            self.probe(rid, m);
            m.config_write(rid, part.offset, part.width, part.value);
            self.refresh_function(rid, part, m);
        }
    }

    /// Writes the configuration space of an assigned device.
    ///
    /// Under `pass-through` a change of what the lock covers puts the TDI in ERROR. Choices: MSI-X control is covered
    /// only if the device was locked so (`lock_msix`), in LOCKED and in RUN; memory decode of a virtual function counts
    /// though its own bit is hardwired; a resizable BAR never changes its real size; FLR and D3 reach the device under
    /// either VMM.
    fn device_write(&mut self, index: usize, part: Part, m: &mut dyn Machine) {
        let passes = self.scenario.vmm.config == ConfigAccess::PassThrough;
        let device = &mut self.devices[index];
        let rid = device.rid;
        let is_covered = passes && device.is_locked();
        let cap = registers::capability(m, rid, CAP_PCIE);
        let pm = registers::capability(m, rid, CAP_PM);
        let msix = device.msix.map(|msix| msix.cap);
        let broken = match part.dword() {
            0 => None,
            COMMAND => {
                let mut lost = 0;
                if part.offset < COMMAND + 2 {
                    let merged = part.merge(u32::from(device.shadow.command)) as u16;
                    let old = device.shadow.write_command(merged);
                    let command = device.shadow.command;
                    m.config_write(rid, COMMAND, 2, u32::from(command & !1 | MSE | BME));
                    lost = old & !command;
                }
                let status = part.written() >> 16;
                if status != 0 {
                    m.config_write(rid, COMMAND + 2, 2, status);
                }
                self.update_gate(m, index);
                self.relink_pci(m);
                match lost {
                    _ if lost & MSE != 0 => Some("memory decode went off"),
                    _ if lost & BME != 0 => Some("bus mastering went off"),
                    _ => None,
                }
            }
            dword @ BAR0..0x28 => {
                let bar = usize::from((dword - BAR0) / 4);
                let value = part.merge(device.shadow.read(bar));
                let changed = device.shadow.write(bar, value);
                self.relink_pci(m);
                changed.then_some("a BAR changed")
            }
            ROM => (part.written() & ROM_ENABLE != 0).then_some("the expansion ROM was enabled"),
            SYNTHETIC..0xFC if cap.is_none() && device.spec.tdi => None,
            dword if cap.is_some_and(|cap| dword == cap + 8) && part.written() & INITIATE_FLR != 0 => {
                self.function_level_reset(index, part, m);
                None
            }
            dword if pm.is_some_and(|pm| dword == pm + 4) => {
                self.power(index, part, m);
                None
            }
            dword if msix == Some(dword) => {
                let is_locked = device.spec.lock_msix;
                let changed = write_through(rid, part, m);
                (changed && is_locked).then_some("MSI-X control changed")
            }
            dword @ EXTENDED.. => extended_write(rid, dword, part, passes, m),
            _ => {
                write_through(rid, part, m);
                None
            }
        };
        if let Some(cause) = broken.filter(|_| is_covered) {
            self.set_tdi(m, index, TdiState::Error, cause);
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
        if from != to && to == POWER_STATE && device.is_locked() {
            self.set_tdi(m, index, TdiState::Error, "power state D3");
        }
        if from == POWER_STATE && to == 0 && before & NO_SOFT_RESET == 0 {
            self.after_reset(index, "D3 to D0", m);
        }
    }

    pub(crate) fn after_reset(&mut self, index: usize, cause: &'static str, m: &mut dyn Machine) {
        let device = &mut self.devices[index];
        device.shadow.clear();
        device.place(m);
        if device.is_locked() {
            self.set_tdi(m, index, TdiState::Error, cause);
        }
        self.update_gate(m, index);
        self.relink_pci(m);
    }
}

/// Lets a write reach the real function; says whether it changed the dword.
fn write_through(rid: u16, part: Part, m: &mut dyn Machine) -> bool {
    let before = m.config_read(rid, part.dword(), 4);
    m.config_write(rid, part.offset, part.width, part.value);
    m.config_read(rid, part.dword(), 4) != before
}

/// Writes an extended capability: SR-IOV reaches the function under `pass-through` only, resizable BARs never.
fn extended_write(
    rid: u16,
    dword: u16,
    part: Part,
    passes: bool,
    m: &mut dyn Machine,
) -> Option<&'static str> {
    let sriov = registers::extended(m, rid, super::sriov::EXT_SRIOV);
    if sriov.is_some_and(|cap| (cap + 4..cap + 0x40).contains(&dword)) {
        return (passes && write_through(rid, part, m)).then_some("SR-IOV control changed");
    }
    if let Some(cap) = registers::extended(m, rid, EXT_RESIZABLE_BAR) {
        let number = m.config_read(rid, cap + 8, 4) >> 5 & 7;
        if (cap + 4..cap + 4 + 8 * number as u16).contains(&dword) {
            let old = m.config_read(rid, dword, 4);
            return (part.merge(old) != old).then_some("a resizable BAR changed");
        }
    }
    write_through(rid, part, m);
    None
}
