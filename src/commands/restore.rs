//! `teu restore`: bring a container back that was stored by a checkpoint, by
//! CRIU. It is made from a bundle like a new one, but that its processes, and
//! the mounts and namespaces they are in, come out of the images.

use std::fs;
use std::io::{PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use teu_cgroups::{Cgroup, Entered};
use teu_namespaces::{Child, Kind as NamespaceKind, Namespace, NamespacePlan};

use super::checkpoint;
use super::create::{self, Purpose};
use super::resources;
use crate::bundle::Bundle;
use crate::criu::configuration;
use crate::criu::external::{self, Namespaces};
use crate::criu::images::Images;
use crate::criu::process::{self, Criu, Start};
use crate::criu::rpc::{self, Kind, Notification, Request};
use crate::parent::container::{self, Container};
use crate::parent::listen_fds::ListenFds;
use crate::parent::notify::{self, NotifySocket};
use crate::parent::started::Started;
use crate::parent::terminal::{self, Front};
use crate::parent::{foreground, hooks, intel_rdt};
use crate::plan::external::external_mounts;
use crate::plan::mounts::MountKind;
use crate::plan::{Plan, PlanOptions};
use crate::procfs::stat::ProcessStat;
use crate::signals::Signals;
use crate::state::{ContainerState, StateDir, Status, container_id};
use crate::{errno, fd_socket, init};

/// The directory below the state directory where the root filesystem is mounted
/// for CRIU.
const ROOT: &str = "criu-root";

/// The first CRIU that can restore with another LSM profile.
const CHANGES_PROFILES: u32 = 31_600;

/// What `restore` needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// What it has in common with `create`.
    pub(crate) create: create::Options,
    /// Where the images are.
    pub(crate) images: PathBuf,
    /// Where the log goes, if not there.
    pub(crate) work: Option<PathBuf>,
    /// What the command line has for CRIU.
    pub(crate) criu: rpc::Options,
    /// Whether to return once the container runs.
    pub(crate) detach: bool,
    /// Whether orphans of the container go to the machine's init.
    pub(crate) no_subreaper: bool,
}

/// Restores a container and returns the exit status to end with: that of its
/// init, 128 and the signal's number if a signal ended it, 0 if detached.
///
/// # Errors
/// It could not be restored; nothing of it is left then.
#[inline(never)]
pub(crate) fn restore(options: &Options) -> Result<u8> {
    checkpoint::warn_if_rootless("restore");
    if options.detach {
        let (mut container, _) = make(options)?;
        container.keep();
        return Ok(0);
    }
    if !options.no_subreaper {
        foreground::become_subreaper();
    }
    let (container, notify) = make(options)?;
    container.wait_in_front(notify.as_ref(), false)
}

/// What is held for a container besides its processes.
#[derive(Debug)]
struct Parts {
    cgroup: Cgroup,
    state_dir: StateDir,
    state: Box<ContainerState>,
    /// Those that would have ended this process meanwhile.
    signals: Signals,
}

fn make(options: &Options) -> Result<(Container, Option<NotifySocket>)> {
    let create = &options.create;
    container_id::check(&create.id)?;
    StateDir::make_root(&create.root)?;

    // Everything that can be decided without touching the machine.
    let program = process::find()?;
    let mut images = Images::open(&options.images, options.work.as_deref())?;
    let streams = images.read_streams()?;
    let bundle = Bundle::open(&create.bundle)?;
    let planned = PlanOptions {
        may_lack_process: false,
        ..create.for_plan(Purpose::Create, ListenFds::default())
    };
    let (seen, plan) = create::decide(&bundle, &planned)?;
    refuse_what_criu_cannot(&plan)?;
    let namespaces = Namespaces::open(&plan.namespaces)?;
    let has_terminal = plan.process.terminal.is_some();
    let (console, front) = terminal::sockets(
        has_terminal,
        !options.detach,
        create.console_socket.as_deref(),
    )?;

    // From here each step leaves something behind, which its owner undoes. A
    // signal must not come between.
    let signals = Signals::block()?;
    let state_dir = StateDir::reserve(&create.root, &create.id)?;
    let mut state = ContainerState::planned(&plan, &seen.cgroups);
    state_dir.begin(&state)?;
    if !has_terminal {
        state.external.pipes = external::pipes_of_this_process();
    }
    let cgroup = Cgroup::prepare(&plan.cgroup, &seen.cgroups).map_err(resources::named)?;
    let mut restoration = Restoration {
        options,
        plan: &plan,
        console,
        parts: Parts {
            cgroup,
            state_dir,
            state,
            signals,
        },
    };
    let restored = restoration
        .run(program, &mut images, &streams, &namespaces)
        .and_then(|notify| restoration.bring_up(front).map(|up| (up, notify)));
    match restored {
        Ok((init, notify)) => Ok((restoration.parts.with(init), notify)),
        Err(err) => {
            restoration.parts.undo();
            Err(err)
        }
    }
}

/// What CRIU would restore as something else than it was.
fn refuse_what_criu_cannot(plan: &Plan) -> Result<()> {
    if !plan.namespaces.is_private(NamespaceKind::Mount) {
        bail!("a container without a mount namespace of its own cannot be restored");
    }
    for mount in &plan.rootfs.mounts {
        if matches!(&mount.kind, MountKind::Bind(bind) if bind.id_map.is_some()) {
            bail!(
                "mount {:?} is idmapped: CRIU cannot restore such mounts",
                mount.destination
            );
        }
    }
    Ok(())
}

/// A restore under way.
struct Restoration<'a> {
    options: &'a Options,
    plan: &'a Plan,
    /// Where the container's terminal goes.
    console: Option<OwnedFd>,
    parts: Parts,
}

impl Restoration<'_> {
    /// Lets CRIU do it, in a mount namespace where the root filesystem is as it
    /// wants it, and in the container's cgroup. The state then knows init.
    fn run(
        &mut self,
        program: std::ffi::CString,
        images: &mut Images,
        streams: &[String],
        namespaces: &Namespaces,
    ) -> Result<Option<NotifySocket>> {
        let notify = self.make_notify_socket()?;
        let root = self.make_root()?;
        let mut its_namespaces = NamespacePlan::default();
        its_namespaces.set(NamespaceKind::Mount, Namespace::New);
        let start = Start {
            our_streams: self.console.is_none(),
            descriptors: namespaces.descriptors(),
            namespaces: its_namespaces,
        };
        let (criu, directories) = Criu::start(program, &start, || {
            self.parts.state_dir.leave_lock_to_parent();
            init::restore::prepare(&self.plan.rootfs, &root)?;
            images.reopen()
        })?;
        images.replace(directories);
        self.enter_cgroup(criu.pid())?;
        let mut request = self.request(images, &root, &criu)?;
        namespaces.put_into(&mut request, criu.version())?;
        request.inherited.extend(external::pipes(streams));
        request.cgroup_roots = external::cgroup_roots(criu.pid().as_raw())?;
        let restored = criu.carry_out(
            &Request::last(Kind::Restore, request),
            |notification, descriptor| self.notified(notification, descriptor),
        );
        restored.map_err(|err| images.explain(&err))?;
        fs::remove_dir(&root).with_context(|| format!("remove the directory {root:?}"))?;
        Ok(notify)
    }

    /// A service's socket is mounted in the container. It has said long ago
    /// that it is ready, so nobody waits for that.
    fn make_notify_socket(&self) -> Result<Option<NotifySocket>> {
        if !self.plan.notifies {
            return Ok(None);
        }
        let directory = self.parts.state_dir.path();
        notify::make_directory(directory)?;
        if self.options.detach {
            return Ok(None);
        }
        NotifySocket::bind(directory)
    }

    /// The place for the root filesystem, its path without links.
    fn make_root(&self) -> Result<PathBuf> {
        let root = self.parts.state_dir.path().join(ROOT);
        fs::create_dir(&root)
            .and_then(|()| fs::canonicalize(&root))
            .with_context(|| format!("make the directory {root:?}"))
    }

    /// What CRIU restores is then in the cgroup, with its limits, from the
    /// beginning.
    fn enter_cgroup(&mut self, pid: Pid) -> Result<()> {
        let Parts { cgroup, state, .. } = &mut self.parts;
        let entered = cgroup.enter(pid, Entered::default());
        entered.map_err(resources::named)?;
        state.cgroup = cgroup.saved_paths();
        if let Some(rdt) = &self.plan.intel_rdt {
            intel_rdt::enter(rdt, pid.as_raw(), &mut state.resctrl)?;
        }
        let limits = &self.plan.cgroup.limits;
        resources::warn_of(&cgroup.apply(limits).map_err(resources::named)?);
        let ignored = cgroup.restrict_devices(limits);
        resources::warn_of(&ignored.map_err(resources::named)?);
        Ok(())
    }

    fn request(&self, images: &Images, root: &Path, criu: &Criu) -> Result<rpc::Options> {
        let options = self.options;
        for (flag, value) in [
            ("--lsm-profile", &options.criu.lsm_profile),
            ("--lsm-mount-context", &options.criu.lsm_mount_context),
        ] {
            if value.is_some() && criu.version() < CHANGES_PROFILES {
                bail!("{flag} requires at least CRIU 3.16");
            }
        }
        let mut request = rpc::Options {
            evasive_devices: true,
            restore_as_sibling: true,
            root: rpc::path(root),
            external_mounts: external::for_restore(
                &external_mounts(&self.plan.rootfs, &self.plan.namespaces),
                &self.plan.rootfs.path,
            )?,
            config_file: configuration(&self.plan.annotations),
            ..options.criu.clone()
        };
        images.put_into(&mut request);
        Ok(request)
    }

    /// CRIU has come to a point where something is for us to do.
    fn notified(&mut self, notification: &Notification, fd: Option<OwnedFd>) -> Result<()> {
        let state = &mut self.parts.state;
        match notification.script.as_str() {
            "setup-namespaces" => {
                state.pid = notification.pid;
                let state = state.for_hooks(Status::Creating);
                hooks::run_before_root(&self.plan.hooks, &state)
            }
            "post-restore" => {
                state.pid = notification.pid;
                let stat = ProcessStat::read(state.pid)?.context("container init is gone")?;
                state.start_time = stat.start_time;
                match self.plan.rootfs.readonly {
                    true => make_root_readonly(notification.pid),
                    false => Ok(()),
                }
            }
            "orphan-pts-master" => {
                let master = fd.context("CRIU sent no terminal")?;
                let Some(console) = &self.console else {
                    bail!("the container had a terminal: process.terminal is not set");
                };
                fd_socket::send(console, b"orphan-pts-master", &master)
            }
            _ => Ok(()),
        }
    }

    /// What is left to do when the container runs.
    fn bring_up(&mut self, front: Option<Front>) -> Result<Started> {
        let Parts {
            state_dir, state, ..
        } = &mut self.parts;
        let pid = Pid::from_raw(state.pid);
        let mut init = Started::new(Child::adopt(pid)?);
        // When it was made anew, not when it was first.
        state.created = ContainerState::now();
        // Only now may others see it run: whoever killed it while CRIU is at it
        // would leave CRIU waiting for it for ever.
        state_dir.save(state)?;
        // Whoever waits for a terminal that never came shall see the end.
        self.console = None;
        init.show_terminal(front)?;
        init.announce(b"standard", None, self.options.create.pid_file.as_deref())?;
        Ok(init)
    }
}

/// In the mount namespace of the restored process `pid`, which does not run yet.
fn make_root_readonly(pid: i32) -> Result<()> {
    let mut namespaces = NamespacePlan::default();
    let path = format!("/proc/{pid}/ns/mnt");
    namespaces.set(NamespaceKind::Mount, Namespace::Joined(path.into()));
    let ends = std::io::pipe().context("pipe")?;
    let remount = |mut tell: PipeWriter, joined: teu_namespaces::Result<()>| {
        let joined = joined.map_err(anyhow::Error::from);
        let Err(err) = joined.and_then(|()| init::restore::make_root_readonly()) else {
            return 0;
        };
        // If the parent is gone there is nobody to tell.
        tell.write_all(errno::chain(&err).as_bytes()).ok();
        1
    };
    let (child, mut words) = teu_namespaces::spawn(&namespaces, None, ends, remount)?;
    let mut why = String::new();
    words
        .read_to_string(&mut why)
        .context("read why the root was not made read-only")?;
    let status = child.wait()?;
    let mut child = child;
    child.keep();
    match status {
        WaitStatus::Exited(_, 0) => Ok(()),
        _ if !why.is_empty() => bail!(why),
        status => bail!("error setting rootfs as readonly: {status:?}"),
    }
}

impl Parts {
    /// The container, once CRIU has made its init.
    fn with(self, init: Started) -> Container {
        let Parts {
            cgroup,
            state_dir,
            state,
            signals,
        } = self;
        Container {
            init,
            cgroup,
            state_dir,
            state,
            signals,
        }
    }

    /// Ends what may be left of the container and removes the rest, as deleting
    /// it would.
    fn undo(self) {
        let state = self.state.clone();
        if let Err(err) = self.cgroup.kill_all(libc::SIGKILL) {
            log::warn!("{}", errno::chain(&err.into()));
        }
        drop(self);
        container::undo_outside(&state);
    }
}
