//! Tests of the built binary against this kernel, in one program with a module for each
//! feature of containers or command. `cargo test --test cli NAME` runs some of them.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod harness;

mod cdi;
mod cgroups;
mod checkpoint;
mod compatibility;
mod config;
mod coverage;
mod cves;
mod delete;
mod devices;
mod events;
mod exec;
mod failures;
mod features;
mod gpu_commands;
mod gpus;
mod hooks;
mod hotplug;
mod layers;
mod layouts;
mod lifecycle;
mod limits;
mod lsm;
mod manual;
mod messages;
mod mounts;
mod namespaces;
mod net_devices;
mod process;
mod processors;
mod rootless;
mod run;
mod seccomp;
mod security;
mod shim;
mod spec;
mod stats;
mod systemd;
mod terminal;
mod update;

/// Fake machines made of files, from the tests of the crate teu-gpu.
#[allow(dead_code, reason = "those have more to ask")]
#[path = "../gpu/tests/providers/tree.rs"]
mod machine;

use std::process::ExitCode;

fn main() -> ExitCode {
    harness::main(&[
        cdi::TESTS,
        cgroups::TESTS,
        checkpoint::TESTS,
        events::TESTS,
        exec::TESTS,
        compatibility::TESTS,
        config::TESTS,
        coverage::TESTS,
        cves::TESTS,
        delete::TESTS,
        devices::TESTS,
        failures::TESTS,
        features::TESTS,
        gpu_commands::TESTS,
        gpus::TESTS,
        hooks::TESTS,
        hotplug::TESTS,
        layers::TESTS,
        layouts::TESTS,
        lifecycle::TESTS,
        limits::TESTS,
        lsm::TESTS,
        manual::TESTS,
        messages::TESTS,
        mounts::TESTS,
        namespaces::TESTS,
        net_devices::TESTS,
        process::TESTS,
        processors::TESTS,
        rootless::TESTS,
        run::TESTS,
        seccomp::TESTS,
        security::TESTS,
        shim::calls::TESTS,
        shim::crossing::TESTS,
        shim::faults::TESTS,
        shim::invocation::TESTS,
        shim::leaks::TESTS,
        shim::order::TESTS,
        shim::overload::TESTS,
        shim::recovery::TESTS,
        shim::confinement::TESTS,
        shim::streams::TESTS,
        shim::transcript::TESTS,
        spec::TESTS,
        systemd::TESTS,
        stats::TESTS,
        terminal::TESTS,
        update::TESTS,
    ])
}
