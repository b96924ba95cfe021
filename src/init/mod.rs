//! The container's init: everything that the first process does between the clone and
//! the container's program.
//!
//! [`main`] joins the cgroup and the namespaces, then [`prepare`] makes the root
//! filesystem and becomes the process of the plan, and [`become_program`] waits for the
//! start and executes the program. `commands/create.rs` is the parent's half.
//!
//! Not for decisions: nothing here reads the specification, because the [`Plan`] says
//! everything that is to be done.

pub(crate) mod capabilities;
pub(crate) mod console;
pub(crate) mod copy_up;
pub(crate) mod detached;
pub(crate) mod devices;
pub(crate) mod environment;
pub(crate) mod exec;
pub(crate) mod execute;
pub(crate) mod gpu;
pub(crate) mod hooks;
pub(crate) mod hotplug;
pub(crate) mod keyring;
pub(crate) mod limits;
pub(crate) mod loopback;
pub(crate) mod masks;
pub(crate) mod memory_policy;
pub(crate) mod mount_attributes;
pub(crate) mod mounts;
pub(crate) mod ordinary_file;
pub(crate) mod paths;
pub(crate) mod process;
pub(crate) mod process_labels;
pub(crate) mod procfs;
pub(crate) mod restore;
pub(crate) mod rootfs;
pub(crate) mod scheduling;
pub(crate) mod seccomp;
pub(crate) mod sysctl;

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::fmt;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;

use teu_cgroups::Entrance;
use teu_namespaces::Kind;

use crate::logger::{self, STEP};
use crate::pipe::{InitEnd, ToParent};
use crate::signals::Signals;
use crate::{errno, poll, sys};
use mount_attributes::Kernel;
use procfs::Procfs;
use rootfs::Rootfs;
use teu_plan::Plan;
use teu_plan::process::ProcessPlan;
use teu_plan::seccomp::Timing;

/// The exit status of a process that did not become the program; runc's.
pub(crate) const FAILED: i32 = 255;

/// Descriptors that init inherits from the parent.
#[derive(Debug)]
pub(crate) struct FromParent<'a> {
    /// The entrance of the container's cgroup, if init is to go there by itself.
    pub(crate) entrance: Option<Entrance>,
    /// The socket to which init sends the terminal's master.
    pub(crate) console_socket: Option<OwnedFd>,
    /// The exec fifo, for `create`. Init waits for a byte from it before it starts, and
    /// writes to it if the program could not be executed.
    pub(crate) exec_fifo: Option<OwnedFd>,
    /// The parent's signalfd. A read from a signalfd returns the signals of the process that
    /// reads, so init reads its own signals from it. The parent blocked these signals before
    /// the clone, so that no signal is lost before init waits for its start.
    pub(crate) signals: &'a Signals,
}

/// Runs in the cloned child. Returns the exit status of the child.
pub(crate) fn main(
    plan: &Plan,
    mut parent: InitEnd,
    mut given: FromParent<'_>,
    joined: teu_namespaces::Result<()>,
) -> i32 {
    log::trace!(target: STEP, "init was cloned and made or joined its namespaces");
    let prepared = process::end_with_parent(&parent)
        .and_then(|()| enter_cgroup(given.entrance.take(), &parent))
        .and_then(|()| joined.map_err(Into::into))
        .and_then(|()| prepare(plan, &mut parent, &given));
    match prepared {
        Ok(program) => {
            let Err(err) = become_program(plan, &mut parent, &given, &program);
            // The parent no longer listens, so the failure goes to standard error.
            let status = match err.downcast_ref() {
                Some(Interrupted(signal)) => 128 + signal,
                None => {
                    execute::fail(watched(plan, &parent, &given), &err);
                    FAILED
                }
            };
            // Run no destructors, because the descriptors that they would close are
            // closed.
            teu_namespaces::exit_now(status)
        }
        Err(err) => {
            // If sending fails, the parent is gone, and nobody is left to tell.
            parent.send(&ToParent::Failed(errno::chain(&err))).ok();
        }
    }
    FAILED
}

/// Moves this process through the entrance, if there is one, and tells the parent
/// whether that worked. If it did not, the parent moves this process.
fn enter_cgroup(entrance: Option<Entrance>, parent: &InitEnd) -> Result<()> {
    match entrance {
        Some(entrance) => {
            let entered = entrance.enter().is_ok();
            log::trace!(target: STEP, "entered the cgroup by itself: {entered}");
            parent.send(&ToParent::InCgroup(entered))
        }
        None => Ok(()),
    }
}

/// The program, found and ready to be executed.
#[derive(Debug)]
struct Program {
    path: CString,
    environment: Vec<CString>,
    /// The listener of the process's system call filter, open until the parent has
    /// taken it.
    _listener: Option<OwnedFd>,
}

/// Does everything up to the moment before the program.
fn prepare(plan: &Plan, parent: &mut InitEnd, given: &FromParent<'_>) -> Result<Program> {
    process::start_session()?;
    // Open this file while /proc is still the host's.
    let status = File::open("/proc/self/status").context("open \"/proc/self/status\"")?;

    if plan.namespaces.is_new(Kind::Network) {
        loopback::switch_on()?;
        log::trace!(target: STEP, "init switched the loopback device on");
    }

    // The parent attaches this process to its cgroup meanwhile.
    let rootfs = rootfs::prepare(&plan.rootfs, parent)?;
    log::debug!(target: STEP, "init made the mounts and devices (child process in init())");
    if plan.new_keyring {
        new_keyring(plan, &rootfs)?;
    }

    // Run the hooks now: they see the mounts made and the host's root still in place
    // (runtime.md, "Lifecycle").
    if plan.hooks.any_before_entering() {
        parent.run_hooks()?;
        log::trace!(target: STEP, "init waited for the parent's hooks");
    }
    // createContainer hooks run in the container's namespaces, with the host's root and
    // an empty environment.
    rootfs.change_directory()?;
    hooks::run_create_container(plan)?;
    rootfs.enter()?;
    // Log the last step already here: after `console::set_up`, standard error may be the
    // container's terminal.
    log::debug!(target: STEP, "init entered the container's root");
    rootfs.create_directory(Path::new(OsStr::from_bytes(plan.process.cwd.as_bytes())))?;
    if let (Some(terminal), Some(socket)) = (&plan.process.terminal, &given.console_socket) {
        console::set_up(rootfs.root(), terminal, socket)?;
    }

    // Remount now: the last mounts that need a writable /dev are made.
    rootfs.remount_readonly()?;
    set_names(plan)?;
    let labels = &plan.process.lsm;
    if let Some(profile) = &labels.apparmor_profile {
        process_labels::set_apparmor_profile(
            rootfs.procfs()?,
            profile,
            labels.stacks_apparmor_profile,
        )?;
    }
    if !plan.sysctls.is_empty() {
        sysctl::write(
            Procfs::open_unmasked().context("open a procfs for the sysctls")?,
            &plan.sysctls,
        )?;
    }
    rootfs.make_paths_readonly()?;
    rootfs.mask()?;
    log::trace!(target: STEP, "init made paths read-only and masked paths");

    let own_limits = !plan.parent_sets_limits;
    let program = become_process(&plan.process, rootfs.kernel(), own_limits, status, parent)?;
    parent.send(&ToParent::Ready)?;
    Ok(program)
}

/// Becomes the process of the plan in everything but its program, and finds the
/// program. `sets_limits`: this process sets its own resource limits. For `status` see
/// `process::become_user`.
fn become_process(
    plan: &ProcessPlan,
    kernel: &Kernel,
    sets_limits: bool,
    status: File,
    parent: &InitEnd,
) -> Result<Program> {
    scheduling::set_scheduler(0, &plan.scheduling)?;
    scheduling::set_io_priority(0, &plan.scheduling)?;
    if let Some(policy) = &plan.memory_policy {
        memory_policy::set(policy)?;
    }
    process::set_attributes(plan)?;
    if sets_limits {
        // Set them while this process is still root.
        limits::set(0, &plan.rlimits)?;
    } else {
        limits::limit_processes(&plan.rlimits)?;
    }

    if let Some(label) = &plan.lsm.selinux_label {
        process_labels::set_selinux_label(kernel.procfs()?, label)?;
    }
    let environment = environment::environment(plan, || kernel.procfs())?;
    let entered = process::enter_cwd(&plan.cwd)?;
    // Log the last step here, because a filter may refuse the write.
    log::trace!(target: STEP, "init has its attributes and working directory");
    let filter = plan.seccomp.as_ref();
    seccomp::log_flags(filter);
    let early = seccomp::load(filter, Timing::BeforeDroppingCapabilities, parent)?;
    process::become_user(plan, status, || kernel.procfs(), entered)?;
    // Search as the user, because root may be able to execute other files.
    let search_path = plan.environment.search_path.as_deref();
    let path = match plan.args.first() {
        Some(program) => execute::find(program, search_path)?,
        // Nothing to execute: `start` refuses to start a container without a program.
        None => CString::default(),
    };

    // Clear the signal: a change of user does so anyway, and the parent may end before
    // the program does.
    process::outlive_parent()?;
    // Load the filter before startContainer hooks: it must cover them too. From here
    // on, all system calls are those of a program or under its control.
    let late = seccomp::load(filter, Timing::LastOfAll, parent)?;
    Ok(Program {
        path,
        environment,
        _listener: early.or(late),
    })
}

/// Waits for the start, and then becomes the program.
fn become_program(
    plan: &Plan,
    parent: &mut InitEnd,
    given: &FromParent<'_>,
    program: &Program,
) -> Result<Infallible> {
    let at_once = parent.wait_for_parent()?;
    // The parent no longer talks to this process. Besides the signalfd, keep one descriptor:
    // after `create` the fifo, whose other end `start` opens; otherwise the pipe, if the parent
    // watches it to learn of the execve.
    let fifo = given.exec_fifo.as_ref().map(AsFd::as_fd);
    let end = fifo.or_else(|| watched(plan, parent, given));
    let kept: Vec<_> = end.into_iter().chain([given.signals.as_fd()]).collect();
    leave_parent(plan.preserved_fds, &kept)?;
    if !at_once {
        let fifo = given.exec_fifo.as_ref();
        wait_for_start(fifo.context("there is no exec fifo")?, given.signals)?;
    }
    hooks::run_start_container(plan, &program.environment)?;
    sys::restore_signals(plan.process.ignored_signals).context("restore signals")?;
    execute::exec(
        &program.path,
        &plan.process.args,
        &program.environment,
        plan.preserved_fds,
        &kept,
        watched(plan, parent, given),
    )
}

/// Drops everything of the parent's: its environment, its log, and all descriptors
/// except `kept` and those that the program inherits. Processes of the container may
/// look into this process or its child, and hooks run beside it.
fn leave_parent(preserved_fds: u32, kept: &[BorrowedFd<'_>]) -> Result<()> {
    sys::wipe_environment();
    logger::leave_file();
    execute::close_all(preserved_fds, kept).context("close descriptors")
}

/// Returns the descriptor whose close tells `start` or `run` to run the poststart hooks, or
/// `None` if there are none: init's end of the exec fifo after `create`, and of the pipe after
/// `run`. The execve closes it.
fn watched<'a>(
    plan: &Plan,
    parent: &'a InitEnd,
    given: &'a FromParent<'_>,
) -> Option<BorrowedFd<'a>> {
    let end = given.exec_fifo.as_ref().map_or(parent.as_fd(), AsFd::as_fd);
    (!plan.hooks.poststart.is_empty()).then_some(end)
}

/// Joins a new session keyring, so that keys made in the container stay in it.
fn new_keyring(plan: &Plan, rootfs: &Rootfs<'_>) -> Result<()> {
    let label = plan.process.lsm.selinux_label.as_deref();
    if label.is_some() {
        process_labels::set_selinux_key_label(rootfs.procfs()?, label)?;
    }
    keyring::join_new(&plan.id, plan.namespaces.is_private(Kind::User))?;
    if label.is_some() {
        process_labels::set_selinux_key_label(rootfs.procfs()?, None)?;
    }
    Ok(())
}

/// The number of a signal that ended the wait for the start.
#[derive(Debug)]
struct Interrupted(i32);

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signal {}", self.0)
    }
}

impl std::error::Error for Interrupted {}

/// Waits until `teu start` writes to the fifo.
///
/// A signal that would end an ordinary process ends this one too, although the kernel
/// would spare the first process of a pid namespace.
fn wait_for_start(fifo: &OwnedFd, signals: &Signals) -> Result<()> {
    let mut byte = [0];
    loop {
        let mut events = [
            PollFd::new(fifo, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        poll::wait(&mut events).context("wait for the start")?;
        let is_ready = !events[0].revents().is_empty();
        if let Some(signal) = signals.next()?.filter(|signal| ends_a_process(*signal)) {
            return Err(Interrupted(signal).into());
        }
        match is_ready.then(|| rustix::io::read(fifo, &mut byte)) {
            Some(Ok(1..)) => return Ok(()),
            None | Some(Ok(0) | Err(Errno::INTR | Errno::AGAIN)) => {}
            Some(Err(err)) => return Err(err).context("wait for the start"),
        }
    }
}

/// Whether the default action of the signal is to end the process (signal(7)).
fn ends_a_process(signal: i32) -> bool {
    let others = [
        libc::SIGCHLD,
        libc::SIGCONT,
        libc::SIGTSTP,
        libc::SIGTTIN,
        libc::SIGTTOU,
        libc::SIGURG,
        libc::SIGWINCH,
    ];
    !others.contains(&signal)
}

/// Sets the container's host name and domain name.
fn set_names(plan: &Plan) -> Result<()> {
    if !plan.hostname.is_empty() {
        rustix::system::sethostname(plan.hostname.as_bytes())
            .with_context(|| format!("set hostname {:?}", plan.hostname))?;
    }
    if !plan.domainname.is_empty() {
        rustix::system::setdomainname(plan.domainname.as_bytes())
            .with_context(|| format!("set domainname {:?}", plan.domainname))?;
    }
    Ok(())
}
