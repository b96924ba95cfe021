//! DECIDE: the mounts of the container, from `mounts` of config.json (config.md, "Mounts").
//!
//! Not for: the root filesystem itself, the propagation of all mounts, and /dev; see
//! `rootfs.rs` and `devices.rs`.

use anyhow::{Context, Result, bail, ensure};
use teu_cgroups_types::{HierarchyView, Layout};
use teu_namespaces_types::{IdMaps, Kind, NamespacePlan};

use super::mount_options::{ACCESS_TIME, Attributes, IdMapped, MountOptions};
use super::namespaces::maps_from;
use crate::mount_flags::{
    MS_BIND, MS_NOATIME, MS_NODEV, MS_NODIRATIME, MS_NOEXEC, MS_NOSUID, MS_RDONLY, MS_REC,
    MS_RELATIME, MS_REMOUNT, MS_STRICTATIME,
};
use crate::prelude::*;
use oci_spec::runtime as spec;

/// A mount of the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mount {
    /// The source as config.json has it, for messages.
    pub source: String,
    /// The mountpoint, as an absolute path without `.` and `..` inside the root filesystem.
    pub destination: PathBuf,
    pub kind: MountKind,
    /// `MS_SHARED`, `MS_SLAVE`, `MS_PRIVATE` or `MS_UNBINDABLE`, with `MS_REC`
    /// or without, applied in this order after the mount is made.
    pub propagation: Vec<u64>,
    /// Attributes for the mount and everything below it, set last of all.
    pub recursive: Option<Attributes>,
    /// Whether the mount becomes read-only only after everything inside has been set up.
    pub readonly_at_end: bool,
    /// Whether masked or read-only paths are looked up below the mount.
    pub holds_restricted_paths: bool,
}

/// The kind of a mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MountKind {
    Bind(Bind),
    Filesystem(Filesystem),
    /// Changes a mount that is there already (`remount`).
    Remount(Remount),
    /// Shows the container's cgroup, on a machine with cgroup v1 hierarchies.
    CgroupV1(CgroupV1),
    /// Shows the container's cgroup, on a machine with cgroup v2 only.
    CgroupV2(CgroupV2),
}

/// A bind mount of a directory or file of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// The absolute path on the host.
    pub source: PathBuf,
    /// Whether the bind includes everything that is mounted below the source (`rbind`).
    pub recursive: bool,
    /// The flags of the bind; `None` keeps those of the source.
    pub flags: Option<BindFlags>,
    /// The id map of an idmapped mount, whose source the parent opens.
    pub id_map: Option<BindIdMap>,
    /// Whether the parent has to open the source: a running container cannot see it.
    pub out_of_sight: bool,
}

/// Flags of a bind mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BindFlags {
    /// The flags to set.
    pub set: u64,
    /// The flags to clear.
    pub cleared: u64,
}

/// The ids of an idmapped mount (mount_setattr(2), MOUNT_ATTR_IDMAP).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindIdMap {
    pub maps: BindIdMapSource,
    pub scope: IdMapped,
}

/// The origin of an id map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BindIdMapSource {
    FromParent(IdMaps),
    /// The map of the container's user namespace.
    Container,
}

/// A new instance of a filesystem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    /// The type, as in /proc/filesystems.
    pub kind: String,
    /// The source: a device, or only a name.
    pub source: String,
    /// The flags of the mount and its superblock.
    pub flags: u64,
    /// The filesystem's own options, in order. An option without `=` is a flag.
    pub options: Vec<String>,
    /// The SELinux context of all its files (`mountLabel`).
    pub context: Option<String>,
    pub place: Place,
    /// Whether the filesystem starts with a copy of the directory that it covers
    /// (`tmpcopyup`).
    pub copy_up: bool,
    /// The SELinux label that the root directory gets after the mount.
    pub root_label: Option<String>,
}

/// The requirements for the mountpoint of a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Any directory. The path may lead through links inside the root filesystem.
    Any,
    /// Any directory, whose mode the filesystem's root gets: for a tmpfs without an option
    /// `mode`.
    KeepMode,
    /// A directory whose path does not end with a link. runc refuses to mount proc and
    /// sysfs at another place than where the container will look for them (CVE-2019-19921).
    OrdinaryDirectory,
}

/// A change of an existing mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remount {
    pub flags: BindFlags,
    /// The options for the superblock, which changes, too, if the word `bind` is missing.
    /// `None` changes only the mount.
    pub superblock: Option<Vec<String>>,
}

/// A `cgroup` mount of v1 hierarchies: a tmpfs with a directory for each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupV1 {
    pub hierarchies: Vec<HierarchyView>,
    /// Whether the container has a cgroup namespace. If so, the hierarchies themselves are
    /// mounted, because there they show only the part below the container's cgroup. If not,
    /// the container's own directories are bound.
    pub in_namespace: bool,
    pub flags: u64,
}

/// A `cgroup` mount of the v2 hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CgroupV2 {
    /// The mount that is tried first.
    pub filesystem: Filesystem,
    /// The bind that replaces the mount if the kernel does not allow it, which is so in a
    /// user namespace without a new cgroup namespace.
    pub fallback: Bind,
    /// Whether an empty read-only directory replaces the mount if the caller does not see
    /// the cgroup's directory, which can be so for a rootless caller whose cgroup mount shows
    /// a part of the tree only. Otherwise the container could reach the host's tree
    /// (CVE-2023-25809).
    pub hide_if_missing: bool,
}

/// Facts on which the mounts depend besides config.json's list.
#[derive(Debug)]
pub struct Surroundings<'a> {
    pub bundle_dir: &'a Path,
    /// The absolute path of the root filesystem.
    pub rootfs: &'a Path,
    pub namespaces: &'a NamespacePlan,
    /// The cgroups to show; with `None`, mounts of the type `cgroup` are refused.
    pub cgroup: Option<&'a Layout>,
    /// Whether the caller's user id is not 0.
    pub unprivileged: bool,
    /// Whether the caller is not the machine's root.
    pub rootless: bool,
    /// `linux.mountLabel`.
    pub label: &'a str,
}

/// Decides about all mounts, in their order.
///
/// # Errors
/// Returns an error that names the mount if one cannot be made as config.json has it.
pub fn mounts(mounts: &[spec::Mount], around: &Surroundings<'_>) -> Result<Vec<Mount>> {
    let mut planned = Vec::with_capacity(mounts.len());
    for (index, mount) in mounts.iter().enumerate() {
        let mount = Mount::new(mount, around).with_context(|| {
            format!("invalid mount {:?} (mounts[{index}])", mount.destination())
        })?;
        planned.push(mount);
    }
    Ok(planned)
}

impl Mount {
    fn new(mount: &spec::Mount, around: &Surroundings<'_>) -> Result<Mount> {
        let (given, source) = (mount.destination(), source(mount));
        let is_faulty = has_nul(given) || has_nul(source) || type_of(mount).contains('\0');
        ensure!(!is_faulty, "mount field contains null byte");
        ensure!(!given.as_os_str().is_empty(), "mount destination is empty");
        if !given.is_absolute() {
            log::warn!("mount destination {given:?} is not absolute: taken as relative to \"/\"");
        }
        let options = MountOptions::parse(mount.options().as_deref().unwrap_or_default());
        let destination = destination(given, around.rootfs);
        if destination == Path::new("/") {
            bail!(
                "mountpoint {:?} is on the top of rootfs {:?}",
                around.rootfs,
                around.rootfs
            );
        }
        let kind = kind(mount, &destination, &options, around)?;
        Ok(Mount {
            source: source.to_string_lossy().into_owned(),
            readonly_at_end: readonly_at_end(&kind, &destination, &options),
            destination,
            kind,
            recursive: (!options.recursive.is_empty()).then_some(options.recursive),
            propagation: options.propagation,
            holds_restricted_paths: false,
        })
    }

    /// Returns whether the mount binds a directory of the host on the container's /dev. If
    /// so, teu sets up nothing in /dev.
    pub fn is_bind_on_dev(&self) -> bool {
        matches!(self.kind, MountKind::Bind(_)) && self.destination == Path::new("/dev")
    }

    /// Returns the bind that the mount is, or may have to fall back to.
    pub fn bind(&self) -> Option<&Bind> {
        match &self.kind {
            MountKind::Bind(bind) => Some(bind),
            MountKind::CgroupV2(cgroup) => Some(&cgroup.fallback),
            _ => None,
        }
    }

    /// Returns whether the mount is new, and not a change of an existing mount.
    pub fn is_new(&self) -> bool {
        !matches!(self.kind, MountKind::Remount(_))
    }

    /// Returns whether the mount is a procfs or sysfs, in which nobody but the kernel
    /// renames files.
    pub fn is_of_the_kernel(&self) -> bool {
        match &self.kind {
            MountKind::Filesystem(filesystem) => filesystem.place == Place::OrdinaryDirectory,
            MountKind::Bind(bind) => {
                bind.source == Path::new("/proc") || bind.source == Path::new("/sys")
            }
            _ => false,
        }
    }

    /// Returns whether the mount has to wait for the cgroup namespace, because it shows the
    /// container's cgroup or changes a filesystem that may be one of cgroups. Outside of
    /// the cgroup namespace, the mount would show the whole hierarchy, and change the
    /// options of the host's own mount (it would lose nsdelegate).
    pub fn needs_cgroup_namespace(&self) -> bool {
        match &self.kind {
            MountKind::CgroupV1(_) | MountKind::CgroupV2(_) => true,
            MountKind::Filesystem(filesystem) => filesystem.kind == "cgroup2",
            MountKind::Remount(remount) => remount.superblock.is_some(),
            MountKind::Bind(_) => false,
        }
    }
}

fn source(mount: &spec::Mount) -> &Path {
    mount.source().as_deref().unwrap_or(Path::new(""))
}

fn type_of(mount: &spec::Mount) -> &str {
    mount.typ().as_deref().unwrap_or_default()
}

/// Returns whether the path has a NUL byte, which no path of a system call can have.
pub(super) fn has_nul(path: &Path) -> bool {
    path.as_os_str().as_bytes().contains(&0)
}

/// Returns a destination as a clean absolute path inside the root filesystem. If the
/// destination starts with the host's path of the root filesystem, this prefix is removed.
pub(super) fn destination(path: &Path, rootfs: &Path) -> PathBuf {
    let clean = clean(path);
    // Compare bytes, which is faster than components. Both paths are clean.
    let below = clean
        .as_os_str()
        .as_bytes()
        .strip_prefix(rootfs.as_os_str().as_bytes());
    match below {
        Some(b"") if rootfs != Path::new("/") => PathBuf::from("/"),
        Some(below) if below.starts_with(b"/") => PathBuf::from(OsStr::from_bytes(below)),
        _ => clean,
    }
}

/// Returns whether `path` is `directory` or below it. Both must be clean, because their
/// bytes are compared, which is faster than comparing components.
pub fn is_at_or_below(path: &Path, directory: &Path) -> bool {
    let (path, directory) = (
        path.as_os_str().as_bytes(),
        directory.as_os_str().as_bytes(),
    );
    match path.strip_prefix(directory) {
        Some(below) => below.is_empty() || below.starts_with(b"/") || directory == b"/",
        None => false,
    }
}

/// Returns `path` as an absolute path without `.`, `..` and doubled slashes. Changes only
/// the text: links are not looked at.
pub fn clean(path: &Path) -> PathBuf {
    if is_clean(path.as_os_str().as_bytes()) {
        return path.to_owned();
    }
    let mut clean = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => clean.push(name),
            Component::ParentDir => {
                clean.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    clean
}

/// Returns whether [`clean`] would change nothing, which is the usual case.
fn is_clean(path: &[u8]) -> bool {
    path.strip_prefix(b"/").is_some_and(|path| {
        path.split(|byte| *byte == b'/')
            .all(|name| !matches!(name, b"" | b"." | b".."))
    })
}

fn kind(
    mount: &spec::Mount,
    destination: &Path,
    options: &MountOptions,
    around: &Surroundings<'_>,
) -> Result<MountKind> {
    let id_map = id_map(mount, options, around)?;
    let is_bind = options.is_bind() || matches!(type_of(mount), "bind" | "rbind");
    if options.set & MS_REMOUNT != 0 {
        ensure!(
            id_map.is_none(),
            "id-mapped mounts are only supported for bind-mounts"
        );
        return Ok(MountKind::Remount(remount(options, is_bind)));
    }
    if is_bind {
        return Ok(MountKind::Bind(bind(mount, options, id_map, around)?));
    }
    ensure!(
        id_map.is_none(),
        "id-mapped mounts are only supported for bind-mounts"
    );
    // If the machine has only cgroup v2, "cgroup" and "cgroup2" mean the same. Beside v1
    // hierarchies, a cgroup2 is a filesystem like others.
    let v2_alone = matches!(around.cgroup, Some(Layout::V2 { .. }));
    if type_of(mount) == "cgroup" || (type_of(mount) == "cgroup2" && v2_alone) {
        return cgroup(mount, options, around);
    }
    Ok(MountKind::Filesystem(filesystem(
        mount,
        destination,
        options,
        around,
    )))
}

fn readonly_at_end(kind: &MountKind, destination: &Path, options: &MountOptions) -> bool {
    let delayed = match kind {
        MountKind::Filesystem(filesystem) => {
            filesystem.kind == "tmpfs" || destination == Path::new("/dev")
        }
        _ => false,
    };
    delayed && (options.set & MS_RDONLY != 0)
}

fn bind(
    mount: &spec::Mount,
    options: &MountOptions,
    id_map: Option<BindIdMap>,
    around: &Surroundings<'_>,
) -> Result<Bind> {
    ensure!(
        options.data.is_empty(),
        "bind mounts cannot have any filesystem-specific options applied: {:?}",
        options.data.join(",")
    );
    let source = source(mount);
    ensure!(
        !source.as_os_str().is_empty(),
        "bind mounts must have a source"
    );
    Ok(Bind {
        source: around.bundle_dir.join(source),
        recursive: options.is_recursive() || type_of(mount) == "rbind",
        flags: BindFlags::new(options),
        id_map,
        out_of_sight: false,
    })
}

fn remount(options: &MountOptions, is_bind: bool) -> Remount {
    Remount {
        flags: BindFlags {
            set: options.set,
            cleared: options.cleared,
        },
        superblock: (!is_bind).then(|| options.data.clone()),
    }
}

fn filesystem(
    mount: &spec::Mount,
    destination: &Path,
    options: &MountOptions,
    around: &Surroundings<'_>,
) -> Filesystem {
    let kind = type_of(mount);
    let mut flags = options.set;
    if kind == "tmpfs" || destination == Path::new("/dev") {
        // The mount becomes read-only later: see `readonly_at_end`.
        flags &= !MS_RDONLY;
    }
    let label = (!around.label.is_empty()).then(|| around.label.to_owned());
    let own_options = split_options(&options.data, kind);
    let has_mode = own_options.iter().any(|one| one.starts_with("mode="));
    Filesystem {
        kind: kind.to_owned(),
        source: source(mount).to_string_lossy().into_owned(),
        flags,
        options: own_options,
        context: label
            .clone()
            .filter(|_| !matches!(kind, "proc" | "sysfs" | "mqueue")),
        place: match kind {
            "proc" | "sysfs" => Place::OrdinaryDirectory,
            "tmpfs" if !has_mode => Place::KeepMode,
            _ => Place::Any,
        },
        copy_up: kind == "tmpfs" && options.copy_up,
        root_label: label.filter(|_| kind == "mqueue"),
    }
}

/// Splits the filesystem's options. mount(2) takes them as one string and splits it at
/// commas, so a string of config.json may have several options. overlay escapes commas of
/// file names with a backslash, and a security context may be in quotes.
fn split_options(options: &[String], kind: &str) -> Vec<String> {
    let mut split = Vec::new();
    for option in options {
        let mut current = String::new();
        let (mut quoted, mut escaped) = (false, false);
        for letter in option.chars() {
            match letter {
                ',' if !quoted && !escaped => split.push(core::mem::take(&mut current)),
                '"' => {
                    quoted = !quoted;
                    current.push(letter);
                }
                _ => current.push(letter),
            }
            escaped = kind == "overlay" && letter == '\\' && !escaped;
        }
        split.push(current);
    }
    split.retain(|option| !option.is_empty());
    split
}

/// Returns the id map of a mount, or `None` if it has none.
fn id_map(
    mount: &spec::Mount,
    options: &MountOptions,
    around: &Surroundings<'_>,
) -> Result<Option<BindIdMap>> {
    let uid = maps_from(mount.uid_mappings().as_ref());
    let gid = maps_from(mount.gid_mappings().as_ref());
    let given = !uid.is_empty() || !gid.is_empty();
    if !given && options.id_mapped.is_none() {
        return Ok(None);
    }
    if around.unprivileged {
        bail!("id-mapped mounts are not supported for rootless containers");
    }
    let both = !uid.is_empty() && !gid.is_empty();
    let maps = if both {
        BindIdMapSource::FromParent(IdMaps {
            uid,
            gid,
            deny_setgroups: false,
        })
    } else if given || !around.namespaces.is_private(Kind::User) {
        bail!("id-mapped mounts must have both uid and gid mappings specified");
    } else {
        BindIdMapSource::Container
    };
    let scope = options.id_mapped.unwrap_or(IdMapped::Mount);
    Ok(Some(BindIdMap { maps, scope }))
}

fn cgroup(
    mount: &spec::Mount,
    options: &MountOptions,
    around: &Surroundings<'_>,
) -> Result<MountKind> {
    let in_namespace = around.namespaces.is_private(Kind::Cgroup);
    match around.cgroup {
        None => bail!("type \"cgroup\": the machine has no cgroups"),
        Some(Layout::V1(hierarchies)) => Ok(MountKind::CgroupV1(CgroupV1 {
            hierarchies: hierarchies.clone(),
            in_namespace,
            flags: options.set,
        })),
        Some(Layout::V2 {
            mountpoint,
            directory,
            flags,
        }) => Ok(MountKind::CgroupV2(CgroupV2 {
            filesystem: Filesystem {
                kind: "cgroup2".to_owned(),
                source: source(mount).to_string_lossy().into_owned(),
                flags: options.set,
                options: cgroup2_options(&options.data, in_namespace, flags),
                context: None,
                place: Place::Any,
                copy_up: false,
                root_label: None,
            },
            fallback: Bind {
                source: if in_namespace { directory } else { mountpoint }.clone(),
                recursive: false,
                flags: BindFlags::new(options),
                id_map: None,
                out_of_sight: false,
            },
            hide_if_missing: around.rootless,
        })),
    }
}

/// Returns the options of a cgroup2 mount. Outside of a cgroup namespace, they change the
/// machine's own mount, too. So the options of that mount are added, or it would lose them.
fn cgroup2_options(data: &[String], in_namespace: bool, of_machine: &[String]) -> Vec<String> {
    let mut options = split_options(data, "cgroup2");
    for flag in of_machine.iter().filter(|_| !in_namespace) {
        if !options.contains(flag) {
            options.push(flag.clone());
        }
    }
    options
}

/// The flags that a mount keeps from the user namespace in which it was made
/// (mount_namespaces(7), "Restrictions on mount namespaces").
const LOCKABLE: u64 = MS_RDONLY | MS_NODEV | MS_NOEXEC | MS_NOSUID | ACCESS_TIME;

impl BindFlags {
    /// Returns the flags, or `None` if no word sets or clears one. The bind then keeps the
    /// flags of its source.
    fn new(options: &MountOptions) -> Option<BindFlags> {
        let flags = BindFlags {
            set: options.set & !(MS_BIND | MS_REC | MS_REMOUNT),
            cleared: options.cleared,
        };
        (flags.set != 0 || flags.cleared != 0).then_some(flags)
    }

    /// Returns the flags for a second try, after the kernel refused to set these flags
    /// because the mount has locked ones. `current` has the present flags of the mount; the
    /// locked ones among them are added.
    ///
    /// # Errors
    /// Returns an error if a flag to clear is locked, or if config.json sets another access
    /// time than the locked one.
    pub fn with_locked(self, current: u64) -> Result<BindFlags> {
        let refused = current & self.cleared & LOCKABLE;
        if refused != 0 {
            bail!("cannot clear locked flags {}", words(refused));
        }
        let atime = current & ACCESS_TIME;
        if self.set & ACCESS_TIME != 0 && self.set & ACCESS_TIME != atime {
            bail!("cannot change locked atime flags {}", words(atime));
        }
        Ok(BindFlags {
            set: self.set | (current & LOCKABLE),
            cleared: self.cleared,
        })
    }
}

/// Returns the flags as words of mount(8), with commas between them.
fn words(flags: u64) -> String {
    let named = [
        (MS_RDONLY, "ro"),
        (MS_NODEV, "nodev"),
        (MS_NOEXEC, "noexec"),
        (MS_NOSUID, "nosuid"),
        (MS_NOATIME, "noatime"),
        (MS_NODIRATIME, "nodiratime"),
        (MS_RELATIME, "relatime"),
        (MS_STRICTATIME, "strictatime"),
    ];
    let words: Vec<&str> = named
        .into_iter()
        .filter(|(flag, _)| flags & flag != 0)
        .map(|(_, word)| word)
        .collect();
    words.join(",")
}

/// The files below /proc over which lxcfs and similar programs may mount.
const COVERABLE: [&str; 10] = [
    "/proc/cpuinfo",
    "/proc/sys/crypto/fips_enabled",
    "/proc/diskstats",
    "/proc/loadavg",
    "/proc/meminfo",
    "/proc/slabinfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/uptime",
];

/// Says whether a mount may be on /proc or in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OverProc {
    /// The mount is outside of /proc.
    Outside,
    /// The mount is on /proc itself, where only a procfs may be mounted.
    OnProc,
    /// The mount is on one of the files that may be covered.
    Coverable,
    /// The mount is refused, because it could make the container's /proc lie to the
    /// runtime.
    Refused,
}

impl OverProc {
    /// Decides about `destination`, a path without links.
    pub fn of(destination: &Path) -> OverProc {
        if !destination.starts_with("/proc") {
            OverProc::Outside
        } else if destination == Path::new("/proc") {
            OverProc::OnProc
        } else if COVERABLE.iter().any(|path| destination == Path::new(path)) {
            OverProc::Coverable
        } else {
            OverProc::Refused
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use teu_namespaces_types::Namespace;

    #[derive(Default)]
    struct Case {
        namespaces: NamespacePlan,
        cgroup: Option<Layout>,
        unprivileged: bool,
        label: &'static str,
    }

    impl Case {
        fn plan(&self, json: &str) -> Result<Vec<Mount>> {
            let listed: Vec<spec::Mount> = crate::testing::read(&format!("[{json}]"));
            mounts(
                &listed,
                &Surroundings {
                    bundle_dir: Path::new("/bundle"),
                    rootfs: Path::new("/bundle/rootfs"),
                    namespaces: &self.namespaces,
                    cgroup: self.cgroup.as_ref(),
                    unprivileged: self.unprivileged,
                    rootless: self.unprivileged,
                    label: self.label,
                },
            )
        }

        fn with_user_namespace() -> Case {
            let mut case = Case::default();
            case.namespaces.set(Kind::User, Namespace::New);
            case
        }
    }

    fn plan(json: &str) -> Mount {
        let mut mounts = Case::default().plan(json).expect("planned");
        mounts.remove(0)
    }

    fn refusal(case: &Case, json: &str) -> String {
        format!("{:#}", case.plan(json).expect_err("refused"))
    }

    fn bind_of(mount: &Mount) -> &Bind {
        match &mount.kind {
            MountKind::Bind(bind) => bind,
            other => panic!("no bind: {other:?}"),
        }
    }

    fn filesystem_of(mount: &Mount) -> &Filesystem {
        match &mount.kind {
            MountKind::Filesystem(filesystem) => filesystem,
            other => panic!("no filesystem: {other:?}"),
        }
    }

    #[test]
    fn destinations_are_clean_and_below_the_root() {
        for (given, expected) in [
            ("/etc/../data/./x/", "/data/x"),
            ("relative//path", "/relative/path"),
            ("/../../up", "/up"),
            ("/bundle/rootfs/data", "/data"),
            ("/bundle/rootfs2", "/bundle/rootfs2"),
        ] {
            let mount = plan(&format!(r#"{{"destination":"{given}","type":"tmpfs"}}"#));
            assert_eq!(mount.destination, Path::new(expected), "{given}");
        }
    }

    #[test]
    fn a_bind_without_flag_words_looks_like_its_source() {
        let mount = plan(
            r#"{"destination":"/d","type":"ext4","source":"src","options":["rbind","rslave"]}"#,
        );
        let bind = bind_of(&mount);
        assert_eq!(bind.source, Path::new("/bundle/src"));
        assert!(bind.recursive);
        assert_eq!(bind.flags, None);
        assert_eq!(mount.propagation, [crate::mount_flags::MS_SLAVE | MS_REC]);
    }

    #[test]
    fn a_bind_with_only_a_clearing_word_gets_flags() {
        let mount =
            plan(r#"{"destination":"/d","type":"none","source":"/s","options":["bind","dev"]}"#);
        let flags = BindFlags {
            set: 0,
            cleared: MS_NODEV,
        };
        assert_eq!(bind_of(&mount).flags, Some(flags));
        assert!(!bind_of(&mount).recursive);
    }

    #[test]
    fn the_type_bind_is_enough() {
        assert!(!bind_of(&plan(r#"{"destination":"/d","type":"bind","source":"/s"}"#)).recursive);
        assert!(
            bind_of(&plan(
                r#"{"destination":"/d","type":"rbind","source":"/s"}"#
            ))
            .recursive
        );
    }

    #[test]
    fn recursive_words_count_for_every_type() {
        let mount = plan(r#"{"destination":"/d","type":"tmpfs","options":["rro"]}"#);
        let set = crate::mount_flags::MOUNT_ATTR_RDONLY;
        assert_eq!(mount.recursive, Some(Attributes { set, clear: 0 }));
    }

    #[test]
    fn a_readonly_tmpfs_or_dev_can_be_written_to_at_first() {
        for (destination, kind, later) in [
            ("/tmp", "tmpfs", true),
            ("/dev", "devtmpfs", true),
            ("/sys", "sysfs", false),
        ] {
            let mount = plan(&format!(
                r#"{{"destination":"{destination}","type":"{kind}","options":["ro","nosuid"]}}"#
            ));
            assert_eq!(mount.readonly_at_end, later, "{kind}");
            let ro = if later { 0 } else { MS_RDONLY };
            assert_eq!(filesystem_of(&mount).flags, ro | MS_NOSUID, "{kind}");
        }
    }

    #[test]
    fn places_of_filesystems() {
        for (kind, place) in [
            ("proc", Place::OrdinaryDirectory),
            ("sysfs", Place::OrdinaryDirectory),
            ("tmpfs", Place::KeepMode),
            ("mqueue", Place::Any),
        ] {
            let mount = plan(&format!(r#"{{"destination":"/d","type":"{kind}"}}"#));
            assert_eq!(filesystem_of(&mount).place, place, "{kind}");
        }
        let mount = plan(r#"{"destination":"/d","type":"tmpfs","options":["size=1,mode=755"]}"#);
        assert_eq!(filesystem_of(&mount).place, Place::Any);
    }

    #[test]
    fn options_are_split_as_the_kernel_would() {
        for (kind, options, expected) in [
            (
                "tmpfs",
                r#"["mode=755,size=1k","nr_inodes=5"]"#,
                vec!["mode=755", "size=1k", "nr_inodes=5"],
            ),
            (
                "tmpfs",
                r#"["context=\"a:b,c\",x"]"#,
                vec!["context=\"a:b,c\"", "x"],
            ),
            (
                "overlay",
                r#"["lowerdir=/a\\,b:/c,index=off"]"#,
                vec!["lowerdir=/a\\,b:/c", "index=off"],
            ),
            ("tmpfs", r#"["defaults","",","]"#, vec![]),
        ] {
            let mount = plan(&format!(
                r#"{{"destination":"/d","type":"{kind}","options":{options}}}"#
            ));
            assert_eq!(filesystem_of(&mount).options, expected, "{options}");
        }
    }

    #[test]
    fn the_label_is_a_context_where_files_have_one() {
        let case = Case {
            label: "system_u:object_r:c0,c1",
            ..Case::default()
        };
        for (kind, context, root) in [
            ("tmpfs", true, false),
            ("proc", false, false),
            ("mqueue", false, true),
        ] {
            let json = format!(r#"{{"destination":"/d","type":"{kind}"}}"#);
            let mounts = case.plan(&json).expect("planned");
            let filesystem = filesystem_of(&mounts[0]);
            assert_eq!(filesystem.context.is_some(), context, "{kind}");
            assert_eq!(filesystem.root_label.is_some(), root, "{kind}");
        }
    }

    #[test]
    fn id_maps() {
        let bind = r#""destination":"/d","source":"/s","type":"bind""#;
        let line = r#"[{"containerID":0,"hostID":1000,"size":1}]"#;
        let given = format!(
            r#"{{{bind},"options":["rbind","ridmap"],"uidMappings":{line},"gidMappings":{line}}}"#
        );
        let mount = plan(&given);
        let map = bind_of(&mount).id_map.as_ref().expect("mapped");
        assert_eq!(map.scope, IdMapped::Tree);
        assert!(matches!(&map.maps, BindIdMapSource::FromParent(maps) if maps.uid[0].host == 1000));

        let mapped = format!(r#"{{{bind},"options":["bind","idmap"]}}"#);
        let mounts = Case::with_user_namespace().plan(&mapped).expect("planned");
        let map = bind_of(&mounts[0]).id_map.as_ref().expect("mapped");
        assert_eq!(
            (&map.maps, map.scope),
            (&BindIdMapSource::Container, IdMapped::Mount)
        );

        let half = format!(r#"{{{bind},"options":["bind"],"uidMappings":{line}}}"#);
        for json in [&mapped, &half] {
            assert!(
                refusal(&Case::default(), json)
                    .ends_with("id-mapped mounts must have both uid and gid mappings specified")
            );
        }
        let rootless = Case {
            unprivileged: true,
            ..Case::default()
        };
        assert!(
            refusal(&rootless, &given)
                .ends_with("id-mapped mounts are not supported for rootless containers")
        );
    }

    #[test]
    fn what_cannot_be_mounted_is_refused_by_name() {
        for (json, words) in [
            (
                r#"{"destination":"/","type":"tmpfs"}"#,
                "is on the top of rootfs",
            ),
            (
                r#"{"destination":"","type":"tmpfs"}"#,
                "mount destination is empty",
            ),
            (
                r#"{"destination":"/d\u0000","type":"tmpfs"}"#,
                "mount field contains null byte",
            ),
            (
                r#"{"destination":"/d","type":"bind","source":"/s","options":["bind","mode=5"]}"#,
                "bind mounts cannot have any filesystem-specific options applied",
            ),
            (
                r#"{"destination":"/d","type":"bind"}"#,
                "bind mounts must have a source",
            ),
            (
                r#"{"destination":"/d","type":"tmpfs","options":["idmap"]}"#,
                "id-mapped mounts",
            ),
            (
                r#"{"destination":"/d","type":"cgroup"}"#,
                "the machine has no cgroups",
            ),
        ] {
            let refusal = refusal(&Case::default(), json);
            assert!(refusal.starts_with("invalid mount "), "{refusal}");
            assert!(refusal.contains(words), "{refusal}");
            assert!(refusal.contains("mounts[0]"), "{refusal}");
        }
    }

    #[test]
    fn a_cgroup_namespace_decides_how_v1_hierarchies_are_shown() {
        let view = HierarchyView {
            options: "cpu,cpuacct".to_owned(),
            name: "cpu,cpuacct".to_owned(),
            directory: "/sys/fs/cgroup/cpu,cpuacct/c".into(),
            links: vec!["cpu".to_owned(), "cpuacct".to_owned()],
        };
        let json = r#"{"destination":"/sys/fs/cgroup","type":"cgroup","options":["ro"]}"#;
        for private in [false, true] {
            let mut case = Case {
                cgroup: Some(Layout::V1(vec![view.clone()])),
                ..Case::default()
            };
            if private {
                case.namespaces.set(Kind::Cgroup, Namespace::New);
            }
            let mounts = case.plan(json).expect("planned");
            let MountKind::CgroupV1(cgroup) = &mounts[0].kind else {
                panic!("v1")
            };
            assert_eq!(cgroup.in_namespace, private);
            assert_eq!(cgroup.flags, MS_RDONLY);
            assert!(mounts[0].needs_cgroup_namespace() && mounts[0].bind().is_none());
        }
    }

    #[test]
    fn the_v2_fallback_shows_the_own_cgroup_only_in_a_namespace() {
        let layout = Layout::V2 {
            directory: "/sys/fs/cgroup/c".into(),
            mountpoint: "/sys/fs/cgroup".into(),
            flags: vec!["nsdelegate".into(), "memory_recursiveprot".into()],
        };
        let json =
            r#"{"destination":"/sys/fs/cgroup","type":"cgroup","options":["ro","nsdelegate"]}"#;
        for (private, source) in [(false, "/sys/fs/cgroup"), (true, "/sys/fs/cgroup/c")] {
            let mut case = Case {
                cgroup: Some(layout.clone()),
                ..Case::default()
            };
            if private {
                case.namespaces.set(Kind::Cgroup, Namespace::New);
            }
            let mounts = case.plan(json).expect("planned");
            let MountKind::CgroupV2(cgroup) = &mounts[0].kind else {
                panic!("v2")
            };
            let options = &["nsdelegate", "memory_recursiveprot"][..if private { 1 } else { 2 }];
            assert_eq!(cgroup.filesystem.options, options);
            assert_eq!(cgroup.fallback.source, Path::new(source));
            assert_eq!(
                cgroup.fallback.flags,
                Some(BindFlags {
                    set: MS_RDONLY,
                    cleared: 0
                })
            );
            assert!(!cgroup.hide_if_missing);
        }
    }

    #[test]
    fn locked_flags() {
        let asked = |set, cleared| BindFlags { set, cleared };
        let locked = MS_NODEV | MS_NOSUID | MS_NOATIME;
        assert_eq!(
            asked(MS_RDONLY, MS_NOEXEC)
                .with_locked(locked)
                .expect("allowed"),
            asked(MS_RDONLY | locked, MS_NOEXEC)
        );
        for (set, cleared, words) in [
            (0, MS_NODEV | MS_RDONLY, "cannot clear locked flags nodev"),
            (MS_RELATIME, 0, "cannot change locked atime flags noatime"),
        ] {
            let refusal = asked(set, cleared)
                .with_locked(locked)
                .expect_err("refused");
            assert_eq!(refusal.to_string(), words);
        }
    }

    #[test]
    fn proc_is_for_procfs() {
        for (path, expected) in [
            ("/data", OverProc::Outside),
            ("/process", OverProc::Outside),
            ("/proc", OverProc::OnProc),
            ("/proc/cpuinfo", OverProc::Coverable),
            ("/proc/sys/crypto/fips_enabled", OverProc::Coverable),
            ("/proc/sys", OverProc::Refused),
            ("/proc/cpuinfo/x", OverProc::Refused),
            ("/proc/self/attr", OverProc::Refused),
        ] {
            assert_eq!(OverProc::of(Path::new(path)), expected, "{path}");
        }
    }
}
