//! From the first Rust instruction to the entry into the realm.

use crate::layout::*;
use crate::machine::Hardware;
use crate::mmio::RealmRam;
use crate::smmu::Smmu;
use crate::stage2::Stage2;
use crate::tree::Console;
use crate::uart::Uart;
use crate::{boot, cpu, host_dma, log, pmu, semihost, shell, tree, vmm};
use alloc::string::String;
use alloc::vec::Vec;
use base64ct::{Base64, Encoding};
use buddy_system_allocator::LockedHeap;
use core::panic::PanicInfo;
use rmm_model::{Model, Scenario, scenario};
use serde_json::json;

/// QEMU's exit status for a machine or a scenario that the stub cannot work with.
const EXIT_REFUSED: u8 = 3;
/// QEMU's exit status for a fault of the stub.
const EXIT_FAULT: u8 = 20;
/// Most bytes of a tree that the log holds.
const MOST_TREE_LOGGED: usize = 0x1_0000;
/// Lies at the end of the stack.
pub const CANARY: u64 = 0x5ca1_ab1e_0dd5_1ab5;

#[global_allocator]
static HEAP: LockedHeap<32> = LockedHeap::empty();

/// The Rust entry point: MMU on, one CPU, EL2.
pub extern "C" fn stub_main() -> ! {
    // SAFETY: RAM of the stub that nothing else uses (layout.rs); done once, before the first allocation.
    unsafe { HEAP.lock().init(HEAP_BASE as usize, (HEAP_END - HEAP_BASE) as usize) };
    // SAFETY: the word below which the stack must not grow; nothing else uses it.
    unsafe { (STACK_LIMIT as *mut u64).write_volatile(CANARY) };
    let options = semihost::command_line();
    log::open(&options);
    match prepare(&options) {
        Ok(frame) => {
            // SAFETY: stage 2 and EL1 are set up by `prepare`; the frame is copied to registers before the stack is reused.
            unsafe { boot::resume(&frame, STACK_TOP) }
        }
        Err(reason) => {
            log::value(&json!({ "stub": "refused", "reason": reason }));
            log::flush();
            semihost::stderr(&alloc::format!("stub-rmm: {reason}\n"));
            semihost::exit(EXIT_REFUSED)
        }
    }
}

/// The scenario blob: 32 bytes of header (magic, length of the CBOR, length of the image file, zero), then the CBOR.
/// Nothing at all there means the default scenario.
fn scenario() -> Result<(Scenario, u64), String> {
    let room = (SCENARIO_END - SCENARIO_BASE) as usize;
    // SAFETY: RAM that QEMU's loader filled before the start and nobody writes.
    let blob = unsafe { core::slice::from_raw_parts(SCENARIO_BASE as *const u8, room) };
    let word = |at: usize| u64::from_le_bytes(core::array::from_fn(|i| blob[at + i]));
    if word(0) == 0 {
        return Ok((Scenario::default(), 0));
    }
    if blob[..8] != SCENARIO_MAGIC {
        return Err(alloc::format!("scenario: bad magic {:02x?}", &blob[..8]));
    }
    let cbor = usize::try_from(word(8)).ok().and_then(|len| blob[32..].get(..len));
    let cbor = cbor.ok_or_else(|| alloc::format!("scenario: {:#x} bytes are too many", word(8)))?;
    let scenario = minicbor_serde::from_slice(cbor).map_err(|error| alloc::format!("scenario: {error}"))?;
    Ok((scenario, word(16)))
}

/// QEMU's device tree.
fn qemu_tree() -> Result<&'static [u8], String> {
    // SAFETY: QEMU puts the tree at the base of RAM; the stub never writes there.
    let room = unsafe { core::slice::from_raw_parts(RAM_BASE as *const u8, TREE_MAX) };
    let word = |at: usize| u32::from_be_bytes(core::array::from_fn(|i| room[at + i]));
    if word(0) != 0xd00d_feed {
        return Err(String::from("no device tree at the base of RAM"));
    }
    room.get(..word(4) as usize).ok_or_else(|| String::from("QEMU's device tree is too large"))
}

/// Options of a direct kernel boot: `initrd=ADDRESS,LENGTH` (hexadecimal), and the kernel's command line behind ` -- `.
fn direct(options: &str) -> Result<vmm::Direct<'_>, String> {
    let (options, bootargs) = match options.split_once(" -- ") {
        Some((options, bootargs)) => (options, Some(bootargs)),
        None => (options, None),
    };
    let number = |text: &str| u64::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let initrd = match log::option(options, "initrd") {
        Some(text) => {
            let parts = text.split_once(',').and_then(|(base, len)| Some((number(base)?, number(len)?)));
            Some(parts.ok_or_else(|| alloc::format!("option initrd={text}"))?)
        }
        None => None,
    };
    Ok(vmm::Direct { bootargs, initrd })
}

/// The console of the realm: the board's (option `console=pl011`, the default, or `console=ns16550a`), or none.
fn console(options: &str, scenario: &Scenario) -> Result<Console, String> {
    let of_board = match log::option(options, "console") {
        None | Some("pl011") => Console::Pl011,
        Some("ns16550a") => Console::Ns16550,
        Some(other) => return Err(alloc::format!("option console={other}")),
    };
    Ok(match scenario.vmm.console {
        scenario::Console::Board => of_board,
        scenario::Console::None => Console::None,
    })
}

/// Most that the first REC waits for the others to be started, and most that each of those waits, in milliseconds.
const WAIT_FIRST: u64 = 1;
const WAIT_OTHER: u64 = 100;

/// The Rust entry point of every other CPU: MMU on, EL2, its own stack.
pub extern "C" fn second_main() -> ! {
    cpu::prepare_el2();
    let rec = cpu::index();
    let (entry, x0) = shell::adopt(rec);
    wait_up_to(WAIT_OTHER);
    let frame = cpu::reset_el1(entry, x0);
    let (top, _) = stack(rec);
    // SAFETY: stage 2 and EL1 are set up; the frame is copied to registers before the stack is reused.
    unsafe { boot::resume(&frame, top) }
}

/// Starts the other RECs of the scenario. Nothing orders them and the first one: who reaches the realm's first
/// instruction first, and where the first one is when another comes, depends on QEMU's threads and on the waits.
fn start_others(recs: usize) {
    if recs > 1 {
        (1..recs).for_each(cpu::start);
        wait_up_to(WAIT_FIRST);
    }
}

/// Waits for a time that follows from the counter: half of the times not at all, else up to the limit.
fn wait_up_to(milliseconds: u64) {
    let begin = cpu::ticks();
    let random = begin.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let most = cpu::counter_hz() / 1000 * milliseconds;
    let wait = if random & 1 == 0 { 0 } else { (random >> 1) % most.max(1) };
    while cpu::ticks() - begin < wait {
        core::hint::spin_loop();
    }
}

fn prepare(options: &str) -> Result<crate::exceptions::Frame, String> {
    if !cpu::is_wide_enough() {
        return Err(String::from("this CPU has fewer than 44 physical address bits: use -cpu neoverse-v1"));
    }
    let (scenario, image_len) = scenario()?;
    let direct = direct(options)?;
    let blob = qemu_tree()?;
    // A fallback for machines without stage 2 in the SMMU: everything but the DMA gate is real.
    let need_smmu = !options.split_whitespace().any(|word| word == "no-smmu");
    let machine =
        tree::read(blob, need_smmu).map_err(|error| alloc::format!("QEMU's device tree: {error}"))?;
    let ram = vmm::ram(&machine, &scenario.vmm)?;
    let console = console(options, &scenario)?;
    let placed = vmm::place(&ram, &machine, blob, &scenario.vmm, image_len, &direct, console)?;
    let smmu = if need_smmu {
        Smmu::start().ok_or_else(|| {
            String::from(
                "this QEMU has no SMMUv3 with stage 2: version 8.1 or later, -M virt,virtualization=on,iommu=smmuv3, \
                 machine version 10.0 or later (or -global arm-smmuv3.stage=nested)",
            )
        })?
    } else {
        Smmu::absent()
    };

    if usize::from(scenario.vmm.recs) > MAX_CPUS.min(machine.num_cpus) {
        return Err(alloc::format!("vmm.recs {} and {} CPUs", scenario.vmm.recs, machine.num_cpus));
    }
    cpu::prepare_el2();
    let mut hw = Hardware::new(ram, Stage2::new(), smmu);
    let board = vmm::board(&machine, &ram, console);
    let uart = (console == Console::Ns16550)
        .then(|| machine.gic.first().map(|gicd| Uart::new(machine.uart.base, gicd.base)))
        .flatten();
    let mut model =
        Model::new(&scenario, &board, &mut hw).map_err(|error| alloc::format!("scenario: {error}"))?;
    hw.host_dma = host_dma::Plan::new(&scenario)?;
    let loaded = placed.loaded(&ram, &scenario.realm, &scenario.vmm);
    if scenario.realm.rim.is_empty() {
        model.set_rim(&loaded.rim(|ipa, granule| ram.read(ipa, granule)));
    }
    hw.stage2.activate();
    pmu::start();
    log::value(&json!({
        "stub": "start",
        "scenario": scenario.name,
        "board": board,
        "image": placed.image,
        "image_len": placed.image_len,
        "image_size": placed.image_size,
        "tree": placed.tree,
        "tree_len": placed.tree_len,
        "counter_hz": cpu::counter_hz(),
        "ticks": cpu::ticks(),
        "rim": model.final_state().rim,
        "loaded": loaded,
        "tree_base64": tree_base64(&ram, &placed),
    }));
    log::flush();
    hw.snapshot_all(&model.final_state());
    let recs = usize::from(scenario.vmm.recs.max(1));
    shell::install(model, hw, uart, (placed.image, placed.tree));
    start_others(recs);
    Ok(cpu::reset_el1(placed.image, placed.tree))
}

/// The tree as the realm finds it, for whoever computes the RIM anew; none if it is very large.
fn tree_base64(ram: &RealmRam, placed: &vmm::Placed) -> Option<String> {
    let len = usize::try_from(placed.tree_len).ok().filter(|len| *len <= MOST_TREE_LOGGED)?;
    let mut tree = alloc::vec![0; len];
    ram.read(placed.tree, &mut tree);
    Some(Base64::encode_string(&tree))
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    let text = alloc::format!("{info}");
    let mut line: Vec<u8> = Vec::from(&b"{\"stub\":\"panic\",\"text\":"[..]);
    line.extend(serde_json::to_vec(&text).unwrap_or_default());
    line.push(b'}');
    log::panic_line(&line);
    semihost::stderr(&alloc::format!("stub-rmm: PANIC {text}\n"));
    semihost::exit(EXIT_FAULT)
}
