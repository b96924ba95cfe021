//! The facts about the machine that are collected before anything is decided.
//! `host/look.rs` collects them. A fact on which only few containers depend is collected
//! only for those containers; else its field has a default.

use alloc::collections::BTreeMap;

use teu_cgroups_types::Location;
use teu_gpu_types::Edits;
use teu_namespaces_types::IdMaps;

use crate::capability_set::CapabilitySet;
use crate::prelude::*;

/// The device and the inode number of a file.
pub type FileId = (u64, u64);

/// All facts on which a plan depends, besides config.json and the command line.
#[derive(Debug)]
pub struct Seen {
    pub caller: Caller,
    /// The result of looking at the root filesystem's path: ELOOP if the path has a link,
    /// ENOTDIR if the path is not a directory.
    pub rootfs: Result<(), IoError>,
    /// The cgroup hierarchies, and systemd's answers about them.
    pub cgroups: Location,
    /// Whether /proc has the kernel's memory (kcore).
    pub has_kcore: bool,
    /// The id maps of the user namespace to join, if there is one.
    pub joined_id_maps: Option<IdMaps>,
    /// Whether the network namespace to join is the caller's own. Collected only if sysctls
    /// of the network are set.
    pub joins_own_network: bool,
    /// Whether the kernel has `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`. Collected only if
    /// config.json asks for the flag.
    pub knows_wait_killable: bool,
    /// The resctrl filesystem; `None` if it is not mounted. Collected only if config.json
    /// has intelRdt.
    pub resctrl: Option<Resctrl>,
    pub devices: DevicesSeen,
}

/// This process of teu: its privileges, and the attributes that its children inherit.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Whether the user id is not 0.
    pub is_unprivileged: bool,
    /// Whether teu is in a user namespace other than the machine's first one.
    pub in_user_namespace: bool,
    /// Whether root of teu's user namespace is an ordinary user of the machine whose
    /// systemd teu can reach. Collected only in a user namespace, for a container whose
    /// cgroup systemd makes.
    pub has_users_systemd: bool,
    /// The effective group id. Collected only for an unprivileged user.
    pub group: u32,
    /// The bounding set: processes in teu's user namespace cannot get other capabilities.
    pub bounding: CapabilitySet,
    pub effective: CapabilitySet,
    /// The ignored signals, which children inherit. The lowest bit is signal 1.
    pub ignored_signals: u64,
    /// The capabilities that a process in another user namespace can have: all that the
    /// kernel knows. Collected only if there will be such a process.
    pub known_capabilities: Option<CapabilitySet>,
    /// Whether SELinux is on. Collected only if a label is set.
    pub has_selinux: bool,
    /// Whether an AppArmor profile confines teu. Collected only for a process that cannot
    /// leave the profile.
    pub is_confined_by_apparmor: bool,
}

impl Caller {
    /// Returns whether teu may give files and mounts any owner.
    pub fn may_map_owners(&self) -> bool {
        !self.is_rootless()
    }

    /// Returns whether teu lacks the privileges of the machine's root.
    pub fn is_rootless(&self) -> bool {
        self.is_unprivileged || self.in_user_namespace
    }
}

/// The mounted resctrl filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resctrl {
    /// The mountpoint.
    pub root: PathBuf,
    /// Whether parts of the L3 cache can be allocated.
    pub has_cache_allocation: bool,
    /// Whether memory bandwidth can be allocated.
    pub has_bandwidth_allocation: bool,
}

/// The facts about the requested devices and GPUs.
#[derive(Debug, Default)]
pub struct DevicesSeen {
    /// Whether the host has NVIDIA's driver. Collected only if config.json has NVIDIA's
    /// hook.
    pub has_nvidia_driver: bool,
    /// The edits; `None` if no device is requested.
    pub edits: Option<AllEdits>,
    /// The files that are the sources of the edits' mounts.
    pub files: BTreeMap<PathBuf, FileId>,
}

/// The edits of devices.
#[derive(Debug, Clone, Default)]
pub struct AllEdits {
    /// The edits of all devices together. Edits that a CDI file has for all its devices are
    /// in here once.
    pub together: Edits,
    /// The edits of each device by its name, each with the edits of its file.
    pub of_each: Vec<(String, Edits)>,
}

#[cfg(test)]
impl Caller {
    /// Returns root of a machine without security modules.
    pub fn root() -> Caller {
        Caller {
            is_unprivileged: false,
            in_user_namespace: false,
            has_users_systemd: false,
            group: 0,
            bounding: CapabilitySet::all(),
            effective: CapabilitySet::all(),
            ignored_signals: 0,
            known_capabilities: Some(CapabilitySet::all()),
            has_selinux: false,
            is_confined_by_apparmor: false,
        }
    }
}

#[cfg(test)]
impl Seen {
    /// Returns a machine without cgroups and devices.
    pub fn nothing() -> Seen {
        Seen {
            caller: Caller::root(),
            rootfs: Ok(()),
            cgroups: Location::none(),
            has_kcore: false,
            joined_id_maps: None,
            joins_own_network: false,
            knows_wait_killable: true,
            resctrl: None,
            devices: DevicesSeen::default(),
        }
    }
}
