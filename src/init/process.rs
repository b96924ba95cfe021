//! Turns this process into the process of the plan: session, working directory, user.
//! Not for limits (`limits.rs`) and capability sets (`capabilities.rs`).

use std::ffi::CStr;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, bail};
use nix::sys::personality::{self, Persona};
use rustix::fs::{FileType, Mode, OFlags, fchown, fstat};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Gid, Signal, Uid, chdir, getcwd, set_dumpable_behavior,
    set_parent_process_death_signal, setsid, umask,
};
use rustix::stdio::{stderr, stdin, stdout};
use rustix::thread::{set_no_new_privs, set_thread_gid, set_thread_groups, set_thread_uid};
use teu_plan::process::{Credentials, ProcessPlan};

use super::capabilities;
use super::masks::is_null_device;
use crate::pipe::InitEnd;

/// Has the kernel kill this process if its parent ends before the process is ready. From
/// then on the pipe tells of the parent's end.
pub(crate) fn end_with_parent(parent: &InitEnd) -> Result<()> {
    set_parent_process_death_signal(Some(Signal::KILL)).context("prctl(PR_SET_PDEATHSIG)")?;
    parent.check_parent()
}

/// Undoes [`end_with_parent`]: the program lives on when teu has ended.
pub(crate) fn outlive_parent() -> Result<()> {
    set_parent_process_death_signal(None).context("prctl(PR_SET_PDEATHSIG)")
}

/// Starts a new session, so that the container does not have the caller's controlling
/// terminal.
pub(crate) fn start_session() -> Result<()> {
    setsid().context("setsid")?;
    Ok(())
}

/// Sets the attributes that are set before the privileges are dropped: the file mode
/// mask, no_new_privs and the personality.
pub(crate) fn set_attributes(plan: &ProcessPlan) -> Result<()> {
    if let Some(mask) = plan.umask {
        umask(Mode::from_raw_mode(mask));
    }
    if plan.no_new_privileges {
        set_no_new_privs(true).context("set no_new_privs")?;
    }
    if let Some(persona) = plan.personality {
        personality::set(Persona::from_bits_retain(persona.cast_signed()))
            .context("set personality")?;
    }
    Ok(())
}

/// Enters the working directory and verifies where it is, before a system call filter
/// may forbid that. Returns `false` if the permission is missing. [`become_user`] then
/// tries again, because some directories are open to root only, and others, on a
/// network filesystem, to the user only.
pub(crate) fn enter_cwd(cwd: &CStr) -> Result<bool> {
    let entered = try_enter_cwd(cwd)?;
    if entered {
        verify_cwd()?;
    }
    Ok(entered)
}

/// Enters the working directory as the user. There is no second attempt.
pub(crate) fn enter_cwd_as_user(cwd: &CStr) -> Result<()> {
    match enter_cwd(cwd)? {
        true => Ok(()),
        false => Err(cwd_error(cwd, Errno::ACCESS)),
    }
}

/// Changes to the user and the capabilities of the plan, and enters the working
/// directory unless that was `entered` before. Afterwards the process has no more power
/// than the container's program.
///
/// `status` is the file `/proc/self/status` of this process (proc_pid_status(5)).
/// `procfs` opens the root of a trustworthy procfs.
pub(crate) fn become_user<P: AsFd>(
    plan: &ProcessPlan,
    status: impl AsFd,
    procfs: impl Fn() -> Result<P>,
    entered: bool,
) -> Result<()> {
    capabilities::limit_bounding_set(&plan.capabilities, status)?;
    capabilities::keep_over_change_of_user(true)?;
    own_standard_streams(plan.credentials.uid, plan.has_callers_streams)?;
    set_ids(&plan.credentials, procfs)?;
    if !entered && !enter_cwd(&plan.cwd)? {
        return Err(cwd_error(&plan.cwd, Errno::ACCESS));
    }
    capabilities::keep_over_change_of_user(false)?;
    if plan.is_hidden {
        // Until now only processes with this process's capabilities could look into it,
        // and these capabilities are dropped next (ptrace(2)). A filter may forbid the
        // call later.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).context("prctl(PR_SET_DUMPABLE)")?;
    }
    capabilities::apply(&plan.capabilities)
}

/// Enters the directory. Returns `false` if the permission is missing.
fn try_enter_cwd(cwd: &CStr) -> Result<bool> {
    match chdir(cwd) {
        Ok(()) => Ok(true),
        Err(Errno::ACCESS | Errno::PERM) => Ok(false),
        Err(err) => Err(cwd_error(cwd, err)),
    }
}

fn cwd_error(cwd: &CStr, err: Errno) -> anyhow::Error {
    anyhow::Error::new(err).context(format!(
        "chdir to cwd ({:?}) set in config.json failed",
        cwd.to_string_lossy()
    ))
}

/// Verifies that the working directory lies below the container's root, because a path
/// through a descriptor that was left open could lead to the host's files
/// (CVE-2024-21626). Makes the system call itself, because getcwd(3) of the C library hides
/// that the kernel's answer does not begin with "/".
fn verify_cwd() -> Result<()> {
    const BREAKOUT: &str = "possible container breakout detected";
    match getcwd(Vec::new()) {
        Ok(path) if path.as_bytes().starts_with(b"/") => Ok(()),
        Ok(path) => bail!(
            "current working directory is not absolute -- {BREAKOUT}: cwd is {:?}",
            path.to_string_lossy()
        ),
        Err(Errno::NOENT) => bail!(
            "current working directory is outside of container mount namespace root -- {BREAKOUT}"
        ),
        Err(err) => Err(err).context("verify that cwd is inside container: getcwd"),
    }
}

/// Makes the user the owner of the standard streams, because they were made outside and
/// a program that opens /dev/stdout has to own them. The group stays: that of a
/// terminal is `tty`. Does not change the owner of the caller's own terminal or files. runc
/// avoids that change in another way: it gives the container pipes instead.
fn own_standard_streams(uid: u32, streams_are_the_callers: bool) -> Result<()> {
    for stream in [stdin(), stdout(), stderr()] {
        // The caller may have closed this stream.
        let Ok(status) = fstat(stream) else { continue };
        let kind = FileType::from_raw_mode(status.st_mode);
        let is_callers =
            || streams_are_the_callers && (kind.is_file() || rustix::termios::isatty(stream));
        if status.st_uid == uid || is_null_device(&status) || is_callers() {
            continue;
        }
        match fchown(stream, Some(Uid::from_raw(uid)), None) {
            // The owner is not mapped here, or /dev is read-only: the program still has
            // the open descriptor. If the user is not mapped, `set_ids` fails with that
            // error.
            Ok(()) | Err(Errno::PERM | Errno::ROFS | Errno::INVAL) => {}
            Err(err) => return Err(err).context("change the owner of a standard stream"),
        }
    }
    Ok(())
}

/// Sets the groups first, because they could not be set after the change of user.
fn set_ids<P: AsFd>(credentials: &Credentials, procfs: impl Fn() -> Result<P>) -> Result<()> {
    if let Some(groups) = &credentials.groups {
        set_groups(groups, procfs)?;
    }
    let gid = credentials.gid;
    match set_thread_gid(Gid::from_raw(gid)) {
        Err(Errno::INVAL) => bail!("cannot setgid to unmapped gid {gid} in user namespace"),
        result => result.with_context(|| format!("setgid {gid}"))?,
    }
    let uid = credentials.uid;
    match set_thread_uid(Uid::from_raw(uid)) {
        Err(Errno::INVAL) => bail!("cannot setuid to unmapped uid {uid} in user namespace"),
        result => result.with_context(|| format!("setuid {uid}")),
    }
}

fn set_groups<P: AsFd>(groups: &[u32], procfs: impl Fn() -> Result<P>) -> Result<()> {
    let ids: Vec<Gid> = groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    match set_thread_groups(&ids) {
        // A joined user namespace may forbid setgroups(2) for good
        // (user_namespaces(7)).
        Err(Errno::PERM) if setgroups_is_denied(procfs()?.as_fd())? => {
            if !groups.is_empty() {
                log::warn!("process.user.additionalGids is ignored: setgroups is denied");
            }
            Ok(())
        }
        result => result.with_context(|| format!("setgroups {groups:?}")),
    }
}

fn setgroups_is_denied(procfs: BorrowedFd<'_>) -> Result<bool> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let mut answer = String::new();
    rustix::fs::openat(procfs, "self/setgroups", flags, Mode::empty())
        .map_err(std::io::Error::from)
        .and_then(|file| File::from(file).read_to_string(&mut answer))
        .context("read setgroups in procfs")?;
    Ok(answer.trim() == "deny")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Host;
    use crate::testing;
    use std::ffi::CString;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;
    use teu_namespaces::NamespacePlan;
    use teu_plan::process::ForEveryProcess;

    fn plan(process: &str) -> ProcessPlan {
        let process = testing::read(&format!(r#"{{"args":["x"],{process}}}"#));
        ProcessPlan::of(
            &process,
            &ForEveryProcess::default(),
            &Host::new().caller(None, false).expect("caller"),
            &NamespacePlan::default(),
            false,
        )
        .expect("plan")
    }

    fn procfs() -> File {
        File::open("/proc").expect("proc")
    }

    /// Returns the value of a line in /proc/self/status.
    fn status(name: &str) -> String {
        let status = fs::read_to_string("/proc/self/status").expect("status");
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .expect("line");
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn the_kernel_shows_the_user() {
        let plan = plan(
            r#""cwd":"/tmp","user":{"uid":1000,"gid":1001,"additionalGids":[5,6],"umask":63},
               "noNewPrivileges":true,
               "capabilities":{"bounding":["CAP_KILL"],"permitted":["CAP_KILL"]}"#,
        );
        testing::in_child(|| {
            set_attributes(&plan).expect("attributes");
            let entered = enter_cwd(&plan.cwd).expect("enter");
            let own = File::open("/proc/self/status").expect("status");
            become_user(&plan, own, || Ok(procfs()), entered).expect("become");
            assert_eq!(status("Uid:"), "1000 1000 1000 1000");
            assert_eq!(status("Gid:"), "1001 1001 1001 1001");
            assert_eq!(status("Groups:"), "5 6");
            assert_eq!(status("Umask:"), "0077");
            assert_eq!(status("NoNewPrivs:"), "1");
            assert_eq!(status("CapPrm:"), "0000000000000020");
            assert_eq!(std::env::current_dir().expect("cwd"), Path::new("/tmp"));
        });
    }

    #[test]
    fn a_machine_of_32_bits() {
        let mut plan = plan(r#""cwd":"/""#);
        plan.personality = Some(8);
        testing::in_child(|| {
            set_attributes(&plan).expect("attributes");
            let machine = rustix::system::uname()
                .machine()
                .to_string_lossy()
                .into_owned();
            assert!(["i686", "armv8l"].contains(&&*machine), "{machine}");
        });
    }

    #[test]
    fn a_cwd_open_to_root_only_and_one_open_to_nobody() {
        let dir = testing::Directory::new("cwd");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).expect("chmod");
        let path = dir.path().display();
        let plan = plan(&format!(
            r#""cwd":"{path}","user":{{"uid":1000,"gid":1000}}"#
        ));
        testing::in_child(|| {
            assert!(enter_cwd(&plan.cwd).expect("entered as root"));
            let own = File::open("/proc/self/status").expect("status");
            become_user(&plan, own, || Ok(procfs()), true).expect("become");
        });
        testing::in_child(|| {
            set_thread_uid(Uid::from_raw(1000)).expect("uid");
            let error = enter_cwd(&plan.cwd).expect("no other error");
            assert!(!error);
        });
        let missing = CString::new(format!("{path}/none")).expect("path");
        let error = enter_cwd(&missing).expect_err("missing");
        assert_eq!(
            testing::words(&error),
            format!(
                "chdir to cwd (\"{path}/none\") set in config.json failed: no such file or directory"
            )
        );
    }

    #[test]
    fn a_cwd_outside_of_the_root_is_a_breakout() {
        let dir = testing::Directory::new("breakout");
        let jail = dir.path().join("jail");
        fs::create_dir(&jail).expect("mkdir");
        testing::in_child(|| {
            chdir(dir.path()).expect("chdir");
            rustix::process::chroot(&jail).expect("chroot");
            let error = verify_cwd().expect_err("outside");
            assert!(
                error
                    .to_string()
                    .contains("possible container breakout detected"),
                "{error}"
            );
        });
        testing::in_child(|| {
            let gone = dir.path().join("gone");
            fs::create_dir(&gone).expect("mkdir");
            chdir(&gone).expect("chdir");
            fs::remove_dir(&gone).expect("rmdir");
            let error = verify_cwd().expect_err("gone");
            assert!(
                error
                    .to_string()
                    .contains("outside of container mount namespace root")
            );
        });
    }

    #[test]
    fn standard_streams_get_the_users_uid_only() {
        let dir = testing::Directory::new("stdio");
        let path = dir.path().join("out");
        fs::write(&path, "").expect("write");
        let null = fs::metadata("/dev/null").expect("null").uid();
        testing::in_child(|| {
            let null = File::open("/dev/null").expect("null");
            let file = File::options().append(true).open(&path).expect("open");
            rustix::stdio::dup2_stdin(&null).expect("dup2");
            rustix::stdio::dup2_stdout(&file).expect("dup2");
            own_standard_streams(1000, false).expect("own");
        });
        let status = fs::metadata(&path).expect("stat");
        assert_eq!((status.uid(), status.gid()), (1000, 0));
        testing::in_child(|| {
            let file = File::options().append(true).open(&path).expect("open");
            let (_read, pipe) = rustix::pipe::pipe().expect("pipe");
            rustix::stdio::dup2_stdin(&file).expect("dup2");
            rustix::stdio::dup2_stdout(&pipe).expect("dup2");
            own_standard_streams(2000, true).expect("own");
            assert_eq!(fstat(&pipe).expect("stat").st_uid, 2000);
        });
        assert_eq!(fs::metadata(&path).expect("stat").uid(), 1000);
        assert_eq!(fs::metadata("/dev/null").expect("null").uid(), null);
    }
}
