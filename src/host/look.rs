//! Looks at everything on which a plan depends, once, before anything is decided. Facts
//! that few containers need are looked at only for these. Not for decisions: see
//! `plan/`.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oci_spec::runtime::{LinuxNamespace, LinuxNamespaceType, Process, Spec};
use teu_cgroups::{Location, Systemd};
use teu_gpu::{Edits, Vendor};
use teu_namespaces::{IdMaps, Kind};
use teu_plan::gpu::{self, DeviceOptions};
use teu_plan::hotplug::{AskedNode, LookOutside};
use teu_plan::seen::{AllEdits, Caller, DevicesSeen, FileId, Seen};
use teu_plan::{
    CgroupManager, PlanOptions, cgroup, gpu_request, process_labels, rootfs, seccomp, sysctl,
};

use super::Host;

impl Host {
    /// Looks at everything on which the plan of a container of `spec` depends. Also
    /// returns the connection to systemd, if the look needed one.
    ///
    /// # Errors
    /// A fact cannot be read, or a requested object does not exist.
    pub(crate) fn look(
        &self,
        spec: &Spec,
        bundle: &Path,
        options: &PlanOptions,
    ) -> Result<(Seen, Option<Systemd>)> {
        let devices = self.devices(spec, bundle, &options.devices)?;
        let linux = spec.linux().as_ref();
        let user = namespace(spec, LinuxNamespaceType::User);
        let mut caller = self.caller(spec.process().as_ref(), user.is_some())?;
        caller.has_users_systemd = options.cgroup_manager == CgroupManager::Systemd
            && options.rootless.is_none()
            && caller.in_user_namespace
            && self.is_served_by_users_systemd();
        let filter = linux.and_then(|linux| linux.seccomp().as_ref());
        let rdt = linux.and_then(|linux| linux.intel_rdt().as_ref());
        let joined_id_maps = self.joined_id_maps(user)?;
        let joins_own_network = self.joins_own_network(spec)?;
        let (cgroups, systemd) = cgroups(options, &caller)?;
        let seen = Seen {
            rootfs: match rootfs::root_path(spec, bundle) {
                Some(path) => self.check_path_without_links(&path).map_err(Into::into),
                None => Err(io::ErrorKind::NotFound.into()),
            },
            joined_id_maps,
            joins_own_network,
            cgroups,
            has_kcore: self.path("proc/kcore").exists(),
            knows_wait_killable: filter.is_some_and(seccomp::waits_killable)
                && self.knows_wait_killable(),
            resctrl: rdt.map_or(Ok(None), |_| self.resctrl())?,
            caller,
            devices,
        };
        Ok((seen, systemd))
    }

    /// Looks at this process, as far as the plan of `process`, which it will start,
    /// depends on it. `other_users`: the process will be in its own user namespace.
    ///
    /// # Errors
    /// The kernel's information cannot be read.
    pub(crate) fn caller(&self, process: Option<&Process>, other_users: bool) -> Result<Caller> {
        let status = self.status()?;
        let label = process.and_then(|process| process.selinux_label().as_deref());
        Ok(Caller {
            is_unprivileged: self.is_unprivileged(),
            in_user_namespace: self.in_user_namespace()?,
            has_users_systemd: false,
            group: match self.is_unprivileged() {
                true => self.egid(),
                false => 0,
            },
            bounding: status.bounding,
            effective: status.effective,
            ignored_signals: status.ignored_signals,
            known_capabilities: match other_users {
                true => Some(self.known_capabilities()?),
                false => None,
            },
            has_selinux: label.is_some_and(|label| !label.is_empty()) && self.has_selinux(),
            // If it cannot be read, take it for confined: stacking a profile gives no
            // rights, and where AppArmor is off the write of the profile fails.
            is_confined_by_apparmor: process.is_some_and(process_labels::must_stay)
                && self.is_confined_by_apparmor().unwrap_or(true),
        })
    }

    fn joined_id_maps(&self, user: Option<&LinuxNamespace>) -> Result<Option<IdMaps>> {
        let path = user.and_then(|user| user.path().as_deref());
        // The plan refuses a path that is not absolute.
        let path = path.filter(|path| path.is_absolute());
        let maps = path.map(|path| self.id_maps_of(path)).transpose();
        maps.context("id maps of the joined user namespace")
    }

    fn joins_own_network(&self, spec: &Spec) -> Result<bool> {
        let network = namespace(spec, LinuxNamespaceType::Network);
        let path = network.and_then(|network| network.path().as_deref());
        let sysctls = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.sysctl().as_ref());
        match (path.filter(|path| path.is_absolute()), sysctls) {
            (Some(path), Some(sysctls)) if sysctl::concern_network(sysctls.keys()) => self
                .is_own_namespace(Kind::Network, path)
                .context("invalid netns path"),
            _ => Ok(false),
        }
    }

    fn devices(&self, spec: &Spec, bundle: &Path, options: &DeviceOptions) -> Result<DevicesSeen> {
        let has_nvidia_driver = gpu_request::needs_driver(spec, &options.gpus)
            && self.has_gpus(Vendor::Nvidia, &options.gpus)?;
        let asked = gpu::asked(spec, bundle, options, has_nvidia_driver)?;
        let edits = asked.map(|asked| self.edits(&asked, options)).transpose()?;
        let each = edits.iter().flat_map(|edits| &edits.of_each);
        let files = each.flat_map(|(_, edits)| self.sources(edits, bundle));
        Ok(DevicesSeen {
            has_nvidia_driver,
            files: files.collect(),
            edits,
        })
    }
}

/// Returns the namespace of this kind in the specification, if any.
fn namespace(spec: &Spec, kind: LinuxNamespaceType) -> Option<&LinuxNamespace> {
    let linux = spec.linux().as_ref()?;
    let mut namespaces = linux.namespaces().iter().flatten();
    namespaces.find(|namespace| namespace.typ() == kind)
}

fn cgroups(options: &PlanOptions, caller: &Caller) -> Result<(Location, Option<Systemd>)> {
    Ok(match options.cgroup_manager {
        CgroupManager::Filesystem => (teu_cgroups::locate()?, None),
        CgroupManager::Disabled => (teu_cgroups::locate_if_any()?, None),
        CgroupManager::Systemd => {
            let rootless = cgroup::is_rootless(options, caller);
            let manager = cgroup::unit_manager(rootless);
            let (location, systemd) = teu_cgroups::locate_with_systemd(manager)?;
            (location, Some(systemd))
        }
    })
}

impl LookOutside for Host {
    fn edits(&self, asked: &gpu::Asked, options: &DeviceOptions) -> Result<AllEdits> {
        Host::edits(self, asked, options)
    }

    fn node_edits(&self, node: &AskedNode) -> Result<Edits> {
        Host::node_edits(self, node)
    }

    fn sources(&self, edits: &Edits, bundle: &Path) -> BTreeMap<PathBuf, FileId> {
        let mounts = edits.files.iter().chain(&edits.mounts);
        let sources = mounts.filter_map(|mount| mount.source().as_ref());
        let found = sources.filter_map(|source| {
            let id = self.file_id(&bundle.join(source))?;
            Some((source.clone(), id))
        });
        found.collect()
    }
}
