//! Stops all processes of a cgroup for a while (cgroups(7), "freezer").

use std::path::Path;

use crate::Cgroup;
use crate::directory::Directory;
use crate::error::{Error, Result};
use crate::{v1, v2};

impl Cgroup {
    pub(crate) fn has_freezer(&self) -> bool {
        self.v1_directory("freezer").is_some() || self.v2.is_some()
    }

    /// Freezes the cgroup until [`Cgroup::thaw`]. Freezing a cgroup below it, as the container
    /// may do, does not freeze this one.
    ///
    /// # Errors
    /// Returns an error if there is no freezer, or if the kernel does not freeze all processes in
    /// time.
    pub fn freeze(&self) -> Result<()> {
        self.with_freezer(v1::freezer::freeze, v2::freezer::freeze)
    }

    /// Thaws the cgroup.
    ///
    /// # Errors
    /// Returns an error if there is no freezer, or if the kernel refuses.
    pub fn thaw(&self) -> Result<()> {
        self.with_freezer(v1::freezer::thaw, v2::freezer::thaw)
    }

    /// Thaws this cgroup, so that a pending SIGKILL takes effect; on v1 its descendants, too. On
    /// v2 they stay frozen, because SIGKILL takes effect there anyway. Succeeds if none of them
    /// is frozen.
    ///
    /// # Errors
    /// Returns an error if the kernel refuses.
    pub fn thaw_tree(&self) -> Result<()> {
        match self.has_freezer() {
            true => self.with_freezer(v1::freezer::thaw_tree, v2::freezer::thaw_tree),
            false => Ok(()),
        }
    }

    /// Returns whether the cgroup is frozen, by itself or by one above it.
    ///
    /// # Errors
    /// Returns an error if there is no freezer, or if its state cannot be read.
    pub fn is_frozen(&self) -> Result<bool> {
        self.with_freezer(v1::freezer::is_frozen, v2::freezer::is_frozen)
    }

    fn with_freezer<T>(
        &self,
        on_v1: fn(&Directory) -> Result<T>,
        on_v2: fn(&Directory) -> Result<T>,
    ) -> Result<T> {
        match (self.v1_directory("freezer"), &self.v2) {
            (Some(directory), _) => on_v1(directory),
            (None, Some(directory)) => on_v2(directory),
            (None, None) => Err(Error::NoFreezer),
        }
    }

    /// Returns the directory whose freezer freezes the container, if there is one.
    pub fn freezer(&self) -> Option<&Path> {
        let directory = self.v1_directory("freezer").or(self.v2.as_ref());
        directory.map(|directory| directory.path.as_path())
    }
}
