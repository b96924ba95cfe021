//! DECIDE: makes plain data, which `init/` and `parent/` of the runtime carry out, from the
//! bundle's specification and from what was seen of the machine.
//!
//! [`Plan::new`] is the order of the decisions; each file decides about one thing, and
//! `seen` says what was seen. The crate cannot look at the machine: it is `no_std` but for
//! what `prelude` lists, and depends on no crate that makes system calls. `Hotplug` depends on
//! the files at the paths of the devices, so it asks the caller about them, through the traits
//! of `hotplug`.

#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod capabilities;
pub mod capability_set;
pub mod cgroup;
pub mod devices;
pub mod document;
pub mod exec;
pub mod external;
pub mod gpu;
pub mod gpu_request;
pub mod hooks;
pub mod hotplug;
pub mod id_list;
pub mod intel_rdt;
pub mod memory_policy;
pub mod mount_flags;
pub mod mount_options;
pub mod mounts;
pub mod named_devices;
pub mod namespaces;
pub mod net_devices;
mod options;
mod prelude;
pub mod process;
pub mod process_labels;
pub mod rootfs;
pub mod scheduling;
pub mod seccomp;
pub mod seen;
mod sorted;
pub mod sysctl;
#[cfg(test)]
mod testing;
pub mod unsupported;

use alloc::borrow::Cow;
use alloc::collections::BTreeMap;

use anyhow::{Result, bail};
use oci_spec::runtime::Spec;
use teu_cgroups_types::CgroupPlan;
use teu_namespaces_types::{Kind, NamespacePlan};

use hooks::HooksPlan;
use intel_rdt::IntelRdtPlan;
use named_devices::NamedDevices;
use net_devices::NetDevice;
pub use options::{CgroupManager, PlanOptions, Service};
use process::{ForEveryProcess, ProcessPlan};
use rootfs::{RootfsInput, RootfsPlan};
use seccomp::SeccompFilter;
use seen::Seen;
use sorted::sorted;
use sysctl::Sysctl;

use crate::prelude::*;

/// The error of a specification without a process. Engines match these words.
pub const NO_PROCESS: &str = "process property must not be empty";

/// The plan of a container.
#[derive(Debug)]
pub struct Plan {
    pub id: String,
    pub bundle: PathBuf,
    pub annotations: BTreeMap<String, String>,
    pub namespaces: NamespacePlan,
    pub cgroup: CgroupPlan,
    pub rootfs: RootfsPlan,
    pub process: ProcessPlan,
    pub shared: ForEveryProcess,
    pub devices: NamedDevices,
    pub hooks: HooksPlan,
    pub sysctls: Vec<Sysctl>,
    pub net_devices: Vec<NetDevice>,
    pub intel_rdt: Option<IntelRdtPlan>,
    /// Whether the parent sets the resource limits. Root of a user namespace may not raise
    /// them, but the parent may, for processes that it has started.
    pub parent_sets_limits: bool,
    /// If empty, the name is not set.
    pub hostname: String,
    /// If empty, the name is not set.
    pub domainname: String,
    pub new_keyring: bool,
    pub preserved_fds: u32,
    pub rootless: bool,
    /// Whether the container's sd_notify messages are forwarded.
    pub notifies: bool,
}

impl Plan {
    /// Decides everything, in an order in which each step uses only earlier decisions.
    ///
    /// # Errors
    /// Returns an error that names the field if one is missing or wrong, or if this host or
    /// teu cannot do what it asks for.
    pub fn new(
        spec: &Spec,
        bundle: &Path,
        options: &PlanOptions,
        seen: &Seen,
    ) -> Result<Box<Plan>> {
        let mut spec = Cow::Borrowed(spec);
        if options.service.is_one() {
            options.service.add_to(spec.to_mut());
        }
        let edits = gpu::edit(&mut spec, &options.devices.gpus, seen)?;
        let spec = &*spec;
        let linux = spec.linux().as_ref();
        unsupported::refuse_unsupported(spec)?;
        if spec.process().is_none() && !options.may_lack_process {
            bail!(NO_PROCESS);
        }
        let mut namespaces = namespaces::plan(spec, seen)?;
        let net_devices = sorted(linux.and_then(|linux| linux.net_devices().as_ref()));
        // The parent moves the devices to this namespace immediately after the clone.
        namespaces.network_at_once = !net_devices.is_empty();
        let rootless = cgroup::is_rootless(options, &seen.caller);
        let cgroup = cgroup::plan(spec, &namespaces, options, rootless)?;
        let layout = seen.cgroups.layout(&cgroup);
        let rootfs = RootfsPlan::new(&RootfsInput {
            spec,
            bundle_dir: bundle,
            seen,
            namespaces: &namespaces,
            cgroup: Some(&layout),
            no_pivot: options.no_pivot,
            edits: &edits.together,
        })?;
        let mut shared = ForEveryProcess::new(spec, !options.no_new_keyring)?;
        if let Some(seccomp) = linux.and_then(|linux| linux.seccomp().as_ref()) {
            shared.seccomp = Some(SeccompFilter::new(seccomp, seen.knows_wait_killable)?);
        }
        let devices = NamedDevices::new(&edits.of_each, spec, &rootfs, &seen.devices.files)?;
        let sysctl = sorted(linux.and_then(|linux| linux.sysctl().as_ref()));
        let process =
            ProcessPlan::new(spec, &shared, &seen.caller, &namespaces, options.foreground)?;
        Ok(Box::new(Plan {
            id: options.id.clone(),
            bundle: bundle.to_owned(),
            annotations: annotations(spec),
            process,
            shared,
            devices,
            hooks: spec
                .hooks()
                .as_ref()
                .map(HooksPlan::new)
                .transpose()?
                .unwrap_or_default(),
            sysctls: sysctl::plan(&sysctl, &namespaces, seen.joins_own_network)?,
            net_devices: net_devices::plan(&net_devices, &namespaces, seen.caller.is_unprivileged)?,
            intel_rdt: linux
                .and_then(|linux| linux.intel_rdt().as_ref())
                .map(|rdt| IntelRdtPlan::new(rdt, &options.id, seen.resctrl.as_ref()))
                .transpose()?,
            parent_sets_limits: namespaces.is_private(Kind::User),
            hostname: spec.hostname().clone().unwrap_or_default(),
            domainname: spec.domainname().clone().unwrap_or_default(),
            new_keyring: !options.no_new_keyring,
            preserved_fds: options.preserved_fds,
            rootless,
            notifies: options.service.mount.is_some(),
            namespaces,
            cgroup,
            rootfs,
        }))
    }
}

fn annotations(spec: &Spec) -> BTreeMap<String, String> {
    spec.annotations().clone().into_iter().flatten().collect()
}
