//! Makes the entry point of `teu-seal` the binary's.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = |key: &str| std::env::var(format!("CARGO_CFG_TARGET_{key}")).unwrap_or_default();
    if matches!(target("ARCH").as_str(), "x86_64" | "aarch64") && target("OS") == "linux" {
        println!("cargo:rustc-link-arg-bins=-Wl,--entry=teu_start");
    }
}
