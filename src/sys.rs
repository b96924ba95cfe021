//! System calls that nix and rustix do not wrap. All unsafe code of this package is
//! here. Each wrapper is one call with types, and makes no decision.
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
use rustix::process::{Resource, Rlimit};
use teu_seccomp::Instruction;

/// Converts the result of a C function.
fn check(result: c_long) -> io::Result<c_long> {
    if result == -1 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// Returns a limit of this process (getrlimit(2)). The wrapper in rustix ignores errors, such as
/// that of a system call filter around teu, and then returns an arbitrary limit.
pub(crate) fn resource_limit(resource: Resource) -> io::Result<Rlimit> {
    let mut limit = MaybeUninit::<libc::rlimit>::uninit();
    // SAFETY: the call writes the struct that the pointer leads to, and nothing else.
    check(unsafe { libc::getrlimit(resource as _, limit.as_mut_ptr()) }.into())?;
    // SAFETY: the call succeeded, so the kernel wrote both fields.
    let limit = unsafe { limit.assume_init() };
    let value = |value| (value != libc::RLIM_INFINITY).then_some(value);
    Ok(Rlimit {
        current: value(limit.rlim_cur),
        maximum: value(limit.rlim_max),
    })
}

/// Closes every descriptor from `first` on.
///
/// Takes descriptors away from their owners, as [`close_range`] does.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    close_range(first, u32::MAX)
}

/// Closes the descriptors from `first` to `last` (close_range(2), Linux 5.9).
///
/// Takes descriptors away from their owners. So only for a process that has not opened
/// any, or that neither uses nor drops its own and ends with execve(2) or [`teu_namespaces::exit_now`].
pub(crate) fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: the call takes three numbers and touches no memory. No code that owns a
    // closed descriptor uses it afterwards.
    check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
    Ok(())
}

/// Closes a descriptor, if it is open.
///
/// Takes it away from its owner, as [`close_range`] does.
pub(crate) fn close_if_open(number: u32) -> io::Result<()> {
    let fd = c_int::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the call takes a number and touches no memory. No code that owns
    // the descriptor uses it afterwards.
    match check(unsafe { libc::close(fd) }.into()) {
        Err(err) if err.raw_os_error() != Some(libc::EBADF) => Err(err),
        _ => Ok(()),
    }
}

/// Sets close-on-exec on a descriptor that came from the caller.
///
/// # Errors
/// ENOENT if the caller gave no descriptor of that number: it is not open, or it is
/// close-on-exec already and so belongs to this process.
pub(crate) fn take_inherited_descriptor(number: u32) -> io::Result<()> {
    let fd = c_int::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the call takes two numbers. For a descriptor that is not open it returns
    // an error.
    match check(unsafe { libc::fcntl(fd, libc::F_GETFD) }.into()) {
        Ok(0) => {}
        _ => return Err(io::Error::from_raw_os_error(libc::ENOENT)),
    }
    // SAFETY: no other part of the program knows the number, so no code relies on the
    // flag.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) }.into())?;
    Ok(())
}

/// Takes ownership of a descriptor that came from the caller, by its number.
///
/// # Errors
/// The errors of [`take_inherited_descriptor`].
pub(crate) fn own_inherited_descriptor(number: u32) -> io::Result<OwnedFd> {
    take_inherited_descriptor(number)?;
    let fd = c_int::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the descriptor is open, and was without close-on-exec a moment ago, while
    // every descriptor of this program has close-on-exec. So it came from the caller,
    // and no part of the program owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Makes `given` the descriptors from 3 on, for the program to be executed, and closes
/// all others except the standard streams.
///
/// Only before execve(2) or [`teu_namespaces::exit_now`], as [`close_from`], which it uses.
pub(crate) fn leave_only(given: &[BorrowedFd<'_>]) -> io::Result<()> {
    let first_free = c_int::try_from(3 + given.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let mut copies = Vec::with_capacity(given.len());
    for fd in given {
        // Move the copies to numbers that are not overwritten below.
        // SAFETY: the call takes three numbers, and the copy is a new descriptor.
        let copy = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, first_free) };
        copies.push(check(copy.into())?);
    }
    for (number, copy) in (3..).zip(copies) {
        let copy = c_int::try_from(copy).map_err(|_| io::ErrorKind::InvalidInput)?;
        // SAFETY: the call closes the descriptor that had this number. No code that
        // owns that descriptor runs after this.
        check(unsafe { libc::dup2(copy, number) }.into())?;
    }
    close_from(first_free.cast_unsigned())
}

/// Clears close-on-exec on a descriptor that the caller gave.
pub(crate) fn keep_over_exec(number: u32) -> io::Result<()> {
    let fd = c_int::try_from(number).map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: the call takes three numbers and changes one flag.
    check(unsafe { libc::fcntl(fd, libc::F_SETFD, 0) }.into())?;
    Ok(())
}

/// The kernel's `struct sigaction`, which has four words on every 64-bit machine.
/// Zeroed it means SIG_DFL without flags and mask.
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

/// All signals that can be ignored; the lowest bit is signal 1.
pub(crate) const ALL_SIGNALS: u64 = !(1 << (libc::SIGKILL - 1) | 1 << (libc::SIGSTOP - 1));

/// Gives the `ignored` signals their default action and unblocks all signals, because a
/// new program should not inherit what teu's caller ignored or blocked. Signals with a
/// handler need no action, because execve(2) resets them.
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

/// Makes a command that starts a program with [`restore_signals`] done and with exactly
/// this environment. The standard library alone would keep the signal mask, sort the
/// variables, and with glibc let a shell read a file that is no program.
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
    // SAFETY: the child is a fork of this process, which has one thread. So no lock is
    // held that `execute` would wait for, including the allocator's.
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

/// Sets the scheduling of the process `pid`; 0 is the caller (sched_setattr(2)). Sets
/// the size in `attr`.
pub(crate) fn sched_setattr(pid: i32, mut attr: SchedAttr) -> io::Result<()> {
    attr.size = u32::try_from(size_of::<SchedAttr>()).unwrap_or(0);
    // SAFETY: `attr` is a valid `sched_attr` of the size it names; the kernel
    // reads it during the call (and writes its own size on E2BIG).
    check(unsafe { libc::syscall(libc::SYS_sched_setattr, pid, &raw mut attr, 0) })?;
    Ok(())
}

/// Sets the CPUs that the process `pid` may use; 0 is the caller
/// (sched_setaffinity(2)). rustix and nix support 1024 CPUs at most.
pub(crate) fn sched_setaffinity(pid: i32, cpus: &[u64]) -> io::Result<()> {
    // SAFETY: the kernel reads as many bytes as `cpus` has.
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

/// Sets the I/O priority of the process `pid`; 0 is the caller (ioprio_set(2)).
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

/// Sets the caller's NUMA memory policy (set_mempolicy(2)). `nodes` is empty for a
/// policy without nodes.
pub(crate) fn set_mempolicy(mode: i32, nodes: &[u64]) -> io::Result<()> {
    // The kernel subtracts one from the number of bits, even from 0, so a null pointer
    // is needed to express that there are no nodes.
    let (start, bits) = match nodes {
        [] => (std::ptr::null(), 0),
        nodes => (nodes.as_ptr(), nodes.len() * 64 + 1),
    };
    // SAFETY: the kernel reads at most `bits - 1` bits, which `nodes` has.
    check(unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, start, bits) })?;
    Ok(())
}

/// Switches on the network device `name` (netdevice(7), `SIOCSIFFLAGS`). Clears its
/// other flags that can be changed.
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

/// Makes the keyring `name` the caller's session keyring, and makes the keyring if it
/// does not exist (keyctl(2), `KEYCTL_JOIN_SESSION_KEYRING`).
pub(crate) fn join_session_keyring(name: &CStr) -> io::Result<Key> {
    // SAFETY: `name` ends in NUL; the kernel copies it.
    let key = check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            libc::KEYCTL_JOIN_SESSION_KEYRING,
            name.as_ptr(),
        )
    })?;
    // The kernel returns 0 if the caller has this keyring already.
    Ok(match key {
        0 => Key(libc::KEY_SPEC_SESSION_KEYRING.into()),
        key => Key(key),
    })
}

/// Returns the description of `key`, `type;uid;gid;permissions;name`
/// (`KEYCTL_DESCRIBE`), cut after a page.
pub(crate) fn describe_key(key: Key) -> io::Result<Vec<u8>> {
    let mut text = vec![0_u8; 4096];
    // SAFETY: the kernel writes at most as many bytes as `text` has.
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

/// Loads a system call filter for this process and its future children (seccomp(2),
/// `SECCOMP_SET_MODE_FILTER`). Returns a listener, close-on-exec, if the flags include
/// `SECCOMP_FILTER_FLAG_NEW_LISTENER`.
///
/// # Errors
/// EACCES without both CAP_SYS_ADMIN and no_new_privs, EINVAL for a program or a flag
/// that the kernel does not accept.
pub(crate) fn set_seccomp_filter(
    flags: u32,
    program: &[Instruction],
) -> io::Result<Option<OwnedFd>> {
    const NEW_LISTENER: u32 = 1 << 3;
    let program = SockFprog {
        length: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        instructions: program.as_ptr(),
    };
    // SAFETY: `program` has the layout of `struct sock_fprog`. It points to the stated
    // number of instructions with the layout of `struct sock_filter`, which the kernel
    // copies.
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
    // SAFETY: with that flag the result is a descriptor that the kernel made just now,
    // so nothing else owns it.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(listener) }))
}

/// `struct sock_fprog` of linux/filter.h.
#[repr(C)]
struct SockFprog {
    length: u16,
    instructions: *const Instruction,
}

/// Returns whether the kernel knows these flags of `SECCOMP_SET_MODE_FILTER`.
pub(crate) fn knows_seccomp_flags(flags: u32) -> bool {
    // SAFETY: the null pointer points to no program, so none is loaded. The kernel
    // returns EFAULT after it has accepted the flags.
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

/// Sends a signal by pidfd_send_signal(2) without extra information. Any number is
/// passed on; the kernel refuses numbers that are not signals.
pub(crate) fn pidfd_send_signal(pidfd: impl AsFd, signal: i32) -> io::Result<()> {
    // SAFETY: for a null siginfo the kernel fills in its own, as for kill(2).
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

/// Ignores `signal`, as a caller of teu may do.
#[cfg(test)]
pub(crate) fn ignore_for_test(signal: c_int) {
    // SAFETY: no handler of this program is installed that this could remove.
    let before = unsafe { libc::signal(signal, libc::SIG_IGN) };
    assert_ne!(before, libc::SIG_ERR);
}

/// Runs `body` in a child whose stdout and stderr are a pipe. Returns its wait status
/// and its output. For tests that change their process.
#[cfg(test)]
pub(crate) fn fork_for_test(body: impl FnOnce()) -> (i32, String) {
    static HOOK: std::sync::Once = std::sync::Once::new();
    // Set the hook before any child is forked, because a child would wait for a panic
    // that another thread of the parent is in.
    HOOK.call_once(|| {
        let parent = std::process::id();
        let inherited = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if std::process::id() == parent {
                return inherited(info);
            }
            let text = format!("{info}\n");
            nix::unistd::write(std::io::stderr(), text.as_bytes()).ok();
            teu_namespaces::exit_now(101);
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
            teu_namespaces::exit_now(0)
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

/// Returns the name of the file that the kernel executed (getauxval(3), AT_EXECFN).
pub(crate) fn executed_name() -> Option<&'static CStr> {
    // SAFETY: the call takes a number and reads data that the kernel wrote at the
    // start.
    let name = unsafe { libc::getauxval(libc::AT_EXECFN) } as *const libc::c_char;
    // SAFETY: unless it is null, it points to a string above the stack that the kernel
    // wrote, which ends in NUL. Nothing writes to it.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) })
}

/// Overwrites the environment with which this process was started and which
/// /proc/PID/environ shows (environ(7)). Variables are empty afterwards.
pub(crate) fn wipe_environment() {
    unsafe extern "C" {
        static environ: *const *mut libc::c_char;
    }
    // SAFETY: this thread is the only one, and changes no variable (clippy.toml forbids
    // set_var). So `environ` is the list from the start of the process: strings in
    // writable memory, with a null pointer at its end. No reference to a string exists,
    // because std copies the strings that it returns.
    unsafe {
        let mut variable = environ;
        while !(*variable).is_null() {
            std::ptr::write_bytes(*variable, 0, libc::strlen(*variable));
            variable = variable.add(1);
        }
    }
}

/// Returns the seconds by which the local time is ahead of UTC at a time in seconds
/// since the epoch, by `$TZ` or `/etc/localtime` (localtime(3)). `None` for a year that
/// the C library cannot express.
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

/// A change for mount_setattr(2): its `struct mount_attr` without the user namespace.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MountChange {
    pub(crate) set: u64,
    pub(crate) clear: u64,
    /// MS_SHARED, MS_SLAVE, MS_PRIVATE or MS_UNBINDABLE; 0 changes nothing.
    pub(crate) propagation: u64,
    /// Whether to change all mounts below as well.
    pub(crate) recursive: bool,
}

/// Changes the mount whose root is `mount` (mount_setattr(2), Linux 5.12). A user
/// namespace is needed for MOUNT_ATTR_IDMAP only.
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

/// From linux/fcntl.h, because libc does not have it for every target.
const AT_RECURSIVE: libc::c_int = 0x8000;
