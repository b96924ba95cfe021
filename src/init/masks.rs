//! DO: paths that are hidden from the container, and paths it may only read.
//!
//! To be done after everything that needs those paths itself, such as sysctls.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use libc::MS_RDONLY;
use rustix::fs::{FileType, OFlags, ResolveFlags, fstat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_flag,
    fsconfig_set_string, fsmount, fsopen,
};

use super::attributes::Kernel;
use super::mounts::{attach, clone_handle};
use super::paths::{Root, is_directory};

/// Makes `path` and what is mounted there readable only. Paths that are not
/// there are skipped.
pub(super) fn make_path_readonly(root: &Root, kernel: &Kernel, path: &Path) -> Result<()> {
    let target = match root.resolve(path) {
        Err(Errno::NOENT) => return Ok(()),
        target => target.context("open")?,
    };
    let tree = clone_handle(target.as_fd(), true).context("open_tree")?;
    attach(tree.as_fd(), target.as_fd())?;
    kernel
        .add_flags(tree.as_fd(), MS_RDONLY)
        .context("set read-only")
}

/// Hides `paths`: a file behind the container's /dev/null, a directory behind
/// an empty read-only one. Paths that are not there are skipped.
pub(super) fn mask_paths(root: &Root, paths: &[PathBuf], label: Option<&str>) -> Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    let null = open_null(root, OFlags::PATH).context("can't mask paths")?;
    let mut cover = None;
    for path in paths {
        mask_path(root, path, &null, &mut cover, label)
            .with_context(|| format!("can't mask path {path:?}"))?;
    }
    Ok(())
}

/// `cover` is the mount that hid an earlier directory: one serves them all.
fn mask_path(
    root: &Root,
    path: &Path,
    null: &OwnedFd,
    cover: &mut Option<OwnedFd>,
    label: Option<&str>,
) -> Result<()> {
    let target = match root.resolve(path) {
        Err(Errno::NOENT) => return Ok(()),
        target => target.context("open")?,
    };
    if !is_directory(target.as_fd()).context("stat")? {
        let mask = clone_handle(null.as_fd(), false).context("open_tree /dev/null")?;
        return attach(mask.as_fd(), target.as_fd());
    }
    if let Some(cover) = cover {
        let mask = clone_handle(cover.as_fd(), false).context("open_tree")?;
        return attach(mask.as_fd(), target.as_fd());
    }
    let mask = empty_directory(label)?;
    attach(mask.as_fd(), target.as_fd())?;
    *cover = Some(mask);
    Ok(())
}

/// Covers the directory `target` with an empty read-only one.
pub(super) fn cover(target: BorrowedFd<'_>, label: Option<&str>) -> Result<()> {
    attach(empty_directory(label)?.as_fd(), target)
}

/// A detached read-only tmpfs with room for nothing.
fn empty_directory(label: Option<&str>) -> Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).context("open filesystem tmpfs")?;
    let configure = || -> rustix::io::Result<OwnedFd> {
        fsconfig_set_flag(&context, "ro")?;
        fsconfig_set_string(&context, "source", "tmpfs")?;
        fsconfig_set_string(&context, "nr_blocks", "1")?;
        fsconfig_set_string(&context, "nr_inodes", "1")?;
        if let Some(label) = label {
            fsconfig_set_string(&context, "context", label)?;
        }
        fsconfig_create(&context)?;
        fsmount(
            &context,
            FsMountFlags::FSMOUNT_CLOEXEC,
            MountAttrFlags::MOUNT_ATTR_RDONLY,
        )
    };
    configure().context("mount tmpfs")
}

/// The container's /dev/null, after a look that it is one: an image may hold
/// anything under that name (CVE-2025-31133).
pub(super) fn open_null(root: &Root, flags: OFlags) -> Result<OwnedFd> {
    let flags = flags | OFlags::NOFOLLOW;
    let null = root
        .open(Path::new("/dev/null"), flags, ResolveFlags::empty())
        .context("open \"/dev/null\"")?;
    if !is_null(null.as_fd())? {
        bail!("container's /dev/null is invalid");
    }
    Ok(null)
}

/// Whether the descriptor is on the null device.
pub(super) fn is_null(fd: BorrowedFd<'_>) -> Result<bool> {
    let stat = fstat(fd).context("fstat")?;
    Ok(
        FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && stat.st_rdev == rustix::fs::makedev(1, 3),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::paths::tests::private_root;
    use crate::testing::words;
    use rustix::fs::{CWD, Mode, mknodat};
    use std::fs;
    use std::io::ErrorKind;

    fn make_null(directory: &Path, minor: u32) {
        fs::create_dir_all(directory.join("dev")).expect("mkdir");
        let device = rustix::fs::makedev(1, minor);
        let path = directory.join("dev/null");
        mknodat(
            CWD,
            path,
            FileType::CharacterDevice,
            Mode::from_raw_mode(0o666),
            device,
        )
        .expect("mknod");
    }

    #[test]
    fn files_and_directories_are_hidden() {
        private_root("masks", |directory, root| {
            make_null(directory, 3);
            fs::write(directory.join("secret"), "x").expect("write");
            for name in ["one", "two"] {
                fs::create_dir(directory.join(name)).expect("mkdir");
                fs::write(directory.join(name).join("secret"), "x").expect("write");
            }
            let paths = ["/secret", "/one", "/two", "/missing"].map(PathBuf::from);
            mask_paths(root, &paths, None).expect("mask");
            assert_eq!(fs::read(directory.join("secret")).expect("read"), b"");
            for name in ["one", "two"] {
                let mut entries = fs::read_dir(directory.join(name)).expect("read");
                assert!(entries.next().is_none());
                let write = fs::write(directory.join(name).join("x"), "");
                assert_eq!(
                    write.expect_err("refused").kind(),
                    ErrorKind::ReadOnlyFilesystem
                );
            }
        });
    }

    #[test]
    fn another_device_is_no_null() {
        private_root("masks", |directory, root| {
            make_null(directory, 5);
            fs::write(directory.join("secret"), "x").expect("write");
            let refused = mask_paths(root, &["/secret".into()], None).expect_err("refused");
            assert_eq!(
                words(&refused),
                "can't mask paths: container's /dev/null is invalid"
            );
        });
    }

    #[test]
    fn a_readonly_path_keeps_its_other_flags() {
        for kernel in [Kernel::default(), Kernel::without_setattr()] {
            private_root("masks", |directory, root| {
                let directory = directory.join("dir");
                fs::create_dir(&directory).expect("mkdir");
                let flags = nix::mount::MsFlags::MS_NOSUID;
                let none = None::<&str>;
                nix::mount::mount(none, &directory, Some("tmpfs"), flags, none).expect("tmpfs");
                make_path_readonly(root, &kernel, Path::new("/dir")).expect("read-only");
                make_path_readonly(root, &kernel, Path::new("/missing")).expect("skipped");
                let found = rustix::fs::statvfs(&directory).expect("statvfs").f_flag;
                let wanted =
                    rustix::fs::StatVfsMountFlags::RDONLY | rustix::fs::StatVfsMountFlags::NOSUID;
                assert!(found.contains(wanted), "{found:?}");
            });
        }
    }
}
