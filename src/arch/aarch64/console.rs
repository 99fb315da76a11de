//! The console: a serial port that the host emulates, behind the `log` facade. Without one everything here does nothing.
//!
//! Trust: the host drives the status register, so every wait is bounded; what cannot be sent is lost. Each register
//! access may be an exit: the port is asked once per queue, not once per byte.

use super::mmio;
use crate::arch::ns16550::{Ns16550, Registers};
use crate::fdt::read::ConsoleKind;
use crate::platform::AccessSize;
use arm_pl011_uart::{DataBits, LineConfig, PL011Registers, Parity, StopBits, Uart, UniqueMmioPointer};
use core::fmt::{self, Write};
use core::num::NonZeroUsize;
use core::ptr::NonNull;
use log::{LevelFilter, Log, Metadata, Record};
use spin::{Mutex, Once};

/// Reads of the status register before bytes are sent (and perhaps lost) without waiting any longer.
const POLLS: usize = 1000;
/// Bytes that fit an empty PL011 FIFO in every revision.
const PL011_FIFO: usize = 16;
/// Line setting of the PL011; an emulated port ignores it.
const BAUD: u32 = 115_200;
/// Assumed clock of the PL011 in Hz, for the same reason.
const CLOCK: u32 = 24_000_000;
/// The last register of a 16550 that is used.
const NS16550_LAST: u64 = 5;

static PORT: Once<Port> = Once::new();
static LOCK: Mutex<()> = Mutex::new(());
static LOGGER: Logger = Logger;

/// Returns the length of the registers in bytes, as far as they are used, and their alignment.
pub(super) fn registers(kind: ConsoleKind) -> (u64, u64) {
    match kind {
        ConsoleKind::Pl011 => (size_of::<PL011Registers>() as u64, 4096),
        ConsoleKind::Ns16550 { reg_shift, io_width } => {
            ((NS16550_LAST << reg_shift) + u64::from(io_width), io_width.into())
        }
    }
}

/// One open port. Copies write to the same registers; the lock orders them, the panic path does without.
#[derive(Clone, Copy)]
enum Port {
    Pl011(NonZeroUsize),
    /// Registers and how many bytes the queue takes.
    Ns16550(Spaced, usize),
}

/// Registers of a 16550: number n at `address + (n << shift)`.
#[derive(Clone, Copy)]
struct Spaced {
    address: u64,
    shift: u8,
    size: AccessSize,
}

impl Registers for Spaced {
    fn read(&mut self, register: u8) -> u8 {
        // SAFETY: a register inside the window that `open` got for good (`registers` says how much of it is used),
        // aligned to the access. What is wider than a byte has the register in its low byte.
        unsafe { mmio::read(self.address + (u64::from(register) << self.shift), self.size) as u8 }
    }

    fn write(&mut self, register: u8, value: u8) {
        // SAFETY: as in `read`.
        unsafe { mmio::write(self.address + (u64::from(register) << self.shift), self.size, value.into()) };
    }
}

fn pl011(address: NonZeroUsize) -> Uart<'static> {
    let registers = NonNull::<PL011Registers>::with_exposed_provenance(address);
    // SAFETY: mapped for good and given up to the console (`open`); one `Uart` lives at a time: under `LOCK`, or
    // on the panic path, after which nothing else runs.
    Uart::new(unsafe { UniqueMmioPointer::new(registers) })
}

impl Port {
    fn send(self, bytes: &[u8]) {
        match self {
            Self::Pl011(address) => {
                let mut uart = pl011(address);
                for chunk in bytes.chunks(PL011_FIFO) {
                    let _ = (0..POLLS).find(|_| uart.is_tx_fifo_empty());
                    chunk.iter().for_each(|byte| uart.write_word(*byte));
                }
            }
            Self::Ns16550(registers, queue) => Ns16550::opened(registers, queue).send(bytes),
        }
    }

    fn drain(self) {
        match self {
            Self::Pl011(address) => {
                let uart = pl011(address);
                let _ = (0..POLLS).find(|_| !uart.is_busy());
            }
            Self::Ns16550(registers, queue) => Ns16550::opened(registers, queue).drain(),
        }
    }
}

/// Gathers one line, so that a formatted message goes out in full FIFOs; longer ones go out in pieces.
struct Line {
    port: Port,
    buffer: [u8; 128],
    len: usize,
}

impl Line {
    fn new(port: Port) -> Self {
        Self { port, buffer: [0; 128], len: 0 }
    }

    fn flush(&mut self) {
        self.port.send(&self.buffer[..self.len]);
        self.len = 0;
    }
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if self.len + 2 > self.buffer.len() {
                self.flush();
            }
            if byte == b'\n' {
                self.buffer[self.len] = b'\r';
                self.len += 1;
            }
            self.buffer[self.len] = byte;
            self.len += 1;
        }
        Ok(())
    }
}

struct Logger;

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        print(format_args!("{} {}\n", record.level(), record.args()));
    }

    fn flush(&self) {}
}

/// Opens the UART at `address` and installs the logger; a second call changes nothing.
///
/// # Safety
/// The registers ([`registers`]) are mapped at `address` as device memory for good, aligned, and nothing else uses them.
pub(super) unsafe fn open(kind: ConsoleKind, address: NonZeroUsize) {
    PORT.call_once(|| match kind {
        ConsoleKind::Pl011 => {
            let config =
                LineConfig { data_bits: DataBits::Bits8, parity: Parity::None, stop_bits: StopBits::One };
            // Cannot fail: the divisor of two constants is in range.
            let _ = pl011(address).enable(config, BAUD, CLOCK);
            Port::Pl011(address)
        }
        ConsoleKind::Ns16550 { reg_shift: shift, io_width } => {
            let size = match io_width {
                1 => AccessSize::Byte,
                2 => AccessSize::Half,
                _ => AccessSize::Word,
            };
            let registers = Spaced { address: address.get() as u64, shift, size };
            Port::Ns16550(registers, Ns16550::open(registers).queue())
        }
    });
    if log::set_logger(&LOGGER).is_ok() {
        log::set_max_level(LevelFilter::Trace);
    }
}

/// Prints on the console, when there is one.
pub fn print(args: fmt::Arguments<'_>) {
    let _guard = LOCK.lock();
    print_unlocked(args);
}

/// Waits, within bounds, until the last byte has left the port.
pub(super) fn drain() {
    if let Some(port) = PORT.get() {
        port.drain();
    }
}

/// As [`print`], without the lock: for panics and exceptions, after which nothing else runs.
pub(super) fn print_unlocked(args: fmt::Arguments<'_>) {
    if let Some(port) = PORT.get() {
        let mut line = Line::new(*port);
        // Cannot fail: `Line` never does, and a failing Display only cuts the message.
        let _ = line.write_fmt(args);
        line.flush();
    }
}
