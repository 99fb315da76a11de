//! The honest boots that are lied to.

use crate::common::machine;
use rmm_model::Scenario;
use rmm_model::scenario::{Asym, Lie, Misbehaviour};
use std::path::Path;

/// One of them.
pub struct Scene {
    /// Name in the table.
    pub name: &'static str,
    /// What it is.
    pub what: &'static str,
    pub scenario: Scenario,
    /// The first NVMe runs before the firmware does.
    pub is_armed: bool,
    /// Its tree is lied about, too.
    pub has_trees: bool,
}

/// Name, scenario file, what.
type Row = (&'static str, &'static str, &'static str);

/// Part of every run.
const DAILY: [Row; 2] = [
    ("one", "plain", "an NVMe that runs before the firmware does, and that no reset stops"),
    ("unaware", "os-unaware", "the same for a payload that knows nothing of device assignment"),
];
/// With `--all`.
const MORE: [Row; 8] = [
    ("polled", "plain", "operations answer INCOMPLETE first"),
    ("pin", "mode-pin", "two NVMes: one accepted, one verified and unlocked again"),
    ("shared", "shared-beside", "an accepted NVMe and a shared virtio-blk behind one switch"),
    ("earlier", "earlier-session", "a device with objects and nonces of an earlier lock"),
    ("refused", "optional-refused", "two NVMes, the optional one with a forged report"),
    ("sriov", "vf-beside-unlisted", "two virtual functions accepted, a third not listed"),
    ("64k", "hostconf-64k", "the host converts memory in units of 64 KiB"),
    ("several", "linux-topology", "a switch with NVMe, igb and AHCI accepted, and a shared virtio-blk"),
];

/// Returns the scenes; only those of every run unless `all`.
pub fn scenes(all: bool) -> Vec<Scene> {
    let more = if all { &MORE[..] } else { &[] };
    DAILY.iter().chain(more).map(scene).collect()
}

fn scene(&(name, file, what): &Row) -> Scene {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/scenarios");
    let mut scenario = machine::read(&folder.join(format!("{file}.toml")));
    let is_armed = matches!(name, "one" | "unaware" | "pin");
    if is_armed {
        // TM-1: the reset at the lock is a request; what runs, runs on.
        scenario.misbehaviour.push(Misbehaviour::always(Lie::FlrIgnored));
    }
    if name == "polled" {
        scenario.host.incomplete = 2;
    }
    // Signatures are most of the time of a boot, and those with P-384 twice as much.
    if name != "several" {
        scenario.device.iter_mut().for_each(|device| device.spdm.asym = Asym::P256);
    }
    Scene { name, what, scenario, is_armed, has_trees: name == "one" }
}
