//! `scripts/run --gdb`: QEMU waits for a debugger before its first instruction.

use crate::artifacts::Artifacts;
use std::time::Duration;

/// How long a run with a debugger may take: a person sits in front of it.
pub const NO_LIMIT: Duration = Duration::from_secs(365 * 24 * 3600);

/// Returns the command for a gdb that knows AArch64: symbols of the stub at the addresses that it is linked for, those
/// of the firmware moved to where the image lies (it is linked at 0, and runs at IPA = VA), a stop at its first
/// instruction and one at its first Rust.
///
/// `image`: load address. A hardware breakpoint, because the stub may still move the image.
#[must_use]
pub fn command(artifacts: &Artifacts, image: u64, port: u16) -> String {
    let (firmware, stub) = (artifacts.firmware.display(), artifacts.stub.display());
    let steps = [
        "set architecture aarch64".to_owned(),
        format!("file {stub}"),
        format!("add-symbol-file {firmware} -o {image:#x}"),
        format!("target remote 127.0.0.1:{port}"),
        format!("hbreak *{image:#x}"),
        "hbreak gatehouse_main".to_owned(),
        "continue".to_owned(),
    ];
    let steps: Vec<String> = steps.iter().map(|step| format!(" \\\n    -ex '{step}'")).collect();
    format!("gdb-multiarch{}", steps.concat())
}
