//! The flags of clone(2), unshare(2) and setns(2) for the kinds of namespace.

use nix::sched::CloneFlags;

use crate::Kind;

/// Returns the `CLONE_NEW*` flag of a kind.
pub(crate) fn flag(kind: Kind) -> CloneFlags {
    match kind {
        Kind::User => CloneFlags::CLONE_NEWUSER,
        Kind::Mount => CloneFlags::CLONE_NEWNS,
        Kind::Pid => CloneFlags::CLONE_NEWPID,
        Kind::Network => CloneFlags::CLONE_NEWNET,
        Kind::Ipc => CloneFlags::CLONE_NEWIPC,
        Kind::Uts => CloneFlags::CLONE_NEWUTS,
        Kind::Cgroup => CloneFlags::CLONE_NEWCGROUP,
        // nix has no CLONE_NEWTIME (Linux 5.6).
        Kind::Time => CloneFlags::from_bits_retain(libc::CLONE_NEWTIME),
    }
}
