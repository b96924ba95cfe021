//! What the command line and a service manager say about a container to be made.

use oci_spec::runtime::{Mount, Spec};

use super::gpu::DeviceOptions;
use crate::prelude::*;

/// Who makes cgroups, as the command line says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupManager {
    #[default]
    Filesystem,
    Systemd,
    Disabled,
}

/// What the command line says about a container.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// Its name.
    pub id: String,
    /// Who makes the cgroup.
    pub cgroup_manager: CgroupManager,
    /// Missing permission for cgroups is no error; `None` decides by the user.
    pub rootless: Option<bool>,
    /// Move the root mount and chroot instead of pivot_root.
    pub no_pivot: bool,
    /// Stay in the caller's session keyring.
    pub no_new_keyring: bool,
    /// Descriptors from 3 on that the program gets.
    pub preserved_fds: u32,
    /// What a service manager started us with.
    pub service: Service,
    /// Devices that are asked for by name.
    pub devices: DeviceOptions,
    /// This process stays with the container and is in front of its user.
    pub foreground: bool,
    /// Its program is not started by this command, and may be missing.
    pub may_lack_process: bool,
}

/// What a service manager gives its services, as the container gets it.
#[derive(Debug, Clone, Default)]
pub struct Service {
    /// Environment variables.
    pub variables: Vec<(&'static str, String)>,
    /// The directory of the notify socket on the host, and where it is mounted.
    pub mount: Option<(PathBuf, PathBuf)>,
}

impl Service {
    /// Whether there is one.
    pub(super) fn is_one(&self) -> bool {
        !self.variables.is_empty() || self.mount.is_some()
    }

    /// Adds what it gives.
    pub(super) fn add_to(&self, spec: &mut Spec) {
        if let Some(process) = spec.process_mut() {
            let pairs = self
                .variables
                .iter()
                .map(|(name, value)| format!("{name}={value}"));
            process.env_mut().get_or_insert_default().extend(pairs);
        }
        if let Some((source, destination)) = &self.mount {
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
}
