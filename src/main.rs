//! teu, a low-level OCI container runtime.
fn main() {}
