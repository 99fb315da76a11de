//! The checks, in the order of their `RESULT` lines. Each one stands alone: what it needs, it checks again.

use crate::console::{self, Failed, Note};
use crate::device::{BadNode, Function};
use crate::entry::{self, BootRegisters};
use crate::memory::{ANSWER, PAGE_SIZE, Range};
use crate::mmio::Mmio;
use crate::nvme::Controller;
use crate::pci::Config;
use crate::rsi::{self, Realm, Ripas};
use crate::tree::Tree;
use crate::tree_check;
use aarch64_cpu::registers::{CurrentEL, DAIF, Readable, SCTLR_EL1};

/// Longest BAR that is checked page by page, in pages.
const MAX_PAGES: u64 = 65_536;
/// Bytes of an MSI-X table entry, and offset of its data word.
const MSIX_ENTRY: u64 = 16;
const MSIX_DATA: u64 = 8;

type Outcome = Result<(), Failed>;
type Check = fn(&Context<'_>, &mut Note) -> Outcome;

const CHECKS: [(&str, Check); 12] = [
    ("registers", registers),
    ("mmu-off", mmu_off),
    ("el1-and-masked", el1_and_masked),
    ("tree", tree_check::run),
    ("handoff-nodes", handoff_nodes),
    ("ram-ripas", ram_ripas),
    ("vdev-started", vdev_started),
    ("bar-ripas", bar_ripas),
    ("private-mmio", private_mmio),
    ("msix-via-alias", msix_via_alias),
    ("nvme-identify", nvme_identify),
    ("left-idle", left_idle),
];

/// What the checks look at.
pub struct Context<'a> {
    registers: &'a BootRegisters,
    realm: Option<Realm>,
    /// The tree.
    pub tree: &'a Tree,
    function: Result<Function, BadNode>,
}

impl<'a> Context<'a> {
    /// Reads the hand-off nodes.
    pub fn new(registers: &'a BootRegisters, realm: Option<Realm>, tree: &'a Tree) -> Self {
        Self { registers, realm, tree, function: Function::find(tree) }
    }

    fn realm(&self, note: &mut Note) -> Result<&Realm, Failed> {
        match &self.realm {
            Some(realm) => Ok(realm),
            None => note.fail(format_args!("no RSI: not in a realm")),
        }
    }

    fn function(&self, note: &mut Note) -> Result<&Function, Failed> {
        match &self.function {
            Ok(function) => Ok(function),
            Err(BadNode(what)) => note.fail(format_args!("missing or bad: {what}")),
        }
    }

    /// The controller registers through the protected address; touches nothing that would fault.
    fn controller(&self, note: &mut Note) -> Result<Controller, Failed> {
        let (realm, function) = (self.realm(note)?, self.function(note)?);
        let Some(bar) = function.registers().filter(|bar| bar.len() >= 2 * PAGE_SIZE) else {
            return note.fail(format_args!("no BAR for the controller registers"));
        };
        let range = Range { base: bar.base, top: bar.base + 2 * PAGE_SIZE };
        if let Err(error) = realm.expect(&range, Ripas::Dev) {
            return note.fail(format_args!("registers are not DEV: {error}"));
        }
        match Mmio::new(range, self.tree) {
            Some(mmio) => Ok(Controller(mmio)),
            None => note.fail(format_args!("the BAR lies in RAM")),
        }
    }

    /// Config space through the alias.
    fn config(&self, note: &mut Note) -> Result<Config, Failed> {
        let (realm, function) = (self.realm(note)?, self.function(note)?);
        match Mmio::new(realm.alias(function.config), self.tree) {
            Some(mmio) => Ok(Config(mmio)),
            None => note.fail(format_args!("config space lies in RAM")),
        }
    }
}

/// Prints the first line, then runs every check and prints its result.
pub fn run(context: &Context<'_>) {
    let image = entry::image();
    let (major, minor) = context.realm.as_ref().map_or((0, 0), |realm| realm.version);
    console::print(format_args!(
        "gatehouse demo payload {}: image {:#x}..{:#x}, tree {:#x}, RSI {major}.{minor}, IPA width {}\n",
        env!("CARGO_PKG_VERSION"),
        image.base,
        image.top,
        context.registers.x[0],
        context.realm.as_ref().map_or(0, |realm| realm.width),
    ));
    for (name, check) in CHECKS {
        let mut note = Note::new();
        let word = if check(context, &mut note).is_ok() { "pass" } else { "fail" };
        let space = if note.text().is_empty() { "" } else { " " };
        console::print(format_args!("RESULT {name} {word}{space}{}\n", note.text()));
    }
}

/// Linux boot protocol: x0 = tree, x1 to x3 zero; ours: x4 to x30 zero too.
fn registers(context: &Context<'_>, note: &mut Note) -> Outcome {
    let [tree, rest @ ..] = &context.registers.x;
    for (i, value) in rest.iter().enumerate() {
        if *value != 0 {
            return note.fail(format_args!("x{} = {value:#x}", i + 1));
        }
    }
    let blob = context.tree.range();
    if *tree != blob.base || !tree.is_multiple_of(8) {
        return note.fail(format_args!("x0 = {tree:#x}"));
    }
    if !context.tree.memory().any(|ram| ram.contains(&blob)) {
        return note.fail(format_args!("the tree is outside the memory nodes"));
    }
    if context.registers.sp != 0 {
        return note.fail(format_args!("sp = {:#x}", context.registers.sp));
    }
    Ok(())
}

/// MMU and data cache are off.
fn mmu_off(_: &Context<'_>, note: &mut Note) -> Outcome {
    if SCTLR_EL1.is_set(SCTLR_EL1::M) || SCTLR_EL1.is_set(SCTLR_EL1::C) {
        return note.fail(format_args!("SCTLR_EL1 = {:#x}", SCTLR_EL1.get()));
    }
    Ok(())
}

/// EL1, all interrupts masked.
fn el1_and_masked(_: &Context<'_>, note: &mut Note) -> Outcome {
    if !CurrentEL.matches_all(CurrentEL::EL::EL1) {
        return note.fail(format_args!("CurrentEL = {:#x}", CurrentEL.get()));
    }
    let masked = DAIF::D::Masked + DAIF::A::Masked + DAIF::I::Masked + DAIF::F::Masked;
    if !DAIF.matches_all(masked) {
        return note.fail(format_args!("DAIF = {:#x}", DAIF.get()));
    }
    Ok(())
}

/// The nodes of the contract with the OS.
fn handoff_nodes(context: &Context<'_>, note: &mut Note) -> Outcome {
    let function = context.function(note)?;
    let Some(bar) = function.registers() else {
        return note.fail(format_args!("no BAR 0 in assigned-addresses"));
    };
    let inside = |border: u64| function.bars.iter().flatten().all(|bar| bar.top <= border);
    if context.realm.as_ref().is_some_and(|realm| !inside(realm.border())) {
        return note.fail(format_args!("a BAR is not protected"));
    }
    note.say(format_args!(
        "{:02x}:{:02x}.{} {:04x}:{:04x} vdev {:#x} bar0 {:#x}+{:#x}",
        function.routing_id >> 8,
        function.routing_id >> 3 & 0x1f,
        function.routing_id & 7,
        function.vendor,
        function.device,
        function.vdev_id,
        bar.base,
        bar.len(),
    ));
    Ok(())
}

/// All RAM that the tree gives us is RAM for the RMM, but what it reserves; our image lies in it and is not reserved.
fn ram_ripas(context: &Context<'_>, note: &mut Note) -> Outcome {
    let realm = context.realm(note)?;
    let image = entry::image();
    if let Err(error) = realm.expect(&image, Ripas::Ram) {
        return note.fail(format_args!("image: {error}"));
    }
    if !context.tree.memory().any(|ram| ram.contains(&image)) {
        return note.fail(format_args!("the image is outside the memory nodes"));
    }
    let mut total = 0;
    for ram in context.tree.memory() {
        if ram.top > realm.border() {
            return note.fail(format_args!("{:#x}..{:#x} is not protected", ram.base, ram.top));
        }
        let mut base = ram.base;
        while base < ram.top {
            let reserved = context.tree.reservations().find(|r| r.base <= base && base < r.top);
            if let Some(reserved) = reserved {
                base = reserved.top;
                continue;
            }
            let next = context.tree.reservations().map(|r| r.base).filter(|start| *start > base).min();
            let top = next.unwrap_or(ram.top).min(ram.top);
            if let Err(error) = realm.expect(&Range { base, top }, Ripas::Ram) {
                return note.fail(format_args!("memory {base:#x}..{top:#x}: {error}"));
            }
            total += top - base;
            base = top;
        }
    }
    note.say(format_args!("{} MiB", total >> 20));
    Ok(())
}

/// The RMM says that the device is in RUN, under the nonces and digests of the node.
fn vdev_started(context: &Context<'_>, note: &mut Note) -> Outcome {
    let (realm, function) = (context.realm(note)?, context.function(note)?);
    let info = match realm.vdev_info(function.vdev_id) {
        Ok(info) => info,
        Err(error) => return note.fail(format_args!("RSI_VDEV_GET_INFO: {error}")),
    };
    if info.state != rsi::STATE_STARTED {
        return note.fail(format_args!("state {}", info.state));
    }
    if info.nonces != function.nonces {
        let ([a, b, c], [x, y, z]) = (info.nonces, function.nonces);
        return note.fail(format_args!("nonces {a:#x} {b:#x} {c:#x}, node {x:#x} {y:#x} {z:#x}"));
    }
    let mut compared = 0;
    for (offset, digest) in rsi::INFO_DIGESTS.into_iter().zip(Function::digests(context.tree)) {
        let Some(digest) = digest else { continue };
        if digest.is_empty() || digest.len() > 64 {
            return note.fail(format_args!("digest of {} bytes", digest.len()));
        }
        if (offset..).zip(digest).any(|(at, byte)| ANSWER.byte(at) != *byte) {
            return note.fail(format_args!("digest at {offset:#x} differs from the node"));
        }
        compared += 1;
    }
    note.say(format_args!("nonces and {compared} digests equal, hash algorithm {}", info.hash_algorithm));
    Ok(())
}

/// Every page of every BAR is DEV, but the MSI-X pages, which are EMPTY.
fn bar_ripas(context: &Context<'_>, note: &mut Note) -> Outcome {
    let (realm, function) = (context.realm(note)?, context.function(note)?);
    let (mut dev, mut empty) = (0, 0);
    for (index, bar) in function.bars.iter().enumerate() {
        let Some(bar) = bar else { continue };
        let pages = bar.len() / PAGE_SIZE;
        if pages > MAX_PAGES {
            return note.fail(format_args!("BAR {index} has {pages} pages"));
        }
        for page in 0..pages {
            let is_msix = function.is_msix(index, page);
            let want = if is_msix { Ripas::Empty } else { Ripas::Dev };
            let base = bar.base + page * PAGE_SIZE;
            if let Err(error) = realm.expect(&Range { base, top: base + PAGE_SIZE }, want) {
                return note.fail(format_args!("BAR {index} page {page}: {error}"));
            }
            if is_msix { empty += 1 } else { dev += 1 }
        }
    }
    if dev == 0 || empty != function.num_msix() {
        return note.fail(format_args!("{dev} DEV, {empty} EMPTY, {} MSI-X", function.num_msix()));
    }
    note.say(format_args!("{dev} DEV, {empty} EMPTY"));
    Ok(())
}

/// The registers answer through the protected address, and the firmware left the controller disabled.
fn private_mmio(context: &Context<'_>, note: &mut Note) -> Outcome {
    let controller = context.controller(note)?;
    let (cap, vs) = controller.capabilities();
    if cap == 0 || cap == u64::MAX || !(0x1_0000..=0xffff_ffff - 1).contains(&vs) {
        return note.fail(format_args!("CAP {cap:#x} VS {vs:#x}"));
    }
    if !controller.is_idle() {
        let (cc, csts) = controller.state();
        return note.fail(format_args!("not idle: CC {cc:#x} CSTS {csts:#x}"));
    }
    note.say(format_args!("CAP {cap:#x} VS {vs:#x}"));
    Ok(())
}

/// The MSI-X table, where config space has it, is in an MSI-X page and works through the alias.
fn msix_via_alias(context: &Context<'_>, note: &mut Note) -> Outcome {
    let (realm, function) = (context.realm(note)?, context.function(note)?);
    let config = context.config(note)?;
    if config.ids() != (function.vendor, function.device) {
        let (vendor, device) = config.ids();
        return note.fail(format_args!("ids in config space: {vendor:04x}:{device:04x}"));
    }
    if !config.is_active() {
        return note.fail(format_args!("memory decode or bus mastering is off"));
    }
    let interrupts = config.interrupts();
    if interrupts.enabled {
        return note.fail(format_args!("MSI or MSI-X is enabled"));
    }
    let Some((index, offset, entries)) = interrupts.table else {
        if function.num_msix() != 0 {
            return note.fail(format_args!("MSI-X pages, but no MSI-X capability"));
        }
        note.say(format_args!("no MSI-X"));
        return Ok(());
    };
    let Some(bar) = function.bars.get(index).copied().flatten() else {
        return note.fail(format_args!("MSI-X table in BAR {index}"));
    };
    let last = offset + (u64::from(entries) - 1) * MSIX_ENTRY;
    let page = Range::new(bar.base + offset / PAGE_SIZE * PAGE_SIZE, PAGE_SIZE);
    let Some(page) = page.filter(|page| bar.contains(page)) else {
        return note.fail(format_args!("MSI-X table at {offset:#x}"));
    };
    for at in [offset, last] {
        if !function.is_msix(index, at / PAGE_SIZE) {
            return note.fail(format_args!("MSI-X table at {at:#x} is in no MSI-X page"));
        }
    }
    if let Err(error) = realm.expect(&page, Ripas::Empty) {
        return note.fail(format_args!("page of the table: {error}"));
    }
    let Some(mmio) = Mmio::new(realm.alias(page), context.tree) else {
        return note.fail(format_args!("the alias of the table lies in RAM"));
    };
    let data = offset % PAGE_SIZE + MSIX_DATA;
    let before = mmio.read(data);
    for pattern in [0x5aa5_1234, 0xa55a_edcb] {
        mmio.write(data, pattern);
        let found = mmio.read(data);
        if found != pattern {
            return note.fail(format_args!("data of vector 0: wrote {pattern:#x}, read {found:#x}"));
        }
    }
    mmio.write(data, before);
    note.say(format_args!("{entries} vectors, BAR {index} offset {offset:#x}"));
    Ok(())
}

/// A command works with queues and data in private memory.
fn nvme_identify(context: &Context<'_>, note: &mut Note) -> Outcome {
    let function = context.function(note)?;
    let identity = match context.controller(note)?.identify() {
        Ok(identity) => identity,
        Err(error) => return note.fail(format_args!("{error}")),
    };
    if context.config(note)?.interrupts().enabled {
        return note.fail(format_args!("MSI or MSI-X is enabled"));
    }
    if identity.vendor != function.vendor {
        return note.fail(format_args!("vendor {:#x}", identity.vendor));
    }
    let (serial, model) = (identity.serial.trim_ascii(), identity.model.trim_ascii());
    let printable = |text: &[u8]| text.iter().all(|byte| *byte == b' ' || byte.is_ascii_graphic());
    if serial.is_empty() || model.is_empty() || !printable(serial) || !printable(model) {
        return note.fail(format_args!(
            "serial \"{}\" model \"{}\"",
            serial.escape_ascii(),
            model.escape_ascii()
        ));
    }
    note.say(format_args!("serial \"{}\" model \"{}\"", serial.escape_ascii(), model.escape_ascii()));
    Ok(())
}

/// We leave the controller as we found it.
fn left_idle(context: &Context<'_>, note: &mut Note) -> Outcome {
    let controller = context.controller(note)?;
    if !controller.is_idle() {
        let (cc, csts) = controller.state();
        return note.fail(format_args!("CC {cc:#x} CSTS {csts:#x}"));
    }
    Ok(())
}
