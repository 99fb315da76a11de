//! The machine: QEMU's command line.

use crate::Fault;
use crate::board::QEMU_VIRT;
use crate::tools::Tools;
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
    /// QEMU.
    pub tools: &'a Tools,
    /// The stub RMM.
    pub stub: &'a Path,
    /// The image.
    pub image: &'a Path,
    /// Memory that it reserves.
    pub image_size: u64,
    /// The blob for the stub.
    pub blob: &'a Path,
    /// What is on the bus.
    pub scenario: &'a Scenario,
    /// Disk of each device, in scenario order.
    pub disks: &'a [PathBuf],
    /// SMMU between devices and memory.
    pub has_smmu: bool,
}

/// Returns the bytes of RAM that the scenario needs.
#[must_use]
pub fn ram_bytes(scenario: &Scenario, image_size: u64) -> u64 {
    let board = &*QEMU_VIRT;
    let image = scenario.vmm.load_address.unwrap_or(board.image_address);
    let for_image = image.saturating_add(image_size).saturating_add(RAM_ABOVE).saturating_sub(board.ram_base);
    let asked =
        scenario.vmm.ram_size.map_or(0, |size| size.saturating_add(board.image_address - board.ram_base));
    RAM_MIN.max(for_image).max(asked).div_ceil(RAM_STEP).saturating_mul(RAM_STEP)
}

/// Checks a slot path: one function on bus 0.
fn slot_on_bus_0(slot: &str) -> Result<&str, Fault> {
    let is_hex = |text: &str, len: usize| text.len() == len && text.bytes().all(|b| b.is_ascii_hexdigit());
    match slot.split_once('.') {
        Some((device, function)) if is_hex(device, 2) && is_hex(function, 1) => Ok(slot),
        _ => Err(Fault::Usage(format!("slot {slot:?}: this machine has functions at dd.f on bus 0 only"))),
    }
}

impl Machine<'_> {
    /// Returns the command.
    ///
    /// # Errors
    /// [`Fault::NotPossible`] without QEMU, [`Fault::Usage`] for a slot that the machine cannot have.
    pub fn command(&self) -> Result<Command, Fault> {
        let mut command = Command::new(self.tools.need_qemu()?);
        let launch = &QEMU_VIRT.launch;
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
        let ram = ram_bytes(self.scenario, self.image_size) >> 20;
        command.args(["-M", &machine, "-cpu", &launch.cpu, "-m", &format!("{ram}M")]);
        command.args(&launch.args);
        command.args(["-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console"]);
        let mut semihosting =
            "enable=on,target=native,arg=stub-rmm,arg=log=stub-log.jsonl,arg=log-sync=1".to_owned();
        if !self.has_smmu {
            semihosting += ",arg=no-smmu";
        }
        command.args(["-semihosting-config", &semihosting]);
        command.arg("-kernel").arg(self.stub);
        command.arg("-device").arg(loader(self.blob, QEMU_VIRT.scenario_address));
        command.arg("-device").arg(loader(self.image, QEMU_VIRT.image_address));
        for (number, (device, disk)) in self.scenario.device.iter().zip(self.disks).enumerate() {
            let slot = slot_on_bus_0(&device.slot)?;
            let drive = [format!("if=none,id=disk{number},format=raw,file=").into(), escaped(disk)];
            command.arg("-drive").arg(OsString::from_iter(drive));
            let nvme = format!("nvme,drive=disk{number},serial=gatehouse{number},addr={slot}");
            command.args(["-device", &nvme]);
        }
        // A function that nobody assigned: the firmware must make it quiet and hide it.
        if !self.scenario.device.iter().any(|device| device.slot.starts_with("03.")) {
            command.args(["-device", "edu,addr=03.0"]);
        }
        Ok(command)
    }
}

/// QEMU's options end at a comma; two stand for one.
fn escaped(path: &Path) -> OsString {
    match path.to_str() {
        Some(text) => text.replace(',', ",,").into(),
        None => path.into(),
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
        let mut scenario = Scenario::default();
        assert_eq!(ram_bytes(&scenario, 80 << 20), 1 << 30);
        scenario.vmm.load_address = Some(0x1_0020_0000);
        let ram = ram_bytes(&scenario, 80 << 20);
        assert!(QEMU_VIRT.ram_base + ram > 0x1_0020_0000 + (80 << 20) + (256 << 20), "{ram:#x}");
        scenario.vmm.ram_size = Some(8 << 30);
        assert!(ram_bytes(&scenario, 0) > 8 << 30);
    }

    #[test]
    fn slots_are_functions_on_bus_0() {
        assert!(slot_on_bus_0("02.0").is_ok());
        for slot in ["", "2.0", "02", "03.0/00.0", "02.0,x=1"] {
            assert!(matches!(slot_on_bus_0(slot), Err(Fault::Usage(_))), "{slot}");
        }
    }
}
