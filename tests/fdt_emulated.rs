//! Devices besides PCI that the host's tree names: which nodes are read, which are refused, and what the payload's tree has of them.
use dtoolkit::ToPropertyValue;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use gatehouse::addr::{AddrError, IpaWidth};
use gatehouse::fdt::check::Tree;
use gatehouse::fdt::emulated::{Device, EmulatedNode, MAX_EMULATED, VIRTIO_MMIO, read};
use gatehouse::fdt::read::{Machine, MachineError, What};
use gatehouse::fdt::write::{Handoff, PayloadTree, WriteError};

const VIRT: &[u8] = include_bytes!("data/virt.dtb");
const CLOCK: &str = "arm,pl031";
const SLOT: &str = "/virtio_mmio@a000000";
const RTC: &str = "/pl031@9010000";

fn virt() -> DeviceTree {
    DeviceTree::from_fdt(&Fdt::new(VIRT).unwrap())
}

fn set(tree: &mut DeviceTree, path: &str, name: &str, value: impl ToPropertyValue) {
    tree.find_node_mut(path).unwrap().add_property(DeviceTreeProperty::new(name, value).unwrap());
}

fn set_cells(tree: &mut DeviceTree, path: &str, name: &str, cells: &[u32]) {
    set(tree, path, name, cells.to_vec());
}

fn remove(tree: &mut DeviceTree, path: &str, name: &str) {
    tree.find_node_mut(path).unwrap().remove_property(name).unwrap();
}

/// QEMU's machine with a change, and the devices in it.
struct Host {
    tree: Tree,
    machine: Machine,
    named: Vec<String>,
}

fn width() -> IpaWidth {
    IpaWidth::new(44).unwrap()
}

fn host(named: &[&str], change: impl FnOnce(&mut DeviceTree)) -> Host {
    let mut tree = virt();
    change(&mut tree);
    let tree = Tree::check(tree.to_dtb()).unwrap();
    let machine = Machine::read(&tree, width()).unwrap();
    Host { tree, machine, named: named.iter().map(|name| (*name).to_owned()).collect() }
}

fn names(named: &[&str], change: impl FnOnce(&mut DeviceTree)) -> Vec<String> {
    host(named, change).devices().unwrap().into_iter().map(|device| device.node.to_owned()).collect()
}

fn error(change: impl FnOnce(&mut DeviceTree)) -> MachineError {
    host(&[CLOCK], change).devices().unwrap_err()
}

impl Host {
    fn devices(&self) -> Result<Vec<Device<'_>>, MachineError> {
        let named: Vec<&str> = self.named.iter().map(String::as_str).collect();
        read(&self.tree, &self.machine, width(), &named)
    }

    /// The payload's tree with all devices, nodes under the first string that was asked for.
    fn build(&self) -> Result<Vec<u8>, WriteError> {
        let nodes: Vec<EmulatedNode<'_>> = (self.devices().unwrap().into_iter())
            .map(|device| EmulatedNode {
                device,
                compatible: if device.is_transport { VIRTIO_MMIO } else { &self.named[0] },
                rule: "legacy",
            })
            .collect();
        PayloadTree {
            host: &self.tree,
            machine: &self.machine,
            num_cpus: 1,
            regions: &[],
            ram: &self.machine.ram,
            bootargs: b"",
            ramdisk: None,
            rng_seed: None,
            kaslr_seed: None,
            bridges: &[],
            functions: &[],
            emulated: &nodes,
            handoff: Handoff { verdict: "accepted", accepted: 0, pinned: 0, shared: 0, policy: None },
            os_half: false,
        }
        .build()
    }

    fn text(&self) -> String {
        Fdt::new(&self.build().unwrap()).unwrap().to_string()
    }
}

/// The lines of a node and its properties, without indentation.
fn node(text: &str, name: &str) -> Vec<String> {
    let lines = text.lines().map(str::trim).skip_while(|line| *line != format!("{name} {{"));
    lines.take_while(|line| *line != "};").map(str::to_owned).collect()
}

fn new_node(name: &str, properties: &[(&str, Vec<u8>)]) -> DeviceTreeNode {
    let mut node = DeviceTreeNode::new(name).unwrap();
    for (name, value) in properties {
        node.add_property(DeviceTreeProperty::new(*name, value.clone()).unwrap());
    }
    node
}

#[test]
fn transports_are_found_and_nodes_that_are_named() {
    assert_eq!(names(&[], |_| {}), ["virtio_mmio@a000000", "virtio_mmio@a000200"]);
    let host = host(&[CLOCK, "arm,pl061"], |_| {});
    let found = host.devices().unwrap();
    let names: Vec<&str> = found.iter().map(|device| device.node).collect();
    assert_eq!(names, ["virtio_mmio@a000000", "virtio_mmio@a000200", "pl061@9030000", "pl031@9010000"]);
    assert_eq!((found[3].address, found[3].len_bytes), (0x0901_0000, 0x1000));
    assert_eq!((found[3].named, found[3].is_transport), (0b01, false));
    assert_eq!(found[2].named, 0b10);
    assert_eq!((found[1].address, found[1].len_bytes), (0x0a00_0200, 0x200));
    assert_eq!((found[1].named, found[1].is_transport), (0, true));
    let host = self::host(&["", "arm,primecell", CLOCK, VIRTIO_MMIO], |_| {});
    let found = host.devices().unwrap();
    let bits: Vec<u64> = found.iter().map(|device| device.named).collect();
    assert_eq!(bits, [0, 0, 0b010, 0b110], "the console is not among them");
}

#[test]
fn nodes_that_are_off_or_not_at_the_root_are_not_there() {
    assert_eq!(
        names(&[CLOCK], |tree| {
            set(tree, SLOT, "status", "disabled");
            set(tree, RTC, "status", "reserved");
        }),
        ["virtio_mmio@a000200"]
    );
    assert_eq!(
        names(&["gpio-keys-child"], |tree| {
            set(tree, "/gpio-keys/poweroff", "compatible", "gpio-keys-child");
        })
        .len(),
        2
    );
}

#[test]
fn no_name_takes_what_the_firmware_takes_over_or_what_is_no_device() {
    let named = [
        "arm,gic-v3",
        "arm,gic-v3-its",
        "arm,armv8-timer",
        "arm,psci-1.0",
        "pci-host-ecam-generic",
        "arm,pl011",
        "arm,neoverse-n1",
        "fixed-clock",
        VIRTIO_MMIO,
        "everywhere",
    ];
    assert_eq!(
        names(&named, |tree| {
            for path in ["/cpus", "/memory@40000000", "/chosen", "/aliases"] {
                set(tree, path, "compatible", "everywhere");
            }
            for name in ["firmware", "hypervisor@1000", "reserved-memory"] {
                tree.root.add_child(new_node(name, &[("compatible", b"everywhere\0".to_vec())]));
            }
        }),
        ["virtio_mmio@a000000", "virtio_mmio@a000200"]
    );
    // A second string does not make a transport of them either.
    assert_eq!(
        names(&[], |tree| {
            set(tree, "/pl011@9000000", "compatible", &b"arm,pl011\0virtio,mmio\0"[..]);
        })
        .len(),
        2
    );
}

#[test]
fn a_malformed_node_is_refused_by_name() {
    let bad = |property| MachineError::Property { node: What::Emulated, property };
    assert_eq!(error(|tree| remove(tree, SLOT, "reg")), bad("reg"));
    for reg in [
        &[0, 0xa00_0000, 0][..],
        &[0, 0xa00_0000, 0, 0x200, 0, 0xa00_1000, 0, 0x200],
        &[0, 0xa00_0080, 0, 0x100],
        &[0, 0xa00_0000, 0, 0xff],
    ] {
        assert_eq!(error(|tree| set_cells(tree, SLOT, "reg", reg)), bad("reg"), "{reg:x?}");
    }
    assert_eq!(error(|tree| remove(tree, SLOT, "interrupts")), bad("interrupts"));
    for interrupts in [&[0, 16][..], &[0, 16, 1, 0, 17, 1]] {
        assert_eq!(error(|tree| set_cells(tree, SLOT, "interrupts", interrupts)), bad("interrupts"));
    }
    let parent = error(|tree| set(tree, SLOT, "interrupt-parent", 0x8006u32));
    assert_eq!(parent, MachineError::InterruptParent(0x8006));
    assert_eq!(names(&[], |tree| set(tree, SLOT, "interrupt-parent", 0x8003u32)).len(), 2);

    assert_eq!(error(|tree| remove(tree, RTC, "reg")), bad("reg"));
    assert_eq!(error(|tree| set_cells(tree, RTC, "interrupts", &[0, 2, 4, 0])), bad("interrupts"));
    let parent = error(|tree| set(tree, RTC, "interrupt-parent", 0x8006u32));
    assert_eq!(parent, MachineError::InterruptParent(0x8006));
    let empty = error(|tree| set_cells(tree, RTC, "reg", &[0, 0x901_0000, 0, 0]));
    assert!(matches!(empty, MachineError::Range { what: What::Emulated, error: AddrError::BadRange { .. } }));
    let alias = error(|tree| set_cells(tree, RTC, "reg", &[0x800, 0x901_0000, 0, 0x1000]));
    assert!(matches!(alias, MachineError::Range { what: What::Emulated, error: AddrError::NotProtected(_) }));
    // Without interrupts, and a part of a page: as fw-cfg is.
    assert_eq!(names(&["qemu,fw-cfg-mmio"], |_| {}).len(), 3);
    // Flash has two ranges.
    let flash = host(&["cfi-flash"], |_| {}).devices().unwrap_err();
    assert_eq!(flash, bad("reg"));
}

#[test]
fn clocks_are_fixed_clocks_or_the_node_is_refused() {
    let bad = MachineError::Property { node: What::Emulated, property: "clocks" };
    assert_eq!(error(|tree| set(tree, RTC, "clocks", 0x8006u32)), bad);
    assert_eq!(error(|tree| set(tree, RTC, "clocks", 0x9999u32)), MachineError::Missing(What::ConsoleClock));
    // A clock with the handle of the ITS would be in the payload's tree beside it.
    let both = error(|tree| {
        let clock = [
            ("compatible", b"fixed-clock\0".to_vec()),
            ("#clock-cells", vec![0; 4]),
            ("phandle", vec![0, 0, 0x80, 4]),
        ];
        tree.root.add_child(new_node("other", &clock));
        set(tree, RTC, "clocks", 0x8004u32);
    });
    assert_eq!(both, MachineError::SamePhandle(0x8004));
    let gic = error(|tree| {
        set(tree, "/intc@8000000", "compatible", &b"arm,gic-v3\0fixed-clock\0"[..]);
        set(tree, "/intc@8000000", "#clock-cells", 0u32);
        set(tree, RTC, "clocks", 0x8003u32);
    });
    assert_eq!(gic, MachineError::SamePhandle(0x8003));
}

#[test]
fn registers_that_lie_elsewhere_are_refused() {
    let places = [
        (0x4000_0000_u64, What::Ram),
        (0x5fff_f000, What::Ram),
        (0x800_0000, What::Gic),
        (0x808_0000, What::Its),
        (0x900_0000, What::Console),
        (0x40_1000_0000, What::Ecam),
        (0x1000_0000, What::Window),
        (0x80_0000_0000, What::Window),
        (0x3eff_0000, What::IoWindow),
    ];
    for (at, other) in places {
        let reg = [(at >> 32) as u32, at as u32, 0, 0x200];
        for path in [SLOT, RTC] {
            let got = error(|tree| set_cells(tree, path, "reg", &reg));
            let fits = matches!(got, MachineError::Overlap { other: found, .. } if found == other);
            assert!(fits, "{at:#x}: {got}");
        }
    }
    for path in [SLOT, RTC] {
        let got = error(|tree| set_cells(tree, path, "reg", &[0, 0xa00_0300, 0, 0x100]));
        let fits = matches!(got, MachineError::Overlap { one: What::Emulated, other: What::Emulated, .. });
        assert!(fits, "{path}: {got}");
        // They may share a page.
        assert_eq!(names(&[CLOCK], |tree| set_cells(tree, path, "reg", &[0, 0xa00_0400, 0, 0x100])).len(), 3);
    }
}

#[test]
fn there_is_a_bound() {
    let many = |count: usize, what: &'static str| {
        move |tree: &mut DeviceTree| {
            for index in 0..count {
                let reg = [0, 0xb00_0000 + 0x200 * index as u32, 0, 0x200];
                let node = [
                    ("compatible", [what.as_bytes(), b"\0"].concat()),
                    ("reg", reg.iter().flat_map(|cell| cell.to_be_bytes()).collect()),
                    ("interrupts", vec![0; 12]),
                ];
                tree.root.add_child(new_node(&format!("many@{index:x}"), &node));
            }
        }
    };
    assert_eq!(names(&[], many(MAX_EMULATED - 2, VIRTIO_MMIO)).len(), MAX_EMULATED);
    assert_eq!(error(many(MAX_EMULATED - 2, VIRTIO_MMIO)), MachineError::TooMany(What::Emulated));
    assert_eq!(names(&[CLOCK], many(MAX_EMULATED - 3, CLOCK)).len(), MAX_EMULATED);
    assert_eq!(error(many(MAX_EMULATED - 2, CLOCK)), MachineError::TooMany(What::Emulated));
}

#[test]
fn a_transport_gets_what_the_list_allows_and_nothing_else() {
    let host = host(&[], |tree| {
        for name in ["iommus", "EVIL", "clocks", "clock-frequency", "phandle"] {
            set(tree, SLOT, name, 0x8006u32);
        }
        set(tree, SLOT, "interrupt-names", "EVIL");
        set(tree, SLOT, "compatible", &b"EVIL\0virtio,mmio\0arm,primecell\0"[..]);
        remove(tree, "/virtio_mmio@a000200", "dma-coherent");
    });
    let text = host.text();
    assert_eq!(
        node(&text, "virtio_mmio@a000000"),
        [
            "virtio_mmio@a000000 {",
            "compatible = \"virtio,mmio\";",
            "reg = <0x00 0xa000000 0x00 0x200>;",
            "interrupts = <0x00 0x10 0x01>;",
            "dma-coherent;",
            "gatehouse,mode = \"shared\";",
            "gatehouse,rule = \"legacy\";",
        ]
    );
    assert!(!node(&text, "virtio_mmio@a000200").contains(&"dma-coherent;".to_owned()));
    assert!(text.contains("emulated = <0x02>;"));
    assert!(!text.contains("EVIL"));
}

#[test]
fn a_platform_node_gets_the_rules_string_and_its_clock() {
    // The console has none, so that the clock comes from the node itself.
    let host = host(&[CLOCK], |tree| {
        remove(tree, "/pl011@9000000", "clocks");
        for name in ["status", "interrupt-names"] {
            set(tree, RTC, name, "okay");
        }
        for name in ["reg-shift", "reg-io-width", "clock-frequency", "EVIL", "iommus", "phandle"] {
            set(tree, RTC, name, 2u32);
        }
        set(tree, RTC, "compatible", &b"EVIL\0arm,pl031\0arm,primecell\0"[..]);
    });
    let text = host.text();
    assert_eq!(
        node(&text, "platform@9010000"),
        [
            "platform@9010000 {",
            "compatible = \"arm,pl031\", \"arm,primecell\";",
            "reg = <0x00 0x9010000 0x00 0x1000>;",
            "interrupts = <0x00 0x02 0x04>;",
            "clock-frequency = <0x02>;",
            "reg-shift = <0x02>;",
            "reg-io-width = <0x02>;",
            "clocks = <0x8000>;",
            "interrupt-names = \"okay\";",
            "clock-names = \"apb_pclk\";",
            "gatehouse,mode = \"shared\";",
            "gatehouse,rule = \"legacy\";",
        ]
    );
    let clock = [
        "clock-0 {",
        "compatible = \"fixed-clock\";",
        "#clock-cells = <0x00>;",
        "clock-frequency = <0x16e3600>;",
        "phandle = <0x8000>;",
    ];
    assert_eq!(node(&text, "clock-0"), clock);
    assert!(!text.contains("EVIL") && text.contains("emulated = <0x03>;"));
}

#[test]
fn a_clock_of_two_is_there_once() {
    let text = host(&[CLOCK, "arm,pl061"], |_| {}).text();
    assert!(text.contains("clock-0 {") && !text.contains("clock-1 {"));
}

#[test]
fn names_that_are_not_text_and_cells_that_are_not_whole_do_not_get_through() {
    let host = host(&[CLOCK], |tree| set(tree, RTC, "interrupt-names", &b"a\x01\0"[..]));
    assert!(!host.text().contains("interrupt-names"));
    let host = self::host(&[CLOCK], |tree| set(tree, RTC, "interrupt-names", "a".repeat(256).as_str()));
    assert!(!host.text().contains("interrupt-names"), "longer than names need");
    for name in ["clock-frequency", "reg-shift", "reg-io-width"] {
        for value in [&b"abc"[..], &[0; 8], &[]] {
            let error = self::error(|tree| set(tree, RTC, name, value));
            assert_eq!(error, MachineError::Property { node: What::Emulated, property: name });
        }
    }
    let error = self::error(|tree| set(tree, RTC, "interrupts", [0u32; 33 * 3]));
    assert_eq!(error, MachineError::Property { node: What::Emulated, property: "interrupts" });
}
