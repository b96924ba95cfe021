//! Arbitrary bytes as `linux.seccomp`: they become a filter, none, or an error.
//!
//!     cd integration/fuzz && cargo +nightly fuzz run seccomp
#![no_main]

use libfuzzer_sys::fuzz_target;

// The sources of the binary that turn a profile into a program; it is no
// library, so what they use of it stands here.
#[path = "../../../src/spec.rs"]
mod spec;

mod host {
    pub(crate) struct Host;

    impl Host {
        pub(crate) fn knows_seccomp_flag(&self, _flag: u32) -> bool {
            true
        }
    }
}

mod log {
    pub(crate) fn debug(_message: &str) {}
}

#[path = "../../../src/plan/seccomp.rs"]
mod seccomp;

fuzz_target!(|text: &[u8]| {
    let Ok(profile) = spec::from_slice::<spec::Seccomp>(text, &|_| {}) else {
        return;
    };
    if let Ok(Some(filter)) = seccomp::SeccompFilter::new(&profile, &host::Host) {
        assert!((1..=teu_seccomp::MOST_INSTRUCTIONS).contains(&filter.program.len()));
    }
});
