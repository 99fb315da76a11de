//! Command and BAR registers as the realm sees them.

use super::Bar;

/// Bits of the command register that can be written: I/O, memory, bus master, parity, SERR, INTx disable.
const COMMAND_MASK: u16 = 0x0547;

/// The registers.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shadow {
    pub(crate) command: u16,
    regs: [u32; 6],
    masks: [u32; 6],
    flags: [u32; 6],
}

impl Shadow {
    pub(crate) fn new(bars: &[Bar]) -> Shadow {
        let mut shadow = Shadow::default();
        for bar in bars {
            let mask = !(bar.len - 1);
            shadow.masks[bar.index] = mask as u32;
            shadow.flags[bar.index] = bar.flags;
            if bar.is_64 && bar.index < 5 {
                shadow.masks[bar.index + 1] = (mask >> 32) as u32;
            }
        }
        shadow
    }

    /// As after a reset.
    pub(crate) fn clear(&mut self) {
        self.command = 0;
        self.regs = [0; 6];
    }

    /// Address in a BAR.
    pub(crate) fn base(&self, bar: &Bar) -> u64 {
        let high = if bar.is_64 && bar.index < 5 { self.regs[bar.index + 1] } else { 0 };
        u64::from(high) << 32 | u64::from(self.regs[bar.index])
    }

    /// Reads register 0..5.
    pub(crate) fn read(&self, index: usize) -> u32 {
        self.regs[index] | self.flags[index]
    }

    /// Says whether the register holds what sizing left.
    pub(crate) fn is_sizing(&self, index: usize) -> bool {
        self.regs[index] == self.masks[index]
    }

    /// Writes register 0..5; says whether the address changed.
    pub(crate) fn write(&mut self, index: usize, value: u32) -> bool {
        let old = core::mem::replace(&mut self.regs[index], value & self.masks[index]);
        old != self.regs[index]
    }

    /// Writes the command register; returns the bits before.
    pub(crate) fn write_command(&mut self, value: u16) -> u16 {
        core::mem::replace(&mut self.command, value & COMMAND_MASK)
    }
}
