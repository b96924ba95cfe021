//! Confines the server: it reads input of other processes as long as its containers live,
//! and needs few privileges for that.
//!
//! The server keeps four capabilities and the system calls listed here. Any other call
//! kills it; then its containers live on, and containerd cleans up. The server makes no
//! process, thread, mount or namespace, executes no program, and maps no new code. The
//! spawner, which was forked before, does that for it.
//!
//! The confinement does not stop an attacker who controls the server and knows the requests of
//! the spawner. It stops the first steps of most attacks.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use libc::{PROT_EXEC, c_long};
use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

/// Calls for memory and time, for ending the process, and those of the C library.
const PROCESS: &[c_long] = &[
    libc::SYS_brk,
    libc::SYS_clock_gettime,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_getpid,
    libc::SYS_getrandom,
    libc::SYS_gettid,
    libc::SYS_geteuid,
    libc::SYS_getuid,
    libc::SYS_madvise,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_restart_syscall,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Called by abort(3).
    libc::SYS_tgkill,
    libc::SYS_tkill,
];

/// Calls for sockets and files, and for waiting for them.
const DESCRIPTORS: &[c_long] = &[
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_close,
    libc::SYS_connect,
    libc::SYS_dup,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_eventfd2,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_fchown,
    libc::SYS_fcntl,
    libc::SYS_fstat,
    libc::SYS_fstatfs,
    libc::SYS_ftruncate,
    libc::SYS_getdents64,
    libc::SYS_getpeername,
    libc::SYS_getsockname,
    libc::SYS_getsockopt,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_rm_watch,
    // For terminals and O_NONBLOCK.
    libc::SYS_ioctl,
    libc::SYS_listen,
    libc::SYS_lseek,
    libc::SYS_memfd_create,
    libc::SYS_mkdirat,
    libc::SYS_newfstatat,
    libc::SYS_openat,
    libc::SYS_pipe2,
    libc::SYS_ppoll,
    libc::SYS_pread64,
    libc::SYS_read,
    libc::SYS_readlinkat,
    libc::SYS_readv,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_sendmsg,
    libc::SYS_sendto,
    libc::SYS_setsockopt,
    libc::SYS_shutdown,
    libc::SYS_splice,
    libc::SYS_statfs,
    libc::SYS_statx,
    libc::SYS_tee,
    libc::SYS_unlinkat,
    libc::SYS_write,
    libc::SYS_writev,
];

/// Calls for the containers' processes.
const CHILDREN: &[c_long] = &[libc::SYS_kill, libc::SYS_wait4, libc::SYS_waitid];

/// Older system calls, which musl uses where the architecture has them.
#[cfg(target_arch = "x86_64")]
const OLDER: &[c_long] = &[
    libc::SYS_epoll_wait,
    libc::SYS_lstat,
    libc::SYS_mkdir,
    libc::SYS_open,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_rmdir,
    libc::SYS_stat,
    libc::SYS_unlink,
];
#[cfg(not(target_arch = "x86_64"))]
const OLDER: &[c_long] = &[];

/// Allows to signal processes, to open fifos and to chown pipes of any user.
const CAPABILITIES: CapabilitySet = CapabilitySet::KILL
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::DAC_READ_SEARCH)
    .union(CapabilitySet::CHOWN);

/// Drops all other capabilities and installs the filter.
///
/// # Errors
/// The kernel refuses.
pub(crate) fn enter() -> Result<()> {
    let capabilities = CapabilitySets {
        effective: CAPABILITIES,
        permitted: CAPABILITIES,
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, capabilities).context("give up capabilities")?;
    let filter = filter().context("make the filter of system calls")?;
    seccompiler::apply_filter(&filter).context("install the filter of system calls")
}

fn filter() -> Result<BpfProgram> {
    let lists = [PROCESS, DESCRIPTORS, CHILDREN, OLDER];
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    for call in lists.into_iter().flatten() {
        rules.insert(*call, Vec::new());
    }
    // All code is mapped by now.
    let no_code = argument(
        2,
        SeccompCmpOp::MaskedEq(PROT_EXEC.cast_unsigned().into()),
        0,
    )?;
    rules.insert(libc::SYS_mmap, vec![no_code.clone()]);
    rules.insert(libc::SYS_mprotect, vec![no_code]);
    let unix = argument(0, SeccompCmpOp::Eq, libc::AF_UNIX.cast_unsigned().into())?;
    rules.insert(libc::SYS_socket, vec![unix]);
    let filter = SeccompFilter::new(
        rules,
        SeccompAction::KillProcess,
        SeccompAction::Allow,
        std::env::consts::ARCH.try_into()?,
    )?;
    Ok(filter.try_into()?)
}

/// A rule that matches a call by one of its arguments.
fn argument(number: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompRule> {
    let condition = SeccompCondition::new(number, SeccompCmpArgLen::Dword, operator, value)?;
    Ok(SeccompRule::new(vec![condition])?)
}
