//! Sets how likely the kernel kills a process when memory runs out
//! (proc_pid_oom_score_adj(5)). The parent does this, because lowering it takes a
//! privilege of the host.

use std::fs;

use anyhow::{Context, Result};

use crate::errno;

const OWN: &str = "/proc/self/oom_score_adj";

/// Sets the adjustment of the process `pid`.
pub(crate) fn set(pid: i32, adjustment: i32) -> Result<()> {
    write(
        &format!("/proc/{pid}/oom_score_adj"),
        &adjustment.to_string(),
    )
}

fn write(path: &str, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("write {} to {path:?}", text.trim()))
}

/// A changed adjustment of this process, for its next child to inherit. Dropping it
/// restores the adjustment from before. `exec` needs this because its child is not dumpable:
/// the child's /proc/PID/oom_score_adj belongs to root then, and a caller without root could
/// not write it.
#[derive(Debug)]
pub(crate) struct Borrowed {
    /// `None` if there was nothing to change.
    before: Option<String>,
}

impl Borrowed {
    /// Changes the adjustment of this process.
    ///
    /// # Errors
    /// The adjustment cannot be read or set.
    pub(crate) fn new(adjustment: i32) -> Result<Borrowed> {
        let before = fs::read_to_string(OWN).with_context(|| format!("read {OWN:?}"))?;
        let wanted = adjustment.to_string();
        if before.trim() == wanted {
            return Ok(Borrowed { before: None });
        }
        write(OWN, &wanted)?;
        Ok(Borrowed {
            before: Some(before),
        })
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(before) = &self.before
            && let Err(err) = write(OWN, before)
        {
            log::warn!("{}", errno::chain(&err));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    #[test]
    fn a_child_inherits_the_adjustment_its_parent_had() {
        testing::in_child(|| {
            let own = || fs::read_to_string(OWN).expect("read");
            let before = own();
            let borrowed = Borrowed::new(777).expect("set");
            assert_eq!(own().trim(), "777");
            drop(borrowed);
            assert_eq!(own(), before);
        });
    }

    #[test]
    fn the_adjustment_of_another_process() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("sleep");
        let pid = child.id().cast_signed();
        set(pid, 77).expect("score");
        let score = fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("score");
        child.kill().expect("kill");
        child.wait().expect("wait");
        assert_eq!(score.trim(), "77");
    }
}
