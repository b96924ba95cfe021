//! Finds the facts about a machine on which the place of a container's cgroup depends.
//! Finding them reads /proc, and may ask systemd. Nothing is made.

use std::path::{Path, PathBuf};

use nix::unistd::Pid;
use teu_cgroups_types::{Hierarchy, Location, Manager};

use crate::error::{Error, Result};
use crate::hierarchy;
use crate::systemd::{self, Systemd};

/// Finds the hierarchies, as this process sees them.
///
/// # Errors
/// Returns an error if /proc/self/mountinfo or /proc/self/cgroup cannot be read, or if
/// there is no hierarchy.
pub fn locate() -> Result<Location> {
    Ok(Location {
        hierarchies: hierarchy::of_this_process()?,
        manager: PathBuf::new(),
    })
}

/// Finds the hierarchies, if there are any: for
/// [`Driver::Disabled`](crate::Driver::Disabled).
///
/// # Errors
/// As [`locate`], but succeeds if there is no hierarchy.
pub fn locate_if_any() -> Result<Location> {
    match locate() {
        Err(Error::NotMounted) => Ok(Location::none()),
        found => found,
    }
}

/// Finds the hierarchies, and the cgroup below which a systemd manager makes its units.
/// The manager is asked over the connection that is returned, which
/// [`Cgroup::prepare`](crate::Cgroup::prepare) takes.
///
/// # Errors
/// As [`locate`]. Also returns an error if there is no such manager, if its cgroup cannot be
/// read, if it does not answer, or if a user's manager does not make cgroups on this host.
pub fn locate_with_systemd(manager: Manager) -> Result<(Location, Systemd)> {
    let mut location = locate()?;
    if !systemd::is_running() {
        return Err(Error::NoSystemd);
    }
    let mut systemd = Systemd::new(manager);
    location.manager = match manager {
        Manager::System => cgroup_of_system_manager()?,
        Manager::User if !location.hierarchies.v1.is_empty() => {
            return Err(Error::NoUserManagerOnV1);
        }
        Manager::User => systemd.control_group()?,
    };
    Ok((location, systemd))
}

/// Returns the cgroup below which the system manager makes units. It is the root, except
/// for a systemd in a container that sees the host's cgroups. The manager itself is in
/// "init.scope" below it.
fn cgroup_of_system_manager() -> Result<PathBuf> {
    const OWN: &str = "/init.scope";
    let path = Path::new("/proc/1/cgroup");
    let cgroups = std::fs::read_to_string(path);
    let cgroups = cgroups.map_err(|cause| Error::system("read", path, cause))?;
    let is_elsewhere = |line: &str| {
        let path = line.splitn(3, ':').nth(2);
        path.is_some_and(|path| path != OWN && path.ends_with(OWN))
    };
    if !cgroups.lines().any(is_elsewhere) {
        return Ok(PathBuf::new());
    }
    let hierarchies = hierarchy::of_process(Pid::from_raw(1))?;
    let is_systemds = |hierarchy: &&Hierarchy| {
        hierarchy
            .controllers
            .iter()
            .any(|name| name == "name=systemd")
    };
    let hierarchy = hierarchies
        .v1
        .iter()
        .find(is_systemds)
        .or(hierarchies.v2.as_ref());
    let own = hierarchy.and_then(|hierarchy| hierarchy.own.parent());
    Ok(own.unwrap_or(Path::new("")).to_owned())
}
