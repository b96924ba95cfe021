//! `teu create`: makes a container from a bundle, up to the moment before its program
//! starts. `run` makes its containers here, too.
//!
//! First decides everything ([`decide`]), then makes the state directory and the
//! cgroup, clones init, and serves init until it is ready ([`make`]). `init/mod.rs` is
//! init's half.

use std::mem::ManuallyDrop;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use teu_cgroups::{Cgroup, Entered, Systemd};
use teu_plan::gpu::DeviceOptions;
use teu_plan::seen::Seen;
use teu_plan::{CgroupManager, Plan, PlanOptions, Service};

use super::resources;
use crate::bundle::Bundle;
use crate::criu::external;
use crate::host::Host;
use crate::init::{self, FromParent, limits};
use crate::known_failures::{Failure, START};
use crate::logger::STEP;
use crate::parent::container::{Container, Held};
use crate::parent::listen_fds::ListenFds;
use crate::parent::started::Started;
use crate::parent::terminal::{self, Front};
use crate::parent::{
    affinity, device_source, hooks, intel_rdt, mount_source, net_devices, notify, oom_score,
    seccomp_agent,
};
use crate::pipe::{self, Outcome, ParentEnd, ToInit, ToParent};
use crate::signals::Signals;
use crate::state::{ContainerState, StateDir, Status, container_id, exec_fifo};

/// The arguments of `create`.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state, absolute.
    pub(crate) root: PathBuf,
    /// The program that makes the cgroup: teu itself or systemd.
    pub(crate) cgroup_manager: CgroupManager,
    /// Whether to tolerate missing permission for cgroups.
    pub(crate) rootless: Rootless,
    /// The name of the container, not checked yet.
    pub(crate) id: String,
    /// The bundle's directory; "." by default.
    pub(crate) bundle: PathBuf,
    /// The socket for the terminal, relative to the bundle.
    pub(crate) console_socket: Option<PathBuf>,
    /// The socket for a pidfd of init, relative to the bundle.
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// The file for the pid of init, absolute.
    pub(crate) pid_file: Option<PathBuf>,
    /// Whether to move the mount and chroot instead of calling pivot_root(2).
    pub(crate) no_pivot: bool,
    /// Whether to stay in the caller's session keyring.
    pub(crate) no_new_keyring: bool,
    /// The number of descriptors that the container gets in addition to the standard
    /// streams and `$LISTEN_FDS`.
    pub(crate) preserve_fds: u32,
    /// Devices that are requested by name.
    pub(crate) devices: DeviceOptions,
}

/// The value of `--rootless`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rootless {
    /// Decides by the user and the user namespace.
    Auto,
    Yes,
    No,
}

/// Makes a container and leaves its init waiting for `teu start`.
///
/// # Errors
/// The step that failed. Nothing of the container is left.
#[inline(never)]
pub(crate) fn create(options: &Options) -> Result<()> {
    let (mut container, pipe) = make(options, Purpose::Create)?;
    pipe.send(ToInit::WaitForStart)?;
    container.keep();
    log::debug!(target: STEP, "created {:?}, which waits for its start", options.id);
    Ok(())
}

/// The purpose of a new container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Another command starts the container.
    Create,
    /// The container is started at once and left alone.
    RunDetached,
    /// The container is started at once and waited for.
    RunForeground,
}

/// Makes a container, up to the moment before its program starts. Returns the container
/// and the parent's end of the pipe to its init.
///
/// # Errors
/// The step that failed. Nothing of the container is left.
pub(crate) fn make(options: &Options, purpose: Purpose) -> Result<(Container, ParentEnd)> {
    let listen_fds = ListenFds::take(options.preserve_fds)?;

    container_id::check(&options.id)?;
    StateDir::make_root(&options.root)?;

    // Never free these three, because the clone shares their pages, and freeing them
    // would copy each page.
    let bundle = ManuallyDrop::new(Bundle::open(&options.bundle)?);
    let (seen, systemd, plan) = decide(&bundle, &options.for_plan(purpose, listen_fds))?;
    let (seen, plan) = (ManuallyDrop::new(seen), ManuallyDrop::new(plan));

    log::debug!(
        target: STEP,
        "planned {:?} on this machine: {} mounts",
        options.bundle,
        plan.rootfs.mounts.len()
    );

    // From here, each step leaves something behind, and each owner undoes its own step
    // when dropped, until `keep`.
    let held = hold(options, &plan, &seen, systemd)?;
    if plan.notifies {
        notify::make_directory(held.state_dir.path())?;
    }
    let (given, front) = for_init(options, &plan, purpose, &held)?;
    let cgroup_fd = held.cgroup.clone_target()?;
    let enters_v1 = given.entrance.is_some();
    let (child, pipe) = teu_namespaces::spawn(
        &plan.namespaces,
        cgroup_fd.as_ref().map(AsFd::as_fd),
        pipe::pair()?,
        |pipe, joined| {
            held.state_dir.leave_lock_to_parent();
            init::main(&plan, pipe, given, joined)
        },
    )?;

    // The words in parentheses are runc's, and its users look for them.
    log::debug!(
        target: STEP,
        "cloned init as process {} (nsexec container setup)",
        child.pid()
    );

    let mut creation = Creation {
        init: Started::new(child),
        held,
        pipe,
        plan: &plan,
    };
    let brought_up = creation.bring_up(options, enters_v1, front);
    let Creation {
        init, held, pipe, ..
    } = creation;
    let container = Container { init, held };
    match brought_up {
        Ok(()) => Ok((container, pipe)),
        Err(err) => {
            let err = match pipe.last_words() {
                Some(why) => init_failed(&why).context(START),
                None => err,
            };
            container.undo();
            Err(err)
        }
    }
}

/// Makes the state directory and the cgroup of a container. Blocks signals first, so that
/// none ends this process from here on. Not earlier: the reading and deciding before this
/// function may wait, and a signal must be able to end this process during that wait.
///
/// # Errors
/// One of them cannot be made. Nothing of the container is left then.
pub(super) fn hold(
    options: &Options,
    plan: &Plan,
    seen: &Seen,
    systemd: Option<Systemd>,
) -> Result<Held> {
    let signals = Signals::block()?;
    let state_dir = StateDir::reserve(&options.root, &options.id)?;
    let mut state = ContainerState::planned(plan, &seen.cgroups);
    if plan.process.terminal.is_none() {
        state.external.pipes = external::pipes_of_this_process();
    }
    // Save the state first, so that `delete --force` finds the remains of a killed
    // creation.
    state_dir.begin(&state)?;
    log::debug!(target: STEP, "reserved {:?} for its state", state_dir.path());
    let cgroup = Cgroup::prepare(&plan.cgroup, &seen.cgroups, systemd).map_err(resources::named)?;
    log::debug!(target: STEP, "made its cgroup");
    Ok(Held {
        cgroup,
        state_dir,
        state,
        signals,
    })
}

/// Looks at the machine once, and decides everything before anything is changed. Returns
/// the facts, the connection to the systemd manager if one was asked, and the plan.
///
/// # Errors
/// The specification is invalid, or asks for something that is impossible on this
/// machine.
pub(super) fn decide(
    bundle: &Bundle,
    options: &PlanOptions,
) -> Result<(Seen, Option<Systemd>, Box<Plan>)> {
    let (seen, systemd) = Host::new().look(&bundle.spec, &bundle.dir, options)?;
    let plan = Plan::new(&bundle.spec, &bundle.dir, options, &seen)?;
    Ok((seen, systemd, plan))
}

fn init_failed(why: &str) -> anyhow::Error {
    anyhow!("error during container init: {why}")
}

/// Returns what init inherits, and the terminal that shows init's terminal in the
/// foreground.
fn for_init<'a>(
    options: &Options,
    plan: &Plan,
    purpose: Purpose,
    held: &'a Held,
) -> Result<(FromParent<'a>, Option<Front>)> {
    let exec_fifo = match purpose {
        Purpose::Create => Some(exec_fifo::make(held.state_dir.path())?),
        Purpose::RunDetached | Purpose::RunForeground => None,
    };
    let foreground = purpose == Purpose::RunForeground;
    let has_terminal = plan.process.terminal.is_some();
    let (console_socket, front) =
        terminal::sockets(has_terminal, foreground, options.console_socket.as_deref())?;
    Ok((
        FromParent {
            entrance: held.cgroup.entrance(),
            console_socket,
            exec_fifo,
            signals: &held.signals,
        },
        front,
    ))
}

/// Returns the variables and the mount of a container that is a service of systemd.
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
    /// Returns everything, besides the bundle and the host, on which the plan depends.
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

/// A creation in progress, while init works in its new namespaces.
struct Creation<'a> {
    init: Started,
    held: Held,
    pipe: ParentEnd,
    plan: &'a Plan,
}

impl Creation<'_> {
    /// Does the parent's part while init works.
    fn bring_up(&mut self, options: &Options, enters_v1: bool, front: Option<Front>) -> Result<()> {
        let pid = self.init.child.pid();
        let entered = Entered {
            v1: enters_v1 && self.pipe.has_entered_cgroup()?,
            v2: self.init.child.is_in_cgroup(),
        };
        log::trace!(target: STEP, "waited for init to enter its cgroup");
        // Meanwhile init makes its mounts.
        let entered = self.held.cgroup.enter(pid, entered);
        entered.map_err(resources::named)?;
        self.pipe.send(ToInit::EnteredCgroup)?;
        self.note_init()?;
        // Reset the affinity after the move, because the kernel allows only CPUs of the
        // cgroup.
        affinity::reset(pid.as_raw());
        net_devices::move_into(&self.plan.net_devices, pid.as_raw())?;
        if let Some(rdt) = &self.plan.intel_rdt {
            intel_rdt::enter(rdt, pid.as_raw(), &mut self.held.state.resctrl)?;
        }
        let ignored = self.held.cgroup.apply(&self.plan.cgroup.limits);
        resources::warn_of(&ignored.map_err(resources::named)?);
        log::debug!(target: STEP, "init is in its cgroup, which has its limits");

        self.serve_init().context(START)?;
        log::debug!(target: STEP, "init is ready (init: closing the pipe to signal completion)");

        if let Some(adjustment) = self.plan.process.oom_score_adj {
            oom_score::set(pid.as_raw(), adjustment)?;
        }
        if self.plan.parent_sets_limits {
            limits::set(pid.as_raw(), &self.plan.process.rlimits)?;
        }
        self.init.show_terminal(front)?;
        self.held.state_dir.save(&self.held.state)?;
        log::debug!(target: STEP, "saved the state");
        self.init.announce(
            b"standard",
            options.pidfd_socket.as_deref(),
            options.pid_file.as_deref(),
        )
    }

    /// Saves in the state which process is init, and its cgroup.
    fn note_init(&mut self) -> Result<()> {
        let pid = self.init.child.pid();
        self.held.state.note_init(pid.as_raw())?;
        self.held.state.cgroup = self.held.cgroup.saved_paths();
        Ok(())
    }

    /// Answers init's requests until init is ready. Then sets the device rules: after
    /// init has made its devices and mounts, because a mount may be of a device that
    /// the rules forbid, and before any other program runs in the container.
    fn serve_init(&self) -> Result<()> {
        match self.pipe.serve(|asked| self.answer(asked))? {
            Outcome::Ready => {
                log::trace!(target: STEP, "waited for init to get ready");
                if let Some(devices) = &self.plan.rootfs.devices {
                    device_source::remove(devices, self.held.state_dir.path())?;
                }
                self.restrict_devices()
            }
            Outcome::Failed(why) => Err(init_failed(&why)),
            Outcome::Silent => Err(self.why_init_ended()),
        }
    }

    fn answer(&self, asked: ToParent) -> Result<Option<ToInit>> {
        Ok(match asked {
            ToParent::OpenMountSource(index) => {
                let source = mount_source::open(&self.plan.rootfs, index, &self.init.child);
                Some(ToInit::answer(source.map(ToInit::Tree)))
            }
            ToParent::MakeDevice(index) => {
                let devices = self
                    .plan
                    .rootfs
                    .devices
                    .as_ref()
                    .context("the plan has no /dev");
                let label = self.plan.rootfs.mount_label.as_deref();
                let node = devices.and_then(|devices| {
                    device_source::make(devices, label, index, self.held.state_dir.path())
                });
                Some(ToInit::answer(node))
            }
            ToParent::RunHooks => {
                self.restrict_devices()?;
                let state = self.held.state.for_hooks(Status::Creating);
                hooks::run_before_root(&self.plan.hooks, &state)?;
                log::debug!(target: STEP, "ran the hooks before the container's root");
                Some(ToInit::HooksDone)
            }
            ToParent::SeccompListener(number) => {
                let state = self.held.state.for_hooks(Status::Creating);
                let filter = self.plan.process.seccomp.as_ref();
                seccomp_agent::give_listener(filter, &self.init.child, number, state)?;
                None
            }
            other => bail!("unexpected message from init: {other:?}"),
        })
    }

    fn restrict_devices(&self) -> Result<()> {
        let limits = &self.plan.cgroup.limits;
        let ignored = self.held.cgroup.restrict_devices(limits);
        resources::warn_of(&ignored.map_err(resources::named)?);
        Ok(())
    }

    /// Init died without a message, most often by the OOM killer.
    fn why_init_ended(&self) -> anyhow::Error {
        if self.held.cgroup.oom_kills().is_ok_and(|kills| kills > 0) {
            return Failure::InitOutOfMemory(self.held.state.limits.memory.limit).into();
        }
        match self.init.child.wait() {
            Ok(status) => anyhow!("container init ended before it was ready: {status:?}"),
            Err(err) => err.into(),
        }
    }
}
