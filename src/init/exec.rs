//! DO: a further process of a running container, from the clone to the
//! program. `init/mod.rs` is the longer way of the container's first one;
//! `commands/exec.rs` is the parent's half.
//!
//! Others in the container may have CAP_SYS_PTRACE, and take what a process
//! there has. So a middle process does all that takes more than the container's
//! privileges, outside of the container's pid namespace.

use std::convert::Infallible;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{Signal, chroot, fchdir};
use teu_cgroups::Entrance;

use super::paths::Root;
use super::procfs::Procfs;
use super::{
    FAILED, capabilities, console, enter_cgroup, environment, execute, keyring, leave_parent,
    limits, memory_policy, process, process_labels, scheduling, seccomp,
};
use crate::logger::STEP;
use crate::pipe::{InitEnd, ToParent};
use crate::plan::exec::ExecPlan;
use crate::plan::seccomp::Timing;
use crate::{errno, sys};

/// What the process inherits from the parent.
#[derive(Debug)]
pub(crate) struct FromParent {
    /// Of the container's cgroup, if the process is to go there by itself.
    pub(crate) entrance: Option<Entrance>,
    /// Where the terminal is sent.
    pub(crate) console_socket: Option<OwnedFd>,
    /// The container's root, where it takes more than joining to get there.
    pub(crate) root: Option<OwnedFd>,
    /// The host's: the container's does not know this process.
    pub(crate) procfs: Procfs,
}

/// What the process begins with in the container's pid namespace.
#[derive(Debug)]
pub(crate) struct Prepared {
    parent: InitEnd,
    environment: Vec<CString>,
    /// It is in its working directory.
    entered: bool,
}

/// Runs in the cloned middle process, which is in all namespaces of the
/// container but its pid namespace: does what takes privileges, and leaves
/// neither those nor the parent's descriptors to the process to be. `spared` is
/// left open. An error is the status to end with; the parent has been told.
pub(crate) fn prepare(
    plan: &ExecPlan,
    parent: InitEnd,
    mut given: FromParent,
    joined: teu_namespaces::Result<()>,
    spared: BorrowedFd<'_>,
) -> Result<Prepared, i32> {
    log::trace!(target: STEP, "the middle process was cloned and joined the namespaces");
    // First: in a frozen cgroup this process stops at once.
    let prepared = end_with_parent(&parent)
        .and_then(|()| enter_cgroup(given.entrance.take(), &parent))
        .and_then(|()| joined.map_err(Into::into))
        .and_then(|()| become_process(plan, given));
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

/// Runs in the process itself, as the container's user with its capabilities;
/// what it returns is the status it ends with.
pub(crate) fn main(plan: &ExecPlan, mut prepared: Prepared) -> i32 {
    // The listener is open until the parent has taken it.
    let (program, listener) = match finish(plan, &prepared) {
        Ok(finished) => finished,
        Err(err) => return fail(&prepared.parent, &err),
    };
    let Err(err) = become_program(plan, &program, &mut prepared, listener.as_ref());
    // The parent has gone its way.
    execute::fail(None, &err);
    // No destructors: what they would close may be closed.
    sys::exit(FAILED)
}

/// Tells the parent, and gives the status to end with.
fn fail(parent: &InitEnd, err: &anyhow::Error) -> i32 {
    // If the parent is gone there is nobody to tell.
    parent.send(&ToParent::Failed(errno::chain(err))).ok();
    FAILED
}

/// Everything that the process inherits; its environment, and whether this one
/// could enter its working directory. The parent moves it into the container's
/// cgroup meanwhile.
fn become_process(plan: &ExecPlan, given: FromParent) -> Result<(Vec<CString>, bool)> {
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
    // Where it fails, the process itself tries again and tells: below /proc/self,
    // for one, there is a way for that one only.
    let entered = process::enter_cwd(&process.cwd).unwrap_or(false);
    let status = procfs
        .open_file(Path::new("self/status"), OFlags::RDONLY)
        .context("open \"/proc/self/status\"")?;
    limits::within_limit_of_processes(&process.rlimits, || {
        process::become_user(process, status, || Ok(procfs), true)
    })?;
    seccomp::log_flags(process.seccomp.as_ref());
    Ok((environment, entered))
}

/// Has the kernel kill this process if its parent ends before the process is ready. From
/// then on the pipe tells of the parent's end.
pub(super) fn end_with_parent(parent: &InitEnd) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("prctl(PR_SET_PDEATHSIG)")?;
    parent.check_parent()
}

/// What only the process itself can do, and what takes the capabilities that it
/// has kept for it.
fn finish(plan: &ExecPlan, prepared: &Prepared) -> Result<(CString, Option<OwnedFd>)> {
    let (process, parent) = (&plan.process, &prepared.parent);
    end_with_parent(parent)?;
    execute::unblock_signals()?;
    process::start_session()?;
    if process.terminal.is_some() {
        console::control()?;
    }
    scheduling::set_scheduler(0, &process.scheduling)?;
    // Not inherited: the process before this one would count, too.
    if !plan.parent_sets_limits {
        limits::set(0, &process.rlimits)?;
    }
    if !prepared.entered {
        process::enter_cwd_as_user(&process.cwd)?;
    }
    // As the user: what root could execute does not matter.
    let search_path = process.environment.search_path.as_deref();
    let path = execute::find(&process.args[0], search_path)?;
    let filter = process.seccomp.as_ref();
    let early = seccomp::load(filter, Timing::BeforeDroppingCapabilities, parent)?;
    capabilities::drop_kept(&process.capabilities)?;
    rustix::process::set_parent_process_death_signal(None).context("prctl(PR_SET_PDEATHSIG)")?;
    // All calls from here on are those of a program or under its control.
    let late = seccomp::load(filter, Timing::LastOfAll, parent)?;
    parent.send(&ToParent::Ready)?;
    Ok((path, early.or(late)))
}

/// Joins the container's session keyring; its keys are this process's too.
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

/// The container's root, which is this process's by now.
fn root() -> Result<Root> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, "/", flags, Mode::empty()).context("open \"/\"")?;
    Ok(Root::new(directory))
}

/// Waits for the parent's part, and becomes the program.
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
