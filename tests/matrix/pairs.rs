//! Two lies in one boot: pairs of classes, sampled by a seed.

use crate::cases::{Case, Class};
use crate::judge::{Liar, judge};
use crate::runner::{Block, Line, Told, boot, cases_of, told};
use crate::scenes::{Scene, scenes};
use std::collections::BTreeMap;

/// Words of a pair's place in the sample; SplitMix64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % sides as u64).unwrap_or(0)
    }
}

/// The pair with this number: first its classes, so that each pair of classes is met equally often, then the cases.
fn pair<'a>(by_class: &[Vec<&'a Case>], seed: u64, number: usize) -> [&'a Case; 2] {
    let mut dice = Dice(seed << 32 ^ number as u64);
    [(), ()].map(|()| {
        let class = &by_class[dice.roll(by_class.len())];
        class[dice.roll(class.len())]
    })
}

fn by_class(cases: &[Case]) -> Vec<Vec<&Case>> {
    let mut found: BTreeMap<Class, Vec<&Case>> = BTreeMap::new();
    for case in cases {
        found.entry(case.class).or_default().push(case);
    }
    found.into_values().collect()
}

/// Runs pairs with these numbers in this process and prints a line for each.
pub fn block(name: &str, seed: u64, numbers: &[usize]) -> Result<(), String> {
    let scenes = scenes(true);
    let scene = scenes.iter().find(|scene| scene.name == name).ok_or("no such scene")?;
    let cases = cases_of(scene)?;
    let by_class = by_class(&cases);
    numbers.iter().for_each(|number| run(scene, pair(&by_class, seed, *number), false).print(*number));
    Ok(())
}

fn run(scene: &Scene, pair: [&Case; 2], show_log: bool) -> Line {
    let whats = pair.map(|case| &case.what);
    let (scenario, ran) = boot(scene, &whats);
    if show_log {
        println!("{}\n{:#?}", ran.log.join("\n"), ran.state.devices);
    }
    let liar = pair.map(|case| case.liar).into_iter().max().unwrap_or(Liar::Host);
    let verdict = judge(&scenario, &ran, liar);
    let both = whats.iter().all(|what| told(scene, &[what], &ran) != Told::No) && ran.num_different > 1;
    let told = if both { Told::Yes } else { Told::Same };
    Line { told, outcome: verdict.outcome, violations: verdict.violations }
}

/// Runs `num` pairs, spread over the scenes of every run, and says what came of them.
pub fn all(num: usize, seed: u64) -> Result<bool, String> {
    let scenes = scenes(false);
    let (mut boots, mut both, mut violations) = (0, 0, 0);
    for scene in &scenes {
        let cases = cases_of(scene)?;
        let by_class = by_class(&cases);
        let numbers: Vec<usize> = (0..num.div_ceil(scenes.len())).collect();
        for (number, line) in (Block::Pairs { scene: scene.name, seed }).run(&numbers) {
            boots += 1;
            both += usize::from(line.told == Told::Yes);
            violations += usize::from(!line.violations.is_empty());
            for violation in line.violations.iter().filter(|_| violations <= 40) {
                let [first, second] = pair(&by_class, seed, number);
                println!("{} pair {number}: {} + {}: {violation}", scene.name, first.name(), second.name());
            }
        }
    }
    println!("pairs, seed {seed}: {boots} boots, both lies told in {both}, {violations} violations");
    let (word, passed, failed) = if violations == 0 { ("ok", 1, 0) } else { ("FAILED", 0, 1) };
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored");
    Ok(violations == 0)
}

/// Shows one pair.
pub fn show(name: &str, seed: u64, number: usize) -> Result<(), String> {
    let scenes = scenes(true);
    let scene = scenes.iter().find(|scene| scene.name == name).ok_or("no such scene")?;
    let cases = cases_of(scene)?;
    let pair = pair(&by_class(&cases), seed, number);
    pair.iter().for_each(|case| println!("{}", case.name()));
    run(scene, pair, true).print(number);
    Ok(())
}
