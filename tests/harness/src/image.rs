//! The image file of a run: firmware and bundle, made by the packer of tools/gatehouse-cli.

use crate::Fault;
use crate::artifacts::Artifacts;
use crate::judge::PayloadKind;
use crate::tools::Tools;
use gatehouse::abi::fit::OsKind;
use gatehouse::policy::{Rules, SlotLists};
use gatehouse_cli::elf;
use gatehouse_cli::pack::{Pack, Packed};
use std::fs;
use std::path::Path;

/// Command line of Linux besides the nonce: its console, short timeouts of the disk's driver (a device whose DMA is
/// blocked must not hang for minutes), and an end instead of a hang when it panics.
const LINUX_CMDLINE: &str =
    "console=ttyAMA0 panic=-1 nvme_core.admin_timeout=4 nvme_core.io_timeout=4 nvme_core.multipath=0";

/// Command line of the demo payload besides the nonce: it looks for this word.
const DEMO_CMDLINE: &str = "gatehouse.demo";

/// What goes into the bundle.
#[derive(Clone, Debug)]
pub struct Contents<'a> {
    /// The payload.
    pub payload: PayloadKind,
    /// Slot of the function that must pass.
    pub slot: &'a str,
    /// The run's nonce.
    pub nonce: &'a str,
    /// More words for the command line.
    pub append: &'a str,
}

/// Makes an image.
///
/// # Errors
/// [`Fault::Usage`] when the slot is none, [`Fault::NotPossible`] without a kernel, [`Fault::Run`], [`Fault::File`].
pub fn pack(tools: &Tools, artifacts: &Artifacts, contents: &Contents<'_>) -> Result<Packed, Fault> {
    let read = |path: &Path| fs::read(path).map_err(Fault::file(path));
    let missing = |what: &str| Fault::Run(format!("{what} was not built"));
    let (kernel, ramdisk, os, base) = match contents.payload {
        PayloadKind::Linux => {
            let ramdisk = artifacts.ramdisk.as_deref().ok_or_else(|| missing("the ramdisk"))?;
            (read(tools.need_kernel()?)?, Some(read(ramdisk)?), OsKind::Half, LINUX_CMDLINE)
        }
        PayloadKind::Demo => {
            let file = artifacts.demo.as_deref().ok_or_else(|| missing("the demo payload"))?;
            let flat = elf::flatten(&read(file)?)
                .map_err(|error| Fault::Run(format!("{}: {error}", file.display())))?;
            (flat, None, OsKind::Native, DEMO_CMDLINE)
        }
    };
    let cmdline = format!("{base} gatehouse.nonce={} {}", contents.nonce, contents.append);
    let require = contents
        .slot
        .parse()
        .map_err(|error| Fault::Usage(format!("slot {:?} of the scenario: {error}", contents.slot)))?;
    let rules = Rules::new(SlotLists { require: vec![require], ..SlotLists::default() })
        .map_err(|error| Fault::Usage(format!("slots of the scenario: {error}")))?;
    let pack = Pack {
        firmware: read(&artifacts.firmware)?,
        kernel,
        ramdisk,
        cmdline: cmdline.trim().to_owned(),
        os,
        rules,
    };
    pack.build().map_err(|error| Fault::Run(format!("packing: {error}")))
}
