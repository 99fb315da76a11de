//! boards/qemu-virt/board.toml: the machine that the harness launches. Data, so that a person can read and change it.

use serde::Deserialize;
use std::sync::LazyLock;

/// What the harness needs of a board; the rest of the file is for other readers.
#[derive(Debug, Deserialize)]
pub struct Board {
    /// First byte of RAM.
    pub ram_base: u64,
    /// Where the stub expects the image.
    pub image_address: u64,
    /// Where the stub expects the scenario.
    pub scenario_address: u64,
    /// QEMU's machine, CPU and fixed arguments.
    pub launch: Launch,
}

/// How QEMU is started.
#[derive(Debug, Deserialize)]
pub struct Launch {
    /// `-M`, without the SMMU.
    pub machine: String,
    /// What is added to the machine for the SMMU.
    pub smmu: String,
    /// `-cpu`.
    pub cpu: String,
    /// Arguments that every run has.
    pub args: Vec<String>,
}

/// The board qemu-virt.
pub static QEMU_VIRT: LazyLock<Board> = LazyLock::new(|| {
    toml::from_str(include_str!("../../../boards/qemu-virt/board.toml"))
        .expect("board.toml is part of the source")
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_board_file_agrees_with_the_memory_map_of_the_stub() {
        let layout = include_str!("../../stub-rmm/src/layout.rs").replace('_', "");
        for (name, value) in [("RAMBASE", QEMU_VIRT.ram_base), ("REALMBASE", QEMU_VIRT.image_address)] {
            let line = format!("pub const {name}: u64 = {value:#x};");
            assert!(layout.contains(&line), "no line {line:?} in layout.rs");
        }
        assert_eq!(QEMU_VIRT.scenario_address, 0x4300_0000);
    }
}
