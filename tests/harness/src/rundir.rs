//! Folders of runs: target/runs/<number>, each with everything that the run read and wrote.

use crate::Fault;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// How many old folders are kept.
const KEEP: usize = 12;

/// Makes the folder of a new run and removes the oldest ones.
///
/// # Errors
/// [`Fault::File`].
pub fn create(root: &Path) -> Result<PathBuf, Fault> {
    let runs = root.join("target/runs");
    fs::create_dir_all(&runs).map_err(Fault::file(&runs))?;
    let mut numbers: Vec<u64> = fs::read_dir(&runs)
        .map_err(Fault::file(&runs))?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    let old = numbers.len().saturating_sub(KEEP);
    for number in numbers.iter().take(old) {
        // Another run may remove it at the same time.
        let _ = fs::remove_dir_all(runs.join(number.to_string()));
    }
    let mut next = numbers.last().map_or(1, |last| last + 1);
    loop {
        let dir = runs.join(next.to_string());
        match fs::create_dir(&dir) {
            Ok(()) => return Ok(dir),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => next += 1,
            Err(error) => return Err(Fault::file(&dir)(error)),
        }
    }
}
