//! The options for a new container, from the command line and from a service manager.

use oci_spec::runtime::{Mount, Spec};

use super::gpu::DeviceOptions;
use crate::prelude::*;

/// The value of the option that selects how cgroups are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CgroupManager {
    #[default]
    Filesystem,
    Systemd,
    Disabled,
}

/// The options of the command line for a container.
#[derive(Debug, Clone, Default)]
pub struct PlanOptions {
    /// The name of the container.
    pub id: String,
    /// The way in which the cgroup is made.
    pub cgroup_manager: CgroupManager,
    /// Whether a container may lack a cgroup because permission for it is missing; `None`
    /// decides by the user.
    pub rootless: Option<bool>,
    /// Whether init moves the root mount and calls chroot, instead of pivot_root.
    pub no_pivot: bool,
    /// Whether the container stays in the caller's session keyring.
    pub no_new_keyring: bool,
    /// The number of descriptors from 3 on that the program inherits.
    pub preserved_fds: u32,
    /// The settings of the service manager that started teu.
    pub service: Service,
    /// The options for devices.
    pub devices: DeviceOptions,
    /// Whether teu stays with the container, and the streams are the user's.
    pub foreground: bool,
    /// Whether config.json may lack a process: this command does not start the program.
    pub may_lack_process: bool,
}

/// The settings that a service manager gives its services, as the container gets them.
#[derive(Debug, Clone, Default)]
pub struct Service {
    /// The environment variables.
    pub variables: Vec<(&'static str, String)>,
    /// The directory of the notify socket on the host, and its mountpoint in the container.
    pub mount: Option<(PathBuf, PathBuf)>,
}

impl Service {
    /// Returns whether a service manager has given any settings.
    pub(super) fn is_one(&self) -> bool {
        !self.variables.is_empty() || self.mount.is_some()
    }

    /// Adds the variables and the mount to the specification.
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
