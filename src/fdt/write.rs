//! The tree that the payload gets: built from an allow-list, never edited.
//!
//! Trust: from the host's checked tree only the cells listed here are taken over, after [`Machine::read`] accepted
//! them; names, `compatible` strings and everything under `/chosen` are ours or the policy's. Host bootargs, initrd
//! pointers, reserved-memory, usable ranges, elfcorehdr, seeds, firmware nodes, and devices that no rule names have no way
//! in.
#![deny(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions
)]

use super::bridge::{BridgeNode, Fabric};
use super::build::Builder;
use super::check::{FdtError, Tree};
use super::copied::{copy, fixed_clock, flags, timer, uart};
use super::emulated::EmulatedNode;
use super::function::{FunctionNode, Mode};
use super::nodes::{MAX_RAM, Nodes};
use super::read::{Machine, MachineError};
use crate::addr::{Bdf, IpaRange};
use crate::digest::Digest;
use alloc::format;
use alloc::vec::Vec;
use thiserror::Error;

/// Longest command line in bytes, without its NUL: COMMAND_LINE_SIZE of arm64 Linux is 2048 with it.
pub const MAX_BOOTARGS: usize = 2047;
/// Version of the contract with the OS.
pub const HANDOFF_VERSION: u32 = 1;
/// `compatible` of `/chosen/gatehouse`.
pub const HANDOFF_COMPATIBLE: &str = "gatehouse,handoff-v1";
/// `compatible` of a bridge that only the OS half binds to.
pub const HALF_BRIDGE_COMPATIBLE: &str = "gatehouse,pci-host-ecam";
/// Why a tree cannot be built.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum WriteError {
    /// The host's tree lost a node since it was read: our bug.
    #[error(transparent)]
    Machine(#[from] MachineError),
    /// The tree that we built does not pass our own gate: our bug, or too large.
    #[error("the tree does not pass the gate: {0}")]
    Gate(#[from] FdtError),
    /// The command line is too long.
    #[error("command line of {0} bytes")]
    CommandLineTooLong(usize),
    /// A NUL inside the command line, at this offset.
    #[error("NUL in the command line at {0}")]
    CommandLineNul(usize),
    /// A string is empty or not printable ASCII.
    #[error("{0} is not printable text")]
    Text(&'static str),
    /// A property to be taken over is not whole cells, or is missing.
    #[error("{0} is not whole cells, or too long")]
    NotCells(&'static str),
    /// No RAM, more than the bound, or more than the host's tree has.
    #[error("RAM ranges")]
    Ram,
    /// A range of RAM that the host's tree does not have, or two that overlap.
    #[error("{0} is not RAM of this machine, or is there twice")]
    RamRange(IpaRange),
    /// The ramdisk is empty or outside RAM.
    #[error("ramdisk {start:#x}..{end:#x} is not in RAM")]
    Ramdisk {
        /// First byte.
        start: u64,
        /// Behind the last byte.
        end: u64,
    },
    /// Too many bridges, or functions.
    #[error("too many entries: {0}")]
    TooMany(usize),
    /// The bridge above does not lead to its bus, buses do not nest, or a bus has two bridges.
    #[error("{0}: the buses do not nest")]
    Nesting(Bdf),
    /// Two bridges or functions at one place.
    #[error("{0} twice")]
    SameFunction(Bdf),
    /// The summary does not count the function nodes.
    #[error("{run} functions in mode run, {pinned} pinned and {shared} shared, the summary says otherwise")]
    Counts {
        /// Nodes in mode `run`.
        run: usize,
        /// Nodes in mode `pin`.
        pinned: usize,
        /// Nodes in mode `shared`.
        shared: usize,
    },
    /// A bridge's window that is misaligned, too high, or that the bridge above does not forward.
    #[error("{bdf}: window {window}")]
    Window {
        /// Bridge.
        bdf: Bdf,
        /// Its window.
        window: IpaRange,
    },
    /// Two windows or BARs on one bus share an address.
    #[error("{first} and {second} overlap")]
    SameAddress {
        /// One.
        first: IpaRange,
        /// The other.
        second: IpaRange,
    },
    /// A reserved region is not in RAM, or begins no page.
    #[error("region at {base:#x}, {len:#x} bytes")]
    Region {
        /// First byte.
        base: u64,
        /// Bytes.
        len: u64,
    },
    /// The class code has more than 24 bits.
    #[error("{bdf}: class code {class_code:#x}")]
    ClassCode {
        /// Function.
        bdf: Bdf,
        /// Its class code.
        class_code: u32,
    },
    /// A BAR has a bad number, is used twice, misaligned, too small, or outside the windows of the bridge above.
    #[error("{bdf}: BAR {index}")]
    Bar {
        /// Function.
        bdf: Bdf,
        /// BAR number.
        index: u8,
    },
    /// MSI-X pages outside their BAR.
    #[error("{bdf}: MSI-X pages of BAR {bar}")]
    MsixPages {
        /// Function.
        bdf: Bdf,
        /// BAR number.
        bar: u8,
    },
    /// A name that the tree's format does not allow: our bug.
    #[error("a node or property name is invalid")]
    Name,
}

/// Where the ramdisk lies: `[start, end)`, any alignment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ramdisk {
    /// First byte.
    pub start: u64,
    /// Behind the last byte.
    pub end: u64,
}

/// Memory that the payload reads and never uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region<'a> {
    /// Name of the node, and what the names of its two properties begin with.
    pub name: &'a str,
    /// How a reader finds it.
    pub compatible: &'a str,
    /// First byte; begins a page.
    pub base: u64,
    /// Bytes; the rest of the last page belongs to it as well.
    pub len: u64,
}

/// What the payload is told of the decisions as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handoff<'a> {
    /// Summary, one word or line.
    pub verdict: &'a str,
    /// Number of functions in mode `run`.
    pub accepted: u32,
    /// Number of functions in mode `pin`.
    pub pinned: u32,
    /// Number of functions in mode `shared`.
    pub shared: u32,
    /// Digest of the encoded policy, and its security version number; `None`: there is no policy, and no device.
    pub policy: Option<(Digest, u64)>,
}

/// All that goes into the payload's tree.
#[derive(Clone, Debug)]
pub struct PayloadTree<'a> {
    /// The host's tree.
    pub host: &'a Tree,
    /// What was read from it.
    pub machine: &'a Machine,
    /// How many processors the payload gets: the first ones of the host's tree. At least one.
    pub num_cpus: usize,
    /// Memory that the payload must leave alone; inside `ram`.
    pub regions: &'a [Region<'a>],
    /// RAM that the RMM confirmed; inside the machine's.
    pub ram: &'a [IpaRange],
    /// Command line without NUL.
    pub bootargs: &'a [u8],
    /// Ramdisk.
    pub ramdisk: Option<Ramdisk>,
    /// Seed for the kernel's random pool; leave out (and `kaslr_seed`) for the measured form.
    pub rng_seed: Option<&'a [u8]>,
    /// Seed for the kernel's placement.
    pub kaslr_seed: Option<u64>,
    /// Bridges, each behind the one above it; those that lead to no function of `functions` are not shown.
    pub bridges: &'a [BridgeNode],
    /// Functions to show, each once.
    pub functions: &'a [FunctionNode<'a>],
    /// Devices besides PCI to show.
    pub emulated: &'a [EmulatedNode<'a>],
    /// Summary.
    pub handoff: Handoff<'a>,
    /// The payload has our OS half: give it the bridge that only the half binds to.
    pub os_half: bool,
}

impl PayloadTree<'_> {
    /// Builds the blob; it passes [`Tree::check`] unchanged.
    ///
    /// # Errors
    /// [`WriteError`].
    pub fn build(&self) -> Result<Vec<u8>, WriteError> {
        self.check_ram()?;
        self.check_counts()?;
        let reader = self.host.reader()?;
        let mut nodes = Nodes::find(&reader)?;
        let mut tree = Builder::new();
        tree.cells("#address-cells", &[2]);
        tree.cells("#size-cells", &[2]);
        tree.text("compatible", "linux,dummy-virt")?;
        tree.text("model", "Arm CCA realm")?;
        copy(&mut tree, nodes.root, &["interrupt-parent"])?;
        if self.machine.pci.dma_coherent {
            tree.bytes("dma-coherent", &[]);
        }
        self.chosen(&mut tree)?;
        self.memory(&mut tree)?;
        self.reserved(&mut tree)?;
        self.cpus(&mut tree)?;
        self.gic(&mut tree, &nodes)?;
        timer(&mut tree, &nodes)?;
        psci(&mut tree)?;
        for device in self.emulated {
            device.add_clocks(&mut nodes)?;
        }
        for (i, clock) in nodes.clocks.iter().enumerate() {
            fixed_clock(&mut tree, i, *clock)?;
        }
        if let (Some(console), Some(node)) = (&self.machine.console, nodes.console) {
            uart(&mut tree, console, node)?;
        }
        self.pci_host(&mut tree, &nodes)?;
        for device in self.emulated {
            device.write(&mut tree, &nodes)?;
        }
        let blob = tree.finish()?;
        match Tree::check(&blob) {
            Ok(_) => Ok(blob),
            Err(FdtError::BadNodeName(_) | FdtError::BadPropertyName(_)) => Err(WriteError::Name),
            Err(error) => Err(error.into()),
        }
    }

    fn chosen(&self, tree: &mut Builder) -> Result<(), WriteError> {
        if self.bootargs.len() > MAX_BOOTARGS {
            return Err(WriteError::CommandLineTooLong(self.bootargs.len()));
        }
        if let Some(at) = self.bootargs.iter().position(|b| *b == 0) {
            return Err(WriteError::CommandLineNul(at));
        }
        tree.begin(format_args!("chosen"));
        tree.bytes("bootargs", &[self.bootargs, &[0]].concat());
        if let Some(console) = &self.machine.console {
            tree.text("stdout-path", &format!("/serial@{:x}", console.address))?;
        }
        if let Some(Ramdisk { start, end }) = self.ramdisk {
            let inside = |r: &IpaRange| r.base() <= start && end <= r.top();
            if start >= end || !self.ram.iter().any(inside) {
                return Err(WriteError::Ramdisk { start, end });
            }
            tree.wide("linux,initrd-start", &[start]);
            tree.wide("linux,initrd-end", &[end]);
        }
        tree.cells("linux,pci-probe-only", &[1]);
        if let Some(seed) = self.rng_seed {
            tree.bytes("rng-seed", seed);
        }
        if let Some(seed) = self.kaslr_seed {
            tree.wide("kaslr-seed", &[seed]);
        }
        tree.begin(format_args!("gatehouse"));
        tree.text("compatible", HANDOFF_COMPATIBLE)?;
        tree.cells("version", &[HANDOFF_VERSION]);
        tree.text("verdict", self.handoff.verdict)?;
        tree.cells("accepted", &[self.handoff.accepted]);
        tree.cells("pinned", &[self.handoff.pinned]);
        tree.cells("shared", &[self.handoff.shared]);
        tree.cells("emulated", &[u32::try_from(self.emulated.len()).unwrap_or(u32::MAX)]);
        if let Some((id, svn)) = &self.handoff.policy {
            tree.text("policy-id", &alloc::format!("{id}"))?;
            tree.wide("policy-svn", &[*svn]);
        }
        tree.end();
        tree.end();
        Ok(())
    }

    fn check_ram(&self) -> Result<(), WriteError> {
        if self.ram.is_empty() || self.ram.len() > MAX_RAM {
            return Err(WriteError::Ram);
        }
        for (i, range) in self.ram.iter().enumerate() {
            let known = self.machine.ram.iter().any(|r| r.contains(range));
            let twice = self.ram.iter().skip(i.saturating_add(1)).any(|r| r.overlaps(range));
            if !known || twice {
                return Err(WriteError::RamRange(*range));
            }
        }
        Ok(())
    }

    fn check_counts(&self) -> Result<(), WriteError> {
        let count =
            |is: fn(&Mode<'_>) -> bool| self.functions.iter().filter(|function| is(&function.mode)).count();
        let run = count(|mode| matches!(mode, Mode::Run(_)));
        let pinned = count(|mode| matches!(mode, Mode::Pin(_)));
        let shared = count(|mode| matches!(mode, Mode::Shared));
        let said = [self.handoff.accepted, self.handoff.pinned, self.handoff.shared].map(usize::try_from);
        if said == [Ok(run), Ok(pinned), Ok(shared)] {
            Ok(())
        } else {
            Err(WriteError::Counts { run, pinned, shared })
        }
    }

    fn memory(&self, tree: &mut Builder) -> Result<(), WriteError> {
        for range in self.ram {
            tree.begin(format_args!("memory@{:x}", range.base()));
            tree.text("device_type", "memory")?;
            tree.ranges(&[*range]);
            tree.end();
        }
        Ok(())
    }

    fn reserved(&self, tree: &mut Builder) -> Result<(), WriteError> {
        tree.begin(format_args!("reserved-memory"));
        tree.cells("#address-cells", &[2]);
        tree.cells("#size-cells", &[2]);
        tree.bytes("ranges", &[]);
        for Region { name, compatible, base, len } in self.regions {
            let range = IpaRange::covering(*base, *len).ok();
            let range = range.filter(|range| self.ram.iter().any(|ram| ram.contains(range)));
            let range = range.ok_or(WriteError::Region { base: *base, len: *len })?;
            tree.begin(format_args!("{name}@{base:x}"));
            tree.text("compatible", compatible)?;
            tree.ranges(&[range]);
            tree.bytes("no-map", &[]);
            tree.wide(&format!("{name}-base"), &[*base]);
            tree.wide(&format!("{name}-size"), &[*len]);
            tree.end();
        }
        tree.end();
        Ok(())
    }

    fn cpus(&self, tree: &mut Builder) -> Result<(), WriteError> {
        tree.begin(format_args!("cpus"));
        tree.cells("#address-cells", &[2]);
        tree.cells("#size-cells", &[0]);
        for reg in self.machine.cpus.iter().take(self.num_cpus.max(1)) {
            tree.begin(format_args!("cpu@{reg:x}"));
            tree.text("device_type", "cpu")?;
            tree.text("compatible", "arm,armv8")?;
            tree.wide("reg", &[*reg]);
            tree.text("enable-method", "psci")?;
            tree.end();
        }
        tree.end();
        Ok(())
    }

    fn gic(&self, tree: &mut Builder, nodes: &Nodes<'_, '_>) -> Result<(), WriteError> {
        let gic = &self.machine.gic;
        let base = gic.regs.first().map_or(0, IpaRange::base);
        tree.begin(format_args!("interrupt-controller@{base:x}"));
        tree.text("compatible", "arm,gic-v3")?;
        tree.ranges(&gic.regs);
        tree.bytes("interrupt-controller", &[]);
        // The cells count for the entries of the bridge's interrupt-map: they stay as they are.
        copy(tree, nodes.gic, &["#interrupt-cells", "#address-cells", "#size-cells", "phandle"])?;
        copy(tree, nodes.gic, &["#redistributor-regions", "redistributor-stride"])?;
        if let (Some(regs), Some(its)) = (gic.its, nodes.its) {
            tree.bytes("ranges", &[]);
            tree.begin(format_args!("msi-controller@{:x}", regs.base()));
            tree.text("compatible", "arm,gic-v3-its")?;
            tree.ranges(&[regs]);
            tree.bytes("msi-controller", &[]);
            copy(tree, its, &["#msi-cells", "phandle"])?;
            flags(tree, its, &["dma-noncoherent"]);
            tree.end();
        }
        tree.end();
        Ok(())
    }

    fn pci_host(&self, tree: &mut Builder, nodes: &Nodes<'_, '_>) -> Result<(), WriteError> {
        let pci = &self.machine.pci;
        tree.begin(format_args!("pcie@{:x}", pci.ecam.base()));
        let compatible = if self.os_half { HALF_BRIDGE_COMPATIBLE } else { "pci-host-ecam-generic" };
        tree.text("compatible", compatible)?;
        tree.text("device_type", "pci")?;
        tree.cells("#address-cells", &[3]);
        tree.cells("#size-cells", &[2]);
        tree.ranges(&[pci.ecam]);
        tree.cells("bus-range", &[u32::from(pci.first_bus), u32::from(pci.last_bus)]);
        tree.cells("linux,pci-domain", &[pci.domain]);
        copy(tree, nodes.pci, &["ranges", "msi-map", "msi-parent"])?;
        // Without a map nobody checked the other two.
        if nodes.pci.property("interrupt-map").is_some() {
            copy(tree, nodes.pci, &["#interrupt-cells", "interrupt-map", "interrupt-map-mask"])?;
        }
        if pci.dma_coherent {
            tree.bytes("dma-coherent", &[]);
        }
        Fabric { host: pci, bridges: self.bridges, functions: self.functions }.write(tree)?;
        tree.end();
        Ok(())
    }
}

fn psci(tree: &mut Builder) -> Result<(), WriteError> {
    tree.begin(format_args!("psci"));
    tree.texts("compatible", &["arm,psci-1.0", "arm,psci-0.2"])?;
    tree.text("method", "smc")?;
    tree.end();
    Ok(())
}
