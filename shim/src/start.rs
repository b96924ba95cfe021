//! `start`: starts a server for the container, or finds the running server of its group.
//!
//! containerd takes everything on stdout and stderr for the answer. So nothing else is
//! written there, and the server does not inherit them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::process::{CommandExt, parent_id};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio, id};

use anyhow::{Context, Result, ensure};
use rustix::process::getpid;
use rustix::thread::{CoreSchedulingScope, create_core_scheduling_cookie};
use serde::Deserialize;

use crate::bootstrap::Bootstrap;
use crate::invocation::{EVENTS_ADDRESS, Invocation};
use crate::socket::{Listening, Socket};

/// The maximum length of stdin; containerd's own shim has the same.
const MAX_STDIN: u64 = 10 << 20;

/// The annotations that may name the container's group. The first that is present counts.
const GROUPS: [&str; 2] = [
    "io.containerd.runc.v2.group",
    "io.kubernetes.cri.sandbox-id",
];

const CGROUPS: &str = "/sys/fs/cgroup";

/// Starts or finds the server and writes its address to stdout.
pub(crate) fn start(invocation: &Invocation) -> Result<()> {
    let mut stdin = Vec::new();
    io::stdin()
        .take(MAX_STDIN)
        .read_to_end(&mut stdin)
        .context("read stdin")?;
    let bootstrap = Bootstrap::read(&stdin, invocation)?;
    let group = group(invocation)?;
    let namespace = &invocation.namespace;
    let socket = Socket::new(&bootstrap.socket_dir, &bootstrap.address, namespace, &group);
    if let Some(listening) = socket.listen()? {
        enter_shim_cgroup(&bootstrap.options.shim_cgroup)?;
        raise_oom_score()?;
        share_cores()?;
        start_server(invocation, &bootstrap, &listening)?;
        listening.keep();
    }
    socket.note_in(&invocation.bundle)?;
    let mut stdout = io::stdout();
    stdout
        .write_all(&bootstrap.answer(socket.address()))
        .context("write the answer")?;
    stdout.flush().context("write the answer")
}

/// The container's group. Without an annotation, the container is a group of its own.
fn group(invocation: &Invocation) -> Result<String> {
    #[derive(Deserialize)]
    struct Config {
        annotations: Option<BTreeMap<String, String>>,
    }
    let path = invocation.bundle.join("config.json");
    let json = fs::read(&path).with_context(|| format!("read {path:?}"))?;
    let config: Config = serde_json::from_slice(&json).with_context(|| format!("read {path:?}"))?;
    let annotations = config.annotations.unwrap_or_default();
    let group = GROUPS.iter().find_map(|name| annotations.get(*name));
    Ok(group.unwrap_or(&invocation.id).clone())
}

/// Moves this process, and so the server that it starts, into an existing cgroup: on
/// cgroup v1, in all hierarchies that have a cgroup of this name.
fn enter_shim_cgroup(cgroup: &str) -> Result<()> {
    if cgroup.is_empty() {
        return Ok(());
    }
    let mut members = members_files(Path::new(CGROUPS), cgroup)?;
    members.retain(|file| file.exists());
    ensure!(!members.is_empty(), "shim cgroup {cgroup:?} does not exist");
    for file in members {
        fs::write(&file, id().to_string()).with_context(|| format!("write {file:?}"))?;
    }
    Ok(())
}

/// The files `cgroup.procs` that the cgroup may have.
fn members_files(root: &Path, cgroup: &str) -> Result<Vec<PathBuf>> {
    let members = Path::new(cgroup.trim_start_matches('/')).join("cgroup.procs");
    if root.join("cgroup.controllers").exists() {
        return Ok(vec![root.join(members)]);
    }
    let hierarchies = fs::read_dir(root).with_context(|| format!("read {root:?}"))?;
    let files = hierarchies.map(|entry| Ok(entry?.path().join(&members)));
    files
        .collect::<io::Result<_>>()
        .with_context(|| format!("read {root:?}"))
}

/// Makes the kernel's OOM killer choose the server before containerd.
fn raise_oom_score() -> Result<()> {
    let containerd = format!("/proc/{}/oom_score_adj", parent_id());
    let score = fs::read_to_string(&containerd).with_context(|| format!("read {containerd:?}"))?;
    let score: i32 = score
        .trim()
        .parse()
        .with_context(|| format!("read {containerd:?}"))?;
    let own = "/proc/self/oom_score_adj";
    fs::write(own, (score + 1).min(1000).to_string()).with_context(|| format!("write {own:?}"))
}

/// If containerd sets SCHED_CORE, allows only processes of this group, which are the server
/// and its containers, to run on the threads of one core at the same time.
fn share_cores() -> Result<()> {
    if std::env::var_os("SCHED_CORE").is_none_or(|value| value.is_empty()) {
        return Ok(());
    }
    create_core_scheduling_cookie(getpid(), CoreSchedulingScope::ProcessGroup)
        .context("enable sched core support")
}

/// Executes the server, with the listening socket as its stdin.
fn start_server(
    invocation: &Invocation,
    bootstrap: &Bootstrap,
    listening: &Listening,
) -> Result<()> {
    let name = std::env::args_os().next().unwrap_or_default();
    let mut server = Command::new("/proc/self/exe");
    server
        .arg0(name)
        .args(["-namespace", &invocation.namespace, "-id", &invocation.id])
        .args(["-address", &bootstrap.address])
        .args(bootstrap.debug.then_some("-debug"))
        .env(EVENTS_ADDRESS, &bootstrap.events_address)
        // Remove the variables that systemd has set for containerd's service. With
        // NOTIFY_SOCKET, a container could tell systemd that containerd is ready.
        .env_remove("NOTIFY_SOCKET")
        .env_remove("LISTEN_FDS")
        .env_remove("LISTEN_PID")
        .current_dir(&invocation.bundle)
        .process_group(0)
        .stdin(listening.descriptor()?)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    // When this process ends, the server becomes a child of containerd or of init.
    server.spawn().context("start the server")?;
    Ok(())
}
