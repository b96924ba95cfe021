//! cgroup v2: a single hierarchy, in which each cgroup enables controllers for the cgroups
//! below it.
//!
//! [`steps`] turns limits into writes; the modules are named after the controllers.
//! [`enable_controllers`] enables controllers down to the container's cgroup,
//! [`follow_threaded`] makes cgroups threaded where the kernel wants it, and [`explain`]
//! names the controller that a failed write lacked.

pub(crate) mod cpu;
pub(crate) mod cpuset;
pub(crate) mod freezer;
pub(crate) mod io;
pub(crate) mod memory;
pub(crate) mod stats;
pub(crate) mod unified;

use std::path::Path;

use teu_cgroups_types::Limits;

use crate::both;
use crate::controller::Controller;
use crate::directory::{Directory, Steps};
use crate::error::{Error, Result};
pub(crate) use stats::{stats, usage};

const ONLY_V1: &str = "cgroup v2 has no such setting";

/// Returns the steps that set `limits` for one controller.
pub(crate) fn steps(controller: Controller, limits: &Limits) -> Result<Steps> {
    let mut steps = Steps::default();
    match controller {
        Controller::Cpuset => steps = cpuset::steps(&limits.cpu),
        Controller::Pids => steps = both::pids::steps(limits.pids),
        Controller::Memory => steps = memory::steps(&limits.memory)?,
        Controller::BlockIo => steps = io::steps(&limits.block_io),
        Controller::Cpu => steps = cpu::steps(&limits.cpu),
        Controller::Hugetlb => steps = both::hugetlb::steps(&limits.hugetlb, "max")?,
        Controller::Rdma => steps = both::rdma::steps(&limits.rdma)?,
        Controller::NetworkClass if limits.network.class_id.is_some_and(|id| id != 0) => {
            steps.ignore("network.classID", ONLY_V1);
        }
        Controller::NetworkPriority if !limits.network.priorities.is_empty() => {
            steps.ignore("network.priorities", ONLY_V1);
        }
        Controller::NetworkClass | Controller::NetworkPriority => {}
    }
    Ok(steps)
}

/// The controllers that a new cgroup gets.
#[derive(Debug)]
pub(crate) enum Wanted {
    /// All controllers, as other runtimes do on a host with cgroup v2 only.
    All,
    /// These controllers. On a hybrid host most controllers are on v1.
    These(Vec<&'static str>),
}

/// Enables controllers on every level from `top` to `leaf`, which exists. Returns whether
/// `leaf` had all of them before.
///
/// A level may refuse a controller, because it has processes of its own or belongs to
/// another user. That is not an error: a limit that needs the controller fails later and
/// names it.
pub(crate) fn enable_controllers(top: &Path, leaf: &Path, wanted: &Wanted) -> Result<bool> {
    let wanted: Vec<String> = match wanted {
        Wanted::All => words(&Directory::new(top).read_or_error("cgroup.controllers")?),
        Wanted::These(names) => names.iter().map(|&name| name.to_owned()).collect(),
    };
    let directory = Directory::new(leaf);
    if !wanted.is_empty() && has_all(&directory, &wanted)? {
        return Ok(true);
    }
    let below_top = leaf.strip_prefix(top).unwrap_or(Path::new(""));
    let mut level = top.to_owned();
    for name in below_top.components() {
        enable(&Directory::new(&level), &wanted);
        level.push(name);
    }
    Ok(false)
}

/// If a cgroup above `leaf` is threaded, makes `leaf` and the cgroups between threaded too.
/// Otherwise they take no process (cgroup-v2.rst, "Threads").
///
/// # Errors
/// Returns an error if `limits` has a limit that threaded cgroups do not support.
pub(crate) fn follow_threaded(top: &Path, leaf: &Path, limits: &Limits) -> Result<()> {
    if Directory::new(leaf).read_or_error("cgroup.type")? != "domain invalid" {
        return Ok(());
    }
    let is_domain = |controller: &Controller| !controller.is_threaded();
    for controller in Controller::ALL.into_iter().filter(is_domain) {
        if let Some(field) = steps(controller, limits)?.first_field() {
            return Err(Error::Threaded {
                field: field.to_owned(),
                path: leaf.to_owned(),
            });
        }
    }
    let mut level = top.to_owned();
    for name in leaf.strip_prefix(top).unwrap_or(Path::new("")).components() {
        level.push(name);
        let directory = Directory::new(&level);
        if directory.read_or_error("cgroup.type")? == "domain invalid" {
            directory.write_or_error("cgroup.type", "threaded")?;
        }
    }
    Ok(())
}

fn has_all(directory: &Directory, wanted: &[String]) -> Result<bool> {
    let present = words(&directory.read_or_error("cgroup.controllers")?);
    Ok(wanted.iter().all(|name| present.contains(name)))
}

/// Enables all controllers by one write. If the kernel refuses that, enables each by a
/// write of its own.
fn enable(directory: &Directory, wanted: &[String]) {
    const FILE: &str = "cgroup.subtree_control";
    let plus: Vec<String> = wanted.iter().map(|name| format!("+{name}")).collect();
    if directory.write(FILE, &plus.join(" ")).is_ok() {
        return;
    }
    for name in &plus {
        // Not an error, because no limit may need the controller. A limit that needs it
        // fails later.
        match directory.write(FILE, name) {
            Ok(()) | Err(_) => {}
        }
    }
}

/// Replaces an error of a write by one that names the missing controller, if the cgroup
/// does not have the controller.
pub(crate) fn explain(directory: &Directory, controller: &str, error: Error) -> Error {
    let Error::Limit { field, .. } = &error else {
        return error;
    };
    if !matches!(
        error.raw_os_error(),
        Some(libc::ENOENT | libc::EPERM | libc::EACCES)
    ) {
        return error;
    }
    match directory.read("cgroup.controllers") {
        // Files "cgroup.…" do not belong to a controller.
        _ if controller == "cgroup" => error,
        Ok(present) if !words(&present).iter().any(|name| name == controller) => {
            Error::NoController {
                field: field.clone(),
                controller: controller.to_owned(),
                path: directory.path.clone(),
            }
        }
        _ => error,
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;
    use teu_cgroups_types::NetworkLimits;

    #[test]
    fn network_limits_are_reported() {
        let network = NetworkLimits {
            class_id: Some(1),
            priorities: vec![("lo".into(), 1)],
        };
        let limits = Limits {
            network,
            ..Default::default()
        };
        let class = steps(Controller::NetworkClass, &limits).unwrap();
        assert_eq!(class.steps, []);
        assert_eq!(
            class.ignored[0].to_string(),
            "network.classID: ignored: cgroup v2 has no such setting"
        );
        assert_eq!(
            steps(Controller::NetworkPriority, &limits)
                .unwrap()
                .ignored
                .len(),
            1
        );
        let nothing = Limits::default();
        for controller in Controller::ALL {
            assert_eq!(steps(controller, &nothing).unwrap(), Steps::default());
            assert_eq!(v1::steps(controller, &nothing).unwrap(), Steps::default());
        }
    }
}
