//! A host that enters two RECs at once: whenever the second one's calls fall between those of the first, the boot ends
//! the same, and the second REC is off.
mod common;

use common::image::Image;
use common::{Bench, functions, plain, ram, tree_at};
use dtoolkit::fdt::Fdt;
use gatehouse::addr::IpaRange;
use gatehouse::arch::host::{HostMachine, HostPlatform, RealmRam, ipa_width};
use gatehouse::phases::{self, BootInfo};
use gatehouse::platform::AccessSize;
use rmm_model::abi::psci::{PSCI_CPU_OFF, PSCI_VERSION, SMCCC_VERSION};
use rmm_model::{FinalState, Next, Scenario};

/// PSCI AFFINITY_INFO (DEN0022), and its answer for a REC that is off.
const AFFINITY_INFO: u64 = 0xc400_0004;
const OFF: u64 = 1;
/// Interleavings.
const RUNS: u64 = 100;

/// RMM, host and devices, and a second REC whose calls fall before numbered calls and accesses of the first.
struct Two {
    bench: Bench,
    /// Number of calls and accesses of the first REC so far.
    seen: usize,
    /// Before which of them which call of the second REC comes, ascending.
    second: Vec<(usize, u64)>,
    /// What the second REC was answered last.
    last: Option<Next>,
}

impl Two {
    /// Makes the calls of the second REC that are due.
    fn other(&mut self) {
        while let Some((at, fid)) = self.second.first().copied()
            && at <= self.seen
        {
            self.second.remove(0);
            let mut regs = [0; 18];
            regs[0] = fid;
            let next = self.bench.model.smc_on(1, &mut regs, &mut self.bench.sim);
            assert_eq!(next == Next::RecOff, fid == PSCI_CPU_OFF, "{fid:#x}: {next:?}");
            self.last = Some(next);
        }
        self.seen += 1;
    }
}

impl HostMachine for Two {
    fn smc(&mut self, regs: &mut [u64; 18], ram: &mut dyn RealmRam) {
        self.other();
        self.bench.smc(regs, ram);
    }

    fn io_read(&mut self, ipa: u64, size: AccessSize, ram: &mut dyn RealmRam) -> u64 {
        self.other();
        self.bench.io_read(ipa, size, ram)
    }

    fn io_write(&mut self, ipa: u64, size: AccessSize, value: u64, ram: &mut dyn RealmRam) {
        self.other();
        self.bench.io_write(ipa, size, value, ram);
    }
}

/// What a boot left: the state, the payload's tree, how often the first REC called out, whether the second is off.
struct Ended {
    state: FinalState,
    /// As text, without the regions on the heap: their places differ in this process.
    tree: String,
    entry: u64,
    seen: usize,
    is_second_off: bool,
}

fn boot(scenario: &Scenario, second: &[(usize, u64)]) -> Ended {
    common::log::start();
    let image = Image::of(scenario);
    let two = Two { bench: Bench::new(scenario, functions()), seen: 0, second: second.to_vec(), last: None };
    let mut platform = HostPlatform::new(two, ipa_width()).with_random(7);
    let own = IpaRange::new(ram().base, ram().len).unwrap();
    let mut boot = BootInfo { own, tree_ipa: image.tree, bundle: image.source(), room: Default::default() };
    let payload = phases::run(&mut platform, &mut boot).unwrap_or_else(|stop| panic!("{stop}"));
    let mut two = platform.machine;
    // What is left of the second REC comes behind the first one's last call.
    let seen = two.seen;
    two.seen = usize::MAX - 1;
    two.other();
    let mut state = two.bench.model.final_state();
    // The tree is measured with the places of its regions.
    state.rems[3].clear();
    let mut regs = [0; 18];
    (regs[0], regs[1]) = (AFFINITY_INFO, 1);
    assert_eq!(two.bench.model.smc(&mut regs, &mut two.bench.sim), Next::Resume);
    let is_second_off = two.last == Some(Next::RecOff) && regs[0] == OFF;
    let text = Fdt::new(&tree_at(payload.tree)).unwrap().to_string();
    let (front, rest) = text.split_once("reserved-memory {").unwrap();
    let tree = format!("{front}{}", rest.split_once("    cpus {").unwrap().1);
    Ended { state, tree, entry: payload.entry, seen, is_second_off }
}

/// SplitMix64.
fn random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn below(state: &mut u64, most: usize) -> usize {
    usize::try_from(random(state) % u64::try_from(most).unwrap()).unwrap()
}

/// The calls of the second REC in one run: perhaps some harmless ones, then CPU_OFF, at random places.
fn calls(seed: u64, seen: usize) -> Vec<(usize, u64)> {
    let mut state = seed;
    let mut fids: Vec<u64> = [SMCCC_VERSION, PSCI_VERSION, SMCCC_VERSION].into();
    fids.truncate(below(&mut state, 4));
    fids.push(PSCI_CPU_OFF);
    let mut places: Vec<usize> = match seed {
        // Before the first call, and behind the last one.
        0 => vec![0; fids.len()],
        1 => vec![seen; fids.len()],
        _ => fids.iter().map(|_| below(&mut state, seen + 1)).collect(),
    };
    places.sort_unstable();
    places.into_iter().zip(fids).collect()
}

#[test]
fn a_second_rec_changes_nothing_wherever_its_calls_fall() {
    let alone = boot(&plain(), &[]);
    assert!(alone.seen > 100 && !alone.is_second_off);
    let mut scenario = plain();
    scenario.vmm.recs = 2;
    let mut places = Vec::new();
    for seed in 0..RUNS {
        let second = calls(seed, alone.seen);
        let both = boot(&scenario, &second);
        assert!(both.is_second_off, "{second:?}");
        let mut state = both.state;
        // CPU_OFF is an exit to the host; the versions are not.
        state.totals.host_exits -= 1;
        assert_eq!(state, alone.state, "{second:?}");
        assert_eq!((both.seen, both.entry), (alone.seen, alone.entry), "{second:?}");
        assert_eq!(both.tree, alone.tree, "{second:?}");
        places.push(second);
    }
    places.sort();
    places.dedup();
    assert!(places.len() > 90, "{} different interleavings", places.len());
}

#[test]
fn a_second_rec_that_never_comes_changes_nothing_either() {
    let alone = boot(&plain(), &[]);
    let mut scenario = plain();
    scenario.vmm.recs = 2;
    let both = boot(&scenario, &[]);
    assert!(!both.is_second_off);
    assert_eq!((both.state, both.tree), (alone.state, alone.tree));
}
