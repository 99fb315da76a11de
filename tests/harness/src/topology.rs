//! Where functions stand: the bridges on the way to each, and QEMU's arguments for all of them.

use crate::{Fault, verifier};
use rmm_model::Scenario;
use rmm_model::scenario::{DeviceModel, DeviceSpec, Rule};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Slot of the function that must pass when the scenario has no device.
const DEFAULT_SLOT: &str = "02.0";
/// Device number on bus 0 where a function stands that nobody assigned.
const UNASSIGNED: &str = "03";
/// QEMU's default mask keeps edu's DMA below 256 MiB, where no RAM is.
const EDU: &str = "edu,dma_mask=0xffffffffffff";

/// Returns the slot paths at which a rule of the policy wants a function; without any device one that is not there.
#[must_use]
pub fn required(scenario: &Scenario) -> Vec<String> {
    if scenario.device.is_empty() {
        return vec![DEFAULT_SLOT.to_owned()];
    }
    let devices = scenario.device.iter().filter(|device| device.rule == Rule::Require);
    devices.map(|device| device.slot.clone()).collect()
}

/// Tells whether a function of this kind has an MSI-X capability in QEMU.
#[must_use]
pub fn has_msix(model: DeviceModel) -> bool {
    !matches!(model, DeviceModel::Edu | DeviceModel::Ahci)
}

/// Tells whether a function of this kind has a disk.
#[must_use]
pub fn has_disk(model: DeviceModel) -> bool {
    matches!(model, DeviceModel::Nvme | DeviceModel::Ahci | DeviceModel::VirtioBlk)
}

/// One `dd.f` of a slot path.
fn hop(text: &str, path: &str) -> Result<String, Fault> {
    let is_hex = |text: &str, len: usize| text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit());
    match text.split_once('.') {
        Some((device, function)) if is_hex(device, 2) && is_hex(function, 1) => Ok(text.to_lowercase()),
        _ => Err(Fault::Usage(format!("slot {path:?}: not dd.f, or several of them with / between"))),
    }
}

/// A bridge of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Port {
    Root,
    Upstream,
    Downstream,
}

impl Port {
    /// The bridge that stands below this one.
    fn below(above: Option<Port>) -> Port {
        match above {
            None => Port::Root,
            Some(Port::Root | Port::Downstream) => Port::Upstream,
            Some(Port::Upstream) => Port::Downstream,
        }
    }
}

/// One thing on a bus.
#[derive(Debug)]
struct Placed {
    /// Id of the bus.
    bus: String,
    /// `dd.f`.
    addr: String,
    /// `-device` without place.
    device: String,
    /// Arguments before it.
    before: Vec<OsString>,
    /// Arguments behind it.
    behind: Vec<String>,
}

/// Collects what stands on the buses.
#[derive(Debug, Default)]
struct Builder {
    /// Bridges by path: id and kind.
    bridges: BTreeMap<String, (String, Port)>,
    placed: Vec<Placed>,
}

impl Builder {
    /// Returns bus and `dd.f` of a path; makes the bridges on the way.
    fn way(&mut self, path: &str) -> Result<(String, String), Fault> {
        let mut bus = "pcie.0".to_owned();
        let mut above = None;
        let mut done = String::new();
        let mut hops = path.split('/').peekable();
        while let Some(text) = hops.next() {
            let addr = hop(text, path)?;
            if hops.peek().is_none() {
                return Ok((bus, addr));
            }
            if !done.is_empty() {
                done.push('/');
            }
            done += &addr;
            let (id, port) = match self.bridges.get(&done) {
                Some(bridge) => bridge.clone(),
                None if self.is_taken(&bus, &addr) => {
                    return Err(Fault::Usage(format!("slot {path:?}: no bridge at {done:?}")));
                }
                None => self.bridge(&done, &bus, &addr, Port::below(above)),
            };
            (bus, above) = (id, Some(port));
        }
        Err(Fault::Usage(format!("slot {path:?} is empty")))
    }

    fn is_taken(&self, bus: &str, addr: &str) -> bool {
        self.placed.iter().any(|other| other.bus == bus && other.addr == addr)
    }

    fn bridge(&mut self, path: &str, bus: &str, addr: &str, port: Port) -> (String, Port) {
        // Chassis and slot number together must differ from those of every other port.
        let number = self.bridges.len() + 1;
        let id = format!("port{number}");
        let device = match port {
            Port::Root => format!("pcie-root-port,id={id},chassis={number},slot={number}"),
            Port::Upstream => format!("x3130-upstream,id={id}"),
            Port::Downstream => format!("xio3130-downstream,id={id},chassis={number},slot={number}"),
        };
        self.place(bus, addr, device);
        self.bridges.insert(path.to_owned(), (id.clone(), port));
        (id, port)
    }

    fn place(&mut self, bus: &str, addr: &str, device: String) -> &mut Placed {
        let (bus, addr) = (bus.to_owned(), addr.to_owned());
        self.placed.push(Placed { bus, addr, device, before: Vec::new(), behind: Vec::new() });
        let last = self.placed.len() - 1;
        &mut self.placed[last]
    }

    /// Puts one device of the scenario in place.
    fn device(&mut self, number: usize, spec: &DeviceSpec, disk: Option<&Path>) -> Result<(), Fault> {
        let at = match spec.model {
            DeviceModel::IgbVf if spec.pf.is_empty() => {
                return Err(Fault::Usage(format!("slot {:?}: a virtual function without pf", spec.slot)));
            }
            DeviceModel::IgbVf => &spec.pf,
            _ => &spec.slot,
        };
        let (bus, addr) = self.way(at)?;
        let is_taken = self.is_taken(&bus, &addr);
        match spec.model {
            // The physical function of several; the stub enables the virtual ones.
            DeviceModel::IgbVf if is_taken => return Ok(()),
            _ if is_taken => return Err(Fault::Usage(format!("slot {:?} is taken", spec.slot))),
            _ => {}
        }
        let drive = format!("disk{number}");
        let mut before = Vec::new();
        if has_disk(spec.model) {
            let disk = disk.ok_or_else(|| Fault::Run(format!("no disk for {}", spec.slot)))?;
            let drive = [format!("if=none,id={drive},format=raw,file=").into(), escaped(disk)];
            before = vec!["-drive".into(), OsString::from_iter(drive)];
        }
        let network = format!("net{number}");
        let port = format!("verifier{number}");
        if matches!(spec.model, DeviceModel::Igb | DeviceModel::IgbVf | DeviceModel::VirtioNet) {
            // Nothing leaves this machine; DHCP is answered.
            before = vec!["-netdev".into(), format!("user,id={network},restrict=on").into()];
        }
        if spec.model == DeviceModel::VirtioSerial {
            let socket = format!("socket,id={port},path={},server=on,wait=off", verifier::SOCKET);
            before = vec!["-chardev".into(), socket.into()];
        }
        let virtio = "disable-legacy=on,iommu_platform=on";
        let device = match spec.model {
            DeviceModel::Nvme => format!("nvme,drive={drive},serial=gatehouse{number}"),
            DeviceModel::Edu => EDU.to_owned(),
            DeviceModel::Igb | DeviceModel::IgbVf => format!("igb,netdev={network}"),
            DeviceModel::Ahci => format!("ahci,id=ahci{number}"),
            DeviceModel::Xhci => "qemu-xhci".to_owned(),
            DeviceModel::VirtioBlk => format!("virtio-blk-pci,drive={drive},{virtio}"),
            DeviceModel::VirtioNet => format!("virtio-net-pci,netdev={network},{virtio}"),
            DeviceModel::VirtioSerial => format!("virtio-serial-pci,id=serial{number},max_ports=2,{virtio}"),
        };
        let placed = self.place(&bus, &addr, device);
        placed.before = before;
        if spec.model == DeviceModel::Ahci {
            placed.behind = vec!["-device".into(), format!("ide-hd,drive={drive},bus=ahci{number}.0")];
        }
        if spec.model == DeviceModel::VirtioSerial {
            let name = verifier::PORT;
            let device = format!("virtserialport,bus=serial{number}.0,name={name},chardev={port}");
            placed.behind = vec!["-device".into(), device];
        }
        Ok(())
    }

    /// Writes the arguments; functions that share a device number say so.
    fn args(self) -> Vec<OsString> {
        let number = |placed: &Placed| {
            let device = placed.addr.split('.').next().unwrap_or_default();
            format!("{}/{device}", placed.bus)
        };
        let mut several: BTreeMap<String, usize> = BTreeMap::new();
        for placed in &self.placed {
            *several.entry(number(placed)).or_default() += 1;
        }
        let mut args = Vec::new();
        for placed in self.placed {
            let is_several = several.get(&number(&placed)).is_some_and(|count| *count > 1);
            let Placed { bus, addr, device, before, behind } = placed;
            let multifunction = if is_several { ",multifunction=on" } else { "" };
            args.extend(before);
            args.extend(["-device".into(), format!("{device},bus={bus},addr={addr}{multifunction}").into()]);
            args.extend(behind.into_iter().map(OsString::from));
        }
        args
    }
}

/// Returns QEMU's arguments for everything on the buses; `disks`: of each device, in scenario order.
///
/// # Errors
/// [`Fault::Usage`] for a slot that the machine cannot have.
pub fn args(scenario: &Scenario, disks: &[Option<PathBuf>]) -> Result<Vec<OsString>, Fault> {
    // The socket has one name.
    if scenario.device.iter().filter(|device| device.model == DeviceModel::VirtioSerial).count() > 1 {
        return Err(Fault::Usage("more than one virtio-serial".to_owned()));
    }
    let mut builder = Builder::default();
    for (number, device) in scenario.device.iter().enumerate() {
        builder.device(number, device, disks.get(number).and_then(Option::as_deref))?;
    }
    // A function that nobody assigned: the firmware must make it quiet and hide it.
    let is_there = |placed: &Placed| placed.bus == "pcie.0" && placed.addr.starts_with(UNASSIGNED);
    if !builder.placed.iter().any(is_there) {
        builder.place("pcie.0", &format!("{UNASSIGNED}.0"), EDU.to_owned());
    }
    Ok(builder.args())
}

/// QEMU's options end at a comma; two stand for one.
#[must_use]
pub fn escaped(path: &Path) -> OsString {
    match path.to_str() {
        Some(text) => text.replace(',', ",,").into(),
        None => path.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(devices: &str) -> Result<String, Fault> {
        let scenario: Scenario = toml::from_str(devices).unwrap();
        let disks: Vec<_> =
            (0..scenario.device.len()).map(|n| Some(PathBuf::from(format!("d{n}.img")))).collect();
        let args = args(&scenario, &disks)?;
        Ok(args.iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" "))
    }

    fn at(slots: &[&str]) -> Result<String, Fault> {
        text(&slots.iter().map(|slot| format!("[[device]]\nslot = \"{slot}\"\n")).collect::<String>())
    }

    #[test]
    fn a_device_on_bus_0_stands_beside_the_unassigned_one() {
        assert_eq!(
            at(&["02.0"]).unwrap(),
            "-drive if=none,id=disk0,format=raw,file=d0.img \
             -device nvme,drive=disk0,serial=gatehouse0,bus=pcie.0,addr=02.0 \
             -device edu,dma_mask=0xffffffffffff,bus=pcie.0,addr=03.0"
        );
    }

    #[test]
    fn the_unassigned_function_gives_way() {
        for slot in ["03.0", "03.1", "03.0/00.0"] {
            assert!(!at(&[slot]).unwrap().contains("edu"), "{slot}");
        }
        assert!(at(&["05.0/03.0"]).unwrap().contains("edu"));
    }

    #[test]
    fn a_switch_has_an_upstream_port_and_a_downstream_port_for_each_way() {
        let text = at(&["05.0/00.0/00.0/00.0", "05.0/00.0/01.0/00.0"]).unwrap();
        for part in [
            "pcie-root-port,id=port1,chassis=1,slot=1,bus=pcie.0,addr=05.0",
            "x3130-upstream,id=port2,bus=port1,addr=00.0",
            "xio3130-downstream,id=port3,chassis=3,slot=3,bus=port2,addr=00.0",
            "xio3130-downstream,id=port4,chassis=4,slot=4,bus=port2,addr=01.0",
            "serial=gatehouse0,bus=port3,addr=00.0",
            "serial=gatehouse1,bus=port4,addr=00.0",
        ] {
            assert_eq!(text.matches(part).count(), 1, "{part}: {text}");
        }
        assert_eq!(text.matches("pcie-root-port").count() + text.matches("upstream").count(), 2);
    }

    #[test]
    fn functions_of_one_device_number_are_multifunction() {
        let text = at(&["02.0", "02.1", "04.0", "05.0/00.0", "05.1/00.0"]).unwrap();
        for slot in ["02.0", "02.1", "05.0", "05.1"] {
            assert!(text.contains(&format!("bus=pcie.0,addr={slot},multifunction=on")), "{slot}: {text}");
        }
        assert_eq!(text.matches("multifunction").count(), 4);
    }

    #[test]
    fn virtual_functions_bring_their_physical_one_once() {
        let vf = |n: u8, slot: &str| {
            format!("[[device]]\nmodel = \"igb-vf\"\npf = \"04.0\"\nvf = {n}\nslot = \"{slot}\"\n")
        };
        let text_of = text(&(vf(0, "14.0") + &vf(1, "14.2"))).unwrap();
        assert_eq!(text_of.matches("igb,netdev=net0,bus=pcie.0,addr=04.0").count(), 1);
        assert_eq!((text_of.matches("-netdev").count(), text_of.matches("addr=14").count()), (1, 0));
        let lonely = "[[device]]\nmodel = \"igb-vf\"\nslot = \"14.0\"\n";
        assert!(matches!(text(lonely), Err(Fault::Usage(_))));
    }

    #[test]
    fn each_kind_has_what_it_needs() {
        let device =
            |model: &str| text(&format!("[[device]]\nmodel = \"{model}\"\nslot = \"02.0\"\n")).unwrap();
        let needed = [
            ("ahci", "-device ahci,id=ahci0,bus=pcie.0,addr=02.0 -device ide-hd,drive=disk0,bus=ahci0.0"),
            ("xhci", "-device qemu-xhci,bus=pcie.0,addr=02.0"),
            ("edu", "-device edu,dma_mask=0xffffffffffff,bus=pcie.0,addr=02.0"),
            ("virtio-blk", "virtio-blk-pci,drive=disk0,disable-legacy=on,iommu_platform=on,bus=pcie.0"),
            ("virtio-net", "virtio-net-pci,netdev=net0,disable-legacy=on,iommu_platform=on,bus=pcie.0"),
            (
                "virtio-serial",
                "-chardev socket,id=verifier0,path=verifier.sock,server=on,wait=off \
                 -device virtio-serial-pci,id=serial0,max_ports=2,disable-legacy=on,iommu_platform=on,bus=pcie.0,addr=02.0 \
                 -device virtserialport,bus=serial0.0,name=org.gatehouse.verifier,chardev=verifier0",
            ),
        ];
        for (model, part) in needed {
            assert!(device(model).contains(part), "{model}: {}", device(model));
        }
        for (model, has_drive) in [("ahci", true), ("xhci", false), ("edu", false), ("virtio-blk", true)] {
            assert_eq!(device(model).contains("-drive"), has_drive, "{model}");
        }
    }

    #[test]
    fn a_machine_has_one_port_for_a_verifier() {
        let port = |slot: &str| format!("[[device]]\nmodel = \"virtio-serial\"\nslot = \"{slot}\"\n");
        assert!(text(&port("02.0")).is_ok());
        assert!(matches!(text(&(port("02.0") + &port("04.0"))), Err(Fault::Usage(_))));
    }

    #[test]
    fn slots_that_are_none_or_taken_are_refused() {
        for slot in ["", "2.0", "02", "02.0,x=1", "02.0/", "/02.0", "05.0//00.0"] {
            assert!(matches!(at(&[slot]), Err(Fault::Usage(_))), "{slot}");
        }
        assert!(matches!(at(&["02.0", "02.0"]), Err(Fault::Usage(_))));
        assert!(matches!(at(&["02.0/00.0", "02.0"]), Err(Fault::Usage(_))));
        assert!(matches!(at(&["02.0", "02.0/00.0"]), Err(Fault::Usage(_))));
    }

    #[test]
    fn what_a_rule_wants_is_required() {
        let scenario: Scenario = toml::from_str(
            "[[device]]\nslot = \"02.0\"\n\
             [[device]]\nslot = \"04.0\"\nrule = \"optional\"\n\
             [[device]]\nslot = \"05.0\"\nrule = \"shared\"\n\
             [[device]]\nslot = \"06.0\"\nrule = \"none\"\n",
        )
        .unwrap();
        assert_eq!(required(&scenario), ["02.0"]);
        assert_eq!(required(&Scenario::default()), ["02.0"]);
    }
}
