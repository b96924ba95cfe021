//! DECIDE: from the bundle's specification and the host's facts to plain data
//! that `init/` and the host side carry out. Changes nothing, has no `sys`.
//!
//! Each file has its counterpart of the same name in `init/`.

pub(crate) mod capabilities;
pub(crate) mod cgroup;
pub(crate) mod check;
pub(crate) mod devices;
pub(crate) mod hooks;
pub(crate) mod id_list;
pub(crate) mod lsm;
pub(crate) mod memory_policy;
pub(crate) mod mount_options;
pub(crate) mod mounts;
pub(crate) mod namespaces;
pub(crate) mod process;
pub(crate) mod rootfs;
pub(crate) mod scheduling;

use anyhow::Result;
use std::collections::BTreeMap;
use std::path::PathBuf;
use teu_cgroups::{CgroupPlan, Driver, Location};
use teu_namespaces::{Kind, NamespacePlan};

use crate::bundle::Bundle;
use crate::host::Host;
use crate::spec::Spec;
use crate::state::ContainerState;
use crate::version;
use hooks::HooksPlan;
use process::ProcessPlan;
use rootfs::{RootfsInput, RootfsPlan};

/// What the command line says about a container.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wishes {
    /// Its name.
    pub(crate) id: String,
    /// systemd makes the cgroup.
    pub(crate) systemd_cgroup: bool,
    /// Missing permission for cgroups is no error; `None` decides by the user.
    pub(crate) rootless: Option<bool>,
    /// Move the root mount and chroot instead of pivot_root.
    pub(crate) no_pivot: bool,
    /// Stay in the caller's session keyring.
    pub(crate) no_new_keyring: bool,
    /// Descriptors from 3 on that the program gets.
    pub(crate) preserved_fds: u32,
    /// This process stays with the container and is in front of its user.
    pub(crate) foreground: bool,
}

/// Everything decided about a container.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) namespaces: NamespacePlan,
    pub(crate) cgroup: CgroupPlan,
    /// The machine's cgroup hierarchies.
    pub(crate) cgroup_location: Location,
    pub(crate) rootfs: RootfsPlan,
    pub(crate) process: ProcessPlan,
    pub(crate) hooks: HooksPlan,
    /// Empty: not set.
    pub(crate) hostname: String,
    /// Empty: not set.
    pub(crate) domainname: String,
    pub(crate) new_keyring: bool,
    pub(crate) preserved_fds: u32,
    pub(crate) foreground: bool,
    pub(crate) rootless: bool,
}

impl Plan {
    /// Decides everything; each step uses only what was decided before it.
    ///
    /// # Errors
    /// A field that is missing, wrong, or asks for what this host or this teu
    /// cannot do; the error names it.
    pub(crate) fn new(bundle: &Bundle, host: &Host, wishes: &Wishes) -> Result<Plan> {
        let spec = &bundle.spec;
        check::refuse_unsupported(spec)?;
        let namespaces = namespaces::plan(spec, host)?;
        let rootless = wishes.rootless.unwrap_or_else(|| host.is_unprivileged() || host.in_user_namespace());
        let cgroup = cgroup(spec, host, wishes, rootless, &namespaces)?;
        let cgroup_location = Location::find()?;
        let layout = cgroup_location.layout(&cgroup);
        let rootfs = RootfsPlan::new(&RootfsInput {
            spec,
            bundle_dir: &bundle.dir,
            host,
            namespaces: &namespaces,
            cgroup: Some(&layout),
            no_pivot: wishes.no_pivot,
        })?;
        Ok(Plan {
            id: wishes.id.clone(),
            bundle: bundle.dir.clone(),
            annotations: spec.annotations.clone(),
            process: ProcessPlan::new(spec, host, &namespaces)?,
            hooks: HooksPlan::new(&spec.hooks)?,
            hostname: spec.hostname.clone(),
            domainname: spec.domainname.clone(),
            new_keyring: !wishes.no_new_keyring,
            preserved_fds: wishes.preserved_fds,
            foreground: wishes.foreground,
            rootless,
            namespaces,
            cgroup,
            cgroup_location,
            rootfs,
        })
    }

    /// What later commands are to know, before there is a process.
    pub(crate) fn state(&self) -> ContainerState {
        ContainerState {
            oci_version: version::SPECIFICATION.into(),
            id: self.id.clone(),
            created: ContainerState::now(),
            bundle: self.bundle.clone(),
            rootfs: self.rootfs.path.clone(),
            annotations: self.annotations.clone(),
            cgroup: self.cgroup_location.paths(&self.cgroup),
            private_pid_namespace: self.namespaces.is_new(Kind::Pid),
            rootless: self.rootless,
            poststart: self.hooks.poststart.clone(),
            poststop: self.hooks.poststop.clone(),
            ..ContainerState::default()
        }
    }
}

fn cgroup(
    spec: &Spec,
    host: &Host,
    wishes: &Wishes,
    rootless: bool,
    namespaces: &NamespacePlan,
) -> Result<CgroupPlan> {
    let default = Vec::new();
    let devices = spec.linux.as_ref().map_or(&default, |linux| &linux.devices);
    let nodes = devices::device_nodes(devices)?;
    let driver = if wishes.systemd_cgroup { Driver::Systemd } else { Driver::Filesystem };
    cgroup::plan(spec, &wishes.id, driver, rootless, &nodes, host.in_user_namespace())
}
pub(crate) mod sysctl;
