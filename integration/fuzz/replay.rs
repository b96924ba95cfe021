//! Replays the seeds of fuzz targets, in the unit tests of the crates that have targets.

use std::fs;
use std::panic::catch_unwind;
use std::path::Path;

/// A target. It returns `None` for an input that its reader refuses, and panics if the reader
/// breaks a promise.
type Target = fn(&[u8]) -> Option<()>;

/// Calls each target with each of its seeds. At least one of the seeds must be accepted, or
/// nothing would be tested.
pub(crate) fn replay(targets: &[(&str, Target)]) {
    let mut above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let seeds = above
        .find_map(|directory| {
            let seeds = directory.join("integration/fuzz/seeds");
            seeds.is_dir().then_some(seeds)
        })
        .expect("integration/fuzz/seeds");
    for (name, target) in targets {
        let mut accepted = 0;
        for seed in fs::read_dir(seeds.join(name)).expect(name) {
            let path = seed.expect("a seed").path();
            let bytes = fs::read(&path).expect("read the seed");
            let result = catch_unwind(|| target(&bytes));
            let result = result.unwrap_or_else(|_| panic!("{name} fails for {path:?}"));
            accepted += usize::from(result.is_some());
        }
        assert_ne!(accepted, 0, "no seed of {name} is accepted");
    }
}
