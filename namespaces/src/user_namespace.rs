//! Makes user namespaces that exist only for their id maps: mount_setattr(2) takes
//! one with MOUNT_ATTR_IDMAP.
//!
//! A child holds the namespace while its maps are written; after that, the returned
//! descriptor does. The mount itself is the caller's work.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

use nix::sched::CloneFlags;

use crate::clone::Child;
use crate::error::{Error, Result};
use crate::sys::{self, Cloned, Parent};
use crate::{IdMaps, id_maps};

/// Makes a user namespace with these maps and without a process in it.
///
/// The caller must be single-threaded.
///
/// # Errors
/// Returns an error if the kernel refuses the namespace or its maps.
pub fn with_maps(maps: &IdMaps) -> Result<OwnedFd> {
    let doing = "make a user namespace for an id map";
    let (caller, mut child) = UnixStream::pair().map_err(|err| Error::new("socketpair", err))?;
    let cloned = sys::clone3(CloneFlags::CLONE_NEWUSER, None, Parent::Caller);
    let process = match cloned.map_err(|err| Error::new(doing, err))? {
        Cloned::Child => {
            drop(caller);
            // Hold the namespace until the parent kills this child or exits. The
            // parent sends nothing.
            child.read_exact(&mut [0]).ok();
            sys::exit_now(0)
        }
        Cloned::Parent(pid, pidfd) => Child::new(pid, pidfd, false),
    };
    id_maps::write(process.pid(), maps)?;
    let path = format!("/proc/{}/ns/user", process.pid());
    let namespace = File::open(&path).map_err(|err| Error::new(format!("open {path:?}"), err))?;
    drop(caller);
    Ok(namespace.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IdMap;
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    // Needs root.
    #[test]
    fn the_namespace_has_the_maps() {
        let line = |host| {
            vec![IdMap {
                container: 0,
                host,
                size: 10,
            }]
        };
        let maps = IdMaps {
            uid: line(1000),
            gid: line(2000),
            deny_setgroups: false,
        };
        let namespace = File::from(with_maps(&maps).expect("namespace"));
        let own = fs::metadata("/proc/self/ns/user").expect("stat").ino();
        assert_ne!(namespace.metadata().expect("stat").ino(), own);
        let path = format!(
            "/proc/self/fd/{}",
            std::os::fd::AsRawFd::as_raw_fd(&namespace)
        );
        assert_eq!(id_maps::of_namespace(path.as_ref()).expect("maps"), maps);
    }
}
