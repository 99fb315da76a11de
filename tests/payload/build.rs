//! Linker script of the demo payload.

fn main() {
    let dir = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed={dir}/../../linker/payload.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo:rustc-link-arg-bin=payload=-T{dir}/../../linker/payload.ld");
        for arg in ["-pie", "-zpack-relative-relocs", "-zmax-page-size=4096"] {
            println!("cargo:rustc-link-arg-bin=payload={arg}");
        }
    }
}
