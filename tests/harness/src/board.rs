//! boards/NAME/board.toml: the machines that the harness launches. Data, so that a person can read and change it.

use crate::Fault;
use serde::Deserialize;
use std::fs;
use std::path::Path;

/// The board that runs unless another one is asked for.
pub const DEFAULT: &str = "qemu-virt";

/// What the harness needs of a board; the rest of the file is for other readers.
#[derive(Clone, Debug, Deserialize)]
pub struct Board {
    /// Name, as that of the folder.
    pub name: String,
    /// First byte of RAM.
    pub ram_base: u64,
    /// Where the stub expects the image.
    pub image_address: u64,
    /// Where the stub expects the scenario.
    pub scenario_address: u64,
    /// The console that the realm's tree names.
    pub console: Console,
    /// QEMU's machine, CPU and fixed arguments.
    pub launch: Launch,
}

/// A console.
#[derive(Clone, Debug, Deserialize)]
pub struct Console {
    /// `pl011` or `ns16550a`.
    pub kind: String,
    /// First register.
    pub base: u64,
}

/// How QEMU is started.
#[derive(Clone, Debug, Deserialize)]
pub struct Launch {
    /// `-M`, without the SMMU.
    pub machine: String,
    /// What is added to the machine for the SMMU.
    pub smmu: String,
    /// `-cpu`.
    pub cpu: String,
    /// Linux's name of the console.
    pub linux_console: String,
    /// Words for the stub.
    pub stub: Vec<String>,
    /// Arguments that every run has.
    pub args: Vec<String>,
}

impl Board {
    /// Reads the board `name` of the repository at `root`.
    ///
    /// # Errors
    /// [`Fault::Usage`] when there is none; it names those that are there.
    pub fn load(root: &Path, name: &str) -> Result<Board, Fault> {
        let boards = root.join("boards");
        let names = names(&boards)?;
        if !names.iter().any(|known| known == name) {
            return Err(Fault::Usage(format!("no board {name:?}; there are: {}", names.join(", "))));
        }
        let path = boards.join(name).join("board.toml");
        let text = fs::read_to_string(&path).map_err(Fault::file(&path))?;
        toml::from_str(&text).map_err(|error| Fault::Usage(format!("{}: {error}", path.display())))
    }
}

/// Lists the boards that can be launched, sorted; others are for `gatehouse rim` only.
fn names(boards: &Path) -> Result<Vec<String>, Fault> {
    let entries = fs::read_dir(boards).map_err(Fault::file(boards))?;
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok())
        .filter(|entry| {
            let text = fs::read_to_string(entry.path().join("board.toml")).unwrap_or_default();
            // What is no TOML counts: loading it says what is wrong.
            !text.is_empty() && text.parse::<toml::Table>().map_or(true, |board| board.contains_key("launch"))
        })
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    Ok(names)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    fn root() -> &'static Path {
        Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
    }

    pub(crate) fn default() -> Board {
        Board::load(root(), DEFAULT).unwrap()
    }

    #[test]
    fn the_board_files_agree_with_the_memory_map_of_the_stub() {
        let layout = include_str!("../../stub-rmm/src/layout.rs").replace('_', "");
        let boards = names(&root().join("boards")).unwrap();
        assert_eq!(boards, ["qemu-virt", "qemu-virt-16550"]);
        for name in boards {
            let board = Board::load(root(), &name).unwrap();
            assert_eq!(board.name, name);
            let hex = |value: u64, width: usize| format!("{value:#0width$x}");
            let mut lines =
                vec![("RAMBASE", hex(board.ram_base, 0)), ("REALMBASE", hex(board.image_address, 0))];
            assert_eq!(board.scenario_address, 0x4300_0000);
            match board.console.kind.as_str() {
                "pl011" => assert_eq!(board.console.base, 0x0900_0000),
                kind => {
                    assert_eq!(kind, "ns16550a");
                    lines.push(("UART16550", hex(board.console.base, 10)));
                }
            }
            assert_eq!(board.launch.stub, [format!("console={}", board.console.kind)]);
            for (name, value) in lines {
                let line = format!("pub const {name}: u64 = {value};");
                assert!(layout.contains(&line), "no line {line:?} in layout.rs");
            }
        }
    }

    #[test]
    fn an_unknown_board_is_refused_with_those_that_are_there() {
        // The last one is there, but nothing launches it.
        for name in ["qemu", "", ".", "../boards/qemu-virt", "fvp-kvmtool"] {
            let fault = Board::load(root(), name).unwrap_err();
            assert_eq!(fault.exit_status(), 2);
            assert!(fault.to_string().ends_with("there are: qemu-virt, qemu-virt-16550"), "{fault}");
        }
    }
}
