//! Arbitrary bytes as `linux.seccomp`: they become a filter, none, or an error.
//!
//!     cd integration/fuzz && cargo +nightly fuzz run seccomp
#![no_main]

use libfuzzer_sys::fuzz_target;

// The sources of the binary that turn a profile into a program; it is no
// library, so what they use of it stands here.
#[path = "../../../src/document.rs"]
mod document;

mod host {
    pub(crate) struct Host;

    impl Host {
        pub(crate) fn knows_seccomp_flag(&self, _flag: u32) -> bool {
            true
        }
    }
}

#[path = "../../../src/plan/seccomp.rs"]
mod seccomp;

fuzz_target!(|text: &[u8]| {
    let Ok(profile) = document::read(text, &|_, _| {}) else {
        return;
    };
    if let Ok(filter) = seccomp::SeccompFilter::new(&profile, &host::Host) {
        assert!((1..=teu_seccomp::MOST_INSTRUCTIONS).contains(&filter.program.len()));
    }
});
