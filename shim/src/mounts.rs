//! Mounts a container's root filesystem as containerd asks: the mounts of a snapshot, with
//! the options of fstab(5) and some of containerd's own.
//!
//! It belongs in a job, not in the server, because it blocks and enters a mount namespace
//! of its own. The mounts of config.json are not made here: the runtime makes them.

mod loop_device;
mod options;
mod overlay;
mod unmount;

use std::ffi::CString;
use std::fs::{DirBuilder, read_link};
use std::io::ErrorKind;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat2, statvfs};
use rustix::io::Errno;
use rustix::mount::{
    MountFlags, MoveMountFlags, OpenTreeFlags, mount_remount, move_mount, open_tree,
};
use rustix::param::page_size;
use teu_namespaces::user_namespace;

use crate::proto::types::Mount;
use crate::sys;
use loop_device::LoopDevice;
use options::Options;
pub use unmount::unmount_recursive;

/// Creates the directory `rootfs` and makes all mounts below it, in order.
///
/// # Errors
/// A mount cannot be made. The earlier mounts are then unmounted.
pub fn mount_all(mounts: &[Mount], rootfs: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o711).create(rootfs) {
        Err(err) if err.kind() != ErrorKind::AlreadyExists => {
            return Err(err).with_context(|| format!("make the directory {rootfs:?}"));
        }
        _ => {}
    }
    let mounted = mounts.iter().try_for_each(|mount| mount_one(mount, rootfs));
    if mounted.is_err()
        && let Err(err) = unmount_recursive(rootfs)
    {
        log::warn!("cannot undo earlier mounts: {err:#}");
    }
    mounted.context("failed to mount rootfs component")
}

fn mount_one(mount: &Mount, rootfs: &Path) -> Result<()> {
    let place = Place {
        rootfs,
        path: Path::new(&mount.target),
    };
    let mounted = match helper(&mount.r#type) {
        Some((helper, program)) => mount_with(helper, program, mount, &place),
        None => Options::parse(&mount.options).and_then(|options| attach(mount, &options, &place)),
    };
    mounted.with_context(|| {
        let Mount { r#type, source, .. } = mount;
        format!("mount {source:?} ({type}) on {:?}", place.path)
    })
}

fn attach(mount: &Mount, options: &Options, place: &Place<'_>) -> Result<()> {
    let owners = options.owners.as_ref();
    let owners = owners.map(user_namespace::with_maps).transpose()?;
    let data = options.data.join(",");
    let is_long = data.len() >= page_size();
    if mount.r#type == "overlay" && (is_long || owners.is_some()) {
        return overlay::mount_layers(options, owners.as_ref(), place);
    }
    // mount(2) would cut the options off at the length of a page.
    ensure!(!is_long, "mount options is too long");

    let mut source = Path::new(&mount.source);
    let device;
    if options.on_loop.is_some() {
        device = LoopDevice::attach(source, options)?;
        source = device.path();
    }
    let target = place.proc_path()?;
    let data = CString::new(data)?;
    match options.is_remount {
        true => mount_remount(target.path(), options.flags, data.as_c_str())?,
        false => {
            let kind = mount.r#type.as_str();
            rustix::mount::mount(source, target.path(), kind, options.flags, data.as_c_str())?;
        }
    }
    let read_only_bind = MountFlags::BIND | MountFlags::RDONLY;
    if options.flags.contains(read_only_bind) {
        make_read_only(options.flags, place).context("make the mount read-only")?;
    }
    if let Some(owners) = owners {
        map_owners(&owners, place)?;
    }
    Ok(())
}

/// The helper program that mounts a type, and the FUSE program that the helper is to run.
fn helper(kind: &str) -> Option<(&'static str, &str)> {
    let fuse = kind.strip_prefix("fuse.");
    let fuse3 = kind.strip_prefix("fuse3.");
    let fuse3 = fuse3.map(|program| ("mount.fuse3", program));
    fuse.map(|program| ("mount.fuse", program)).or(fuse3)
}

fn mount_with(helper: &str, program: &str, mount: &Mount, place: &Place<'_>) -> Result<()> {
    let target = place.proc_path()?;
    let mut command = Command::new(helper);
    // The path cannot be replaced meanwhile, because no process is in the container yet.
    command.arg(&mount.source).arg(read_link(target.path())?);
    for option in &mount.options {
        command.args(["-o", option]);
    }
    command.args(["-t", program]);
    let output = command.output().with_context(|| format!("run {helper}"))?;
    if !output.status.success() {
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        bail!("{helper}: {:?}: {}", said.trim(), output.status);
    }
    Ok(())
}

/// A path below the root filesystem, resolved so that it never leads out of it.
struct Place<'a> {
    rootfs: &'a Path,
    path: &'a Path,
}

impl Place<'_> {
    /// Opens the place as it is now: after a mount, the root of that mount.
    fn open(&self) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let root = open(self.rootfs, flags | OFlags::DIRECTORY, Mode::empty())?;
        // "/" is the root itself; it also stands for an empty path.
        let path = Path::new("/").join(self.path);
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        openat2(root, path, flags, Mode::empty(), resolve)
    }

    fn proc_path(&self) -> Result<ProcPath, Errno> {
        self.open().map(ProcPath::new)
    }
}

/// A path of an open file, for system calls that take no descriptor.
struct ProcPath {
    path: PathBuf,
    _open: OwnedFd,
}

impl ProcPath {
    fn new(open: OwnedFd) -> ProcPath {
        ProcPath {
            path: format!("/proc/self/fd/{}", open.as_raw_fd()).into(),
            _open: open,
        }
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// Makes a bind mount read-only. The call that makes the mount ignores this flag.
fn make_read_only(flags: MountFlags, place: &Place<'_>) -> Result<(), Errno> {
    let target = place.proc_path()?;
    match mount_remount(target.path(), flags, c"") {
        // In a user namespace, the flags of the source mount are locked.
        Err(Errno::PERM) => {
            let own = statvfs(target.path())?.f_flag.bits();
            let own = u32::try_from(own).map_err(|_| Errno::OVERFLOW)?;
            let lockable = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
            let locked = MountFlags::from_bits_retain(own) & lockable;
            mount_remount(target.path(), flags | locked, c"")
        }
        done => done,
    }
}

/// Mounts the place over itself with its owners mapped.
fn map_owners(owners: &OwnedFd, place: &Place<'_>) -> Result<()> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let path = place.proc_path()?;
    let tree = open_tree(CWD, path.path(), flags | OpenTreeFlags::AT_RECURSIVE)?;
    sys::map_owners(&tree, owners).context("map the owners (mount_setattr)")?;
    move_onto(&tree, &place.open()?).context("move_mount")
}

fn move_onto(tree: &OwnedFd, target: impl AsFd) -> Result<()> {
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    Ok(move_mount(tree, "", target, "", flags)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::mount::{MountPropagationFlags, mount, mount_change};
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};

    /// A temporary directory. Only this thread sees the mounts in it.
    struct Scratch(PathBuf);

    impl Scratch {
        // Requires root.
        fn new(name: &str) -> Scratch {
            sys::unshare_mounts().expect("unshare");
            let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            mount_change("/", flags).expect("private");
            let path = std::env::temp_dir().join(format!("teu-shim-{}-{name}", std::process::id()));
            fs::create_dir(&path).expect("mkdir");
            mount("tmpfs", &path, "tmpfs", MountFlags::empty(), c"").expect("tmpfs");
            let scratch = Scratch(path);
            scratch.directory("rootfs");
            scratch
        }

        fn directory(&self, name: &str) -> String {
            let path = self.0.join(name);
            fs::create_dir_all(&path).expect("mkdir");
            path.to_str().expect("UTF-8").to_owned()
        }

        fn rootfs(&self) -> PathBuf {
            self.0.join("rootfs")
        }

        /// The types of the mounts in the directory.
        fn mounted(&self) -> Vec<String> {
            let table = fs::read_to_string("/proc/thread-self/mounts").expect("mounts");
            let rows = table
                .lines()
                .map(|line| line.split(' ').collect::<Vec<_>>());
            let rows = rows.filter(|row| Path::new(row[1]).starts_with(self.rootfs()));
            rows.map(|row| row[2].to_owned()).collect()
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            unmount_recursive(&self.0).expect("unmount");
            fs::remove_dir(&self.0).expect("rmdir");
        }
    }

    fn of(kind: &str, source: &str, target: &str, options: &[&str]) -> Mount {
        Mount {
            r#type: kind.to_owned(),
            source: source.to_owned(),
            target: target.to_owned(),
            options: options.iter().map(|word| (*word).to_owned()).collect(),
        }
    }

    fn overlay(scratch: &Scratch, lower: &str, more: &[&str]) -> Mount {
        let lower = format!("lowerdir={lower}");
        let upper = format!("upperdir={}", scratch.directory("upper"));
        let work = format!("workdir={}", scratch.directory("work"));
        of(
            "overlay",
            "overlay",
            "",
            &[&[&*lower, &*upper, &*work], more].concat(),
        )
    }

    #[test]
    fn a_bind_mount_is_read_only_from_the_start() {
        let scratch = Scratch::new("bind");
        let source = scratch.directory("source");
        mount_all(
            &[of("bind", &source, "", &["rbind", "ro"])],
            &scratch.rootfs(),
        )
        .expect("mount");
        let err = fs::write(scratch.rootfs().join("file"), "").expect_err("writable");
        assert_eq!(err.raw_os_error(), Some(libc::EROFS));
        fs::write(Path::new(&source).join("file"), "").expect("the source stays writable");
    }

    #[test]
    fn all_or_nothing() {
        let scratch = Scratch::new("undo");
        let source = scratch.directory("source/sub");
        let source = source.strip_suffix("/sub").expect("suffix");
        let good = [
            of("bind", source, "", &["bind"]),
            of("tmpfs", "tmpfs", "sub", &["size=4k"]),
            of("tmpfs", "tmpfs", "/sub", &["size=8k"]),
        ];
        mount_all(&good, &scratch.rootfs()).expect("mount");
        assert_eq!(scratch.mounted(), ["tmpfs"; 3]);
        unmount_recursive(&scratch.rootfs()).expect("unmount");
        assert_eq!(scratch.mounted(), [""; 0]);
        unmount_recursive(&scratch.rootfs()).expect("once more");

        let bad = of("tmpfs", "tmpfs", "missing", &[]);
        let all = [good.as_slice(), &[bad]].concat();
        let err = mount_all(&all, &scratch.rootfs()).expect_err("mounted");
        let words = "failed to mount rootfs component: mount \"tmpfs\" (tmpfs) on \"missing\": No such file or directory";
        assert!(format!("{err:#}").starts_with(words), "{err:#}");
        assert_eq!(scratch.mounted(), [""; 0]);
    }

    #[test]
    fn a_target_stays_in_the_root_filesystem() {
        let scratch = Scratch::new("inside");
        let source = scratch.directory("source");
        let outside = scratch.directory("outside");
        symlink(&outside, Path::new(&source).join("absolute")).expect("link");
        symlink("../../outside", Path::new(&source).join("relative")).expect("link");
        for target in ["absolute", "relative", "../outside"] {
            let mounts = [
                of("bind", &source, "", &["bind"]),
                of("tmpfs", "tmpfs", target, &[]),
            ];
            mount_all(&mounts, &scratch.rootfs()).expect_err(target);
        }
    }

    #[test]
    fn an_overlay_has_more_layers_than_a_page_has_names() {
        let scratch = Scratch::new("layers");
        let layers: Vec<String> = (0..120)
            .map(|number| {
                let layer = scratch.directory(&format!("snapshots/{number}/fs"));
                fs::write(Path::new(&layer).join(format!("from{number}")), "").expect("write");
                layer
            })
            .collect();
        let lower = layers.join(":");
        assert!(lower.len() > page_size());
        mount_all(&[overlay(&scratch, &lower, &[])], &scratch.rootfs()).expect("mount");
        assert_eq!(fs::read_dir(scratch.rootfs()).expect("read").count(), 120);
        fs::write(scratch.rootfs().join("new"), "").expect("write");
        assert!(scratch.0.join("upper/new").exists());
        // The thread is back in its first namespace, and no other mount is left.
        assert_eq!(scratch.mounted(), ["overlay"]);
        unmount_recursive(&scratch.rootfs()).expect("unmount");

        let mut data = overlay(&scratch, &lower, &[]);
        data.r#type = "tmpfs".to_owned();
        let err = mount_all(&[data], &scratch.rootfs()).expect_err("cut off");
        assert!(format!("{err:#}").ends_with("mount options is too long"));
    }

    #[test]
    fn layers_have_other_owners() {
        let scratch = Scratch::new("owners");
        let lower = [scratch.directory("one"), scratch.directory("two")];
        fs::write(Path::new(&lower[1]).join("file"), "").expect("write");
        let maps = ["uidmap=0:7000:100", "gidmap=0:8000:100"];
        let mounts = [overlay(&scratch, &lower.join(":"), &maps)];
        mount_all(&mounts, &scratch.rootfs()).expect("mount");
        let file = fs::metadata(scratch.rootfs().join("file")).expect("stat");
        assert_eq!((file.uid(), file.gid()), (7000, 8000));
        assert_eq!(scratch.mounted(), ["overlay"]);
    }

    #[test]
    fn a_bind_mount_has_other_owners() {
        let scratch = Scratch::new("bind-owners");
        let source = scratch.directory("source");
        fs::write(Path::new(&source).join("file"), "").expect("write");
        let words = ["rbind", "ro", "uidmap=0:7000:100", "gidmap=0:8000:100"];
        mount_all(&[of("bind", &source, "", &words)], &scratch.rootfs()).expect("mount");
        let file = scratch.rootfs().join("file");
        let owner = fs::metadata(&file).expect("stat");
        assert_eq!((owner.uid(), owner.gid()), (7000, 8000));
        fs::write(&file, "").expect_err("writable");
    }

    #[test]
    fn an_image_is_read_through_a_loop_device() {
        let scratch = Scratch::new("loop");
        let image = scratch.0.join("image");
        fs::write(&image, vec![0; 1 << 20]).expect("write");
        let made = Command::new("mkfs.ext4").arg("-q").arg(&image).status();
        assert!(made.expect("mkfs.ext4").success());
        let source = image.to_str().expect("UTF-8");
        for words in [&["loop"][..], &["ro", "loop"]] {
            mount_all(&[of("ext4", source, "", words)], &scratch.rootfs()).expect("mount");
            assert!(scratch.rootfs().join("lost+found").exists());
            unmount_recursive(&scratch.rootfs()).expect("unmount");
        }
    }

    #[test]
    fn a_helper_mounts_fuse() {
        let overlayfs = Some(("mount.fuse3", "fuse-overlayfs"));
        assert_eq!(helper("fuse3.fuse-overlayfs"), overlayfs);
        assert_eq!(helper("fuse.x"), Some(("mount.fuse", "x")));
        assert_eq!(helper("fuseblk"), None);

        let scratch = Scratch::new("fuse");
        let bad = of("fuse.teu-missing", "source", "", &["allow_other"]);
        let err = mount_all(&[bad], &scratch.rootfs()).expect_err("mounted");
        assert!(format!("{err:#}").contains("mount.fuse"), "{err:#}");
    }
}
