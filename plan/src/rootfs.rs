//! DECIDE: the container's root filesystem: its place, its mounts, the way in which the
//! process enters it, and the paths that are hidden or read-only. Not for /dev: see
//! `devices.rs`.

use anyhow::{Context, Result, bail, ensure};
use teu_cgroups_types::Layout;
use teu_gpu_types::{Cover, Edits, Link};
use teu_namespaces_types::{Kind, NamespacePlan};

use super::devices::{Devices, devices};
use super::mount_options::MountOptions;
use super::mounts::{Mount, Surroundings, clean, has_nul, is_at_or_below, mounts};
use super::seen::Seen;
use crate::mount_flags::{MS_PRIVATE, MS_REC, MS_SHARED, MS_SLAVE, MS_UNBINDABLE};
use crate::prelude::*;
use oci_spec::runtime::Spec;

/// The plan of the root filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootfsPlan {
    /// The absolute path on the host, without symbolic links.
    pub path: PathBuf,
    /// The propagation (`MS_*`) that the host's mounts get in the container's mount
    /// namespace. `None` if the container has no mount namespace of its own.
    pub host_propagation: Option<u64>,
    /// Whether the mount that holds the root filesystem may still be shared after that.
    pub host_mounts_may_be_shared: bool,
    /// Whether mounts that the host makes later in the root filesystem appear in the
    /// container (`rootfsPropagation: slave`).
    pub follows_host_mounts: bool,
    /// The propagation (`MS_*`) that the container's "/" gets when it is in place.
    pub propagation: Option<u64>,
    /// In this order.
    pub mounts: Vec<Mount>,
    /// The plan of /dev; `None` if /dev is the host's.
    pub devices: Option<Devices>,
    /// The links to make after all mounts.
    pub links: Vec<Link>,
    /// Directories to cover, so that they show other files. A directory that does not exist
    /// is skipped.
    pub covers: Vec<Cover>,
    pub entrance: Entrance,
    /// Whether init unshares the cgroup namespace, which must be done before a `cgroup`
    /// mount and before the hooks.
    pub unshare_cgroup_namespace: bool,
    /// Whether "/" becomes read-only.
    pub readonly: bool,
    /// The read-only paths, each once. They are set up in this order and before the masked
    /// paths.
    pub readonly_paths: Vec<RestrictedPath>,
    /// The masked paths, each once. They are set up in this order.
    pub masked_paths: Vec<RestrictedPath>,
    /// The SELinux context of files that teu itself makes: the filesystem that masks
    /// directories, and device nodes that the parent makes.
    pub mount_label: Option<String>,
}

/// A path that the container may not see, or may only read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestrictedPath {
    /// The path in the container, clean and absolute.
    pub path: PathBuf,
    /// The procfs or sysfs in which the path is looked up. If it was looked up by name, a
    /// process that can write to the root filesystem could replace /proc by another
    /// directory for a moment, and the path would seem to be missing.
    pub inside: Option<Inside>,
}

/// A path in a mount of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inside {
    /// The index of the mount.
    pub mount: usize,
    /// The path, relative to the root of the mount.
    pub path: PathBuf,
}

/// The way in which the process enters its root filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Entrance {
    /// Uses pivot_root(2).
    Pivot,
    /// Moves the root filesystem's mount to "/" (`--no-pivot`), for hosts on which
    /// pivot_root is not possible because their root is a ramfs.
    Move,
    /// Uses chroot(2), because without a mount namespace no mount can be moved.
    Chroot,
}

/// The facts from which the root filesystem's plan is made.
#[derive(Debug)]
pub struct RootfsInput<'a> {
    pub spec: &'a Spec,
    /// The absolute path of the bundle.
    pub bundle_dir: &'a Path,
    pub seen: &'a Seen,
    pub namespaces: &'a NamespacePlan,
    /// The cgroups that mounts of the type `cgroup` show.
    pub cgroup: Option<&'a Layout>,
    /// Whether `--no-pivot` is set.
    pub no_pivot: bool,
    /// The edits that `spec` already has, for their parts that a specification cannot
    /// express.
    pub edits: &'a Edits,
}

impl RootfsPlan {
    /// Decides about the root filesystem.
    ///
    /// # Errors
    /// Returns an error that names the field if one is missing, contradicts another or is
    /// not possible on this host.
    pub fn new(input: &RootfsInput<'_>) -> Result<RootfsPlan> {
        let spec = input.spec;
        let root = spec.root().as_ref().context("root must be specified")?;
        let path = rootfs_path(&input.seen.rootfs, input.bundle_dir, root.path())?;
        let linux = spec.linux().as_ref();
        let label = linux.and_then(|linux| linux.mount_label().as_deref());
        let label = label.unwrap_or_default();
        let mut mounts = mounts(
            spec.mounts().as_deref().unwrap_or_default(),
            &Surroundings {
                bundle_dir: input.bundle_dir,
                rootfs: &path,
                unprivileged: input.seen.caller.is_unprivileged,
                rootless: input.seen.caller.is_rootless(),
                namespaces: input.namespaces,
                cgroup: input.cgroup,
                label,
            },
        )?;
        let entrance = entrance(input);
        let word = linux.and_then(|linux| linux.rootfs_propagation().as_deref());
        let propagation = propagation(word.unwrap_or_default(), entrance)?;
        let private = input.namespaces.is_private(Kind::Mount);
        let readonly = linux.and_then(|linux| linux.readonly_paths().as_deref());
        let masked = linux.and_then(|linux| linux.masked_paths().as_deref());
        let (readonly, masked) = (readonly.unwrap_or_default(), masked.unwrap_or_default());
        let restricts = !masked.is_empty() || !readonly.is_empty();
        if restricts && !private {
            bail!("unable to restrict sys entries without a private MNT namespace");
        }
        let readonly_paths = readonly_paths(readonly, &mounts);
        let masked_paths = masked_paths(masked, &mounts, &readonly_paths);
        hold(&mut mounts, readonly_paths.iter().chain(&masked_paths));
        let listed = linux.and_then(|linux| linux.devices().as_deref());
        let listed = listed.unwrap_or_default();
        let devices = devices(listed, input.edits, input.seen, input.namespaces)?;
        let host_propagation = propagation.unwrap_or(DEFAULT_PROPAGATION);
        // Without a mount namespace of the container, a cover would hide files from the
        // host.
        let covers = private.then(|| input.edits.covers.clone());
        Ok(RootfsPlan {
            path,
            host_propagation: private.then_some(host_propagation),
            host_mounts_may_be_shared: !leaves_nothing_shared(host_propagation),
            follows_host_mounts: propagation.is_some_and(|flags| flags & MS_SLAVE != 0),
            // A slave or private "/" has this propagation already from `host_propagation`.
            propagation: propagation
                .filter(|flags| private && flags & (MS_SHARED | MS_UNBINDABLE) != 0),
            devices: (!mounts.iter().any(Mount::is_bind_on_dev)).then_some(devices),
            mounts,
            links: input.edits.links.clone(),
            covers: covers.unwrap_or_default(),
            entrance,
            unshare_cgroup_namespace: input.namespaces.is_new(Kind::Cgroup),
            readonly: root.readonly().unwrap_or(false) && private,
            readonly_paths,
            masked_paths,
            mount_label: (!label.is_empty()).then(|| label.to_owned()),
        })
    }
}

const DEFAULT_PROPAGATION: u64 = MS_SLAVE | MS_REC;

fn leaves_nothing_shared(propagation: u64) -> bool {
    propagation & MS_REC != 0 && propagation & (MS_SLAVE | MS_PRIVATE) != 0
}

/// Returns the path of the root filesystem of the bundle in `bundle_dir`, or `None` if the
/// specification has no valid path.
pub fn root_path(spec: &Spec, bundle_dir: &Path) -> Option<PathBuf> {
    let path = spec.root().as_ref()?.path();
    let is_path = !path.as_os_str().is_empty() && !has_nul(path);
    is_path.then(|| clean(&bundle_dir.join(path)))
}

/// The error for a path that has a symbolic link (openat2(2), `RESOLVE_NO_SYMLINKS`).
const ELOOP: i32 = linux_raw_sys::errno::ELOOP as i32;

fn rootfs_path(found: &Result<(), IoError>, bundle_dir: &Path, path: &Path) -> Result<PathBuf> {
    ensure!(!path.as_os_str().is_empty(), "root.path must be specified");
    ensure!(!has_nul(path), "root.path contains null byte");
    let path = clean(&bundle_dir.join(path));
    let Err(err) = found else {
        return Ok(path);
    };
    match err.raw_os_error() {
        Some(ELOOP) => bail!("invalid rootfs: not an absolute path, or a symlink: {path:?}"),
        Some(number) => Err(IoError::from_raw_os_error(number))
            .with_context(|| format!("invalid rootfs: stat {path:?}")),
        None => bail!("invalid rootfs: stat {path:?}: {err}"),
    }
}

fn entrance(input: &RootfsInput<'_>) -> Entrance {
    if !input.namespaces.is_private(Kind::Mount) {
        Entrance::Chroot
    } else if input.no_pivot {
        Entrance::Move
    } else {
        Entrance::Pivot
    }
}

/// Parses `linux.rootfsPropagation`.
fn propagation(word: &str, entrance: Entrance) -> Result<Option<u64>> {
    if word.is_empty() {
        return Ok(None);
    }
    let options = MountOptions::parse(&[word.to_owned()]);
    let [propagation] = options.propagation[..] else {
        bail!("rootfsPropagation={word} is not supported");
    };
    if propagation & MS_PRIVATE != 0 && entrance == Entrance::Move {
        bail!("rootfsPropagation of [r]private is not safe without pivot_root");
    }
    Ok(Some(propagation))
}

fn readonly_paths(paths: &[String], mounts: &[Mount]) -> Vec<RestrictedPath> {
    let mut planned: Vec<RestrictedPath> = Vec::with_capacity(paths.len());
    for path in unique_paths(paths) {
        let inside = Inside::kernel_mount(&path, mounts, &planned);
        planned.push(RestrictedPath { path, inside });
    }
    planned
}

fn masked_paths(
    paths: &[String],
    mounts: &[Mount],
    readonly: &[RestrictedPath],
) -> Vec<RestrictedPath> {
    let planned = unique_paths(paths).into_iter().map(|path| RestrictedPath {
        inside: Inside::kernel_mount(&path, mounts, readonly),
        path,
    });
    planned.collect()
}

/// Marks the mounts in which the paths are looked up.
fn hold<'a>(mounts: &mut [Mount], paths: impl Iterator<Item = &'a RestrictedPath>) {
    for inside in paths.filter_map(|path| path.inside.as_ref()) {
        mounts[inside.mount].holds_restricted_paths = true;
    }
}

impl Inside {
    /// Returns the place of `path` in a procfs or sysfs of `mounts`, once the paths
    /// `readonly` are read-only. Returns `None` if `path` is in neither, or if another
    /// mount covers the place.
    fn kernel_mount(path: &Path, mounts: &[Mount], readonly: &[RestrictedPath]) -> Option<Inside> {
        let mut outer: Option<(usize, &Mount)> = None;
        for (number, mount) in mounts.iter().enumerate() {
            let is_inside = |(_, outer): (usize, &Mount)| {
                mount.destination != outer.destination
                    && is_at_or_below(&mount.destination, &outer.destination)
            };
            if is_at_or_below(path, &mount.destination)
                && mount.is_new()
                && !outer.is_some_and(is_inside)
            {
                outer = mount.is_of_the_kernel().then_some((number, mount));
            }
        }
        let (number, Mount { destination, .. }) = outer?;
        // Making a path read-only binds it over itself, which covers all mounts below it.
        let is_covered = readonly.iter().any(|readonly| {
            readonly.path != *destination && is_at_or_below(destination, &readonly.path)
        });
        let path = path.strip_prefix(destination).ok()?;
        (!is_covered).then(|| Inside {
            mount: number,
            path: path.to_owned(),
        })
    }

    /// Returns whether the place is the root of the mount.
    pub fn is_the_mount(&self) -> bool {
        self.path.as_os_str().is_empty()
    }
}

fn unique_paths(paths: &[String]) -> Vec<PathBuf> {
    let mut unique: Vec<PathBuf> = Vec::with_capacity(paths.len());
    for path in paths {
        let path = clean(Path::new(path));
        let is_known = |known: &PathBuf| known.as_os_str() == path.as_os_str();
        if !unique.iter().any(is_known) {
            unique.push(path);
        }
    }
    unique
}

#[cfg(test)]
mod tests {
    use super::*;
    use teu_namespaces_types::Namespace;

    const ROOT: &str = r#""root":{"path":"/usr"}"#;

    fn plan(json: &str, kinds: &[Kind], no_pivot: bool) -> Result<RootfsPlan> {
        let spec: Spec = crate::testing::read(json);
        let mut namespaces = NamespacePlan::default();
        for kind in kinds {
            namespaces.set(*kind, Namespace::New);
        }
        RootfsPlan::new(&RootfsInput {
            spec: &spec,
            bundle_dir: Path::new("/"),
            seen: &Seen::nothing(),
            namespaces: &namespaces,
            cgroup: None,
            no_pivot,
            edits: &Edits::default(),
        })
    }

    fn with_propagation(word: &str) -> RootfsPlan {
        let json = format!(r#"{{{ROOT},"linux":{{"rootfsPropagation":"{word}"}}}}"#);
        plan(&json, &[Kind::Mount], false).expect("planned")
    }

    fn refusal(json: &str, kinds: &[Kind], no_pivot: bool) -> String {
        format!("{:#}", plan(json, kinds, no_pivot).expect_err("refused"))
    }

    #[test]
    fn the_root_is_a_directory_without_links() {
        for (json, words) in [
            ("{}", "root must be specified"),
            (r#"{"root":{}}"#, "root.path must be specified"),
        ] {
            assert_eq!(refusal(json, &[Kind::Mount], false), words);
        }
        for (found, words) in [
            (
                ELOOP,
                "invalid rootfs: not an absolute path, or a symlink: \"/a\"",
            ),
            (
                20,
                "invalid rootfs: stat \"/a\": Not a directory (os error 20)",
            ),
        ] {
            let found = Err(IoError::from_raw_os_error(found));
            let refusal = rootfs_path(&found, Path::new("/"), Path::new("a"));
            assert_eq!(format!("{:#}", refusal.expect_err("refused")), words);
        }
        let relative = plan(r#"{"root":{"path":"./usr/../usr"}}"#, &[], false).expect("planned");
        assert_eq!(relative.path, Path::new("/usr"));
    }

    #[test]
    fn the_host_is_a_slave_s_master_by_default() {
        for (word, host, own, shared, follows) in [
            ("", MS_SLAVE | MS_REC, None, false, false),
            ("rprivate", MS_PRIVATE | MS_REC, None, false, false),
            ("private", MS_PRIVATE, None, true, false),
            ("rslave", MS_SLAVE | MS_REC, None, false, true),
            ("shared", MS_SHARED, Some(MS_SHARED), true, false),
            (
                "runbindable",
                MS_UNBINDABLE | MS_REC,
                Some(MS_UNBINDABLE | MS_REC),
                true,
                false,
            ),
        ] {
            let plan = with_propagation(word);
            assert_eq!(plan.host_propagation, Some(host), "{word}");
            assert_eq!(plan.propagation, own, "{word}");
            assert_eq!(plan.host_mounts_may_be_shared, shared, "{word}");
            assert_eq!(plan.follows_host_mounts, follows, "{word}");
        }
        let private = format!(r#"{{{ROOT},"linux":{{"rootfsPropagation":"private"}}}}"#);
        assert_eq!(
            refusal(&private, &[Kind::Mount], true),
            "rootfsPropagation of [r]private is not safe without pivot_root"
        );
        for word in ["nonsense", "ro"] {
            let json = format!(r#"{{{ROOT},"linux":{{"rootfsPropagation":"{word}"}}}}"#);
            assert_eq!(
                refusal(&json, &[Kind::Mount], false),
                format!("rootfsPropagation={word} is not supported")
            );
        }
    }

    #[test]
    fn the_host_s_mount_namespace_is_left_alone() {
        let json = r#"{"root":{"path":"/usr","readonly":true}}"#;
        let plan = plan(json, &[], true).expect("planned");
        assert_eq!(plan.entrance, Entrance::Chroot);
        assert_eq!((plan.host_propagation, plan.propagation), (None, None));
        assert!(!plan.readonly);
        let masked = format!(r#"{{{ROOT},"linux":{{"maskedPaths":["/proc/kcore"]}}}}"#);
        assert_eq!(
            refusal(&masked, &[], false),
            "unable to restrict sys entries without a private MNT namespace"
        );
    }

    #[test]
    fn a_bind_on_dev_brings_its_own_devices() {
        let json = |mount: &str| format!(r#"{{{ROOT},"mounts":[{mount}]}}"#);
        let bind = json(r#"{"destination":"/dev/","source":"/dev","options":["rbind"]}"#);
        assert!(
            plan(&bind, &[Kind::Mount], false)
                .expect("planned")
                .devices
                .is_none()
        );
        let tmpfs = json(r#"{"destination":"/dev","type":"tmpfs"}"#);
        let devices = |kinds: &[Kind]| plan(&tmpfs, kinds, false).expect("planned").devices;
        let in_user_namespace = false;
        assert_eq!(
            devices(&[Kind::Mount]).expect("set up").bind,
            in_user_namespace
        );
        assert!(devices(&[Kind::Mount, Kind::User]).expect("set up").bind);
    }

    #[test]
    fn paths_are_clean_and_there_once() {
        let json = format!(
            r#"{{{ROOT},"linux":{{"maskedPaths":["/proc/a","proc/a","/proc/./b/"],
            "readonlyPaths":["/proc/../sys"]}}}}"#
        );
        let plan = plan(&json, &[Kind::Mount], false).expect("planned");
        let [a, b] = &plan.masked_paths[..] else {
            panic!("{:?}", plan.masked_paths);
        };
        assert_eq!([&a.path, &b.path], ["/proc/a", "/proc/b"].map(Path::new));
        let [sys] = &plan.readonly_paths[..] else {
            panic!("{:?}", plan.readonly_paths);
        };
        assert_eq!(sys.path, Path::new("/sys"));
    }

    #[test]
    fn restricted_paths_are_looked_up_in_the_procfs_and_sysfs_that_are_seen() {
        const PROC: &str = r#"{"destination":"/proc","type":"proc"}"#;
        const SYS: &str = r#"{"destination":"/sys","type":"sysfs"}"#;
        const BIND: &str = r#"{"destination":"/sys","source":"/sys","options":["rbind"]}"#;
        const CGROUP: &str = r#"{"destination":"/sys/fs","type":"tmpfs"}"#;
        const OVER: &str = r#"{"destination":"/sys","type":"tmpfs"}"#;
        const DEEP: &str = r#"{"destination":"/a/sys","type":"sysfs"}"#;
        const REMOUNT: &str = r#"{"destination":"/proc","options":["remount","ro"]}"#;
        for (mounts, readonly, masked, inside) in [
            (&[PROC, SYS][..], "/none", "/proc/kcore", Some((0, "kcore"))),
            (
                &[PROC, SYS],
                "/none",
                "/sys/firmware",
                Some((1, "firmware")),
            ),
            (&[PROC, SYS], "/none", "/proc", Some((0, ""))),
            (&[PROC, SYS], "/none", "/process/x", None),
            (&[PROC, REMOUNT], "/none", "/proc/a", Some((0, "a"))),
            // The last mount covers the earlier ones, and everything that is mounted in
            // them.
            (&[PROC, PROC], "/none", "/proc/a/b", Some((1, "a/b"))),
            (&[SYS, OVER], "/none", "/sys/a", None),
            (&[OVER, BIND], "/none", "/sys/a", Some((1, "a"))),
            (&[SYS, CGROUP], "/none", "/sys/fs/a", Some((0, "fs/a"))),
            (&[CGROUP, SYS], "/none", "/sys/fs/a", Some((1, "fs/a"))),
            // A read-only path above it covers the mount, too.
            (&[DEEP], "/none", "/a/sys/b", Some((0, "b"))),
            (&[DEEP], "/a/sys/b", "/a/sys/b/c", Some((0, "b/c"))),
            (&[DEEP], "/a/sys", "/a/sys/b", Some((0, "b"))),
            (&[DEEP], "/a", "/a/sys/b", None),
        ] {
            let mounts = mounts.join(",");
            let json = format!(
                r#"{{{ROOT},"mounts":[{mounts}],
                "linux":{{"maskedPaths":["{masked}"],"readonlyPaths":["{readonly}"]}}}}"#
            );
            let plan = plan(&json, &[Kind::Mount], false).expect("planned");
            let inside = inside.map(|(mount, path)| Inside {
                mount,
                path: path.into(),
            });
            assert_eq!(plan.masked_paths[0].inside, inside, "{json}");
            for (number, mount) in plan.mounts.iter().enumerate() {
                let holds = inside.as_ref().is_some_and(|inside| inside.mount == number);
                assert_eq!(
                    mount.holds_restricted_paths,
                    holds || readonly == "/a/sys",
                    "{json}"
                );
            }
        }
    }

    #[test]
    fn only_a_new_cgroup_namespace_is_unshared() {
        let json = format!("{{{ROOT}}}");
        let unshare = |kinds: &[Kind]| {
            plan(&json, kinds, false)
                .expect("planned")
                .unshare_cgroup_namespace
        };
        assert!(unshare(&[Kind::Mount, Kind::Cgroup]));
        assert!(!unshare(&[Kind::Mount]));
    }
}
