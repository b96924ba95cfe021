//! Changes flags and propagation of mounts, by descriptor: with mount_setattr(2) (Linux
//! 5.12), or else with mount(2) on an attached mount. Not for making mounts: see
//! `mounts.rs` and `detached.rs`.

use std::cell::OnceCell;
use std::os::fd::{AsRawFd, BorrowedFd};

use anyhow::{Context, Result};
use libc::{
    MS_BIND, MS_NOATIME, MS_NODEV, MS_NODIRATIME, MS_NOEXEC, MS_NOSUID, MS_NOSYMFOLLOW, MS_RDONLY,
    MS_REC, MS_RELATIME, MS_REMOUNT, MS_STRICTATIME, c_ulong,
};
use nix::mount::{MntFlags, MsFlags};
use rustix::fs::{CWD, Mode, OFlags, StatVfsMountFlags, fstatvfs, openat};
use rustix::io::Errno;
use teu_plan::mount_options::{Attributes, attributes_of};
use teu_plan::mounts::{BindFlags, Filesystem};

use super::procfs::Procfs;
use crate::errno;
use crate::sys::{self, MountChange};

/// The ways in which this kernel changes mounts.
#[derive(Debug, Default)]
pub(crate) struct Kernel {
    /// Do not use mount_setattr(2), for tests.
    without_setattr: bool,
    procfs: OnceCell<Procfs>,
}

impl Kernel {
    /// Behaves as on a kernel before 5.12.
    #[cfg(test)]
    pub(super) fn without_setattr() -> Kernel {
        Kernel {
            without_setattr: true,
            ..Kernel::default()
        }
    }

    /// Uses this procfs instead of opening another.
    pub(crate) fn with(procfs: Procfs) -> Kernel {
        Kernel {
            procfs: OnceCell::from(procfs),
            ..Kernel::default()
        }
    }

    /// The trustworthy procfs, opened at its first use.
    pub(crate) fn procfs(&self) -> Result<&Procfs> {
        if let Some(procfs) = self.procfs.get() {
            return Ok(procfs);
        }
        let procfs = Procfs::open().context("open a procfs")?;
        Ok(self.procfs.get_or_init(|| procfs))
    }

    fn change(&self, mount: BorrowedFd<'_>, change: &MountChange) -> Result<(), Errno> {
        if self.without_setattr {
            return Err(Errno::NOSYS);
        }
        sys::mount_setattr(mount, change, None)
            .map_err(|err| Errno::from_io_error(&err).unwrap_or(Errno::IO))
    }

    /// Sets the flags of a detached mount. Returns the flags that must be set once the
    /// mount is attached, because a kernel before 5.12 can only do it then.
    pub(super) fn set_bind_flags(
        &self,
        mount: BorrowedFd<'_>,
        flags: BindFlags,
    ) -> Result<Option<BindFlags>> {
        match self.replace(mount, flags) {
            Ok(()) => Ok(None),
            Err(Errno::NOSYS) => Ok(Some(flags)),
            Err(err @ Errno::PERM) => {
                let flags = with_locked(mount, flags, err)?;
                self.replace(mount, flags)
                    .context("set flags, locked ones kept")?;
                Ok(None)
            }
            Err(err) => Err(err).context("set mount flags"),
        }
    }

    fn replace(&self, mount: BorrowedFd<'_>, flags: BindFlags) -> Result<(), Errno> {
        let Attributes { set, clear } = Attributes::exactly(flags.set);
        self.change(
            mount,
            &MountChange {
                set,
                clear,
                ..MountChange::default()
            },
        )
    }

    /// Sets the flags that [`Kernel::set_bind_flags`] returned.
    pub(super) fn set_attached_bind_flags(
        &self,
        mount: BorrowedFd<'_>,
        flags: BindFlags,
    ) -> Result<()> {
        match self.remount(mount, flags.set) {
            Ok(()) => Ok(()),
            Err(err @ Errno::PERM) => {
                let flags = with_locked(mount, flags, err)?;
                self.remount(mount, flags.set)
                    .context("set flags, locked ones kept")
            }
            Err(err) => Err(err).context("set mount flags"),
        }
    }

    /// Adds `flags` to the flags of an attached mount.
    pub(super) fn add_flags(&self, mount: BorrowedFd<'_>, flags: c_ulong) -> Result<(), Errno> {
        let set = attributes_of(flags);
        match self.change(
            mount,
            &MountChange {
                set,
                ..MountChange::default()
            },
        ) {
            Err(Errno::NOSYS) => self.remount(mount, current_flags(mount)? | flags),
            result => result,
        }
    }

    /// Changes attributes of a mount and of all mounts below it. Only mount_setattr(2)
    /// can do this.
    pub(super) fn change_all(
        &self,
        mount: BorrowedFd<'_>,
        Attributes { set, clear }: Attributes,
    ) -> Result<(), Errno> {
        self.change(
            mount,
            &MountChange {
                set,
                clear,
                propagation: 0,
                recursive: true,
            },
        )
    }

    /// Sets the propagation of an attached mount: `MS_SHARED` or a flag like it, with
    /// or without `MS_REC`.
    pub(super) fn set_propagation(&self, mount: BorrowedFd<'_>, flags: c_ulong) -> Result<()> {
        let change = MountChange {
            propagation: flags & !MS_REC,
            recursive: flags & MS_REC != 0,
            ..MountChange::default()
        };
        match self.change(mount, &change) {
            Err(Errno::NOSYS) => self.mount_on(mount, None, None, flags, None),
            result => result,
        }
        .context("change mount propagation")
    }

    fn remount(&self, mount: BorrowedFd<'_>, flags: c_ulong) -> Result<(), Errno> {
        self.mount_on(mount, None, None, flags | MS_BIND | MS_REMOUNT, None)
    }

    /// Mounts `filesystem` on `onto` with mount(2), which takes longer options than
    /// fsconfig(2).
    pub(super) fn mount_by_string(
        &self,
        filesystem: &Filesystem,
        options: &str,
        onto: BorrowedFd<'_>,
    ) -> Result<()> {
        self.mount_on(
            onto,
            Some(&filesystem.source),
            Some(&filesystem.kind),
            filesystem.flags,
            Some(options),
        )
        .context("mount")
    }

    /// Detaches the mount whose root is `root`.
    pub(super) fn detach(&self, root: BorrowedFd<'_>) -> Result<(), Errno> {
        self.by_name(root, |name| nix::mount::umount2(name, MntFlags::MNT_DETACH))
    }

    fn mount_on(
        &self,
        target: BorrowedFd<'_>,
        source: Option<&str>,
        kind: Option<&str>,
        flags: c_ulong,
        options: Option<&str>,
    ) -> Result<(), Errno> {
        let flags = MsFlags::from_bits_retain(flags);
        self.by_name(target, |name| {
            nix::mount::mount(source, name, kind, flags, options)
        })
    }

    /// Calls `act` with a name of `target`: its number, in the directory of descriptors
    /// of a procfs that nothing can be mounted over, as the working directory.
    fn by_name(
        &self,
        target: BorrowedFd<'_>,
        act: impl FnOnce(&str) -> nix::Result<()>,
    ) -> Result<(), Errno> {
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let here = openat(CWD, ".", directory, Mode::empty())?;
        let procfs = self
            .procfs()
            .map_err(|err| *err.downcast_ref().unwrap_or(&Errno::NOENT))?;
        rustix::process::fchdir(procfs.descriptors()?)?;
        let done = act(&target.as_raw_fd().to_string());
        rustix::process::fchdir(here)?;
        done.map_err(errno::of_nix)
    }
}

fn with_locked(mount: BorrowedFd<'_>, flags: BindFlags, refusal: Errno) -> Result<BindFlags> {
    let current = current_flags(mount).context("statfs")?;
    flags
        .with_locked(current)
        .map_err(|err| anyhow::Error::new(refusal).context(err.to_string()))
}

/// Returns the flags that the mount has now (statvfs(3)). If statvfs(3) reports no mode
/// of access times, the mode is the strict one.
fn current_flags(mount: BorrowedFd<'_>) -> Result<c_ulong, Errno> {
    let bits = fstatvfs(mount)?.f_flag.bits();
    let mut flags = 0;
    for (bit, flag) in [
        (StatVfsMountFlags::RDONLY.bits(), MS_RDONLY),
        (StatVfsMountFlags::NOSUID.bits(), MS_NOSUID),
        (StatVfsMountFlags::NODEV.bits(), MS_NODEV),
        (StatVfsMountFlags::NOEXEC.bits(), MS_NOEXEC),
        (StatVfsMountFlags::NOATIME.bits(), MS_NOATIME),
        (StatVfsMountFlags::NODIRATIME.bits(), MS_NODIRATIME),
        (StatVfsMountFlags::RELATIME.bits(), MS_RELATIME),
        (ST_NOSYMFOLLOW, MS_NOSYMFOLLOW),
    ] {
        if bits & bit != 0 {
            flags |= flag;
        }
    }
    if flags & (MS_NOATIME | MS_RELATIME) == 0 {
        flags |= MS_STRICTATIME;
    }
    Ok(flags)
}

/// From linux/statfs.h, Linux 5.10.
const ST_NOSYMFOLLOW: u64 = 0x2000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::detached::{attach, clone_tree};
    use crate::init::paths::tests::private_root;
    use libc::{MS_PRIVATE, MS_SHARED};
    use std::os::fd::AsFd;
    use std::path::Path;

    fn flags_of(path: &Path) -> c_ulong {
        current_flags(clone_tree(path, false).expect("clone").as_fd()).expect("statvfs")
    }

    /// Binds a tmpfs that is mounted with `source` flags, in the way of `mounts.rs`.
    fn bind(kernel: &Kernel, directory: &Path, source: c_ulong, flags: BindFlags) -> c_ulong {
        let target = directory.join("target");
        for name in ["source", "target"] {
            std::fs::create_dir_all(directory.join(name)).expect("mkdir");
        }
        let none = None::<&str>;
        let flags_of_source = MsFlags::from_bits_retain(source);
        let source = directory.join("source");
        nix::mount::mount(none, &source, Some("tmpfs"), flags_of_source, none).expect("tmpfs");
        let tree = clone_tree(&source, false).expect("clone");
        let onto = openat(CWD, &target, OFlags::PATH, Mode::empty()).expect("open");
        let pending = kernel.set_bind_flags(tree.as_fd(), flags).expect("set");
        attach(tree.as_fd(), onto.as_fd()).expect("attach");
        if let Some(pending) = pending {
            kernel
                .set_attached_bind_flags(tree.as_fd(), pending)
                .expect("set");
        }
        flags_of(&target)
    }

    #[test]
    fn flags_are_the_same_without_mount_setattr() {
        for (source, set, expected) in [
            (MS_NOEXEC | MS_NOATIME, MS_NOSUID, MS_NOSUID | MS_NOATIME),
            (MS_NODEV, MS_RDONLY | MS_NOATIME, MS_RDONLY | MS_NOATIME),
            (0, MS_STRICTATIME | MS_NODEV, MS_STRICTATIME | MS_NODEV),
            (0, MS_NODIRATIME, MS_NODIRATIME | MS_RELATIME),
        ] {
            for kernel in [Kernel::default(), Kernel::without_setattr()] {
                private_root("attributes", |directory, _| {
                    let flags = BindFlags { set, cleared: 0 };
                    let found = bind(&kernel, directory, source, flags);
                    assert_eq!(found, expected, "{source:#x} {set:#x} {kernel:?}");
                });
            }
        }
    }

    #[test]
    fn propagation_is_the_same_without_mount_setattr() {
        for kernel in [Kernel::default(), Kernel::without_setattr()] {
            private_root("attributes", |directory, root| {
                let root = root.resolve(Path::new("/")).expect("open");
                let shared = || {
                    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("read");
                    let directory = format!(" {} ", directory.display());
                    let line = table.lines().find(|line| line.contains(&directory));
                    line.expect("mounted").contains(" shared:")
                };
                kernel
                    .set_propagation(root.as_fd(), MS_SHARED)
                    .expect("shared");
                assert!(shared());
                kernel
                    .set_propagation(root.as_fd(), MS_PRIVATE | MS_REC)
                    .expect("private");
                assert!(!shared());
            });
        }
    }

    #[test]
    fn recursive_attributes_need_mount_setattr() {
        private_root("attributes", |_, root| {
            let root = root.resolve(Path::new("/")).expect("open");
            let refused = Kernel::without_setattr().change_all(root.as_fd(), Attributes::default());
            assert_eq!(refused, Err(Errno::NOSYS));
        });
    }
}
