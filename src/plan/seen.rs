//! What was seen of the machine before anything is decided: facts, which `host/look.rs`
//! collects. Those that only few containers depend on are looked at for those only.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use rustix::thread::CapabilitySet;
use teu_cgroups::Location;
use teu_gpu::Edits;
use teu_namespaces::IdMaps;

/// Device and number of a file's inode.
pub(crate) type FileId = (u64, u64);

/// What a plan depends on beside config.json and the command line.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) caller: Caller,
    /// Where the root filesystem is: ELOOP for a path with a link, ENOTDIR for anything
    /// but a directory.
    pub(crate) rootfs: io::Result<()>,
    /// The cgroup hierarchies, and what systemd has said.
    pub(crate) cgroups: Location,
    /// /proc has the memory of the kernel.
    pub(crate) has_kcore: bool,
    /// Of the user namespace to join, if there is one.
    pub(crate) joined_id_maps: Option<IdMaps>,
    /// The network namespace to join is the caller's own. Only with sysctls of it.
    pub(crate) joins_own_network: bool,
    /// The kernel has `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`. Only if it is asked for.
    pub(crate) knows_wait_killable: bool,
    /// `None`: there is no such filesystem. Only if it is asked for.
    pub(crate) resctrl: Option<Resctrl>,
    pub(crate) devices: DevicesSeen,
}

/// This process: what it may, and what those that it starts begin with.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// Its user id is not 0.
    pub(crate) is_unprivileged: bool,
    /// It is in another user namespace than the machine's first.
    pub(crate) in_user_namespace: bool,
    /// Root of its user namespace is a user of the machine, whose systemd it can ask. Only
    /// in a user namespace, for a container that systemd makes the cgroup of.
    pub(crate) has_users_systemd: bool,
    /// Its effective group id. Only of an unprivileged user.
    pub(crate) group: u32,
    /// No process in its user namespace can get another capability.
    pub(crate) bounding: CapabilitySet,
    pub(crate) effective: CapabilitySet,
    /// The lowest bit is signal 1.
    pub(crate) ignored_signals: u64,
    /// What a process in another user namespace may have: all that the kernel knows. Only
    /// if there will be such a process.
    pub(crate) known_capabilities: CapabilitySet,
    /// SELinux is on. Only if there is a label.
    pub(crate) has_selinux: bool,
    /// An AppArmor profile binds it. Only for a process that cannot leave it.
    pub(crate) is_confined_by_apparmor: bool,
}

impl Caller {
    /// Whether it may give files and mounts any owner of the machine's.
    pub(crate) fn may_map_owners(&self) -> bool {
        !self.is_rootless()
    }

    /// Whether it lacks the privileges of the machine's root.
    pub(crate) fn is_rootless(&self) -> bool {
        self.is_unprivileged || self.in_user_namespace
    }
}

/// The mounted resctrl filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Resctrl {
    /// Where it is mounted.
    pub(crate) root: PathBuf,
    /// Whether parts of the L3 cache can be allocated.
    pub(crate) has_cache_allocation: bool,
    /// Whether memory bandwidth can be allocated.
    pub(crate) has_bandwidth_allocation: bool,
}

/// What the devices and GPUs bring that are asked for.
#[derive(Debug, Default)]
pub(crate) struct DevicesSeen {
    /// There is a driver of NVIDIA's. Only if config.json has NVIDIA's hook.
    pub(crate) has_nvidia_driver: bool,
    /// `None`: nothing is asked for.
    pub(crate) edits: Option<AllEdits>,
    /// Which files the sources of their mounts are.
    pub(crate) files: BTreeMap<PathBuf, FileId>,
}

/// What devices bring.
#[derive(Debug, Clone, Default)]
pub(crate) struct AllEdits {
    /// What a file says for all its devices once.
    pub(crate) together: Edits,
    /// By name, each with that.
    pub(crate) of_each: Vec<(String, Edits)>,
}

#[cfg(test)]
impl Caller {
    /// Root of a machine without security modules.
    pub(crate) fn root() -> Caller {
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
    pub(crate) fn nothing() -> Seen {
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
