//! The log file of a run: one JSON object a line, in a buffer that is written out when large and at the end.
//!
//! It leaves by semihosting, never through the realm's UART, so that nothing in the realm can forge a line.

use crate::cpu;
use crate::semihost::{self, File};
use alloc::{ffi::CString, vec::Vec};
use spin::Mutex;

/// Name of the log when the command line gives none.
const DEFAULT_NAME: &str = "stub-log.jsonl";
/// Buffered bytes that start a write.
const FLUSH_AT: usize = 256 * 1024;

/// Buffered lines get out this often while lines come, for a harness that ends QEMU after its time.
const FLUSHES_A_SECOND: u64 = 20;
/// Most bytes of the file. A realm that loops through a fault or a call would fill the disk otherwise.
const MOST: usize = 64 * 1024 * 1024;

struct Log {
    file: Option<File>,
    buffer: Vec<u8>,
    written: usize,
    /// Write each line at once (option `log-sync=1`): for a realm that hangs and is killed.
    sync: bool,
    /// Counter at the last write.
    last: u64,
}

static LOG: Mutex<Log> = Mutex::new(Log { file: None, buffer: Vec::new(), written: 0, sync: false, last: 0 });

/// Returns the value of `key=value` on QEMU's semihosting command line.
pub fn option<'a>(command_line: &'a str, key: &str) -> Option<&'a str> {
    command_line.split_ascii_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

/// Opens the file (option `log`); a file that cannot be created is a panic.
pub fn open(command_line: &str) {
    let name = option(command_line, "log").unwrap_or(DEFAULT_NAME);
    let file = CString::new(name).ok().and_then(|name| File::create(&name));
    assert!(file.is_some(), "cannot create {name}");
    let mut log = LOG.lock();
    log.buffer.reserve(FLUSH_AT + FLUSH_AT / 4);
    log.file = file;
    log.sync = option(command_line, "log-sync").is_some_and(|value| value != "0");
}

/// Adds one line.
pub fn line(json: &[u8]) {
    let mut log = LOG.lock();
    log.buffer.extend_from_slice(json);
    log.buffer.push(b'\n');
    let late = cpu::ticks().saturating_sub(log.last) > cpu::counter_hz() / FLUSHES_A_SECOND;
    if log.sync || late || log.buffer.len() >= FLUSH_AT {
        write_out(&mut log);
    }
    let full = log.written > MOST;
    drop(log);
    assert!(!full, "the log is full: the realm seems to repeat the same call or fault for ever");
}

/// Adds one line from a value that serde_json can write.
pub fn value(value: &serde_json::Value) {
    line(serde_json::to_string(value).unwrap_or_default().as_bytes());
}

/// Adds the last line of a stub that gives up, without waiting for a lock that may be held.
pub fn panic_line(json: &[u8]) {
    if let Some(mut log) = LOG.try_lock() {
        log.buffer.extend_from_slice(json);
        log.buffer.push(b'\n');
        write_out(&mut log);
    }
}

/// Writes the buffer out.
pub fn flush() {
    // The lock can be held only when a panic came from inside this module: then what is buffered is lost.
    if let Some(mut log) = LOG.try_lock() {
        write_out(&mut log);
    }
}

fn write_out(log: &mut Log) {
    if let Some(file) = &log.file {
        if !file.write(&log.buffer) {
            semihost::stderr("stub-rmm: the log file cannot be written\n");
        }
        log.written += log.buffer.len();
        log.buffer.clear();
        log.last = cpu::ticks();
    }
}
