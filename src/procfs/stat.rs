//! What the kernel says of a process in `/proc/PID/stat`.

use std::fs::File;
use std::io::{self, Read};

use anyhow::{Context, Result};

/// What `/proc/PID/stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    state: u8,
    pub(crate) start_time: u64,
}

impl ProcessStat {
    /// `None` if there is no such process.
    ///
    /// # Errors
    /// There may be one, but it cannot be looked at.
    pub(crate) fn read(pid: i32) -> Result<Option<ProcessStat>> {
        let path = format!("/proc/{pid}/stat");
        // One line, always shorter than this.
        let mut line = [0; 1024];
        let length = match File::open(&path).and_then(|mut file| file.read(&mut line)) {
            Ok(length) => length,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(None),
            // It ended in between.
            Err(err) if err.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
            Err(err) => return Err(err).with_context(|| format!("read {path:?}")),
        };
        let stat = ProcessStat::parse(&String::from_utf8_lossy(&line[..length]));
        stat.map(Some).with_context(|| format!("read {path:?}"))
    }

    /// The name in parentheses may itself hold any byte: fields count from the
    /// last closing one.
    fn parse(stat: &str) -> Option<ProcessStat> {
        let fields = &stat[stat.rfind(')')? + 1..];
        let mut fields = fields.split_ascii_whitespace();
        let state = *fields.next()?.as_bytes().first()?;
        let start_time = fields.nth(18)?.parse().ok()?;
        Some(ProcessStat { state, start_time })
    }

    /// Whether it has not ended.
    pub(crate) fn is_alive(self) -> bool {
        !matches!(self.state, b'Z' | b'X')
    }
}

#[cfg(test)]
mod tests {
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
}
