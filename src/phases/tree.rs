//! The final tree: what phase 7 tells the payload of machine and devices.

use super::Stop;
use super::attest::Pinned;
use super::emulated::Emulated;
use super::inventory::Inventory;
use super::load::Loaded;
use super::measure::{Measured, Regions};
use super::negotiate::BundlePolicy;
use super::realm::Realm;
use super::stop::OrStop;
use crate::abi::fit::OsKind;
use crate::addr::IpaRange;
use crate::boot::bundle::VerifiedPart;
use crate::boot::plan::{PlanError, Span, TreeBuffer};
use crate::codes::StopCode;
use crate::conduit::OutOfMemory;
use crate::fdt::bridge::BridgeNode;
use crate::fdt::function::{AcceptedNode, BarNode, FunctionNode, Mode, PinNode};
use crate::fdt::write::{Handoff, PayloadTree, Ramdisk};
use crate::pcie::{Bar, Bars, Bridge, BridgeWindows, Function};
use crate::platform::Platform;
use crate::tdi::{Fleet, HandoffFacts, Run};
use alloc::boxed::Box;
use alloc::string::String;
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

/// A function in mode `shared` that decodes at its addresses.
#[derive(Debug)]
pub(super) struct Open {
    pub(super) function: Function,
    pub(super) bars: Bars,
    pub(super) rule: String,
}

/// The functions that the payload is shown, and the policy that says so.
pub(super) struct Shown<'a> {
    pub(super) run: &'a Fleet<Run>,
    pub(super) pinned: &'a [Pinned],
    pub(super) shared: &'a [Open],
    pub(super) emulated: &'a Emulated<'a>,
    pub(super) policy: Option<&'a BundlePolicy>,
}

/// Builds the tree that names the functions shown, and leaves it on the heap for the payload.
#[inline(never)]
pub(super) fn build<P: Platform>(
    platform: &mut P,
    realm: &Realm,
    inventory: &Inventory,
    shown: &Shown<'_>,
    loaded: &Loaded<'_>,
    measured: &mut Measured,
) -> Result<Payload, Stop> {
    let plan = &loaded.plan;
    let mut rng_seed = [0; 32];
    let mut seeded = true;
    for bytes in rng_seed.chunks_exact_mut(8) {
        match platform.random() {
            Some(value) => bytes.copy_from_slice(&value.to_le_bytes()),
            None => seeded = false,
        }
    }
    let bridges: Vec<_> =
        inventory.topology.bridges.iter().zip(&inventory.windows).map(bridge_node).collect();
    let Shown { run, pinned, shared, emulated, policy } = *shown;
    let nodes = run.iter().map(|member| run_node(&member.tdi.facts(), &member.rule));
    let nodes = nodes.chain(pinned.iter().map(pin_node)).chain(shared.iter().map(shared_node));
    let functions: Vec<_> = nodes.collect();
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    let mut regions = measured.regions()?;
    let kaslr_seed = platform.random();
    let mut tree = PayloadTree {
        host: &realm.tree,
        machine: &realm.machine,
        num_cpus: 1,
        ram: &realm.machine.ram,
        regions: &regions.nodes(),
        bootargs: loaded.cmdline.as_ref().map_or(&[][..], VerifiedPart::command_line),
        ramdisk: plan.ramdisk().map(|span| Ramdisk { start: span.base(), end: span.end() }),
        // The measured form has zeros for the seeds.
        rng_seed: seeded.then_some(&[0; 32]),
        kaslr_seed: kaslr_seed.map(|_| 0),
        bridges: &bridges,
        functions: &functions,
        emulated: &policy.map(|policy| emulated.nodes(&policy.policy)).unwrap_or_default(),
        handoff: Handoff {
            verdict: "accepted",
            accepted: count(run.len()),
            pinned: count(pinned.len()),
            shared: count(shared.len()),
            policy: policy.map(|policy| (policy.id, policy.policy.svn)),
        },
        os_half: loaded.os == OsKind::Half,
    };
    let measured_form = finish(&tree, loaded)?;
    tree.rng_seed = seeded.then_some(&rng_seed);
    tree.kaslr_seed = kaslr_seed;
    let tree = finish(&tree, loaded)?;
    measured.finish(platform, &realm.rsi, &measured_form, &mut regions)?;
    drop(measured_form);
    // The payload reads it where it is: it stays on the heap for ever.
    let buffer = TreeBuffer::new(&tree).ok_or(OutOfMemory).or_stop(StopCode::Memory)?;
    let bytes = Box::leak(Box::new(buffer)).as_bytes();
    let base = u64::try_from(bytes.as_ptr().expose_provenance()).unwrap_or_default();
    let len = u64::try_from(bytes.len()).unwrap_or_default();
    let tree = plan.place_tree(base, len).or_stop(StopCode::FinalTree)?;
    crate::say::info!(
        "tree: {len} bytes at {base:#x}, {} run, {} pinned, {} shared",
        run.len(),
        pinned.len(),
        shared.len()
    );
    let mut reads = Vec::new();
    let Regions { log, evidence } = Box::leak(Box::new(regions));
    let kept = [log, evidence].map(|pages| Span::new(pages.address(), pages.len_bytes()));
    for span in [Some(plan.kernel()), plan.ramdisk(), Some(tree)].into_iter().chain(kept).flatten() {
        let range = IpaRange::covering(span.base(), span.len_bytes());
        let area = realm.rsi.own();
        reads.push(range.map_err(|_| PlanError::Area(area)).or_stop(StopCode::Kernel)?);
    }
    Ok(Payload { entry: plan.kernel().base(), tree: base, reads })
}

/// Builds the tree, with what the bundle adds to it.
fn finish(tree: &PayloadTree<'_>, loaded: &Loaded<'_>) -> Result<Vec<u8>, Stop> {
    let blob = tree.build().or_stop(StopCode::FinalTree)?;
    match &loaded.overlay {
        Some(overlay) => Ok(overlay.apply(&blob)?),
        None => Ok(blob),
    }
}

/// Every bridge has an entry, under its index in the topology; only those on the way to a function get a node.
fn bridge_node((bridge, windows): (&Bridge, &BridgeWindows)) -> BridgeNode {
    BridgeNode {
        bdf: bridge.bdf,
        vendor_id: bridge.vendor,
        device_id: bridge.device,
        revision_id: bridge.revision,
        class_code: bridge.class,
        above: bridge.above,
        secondary: bridge.secondary,
        subordinate: bridge.subordinate,
        memory: windows.memory,
        prefetchable: windows.prefetchable,
    }
}

fn run_node<'a>(facts: &HandoffFacts<'a>, rule: &'a str) -> FunctionNode<'a> {
    let len = facts.hash.digest_len();
    let HandoffFacts { digests, nonces, .. } = *facts;
    let digest = |whole: &'a [u8; 64]| whole.get(..len).unwrap_or_default();
    let accepted = AcceptedNode {
        vdev_id: facts.vdev,
        msix_pages: facts.msix,
        nonces: [nonces.lock, nonces.measurement, nonces.report],
        digest_algorithm: facts.hash.name(),
        vca_digest: digest(&digests.vca),
        certificate_digest: digest(&digests.certificate),
        measurement_digest: digest(&digests.measurement),
        report_digest: digest(&digests.report),
    };
    node(facts.function, facts.bars, rule, Mode::Run(accepted))
}

fn pin_node(pinned: &Pinned) -> FunctionNode<'_> {
    let pin = PinNode { vdev_id: pinned.tdi.vdev(), pins: &pinned.pins };
    node(pinned.tdi.function(), pinned.tdi.placed(), &pinned.rule, Mode::Pin(pin))
}

fn shared_node(open: &Open) -> FunctionNode<'_> {
    node(&open.function, &open.bars, &open.rule, Mode::Shared)
}

fn node<'a>(function: &Function, bars: &[Bar], rule: &'a str, mode: Mode<'a>) -> FunctionNode<'a> {
    FunctionNode {
        bdf: function.bdf,
        above: function.above,
        vendor_id: function.vendor,
        device_id: function.device,
        subsystem_vendor_id: function.subsystem_vendor,
        subsystem_id: function.subsystem,
        revision_id: function.revision,
        class_code: function.class,
        bars: bars.iter().map(BarNode::from).collect(),
        rule,
        mode,
    }
}
