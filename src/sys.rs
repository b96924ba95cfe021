//! System calls that nix and rustix do not wrap; the only unsafe of this
//! package. Each wrapper is one call, typed, and decides nothing.
#![expect(unsafe_code, reason = "raw system calls live here and nowhere else")]

use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

use libc::{c_int, c_long, c_ulong};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use teu_seccomp::Instruction;

/// Turns the C convention into a result.
fn check(result: c_long) -> io::Result<c_long> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Closes every descriptor from `first` on.
///
/// As [`close_range`], takes them away from whoever owns them.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    close_range(first, u32::MAX)
}

/// Closes the descriptors from `first` to `last` (close_range(2), Linux 5.9).
///
/// This takes descriptors away from whoever owns them: only for a process that
/// has opened none yet, or that neither uses nor drops one of those it has and
/// ends with execve(2) or [`exit`].
pub(crate) fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: the call takes three numbers and touches no memory. No code that
    // owns one of the descriptors uses it afterwards.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    Ok(())
}

/// Closes a descriptor, if there is one of that number.
///
/// As [`close_range`], takes it away from whoever owns it.
pub(crate) fn close_if_open(number: u32) -> io::Result<()> {
    let fd = c_int::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the call takes a number and touches no memory. No code that owns
    // the descriptor uses it afterwards.
    match check(unsafe { libc::close(fd) }.into()) {
        Err(err) if err.raw_os_error() != Some(libc::EBADF) => Err(err),
        _ => Ok(()),
    }
}

/// Makes a descriptor that came from the caller close-on-exec.
///
/// # Errors
/// ENOENT if the caller gave none of that number: it is not open, or it is
/// close-on-exec already and so one of our own.
pub(crate) fn take_inherited_descriptor(number: u32) -> io::Result<()> {
    let fd = c_int::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the call takes two numbers; a descriptor that is not open is an
    // error.
    match check(unsafe { libc::fcntl(fd, libc::F_GETFD) }.into()) {
        Ok(0) => {}
        _ => return Err(io::Error::from_raw_os_error(libc::ENOENT)),
    }
    // SAFETY: no other part of the program knows the number, so nothing relies
    // on the flag.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    Ok(())
}

/// Takes over a descriptor that came from the caller, by its number.
///
/// # Errors
/// As for [`take_inherited_descriptor`].
pub(crate) fn own_inherited_descriptor(number: u32) -> io::Result<OwnedFd> {
    take_inherited_descriptor(number)?;
    let fd = c_int::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: it is open, and was without close-on-exec a moment ago, which
    // every descriptor of this program has: so it is the caller's, and no part
    // of the program owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes `given` the descriptors from 3 on, for the program to be executed, and
/// closes all others but the standard streams.
///
/// Like [`close_from`], which it uses, only before execve(2) or [`exit`].
pub(crate) fn leave_only(given: &[BorrowedFd<'_>]) -> io::Result<()> {
    let first_free = c_int::try_from(3 + given.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut copies = Vec::with_capacity(given.len());
    for fd in given {
        // Out of the way of the numbers they are to have.
        // SAFETY: the call takes three numbers; the copy has a number of its own.
        let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, first_free) };
        copies.push(check(copy.into())?);
    }
    for (number, copy) in (3..).zip(copies) {
        let copy = c_int::try_from(copy).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: what had the number is closed by it; no code that owns that
        // runs after this.
        check(unsafe { libc::dup2(copy, number) }.into())?;
    }
    close_from(first_free.cast_unsigned())
}

/// Lets execve(2) leave a descriptor open that the caller gave us.
pub(crate) fn keep_over_exec(number: u32) -> io::Result<()> {
    let fd = c_int::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the call takes three numbers and changes one flag.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }.into())?;
    Ok(())
}

/// Ends the process at once: no destructors, no buffers (exit_group(2)).
///
/// A system call filter may forbid that. musl's _exit(3) would try for ever; abort
/// then executes what no process may, which ends it.
pub(crate) fn exit(status: i32) -> ! {
    // SAFETY: the call takes a number and touches no memory.
    unsafe { libc::syscall(libc::SYS_exit_group, status) };
    std::process::abort()
}

/// The kernel's `struct sigaction` is four words on every 64-bit machine;
/// zeroed it is SIG_DFL without flags and mask.
const DEFAULT_ACTION: [u64; 4] = [0; 4];

/// Size of the kernel's signal mask, in bytes.
const SIGNAL_MASK_SIZE: usize = 8;

/// Gives `signal` its default action (rt_sigaction(2)).
pub(crate) fn default_action(signal: c_int) -> io::Result<()> {
    // SAFETY: `DEFAULT_ACTION` is as long as the kernel's structure, which the
    // kernel only reads; the pointer for the previous action is null.
    check(unsafe {
        libc::syscall(
            libc::SYS_rt_sigaction,
            signal,
            DEFAULT_ACTION.as_ptr(),
            std::ptr::null_mut::<u64>(),
            SIGNAL_MASK_SIZE,
        )
    })?;
    Ok(())
}

/// Signals of which some may be ignored; the lowest bit is signal 1.
pub(crate) const ALL_SIGNALS: u64 = !(1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1));

/// Gives the `ignored` signals their default action and blocks none: what the
/// caller of teu ignored or blocked is not the business of what is executed.
/// Signals that are handled need no such thing, since execve(2) ends that.
pub(crate) fn restore_signals(ignored: u64) -> io::Result<()> {
    for signal in (1..=64).filter(|signal| ignored & 1 << (signal - 1) != 0) {
        default_action(signal)?;
    }
    Ok(sigprocmask(
        SigmaskHow::SIG_SETMASK,
        Some(&SigSet::empty()),
        None,
    )?)
}

/// A program to start, with [`restore_signals`] done and just this environment.
/// The standard library would leave the mask as it is, sort the variables, and
/// with glibc have a shell read what is no program.
pub(crate) fn command(path: &CStr, args: Vec<CString>, environment: Vec<CString>) -> Command {
    let mut command = Command::new(OsStr::from_bytes(path.to_bytes()));
    let path = path.to_owned();
    let execute = move || {
        restore_signals(ALL_SIGNALS)?;
        match nix::unistd::execve(&path, &args, &environment) {
            Ok(never) => match never {},
            Err(err) => Err(err.into()),
        }
    };
    // SAFETY: the process is a fork of this one, which has one thread: no lock is
    // held that `execute` would wait for, the allocator's neither.
    unsafe { command.pre_exec(execute) };
    command
}

/// `struct sched_attr` of `linux/sched/types.h`, as of Linux 5.3.
#[repr(C)]
#[derive(Debug, Default)]
pub(crate) struct SchedAttr {
    pub(crate) size: u32,
    pub(crate) policy: u32,
    pub(crate) flags: u64,
    pub(crate) nice: i32,
    pub(crate) priority: u32,
    pub(crate) runtime: u64,
    pub(crate) deadline: u64,
    pub(crate) period: u64,
    pub(crate) utilization_min: u32,
    pub(crate) utilization_max: u32,
}

/// Sets the scheduling of the process `pid`, 0 being the caller
/// (sched_setattr(2)). Fills in the size.
pub(crate) fn sched_setattr(pid: i32, mut attr: SchedAttr) -> io::Result<()> {
    attr.size = u32::try_from(size_of::<SchedAttr>()).unwrap_or(0);
    // SAFETY: `attr` is a valid `sched_attr` of the size it names; the kernel
    // reads it during the call (and writes its own size on E2BIG).
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw mut attr, 0) })?;
    Ok(())
}

/// Sets the CPUs the process `pid` may use, 0 being the caller
/// (sched_setaffinity(2)). rustix and nix know 1024 CPUs at most.
pub(crate) fn sched_setaffinity(pid: i32, cpus: &[u64]) -> io::Result<()> {
    // SAFETY: the kernel reads the number of bytes `cpus` has.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            pid,
            size_of_val(cpus),
            cpus.as_ptr(),
        )
    })?;
    Ok(())
}

/// Sets the I/O priority of the process `pid`, 0 being the caller
/// (ioprio_set(2)).
pub(crate) fn ioprio_set(pid: i32, priority: u16) -> io::Result<()> {
    /// `IOPRIO_WHO_PROCESS` of `linux/ioprio.h`.
    const WHO_PROCESS: c_int = 1;
    // SAFETY: the call takes three numbers and touches no memory.
    check(unsafe {
        libc::syscall(
            libc::SYS_ioprio_set,
            WHO_PROCESS,
            pid,
            c_int::from(priority),
        )
    })?;
    Ok(())
}

/// Sets the caller's NUMA memory policy (set_mempolicy(2)); no nodes at all
/// for a policy that takes none.
pub(crate) fn set_mempolicy(mode: i32, nodes: &[u64]) -> io::Result<()> {
    // The kernel takes one bit off the number it is given, also off none: then
    // it is the null pointer that says that there are no nodes.
    let (start, bits) = match nodes {
        [] => (std::ptr::null(), 0),
        nodes => (nodes.as_ptr(), nodes.len() * 64 + 1),
    };
    // SAFETY: the kernel reads at most `bits - 1` bits, which `nodes` has.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, start, bits) })?;
    Ok(())
}

/// Switches on the network device `name` (netdevice(7), `SIOCSIFFLAGS`); its
/// other flags that may be changed are switched off.
pub(crate) fn switch_on_device(socket: impl AsFd, name: &CStr) -> io::Result<()> {
    // SAFETY: `ifreq` is a structure of numbers and arrays, for which zero is a
    // valid value.
    let mut request: libc::ifreq = unsafe { MaybeUninit::zeroed().assume_init() };
    for (to, from) in request.ifr_name.iter_mut().zip(name.to_bytes_with_nul()) {
        *to = libc::c_char::from_ne_bytes([*from]);
    }
    request.ifr_ifru.ifru_flags = libc::c_short::try_from(libc::IFF_UP).unwrap_or_default();
    // SAFETY: `request` is a valid `ifreq` whose flags are set; the kernel
    // reads it during the call.
    let result = unsafe {
        libc::ioctl(
            socket.as_fd().as_raw_fd(),
            libc::SIOCSIFFLAGS as libc::Ioctl,
            &raw const request,
        )
    };
    check(result.into())?;
    Ok(())
}

/// A key or keyring (keyrings(7)).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key(c_long);

/// Makes the keyring `name` the caller's session keyring, a new one if there
/// is none of that name (keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`).
pub(crate) fn join_session_keyring(name: &CStr) -> io::Result<Key> {
    // SAFETY: `name` ends in NUL; the kernel copies it.
    let key = check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            name.as_ptr(),
        )
    })?;
    Ok(Key(key))
}

/// The description of `key`: `type;uid;gid;permissions;name`
/// (`KEYCTL_DESCRIBE`). What is longer than a page is cut.
pub(crate) fn describe_key(key: Key) -> io::Result<Vec<u8>> {
    let mut text = vec![0_u8; 4096];
    // SAFETY: the kernel writes at most the number of bytes `text` has.
    let length = check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_DESCRIBE,
            key.0,
            text.as_mut_ptr(),
            text.len() as c_ulong,
        )
    })?;
    text.truncate(usize::try_from(length).unwrap_or(0));
    Ok(text)
}

/// Sets the permission bits of `key` (`KEYCTL_SETPERM`).
pub(crate) fn set_key_permissions(key: Key, permissions: u32) -> io::Result<()> {
    // SAFETY: the call takes three numbers and touches no memory.
    check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_SETPERM,
            key.0,
            c_ulong::from(permissions),
        )
    })?;
    Ok(())
}

/// Loads a system call filter for this process and all it starts (seccomp(2),
/// `SECCOMP_SET_MODE_FILTER`). With `SECCOMP_FILTER_FLAG_NEW_LISTENER` among the
/// flags there is a listener, close-on-exec.
///
/// # Errors
/// EACCES without CAP_SYS_ADMIN and no_new_privs, EINVAL for a program or a flag
/// that the kernel does not take.
pub(crate) fn set_seccomp_filter(
    flags: u32,
    program: &[Instruction],
) -> io::Result<Option<OwnedFd>> {
    const NEW_LISTENER: u32 = 1 << 3;
    let program = SockFprog {
        length: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        instructions: program.as_ptr(),
    };
    // SAFETY: `program` has the layout of `struct sock_fprog`, and points to as
    // many instructions, laid out as `struct sock_filter`, as it says; the
    // kernel copies them.
    let result = check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            &raw const program,
        )
    })?;
    if flags & NEW_LISTENER == 0 {
        return Ok(None);
    }
    let listener = c_int::try_from(result).map_err(|_| io::ErrorKind::InvalidData)?;
    // SAFETY: with that flag the result is a descriptor that the kernel made
    // just now, so nothing else owns it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(listener) }))
}

/// `struct sock_fprog` of linux/filter.h.
#[repr(C)]
struct SockFprog {
    length: u16,
    instructions: *const Instruction,
}

/// Whether the kernel knows these flags of `SECCOMP_SET_MODE_FILTER`.
pub(crate) fn knows_seccomp_flags(flags: u32) -> bool {
    // SAFETY: no program is at the null pointer, so none is loaded; the kernel
    // says EFAULT once it has taken the flags.
    let result = check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags,
            std::ptr::null::<SockFprog>(),
        )
    });
    result.is_err_and(|err| err.raw_os_error() == Some(libc::EFAULT))
}

/// pidfd_send_signal(2) without extra information. Any number is passed on;
/// the kernel refuses those that are no signal.
pub(crate) fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: a null siginfo asks the kernel to fill it in as kill(2) does.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_fd().as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Ignores `signal`, as a caller of teu may have done.
#[cfg(test)]
pub(crate) fn ignore_for_test(signal: c_int) {
    // SAFETY: no handler of ours is installed that this could take away.
    let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
    assert_ne!(before, libc::SIG_ERR);
}

/// Runs `body` in a child whose stdout and stderr are a pipe; returns its wait
/// status and what it wrote. For tests that change their process.
#[cfg(test)]
pub(crate) fn fork_for_test(body: impl FnOnce()) -> (i32, String) {
    static HOOK: std::sync::Once = std::sync::Once::new();
    // Set before any child is forked: setting it in one would wait for a panic
    // that another thread of the parent was in.
    HOOK.call_once(|| {
        let parent = std::process::id();
        let inherited = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::process::id() == parent {
                return inherited(info);
            }
            let text = format!("{info}\n");
            nix::unistd::write(std::io::stderr(), text.as_bytes()).ok();
            exit(101);
        }));
    });
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).expect("pipe");
    // SAFETY: the tests' other threads may hold locks, of which the child needs
    // the allocator's (the C library's fork resets those) and none of Rust's
    // own; it ends with `exit` and never returns into the test harness.
    match unsafe { libc::fork() } {
        0 => {
            rustix::stdio::dup2_stdout(&write).expect("dup2");
            rustix::stdio::dup2_stderr(&write).expect("dup2");
            drop((read, write));
            body();
            exit(0)
        }
        -1 => panic!("fork: {}", io::Error::last_os_error()),
        pid => {
            drop(write);
            let output = crate::testing::read_all(read);
            let mut status = 0;
            // SAFETY: `status` is a valid place for the kernel to write to.
            let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
            assert_eq!(waited, pid, "waitpid: {}", io::Error::last_os_error());
            (status, output)
        }
    }
}

/// What the kernel was given to execute (getauxval(3), AT_EXECFN).
pub(crate) fn executed_name() -> Option<&'static CStr> {
    // SAFETY: the call takes a number and reads what the kernel left at the start.
    let name = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const libc::c_char;
    // SAFETY: unless it is null, the kernel has put a string there, which ends in
    // NUL, above the stack; nothing writes to it.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) })
}

/// Overwrites the environment that this process was started with, which
/// /proc/PID/environ shows (environ(7)). Variables are empty afterwards.
pub(crate) fn wipe_environment() {
    unsafe extern "C" {
        static environ: *const *mut libc::c_char;
    }
    // SAFETY: the only thread, which changes no variable (clippy.toml forbids
    // set_var), so the C library's list is the one it found at the start: of
    // strings in writable memory, with a null pointer at its end. No reference
    // to one of them lives: std copies what it is asked for.
    unsafe {
        let mut variable = environ;
        while !(*variable).is_null() {
            std::ptr::write_bytes(*variable, 0, libc::strlen(*variable));
            variable = variable.add(1);
        }
    }
}

/// How many seconds the local time is ahead of UTC at a number of seconds since
/// the epoch, by `$TZ` or `/etc/localtime` (localtime(3)). `None` for a year
/// beyond what the C library can express.
pub(crate) fn utc_offset(seconds: i64) -> Option<i32> {
    let mut parts = std::mem::MaybeUninit::<libc::tm>::uninit();
    // SAFETY: both pointers are to live values of the right type, and
    // localtime_r keeps neither. It may read the environment, which is sound
    // because nothing in this program changes it (clippy.toml forbids set_var).
    let filled = unsafe { libc::localtime_r(&raw const seconds, parts.as_mut_ptr()) };
    if filled.is_null() {
        return None;
    }
    // SAFETY: localtime_r returned the pointer it was given, so it has filled
    // every field of the structure.
    let parts = unsafe { parts.assume_init() };
    i32::try_from(parts.tm_gmtoff).ok()
}

/// What mount_setattr(2) is to change; its `struct mount_attr` but for the
/// user namespace.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MountChange {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    /// One of MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE; 0 changes nothing.
    pub(crate) propagation: u64,
    /// Also every mount below.
    pub(crate) recursive: bool,
}

/// Changes the mount whose root `mount` is (mount_setattr(2), Linux 5.12). A
/// user namespace is needed for MOUNT_ATTR_IDMAP only.
pub(crate) fn mount_setattr(
    mount: impl AsFd,
    change: &MountChange,
    user_namespace: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: change.set,
        attr_clr: change.clear,
        propagation: change.propagation,
        userns_fd: user_namespace.map_or(0, |fd| fd.as_raw_fd().cast_unsigned().into()),
    };
    let recursive = if change.recursive { AT_RECURSIVE } else { 0 };
    // SAFETY: the path is NUL-terminated and `attributes` is a valid
    // mount_attr of the size passed; the kernel reads both and keeps neither.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_fd().as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH | recursive,
            &raw const attributes,
            size_of_val(&attributes),
        )
    };
    check(result).map(drop)
}

/// Not in libc for every target (linux/fcntl.h).
const AT_RECURSIVE: libc::c_int = 0x8000;
