//! Runs cases on all cores and counts what they come to.

use crate::bench::{self, Ran, Setting};
use crate::cases::{self, Case, Class, What};
use crate::judge::{Liar, Outcome, judge};
use crate::scenes::{Scene, scenes};
use crate::{explore, mutants, pairs, table, trees};
use rmm_model::Scenario;
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// What is run beside other tests.
const SAMPLE: usize = 97;
/// Violations that are printed.
const SHOWN: usize = 40;

/// What the command line asks for.
pub struct Options {
    all: bool,
    every: usize,
    filter: String,
    list: bool,
    write: Option<PathBuf>,
    check: Option<PathBuf>,
    json: Option<PathBuf>,
    log: bool,
    seed: u64,
    what: Work,
}

/// What is to be done; what a block is, the program asks of itself only.
enum Work {
    Table,
    Mutations,
    Pairs(usize),
    Explore,
    Show(String, usize),
    Mutant(String),
    Block(String, Vec<usize>),
    PairBlock(String, Vec<usize>),
    ExploreBlock(Vec<usize>),
}

impl Options {
    /// Reads the command line; `None`: it asks for help.
    pub fn read(mut words: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self {
            all: false,
            every: SAMPLE,
            filter: String::new(),
            list: false,
            write: None,
            check: None,
            json: None,
            log: false,
            seed: 1,
            what: Work::Table,
        };
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or(format!("{word} needs a value"));
            match word.as_str() {
                "--all" => options.all = true,
                "--every" => options.every = number(&value()?)?,
                "--filter" => options.filter = value()?,
                "--log" => options.log = true,
                "--seed" => options.seed = number(&value()?)?,
                "--mutations" => options.what = Work::Mutations,
                "--mutant" => options.what = Work::Mutant(value()?),
                "--pairs" => options.what = Work::Pairs(number(&value()?)?),
                "--explore" => options.what = Work::Explore,
                "--show" => options.what = Work::Show(value()?, number(&value()?)?),
                "--block" => options.what = Work::Block(value()?, numbers(&value()?)),
                "--pair-block" => options.what = Work::PairBlock(value()?, numbers(&value()?)),
                "--explore-block" => options.what = Work::ExploreBlock(numbers(&value()?)),
                "--list" => options.list = true,
                "--write" => options.write = Some(value()?.into()),
                "--check" => options.check = Some(value()?.into()),
                "--json" => options.json = Some(value()?.into()),
                "-h" | "--help" => return Ok(None),
                // What `cargo test` passes on is for the harness that this test has not.
                _ if word.starts_with("--test-threads") || word == "--nocapture" || word == "-q" => {}
                _ => return Err(format!("unknown word {word}")),
            }
        }
        options.every = options.every.max(1);
        Ok(Some(options))
    }
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("{word} is no number"))
}

fn numbers(word: &str) -> Vec<usize> {
    word.split(',').filter_map(|number| number.parse().ok()).collect()
}

/// How many cases of one kind came to what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Cases whose lie was told.
    pub cases: u32,
    pub boots: u32,
    pub stops: u32,
    pub leaking: u32,
    pub dies: u32,
    /// Cases in which somebody lies who is believed.
    pub trusted: u32,
    pub violations: u32,
    /// What was told was the truth: no case.
    pub same: u32,
    /// The lie was not told.
    pub untold: u32,
}

impl Counts {
    /// Adds.
    pub fn add(&mut self, other: &Self) {
        self.cases += other.cases;
        self.boots += other.boots;
        self.stops += other.stops;
        self.leaking += other.leaking;
        self.dies += other.dies;
        self.trusted += other.trusted;
        self.violations += other.violations;
        self.same += other.same;
        self.untold += other.untold;
    }
}

/// Scene, place, class.
pub type Key = (&'static str, String, Class);

/// Boots with what a case lies.
pub fn boot(scene: &Scene, whats: &[&What]) -> (Scenario, Ran) {
    let mut scenario = scene.scenario.clone();
    scenario.config_records = false;
    let (mut aside, mut tree) = (Vec::new(), None);
    for what in whats {
        match what {
            What::Inject(injection) => scenario.injection.push(injection.clone()),
            What::Lie(lie) => scenario.misbehaviour.push(lie.clone()),
            What::Aside(lie) => aside.push(*lie),
            What::Cell { at, value } => tree = Some(trees::changed(*at, *value)),
        }
    }
    let setting = Setting { aside: &aside, tree: tree.as_deref(), states: false };
    let ran = bench::run(&scenario, scene.is_armed, setting);
    (scenario, ran)
}

/// Whether the lie was told: yes, it was the truth, no.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Yes,
    Same,
    No,
}

/// Whether the lies of a boot were told.
pub fn told(scene: &Scene, whats: &[&What], ran: &Ran) -> Told {
    // What the scene itself lies is no case.
    let own: Vec<String> = scene.scenario.misbehaviour.iter().map(|told| told.lie.name()).collect();
    let mine: Vec<&String> = ran.state.lies.iter().filter(|name| !own.contains(name)).collect();
    if whats.iter().any(|what| matches!(what, What::Cell { .. }))
        || ran.asides_told > 0
        || mine.iter().any(|name| *name != "without-effect")
    {
        return Told::Yes;
    }
    // A register, or a counter, that says so anyway.
    let is_aside = whats.iter().any(|what| matches!(what, What::Aside(_)));
    // A lie that waits for an event that the boot does not have.
    let is_idle = whats.iter().any(|what| matches!(what, What::Lie(_)));
    match mine.iter().any(|name| *name == "without-effect") || is_aside || is_idle {
        true => Told::Same,
        false => Told::No,
    }
}

fn counted(case: &Case, line: &Line) -> Counts {
    let mut counts = Counts { violations: u32::from(!line.violations.is_empty()), ..Counts::default() };
    match line.told {
        Told::Yes => {
            counts.cases = 1;
            counts.trusted = u32::from(case.liar == Liar::Trusted);
            match line.outcome {
                Outcome::Boots => counts.boots = 1,
                Outcome::Stops => counts.stops = 1,
                Outcome::StopsLeaking => counts.leaking = 1,
                Outcome::Dies => counts.dies = 1,
            }
        }
        Told::Same => counts.same = 1,
        Told::No => counts.untold = 1,
    }
    counts
}

/// Cases that one process runs: what the firmware leaks on purpose (it never frees what it shared, or handed over) goes with it.
const BLOCK: usize = 400;

/// What came of one case.
pub struct Line {
    pub told: Told,
    pub outcome: Outcome,
    /// Rules that were broken.
    pub violations: Vec<String>,
}

impl Line {
    /// `number told outcome`, then the violations, with tabs.
    pub fn print(&self, index: usize) {
        let told = [Told::Yes, Told::Same, Told::No].iter().position(|told| *told == self.told).unwrap_or(2);
        let outcome = Outcome::ALL.iter().position(|outcome| *outcome == self.outcome).unwrap_or(0);
        println!("{index}\t{told}\t{outcome}\t{}", self.violations.join("\t").replace('\n', " "));
    }

    fn read(line: &str) -> Option<(usize, Self)> {
        let mut parts = line.split('\t');
        let mut number = || parts.next()?.parse::<usize>().ok();
        let (index, told, outcome) = (number()?, number()?, number()?);
        let told = [Told::Yes, Told::Same, Told::No].get(told).copied()?;
        let outcome = Outcome::ALL.get(outcome).copied()?;
        let violations = parts.filter(|text| !text.is_empty()).map(str::to_owned).collect();
        Some((index, Self { told, outcome, violations }))
    }
}

/// The cases of a scene, by its honest boot.
///
/// # Errors
/// What is wrong with the honest boot.
pub fn cases_of(scene: &Scene) -> Result<Vec<Case>, String> {
    let honest = bench::run(&scene.scenario, scene.is_armed, Setting::default());
    let verdict = judge(&scene.scenario, &honest, Liar::Host);
    if verdict.violations.is_empty() {
        Ok(cases::all(scene, &honest))
    } else {
        Err(format!(
            "{}: the honest boot is wrong: {:?}\n{}",
            scene.name,
            verdict.violations,
            honest.log.join("\n")
        ))
    }
}

pub fn run_case(scene: &Scene, case: &Case, show_log: bool) -> Line {
    let (scenario, ran) = boot(scene, &[&case.what]);
    if show_log {
        println!("== {}: {}\n{}\n{:#?}", scene.name, case.name(), ran.log.join("\n"), ran.state.devices);
    }
    let told = told(scene, &[&case.what], &ran);
    let verdict = judge(&scenario, &ran, case.liar);
    Line { told, outcome: verdict.outcome, violations: verdict.violations }
}

/// Runs cases with these numbers in this process and prints a line for each.
fn block(name: &str, numbers: &[usize]) -> Result<(), String> {
    let scenes = scenes(true);
    let scene = scenes.iter().find(|scene| scene.name == name).ok_or("no such scene")?;
    let cases = cases_of(scene)?;
    for index in numbers {
        run_case(scene, &cases[*index], false).print(*index);
    }
    Ok(())
}

/// Work for processes of their own.
#[derive(Clone, Copy)]
pub enum Block {
    /// Cases of a scene.
    Cases(&'static str),
    /// Pairs of cases of a scene.
    Pairs {
        /// Scene.
        scene: &'static str,
        /// Seed.
        seed: u64,
    },
    /// First acts of the host.
    Explore,
}

impl Block {
    fn words(self) -> Vec<String> {
        match self {
            Self::Cases(scene) => vec!["--block".into(), scene.into()],
            Self::Pairs { scene, seed } => {
                vec!["--seed".into(), seed.to_string(), "--pair-block".into(), scene.into()]
            }
            Self::Explore => vec!["--explore-block".into()],
        }
    }

    /// Runs the numbers in processes, one for each core at a time; what came of each.
    pub fn run(self, numbers: &[usize]) -> BTreeMap<usize, Line> {
        let next = AtomicUsize::new(0);
        let results = Mutex::new(BTreeMap::new());
        let size = if matches!(self, Self::Explore) { 4 } else { BLOCK };
        let parts: Vec<&[usize]> = numbers.chunks(size).collect();
        let threads = thread::available_parallelism().map_or(1, usize::from);
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some(part) = parts.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let lines = self.child(part);
                        results.lock().expect("no worker panics").extend(lines);
                    }
                });
            }
        });
        results.into_inner().expect("no worker panics")
    }

    /// A number of which no line came back ended its process: a crash.
    fn child(self, numbers: &[usize]) -> Vec<(usize, Line)> {
        let list: Vec<String> = numbers.iter().map(usize::to_string).collect();
        let program = std::env::current_exe().expect("this program has a path");
        let output = Command::new(program).args(self.words()).arg(list.join(",")).output();
        let text =
            output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        let mut lines: Vec<_> = text.lines().filter_map(Line::read).collect();
        for index in numbers {
            if !lines.iter().any(|line| line.0 == *index) {
                let violations = vec!["TM-7: the process died, at this case or before it".to_owned()];
                lines.push((*index, Line { told: Told::Yes, outcome: Outcome::Dies, violations }));
            }
        }
        lines
    }
}

/// Runs what the options ask for.
pub fn main(options: &Options) -> ExitCode {
    // What panics is counted and named; the default hook would print each.
    std::panic::set_hook(Box::new(|_| {}));
    let result = match &options.what {
        Work::Table => table(options),
        Work::Mutations => mutants::all(),
        Work::Pairs(num) => pairs::all(*num, options.seed),
        Work::Explore => explore::all(),
        Work::Show(scene, number) => pairs::show(scene, options.seed, *number).map(|()| true),
        Work::Mutant(name) => mutants::one(name).map(|()| true),
        Work::Block(scene, numbers) => block(scene, numbers).map(|()| true),
        Work::PairBlock(scene, numbers) => pairs::block(scene, options.seed, numbers).map(|()| true),
        Work::ExploreBlock(numbers) => explore::block(numbers).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            println!("{why}");
            ExitCode::FAILURE
        }
    }
}

fn is_chosen(options: &Options, scene: &Scene, (index, case): (usize, &Case)) -> bool {
    index % options.every == 0
        && (options.filter.is_empty() || format!("{}: {}", scene.name, case.name()).contains(&options.filter))
}

fn table(options: &Options) -> Result<bool, String> {
    let mut table: BTreeMap<Key, Counts> = BTreeMap::new();
    let (mut shown, mut sums) = (0, Vec::new());
    let scenes = scenes(options.all);
    for scene in &scenes {
        let all = cases_of(scene)?;
        let chosen: Vec<usize> =
            (0..all.len()).filter(|index| is_chosen(options, scene, (*index, &all[*index]))).collect();
        if options.list {
            chosen.iter().for_each(|index| println!("{}: {}", scene.name, all[*index].name()));
            continue;
        }
        if options.log {
            chosen.iter().for_each(|index| drop(run_case(scene, &all[*index], true)));
        }
        let mut sum = Counts::default();
        for (index, line) in Block::Cases(scene.name).run(&chosen) {
            let case = &all[index];
            let counts = counted(case, &line);
            table.entry((scene.name, case.place.clone(), case.class)).or_default().add(&counts);
            sum.add(&counts);
            let untold = (line.told == Told::No).then(|| "the lie was not told".to_owned());
            for text in line.violations.into_iter().chain(untold) {
                shown += 1;
                if shown <= SHOWN {
                    println!("{}: {}: {text}", scene.name, case.name());
                }
            }
        }
        println!("{}: {} cases, {} violations", scene.name, sum.cases, sum.violations);
        sums.push((scene, sum));
    }
    if options.list {
        return Ok(true);
    }
    let mut sum = Counts::default();
    table.values().for_each(|counts| sum.add(counts));
    if let Some(path) = &options.json {
        fs::write(path, table::json(&table)).map_err(|error| error.to_string())?;
    }
    let text = table::markdown(&sums, &table, &sum);
    let mut is_same = true;
    if let Some(path) = options.write.as_ref().or(options.check.as_ref())
        && let Err(why) = table::put(path, &text, options.write.is_some())
    {
        println!("{}: {why}", path.display());
        is_same = false;
    }
    println!(
        "{} cases told, {} violations; {} not told, {} were the truth",
        sum.cases, sum.violations, sum.untold, sum.same
    );
    let is_good = is_same && sum.violations == 0 && sum.untold == 0 && sum.cases > 0;
    // As libtest says it, so that scripts count it.
    let (word, passed, failed) = if is_good { ("ok", 1, 0) } else { ("FAILED", 0, 1) };
    println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored");
    Ok(is_good)
}
