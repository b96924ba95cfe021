//! Tells the linker how the binary is to lie in memory, since much of what
//! `create` takes is the time to map it: the entry point of `teu-seal` is its
//! own, what a container's life runs through lies side by side, and relocations
//! are packed.

use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=hot.ld");
    let target = |key: &str| variable(&format!("CARGO_CFG_TARGET_{key}"));
    if matches!(target("ARCH").as_str(), "x86_64" | "aarch64") && target("OS") == "linux" {
        linker("--entry=teu_start");
    }
    linker(&format!(
        "--script={}/hot.ld",
        variable("CARGO_MANIFEST_DIR")
    ));
    let is_native = variable("HOST") == variable("TARGET");
    if is_native && target("ENV") == "gnu" && glibc() >= Some((2, 36)) {
        linker("-z,pack-relative-relocs");
    }
}

fn linker(argument: &str) {
    println!("cargo:rustc-link-arg-bins=-Wl,{argument}");
}

fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_default()
}

/// The version of this machine's C library. Since 2.36 its start-up code in a
/// static program knows packed relocations (DT_RELR).
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf")
        .arg("GNU_LIBC_VERSION")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
