//! The trace file of `--trace`: the duration of each step, in the JSON array format of Chrome's
//! trace events, which Perfetto and chrome://tracing show.
//!
//! Every command appends to the file, and writes each event with one write(2), so that commands
//! in a row and concurrent processes share one picture. The closing bracket of the array is
//! omitted, as the format allows. The picture shows each command as a process. It shows init,
//! and other processes that the command forks into a container, as threads of the command: their
//! ids belong to the container's pid namespace, so two commands may have the same ones.

use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use serde_json::{Value, json};

#[derive(Debug)]
pub(super) struct Trace {
    file: File,
    /// The process of the command.
    pid: i32,
    /// The thread whose name was written last. The name of another thread is written first.
    named: AtomicI32,
    /// The end of the last step, in microseconds since the epoch, because no time namespace
    /// shifts this clock.
    last_step: AtomicU64,
}

/// An event, with the names of the format.
#[derive(Debug, Serialize)]
struct Event<'a> {
    name: &'a str,
    /// The type: "X" is a step with its duration, "M" names a process or a thread.
    ph: &'static str,
    pid: i32,
    tid: i32,
    /// The start, in microseconds.
    ts: u64,
    /// The duration, in microseconds.
    dur: u64,
    #[serde(skip_serializing_if = "Value::is_null")]
    args: Value,
}

impl Trace {
    /// Starts the part of `file` for the command line `words`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn begin(mut file: File, words: &str) -> io::Result<Trace> {
        // Of commands that begin at the same time, one opens the array.
        flock(&file, FlockOperation::LockExclusive)?;
        if file.metadata()?.len() == 0 {
            file.write_all(b"[\n")?;
        }
        flock(&file, FlockOperation::Unlock)?;
        let trace = Trace {
            file,
            pid: rustix::process::getpid().as_raw_pid(),
            named: AtomicI32::new(0),
            last_step: AtomicU64::new(now()),
        };
        trace.write("process_name", "M", (0, 0), json!({ "name": words }))?;
        Ok(trace)
    }

    /// Writes a step of this process, which started with the end of the previous step and
    /// ends now.
    ///
    /// # Errors
    /// The file cannot be written.
    pub(super) fn step(&self, name: &str) -> io::Result<()> {
        let tid = tid();
        if self.named.swap(tid, Ordering::Relaxed) != tid {
            let name = if tid == self.pid {
                "parent"
            } else {
                "child in the container"
            };
            self.write("thread_name", "M", (0, 0), json!({ "name": name }))?;
        }
        let end = now();
        let begin = self.last_step.swap(end, Ordering::Relaxed);
        self.write(name, "X", (begin, end.saturating_sub(begin)), Value::Null)
    }

    fn write(
        &self,
        name: &str,
        ph: &'static str,
        (ts, dur): (u64, u64),
        args: Value,
    ) -> io::Result<()> {
        let event = Event {
            name,
            ph,
            pid: self.pid,
            tid: tid(),
            ts,
            dur,
            args,
        };
        let mut line = serde_json::to_vec(&event)?;
        line.extend_from_slice(b",\n");
        (&self.file).write_all(&line)
    }
}

fn tid() -> i32 {
    rustix::thread::gettid().as_raw_pid()
}

fn now() -> u64 {
    let since_epoch = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since_epoch.as_micros()).unwrap_or(u64::MAX)
}
