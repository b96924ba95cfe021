//! Makes the nodes and links of the container's /dev, as `plan/src/devices.rs` decided. Not
//! for permissions to use the devices: those are rules of the cgroup.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, chmodat, chownat, fstat, makedev, openat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;
use teu_plan::devices::{DeviceKind, DeviceNode, Devices};

use super::detached::{attach, clone_tree};
use super::mount_attributes::Kernel;
use super::paths::{Root, file_to_cover, mknod};
use crate::errno;
use crate::pipe::InitEnd;

/// The reason why the host's node is bind-mounted: the parent does not make the node.
const NOBODYS: &str = "in this user namespace it cannot be made with that owner";

/// The permissions of a mode that have a meaning for devices.
const READ_AND_WRITE: u32 = 0o666;

/// Makes the nodes and links of `devices`. The file mode mask must be 0.
pub(super) fn set_up(
    root: &Root,
    kernel: &Kernel,
    devices: &Devices,
    pipe: &mut InitEnd,
) -> Result<()> {
    make_nodes(root, kernel, devices, pipe)?;
    let mut parents = Parents { root, last: None };
    let ptmx = Path::new("/dev/ptmx");
    let (parent, name) = parents.of(ptmx)?;
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(err) => return Err(err).with_context(|| format!("remove {ptmx:?}")),
    }
    symlinkat("pts/ptmx", parent, name).with_context(|| format!("symlink {ptmx:?}"))?;
    for (path, target) in &devices.links {
        let (parent, name) = parents.of(Path::new(path))?;
        match symlinkat(*target, parent, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(err) => return Err(err).with_context(|| format!("symlink {path:?}")),
        }
    }
    Ok(())
}

/// Makes the nodes of `devices`. The file mode mask must be 0.
pub(super) fn make_nodes(
    root: &Root,
    kernel: &Kernel,
    devices: &Devices,
    pipe: &mut InitEnd,
) -> Result<()> {
    let mut parents = Parents { root, last: None };
    for (index, node) in devices.nodes.iter().enumerate() {
        let outside = devices.bind.then_some((&mut *pipe, index));
        make_node(&mut parents, kernel, node, outside)
            .with_context(|| format!("create device {:?} ({})", node.path, describe(node.kind)))?;
    }
    Ok(())
}

/// Looks up the directory of a path once for several paths in a row, because nearly all
/// nodes are in /dev.
struct Parents<'a> {
    root: &'a Root,
    last: Option<(PathBuf, OwnedFd)>,
}

impl Parents<'_> {
    /// Returns the directory that holds `path`, made if it is missing, and the last
    /// name.
    fn of<'a>(&'a mut self, path: &'a Path) -> Result<(BorrowedFd<'a>, &'a OsStr)> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            bail!("{path:?} has no name");
        };
        let last = self.last.take();
        let handle = match last.filter(|(path, _)| path == parent) {
            Some((_, handle)) => handle,
            None => self
                .root
                .mkdir_all(parent, 0o755)
                .with_context(|| format!("make the directory {parent:?}"))?,
        };
        let (_, handle) = &*self.last.insert((parent.to_owned(), handle));
        Ok((handle.as_fd(), name))
    }
}

fn make_node(
    parents: &mut Parents<'_>,
    kernel: &Kernel,
    node: &DeviceNode,
    outside: Option<(&mut InitEnd, usize)>,
) -> Result<()> {
    let (parent, name) = parents.of(&node.path)?;
    if let Some((pipe, index)) = outside.filter(|_| node.kind != DeviceKind::Fifo) {
        let made = match node.made_by_parent {
            Some(_) => pipe.make_device(index)?,
            None => Err(NOBODYS.to_owned()),
        };
        return match made {
            Ok(tree) => bind_node(parent, name, &tree),
            Err(why) => bind_hosts(parent, name, node, &why),
        };
    }
    let (kind, device) = kind_and_number(node.kind);
    match mknod(parent, name, kind, node.mode, device) {
        Ok(()) => own(parent, name, kernel, node),
        // The specification requires an error if the existing file is another device.
        Err(Errno::EXIST) => check(&stat_of(parent, name)?, node.kind),
        // In a user namespace the kernel refuses mknod(2), so use the host's node
        // (config-linux.md, "Devices").
        Err(Errno::PERM) => {
            let why = format!("mknod: {}", errno::text(Errno::PERM));
            bind_hosts(parent, name, node, &why)
        }
        Err(err) => Err(err).context("mknod"),
    }
}

/// Gives the new node its owner and mode, after a check that it is still the node just
/// made.
fn own(parent: BorrowedFd<'_>, name: &OsStr, kernel: &Kernel, node: &DeviceNode) -> Result<()> {
    let made = stat_of(parent, name)?;
    check(&made, node.kind)?;
    if has_owner(&made, node) && has_mode(&made, node) {
        return Ok(());
    }
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let handle = openat(parent, name, flags, Mode::empty()).context("open the new node")?;
    let found = fstat(&handle).context("fstat")?;
    check(&found, node.kind)?;
    if !has_owner(&found, node) {
        let owner = (Some(Uid::from_raw(node.uid)), Some(Gid::from_raw(node.gid)));
        chownat(&handle, "", owner.0, owner.1, AtFlags::EMPTY_PATH).context("chown")?;
    }
    // A default access control list of the directory may have changed the mode.
    if !has_mode(&found, node) {
        let descriptors = kernel
            .procfs()?
            .descriptors()
            .context("open a list of descriptors")?;
        let number = std::os::fd::AsRawFd::as_raw_fd(&handle).to_string();
        chmodat(
            &descriptors,
            number,
            Mode::from_raw_mode(node.mode),
            AtFlags::empty(),
        )
        .context("chmod")?;
    }
    Ok(())
}

fn has_owner(found: &Stat, node: &DeviceNode) -> bool {
    (found.st_uid, found.st_gid) == (node.uid, node.gid)
}

fn has_mode(found: &Stat, node: &DeviceNode) -> bool {
    found.st_mode & 0o7777 == node.mode
}

/// Binds the host's node because no other can be made, for the reason `why`. Fails if
/// the host's node allows more than the plan.
fn bind_hosts(parent: BorrowedFd<'_>, name: &OsStr, node: &DeviceNode, why: &str) -> Result<()> {
    let Some(hosts) = &node.host_path else {
        bail!("{why}");
    };
    let tree = clone_tree(hosts, false).with_context(|| format!("open the host's {hosts:?}"))?;
    let found = fstat(&tree).context("fstat")?;
    check(&found, node.kind).with_context(|| format!("the host's {hosts:?}"))?;
    let allowed = found.st_mode & READ_AND_WRITE;
    if allowed & !node.mode != 0 {
        bail!(
            "its fileMode would be the host's, {allowed:04o} instead of {:04o}: {why}",
            node.mode
        );
    }
    if node.asked && !(has_owner(&found, node) && has_mode(&found, node)) {
        log::warn!(
            "device {:?}: fileMode, uid and gid are the host's: {why}",
            node.path
        );
    }
    bind_node(parent, name, &tree)
}

/// Creates an empty file and binds the node on it.
fn bind_node(parent: BorrowedFd<'_>, name: &OsStr, node: &OwnedFd) -> Result<()> {
    let onto = file_to_cover(parent, name, 0).context("create a mountpoint")?;
    attach(node.as_fd(), onto.as_fd())
}

fn stat_of(parent: BorrowedFd<'_>, name: &OsStr) -> Result<Stat> {
    rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).context("stat")
}

/// Checks that the file is the device.
///
/// # Errors
/// The file is another device, or no device.
pub(crate) fn check(found: &Stat, kind: DeviceKind) -> Result<()> {
    let (file_type, device) = kind_and_number(kind);
    let found_type = FileType::from_raw_mode(found.st_mode);
    let same_number = kind == DeviceKind::Fifo || found.st_rdev == device;
    if found_type != file_type || !same_number {
        bail!("file exists and is not this device");
    }
    Ok(())
}

pub(crate) fn kind_and_number(kind: DeviceKind) -> (FileType, u64) {
    match kind {
        DeviceKind::Character { major, minor } => {
            (FileType::CharacterDevice, makedev(major, minor))
        }
        DeviceKind::Block { major, minor } => (FileType::BlockDevice, makedev(major, minor)),
        DeviceKind::Fifo => (FileType::Fifo, 0),
    }
}

pub(crate) fn describe(kind: DeviceKind) -> String {
    match kind {
        DeviceKind::Character { major, minor } => format!("c {major}:{minor}"),
        DeviceKind::Block { major, minor } => format!("b {major}:{minor}"),
        DeviceKind::Fifo => "p".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::paths::tests::private_root;
    use crate::testing::words;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    fn node(path: &str, minor: u32) -> DeviceNode {
        DeviceNode {
            path: PathBuf::from(path),
            host_path: Some(PathBuf::from(path)),
            kind: DeviceKind::Character { major: 1, minor },
            mode: 0o640,
            uid: 3,
            gid: 4,
            asked: false,
            made_by_parent: None,
        }
    }

    fn devices(nodes: Vec<DeviceNode>, bind: bool) -> Devices {
        Devices {
            nodes,
            bind,
            links: vec![("/dev/fd", "/proc/self/fd")],
        }
    }

    /// Sets up devices without a parent that would make nodes.
    fn set_up_alone(root: &Root, devices: &Devices) -> Result<()> {
        let (_, mut pipe) = crate::pipe::pair().expect("pipe");
        set_up(root, &Kernel::default(), devices, &mut pipe)
    }

    #[test]
    fn nodes_and_links_are_made() {
        private_root("devices", |directory, root| {
            let fifo = DeviceNode {
                kind: DeviceKind::Fifo,
                ..node("/run/deep/fifo", 0)
            };
            let all = devices(vec![node("/dev/null", 3), fifo], false);
            // The second call finds all nodes and links in place.
            for _ in 0..2 {
                set_up_alone(root, &all).expect("set up");
            }
            let null = fs::metadata(directory.join("dev/null")).expect("stat");
            assert_eq!((null.rdev(), null.mode() & 0o7777), (makedev(1, 3), 0o640));
            assert_eq!((null.uid(), null.gid()), (3, 4));
            assert!(directory.join("run/deep/fifo").exists());
            for (link, target) in [("dev/fd", "/proc/self/fd"), ("dev/ptmx", "pts/ptmx")] {
                let found = fs::read_link(directory.join(link)).expect("link");
                assert_eq!(found, Path::new(target));
            }
        });
    }

    #[test]
    fn another_file_in_the_place_of_a_device_is_an_error() {
        private_root("devices", |directory, root| {
            fs::create_dir(directory.join("dev")).expect("mkdir");
            fs::write(directory.join("dev/null"), "").expect("write");
            symlink("/dev/zero", directory.join("dev/full")).expect("symlink");
            for (path, minor) in [("/dev/null", 3), ("/dev/full", 7)] {
                let all = devices(vec![node(path, minor)], false);
                let refusal = set_up_alone(root, &all).expect_err("refused");
                assert_eq!(
                    words(&refusal),
                    format!(
                        "create device {path:?} (c 1:{minor}): file exists and is not this device"
                    )
                );
            }
        });
    }

    #[test]
    fn where_nodes_cannot_be_made_the_host_s_are_bound() {
        private_root("devices", |directory, root| {
            let null = DeviceNode {
                mode: 0o666,
                ..node("/dev/null", 3)
            };
            let all = devices(vec![null], true);
            set_up_alone(root, &all).expect("set up");
            fs::write(directory.join("dev/null"), "x").expect("write");
            let host = fs::metadata("/dev/null").expect("stat");
            let bound = fs::metadata(directory.join("dev/null")).expect("stat");
            assert_eq!((bound.dev(), bound.ino()), (host.dev(), host.ino()));

            let other = devices(vec![node("/dev/zero", 3)], true);
            let refusal = set_up_alone(root, &other).expect_err("refused");
            assert!(
                words(&refusal).contains("the host's \"/dev/zero\""),
                "{refusal:#}"
            );
        });
    }

    #[test]
    fn a_dev_that_is_a_link_leads_nowhere_outside() {
        private_root("devices", |directory, root| {
            let outside = directory.join("outside");
            fs::create_dir(&outside).expect("mkdir");
            fs::write(outside.join("ptmx"), "").expect("write");
            let rootfs = directory.join("rootfs");
            fs::create_dir(&rootfs).expect("mkdir");
            symlink(&outside, rootfs.join("dev")).expect("symlink");
            let inner = Root::new(root.resolve(Path::new("/rootfs")).expect("open"));
            set_up_alone(&inner, &devices(vec![], false)).expect("set up");
            assert!(outside.join("ptmx").is_file());
            assert!(!outside.join("fd").is_symlink());
            let inside = rootfs.join(outside.strip_prefix("/").expect("absolute"));
            assert!(inside.join("fd").is_symlink());
        });
    }
}
