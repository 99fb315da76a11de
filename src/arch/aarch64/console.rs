//! The console: a serial port that the host emulates, behind the `log` facade.
//!
//! Trust: the host drives the status register, so every wait is bounded; what cannot be sent is lost. Each register
//! access may be an exit: the PL011 is asked once per FIFO, not once per byte.

use arm_pl011_uart::{DataBits, LineConfig, PL011Registers, Parity, StopBits, Uart, UniqueMmioPointer};
use core::fmt::{self, Write};
use core::ptr::{self, NonNull};
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
/// Length of the registers in bytes.
pub(super) const REGISTERS_LEN: u64 = size_of::<PL011Registers>() as u64;

static PORT: Once<Port> = Once::new();
static LOCK: Mutex<()> = Mutex::new(());
static LOGGER: Logger = Logger;

/// One open port. Copies write to the same registers; the lock orders them, the panic path does without.
#[derive(Clone, Copy)]
struct Port(usize);

impl Port {
    fn uart(self) -> Uart<'static> {
        let registers = ptr::with_exposed_provenance_mut::<PL011Registers>(self.0);
        let registers = NonNull::new(registers).expect("a mapped window is not at address 0");
        // SAFETY: mapped for good and given up to the console (`open`); one `Uart` lives at a time: under `LOCK`, or
        // on the panic path, after which nothing else runs.
        Uart::new(unsafe { UniqueMmioPointer::new(registers) })
    }

    fn send(self, bytes: &[u8]) {
        let mut uart = self.uart();
        for chunk in bytes.chunks(PL011_FIFO) {
            let _ = (0..POLLS).find(|_| uart.is_tx_fifo_empty());
            chunk.iter().for_each(|byte| uart.write_word(*byte));
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

/// Opens the PL011 at `address` and installs the logger; a second call changes nothing.
///
/// # Safety
/// The registers are mapped at `address` as device memory for good, and nothing else uses them.
pub(super) unsafe fn open(address: usize) {
    PORT.call_once(|| {
        let port = Port(address);
        let config =
            LineConfig { data_bits: DataBits::Bits8, parity: Parity::None, stop_bits: StopBits::One };
        // Cannot fail: the divisor of two constants is in range.
        let _ = port.uart().enable(config, BAUD, CLOCK);
        port
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
        let uart = port.uart();
        let _ = (0..POLLS).find(|_| !uart.is_busy());
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
