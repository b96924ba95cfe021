//! LOOK: facts about this machine, each probed once and only when asked for.
//! Decides nothing; see `plan/`.

mod gpu;
mod look;
mod resctrl;
mod status;
pub(crate) mod trusted_path;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::process::Uid;
use teu_namespaces::{IdMaps, Kind, id_maps};

pub(crate) use gpu::{faults, library_dirs, parts_of};

use crate::sys;

/// Facts about the machine. Files are read below `sysroot`, so that tests can
/// put another machine in its place.
#[derive(Debug)]
pub(crate) struct Host {
    sysroot: PathBuf,
    euid: Uid,
    in_user_namespace: OnceLock<bool>,
}

impl Host {
    /// The machine this runs on.
    pub(crate) fn new() -> Host {
        Host::below(Path::new("/"))
    }

    /// A machine whose files lie below `sysroot`.
    pub(crate) fn below(sysroot: &Path) -> Host {
        Host {
            sysroot: sysroot.to_owned(),
            euid: rustix::process::geteuid(),
            in_user_namespace: OnceLock::new(),
        }
    }

    /// Whether the caller has a user id other than 0.
    pub(crate) fn is_unprivileged(&self) -> bool {
        !self.euid.is_root()
    }

    /// Whether the caller lacks the privileges of the machine's root.
    pub(crate) fn is_rootless(&self) -> bool {
        self.is_unprivileged() || self.in_user_namespace()
    }

    /// The caller's effective group id.
    pub(crate) fn egid(&self) -> u32 {
        nix::unistd::getegid().as_raw()
    }

    /// Whether this process runs in a user namespace other than the initial one.
    pub(crate) fn in_user_namespace(&self) -> bool {
        let is_initial = || id_maps::is_initial(&self.path("proc/self/uid_map"));
        *self.in_user_namespace.get_or_init(|| !is_initial())
    }

    /// Whether root of a user namespace is really a user of the machine, whose
    /// systemd is that user's: else it is root of a container with a systemd.
    pub(crate) fn is_served_by_users_systemd(&self) -> bool {
        teu_cgroups::owner_of_user_manager().is_some_and(|owner| owner != 0)
    }

    /// The id maps of the user namespace at `path`.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn id_maps_of(&self, path: &Path) -> Result<IdMaps> {
        Ok(id_maps::of_namespace(path)?)
    }

    /// Whether SELinux is on: its file system is there only then.
    pub(crate) fn has_selinux(&self) -> bool {
        self.path("sys/fs/selinux/enforce").exists()
    }

    /// Whether an AppArmor profile binds this process. One whose mode is
    /// "unconfined" does not.
    ///
    /// # Errors
    /// It is not known.
    pub(crate) fn is_confined_by_apparmor(&self) -> Result<bool> {
        let label = fs::read_to_string(self.path("proc/self/attr/apparmor/current"));
        let label = label.context("read the AppArmor profile of this process")?;
        let label = label.trim_end_matches(['\n', '\0']);
        Ok(label != "unconfined" && !label.ends_with(" (unconfined)"))
    }

    /// Whether the kernel knows `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV`, of Linux 5.19,
    /// which goes with another flag.
    pub(crate) fn knows_wait_killable(&self) -> bool {
        const NEW_LISTENER: u32 = 1 << 3;
        const WAIT_KILLABLE_RECV: u32 = 1 << 5;
        sys::knows_seccomp_flags(WAIT_KILLABLE_RECV | NEW_LISTENER)
    }

    /// Checks that `path` is a directory and no part of it a symbolic link.
    ///
    /// # Errors
    /// ELOOP for a link, ENOTDIR for anything else, or whatever openat2(2)
    /// says.
    pub(crate) fn check_path_without_links(&self, path: &Path) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS).map(drop)
    }

    /// Whether the namespace at `path` is the one of `kind` that this process
    /// is in.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn is_own_namespace(&self, kind: Kind, path: &Path) -> Result<bool> {
        let own = PathBuf::from("/proc/self/ns").join(kind.proc_name());
        let identity = |path: &Path| {
            let status = fs::metadata(path).with_context(|| format!("namespace {path:?}"))?;
            anyhow::Ok((status.dev(), status.ino()))
        };
        Ok(identity(&own)? == identity(path)?)
    }

    /// Where the machine's `path` (relative to its root) lies for us.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.sysroot.join(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_namespace_and_another() {
        let host = Host::new();
        let parent = PathBuf::from(format!("/proc/{}/ns/net", nix::unistd::getppid()));
        assert!(host.is_own_namespace(Kind::Network, &parent).expect("net"));
        assert!(
            !host
                .is_own_namespace(Kind::Ipc, &parent)
                .expect("another kind")
        );
        host.is_own_namespace(Kind::Ipc, Path::new("/nonexistent"))
            .expect_err("missing");
    }

    #[test]
    fn a_partial_map_is_a_user_namespace() {
        let sysroot = std::env::temp_dir().join(format!("teu-host-{}", std::process::id()));
        fs::create_dir_all(sysroot.join("proc/self")).expect("mkdir");
        for (map, expected) in [("0 0 4294967295\n", false), ("0 100000 65536\n", true)] {
            fs::write(sysroot.join("proc/self/uid_map"), map).expect("write");
            assert_eq!(Host::below(&sysroot).in_user_namespace(), expected, "{map}");
        }
        fs::remove_dir_all(&sysroot).expect("remove");
    }
}
