//! `delete`: what is left of a container whose server is gone, or has told of its end.
//!
//! containerd calls it at the end of nearly every container, when mostly nothing is
//! left; so that is found out first.

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

/// As if it was killed: who asks here has not heard of another end.
const KILLED: u32 = 128 + 9;

/// Does it. All of it is tried; what cannot be done is said on stderr, which containerd
/// logs.
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
        // It may have died before it had one.
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

/// Has the runtime delete the container, if it knows one.
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
        // Its stdout is not the answer.
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
