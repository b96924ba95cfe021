//! Has the targets of `integration/fuzz`. Each reads arbitrary bytes with one of the
//! runtime's readers, and panics if the result breaks a promise of the reader.
//!
//! They are a module of the binary because its readers are private. They are compiled for
//! fuzzing, which sets `cfg(fuzzing)`, and for the unit tests, which replay the seeds. The
//! crates `cgroups/` and `gpu/` have a module of this kind for their own private readers.

mod documents;
mod files;
mod messages;

pub use documents::{config, process, resources, seccomp, state};
pub use files::{id_maps, statistics};
pub use messages::{criu, pipe, ttrpc};

#[cfg(test)]
#[path = "../../integration/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_hold_for_their_seeds() {
        replay::replay(&[
            ("config", config),
            ("criu", criu),
            ("id_maps", id_maps),
            ("pipe", pipe),
            ("process", process),
            ("resources", resources),
            ("seccomp", seccomp),
            ("state", state),
            ("statistics", statistics),
            ("ttrpc", ttrpc),
        ]);
    }
}
