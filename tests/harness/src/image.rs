//! The image file of a run: firmware and bundle, made by the packer of tools/gatehouse-cli.

use crate::Fault;
use crate::artifacts::Artifacts;
use crate::judge::PayloadKind;
use crate::kernel_format::KernelFormat;
use crate::tools::Tools;
use gatehouse::abi::fit::OsKind;
use gatehouse::boot::bundle::Part;
use gatehouse::policy::cbor;
use gatehouse_cli::attach::Attach;
use gatehouse_cli::elf;
use gatehouse_cli::inspect::Image;
use gatehouse_cli::pack::{Pack, Packed};
use gatehouse_cli::policy::toml;
use rmm_model::Scenario;
use rmm_model::scenario::BundleBeside;
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
    /// What it is packed as.
    pub format: KernelFormat,
    /// Has the policy, and what else the bundle must say.
    pub scenario: &'a Scenario,
    /// Folder that paths in the policy are relative to.
    pub folder: &'a Path,
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
/// [`Fault::Usage`] when the policy is none, [`Fault::NotPossible`] without a kernel, [`Fault::Run`], [`Fault::File`].
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
    let Contents { scenario, folder, .. } = *contents;
    let cmdline =
        format!("{base} gatehouse.nonce={} {} {}", contents.nonce, contents.append, scenario.bundle.cmdline);
    let pack = Pack {
        svn: 0,
        firmware: read(&artifacts.firmware)?,
        kernel: contents.format.make(kernel)?,
        ramdisk,
        cmdline: cmdline.split_whitespace().collect::<Vec<_>>().join(" "),
        os: os_kind(&scenario.bundle.os, os)?,
        policy: policy(scenario, folder)?,
        overlay: None,
    };
    pack.build().map_err(|error| Fault::Run(format!("packing: {error}")))
}

/// The same contents as an image that pins its bundle, and the bundle as a VMM loads it.
#[derive(Clone, Debug)]
pub struct Beside {
    /// The image file.
    pub image_bytes: Vec<u8>,
    /// Memory that it reserves.
    pub image_size: u64,
    /// The bundle.
    pub bundle: Vec<u8>,
    /// The initrd range that the tree names, if it does: first address and length.
    pub initrd: Option<(u64, u64)>,
}

impl Beside {
    /// Takes an image apart.
    ///
    /// # Errors
    /// [`Fault::Usage`] for a range or a byte that cannot be, [`Fault::Run`], [`Fault::File`].
    pub fn new(artifacts: &Artifacts, packed: &Packed, spec: &BundleBeside) -> Result<Beside, Fault> {
        let failed = |error| Fault::Run(format!("packing: {error}"));
        let pack = unpack(artifacts, &packed.image_bytes)?;
        let mut bundle = pack.bundle().map_err(failed)?;
        let attach = Attach { firmware: pack.firmware, bundle: bundle.clone(), pinned: true };
        let attached = attach.build().map_err(failed)?;
        let usage = || Fault::Usage(format!("vmm.bundle: {spec:?}"));
        if let Some(at) = spec.flip_byte {
            let byte = usize::try_from(at).ok().and_then(|at| bundle.get_mut(at));
            *byte.ok_or_else(usage)? ^= 0xff;
        }
        let base = spec.address.checked_add_signed(spec.shift).ok_or_else(usage)?;
        let len = attached.bundle_len.checked_sub(spec.short).ok_or_else(usage)?;
        base.checked_add(len).ok_or_else(usage)?;
        let initrd = (!spec.unnamed).then_some((base, len));
        Ok(Beside { image_bytes: attached.image_bytes, image_size: attached.image_size, bundle, initrd })
    }
}

/// Returns what an image was packed of: its bundle's parts, and the firmware that was built.
///
/// # Errors
/// [`Fault::Run`] when it is no image with a good bundle, [`Fault::File`].
pub fn unpack(artifacts: &Artifacts, image: &[u8]) -> Result<Pack, Fault> {
    let bundle = Image::read(image).map_err(|error| Fault::Run(format!("image: {error}")))?.bundle;
    let bytes = |part: &Part<'_>| match part.clone().verify() {
        Ok(part) => Ok(part.bytes().to_vec()),
        Err(error) => Err(Fault::Run(format!("image: {error}"))),
    };
    let mut cmdline = bundle.cmdline.as_ref().map(bytes).transpose()?.unwrap_or_default();
    cmdline.pop_if(|last| *last == 0);
    Ok(Pack {
        svn: bundle.svn,
        firmware: fs::read(&artifacts.firmware).map_err(Fault::file(&artifacts.firmware))?,
        kernel: bytes(&bundle.kernel)?,
        ramdisk: bundle.ramdisk.as_ref().map(bytes).transpose()?,
        cmdline: String::from_utf8(cmdline).map_err(|error| Fault::Run(format!("command line: {error}")))?,
        os: bundle.os,
        policy: bundle.policy.as_ref().map(bytes).transpose()?,
        overlay: bundle.overlay.as_ref().map(bytes).transpose()?,
    })
}

/// Reads the word of a scenario; an empty one is the payload's own.
fn os_kind(word: &str, own: OsKind) -> Result<OsKind, Fault> {
    match word {
        "" => Ok(own),
        "half" => Ok(OsKind::Half),
        "native" => Ok(OsKind::Native),
        "unaware" => Ok(OsKind::Unaware),
        _ => Err(Fault::Usage(format!("bundle.os = {word:?}: not half, native or unaware"))),
    }
}

/// Makes the policy as the bundle carries it; none where the scenario wants none.
///
/// # Errors
/// [`Fault::Usage`] with the place in the text, which follows.
pub fn policy(scenario: &Scenario, folder: &Path) -> Result<Option<Vec<u8>>, Fault> {
    let Some(text) = scenario.policy_toml() else { return Ok(None) };
    match toml::parse(&text, folder) {
        Ok(policy) => Ok(Some(cbor::encode(&policy))),
        Err(error) => Err(Fault::Usage(format!("policy of scenario {}: {error}\n{text}", scenario.name))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_word_of_the_scenario_goes_before_that_of_the_payload() {
        assert_eq!(os_kind("", OsKind::Half).unwrap(), OsKind::Half);
        assert_eq!(os_kind("unaware", OsKind::Half).unwrap(), OsKind::Unaware);
        assert_eq!(os_kind("native", OsKind::Half).unwrap(), OsKind::Native);
        assert!(matches!(os_kind("linux", OsKind::Half), Err(Fault::Usage(_))));
    }

    #[test]
    fn every_scenario_of_the_repository_has_a_policy_that_can_be_packed() {
        for (path, scenario) in crate::scenario::tests::all() {
            let packed = policy(&scenario, path.parent().unwrap());
            assert!(packed.is_ok(), "{}", packed.unwrap_err());
            assert_eq!(packed.unwrap().is_none(), scenario.bundle.no_policy);
        }
    }
}
