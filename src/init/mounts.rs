//! DO: the mounts of the plan, in the mount namespace of the container.
//!
//! A mount is made or cloned detached, gets its flags, and is moved onto a
//! descriptor of its destination (move_mount(2), Linux 5.2), so that no path
//! is looked up between a check and the mount.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use libc::{MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_RDONLY, c_ulong};
use rustix::fs::{
    CWD, Mode, OFlags, PROC_SUPER_MAGIC, XattrFlags, fsetxattr, fstat, fstatfs, mkdirat, openat,
    symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    fspick, move_mount, open_tree,
};

use super::attributes::{self, Kernel};
use super::copy_up::copy_up;
use super::paths::{Root, is_directory};
use crate::pipe::InitEnd;
use crate::plan::mount_options::{attributes_of, filesystem_words};
use crate::plan::mounts::{
    Bind, BindFlags, CgroupV1, CgroupV2, Filesystem, Mount, MountKind, OverProc, Place, Remount,
};
use teu_cgroups::HierarchyView;

/// fsconfig(2) takes values below this length, mount(2) up to a page.
const LONGEST_VALUE: usize = 255;

/// Makes mounts below one root filesystem.
#[derive(Debug)]
pub(super) struct Mounter<'a, 'plan> {
    pub(super) root: &'a Root,
    pub(super) kernel: &'a Kernel,
    pub(super) pipe: &'a mut InitEnd,
    /// Mounts to be made read-only at the end.
    pub(super) readonly_at_end: &'a mut Vec<(&'plan Path, OwnedFd)>,
}

impl<'plan> Mounter<'_, 'plan> {
    /// Makes `mount`, the one at `index` of the plan.
    pub(super) fn make(&mut self, index: usize, mount: &'plan Mount) -> Result<()> {
        self.make_kind(index, mount).with_context(|| {
            format!(
                "error mounting {:?} to rootfs at {:?}",
                mount.source, mount.destination
            )
        })
    }

    fn make_kind(&mut self, index: usize, mount: &'plan Mount) -> Result<()> {
        match &mount.kind {
            MountKind::Bind(bind) => self.bind(index, mount, bind),
            MountKind::Filesystem(filesystem) => self.filesystem(mount, filesystem),
            MountKind::Remount(remount) => self.remount(mount, remount),
            MountKind::CgroupV1(cgroup) => self.cgroup_v1(mount, cgroup),
            MountKind::CgroupV2(cgroup) => self.cgroup_v2(index, mount, cgroup),
        }
    }

    fn bind(&mut self, index: usize, mount: &'plan Mount, bind: &Bind) -> Result<()> {
        let tree = self.open_source(index, bind)?;
        let place = self
            .root
            .locate(&mount.destination)
            .context("look up the mountpoint")?;
        check_over_proc(&place.path, Some(tree.as_fd()), false)?;
        let onto = match place.found {
            Some(found) => found,
            None => {
                let directory = is_directory(tree.as_fd()).context("stat the source")?;
                self.root
                    .make_mountpoint(&place.path, directory)
                    .with_context(|| format!("make mountpoint {:?}", place.path))?
            }
        };
        self.attach_bind(&tree, onto.as_fd(), bind.flags)?;
        self.finish(mount, tree)
    }

    /// A detached clone of the source.
    fn open_source(&mut self, index: usize, bind: &Bind) -> Result<OwnedFd> {
        if bind.id_map.is_some() {
            return self.pipe.open_mount_source(index);
        }
        match clone_tree(&bind.source, bind.recursive) {
            Ok(tree) => Ok(tree),
            // Root of a user namespace may be kept out where the host's is not.
            Err(Errno::ACCESS) => self.pipe.open_mount_source(index),
            Err(err) => Err(err).with_context(|| format!("open {:?}", bind.source)),
        }
    }

    fn attach_bind(
        &self,
        tree: &OwnedFd,
        onto: BorrowedFd<'_>,
        flags: Option<BindFlags>,
    ) -> Result<()> {
        let pending = match flags {
            Some(flags) => self.kernel.set_bind_flags(tree.as_fd(), flags)?,
            None => None,
        };
        attach(tree.as_fd(), onto)?;
        match pending {
            Some(pending) => self.kernel.set_attached_bind_flags(tree.as_fd(), pending),
            None => Ok(()),
        }
    }

    fn filesystem(&mut self, mount: &'plan Mount, filesystem: &Filesystem) -> Result<()> {
        let (onto, mode) = self.place(mount, filesystem)?;
        let tree = match new_mount(filesystem, mode)? {
            NewMount::Detached(tree) => tree,
            NewMount::TooLong => {
                return self.filesystem_by_string(mount, filesystem, onto.as_fd());
            }
        };
        if filesystem.copy_up {
            copy_up(onto.as_fd(), tree.as_fd())
                .with_context(|| format!("tmpcopyup: copy {:?}", mount.destination))?;
        }
        attach(tree.as_fd(), onto.as_fd())?;
        if let Some(label) = &filesystem.root_label {
            set_label(tree.as_fd(), label)?;
        }
        self.finish(mount, tree)
    }

    /// Where to mount a filesystem, and the mode its root is to have if that
    /// depends on the place.
    fn place(&self, mount: &Mount, filesystem: &Filesystem) -> Result<(OwnedFd, Option<u32>)> {
        if filesystem.place == Place::OrdinaryDirectory {
            return Ok((self.ordinary_directory(mount, &filesystem.kind)?, None));
        }
        let place = self
            .root
            .locate(&mount.destination)
            .context("look up the mountpoint")?;
        check_over_proc(&place.path, None, filesystem.kind == "proc")?;
        let Some(found) = place.found else {
            let made = self.make_directory(&place.path)?;
            return Ok((made, None));
        };
        let mode = match filesystem.place {
            Place::KeepMode => Some(fstat(&found).context("stat the mountpoint")?.st_mode & 0o7777),
            Place::Any | Place::OrdinaryDirectory => None,
        };
        Ok((found, mode))
    }

    fn make_directory(&self, path: &Path) -> Result<OwnedFd> {
        self.root
            .make_mountpoint(path, true)
            .with_context(|| format!("make mountpoint {path:?}"))
    }

    fn ordinary_directory(&self, mount: &Mount, kind: &str) -> Result<OwnedFd> {
        let path = &mount.destination;
        let name = path.file_name().context("no name")?;
        let parent = path.parent().context("no parent")?;
        let parent = self.root.locate(parent).context("look up the mountpoint")?;
        check_over_proc(&parent.path.join(name), None, kind == "proc")?;
        let parent = match parent.found {
            Some(found) => found,
            None => self.make_directory(&parent.path)?,
        };
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match openat(&parent, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                mkdirat(&parent, name, Mode::from_raw_mode(0o755))
                    .with_context(|| format!("make mountpoint {path:?}"))?;
                openat(&parent, name, flags, Mode::empty())
            }
            found => found,
        }
        .with_context(|| format!("open mountpoint {path:?}"))?;
        if !is_directory(found.as_fd()).context("stat the mountpoint")? {
            bail!("filesystem {kind:?} must be mounted on ordinary directory");
        }
        Ok(found)
    }

    /// With mount(2), for options that are too long for fsconfig(2). The new
    /// mount has then to be looked up, which could find another one's.
    fn filesystem_by_string(
        &mut self,
        mount: &'plan Mount,
        filesystem: &Filesystem,
        onto: BorrowedFd<'_>,
    ) -> Result<()> {
        let before = attributes::mount_id(onto)?;
        self.kernel.mount_by_string(filesystem, onto)?;
        let tree = self
            .root
            .resolve(&mount.destination)
            .context("open the new mount")?;
        if attributes::mount_id(tree.as_fd())? == before {
            bail!(
                "mountpoint {:?} was moved while mounting",
                mount.destination
            );
        }
        self.finish(mount, tree)
    }

    fn remount(&mut self, mount: &'plan Mount, remount: &Remount) -> Result<()> {
        let place = self
            .root
            .locate(&mount.destination)
            .context("look up the mountpoint")?;
        let Some(found) = place.found else {
            bail!(
                "remount {:?}: {}",
                mount.destination,
                "no such file or directory"
            );
        };
        if let Some(options) = &remount.superblock {
            reconfigure(found.as_fd(), remount.flags, options)?;
        }
        if let Some(flags) = self.kernel.set_bind_flags(found.as_fd(), remount.flags)? {
            self.kernel.set_attached_bind_flags(found.as_fd(), flags)?;
        }
        self.finish(mount, found)
    }

    /// Propagation and recursive attributes of a mount that is in place.
    fn finish(&mut self, mount: &'plan Mount, tree: OwnedFd) -> Result<()> {
        for propagation in &mount.propagation {
            self.kernel.set_propagation(tree.as_fd(), *propagation)?;
        }
        if let Some(attributes) = mount.recursive {
            self.kernel
                .change_all(tree.as_fd(), attributes)
                .context("set recursive attributes")?;
        }
        if mount.readonly_at_end {
            self.readonly_at_end.push((&mount.destination, tree));
        }
        Ok(())
    }

    fn cgroup_v1(&mut self, mount: &'plan Mount, cgroup: &CgroupV1) -> Result<()> {
        let tmpfs = Filesystem {
            kind: "tmpfs".to_owned(),
            source: "tmpfs".to_owned(),
            flags: DEFAULT_FLAGS,
            options: vec!["mode=755".to_owned()],
            context: None,
            place: Place::Any,
            copy_up: false,
            root_label: None,
        };
        let (onto, _) = self.place(mount, &tmpfs)?;
        let tree = new_mount(&tmpfs, None)?.detached()?;
        attach(tree.as_fd(), onto.as_fd())?;
        for hierarchy in &cgroup.hierarchies {
            self.cgroup_hierarchy(tree.as_fd(), mount, cgroup, hierarchy)
                .with_context(|| format!("cgroup hierarchy {:?}", hierarchy.name))?;
        }
        self.finish(mount, tree)
    }

    fn cgroup_hierarchy(
        &self,
        tmpfs: BorrowedFd<'_>,
        mount: &Mount,
        cgroup: &CgroupV1,
        hierarchy: &HierarchyView,
    ) -> Result<()> {
        let name = hierarchy.name.as_str();
        mkdirat(tmpfs, name, Mode::from_raw_mode(0o755)).context("mkdir")?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let onto = openat(tmpfs, name, flags, Mode::empty()).context("open")?;
        if cgroup.in_namespace {
            let hierarchy = hierarchy_filesystem(hierarchy, cgroup.flags);
            let tree = new_mount(&hierarchy, None)?.detached()?;
            attach(tree.as_fd(), onto.as_fd())?;
        } else {
            let directory = &hierarchy.directory;
            let tree =
                clone_tree(directory, true).with_context(|| format!("open {directory:?}"))?;
            let flags = BindFlags {
                set: cgroup.flags,
                cleared: 0,
            };
            self.attach_bind(&tree, onto.as_fd(), Some(flags))?;
            for propagation in &mount.propagation {
                self.kernel.set_propagation(tree.as_fd(), *propagation)?;
            }
        }
        for alias in &hierarchy.links {
            match symlinkat(name, tmpfs, alias.as_str()) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(err) => return Err(err).with_context(|| format!("symlink {alias:?}")),
            }
        }
        Ok(())
    }

    fn cgroup_v2(&mut self, index: usize, mount: &'plan Mount, cgroup: &CgroupV2) -> Result<()> {
        let (onto, _) = self.place(mount, &cgroup.filesystem)?;
        let refused = match new_mount(&cgroup.filesystem, None) {
            Ok(made) => {
                let tree = made.detached()?;
                attach(tree.as_fd(), onto.as_fd())?;
                return self.finish(mount, tree);
            }
            Err(err) => err,
        };
        // In a user namespace without a cgroup namespace of its own.
        if !matches!(refused.downcast_ref(), Some(&(Errno::PERM | Errno::BUSY))) {
            return Err(refused);
        }
        let fallback = &cgroup.fallback;
        let tree = match clone_tree(&fallback.source, fallback.recursive) {
            Ok(tree) => tree,
            Err(Errno::ACCESS) => self.pipe.open_mount_source(index)?,
            Err(Errno::NOENT) if cgroup.hide_if_missing => {
                return super::masks::cover(onto.as_fd(), None);
            }
            Err(err) => return Err(err).with_context(|| format!("open {:?}", fallback.source)),
        };
        self.attach_bind(&tree, onto.as_fd(), fallback.flags)?;
        self.finish(mount, tree)
    }
}

/// Flags of every filesystem the runtime itself adds.
const DEFAULT_FLAGS: c_ulong = MS_NOEXEC | MS_NOSUID | MS_NODEV;

fn hierarchy_filesystem(hierarchy: &HierarchyView, flags: c_ulong) -> Filesystem {
    Filesystem {
        kind: "cgroup".to_owned(),
        source: "cgroup".to_owned(),
        flags: DEFAULT_FLAGS | (flags & MS_RDONLY),
        options: hierarchy.options.split(',').map(str::to_owned).collect(),
        context: None,
        place: Place::Any,
        copy_up: false,
        root_label: None,
    }
}

/// A detached clone of the mount, or part of one, at `path`.
pub(super) fn clone_tree(path: &Path, recursive: bool) -> rustix::io::Result<OwnedFd> {
    open_tree(CWD, path, clone_flags(recursive))
}

/// A detached clone of what `handle` is on.
pub(super) fn clone_handle(handle: BorrowedFd<'_>, recursive: bool) -> rustix::io::Result<OwnedFd> {
    open_tree(
        handle,
        "",
        clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH,
    )
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags | OpenTreeFlags::AT_RECURSIVE
    } else {
        flags
    }
}

/// Moves the detached mount `tree` onto `onto`.
pub(super) fn attach(tree: BorrowedFd<'_>, onto: BorrowedFd<'_>) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(tree, "", onto, "", flags).context("move_mount")
}

/// Refuses a mount that would let a container lie to the runtime about /proc.
/// `path` is where it really goes, `source` what is bound there, if anything.
fn check_over_proc(path: &Path, source: Option<BorrowedFd<'_>>, is_procfs: bool) -> Result<()> {
    match OverProc::of(path) {
        _ if path == Path::new("/") => bail!("mountpoint {path:?} is on the top of rootfs"),
        OverProc::Outside | OverProc::Coverable => Ok(()),
        OverProc::OnProc if is_procfs => Ok(()),
        OverProc::OnProc => {
            let on_procfs = match source {
                Some(source) => fstatfs(source).context("statfs")?.f_type == PROC_SUPER_MAGIC,
                None => false,
            };
            if !on_procfs {
                bail!("{path:?} cannot be mounted because it is not of type proc");
            }
            Ok(())
        }
        OverProc::Refused => bail!("{path:?} cannot be mounted because it is inside /proc"),
    }
}

/// What became of a filesystem to be mounted.
enum NewMount {
    Detached(OwnedFd),
    /// An option has a value that only mount(2) takes.
    TooLong,
}

impl NewMount {
    fn detached(self) -> Result<OwnedFd> {
        match self {
            NewMount::Detached(tree) => Ok(tree),
            NewMount::TooLong => bail!("a mount option is longer than {LONGEST_VALUE} bytes"),
        }
    }
}

/// A new, detached instance of `filesystem`, its root with `mode`.
fn new_mount(filesystem: &Filesystem, mode: Option<u32>) -> Result<NewMount> {
    let longest = filesystem
        .options
        .iter()
        .map(|option| value(option).1.len())
        .max();
    if longest.unwrap_or(0).max(filesystem.source.len()) > LONGEST_VALUE {
        return Ok(NewMount::TooLong);
    }
    let kind = filesystem.kind.as_str();
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
        .with_context(|| format!("open filesystem type {kind:?}"))?;
    match configure(&context, filesystem, mode) {
        Ok(tree) => Ok(NewMount::Detached(tree)),
        Err(err) => Err(kernel_message(&context, err)),
    }
}

fn configure(context: &OwnedFd, filesystem: &Filesystem, mode: Option<u32>) -> Result<OwnedFd> {
    for word in filesystem_words(filesystem.flags) {
        fsconfig_set_flag(context, word).with_context(|| format!("option {word:?}"))?;
    }
    if !filesystem.source.is_empty() {
        fsconfig_set_string(context, "source", &filesystem.source).context("source")?;
    }
    if let Some(mode) = mode {
        fsconfig_set_string(context, "mode", format!("{mode:04o}")).context("option \"mode\"")?;
    }
    set_options(context, &filesystem.options)?;
    if let Some(label) = &filesystem.context {
        fsconfig_set_string(context, "context", label).context("option \"context\"")?;
    }
    fsconfig_create(context)?;
    let attributes = fsmount_attributes(filesystem.flags);
    Ok(fsmount(context, FsMountFlags::FSMOUNT_CLOEXEC, attributes)?)
}

/// fsmount(2) takes 32 bits of what mount_setattr(2) takes 64 of. All that are
/// defined are among them; others it would refuse.
fn fsmount_attributes(flags: c_ulong) -> MountAttrFlags {
    MountAttrFlags::from_bits_retain(u32::try_from(attributes_of(flags)).unwrap_or(u32::MAX))
}

fn set_options(context: &OwnedFd, options: &[String]) -> Result<()> {
    for option in options {
        match value(option) {
            (word, "") if !option.contains('=') => fsconfig_set_flag(context, word),
            (key, value) => fsconfig_set_string(context, key, value),
        }
        .with_context(|| format!("option {option:?}"))?;
    }
    Ok(())
}

fn value(option: &str) -> (&str, &str) {
    option.split_once('=').unwrap_or((option, ""))
}

/// `err` with what the filesystem says about it, if anything (fsopen(2),
/// "Message retrieval interface").
fn kernel_message(context: &OwnedFd, err: anyhow::Error) -> anyhow::Error {
    let mut message = [0; 256];
    match rustix::io::read(context, &mut message) {
        // "e tmpfs: Unknown parameter 'x'": the first letter is the level.
        Ok(length) if length > 2 => {
            let text = String::from_utf8_lossy(&message[2..length])
                .trim()
                .to_owned();
            err.context(text)
        }
        // No message is the usual case (ENODATA); the error stands alone.
        Ok(_) | Err(_) => err,
    }
}

fn reconfigure(mount: BorrowedFd<'_>, flags: BindFlags, options: &[String]) -> Result<()> {
    let context = fspick(
        mount,
        "",
        FsPickFlags::FSPICK_CLOEXEC | FsPickFlags::FSPICK_EMPTY_PATH,
    )
    .context("fspick")?;
    let change = || -> Result<()> {
        for word in filesystem_words(flags.set) {
            fsconfig_set_flag(&context, word).with_context(|| format!("option {word:?}"))?;
        }
        if flags.set & MS_RDONLY == 0 {
            fsconfig_set_flag(&context, "rw").context("option \"rw\"")?;
        }
        set_options(&context, options)?;
        fsconfig_reconfigure(&context).context("remount")
    };
    change().map_err(|err| kernel_message(&context, err))
}

/// Sets the SELinux label of the root of `mount`.
fn set_label(mount: BorrowedFd<'_>, label: &str) -> Result<()> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(mount, ".", flags, Mode::empty()).context("open")?;
    fsetxattr(
        &root,
        "security.selinux",
        label.as_bytes(),
        XattrFlags::empty(),
    )
    .with_context(|| format!("set label {label:?}"))
}

/// Makes a mount read-only; somebody may still be writing to it for a moment.
pub(super) fn make_readonly(kernel: &Kernel, mount: BorrowedFd<'_>) -> Result<()> {
    for _ in 1..5 {
        match kernel.add_flags(mount, MS_RDONLY) {
            Err(Errno::BUSY) => std::thread::sleep(std::time::Duration::from_millis(100)),
            result => return Ok(result?),
        }
    }
    Ok(kernel.add_flags(mount, MS_RDONLY)?)
}
