//! The sending half of a 16550A UART (National Semiconductor PC16550D; Linux binding serial/8250.yaml).
//!
//! Trust: the host emulates it, so every wait is bounded; what cannot be sent is lost. Each access may be an exit: the
//! line status is asked once per queue, not once per byte. Registers are reached through a trait, so that this is
//! tested on the developer's machine.

/// Reads of the line status before bytes are sent (and perhaps lost) without waiting any longer.
const POLLS: usize = 1000;
/// Bytes of the transmit queue, when it is on.
const QUEUE: usize = 16;

/// Transmit holding register, writes.
const THR: u8 = 0;
/// Interrupt enable.
const IER: u8 = 1;
/// Interrupt identification, reads; bits 7:6 set: the queues are on.
const IIR: u8 = 2;
const IIR_QUEUES: u8 = 0xc0;
/// Queue control, writes; bit 0 turns the queues on.
const FCR: u8 = 2;
const FCR_ENABLE: u8 = 1;
/// Line control: 8 data bits, no parity, 1 stop bit, no access to the divisor.
const LCR: u8 = 3;
const LCR_8N1: u8 = 0b11;
/// Modem control: data terminal ready, request to send.
const MCR: u8 = 4;
const MCR_READY: u8 = 0b11;
/// Line status: the transmit queue is empty; so is the transmitter.
const LSR: u8 = 5;
const LSR_QUEUE_EMPTY: u8 = 1 << 5;
const LSR_IDLE: u8 = 1 << 6;

/// The registers of one UART, by number (0 to 5).
pub trait Registers {
    /// Reads a register.
    fn read(&mut self, register: u8) -> u8;
    /// Writes a register.
    fn write(&mut self, register: u8, value: u8);
}

/// A UART that is only written to.
#[derive(Debug)]
pub struct Ns16550<R> {
    registers: R,
    /// Bytes that fit the empty queue.
    queue: usize,
}

impl<R: Registers> Ns16550<R> {
    /// Sets the port up: no interrupts, 8N1, queues on. The divisor stays: an emulated port ignores it, and a host
    /// that forwards to a real one has set it.
    pub fn open(mut registers: R) -> Self {
        registers.write(LCR, LCR_8N1);
        registers.write(IER, 0);
        registers.write(FCR, FCR_ENABLE);
        registers.write(MCR, MCR_READY);
        let has_queue = registers.read(IIR) & IIR_QUEUES == IIR_QUEUES;
        Self { registers, queue: if has_queue { QUEUE } else { 1 } }
    }

    /// Takes a port that [`Self::open`] has set up, whose queue takes `queue` bytes.
    pub fn opened(registers: R, queue: usize) -> Self {
        Self { registers, queue: queue.max(1) }
    }

    /// Returns how many bytes the empty queue takes: 16, or 1 without queue.
    #[must_use]
    pub fn queue(&self) -> usize {
        self.queue
    }

    /// Sends, waiting within bounds.
    pub fn send(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(self.queue) {
            self.wait(LSR_QUEUE_EMPTY);
            chunk.iter().for_each(|byte| self.registers.write(THR, *byte));
        }
    }

    /// Waits, within bounds, until the last byte has left.
    pub fn drain(&mut self) {
        self.wait(LSR_IDLE);
    }

    fn wait(&mut self, bit: u8) {
        let _ = (0..POLLS).find(|_| self.registers.read(LSR) & bit != 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    /// A port whose queue of `room` bytes needs `busy` reads of the line status to empty.
    #[derive(Default)]
    struct Port {
        room: usize,
        busy: usize,
        waits: usize,
        reads: usize,
        queued: usize,
        lost: usize,
        sent: Vec<u8>,
        control: [u8; 5],
    }

    impl Registers for Port {
        fn read(&mut self, register: u8) -> u8 {
            match register {
                IIR => {
                    if self.control[2] & 1 != 0 && self.room > 1 {
                        0xc1
                    } else {
                        0x01
                    }
                }
                LSR => {
                    self.reads += 1;
                    if self.queued > 0 && self.waits < self.busy {
                        self.waits += 1;
                        return 0;
                    }
                    (self.waits, self.queued) = (0, 0);
                    LSR_QUEUE_EMPTY | LSR_IDLE
                }
                other => panic!("register {other} is not read"),
            }
        }

        fn write(&mut self, register: u8, value: u8) {
            if register != THR {
                self.control[usize::from(register)] = value;
            } else if self.queued < self.room {
                self.queued += 1;
                self.sent.push(value);
            } else {
                self.lost += 1;
            }
        }
    }

    fn port(room: usize, busy: usize) -> Ns16550<Port> {
        Ns16550::open(Port { room, busy, ..Port::default() })
    }

    #[test]
    fn a_port_is_set_up_without_interrupts_and_without_its_divisor() {
        let uart = port(16, 0);
        assert_eq!(uart.registers.control, [0, 0, 1, 3, 3]);
        assert_eq!(uart.queue(), 16);
    }

    #[test]
    fn the_line_status_is_asked_once_for_each_queue() {
        let text: Vec<u8> = (0..40).collect();
        let mut uart = port(16, 0);
        uart.send(&text);
        assert_eq!((&uart.registers.sent, uart.registers.lost, uart.registers.reads), (&text, 0, 3));
    }

    #[test]
    fn a_slow_port_loses_nothing() {
        let text: Vec<u8> = (0..100).collect();
        for room in [1, 16] {
            let mut uart = port(room, POLLS - 1);
            uart.send(&text);
            assert_eq!((&uart.registers.sent, uart.registers.lost), (&text, 0), "{room}");
        }
    }

    #[test]
    fn a_port_that_is_never_ready_ends_every_wait() {
        let mut uart = port(16, usize::MAX);
        uart.send(&[b'x'; 33]);
        uart.drain();
        assert_eq!((uart.registers.sent.len(), uart.registers.lost), (16, 17));
        assert_eq!(uart.registers.reads, 1 + 3 * POLLS);
    }
}
