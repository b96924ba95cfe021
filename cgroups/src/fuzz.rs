//! Has the target of `integration/fuzz` for the files that tell where the cgroup
//! hierarchies are. It panics if the result breaks a promise of the readers. See
//! `src/fuzz/`.

use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};

use crate::cpu_list;
use crate::hierarchy;

/// Reads mountinfo and, after an empty line, /proc/PID/cgroup. Checks that a mount is the
/// same after it is written and read again, that hierarchies are at mountpoints of the
/// text, and that the process's own cgroup is never above its mountpoint.
pub fn hierarchies(text: &[u8]) -> Option<()> {
    if let Some(numbers) = std::str::from_utf8(text).ok().and_then(cpu_list::parse) {
        assert_eq!(cpu_list::parse(&cpu_list::format(&numbers)), Some(numbers));
    }
    let end = text.windows(2).position(|bytes| bytes == b"\n\n")?;
    let (mountinfo, own) = (&text[..end], &text[end + 2..]);
    let mounts = teu_mountinfo::mounts(mountinfo).ok()?;
    for mount in &mounts {
        assert_same(mount);
    }
    let found = hierarchy::parse(mountinfo, own).ok()?;
    for hierarchy in found.v1.iter().chain(&found.v2) {
        let is_there = |mount: &teu_mountinfo::Mount| mount.point() == hierarchy.mountpoint;
        assert!(mounts.iter().any(is_there));
        let is_below = |part| matches!(part, Component::Normal(_));
        assert!(
            hierarchy.own.components().all(is_below),
            "{:?}",
            hierarchy.own
        );
    }
    Some(())
}

/// Writes a mount as the kernel does, reads it, and checks that it is the same.
fn assert_same(mount: &teu_mountinfo::Mount) {
    let mut line = format!("{} {} 0:1 ", mount.id, mount.parent).into_bytes();
    for path in [mount.root(), mount.point()] {
        line.extend(escaped(&path).into_bytes());
        line.push(b' ');
    }
    for field in [
        mount.options,
        b"-",
        mount.kind,
        b"none",
        mount.super_options,
    ] {
        line.extend(field);
        line.push(b' ');
    }
    let again = teu_mountinfo::mounts(&line).expect("a mount")[0];
    assert_eq!((again.root(), again.point()), (mount.root(), mount.point()));
    assert_eq!((again.id, again.parent), (mount.id, mount.parent));
    assert_eq!((again.kind, again.options), (mount.kind, mount.options));
    assert_eq!(again.super_options, mount.super_options);
}

/// Writes a path with every byte as octal digits. They have the same meaning as octal
/// digits for only the few bytes that need them.
fn escaped(path: &Path) -> String {
    let mut text = String::new();
    for byte in path.as_os_str().as_bytes() {
        write!(text, "\\{byte:03o}").expect("written");
    }
    text
}

#[cfg(test)]
#[path = "../../integration/fuzz/replay.rs"]
mod replay;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_hold_for_their_seeds() {
        replay::replay(&[("hierarchies", hierarchies)]);
    }
}
