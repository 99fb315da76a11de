//! The checks of registers, tree and memory, in the order of their `RESULT` lines, and the order of all others. Each one
//! stands alone: what it needs, it checks again.

use crate::console::{self, Failed, Note};
use crate::device::{BadNode, Function, Mode, Nodes, Totals};
use crate::entry::{self, BootRegisters};
use crate::enumerate;
use crate::function_checks;
use crate::leftovers;
use crate::memory::{Range, UNIT};
use crate::rsi::{Realm, Ripas};
use crate::tree::{self, Node, Tree};
use crate::tree_check;
use aarch64_cpu::registers::{CurrentEL, DAIF, Readable, SCTLR_EL1};
use core::fmt;

/// How a check ended.
pub type Outcome = Result<(), Failed>;
type Check = fn(&Context<'_>, &mut Note) -> Outcome;

/// Word of the command line: share memory with the host, and leave it so.
const SHARE: &str = "gatehouse.share";
/// Word of the command line: enumerate as Linux does before anything else.
const ENUMERATE: &str = "gatehouse.enumerate";

const CHECKS: [(&str, Check); 6] = [
    ("registers", registers),
    ("mmu-off", mmu_off),
    ("el1-and-masked", el1_and_masked),
    ("tree", tree_check::run),
    ("handoff-nodes", handoff_nodes),
    ("ram-ripas", ram_ripas),
];

/// What the checks look at.
pub struct Context<'a> {
    registers: &'a BootRegisters,
    realm: Option<Realm>,
    /// The tree.
    pub tree: &'a Tree,
}

impl<'a> Context<'a> {
    /// Takes what was handed over.
    pub fn new(registers: &'a BootRegisters, realm: Option<Realm>, tree: &'a Tree) -> Self {
        Self { registers, realm, tree }
    }

    /// The realm that we run in.
    pub fn realm(&self, note: &mut Note) -> Result<&Realm, Failed> {
        match &self.realm {
            Some(realm) => Ok(realm),
            None => note.fail(format_args!("no RSI: not in a realm")),
        }
    }
}

/// A function's place, as it stands behind the names of its results.
struct At(u32);

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{:02x}:{:02x}.{}", self.0 >> 8, self.0 >> 3 & 0x1f, self.0 & 7)
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
    if context.tree.has_bootarg(ENUMERATE) {
        result("enumerated", None, |note| enumerate::run(context, note));
    }
    for (name, check) in CHECKS {
        result(name, None, |note| check(context, note));
    }
    if context.tree.has_bootarg(leftovers::WORD) {
        result("nothing-left", None, |note| leftovers::run(context, note));
    }
    // A bad node is what `handoff-nodes` reports; those before it are checked.
    let _ = Nodes::find(context.tree).and_then(|nodes| {
        nodes.each(&mut |function, node| {
            for (name, check) in function_checks::of(function) {
                let at = Some(At(function.routing_id));
                result(name, at, |note| check(context, function, node, note));
            }
        })
    });
    if context.tree.has_bootarg(SHARE) {
        result("shares", None, |note| share(context, note));
    }
}

/// What devices in mode `shared` may reach from now on.
fn share(context: &Context<'_>, note: &mut Note) -> Outcome {
    let realm = context.realm(note)?;
    realm.convert(&UNIT, Ripas::Empty).or_else(|error| note.fail(format_args!("{error}")))
}

/// Runs one check and prints its line.
fn result(name: &str, at: Option<At>, check: impl FnOnce(&mut Note) -> Outcome) {
    let mut note = Note::new();
    let word = if check(&mut note).is_ok() { "pass" } else { "fail" };
    let space = if note.text().is_empty() { "" } else { " " };
    match at {
        Some(at) => console::print(format_args!("RESULT {name}{at} {word}{space}{}\n", note.text())),
        None => console::print(format_args!("RESULT {name} {word}{space}{}\n", note.text())),
    }
}

/// Linux boot protocol: x0 = tree, x1 to x3 zero; ours: x4 to x30 and v0 to v31 zero too.
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
    if context.registers.v != [0; 2] {
        return note.fail(format_args!("v0 to v31: {:x?}", context.registers.v));
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
    let border = context.realm(note)?.border();
    let mut unprotected = false;
    let totals = handoff(context.tree).and_then(|node| {
        let totals = Nodes::find(context.tree)?.each(&mut |function: &Function, _: Node<'_>| {
            unprotected |= function.bars.iter().flatten().any(|bar| bar.top > border);
            let needs_bar = function.mode == Mode::Run;
            unprotected |= needs_bar && function.bars.iter().flatten().next().is_none();
        })?;
        let has = |name, count| tree::number(node, name).is_some_and(|number| number == count);
        if !has("accepted", totals.run) {
            return Err(BadNode("/chosen/gatehouse accepted"));
        }
        if !has("pinned", totals.pinned) {
            return Err(BadNode("/chosen/gatehouse pinned"));
        }
        if !has("shared", totals.shared) {
            return Err(BadNode("/chosen/gatehouse shared"));
        }
        if policy(node).is_none() && totals.run + totals.pinned + totals.shared != 0 {
            return Err(BadNode("/chosen/gatehouse policy-id, policy-svn"));
        }
        Ok(totals)
    });
    let totals = match totals {
        Ok(totals) => totals,
        Err(BadNode(what)) => return note.fail(format_args!("missing or bad: {what}")),
    };
    if unprotected {
        return note.fail(format_args!("a function without BARs, or a BAR that is not protected"));
    }
    let Totals { run, pinned, shared, bridges } = totals;
    note.say(format_args!("{run} run, {pinned} pinned, {shared} shared, {bridges} bridges"));
    Ok(())
}

fn handoff(tree: &Tree) -> Result<Node<'_>, BadNode> {
    let node = tree.node("/chosen/gatehouse").ok_or(BadNode("/chosen/gatehouse"))?;
    if !tree::is_compatible(node, "gatehouse,handoff-v1") {
        return Err(BadNode("/chosen/gatehouse compatible"));
    }
    if tree::number(node, "version") != Some(1) {
        return Err(BadNode("/chosen/gatehouse version"));
    }
    if tree::text(node, "verdict").is_none_or(str::is_empty) {
        return Err(BadNode("/chosen/gatehouse verdict"));
    }
    Ok(node)
}

/// Id and security version number of the policy: nothing is handed over without one.
fn policy(node: Node<'_>) -> Option<u64> {
    let digest = tree::text(node, "policy-id")?.strip_prefix("sha256:")?;
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let svn = tree::array(node, "policy-svn").map(tree::double)?;
    (digest.len() == 64 && digest.bytes().all(is_hex)).then_some(svn)
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
