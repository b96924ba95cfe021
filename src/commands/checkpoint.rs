//! `teu checkpoint`: stores a running container in image files, with CRIU. Checks the
//! options, lets criu dump the container, and deletes the container unless it is to go
//! on. Not for the conversation with criu: see `criu/`.

use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Error, Result, anyhow, bail};
use rustix::fs::{OFlags, fcntl_getfl};
use teu_cgroups::Cgroup;
use teu_plan::named_devices::NamedDevices;

use crate::criu::images::{self, Images};
use crate::criu::process::{self, Criu, Start};
use crate::criu::rpc::{self, Features, Kind, Request};
use crate::criu::{configuration, external};
use crate::host::Host;
use crate::known_failures::Failure;
use crate::parent::cleanup;
use crate::state::{ContainerState, StateDir, Status, init_process};
use crate::{errno, sys};

/// The first version of CRIU that can freeze a v2 cgroup.
const FREEZES_V2: u32 = 31_400;

/// The first version of CRIU that notifies when its pages may be fetched.
const NOTIFIES_READINESS: u32 = 31_500;

/// The arguments of `checkpoint`.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state, absolute.
    pub(crate) root: PathBuf,
    /// The name of the container, not checked yet.
    pub(crate) id: String,
    /// The directory for the images.
    pub(crate) images: PathBuf,
    /// The directory for the log, if it is not that of the images.
    pub(crate) work: Option<PathBuf>,
    /// The directory of the images of an earlier pre-dump, relative to `images`.
    pub(crate) parent: Option<OsString>,
    /// Stores memory only, and leaves the container running.
    pub(crate) pre_dump: bool,
    /// Options for CRIU from the command line.
    pub(crate) criu: rpc::Options,
    /// The caller's descriptor that gets a NUL byte once pages can be fetched.
    pub(crate) status_fd: Option<u32>,
}

/// Stores the container in image files. With `--leave-running` or `--pre-dump` the container
/// continues. Otherwise criu ends its processes, and this function deletes it.
///
/// # Errors
/// The container does not exist or does not run, an option is wrong, or there is no
/// suitable CRIU. The container then runs as before.
#[inline(never)]
pub(crate) fn checkpoint(options: &Options) -> Result<()> {
    warn_if_rootless("checkpoint")?;
    let (dir, state) = StateDir::load(&options.root, &options.id)?;
    let init = find_init(&dir, &state)?;
    if let Some(parent) = &options.parent {
        images::check_parent(&options.images, Path::new(parent))?;
    }
    refuse_idmapped_mounts(&state)?;
    let status_fd = options.take_status_fd()?;

    let (mut criu, _) = Criu::start(process::find()?, &Start::default(), || Ok(Vec::new()))?;
    if options.pre_dump || options.criu.lazy_pages {
        criu.require_features(Features {
            memory_tracking: options.pre_dump,
            lazy_pages: options.criu.lazy_pages,
        })?;
    }
    let images = Images::create(&options.images, options.work.as_deref())?;
    if let Some(gid) = group_of_root(&state)? {
        images.open_to_group(gid)?;
    }
    let request = options.request(&state, &images, criu.version())?;
    if !options.pre_dump {
        images.write_streams(&external::streams(&state.external, state.pid))?;
    }
    // Check init after reading below /proc/PID: if it is alive now, the pid was not reused.
    if !state.init_is_alive()? {
        return Err(refused(Status::Stopped));
    }
    dump(options, criu, request, status_fd)
        .map_err(|err| hint_at_devices(images.explain(&err), &state.devices))?;
    if !options.criu.leave_running
        && !options.pre_dump
        && let Err(err) = remove(dir, &state, &init)
    {
        // Only warn, because the container is stored, as asked.
        log::warn!("{}", errno::chain(&err));
    }
    Ok(())
}

/// Warns, as runc does. The command is not refused: it may work, and if not, CRIU gives the
/// reason.
pub(super) fn warn_if_rootless(command: &str) -> Result<()> {
    if Host::new().is_rootless()? {
        log::warn!("teu {command} is untested with rootless containers");
    }
    Ok(())
}

fn find_init(dir: &StateDir, state: &ContainerState) -> Result<OwnedFd> {
    match dir.status(state)? {
        Status::Running | Status::Paused => {
            init_process::open(state)?.ok_or_else(|| refused(Status::Stopped))
        }
        status => Err(refused(status)),
    }
}

fn refused(status: Status) -> Error {
    Failure::CheckpointInState(status.word().to_owned()).into()
}

/// Returns the group on the host that the container's group 0 is mapped to, if not
/// group 0.
fn group_of_root(state: &ContainerState) -> Result<Option<u32>> {
    let namespace = PathBuf::from(format!("/proc/{}/ns/user", state.pid));
    let maps = Host::new().id_maps_of(&namespace)?;
    let root = maps.gid.iter().find(|line| line.container == 0);
    Ok(root.map(|line| line.host).filter(|gid| *gid != 0))
}

/// Refuses idmapped mounts, because CRIU would restore them without their map, and
/// files would change their owners.
fn refuse_idmapped_mounts(state: &ContainerState) -> Result<()> {
    let path = format!("/proc/{}/mountinfo", state.pid);
    let table = std::fs::read(&path).with_context(|| format!("read {path:?}"))?;
    let mounts = teu_mountinfo::mounts(&table)?;
    if let Some(mount) = mounts.iter().find(|mount| mount.has_option("idmapped")) {
        let point = mount.point();
        bail!("mount {point:?} is idmapped: CRIU cannot restore such mounts");
    }
    Ok(())
}

/// Adds a hint to CRIU's error, which does not say that a descriptor belongs to a GPU.
fn hint_at_devices(error: Error, devices: &NamedDevices) -> Error {
    let with_nodes = devices.list.iter();
    let with_nodes = with_nodes.filter(|device| !device.brought.nodes.is_empty());
    let names: Vec<&str> = with_nodes.map(|device| device.name.as_str()).collect();
    match &names[..] {
        [] => error,
        names => anyhow!(
            "{error} (hint: CRIU needs a plugin to store open files of {})",
            names.join(", ")
        ),
    }
}

impl Options {
    /// Takes over the caller's descriptor for lazy pages.
    fn take_status_fd(&self) -> Result<Option<OwnedFd>> {
        let Some(number) = self.status_fd.filter(|_| self.criu.lazy_pages) else {
            return Ok(None);
        };
        let take = || -> Result<OwnedFd> {
            let fd = sys::own_inherited_descriptor(number).map_err(|_| rustix::io::Errno::BADF)?;
            let mode = fcntl_getfl(&fd)? & OFlags::ACCMODE;
            if mode == OFlags::RDONLY {
                bail!("not writable");
            }
            Ok(fd)
        };
        take()
            .map(Some)
            .with_context(|| format!("invalid --status-fd argument {number}"))
    }

    fn request(
        &self,
        state: &ContainerState,
        images: &Images,
        version: u32,
    ) -> Result<rpc::Options> {
        let mut request = rpc::Options {
            pid: Some(state.pid),
            root: rpc::path(&state.rootfs),
            parent_img: self.parent.as_ref().map(rpc::path),
            track_memory: self.parent.is_some(),
            external: external::namespaces_for_dump(&state.external, state.pid, version)?,
            config_file: configuration(&state.annotations),
            ..self.criu.clone()
        };
        images.put_into(&mut request);
        let cgroup = Cgroup::open(&state.cgroup);
        if version >= FREEZES_V2 || state.cgroup.get("freezer").is_some() {
            request.freeze_cgroup = cgroup.freezer().map(rpc::path);
        }
        if self.criu.lazy_pages && version < NOTIFIES_READINESS {
            request.status_fd = self.status_fd.and_then(|number| number.try_into().ok());
        }
        if !self.pre_dump {
            request.external_mounts =
                external::for_dump(&state.external, state.pid, &state.rootfs)?;
        }
        Ok(request)
    }
}

fn dump(
    options: &Options,
    criu: Criu,
    request: rpc::Options,
    mut status_fd: Option<OwnedFd>,
) -> Result<()> {
    let kind = if options.pre_dump {
        Kind::PreDump
    } else {
        Kind::Dump
    };
    criu.carry_out(&Request::last(kind, request), |notification, _| {
        if notification.script == "status-ready"
            && let Some(fd) = status_fd.take()
            && let Err(err) = rustix::io::write(&fd, &[0])
        {
            // The reader of this descriptor is gone. Others may still fetch the pages.
            log::warn!("can't write \\0 to status fd: {}", errno::text(err));
        }
        Ok(())
    })
}

/// Deletes a container whose processes CRIU has ended.
fn remove(mut dir: StateDir, state: &ContainerState, init: &OwnedFd) -> Result<()> {
    init_process::wait_for_end(init)?;
    match dir.lock() {
        // Another command has seen the end, and deleted the container.
        Err(err) if err.downcast_ref() == Some(&Failure::NotFound) => Ok(()),
        locked => locked.and_then(|()| cleanup::destroy(dir, state, false)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use teu_plan::devices::DeviceKind;
    use teu_plan::named_devices::{BroughtNode, NamedDevice};

    #[test]
    fn devices_with_nodes_are_named() {
        let mut devices = NamedDevices::default();
        let told = |devices: &NamedDevices| hint_at_devices(anyhow!("criu failed"), devices);
        let of_variables = NamedDevice {
            name: "v/c=a".to_owned(),
            ..NamedDevice::default()
        };
        let mut of_nodes = of_variables.clone();
        devices.list.push(of_variables);
        assert_eq!(told(&devices).to_string(), "criu failed");
        of_nodes.name = "nvidia.com/gpu=0".to_owned();
        of_nodes.brought.nodes.push(BroughtNode {
            path: "/dev/nvidia0".into(),
            kind: DeviceKind::Character {
                major: 195,
                minor: 0,
            },
        });
        devices.list.push(of_nodes);
        assert_eq!(
            told(&devices).to_string(),
            "criu failed (hint: CRIU needs a plugin to store open files of nvidia.com/gpu=0)"
        );
    }
}
