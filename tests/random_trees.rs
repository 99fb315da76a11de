//! Random bytes in the device tree: each boot ends in a stop code of the phases, or hands off as it should. The boot tests
//! of scripts/test --deep do the same in QEMU, with the same bytes.
mod common;

use common::image::{Image, place, tree};
use common::{Boot, Ran, plain};
use gatehouse::arch::host::{HostRam, RealmRam, ipa_width};
use rmm_model::final_state::TdiState;
use rmm_model::machine::DmaGate;
use rmm_model::scenario::TreeNoise;
use std::collections::BTreeMap;

/// More than any length that a tree may claim: what lies behind it is zero.
const ROOM: usize = 4 << 20;

/// Boots with the trees of these seeds and counts the ends by code; 0 is a hand-off.
fn ends(seeds: std::ops::Range<u64>, len: fn(u64) -> u64) -> BTreeMap<u16, u32> {
    let good = tree(|_| {});
    // One place for all of them.
    let address = place(&vec![0; ROOM], 4096);
    let scenario = plain();
    let mut ends = BTreeMap::new();
    for seed in seeds {
        let mut bytes = good.clone();
        TreeNoise::somewhere(seed, len(seed)).apply(&mut bytes);
        HostRam::new(ipa_width()).write(address, &bytes);
        let boot = Boot::new(&scenario);
        let ran = Boot { image: Image { tree: address, ..boot.image }, ..boot }.run();
        holds(seed, &ran);
        *ends.entry(ran.code().map_or(0, |code| code.number())).or_insert(0) += 1;
    }
    ends
}

fn holds(seed: u64, ran: &Ran) {
    let log = || ran.log.join("\n");
    assert_eq!(ran.state.violations, Vec::<String>::new(), "seed {seed}\n{}", log());
    assert!(ran.state.shared.is_empty() && ran.mapped.is_empty(), "seed {seed}\n{}", log());
    if ran.result.is_ok() {
        assert_eq!(
            (ran.device().state, ran.device().dma),
            (TdiState::Run, DmaGate::PrivateOnly),
            "seed {seed}\n{}",
            log()
        );
    } else {
        assert_eq!(
            (ran.device().state, ran.device().dma),
            (TdiState::Unlocked, DmaGate::Abort),
            "seed {seed}\n{}",
            log()
        );
    }
}

#[test]
fn ten_thousand_trees_with_4_kib_of_random_bytes_end_in_a_code_or_a_correct_boot() {
    let ends = ends(0..10_000, |_| 4096);
    assert!(ends.len() >= 2, "only one end, the noise proves little: {ends:?}");
}

#[test]
fn trees_with_a_few_random_bytes_end_in_a_code_or_a_correct_boot() {
    let ends = ends(0..400, |seed| 1 + seed % 8);
    assert!(ends.len() >= 3 && ends.contains_key(&0), "the noise proves little: {ends:?}");
}
