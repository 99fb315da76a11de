//! The table of lies: each place of an honest boot at which host, device or RMM can lie, each way in which they can, one
//! boot each; and what must hold after every one of them (docs/threat-model.md).
//!
//! `cargo test --test matrix -- --help` tells what else it does.

#[path = "../common/mod.rs"]
mod common;

mod bench;
mod cases;
mod explore;
mod judge;
mod mutants;
mod pairs;
mod runner;
mod scenes;
mod table;
mod trees;

use std::process::ExitCode;

const USAGE: &str =
    "usage: matrix [--all] [--every N] [--filter TEXT] [--list] [--write FILE | --check FILE] [--json FILE]

Tells each lie of the table in a boot of its own, and judges what is left. Without
options: every 97th case of the daily scenes, as a test beside others.

  --all          all scenes, not only the daily ones
  --every N      every Nth case; 1 = all of them
  --filter TEXT  only cases whose name contains TEXT
  --log          print what the firmware says in each
  --mutations    take out one check after the other: a case must notice; only in a
                 build with --cfg gatehouse_mutation=\"each\"
  --pairs N      two lies in each of N boots, chosen by --seed S (1)
  --explore      two devices: every sequence of two acts of the host
  --show SCENE N one pair of --seed, with what the firmware says
  --list         name them, run nothing
  --write FILE   write the table between its marks in FILE
  --check FILE   fail unless the table there is what this run comes to
  --json FILE    write counts as JSON

Exit status: 0 nothing opened the gate; 1 something did, or a lie was not told.";

fn main() -> ExitCode {
    match runner::Options::read(std::env::args().skip(1)) {
        Ok(Some(options)) => runner::main(&options),
        Ok(None) => {
            println!("{USAGE}");
            ExitCode::SUCCESS
        }
        Err(word) => {
            eprintln!("matrix: {word}\n\n{USAGE}");
            ExitCode::from(2)
        }
    }
}
