//! What a packer puts into the bundle of a run: for programs on the host, the model itself does not look at it.

use alloc::format;
use alloc::string::{String, ToString};
use core::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{DeviceSpec, EvidenceKind, MeasurementHash, Rule, Scenario, default_blocks};
use crate::digest::{HashAlgorithm, to_hex};

/// Roots of the built-in certificates, DER.
const ROOTS: [(&str, &[u8]); 2] = [
    ("test-root-p256", include_bytes!("../../../data/pki/p256/root.der")),
    ("test-root-p384", include_bytes!("../../../data/pki/p384/root.der")),
];
/// Slot that is required when the scenario has no device.
const DEFAULT_SLOT: &str = "02.0";

/// The bundle.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BundleSpec {
    /// What the payload can do: `half`, `native` or `unaware`; empty = what suits it.
    pub os: String,
    /// No policy at all.
    pub no_policy: bool,
    /// The whole policy, as TOML; empty = made from the devices.
    pub policy: String,
    /// Lines in front of the made policy's tables.
    pub policy_head: String,
    /// Lines behind the made policy.
    pub policy_tail: String,
    /// Words at the end of the payload's command line.
    pub cmdline: String,
}

impl Scenario {
    /// Returns the policy as TOML (the project's docs/policy.md); `None`: the bundle has none.
    ///
    /// Made from the devices: a rule for each that `rule` lists, with references to the [`default_blocks`], and one that
    /// takes all bridges.
    pub fn policy_toml(&self) -> Option<String> {
        if self.bundle.no_policy {
            return None;
        }
        if !self.bundle.policy.is_empty() {
            return Some(self.bundle.policy.clone());
        }
        let mut text = String::from("version = 1\n");
        let head = &self.bundle.policy_head;
        for (key, line) in [("svn", "svn = 1"), ("floor", "floor = 2026-01-01")] {
            if !says(head, key) {
                text += line;
                text.push('\n');
            }
        }
        let _ = writeln!(text, "{head}");
        for (name, root) in ROOTS {
            let digest = to_hex(&HashAlgorithm::Sha384.digest(&[root]));
            let _ = writeln!(text, "[[anchor]]\nname = \"{name}\"\ncertificate = \"sha384:{digest}\"");
        }
        text += "[[rule]]\nname = \"bridges\"\nkind = \"bridge\"\nrequired = false\ncount = 256\n";
        for device in self.device.iter().filter(|device| device.rule != Rule::None) {
            rule(&mut text, device);
        }
        if self.device.is_empty() {
            rule(&mut text, &DeviceSpec { slot: DEFAULT_SLOT.to_string(), ..DeviceSpec::default() });
        }
        text += &self.bundle.policy_tail;
        Some(text)
    }
}

/// Tells whether lines set a key.
fn says(lines: &str, key: &str) -> bool {
    lines.lines().any(|line| line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('=')))
}

/// Writes the rule of one device.
fn rule(text: &mut String, device: &DeviceSpec) {
    let own = &device.policy;
    let mut line = |key: &str, value: &str| {
        if !says(own, key) {
            let _ = writeln!(text, "{key} = {value}");
        }
    };
    line("[[rule]]\nname", &format!("\"slot-{}\"", device.slot));
    line("slot", &format!("\"{}\"", device.slot));
    let required = device.rule != Rule::Optional;
    let is_shared = device.rule == Rule::Shared;
    line("required", if required && !is_shared { "true" } else { "false" });
    if device.model.is_virtio() {
        line("kind", "\"virtio-pci\"");
    }
    if is_shared {
        line("modes", "[\"shared\"]");
    }
    if device.quiet_device {
        line("quiet", "\"device\"");
    }
    if !device.pf.is_empty() {
        line("same-unit", "true");
    }
    let is_platform = device.evidence == EvidenceKind::None;
    if is_platform && !is_shared {
        line("evidence", "\"platform\"");
    }
    let is_measured =
        !is_shared && !is_platform && !says(own, "measurements") && !own.contains("[[rule.measurement]]");
    if is_platform && !is_shared {
        line("measurements", "\"any\"");
    }
    let _ = writeln!(text, "{own}");
    if is_measured {
        references(text, device);
    }
}

/// Writes references to the blocks of a device that behaves.
fn references(text: &mut String, device: &DeviceSpec) {
    let hash = match device.spdm.measurement_hash {
        MeasurementHash::Sha256 => HashAlgorithm::Sha256,
        MeasurementHash::Raw | MeasurementHash::Sha384 => HashAlgorithm::Sha384,
        MeasurementHash::Sha512 => HashAlgorithm::Sha512,
    };
    let name = match hash {
        HashAlgorithm::Sha256 => "sha256",
        HashAlgorithm::Sha384 => "sha384",
        HashAlgorithm::Sha512 => "sha512",
    };
    for block in default_blocks() {
        let value = match block.svn {
            Some(svn) => format!("min-svn = {svn}"),
            None if !block.raw => {
                let digest = to_hex(&hash.digest(&[block.text.as_bytes()]));
                format!("digests = [\"{name}:{digest}\"]")
            }
            None => continue,
        };
        let _ = writeln!(text, "[[rule.measurement]]\nindex = {}\n{value}", block.index);
    }
}
