//! The QEMU tests: each a sentence that a boot proves, or disproves.

mod asked;
mod broken;
mod bundles;
mod cases;
mod debugger;
mod evidence;
mod host_dma;
mod injected;
mod machines;
mod measured;
mod several;
mod steps;
mod trees;
mod verified;

use crate::artifacts::Artifacts;
use crate::judge::PayloadKind;
use crate::tools::Tools;
use crate::{Fault, run};
use rmm_model::Scenario;
use std::collections::VecDeque;
use std::fs;
use std::process::ExitCode;
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::Instant;

/// What the tests have in common.
#[derive(Clone, Copy, Debug)]
struct Bench<'a> {
    tools: &'a Tools,
    artifacts: &'a Artifacts,
    /// The same with a firmware that can be broken, built when the first test wants it.
    breakable: &'a OnceLock<Result<Artifacts, String>>,
}

/// One test.
struct Case {
    sentence: String,
    payload: PayloadKind,
    check: Check,
}

/// Boots what it needs; the error says what was not so.
type Check = Box<dyn Fn(&Bench<'_>) -> Result<(), String> + Send + Sync>;

impl Case {
    fn new(
        sentence: impl Into<String>,
        payload: PayloadKind,
        check: impl Fn(&Bench<'_>) -> Result<(), String> + Send + Sync + 'static,
    ) -> Case {
        Case { sentence: sentence.into(), payload, check: Box::new(check) }
    }
}

/// How a test ended.
enum Ended {
    Passed,
    Failed(String),
    Skipped(String),
}

impl Bench<'_> {
    /// Runs; the folder of a run whose test passes later is removed by the caller's [`done`].
    fn run(&self, request: &run::Request) -> Result<run::Ran, String> {
        run::run(self.tools, self.artifacts, request, &mut crate::story::Story::silent())
            .map_err(|fault| fault.to_string())
    }
}

impl Bench<'_> {
    /// The bench whose firmware can be broken.
    fn breakable(&self) -> Result<Bench<'_>, String> {
        let build = || self.artifacts.breakable(self.tools).map_err(|fault| fault.to_string());
        let artifacts = self.breakable.get_or_init(build).as_ref().map_err(Clone::clone)?;
        Ok(Bench { artifacts, ..*self })
    }

    /// As [`Bench::run`], with a scenario that is no file.
    fn run_scenario(&self, request: &run::Request, scenario: &Scenario) -> Result<run::Ran, String> {
        let mut story = crate::story::Story::silent();
        run::run_scenario(self.tools, self.artifacts, request, scenario, &mut story)
            .map_err(|fault| fault.to_string())
    }
}

/// Removes the folder of a run that nobody needs to look at.
fn done(ran: &run::Ran) {
    let _ = fs::remove_dir_all(&ran.dir);
}

fn selected(filter: &str, deep: bool) -> Vec<Case> {
    let all = if deep { trees::all().into_iter().chain(injected::all()).collect() } else { cases::all() };
    all.into_iter().filter(|case| case.sentence.contains(filter)).collect()
}

/// Prints the sentences; `deep`: only those that take long.
pub fn list(filter: &str, deep: bool) {
    for case in selected(filter, deep) {
        println!("{}", case.sentence);
    }
}

/// Runs the tests; the last line counts them.
#[must_use]
pub fn command(tools: &Tools, filter: &str, jobs: usize, deep: bool) -> ExitCode {
    let cases = selected(filter, deep);
    let is_possible = |payload: PayloadKind| -> Result<(), Fault> {
        tools.need_smmu_stage_2()?;
        if payload == PayloadKind::Linux {
            tools.need_kernel()?;
        }
        Ok(())
    };
    let payloads: Vec<PayloadKind> = [PayloadKind::Linux, PayloadKind::Demo]
        .into_iter()
        .filter(|payload| is_possible(*payload).is_ok())
        .collect();
    let artifacts = if payloads.is_empty() {
        None
    } else {
        match Artifacts::build(tools, &payloads, false) {
            Ok(artifacts) => Some(artifacts),
            Err(fault) => {
                println!("FAILED        building what the tests boot: {fault}");
                println!("0 passed, {} failed, 0 skipped", cases.len().max(1));
                return ExitCode::FAILURE;
            }
        }
    };
    let breakable = OnceLock::new();
    let run_one = |case: &Case| match (is_possible(case.payload), &artifacts) {
        (Err(fault), _) => Ended::Skipped(fault.to_string()),
        (Ok(()), None) => Ended::Skipped("nothing was built".to_owned()),
        (Ok(()), Some(artifacts)) => match (case.check)(&Bench { tools, artifacts, breakable: &breakable }) {
            Ok(()) => Ended::Passed,
            Err(why) => Ended::Failed(why),
        },
    };

    let queue = Mutex::new(VecDeque::from(cases));
    // Passed, failed, skipped.
    let counts = Mutex::new([0u32; 3]);
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().map(|mut queue| queue.pop_front());
                    let Ok(Some(case)) = next else { break };
                    let begin = Instant::now();
                    let ended = run_one(&case);
                    let seconds = begin.elapsed().as_secs_f64();
                    let Ok(mut counts) = counts.lock() else { break };
                    let (slot, word, why) = match ended {
                        Ended::Passed => (0, "ok", None),
                        Ended::Failed(why) => (1, "FAILED", Some(why)),
                        Ended::Skipped(why) => (2, "skipped", Some(why)),
                    };
                    counts[slot] += 1;
                    println!("{word:<8}{seconds:5.1} s  {}", case.sentence);
                    for line in why.iter().flat_map(|why| why.lines()) {
                        println!("                 {line}");
                    }
                }
            });
        }
    });
    let [passed, failed, skipped] = counts.into_inner().unwrap_or([0, 1, 0]);
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
