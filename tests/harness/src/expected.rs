//! The results that a payload must print, made from the scenario and what became of its devices.

use crate::counts::routing_id;
use crate::json::Device;
use rmm_model::final_state::DeviceState;
use rmm_model::scenario::{BundleSpec, DeviceModel, DeviceSpec};

/// An assigned device: what the scenario says, what is left of it, how it was judged.
#[derive(Clone, Copy, Debug)]
pub struct Assigned<'a> {
    /// The scenario's.
    pub spec: &'a DeviceSpec,
    /// At the end.
    pub state: &'a DeviceState,
    /// For the report.
    pub device: &'a Device,
}

impl Assigned<'_> {
    fn is_run(&self) -> bool {
        self.device.mode == "run"
    }

    fn is_shown(&self) -> bool {
        matches!(self.device.mode, "run" | "pin" | "shared")
    }
}

/// Which payload prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaker {
    /// tests/payload (src/checks.rs).
    Demo,
    /// The ramdisk with the OS half (contrib/linux/README.md).
    Linux,
    /// The ramdisk without it.
    LinuxNoModule,
}

/// Printed once by the demo payload.
const DEMO: [&str; 6] = ["registers", "mmu-off", "el1-and-masked", "tree", "handoff-nodes", "ram-ripas"];
/// Printed by it for each function in mode `run`.
const DEMO_RUN: [&str; 4] = ["vdev-started", "bar-ripas", "private-mmio", "msix-via-alias"];
/// Printed by it for each function in mode `pin`.
const DEMO_PIN: [&str; 2] = ["pin-node", "pin-quiet"];
/// Word of the command line that makes it enumerate by itself, before anything else.
const ENUMERATE: &str = "gatehouse.enumerate";
/// What it says about that.
const ENUMERATED: &str = "enumerated";
/// Word of the command line that makes it look for what the firmware left.
const LEFTOVERS: &str = "gatehouse.leftovers";
/// What it says about that.
const NOTHING_LEFT: &str = "nothing-left";
/// Word of the command line that makes it share memory in the end, and what it says about that.
const SHARE: &str = "gatehouse.share";
const SHARES: &str = "shares";
/// Printed by it for each function in mode `shared`.
const DEMO_SHARED: [&str; 1] = ["shared-left-alone"];
/// Printed by the ramdisk in any case.
const LINUX_FIRST: [&str; 8] = [
    "rsi",
    "no-device-before-module",
    "module",
    "handoff-nodes",
    "only-accepted-on-bus",
    "handoff-script",
    "private-dma",
    "sealed-config",
];
const LINUX_LAST: [&str; 2] = ["rescan", "remove-rescan"];
const LINUX_NO_MODULE: [&str; 3] = ["rsi", "no-device-before-module", "no-module-no-device"];

/// Returns what the demo payload prints for a function in mode `run` besides [`DEMO_RUN`].
fn demo_of(model: DeviceModel) -> &'static [&'static str] {
    match model {
        DeviceModel::Nvme => &["nvme-identify", "left-idle"],
        DeviceModel::Edu => &["edu-dma", "dma-alias-fault", "left-idle"],
        DeviceModel::Ahci | DeviceModel::Xhci => &["left-idle"],
        _ => &[],
    }
}

/// Returns the ramdisk's tests of a kind of function, and what it prints the digest of its disk as.
fn linux_of(device: &Assigned<'_>) -> (&'static [&'static str], Option<&'static str>) {
    match (device.device.mode, device.spec.model) {
        ("run", DeviceModel::Nvme) => {
            (&["nvme-read", "nvme-msix", "nvme-rebind", "nvme-write"], Some("nvme-sha256"))
        }
        ("run", DeviceModel::Ahci) => {
            (&["ahci-private-dma", "ahci-read", "ahci-write", "ahci-rebind"], Some("ahci-sha256"))
        }
        ("run", DeviceModel::Igb) => (&["igb-private-dma", "igb-link", "igb-tx", "igb-rebind"], None),
        ("shared", DeviceModel::VirtioBlk) => (
            &["virtio-blk-bounced", "virtio-blk-read", "virtio-blk-write", "virtio-blk-rebind"],
            Some("virtio-blk-sha256"),
        ),
        ("shared", DeviceModel::VirtioSerial) => (&["evidence-sent"], None),
        _ => (&[], None),
    }
}

/// Returns, for each device in scenario order, what stands behind its names: nothing for the first of its kind in the
/// order of addresses.
fn linux_suffixes(devices: &[Assigned<'_>]) -> Vec<String> {
    let of_kind = |device: &Assigned<'_>| linux_of(device).0.first().copied();
    let suffix = |device: &Assigned<'_>| {
        let before = devices.iter().any(|other| {
            of_kind(other) == of_kind(device) && routing_id(other.state) < routing_id(device.state)
        });
        if before { format!("@{}", device.state.slot) } else { String::new() }
    };
    devices.iter().map(suffix).collect()
}

/// Returns the names of the results that a payload must print, no more and no fewer.
#[must_use]
pub fn results(speaker: Speaker, devices: &[Assigned<'_>], bundle: &BundleSpec) -> Vec<String> {
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    match speaker {
        Speaker::LinuxNoModule => owned(&LINUX_NO_MODULE),
        Speaker::Demo => {
            let mut names = owned(&DEMO);
            if bundle.cmdline.split_whitespace().any(|word| word == ENUMERATE) {
                names.push(ENUMERATED.to_owned());
            }
            if bundle.cmdline.split_whitespace().any(|word| word == LEFTOVERS) {
                names.push(NOTHING_LEFT.to_owned());
            }
            for device in devices {
                let (first, second) = match device.device.mode {
                    "run" => (&DEMO_RUN[..], demo_of(device.spec.model)),
                    "pin" => (&DEMO_PIN[..], &[][..]),
                    "shared" => (&DEMO_SHARED[..], &[][..]),
                    _ => continue,
                };
                let at = &device.state.bdf;
                names.extend(first.iter().chain(second).map(|name| format!("{name}@{at}")));
            }
            if bundle.cmdline.split_whitespace().any(|word| word == SHARE) {
                names.push(SHARES.to_owned());
            }
            names
        }
        Speaker::Linux => {
            let has_bridge =
                devices.iter().any(|device| device.is_shown() && device.state.slot.contains('/'));
            let mut names = owned(&LINUX_FIRST);
            if has_bridge {
                names.push("sealed-bridges".to_owned());
            }
            for (device, suffix) in devices.iter().zip(linux_suffixes(devices)) {
                names.extend(linux_of(device).0.iter().map(|name| format!("{name}{suffix}")));
            }
            names.extend(owned(&LINUX_LAST));
            if has_bridge {
                names.push("remove-bridge".to_owned());
            }
            names
        }
    }
}

/// Returns the data lines of disks that a payload must print: name, and slot of the device.
#[must_use]
pub fn disks(speaker: Speaker, devices: &[Assigned<'_>]) -> Vec<(String, String)> {
    if speaker != Speaker::Linux {
        return Vec::new();
    }
    let suffixes = linux_suffixes(devices);
    let data = devices.iter().zip(suffixes).filter_map(|(device, suffix)| {
        let name = linux_of(device).1?;
        Some((format!("{name}{suffix}"), device.state.slot.clone()))
    });
    data.collect()
}

/// Returns the devices that the payload makes reach for memory that they must not have, to see it stopped.
#[must_use]
pub fn reach_out<'a>(speaker: Speaker, devices: &[Assigned<'a>]) -> Vec<&'a DeviceState> {
    let is_edu = |device: &&Assigned<'a>| {
        speaker == Speaker::Demo && device.is_run() && device.spec.model == DeviceModel::Edu
    };
    devices.iter().filter(is_edu).map(|device| device.state).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::tests::device_at;

    fn assigned(
        model: DeviceModel,
        slot: &str,
        bdf: &str,
        mode: &'static str,
    ) -> (DeviceSpec, DeviceState, Device) {
        let spec = DeviceSpec { model, slot: slot.into(), ..DeviceSpec::default() };
        (spec, device_at(slot, bdf), Device::nothing(bdf.into(), "accepted", mode))
    }

    fn names(speaker: Speaker, list: &[(DeviceSpec, DeviceState, Device)]) -> (String, String) {
        let list: Vec<_> =
            list.iter().map(|(spec, state, device)| Assigned { spec, state, device }).collect();
        let disks = disks(speaker, &list).into_iter().map(|(name, slot)| format!("{name}={slot}"));
        (results(speaker, &list, &BundleSpec::default()).join(" "), disks.collect::<Vec<_>>().join(" "))
    }

    #[test]
    fn the_demo_payload_names_each_function() {
        let list = [
            assigned(DeviceModel::Nvme, "02.0", "00:02.0", "run"),
            assigned(DeviceModel::Edu, "05.0/00.0", "01:00.0", "run"),
            assigned(DeviceModel::VirtioBlk, "06.0", "00:06.0", "shared"),
            assigned(DeviceModel::Nvme, "07.0", "00:07.0", "hide"),
            assigned(DeviceModel::Nvme, "08.0", "00:08.0", "pin"),
        ];
        let (names, disks) = names(Speaker::Demo, &list);
        assert_eq!(
            names,
            "registers mmu-off el1-and-masked tree handoff-nodes ram-ripas \
             vdev-started@00:02.0 bar-ripas@00:02.0 private-mmio@00:02.0 msix-via-alias@00:02.0 \
             nvme-identify@00:02.0 left-idle@00:02.0 \
             vdev-started@01:00.0 bar-ripas@01:00.0 private-mmio@01:00.0 msix-via-alias@01:00.0 \
             edu-dma@01:00.0 dma-alias-fault@01:00.0 left-idle@01:00.0 shared-left-alone@00:06.0 \
             pin-node@00:08.0 pin-quiet@00:08.0"
        );
        assert_eq!(disks, "");
    }

    #[test]
    fn a_payload_that_is_to_enumerate_says_that_it_did() {
        let bundle = |cmdline: &str| BundleSpec { cmdline: cmdline.to_owned(), ..BundleSpec::default() };
        let says =
            |cmdline: &str| results(Speaker::Demo, &[], &bundle(cmdline)).contains(&"enumerated".to_owned());
        assert!(says("a gatehouse.enumerate"));
        assert!(!says("gatehouse.enumerated") && !says(""));
        assert!(results(Speaker::Demo, &[], &bundle(LEFTOVERS)).contains(&NOTHING_LEFT.to_owned()));
        assert!(
            !results(Speaker::Linux, &[], &bundle("gatehouse.enumerate")).contains(&"enumerated".to_owned())
        );
    }

    #[test]
    fn the_ramdisk_names_the_first_of_a_kind_plainly() {
        let list = [
            assigned(DeviceModel::Nvme, "05.0/00.0", "01:00.0", "run"),
            assigned(DeviceModel::Nvme, "02.0", "00:02.0", "run"),
            assigned(DeviceModel::VirtioBlk, "06.0", "00:06.0", "shared"),
            assigned(DeviceModel::Ahci, "07.0", "00:07.0", "hide"),
            assigned(DeviceModel::VirtioSerial, "08.0", "00:08.0", "shared"),
        ];
        let (names, disks) = names(Speaker::Linux, &list);
        assert_eq!(
            names,
            "rsi no-device-before-module module handoff-nodes only-accepted-on-bus handoff-script private-dma \
             sealed-config sealed-bridges nvme-read@05.0/00.0 nvme-msix@05.0/00.0 nvme-rebind@05.0/00.0 nvme-write@05.0/00.0 \
             nvme-read nvme-msix nvme-rebind nvme-write \
             virtio-blk-bounced virtio-blk-read virtio-blk-write virtio-blk-rebind evidence-sent \
             rescan remove-rescan remove-bridge"
        );
        assert_eq!(disks, "nvme-sha256@05.0/00.0=05.0/00.0 nvme-sha256=02.0 virtio-blk-sha256=06.0");
    }

    #[test]
    fn without_bridge_and_without_module_there_is_less_to_say() {
        let list = [assigned(DeviceModel::Nvme, "02.0", "00:02.0", "run")];
        assert!(!names(Speaker::Linux, &list).0.contains("bridge"));
        let without = names(Speaker::LinuxNoModule, &list);
        assert_eq!(without, ("rsi no-device-before-module no-module-no-device".into(), String::new()));
    }
}
