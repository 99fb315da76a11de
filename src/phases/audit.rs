//! An audit boot: the evidence of every device goes to the console, in lines that `gatehouse policy capture` reads. Nothing
//! of it is secret: the host carried each byte.

use crate::base64::Base64;
use crate::pcie::Topology;
use crate::tdi::{Attested, Tdi};

/// Bytes of an object on one line.
const CHUNK: usize = 96;

/// Prints what a device is, and its four objects (docs/policy.md has the form of the lines).
pub(super) fn record(topology: &Topology, tdi: &Tdi<Attested>) {
    let function = tdi.function();
    let path = topology.path(function);
    let evidence = tdi.evidence();
    crate::say::info!(
        "evidence slot={path} vendor={:04x} device={:04x} subsystem-vendor={:04x} subsystem={:04x} class={:06x} hash={}",
        function.vendor,
        function.device,
        function.subsystem_vendor,
        function.subsystem,
        function.class,
        evidence.hash().name()
    );
    let objects = evidence.objects();
    for (name, bytes) in [
        ("certificate", &objects.certificate),
        ("vca", &objects.vca),
        ("measurements", &objects.measurements),
        ("report", &objects.report),
    ] {
        for (index, chunk) in bytes.chunks(CHUNK).enumerate() {
            crate::say::info!(
                "evidence slot={path} object={name} offset={} total={} base64={}",
                index.saturating_mul(CHUNK),
                bytes.len(),
                Base64(chunk)
            );
        }
    }
}
