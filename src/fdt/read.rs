//! Typed facts of the host's tree.
//!
//! Trust: host. Each value is checked here once; what depends on more than the tree (is this RAM really RIPAS RAM?)
//! is asked of the RMM by the caller. Devicetree Specification 0.4 and the Linux bindings of each node.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::cells::{join, one_cell};
use super::check::{FdtError, Tree};
use super::nodes::{MAX_RAM, Node, Nodes, is_compatible, list, text, word};
use super::pci::PciHost;
use crate::addr::{AddrError, IpaRange, IpaWidth};
use alloc::string::String;
use alloc::vec::Vec;
use thiserror::Error;

/// What a fact is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The root node.
    Root,
    /// `/cpus`.
    Cpus,
    /// A processor.
    Cpu,
    /// A memory node or range.
    Ram,
    /// GICv3.
    Gic,
    /// Interrupt translation service.
    Its,
    /// Architected timer.
    Timer,
    /// PSCI.
    Psci,
    /// PCI host bridge.
    PciHost,
    /// Configuration space of the bridge.
    Ecam,
    /// A memory window of the bridge.
    Window,
    /// The I/O window of the bridge.
    IoWindow,
    /// The console UART.
    Console,
    /// The clock of the console UART or of a platform device.
    ConsoleClock,
    /// A virtio-mmio transport, or a node that a rule of the policy names.
    Emulated,
}

/// Why the host's tree does not describe a machine that we can use.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum MachineError {
    /// Not a tree.
    #[error(transparent)]
    Tree(#[from] FdtError),
    /// A node that must be there is not.
    #[error("no {0:?}")]
    Missing(What),
    /// More than one, or more than the bound.
    #[error("too many: {0:?}")]
    TooMany(What),
    /// A property is missing or has a bad form.
    #[error("{node:?}: bad or missing {property}")]
    Property {
        /// The node.
        node: What,
        /// Its property.
        property: &'static str,
    },
    /// The root's `#address-cells` and `#size-cells` are not 2 and 2.
    #[error("cells of the root: not 2 and 2")]
    RootCells {
        /// `#address-cells`.
        address: Option<u32>,
        /// `#size-cells`.
        size: Option<u32>,
    },
    /// PSCI is not called by SMC: not a realm.
    #[error("PSCI method is not smc")]
    PsciNotSmc,
    /// `stdout-path` is not a string, or leads to no child of the root.
    #[error("stdout-path leads nowhere")]
    StdoutPath,
    /// The console is neither a PL011 nor a 16550.
    #[error("console is neither a PL011 nor a 16550")]
    ConsoleUnknown,
    /// An address range is misaligned, empty, or outside the protected half.
    #[error("{what:?}: {error}")]
    Range {
        /// Whose.
        what: What,
        /// Why.
        error: AddrError,
    },
    /// Two ranges share an address.
    #[error("{one:?} {first} and {other:?} {second} overlap")]
    Overlap {
        /// Whose.
        one: What,
        /// The range.
        first: IpaRange,
        /// Whose.
        other: What,
        /// The range.
        second: IpaRange,
    },
    /// `bus-range` is reversed or has a number beyond 255.
    #[error("bus-range {first}..={last}")]
    BusRange {
        /// First.
        first: u32,
        /// Last.
        last: u32,
    },
    /// ECAM does not cover the buses.
    #[error("ECAM {ecam} is too small for {buses} buses")]
    EcamTooSmall {
        /// The range.
        ecam: IpaRange,
        /// Number of buses.
        buses: u64,
    },
    /// An entry of `ranges` with an unknown space, flag, or a second I/O window.
    #[error("PCI window with phys.hi {0:#x}")]
    WindowSpace(u32),
    /// A 32-bit window beyond 4 GiB.
    #[error("32-bit PCI window {0} beyond 4 GiB")]
    WindowAbove4G(IpaRange),
    /// PCI address and IPA of a memory window differ.
    #[error("PCI window at {pci:#x} appears at {cpu:#x}: not the same")]
    NotIdentity {
        /// PCI address.
        pci: u64,
        /// IPA.
        cpu: u64,
    },
    /// MSIs go to a controller other than the ITS.
    #[error("MSI controller {0:#x} is not the ITS")]
    MsiTarget(u32),
    /// Interrupts go to a controller other than the GIC.
    #[error("interrupt parent {0:#x} is not the GIC")]
    InterruptParent(u32),
    /// Two nodes have one `phandle`.
    #[error("two nodes with phandle {0:#x}")]
    SamePhandle(u32),
    /// Two processors have one `reg`.
    #[error("two processors {0:#x}")]
    SameCpu(u64),
    /// Processors are not started by PSCI.
    #[error("enable-method of processor {0:#x}")]
    EnableMethod(u64),
}

/// The console UART.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    /// Path of the node in the host's tree.
    pub path: String,
    /// What it is.
    pub kind: ConsoleKind,
    /// IPA of the first register.
    pub address: u64,
    /// Length of the registers in bytes.
    pub len_bytes: u64,
    /// The granules that hold the registers; nothing else of the tree lies there.
    pub regs: IpaRange,
}

impl Console {
    /// Returns where the first register lies in [`Self::regs`], in bytes.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.address.saturating_sub(self.regs.base())
    }
}

/// What a console UART is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConsoleKind {
    /// Arm PL011, `arm,pl011`.
    Pl011,
    /// 16550A, `ns16550a` (Linux binding serial/8250.yaml).
    Ns16550 {
        /// Register n lies at n << `reg_shift`; at most [`MAX_REG_SHIFT`].
        reg_shift: u8,
        /// Bytes of one access: 1, 2 or 4, and not more than the distance of two registers.
        io_width: u8,
    },
}

/// Largest `reg-shift` of a 16550.
pub const MAX_REG_SHIFT: u8 = 3;
/// The last register of a 16550 that the firmware uses: line status.
const NS16550_LAST: u64 = 5;
/// Length of a frame of a redistributor in bytes.
const GIC_FRAME_BYTES: u64 = 0x1_0000;
/// Length of a PL011's registers in bytes.
const PL011_LEN: u64 = 0x1000;

/// The interrupt controller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gic {
    /// Distributor and redistributors.
    pub regs: Vec<IpaRange>,
    /// The ITS.
    pub its: Option<IpaRange>,
}

/// The machine that the host claims.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// Affinity (MPIDR) of each processor, in the tree's order.
    pub cpus: Vec<u64>,
    /// RAM, sorted; neighbours are not merged.
    pub ram: Vec<IpaRange>,
    /// Console, if `stdout-path` names one.
    pub console: Option<Console>,
    /// Interrupt controller.
    pub gic: Gic,
    /// PCI host bridge.
    pub pci: PciHost,
}

impl Machine {
    /// Reads a checked tree. Every range must lie in the protected half of a space of `width` bits.
    ///
    /// # Errors
    /// [`MachineError`]: the first thing that is wrong.
    pub fn read(tree: &Tree, width: IpaWidth) -> Result<Self, MachineError> {
        let reader = tree.reader()?;
        let nodes = Nodes::find(&reader)?;
        let cells = |n| word(nodes.root, n);
        let (address, size) = (cells("#address-cells"), cells("#size-cells"));
        if (address, size) != (Some(2), Some(2)) {
            return Err(MachineError::RootCells { address, size });
        }
        let mut ram = Vec::new();
        for node in &nodes.memory {
            for range in regs(*node, What::Ram, MAX_RAM, width)? {
                if ram.len() >= MAX_RAM {
                    return Err(MachineError::TooMany(What::Ram));
                }
                ram.insert(ram.partition_point(|before| *before < range), range);
            }
        }
        let machine = Self {
            cpus: cpus(&nodes)?,
            ram,
            console: match nodes.console {
                Some(node) => Some(console(node, width)?),
                None => None,
            },
            gic: gic(&nodes, width)?,
            pci: PciHost::read(&nodes, width)?,
        };
        timer_and_psci(&nodes)?;
        machine.check_overlaps()?;
        Ok(machine)
    }

    /// Every range, each page in one of them only.
    #[inline(never)]
    pub(super) fn ranges(&self) -> Vec<(What, IpaRange)> {
        let mut all = Vec::new();
        let mut add = |what, ranges: &[IpaRange]| all.extend(ranges.iter().map(|range| (what, *range)));
        add(What::Ram, &self.ram);
        add(What::Gic, &self.gic.regs);
        add(What::Its, self.gic.its.as_slice());
        add(What::Console, self.console.as_ref().map(|console| console.regs).as_slice());
        add(What::Ecam, &[self.pci.ecam]);
        self.pci.windows.iter().for_each(|window| add(What::Window, &[window.range]));
        add(What::IoWindow, self.pci.io.as_slice());
        all
    }

    fn check_overlaps(&self) -> Result<(), MachineError> {
        let all = self.ranges();
        for (i, (one, first)) in all.iter().enumerate() {
            for (other, second) in all.iter().skip(i.saturating_add(1)) {
                if first.overlaps(second) {
                    let (one, first, other, second) = (*one, *first, *other, *second);
                    return Err(MachineError::Overlap { one, first, other, second });
                }
            }
        }
        Ok(())
    }
}

/// Makes a range that is page-aligned, not empty and in the protected half.
pub(super) fn range(what: What, base: u64, len: u64, width: IpaWidth) -> Result<IpaRange, MachineError> {
    IpaRange::new(base, len)
        .and_then(|r| r.protected(width))
        .map_err(|error| MachineError::Range { what, error })
}

/// Makes the range of the pages of some registers, in the protected half.
pub(super) fn pages(what: What, base: u64, len: u64, width: IpaWidth) -> Result<IpaRange, MachineError> {
    IpaRange::covering(base, len)
        .and_then(|r| r.protected(width))
        .map_err(|error| MachineError::Range { what, error })
}

/// Reads `reg` with two cells for the address and two for the size.
fn regs(node: Node<'_, '_>, what: What, most: usize, width: IpaWidth) -> Result<Vec<IpaRange>, MachineError> {
    let all = list(node, what, "reg", most.saturating_mul(4))?;
    let (entries, rest) = all.as_chunks::<4>();
    if !rest.is_empty() {
        return Err(MachineError::Property { node: what, property: "reg" });
    }
    entries.iter().map(|&[bh, bl, sh, sl]| range(what, join(bh, bl), join(sh, sl), width)).collect()
}

fn cpus(nodes: &Nodes<'_, '_>) -> Result<Vec<u64>, MachineError> {
    let bad = |node, property| MachineError::Property { node, property };
    let address = word(nodes.cpus, "#address-cells");
    if word(nodes.cpus, "#size-cells") != Some(0) {
        return Err(bad(What::Cpus, "#size-cells"));
    }
    let mut found: Vec<u64> = Vec::new();
    for node in &nodes.cpu {
        let reg = match (address, list(*node, What::Cpu, "reg", 2)?.as_slice()) {
            (Some(1), [low]) => u64::from(*low),
            (Some(2), [high, low]) => join(*high, *low),
            _ => return Err(bad(What::Cpu, "reg")),
        };
        if found.contains(&reg) {
            return Err(MachineError::SameCpu(reg));
        }
        let method = text(*node, "enable-method");
        if method != Some("psci") && (method.is_some() || nodes.cpu.len() > 1) {
            return Err(MachineError::EnableMethod(reg));
        }
        found.push(reg);
    }
    Ok(found)
}

fn console(node: Node<'_, '_>, width: IpaWidth) -> Result<Console, MachineError> {
    let bad = |property| MachineError::Property { node: What::Console, property };
    let mut path = String::from("/");
    path.push_str(node.name);
    let (address, len_bytes) = match *list(node, What::Console, "reg", 4)? {
        [bh, bl, sh, sl] => (join(bh, bl), join(sh, sl)),
        _ => return Err(bad("reg")),
    };
    let regs = pages(What::Console, address, len_bytes, width)?;
    let (kind, align, least) = if is_compatible(node, "arm,pl011") {
        (ConsoleKind::Pl011, PL011_LEN, PL011_LEN)
    } else {
        let (reg_shift, io_width) = ns16550(node)?;
        let last = NS16550_LAST << reg_shift;
        let io_width_bytes = u64::from(io_width);
        (ConsoleKind::Ns16550 { reg_shift, io_width }, io_width_bytes, last.saturating_add(io_width_bytes))
    };
    if !address.is_multiple_of(align) || len_bytes < least {
        return Err(bad("reg"));
    }
    Ok(Console { path, kind, address, len_bytes, regs })
}

/// Reads what says how the registers of a 16550 are reached: `reg-shift` and `reg-io-width`.
fn ns16550(node: Node<'_, '_>) -> Result<(u8, u8), MachineError> {
    let bad = |property| MachineError::Property { node: What::Console, property };
    // Neither is in a tree of a known VMM; ignoring one would write to other registers.
    for property in ["reg-offset", "big-endian"] {
        if node.property(property).is_some() {
            return Err(bad(property));
        }
    }
    let cell = |name, default| match node.property(name) {
        None => Ok(default),
        Some(property) => one_cell(property.value).ok_or(bad(name)),
    };
    if cell("clock-frequency", 1)? == 0 {
        return Err(bad("clock-frequency"));
    }
    let reg_shift = u8::try_from(cell("reg-shift", 0)?).unwrap_or(u8::MAX);
    if reg_shift > MAX_REG_SHIFT {
        return Err(bad("reg-shift"));
    }
    match u8::try_from(cell("reg-io-width", 1)?).unwrap_or(u8::MAX) {
        io_width @ (1 | 2 | 4) if io_width <= 1 << reg_shift => Ok((reg_shift, io_width)),
        _ => Err(bad("reg-io-width")),
    }
}

fn gic(nodes: &Nodes<'_, '_>, width: IpaWidth) -> Result<Gic, MachineError> {
    let node = nodes.gic;
    let bad = |node, property| MachineError::Property { node, property };
    if word(node, "#interrupt-cells") != Some(3) {
        return Err(bad(What::Gic, "#interrupt-cells"));
    }
    if node.property("interrupt-controller").is_none() {
        return Err(bad(What::Gic, "interrupt-controller"));
    }
    let handle = word(node, "phandle").ok_or(bad(What::Gic, "phandle"))?;
    let clocks = || nodes.clocks.iter().filter_map(|c| word(*c, "phandle"));
    if clocks().any(|c| c == handle) {
        return Err(MachineError::SamePhandle(handle));
    }
    let parent = word(nodes.root, "interrupt-parent").ok_or(bad(What::Root, "interrupt-parent"))?;
    if parent != handle {
        return Err(MachineError::InterruptParent(parent));
    }
    let its = match nodes.its {
        Some(its) => {
            // Its addresses are the root's: same cells, and `ranges` is there and empty.
            if (word(node, "#address-cells"), word(node, "#size-cells")) != (Some(2), Some(2)) {
                return Err(bad(What::Gic, "#address-cells"));
            }
            if !node.property("ranges").is_some_and(|p| p.value.is_empty()) {
                return Err(bad(What::Gic, "ranges"));
            }
            let own = word(its, "phandle").ok_or(bad(What::Its, "phandle"))?;
            if own == handle || clocks().any(|c| c == own) {
                return Err(MachineError::SamePhandle(own));
            }
            if its.property("#msi-cells").is_some() && word(its, "#msi-cells") != Some(1) {
                return Err(bad(What::Its, "#msi-cells"));
            }
            match *regs(its, What::Its, 1, width)? {
                [regs] => Some(regs),
                _ => return Err(bad(What::Its, "reg")),
            }
        }
        None => None,
    };
    let regs = regs(node, What::Gic, 16, width)?;
    if regs.len() < 2 {
        return Err(bad(What::Gic, "reg"));
    }
    redistributors(node, regs.len())?;
    Ok(Gic { regs, its })
}

/// Checks what says where the redistributors are, because the payload gets it: as many regions as there are behind the
/// distributor at most, and a distance of whole frames (Linux arm,gic-v3.yaml).
fn redistributors(node: Node<'_, '_>, num_regs: usize) -> Result<(), MachineError> {
    let bad = |property| Err(MachineError::Property { node: What::Gic, property });
    let cells = |name| node.property(name).map(|_| list(node, What::Gic, name, 2)).transpose();
    let name = "#redistributor-regions";
    match cells(name)?.as_deref() {
        None => {}
        Some([count]) if usize::try_from(*count).is_ok_and(|count| (1..num_regs).contains(&count)) => {}
        Some(_) => return bad(name),
    }
    let name = "redistributor-stride";
    match cells(name)?.as_deref() {
        None => Ok(()),
        Some([high, low]) if join(*high, *low).is_multiple_of(GIC_FRAME_BYTES) => Ok(()),
        Some(_) => bad(name),
    }
}

fn timer_and_psci(nodes: &Nodes<'_, '_>) -> Result<(), MachineError> {
    let interrupts = |node, what| {
        let all = list(node, what, "interrupts", 15)?;
        let bad = MachineError::Property { node: what, property: "interrupts" };
        if all.len().is_multiple_of(3) { Ok(()) } else { Err(bad) }
    };
    interrupts(nodes.timer, What::Timer)?;
    if let Some(console) = nodes.console {
        interrupts(console, What::Console)?;
    }
    if text(nodes.psci, "method") != Some("smc") {
        return Err(MachineError::PsciNotSmc);
    }
    Ok(())
}
