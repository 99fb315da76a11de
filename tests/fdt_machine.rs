//! Facts of the host's tree: QEMU's is read right, each lie is refused by name.
use dtoolkit::ToPropertyValue;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use gatehouse::addr::{AddrError, IpaRange, IpaWidth};
use gatehouse::fdt::check::Tree;
use gatehouse::fdt::pci::Window;
use gatehouse::fdt::read::{Machine, MachineError, What};

const VIRT: &[u8] = include_bytes!("data/virt.dtb");
const PCIE: &str = "/pcie@10000000";
const UART: &str = "/pl011@9000000";
const INTC: &str = "/intc@8000000";
const ITS: &str = "/intc@8000000/its@8080000";
const MEMORY: &str = "/memory@40000000";

struct Edit(DeviceTree);

impl Edit {
    fn virt() -> Self {
        Self(DeviceTree::from_fdt(&Fdt::new(VIRT).unwrap()))
    }

    fn node(&mut self, path: &str) -> &mut DeviceTreeNode {
        self.0.find_node_mut(path).unwrap()
    }

    fn set(mut self, path: &str, name: &str, value: impl ToPropertyValue) -> Self {
        self.node(path).add_property(DeviceTreeProperty::new(name, value).unwrap());
        self
    }

    fn unset(mut self, path: &str, name: &str) -> Self {
        self.node(path).remove_property(name).unwrap();
        self
    }

    fn remove(mut self, path: &str) -> Self {
        let (parent, name) = path.rsplit_once('/').unwrap();
        let parent = if parent.is_empty() { "/" } else { parent };
        self.node(parent).remove_child(name).unwrap();
        self
    }

    fn add(mut self, name: &str, properties: &[(&str, &[u8])]) -> Self {
        let mut node = DeviceTreeNode::new(name).unwrap();
        for (name, value) in properties {
            node.add_property(DeviceTreeProperty::new(*name, *value).unwrap());
        }
        self.0.root.add_child(node);
        self
    }

    fn read(self) -> Result<Machine, MachineError> {
        read(&self.0.to_dtb())
    }
}

fn read(blob: &[u8]) -> Result<Machine, MachineError> {
    Machine::read(&Tree::check(blob).unwrap(), IpaWidth::new(44).unwrap())
}

fn range(base: u64, len: u64) -> IpaRange {
    IpaRange::new(base, len).unwrap()
}

fn property(node: What, property: &'static str) -> Result<Machine, MachineError> {
    Err(MachineError::Property { node, property })
}

#[test]
fn the_facts_of_qemu_are_read() {
    let machine = read(VIRT).unwrap();
    assert_eq!(machine.cpus, [0, 1]);
    assert_eq!(machine.ram, [range(0x4000_0000, 0x2000_0000)]);
    let console = machine.console.unwrap();
    assert_eq!((console.path.as_str(), console.regs), (UART, range(0x900_0000, 0x1000)));
    assert_eq!(machine.gic.regs, [range(0x800_0000, 0x1_0000), range(0x80a_0000, 0xf6_0000)]);
    assert_eq!(machine.gic.its, Some(range(0x808_0000, 0x2_0000)));
    let pci = machine.pci;
    assert_eq!(pci.node, "pcie@10000000");
    assert_eq!(pci.ecam, range(0x40_1000_0000, 0x1000_0000));
    assert_eq!((pci.first_bus, pci.last_bus, pci.domain), (0, 255, 0));
    assert_eq!(pci.io, Some(range(0x3eff_0000, 0x1_0000)));
    let low = Window { range: range(0x1000_0000, 0x2eff_0000), wide: false, prefetchable: false };
    let high = Window { range: range(0x80_0000_0000, 0x80_0000_0000), wide: true, prefetchable: false };
    assert_eq!(pci.windows, [low, high]);
    assert!(pci.dma_coherent);
}

#[test]
fn each_missing_node_is_refused_by_name() {
    for (path, what) in [
        ("/cpus", What::Cpus),
        (MEMORY, What::Ram),
        ("/timer", What::Timer),
        ("/psci", What::Psci),
        (PCIE, What::PciHost),
        (INTC, What::Gic),
        ("/apb-pclk", What::ConsoleClock),
    ] {
        assert_eq!(Edit::virt().remove(path).read(), Err(MachineError::Missing(what)), "{path}");
    }
    let no_cpu = Edit::virt().remove("/cpus/cpu@0").remove("/cpus/cpu@1");
    assert_eq!(no_cpu.read(), Err(MachineError::Missing(What::Cpu)));
}

#[test]
fn a_disabled_node_is_not_there() {
    let edit = Edit::virt().set(PCIE, "status", "disabled");
    assert_eq!(edit.read(), Err(MachineError::Missing(What::PciHost)));
    assert!(Edit::virt().set(PCIE, "status", "okay").read().is_ok());
}

#[test]
fn a_second_node_of_a_kind_is_refused() {
    let twice = [("compatible", &b"pci-host-ecam-generic\0"[..])];
    let edit = Edit::virt().add("pcie@1", &twice);
    assert_eq!(edit.read(), Err(MachineError::TooMany(What::PciHost)));
    let edit = Edit::virt().add("other", &[("compatible", b"arm,gic-v3\0")]);
    assert_eq!(edit.read(), Err(MachineError::TooMany(What::Gic)));
    let edit = Edit::virt().add("other", &[("phandle", &[0, 0, 0x80, 0])]);
    assert_eq!(edit.read(), Err(MachineError::TooMany(What::ConsoleClock)));
}

#[test]
fn cells_of_the_root_must_be_two_and_two() {
    let edit = Edit::virt().set("/", "#size-cells", 1u32);
    assert_eq!(edit.read(), Err(MachineError::RootCells { address: Some(2), size: Some(1) }));
    let edit = Edit::virt().unset("/", "#address-cells");
    assert_eq!(edit.read(), Err(MachineError::RootCells { address: None, size: Some(2) }));
}

#[test]
fn ram_is_sorted_and_may_have_many_ranges() {
    let reg = [0u32, 0x8000_0000, 0, 0x1000, 0, 0x4000_0000, 0, 0x1000];
    let machine = Edit::virt().set(MEMORY, "reg", reg).read().unwrap();
    assert_eq!(machine.ram, [range(0x4000_0000, 0x1000), range(0x8000_0000, 0x1000)]);
    let many: Vec<u32> = (0..65u32).flat_map(|i| [1, i * 0x1000, 0, 0x1000]).collect();
    let edit = Edit::virt().set(MEMORY, "reg", many);
    assert_eq!(edit.read(), property(What::Ram, "reg"));
}

#[test]
fn bad_ranges_are_refused_by_name() {
    let bad = |what, error| Err(MachineError::Range { what, error });
    let edit = Edit::virt().set(MEMORY, "reg", [0u32, 0x4000_0000, 0, 0x1001]);
    assert_eq!(edit.read(), bad(What::Ram, AddrError::Unaligned(0x4000_1001)));
    let edit = Edit::virt().set(MEMORY, "reg", [0u32, 0x4000_0000, 0, 0]);
    assert_eq!(edit.read(), bad(What::Ram, AddrError::BadRange { base: 0x4000_0000, len: 0 }));
    let edit = Edit::virt().set(MEMORY, "reg", [0x800u32, 0, 0, 0x1000]);
    assert_eq!(edit.read(), bad(What::Ram, AddrError::NotProtected(0x800_0000_1000)));
    let edit = Edit::virt().set(MEMORY, "reg", [0u32, 0x4000_0000, 0]);
    assert_eq!(edit.read(), property(What::Ram, "reg"));
}

#[test]
fn overlapping_ranges_are_refused_by_name() {
    let overlap = |edit: Edit, a, b| {
        let got = edit.read();
        let same = matches!(got, Err(MachineError::Overlap { one, other, .. }) if (one, other) == (a, b));
        assert!(same, "{got:?}");
    };
    let ram = |base: u32, len: u32| Edit::virt().set(MEMORY, "reg", [0, base, 0, len]);
    overlap(
        ram(0x4000_0000, 0x2000_0000).set(PCIE, "reg", [0u32, 0x5000_0000, 0, 0x1000_0000]),
        What::Ram,
        What::Ecam,
    );
    overlap(ram(0x1000_0000, 0x1000), What::Ram, What::Window);
    overlap(ram(0x3eff_0000, 0x1000), What::Ram, What::IoWindow);
    overlap(ram(0x900_0000, 0x1000), What::Ram, What::Console);
    overlap(ram(0x808_1000, 0x1000), What::Ram, What::Its);
    overlap(ram(0x800_1000, 0x1000), What::Ram, What::Gic);
    overlap(Edit::virt().set(PCIE, "reg", [0x80u32, 0, 0, 0x1000_0000]), What::Ecam, What::Window);
    let twice = [0u32, 0x4000_0000, 0, 0x2000, 0, 0x4000_1000, 0, 0x1000];
    overlap(Edit::virt().set(MEMORY, "reg", twice), What::Ram, What::Ram);
}

#[test]
fn the_console_is_found_through_path_alias_and_options() {
    for path in [UART, "/pl011@9000000:115200n8", "serial0", "serial0:115200n8"] {
        let machine = Edit::virt().set("/chosen", "stdout-path", path).read().unwrap();
        assert_eq!(machine.console.unwrap().regs, range(0x900_0000, 0x1000), "{path}");
    }
    assert_eq!(Edit::virt().unset("/chosen", "stdout-path").read().unwrap().console, None);
    assert_eq!(Edit::virt().remove("/chosen").read().unwrap().console, None);
}

#[test]
fn a_stdout_path_that_leads_nowhere_is_refused() {
    for path in ["", "/", "serial1", "/nothing@1", "/intc@8000000/its@8080000", "//", ":"] {
        let edit = Edit::virt().set("/chosen", "stdout-path", path);
        assert_eq!(edit.read(), Err(MachineError::StdoutPath), "{path:?}");
    }
    let edit = Edit::virt().set("/chosen", "stdout-path", [0xffu8, 0]);
    assert_eq!(edit.read(), Err(MachineError::StdoutPath));
    // An alias of itself, and of another alias, which `fdt` would follow for ever.
    for target in ["serial0", "serial1"] {
        let edit = Edit::virt().set("/aliases", "serial0", target).set("/aliases", "serial1", "serial0");
        let edit = edit.set("/chosen", "stdout-path", "serial0");
        assert_eq!(edit.read(), Err(MachineError::StdoutPath));
    }
    let edit = Edit::virt().set("/chosen", "stdout-path", "/timer");
    assert_eq!(edit.read(), Err(MachineError::ConsoleUnknown));
}

#[test]
fn bad_console_properties_are_refused_by_name() {
    let edit = Edit::virt().set(UART, "reg", [0u32, 0x900_0000, 0, 0x1000, 0, 0x901_0000, 0, 0x1000]);
    assert_eq!(edit.read(), property(What::Console, "reg"));
    let edit = Edit::virt().set(UART, "interrupts", [0u32; 4]);
    assert_eq!(edit.read(), property(What::Console, "interrupts"));
    let edit = Edit::virt().set("/apb-pclk", "compatible", "mystery-clock");
    assert_eq!(edit.read(), property(What::Console, "clocks"));
    let edit = Edit::virt().set(UART, "clocks", [0u8; 5]);
    assert_eq!(edit.read(), property(What::Console, "clocks"));
}

#[test]
fn bad_processors_are_refused_by_name() {
    let edit = Edit::virt().set("/cpus/cpu@1", "reg", 0u32);
    assert_eq!(edit.read(), Err(MachineError::SameCpu(0)));
    let edit = Edit::virt().set("/cpus/cpu@1", "enable-method", "spin-table");
    assert_eq!(edit.read(), Err(MachineError::EnableMethod(1)));
    let edit = Edit::virt().set("/cpus", "#size-cells", 1u32);
    assert_eq!(edit.read(), property(What::Cpus, "#size-cells"));
    let edit = Edit::virt().set("/cpus", "#address-cells", 2u32);
    assert_eq!(edit.read(), property(What::Cpu, "reg"));
}

#[test]
fn psci_by_hvc_is_refused() {
    assert_eq!(Edit::virt().set("/psci", "method", "hvc").read(), Err(MachineError::PsciNotSmc));
    assert_eq!(Edit::virt().unset("/psci", "method").read(), Err(MachineError::PsciNotSmc));
}

#[test]
fn a_bad_interrupt_controller_is_refused_by_name() {
    let edit = Edit::virt().set(INTC, "#interrupt-cells", 4u32);
    assert_eq!(edit.read(), property(What::Gic, "#interrupt-cells"));
    let edit = Edit::virt().unset(INTC, "interrupt-controller");
    assert_eq!(edit.read(), property(What::Gic, "interrupt-controller"));
    let edit = Edit::virt().set(INTC, "reg", [0u32, 0x800_0000, 0, 0x1_0000]);
    assert_eq!(edit.read(), property(What::Gic, "reg"));
    let edit = Edit::virt().set(INTC, "ranges", [0u32; 6]);
    assert_eq!(edit.read(), property(What::Gic, "ranges"));
    let edit = Edit::virt().set(INTC, "#address-cells", 1u32);
    assert_eq!(edit.read(), property(What::Gic, "#address-cells"));
    let edit = Edit::virt().unset("/", "interrupt-parent");
    assert_eq!(edit.read(), property(What::Root, "interrupt-parent"));
    let edit = Edit::virt().set("/", "interrupt-parent", 1u32);
    assert_eq!(edit.read(), Err(MachineError::InterruptParent(1)));
    let handle = 0x8003u32;
    let edit = Edit::virt().set(ITS, "phandle", handle);
    assert_eq!(edit.read(), Err(MachineError::SamePhandle(handle)));
    let edit = Edit::virt().set("/timer", "interrupts", [0u32; 4]);
    assert_eq!(edit.read(), property(What::Timer, "interrupts"));
}

#[test]
fn bad_bus_ranges_are_refused_by_name() {
    let with = |r: [u32; 2]| Edit::virt().set(PCIE, "bus-range", r).read();
    assert_eq!(with([5, 4]), Err(MachineError::BusRange { first: 5, last: 4 }));
    assert_eq!(with([0, 256]), Err(MachineError::BusRange { first: 0, last: 256 }));
    assert_eq!(with([0, 15]).unwrap().pci.last_bus, 15);
    let edit = Edit::virt().set(PCIE, "reg", [0x40u32, 0x1000_0000, 0, 0xff0_0000]);
    let ecam = range(0x40_1000_0000, 0xff0_0000);
    assert_eq!(edit.read(), Err(MachineError::EcamTooSmall { ecam, buses: 256 }));
}

#[test]
fn bad_windows_are_refused_by_name() {
    let with = |r: Vec<u32>| Edit::virt().set(PCIE, "ranges", r).read();
    let mem = 0x0200_0000;
    let one = |hi, pci, cpu, len| vec![hi, 0, pci, 0, cpu, 0, len];
    let moved = one(mem, 0x1000_0000, 0x2000_0000, 0x1000_0000);
    assert_eq!(with(moved), Err(MachineError::NotIdentity { pci: 0x1000_0000, cpu: 0x2000_0000 }));
    for hi in [0, mem | 1, mem | 0x8000_0000, mem | 0x2000_0000] {
        let got = with(one(hi, 0x1000_0000, 0x1000_0000, 0x1000));
        assert_eq!(got, Err(MachineError::WindowSpace(hi)));
    }
    let io = one(0x0100_0000, 0, 0x3eff_0000, 0x1_0000);
    assert_eq!(with([io.clone(), io.clone()].concat()), Err(MachineError::WindowSpace(0x0100_0000)));
    assert_eq!(with(io), Err(MachineError::Missing(What::Window)));
    let high = range(0x80_0000_0000, 0x1000);
    let got = with(vec![mem, 0x80, 0, 0x80, 0, 0, 0x1000]);
    assert_eq!(got, Err(MachineError::WindowAbove4G(high)));
    assert_eq!(with(vec![mem; 6]), property(What::PciHost, "ranges"));
    let flagged = with(one(mem | 0x4000_0000, 0x1000_0000, 0x1000_0000, 0x1000)).unwrap();
    assert!(flagged.pci.windows[0].prefetchable);
}

#[test]
fn interrupts_and_msis_to_unknown_controllers_are_refused() {
    let edit = Edit::virt().set(PCIE, "msi-map", [0u32, 0x1234, 0, 0x1_0000]);
    assert_eq!(edit.read(), Err(MachineError::MsiTarget(0x1234)));
    let edit = Edit::virt().set(PCIE, "msi-parent", 0x1234u32);
    assert_eq!(edit.read(), Err(MachineError::MsiTarget(0x1234)));
    let edit = Edit::virt().remove(ITS);
    assert!(matches!(edit.read(), Err(MachineError::MsiTarget(_))));
    let edit = Edit::virt().remove(ITS).unset(PCIE, "msi-map");
    assert!(edit.read().is_ok());
    let edit = Edit::virt().set(PCIE, "interrupt-map", [0u32, 0, 0, 1, 7, 0, 0, 0, 3, 4]);
    assert_eq!(edit.read(), Err(MachineError::InterruptParent(7)));
    let edit = Edit::virt().set(PCIE, "interrupt-map", [0u32; 11]);
    assert_eq!(edit.read(), property(What::PciHost, "interrupt-map"));
    let edit = Edit::virt().set(PCIE, "interrupt-map-mask", [0u32; 3]);
    assert_eq!(edit.read(), property(What::PciHost, "interrupt-map-mask"));
}

#[test]
fn bad_bridge_cells_are_refused_by_name() {
    for (name, value) in [("#address-cells", 2u32), ("#size-cells", 1)] {
        let got = Edit::virt().set(PCIE, name, value).read();
        assert!(
            matches!(got, Err(MachineError::Property { node: What::PciHost, property }) if property == name)
        );
    }
    let edit = Edit::virt().set(PCIE, "device_type", "isa");
    assert_eq!(edit.read(), property(What::PciHost, "device_type"));
    let edit = Edit::virt().set(PCIE, "linux,pci-domain", [0u8; 3]);
    assert_eq!(edit.read(), property(What::PciHost, "linux,pci-domain"));
    let edit = Edit::virt().unset(PCIE, "dma-coherent").unset("/", "dma-coherent");
    assert!(!edit.read().unwrap().pci.dma_coherent);
}
