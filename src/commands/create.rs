//! `teu create`: make a container from a bundle, up to the moment before its
//! program starts. `run` makes its containers here too.
//!
//! This file is the parent's half of the story; `init/mod.rs` is the other.

use std::mem::ManuallyDrop;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use teu_cgroups::{Cgroup, Entered};

use crate::bundle::Bundle;
use crate::criu::external;
use crate::errno;
use crate::failure::{Failure, START};
use crate::host::Host;
use crate::init::{self, FromParent, limits};
use crate::logger::STEP;
use crate::parent::listen_fds::ListenFds;
use crate::parent::started::Started;
use crate::parent::terminal::{self, Front};
use crate::parent::{
    affinity, device_source, hooks, intel_rdt, mount_source, net_devices, notify, oom_score,
    removal, seccomp_agent,
};
use crate::pipe::{self, Outcome, ParentEnd, ToInit, ToParent};
use crate::plan::gpu::DeviceWishes;
use crate::plan::{CgroupManager, Plan, PlanOptions, Service};
use crate::procfs::stat::ProcessStat;
use crate::signals::Signals;
use crate::state::{ContainerState, StateDir, Status, container_id, exec_fifo};

/// What `create` needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state, absolute.
    pub(crate) root: PathBuf,
    /// Who makes the cgroup.
    pub(crate) cgroup_manager: CgroupManager,
    /// Whether missing permission for cgroups is no error.
    pub(crate) rootless: Rootless,
    /// The name of the container, not checked yet.
    pub(crate) id: String,
    /// The bundle's directory, "." if not given.
    pub(crate) bundle: PathBuf,
    /// Where the terminal goes, from the bundle on.
    pub(crate) console_socket: Option<PathBuf>,
    /// Where a pidfd of init goes, from the bundle on.
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
    /// Devices that are asked for by name.
    pub(crate) devices: DeviceWishes,
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
#[inline(never)]
pub(crate) fn create(options: &Options) -> Result<()> {
    let mut container = make(options, Purpose::Create)?;
    container.pipe.send(ToInit::WaitForStart)?;
    container.keep();
    log::debug!(target: STEP, "created {:?}, which waits for its start", options.id);
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
    pub(crate) init: Started,
    pub(crate) cgroup: Cgroup,
    pub(crate) state_dir: StateDir,
    pub(crate) state: Box<ContainerState>,
    pub(crate) pipe: ParentEnd,
    /// Those that would have ended this process meanwhile.
    pub(crate) signals: Signals,
}

/// Makes a container, up to the moment before its program starts.
///
/// # Errors
/// Whatever stood in the way; nothing of the container is left then.
pub(crate) fn make(options: &Options, purpose: Purpose) -> Result<Container> {
    let listen_fds = ListenFds::take(options.preserve_fds)?;

    container_id::check(&options.id)?;
    StateDir::make_root(&options.root)?;

    // Look once, and decide everything before the machine is touched.
    // All three are left to the end of the process: after the clone, to free them
    // would be to copy every page they are in.
    let bundle = ManuallyDrop::new(Bundle::open(&options.bundle)?);
    let planned = options.for_plan(purpose, listen_fds);
    let seen = Host::new().look(&bundle.spec, &bundle.dir, &planned)?;
    let seen = ManuallyDrop::new(seen);
    let plan = Plan::new(&bundle.spec, &bundle.dir, &planned, &seen)?;
    let plan = ManuallyDrop::new(plan);

    log::debug!(
        target: STEP,
        "planned {:?} on this machine: {} mounts",
        options.bundle,
        plan.rootfs.mounts.len()
    );

    // From here each step leaves something behind; each owner undoes its own
    // step when dropped, and `keep` ends that. A signal must not end this process
    // in between; before, it must, whatever is waited for there.
    let signals = Signals::block()?;
    let state_dir = StateDir::reserve(&options.root, &options.id)?;
    let mut state = ContainerState::planned(&plan, &seen.cgroups);
    if plan.process.terminal.is_none() {
        state.external.pipes = external::pipes_of_this_process();
    }
    // First, so that `delete --force` finds what a killed creation leaves.
    state_dir.begin(&state)?;
    log::debug!(target: STEP, "reserved {:?} for its state", state_dir.path());
    let cgroup = Cgroup::prepare(&plan.cgroup, &seen.cgroups)?;
    if plan.notifies {
        notify::make_directory(state_dir.path())?;
    }
    log::debug!(target: STEP, "made its cgroup");
    let (given, front) = for_init(options, &plan, purpose, &state_dir, &cgroup, &signals)?;
    let cgroup_fd = cgroup.clone_target()?;
    let enters_v1 = given.entrance.is_some();
    let (child, pipe) = teu_namespaces::spawn(
        &plan.namespaces,
        cgroup_fd.as_ref().map(AsFd::as_fd),
        pipe::pair()?,
        |pipe, joined| {
            state_dir.leave_lock_to_parent();
            init::main(&plan, pipe, given, joined)
        },
    )?;

    // What stands in brackets are the words runc's users look for.
    log::debug!(
        target: STEP,
        "cloned init as process {} (nsexec container setup)",
        child.pid()
    );

    let mut container = Container {
        init: Started::new(child),
        cgroup,
        state_dir,
        state,
        pipe,
        signals,
    };
    match container.bring_up(&plan, options, enters_v1, front) {
        Ok(()) => Ok(container),
        Err(err) => {
            let err = match container.pipe.last_words() {
                Some(why) => init_failed(&why).context(START),
                None => err,
            };
            container.undo();
            Err(err)
        }
    }
}

fn init_failed(why: &str) -> anyhow::Error {
    anyhow!("error during container init: {why}")
}

/// What init inherits, and where its terminal is shown in the foreground.
fn for_init<'a>(
    options: &Options,
    plan: &Plan,
    purpose: Purpose,
    state_dir: &StateDir,
    cgroup: &Cgroup,
    signals: &'a Signals,
) -> Result<(FromParent<'a>, Option<Front>)> {
    let exec_fifo = match purpose {
        Purpose::Create => Some(exec_fifo::make(state_dir.path())?),
        Purpose::RunDetached | Purpose::RunForeground => None,
    };
    let foreground = purpose == Purpose::RunForeground;
    let has_terminal = plan.process.terminal.is_some();
    let (console_socket, front) =
        terminal::sockets(has_terminal, foreground, options.console_socket.as_deref())?;
    Ok((
        FromParent {
            entrance: cgroup.entrance(),
            console_socket,
            exec_fifo,
            signals,
        },
        front,
    ))
}

/// What the container inherits of being a service of systemd's.
fn service(state_dir: &Path, listen_fds: ListenFds) -> Service {
    let mut variables = listen_fds.variables();
    let notifies = notify::is_wanted();
    if notifies {
        variables.push(("NOTIFY_SOCKET", notify::CONTAINER_SOCKET.into()));
    }
    let mount = notifies.then(|| {
        (
            state_dir.join(notify::DIRECTORY),
            PathBuf::from(notify::CONTAINER_DIRECTORY),
        )
    });
    Service { variables, mount }
}

impl Options {
    /// What the plan of a container made for `purpose` depends on.
    pub(super) fn for_plan(&self, purpose: Purpose, listen_fds: ListenFds) -> PlanOptions {
        PlanOptions {
            id: self.id.clone(),
            cgroup_manager: self.cgroup_manager,
            rootless: match self.rootless {
                Rootless::Auto => None,
                Rootless::Yes => Some(true),
                Rootless::No => Some(false),
            },
            no_pivot: self.no_pivot,
            no_new_keyring: self.no_new_keyring,
            preserved_fds: listen_fds.preserved,
            service: service(&self.root.join(&self.id), listen_fds),
            devices: self.devices.clone(),
            foreground: purpose == Purpose::RunForeground,
            may_lack_process: purpose == Purpose::Create,
        }
    }
}

impl Container {
    /// The parent's part while init works.
    fn bring_up(
        &mut self,
        plan: &Plan,
        options: &Options,
        enters_v1: bool,
        front: Option<Front>,
    ) -> Result<()> {
        let pid = self.init.child.pid();
        let entered = Entered {
            v1: enters_v1 && self.pipe.has_entered_cgroup()?,
            v2: self.init.child.is_in_cgroup(),
        };
        // Init is making its mounts meanwhile.
        self.cgroup.enter(pid, entered)?;
        self.pipe.send(ToInit::EnteredCgroup)?;
        self.note_init()?;
        // Only now: the kernel grants no more than the cgroup has.
        affinity::reset(pid.as_raw());
        net_devices::move_into(&plan.net_devices, pid.as_raw())?;
        if let Some(rdt) = &plan.intel_rdt {
            intel_rdt::enter(rdt, pid.as_raw(), &mut self.state.resctrl)?;
        }
        for ignored in self.cgroup.apply(&plan.cgroup.limits)? {
            log::warn!("{ignored}");
        }
        log::debug!(target: STEP, "init is in its cgroup, which has its limits");

        self.serve_init(plan).context(START)?;
        log::debug!(target: STEP, "init is ready (init: closing the pipe to signal completion)");

        if let Some(adjustment) = plan.process.oom_score_adj {
            oom_score::set(pid.as_raw(), adjustment)?;
        }
        if plan.parent_sets_limits {
            limits::set(pid.as_raw(), &plan.process.rlimits)?;
        }
        self.init.show_terminal(front)?;
        self.state_dir.save(&self.state)?;
        log::debug!(target: STEP, "saved the state");
        self.init.announce(
            b"standard",
            options.pidfd_socket.as_deref(),
            options.pid_file.as_deref(),
        )
    }

    /// Notes who init is, for the state.
    fn note_init(&mut self) -> Result<()> {
        self.state.pid = self.init.child.pid().as_raw();
        let stat = ProcessStat::read(self.state.pid)?.context("container init is gone")?;
        self.state.start_time = stat.start_time;
        self.state.cgroup = self.cgroup.saved_paths();
        Ok(())
    }

    /// Answers what init asks, until it is ready. Device rules come when it has
    /// made its devices and mounts, which may be of a device the container
    /// cannot use, and before anything else runs in the container.
    fn serve_init(&self, plan: &Plan) -> Result<()> {
        match self.pipe.serve(|asked| self.answer(plan, asked))? {
            Outcome::Ready => {
                if let Some(devices) = &plan.rootfs.devices {
                    device_source::remove(devices, self.state_dir.path())?;
                }
                self.restrict_devices(plan)
            }
            Outcome::Failed(why) => Err(init_failed(&why)),
            Outcome::Silent => Err(self.why_init_ended()),
        }
    }

    fn answer(&self, plan: &Plan, asked: ToParent) -> Result<Option<ToInit>> {
        Ok(match asked {
            ToParent::OpenMountSource(index) => {
                let source = mount_source::open(&plan.rootfs, index, &self.init.child);
                Some(ToInit::answer(source.map(ToInit::Tree)))
            }
            ToParent::MakeDevice(index) => {
                let devices = plan.rootfs.devices.as_ref().context("the plan has no /dev");
                let label = plan.rootfs.mount_label.as_deref();
                let node = devices.and_then(|devices| {
                    device_source::make(devices, label, index, self.state_dir.path())
                });
                Some(ToInit::answer(node))
            }
            ToParent::RunHooks => {
                self.restrict_devices(plan)?;
                let state = self.state.for_hooks(Status::Creating);
                hooks::run_before_root(&plan.hooks, &state)?;
                log::debug!(target: STEP, "ran the hooks before the container's root");
                Some(ToInit::HooksDone)
            }
            ToParent::SeccompListener(number) => {
                let state = self.state.for_hooks(Status::Creating);
                let filter = plan.process.seccomp.as_ref();
                seccomp_agent::give_listener(filter, &self.init.child, number, state)?;
                None
            }
            other => bail!("message from init: {other:?}, again"),
        })
    }

    fn restrict_devices(&self, plan: &Plan) -> Result<()> {
        for ignored in self.cgroup.restrict_devices(&plan.cgroup.limits)? {
            log::warn!("{ignored}");
        }
        Ok(())
    }

    /// Init died without a message, most often by the OOM killer.
    fn why_init_ended(&self) -> anyhow::Error {
        if self.cgroup.oom_kills().is_ok_and(|kills| kills > 0) {
            return Failure::InitOutOfMemory(self.state.limits.memory.limit).into();
        }
        match self.init.child.wait() {
            Ok(status) => anyhow!("container init ended before it was ready: {status:?}"),
            Err(err) => err.into(),
        }
    }

    /// Kills it and removes everything held for it, as deleting it would.
    pub(crate) fn undo(self) {
        let state = self.state.clone();
        drop(self);
        if state.mounts_on_host
            && let Err(err) = removal::unmount_below(&state.rootfs)
        {
            log::warn!("{}", errno::chain(&err));
        }
        if let Err(err) = intel_rdt::remove(&state.resctrl) {
            log::warn!("{}", errno::chain(&err));
        }
        hooks::run_poststop(&state.poststop, &state.for_hooks(Status::Stopped));
    }

    /// Lets other commands work on it, which may delete it: nothing is undone by
    /// its name any more.
    pub(crate) fn share(&mut self) {
        self.cgroup.keep();
        self.state_dir.keep();
    }

    /// Kills and deletes a shared one, if it is still there.
    pub(crate) fn end(self) {
        removal::end_shared(self.init.child, self.state_dir, &self.state);
    }

    /// It outlives this process.
    pub(crate) fn keep(&mut self) {
        self.init.keep();
        self.share();
    }
}
