//! Makes the container's root filesystem, from inside its mount namespace.
//!
//! The steps, in order, with the hooks of the specification between them:
//! ```text
//! let rootfs = rootfs::prepare(&plan.rootfs, &mut pipe)?;       mounts, /dev
//!                                          prestart, createRuntime hooks (parent)
//! rootfs.change_directory()?;              createContainer hooks
//! rootfs.enter()?;                         pivot_root; "/" is the container's
//! rootfs.create_directory(cwd)?;
//! console::set_up(rootfs.root(), …)?;
//! rootfs.remount_readonly()?;
//!                                          hostname, LSM, sysctls
//! rootfs.make_paths_readonly()?;
//! rootfs.mask()?;
//! ```
//! Not for decisions: [`RootfsPlan`] has them all.

use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use libc::{MS_PRIVATE, MS_REC, MS_SLAVE, c_ulong};
use nix::mount::{MntFlags, MsFlags};
use nix::sched::CloneFlags;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{chdir, chroot, fchdir, pivot_root};
use rustix::stdio::{dup2_stderr, dup2_stdin, dup2_stdout};
use teu_mountinfo::Mount;
use teu_plan::rootfs::{Entrance, RootfsPlan};

use super::detached::{attach, clone_handle, cover, make_readonly};
use super::masks::{self, Places, is_null, open_null};
use super::mount_attributes::Kernel;
use super::mounts::{Kept, Mounter};
use super::paths::Root;
use super::procfs::Procfs;
use super::{devices, gpu};
use crate::errno;
use crate::logger::STEP;
use crate::pipe::InitEnd;

/// The root filesystem while init sets it up.
#[derive(Debug)]
pub(crate) struct Rootfs<'a> {
    plan: &'a RootfsPlan,
    root: Root,
    kernel: Kernel,
    kept: Kept,
}

/// Makes all mounts, devices, links and covers of the plan below the root filesystem.
/// Waits for the cgroup only before a mount that needs it, or at the end, and only if a
/// cgroup namespace is to be unshared.
///
/// # Errors
/// The first step that fails. The mount namespace is of no use then.
pub(crate) fn prepare<'a>(plan: &'a RootfsPlan, pipe: &mut InitEnd) -> Result<Rootfs<'a>> {
    let root = mount_root(plan).context("error preparing rootfs")?;
    log::trace!(target: STEP, "init mounted the root filesystem");
    // Clear the mask so that modes are those of the plan. The process sets its own mask
    // later.
    let mask = rustix::process::umask(Mode::empty());
    let kernel = Kernel::default();
    let kept = make_mounts(plan, &root, &kernel, pipe)?;
    if let Some(devices) = &plan.devices {
        devices::set_up(&root, &kernel, devices, pipe).context("configuring container /dev")?;
    }
    gpu::make_links(&root, &plan.links)?;
    for cover in &plan.covers {
        gpu::cover(&root, &kernel, cover, plan.mount_label.as_deref())
            .with_context(|| format!("cover {:?}", cover.path))?;
    }
    rustix::process::umask(mask);
    Ok(Rootfs {
        plan,
        root,
        kernel,
        kept,
    })
}

fn make_mounts(
    plan: &RootfsPlan,
    root: &Root,
    kernel: &Kernel,
    pipe: &mut InitEnd,
) -> Result<Kept> {
    let mut unshare = plan.unshare_cgroup_namespace;
    let mut kept = Kept::default();
    let mut mounter = Mounter {
        root,
        kernel,
        pipe,
        kept: &mut kept,
    };
    for (index, mount) in plan.mounts.iter().enumerate() {
        if mount.needs_cgroup_namespace() {
            mounter.pipe.wait_for_cgroup()?;
            log::trace!(target: STEP, "init waited for its cgroup");
            if std::mem::take(&mut unshare) {
                unshare_cgroup_namespace()?;
            }
        }
        mounter.make(index, mount)?;
        log::trace!(target: STEP, "init mounted {:?}", mount.destination);
    }
    if unshare {
        mounter.pipe.wait_for_cgroup()?;
        unshare_cgroup_namespace()?;
        log::trace!(target: STEP, "init waited for its cgroup, and made the cgroup namespace");
    }
    Ok(kept)
}

/// Unshares the cgroup namespace. Must come after this process was attached to its
/// cgroup, because that cgroup becomes the root of the namespace.
fn unshare_cgroup_namespace() -> Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWCGROUP)
        .map_err(errno::of_nix)
        .context("unshare the cgroup namespace")
}

/// Separates the mount namespace from the host's, and binds the root filesystem on
/// itself, because pivot_root(2) needs a mount.
fn mount_root(plan: &RootfsPlan) -> Result<Root> {
    if let Some(propagation) = plan.host_propagation {
        change_propagation("/", propagation)?;
        if plan.host_mounts_may_be_shared {
            change_parent_propagation(&plan.path, plan.follows_host_mounts)?;
        }
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(CWD, &plan.path, flags, Mode::empty())
        .with_context(|| format!("open {:?}", plan.path))?;
    if plan.entrance == Entrance::Chroot {
        // Changing the root needs no mount, and a mount would be made on the host.
        return Ok(Root::new(directory));
    }
    let tree = clone_handle(directory.as_fd(), true)
        .with_context(|| format!("open_tree {:?}", plan.path))?;
    attach(tree.as_fd(), directory.as_fd())?;
    keep_out_host_mounts(plan, tree.as_fd())?;
    Ok(Root::new(tree))
}

/// Makes the clone private. The clone of a shared mount of the host is a slave of that
/// mount, and only `rootfsPropagation: slave` asks to see later mounts of the host.
fn keep_out_host_mounts(plan: &RootfsPlan, tree: BorrowedFd<'_>) -> Result<()> {
    if plan.follows_host_mounts || plan.host_propagation.is_none() {
        return Ok(());
    }
    Kernel::default().set_propagation(tree, MS_PRIVATE)
}

/// Makes the mount that holds the root filesystem a slave or private, because
/// pivot_root(2) refuses a shared parent, and a mount on it would appear on the host.
/// Tries each directory above to find the mountpoint.
fn change_parent_propagation(rootfs: &Path, slave: bool) -> Result<()> {
    let propagation = if slave { MS_SLAVE } else { MS_PRIVATE };
    for path in rootfs.ancestors() {
        match mount_propagation(path, propagation) {
            Err(nix::Error::EINVAL) => {}
            result => {
                return result
                    .map_err(errno::of_nix)
                    .with_context(|| format!("change mount propagation of {path:?}"));
            }
        }
    }
    Ok(())
}

/// Changes the propagation of the mount at `path`.
pub(super) fn change_propagation(path: &str, propagation: c_ulong) -> Result<()> {
    mount_propagation(Path::new(path), propagation)
        .map_err(errno::of_nix)
        .with_context(|| format!("change mount propagation of {path:?}"))
}

fn mount_propagation(path: &Path, propagation: c_ulong) -> nix::Result<()> {
    let flags = MsFlags::from_bits_retain(propagation);
    nix::mount::mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
}

impl Rootfs<'_> {
    /// The root filesystem, for paths inside of it.
    pub(crate) fn root(&self) -> &Root {
        &self.root
    }

    /// A procfs that the container cannot have mounted over, opened at the first call.
    /// It shows processes only; for sysctls see [`Procfs::open_unmasked`].
    ///
    /// # Errors
    /// There is no trustworthy procfs.
    pub(crate) fn procfs(&self) -> Result<&Procfs> {
        self.kernel.procfs()
    }

    /// The ways in which this kernel changes mounts, with the procfs.
    pub(crate) fn kernel(&self) -> &Kernel {
        &self.kernel
    }

    /// Makes the root filesystem the working directory, as createContainer hooks
    /// expect.
    ///
    /// # Errors
    /// fchdir(2) fails.
    pub(crate) fn change_directory(&self) -> Result<()> {
        fchdir(&self.root).with_context(|| format!("chdir {:?}", self.plan.path))
    }

    /// Makes the root filesystem, which is the working directory, "/".
    ///
    /// # Errors
    /// The first step that fails. The process is still outside then, at least in part.
    pub(crate) fn enter(&self) -> Result<()> {
        match self.plan.entrance {
            Entrance::Pivot => self.pivot(),
            Entrance::Move => self.move_to_root(),
            Entrance::Chroot => change_root(),
        }
        .context("error jailing process inside rootfs")?;
        if let Some(propagation) = self.plan.propagation {
            change_propagation("/", propagation)?;
        }
        if self.plan.devices.is_some() {
            self.reopen_null()
                .context("error reopening /dev/null inside container")?;
        }
        Ok(())
    }

    /// Calls pivot_root(".", "."), and unmounts the old root, which then lies on the
    /// new root.
    fn pivot(&self) -> Result<()> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let old = openat(CWD, "/", flags, Mode::empty()).context("open \"/\"")?;
        pivot_root(".", ".").context("pivot_root")?;
        fchdir(&old).context("chdir to the old root")?;
        // The unmount must not reach the host. The old root becomes a slave and not
        // private, because the host could not remove a mountpoint that is held here.
        change_propagation(".", MS_SLAVE | MS_REC)?;
        unmount(Path::new(".")).context("unmount the old root")?;
        chdir("/").context("chdir \"/\"")
    }

    /// Moves the root filesystem onto "/". The mounts below stay mounted, so complete
    /// mounts of proc and sysfs are hidden first: because of them the kernel would
    /// allow the container to mount further ones.
    fn move_to_root(&self) -> Result<()> {
        for mountpoint in complete_kernel_mounts(self.kernel.procfs()?, &self.plan.path)? {
            hide_mount(&mountpoint).with_context(|| format!("hide {mountpoint:?}"))?;
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let over = openat(CWD, "/", flags, Mode::empty()).context("open \"/\"")?;
        attach(self.root.as_fd(), over.as_fd())?;
        self.change_directory()?;
        change_root()
    }

    /// Reopens each standard stream that is the host's /dev/null on the container's.
    fn reopen_null(&self) -> Result<()> {
        let null = open_null(&self.root, OFlags::RDWR | OFlags::NOCTTY)?;
        if is_null(std::io::stdin().as_fd())? {
            dup2_stdin(&null).context("dup")?;
        }
        if is_null(std::io::stdout().as_fd())? {
            dup2_stdout(&null).context("dup")?;
        }
        if is_null(std::io::stderr().as_fd())? {
            dup2_stderr(&null).context("dup")?;
        }
        Ok(())
    }

    /// Makes the directory `path` in the container if it is missing.
    ///
    /// # Errors
    /// The directory cannot be made, or `path` is another kind of file.
    pub(crate) fn create_directory(&self, path: &Path) -> Result<()> {
        self.root
            .mkdir_all(path, 0o755)
            .map(drop)
            .with_context(|| format!("mkdir {path:?}"))
    }

    /// Makes the mounts read-only that had to be writable until now, and the root.
    ///
    /// # Errors
    /// A file is still open for writing, or the kernel refuses the change.
    pub(crate) fn remount_readonly(&self) -> Result<()> {
        self.kept.make_readonly(&self.kernel, &self.plan.mounts)?;
        if self.plan.readonly {
            make_readonly(&self.kernel, self.root.as_fd())
                .context("error setting rootfs as readonly")?;
        }
        Ok(())
    }

    /// Makes the paths of `linux.readonlyPaths` read-only.
    ///
    /// # Errors
    /// A path exists but cannot be bound.
    pub(crate) fn make_paths_readonly(&self) -> Result<()> {
        let places = self.places();
        for path in &self.plan.readonly_paths {
            masks::make_path_readonly(&places, &self.kernel, path)
                .with_context(|| format!("can't make {:?} read-only", path.path))?;
        }
        Ok(())
    }

    /// Hides the paths of `linux.maskedPaths`.
    ///
    /// # Errors
    /// A path exists but cannot be covered.
    pub(crate) fn mask(&self) -> Result<()> {
        masks::mask_paths(
            &self.places(),
            &self.plan.masked_paths,
            self.plan.mount_label.as_deref(),
        )
    }

    fn places(&self) -> Places<'_> {
        Places {
            root: &self.root,
            kept: &self.kept,
        }
    }
}

fn change_root() -> Result<()> {
    chroot(".").context("chroot")?;
    chdir("/").context("chdir \"/\"")
}

pub(super) fn unmount(path: &Path) -> Result<(), Errno> {
    nix::mount::umount2(path, MntFlags::MNT_DETACH).map_err(errno::of_nix)
}

/// Returns the mountpoints of complete proc and sysfs filesystems outside of `rootfs`,
/// from mountinfo (proc_pid_mountinfo(5)).
fn complete_kernel_mounts(procfs: &Procfs, rootfs: &Path) -> Result<Vec<PathBuf>> {
    let file = procfs
        .open_file(Path::new("thread-self/mountinfo"), OFlags::RDONLY)
        .context("open mountinfo")?;
    let mut table = Vec::new();
    std::fs::File::from(file)
        .read_to_end(&mut table)
        .context("read mountinfo")?;
    let is_complete =
        |mount: &&Mount<'_>| mount.escaped_root == b"/" && matches!(mount.kind, b"proc" | b"sysfs");
    let mounts = teu_mountinfo::mounts(&table)?;
    let points = mounts.iter().filter(is_complete).map(Mount::point);
    Ok(points.filter(|point| !point.starts_with(rootfs)).collect())
}

/// Unmounts `path`, or covers it if unmounting is not allowed.
fn hide_mount(path: &Path) -> Result<()> {
    match mount_propagation(path, MS_SLAVE | MS_REC).map_err(errno::of_nix) {
        Ok(()) => {}
        // The mount was below a mount that is already unmounted.
        Err(Errno::NOENT) => return Ok(()),
        Err(err) => return Err(err).context("change mount propagation"),
    }
    match unmount(path) {
        Ok(()) => Ok(()),
        Err(Errno::INVAL | Errno::PERM) => {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let target = openat(CWD, path, flags, Mode::empty()).context("open")?;
            cover(target.as_fd()).map(drop)
        }
        Err(err) => Err(err).context("unmount"),
    }
}
