//! DO: a further process of a running container, from the clone to the
//! program. `init/mod.rs` is the longer way of the container's first one;
//! `commands/exec.rs` is the host's half.

use std::convert::Infallible;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::process::{Signal, chroot, fchdir};

use super::attributes::Kernel;
use super::paths::Root;
use super::{FAILED, Program, become_process, command, console, lsm, process};
use crate::errno;
use crate::pipe::{InitEnd, ToHost};
use crate::plan::exec::ExecPlan;

/// What the process inherits from the host.
#[derive(Debug)]
pub(crate) struct Given {
    /// Where the terminal is sent.
    pub(crate) console_socket: Option<OwnedFd>,
    /// The container's root, where it takes more than joining to get there.
    pub(crate) root: Option<OwnedFd>,
}

/// Runs in the cloned child; what it returns is the status it ends with.
pub(crate) fn main(
    plan: &ExecPlan,
    host: InitEnd,
    given: Given,
    joined: teu_namespaces::Result<()>,
) -> i32 {
    let prepared = joined
        .map_err(Into::into)
        .and_then(|()| prepare(plan, &given, &host));
    let executed = match prepared {
        Ok(program) => match host.send(&ToHost::Ready) {
            Ok(()) => execute(plan, host, &program),
            Err(err) => Err(err),
        },
        Err(err) => {
            // If the host is gone there is nobody to tell.
            host.send(&ToHost::Failed(errno::chain(&err))).ok();
            return FAILED;
        }
    };
    let Err(err) = executed;
    // The host has gone its way: this is told on the program's standard error.
    eprintln!("{}", errno::chain(&err));
    FAILED
}

/// Everything up to the moment before the program. The host moves this process
/// into the container's cgroup meanwhile.
fn prepare(plan: &ExecPlan, given: &Given, host: &InitEnd) -> Result<Program> {
    // A host that dies takes this process with it until it is ready; from then
    // on the pipe tells of its end.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .context("prctl(PR_SET_PDEATHSIG)")?;
    command::unblock_signals()?;
    process::start_session()?;
    if let Some(root) = &given.root {
        fchdir(root).context("enter the container's root")?;
        chroot(".").context("chroot")?;
    }
    let kernel = Kernel::default();
    if plan.keyring {
        join_keyring(plan, &kernel)?;
    }
    if let (Some(terminal), Some(socket)) = (&plan.process.terminal, &given.console_socket) {
        console::set_up_another(&root()?, terminal, socket)?;
    }
    let labels = &plan.process.lsm;
    if let Some(profile) = &labels.apparmor_profile {
        lsm::set_apparmor_profile(kernel.procfs()?, profile, labels.stacks_apparmor_profile)?;
    }
    become_process(
        &plan.process,
        &kernel,
        !plan.host_sets_limits,
        plan.callers_streams,
        host,
    )
}

/// Joins the container's session keyring; its keys are this process's too.
fn join_keyring(plan: &ExecPlan, kernel: &Kernel) -> Result<()> {
    let label = plan.process.lsm.selinux_label.as_deref();
    if label.is_some() {
        lsm::set_selinux_key_label(kernel.procfs()?, label)?;
    }
    process::rejoin_session_keyring(&plan.id)?;
    if label.is_some() {
        lsm::set_selinux_key_label(kernel.procfs()?, None)?;
    }
    Ok(())
}

/// The container's root, which is this process's by now.
fn root() -> Result<Root> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = openat(CWD, "/", flags, Mode::empty()).context("open \"/\"")?;
    Ok(Root::new(directory))
}

/// Waits for the host's part, and becomes the program.
fn execute(plan: &ExecPlan, mut host: InitEnd, program: &Program) -> Result<Infallible> {
    host.wait_for_host()?;
    command::restore_signals()?;
    let (args, preserved) = (&plan.process.args, plan.preserved_fds);
    command::exec(&program.path, args, &program.environment, preserved, None)
}
