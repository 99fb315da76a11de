//! The few RSI calls of this program (RMM specification, DEN0137 2.0 beta, sections B5.4 and B5.5).

use crate::cpu;
use crate::memory::{ANSWER, PAGE_SIZE, Range, Unit};
use core::fmt;

const RSI_VERSION: u64 = 0xC400_0190;
const RSI_REALM_CONFIG: u64 = 0xC400_0196;
const RSI_IPA_STATE_SET: u64 = 0xC400_0197;
const RSI_IPA_STATE_GET: u64 = 0xC400_0198;
const RSI_VDEV_GET_INFO: u64 = 0xC400_019D;

const RSI_SUCCESS: u64 = 0;
/// An argument that cannot be, a device that the RMM does not know among them.
pub const RSI_ERROR_INPUT: u64 = 1;
/// Response of RSI_IPA_STATE_SET: the host agreed.
const RSI_ACCEPT: u64 = 0;
const RSI_INCOMPLETE: u64 = 3;
/// Version 1.0, as RSI_VERSION takes it: major in bits 30:16.
const VERSION_1_0: u64 = 1 << 16;
/// Most repetitions of a call that answers INCOMPLETE.
const MAX_RETRIES: u32 = 1000;
/// Most steps of one walk with RSI_IPA_STATE_GET.
const MAX_STEPS: u32 = 100_000;

// RsiVdevInfo, layout D (B5.5.28).
const INFO_HASH_ALGORITHM: u64 = 0x10;
const INFO_NONCES: [u64; 3] = [0x18, 0x20, 0x28];
const INFO_STATE: u64 = 0x40;
/// VCA, certificate chain, measurements, interface report.
pub const INFO_DIGESTS: [u64; 4] = [0x80, 0xC0, 0x140, 0x180];

/// RIPAS values (B5.5).
#[derive(Clone, Copy)]
#[repr(u64)]
pub enum Ripas {
    /// Nothing there.
    Empty = 0,
    /// Memory.
    Ram = 1,
    /// Device memory, validated.
    Dev = 3,
}

/// Device state of layout D (B5.5.30): the TDI is not locked.
pub const STATE_UNLOCKED: u8 = 0;
/// Device state of layout D (B5.5.30): TDI in RUN.
pub const STATE_STARTED: u8 = 2;

/// Why a call did not give what was asked for.
#[derive(Clone, Copy)]
pub enum RsiError {
    /// x0 of the call.
    Status(u64),
    /// The RIPAS of this page is another one: address, value.
    Ripas(u64, u64),
    /// An answer outside the specification's values.
    BadReply(u64),
    /// Too many steps or repetitions.
    Bound,
}

impl fmt::Display for RsiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(f, "status {status:#x}"),
            Self::Ripas(page, found) => write!(f, "RIPAS {found} at {page:#x}"),
            Self::BadReply(value) => write!(f, "bad reply {value:#x}"),
            Self::Bound => write!(f, "no end"),
        }
    }
}

/// What RSI_VDEV_GET_INFO said; the digests are left in [`ANSWER`] until the next call.
pub struct VdevInfo {
    /// State.
    pub state: u8,
    /// Hash algorithm of the digests.
    pub hash_algorithm: u8,
    /// Lock, measurement, report nonce.
    pub nonces: [u64; 3],
}

/// The realm that we run in.
pub struct Realm {
    /// Highest RSI version: major and minor.
    pub version: (u64, u64),
    /// IPA width in bits.
    pub width: u64,
}

impl Realm {
    /// Asks for version and configuration; none when this is no realm.
    pub fn open() -> Option<Self> {
        // SAFETY: the call writes no memory.
        let [status, _, higher, ..] = unsafe { cpu::smc64(RSI_VERSION, [VERSION_1_0, 0, 0, 0, 0, 0, 0, 0]) };
        if status != RSI_SUCCESS {
            return None;
        }
        if call_with_page(|page| (RSI_REALM_CONFIG, [page, 0])) != RSI_SUCCESS {
            return None;
        }
        let width = ANSWER.read64(0);
        (32..=52).contains(&width).then_some(Self { version: (higher >> 16, higher & 0xffff), width })
    }

    /// The unprotected alias of a protected range: bit width - 1 set.
    pub fn alias(&self, range: Range) -> Range {
        Range { base: range.base | self.border(), top: ((range.top - 1) | self.border()) + 1 }
    }

    /// First unprotected address.
    pub fn border(&self) -> u64 {
        1 << (self.width - 1)
    }

    /// Checks that every page of `range` has this RIPAS; the range is widened to whole pages.
    pub fn expect(&self, range: &Range, ripas: Ripas) -> Result<(), RsiError> {
        let top = range.top.next_multiple_of(PAGE_SIZE);
        let mut base = range.base / PAGE_SIZE * PAGE_SIZE;
        for _ in 0..MAX_STEPS {
            if base == top {
                return Ok(());
            }
            let (next, found) = self.uniform(base, top)?;
            if found != ripas as u64 {
                return Err(RsiError::Ripas(base, found));
            }
            base = next;
        }
        Err(RsiError::Bound)
    }

    /// Shares the unit with the host (EMPTY) or takes it back (RAM); it is zeroed either way.
    pub fn convert(&self, unit: &'static Unit, to: Ripas) -> Result<(), RsiError> {
        let Range { mut base, top } = unit.range();
        cpu::clean_invalidate(base, top);
        for _ in 0..MAX_RETRIES {
            if base == top {
                cpu::clean_invalidate(unit.range().base, top);
                return self.expect(&unit.range(), to);
            }
            // SAFETY: nobody refers to the unit, and the RMM changes nothing else.
            let [status, next, response, ..] =
                unsafe { cpu::smc64(RSI_IPA_STATE_SET, [base, top, to as u64, 0, 0, 0, 0, 0]) };
            if status != RSI_SUCCESS {
                return Err(RsiError::Status(status));
            }
            if response != RSI_ACCEPT || next < base || next > top || !next.is_multiple_of(PAGE_SIZE) {
                return Err(RsiError::BadReply(next));
            }
            base = next;
        }
        Err(RsiError::Bound)
    }

    /// End of the first uniform part of `[base, top)`, and its RIPAS.
    fn uniform(&self, base: u64, top: u64) -> Result<(u64, u64), RsiError> {
        // SAFETY: the call writes no memory.
        let [status, next, ripas, ..] =
            unsafe { cpu::smc64(RSI_IPA_STATE_GET, [base, top, 0, 0, 0, 0, 0, 0]) };
        if status != RSI_SUCCESS {
            return Err(RsiError::Status(status));
        }
        if next <= base || next > top || !next.is_multiple_of(PAGE_SIZE) {
            return Err(RsiError::BadReply(next));
        }
        Ok((next, ripas))
    }

    /// What the RMM knows of a device.
    pub fn vdev_info(&self, vdev_id: u64) -> Result<VdevInfo, RsiError> {
        for _ in 0..MAX_RETRIES {
            match call_with_page(|page| (RSI_VDEV_GET_INFO, [vdev_id, page])) {
                RSI_SUCCESS => {
                    return Ok(VdevInfo {
                        state: ANSWER.byte(INFO_STATE),
                        hash_algorithm: ANSWER.byte(INFO_HASH_ALGORITHM),
                        nonces: INFO_NONCES.map(|offset| ANSWER.read64(offset)),
                    });
                }
                RSI_INCOMPLETE => {}
                status => return Err(RsiError::Status(status)),
            }
        }
        Err(RsiError::Bound)
    }
}

/// Makes a call that gets the address of [`ANSWER`] and fills it; returns x0.
fn call_with_page(call: impl Fn(u64) -> (u64, [u64; 2])) -> u64 {
    let (fid, [x1, x2]) = call(ANSWER.address());
    ANSWER.fill(0);
    ANSWER.hand_over();
    // SAFETY: the callee writes at most the page, which no reference exists to.
    let [status, ..] = unsafe { cpu::smc64(fid, [x1, x2, 0, 0, 0, 0, 0, 0]) };
    ANSWER.take_back();
    status
}
