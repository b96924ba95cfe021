//! Reads `/proc/PID/stat` (proc_pid_stat(5)).

use std::fs::File;
use std::io::{self, Read};

use anyhow::{Context, Result};

/// The used fields of `/proc/PID/stat`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    state: u8,
    pub(crate) start_time: u64,
}

impl ProcessStat {
    /// Reads the fields of the process `pid`; `None` if there is no such process.
    ///
    /// # Errors
    /// The file cannot be read for another reason.
    pub(crate) fn read(pid: i32) -> Result<Option<ProcessStat>> {
        let path = format!("/proc/{pid}/stat");
        // The file has one line, which is always shorter than this.
        let mut line = [0; 1024];
        let length = match File::open(&path).and_then(|mut file| file.read(&mut line)) {
            Ok(length) => length,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            // The process has just ended.
            Err(err) if err.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            Err(err) => return Err(err).with_context(|| format!("read {path:?}")),
        };
        let stat = ProcessStat::parse(&String::from_utf8_lossy(&line[..length]));
        stat.map(Some).with_context(|| format!("read {path:?}"))
    }

    /// Parses the line. Fields count from the last closing parenthesis, because the
    /// name in parentheses may contain any byte.
    fn parse(stat: &str) -> Option<ProcessStat> {
        let fields = &stat[stat.rfind(')')? + 1..];
        let mut fields = fields.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let start_time = fields.nth(18)?.parse().ok()?;
        Some(ProcessStat { state, start_time })
    }

    /// Returns whether the process has not ended.
    pub(crate) fn is_alive(self) -> bool {
        !matches!(self.state, b'Z' | b'X')
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

    use super::*;

    #[test]
    fn a_process_with_a_strange_name_has_a_start_time() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4711 1 1";
        let parsed = ProcessStat::parse(stat).expect("parses");
        assert_eq!(
            parsed,
            ProcessStat {
                state: b'S',
                start_time: 4711
            }
        );
    }

    #[test]
    fn a_process_that_ended_and_was_not_reaped_is_not_alive() {
        let mut child = Command::new("true").spawn().expect("start a process");
        let pid = i32::try_from(child.id()).expect("a pid");
        let ended = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&child)), ended).expect("wait without reaping");
        let stat = ProcessStat::read(pid).expect("read").expect("a zombie");
        assert!(!stat.is_alive(), "{stat:?}");
        child.wait().expect("reap");
        assert_eq!(ProcessStat::read(pid).expect("read"), None);
    }
}
