//! A procfs for the runtime's own use. Not the procfs that the container sees, because
//! a container can mount anything on that.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, PROC_SUPER_MAGIC, ResolveFlags, fstat, fstatfs, openat};
use rustix::io::{Errno, Result};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};

use super::paths::open_beside_renames;

/// Inode number of the root of a procfs; no other file of it has this number.
const PROC_ROOT_INODE: u64 = 1;

/// A procfs that nothing is mounted over, for questions of the runtime itself to the
/// kernel (CVE-2019-16884, CVE-2025-52881).
#[derive(Debug)]
pub(crate) struct Procfs(OwnedFd);

impl Procfs {
    /// Makes a detached instance that contains only processes (subset=pid, Linux 5.8),
    /// or else opens /proc and verifies it.
    ///
    /// # Errors
    /// EXDEV if /proc is not the root of a procfs.
    pub(crate) fn open() -> Result<Procfs> {
        Procfs::detached(true).or_else(|_| Procfs::of_the_mount_namespace())
    }

    /// Makes a detached instance that contains everything, for sysctls. Drop it soon,
    /// because it is a way around the container's masks.
    ///
    /// # Errors
    /// The errors of [`Procfs::open`].
    pub(crate) fn open_unmasked() -> Result<Procfs> {
        Procfs::detached(false).or_else(|_| Procfs::of_the_mount_namespace())
    }

    fn detached(processes_only: bool) -> Result<Procfs> {
        let context = fsopen("proc", FsOpenFlags::FSOPEN_CLOEXEC)?;
        if processes_only {
            fsconfig_set_string(context.as_fd(), "hidepid", "ptraceable")?;
            fsconfig_set_string(context.as_fd(), "subset", "pid")?;
        }
        fsconfig_create(context.as_fd())?;
        let mount = fsmount(
            context.as_fd(),
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::MOUNT_ATTR_NODEV
                | MountAttrFlags::MOUNT_ATTR_NOEXEC
                | MountAttrFlags::MOUNT_ATTR_NOSUID,
        )?;
        Ok(Procfs(mount))
    }

    /// Opens /proc and verifies it.
    ///
    /// # Errors
    /// EXDEV if /proc is not the root of a procfs.
    pub(crate) fn of_the_mount_namespace() -> Result<Procfs> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let proc = openat(CWD, "/proc", flags, Mode::empty())?;
        if fstatfs(&proc)?.f_type != PROC_SUPER_MAGIC || fstat(&proc)?.st_ino != PROC_ROOT_INODE {
            return Err(Errno::XDEV);
        }
        Ok(Procfs(proc))
    }

    /// Opens `path` below this procfs. Refuses a path with a mount over a part of it
    /// (EXDEV) or with a magic link (ELOOP).
    pub(crate) fn open_file(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_XDEV | ResolveFlags::NO_MAGICLINKS;
        open_beside_renames(self.0.as_fd(), path, flags, resolve)
    }

    /// Opens the directory of this process's descriptors. A name in it stands for the
    /// file of the descriptor, for system calls that take only a path.
    pub(crate) fn descriptors(&self) -> Result<OwnedFd> {
        self.open_file(
            Path::new("thread-self/fd"),
            OFlags::PATH | OFlags::DIRECTORY,
        )
    }
}

impl AsFd for Procfs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::paths::tests::leave_mount_namespace;
    use crate::testing::in_child;
    use nix::mount::MsFlags;

    #[test]
    fn the_safe_procfs_does_not_see_what_covers_proc() {
        in_child(|| {
            leave_mount_namespace();
            let (none, flags) = (None::<&str>, MsFlags::empty());
            nix::mount::mount(none, "/proc", Some("tmpfs"), flags, none).expect("cover /proc");

            let procfs = Procfs::open().expect("procfs");
            let status = Path::new("thread-self/status");
            procfs.open_file(status, OFlags::RDONLY).expect("open");
            assert_eq!(
                procfs
                    .open_file(Path::new("sys/kernel"), OFlags::PATH)
                    .err(),
                Some(Errno::NOENT)
            );
            let sysctl = Path::new("sys/kernel/hostname");
            let unmasked = Procfs::open_unmasked().expect("procfs");
            unmasked.open_file(sysctl, OFlags::RDONLY).expect("open");
            assert_eq!(
                unmasked
                    .open_file(Path::new("self/exe"), OFlags::PATH)
                    .err(),
                Some(Errno::LOOP)
            );
            assert_eq!(Procfs::of_the_mount_namespace().err(), Some(Errno::XDEV));
        });
    }
}
