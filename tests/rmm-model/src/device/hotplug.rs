//! Functions that come and go behind the realm's back.

use super::registers;
use crate::machine::Machine;
use crate::model::Model;
use crate::scenario::{Lie, RhiOp};

/// Ids and class of a function that appears: QEMU's `edu` without BARs.
const IDS: u32 = 0x11E8_1234;
const CLASS: u32 = 0x00FF_0010;

impl Model {
    /// Acts out what an operation of a device sets off on the bus, when it ends.
    pub(crate) fn change_bus(&mut self, index: usize, op: RhiOp, m: &mut dyn Machine) {
        let lie = self.lie(m, Some(index), |lie| match lie {
            Lie::FunctionVanishes { after, .. } | Lie::FunctionAppears { after, .. } => *after == op,
            _ => false,
        });
        match lie {
            Some(Lie::FunctionVanishes { rid, .. }) => self.vanished.push(rid),
            Some(Lie::FunctionAppears { rid, .. }) if !registers::is_there(m, rid) => self.appeared.push(rid),
            _ => {}
        }
    }

    /// What a function that came or went reads as; none for the others.
    pub(super) fn changed_dword(&self, rid: u16, offset: u16) -> Option<u32> {
        if self.vanished.contains(&rid) {
            return Some(u32::MAX);
        }
        let dword = match offset & !3 {
            0 => IDS,
            8 => CLASS,
            _ => 0,
        };
        self.appeared.contains(&rid).then_some(dword)
    }
}
