//! Translates the container's external mounts, namespaces and streams into CRIU's
//! terms, and looks up where they are. Not for deciding which they are: see
//! `plan/src/external.rs`.

use std::fs;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};
use rustix::io::Errno;
use rustix::stdio::{stderr, stdin, stdout};
use teu_namespaces::{Kind, Namespace, NamespacePlan};
use teu_plan::external::{EXTERNAL_NAMESPACES, External, ExternalMount};

use super::process::FIRST_DESCRIPTOR;
use super::rpc::{self, CgroupRoot, Inherited, JoinedNamespace, MountMap, Options};
use crate::init::paths::{Root, is_directory};

/// The file that covers masked files.
const NULL: &str = "/dev/null";

/// Returns the external mounts of the container whose init is `pid`, for a dump.
///
/// Resolves each destination in the container. The name of the mount is what the
/// destination resolves to in the root filesystem alone, because a restore has only
/// that.
///
/// # Errors
/// The root filesystem cannot be read.
pub(crate) fn for_dump(external: &External, pid: i32, rootfs: &Path) -> Result<Vec<MountMap>> {
    let inside = open_root(Path::new(&format!("/proc/{pid}/root")))?;
    let rootfs = open_root(rootfs)?;
    let mut mounts = Vec::new();
    for destination in &external.mounts {
        let key = locate(&inside, destination)?;
        mounts.push(map(key, locate(&rootfs, destination)?));
    }
    for path in &external.masked {
        match inside.resolve(path) {
            Ok(found) if !is_directory(found.as_fd()).context("stat")? => {
                mounts.push(map(locate(&inside, path)?, NULL));
            }
            // Directories are covered by a filesystem of the container's own.
            Ok(_) | Err(Errno::NOENT) => {}
            Err(err) => return Err(err).with_context(|| format!("look up {path:?}")),
        }
    }
    Ok(mounts)
}

/// Returns what to mount for each external mount, for a restore.
///
/// # Errors
/// The root filesystem cannot be read.
pub(crate) fn for_restore(mounts: &[ExternalMount], rootfs: &Path) -> Result<Vec<MountMap>> {
    let rootfs = open_root(rootfs)?;
    mounts
        .iter()
        .map(|mount| {
            let place = locate(&rootfs, &mount.destination)?;
            // CRIU compares the text of the path with its own mounts. A source that
            // does not exist does not matter if nothing was mounted.
            let source = fs::canonicalize(&mount.source);
            Ok(map(place, source.unwrap_or_else(|_| mount.source.clone())))
        })
        .collect()
}

fn map(key: PathBuf, value: impl Into<PathBuf>) -> MountMap {
    MountMap {
        key: rpc::path(key),
        value: rpc::path(value),
    }
}

fn open_root(path: &Path) -> Result<Root> {
    Root::at(path).with_context(|| format!("open {path:?}"))
}

fn locate(root: &Root, path: &Path) -> Result<PathBuf> {
    let place = root
        .locate(path)
        .with_context(|| format!("look up {path:?}"))?;
    Ok(place.path)
}

/// Returns the namespaces to leave alone, by number and name, for a dump.
///
/// # Errors
/// This CRIU is too old for a namespace, or init has ended.
pub(crate) fn namespaces_for_dump(
    external: &External,
    pid: i32,
    version: u32,
) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (_, word, name, least) in EXTERNAL_NAMESPACES {
        if !external.namespaces.iter().any(|joined| joined == word) {
            continue;
        }
        if version < least {
            bail!(
                "criu lacks support for external {word} namespace during checkpointing process (old criu version?)"
            );
        }
        let path = format!("/proc/{pid}/ns/{word}");
        let namespace = fs::metadata(&path).with_context(|| format!("stat {path:?}"))?;
        found.push(format!("{word}[{}]:{name}", namespace.ino()));
    }
    Ok(found)
}

/// The existing namespaces that a restored container is to join.
#[derive(Debug)]
pub(crate) struct Namespaces {
    /// The namespaces whose descriptors criu inherits.
    inherited: Vec<(&'static str, OwnedFd, u32, &'static str)>,
    joined: Vec<JoinedNamespace>,
}

impl Namespaces {
    /// Opens the namespaces of the plan that have a path.
    ///
    /// # Errors
    /// A namespace does not exist, or CRIU cannot join its kind.
    pub(crate) fn open(plan: &NamespacePlan) -> Result<Namespaces> {
        let mut namespaces = Namespaces {
            inherited: Vec::new(),
            joined: Vec::new(),
        };
        for kind in Kind::ALL {
            let Namespace::Joined(path) = plan.get(kind) else {
                continue;
            };
            let external = EXTERNAL_NAMESPACES.iter().find(|(of, ..)| *of == kind);
            match external {
                Some((_, word, name, least)) => {
                    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                    let opened = openat(CWD, path, flags, Mode::empty())
                        .with_context(|| format!("open the {word} namespace {path:?}"))?;
                    namespaces.inherited.push((name, opened, *least, word));
                }
                None if kind == Kind::Cgroup => {
                    bail!("cgroup namespace {path:?}: CRIU cannot restore into an existing one")
                }
                None => namespaces.joined.push(JoinedNamespace {
                    kind: kind.proc_name().into(),
                    path: rpc::path(path),
                }),
            }
        }
        Ok(namespaces)
    }

    /// Returns the descriptors that criu is to inherit.
    pub(crate) fn descriptors(&self) -> Vec<BorrowedFd<'_>> {
        let inherited = self.inherited.iter();
        inherited.map(|(_, opened, ..)| opened.as_fd()).collect()
    }

    /// Adds the namespaces to a request.
    ///
    /// # Errors
    /// This CRIU is too old for a namespace.
    pub(crate) fn put_into(&self, options: &mut Options, version: u32) -> Result<()> {
        for (number, (name, _, least, word)) in (FIRST_DESCRIPTOR..).zip(&self.inherited) {
            if version < *least {
                bail!(
                    "criu lacks support for external {word} namespace during the restoration process (old criu version?)"
                );
            }
            options.inherited.push(Inherited {
                name: (*name).to_owned(),
                descriptor: number,
            });
        }
        options.joined.clone_from(&self.joined);
        Ok(())
    }
}

/// Returns the names of the standard streams of the process `pid`: the caller's pipes
/// that it inherited, and the names of its other streams.
pub(crate) fn streams(external: &External, pid: i32) -> Vec<String> {
    let name = |(number, pipe): (usize, &String)| match pipe.as_str() {
        // This is most likely a closed stream. A restore looks for pipes only.
        "" => fs::read_link(format!("/proc/{pid}/fd/{number}"))
            .map(|link| link.to_string_lossy().into_owned())
            .unwrap_or_default(),
        pipe => pipe.to_owned(),
    };
    external.pipes.iter().enumerate().map(name).collect()
}

/// Returns the caller's pipes among the standard streams, which a child inherits:
/// `pipe:[7]` as in links of /proc; empty for other streams.
pub(crate) fn pipes_of_this_process() -> [String; 3] {
    [stdin(), stdout(), stderr()].map(|stream| match fstat(stream) {
        Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Fifo => {
            format!("pipe:[{}]", stat.st_ino)
        }
        // No other stream can be passed to CRIU by a name.
        _ => String::new(),
    })
}

/// Replaces the pipes among the streams at the checkpoint by the standard streams of
/// this process, for a restore.
pub(crate) fn pipes(streams: &[String]) -> Vec<Inherited> {
    (0..)
        .zip(streams)
        .filter(|(_, name)| name.contains("pipe:"))
        .map(|(descriptor, name)| Inherited {
            name: name.clone(),
            descriptor,
        })
        .collect()
}

/// Returns the cgroups of the process `pid`, by controller. CRIU puts processes from
/// the container's cgroup there (proc_pid_cgroup(5)).
///
/// # Errors
/// The process has ended.
pub(crate) fn cgroup_roots(pid: i32) -> Result<Vec<CgroupRoot>> {
    let path = format!("/proc/{pid}/cgroup");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path:?}"))?;
    Ok(roots_in(&text))
}

fn roots_in(text: &str) -> Vec<CgroupRoot> {
    text.lines()
        .filter_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            Some((fields.next()?, fields.next()?))
        })
        .flat_map(|(controllers, path)| {
            controllers.split(',').map(|controller| CgroupRoot {
                controller: controller.to_owned(),
                path: path.to_owned(),
            })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_controller_has_its_cgroup() {
        let text = "12:cpu,cpuacct:/a\n1:name=systemd:/b:c\n0::/d\n";
        let owned = |(controller, path): (&str, &str)| CgroupRoot {
            controller: controller.to_owned(),
            path: path.to_owned(),
        };
        let expected = [
            ("cpu", "/a"),
            ("cpuacct", "/a"),
            ("name=systemd", "/b:c"),
            ("", "/d"),
        ];
        assert_eq!(roots_in(text), expected.map(owned));
    }

    #[test]
    fn pipes_are_inherited_by_number() {
        let streams = ["/dev/null", "pipe:[7]", "pipe:[7]"].map(str::to_owned);
        let expected = [1, 2].map(|descriptor| Inherited {
            name: "pipe:[7]".to_owned(),
            descriptor,
        });
        assert_eq!(pipes(&streams), expected);
    }
}
