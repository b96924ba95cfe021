//! `teu exec`: runs a further process in a container.
//!
//! Plans the process, clones a middle process beside the container's init, moves it to
//! the cgroup, lets it clone the process, and serves the process until it is ready.
//! `init/exec.rs` is the other half, inside the container.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::Signal;
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd, OwnedFd};
use teu_cgroups::{Cgroup, Entered};
use teu_namespaces::{Child, Kind, Namespace, NamespacePlan, Neighbour, Pending, spawn_beside};
use teu_plan::exec::{ExecPlan, Replacements};
use teu_plan::scheduling::Affinity;

use crate::bundle::{self, Bundle};
use crate::host::Host;
use crate::init::procfs::Procfs;
use crate::init::{self, limits};
use crate::known_failures::{Failure, START};
use crate::logger::STEP;
use crate::parent::listen_fds::ListenFds;
use crate::parent::started::Started;
use crate::parent::terminal::{self, Front};
use crate::parent::{affinity, oom_score, seccomp_agent, users};
use crate::pipe::{self, Outcome, ParentEnd, ToInit, ToParent};
use crate::signals::Signals;
use crate::state::{ContainerState, StateDir, Status, init_process};

/// The arguments of `exec`.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state, absolute.
    pub(crate) root: PathBuf,
    /// The name of the container, not checked yet.
    pub(crate) id: String,
    /// A file with the process; by default the container's own process with
    /// `replacements`.
    pub(crate) process: Option<PathBuf>,
    pub(crate) replacements: Replacements,
    /// Whether to return once the program is started.
    pub(crate) detach: bool,
    /// The socket for the terminal.
    pub(crate) console_socket: Option<PathBuf>,
    /// The socket for a pidfd of the process.
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// The file for the pid of the process, absolute.
    pub(crate) pid_file: Option<PathBuf>,
    /// The number of descriptors that the process gets in addition to the standard
    /// streams.
    pub(crate) preserve_fds: u32,
    /// Cgroups below the container's for the process, by controller; the empty name
    /// stands for all controllers.
    pub(crate) sub_cgroups: BTreeMap<String, String>,
    /// Whether to wait in a paused container until it is resumed.
    pub(crate) ignore_paused: bool,
}

/// Runs a process in a container. Returns the exit status for this process: that of the
/// new process, 128 plus the signal's number if a signal ended it, or 0 if detached.
///
/// # Errors
/// The process cannot be started. Nothing of it is left.
#[inline(never)]
pub(crate) fn exec(options: &Options) -> Result<u8> {
    ListenFds::take_preserved(options.preserve_fds)?;
    let (_, state) = StateDir::load(&options.root, &options.id)?;
    let neighbour = find_init(options, &state)?;
    let plan = options.plan(&state, &neighbour)?;
    log::trace!(target: STEP, "read the state and planned the process");
    if options.detach {
        start(options, &state, &neighbour, &plan)?.keep();
        return Ok(0);
    }
    // Block signals before the clone, or the end of a short process would not be
    // noticed.
    let signals = Signals::block()?;
    let mut process = start(options, &state, &neighbour, &plan)?;
    process.wait_in_front(&signals, None)
}

/// Finds the container's init, beside which the process is started.
fn find_init(options: &Options, state: &ContainerState) -> Result<Neighbour> {
    let Some(init) = init_process::open(state)? else {
        return Err(Failure::ExecStopped.into());
    };
    if !options.ignore_paused && state.is_frozen()? {
        return Err(Failure::ExecPaused.into());
    }
    Neighbour::new(Pid::from_raw(state.pid), init).map_err(|err| unless_stopped(err, state))
}

/// Opens the root of a container that has no mount namespace of its own. Otherwise
/// joining the mount namespace leads to the root, and this returns `None`.
pub(super) fn open_root(neighbour: &Neighbour, state: &ContainerState) -> Result<Option<OwnedFd>> {
    if neighbour.has_own(Kind::Mount) {
        return Ok(None);
    }
    let path = format!("/proc/{}/root", state.pid);
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root =
        rustix::fs::open(&path, flags, Mode::empty()).with_context(|| format!("open {path:?}"));
    // Check init after reading below /proc/PID: if it is alive now, the pid was not reused.
    match state.init_is_alive()? {
        true => root.map(Some),
        false => Err(Failure::ExecStopped.into()),
    }
}

/// Returns `err`, or the error that the container has stopped meanwhile, which explains
/// it.
fn unless_stopped(err: impl Into<anyhow::Error>, state: &ContainerState) -> anyhow::Error {
    if matches!(state.init_is_alive(), Ok(false)) {
        Failure::ExecStopped.into()
    } else {
        err.into()
    }
}

impl Options {
    /// Returns the replacements, with the user by numbers.
    fn by_numbers(&self, state: &ContainerState) -> Result<Cow<'_, Replacements>> {
        let named = self.replacements.user.as_deref();
        let Some(named) = named.filter(|user| users::has_name(user)) else {
            return Ok(Cow::Borrowed(&self.replacements));
        };
        let user = users::find(named, state.pid).map_err(|err| unless_stopped(err, state))?;
        // Check init after reading below /proc/PID: if it is alive now, the pid was not reused.
        if !state.init_is_alive()? {
            return Err(Failure::ExecStopped.into());
        }
        let mut replacements = self.replacements.clone();
        replacements.user = Some(match user.gid {
            Some(gid) => format!("{}:{gid}", user.uid),
            None => user.uid.to_string(),
        });
        replacements.additional_gids.extend(user.groups);
        Ok(Cow::Owned(replacements))
    }

    fn plan(&self, state: &ContainerState, neighbour: &Neighbour) -> Result<ExecPlan> {
        let defaults = &state.shared.defaults;
        let devices = state.devices.for_processes();
        let mut process = match &self.process {
            Some(file) => defaults.complete(bundle::read_process(file)?),
            None => {
                bundle::enter(&state.bundle)?;
                let own = Bundle::process_again(&state.bundle)?;
                let mut own = own.ok_or(Failure::NoProcess)?;
                devices.replace_in(&mut own);
                self.by_numbers(state)?.apply(defaults.complete(own))?
            }
        };
        devices.complete(&mut process);
        let mut namespaces = NamespacePlan::default();
        for kind in Kind::ALL
            .into_iter()
            .filter(|kind| neighbour.has_own(*kind))
        {
            let path = format!("/proc/{}/ns/{}", state.pid, kind.proc_name());
            namespaces.set(kind, Namespace::Joined(path.into()));
        }
        let shared = &state.shared;
        let other_users = namespaces.is_private(Kind::User);
        let caller = Host::new().caller(Some(&process), other_users)?;
        let mut plan = ExecPlan::new(
            &state.id,
            &process,
            shared,
            &caller,
            &namespaces,
            !self.detach,
        )?;
        plan.preserved_fds = self.preserve_fds;
        if self.process.is_none() {
            plan.set_args(self.replacements.args.clone())?;
        }
        Ok(plan)
    }
}

/// Attributes of this process that the new process inherits. Dropping it restores them.
#[derive(Debug)]
struct Inheritance {
    _affinity: Option<affinity::Borrowed>,
    _oom_score: Option<oom_score::Borrowed>,
}

impl Inheritance {
    fn of(plan: &ExecPlan) -> Result<Inheritance> {
        log::debug!("nsexec container setup");
        let adjustment = plan.process.oom_score_adj;
        let oom_score = adjustment.map(oom_score::Borrowed::new).transpose()?;
        let cpus = plan.affinity().and_then(|cpus| cpus.initial.as_ref());
        if let Some(cpus) = cpus {
            log::debug!("nsexec: affinity: {cpus:#x}");
        }
        Ok(Inheritance {
            _affinity: cpus.map(affinity::Borrowed::new).transpose()?,
            _oom_score: oom_score,
        })
    }
}

/// Parses the values of `--cgroup`, each `[CONTROLLER[,CONTROLLER...]:]PATH`.
///
/// # Errors
/// A path without controllers is not the only path, or a controller is empty or given
/// twice.
pub(crate) fn sub_cgroups(words: &[String]) -> Result<BTreeMap<String, String>> {
    let mut paths = BTreeMap::new();
    for word in words {
        let (controllers, path) = match word.split_once(':') {
            Some(("", _)) => bail!("--cgroup {word:?}: (empty <controller> prefix)"),
            Some((controllers, path)) => (controllers, path),
            None if words.len() > 1 => bail!("--cgroup {word:?}: (missing <controller>: prefix)"),
            None => ("", word.as_str()),
        };
        for controller in controllers.split(',') {
            if controller.is_empty() && !controllers.is_empty() {
                bail!("--cgroup {word:?}: (empty <controller> prefix)");
            }
            if paths
                .insert(controller.to_owned(), path.to_owned())
                .is_some()
            {
                bail!("--cgroup: controller {controller} specified multiple times");
            }
        }
    }
    Ok(paths)
}

/// Starts the process and lets it execute its program.
fn start(
    options: &Options,
    state: &ContainerState,
    neighbour: &Neighbour,
    plan: &ExecPlan,
) -> Result<Started> {
    let has_terminal = plan.process.terminal.is_some();
    let socket = options.console_socket.as_deref();
    let (console_socket, front) = terminal::sockets(has_terminal, !options.detach, socket)?;
    let mut cgroup =
        Cgroup::open_below(&state.cgroup, &options.sub_cgroups)?.or_leave_out(state.rootless);
    // Ignore an error about the directory, because entering the cgroup reports it.
    let cgroup_fd = cgroup.clone_target().ok().flatten();
    let given = init::exec::FromParent {
        entrance: cgroup.entrance(),
        console_socket,
        root: open_root(neighbour, state)?,
        procfs: Procfs::of_the_mount_namespace().context("open \"/proc\"")?,
    };
    let enters_v1 = given.entrance.is_some();
    let (pending, pipe) = {
        let _inheritance = Inheritance::of(plan)?;
        spawn_beside(
            neighbour,
            cgroup_fd.as_ref().map(AsFd::as_fd),
            pipe::pair()?,
            |pipe, joined, spared| init::exec::prepare(plan, pipe, given, joined, spared),
            |prepared| init::exec::main(plan, prepared),
        )?
    };
    log::trace!(target: STEP, "cloned the middle process");
    let entered = Entered {
        v1: enters_v1 && pipe.has_entered_cgroup()?,
        v2: pending.middle().is_in_cgroup(),
    };
    log::trace!(target: STEP, "waited for the middle process to enter the cgroup");
    let child = start_child(pending, &mut cgroup, entered, options, state, plan)
        .map_err(|err| unless_stopped(why_it_failed(&pipe, err), state))?;
    let mut process = Started::new(child);
    match bring_up(&mut process, &pipe, options, plan, state, front) {
        Ok(()) => Ok(process),
        Err(err) => Err(why_it_failed(&pipe, err)),
    }
}

/// Does the parent's part while the process takes its last steps.
fn bring_up(
    process: &mut Started,
    pipe: &ParentEnd,
    options: &Options,
    plan: &ExecPlan,
    state: &ContainerState,
    front: Option<Front>,
) -> Result<()> {
    serve(process, pipe, plan, state).context(START)?;
    log::trace!(target: STEP, "waited for the process to get ready");
    if plan.parent_sets_limits {
        limits::set(process.child.pid().as_raw(), &plan.process.rlimits)?;
    }
    process.show_terminal(front)?;
    process.announce(
        b"setns",
        options.pidfd_socket.as_deref(),
        options.pid_file.as_deref(),
    )?;
    log::debug!("setns_init: about to exec");
    pipe.send(ToInit::Execute)
}

/// Answers the requests of the process until it is ready.
fn serve(
    process: &Started,
    pipe: &ParentEnd,
    plan: &ExecPlan,
    state: &ContainerState,
) -> Result<()> {
    let outcome = pipe.serve(|asked| match asked {
        ToParent::SeccompListener(number) => {
            let filter = plan.process.seccomp.as_ref();
            let state = state.for_hooks(Status::Running);
            seccomp_agent::give_listener(filter, &process.child, number, state)?;
            Ok(None)
        }
        other => bail!("unexpected message from the process: {other:?}"),
    });
    match outcome? {
        Outcome::Ready => Ok(()),
        Outcome::Failed(why) => Err(anyhow!(why)),
        Outcome::Silent => Err(ended(process.child.wait()?)),
    }
}

/// Lets the process start once the middle process is prepared. Meanwhile sets the
/// attributes that the process inherits: its cgroup and CPUs.
fn start_child(
    pending: Pending,
    cgroup: &mut Cgroup,
    entered: Entered,
    options: &Options,
    state: &ContainerState,
    plan: &ExecPlan,
) -> Result<Child> {
    enter_cgroup(pending.middle(), cgroup, entered, options, state)?;
    let pid = pending.middle().pid().as_raw();
    match plan.affinity() {
        Some(Affinity {
            last: Some(cpus), ..
        }) => {
            affinity::set(pid, cpus)?;
        }
        Some(Affinity {
            initial: Some(_),
            last: None,
        }) => {}
        _ => affinity::reset(pid),
    }
    log::debug!("child process in init()");
    match pending.start()? {
        Ok(child) => Ok(child),
        Err(status) => Err(ended(status)).context(START),
    }
}

/// Moves the process into the cgroups that it is not in yet. If the kernel refuses and
/// no cgroup was requested, moves it into the current cgroup of the container's init.
fn enter_cgroup(
    process: &Child,
    cgroup: &mut Cgroup,
    entered: Entered,
    options: &Options,
    state: &ContainerState,
) -> Result<()> {
    let pid = process.pid();
    let Err(refused) = cgroup.enter(pid, entered) else {
        return Ok(());
    };
    if options.sub_cgroups.is_empty()
        && let Ok(Some(mut inits)) = Cgroup::v2_of(Pid::from_raw(state.pid))
        // Check init after reading below /proc/PID: if it is alive now, the pid was not reused.
        && state.init_is_alive().unwrap_or(false)
        && inits.enter(pid, Entered::default()).is_ok()
    {
        return Ok(());
    }
    Err(refused).with_context(|| format!("error adding pid {pid} to cgroups"))
}

/// Returns the error that the process reported before its end, or else `err`.
fn why_it_failed(pipe: &ParentEnd, err: anyhow::Error) -> anyhow::Error {
    match pipe.last_words() {
        Some(why) => anyhow!(why).context(START),
        None => err,
    }
}

/// Makes the error for a process that ended without a message before it was ready.
fn ended(status: WaitStatus) -> anyhow::Error {
    match status {
        // Only the OOM killer is likely to kill it without a message.
        WaitStatus::Signaled(_, Signal::SIGKILL, _) => {
            anyhow!("it was killed (possibly OOM-killed)")
        }
        status => anyhow!("it ended before it was ready: {status:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(words: &[&str]) -> Result<Vec<(String, String)>> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Ok(sub_cgroups(&words)?.into_iter().collect())
    }

    #[test]
    fn cgroups_below_by_controller() {
        let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
            pairs
                .iter()
                .map(|(name, path)| ((*name).into(), (*path).into()))
                .collect()
        };
        for (words, expected) in [
            (&[][..], &[][..]),
            (&["a/b"], &[("", "a/b")]),
            (&["cpu:a"], &[("cpu", "a")]),
            (
                &["cpu,cpuacct:a:b", "pids:/"],
                &[("cpu", "a:b"), ("cpuacct", "a:b"), ("pids", "/")],
            ),
        ] {
            assert_eq!(read(words).expect("read"), pairs(expected), "{words:?}");
        }
    }

    #[test]
    fn cgroups_that_cannot_be_meant() {
        for (words, why) in [
            (
                &["a", "b"][..],
                "--cgroup \"a\": (missing <controller>: prefix)",
            ),
            (&[":a"], "--cgroup \":a\": (empty <controller> prefix)"),
            (
                &["cpu,:a"],
                "--cgroup \"cpu,:a\": (empty <controller> prefix)",
            ),
            (
                &["cpu:a", "cpu:b"],
                "--cgroup: controller cpu specified multiple times",
            ),
        ] {
            assert_eq!(read(words).expect_err("refused").to_string(), why);
        }
    }
}
