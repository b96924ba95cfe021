//! Looks up the container's users and groups by name, in its own passwd and group files
//! (passwd(5), group(5)), from outside. The container can write these files, so they
//! are opened inside its root and must be regular files that are not the kernel's own.
//! Only the beginning of a file is read, and no more than its size.
//!
//! Not for the home directory, which a process looks up from inside.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::init::ordinary_file;
use crate::init::paths::Root;
use crate::init::procfs::Procfs;

/// The most bytes of a file that are read.
const LONGEST_FILE: u64 = 1024 * 1024;

const PASSWD: &str = "/etc/passwd";
const GROUP: &str = "/etc/group";

/// A user by numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    /// `None` if neither the caller nor a passwd file gives a group.
    pub(crate) gid: Option<u32>,
    /// The user's other groups; empty if the caller chose the group.
    pub(crate) groups: Vec<u32>,
}

/// Returns whether `text`, a `USER[:GROUP]`, has a name in it.
pub(crate) fn has_name(text: &str) -> bool {
    text.split(':').any(|part| part.parse::<u32>().is_err())
}

/// Finds the user of `text`, a `USER[:GROUP]` whose parts may be names, in the
/// container whose init is `pid`.
///
/// # Errors
/// The user or the group does not exist, or its file is missing.
pub(crate) fn find(text: &str, pid: i32) -> Result<User> {
    let path = format!("/proc/{pid}/root");
    let root = Root::at(Path::new(&path)).with_context(|| format!("open {path:?}"))?;
    find_in(text, &root)
}

fn find_in(text: &str, root: &Root) -> Result<User> {
    let (user, group) = match text.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (text, None),
    };
    let mut found = match user.parse() {
        Ok(uid) => User {
            uid,
            gid: None,
            groups: Vec::new(),
        },
        Err(_) => by_name(user, root)?,
    };
    if let Some(group) = group {
        found.gid = Some(match group.parse() {
            Ok(gid) => gid,
            Err(_) => group_by_name(group, root)?,
        });
    } else if user.parse::<u32>().is_err() {
        found.groups = groups_of(user, root)?;
    }
    Ok(found)
}

/// Finds the user `name`. A line of passwd is `name:password:uid:gid:…`.
fn by_name(name: &str, root: &Root) -> Result<User> {
    let refused = || format!("bad uid: {name:?}");
    for line in lines(PASSWD, root).with_context(refused)? {
        let fields: Vec<&str> = line.split(':').collect();
        if let [of, _, uid, gid, ..] = fields[..]
            && of == name
            && !name.is_empty()
            && let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse())
        {
            return Ok(User {
                uid,
                gid: Some(gid),
                groups: Vec::new(),
            });
        }
    }
    bail!("{}: no such user in {PASSWD:?} of the container", refused())
}

/// Finds the group `name`. A line of group is `name:password:gid:member,member`.
fn group_by_name(name: &str, root: &Root) -> Result<u32> {
    let refused = || format!("bad gid: {name:?}");
    for line in lines(GROUP, root).with_context(refused)? {
        let mut fields = line.split(':');
        if fields.next() == Some(name)
            && !name.is_empty()
            && let Some(Ok(gid)) = fields.nth(1).map(str::parse)
        {
            return Ok(gid);
        }
    }
    bail!("{}: no such group in {GROUP:?} of the container", refused())
}

/// Returns the groups that have `user` as a member. Without a group file there are
/// none.
fn groups_of(user: &str, root: &Root) -> Result<Vec<u32>> {
    if matches!(
        root.resolve(Path::new(GROUP)),
        Err(rustix::io::Errno::NOENT)
    ) {
        return Ok(Vec::new());
    }
    let mut groups = Vec::new();
    for line in lines(GROUP, root)? {
        let mut fields = line.split(':').skip(2);
        if let (Some(Ok(gid)), Some(members)) = (fields.next().map(str::parse), fields.next())
            && members.split(',').any(|member| member == user)
        {
            groups.push(gid);
        }
    }
    Ok(groups)
}

fn lines(path: &str, root: &Root) -> Result<Vec<String>> {
    let context = || format!("read {path:?} of the container");
    let handle = root.resolve(Path::new(path)).with_context(context)?;
    let procfs = Procfs::of_the_mount_namespace().with_context(context)?;
    let lines = ordinary_file::lines(handle.as_fd(), &procfs, LONGEST_FILE);
    let lines = lines.with_context(context)?;
    lines.collect::<io::Result<_>>().with_context(context)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errno;
    use crate::init::paths::tests::private_root;
    use std::fs;
    use std::os::unix::fs::symlink;

    fn words(text: &str, root: &Root) -> String {
        errno::chain(&find_in(text, root).expect_err(text))
    }

    #[test]
    fn names_are_the_containers() {
        private_root("users", |directory, root| {
            fs::create_dir(directory.join("etc")).expect("mkdir");
            let passwd = "broken\nroot:x:0:0::/:\nbuild:x:1000:1001:B:/home:/bin/sh\n";
            fs::write(directory.join("etc/passwd"), passwd).expect("write");
            let user = |uid, gid, groups: &[u32]| User {
                uid,
                gid,
                groups: groups.to_vec(),
            };
            // Without a group file there are no other groups.
            assert_eq!(
                find_in("build", root).expect("user"),
                user(1000, Some(1001), &[])
            );
            let group = "wheel:x:10:root,build\nvideo:x:44:build\nbuilders:x:1001:\n";
            fs::write(directory.join("etc/group"), group).expect("write");
            for (text, expected) in [
                ("build", user(1000, Some(1001), &[10, 44])),
                ("build:video", user(1000, Some(44), &[])),
                ("build:7", user(1000, Some(7), &[])),
                ("5:wheel", user(5, Some(10), &[])),
                ("5", user(5, None, &[])),
            ] {
                assert_eq!(find_in(text, root).expect(text), expected, "{text}");
            }
            assert!(words("other", root).contains("bad uid: \"other\""));
            assert!(words("5:other", root).contains("bad gid: \"other\""));
        });
    }

    #[test]
    fn what_the_container_puts_there_is_not_trusted() {
        private_root("users", |directory, root| {
            fs::create_dir(directory.join("etc")).expect("mkdir");
            let passwd = directory.join("etc/passwd");
            assert!(words("root", root).contains("no such file or directory"));
            // The host has a root user, but this root filesystem has no passwd file.
            symlink("/proc/1/root/etc/passwd", &passwd).expect("symlink");
            assert!(words("root", root).contains("no such file or directory"));
            fs::remove_file(&passwd).expect("unlink");
            nix::unistd::mkfifo(&passwd, nix::sys::stat::Mode::S_IRWXU).expect("mkfifo");
            assert!(words("root", root).contains("not a regular file"));
            fs::remove_file(&passwd).expect("unlink");
            let mut long = vec![b'x'; usize::try_from(LONGEST_FILE).expect("size")];
            long.extend_from_slice(b"\nroot:x:0:0:::\n");
            fs::write(&passwd, long).expect("write");
            assert!(words("root", root).contains("no such user"));
        });
    }
}
