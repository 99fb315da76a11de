//! What the firmware logs, per test: each runs on its own thread.
use log::{LevelFilter, Log, Metadata, Record};
use std::cell::RefCell;
use std::sync::Once;

thread_local! {
    static LINES: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

struct Capture;

impl Log for Capture {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        super::heap::outside(|| LINES.with_borrow_mut(|lines| lines.push(record.args().to_string())));
    }

    fn flush(&self) {}
}

/// Begins to collect on this thread.
pub fn start() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Capture).unwrap();
        log::set_max_level(LevelFilter::Info);
    });
    LINES.take();
}

/// Returns what this thread's run has logged.
pub fn take() -> Vec<String> {
    LINES.take()
}
