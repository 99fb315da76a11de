//! What scripts/setup found or made: target/env.sh, which the scripts put into the environment.

use crate::Fault;
use std::env;
use std::path::{Path, PathBuf};

/// Oldest QEMU whose SMMUv3 has stage 2.
const QEMU_MIN: (u32, u32) = (8, 1);

/// The tools of this machine. A path that is `None` could not be had.
#[derive(Clone, Debug)]
pub struct Tools {
    /// The repository.
    pub root: PathBuf,
    /// Where cargo puts what it builds.
    pub cargo_target: PathBuf,
    /// qemu-system-aarch64.
    pub qemu: Option<PathBuf>,
    /// Its version, major and minor.
    pub qemu_version: (u32, u32),
    /// The stock Linux kernel.
    pub kernel: Option<PathBuf>,
    /// Its version.
    pub kernel_version: String,
    /// mkimage and dumpimage of u-boot-tools.
    pub mkimage: Option<(PathBuf, PathBuf)>,
    /// The device-tree compiler, which mkimage runs.
    pub dtc: Option<PathBuf>,
    /// What scripts/setup could not get, and why.
    pub missing: String,
}

fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

impl Tools {
    /// Reads the environment.
    #[must_use]
    pub fn from_env() -> Tools {
        let built_here = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = variable("GH_ROOT").map_or(built_here, PathBuf::from);
        let cargo_target = variable("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        Tools {
            cargo_target: std::path::absolute(&cargo_target).unwrap_or(cargo_target),
            qemu: variable("GH_QEMU").map(PathBuf::from),
            qemu_version: version(&variable("GH_QEMU_VERSION").unwrap_or_default()),
            kernel: variable("GH_KERNEL").map(PathBuf::from),
            kernel_version: variable("GH_KERNEL_VERSION").unwrap_or_default(),
            mkimage: variable("GH_MKIMAGE")
                .zip(variable("GH_DUMPIMAGE"))
                .map(|(make, dump)| (make.into(), dump.into())),
            dtc: variable("GH_DTC").map(PathBuf::from),
            missing: variable("GH_MISSING").unwrap_or_default(),
            root,
        }
    }

    /// Returns QEMU.
    ///
    /// # Errors
    /// [`Fault::NotPossible`].
    pub fn need_qemu(&self) -> Result<&Path, Fault> {
        self.qemu.as_deref().ok_or_else(|| self.impossible("no qemu-system-aarch64"))
    }

    /// Tells whether QEMU is one whose SMMUv3 has stage 2; the stub asks the device itself as well.
    ///
    /// # Errors
    /// [`Fault::NotPossible`].
    pub fn need_smmu_stage_2(&self) -> Result<(), Fault> {
        self.need_qemu()?;
        let (major, minor) = self.qemu_version;
        if self.qemu_version >= QEMU_MIN {
            return Ok(());
        }
        Err(self.impossible(&format!(
            "no SMMU stage 2: QEMU {major}.{minor} is older than {}.{}",
            QEMU_MIN.0, QEMU_MIN.1
        )))
    }

    /// Returns the Linux kernel.
    ///
    /// # Errors
    /// [`Fault::NotPossible`].
    pub fn need_kernel(&self) -> Result<&Path, Fault> {
        self.kernel.as_deref().ok_or_else(|| self.impossible("no realm-capable Linux kernel"))
    }

    fn impossible(&self, what: &str) -> Fault {
        match (self.missing.as_str(), &self.qemu) {
            ("", None) => Fault::NotPossible(format!("{what} (scripts/setup was not run)")),
            ("", Some(_)) => Fault::NotPossible(what.to_owned()),
            (missing, _) => Fault::NotPossible(format!("{what} ({missing})")),
        }
    }
}

fn version(text: &str) -> (u32, u32) {
    let mut parts = text.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(qemu: &str) -> Tools {
        Tools {
            root: PathBuf::new(),
            cargo_target: PathBuf::new(),
            qemu: Some(PathBuf::from("qemu")),
            qemu_version: version(qemu),
            kernel: None,
            kernel_version: String::new(),
            mkimage: None,
            dtc: None,
            missing: "kernel: no mirror".into(),
        }
    }

    #[test]
    fn an_old_qemu_is_not_possible_and_named() {
        let fault = tools("7.2.11").need_smmu_stage_2().unwrap_err();
        assert_eq!(fault.exit_status(), 3);
        assert!(fault.to_string().contains("QEMU 7.2"), "{fault}");
        assert!(tools("8.1").need_smmu_stage_2().is_ok());
        assert!(tools("10.0.13").need_smmu_stage_2().is_ok());
    }

    #[test]
    fn a_missing_kernel_is_not_possible_and_says_why() {
        let fault = tools("10.0").need_kernel().unwrap_err();
        assert_eq!(fault.exit_status(), 3);
        assert!(fault.to_string().contains("no mirror"), "{fault}");
    }
}
