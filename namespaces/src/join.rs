//! Opens existing namespaces, checks their kinds, and joins them (setns(2)).
//!
//! A path is opened before anything is made, so that a wrong path leaves nothing
//! behind. In which order namespaces are joined is decided in `clone.rs`.

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

use nix::errno::Errno;
use nix::sched::setns;

use crate::clone_flags::flag;
use crate::error::{Error, Result};
use crate::{Kind, NamespacePlan, sys};

/// A namespace to join, opened and checked.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) kind: Kind,
    path: PathBuf,
    file: File,
}

/// Opens every namespace that the plan joins.
///
/// # Errors
/// Returns an error if a path does not exist, is not a namespace, or is a namespace
/// of another kind.
pub(crate) fn open_all(plan: &NamespacePlan) -> Result<Vec<Target>> {
    Kind::ALL
        .into_iter()
        .filter_map(|kind| plan.joined(kind).map(|path| open(kind, path.into())))
        .collect()
}

/// Opens the namespace at `path`.
///
/// # Errors
/// As [`open_all`].
pub(crate) fn open(kind: Kind, path: PathBuf) -> Result<Target> {
    let name = kind.spec_name();
    let doing = || format!("{name} namespace path {path:?}");
    // O_NONBLOCK, because opening a fifo would wait for a writer.
    let file = File::options()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(&path)
        .map_err(|err| Error::new(doing(), err))?;
    match sys::namespace_type(&file) {
        Ok(found) if found == flag(kind) => Ok(Target { kind, path, file }),
        Ok(_) => Err(Error::message(format!(
            "{}: it is a namespace of another kind",
            doing()
        ))),
        Err(err) if err.raw_os_error() == Some(libc::ENOTTY) => Err(Error::message(format!(
            "{}: it is not a namespace",
            doing()
        ))),
        Err(err) => Err(Error::new(doing(), err)),
    }
}

impl Target {
    /// Joins the namespace. A pid namespace takes effect for the next child only.
    pub(crate) fn join(&self) -> Result<()> {
        let doing = || format!("join {} namespace {:?}", self.kind.spec_name(), self.path);
        setns(self.file.as_fd(), flag(self.kind)).map_err(|err| Error::new(doing(), err))
    }

    /// Returns whether the namespace is known to be this process's own. If that
    /// cannot be found out, it returns false, so that the caller joins the namespace.
    pub(crate) fn is_own(&self) -> bool {
        let number = |file: &File| file.metadata().map(|meta| (meta.dev(), meta.ino()));
        let own = own(self.kind).map(|own| number(&own.file));
        matches!((own, number(&self.file)), (Ok(Ok(own)), Ok(this)) if own == this)
    }

    /// Joins the namespace. Returns false if the caller is not permitted to.
    pub(crate) fn try_join(&self) -> Result<bool> {
        match setns(self.file.as_fd(), flag(self.kind)) {
            Ok(()) => Ok(true),
            Err(Errno::EPERM) => Ok(false),
            Err(err) => Err(Error::new(
                format!("join {} namespace {:?}", self.kind.spec_name(), self.path),
                io::Error::from(err),
            )),
        }
    }
}

/// Joins the namespaces that the caller's present privileges allow, and returns the
/// others. They are owned by a user namespace that is yet to be joined.
///
/// # Errors
/// Returns an error if the kernel refuses with another error than EPERM.
pub(crate) fn join_permitted(targets: Vec<Target>) -> Result<Vec<Target>> {
    let mut rest = Vec::new();
    for target in targets {
        if !target.try_join()? {
            rest.push(target);
        }
    }
    Ok(rest)
}

/// Opens this process's own namespace of a kind, in order to return to it later.
pub(crate) fn own(kind: Kind) -> Result<Target> {
    open(kind, format!("/proc/self/ns/{}", kind.proc_name()).into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Namespace;

    fn refusal(kind: Kind, path: &str) -> String {
        let mut plan = NamespacePlan::default();
        plan.set(kind, Namespace::Joined(path.into()));
        teu_errno::line(&open_all(&plan).expect_err("refused"))
    }

    #[test]
    fn a_path_that_is_not_the_namespace_is_refused_by_name() {
        assert_eq!(
            refusal(Kind::Network, "/proc/self/status"),
            "network namespace path \"/proc/self/status\": it is not a namespace"
        );
        assert_eq!(
            refusal(Kind::Ipc, "/proc/self/ns/net"),
            "ipc namespace path \"/proc/self/ns/net\": it is a namespace of another kind"
        );
        assert_eq!(
            refusal(Kind::User, "/nowhere"),
            "user namespace path \"/nowhere\": no such file or directory"
        );
    }
}
