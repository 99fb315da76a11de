//! One boot with lies: the firmware over the model, everything that crosses counted, nothing asserted.

use crate::common::image::Image;
use crate::common::{self, Bench, log, machine, ram};
use gatehouse::addr::IpaRange;
use gatehouse::arch::host::{HostMachine, HostPlatform, RealmRam, ipa_width};
use gatehouse::boot::place::Room;
use gatehouse::phases::{self, BootInfo, Payload, Stop};
use gatehouse::platform::AccessSize;
use rmm_model::abi::rsi::{
    RSI_ERROR_INPUT, RSI_HOST_CALL, RSI_IPA_STATE_GET, RSI_SUCCESS, RSI_VDEV_DMA_ENABLE, RSI_VDEV_GET_INFO,
};
use rmm_model::machine::{DmaGate, Machine};
use rmm_model::record::Event;
use rmm_model::scenario::{Act, Change, Crossing, Deed, DeviceModel, Lie, ObjectKind};
use rmm_model::sim::{IoFault, SimFunction};
use rmm_model::{FinalState, Next, Scenario};
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

/// A boot that crosses the border more often than this does not end. Waits for a controller are given up after a million
/// polls each, operations that never end after 100,000.
const CROSSINGS_MAX: u64 = 10_000_000;

/// So much faster than elsewhere the counter runs: waits of whole milliseconds are most of a boot otherwise.
const HASTE: u64 = 100;

/// What no RSI or RHI call or configuration access carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// The load number `nth` of a device register answers something else, `count` times.
    Register {
        /// From 1.
        nth: u32,
        /// How many.
        count: u32,
        /// How.
        change: Change,
    },
    /// In the middle of copy number `nth` out of the shared window, its second half is overwritten.
    MidCopy {
        /// From 1.
        nth: u32,
    },
    /// From look number `nth` on, the counter stands still.
    ClockStands {
        /// From 1.
        nth: u32,
    },
    /// From look number `nth` on, the counter is this far ahead.
    ClockJumps {
        /// From 1.
        nth: u32,
        /// Ticks.
        by: u64,
    },
}

/// What is lied about besides the scenario.
#[derive(Clone, Copy, Debug, Default)]
pub struct Setting<'a> {
    /// What the model does not carry.
    pub aside: &'a [Aside],
    /// The tree that the VMM loaded, if it is another one.
    pub tree: Option<&'a [u8]>,
    /// Notes the states that the boot goes through.
    pub states: bool,
}

/// How often each kind of crossing happened.
#[derive(Clone, Copy, Debug, Default)]
pub struct Asides {
    /// Loads of device registers.
    pub registers: u32,
    /// Copies out of the shared window.
    pub copies: u32,
    /// Looks at the counter.
    pub looks: u32,
}

/// How a boot ended.
pub enum End {
    /// The firmware returned.
    Ended(Result<Payload, Stop>),
    /// The REC never runs again: a page under it is DESTROYED.
    Stuck,
    /// A load or store brought an abort: the vectors stop the boot.
    Aborted,
    /// More than [`CROSSINGS_MAX`] crossings.
    Endless,
    /// A panic, which must never be.
    Panicked(String),
}

/// What ends the firmware from below.
enum Cut {
    Stuck,
    Aborted,
    Endless,
}

/// What was so when the DMA of a device was opened to private memory.
#[derive(Clone, Debug)]
pub struct Opening {
    /// Slot path.
    pub slot: String,
    /// Its controller was running.
    pub is_armed: bool,
    /// The lock is the one that the realm saw first after it asked for a lock.
    pub is_same_lock: bool,
    /// Measurements and report were made since that lock.
    pub is_fresh: bool,
    /// Objects that the RMM vouched for.
    pub evidence: Vec<(ObjectKind, Vec<u8>)>,
}

/// What a boot left.
pub struct Ran {
    pub end: End,
    pub state: FinalState,
    /// What the firmware said.
    pub log: Vec<String>,
    /// Shared windows that are still mapped.
    pub mapped: Vec<IpaRange>,
    /// The trace.
    pub events: Vec<Event>,
    pub openings: Vec<Opening>,
    /// Number of the SMC at which the last lie was told, and of each device's last VDEV_GET_INFO that was answered.
    pub last_lie: u64,
    pub last_info: BTreeMap<u64, u64>,
    /// Loads from configuration space lie.
    pub is_config_lie: bool,
    pub asides: Asides,
    /// How many asides were told.
    pub asides_told: usize,
    /// How many different lies were told.
    pub num_different: usize,
    /// States of model and call, hashed, if they were asked for.
    pub states: BTreeSet<u64>,
}

impl Ran {
    /// What the payload is handed.
    pub fn payload(&self) -> Option<&Payload> {
        match &self.end {
            End::Ended(Ok(payload)) => Some(payload),
            _ => None,
        }
    }
}

/// The machine of [`Bench`], which lies.
struct Liar<'a> {
    bench: Bench,
    setting: Setting<'a>,
    asides: Asides,
    asides_told: usize,
    crossings: u64,
    smcs: u64,
    /// Lock nonce that the realm saw first since it asked for a lock, by vdev.
    first_locks: BTreeMap<u64, u64>,
    num_records: usize,
    openings: Vec<Opening>,
    states: BTreeSet<u64>,
    last_lie: u64,
    last_info: BTreeMap<u64, u64>,
    num_told: usize,
    is_late: bool,
    noise: u64,
}

impl Liar<'_> {
    fn cross(&mut self) {
        self.crossings += 1;
        if self.crossings > CROSSINGS_MAX {
            resume_unwind(Box::new(Cut::Endless));
        }
    }

    fn taken<T>(result: Result<T, IoFault>) -> T {
        match result {
            Ok(value) => value,
            Err(IoFault::Stop) => resume_unwind(Box::new(Cut::Stuck)),
            Err(_) => resume_unwind(Box::new(Cut::Aborted)),
        }
    }

    fn noise(&mut self) -> u64 {
        self.noise =
            self.noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.noise
    }

    /// Notes the lock nonce of a record that says LOCKED, if it is the first since the realm asked for a lock.
    fn note_lock(&mut self, vdev: u64, info: u64, ram: &mut dyn RealmRam) {
        let records = &self.bench.sim.records;
        for record in records.get(self.num_records..).unwrap_or_default() {
            if let Event::Rhi { call, args, .. } = &record.event
                && call == "RHI_DA_VDEV_SET_TDI_STATE"
                && args.get(1) == Some(&1)
            {
                self.first_locks.remove(&args[0]);
            }
        }
        self.num_records = records.len();
        let mut bytes = [0; 0x48];
        ram.read(info, &mut bytes);
        let word =
            |at: usize| bytes[at..at + 8].iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte));
        if word(0x40) & 0xff == 1 {
            self.first_locks.entry(vdev).or_insert(word(0x18));
        }
    }

    /// Notes what the firmware is about to call, and how the devices are: everything but nonces and handles.
    fn note_state(&mut self, fid: u64, x1: u64, x2: u64, ram: &mut dyn RealmRam) {
        let mut hasher = DefaultHasher::new();
        fid.hash(&mut hasher);
        if fid == RSI_HOST_CALL {
            // The function, the device and the first argument.
            let mut gprs = [0; 24];
            ram.read(x1 + 8, &mut gprs);
            gprs.hash(&mut hasher);
        } else if fid == RSI_VDEV_GET_INFO {
            x1.hash(&mut hasher);
        } else if fid == RSI_IPA_STATE_GET || fid >= RSI_VDEV_DMA_ENABLE {
            (x1, x2).hash(&mut hasher);
        }
        for device in self.bench.model.final_state().devices {
            (device.state as u8, device.rmm_state.map(|state| state as u8)).hash(&mut hasher);
            (device.dma as u8, device.dev_ranges.len(), device.command).hash(&mut hasher);
            (device.operation_pending, device.vdev_id.is_some()).hash(&mut hasher);
            if let Some(lock) = self.bench.model.lock_of(&device.slot) {
                let rid = device.vdev_id.unwrap_or(0);
                let is_first = self.first_locks.get(&rid).map(|first| *first == lock.nonce);
                (lock.is_measured, lock.is_reported, is_first).hash(&mut hasher);
            }
        }
        self.states.insert(hasher.finish());
    }

    /// Notes each gate that opened.
    fn look_at_gates(&mut self) {
        for device in self.bench.model.final_state().devices {
            if device.dma != DmaGate::PrivateOnly || self.openings.iter().any(|seen| seen.slot == device.slot)
            {
                continue;
            }
            let kinds =
                [ObjectKind::Vca, ObjectKind::Certificate, ObjectKind::Measurements, ObjectKind::Report];
            let object = |kind| Some((kind, self.bench.model.evidence(&device.slot, kind)?.to_vec()));
            let evidence = kinds.into_iter().filter_map(object).collect();
            let is_armed = self.is_armed(&device.slot, &device.bdf);
            let lock = self.bench.model.lock_of(&device.slot);
            let seen = routing_id(&device.bdf).and_then(|rid| self.first_locks.get(&rid.into()).copied());
            let is_same_lock = lock.as_ref().map(|lock| lock.nonce) == seen;
            let is_fresh = lock.is_some_and(|lock| lock.is_measured && lock.is_reported);
            self.openings.push(Opening { slot: device.slot, is_armed, is_same_lock, is_fresh, evidence });
        }
    }

    /// CC.EN or CSTS.RDY of an NVMe.
    fn is_armed(&mut self, slot: &str, bdf: &str) -> bool {
        let spec = self.bench.model.scenario().device.iter().find(|spec| spec.slot == slot);
        if spec.is_none_or(|spec| spec.model != DeviceModel::Nvme) {
            return false;
        }
        let Some(rid) = routing_id(bdf) else { return false };
        let bar = common::real_bar_of(&mut self.bench.sim, rid);
        let mut register = |at| self.bench.sim.device_read(bar + at, 4);
        (register(0x14) | register(0x1c)) & 1 != 0
    }
}

/// Loads from configuration space lie, or a function is taken out of it.
fn is_config_lie(scenario: &Scenario) -> bool {
    let injections = scenario.injection.iter().any(|injection| {
        matches!(injection.at, Crossing::ConfigRead)
            || matches!(injection.act, Act::Before(Deed::Unplug) | Act::After(Deed::Unplug))
    });
    let is_config = |lie: &Lie| matches!(lie, Lie::CommandStuck { .. } | Lie::FunctionVanishes { .. });
    injections || scenario.misbehaviour.iter().any(|told| is_config(&told.lie))
}

/// Counts the lies that were told, each place and act once.
fn num_different(liar: &Liar<'_>, has_tree: bool) -> usize {
    let told = liar.bench.sim.records.iter().filter_map(|record| match &record.event {
        Event::Lie { name, slot } if name != "without-effect" => Some((name, slot)),
        _ => None,
    });
    told.collect::<BTreeSet<_>>().len() + usize::from(liar.asides_told > 0) + usize::from(has_tree)
}

/// Routing id of `bb:dd.f`.
pub fn routing_id(bdf: &str) -> Option<u16> {
    let (bus, rest) = bdf.split_once(':')?;
    let (device, function) = rest.split_once('.')?;
    let number = |text| u16::from_str_radix(text, 16).ok();
    Some(number(bus)? << 8 | number(device)? << 3 | number(function)?)
}

impl HostMachine for Liar<'_> {
    fn smc(&mut self, regs: &mut [u64; 18], ram: &mut dyn RealmRam) {
        self.cross();
        self.smcs += 1;
        let [fid, vdev, info, ..] = *regs;
        if self.setting.states {
            self.note_state(fid, vdev, info, ram);
        }
        let next = self.bench.model.smc(regs, &mut self.bench.sim);
        if next != Next::Resume {
            resume_unwind(Box::new(Cut::Stuck));
        }
        let told = self.bench.model.num_lies();
        if told != self.num_told {
            // What is done after a call is done after its answer was made.
            (self.num_told, self.last_lie) = (told, self.smcs + u64::from(self.is_late));
        }
        if fid == RSI_VDEV_GET_INFO && matches!(regs[0], RSI_SUCCESS | RSI_ERROR_INPUT) {
            // "No such VDEV" is an answer, too.
            self.last_info.insert(vdev, self.smcs);
        }
        if fid == RSI_VDEV_GET_INFO && regs[0] == RSI_SUCCESS {
            self.note_lock(vdev, info, ram);
        }
        if fid == RSI_VDEV_DMA_ENABLE && self.bench.model.num_open_gates() > 0 {
            self.look_at_gates();
        }
    }

    fn io_read(&mut self, ipa: u64, size: AccessSize, _: &mut dyn RealmRam) -> u64 {
        self.cross();
        let width = u8::try_from(size.bytes()).unwrap_or(8);
        let value = Self::taken(self.bench.sim.io_read(&mut self.bench.model, ipa, width));
        if common::board().ecam.contains(ipa & !ipa_width().alias_bit()) {
            return value;
        }
        self.asides.registers += 1;
        for aside in self.setting.aside {
            let Aside::Register { nth, count, change } = *aside else { continue };
            let at = self.asides.registers;
            if at < nth || at - nth >= count {
                continue;
            }
            let told = match change {
                Change::Set(value) => value,
                Change::Xor(bits) => value ^ bits,
                Change::Add(more) => value.wrapping_add(more),
                Change::Noise => self.noise(),
            };
            let told = told & (u64::MAX >> (64 - 8 * u32::from(width)));
            self.asides_told += usize::from(told != value);
            self.last_lie = self.smcs;
            return told;
        }
        value
    }

    fn io_write(&mut self, ipa: u64, size: AccessSize, value: u64, _: &mut dyn RealmRam) {
        self.cross();
        let width = u8::try_from(size.bytes()).unwrap_or(8);
        Self::taken(self.bench.sim.io_write(&mut self.bench.model, ipa, width, value));
    }

    fn half_way(&mut self, ipa: u64, ram: &mut dyn RealmRam) {
        self.asides.copies += 1;
        let at = self.asides.copies;
        if self.setting.aside.iter().any(|aside| matches!(aside, Aside::MidCopy { nth } if *nth == at)) {
            // To the end of the page: never beyond what is shared.
            let len = usize::try_from(4096 - ipa % 4096).unwrap_or(0);
            let bytes: Vec<u8> = (0..len).map(|_| (self.noise() >> 56) as u8).collect();
            ram.write(ipa, &bytes);
            self.asides_told += 1;
            self.last_lie = self.smcs;
        }
    }

    fn ticks(&mut self, ticks: u64) -> u64 {
        self.asides.looks += 1;
        let at = self.asides.looks;
        let mut ticks = ticks.saturating_mul(HASTE);
        for aside in self.setting.aside {
            match *aside {
                Aside::ClockStands { nth } if at >= nth => {
                    ticks = u64::from(nth) * 1_000 * HASTE;
                    self.asides_told += usize::from(at > nth);
                }
                Aside::ClockJumps { nth, by } if at >= nth => {
                    ticks = ticks.wrapping_add(by);
                    self.asides_told += 1;
                }
                _ => {}
            }
        }
        ticks
    }
}

/// Boots. `armed`: the first NVMe runs before the firmware does.
pub fn run(scenario: &Scenario, armed: bool, setting: Setting<'_>) -> Ran {
    log::start();
    let functions: Vec<SimFunction> = machine::functions(scenario);
    let mut bench = Bench::new(scenario, functions);
    if armed {
        let first = scenario.device.iter().find(|spec| spec.model == DeviceModel::Nvme);
        let bdf = first.and_then(|spec| Some(bench.model.final_state().device(&spec.slot)?.bdf.clone()));
        if let Some(rid) = bdf.and_then(|bdf| routing_id(&bdf)) {
            let bar = common::real_bar_of(&mut bench.sim, rid);
            bench.sim.device_write(bar + 0x14, 4, 1);
        }
    }
    let mut image = Image::of(scenario);
    let tree = setting.tree.map(Held::new);
    if let Some(tree) = &tree {
        image.tree = tree.address();
    }
    let liar = Liar {
        bench,
        setting,
        asides: Asides::default(),
        asides_told: 0,
        crossings: 0,
        smcs: 0,
        first_locks: BTreeMap::new(),
        num_records: 0,
        openings: Vec::new(),
        states: BTreeSet::new(),
        last_lie: 0,
        last_info: BTreeMap::new(),
        num_told: 0,
        is_late: scenario.injection.iter().any(|injection| matches!(injection.act, Act::After(_))),
        noise: 7,
    };
    let mut platform = HostPlatform::new(liar, ipa_width());
    let own = IpaRange::new(ram().base, ram().len).expect("all RAM is a range");
    let mut boot = BootInfo { own, tree_ipa: image.tree, bundle: image.source(), room: Room::default() };
    let result = catch_unwind(AssertUnwindSafe(|| phases::run(&mut platform, &mut boot)));
    let end = match result {
        Ok(result) => End::Ended(result),
        Err(cause) => match cause.downcast::<Cut>() {
            Ok(cut) => match *cut {
                Cut::Stuck => End::Stuck,
                Cut::Aborted => End::Aborted,
                Cut::Endless => End::Endless,
            },
            Err(cause) => End::Panicked(panic_text(cause.as_ref())),
        },
    };
    let mapped = platform.shared().to_vec();
    let liar = platform.machine;
    let num_different = num_different(&liar, setting.tree.is_some());
    Ran {
        end,
        state: liar.bench.model.final_state(),
        log: log::take(),
        mapped,
        events: liar.bench.sim.records.into_iter().map(|record| record.event).collect(),
        openings: liar.openings,
        last_lie: liar.last_lie,
        last_info: liar.last_info,
        is_config_lie: is_config_lie(scenario),
        asides: liar.asides,
        asides_told: liar.asides_told,
        num_different,
        states: liar.states,
    }
}

fn panic_text(cause: &(dyn std::any::Any + Send)) -> String {
    let text = cause.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
}

/// A tree at a page of its own, as long as the boot runs.
struct Held(Vec<u8>);

impl Held {
    fn new(bytes: &[u8]) -> Self {
        let mut room = vec![0; bytes.len() + 4096];
        let skip = room.as_ptr().addr().next_multiple_of(4096) - room.as_ptr().addr();
        room[skip..skip + bytes.len()].copy_from_slice(bytes);
        Self(room)
    }

    fn address(&self) -> u64 {
        let skip = self.0.as_ptr().addr().next_multiple_of(4096) - self.0.as_ptr().addr();
        u64::try_from(self.0.as_ptr().expose_provenance() + skip).unwrap_or(0)
    }
}
