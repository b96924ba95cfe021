//! Makes this process the one the plan describes: user, directories, limits.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, bail};
use nix::sys::personality::{self, Persona};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fchown, fstat, openat2};
use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Gid, Pid, Resource, Rlimit, Uid, chdir, getcwd, getrlimit, prlimit,
    set_dumpable_behavior, setsid, umask,
};
use rustix::stdio::{stderr, stdin, stdout};
use rustix::thread::{set_no_new_privs, set_thread_gid, set_thread_groups, set_thread_uid};

use super::capabilities;
use super::paths::{Procfs, open_ordinary_file};
use crate::errno;
use crate::plan::process::{Credentials, Environment, ProcessPlan, ResourceLimit};
use crate::sys;

/// No line of /etc/passwd counts beyond this many bytes: the file is the
/// container's and may be anything.
const LONGEST_PASSWD: u64 = 16 * 1024 * 1024;

/// Sets the limits of the process `pid`. By the parent, whose privileges they
/// need; the container's root may have none.
pub(crate) fn set_rlimits(pid: i32, limits: &[ResourceLimit]) -> Result<()> {
    let pid = Pid::from_raw(pid);
    for limit in limits {
        prlimit(pid, limit.resource, limit.limit)
            .with_context(|| format!("error setting rlimit {}", limit.name))?;
    }
    Ok(())
}

/// Raises limits of this process, where those are lower, to the given ones, for
/// a child without the privilege to set them.
pub(crate) fn raise_rlimits(limits: &[ResourceLimit]) -> Result<()> {
    for ResourceLimit {
        name,
        resource,
        limit,
    } in limits
    {
        let own = getrlimit(*resource);
        // `None` is no limit.
        let higher = |one: Option<u64>, other| Some(one?.max(other?));
        let higher = Rlimit {
            current: higher(own.current, limit.current),
            maximum: higher(own.maximum, limit.maximum),
        };
        prlimit(None, *resource, higher).with_context(|| format!("error setting rlimit {name}"))?;
    }
    Ok(())
}

/// Does `become_user` with the limit of processes in force, and fails as the
/// execve would: the kernel compares when a process becomes a user, and refuses
/// only that process its execve (execve(2), EAGAIN), not a child. Afterwards the
/// child can be made, which the user may have no place for beside this one.
pub(crate) fn within_limit_of_processes(
    limits: &[ResourceLimit],
    become_user: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let limit = limits.iter().find(|one| one.resource == Resource::Nproc);
    let Some(ResourceLimit {
        resource,
        name,
        limit,
    }) = limit
    else {
        return become_user();
    };
    let own = getrlimit(*resource);
    let doing = || format!("error setting rlimit {name}");
    let lower = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let current = lower(limit.current, own.maximum);
    prlimit(None, *resource, Rlimit { current, ..own }).with_context(doing)?;
    become_user()?;
    // No file: what is asked is only whether the kernel would look for it.
    let nothing: [&CStr; 0] = [];
    if let Err(nix::errno::Errno::EAGAIN) =
        nix::unistd::execve(c"/dev/null/none", &nothing, &nothing)
    {
        return Err(Errno::AGAIN).context("exec");
    }
    prlimit(None, *resource, own).with_context(doing)?;
    Ok(())
}

/// Sets how many processes the user may have, before this one becomes the user.
/// For where the parent sets all limits, which it does afterwards: the kernel
/// compares at the change of user, and refuses the execve by that (execve(2),
/// EAGAIN).
pub(crate) fn limit_processes(limits: &[ResourceLimit]) -> Result<()> {
    let limit = limits.iter().find(|one| one.resource == Resource::Nproc);
    match limit.map_or(Ok(()), |one| {
        prlimit(None, one.resource, one.limit).map(drop)
    }) {
        // More than it has: for the parent to give, and nothing to exceed by then.
        Err(Errno::PERM) => Ok(()),
        result => result.context("error setting rlimit RLIMIT_NPROC"),
    }
}

/// Sets how willingly the kernel kills the process `pid` when memory runs out
/// (proc_pid_oom_score_adj(5)). By the parent, which alone may lower it.
pub(crate) fn set_oom_score_adj(pid: i32, adjustment: i32) -> Result<()> {
    let path = format!("/proc/{pid}/oom_score_adj");
    fs::write(&path, adjustment.to_string())
        .with_context(|| format!("write {adjustment} to {path:?}"))
}

/// Does `start` with the given adjustment of its own, for its child to
/// inherit, and goes back. For a process that may not be looked into by its
/// caller either, and whose file is root's then.
pub(crate) fn with_oom_score_adj<T>(adjustment: i32, start: impl FnOnce() -> T) -> Result<T> {
    const OWN: &str = "/proc/self/oom_score_adj";
    let before = fs::read_to_string(OWN).with_context(|| format!("read {OWN:?}"))?;
    let wanted = adjustment.to_string();
    if before.trim() == wanted {
        return Ok(start());
    }
    let set = |text: &str| {
        fs::write(OWN, text).with_context(|| format!("write {} to {OWN:?}", text.trim()))
    };
    set(&wanted)?;
    let started = start();
    set(&before)?;
    Ok(started)
}

/// Starts a session of its own, so that the container has no controlling
/// terminal of the caller's.
pub(crate) fn start_session() -> Result<()> {
    setsid().context("setsid")?;
    Ok(())
}

/// Sets what is left to set before the privileges go: file mode mask, no new
/// privileges, personality.
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

/// Gives the process a session keyring of its own, which `exec` finds by its
/// name, and lets its user search it. Without keyrings in the kernel this is
/// a warning: they protect little that files do not (keyrings(7)).
pub(crate) fn join_session_keyring(container_id: &str, in_user_namespace: bool) -> Result<()> {
    /// `KEY_OTH_SEARCH` and `KEY_USR_SEARCH` of `keyutils.h`: behind a user
    /// namespace the keyring's owner is somebody else.
    const OTHERS_MAY_SEARCH: u32 = 0x8;
    const USER_MAY_SEARCH: u32 = 0x8_0000;
    let Some(key) = join_named_keyring(container_id)? else {
        return Ok(());
    };
    let search = if in_user_namespace {
        OTHERS_MAY_SEARCH
    } else {
        USER_MAY_SEARCH
    };
    let permissions = sys::describe_key(key)
        .map_err(anyhow::Error::from)
        .and_then(permissions);
    permissions
        .and_then(|now| Ok(sys::set_key_permissions(key, now | search)?))
        .context("unable to mod keyring permissions")
}

/// Joins the session keyring that the container's first process made.
pub(crate) fn rejoin_session_keyring(container_id: &str) -> Result<()> {
    join_named_keyring(container_id).map(drop)
}

/// `None` where the kernel has no keyrings.
fn join_named_keyring(container_id: &str) -> Result<Option<sys::Key>> {
    let name = CString::new(format!("_ses.{container_id}")).context("session keyring name")?;
    match sys::join_session_keyring(&name) {
        Ok(key) => Ok(Some(key)),
        Err(err) if Errno::from_io_error(&err) == Some(Errno::NOSYS) => {
            log::warn!("join session keyring: {}", errno::text(err));
            Ok(None)
        }
        Err(err) => Err(err).context("unable to join session keyring"),
    }
}

/// The fourth field of a key's description, in hexadecimal.
fn permissions(description: Vec<u8>) -> Result<u32> {
    let description = String::from_utf8_lossy(&description);
    let field = description
        .split(';')
        .nth(3)
        .context("key description is too short")?;
    u32::from_str_radix(field, 16).with_context(|| format!("key permissions {field:?}"))
}

/// Enters the working directory and makes sure of where that is, before a system
/// call filter may forbid it. `false` if the permission is missing:
/// [`become_user`] tries again, since root's directories are open to root only,
/// and a directory of the user on a network file system may be open to the user
/// only.
pub(crate) fn enter_cwd(cwd: &CStr) -> Result<bool> {
    let entered = try_enter_cwd(cwd)?;
    if entered {
        verify_cwd()?;
    }
    Ok(entered)
}

/// Enters the working directory, as the user: there is no other try.
pub(crate) fn enter_cwd_as_user(cwd: &CStr) -> Result<()> {
    match enter_cwd(cwd)? {
        true => Ok(()),
        false => Err(cwd_error(cwd, Errno::ACCESS)),
    }
}

/// Becomes the user of the plan, with its capabilities, and its working directory
/// unless that was `entered`. After this the process has no more power than the
/// container's program.
///
/// `status` is that of this process (proc_pid_status(5)). `procfs` opens a
/// trustworthy procfs (its root). `streams_are_the_callers`:
/// the standard streams are those of a person or script in front of us, not
/// made for the container.
pub(crate) fn become_user<P: AsFd>(
    plan: &ProcessPlan,
    status: impl AsFd,
    procfs: impl Fn() -> Result<P>,
    streams_are_the_callers: bool,
    entered: bool,
) -> Result<()> {
    capabilities::limit_bounding_set(&plan.capabilities, status)?;
    capabilities::keep_over_change_of_user(true)?;
    // A terminal of the container's own is on all three.
    let streams_are_the_callers = streams_are_the_callers && plan.terminal.is_none();
    own_standard_streams(plan.credentials.uid, streams_are_the_callers)?;
    set_ids(&plan.credentials, procfs)?;
    if !entered && !enter_cwd(&plan.cwd)? {
        return Err(cwd_error(&plan.cwd, Errno::ACCESS));
    }
    capabilities::keep_over_change_of_user(false)?;
    if plan.is_hidden {
        // Until now only who has the capabilities of this process could look
        // into it, and those go next (ptrace(2)). A filter may forbid it later.
        set_dumpable_behavior(DumpableBehavior::NotDumpable).context("prctl(PR_SET_DUMPABLE)")?;
    }
    capabilities::apply(&plan.capabilities)
}

/// Whether the directory could be entered; `false` if the permission is
/// missing.
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

/// Makes sure the working directory lies below the container's root: a path
/// through a descriptor that was left open could lead to the host's files
/// (CVE-2024-21626). The system call says so; the C library would not.
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

/// Makes the user the owner of the standard streams, which were made outside:
/// a program that opens /dev/stdout needs that. The group stays: a terminal's
/// is `tty`. A caller's own terminal and files stay the caller's; runc puts
/// pipes in between for that.
fn own_standard_streams(uid: u32, streams_are_the_callers: bool) -> Result<()> {
    for stream in [stdin(), stdout(), stderr()] {
        // A caller may have closed one of them.
        let Ok(status) = fstat(stream) else { continue };
        let kind = FileType::from_raw_mode(status.st_mode);
        let is_null = kind.is_char_device() && status.st_rdev == rustix::fs::makedev(1, 3);
        let is_callers =
            streams_are_the_callers && (kind.is_file() || rustix::termios::isatty(stream));
        if status.st_uid == uid || is_null || is_callers {
            continue;
        }
        match fchown(stream, Some(Uid::from_raw(uid)), None) {
            // Its owner is not mapped here, or /dev is read-only. The program
            // still has the open descriptor. That the user is not mapped is
            // told when this process is to become that.
            Ok(()) | Err(Errno::PERM | Errno::ROFS | Errno::INVAL) => {}
            Err(err) => return Err(err).context("change the owner of a standard stream"),
        }
    }
    Ok(())
}

/// Groups first: after the change of user they could not be set.
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
        // A joined user namespace may forbid it for good (user_namespaces(7)).
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

/// The environment for the program. HOME is the user's in the container's
/// /etc/passwd unless the specification sets it; call this inside the rootfs.
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
            // As with runc: an image without that file is nothing special.
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

/// The home directory of `uid` in the file (passwd(5)).
fn home<'a>(
    passwd: &CStr,
    uid: u32,
    procfs: impl Fn() -> Result<&'a Procfs>,
) -> Result<Option<String>> {
    // The file is the container's: it may be a link to what this process has
    // open, or anything.
    let resolve = ResolveFlags::NO_MAGICLINKS;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let handle = match openat2(CWD, passwd, flags, Mode::empty(), resolve) {
        Err(Errno::NOENT) => return Ok(None),
        handle => handle.with_context(|| format!("open {passwd:?}"))?,
    };
    let file = open_ordinary_file(handle.as_fd(), procfs()?, LONGEST_PASSWD)
        .with_context(|| format!("open {passwd:?}"))?;
    let Some(file) = file else {
        bail!("{passwd:?} is no regular file of an ordinary filesystem");
    };
    let wanted = uid.to_string();
    for line in BufReader::new(file).split(b'\n') {
        let line = line.with_context(|| format!("read {passwd:?}"))?;
        let line = String::from_utf8_lossy(&line);
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
    use crate::plan::process::Shared;
    use crate::testing;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;
    use teu_namespaces::NamespacePlan;

    fn plan(process: &str) -> ProcessPlan {
        let process = testing::read(&format!(r#"{{"args":["x"],{process}}}"#));
        ProcessPlan::of(
            &process,
            &Shared::default(),
            &Host::new(),
            &NamespacePlan::default(),
        )
        .expect("plan")
    }

    fn procfs() -> File {
        File::open("/proc").expect("proc")
    }

    /// The value of a line in /proc/self/status.
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
            become_user(&plan, own, || Ok(procfs()), false, entered).expect("become");
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
    fn limits_and_oom_score_of_another_process() {
        let plan = plan(
            r#""cwd":"/","oomScoreAdj":77,"rlimits":[{"type":"RLIMIT_NOFILE","soft":99,"hard":100}]"#,
        );
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep");
        let pid = child.id().cast_signed();
        set_rlimits(pid, &plan.rlimits).expect("limits");
        set_oom_score_adj(pid, plan.oom_score_adj.expect("score")).expect("score");
        let limits = fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
        let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("score");
        child.kill().expect("kill");
        child.wait().expect("wait");
        let limits = limits.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(limits.contains("Max open files 99 100"), "{limits}");
        assert_eq!(score.trim(), "77");
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
            become_user(&plan, own, || Ok(procfs()), false, true).expect("become");
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

    #[test]
    fn a_child_inherits_the_adjustment_its_parent_had() {
        testing::in_child(|| {
            let own = || fs::read_to_string("/proc/self/oom_score_adj").expect("read");
            let before = own();
            let seen = with_oom_score_adj(777, own).expect("set");
            assert_eq!((seen.trim(), own()), ("777", before));
        });
    }

    #[test]
    fn a_session_keyring_of_its_own() {
        testing::in_child(|| {
            join_session_keyring("a.test", false).expect("join");
            let keys = fs::read_to_string("/proc/keys").expect("keys");
            let line = keys
                .lines()
                .find(|line| line.contains(" _ses.a.test"))
                .expect("keyring");
            // The user's own bits: view, read and search among them.
            let permissions = line.split_whitespace().nth(4).expect("permissions");
            let permissions = u32::from_str_radix(permissions, 16).expect("hex");
            assert_ne!(permissions & 0x8_0000, 0, "{line}");
        });
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
