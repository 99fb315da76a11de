//! Real configuration space: finding capabilities, sizing and setting BARs.

use alloc::vec::Vec;

use super::{BME, Bar, MSE, Msix};
use crate::board::PAGE;
use crate::machine::Machine;

pub(super) const COMMAND: u16 = 0x04;
pub(super) const STATUS_CAPABILITIES: u32 = 1 << 20;
pub(super) const HEADER_TYPE: u16 = 0x0E;
pub(super) const BAR0: u16 = 0x10;
pub(super) const CAPABILITIES: u16 = 0x34;
pub(super) const CAP_PM: u8 = 0x01;
pub(super) const CAP_PCIE: u8 = 0x10;
pub(super) const CAP_MSIX: u8 = 0x11;

/// Says whether a function answers.
pub(super) fn is_there(m: &mut dyn Machine, rid: u16) -> bool {
    !matches!(m.config_read(rid, 0, 4) & 0xFFFF, 0xFFFF | 0)
}

/// Says whether the function is a bridge.
pub(super) fn is_bridge(m: &mut dyn Machine, rid: u16) -> bool {
    m.config_read(rid, HEADER_TYPE, 1) & 0x7F == 1
}

/// Finds a capability by its id.
pub(super) fn capability(m: &mut dyn Machine, rid: u16, id: u8) -> Option<u16> {
    if m.config_read(rid, COMMAND, 4) & STATUS_CAPABILITIES == 0 {
        return None;
    }
    let mut at = (m.config_read(rid, CAPABILITIES, 1) & 0xFC) as u16;
    for _ in 0..48 {
        if at < 0x40 {
            return None;
        }
        let header = m.config_read(rid, at, 4);
        if header as u8 == id {
            return Some(at);
        }
        at = (header >> 8 & 0xFC) as u16;
    }
    None
}

/// Finds an extended capability by its id.
pub(super) fn extended(m: &mut dyn Machine, rid: u16, id: u16) -> Option<u16> {
    let mut at = 0x100;
    for _ in 0..480 {
        let header = m.config_read(rid, at, 4);
        if header == 0 || header == u32::MAX {
            return None;
        }
        if header as u16 == id {
            return Some(at);
        }
        at = (header >> 20 & 0xFFC) as u16;
        if at < 0x100 {
            return None;
        }
    }
    None
}

/// Reads the first `registers` BARs and their sizes; leaves command and BARs as they were.
pub(super) fn bars(m: &mut dyn Machine, rid: u16, registers: usize) -> Vec<Bar> {
    let command = m.config_read(rid, COMMAND, 2);
    m.config_write(rid, COMMAND, 2, command & !u32::from(MSE | BME | 1));
    let bars = bars_at(m, rid, BAR0, registers);
    m.config_write(rid, COMMAND, 2, command);
    bars
}

/// Reads BARs that start at a register; the caller has turned their decode off.
pub(super) fn bars_at(m: &mut dyn Machine, rid: u16, first: u16, registers: usize) -> Vec<Bar> {
    let mut bars = Vec::new();
    let mut index = 0;
    while index < registers {
        let at = first + 4 * index as u16;
        let low = m.config_read(rid, at, 4);
        let size_low = size(m, rid, at, low);
        let is_memory = low & 1 == 0;
        let is_64 = is_memory && low & 0b110 == 0b100 && index + 1 < registers;
        let flags = if is_memory { low & 0xF } else { low & 0x3 };
        let mut mask = u64::from(size_low & if is_memory { !0xF } else { !0x3 });
        let mut pa = u64::from(low & if is_memory { !0xF } else { !0x3 });
        if is_64 {
            let high = m.config_read(rid, at + 4, 4);
            mask |= u64::from(size(m, rid, at + 4, high)) << 32;
            pa |= u64::from(high) << 32;
        } else if mask != 0 {
            mask |= 0xFFFF_FFFF << 32;
        }
        // I/O BARs may leave their upper half zero.
        let len = if is_memory { mask.wrapping_neg() } else { mask as u32 as u64 & (mask.wrapping_neg()) };
        if mask != 0 && len.is_power_of_two() {
            bars.push(Bar { index, len, is_64, is_memory, flags, pa });
        }
        index += if is_64 { 2 } else { 1 };
    }
    bars
}

/// Reads the addresses of memory BARs again.
pub(super) fn reread(m: &mut dyn Machine, rid: u16, bars: &mut [Bar]) {
    for bar in bars.iter_mut().filter(|bar| bar.is_memory) {
        let at = BAR0 + 4 * bar.index as u16;
        let high = if bar.is_64 { m.config_read(rid, at + 4, 4) } else { 0 };
        bar.pa = u64::from(high) << 32 | u64::from(m.config_read(rid, at, 4) & !0xF);
    }
}

fn size(m: &mut dyn Machine, rid: u16, at: u16, value: u32) -> u32 {
    m.config_write(rid, at, 4, !0);
    let mask = m.config_read(rid, at, 4);
    m.config_write(rid, at, 4, value);
    mask
}

/// Writes the addresses of memory BARs that start at a register.
pub(super) fn write_bars(m: &mut dyn Machine, rid: u16, first: u16, bars: &[Bar]) {
    for bar in bars.iter().filter(|bar| bar.is_memory) {
        let at = first + 4 * bar.index as u16;
        m.config_write(rid, at, 4, bar.pa as u32);
        if bar.is_64 {
            m.config_write(rid, at + 4, 4, (bar.pa >> 32) as u32);
        }
    }
}

/// Reads the MSI-X capability.
pub(super) fn msix(m: &mut dyn Machine, rid: u16) -> Option<Msix> {
    let cap = capability(m, rid, CAP_MSIX)?;
    let entries = u64::from(m.config_read(rid, cap + 2, 2) & 0x7FF) + 1;
    let mut part = |at: u16, len: u64| {
        let value = m.config_read(rid, at, 4);
        ((value & 7) as u16, u64::from(value & !7), len)
    };
    let table = part(cap + 4, entries * 16);
    let pba = part(cap + 8, entries.div_ceil(64) * 8);
    Some(Msix { cap, table, pba })
}

/// Rounds BARs of TDIs up to whole pages.
pub(super) fn whole_pages(bars: &mut [Bar]) {
    for bar in bars.iter_mut().filter(|bar| bar.is_memory) {
        bar.len = bar.len.max(PAGE);
    }
}
