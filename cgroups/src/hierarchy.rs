//! Finds the cgroup hierarchies that this process can see, their mountpoints, and the
//! process's own cgroup in each.
//!
//! It matches two files: /proc/self/mountinfo has the mounts, of which hidden ones are
//! left out, and /proc/PID/cgroup has the controllers and the path of each hierarchy.
//! Where a container's cgroup is in them is decided in `teu-cgroups-types`.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::unistd::Pid;
use teu_cgroups_types::{Hierarchies, Hierarchy};
use teu_mountinfo::Mount as Line;

use crate::directory;
use crate::error::{Error, Result};

/// The usual mountpoint of cgroups. Mounts there win over mounts elsewhere.
const USUAL_PLACE: &str = "/sys/fs/cgroup";

const MOUNTINFO: &str = "/proc/self/mountinfo";

/// Reads /proc/self/mountinfo and /proc/self/cgroup, each once.
pub(crate) fn of_this_process() -> Result<Hierarchies> {
    of("/proc/self/cgroup")
}

/// Finds the hierarchies, with the cgroups of process `pid` as `own`.
pub(crate) fn of_process(pid: Pid) -> Result<Hierarchies> {
    of(&format!("/proc/{pid}/cgroup"))
}

fn of(cgroups: &str) -> Result<Hierarchies> {
    let read = |path: &str| {
        let path = Path::new(path);
        directory::read(path).map_err(|cause| Error::system("read", path, cause))
    };
    parse(&read(MOUNTINFO)?, &read(cgroups)?)
}

/// Matches the texts of mountinfo and /proc/PID/cgroup (proc_pid_mountinfo(5),
/// cgroups(7)).
pub(crate) fn parse(mountinfo: &[u8], own: &[u8]) -> Result<Hierarchies> {
    let mounts = cgroup_mounts(mountinfo)?;
    let unified_only = mounts
        .iter()
        .any(|mount| mount.v2 && mount.point == USUAL_PLACE);
    let mut found = Hierarchies {
        v1: Vec::new(),
        v2: None,
    };
    for line in own.split(|&byte| byte == b'\n') {
        let mut fields = line.splitn(3, |&byte| byte == b':');
        let (Some(_), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let controllers: Vec<String> = String::from_utf8_lossy(controllers)
            .split(',')
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect();
        let Some(mount) = mount_of(&mounts, &controllers) else {
            continue;
        };
        let own = below_root(&mount.root, Path::new(OsStr::from_bytes(path)));
        let is_v2 = controllers.is_empty();
        let hierarchy = Hierarchy {
            controllers,
            mountpoint: mount.point.clone().into(),
            own,
            flags: if is_v2 { mount.flags() } else { Vec::new() },
        };
        if is_v2 {
            found.v2 = Some(hierarchy);
        } else if !unified_only {
            found.v1.push(hierarchy);
        }
    }
    if found.v1.is_empty() && found.v2.is_none() {
        return Err(Error::NotMounted);
    }
    Ok(found)
}

/// A mount of a cgroup hierarchy.
#[derive(Debug)]
struct Mount {
    v2: bool,
    root: PathBuf,
    point: OsString,
    /// The options, separated by commas.
    options: String,
}

impl Mount {
    fn new(line: &Line) -> Mount {
        Mount {
            v2: line.kind == b"cgroup2",
            root: line.root(),
            point: line.point().into_os_string(),
            options: String::from_utf8_lossy(line.super_options).into_owned(),
        }
    }

    /// Returns the options of cgroup2 itself, without those that every filesystem has and
    /// those of security modules (`seclabel`, `context=…`).
    fn flags(&self) -> Vec<String> {
        let is_own =
            |option: &&str| !matches!(*option, "rw" | "ro" | "seclabel") && !option.contains('=');
        self.options().filter(is_own).map(str::to_owned).collect()
    }

    fn options(&self) -> impl Iterator<Item = &str> {
        self.options.split(',')
    }
}

/// Returns the cgroup mounts that can be reached by their paths.
fn cgroup_mounts(mountinfo: &[u8]) -> Result<Vec<Mount>> {
    let all = teu_mountinfo::mounts(mountinfo).map_err(|cause| {
        let cause = io::Error::new(io::ErrorKind::InvalidData, cause);
        Error::system("read", Path::new(MOUNTINFO), cause)
    })?;
    let is_cgroup = |line: &&Line| matches!(line.kind, b"cgroup" | b"cgroup2");
    let cgroups: Vec<&Line> = all.iter().filter(is_cgroup).collect();
    // Only mounts above a cgroup mount can hide it. A host may have thousands of others.
    let is_above = |line: &&Line| cgroups.iter().any(|cgroup| is_at_or_above(line, cgroup));
    let above: Vec<&Line> = all.iter().filter(is_above).collect();
    let visible = cgroups.iter().filter(|line| !is_hidden(line, &above));
    Ok(visible.map(|line| Mount::new(line)).collect())
}

fn is_at_or_above(upper: &Line, lower: &Line) -> bool {
    let rest = lower.escaped_point.strip_prefix(upper.escaped_point);
    upper.escaped_point == b"/" || rest.is_some_and(|rest| rest.is_empty() || rest[0] == b'/')
}

/// Returns whether another mount covers this mount's root, or a mount above it. The order
/// of lines does not tell, because mounts can be moved.
fn is_hidden(line: &Line, all: &[&Line]) -> bool {
    let covers_root =
        |other: &&Line| other.parent == line.id && other.escaped_point == line.escaped_point;
    if all.iter().any(covers_root) {
        return true;
    }
    let mut child = *line;
    // A chain of parents is at most as long as the list. The limit is needed because the
    // first mount of a system is its own parent.
    for _ in all {
        let is_beside = |other: &&Line| {
            other.parent == child.parent && other.id != child.id && is_at_or_above(other, &child)
        };
        if all.iter().any(is_beside) {
            return true;
        }
        match all.iter().find(|other| other.id == child.parent) {
            Some(parent) => child = **parent,
            None => return false,
        }
    }
    false
}

/// Returns the mount of the hierarchy with these controllers, preferably at the usual
/// place.
fn mount_of<'a>(mounts: &'a [Mount], controllers: &[String]) -> Option<&'a Mount> {
    let fits = |mount: &&Mount| {
        mount.v2 == controllers.is_empty()
            && controllers
                .iter()
                .all(|name| mount.options().any(|option| option == name))
    };
    let is_usual = |mount: &&Mount| {
        let below = mount.point.as_bytes().strip_prefix(USUAL_PLACE.as_bytes());
        below.is_some_and(|below| below.is_empty() || below[0] == b'/')
    };
    mounts
        .iter()
        .filter(fits)
        .find(is_usual)
        .or_else(|| mounts.iter().find(fits))
}

/// Returns `path` relative to the part of the hierarchy that is mounted. The result never
/// leads above that.
fn below_root(root: &Path, path: &Path) -> PathBuf {
    let is_name = |part| matches!(part, Component::Normal(_));
    match path.strip_prefix(root) {
        // The kernel writes "/../x" for a cgroup outside the reader's cgroup namespace.
        Ok(own) if own.components().all(is_name) => own.to_owned(),
        Ok(_) | Err(_) => PathBuf::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &[u8] = b"\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime shared:3 - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
";

    #[test]
    fn hybrid_has_both() {
        let own = b"4:memory:/m\n2:cpu,cpuacct:/a/b\n1:name=systemd:/s\n0::/u\n";
        let found = parse(HYBRID, own).unwrap();
        assert_eq!(
            found.v1,
            [
                Hierarchy {
                    controllers: vec!["cpu".into(), "cpuacct".into()],
                    mountpoint: "/sys/fs/cgroup/cpu,cpuacct".into(),
                    own: "a/b".into(),
                    flags: Vec::new(),
                },
                Hierarchy {
                    controllers: vec!["name=systemd".into()],
                    mountpoint: "/sys/fs/cgroup/systemd".into(),
                    own: "s".into(),
                    flags: Vec::new(),
                },
            ]
        );
        let v2 = found.v2.unwrap();
        assert_eq!(v2.mountpoint, Path::new("/sys/fs/cgroup/unified"));
        assert_eq!(v2.own, Path::new("u"));
    }

    #[test]
    fn unified_hides_v1_mounts_elsewhere() {
        let mountinfo = b"\
30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,seclabel,nsdelegate
99 23 0:77 / /mnt/freezer rw - cgroup cgroup rw,freezer
";
        let own = b"1:freezer:/\n0::/user.slice/session-1.scope\n";
        let found = parse(mountinfo, own).unwrap();
        assert_eq!(found.v1, []);
        let v2 = found.v2.unwrap();
        assert_eq!(v2.own, Path::new("user.slice/session-1.scope"));
        assert_eq!(v2.flags, ["nsdelegate"]);
    }

    #[test]
    fn a_later_mount_hides_an_earlier_one() {
        let mountinfo = b"\
30 23 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw
31 30 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw
32 31 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
";
        let found = parse(mountinfo, b"3:pids:/\n0::/\n").unwrap();
        assert_eq!(found.v2, None);
        assert_eq!(found.v1.len(), 1);
    }

    #[test]
    fn a_mount_over_the_parent_hides_what_is_below() {
        let hybrid = String::from_utf8(HYBRID.to_vec()).unwrap();
        let mountinfo = format!("{hybrid}60 31 0:38 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n");
        let own = b"2:cpu,cpuacct:/a\n0::/u\n";
        let found = parse(mountinfo.as_bytes(), own).unwrap();
        assert_eq!(found.v1, []);
        assert_eq!(found.v2.unwrap().mountpoint, Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn the_order_of_lines_does_not_matter() {
        // The root was mounted after the mounts of an initial RAM disk.
        let mountinfo = b"\
22 70 0:20 / /sys rw - sysfs sysfs rw
30 22 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw
31 70 0:9 / /sys/fs rw - tmpfs hidden-below-sys rw
70 1 8:1 / / rw - ext4 /dev/sda1 rw
";
        let found = parse(mountinfo, b"0::/\n").unwrap();
        assert_eq!(found.v2.unwrap().mountpoint, Path::new("/sys/fs/cgroup"));
    }

    #[test]
    fn the_usual_place_wins_and_the_mounted_root_is_taken_off() {
        let mountinfo = b"\
50 23 0:29 / /var/lib/x/pids rw - cgroup cgroup rw,pids
51 23 0:29 /docker/1 /sys/fs/cgroup/pi\\040ds rw - cgroup cgroup rw,pids
";
        let found = parse(mountinfo, b"3:pids:/docker/1/sub\n").unwrap();
        assert_eq!(found.v1[0].mountpoint, Path::new("/sys/fs/cgroup/pi ds"));
        assert_eq!(found.v1[0].own, Path::new("sub"));
        let found = parse(mountinfo, b"3:pids:/docker/2\n").unwrap();
        assert_eq!(found.v1[0].own, Path::new(""));
        let found = parse(HYBRID, b"0::/../other\n").unwrap();
        assert_eq!(found.v2.unwrap().own, Path::new(""));
    }

    #[test]
    fn controllers_mounted_together_in_any_order_and_without_prefixes() {
        let mountinfo = b"\
32 31 0:29 / /cg/a rw - cgroup none rw,cpuacct,cpu
33 31 0:30 / /dev/cpuset rw - cgroup cpuset rw,cpuset,noprefix,release_agent=/sbin/agent
34 31 0:31 / /cg/both rw - cgroup none rw,net_cls,net_prio
35 31 0:32 / /cg/named rw - cgroup none rw,xattr,name=mine
";
        let own = b"5:net_cls,net_prio:/n\n4:name=mine:/m\n3:cpuset:/s\n2:cpu,cpuacct:/c\n";
        let found = parse(mountinfo, own).unwrap();
        let places: Vec<String> = found
            .v1
            .iter()
            .map(|one| {
                format!(
                    "{}={:?}",
                    one.controllers.join(","),
                    one.mountpoint.join(&one.own)
                )
            })
            .collect();
        assert_eq!(
            places,
            [
                "net_cls,net_prio=\"/cg/both/n\"",
                "name=mine=\"/cg/named/m\"",
                "cpuset=\"/dev/cpuset/s\"",
                "cpu,cpuacct=\"/cg/a/c\"",
            ]
        );
    }

    /// crun refuses such a host. Here v1 hierarchies win, and v2 has the other controllers.
    #[test]
    fn hybrid_with_controllers_left_on_v2() {
        let mountinfo = b"\
31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
";
        let found = parse(mountinfo, b"2:pids:/p\n0::/u\n").unwrap();
        assert_eq!(found.v1.len(), 1);
        assert_eq!(found.v2.unwrap().own, Path::new("u"));
    }

    /// A container sees its own part of the tree: by bind mounts without a cgroup
    /// namespace, or by new mounts with one.
    #[test]
    fn inside_a_container() {
        let bound = b"50 23 0:26 /docker/1 /sys/fs/cgroup ro - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = parse(bound, b"0::/docker/1\n").unwrap();
        assert_eq!(found.v2.unwrap().own, Path::new(""));
        let own = b"50 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = parse(own, b"0::/init\n").unwrap();
        assert_eq!(found.v2.unwrap().own, Path::new("init"));
        // The host's mounts, seen from a cgroup namespace.
        let above = b"50 23 0:26 /../.. /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let found = parse(above, b"0::/\n").unwrap();
        assert_eq!(found.v2.unwrap().own, Path::new(""));
        // A delegated part: a user's own, by its service manager.
        let delegated = b"30 23 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        let path = b"0::/user.slice/user-1000.slice/user@1000.service/app.slice/x.scope\n";
        let own = parse(delegated, path).unwrap().v2.unwrap().own;
        assert!(own.ends_with("app.slice/x.scope"));
    }

    #[test]
    fn a_mount_that_cannot_be_read_is_an_error() {
        let mountinfo = [HYBRID, b"42 31 0:39 /sys/fs/cgroup/pids\n"].concat();
        let error = parse(&mountinfo, b"3:pids:/\n0::/\n").unwrap_err();
        assert_eq!(
            teu_errno::line(&error),
            "read \"/proc/self/mountinfo\": not a line of mountinfo: \
             \"42 31 0:39 /sys/fs/cgroup/pids\""
        );
    }

    #[test]
    fn nothing_mounted_is_an_error() {
        let error = parse(b"", b"0::/\n").unwrap_err();
        assert_eq!(
            error.to_string(),
            "find cgroups: no cgroup hierarchy is mounted"
        );
    }
}
