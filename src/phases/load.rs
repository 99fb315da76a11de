//! Phase 6: the bundle's parts are hashed where they lie, the final tree is built, the shared window is given back.

use super::realm::Realm;
use super::stop::OrStop;
use super::{BootInfo, Stop};
use crate::abi::fit::OsKind;
use crate::addr::IpaRange;
use crate::boot::bundle::{Bundle, Part, VerifiedPart};
use crate::boot::kernel::KernelHeader;
use crate::boot::plan::{Inputs, Plan, PlanError, TreeBuffer};
use crate::codes::StopCode;
use crate::conduit::OutOfMemory;
use crate::fdt::function::{BarNode, FunctionNode};
use crate::fdt::write::{Handoff, PayloadTree, Ramdisk};
use crate::hex::Hex;
use crate::platform::Platform;
use crate::policy::RULE_REQUIRED_SLOT;
use crate::tdi::{HandoffFacts, Link};
use alloc::boxed::Box;
use alloc::vec::Vec;

/// What the jump needs.
#[derive(Debug)]
pub struct Payload {
    /// First instruction: the start of the kernel image.
    pub entry: u64,
    /// The final device tree.
    pub tree: u64,
    /// Everything that the payload reads: kernel with its zeroed part, ramdisk, tree.
    pub reads: Vec<IpaRange>,
}

#[inline(never)]
pub(super) fn run<P: Platform>(
    link: &mut Link<'_, P>,
    realm: &Realm,
    bundle: Bundle<'_>,
    boot: &BootInfo<'_>,
    facts: &HandoffFacts,
) -> Result<Payload, Stop> {
    let os = bundle.os;
    let bundle_address = boot.bundle.map_or(0, |place| place.address);
    let kernel = verify(bundle.kernel, "kernel", bundle_address)?;
    let ramdisk = bundle.ramdisk.map(|part| verify(part, "ramdisk", bundle_address)).transpose()?;
    let cmdline = bundle.cmdline.map(|part| verify(part, "cmdline", bundle_address)).transpose()?;
    let header = KernelHeader::parse(kernel.bytes()).or_stop(StopCode::Kernel)?;
    let plan = Plan::new(&Inputs {
        area: boot.own,
        bundle_offset: bundle_address.saturating_sub(boot.own.base()),
        kernel: kernel.part().into(),
        header,
        ramdisk: ramdisk.as_ref().map(|part| part.part().into()),
    })
    .or_stop(StopCode::Kernel)?;

    let mut rng_seed = [0; 32];
    let mut seeded = true;
    for bytes in rng_seed.chunks_exact_mut(8) {
        match link.platform.random() {
            Some(value) => bytes.copy_from_slice(&value.to_le_bytes()),
            None => seeded = false,
        }
    }
    let function = node(facts);
    let tree = PayloadTree {
        host: &realm.tree,
        machine: &realm.machine,
        num_cpus: 1,
        ram: &realm.machine.ram,
        bootargs: cmdline.as_ref().map_or(&[][..], VerifiedPart::command_line),
        ramdisk: plan.ramdisk().map(|span| Ramdisk { start: span.base(), end: span.end() }),
        rng_seed: seeded.then_some(&rng_seed),
        kaslr_seed: link.platform.random(),
        functions: core::slice::from_ref(&function),
        handoff: Handoff { verdict: "accepted", accepted: 1 },
        os_half: os == OsKind::Half,
        reservations: &[],
    }
    .build()
    .or_stop(StopCode::FinalTree)?;
    // The payload reads it where it is: it stays on the heap for ever.
    let buffer = TreeBuffer::new(&tree).ok_or(OutOfMemory).or_stop(StopCode::Memory)?;
    let bytes = Box::leak(Box::new(buffer)).as_bytes();
    let base = u64::try_from(bytes.as_ptr().expose_provenance()).unwrap_or_default();
    let len = u64::try_from(bytes.len()).unwrap_or_default();
    let tree = plan.place_tree(base, len).or_stop(StopCode::FinalTree)?;
    log::info!("load: device tree {len} bytes at {base:#x}, {} accepted", function.bdf);

    let mut reads = Vec::new();
    for span in [Some(plan.kernel()), plan.ramdisk(), Some(tree)].into_iter().flatten() {
        let range = IpaRange::covering(span.base(), span.len_bytes());
        reads.push(range.map_err(|_| PlanError::Area(boot.own)).or_stop(StopCode::Kernel)?);
    }
    link.rhi.close_window(link.platform, link.rsi)?;
    Ok(Payload { entry: plan.kernel().base(), tree: base, reads })
}

/// Hashes a part where it lies and says so.
fn verify<'a>(part: Part<'a>, name: &str, bundle_address: u64) -> Result<VerifiedPart<'a>, Stop> {
    let part = part.verify().or_stop(StopCode::PartHash)?;
    let offset = part.part().offset().and_then(|offset| u64::try_from(offset).ok()).unwrap_or_default();
    log::info!(
        "load: {name} {} bytes at {:#x}, {} {}",
        part.bytes().len(),
        bundle_address.saturating_add(offset),
        part.part().digest().algorithm(),
        Hex(part.part().digest().as_bytes())
    );
    Ok(part)
}

fn node(facts: &HandoffFacts) -> FunctionNode<'_> {
    let len = facts.hash.digest_len();
    let HandoffFacts { function, digests, nonces, .. } = facts;
    FunctionNode {
        bdf: function.bdf,
        vendor_id: function.vendor,
        device_id: function.device,
        subsystem_vendor_id: function.subsystem_vendor,
        subsystem_id: function.subsystem,
        revision_id: function.revision,
        class_code: function.class,
        bars: facts
            .bars
            .iter()
            .filter_map(|bar| {
                Some(BarNode {
                    index: bar.index,
                    range: bar.range(function.bdf).ok()?,
                    wide: bar.wide,
                    prefetchable: bar.prefetchable,
                })
            })
            .collect(),
        mode: "run",
        vdev_id: facts.vdev,
        rule: RULE_REQUIRED_SLOT,
        msix_pages: facts.msix.clone(),
        nonces: Some([nonces.lock, nonces.measurement, nonces.report]),
        digest_algorithm: facts.hash.name(),
        vca_digest: digests.vca.get(..len).unwrap_or_default(),
        certificate_digest: digests.certificate.get(..len).unwrap_or_default(),
        measurement_digest: digests.measurement.get(..len).unwrap_or_default(),
        report_digest: digests.report.get(..len).unwrap_or_default(),
    }
}
