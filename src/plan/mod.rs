//! DECIDE: from the bundle's specification and the host's facts to plain data
//! that `init/` and `parent/` carry out. Changes nothing, has no `sys`.
//!
//! Each file has its counterpart of the same name in `init/`.

pub(crate) mod capabilities;
pub(crate) mod cgroup;
pub(crate) mod check;
pub(crate) mod devices;
pub(crate) mod exec;
pub(crate) mod external;
pub(crate) mod gpu;
pub(crate) mod gpu_request;
pub(crate) mod hooks;
pub(crate) mod hotplug;
pub(crate) mod id_list;
pub(crate) mod intel_rdt;
pub(crate) mod lsm;
pub(crate) mod memory_policy;
pub(crate) mod mount_options;
pub(crate) mod mounts;
pub(crate) mod named_devices;
pub(crate) mod namespaces;
pub(crate) mod net_devices;
pub(crate) mod process;
pub(crate) mod rootfs;
pub(crate) mod scheduling;
pub(crate) mod seccomp;

use anyhow::Result;
use oci_spec::runtime::{Mount, Spec};
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use teu_cgroups::{CgroupPlan, Location};
use teu_namespaces::{Kind, NamespacePlan};

use crate::bundle::Bundle;
use crate::failure::Failure;
use crate::hook;
use crate::host::Host;
use crate::state::ContainerState;
use crate::version;
use cgroup::CgroupManager;
use external::External;
use gpu::DeviceWishes;
use hooks::HooksPlan;
use intel_rdt::IntelRdtPlan;
use named_devices::NamedDevices;
use net_devices::NetDevice;
use process::{ProcessPlan, Shared};
use rootfs::{RootfsInput, RootfsPlan};
use seccomp::SeccompFilter;
use sysctl::Sysctl;

/// What the command line says about a container.
#[derive(Debug, Clone, Default)]
pub(crate) struct Wishes {
    /// Its name.
    pub(crate) id: String,
    /// Who makes the cgroup.
    pub(crate) cgroup_manager: CgroupManager,
    /// Missing permission for cgroups is no error; `None` decides by the user.
    pub(crate) rootless: Option<bool>,
    /// Move the root mount and chroot instead of pivot_root.
    pub(crate) no_pivot: bool,
    /// Stay in the caller's session keyring.
    pub(crate) no_new_keyring: bool,
    /// Descriptors from 3 on that the program gets.
    pub(crate) preserved_fds: u32,
    /// What a service manager started us with.
    pub(crate) service: Service,
    /// Devices that are asked for by name.
    pub(crate) devices: DeviceWishes,
    /// This process stays with the container and is in front of its user.
    pub(crate) foreground: bool,
    /// Its program is not started by this command, and may be missing.
    pub(crate) may_lack_process: bool,
}

/// What a service manager gives its services, as the container gets it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Service {
    /// Environment variables.
    pub(crate) variables: Vec<(&'static str, String)>,
    /// The directory of the notify socket on the host, and where it is mounted.
    pub(crate) mount: Option<(PathBuf, PathBuf)>,
}

impl Service {
    /// Whether there is one.
    fn is_one(&self) -> bool {
        !self.variables.is_empty() || self.mount.is_some()
    }
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
    pub(crate) shared: Shared,
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
    /// The standard streams are those of the person in front of it.
    pub(crate) callers_streams: bool,
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
    pub(crate) fn new(bundle: &Bundle, host: &Host, wishes: &Wishes) -> Result<Box<Plan>> {
        let mut spec = Cow::Borrowed(&bundle.spec);
        if wishes.service.is_one() {
            add_service(spec.to_mut(), &wishes.service);
        }
        let edits = gpu::edit(&mut spec, &bundle.dir, &wishes.devices, host)?;
        let spec = &*spec;
        let linux = spec.linux().as_ref();
        check::refuse_unsupported(spec)?;
        if spec.process().is_none() && !wishes.may_lack_process {
            return Err(Failure::NoProcess.into());
        }
        let mut namespaces = namespaces::plan(spec, host)?;
        let net_devices = sorted(linux.and_then(|linux| linux.net_devices().as_ref()));
        // The parent moves the devices there at once.
        namespaces.network_at_once = !net_devices.is_empty();
        let rootless = wishes.rootless.unwrap_or_else(|| {
            host.is_unprivileged()
                || host.in_user_namespace()
                    && (wishes.cgroup_manager != CgroupManager::Systemd
                        || host.is_served_by_users_systemd())
        });
        let cgroup = cgroup::plan(spec, &namespaces, wishes, rootless)?;
        let cgroup_location = Location::find_for(&cgroup)?;
        let layout = cgroup_location.layout(&cgroup);
        let rootfs = RootfsPlan::new(&RootfsInput {
            spec,
            bundle_dir: &bundle.dir,
            host,
            namespaces: &namespaces,
            cgroup: Some(&layout),
            no_pivot: wishes.no_pivot,
            edits: &edits.together,
        })?;
        let mut shared = Shared::new(spec, !wishes.no_new_keyring)?;
        if let Some(seccomp) = linux.and_then(|linux| linux.seccomp().as_ref()) {
            shared.seccomp = Some(SeccompFilter::new(seccomp, host)?);
        }
        let devices = NamedDevices::new(&edits.of_each, spec, &rootfs, &bundle.dir, host)?;
        let sysctl = sorted(linux.and_then(|linux| linux.sysctl().as_ref()));
        let process = ProcessPlan::new(spec, &shared, host, &namespaces)?;
        Ok(Box::new(Plan {
            id: wishes.id.clone(),
            bundle: bundle.dir.clone(),
            annotations: annotations(spec),
            callers_streams: wishes.foreground && process.terminal.is_none(),
            process,
            shared,
            devices,
            hooks: spec
                .hooks()
                .as_ref()
                .map(HooksPlan::new)
                .transpose()?
                .unwrap_or_default(),
            sysctls: sysctl::plan(&sysctl, &namespaces, host)?,
            net_devices: net_devices::plan(&net_devices, &namespaces, host.is_unprivileged())?,
            intel_rdt: linux
                .and_then(|linux| linux.intel_rdt().as_ref())
                .map(|rdt| IntelRdtPlan::new(rdt, &wishes.id, host))
                .transpose()?,
            parent_sets_limits: namespaces.is_private(Kind::User),
            hostname: spec.hostname().clone().unwrap_or_default(),
            domainname: spec.domainname().clone().unwrap_or_default(),
            new_keyring: !wishes.no_new_keyring,
            preserved_fds: wishes.preserved_fds,
            rootless,
            notifies: wishes.service.mount.is_some(),
            namespaces,
            cgroup,
            cgroup_location,
            rootfs,
        }))
    }

    /// What hooks that init runs are told: it sees its own pid.
    pub(crate) fn hook_state(&self, status: &'static str) -> hook::State<'_> {
        hook::State {
            oci_version: version::SPECIFICATION,
            id: &self.id,
            status,
            pid: rustix::process::getpid().as_raw_pid(),
            bundle: &self.bundle,
            annotations: &self.annotations,
        }
    }

    /// What later commands are to know, before there is a process.
    pub(crate) fn state(&self) -> Box<ContainerState> {
        Box::new(ContainerState {
            oci_version: version::SPECIFICATION.into(),
            id: self.id.clone(),
            created: ContainerState::now(),
            bundle: self.bundle.clone(),
            rootfs: self.rootfs.path.clone(),
            annotations: self.annotations.clone(),
            cgroup: self.cgroup_location.paths(&self.cgroup),
            limits: self.cgroup.limits.clone(),
            private_pid_namespace: self.namespaces.is_new(Kind::Pid),
            rootless: self.rootless,
            mounts_on_host: !self.namespaces.is_private(Kind::Mount),
            shared: self.shared.clone(),
            devices: self.devices.clone(),
            external: External::new(&self.rootfs, &self.namespaces),
            lacks_process: self.process.args.is_empty(),
            poststart: self.hooks.poststart.clone(),
            poststop: self.hooks.poststop.clone(),
            resctrl_group: self.intel_rdt.as_ref().map(IntelRdtPlan::directory),
            ..ContainerState::default()
        })
    }
}

/// The entries of a map in the order of their names.
fn sorted<V>(map: Option<&HashMap<String, V>>) -> BTreeMap<&str, &V> {
    let entries = map.into_iter().flatten();
    entries
        .map(|(name, value)| (name.as_str(), value))
        .collect()
}

fn annotations(spec: &Spec) -> BTreeMap<String, String> {
    spec.annotations().clone().into_iter().flatten().collect()
}

/// Adds what a service manager gives.
fn add_service(spec: &mut Spec, service: &Service) {
    if let Some(process) = spec.process_mut() {
        let pairs = service
            .variables
            .iter()
            .map(|(name, value)| format!("{name}={value}"));
        process.env_mut().get_or_insert_default().extend(pairs);
    }
    if let Some((source, destination)) = &service.mount {
        let mut mount = Mount::default();
        mount
            .set_destination(destination.clone())
            .set_typ(Some("bind".into()))
            .set_source(Some(source.clone()))
            .set_options(Some(
                ["bind", "nosuid", "noexec", "nodev", "ro"]
                    .map(String::from)
                    .into(),
            ));
        spec.mounts_mut().get_or_insert_default().push(mount);
    }
}

pub(crate) mod sysctl;
