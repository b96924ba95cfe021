//! Facts about this host, each looked at only on request. Not for decisions: see
//! `plan/`.

mod gpu;
mod look;
mod lsm;
mod resctrl;
mod status;
pub(crate) mod trusted_path;

use std::cell::OnceCell;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use rustix::process::Uid;
use teu_namespaces::{IdMaps, Kind, id_maps};

pub(crate) use gpu::{faults, library_dirs, parts_of};

use crate::sys;

/// Facts about the host. Files are read below `sysroot`, so that tests can replace the
/// host.
#[derive(Debug)]
pub(crate) struct Host {
    sysroot: PathBuf,
    euid: Uid,
    in_user_namespace: OnceCell<bool>,
}

impl Host {
    /// The host on which this process runs.
    pub(crate) fn new() -> Host {
        Host::below(Path::new("/"))
    }

    /// A host whose files lie below `sysroot`.
    pub(crate) fn below(sysroot: &Path) -> Host {
        Host {
            sysroot: sysroot.to_owned(),
            euid: rustix::process::geteuid(),
            in_user_namespace: OnceCell::new(),
        }
    }

    /// Returns whether the caller's user id is not 0.
    pub(crate) fn is_unprivileged(&self) -> bool {
        !self.euid.is_root()
    }

    /// Returns whether the caller lacks the privileges of root of the host.
    ///
    /// # Errors
    /// The id map of this process cannot be read.
    pub(crate) fn is_rootless(&self) -> Result<bool> {
        Ok(self.is_unprivileged() || self.in_user_namespace()?)
    }

    /// The caller's effective group id.
    pub(crate) fn egid(&self) -> u32 {
        nix::unistd::getegid().as_raw()
    }

    /// Returns whether this process runs in a user namespace other than the initial
    /// one.
    ///
    /// # Errors
    /// The id map of this process cannot be read.
    pub(crate) fn in_user_namespace(&self) -> Result<bool> {
        if let Some(known) = self.in_user_namespace.get() {
            return Ok(*known);
        }
        let found = !id_maps::is_initial(&self.path("proc/self/uid_map"))?;
        Ok(*self.in_user_namespace.get_or_init(|| found))
    }

    /// Returns whether root of this user namespace is a user of the host, with that
    /// user's systemd. Otherwise it is root of a container with a systemd of its own.
    pub(crate) fn is_served_by_users_systemd(&self) -> bool {
        teu_cgroups::owner_of_user_manager().is_some_and(|owner| owner != 0)
    }

    /// Returns the id maps of the user namespace at `path`.
    ///
    /// # Errors
    /// The maps cannot be read.
    pub(crate) fn id_maps_of(&self, path: &Path) -> Result<IdMaps> {
        Ok(id_maps::of_namespace(path)?)
    }

    /// Returns whether the kernel knows `SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV` (Linux
    /// 5.19), which requires another flag.
    pub(crate) fn knows_wait_killable(&self) -> bool {
        const NEW_LISTENER: u32 = 1 << 3;
        const WAIT_KILLABLE_RECV: u32 = 1 << 5;
        sys::knows_seccomp_flags(WAIT_KILLABLE_RECV | NEW_LISTENER)
    }

    /// Checks that `path` is a directory and that no component of it is a symbolic
    /// link.
    ///
    /// # Errors
    /// ELOOP for a link, ENOTDIR for another kind of file, or another error of
    /// openat2(2).
    pub(crate) fn check_path_without_links(&self, path: &Path) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS).map(drop)
    }

    /// Returns whether the namespace at `path` is this process's namespace of `kind`.
    ///
    /// # Errors
    /// The namespace does not exist.
    pub(crate) fn is_own_namespace(&self, kind: Kind, path: &Path) -> Result<bool> {
        let own = PathBuf::from("/proc/self/ns").join(kind.proc_name());
        let identity = |path: &Path| {
            let status = fs::metadata(path).with_context(|| format!("namespace {path:?}"))?;
            anyhow::Ok((status.dev(), status.ino()))
        };
        Ok(identity(&own)? == identity(path)?)
    }

    /// Returns the path at which the host's `path`, relative to its root, lies for this
    /// process.
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
            let found = Host::below(&sysroot).in_user_namespace();
            assert_eq!(found.expect(map), expected, "{map}");
        }
        fs::remove_dir_all(&sysroot).expect("remove");
    }
}
