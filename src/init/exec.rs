//! DO: a further process of a running container, from the clone to the
//! program. `init/mod.rs` does that for the container's first process;
//! `commands/exec.rs` is the parent's half.
//!
//! A process of the container with CAP_SYS_PTRACE can take over any process in the
//! container's pid namespace, with its privileges and descriptors. So a middle process
//! outside of that pid namespace takes all steps that need more privileges than the
//! container has.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::OFlags;
use rustix::process::{chroot, fchdir};
use teu_cgroups::Entrance;
use teu_plan::exec::ExecPlan;
use teu_plan::seccomp::Timing;

use super::paths::Root;
use super::procfs::Procfs;
use super::{
    FAILED, capabilities, console, enter_cgroup, environment, execute, keyring, leave_parent,
    limits, memory_policy, process, process_labels, scheduling, seccomp,
};
use crate::logger::STEP;
use crate::pipe::{InitEnd, ToParent};
use crate::{errno, sys};

/// Descriptors that the process inherits from the parent.
#[derive(Debug)]
pub(crate) struct FromParent {
    /// The entrance of the container's cgroup, if the process is to go there by itself.
    pub(crate) entrance: Option<Entrance>,
    /// The socket to which the process sends the terminal's master.
    pub(crate) console_socket: Option<OwnedFd>,
    /// The container's root, if joining the mount namespace does not lead there.
    pub(crate) root: Option<OwnedFd>,
    /// The host's procfs, because the container's does not show this process.
    pub(crate) procfs: Procfs,
}

/// The part of its state that the process takes over from the middle process.
#[derive(Debug)]
pub(crate) struct Prepared {
    parent: InitEnd,
    environment: Vec<CString>,
    /// Whether the middle process could enter the working directory.
    entered: bool,
}

/// Runs in the cloned middle process, which is in all namespaces of the container but
/// its pid namespace. Does everything that takes privileges, and leaves neither
/// privileges nor the parent's descriptors, except `spared`, to the process itself.
///
/// # Errors
/// The exit status of the middle process. The parent has been told the reason.
pub(crate) fn prepare(
    plan: &ExecPlan,
    parent: InitEnd,
    mut given: FromParent,
    joined: teu_namespaces::Result<()>,
    spared: BorrowedFd<'_>,
) -> Result<Prepared, i32> {
    log::trace!(target: STEP, "the middle process was cloned and joined the namespaces");
    // Prepare for the parent's death first: in a frozen cgroup this process stops at
    // once.
    let prepared = process::end_with_parent(&parent)
        .and_then(|()| enter_cgroup(given.entrance.take(), &parent))
        .and_then(|()| joined.map_err(Into::into))
        .and_then(|()| become_process(plan, given, &parent));
    let closed = prepared.and_then(|prepared| {
        log::trace!(target: STEP, "the middle process has what its child inherits");
        leave_parent(plan.preserved_fds, &[parent.as_fd(), spared])?;
        Ok(prepared)
    });
    match closed {
        Ok((environment, entered)) => Ok(Prepared {
            parent,
            environment,
            entered,
        }),
        Err(err) => Err(fail(&parent, &err)),
    }
}

/// Runs in the process itself, as the container's user with its capabilities. Returns
/// the exit status of the process.
pub(crate) fn main(plan: &ExecPlan, mut prepared: Prepared) -> i32 {
    // The listener is open until the parent has taken it.
    let (program, listener) = match finish(plan, &prepared) {
        Ok(finished) => finished,
        Err(err) => return fail(&prepared.parent, &err),
    };
    let Err(err) = become_program(plan, &program, &mut prepared, listener.as_ref());
    // The parent no longer listens, so the failure goes to standard error.
    execute::fail(None, &err);
    // Run no destructors, because the descriptors that they would close may be closed.
    teu_namespaces::exit_now(FAILED)
}

/// Tells the parent of the failure. Returns the exit status of this process.
fn fail(parent: &InitEnd, err: &anyhow::Error) -> i32 {
    // If sending fails, the parent is gone, and nobody is left to tell.
    parent.send(&ToParent::Failed(errno::chain(err))).ok();
    FAILED
}

/// Sets everything that the process inherits. Returns its environment, and whether the
/// middle process could enter the working directory. Meanwhile the parent moves the
/// middle process into the container's cgroup.
fn become_process(
    plan: &ExecPlan,
    given: FromParent,
    parent: &InitEnd,
) -> Result<(Vec<CString>, bool)> {
    if let Some(root) = &given.root {
        fchdir(root).context("enter the container's root")?;
        chroot(".").context("chroot")?;
    }
    let (process, procfs) = (&plan.process, &given.procfs);
    if plan.keyring {
        join_keyring(plan, procfs)?;
    }
    if let (Some(terminal), Some(socket)) = (&process.terminal, &given.console_socket) {
        console::set_up_another(&root()?, terminal, socket)?;
    }
    let labels = &process.lsm;
    if let Some(profile) = &labels.apparmor_profile {
        process_labels::set_apparmor_profile(procfs, profile, labels.stacks_apparmor_profile)?;
    }
    scheduling::set_io_priority(0, &process.scheduling)?;
    if let Some(policy) = &process.memory_policy {
        memory_policy::set(policy)?;
    }
    process::set_attributes(process)?;
    if !plan.parent_sets_limits {
        limits::raise(&process.rlimits)?;
    }
    if let Some(label) = &process.lsm.selinux_label {
        process_labels::set_selinux_label(procfs, label)?;
    }
    let environment = environment::environment(process, || Ok(procfs))?;
    // If this fails, the process itself tries again and tells the parent: a directory
    // below /proc/self, for example, is open to the process itself only.
    let entered = process::enter_cwd(&process.cwd).unwrap_or(false);
    let status = procfs
        .open_file(Path::new("self/status"), OFlags::RDONLY)
        .context("open \"/proc/self/status\"")?;
    limits::within_limit_of_processes(&process.rlimits, parent.as_fd(), || {
        process::become_user(process, status, || Ok(procfs), true)
    })?;
    seccomp::log_flags(process.seccomp.as_ref());
    Ok((environment, entered))
}

/// Does what only the process itself can do, and what takes the capabilities that were
/// kept for it. Returns the path of the program and the filter's listener.
fn finish(plan: &ExecPlan, prepared: &Prepared) -> Result<(CString, Option<OwnedFd>)> {
    let (process, parent) = (&plan.process, &prepared.parent);
    process::end_with_parent(parent)?;
    execute::unblock_signals()?;
    process::start_session()?;
    if process.terminal.is_some() {
        console::control()?;
    }
    scheduling::set_scheduler(0, &process.scheduling)?;
    // Set here and not in the middle process, because the limit of processes would
    // count the middle process, too.
    if !plan.parent_sets_limits {
        limits::set(0, &process.rlimits)?;
    }
    if !prepared.entered {
        process::enter_cwd_as_user(&process.cwd)?;
    }
    // Search as the user, because root may be able to execute other files.
    let search_path = process.environment.search_path.as_deref();
    let path = execute::find(&process.args[0], search_path)?;
    let filter = process.seccomp.as_ref();
    let early = seccomp::load(filter, Timing::BeforeDroppingCapabilities, parent)?;
    capabilities::drop_kept(&process.capabilities)?;
    process::outlive_parent()?;
    // This filter applies to all later system calls: the message below, execve(2), and what
    // comes before it.
    let late = seccomp::load(filter, Timing::LastOfAll, parent)?;
    parent.send(&ToParent::Ready)?;
    Ok((path, early.or(late)))
}

/// Joins the container's session keyring, so that this process has its keys, too.
fn join_keyring(plan: &ExecPlan, procfs: &Procfs) -> Result<()> {
    let label = plan.process.lsm.selinux_label.as_deref();
    if label.is_some() {
        process_labels::set_selinux_key_label(procfs, label)?;
    }
    keyring::join_again(&plan.id)?;
    if label.is_some() {
        process_labels::set_selinux_key_label(procfs, None)?;
    }
    Ok(())
}

/// Opens the container's root, which is the root of this process by now.
fn root() -> Result<Root> {
    Root::at(Path::new("/")).context("open \"/\"")
}

/// Waits until the parent is done, and then becomes the program.
fn become_program(
    plan: &ExecPlan,
    program: &CStr,
    prepared: &mut Prepared,
    listener: Option<&OwnedFd>,
) -> Result<Infallible> {
    prepared.parent.wait_for_parent()?;
    sys::restore_signals(plan.process.ignored_signals).context("restore signals")?;
    let listener = listener.map(AsFd::as_fd);
    let left: Vec<_> = listener
        .into_iter()
        .chain([prepared.parent.as_fd()])
        .collect();
    execute::exec(
        program,
        &plan.process.args,
        &prepared.environment,
        plan.preserved_fds,
        &left,
        None,
    )
}
