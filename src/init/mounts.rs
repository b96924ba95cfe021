//! Makes the mounts of the plan, in the mount namespace of the container.
//!
//! A mount is made or cloned as a detached mount, gets its flags, and is moved onto a
//! descriptor of its destination (move_mount(2), Linux 5.2), so that no path is looked
//! up between a check and the mount. Propagation and recursive attributes come last.
//! Not for the root filesystem itself: see `rootfs.rs`.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use libc::{MS_NODEV, MS_NOEXEC, MS_NOSUID, MS_PRIVATE, MS_RDONLY, c_ulong};
use rustix::fs::{
    Mode, OFlags, PROC_SUPER_MAGIC, XattrFlags, fsetxattr, fstat, fstatfs, mkdirat, openat,
    symlinkat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, fsconfig_create, fsconfig_reconfigure,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, fspick,
};

use super::copy_up::copy_up;
use super::detached::{attach, clone_handle, clone_tree, cover, make_readonly};
use super::mount_attributes::Kernel;
use super::paths::{Root, is_directory};
use crate::pipe::InitEnd;
use teu_cgroups::HierarchyView;
use teu_plan::mount_options::{attributes_of, filesystem_words};
use teu_plan::mounts::{
    Bind, BindFlags, CgroupV1, CgroupV2, Filesystem, Mount, MountKind, OverProc, Place, Remount,
};

/// The longest value that fsconfig(2) takes.
const LONGEST_VALUE: usize = 255;

/// The longest string of options that mount(2) takes where a page is smallest. mount(2)
/// cuts off the rest without an error.
const LONGEST_OPTIONS: usize = 4095;

/// Makes mounts below one root filesystem.
#[derive(Debug)]
pub(super) struct Mounter<'a> {
    pub(super) root: &'a Root,
    pub(super) kernel: &'a Kernel,
    pub(super) pipe: &'a mut InitEnd,
    pub(super) kept: &'a mut Kept,
}

/// Handles on the roots of mounts that still have to be changed, by the number of the
/// mount in the plan.
#[derive(Debug, Default)]
pub(super) struct Kept(Vec<(usize, OwnedFd)>);

impl Kept {
    pub(super) fn get(&self, number: usize) -> Option<BorrowedFd<'_>> {
        let mut all = self.0.iter();
        let (_, mount) = all.find(|(kept, _)| *kept == number)?;
        Some(mount.as_fd())
    }

    /// Makes those mounts read-only that are to be read-only at the end. `mounts` are
    /// all mounts of the plan.
    pub(super) fn make_readonly(&self, kernel: &Kernel, mounts: &[Mount]) -> Result<()> {
        for (number, mount) in &self.0 {
            let planned = &mounts[*number];
            if planned.readonly_at_end {
                make_readonly(kernel, mount.as_fd())
                    .with_context(|| format!("remount {:?} read-only", planned.destination))?;
            }
        }
        Ok(())
    }
}

impl Mounter<'_> {
    /// Makes `mount`, which has the number `index` in the plan.
    pub(super) fn make(&mut self, index: usize, mount: &Mount) -> Result<()> {
        let made = self.make_kind(index, mount).with_context(|| {
            format!(
                "error mounting {:?} to rootfs at {:?}",
                mount.source, mount.destination
            )
        })?;
        if mount.readonly_at_end || mount.holds_restricted_paths {
            self.kept.0.push((index, made));
        }
        Ok(())
    }

    /// Makes the mount and returns a handle on its root.
    fn make_kind(&mut self, index: usize, mount: &Mount) -> Result<OwnedFd> {
        match &mount.kind {
            MountKind::Bind(bind) => self.bind(index, mount, bind),
            MountKind::Filesystem(filesystem) => self.filesystem(mount, filesystem),
            MountKind::Remount(remount) => self.remount(mount, remount),
            MountKind::CgroupV1(cgroup) => self.cgroup_v1(mount, cgroup),
            MountKind::CgroupV2(cgroup) => self.cgroup_v2(index, mount, cgroup),
        }
    }

    fn bind(&mut self, index: usize, mount: &Mount, bind: &Bind) -> Result<OwnedFd> {
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

    /// Makes a detached clone of the source.
    fn open_source(&mut self, index: usize, bind: &Bind) -> Result<OwnedFd> {
        if bind.id_map.is_some() || bind.out_of_sight {
            return self.pipe.open_mount_source(index);
        }
        match clone_tree(&bind.source, bind.recursive) {
            Ok(tree) => Ok(tree),
            // Root of a user namespace may lack a permission that root of the host has.
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

    fn filesystem(&mut self, mount: &Mount, filesystem: &Filesystem) -> Result<OwnedFd> {
        let (onto, mode) = self.place(mount, filesystem)?;
        let tree = self.new_mount(filesystem, mode, onto.as_fd())?;
        if filesystem.copy_up {
            copy_up(onto.as_fd(), tree.as_fd(), self.kernel.procfs()?)
                .with_context(|| format!("tmpcopyup: copy {:?}", mount.destination))?;
        }
        attach(tree.as_fd(), onto.as_fd())?;
        if let Some(label) = &filesystem.root_label {
            set_label(tree.as_fd(), label)?;
        }
        self.finish(mount, tree)
    }

    /// Returns where to mount a filesystem, and the mode that its root is to have if
    /// the mode depends on the place.
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
        // The kernel reports ENOTDIR for a link, too.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let found = match openat(&parent, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                mkdirat(&parent, name, Mode::from_raw_mode(0o755))
                    .with_context(|| format!("make mountpoint {path:?}"))?;
                openat(&parent, name, flags, Mode::empty())
            }
            found => found,
        };
        match found {
            Err(Errno::NOTDIR) => {
                bail!("filesystem {kind:?} must be mounted on ordinary directory")
            }
            found => found.with_context(|| format!("open mountpoint {path:?}")),
        }
    }

    /// Makes a detached instance of `filesystem` whose root has `mode`. It will be
    /// attached to `onto`.
    fn new_mount(
        &self,
        filesystem: &Filesystem,
        mode: Option<u32>,
        onto: BorrowedFd<'_>,
    ) -> Result<OwnedFd> {
        if fsconfig_takes(filesystem) {
            return by_fsconfig(filesystem, mode);
        }
        let options = joined_options(filesystem, mode);
        if options.len() <= LONGEST_OPTIONS {
            return self.by_string(filesystem, &options, onto);
        }
        let too_long = || {
            format!(
                "mounts[].options are {} bytes long, more than the {LONGEST_OPTIONS} of mount(2)",
                options.len()
            )
        };
        let apart = with_layers_apart(filesystem);
        if !fsconfig_takes(&apart) {
            bail!(too_long());
        }
        by_fsconfig(&apart, mode).map_err(|err| match err.downcast_ref() {
            // A kernel that knows no option for a single layer reports EINVAL.
            Some(&Errno::INVAL) => err.context(too_long()),
            _ => err,
        })
    }

    /// Makes the instance with mount(2), which needs a mountpoint. The mountpoint is in
    /// a tmpfs that covers `onto` meanwhile, so that no other process can exchange it.
    fn by_string(
        &self,
        filesystem: &Filesystem,
        options: &str,
        onto: BorrowedFd<'_>,
    ) -> Result<OwnedFd> {
        let stage = by_fsconfig(&tmpfs("mode=700"), None).context("make a stage")?;
        mkdirat(&stage, "mount", Mode::from_raw_mode(0o700)).context("mkdir on the stage")?;
        attach(stage.as_fd(), onto)?;
        let made = self.mount_on_stage(filesystem, options, stage.as_fd());
        let detached = self.kernel.detach(stage.as_fd());
        made.and_then(|made| detached.context("unmount the stage").map(|()| made))
    }

    fn mount_on_stage(
        &self,
        filesystem: &Filesystem,
        options: &str,
        stage: BorrowedFd<'_>,
    ) -> Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = || openat(stage, "mount", flags, Mode::empty()).context("open on the stage");
        // A mount on a shared mount becomes shared. The stage is shared if `onto` is on a
        // shared mount.
        self.kernel
            .set_propagation(stage, MS_PRIVATE)
            .context("make the stage private")?;
        self.kernel
            .mount_by_string(filesystem, options, open()?.as_fd())?;
        clone_handle(open()?.as_fd(), false).context("open_tree")
    }

    fn remount(&mut self, mount: &Mount, remount: &Remount) -> Result<OwnedFd> {
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

    /// Sets the propagation and the recursive attributes of a mount that is in place.
    fn finish(&mut self, mount: &Mount, tree: OwnedFd) -> Result<OwnedFd> {
        for propagation in &mount.propagation {
            self.kernel.set_propagation(tree.as_fd(), *propagation)?;
        }
        if let Some(attributes) = mount.recursive {
            self.kernel
                .change_all(tree.as_fd(), attributes)
                .context("set recursive attributes")?;
        }
        Ok(tree)
    }

    fn cgroup_v1(&mut self, mount: &Mount, cgroup: &CgroupV1) -> Result<OwnedFd> {
        let tmpfs = tmpfs("mode=755");
        let (onto, _) = self.place(mount, &tmpfs)?;
        let tree = self.new_mount(&tmpfs, None, onto.as_fd())?;
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
            let tree = self.new_mount(&hierarchy, None, onto.as_fd())?;
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

    fn cgroup_v2(&mut self, index: usize, mount: &Mount, cgroup: &CgroupV2) -> Result<OwnedFd> {
        let (onto, _) = self.place(mount, &cgroup.filesystem)?;
        let refused = match self.new_mount(&cgroup.filesystem, None, onto.as_fd()) {
            Ok(tree) => {
                attach(tree.as_fd(), onto.as_fd())?;
                return self.finish(mount, tree);
            }
            Err(err) => err,
        };
        // The kernel refuses in a user namespace without a cgroup namespace of its own.
        if !matches!(refused.downcast_ref(), Some(&(Errno::PERM | Errno::BUSY))) {
            return Err(refused);
        }
        let fallback = &cgroup.fallback;
        let tree = match clone_tree(&fallback.source, fallback.recursive) {
            Ok(tree) => tree,
            Err(Errno::ACCESS) => self.pipe.open_mount_source(index)?,
            Err(Errno::NOENT) if cgroup.hide_if_missing => {
                return cover(onto.as_fd());
            }
            Err(err) => return Err(err).with_context(|| format!("open {:?}", fallback.source)),
        };
        self.attach_bind(&tree, onto.as_fd(), fallback.flags)?;
        self.finish(mount, tree)
    }
}

/// The flags of each filesystem that the runtime itself adds.
const DEFAULT_FLAGS: c_ulong = MS_NOEXEC | MS_NOSUID | MS_NODEV;

fn tmpfs(mode: &str) -> Filesystem {
    Filesystem {
        kind: "tmpfs".to_owned(),
        source: "tmpfs".to_owned(),
        flags: DEFAULT_FLAGS,
        options: vec![mode.to_owned()],
        context: None,
        place: Place::Any,
        copy_up: false,
        root_label: None,
    }
}

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

/// Refuses a mount on or in /proc that could deceive the runtime. `path` is the real
/// destination, and `source` the tree that is bound there, if any.
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

fn fsconfig_takes(filesystem: &Filesystem) -> bool {
    let options = filesystem.options.iter();
    let values = options.map(|option| value(option).1);
    let label = filesystem.context.as_deref();
    values
        .chain([filesystem.source.as_str()])
        .chain(label)
        .all(|value| value.len() <= LONGEST_VALUE)
}

/// Joins the options in the form that mount(2) takes.
fn joined_options(filesystem: &Filesystem, mode: Option<u32>) -> String {
    let mut options = Vec::new();
    options.extend(mode.map(|mode| format!("mode={mode:04o}")));
    options.extend_from_slice(&filesystem.options);
    let label = filesystem.context.as_ref();
    options.extend(label.map(|label| format!("context=\"{label}\"")));
    options.join(",")
}

/// Returns an overlay with an option for each layer in place of `lowerdir`, as Linux
/// 6.8 and later take it (kernel, overlayfs.rst). Data-only layers (`::`) stay as they
/// are.
fn with_layers_apart(filesystem: &Filesystem) -> Filesystem {
    let mut apart = filesystem.clone();
    if filesystem.kind != "overlay" {
        return apart;
    }
    apart.options.clear();
    for option in &filesystem.options {
        match option.strip_prefix("lowerdir=").map(layers) {
            Some(layers) if layers.iter().all(|layer| !layer.is_empty()) => {
                let options = layers.iter().map(|layer| format!("lowerdir+={layer}"));
                apart.options.extend(options);
            }
            _ => apart.options.push(option.clone()),
        }
    }
    apart
}

/// Splits `lowerdir` into the names of its layers. A backslash escapes the next
/// character.
fn layers(lowerdir: &str) -> Vec<String> {
    let (mut layers, mut layer) = (Vec::new(), String::new());
    let mut characters = lowerdir.chars();
    while let Some(character) = characters.next() {
        match character {
            ':' => layers.push(std::mem::take(&mut layer)),
            '\\' => layer.extend(characters.next()),
            _ => layer.push(character),
        }
    }
    layers.push(layer);
    layers
}

/// Makes a detached instance of `filesystem` whose root has `mode`.
fn by_fsconfig(filesystem: &Filesystem, mode: Option<u32>) -> Result<OwnedFd> {
    let kind = filesystem.kind.as_str();
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)
        .with_context(|| format!("open filesystem type {kind:?}"))?;
    match configure(&context, filesystem, mode) {
        Ok(tree) => Ok(tree),
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

/// Converts flags to attributes of fsmount(2), which takes 32 bits while
/// mount_setattr(2) takes 64. All defined attributes fit in 32 bits, and fsmount(2)
/// refuses others.
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

/// Adds the filesystem's own message to `err`, if there is one (fsopen(2), "Message
/// retrieval interface").
fn kernel_message(context: &OwnedFd, err: anyhow::Error) -> anyhow::Error {
    let mut message = [0; 256];
    match rustix::io::read(context, &mut message) {
        // The first letter of "e tmpfs: Unknown parameter 'x'" is the level.
        Ok(length) if length > 2 => {
            let text = String::from_utf8_lossy(&message[2..length])
                .trim()
                .to_owned();
            err.context(text)
        }
        // Usually there is no message (ENODATA), and `err` stands alone.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::init::paths::tests::private_root;
    use crate::testing::words;
    use std::fs;
    use std::io::ErrorKind;
    use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
    use teu_namespaces::NamespacePlan;
    use teu_plan::mounts::{Surroundings, mounts};

    /// Makes the mounts of `json` below `root`, and then changes those that are kept
    /// for the end.
    fn make_all(directory: &Path, root: &Root, json: &str) -> Result<()> {
        let listed: Vec<oci_spec::runtime::Mount> = crate::testing::read(json);
        let around = Surroundings {
            bundle_dir: directory,
            rootfs: directory,
            namespaces: &NamespacePlan::default(),
            cgroup: None,
            unprivileged: false,
            rootless: false,
            label: "",
        };
        let planned = mounts(&listed, &around).expect("planned");
        let (_host, mut pipe) = crate::pipe::pair().expect("pair");
        let kernel = Kernel::default();
        let mut kept = Kept::default();
        let mut mounter = Mounter {
            root,
            kernel: &kernel,
            pipe: &mut pipe,
            kept: &mut kept,
        };
        for (index, mount) in planned.iter().enumerate() {
            mounter.make(index, mount)?;
        }
        kept.make_readonly(&kernel, &planned)
    }

    fn refusal(directory: &Path, root: &Root, json: &str) -> String {
        words(&make_all(directory, root, json).expect_err("refused"))
    }

    #[test]
    fn a_tmpfs_keeps_the_mode_of_its_place_and_is_readonly_at_last() {
        private_root("mounts", |directory, root| {
            let tmp = directory.join("tmp");
            fs::create_dir(&tmp).expect("mkdir");
            fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1750)).expect("chmod");
            let json = r#"[{"destination":"/tmp","type":"tmpfs","source":"x","options":["ro"]}]"#;
            make_all(directory, root, json).expect("mounted");
            let found = fs::metadata(&tmp).expect("stat");
            assert_eq!(found.mode() & 0o7777, 0o1750);
            assert_ne!(found.dev(), fs::metadata(directory).expect("stat").dev());
            let write = fs::write(tmp.join("x"), "").expect_err("refused");
            assert_eq!(write.kind(), ErrorKind::ReadOnlyFilesystem);
        });
    }

    #[test]
    fn recursive_words_count_for_a_filesystem() {
        private_root("mounts", |directory, root| {
            let json = r#"[{"destination":"/a","type":"tmpfs","options":["rro","rnoexec"]}]"#;
            make_all(directory, root, json).expect("mounted");
            let flags = rustix::fs::statvfs(directory.join("a"))
                .expect("statvfs")
                .f_flag;
            let wanted =
                rustix::fs::StatVfsMountFlags::RDONLY | rustix::fs::StatVfsMountFlags::NOEXEC;
            assert!(flags.contains(wanted), "{flags:?}");
        });
    }

    #[test]
    fn a_copied_up_tmpfs_has_what_it_covers() {
        private_root("mounts", |directory, root| {
            let data = directory.join("data");
            fs::create_dir_all(data.join("sub")).expect("mkdir");
            fs::write(data.join("sub/file"), "text").expect("write");
            let mode = fs::Permissions::from_mode(0o4711);
            fs::set_permissions(data.join("sub/file"), mode).expect("chmod");
            std::os::unix::fs::chown(data.join("sub"), Some(7), Some(8)).expect("chown");
            symlink("/outside", data.join("link")).expect("symlink");
            let fifo = rustix::fs::FileType::Fifo;
            rustix::fs::mknodat(
                rustix::fs::CWD,
                data.join("fifo"),
                fifo,
                Mode::from_raw_mode(0o600),
                0,
            )
            .expect("mkfifo");
            let json = r#"[{"destination":"/data","type":"tmpfs","options":["tmpcopyup"]}]"#;
            make_all(directory, root, json).expect("mounted");
            let file = fs::metadata(data.join("sub/file")).expect("stat");
            assert_eq!(file.mode() & 0o7777, 0o4711);
            assert_eq!(fs::read(data.join("sub/file")).expect("read"), b"text");
            let sub = fs::metadata(data.join("sub")).expect("stat");
            assert_eq!((sub.uid(), sub.gid()), (7, 8));
            assert_eq!(
                fs::read_link(data.join("link")).expect("link"),
                Path::new("/outside")
            );
            assert!(
                fs::metadata(data.join("fifo"))
                    .expect("stat")
                    .file_type()
                    .is_fifo()
            );
        });
    }

    #[test]
    fn long_options_go_through_mount() {
        private_root("mounts", |directory, root| {
            let lower: Vec<String> = (0..9)
                .map(|n| format!("{}/{}{n}", directory.display(), "x".repeat(40)))
                .collect();
            for (number, path) in lower.iter().enumerate() {
                fs::create_dir(path).expect("mkdir");
                fs::write(Path::new(path).join(format!("file{number}")), "").expect("write");
            }
            let json = format!(
                r#"[{{"destination":"/merged","type":"overlay","source":"overlay",
                "options":["ro","rnosuid","lowerdir={}"]}}]"#,
                lower.join(":")
            );
            make_all(directory, root, &json).expect("mounted");
            for number in 0..lower.len() {
                assert!(directory.join(format!("merged/file{number}")).exists());
            }
            let flags = rustix::fs::statvfs(directory.join("merged"))
                .expect("statvfs")
                .f_flag;
            assert!(
                flags.contains(rustix::fs::StatVfsMountFlags::NOSUID),
                "{flags:?}"
            );
        });
    }

    #[test]
    fn layers_are_split_at_colons_that_mean_it() {
        assert_eq!(layers(r"/a:/b\:c\\:/d,e"), ["/a", r"/b:c\", "/d,e"]);
        assert_eq!(layers("/a::/b"), ["/a", "", "/b"]);
    }

    #[test]
    fn a_mount_can_be_changed() {
        private_root("mounts", |directory, root| {
            let json = r#"[{"destination":"/a","type":"tmpfs","source":"x"},
                {"destination":"/a","options":["remount","bind","ro","nodev"]}]"#;
            make_all(directory, root, json).expect("mounted");
            let write = fs::write(directory.join("a/x"), "").expect_err("refused");
            assert_eq!(write.kind(), ErrorKind::ReadOnlyFilesystem);
            let json = r#"[{"destination":"/a","options":["remount","rw","size=8k"]}]"#;
            make_all(directory, root, json).expect("remounted");
            fs::write(directory.join("a/x"), "").expect("write");
            let table = fs::read_to_string("/proc/self/mountinfo").expect("read");
            assert!(
                table
                    .lines()
                    .any(|line| line.contains("/a ") && line.contains("size=8k"))
            );
        });
    }

    #[test]
    fn proc_cannot_be_reached_through_a_link() {
        private_root("mounts", |directory, root| {
            fs::create_dir(directory.join("source")).expect("mkdir");
            fs::create_dir(directory.join("proc")).expect("mkdir");
            symlink("/proc", directory.join("innocent")).expect("symlink");
            symlink("proc/sys", directory.join("dangling")).expect("symlink");
            symlink("/", directory.join("top")).expect("symlink");
            for (destination, why) in [
                (
                    "/innocent",
                    "\"/proc\" cannot be mounted because it is not of type proc",
                ),
                (
                    "/dangling",
                    "\"/proc/sys\" cannot be mounted because it is inside /proc",
                ),
                (
                    "/innocent/self/attr",
                    "cannot be mounted because it is inside /proc",
                ),
                ("/top", "is on the top of rootfs"),
            ] {
                for kind in [r#""type":"bind","source":"source""#, r#""type":"tmpfs""#] {
                    let json = format!(r#"[{{"destination":"{destination}",{kind}}}]"#);
                    let refusal = refusal(directory, root, &json);
                    assert!(refusal.contains(why), "{refusal}");
                }
            }
            let json = r#"[{"destination":"/innocent","type":"proc","source":"proc"}]"#;
            let refusal = refusal(directory, root, json);
            let words = "filesystem \"proc\" must be mounted on ordinary directory";
            assert!(refusal.ends_with(words), "{refusal}");
        });
    }

    #[test]
    fn a_procfs_may_be_bound_on_proc_and_files_in_it_covered() {
        private_root("mounts", |directory, root| {
            fs::write(directory.join("uptime"), "1 1").expect("write");
            let json = r#"[{"destination":"/proc","type":"bind","source":"/proc"},
                {"destination":"/proc/uptime","type":"bind","source":"uptime"}]"#;
            make_all(directory, root, json).expect("mounted");
            assert_eq!(
                fs::read(directory.join("proc/uptime")).expect("read"),
                b"1 1"
            );
        });
    }

    #[test]
    fn errors_name_the_mount_and_the_cause() {
        private_root("mounts", |directory, root| {
            fs::write(directory.join("file"), "").expect("write");
            for (mount, why) in [
                (
                    r#""type":"bind","source":"/nowhere""#,
                    "error mounting \"/nowhere\" to rootfs at \"/d\": open \"/nowhere\": no such file or directory",
                ),
                (
                    r#""type":"tmpfs","source":"t","options":["nonsense=1"]"#,
                    "error mounting \"t\" to rootfs at \"/d\": tmpfs: Unknown parameter 'nonsense': option \"nonsense=1\": invalid argument",
                ),
                (
                    r#""type":"nofs","source":"n""#,
                    "error mounting \"n\" to rootfs at \"/d\": open filesystem type \"nofs\": no such device",
                ),
            ] {
                let json = format!(r#"[{{"destination":"/d",{mount}}}]"#);
                assert_eq!(refusal(directory, root, &json), why);
            }
            let json = r#"[{"destination":"/file","type":"tmpfs","source":"t"}]"#;
            let refusal = refusal(directory, root, json);
            assert!(refusal.ends_with(": not a directory"), "{refusal}");
        });
    }
}
