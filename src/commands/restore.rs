//! `teu restore`: restores a container from a checkpoint, with CRIU. Makes the state
//! directory and the cgroup as `create` does, from a bundle, and lets criu restore the
//! processes, with their mounts and namespaces, from the images. Not for the
//! conversation with criu: see `criu/`.

use std::fs;
use std::io::{PipeWriter, Read, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use nix::sys::wait::WaitStatus;
use nix::unistd::Pid;
use teu_cgroups::Entered;
use teu_namespaces::{Child, Kind as NamespaceKind, Namespace, NamespacePlan};
use teu_plan::external::external_mounts;
use teu_plan::mounts::MountKind;
use teu_plan::{Plan, PlanOptions};

use super::checkpoint;
use super::create::{self, Purpose};
use super::resources;
use crate::bundle::Bundle;
use crate::criu::configuration;
use crate::criu::external::{self, Namespaces};
use crate::criu::images::Images;
use crate::criu::process::{self, Criu, Start};
use crate::criu::rpc::{self, Kind, Notification, Request};
use crate::parent::container::{self, Container, Held};
use crate::parent::listen_fds::ListenFds;
use crate::parent::notify::{self, NotifySocket};
use crate::parent::started::Started;
use crate::parent::terminal::{self, Front};
use crate::parent::{foreground, hooks, intel_rdt};
use crate::state::{ContainerState, StateDir, Status, container_id};
use crate::{errno, fd_socket, init};

/// The directory below the state directory on which the root filesystem is mounted for
/// CRIU.
const ROOT: &str = "criu-root";

/// The first version of CRIU that can restore with another LSM profile.
const CHANGES_PROFILES: u32 = 31_600;

/// The arguments of `restore`.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The arguments in common with `create`.
    pub(crate) create: create::Options,
    /// The directory of the images.
    pub(crate) images: PathBuf,
    /// The directory for the log, if it is not that of the images.
    pub(crate) work: Option<PathBuf>,
    /// Options for CRIU from the command line.
    pub(crate) criu: rpc::Options,
    /// Whether to return once the container runs.
    pub(crate) detach: bool,
    /// Whether the host's init reaps orphans of the container.
    pub(crate) no_subreaper: bool,
}

/// Restores a container. Returns the exit status for this process: that of init, 128
/// plus the signal's number if a signal ended init, or 0 if detached.
///
/// # Errors
/// The container cannot be restored. Nothing of it is left.
#[inline(never)]
pub(crate) fn restore(options: &Options) -> Result<u8> {
    checkpoint::warn_if_rootless("restore")?;
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

fn make(options: &Options) -> Result<(Container, Option<NotifySocket>)> {
    let create = &options.create;
    container_id::check(&create.id)?;
    StateDir::make_root(&create.root)?;

    // First decide everything that can be decided without changing the machine.
    let program = process::find()?;
    let mut images = Images::open(&options.images, options.work.as_deref())?;
    let streams = images.read_streams()?;
    let bundle = Bundle::open(&create.bundle)?;
    let planned = PlanOptions {
        may_lack_process: false,
        ..create.for_plan(Purpose::Create, ListenFds::default())
    };
    let (seen, systemd, plan) = create::decide(&bundle, &planned)?;
    refuse_what_criu_cannot(&plan)?;
    let namespaces = Namespaces::open(&plan.namespaces)?;
    let has_terminal = plan.process.terminal.is_some();
    let (console, front) = terminal::sockets(
        has_terminal,
        !options.detach,
        create.console_socket.as_deref(),
    )?;

    // From here, each step leaves something behind, which its owner undoes.
    let mut restoration = Restoration {
        options,
        plan: &plan,
        console,
        held: create::hold(create, &plan, &seen, systemd)?,
    };
    let restored = restoration
        .run(program, &mut images, &streams, &namespaces)
        .and_then(|notify| restoration.bring_up(front).map(|up| (up, notify)));
    match restored {
        Ok((init, notify)) => {
            let held = restoration.held;
            Ok((Container { init, held }, notify))
        }
        Err(err) => {
            undo(restoration.held);
            Err(err)
        }
    }
}

/// Refuses containers that CRIU would restore in a different form.
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

/// A restore in progress.
struct Restoration<'a> {
    options: &'a Options,
    plan: &'a Plan,
    /// The socket for the container's terminal.
    console: Option<OwnedFd>,
    held: Held,
}

impl Restoration<'_> {
    /// Lets CRIU restore the container, in a mount namespace with the root filesystem
    /// in the required form, and in the container's cgroup. Afterwards the state names
    /// init.
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
            self.held.state_dir.leave_lock_to_parent();
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

    /// Makes the directory with the notify socket, which is mounted in the container if it is a
    /// service. Returns no socket if detached, because the container reported long ago that it is
    /// ready.
    fn make_notify_socket(&self) -> Result<Option<NotifySocket>> {
        if !self.plan.notifies {
            return Ok(None);
        }
        let directory = self.held.state_dir.path();
        notify::make_directory(directory)?;
        if self.options.detach {
            return Ok(None);
        }
        NotifySocket::bind(directory)
    }

    /// Makes the directory for the root filesystem. Returns its path without links.
    fn make_root(&self) -> Result<PathBuf> {
        let root = self.held.state_dir.path().join(ROOT);
        fs::create_dir(&root)
            .and_then(|()| fs::canonicalize(&root))
            .with_context(|| format!("make the directory {root:?}"))
    }

    /// Moves criu into the container's cgroup and sets the limits, so that restored
    /// processes are in the cgroup, with its limits, from the beginning.
    fn enter_cgroup(&mut self, pid: Pid) -> Result<()> {
        let Held { cgroup, state, .. } = &mut self.held;
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

    /// Handles a notification of CRIU: the runtime has to act at this point.
    fn notified(&mut self, notification: &Notification, fd: Option<OwnedFd>) -> Result<()> {
        let state = &mut self.held.state;
        match notification.script.as_str() {
            "setup-namespaces" => {
                state.pid = notification.pid;
                let state = state.for_hooks(Status::Creating);
                hooks::run_before_root(&self.plan.hooks, &state)
            }
            "post-restore" => {
                state.note_init(notification.pid)?;
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

    /// Does the rest once the container runs.
    fn bring_up(&mut self, front: Option<Front>) -> Result<Started> {
        let Held {
            state_dir, state, ..
        } = &mut self.held;
        let pid = Pid::from_raw(state.pid);
        let mut init = Started::new(Child::adopt(pid)?);
        // The time of the restore, not of the first creation.
        state.created = ContainerState::now();
        // Save the state only now, because other commands see init from now on. If they
        // killed it earlier, CRIU would wait for it for ever.
        state_dir.save(state)?;
        // Close this end, so that a reader that still waits for a terminal sees the
        // end.
        self.console = None;
        init.show_terminal(front)?;
        init.announce(b"standard", None, self.options.create.pid_file.as_deref())?;
        Ok(init)
    }
}

/// Makes the root read-only, in the mount namespace of the restored process `pid`,
/// which does not run yet.
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
        // If writing fails, the parent is gone, and nobody is left to tell.
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

/// Kills the processes that may be left of the container and removes the rest, as
/// `delete` does.
fn undo(held: Held) {
    let state = held.state.clone();
    if let Err(err) = held.cgroup.kill_all(libc::SIGKILL) {
        log::warn!("{}", errno::chain(&err.into()));
    }
    drop(held);
    container::undo_outside(&state);
}
