//! What was seen of the machine before anything is decided: facts, which `host/look.rs`
//! collects. Those that only few containers depend on are looked at for those only.

use alloc::collections::BTreeMap;

use teu_cgroups_types::Location;
use teu_gpu_types::Edits;
use teu_namespaces_types::IdMaps;

use crate::capability_set::CapabilitySet;
use crate::prelude::*;

/// Device and number of a file's inode.
pub type FileId = (u64, u64);

/// What a plan depends on beside config.json and the command line.
#[derive(Debug)]
pub struct Seen {
    pub caller: Caller,
    /// Where the root filesystem is: ELOOP for a path with a link, ENOTDIR for anything
    /// but a directory.
    pub rootfs: Result<(), IoError>,
    /// The cgroup hierarchies, and what systemd has said.
    pub cgroups: Location,
    /// /proc has the memory of the kernel.
    pub has_kcore: bool,
    /// Of the user namespace to join, if there is one.
    pub joined_id_maps: Option<IdMaps>,
    /// The network namespace to join is the caller's own. Only with sysctls of it.
    pub joins_own_network: bool,
    /// The kernel has `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`. Only if it is asked for.
    pub knows_wait_killable: bool,
    /// `None`: there is no such filesystem. Only if it is asked for.
    pub resctrl: Option<Resctrl>,
    pub devices: DevicesSeen,
}

/// This process: what it may, and what those that it starts begin with.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its user id is not 0.
    pub is_unprivileged: bool,
    /// It is in another user namespace than the machine's first.
    pub in_user_namespace: bool,
    /// Root of its user namespace is a user of the machine, whose systemd it can ask. Only
    /// in a user namespace, for a container that systemd makes the cgroup of.
    pub has_users_systemd: bool,
    /// Its effective group id. Only of an unprivileged user.
    pub group: u32,
    /// No process in its user namespace can get another capability.
    pub bounding: CapabilitySet,
    pub effective: CapabilitySet,
    /// The lowest bit is signal 1.
    pub ignored_signals: u64,
    /// What a process in another user namespace may have: all that the kernel knows. Only
    /// if there will be such a process.
    pub known_capabilities: CapabilitySet,
    /// SELinux is on. Only if there is a label.
    pub has_selinux: bool,
    /// An AppArmor profile binds it. Only for a process that cannot leave it.
    pub is_confined_by_apparmor: bool,
}

impl Caller {
    /// Whether it may give files and mounts any owner of the machine's.
    pub fn may_map_owners(&self) -> bool {
        !self.is_rootless()
    }

    /// Whether it lacks the privileges of the machine's root.
    pub fn is_rootless(&self) -> bool {
        self.is_unprivileged || self.in_user_namespace
    }
}

/// The mounted resctrl filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resctrl {
    /// Where it is mounted.
    pub root: PathBuf,
    /// Whether parts of the L3 cache can be allocated.
    pub has_cache_allocation: bool,
    /// Whether memory bandwidth can be allocated.
    pub has_bandwidth_allocation: bool,
}

/// What the devices and GPUs bring that are asked for.
#[derive(Debug, Default)]
pub struct DevicesSeen {
    /// There is a driver of NVIDIA's. Only if config.json has NVIDIA's hook.
    pub has_nvidia_driver: bool,
    /// `None`: nothing is asked for.
    pub edits: Option<AllEdits>,
    /// Which files the sources of their mounts are.
    pub files: BTreeMap<PathBuf, FileId>,
}

/// What devices bring.
#[derive(Debug, Clone, Default)]
pub struct AllEdits {
    /// What a file says for all its devices once.
    pub together: Edits,
    /// By name, each with that.
    pub of_each: Vec<(String, Edits)>,
}

#[cfg(test)]
impl Caller {
    /// Root of a machine without security modules.
    pub fn root() -> Caller {
        Caller {
            is_unprivileged: false,
            in_user_namespace: false,
            has_users_systemd: false,
            group: 0,
            bounding: CapabilitySet::all(),
            effective: CapabilitySet::all(),
            ignored_signals: 0,
            known_capabilities: CapabilitySet::all(),
            has_selinux: false,
            is_confined_by_apparmor: false,
        }
    }
}

#[cfg(test)]
impl Seen {
    /// A machine without cgroups and devices.
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
