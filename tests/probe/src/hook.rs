//! The probe as a hook: records its call.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::modes;

/// Appends a line of JSON to `file`: arguments, environment, working directory, the state on
/// stdin, the executable, namespaces and the root directory's inode.
///
/// The state is null if stdin is not JSON.
pub(crate) fn record(file: &Path) -> io::Result<()> {
    let mut stdin = String::new();
    io::stdin().read_to_string(&mut stdin)?;
    let state = serde_json::from_str::<Value>(&stdin).ok();
    let pid = state.as_ref().map(|state| &state["pid"]);
    let exe = pid.and_then(|pid| fs::read_link(format!("/proc/{pid}/exe")).ok());
    let root = fs::metadata("/")?;
    let call = json!({
        "argv": std::env::args().collect::<Vec<_>>(),
        "env": std::env::vars().map(|(name, value)| (name, json!(value))).collect::<Map<_, _>>(),
        "cwd": std::env::current_dir().ok(),
        "state": state,
        "exe": exe,
        "namespaces": namespaces(),
        "root": { "dev": root.dev(), "ino": root.ino() },
        "pid": modes::own_pid(),
    });
    let mut file = OpenOptions::new().append(true).create(true).open(file)?;
    // A single write, so that lines of several hooks do not mix.
    file.write_all(format!("{call}\n").as_bytes())
}

fn namespaces() -> Map<String, Value> {
    let entries = fs::read_dir("/proc/self/ns")
        .into_iter()
        .flatten()
        .flatten();
    entries
        .filter_map(|entry| {
            let link = fs::read_link(entry.path()).ok()?;
            Some((
                entry.file_name().to_string_lossy().into_owned(),
                json!(link),
            ))
        })
        .collect()
}
