//! A 16550A that the host emulates for the realm (board qemu-virt-16550): every access traps. What is sent goes out on
//! QEMU's PL011, which the realm cannot reach on that board; nothing is ever received.
//!
//! Registers: PC16550D. Like kvmtool's: eight byte registers, only byte accesses. The interrupt is an edge: the stub
//! makes an otherwise unused SPI pending in the distributor, which the realm owns.

use crate::layout::{ALIAS_BIT, UART_16550, UART_16550_SPI};
use crate::mmio::{read32, write32};
use rmm_model::Access;

/// Bytes of the registers.
pub const LEN: u64 = 8;
/// Number of the first SPI.
const FIRST_SPI: u64 = 32;
/// GICD_ISPENDR0.
const GICD_ISPENDR: u64 = 0x200;

/// PL011: data, flags, control.
const PL011_DR: u64 = 0x00;
const PL011_FR: u64 = 0x18;
const PL011_CR: u64 = 0x30;
const FR_TXFF: u32 = 1 << 5;
const CR_ENABLE: u32 = 0x301;

/// IER and IIR of "the transmit queue is empty".
const IER_EMPTY: u8 = 1 << 1;
const IIR_EMPTY: u8 = 0x02;
const IIR_NONE: u8 = 0x01;
const IIR_QUEUES: u8 = 0xc0;
const LCR_DIVISOR: u8 = 1 << 7;
const MCR_LOOP: u8 = 1 << 4;
/// LSR: queue and transmitter empty.
const LSR_IDLE: u8 = 0x60;
/// MSR: carrier, data set ready, clear to send.
const MSR_READY: u8 = 0xb0;

/// The UART.
#[derive(Debug)]
pub struct Uart {
    pl011: u64,
    gicd: u64,
    ier: u8,
    fcr: u8,
    lcr: u8,
    mcr: u8,
    scratch: u8,
    divisor: [u8; 2],
    /// The queue became empty, and nobody has read that in IIR.
    emptied: bool,
    /// Emulated accesses.
    pub accesses: u64,
}

impl Uart {
    /// A UART after reset; `pl011` and `gicd`: addresses of QEMU's UART and distributor.
    pub fn new(pl011: u64, gicd: u64) -> Self {
        write32(pl011 + PL011_CR, CR_ENABLE);
        Self {
            pl011,
            gicd,
            ier: 0,
            fcr: 0,
            lcr: 0,
            mcr: 0,
            scratch: 0,
            divisor: [12, 0],
            emptied: false,
            accesses: 0,
        }
    }

    /// Emulates an access; `None` if it is not the UART's, which is what an access of another width is, too.
    pub fn access(&mut self, ipa: u64, access: Access) -> Option<u64> {
        let register = ipa.checked_sub(ALIAS_BIT | UART_16550).filter(|offset| *offset < LEN)? as u8;
        let value = match access {
            Access::Read { width: 1 } => self.read(register).into(),
            Access::Write { width: 1, value } => {
                self.write(register, value as u8);
                0
            }
            _ => return None,
        };
        self.accesses += 1;
        Some(value)
    }

    fn has_divisor(&self) -> bool {
        self.lcr & LCR_DIVISOR != 0
    }

    fn read(&mut self, register: u8) -> u8 {
        match register {
            0 | 1 if self.has_divisor() => self.divisor[usize::from(register)],
            0 => 0,
            1 => self.ier,
            2 => {
                let queues = if self.fcr & 1 != 0 { IIR_QUEUES } else { 0 };
                let is_pending = self.ier & IER_EMPTY != 0 && core::mem::take(&mut self.emptied);
                queues | if is_pending { IIR_EMPTY } else { IIR_NONE }
            }
            3 => self.lcr,
            4 => self.mcr,
            5 => LSR_IDLE,
            // Loop: RTS is CTS, DTR is DSR, OUT1 and OUT2 are RI and DCD.
            6 if self.mcr & MCR_LOOP != 0 => {
                (self.mcr & 0b10) << 3 | (self.mcr & 0b01) << 5 | (self.mcr & 0b1100) << 4
            }
            6 => MSR_READY,
            _ => self.scratch,
        }
    }

    fn write(&mut self, register: u8, value: u8) {
        match register {
            0 | 1 if self.has_divisor() => self.divisor[usize::from(register)] = value,
            0 => {
                if self.mcr & MCR_LOOP == 0 {
                    self.send(value);
                }
                self.becomes_empty();
            }
            1 => {
                let is_new = value & !self.ier & IER_EMPTY != 0;
                self.ier = value & 0xf;
                if is_new {
                    self.becomes_empty();
                }
            }
            2 => self.fcr = value,
            3 => self.lcr = value,
            4 => self.mcr = value & 0x1f,
            5 | 6 => (),
            _ => self.scratch = value,
        }
    }

    fn send(&self, byte: u8) {
        // QEMU's PL011 takes a byte at once; the bound is for a stopped one.
        let _ = (0..100_000).find(|_| read32(self.pl011 + PL011_FR) & FR_TXFF == 0);
        write32(self.pl011 + PL011_DR, byte.into());
    }

    /// The queue became empty: an edge of the interrupt, if it is on.
    fn becomes_empty(&mut self) {
        self.emptied = true;
        if self.ier & IER_EMPTY != 0 {
            let number = FIRST_SPI + u64::from(UART_16550_SPI);
            write32(self.gicd + GICD_ISPENDR + number / 32 * 4, 1 << (number % 32));
        }
    }
}
