//! The NVMe function as the hand-off nodes describe it (docs/handoff.md), and its config space.

use crate::memory::{PAGE_SIZE, Range};
use crate::tree::{self, Node, Tree};

/// NVM Express controller, NVM command set (PCI Code and ID Assignment).
const CLASS_NVME: u32 = 0x01_0802;
/// Most entries of `gatehouse,msix-pages` that are looked at.
const MAX_RUNS: usize = 8;
/// Mask of the space code in the first cell of a PCI address: memory below 4 GiB or 64-bit.
const SPACE: u32 = 0x0300_0000;
const SPACE_MEM32: u32 = 0x0200_0000;
const SPACE_MEM64: u32 = 0x0300_0000;

/// What is wrong with the nodes: the property or node that is missing or has another form or value.
#[derive(Clone, Copy)]
pub struct BadNode(pub &'static str);

/// Pages of a BAR that hold the MSI-X table or its pending bits.
#[derive(Clone, Copy)]
pub struct Run {
    /// BAR number.
    pub bar: u32,
    /// First page of the BAR.
    pub first: u32,
    /// Number of pages.
    pub count: u32,
}

/// The function.
#[derive(Clone)]
pub struct Function {
    /// Vendor id.
    pub vendor: u32,
    /// Device id.
    pub device: u32,
    /// Bus, device and function as in a routing id.
    pub routing_id: u32,
    /// Id for the RMM.
    pub vdev_id: u64,
    /// Lock, measurement and report nonce.
    pub nonces: [u64; 3],
    /// Memory BARs.
    pub bars: [Option<Range>; 6],
    /// Config space of the function, protected address.
    pub config: Range,
    runs: [Option<Run>; MAX_RUNS],
}

impl Function {
    /// Finds the hand-off node, the bridge, and the NVMe function under it.
    pub fn find(tree: &Tree) -> Result<Self, BadNode> {
        let handoff = tree.node("/chosen/gatehouse").ok_or(BadNode("/chosen/gatehouse"))?;
        if !tree::is_compatible(handoff, "gatehouse,handoff-v1") {
            return Err(BadNode("/chosen/gatehouse compatible"));
        }
        if tree::number(handoff, "version") != Some(1) {
            return Err(BadNode("/chosen/gatehouse version"));
        }
        if tree::text(handoff, "verdict").is_none_or(str::is_empty) {
            return Err(BadNode("/chosen/gatehouse verdict"));
        }
        let bridge = bridge(tree).ok_or(BadNode("PCI host bridge"))?;
        let is_run = |node: &Node<'_>| tree::text(*node, "gatehouse,mode") == Some("run");
        let num_run = bridge.children().filter(is_run).count();
        if tree::number(handoff, "accepted").is_none_or(|n| n as usize != num_run) {
            return Err(BadNode("/chosen/gatehouse accepted"));
        }
        let is_nvme = |node: &Node<'_>| tree::number(*node, "class-code") == Some(CLASS_NVME);
        let node = bridge.children().find(is_nvme).ok_or(BadNode("NVMe function node"))?;
        if !is_run(&node) {
            return Err(BadNode("gatehouse,mode"));
        }
        Self::read(bridge, node)
    }

    fn read(bridge: Node<'_>, node: Node<'_>) -> Result<Self, BadNode> {
        let number = |name| tree::number(node, name).ok_or(BadNode(name));
        let [hi, rest @ ..]: [u32; 5] = tree::array(node, "reg").ok_or(BadNode("reg"))?;
        if hi & 0xff00_00ff != 0 || rest != [0; 4] {
            return Err(BadNode("reg"));
        }
        let [bus, _] = tree::array(bridge, "bus-range").ok_or(BadNode("bus-range"))?;
        let ecam = tree::ranges(bridge).next().ok_or(BadNode("reg of the bridge"))?;
        let routing_id = hi >> 8;
        let config = (u64::from(routing_id).checked_sub(u64::from(bus) << 8))
            .and_then(|index| Range::new(ecam.base + index * PAGE_SIZE, PAGE_SIZE))
            .filter(|config| ecam.contains(config))
            .ok_or(BadNode("bus-range"))?;
        let vdev_id = tree::array(node, "gatehouse,vdev-id").ok_or(BadNode("gatehouse,vdev-id"))?;
        let [l1, l0, m1, m0, r1, r0] =
            tree::array(node, "gatehouse,nonces").ok_or(BadNode("gatehouse,nonces"))?;
        Ok(Self {
            vendor: number("vendor-id")?,
            device: number("device-id")?,
            routing_id,
            vdev_id: tree::double(vdev_id),
            nonces: [[l1, l0], [m1, m0], [r1, r0]].map(tree::double),
            bars: bars(node, hi).ok_or(BadNode("assigned-addresses"))?,
            config,
            runs: runs(node).ok_or(BadNode("gatehouse,msix-pages"))?,
        })
    }

    /// The digests of VCA, certificate chain, measurements and interface report in the node, those that are there.
    pub fn digests(tree: &Tree) -> [Option<&[u8]>; 4] {
        let is_nvme = |node: &Node<'_>| tree::number(*node, "class-code") == Some(CLASS_NVME);
        let node = bridge(tree).and_then(|bridge| bridge.children().find(is_nvme));
        ["vca", "certificate", "measurement", "report"].map(|what| {
            let name = |property: &str| {
                property.strip_prefix("gatehouse,").and_then(|name| name.strip_suffix("-digest"))
                    == Some(what)
            };
            Some(node?.properties().find(|property| name(property.name))?.value)
        })
    }

    /// First BAR: the controller registers.
    pub fn registers(&self) -> Option<Range> {
        let [first, ..] = self.bars;
        first
    }

    /// Returns whether the node calls this page of a BAR an MSI-X page.
    pub fn is_msix(&self, bar: usize, page: u64) -> bool {
        self.runs.iter().flatten().any(|run| {
            let first = u64::from(run.first);
            run.bar as usize == bar && first <= page && page - first < u64::from(run.count)
        })
    }

    /// Number of MSI-X pages.
    pub fn num_msix(&self) -> u64 {
        self.runs.iter().flatten().map(|run| u64::from(run.count)).sum()
    }
}

/// The bridge: the generic one, or the one of the OS half.
fn bridge(tree: &Tree) -> Option<Node<'_>> {
    tree.compatible("pci-host-ecam-generic").or_else(|| tree.compatible("gatehouse,pci-host-ecam"))
}

/// BARs of `assigned-addresses`: five cells each (IEEE 1275 PCI binding 2.1, section 2.2.1.1).
fn bars(node: Node<'_>, hi: u32) -> Option<[Option<Range>; 6]> {
    let value = node.property("assigned-addresses")?.value;
    let (entries, rest) = value.as_chunks::<20>();
    if entries.is_empty() || !rest.is_empty() {
        return None;
    }
    let mut bars = [None; 6];
    for entry in entries {
        let mut words = tree::cells(entry);
        let mut next = || words.next().unwrap_or(0);
        let phys = next();
        let range = Range::new(tree::double([next(), next()]), tree::double([next(), next()]))?;
        let index = (phys & 0xff).checked_sub(0x10)?;
        let memory = [SPACE_MEM32, SPACE_MEM64].contains(&(phys & SPACE));
        let whole = range.base.is_multiple_of(PAGE_SIZE) && range.len().is_multiple_of(PAGE_SIZE);
        if !index.is_multiple_of(4) || phys & 0x00ff_ff00 != hi || !memory || !whole {
            return None;
        }
        let slot = bars.get_mut((index / 4) as usize)?;
        if slot.replace(range).is_some() {
            return None;
        }
    }
    Some(bars)
}

/// Runs of `gatehouse,msix-pages`: BAR, first page, number of pages.
fn runs(node: Node<'_>) -> Option<[Option<Run>; MAX_RUNS]> {
    let value = node.property("gatehouse,msix-pages")?.value;
    let (entries, rest) = value.as_chunks::<12>();
    if entries.len() > MAX_RUNS || !rest.is_empty() {
        return None;
    }
    let mut runs = [None; MAX_RUNS];
    for (slot, entry) in runs.iter_mut().zip(entries) {
        let mut words = tree::cells(entry);
        let mut next = || words.next().unwrap_or(0);
        *slot = Some(Run { bar: next(), first: next(), count: next() });
    }
    Some(runs)
}
