//! Arbitrary bytes as `linux.seccomp`: they become a filter, none, or an error.
//!
//!     cd integration/fuzz && cargo +nightly fuzz run seccomp
#![no_main]

use libfuzzer_sys::fuzz_target;
use teu_plan::document;
use teu_plan::seccomp::SeccompFilter;

fuzz_target!(|text: &[u8]| {
    let Ok(profile) = document::read(text, &|_, _| {}) else {
        return;
    };
    if let Ok(filter) = SeccompFilter::new(&profile, true) {
        assert!((1..=teu_seccomp::MOST_INSTRUCTIONS).contains(&filter.program.len()));
    }
});
