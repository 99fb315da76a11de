//! Makes inputs of inputs, and keeps those that reach something new.

use crate::coverage;
use std::collections::HashSet;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longest input.
const LEN_MAX: usize = 64 * 1024;
/// Numbers at which things go wrong.
const NUMBERS: [u64; 14] = [
    0,
    1,
    7,
    8,
    0x7f,
    0xff,
    0x1000,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 43,
    i64::MAX as u64,
    u64::MAX,
];

/// SplitMix64.
pub struct Dice(pub u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end.max(1) as u64).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        (self.next() >> 56) as u8
    }
}

/// Makes an input of one of the pool and pieces of another one.
pub fn mutant(pool: &[Vec<u8>], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = pool[dice.below(pool.len())].clone();
    for _ in 0..1 + dice.below(5) {
        let at = dice.below(bytes.len() + 1);
        let end = bytes.len().min(at + 1 + dice.below(16));
        match dice.below(9) {
            0 | 1 => bytes.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << dice.below(8)),
            2 => bytes.get_mut(at).into_iter().for_each(|byte| *byte = dice.byte()),
            3 => {
                let len = 1 << dice.below(4);
                let mut number = NUMBERS[dice.below(NUMBERS.len())].to_le_bytes()[..len].to_vec();
                if dice.below(2) == 0 {
                    number.reverse();
                }
                bytes.iter_mut().skip(at).zip(number).for_each(|(to, from)| *to = from);
            }
            4 => drop(bytes.drain(at..end)),
            5 => {
                let piece: Vec<u8> = (0..1 + dice.below(8)).map(|_| dice.byte()).collect();
                drop(bytes.splice(at..at, piece));
            }
            6 => {
                let other = &pool[dice.below(pool.len())];
                let from = dice.below(other.len() + 1);
                let piece = other[from..other.len().min(from + 1 + dice.below(64))].to_vec();
                let end = if dice.below(2) == 0 { at } else { bytes.len().min(at + piece.len()) };
                drop(bytes.splice(at..end, piece));
            }
            7 => {
                let piece = bytes[at..end].to_vec();
                let to = dice.below(bytes.len() + 1);
                drop(bytes.splice(to..to, piece));
            }
            _ => bytes.truncate(at),
        }
    }
    bytes.truncate(LEN_MAX);
    bytes
}

/// Runs an input; the panic's text, if it panics.
pub fn run(target: fn(&[u8]), bytes: &[u8]) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| target(bytes))).map_err(|cause| {
        let text = cause.downcast_ref::<String>().map(String::as_str);
        text.or_else(|| cause.downcast_ref::<&str>().copied()).unwrap_or("a panic").to_owned()
    })
}

/// What a run of a target came to.
pub struct Report {
    /// Inputs that were run.
    pub inputs: u64,
    /// Inputs that reached something new.
    pub kept: Vec<Vec<u8>>,
    /// Edges that ran.
    pub edges: usize,
    /// What panicked, and how.
    pub finding: Option<(Vec<u8>, String)>,
}

/// Runs mutants of the pool until `limit`; by `seed`.
pub fn fuzz(target: fn(&[u8]), mut pool: Vec<Vec<u8>>, seed: u64, limit: Limit) -> Report {
    let mut dice = Dice(seed);
    let mut seen: HashSet<(usize, u8)> = HashSet::new();
    let mut report = Report { inputs: 0, kept: Vec::new(), edges: 0, finding: None };
    let start = Instant::now();
    for bytes in &pool {
        coverage::reset();
        if let Err(text) = run(target, bytes) {
            report.finding = Some((bytes.clone(), text));
            return report;
        }
        seen.extend(coverage::seen());
    }
    while limit.goes_on(report.inputs, start) {
        let bytes = mutant(&pool, &mut dice);
        report.inputs += 1;
        coverage::reset();
        if let Err(text) = run(target, &bytes) {
            report.finding = Some((bytes, text));
            break;
        }
        let now = coverage::seen();
        if now.iter().any(|edge| !seen.contains(edge)) {
            seen.extend(now);
            pool.push(bytes.clone());
            report.kept.push(bytes);
        }
    }
    report.edges = seen.iter().map(|edge| edge.0).collect::<HashSet<_>>().len();
    report
}

/// When a run ends.
#[derive(Clone, Copy)]
pub enum Limit {
    /// After so many inputs.
    Inputs(u64),
    /// After so long.
    Time(Duration),
}

impl Limit {
    fn goes_on(self, inputs: u64, start: Instant) -> bool {
        match self {
            Self::Inputs(most) => inputs < most,
            Self::Time(most) => start.elapsed() < most,
        }
    }
}

/// The committed inputs of a target.
pub fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus").join(name);
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    paths.iter().filter_map(|path| fs::read(path).ok()).collect()
}
