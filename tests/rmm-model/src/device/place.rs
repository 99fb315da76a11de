//! Where the host puts real BARs: each bridge gets a window of its own, with nothing else in it.

use alloc::vec::Vec;

use super::sriov::Physical;
use super::{BME, MSE, registers};
use crate::board::{HIGH_BAR, PAGE};
use crate::machine::Machine;
use crate::model::Model;
use crate::setup::SetupError;

/// Unit of bridge windows.
const MIB: u64 = 1 << 20;

/// Which of the two windows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Low,
    High,
}

/// What needs room on one bus.
#[derive(Clone, Copy)]
enum Item {
    /// Device and place in its list of BARs.
    Device(usize, usize),
    /// The same of a physical function: the BARs of all its virtual functions.
    Physical(usize, usize),
    Bridge(usize),
}

/// Items of one bus with their offsets, bytes and alignment of the whole.
struct Block {
    items: Vec<(Item, u64)>,
    len: u64,
    align: u64,
}

fn side(bar: &super::Bar) -> Side {
    if bar.is_64 && bar.len >= HIGH_BAR { Side::High } else { Side::Low }
}

impl Model {
    /// Lays out what is on the bus behind the bridge at `above`, largest first.
    fn block(&self, above: &[u8], side_of: Side, physical: &[Physical]) -> Block {
        let high = self.board.real_bars_high.len != 0;
        let fits = |bar: &super::Bar| bar.is_memory && (if high { side(bar) } else { Side::Low }) == side_of;
        let is_here = |path: &[u8]| path.split_last().is_some_and(|(_, rest)| rest == above);
        let mut wanted = Vec::new();
        for (index, device) in self.devices.iter().enumerate() {
            let is_own = is_here(&device.path) && device.vf_ids.is_none();
            let bars = device.bars.iter().enumerate().filter(|(_, bar)| is_own && fits(bar));
            wanted.extend(bars.map(|(at, bar)| {
                let len = bar.len.max(PAGE);
                (len, len, Item::Device(index, at))
            }));
        }
        for (index, physical) in physical.iter().enumerate() {
            let bars =
                physical.bars.iter().enumerate().filter(|(_, bar)| is_here(&physical.path) && fits(bar));
            let count = u64::from(physical.count);
            wanted.extend(bars.map(|(at, bar)| (bar.len, bar.len * count, Item::Physical(index, at))));
        }
        for (index, bridge) in self.bridges.iter().enumerate().filter(|(_, bridge)| is_here(&bridge.path)) {
            let inner = self.block(&bridge.path, side_of, physical);
            wanted.push((inner.align.max(MIB), inner.len.next_multiple_of(MIB), Item::Bridge(index)));
        }
        wanted.sort_by_key(|item| core::cmp::Reverse(item.0));
        let mut block = Block { items: Vec::new(), len: 0, align: 1 };
        for (align, len, item) in wanted {
            let offset = block.len.next_multiple_of(align);
            block.items.push((item, offset));
            block.len = offset + len;
            block.align = block.align.max(align);
        }
        block
    }

    /// Gives addresses to all BARs of one side, and windows to the bridges.
    fn place_side(
        &mut self,
        base: u64,
        above: &[u8],
        side: Side,
        physical: &mut [Physical],
        m: &mut dyn Machine,
    ) {
        for (item, offset) in self.block(above, side, physical).items {
            let at = base + offset;
            match item {
                Item::Device(index, bar) => self.devices[index].bars[bar].pa = at,
                Item::Physical(index, bar) => physical[index].bars[bar].pa = at,
                Item::Bridge(index) => {
                    let (path, rid) = (self.bridges[index].path.clone(), self.bridges[index].rid);
                    let len = self.block(&path, side, physical).len.next_multiple_of(MIB);
                    open(m, rid, side, at, len);
                    self.place_side(at, &path, side, physical, m);
                }
            }
        }
    }

    /// Places the real BARs of all devices and turns their decode and bus mastering on.
    pub(super) fn place_real_bars(
        &mut self,
        physical: &mut [Physical],
        m: &mut dyn Machine,
    ) -> Result<(), SetupError> {
        for (side, region) in [(Side::Low, self.board.real_bars), (Side::High, self.board.real_bars_high)] {
            let block = self.block(&[], side, physical);
            let base = region.base.next_multiple_of(block.align);
            if block.len != 0 && base.checked_add(block.len).is_none_or(|top| top > region.top()) {
                return Err(self.no_room());
            }
            self.place_side(base, &[], side, physical, m);
        }
        for device in self.devices.iter().filter(|device| device.vf_ids.is_none()) {
            device.place(m);
        }
        Ok(())
    }

    /// Names the largest BAR.
    fn no_room(&self) -> SetupError {
        let bars = self.devices.iter().flat_map(|device| {
            device.bars.iter().filter(|bar| bar.is_memory).map(|bar| (bar.len, device.spec.slot.clone()))
        });
        let (len, slot) = bars.max_by_key(|bar| bar.0).unwrap_or_default();
        SetupError::NoRoom { slot, len }
    }
}

/// Opens one window of a bridge, or closes it if it has no bytes.
fn open(m: &mut dyn Machine, rid: u16, side: Side, base: u64, len: u64) {
    let pair = |base: u64, limit: u64| (limit as u32 & 0xFFF0_0000) | (base >> 16 & 0xFFF0) as u32;
    let limit = base + len.saturating_sub(1);
    let value = if len == 0 { 0x0000_FFF0 } else { pair(base, limit) };
    if side == Side::Low {
        m.config_write(rid, 0x20, 4, value);
    } else {
        m.config_write(rid, 0x24, 4, value);
        m.config_write(rid, 0x28, 4, (base >> 32) as u32);
        m.config_write(rid, 0x2C, 4, (limit >> 32) as u32);
    }
    m.config_write(rid, registers::COMMAND, 2, u32::from(MSE | BME));
}
