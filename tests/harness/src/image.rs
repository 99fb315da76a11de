//! The image file of a run: firmware and bundle, made by the packer of tools/gatehouse-cli.

use crate::Fault;
use crate::artifacts::Artifacts;
use crate::judge::PayloadKind;
use crate::tools::Tools;
use crate::topology::Rules;
use gatehouse::abi::fit::OsKind;
use gatehouse::boot::slot::SlotPath;
use gatehouse::policy::{self, SlotLists};
use gatehouse_cli::elf;
use gatehouse_cli::pack::{Pack, Packed};
use std::fs;
use std::path::Path;

/// Command line of Linux besides console and nonce: short timeouts of the disk's driver (a device whose DMA is
/// blocked must not hang for minutes), and an end instead of a hang when it panics.
const LINUX_CMDLINE: &str = "panic=-1 nvme_core.admin_timeout=4 nvme_core.io_timeout=4 nvme_core.multipath=0";

/// Command line of the demo payload besides the nonce: it looks for this word.
const DEMO_CMDLINE: &str = "gatehouse.demo";

/// What goes into the bundle.
#[derive(Clone, Debug)]
pub struct Contents<'a> {
    /// The payload.
    pub payload: PayloadKind,
    /// What the bundle says about slots.
    pub rules: &'a Rules,
    /// The run's nonce.
    pub nonce: &'a str,
    /// Linux's name of the console.
    pub console: &'a str,
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
            let base = format!("console={} {LINUX_CMDLINE}", contents.console);
            (read(tools.need_kernel()?)?, Some(read(ramdisk)?), OsKind::Half, base)
        }
        PayloadKind::Demo => {
            let file = artifacts.demo.as_deref().ok_or_else(|| missing("the demo payload"))?;
            let flat = elf::flatten(&read(file)?)
                .map_err(|error| Fault::Run(format!("{}: {error}", file.display())))?;
            (flat, None, OsKind::Native, DEMO_CMDLINE.to_owned())
        }
    };
    let cmdline = format!("{base} gatehouse.nonce={} {}", contents.nonce, contents.append);
    let Rules { require, optional, shared, quiet_device } = contents.rules;
    let lists = SlotLists {
        require: slots(require)?,
        optional: slots(optional)?,
        shared: slots(shared)?,
        quiet_device: slots(quiet_device)?,
    };
    let rules =
        policy::Rules::new(lists).map_err(|error| Fault::Usage(format!("slots of the scenario: {error}")))?;
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

/// Reads slot paths of a scenario.
fn slots(list: &[String]) -> Result<Vec<SlotPath>, Fault> {
    let read = |slot: &String| {
        slot.parse().map_err(|error| Fault::Usage(format!("slot {slot:?} of the scenario: {error}")))
    };
    list.iter().map(read).collect()
}
