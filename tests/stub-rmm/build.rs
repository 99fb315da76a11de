//! Linker script of the EL2 program.

fn main() {
    let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={dir}/../../linker/stub-rmm.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo:rustc-link-arg-bin=stub-rmm=-T{dir}/../../linker/stub-rmm.ld");
        println!("cargo:rustc-link-arg-bin=stub-rmm=--no-pie");
    }
}
