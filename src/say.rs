//! Lines for the console, through the `log` facade: one call each, without the file and module that the facade's own macros
//! would put into the image with every line.

use core::fmt;
use log::{Level, Record};

/// Hands one line to the logger.
#[inline(never)]
pub(crate) fn line(level: Level, args: fmt::Arguments<'_>) {
    if level <= log::STATIC_MAX_LEVEL && level <= log::max_level() {
        log::logger().log(&Record::builder().level(level).args(args).build());
    }
}

/// Says what happened.
macro_rules! say_info {
    ($($arg:tt)*) => { $crate::say::line(log::Level::Info, format_args!($($arg)*)) };
}

/// Says what a person should look at.
macro_rules! say_warn {
    ($($arg:tt)*) => { $crate::say::line(log::Level::Warn, format_args!($($arg)*)) };
}

/// Says why something is not done.
macro_rules! say_error {
    ($($arg:tt)*) => { $crate::say::line(log::Level::Error, format_args!($($arg)*)) };
}

pub(crate) use {say_error as error, say_info as info, say_warn as warn};
