//! The last steps of a process: finds the program, closes the descriptors that the program
//! must not have, and executes it.
//!
//! The words of [`find`] are those of Go's `exec.LookPath`: Docker and Podman
//! choose exit statuses 126 and 127 by them.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::io::{self, Write};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, accessat, stat};
use rustix::io::Errno;
use rustix::process::Resource;
use teu_plan::mounts::clean;

use crate::{errno, pipe, sys};

/// The byte that is written to `watched` if the program cannot run. It is the tag of the
/// message `Failed`, without the text.
const NOT_EXECUTED: [u8; 1] = [pipe::FAILED];

/// Finds the program `name`: as a path if it has a slash, else in the
/// directories of `search_path` (the value of PATH).
///
/// # Errors
/// In the words of Go's `exec.LookPath`, such as
/// `exec: "nosuch": executable file not found in $PATH`.
pub(crate) fn find(name: &CStr, search_path: Option<&str>) -> Result<CString> {
    let text = name.to_string_lossy();
    if text.contains('/') {
        check_executable(name, &text).with_context(|| format!("exec: {text:?}"))?;
        return Ok(name.to_owned());
    }
    if !matches!(&*text, "" | "." | "..") {
        let search_path = search_path.filter(|path| !path.is_empty());
        for directory in search_path.iter().flat_map(|path| path.split(':')) {
            let path = Path::new(directory).join(&*text);
            let path = match path.is_absolute() {
                true => clean(&path),
                false => path,
            };
            let found = CString::new(path.as_os_str().as_encoded_bytes())?;
            if check_executable(&found, &text).is_err() {
                continue;
            }
            if !path.is_absolute() {
                // An empty or relative directory in PATH.
                return Err(anyhow!(
                    "cannot run executable found relative to current directory"
                ))
                .with_context(|| format!("exec: {text:?}"));
            }
            return Ok(found);
        }
    }
    Err(anyhow!("executable file not found in $PATH")).with_context(|| format!("exec: {text:?}"))
}

/// Checks that the caller may execute the file and that it is not a directory, which has
/// the same permission.
fn check_executable(path: &CStr, text: &str) -> Result<()> {
    let status = stat(path).with_context(|| format!("stat {text}"))?;
    if FileType::from_raw_mode(status.st_mode).is_dir() {
        return Err(Errno::ISDIR.into());
    }
    match accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        Ok(()) => Ok(()),
        // A seccomp profile older than faccessat2(2) is loaded by now.
        Err(Errno::NOSYS | Errno::PERM) => {
            let any = Mode::XUSR | Mode::XGRP | Mode::XOTH;
            if Mode::from_raw_mode(status.st_mode).intersects(any) {
                Ok(())
            } else {
                Err(Errno::ACCESS.into())
            }
        }
        Err(err) => Err(err.into()),
    }
}

/// Unblocks all signals, because the parent may have blocked them before the clone (see
/// `signals::Signals`).
pub(crate) fn unblock_signals() -> Result<()> {
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None).context("unblock signals")
}

/// Executes the program. Returns only if that fails. The descriptors of this process may be
/// closed then, so no destructor may run.
///
/// Closes every descriptor from 3 + `preserved_fds` on first: close-on-exec
/// would come too late for a program called `/proc/self/fd/7`, since execve(2)
/// opens it before it closes anything (CVE-2024-21626). That leaves no way to
/// tell the parent of a failure: see [`fail`].
///
/// `left` are the descriptors that [`close_all`] did not close. If close_range(2) fails, for
/// example because the filter forbids it, this function closes them one by one, and ignores
/// those that are closed already.
///
/// `watched` is close-on-exec and stays open until execve(2): its other end is
/// closed when the program runs, and receives a byte if the program cannot run. It does no
/// harm until then, because a fifo or a socket does not lead to files of the host.
pub(crate) fn exec(
    program: &CStr,
    args: &[CString],
    environment: &[CString],
    preserved_fds: u32,
    left: &[BorrowedFd<'_>],
    watched: Option<BorrowedFd<'_>>,
) -> Result<Infallible> {
    leave_only(preserved_fds, left, watched).context("close descriptors")?;
    nix::unistd::execve(program, args, environment)
        .with_context(|| format!("exec {}", program.to_string_lossy()))
}

/// Writes to `watched` that the program will not run, and then writes the reason to the
/// container's standard error, as one line in runc's words. The order matters because the
/// second write may end this process (SIGPIPE). Writes nothing if the parent is gone: it tells
/// its own reason, which engines expect to be the only line.
pub(crate) fn fail(watched: Option<BorrowedFd<'_>>, error: &anyhow::Error) {
    if error.is::<pipe::ParentIsGone>() {
        return;
    }
    // A watcher that does not receive the byte sees the end of this process.
    watched.map(|watched| rustix::io::write(watched, &NOT_EXECUTED).ok());
    // Nothing is left to tell if stderr is gone as well.
    writeln!(std::io::stderr(), "{}", errno::chain(error)).ok();
}

/// Leaves open the standard streams, `preserved_fds` descriptors after them, and `watched`
/// until execve(2). `watched` has a higher number, because the others were opened first.
fn leave_only(
    preserved_fds: u32,
    left: &[BorrowedFd<'_>],
    watched: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let first = 3 + preserved_fds;
    let watched = numbers(watched.as_slice());
    close_from_but(first, &watched).or_else(|_| {
        let left = numbers(left).into_iter();
        left.filter(|number| *number >= first && !watched.contains(number))
            .try_for_each(sys::close_if_open)
    })?;
    (3..first).try_for_each(sys::keep_over_exec)
}

/// Closes all descriptors after the standard streams and `preserved_fds` more, except
/// `kept`. An owner of a closed descriptor must not be used or dropped any more.
pub(crate) fn close_all(preserved_fds: u32, kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let first = 3 + preserved_fds;
    let kept = numbers(kept);
    // A seccomp profile that is older than close_range(2) may make it fail with any error.
    close_from_but(first, &kept).or_else(|_| close_each_from(first, &kept))
}

/// The numbers of descriptors, in order.
fn numbers(descriptors: &[BorrowedFd<'_>]) -> Vec<u32> {
    let numbers = descriptors.iter().map(AsRawFd::as_raw_fd);
    let mut numbers: Vec<u32> = numbers.map(i32::cast_unsigned).collect();
    numbers.sort_unstable();
    numbers
}

/// Closes all descriptors from `first` on, except `kept`, which must be in order.
fn close_from_but(first: u32, kept: &[u32]) -> io::Result<()> {
    let mut from = first;
    for number in kept.iter().copied().filter(|number| *number >= first) {
        if from < number {
            sys::close_range(from, number - 1)?;
        }
        from = number + 1;
    }
    sys::close_from(from)
}

/// Closes one descriptor after the other, up to the highest possible number. The list in
/// /proc cannot be trusted, because the container's procfs is mounted there.
fn close_each_from(first: u32, kept: &[u32]) -> io::Result<()> {
    /// The most that the kernel lets be open by default (`fs.nr_open`).
    const MOST: u64 = 1 << 20;
    let limit = match sys::resource_limit(Resource::Nofile) {
        Ok(limit) => limit.maximum.unwrap_or(MOST).clamp(1 << 16, MOST),
        // If the limit cannot be read, close as many descriptors as without a limit.
        Err(_) => MOST,
    };
    let limit = u32::try_from(limit).unwrap_or(u32::MAX);
    (first..limit)
        .filter(|number| !kept.contains(number))
        .try_for_each(sys::close_if_open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    fn script(path: &Path, mode: u32) {
        fs::write(path, "#!/nonexistent\n").expect("write");
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    }

    fn words(name: &str, search_path: Option<&str>) -> String {
        let name = CString::new(name).expect("name");
        match find(&name, search_path) {
            Ok(path) => path.into_string().expect("utf-8"),
            Err(err) => testing::words(&err),
        }
    }

    #[test]
    fn programs_and_words_of_refusal() {
        let dir = testing::Directory::new("command");
        fs::create_dir(dir.path().join("bin")).expect("mkdir");
        fs::create_dir(dir.path().join("bin/sub")).expect("mkdir");
        script(&dir.path().join("bin/run"), 0o755);
        script(&dir.path().join("bin/plain"), 0o644);
        let dir = dir.path().display().to_string();
        let bin = format!("{dir}/bin");
        let both = format!("/nonexistent:{dir}/bin/");
        for (name, search_path, expected) in [
            ("run", Some(&*both), format!("{bin}/run")),
            (&format!("{bin}/run"), None, format!("{bin}/run")),
            (
                "nosuch",
                Some(&bin),
                r#"exec: "nosuch": executable file not found in $PATH"#.into(),
            ),
            (
                "run",
                None,
                r#"exec: "run": executable file not found in $PATH"#.into(),
            ),
            (
                "run",
                Some(""),
                r#"exec: "run": executable file not found in $PATH"#.into(),
            ),
            (
                "",
                Some(&bin),
                r#"exec: "": executable file not found in $PATH"#.into(),
            ),
            (
                "..",
                Some(&bin),
                r#"exec: "..": executable file not found in $PATH"#.into(),
            ),
            // A directory or a plain file in PATH counts as not found.
            (
                "sub",
                Some(&bin),
                r#"exec: "sub": executable file not found in $PATH"#.into(),
            ),
            (
                "plain",
                Some(&bin),
                r#"exec: "plain": executable file not found in $PATH"#.into(),
            ),
            // By its path, it is named in the message.
            ("/etc", None, r#"exec: "/etc": is a directory"#.into()),
            (
                "/etc/passwd",
                None,
                r#"exec: "/etc/passwd": permission denied"#.into(),
            ),
            (
                "/x",
                None,
                r#"exec: "/x": stat /x: no such file or directory"#.into(),
            ),
            (
                "/etc/passwd/x",
                None,
                r#"exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory"#.into(),
            ),
        ] {
            assert_eq!(
                words(name, search_path),
                expected,
                "{name} in {search_path:?}"
            );
        }
    }

    #[test]
    fn a_program_beside_us_is_not_run_by_accident() {
        let dir = testing::Directory::new("command-dot");
        script(&dir.path().join("run"), 0o755);
        let path = dir.path().to_owned();
        testing::in_child(move || {
            std::env::set_current_dir(&path).expect("chdir");
            for search_path in [":", ".", "/nonexistent:"] {
                assert_eq!(
                    words("run", Some(search_path)),
                    r#"exec: "run": cannot run executable found relative to current directory"#
                );
            }
            assert_eq!(words("./run", None), "./run");
        });
    }

    #[test]
    fn the_path_of_a_program_is_clean() {
        for search_path in ["/bin/.", "/nosuch/..//bin", "/../bin/"] {
            let found = find(c"sh", Some(search_path)).expect(search_path);
            assert_eq!(&*found, c"/bin/sh");
        }
    }

    #[test]
    fn only_the_preserved_descriptors_and_default_signals_reach_the_program() {
        let output = testing::output_of_child(|| {
            let all = nix::sys::signal::SigSet::all();
            let how = nix::sys::signal::SigmaskHow::SIG_BLOCK;
            nix::sys::signal::sigprocmask(how, Some(&all), None).expect("block");
            // Rust's runtime ignores SIGPIPE.
            sys::restore_signals(sys::ALL_SIGNALS).expect("signals");
            let script =
                c"ls /proc/self/fd | tr '\\n' ' '; grep -E 'Sig(Blk|Ign)' /proc/self/status";
            let args = [c"sh", c"-c", script].map(CStr::to_owned);
            exec(c"/bin/sh", &args, &[c"PATH=/bin".to_owned()], 0, &[], None).expect("exec");
        });
        // Descriptor 3 is the directory that ls itself has open.
        assert!(output.starts_with("0 1 2 3 SigBlk"), "{output}");
        assert_eq!(output.matches("0000000000000000").count(), 2, "{output}");
    }

    #[test]
    fn a_preserved_descriptor_reaches_the_program() {
        let output = testing::output_of_child(|| {
            sys::close_from(3).expect("close");
            // The standard library opens files with close-on-exec.
            let file = fs::File::open("/etc/passwd").expect("open");
            assert_eq!(std::os::fd::AsRawFd::as_raw_fd(&file), 3);
            let args = [c"readlink", c"/proc/self/fd/3"].map(CStr::to_owned);
            exec(c"/usr/bin/readlink", &args, &[], 1, &[], None).expect("exec");
        });
        assert_eq!(output, "/etc/passwd\n");
    }

    #[test]
    fn a_failed_exec_is_one_line() {
        let dir = testing::Directory::new("command-exec");
        let path = dir.path().join("run.sh");
        script(&path, 0o755);
        let output = testing::output_of_child(|| {
            let program = CString::new(path.as_os_str().as_encoded_bytes()).expect("path");
            let args = std::slice::from_ref(&program);
            let Err(err) = exec(&program, args, &[], 0, &[], None);
            fail(None, &err);
        });
        assert_eq!(
            output,
            format!("exec {}: no such file or directory\n", path.display())
        );
    }
}
