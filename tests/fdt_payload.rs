//! The payload's tree: what goes in is in it, what the host wrote elsewhere is not, and no mutant of the host's tree
//! panics on the way through gate, reader and writer.
use dtoolkit::Property;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::{DeviceTree, DeviceTreeNode, DeviceTreeProperty};
use gatehouse::addr::{Bdf, IpaRange, IpaWidth};
use gatehouse::fdt::check::{FdtError, Tree};
use gatehouse::fdt::emulated::{self, EmulatedNode};
use gatehouse::fdt::function::{AcceptedNode, BarNode, FunctionNode, Mode, MsixPages, class_name};
use gatehouse::fdt::read::Machine;
use gatehouse::fdt::write::{Handoff, MAX_BOOTARGS, PayloadTree, Ramdisk, Region, WriteError};

const VIRT: &[u8] = include_bytes!("data/virt.dtb");

fn range(base: u64, len: u64) -> IpaRange {
    IpaRange::new(base, len).unwrap()
}

fn bdf(device: u8) -> Bdf {
    Bdf::new(0, device, 0).unwrap()
}

fn bar(index: u8, address: u64, size: u64, wide: bool) -> BarNode {
    BarNode { index, address, size, wide, prefetchable: false }
}

fn accepted(vdev: Bdf) -> AcceptedNode<'static> {
    AcceptedNode {
        vdev_id: vdev.into(),
        msix_pages: &[MsixPages { bar: 0, first_page: 2, num_pages: 2 }],
        nonces: [0x1_0000_0002, 3, 4],
        digest_algorithm: "sha256",
        vca_digest: &[1; 32],
        certificate_digest: &[2; 32],
        measurement_digest: &[3; 32],
        report_digest: &[4; 32],
    }
}

/// The registers of each device number lie elsewhere.
fn nvme(device: u8) -> FunctionNode<'static> {
    let at = u64::from(device - 2);
    FunctionNode {
        bdf: bdf(device),
        above: None,
        vendor_id: 0x1b36,
        device_id: 0x10,
        subsystem_vendor_id: 0x1af4,
        subsystem_id: 0x1100,
        revision_id: 2,
        class_code: 0x01_0802,
        bars: vec![
            BarNode { prefetchable: true, ..bar(0, 0x80_0000_0000 + 0x4000 * at, 0x4000, true) },
            bar(2, 0x1000_0000 + 0x1000 * at, 0x1000, false),
        ],
        rule: "required-slot",
        mode: Mode::Run(accepted(bdf(device))),
    }
}

struct Host {
    tree: Tree,
    machine: Machine,
}

impl Host {
    fn of(blob: &[u8]) -> Self {
        let tree = Tree::check(blob).unwrap();
        let machine = Machine::read(&tree, IpaWidth::new(44).unwrap()).unwrap();
        Self { tree, machine }
    }

    fn virt() -> Self {
        Self::of(VIRT)
    }

    fn payload<'a>(&'a self, functions: &'a [FunctionNode<'a>]) -> PayloadTree<'a> {
        PayloadTree {
            host: &self.tree,
            machine: &self.machine,
            num_cpus: 1,
            regions: &[
                Region { name: "log", compatible: "x,log", base: 0x4600_0000, len: 0x1234 },
                Region { name: "evidence", compatible: "x,evidence", base: 0x4600_2000, len: 0x1000 },
            ],
            ram: &self.machine.ram,
            bootargs: b"console=ttyAMA0 quiet",
            ramdisk: Some(Ramdisk { start: 0x4400_0000, end: 0x4412_3456 }),
            rng_seed: Some(&[7; 32]),
            kaslr_seed: Some(0x0102_0304_0506_0708),
            bridges: &[],
            functions,
            emulated: &[],
            handoff: Handoff {
                verdict: "accepted",
                accepted: functions.len() as u32,
                pinned: 0,
                shared: 0,
                policy: None,
            },
            os_half: true,
        }
    }
}

fn text(blob: &[u8]) -> String {
    Fdt::new(blob).unwrap().to_string()
}

/// Rebuild the expected text with `GH_BLESS=1 cargo test --test fdt_payload`.
#[test]
fn the_payload_of_qemu_is_as_written_down() {
    let host = Host::virt();
    let functions = [nvme(2)];
    let payload = host.payload(&functions);
    let got = text(&payload.build().unwrap());
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/payload.dts");
    if std::env::var_os("GH_BLESS").is_some() {
        std::fs::write(path, &got).unwrap();
    }
    assert_eq!(got, std::fs::read_to_string(path).unwrap());
}

#[test]
fn the_blob_passes_the_gate_unchanged_and_can_be_read_as_a_machine() {
    let host = Host::virt();
    let functions = [nvme(2), nvme(3)];
    let mut payload = host.payload(&functions);
    payload.os_half = false;
    let blob = payload.build().unwrap();
    let tree = Tree::check(&blob).unwrap();
    assert_eq!(tree.as_bytes(), blob);
    let again = Machine::read(&tree, IpaWidth::new(44).unwrap()).unwrap();
    assert_eq!(again.ram, host.machine.ram);
    assert_eq!(again.cpus, [0]);
    assert_eq!(again.gic, host.machine.gic);
    assert_eq!(again.pci.windows, host.machine.pci.windows);
    assert_eq!(again.console.unwrap().regs, host.machine.console.as_ref().unwrap().regs);
}

#[test]
fn the_os_half_gets_a_bridge_that_no_kernel_driver_binds_to() {
    let host = Host::virt();
    let tree = Tree::check(host.payload(&[]).build().unwrap()).unwrap();
    let reader = tree.reader().unwrap();
    let bridge = reader.find_node("/pcie@4010000000").unwrap();
    assert_eq!(bridge.property("compatible").unwrap().value, b"gatehouse,pci-host-ecam\0");
    assert_eq!(bridge.children().count(), 0);
}

#[test]
fn a_function_node_follows_the_contract() {
    let host = Host::virt();
    let functions = [FunctionNode { bdf: Bdf::new(0, 0x1f, 7).unwrap(), ..nvme(2) }];
    let blob = host.payload(&functions).build().unwrap();
    let tree = Tree::check(blob).unwrap();
    let reader = tree.reader().unwrap();
    let node = reader.find_node("/pcie@4010000000/nvme@1f,7").unwrap();
    let cells = |name: &str| -> Vec<u32> {
        let value = node.property(name).unwrap().value;
        value.chunks(4).map(|c| u32::from_be_bytes(c.try_into().unwrap())).collect()
    };
    assert_eq!(cells("reg"), [0xff00, 0, 0, 0, 0]);
    assert_eq!(cells("class-code"), [0x01_0802]);
    assert_eq!(cells("vendor-id"), [0x1b36]);
    assert_eq!(cells("revision-id"), [2]);
    assert_eq!(
        cells("assigned-addresses"),
        [0xc300_ff10, 0x80, 0, 0, 0x4000, 0x8200_ff18, 0, 0x1000_0000, 0, 0x1000]
    );
    assert_eq!(cells("gatehouse,msix-pages"), [0, 2, 2]);
    assert_eq!(cells("gatehouse,vdev-id"), [0, 2 << 3], "the id is what the caller says");
    assert_eq!(cells("gatehouse,nonces"), [1, 2, 0, 3, 0, 4]);
    assert_eq!(node.property("gatehouse,report-digest").unwrap().value, [4; 32]);
}

#[test]
fn nothing_of_the_hosts_own_gets_through() {
    let mut tree = DeviceTree::from_fdt(&Fdt::new(VIRT).unwrap());
    let evil = |name: &str| DeviceTreeProperty::new(name, "EVIL").unwrap();
    let chosen = tree.find_node_mut("/chosen").unwrap();
    for name in [
        "bootargs",
        "linux,initrd-start",
        "linux,initrd-end",
        "linux,elfcorehdr",
        "linux,usable-memory-range",
        "linux,uefi-system-table",
        "rng-seed",
        "kaslr-seed",
    ] {
        chosen.add_property(evil(name));
    }
    for path in ["/", "/psci", "/timer", "/pcie@10000000", "/pl011@9000000", "/intc@8000000", "/cpus/cpu@0"] {
        tree.find_node_mut(path).unwrap().add_property(evil("evil"));
    }
    for path in ["/psci", "/timer", "/cpus/cpu@0", "/intc@8000000"] {
        let node = tree.find_node_mut(path).unwrap();
        let old = node.remove_property("compatible").unwrap();
        node.add_property(
            DeviceTreeProperty::new("compatible", [(&old).value(), b"EVIL\0"].concat()).unwrap(),
        );
    }
    for name in ["reserved-memory", "firmware", "hypervisor", "EVIL"] {
        let mut node = DeviceTreeNode::new(name).unwrap();
        node.add_property(evil("evil"));
        tree.root.add_child(node);
    }
    tree.root.add_property(evil("model"));
    let host = Host::of(&tree.to_dtb());
    let clean = Host::virt().payload(&[]).build().unwrap();
    let got = host.payload(&[]).build().unwrap();
    assert_eq!(text(&got), text(&clean));
    assert!(!got.windows(4).any(|w| w.eq_ignore_ascii_case(b"evil")));
}

#[test]
fn seeds_are_the_only_difference_between_the_two_forms() {
    let host = Host::virt();
    let mut payload = host.payload(&[]);
    let full = text(&payload.build().unwrap());
    (payload.rng_seed, payload.kaslr_seed) = (None, None);
    let measured = text(&payload.build().unwrap());
    let left: Vec<&str> = full.lines().filter(|l| !l.contains("-seed = ")).collect();
    assert_eq!(left, measured.lines().collect::<Vec<_>>());
    assert_ne!(full, measured);
}

fn build(change: impl FnOnce(&mut PayloadTree<'_>)) -> Result<Vec<u8>, WriteError> {
    let host = Host::virt();
    let mut payload = host.payload(&[]);
    change(&mut payload);
    payload.build()
}

fn with_function<'a>(change: impl FnOnce(&mut FunctionNode<'a>)) -> Result<Vec<u8>, WriteError> {
    let mut function = nvme(2);
    change(&mut function);
    let host = Host::virt();
    host.payload(&[function]).build()
}

#[test]
fn each_bad_input_is_refused_by_name() {
    let long = vec![b'a'; MAX_BOOTARGS + 1];
    assert_eq!(build(|p| p.bootargs = b"a\0b").unwrap_err(), WriteError::CommandLineNul(1));
    let host = Host::virt();
    let mut payload = host.payload(&[]);
    payload.bootargs = &long;
    assert_eq!(payload.build(), Err(WriteError::CommandLineTooLong(MAX_BOOTARGS + 1)));
    payload.bootargs = &long[1..];
    assert!(payload.build().is_ok());

    assert_eq!(build(|p| p.ram = &[]).unwrap_err(), WriteError::Ram);
    let outside = [range(0x6000_0000, 0x1000)];
    payload.ram = &outside;
    assert_eq!(payload.build(), Err(WriteError::RamRange(outside[0])));
    let twice = [range(0x4000_0000, 0x2000_0000), range(0x4000_0000, 0x1000)];
    payload.ram = &twice;
    assert_eq!(payload.build(), Err(WriteError::RamRange(twice[0])));
    for (base, len) in [(0x6000_0000, 0x1000), (0x5fff_f000, 0x1001), (u64::MAX, 2)] {
        let regions = [Region { name: "log", compatible: "x", base, len }];
        assert_eq!(
            PayloadTree { regions: &regions, ..host.payload(&[]) }.build(),
            Err(WriteError::Region { base, len })
        );
    }
    for (start, end) in [(0x4400_0000, 0x4400_0000), (0x5fff_0000, 0x6000_0001), (0, 1)] {
        let got = build(|p| p.ramdisk = Some(Ramdisk { start, end }));
        assert_eq!(got, Err(WriteError::Ramdisk { start, end }));
    }
    let bad = build(|p| p.handoff.verdict = "two\nlines");
    assert_eq!(bad, Err(WriteError::Text("verdict")));
    for (accepted, shared) in [(0, 0), (2, 0), (1, 1)] {
        let functions = [nvme(2)];
        let mut payload = host.payload(&functions);
        payload.handoff = Handoff { accepted, shared, ..payload.handoff };
        assert_eq!(payload.build(), Err(WriteError::Counts { run: 1, pinned: 0, shared: 0 }));
    }
}

#[test]
fn each_bad_function_is_refused_by_name() {
    let class_code = 0x0100_0000;
    let got = with_function(|f| f.class_code = class_code);
    assert_eq!(got, Err(WriteError::ClassCode { bdf: bdf(2), class_code }));
    assert_eq!(with_function(|f| f.rule = ""), Err(WriteError::Text("gatehouse,rule")));

    let bad_bar = |index| Err(WriteError::Bar { bdf: bdf(2), index });
    for bars in [
        vec![bar(6, 0x1000_0000, 0x1000, false)],
        vec![bar(5, 0x80_0000_0000, 0x1000, true)],
        vec![bar(0, 0x1000_1000, 0x2000, false)],
        vec![bar(0, 0x1000_0000, 0x3000, false)],
        vec![bar(0, 0x80_0000_0000, 0x1000, false)],
        vec![bar(0, 0x4000_0000, 0x1000, true)],
        vec![bar(0, 0x3ef0_0000, 0x10_0000, false)],
        vec![bar(0, 0x1000_0000, 0, false)],
        vec![bar(0, 0x1000_0000, 0x800, false)],
        vec![bar(0, 0xffff_ffff_ffff_f000, 0x1000, true)],
    ] {
        let index = bars[0].index;
        assert_eq!(with_function(|f| f.bars = bars.clone()), bad_bar(index), "{bars:?}");
    }
    let both = vec![bar(0, 0x80_0000_0000, 0x4000, true), bar(1, 0x1000_0000, 0x1000, false)];
    assert_eq!(with_function(|f| f.bars = both), bad_bar(1));

    for (bar, first_page, num_pages) in [(1, 0, 1), (0, 0, 0), (0, 3, 2), (0, u32::MAX, u32::MAX)] {
        let pages = [MsixPages { bar, first_page, num_pages }];
        let got =
            with_function(|f| f.mode = Mode::Run(AcceptedNode { msix_pages: &pages, ..accepted(f.bdf) }));
        assert_eq!(got, Err(WriteError::MsixPages { bdf: bdf(2), bar }));
    }
}

#[test]
fn classes_have_names() {
    let names = [(0x01_0802, "nvme"), (0x02_0000, "ethernet"), (0x03_0200, "display"), (0x00_ff00, "device")];
    for (class, name) in names {
        assert_eq!(class_name(class), name);
    }
}

/// Takes a tree all the way, whatever it is.
fn all_the_way(bytes: &[u8]) -> Result<(), FdtError> {
    let tree = Tree::check(bytes)?;
    let reader = tree.reader()?;
    walk(reader.find_node("/").unwrap());
    assert!(reader.all_nodes().count() > 0);
    let _ = (
        reader.find_node("/pcie@10000000/x"),
        reader.find_node("/intc/its"),
        reader.find_node("/cpus/cpu/y"),
    );
    let Ok(machine) = Machine::read(&tree, IpaWidth::new(44).unwrap()) else { return Ok(()) };
    let host = Host { tree, machine };
    let functions = [nvme(2)];
    let named = ["arm,pl031", "arm,primecell", "cfi-flash", "arm,gic-v3"];
    let width = IpaWidth::new(44).unwrap();
    let devices = emulated::read(&host.tree, &host.machine, width, &named).unwrap_or_default();
    let shown = |device| EmulatedNode { device, compatible: "arm,pl031", rule: "r" };
    let emulated: Vec<_> = devices.into_iter().map(shown).collect();
    if let Ok(blob) = (PayloadTree { emulated: &emulated, ..host.payload(&functions) }).build() {
        assert_eq!(Tree::check(&blob).unwrap().as_bytes(), blob);
    }
    Ok(())
}

fn walk(node: fdt::node::FdtNode<'_, '_>) -> usize {
    let properties: usize = node.properties().map(|p| p.value.len()).sum();
    properties + node.children().map(walk).sum::<usize>()
}

#[test]
fn no_mutant_of_one_byte_panics() {
    let mut accepted = 0;
    let mut blob = VIRT.to_vec();
    for i in 0..blob.len() {
        let old = blob[i];
        for new in [0, 0xff, old ^ 1] {
            blob[i] = new;
            accepted += usize::from(all_the_way(&blob).is_ok());
        }
        blob[i] = old;
    }
    assert!(accepted > blob.len() / 4, "most values are free: {accepted}");
}

#[test]
fn no_truncation_panics_and_all_are_refused() {
    let mut blob = VIRT.to_vec();
    for len in (0..VIRT.len()).rev() {
        blob.truncate(len);
        assert!(all_the_way(&blob).is_err(), "{len}");
        if len >= 8 {
            // The header agrees: now the blocks do not fit.
            let mut lying = blob.clone();
            lying[4..8].copy_from_slice(&u32::try_from(len).unwrap().to_be_bytes());
            assert!(all_the_way(&lying).is_err(), "{len}");
        }
    }
}

#[test]
fn no_length_of_either_block_panics() {
    for at in [32, 36] {
        let old = u32::from_be_bytes(VIRT[at..at + 4].try_into().unwrap());
        for new in 0..old + 64 {
            let mut blob = VIRT.to_vec();
            blob[at..at + 4].copy_from_slice(&new.to_be_bytes());
            let _ = all_the_way(&blob);
        }
    }
}
