//! The state of a container: the facts that later commands need, as `state.json` stores
//! them.
//!
//! Not for: the status of the container (`status.rs`), the directory that holds the file
//! (`state_dir.rs`), and what commands do with either.

pub(crate) mod container_id;
pub(crate) mod exec_fifo;
pub(crate) mod init_process;
pub(crate) mod root;
mod state_dir;
mod status;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use anyhow::Result;
use serde::{Deserialize, Serialize};
use teu_cgroups::{Cgroup, Location, SavedPaths};
use teu_namespaces::Kind;
use teu_plan::Plan;
use teu_plan::external::External;
use teu_plan::hooks::Hook;
use teu_plan::intel_rdt::IntelRdtPlan;
use teu_plan::named_devices::NamedDevices;
use teu_plan::process::ForEveryProcess;

use crate::{hook, version};
pub(crate) use state_dir::{NoState, StateDir};
pub(crate) use status::Status;

/// The content of `state.json`. Paths are absolute. Reading fails if a field is missing,
/// because a process of `exec` without its cgroup or its system call filter, for example,
/// would run unconfined. Only limits that are not set may be missing. serde reads a missing `Option` as
/// `None`, so each such field has its own deserializer.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ContainerState {
    pub(crate) version: u32,
    pub(crate) oci_version: String,
    pub(crate) id: String,
    /// Init's pid as the creator saw it; 0 during the creation.
    pub(crate) pid: i32,
    /// The time when init started, in clock ticks since boot (proc_pid_stat(5), field
    /// 22). It distinguishes init from a later process with the same pid.
    pub(crate) start_time: u64,
    /// Nanoseconds since the epoch.
    pub(crate) created: u64,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    pub(crate) annotations: BTreeMap<String, String>,
    /// The paths of the container's cgroup.
    pub(crate) cgroup: SavedPaths,
    /// The limits in force, with which the next update begins.
    pub(crate) limits: teu_cgroups::Limits,
    /// Whether killing init kills all other processes with it.
    pub(crate) private_pid_namespace: bool,
    pub(crate) rootless: bool,
    /// Whether the container's mounts are in the host's mount namespace, and have to be
    /// undone.
    pub(crate) mounts_on_host: bool,
    /// The attributes that further processes take over from the container.
    pub(crate) shared: ForEveryProcess,
    /// The devices that the container has by name.
    pub(crate) devices: NamedDevices,
    /// The parts of the container that belong to the host, for a checkpoint.
    pub(crate) external: External,
    /// Whether the container has no program to start.
    pub(crate) lacks_process: bool,
    /// The hooks that run after the program's start, and after the deletion.
    pub(crate) poststart: Vec<Hook>,
    pub(crate) poststop: Vec<Hook>,
    /// Directories of the resctrl filesystem to remove with the container.
    pub(crate) resctrl: Vec<PathBuf>,
    /// The container's group in the resctrl filesystem, if it has one.
    #[serde(deserialize_with = "Option::deserialize")]
    pub(crate) resctrl_group: Option<PathBuf>,
}

impl ContainerState {
    /// Returns the state of a planned container, before it has a process.
    pub(crate) fn planned(plan: &Plan, cgroups: &Location) -> Box<ContainerState> {
        Box::new(ContainerState {
            version: state_dir::VERSION,
            oci_version: version::SPECIFICATION.into(),
            id: plan.id.clone(),
            created: ContainerState::now(),
            bundle: plan.bundle.clone(),
            rootfs: plan.rootfs.path.clone(),
            annotations: plan.annotations.clone(),
            cgroup: SavedPaths::planned(&plan.cgroup, cgroups),
            limits: plan.cgroup.limits.clone(),
            private_pid_namespace: plan.namespaces.is_new(Kind::Pid),
            rootless: plan.rootless,
            mounts_on_host: !plan.namespaces.is_private(Kind::Mount),
            shared: plan.shared.clone(),
            devices: plan.devices.clone(),
            external: External::new(&plan.rootfs, &plan.namespaces),
            lacks_process: plan.process.args.is_empty(),
            poststart: plan.hooks.poststart.clone(),
            poststop: plan.hooks.poststop.clone(),
            resctrl_group: plan.intel_rdt.as_ref().map(IntelRdtPlan::directory),
            ..ContainerState::default()
        })
    }

    /// Nanoseconds since the epoch, for `created`.
    pub(crate) fn now() -> u64 {
        let since = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(since.as_nanos()).unwrap_or_default()
    }

    /// Returns the state that hooks get (runtime.md, "State").
    pub(crate) fn for_hooks(&self, status: Status) -> hook::State<'_> {
        hook::State {
            oci_version: &self.oci_version,
            id: &self.id,
            status: status.word(),
            pid: if status == Status::Stopped {
                0
            } else {
                self.pid
            },
            bundle: &self.bundle,
            annotations: &self.annotations,
        }
    }

    /// Returns whether the container's cgroup is frozen. A cgroup without a freezer never
    /// is, nor is a cgroup that was removed.
    ///
    /// # Errors
    /// The freezer cannot be examined.
    pub(crate) fn is_frozen(&self) -> Result<bool> {
        match Cgroup::open(&self.cgroup).is_frozen() {
            Err(teu_cgroups::Error::NoFreezer) => Ok(false),
            Err(err) if err.is_gone() => Ok(false),
            frozen => Ok(frozen?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_freezer_that_cannot_be_read_is_an_error() {
        let directory = testing::Directory::new("freezer");
        let cgroup = serde_json::json!({ "unit": null, "": directory.path() });
        let state = ContainerState {
            cgroup: serde_json::from_value(cgroup).expect("paths"),
            ..ContainerState::default()
        };
        let file = directory.path().join("cgroup.events");
        for (events, frozen) in [("frozen 1\n", true), ("frozen 0\n", false)] {
            std::fs::write(&file, events).expect("write");
            assert_eq!(state.is_frozen().expect(events), frozen);
        }
        std::fs::remove_file(&file).expect("remove");
        assert!(!state.is_frozen().expect("gone"));
        std::fs::create_dir(&file).expect("mkdir");
        let error = testing::words(&state.is_frozen().expect_err("a directory"));
        assert!(error.ends_with(": is a directory"), "{error}");
        assert!(!ContainerState::default().is_frozen().expect("no cgroup"));
    }

    #[test]
    fn nothing_of_a_state_may_be_missing() {
        let hook = Hook {
            path: "/hook".into(),
            args: vec!["hook".into()],
            env: None,
            timeout: None,
        };
        let state = ContainerState {
            poststart: vec![hook],
            ..ContainerState::default()
        };
        let whole = serde_json::to_value(&state).expect("JSON");
        let read = serde_json::from_value::<ContainerState>;
        read(whole.clone()).expect("whole");
        let mut fields = 0;
        for object in [
            "",
            "/cgroup",
            "/limits",
            "/shared",
            "/shared/defaults",
            "/external",
        ]
        .into_iter()
        .chain(["/poststart/0"])
        {
            let names = whole.pointer(object).and_then(|object| object.as_object());
            for name in names.expect(object).keys() {
                let mut state = whole.clone();
                let object = state.pointer_mut(object).and_then(|it| it.as_object_mut());
                object.and_then(|object| object.remove(name)).expect(name);
                let error = read(state).expect_err(name).to_string();
                assert_eq!(error, format!("missing field `{name}`"));
                fields += 1;
            }
        }
        assert!(fields > 40, "{fields}");
    }
}
