//! Paths inside the root filesystem, which the container may change at any time. The
//! kernel resolves each path below a directory that is already open (openat2(2), Linux
//! 5.6), and all further steps use the descriptor. Not for checks of a path as a
//! string: such a check proves nothing.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, mknodat, openat, openat2, readlinkat,
};
use rustix::io::{Errno, Result};

/// The most attempts of a lookup. A lookup that meets a rename elsewhere in the tree
/// fails with EAGAIN and may be repeated, but an attacker can rename without end.
const ATTEMPTS: u32 = 1000;
/// The most links in one path, which is the kernel's own limit.
const LONGEST_CHAIN_OF_LINKS: u32 = 40;

/// An open root filesystem: the directory to which "/" and ".." lead.
#[derive(Debug)]
pub(crate) struct Root(OwnedFd);

/// A destination for a mount.
#[derive(Debug)]
pub(crate) struct Location {
    /// Its path in the root filesystem, without links.
    pub(crate) path: PathBuf,
    /// A handle on the file at the path; `None` if there is no file yet.
    pub(crate) found: Option<OwnedFd>,
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Root {
    /// Takes `directory` as the root.
    pub(crate) fn new(directory: OwnedFd) -> Root {
        Root(directory)
    }

    /// Opens the directory at `path`, on the host, as the root.
    pub(crate) fn at(path: &Path) -> Result<Root> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Root(openat(CWD, path, flags, Mode::empty())?))
    }

    /// Opens a handle (O_PATH) on the file at `path`. Links are followed inside the
    /// root.
    pub(crate) fn resolve(&self, path: &Path) -> Result<OwnedFd> {
        self.open(path, OFlags::PATH, ResolveFlags::empty())
    }

    /// Opens `path` with `flags`. Links are followed inside the root; the last
    /// component is not followed with NOFOLLOW.
    pub(crate) fn open(
        &self,
        path: &Path,
        flags: OFlags,
        resolve: ResolveFlags,
    ) -> Result<OwnedFd> {
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS | resolve;
        open_beside_renames(self.0.as_fd(), path, flags, resolve)
    }

    /// Finds the real path of `path`. Links are followed, even if the target does not
    /// exist.
    pub(crate) fn locate(&self, path: &Path) -> Result<Location> {
        self.locate_with(path, OFlags::empty())
    }

    /// Does the work of [`Root::locate`], but fails with ENOTDIR for a file that is no
    /// directory.
    fn locate_directory(&self, path: &Path) -> Result<Location> {
        self.locate_with(path, OFlags::DIRECTORY)
    }

    fn locate_with(&self, path: &Path, flags: OFlags) -> Result<Location> {
        match self.open_real(path, flags) {
            Err(Errno::LOOP) => {}
            found => return location(path.to_owned(), found),
        }
        let real = self.real_path(path)?;
        // If a link has appeared in the path meanwhile, this call fails and does not
        // follow it.
        let found = self.open_real(&real, flags);
        location(real, found)
    }

    /// Opens a handle on `path`. Fails with ELOOP if a component is a link.
    fn open_real(&self, path: &Path, flags: OFlags) -> Result<OwnedFd> {
        self.open(path, OFlags::PATH | flags, ResolveFlags::NO_SYMLINKS)
    }

    /// Follows the links of `path` by hand, because the target of a dangling link needs
    /// a path, too.
    fn real_path(&self, path: &Path) -> Result<PathBuf> {
        let mut real = PathBuf::from("/");
        let mut rest: VecDeque<OsString> = names(path);
        let mut links = 0;
        while let Some(name) = rest.pop_front() {
            if name == ".." {
                real.pop();
                continue;
            }
            real.push(&name);
            let Some(target) = self.link_target(&real)? else {
                continue;
            };
            links += 1;
            if links > LONGEST_CHAIN_OF_LINKS {
                return Err(Errno::LOOP);
            }
            real.pop();
            if target.is_absolute() {
                real = PathBuf::from("/");
            }
            for name in names(&target).into_iter().rev() {
                rest.push_front(name);
            }
        }
        Ok(real)
    }

    /// Returns the target of the link at `path`, or `None` if the file is no link.
    pub(crate) fn link_target(&self, path: &Path) -> Result<Option<PathBuf>> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let handle = match self.open(path, flags, ResolveFlags::empty()) {
            Ok(handle) => handle,
            Err(Errno::NOENT) => return Ok(None),
            Err(err) => return Err(err),
        };
        if FileType::from_raw_mode(fstat(&handle)?.st_mode) != FileType::Symlink {
            return Ok(None);
        }
        let target = readlinkat(&handle, "", Vec::new())?;
        Ok(Some(PathBuf::from(OsString::from_vec(target.into_bytes()))))
    }

    /// Returns a handle on the directory `path`. Missing directories are made with
    /// `mode`.
    pub(crate) fn mkdir_all(&self, path: &Path, mode: u32) -> Result<OwnedFd> {
        let location = self.locate_directory(path)?;
        match location.found {
            Some(found) => Ok(found),
            None => self.mkdir_real(&location.path, mode),
        }
    }

    /// Does the work of [`Root::mkdir_all`] for a path that has no links and did not
    /// exist.
    fn mkdir_real(&self, path: &Path, mode: u32) -> Result<OwnedFd> {
        let (mut directory, missing) = self.existing_part(path)?;
        for name in missing {
            match mkdirat(&directory, &name, Mode::from_raw_mode(mode)) {
                // Another process made it. If it made a link, the next step refuses
                // that.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(err) => return Err(err),
            }
            directory = open_beside_renames(
                directory.as_fd(),
                Path::new(&name),
                OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW,
                ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
            )?;
        }
        Ok(directory)
    }

    /// Returns the deepest existing directory above `path`, and the names that are
    /// missing.
    fn existing_part(&self, path: &Path) -> Result<(OwnedFd, Vec<OsString>)> {
        let mut missing = Vec::new();
        let mut part = path;
        while let (Some(parent), Some(name)) = (part.parent(), part.file_name()) {
            missing.push(name.to_owned());
            match self.open_real(parent, OFlags::DIRECTORY) {
                Ok(found) => {
                    missing.reverse();
                    return Ok((found, missing));
                }
                Err(Errno::NOENT) => part = parent,
                Err(err) => return Err(err),
            }
        }
        Err(Errno::NOENT)
    }

    /// Makes an empty file, with its parents if they are missing.
    fn create_real_file(&self, path: &Path, mode: u32) -> Result<OwnedFd> {
        let (parent, name) = self.parent(path)?;
        openat(
            &parent,
            &name,
            OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::from_raw_mode(mode),
        )
    }

    /// Makes the mountpoint that [`Root::locate`] did not find: a directory or an empty
    /// file.
    pub(crate) fn make_mountpoint(&self, path: &Path, is_directory: bool) -> Result<OwnedFd> {
        if is_directory {
            self.mkdir_real(path, 0o755)
        } else {
            self.create_real_file(path, 0o644)
        }
    }

    /// Returns the directory that holds `path`, made if it is missing, and the last
    /// name. Links are followed in the directory's path only.
    pub(crate) fn parent(&self, path: &Path) -> Result<(OwnedFd, OsString)> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().ok_or(Errno::INVAL)?;
        Ok((self.mkdir_all(parent, 0o755)?, name.to_owned()))
    }
}

fn location(path: PathBuf, found: Result<OwnedFd>) -> Result<Location> {
    match found {
        Ok(found) => Ok(Location {
            path,
            found: Some(found),
        }),
        Err(Errno::NOENT) => Ok(Location { path, found: None }),
        Err(err) => Err(err),
    }
}

fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().filter_map(name).collect()
}

/// Returns whether the handle is on a directory.
pub(crate) fn is_directory(handle: BorrowedFd<'_>) -> Result<bool> {
    Ok(FileType::from_raw_mode(fstat(handle)?.st_mode) == FileType::Directory)
}

/// Returns a handle on the file `name` of `parent`, for a mount on top of it. Makes an
/// empty file with `mode` if the file is missing. Does not open an existing file for
/// use, since it may be a device, and refuses a link (ELOOP).
pub(crate) fn file_to_cover(parent: BorrowedFd<'_>, name: &OsStr, mode: u32) -> Result<OwnedFd> {
    let create = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match openat(parent, name, create, Mode::from_raw_mode(mode)) {
        Err(Errno::EXIST) => {}
        made => return made,
    }
    let found = openat(
        parent,
        name,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    match FileType::from_raw_mode(fstat(&found)?.st_mode) {
        FileType::Symlink => Err(Errno::LOOP),
        _ => Ok(found),
    }
}

/// Makes a device node or a fifo.
pub(crate) fn mknod(
    parent: BorrowedFd<'_>,
    name: &OsStr,
    kind: FileType,
    mode: u32,
    device: u64,
) -> Result<()> {
    mknodat(parent, name, kind, Mode::from_raw_mode(mode), device)
}

/// Opens a handle on the file at `path` below `directory`. Links are followed while
/// they stay below it; otherwise the call fails with EXDEV.
pub(crate) fn open_beneath(directory: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    open_beside_renames(directory, path, OFlags::PATH, resolve)
}

/// Calls openat2(2), again while renames elsewhere in the tree disturb the lookup.
pub(super) fn open_beside_renames(
    directory: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    resolve: ResolveFlags,
) -> Result<OwnedFd> {
    for _ in 1..ATTEMPTS {
        match openat2(
            directory,
            path,
            flags | OFlags::CLOEXEC,
            Mode::empty(),
            resolve,
        ) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::{Directory, in_child};
    use nix::mount::MsFlags;
    use nix::sched::{CloneFlags, unshare};
    use rustix::fs::CWD;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    /// Moves this process into a new mount namespace.
    pub(in crate::init) fn leave_mount_namespace() {
        unshare(CloneFlags::CLONE_NEWNS).expect("unshare");
        let (none, private) = (None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC);
        nix::mount::mount(none, "/", none, private, none).expect("private");
    }

    /// Runs `body` on a root filesystem (a tmpfs), in a child in a new mount namespace.
    /// Needs root.
    pub(crate) fn private_root(name: &str, body: impl FnOnce(&Path, &Root)) {
        let directory = Directory::new(name);
        in_child(|| {
            leave_mount_namespace();
            let (none, flags) = (None::<&str>, MsFlags::empty());
            nix::mount::mount(none, directory.path(), Some("tmpfs"), flags, none).expect("tmpfs");
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let root = openat(CWD, directory.path(), flags, Mode::empty()).expect("open");
            body(directory.path(), &Root::new(root));
        });
    }

    /// Makes a root filesystem below a directory that has a file outside of it.
    fn root() -> (Directory, Root) {
        let directory = Directory::new("paths");
        fs::create_dir_all(directory.path().join("rootfs/etc")).expect("mkdir");
        fs::write(directory.path().join("outside"), "").expect("write");
        let flags = OFlags::PATH | OFlags::DIRECTORY;
        let rootfs = openat(CWD, directory.path().join("rootfs"), flags, Mode::empty());
        let root = Root::new(rootfs.expect("open"));
        (directory, root)
    }

    fn inode(path: impl AsRef<Path>) -> u64 {
        fs::symlink_metadata(path).expect("stat").ino()
    }

    fn inode_of(fd: &OwnedFd) -> u64 {
        fstat(fd).expect("fstat").st_ino
    }

    #[test]
    fn links_and_dots_stay_inside() {
        let (directory, root) = root();
        let rootfs = directory.path().join("rootfs");
        symlink(directory.path(), rootfs.join("absolute")).expect("symlink");
        symlink("../..", rootfs.join("etc/up")).expect("symlink");
        for path in ["/../../..", "etc/up", "/etc/up/../../..", "/"] {
            let found = root.resolve(Path::new(path)).expect(path);
            assert_eq!(inode_of(&found), inode(&rootfs), "{path}");
        }
        for path in ["/absolute/outside", "/etc/up/outside", "/../outside"] {
            assert_eq!(
                root.resolve(Path::new(path)).err(),
                Some(Errno::NOENT),
                "{path}"
            );
        }
    }

    #[test]
    fn directories_are_made_where_links_lead_inside() {
        let (directory, root) = root();
        let rootfs = directory.path().join("rootfs");
        // The target of the first link is missing. The target of an absolute link
        // starts at the root.
        symlink("/run/x", rootfs.join("srv")).expect("symlink");
        symlink(directory.path(), rootfs.join("out")).expect("symlink");
        for (path, made) in [
            ("/srv/lib/y", "run/x/lib/y".to_owned()),
            ("/etc/../srv/../new", "run/new".to_owned()),
            (
                "/out/new",
                format!("{}/new", directory.path().display()).split_off(1),
            ),
        ] {
            let made_fd = root.mkdir_all(Path::new(path), 0o755).expect(path);
            assert_eq!(inode_of(&made_fd), inode(rootfs.join(made)), "{path}");
        }
        assert!(!directory.path().join("new").exists());
    }

    #[test]
    fn a_dangling_last_link_is_where_its_end_would_be() {
        let (directory, root) = root();
        let rootfs = directory.path().join("rootfs");
        symlink("../run/resolv.conf", rootfs.join("etc/resolv.conf")).expect("symlink");
        let place = root.locate(Path::new("/etc/resolv.conf")).expect("locate");
        assert_eq!(place.path, Path::new("/run/resolv.conf"));
        assert!(place.found.is_none());
        root.make_mountpoint(&place.path, false).expect("make");
        assert!(rootfs.join("run/resolv.conf").is_file());
    }

    #[test]
    fn what_is_in_the_way_is_an_error() {
        let (directory, root) = root();
        let rootfs = directory.path().join("rootfs");
        fs::write(rootfs.join("file"), "").expect("write");
        symlink("loop", rootfs.join("loop")).expect("symlink");
        for (path, errno) in [
            ("/file", Errno::NOTDIR),
            ("/file/below", Errno::NOTDIR),
            ("/loop", Errno::LOOP),
            ("/loop/below", Errno::LOOP),
        ] {
            let refused = root.mkdir_all(Path::new(path), 0o755);
            assert_eq!(refused.err(), Some(errno), "{path}");
        }
    }

    #[test]
    fn a_link_put_in_place_of_a_checked_directory_is_not_followed() {
        let (directory, root) = root();
        let rootfs = directory.path().join("rootfs");
        let place = root.locate(Path::new("/etc/new")).expect("locate");
        fs::remove_dir(rootfs.join("etc")).expect("rmdir");
        symlink(directory.path(), rootfs.join("etc")).expect("symlink");
        let refused = root.make_mountpoint(&place.path, true);
        assert_eq!(refused.err(), Some(Errno::LOOP));
        assert!(!directory.path().join("new").exists());
        // A link is refused as the last component of the path, too.
        symlink(directory.path().join("new"), rootfs.join("file")).expect("symlink");
        symlink(directory.path(), rootfs.join("directory")).expect("symlink");
        for (path, is_directory) in [("/file", false), ("/directory", true)] {
            let refused = root.make_mountpoint(Path::new(path), is_directory);
            refused.expect_err("a link is there by now");
        }
        assert!(!directory.path().join("new").exists());
    }

    /// CVE-2024-45310: while another process exchanges a directory for a link, files
    /// are never made outside of the root.
    #[test]
    fn an_exchange_of_directory_and_link_never_leads_outside() {
        let (directory, root) = root();
        let rootfs = directory.path().join("rootfs");
        let outside = directory.path().join("elsewhere");
        fs::create_dir(&outside).expect("mkdir");
        fs::create_dir(rootfs.join("a")).expect("mkdir");
        symlink(&outside, rootfs.join("b")).expect("symlink");
        let done = std::sync::atomic::AtomicBool::new(false);
        let order = std::sync::atomic::Ordering::Relaxed;
        let exchange = || {
            let flags = rustix::fs::RenameFlags::EXCHANGE;
            while !done.load(order) {
                rustix::fs::renameat_with(&root, "a", &root, "b", flags).expect("exchange");
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(exchange);
            for number in 0..500 {
                // Both results are right: a directory inside, or an error.
                root.mkdir_all(Path::new(&format!("/a/x{number}/y")), 0o755)
                    .ok();
                let link = format!("/a/link{number}");
                if let Ok((parent, name)) = root.parent(Path::new(&link)) {
                    rustix::fs::symlinkat("x", &parent, &name).ok();
                }
                let place = root.locate(Path::new(&format!("/a/file{number}")));
                if let Ok(Location { path, found: None }) = place {
                    root.make_mountpoint(&path, false).ok();
                }
            }
            done.store(true, order);
        });
        assert!(fs::read_dir(&outside).expect("read").next().is_none());
    }

    #[test]
    fn a_link_is_no_file_to_cover() {
        let (directory, root) = root();
        let rootfs = directory.path().join("rootfs");
        symlink(directory.path().join("made"), rootfs.join("console")).expect("symlink");
        let refused = file_to_cover(root.as_fd(), OsStr::new("console"), 0o666);
        assert_eq!(refused.err(), Some(Errno::LOOP));
        file_to_cover(root.as_fd(), OsStr::new("null"), 0).expect("made");
        file_to_cover(root.as_fd(), OsStr::new("null"), 0).expect("found");
        assert!(!directory.path().join("made").exists());
    }
}
