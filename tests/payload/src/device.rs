//! The functions as the hand-off nodes describe them (docs/handoff.md).

use crate::memory::{PAGE_SIZE, Range};
use crate::tree::{self, Node, Tree};

/// Most entries of `gatehouse,msix-pages` that are looked at.
const MAX_RUNS: usize = 8;
/// Most bridges above a function.
const MAX_DEPTH: usize = 8;
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

/// How a function is handed over.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// In RUN, private.
    Run,
    /// Verified, then unlocked and quiet.
    Pin,
    /// Never locked.
    Shared,
}

/// What a function is, as far as we know registers of it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// NVM Express controller.
    Nvme,
    /// QEMU's educational device.
    Edu,
    /// Intel 82576, physical or virtual function.
    Igb,
    /// AHCI controller.
    Ahci,
    /// xHCI controller.
    Xhci,
    /// Anything else.
    Other,
}

impl Kind {
    /// Tells by vendor, device and class code (PCI Code and ID Assignment 1.11, section 1).
    fn of(vendor: u32, device: u32, class: u32) -> Self {
        match (vendor, device, class) {
            (_, _, 0x01_0802) => Self::Nvme,
            (_, _, 0x01_0601) => Self::Ahci,
            (_, _, 0x0c_0330) => Self::Xhci,
            (0x1234, 0x11e8, _) => Self::Edu,
            (0x8086, 0x10c9 | 0x10ca, _) => Self::Igb,
            _ => Self::Other,
        }
    }
}

/// What only a function in mode `run` has.
#[derive(Clone, Copy)]
pub struct Accepted {
    /// Lock, measurement and report nonce.
    pub nonces: [u64; 3],
}

/// A function.
#[derive(Clone)]
pub struct Function {
    /// Vendor id.
    pub vendor: u32,
    /// Device id.
    pub device: u32,
    /// What it is.
    pub kind: Kind,
    /// Bus, device and function.
    pub routing_id: u32,
    /// How it is handed over.
    pub mode: Mode,
    /// Id for the RMM, in modes `run` and `pin`.
    pub vdev_id: Option<u64>,
    /// In mode `run`.
    pub accepted: Option<Accepted>,
    /// Memory BARs.
    pub bars: [Option<Range>; 6],
    /// Config space of the function, protected address.
    pub config: Range,
    runs: [Option<Run>; MAX_RUNS],
}

/// What the nodes come to.
#[derive(Clone, Copy, Default)]
pub struct Totals {
    /// Functions in mode `run`.
    pub run: u32,
    /// Functions in mode `pin`.
    pub pinned: u32,
    /// Functions in mode `shared`.
    pub shared: u32,
    /// Bridges.
    pub bridges: u32,
}

/// The bus that children stand on.
#[derive(Clone, Copy)]
struct Bus<'t> {
    number: u32,
    /// The bridge to it; none on the root bus.
    bridge: Option<Node<'t>>,
    depth: usize,
}

/// Reads the nodes below the host bridge.
pub struct Nodes<'t> {
    host: Node<'t>,
    ecam: Range,
    first_bus: u32,
}

impl<'t> Nodes<'t> {
    /// Finds the host bridge: the generic one, or the one of the OS half.
    pub fn find(tree: &'t Tree) -> Result<Self, BadNode> {
        let host = tree
            .compatible("pci-host-ecam-generic")
            .or_else(|| tree.compatible("gatehouse,pci-host-ecam"))
            .ok_or(BadNode("PCI host bridge"))?;
        let [first_bus, _] = tree::array(host, "bus-range").ok_or(BadNode("bus-range"))?;
        let ecam = tree::ranges(host).next().ok_or(BadNode("reg of the host bridge"))?;
        Ok(Self { host, ecam, first_bus })
    }

    /// Calls `visit` for each function, bus by bus; counts.
    pub fn each(&self, visit: &mut dyn FnMut(&Function, Node<'t>)) -> Result<Totals, BadNode> {
        let mut totals = Totals::default();
        self.bus(self.host, Bus { number: self.first_bus, bridge: None, depth: 0 }, &mut totals, visit)?;
        Ok(totals)
    }

    fn bus(
        &self,
        parent: Node<'t>,
        bus: Bus<'t>,
        totals: &mut Totals,
        visit: &mut dyn FnMut(&Function, Node<'t>),
    ) -> Result<(), BadNode> {
        for node in parent.children() {
            let Some(mode) = tree::text(node, "gatehouse,mode") else {
                totals.bridges += 1;
                let below = self.bridge(node, &bus)?;
                self.bus(node, below, totals, visit)?;
                continue;
            };
            let mode = match mode {
                "run" => Mode::Run,
                "pin" => Mode::Pin,
                "shared" => Mode::Shared,
                _ => return Err(BadNode("gatehouse,mode")),
            };
            match mode {
                Mode::Run => totals.run += 1,
                Mode::Pin => totals.pinned += 1,
                Mode::Shared => totals.shared += 1,
            }
            visit(&self.function(node, mode, &bus)?, node);
        }
        Ok(())
    }

    /// Routing id of a node, which must be on the bus that its parent leads to.
    fn routing_id(&self, node: Node<'t>, bus: &Bus<'t>) -> Result<u32, BadNode> {
        let [hi, rest @ ..]: [u32; 5] = tree::array(node, "reg").ok_or(BadNode("reg"))?;
        if hi & 0xff00_00ff != 0 || rest != [0; 4] || hi >> 16 != bus.number {
            return Err(BadNode("reg"));
        }
        Ok(hi >> 8)
    }

    /// Checks a bridge: its windows lie in those of the bridge above.
    fn bridge(&self, node: Node<'t>, bus: &Bus<'t>) -> Result<Bus<'t>, BadNode> {
        self.routing_id(node, bus)?;
        let [number, last] = tree::array(node, "bus-range").ok_or(BadNode("bus-range of a bridge"))?;
        let is_bridge = tree::text(node, "device_type") == Some("pci")
            && tree::number(node, "#address-cells") == Some(3)
            && tree::number(node, "#size-cells") == Some(2)
            && tree::number(node, "class-code").is_some_and(|class| class >> 8 == 0x0604);
        if !is_bridge || number <= bus.number || last < number || bus.depth >= MAX_DEPTH {
            return Err(BadNode("bridge"));
        }
        for window in windows(node) {
            let window = window.ok_or(BadNode("ranges of a bridge"))?;
            if !fits(bus.bridge, &window) {
                return Err(BadNode("a bridge's window is outside the one above"));
            }
        }
        Ok(Bus { number, bridge: Some(node), depth: bus.depth + 1 })
    }

    fn function(&self, node: Node<'t>, mode: Mode, bus: &Bus<'t>) -> Result<Function, BadNode> {
        let number = |name| tree::number(node, name).ok_or(BadNode(name));
        let routing_id = self.routing_id(node, bus)?;
        let config = (u64::from(routing_id).checked_sub(u64::from(self.first_bus) << 8))
            .and_then(|index| Range::new(self.ecam.base + index * PAGE_SIZE, PAGE_SIZE))
            .filter(|config| self.ecam.contains(config))
            .ok_or(BadNode("bus-range"))?;
        if tree::text(node, "gatehouse,rule").is_none_or(str::is_empty) {
            return Err(BadNode("gatehouse,rule"));
        }
        if let Some(what) = stray(node, mode) {
            return Err(BadNode(what));
        }
        let vdev_id = tree::array(node, "gatehouse,vdev-id").map(tree::double);
        let accepted = match mode {
            Mode::Run => Some(accepted(node)?),
            Mode::Pin | Mode::Shared => None,
        };
        if mode != Mode::Shared && vdev_id.is_none() {
            return Err(BadNode("gatehouse,vdev-id"));
        }
        let (vendor, device) = (number("vendor-id")?, number("device-id")?);
        let bars = bars(node, routing_id << 8, mode).ok_or(BadNode("assigned-addresses"))?;
        if !bars.iter().flatten().all(|bar| fits(bus.bridge, bar)) {
            return Err(BadNode("a BAR is outside the bridge's windows"));
        }
        Ok(Function {
            vendor,
            device,
            kind: Kind::of(vendor, device, number("class-code")?),
            routing_id,
            mode,
            vdev_id,
            accepted,
            bars,
            config,
            runs: runs(node, mode).ok_or(BadNode("gatehouse,msix-pages"))?,
        })
    }
}

/// The digests of VCA, certificate chain, measurements and interface report in a node, those that are there.
pub fn digests(node: Node<'_>) -> [Option<&[u8]>; 4] {
    ["vca", "certificate", "measurement", "report"].map(|what| {
        let name = |property: &str| {
            property.strip_prefix("gatehouse,").and_then(|name| name.strip_suffix("-digest")) == Some(what)
        };
        Some(node.properties().find(|property| name(property.name))?.value)
    })
}

impl Function {
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

    /// The pages that hold the registers which the checks use.
    pub fn registers(&self) -> Option<Range> {
        let (index, len) = match self.kind {
            // Capabilities and doorbells; the MSI-X table lies behind them.
            Kind::Nvme => (0, 2 * PAGE_SIZE),
            Kind::Ahci => (5, PAGE_SIZE),
            _ => (0, PAGE_SIZE),
        };
        let bar = match self.kind {
            Kind::Other => self.bars.iter().flatten().next().copied(),
            _ => self.bars.get(index).copied().flatten(),
        };
        Range::new(bar?.base, len).filter(|range| bar.is_some_and(|bar| bar.contains(range)))
    }
}

/// Names what a function of this mode must not say: nonces and digests are those of one lock, pins those of a device that
/// the payload locks itself, and of a shared function nothing is known.
fn stray(node: Node<'_>, mode: Mode) -> Option<&'static str> {
    let has = |of: fn(&str) -> bool| node.properties().any(|property| of(property.name));
    let has_lock = has(|name| name == "gatehouse,nonces" || name.ends_with("-digest"));
    let has_pins = has(|name| name.starts_with("gatehouse,pin-"));
    let has_id = has(|name| name == "gatehouse,vdev-id");
    match mode {
        Mode::Run if has_pins => Some("pins of a function in mode run"),
        Mode::Pin if has_lock => Some("nonces or digests of a pinned function"),
        Mode::Shared if has_lock || has_pins || has_id => Some("evidence of a shared function"),
        _ => None,
    }
}

fn accepted(node: Node<'_>) -> Result<Accepted, BadNode> {
    let [l1, l0, m1, m0, r1, r0] =
        tree::array(node, "gatehouse,nonces").ok_or(BadNode("gatehouse,nonces"))?;
    let nonces = [[l1, l0], [m1, m0], [r1, r0]].map(tree::double);
    Ok(Accepted { nonces })
}

/// Windows of a bridge: entries of eight cells, child address, the same parent address, length.
fn windows(node: Node<'_>) -> impl Iterator<Item = Option<Range>> {
    let value = node.property("ranges").map_or(&[][..], |property| property.value);
    let whole = value.len().is_multiple_of(32);
    value.as_chunks::<32>().0.iter().map(move |entry| {
        let mut words = tree::cells(entry);
        let mut next = || words.next().unwrap_or(0);
        let child = [next(), next(), next()];
        let parent = [next(), next(), next()];
        let [space, hi, lo] = child;
        let memory = [SPACE_MEM32, SPACE_MEM64].contains(&(space & SPACE));
        let range = Range::new(tree::double([hi, lo]), tree::double([next(), next()]));
        range.filter(|_| whole && memory && child == parent)
    })
}

/// Returns whether a range lies in one window of the bridge; anywhere on the root bus.
fn fits(bridge: Option<Node<'_>>, range: &Range) -> bool {
    bridge.is_none_or(|bridge| windows(bridge).flatten().any(|window| window.contains(range)))
}

/// BARs of `assigned-addresses`: five cells each (IEEE 1275 PCI binding 2.1, section 2.2.1.1). A private one has whole
/// pages; another function need not have any.
fn bars(node: Node<'_>, hi: u32, mode: Mode) -> Option<[Option<Range>; 6]> {
    let mut bars = [None; 6];
    let Some(property) = node.property("assigned-addresses") else {
        return (mode != Mode::Run).then_some(bars);
    };
    let (entries, rest) = property.value.as_chunks::<20>();
    if entries.is_empty() || !rest.is_empty() {
        return None;
    }
    for entry in entries {
        let mut words = tree::cells(entry);
        let mut next = || words.next().unwrap_or(0);
        let phys = next();
        let range = Range::new(tree::double([next(), next()]), tree::double([next(), next()]))?;
        let index = (phys & 0xff).checked_sub(0x10)?;
        let memory = [SPACE_MEM32, SPACE_MEM64].contains(&(phys & SPACE));
        let whole = mode != Mode::Run || range.len().is_multiple_of(PAGE_SIZE);
        if !index.is_multiple_of(4) || phys & 0x00ff_ff00 != hi || !memory {
            return None;
        }
        if !whole || !range.base.is_multiple_of(PAGE_SIZE) {
            return None;
        }
        let slot = bars.get_mut((index / 4) as usize)?;
        if slot.replace(range).is_some() {
            return None;
        }
    }
    Some(bars)
}

/// Runs of `gatehouse,msix-pages`: BAR, first page, number of pages. A pinned function has none: whoever locks it again
/// reads its report again.
fn runs(node: Node<'_>, mode: Mode) -> Option<[Option<Run>; MAX_RUNS]> {
    if mode == Mode::Pin {
        return node.property("gatehouse,msix-pages").is_none().then_some([None; MAX_RUNS]);
    }
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
