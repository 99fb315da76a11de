//! Every subcommand, as the tool itself lists them: its help has an example, and no file makes it do more than refuse.
mod cases;
mod logs;
mod tokens;

use cases::{Case, text};
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn gatehouse(directory: &Path, args: &[String]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_gatehouse")).current_dir(directory).args(args).output().unwrap()
}

fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(String::from).collect()
}

/// Lists the subcommands below `command`, those without subcommands of their own.
fn subcommands(command: &[String]) -> Vec<Vec<String>> {
    let output = gatehouse(Path::new("."), &[command, &words("--help")].concat());
    let help = text(&output.stdout);
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return vec![command.to_vec()] };
    let names =
        list.lines().take_while(|line| line.starts_with("  ")).filter(|line| !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    names.flat_map(|name| subcommands(&[command, &words(name)].concat())).collect()
}

#[test]
fn the_help_of_every_subcommand_has_an_example() {
    let all = subcommands(&[]);
    for known in ["pack", "verify", "replay", "inspect", "rim", "policy check", "policy capture"] {
        assert!(all.contains(&words(known)), "{known}: {all:?}");
    }
    for command in all {
        let output = gatehouse(Path::new("."), &[command.clone(), words("--help")].concat());
        let help = text(&output.stdout);
        let (_, example) = help.split_once("\nExample").unwrap_or_else(|| panic!("{command:?}: {help}"));
        assert!(example.contains(&format!("  gatehouse {} ", command.join(" "))), "{example}");
    }
}

/// A command that reads the file `x`, all others being good; and what it says of
/// another file; empty: that depends on the file.
const READS: [(&str, &str); 24] = [
    ("pack --firmware x --kernel kernel --out out", "expected the firmware, ELF or flat"),
    ("pack --firmware x --kernel x --policy x --out out", "expected a policy"),
    ("flatten x out", "expected the firmware's ELF file"),
    ("inspect x", "expected an image, a bundle, a policy"),
    ("replay x", "expected an event log of the firmware"),
    ("replay log --token x", "expected a CCA attestation token"),
    ("replay log --evidence x --policy policy.toml", "expected an evidence region of the firmware"),
    ("replay log --evidence evidence --policy x", "expected a policy"),
    ("replay log --evidence evidence --image x", "expected a Gatehouse image"),
    ("rim --board x --image kernel --dtb dtb", "not a board"),
    ("rim --board board.toml --image x --dtb dtb", "not an arm64 kernel Image"),
    ("rim --board board.toml --image kernel --dtb x", "not a device tree"),
    (
        "verify --token x --log log --challenge 5a5a5a5a5a5a5a5a --reference reference.json",
        "expected a CCA attestation token",
    ),
    (
        "verify --token token --log x --challenge 5a5a5a5a5a5a5a5a --reference reference.json",
        "expected an event log of the firmware",
    ),
    (
        "verify --token token --log log --challenge 5a5a5a5a5a5a5a5a --reference x",
        "expected reference values in JSON",
    ),
    (
        "verify --token token --log log --evidence x --challenge 5a5a5a5a5a5a5a5a --reference reference.json",
        "expected the evidence region",
    ),
    (
        "verify --token token --log log --challenge 5a5a5a5a5a5a5a5a --reference reference.json --platform-key x",
        "expected a public key in PEM",
    ),
    (
        "verify --token token --log log --challenge 5a5a5a5a5a5a5a5a --reference reference.json --policy x",
        "expected a policy",
    ),
    (
        "verify --token token --log log --challenge 5a5a5a5a5a5a5a5a --reference reference.json --ear-key x",
        "expected a private key in PEM",
    ),
    ("policy check x", "expected a policy"),
    ("policy compile x -o out", "expected a policy"),
    ("policy explain x", "expected a policy"),
    ("policy explain --log x --policy policy.toml", ""),
    ("policy capture x captured", ""),
];

/// A folder with one good file of each kind.
fn folder(name: &str) -> PathBuf {
    let case = Case::new();
    case.run(name);
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("verify-{name}"));
    let boards = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../boards/qemu-virt/board.toml");
    fs::copy(boards, path.join("board.toml")).unwrap();
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/qemu-virt.dtb");
    fs::copy(tree, path.join("dtb")).unwrap();
    let mut kernel = [0; 4096];
    kernel[16..24].copy_from_slice(&0x2000u64.to_le_bytes());
    kernel[56..60].copy_from_slice(b"ARM\x64");
    fs::write(path.join("kernel"), kernel).unwrap();
    path
}

#[test]
fn a_file_of_another_kind_is_named_by_each_command_that_reads_one() {
    let folder = folder("another-kind");
    fs::write(folder.join("x"), [0x1f, 0x8b, 8, 0]).unwrap();
    for (line, expected) in READS.iter().filter(|(_, expected)| !expected.is_empty()) {
        let output = gatehouse(&folder, &words(line));
        let err = text(&output.stderr);
        let wanted = format!("x: this is a gzip-compressed file, {expected}");
        assert!(output.status.code() == Some(1) && err.contains(&wanted), "{line}: {err}");
    }
    fs::remove_file(folder.join("x")).unwrap();
    for (line, _) in READS {
        let output = gatehouse(&folder, &words(line));
        let err = text(&output.stderr);
        assert!(output.status.code() == Some(1) && err.contains("x: No such file"), "{line}: {err}");
    }
}

#[test]
fn every_subcommand_that_takes_a_file_is_in_the_list() {
    // `policy init` reads a folder.
    for command in subcommands(&[]).iter().filter(|command| command.join(" ") != "policy init") {
        let command = format!("{} ", command.join(" "));
        assert!(READS.iter().any(|(line, _)| line.starts_with(&command)), "{command}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn no_file_makes_a_command_do_more_than_refuse_it(
        head in 0usize..8, bytes in prop::collection::vec(any::<u8>(), 0..300), at in any::<prop::sample::Index>(),
    ) {
        let folder = folder("any-file");
        let good = ["log", "token", "evidence", "reference.json", "policy.toml", "dtb", "board.toml", "key.pem"][head];
        let mut damaged = fs::read(folder.join(good)).unwrap();
        let at = at.index(damaged.len());
        damaged[at] = bytes.first().copied().unwrap_or(0);
        for file in [bytes, damaged] {
            fs::write(folder.join("x"), file).unwrap();
            for (line, _) in READS {
                let output = gatehouse(&folder, &words(line));
                let err = String::from_utf8_lossy(&output.stderr).into_owned();
                prop_assert!(matches!(output.status.code(), Some(0 | 1)), "{}: {}", line, err);
            }
        }
    }
}
