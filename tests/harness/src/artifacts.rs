//! Everything that is built before a run: firmware, stub RMM, demo payload, ramdisk.

use crate::Fault;
use crate::judge::PayloadKind;
use crate::tools::Tools;
use rmm_model::digest::to_hex;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Flags of the compiler for the bare-metal programs, besides those of .cargo/config.toml.
const RUSTFLAGS: &str = "CARGO_TARGET_AARCH64_UNKNOWN_NONE_RUSTFLAGS";
/// Makes a firmware that its command line can break.
const BREAKABLE: &str = "--cfg gatehouse_fault";

/// Files that a run is made of.
#[derive(Clone, Debug)]
pub struct Artifacts {
    /// The firmware, as ELF.
    pub firmware: PathBuf,
    /// The stub RMM, as ELF.
    pub stub: PathBuf,
    /// The demo payload, as ELF.
    pub demo: Option<PathBuf>,
    /// The ramdisk of the Linux payload.
    pub ramdisk: Option<PathBuf>,
}

impl Artifacts {
    /// Builds what the payloads need. `quiet`: only errors are shown.
    ///
    /// # Errors
    /// [`Fault::Run`] when a build fails.
    pub fn build(tools: &Tools, payloads: &[PayloadKind], quiet: bool) -> Result<Artifacts, Fault> {
        // The firmware's flags are not those of the others: in one folder each would make cargo build the other's
        // dependencies anew.
        let build = |alias: &str, what: &str, file: &str| {
            let folder = if alias == "build-fw" { "firmware" } else { "guests" };
            Ok(cargo(tools, alias, what, folder, "", quiet)?.join(file))
        };
        let firmware = build("build-fw", "the firmware", "gatehouse-fw")?;
        let stub = build("build-stub", "the stub RMM", "stub-rmm")?;
        let mut artifacts = Artifacts { firmware, stub, demo: None, ramdisk: None };
        if payloads.contains(&PayloadKind::Demo) {
            artifacts.demo = Some(build("build-payload", "the demo payload", "payload")?);
        }
        if payloads.contains(&PayloadKind::Linux) {
            artifacts.ramdisk = Some(ramdisk(tools, quiet)?);
        }
        Ok(artifacts)
    }

    /// The same with a firmware that its command line can break (src/arch/aarch64/fault.rs), which is built here.
    ///
    /// # Errors
    /// [`Fault::Run`] when it does not build.
    pub fn breakable(&self, tools: &Tools) -> Result<Artifacts, Fault> {
        let folder =
            cargo(tools, "build-fw", "the firmware that can be broken", "breakable", BREAKABLE, true)?;
        Ok(Artifacts { firmware: folder.join("gatehouse-fw"), ..self.clone() })
    }
}

/// Builds into a folder of its own with more flags for the compiler, and returns where the programs are.
fn cargo(
    tools: &Tools,
    alias: &str,
    what: &str,
    folder: &str,
    flags: &str,
    quiet: bool,
) -> Result<PathBuf, Fault> {
    let target = tools.cargo_target.join(folder);
    say(quiet, &format!("building {what}"));
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo tells the programs that it runs is about this program.
    for (name, _) in std::env::vars_os() {
        let is_ours = name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_"));
        if is_ours || name == "CARGO_MANIFEST_DIR" || name == "CARGO_MANIFEST_PATH" {
            cargo.env_remove(name);
        }
    }
    if !flags.is_empty() {
        // Cargo joins them with those of .cargo/config.toml.
        let set = std::env::var(RUSTFLAGS).unwrap_or_default();
        cargo.env(RUSTFLAGS, format!("{set} {flags}").trim());
    }
    cargo.arg(alias).arg("--target-dir").arg(&target).current_dir(&tools.root);
    if quiet {
        cargo.arg("--quiet");
    }
    succeed(&mut cargo, &format!("cargo {alias}"))?;
    Ok(target.join("aarch64-unknown-none/release"))
}

/// Builds the ramdisk, unless the one that is there was made of the same files for the same kernel.
fn ramdisk(tools: &Tools, quiet: bool) -> Result<PathBuf, Fault> {
    let target = tools.root.join("target");
    let (out, stamp) = (target.join("ramdisk.cpio.gz"), target.join("ramdisk.inputs"));
    let mut hash = Sha256::new();
    hash.update(&tools.kernel_version);
    hash.update(tools.kernel.as_deref().unwrap_or(Path::new("")).as_os_str().as_encoded_bytes());
    for file in files(&tools.root.join("contrib/linux"))? {
        hash.update(file.as_os_str().as_encoded_bytes());
        hash.update(fs::read(&file).map_err(Fault::file(&file))?);
    }
    let inputs = to_hex(&hash.finalize());
    if out.exists() && fs::read_to_string(&stamp).is_ok_and(|made_of| made_of == inputs) {
        return Ok(out);
    }
    say(quiet, "building the ramdisk and the module");
    let _ = fs::remove_file(&stamp);
    let mut script = Command::new(tools.root.join("contrib/linux/build-ramdisk"));
    script.arg(&out);
    if quiet {
        script.stderr(Stdio::null());
    }
    succeed(&mut script, "contrib/linux/build-ramdisk")?;
    fs::write(&stamp, inputs).map_err(Fault::file(&stamp))?;
    Ok(out)
}

/// Lists all files below a folder, sorted.
fn files(folder: &Path) -> Result<Vec<PathBuf>, Fault> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(Fault::file(folder))? {
        let path = entry.map_err(Fault::file(folder))?.path();
        if path.is_dir() { found.extend(files(&path)?) } else { found.push(path) }
    }
    found.sort();
    Ok(found)
}

fn succeed(command: &mut Command, what: &str) -> Result<(), Fault> {
    let status = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .status()
        .map_err(|error| Fault::Run(format!("{what}: {error}")))?;
    if status.success() { Ok(()) } else { Err(Fault::Run(format!("{what} failed: {status}"))) }
}

/// Tells on standard error what takes time.
pub fn say(quiet: bool, text: &str) {
    if !quiet {
        eprintln!("run: {text}");
    }
}
