//! `teu create`: make a container from a bundle, up to the moment before its
//! program starts. `run` makes its containers here too.
//!
//! This file is the host's half of the story; `init/mod.rs` is the other.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use teu_cgroups::Cgroup;
use teu_namespaces::Child;

use crate::bundle::Bundle;
use crate::failure::Failure;
use crate::foreground::Signals;
use crate::hooks::{self, Moment};
use crate::host::Host;
use crate::init::{self, Given, StartGate};
use crate::notify::{ListenFds, NotifySocket};
use crate::pipe::{self, HostEnd, ToHost, ToInit};
use crate::plan::Plan;
use crate::state::{ContainerState, ProcessStat, StateDir, write_pid_file};
use crate::{exeseal, mount_source, net_devices, process_limits, send_fd};

/// What `create` needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state, absolute.
    pub(crate) root: PathBuf,
    /// Whether systemd makes the cgroup.
    pub(crate) systemd_cgroup: bool,
    /// Whether missing permission for cgroups is no error.
    pub(crate) rootless: Rootless,
    /// The name of the container, not checked yet.
    pub(crate) id: String,
    /// The bundle's directory, "." if not given.
    pub(crate) bundle: PathBuf,
    /// Where the terminal goes.
    pub(crate) console_socket: Option<PathBuf>,
    /// Where a pidfd of init goes.
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// Where the process id of init is written, absolute.
    pub(crate) pid_file: Option<PathBuf>,
    /// Whether to move the mount and chroot instead of pivot_root.
    pub(crate) no_pivot: bool,
    /// Whether to stay in the caller's session keyring.
    pub(crate) no_new_keyring: bool,
    /// How many descriptors beyond standard input, output, error and
    /// `$LISTEN_FDS` the container gets.
    pub(crate) preserve_fds: u32,
}

/// The value of `--rootless`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rootless {
    /// Decide by the user and the user namespace.
    Auto,
    Yes,
    No,
}

/// Makes a container and leaves its init waiting for `teu start`.
///
/// # Errors
/// Whatever stood in the way; nothing of the container is left then.
pub(crate) fn create(options: &Options) -> Result<()> {
    make(options, Purpose::Create)?.keep();
    Ok(())
}

/// What a container is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To be started by another command.
    Create,
    /// To be started at once and left alone.
    RunDetached,
    /// To be started at once and waited for.
    RunForeground,
}

/// A container that has been made. Dropped, it is undone, until
/// [`Container::keep`].
#[derive(Debug)]
pub(crate) struct Container {
    // Dropped in this order: the process, then what it was in.
    pub(crate) child: Child,
    pub(crate) cgroup: Cgroup,
    pub(crate) state_dir: StateDir,
    pub(crate) state: ContainerState,
    pub(crate) pipe: HostEnd,
    /// The other side of its terminal, in the foreground.
    pub(crate) terminal: Option<OwnedFd>,
}

/// Makes a container, up to the moment before its program starts.
///
/// # Errors
/// Whatever stood in the way; nothing of the container is left then.
pub(crate) fn make(options: &Options, purpose: Purpose) -> Result<Container> {
    StateDir::make_root(&options.root)?;
    exeseal::ensure_sealed(&options.root)?;

    // Decide everything that can be decided without touching the machine.
    let host = Host::new();
    let bundle = Bundle::open(&options.bundle)?;
    let plan = Plan::new(&bundle, &host, options, purpose)?;

    // From here each step leaves something behind; each owner undoes its own
    // step when dropped, and `keep` ends that.
    let state_dir = StateDir::reserve(&options.root, &options.id)?;
    let cgroup = Cgroup::prepare(&plan.cgroup)?;
    let state = plan.state(&cgroup);
    // What a killed creation leaves can be found by `delete --force`.
    state_dir.save(&state)?;
    let (console, terminal) = console(options, &plan, purpose)?;
    let given = Given::open(&plan, &state_dir, console)?;
    let (pipe, init_end) = pipe::pair()?;
    let child = teu_namespaces::spawn(&plan.namespaces, cgroup.clone_target(), |joined| {
        state_dir.leave_lock_to_host();
        init::main(&plan, init_end, given, joined)
    })?;

    let mut container = Container { child, cgroup, state_dir, state, pipe, terminal: None };
    match container.bring_up(&plan, options, terminal) {
        Ok(()) => Ok(container),
        Err(err) => {
            let state = container.state.clone();
            drop(container);
            hooks::run_poststop(&state);
            Err(err)
        }
    }
}

impl Container {
    /// The host's part while init works.
    fn bring_up(
        &mut self,
        plan: &Plan,
        options: &Options,
        terminal: Option<OwnedFd>,
    ) -> Result<()> {
        // Init is making its mounts meanwhile.
        self.cgroup.enter(self.child.pid())?;
        self.pipe.send(ToInit::EnteredCgroup)?;
        self.cgroup.apply(&plan.cgroup.limits)?;
        net_devices::move_into(&plan.net_devices, self.child.pid())?;
        intel_rdt::enter(&plan.intel_rdt, self.child.pid(), &mut self.state)?;

        self.serve_init(plan).context("unable to start container process")?;

        process::set_limits(&plan.process, self.child.pid())?;
        if let Some(socket) = terminal {
            self.terminal = Some(console::receive(&socket).context("receive the terminal")?);
        }
        self.state_dir.save(&self.state)?;
        if let Some(socket) = &options.pidfd_socket {
            send_pidfd(socket, self.child.pidfd())?;
        }
        if let Some(file) = &options.pid_file {
            write_pid_file(file, self.child.pid())?;
        }
        Ok(())
    }

    /// Answers what init asks, until it is ready.
    fn serve_init(&mut self, plan: &Plan) -> Result<()> {
        loop {
            match self.pipe.receive()? {
                Some(ToHost::OpenMountSource(index)) => {
                    let answer = match mount_source::open(&plan.rootfs, index, &self.child) {
                        Ok(mount) => ToInit::MountSource(mount),
                        Err(err) => ToInit::NoMountSource(errno::chain(&err)),
                    };
                    self.pipe.send(answer)?;
                }
                Some(ToHost::RunHooks) => {
                    hooks::run(&plan.hooks.prestart, &self.state)?;
                    hooks::run(&plan.hooks.create_runtime, &self.state)?;
                    self.pipe.send(ToInit::HooksDone)?;
                }
                Some(ToHost::Ready) => return Ok(()),
                Some(ToHost::Failed(why)) => bail!("error during container init: {why}"),
                None => return Err(self.why_init_ended()),
            }
        }
    }

    /// Init said nothing: killed, then, and most often for want of memory.
    fn why_init_ended(&self) -> anyhow::Error {
        if self.cgroup.oom_kills().is_ok_and(|kills| kills > 0) {
            return Failure::InitOutOfMemory.into();
        }
        match self.child.wait() {
            Ok(status) => anyhow!("container init ended before it was ready: {status:?}"),
            Err(err) => err.into(),
        }
    }

    /// It outlives this process.
    pub(crate) fn keep(&mut self) {
        self.child.keep();
        self.cgroup.keep();
        self.state_dir.keep();
    }
}
