//! Hides paths from the container (`linux.maskedPaths`), and makes paths read-only
//! (`linux.readonlyPaths`). Must come after everything that needs these paths itself,
//! such as sysctls.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use libc::MS_RDONLY;
use rustix::fs::{FileType, OFlags, ResolveFlags, Stat, fstat};
use rustix::io::Errno;
use teu_plan::rootfs::{Inside, RestrictedPath};

use super::detached::{attach, clone_handle, empty_directory, make_readonly};
use super::mount_attributes::Kernel;
use super::mounts::Kept;
use super::paths::{Root, is_directory, open_beneath};

/// The places in which restricted paths are looked up.
#[derive(Debug)]
pub(super) struct Places<'a> {
    pub(super) root: &'a Root,
    pub(super) kept: &'a Kept,
}

impl Places<'_> {
    /// Opens a handle on the file at the path; `None` if there is none.
    fn find(&self, restricted: &RestrictedPath) -> Result<Option<OwnedFd>> {
        let by_name = || self.root.resolve(&restricted.path);
        let found = match &restricted.inside {
            Some(inside) => self.find_inside(inside),
            None => by_name(),
        };
        match found {
            Err(Errno::NOENT) => Ok(None),
            // A link leads out of the mount.
            Err(Errno::XDEV) => by_name().map(Some).context("open"),
            found => found.map(Some).context("open"),
        }
    }

    fn find_inside(&self, inside: &Inside) -> rustix::io::Result<OwnedFd> {
        let mount = self.kept.get(inside.mount).ok_or(Errno::BADF)?;
        let path = match inside.is_the_mount() {
            true => Path::new("."),
            false => &inside.path,
        };
        open_beneath(mount, path)
    }
}

/// Makes a path and everything that is mounted below it read-only. Skips a path that
/// does not exist.
pub(super) fn make_path_readonly(
    places: &Places<'_>,
    kernel: &Kernel,
    path: &RestrictedPath,
) -> Result<()> {
    let Some(target) = places.find(path)? else {
        return Ok(());
    };
    if path.inside.as_ref().is_some_and(Inside::is_the_mount) {
        return make_readonly(kernel, target.as_fd());
    }
    let tree = clone_handle(target.as_fd(), true).context("open_tree")?;
    attach(tree.as_fd(), target.as_fd())?;
    kernel
        .add_flags(tree.as_fd(), MS_RDONLY)
        .context("set read-only")
}

/// Hides `paths`: covers a file with the container's /dev/null and a directory with an
/// empty read-only directory. Skips paths that do not exist.
pub(super) fn mask_paths(
    places: &Places<'_>,
    paths: &[RestrictedPath],
    label: Option<&str>,
) -> Result<()> {
    if paths.is_empty() {
        return Ok(());
    }
    let null = open_null(places.root, OFlags::PATH).context("can't mask paths")?;
    let mut cover = None;
    for path in paths {
        mask_path(places, path, &null, &mut cover, label)
            .with_context(|| format!("can't mask path {:?}", path.path))?;
    }
    Ok(())
}

/// Hides a path. `cover` is the mount that hid an earlier directory, and is cloned for
/// all others.
fn mask_path(
    places: &Places<'_>,
    path: &RestrictedPath,
    null: &OwnedFd,
    cover: &mut Option<OwnedFd>,
    label: Option<&str>,
) -> Result<()> {
    let Some(target) = places.find(path)? else {
        return Ok(());
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

/// Opens the container's /dev/null and checks that it is the null device, because an
/// image may hold anything under that name (CVE-2025-31133).
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

/// Returns whether the descriptor is on the null device.
pub(super) fn is_null(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(is_null_device(&fstat(fd).context("fstat")?))
}

/// Returns whether the file is the null device.
pub(super) fn is_null_device(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice
        && found.st_rdev == rustix::fs::makedev(1, 3)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::paths::tests::private_root;
    use crate::testing::words;
    use rustix::fs::{CWD, Mode, mknodat};
    use std::fs;
    use std::io::ErrorKind;

    fn by_name(path: &str) -> RestrictedPath {
        RestrictedPath {
            path: path.into(),
            inside: None,
        }
    }

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
            let places = Places {
                root,
                kept: &Kept::default(),
            };
            make_null(directory, 3);
            fs::write(directory.join("secret"), "x").expect("write");
            for name in ["one", "two"] {
                fs::create_dir(directory.join(name)).expect("mkdir");
                fs::write(directory.join(name).join("secret"), "x").expect("write");
            }
            let paths = ["/secret", "/one", "/two", "/missing"].map(by_name);
            mask_paths(&places, &paths, None).expect("mask");
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
            let places = Places {
                root,
                kept: &Kept::default(),
            };
            make_null(directory, 5);
            fs::write(directory.join("secret"), "x").expect("write");
            let refused = mask_paths(&places, &[by_name("/secret")], None).expect_err("refused");
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
                let places = Places {
                    root,
                    kept: &Kept::default(),
                };
                let directory = directory.join("dir");
                fs::create_dir(&directory).expect("mkdir");
                let flags = nix::mount::MsFlags::MS_NOSUID;
                let none = None::<&str>;
                nix::mount::mount(none, &directory, Some("tmpfs"), flags, none).expect("tmpfs");
                make_path_readonly(&places, &kernel, &by_name("/dir")).expect("read-only");
                make_path_readonly(&places, &kernel, &by_name("/missing")).expect("skipped");
                let found = rustix::fs::statvfs(&directory).expect("statvfs").f_flag;
                let wanted =
                    rustix::fs::StatVfsMountFlags::RDONLY | rustix::fs::StatVfsMountFlags::NOSUID;
                assert!(found.contains(wanted), "{found:?}");
            });
        }
    }
}
