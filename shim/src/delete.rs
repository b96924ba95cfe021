//! `delete`: removes what remains of a container whose server is gone or has already
//! reported the container's end.
//!
//! containerd calls it at the end of nearly every container. Usually nothing remains, so
//! that is checked first.

use std::fs;
use std::io::{self, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use prost::Message;

use crate::Runtime;
use crate::invocation::Invocation;
use crate::mounts::unmount_recursive;
use crate::options::Options;
use crate::proto::Timestamp;
use crate::proto::task::DeleteResponse;
use crate::socket::Socket;
use crate::spawner;

/// The status of a process killed by SIGKILL, because a caller of `delete` has learned no other
/// status.
const KILLED: u32 = 128 + 9;

/// Deletes the container, unmounts its root filesystem, removes the socket, and answers.
/// All steps are tried. Their errors go to stderr, which containerd logs.
pub(crate) fn delete(invocation: &Invocation, runtime: &dyn Runtime) -> Result<()> {
    let bundle = &invocation.bundle;
    let socket = Socket::noted_in(bundle).filter(|socket| !socket.is_served());
    if socket.is_some() {
        spawner::wait_for_end(bundle);
    }
    for tried in [
        delete_container(invocation, runtime),
        unmount_recursive(&bundle.join("rootfs")),
        socket.map_or(Ok(()), |socket| socket.remove()),
    ] {
        if let Err(err) = tried {
            eprintln!("{}", teu_errno::chain(&err));
        }
    }
    let pid = fs::read_to_string(bundle.join("init.pid"));
    let response = DeleteResponse {
        // The container may have died before the pid was written.
        pid: pid
            .ok()
            .and_then(|pid| pid.trim().parse().ok())
            .unwrap_or(0),
        exit_status: KILLED,
        exited_at: Some(Timestamp::now()),
    };
    let mut stdout = io::stdout();
    stdout
        .write_all(&response.encode_to_vec())
        .context("write the answer")?;
    stdout.flush().context("write the answer")
}

/// Calls the runtime's `delete` if the runtime has a state directory for the container.
fn delete_container(invocation: &Invocation, runtime: &dyn Runtime) -> Result<()> {
    let options = Options::saved(&invocation.bundle)?;
    let root = options.state_root(&invocation.namespace);
    if !root.join(&invocation.id).exists() {
        return Ok(());
    }
    let log = invocation.bundle.join("log.json");
    let args = ["--root".into(), root.into(), "--log".into(), log.into()].into_iter();
    let rest = ["--log-format", "json", "delete", "--force", &invocation.id];
    let args = args.chain(rest.map(Into::into)).collect();
    let is_done = match options.binary_name.as_str() {
        "" => runtime.run(args) == 0,
        // Its stdout must not mix with the answer.
        other => Command::new(other)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .status()
            .with_context(|| format!("run {other:?}"))?
            .success(),
    };
    ensure!(is_done, "delete container {:?}", invocation.id);
    Ok(())
}
