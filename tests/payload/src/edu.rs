//! QEMU's educational device: its DMA engine moves bytes between memory and a buffer of its own (QEMU
//! docs/specs/edu.rst).

use crate::cpu::Wait;
use crate::memory::{ANSWER, Range, SUBMISSION, UNIT};
use crate::mmio::Mmio;
use crate::rsi::{Realm, Ripas, RsiError};
use core::fmt;

const ID: u64 = 0x00;
/// Reads back inverted.
const LIVENESS: u64 = 0x04;
const DMA_SOURCE: u64 = 0x80;
const DMA_DESTINATION: u64 = 0x88;
const DMA_COUNT: u64 = 0x90;
const DMA_COMMAND: u64 = 0x98;

/// Low half of the id; the high half is the version.
const ID_LOW: u32 = 0x00ed;
const COMMAND_RUN: u32 = 1 << 0;
/// From the device's buffer to memory; else the other way.
const COMMAND_TO_MEMORY: u32 = 1 << 1;
/// The device's own address of its buffer.
const BUFFER: u64 = 0x4_0000;
/// Bytes of a transfer that must arrive, and of one that must not: each blocked word is an event of the SMMU.
const LEN: u64 = 256;
const LEN_BLOCKED: u64 = 16;
/// Most milliseconds of a transfer; the device takes a tenth of a second.
const MAX_MILLISECONDS: u64 = 3000;
/// What memory holds where nothing may arrive.
const MARK: u32 = 0x6d61_726b;

/// What went wrong.
#[derive(Clone, Copy)]
pub enum EduError {
    /// Another id, or the liveness register does not invert: register, value.
    Dead(u64, u32),
    /// A transfer did not end.
    NoEnd,
    /// What came back from the device, at this offset.
    Wrong(u64, u32),
    /// The page could not be shared or taken back.
    Convert(RsiError),
    /// The device wrote to the shared page by this address.
    Wrote(u64),
    /// The device read the shared page by this address.
    Read(u64),
}

impl fmt::Display for EduError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dead(register, value) => write!(f, "register {register:#x} reads {value:#x}"),
            Self::NoEnd => f.write_str("the transfer does not end"),
            Self::Wrong(offset, value) => write!(f, "{value:#x} at {offset:#x} of what came back"),
            Self::Convert(error) => write!(f, "RSI_IPA_STATE_SET: {error}"),
            Self::Wrote(address) => write!(f, "wrote to the shared page at {address:#x}"),
            Self::Read(address) => write!(f, "read the shared page at {address:#x}"),
        }
    }
}

fn pattern(offset: u64) -> u32 {
    0x4748_0000 | (offset as u32).wrapping_mul(0x101)
}

/// The device's registers through the private BAR.
#[derive(Clone, Copy)]
pub struct Edu(pub Mmio);

impl Edu {
    /// Checks id and liveness.
    pub fn is_alive(&self) -> Result<(), EduError> {
        let id = self.0.read(ID);
        if id & 0xffff != ID_LOW {
            return Err(EduError::Dead(ID, id));
        }
        self.0.write(LIVENESS, MARK);
        let back = self.0.read(LIVENESS);
        if back == !MARK { Ok(()) } else { Err(EduError::Dead(LIVENESS, back)) }
    }

    /// Returns whether no transfer is under way.
    pub fn is_idle(&self) -> bool {
        self.0.read(DMA_COMMAND) & COMMAND_RUN == 0
    }

    /// From private memory into the device and back into other private memory.
    pub fn round_trip(&self) -> Result<(), EduError> {
        for offset in (0..LEN).step_by(4) {
            SUBMISSION.write(offset, pattern(offset));
        }
        SUBMISSION.hand_over();
        self.fetch(SUBMISSION.address(), LEN)?;
        self.buffer_is(&pattern)
    }

    /// Shares a page with the host and tries to reach it by both of its addresses, in both directions.
    pub fn reach_out(&self, realm: &Realm) -> Result<(), EduError> {
        realm.convert(&UNIT, Ripas::Empty).map_err(EduError::Convert)?;
        let reached = self.reach(realm.border());
        // Whatever the device did, the page becomes private again.
        realm.convert(&UNIT, Ripas::Ram).map_err(EduError::Convert)?;
        reached
    }

    fn reach(&self, border: u64) -> Result<(), EduError> {
        let Range { base, .. } = UNIT.range();
        for address in [base | border, base] {
            self.round_trip()?;
            for offset in (0..LEN).step_by(4) {
                UNIT.write(border, offset, MARK);
            }
            self.store(address, LEN_BLOCKED)?;
            if (0..LEN).step_by(4).any(|offset| UNIT.read(border, offset) != MARK) {
                return Err(EduError::Wrote(address));
            }
            self.fetch(address, LEN_BLOCKED)?;
            // What the buffer holds after a read that was stopped is the device's affair, but it is not the page.
            ANSWER.fill(0);
            ANSWER.hand_over();
            self.store(ANSWER.address(), LEN)?;
            ANSWER.take_back();
            if (0..LEN_BLOCKED).step_by(4).any(|offset| ANSWER.read(offset) == MARK) {
                return Err(EduError::Read(address));
            }
            if ANSWER.read(LEN - 4) != pattern(LEN - 4) {
                return Err(EduError::Wrong(LEN - 4, ANSWER.read(LEN - 4)));
            }
        }
        Ok(())
    }

    /// Fetches the device's buffer into private memory and compares it.
    fn buffer_is(&self, expected: &dyn Fn(u64) -> u32) -> Result<(), EduError> {
        ANSWER.fill(0);
        ANSWER.hand_over();
        self.store(ANSWER.address(), LEN)?;
        ANSWER.take_back();
        for offset in (0..LEN).step_by(4) {
            let found = ANSWER.read(offset);
            if found != expected(offset) {
                return Err(EduError::Wrong(offset, found));
            }
        }
        Ok(())
    }

    fn fetch(self, address: u64, len: u64) -> Result<(), EduError> {
        self.transfer(address, BUFFER, len, COMMAND_RUN)
    }

    fn store(self, address: u64, len: u64) -> Result<(), EduError> {
        self.transfer(BUFFER, address, len, COMMAND_RUN | COMMAND_TO_MEMORY)
    }

    fn transfer(&self, source: u64, destination: u64, len: u64, command: u32) -> Result<(), EduError> {
        self.0.write_whole(DMA_SOURCE, source);
        self.0.write_whole(DMA_DESTINATION, destination);
        self.0.write_whole(DMA_COUNT, len);
        self.0.write_whole(DMA_COMMAND, command.into());
        let mut wait = Wait::new(MAX_MILLISECONDS);
        while !self.is_idle() {
            if !wait.again() {
                return Err(EduError::NoEnd);
            }
        }
        Ok(())
    }
}
