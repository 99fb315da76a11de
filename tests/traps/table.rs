//! The traps: what a host may write into its tree beside the machine, and how each ends. What must not get through has the
//! word TRAP or the cell [`MARK`] in it.
use gatehouse::codes::StopCode::{self, PayloadMemory, TreeContent, TreeStructure};

/// A number that nothing else has.
pub const MARK: u32 = 0x7ead_beef;
const T: &str = "TRAP";

/// A change of the host's tree.
pub enum Edit {
    /// Node, created if absent, property, text.
    Text(&'static str, &'static str, &'static str),
    /// The same with cells.
    Cells(&'static str, &'static str, &'static [u32]),
    /// No such node.
    Remove(&'static str),
    /// Entry of the reservation block.
    Reserve(u64, u64),
    /// Names of the blob: all occurrences of the first are the second, as long.
    Rename(&'static str, &'static str),
    /// boot_cpuid_phys of the header.
    BootCpu(u32),
    /// A name that no property has.
    Unused(&'static str),
}
use Edit::{BootCpu, Cells, Remove, Rename, Reserve, Text, Unused};

/// Name, changes, end; `None`: it is dropped and the boot is as without.
pub type Trap = (&'static str, &'static [Edit], Option<StopCode>);

const PCIE: &str = "/pcie@10000000";
const INTC: &str = "/intc@8000000";
const ITS: &str = "/intc@8000000/its@8080000";
const UART: &str = "/pl011@9000000";
const CPU: &str = "/cpus/cpu@0";
const CPU1: &str = "/cpus/cpu@1";
const CLOCK: &str = "/apb-pclk";
const GIC_HANDLE: u32 = 0x8003;
const M: &[u32] = &[MARK];
const M2: &[u32] = &[MARK, MARK];
const M4: &[u32] = &[MARK, MARK, 0, MARK];

const fn stop(name: &'static str, edits: &'static [Edit], code: StopCode) -> Trap {
    (name, edits, Some(code))
}

const fn drop(name: &'static str, edits: &'static [Edit]) -> Trap {
    (name, edits, None)
}

pub const TRAPS: &[Trap] = &[
    // /chosen
    drop(
        "command line",
        &[Text("/chosen", "bootargs", "TRAP init=/bin/sh"), Text("/chosen", "bootargs-append", T)],
    ),
    drop("initrd", &[Cells("/chosen", "linux,initrd-start", M2), Cells("/chosen", "linux,initrd-end", M2)]),
    drop(
        "crash kernel",
        &[
            Cells("/chosen", "linux,elfcorehdr", M4),
            Cells("/chosen", "linux,usable-memory-range", M4),
            Cells("/chosen", "linux,kernel-dump", M),
        ],
    ),
    drop(
        "kexec",
        &[
            Cells("/chosen", "linux,booted-from-kexec", M),
            Cells("/chosen", "linux,ima-kexec-buffer", M4),
            Cells("/chosen", "linux,kho-fdt", M4),
        ],
    ),
    drop(
        "EFI",
        &[
            Cells("/chosen", "linux,uefi-system-table", M2),
            Cells("/chosen", "linux,uefi-mmap-start", M2),
            Cells("/chosen", "linux,uefi-mmap-size", M),
            Cells("/chosen", "linux,uefi-mmap-desc-size", M),
            Cells("/chosen", "linux,uefi-secure-boot", M),
        ],
    ),
    drop("seeds", &[Cells("/chosen", "rng-seed", M4), Cells("/chosen", "kaslr-seed", M2)]),
    drop("probe everything", &[Cells("/chosen", "linux,pci-probe-only", &[0])]),
    drop(
        "options of the console",
        &[
            Text("/chosen", "stdout-path", "/pl011@9000000:TRAP"),
            Text("/chosen", "stdin-path", "/TRAP"),
            Text("/chosen", "linux,stdout-path", "/TRAP"),
        ],
    ),
    drop(
        "a hand-off of the host's",
        &[
            Text("/chosen/gatehouse", "compatible", "gatehouse,handoff-v1"),
            Text("/chosen/gatehouse", "verdict", T),
            Cells("/chosen/gatehouse", "accepted", M),
        ],
    ),
    drop(
        "modules and framebuffer",
        &[
            Text("/chosen/module@7eadbe00", "compatible", "multiboot,module"),
            Text("/chosen/module@7eadbe00", "bootargs", T),
            Text("/chosen/framebuffer@7eadbe00", "compatible", "simple-framebuffer"),
        ],
    ),
    drop("status of chosen", &[Text("/chosen", "status", "disabled")]),
    stop("console nowhere", &[Text("/chosen", "stdout-path", "/TRAP")], TreeContent),
    stop(
        "console below the root's children",
        &[Text("/chosen", "stdout-path", "/intc@8000000/its@8080000")],
        TreeContent,
    ),
    stop("console that is off", &[Text(UART, "status", "disabled")], TreeContent),
    stop(
        "alias of itself",
        &[Text("/chosen", "stdout-path", "serial0"), Text("/aliases", "serial0", "serial0")],
        TreeContent,
    ),
    stop("two chosen", &[Text("/chxsen", "bootargs", T), Rename("chxsen\0", "chosen\0")], TreeStructure),
    // Memory
    drop(
        "pools",
        &[
            Cells("/reserved-memory", "#address-cells", &[2]),
            Cells("/reserved-memory", "#size-cells", &[2]),
            Cells("/reserved-memory", "ranges", &[]),
            Text("/reserved-memory/linux,cma", "compatible", "shared-dma-pool"),
            Cells("/reserved-memory/linux,cma", "reusable", &[]),
            Cells("/reserved-memory/linux,cma", "linux,cma-default", &[]),
            Cells("/reserved-memory/linux,cma", "size", &[0, MARK]),
            Cells("/reserved-memory/linux,cma", "alloc-ranges", M4),
            Text("/reserved-memory/restricted@7eadbe00", "compatible", "restricted-dma-pool"),
            Cells("/reserved-memory/restricted@7eadbe00", "reg", M4),
            Cells("/reserved-memory/restricted@7eadbe00", "phandle", M),
            Text("/reserved-memory/ramoops@7eadbe00", "compatible", "ramoops"),
            Cells("/reserved-memory/ramoops@7eadbe00", "reg", M4),
            Cells("/reserved-memory/ramoops@7eadbe00", "console-size", M),
        ],
    ),
    drop(
        "a log of the host's",
        &[
            Text("/reserved-memory/log@7eadbe00", "compatible", "confidential-computing-event-log"),
            Cells("/reserved-memory/log@7eadbe00", "log-base", M2),
            Cells("/reserved-memory/log@7eadbe00", "log-size", M2),
        ],
    ),
    drop("reservation entries", &[Reserve(0x7ead_beef_0000, 0x7ead_be00)]),
    drop(
        "flags of memory",
        &[
            Cells("/memory@40000000", "hotpluggable", &[]),
            Cells("/memory@40000000", "numa-node-id", M),
            Cells("/memory@40000000", "linux,usable-memory", M4),
            Cells("/memory@40000000", "linux,drconf-usable-memory", M4),
        ],
    ),
    drop(
        "memory that is off",
        &[
            Text("/memory@7eadbe00", "device_type", "memory"),
            Text("/memory@7eadbe00", "status", "disabled"),
            Cells("/memory@7eadbe00", "reg", M4),
        ],
    ),
    drop(
        "memory by name only",
        &[Cells("/memory@7eadbe00", "reg", M4), Text("/memory@7eadbe00", "compatible", "TRAP")],
    ),
    stop(
        "memory that is none",
        &[
            Text("/memory@7eadb000", "device_type", "memory"),
            Cells("/memory@7eadb000", "reg", &[0, 0x7ead_b000, 0, 0x1000]),
        ],
        PayloadMemory,
    ),
    stop(
        "memory inside a window",
        &[
            Text("/memory@10000000", "device_type", "memory"),
            Cells("/memory@10000000", "reg", &[0, 0x1000_0000, 0, 0x1000]),
        ],
        TreeContent,
    ),
    stop("all memory off", &[Text("/memory@40000000", "status", "reserved")], TreeContent),
    stop(
        "two nodes of one memory",
        &[
            Text("/memxry@40000000", "device_type", "memory"),
            Rename("memxry@40000000\0", "memory@40000000\0"),
        ],
        TreeStructure,
    ),
    // Firmware
    drop(
        "firmware nodes",
        &[
            Text("/firmware/optee", "compatible", "linaro,optee-tz"),
            Text("/firmware/optee", "method", "smc"),
            Text("/firmware/scmi", "compatible", "arm,scmi-smc"),
            Cells("/firmware/scmi", "arm,smc-id", M),
            Text("/firmware/psci", "compatible", "arm,psci-1.0"),
            Text("/firmware/qemu", "compatible", "qemu,fw-cfg-mmio"),
            Text("/hypervisor", "compatible", "xen,xen-TRAP"),
            Text("/hypervisor/uefi", "xen,uefi-system-table", T),
        ],
    ),
    drop(
        "numbers of PSCI",
        &[
            Cells("/psci", "cpu_on", M),
            Cells("/psci", "sys_reset", M),
            Text("/psci", "compatible", "TRAP\0arm,psci-1.0"),
            Text("/psci/power-domain", "compatible", T),
        ],
    ),
    stop("PSCI by hvc", &[Text("/psci", "method", "hvc")], TreeContent),
    stop("PSCI off", &[Text("/psci", "status", "disabled")], TreeContent),
    stop("two PSCI", &[Text("/psci-1", "compatible", "arm,psci-1.0")], TreeContent),
    // Devices
    drop(
        "a bus of its own",
        &[
            Text("/soc", "compatible", "simple-bus"),
            Cells("/soc", "ranges", &[]),
            Cells("/soc", "dma-ranges", M4),
            Text("/soc/dma@7eadbe00", "compatible", "arm,pl330"),
            Cells("/soc/dma@7eadbe00", "reg", M4),
            Text("/soc/serial@1", "compatible", "arm,pl011"),
        ],
    ),
    drop(
        "ramoops and more at the root",
        &[
            Text("/ramoops@7eadbe00", "compatible", "ramoops"),
            Text("/vmgenid", "compatible", "microsoft,vmgenid"),
            Text("/pmem@7eadbe00", "compatible", "pmem-region"),
            Text("/watchdog", "compatible", T),
            Text("/dice", "compatible", "google,open-dice"),
        ],
    ),
    drop(
        "another virtio-mmio transport",
        &[
            Text("/virtio_mmio@a000400", "compatible", "virtio,mmio"),
            Cells("/virtio_mmio@a000400", "reg", &[0, 0xa00_0400, 0, 0x200]),
            Cells("/virtio_mmio@a000400", "interrupts", &[0, 0x7ead_be00, 1]),
        ],
    ),
    drop(
        "a transport that is off",
        &[
            Text("/virtio_mmio@a000600", "compatible", "virtio,mmio"),
            Text("/virtio_mmio@a000600", "status", "fail-TRAP"),
            Cells("/virtio_mmio@a000600", "reg", M4),
        ],
    ),
    stop(
        "a transport without a place",
        &[Text("/virtio_mmio@a000400", "compatible", "virtio,mmio"), Cells("/virtio_mmio@a000400", "reg", M)],
        TreeContent,
    ),
    drop(
        "a function of the host's",
        &[
            Text("/pcie@10000000/nvme@2,0", "gatehouse,mode", "run"),
            Text("/pcie@10000000/nvme@2,0", "gatehouse,rule", T),
            Cells("/pcie@10000000/nvme@2,0", "gatehouse,nonces", M4),
            Text("/pcie@10000000/pci@1f,7", "device_type", "pci"),
            Text("/pcie@10000000/pci@1f,7/x@0,0", "label", T),
        ],
    ),
    drop(
        "words about the host bridge",
        &[
            Text(PCIE, "compatible", "TRAP\0pci-host-ecam-generic"),
            Cells(PCIE, "iommu-map", &[0, MARK, 0, 0x10000]),
            Cells(PCIE, "iommu-map-mask", M),
            Cells(PCIE, "iommus", M),
            Cells(PCIE, "dma-ranges", &[0x0200_0000, 0, MARK, 0, MARK, 0, MARK]),
            Cells(PCIE, "external-facing", &[]),
            Cells(PCIE, "untrusted", &[]),
            Cells(PCIE, "memory-region", M),
            Cells(PCIE, "msi-map-mask", M),
            Cells(PCIE, "linux,pci-probe-only", &[0]),
            Cells(PCIE, "interrupts", M4),
            Cells(PCIE, "ats-supported", &[]),
            Text(PCIE, "label", T),
            Cells(PCIE, "max-link-speed", M),
            Cells(PCIE, "interrupt-parent", M),
            Cells(PCIE, "supports-clkreq", &[]),
            Cells(PCIE, "hotplug-capable", &[]),
        ],
    ),
    drop(
        "a bridge that is off",
        &[
            Text("/pcie@7eadbe00", "compatible", "pci-host-ecam-generic"),
            Text("/pcie@7eadbe00", "status", "disabled"),
        ],
    ),
    stop("two host bridges", &[Text("/pcie@1", "compatible", "pci-host-ecam-generic")], TreeContent),
    stop("the bridge off", &[Text(PCIE, "status", "fail")], TreeContent),
    stop("a bridge of another kind", &[Text(PCIE, "compatible", "pci-host-cam-generic")], TreeContent),
    stop("another segment", &[Cells(PCIE, "linux,pci-domain", &[1])], TreeContent),
    stop("MSIs to another controller", &[Cells(PCIE, "msi-map", &[0, MARK, 0, 0x10000])], TreeContent),
    stop(
        "interrupts to another controller",
        &[Cells(PCIE, "interrupt-map", &[0, 0, 0, 1, MARK, 0, 0, 0, 3, 4])],
        TreeContent,
    ),
    drop(
        "a mask without a map",
        &[
            Remove("/pcie@10000000:interrupt-map"),
            Cells(PCIE, "interrupt-map-mask", M4),
            Cells(PCIE, "#interrupt-cells", &[3]),
        ],
    ),
    stop("two cells for the windows", &[Cells(PCIE, "#size-cells", &[1])], TreeContent),
    // Processors
    drop(
        "words about processors",
        &[
            Text(CPU, "compatible", "TRAP\0arm,armv8"),
            Cells(CPU, "cpu-release-addr", M2),
            Cells(CPU, "capacity-dmips-mhz", M),
            Cells(CPU, "operating-points-v2", M),
            Cells(CPU, "cpu-idle-states", M),
            Cells(CPU, "numa-node-id", M),
            Cells(CPU, "next-level-cache", M),
            Text("/cpus/idle-states/sleep", "compatible", "arm,idle-state"),
            Cells("/cpus/idle-states/sleep", "arm,psci-suspend-param", M),
            Text("/cpus/cpu-map/socket7", "label", T),
            Text("/opp-table", "compatible", "operating-points-v2"),
            Cells("/opp-table/opp-1", "opp-hz", M2),
            Cells("/distance-map", "distance-matrix", M4),
        ],
    ),
    drop("a second processor that is off", &[Text(CPU1, "status", "fail-TRAP")]),
    stop(
        "processors by spin table",
        &[Text(CPU1, "enable-method", "spin-table"), Cells(CPU1, "cpu-release-addr", M2)],
        TreeContent,
    ),
    stop("the first by spin table", &[Text(CPU, "enable-method", "spin-table")], TreeContent),
    stop("the first processor off", &[Text(CPU, "status", "disabled")], TreeContent),
    stop("two of one affinity", &[Cells(CPU1, "reg", &[0])], TreeContent),
    stop("processors off", &[Text("/cpus", "status", "disabled")], TreeContent),
    stop("two cpus", &[Text("/cpux", "compatible", T), Rename("cpux\0", "cpus\0")], TreeStructure),
    // Timer and interrupts
    drop(
        "words about the timer",
        &[
            Cells("/timer", "clock-frequency", M),
            Cells("/timer", "arm,cpu-registers-not-fw-configured", &[]),
            Cells("/timer", "arm,no-tick-in-suspend", &[]),
            Cells("/timer", "fsl,erratum-a008585", &[]),
            Text("/timer", "interrupt-names", T),
            Cells("/timer", "interrupts-extended", M4),
            Text("/timer", "always-on", T),
            Text("/timer-mem", "compatible", "arm,armv7-timer-mem"),
        ],
    ),
    stop(
        "a timer with more interrupts",
        &[Cells("/timer", "interrupts", &[1, 1, 4, 1, 2, 4, 1, 3, 4, 1, 4, 4, 1, 5, 4, 1, MARK, 4])],
        TreeContent,
    ),
    stop("the timer off", &[Text("/timer", "status", "disabled")], TreeContent),
    drop(
        "words about interrupts",
        &[
            Cells(INTC, "interrupts", M4),
            Cells(INTC, "dma-noncoherent", &[]),
            Cells(INTC, "mbi-ranges", M2),
            Cells(INTC, "mbi-alias", M2),
            Text(INTC, "compatible", "TRAP\0arm,gic-v3"),
            Text("/intc@8000000/ppi-partitions/p", "label", T),
            Text("/intc@8000000/v2m@7eadbe00", "compatible", "arm,gic-v2m-frame"),
            Text(ITS, "dma-noncoherent", T),
            Cells(ITS, "socionext,synquacer-pre-its", M2),
            Text(ITS, "compatible", "TRAP\0arm,gic-v3-its"),
        ],
    ),
    stop(
        "a distance of redistributors that is none",
        &[Cells(INTC, "redistributor-stride", M2)],
        TreeContent,
    ),
    stop("redistributors without registers", &[Cells(INTC, "#redistributor-regions", &[2])], TreeContent),
    stop("a list of redistributors", &[Cells(INTC, "#redistributor-regions", &[1, MARK])], TreeContent),
    stop("cells of MSIs", &[Cells(ITS, "#msi-cells", M)], TreeContent),
    stop("a list of cells of MSIs", &[Cells(ITS, "#msi-cells", &[1, MARK])], TreeContent),
    stop("the interrupt controller off", &[Text(INTC, "status", "disabled")], TreeContent),
    stop("two interrupt controllers", &[Text("/gic", "compatible", "arm,gic-v3")], TreeContent),
    stop("two ITS", &[Text("/intc@8000000/its@1", "compatible", "arm,gic-v3-its")], TreeContent),
    stop("the root's interrupts elsewhere", &[Cells("/", "interrupt-parent", M)], TreeContent),
    // Console
    drop(
        "words about the console",
        &[
            Cells(UART, "current-speed", M),
            Cells(UART, "arm,primecell-periphid", M),
            Cells(UART, "auto-poll", &[]),
            Cells(UART, "assigned-clocks", M),
            Cells(UART, "dmas", M2),
            Text(UART, "label", T),
            Text(UART, "compatible", "arm,pl011\0TRAP\0arm,primecell"),
            Cells(UART, "interrupt-parent", M),
            Cells(UART, "linux,rs485-enabled-at-boot-time", &[]),
            Text(CLOCK, "clock-output-names", T),
            Cells(CLOCK, "clock-accuracy", M),
        ],
    ),
    drop("names of clocks", &[Text(UART, "clock-names", "uartclk\0TRAP")]),
    stop(
        "more clocks than are looked at",
        &[Cells(UART, "clocks", &[0x8000, 0x8000, 0x8000, 0x8000, 0x8000, 0x8000, 0x8000, 0x8000, MARK])],
        TreeContent,
    ),
    stop("a clock that is none", &[Cells(UART, "clocks", &[0x8000, GIC_HANDLE])], TreeContent),
    stop(
        "a clock with the controller's handle",
        &[Cells(CLOCK, "phandle", &[GIC_HANDLE]), Cells(UART, "clocks", &[GIC_HANDLE])],
        TreeContent,
    ),
    stop("an ITS with the controller's handle", &[Cells(ITS, "phandle", &[GIC_HANDLE])], TreeContent),
    stop("two clocks of one handle", &[Cells("/other-clock", "phandle", &[0x8000])], TreeContent),
    // The tree itself
    drop(
        "words about the machine",
        &[
            Text("/", "model", T),
            Text("/", "serial-number", T),
            Text("/", "compatible", "TRAP"),
            Text("/", "chassis-type", T),
            Cells("/", "dma-ranges", M4),
            Cells("/", "interrupts", M),
            Text("/", "linux,phandle", T),
        ],
    ),
    drop(
        "aliases and symbols",
        &[
            Text("/aliases", "ethernet0", "/TRAP"),
            Text("/__symbols__", "x", "/TRAP"),
            Text("/__fixups__", "x", "/TRAP:y:0"),
            Cells("/__local_fixups__", "x", M),
            Text("/fragment@0/__overlay__", "x", T),
        ],
    ),
    drop("the header", &[BootCpu(MARK), Unused("TRAP\0")]),
    stop(
        "one property twice",
        &[
            Text("/chosen", "bootargx", T),
            Text("/chosen", "bootargs", "TRAP"),
            Rename("bootargx\0", "bootargs\0"),
        ],
        TreeStructure,
    ),
    stop("deeper than is taken", &[Text("/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a", "x", T)], TreeStructure),
    stop("one cell for an address", &[Cells("/", "#address-cells", &[1])], TreeContent),
];
