//! The checks of each function, in the order of their `RESULT` lines; which ones depends on mode and kind.

use crate::checks::{Context, Outcome};
use crate::console::{Failed, Note};
use crate::cpu;
use crate::device::{self, Accepted, Function, Kind, Mode};
use crate::edu::Edu;
use crate::idle;
use crate::memory::{ANSWER, PAGE_SIZE, Range};
use crate::mmio::Mmio;
use crate::nvme::Controller;
use crate::pci::Config;
use crate::pin;
use crate::rsi::{self, Ripas};
use crate::tree::Node;

/// Longest BAR that is checked page by page, in pages.
const MAX_PAGES: u64 = 65_536;
/// Bytes of an MSI-X table entry, and offset of its data word.
const MSIX_ENTRY: u64 = 16;
const MSIX_DATA: u64 = 8;
/// What a read without answer returns.
const ALL_ONES: u32 = u32::MAX;

/// A check of one function; the node is its own.
pub type Check = fn(&Context<'_>, &Function, Node<'_>, &mut Note) -> Outcome;

/// Every function in mode `run` has these.
macro_rules! run {
    ($($more:expr),*) => {
        &[
            ("vdev-started", vdev_started),
            ("bar-ripas", bar_ripas),
            ("private-mmio", private_mmio),
            ("msix-via-alias", msix_via_alias),
            $($more),*
        ]
    };
}

const NVME: &[(&str, Check)] = run![("nvme-identify", nvme_identify), ("left-idle", left_idle)];
const EDU: &[(&str, Check)] =
    run![("edu-dma", edu_dma), ("dma-alias-fault", dma_alias_fault), ("left-idle", left_idle)];
const IDLE: &[(&str, Check)] = run![("left-idle", left_idle)];
const OTHER: &[(&str, Check)] = run![];
const PIN: &[(&str, Check)] = &[("pin-node", pin::node), ("pin-quiet", pin::quiet)];
const SHARED: &[(&str, Check)] = &[("shared-left-alone", shared_left_alone)];

/// Returns the checks of a function.
pub fn of(function: &Function) -> &'static [(&'static str, Check)] {
    match (function.mode, function.kind) {
        (Mode::Shared, _) => SHARED,
        (Mode::Pin, _) => PIN,
        (Mode::Run, Kind::Nvme) => NVME,
        (Mode::Run, Kind::Edu) => EDU,
        (Mode::Run, Kind::Ahci | Kind::Xhci) => IDLE,
        (Mode::Run, _) => OTHER,
    }
}

fn accepted<'f>(function: &'f Function, note: &mut Note) -> Result<&'f Accepted, Failed> {
    match &function.accepted {
        Some(accepted) => Ok(accepted),
        None => note.fail(format_args!("not in mode run")),
    }
}

/// The registers through the protected address; touches nothing that would fault.
fn registers(context: &Context<'_>, function: &Function, note: &mut Note) -> Result<Mmio, Failed> {
    let realm = context.realm(note)?;
    let Some(range) = function.registers() else {
        return note.fail(format_args!("no BAR for the registers"));
    };
    if let Err(error) = realm.expect(&range, Ripas::Dev) {
        return note.fail(format_args!("registers are not DEV: {error}"));
    }
    match Mmio::new(range, context.tree) {
        Some(mmio) => Ok(mmio),
        None => note.fail(format_args!("the BAR lies in RAM")),
    }
}

/// Config space through the alias.
pub fn config(context: &Context<'_>, function: &Function, note: &mut Note) -> Result<Config, Failed> {
    let realm = context.realm(note)?;
    match Mmio::new(realm.alias(function.config), context.tree) {
        Some(mmio) => Ok(Config(mmio)),
        None => note.fail(format_args!("config space lies in RAM")),
    }
}

/// The ids in config space are those of the node.
pub fn same_ids(config: &Config, function: &Function, note: &mut Note) -> Outcome {
    let (vendor, device) = config.ids();
    if (vendor, device) != (function.vendor, function.device) {
        return note.fail(format_args!("ids in config space: {vendor:04x}:{device:04x}"));
    }
    Ok(())
}

/// The RMM says that the device is in RUN, under the nonces and digests of the node.
fn vdev_started(context: &Context<'_>, function: &Function, node: Node<'_>, note: &mut Note) -> Outcome {
    let (realm, accepted) = (context.realm(note)?, accepted(function, note)?);
    let info = match realm.vdev_info(function.vdev_id.unwrap_or_default()) {
        Ok(info) => info,
        Err(error) => return note.fail(format_args!("RSI_VDEV_GET_INFO: {error}")),
    };
    if info.state != rsi::STATE_STARTED {
        return note.fail(format_args!("state {}", info.state));
    }
    if info.nonces != accepted.nonces {
        let ([a, b, c], [x, y, z]) = (info.nonces, accepted.nonces);
        return note.fail(format_args!("nonces {a:#x} {b:#x} {c:#x}, node {x:#x} {y:#x} {z:#x}"));
    }
    let mut compared = 0;
    for (offset, digest) in rsi::INFO_DIGESTS.into_iter().zip(device::digests(node)) {
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
fn bar_ripas(context: &Context<'_>, function: &Function, _: Node<'_>, note: &mut Note) -> Outcome {
    let realm = context.realm(note)?;
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

/// The registers answer through the protected address and not through the alias, and the firmware left the device idle.
fn private_mmio(context: &Context<'_>, function: &Function, _: Node<'_>, note: &mut Note) -> Outcome {
    let mmio = registers(context, function, note)?;
    let offset = match function.kind {
        // CAP.
        Kind::Nvme => {
            let (cap, version) = Controller(mmio).capabilities();
            if cap == 0 || cap == u64::MAX || !(0x1_0000..ALL_ONES).contains(&version) {
                return note.fail(format_args!("CAP {cap:#x} VS {version:#x}"));
            }
            note.say(format_args!("CAP {cap:#x} VS {version:#x} "));
            0
        }
        Kind::Edu => {
            if let Err(error) = Edu(mmio).is_alive() {
                return note.fail(format_args!("{error}"));
            }
            0
        }
        // Device status.
        Kind::Igb => 8,
        // Version.
        Kind::Ahci => 0x10,
        Kind::Xhci | Kind::Other => 0,
    };
    let value = mmio.read(offset);
    if value == ALL_ONES && function.kind != Kind::Other {
        return note.fail(format_args!("register {offset:#x} reads all ones"));
    }
    idle::check(function.kind, mmio).or_else(|text| note.fail(format_args!("not idle: {text}")))?;
    let realm = context.realm(note)?;
    match cpu::probe32((mmio.base() | realm.border()) + offset) {
        None => note.say(format_args!("{offset:#x}: {value:#x}, alias aborts")),
        Some(ALL_ONES) => note.say(format_args!("{offset:#x}: {value:#x}, alias reads all ones")),
        Some(other) => return note.fail(format_args!("{offset:#x}: {value:#x}, alias reads {other:#x}")),
    }
    Ok(())
}

/// The MSI-X table, where config space has it, is in an MSI-X page and works through the alias alone.
fn msix_via_alias(context: &Context<'_>, function: &Function, _: Node<'_>, note: &mut Note) -> Outcome {
    let realm = context.realm(note)?;
    let config = config(context, function, note)?;
    same_ids(&config, function, note)?;
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
    unreachable(page.base, note)?;
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
fn nvme_identify(context: &Context<'_>, function: &Function, _: Node<'_>, note: &mut Note) -> Outcome {
    let identity = match Controller(registers(context, function, note)?).identify() {
        Ok(identity) => identity,
        Err(error) => return note.fail(format_args!("{error}")),
    };
    if config(context, function, note)?.interrupts().enabled {
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

/// DMA from and to private memory arrives.
fn edu_dma(context: &Context<'_>, function: &Function, _: Node<'_>, note: &mut Note) -> Outcome {
    match Edu(registers(context, function, note)?).round_trip() {
        Ok(()) => Ok(()),
        Err(error) => note.fail(format_args!("{error}")),
    }
}

/// DMA to and from a page that is shared with the host reaches it by neither of its addresses.
fn dma_alias_fault(context: &Context<'_>, function: &Function, _: Node<'_>, note: &mut Note) -> Outcome {
    let edu = Edu(registers(context, function, note)?);
    match edu.reach_out(context.realm(note)?) {
        Ok(()) => Ok(()),
        Err(error) => note.fail(format_args!("{error}")),
    }
}

/// We leave the device as we found it.
fn left_idle(context: &Context<'_>, function: &Function, _: Node<'_>, note: &mut Note) -> Outcome {
    let mmio = registers(context, function, note)?;
    idle::check(function.kind, mmio).or_else(|text| note.fail(format_args!("{text}")))
}

/// A page of a BAR that nobody validated cannot be reached by its private address: what answered there would be the host's.
fn unreachable(address: u64, note: &mut Note) -> Outcome {
    match cpu::probe32(address) {
        None => Ok(()),
        Some(found) => note.fail(format_args!("{address:#x}, not validated, reads {found:#x}")),
    }
}

/// The RMM does not know a shared function, its pages are EMPTY, and it answers through the alias alone.
fn shared_left_alone(context: &Context<'_>, function: &Function, _: Node<'_>, note: &mut Note) -> Outcome {
    let realm = context.realm(note)?;
    same_ids(&config(context, function, note)?, function, note)?;
    let mut pages = 0;
    for (index, bar) in function.bars.iter().enumerate() {
        let Some(bar) = bar else { continue };
        if let Err(error) = realm.expect(bar, Ripas::Empty) {
            return note.fail(format_args!("BAR {index}: {error}"));
        }
        unreachable(bar.base, note)?;
        pages += bar.len().div_ceil(PAGE_SIZE);
    }
    if function.num_msix() != 0 {
        return note.fail(format_args!("MSI-X pages"));
    }
    if let Ok(info) = realm.vdev_info(function.routing_id.into()) {
        return note.fail(format_args!("the RMM knows it, state {}", info.state));
    }
    let first = function.bars.iter().flatten().next();
    if let Some(bar) = first
        && cpu::probe32(bar.base | realm.border()).is_none()
    {
        return note.fail(format_args!("its registers abort"));
    }
    note.say(format_args!("{pages} EMPTY"));
    Ok(())
}
