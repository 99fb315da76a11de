//! The cases: each place of an honest boot, with each way in which it can lie.

use crate::bench::{Aside, Ran};
use crate::judge::{FALSE_EVIDENCE, Liar};
use crate::scenes::Scene;
use rmm_model::abi::{rhi, rsi};
use rmm_model::record::Event;
use rmm_model::scenario::{
    Act, Change, Crossing, Deed, Injection, Lie, Misbehaviour, ObjectKind, RhiCall, RhiOp, RipasTarget,
    RsiCall,
};
use std::collections::BTreeMap;

/// How the answer differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Not carried out, with this or that status.
    Refused,
    /// The same, so many times in a row, or for ever.
    RefusedAgain,
    /// Carried out, with another status.
    OtherStatus,
    /// Carried out, with another result.
    OtherResult,
    /// Carried out, with other bytes in memory.
    OtherBytes,
    /// Somebody acts before the call.
    Before,
    /// Somebody acts after the call.
    After,
    /// A load brings another value, once.
    OtherValue,
    /// Loads bring other values from there on.
    OtherValues,
    /// A store gets lost or changed.
    OtherStore,
    /// The second half of a copy is overwritten.
    MidCopy,
    /// The counter stands still or jumps.
    Clock,
    /// The VMM's tree says something else.
    Tree,
    /// A lie with a meaning of its own, of device or host: always, or from its second event on.
    Named,
}

impl Class {
    /// All of them, in the order of the table.
    pub const ALL: [Self; 14] = [
        Self::Refused,
        Self::RefusedAgain,
        Self::OtherStatus,
        Self::OtherResult,
        Self::OtherBytes,
        Self::Before,
        Self::After,
        Self::OtherValue,
        Self::OtherValues,
        Self::OtherStore,
        Self::MidCopy,
        Self::Clock,
        Self::Tree,
        Self::Named,
    ];

    /// Heads the column.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::RefusedAgain => "refused again",
            Self::OtherStatus => "other status",
            Self::OtherResult => "other result",
            Self::OtherBytes => "other bytes",
            Self::Before => "acts before",
            Self::After => "acts after",
            Self::OtherValue => "other value",
            Self::OtherValues => "other values",
            Self::OtherStore => "store lost or changed",
            Self::MidCopy => "changed during the copy",
            Self::Clock => "clock",
            Self::Tree => "tree",
            Self::Named => "named lie",
        }
    }
}

/// What is done.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// By the model.
    Inject(Injection),
    /// Beside it.
    Aside(Aside),
    /// By the model, under a name.
    Lie(Misbehaviour),
    /// The tree: 32-bit cell at this byte of it becomes this.
    Cell {
        /// Byte.
        at: usize,
        /// Value, big-endian there.
        value: u32,
    },
}

/// One case.
#[derive(Clone, Debug)]
pub struct Case {
    /// Where: `RSI_HOST_CALL`, `configuration load`, `tree /memory`.
    pub place: String,
    pub class: Class,
    pub liar: Liar,
    pub what: What,
}

impl Case {
    /// Names the case.
    pub fn name(&self) -> String {
        match &self.what {
            What::Inject(Injection { nth, count, act, .. }) => {
                let times = if *count == 1 { String::new() } else { format!(" x{count}") };
                format!("{} #{nth}{times} {act:?}", self.place)
            }
            What::Lie(Misbehaviour { lie, nth, .. }) => format!("{} {lie:?} #{nth}", self.place),
            What::Aside(aside) => format!("{} {aside:?}", self.place),
            What::Cell { at, value } => format!("{} +{at:#x} = {value:#x}", self.place),
        }
    }
}

const RSI_CALLS: [(&str, RsiCall); 12] = [
    ("RSI_VERSION", RsiCall::Version),
    ("RSI_FEATURES", RsiCall::Features),
    ("RSI_REALM_CONFIG", RsiCall::RealmConfig),
    ("RSI_MEASUREMENT_READ", RsiCall::MeasurementRead),
    ("RSI_MEASUREMENT_EXTEND", RsiCall::MeasurementExtend),
    ("RSI_IPA_STATE_SET", RsiCall::IpaStateSet),
    ("RSI_IPA_STATE_GET", RsiCall::IpaStateGet),
    ("RSI_HOST_CALL", RsiCall::HostCall),
    ("RSI_VDEV_GET_INFO", RsiCall::VdevGetInfo),
    ("RSI_VDEV_VALIDATE_MAPPING", RsiCall::VdevValidateMapping),
    ("RSI_VDEV_DMA_ENABLE", RsiCall::VdevDmaEnable),
    ("RSI_VDEV_DMA_DISABLE", RsiCall::VdevDmaDisable),
];

const RHI_CALLS: [(&str, RhiCall); 12] = [
    ("RHI_DA_VERSION", RhiCall::DaVersion),
    ("RHI_DA_FEATURES", RhiCall::DaFeatures),
    ("RHI_DA_OBJECT_SIZE", RhiCall::DaObjectSize),
    ("RHI_DA_OBJECT_READ", RhiCall::DaObjectRead),
    ("RHI_HOSTCONF_VERSION", RhiCall::HostconfVersion),
    ("RHI_HOSTCONF_FEATURES", RhiCall::HostconfFeatures),
    ("RHI_HOSTCONF_GET_IPA_CHANGE_ALIGNMENT", RhiCall::HostconfGetIpaChangeAlignment),
    ("RHI_DA_VDEV_CONTINUE", RhiCall::DaVdevContinue),
    ("RHI_DA_VDEV_GET_MEASUREMENTS", RhiCall::DaVdevGetMeasurements),
    ("RHI_DA_VDEV_GET_INTERFACE_REPORT", RhiCall::DaVdevGetInterfaceReport),
    ("RHI_DA_VDEV_SET_TDI_STATE", RhiCall::DaVdevSetTdiState),
    ("RHI_DA_VDEV_ABORT", RhiCall::DaVdevAbort),
];

/// Where loads and stores of configuration space stand in the table.
pub const CONFIG_LOAD: &str = "configuration load";
const CONFIG_STORE: &str = "configuration store";

/// Status values that no specification has, and those at the border.
const RESERVED: [u64; 5] = [0x5ead_beef, 1 << 32, i64::MAX as u64, u64::MAX - 1, u64::MAX];
/// How a result differs.
const CHANGES: [Change; 9] = [
    Change::Set(0),
    Change::Set(1),
    Change::Set(u64::MAX),
    Change::Set(1 << 63),
    Change::Xor(1),
    Change::Xor(1 << 32),
    Change::Add(0x1000),
    Change::Add(-0x1000i64 as u64),
    Change::Noise,
];
/// How a load of configuration space differs.
const VALUES: [Change; 8] = [
    Change::Set(0),
    Change::Set(u64::MAX),
    Change::Xor(1),
    Change::Xor(0x10),
    Change::Xor(0x8000_0000),
    Change::Xor(0x0001_0000),
    Change::Add(4),
    Change::Noise,
];
/// How bytes in memory differ.
const BYTES: [Change; 4] = [Change::Set(0), Change::Set(u64::MAX), Change::Xor(1), Change::Noise];
/// In a row: around the 64 at which the firmware gives up an RSI call, and for ever.
const ROWS: [u32; 5] = [2, 3, 64, 65, u32::MAX];
/// A place that one boot passes more often than this is thinned out to so many occurrences, evenly spread.
const OCCURRENCES_MAX: usize = 400;

/// The occurrences of a place that are lied at, from 1.
fn spread(count: u32, max: usize) -> impl Iterator<Item = u32> {
    let step = usize::try_from(count).unwrap_or(0).div_ceil(max).max(1);
    (1..=count).step_by(step)
}

/// One call of the honest boot: its status and results.
struct Made<'a> {
    status: u64,
    results: &'a [u64],
}

/// All cases of a scene, by what its honest boot does.
pub fn all(scene: &Scene, honest: &Ran) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut made: BTreeMap<&str, Vec<Made<'_>>> = BTreeMap::new();
    let mut configs = [Vec::new(), Vec::new()];
    for event in &honest.events {
        match event {
            Event::Rsi { call, status, results, .. } | Event::Rhi { call, status, results, .. } => {
                made.entry(call.as_ref()).or_default().push(Made { status: *status, results });
            }
            Event::Config { write, value, .. } => configs[usize::from(*write)].push(u64::from(*value)),
            _ => {}
        }
    }
    for (name, call) in RSI_CALLS {
        let made = made.get(name).map_or(&[][..], Vec::as_slice);
        calls(&mut cases, name, Crossing::Rsi(call), made);
    }
    for (name, call) in RHI_CALLS {
        let made = made.get(name).map_or(&[][..], Vec::as_slice);
        calls(&mut cases, name, Crossing::Rhi(call), made);
    }
    config(&mut cases, &configs);
    asides(&mut cases, honest);
    named(&mut cases);
    if scene.has_trees {
        super::trees::cases(&mut cases);
    }
    cases
}

fn inject(at: Crossing, nth: u32, act: Act) -> What {
    What::Inject(Injection { at, nth, count: 1, act, device: String::new() })
}

/// Whether the answer to a call is the host's word.
fn liar(at: Crossing, act: Act) -> Liar {
    match (at, act) {
        (Crossing::Rsi(_), Act::Before(_) | Act::After(_)) => Liar::Host,
        // How far RIPAS and mapping go, and whether they go on, is the host's choice that the RMM hands on.
        (Crossing::Rsi(RsiCall::IpaStateSet | RsiCall::VdevValidateMapping), Act::Answer { word: 2, .. }) => {
            Liar::Host
        }
        (Crossing::Rsi(_), _) => Liar::Trusted,
        _ => Liar::Host,
    }
}

fn calls(cases: &mut Vec<Case>, name: &str, at: Crossing, made: &[Made<'_>]) {
    let mut push = |class, act, what| {
        cases.push(Case { place: name.to_owned(), class, liar: liar(at, act), what });
    };
    let known = match at {
        Crossing::Rsi(_) => 0..=rsi::RSI_ERROR_DEVICE + 1,
        _ => 0..=rhi::OBJECT_UNSUPPORTED + 1,
    };
    let words = if matches!(at, Crossing::Rsi(RsiCall::MeasurementRead)) { 8 } else { 3 };
    let count = u32::try_from(made.len()).unwrap_or(u32::MAX);
    for nth in spread(count, OCCURRENCES_MAX) {
        let truth = &made[nth as usize - 1];
        let all = known.clone().chain(RESERVED);
        for status in all.clone() {
            let act = Act::Refuse(status);
            push(Class::Refused, act, inject(at, nth, act));
            if status != truth.status {
                let act = Act::Answer { word: 0, change: Change::Set(status) };
                push(Class::OtherStatus, act, inject(at, nth, act));
            }
        }
        for word in 1..=words {
            let truth = truth.results.get(usize::from(word) - 1).copied().unwrap_or(0);
            for change in CHANGES.into_iter().filter(|change| *change != Change::Set(truth)) {
                let act = Act::Answer { word, change };
                push(Class::OtherResult, act, inject(at, nth, act));
            }
        }
        for offset in offsets(at) {
            for change in BYTES {
                let act = Act::Memory { offset, change };
                push(Class::OtherBytes, act, inject(at, nth, act));
            }
        }
        for deed in Deed::ALL {
            push(Class::Before, Act::Before(deed), inject(at, nth, Act::Before(deed)));
            push(Class::After, Act::After(deed), inject(at, nth, Act::After(deed)));
        }
    }
    // In a row, from each of the first occurrences on.
    for nth in spread(count, 12) {
        let again = match at {
            Crossing::Rsi(_) => [rsi::RSI_SUCCESS, rsi::RSI_INCOMPLETE, rsi::RSI_ERROR_UNKNOWN, u64::MAX],
            _ => [rhi::SUCCESS, rhi::INCOMPLETE, rhi::BUSY, u64::MAX],
        };
        for status in again {
            for count in ROWS {
                let act = Act::Refuse(status);
                let what = Injection { at, nth, count, act, device: String::new() };
                push(Class::RefusedAgain, act, What::Inject(what));
            }
        }
    }
}

/// Where the structure of a call is lied about.
fn offsets(at: Crossing) -> Vec<u16> {
    match at {
        // Every field, and what is reserved behind them.
        Crossing::Rsi(RsiCall::VdevGetInfo) => (0..0x200).step_by(8).collect(),
        Crossing::Rsi(RsiCall::RealmConfig) => (0..0x240).step_by(8).chain([0x400, 0xff8]).collect(),
        Crossing::Rhi(RhiCall::DaObjectRead) => {
            (0..0x80).step_by(8).chain([0x90, 0x100, 0x120, 0x180, 0x200, 0x280, 0x300, 0x400]).collect()
        }
        _ => Vec::new(),
    }
}

fn config(cases: &mut Vec<Case>, [loads, stores]: &[Vec<u64>; 2]) {
    let number = |list: &[u64]| u32::try_from(list.len()).unwrap_or(u32::MAX);
    let at = Crossing::ConfigRead;
    let mut push = |place: &str, class, what| {
        cases.push(Case { place: place.to_owned(), class, liar: Liar::Host, what });
    };
    for nth in spread(number(loads), OCCURRENCES_MAX) {
        for change in VALUES {
            push(CONFIG_LOAD, Class::OtherValue, inject(at, nth, Act::Answer { word: 0, change }));
        }
    }
    for nth in spread(number(loads), 100) {
        for change in VALUES {
            let act = Act::Answer { word: 0, change };
            for count in [2, 3, u32::MAX] {
                let what = Injection { at, nth, count, act, device: String::new() };
                push(CONFIG_LOAD, Class::OtherValues, What::Inject(what));
            }
        }
        for deed in [Deed::Unplug, Deed::Plug, Deed::Reset, Deed::Error] {
            push(CONFIG_LOAD, Class::Before, inject(at, nth, Act::Before(deed)));
        }
    }
    let at = Crossing::ConfigWrite;
    for nth in spread(number(stores), OCCURRENCES_MAX) {
        push(CONFIG_STORE, Class::OtherStore, inject(at, nth, Act::Refuse(0)));
        for change in VALUES {
            push(CONFIG_STORE, Class::OtherStore, inject(at, nth, Act::Answer { word: 0, change }));
        }
        for deed in [Deed::Unplug, Deed::Reset, Deed::Error, Deed::Relock] {
            push(CONFIG_STORE, Class::After, inject(at, nth, Act::After(deed)));
        }
    }
    let what = Injection { at, nth: 1, count: u32::MAX, act: Act::Refuse(0), device: String::new() };
    push(CONFIG_STORE, Class::OtherStore, What::Inject(what));
}

fn asides(cases: &mut Vec<Case>, honest: &Ran) {
    let mut push = |place: &str, class, liar, aside| {
        cases.push(Case { place: place.to_owned(), class, liar, what: What::Aside(aside) });
    };
    for nth in spread(honest.asides.registers, 100) {
        for change in VALUES {
            for count in [1, u32::MAX] {
                let class = if count == 1 { Class::OtherValue } else { Class::OtherValues };
                push("device register", class, Liar::Trusted, Aside::Register { nth, count, change });
            }
        }
    }
    for nth in spread(honest.asides.copies, 100) {
        push("copy out of the shared window", Class::MidCopy, Liar::Host, Aside::MidCopy { nth });
    }
    for nth in spread(honest.asides.looks, 100) {
        push("counter", Class::Clock, Liar::Host, Aside::ClockStands { nth });
        for by in [1 << 32, 1 << 62, u64::MAX] {
            push("counter", Class::Clock, Liar::Host, Aside::ClockJumps { nth, by });
        }
    }
}

/// The lies of docs/scenarios.md, at their first two events and always.
fn named(cases: &mut Vec<Case>) {
    let mut lies: Vec<(&str, Lie)> = FALSE_EVIDENCE.iter().map(|lie| ("evidence", *lie)).collect();
    for object in [ObjectKind::Vca, ObjectKind::Certificate, ObjectKind::Measurements, ObjectKind::Report] {
        let of = [
            Lie::ObjectMissing { object },
            Lie::ObjectEmpty { object },
            Lie::ObjectTooLarge { object },
            Lie::ObjectSize { object, size: 1 },
            Lie::ObjectSize { object, size: u64::MAX },
            Lie::ShortRead { object, by: 1 },
            Lie::ShortRead { object, by: u32::MAX },
            Lie::LongRead { object },
            Lie::DigestZero { object },
        ];
        lies.extend(of.map(|lie| ("objects", lie)));
        let bytes = (0..96).flat_map(|offset| [1, 0x80].map(|xor| (offset, xor)));
        lies.extend(bytes.map(|(offset, xor)| ("objects", Lie::ObjectByte { object, offset, xor })));
    }
    for op in [RhiOp::Lock, RhiOp::Run, RhiOp::Unlock, RhiOp::Report, RhiOp::Measurements] {
        let of = [
            Lie::RhiIncompleteForever { op },
            Lie::RhiBusy { op },
            Lie::HandleZero { op },
            Lie::OpIgnored { op },
            Lie::OpFails { op },
            Lie::FunctionVanishes { rid: 0x18, after: op },
            Lie::FunctionAppears { rid: 0x30, after: op },
        ];
        lies.extend(of.map(|lie| ("operations", lie)));
    }
    for call in [RsiCall::VdevValidateMapping, RsiCall::IpaStateSet] {
        lies.extend([("progress", Lie::NextStuck { call })]);
    }
    for after_pages in 0..3 {
        lies.push(("progress", Lie::ValidateReject { after_pages }));
        lies.extend(
            [RipasTarget::Empty, RipasTarget::Ram]
                .map(|to| ("progress", Lie::IpaStateReject { to, after_pages })),
        );
    }
    lies.extend([Lie::ErrorAfterRun, Lie::UnlockFails].map(|lie| ("device", lie)));
    lies.extend([2, 4, 6].map(|mask| ("device", Lie::CommandStuck { mask })));
    for bar in 0..6 {
        lies.extend([0x10, 0x1000, 0x8000_0000].map(|xor| ("device", Lie::BarReadback { bar, xor })));
    }
    for (place, lie) in lies {
        for nth in [1, 2, 0] {
            let what = What::Lie(Misbehaviour { nth, ..Misbehaviour::once(lie) });
            cases.push(Case { place: place.to_owned(), class: Class::Named, liar: Liar::Host, what });
        }
    }
}
