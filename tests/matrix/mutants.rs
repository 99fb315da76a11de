//! Does the table see? Each check of `gatehouse::mutation` is taken out once; then a case must break a rule.

#[cfg(gatehouse_mutated)]
pub use with::{all, one};

#[cfg(not(gatehouse_mutated))]
const NOT_BUILT: &str = "not built with --cfg gatehouse_mutation=\"each\"";

/// Runs all mutations.
///
/// # Errors
/// This build has none.
#[cfg(not(gatehouse_mutated))]
pub fn all() -> Result<bool, String> {
    Err(NOT_BUILT.to_owned())
}

/// Runs one mutation.
///
/// # Errors
/// This build has none.
#[cfg(not(gatehouse_mutated))]
pub fn one(_: &str) -> Result<(), String> {
    Err(NOT_BUILT.to_owned())
}

#[cfg(gatehouse_mutated)]
mod with {
    use crate::runner::{cases_of, run_case};
    use crate::scenes::scenes;
    use gatehouse::mutation::{Mutation, remove};
    use std::process::Command;

    /// At how many cases a check must be noticed at the latest.
    const CASES_MAX: usize = 600;

    /// Scene and words of one of which a case's name must hold, by check. No words: the honest boot notices.
    fn cases(mutation: Mutation) -> (&'static str, &'static [&'static str]) {
        match mutation {
            Mutation::ReportDigest => ("one", &["ObjectByte { object: Report, offset: 6"]),
            Mutation::LockNonce => {
                ("one", &["RSI_VDEV_GET_INFO #2 After(Relock)", "#3 Before(Relock)", "(Relock)"])
            }
            Mutation::Refreshed => ("earlier", &["Refuse(0)"]),
            Mutation::Signature => ("one", &["MeasurementForeignKey"]),
            Mutation::RequesterNonce => ("one", &["NoncesReused"]),
            Mutation::RecordUnchanged => (
                "one",
                &[
                    "RSI_VDEV_GET_INFO #5 Before(Relock)",
                    "RSI_VDEV_GET_INFO #6 Before(Relock)",
                    "RSI_VDEV_DMA_ENABLE #1 After(Relock)",
                ],
            ),
            Mutation::Idle | Mutation::UnawarePayload => ("", &[]),
            Mutation::Required => ("one", &["OpFails"]),
            Mutation::Unlocked => ("one", &["RSI_VDEV_VALIDATE_MAPPING #1 Refuse"]),
            Mutation::Quiet => ("one", &["RSI_VDEV_VALIDATE_MAPPING #1 Refuse"]),
            Mutation::CommandReadBack => ("pin", &["configuration store"]),
            Mutation::WindowReturned => ("one", &["RSI_VDEV_VALIDATE_MAPPING #1 Refuse"]),
            Mutation::WindowLeak => ("one", &["RSI_IPA_STATE_SET #2 Refuse"]),
            Mutation::Stalls => ("one", &["NextStuck"]),
            Mutation::Incomplete => ("one", &["x4294967295 Refuse(3)"]),
            Mutation::Polls => ("one", &["RhiIncompleteForever"]),
            Mutation::Capabilities => ("one", &["configuration load"]),
            Mutation::TreeGate => ("one", &["tree: "]),
        }
    }

    /// Runs each mutation in a process of its own.
    pub fn all() -> Result<bool, String> {
        let program = std::env::current_exe().map_err(|error| error.to_string())?;
        let mut missed = 0;
        for mutation in Mutation::ALL {
            let name = format!("{mutation:?}");
            let output = Command::new(&program)
                .args(["--mutant", &name])
                .output()
                .map_err(|error| error.to_string())?;
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            // A process that dies has noticed, too.
            let seen = text.lines().last().unwrap_or("the process died").to_owned();
            missed += usize::from(seen.starts_with("nobody"));
            println!("{name}: {seen}");
        }
        let num = Mutation::ALL.len();
        println!("{num} checks taken out one by one, {} noticed", num - missed);
        let (word, passed, failed) = if missed == 0 { ("ok", 1, 0) } else { ("FAILED", 0, 1) };
        println!("test result: {word}. {passed} passed; {failed} failed; 0 ignored");
        Ok(missed == 0)
    }

    /// Takes one check out and says which case notices.
    pub fn one(name: &str) -> Result<(), String> {
        let mutation = *Mutation::ALL.iter().find(|one| format!("{one:?}") == name).ok_or("no such check")?;
        let (wanted, words) = cases(mutation);
        let mut tried = 0;
        for scene in scenes(true).iter().filter(|scene| wanted.is_empty() || scene.name == wanted) {
            remove(None);
            let all = cases_of(scene)?;
            remove(Some(mutation));
            if words.is_empty() {
                if let Err(why) = cases_of(scene) {
                    println!("{}", why.lines().next().unwrap_or_default());
                    return Ok(());
                }
                tried += 1;
                continue;
            }
            let chosen: Vec<_> =
                all.iter().filter(|case| words.iter().any(|word| case.name().contains(word))).collect();
            let step = chosen.len().div_ceil(CASES_MAX).max(1);
            for case in chosen.into_iter().step_by(step) {
                tried += 1;
                if let Some(violation) = run_case(scene, case, false).violations.first() {
                    println!("{}: {}: {violation}", scene.name, case.name());
                    return Ok(());
                }
            }
        }
        println!("nobody of {tried} cases notices");
        Ok(())
    }
}
