//! Reads whether SELinux is on and whether AppArmor confines this process.

use std::fs;

use anyhow::{Context, Result};

use super::Host;

impl Host {
    /// Returns whether SELinux is on. Only then its filesystem exists.
    pub(super) fn has_selinux(&self) -> bool {
        self.path("sys/fs/selinux/enforce").exists()
    }

    /// Returns whether an AppArmor profile confines this process. A profile in mode
    /// "unconfined" does not.
    ///
    /// # Errors
    /// The profile cannot be read.
    pub(super) fn is_confined_by_apparmor(&self) -> Result<bool> {
        let label = fs::read_to_string(self.path("proc/self/attr/apparmor/current"));
        let label = label.context("read the AppArmor profile of this process")?;
        let label = label.trim_end_matches(['\n', '\0']);
        Ok(label != "unconfined" && !label.ends_with(" (unconfined)"))
    }
}
