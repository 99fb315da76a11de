//! Linker script and build identity for the firmware binary.
use std::process::Command;

/// Link arguments of the bare-metal firmware: a static position-independent executable whose relocations are one
/// RELR bitmap; `notext` because the entry code relocates constants too, before anything is mapped read-only. Equal
/// functions are there once: nothing compares their addresses. -O2: a string that ends another one is not there again.
const LINK_ARGS: [&str; 9] = [
    "-pie",
    "--no-dynamic-linker",
    "--pack-dyn-relocs=relr",
    "-znotext",
    "-znorelro",
    "-zmax-page-size=4096",
    "--build-id=none",
    "--icf=all",
    "-O2",
];

fn main() {
    let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=linker/realm.ld");
    println!("cargo:rerun-if-changed=.git/HEAD");
    let id = Command::new("git")
        .args(["-C", &dir, "describe", "--always", "--dirty", "--abbrev=12"])
        .output()
        .ok()
        .filter(|o| o.status.success())
        .and_then(|o| String::from_utf8(o.stdout).ok())
        .map_or_else(|| "unknown".into(), |s| s.trim().to_owned());
    println!("cargo:rustc-env=GATEHOUSE_BUILD_ID={id}");
    // `cfg(name)` is not set by `--cfg name="value"`.
    println!("cargo:rustc-check-cfg=cfg(gatehouse_mutated)");
    if std::env::var_os("CARGO_CFG_GATEHOUSE_MUTATION").is_some() {
        println!("cargo:rustc-cfg=gatehouse_mutated");
    }
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo:rustc-link-arg-bin=gatehouse-fw=-T{dir}/linker/realm.ld");
        for arg in LINK_ARGS {
            println!("cargo:rustc-link-arg-bin=gatehouse-fw={arg}");
        }
    }
}
