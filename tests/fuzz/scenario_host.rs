//! A byte string as the host of a whole boot: eight bytes each say where it acts, and how.

use crate::bench::{Setting, run};
use crate::judge::{Liar, judge};
use rmm_model::Scenario;
use rmm_model::scenario::{Act, Asym, Change, Crossing, Deed, DeviceSpec, Injection, RhiCall, RsiCall};

/// Bytes of one act.
const ACT_LEN: usize = 8;
/// Most acts of one host.
const ACTS_MAX: usize = 32;

/// Where the host has the word.
const PLACES: [Crossing; 18] = [
    Crossing::Rhi(RhiCall::DaVersion),
    Crossing::Rhi(RhiCall::DaFeatures),
    Crossing::Rhi(RhiCall::DaObjectSize),
    Crossing::Rhi(RhiCall::DaObjectRead),
    Crossing::Rhi(RhiCall::HostconfVersion),
    Crossing::Rhi(RhiCall::HostconfFeatures),
    Crossing::Rhi(RhiCall::HostconfGetIpaChangeAlignment),
    Crossing::Rhi(RhiCall::DaVdevContinue),
    Crossing::Rhi(RhiCall::DaVdevGetMeasurements),
    Crossing::Rhi(RhiCall::DaVdevGetInterfaceReport),
    Crossing::Rhi(RhiCall::DaVdevSetTdiState),
    Crossing::Rhi(RhiCall::DaVdevAbort),
    Crossing::ConfigRead,
    Crossing::ConfigWrite,
    // There it acts behind the realm's back only: the answer is the RMM's.
    Crossing::Rsi(RsiCall::VdevGetInfo),
    Crossing::Rsi(RsiCall::VdevValidateMapping),
    Crossing::Rsi(RsiCall::VdevDmaEnable),
    Crossing::Rsi(RsiCall::MeasurementExtend),
];

/// One act: place, occurrence, times, kind, word or deed, change, number.
fn act(bytes: &[u8; ACT_LEN]) -> Injection {
    let [place, nth, count, kind, word, change, low, high] = *bytes;
    let at = PLACES[usize::from(place) % PLACES.len()];
    let number = u64::from(low) | u64::from(high & 0x7f) << 8;
    let change = match change % 6 {
        0 => Change::Set(number),
        1 => Change::Set(u64::MAX - number),
        2 => Change::Xor(1 << (low % 64)),
        3 => Change::Add(number << 12),
        4 => Change::Add(number.wrapping_neg()),
        _ => Change::Noise,
    };
    let deed = Deed::ALL[usize::from(word) % Deed::ALL.len()];
    let act = match kind % 5 {
        0 => Act::Before(deed),
        1 => Act::After(deed),
        _ if matches!(at, Crossing::Rsi(_)) => Act::Before(deed),
        2 => Act::Refuse(number),
        3 if matches!(at, Crossing::Rhi(RhiCall::DaObjectRead)) => {
            Act::Memory { offset: u16::from(word) * 4, change }
        }
        _ => Act::Answer { word: word % 4, change },
    };
    let count = if count == u8::MAX { u32::MAX } else { u32::from(count % 8) + 1 };
    let device = if high & 0x80 == 0 { "" } else { "04.0" };
    Injection { at, nth: u32::from(nth) + 1, count, act, device: device.into() }
}

/// A boot with two devices, one required, one optional; panics if a rule of docs/threat-model.md is broken.
pub fn target(bytes: &[u8]) {
    let device = |slot: &str| {
        let mut spec = DeviceSpec { slot: slot.into(), ..DeviceSpec::default() };
        spec.spdm.asym = Asym::P256;
        spec
    };
    let mut scenario = Scenario {
        device: vec![device("02.0"), device("04.0")],
        config_records: false,
        injection: bytes.as_chunks().0.iter().take(ACTS_MAX).map(act).collect(),
        ..Scenario::default()
    };
    scenario.host.incomplete = u32::from(bytes.len() % ACT_LEN % 2 == 1);
    let ran = run(&scenario, true, Setting::default());
    let verdict = judge(&scenario, &ran, Liar::Host);
    assert!(verdict.violations.is_empty(), "{:?}", verdict.violations);
}

/// A host that does three things.
pub fn example() -> Vec<u8> {
    vec![14, 3, 0, 0, 2, 0, 0, 0, 3, 1, 0, 3, 5, 2, 1, 0, 10, 0, 0, 2, 0, 0, 6, 0]
}
