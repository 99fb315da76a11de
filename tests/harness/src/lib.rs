//! What stands behind scripts/run and scripts/test: builds, packs, boots under QEMU, and judges the run.
//!
//! Three speakers are heard, and not believed alike. The stub RMM (its log file, written by semihosting) says what
//! happened: outcome, counts, states, tables. The realm's console says what the realm claims: it is shown, and
//! compared, and can only make a run worse. The harness itself knows what it packed and what it wrote to the disk.
//! Whatever is missing, cut off or contradictory is a fault of the run, never a success.

pub mod artifacts;
pub mod board;
pub mod checks;
pub mod console;
pub mod counts;
pub mod devices;
pub mod disk;
pub mod expected;
pub mod fault;
pub mod gdb;
pub mod image;
pub mod json;
pub mod judge;
pub mod kernel_format;
pub mod machine;
pub mod no_console;
pub mod qemu;
pub mod recs;
pub mod reference;
pub mod run;
pub mod rundir;
pub mod scenario;
pub mod sizes;
pub mod story;
pub mod streams;
pub mod stublog;
pub mod suite;
pub mod tools;
pub mod topology;
pub mod trace;
pub mod unsafe_sites;
mod verdict;
pub mod verifier;

pub use fault::Fault;
