//! Makes the entry point of `teu-seal` the binary's, and puts what a container's
//! life runs through side by side.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |key: &str| std::env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    if matches!(target("ARCH").as_str(), "x86_64" | "aarch64") && target("OS") == "linux" {
        println!("cargo:rustc-link-arg-bins=-Wl,--entry=teu_start");
    }
    let directory = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
    println!("cargo:rerun-if-changed=hot.ld");
    println!("cargo:rustc-link-arg-bins=-Wl,--script={directory}/hot.ld");
}
