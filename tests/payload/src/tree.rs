//! The device tree: where it is, and readers of cells and strings.
//!
//! Trust: built by the firmware, which is under test but means well; a malformed tree may end in a panic line.

use crate::console::Registers;
use crate::cpu;
use crate::memory::Range;
use fdt::Fdt;
use fdt::node::FdtNode;

/// First word of a tree.
const MAGIC: u32 = 0xd00d_feed;
/// Most bytes of a tree: a Linux kernel maps 2 MiB.
const MAX_LEN: u32 = 2 * 1024 * 1024;
/// Most ranges of memory.
const MAX_MEMORY: usize = 64;

/// A node.
pub type Node<'t> = FdtNode<'t, 'static>;

/// The tree, where x0 said.
pub struct Tree {
    /// The reader.
    fdt: Fdt<'static>,
    /// The whole blob.
    pub blob: &'static [u8],
    memory: [Option<Range>; MAX_MEMORY],
}

impl Tree {
    /// Reads header and memory nodes at `address`; none if there is no tree, or one with more than [`MAX_MEMORY`] ranges.
    pub fn at(address: u64) -> Option<Self> {
        if address == 0 || !address.is_multiple_of(8) || u32::from_be(cpu::load32(address)) != MAGIC {
            return None;
        }
        let len = u32::from_be(cpu::load32(address + 4));
        if !(40..=MAX_LEN).contains(&len) {
            return None;
        }
        // SAFETY: by the boot protocol the tree is in memory that nothing writes any more; `checks` compares it with
        // the memory nodes. An address that is no memory would have ended in the vectors by now.
        let blob = unsafe { core::slice::from_raw_parts(address as *const u8, len as usize) };
        let mut tree = Self { fdt: Fdt::new(blob).ok()?, blob, memory: [None; MAX_MEMORY] };
        let mut memory = tree.memory;
        let mut slots = memory.iter_mut();
        for node in tree.top().filter(|node| text(*node, "device_type") == Some("memory")) {
            for range in ranges(node) {
                *slots.next()? = Some(range);
            }
        }
        tree.memory = memory;
        Some(tree)
    }

    /// Where the blob lies.
    pub fn range(&self) -> Range {
        let base = self.blob.as_ptr() as u64;
        Range { base, top: base + self.blob.len() as u64 }
    }

    /// Big-endian word of the blob at `offset`.
    pub fn word(&self, offset: u32) -> Option<u32> {
        let at = usize::try_from(offset).ok()?;
        cells(self.blob.get(at..at.checked_add(4)?)?).next()
    }

    /// Node at an absolute path.
    pub fn node(&self, path: &str) -> Option<Node<'_>> {
        self.fdt.find_node(path)
    }

    /// Children of the root.
    pub fn top(&self) -> impl Iterator<Item = Node<'_>> {
        self.node("/").into_iter().flat_map(Node::children)
    }

    /// First child of the root with this `compatible`.
    pub fn compatible(&self, name: &str) -> Option<Node<'_>> {
        self.top().find(|node| is_compatible(*node, name))
    }

    /// Tells whether a word stands on the command line.
    pub fn has_bootarg(&self, word: &str) -> bool {
        let chosen = self.node("/chosen");
        let bootargs = chosen.and_then(|node| text(node, "bootargs")).unwrap_or_default();
        bootargs.split_ascii_whitespace().any(|found| found == word)
    }

    /// The node of the console.
    pub fn stdout(&self) -> Option<Node<'_>> {
        let path = text(self.node("/chosen")?, "stdout-path")?;
        let path = path.split(':').next().unwrap_or(path);
        path.starts_with('/').then(|| self.node(path)).flatten()
    }

    /// The console's registers, if it is a PL011, or a 16550 with byte registers at distance 1.
    pub fn console(&self) -> Option<Registers> {
        let node = self.stdout()?;
        let is_16550 = is_compatible(node, "ns16550a");
        let is_plain = [("reg-shift", 0), ("reg-io-width", 1)]
            .iter()
            .all(|(name, plain)| number(node, name).is_none_or(|value| value == *plain));
        let is_known = is_compatible(node, "arm,pl011") || is_16550 && is_plain;
        ranges(node).next().filter(|_| is_known).map(|range| Registers { range, is_16550 })
    }

    /// Ranges of all memory nodes.
    pub fn memory(&self) -> impl Iterator<Item = Range> {
        self.memory.iter().map_while(|range| *range)
    }

    /// The memory reservation block.
    pub fn reservations(&self) -> impl Iterator<Item = Range> {
        self.fdt
            .memory_reservations()
            .filter_map(|entry| Range::new(entry.address() as u64, entry.size() as u64))
    }
}

/// The big-endian words of a value.
pub fn cells(value: &[u8]) -> impl Iterator<Item = u32> {
    value.as_chunks().0.iter().map(|chunk| u32::from_be_bytes(*chunk))
}

/// The 64-bit number in two cells.
pub fn double(cells: [u32; 2]) -> u64 {
    u64::from(cells[0]) << 32 | u64::from(cells[1])
}

/// The words of a property of exactly `N` cells.
pub fn array<const N: usize>(node: Node<'_>, name: &str) -> Option<[u32; N]> {
    let value = node.property(name)?.value;
    if value.len() != 4 * N {
        return None;
    }
    let mut out = [0; N];
    for (slot, cell) in out.iter_mut().zip(cells(value)) {
        *slot = cell;
    }
    Some(out)
}

/// A property of one cell.
pub fn number(node: Node<'_>, name: &str) -> Option<u32> {
    array::<1>(node, name).map(|[cell]| cell)
}

/// A property that is one terminated string, without its terminator.
pub fn text<'t>(node: Node<'t>, name: &str) -> Option<&'t str> {
    let (last, text) = node.property(name)?.value.split_last()?;
    (*last == 0 && !text.contains(&0)).then(|| core::str::from_utf8(text).ok()).flatten()
}

/// Returns whether `compatible` lists `name`.
pub fn is_compatible(node: Node<'_>, name: &str) -> bool {
    let list = node.property("compatible").map_or(&[][..], |property| property.value);
    list.split(|byte| *byte == 0).any(|entry| entry == name.as_bytes())
}

/// The ranges in `reg` of a child of the root: two cells for address and size each, as the firmware builds it.
pub fn ranges(node: Node<'_>) -> impl Iterator<Item = Range> {
    let value = node.property("reg").map_or(&[][..], |property| property.value);
    value.as_chunks::<16>().0.iter().filter_map(|entry| {
        let mut words = cells(entry);
        let mut next = || words.next().unwrap_or(0);
        Range::new(double([next(), next()]), double([next(), next()]))
    })
}
