//! Makes the environment of the program, with HOME from the container's /etc/passwd.
//! Not for deciding its variables: `plan/src/process.rs` does that.

use std::ffi::{CStr, CString};
use std::os::fd::AsFd;

use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat2};
use rustix::io::Errno;
use teu_plan::process::{Environment, ProcessPlan};

use super::ordinary_file;
use super::procfs::Procfs;
use crate::errno;

/// Bytes of /etc/passwd that are read at most, because the file is the container's and
/// may be anything.
const LONGEST_PASSWD: u64 = 16 * 1024 * 1024;

/// Returns the environment of the program. Adds HOME from the container's /etc/passwd
/// unless the specification sets it. Must be called inside the root filesystem.
/// `procfs` opens a trustworthy procfs.
pub(crate) fn environment<'a>(
    plan: &ProcessPlan,
    procfs: impl Fn() -> Result<&'a Procfs>,
) -> Result<Vec<CString>> {
    let Environment {
        variables,
        needs_home,
        ..
    } = &plan.environment;
    let mut variables = variables.clone();
    if *needs_home {
        let home = match home(c"/etc/passwd", plan.credentials.uid, procfs) {
            Ok(home) => home,
            // No warning, as in runc: HOME is then "/".
            Err(err) => {
                log::debug!("HOME is not set in process.env: {}", errno::chain(&err));
                None
            }
        };
        let home = home.unwrap_or_else(|| "/".to_owned());
        variables.push(CString::new(format!("HOME={home}")).context("HOME")?);
    }
    Ok(variables)
}

/// Returns the home directory of `uid` from the file (passwd(5)).
fn home<'a>(
    passwd: &CStr,
    uid: u32,
    procfs: impl Fn() -> Result<&'a Procfs>,
) -> Result<Option<String>> {
    // Open a handle first: the file is the container's, and may be a link to a file
    // that this process has open, or a device.
    let resolve = ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let handle = match openat2(CWD, passwd, flags, Mode::empty(), resolve) {
        Err(Errno::NOENT) => return Ok(None),
        handle => handle.with_context(|| format!("open {passwd:?}"))?,
    };
    let lines = ordinary_file::lines(handle.as_fd(), procfs()?, LONGEST_PASSWD);
    let wanted = uid.to_string();
    for line in lines.with_context(|| format!("open {passwd:?}"))? {
        let line = line.with_context(|| format!("read {passwd:?}"))?;
        let mut fields = line.trim().split(':').skip(2);
        if fields.next() == Some(&*wanted) {
            return Ok(fields
                .nth(2)
                .filter(|home| !home.is_empty() && !home.contains('\0'))
                .map(str::to_owned));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use crate::testing;
    use std::fs;
    use teu_namespaces::NamespacePlan;
    use teu_plan::process::ForEveryProcess;

    fn plan(process: &str) -> ProcessPlan {
        let process = testing::read(&format!(r#"{{"args":["x"],{process}}}"#));
        ProcessPlan::of(
            &process,
            &ForEveryProcess::default(),
            &Host::new().caller(None, false).expect("the caller"),
            &NamespacePlan::default(),
            false,
        )
        .expect("plan")
    }

    #[test]
    fn homes_of_passwd() {
        let procfs = Procfs::of_the_mount_namespace().expect("proc");
        let dir = testing::Directory::new("passwd");
        let path = dir.path().join("passwd");
        let text = "root:x:0:0::/root:/bin/sh\nbroken\na:x:12:0::/home/a:/bin/sh\nb:x:13:0:::\n";
        fs::write(&path, text).expect("write");
        let path = CString::new(path.as_os_str().as_encoded_bytes()).expect("path");
        for (uid, expected) in [
            (0, Some("/root")),
            (12, Some("/home/a")),
            (13, None),
            (1, None),
        ] {
            assert_eq!(
                home(&path, uid, || Ok(&procfs)).expect("home").as_deref(),
                expected,
                "{uid}"
            );
        }
        home(c"/dev/zero", 0, || Ok(&procfs)).expect_err("no regular file");
        let none = home(c"/nonexistent", 0, || Ok(&procfs));
        assert_eq!(none.expect("none to look in"), None);
    }

    #[test]
    fn home_is_filled_in_only_where_it_is_missing() {
        let procfs = Procfs::of_the_mount_namespace().expect("proc");
        let with = environment(&plan(r#""cwd":"/","env":["HOME=/x"]"#), || Ok(&procfs))
            .expect("environment");
        assert_eq!(with, [c"HOME=/x".to_owned()]);
        let without = environment(&plan(r#""cwd":"/","env":["HOME=","A=1"]"#), || Ok(&procfs))
            .expect("environment");
        assert_eq!(without, [c"A=1".to_owned(), c"HOME=/root".to_owned()]);
    }
}
