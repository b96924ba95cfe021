//! DECIDE: from the bundle's specification and what was seen of the host to plain data
//! that `init/` and `parent/` carry out. Changes nothing, has no `sys`.
//!
//! Each file has its counterpart of the same name in `init/`.

pub(crate) mod capabilities;
pub(crate) mod cgroup;
pub(crate) mod devices;
pub(crate) mod exec;
pub(crate) mod external;
pub(crate) mod gpu;
pub(crate) mod gpu_request;
pub(crate) mod hooks;
pub(crate) mod hotplug;
pub(crate) mod id_list;
pub(crate) mod intel_rdt;
pub(crate) mod memory_policy;
pub(crate) mod mount_options;
pub(crate) mod mounts;
pub(crate) mod named_devices;
pub(crate) mod namespaces;
pub(crate) mod net_devices;
mod options;
pub(crate) mod process;
pub(crate) mod process_labels;
pub(crate) mod rootfs;
pub(crate) mod scheduling;
pub(crate) mod seccomp;
pub(crate) mod seen;
mod sorted;
pub(crate) mod sysctl;
pub(crate) mod unsupported;

use anyhow::Result;
use oci_spec::runtime::Spec;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use teu_cgroups::CgroupPlan;
use teu_namespaces::{Kind, NamespacePlan};

use crate::known_failures::Failure;
use hooks::HooksPlan;
use intel_rdt::IntelRdtPlan;
use named_devices::NamedDevices;
use net_devices::NetDevice;
pub(crate) use options::{CgroupManager, PlanOptions, Service};
use process::{ForEveryProcess, ProcessPlan};
use rootfs::{RootfsInput, RootfsPlan};
use seccomp::SeccompFilter;
use seen::Seen;
use sorted::sorted;
use sysctl::Sysctl;

/// Everything decided about a container.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) id: String,
    pub(crate) bundle: PathBuf,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) namespaces: NamespacePlan,
    pub(crate) cgroup: CgroupPlan,
    pub(crate) rootfs: RootfsPlan,
    pub(crate) process: ProcessPlan,
    pub(crate) shared: ForEveryProcess,
    pub(crate) devices: NamedDevices,
    pub(crate) hooks: HooksPlan,
    pub(crate) sysctls: Vec<Sysctl>,
    pub(crate) net_devices: Vec<NetDevice>,
    pub(crate) intel_rdt: Option<IntelRdtPlan>,
    /// Resource limits are set from outside: root of a user namespace may not
    /// raise them, and the parent may set those of its own namespace's processes.
    pub(crate) parent_sets_limits: bool,
    /// Empty: not set.
    pub(crate) hostname: String,
    /// Empty: not set.
    pub(crate) domainname: String,
    pub(crate) new_keyring: bool,
    pub(crate) preserved_fds: u32,
    pub(crate) rootless: bool,
    /// The container's sd_notify messages are passed on.
    pub(crate) notifies: bool,
}

impl Plan {
    /// Decides everything; each step uses only what was decided before it.
    ///
    /// # Errors
    /// A field that is missing, wrong, or asks for what this host or this teu
    /// cannot do; the error names it.
    pub(crate) fn new(
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
            return Err(Failure::NoProcess.into());
        }
        let mut namespaces = namespaces::plan(spec, seen)?;
        let net_devices = sorted(linux.and_then(|linux| linux.net_devices().as_ref()));
        // The parent moves the devices there at once.
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
