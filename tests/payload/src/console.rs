//! The UART that the firmware left running, and the text of one result line.

use crate::cpu;
use crate::memory::Range;
use crate::mmio::Mmio;
use core::arch::asm;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering};

/// PL011: data, flags.
const DR: u64 = 0x00;
const FR: u64 = 0x18;
/// FR.TXFF: transmit queue full.
const TXFF: u32 = 1 << 5;
/// 16550: transmit holding register and line status, eight bits each, next to each other.
const THR: u64 = 0;
const LSR: u64 = 5;
/// LSR.THRE: transmit queue empty.
const THRE: u8 = 1 << 5;
/// Most reads of the status for one byte.
const MAX_POLLS: u32 = 100_000;

/// Registers of a console.
#[derive(Clone, Copy)]
pub struct Registers {
    /// Where.
    pub range: Range,
    /// A 16550 with byte registers at distance 1; else a PL011.
    pub is_16550: bool,
}

/// Address of the UART, 0 for none. Only plain loads and stores: exclusives are undefined with the MMU off.
/// In .data, which would not need a page of .bss for it.
#[unsafe(link_section = ".data.console")]
static BASE: AtomicU64 = AtomicU64::new(0);

/// One for a 16550; as [`BASE`].
#[unsafe(link_section = ".data.console")]
static IS_16550: AtomicU64 = AtomicU64::new(0);

/// Sets the UART.
pub fn init(uart: Mmio, is_16550: bool) {
    IS_16550.store(is_16550.into(), Ordering::Relaxed);
    BASE.store(uart.base(), Ordering::Relaxed);
}

fn load8(address: u64) -> u8 {
    let value: u32;
    // SAFETY: as `cpu::load32`: a load changes nothing of ours, and a fault does not return.
    unsafe { asm!("ldrb {v:w}, [{a}]", v = out(reg) value, a = in(reg) address, options(nostack)) };
    value as u8
}

/// Prints; nothing without a UART.
pub fn print(args: fmt::Arguments<'_>) {
    // A `Uart` has no error to return.
    let _ = Uart(BASE.load(Ordering::Relaxed)).write_fmt(args);
}

struct Uart(u64);

impl Uart {
    fn byte(&self, byte: u8) {
        if IS_16550.load(Ordering::Relaxed) != 0 {
            self.byte_16550(byte);
            return;
        }
        for _ in 0..MAX_POLLS {
            if cpu::load32(self.0 + FR) & TXFF == 0 {
                break;
            }
        }
        // SAFETY: a register of the UART: `init` got it as device registers.
        unsafe { cpu::store32(self.0 + DR, byte.into()) };
    }

    fn byte_16550(&self, byte: u8) {
        let _ = (0..MAX_POLLS).find(|_| load8(self.0 + LSR) & THRE != 0);
        let (value, address) = (u32::from(byte), self.0 + THR);
        // SAFETY: a register of the UART: `init` got it as device registers.
        unsafe { asm!("strb {v:w}, [{a}]", v = in(reg) value, a = in(reg) address, options(nostack)) };
    }
}

impl Write for Uart {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0 == 0 {
            return Ok(());
        }
        for byte in text.bytes() {
            if byte == b'\n' {
                self.byte(b'\r');
            }
            self.byte(byte);
        }
        Ok(())
    }
}

/// A check failed; the note says why.
#[derive(Clone, Copy)]
pub struct Failed;

/// Detail of a result: one line of printable text, cut when too long.
pub struct Note {
    text: [u8; 200],
    len: usize,
}

impl Note {
    /// An empty note.
    pub fn new() -> Self {
        Self { text: [0; 200], len: 0 }
    }

    /// Appends to the detail.
    pub fn say(&mut self, args: fmt::Arguments<'_>) {
        // A `Note` cuts what is too long and has no error to return.
        let _ = self.write_fmt(args);
    }

    /// Makes this the reason of a failure.
    pub fn fail<T>(&mut self, args: fmt::Arguments<'_>) -> Result<T, Failed> {
        self.len = 0;
        self.say(args);
        Err(Failed)
    }

    /// The text.
    pub fn text(&self) -> &str {
        self.text.get(..self.len).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or("")
    }
}

impl Write for Note {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if let Some(slot) = self.text.get_mut(self.len) {
                *slot = if byte == b' ' || byte.is_ascii_graphic() { byte } else { b'?' };
                self.len += 1;
            }
        }
        Ok(())
    }
}
