//! One polled command on an NVMe admin queue in private memory (NVM Express Base Specification 2.0).
//!
//! The queues and the data page are protected addresses of our own .bss: the command completes only if the device may
//! reach private memory. No interrupt is used: MSI and MSI-X stay disabled, INTx is masked in the controller.

use crate::cpu::{self, Wait};
use crate::memory::{ANSWER, COMPLETION, SUBMISSION};
use crate::mmio::Mmio;
use core::fmt;

const CAP: u64 = 0x00;
const VS: u64 = 0x08;
const INTMS: u64 = 0x0c;
const CC: u64 = 0x14;
const CSTS: u64 = 0x1c;
const AQA: u64 = 0x24;
const ASQ: u64 = 0x28;
const ACQ: u64 = 0x30;
const DOORBELLS: u64 = 0x1000;

const CC_EN: u32 = 1 << 0;
/// Entry sizes of I/O queues as powers of two (64 and 16 bytes), 4 KiB pages, NVM command set.
const CC_SETTINGS: u32 = 6 << 16 | 4 << 20;
const CSTS_RDY: u32 = 1 << 0;
const CSTS_CFS: u32 = 1 << 1;

/// Entries of each queue.
const NUM_ENTRIES: u32 = 4;
const OPCODE_IDENTIFY: u32 = 0x06;
/// CNS of Identify: controller.
const CNS_CONTROLLER: u32 = 1;
/// Id of the command, any value.
const COMMAND_ID: u32 = 0x6748;
/// Phase bit in the last word of a completion.
const PHASE: u32 = 1 << 16;
/// What the pages hold before the device writes: neither a vendor id nor text.
const UNTOUCHED: u32 = 0xa5a5_a5a5;
/// Most milliseconds for a change of CSTS.RDY (CAP.TO may be minutes), and for the command.
const MAX_MILLISECONDS: u64 = 2000;
/// CSTS is read once in so many turns while a completion is awaited.
const CSTS_INTERVAL: u32 = 256;

/// Where it went wrong.
#[derive(Clone, Copy)]
pub enum NvmeError {
    /// The controller cannot use 4 KiB pages, or doorbells outside the BAR: CAP.
    Capabilities(u64),
    /// CSTS.RDY did not become 1.
    Enable(u32),
    /// CSTS.RDY did not become 0.
    Disable(u32),
    /// CSTS.CFS: the controller gave up, for one because it could not read the queue.
    Fatal(u32),
    /// No completion.
    NoCompletion(u32),
    /// Completion with this status field, or for another command.
    Status(u32),
    /// The completion came, the data did not.
    NoData,
}

impl fmt::Display for NvmeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Capabilities(cap) => write!(f, "CAP {cap:#x} is not supported"),
            Self::Enable(csts) => write!(f, "enable: CSTS {csts:#x}"),
            Self::Disable(csts) => write!(f, "disable: CSTS {csts:#x}"),
            Self::Fatal(csts) => write!(f, "controller gave up: CSTS {csts:#x}"),
            Self::NoCompletion(csts) => write!(f, "no completion: CSTS {csts:#x}"),
            Self::Status(word) => write!(f, "completion {word:#x}"),
            Self::NoData => write!(f, "completed without data"),
        }
    }
}

/// What Identify Controller says.
pub struct Identity {
    /// PCI vendor id.
    pub vendor: u32,
    /// Serial number, padded with blanks.
    pub serial: [u8; 20],
    /// Model number, padded with blanks.
    pub model: [u8; 40],
}

/// The controller's registers through the private BAR.
pub struct Controller(pub Mmio);

impl Controller {
    /// CAP and VS.
    pub fn capabilities(&self) -> (u64, u32) {
        (self.0.read64(CAP), self.0.read(VS))
    }

    /// CC and CSTS.
    pub fn state(&self) -> (u32, u32) {
        (self.0.read(CC), self.0.read(CSTS))
    }

    /// Returns whether the controller is disabled: it fetches no command.
    pub fn is_idle(&self) -> bool {
        let (cc, csts) = self.state();
        cc & CC_EN == 0 && csts & CSTS_RDY == 0
    }

    /// Enables the controller, identifies it, and disables it again in any case.
    pub fn identify(&self) -> Result<Identity, NvmeError> {
        self.disable()?;
        let identity = self.enable().and_then(|()| self.command());
        let disabled = self.disable();
        // The device knows no address of ours from here on.
        self.0.write(AQA, 0);
        self.0.write64(ASQ, 0);
        self.0.write64(ACQ, 0);
        disabled.and(identity)
    }

    fn enable(&self) -> Result<(), NvmeError> {
        let cap = self.0.read64(CAP);
        let (page_min, stride) = (cap >> 48 & 0xf, cap >> 32 & 0xf);
        if page_min != 0 || stride > 9 {
            return Err(NvmeError::Capabilities(cap));
        }
        SUBMISSION.fill(0);
        COMPLETION.fill(0);
        ANSWER.fill(UNTOUCHED);
        COMPLETION.hand_over();
        ANSWER.hand_over();
        self.0.write(INTMS, u32::MAX);
        self.0.write(AQA, (NUM_ENTRIES - 1) | ((NUM_ENTRIES - 1) << 16));
        self.0.write64(ASQ, SUBMISSION.address());
        self.0.write64(ACQ, COMPLETION.address());
        self.0.write(CC, CC_SETTINGS | CC_EN);
        self.wait(CSTS_RDY).map_err(NvmeError::Enable)
    }

    fn command(&self) -> Result<Identity, NvmeError> {
        let data = ANSWER.address();
        SUBMISSION.write(0, OPCODE_IDENTIFY | COMMAND_ID << 16);
        SUBMISSION.write(24, data as u32);
        SUBMISSION.write(28, (data >> 32) as u32);
        SUBMISSION.write(40, CNS_CONTROLLER);
        SUBMISSION.hand_over();
        self.ring(0, 1);
        let completion = self.completion()?;
        self.ring(1, 1);
        if completion != (COMMAND_ID | PHASE) {
            return Err(NvmeError::Status(completion));
        }
        ANSWER.take_back();
        if ANSWER.read(0) == UNTOUCHED || ANSWER.read(4) == UNTOUCHED {
            return Err(NvmeError::NoData);
        }
        Ok(Identity { vendor: ANSWER.read(0) & 0xffff, serial: text(4), model: text(24) })
    }

    /// Waits for the first completion; returns its last word: command id, phase, status.
    fn completion(&self) -> Result<u32, NvmeError> {
        let mut wait = Wait::new(MAX_MILLISECONDS);
        loop {
            let word = COMPLETION.read_fresh(12);
            if word & PHASE != 0 {
                return Ok(word);
            }
            if wait.turns().is_multiple_of(CSTS_INTERVAL) {
                let csts = self.0.read(CSTS);
                if csts & CSTS_CFS != 0 {
                    return Err(NvmeError::Fatal(csts));
                }
            }
            if !wait.again() {
                return Err(NvmeError::NoCompletion(self.0.read(CSTS)));
            }
        }
    }

    fn disable(&self) -> Result<(), NvmeError> {
        let cc = self.0.read(CC);
        if cc & CC_EN != 0 {
            self.0.write(CC, cc & !CC_EN);
        }
        self.wait(0).map_err(NvmeError::Disable)
    }

    /// Waits for CSTS.RDY; CSTS if it does not come, or if the controller gives up while it is to become ready.
    fn wait(&self, ready: u32) -> Result<(), u32> {
        let mut wait = Wait::new(MAX_MILLISECONDS);
        loop {
            let csts = self.0.read(CSTS);
            if csts & CSTS_RDY == ready {
                return Ok(());
            }
            if ready != 0 && csts & CSTS_CFS != 0 || !wait.again() {
                return Err(csts);
            }
        }
    }

    /// Writes a doorbell of the admin queue: 0 submission tail, 1 completion head.
    fn ring(&self, index: u64, value: u32) {
        cpu::barrier();
        let stride = 4 << (self.0.read64(CAP) >> 32 & 0xf);
        self.0.write(DOORBELLS + index * stride, value);
    }
}

/// Text of Identify's data.
fn text<const N: usize>(offset: u64) -> [u8; N] {
    let mut text = [0; N];
    for (at, byte) in (offset..).zip(text.iter_mut()) {
        *byte = ANSWER.byte(at);
    }
    text
}
