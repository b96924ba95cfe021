//! Sets resource limits (setrlimit(2)), of this process or of another.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result};
use nix::fcntl::AtFlags;
use rustix::io::Errno;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use teu_plan::process::{Resource as PlanResource, ResourceLimit};

use crate::sys;

/// Sets the limits of the process `pid`; 0 is this process.
pub(crate) fn set(pid: i32, limits: &[ResourceLimit]) -> Result<()> {
    let pid = Pid::from_raw(pid);
    for limit in limits {
        prlimit(pid, resource(limit), rlimit(limit))
            .with_context(|| format!("error setting rlimit {}", limit.name))?;
    }
    Ok(())
}

fn rlimit(limit: &ResourceLimit) -> Rlimit {
    Rlimit {
        current: limit.soft,
        maximum: limit.hard,
    }
}

fn resource(limit: &ResourceLimit) -> Resource {
    match limit.resource {
        PlanResource::As => Resource::As,
        PlanResource::Core => Resource::Core,
        PlanResource::Cpu => Resource::Cpu,
        PlanResource::Data => Resource::Data,
        PlanResource::Fsize => Resource::Fsize,
        PlanResource::Locks => Resource::Locks,
        PlanResource::Memlock => Resource::Memlock,
        PlanResource::Msgqueue => Resource::Msgqueue,
        PlanResource::Nice => Resource::Nice,
        PlanResource::Nofile => Resource::Nofile,
        PlanResource::Nproc => Resource::Nproc,
        PlanResource::Rss => Resource::Rss,
        PlanResource::Rtprio => Resource::Rtprio,
        PlanResource::Rttime => Resource::Rttime,
        PlanResource::Sigpending => Resource::Sigpending,
        PlanResource::Stack => Resource::Stack,
    }
}

/// Raises the limits of this process to the given limits where its own are lower, for a
/// child without the privilege to set them.
pub(crate) fn raise(limits: &[ResourceLimit]) -> Result<()> {
    for limit in limits {
        let resource = resource(limit);
        let doing = || format!("error setting rlimit {}", limit.name);
        let own = sys::resource_limit(resource).with_context(doing)?;
        // `None` means unlimited.
        let higher = |one: Option<u64>, other| Some(one?.max(other?));
        let higher = Rlimit {
            current: higher(own.current, limit.soft),
            maximum: higher(own.maximum, limit.hard),
        };
        prlimit(None, resource, higher).with_context(doing)?;
    }
    Ok(())
}

fn of_processes(limits: &[ResourceLimit]) -> Option<&ResourceLimit> {
    limits
        .iter()
        .find(|limit| limit.resource == PlanResource::Nproc)
}

/// Runs `become_user` with the limit of processes in force, and fails if execve(2)
/// would fail because of that limit. Lifts the limit again afterwards, so that the
/// child can be made even if the user has no place for it beside this process.
/// `no_program` is a descriptor of a socket.
///
/// The kernel compares the limit when a process changes its user, and then refuses
/// execve(2) to this process (EAGAIN) but not to its children. So the child would not
/// notice.
pub(crate) fn within_limit_of_processes(
    limits: &[ResourceLimit],
    no_program: BorrowedFd<'_>,
    become_user: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let Some(limit) = of_processes(limits) else {
        return become_user();
    };
    let doing = || format!("error setting rlimit {}", limit.name);
    let own = sys::resource_limit(Resource::Nproc).with_context(doing)?;
    let lower = |one: Option<u64>, other: Option<u64>| match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    };
    let current = lower(limit.soft, own.maximum);
    prlimit(None, Resource::Nproc, Rlimit { current, ..own }).with_context(doing)?;
    become_user()?;
    // Call execveat(2) on a socket, which is never executed. The kernel checks the limit
    // before it looks at the file, so EAGAIN means that a program would not be executed
    // either. Do not use a path: the container could put a program there, which would run
    // outside its pid namespace.
    let (nothing, itself): ([&CStr; 0], _) = ([], AtFlags::AT_EMPTY_PATH);
    if let Err(nix::errno::Errno::EAGAIN) =
        nix::unistd::execveat(no_program, c"", &nothing, &nothing, itself)
    {
        return Err(Errno::AGAIN).context("exec");
    }
    prlimit(None, Resource::Nproc, own).with_context(doing)?;
    Ok(())
}

/// Sets the limit of processes before this process changes its user. For containers
/// whose other limits the parent sets afterwards: the kernel compares the limit of
/// processes at the change of user, and refuses execve(2) because of it (EAGAIN).
pub(crate) fn limit_processes(limits: &[ResourceLimit]) -> Result<()> {
    match of_processes(limits).map_or(Ok(()), |limit| {
        prlimit(None, Resource::Nproc, rlimit(limit)).map(drop)
    }) {
        // The limit is higher than that of this process. The parent may set it, and it
        // cannot be exceeded yet.
        Err(Errno::PERM) => Ok(()),
        result => result.context("error setting rlimit RLIMIT_NPROC"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_another_process() {
        let limit = ResourceLimit {
            name: "RLIMIT_NOFILE",
            resource: PlanResource::Nofile,
            soft: Some(99),
            hard: Some(100),
        };
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep");
        let pid = child.id().cast_signed();
        set(pid, &[limit]).expect("limits");
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).expect("limits");
        child.kill().expect("kill");
        child.wait().expect("wait");
        let limits = limits.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(limits.contains("Max open files 99 100"), "{limits}");
    }
}
