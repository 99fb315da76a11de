//! The machine: QEMU's command line.

use crate::Fault;
use crate::board::Board;
use crate::tools::Tools;
use crate::topology::{self, escaped};
use rmm_model::Scenario;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// RAM unless the scenario needs more, and the unit in which it grows.
const RAM_MIN: u64 = 1 << 30;
const RAM_STEP: u64 = 256 << 20;
/// Room above an image that the scenario places: device tree and the payload's memory.
const RAM_ABOVE: u64 = 384 << 20;

/// What a machine is made of.
#[derive(Clone, Debug)]
pub struct Machine<'a> {
    /// The board.
    pub board: &'a Board,
    /// QEMU.
    pub tools: &'a Tools,
    /// The stub RMM.
    pub stub: &'a Path,
    /// The image.
    pub image: &'a Path,
    /// Memory that it reserves.
    pub image_size: u64,
    /// A bundle beside the image, and where it is loaded.
    pub bundle: Option<(&'a Path, u64)>,
    /// The initrd range that the realm's tree names: first address and length.
    pub initrd: Option<(u64, u64)>,
    /// The blob for the stub.
    pub blob: &'a Path,
    /// What is on the bus.
    pub scenario: &'a Scenario,
    /// Disk of each device that has one, in scenario order.
    pub disks: &'a [Option<PathBuf>],
    /// SMMU between devices and memory.
    pub has_smmu: bool,
    /// Wait for a debugger on this TCP port of this machine.
    pub gdb: Option<u16>,
}

/// Returns the bytes of RAM that the scenario needs.
#[must_use]
pub fn ram_bytes(board: &Board, scenario: &Scenario, image_size: u64) -> u64 {
    let image = scenario.vmm.load_address.unwrap_or(board.image_address);
    let for_image = image.saturating_add(image_size).saturating_add(RAM_ABOVE).saturating_sub(board.ram_base);
    let asked =
        scenario.vmm.ram_size.map_or(0, |size| size.saturating_add(board.image_address - board.ram_base));
    RAM_MIN.max(for_image).max(asked).div_ceil(RAM_STEP).saturating_mul(RAM_STEP)
}

impl Machine<'_> {
    /// Returns the command.
    ///
    /// # Errors
    /// [`Fault::NotPossible`] without QEMU, [`Fault::Usage`] for a slot that the machine cannot have.
    pub fn command(&self) -> Result<Command, Fault> {
        let mut command = Command::new(self.tools.need_qemu()?);
        let launch = &self.board.launch;
        let mut machine = launch.machine.clone();
        if self.has_smmu {
            machine += &launch.smmu;
            // Machines before 10.0 have stage 1 only, unless told otherwise.
            let stage = match self.tools.qemu_version {
                (10.., _) => None,
                (9, 1..) => Some("nested"),
                _ => Some("2"),
            };
            if let Some(stage) = stage {
                command.args(["-global", &format!("arm-smmuv3.stage={stage}")]);
            }
        }
        let ram = ram_bytes(self.board, self.scenario, self.image_size) >> 20;
        command.args(["-M", &machine, "-cpu", &launch.cpu, "-m", &format!("{ram}M")]);
        command.args(["-smp", &self.scenario.vmm.recs.max(1).to_string()]);
        command.args(&launch.args);
        if let Some(port) = self.gdb {
            command.args(["-S", "-gdb", &format!("tcp:127.0.0.1:{port}")]);
        }
        command.args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        let mut semihosting =
            "enable=on,target=native,arg=stub-rmm,arg=log=stub-log.jsonl,arg=log-sync=1".to_owned();
        if !self.has_smmu {
            semihosting += ",arg=no-smmu";
        }
        if let Some((base, len)) = self.initrd {
            // A comma ends a QEMU option, two are one.
            semihosting += &format!(",arg=initrd={base:#x},,{len:#x}");
        }
        for word in &launch.stub {
            semihosting += &format!(",arg={word}");
        }
        command.args(["-semihosting-config", &semihosting]);
        command.arg("-kernel").arg(self.stub);
        command.arg("-device").arg(loader(self.blob, self.board.scenario_address));
        command.arg("-device").arg(loader(self.image, self.board.image_address));
        if let Some((file, address)) = self.bundle {
            command.arg("-device").arg(loader(file, address));
        }
        command.args(topology::args(self.scenario, self.disks)?);
        Ok(command)
    }
}

fn loader(file: &Path, address: u64) -> OsString {
    let parts = ["loader,file=".into(), escaped(file), format!(",addr={address:#x},force-raw=on").into()];
    OsString::from_iter(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ram_grows_with_the_load_address() {
        let board = crate::board::tests::default();
        let mut scenario = Scenario::default();
        assert_eq!(ram_bytes(&board, &scenario, 80 << 20), 1 << 30);
        scenario.vmm.load_address = Some(0x1_0020_0000);
        let ram = ram_bytes(&board, &scenario, 80 << 20);
        assert!(board.ram_base + ram > 0x1_0020_0000 + (80 << 20) + (256 << 20), "{ram:#x}");
        scenario.vmm.ram_size = Some(8 << 30);
        assert!(ram_bytes(&board, &scenario, 0) > 8 << 30);
    }
}
