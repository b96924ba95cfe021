//! `teu create`: make a container from a bundle, up to the moment before its
//! program starts.

use anyhow::{Result, bail};
use std::path::PathBuf;

/// What `create` needs to know.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The directory of all state, absolute.
    pub(crate) root: PathBuf,
    /// Whether systemd makes the cgroup.
    pub(crate) systemd_cgroup: bool,
    /// Whether missing permission for cgroups is no error.
    pub(crate) rootless: Rootless,
    /// The name of the container, not checked yet.
    pub(crate) id: String,
    /// The bundle's directory, "." if not given.
    pub(crate) bundle: PathBuf,
    /// Where the terminal goes.
    pub(crate) console_socket: Option<PathBuf>,
    /// Where a pidfd of init goes.
    pub(crate) pidfd_socket: Option<PathBuf>,
    /// Where the process id of init is written, absolute.
    pub(crate) pid_file: Option<PathBuf>,
    /// Whether to move the mount and chroot instead of pivot_root.
    pub(crate) no_pivot: bool,
    /// Whether to stay in the caller's session keyring.
    pub(crate) no_new_keyring: bool,
    /// How many descriptors beyond standard input, output, error and
    /// `$LISTEN_FDS` the container gets.
    pub(crate) preserve_fds: u32,
}

/// The value of `--rootless`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rootless {
    /// Decide by the user and the user namespace.
    Auto,
    Yes,
    No,
}

pub(crate) fn create(options: &Options) -> Result<()> {
    bail!("container {:?}: create is not built yet", options.id)
}
