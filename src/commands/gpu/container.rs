//! Checks the devices of a container: whether each node is the expected device, and
//! whether the kernel lets the container use it. Not for the machine: see `check.rs`.

use std::fs;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::unistd::Pid;
use rustix::fs::{AtFlags, CWD, accessat, fstat};
use rustix::io::Errno;
use teu_cgroups::{Access, Cgroup, DeviceRule, Entered, rules_allow};
use teu_namespaces::{NamespacePlan, spawn};
use teu_plan::devices::{DeviceKind, device_nodes};

use super::check::Report;
use crate::bundle::Bundle;
use crate::errno;
use crate::init::devices::{check as check_node, describe};
use crate::init::paths::Root;
use crate::known_failures::Failure;
use crate::state::{ContainerState, StateDir};

/// A device that the container was given.
#[derive(Debug)]
struct Device {
    path: PathBuf,
    kind: DeviceKind,
    /// The name of the device that brought this node, if the name can be requested
    /// again.
    name: Option<String>,
}

/// Checks the container of this name.
///
/// # Errors
/// The container does not exist, does not run, or cannot be examined.
pub(super) fn check(root: &Path, id: &str) -> Result<Report> {
    let (_, state) = StateDir::load(root, id)?;
    let root = open_root(&state)?;
    let drivers = fs::read_to_string("/proc/devices").context("read \"/proc/devices\"")?;
    let mut report = Report::default();
    let mut nodes = Vec::new();
    for given in given(&state)? {
        let what = format!("device {:?} ({})", given.path, describe(given.kind));
        if !has_driver(&drivers, given.kind) {
            report.wrong(
                format!(
                    "{what}: no driver uses this number; \
                     perhaps the driver was loaded again and got another"
                ),
                given.hint(id),
            );
        }
        match find(&root, &given) {
            Ok(handle) => nodes.push((given, what, handle)),
            Err(err) => report.wrong(format!("{what}: {}", errno::chain(&err)), given.hint(id)),
        }
    }
    check_rules(&state, &nodes, &mut report)?;
    report.note(format!("devices that are there: {}", nodes.len()));
    Ok(report)
}

impl Device {
    fn hint(&self, id: &str) -> String {
        match &self.name {
            Some(name) => format!(
                "\"teu update --device-rm {name} {id}\", and then the same with --device-add"
            ),
            None => "make the container again".to_owned(),
        }
    }
}

fn open_root(state: &ContainerState) -> Result<Root> {
    let path = format!("/proc/{}/root", state.pid);
    let root = Root::at(Path::new(&path));
    // Check init after reading below /proc/PID: if it is alive now, the pid was not reused.
    ensure!(state.init_is_alive()?, Failure::NotRunning);
    root.with_context(|| format!("open {path:?}"))
}

/// Returns the nodes that named devices brought, and other nodes of the container's
/// config.json.
fn given(state: &ContainerState) -> Result<Vec<Device>> {
    let mut all = Vec::new();
    if !state.devices.dev_is_the_hosts {
        let bundle = Bundle::open_again(&state.bundle)?;
        let linux = bundle.spec.linux().as_ref();
        let listed = linux.and_then(|linux| linux.devices().as_deref());
        all.extend(
            device_nodes(listed.unwrap_or_default())?
                .into_iter()
                .map(|node| Device {
                    path: node.path,
                    kind: node.kind,
                    name: None,
                }),
        );
    }
    for device in &state.devices.list {
        // Devices of --gpus have no name by which they can be requested again.
        let has_name = device.name.contains('=') || device.name.starts_with('/');
        for node in &device.brought.nodes {
            all.retain(|other: &Device| other.path != node.path);
            all.push(Device {
                path: node.path.clone(),
                kind: node.kind,
                name: has_name.then(|| device.name.clone()),
            });
        }
    }
    Ok(all)
}

/// Returns a handle on the node, if it is the expected device.
fn find(root: &Root, given: &Device) -> Result<OwnedFd> {
    let handle = match root.resolve(&given.path) {
        Err(Errno::NOENT) => bail!("it is not there"),
        found => found.context("look up")?,
    };
    let found = fstat(&handle).context("stat")?;
    ensure!(
        check_node(&found, given.kind).is_ok(),
        "something else is there"
    );
    Ok(handle)
}

/// Returns whether /proc/devices has a driver for the number.
fn has_driver(drivers: &str, kind: DeviceKind) -> bool {
    let (section, major) = match kind {
        DeviceKind::Character { major, .. } => ("Character devices:", major),
        DeviceKind::Block { major, .. } => ("Block devices:", major),
        DeviceKind::Fifo => return true,
    };
    let lines = drivers.lines().skip_while(|line| *line != section).skip(1);
    let mut lines = lines.take_while(|line| !line.is_empty());
    lines.any(|line| {
        let number = line.split_whitespace().next();
        number.and_then(|word| word.parse().ok()) == Some(major)
    })
}

/// Checks that the kernel allows exactly the access that the rules allow.
fn check_rules(
    state: &ContainerState,
    nodes: &[(Device, String, OwnedFd)],
    report: &mut Report,
) -> Result<()> {
    let rules = state.limits.devices.as_deref();
    let Some(rules) = rules.filter(|_| !state.cgroup.is_empty()) else {
        report.note("it has no cgroup with device rules".to_owned());
        return Ok(());
    };
    if state.is_frozen()? {
        report.note("it is paused, so nobody can ask for its device rules".to_owned());
        return Ok(());
    }
    let handles: Vec<&OwnedFd> = nodes.iter().map(|(_, _, handle)| handle).collect();
    for ((given, what, _), allowed) in nodes.iter().zip(ask(state, &handles)?) {
        for (access, word, allowed) in [
            (Access::READ, "reading", allowed & READ != 0),
            (Access::WRITE, "writing", allowed & WRITE != 0),
        ] {
            let fault = match (expected(rules, given.kind, access), allowed) {
                (Some(true), false) => "its rule is gone: the kernel denies",
                (Some(false), true) => "its rules deny, and the kernel allows",
                _ => continue,
            };
            report.wrong(format!("{what}: {fault} {word}"), given.hint(&state.id));
        }
    }
    Ok(())
}

/// Returns whether the rules allow the access, or `None` for a fifo, which has no
/// rules.
fn expected(rules: &[DeviceRule], kind: DeviceKind, access: Access) -> Option<bool> {
    let (kind, number) = match kind {
        DeviceKind::Character { major, minor } => {
            (teu_cgroups::DeviceKind::Character, (major, minor))
        }
        DeviceKind::Block { major, minor } => (teu_cgroups::DeviceKind::Block, (major, minor)),
        DeviceKind::Fifo => return None,
    };
    Some(rules_allow(rules, kind, number, access))
}

/// The bits of an answer.
const READ: u8 = 1;
const WRITE: u8 = 2;

/// More time than a process needs for all devices.
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns, for each node, the access that a process in the container's cgroup has.
/// Forks a process for this and moves it there. The process opens no node, because that
/// could load a module.
fn ask(state: &ContainerState, nodes: &[&OwnedFd]) -> Result<Vec<u8>> {
    let init = Pid::from_raw(state.pid);
    // A service manager in the container may have moved init to a cgroup below.
    let mut cgroup = match Cgroup::v2_of(init)? {
        Some(cgroup) => cgroup,
        None => Cgroup::open(&state.cgroup),
    };
    // Check init after reading below /proc/PID: if it is alive now, the pid was not reused.
    ensure!(state.init_is_alive()?, Failure::NotRunning);
    let ends = UnixStream::pair().context("make a pair of sockets")?;
    let child = |mut childs: UnixStream, _| {
        let asked = childs.read_exact(&mut [0]).and_then(|()| {
            let answers: Vec<u8> = nodes.iter().map(|node| answer(node)).collect();
            childs.write_all(&answers)
        });
        i32::from(asked.is_err())
    };
    let (child, mut ours) = spawn(&NamespacePlan::default(), None, ends, child)?;
    ours.set_read_timeout(Some(PATIENCE))
        .context("set a timeout")?;
    cgroup.enter(child.pid(), Entered::default())?;
    let mut answers = vec![0; nodes.len()];
    let asked = ours
        .write_all(&[0])
        .and_then(|()| ours.read_exact(&mut answers));
    asked.context("ask a process in the container's cgroup")?;
    Ok(answers)
}

/// Returns the access of this process. access(2) makes the kernel check the device
/// rules as open(2) does, and only these rules cause EPERM.
fn answer(node: &OwnedFd) -> u8 {
    let path = format!("/proc/self/fd/{}", node.as_raw_fd());
    let may = |access, bit| {
        let denied = accessat(CWD, &path, access, AtFlags::empty()) == Err(Errno::PERM);
        if denied { 0 } else { bit }
    };
    may(rustix::fs::Access::READ_OK, READ) | may(rustix::fs::Access::WRITE_OK, WRITE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drivers_are_of_one_kind() {
        let drivers = "Character devices:\n  1 mem\n195 nvidia\n\nBlock devices:\n  8 sd\n";
        let minor = 0;
        for (major, is_character, is_block) in [
            (1, true, false),
            (195, true, false),
            (8, false, true),
            (19, false, false),
        ] {
            assert_eq!(
                has_driver(drivers, DeviceKind::Character { major, minor }),
                is_character
            );
            assert_eq!(
                has_driver(drivers, DeviceKind::Block { major, minor }),
                is_block
            );
        }
        assert!(has_driver(drivers, DeviceKind::Fifo));
    }
}
