//! Puts devices into a running container and takes them out again. A forked child joins
//! the container's namespaces and does the work inside (`init/hotplug.rs`). This module
//! starts the child and opens what the child asks for on the host.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, major, minor, openat};
use rustix::io::Errno;
use teu_gpu::Cover;
use teu_namespaces::{Child, Kind, Namespace, NamespacePlan, Neighbour, spawn_inside};
use teu_plan::devices::DeviceKind;
use teu_plan::hotplug::{Addition, Found, Look};
use teu_plan::named_devices::Brought;

use crate::errno;
use crate::host::Host;
use crate::init::hotplug;
use crate::init::mount_attributes::Kernel;
use crate::init::paths::Root;
use crate::init::procfs::Procfs;
use crate::parent::{device_source, mount_source};
use crate::pipe::{self, InitEnd, Outcome, ParentEnd, ToInit, ToParent};

/// A running container whose devices change.
#[derive(Debug)]
pub(crate) struct Inside {
    init: Neighbour,
    root: Root,
    state_dir: PathBuf,
    mount_label: Option<String>,
}

/// The nodes and mounts that were put into the container. Dropping it takes them out
/// again, until [`PutIn::keep`].
#[derive(Debug)]
pub(crate) struct PutIn<'a> {
    inside: &'a Inside,
    addition: Option<&'a Addition>,
}

impl Inside {
    /// Opens the container of this init. `root` is its root if the container has no
    /// mount namespace of its own.
    ///
    /// # Errors
    /// The container has ended.
    pub(crate) fn new(
        init: Neighbour,
        root: Option<OwnedFd>,
        state_dir: &Path,
        mount_label: Option<&str>,
    ) -> Result<Inside> {
        let root = match root {
            Some(root) => root,
            None => root_of(&init).context("open the container's root")?,
        };
        Ok(Inside {
            init,
            root: Root::new(root),
            state_dir: state_dir.to_owned(),
            mount_label: mount_label.map(str::to_owned),
        })
    }

    /// Returns the namespaces of the container that matter for putting in devices.
    ///
    /// # Errors
    /// The id maps cannot be read, or the container has ended.
    pub(crate) fn namespaces(&self, host: &Host) -> Result<NamespacePlan> {
        let mut namespaces = NamespacePlan::default();
        if self.init.has_own(Kind::User) {
            let path = PathBuf::from(format!("/proc/{}/ns/user", self.init.pid()));
            namespaces.id_maps = host.id_maps_of(&path)?;
            namespaces.set(Kind::User, Namespace::Joined(path));
        }
        if self.init.has_own(Kind::Mount) {
            let path = PathBuf::from(format!("/proc/{}/ns/mnt", self.init.pid()));
            namespaces.set(Kind::Mount, Namespace::Joined(path));
        }
        // Check init after reading below /proc/PID: if it is alive now, the pid was not reused.
        self.init.check_running()?;
        Ok(namespaces)
    }

    /// Makes mounts and nodes in the container.
    ///
    /// # Errors
    /// A mount or node cannot be made. Those made before are taken out again.
    pub(crate) fn put_in<'a>(&'a self, addition: &'a Addition) -> Result<PutIn<'a>> {
        let put_in = PutIn {
            inside: self,
            addition: Some(addition),
        };
        let made = self.run(addition, |root, kernel, pipe| {
            hotplug::put_in(root, kernel, addition, pipe)
        });
        let removed = device_source::remove(&addition.devices, &self.state_dir);
        made.and(removed).map(|()| put_in)
    }

    /// Takes out the objects that devices have brought, as far as they are still there.
    /// `left` are the covers that the container keeps.
    ///
    /// # Errors
    /// A node, mount or link cannot be removed.
    pub(crate) fn take_out(&self, brought: &Brought, left: &[Cover]) -> Result<()> {
        if *brought == Brought::default() {
            return Ok(());
        }
        self.run(&Addition::default(), |root, kernel, _| {
            hotplug::take_out(root, kernel, brought, left)
        })
    }

    /// Starts a child that does `work` in the container, and answers its requests about
    /// `addition`.
    fn run(
        &self,
        addition: &Addition,
        work: impl FnOnce(&Root, &Kernel, &mut InitEnd) -> Result<()>,
    ) -> Result<()> {
        // Open procfs before the child joins the container's mount namespace: the procfs
        // mounted there does not show the child, which stays in its own pid namespace.
        let procfs = Procfs::of_the_mount_namespace().context("open \"/proc\"")?;
        let inside = |mut inner: InitEnd, joined: teu_namespaces::Result<()>| {
            // Clear the mask so that modes are those of the plan.
            rustix::process::umask(Mode::empty());
            let done = joined
                .map_err(Into::into)
                .and_then(|()| work(&self.root, &Kernel::with(procfs), &mut inner));
            let word = match done {
                Ok(()) => ToParent::Ready,
                Err(err) => ToParent::Failed(errno::chain(&err)),
            };
            i32::from(inner.send(&word).is_err())
        };
        let (child, pipe) = spawn_inside(&self.init, pipe::pair()?, inside)?;
        self.answer(addition, &child, &pipe)
    }

    fn answer(&self, addition: &Addition, child: &Child, pipe: &ParentEnd) -> Result<()> {
        let outcome = pipe.serve(|asked| {
            let answer = match asked {
                ToParent::OpenMountSource(index) => {
                    mount_source::open_here(&addition.mounts, index, child).map(ToInit::Tree)
                }
                ToParent::MakeDevice(index) => device_source::make(
                    &addition.devices,
                    self.mount_label.as_deref(),
                    index,
                    &self.state_dir,
                ),
                other => bail!("message from the container: {other:?}"),
            };
            Ok(Some(ToInit::answer(answer)))
        });
        match outcome? {
            Outcome::Ready => Ok(()),
            Outcome::Failed(why) => Err(anyhow!(why)),
            Outcome::Silent => bail!("the process in the container ended: {:?}", child.wait()?),
        }
    }
}

impl Look for Inside {
    fn find(&self, path: &Path) -> Result<Option<Found>> {
        let handle = match self.root.resolve(path) {
            Err(Errno::NOENT) => return Ok(None),
            found => found.with_context(|| format!("look up {path:?}"))?,
        };
        let found = fstat(&handle).with_context(|| format!("stat {path:?}"))?;
        let (major, minor) = (major(found.st_rdev), minor(found.st_rdev));
        Ok(Some(Found {
            id: (found.st_dev, found.st_ino),
            kind: match FileType::from_raw_mode(found.st_mode) {
                FileType::CharacterDevice => Some(DeviceKind::Character { major, minor }),
                FileType::BlockDevice => Some(DeviceKind::Block { major, minor }),
                FileType::Fifo => Some(DeviceKind::Fifo),
                _ => None,
            },
        }))
    }

    fn link_target(&self, path: &Path) -> Result<Option<PathBuf>> {
        let target = self.root.link_target(path);
        target.with_context(|| format!("look for a link at {path:?}"))
    }
}

impl PutIn<'_> {
    /// Leaves the nodes and mounts in the container.
    pub(crate) fn keep(mut self) {
        self.addition = None;
    }
}

impl Drop for PutIn<'_> {
    fn drop(&mut self) {
        if let Some(Addition {
            brought,
            covers_before,
            ..
        }) = self.addition
            && let Err(err) = self.inside.take_out(brought, covers_before)
        {
            log::warn!("{}", errno::chain(&err));
        }
    }
}

/// Opens the root directory of a process that joins the container's mount namespace.
/// The root of init itself may differ, because init may have changed it, for example to
/// the host's.
fn root_of(init: &Neighbour) -> Result<OwnedFd> {
    // The opener is a process in the container's mount namespace. It sends the root to this
    // process in a message of type `ToInit`, the type by which a parent sends descriptors.
    let (opener_end, end) = pipe::pair()?;
    let opener = |end: ParentEnd, joined: teu_namespaces::Result<()>| {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = joined
            .map_err(Into::into)
            .and_then(|()| Ok(openat(CWD, "/", flags, Mode::empty())?));
        let answer = ToInit::answer(root.map(ToInit::Tree));
        i32::from(end.send(answer).is_err())
    };
    let (_opener, mut end) = spawn_inside(init, (end, opener_end), opener)?;
    end.receive_tree()
}
